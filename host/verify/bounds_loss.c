/* Bounds of the losses, their gradients and the predictions. Each loss is a sum of terms >= 0, so its errors are
 * relative. Sums over rows are in double. */
#include <stddef.h>
#include <stdlib.h>

#include "core/memory.h"
#include "core/status.h"
#include "verify/bounds_internal.h"

/* The target t = y (1 - s) + s / 2. */
static struct interval binary_target(double y, double s) {
  if (s == 0) return interval_exact(y);
  const struct interval rest = interval_sub(interval_exact(1), interval_constant(s));
  return interval_add(interval_mul(interval_exact(y), rest), interval_constant(s / 2));
}

/* L = c |z| + log(1 + exp(-|z|)), with c = 1 - t for z > 0, else t. */
static struct interval binary_loss(const struct loss_row *row, double s) {
  const struct interval t = binary_target(row->y[0], s), rest = interval_sub(interval_exact(1), t), z = row->a[0];
  if (row->dZ) row->dZ[0] = interval_sub(bounds_activation(DESCENT_ACTIVATION_SIGMOID, z), t);
  const struct interval c = z.lo > 0 ? rest : z.hi > 0 ? interval_hull(rest, t) : t;
  return interval_add(interval_mul(c, interval_magnitude(z)), bounds_softplus_tail(z));
}

/* q_k = (1 - s) [k = y] + s / n. */
static struct interval class_target(bool hit, int64_t n, double s) {
  if (s == 0) return interval_exact(hit ? 1 : 0);
  const struct interval miss = interval_rounded(interval_exact(s / (double)n), 2);
  if (!hit) return miss;
  return interval_add(interval_sub(interval_exact(1), interval_constant(s)), miss);
}

/* The mean of max - z_k over the classes: n differences, n - 1 additions and a division in float32, or max minus the
 * mean of z computed in double. */
static struct interval mean_distance(const struct interval *z, int64_t n, double max) {
  struct interval mean = {0, 0};
  double largest = fabs(max);
  for (int64_t k = 0; k < n; k++) {
    mean.lo += (max - z[k].hi) / (double)n;
    mean.hi += (max - z[k].lo) / (double)n;
    largest = fmax(largest, interval_magnitude(z[k]).hi);
  }
  const struct interval in_float = interval_widened(mean, interval_gamma((double)n + 1), 0);
  const double in_double = 2 * interval_gamma64((double)n + 2) * largest;
  return (struct interval){in_float.lo - in_double, in_float.hi + in_double};
}

/* log(sum), where sum = sum_k exp(z_k - max), max is the largest upper end, and `least` the largest lower end. A
 * computation takes for max its largest z, so its logarithm is larger by up to max - least, and errs in proportion. */
static struct interval log_of_sum(struct interval sum, double max, double least) {
  const struct interval log = bounds_log(sum);
  const double more = interval_gamma(8) * (max - least);
  return (struct interval){log.lo - more, log.hi + more};
}

/* L = log sum exp(z - max) + (1 - s) (max - z_y) + s (max - mean z), which does not depend on max. */
static struct interval softmax_loss(const struct loss_row *row, int64_t n, double s) {
  const struct interval *z = row->a;
  const struct interval sum = bounds_exponentials(z, n, row->e);
  double max = z[0].hi, least = z[0].lo;
  for (int64_t k = 1; k < n; k++) max = fmax(max, z[k].hi), least = fmax(least, z[k].lo);
  const int64_t y = row->y[0] >= 0 && row->y[0] < (double)n ? (int64_t)row->y[0] : 0;
  for (int64_t k = 0; row->dZ && k < n; k++) {
    const struct interval p = interval_rounded(interval_over(row->e[k], sum), 2); /* 1 / sum and the product */
    row->dZ[k] = interval_sub(p, class_target(k == y, n, s));
  }
  const struct interval log = log_of_sum(sum, max, least);
  const struct interval distance = interval_rounded((struct interval){max - z[y].hi, max - z[y].lo}, 1);
  if (s == 0) return interval_add(log, distance);
  const struct interval rest = interval_sub(interval_exact(1), interval_constant(s));
  const struct interval smoothed = interval_mul(interval_constant(s), mean_distance(z, n, max));
  return interval_add(interval_add(log, interval_mul(rest, distance)), smoothed);
}

