// The checks of a trial's result: whole numbers, which are exact, and float64 on random values.
#include "common.cuh"

static __device__ inline float value_at(const void *data, int64_t i, enum element element) {
  return element == ELEMENT_F32 ? ((const float *)data)[i] : bf16_value(((const uint16_t *)data)[i]);
}

static __device__ inline bool bit_at(const struct trial_result &r, int64_t i, int64_t j) {
  const int64_t bit = i * r.mask_ld + j;
  return r.mask[bit / 8] >> (bit % 8) & 1;
}

static __device__ inline float as_stored(float x, enum element element) {
  return element == ELEMENT_F32 ? x : Element<ELEMENT_BF16>::rounded(x);
}

static __device__ inline void count_wrong(unsigned wrong, unsigned long long *total) {
  wrong = block_sum(wrong);
  if (threadIdx.x == 0 && wrong) atomicAdd(total, (unsigned long long)wrong);
}

// Grid and block: struct element_tiling, one column to a thread.
static __global__ void __launch_bounds__(BLOCK)
    check_kernel(struct trial_result r, float value, unsigned long long *total, struct element_tiling t) {
  GRID_BEGIN();
  const struct cells at = cells_of(t, r.n, 1);
  uint64_t off = 0, contradicting = 0;  // less than 2^32 each in a block
#pragma unroll 1                        // unrolling would need more predicate registers than there are
  for (int64_t i = at.row; i < r.rows && !at.idle; i += at.step) {
    const float c = value_at(r.C.data, i * r.C.ld + at.column, r.C.element);
    const bool bit = r.mask && bit_at(r, i, at.column);
    float z = value;
    if (r.bias) z += value_at(r.bias, at.column, r.bias_element);
    const bool either = r.zero_may_be_marked && z == 0;
    if (r.relu) z = z > 0 ? z : 0;
    if (r.mask && !r.mask_written) z = bit ? z : 0;
    off += value == value && !(c == as_stored(z, r.C.element));
    contradicting += r.mask && !either && (r.mask_written ? bit != (c > 0) : !bit && c != 0);
  }
  const uint64_t both = block_sum(off | contradicting << 32);
  if (threadIdx.x != 0) return;
  if (both & 0xffffffffu) atomicAdd(&total[0], (unsigned long long)(both & 0xffffffffu));
  if (both >> 32) atomicAdd(&total[1], (unsigned long long)(both >> 32));
}

// A block per column, at most GRID at a time.
static __global__ void __launch_bounds__(BLOCK)
    check_sums_kernel(struct device_matrix C, int64_t rows, int64_t n, const float *sums, unsigned long long *total) {
  GRID_BEGIN();
  for (int64_t j = blockIdx.x; j < n; j += gridDim.x) {
    double sum = 0;
    for (int64_t i = threadIdx.x; i < rows; i += BLOCK) sum += (double)value_at(C.data, i * C.ld + j, C.element);
    sum = block_sum(sum);
    count_wrong(threadIdx.x == 0 && !((double)sums[j] == sum), total);
  }
}

// The error bound of a sum of `terms` terms whose magnitudes add up to `magnitude`: each addition has relative error
// `unit` (Higham 2002, section 3.1), each term has relative error `cut`.
static __device__ inline double sum_bound(const struct trial_factors &f, double terms, double products, double bias) {
  const double lost = terms * f.unit;
  return f.cut * products + lost / (1 - lost) * ((1 + f.cut) * products + bias);
}

// One sample per thread: the exact element (i, j) of C, and how far the result may be from it.
static __global__ void __launch_bounds__(BLOCK)
    check_errors_kernel(struct trial_result r, struct trial_factors f, int64_t samples, unsigned long long *total) {
  GRID_BEGIN();
  const int64_t s = (int64_t)blockIdx.x * BLOCK + threadIdx.x;
  unsigned wrong = 0;
  if (s < samples) {
    const bool all = samples == r.rows * r.n;
    const philox4x32_ctr_t words = rng_block(3, RNG_SYNTHETIC, 0, 0, (uint64_t)s);
    const uint64_t drawn = (uint64_t)words.v[0] << 32 | words.v[1], other = (uint64_t)words.v[2] << 32 | words.v[3];
    const int64_t i = all ? s / r.n : (int64_t)(drawn % (uint64_t)r.rows);
    const int64_t j = all ? s % r.n : (int64_t)(other % (uint64_t)r.n);
    const double terms = (double)(f.k_end - f.k_begin) + 4;  // and alpha, the bias, a split's sum
    double exact = 0, products = 0, A_sum = 0, A_magnitude = 0;
    for (int64_t p = f.k_begin; p < f.k_end; p++) {
      const double a = (double)value_at(f.A.data, f.transpose_a ? p * f.A.ld + i : i * f.A.ld + p, f.A.element);
      const double b = (double)value_at(f.B.data, f.transpose_b ? j * f.B.ld + p : p * f.B.ld + j, f.B.element);
      exact += a * b;
      products += fabs(a * b);
      A_sum += a;
      A_magnitude += fabs(a);
    }
    const double bias = r.bias ? (double)value_at(r.bias, j, r.bias_element) : 0;
    double bound = sum_bound(f, terms, products, fabs(bias));
    exact += bias;
    if (r.relu) exact = exact > 0 ? exact : 0;
    if (r.mask && !r.mask_written && !bit_at(r, i, j)) exact = bound = 0;
    if (r.C.element == ELEMENT_BF16) bound += 0x1p-8 * (fabs(exact) + bound);
    const double c = (double)value_at(r.C.data, i * r.C.ld + j, r.C.element);
    wrong = !(fabs(c - exact) <= bound);
    if (f.A_sums) wrong |= !(fabs((double)f.A_sums[i] - A_sum) <= sum_bound(f, terms, A_magnitude, 0));
  }
  count_wrong(wrong, total);
}

cudaError_t launch_check(const struct trial_result *result, float value, unsigned long long wrong[2],
                         cudaStream_t stream) {
  const struct element_tiling t = tiling_of(result->rows, result->n, 1, 4);
  const cudaError_t error = cudaMemsetAsync(wrong, 0, 2 * sizeof *wrong, stream);
  return error != cudaSuccess ? error : LAUNCH(check_kernel, t.blocks, BLOCK, stream, *result, value, wrong, t);
}

cudaError_t launch_check_sums(struct device_matrix C, int64_t rows, int64_t n, const float *sums,
                              unsigned long long *wrong, cudaStream_t stream) {
  enum { GRID = 4096 };
  const cudaError_t error = cudaMemsetAsync(wrong, 0, sizeof *wrong, stream);
  const dim3 blocks(block_count(n, 1, GRID));
  return error != cudaSuccess ? error : LAUNCH(check_sums_kernel, blocks, BLOCK, stream, C, rows, n, sums, wrong);
}

cudaError_t launch_check_errors(const struct trial_result *result, const struct trial_factors *factors,
                                unsigned long long *wrong, cudaStream_t stream) {
  const int64_t rows = result->rows, n = result->n;
  const int64_t samples = rows * n < ERROR_SAMPLES ? rows * n : (int64_t)ERROR_SAMPLES;
  const cudaError_t error = cudaMemsetAsync(wrong, 0, sizeof *wrong, stream);
  const dim3 blocks(block_count(samples, BLOCK, ERROR_SAMPLES));
  return error != cudaSuccess ? error
                              : LAUNCH(check_errors_kernel, blocks, BLOCK, stream, *result, *factors, samples, wrong);
}
