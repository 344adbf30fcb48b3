// The losses with their gradients, from logits in the stable form; the output of predict; the running totals.
//
// LANES threads, one or a whole warp, process a row, COUNT neighbouring columns at a time. Each pass over the row
// (maximum, sum, gradient) reads it again, from the caches. A row's loss is computed in float32 and rows are summed in
// double: by thread, block, grid.
#include "common.cuh"

enum { NARROW = 16 };  // the most outputs of a row that one thread processes
enum { MOST_BLOCKS = 2048 };

static unsigned row_blocks(int64_t rows, int64_t n) {
  return block_count(rows, n <= NARROW ? BLOCK : BLOCK / WARP, MOST_BLOCKS);
}

template <int LANES>
static __device__ inline int64_t first_row(void) {
  return ((int64_t)blockIdx.x * BLOCK + threadIdx.x) / LANES;
}
template <int LANES>
static __device__ inline int64_t row_stride(void) {
  return (int64_t)gridDim.x * BLOCK / LANES;
}
template <int LANES>
static __device__ inline int64_t first_column(int count) {
  return (int64_t)(threadIdx.x % LANES) * count;
}

// Over the threads of a row.
template <int LANES>
static __device__ inline float row_sum(float x) {
  if constexpr (LANES == 1) return x;
  return warp_sum(x);
}
template <int LANES>
static __device__ inline float row_max(float x) {
#pragma unroll
  for (int distance = LANES / 2; distance > 0; distance /= 2) {
    const float other = __shfl_xor_sync(0xffffffffu, x, distance);
    x = other > x ? other : x;
  }
  return x;
}

// Stores columns of a row of the matrix, rounded to its element type.
template <int COUNT>
static __device__ inline void store_cells(struct device_matrix m, int64_t row, int64_t column,
                                          const float (&values)[COUNT]) {
  if (m.element == ELEMENT_F32)
    store_values<ELEMENT_F32, COUNT>((float *)m.data + row * m.ld + column, values);
  else
    store_values<ELEMENT_BF16, COUNT>((uint16_t *)m.data + row * m.ld + column, values);
}

// ---- softmax ----

// Of one row: the maximum, the sum of exp(z - max) and, if requested, of max - z. A NaN in the row makes the sum NaN.
struct exponentials {
  float max, sum, distances;
};

template <int LANES, int COUNT, enum element ELEMENT>
static __device__ inline struct exponentials exponentials_of(const typename Element<ELEMENT>::type *z, int64_t n,
                                                             bool distances) {
  struct exponentials e = {-INFINITY, 0.0f, 0.0f};
  float values[COUNT];
#pragma unroll 4
  for (int64_t k = first_column<LANES>(COUNT); k < n; k += LANES * COUNT) {
    load_values<ELEMENT, COUNT>(z + k, values);
#pragma unroll
    for (int i = 0; i < COUNT; i++) e.max = values[i] > e.max ? values[i] : e.max;
  }
  e.max = row_max<LANES>(e.max);
#pragma unroll 4
  for (int64_t k = first_column<LANES>(COUNT); k < n; k += LANES * COUNT) {
    load_values<ELEMENT, COUNT>(z + k, values);
#pragma unroll
    for (int i = 0; i < COUNT; i++) {
      e.sum += formula_exp(values[i] - e.max);
      if (distances) e.distances += e.max - values[i];
    }
  }
  e.sum = row_sum<LANES>(e.sum);
  if (distances) e.distances = row_sum<LANES>(e.distances);
  return e;
}

// ---- the losses of one row: dZ = dL/dZ times a factor, and the thread's share of the sum of w L ----

// 1 / sum w in float32, without the double product per row of kernels_loss.h. w / sum w is rounded three times: the
// sum, its inverse, the product. Powers of two keep all three in float32's range.
struct inverse_weight_sum {
  float scale, inverse;
};

static __device__ inline struct inverse_weight_sum inverse_of(double weight_sum) {
  if (weight_sum == 0) return {0.0f, 0.0f};
  const float size = fabsf((float)weight_sum), scale = size > 0x1p96f ? 0x1p-64f : size < 0x1p-96f ? 0x1p64f : 1.0f;
  return {scale, 1.0f / (float)(weight_sum * (double)scale)};
}
static __device__ inline float weight_share(const struct inverse_weight_sum &inverse_weight_sum, float w) {
  return w * inverse_weight_sum.scale * inverse_weight_sum.inverse;
}

