// The losses with their gradients, from logits in the stable form; the output of predict; the running totals.
//
// A row's loss is computed in float32 and rows are summed in double: by thread, block, grid.
#include "softmax.cuh"

enum { NARROW = 16 };  // the most outputs of a row that one thread processes
enum { MOST_BLOCKS = 2048 };

static unsigned row_blocks(int64_t rows, int64_t n) {
  return block_count(rows, n <= NARROW ? BLOCK : BLOCK / WARP, MOST_BLOCKS);
}

// The threads of a softmax's row; up to 16 columns a thread are in registers.
static int softmax_lanes(int64_t n) { return n <= 16 ? 4 : n <= 64 ? 8 : n <= 256 ? 16 : n <= 1024 ? WARP : BLOCK; }
static unsigned softmax_blocks(int64_t rows, int64_t n) {
  return block_count(rows, BLOCK / softmax_lanes(n), MOST_BLOCKS);
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

// Stores columns of a row of the matrix, rounded to its element type.
template <int COUNT>
static __device__ inline void store_cells(struct device_matrix m, int64_t row, int64_t column,
                                          const float (&values)[COUNT]) {
  if (m.element == ELEMENT_F32)
    store_values<ELEMENT_F32, COUNT>((float *)m.data + row * m.ld + column, values);
  else
    store_values<ELEMENT_BF16, COUNT>((uint16_t *)m.data + row * m.ld + column, values);
}

// The end of a loss's kernel: the scalar, from the threads' sums of w L.
static __device__ inline void finish_loss(const struct loss_launch &l, double divisor, double total,
                                          double weight_sum) {
  double sum;
  if (!grid_sum(total, l.scratch, &sum) || threadIdx.x != 0) return;
  l.scalars[SCALAR_LOSS] = weight_sum == 0 ? 0 : sum / divisor / weight_sum;
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

// ---- softmax ----

static __device__ inline double softmax_row_loss(const struct softmax_row &row, float z_y, float s, int n) {
  const float log_sum = formula_log(row.sum), mean_distance = row.distances / (float)n;
  const float L = formula_softmax_loss_f32(log_sum, row.max - z_y, mean_distance, s);
  if (is_finite(L)) return (double)L;
  const double distance = (double)row.max - (double)z_y;  // may exceed the range of float32
  return formula_softmax_loss_f64((double)log_sum, distance, (double)mean_distance, (double)s);
}

// What the gradient of a row needs beside its probabilities.
struct softmax_targets {
  int label;
  float q_label, q_other, f;
};

template <bool FULL>
static __device__ inline void store_chunk(struct device_matrix m, int64_t row, int column, int n, bool wide,
                                          const float (&values)[CHUNK]) {
  if (FULL || (wide && column + CHUNK <= n)) {
    store_cells(m, row, column, values);
  } else {
#pragma unroll
    for (int i = 0; i < CHUNK; i++) {
      const float value[1] = {values[i]};
      if (column + i < n) store_cells(m, row, column + i, value);
    }
  }
}

// dZ of a chunk's columns from their scaled exponentials.
template <bool FULL>
static __device__ inline void store_slopes(struct device_matrix dZ, int64_t row, int column, int n, bool wide,
                                           const float (&e)[CHUNK], float inverse, const struct softmax_targets &t) {
  float values[CHUNK];
#pragma unroll
  for (int i = 0; i < CHUNK; i++)
    values[i] = formula_cross_entropy_slope(e[i] * inverse, column + i == t.label ? t.q_label : t.q_other, t.f);
  store_chunk<FULL>(dZ, row, column, n, wide, values);
}

// Blocks of BLOCK, grid stride over BLOCK / LANES rows. CHUNKS 0: rows of any length.
template <int LANES, int CHUNKS, bool FULL, enum element ELEMENT>
static __global__ void __launch_bounds__(BLOCK, 4) softmax_kernel(struct loss_launch l) {
  typedef typename Element<ELEMENT>::type type;
  enum { ROWS = BLOCK / LANES };
  const double weight_sum = l.scalars[SCALAR_WEIGHT_SUM];
  const struct inverse_weight_sum inverse_weight_sum = inverse_of(weight_sum);
  const int64_t valid = l.state->current.rows, rows = valid < l.rows ? valid : l.rows;
  const int n = (int)l.n;
  const bool wide = l.A.ld % CHUNK == 0 && l.dZ.ld % CHUNK == 0;
  const float s = l.label_smoothing;
  struct softmax_targets t;
  t.q_label = formula_class_target_f32(true, s, (float)n), t.q_other = formula_class_target_f32(false, s, (float)n);
  double total = 0;
  for (int64_t first = (int64_t)blockIdx.x * ROWS; first < rows; first += (int64_t)gridDim.x * ROWS) {
    const int group = (int)threadIdx.x / LANES;
    const bool inside = group < rows - first;
    const int64_t row = first + (inside ? group : 0);
    const type *z = (const type *)l.A.data + row * l.A.ld;
    const float y = l.y[row], w = l.w[row];
    float e[CHUNKS > 0 ? CHUNKS : 1][CHUNK];
    struct softmax_row softmax;
    if constexpr (CHUNKS > 0) {
      load_row<LANES, CHUNKS, FULL, ELEMENT>(z, n, wide, e);
      softmax = exponentials_of<LANES, CHUNKS, FULL>(e, n, s > 0.0f);
    } else {
      softmax = exponentials_of_long<LANES, ELEMENT>(z, n, wide, s > 0.0f);
    }
    t.label = y >= 0.0f && y < (float)n ? (int)y : 0;
    if (inside && row_member<LANES>() == 0)
      total += (double)w * softmax_row_loss(softmax, Element<ELEMENT>::load(z + t.label), s, n);
    t.f = weight_share(inverse_weight_sum, w);
    if (!inside || !l.dZ.data) {
    } else if constexpr (CHUNKS > 0) {
#pragma unroll
      for (int j = 0; j < CHUNKS; j++)
        if (has_chunk<LANES, FULL>(j, n))
          store_slopes<FULL>(l.dZ, row, chunk_column<LANES>(j), n, wide, e[j], softmax.inverse, t);
    } else {
      for (int column = chunk_column<LANES>(0); column < n; column += LANES * CHUNK) {
        load_chunk<FULL, ELEMENT>(z, column, n, wide, e[0]);
#pragma unroll
        for (int i = 0; i < CHUNK; i++) e[0][i] = formula_scaled_exp(e[0][i] - softmax.max);
        store_slopes<FULL>(l.dZ, row, column, n, wide, e[0], softmax.inverse, t);
      }
    }
  }
  for (int64_t row = rows + blockIdx.x * ROWS + (int)threadIdx.x / LANES; l.dZ.data && row < l.rows;
       row += (int64_t)gridDim.x * ROWS) {
    const float zeros[CHUNK] = {};
    for (int column = chunk_column<LANES>(0); column < n; column += LANES * CHUNK)
      store_chunk<false>(l.dZ, row, column, n, wide, zeros);
  }
  finish_loss(l, 1, total, weight_sum);
}

// ---- the other losses: all rows ----

enum { BINARY, SQUARED, SQUARED_SLOPED };

template <int LANES, int COUNT>
static __device__ inline void clear_row(struct device_matrix dZ, int64_t row, int64_t n) {
  const float zeros[COUNT] = {};
  for (int64_t k = first_column<LANES>(COUNT); k < n; k += LANES * COUNT) store_cells(dZ, row, k, zeros);
}

// Blocks of BLOCK, grid stride over rows.
template <int LOSS, int LANES, int COUNT, enum element ELEMENT>
static __global__ void __launch_bounds__(BLOCK, 4) loss_kernel(struct loss_launch l) {
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
    else
      total += squared_loss<LANES, COUNT, ELEMENT, LOSS == SQUARED_SLOPED>(l, row, inverse_weight_sum);
  }
  finish_loss(l, LOSS == BINARY ? 1 : (double)l.n, total, weight_sum);
}

size_t loss_scratch(int64_t rows, int64_t n) {  // of any loss
  const unsigned blocks = row_blocks(rows, n), softmax = softmax_blocks(rows, n);
  return (blocks > softmax ? blocks : softmax) * sizeof(double);
}

// Calls INSTANCE(lanes, chunks, full) with the lanes of softmax_lanes. A bf16 row is as wide as can be by chance only.
#define LONG_ROW 4096
#define SOFTMAX_ROWS(INSTANCE, n, aligned)                                                             \
  ((n) <= 16     ? (n) == 16 && (aligned) ? INSTANCE(4, 1, true) : INSTANCE(4, 1, false)               \
       : (n) <= 64 ? (n) == 64 && (aligned) ? INSTANCE(8, 2, true) : INSTANCE(8, 2, false)             \
       : (n) <= 256 ? (n) == 256 && (aligned) ? INSTANCE(16, 4, true) : INSTANCE(16, 4, false)         \
       : (n) <= 1024 ? (n) == 1024 && (aligned) ? INSTANCE(WARP, 8, true) : INSTANCE(WARP, 8, false)   \
       : (n) <= 4096 ? (n) == 4096 && (aligned) ? INSTANCE(BLOCK, 4, true) : INSTANCE(BLOCK, 4, false) \
                     : INSTANCE(BLOCK, 0, false))

// Launches an instance with one thread or a warp per row; a warp accesses one element at a time or four.
#define SINGLE(kernel, what, l) \
  LAUNCH((kernel<what, 1, 1, ELEMENT>), row_blocks((l)->rows, (l)->n), BLOCK, stream, *(l))
#define WARPS(kernel, what, count, l) \
  LAUNCH((kernel<what, WARP, count, ELEMENT>), row_blocks((l)->rows, (l)->n), BLOCK, stream, *(l))
#define ROWS(kernel, what, wide, l) \
  ((l)->n <= NARROW ? SINGLE(kernel, what, l) : wide ? WARPS(kernel, what, 4, l) : WARPS(kernel, what, 1, l))

template <enum element ELEMENT>
static cudaError_t launch_loss_of(const struct loss_launch *l, cudaStream_t stream) {
  const bool aligned = is_aligned(l->A, 4) && is_aligned(l->Z, 4) && is_aligned(l->dZ, 4),
             wide = l->n % 4 == 0 && aligned;
  switch (l->loss) {
    case DESCENT_LOSS_BINARY_CROSS_ENTROPY: return SINGLE(loss_kernel, BINARY, l);
    case DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY: {
#define INSTANCE(lanes, chunks, full) \
  LAUNCH((softmax_kernel<lanes, chunks, full, ELEMENT>), softmax_blocks(l->rows, l->n), BLOCK, stream, *l)
      return SOFTMAX_ROWS(INSTANCE, l->n, aligned);
#undef INSTANCE
    }
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
  typedef typename Element<ELEMENT>::type type;
  const int64_t valid = l.state->current.rows, rows = valid < l.rows ? valid : l.rows;
  for (int64_t row = first_row<LANES>(); row < rows; row += row_stride<LANES>()) {
    const type *a = (const type *)l.A.data + row * l.A.ld;
    for (int64_t k = first_column<LANES>(COUNT); k < l.n; k += LANES * COUNT) {
      float values[COUNT];
      load_values<ELEMENT, COUNT>(a + k, values);
#pragma unroll
      for (int i = 0; i < COUNT; i++) {
        if (LOSS == BINARY) values[i] = formula_sigmoid(values[i]);
        if (LOSS == SQUARED)
          values[i] =
              formula_denormalise(values[i], l.y_shift ? l.y_shift[k + i] : 0.0f, l.y_scale ? l.y_scale[k + i] : 1.0f);
      }
      store_values<ELEMENT_F32, COUNT>(l.P + row * l.n + k, values);
    }
  }
}

// As softmax_kernel.
template <int LANES, int CHUNKS, bool FULL, enum element ELEMENT>
static __global__ void __launch_bounds__(BLOCK, 4) output_softmax_kernel(struct output_launch l) {
  typedef typename Element<ELEMENT>::type type;
  enum { ROWS = BLOCK / LANES };
  const int64_t valid = l.state->current.rows, rows = valid < l.rows ? valid : l.rows;
  const struct device_matrix P = {l.P, l.n, ELEMENT_F32};
  const int n = (int)l.n;
  const bool wide = l.A.ld % CHUNK == 0 && n % CHUNK == 0;
  for (int64_t first = (int64_t)blockIdx.x * ROWS; first < rows; first += (int64_t)gridDim.x * ROWS) {
    const int group = (int)threadIdx.x / LANES;
    const bool inside = group < rows - first;
    const int64_t row = first + (inside ? group : 0);
    const type *z = (const type *)l.A.data + row * l.A.ld;
    if constexpr (CHUNKS > 0) {
      float e[CHUNKS][CHUNK];
      load_row<LANES, CHUNKS, FULL, ELEMENT>(z, n, wide, e);
      const struct softmax_row softmax = exponentials_of<LANES, CHUNKS, FULL>(e, n, false);
#pragma unroll
      for (int j = 0; j < CHUNKS; j++) {
#pragma unroll
        for (int i = 0; i < CHUNK; i++) e[j][i] *= softmax.inverse;
        if (inside && has_chunk<LANES, FULL>(j, n)) store_chunk<FULL>(P, row, chunk_column<LANES>(j), n, wide, e[j]);
      }
    } else {
      const struct softmax_row softmax = exponentials_of_long<LANES, ELEMENT>(z, n, wide, false);
      for (int column = chunk_column<LANES>(0); column < n; column += LANES * CHUNK) {
        float e[CHUNK];
        load_chunk<FULL, ELEMENT>(z, column, n, wide, e);
#pragma unroll
        for (int i = 0; i < CHUNK; i++) e[i] = formula_scaled_exp(e[i] - softmax.max) * softmax.inverse;
        store_chunk<FULL>(P, row, column, n, wide, e);
      }
    }
  }
}

template <enum element ELEMENT>
static cudaError_t launch_output_of(const struct output_launch *l, cudaStream_t stream) {
  const bool wide = l->n % 4 == 0 && is_aligned(l->A, 4);
  switch (l->loss) {
    case DESCENT_LOSS_BINARY_CROSS_ENTROPY: return SINGLE(output_kernel, BINARY, l);
    case DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY: {
#define INSTANCE(lanes, chunks, full) \
  LAUNCH((output_softmax_kernel<lanes, chunks, full, ELEMENT>), softmax_blocks(l->rows, l->n), BLOCK, stream, *l)
      return SOFTMAX_ROWS(INSTANCE, l->n, wide);
#undef INSTANCE
    }
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
  if (scalars[SCALAR_BAD_STEP] != 0) return;
  scalars[SCALAR_TOTAL_LOSS] += scalars[SCALAR_LOSS] * scalars[SCALAR_WEIGHT_SUM];
  scalars[SCALAR_TOTAL_WEIGHT] += scalars[SCALAR_WEIGHT_SUM];
}

cudaError_t launch_metrics(double *scalars, cudaStream_t stream) {
  return LAUNCH(metrics_kernel, 1, 1, stream, scalars);
}
