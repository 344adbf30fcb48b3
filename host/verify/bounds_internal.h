/* What the parts of bounds share: one part per family of operations, as in the backends. */
#ifndef DESCENT_VERIFY_BOUNDS_INTERNAL_H
#define DESCENT_VERIFY_BOUNDS_INTERNAL_H

#include "backend/reference/reference.h"
#include "plan/operations.h"
#include "verify/bounds.h"
#include "verify/interval.h"

/* Adds `count` elements of a buffer with the reference's present values; *bound (count) is zeroed, for the caller to
 * fill. */
descent_status bounds_add(struct bounds *bounds, const struct backend_program *reference, int buffer, int64_t offset,
                          int64_t count, double **bound);

/* g(z) and g'(z) as float32 computes them from any of these z; g' from a where it comes from a, else from z alone. */
struct interval bounds_activation(descent_activation activation, struct interval z);
/* The same where tanh may be the hardware's approximation. */
struct interval bounds_activation_approximate(descent_activation activation, struct interval z);
struct interval bounds_slope(descent_activation activation, struct interval a, double z);
/* One row's e (n) = exp(z - max z), and their sum. */
struct interval bounds_exponentials(const double *z, int64_t n, struct interval *e);
struct interval bounds_log(struct interval x);
/* log(1 + exp(-|z|)). */
struct interval bounds_softplus_tail(double z);

/* Each fills in the bounds of one op, after the reference has run it. */
descent_status bounds_dense_forward(const struct backend_program *reference, const struct plan_op *op,
                                    const struct plan_step *step, struct bounds *bounds);
descent_status bounds_dense_backward_weights(const struct backend_program *reference, const struct plan_op *op,
                                             const struct plan_step *step, struct bounds *bounds);
descent_status bounds_dense_backward_input(const struct backend_program *reference, const struct plan_op *op,
                                           const struct plan_step *step, struct bounds *bounds);
descent_status bounds_loss(const struct backend_program *reference, const struct plan_op *op,
                           const struct plan_step *step, struct bounds *bounds);
descent_status bounds_output_op(const struct backend_program *reference, const struct plan_op *op,
                                const struct plan_step *step, struct bounds *bounds);

/* The update works in place: its inputs are kept before the reference runs, in (3, n): parameters and both moments. */
double *bounds_update_inputs(const struct backend_program *reference, const struct plan_op *op);
descent_status bounds_update(const struct backend_program *reference, const struct plan_op *op,
                             const struct plan_step *step, const double *inputs, struct bounds *bounds);

#endif