template <enum element ELEMENT>
static __device__ inline double binary_loss(const struct loss_launch &l, int64_t row,
                                            const struct inverse_weight_sum &inverse_weight_sum) {
  const float t = formula_binary_target_f32(l.y[row], l.label_smoothing), w = l.w[row];
  const float z = Element<ELEMENT>::load((const typename Element<ELEMENT>::type *)l.A.data + row * l.A.ld);
  if (l.dZ.data) {
    const float dZ[1] = {formula_cross_entropy_slope(formula_sigmoid(z), t, weight_share(inverse_weight_sum, w))};
    store_cells(l.dZ, row, 0, dZ);
  }
  return (double)w * (double)formula_binary_loss_f32(z, t, formula_softplus_tail(z));
}

static __device__ inline double softmax_row_loss(const struct exponentials &e, float z_y, float s, int64_t n) {
  const float log_sum = formula_log(e.sum), mean_distance = e.distances / (float)n;
  const float L = formula_softmax_loss_f32(log_sum, e.max - z_y, mean_distance, s);
  if (is_finite(L)) return (double)L;
  const double distance = (double)e.max - (double)z_y;  // may exceed the range of float32
  return formula_softmax_loss_f64((double)log_sum, distance, (double)mean_distance, (double)s);
}

template <int LANES, int COUNT, enum element ELEMENT>
static __device__ inline double softmax_loss(const struct loss_launch &l, int64_t row,
                                             const struct inverse_weight_sum &inverse_weight_sum) {
  typedef typename Element<ELEMENT>::type type;
  const type *z = (const type *)l.A.data + row * l.A.ld;
  const float s = l.label_smoothing, y = l.y[row], w = l.w[row];
  const int64_t label = y >= 0.0f && y < (float)l.n ? (int64_t)y : 0;
  const struct exponentials e = exponentials_of<LANES, COUNT, ELEMENT>(z, l.n, s > 0.0f);
  if (l.dZ.data) {
    const float q_label = formula_class_target_f32(true, s, (float)l.n);
    const float q_other = formula_class_target_f32(false, s, (float)l.n);
    const float inverse = 1.0f / e.sum, f = weight_share(inverse_weight_sum, w);
    for (int64_t k = first_column<LANES>(COUNT); k < l.n; k += LANES * COUNT) {
      float values[COUNT];
      load_values<ELEMENT, COUNT>(z + k, values);
#pragma unroll
      for (int i = 0; i < COUNT; i++)
        values[i] = formula_cross_entropy_slope(formula_exp(values[i] - e.max) * inverse,
                                                k + i == label ? q_label : q_other, f);
      store_cells(l.dZ, row, k, values);
    }
  }
  if (threadIdx.x % LANES != 0) return 0;
  return (double)w * softmax_row_loss(e, Element<ELEMENT>::load(z + label), s, l.n);
}

// n L = sum_k (a_k - y_k)^2; SLOPED: the output's activation is not the identity.
template <int LANES, int COUNT, enum element ELEMENT, bool SLOPED>
static __device__ inline double squared_loss(const struct loss_launch &l, int64_t row,
                                             const struct inverse_weight_sum &inverse_weight_sum) {
  typedef typename Element<ELEMENT>::type type;
  const type *a = (const type *)l.A.data + row * l.A.ld, *z = (const type *)l.Z.data + row * l.Z.ld;
  const float *y = l.y + row * l.n;
  const float w = l.w[row], f = weight_share(inverse_weight_sum, w) * (2.0f / (float)l.n);
  const bool from_z = slope_is_from_z(l.activation);
  float sum = 0.0f;
  double outside = 0;  // the squares whose sum may exceed the range of float32
#pragma unroll 2
  for (int64_t k = first_column<LANES>(COUNT); k < l.n; k += LANES * COUNT) {
    float values[COUNT], targets[COUNT], errors[COUNT], dZ[COUNT], squares = 0.0f;
    load_values<ELEMENT, COUNT>(a + k, values);
    load_values<ELEMENT_F32, COUNT>(y + k, targets);
#pragma unroll
    for (int i = 0; i < COUNT; i++) {
      errors[i] = values[i] - targets[i];
      squares = fmaf(errors[i], errors[i], squares);
      dZ[i] = errors[i] * f;
    }
    if (squares <= 0x1p96f) {
      sum += squares;
    } else {
#pragma unroll
      for (int i = 0; i < COUNT; i++) outside += (double)errors[i] * (double)errors[i];
    }
    if (!l.dZ.data) continue;
    if (SLOPED && from_z) load_values<ELEMENT, COUNT>(z + k, values);
#pragma unroll
    for (int i = 0; SLOPED && i < COUNT; i++) dZ[i] *= formula_slope(l.activation, values[i]);
    store_cells(l.dZ, row, k, dZ);
  }
  return (double)w * ((double)sum + outside);
}

