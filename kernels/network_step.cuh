// A narrow network in one kernel: a block takes tiles of rows through all layers, whose weights stay in its shared
// memory, and keeps the gradients of all weights in registers until its last tile.
//
// Each warp has 16 TALL rows of a tile in all layers and all columns, so the forward pass needs no barrier: A of a layer
// is in the registers that hold the sums of its product, and is packed into operands of the next one (bf16) or read back
// from the warp's own rows of shared memory. Backward, dW sums over all rows of the tile: a barrier in each layer makes
// dZ of all warps visible, then each warp adds to its piece of dW. Columns beyond n are 0 in W, A and dZ.
#ifndef DESCENT_KERNELS_NETWORK_STEP_CUH
#define DESCENT_KERNELS_NETWORK_STEP_CUH

#include "fused.cuh"
#include "loss.cuh"
#include "network.cuh"
#include "weights_warp.cuh"

enum { STEP_WIDTH = 64, STEP_BLOCKS = 256, FORWARD_BLOCKS = 512 };
enum { TOGETHER = 4 };  // fragments across that a branch, or a copy of values, is for

// PRODUCT: a warp's piece of each dW. Where the pieces of all warps make dW several times, each has a part of the rows.
// BLOCKS: the blocks that a multiprocessor should hold.
template <enum arithmetic ARITHMETIC_, int WIDTH_, int LAYERS_, int WARPS_, int TALL_, class PRODUCT_, int BLOCKS_>
struct step_tile {
  static constexpr enum arithmetic ARITHMETIC = ARITHMETIC_;
  static constexpr enum element ELEMENT = ARITHMETIC == TENSOR_BF16 ? ELEMENT_BF16 : ELEMENT_F32;
  typedef typename Element<ELEMENT>::type type;
  typedef PRODUCT_ Product;
  enum {
    WIDTH = WIDTH_,
    LAYERS = LAYERS_,
    WARPS = WARPS_,
    TALL = TALL_,
    BLOCKS = BLOCKS_,
    THREADS = WARPS * WARP,
    WARP_ROWS = 16 * TALL,
    ROWS = WARPS * WARP_ROWS,
    WIDE = WIDTH / 8,  // fragments
    SIZE = sizeof(type),
    UNIT = 16 / SIZE,                           // elements of a copy
    DEEP = ARITHMETIC == TENSOR_BF16 ? 16 : 8,  // columns of an operand's fragment
    // 8 rows of fragments, or 4 of 32 bits a column, are in different banks.
    LD = WIDTH + 8,
    ACROSS = WIDTH / Product::IN,
    PIECES = WIDTH / Product::OUT * ACROSS,
    SPLITS = WARPS / PIECES,
    PARTS = THREADS / WIDTH,  // of the rows, in column sums
  };
  static_assert(WARPS_ % (int)PIECES == 0 && (int)ROWS / (int)SPLITS % (int)Product::ROWS == 0,
                "the pieces make whole matrices");
  static_assert(LAYERS_ <= (int)NETWORK_LAYERS && LAYERS_ <= 8 * (int)ACROSS,
                "db of all layers are columns of one fragment");
};

// Shared memory, in bytes. The parameters; X of this tile and of the next one; A of the hidden layers, of which a
// forward pass needs one at most; dZ of two layers; the targets and weights of the tile's rows.
template <class TILE, bool STEP>
struct step_memory {
  enum { W_BYTES = TILE::WIDTH * TILE::LD * TILE::SIZE, ROWS_BYTES = TILE::ROWS * TILE::LD * TILE::SIZE };
  int X, A, dZ, bias, y, w, bytes;
  __host__ __device__ step_memory(int layers, int n_y) {
    X = layers * W_BYTES;
    A = X + 2 * ROWS_BYTES;
    dZ = A + (STEP ? layers - 1 : TILE::ARITHMETIC == TENSOR_BF16 ? 0 : 1) * ROWS_BYTES;
    bias = dZ + (STEP ? 2 : 0) * ROWS_BYTES;
    y = bias + layers * TILE::WIDTH * 4;
    w = y + (STEP ? TILE::ROWS * n_y * 4 : 0);
    bytes = w + (STEP ? TILE::ROWS * 4 : 0);
  }
};

struct step_lane {
  int warp, lane, group, member;
  // As values that the compiler computes again in each scope, which takes fewer registers (thread_now).
  __device__ step_lane() {
    const int thread = thread_now();
    warp = thread / WARP, lane = thread % WARP, group = lane / 4, member = lane % 4;
  }
};

// In the tile: the row of the lane's group.
template <class TILE>
static __device__ inline int row_of(const struct step_lane &at) {
  return at.warp * TILE::WARP_ROWS + at.group;
}

// ---- products of a warp's rows ----

// Operands in registers, packed from sums.
template <class TILE>
struct held_rows {
  uint32_t words[TILE::TALL][TILE::WIDE / 2][4];
  __device__ void load(int k, uint32_t (&a)[TILE::TALL][4]) const {
#pragma unroll
    for (int i = 0; i < TILE::TALL; i++)
#pragma unroll
      for (int e = 0; e < 4; e++) a[i][e] = words[i][k][e];
  }
};

// Operands in shared memory, from the warp's row `rows` on. tf32: the fragment's column `member` is column 2 member in
// memory, and column member + 4 the next one, in W too, so that a load of 8 bytes gives both.
template <class TILE, int TALL>
struct stored_rows {
  const typename TILE::type *rows;
  struct step_lane at;
  __device__ void load(int k, uint32_t (&a)[TALL][4]) const {
#pragma unroll
    for (int i = 0; i < TALL; i++) {
      if constexpr (TILE::ARITHMETIC == TENSOR_BF16) {
        load_matrices(a[i], rows + (16 * i + at.lane % 16) * TILE::LD + 16 * k + at.lane / 16 * 8);
      } else {
#pragma unroll
        for (int half = 0; half < 2; half++) {
          const uint2 pair = *(const uint2 *)(rows + (16 * i + 8 * half + at.group) * TILE::LD + 8 * k + 2 * at.member);
          a[i][half] = pair.x, a[i][2 + half] = pair.y;
        }
      }
    }
  }
};

