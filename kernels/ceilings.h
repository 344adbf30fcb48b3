/* The measured ceilings of the device, for bench. */
#ifndef DESCENT_KERNELS_CEILINGS_H
#define DESCENT_KERNELS_CEILINGS_H

#include "device.h"

/* As specified in struct backend. */
descent_status ceilings_measure(struct backend_device *device, descent_precision precision, double *flops,
                                double *bandwidth);

#endif
