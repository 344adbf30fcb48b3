/* Bounds of the update rules, element by element in interval arithmetic: each constant, product, sum, root and quotient
 * of the rule is rounded in turn. Near s = 0, the quotient by sqrt(s) + epsilon covers the whole range of s.
 *
 * The rules are written here a second time, from the papers and not from formulas_real.h, which all backends share: a
 * reference outside of the intervals is an error in one of the two. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/status.h"
#include "verify/bounds_internal.h"

double *bounds_update_inputs(const struct backend_program *reference, const struct plan_op *op) {
  const struct plan_update *o = &op->update;
  const int buffers[3] = {o->parameters, o->moment1, o->moment2};
  int64_t count;
  if (!size_product(3, o->n, &count)) count = INT64_MAX; /* memory_allocate fails */
  double *inputs = memory_allocate(count, sizeof *inputs, "the values before the update");
  for (int i = 0; inputs && i < 3; i++)
    if (buffers[i] != PLAN_NONE)
      memcpy(inputs + i * o->n, reference_values(reference, buffers[i]), (size_t)o->n * sizeof *inputs);
  return inputs;
}

/* One parameter w with its moments v (moment1) and s (moment2), after the update. */
struct element {
  struct interval w, v, s;
};

/* clip_factor * gradient + l2 * w, with clip_factor and l2 rounded constants. */
static struct interval clipped(const struct plan_update *o, double w, double gradient, double clip_factor) {
  const struct interval g = interval_mul(interval_constant(clip_factor), interval_exact(gradient));
  const struct interval scaled = clip_factor == 1 ? interval_exact(gradient) : g;
  if (o->l2 == 0) return scaled;
  return interval_add(scaled, interval_mul(interval_constant(o->l2), interval_exact(w)));
}

/* (1 - learning_rate weight_decay) w - step, with the factor a rounded constant. Without weight decay the product is
 * exact; a fused multiply-add omits the rounding of one of the two products. */
static struct interval moved(const struct plan_update *o, double learning_rate, double w, struct interval step) {
  const struct interval decay_factor = interval_constant(1 - learning_rate * o->weight_decay),
                        exact = interval_exact(w);
  return interval_sub(o->weight_decay == 0 ? exact : interval_mul(decay_factor, exact), step);
}

/* factor * moment + (1 - factor) * value, with factor and 1 - factor rounded constants. */
static struct interval blended(double factor, double moment, struct interval value) {
  return interval_add(interval_mul(interval_constant(factor), interval_exact(moment)),
                      interval_mul(interval_constant(1 - factor), value));
}

static struct interval square(struct interval x) {
  const double a = x.lo * x.lo, b = x.hi * x.hi;
  const bool spans_zero = x.lo < 0 && x.hi > 0;
  return interval_rounded((struct interval){spans_zero ? 0 : fmin(a, b), fmax(a, b)}, 1);
}

static struct element updated_sgd(const struct plan_update *o, double learning_rate, double w, double v,
                                  struct interval g) {
  const struct interval factor = interval_constant(learning_rate), momentum = interval_constant(o->momentum);
  struct element e = {.v = interval_exact(v)};
  if (o->moment1 == PLAN_NONE || o->optimizer == DESCENT_OPTIMIZER_GD) {
    e.w = moved(o, learning_rate, w, interval_mul(factor, g));
    return e;
  }
  e.v = interval_add(interval_mul(momentum, interval_exact(v)), g);
  const struct interval step = o->nesterov ? interval_add(g, interval_mul(momentum, e.v)) : e.v;
  e.w = moved(o, learning_rate, w, interval_mul(factor, step));
  return e;
}

static struct element updated_rmsprop(const struct plan_update *o, double learning_rate, double w, double v, double s,
                                      struct interval g) {
  struct element e = {.v = interval_exact(v), .s = blended(o->rho, s, square(g))};
  struct interval step = interval_div(g, interval_add(interval_sqrt(e.s), interval_constant(o->epsilon)));
  if (o->moment1 != PLAN_NONE)
    step = e.v = interval_add(interval_mul(interval_constant(o->momentum), interval_exact(v)), step);
  e.w = moved(o, learning_rate, w, interval_mul(interval_constant(learning_rate), step));
  return e;
}

/* A constant that contains 1 - factor^t: its own rounding, plus that of factor^t in double, whose relative effect grows as
 * factor^t approaches 1. (With a square root it is half of that.) */
static struct interval corrected(double x, double power) {
  return interval_widened(interval_exact(x), INTERVAL_U + 4 * INTERVAL_U64 / (1 - power), 1);
}

