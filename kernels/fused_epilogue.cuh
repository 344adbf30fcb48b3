// The epilogue of a dense layer in one kernel: float32 sums of a warp's tile, through shared memory, to the layer's
// element-wise work on 16 bytes of a row at a time; and the column sums of what it writes.
#ifndef DESCENT_KERNELS_FUSED_EPILOGUE_CUH
#define DESCENT_KERNELS_FUSED_EPILOGUE_CUH

#include "dense.cuh"

// DOWN x ACROSS warps, each with TALL x WIDE fragments of 16 x 8 elements; at least BLOCKS of a multiprocessor, or
// BLOCKS_BACKWARD.
template <int DOWN_, int ACROSS_, int TALL_, int WIDE_, int STAGES_, int BLOCKS_, int BLOCKS_BACKWARD_>
struct tile {
  enum {
    DOWN = DOWN_,
    ACROSS = ACROSS_,
    TALL = TALL_,
    WIDE = WIDE_,
    STAGES = STAGES_,  // of the copies
    BLOCKS = BLOCKS_,
    BLOCKS_BACKWARD = BLOCKS_BACKWARD_,
    THREADS = DOWN * ACROSS * WARP,
    WARP_ROWS = TALL * 16,
    WARP_COLUMNS = WIDE * 8,
    ROWS = DOWN * WARP_ROWS,
    COLUMNS = ACROSS * WARP_COLUMNS,
    SUMS_LD = WARP_COLUMNS + 8,  // floats; 8 or 24 modulo 32, so 4 rows of a fragment are in different banks
    SUMS = 16 * SUMS_LD,         // floats of a warp: a row of fragments
  };
};

// The thread's number as a value that the compiler cannot know: what follows from it is computed again where it is
// used, instead of taking registers through the product's loop.
static __device__ inline int thread_now() {
  int thread = (int)threadIdx.x;
#ifdef __CUDACC__
  asm volatile("" : "+r"(thread));
#endif
  return thread;
}

// The columns of a lane, the same in every step, and its rows, DOWN further each time.
template <class TILE, int COUNT>
struct lane_place {
  enum {
    GROUPS = TILE::WARP_COLUMNS / COUNT,
    DOWN = WARP / GROUPS,
    PASSES = (16 + DOWN - 1) / DOWN,  // over a row of fragments
    STEPS = TILE::TALL * PASSES,
  };
  int group, down, column;
  explicit __device__ lane_place(int thread)
      : group(thread % WARP % GROUPS), down(thread % WARP / GROUPS), column(group * COUNT) {}
  // The row of a step in the warp's tile; -1: none.
  __device__ int row(int step) const {
    const int inside = step % PASSES * DOWN + down;
    return step < STEPS && down < DOWN && inside < 16 ? step / PASSES * 16 + inside : -1;
  }
};

// Where an element of a row of fragments is. Reading 8 floats in two accesses of 16 bytes, half of the lanes would use
// half of the banks: odd groups of 32 columns have the halves of their eights exchanged, in odd rows the even ones.
template <int COUNT>
static __device__ inline int sums_at(int row, int column) {
  return COUNT == 8 ? column ^ ((row ^ column >> 5) & 1) << 2 : column;
}

// Writes row `which` of the fragments, into rows of LD floats. Recursive because the compiler would turn a loop that
// looks for it into indexed sums, which cannot be registers.
template <class TILE, int COUNT, int LD = TILE::SUMS_LD, int I = 0>
static __device__ inline void write_fragments(const float (&sums)[TILE::TALL][TILE::WIDE][4], int which, int thread,
                                              float *shared) {
  if constexpr (I < TILE::TALL) {
    if (which != I) return write_fragments<TILE, COUNT, LD, I + 1>(sums, which, thread, shared);
    const int group = thread % WARP / 4, member = thread % 4;
#pragma unroll
    for (int j = 0; j < TILE::WIDE; j++)
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const int row = group + 8 * half;
        *(uint2 *)(shared + row * LD + sums_at<COUNT>(row, 8 * j + 2 * member)) =
            make_uint2(float_bits(sums[I][j][2 * half]), float_bits(sums[I][j][2 * half + 1]));
      }
  }
}

