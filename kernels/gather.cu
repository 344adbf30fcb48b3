// Gather, in one kernel: a block finds the rows of the source for some rows of the step, then gathers a stripe of their
// columns. For queued steps the kernel also fetches the step, which every later kernel reads.
#include "common.cuh"

// ---- the step ----

enum { STEP_WORDS = sizeof(struct device_step) / sizeof(uint32_t) };
static_assert(sizeof(struct device_step) % sizeof(uint32_t) == 0 && (int)STEP_WORDS <= WARP, "a warp copies a step");

// The step to run, for all threads of a block.
static __device__ inline void load_step(const struct device_step *from, struct device_step *step) {
  if (threadIdx.x < STEP_WORDS) ((uint32_t *)step)[threadIdx.x] = ((const uint32_t *)from)[threadIdx.x];
  __syncthreads();
}

// By one block, once no other block reads the state.
static __device__ inline void make_current(struct step_state *state, const struct device_step *step) {
  if (threadIdx.x < STEP_WORDS) ((uint32_t *)&state->current)[threadIdx.x] = ((const uint32_t *)step)[threadIdx.x];
  if (threadIdx.x == 0) state->next++;
}

static __global__ void fetch_kernel(struct step_state *state, const struct device_step *queue) {
  GRID_BEGIN();
  SHARED_VARIABLE(step, struct device_step);
  load_step(&queue[state->next], &step);
  make_current(state, &step);
}

