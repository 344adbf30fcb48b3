// What surrounds the layers in a small training step, by the blocks of one cluster: the gather, the norm, the update, with
// the bits of their own kernels. Blocks of BLOCK threads; every function is called by all threads of all blocks.
#ifndef DESCENT_KERNELS_WHOLE_CUH
#define DESCENT_KERNELS_WHOLE_CUH

#include "common.cuh"

// As launch_gather. What it writes, state->current and the weights' sum too, may be read behind the next CLUSTER_SYNC.
template <enum element ELEMENT>
static __device__ void whole_gather(const struct gather_launch &gather, unsigned block, unsigned blocks);

// As launch_norm and launch_update behind it: the gradients and SCALAR_LOSS are read, so a CLUSTER_SYNC comes before. Has
// CLUSTER_SYNCs of its own.
static __device__ void whole_norm_and_update(const struct whole_step &whole, unsigned block, unsigned blocks);

#endif
