/* Bounds of the dense layer's products: gamma of the dot product's length times the product of absolute values, carried
 * through activation, derivative and dropout. */
#include <stddef.h>

#include "backend/bounds_internal.h"

/* sum_i x_i y_i and the same of absolute values, strided. */
static struct interval dot(const double *x, int64_t x_stride, const double *y, int64_t y_stride, int64_t n,
                           double start) {
  double sum = start, absolute = fabs(start);
  for (int64_t i = 0; i < n; i++) {
    const double p = x[i * x_stride] * y[i * y_stride];
    sum += p;
    absolute += fabs(p);
  }
  /* n products and as many additions as there are other terms; a product below the normal range is off by at most eta.
   * Where the sum of absolute values leaves float32, so may a partial sum. */
  const double terms = start == 0 ? (double)n : (double)n + 1;
  const double error = interval_gamma(terms) * absolute + (double)n * INTERVAL_ETA;
  if (!(absolute + error <= (double)FLT_MAX)) return (struct interval){-INFINITY, INFINITY};
  return interval_around(sum, error);
}

/* x times dropout's factor, which is 1 or 1 / (1 - p): 1 - p, the quotient and the product may each be rounded. Dropped
 * values are exactly 0. */
static struct interval dropped(struct interval x, double factor) {
  if (factor == 0) return interval_exact(0);
  return factor == 1 ? x : interval_rounded(interval_times(x, interval_exact(factor)), 3);
}

descent_status bounds_dense_forward(const struct backend_program *witness, const struct plan_op *op,
                                    const struct plan_step *step, struct bounds *bounds) {
  const struct plan_dense_forward *o = &op->forward;
  const double *A_in = reference_values(witness, o->A_in);
  const double *W = reference_values(witness, o->parameters) + o->W,
               *b = reference_values(witness, o->parameters) + o->b;
  const double *A = reference_values(witness, o->A), *Z = reference_values(witness, o->Z);
  const int64_t count = step->rows * o->n_out;
  double *A_bound, *Z_bound = NULL;
  descent_status status = bounds_add(bounds, witness, o->A, 0, count, &A_bound);
  if (status == DESCENT_OK && Z) status = bounds_add(bounds, witness, o->Z, 0, count, &Z_bound);
  if (status != DESCENT_OK) return status;

  for (int64_t r = 0; r < step->rows; r++)
    for (int64_t j = 0; j < o->n_out; j++) {
      const int64_t rj = r * o->n_out + j;
      const struct interval z = dot(A_in + r * o->n_in, 1, W + j * o->n_in, 1, o->n_in, b[j]);
      const double factor = reference_dropout(witness->plan, step, op->layer, o->dropout, rj);
      A_bound[rj] = interval_bound(dropped(bounds_activation(o->activation, z), factor), A[rj]);
      if (Z) Z_bound[rj] = interval_bound(z, Z[rj]);
    }
  return DESCENT_OK;
}

descent_status bounds_dense_backward_weights(const struct backend_program *witness, const struct plan_op *op,
                                             const struct plan_step *step, struct bounds *bounds) {
  const struct plan_dense_backward_weights *o = &op->weights;
  const double *D = reference_values(witness, o->D), *A_in = reference_values(witness, o->A_in);
  const double *dW = reference_values(witness, o->gradients) + o->W,
               *db = reference_values(witness, o->gradients) + o->b;
  static const double one = 1;
  double *dW_bound, *db_bound;
  descent_status status = bounds_add(bounds, witness, o->gradients, o->W, o->n_out * o->n_in, &dW_bound);
  if (status == DESCENT_OK) status = bounds_add(bounds, witness, o->gradients, o->b, o->n_out, &db_bound);
  if (status != DESCENT_OK) return status;

  for (int64_t j = 0; j < o->n_out; j++) {
    db_bound[j] = interval_bound(dot(D + j, o->n_out, &one, 0, step->rows, 0), db[j]);
    for (int64_t i = 0; i < o->n_in; i++) {
      const int64_t ji = j * o->n_in + i;
      dW_bound[ji] = interval_bound(dot(D + j, o->n_out, A_in + i, o->n_in, step->rows, 0), dW[ji]);
    }
  }
  return DESCENT_OK;
}

descent_status bounds_dense_backward_input(const struct backend_program *witness, const struct plan_op *op,
                                           const struct plan_step *step, struct bounds *bounds) {
  const struct plan_dense_backward_input *o = &op->input;
  const double *D = reference_values(witness, o->D), *W = reference_values(witness, o->parameters) + o->W;
  const double *A = reference_values(witness, o->A), *Z = reference_values(witness, o->Z);
  const double *D_in = reference_values(witness, o->D_in);
  double *bound;
  descent_status status = bounds_add(bounds, witness, o->D_in, 0, step->rows * o->n_in, &bound);
  if (status != DESCENT_OK) return status;

  for (int64_t r = 0; r < step->rows; r++)
    for (int64_t i = 0; i < o->n_in; i++) {
      const int64_t ri = r * o->n_in + i;
      const double factor = reference_dropout(witness->plan, step, op->layer - 1, o->dropout, ri);
      /* a = A (1 - p): the factor 1 - p may come from two roundings, the product is a third. */
      const struct interval kept = interval_exact(A[ri] * (1 - o->dropout));
      const struct interval a = o->dropout > 0 ? interval_rounded(kept, 3) : kept;
      const struct interval product = dot(D + r * o->n_out, 1, W + i, o->n_in, o->n_out, 0);
      const struct interval d = interval_mul(product, bounds_slope(o->activation, a, Z ? Z[ri] : 0));
      bound[ri] = interval_bound(dropped(o->activation == DESCENT_ACTIVATION_IDENTITY ? product : d, factor), D_in[ri]);
    }
  return DESCENT_OK;
}