// ---- all rows ----

enum { BINARY, SOFTMAX, SQUARED, SQUARED_SLOPED };

template <int LANES, int COUNT>
static __device__ inline void clear_row(struct device_matrix dZ, int64_t row, int64_t n) {
  const float zeros[COUNT] = {};
  for (int64_t k = first_column<LANES>(COUNT); k < n; k += LANES * COUNT) store_cells(dZ, row, k, zeros);
}

// Blocks of BLOCK, grid stride over rows.
template <int LOSS, int LANES, int COUNT, enum element ELEMENT>
static __global__ void __launch_bounds__(BLOCK, 4) loss_kernel(struct loss_launch l) {
  GRID_BEGIN();
  const double weight_sum = l.scalars[SCALAR_WEIGHT_SUM];
  const struct inverse_weight_sum inverse_weight_sum = inverse_of(weight_sum);
  const int64_t valid = l.state->current.rows;
  double total = 0;
  for (int64_t row = first_row<LANES>(); row < l.rows; row += row_stride<LANES>()) {
    if (row >= valid) {
      if (l.dZ.data) clear_row<LANES, COUNT>(l.dZ, row, l.n);
      continue;
    }
    if constexpr (LOSS == BINARY)
      total += binary_loss<ELEMENT>(l, row, inverse_weight_sum);
    else if constexpr (LOSS == SOFTMAX)
      total += softmax_loss<LANES, COUNT, ELEMENT>(l, row, inverse_weight_sum);
    else
      total += squared_loss<LANES, COUNT, ELEMENT, LOSS == SQUARED_SLOPED>(l, row, inverse_weight_sum);
  }
  double sum;
  if (!grid_sum(total, l.scratch, &sum) || threadIdx.x != 0) return;
  if (LOSS == SQUARED || LOSS == SQUARED_SLOPED) sum /= (double)l.n;
  l.scalars[SCALAR_LOSS] = weight_sum == 0 ? 0 : sum / weight_sum;
}

size_t loss_scratch(int64_t rows, int64_t n) { return row_blocks(rows, n) * sizeof(double); }

// Launches an instance with one thread or a warp per row; a warp accesses one element at a time or four.
#define SINGLE(kernel, what, l) \
  LAUNCH((kernel<what, 1, 1, ELEMENT>), row_blocks((l)->rows, (l)->n), BLOCK, stream, *(l))
#define WARPS(kernel, what, count, l) \
  LAUNCH((kernel<what, WARP, count, ELEMENT>), row_blocks((l)->rows, (l)->n), BLOCK, stream, *(l))
#define ROWS(kernel, what, wide, l) \
  ((l)->n <= NARROW ? SINGLE(kernel, what, l) : wide ? WARPS(kernel, what, 4, l) : WARPS(kernel, what, 1, l))

template <enum element ELEMENT>
static cudaError_t launch_loss_of(const struct loss_launch *l, cudaStream_t stream) {
  const bool wide = l->n % 4 == 0 && is_aligned(l->A, 4) && is_aligned(l->Z, 4) && is_aligned(l->dZ, 4);
  switch (l->loss) {
    case DESCENT_LOSS_BINARY_CROSS_ENTROPY: return SINGLE(loss_kernel, BINARY, l);
    case DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY: return ROWS(loss_kernel, SOFTMAX, wide, l);
    case DESCENT_LOSS_MEAN_SQUARED_ERROR: break;
  }
  if (l->activation == DESCENT_ACTIVATION_IDENTITY) return ROWS(loss_kernel, SQUARED, wide, l);
  return ROWS(loss_kernel, SQUARED_SLOPED, wide, l);
}

cudaError_t launch_loss(const struct loss_launch *l, cudaStream_t stream) {
  if (l->Z.data && l->Z.element != l->A.element) return cudaErrorInvalidValue;
  return l->A.element == ELEMENT_F32 ? launch_loss_of<ELEMENT_F32>(l, stream) : launch_loss_of<ELEMENT_BF16>(l, stream);
}

// ---- dZ from dA ----

