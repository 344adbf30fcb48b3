/* Derived bounds: the exact outputs of the reference program, and for each how far the arithmetic of the precision can
 * be from it. This file has the bounds whose derivation takes a line or two. */
#include "verify/bounds.h"

#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/status.h"
#include "plan/operations.h"
#include "verify/bounds_internal.h"

/* (x - shift) * scale: the rounding of one subtraction and one product, both relative to the result; a copy is
 * exact. */
static descent_status normalised(const struct backend_program *reference, int buffer, bool is_copy, int64_t count,
                                 struct bounds *bounds) {
  double *bound;
  descent_status status = bounds_add(bounds, reference, buffer, 0, count, &bound);
  const double *values = reference_values(reference, buffer);
  const bool reduced = plan_is_bf16(reference->plan, buffer);
  for (int64_t i = 0; status == DESCENT_OK && i < count; i++) {
    const struct interval x = is_copy ? interval_exact(values[i]) : interval_rounded(interval_exact(values[i]), 2);
    bound[i] = interval_bound(reduced ? interval_to_bf16(x) : x, values[i]);
  }
  return status;
}

static descent_status bounds_gather(const struct backend_program *reference, const struct plan_op *op,
                                    const struct plan_step *step, struct bounds *bounds) {
  const struct plan_gather *o = &op->gather;
  const bool copies_X = o->shift == PLAN_NONE && o->scale == PLAN_NONE;
  const bool copies_y = o->y_shift == PLAN_NONE && o->y_scale == PLAN_NONE;
  double *w_bound, *sum_bound;
  descent_status status;
  TRY(normalised(reference, o->X, copies_X, step->rows * o->n_x, bounds));
  if (o->y == PLAN_NONE || !reference_source(reference, o->source_y)) goto done;
  TRY(normalised(reference, o->y, copies_y, step->rows * o->n_y, bounds));
  TRY(bounds_add(bounds, reference, o->w, 0, step->rows, &w_bound));
  TRY(bounds_add(bounds, reference, o->scalars, SCALAR_WEIGHT_SUM, 1, &sum_bound));
  const double *w = reference_values(reference, o->w);
  double errors = 0, sum = 0;
  for (int64_t r = 0; r < step->rows; r++) {
    if (o->class_weight != PLAN_NONE) w_bound[r] = interval_bound(interval_rounded(interval_exact(w[r]), 1), w[r]);
    errors += w_bound[r];
    sum += fabs(w[r]);
  }
  if (step->weight_sum == 0)                                              /* otherwise a copy, which is exact */
    *sum_bound = errors + 2 * interval_gamma64((double)step->rows) * sum; /* both sides sum in double */
done:
  return status;
}

/* A copy is exact, a sum is rounded once. */
static descent_status bounds_accumulate(const struct backend_program *reference, const struct plan_op *op,
                                        struct bounds *bounds) {
  const struct plan_accumulate *o = &op->accumulate;
  const int buffer = o->adds ? o->gradients : o->kept_gradients;
  const double *values = reference_values(reference, buffer);
  double *bound;
  const descent_status status = bounds_add(bounds, reference, buffer, 0, o->n, &bound);
  for (int64_t i = 0; status == DESCENT_OK && o->adds && i < o->n; i++)
    bound[i] = interval_bound(interval_rounded(interval_exact(values[i]), 1), values[i]);
  return status;
}

/* Combine and allreduce work in place: gradients and J before the op, (n + 1). From malloc; NULL if out of memory. */
static double *sum_inputs(const struct backend_program *reference, int gradients, int scalars, int64_t n) {
  double *inputs = memory_allocate(n + 1, sizeof *inputs, "the values before the sum");
  if (!inputs) return NULL;
  memcpy(inputs, reference_values(reference, gradients), (size_t)n * sizeof *inputs);
  inputs[n] = reference_values(reference, scalars)[SCALAR_LOSS];
  return inputs;
}

/* The levels of the kept sums that part k of K adds: the trailing ones of k, and, if it is the last part, the bits of K
 * above them. `*stored`: the level that its sum is kept at, -1 for the last part. Returns how many. */
static int combined_levels(int k, int K, int levels[32], int *stored) {
  int n = 0, ones = 0;
  while (k >> ones & 1) levels[n++] = ones++;
  *stored = k < K - 1 ? ones : -1;
  for (int level = ones + 1; *stored < 0 && level < 31; level++)
    if (K >> level & 1) levels[n++] = level;
  return n;
}

/* Each addition rounds once, relative to the sum so far, in a fixed order. The sum of a part that is not the last goes
 * to its level; `gradients` and J may then hold it as well, or what they held before. */
