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

/* g(z), for all z of the interval, and g', as float32 computes them; g' from a or z as in plan_dense_backward_input. */
struct interval bounds_activation(descent_activation activation, struct interval z);
/* g(z) where tanh may be the approximation of the hardware. */
struct interval bounds_activation_approximate(descent_activation activation, struct interval z);
struct interval bounds_slope(descent_activation activation, struct interval a, double z);
/* e (n) = exp(z - max z) of one row; returns the sum of e. */
struct interval bounds_exponentials(const double *z, int64_t n, struct interval *e);
struct interval bounds_log(struct interval x);
/* log(1 + exp(-|z|)). */
struct interval bounds_softplus_tail(double z);

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
descent_status bounds_update(const struct backend_program *reference, const struct plan_op *op,
                             const struct plan_step *step, const double *inputs, struct bounds *bounds);

#endif
