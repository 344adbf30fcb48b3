/* The device side of the emulated CUDA: the language of kernels. The threads of a block are fibers; they take turns
 * only where they wait for each other, in an order that changes from barrier to barrier, so that a missing one shows. A
 * barrier or shuffle that a thread does not reach, or reaches elsewhere in the source, aborts with its source line. */
#ifndef DESCENT_TESTS_CUDA_RUNTIME_H
#define DESCENT_TESTS_CUDA_RUNTIME_H

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>

#include "cuda_runtime_api.h"

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
#ifdef __has_feature
#define EMULATED_ASAN __has_feature(address_sanitizer)
#elif defined(__SANITIZE_ADDRESS__)
#define EMULATED_ASAN 1
#else
#define EMULATED_ASAN 0
#endif

struct uint3 {
  unsigned x, y, z;
};
struct dim3 : uint3 {
  dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : uint3{x_, y_, z_} {}
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
static inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

/* Where in the source a call is: the default arguments of a function are evaluated where it is called. */
#define EMULATED_PLACE const char *file = __builtin_FILE(), int line = __builtin_LINE()

/* Each is rounded: nothing here may be contracted to a multiply-add (-ffp-contract=off). */
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }

void __syncthreads(EMULATED_PLACE);
/* Waits for the lanes of `mask`; then returns the value of lane `source`. */
uint64_t emulate_exchange(unsigned mask, uint64_t value, unsigned source, const char *file, int line);
static inline void __threadfence() {}

static inline void __syncwarp(unsigned mask = 0xffffffffu, EMULATED_PLACE) {
  emulate_exchange(mask, 0, threadIdx.x % 32, file, line);
}

template <typename T>
static inline T __shfl_xor_sync(unsigned mask, T x, int distance, int width = 32, EMULATED_PLACE) {
  static_assert(sizeof x == 4 || sizeof x == 8, "shuffles move 4 or 8 bytes");
  const unsigned lane = threadIdx.x % 32, n = (unsigned)width, source = lane ^ (unsigned)distance;
  uint64_t value = 0;
  memcpy(&value, &x, sizeof x);
  value = emulate_exchange(mask, value, source < (lane / n + 1) * n ? source : lane, file, line);
  memcpy(&x, &value, sizeof x);
  return x;
}

template <typename T>
static inline T atomicAdd(T *address, T x) {
  static_assert(T(1) / 2 == 0, "sums of floating-point atomics have no order");
  const T old = *address;
  *address = old + x;
  return old;
}
static inline unsigned long long atomicMin(unsigned long long *address, unsigned long long x) {
  const unsigned long long old = *address;
  if (x < old) *address = x;
  return old;
}
static inline unsigned atomicInc(unsigned *address, unsigned limit) {
  const unsigned old = *address;
  *address = old >= limit ? 0 : old + 1;
  return old;
}

/* ---- shared memory ---- */

/* Each block has its own, all NaN when it begins. So there is no __shared__: a static variable is one for all blocks. */
struct emulated_variable {
  size_t bytes;
  uint64_t turn; /* for which `at` holds */
  void *at;
};
extern uint64_t emulate_turn; /* counts the turns of blocks */
void *emulate_make_variable(emulated_variable *variable, const char *file, int line);
static inline void *emulate_variable(emulated_variable *variable, const char *file, int line) {
  return variable->turn == emulate_turn ? variable->at : emulate_make_variable(variable, file, line);
}
template <typename T>
using emulated_type = T; /* also an array's */
#define SHARED_VARIABLE(name, ...)                                              \
  static emulated_variable variable_##name = {sizeof(__VA_ARGS__), 0, nullptr}; \
  auto &name = *(emulated_type<__VA_ARGS__> *)emulate_variable(&variable_##name, __FILE__, __LINE__)

/* Exactly as long as the launch asks for. */
unsigned char *emulate_shared_memory(const char *file, int line);
#define SHARED_MEMORY(name) unsigned char *const name = emulate_shared_memory(__FILE__, __LINE__)

/* ---- tensor cores, asynchronous copies: the functions of kernels/mma.cuh ---- */

/* Waits for all 32 lanes; then one call of `all`, with what each lane passes, computes for the whole warp. */
void emulate_together(void (*all)(void *const lanes[32]), void *lane, const char *file, int line);

struct emulated_mma {
  float *d;          /* (4) */
  const uint32_t *a; /* (4) */
  const uint32_t *b; /* (2) */
};
void emulate_mma_bf16(void *const lanes[32]);
void emulate_mma_tf32(void *const lanes[32]);
static inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], EMULATED_PLACE) {
  emulated_mma lane = {d, a, b};
  emulate_together(emulate_mma_bf16, &lane, file, line);
}
static inline void mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], EMULATED_PLACE) {
  emulated_mma lane = {d, a, b};
  emulate_together(emulate_mma_tf32, &lane, file, line);
}

