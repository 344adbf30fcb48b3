// A training step of few rows in one kernel of one cluster of blocks: forward, loss, backward, and the gradients of all
// parameters; on request also what surrounds the layers in a step.
//
// First each block takes its rows through all layers, as network_chain does, and writes A of the hidden layers and dZ
// of all layers to memory, where they stay in the L2 cache if they fit. When all blocks have done so, the tiles of all
// dW are dealt to them; each tile sums over all rows. Separate kernels would add launch latency, which should matter with
// so few rows; that has yet to be measured.
#ifndef DESCENT_KERNELS_NETWORK_CLUSTER_CUH
#define DESCENT_KERNELS_NETWORK_CLUSTER_CUH

#include <atomic>

#include "network_products.cuh"
#include "weights_tile.cuh"
#include "whole.cuh"

enum {
  CLUSTER_MOST = 16,                             // blocks
  CLUSTER_ROWS = 1024,                           // of a step; a bound that has yet to be measured
  CLUSTER_PARAMETERS = FLAT_TURN * FLAT_PIECES,  // what whole_norm_and_update takes
};

// `network` is a NETWORK_CHAIN to the code that it shares with these; its A, Z and dZ are in `partials`.
struct cluster_launch {
  struct network_launch network;
  int tiles;     // of rows, of a block
  int pieces;    // of all dW
  double *loss;  // (CLUSTER_MOST), of each block
};

// Where in shared memory is what, in bytes. The operand comes last, since its width is the network's.
template <enum arithmetic ARITHMETIC, class TILE>
struct cluster_memory {
  typedef fused_memory<ARITHMETIC, TILE, false> forward;
  typedef fused_memory<ARITHMETIC, TILE, true> backward;
  enum {
    SIZE = forward::SIZE,
    EACH = forward::EACH,                 // elements of a row in a chunk of K
    PIECE = forward::PIECE,               // elements of 16 bytes
    CHUNK = forward::LEFT,                // of the operand
    DIRECT = ARITHMETIC != MULTIPLY_ADD,  // forward, W goes to registers
    SPAN = TILE::COLUMNS > 256 ? 1 : 2,   // slabs of a stage
    SLAB = DIRECT || (int)forward::SLAB < (int)backward::SLAB ? (int)backward::SLAB : (int)forward::SLAB,
    SLABS = 0,
    SUMS = SLABS + TILE::STAGES * SPAN * SLAB,               // on their way to the epilogue
    TARGETS = SUMS + forward::SUMS,                          // w and y of a tile's rows
    LOSSES = TARGETS + 2 * TILE::ROWS * (int)sizeof(float),  // the threads' sums of w L
    BIAS = LOSSES + TILE::THREADS * (int)sizeof(double),     // (NETWORK_LAYERS, COLUMNS)
    OPERAND = BIAS + NETWORK_LAYERS * TILE::COLUMNS * (int)sizeof(float),
  };
  static_assert(TILE::COLUMNS % EACH == 0 && SLAB % 64 == 0 && OPERAND % 64 == 0, "chunks of 64 bytes");
  // A warp's epilogue writes all of its columns.
  static int bytes(int widest) {
    enum { WHOLE = (int)TILE::WARP_COLUMNS > (int)EACH ? (int)TILE::WARP_COLUMNS : (int)EACH };
    return OPERAND + (widest + WHOLE - 1) / WHOLE * (WHOLE / EACH) * CHUNK;
  }
};

// Piece number `piece` of all dW, counted layer by layer.
template <class PIECE>
static __device__ inline struct weights_part part_of(const struct network_launch &l, int piece, int rows, int *layer) {
  int i = 0, across;
#pragma unroll 1
  for (;; i++) {
    across = (l.layer[i].n_in + PIECE::IN - 1) / PIECE::IN;
    const int all = (l.layer[i].n_out + PIECE::OUT - 1) / PIECE::OUT * across;
    if (piece < all) break;
    piece -= all;
  }
  *layer = i;
  return {l.layer[i].dZ,
          i > 0 ? l.layer[i - 1].A : l.X,
          0,
          rows,
          l.layer[i].n_out,
          l.layer[i].n_in,
          piece / across * PIECE::OUT,
          piece % across * PIECE::IN};
}

