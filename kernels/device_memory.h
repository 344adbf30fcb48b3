/* Device memory of one compiled plan, with an account of its size. */
#ifndef DESCENT_KERNELS_DEVICE_MEMORY_H
#define DESCENT_KERNELS_DEVICE_MEMORY_H

#include "module.h"

struct device_memory {
  cudaStream_t stream; /* zeroes what is taken */
  int64_t bytes;       /* taken so far */
};

/* cudaMalloc, zeroed. ERROR_MEMORY names `what`. */
descent_status device_memory_take(struct device_memory *memory, int64_t bytes, const char *what, void **data);
/* The same, not zeroed; *data is NULL where it does not fit. */
descent_status device_memory_try(struct device_memory *memory, int64_t bytes, void **data);
void device_memory_free(void *data); /* NULL: nothing */

#endif
