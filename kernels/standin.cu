// Dense operations in one kernel, element by element: correct, and slow.
#include "common.cuh"

#ifndef GRID_BEGIN
#define GRID_BEGIN()
#endif

enum { VARIANTS = 2 };  // 0 adds in ascending order, 1 in descending order

struct operand {
  const void *data;
  int64_t ld;
  bool bf16;
};

static struct operand operand_of(struct device_matrix m) { return {m.data, m.ld, m.element == ELEMENT_BF16}; }

static __device__ inline float at(const struct operand &m, int64_t i, int64_t j) {
  return m.bf16 ? bf16_value(((const uint16_t *)m.data)[i * m.ld + j]) : ((const float *)m.data)[i * m.ld + j];
}

// As a tensor core reads a factor.
static __device__ inline float factor(float x, bool tf32) {
  return tf32 ? float_from_bits(float_bits(x) & 0xffffe000u) : x;
}

static __device__ inline void put(const struct device_matrix &m, int64_t i, int64_t j, float x) {
  if (m.element == ELEMENT_BF16)
    ((uint16_t *)m.data)[i * m.ld + j] = bf16_bits(x);
  else
    ((float *)m.data)[i * m.ld + j] = x;
}

static __global__ void forward_kernel(struct fused_forward_launch l, struct operand A_in, struct operand W) {
  GRID_BEGIN();
  const int64_t e = (int64_t)blockIdx.x * BLOCK + threadIdx.x, i = e / l.pass.n, j = e % l.pass.n;
  if (i >= l.pass.rows) return;
  float z = 0;
  for (int64_t k = 0; k < l.n_in; k++) {
    const int64_t p = l.variant ? l.n_in - 1 - k : k;
    z += factor(at(A_in, i, p), l.tf32) * factor(at(W, j, p), l.tf32);
  }
  const struct operand bias = {l.pass.bias, 0, l.pass.bias_element == ELEMENT_BF16};
  z += at(bias, 0, j);
  if (l.pass.Z.data) put(l.pass.Z, i, j, z);
  float a = formula_activate(l.pass.activation, z);
  if (l.pass.threshold)
    a = rng_keep(l.pass.seed, l.pass.layer, (uint64_t)l.pass.state->current.number, (uint64_t)e, l.pass.threshold)
            ? a * l.pass.dropout_scale
            : 0.0f;
  put(l.pass.A, i, j, a);
}

static __global__ void input_kernel(struct fused_input_launch l, struct operand dZ_above, struct operand W,
                                    struct operand from) {
  GRID_BEGIN();
  const int64_t e = (int64_t)blockIdx.x * BLOCK + threadIdx.x, i = e / l.pass.n, j = e % l.pass.n;
  if (i >= l.pass.rows) return;
  float d = 0;
  for (int64_t k = 0; k < l.n_out; k++) {
    const int64_t p = l.variant ? l.n_out - 1 - k : k;
    d += factor(at(dZ_above, i, p), l.tf32) * factor(at(W, p, j), l.tf32);
  }
  const bool from_z = slope_is_from_z(l.pass.activation);
  if (l.pass.activation != DESCENT_ACTIVATION_IDENTITY)
    d *= formula_slope(l.pass.activation,
                       at(from, i, j) * (from_z || !l.pass.threshold ? 1.0f : l.pass.keep_probability));
  if (l.pass.threshold)
    d = rng_keep(l.pass.seed, l.pass.layer, (uint64_t)l.pass.state->current.number, (uint64_t)e, l.pass.threshold)
            ? d * l.pass.dropout_scale
            : 0.0f;
  put(l.pass.dZ, i, j, d);
}

// The rows are in two slices, whose partial sums of (n_out, n_in + 1) have the bias gradient in their last column.
static __global__ void weights_kernel(struct weights_launch l, struct operand dZ, struct operand A_in) {
  GRID_BEGIN();
  const int64_t e = (int64_t)blockIdx.x * BLOCK + threadIdx.x, columns = l.n_in + 1, each = l.n_out * columns;
  const int64_t slice = e / each, o = e % each / columns, j = e % columns, half = l.rows / 2;
  if (slice >= 2) return;
  float sum = 0;
  for (int64_t r = slice ? half : 0; r < (slice ? l.rows : half); r++)
    sum += j < l.n_in ? factor(at(dZ, r, o), l.tf32) * factor(at(A_in, r, j), l.tf32) : at(dZ, r, o);
  ((float *)l.scratch.partials)[e] = sum;
}

static __global__ void add_kernel(struct weights_launch l) {
  GRID_BEGIN();
  const int64_t e = (int64_t)blockIdx.x * BLOCK + threadIdx.x, columns = l.n_in + 1, each = l.n_out * columns;
  const int64_t o = e / columns, j = e % columns;
  if (o >= l.n_out) return;
  const float *partials = (const float *)l.scratch.partials;
  const float sum = l.variant ? partials[each + e] + partials[e] : partials[e] + partials[each + e];
  if (j < l.n_in)
    l.gradient[o * l.ld + j] = sum;
  else
    l.bias_gradient[o] = sum;
}

static unsigned blocks_of(int64_t count) { return (unsigned)((count + BLOCK - 1) / BLOCK); }

int fused_forward_variants(const struct fused_forward_launch *) { return VARIANTS; }
int fused_input_variants(const struct fused_input_launch *) { return VARIANTS; }
int weights_variants(const struct weights_launch *) { return VARIANTS; }
size_t fused_input_scratch(int64_t rows, int64_t n) { return column_sums_scratch(rows, n); }
size_t weights_scratch(int64_t, int64_t n_in, int64_t n_out) {
  return 2 * (size_t)n_out * (size_t)(n_in + 1) * sizeof(float);
}

cudaError_t launch_fused_forward(const struct fused_forward_launch *l, cudaStream_t stream) {
  return LAUNCH(forward_kernel, blocks_of(l->pass.rows * l->pass.n), BLOCK, stream, *l, operand_of(l->A_in),
                operand_of(l->W));
}

cudaError_t launch_fused_input(const struct fused_input_launch *l, cudaStream_t stream) {
  const struct operand from = operand_of(slope_is_from_z(l->pass.activation) ? l->pass.Z : l->pass.A);
  const cudaError_t error = LAUNCH(input_kernel, blocks_of(l->pass.rows * l->pass.n), BLOCK, stream, *l,
                                   operand_of(l->dZ_above), operand_of(l->W), from);
  if (error != cudaSuccess || !l->pass.bias_gradient) return error;
  return launch_column_sums(l->pass.dZ, l->pass.rows, l->pass.n, l->pass.bias_gradient, l->pass.scratch, stream);
}

cudaError_t launch_weights(const struct weights_launch *l, cudaStream_t stream) {
  const int64_t each = l->n_out * (l->n_in + 1);
  const cudaError_t error =
      LAUNCH(weights_kernel, blocks_of(2 * each), BLOCK, stream, *l, operand_of(l->dZ), operand_of(l->A_in));
  return error != cudaSuccess ? error : LAUNCH(add_kernel, blocks_of(each), BLOCK, stream, *l);
}
