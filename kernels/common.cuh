// Shared by all kernel files: launching, blocks and warps, bf16, 16-byte accesses, sums in a fixed order.
//
// The same files are compiled for the host by the tests, where LAUNCH and the built-in names of CUDA come from a small
// emulation; nothing else may depend on the compiler (BF16 below is the one exception).
#ifndef DESCENT_KERNELS_COMMON_CUH
#define DESCENT_KERNELS_COMMON_CUH

#include <cuda_runtime.h>

// The formulas divide by numbers between 1 and 32. There the approximate reciprocal (1 ulp) with one correction of the
// quotient rounds as a division does, except by one bit next to a tie, and saves the division's special cases.
#ifdef __CUDA_ARCH__
static __device__ inline float device_quotient(float x, float y) {
  float inverse;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(y));
  const float quotient = x * inverse;
  return fmaf(fmaf(-y, quotient, x), inverse, quotient);
}
#define FORMULA_QUOTIENT(x, y) device_quotient(x, y)

static __device__ inline float product(float x, float y) { return __fmul_rn(x, y); }
static __device__ inline double product(double x, double y) { return __dmul_rn(x, y); }
static __device__ inline float fused(float x, float y, float z) { return __fmaf_rn(x, y, z); }
static __device__ inline double fused(double x, double y, double z) { return __fma_rn(x, y, z); }
#define FORMULA_FUSED_FIRST(a, b, c, d) fused(a, b, -product(c, d))
#define FORMULA_FUSED_SECOND(a, b, c, d) fused(-(c), d, product(a, b))
#define FORMULA_FUSED_SUM_FIRST(a, b, c, d) fused(a, b, product(c, d))
#define FORMULA_FUSED_SUM_SECOND(a, b, c, d) fused(c, d, product(a, b))
#endif

#include "backend/formulas.h"
#include "core/half.h"
#include "kernels.h"

// LAUNCH(kernel<...>, blocks, threads, stream, arguments...) is the launch's error. LAUNCH_SHARED has `bytes` of shared
// memory for the kernel, which finds them, aligned to 128, by SHARED_MEMORY(name). SHARED_VARIABLE(name, type) declares
// a variable in shared memory, aligned to 16 if it has 16 bytes or more: SHARED_VARIABLE(sums, float[8][4]).
//
// Launched so, a kernel may start while the one before it on the stream still runs (programmatic dependent launch,
// compute capability 9.0 and later; CUDA C++ Programming Guide), which hides the time of its launch. Therefore every
// kernel begins with GRID_BEGIN(): it lets the next kernel start, then waits until the one before is complete and its
// writes are visible. No thread may touch global memory, or end, before that. This also covers the kernels further
// back: the one before has waited for its own predecessor in every thread, so it is not complete earlier. Whatever else
// is on the stream (products of cuBLASLt, copies) starts when everything before it is complete, and is complete when
// the next kernel passes GRID_BEGIN.
#ifdef __CUDACC__
#include <cuda_bf16.h>
#define SHARED_MEMORY(name) extern __shared__ __align__(128) unsigned char name[]
template <typename T>
using shared_type = T;
#define SHARED_VARIABLE(name, ...) \
  __shared__ alignas(sizeof(__VA_ARGS__) < 16 ? alignof(__VA_ARGS__) : 16) shared_type<__VA_ARGS__> name
static __device__ inline void grid_begin(void) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
#define GRID_BEGIN() grid_begin()
#endif

// LAUNCH_CLUSTER(kernel<...>, blocks, threads, bytes, stream, arguments...): LAUNCH_SHARED of a grid that is one
// cluster of so many blocks, which run at the same time (compute capability 9.0 and later; 16 blocks at most; more than
// 8 need an opt-in, which LAUNCH_CLUSTER performs). CLUSTER_SYNC(), by every thread of every block of it, waits for all
// of them; what they wrote to global memory before is then visible to each.
#ifdef __CUDACC__
static __device__ inline void cluster_sync(void) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}
#define CLUSTER_SYNC() cluster_sync()
#endif

// True: this thread's next launch is a plain one, behind everything that its stream waits for.
inline thread_local bool next_launch_is_plain = false;