template <enum arithmetic ARITHMETIC, class TILE, class PIECE>
static __device__ inline void cluster_layers(const struct cluster_launch &launch, unsigned char *shared) {
  typedef cluster_memory<ARITHMETIC, TILE> memory;
  const struct network_launch &l = launch.network;
  const int64_t valid = l.state->current.rows, rows = valid < l.rows ? valid : l.rows;
  const float zeros[4] = {};  // of the padding and the gaps
  for (int64_t i = ((int64_t)blockIdx.x * BLOCK + threadIdx.x) * 4; i < l.n_gradients;
       i += (int64_t)gridDim.x * BLOCK * 4)
    store_values<ELEMENT_F32, 4>(l.gradients + i, zeros);

  pass_rows<ARITHMETIC, TILE, memory>(l, rows, launch.tiles, shared);
  const double total = block_sum(((double *)(shared + memory::LOSSES))[threadIdx.x]);
  if (threadIdx.x == 0) launch.loss[blockIdx.x] = total;
  CLUSTER_SYNC();

  if (blockIdx.x == gridDim.x - 1 && threadIdx.x == 0) {
    const double divisor = l.loss == DESCENT_LOSS_MEAN_SQUARED_ERROR ? (double)l.layer[l.layers - 1].n_out : 1;
    double sum = 0;
    for (unsigned i = 0; i < gridDim.x; i++) sum += launch.loss[i];
    l.scalars[SCALAR_LOSS] = mean_loss(sum, divisor, l.scalars[SCALAR_WEIGHT_SUM]);
  }
#pragma unroll 1
  for (int piece = (int)blockIdx.x; piece < launch.pieces; piece += (int)gridDim.x) {
    int layer;
    const struct weights_part part = part_of<PIECE>(l, piece, (int)rows, &layer);
    const struct network_layer &at = l.layer[layer];
    sum_weights<PIECE>(part, {l.gradients + at.dW, at.W.ld, at.n_in, true, l.gradients + at.db}, shared);
    __syncthreads();  // the shared memory is free again
  }
}

// Code for GPUs that have no clusters would never run.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
#define HAS_CLUSTERS 0
#else
#define HAS_CLUSTERS 1
#endif

template <enum arithmetic ARITHMETIC, class TILE, class PIECE>
static __global__ void __launch_bounds__(BLOCK, 1) cluster_kernel(struct cluster_launch launch) {
#if HAS_CLUSTERS
  GRID_BEGIN();
  SHARED_MEMORY(shared);
  cluster_layers<ARITHMETIC, TILE, PIECE>(launch, shared);
#endif
}

// The whole step.
template <enum arithmetic ARITHMETIC, class TILE, class PIECE>
static __global__ void __launch_bounds__(BLOCK, 1)
    cluster_step_kernel(struct cluster_launch launch, struct whole_step whole) {
#if HAS_CLUSTERS
  constexpr enum element ELEMENT = ARITHMETIC == TENSOR_BF16 ? ELEMENT_BF16 : ELEMENT_F32;
  GRID_BEGIN();
  SHARED_MEMORY(shared);
  whole_gather<ELEMENT>(whole.gather, blockIdx.x, gridDim.x);
  CLUSTER_SYNC();
  cluster_layers<ARITHMETIC, TILE, PIECE>(launch, shared);
  whole_norm_and_update(whole, blockIdx.x, gridDim.x);
#endif
}

// ---- instances ----

struct cluster_instance {
  int rows, columns;        // of a tile
  int piece_out, piece_in;  // of dW
  int (*bytes)(int widest);
  int (*own_bytes)(void);  // of its kernels' shared variables
  // Whether the device can run so many blocks together, each with `bytes` of shared memory beside these.
  bool (*can_run)(unsigned blocks, size_t bytes);
  cudaError_t (*launch)(const struct cluster_launch *, unsigned blocks, size_t bytes, const struct whole_step *whole,
                        cudaStream_t);
};
struct cluster_instances {
  const struct cluster_instance *all;
  int n;
};
struct cluster_instances cluster_bf16(void), cluster_tf32(void), cluster_f32(void);

// How many clusters of so many blocks the device can run, each block with `bytes` of shared memory.
template <typename... Parameters>
static cudaError_t count_clusters(void (*kernel)(Parameters...), unsigned blocks, size_t bytes, int ordinal,
                                  int *count) {
  cudaLaunchAttribute size;
  size.id = cudaLaunchAttributeClusterDimension;
  size.val.clusterDim.x = blocks, size.val.clusterDim.y = size.val.clusterDim.z = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(blocks), config.blockDim = dim3(BLOCK);
  config.dynamicSmemBytes = bytes, config.attrs = &size, config.numAttrs = 1;
  cudaError_t error = request_shared(kernel, bytes, ordinal);
  if (error == cudaSuccess) error = cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
  if (error == cudaSuccess) error = cudaOccupancyMaxActiveClusters(count, kernel, &config);
  return error;
}