static descent_status bounds_combine(const struct backend_program *reference, const struct plan_op *op,
                                     const struct plan_step *step, const double *inputs, struct bounds *bounds) {
  const struct plan_combine *o = &op->combine;
  const double *partial = reference_values(reference, o->partial_gradients),
               *partial_losses = reference_values(reference, o->partial_losses);
  double *bound, *partial_bound = NULL, *loss_bound, *partial_loss_bound = NULL;
  int levels[32], stored;
  const int n = combined_levels(step->micro_batch, step->micro_batches, levels, &stored);
  descent_status status;
  TRY(bounds_add(bounds, reference, o->gradients, 0, o->n, &bound));
  TRY(bounds_add(bounds, reference, o->scalars, SCALAR_LOSS, 1, &loss_bound));
  if (stored >= 0) {
    TRY(bounds_add(bounds, reference, o->partial_gradients, stored * o->n, o->n, &partial_bound));
    TRY(bounds_add(bounds, reference, o->partial_losses, stored, 1, &partial_loss_bound));
  }
  for (int64_t i = 0; i < o->n; i++) {
    struct interval sum = interval_exact(inputs[i]);
    double exact = inputs[i];
    for (int j = 0; j < n; j++) {
      const double x = partial[levels[j] * o->n + i];
      sum = interval_add(sum, interval_exact(x));
      exact += x;
    }
    bound[i] = interval_bound(partial_bound ? interval_hull(sum, interval_exact(inputs[i])) : sum, exact);
    if (partial_bound) partial_bound[i] = interval_bound(sum, exact);
  }
  double loss = inputs[o->n], absolute = fabs(loss);
  for (int j = 0; j < n; j++) {
    loss += partial_losses[levels[j]];
    absolute += fabs(partial_losses[levels[j]]);
  }
  const double rounding = 2 * interval_gamma64(n) * absolute; /* both sides sum in double */
  *loss_bound = rounding + (partial_bound ? fabs(loss - inputs[o->n]) : 0);
  if (partial_loss_bound) *partial_loss_bound = rounding;
done:
  return status;
}

/* A sum, and the values that float32 may give it. */
struct rank_sum {
  double exact, magnitude; /* magnitude: the sum of |x| */
  struct interval within;
};

/* Of x[0], x[stride] .. of the ranks. Both the intervals and the doubles are added in the order of a binary counter, as
 * float32 is, so that their roundings are of the same sums. */
static struct rank_sum sum_of_ranks(const double *x, int64_t stride, int ranks) {
  struct rank_sum subtrees[32], sum = {0};
  for (int rank = 0; rank < ranks; rank++) {
    int levels[32], stored;
    const double value = x[rank * stride];
    const int n = combined_levels(rank, ranks, levels, &stored);
    sum = (struct rank_sum){value, fabs(value), interval_exact(value)};
    for (int i = 0; i < n; i++) {
      const struct rank_sum *k = &subtrees[levels[i]];
      sum = (struct rank_sum){k->exact + sum.exact, k->magnitude + sum.magnitude, interval_add(k->within, sum.within)};
    }
    if (stored >= 0) subtrees[stored] = sum;
  }
  return sum;
}

descent_status bounds_allreduce(const struct backend_program *reference, const struct plan_op *op, const double *inputs,
                                int ranks, struct bounds *bounds) {
  const struct plan_allreduce *o = &op->allreduce;
  double *bound, *loss_bound;
  descent_status status;
  TRY(bounds_add(bounds, reference, o->gradients, 0, o->n, &bound));
  TRY(bounds_add(bounds, reference, o->scalars, SCALAR_LOSS, 1, &loss_bound));
  struct bounds_output *gradients = &bounds->outputs[bounds->n - 2], *loss = &bounds->outputs[bounds->n - 1];
  for (int64_t i = 0; i < o->n; i++) {
    const struct rank_sum sum = sum_of_ranks(inputs + i, o->n + 1, ranks);
    gradients->exact[i] = sum.exact;
    bound[i] = interval_bound(sum.within, sum.exact);
  }
  const struct rank_sum sum = sum_of_ranks(inputs + o->n, o->n + 1, ranks);
  loss->exact[0] = sum.exact;
  /* Both sides add in double; no value is rounded more often than the tree is high. */
  *loss_bound = ranks > 1 ? 2 * interval_gamma64(plan_combine_levels(ranks)) * sum.magnitude : 0;
done:
  return status;
}

/* sqrt of a sum of squares in double: half the relative error of the sum plus that of the root, for both sides. */
static double norm_bound(double norm, int64_t terms) { return interval_gamma64((double)terms + 4) * norm; }

