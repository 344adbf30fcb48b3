// A tile of rows on its way through a network: the element-wise work between two products, the loss, and the output.
//
// The left operand of a product, A or dZ, is in shared memory; the epilogue of the product replaces it by the next one,
// and writes the same to memory where dW or g' will read it. MEMORY says where in shared memory is what.
#ifndef DESCENT_KERNELS_NETWORK_EPILOGUE_CUH
#define DESCENT_KERNELS_NETWORK_EPILOGUE_CUH

#include "fused.cuh"
#include "loss.cuh"
#include "network.cuh"

template <class MEMORY>
static __device__ inline int operand_at(int row, int column) {
  return MEMORY::OPERAND + column / MEMORY::EACH * MEMORY::CHUNK +
         piece_at(row, column % MEMORY::EACH / MEMORY::PIECE) + column % MEMORY::PIECE * MEMORY::SIZE;
}

// Columns of an operand of n: whole chunks. Those from n on are zeros.
template <class MEMORY>
static __device__ inline int operand_columns(int n) {
  return (n + MEMORY::EACH - 1) / MEMORY::EACH * MEMORY::EACH;
}

template <int COUNT>
static __device__ inline void clear_from(int count, float (&values)[COUNT]) {
#pragma unroll
  for (int i = 0; i < COUNT; i++)
    if (i >= count) values[i] = 0.0f;
}

// The element-wise work of a hidden layer, as in forward_launch and backward_launch.
struct chain_pass {
  const struct step_state *state;
  uint64_t seed;
  uint32_t layer, threshold;
  float dropout_scale, keep_probability;
  descent_activation activation;
  int n;
};
static __device__ inline struct chain_pass pass_of(const struct network_launch &l, int layer) {
  const struct network_layer &at = l.layer[layer];
  return {l.state,       l.seed,  (uint32_t)layer + 1, at.threshold, at.dropout_scale, at.keep_probability,
          at.activation, at.n_out};
}

// Of whole steps: the kernels have no registers for the row at which a part begins (fusion.c gives them none that drops).
static __device__ inline struct dropout dropout_of(const struct chain_pass &l) {
  return {l.seed, (uint64_t)l.state->current.number, 0, l.layer, l.threshold, l.dropout_scale};
}

// What is the same in all epilogues of a tile.
struct chain_tile {
  unsigned char *shared;
  int64_t first;         // row
  int warp_row, column;  // of the tile, where the warp's part begins
  int rows, valid;       // from the tile's first row on: in the block's run, in the step
};

// ---- two neighbouring values ----

template <enum element ELEMENT>
static __device__ inline void store_pair(unsigned char *at, float first, float second) {
  if constexpr (ELEMENT == ELEMENT_BF16)
    *(uint32_t *)at = bf16_pair(first, second);
  else
    *(uint2 *)at = make_uint2(float_bits(first), float_bits(second));
}

template <enum element ELEMENT>
static __device__ inline void load_pair(const unsigned char *at, float *first, float *second) {
  if constexpr (ELEMENT == ELEMENT_BF16) {
    const uint32_t pair = *(const uint32_t *)at;
    *first = float_from_bits(pair << 16), *second = float_from_bits(pair & 0xffff0000u);
  } else {
    const uint2 pair = *(const uint2 *)at;
    *first = float_from_bits(pair.x), *second = float_from_bits(pair.y);
  }
}

// ---- a warp's part of the operand ----

// Calls use(row, column, at) for each 16 bytes of the warp's part that a matrix of n columns has, `at` in the operand.
template <class MEMORY, class TILE, class USE>
static __device__ inline void each_piece(const struct chain_tile &tile, int n, USE use) {
  typedef lane_place<TILE, MEMORY::PIECE> place;
  const place lane(thread_now());
  const int column = tile.column + lane.column;
  if (column >= n) return;
#pragma unroll 4
  for (int step = 0; step < place::STEPS; step++) {
    const int row = tile.warp_row + lane.row(step);
    if (lane.row(step) >= 0 && row < tile.rows) use(row, column, tile.shared + operand_at<MEMORY>(row, column));
  }
}

