/* Clusters on the emulated CUDA: blocks run together, each with separate shared memory; a missing or misplaced
 * CLUSTER_SYNC is found. */
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "common.cuh"
#include "on_device.h"

namespace {

enum { MOST = 16 }; /* blocks of a cluster */

class Cluster : public testing::Test {
 protected:
  void SetUp() override { emulate_configure(""); }
  void TearDown() override { EXPECT_EQ(emulate_live(), 0); }
};

/* ---- what CUDA guarantees ---- */

/* In each round every thread adds the values of its number in the blocks on both sides: MISSING 1: before these are
 * written, 2: after they are overwritten. */
template <int MISSING>
__global__ void add_neighbours(unsigned *values, int rounds) {
  GRID_BEGIN();
  const unsigned n = gridDim.x, i = threadIdx.x, left = (blockIdx.x + n - 1) % n, right = (blockIdx.x + 1) % n;
  unsigned value = blockIdx.x * blockDim.x + i;
  for (int round = 0; round < rounds; round++) {
    values[blockIdx.x * blockDim.x + i] = value;
    if (MISSING != 1) CLUSTER_SYNC();
    value += values[left * blockDim.x + i] + values[right * blockDim.x + i];
    if (MISSING != 2) CLUSTER_SYNC();
  }
  values[blockIdx.x * blockDim.x + i] = value;
}

std::vector<unsigned> neighbours_added(unsigned n, unsigned threads, int rounds) {
  std::vector<unsigned> values(n * threads), next(n * threads);
  for (unsigned i = 0; i < n * threads; i++) values[i] = i;
  for (int round = 0; round < rounds; round++) {
    for (unsigned i = 0; i < n * threads; i++)
      next[i] = values[i] + values[(i + (n - 1) * threads) % (n * threads)] + values[(i + threads) % (n * threads)];
    values = next;
  }
  return values;
}

TEST_F(Cluster, BlocksExchangeValuesAtEveryClusterSync) {
  for (unsigned n : {1u, 2u, 3u, 8u, 16u})
    for (unsigned threads : {1u, 45u, 256u}) {
      const OnDevice<unsigned> values(n * threads);
      for (int rounds : {0, 1, 5}) {
        ASSERT_EQ(LAUNCH_CLUSTER(add_neighbours<0>, n, threads, 0, nullptr, values.get(), rounds), cudaSuccess);
        EXPECT_EQ(values.values(), neighbours_added(n, threads, rounds)) << n << " blocks of " << threads;
      }
    }
}

// Sums by every kind of shared memory, all of it kept over barriers of the block and of the cluster.
template <typename T>
__global__ void keep_apart(T *sums) {
  GRID_BEGIN();
  SHARED_MEMORY(bytes);
  SHARED_VARIABLE(of_template, T[BLOCK]);
  T *const dynamic = (T *)bytes;
  const T own = (T)(blockIdx.x * 1000 + threadIdx.x);
  dynamic[threadIdx.x] = own;
  of_template[threadIdx.x] = own + 1;
  const T before = block_sum(own);
  __syncthreads();
  const unsigned other = (threadIdx.x + 100) % BLOCK;
  T kept = dynamic[other] + of_template[other];
  CLUSTER_SYNC();
  kept += dynamic[other] + of_template[other];
  const T after = block_sum(kept);
  if (threadIdx.x == 0) sums[2 * blockIdx.x] = before, sums[2 * blockIdx.x + 1] = after;
}

template <typename T>
void expect_kept_apart(unsigned n) {
  const OnDevice<T> sums(2 * n);
  for (int round = 0; round < 8; round++) { /* other orders */
    ASSERT_EQ(LAUNCH_CLUSTER(keep_apart<T>, n, BLOCK, BLOCK * sizeof(T), nullptr, sums.get()), cudaSuccess);
    const std::vector<T> now = sums.values();
    for (unsigned block = 0; block < n; block++) {
      const T sum = (T)(block * 1000 * BLOCK + BLOCK * (BLOCK - 1) / 2);
      EXPECT_EQ(now[2 * block], sum);
      EXPECT_EQ(now[2 * block + 1], 4 * sum + 2 * BLOCK);
    }
  }
}

TEST_F(Cluster, SharedMemoryIsTheBlocksOwn) {
  expect_kept_apart<float>(8);
  expect_kept_apart<double>(16);
  expect_kept_apart<unsigned>(3);
}

__global__ void read_unwritten(double *seen) {
  GRID_BEGIN();
  SHARED_MEMORY(bytes);
  SHARED_VARIABLE(variable, double);
  seen[2 * blockIdx.x] = *(double *)bytes;
  CLUSTER_SYNC();
  seen[2 * blockIdx.x + 1] = variable;
  *(double *)bytes = variable = 1;
}

TEST_F(Cluster, SharedMemoryIsNaNWhenABlockBegins) {
  const OnDevice<double> seen(2 * MOST);
  for (int round = 0; round < 2; round++) {
    ASSERT_EQ(LAUNCH_CLUSTER(read_unwritten, MOST, 1, sizeof(double), nullptr, seen.get()), cudaSuccess);
    for (const double x : seen.values()) EXPECT_NE(x, x);
  }
}

// Copies that are under way while other blocks run, and wait for theirs.
__global__ void copy_over_syncs(const float *from, float *to) {
  GRID_BEGIN();
  SHARED_VARIABLE(buffer, float[2][BLOCK][4]);
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  copy_async(buffer[0][threadIdx.x], from + 4 * i, 16);
  copy_commit();
  CLUSTER_SYNC();
  copy_async(buffer[1][threadIdx.x], from + 4 * i, 16);
  copy_commit();
  copy_wait<1>();
  CLUSTER_SYNC();
  const float early = buffer[1][threadIdx.x][0];
  if (early == early) return; /* not NaN */
  for (int j = 0; j < 4; j++) to[4 * i + (unsigned)j] = buffer[0][threadIdx.x][j];
  copy_wait<0>();
  for (int j = 0; j < 4; j++) to[4 * i + (unsigned)j] += buffer[1][threadIdx.x][j];
}

TEST_F(Cluster, EveryThreadWaitsForItsOwnCopies) {
  enum { N = 8, THREADS = 40 };
  std::vector<float> x(4 * N * THREADS), twice(x.size());
  for (size_t i = 0; i < x.size(); i++) x[i] = (float)i, twice[i] = 2 * x[i];
  const OnDevice<float> from(x), to(x.size());
  ASSERT_EQ(LAUNCH_CLUSTER(copy_over_syncs, N, THREADS, 0, nullptr, from.get(), to.get()), cudaSuccess);
  EXPECT_EQ(to.values(), twice);
}

/* A launch with a cluster of any shape. */
template <typename... Parameters, typename... Arguments>
cudaError_t launch_shape(void (*kernel)(Parameters...), dim3 grid, dim3 cluster, Arguments... arguments) {
  cudaLaunchAttribute shape;
  cudaLaunchConfig_t config = {};
  shape.id = cudaLaunchAttributeClusterDimension;
  shape.val.clusterDim.x = cluster.x, shape.val.clusterDim.y = cluster.y, shape.val.clusterDim.z = cluster.z;
  config.gridDim = grid;
  config.blockDim = dim3(32);
  config.attrs = &shape;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, kernel, arguments...);
}

