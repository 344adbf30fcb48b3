// The products of a network, one after another, for the tiles of rows of a block: forward, then backward.
#ifndef DESCENT_KERNELS_NETWORK_PRODUCTS_CUH
#define DESCENT_KERNELS_NETWORK_PRODUCTS_CUH

#include "network_epilogue.cuh"

// Products are numbered in their order: forward of layer 0, 1, ..., then backward through W of the last layer, ..., 1.
static __device__ inline int layer_of_product(int product, int layers) {
  return product < layers ? product : 2 * layers - 1 - product;
}

// As thread_now.
static __device__ inline int block_now(void) {
  int block = (int)blockIdx.x;
#ifdef __CUDACC__
  asm volatile("" : "+r"(block));
#endif
  return block;
}

// Where two blocks share the registers, what follows from the thread's number is computed again.
template <class TILE>
static __device__ inline int thread_of(void) {
  return TILE::BLOCKS > 1 ? thread_now() : (int)threadIdx.x;
}

// The rows of a block, of `all`: block i has the tiles from tiles i on, `tiles` of them or fewer.
struct chain_run {
  int64_t begin;
  int rows;
};
template <class TILE>
static __device__ inline struct chain_run run_of(int64_t all, int tiles) {
  const int64_t run = (int64_t)tiles * TILE::ROWS, begin = block_now() * run;
  return {begin, (int)(begin + run < all ? run : all - begin)};
}

template <class TILE>
static __device__ inline int tiles_of(int64_t all, int tiles) {
  return (run_of<TILE>(all, tiles).rows + TILE::ROWS - 1) / TILE::ROWS;
}

template <class TILE>
static __device__ inline struct chain_tile tile_of(const struct network_launch &l, int64_t all, int tiles, int row,
                                                   unsigned char *shared) {
  const struct chain_run run = run_of<TILE>(all, tiles);
  const int64_t first = run.begin + row, in_step = l.state->current.rows - first;
  const int warp = thread_of<TILE>() / WARP, rows = run.rows - row;
  return {shared,
          first,
          warp / TILE::ACROSS * TILE::WARP_ROWS,
          warp % TILE::ACROSS * TILE::WARP_COLUMNS,
          rows,
          in_step < rows ? in_step < 0 ? 0 : (int)in_step : rows};
}

// ---- W from memory to registers ----

// Where a block has 16 or 32 rows, a warp is the only one that needs its columns of W, and their way through shared
// memory would take longer than the copies. A lane has 16 bytes of a chunk of each column, and the same 16 bytes of its
// rows of `left`: words 2 i and 2 i + 1 are its elements of the fragments of product i. Which element of K a column of a
// fragment stands for is free to choose, if it is the same in both factors.
template <enum arithmetic ARITHMETIC, class TILE, class MEMORY>
struct direct_product {
  enum { AHEAD = 16 / TILE::WIDE };  // chunks in flight: 64 KB of a block, for the latency of the L2 cache
  uint4 words[AHEAD][TILE::WIDE];

  __device__ void load(const struct network_layer &at, int chunk, uint4 (&to)[TILE::WIDE]) {
    const int thread = (int)threadIdx.x, group = thread % WARP / 4, member = thread % 4;
    const int column = thread / WARP % TILE::ACROSS * TILE::WARP_COLUMNS + group;
    const int64_t row_bytes = at.W.ld * MEMORY::SIZE;
    const unsigned char *const W = (const unsigned char *)at.W.data + column * row_bytes + (chunk * 4 + member) * 16;
    const bool inside = chunk * MEMORY::EACH + member * MEMORY::PIECE < at.n_in;
#pragma unroll
    for (int j = 0; j < TILE::WIDE; j++)
      to[j] = inside && column + 8 * j < at.n_out ? *(const uint4 *)(W + 8 * j * row_bytes) : make_uint4(0, 0, 0, 0);
  }

  // The first chunks, whose latency what comes before the product hides.
  __device__ void begin(const struct network_layer &at) {
#pragma unroll
    for (int i = 0; i < AHEAD; i++) load(at, i, words[i]);
  }

  __device__ void add(float (&sums)[TILE::TALL][TILE::WIDE][4], const unsigned char *shared,
                      const struct network_layer &at) {
    const int thread = (int)threadIdx.x, group = thread % WARP / 4, member = thread % 4;
    const unsigned char *const left =
        shared + MEMORY::OPERAND + thread / WARP / TILE::ACROSS * TILE::WARP_ROWS * 64 + piece_at(group, member);
#pragma unroll 1
    for (int first = 0; first * MEMORY::EACH < at.n_in; first += AHEAD) {
#pragma unroll
      for (int i = 0; i < AHEAD; i++) {
        if ((first + i) * MEMORY::EACH >= at.n_in) break;
#pragma unroll
        for (int tall = 0; tall < TILE::TALL; tall++) {
          const unsigned char *const rows = left + (first + i) * MEMORY::CHUNK + tall * 16 * 64;
          const uint4 upper = *(const uint4 *)rows, lower = *(const uint4 *)(rows + 8 * 64);
          const uint32_t a[2][4] = {{upper.x, lower.x, upper.y, lower.y}, {upper.z, lower.z, upper.w, lower.w}};
#pragma unroll
          for (int j = 0; j < TILE::WIDE; j++) {
            const uint32_t b[2][2] = {{words[i][j].x, words[i][j].y}, {words[i][j].z, words[i][j].w}};
#pragma unroll
            for (int half = 0; half < 2; half++) {
              if constexpr (ARITHMETIC == TENSOR_BF16)
                mma_bf16(sums[tall][j], a[half], b[half]);
              else
                mma_tf32(sums[tall][j], a[half], b[half]);
            }
          }
        }
        load(at, first + i + AHEAD, words[i]);
      }
    }
  }
};