// Copies the warp's part from the operand to a matrix of n columns.
template <class MEMORY, class TILE, enum element ELEMENT>
static __device__ inline void store_operand(const struct chain_tile &tile, const struct device_matrix &to, int n) {
  typedef typename Element<ELEMENT>::type type;
  enum { COUNT = MEMORY::PIECE };
  __syncwarp();
  each_piece<MEMORY, TILE>(tile, n, [&](int row, int column, const unsigned char *at) {
    pack<ELEMENT, COUNT, true> x;
    x.load((const type *)at);
    store_first(x, (type *)to.data + (tile.first + row) * to.ld + column, columns_inside(column, n, COUNT));
  });
}

// The other way; zeros from column n and row `valid` on.
template <class MEMORY, class TILE>
static __device__ inline void load_operand(const struct chain_tile &tile, const struct device_matrix &from, int n) {
  each_piece<MEMORY, TILE>(tile, n, [&](int row, int column, unsigned char *at) {
    const unsigned char *const piece =
        (const unsigned char *)from.data + ((tile.first + row) * from.ld + column) * MEMORY::SIZE;
    copy_async(at, piece, row < tile.valid ? bytes_of(n - column, MEMORY::SIZE) : 0);
  });
  copy_commit();
  copy_wait<0>();
  __syncwarp();
}

// Calls work(row, columns, operand, at, values) for half a row of the warp's fragments at a time: values[4 j + e] is in
// row + e / 2 * 8 and column columns[j] + e % 2. The pair of e = 0, 1 is at operand + at[j], the other one 8 * 64 bytes
// further.
template <class MEMORY, class TILE, class WORK>
static __device__ inline void each_fragments(const float (&sums)[TILE::TALL][TILE::WIDE][4],
                                             const struct chain_tile &tile, WORK work) {
  enum { FEW = TILE::WIDE / 2 };
  const int lane = thread_now() % WARP, group = lane / 4, member = lane % 4;
#pragma unroll
  for (int first = 0; first < TILE::WIDE; first += FEW) {
    int columns[FEW], at[FEW];
#pragma unroll
    for (int j = 0; j < FEW; j++) {
      columns[j] = tile.column + 8 * (first + j) + 2 * member;
      at[j] = operand_at<MEMORY>(tile.warp_row + group, columns[j]);
    }
#pragma unroll
    for (int i = 0; i < TILE::TALL; i++) {
      float values[4 * FEW];
#pragma unroll
      for (int j = 0; j < FEW; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) values[4 * j + e] = sums[i][first + j][e];
      work(tile.warp_row + i * 16 + group, columns, tile.shared + i * 16 * 64, at, values);
    }
  }
}

// ---- hidden layers, forward: A = dropout(g(sums + b)) ----

// In the fragments: of short activations without dropout, for which g(0) = 0.
template <class MEMORY, class TILE, enum element ELEMENT>
static __device__ inline void activate_fragments(const struct network_layer &at, const float *bias,
                                                 const struct chain_tile &tile,
                                                 const float (&sums)[TILE::TALL][TILE::WIDE][4]) {
  enum { FEW = TILE::WIDE / 2 };
  const bool is_ragged = tile.column + TILE::WARP_COLUMNS > at.n_out;
  each_fragments<MEMORY, TILE>(
      sums, tile,
      [&](int, const int(&columns)[FEW], unsigned char *operand, const int(&place)[FEW], float(&values)[4 * FEW]) {
#pragma unroll
        for (int j = 0; j < FEW; j++) {
          float b[2];
          load_pair<ELEMENT_F32>((const unsigned char *)(bias + columns[j]), &b[0], &b[1]);
#pragma unroll
          for (int e = 0; e < 4; e++) values[4 * j + e] += b[e % 2];
        }
        activate_all<ELEMENT, true>(at.activation, values);
        if (is_ragged) {
#pragma unroll
          for (int i = 0; i < 4 * FEW; i++)
            if (columns[i / 4] + i % 2 >= at.n_out) values[i] = 0.0f;
        }
#pragma unroll
        for (int i = 0; i < 2 * FEW; i++)
          store_pair<ELEMENT>(operand + place[i / 2] + i % 2 * 8 * 64, values[2 * i], values[2 * i + 1]);
      });
}

