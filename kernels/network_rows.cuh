// A warp's rows on their way through a narrow network: the products of a layer, its element-wise work on the sums in
// registers, the loss and the output. Each warp has 16 TALL rows of a tile and all columns.
#ifndef DESCENT_KERNELS_NETWORK_ROWS_CUH
#define DESCENT_KERNELS_NETWORK_ROWS_CUH

#include "fused.cuh"
#include "loss.cuh"
#include "network.cuh"

enum { TOGETHER = 4 };  // fragments that share a branch, or are copied together

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

// Calls work(j, values of fragment j) for each fragment, one after another: so that the code of a long formula exists once. The fragments
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

static __device__ inline bool keeps(struct dropout d, int64_t index) {
  float one[1] = {1.0f};
  d.dropout_scale = 1.0f;
  drop(d, index, one);
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
      if (column < n && keeps(d, mask_index(d, row + i % 4 / 2 * 8, n, column))) bits |= 1u << i;
    }
    return bits;
  }
  const int64_t first = mask_index(d, row + at.member % 2 * 8, n, at.member / 2 * 4);
  struct dropout unscaled = d;
  unscaled.dropout_scale = 1.0f;
#pragma unroll 1
  for (int j = 0; j < WIDE; j++) {
    if (8 * j >= n) break;
    float four[4] = {1.0f, 1.0f, 1.0f, 1.0f};
    drop(unscaled, first + 8 * j, four);
#pragma unroll
    for (int e = 0; e < 4; e++) bits |= (four[e] != 0.0f ? 1u : 0u) << (4 * j + e);
  }
  const uint32_t other = __shfl_xor_sync(0xffffffffu, bits, 1), pairs = 0x33333333u;
  return at.member % 2 ? (other >> 2 & pairs) | (bits & ~pairs) : (bits & pairs) | (other & pairs) << 2;
}

template <int WIDE>
static __device__ inline void drop_fragments(float (&values)[WIDE][4], uint32_t keep, float dropout_scale) {
#pragma unroll
  for (int i = 0; i < 4 * WIDE; i++)
    values[i / 4][i % 4] = formula_dropout(values[i / 4][i % 4], keep >> i & 1, 1, dropout_scale);
}

// Of layer number i, counted from 0.
static __device__ inline struct dropout dropout_of(const struct network_launch &l, int i) {
  return {l.seed,
          (uint64_t)l.state->current.number,
          l.state->current.batch_row,
          (uint32_t)i + 1,
          l.layer[i].threshold,
          l.layer[i].dropout_scale};
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

// Writes A and P of the step's `rows`.
template <int WIDE>
static __device__ inline void write_output(const struct network_launch &l, float (&values)[WIDE][4], int64_t row,
                                           int64_t rows, const struct step_lane &at) {
  const struct network_layer &output = l.layer[l.layers - 1];
  const int n = output.n_out;
  activate_fragments<ELEMENT_F32>(output.activation, values);
  if (l.A.data)
    each_output(values, row, rows, n, at,
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

#endif
