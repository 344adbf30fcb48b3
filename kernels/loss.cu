// The losses with their gradients, from logits in the stable form; the output of predict.
//
// A row's loss is computed in float32 and rows are summed in double: by thread, block, grid.
#include "loss.cuh"

enum { MOST_BLOCKS = 2048 };

// Blocks of BLOCK that have `lanes` threads for a row.
static unsigned row_blocks(int64_t rows, int lanes) { return block_count(rows, BLOCK / lanes, MOST_BLOCKS); }
size_t loss_scratch(int64_t rows) { return row_blocks(rows, BLOCK) * sizeof(double); }  // of any loss

template <int LANES>
static __device__ inline int64_t first_row(void) {
  return ((int64_t)blockIdx.x * BLOCK + threadIdx.x) / LANES;
}
template <int LANES>
static __device__ inline int64_t row_stride(void) {
  return (int64_t)gridDim.x * BLOCK / LANES;
}

// The columns from k of a row, of which `left` are in the matrix, rounded to its element type.
template <int COUNT>
static __device__ inline void store_cells(struct device_matrix m, int64_t row, int k, int left, bool wide,
                                          const float (&values)[COUNT]) {
  if (m.element == ELEMENT_F32)
    store_columns<ELEMENT_F32>((float *)m.data + row * m.ld + k, left, wide, values);
  else
    store_columns<ELEMENT_BF16>((uint16_t *)m.data + row * m.ld + k, left, wide, values);
}

// dZ = 0 in the rows beyond the step's.
template <int LANES>
static __device__ inline void clear_rows(const struct loss_launch &l, int64_t rows, bool wide) {
  const float zeros[CHUNK] = {};
  for (int64_t row = rows + first_row<LANES>(); l.dZ.data && row < l.rows; row += row_stride<LANES>())
    for (int k = chunk_column<LANES>(0); k < l.n; k += LANES * CHUNK)
      store_cells(l.dZ, row, k, (int)l.n - k, wide, zeros);
}

// The end of a loss's kernel: the scalar, from the threads' sums of w L.
static __device__ inline void finish_loss(const struct loss_launch &l, double divisor, double total,
                                          double weight_sum) {
  double sum;
  if (!grid_sum(total, l.scratch, &sum) || threadIdx.x != 0) return;
  l.scalars[SCALAR_LOSS] = mean_loss(sum, divisor, weight_sum);
}

// ---- the losses of one row: dZ = dL/dZ times a factor, and the thread's share of the sum of w L ----

template <enum element ELEMENT>
static __device__ inline double binary_loss(const struct loss_launch &l, int64_t row,
                                            const struct inverse_weight_sum &inverse_weight_sum) {
  const float t = formula_binary_target_f32(l.y[row], l.label_smoothing), w = l.w[row];
  const float z = Element<ELEMENT>::load((const typename Element<ELEMENT>::type *)l.A.data + row * l.A.ld);
  if (l.dZ.data) {
    const float dZ[1] = {formula_cross_entropy_slope(formula_sigmoid(z), t, weight_share(inverse_weight_sum, w))};
    store_cells(l.dZ, row, 0, 1, true, dZ);
  }
  return (double)w * (double)formula_binary_loss_f32(z, t, formula_softplus_tail(z));
}

