// A dense layer in one kernel: a product of tiles whose epilogue is the layer's element-wise work, so that products are
// never stored. Forward: A = dropout(g(A_in W^T + b)). Backward: dZ = (dZ_above W) g' dropout, with its column sums.
//
// Both are left (rows, K) times W. A block has COLUMNS columns of the result and walks down the tiles of ROWS rows of
// its run. The loop over K, cut into chunks of 64 bytes of a row, is one pipeline over all tiles of the block:
// asynchronous copies are STAGES - 1 chunks ahead, so the next tile's arrive during a tile's epilogue. W stays in
// shared memory if it fits there (`resident`), otherwise each tile copies it again. Tiles, runs and all orders of
// summation follow from the shape and the variant.
#ifndef DESCENT_KERNELS_FUSED_CUH
#define DESCENT_KERNELS_FUSED_CUH

#include <type_traits>

#include "fused_epilogue.cuh"
#include "mma.cuh"

// What a launch computes, beside its pass.
struct fused_product {
  const void *left, *W;
  int64_t left_ld, W_ld;
  int k, chunks;
  int tiles;  // of rows, in a run
  bool resident;
};

// Shared memory, in bytes: what the epilogue holds; for each warp sums on their way to the epilogue; the stages of
// `left`; and the slabs of W, a chunk each.
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
    COUNT = PIECE,  // columns of a thread in the epilogue
    HELD = (BACKWARD ? TILE::THREADS * COUNT : (int)TILE::COLUMNS) * 4,
    SUMS = TILE::DOWN * TILE::ACROSS * TILE::SUMS * 4,
    LEFTS = HELD + SUMS,                  // where the stages begin
    FIXED = LEFTS + TILE::STAGES * LEFT,  // and the slabs
  };
};

// Rows of 64 bytes: their pieces trade places so that any 8 neighbouring rows have a piece in different banks.
static __device__ inline int piece_at(int row, int piece) { return row * 64 + ((piece ^ (row >> 1 & 3)) << 4); }

// ---- copies ----

// Of a piece that begins `left` elements before the end of its row.
static __device__ inline int bytes_of(int left, int size) {
  left *= size;
  return left < 0 ? 0 : left < 16 ? left : 16;
}

// COUNT rows of a chunk, of which the first `rows` exist. `from` is the thread's piece of its first row, `row`; `bytes`
// of the piece are in the matrix. The thread's rows are THREADS / 4 apart, `step` bytes.
template <int COUNT, int THREADS>
static __device__ inline void copy_rows(unsigned char *to, const unsigned char *from, int64_t step, int row, int rows,
                                        int bytes) {
#pragma unroll
  for (int i = 0; i < (COUNT * 4 + THREADS - 1) / THREADS; i++) {
    const int at = i * (THREADS / 4);
    if (COUNT * 4 % THREADS == 0 || row + at < COUNT) copy_async(to + at * 64, from, row + at < rows ? bytes : 0);
    from += step;
  }
}

// The same for W's rows of COLUMNS columns, of which `columns` exist.
template <class MEMORY, int COLUMNS, int THREADS>
static __device__ inline void copy_columns(unsigned char *to, const unsigned char *from, int64_t ld, int thread,
                                           int rows, int columns) {
  enum { PIECES = COLUMNS / MEMORY::PIECE, ALL = PIECES * MEMORY::EACH };
#pragma unroll
  for (int i = 0; i < (ALL + THREADS - 1) / THREADS; i++) {
    const int at = thread + i * THREADS, row = at / PIECES, piece = at % PIECES;
    if (ALL % THREADS == 0 || at < ALL)
      copy_async(to + row * MEMORY::W_LD + piece * 16, from + row * ld + piece * 16,
                 row < rows ? bytes_of(columns - piece * MEMORY::PIECE, MEMORY::SIZE) : 0);
  }
}

// ---- a warp's product of one chunk ----

// Where a lane reads in its warp's rows of `left`, and columns of W.
template <enum arithmetic ARITHMETIC, class TILE, bool BACKWARD>
struct lane_reads {
  typedef fused_memory<ARITHMETIC, TILE, BACKWARD> memory;
  int left, W;  // bytes
  explicit __device__ lane_reads(int thread) {
    const int warp = thread / WARP, lane = thread % WARP, group = lane / 4, member = lane % 4;
    if (ARITHMETIC == MULTIPLY_ADD) {
      left = piece_at(group, 0);
      W = BACKWARD ? 2 * member * 4 : piece_at(2 * member, 0);
    } else {
      left = piece_at(lane % 16, lane / 16);
      W = !BACKWARD                   ? piece_at(lane / 16 * 8 + lane % 8, lane / 8 % 2)
          : ARITHMETIC == TENSOR_TF32 ? member * memory::W_LD + group * 4
                                      : lane % 16 * memory::W_LD + lane / 16 * 16;
    }
    left += warp / TILE::ACROSS * TILE::WARP_ROWS * memory::CHUNK;
    W += warp % TILE::ACROSS * TILE::WARP_COLUMNS * (BACKWARD ? (int)memory::SIZE : (int)memory::CHUNK);
  }
};