cudaError_t launch_fetch(struct step_state *state, const struct device_step *queue, cudaStream_t stream) {
  return LAUNCH(fetch_kernel, 1, WARP, stream, state, queue);
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

// The rows that a thread with COUNT columns reads at a time.
template <int COUNT>
struct InFlight {
  enum { ROWS = COUNT == 8 ? 2 : COUNT == 4 ? 4 : 8 };
};

// `columns` of a thread of X, which reads `in_flight` rows at a time. The chunks follow from the shapes, not from what
// is bound: the order of the weights' sum is theirs.
static struct gather_tiling gather_tiling_of(const struct gather_launch *l, int columns, int in_flight) {
  struct gather_tiling t = {};
  t.X = tiling_of(l->rows, l->n_x, columns, 1);
  t.X_stripes = t.stripes = t.X.blocks.x;
  if (l->y && l->n_y > 1) {
    t.y = tiling_of(l->rows, l->n_y, 1, 1);
    t.stripes += t.y.blocks.x;
  }
  const int each = in_flight * t.X.down < MOST_CHUNK ? in_flight * t.X.down : MOST_CHUNK;
  const int64_t turn = (int64_t)each * PREFERRED_BLOCKS, wanted = (l->rows * t.stripes + turn - 1) / turn;
  const int most = PREFERRED_CHUNK / each;
  t.chunk = each * (int)(wanted < 1 || most < 1 ? 1 : wanted < most ? wanted : most);
  return t;
}

// For the partial sums of the most chunks: PREFERRED_BLOCKS, or chunks of more than half of PREFERRED_CHUNK.
size_t gather_scratch(int64_t rows) {
  const int64_t few = PREFERRED_BLOCKS, large = rows / (PREFERRED_CHUNK / 2) + 1, most = large > few ? large : few;
  return (size_t)(rows < most ? rows : most) * sizeof(double);
}

// ---- rows: sources, targets of one column, weights and their sum ----

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

// The element of the source, whose rows are `ld` apart, at which each of the block's rows begins; -1 beyond the step's.
// With y, the first stripe's, also their targets and weights. Returns the sum of the thread's weights.
static __device__ inline double find_rows(const struct gather_launch &l, const struct source_table &sources,
                                          const struct device_step *step, int64_t first, int rows, int64_t ld,
                                          const float *y, int64_t *begin) {
  double weights = 0;
  for (int i = (int)threadIdx.x; i < rows; i += BLOCK) {
    const int64_t r = first + i;
    const bool valid = r < step->rows;
    const int64_t s = valid ? source_row(l, sources, step, r) : -1;
    begin[i] = valid ? s * ld : -1;
    if (!y) continue;
    const float target = valid ? y[s * l.n_y] : 0.0f, w = valid ? row_weight(l, sources, s, target) : 0.0f;
    const float shift = l.y_shift ? *l.y_shift : 0.0f, scale = l.y_scale ? *l.y_scale : 1.0f;
    if (l.n_y == 1) l.y[r] = valid ? formula_normalise(target, shift, scale) : 0.0f;
    l.w[r] = w;
    weights += (double)w;
  }
  return weights;
}

// By thread 0: the number of blocks that were here before. All that the block does before its barrier has happened for
// a block that is here later.
static __device__ inline unsigned take_number(unsigned *counter, unsigned blocks) {
  __threadfence();
  return atomicInc(counter, blocks - 1);
}

// By the block with the last number: adds up the chunks' weights; makes the step current, since every other block has
// read the state.
static __device__ inline void conclude(const struct gather_launch &l, const struct device_step *step, bool weights) {
  __threadfence();
  if (weights) {
    double sum = 0;
    for (unsigned i = threadIdx.x; i < gridDim.x; i += BLOCK) sum += ((const double *)l.scratch.partials)[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) *l.weight_sum = sum;
  }
  if (l.queue) make_current(l.state, step);
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

template <enum element ELEMENT, int COUNT>
static __device__ inline void copy_values(const struct copy &c, const float *fills, const float *shifts,
                                          const float *scales) {
  enum { ROWS = InFlight<COUNT>::ROWS };
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
template <typename WORD>
static __device__ inline void copy_words(const struct copy &c) {
  enum { ROWS = 4 };
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

// COUNT: the columns of a thread of X; with 8 or 4, accesses of up to 16 bytes. Blocks of BLOCK.
template <enum element ELEMENT, int COUNT>
static __global__ void __launch_bounds__(BLOCK, 4) gather_kernel(struct gather_launch l, struct gather_tiling t) {
  GRID_BEGIN();
  SHARED_VARIABLE(step, struct device_step);
  SHARED_VARIABLE(begin, int64_t[MOST_CHUNK]);
  SHARED_VARIABLE(last, bool);
  // Side by side, since the latency of each read counts in a small step. After a bad step the queue does not advance.
  const struct source_table sources = *l.sources;
  const double bad_step = l.queue && l.bad_step ? *l.bad_step : 0;
  const struct device_step *const now = l.queue ? &l.queue[l.state->next] : &l.state->current;
  if (bad_step != 0) return;
  load_step(now, &step);
  const unsigned stripe = blockIdx.z * gridDim.y + blockIdx.y, chunk = blockIdx.x;
  const float *y = l.y ? sources.y : NULL;
  const int64_t first = (int64_t)chunk * t.chunk;
  const int rows = l.rows - first < t.chunk ? (int)(l.rows - first) : t.chunk;
  const bool of_X = stripe < t.X_stripes;
  const int64_t ld = of_X ? sources.ld : l.n_y;
  double weights = find_rows(l, sources, &step, first, rows, ld, stripe == 0 ? y : NULL, begin);
  if (y && stripe == 0) {
    weights = block_sum(weights);
    if (threadIdx.x == 0) ((double *)l.scratch.partials)[chunk] = weights;
  }
  __syncthreads();
  const bool concludes = y || l.queue;
  const unsigned blocks = gridDim.x * gridDim.y * gridDim.z;
  unsigned number = 0;  // arrives while cells are copied
  if (concludes && threadIdx.x == 0) number = take_number(l.scratch.counters, blocks);

  struct copy c;
  c.begin = begin, c.rows = rows;
  if (of_X) {
    c.from = sources.X, c.form = sources.form, c.to = l.X, c.n = l.n_x;
    c.to.data = (typename Element<ELEMENT>::type *)l.X.data + first * l.X.ld;
    if (c.from && place_thread(c, t.X, stripe, COUNT)) {
      if (ELEMENT == ELEMENT_F32 || c.form != INPUT_NORMALISED) {
        copy_values<ELEMENT, COUNT>(c, l.fill, l.shift, l.scale);
      } else {
        if constexpr (COUNT == 8) copy_words<uint4>(c);
        if constexpr (COUNT == 4) copy_words<uint2>(c);
        if constexpr (COUNT == 1) copy_words<uint16_t>(c);
      }
    }
  } else if (stripe < t.stripes) {
    c.from = y, c.form = INPUT_FLOATS, c.n = l.n_y;
    c.to.data = l.y + first * l.n_y, c.to.ld = l.n_y;
    if (y && place_thread(c, t.y, stripe - t.X_stripes, 1)) copy_values<ELEMENT_F32, 1>(c, NULL, l.y_shift, l.y_scale);
  }

  if (!concludes) return;
  if (threadIdx.x == 0) last = number == blocks - 1;
  __syncthreads();
  if (last) conclude(l, &step, y != NULL);
}

template <enum element ELEMENT, int COUNT>
static cudaError_t launch_gather_of(const struct gather_launch *l, cudaStream_t stream) {
  const struct gather_tiling t = gather_tiling_of(l, COUNT, InFlight<COUNT>::ROWS);
  const unsigned most = 1u << 15, across = t.stripes < most ? t.stripes : most;  // a grid's y and z are small
  const dim3 blocks((unsigned)((l->rows + t.chunk - 1) / t.chunk), across, (t.stripes + across - 1) / across);
  if (blocks.x * sizeof(double) > gather_scratch(l->rows)) return cudaErrorInvalidValue;
  return LAUNCH((gather_kernel<ELEMENT, COUNT>), blocks, BLOCK, stream, *l, t);
}

cudaError_t launch_gather(const struct gather_launch *l, cudaStream_t stream) {
  if (l->X.element == ELEMENT_F32)
    return l->n_x % 4 == 0 && is_aligned(l->X, 4) ? launch_gather_of<ELEMENT_F32, 4>(l, stream)
                                                  : launch_gather_of<ELEMENT_F32, 1>(l, stream);
  if (l->n_x % 8 == 0 && is_aligned(l->X, 8)) return launch_gather_of<ELEMENT_BF16, 8>(l, stream);
  return l->n_x % 4 == 0 && is_aligned(l->X, 4) ? launch_gather_of<ELEMENT_BF16, 4>(l, stream)
                                                : launch_gather_of<ELEMENT_BF16, 1>(l, stream);
}