template <class MEMORY, class TILE, enum element ELEMENT>
static __device__ inline void finish_forward(const struct network_launch &l, int layer, const struct chain_tile &tile,
                                             const float (&sums)[TILE::TALL][TILE::WIDE][4], float *warp_sums) {
  typedef typename Element<ELEMENT>::type type;
  enum { COUNT = MEMORY::PIECE };
  const struct network_layer &at = l.layer[layer];
  const struct chain_pass pass = pass_of(l, layer);
  const int column = tile.column + lane_place<TILE, COUNT>(thread_now()).column;
  const int count = columns_inside(column, at.n_out, COUNT), columns = operand_columns<MEMORY>(at.n_out);
  const bool keeps = l.kind == NETWORK_CHAIN, keeps_Z = keeps && slope_is_from_z(at.activation);
  const float *const bias = (const float *)(tile.shared + MEMORY::BIAS) + layer * TILE::COLUMNS;
  if (tile.column >= columns) return;
  if (activation_is_short<ELEMENT>(at.activation) && !at.threshold) {
    activate_fragments<MEMORY, TILE, ELEMENT>(at, bias, tile, sums);
    if (keeps) store_operand<MEMORY, TILE, ELEMENT>(tile, at.A, at.n_out);
    return;
  }
  each_row<TILE, COUNT>(sums, warp_sums, [&](int, int row, float(&values)[COUNT]) {
    if (row < 0 || column >= columns) return;
    row += tile.warp_row;
    const int64_t r = tile.first + row;
    pack<ELEMENT, COUNT, true> out = {};
    if (count > 0) {
#pragma unroll
      for (int i = 0; i < COUNT; i += 4) {
        float b[4];
        load_values<ELEMENT_F32, 4>(bias + column + i, b);
#pragma unroll
        for (int j = 0; j < 4; j++) values[i + j] += b[j];
      }
      if (keeps_Z && row < tile.rows) {
        out.set(values);
        store_first(out, (type *)at.Z.data + r * at.Z.ld + column, count);
      }
      activate_columns<ELEMENT>(pass, r, column, values);
      clear_from(count, values);
      out.set(values);
      if (keeps && row < tile.rows) store_first(out, (type *)at.A.data + r * at.A.ld + column, count);
    }
    out.store((type *)(tile.shared + operand_at<MEMORY>(row, column)));
  });
}

// ---- hidden layers, backward: dZ = sums g' dropout ----

// In the fragments: where g' comes from A and no mask is drawn.
template <class MEMORY, class TILE, enum element ELEMENT>
static __device__ inline void slope_fragments(const struct network_layer &at, const struct slope_rule &rule,
                                              const struct chain_tile &tile,
                                              const float (&sums)[TILE::TALL][TILE::WIDE][4]) {
  enum { FEW = TILE::WIDE / 2 };
  const bool loads = at.activation != DESCENT_ACTIVATION_IDENTITY;
  const bool is_ragged = tile.column + TILE::WARP_COLUMNS > at.n_out || tile.valid < TILE::ROWS;
  if (loads) load_operand<MEMORY, TILE>(tile, at.A, at.n_out);
  each_fragments<MEMORY, TILE>(
      sums, tile,
      [&](int row, const int(&columns)[FEW], unsigned char *operand, const int(&place)[FEW], float(&values)[4 * FEW]) {
        if (loads) {
          float x[4 * FEW];
#pragma unroll
          for (int i = 0; i < 2 * FEW; i++) {
            load_pair<ELEMENT>(operand + place[i / 2] + i % 2 * 8 * 64, &x[2 * i], &x[2 * i + 1]);
            x[2 * i] *= rule.keep_probability, x[2 * i + 1] *= rule.keep_probability;
          }
          times_slope<true>(at.activation, x, values);
#pragma unroll
          for (int i = 0; i < 4 * FEW; i++) values[i] *= rule.dropout_scale;
        }
        if (is_ragged) {
#pragma unroll
          for (int i = 0; i < 4 * FEW; i++)
            if (columns[i / 4] + i % 2 >= at.n_out || row + i % 4 / 2 * 8 >= tile.valid) values[i] = 0.0f;
        }
#pragma unroll
        for (int i = 0; i < 2 * FEW; i++)
          store_pair<ELEMENT>(operand + place[i / 2] + i % 2 * 8 * 64, values[2 * i], values[2 * i + 1]);
      });
}

