/* What only NVIDIA's management library knows without a context on the GPU: how much memory is free, which driver. */
#ifndef DESCENT_KERNELS_NVML_H
#define DESCENT_KERNELS_NVML_H

#include "backend/backend.h"

/* Fills memory_free and driver of each GPU by its UUID. Without the library, which comes with the driver but is not in
 * every container, they stay as they are. */
void nvml_fill(struct backend_gpu *gpus, int count);

#endif
