/* Bounds of the dense layer's products: the error of the operands in the precision, and gamma of the length of the dot
 * product times the sum of absolute products, propagated through activation, derivative, dropout and storage. */
#include <stddef.h>

#include "verify/bounds_internal.h"

static inline struct operand operand(descent_precision precision, double x) {
  switch (precision) {
    case DESCENT_PRECISION_FP32: break;
    case DESCENT_PRECISION_TF32: return (struct operand){x, interval_tf32_error(x)};
    case DESCENT_PRECISION_BF16: return (struct operand){interval_bf16(x), 0};
  }
  return (struct operand){x, 0};
}

/* sum_i x_i y_i, strided. */
static struct sum dot(descent_precision precision, const double *x, int64_t x_stride, const double *y, int64_t y_stride,
                      int64_t n) {
  struct sum sum = {.products = (double)n, .terms = (double)n};
  for (int64_t i = 0; i < n; i++) {
    const struct operand a = operand(precision, x[i * x_stride]), b = operand(precision, y[i * y_stride]);
    bounds_add_product(&sum, a, b);
  }
  return sum;
}

struct sum bounds_plus(struct sum sum, double x, double error) {
  sum.value += x;
  sum.error += error;
  sum.absolute += fabs(x) + error;
  if (x != 0) sum.terms++;
  return sum;
}

/* One rounding per term, of twice the unit where sums may truncate (gamma of twice as many roundings); a product below
 * the normal range has an error of at most eta. If the sum of absolute values overflows float32, a partial sum may too.
 */
struct interval bounds_summed(descent_precision precision, struct sum sum) {
  const double roundings = precision == DESCENT_PRECISION_FP32 ? sum.terms : 2 * sum.terms;
  const double error = sum.error + interval_gamma(roundings) * sum.absolute + sum.products * INTERVAL_ETA;
  if (!(sum.absolute + error <= (double)FLT_MAX)) return (struct interval){-INFINITY, INFINITY};
  return interval_around(sum.value, error);
}

/* Z = product + b. If the result is stored as bf16, b may be bf16 too, and either Z may be rounded to bf16 before the
 * activation, or the product may be, with b added to it in float32. */
static struct interval pre_activation(descent_precision precision, struct sum product, double b, bool reduced) {
  if (!reduced) return bounds_summed(precision, bounds_plus(product, b, 0));
  const double b_bf16 = interval_bf16(b);
  const struct interval fused = bounds_summed(precision, bounds_plus(product, b, fabs(b - b_bf16)));
  const struct interval bias = {fmin(b, b_bf16), fmax(b, b_bf16)};
  const struct interval separate = interval_add(interval_to_bf16(bounds_summed(precision, product)), bias);
  return interval_hull(interval_hull(fused, interval_to_bf16(fused)), separate);
}

descent_status bounds_dense_forward(const struct backend_program *reference, const struct plan_op *op,
                                    const struct plan_step *step, struct bounds *bounds) {
  const struct plan_dense_forward *o = &op->forward;
  const double *A_in = reference_values(reference, o->A_in);
  const double *W = reference_values(reference, o->parameters) + o->W,
               *b = reference_values(reference, o->parameters) + o->b;
  const double *A = reference_values(reference, o->A), *Z = reference_values(reference, o->Z);
  const descent_precision precision = reference->plan->precision;
  const bool reduced = plan_is_bf16(reference->plan, o->A); /* and Z, which is stored like A */
  const int64_t count = step->rows * o->n_out;
  double *A_bound, *Z_bound = NULL;
  descent_status status = bounds_add(bounds, reference, o->A, 0, count, &A_bound);
  if (status == DESCENT_OK && Z) status = bounds_add(bounds, reference, o->Z, 0, count, &Z_bound);
  if (status != DESCENT_OK) return status;

  for (int64_t r = 0; r < step->rows; r++)
    for (int64_t j = 0; j < o->n_out; j++) {
      const int64_t rj = r * o->n_out + j;
      const struct sum product = dot(precision, A_in + r * o->n_in, 1, W + j * o->n_in, 1, o->n_in);
      const struct interval z = pre_activation(precision, product, b[j], reduced);
      const struct interval g =
          reduced ? bounds_activation_approximate(o->activation, z) : bounds_activation(o->activation, z);
      const struct interval a =
          bounds_dropped(g, reference_dropout(reference->plan, step, op->layer, o->n_out, o->dropout, rj));
      A_bound[rj] = interval_bound(reduced ? interval_to_bf16(a) : a, A[rj]);
      if (Z) Z_bound[rj] = interval_bound(reduced ? interval_to_bf16(z) : z, Z[rj]);
    }
  return DESCENT_OK;
}