// b of fragments j and j + 1, columns DEEP k on of the operand. TRANSPOSED: the product is with W, not W^T.
template <class TILE, bool TRANSPOSED>
static __device__ inline void load_W(const typename TILE::type *W, int k, int j, const struct step_lane &at,
                                     uint32_t (&b)[2][2]) {
  if constexpr (TILE::ARITHMETIC == TENSOR_BF16) {
    uint32_t words[4];
    if constexpr (TRANSPOSED)
      load_matrices_transposed(words, W + (16 * k + at.lane % 16) * TILE::LD + 8 * j + at.lane / 16 * 8);
    else
      load_matrices(words, W + (8 * j + at.lane / 16 * 8 + at.lane % 8) * TILE::LD + 16 * k + at.lane / 8 % 2 * 8);
    b[0][0] = words[0], b[0][1] = words[1], b[1][0] = words[2], b[1][1] = words[3];
  } else {
#pragma unroll
    for (int e = 0; e < 2; e++) {
      if constexpr (TRANSPOSED) {
        const float *const p = W + (8 * k + 2 * at.member) * TILE::LD + 8 * (j + e) + at.group;
        b[e][0] = float_bits(p[0]), b[e][1] = float_bits(p[TILE::LD]);
      } else {
        const uint2 pair = *(const uint2 *)(W + (8 * (j + e) + at.group) * TILE::LD + 8 * k + 2 * at.member);
        b[e][0] = pair.x, b[e][1] = pair.y;
      }
    }
  }
}

// FULL: n_in and n_out need all fragments, which leaves no branches between the products.
template <class TILE, bool TRANSPOSED, bool FULL, int TALL, int WIDE, class OPERAND>
static __device__ inline void multiply_fragments(float (&sums)[TALL][WIDE][4], const OPERAND &operand,
                                                 const typename TILE::type *W, int n_in, int n_out,
                                                 const struct step_lane &at) {
#pragma unroll
  for (int k = 0; k < TILE::WIDTH / TILE::DEEP; k++) {
    if (!FULL && k * TILE::DEEP >= n_in) continue;
    uint32_t a[TALL][4];
    operand.load(k, a);
#pragma unroll
    for (int first = 0; first < WIDE; first += TOGETHER) {
      if (!FULL && first * 8 >= n_out) continue;
#pragma unroll
      for (int j = first; j < first + TOGETHER; j += 2) {
        uint32_t b[2][2];
        load_W<TILE, TRANSPOSED>(W, k, j, at, b);
#pragma unroll
        for (int i = 0; i < TALL; i++)
#pragma unroll
          for (int e = 0; e < 2; e++) {
            if constexpr (TILE::ARITHMETIC == TENSOR_BF16)
              mma_bf16(sums[i][j + e], a[i], b[e]);
            else
              mma_tf32(sums[i][j + e], a[i], b[e]);
          }
      }
    }
  }
}

// By multiply-adds; the sums are where fragments have them.
template <class TILE, bool TRANSPOSED, int TALL, int WIDE>
static __device__ inline void multiply_add(float (&sums)[TALL][WIDE][4], const float *rows, const float *W, int n_in,
                                           int n_out, const struct step_lane &at) {
#pragma unroll 1
  for (int k = 0; k < n_in; k += 4) {
    float a[2 * TALL][4];
#pragma unroll
    for (int i = 0; i < 2 * TALL; i++) load_values<ELEMENT_F32, 4>(rows + (8 * i + at.group) * TILE::LD + k, a[i]);
#pragma unroll
    for (int j = 0; j < WIDE; j++) {
      if (8 * j >= n_out) continue;
      float b[2][4];
      if constexpr (TRANSPOSED) {
#pragma unroll
        for (int p = 0; p < 4; p++) {
          const uint2 pair = *(const uint2 *)(W + (k + p) * TILE::LD + 8 * j + 2 * at.member);
          b[0][p] = float_from_bits(pair.x), b[1][p] = float_from_bits(pair.y);
        }
      } else {
#pragma unroll
        for (int e = 0; e < 2; e++) load_values<ELEMENT_F32, 4>(W + (8 * j + 2 * at.member + e) * TILE::LD + k, b[e]);
      }
#pragma unroll
      for (int i = 0; i < 2 * TALL; i++)
#pragma unroll
        for (int e = 0; e < 2; e++)
#pragma unroll
          for (int p = 0; p < 4; p++) {
            float &sum = sums[i / 2][j][i % 2 * 2 + e];
            sum = fmaf(a[i][p], b[e][p], sum);
          }
    }
  }
}

// sums = the operand's n_in columns times W^T or, TRANSPOSED, W: n_out columns.
template <class TILE, bool TRANSPOSED, int TALL, int WIDE, class OPERAND>
static __device__ inline void multiply(float (&sums)[TALL][WIDE][4], const OPERAND &operand,
                                       const typename TILE::type *W, int n_in, int n_out, const struct step_lane &at) {
#pragma unroll
  for (int i = 0; i < TALL; i++)
#pragma unroll
    for (int j = 0; j < WIDE; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) sums[i][j][e] = 0.0f;
  if constexpr (TILE::ARITHMETIC == MULTIPLY_ADD)
    multiply_add<TILE, TRANSPOSED>(sums, operand.rows, W, n_in, n_out, at);
  else if (n_in > TILE::WIDTH - TILE::DEEP && n_out > 8 * (WIDE - TOGETHER))
    multiply_fragments<TILE, TRANSPOSED, true>(sums, operand, W, n_in, n_out, at);
  else
    multiply_fragments<TILE, TRANSPOSED, false>(sums, operand, W, n_in, n_out, at);
}

// ---- element-wise, on a row of fragments ----
// Element e of fragment j: row group + e / 2 * 8, column 8 j + 2 member + e % 2.

// The fragments as one array for the functions of fused_epilogue.cuh.
template <int WIDE>
struct flat_fragments {
  float values[4 * WIDE];
  explicit __device__ flat_fragments(const float (&from)[WIDE][4]) {
#pragma unroll
    for (int i = 0; i < 4 * WIDE; i++) values[i] = from[i / 4][i % 4];
  }
  __device__ void store(float (&to)[WIDE][4]) const {
#pragma unroll
    for (int i = 0; i < 4 * WIDE; i++) to[i / 4][i % 4] = values[i];
  }
};

