/* dW and db in one kernel, in every variant: against sums in double, at widths around the tiles, with batches of less
 * than a stage, of one slice and of many. The padding of the operands is NaN, that of the results must stay. */
#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <string>

#include "passes.h"

namespace {

enum Arithmetic { FP32, TF32, BF16 };
const char *const kNames[] = {"fp32", "tf32", "bf16"};

struct WeightsCase {
  int64_t rows, n_in, n_out;
  Arithmetic arithmetic;
};

float truncated(float x, uint32_t bits) {
  uint32_t word;
  memcpy(&word, &x, sizeof word);
  word &= ~uint32_t{0} << bits;
  memcpy(&x, &word, sizeof x);
  return x;
}

/* An operand with one more unit of 16 bytes behind its rows than they need. */
class Operand : public Matrix {
 public:
  Operand(int64_t rows, int64_t n_, enum element element_)
      : Matrix(rows, (n_ + unit_of(element_) - 1) / unit_of(element_) * unit_of(element_) + unit_of(element_),
               element_),
        n(n_) {}
  template <typename Next>
  void fill(Next next) {
    for (size_t i = 0; i < floats.host.size(); i++) {
      const bool padding = static_cast<int64_t>(i) % ld >= n;
      const float value = truncated(next(), element == ELEMENT_F32 ? 0 : 16);
      uint32_t word;
      memcpy(&word, &value, sizeof word);
      floats.host[i] = padding ? NAN : value;
      halves.host[i] = padding ? 0x7fff : static_cast<uint16_t>(word >> 16);
    }
    store();
  }
  int64_t n;

 private:
  static int64_t unit_of(enum element element_) { return element_ == ELEMENT_F32 ? 4 : 8; }
};

class Weights : public testing::TestWithParam<WeightsCase> {
 protected:
  struct Sum {
    double value, absolute;
  };
  Weights()
      : c(GetParam()),
        element(c.arithmetic == BF16 ? ELEMENT_BF16 : ELEMENT_F32),
        dZ(c.rows, c.n_out, element),
        A_in(c.rows, c.n_in, element),
        scratch(std::max<int64_t>(1, static_cast<int64_t>(weights_scratch(c.rows, c.n_in, c.n_out))), '\xff'),
        counters(COUNTERS, 0) {}
  void SetUp() override { ASSERT_GT(variants(), 0); }

  weights_launch launch_of(int variant) {
    weights_launch launch{};
    launch.dZ = dZ.matrix(), launch.A_in = A_in.matrix();
    launch.rows = c.rows, launch.n_in = c.n_in, launch.n_out = c.n_out;
    launch.tf32 = c.arithmetic == TF32;
    launch.variant = variant;
    launch.scratch = {scratch.data, counters.data};
    return launch;
  }
  int variants() {
    const weights_launch launch = launch_of(0);
    return weights_variants(&launch);
  }
  /* The variants come in pairs of one tile, which differ in the number of blocks. Of each pair, one is run. */
  std::vector<int> tried() {
    std::vector<int> some;
    for (int variant = static_cast<int>(c.rows % 2); variant < variants(); variant += 2) some.push_back(variant);
    return some;
  }
  int64_t ld() const { return c.n_in + 3; }

  /* dW with its padding, then db and one element behind it. */
  std::vector<float> run(int variant, bool sums_columns = true) {
    Buffer<float> dW(c.n_out * ld(), kUntouched), db(c.n_out + 1, kUntouched);
    weights_launch launch = launch_of(variant);
    launch.gradient = dW.data, launch.ld = ld(), launch.bias_gradient = sums_columns ? db.data : nullptr;
    EXPECT_EQ(launch_weights(&launch, nullptr), cudaSuccess);
    std::vector<float> all = dW.fetch();
    const std::vector<float> &sums = db.fetch();
    all.insert(all.end(), sums.begin(), sums.end());
    EXPECT_EQ(counters.fetch(), std::vector<unsigned>(COUNTERS, 0));
    return all;
  }

