/* The dense layer: Z = A_in W^T + b, A = g(Z), and its two gradients. */
#include "backend/reference/reference.h"

void reference_dense_forward(struct backend_program *program, const struct plan_op *op, const struct plan_step *step) {
  const struct plan_dense_forward *o = &op->forward;
  const double *A_in = reference_values(program, o->A_in);           /* (rows, n_in) */
  const double *W = reference_values(program, o->parameters) + o->W; /* (n_out, n_in) */
  const double *b = reference_values(program, o->parameters) + o->b; /* (n_out) */
  double *Z = reference_values(program, o->Z);                       /* (rows, n_out) or NULL */
  double *A = reference_values(program, o->A);                       /* (rows, n_out) */

  for (int64_t r = 0; r < step->rows; r++)
    for (int64_t j = 0; j < o->n_out; j++) {
      double z = b[j];
      for (int64_t i = 0; i < o->n_in; i++) z += A_in[r * o->n_in + i] * W[j * o->n_in + i];
      const int64_t rj = r * o->n_out + j;
      const double factor = reference_dropout(program->plan, step, op->layer, o->n_out, o->dropout, rj);
      if (Z) Z[rj] = z;
      A[rj] = factor == 0 ? 0 : reference_activate(o->activation, z) * factor;
    }
}

void reference_dense_backward_weights(struct backend_program *program, const struct plan_dense_backward_weights *op,
                                      const struct plan_step *step) {
  const double *dZ = reference_values(program, op->dZ);          /* (rows, n_out) */
  const double *A_in = reference_values(program, op->A_in);      /* (rows, n_in) */
  double *dW = reference_values(program, op->gradients) + op->W; /* (n_out, n_in) */
  double *db = reference_values(program, op->gradients) + op->b; /* (n_out) */

  for (int64_t j = 0; j < op->n_out; j++) {
    db[j] = 0;
    for (int64_t i = 0; i < op->n_in; i++) dW[j * op->n_in + i] = 0;
    for (int64_t r = 0; r < step->rows; r++) {
      const double d = dZ[r * op->n_out + j];
      db[j] += d;
      for (int64_t i = 0; i < op->n_in; i++) dW[j * op->n_in + i] += d * A_in[r * op->n_in + i];
    }
  }
}

void reference_dense_backward_input(struct backend_program *program, const struct plan_op *op,
                                    const struct plan_step *step) {
  const struct plan_dense_backward_input *o = &op->input;
  const double *dZ = reference_values(program, o->dZ);               /* (rows, n_out) */
  const double *W = reference_values(program, o->parameters) + o->W; /* (n_out, n_in) */
  const double *A = reference_values(program, o->A);                 /* (rows, n_in) */
  const double *Z = reference_values(program, o->Z);                 /* (rows, n_in) or NULL */
  double *dZ_below = reference_values(program, o->dZ_below);         /* (rows, n_in) */

  for (int64_t r = 0; r < step->rows; r++)
    for (int64_t i = 0; i < o->n_in; i++) {
      double d = 0;
      for (int64_t j = 0; j < o->n_out; j++) d += dZ[r * o->n_out + j] * W[j * o->n_in + i];
      const int64_t ri = r * o->n_in + i;
      const double factor = reference_dropout(program->plan, step, op->layer - 1, o->n_in, o->dropout, ri);
      const double a = A[ri] * (1 - o->dropout);
      dZ_below[ri] = factor == 0 ? 0 : d * reference_slope(o->activation, a, Z ? Z[ri] : 0) * factor;
    }
}
