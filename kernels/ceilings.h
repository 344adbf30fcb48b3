/* What the device reaches at best, for bench. */
#ifndef DESCENT_KERNELS_CEILINGS_H
#define DESCENT_KERNELS_CEILINGS_H

#include "device.h"

/* As struct backend specifies it. */
descent_status ceilings_measure(struct backend_device *device, descent_precision precision, double *flops,
                                double *bandwidth);

#endif
