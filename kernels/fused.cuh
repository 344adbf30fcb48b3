// A dense layer in one kernel: a product of tiles whose epilogue is the layer's element-wise work, so that products are
// never stored. Forward: A = dropout(g(A_in W^T + b)). Backward: dZ = (dZ_above W) g' dropout, with its column sums.
//
// Both are left (rows, K) times W. A block has COLUMNS columns of the result and walks down the tiles of ROWS rows of its
// run. The loop over K, cut into chunks of 64 bytes of a row, is one pipeline over all tiles of the block: asynchronous
// copies are STAGES - 1 chunks ahead, so the next tile's arrive during a tile's epilogue. W stays in shared memory if it
// fits there (`resident`), otherwise each tile copies it again. Tiles, runs and all orders of summation follow from the
// shape and the variant.
#ifndef DESCENT_KERNELS_FUSED_CUH
#define DESCENT_KERNELS_FUSED_CUH

#include "dense.cuh"
#include "mma.cuh"

enum arithmetic { MULTIPLY_ADD, TENSOR_TF32, TENSOR_BF16 };

// DOWN x ACROSS warps, each with TALL x WIDE fragments of 16 x 8 elements; BLOCKS of a multiprocessor at least.
template <int DOWN_, int ACROSS_, int TALL_, int WIDE_, int STAGES_, int BLOCKS_>
struct tile {
  enum {
    DOWN = DOWN_,
    ACROSS = ACROSS_,
    TALL = TALL_,
    WIDE = WIDE_,
    STAGES = STAGES_,
    BLOCKS = BLOCKS_,
    THREADS = DOWN * ACROSS * WARP,
    WARP_ROWS = TALL * 16,
    WARP_COLUMNS = WIDE * 8,
    ROWS = DOWN * WARP_ROWS,
    COLUMNS = ACROSS * WARP_COLUMNS,
  };
};

// What a launch computes, beside its pass.
struct fused_product {
  const void *left, *W;
  int64_t left_ld, W_ld;
  int k, chunks;
  int tiles;  // of rows, in a run
  bool resident;
};

// Shared memory, in bytes: the stages of `left`, the slabs of W (a chunk each), and for each warp 16 rows of float32
// sums on their way to the epilogue.
template <enum arithmetic ARITHMETIC, class TILE, bool BACKWARD>
struct fused_memory {
  enum {
    SIZE = ARITHMETIC == TENSOR_BF16 ? 2 : 4,
    CHUNK = 64,           // bytes of a row, 4 pieces of 16
    EACH = CHUNK / SIZE,  // of K
    PIECE = 16 / SIZE,    // elements
    LEFT = TILE::ROWS * CHUNK,
    // Forward, W has rows along K as `left` has. Backward, its rows are along the columns; they are padded so that 8
    // rows (ldmatrix) or 4 (32-bit loads) are in different banks.
    W_LD = BACKWARD ? TILE::COLUMNS * SIZE + (ARITHMETIC == TENSOR_BF16 ? 16 : 32) : CHUNK,
    SLAB = BACKWARD ? EACH * W_LD : TILE::COLUMNS * CHUNK,
    SUMS_LD = TILE::WARP_COLUMNS + 8,  // floats; 8 or 24 modulo 32, so 4 rows of a fragment are in different banks
    SUMS = 16 * SUMS_LD,               // floats of a warp
    FIXED = TILE::STAGES * LEFT + TILE::DOWN * TILE::ACROSS * SUMS * 4,
  };
};

// Rows of 64 bytes: their pieces trade places so that any 8 neighbouring rows have a piece in different banks.
static __device__ inline int piece_at(int row, int piece) { return row * 64 + ((piece ^ (row >> 1 & 3)) << 4); }

// Bytes of a piece that begins `left` elements before the end of its row.
static __device__ inline int bytes_of(int64_t left, int size) {
  return left * size >= 16 ? 16 : left > 0 ? (int)left * size : 0;
}

