// Shared by the gather (gather.cu) and that of a small step (whole.cuh): the step, the rows of the source, the cells.
#ifndef DESCENT_KERNELS_GATHER_CUH
#define DESCENT_KERNELS_GATHER_CUH

#include "common.cuh"

// ---- the step ----

enum { STEP_WORDS = sizeof(struct device_step) / sizeof(uint32_t) };
static_assert(sizeof(struct device_step) % sizeof(uint32_t) == 0 && (int)STEP_WORDS <= WARP, "a warp copies a step");

// The step to run, for all threads of a block.
static __device__ inline void load_step(const struct device_step *from, struct device_step *step) {
  if (threadIdx.x < STEP_WORDS) ((uint32_t *)step)[threadIdx.x] = ((const uint32_t *)from)[threadIdx.x];
  __syncthreads();
}

// By one block.
static __device__ inline void store_current(struct step_state *state, const struct device_step *step) {
  if (threadIdx.x < STEP_WORDS) ((uint32_t *)&state->current)[threadIdx.x] = ((const uint32_t *)step)[threadIdx.x];
}

// ---- blocks ----

// A block has `chunk` rows of a stripe of X, or of y where that has several columns. The blocks of the first stripe also
// write their rows' weights, and targets of one column.
struct gather_tiling {
  struct element_tiling X, y;  // of their members `across` and `down`, and the stripes
  unsigned X_stripes, stripes;
  int chunk;
};

enum { MOST_CHUNK = 1024, PREFERRED_CHUNK = BLOCK, PREFERRED_BLOCKS = 2048 };

// The columns of a thread of X: with 8 or 4, accesses of up to 16 bytes.
static __host__ __device__ inline int gather_columns(const struct gather_launch &l) {
  if (l.X.element == ELEMENT_BF16 && l.n_x % 8 == 0 && is_aligned(l.X, 8)) return 8;
  return l.n_x % 4 == 0 && is_aligned(l.X, 4) ? 4 : 1;
}

// The rows that a thread with so many columns reads at a time.
static __host__ __device__ constexpr int rows_in_flight(int columns) { return columns == 8 ? 2 : columns == 4 ? 4 : 8; }

// The chunks follow from the shapes, not from what is bound: the order of the weights' sum is theirs.
static __host__ __device__ inline struct gather_tiling gather_tiling_of(const struct gather_launch &l, int columns) {
  struct gather_tiling t = {};
  const int in_flight = rows_in_flight(columns);
  t.X = tiling_of(l.rows, l.n_x, columns, 1);
  t.X_stripes = t.stripes = t.X.blocks.x;
  if (l.y && l.n_y > 1) {
    t.y = tiling_of(l.rows, l.n_y, 1, 1);
    t.stripes += t.y.blocks.x;
  }
  const int each = in_flight * t.X.down < MOST_CHUNK ? in_flight * t.X.down : MOST_CHUNK;
  const int64_t turn = (int64_t)each * PREFERRED_BLOCKS, wanted = (l.rows * t.stripes + turn - 1) / turn;
  const int most = PREFERRED_CHUNK / each;
  t.chunk = each * (int)(wanted < 1 || most < 1 ? 1 : wanted < most ? wanted : most);
  return t;
}

// ---- rows ----

static __device__ inline int64_t source_row(const struct gather_launch &l, const struct source_table &sources,
                                            const struct device_step *step, int64_t r) {
  int64_t t = step->first_row + r;
  if (l.shuffle && step->order.n) t = (int64_t)permutation_index(&step->order, (uint64_t)t);
  return sources.index ? sources.index[t] : t;
}

static __device__ inline float row_weight(const struct gather_launch &l, const struct source_table &sources, int64_t s,
                                          float y) {
  const float w = sources.w ? sources.w[s] : 1.0f;
  return l.class_weight ? formula_class_weighted(w, l.class_weight, l.classes, y) : w;
}

// ---- cells: the inputs, and targets of several columns ----

// What a thread gathers: COUNT columns of every down-th of the block's rows, from `row` on.
struct copy {
  const void *from;
  const int64_t *begin;  // (rows) where the source's rows begin
  enum input_form form;
  int rows, row, down;
  int64_t n, column;
  struct device_matrix to;  // from the block's first row on
};