// The kernel's code is made for GPUs with clusters. Elsewhere it is empty, which a GPU may get that runs PTX of an
// earlier compute capability.
template <typename... Parameters>
static cudaError_t ask_cluster(void (*kernel)(Parameters...), unsigned blocks, size_t bytes, int ordinal,
                               bool *can_run) {
  struct cudaFuncAttributes attributes;
  int count = 0;
  cudaError_t error = cudaFuncGetAttributes(&attributes, (const void *)kernel);
  *can_run = false;
  if (error != cudaSuccess || attributes.ptxVersion < 90) return error;
  error = count_clusters(kernel, blocks, bytes, ordinal, &count);
  *can_run = error == cudaSuccess && count > 0;
  return error;
}

// True if a later call may succeed, for example because there is memory for the kernel's code then.
static inline bool is_transient(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
    case cudaErrorInvalidValue:
    case cudaErrorInvalidConfiguration:
    case cudaErrorInvalidDeviceFunction:
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorNotSupported:
    case cudaErrorInvalidClusterSize: return false;
    default: return true;
  }
}

// Asked once for each device and number of blocks, of blocks with as much shared memory as any launch asks for. A
// transient error is not remembered: the variant still counts, so that the others keep their numbers, and its launch
// returns the error.
template <enum arithmetic ARITHMETIC, class TILE, class PIECE>
static bool can_run_cluster(unsigned blocks, size_t bytes) {
  enum { DEVICES = 64, NOT_ASKED = 0, NO, YES };
  static std::atomic<char> answers[DEVICES][CLUSTER_MOST + 1];
  int ordinal = 0;
  if (cudaGetDevice(&ordinal) != cudaSuccess || ordinal >= DEVICES) return false;
  std::atomic<char> &answer = answers[ordinal][blocks];
  if (answer.load() == NOT_ASKED) {
    bool layers = false, step = false;
    cudaError_t error = ask_cluster(cluster_kernel<ARITHMETIC, TILE, PIECE>, blocks, bytes, ordinal, &layers);
    if (layers) error = ask_cluster(cluster_step_kernel<ARITHMETIC, TILE, PIECE>, blocks, bytes, ordinal, &step);
    (void)cudaGetLastError();
    if (is_transient(error)) return true;
    answer.store(step ? YES : NO);
  }
  return answer.load() == YES;
}

// The larger of both kernels, asked once.
template <enum arithmetic ARITHMETIC, class TILE, class PIECE>
static int own_cluster_bytes(void) {
  enum { NOT_ASKED = -1, LIKELY = 8 << 10 };
  static std::atomic<int> answer(NOT_ASKED);
  if (answer.load() == NOT_ASKED) {
    const void *const kernels[] = {(const void *)cluster_kernel<ARITHMETIC, TILE, PIECE>,
                                   (const void *)cluster_step_kernel<ARITHMETIC, TILE, PIECE>};
    int most = 0;
    for (const void *kernel : kernels) {
      struct cudaFuncAttributes attributes;
      if (cudaFuncGetAttributes(&attributes, kernel) != cudaSuccess) {
        (void)cudaGetLastError();
        return LIKELY;
      }
      most = (int)attributes.sharedSizeBytes > most ? (int)attributes.sharedSizeBytes : most;
    }
    answer.store(most);
  }
  return answer.load();
}

template <enum arithmetic ARITHMETIC, class TILE, class PIECE>
static constexpr struct cluster_instance cluster_instance_of() {
  typedef cluster_memory<ARITHMETIC, TILE> memory;
  static_assert((int)TILE::THREADS == (int)BLOCK && (int)PIECE::THREADS == (int)BLOCK, "one size of blocks");
  return {TILE::ROWS,
          TILE::COLUMNS,
          PIECE::OUT,
          PIECE::IN,
          [](int widest) {
            const int bytes = memory::bytes(widest);
            return bytes > (int)PIECE::BYTES ? bytes : (int)PIECE::BYTES;
          },
          own_cluster_bytes<ARITHMETIC, TILE, PIECE>,
          can_run_cluster<ARITHMETIC, TILE, PIECE>,
          [](const struct cluster_launch *launch, unsigned blocks, size_t bytes, const struct whole_step *whole,
             cudaStream_t stream) {
            if (whole)
              return LAUNCH_CLUSTER((cluster_step_kernel<ARITHMETIC, TILE, PIECE>), blocks, BLOCK, bytes, stream,
                                    *launch, *whole);
            return LAUNCH_CLUSTER((cluster_kernel<ARITHMETIC, TILE, PIECE>), blocks, BLOCK, bytes, stream, *launch);
          }};
}

#endif
