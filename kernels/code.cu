// Whether this build has code for the current GPU. All kernels are compiled for the same architectures, so one is
// enough to check.
#include <cuda_runtime.h>

#include "kernels.h"

static __global__ void empty_kernel() {}

cudaError_t code_check(void) {
  struct cudaFuncAttributes attributes;
  return cudaFuncGetAttributes(&attributes, (const void *)empty_kernel);
}