// A kernel is given more than 48 KB on request only, its own shared variables included, which counts for every launch
// of it until the next request. So the first one is for all that a block can have: a later launch of less lowers
// nothing for the launches of a captured graph, nor for another thread between its request and its launch.
enum { SHARED_UNASKED = 48 << 10 };
template <typename... Parameters>
static inline cudaError_t request_shared(void (*kernel)(Parameters...), size_t bytes, int ordinal) {
  struct cudaFuncAttributes attributes;
  int block = 0;
  cudaError_t error = cudaFuncGetAttributes(&attributes, (const void *)kernel);
  if (error != cudaSuccess || bytes + attributes.sharedSizeBytes <= SHARED_UNASKED) return error;
  const size_t given = (size_t)attributes.maxDynamicSharedSizeBytes;
  if (given > SHARED_UNASKED && bytes <= given) return cudaSuccess;
  error = cudaDeviceGetAttribute(&block, cudaDevAttrMaxSharedMemoryPerBlockOptin, ordinal);
  if (error != cudaSuccess) return error;
  const int most = block - (int)attributes.sharedSizeBytes;
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                              (int)bytes > most ? (int)bytes : most);
}

// The most that a block of the current device may have; 48 KB are always there.
static inline size_t shared_bytes(void) {
  int ordinal = 0, bytes = 0;
  if (cudaGetDevice(&ordinal) != cudaSuccess ||
      cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, ordinal) != cudaSuccess)
    return 48 << 10;
  return (size_t)bytes;
}

// `cluster`: the blocks are one; 0: none are.
template <typename... Parameters, typename... Arguments>
static inline cudaError_t launch_blocks(void (*kernel)(Parameters...), dim3 blocks, unsigned cluster, unsigned threads,
                                        size_t bytes, cudaStream_t stream, Arguments... arguments) {
  enum { PORTABLE_CLUSTER = 8, MOST_OWN = 16 << 10 };  // bytes of a kernel's shared variables
  cudaLaunchAttribute attributes[2];
  cudaLaunchConfig_t config = {};
  config.gridDim = blocks;
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = bytes;
  config.stream = stream;
  config.attrs = attributes;
  int ordinal = 0, major = 0;
  cudaError_t error = cudaGetDevice(&ordinal);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, ordinal);
  if (error == cudaSuccess && (cluster || bytes > SHARED_UNASKED - MOST_OWN))
    error = request_shared(kernel, bytes, ordinal);
  if (error == cudaSuccess && cluster > PORTABLE_CLUSTER)
    error = cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
  if (error != cudaSuccess) return error;
  if (major >= 9 && !next_launch_is_plain) {
    attributes[config.numAttrs].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[config.numAttrs++].val.programmaticStreamSerializationAllowed = 1;
  }
  if (cluster) {
    attributes[config.numAttrs].id = cudaLaunchAttributeClusterDimension;
    attributes[config.numAttrs].val.clusterDim.x = cluster;
    attributes[config.numAttrs].val.clusterDim.y = attributes[config.numAttrs].val.clusterDim.z = 1;
    config.numAttrs++;
  }
  next_launch_is_plain = false;
  error = cudaLaunchKernelEx(&config, kernel, (Parameters)arguments...);
  (void)cudaGetLastError();
  return error;
}
template <typename... Parameters, typename... Arguments>
static inline cudaError_t launch_shared(void (*kernel)(Parameters...), dim3 blocks, unsigned threads, size_t bytes,
                                        cudaStream_t stream, Arguments... arguments) {
  return launch_blocks(kernel, blocks, 0, threads, bytes, stream, arguments...);
}
template <typename... Parameters, typename... Arguments>
static inline cudaError_t launch_cluster(void (*kernel)(Parameters...), unsigned blocks, unsigned threads, size_t bytes,
                                         cudaStream_t stream, Arguments... arguments) {
  return launch_blocks(kernel, dim3(blocks), blocks, threads, bytes, stream, arguments...);
}
template <typename... Parameters, typename... Arguments>
static inline cudaError_t launch_kernel(void (*kernel)(Parameters...), dim3 blocks, unsigned threads,
                                        cudaStream_t stream, Arguments... arguments) {
  return launch_shared(kernel, blocks, threads, 0, stream, arguments...);
}
#define LAUNCH(...) launch_kernel(__VA_ARGS__)
#define LAUNCH_SHARED(...) launch_shared(__VA_ARGS__)
#define LAUNCH_CLUSTER(...) launch_cluster(__VA_ARGS__)

enum { WARP = 32, BLOCK = 256 };  // threads

// ---- bf16 ----

static __device__ inline float bf16_value(uint16_t bits) { return bf16_to_float(bits); }

// To nearest, ties to even; NaN stays NaN.
static __device__ inline uint16_t bf16_bits(float x) {
#ifdef __CUDACC__
  return __bfloat16_as_ushort(__float2bfloat16_rn(x));
#else
  return bf16_from_float(x);
#endif
}