static descent_status bounds_gradient_norm(const struct backend_program *reference, const struct plan_op *op,
                                           const struct plan_step *step, struct bounds *bounds) {
  (void)step;
  const struct plan_gradient_norm *o = &op->norm;
  const struct plan *plan = reference->plan;
  const double *scalars = reference_values(reference, o->scalars);
  const double *layers = reference_values(reference, o->layer_statistics);
  double *bound, *unchanged;
  int64_t terms = 0;
  descent_status status = DESCENT_OK;
  for (int l = 0; l < plan->layers; l++) terms += plan->segments[l].end - plan->segments[l].begin;
  TRY(bounds_add(bounds, reference, o->scalars, SCALAR_GRADIENT_NORM, 2, &bound));
  const double norm = scalars[SCALAR_GRADIENT_NORM], error = norm_bound(norm, terms);
  bound[0] = error;
  /* The slope of clip_norm / (norm + 1e-6) is less than its value / norm; min(1, x) does not increase a distance. */
  const double unclipped = o->clip_norm / (norm + 1e-6);
  if (o->clip_norm > 0 && unclipped < 1 + 1e-9) bound[1] = unclipped * (error / (norm + 1e-6) + 4 * INTERVAL_U64);
  TRY(bounds_add(bounds, reference, o->scalars, SCALAR_BAD_STEP, 1, &unchanged)); /* exact */
  if (!layers) goto done;
  TRY(bounds_add(bounds, reference, o->layer_statistics, 0, (int64_t)plan->layers * LAYER_SLOTS, &bound));
  for (int l = 0; l < plan->layers; l++) {
    const int64_t at = (int64_t)l * LAYER_SLOTS + LAYER_GRADIENT;
    bound[at] = norm_bound(layers[at], plan->segments[l].end - plan->segments[l].begin);
  }
done:
  return status;
}

/* May float32 find the unit dead or alive: |g'| is certainly above 1e-6 in no row, and near it in some? */
static bool is_doubtful(const struct backend_program *reference, const struct plan_op *op, const struct plan_step *step,
                        int64_t unit) {
  const struct plan_statistics *o = &op->statistics;
  const double *A = reference_values(reference, o->A), *Z = reference_values(reference, o->Z);
  const struct interval threshold = interval_constant(1e-6);
  bool doubt = false;
  for (int64_t r = 0; r < step->rows; r++) {
    const int64_t rj = r * o->n + unit;
    if (reference_dropout(reference->plan, step, op->layer, o->n, o->dropout, rj) == 0) continue;
    const struct interval a = bounds_unscaled(interval_exact(A[rj]), o->dropout);
    const struct interval slope = bounds_slope(o->activation, a, interval_exact(Z ? Z[rj] : 0));
    if (slope.lo >= threshold.hi || slope.hi <= -threshold.hi) return false;
    if (slope.hi >= threshold.lo || slope.lo <= -threshold.lo) doubt = true;
  }
  return doubt;
}

/* The marks of active units before the operation, (n): a marked unit stays so. */
static double *statistics_inputs(const struct backend_program *reference, const struct plan_op *op) {
  const struct plan_statistics *o = &op->statistics;
  const double *active = reference_values(reference, o->active);
  double *inputs = memory_allocate(o->n, sizeof *inputs, "the marks before the statistics");
  if (inputs && active) memcpy(inputs, active, (size_t)o->n * sizeof *inputs);
  return inputs;
}

/* The share of doubtful units; the marks of these may be either. */
static double doubtful_share(const struct backend_program *reference, const struct plan_op *op,
                             const struct plan_step *step, const double *inputs, double *active_bound) {
  const int64_t n = op->statistics.n;
  int64_t doubtful = 0;
  for (int64_t j = 0; j < n; j++) {
    if (inputs[j] == 1 || !is_doubtful(reference, op, step, j)) continue;
    if (active_bound) active_bound[j] = 1;
    doubtful++;
  }
  return (double)doubtful / (double)n;
}

/* Both sides compute the mean and a two-pass deviation in double. The error of the mean is gamma times the mean of |A|;
 * an error d of the mean increases the deviation by at most d. */
static descent_status bounds_statistics(const struct backend_program *reference, const struct plan_op *op,
                                        const struct plan_step *step, const double *inputs, struct bounds *bounds) {
  const struct plan_statistics *o = &op->statistics;
  const double *A = reference_values(reference, o->A);
  const int64_t first = (int64_t)(op->layer - 1) * LAYER_SLOTS, count = step->rows * o->n;
  const double *layer = reference_values(reference, o->layer_statistics) + first;
  double *bound, *active_bound = NULL, absolute = 0;
  descent_status status;
  TRY(bounds_add(bounds, reference, o->layer_statistics, first, LAYER_SLOTS, &bound));
  if (o->active != PLAN_NONE) TRY(bounds_add(bounds, reference, o->active, 0, o->n, &active_bound));
  for (int64_t i = 0; i < count; i++) absolute += fabs(A[i]) / (double)count;
  const double rounding = 2 * interval_gamma64((double)count + 4);
  bound[LAYER_MEAN] = rounding * absolute;
  bound[LAYER_STD] = bound[LAYER_MEAN] + rounding * layer[LAYER_STD];
  bound[LAYER_DEAD] = doubtful_share(reference, op, step, inputs, active_bound) + INTERVAL_U64;
done:
  return status;
}

