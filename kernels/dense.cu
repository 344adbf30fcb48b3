// The dense layer's passes beside its products: bias, activation and dropout forward; derivative, dropout and the bias
// gradient backward. Each element is read once and written once.
//
// A thread owns a few neighbouring columns and walks down the rows, so that bias and column sums stay in registers. A
// block's threads cover `across` such groups of columns (a stripe, 128 or 256 bytes of each row) and `down` rows; the
// grid covers all stripes and runs of rows. The assignment of rows to threads and the order of summation depend on
// (rows, n, element) alone, so all column sums of one shape have the same bits, fused or not.
#include "dense.cuh"

// ---- distribution of work ----

// How a pass over a matrix (rows, n) is divided.
struct pass_grid {
  int columns;             // of a thread: as many as fit 16 bytes, or 4, or 1; they divide n
  int across, down;        // threads; across * down <= BLOCK, the rest are idle
  unsigned stripes, runs;  // blocks
  int64_t run;             // rows of a block, a multiple of `down`
};

static int64_t parts(int64_t n, int64_t each) { return (n + each - 1) / each; }

// The most runs for `rows` rows or fewer. pass_grid_of may give fewer, and more again for fewer rows: the length of a
// run is a multiple of `down`.
static int64_t most_runs(const struct pass_grid &grid, int64_t rows, bool sums) {
  enum { BLOCKS = 1024 };  // wanted
  const int64_t least_rows = sums ? 8 : 4, most = sums ? 256 : BLOCKS;
  int64_t runs = BLOCKS / (int64_t)grid.stripes;
  if (runs > most) runs = most;
  if (runs > parts(rows, least_rows * grid.down)) runs = parts(rows, least_rows * grid.down);
  return runs < 1 ? 1 : runs;
}

// `sums`: columns will be summed, so each thread should have several rows and each column few partial sums.
static struct pass_grid pass_grid_of(int64_t rows, int64_t n, enum element element, bool sums) {
  const int size = element == ELEMENT_F32 ? 4 : 2, wide = 16 / size;
  struct pass_grid grid;
  grid.columns = n % wide == 0 ? wide : n % 4 == 0 ? 4 : 1;
  const int64_t groups = n / grid.columns, most = (n * size < 2048 ? 128 : 256) / (grid.columns * size);
  grid.across = (int)parts(groups, parts(groups, most));
  grid.down = BLOCK / grid.across;
  grid.stripes = (unsigned)parts(groups, grid.across);
  grid.run = parts(parts(rows, most_runs(grid, rows, sums)), grid.down) * grid.down;
  grid.runs = (unsigned)parts(rows, grid.run);
  return grid;
}

struct place {
  int down;             // this thread's row among the block's
  int64_t row, column;  // its first
  int rows;             // number of rows, `pass_grid.down` apart; 0 for a thread without columns
};

static __device__ inline struct place place_of(const struct pass_grid &grid, int64_t rows, int64_t n) {
  struct place at;
  const int64_t begin = blockIdx.y * grid.run, end = begin + grid.run < rows ? begin + grid.run : rows;
  at.down = (int)threadIdx.x / grid.across;
  at.row = begin + at.down;
  at.column = ((int64_t)blockIdx.x * grid.across + (int)threadIdx.x % grid.across) * grid.columns;
  const bool idle = at.down >= grid.down || at.column >= n || at.row >= end;
  at.rows = idle ? 0 : (int)((end - at.row + grid.down - 1) / grid.down);
  return at;
}

// ---- instances ----

// An instance for every activation, and for matrices that are accessed one element at a time.
enum { ANY = N_ACTIVATIONS };

// Blocks of a multiprocessor, so that an instance has 64, 80 or 128 registers.
static constexpr int residents(int activation, bool dropout) { return activation == ANY ? 2 : dropout ? 3 : 4; }

// ---- forward: A = g(Z), Z = product + bias ----

template <int COUNT>
static __device__ inline void load_bias(const struct forward_launch &l, int64_t column, float (&bias)[COUNT]) {
#pragma unroll
  for (int i = 0; i < COUNT; i++)
    bias[i] = !l.bias || column >= l.n        ? 0.0f
              : l.bias_element == ELEMENT_F32 ? ((const float *)l.bias)[column + i]
                                              : bf16_value(((const uint16_t *)l.bias)[column + i]);
}

