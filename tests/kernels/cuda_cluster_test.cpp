/* Clusters on the emulated CUDA: blocks that run together, each with shared memory of its own, and what a missing or
 * misplaced CLUSTER_SYNC does. */
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

}  // namespace