// Calls work(j, values of fragment j) for each fragment, one after another: long formulas are there once. The fragments
// rotate, because their indices have to be constants.
template <int WIDE, class WORK>
static __device__ inline void each_fragment(float (&values)[WIDE][4], WORK work) {
#pragma unroll 1
  for (int j = 0; j < WIDE; j++) {
    float four[4] = {values[0][0], values[0][1], values[0][2], values[0][3]};
    work(j, four);
#pragma unroll
    for (int e = 0; e < 4; e++) {
#pragma unroll
      for (int i = 0; i + 1 < WIDE; i++) values[i][e] = values[i + 1][e];
      values[WIDE - 1][e] = four[e];
    }
  }
}

template <int WIDE>
static __device__ inline void add_bias(float (&values)[WIDE][4], const float *bias, const struct step_lane &at) {
#pragma unroll
  for (int j = 0; j < WIDE; j++) {
    const uint2 pair = *(const uint2 *)(bias + 8 * j + 2 * at.member);
#pragma unroll
    for (int e = 0; e < 4; e++) values[j][e] += float_from_bits(e % 2 ? pair.y : pair.x);
  }
}

// 0 in columns beyond n, and in rows that are not `inside`.
template <int WIDE>
static __device__ inline void clear_outside(float (&values)[WIDE][4], int n, const bool (&inside)[2],
                                            const struct step_lane &at) {
#pragma unroll
  for (int j = 0; j < WIDE; j++)
#pragma unroll
    for (int e = 0; e < 4; e++)
      if (!inside[e / 2] || 8 * j + 2 * at.member + e % 2 >= n) values[j][e] = 0.0f;
}
template <int WIDE>
static __device__ inline void clear_columns(float (&values)[WIDE][4], int n, const struct step_lane &at) {
  const bool inside[2] = {true, true};
  if (n < 8 * WIDE) clear_outside(values, n, inside, at);
}

template <enum element ELEMENT, int WIDE>
static __device__ inline void activate_fragments(descent_activation activation, float (&values)[WIDE][4]) {
  if (activation_is_short<ELEMENT>(activation)) {
    flat_fragments<WIDE> flat(values);
    activate_all<ELEMENT, true>(activation, flat.values);
    flat.store(values);
  } else {
    each_fragment(values, [&](int, float(&four)[4]) { activate_all<ELEMENT, false>(activation, four); });
  }
}

static __device__ inline bool keeps(const struct dropout &d, int64_t index) {
  float one[1] = {1.0f};
  const struct dropout unscaled = {d.seed, d.step, d.layer, d.threshold, 1.0f};
  drop(unscaled, index, one);
  return one[0] != 0.0f;
}

// Bit 4 j + e: dropout keeps the element. `row`: that of the lane's group. Where rows are whole Philox blocks, a lane
// evaluates one of 4 columns for each fragment, and two lanes exchange halves of what they find.
template <int WIDE>
static __device__ inline uint32_t kept_fragments(const struct dropout &d, int64_t row, int n,
                                                 const struct step_lane &at) {
  uint32_t bits = 0;
  if (n % 4 != 0) {
#pragma unroll 1
    for (int i = 0; i < 4 * WIDE; i++) {
      const int column = i / 4 * 8 + 2 * at.member + i % 2;
      if (column < n && keeps(d, (row + i % 4 / 2 * 8) * n + column)) bits |= 1u << i;
    }
    return bits;
  }
  const int64_t first = (row + at.member % 2 * 8) * n + at.member / 2 * 4;
#pragma unroll 1
  for (int j = 0; j < WIDE; j++) {
    if (8 * j >= n) break;
    float four[4] = {1.0f, 1.0f, 1.0f, 1.0f};
    const struct dropout unscaled = {d.seed, d.step, d.layer, d.threshold, 1.0f};
    drop(unscaled, first + 8 * j, four);
#pragma unroll
    for (int e = 0; e < 4; e++) bits |= (four[e] != 0.0f ? 1u : 0u) << (4 * j + e);
  }
  const uint32_t other = __shfl_xor_sync(0xffffffffu, bits, 1), pairs = 0x33333333u;
  return at.member % 2 ? (other >> 2 & pairs) | (bits & ~pairs) : (bits & pairs) | (other & pairs) << 2;
}

template <int WIDE>
static __device__ inline void drop_fragments(float (&values)[WIDE][4], uint32_t kept, float dropout_scale) {
#pragma unroll
  for (int i = 0; i < 4 * WIDE; i++)
    values[i / 4][i % 4] = formula_dropout(values[i / 4][i % 4], kept >> i & 1, 1, dropout_scale);
}

// Of layer number i, counted from 0.
static __device__ inline struct dropout dropout_of(const struct network_launch &l, int i) {
  return {l.seed, (uint64_t)l.state->current.number, (uint32_t)i + 1, l.layer[i].threshold, l.layer[i].dropout_scale};
}

// ---- a warp's rows in shared memory; `rows` begins with the first of 16 ----

template <class TILE>
static __device__ inline void store_fragments(typename TILE::type *rows, const float (&values)[TILE::WIDE][4],
                                              const struct step_lane &at) {
#pragma unroll
  for (int j = 0; j < TILE::WIDE; j++)
#pragma unroll
    for (int half = 0; half < 2; half++) {
      typename TILE::type *const to = rows + (at.group + 8 * half) * TILE::LD + 8 * j + 2 * at.member;
      if constexpr (TILE::ELEMENT == ELEMENT_BF16)
        *(uint32_t *)to = bf16_pair(values[j][2 * half], values[j][2 * half + 1]);
      else
        *(uint2 *)to = make_uint2(float_bits(values[j][2 * half]), float_bits(values[j][2 * half + 1]));
    }
}

template <class TILE, int WIDE>
static __device__ inline void load_fragments(const typename TILE::type *rows, float (&values)[WIDE][4],
                                             const struct step_lane &at) {
#pragma unroll
  for (int j = 0; j < WIDE; j++)
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const typename TILE::type *const from = rows + (at.group + 8 * half) * TILE::LD + 8 * j + 2 * at.member;
      float *const pair = values[j] + 2 * half;
      if constexpr (TILE::ELEMENT == ELEMENT_BF16) {
        const uint32_t word = *(const uint32_t *)from;
        pair[0] = float_from_bits(word << 16), pair[1] = float_from_bits(word & 0xffff0000u);
      } else {
        const uint2 word = *(const uint2 *)from;
        pair[0] = float_from_bits(word.x), pair[1] = float_from_bits(word.y);
      }
    }
}

