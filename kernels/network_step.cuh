// A narrow network in one kernel: a block takes tiles of rows through all layers, whose weights stay in its shared
// memory, and keeps the gradients of all weights in registers until its last tile.
//
// Each warp has 16 TALL rows of a tile in all layers and all columns, so the forward pass needs no barrier: A of a layer
// is in the registers that hold the sums of its product, and is packed into operands of the next one (bf16) or read back
// from the warp's own rows of shared memory. Backward, dW sums over all rows of the tile: a barrier in each layer makes
// dZ of all warps visible, then each warp adds to its piece of dW. Columns beyond n are 0 in W, A and dZ.
#ifndef DESCENT_KERNELS_NETWORK_STEP_CUH
#define DESCENT_KERNELS_NETWORK_STEP_CUH

#include "network_rows.cuh"
#include "weights_warp.cuh"

enum { STEP_WIDTH = 64, STEP_BLOCKS = 256, FORWARD_BLOCKS = 512 };

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
  const int64_t stride = (int64_t)gridDim.x * TILE::ROWS;
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
    if (first < rows) {
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
  for (int64_t first = (int64_t)blockIdx.x * TILE::ROWS; first < rows; first += stride, buffer ^= 1) {
    copy_wait<0>();
    __syncwarp();
    if (!STEP) copy_tile(first + stride, buffer ^ 1);

    // Forward: after the last layer, `sums` holds its Z.
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
    SHARED_VARIABLE(totals, double[TILE::WARPS]);
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
  int width, layers, rows;  // layers: the most of NETWORK_STEP
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
          [](bool step, int layers, int n_y) {
            return (size_t)(step ? step_memory<TILE, true>(layers, n_y).bytes
                                 : step_memory<TILE, false>(layers, n_y).bytes);
          },
          launch_step<TILE, true>,
          forward ? launch_step<TILE, false> : nullptr};
}

#endif