// The constants of a thread's columns; `otherwise` if there are none.
template <int COUNT>
static __device__ inline void load_constants(const float *from, int64_t column, float otherwise,
                                             float (&values)[COUNT]) {
#pragma unroll
  for (int i = 0; i < COUNT; i++) values[i] = otherwise;
  if (from) load_values<ELEMENT_F32, COUNT>(from + column, values);
}

// COUNT bytes as floats, in one read.
template <int COUNT>
static __device__ inline void load_bytes(const uint8_t *p, float (&values)[COUNT]) {
  static_assert(COUNT == 1 || COUNT == 4 || COUNT == 8, "a byte, or one or two words");
  if constexpr (COUNT == 1) {
    values[0] = (float)*p;
  } else {
    uint32_t words[COUNT / 4];
    if constexpr (COUNT == 4) {
      words[0] = *(const uint32_t *)p;
    } else {
      const uint2 pair = *(const uint2 *)p;
      words[0] = pair.x, words[1] = pair.y;
    }
#pragma unroll
    for (int i = 0; i < COUNT; i++) values[i] = (float)(words[i / 4] >> (8 * (i % 4)) & 255u);
  }
}

// ROWS: that the thread reads at a time.
template <enum element ELEMENT, int COUNT, int ROWS>
static __device__ inline void copy_values(const struct copy &c, const float *fills, const float *shifts,
                                          const float *scales) {
  typedef typename Element<ELEMENT>::type type;
  const int64_t step = c.down * c.to.ld;
  type *to = (type *)c.to.data + c.row * c.to.ld + c.column;
  float fill[COUNT], shift[COUNT], scale[COUNT];
  load_constants(fills, c.column, NAN, fill);
  load_constants(shifts, c.column, 0.0f, shift);
  load_constants(scales, c.column, 1.0f, scale);
  for (int row = c.row; row < c.rows; row += ROWS * c.down, to += ROWS * step) {
    float values[ROWS][COUNT] = {};
    bool valid[ROWS];
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
      const int64_t at = row + i * c.down < c.rows ? c.begin[row + i * c.down] : -1;
      valid[i] = at >= 0;
      if (!valid[i]) continue;
      if (c.form == INPUT_BYTES)
        load_bytes<COUNT>((const uint8_t *)c.from + at + c.column, values[i]);
      else
        load_values<ELEMENT_F32, COUNT>((const float *)c.from + at + c.column, values[i]);
    }
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
      if (row + i * c.down >= c.rows) break;
#pragma unroll
      for (int j = 0; j < COUNT; j++) {
        const float x = formula_impute(values[i][j], fill[j]);
        values[i][j] = valid[i] ? formula_normalise(x, shift[j], scale[j]) : 0.0f;
      }
      store_values<ELEMENT, COUNT>(to + i * step, values[i]);
    }
  }
}

// Rows that are normalised already: bits of bf16.
template <typename WORD, int ROWS>
static __device__ inline void copy_words(const struct copy &c) {
  const int64_t step = c.down * c.to.ld;
  const uint16_t *const from = (const uint16_t *)c.from + c.column;
  uint16_t *to = (uint16_t *)c.to.data + c.row * c.to.ld + c.column;
  for (int row = c.row; row < c.rows; row += ROWS * c.down, to += ROWS * step) {
    WORD words[ROWS] = {};
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
      const int64_t at = row + i * c.down < c.rows ? c.begin[row + i * c.down] : -1;
      if (at >= 0) words[i] = *(const WORD *)(from + at);
    }
#pragma unroll
    for (int i = 0; i < ROWS; i++)
      if (row + i * c.down < c.rows) *(WORD *)(to + i * step) = words[i];
  }
}

// The place of a thread with so many columns; false: it has none.
static __device__ inline bool place_thread(struct copy &c, const struct element_tiling &t, unsigned stripe,
                                           int columns) {
  const int thread = (int)threadIdx.x;
  c.row = thread / t.across;
  c.down = t.down;
  c.column = ((int64_t)stripe * t.across + thread % t.across) * columns;
  return c.row < c.down && c.column < c.n;
}

#endif