// sums += the product; the fragments are each as mma.cuh has them.
template <enum arithmetic ARITHMETIC, class TILE, bool BACKWARD>
static __device__ inline void multiply_chunk(float (&sums)[TILE::TALL][TILE::WIDE][4], const unsigned char *shared,
                                             int left, int W) {
  typedef fused_memory<ARITHMETIC, TILE, BACKWARD> memory;
  if constexpr (ARITHMETIC == MULTIPLY_ADD) {
#pragma unroll 1  // the code of 4 pieces would not fit the instruction cache
    for (int piece = 0; piece < 4; piece++) {
      float a[2 * TILE::TALL][4];
#pragma unroll
      for (int i = 0; i < 2 * TILE::TALL; i++)
        load_values<ELEMENT_F32, 4>((const float *)(shared + (left ^ piece << 4) + i * 8 * 64), a[i]);
#pragma unroll
      for (int j = 0; j < TILE::WIDE; j++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
          float b[4];
          if constexpr (BACKWARD) {
#pragma unroll
            for (int p = 0; p < 4; p++)
              b[p] = *(const float *)(shared + W + (piece * 4 + p) * memory::W_LD + (8 * j + e) * 4);
          } else {
            load_values<ELEMENT_F32, 4>((const float *)(shared + (W ^ piece << 4) + (8 * j + e) * 64), b);
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
      for (int i = 0; i < TILE::TALL; i++) load_matrices(a[i], shared + (left ^ half << 5) + i * 16 * 64);
#pragma unroll
      for (int j = 0; j < TILE::WIDE; j += 2) {
        if constexpr (BACKWARD && ARITHMETIC == TENSOR_TF32) {
#pragma unroll
          for (int e = 0; e < 4; e++)
            b[j + e / 2][e % 2] =
                *(const uint32_t *)(shared + W + (half * 8 + e % 2 * 4) * memory::W_LD + 8 * (j + e / 2) * 4);
        } else {
          uint32_t words[4];
          if constexpr (BACKWARD)
            load_matrices_transposed(words, shared + W + half * 16 * memory::W_LD + 8 * j * 2);
          else
            load_matrices(words, shared + (W ^ half << 5) + 8 * j * 64);
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

// ---- the kernel ----

// Grid: (tiles of columns, runs of rows), so that blocks that read the same rows run together. PASS is the launch of
// the layer's pass.
template <enum arithmetic ARITHMETIC, class TILE, class PASS>
static __global__ void __launch_bounds__(TILE::THREADS, std::is_same<PASS, backward_launch>::value
                                                            ? TILE::BLOCKS_BACKWARD
                                                            : TILE::BLOCKS)
    fused_kernel(PASS pass, struct fused_product product) {
  constexpr bool BACKWARD = std::is_same<PASS, backward_launch>::value;
  constexpr enum element ELEMENT = ARITHMETIC == TENSOR_BF16 ? ELEMENT_BF16 : ELEMENT_F32;
  typedef fused_memory<ARITHMETIC, TILE, BACKWARD> memory;
  constexpr int SIZE = memory::SIZE;
  GRID_BEGIN();
  SHARED_MEMORY(shared);
  float *const held = (float *)shared;
  const int warp = (int)threadIdx.x / WARP, warp_row = warp / TILE::ACROSS * TILE::WARP_ROWS;
  const int warp_column = warp % TILE::ACROSS * TILE::WARP_COLUMNS;
  float *const warp_sums = (float *)(shared + memory::HELD) + warp * TILE::SUMS;
  const int64_t n = pass.n, column = (int64_t)blockIdx.x * TILE::COLUMNS;
  const int64_t run = (int64_t)product.tiles * TILE::ROWS, begin = blockIdx.y * run;
  const int rows = (int)(begin + run < pass.rows ? run : pass.rows - begin);
  begin_pass<TILE, memory::COUNT>(pass, held);  // other threads' after the barrier of the first chunk

  // The copies to come: of which rows of the run on, which elements of K on, into which stage.
  int row_to_copy = 0, k_to_copy = 0, stage_to_copy = 0;
  const auto copy = [&] {
    if (row_to_copy < rows) {
      const int thread = thread_now(), piece = thread % 4, place = piece_at(thread / 4, piece);
      const int columns = columns_inside(column, n, TILE::COLUMNS);
      const int bytes = bytes_of(product.k - k_to_copy - piece * memory::PIECE, SIZE);
      const int64_t left_row = product.left_ld * SIZE, W_row = product.W_ld * SIZE;
      copy_rows<TILE::ROWS, TILE::THREADS>(shared + memory::LEFTS + stage_to_copy * memory::LEFT + place,
                                           (const unsigned char *)product.left +
                                               (begin + row_to_copy + thread / 4) * left_row +
                                               (k_to_copy * SIZE + piece * 16),
                                           TILE::THREADS / 4 * left_row, thread / 4, rows - row_to_copy, bytes);
      if (!product.resident || row_to_copy == 0) {
        const unsigned char *const W = (const unsigned char *)product.W;
        const int slab = product.resident ? k_to_copy / memory::EACH : stage_to_copy;
        unsigned char *const to = shared + memory::FIXED + slab * memory::SLAB;
        if constexpr (BACKWARD)
          copy_columns<memory, TILE::COLUMNS, TILE::THREADS>(to, W + k_to_copy * W_row + column * SIZE, W_row, thread,
                                                             product.k - k_to_copy, columns);
        else
          copy_rows<TILE::COLUMNS, TILE::THREADS>(to + place,
                                                  W + (column + thread / 4) * W_row + (k_to_copy * SIZE + piece * 16),
                                                  TILE::THREADS / 4 * W_row, thread / 4, columns, bytes);
      }
      stage_to_copy = stage_to_copy + 1 < TILE::STAGES ? stage_to_copy + 1 : 0;
      k_to_copy += memory::EACH;
      if (k_to_copy >= product.k) k_to_copy = 0, row_to_copy += TILE::ROWS;
    }
    copy_commit();  // also of none, so that copy_wait counts chunks
  };
#pragma unroll 1
  for (int i = 0; i < TILE::STAGES - 1; i++) copy();

  const lane_reads<ARITHMETIC, TILE, BACKWARD> reads((int)threadIdx.x);
  int stage = 0;
#pragma unroll 1
  for (int row = 0; row < rows; row += TILE::ROWS) {
    float sums[TILE::TALL][TILE::WIDE][4] = {};
#pragma unroll 1
    for (int chunk = 0; chunk < product.chunks; chunk++) {
      copy_wait<TILE::STAGES - 2>();
      __syncthreads();  // this chunk is there, and the stage of the one before it is free
      copy();
      multiply_chunk<ARITHMETIC, TILE, BACKWARD>(
          sums, shared, memory::LEFTS + stage * memory::LEFT + reads.left,
          memory::FIXED + (product.resident ? chunk : stage) * memory::SLAB + reads.W);
      stage = stage + 1 < TILE::STAGES ? stage + 1 : 0;
    }
    const int inside = warp_column + lane_place<TILE, memory::COUNT>(thread_now()).column;
    finish_tile<TILE, ELEMENT, memory::COUNT>(pass, sums, begin + row + warp_row, column + inside, inside, warp_sums,
                                              held);
  }
  end_pass<TILE, memory::COUNT>(pass, held);
}

// ---- instances ----

struct fused_instance {
  int rows, columns;  // of a tile
  int stages;
  struct {
    size_t fixed, slab;
  } forward_bytes, backward_bytes;  // of shared memory: each stage, or each chunk of a resident W, has a slab
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
          {forward::FIXED, forward::SLAB},
          {backward::FIXED, backward::SLAB},
          [](const struct forward_launch *pass, const struct fused_product *product, dim3 blocks, size_t bytes,
             cudaStream_t stream) {
            return LAUNCH_SHARED((fused_kernel<ARITHMETIC, TILE, forward_launch>), blocks, TILE::THREADS, bytes, stream,
                                 *pass, *product);
          },
          [](const struct backward_launch *pass, const struct fused_product *product, dim3 blocks, size_t bytes,
             cudaStream_t stream) {
            return LAUNCH_SHARED((fused_kernel<ARITHMETIC, TILE, backward_launch>), blocks, TILE::THREADS, bytes,
                                 stream, *pass, *product);
          }};
}

#endif