/* The moments of adam and lamb after the update, and in w m / (sqrt(s) / sqrt(1 - beta2^t) + epsilon), to which the
 * correction of m is still to be applied. */
static struct element moments_of_adam(const struct plan_update *o, const struct plan_step *step, double m, double s,
                                      struct interval g) {
  const double power2 = pow(o->beta2, (double)step->number);
  struct element e = {.v = blended(o->beta1, m, g), .s = blended(o->beta2, s, square(g))};
  const struct interval root = interval_mul(interval_sqrt(e.s), corrected(1 / sqrt(1 - power2), power2));
  e.w = interval_div(e.v, interval_add(root, interval_constant(o->epsilon)));
  return e;
}

static struct element updated_adam(const struct plan_update *o, const struct plan_step *step, double w, double m,
                                   double s, struct interval g) {
  const double power1 = pow(o->beta1, (double)step->number);
  struct element e = moments_of_adam(o, step, m, s, g);
  const struct interval factor = corrected(step->learning_rate / (1 - power1), power1);
  e.w = moved(o, step->learning_rate, w, interval_mul(factor, e.w));
  return e;
}

/* ---- lars and lamb ---- */

/* The factors of a layer's W; those of its b are 1 and 0. */
struct trusted {
  double ratio, weight_decay;
};

/* x + weight_decay w. */
static struct interval with_weight_decay(const struct trusted *t, double w, struct interval x) {
  if (t->weight_decay == 0) return x;
  return interval_add(x, interval_mul(interval_constant(t->weight_decay), interval_exact(w)));
}

/* trust ratio x. */
static struct interval trust_scaled(const struct trusted *t, struct interval x) {
  return t->ratio == 1 ? x : interval_mul(interval_constant(t->ratio), x);
}

/* You, Gitman and Ginsburg (2017), algorithm 1, with the learning rate outside of the velocity. */
static struct element updated_lars(const struct plan_update *o, double learning_rate, const struct trusted *t, double w,
                                   double v, struct interval g) {
  const struct interval before = interval_mul(interval_constant(o->momentum), interval_exact(v));
  struct element e = {.v = interval_add(before, trust_scaled(t, with_weight_decay(t, w, g)))};
  e.w = interval_sub(interval_exact(w), interval_mul(interval_constant(learning_rate), e.v));
  return e;
}

/* You et al. (2020), algorithm 2: the moments, and u = r + lambda x in w. */
static struct element step_of_lamb(const struct plan_update *o, const struct plan_step *step, const struct trusted *t,
                                   double w, double m, double s, struct interval g) {
  const double power1 = pow(o->beta1, (double)step->number);
  struct element e = moments_of_adam(o, step, m, s, g);
  e.w = with_weight_decay(t, w, interval_mul(corrected(1 / (1 - power1), power1), e.w));
  return e;
}

static struct element updated_lamb(const struct plan_update *o, const struct plan_step *step, const struct trusted *t,
                                   double w, double m, double s, struct interval g) {
  struct element e = step_of_lamb(o, step, t, w, m, s, g);
  const struct interval factor = interval_constant(step->learning_rate);
  e.w = interval_sub(interval_exact(w), interval_mul(factor, trust_scaled(t, e.w)));
  return e;
}

static struct element updated(const struct plan_update *o, const struct plan_step *step, const struct trusted *t,
                              double w, double v, double s, struct interval g) {
  switch (o->optimizer) {
    case DESCENT_OPTIMIZER_GD:
    case DESCENT_OPTIMIZER_SGD: return updated_sgd(o, step->learning_rate, w, v, g);
    case DESCENT_OPTIMIZER_RMSPROP: return updated_rmsprop(o, step->learning_rate, w, v, s, g);
    case DESCENT_OPTIMIZER_ADAM:
    case DESCENT_OPTIMIZER_ADAMW: return updated_adam(o, step, w, v, s, g);
    case DESCENT_OPTIMIZER_LARS: return updated_lars(o, step->learning_rate, t, w, v, g);
    case DESCENT_OPTIMIZER_LAMB: return updated_lamb(o, step, t, w, v, s, g);
  }
  return (struct element){{-INFINITY, INFINITY}, {-INFINITY, INFINITY}, {-INFINITY, INFINITY}};
}

/* The largest distance of a value from the reference's. `*outside`: the reference is not in the interval; an exact
 * value below the range of float32 may be as far as eta from it. */
