/* The losses with their gradients, from logits in the stable form, a gradient from the caller in their place, and the
 * output of predict. */
#include <math.h>
#include <stddef.h>

#include "backend/reference/reference.h"
#include "core/terms.h"

/* log(1 + exp(z)) without overflow. */
static double softplus(double z) { return fmax(z, 0) + log1p(exp(-fabs(z))); }

/* L of one row; dZ (1) = dL/dz unless NULL. Smoothing moves the target s / 2 towards the other class. */
static double binary_cross_entropy(double z, double y, double s, double *dZ) {
  const double t = y * (1 - s) + s / 2;
  if (dZ) *dZ = reference_sigmoid(z) - t;
  return softplus(z) - t * z;
}

/* q_k, the smoothed target of class k. */
static double class_target(int64_t k, double y, int64_t n, double s) {
  return ((double)k == y ? 1 - s : 0) + s / (double)n;
}

/* L = logsumexp(z) - sum_k q_k z_k, as a sum of terms >= 0 since sum_k q_k = 1. */
static double softmax_cross_entropy(const double *z, double y, int64_t n, double s, double *dZ) {
  double max = z[0], sum = 0, L = 0;
  for (int64_t k = 1; k < n; k++) max = fmax(max, z[k]);
  for (int64_t k = 0; k < n; k++) sum += exp(z[k] - max);
  for (int64_t k = 0; k < n; k++) L += class_target(k, y, n, s) * (max - z[k]);
  for (int64_t k = 0; dZ && k < n; k++) dZ[k] = exp(z[k] - max) / sum - class_target(k, y, n, s);
  return log(sum) + L;
}

static double mean_squared_error(const double *a, const double *z, const double *y, int64_t n, descent_activation g,
                                 double *dZ) {
  double L = 0;
  for (int64_t k = 0; k < n; k++) {
    L += (a[k] - y[k]) * (a[k] - y[k]) / (double)n;
    if (dZ) dZ[k] = 2 * (a[k] - y[k]) / (double)n * reference_slope(g, a[k], z ? z[k] : 0);
  }
  return L;
}

static double row_loss(const struct plan_loss *op, const double *a, const double *z, const double *y, double *dZ) {
  switch (op->loss) {
    case DESCENT_LOSS_BINARY_CROSS_ENTROPY: return binary_cross_entropy(a[0], y[0], op->label_smoothing, dZ);
    case DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY: return softmax_cross_entropy(a, y[0], op->n, op->label_smoothing, dZ);
    case DESCENT_LOSS_MEAN_SQUARED_ERROR: return mean_squared_error(a, z, y, op->n, op->activation, dZ);
  }
  return NAN;
}

void reference_loss(struct backend_program *program, const struct plan_loss *op, const struct plan_step *step) {
  const int64_t n_y = loss_is_regression(op->loss) ? op->n : 1;
  const double *A = reference_values(program, op->A); /* (rows, n) */
  const double *Z = reference_values(program, op->Z); /* (rows, n) or NULL */
  const double *y = reference_values(program, op->y); /* (rows, n_y) */
  const double *w = reference_values(program, op->w); /* (rows) */
  double *dZ = reference_values(program, op->dZ);     /* (rows, n) or NULL */
  double *scalars = reference_values(program, op->scalars);
  const double weight_sum = scalars[SCALAR_WEIGHT_SUM];
  const double inverse_weight_sum = weight_sum == 0 ? 0 : 1 / weight_sum;

  double J = 0;
  for (int64_t r = 0; r < step->rows; r++) {
    double *dZ_row = dZ ? dZ + r * op->n : NULL;
    const double weight = w[r] * inverse_weight_sum;
    J += weight * row_loss(op, A + r * op->n, Z ? Z + r * op->n : NULL, y + r * n_y, dZ_row);
    for (int64_t k = 0; dZ && k < op->n; k++) dZ_row[k] *= weight;
  }
  scalars[SCALAR_LOSS] = J;
}

void reference_backward_output(struct backend_program *program, const struct plan_backward_output *op,
                               const struct plan_step *step) {
  const double *dA = reference_values(program, op->dA); /* (rows, n) */
  const double *A = reference_values(program, op->A);   /* (rows, n) */
  const double *Z = reference_values(program, op->Z);   /* (rows, n) or NULL */
  double *dZ = reference_values(program, op->dZ);       /* (rows, n) */
  for (int64_t i = 0; i < step->rows * op->n; i++) dZ[i] = dA[i] * reference_slope(op->activation, A[i], Z ? Z[i] : 0);
}

void reference_output(struct backend_program *program, const struct plan_output *op, const struct plan_step *step) {
  const double *y_shift = reference_values(program, op->y_shift), *y_scale = reference_values(program, op->y_scale);
  for (int64_t r = 0; r < step->rows; r++) {
    const double *a = reference_values(program, op->A) + r * op->n; /* (n) */
    double *p = reference_values(program, op->P) + r * op->n;       /* (n) */
    switch (op->loss) {
      case DESCENT_LOSS_BINARY_CROSS_ENTROPY:
        for (int64_t k = 0; k < op->n; k++) p[k] = reference_sigmoid(a[k]);
        break;
      case DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY: reference_softmax(a, p, op->n); break;
      case DESCENT_LOSS_MEAN_SQUARED_ERROR:
        for (int64_t k = 0; k < op->n; k++) p[k] = a[k] / (y_scale ? y_scale[k] : 1) + (y_shift ? y_shift[k] : 0);
        break;
    }
  }
}