// What the next product reads: bf16 in registers, otherwise the warp's rows in shared memory.
template <class TILE>
struct step_operand {
  static constexpr bool HELD = TILE::ARITHMETIC == TENSOR_BF16;
  std::conditional_t<HELD, held_rows<TILE>, stored_rows<TILE, TILE::TALL>> rows;

  // From shared memory.
  __device__ void load(const typename TILE::type *from, const struct step_lane &at) {
    const stored_rows<TILE, TILE::TALL> stored = {from, at};
    if constexpr (HELD) {
#pragma unroll
      for (int k = 0; k < TILE::WIDE / 2; k++) {
        uint32_t a[TILE::TALL][4];
        stored.load(k, a);
#pragma unroll
        for (int i = 0; i < TILE::TALL; i++)
#pragma unroll
          for (int e = 0; e < 4; e++) rows.words[i][k][e] = a[i][e];
      }
    } else {
      rows = stored;
    }
  }
  // The sums, rounded to the element. `to` (NULL: nowhere, if they are held) has the warp's rows.
  __device__ void set(const float (&sums)[TILE::TALL][TILE::WIDE][4], typename TILE::type *to,
                      const struct step_lane &at) {
    if constexpr (HELD) {
#pragma unroll
      for (int i = 0; i < TILE::TALL; i++)
#pragma unroll
        for (int j = 0; j < TILE::WIDE; j++)
#pragma unroll
          for (int half = 0; half < 2; half++)
            rows.words[i][j / 2][j % 2 * 2 + half] = bf16_pair(sums[i][j][2 * half], sums[i][j][2 * half + 1]);
    } else {
      rows = {to, at};
      __syncwarp();  // other lanes may still read what was there
    }
    if (!to) return;
#pragma unroll
    for (int i = 0; i < TILE::TALL; i++) store_fragments<TILE>(to + 16 * i * TILE::LD, sums[i], at);
    if constexpr (!HELD) __syncwarp();
  }
};

// ---- the loss and the output of a warp's rows, a row of fragments at a time ----

// Of rows group and group + 8: whether they are the step's, their weights, and these over the sum of weights.
struct step_rows {
  bool inside[2];
  float w[2], share[2];
};

// Replaces the logits of one of the two rows by their exponentials; z_y: the label's logit. `label` is its distance from
// the lane's first column.
template <int WIDE>
static __device__ inline struct softmax_row exponentials_of_half(float (&z)[WIDE][4], int half, int n, int label,
                                                                 float *z_y, const struct step_lane &at) {
  struct softmax_row row = {-INFINITY, 0.0f, 0.0f, 0.0f};
  float found = 0.0f, distances = 0.0f, sum = 0.0f;
  const auto each = [&](auto use) {
#pragma unroll
    for (int j = 0; j < WIDE; j++)
      if (8 * j < n)
#pragma unroll
        for (int e = 0; e < 2; e++) use(8 * j + e, z[j][2 * half + e]);
  };
  each([&](int column, float &value) {
    if (2 * at.member + column >= n) value = -INFINITY;
    if (column == label) found = value;
    row.max = column == 0 ? value : max_or_nan(row.max, value);
  });
  row.max = row_combined<4>(row.max, nullptr, max_or_nan);
  each([&](int column, float &value) {
    if (2 * at.member + column < n) distances += row.max - value;
    value = formula_scaled_exp(value - row.max);
    sum += value;
  });
  *z_y = row_combined<4>(found, nullptr, add);
  row.distances = row_combined<4>(distances, nullptr, add);
  set_sum(row, row_combined<4>(sum, nullptr, add));
  return row;
}

// Replaces the logits by dZ. Row `half` has the target y.
template <int WIDE>
static __device__ inline struct softmax_terms softmax_of_half(float (&z)[WIDE][4], int half, int n, float y,
                                                              const struct step_rows &rows, float s,
                                                              const struct step_lane &at) {
  const int label = (y >= 0.0f && y < (float)n ? (int)y : 0) - 2 * at.member;
  const float q_label = formula_class_target_f32(true, s, (float)n);
  const float q_other = formula_class_target_f32(false, s, (float)n);
  float z_y;
  const struct softmax_row row = exponentials_of_half(z, half, n, label, &z_y, at);
#pragma unroll
  for (int j = 0; j < WIDE; j++)
#pragma unroll
    for (int e = 0; e < 2; e++) {
      float &value = z[j][2 * half + e];
      value =
          formula_cross_entropy_slope(value * row.inverse, label == 8 * j + e ? q_label : q_other, rows.share[half]);
    }
  return {row.max, z_y, row.sum, row.distances, rows.w[half]};
}

// Replaces the logits by dZ; returns the lane's part of the sum of w n L. y: the targets of row group, n a row.
template <int WIDE>
static __device__ inline double squared_of_rows(float (&z)[WIDE][4], descent_activation activation, int n,
                                                const float *y, const struct step_rows &rows,
                                                const struct step_lane &at) {
  const float f[2] = {rows.share[0] * (2.0f / (float)n), rows.share[1] * (2.0f / (float)n)};
  float sums[2] = {0.0f, 0.0f};
  double outside[2] = {0, 0};  // the squares whose sum may exceed the range of float32
  each_fragment(z, [&](int j, float(&four)[4]) {
    const int column = 8 * j + 2 * at.member;
    if (8 * j >= n) return;
    float a[4] = {four[0], four[1], four[2], four[3]}, dZ[4];
    activate_all<ELEMENT_F32, false>(activation, a);
#pragma unroll
    for (int half = 0; half < 2; half++) {
      float errors[2], squares = 0.0f;
#pragma unroll
      for (int e = 0; e < 2; e++) {
        const bool there = rows.inside[half] && column + e < n;
        errors[e] = there ? a[2 * half + e] - y[8 * half * n + column + e] : 0.0f;
        squares = fmaf(errors[e], errors[e], squares);
        dZ[2 * half + e] = errors[e] * f[half];
      }
      if (squares <= 0x1p96f)
        sums[half] += squares;
      else
        outside[half] += (double)errors[0] * (double)errors[0] + (double)errors[1] * (double)errors[1];
    }
    if (!slope_is_from_z(activation)) {
#pragma unroll
      for (int e = 0; e < 4; e++) four[e] = a[e];
    }
    times_slope<false>(activation, four, dZ);
#pragma unroll
    for (int e = 0; e < 4; e++) four[e] = dZ[e];
  });
  return (double)rows.w[0] * ((double)sums[0] + outside[0]) + (double)rows.w[1] * ((double)sums[1] + outside[1]);
}

