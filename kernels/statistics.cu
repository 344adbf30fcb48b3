// The statistics of a layer's activations: the mean in a first pass; in a second one the deviation from that mean and
// the units through which no gradient can pass. Threads sum as in sums.cuh; the rest is added in double.
#include "sums.cuh"

enum { ROWS_EACH = 8 };  // of a thread, at least, if there are enough

// The scratch: a partial sum for each block, then a mark for each unit that is alive.
static size_t scratch_bytes(int64_t rows, int64_t n, int columns) {
  const dim3 blocks = tiling_of(rows, n, columns, ROWS_EACH).blocks;
  return (size_t)blocks.x * blocks.y * sizeof(double) + (size_t)n * sizeof(uint32_t);
}

size_t statistics_scratch(int64_t rows, int64_t n) {
  const size_t single = scratch_bytes(rows, n, 1), wide = n % 4 == 0 ? scratch_bytes(rows, n, 4) : 0;
  return single > wide ? single : wide;
}

static __device__ inline uint32_t *marks_of(const struct statistics_launch &l) {
  return (uint32_t *)((double *)l.scratch.partials + (int64_t)gridDim.x * gridDim.y);
}

// The rows of the grid that belong to the step.
static __device__ inline int64_t valid_rows(const struct statistics_launch &l) {
  const int64_t rows = l.state->current.rows;
  return rows < l.rows ? rows : l.rows;
}

// Values whose mean is taken; 1 where there are none, whose sums are 0.
static __device__ inline double count_of(const struct statistics_launch &l, int64_t rows) {
  return rows > 0 ? (double)rows * (double)l.n : 1;
}

// At least 193 threads of a block have work, so that none has more than 1/64 of the terms.
static __device__ inline bool is_in_double(const struct statistics_launch &l, int64_t rows) {
  return rows * l.n < PRECISE_TERMS;
}

// Grid and block of both kernels: struct element_tiling.
template <enum element ELEMENT, int COUNT>
static __global__ void __launch_bounds__(BLOCK) mean_kernel(struct statistics_launch l, struct element_tiling t) {
  GRID_BEGIN();
  typedef typename Element<ELEMENT>::type type;
  const struct cells at = cells_of(t, l.n, COUNT);
  const int64_t rows = valid_rows(l);
  struct precise_sum values = {};
  for (int64_t r = at.row; r < rows && !at.idle; r += at.step) {
    float a[COUNT];
    load_values<ELEMENT, COUNT>((const type *)l.A.data + r * l.A.ld + at.column, a);
    add_values(values, a, is_in_double(l, rows));
  }
  uint32_t *alive = marks_of(l);
  const int64_t thread = ((int64_t)blockIdx.y * gridDim.x + blockIdx.x) * BLOCK + threadIdx.x;
  for (int64_t j = thread; j < l.n; j += (int64_t)gridDim.x * gridDim.y * BLOCK) alive[j] = 0;
  double sum;
  if (!grid_sum(total(values), l.scratch, &sum) || threadIdx.x != 0) return;
  l.layer_statistics[LAYER_MEAN] = sum / count_of(l, rows);
}

// True if a gradient could pass; `index`: of the element in the step. A dropped value is no evidence about its unit.
static __device__ inline bool is_alive(const struct statistics_launch &l, int64_t index, float x) {
  if (fabsf(formula_slope(l.activation, x)) < 1e-6f) return false;
  return !l.threshold || rng_keep(l.seed, l.layer, (uint64_t)l.state->current.number, (uint64_t)index, l.threshold);
}

// Blocks of a multiprocessor, so that an instance has 40 or 48 registers.
//
// The squares are of distances from the float32 nearest to the mean. No value is nearer to the mean, since values are
// float32 too, so the mean square is at most twice the variance, and subtracting the excess costs one bit.
template <enum element ELEMENT, int COUNT>
static __global__ void __launch_bounds__(BLOCK, COUNT == 1 ? 6 : 5)
    deviation_kernel(struct statistics_launch l, struct element_tiling t) {
  GRID_BEGIN();
  typedef typename Element<ELEMENT>::type type;
  const struct cells at = cells_of(t, l.n, COUNT);
  const int64_t rows = valid_rows(l);
  const float mean = (float)l.layer_statistics[LAYER_MEAN];
  float means[COUNT];
#pragma unroll
  for (int i = 0; i < COUNT; i++) means[i] = mean;
  const bool from_z = slope_is_from_z(l.activation);
  const float keep_probability = l.threshold && !from_z ? l.keep_probability : 1.0f;
  bool alive[COUNT] = {};
  struct precise_sum squares = {};
  int64_t index = (l.state->current.batch_row + at.row) * l.n + at.column;  // of the mask
  for (int64_t r = at.row; r < rows && !at.idle; r += at.step, index += at.step * l.n) {
    float x[COUNT];
    load_values<ELEMENT, COUNT>((const type *)l.A.data + r * l.A.ld + at.column, x);
    add_squared_distances(squares, x, means, is_in_double(l, rows));
    if (from_z) load_values<ELEMENT, COUNT>((const type *)l.Z.data + r * l.Z.ld + at.column, x);
#pragma unroll
    for (int i = 0; i < COUNT; i++) alive[i] = alive[i] || is_alive(l, index + i, x[i] * keep_probability);
  }
  uint32_t *marks = marks_of(l);
#pragma unroll
  for (int i = 0; i < COUNT; i++)
    if (alive[i]) marks[at.column + i] = 1;  // every writer writes the same value
  double sum;
  if (!grid_sum(total(squares), l.scratch, &sum)) return;
  uint32_t dead = 0;
  for (int64_t j = threadIdx.x; j < l.n; j += BLOCK) {
    bool is_active = marks[j];
    if (l.active) {
      is_active = is_active || l.active[j] == 1.0f;
      if (is_active) l.active[j] = 1.0f;
    }
    dead += !is_active;
  }
  dead = block_sum(dead);
  if (threadIdx.x != 0) return;
  const double off = l.layer_statistics[LAYER_MEAN] - (double)mean, variance = sum / count_of(l, rows) - off * off;
  l.layer_statistics[LAYER_STD] = sqrt(variance < 0 ? 0 : variance);
  l.layer_statistics[LAYER_DEAD] = (double)dead / (double)l.n;
}

template <enum element ELEMENT, int COUNT>
static cudaError_t launch_passes(const struct statistics_launch *l, cudaStream_t stream) {
  const struct element_tiling t = tiling_of(l->rows, l->n, COUNT, ROWS_EACH);
  const cudaError_t error = LAUNCH((mean_kernel<ELEMENT, COUNT>), t.blocks, BLOCK, stream, *l, t);
  return error == cudaSuccess ? LAUNCH((deviation_kernel<ELEMENT, COUNT>), t.blocks, BLOCK, stream, *l, t) : error;
}

cudaError_t launch_statistics(const struct statistics_launch *l, cudaStream_t stream) {
  if (l->Z.data && l->Z.element != l->A.element) return cudaErrorInvalidValue;
  const bool wide = l->n % 4 == 0 && is_aligned(l->A, 4) && is_aligned(l->Z, 4);
  if (l->A.element == ELEMENT_F32)
    return wide ? launch_passes<ELEMENT_F32, 4>(l, stream) : launch_passes<ELEMENT_F32, 1>(l, stream);
  return wide ? launch_passes<ELEMENT_BF16, 4>(l, stream) : launch_passes<ELEMENT_BF16, 1>(l, stream);
}
