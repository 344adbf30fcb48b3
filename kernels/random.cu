// Matrices for trials of products: filled with random values, ones or random bits, and compared bit by bit.
#include "common.cuh"

// In (-1, 1) and exact in the element type: odd multiples of 2^-23, of 2^-8 for bf16.
template <enum element ELEMENT>
static __device__ inline float centred(uint32_t word) {
  if (ELEMENT == ELEMENT_F32) return ((float)(word >> 9) + 0.5f) * 0x1p-22f - 1.0f;
  return ((float)(word >> 24) + 0.5f) * 0x1p-7f - 1.0f;
}

enum filling { FILL_RANDOM, FILL_ONES, FILL_BITS };

// Grid and block of all kernels here: struct element_tiling.
template <enum element ELEMENT, int COUNT>
static __global__ void __launch_bounds__(BLOCK)
    fill_kernel(struct device_matrix m, int64_t rows, int64_t n, enum filling filling, uint64_t seed,
                struct element_tiling t) {
  GRID_BEGIN();
  typedef typename Element<ELEMENT>::type type;
  const struct cells at = cells_of(t, n, COUNT);
  for (int64_t r = at.row; r < rows && !at.idle; r += at.step) {
    const int64_t index = r * n + at.column;  // a multiple of COUNT
    const philox4x32_ctr_t words = rng_block(seed, RNG_SYNTHETIC, 0, 0, (uint64_t)index / 4);
    uint32_t drawn[COUNT];
    float values[COUNT];
    if constexpr (COUNT == 1) {
      const uint32_t even = index & 2 ? words.v[2] : words.v[0], odd = index & 2 ? words.v[3] : words.v[1];
      drawn[0] = index & 1 ? odd : even;
    } else {
#pragma unroll
      for (int i = 0; i < COUNT; i++) drawn[i] = words.v[i];
    }
#pragma unroll
    for (int i = 0; i < COUNT; i++)
      values[i] = filling == FILL_ONES   ? 1.0f
                  : filling == FILL_BITS ? float_from_bits(drawn[i])
                                         : centred<ELEMENT>(drawn[i]);
    store_values<ELEMENT, COUNT>((type *)m.data + r * m.ld + at.column, values);
  }
}

template <enum element ELEMENT, int COUNT>
static __global__ void __launch_bounds__(BLOCK)
    compare_kernel(struct device_matrix a, struct device_matrix b, int64_t rows, int64_t n, float expected,
                   unsigned long long *differing, unsigned long long *off, struct element_tiling t) {
  GRID_BEGIN();
  typedef typename Element<ELEMENT>::type type;
  const struct cells at = cells_of(t, n, COUNT);
  unsigned different = 0, wrong = 0;
  for (int64_t r = at.row; r < rows && !at.idle; r += at.step) {
    float x[COUNT], y[COUNT];
    load_values<ELEMENT, COUNT>((const type *)a.data + r * a.ld + at.column, x);
    load_values<ELEMENT, COUNT>((const type *)b.data + r * b.ld + at.column, y);
#pragma unroll
    for (int i = 0; i < COUNT; i++) {
      different += float_bits(x[i]) != float_bits(y[i]);
      wrong += !(x[i] == expected);
    }
  }
  different = block_sum(different);
  wrong = block_sum(wrong);
  if (threadIdx.x != 0) return;
  if (different) atomicAdd(differing, (unsigned long long)different);
  if (wrong) atomicAdd(off, (unsigned long long)wrong);
}

static cudaError_t fill(struct device_matrix m, int64_t rows, int64_t n, enum filling filling, uint64_t seed,
                        cudaStream_t stream) {
  const bool wide = n % 4 == 0 && is_aligned(m, 4);
  const struct element_tiling t = tiling_of(rows, n, wide ? 4 : 1, 4);
#define FILL(ELEMENT, COUNT) \
  LAUNCH((fill_kernel<ELEMENT, COUNT>), t.blocks, BLOCK, stream, m, rows, n, filling, seed, t)
  if (m.element == ELEMENT_F32) return wide ? FILL(ELEMENT_F32, 4) : FILL(ELEMENT_F32, 1);
  return wide ? FILL(ELEMENT_BF16, 4) : FILL(ELEMENT_BF16, 1);
#undef FILL
}

cudaError_t launch_fill(struct device_matrix m, int64_t rows, int64_t n, bool ones, uint64_t seed,
                        cudaStream_t stream) {
  return fill(m, rows, n, ones ? FILL_ONES : FILL_RANDOM, seed, stream);
}

cudaError_t launch_fill_bits(struct device_matrix m, int64_t rows, int64_t n, uint64_t seed, cudaStream_t stream) {
  return m.element == ELEMENT_F32 ? fill(m, rows, n, FILL_BITS, seed, stream) : cudaErrorInvalidValue;
}

cudaError_t launch_compare(struct device_matrix a, struct device_matrix b, int64_t rows, int64_t n, float expected,
                           unsigned long long *differing, unsigned long long *off, cudaStream_t stream) {
  if (a.element != b.element) return cudaErrorInvalidValue;
  const bool wide = n % 4 == 0 && is_aligned(a, 4) && is_aligned(b, 4);
  const struct element_tiling t = tiling_of(rows, n, wide ? 4 : 1, 4);
  cudaError_t error = cudaMemsetAsync(differing, 0, sizeof *differing, stream);
  if (error == cudaSuccess) error = cudaMemsetAsync(off, 0, sizeof *off, stream);
  if (error != cudaSuccess) return error;
#define COMPARE(ELEMENT, COUNT) \
  LAUNCH((compare_kernel<ELEMENT, COUNT>), t.blocks, BLOCK, stream, a, b, rows, n, expected, differing, off, t)
  if (a.element == ELEMENT_F32) return wide ? COMPARE(ELEMENT_F32, 4) : COMPARE(ELEMENT_F32, 1);
  return wide ? COMPARE(ELEMENT_BF16, 4) : COMPARE(ELEMENT_BF16, 1);
#undef COMPARE
}
