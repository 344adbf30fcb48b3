// Matrices to time products on: filled with random values or ones, and compared bit by bit.
#include "common.cuh"

// In (-1, 1), exact in float32: odd multiples of 2^-23.
static __device__ inline float centred(uint32_t word) { return ((float)(word >> 9) + 0.5f) * 0x1p-22f - 1.0f; }

// Grid and block of all kernels here: struct tiling.
template <enum element ELEMENT, int COUNT>
static __global__ void __launch_bounds__(BLOCK)
    fill_kernel(struct matrix m, int64_t rows, int64_t n, bool ones, uint64_t seed, struct tiling t) {
  typedef typename Element<ELEMENT>::type type;
  const struct cells at = cells_of(t, n, COUNT);
  for (int64_t r = at.row; r < rows && !at.idle; r += at.step) {
    const int64_t index = r * n + at.column;  // a multiple of COUNT
    float values[COUNT];
    if constexpr (COUNT == 1) {
      values[0] = centred(rng_word(seed, RNG_SYNTHETIC, 0, 0, (uint64_t)index));
    } else {
      const philox4x32_ctr_t words = rng_block(seed, RNG_SYNTHETIC, 0, 0, (uint64_t)index / 4);
#pragma unroll
      for (int i = 0; i < COUNT; i++) values[i] = centred(words.v[i]);
    }
#pragma unroll
    for (int i = 0; i < COUNT; i++) values[i] = ones ? 1.0f : values[i];
    store_values<ELEMENT, COUNT>((type *)m.data + r * m.ld + at.column, values);
  }
}

template <enum element ELEMENT, int COUNT>
static __global__ void __launch_bounds__(BLOCK)
    compare_kernel(struct matrix a, struct matrix b, int64_t rows, int64_t n, float expected,
                   unsigned long long *differing, unsigned long long *off, struct tiling t) {
  typedef typename Element<ELEMENT>::type type;
  const struct cells at = cells_of(t, n, COUNT);
  unsigned different = 0, wrong = 0;
  for (int64_t r = at.row; r < rows && !at.idle; r += at.step) {
    float x[COUNT], y[COUNT];
    load_values<ELEMENT, COUNT>((const type *)a.data + r * a.ld + at.column, x);
    load_values<ELEMENT, COUNT>((const type *)b.data + r * b.ld + at.column, y);
#pragma unroll
    for (int i = 0; i < COUNT; i++) {
      different += formula_bits(x[i]) != formula_bits(y[i]);
      wrong += !(x[i] == expected);
    }
  }
  different = block_sum(different);
  wrong = block_sum(wrong);
  if (threadIdx.x != 0) return;
  if (different) atomicAdd(differing, (unsigned long long)different);
  if (wrong) atomicAdd(off, (unsigned long long)wrong);
}

cudaError_t launch_fill(struct matrix m, int64_t rows, int64_t n, bool ones, uint64_t seed, cudaStream_t stream) {
  const bool wide = n % 4 == 0 && is_aligned(m, 4);
  const struct tiling t = tiling_of(rows, n, wide ? 4 : 1, 4);
  if (m.element == ELEMENT_F32)
    return wide ? LAUNCH((fill_kernel<ELEMENT_F32, 4>), t.blocks, BLOCK, stream, m, rows, n, ones, seed, t)
                : LAUNCH((fill_kernel<ELEMENT_F32, 1>), t.blocks, BLOCK, stream, m, rows, n, ones, seed, t);
  return wide ? LAUNCH((fill_kernel<ELEMENT_BF16, 4>), t.blocks, BLOCK, stream, m, rows, n, ones, seed, t)
              : LAUNCH((fill_kernel<ELEMENT_BF16, 1>), t.blocks, BLOCK, stream, m, rows, n, ones, seed, t);
}

cudaError_t launch_compare(struct matrix a, struct matrix b, int64_t rows, int64_t n, float expected,
                           unsigned long long *differing, unsigned long long *off, cudaStream_t stream) {
  if (a.element != b.element) return cudaErrorInvalidValue;
  const bool wide = n % 4 == 0 && is_aligned(a, 4) && is_aligned(b, 4);
  const struct tiling t = tiling_of(rows, n, wide ? 4 : 1, 4);
  cudaError_t error = cudaMemsetAsync(differing, 0, sizeof *differing, stream);
  if (error == cudaSuccess) error = cudaMemsetAsync(off, 0, sizeof *off, stream);
  if (error != cudaSuccess) return error;
#define COMPARE(ELEMENT, COUNT) \
  LAUNCH((compare_kernel<ELEMENT, COUNT>), t.blocks, BLOCK, stream, a, b, rows, n, expected, differing, off, t)
  if (a.element == ELEMENT_F32) return wide ? COMPARE(ELEMENT_F32, 4) : COMPARE(ELEMENT_F32, 1);
  return wide ? COMPARE(ELEMENT_BF16, 4) : COMPARE(ELEMENT_BF16, 1);
#undef COMPARE
}