// Calls use(step, row, values) for each step, in order; all lanes call it, row -1 is none. `shared` is the warp's.
template <class TILE, int COUNT, class USE>
static __device__ inline void each_row(const float (&sums)[TILE::TALL][TILE::WIDE][4], float *shared, USE use) {
  typedef lane_place<TILE, COUNT> place;
  const place at(thread_now());
#pragma unroll 1  // the code of a step is long
  for (int step = 0; step < place::STEPS; step++) {
    if (step % place::PASSES == 0) {
      __syncwarp();
      write_fragments<TILE, COUNT>(sums, step / place::PASSES, thread_now(), shared);
      __syncwarp();
    }
    const int row = at.row(step);
    float values[COUNT] = {};
    if (row >= 0) {
#pragma unroll
      for (int i = 0; i < COUNT; i += 4) {
        float four[4];
        load_values<ELEMENT_F32, 4>(shared + row % 16 * TILE::SUMS_LD + sums_at<COUNT>(row, at.column + i), four);
#pragma unroll
        for (int j = 0; j < 4; j++) values[i + j] = four[j];
      }
    }
    use(step, row, values);
  }
}

// ---- COUNT columns, of which the first `count` are in the matrix ----

static __device__ inline int columns_inside(int64_t column, int64_t n, int most) {
  return column >= n ? 0 : n - column < most ? (int)(n - column) : most;
}

template <enum element ELEMENT, int COUNT>
static __device__ inline void store_first(const pack<ELEMENT, COUNT, true> &from, typename Element<ELEMENT>::type *p,
                                          int count) {
  if (count == COUNT) {
#ifdef __CUDACC__  // splits the plain store of 16 bytes into four here
    __stwb((uint4 *)p, make_uint4(from.words[0], from.words[1], from.words[2], from.words[3]));
#else
    from.store(p);
#endif
    return;
  }
#pragma unroll
  for (int i = 0; i < COUNT; i++)
    if (i < count) Element<ELEMENT>::store(p + i, from.value(i));
}

// Calls work(i, four) for each four of the values, i the first; one after another, which needs the fewest registers.
template <int COUNT, class WORK>
static __device__ inline void by_fours(float (&values)[COUNT], WORK work) {
#pragma unroll 1
  for (int i = 0; i < COUNT; i += 4) {
    float four[4] = {values[0], values[1], values[2], values[3]};
    work(i, four);
#pragma unroll
    for (int j = 0; j < COUNT - 4; j++) values[j] = values[j + 4];
#pragma unroll
    for (int j = 0; j < 4; j++) values[COUNT - 4 + j] = four[j];
  }
}

// drop() for 4 elements of a row from any column on.
static __device__ inline void drop_four(const struct dropout &d, int64_t row, int64_t n, int64_t column,
                                        float (&four)[4]) {
  const int64_t index = mask_index(d, row, n, column);
  if (index % 4 == 0) return drop(d, index, four);
#pragma unroll 1
  for (int i = 0; i < 4; i++) {
    float one[1] = {four[0]};
    drop(d, index + i, one);
    four[0] = four[1], four[1] = four[2], four[2] = four[3], four[3] = one[0];
  }
}

// Formulas of a few instructions are evaluated for all columns at once.
template <enum element ELEMENT>
static constexpr __host__ __device__ bool activation_is_short(descent_activation activation) {
  return activation == DESCENT_ACTIVATION_IDENTITY || activation == DESCENT_ACTIVATION_RELU ||
         activation == DESCENT_ACTIVATION_LEAKY_RELU ||
         (activation == DESCENT_ACTIVATION_TANH && ELEMENT == ELEMENT_BF16);
}