// Copies `count` rows of a matrix that ends at (rows, k), from (row, chunk) on.
template <class MEMORY, int COUNT, int THREADS>
static __device__ inline void copy_rows(unsigned char *to, const void *from, int64_t ld, int64_t row, int64_t rows,
                                        int chunk, int k) {
  const int thread = (int)threadIdx.x, piece = thread % 4, column = chunk * MEMORY::EACH + piece * MEMORY::PIECE;
  const int bytes = bytes_of(k - column, MEMORY::SIZE);
  const unsigned char *p = (const unsigned char *)from + ((row + thread / 4) * ld + column) * MEMORY::SIZE;
#pragma unroll
  for (int i = 0; i < (COUNT * 4 + THREADS - 1) / THREADS; i++) {
    const int at = thread / 4 + i * (THREADS / 4);
    if (COUNT * 4 % THREADS == 0 || at < COUNT) {
      const int here = row + at < rows ? bytes : 0;
      copy_async(to + piece_at(at, piece), here ? p : from, here);
    }
    p += THREADS / 4 * ld * MEMORY::SIZE;
  }
}

// Copies a chunk of W (k, n), from `column` on.
template <class MEMORY, int COLUMNS, int THREADS>
static __device__ inline void copy_columns(unsigned char *to, const void *from, int64_t ld, int64_t column, int64_t n,
                                           int chunk, int k) {
  enum { PIECES = COLUMNS / MEMORY::PIECE, ALL = PIECES * MEMORY::EACH };
#pragma unroll
  for (int i = 0; i < (ALL + THREADS - 1) / THREADS; i++) {
    const int at = (int)threadIdx.x + i * THREADS, row = at / PIECES, piece = at % PIECES;
    if (ALL % THREADS == 0 || at < ALL) {
      const int64_t r = chunk * MEMORY::EACH + row, c = column + piece * MEMORY::PIECE;
      const int bytes = r < k ? bytes_of(n - c, MEMORY::SIZE) : 0;
      copy_async(to + row * MEMORY::W_LD + piece * 16,
                 bytes ? (const unsigned char *)from + (r * ld + c) * MEMORY::SIZE : from, bytes);
    }
  }
}

// ---- a warp's product of one chunk ----

// sums: the fragments, each as mma.cuh has it. `left` and `slab` are at the warp's first row and column.
template <enum arithmetic ARITHMETIC, class TILE, bool BACKWARD>
static __device__ inline void multiply_chunk(float (&sums)[TILE::TALL][TILE::WIDE][4], const unsigned char *left,
                                             const unsigned char *slab) {
  typedef fused_memory<ARITHMETIC, TILE, BACKWARD> memory;
  const int lane = (int)threadIdx.x % WARP, group = lane / 4, member = lane % 4;
  if constexpr (ARITHMETIC == MULTIPLY_ADD) {
#pragma unroll 1  // the code of 4 pieces would not fit the instruction cache
    for (int piece = 0; piece < 4; piece++) {
      float a[2 * TILE::TALL][4];
#pragma unroll
      for (int i = 0; i < 2 * TILE::TALL; i++)
        load_values<ELEMENT_F32, 4>((const float *)(left + piece_at(8 * i + group, piece)), a[i]);
#pragma unroll
      for (int j = 0; j < TILE::WIDE; j++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
          const int column = 8 * j + 2 * member + e;
          float b[4];
          if constexpr (BACKWARD) {
#pragma unroll
            for (int p = 0; p < 4; p++) b[p] = *(const float *)(slab + (piece * 4 + p) * memory::W_LD + column * 4);
          } else {
            load_values<ELEMENT_F32, 4>((const float *)(slab + piece_at(column, piece)), b);
          }
#pragma unroll
          for (int i = 0; i < 2 * TILE::TALL; i++)
#pragma unroll
            for (int p = 0; p < 4; p++) {
              float &sum = sums[i / 2][j][i % 2 * 2 + e];
              sum = fmaf(a[i][p], b[p], sum);
            }
        }
    }
  } else {
    static_assert(TILE::WIDE % 2 == 0, "W is loaded for two fragments at a time");
#pragma unroll
    for (int half = 0; half < 2; half++) {  // 32 bytes of K: one product of fragments
      uint32_t a[TILE::TALL][4], b[TILE::WIDE][2];
#pragma unroll
      for (int i = 0; i < TILE::TALL; i++)
        load_matrices(a[i], left + piece_at(16 * i + lane % 16, 2 * half + lane / 16));
#pragma unroll
      for (int j = 0; j < TILE::WIDE; j += 2) {
        if constexpr (BACKWARD && ARITHMETIC == TENSOR_TF32) {
#pragma unroll
          for (int e = 0; e < 4; e++)
            b[j + e / 2][e % 2] = *(const uint32_t *)(slab + (half * 8 + e % 2 * 4 + member) * memory::W_LD +
                                                      (8 * (j + e / 2) + group) * 4);
        } else {
          uint32_t words[4];
          if constexpr (BACKWARD)
            load_matrices_transposed(words,
                                     slab + (half * 16 + lane % 16) * memory::W_LD + (8 * j + lane / 16 * 8) * 2);
          else
            load_matrices(words, slab + piece_at(8 * j + lane / 16 * 8 + lane % 8, 2 * half + lane / 8 % 2));
          b[j][0] = words[0], b[j][1] = words[1], b[j + 1][0] = words[2], b[j + 1][1] = words[3];
        }
      }
#pragma unroll
      for (int i = 0; i < TILE::TALL; i++)
#pragma unroll
        for (int j = 0; j < TILE::WIDE; j++) {
          if constexpr (ARITHMETIC == TENSOR_BF16)
            mma_bf16(sums[i][j], a[i], b[j]);
          else
            mma_tf32(sums[i][j], a[i], b[j]);
        }
    }
  }
}

