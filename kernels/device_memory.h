/* The device memory of a compiled plan, and its total size. */
#ifndef DESCENT_KERNELS_DEVICE_MEMORY_H
#define DESCENT_KERNELS_DEVICE_MEMORY_H

#include "module.h"

struct device_memory {
  cudaStream_t stream; /* zeroes the allocations */
  int64_t bytes;       /* allocated so far */
};

/* cudaMalloc, zeroed. ERROR_MEMORY names `what`. */
descent_status device_memory_take(struct device_memory *memory, int64_t bytes, const char *what, void **data);
/* The same, not zeroed; *data is NULL if it does not fit. */
descent_status device_memory_try(struct device_memory *memory, int64_t bytes, void **data);
void device_memory_free(void *data); /* NULL: nothing */

#endif