/* Both sides round one product and one addition in double. */
static descent_status bounds_metrics(const struct backend_program *reference, const struct plan_op *op,
                                     const struct plan_step *step, struct bounds *bounds) {
  (void)step;
  const double *scalars = reference_values(reference, op->metrics.scalars);
  double *bound;
  descent_status status = bounds_add(bounds, reference, op->metrics.scalars, SCALAR_TOTAL_LOSS, 2, &bound);
  if (status != DESCENT_OK || scalars[SCALAR_BAD_STEP] != 0) return status;
  const double loss = fabs(scalars[SCALAR_LOSS] * scalars[SCALAR_WEIGHT_SUM]);
  bound[0] = 2 * INTERVAL_U64 * (fabs(scalars[SCALAR_TOTAL_LOSS]) + loss);
  bound[1] = 2 * INTERVAL_U64 * fabs(scalars[SCALAR_TOTAL_WEIGHT]);
  return DESCENT_OK;
}

static descent_status derive(const struct backend_program *reference, const struct plan_op *op,
                             const struct plan_step *step, const double *inputs, struct bounds *bounds) {
  switch (op->kind) {
    case OP_GATHER: return bounds_gather(reference, op, step, bounds);
    case OP_DENSE_FORWARD: return bounds_dense_forward(reference, op, step, bounds);
    case OP_LOSS: return bounds_loss(reference, op, step, bounds);
    case OP_BACKWARD_OUTPUT: return bounds_backward_output(reference, op, step, bounds);
    case OP_DENSE_BACKWARD_WEIGHTS: return bounds_dense_backward_weights(reference, op, step, bounds);
    case OP_DENSE_BACKWARD_INPUT: return bounds_dense_backward_input(reference, op, step, bounds);
    case OP_ACCUMULATE: return bounds_accumulate(reference, op, bounds);
    case OP_COMBINE: return bounds_combine(reference, op, step, inputs, bounds);
    case OP_ALLREDUCE: return bounds_allreduce(reference, op, inputs, 1, bounds);
    case OP_TRUST_RATIO: return bounds_trust_ratio(reference, op, step, bounds);
    case OP_GRADIENT_NORM: return bounds_gradient_norm(reference, op, step, bounds);
    case OP_UPDATE: return bounds_update(reference, op, step, inputs, bounds);
    case OP_STATISTICS: return bounds_statistics(reference, op, step, inputs, bounds);
    case OP_METRICS: return bounds_metrics(reference, op, step, bounds);
    case OP_OUTPUT: return bounds_output_op(reference, op, step, bounds);
    case OP_KINDS: break;
  }
  return status_set(DESCENT_ERROR_INTERNAL, "operation %d has no bounds", (int)op->kind);
}

/* The operation's inputs that it overwrites, and that its bounds are derived from. */
static descent_status keep_inputs(const struct backend_program *reference, const struct plan_op *op, double **inputs) {
  switch (op->kind) {
    case OP_UPDATE: *inputs = bounds_update_inputs(reference, op); break;
    case OP_COMBINE: *inputs = sum_inputs(reference, op->combine.gradients, op->combine.scalars, op->combine.n); break;
    case OP_ALLREDUCE:
      *inputs = sum_inputs(reference, op->allreduce.gradients, op->allreduce.scalars, op->allreduce.n);
      break;
    case OP_STATISTICS: *inputs = statistics_inputs(reference, op); break;
    default: return DESCENT_OK;
  }
  return *inputs ? DESCENT_OK : DESCENT_ERROR_MEMORY;
}

descent_status bounds_run(struct backend_program *reference, const struct plan *plan, int op,
                          const struct plan_step *step, struct bounds *bounds) {
  const struct plan_op *o = &plan->ops[op];
  struct bounds made = {0};
  double *inputs = NULL;
  descent_status status;
  TRY(keep_inputs(reference, o, &inputs));
  TRY(backend_reference.run(reference, (struct plan_range){op, 1}, step, 1));
  TRY(derive(reference, o, step, inputs, &made));
  *bounds = made;
  made = (struct bounds){0};
done:
  bounds_clear(&made);
  free(inputs);
  return status;
}