  /* In the same places; values that must be untouched have absolute = -1. Tensor cores read the upper 19 bits of tf32
   * operands (mma.cuh), db is of whole values. */
  std::vector<Sum> expected() {
    const uint32_t cut = c.arithmetic == TF32 ? 13 : 0;
    std::vector<Sum> sums(static_cast<size_t>(c.n_out * ld() + c.n_out + 1), Sum{kUntouched, -1});
    for (int64_t j = 0; j < c.n_out; j++) {
      Sum *const row = &sums[static_cast<size_t>(j * ld())], *const db = &sums[static_cast<size_t>(c.n_out * ld() + j)];
      for (int64_t i = 0; i < c.n_in; i++) row[i] = {0, 0};
      *db = {0, 0};
      for (int64_t r = 0; r < c.rows; r++) {
        const float whole = dZ.at(r, j);
        const auto d = static_cast<double>(truncated(whole, cut));
        db->value += static_cast<double>(whole), db->absolute += std::fabs(static_cast<double>(whole));
        for (int64_t i = 0; i < c.n_in; i++) {
          const double p = d * static_cast<double>(truncated(A_in.at(r, i), cut));
          row[i].value += p, row[i].absolute += std::fabs(p);
        }
      }
    }
    return sums;
  }

  /* gamma of `roundings`: as in verify/bounds_dense.c, twice as many where sums may truncate. */
  void expect_within(const std::vector<float> &found, const std::vector<Sum> &sums, int variant, bool exact) {
    for (size_t i = 0; i < sums.size(); i++) {
      const bool is_bias = static_cast<int64_t>(i) >= c.n_out * ld();
      const double roundings = static_cast<double>(c.rows) * (is_bias || c.arithmetic == FP32 ? 1 : 2);
      const double u = exact || sums[i].absolute < 0 ? 0 : roundings * 0x1p-24;
      ASSERT_LE(std::fabs(static_cast<double>(found[i]) - sums[i].value), u / (1 - u) * sums[i].absolute)
          << (is_bias ? "db " : "dW ") << static_cast<int64_t>(i) / ld() << ", " << static_cast<int64_t>(i) % ld()
          << ", variant " << variant;
    }
  }