// ---- all products ----

// Of the block's rows among the first `all`. W comes from the L2 cache in slabs of 64 bytes along K, SPAN of them at a
// time. The slabs of all products of all tiles are one pipeline: asynchronous copies are STAGES - 1 spans ahead, so a
// product's first ones arrive during the epilogue before it. DIRECT: except those of the forward pass, which go to
// registers. The threads' sums of w L are in shared memory then.
template <enum arithmetic ARITHMETIC, class TILE, class MEMORY>
static __device__ inline void pass_rows(const struct network_launch &l, int64_t all, int tiles, unsigned char *shared) {
  constexpr enum element ELEMENT = ARITHMETIC == TENSOR_BF16 ? ELEMENT_BF16 : ELEMENT_F32;
  constexpr bool DIRECT = MEMORY::DIRECT;
  constexpr int SIZE = MEMORY::SIZE;
  const int layers = l.layers, products = l.kind == NETWORK_CHAIN ? 2 * layers - 1 : layers;
  for (int i = (int)threadIdx.x; i < layers * TILE::COLUMNS; i += TILE::THREADS) {
    const struct network_layer &at = l.layer[i / TILE::COLUMNS];
    const int column = i % TILE::COLUMNS;
    ((float *)(shared + MEMORY::BIAS))[i] = column >= at.n_out ? 0.0f
                                            : at.bias_element == ELEMENT_F32
                                                ? ((const float *)at.bias)[column]
                                                : bf16_value(((const uint16_t *)at.bias)[column]);
  }
  ((double *)(shared + MEMORY::LOSSES))[threadIdx.x] = 0;

  // X, w, and y of classes, of the tile from `from_row` of the run on.
  const auto copy_inputs = [&](int from_row) {
    const struct chain_run run = run_of<TILE>(all, tiles);
    const int64_t first = run.begin + from_row;
    const int rows = run.rows - from_row;
    if (rows > 0) {
      enum {
        FEW = TILE::ROWS * 4 < TILE::THREADS,
        SHARE = FEW ? TILE::ROWS * 4 : TILE::THREADS
      };  // threads of a chunk
      const int thread = thread_now(), row = thread % SHARE / 4, piece = thread % 4;
      const int64_t row_bytes = l.X.ld * SIZE;
      const unsigned char *const X = (const unsigned char *)l.X.data + (first + row) * row_bytes;
#pragma unroll 1
      for (int k = FEW ? thread / SHARE * MEMORY::EACH : 0; k < l.layer[0].n_in;
           k += TILE::THREADS / SHARE * MEMORY::EACH)
        copy_rows<TILE::ROWS, SHARE>(shared + MEMORY::OPERAND + k / MEMORY::EACH * MEMORY::CHUNK + piece_at(row, piece),
                                     X + (k * SIZE + piece * 16), SHARE / 4 * row_bytes, row, rows,
                                     bytes_of(l.layer[0].n_in - k - piece * MEMORY::PIECE, SIZE));
      const bool has_class = l.loss != DESCENT_LOSS_MEAN_SQUARED_ERROR;
      if (l.kind == NETWORK_CHAIN && thread < (has_class ? 2 : 1) * TILE::ROWS / 4) {
        const float *const from = thread < TILE::ROWS / 4 ? l.w : l.y;
        const int at = thread % (TILE::ROWS / 4) * 4;
        copy_async(shared + MEMORY::TARGETS + thread * 16, from + first + at, bytes_of(rows - at, 4));
      }
    }
    copy_commit();
  };

  // The slabs to come: of which tile, product, elements of K on.
  const int first_to_copy = DIRECT ? layers : 0;
  int tiles_to_copy = first_to_copy < products ? tiles_of<TILE>(all, tiles) : 0, product_to_copy = first_to_copy;
  int k_to_copy = 0;
  const auto copy = [&](int stage) {
    if (tiles_to_copy > 0) {
      const int thread = thread_now(), piece = thread % 4;
      const struct network_layer &at = l.layer[layer_of_product(product_to_copy, layers)];
      const int64_t row_bytes = at.W.ld * SIZE;
      const unsigned char *const W = (const unsigned char *)at.W.data;
      const bool backward = product_to_copy >= layers;
      const int k = backward ? at.n_out : at.n_in;
#pragma unroll
      for (int i = 0; i < MEMORY::SPAN; i++) {
        unsigned char *const to = shared + MEMORY::SLABS + (stage * MEMORY::SPAN + i) * MEMORY::SLAB;
        if (i > 0 && k_to_copy >= k) break;
        if (backward)
          copy_columns<typename MEMORY::backward, TILE::COLUMNS, TILE::THREADS>(
              to, W + k_to_copy * row_bytes, row_bytes, thread, k - k_to_copy, at.n_in);
        else if (!DIRECT)
          copy_rows<TILE::COLUMNS, TILE::THREADS>(to + piece_at(thread / 4, piece),
                                                  W + thread / 4 * row_bytes + (k_to_copy * SIZE + piece * 16),
                                                  TILE::THREADS / 4 * row_bytes, thread / 4, at.n_out,
                                                  bytes_of(k - k_to_copy - piece * MEMORY::PIECE, SIZE));
        k_to_copy += MEMORY::EACH;
      }
      if (k_to_copy >= k) k_to_copy = 0, product_to_copy++;
      if (product_to_copy == products) product_to_copy = first_to_copy, tiles_to_copy--;
    }
    copy_commit();  // also of none, so that copy_wait counts spans
  };
  copy_inputs(0);
#pragma unroll 1
  for (int i = 0; i < TILE::STAGES - 1; i++) copy(i);

  int stage = 0;
#pragma unroll 1
  for (int tiles_left = tiles_of<TILE>(all, tiles); tiles_left > 0; tiles_left--) {
    if (!DIRECT) copy_wait<0>();  // the inputs
#pragma unroll 1
    for (int product = 0; product < products; product++) {
      const int layer = layer_of_product(product, layers);
      const bool backward = product >= layers;
      const int k = backward ? l.layer[layer].n_out : l.layer[layer].n_in;
      const int n = backward ? l.layer[layer].n_in : l.layer[layer].n_out;
      const bool multiplies = thread_of<TILE>() / WARP % TILE::ACROSS * TILE::WARP_COLUMNS < n;
      float sums[TILE::TALL][TILE::WIDE][4] = {};
      if (DIRECT && !backward) {
        if constexpr (DIRECT) {
          direct_product<ARITHMETIC, TILE, MEMORY> direct;
          direct.begin(l.layer[layer]);
          if (product == 0) copy_wait<0>();  // the inputs
          __syncthreads();                   // the operand is there
          if (multiplies) direct.add(sums, shared, l.layer[layer]);
        }
      } else {
#pragma unroll 1
        for (int first = 0; first * MEMORY::EACH < k; first += MEMORY::SPAN) {
          copy_wait<TILE::STAGES - 2>();
          __syncthreads();  // this span is there, and the stage of the one before it is free
          copy(stage > 0 ? stage - 1 : TILE::STAGES - 1);
#pragma unroll
          for (int i = 0; i < MEMORY::SPAN; i++) {
            if (i > 0 && (first + i) * MEMORY::EACH >= k) break;
            const int left = MEMORY::OPERAND + (first + i) * MEMORY::CHUNK;
            const int W = MEMORY::SLABS + (stage * MEMORY::SPAN + i) * MEMORY::SLAB;
            if (multiplies && backward) {
              const lane_reads<ARITHMETIC, TILE, true> reads(thread_of<TILE>());
              multiply_chunk<ARITHMETIC, TILE, true>(sums, shared, left + reads.left, W + reads.W);
            } else if (!DIRECT && multiplies) {
              const lane_reads<ARITHMETIC, TILE, false> reads(thread_of<TILE>());
              multiply_chunk<ARITHMETIC, TILE, false>(sums, shared, left + reads.left, W + reads.W);
            }
          }
          stage = stage + 1 < TILE::STAGES ? stage + 1 : 0;
        }
      }
      __syncthreads();  // the operand has been read
      const struct chain_tile tile =
          tile_of<TILE>(l, all, tiles, (tiles_of<TILE>(all, tiles) - tiles_left) * TILE::ROWS, shared);
      float *const warp_sums = (float *)(shared + MEMORY::SUMS) + thread_of<TILE>() / WARP * TILE::SUMS;
      if (backward)
        finish_backward<MEMORY, TILE, ELEMENT>(l, layer - 1, tile, sums, warp_sums);
      else if (layer < layers - 1)
        finish_forward<MEMORY, TILE, ELEMENT>(l, layer, tile, sums, warp_sums);
      else
        finish_output<MEMORY, TILE, ELEMENT>(l, tile, sums, (const float *)(shared + MEMORY::TARGETS));
    }
    __syncthreads();  // the operand is no longer used
    copy_inputs((tiles_of<TILE>(all, tiles) - tiles_left + 1) * TILE::ROWS);
  }
}

#endif
