/* Compiling a plan for a device. */
#ifndef DESCENT_KERNELS_COMPILE_H
#define DESCENT_KERNELS_COMPILE_H

#include "device.h"

/* As specified in struct backend. */
bool compile_supports(const struct backend_device *device, const struct plan *plan, const struct plan_op *op);
descent_status compile_plan(struct backend_device *device, const struct plan *plan, struct backend_program **program);
void compile_release(struct backend_program *program);
const char *compile_arithmetic(const struct backend_program *program);

#endif
