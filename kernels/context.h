/* Every call that uses a device happens between enter and leave: one thread at a time, with the device's primary context
 * current. The caller's current device is then as it was before, and no context is made on a device that the caller has
 * not used, as cudaSetDevice would. */
#ifndef DESCENT_KERNELS_CONTEXT_H
#define DESCENT_KERNELS_CONTEXT_H

#include "module.h"

struct device_context;

/* Retains the primary context of device `ordinal`, which the runtime and other libraries of the process use too. */
descent_status context_open(int ordinal, struct device_context **context);
void context_close(struct device_context *context); /* NULL: nothing */

/* Not for a thread that has entered already. On failure there is nothing to leave. */
descent_status context_enter(struct device_context *context);
void context_leave(struct device_context *context);

#endif