// ---- the epilogue: a thread has COUNT neighbouring columns of a row ----

// Which: the same columns in every step, DOWN rows further each time.
template <class TILE, int COUNT>
struct epilogue_place {
  enum {
    GROUPS = TILE::WARP_COLUMNS / COUNT,
    DOWN = WARP / GROUPS,
    PASSES = (16 + DOWN - 1) / DOWN,  // of a row of fragments
    STEPS = TILE::TALL * PASSES,
  };
  int down, column;  // of the warp's tile
  __device__ epilogue_place()
      : down((int)threadIdx.x % WARP / GROUPS), column((int)threadIdx.x % WARP % GROUPS * COUNT) {}
  // The row of a step in the warp's tile; -1: none.
  __device__ int row(int step) const {
    const int inside = step % PASSES * DOWN + down;
    return step < STEPS && down < DOWN && inside < 16 ? step / PASSES * 16 + inside : -1;
  }
};

// Two threads in a row of which each reads 8 floats in accesses of 4 would meet in a bank: odd groups of 32 bytes have
// their halves exchanged, in odd rows the even ones.
template <int COUNT>
static __device__ inline int sums_at(int row, int column) {
  return COUNT == 8 ? column ^ ((row ^ column >> 5) & 1) << 2 : column;
}

// Calls use(step, row, values) for the rows of the warp's tile, in a fixed order; all lanes call it, row -1 is none.
// `shared` is the warp's.
template <class TILE, int COUNT, class USE>
static __device__ inline void epilogue(const float (&sums)[TILE::TALL][TILE::WIDE][4], float *shared, USE use) {
  typedef epilogue_place<TILE, COUNT> place;
  enum { LD = TILE::WARP_COLUMNS + 8 };
  const place at;
  const int lane = (int)threadIdx.x % WARP, group = lane / 4, member = lane % 4;
#pragma unroll 1
  for (int step = 0; step < place::STEPS; step++) {
    if (step % place::PASSES == 0) {
      __syncwarp();
#pragma unroll
      for (int i = 0; i < TILE::TALL; i++)  // constant, so that sums stay in registers
        if (i == step / place::PASSES)
#pragma unroll
          for (int j = 0; j < TILE::WIDE; j++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
              const int row = group + 8 * half;
              *(uint2 *)(shared + row * LD + sums_at<COUNT>(row, 8 * j + 2 * member)) =
                  make_uint2(float_bits(sums[i][j][2 * half]), float_bits(sums[i][j][2 * half + 1]));
            }
      __syncwarp();
    }
    const int row = at.row(step);
    float values[COUNT] = {};
    if (row >= 0) {
#pragma unroll
      for (int i = 0; i < COUNT; i += 4) {
        float four[4];
        load_values<ELEMENT_F32, 4>(shared + row % 16 * LD + sums_at<COUNT>(row, at.column + i), four);
#pragma unroll
        for (int j = 0; j < 4; j++) values[i + j] = four[j];
      }
    }
    use(step, row, values);
  }
}