// Of a single logit: the first column of both rows, in the first fragment.
static __device__ inline double binary_of_rows(float (&z)[4], const float *y, const struct step_rows &rows, float s,
                                               const struct step_lane &at) {
  double total = 0;
#pragma unroll
  for (int half = 0; half < 2; half++) {
    if (!rows.inside[half] || at.member != 0) continue;
    const float logit = z[2 * half], t = formula_binary_target_f32(y[8 * half], s);
    total += (double)rows.w[half] * (double)formula_binary_loss_f32(logit, t, formula_softplus_tail(logit));
    z[2 * half] = formula_cross_entropy_slope(formula_sigmoid(logit), t, rows.share[half]);
  }
  return total;
}

// Replaces the output layer's Z by dZ; returns the lane's part of the sum of w L, times n for squared errors. Of the
// warp's rows the first `left` are the step's; y and w are theirs.
template <class TILE>
static __device__ inline double loss_of_rows(const struct network_launch &l, float (&z)[TILE::TALL][TILE::WIDE][4],
                                             int left, const float *y, const float *w,
                                             const struct inverse_weight_sum &inverse_weight_sum,
                                             const struct step_lane &at) {
  const struct network_layer &output = l.layer[l.layers - 1];
  const int n = output.n_out;
  double total = 0;
  struct softmax_terms mine = {0.0f, 0.0f, 1.0f, 0.0f, 0.0f};
#pragma unroll
  for (int i = 0; i < TILE::TALL; i++) {
    const int row = 16 * i + at.group;
    struct step_rows rows;
#pragma unroll
    for (int half = 0; half < 2; half++) {
      rows.inside[half] = row + 8 * half < left;
      rows.w[half] = rows.inside[half] ? w[row + 8 * half] : 0.0f;
      rows.share[half] = weight_share(inverse_weight_sum, rows.w[half]);
    }
    switch (l.loss) {
      case DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY:
#pragma unroll
        for (int half = 0; half < 2; half++) {
          const float label = rows.inside[half] ? y[row + 8 * half] : 0.0f;
          const struct softmax_terms terms = softmax_of_half(z[i], half, n, label, rows, l.label_smoothing, at);
          if (rows.inside[half] && at.member == 2 * i + half) mine = terms;  // a lane for each of the group's rows
        }
        break;
      case DESCENT_LOSS_BINARY_CROSS_ENTROPY:
        total += binary_of_rows(z[i][0], y + row, rows, l.label_smoothing, at);
        break;
      case DESCENT_LOSS_MEAN_SQUARED_ERROR:
        total += squared_of_rows(z[i], output.activation, n, y + row * n, rows, at);
        break;
    }
    clear_outside(z[i], n, rows.inside, at);
  }
  if (l.loss == DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY) total += softmax_loss(mine, l.label_smoothing, (float)n);
  return total;
}

// Calls use(row, column, value) for the elements within n columns and below row `end`; `row` is that of the lane's
// group.
template <int WIDE, class USE>
static __device__ inline void each_output(const float (&values)[WIDE][4], int64_t row, int64_t end, int n,
                                          const struct step_lane &at, USE use) {
#pragma unroll
  for (int j = 0; j < WIDE; j++)
#pragma unroll
    for (int e = 0; e < 4; e++) {
      const int64_t r = row + e / 2 * 8;
      const int column = 8 * j + 2 * at.member + e % 2;
      if (r < end && column < n) use(r, column, values[j][e]);
    }
}

// Writes A of rows below l.rows and P of the step's `rows`.
template <int WIDE>
static __device__ inline void write_output(const struct network_launch &l, float (&values)[WIDE][4], int64_t row,
                                           int64_t rows, const struct step_lane &at) {
  const struct network_layer &output = l.layer[l.layers - 1];
  const int n = output.n_out;
  activate_fragments<ELEMENT_F32>(output.activation, values);
  if (l.A.data)
    each_output(values, row, l.rows, n, at,
                [&](int64_t r, int column, float a) { ((float *)l.A.data)[r * l.A.ld + column] = a; });
  if (!l.P) return;
  if (l.loss == DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      float z_y;
      const struct softmax_row softmax = exponentials_of_half(values, half, n, 0, &z_y, at);
#pragma unroll
      for (int j = 0; j < WIDE; j++)
#pragma unroll
        for (int e = 0; e < 2; e++) values[j][2 * half + e] *= softmax.inverse;
    }
  }
  each_output(values, row, rows, n, at, [&](int64_t r, int column, float a) {
    if (l.loss == DESCENT_LOSS_BINARY_CROSS_ENTROPY)
      a = formula_sigmoid(a);
    else if (l.loss == DESCENT_LOSS_MEAN_SQUARED_ERROR)
      a = formula_denormalise(a, l.y_shift ? l.y_shift[column] : 0.0f, l.y_scale ? l.y_scale[column] : 1.0f);
    l.P[r * n + column] = a;
  });
}

// ---- the gradients of the parameters ----

// A warp's sums over all of the block's tiles. db: bf16 has it in products with a fragment of which one column is ones,
// each layer another; otherwise a thread has a column of some of the rows, since tensor cores would cut the factors.
template <class TILE>
struct step_gradients {
  enum { IS_BF16 = TILE::ARITHMETIC == TENSOR_BF16, OUT16 = TILE::Product::OUT / 16 };
  typename TILE::Product dW[TILE::LAYERS];
  float ones[IS_BF16 ? OUT16 : 1][4] = {};
  float db[IS_BF16 ? 1 : TILE::LAYERS] = {};
};

struct step_piece {
  int out, in, across, split;
  template <class TILE>
  static __device__ inline struct step_piece of(const struct step_lane &at) {
    const int piece = at.warp % TILE::PIECES, across = piece % TILE::ACROSS;
    return {piece / TILE::ACROSS * TILE::Product::OUT, across * TILE::Product::IN, across, at.warp / TILE::PIECES};
  }
};