template <enum element ELEMENT, int COUNT, int ACTIVATION, bool DROPOUT>
static __global__ void __launch_bounds__(BLOCK, residents(ACTIVATION, DROPOUT))
    forward_kernel(struct forward_launch l, struct pass_grid grid) {
  GRID_BEGIN();
  typedef pack<ELEMENT, COUNT, ACTIVATION != ANY> row_pack;
  typedef typename row_pack::type type;
  enum { ROWS = DROPOUT ? 2 : 4 };  // loads in flight
  const descent_activation activation = ACTIVATION == ANY ? l.activation : (descent_activation)ACTIVATION;
  const bool masks = DROPOUT && (ACTIVATION != ANY || l.threshold);
  const struct dropout dropout = dropout_of(l, masks);
  const struct place at = place_of(grid, l.rows, l.n);
  const type *product = (const type *)l.product.data + at.row * l.product.ld + at.column;
  type *A = (type *)l.A.data + at.row * l.A.ld + at.column;
  type *Z = l.Z.data ? (type *)l.Z.data + at.row * l.Z.ld + at.column : NULL;
  int64_t index = mask_index(dropout, at.row, l.n, at.column);
  float bias[COUNT];
  load_bias(l, at.column, bias);
  for (int left = at.rows; left > 0; left -= ROWS) {
    row_pack packs[ROWS] = {};
#pragma unroll
    for (int i = 0; i < ROWS; i++)
      if (i < left) packs[i].load(product + i * grid.down * l.product.ld);
    product += ROWS * grid.down * l.product.ld;
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
      if (i >= left) break;
      float values[COUNT];
#pragma unroll
      for (int j = 0; j < COUNT; j++) values[j] = packs[i].value(j) + bias[j];
      if (Z) {
        packs[i].set(values);
        packs[i].store(Z);
        Z += grid.down * l.Z.ld;
      }
#pragma unroll
      for (int j = 0; j < COUNT; j++) values[j] = activate<ELEMENT>(activation, values[j]);
      if (masks) drop(dropout, index, values);
      packs[i].set(values);
      packs[i].store(A);
      A += grid.down * l.A.ld;
      index += grid.down * l.n;
    }
  }
}

// ---- column sums ----

// Adds the values of the threads of each column; the sums are in the first row of threads.
template <int COUNT>
static __device__ inline void add_rows(const struct pass_grid &grid, const struct place &at, float (&sums)[COUNT]) {
  SHARED_VARIABLE(shared, float[COUNT][BLOCK]);
  for (int left = grid.down; left > 1;) {
    const int half = (left + 1) / 2;
    if (at.down >= half && at.down < left)
#pragma unroll
      for (int i = 0; i < COUNT; i++) shared[i][threadIdx.x] = sums[i];
    __syncthreads();
    if (at.down < left - half)
#pragma unroll
      for (int i = 0; i < COUNT; i++) sums[i] += shared[i][(int)threadIdx.x + half * grid.across];
    left = half;
  }
}

// Reduces the threads' sums to those of all rows: over the block, then over the runs of rows by the stripe's last
// block.
template <int COUNT>
static __device__ inline void finish_sums(const struct backward_launch &l, const struct pass_grid &grid,
                                          const struct place &at, float (&sums)[COUNT]) {
  const bool writes = at.down == 0 && at.column < l.n;
  add_rows(grid, at, sums);
  if (grid.runs > 1) {
    float *partials = (float *)l.scratch.partials + at.column;  // (runs, n)
    if (writes) store_values<ELEMENT_F32, COUNT>(partials + blockIdx.y * l.n, sums);
    if (!is_last_of(&l.scratch.counters[blockIdx.x], grid.runs)) return;
#pragma unroll
    for (int i = 0; i < COUNT; i++) sums[i] = 0.0f;
    const int64_t end = at.down < grid.down && at.column < l.n ? (int64_t)grid.runs : 0;
#pragma unroll 4
    for (int64_t run = at.down; run < end; run += grid.down) {
      float partial[COUNT];
      load_values<ELEMENT_F32, COUNT>(partials + run * l.n, partial);
#pragma unroll
      for (int i = 0; i < COUNT; i++) sums[i] += partial[i];
    }
    add_rows(grid, at, sums);
  }
  if (writes)
#pragma unroll
    for (int i = 0; i < COUNT; i++) l.bias_gradient[at.column + i] = sums[i];
}