// The first `count` of COUNT columns: of fewer the last ones of the matrix.
template <enum element ELEMENT, int COUNT>
static __device__ inline void load_first(pack<ELEMENT, COUNT, true> &to, const typename Element<ELEMENT>::type *p,
                                         int count) {
  if (count == COUNT) {
    to.load(p);
  } else {
    float values[COUNT];
#pragma unroll
    for (int i = 0; i < COUNT; i++) values[i] = i < count ? Element<ELEMENT>::load(p + i) : 0.0f;
    to.set(values);
  }
}
template <enum element ELEMENT, int COUNT>
static __device__ inline void store_first(const pack<ELEMENT, COUNT, true> &from, typename Element<ELEMENT>::type *p,
                                          int count) {
  if (count == COUNT) {
    from.store(p);
  } else {
#pragma unroll
    for (int i = 0; i < COUNT; i++)
      if (i < count) Element<ELEMENT>::store(p + i, from.value(i));
  }
}

// drop() for any index.
template <int COUNT>
static __device__ inline void drop_from(const struct dropout &d, int64_t index, float (&values)[COUNT]) {
  const int before = (int)(index % 4);  // words of the first block
  uint32_t words[COUNT + 4];
#pragma unroll
  for (int i = 0; i < COUNT + 4; i += 4) {
    philox4x32_ctr_t block = {};
    if (i < COUNT || before) block = rng_block(d.seed, RNG_DROPOUT, d.layer, d.step, (uint64_t)index / 4 + i / 4);
#pragma unroll
    for (int k = 0; k < 4; k++) words[i + k] = block.v[k];
  }
#pragma unroll
  for (int i = 0; i < COUNT + 2; i++) words[i] = before & 2 ? words[i + 2] : words[i];
#pragma unroll
  for (int i = 0; i < COUNT; i++)
    values[i] = formula_dropout(values[i], before & 1 ? words[i + 1] : words[i], d.threshold, d.dropout_scale);
}