// Of `layer`, from the product with the W above it.
template <class MEMORY, class TILE, enum element ELEMENT>
static __device__ inline void finish_backward(const struct network_launch &l, int layer, const struct chain_tile &tile,
                                              const float (&sums)[TILE::TALL][TILE::WIDE][4], float *warp_sums) {
  typedef typename Element<ELEMENT>::type type;
  enum {
    COUNT = MEMORY::PIECE,
    // Loads of A or Z in flight: as many as there are registers.
    AHEAD = TILE::TALL * TILE::WIDE > 32 ? 3
            : TILE::BLOCKS > 1           ? 1
                                         : 4
  };
  typedef pack<ELEMENT, COUNT, true> row_pack;
  const struct network_layer &at = l.layer[layer];
  const struct chain_pass pass = pass_of(l, layer);
  const lane_place<TILE, COUNT> place(thread_now());
  const int column = tile.column + place.column;
  const int count = columns_inside(column, at.n_out, COUNT), columns = operand_columns<MEMORY>(at.n_out);
  const struct slope_rule rule = slope_rule_of(pass);
  const struct device_matrix from = rule.from_z ? at.Z : at.A;
  const bool loads = at.activation != DESCENT_ACTIVATION_IDENTITY && count > 0;
  if (tile.column >= columns) return;
  if (!rule.from_z && !rule.masks) {
    slope_fragments<MEMORY, TILE, ELEMENT>(at, rule, tile, sums);
    store_operand<MEMORY, TILE, ELEMENT>(tile, at.dZ, at.n_out);
    return;
  }
  const auto load = [&](int step) {
    row_pack x = {};
    const int row = place.row(step) + tile.warp_row;
    if (loads && place.row(step) >= 0 && row < tile.valid)
      x.load((const type *)from.data + (tile.first + row) * from.ld + column);  // padding too: its results are cleared
    return x;
  };
  row_pack ahead[AHEAD];
#pragma unroll
  for (int i = 0; i < AHEAD; i++) ahead[i] = load(i);
  each_row<TILE, COUNT>(sums, warp_sums, [&](int step, int row, float(&values)[COUNT]) {
    row_pack now = ahead[0];
#pragma unroll
    for (int i = 0; i + 1 < AHEAD; i++) ahead[i] = ahead[i + 1];
    ahead[AHEAD - 1] = load(step + AHEAD);
    if (row < 0 || column >= columns) return;
    row += tile.warp_row;
    const int64_t r = tile.first + row;
    if (row < tile.valid) times_slopes<ELEMENT>(pass, rule, now, r, column, values);
    clear_from(row < tile.valid ? count : 0, values);
    row_pack out;
    out.set(values);
    if (count > 0 && row < tile.rows) store_first(out, (type *)at.dZ.data + r * at.dZ.ld + column, count);
    out.store((type *)(tile.shared + operand_at<MEMORY>(row, column)));
  });
}

// ---- the output layer ----

// A row has LANES neighbouring threads, so many that a block takes a row of fragments of each warp at a time.
template <class TILE>
struct output_lanes {
  enum { LANES = TILE::THREADS / (TILE::DOWN * 16) };
};

// A row of the output layer.
struct output_row {
  float *Z;             // (n), in shared memory; whole chunks of columns may be read
  int64_t r;            // of the launch
  int row;              // of the tile
  bool inside, counts;  // of the launch's rows, the step's
};

// dZ of the columns from k on, rounded, for the product below and in memory.
template <class MEMORY, enum element ELEMENT>
static __device__ inline void store_slopes(const struct network_launch &l, const struct chain_tile &tile,
                                           const struct output_row &at, int k, float (&dZ)[CHUNK]) {
  typedef typename Element<ELEMENT>::type type;
  const struct network_layer &out = l.layer[l.layers - 1];
  clear_from(at.counts ? out.n_out - k : 0, dZ);
  if (at.inside) store_columns<ELEMENT>((type *)out.dZ.data + at.r * out.dZ.ld + k, out.n_out - k, true, dZ);
  if (l.layers > 1) store_values<ELEMENT, CHUNK>((type *)(tile.shared + operand_at<MEMORY>(at.row, k)), dZ);
}