// ---- backward: dZ *= g' and dropout's factor ----

template <enum element ELEMENT, int COUNT, int ACTIVATION, bool DROPOUT>
static __global__ void __launch_bounds__(BLOCK, residents(ACTIVATION, DROPOUT))
    backward_kernel(struct backward_launch l, struct pass_grid grid) {
  GRID_BEGIN();
  typedef pack<ELEMENT, COUNT, ACTIVATION != ANY> row_pack;
  typedef typename row_pack::type type;
  enum { ROWS = DROPOUT || ACTIVATION == DESCENT_ACTIVATION_GELU ? 2 : 4 };  // of dZ and of A or Z: loads in flight
  const descent_activation activation = ACTIVATION == ANY ? l.activation : (descent_activation)ACTIVATION;
  const bool linear = activation == DESCENT_ACTIVATION_IDENTITY, from_z = slope_is_from_z(activation);
  const bool masks = DROPOUT && (ACTIVATION != ANY || (l.threshold && !slope_drops(activation)));
  const struct dropout dropout = dropout_of(l, masks);
  const bool drops = slope_drops(activation) && l.threshold;
  const float dropout_scale = drops ? l.dropout_scale : 1.0f;
  const float keep_probability = masks || drops ? l.keep_probability : 1.0f;
  const struct device_matrix from = from_z ? l.Z : l.A;
  const struct place at = place_of(grid, l.rows, l.n);
  const type *X = linear ? NULL : (const type *)from.data + at.row * from.ld + at.column;
  type *dZ = (type *)l.dZ.data + at.row * l.dZ.ld + at.column;
  int64_t index = mask_index(dropout, at.row, l.n, at.column);
  float sums[COUNT] = {};
  for (int left = at.rows; left > 0; left -= ROWS) {
    row_pack d[ROWS] = {}, x[ROWS] = {};
#pragma unroll
    for (int i = 0; i < ROWS; i++)
      if (i < left) {
        d[i].load(dZ + i * grid.down * l.dZ.ld);
        if (!linear) x[i].load(X + i * grid.down * from.ld);
      }
    if (!linear) X += ROWS * grid.down * from.ld;
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
      if (i >= left) break;
      float values[COUNT];
#pragma unroll
      for (int j = 0; j < COUNT; j++)
        values[j] = d[i].value(j) *
                    formula_slope(activation, from_z ? x[i].value(j) : x[i].value(j) * keep_probability) *
                    dropout_scale;
      if (masks) drop(dropout, index, values);
      if (!linear || masks) {
        d[i].set(values);
        d[i].store(dZ);
      }
#pragma unroll
      for (int j = 0; j < COUNT; j++) sums[j] += d[i].value(j);
      dZ += grid.down * l.dZ.ld;
      index += grid.down * l.n;
    }
  }
  if (l.bias_gradient) finish_sums(l, grid, at, sums);
}

// ---- launches ----

