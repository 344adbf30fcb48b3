// The sum of the ranks' gradients, after each rank has received its slice of all others. Bound by memory: 4 floats per
// thread and iteration, of each rank in turn.
#include "common.cuh"

// Sums of 2^i ranks wait in sums[i] for their partner. The loops over it are unrolled, so that it is kept in registers.
enum { LEVELS = 8, FLOATS = 4 };
static_assert(1 << LEVELS == RANKS_MOST, "a sum for each bit of a rank's number");

// Adds rank k's value to the sums before it, in the order of plan_combine: the result is that of all ranks if k is the
// last one.
template <typename T, int COUNT>
static __device__ inline void add_rank(T (&sums)[LEVELS][COUNT], T (&value)[COUNT], uint32_t k, bool is_last) {
  const uint32_t added = is_last ? k : k & ~(k + 1);  // all sums that are left, or the trailing ones
#pragma unroll
  for (int i = 0; i < LEVELS; i++) {
    if (added >> i & 1)
#pragma unroll
      for (int j = 0; j < COUNT; j++) value[j] = sums[i][j] + value[j];
    if (!is_last && added + 1 == 1u << i)
#pragma unroll
      for (int j = 0; j < COUNT; j++) sums[i][j] = value[j];
  }
}

static __device__ inline void add_losses(const struct rank_sum_launch &l) {
  double sums[LEVELS][1] = {}, value[1] = {};
  for (int k = 0; k < l.ranks; k++) {
    value[0] = k == l.rank ? *l.loss : l.losses[k];
    add_rank(sums, value, (uint32_t)k, k == l.ranks - 1);
  }
  *l.loss = value[0];
}

static __global__ void __launch_bounds__(BLOCK) rank_sum_kernel(struct rank_sum_launch l) {
  GRID_BEGIN();
  const int64_t stride = (int64_t)gridDim.x * BLOCK * FLOATS;
  for (int64_t at = ((int64_t)blockIdx.x * BLOCK + threadIdx.x) * FLOATS; at < l.n; at += stride) {
    float sums[LEVELS][FLOATS] = {}, value[FLOATS] = {};
    for (int k = 0; k < l.ranks; k++) {
      load_values<ELEMENT_F32, FLOATS>(k == l.rank ? l.own + at : l.received + k * l.width + at, value);
      add_rank(sums, value, (uint32_t)k, k == l.ranks - 1);
    }
    store_values<ELEMENT_F32, FLOATS>(l.own + at, value);
  }
  if (blockIdx.x == 0 && threadIdx.x == 0) add_losses(l);
}

cudaError_t launch_rank_sum(const struct rank_sum_launch *l, cudaStream_t stream) {
  if (l->ranks < 2 || l->ranks > RANKS_MOST || l->n % FLOATS || l->width % FLOATS) return cudaErrorInvalidValue;
  return LAUNCH(rank_sum_kernel, block_count(l->n, BLOCK * FLOATS, 4096), BLOCK, stream, *l);
}
