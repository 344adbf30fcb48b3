/* The steps of several programs of a device, side by side. */
#ifndef DESCENT_KERNELS_TOGETHER_H
#define DESCENT_KERNELS_TOGETHER_H

#include "run.h"

/* As run_together of struct backend. */
descent_status together_run(const struct backend_device *device, const struct backend_job *jobs, int64_t count);
/* The program is released: graphs that hold its steps are destroyed. */
void together_forget(const struct backend_program *program);

#endif