// Two values in one word, the first in its lower half.
static __device__ inline uint32_t bf16_pair(float first, float second) {
#ifdef __CUDACC__
  const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
  return (uint32_t)__bfloat16_as_ushort(pair.x) | (uint32_t)__bfloat16_as_ushort(pair.y) << 16;
#else
  return (uint32_t)bf16_bits(first) | (uint32_t)bf16_bits(second) << 16;
#endif
}

// tanh for results that are rounded to bf16: relative error 2^-11 (PTX ISA, tanh.approx.f32).
static __device__ inline float coarse_tanh(float z) {
#ifdef __CUDACC__
  float a;
  asm("tanh.approx.f32 %0, %1;" : "=f"(a) : "f"(z));
  return a;
#else
  return formula_tanh(z);
#endif
}

static __device__ inline bool is_finite(double x) { return x - x == 0.0; }
static __device__ inline bool is_finite(float x) { return x - x == 0.0f; }

// ---- elements ----

template <enum element ELEMENT>
struct Element;
template <>
struct Element<ELEMENT_F32> {
  typedef float type;
  enum { WIDE = 4 };  // elements of a 16-byte access
  static __device__ float load(const float *p) { return *p; }
  static __device__ void store(float *p, float x) { *p = x; }
  static __device__ float rounded(float x) { return x; }  // what a load after a store gives
};
template <>
struct Element<ELEMENT_BF16> {
  typedef uint16_t type;
  enum { WIDE = 8 };
  static __device__ float load(const uint16_t *p) { return bf16_value(*p); }
  static __device__ void store(uint16_t *p, float x) { *p = bf16_bits(x); }
  static __device__ float rounded(float x) { return bf16_value(bf16_bits(x)); }
};

// COUNT values from or to p, which is aligned to their total size: in accesses of 16 bytes, or of 8 if that is all; a
// single value by a plain access.
template <enum element ELEMENT, int COUNT>
static __device__ inline void load_values(const typename Element<ELEMENT>::type *p, float (&values)[COUNT]) {
  enum { PER_WORD = ELEMENT == ELEMENT_F32 ? 1 : 2, WORDS = COUNT / PER_WORD };
  if constexpr (COUNT == 1) {
    values[0] = Element<ELEMENT>::load(p);
  } else {
    static_assert(COUNT % PER_WORD == 0 && (WORDS == 2 || WORDS % 4 == 0), "accesses of 8 or 16 bytes");
    uint32_t words[WORDS];
    if constexpr (WORDS == 2) {
      const uint2 pair = *(const uint2 *)p;
      words[0] = pair.x, words[1] = pair.y;
    } else {
#pragma unroll
      for (int i = 0; i < WORDS; i += 4) {
        const uint4 four = *(const uint4 *)(p + i * PER_WORD);
        words[i] = four.x, words[i + 1] = four.y, words[i + 2] = four.z, words[i + 3] = four.w;
      }
    }
#pragma unroll
    for (int i = 0; i < COUNT; i++) {
      const uint32_t word = words[i / PER_WORD];
      values[i] = float_from_bits(PER_WORD == 1 ? word : i % 2 ? word & 0xffff0000u : word << 16);
    }
  }
}

template <enum element ELEMENT, int COUNT>
static __device__ inline void store_values(typename Element<ELEMENT>::type *p, const float (&values)[COUNT]) {
  enum { PER_WORD = ELEMENT == ELEMENT_F32 ? 1 : 2, WORDS = COUNT / PER_WORD };
  if constexpr (COUNT == 1) {
    Element<ELEMENT>::store(p, values[0]);
  } else {
    static_assert(COUNT % PER_WORD == 0 && (WORDS == 2 || WORDS % 4 == 0), "accesses of 8 or 16 bytes");
    uint32_t words[WORDS];
#pragma unroll
    for (int i = 0; i < WORDS; i++)
      words[i] = PER_WORD == 1 ? float_bits(values[i]) : bf16_pair(values[2 * i % COUNT], values[(2 * i + 1) % COUNT]);
    if constexpr (WORDS == 2) {
      *(uint2 *)p = make_uint2(words[0], words[1]);
    } else {
#pragma unroll
      for (int i = 0; i < WORDS; i += 4)
        *(uint4 *)(p + i * PER_WORD) = make_uint4(words[i], words[i + 1], words[i + 2], words[i + 3]);
    }
  }
}