// The thread's part of n L = sum_k (a_k - y_k)^2; SLOPED: the output's activation is not the identity.
template <int LANES, int COUNT, enum element ELEMENT, bool SLOPED>
static __device__ inline double squared_loss(const struct loss_launch &l, int64_t row, bool wide, bool wide_y,
                                             const struct inverse_weight_sum &inverse_weight_sum) {
  typedef typename Element<ELEMENT>::type type;
  const type *a = (const type *)l.A.data + row * l.A.ld, *z = (const type *)l.Z.data + row * l.Z.ld;
  const float *y = l.y + row * l.n;
  const int n = (int)l.n;
  const float w = l.w[row], f = weight_share(inverse_weight_sum, w) * (2.0f / (float)n);
  const bool from_z = slope_is_from_z(l.activation);
  float sum = 0.0f;
  double outside = 0;  // the squares whose sum may exceed the range of float32
#pragma unroll 2
  for (int k = chunk_column<LANES>(0); k < n; k += LANES * COUNT) {
    float values[COUNT], targets[COUNT], errors[COUNT], dZ[COUNT], squares = 0.0f;
    load_columns<ELEMENT>(a + k, n - k, wide, values);
    load_columns<ELEMENT_F32>(y + k, n - k, wide_y, targets);
#pragma unroll
    for (int i = 0; i < COUNT; i++) {
      errors[i] = k + i < n ? values[i] - targets[i] : 0.0f;
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
    if (SLOPED && from_z) load_columns<ELEMENT>(z + k, n - k, wide, values);
#pragma unroll
    for (int i = 0; SLOPED && i < COUNT; i++) dZ[i] *= formula_slope(l.activation, values[i]);
    store_cells(l.dZ, row, k, n - k, wide, dZ);
  }
  return (double)w * ((double)sum + outside);
}

// ---- softmax ----

// What the gradient of a row is computed from beside its exponentials.
struct softmax_targets {
  int label;  // its distance from the thread's first column
  float q_label, q_other, inverse, f;
};

// dZ of the columns at `distance` from the thread's first, from their scaled exponentials.
static __device__ inline void set_slopes(float (&e)[CHUNK], int distance, const struct softmax_targets &t) {
#pragma unroll
  for (int i = 0; i < CHUNK; i++)
    e[i] = formula_cross_entropy_slope(e[i] * t.inverse, t.label == distance + i ? t.q_label : t.q_other, t.f);
}

// Blocks of BLOCK, grid stride over BLOCK / LANES rows. CHUNKS 0: rows of any length.
template <int LANES, int CHUNKS, bool FULL, enum element ELEMENT>
static __global__ void __launch_bounds__(BLOCK, CHUNKS > 4 ? 3 : 4) softmax_kernel(struct loss_launch l) {
  GRID_BEGIN();
  typedef typename Element<ELEMENT>::type type;
  enum { ROWS = BLOCK / LANES };
  const int64_t valid = l.state->current.rows, rows = valid < l.rows ? valid : l.rows;
  const double weight_sum = l.scalars[SCALAR_WEIGHT_SUM];
  const struct inverse_weight_sum inverse_weight_sum = inverse_of(weight_sum);
  const int n = (int)l.n, group = (int)threadIdx.x / LANES, column = chunk_column<LANES>(0);
  const bool wide = l.A.ld % CHUNK == 0 && l.dZ.ld % CHUNK == 0, in_f32 = l.dZ.element == ELEMENT_F32;
  const float s = l.label_smoothing;
  struct softmax_targets t;
  t.q_label = formula_class_target_f32(true, s, (float)n), t.q_other = formula_class_target_f32(false, s, (float)n);
  const struct softmax_terms none = {0.0f, 0.0f, 1.0f, 0.0f, 0.0f};
  struct softmax_terms mine = none;
  int turn = 0;
  double total = 0;
  for (int64_t first = (int64_t)blockIdx.x * ROWS; first < rows; first += (int64_t)gridDim.x * ROWS) {
    const bool inside = group < rows - first;  // else repeats the first row
    const int64_t row = first + (inside ? group : 0);
    const type *z = (const type *)l.A.data + row * l.A.ld + column;
    const float y = l.y[row], w = l.w[row];
    float e[CHUNKS > 0 ? CHUNKS : 1][CHUNK];
    struct softmax_row softmax;
    if constexpr (CHUNKS > 0) {
      load_row<LANES, CHUNKS, FULL, ELEMENT>(z, n, wide, e);
      softmax = exponentials_of<LANES, CHUNKS, FULL>(e, n, s > 0.0f);
    } else {
      softmax = exponentials_of_long<LANES, ELEMENT>(z, n, wide, s > 0.0f);
    }
    t.label = (y >= 0.0f && y < (float)n ? (int)y : 0) - column;
    t.f = weight_share(inverse_weight_sum, w), t.inverse = softmax.inverse;
    if (inside && row_member<LANES>() == turn)
      mine = {softmax.max, Element<ELEMENT>::load(z + t.label), softmax.sum, softmax.distances, w};
    if (++turn == LANES) {
      total += softmax_loss(mine, s, (float)n);
      mine = none, turn = 0;
    }
    if (!inside || !l.dZ.data) continue;
    float *dZ = (float *)l.dZ.data + row * l.dZ.ld + column;
    uint16_t *dZ_bf16 = (uint16_t *)l.dZ.data + row * l.dZ.ld + column;
    if constexpr (CHUNKS > 0) {
#pragma unroll
      for (int j = 0; j < CHUNKS; j++)
        if (has_chunk<LANES, FULL>(j, n)) set_slopes(e[j], j * LANES * CHUNK, t);
      if (in_f32)
        store_row<LANES, CHUNKS, FULL, ELEMENT_F32>(dZ, n, wide, e);
      else
        store_row<LANES, CHUNKS, FULL, ELEMENT_BF16>(dZ_bf16, n, wide, e);
    } else {
      for (int k = 0; column + k < n; k += LANES * CHUNK) {
        load_columns<ELEMENT>(z + k, n - column - k, wide, e[0]);
#pragma unroll
        for (int i = 0; i < CHUNK; i++) e[0][i] = formula_scaled_exp(e[0][i] - softmax.max);
        set_slopes(e[0], k, t);
        if (in_f32)
          store_columns<ELEMENT_F32>(dZ + k, n - column - k, wide, e[0]);
        else
          store_columns<ELEMENT_BF16>(dZ_bf16 + k, n - column - k, wide, e[0]);
      }
    }
  }
  if (turn > 0) total += softmax_loss(mine, s, (float)n);
  clear_rows<LANES>(l, rows, wide);
  finish_loss(l, 1, total, weight_sum);
}

// ---- the other losses: all rows ----

enum { BINARY, SQUARED, SQUARED_SLOPED };

// Blocks of BLOCK, grid stride over rows.
template <int LOSS, int LANES, int COUNT, enum element ELEMENT>
static __global__ void __launch_bounds__(BLOCK, 4) loss_kernel(struct loss_launch l) {
  GRID_BEGIN();
  const int64_t valid = l.state->current.rows, rows = valid < l.rows ? valid : l.rows;
  const double weight_sum = l.scalars[SCALAR_WEIGHT_SUM];
  const struct inverse_weight_sum inverse_weight_sum = inverse_of(weight_sum);
  const bool wide = l.A.ld % CHUNK == 0 && l.Z.ld % CHUNK == 0 && l.dZ.ld % CHUNK == 0, wide_y = l.n % CHUNK == 0;
  double total = 0;
  for (int64_t row = first_row<LANES>(); row < rows; row += row_stride<LANES>()) {
    if constexpr (LOSS == BINARY)
      total += binary_loss<ELEMENT>(l, row, inverse_weight_sum);
    else
      total += squared_loss<LANES, COUNT, ELEMENT, LOSS == SQUARED_SLOPED>(l, row, wide, wide_y, inverse_weight_sum);
  }
  clear_rows<LANES>(l, rows, wide);
  finish_loss(l, LOSS == BINARY ? 1 : (double)l.n, total, weight_sum);
}

// ---- launches of instances for n columns ----

// A softmax's row in registers: in 2 lanes of a warp up to a block, up to 32 columns a thread.
#define SOFTMAX_OF(kernel, lanes, chunks, full, l) \
  LAUNCH((kernel<lanes, chunks, full, ELEMENT>), row_blocks((l)->rows, lanes), BLOCK, stream, *(l))
#define SOFTMAX_ROW(kernel, lanes, chunks, wide, l)                                                \
  (ELEMENT == ELEMENT_F32 && (wide) && (l)->n == lanes * chunks * CHUNK                            \
       ? SOFTMAX_OF(kernel, lanes, chunks, ELEMENT == ELEMENT_F32, l) /* bf16: no such instance */ \
       : SOFTMAX_OF(kernel, lanes, chunks, false, l))
#define SOFTMAX(kernel, wide, l)                             \
  ((l)->n <= 16     ? SOFTMAX_OF(kernel, 2, 2, false, l)     \
   : (l)->n <= 64   ? SOFTMAX_ROW(kernel, 4, 4, wide, l)     \
   : (l)->n <= 256  ? SOFTMAX_ROW(kernel, 16, 4, wide, l)    \
   : (l)->n <= 1024 ? SOFTMAX_ROW(kernel, WARP, 8, wide, l)  \
   : (l)->n <= 4096 ? SOFTMAX_ROW(kernel, BLOCK, 4, wide, l) \
                    : SOFTMAX_OF(kernel, BLOCK, 0, false, l))

#define LANES_OF(kernel, what, lanes, count, l) \
  LAUNCH((kernel<what, lanes, count, ELEMENT>), row_blocks((l)->rows, lanes), BLOCK, stream, *(l))
#define LANES(kernel, what, l)                          \
  ((l)->n < CHUNK ? LANES_OF(kernel, what, 1, 1, l)     \
   : (l)->n <= 64 ? LANES_OF(kernel, what, 8, CHUNK, l) \
                  : LANES_OF(kernel, what, WARP, CHUNK, l))

template <enum element ELEMENT>
static cudaError_t launch_loss_of(const struct loss_launch *l, cudaStream_t stream) {
  switch (l->loss) {
    case DESCENT_LOSS_BINARY_CROSS_ENTROPY: return LANES_OF(loss_kernel, BINARY, 1, 1, l);
    case DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY:
      return SOFTMAX(softmax_kernel, is_aligned(l->A, CHUNK) && is_aligned(l->dZ, CHUNK), l);
    case DESCENT_LOSS_MEAN_SQUARED_ERROR: break;
  }
  return l->activation == DESCENT_ACTIVATION_IDENTITY ? LANES(loss_kernel, SQUARED, l)
                                                      : LANES(loss_kernel, SQUARED_SLOPED, l);
}

cudaError_t launch_loss(const struct loss_launch *l, cudaStream_t stream) {
  if (l->Z.data && l->Z.element != l->A.element) return cudaErrorInvalidValue;
  return l->A.element == ELEMENT_F32 ? launch_loss_of<ELEMENT_F32>(l, stream) : launch_loss_of<ELEMENT_BF16>(l, stream);
}

// ---- dZ from dA ----

template <enum element FROM, enum element TO>
static __global__ void __launch_bounds__(BLOCK)
    backward_output_kernel(struct backward_output_launch l, struct element_tiling t) {
  GRID_BEGIN();
  const bool from_z = slope_is_from_z(l.activation), linear = l.activation == DESCENT_ACTIVATION_IDENTITY;
  const struct device_matrix from = from_z ? l.Z : l.A;
  const int64_t valid = l.state->current.rows;
  struct cells c = cells_of(t, l.n, 1);
  for (; !c.idle && c.row < l.rows; c.row += c.step) {
    float d = 0.0f;
    if (c.row < valid) {
      const typename Element<FROM>::type *x = (const typename Element<FROM>::type *)from.data + c.row * from.ld;
      d = l.dA[c.row * l.n + c.column] * formula_slope(l.activation, linear ? 0.0f : Element<FROM>::load(x + c.column));
    }
    Element<TO>::store((typename Element<TO>::type *)l.dZ.data + c.row * l.dZ.ld + c.column, d);
  }
}

template <enum element FROM>
static cudaError_t launch_backward_output_of(const struct backward_output_launch *l, cudaStream_t stream) {
  const struct element_tiling t = tiling_of(l->rows, l->n, 1, 4);
  return l->dZ.element == ELEMENT_F32
             ? LAUNCH((backward_output_kernel<FROM, ELEMENT_F32>), t.blocks, BLOCK, stream, *l, t)
             : LAUNCH((backward_output_kernel<FROM, ELEMENT_BF16>), t.blocks, BLOCK, stream, *l, t);
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
  const int n = (int)l.n;
  const bool wide = l.A.ld % CHUNK == 0, wide_P = n % CHUNK == 0;
  for (int64_t row = first_row<LANES>(); row < rows; row += row_stride<LANES>())
    for (int k = chunk_column<LANES>(0); k < n; k += LANES * COUNT) {
      float values[COUNT];
      load_columns<ELEMENT>((const type *)l.A.data + row * l.A.ld + k, n - k, wide, values);
#pragma unroll
      for (int i = 0; i < COUNT; i++) {
        if (k + i >= n) continue;
        values[i] = LOSS == BINARY ? formula_sigmoid(values[i])
                                   : formula_denormalise(values[i], l.y_shift ? l.y_shift[k + i] : 0.0f,
                                                         l.y_scale ? l.y_scale[k + i] : 1.0f);
      }
      store_columns<ELEMENT_F32>(l.P + row * n + k, n - k, wide_P, values);
    }
}

// As softmax_kernel.
template <int LANES, int CHUNKS, bool FULL, enum element ELEMENT>
static __global__ void __launch_bounds__(BLOCK, CHUNKS > 4 ? 3 : 4) output_softmax_kernel(struct output_launch l) {
  GRID_BEGIN();
  typedef typename Element<ELEMENT>::type type;
  enum { ROWS = BLOCK / LANES };
  const int64_t valid = l.state->current.rows, rows = valid < l.rows ? valid : l.rows;
  const int n = (int)l.n, group = (int)threadIdx.x / LANES, column = chunk_column<LANES>(0);
  const bool wide = l.A.ld % CHUNK == 0 && n % CHUNK == 0;
  for (int64_t first = (int64_t)blockIdx.x * ROWS; first < rows; first += (int64_t)gridDim.x * ROWS) {
    const bool inside = group < rows - first;  // else repeats the first row
    const int64_t row = first + (inside ? group : 0);
    const type *z = (const type *)l.A.data + row * l.A.ld + column;
    float *P = l.P + row * l.n + column;
    if constexpr (CHUNKS > 0) {
      float e[CHUNKS][CHUNK];
      load_row<LANES, CHUNKS, FULL, ELEMENT>(z, n, wide, e);
      const struct softmax_row softmax = exponentials_of<LANES, CHUNKS, FULL>(e, n, false);
#pragma unroll
      for (int i = 0; i < CHUNKS * CHUNK; i++)
        if (has_chunk<LANES, FULL>(i / CHUNK, n)) e[i / CHUNK][i % CHUNK] *= softmax.inverse;
      if (inside) store_row<LANES, CHUNKS, FULL, ELEMENT_F32>(P, n, wide, e);
    } else {
      const struct softmax_row softmax = exponentials_of_long<LANES, ELEMENT>(z, n, wide, false);
      for (int k = 0; column + k < n; k += LANES * CHUNK) {
        float e[CHUNK];
        load_columns<ELEMENT>(z + k, n - column - k, wide, e);
#pragma unroll
        for (int i = 0; i < CHUNK; i++) e[i] = formula_scaled_exp(e[i] - softmax.max) * softmax.inverse;
        store_columns<ELEMENT_F32>(P + k, n - column - k, wide, e);
      }
    }
  }
}

template <enum element ELEMENT>
static cudaError_t launch_output_of(const struct output_launch *l, cudaStream_t stream) {
  switch (l->loss) {
    case DESCENT_LOSS_BINARY_CROSS_ENTROPY: return LANES_OF(output_kernel, BINARY, 1, 1, l);
    case DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY:
      return SOFTMAX(output_softmax_kernel, is_aligned(l->A, CHUNK) && l->n % CHUNK == 0, l);
    case DESCENT_LOSS_MEAN_SQUARED_ERROR: break;
  }
  return LANES(output_kernel, SQUARED, l);
}

cudaError_t launch_output(const struct output_launch *l, cudaStream_t stream) {
  return l->A.element == ELEMENT_F32 ? launch_output_of<ELEMENT_F32>(l, stream)
                                     : launch_output_of<ELEMENT_BF16>(l, stream);
}