/* L = mean_k (a_k - y_k)^2: a difference, a square, n - 1 additions and a division. */
static struct interval squared_loss(const struct loss_row *row, int64_t n, descent_activation g) {
  struct interval sum = {0, 0};
  for (int64_t k = 0; k < n; k++) {
    const struct interval a = row->a[k], error = interval_sub(a, interval_exact(row->y[k]));
    const struct interval magnitude = interval_magnitude(error), square = interval_mul(magnitude, magnitude);
    sum.lo += square.lo;
    sum.hi += square.hi;
    if (!row->dZ) continue;
    const struct interval twice = interval_rounded(interval_times(error, interval_exact(2 / (double)n)), 2);
    const struct interval z = row->z ? row->z[k] : interval_exact(0);
    row->dZ[k] = g == DESCENT_ACTIVATION_IDENTITY ? twice : interval_mul(twice, bounds_slope(g, a, z));
  }
  return interval_widened((struct interval){sum.lo / (double)n, sum.hi / (double)n}, interval_gamma((double)n), 1);
}

static struct interval unweighted(const struct plan_loss *op, const struct loss_row *row) {
  switch (op->loss) {
    case DESCENT_LOSS_BINARY_CROSS_ENTROPY: return binary_loss(row, op->label_smoothing);
    case DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY: return softmax_loss(row, op->n, op->label_smoothing);
    case DESCENT_LOSS_MEAN_SQUARED_ERROR: return squared_loss(row, op->n, op->activation);
  }
  return (struct interval){-INFINITY, INFINITY};
}

/* In w / sum w, the sum, its inverse and the product may be rounded; the product with dL/dZ follows. */
struct interval bounds_loss_row(const struct plan_loss *op, const struct loss_row *row) {
  const struct interval L = unweighted(op, row), weight = interval_exact(row->weight),
                        factor = interval_rounded(weight, 3);
  for (int64_t k = 0; row->dZ && k < op->n; k++) row->dZ[k] = interval_mul(row->dZ[k], factor);
  return interval_times(L, weight);
}

/* J sums the rows in double, after at most one rounding of w L; both sides add a summation error. */
static double loss_bound(double sum_lo, double sum_hi, double J, int64_t rows) {
  const struct interval sum = interval_rounded((struct interval){sum_lo, sum_hi}, 1);
  return interval_bound(sum, J) + 2 * interval_gamma64((double)rows + 4) * J;
}

descent_status bounds_loss(const struct backend_program *reference, const struct plan_op *op,
                           const struct plan_step *step, struct bounds *bounds) {
  const struct plan_loss *o = &op->loss;
  const int64_t n = o->n, n_y = loss_is_regression(o->loss) ? n : 1;
  const double *A = reference_values(reference, o->A), *Z = reference_values(reference, o->Z);
  const double *y = reference_values(reference, o->y), *w = reference_values(reference, o->w);
  const double *dZ = reference_values(reference, o->dZ), *scalars = reference_values(reference, o->scalars);
  const double weight_sum = scalars[SCALAR_WEIGHT_SUM], inverse_weight_sum = weight_sum == 0 ? 0 : 1 / weight_sum;
  const bool reduced = plan_is_bf16(reference->plan, o->dZ);
  double *J_bound, *dZ_bound = NULL, lo = 0, hi = 0;
  struct interval *scratch = memory_allocate(4 * n, sizeof *scratch, "a row's bounds");
  descent_status status = scratch ? DESCENT_OK : DESCENT_ERROR_MEMORY;
  if (status != DESCENT_OK) goto done;
  TRY(bounds_add(bounds, reference, o->scalars, SCALAR_LOSS, 1, &J_bound));
  if (dZ) TRY(bounds_add(bounds, reference, o->dZ, 0, step->rows * n, &dZ_bound));

  for (int64_t r = 0; r < step->rows; r++) {
    struct interval *const a = scratch + 2 * n, *const z = scratch + 3 * n;
    for (int64_t k = 0; k < n; k++) {
      a[k] = interval_exact(A[r * n + k]);
      z[k] = interval_exact(Z ? Z[r * n + k] : 0);
    }
    const struct loss_row row = {a, z, y + r * n_y, w[r] * inverse_weight_sum, scratch, dZ ? scratch + n : NULL};
    const struct interval weighted = bounds_loss_row(o, &row);
    lo += weighted.lo;
    hi += weighted.hi;
    for (int64_t k = 0; dZ && k < n; k++)
      dZ_bound[r * n + k] = interval_bound(reduced ? interval_to_bf16(row.dZ[k]) : row.dZ[k], dZ[r * n + k]);
  }
  *J_bound = loss_bound(lo, hi, scalars[SCALAR_LOSS], step->rows);
done:
  free(scratch);
  return status;
}