template <enum element ELEMENT, int COUNT>
static __device__ inline void activate_all(descent_activation activation, float (&values)[COUNT]) {
  switch (activation) {
#define CASE(NAME, text)                                          \
  case DESCENT_ACTIVATION_##NAME:                                 \
    _Pragma("unroll") for (int i = 0; i < COUNT; i++) values[i] = \
        activate<ELEMENT>(DESCENT_ACTIVATION_##NAME, values[i]);  \
    break;
    DESCENT_ACTIVATION_MAP(CASE)
#undef CASE
  }
}

// values *= g'(x)
template <int COUNT>
static __device__ inline void times_slope(descent_activation activation, const float (&x)[COUNT],
                                          float (&values)[COUNT]) {
  switch (activation) {
#define CASE(NAME, text)                                                                                           \
  case DESCENT_ACTIVATION_##NAME:                                                                                  \
    _Pragma("unroll") for (int i = 0; i < COUNT; i++) values[i] *= formula_slope(DESCENT_ACTIVATION_##NAME, x[i]); \
    break;
    DESCENT_ACTIVATION_MAP(CASE)
#undef CASE
  }
}

// ---- forward ----

template <enum element ELEMENT, int COUNT>
struct forward_epilogue {
  const struct forward_launch &l;
  struct dropout dropout;
  int64_t column;
  int count;  // columns inside the matrix
  float bias[COUNT];

  __device__ forward_epilogue(const struct forward_launch &launch, int64_t column_) : l(launch), column(column_) {
    count = column >= l.n ? 0 : l.n - column < COUNT ? (int)(l.n - column) : COUNT;
    dropout = {l.seed, l.threshold ? (uint64_t)l.state->current.number : 0, l.layer, l.threshold, l.dropout_scale};
#pragma unroll
    for (int i = 0; i < COUNT; i++)
      bias[i] = !l.bias || i >= count           ? 0.0f
                : l.bias_element == ELEMENT_F32 ? ((const float *)l.bias)[column + i]
                                                : bf16_value(((const uint16_t *)l.bias)[column + i]);
  }

  template <class TILE>
  __device__ void tile(const float (&sums)[TILE::TALL][TILE::WIDE][4], float *shared, int64_t first) {
    typedef typename Element<ELEMENT>::type type;
    epilogue<TILE, COUNT>(sums, shared, [&](int, int row, float(&values)[COUNT]) {
      const int64_t r = first + row;
      if (row < 0 || r >= l.rows || count == 0) return;
      pack<ELEMENT, COUNT, true> out;
#pragma unroll
      for (int i = 0; i < COUNT; i++) values[i] += bias[i];
      if (l.Z.data) {
        out.set(values);
        store_first(out, (type *)l.Z.data + r * l.Z.ld + column, count);
      }
      activate_all<ELEMENT>(l.activation, values);
      if (l.threshold) drop_from(dropout, r * l.n + column, values);
      out.set(values);
      store_first(out, (type *)l.A.data + r * l.A.ld + column, count);
    });
  }
  template <class TILE>
  __device__ void end(float *) {}
};

// ---- backward ----

template <enum element ELEMENT, int COUNT>
struct backward_epilogue {
  enum { AHEAD = 4 };  // loads of A or Z in flight
  const struct backward_launch &l;
  struct dropout dropout;
  struct device_matrix from;
  bool linear, masks;
  float dropout_scale, keep_probability;
  int64_t column;
  int count;
  float sums_of[COUNT];  // of this thread's rows

  __device__ backward_epilogue(const struct backward_launch &launch, int64_t column_) : l(launch), column(column_) {
    const bool from_z = slope_is_from_z(l.activation), drops = l.threshold && slope_drops(l.activation);
    count = column >= l.n ? 0 : l.n - column < COUNT ? (int)(l.n - column) : COUNT;
    linear = l.activation == DESCENT_ACTIVATION_IDENTITY;
    masks = l.threshold && !drops;
    dropout = {l.seed, masks ? (uint64_t)l.state->current.number : 0, l.layer, l.threshold, l.dropout_scale};
    from = from_z ? l.Z : l.A;
    dropout_scale = drops ? l.dropout_scale : 1.0f;
    keep_probability = l.threshold && !from_z ? l.keep_probability : 1.0f;
#pragma unroll
    for (int i = 0; i < COUNT; i++) sums_of[i] = 0.0f;
  }

  template <class TILE>
  __device__ void tile(const float (&sums)[TILE::TALL][TILE::WIDE][4], float *shared, int64_t first) {
    typedef typename Element<ELEMENT>::type type;
    typedef pack<ELEMENT, COUNT, true> row_pack;
    const epilogue_place<TILE, COUNT> at;
    row_pack ahead[AHEAD];
    const auto load = [&](int step) {
      row_pack x = {};
      const int row = at.row(step);
      if (row >= 0 && first + row < l.rows && count > 0 && !linear)
        load_first(x, (const type *)from.data + (first + row) * from.ld + column, count);
      return x;
    };
#pragma unroll
    for (int i = 0; i < AHEAD; i++) ahead[i] = load(i);
    epilogue<TILE, COUNT>(sums, shared, [&](int step, int row, float(&values)[COUNT]) {
      const row_pack now = ahead[0];
#pragma unroll
      for (int i = 0; i + 1 < AHEAD; i++) ahead[i] = ahead[i + 1];
      ahead[AHEAD - 1] = load(step + AHEAD);
      const int64_t r = first + row;
      if (row < 0 || r >= l.rows || count == 0) return;
      row_pack out;
      float x[COUNT];
#pragma unroll
      for (int i = 0; i < COUNT; i++) x[i] = now.value(i) * keep_probability;
      times_slope(l.activation, x, values);
#pragma unroll
      for (int i = 0; i < COUNT; i++) values[i] *= dropout_scale;
      if (masks) drop_from(dropout, r * l.n + column, values);
      out.set(values);
      store_first(out, (type *)l.dZ.data + r * l.dZ.ld + column, count);
#pragma unroll
      for (int i = 0; i < COUNT; i++) sums_of[i] += out.value(i);
    });
  }

  // The block's column sums: its rows of threads in order; then the runs, by the last block of these columns. `shared` is
  // all warps'. The scratch has a row of whole tiles for each run.
  template <class TILE>
  __device__ void end(float *shared) {
    typedef epilogue_place<TILE, COUNT> place;
    enum { LD = TILE::WARP_COLUMNS + 8, ACROSS = TILE::COLUMNS / 4, PARTS = TILE::THREADS / ACROSS };
    const place at;
    const int thread = (int)threadIdx.x;
    if (!l.bias_gradient) return;
    __syncwarp();
    if (at.down < place::DOWN)
      store_values<ELEMENT_F32, COUNT>(shared + (thread / WARP * 16 + at.down) * LD + at.column, sums_of);
    __syncthreads();
    const int64_t begin = (int64_t)blockIdx.x * TILE::COLUMNS, all = (int64_t)gridDim.x * TILE::COLUMNS;
    float *const partials = (float *)l.scratch.partials + begin;  // (runs, all)
    float sum = 0.0f;
    if (thread < TILE::COLUMNS) {
      const float *p = shared + thread / TILE::WARP_COLUMNS * 16 * LD + thread % TILE::WARP_COLUMNS;
#pragma unroll
      for (int i = 0; i < TILE::DOWN; i++)
#pragma unroll
        for (int k = 0; k < place::DOWN; k++) sum += p[(i * TILE::ACROSS * 16 + k) * LD];
      if (gridDim.y > 1) partials[blockIdx.y * all + thread] = sum;
    }
    if (gridDim.y > 1) {
      if (!is_last_of(&l.scratch.counters[blockIdx.x], gridDim.y)) return;
      const int part = thread / ACROSS, four = thread % ACROSS * 4;
      float some[4] = {};
      if (part < PARTS) {
#pragma unroll 8
        for (unsigned run = (unsigned)part; run < gridDim.y; run += PARTS) {
          float partial[4];
          load_values<ELEMENT_F32, 4>(partials + run * all + four, partial);
#pragma unroll
          for (int i = 0; i < 4; i++) some[i] += partial[i];
        }
        store_values<ELEMENT_F32, 4>(shared + part * TILE::COLUMNS + four, some);
      }
      __syncthreads();
      sum = 0.0f;
      for (int i = 0; i < PARTS && thread < TILE::COLUMNS; i++) sum += shared[i * TILE::COLUMNS + thread];
    }
    if (thread < TILE::COLUMNS && begin + thread < l.n) l.bias_gradient[begin + thread] = sum;
  }
};

// ---- the kernel ----

template <enum arithmetic ARITHMETIC, bool BACKWARD>
struct fused_types {
  enum { COUNT = ARITHMETIC == TENSOR_BF16 ? 8 : 4 };
  static constexpr enum element ELEMENT = ARITHMETIC == TENSOR_BF16 ? ELEMENT_BF16 : ELEMENT_F32;
  typedef forward_launch pass;
  typedef forward_epilogue<ELEMENT, COUNT> epilogue;
};
template <enum arithmetic ARITHMETIC>
struct fused_types<ARITHMETIC, true> {
  enum { COUNT = ARITHMETIC == TENSOR_BF16 ? 8 : 4 };
  static constexpr enum element ELEMENT = ARITHMETIC == TENSOR_BF16 ? ELEMENT_BF16 : ELEMENT_F32;
  typedef backward_launch pass;
  typedef backward_epilogue<ELEMENT, COUNT> epilogue;
};

// Grid: (tiles of columns, runs of rows), so that blocks that read the same rows run together. Shared memory as in
// fused_memory.
template <enum arithmetic ARITHMETIC, class TILE, bool BACKWARD>
static __global__ void __launch_bounds__(TILE::THREADS, TILE::BLOCKS)
    fused_kernel(typename fused_types<ARITHMETIC, BACKWARD>::pass pass, struct fused_product product) {
  typedef fused_memory<ARITHMETIC, TILE, BACKWARD> memory;
  typedef fused_types<ARITHMETIC, BACKWARD> types;
  SHARED_MEMORY(shared);
  unsigned char *const lefts = shared, *const slabs = lefts + TILE::STAGES * memory::LEFT;
  float *const all_sums = (float *)(slabs + (product.resident ? product.chunks : (int)TILE::STAGES) * memory::SLAB);
  const int warp = (int)threadIdx.x / WARP, warp_row = warp / TILE::ACROSS * TILE::WARP_ROWS;
  const int warp_column = warp % TILE::ACROSS * TILE::WARP_COLUMNS;
  float *const warp_sums = all_sums + warp * memory::SUMS;
  const int64_t rows = pass.rows, n = pass.n, column = (int64_t)blockIdx.x * TILE::COLUMNS;
  const int64_t begin = (int64_t)blockIdx.y * product.tiles * TILE::ROWS;
  const int64_t end =
      begin + (int64_t)product.tiles * TILE::ROWS < rows ? begin + (int64_t)product.tiles * TILE::ROWS : rows;
  typename types::epilogue epilogue(pass, column + warp_column + epilogue_place<TILE, types::COUNT>().column);

  struct {
    int64_t row;  // of the tile
    int chunk, stage;
  } next = {begin, 0, 0};  // to copy
  const auto copy = [&] {
    if (next.row < end) {
      copy_rows<memory, TILE::ROWS, TILE::THREADS>(lefts + next.stage * memory::LEFT, product.left, product.left_ld,
                                                   next.row, rows, next.chunk, product.k);
      if (!product.resident || next.row == begin) {
        unsigned char *const slab = slabs + (product.resident ? next.chunk : next.stage) * memory::SLAB;
        if constexpr (BACKWARD)
          copy_columns<memory, TILE::COLUMNS, TILE::THREADS>(slab, product.W, product.W_ld, column, n, next.chunk,
                                                             product.k);
        else
          copy_rows<memory, TILE::COLUMNS, TILE::THREADS>(slab, product.W, product.W_ld, column, n, next.chunk,
                                                          product.k);
      }
      next.stage = next.stage + 1 < TILE::STAGES ? next.stage + 1 : 0;
      if (++next.chunk == product.chunks) next.chunk = 0, next.row += TILE::ROWS;
    }
    copy_commit();  // also of none, so that copy_wait counts chunks
  };
#pragma unroll 1
  for (int i = 0; i < TILE::STAGES - 1; i++) copy();

  int stage = 0;
#pragma unroll 1
  for (int64_t row = begin; row < end; row += TILE::ROWS) {
    float sums[TILE::TALL][TILE::WIDE][4] = {};
#pragma unroll 1
    for (int chunk = 0; chunk < product.chunks; chunk++) {
      copy_wait<TILE::STAGES - 2>();
      __syncthreads();  // this chunk is there, and the stage of the one before it is free
      copy();
      const unsigned char *const slab = slabs + (product.resident ? chunk : stage) * memory::SLAB;
      multiply_chunk<ARITHMETIC, TILE, BACKWARD>(
          sums, lefts + stage * memory::LEFT + warp_row * memory::CHUNK,
          slab + warp_column * (BACKWARD ? (int)memory::SIZE : (int)memory::CHUNK));
      stage = stage + 1 < TILE::STAGES ? stage + 1 : 0;
    }
    epilogue.template tile<TILE>(sums, warp_sums, row + warp_row);
  }
  epilogue.template end<TILE>(all_sums);
}

// ---- instances ----

struct fused_instance {
  int rows, columns;  // of a tile
  int stages;
  size_t fixed, slab, backward_slab;  // bytes of shared memory: each stage, or each chunk of a resident W, has a slab
  cudaError_t (*forward)(const struct forward_launch *, const struct fused_product *, dim3 blocks, size_t bytes,
                         cudaStream_t);
  cudaError_t (*backward)(const struct backward_launch *, const struct fused_product *, dim3 blocks, size_t bytes,
                          cudaStream_t);
};
struct fused_instances {
  const struct fused_instance *all;
  int n;
};
struct fused_instances fused_bf16(void), fused_tf32(void), fused_f32(void);

template <enum arithmetic ARITHMETIC, class TILE>
static constexpr struct fused_instance instance_of() {
  typedef fused_memory<ARITHMETIC, TILE, false> forward;
  typedef fused_memory<ARITHMETIC, TILE, true> backward;
  return {TILE::ROWS,
          TILE::COLUMNS,
          TILE::STAGES,
          forward::FIXED,
          forward::SLAB,
          backward::SLAB,
          [](const struct forward_launch *pass, const struct fused_product *product, dim3 blocks, size_t bytes,
             cudaStream_t stream) {
            return LAUNCH_SHARED((fused_kernel<ARITHMETIC, TILE, false>), blocks, TILE::THREADS, bytes, stream, *pass,
                                 *product);
          },
          [](const struct backward_launch *pass, const struct fused_product *product, dim3 blocks, size_t bytes,
             cudaStream_t stream) {
            return LAUNCH_SHARED((fused_kernel<ARITHMETIC, TILE, true>), blocks, TILE::THREADS, bytes, stream, *pass,
                                 *product);
          }};
}

#endif