static double bound_of(struct interval x, double exact, bool *outside) {
  *outside |= exact < x.lo - INTERVAL_ETA || exact > x.hi + INTERVAL_ETA;
  return interval_bound(x, exact);
}

/* The error of || w' - w || is at most the norm of the parameters' bounds (triangle inequality) plus the summation in
 * double on both sides; that of || w || is the summation alone. */
static void norm_bounds(const struct plan *plan, const double *w_bound, const double *layers, double *layer_bounds) {
  for (int l = 0; l < plan->layers; l++) {
    const struct parameter_segment *at = &plan->segments[l];
    const double rounding = interval_gamma64((double)(at->end - at->begin) + 4);
    double squares = 0;
    for (int64_t i = at->begin; i < at->end; i++) squares += w_bound[i] * w_bound[i];
    const int64_t update = (int64_t)l * LAYER_SLOTS + LAYER_UPDATE, norm = (int64_t)l * LAYER_SLOTS + LAYER_PARAMETERS;
    layer_bounds[update] = sqrt(squares) * (1 + rounding) + rounding * layers[update];
    layer_bounds[norm] = rounding * layers[norm];
  }
}

/* Of parameter i of layer l + 1. */
static struct trusted trusted_at(const struct plan *plan, const struct plan_update *o, const double *layers, int l,
                                 int64_t i) {
  const bool is_W = i < plan->segments[l].b;
  if (!is_W || !update_has_trust_ratio(update_rule_of(o))) return (struct trusted){1, 0};
  return (struct trusted){layers[l * LAYER_SLOTS + LAYER_TRUST], o->weight_decay};
}

descent_status bounds_update(const struct backend_program *reference, const struct plan_op *op,
                             const struct plan_step *step, const double *inputs, struct bounds *bounds) {
  const struct plan_update *o = &op->update;
  const struct plan *plan = reference->plan;
  const double *gradients = reference_values(reference, o->gradients),
               *scalars = reference_values(reference, o->scalars);
  const double *w = reference_values(reference, o->parameters),
               *layers = reference_values(reference, o->layer_statistics);
  const double *v = reference_values(reference, o->moment1), *s = reference_values(reference, o->moment2);
  double *w_bound, *v_bound = NULL, *s_bound = NULL, *layer_bounds = NULL;
  descent_status status;
  TRY(bounds_add(bounds, reference, o->parameters, 0, o->n, &w_bound));
  if (v) TRY(bounds_add(bounds, reference, o->moment1, 0, o->n, &v_bound));
  if (s) TRY(bounds_add(bounds, reference, o->moment2, 0, o->n, &s_bound));
  if (o->measure)
    TRY(bounds_add(bounds, reference, o->layer_statistics, 0, (int64_t)plan->layers * LAYER_SLOTS, &layer_bounds));
  if (scalars[SCALAR_BAD_STEP] != 0) goto done; /* all bounds are 0: nothing may change */

  for (int64_t i = 0, l = 0; i < o->n; i++) {
    while (l < plan->layers - 1 && i >= plan->segments[l].end) l++;
    const double w0 = inputs[i], v0 = inputs[o->n + i], s0 = inputs[2 * o->n + i];
    if (w0 == 0 && v0 == 0 && s0 == 0 && gradients[i] == 0) continue; /* the gaps stay 0 */
    const struct interval g = clipped(o, w0, gradients[i], scalars[SCALAR_CLIP]);
    const struct trusted trusted = trusted_at(plan, o, layers, (int)l, i);
    const struct element e = updated(o, step, &trusted, w0, v0, s0, g);
    bool outside = false;
    w_bound[i] = bound_of(e.w, w[i], &outside);
    if (v) v_bound[i] = bound_of(e.v, v[i], &outside);
    if (s) s_bound[i] = bound_of(e.s, s[i], &outside);
    /* A square below the range of float32 is 0 in the intervals, but not in the reference. */
    if (outside && !(s && s[i] < (double)FLT_MIN))
      TRY(status_set(DESCENT_ERROR_INTERNAL, "update: the reference is outside of the rule's bounds at parameter %lld",
                     (long long)i));
  }
  if (o->measure) norm_bounds(plan, w_bound, layers, layer_bounds);
done:
  return status;
}

/* ---- trust ratios ---- */

/* In w, an element of what |w| is compared with: u of lamb, g of lars. */
static struct element trust_term(const struct plan_update *o, const struct plan_step *step, double w, double v,
                                 double s, struct interval g) {
  const struct trusted without_ratio = {1, o->weight_decay};
  if (o->optimizer == DESCENT_OPTIMIZER_LAMB) return step_of_lamb(o, step, &without_ratio, w, v, s, g);
  return (struct element){.w = g};
}

