/* Free memory and driver version, which only NVIDIA's management library reports without a context on the GPU. */
#ifndef DESCENT_KERNELS_NVML_H
#define DESCENT_KERNELS_NVML_H

#include "backend/backend.h"

/* Sets memory_free and driver of each GPU by its UUID; leaves them unchanged without the library, which comes with the
 * driver but is missing from some containers. */
void nvml_fill(struct backend_gpu *gpus, int count);

#endif
