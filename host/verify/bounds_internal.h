/* Shared by the files of bounds, of which there is one per family of operations, as in the backends. */
#ifndef DESCENT_VERIFY_BOUNDS_INTERNAL_H
#define DESCENT_VERIFY_BOUNDS_INTERNAL_H

#include "backend/reference/reference.h"
#include "plan/operations.h"
#include "verify/bounds.h"
#include "verify/interval.h"

/* Adds an output of `count` elements with their values in the reference. *bound (count) is zeroed; the caller fills it.
 * ERROR_MEMORY. */
descent_status bounds_add(struct bounds *bounds, const struct backend_program *reference, int buffer, int64_t offset,
                          int64_t count, double **bound);

/* ---- formulas, for all arguments of the intervals, as float32 computes them ---- */

/* g(z) and g'; g' from a or z as in plan_dense_backward_input. */
struct interval bounds_activation(descent_activation activation, struct interval z);
/* g(z) where tanh may be the approximation of the hardware. */
struct interval bounds_activation_approximate(descent_activation activation, struct interval z);
struct interval bounds_slope(descent_activation activation, struct interval a, struct interval z);
/* x times the dropout factor: 0, which is exact, 1, or 1 / (1 - p), where 1 - p, the quotient and the product may each
 * be rounded. */
struct interval bounds_dropped(struct interval x, double factor);
/* a of a kept unit, from A after dropout: A (1 - p). */
struct interval bounds_unscaled(struct interval A, double dropout);
/* e (n) = exp(z - max), max the largest upper end of one row's z (n): their quotients do not depend on max. Returns the
 * sum of e. */
struct interval bounds_exponentials(const struct interval *z, int64_t n, struct interval *e);
struct interval bounds_log(struct interval x);
/* log(1 + exp(-|z|)). */
struct interval bounds_softplus_tail(struct interval z);

/* ---- sums of products ---- */

/* A factor as a product reads it: `value`, with an error of at most `error`. */
struct operand {
  double value, error;
};

/* A sum of products before rounding: its value, the error caused by those of the operands, the sum of absolute values,
 * and the numbers of products and of terms that are rounded. */
struct sum {
  double value, error, absolute, products, terms;
};

static inline void bounds_add_product(struct sum *sum, struct operand a, struct operand b) {
  const double p = a.value * b.value;
  const double error = fabs(a.value) * b.error + a.error * fabs(b.value) + a.error * b.error;
  sum->value += p;
  sum->error += error;
  sum->absolute += fabs(p) + error;
}

/* The sum and one more term, x with an error of at most `error`. */
struct sum bounds_plus(struct sum sum, double x, double error);
/* The sum as the precision computes it, in any order. */
struct interval bounds_summed(descent_precision precision, struct sum sum);

/* ---- rows of losses and predictions ---- */

struct loss_row {
  const struct interval *a, *z; /* output layer: A (n), Z (n) or NULL */
  const double *y;              /* targets */
  double weight;                /* w / sum w */
  struct interval *e, *dZ;      /* (n) scratch; (n) dJ/dZ to compute, or NULL */
};
/* weight L, not rounded, and dZ. */
struct interval bounds_loss_row(const struct plan_loss *op, const struct loss_row *row);
/* P (n) from A (n); e (n): scratch; scale and shift (n) or NULL. */
void bounds_output_row(const struct plan_output *op, const struct interval *a, const double *scale, const double *shift,
                       struct interval *e, struct interval *P);

/* ---- operations ---- */

/* Each adds the outputs of one op, after the reference has run it, and their bounds. ERROR_MEMORY. */
descent_status bounds_dense_forward(const struct backend_program *reference, const struct plan_op *op,
                                    const struct plan_step *step, struct bounds *bounds);
descent_status bounds_dense_backward_weights(const struct backend_program *reference, const struct plan_op *op,
                                             const struct plan_step *step, struct bounds *bounds);
descent_status bounds_dense_backward_input(const struct backend_program *reference, const struct plan_op *op,
                                           const struct plan_step *step, struct bounds *bounds);
descent_status bounds_loss(const struct backend_program *reference, const struct plan_op *op,
                           const struct plan_step *step, struct bounds *bounds);
descent_status bounds_backward_output(const struct backend_program *reference, const struct plan_op *op,
                                      const struct plan_step *step, struct bounds *bounds);
descent_status bounds_output_op(const struct backend_program *reference, const struct plan_op *op,
                                const struct plan_step *step, struct bounds *bounds);

/* The update works in place, so its inputs are copied before the reference runs: (3, n), parameters and both moments;
 * unused moments are 0. From malloc; NULL if out of memory. */
double *bounds_update_inputs(const struct backend_program *reference, const struct plan_op *op);
descent_status bounds_trust_ratio(const struct backend_program *reference, const struct plan_op *op,
                                  const struct plan_step *step, struct bounds *bounds);
descent_status bounds_update(const struct backend_program *reference, const struct plan_op *op,
                             const struct plan_step *step, const double *inputs, struct bounds *bounds);

#endif