struct emulated_matrices {
  uint32_t *words; /* (4) */
  const uint16_t *row;
};
void emulate_load_matrices(void *const lanes[32]);
void emulate_load_matrices_transposed(void *const lanes[32]);
/* Aborts unless `at` is a multiple of 16 and 16 bytes of shared memory lie there. */
void emulate_check_shared(const void *at, const char *file, int line);
static inline void load_matrices(uint32_t (&words)[4], const void *row, EMULATED_PLACE) {
  emulated_matrices lane = {words, (const uint16_t *)row};
  emulate_check_shared(row, file, line);
  emulate_together(emulate_load_matrices, &lane, file, line);
}
static inline void load_matrices_transposed(uint32_t (&words)[4], const void *row, EMULATED_PLACE) {
  emulated_matrices lane = {words, (const uint16_t *)row};
  emulate_check_shared(row, file, line);
  emulate_together(emulate_load_matrices_transposed, &lane, file, line);
}

void copy_async(void *shared, const void *global, int bytes, EMULATED_PLACE);
void copy_commit(void);
void emulate_copy_wait(unsigned pending);
template <int PENDING>
static inline void copy_wait(void) {
  emulate_copy_wait(PENDING);
}

/* ---- launches ---- */

/* Under AddressSanitizer no thread of a grid's first block finds device memory accessible before it. */
#define GRID_BEGIN() emulate_grid_begin(__FILE__, __LINE__)
void emulate_grid_begin(const char *file, int line);
/* Waits for all threads of all blocks of the cluster. */
#define CLUSTER_SYNC() emulate_cluster_sync(__FILE__, __LINE__)
void emulate_cluster_sync(const char *file, int line);

extern uint64_t emulate_random; /* not 0: the state from which every order and time is drawn */
uint64_t emulate_draw();
enum { EMULATED_NAN = 0xff }; /* the byte that memory is filled with */
/* A kernel under way. Blocks, or clusters, of kernels that may run at the same time take turns. */
struct emulated_kernel {
  dim3 blocks;
  dim3 cluster;      /* blocks that run together */
  unsigned threads;  /* of a block */
  size_t shared;     /* bytes */
  bool programmatic; /* every thread has to pass GRID_BEGIN */
  bool is_cluster;   /* the launch says so */
  std::function<void()> thread;
};
struct emulated_grid;
emulated_grid *emulate_grid_start(const emulated_kernel *kernel);
/* Runs one cluster, in most launches one block; false, and the grid is freed: it was the last one. */
bool emulate_grid_turn(emulated_grid *grid);
extern unsigned emulate_rank; /* in its cluster, of the block that runs */

struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
  const struct cudaLaunchAttribute *attrs = nullptr;
  unsigned numAttrs = 0;
};
enum cudaLaunchAttributeID {
  cudaLaunchAttributeClusterDimension = 4,
  cudaLaunchAttributeProgrammaticStreamSerialization = 6
};
struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  union {
    struct {
      unsigned x, y, z;
    } clusterDim;
    int programmaticStreamSerializationAllowed;
  } val;
};
enum cudaFuncAttribute {
  cudaFuncAttributeMaxDynamicSharedMemorySize = 8,
  cudaFuncAttributeNonPortableClusterSizeAllowed = 14
};
cudaError_t emulate_set_attribute(const void *kernel, enum cudaFuncAttribute attribute, int value);
cudaError_t emulate_launch(const cudaLaunchConfig_t *config, const void *kernel, std::function<void()> thread);
template <typename... Parameters>
static inline cudaError_t cudaFuncSetAttribute(void (*kernel)(Parameters...), enum cudaFuncAttribute attribute,
                                               int value) {
  return emulate_set_attribute((const void *)kernel, attribute, value);
}
cudaError_t emulate_active_clusters(int *clusters, const void *kernel, const cudaLaunchConfig_t *config);
template <typename... Parameters>
static inline cudaError_t cudaOccupancyMaxActiveClusters(int *clusters, void (*kernel)(Parameters...),
                                                         const cudaLaunchConfig_t *config) {
  return emulate_active_clusters(clusters, (const void *)kernel, config);
}
template <typename... Parameters, typename... Arguments>
static inline cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *config, void (*kernel)(Parameters...),
                                             Arguments... arguments) {
  static_assert((sizeof(Parameters) + ... + 0) <= 4096, "a launch carries 4 KiB of arguments");
  return emulate_launch(config, (const void *)kernel, [=] { kernel(arguments...); });
}

/* What the files of the emulation share. */
static inline uint64_t emulated_volume(dim3 n) { return (uint64_t)n.x * n.y * n.z; }
[[noreturn]] __attribute__((format(printf, 1, 2))) void emulate_misuse(const char *format, ...);
bool emulate_in_kernel();
/* Bytes of shared memory that a block of any kernel may have; those that this kernel may have; a kernel's request for
 * more; what a launch asks for, or the error with which CUDA refuses it. */
enum { EMULATED_SHARED = 227 << 10 };
extern size_t emulate_own_shared; /* bytes of every kernel's shared variables */
size_t emulate_allowed_shared(const void *kernel);
cudaError_t emulate_request(const void *kernel, enum cudaFuncAttribute attribute, int value);
cudaError_t emulate_read_launch(const cudaLaunchConfig_t *config, const void *kernel, int major,
                                emulated_kernel *launched);
/* In the file that DESCENT_EMULATE_LAUNCHES names; bench/kernel_table.py reads it. */
void emulate_list_launch(const cudaLaunchConfig_t *config, const void *kernel);
bool emulate_is_global(const void *at); /* in device memory */
void emulate_open_memory(bool open);    /* to all that is compiled with AddressSanitizer */
void emulate_end_thread();              /* every thread of a kernel, when it ends */

#endif
