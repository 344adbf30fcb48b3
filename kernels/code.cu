// Whether this build holds code for the current GPU: all kernels are compiled for the same ones, so one answers for
// all.
#include <cuda_runtime.h>

#include "kernels.h"

static __global__ void empty_kernel() {}

cudaError_t code_check(void) {
  struct cudaFuncAttributes attributes;
  return cudaFuncGetAttributes(&attributes, (const void *)empty_kernel);
}
