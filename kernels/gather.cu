// Gather, in one kernel: a block finds the rows of the source for some rows of the step, then gathers a stripe of their
// columns. For queued steps the kernel also fetches the step, which every later kernel reads.
#include "gather.cuh"

// ---- the step ----

// By one block, once no other block reads the state.
static __device__ inline void make_current(struct step_state *state, const struct device_step *step) {
  store_current(state, step);
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

// For the partial sums of the most chunks: PREFERRED_BLOCKS, or chunks of more than half of PREFERRED_CHUNK.
size_t gather_scratch(int64_t rows) {
  const int64_t few = PREFERRED_BLOCKS, large = rows / (PREFERRED_CHUNK / 2) + 1, most = large > few ? large : few;
  return (size_t)(rows < most ? rows : most) * sizeof(double);
}

// ---- rows: sources, targets of one column, weights and their sum ----

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
    if (threadIdx.x == 0) *l.weight_sum = step->weight_sum != 0 ? step->weight_sum : sum;
  }
  if (l.queue) make_current(l.state, step);
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
        copy_values<ELEMENT, COUNT, rows_in_flight(COUNT)>(c, l.fill, l.shift, l.scale);
      } else {
        if constexpr (COUNT == 8) copy_words<uint4, 4>(c);
        if constexpr (COUNT == 4) copy_words<uint2, 4>(c);
        if constexpr (COUNT == 1) copy_words<uint16_t, 4>(c);
      }
    }
  } else if (stripe < t.stripes) {
    c.from = y, c.form = INPUT_FLOATS, c.n = l.n_y;
    c.to.data = l.y + first * l.n_y, c.to.ld = l.n_y;
    if (y && place_thread(c, t.y, stripe - t.X_stripes, 1))
      copy_values<ELEMENT_F32, 1, rows_in_flight(1)>(c, NULL, l.y_shift, l.y_scale);
  }

  if (!concludes) return;
  if (threadIdx.x == 0) last = number == blocks - 1;
  __syncthreads();
  if (last) conclude(l, &step, y != NULL);
}

template <enum element ELEMENT, int COUNT>
static cudaError_t launch_gather_of(const struct gather_launch *l, cudaStream_t stream) {
  const struct gather_tiling t = gather_tiling_of(*l, COUNT);
  const unsigned most = 1u << 15, across = t.stripes < most ? t.stripes : most;  // a grid's y and z are small
  const dim3 blocks((unsigned)((l->rows + t.chunk - 1) / t.chunk), across, (t.stripes + across - 1) / across);
  if (blocks.x * sizeof(double) > gather_scratch(l->rows)) return cudaErrorInvalidValue;
  return LAUNCH((gather_kernel<ELEMENT, COUNT>), blocks, BLOCK, stream, *l, t);
}

cudaError_t launch_gather(const struct gather_launch *l, cudaStream_t stream) {
  const int columns = gather_columns(*l);
  if (l->X.element == ELEMENT_F32)
    return columns == 4 ? launch_gather_of<ELEMENT_F32, 4>(l, stream) : launch_gather_of<ELEMENT_F32, 1>(l, stream);
  if (columns == 8) return launch_gather_of<ELEMENT_BF16, 8>(l, stream);
  return columns == 4 ? launch_gather_of<ELEMENT_BF16, 4>(l, stream) : launch_gather_of<ELEMENT_BF16, 1>(l, stream);
}
