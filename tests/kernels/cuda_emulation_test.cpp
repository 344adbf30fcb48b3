/* The emulated CUDA for the tests of kernels: it does what CUDA guarantees, and refuses what CUDA leaves undefined. */
#include <gtest/gtest.h>

#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "common.cuh"
#include "on_device.h"

namespace {

class Emulation : public testing::Test {
 protected:
  void SetUp() override { emulate_configure(""); }
  void TearDown() override { EXPECT_EQ(emulate_live(), 0); }
};

/* ---- blocks, warps and their order ---- */

// Every thread of the grid counts itself.
__global__ void number_threads(unsigned *seen, unsigned *order, unsigned *next) {
  GRID_BEGIN();
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned i = block * blockDim.x + threadIdx.x;
  seen[i]++;
  order[atomicAdd(next, 1u)] = i;
}

TEST_F(Emulation, EveryThreadOfTheGridRunsOnceInAnOrderThatChanges) {
  for (unsigned threads : {1u, 31u, 32u, 100u, 256u}) {
    const size_t all = 3 * 2 * 2 * threads;
    OnDevice<unsigned> seen(std::vector<unsigned>(all, 0)), order(all), next(std::vector<unsigned>(1, 0));
    std::vector<unsigned> orders[2];
    for (auto &now : orders) {
      ASSERT_EQ(LAUNCH(number_threads, dim3(3, 2, 2), threads, nullptr, seen.get(), order.get(), next.get()),
                cudaSuccess);
      ASSERT_EQ(cudaMemsetAsync(next.get(), 0, sizeof(unsigned), nullptr), cudaSuccess);
      now = order.values();
    }
    EXPECT_EQ(seen.values(), std::vector<unsigned>(all, 2));
    EXPECT_NE(orders[0], orders[1]);
  }
}

template <typename T, int OFFSET>
__global__ void sum_blocks(const T *x, T *sums, T *warps) {
  GRID_BEGIN();
  const T value = x[blockIdx.x * BLOCK + threadIdx.x] + OFFSET;
  const T warp = warp_sum(value), block = block_sum(value), again = block_sum(value);
  warps[blockIdx.x * BLOCK + threadIdx.x] = warp;
  if (threadIdx.x >= WARP) return;  // the sum is the first warp's
  if (block != again) sums[blockIdx.x] = -1;
  if (threadIdx.x == WARP - 1 && block == again) sums[blockIdx.x] = block;
}

template <typename T>
void expect_sums() {
  enum { BLOCKS = 5 };
  std::vector<T> x(BLOCKS * BLOCK);
  std::iota(x.begin(), x.end(), T(0));
  OnDevice<T> in(x), sums(BLOCKS), warps(x.size());
  ASSERT_EQ((LAUNCH(sum_blocks<T, 1>, BLOCKS, BLOCK, nullptr, in.get(), sums.get(), warps.get())), cudaSuccess);
  const std::vector<T> blocks_now = sums.values(), warps_now = warps.values();
  for (size_t i = 0; i < x.size(); i++) {
    const size_t block = i / BLOCK * BLOCK, warp = i / WARP * WARP;
    EXPECT_EQ(blocks_now[i / BLOCK], std::accumulate(&x[block], &x[block] + BLOCK, T(BLOCK)));
    EXPECT_EQ(warps_now[i], std::accumulate(&x[warp], &x[warp] + WARP, T(WARP)));
  }
}

TEST_F(Emulation, BarriersAndShufflesAddUpWarpsAndBlocks) {
  expect_sums<float>();
  expect_sums<double>();
  expect_sums<unsigned>();
}

__global__ void shuffle(unsigned *out) {
  GRID_BEGIN();
  const unsigned lane = threadIdx.x;
  out[lane] = __shfl_xor_sync(0xffffffffu, lane, 5);
  out[WARP + lane] = __shfl_xor_sync(0xffffffffu, lane, 12, 8);  // the far half is another segment's
  out[2 * WARP + lane] = (unsigned)(__shfl_xor_sync(0xffffffffu, 1e9 + lane, 1) - 1e9);
  if (lane < 16) out[3 * WARP + lane] = __shfl_xor_sync(0x0000ffffu, lane, 8);
  if (lane >= 16) out[3 * WARP + lane] = __shfl_xor_sync(0xffff0000u, lane, 1);
  __syncwarp();
}

TEST_F(Emulation, ShufflesTakeTheLaneThatCudaTakes) {
  OnDevice<unsigned> out(4 * WARP);
  ASSERT_EQ(LAUNCH(shuffle, 1, WARP, nullptr, out.get()), cudaSuccess);
  const std::vector<unsigned> now = out.values();
  for (unsigned lane = 0; lane < WARP; lane++) {
    EXPECT_EQ(now[lane], lane ^ 5u);
    EXPECT_EQ(now[WARP + lane], (lane ^ 12u) / 8 <= lane / 8 ? lane ^ 12u : lane);
    EXPECT_EQ(now[2 * WARP + lane], lane ^ 1u);
    EXPECT_EQ(now[3 * WARP + lane], lane ^ (lane < 16 ? 8u : 1u));
  }
}

__global__ void last_block_adds(const unsigned *x, unsigned *partials, unsigned *counter, unsigned *total) {
  GRID_BEGIN();
  const unsigned sum = block_sum(x[blockIdx.x * BLOCK + threadIdx.x]);
  if (threadIdx.x == 0) partials[blockIdx.x] = sum;
  if (!is_last_block(counter)) return;
  if (threadIdx.x != 0) return;
  for (unsigned i = 0; i < gridDim.x; i++) *total += partials[i];
}

TEST_F(Emulation, TheLastBlockIsOneAndTheCounterReturnsToZero) {
  enum { BLOCKS = 9 };
  OnDevice<unsigned> x(std::vector<unsigned>(BLOCKS * BLOCK, 3)), partials(BLOCKS);
  OnDevice<unsigned> counter(std::vector<unsigned>{0}), total(std::vector<unsigned>{0});
  for (unsigned round = 1; round <= 3; round++) {
    ASSERT_EQ(LAUNCH(last_block_adds, BLOCKS, BLOCK, nullptr, x.get(), partials.get(), counter.get(), total.get()),
              cudaSuccess);
    EXPECT_EQ(total.values()[0], round * 3 * BLOCKS * BLOCK);
    EXPECT_EQ(counter.values()[0], 0u);
  }
}

/* ---- errors are detected ---- */

// Each thread reads what its neighbour wrote, with or without waiting for it.
template <bool WAITS>
__global__ void pass_on(unsigned *out) {
  GRID_BEGIN();
  SHARED_VARIABLE(values, unsigned[BLOCK]);
  values[threadIdx.x] = threadIdx.x;
  if (WAITS) __syncthreads();
  const unsigned next = values[(threadIdx.x + 1) % BLOCK];
  if (WAITS) __syncthreads();
  values[threadIdx.x] = 0;
  out[threadIdx.x] = next;
}

TEST_F(Emulation, AMissingBarrierGivesOtherValues) {
  std::vector<unsigned> expected(BLOCK);
  for (unsigned i = 0; i < BLOCK; i++) expected[i] = (i + 1) % BLOCK;
  OnDevice<unsigned> out(BLOCK);
  for (int round = 0; round < 4; round++) {
    ASSERT_EQ(LAUNCH(pass_on<true>, 1, BLOCK, nullptr, out.get()), cudaSuccess);
    EXPECT_EQ(out.values(), expected);
    ASSERT_EQ(LAUNCH(pass_on<false>, 1, BLOCK, nullptr, out.get()), cudaSuccess);
    EXPECT_NE(out.values(), expected);
  }
}

__global__ void barrier_in_a_branch() {
  GRID_BEGIN();
  if (threadIdx.x != 40) __syncthreads();
}
__global__ void different_barriers() {
  GRID_BEGIN();
  if (threadIdx.x < 32)
    __syncthreads();
  else
    __syncthreads();
}
__global__ void shuffle_in_a_branch(unsigned *out) {
  GRID_BEGIN();
  if (threadIdx.x != 5) *out = __shfl_xor_sync(0xffffffffu, 1u, 1);
}
__global__ void shuffle_against_a_barrier() {
  GRID_BEGIN();
  if (threadIdx.x == 9) __syncthreads();
  warp_sum(1.0f);
  if (threadIdx.x != 9) __syncthreads();
}
__global__ void shuffle_beyond_the_block() {
  GRID_BEGIN();
  warp_sum(1.0f);
}
__global__ void read_outside_the_mask() {
  GRID_BEGIN();
  if (threadIdx.x < 4) __shfl_xor_sync(0xfu, 1, 4);
}

TEST(EmulationDeathTest, WhatSomeThreadDoesNotReachAborts) {
  unsigned out;
  EXPECT_DEATH(LAUNCH(barrier_in_a_branch, 1, 64, nullptr),
               "cuda_emulation_test.cpp:[0-9]+: a barrier of thread [0-9]+ in block 0,0,0 is not reached by thread 40, "
               "which has ended");
  EXPECT_DEATH(LAUNCH(different_barriers, 1, 64, nullptr), "a barrier of .* which waits at .*cuda_emulation_test.cpp");
  EXPECT_DEATH(LAUNCH(shuffle_in_a_branch, 1, 32, nullptr, &out), "a shuffle of .* by thread 5, which has ended");
  EXPECT_DEATH(LAUNCH(shuffle_against_a_barrier, 1, 32, nullptr), "a shuffle of .* by thread 9, which waits at");
  EXPECT_DEATH(LAUNCH(shuffle_beyond_the_block, 1, 16, nullptr), "by thread 16, which does not exist");
  EXPECT_DEATH(LAUNCH(read_outside_the_mask, 1, 32, nullptr), "a shuffle reads lane [4-7] outside its mask");
  EXPECT_DEATH(__syncthreads(), "outside a kernel");
}

__global__ void add(float *x, float value) {
  GRID_BEGIN();
  x[blockIdx.x * blockDim.x + threadIdx.x] += value;
}

__global__ void multiply(float *x, float value) {
  GRID_BEGIN();
  x[threadIdx.x] *= value;
}

__global__ void never_begins() {}
__global__ void ends_before_it_begins(float *x) {
  if (threadIdx.x == 3 && blockIdx.x == 2) return;
  GRID_BEGIN();
  x[0] = 1;
}
__global__ void begins_twice() {
  GRID_BEGIN();
  GRID_BEGIN();
}
[[maybe_unused]] __global__ void touches_memory_first(float *x) {
  x[0] = 1;
  GRID_BEGIN();
}

TEST(EmulationDeathTest, AKernelThatDoesNotWaitForTheOneBeforeAborts) {
  emulate_configure("");
  const OnDevice<float> x(1);
  EXPECT_DEATH(LAUNCH(never_begins, 1, 1, nullptr), "thread 0 of block 0,0,0 ends without GRID_BEGIN");
  EXPECT_DEATH(LAUNCH(ends_before_it_begins, 3, 32, nullptr, x.get()), "thread 3 of block 2,0,0 ends without");
  EXPECT_DEATH(LAUNCH(begins_twice, 1, 1, nullptr), "cuda_emulation_test.cpp:[0-9]+: a second GRID_BEGIN");
#if EMULATED_ASAN
  EXPECT_DEATH(LAUNCH(touches_memory_first, 1, 1, nullptr, x.get()), "AddressSanitizer: use-after-poison");
#endif
}

TEST_F(Emulation, KernelsOverlapOnlyWhereTheDeviceCanAndTheLaunchMay) {
  const OnDevice<float> x(1);
  EXPECT_EQ(LAUNCH(add, 1, 1, nullptr, x.get(), 1.0F), cudaSuccess);
  next_launch_is_plain = true;
  EXPECT_EQ(LAUNCH(never_begins, 1, 1, nullptr), cudaSuccess);
  EXPECT_FALSE(next_launch_is_plain);
  emulate_configure("major=8");
  EXPECT_EQ(LAUNCH(never_begins, 1, 1, nullptr), cudaSuccess);
  emulate_configure("");
}

#if EMULATED_ASAN
__global__ void write_one(float *x, int i) {
  GRID_BEGIN();
  x[i] = 1;
}

TEST(EmulationDeathTest, AddressSanitizerSeesKernelsOutsideAnAllocationAndTheHostInsideOne) {
  const OnDevice<float> x(7);
  EXPECT_DEATH(LAUNCH(write_one, 1, 1, nullptr, x.get(), 7), "AddressSanitizer: heap-buffer-overflow");
  EXPECT_DEATH(x.get()[0] = 1, "AddressSanitizer: use-after-poison");
}
#endif

/* ---- streams, graphs, memory ---- */

struct Stream {
  cudaStream_t stream = nullptr;
  Stream() { EXPECT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess); }
  ~Stream() { EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess); }
};

