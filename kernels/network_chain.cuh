// Networks of up to 320 units a layer in one kernel: forward, loss, and every dZ.
//
// A block takes tiles of ROWS rows through all layers, from X to the loss and back.
#ifndef DESCENT_KERNELS_NETWORK_CHAIN_CUH
#define DESCENT_KERNELS_NETWORK_CHAIN_CUH

#include "network_products.cuh"

// Where in shared memory is what, in bytes.
template <enum arithmetic ARITHMETIC, class TILE>
struct chain_memory {
  typedef fused_memory<ARITHMETIC, TILE, false> forward;
  typedef fused_memory<ARITHMETIC, TILE, true> backward;
  enum {
    SIZE = forward::SIZE,
    EACH = forward::EACH,    // elements of a row in a chunk of K
    PIECE = forward::PIECE,  // elements of 16 bytes
    OPERAND = 0,
    CHUNK = forward::LEFT,  // of the operand
    DIRECT = false,         // W goes through shared memory
    SPAN = 1,               // slabs of a stage
    SLAB = (int)forward::SLAB > (int)backward::SLAB ? (int)forward::SLAB : (int)backward::SLAB,
    SLABS = TILE::COLUMNS / EACH * CHUNK,
    SUMS = SLABS + TILE::STAGES * SLAB,                      // on their way to the epilogue
    TARGETS = SUMS + forward::SUMS,                          // w and y of a tile's rows
    LOSSES = TARGETS + 2 * TILE::ROWS * (int)sizeof(float),  // the threads' sums of w L
    BIAS = LOSSES + TILE::THREADS * (int)sizeof(double),     // (layers, COLUMNS)
  };
  static_assert(TILE::COLUMNS % EACH == 0 && SLAB % 64 == 0, "chunks of 64 bytes");
  static __host__ __device__ int bytes(int layers) { return BIAS + layers * TILE::COLUMNS * (int)sizeof(float); }
};

// ---- the kernel ----

// Of TILE on a multiprocessor, at least. In the code for compute capability 8 two would have too few registers.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
#define CHAIN_BLOCKS 1
#else
#define CHAIN_BLOCKS TILE::BLOCKS
#endif

template <enum arithmetic ARITHMETIC, class TILE>
static __global__ void __launch_bounds__(TILE::THREADS, CHAIN_BLOCKS) chain_kernel(struct network_launch l, int tiles) {
  typedef chain_memory<ARITHMETIC, TILE> memory;
  GRID_BEGIN();
  SHARED_MEMORY(shared);
  pass_rows<ARITHMETIC, TILE, memory>(l, l.rows, tiles, shared);
  if (l.kind == NETWORK_CHAIN) {
    const bool is_mean = l.loss == DESCENT_LOSS_MEAN_SQUARED_ERROR;
    finish_loss(l.scalars, {l.partials, l.counters}, is_mean ? (double)l.layer[l.layers - 1].n_out : 1,
                ((double *)(shared + memory::LOSSES))[threadIdx.x], l.scalars[SCALAR_WEIGHT_SUM]);
  }
}

// ---- instances ----

struct chain_instance {
  int rows, columns;         // of a tile
  int (*bytes)(int layers);  // of shared memory
  cudaError_t (*launch)(const struct network_launch *, int tiles, unsigned blocks, cudaStream_t);
};
struct chain_instances {
  const struct chain_instance *all;
  int n;
};
struct chain_instances chain_bf16(void), chain_tf32(void), chain_f32(void);

template <enum arithmetic ARITHMETIC, class TILE>
static constexpr struct chain_instance chain_instance_of() {
  return {TILE::ROWS, TILE::COLUMNS, chain_memory<ARITHMETIC, TILE>::bytes,
          [](const struct network_launch *l, int tiles, unsigned blocks, cudaStream_t stream) {
            return LAUNCH_SHARED((chain_kernel<ARITHMETIC, TILE>), blocks, TILE::THREADS,
                                 (size_t)(chain_memory<ARITHMETIC, TILE>::bytes(l->layers)), stream, *l, tiles);
          }};
}

#endif