/* The sums of squares over one layer's W. */
struct trust_sums {
  double w;
  struct interval terms;
  bool may_vanish; /* a squared gradient is below the range of float32: 0 in the intervals, not in the reference */
};

static struct trust_sums sums_of(const struct backend_program *reference, const struct plan_update *o,
                                 const struct plan_step *step, const struct parameter_segment *at) {
  const double *gradients = reference_values(reference, o->gradients), *w = reference_values(reference, o->parameters);
  const double *v = reference_values(reference, o->moment1), *s = reference_values(reference, o->moment2);
  const double clip_factor = reference_values(reference, o->scalars)[SCALAR_CLIP];
  struct trust_sums sums = {0};
  for (int64_t i = at->W; i < at->b; i++) {
    const double v0 = v ? v[i] : 0, s0 = s ? s[i] : 0;
    if (w[i] == 0 && v0 == 0 && s0 == 0 && gradients[i] == 0) continue; /* in the gap, for one */
    const struct element e = trust_term(o, step, w[i], v0, s0, clipped(o, w[i], gradients[i], clip_factor));
    const struct interval size = interval_magnitude(e.w);
    sums.w += w[i] * w[i];
    sums.terms.lo += size.lo * size.lo;
    sums.terms.hi += size.hi * size.hi;
    const bool is_zero = s0 == 0 && gradients[i] == 0 && (o->l2 == 0 || w[i] == 0); /* s is, in the reference too */
    sums.may_vanish |= s && !is_zero && e.s.lo < (double)FLT_MIN;
  }
  return sums;
}

/* The ratio for |w| and |term|, which grows with |w| and falls with |term|. Every result of a division by a norm that
 * may be 0 is possible. */
static struct interval trust_ratio(const struct plan_update *o, struct interval w, struct interval term) {
  const bool is_lars = o->optimizer == DESCENT_OPTIMIZER_LARS;
  const double factor = is_lars ? o->trust_coefficient : 1, weight_decay = is_lars ? o->weight_decay : 0;
  const struct interval one = interval_exact(1);
  if (w.hi == 0 || (term.hi == 0 && weight_decay == 0)) return one;
  const double lo = factor * w.lo / (term.hi + weight_decay * w.lo),
               hi = factor * w.hi / (term.lo + weight_decay * w.hi);
  const double rounding = interval_gamma64(8); /* of five operations in double, here and there */
  const struct interval ratio = {fmin(lo, (double)FLT_MAX) * (1 - rounding),
                                 fmin(hi, (double)FLT_MAX) * (1 + rounding)};
  return term.lo == 0 && weight_decay == 0 ? interval_hull(ratio, one) : ratio;
}

static struct interval trust_ratio_of(const struct plan_update *o, const struct parameter_segment *at,
                                      const struct trust_sums *sums) {
  const double rounding = interval_gamma64((double)(at->b - at->W) + 4), w = sqrt(sums->w);
  const struct interval norm = {w * (1 - rounding), w * (1 + rounding)};
  const struct interval term_norm = {sqrt(sums->terms.lo) * (1 - rounding), sqrt(sums->terms.hi) * (1 + rounding)};
  return trust_ratio(o, norm, term_norm);
}

descent_status bounds_trust_ratio(const struct backend_program *reference, const struct plan_op *op,
                                  const struct plan_step *step, struct bounds *bounds) {
  const struct plan_update *o = &op->update;
  const struct plan *plan = reference->plan;
  const double *layers = reference_values(reference, o->layer_statistics);
  double *bound;
  descent_status status;
  TRY(bounds_add(bounds, reference, o->layer_statistics, 0, (int64_t)plan->layers * LAYER_SLOTS, &bound));
  if (reference_values(reference, o->scalars)[SCALAR_BAD_STEP] != 0) goto done; /* nothing may change */

  for (int l = 0; l < plan->layers; l++) {
    const struct parameter_segment *at = &plan->segments[l];
    const int slot = l * LAYER_SLOTS + LAYER_TRUST;
    const struct trust_sums sums = sums_of(reference, o, step, at);
    const struct interval ratio = trust_ratio_of(o, at, &sums);
    bool outside = false;
    bound[slot] = bound_of(ratio, layers[slot], &outside);
    if (outside && !sums.may_vanish)
      TRY(status_set(DESCENT_ERROR_INTERNAL, "trust_ratio: the reference is outside of the rule's bounds in layer %d",
                     l + 1));
  }
done:
  return status;
}