// Adds those of layer number `layer` over the rows of a tile. Recursive, so that the sums have constant indices.
template <class TILE, int I = 0>
static __device__ inline void add_gradients(struct step_gradients<TILE> &gradients, int layer, int n_in, int n_out,
                                            const typename TILE::type *dZ, const typename TILE::type *A,
                                            const struct step_lane &at) {
  if constexpr (I < TILE::LAYERS) {
    if (layer != I) return add_gradients<TILE, I + 1>(gradients, layer, n_in, n_out, dZ, A, at);
    typedef typename TILE::Product Product;
    enum { EACH = TILE::ROWS / TILE::SPLITS, LD = TILE::LD };
    const struct step_piece piece = step_piece::of<TILE>(at);
    const int first = piece.split * EACH;
    if constexpr (TILE::ARITHMETIC == TENSOR_BF16) {
      const bool sums = piece.across == I % TILE::ACROSS;
      const uint32_t one = sums && at.group == I / TILE::ACROSS ? 0x3f803f80u : 0;
      const uint32_t ones[2] = {one, one};
      if (piece.out >= n_out || (piece.in >= n_in && !sums)) return;
#pragma unroll
      for (int row = 0; row < EACH; row += Product::ROWS)
        gradients.dW[I].template add<LD, LD>(dZ + (first + row) * LD + piece.out, A + (first + row) * LD + piece.in,
                                             at.lane, [&](const auto &a) {
#pragma unroll
                                               for (int i = 0; i < Product::OUT / 16; i++)
                                                 mma_bf16(gradients.ones[i], a[i], ones);
                                             });
    } else {
      if (piece.out < n_out && piece.in < n_in) {
#pragma unroll 4
        for (int row = 0; row < EACH; row += Product::ROWS)
          gradients.dW[I].template add<LD, LD>(dZ + (first + row) * LD + piece.out, A + (first + row) * LD + piece.in,
                                               at.lane);
      }
      enum { SUMMED = TILE::ROWS / TILE::PARTS };
      const float *column = dZ + (int)threadIdx.x / TILE::WIDTH * SUMMED * TILE::LD + (int)threadIdx.x % TILE::WIDTH;
#pragma unroll 4
      for (int row = 0; row < SUMMED; row++) gradients.db[I] += column[row * TILE::LD];
    }
  }
}

// Writes the block's sums where the layers have them in a slice of partial sums: first the pieces of the same weights
// are added up in order. All threads take part; `shared` has room for a dW of each split.
template <class TILE, int I = 0>
static __device__ inline void write_gradients(const struct network_launch &l, struct step_gradients<TILE> &gradients,
                                              float *slice, float *shared, const struct step_lane &at) {
  if constexpr (I < TILE::LAYERS) {
    if (I >= l.layers) return;
    const struct network_layer &layer = l.layer[I];
    const struct step_piece piece = step_piece::of<TILE>(at);
    float *const dW = slice + layer.dW, *const db = slice + layer.db;
    const int thread = (int)threadIdx.x;
    const auto place = [&](int split, int out, int in) {
      return shared + (split * TILE::WIDTH + piece.out + out) * TILE::LD + piece.in + in;
    };
    __syncthreads();  // what was in shared memory is no longer read
    if (piece.split > 0)
      gradients.dW[I].each(at.lane, [&](int out, int in, const auto &values) {
#pragma unroll
        for (int e = 0; e < (int)(sizeof values / sizeof *values); e++)
          *place(piece.split - 1, out, in + e) = values[e];
      });
    __syncthreads();
    if (piece.split == 0)
      gradients.dW[I].each(at.lane, [&](int out, int in, const auto &values) {
#pragma unroll
        for (int e = 0; e < (int)(sizeof values / sizeof *values); e++) {
          float sum = values[e];
#pragma unroll
          for (int split = 1; split < TILE::SPLITS; split++) sum += *place(split - 1, out, in + e);
          const int row = piece.out + out, column = piece.in + in + e;
          if (row < layer.n_out && column < layer.n_in) dW[row * layer.W.ld + column] = sum;
        }
      });
    // db: of the parts of the rows in order.
    __syncthreads();
    if constexpr (TILE::ARITHMETIC == TENSOR_BF16) {
      const int mine = I / TILE::ACROSS;
      if (piece.across == I % TILE::ACROSS && at.member == mine / 2)
#pragma unroll
        for (int i = 0; i < 2 * step_gradients<TILE>::OUT16; i++)
          shared[piece.split * TILE::WIDTH + piece.out + 8 * i + at.group] =
              gradients.ones[i / 2][i % 2 * 2 + mine % 2];
    } else {
      shared[thread] = gradients.db[I];
    }
    __syncthreads();
    if (thread < layer.n_out) {
      float sum = shared[thread];
#pragma unroll
      for (int part = 1; part < (TILE::ARITHMETIC == TENSOR_BF16 ? TILE::SPLITS : TILE::PARTS); part++)
        sum += shared[part * TILE::WIDTH + thread];
      db[thread] = sum;
    }
    write_gradients<TILE, I + 1>(l, gradients, slice, shared, at);
  }
}

// ---- copies to shared memory ----

// `count` bytes, a multiple of 16, of which the first `bytes` exist, by a warp.
static __device__ inline void copy_bytes(unsigned char *to, const unsigned char *from, int count, int bytes, int lane) {
  for (int at = 16 * lane; at < count; at += 16 * WARP) copy_async(to + at, from + at, bytes_of(bytes - at, 1));
}

// COUNT rows of a matrix, of which `rows` exist, with n columns; by THREADS threads.
template <class TILE, int COUNT, int THREADS>
static __device__ inline void copy_matrix(typename TILE::type *to, const struct device_matrix &m, int64_t first,
                                          int rows, int n, int thread) {
  enum { UNITS = TILE::WIDTH / TILE::UNIT };
  const typename TILE::type *const from = (const typename TILE::type *)m.data + first * m.ld;
#pragma unroll 4
  for (int i = thread; i < COUNT * UNITS; i += THREADS) {
    const int row = i / UNITS, column = i % UNITS * TILE::UNIT;
    const bool exists = row < rows && column < n;
    copy_async(to + row * TILE::LD + column, exists ? from + row * m.ld + column : from,
               exists ? bytes_of(n - column, TILE::SIZE) : 0);
  }
}

// ---- the kernel ----

// The block's part of NETWORK_STEP's sums: the loss, in double, then the gradients, before those of the next blocks.
struct step_partials {
  double *losses;
  float *slices;
  explicit __host__ __device__ step_partials(const struct network_launch &l)
      : losses((double *)l.partials), slices((float *)(losses + STEP_BLOCKS)) {}
};

