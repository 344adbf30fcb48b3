/* Tensor core products, matrix loads, asynchronous copies and dynamic shared memory on the emulation, each against the
 * figures and words of the PTX ISA; and what it refuses. */
#include "mma.cuh"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "on_device.h"

namespace {

class Mma : public testing::Test {
 protected:
  void SetUp() override { emulate_configure(""); }
  void TearDown() override { EXPECT_EQ(emulate_live(), 0); }
};

/* ---- the maps of lanes ---- */

enum { M = 16, N = 8, K16 = 16, K8 = 8 };

/* A fragment from a matrix in memory, by the formulas of the PTX ISA ("Matrix Fragments for mma.m16n8k16 with
 * floating point type", "... for mma.m16n8k8"): groupID = lane >> 2, threadID_in_group = lane % 4. */
__global__ void multiply_bf16(const uint16_t *a, const uint16_t *b, float *d) {
  GRID_BEGIN();
  const int groupID = (int)threadIdx.x >> 2, threadID_in_group = (int)threadIdx.x % 4;
  uint16_t held_a[8], held_b[4];
  float held_d[4];
  for (int i = 0; i < 8; i++) {
    const int row = i < 2 || (i >= 4 && i < 6) ? groupID : groupID + 8;
    const int col = threadID_in_group * 2 + (i & 1) + (i >= 4 ? 8 : 0);
    held_a[i] = a[row * K16 + col];
  }
  for (int i = 0; i < 4; i++) {
    const int row = threadID_in_group * 2 + (i & 1) + (i >= 2 ? 8 : 0);
    held_b[i] = b[row * N + groupID];
  }
  const auto position = [&](int i) { return (i < 2 ? groupID : groupID + 8) * N + threadID_in_group * 2 + (i & 1); };
  for (int i = 0; i < 4; i++) held_d[i] = d[position(i)];
  uint32_t words_a[4], words_b[2];
  memcpy(words_a, held_a, sizeof words_a);
  memcpy(words_b, held_b, sizeof words_b);
  mma_bf16(held_d, words_a, words_b);
  for (int i = 0; i < 4; i++) d[position(i)] = held_d[i];
}

__global__ void multiply_tf32(const float *a, const float *b, float *d) {
  GRID_BEGIN();
  const int groupID = (int)threadIdx.x >> 2, threadID_in_group = (int)threadIdx.x % 4;
  uint32_t held_a[4], held_b[2];
  float held_d[4];
  for (int i = 0; i < 4; i++) {
    const int row = i == 0 || i == 2 ? groupID : groupID + 8;
    const int col = i < 2 ? threadID_in_group : threadID_in_group + 4;
    held_a[i] = float_bits(a[row * K8 + col]);
  }
  for (int i = 0; i < 2; i++)
    held_b[i] = float_bits(b[(i == 0 ? threadID_in_group : threadID_in_group + 4) * N + groupID]);
  const auto position = [&](int i) { return (i < 2 ? groupID : groupID + 8) * N + threadID_in_group * 2 + (i & 1); };
  for (int i = 0; i < 4; i++) held_d[i] = d[position(i)];
  mma_tf32(held_d, held_a, held_b);
  for (int i = 0; i < 4; i++) d[position(i)] = held_d[i];
}

/* Whole numbers that differ from element to element. */
std::vector<float> numbers(size_t count, int first) {
  std::vector<float> x(count);
  for (size_t i = 0; i < count; i++) x[i] = (float)((int)(i * 37 + (size_t)first) % 251 - 125);
  return x;
}

std::vector<float> product(const std::vector<float> &a, const std::vector<float> &b, std::vector<float> d, int k_end) {
  for (int i = 0; i < M; i++)
    for (int j = 0; j < N; j++)
      for (int k = 0; k < k_end; k++) d[(size_t)(i * N + j)] += a[(size_t)(i * k_end + k)] * b[(size_t)(k * N + j)];
  return d;
}

std::vector<uint16_t> rounded(const std::vector<float> &x) {
  std::vector<uint16_t> bits(x.size());
  std::transform(x.begin(), x.end(), bits.begin(), bf16_from_float);
  return bits;
}

TEST_F(Mma, ProductsOfWholeNumbersAreExactInBothPrecisions) {
  const std::vector<float> a16 = numbers(M * K16, 3), b16 = numbers(K16 * N, 71), c = numbers(M * N, 11);
  const OnDevice<uint16_t> a(rounded(a16)), b(rounded(b16));
  const OnDevice<float> d(c);
  ASSERT_EQ(LAUNCH(multiply_bf16, 1, WARP, nullptr, a.get(), b.get(), d.get()), cudaSuccess);
  EXPECT_EQ(d.values(), product(a16, b16, c, K16));
  const std::vector<float> a8 = numbers(M * K8, 5), b8 = numbers(K8 * N, 13);
  const OnDevice<float> a_tf32(a8), b_tf32(b8), d_tf32(c);
  ASSERT_EQ(LAUNCH(multiply_tf32, 1, WARP, nullptr, a_tf32.get(), b_tf32.get(), d_tf32.get()), cudaSuccess);
  EXPECT_EQ(d_tf32.values(), product(a8, b8, c, K8));
}

/* ---- their numbers ---- */

/* d (0, 0) after one step with d = c, a = the terms in row 0 and b = 1. */
float sum_bf16(float c, std::vector<float> terms) {
  std::vector<float> a(M * K16, 0), d(M * N, 0);
  std::copy(terms.begin(), terms.end(), a.begin());
  d[0] = c;
  const OnDevice<uint16_t> a_bits(rounded(a)), b(rounded(std::vector<float>(K16 * N, 1)));
  const OnDevice<float> result(d);
  EXPECT_EQ(LAUNCH(multiply_bf16, 1, WARP, nullptr, a_bits.get(), b.get(), result.get()), cudaSuccess);
  return result.values()[0];
}

TEST_F(Mma, SumsAreCutOffOneBitBehindAFloatOfTheLargestTerm) {
  const float infinity = std::numeric_limits<float>::infinity(), ulp = 0x1p-23F;
  const struct {
    const char *what;
    float c;
    std::vector<float> terms;
    float sum;
  } cases[] = {
      {"terms below half a unit are lost, though they would add up", 1, std::vector<float>(16, 0x1.8p-25F), 1},
      {"half a unit each counts", 1, {ulp / 2, ulp / 2}, 1 + ulp},
      {"the result is cut off, not rounded", 1, {ulp / 2, ulp / 2, ulp / 2}, 1 + ulp},
      {"towards 0 on either side", -1, {-ulp / 2, -ulp / 2, -ulp / 2}, -1 - ulp},
      {"the largest term sets the unit, though it cancels", 0x1p-10F, {0x1p20F, -0x1p20F}, 0},
      {"whole numbers are exact", 0x1p24F - 17, std::vector<float>(16, 1), 0x1p24F - 1},
      {"so are tiny ones", 0, {0x1p-120F, 0x1p-126F}, 0x1.04p-120F},
      {"infinity stays", 1, {infinity}, infinity},
      {"a sum beyond the range is infinite", 0x1p127F, {0x1p127F}, infinity},
  };
  for (const auto &c : cases) EXPECT_EQ(sum_bf16(c.c, c.terms), c.sum) << c.what;
  EXPECT_TRUE(std::isnan(sum_bf16(1, {infinity, -infinity})));
  EXPECT_TRUE(std::isnan(sum_bf16(NAN, {1})));
}

TEST_F(Mma, TensorCoresReadTheUpper19BitsOfAFloat) {
  const OnDevice<float> a(std::vector<float>(M * K8, 1 + 0x1p-10F + 0x1.ffep-11F));
  const OnDevice<float> b(std::vector<float>(K8 * N, -1 - 0x1p-11F)), d(std::vector<float>(M * N, 0));
  ASSERT_EQ(LAUNCH(multiply_tf32, 1, WARP, nullptr, a.get(), b.get(), d.get()), cudaSuccess);
  EXPECT_EQ(d.values(), std::vector<float>(M * N, -8 * (1 + 0x1p-10F)));
}

/* ---- matrices from shared memory ---- */

__global__ void load_both_ways(uint32_t *straight, uint32_t *transposed) {
  GRID_BEGIN();
  SHARED_VARIABLE(rows, uint16_t[32][8]);
  for (int i = 0; i < 8; i++) rows[threadIdx.x][i] = (uint16_t)(threadIdx.x * 8 + (unsigned)i);
  __syncwarp();
  uint32_t words[4];
  load_matrices(words, rows[threadIdx.x]);
  for (int i = 0; i < 4; i++) straight[i * WARP + (int)threadIdx.x] = words[i];
  load_matrices_transposed(words, rows[threadIdx.x]);
  for (int i = 0; i < 4; i++) transposed[i * WARP + (int)threadIdx.x] = words[i];
}

/* PTX ISA, "ldmatrix": thread T holds row T / 4, elements 2 (T % 4) and the next; .trans: the matrix transposed. */
TEST_F(Mma, MatricesAreLoadedByRowsOrTransposed) {
  const OnDevice<uint32_t> straight(4 * WARP), transposed(4 * WARP);
  ASSERT_EQ(LAUNCH(load_both_ways, 1, WARP, nullptr, straight.get(), transposed.get()), cudaSuccess);
  const std::vector<uint32_t> now[2] = {straight.values(), transposed.values()};
  for (uint32_t i = 0; i < 4 * WARP; i++) {
    const uint32_t matrix = i / WARP * 64, row = i % WARP / 4, column = i % 4 * 2;
    const uint32_t low = matrix + row * 8 + column, crossed = matrix + column * 8 + row;
    EXPECT_EQ(now[0][i], low | (low + 1) << 16);
    EXPECT_EQ(now[1][i], crossed | (crossed + 8) << 16);
  }
}

/* ---- asynchronous copies ---- */

/* The first of each four words is the destination's before, between and after waits; `bytes` of them are copied. */
__global__ void copy_in_groups(const float *from, int bytes, float *seen) {
  GRID_BEGIN();
  SHARED_VARIABLE(to, float[3][4]);
  for (int i = 0; i < 12; i++) to[i / 4][i % 4] = 5;
  const auto look = [&](int time) {
    for (int i = 0; i < 12; i++) seen[time * 12 + i] = to[i / 4][i % 4];
  };
  copy_async(to[0], from, bytes);
  copy_commit();
  look(0);
  copy_async(to[1], from + 4, bytes);
  copy_commit();
  copy_wait<1>();
  look(1);
  copy_async(to[2], from + 8, bytes);
  copy_wait<0>();
  look(2);
  copy_commit();
  copy_wait<0>();
  look(3);
}

TEST_F(Mma, CopiesArriveWhenTheirGroupIsWaitedForWithZerosBehindTheirBytes) {
  const std::vector<float> numbers_from{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  const OnDevice<float> from(numbers_from), seen(4 * 12);
  for (int bytes : {16, 12, 4, 0}) {
    ASSERT_EQ(LAUNCH(copy_in_groups, 1, 1, nullptr, from.get(), bytes, seen.get()), cudaSuccess);
    const std::vector<float> now = seen.values();
    const int arrived[4] = {0, 1, 2, 3}, started[4] = {1, 2, 3, 3};
    for (int time = 0; time < 4; time++)
      for (int i = 0; i < 12; i++) {
        const float value = now[(size_t)(time * 12 + i)];
        const float whole = i % 4 * 4 < bytes ? numbers_from[(size_t)i] : 0;
        if (i / 4 < arrived[time]) {
          EXPECT_EQ(value, whole) << bytes << " bytes, time " << time << ", " << i;
        } else if (i / 4 < started[time]) {
          EXPECT_TRUE(std::isnan(value)) << time << ", " << i;
        } else {
          EXPECT_EQ(value, 5) << time << ", " << i;
        }
      }
  }
}

/* Changes the source under way, and copies twice to one place: both are races, which show. */
__global__ void race_with_copies(float *from, float *seen) {
  GRID_BEGIN();
  SHARED_VARIABLE(to, float[2][4]);
  from[0] = 1, from[4] = 2, from[8] = 3;
  copy_async(to[0], from, 16);
  copy_async(to[1], from + 4, 16);
  copy_async(to[1], from + 8, 16);
  copy_commit();
  from[0] = -1;
  copy_wait<0>();
  seen[0] = to[0][0];
  seen[1] = to[1][0];
}

TEST_F(Mma, CopiesReadTheirSourceAtAnyTimeAndArriveInAnyOrder) {
  const OnDevice<float> from(12), seen(2);
  int early = 0, first = 0;
  const int rounds = 40;
  for (int i = 0; i < rounds; i++) {
    ASSERT_EQ(LAUNCH(race_with_copies, 1, 1, nullptr, from.get(), seen.get()), cudaSuccess);
    early += seen.values()[0] == 1;
    first += seen.values()[1] == 2;
  }
  EXPECT_TRUE(early > 0 && early < rounds) << early;
  EXPECT_TRUE(first > 0 && first < rounds) << first;
}

/* ---- dynamic shared memory ---- */

__global__ void look_at_shared(size_t count, int *nans, unsigned *misaligned) {
  GRID_BEGIN();
  SHARED_MEMORY(memory);
  float *const x = (float *)memory;
  if (threadIdx.x == 0) *misaligned += (unsigned)((uintptr_t)memory % 128);
  for (size_t i = threadIdx.x; i < count; i += blockDim.x) {
    if (std::isnan(x[i])) atomicAdd(nans, 1);
    x[i] = 0;
  }
}

TEST_F(Mma, SharedMemoryIsNaNWhenABlockBeginsAndGivenUpToItsLimit) {
  for (int bytes : {4, 400, 48 << 10, 227 << 10}) {
    const OnDevice<int> nans(std::vector<int>{0});
    const OnDevice<unsigned> misaligned(std::vector<unsigned>{0});
    ASSERT_EQ(
        LAUNCH_SHARED(look_at_shared, 3, 64, (size_t)bytes, nullptr, (size_t)bytes / 4, nans.get(), misaligned.get()),
        cudaSuccess);
    EXPECT_EQ(nans.values()[0], 3 * bytes / 4);
    EXPECT_EQ(misaligned.values()[0], 0u);
  }
  EXPECT_EQ(LAUNCH_SHARED(look_at_shared, 1, 1, (227 << 10) + 1, nullptr, 0, nullptr, nullptr), cudaErrorInvalidValue);
}

__global__ void need_much() { GRID_BEGIN(); }

TEST_F(Mma, MoreThan48KBOfSharedMemoryIsGivenOnRequestOnly) {
  cudaLaunchConfig_t config = {};
  config.gridDim = config.blockDim = dim3(1);
  config.dynamicSmemBytes = (48 << 10) + 1;
  EXPECT_EQ(cudaLaunchKernelEx(&config, need_much), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFuncSetAttribute(need_much, cudaFuncAttributeMaxDynamicSharedMemorySize, 49 << 10), cudaSuccess);
  EXPECT_EQ(cudaLaunchKernelEx(&config, need_much), cudaSuccess);
}

__global__ void need_much_and_less() { GRID_BEGIN(); }

/* As a graph does that was captured between the two launches. */
TEST_F(Mma, ALaunchWithLessSharedMemoryLeavesWhatIsGiven) {
  cudaLaunchConfig_t config = {};
  config.gridDim = config.blockDim = dim3(1);
  config.dynamicSmemBytes = 200 << 10;
  EXPECT_EQ(LAUNCH_SHARED(need_much_and_less, 1, 1, 200 << 10, nullptr), cudaSuccess);
  EXPECT_EQ(LAUNCH_SHARED(need_much_and_less, 1, 1, 60 << 10, nullptr), cudaSuccess);
  EXPECT_EQ(cudaLaunchKernelEx(&config, need_much_and_less), cudaSuccess);
}

/* ---- what is refused ---- */

template <int MISUSE>
__global__ void misuse(float *global) {
  GRID_BEGIN();
  SHARED_VARIABLE(to, float[8]);
  float d[4] = {};
  uint32_t a[4] = {}, b[2] = {}, words[4];
  if (MISUSE == 0 && threadIdx.x != 7) mma_bf16(d, a, b);
  if (MISUSE == 1) {
    if (threadIdx.x < 16)
      mma_bf16(d, a, b);
    else
      mma_tf32(d, a, b);
  }
  if (MISUSE == 2) load_matrices(words, (char *)to + 4 * (threadIdx.x % 2));
  if (MISUSE == 3) load_matrices_transposed(words, global);
  if (MISUSE == 4) copy_async(to, global + 1, 16);
  if (MISUSE == 5) copy_async(to + 2, global, 16);
  if (MISUSE == 6) copy_async(to, global, 17);
  if (MISUSE == 7) copy_async(to, global, 16), copy_wait<0>();
  if (MISUSE == 8) copy_async(to, global, 16), copy_commit(), copy_wait<1>();
  if (MISUSE == 9) copy_async(global, global, 16);
  if (MISUSE == 10) {
    SHARED_MEMORY(memory);
    memory[0] = 1;
  }
  if (MISUSE == 11) {
    if (threadIdx.x % 2)
      load_matrices(words, to);
    else
      warp_sum(1);
  }
}

TEST(MmaDeathTest, WhatCudaLeavesUndefinedAborts) {
  emulate_configure("");
  const OnDevice<float> memory(8);
  float *const global = memory.get();
  EXPECT_DEATH(LAUNCH(misuse<0>, 1, WARP, nullptr, global),
               "mma_test.cpp:[0-9]+: a warp's operation.*by thread 7, which");
  EXPECT_DEATH(LAUNCH(misuse<1>, 1, WARP, nullptr, global), "warp's operation .* which waits at .*mma_test.cpp");
  EXPECT_DEATH(LAUNCH(misuse<2>, 1, WARP, nullptr, global), "mma_test.cpp:.*not a multiple of 16");
  EXPECT_DEATH(LAUNCH(misuse<4>, 1, 1, nullptr, global), "mma_test.cpp:.*not a multiple of 16");
  EXPECT_DEATH(LAUNCH(misuse<5>, 1, 1, nullptr, global), "mma_test.cpp:.*not a multiple of 16");
  EXPECT_DEATH(LAUNCH(misuse<6>, 1, 1, nullptr, global), "mma_test.cpp:.*a copy of 17 bytes");
  EXPECT_DEATH(LAUNCH(misuse<7>, 1, 1, nullptr, global), "ends without waiting for its copies");
  EXPECT_DEATH(LAUNCH(misuse<8>, 1, 1, nullptr, global), "ends without waiting for its copies");
  EXPECT_DEATH(LAUNCH(misuse<10>, 1, 1, nullptr, global), "mma_test.cpp:.*without shared memory");
  EXPECT_DEATH(LAUNCH(misuse<11>, 1, WARP, nullptr, global), "not reached by thread");
  EXPECT_DEATH(LAUNCH(misuse<0>, 1, 16, nullptr, global), "by thread 16, which does not exist|by thread 7");
  EXPECT_DEATH(copy_async(global, global, 16), "outside a kernel");
  EXPECT_DEATH(LAUNCH(misuse<3>, 1, WARP, nullptr, global), "mma_test.cpp:.*outside shared memory");
  EXPECT_DEATH(LAUNCH(misuse<9>, 1, 1, nullptr, global), "mma_test.cpp:.*outside shared memory");
#if EMULATED_ASAN
  EXPECT_DEATH(LAUNCH_SHARED(look_at_shared, 1, 1, 12, nullptr, 4, (int *)global, (unsigned *)global),
               "heap-buffer-overflow");
#endif
}

}  // namespace
