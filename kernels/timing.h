/* Operations timed inside a step. */
#ifndef DESCENT_KERNELS_TIMING_H
#define DESCENT_KERNELS_TIMING_H

#include "module.h"

/* As `time` is specified in struct backend. */
descent_status timing_steps(struct backend_program *program, struct plan_range range, const struct plan_step *steps,
                            int64_t n_steps, double *op_seconds, double *product_seconds);

#endif