// True if every row of the matrix is aligned for accesses to `count` columns at once.
static __host__ __device__ inline bool is_aligned(struct device_matrix m, int count) {
  return !m.data || m.ld % count == 0;
}

// ---- sums in a fixed order ----

// The sum over the warp's lanes, in every lane; all 32 take part.
template <typename T>
static __device__ inline T warp_sum(T x) {
#pragma unroll
  for (int distance = WARP / 2; distance > 0; distance /= 2) x += __shfl_xor_sync(0xffffffffu, x, distance);
  return x;
}

// The sum over a block of BLOCK threads, in the threads of its first warp; all take part. May be called repeatedly
// without a barrier in between.
template <typename T>
static __device__ inline T block_sum(T x) {
  SHARED_VARIABLE(sums, T[BLOCK / WARP]);
  x = warp_sum(x);
  __syncthreads();  // the previous call's sums may still be read
  if (threadIdx.x % WARP == 0) sums[threadIdx.x / WARP] = x;
  __syncthreads();
  if (threadIdx.x >= WARP) return x;
  T total = sums[0];
#pragma unroll
  for (int i = 1; i < BLOCK / WARP; i++) total += sums[i];
  return total;
}

// True in every thread of the last of `blocks` blocks to get here; everything that the blocks wrote before is visible
// to it. The counter is 0 again afterwards. Called once by every thread of every block.
static __device__ inline bool is_last_of(unsigned *counter, unsigned blocks) {
  SHARED_VARIABLE(last, bool);
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) last = atomicInc(counter, blocks - 1) == blocks - 1;
  __syncthreads();
  if (last) __threadfence();
  return last;
}

// The same for the whole grid.
static __device__ inline bool is_last_block(unsigned *counter) {
  return is_last_of(counter, gridDim.x * gridDim.y * gridDim.z);
}

// The sum over the grid, in the first warp of the last block, where it returns true. All threads of blocks of BLOCK
// take part; `partials` has a T for each block.
template <typename T>
static __device__ inline bool grid_sum(T x, struct scratch scratch, T *sum) {
  const unsigned blocks = gridDim.x * gridDim.y, block = blockIdx.y * gridDim.x + blockIdx.x;
  T *partials = (T *)scratch.partials;
  x = block_sum(x);
  if (blocks > 1) {
    if (threadIdx.x == 0) partials[block] = x;
    if (!is_last_block(scratch.counters)) return false;
    x = 0;
    for (unsigned i = threadIdx.x; i < blocks; i += BLOCK) x += partials[i];
    x = block_sum(x);
  }
  *sum = x;
  return true;
}

// The number of blocks of `each` that cover `count`, between 1 and `most`. Kernels advance by the grid's stride.
static __host__ __device__ inline unsigned block_count(int64_t count, int64_t each, int64_t most) {
  const int64_t blocks = (count + each - 1) / each;
  return (unsigned)(blocks < 1 ? 1 : blocks < most ? blocks : most);
}

// ---- threads over a matrix ----

// A thread has `columns` neighbouring columns and walks down the rows. A block has `across` threads along a row and
// `down` of such rows; the rest is idle. Blocks cover the stripes of columns, each several times so that there are a
// few thousand.
struct element_tiling {
  int across, down;
  dim3 blocks;
};

// `rows_each`: the preferred number of rows per thread, so that several accesses are in flight.
static __host__ __device__ inline struct element_tiling tiling_of(int64_t rows, int64_t n, int columns, int rows_each) {
  enum { MOST_ACROSS = 64, MOST_BLOCKS = 2048 };
  const int64_t groups = n / columns, stripes = (groups + MOST_ACROSS - 1) / MOST_ACROSS;
  struct element_tiling t;
  t.across = (int)((groups + stripes - 1) / stripes);
  t.down = BLOCK / t.across;
  t.blocks =
      dim3((unsigned)stripes, block_count(rows, (int64_t)t.down * rows_each, (MOST_BLOCKS + stripes - 1) / stripes));
  return t;
}

struct cells {
  int64_t row, step;  // the first row, and the distance to the next
  int64_t column;
  bool idle;
};

static __device__ inline struct cells cells_of(const struct element_tiling &t, int64_t n, int columns) {
  struct cells c;
  const int thread = (int)threadIdx.x;
  c.row = (int64_t)blockIdx.y * t.down + thread / t.across;
  c.step = (int64_t)gridDim.y * t.down;
  c.column = ((int64_t)blockIdx.x * t.across + thread % t.across) * columns;
  c.idle = thread / t.across >= t.down || c.column >= n;
  return c;
}

#endif