TEST_F(Emulation, AGraphReplaysWhatWasRecordedAndNothingRunsBefore) {
  const Stream s;
  const OnDevice<float> x(std::vector<float>(64, 1.0F));
  float value = 2;
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  ASSERT_EQ(cudaStreamBeginCapture(s.stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  ASSERT_EQ(LAUNCH(add, 2, 32, s.stream, x.get(), value), cudaSuccess);
  ASSERT_EQ(cudaMemsetAsync(x.get() + 32, 0, 32 * sizeof(float), s.stream), cudaSuccess);
  value = 100;
  ASSERT_EQ(cudaStreamEndCapture(s.stream, &graph), cudaSuccess);
  ASSERT_EQ(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
  ASSERT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  EXPECT_EQ(x.values(), std::vector<float>(64, 1.0F));
  for (int i = 0; i < 3; i++) ASSERT_EQ(cudaGraphLaunch(exec, s.stream), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(s.stream), cudaSuccess);
  std::vector<float> expected(64, 0.0F);
  for (size_t i = 0; i < 32; i++) expected[i] = 7;
  EXPECT_EQ(x.values(), expected);
  ASSERT_EQ(cudaGraphExecDestroy(exec), cudaSuccess);
}

/* 40 runs of a graph: x + 1 on a second stream, and 10 x on the first one. On both, three blocks also add up 3 BLOCK,
 * with separate counters and partial sums, or with the same ones. */
struct Forked {
  std::set<float> x;
  std::set<unsigned> totals;
};
Forked forked(bool waits, bool shares) {
  const Stream first, second;
  const OnDevice<float> x(1);
  const OnDevice<unsigned> ones(std::vector<unsigned>(3 * BLOCK, 1)), scratch(8), totals(2);
  unsigned *const other = scratch.get() + (shares ? 0 : 4);
  cudaEvent_t fork, join;
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  Forked seen;
  EXPECT_EQ(cudaEventCreateWithFlags(&fork, cudaEventDisableTiming), cudaSuccess);
  EXPECT_EQ(cudaEventCreateWithFlags(&join, cudaEventDisableTiming), cudaSuccess);
  EXPECT_EQ(cudaStreamBeginCapture(first.stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  EXPECT_EQ(cudaMemsetAsync(x.get(), 0, sizeof(float), first.stream), cudaSuccess);
  EXPECT_EQ(cudaMemsetAsync(scratch.get(), 0, 8 * sizeof(unsigned), first.stream), cudaSuccess);
  EXPECT_EQ(cudaMemsetAsync(totals.get(), 0, 2 * sizeof(unsigned), first.stream), cudaSuccess);
  EXPECT_EQ(cudaEventRecord(fork, first.stream), cudaSuccess);
  EXPECT_EQ(cudaStreamWaitEvent(second.stream, fork, 0), cudaSuccess);
  EXPECT_EQ(LAUNCH(add, 1, 1, second.stream, x.get(), 1.0F), cudaSuccess);
  EXPECT_EQ(cudaEventRecord(join, second.stream), cudaSuccess);
  EXPECT_EQ(LAUNCH(last_block_adds, 3, BLOCK, second.stream, ones.get(), other + 1, other, totals.get()), cudaSuccess);
  EXPECT_EQ(
      LAUNCH(last_block_adds, 3, BLOCK, first.stream, ones.get(), scratch.get() + 1, scratch.get(), totals.get() + 1),
      cudaSuccess);
  EXPECT_EQ(waits ? cudaStreamWaitEvent(first.stream, join, 0) : cudaSuccess, cudaSuccess);
  EXPECT_EQ(LAUNCH(multiply, 1, 1, first.stream, x.get(), 10.0F), cudaSuccess);
  EXPECT_EQ(cudaEventRecord(join, second.stream), cudaSuccess);
  EXPECT_EQ(cudaStreamWaitEvent(first.stream, join, 0), cudaSuccess);
  EXPECT_EQ(cudaStreamEndCapture(first.stream, &graph), cudaSuccess);
  EXPECT_EQ(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
  for (int i = 0; i < 40; i++) {
    EXPECT_EQ(cudaGraphLaunch(exec, first.stream), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(first.stream), cudaSuccess);
    seen.x.insert(x.values()[0]);
    for (const unsigned total : totals.values()) seen.totals.insert(total);
  }
  EXPECT_EQ(cudaGraphExecDestroy(exec), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  EXPECT_EQ(cudaEventDestroy(fork), cudaSuccess);
  EXPECT_EQ(cudaEventDestroy(join), cudaSuccess);
  return seen;
}

TEST_F(Emulation, StreamsOfOneCaptureRunInAnyOrderThatTheirEventsAllow) {
  EXPECT_EQ(forked(true, false).x, (std::set<float>{10}));
  EXPECT_EQ(forked(false, false).x, (std::set<float>{1, 10}));
}

TEST_F(Emulation, BlocksOfKernelsOnTwoStreamsTakeTurnsSoThatSharedScratchShows) {
  EXPECT_EQ(forked(true, false).totals, (std::set<unsigned>{3 * BLOCK}));
  EXPECT_GT(forked(true, true).totals.size(), 1u);
}

TEST_F(Emulation, ACaptureEndsOnlyOnceItsStreamsAreJoined) {
  const Stream first, second;
  cudaEvent_t fork;
  cudaGraph_t graph;
  ASSERT_EQ(cudaEventCreateWithFlags(&fork, cudaEventDisableTiming), cudaSuccess);
  ASSERT_EQ(cudaStreamBeginCapture(first.stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(fork, first.stream), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(second.stream, fork, 0), cudaSuccess);
  next_launch_is_plain = true;
  ASSERT_EQ(LAUNCH(never_begins, 1, 1, second.stream), cudaSuccess);
  EXPECT_EQ(cudaStreamEndCapture(first.stream, &graph), cudaErrorStreamCaptureUnjoined);
  EXPECT_EQ(graph, nullptr);
  EXPECT_EQ(cudaGetLastError(), cudaErrorStreamCaptureUnjoined);
  ASSERT_EQ(cudaEventDestroy(fork), cudaSuccess);
}

TEST_F(Emulation, WhatMayNotHappenDuringACaptureSpoilsIt) {
  const Stream s;
  const OnDevice<float> x(4);
  void *memory;
  float host[4];
  const std::function<cudaError_t()> forbidden[] = {
      [&] { return cudaMalloc(&memory, 4); },
      [&] { return cudaMemcpy(host, x.get(), sizeof host, cudaMemcpyDeviceToHost); },
      [&] { return cudaStreamSynchronize(s.stream); },
      [&] { return cudaDeviceSynchronize(); },
  };
  for (const auto &call : forbidden) {
    cudaGraph_t graph;
    ASSERT_EQ(cudaStreamBeginCapture(s.stream, cudaStreamCaptureModeGlobal), cudaSuccess);
    EXPECT_EQ(call(), cudaErrorStreamCaptureUnsupported);
    EXPECT_EQ(cudaStreamEndCapture(s.stream, &graph), cudaErrorStreamCaptureInvalidated);
    EXPECT_EQ(graph, nullptr);
    EXPECT_EQ(cudaGetLastError(), cudaErrorStreamCaptureInvalidated);
    EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  }
}

/* A copy on a second stream into memory that a kernel on the first adds to, with or without an event to order them. */
float copied_then_added(bool late, bool ordered) {
  emulate_configure(late ? "late=1" : "");
  const Stream compute, copies;
  const OnDevice<float> x(std::vector<float>{0});
  cudaEvent_t ready, used;
  float *pinned, result;
  EXPECT_EQ(cudaMallocHost(reinterpret_cast<void **>(&pinned), 2 * sizeof(float)), cudaSuccess);
  EXPECT_EQ(cudaEventCreateWithFlags(&ready, cudaEventDisableTiming), cudaSuccess);
  EXPECT_EQ(cudaEventCreateWithFlags(&used, cudaEventDisableTiming), cudaSuccess);
  pinned[0] = 10;
  EXPECT_EQ(cudaMemcpyAsync(x.get(), pinned, sizeof(float), cudaMemcpyHostToDevice, copies.stream), cudaSuccess);
  EXPECT_EQ(cudaEventRecord(ready, copies.stream), cudaSuccess);
  EXPECT_EQ(ordered ? cudaStreamWaitEvent(compute.stream, ready, 0) : cudaSuccess, cudaSuccess);
  EXPECT_EQ(LAUNCH(add, 1, 1, compute.stream, x.get(), 1.0F), cudaSuccess);
  EXPECT_EQ(cudaMemcpyAsync(pinned + 1, x.get(), sizeof(float), cudaMemcpyDeviceToHost, compute.stream), cudaSuccess);
  EXPECT_EQ(cudaEventRecord(used, compute.stream), cudaSuccess);
  EXPECT_EQ(cudaEventSynchronize(used), cudaSuccess);
  result = pinned[1];
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_EQ(cudaEventDestroy(ready), cudaSuccess);
  EXPECT_EQ(cudaEventDestroy(used), cudaSuccess);
  EXPECT_EQ(cudaFreeHost(pinned), cudaSuccess);
  return result;
}

TEST_F(Emulation, AMissingWaitBetweenStreamsShowsWhenWorkRunsLate) {
  EXPECT_EQ(copied_then_added(false, true), 11);
  EXPECT_EQ(copied_then_added(true, true), 11);
  EXPECT_EQ(copied_then_added(true, false), 1);
}

TEST_F(Emulation, EventsMeasureTime) {
  const Stream s;
  cudaEvent_t start, end;
  float milliseconds = -1;
  ASSERT_EQ(cudaEventCreate(&start), cudaSuccess);
  ASSERT_EQ(cudaEventCreate(&end), cudaSuccess);
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, start, end), cudaErrorInvalidResourceHandle);
  ASSERT_EQ(cudaEventRecord(start, s.stream), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(end, s.stream), cudaSuccess);
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, start, end), cudaSuccess);
  EXPECT_GE(milliseconds, 0);
  ASSERT_EQ(cudaEventDestroy(start), cudaSuccess);
  ASSERT_EQ(cudaEventDestroy(end), cudaSuccess);
}

TEST_F(Emulation, AnExternalEventIsRecordedWhenItsGraphRuns) {
  const Stream s;
  cudaEvent_t events[2];
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  float milliseconds = -1;
  for (cudaEvent_t &event : events) ASSERT_EQ(cudaEventCreate(&event), cudaSuccess);
  ASSERT_EQ(cudaStreamBeginCapture(s.stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  for (cudaEvent_t event : events)
    ASSERT_EQ(cudaEventRecordWithFlags(event, s.stream, cudaEventRecordExternal), cudaSuccess);
  ASSERT_EQ(cudaStreamEndCapture(s.stream, &graph), cudaSuccess);
  ASSERT_EQ(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, events[0], events[1]), cudaErrorNotReady);
  for (int round = 0; round < 2; round++) {
    ASSERT_EQ(cudaGraphLaunch(exec, s.stream), cudaSuccess);
    ASSERT_EQ(cudaStreamSynchronize(s.stream), cudaSuccess);
    EXPECT_EQ(cudaEventElapsedTime(&milliseconds, events[0], events[1]), cudaSuccess);
    EXPECT_GE(milliseconds, 0);
  }
  ASSERT_EQ(cudaGraphExecDestroy(exec), cudaSuccess);
  ASSERT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  for (cudaEvent_t event : events) ASSERT_EQ(cudaEventDestroy(event), cudaSuccess);
}

/* A graph of one kernel, which adds to x. */
cudaGraph_t captured(cudaStream_t stream, float *x) {
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  EXPECT_EQ(LAUNCH(add, 1, 1, stream, x, 1.0F), cudaSuccess);
  EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  return graph;
}

TEST_F(Emulation, GraphsAreTheBranchesOfAnother) {
  const Stream s;
  const OnDevice<float> x(2);
  float host[2];
  cudaGraph_t graph, branches[2], empty;
  cudaGraphExec_t exec;
  cudaGraphNode_t node;
  ASSERT_EQ(cudaMemsetAsync(x.get(), 0, 2 * sizeof(float), s.stream), cudaSuccess);
  for (int i = 0; i < 2; i++) branches[i] = captured(s.stream, x.get() + i);
  EXPECT_EQ(cudaGraphCreate(&graph, 1), cudaErrorInvalidValue);
  ASSERT_EQ(cudaGraphCreate(&graph, 0), cudaSuccess);
  ASSERT_EQ(cudaGraphCreate(&empty, 0), cudaSuccess);
  EXPECT_EQ(cudaGraphAddChildGraphNode(&node, graph, nullptr, 0, empty), cudaErrorInvalidValue);
  EXPECT_EQ(cudaGraphAddChildGraphNode(&node, graph, nullptr, 1, branches[0]), cudaErrorInvalidValue);
  EXPECT_EQ(cudaGraphAddChildGraphNode(&node, branches[0], nullptr, 0, branches[1]), cudaErrorNotSupported);
  emulate_configure("child=1");
  EXPECT_EQ(cudaGraphAddChildGraphNode(&node, graph, nullptr, 0, branches[0]), cudaErrorNotSupported);
  emulate_configure("");
  for (cudaGraph_t branch : branches) {
    EXPECT_EQ(cudaGraphAddChildGraphNode(&node, graph, nullptr, 0, branch), cudaSuccess);
    EXPECT_EQ(cudaGraphDestroy(branch), cudaSuccess) << "the graph has a copy";
  }
  ASSERT_EQ(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
  ASSERT_EQ(cudaGraphLaunch(exec, s.stream), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(s.stream), cudaSuccess);
  ASSERT_EQ(cudaMemcpy(host, x.get(), sizeof host, cudaMemcpyDeviceToHost), cudaSuccess);
  EXPECT_EQ(host[0], 1);
  EXPECT_EQ(host[1], 1);
  EXPECT_GT(emulate_choices(), 0) << "either may run first";
  EXPECT_EQ(cudaGraphExecDestroy(exec), cudaSuccess);
  for (cudaGraph_t each : {graph, empty}) EXPECT_EQ(cudaGraphDestroy(each), cudaSuccess);
}

TEST_F(Emulation, CopiesOfRowsKeepToTheirPitch) {
  const Stream s;
  const OnDevice<float> x(8);
  const float rows[4] = {1, 2, 3, 4};
  float host[8] = {};
  enum { F = sizeof(float) };
  ASSERT_EQ(cudaMemsetAsync(x.get(), 0, 8 * F, s.stream), cudaSuccess);
  EXPECT_EQ(cudaMemcpy2DAsync(x.get(), 4 * F, rows, 2 * F, 3 * F, 2, cudaMemcpyHostToDevice, s.stream),
            cudaErrorInvalidPitchValue);
  EXPECT_EQ(cudaMemcpy2DAsync(x.get(), 7 * F, rows, 2 * F, 2 * F, 2, cudaMemcpyHostToDevice, s.stream),
            cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy2DAsync(x.get(), 4 * F, rows, 2 * F, 2 * F, 2, cudaMemcpyHostToDevice, s.stream), cudaSuccess);
  EXPECT_EQ(cudaMemcpy(host, x.get(), sizeof host, cudaMemcpyDeviceToHost), cudaSuccess);
  EXPECT_EQ(std::vector<float>(host, host + 8), (std::vector<float>{1, 2, 0, 0, 3, 4, 0, 0}));
}

TEST_F(Emulation, CopiesOutsideAnAllocationAreRefused) {
  const OnDevice<float> x(8);
  float host[9] = {};
  EXPECT_EQ(cudaMemcpy(x.get(), host, sizeof host, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy(x.get() + 1, host, 8 * sizeof(float), cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy(host, x.get(), 4, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy(host, host + 1, 4, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy(host, x.get(), 8 * sizeof(float), cudaMemcpyDeviceToHost), cudaSuccess);
  EXPECT_NE(host[7], host[7]) << "what was never written is NaN";
}

TEST_F(Emulation, FaultsHappenWhereTheyAreAskedFor) {
  void *memory = nullptr;
  int count = -1;
  emulate_configure("memory=1000");
  EXPECT_EQ(cudaMalloc(&memory, 1001), cudaErrorMemoryAllocation);
  size_t left = 0, total = 0;
  EXPECT_EQ(cudaMemGetInfo(&left, &total), cudaSuccess);
  EXPECT_EQ(left, 1000u);
  emulate_configure("allocation=2");
  const OnDevice<float> x(1);
  EXPECT_EQ(cudaMalloc(&memory, 4), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
  emulate_configure("launch=2");
  EXPECT_EQ(LAUNCH(add, 1, 1, nullptr, x.get(), 1.0F), cudaSuccess);
  EXPECT_FALSE(emulate_failed());
  EXPECT_EQ(LAUNCH(add, 1, 1, nullptr, x.get(), 1.0F), cudaErrorLaunchOutOfResources);
  EXPECT_TRUE(emulate_failed());
  EXPECT_EQ(LAUNCH(add, 1, 1, nullptr, x.get(), 1.0F), cudaSuccess);
  EXPECT_EQ(LAUNCH(add, 1, 2000, nullptr, x.get(), 1.0F), cudaErrorInvalidConfiguration);
  EXPECT_EQ(LAUNCH(add, 0, 1, nullptr, x.get(), 1.0F), cudaErrorInvalidConfiguration);
  emulate_configure("devices=0");
  EXPECT_EQ(cudaGetDeviceCount(&count), cudaErrorNoDevice);
  EXPECT_EQ(count, 0);
  emulate_configure("driver=11080");
  EXPECT_EQ(cudaGetDeviceCount(&count), cudaErrorInsufficientDriver);
  emulate_configure("fault=1,late=1");
  cudaStream_t lost;
  ASSERT_EQ(cudaStreamCreate(&lost), cudaSuccess);
  EXPECT_EQ(LAUNCH(add, 1, 1, lost, x.get(), 1.0F), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(lost), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaMalloc(&memory, 4), cudaErrorIllegalAddress) << "such an error stays";
  EXPECT_STREQ(cudaGetErrorName(cudaErrorIllegalAddress), "cudaErrorIllegalAddress");
  EXPECT_EQ(emulate_live(), 2);
  EXPECT_EQ(cudaStreamDestroy(lost), cudaErrorIllegalAddress);
  EXPECT_EQ(emulate_live(), 1) << "released all the same";
  emulate_configure("");
}

}  // namespace