/* One product with g', or an exact copy. */
descent_status bounds_backward_output(const struct backend_program *reference, const struct plan_op *op,
                                      const struct plan_step *step, struct bounds *bounds) {
  const struct plan_backward_output *o = &op->output_slope;
  const double *dA = reference_values(reference, o->dA), *A = reference_values(reference, o->A);
  const double *Z = reference_values(reference, o->Z), *dZ = reference_values(reference, o->dZ);
  const bool reduced = plan_is_bf16(reference->plan, o->dZ);
  double *bound;
  descent_status status = bounds_add(bounds, reference, o->dZ, 0, step->rows * o->n, &bound);
  for (int64_t i = 0; status == DESCENT_OK && i < step->rows * o->n; i++) {
    struct interval d = interval_exact(dA[i]);
    if (o->activation != DESCENT_ACTIVATION_IDENTITY)
      d = interval_mul(d, bounds_slope(o->activation, interval_exact(A[i]), interval_exact(Z ? Z[i] : 0)));
    bound[i] = interval_bound(reduced ? interval_to_bf16(d) : d, dZ[i]);
  }
  return status;
}

/* a / y_scale + y_shift, or a * (1 / y_scale) + y_shift. */
static struct interval denormalised(struct interval a, const double *scale, const double *shift) {
  struct interval p = a;
  if (scale) p = interval_rounded(interval_over(p, interval_exact(*scale)), 2);
  return shift ? interval_add(p, interval_exact(*shift)) : p;
}

void bounds_output_row(const struct plan_output *op, const struct interval *a, const double *scale, const double *shift,
                       struct interval *e, struct interval *P) {
  switch (op->loss) {
    case DESCENT_LOSS_BINARY_CROSS_ENTROPY:
      for (int64_t k = 0; k < op->n; k++) P[k] = bounds_activation(DESCENT_ACTIVATION_SIGMOID, a[k]);
      break;
    case DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY: {
      const struct interval sum = bounds_exponentials(a, op->n, e);
      for (int64_t k = 0; k < op->n; k++) P[k] = interval_rounded(interval_over(e[k], sum), 2);
      break;
    }
    case DESCENT_LOSS_MEAN_SQUARED_ERROR:
      for (int64_t k = 0; k < op->n; k++) P[k] = denormalised(a[k], scale ? scale + k : NULL, shift ? shift + k : NULL);
      break;
  }
}

descent_status bounds_output_op(const struct backend_program *reference, const struct plan_op *op,
                                const struct plan_step *step, struct bounds *bounds) {
  const struct plan_output *o = &op->output;
  const int64_t n = o->n;
  const double *shift = reference_values(reference, o->y_shift), *scale = reference_values(reference, o->y_scale);
  const double *A = reference_values(reference, o->A), *P = reference_values(reference, o->P);
  double *bound;
  struct interval *scratch = memory_allocate(3 * n, sizeof *scratch, "a row's bounds");
  descent_status status = scratch ? DESCENT_OK : DESCENT_ERROR_MEMORY;
  if (status != DESCENT_OK) goto done;
  TRY(bounds_add(bounds, reference, o->P, 0, step->rows * n, &bound));
  for (int64_t r = 0; r < step->rows; r++) {
    struct interval *const a = scratch + n, *const p = scratch + 2 * n;
    for (int64_t k = 0; k < n; k++) a[k] = interval_exact(A[r * n + k]);
    bounds_output_row(o, a, scale, shift, scratch, p);
    for (int64_t k = 0; k < n; k++) bound[r * n + k] = interval_bound(p[k], P[r * n + k]);
  }
done:
  free(scratch);
  return status;
}