// The blocks of a cluster 2 x 2 x 1 count themselves; then each reads its cluster's count.
__global__ void count_together(unsigned *counts, unsigned *seen) {
  GRID_BEGIN();
  const unsigned across = gridDim.x / 2,
                 of = blockIdx.z * (gridDim.y / 2) * across + blockIdx.y / 2 * across + blockIdx.x / 2;
  if (threadIdx.x == 0) atomicAdd(&counts[of], 1u);
  CLUSTER_SYNC();
  if (threadIdx.x == 0) seen[(blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x] = counts[of];
}

TEST_F(Cluster, AGridIsDividedIntoItsClusters) {
  const dim3 grid(6, 4, 2);
  const OnDevice<unsigned> counts(std::vector<unsigned>(12, 0)), seen(48);
  ASSERT_EQ(launch_shape(count_together, grid, dim3(2, 2, 1), counts.get(), seen.get()), cudaSuccess);
  EXPECT_EQ(seen.values(), std::vector<unsigned>(48, 4));
}

/* ---- streams and graphs ---- */

__global__ void fill(unsigned *x, unsigned value) {
  GRID_BEGIN();
  x[blockIdx.x * blockDim.x + threadIdx.x] = value;
}

TEST_F(Cluster, AGraphRunsClustersBesideOtherKernels) {
  enum { N = 8, THREADS = 64, OTHERS = 20 };
  const OnDevice<unsigned> values(N * THREADS), filled(OTHERS * THREADS);
  cudaStream_t first, second;
  cudaEvent_t fork, join;
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  ASSERT_EQ(cudaStreamCreateWithFlags(&first, cudaStreamNonBlocking), cudaSuccess);
  ASSERT_EQ(cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking), cudaSuccess);
  ASSERT_EQ(cudaEventCreateWithFlags(&fork, cudaEventDisableTiming), cudaSuccess);
  ASSERT_EQ(cudaEventCreateWithFlags(&join, cudaEventDisableTiming), cudaSuccess);
  ASSERT_EQ(cudaStreamBeginCapture(first, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(fork, first), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(second, fork, 0), cudaSuccess);
  ASSERT_EQ(LAUNCH(fill, OTHERS, THREADS, second, filled.get(), 7u), cudaSuccess);
  ASSERT_EQ(LAUNCH_CLUSTER(add_neighbours<0>, N, THREADS, 0, first, values.get(), 3), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(join, second), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(first, join, 0), cudaSuccess);
  ASSERT_EQ(cudaStreamEndCapture(first, &graph), cudaSuccess);
  ASSERT_EQ(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
  for (int round = 0; round < 10; round++) {
    ASSERT_EQ(cudaGraphLaunch(exec, first), cudaSuccess);
    ASSERT_EQ(cudaStreamSynchronize(first), cudaSuccess);
    EXPECT_EQ(values.values(), neighbours_added(N, THREADS, 3));
    EXPECT_EQ(filled.values(), std::vector<unsigned>(OTHERS * THREADS, 7));
  }
  EXPECT_GT(emulate_choices(), 0);
  EXPECT_EQ(cudaGraphExecDestroy(exec), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  EXPECT_EQ(cudaEventDestroy(fork), cudaSuccess);
  EXPECT_EQ(cudaEventDestroy(join), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(first), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(second), cudaSuccess);
}

/* ---- a missing CLUSTER_SYNC ---- */

// One block writes and another reads, in the same order of their numbers or in the other.
template <int WRITER, bool WAITS>
__global__ void hand_over(unsigned *value, unsigned *seen) {
  GRID_BEGIN();
  if (blockIdx.x == WRITER && threadIdx.x == 0) *value = 5;
  if (WAITS) CLUSTER_SYNC();
  if (blockIdx.x != WRITER && threadIdx.x == 0) *seen = *value;
}

// A block changes a value between two of its __syncthreads() barriers, then changes it back.
__global__ void hide_for_a_while(unsigned *value, unsigned *seen) {
  GRID_BEGIN();
  if (blockIdx.x == 0 && threadIdx.x == 0) *value = 1;
  __syncthreads();
  if (blockIdx.x == 1 && threadIdx.x == 0) *seen = *value;
  __syncthreads();
  if (blockIdx.x == 0 && threadIdx.x == 0) *value = 0;
}

// One block passes many __syncthreads() barriers before it writes what another reads at the start.
__global__ void write_late(unsigned *value, unsigned *seen) {
  GRID_BEGIN();
  if (blockIdx.x == 1 && threadIdx.x == 0) *seen = *value;
  if (blockIdx.x == 1) return;
  for (int i = 0; i < 40; i++) __syncthreads();
  if (threadIdx.x == 0) *value = 5;
}

/* What `seen` is in so many launches of the kernel, each with a value of 0. */
std::set<unsigned> seen_in(int launches, void (*kernel)(unsigned *, unsigned *)) {
  const OnDevice<unsigned> value(1), seen(1);
  std::set<unsigned> all;
  for (int i = 0; i < launches; i++) {
    EXPECT_EQ(cudaMemsetAsync(value.get(), 0, sizeof(unsigned), nullptr), cudaSuccess);
    EXPECT_EQ(LAUNCH_CLUSTER(kernel, 2, 64, 0, nullptr, value.get(), seen.get()), cudaSuccess);
    all.insert(seen.values()[0]);
  }
  return all;
}

TEST_F(Cluster, WithoutAClusterSyncABlockSeesAnyPartOfWhatAnotherWrites) {
  const std::set<unsigned> written = {5}, either = {0, 5}, hidden = {0, 1};
  for (int seed = 0; seed < 20; seed++) {
    emulate_configure(("seed=" + std::to_string(seed)).c_str());
    EXPECT_EQ(seen_in(20, hand_over<0, true>), written);
    EXPECT_EQ(seen_in(20, hand_over<1, true>), written);
    EXPECT_EQ(seen_in(20, hand_over<0, false>), either);
    EXPECT_EQ(seen_in(20, hand_over<1, false>), either);
    EXPECT_EQ(seen_in(20, write_late), either);
    EXPECT_EQ(seen_in(60, hide_for_a_while), hidden);
  }
}

TEST_F(Cluster, AMissingClusterSyncShowsInOneLaunchWhereAllBlocksDependOnIt) {
  enum { N = 8, THREADS = 32 };
  const OnDevice<unsigned> values(N * THREADS);
  for (int seed = 0; seed < 50; seed++) {
    emulate_configure(("seed=" + std::to_string(seed)).c_str());
    ASSERT_EQ(LAUNCH_CLUSTER(add_neighbours<1>, N, THREADS, 0, nullptr, values.get(), 1), cudaSuccess);
    EXPECT_NE(values.values(), neighbours_added(N, THREADS, 1));
    ASSERT_EQ(LAUNCH_CLUSTER(add_neighbours<2>, N, THREADS, 0, nullptr, values.get(), 1), cudaSuccess);
    EXPECT_NE(values.values(), neighbours_added(N, THREADS, 1));
  }
}

/* ---- misuse ---- */

template <int MISUSE>
__global__ void misuse(float *x) {
  if (MISUSE == 0 && blockIdx.x == 2) x[0] = 1; /* before GRID_BEGIN */
  if (MISUSE == 1 && blockIdx.x == 2) return;
  GRID_BEGIN();
  SHARED_VARIABLE(variable, float[4]);
  if (MISUSE == 2 && blockIdx.x == 1) return;
  if (MISUSE == 3 && threadIdx.x == 40) return;
  if (MISUSE == 4 && threadIdx.x >= 32) {
    __syncthreads();
    return;
  }
  if (MISUSE == 5 && blockIdx.x == 3) {
    CLUSTER_SYNC();
    return;
  }
  if (MISUSE == 6) variable[threadIdx.x] = 1; /* of 4 */
  if (MISUSE == 7 && threadIdx.x == 5 && blockIdx.x == 1) __shfl_xor_sync(0xffffffffu, 1, 1);
  CLUSTER_SYNC();
  if (MISUSE == 8 && blockIdx.x == 1) CLUSTER_SYNC();
}

// Shared memory of one block in the hands of another.
__global__ void name_foreign_memory(const float *from, float **variables) {
  GRID_BEGIN();
  SHARED_VARIABLE(variable, float[4]);
  if (threadIdx.x == 0) variables[blockIdx.x] = variable;
  CLUSTER_SYNC();
  copy_async(variables[1 - blockIdx.x], from, 16);
  copy_commit();
  copy_wait<0>();
}

template <int MISUSE>
void launch_misuse() {
  const OnDevice<float> x(1);
  (void)LAUNCH_CLUSTER(misuse<MISUSE>, 4, 64, 0, nullptr, x.get());
}

TEST(ClusterDeathTest, WhatSomeThreadDoesNotReachAborts) {
  emulate_configure("");
#define PLACE "cuda_cluster_test.cpp:[0-9]+"
  EXPECT_DEATH(launch_misuse<1>(), "thread [0-9]+ of block 2,0,0 ends without GRID_BEGIN");
  EXPECT_DEATH(launch_misuse<2>(), PLACE
               ": a CLUSTER_SYNC of thread 0 in block [023],0,0 is not reached by thread 0 of "
               "block 1,0,0, which has ended");
  EXPECT_DEATH(launch_misuse<3>(), PLACE
               ": a CLUSTER_SYNC of thread [0-9]+ in block .,0,0 is not reached by thread 40, "
               "which has ended");
  EXPECT_DEATH(launch_misuse<4>(), PLACE
               ": a barrier of thread 63 in block .,0,0 is not reached by thread 0, which waits "
               "at .*" PLACE);
  EXPECT_DEATH(launch_misuse<5>(), PLACE
               ": a CLUSTER_SYNC of thread 0 in block 0,0,0 is not reached by thread 0 of block "
               "3,0,0, which waits at .*" PLACE);
  EXPECT_DEATH(launch_misuse<7>(),
               PLACE ": a shuffle of thread 5 in block 1,0,0 is not reached by thread 0, which waits");
  EXPECT_DEATH(launch_misuse<8>(), PLACE
               ": a CLUSTER_SYNC of thread 0 in block 1,0,0 is not reached by thread 0 of block "
               "0,0,0, which has ended");
  EXPECT_DEATH((void)LAUNCH(misuse<9>, 4, 64, nullptr, nullptr), PLACE ": CLUSTER_SYNC in a launch without clusters");
  const OnDevice<float> from(4);
  const OnDevice<float *> variables(2);
  EXPECT_DEATH((void)LAUNCH_CLUSTER(name_foreign_memory, 2, 1, 0, nullptr, from.get(), variables.get()),
               PLACE ": thread 0 names 16 bytes outside shared memory");
  EXPECT_DEATH(CLUSTER_SYNC(), PLACE ": a barrier or shuffle outside a kernel");
#if EMULATED_ASAN
  EXPECT_DEATH(for (int i = 0; i < 20; i++) launch_misuse<0>(), "AddressSanitizer: use-after-poison");
  EXPECT_DEATH(launch_misuse<6>(), "AddressSanitizer: heap-buffer-overflow");
#endif
}

/* ---- what the runtime refuses ---- */

__global__ void begin_only() { GRID_BEGIN(); }

__global__ void meet() {
  GRID_BEGIN();
  CLUSTER_SYNC();
}

template <int>
__global__ void meet_too() {
  GRID_BEGIN();
  CLUSTER_SYNC();
}

TEST_F(Cluster, ShapesThatDoNotFitAreRefused) {
  EXPECT_EQ(launch_shape(meet, dim3(6, 4), dim3(3, 2)), cudaSuccess);
  for (const dim3 shape :
       {dim3(4, 1), dim3(1, 3), dim3(3, 4), dim3(1, 1, 2), dim3(12), dim3(0), dim3(1, 0), dim3(1U << 31, 2)})
    EXPECT_EQ(launch_shape(meet, dim3(6, 4), shape), cudaErrorInvalidClusterSize);
  EXPECT_EQ(launch_shape(meet, dim3(16), dim3(8)), cudaSuccess);
  EXPECT_EQ(launch_shape(meet, dim3(16), dim3(16)), cudaErrorInvalidClusterSize) << "more than 8 on request only";
  EXPECT_EQ(launch_shape(meet, dim3(9), dim3(9)), cudaErrorInvalidClusterSize);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidClusterSize);
  EXPECT_EQ(cudaFuncSetAttribute(meet, cudaFuncAttributeNonPortableClusterSizeAllowed, 1), cudaSuccess);
  EXPECT_EQ(launch_shape(meet, dim3(16), dim3(16)), cudaSuccess);
  EXPECT_EQ(launch_shape(meet, dim3(17), dim3(17)), cudaErrorInvalidClusterSize);
  EXPECT_EQ(launch_shape(meet_too<0>, dim3(16), dim3(16)), cudaErrorInvalidClusterSize) << "the request is meet's";
  EXPECT_EQ(cudaFuncSetAttribute(meet, cudaFuncAttributeNonPortableClusterSizeAllowed, 0), cudaSuccess);
  EXPECT_EQ(launch_shape(meet, dim3(16), dim3(16)), cudaErrorInvalidClusterSize);
  EXPECT_EQ(LAUNCH_CLUSTER(meet_too<1>, 16, 32, 0, nullptr), cudaSuccess) << "which makes the request";
  EXPECT_EQ(LAUNCH_CLUSTER(meet_too<1>, 17, 32, 0, nullptr), cudaErrorInvalidClusterSize);
  emulate_configure("major=8");
  EXPECT_EQ(LAUNCH_CLUSTER(meet, 2, 32, 0, nullptr), cudaErrorNotSupported);
  EXPECT_EQ(LAUNCH_CLUSTER(meet, 16, 32, 0, nullptr), cudaErrorNotSupported);
  next_launch_is_plain = true;
  EXPECT_EQ(LAUNCH_CLUSTER(meet, 2, 32, 0, nullptr), cudaErrorNotSupported);
}

TEST_F(Cluster, OnlyALaterDeviceOverlapsKernels) {
  cudaLaunchAttribute overlap;
  cudaLaunchConfig_t config = {};
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  config.attrs = &overlap;
  config.numAttrs = 1;
  EXPECT_EQ(cudaLaunchKernelEx(&config, begin_only), cudaSuccess);
  emulate_configure("major=8");
  EXPECT_EQ(cudaLaunchKernelEx(&config, begin_only), cudaErrorNotSupported);
}

/* 48 KB are for both kinds of shared memory. */
TEST_F(Cluster, ALaunchRequestsMemoryBesideTheKernelsOwn) {
  emulate_configure("own=4096");
  EXPECT_EQ(cudaFuncSetAttribute(meet_too<4>, cudaFuncAttributeMaxDynamicSharedMemorySize, 227 << 10),
            cudaErrorInvalidValue);
  EXPECT_EQ(LAUNCH_SHARED(begin_only, 1, 32, 45 << 10, nullptr), cudaSuccess);
  EXPECT_EQ(LAUNCH_CLUSTER(meet_too<4>, 2, 32, 45 << 10, nullptr), cudaSuccess);
  EXPECT_EQ(LAUNCH_CLUSTER(meet_too<4>, 2, 32, 223 << 10, nullptr), cudaSuccess);
  EXPECT_EQ(LAUNCH_CLUSTER(meet_too<4>, 2, 32, 224 << 10, nullptr), cudaErrorInvalidValue);
}

TEST_F(Cluster, ARequestForBlocksIsNoneForSharedMemory) {
  EXPECT_EQ(cudaFuncSetAttribute(meet_too<2>, cudaFuncAttributeMaxDynamicSharedMemorySize, 100 << 10), cudaSuccess);
  EXPECT_EQ(cudaFuncSetAttribute(meet_too<2>, cudaFuncAttributeNonPortableClusterSizeAllowed, 1), cudaSuccess);
  EXPECT_EQ(LAUNCH_CLUSTER(meet_too<2>, 16, 32, 100 << 10, nullptr), cudaSuccess);
  struct cudaFuncAttributes attributes;
  EXPECT_EQ(cudaFuncGetAttributes(&attributes, (const void *)meet_too<2>), cudaSuccess);
  EXPECT_EQ(attributes.maxDynamicSharedSizeBytes, 100 << 10);
}

__global__ void never_begins() { CLUSTER_SYNC(); }

TEST(ClusterDeathTest, AClusterThatDoesNotWaitForTheKernelBeforeAborts) {
  emulate_configure("");
  EXPECT_DEATH((void)LAUNCH_CLUSTER(never_begins, 2, 32, 0, nullptr), "ends without GRID_BEGIN");
  next_launch_is_plain = true;
  EXPECT_EQ(LAUNCH_CLUSTER(never_begins, 2, 32, 0, nullptr), cudaSuccess);
}

/* Clusters of so many blocks that the device has room for at a time; -1: an error. */
template <typename Kernel>
int active(Kernel kernel, unsigned blocks, size_t bytes) {
  cudaLaunchAttribute shape;
  cudaLaunchConfig_t config = {};
  shape.id = cudaLaunchAttributeClusterDimension;
  shape.val.clusterDim.x = blocks, shape.val.clusterDim.y = shape.val.clusterDim.z = 1;
  config.gridDim = dim3(blocks);
  config.blockDim = dim3(BLOCK);
  config.dynamicSmemBytes = bytes;
  config.attrs = &shape;
  config.numAttrs = blocks ? 1 : 0;
  int clusters = -2;
  return cudaOccupancyMaxActiveClusters(&clusters, kernel, &config) == cudaSuccess ? clusters : -1;
}

TEST_F(Cluster, TheDeviceSaysHowManyClustersItHasRoomFor) {
  EXPECT_EQ(active(meet_too<3>, 8, 0), 1);
  EXPECT_EQ(active(meet_too<3>, 16, 0), -1) << "not requested";
  EXPECT_EQ(active(meet_too<3>, 8, 100 << 10), -1) << "not requested";
  EXPECT_EQ(active(meet_too<3>, 0, 0), -1) << "no cluster";
  EXPECT_EQ(cudaFuncSetAttribute(meet_too<3>, cudaFuncAttributeNonPortableClusterSizeAllowed, 1), cudaSuccess);
  EXPECT_EQ(cudaFuncSetAttribute(meet_too<3>, cudaFuncAttributeMaxDynamicSharedMemorySize, 227 << 10), cudaSuccess);
  EXPECT_EQ(active(meet_too<3>, 16, 227 << 10), 1);
  emulate_configure("processors=132");
  EXPECT_EQ(active(meet_too<3>, 8, 0), 16);
  EXPECT_EQ(active(meet_too<3>, 16, 0), 8);
  emulate_configure("cluster=32");
  EXPECT_EQ(active(meet_too<3>, 16, 0), 1);
  EXPECT_EQ(active(meet_too<3>, 17, 0), -1);
  emulate_configure("cluster=8");
  EXPECT_EQ(active(meet_too<3>, 8, 0), 1);
  EXPECT_EQ(active(meet_too<3>, 16, 0), 0);
  EXPECT_EQ(LAUNCH_CLUSTER(meet_too<3>, 8, 32, 0, nullptr), cudaSuccess);
  EXPECT_EQ(LAUNCH_CLUSTER(meet_too<3>, 16, 32, 0, nullptr), cudaErrorInvalidClusterSize);
  emulate_configure("major=8");
  EXPECT_EQ(active(meet_too<3>, 8, 0), -1);
  (void)cudaGetLastError();
}

}  // namespace