// An instance for every activation, and one with dropout if the activation needs the mask: MASKS(activation).
#define INSTANCE(NAME, DROPS) (KERNEL<ELEMENT, COUNT, DESCENT_ACTIVATION_##NAME, DROPS>)
#define CASE(NAME, text)                                                                                     \
  case DESCENT_ACTIVATION_##NAME:                                                                            \
    return masks ? LAUNCH(INSTANCE(NAME, MASKS(DESCENT_ACTIVATION_##NAME)), blocks, BLOCK, stream, *l, grid) \
                 : LAUNCH(INSTANCE(NAME, false), blocks, BLOCK, stream, *l, grid);

#define KERNEL forward_kernel
#define MASKS(activation) true
template <enum element ELEMENT, int COUNT>
static cudaError_t forward(const struct forward_launch *l, struct pass_grid grid, bool packed, cudaStream_t stream) {
  const dim3 blocks(grid.stripes, grid.runs);
  const bool masks = l->threshold != 0;
  if (!packed || COUNT == 1)
    return LAUNCH((forward_kernel<ELEMENT, COUNT, ANY, true>), blocks, BLOCK, stream, *l, grid);
  if constexpr (COUNT > 1) switch (l->activation) {
      DESCENT_ACTIVATION_MAP(CASE)
    }
  return cudaErrorInvalidValue;
}
#undef KERNEL
#undef MASKS

#define KERNEL backward_kernel
#define MASKS(activation) (!slope_drops(activation))
template <enum element ELEMENT, int COUNT>
static cudaError_t backward(const struct backward_launch *l, struct pass_grid grid, bool packed, cudaStream_t stream) {
  const dim3 blocks(grid.stripes, grid.runs);
  const bool masks = l->threshold != 0 && !slope_drops(l->activation);
  if (!packed || COUNT == 1)
    return LAUNCH((backward_kernel<ELEMENT, COUNT, ANY, true>), blocks, BLOCK, stream, *l, grid);
  if constexpr (COUNT > 1) switch (l->activation) {
      DESCENT_ACTIVATION_MAP(CASE)
    }
  return cudaErrorInvalidValue;
}
#undef KERNEL
#undef MASKS
#undef CASE
#undef INSTANCE

cudaError_t launch_forward(const struct forward_launch *l, cudaStream_t stream) {
  const enum element element = l->A.element;
  if (l->product.element != element || (l->Z.data && l->Z.element != element)) return cudaErrorInvalidValue;
  struct forward_launch launch = *l;
  if (l->Z.data == l->product.data && !l->bias) launch.Z.data = NULL;  // there already
  const bool is_copy = l->activation == DESCENT_ACTIVATION_IDENTITY && !l->threshold && !l->bias;
  if (is_copy && !launch.Z.data && l->A.data == l->product.data) return cudaSuccess;
  const struct pass_grid grid = pass_grid_of(l->rows, l->n, element, false);
  const bool packed =
      is_aligned(l->product, grid.columns) && is_aligned(l->Z, grid.columns) && is_aligned(l->A, grid.columns);
  if (element == ELEMENT_F32)
    return grid.columns == 4 ? forward<ELEMENT_F32, 4>(&launch, grid, packed, stream)
                             : forward<ELEMENT_F32, 1>(&launch, grid, packed, stream);
  return grid.columns == 8   ? forward<ELEMENT_BF16, 8>(&launch, grid, packed, stream)
         : grid.columns == 4 ? forward<ELEMENT_BF16, 4>(&launch, grid, packed, stream)
                             : forward<ELEMENT_BF16, 1>(&launch, grid, packed, stream);
}

cudaError_t launch_backward(const struct backward_launch *l, cudaStream_t stream) {
  const enum element element = l->dZ.element;
  const bool linear = l->activation == DESCENT_ACTIVATION_IDENTITY;
  const struct device_matrix none = {NULL, 0, element}, from = linear                           ? none
                                                               : slope_is_from_z(l->activation) ? l->Z
                                                                                                : l->A;
  if (from.element != element) return cudaErrorInvalidValue;
  if (linear && !l->threshold && !l->bias_gradient) return cudaSuccess;
  const struct pass_grid grid = pass_grid_of(l->rows, l->n, element, l->bias_gradient != NULL);
  const bool packed = is_aligned(l->dZ, grid.columns) && is_aligned(from, grid.columns);
  if (element == ELEMENT_F32)
    return grid.columns == 4 ? backward<ELEMENT_F32, 4>(l, grid, packed, stream)
                             : backward<ELEMENT_F32, 1>(l, grid, packed, stream);
  return grid.columns == 8   ? backward<ELEMENT_BF16, 8>(l, grid, packed, stream)
         : grid.columns == 4 ? backward<ELEMENT_BF16, 4>(l, grid, packed, stream)
                             : backward<ELEMENT_BF16, 1>(l, grid, packed, stream);
}

// If the derivative is 1, the backward pass is only the sums.
cudaError_t launch_column_sums(struct device_matrix dZ, int64_t rows, int64_t n, float *sums, struct scratch scratch,
                               cudaStream_t stream) {
  struct backward_launch l = {};
  l.dZ = dZ;
  l.rows = rows, l.n = n;
  l.activation = DESCENT_ACTIVATION_IDENTITY;
  l.bias_gradient = sums;
  l.scratch = scratch;
  return launch_backward(&l, stream);
}

size_t column_sums_scratch(int64_t rows, int64_t n) {
  const int64_t f32 = most_runs(pass_grid_of(rows, n, ELEMENT_F32, true), rows, true);
  const int64_t bf16 = most_runs(pass_grid_of(rows, n, ELEMENT_BF16, true), rows, true);
  return (size_t)(f32 > bf16 ? f32 : bf16) * (size_t)n * sizeof(float);
}