// Calls use(k, z) for the thread's columns of a row, also those of the operand from n on, where z is -inf.
template <class MEMORY, int LANES, class USE>
static __device__ inline void each_columns(const float *Z, int n, USE use) {
#pragma unroll 1
  for (int k = chunk_column<LANES>(0); k < operand_columns<MEMORY>(n); k += LANES * CHUNK) {
    float z[CHUNK];
    load_columns<ELEMENT_F32>(Z + k, n - k, true, z);
    use(k, z);
  }
}

// The thread's share of w L, of squared errors of w n L.
template <class MEMORY, int LANES, enum element ELEMENT>
static __device__ inline double lose_row(const struct network_launch &l, const struct chain_tile &tile,
                                         const struct output_row &at, float w, float y) {
  const struct network_layer &out = l.layer[l.layers - 1];
  const int n = out.n_out, column = chunk_column<LANES>(0);
  const float f = weight_share(inverse_of(l.scalars[SCALAR_WEIGHT_SUM]), w), s = l.label_smoothing;
  if (l.loss == DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY) {
    const struct softmax_row softmax = exponentials_of_long<LANES, ELEMENT_F32, true>(at.Z + column, n, true, s > 0.0f);
    struct softmax_targets t;
    t.q_label = formula_class_target_f32(true, s, (float)n), t.q_other = formula_class_target_f32(false, s, (float)n);
    t.label = (y >= 0.0f && y < (float)n ? (int)y : 0) - column, t.inverse = softmax.inverse, t.f = f;
    each_columns<MEMORY, LANES>(at.Z, n, [&](int k, float(&z)[CHUNK]) {
#pragma unroll
      for (int i = 0; i < CHUNK; i++) z[i] = formula_scaled_exp(z[i] - softmax.max);
      set_slopes(z, k - column, t);
      store_slopes<MEMORY, ELEMENT>(l, tile, at, k, z);
    });
    if (!at.counts || row_member<LANES>() != 0) return 0;
    return softmax_loss({softmax.max, at.Z[t.label + column], softmax.sum, softmax.distances, w}, s, (float)n);
  }
  if (l.loss == DESCENT_LOSS_BINARY_CROSS_ENTROPY) {
    const float t = formula_binary_target_f32(y, s), z = at.Z[0];
    each_columns<MEMORY, LANES>(at.Z, n, [&](int k, float(&dZ)[CHUNK]) {
      dZ[0] = formula_cross_entropy_slope(formula_sigmoid(z), t, f);
      store_slopes<MEMORY, ELEMENT>(l, tile, at, k, dZ);
    });
    if (!at.counts || row_member<LANES>() != 0) return 0;
    return (double)w * (double)formula_binary_loss_f32(z, t, formula_softplus_tail(z));
  }
  struct sum_of_squares sum = {0.0f, 0};
  const bool from_z = slope_is_from_z(out.activation), wide = n % CHUNK == 0;
  each_columns<MEMORY, LANES>(at.Z, n, [&](int k, float(&z)[CHUNK]) {
    float a[CHUNK], targets[CHUNK] = {}, dZ[CHUNK] = {};
    if (at.counts && k < n) {
      load_columns<ELEMENT_F32>(l.y + at.r * n + k, n - k, wide, targets);
#pragma unroll
      for (int i = 0; i < CHUNK; i++) a[i] = z[i];
      activate_all<ELEMENT_F32, false>(out.activation, a);
      add_squared_errors(sum, a, targets, n - k, dZ);
#pragma unroll
      for (int i = 0; i < CHUNK; i++) {
        dZ[i] *= f * (2.0f / (float)n);
        z[i] = from_z ? z[i] : a[i];
      }
      times_slope<false>(out.activation, z, dZ);
    }
    store_slopes<MEMORY, ELEMENT>(l, tile, at, k, dZ);
  });
  return at.counts ? (double)w * ((double)sum.inside + sum.outside) : 0;
}