// A thread per element; outputs are few.
template <enum element FROM, enum element TO>
static __global__ void __launch_bounds__(BLOCK) backward_output_kernel(struct backward_output_launch l) {
  GRID_BEGIN();
  const bool from_z = slope_is_from_z(l.activation), linear = l.activation == DESCENT_ACTIVATION_IDENTITY;
  const struct device_matrix from = from_z ? l.Z : l.A;
  const int64_t valid = l.state->current.rows, count = l.rows * l.n, stride = (int64_t)gridDim.x * BLOCK;
  for (int64_t i = (int64_t)blockIdx.x * BLOCK + threadIdx.x; i < count; i += stride) {
    const int64_t row = i / l.n, k = i % l.n;
    float d = 0.0f;
    if (row < valid) {
      const float x =
          linear ? 0.0f : Element<FROM>::load((const typename Element<FROM>::type *)from.data + row * from.ld + k);
      d = l.dA[i] * formula_slope(l.activation, x);
    }
    Element<TO>::store((typename Element<TO>::type *)l.dZ.data + row * l.dZ.ld + k, d);
  }
}

template <enum element FROM>
static cudaError_t launch_backward_output_of(const struct backward_output_launch *l, cudaStream_t stream) {
  const unsigned blocks = block_count(l->rows * l->n, BLOCK, 4096);
  return l->dZ.element == ELEMENT_F32 ? LAUNCH((backward_output_kernel<FROM, ELEMENT_F32>), blocks, BLOCK, stream, *l)
                                      : LAUNCH((backward_output_kernel<FROM, ELEMENT_BF16>), blocks, BLOCK, stream, *l);
}

cudaError_t launch_backward_output(const struct backward_output_launch *l, cudaStream_t stream) {
  return l->A.element == ELEMENT_F32 ? launch_backward_output_of<ELEMENT_F32>(l, stream)
                                     : launch_backward_output_of<ELEMENT_BF16>(l, stream);
}

// ---- output ----

template <int LOSS, int LANES, int COUNT, enum element ELEMENT>
static __global__ void __launch_bounds__(BLOCK, 4) output_kernel(struct output_launch l) {
  GRID_BEGIN();
  typedef typename Element<ELEMENT>::type type;
  const int64_t valid = l.state->current.rows, rows = valid < l.rows ? valid : l.rows;
  for (int64_t row = first_row<LANES>(); row < rows; row += row_stride<LANES>()) {
    const type *a = (const type *)l.A.data + row * l.A.ld;
    struct exponentials e = {};
    if (LOSS == SOFTMAX) e = exponentials_of<LANES, COUNT, ELEMENT>(a, l.n, false);
    for (int64_t k = first_column<LANES>(COUNT); k < l.n; k += LANES * COUNT) {
      float values[COUNT];
      load_values<ELEMENT, COUNT>(a + k, values);
#pragma unroll
      for (int i = 0; i < COUNT; i++) {
        if (LOSS == BINARY) values[i] = formula_sigmoid(values[i]);
        if (LOSS == SOFTMAX) values[i] = formula_exp(values[i] - e.max) / e.sum;
        if (LOSS == SQUARED)
          values[i] =
              formula_denormalise(values[i], l.y_shift ? l.y_shift[k + i] : 0.0f, l.y_scale ? l.y_scale[k + i] : 1.0f);
      }
      store_values<ELEMENT_F32, COUNT>(l.P + row * l.n + k, values);
    }
  }
}

template <enum element ELEMENT>
static cudaError_t launch_output_of(const struct output_launch *l, cudaStream_t stream) {
  const bool wide = l->n % 4 == 0 && is_aligned(l->A, 4);
  switch (l->loss) {
    case DESCENT_LOSS_BINARY_CROSS_ENTROPY: return SINGLE(output_kernel, BINARY, l);
    case DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY: return ROWS(output_kernel, SOFTMAX, wide, l);
    case DESCENT_LOSS_MEAN_SQUARED_ERROR: break;
  }
  return ROWS(output_kernel, SQUARED, wide, l);
}

cudaError_t launch_output(const struct output_launch *l, cudaStream_t stream) {
  return l->A.element == ELEMENT_F32 ? launch_output_of<ELEMENT_F32>(l, stream)
                                     : launch_output_of<ELEMENT_BF16>(l, stream);
}

// ---- metrics ----

// One thread.
static __global__ void metrics_kernel(double *scalars) {
  GRID_BEGIN();
  if (scalars[SCALAR_BAD_STEP] != 0) return;
  scalars[SCALAR_TOTAL_LOSS] += scalars[SCALAR_LOSS] * scalars[SCALAR_WEIGHT_SUM];
  scalars[SCALAR_TOTAL_WEIGHT] += scalars[SCALAR_WEIGHT_SUM];
}

cudaError_t launch_metrics(double *scalars, cudaStream_t stream) {
  return LAUNCH(metrics_kernel, 1, 1, stream, scalars);
}