// values *= g' and the dropout factor where that needs no mask: of a few fragments across, from A of these or, where g'
// comes from Z, from A_in and W.
template <class TILE>
static __device__ inline void times_slopes(const struct network_layer &layer, float (&values)[TOGETHER][4],
                                           const typename TILE::type *A, const typename TILE::type *A_in,
                                           const typename TILE::type *W, const float *bias, int n_out,
                                           const struct step_lane &at) {
  float x[1][TOGETHER][4];
  if (slope_is_from_z(layer.activation)) {
    const stored_rows<TILE, 1> operand = {A_in, at};
    multiply<TILE, false>(x, operand, W, layer.n_in, n_out, at);  // as in the forward pass, so to the same bits
    add_bias(x[0], bias, at);
    each_fragment(x[0], [&](int, float(&four)[4]) {
      float z[4], slope[4] = {1.0f, 1.0f, 1.0f, 1.0f};
#pragma unroll
      for (int e = 0; e < 4; e++) z[e] = Element<TILE::ELEMENT>::rounded(four[e]);
      times_slope<false>(layer.activation, z, slope);
#pragma unroll
      for (int e = 0; e < 4; e++) four[e] = slope[e];
    });
#pragma unroll
    for (int e = 0; e < 4 * TOGETHER; e++) values[e / 4][e % 4] *= x[0][e / 4][e % 4];
  } else {
    load_fragments<TILE>(A, x[0], at);
    flat_fragments<TOGETHER> a(x[0]), flat(values);
    if (layer.threshold) {
#pragma unroll
      for (int e = 0; e < 4 * TOGETHER; e++) a.values[e] *= layer.keep_probability;
    }
    times_slope<true>(layer.activation, a.values, flat.values);
    if (layer.threshold && slope_drops(layer.activation)) {
#pragma unroll
      for (int e = 0; e < 4 * TOGETHER; e++) flat.values[e] *= layer.dropout_scale;
    }
    flat.store(values);
  }
}

// dZ of layer number i, from the product of the dZ above and W in `sums`: times g' and the dropout factor. A: the warp's
// rows of the layer's A; A_in: of its input.
template <class TILE>
static __device__ inline void finish_backward(const struct network_launch &l, int i,
                                              float (&sums)[TILE::TALL][TILE::WIDE][4], const typename TILE::type *A,
                                              const typename TILE::type *A_in, const typename TILE::type *W,
                                              const float *bias, int64_t row, const struct step_lane &at) {
  const struct network_layer &layer = l.layer[i];
#pragma unroll
  for (int t = 0; t < TILE::TALL; t++) {
#pragma unroll
    for (int first = 0; first < TILE::WIDE; first += TOGETHER) {
      if (8 * first >= layer.n_out || layer.activation == DESCENT_ACTIVATION_IDENTITY) continue;
      float some[TOGETHER][4];
#pragma unroll
      for (int e = 0; e < 4 * TOGETHER; e++) some[e / 4][e % 4] = sums[t][first + e / 4][e % 4];
      times_slopes<TILE>(layer, some, A + 16 * t * TILE::LD + 8 * first, A_in + 16 * t * TILE::LD,
                         W + 8 * first * TILE::LD, bias + 8 * first, layer.n_out - 8 * first, at);
#pragma unroll
      for (int e = 0; e < 4 * TOGETHER; e++) sums[t][first + e / 4][e % 4] = some[e / 4][e % 4];
    }
    if (layer.threshold && !slope_drops(layer.activation))
      drop_fragments(sums[t], kept_fragments<TILE::WIDE>(dropout_of(l, i), row + 16 * t, layer.n_out, at),
                     layer.dropout_scale);
    clear_columns(sums[t], layer.n_out, at);
  }
}

