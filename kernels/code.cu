// Whether this build has code for the current GPU: all kernels are compiled for the same architectures, so one is enough
// to check. And how the next kernel is launched.
#include "common.cuh"

static __global__ void empty_kernel() { GRID_BEGIN(); }

cudaError_t code_check(void) {
  struct cudaFuncAttributes attributes;
  return cudaFuncGetAttributes(&attributes, (const void *)empty_kernel);
}

void launch_next_plainly(void) { next_launch_is_plain = true; }