// The switches below have one branch for the columns; a switch in each column would be as many.
#define CASE(NAME, text)                                                         \
  case DESCENT_ACTIVATION_##NAME:                                                \
    if (!SHORT || IS_SHORT(DESCENT_ACTIVATION_##NAME))                           \
      _Pragma("unroll") for (int i = 0; i < COUNT; i++) values[i] = VALUE(NAME); \
    break;

// values = g(values); SHORT: activation_is_short
template <enum element ELEMENT, bool SHORT, int COUNT>
static __device__ inline void activate_all(descent_activation activation, float (&values)[COUNT]) {
#define IS_SHORT activation_is_short<ELEMENT>
#define VALUE(NAME) activate<ELEMENT>(DESCENT_ACTIVATION_##NAME, values[i])
  switch (activation) { DESCENT_ACTIVATION_MAP(CASE) }
#undef VALUE
#undef IS_SHORT
}

// values *= g'(x); SHORT: g' comes from A.
template <bool SHORT, int COUNT>
static __device__ inline void times_slope(descent_activation activation, const float (&x)[COUNT],
                                          float (&values)[COUNT]) {
#define IS_SHORT !slope_is_from_z
#define VALUE(NAME) values[i] * formula_slope(DESCENT_ACTIVATION_##NAME, x[i])
  switch (activation) { DESCENT_ACTIVATION_MAP(CASE) }
#undef VALUE
#undef IS_SHORT
}
#undef CASE

// values = dropout(g(values)) of neighbouring columns of a row, from `column` on.
template <enum element ELEMENT, class PASS, int COUNT>
static __device__ inline void activate_columns(const PASS &l, int64_t row, int64_t column, float (&values)[COUNT]) {
  if (activation_is_short<ELEMENT>(l.activation) && !l.threshold)
    activate_all<ELEMENT, true>(l.activation, values);
  else
    by_fours(values, [&](int i, float(&four)[4]) {
      activate_all<ELEMENT, false>(l.activation, four);
      if (l.threshold) drop_four(dropout_of(l), row, l.n, column + i, four);
    });
}

// How g' and dropout follow from what was stored, `from` A or Z.
struct slope_rule {
  bool from_z, masks;
  float dropout_scale, keep_probability;
};
template <class PASS>
static __device__ inline struct slope_rule slope_rule_of(const PASS &l) {
  const bool from_z = slope_is_from_z(l.activation), drops = l.threshold && slope_drops(l.activation);
  return {from_z, l.threshold && !drops, drops ? l.dropout_scale : 1.0f,
          l.threshold && !from_z ? l.keep_probability : 1.0f};
}

// values *= g' dropout of neighbouring columns of a row, with their A or Z, which is used up.
template <enum element ELEMENT, class PASS, int COUNT>
static __device__ inline void times_slopes(const PASS &l, const struct slope_rule &rule,
                                           pack<ELEMENT, COUNT, true> &from, int64_t row, int64_t column,
                                           float (&values)[COUNT]) {
  if (!rule.from_z && !rule.masks) {
    float x[COUNT];
#pragma unroll
    for (int i = 0; i < COUNT; i++) x[i] = from.value(i) * rule.keep_probability;
    times_slope<true>(l.activation, x, values);
#pragma unroll
    for (int i = 0; i < COUNT; i++) values[i] *= rule.dropout_scale;
  } else {
    by_fours(values, [&](int i, float(&four)[4]) {
      const float x[4] = {from.value(0) * rule.keep_probability, from.value(1) * rule.keep_probability,
                          from.value(2) * rule.keep_probability, from.value(3) * rule.keep_probability};
      times_slope<false>(l.activation, x, four);
      if (rule.masks) drop_four(dropout_of(l), row, l.n, column + i, four);
      if (COUNT == 8) from.words[0] = from.words[2], from.words[1] = from.words[3];
    });
  }
}

// ---- forward ----

// The floats that the epilogue holds in shared memory from tile to tile. Forward: b of the block's columns.
template <class TILE, int COUNT>
static __device__ inline void begin_pass(const struct forward_launch &l, float *held) {
  for (int i = (int)threadIdx.x; i < TILE::COLUMNS; i += TILE::THREADS) {
    const int64_t column = (int64_t)blockIdx.x * TILE::COLUMNS + i;
    held[i] = !l.bias || column >= l.n        ? 0.0f
              : l.bias_element == ELEMENT_F32 ? ((const float *)l.bias)[column]
                                              : bf16_value(((const uint16_t *)l.bias)[column]);
  }
}

// The warp's tile from (first, column) on, `column` that of the lane; `inside` of the block's columns.
template <class TILE, enum element ELEMENT, int COUNT>
static __device__ inline void finish_tile(const struct forward_launch &l,
                                          const float (&sums)[TILE::TALL][TILE::WIDE][4], int64_t first, int64_t column,
                                          int inside, float *shared, const float *held) {
  typedef typename Element<ELEMENT>::type type;
  const int count = columns_inside(column, l.n, COUNT);
  each_row<TILE, COUNT>(sums, shared, [&](int, int row, float(&values)[COUNT]) {
    const int64_t r = first + row;
    if (row < 0 || r >= l.rows || count == 0) return;
    pack<ELEMENT, COUNT, true> out;
#pragma unroll
    for (int i = 0; i < COUNT; i += 4) {
      float bias[4];
      load_values<ELEMENT_F32, 4>(held + inside + i, bias);
#pragma unroll
      for (int j = 0; j < 4; j++) values[i + j] += bias[j];
    }
    if (l.Z.data) {
      out.set(values);
      store_first(out, (type *)l.Z.data + r * l.Z.ld + column, count);
    }
    activate_columns<ELEMENT>(l, r, column, values);
    out.set(values);
    store_first(out, (type *)l.A.data + r * l.A.ld + column, count);
  });
}

template <class TILE, int COUNT>
static __device__ inline void end_pass(const struct forward_launch &, float *) {}

// ---- backward ----

// The column sums of each thread's rows, COUNT floats each.
template <class TILE, int COUNT>
static __device__ inline void begin_pass(const struct backward_launch &, float *held) {
  const float zeros[COUNT] = {};
  store_values<ELEMENT_F32, COUNT>(held + (int)threadIdx.x * COUNT, zeros);
}

template <class TILE, enum element ELEMENT, int COUNT>
static __device__ inline void finish_tile(const struct backward_launch &l,
                                          const float (&sums)[TILE::TALL][TILE::WIDE][4], int64_t first, int64_t column,
                                          int, float *shared, float *held) {
  typedef typename Element<ELEMENT>::type type;
  typedef pack<ELEMENT, COUNT, true> row_pack;
  typedef lane_place<TILE, COUNT> place;
  enum {
    AHEAD = TILE::TALL * TILE::WIDE < 16    ? 4
            : TILE::TALL * TILE::WIDE == 16 ? 2
                                            : 1
  };  // loads of A or Z in flight
  const int count = columns_inside(column, l.n, COUNT);
  const struct slope_rule rule = slope_rule_of(l);
  const bool loads = l.activation != DESCENT_ACTIVATION_IDENTITY && count > 0;
  const struct device_matrix from = rule.from_z ? l.Z : l.A;
  const place at(thread_now());
  const auto load = [&](int step) {
    row_pack x = {};
    const int row = at.row(step);
    if (loads && row >= 0 && first + row < l.rows)
      x.load((const type *)from.data + (first + row) * from.ld + column);  // padding too: there, results go nowhere
    return x;
  };
  row_pack ahead[AHEAD];
#pragma unroll
  for (int i = 0; i < AHEAD; i++) ahead[i] = load(i);
  // Many fragments leave too few registers for the column sums.
  constexpr bool HAS_REGISTERS = TILE::TALL * TILE::WIDE <= 16;
  float column_sums[COUNT];
  if (HAS_REGISTERS) load_values<ELEMENT_F32, COUNT>(held + (int)threadIdx.x * COUNT, column_sums);
  each_row<TILE, COUNT>(sums, shared, [&](int step, int row, float(&values)[COUNT]) {
    row_pack now = ahead[0];
#pragma unroll
    for (int i = 0; i + 1 < AHEAD; i++) ahead[i] = ahead[i + 1];
    ahead[AHEAD - 1] = load(step + AHEAD);
    const int64_t r = first + row;
    if (row < 0 || r >= l.rows || count == 0) return;
    times_slopes<ELEMENT>(l, rule, now, r, column, values);
    row_pack out;
    out.set(values);
    store_first(out, (type *)l.dZ.data + r * l.dZ.ld + column, count);
    if (!HAS_REGISTERS) load_values<ELEMENT_F32, COUNT>(held + thread_now() * COUNT, column_sums);
#pragma unroll
    for (int i = 0; i < COUNT; i++) column_sums[i] += out.value(i);
    if (!HAS_REGISTERS) store_values<ELEMENT_F32, COUNT>(held + thread_now() * COUNT, column_sums);
  });
  if (HAS_REGISTERS) store_values<ELEMENT_F32, COUNT>(held + (int)threadIdx.x * COUNT, column_sums);
}

// The column sums of the block, over its rows of threads in order; then of the grid, over the runs, by the last block
// of these columns. The scratch has a row for each run, of whole tiles.
template <class TILE, int COUNT>
static __device__ inline void end_pass(const struct backward_launch &l, float *held) {
  typedef lane_place<TILE, COUNT> place;
  enum { ACROSS = TILE::COLUMNS / 4, PARTS = TILE::THREADS / ACROSS };
  const int thread = (int)threadIdx.x;
  if (!l.bias_gradient) return;
  const int64_t begin = (int64_t)blockIdx.x * TILE::COLUMNS, all = (int64_t)gridDim.x * TILE::COLUMNS;
  float *const partials = (float *)l.scratch.partials + begin;  // (runs, all)
  float sum = 0.0f;
  __syncthreads();
  if (thread < TILE::COLUMNS) {
    const float *p = held + thread / TILE::WARP_COLUMNS * WARP * COUNT + thread % TILE::WARP_COLUMNS;
#pragma unroll
    for (int i = 0; i < TILE::DOWN; i++)
#pragma unroll
      for (int k = 0; k < place::DOWN; k++) sum += p[i * TILE::ACROSS * WARP * COUNT + k * TILE::WARP_COLUMNS];
    if (gridDim.y > 1) partials[blockIdx.y * all + thread] = sum;
  }
  if (gridDim.y > 1) {
    if (!is_last_of(&l.scratch.counters[blockIdx.x], gridDim.y)) return;
    const int part = thread / ACROSS, four = thread % ACROSS * 4;
    if (part < PARTS) {
      float some[4] = {};
#pragma unroll 8
      for (unsigned run = (unsigned)part; run < gridDim.y; run += PARTS) {
        float partial[4];
        load_values<ELEMENT_F32, 4>(partials + run * all + four, partial);
#pragma unroll
        for (int i = 0; i < 4; i++) some[i] += partial[i];
      }
      store_values<ELEMENT_F32, 4>(held + part * TILE::COLUMNS + four, some);
    }
    __syncthreads();
    sum = 0.0f;
    for (int i = 0; i < PARTS && thread < TILE::COLUMNS; i++) sum += held[i * TILE::COLUMNS + thread];
  }
  if (thread < TILE::COLUMNS && begin + thread < l.n) l.bias_gradient[begin + thread] = sum;
}

#endif
