// Gather: a first kernel finds the row of the source for each row of the step, with its target and weight; a second one
// gathers the inputs. For queued steps the first kernel also fetches the step, which every later kernel reads.
#include "common.cuh"

// ---- the step ----

enum { STEP_WORDS = sizeof(struct device_step) / sizeof(uint32_t) };
static_assert(sizeof(struct device_step) % sizeof(uint32_t) == 0 && (int)STEP_WORDS <= WARP, "a warp copies a step");

// The step to run, for all threads of a block: the next of the queue or, without a queue, the current one.
static __device__ inline void load_step(const struct step_state *state, const struct device_step *queue,
                                        struct device_step *step) {
  const uint32_t *from = (const uint32_t *)(queue ? &queue[state->next] : &state->current);
  if (threadIdx.x < STEP_WORDS) ((uint32_t *)step)[threadIdx.x] = from[threadIdx.x];
  __syncthreads();
}

// By one block, once no other block reads the state.
static __device__ inline void make_current(struct step_state *state, const struct device_step *step) {
  if (threadIdx.x < STEP_WORDS) ((uint32_t *)&state->current)[threadIdx.x] = ((const uint32_t *)step)[threadIdx.x];
  if (threadIdx.x == 0) state->next++;
}

static __global__ void fetch_kernel(struct step_state *state, const struct device_step *queue) {
  GRID_BEGIN();
  __shared__ struct device_step step;
  load_step(state, queue, &step);
  make_current(state, &step);
}

cudaError_t launch_fetch(struct step_state *state, const struct device_step *queue, cudaStream_t stream) {
  return LAUNCH(fetch_kernel, 1, WARP, stream, state, queue);
}

// After a bad step the queue does not advance.
static __device__ inline bool is_stopped(const struct gather_launch &l) {
  return l.queue && l.bad_step && *l.bad_step != 0;
}

// ---- rows: sources, targets of one column, weights and their sum ----

static __device__ inline int64_t source_row(const struct gather_launch &l, const struct device_step *step, int64_t r) {
  int64_t t = step->first_row + r;
  if (l.shuffle && step->order.n) t = (int64_t)permutation_index(&step->order, (uint64_t)t);
  const int64_t *index = l.sources->index;
  return index ? index[t] : t;
}

static __device__ inline float row_weight(const struct gather_launch &l, int64_t s, float y) {
  const float w = l.sources->w ? l.sources->w[s] : 1.0f;
  return l.class_weight ? formula_class_weighted(w, l.class_weight, l.classes, y) : w;
}

// A thread per row, grid stride; blocks of BLOCK. Few rows take one block, which needs no reduction over blocks.
enum { ONE_BLOCK = 1024, MOST_BLOCKS = 1024 };

static unsigned rows_blocks(int64_t rows) { return rows <= ONE_BLOCK ? 1 : block_count(rows, BLOCK, MOST_BLOCKS); }

static __global__ void __launch_bounds__(BLOCK) rows_kernel(struct gather_launch l) {
  GRID_BEGIN();
  __shared__ struct device_step step;
  if (is_stopped(l)) return;
  load_step(l.state, l.queue, &step);
  const float *y = l.y ? l.sources->y : NULL;
  double weights = 0;
  for (int64_t r = (int64_t)blockIdx.x * BLOCK + threadIdx.x; r < l.rows; r += (int64_t)gridDim.x * BLOCK) {
    const bool valid = r < step.rows;
    const int64_t s = valid ? source_row(l, &step, r) : -1;
    l.source[r] = s;
    if (!y) continue;
    const float target = valid ? y[s * l.n_y] : 0.0f, w = valid ? row_weight(l, s, target) : 0.0f;
    const float shift = l.y_shift ? *l.y_shift : 0.0f, scale = l.y_scale ? *l.y_scale : 1.0f;
    if (l.n_y == 1) l.y[r] = valid ? formula_normalise(target, shift, scale) : 0.0f;
    l.w[r] = w;
    weights += (double)w;
  }
  // When the last block gets here, every other block has read the state.
  double sum;
  if (!grid_sum(weights, l.scratch, &sum)) return;
  if (y && threadIdx.x == 0) *l.weight_sum = sum;
  if (l.queue) make_current(l.state, &step);
}

size_t gather_scratch(int64_t rows) { return rows_blocks(rows) * sizeof(double); }

// ---- cells: the inputs, and targets of several columns ----

struct copy {
  bool targets;                       // sources->y instead of sources->X
  const float *fill, *shift, *scale;  // (n); NULL: none
  struct device_matrix to;            // (rows, n)
  int64_t n;
};

// The constants of a thread's columns; `otherwise` if there are none.
template <int COUNT>
static __device__ inline void load_constants(const float *from, int64_t column, float otherwise,
                                             float (&values)[COUNT]) {
#pragma unroll
  for (int i = 0; i < COUNT; i++) values[i] = otherwise;
  if (from) load_values<ELEMENT_F32, COUNT>(from + column, values);
}

