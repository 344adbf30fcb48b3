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
/* Blocks run one after another. Before a launch all of it is NaN, except under AddressSanitizer, which guards variables
 * only in the usual sections. */
#ifdef __has_feature
#define EMULATED_ASAN __has_feature(address_sanitizer)
#elif defined(__SANITIZE_ADDRESS__)
#define EMULATED_ASAN 1
#else
#define EMULATED_ASAN 0
#endif
#if EMULATED_ASAN
#define __shared__ static
#else
#define __shared__ static __attribute__((section("emulated_shared")))
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

extern uint64_t emulate_random; /* not 0: the state from which every order and time is drawn */
uint64_t emulate_draw();
enum { EMULATED_NAN = 0xff }; /* the byte that memory is filled with */
void emulate_grid(dim3 blocks, unsigned threads, const std::function<void()> &thread);
cudaError_t emulate_launch(dim3 blocks, unsigned threads, cudaStream_t stream, std::function<void()> thread);

template <typename... Parameters, typename... Arguments>
static inline cudaError_t launch_kernel(void (*kernel)(Parameters...), dim3 blocks, unsigned threads,
                                        cudaStream_t stream, Arguments... arguments) {
  static_assert((sizeof(Parameters) + ... + 0) <= 4096, "a launch carries 4 KiB of arguments");
  return emulate_launch(blocks, threads, stream, [=] { kernel(arguments...); });
}
#define LAUNCH(...) launch_kernel(__VA_ARGS__)

#endif