// A and P of a row of the step, as output_launch.
template <class MEMORY, int LANES>
static __device__ inline void predict_row(const struct network_launch &l, const struct output_row &at) {
  const struct network_layer &out = l.layer[l.layers - 1];
  const int n = out.n_out, column = chunk_column<LANES>(0);
  const bool wide = n % CHUNK == 0, is_softmax = l.loss == DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY;
  struct softmax_row softmax = {};
  if (is_softmax && l.P) softmax = exponentials_of_long<LANES, ELEMENT_F32, true>(at.Z + column, n, true, false);
  if (!at.counts) return;
  each_columns<MEMORY, LANES>(at.Z, n, [&](int k, float(&values)[CHUNK]) {
    activate_all<ELEMENT_F32, false>(out.activation, values);
    if (l.A.data) store_columns<ELEMENT_F32>((float *)l.A.data + at.r * l.A.ld + k, n - k, true, values);
    if (!l.P) return;
#pragma unroll
    for (int i = 0; i < CHUNK; i++) {
      if (k + i >= n) continue;
      values[i] = is_softmax ? formula_scaled_exp(values[i] - softmax.max) * softmax.inverse
                  : l.loss == DESCENT_LOSS_BINARY_CROSS_ENTROPY
                      ? formula_sigmoid(values[i])
                      : formula_denormalise(values[i], l.y_shift ? l.y_shift[k + i] : 0.0f,
                                            l.y_scale ? l.y_scale[k + i] : 1.0f);
    }
    store_columns<ELEMENT_F32>(l.P + at.r * n + k, n - k, wide, values);
  });
}

// `targets`: the rows' w, then, of classes, their y. All threads of the block.
template <class MEMORY, class TILE, enum element ELEMENT>
static __device__ inline void finish_output(const struct network_launch &l, const struct chain_tile &tile,
                                            const float (&sums)[TILE::TALL][TILE::WIDE][4], const float *targets) {
  enum { LD = TILE::COLUMNS + 8, LANES = output_lanes<TILE>::LANES };  // floats
  static_assert((int)LANES <= (int)WARP && TILE::THREADS % (TILE::DOWN * 16) == 0, "a row has lanes of a warp");
  static_assert(TILE::DOWN * 16 * LD * 4 <= (int)MEMORY::forward::SUMS, "the memory of the sums");
  float *const logits = (float *)(tile.shared + MEMORY::SUMS);
  const float *const bias = (float *)(tile.shared + MEMORY::BIAS) + (l.layers - 1) * TILE::COLUMNS;
  const int n = l.layer[l.layers - 1].n_out;
#pragma unroll 1
  for (int i = 0; i < TILE::TALL; i++) {
    write_fragments<TILE, CHUNK, LD>(sums, i, thread_now(),
                                     logits + tile.warp_row / TILE::WARP_ROWS * 16 * LD + tile.column);
    __syncthreads();
    const int group = thread_now() / LANES, row = group / 16 * TILE::WARP_ROWS + i * 16 + group % 16;
    const struct output_row at = {logits + group * LD, tile.first + row, row, row < tile.rows, row < tile.valid};
    for (int k = chunk_column<LANES>(0); k < n; k += LANES * CHUNK) {
      float z[CHUNK], b[CHUNK];
      load_values<ELEMENT_F32, CHUNK>(at.Z + k, z);
      load_values<ELEMENT_F32, CHUNK>(bias + k, b);
#pragma unroll
      for (int j = 0; j < CHUNK; j++) z[j] += b[j];
      store_values<ELEMENT_F32, CHUNK>(at.Z + k, z);
    }
    __syncwarp();
    if (l.kind == NETWORK_FORWARD)
      predict_row<MEMORY, LANES>(l, at);
    else
      ((double *)(tile.shared + MEMORY::LOSSES))[thread_now()] +=
          lose_row<MEMORY, LANES, ELEMENT>(l, tile, at, targets[row], targets[TILE::ROWS + row]);
    __syncthreads();
  }
}

#endif