// COUNT bytes as floats; with 4 of them, in one read.
template <int COUNT>
static __device__ inline void load_bytes(const uint8_t *p, float (&values)[COUNT]) {
  static_assert(COUNT == 1 || COUNT == 4, "a byte or a word");
  if constexpr (COUNT == 1) {
    values[0] = (float)*p;
  } else {
    const uint32_t word = *(const uint32_t *)p;
#pragma unroll
    for (int i = 0; i < COUNT; i++) values[i] = (float)(word >> (8 * i) & 255u);
  }
}

// A thread's columns of source rows of n elements; rows of -1 are left out.
template <int ROWS, int COUNT>
static __device__ inline void load_rows(const void *from, bool bytes, const int64_t (&source)[ROWS], int64_t column,
                                        int64_t n, float (&values)[ROWS][COUNT]) {
  if (bytes) {
#pragma unroll
    for (int i = 0; i < ROWS; i++)
      if (source[i] >= 0) load_bytes<COUNT>((const uint8_t *)from + source[i] * n + column, values[i]);
  } else {
#pragma unroll
    for (int i = 0; i < ROWS; i++)
      if (source[i] >= 0) load_values<ELEMENT_F32, COUNT>((const float *)from + source[i] * n + column, values[i]);
  }
}

// 16-byte reads of floats where COUNT is 4. Grid and block: struct element_tiling.
template <enum element ELEMENT, int COUNT>
static __global__ void __launch_bounds__(BLOCK)
    copy_kernel(struct gather_launch l, struct copy copy, struct element_tiling t) {
  GRID_BEGIN();
  enum { ROWS = COUNT == 1 ? 8 : 4 };  // reads in flight
  typedef typename Element<ELEMENT>::type type;
  const struct cells at = cells_of(t, copy.n, COUNT);
  const void *from = copy.targets ? l.sources->y : l.sources->X;
  const bool bytes = !copy.targets && l.sources->bytes;
  if (at.idle || is_stopped(l) || !from) return;
  float fill[COUNT], shift[COUNT], scale[COUNT];
  load_constants(copy.fill, at.column, NAN, fill);
  load_constants(copy.shift, at.column, 0.0f, shift);
  load_constants(copy.scale, at.column, 1.0f, scale);
  type *to = (type *)copy.to.data + at.column;
  for (int64_t first = at.row; first < l.rows; first += ROWS * at.step) {
    int64_t source[ROWS];
    float values[ROWS][COUNT] = {};
#pragma unroll
    for (int i = 0; i < ROWS; i++) source[i] = first + i * at.step < l.rows ? l.source[first + i * at.step] : -1;
    load_rows(from, bytes, source, at.column, copy.n, values);
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
      const int64_t r = first + i * at.step;
      if (r >= l.rows) break;
#pragma unroll
      for (int j = 0; j < COUNT; j++) {
        const float x = formula_impute(values[i][j], fill[j]);
        values[i][j] = source[i] >= 0 ? formula_normalise(x, shift[j], scale[j]) : 0.0f;
      }
      store_values<ELEMENT, COUNT>(to + r * copy.to.ld, values[i]);
    }
  }
}

static cudaError_t launch_copy(const struct gather_launch *l, struct copy copy, cudaStream_t stream) {
  const bool wide = copy.n % 4 == 0 && is_aligned(copy.to, 4);
  const struct element_tiling t = tiling_of(l->rows, copy.n, wide ? 4 : 1, wide ? 4 : 8);
  if (copy.to.element == ELEMENT_F32)
    return wide ? LAUNCH((copy_kernel<ELEMENT_F32, 4>), t.blocks, BLOCK, stream, *l, copy, t)
                : LAUNCH((copy_kernel<ELEMENT_F32, 1>), t.blocks, BLOCK, stream, *l, copy, t);
  return wide ? LAUNCH((copy_kernel<ELEMENT_BF16, 4>), t.blocks, BLOCK, stream, *l, copy, t)
              : LAUNCH((copy_kernel<ELEMENT_BF16, 1>), t.blocks, BLOCK, stream, *l, copy, t);
}

cudaError_t launch_gather(const struct gather_launch *l, cudaStream_t stream) {
  cudaError_t error = LAUNCH(rows_kernel, rows_blocks(l->rows), BLOCK, stream, *l);
  if (error == cudaSuccess && l->y && l->n_y > 1) {
    const struct device_matrix y = {l->y, l->n_y, ELEMENT_F32};
    const struct copy targets = {true, NULL, l->y_shift, l->y_scale, y, l->n_y};
    error = launch_copy(l, targets, stream);
  }
  const struct copy inputs = {false, l->fill, l->shift, l->scale, l->X, l->n_x};
  return error == cudaSuccess ? launch_copy(l, inputs, stream) : error;
}