// Blocks of THREADS, grid stride over tiles.
template <class TILE, bool STEP>
static __global__ void __launch_bounds__(TILE::THREADS, TILE::BLOCKS) network_step_kernel(struct network_launch l) {
  GRID_BEGIN();
  typedef typename TILE::type type;
  SHARED_MEMORY(shared);
  const int n_y = l.loss == DESCENT_LOSS_MEAN_SQUARED_ERROR ? l.layer[l.layers - 1].n_out : 1;
  const step_memory<TILE, STEP> memory(l.layers, n_y);
  const int64_t valid = l.state->current.rows, rows = valid < l.rows ? valid : l.rows;
  const int64_t end = STEP || !l.A.data ? rows : l.rows, stride = (int64_t)gridDim.x * TILE::ROWS;
  float *const bias = (float *)(shared + memory.bias), *const y = (float *)(shared + memory.y);
  float *const w = (float *)(shared + memory.w);
  const auto W_of = [&](int layer) { return (type *)(shared + layer * memory.W_BYTES); };
  const auto slot = [&](int begin, int number) { return (type *)(shared + begin + number * memory.ROWS_BYTES); };
  // The warp's own rows in a slot, and how many of those are the step's.
  const auto own = [&](const struct step_lane &at) { return at.warp * TILE::WARP_ROWS * TILE::LD; };
  const auto rows_left = [&](int64_t first, const struct step_lane &at) {
    const int64_t left = rows - first - at.warp * TILE::WARP_ROWS;
    return left < 0 ? 0 : left < TILE::WARP_ROWS ? (int)left : (int)TILE::WARP_ROWS;
  };
  const auto copy_tile = [&](int64_t first, int buffer) {
    if (first < end) {
      const struct step_lane at;
      const int left = rows_left(first, at), warp_row = at.warp * TILE::WARP_ROWS;
      const int64_t row = left ? first + warp_row : 0;
      copy_matrix<TILE, TILE::WARP_ROWS, WARP>(slot(memory.X, buffer) + own(at), l.X, row, left, l.layer[0].n_in,
                                               at.lane);
      if (STEP) {
        copy_bytes((unsigned char *)(y + warp_row * n_y), (const unsigned char *)(l.y + row * n_y),
                   TILE::WARP_ROWS * n_y * 4, left * n_y * 4, at.lane);
        copy_bytes((unsigned char *)(w + warp_row), (const unsigned char *)(l.w + row), TILE::WARP_ROWS * 4, left * 4,
                   at.lane);
      }
    }
    copy_commit();
  };

  copy_tile((int64_t)blockIdx.x * TILE::ROWS, 0);
#pragma unroll 1
  for (int i = 0; i < l.layers; i++) {
    const struct network_layer &layer = l.layer[i];
    copy_matrix<TILE, TILE::WIDTH, TILE::THREADS>(W_of(i), layer.W, 0, layer.n_out, layer.n_in, (int)threadIdx.x);
    for (int j = (int)threadIdx.x; j < TILE::WIDTH; j += TILE::THREADS)
      bias[i * TILE::WIDTH + j] = j >= layer.n_out                    ? 0.0f
                                  : layer.bias_element == ELEMENT_F32 ? ((const float *)layer.bias)[j]
                                                                      : bf16_value(((const uint16_t *)layer.bias)[j]);
  }
  copy_commit();
  copy_wait<0>();
  __syncthreads();

  step_gradients<TILE> gradients;
  double total = 0;
  int buffer = 0, out = 0;  // which of the two: X, and the next dZ
#pragma unroll 1
  for (int64_t first = (int64_t)blockIdx.x * TILE::ROWS; first < end; first += stride, buffer ^= 1) {
    copy_wait<0>();
    __syncwarp();
    if (!STEP) copy_tile(first + stride, buffer ^ 1);

    // Forward: in the end `sums` are the output layer's Z.
    float sums[TILE::TALL][TILE::WIDE][4];
    step_operand<TILE> operand;
    const struct step_lane here;
    operand.load(slot(memory.X, buffer) + own(here), here);
#pragma unroll 1
    for (int i = 0;; i++) {
      const struct network_layer &layer = l.layer[i];
      const struct step_lane at;
      multiply<TILE, false>(sums, operand.rows, W_of(i), layer.n_in, layer.n_out, at);
#pragma unroll
      for (int t = 0; t < TILE::TALL; t++) add_bias(sums[t], bias + i * TILE::WIDTH, at);
      if (i == l.layers - 1) break;
#pragma unroll
      for (int t = 0; t < TILE::TALL; t++) {
        activate_fragments<TILE::ELEMENT>(layer.activation, sums[t]);
        if (layer.threshold)
          drop_fragments(
              sums[t], kept_fragments<TILE::WIDE>(dropout_of(l, i), first + row_of<TILE>(at) + 16 * t, layer.n_out, at),
              layer.dropout_scale);
        clear_columns(sums[t], layer.n_out, at);
      }
      type *const to = STEP ? slot(memory.A, i) : TILE::ARITHMETIC == TENSOR_BF16 ? nullptr : slot(memory.A, 0);
      operand.set(sums, to ? to + own(at) : to, at);
    }
    if constexpr (!STEP) {
      const struct step_lane at;
#pragma unroll
      for (int t = 0; t < TILE::TALL; t++) write_output(l, sums[t], first + row_of<TILE>(at) + 16 * t, rows, at);
    } else {
      const struct step_lane there;
      const int warp_row = there.warp * TILE::WARP_ROWS;
      total += loss_of_rows<TILE>(l, sums, rows_left(first, there), y + warp_row * n_y, w + warp_row,
                                  inverse_of(l.scalars[SCALAR_WEIGHT_SUM]), there);
#pragma unroll 1
      for (int i = l.layers - 1;; i--, out ^= 1) {
        type *const dZ = slot(memory.dZ, out), *const A_in = i > 0 ? slot(memory.A, i - 1) : slot(memory.X, buffer);
        const struct step_lane at;
        operand.set(sums, dZ + own(at), at);
        __syncthreads();  // dZ of all rows is there; the other one, and the other X, are free
        if (i == l.layers - 1) copy_tile(first + stride, buffer ^ 1);
        add_gradients(gradients, i, l.layer[i].n_in, l.layer[i].n_out, dZ, A_in, at);
        if (i == 0) break;
        multiply<TILE, true>(sums, operand.rows, W_of(i), l.layer[i].n_out, l.layer[i].n_in, at);
        finish_backward<TILE>(l, i - 1, sums, A_in + own(at),
                              (i > 1 ? slot(memory.A, i - 2) : slot(memory.X, buffer)) + own(at), W_of(i - 1),
                              bias + (i - 1) * TILE::WIDTH, first + row_of<TILE>(at), at);
      }
      out ^= 1;
    }
  }
  copy_wait<0>();
  if constexpr (STEP) {
    const struct step_lane at;
    const struct step_partials partials(l);
    __shared__ double totals[TILE::WARPS];
    total = warp_sum(total);
    if (at.lane == 0) totals[at.warp] = total;
    write_gradients<TILE>(l, gradients, partials.slices + blockIdx.x * l.n_gradients, (float *)shared, at);
    if (threadIdx.x == 0) {
      double sum = totals[0];
#pragma unroll
      for (int i = 1; i < TILE::WARPS; i++) sum += totals[i];
      partials.losses[blockIdx.x] = sum;
    }
  }
}

// ---- instances ----

// NULL: not of that kind.
struct step_instance {
  int width, layers, rows, threads;  // layers: the most of NETWORK_STEP
  size_t (*bytes)(bool step, int layers, int n_y);
  cudaError_t (*step)(const struct network_launch *, dim3 blocks, size_t bytes, cudaStream_t);
  cudaError_t (*forward)(const struct network_launch *, dim3 blocks, size_t bytes, cudaStream_t);
};
struct step_instances {
  const struct step_instance *all;
  int n;
};
struct step_instances network_step_bf16(void), network_step_tf32(void), network_step_f32(void);

template <class TILE, bool STEP>
static cudaError_t launch_step(const struct network_launch *l, dim3 blocks, size_t bytes, cudaStream_t stream) {
  return LAUNCH_SHARED((network_step_kernel<TILE, STEP>), blocks, TILE::THREADS, bytes, stream, *l);
}

template <class TILE>
static constexpr struct step_instance step_instance_of(bool forward) {
  return {TILE::WIDTH,
          TILE::LAYERS,
          TILE::ROWS,
          TILE::THREADS,
          [](bool step, int layers, int n_y) {
            return (size_t)(step ? step_memory<TILE, true>(layers, n_y).bytes
                                 : step_memory<TILE, false>(layers, n_y).bytes);
          },
          launch_step<TILE, true>,
          forward ? launch_step<TILE, false> : nullptr};
}

#endif