descent_status bounds_dense_backward_weights(const struct backend_program *reference, const struct plan_op *op,
                                             const struct plan_step *step, struct bounds *bounds) {
  const struct plan_dense_backward_weights *o = &op->weights;
  const double *dZ = reference_values(reference, o->dZ), *A_in = reference_values(reference, o->A_in);
  const double *dW = reference_values(reference, o->gradients) + o->W,
               *db = reference_values(reference, o->gradients) + o->b;
  static const double one = 1; /* db is a sum in float32 in every precision */
  const descent_precision precision = reference->plan->precision, fp32 = DESCENT_PRECISION_FP32;
  double *dW_bound, *db_bound;
  descent_status status = bounds_add(bounds, reference, o->gradients, o->W, o->n_out * o->n_in, &dW_bound);
  if (status == DESCENT_OK) status = bounds_add(bounds, reference, o->gradients, o->b, o->n_out, &db_bound);
  if (status != DESCENT_OK) return status;

  for (int64_t j = 0; j < o->n_out; j++) {
    db_bound[j] = interval_bound(bounds_summed(fp32, dot(fp32, dZ + j, o->n_out, &one, 0, step->rows)), db[j]);
    for (int64_t i = 0; i < o->n_in; i++) {
      const int64_t ji = j * o->n_in + i;
      const struct sum product = dot(precision, dZ + j, o->n_out, A_in + i, o->n_in, step->rows);
      dW_bound[ji] = interval_bound(bounds_summed(precision, product), dW[ji]);
    }
  }
  return DESCENT_OK;
}

descent_status bounds_dense_backward_input(const struct backend_program *reference, const struct plan_op *op,
                                           const struct plan_step *step, struct bounds *bounds) {
  const struct plan_dense_backward_input *o = &op->input;
  const double *dZ = reference_values(reference, o->dZ), *W = reference_values(reference, o->parameters) + o->W;
  const double *A = reference_values(reference, o->A), *Z = reference_values(reference, o->Z);
  const double *dZ_below = reference_values(reference, o->dZ_below);
  const descent_precision precision = reference->plan->precision;
  const bool reduced = plan_is_bf16(reference->plan, o->dZ_below);
  double *bound;
  descent_status status = bounds_add(bounds, reference, o->dZ_below, 0, step->rows * o->n_in, &bound);
  if (status != DESCENT_OK) return status;

  for (int64_t r = 0; r < step->rows; r++)
    for (int64_t i = 0; i < o->n_in; i++) {
      const int64_t ri = r * o->n_in + i;
      const double factor = reference_dropout(reference->plan, step, op->layer - 1, o->n_in, o->dropout, ri);
      const struct interval a = bounds_unscaled(interval_exact(A[ri]), o->dropout);
      /* With a bf16 result, the product may be stored as bf16 before a separate pass. */
      const struct interval sum =
          bounds_summed(precision, dot(precision, dZ + r * o->n_out, 1, W + i, o->n_in, o->n_out));
      const struct interval product = reduced ? interval_hull(sum, interval_to_bf16(sum)) : sum;
      const struct interval times =
          interval_mul(product, bounds_slope(o->activation, a, interval_exact(Z ? Z[ri] : 0)));
      const struct interval d = bounds_dropped(o->activation == DESCENT_ACTIVATION_IDENTITY ? product : times, factor);
      bound[ri] = interval_bound(reduced ? interval_to_bf16(d) : d, dZ_below[ri]);
    }
  return DESCENT_OK;
}