  const WeightsCase c;
  const enum element element;
  Operand dZ, A_in;
  Buffer<char> scratch;
  Buffer<unsigned> counters;
};

TEST_P(Weights, OfWholeNumbersAreExactWithColumnSumsAndWithout) {
  std::mt19937 random(1);
  const auto next = [&] { return static_cast<float>(static_cast<int>(random() % 7) - 3); };
  dZ.fill(next), A_in.fill(next);
  std::vector<Sum> sums = expected();
  for (const int variant : tried()) expect_within(run(variant), sums, variant, true);
  std::fill(sums.begin() + c.n_out * ld(), sums.end(), Sum{kUntouched, -1});
  expect_within(run(0, false), sums, 0, true);
}

TEST_P(Weights, AreWithinTheBoundAndTheSameBitsAgain) {
  std::mt19937 random(2);
  const auto next = [&] { return static_cast<float>(random()) * 0x1p-31f - 1; };
  dZ.fill(next), A_in.fill(next);
  const std::vector<Sum> sums = expected();
  for (const int variant : tried()) {
    const std::vector<float> found = run(variant);
    expect_within(found, sums, variant, false);
    ASSERT_EQ(run(variant), found) << "variant " << variant; /* blocks and warps run in another order */
  }
}

std::vector<WeightsCase> cases() {
  static const struct {
    int64_t rows, n_in, n_out;
  } shapes[] = {{1, 1, 1},      {7, 3, 2},     {32, 10, 16},  {100, 17, 1},   {257, 28, 33},
                {778, 33, 3},   {512, 64, 64}, {520, 65, 10}, {515, 16, 130}, {4401, 10, 3},
                {33, 128, 100}, {100, 63, 65}, {7, 255, 10},  {33, 256, 256}, {32, 1, 300},
                {40, 28, 300},  {32, 300, 1},  {1, 65, 320},  {7, 300, 300},  {17, 320, 65}};
  std::vector<WeightsCase> all;
  for (const auto &shape : shapes)
    for (const Arithmetic arithmetic : {FP32, TF32, BF16})
      if (shape.rows < 500 || shape.rows % 3 == arithmetic) /* the emulation is slow: long batches in turns */
        all.push_back({shape.rows, shape.n_in, shape.n_out, arithmetic});
  return all;
}

std::string name(const testing::TestParamInfo<WeightsCase> &info) {
  const WeightsCase &c = info.param;
  return std::to_string(c.rows) + "_" + std::to_string(c.n_in) + "x" + std::to_string(c.n_out) + "_" +
         kNames[c.arithmetic];
}

INSTANTIATE_TEST_SUITE_P(Passes, Weights, testing::ValuesIn(cases()), name);

TEST(WeightsKernel, TakesOnlyAlignedRowsOfNarrowMatrices) {
  const struct {
    struct device_matrix dZ, A_in;
    int64_t rows, n_in, n_out;
    bool taken;
  } cases[] = {
      {{nullptr, 64, ELEMENT_BF16}, {nullptr, 64, ELEMENT_BF16}, 256, 64, 64, true},
      {{nullptr, 64, ELEMENT_F32}, {nullptr, 60, ELEMENT_F32}, 256, 60, 64, true},
      {{nullptr, 60, ELEMENT_BF16}, {nullptr, 64, ELEMENT_BF16}, 256, 64, 60, false}, /* rows of 7.5 units */
      {{nullptr, 64, ELEMENT_F32}, {nullptr, 62, ELEMENT_F32}, 256, 62, 64, false},
      {{nullptr, 64, ELEMENT_F32}, {nullptr, 64, ELEMENT_BF16}, 256, 64, 64, false}, /* of two elements */
      {{nullptr, 64, ELEMENT_BF16}, {nullptr, 328, ELEMENT_BF16}, 256, 320, 64, true},
      {{nullptr, 64, ELEMENT_BF16}, {nullptr, 328, ELEMENT_BF16}, 256, 321, 64, false},
      {{nullptr, 328, ELEMENT_BF16}, {nullptr, 64, ELEMENT_BF16}, 256, 64, 321, false},
      {{nullptr, 64, ELEMENT_BF16}, {nullptr, 64, ELEMENT_BF16}, 0, 64, 64, false},
      {{reinterpret_cast<void *>(8), 64, ELEMENT_BF16}, {nullptr, 64, ELEMENT_BF16}, 256, 64, 64, false},
  };
  for (const auto &c : cases) {
    weights_launch launch{};
    launch.dZ = c.dZ, launch.A_in = c.A_in, launch.rows = c.rows, launch.n_in = c.n_in, launch.n_out = c.n_out;
    EXPECT_EQ(weights_variants(&launch) > 0, c.taken) << c.n_in << " x " << c.n_out << ", " << c.dZ.ld;
    launch.variant = weights_variants(&launch);
    EXPECT_NE(launch_weights(&launch, nullptr), cudaSuccess) << "a variant that there is not";
  }
}

TEST(WeightsKernel, ScratchSufficesForFewerRows) {
  const int64_t widths[][2] = {{64, 64}, {300, 28}, {300, 300}, {10, 3}, {320, 320}};
  for (const auto &n : widths) {
    size_t last = 0;
    for (int64_t rows = 1; rows < 200000; rows += 1 + rows / 50) {
      const size_t bytes = weights_scratch(rows, n[0], n[1]);
      ASSERT_GE(bytes, last) << rows << " rows, " << n[0] << " x " << n[1];
      last = bytes;
    }
    EXPECT_GT(last, 0u);
  }
}

}  // namespace
