/* The device's passes without a plan: properties on which a captured step relies but which no plan can show. Rows beyond
 * the step's, columns beyond the matrix, and the random matrices on which algorithms are timed. */
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "passes.h"

namespace {

/* ---- sums that are taken in float32 ---- */

const long double kUnit = 0x1p-53L; /* of float64 */

std::vector<float> random_floats(std::mt19937 &random, int64_t count, float low, float high) {
  std::uniform_real_distribution<float> exponent(low, high);
  std::vector<float> values(static_cast<size_t>(count));
  for (float &x : values) x = std::exp2(exponent(random)) * (random() % 2 ? 1.0F : -1.0F);
  return values;
}

/* The sum of n squares in float64 is off by at most n units, its square root by half of that plus one. */
TEST(Norm, OfALayerIsAsExactAsInFloat64) {
  std::mt19937 random(1);
  for (int64_t n : {2, 3, 16, 100, 4095, 5000, 40000}) {
    const int layers = n < 1000 ? 100 : 3;
    const int64_t each = (n + 7) / 8 * 8;
    std::vector<float> gradients;
    std::vector<flat_piece> pieces;
    for (int l = 0; l < layers; l++) {
      std::vector<float> values = random_floats(random, n, l % 2 ? -1 : -20, 0);
      values.resize(static_cast<size_t>(each), 0);
      gradients.insert(gradients.end(), values.begin(), values.end());
      for (int64_t at = 0; at < each; at += FLAT_PIECE)
        pieces.push_back(
            {l * each + at, l * each + std::min<int64_t>(each, at + FLAT_PIECE), l + 1, static_cast<int32_t>(n)});
    }
    const Buffer<float> on_device(gradients);
    const Buffer<flat_piece> cut(pieces);
    const Buffer<step_state> state(1, step_state{});
    Buffer<double> scalars(SCALAR_SLOTS, 0), norms(layers * LAYER_SLOTS, 0);
    const int count = static_cast<int>(pieces.size());
    Buffer<char> scratch(static_cast<int64_t>(norm_scratch(count, layers)), 0);
    Buffer<unsigned> counters(COUNTERS, 0);
    const Buffer<int> bad(1, 0);
    norm_launch launch{};
    launch.state = state.data, launch.gradients = on_device.data, launch.pieces = cut.data, launch.n_pieces = count;
    launch.layers = layers, launch.scalars = scalars.data, launch.layer_statistics = norms.data;
    launch.bad_parameters = bad.data, launch.scratch = {scratch.data, counters.data};
    ASSERT_EQ(launch_norm(&launch, nullptr), cudaSuccess);
    norms.fetch();
    for (int l = 0; l < layers; l++) {
      long double squares = 0;
      for (int64_t i = 0; i < n; i++) {
        const long double g = gradients[static_cast<size_t>(l * each + i)];
        squares += g * g;
      }
      const long double exact = std::sqrt(squares),
                        norm = norms.host[static_cast<size_t>(l * LAYER_SLOTS + LAYER_GRADIENT)];
      ASSERT_LE(std::fabs(norm - exact), (static_cast<long double>(n) / 2 + 1) * kUnit * exact) << n << ", layer " << l;
    }
  }
}

/* With metrics the norm leaves the scalars that the two leave one after the other: a bad step is not counted, nor are
 * its repeats. */
TEST(Norm, CountsTheStepAsMetricsAfterItWould) {
  const struct {
    double loss;
    float gradient;
    int bad_parameters;
    double bad_step, expected_bad_step;
  } steps[] = {{0.3, 2, 0, 0, 0}, {NAN, 2, 0, 0, 7}, {0.3, INFINITY, 0, 0, 7},
               {0.3, 2, 1, 0, 7}, {0.3, 2, 0, 5, 5}, {INFINITY, NAN, 1, 5, 5}};
  for (const auto &step : steps) {
    std::vector<double> left[2];
    for (const bool fused : {false, true}) {
      std::vector<double> values(SCALAR_SLOTS, 0);
      values[SCALAR_LOSS] = step.loss, values[SCALAR_WEIGHT_SUM] = 1.7, values[SCALAR_BAD_STEP] = step.bad_step;
      values[SCALAR_TOTAL_LOSS] = 0.1, values[SCALAR_TOTAL_WEIGHT] = 11;
      Buffer<double> scalars(values);
      const Buffer<float> gradients(16, step.gradient);
      const Buffer<flat_piece> pieces(std::vector<flat_piece>{{0, 8, 1, 8}, {8, 16, 1, 8}});
      step_state now{};
      now.current.number = 7;
      const Buffer<step_state> state({now});
      Buffer<char> scratch(static_cast<int64_t>(norm_scratch(2, 1)), 0);
      Buffer<unsigned> counters(COUNTERS, 0);
      const Buffer<int> bad(1, step.bad_parameters);
      norm_launch launch{};
      launch.state = state.data, launch.gradients = gradients.data, launch.pieces = pieces.data, launch.n_pieces = 2;
      launch.layers = 1, launch.scalars = scalars.data, launch.bad_parameters = bad.data, launch.metrics = fused;
      launch.scratch = {scratch.data, counters.data};
      ASSERT_EQ(launch_norm(&launch, nullptr), cudaSuccess);
      if (!fused) {
        ASSERT_EQ(launch_metrics(scalars.data, nullptr), cudaSuccess);
      }
      left[fused] = scalars.fetch();
      EXPECT_EQ(left[fused][SCALAR_BAD_STEP], step.expected_bad_step);
      EXPECT_EQ(left[fused][SCALAR_TOTAL_WEIGHT], step.expected_bad_step == 0 ? 11 + 1.7 : 11);
    }
    EXPECT_EQ(memcmp(left[0].data(), left[1].data(), left[0].size() * sizeof(double)), 0) << step.loss;
  }
}

struct Spread {
  const char *name;
  float low, high, offset;
};

TEST(Statistics, AreAsExactAsInFloat64) {
  std::mt19937 random(2);
  for (const Spread &spread : {Spread{"wide", -14, 4, 0}, Spread{"nearly alike", -24, -21, 3}})
    for (int tries = 0; tries < 20; tries++)
      for (const auto &shape : {std::pair<int64_t, int64_t>{2, 2}, {3, 4}, {1, 12}, {9, 8}, {70, 61}, {300, 20}}) {
        const int64_t rows = shape.first, n = shape.second, count = rows * n;
        std::vector<float> values = random_floats(random, count, spread.low, spread.high);
        long double mean = 0, absolute = 0, squares = 0;
        for (float &x : values) x += spread.offset, mean += x, absolute += std::fabs(x);
        mean /= static_cast<long double>(count), absolute /= static_cast<long double>(count);
        for (const float x : values) squares += (x - mean) * (x - mean);
        const long double deviation = std::sqrt(squares / static_cast<long double>(count));
        const Buffer<float> A(values);
        step_state now{};
        now.current.rows = rows;
        const Buffer<step_state> state({now});
        Buffer<double> layer(LAYER_SLOTS, 0);
        Buffer<char> scratch(static_cast<int64_t>(statistics_scratch(rows, n)), 0);
        Buffer<unsigned> counters(COUNTERS, 0);
        statistics_launch launch{};
        launch.state = state.data, launch.A = {A.data, n, ELEMENT_F32}, launch.layer_statistics = layer.data;
        launch.rows = rows, launch.n = n, launch.activation = DESCENT_ACTIVATION_IDENTITY;
        launch.scratch = {scratch.data, counters.data};
        ASSERT_EQ(launch_statistics(&launch, nullptr), cudaSuccess);
        layer.fetch();
        const long double off = static_cast<long double>(count) * kUnit * absolute;
        SCOPED_TRACE(std::string(spread.name) + ", " + std::to_string(rows) + " x " + std::to_string(n));
        ASSERT_LE(std::fabs(layer.host[LAYER_MEAN] - mean), off);
        ASSERT_LE(std::fabs(layer.host[LAYER_STD] - deviation),
                  off + static_cast<long double>(count + 4) * kUnit * deviation);
      }
}

/* A unit is active in a step if it is in any part of it. Dropped values are no evidence, here of half of the units: a
 * unit whose A is dropped in every row counts as dead. */
TEST(Statistics, OfPartsFindTheUnitsThatTheWholeStepFinds) {
  enum { ROWS = 24, N = 40, CUT = 9 };
  std::mt19937 random(4);
  for (const enum element element : {ELEMENT_F32, ELEMENT_BF16})
    for (const bool drops : {false, true}) {
      Matrix A(ROWS, N, element);
      std::vector<bool> seen(N, false);
      const uint32_t threshold = drops ? rng_drop_threshold(0.9) : 0;
      for (size_t r = 0; r < ROWS; r++)
        for (size_t j = 0; j < N; j++) {
          const bool positive = j % 4 == 0 || (j % 4 < 3 && random() % 8 == 0); /* always, rarely, never */
          A.floats.host[r * N + j] = positive ? 1.0F : 0.0F;
          A.halves.host[r * N + j] = positive ? 0x3f80 : 0;
          if (positive && rng_keep(5, 2, 3, (static_cast<uint64_t>(kBatchRow) + r) * N + j, threshold)) seen[j] = true;
        }
      A.store();
      Buffer<float> active(N, 0);
      Buffer<double> layer(LAYER_SLOTS, 0);
      Buffer<char> scratch(static_cast<int64_t>(statistics_scratch(ROWS, N)), 0);
      Buffer<unsigned> counters(COUNTERS, 0);
      statistics_launch launch{};
      launch.layer_statistics = layer.data, launch.rows = ROWS, launch.n = N;
      launch.activation = DESCENT_ACTIVATION_RELU, launch.seed = 5, launch.layer = 2, launch.threshold = threshold;
      launch.keep_probability = drops ? 0.1F : 1, launch.scratch = {scratch.data, counters.data};
      const auto run = [&](int64_t first, int64_t rows, float *marks) {
        step_state now{};
        now.current.number = 3, now.current.rows = rows, now.current.batch_row = kBatchRow + first;
        const Buffer<step_state> state({now});
        launch.state = state.data, launch.A = rows_from(A.matrix(), first), launch.rows = ROWS - first;
        launch.active = marks;
        ASSERT_EQ(launch_statistics(&launch, nullptr), cudaSuccess);
        layer.fetch();
      };
      const double expected = static_cast<double>(std::count(seen.begin(), seen.end(), false)) / N;
      EXPECT_TRUE(0.2 < expected && expected < 0.9) << expected;
      run(0, ROWS, nullptr);
      EXPECT_EQ(layer.host[LAYER_DEAD], expected);
      run(0, CUT, active.data);
      EXPECT_GT(layer.host[LAYER_DEAD], expected);
      run(CUT, 0, active.data);
      run(CUT, ROWS - CUT, active.data);
      EXPECT_EQ(layer.host[LAYER_DEAD], expected);
      active.fetch();
      for (size_t j = 0; j < N; j++) EXPECT_EQ(active.host[j], seen[j] ? 1.0F : 0.0F) << j;
    }
}

/* ---- matrices to time products on ---- */

struct FillCase {
  int64_t rows, n, ld;
  enum element element;
};

class Fill : public testing::TestWithParam<FillCase> {};

TEST_P(Fill, IsUniformOrOnesAndComparesBitByBit) {
  const FillCase c = GetParam();
  Matrix a(c.rows, c.ld, c.element), b(c.rows, c.ld, c.element);
  Buffer<unsigned long long> counts(2, 99);
  const auto compare = [&](unsigned long long differing, unsigned long long off) {
    EXPECT_EQ(launch_compare(a.matrix(), b.matrix(), c.rows, c.n, 1, counts.data, counts.data + 1, nullptr),
              cudaSuccess);
    EXPECT_EQ(counts.fetch(), (std::vector<unsigned long long>{differing, off}));
  };
  const auto all = static_cast<unsigned long long>(c.rows * c.n);
  ASSERT_EQ(launch_fill(a.matrix(), c.rows, c.n, false, 3, nullptr), cudaSuccess);
  ASSERT_EQ(launch_fill(b.matrix(), c.rows, c.n, false, 3, nullptr), cudaSuccess);
  a.fetch();
  double sum = 0, squares = 0;
  for (int64_t r = 0; r < c.rows; r++)
    for (int64_t j = 0; j < c.ld; j++) {
      const double x = static_cast<double>(a.at(r, j));
      ASSERT_TRUE(j >= c.n ? x == static_cast<double>(kUntouched) : std::fabs(x) < 1) << r << ", " << j << ": " << x;
      if (j < c.n) sum += x, squares += x * x;
    }
  const double count = static_cast<double>(c.rows * c.n); /* six standard deviations */
  EXPECT_NEAR(sum / count, 0, 6 * std::sqrt(1 / (3 * count)));
  EXPECT_NEAR(squares / count, 1.0 / 3, 6 * std::sqrt(4 / (45 * count)));
  compare(0, all);
  ASSERT_EQ(launch_fill(b.matrix(), c.rows, c.n, true, 3, nullptr), cudaSuccess);
  compare(all, all);
  ASSERT_EQ(launch_fill(a.matrix(), c.rows, c.n, true, 4, nullptr), cudaSuccess);
  compare(0, 0);
}

INSTANTIATE_TEST_SUITE_P(Passes, Fill,
                         testing::Values(FillCase{100, 33, 33, ELEMENT_F32}, FillCase{70, 64, 68, ELEMENT_F32},
                                         FillCase{9, 300, 304, ELEMENT_BF16}, FillCase{64, 31, 32, ELEMENT_BF16}));

TEST(FillBits, SetsHalfOfThem) {
  Buffer<float> words(64 * 8, 0);
  ASSERT_EQ(launch_fill_bits({words.data, 8, ELEMENT_F32}, 64, 8, 5, nullptr), cudaSuccess);
  int set[32] = {};
  for (const float word : words.fetch()) {
    uint32_t bits;
    memcpy(&bits, &word, sizeof bits);
    for (int i = 0; i < 32; i++) set[i] += bits >> i & 1;
  }
  for (const int count : set) EXPECT_NEAR(count, 256, 6 * std::sqrt(512 / 4.0));
}

/* ---- checks of a trial's result ---- */

/* Products of 6 with a bias of 1, -6 or -9 in turn, relu and its mask; or a mask that is read. */
TEST(Check, CountsWrongResultsOfAnEpilogueOnWholeNumbers) {
  enum { ROWS = 37, N = 150, LD = 152, MASK_LD = 256 };
  for (const bool written : {true, false})
    for (const enum element element : {ELEMENT_F32, ELEMENT_BF16}) {
      const float biases[] = {1, -6, -9};
      std::vector<float> bias(N);
      for (size_t j = 0; j < N; j++) bias[j] = biases[j % 3];
      std::vector<unsigned char> mask(ROWS * MASK_LD / 8, 0x55);
      Matrix C(ROWS, LD, element);
      for (size_t i = 0; i < ROWS; i++)
        for (size_t j = 0; j < N; j++) {
          const float z = written ? std::fmax(0.0f, 6 + bias[j]) : j % 2 == 0 ? 6.0f : 0.0f;
          C.floats.host[i * LD + j] = z;
          C.halves.host[i * LD + j] = static_cast<uint16_t>(z == 7 ? 0x40e0 : z == 6 ? 0x40c0 : 0);
          unsigned char &byte = mask[(i * MASK_LD + j) / 8];
          const int bit = 1 << j % 8;
          if (written) byte = static_cast<unsigned char>(z > 0 ? byte | bit : byte & ~bit);
        }
      C.store();
      Buffer<float> b(bias);
      Buffer<unsigned char> m(mask);
      Buffer<unsigned long long> wrong(2, 99);
      struct trial_result result = {};
      result.C = C.matrix(), result.rows = ROWS, result.n = N;
      result.bias = written ? b.data : nullptr, result.bias_element = ELEMENT_F32;
      result.relu = result.mask_written = written, result.mask = m.data, result.mask_ld = MASK_LD;
      const auto expect = [&](float value, unsigned long long off, unsigned long long contradicting) {
        ASSERT_EQ(launch_check(&result, value, wrong.data, nullptr), cudaSuccess);
        EXPECT_EQ(wrong.fetch(), (std::vector<unsigned long long>{off, contradicting})) << written << element << value;
      };
      expect(6, 0, 0);
      expect(NAN, 0, 0); /* any product: the mask alone */
      expect(5, written ? ROWS * 50 : ROWS * 75, 0);
      m.host[5 * MASK_LD / 8 + 149 / 8] ^= 1 << 149 % 8 | 1 << 148 % 8; /* row 5, columns 148 and 149 */
      m.store();
      expect(6, written ? 0 : 2, written ? 2 : 1); /* where the mask is read, the value of a newly set bit is unknown */
      expect(NAN, 0, written ? 2 : 1);
    }
}

TEST(Check, CountsSumsThatAreNotTheColumns) {
  Matrix C(300, 12, ELEMENT_F32);
  for (size_t i = 0; i < 300; i++)
    for (size_t j = 0; j < 10; j++) C.floats.host[i * 12 + j] = static_cast<float>((i + j) % 2);
  C.store();
  Buffer<float> sums(10, 150);
  Buffer<unsigned long long> wrong(1, 99);
  for (const unsigned long long expected : {0u, 1u}) {
    ASSERT_EQ(launch_check_sums(C.matrix(), 300, 10, sums.data, wrong.data, nullptr), cudaSuccess);
    EXPECT_EQ(wrong.fetch()[0], expected);
    sums.host[9] = 151;
    sums.store();
  }
}

/* Results that are off by a factor pass within the bound of sums of 40 terms and fail beyond it. */
TEST(Check, CountsElementsFurtherFromFloat64ThanThePrecisionAllows) {
  enum { ROWS = 20, N = 30, K = 70, FROM = 30 };
  const struct {
    enum element element;
    double unit, cut, off;
    bool right;
  } cases[] = {{ELEMENT_F32, 0x1p-24, 0, 0, true},
               {ELEMENT_F32, 0x1p-24, 0, 0x1p-13, false},
               {ELEMENT_F32, 0x1p-23, 0x1p-9, 0x1p-13, true},
               {ELEMENT_F32, 0x1p-23, 0x1p-9, 0x1p-6, false},
               {ELEMENT_BF16, 0x1p-23, 0, 0, true},
               {ELEMENT_BF16, 0x1p-23, 0, 0x1p-5, false}};
  for (const bool transposed : {false, true})
    for (const auto &each : cases) {
      Matrix A(K, K, ELEMENT_F32), B(K, K, ELEMENT_F32), C(ROWS, N, each.element);
      std::vector<float> sums(ROWS);
      const auto a = [](int i, int p) { return 1 + static_cast<float>((7 * i + 3 * p) % 11) / 16; };
      const auto b = [](int p, int j) { return 1 + static_cast<float>((5 * p + j) % 13) / 16; };
      for (int i = 0; i < ROWS; i++)
        for (int p = FROM; p < K; p++) A.floats.host[static_cast<size_t>(transposed ? p * K + i : i * K + p)] = a(i, p);
      for (int p = FROM; p < K; p++)
        for (int j = 0; j < N; j++) B.floats.host[static_cast<size_t>(transposed ? j * K + p : p * K + j)] = b(p, j);
      for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < N; j++) {
          double exact = 0;
          for (int p = FROM; p < K; p++) exact += static_cast<double>(a(i, p)) * static_cast<double>(b(p, j));
          const float c = static_cast<float>(exact * (1 + each.off));
          uint32_t bits;
          memcpy(&bits, &c, sizeof bits);
          C.floats.host[static_cast<size_t>(i * N + j)] = c;
          C.halves.host[static_cast<size_t>(i * N + j)] =
              static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
        }
      A.store(), B.store(), C.store();
      for (int i = 0; i < ROWS; i++)
        for (int p = FROM; p < K; p++) sums[static_cast<size_t>(i)] += a(i, p);
      Buffer<float> A_sums(sums);
      Buffer<unsigned long long> wrong(1, 99);
      struct trial_result result = {};
      result.C = C.matrix(), result.rows = ROWS, result.n = N;
      struct trial_factors factors = {};
      factors.A = A.matrix(), factors.B = B.matrix();
      factors.transpose_a = factors.transpose_b = transposed;
      factors.k_begin = FROM, factors.k_end = K;
      factors.A_sums = A_sums.data, factors.unit = each.unit, factors.cut = each.cut;
      const auto expect = [&](unsigned long long count) {
        ASSERT_EQ(launch_check_errors(&result, &factors, wrong.data, nullptr), cudaSuccess);
        EXPECT_EQ(wrong.fetch()[0], count) << transposed << each.off;
      };
      expect(each.right ? 0 : ROWS * N);
      A_sums.host[3] *= 1.25f;
      A_sums.store();
      expect(each.right ? N : ROWS * N);
    }
}

/* ---- scratch ---- */

/* It is allocated for the plan's rows; single operations run on a step's rows, which may be fewer. */
TEST(Scratch, ServesFewerRowsAsWell) {
  for (int64_t n : {1, 10, 30, 64, 256, 300, 784, 1024, 4096, 16384}) {
    size_t loss = 0, sums = 0, statistics = 0, gather = 0;
    for (int64_t rows = 1; rows <= 70000; rows += rows < 2000 ? 1 : 61) {
      SCOPED_TRACE(std::to_string(rows) + " rows of " + std::to_string(n));
      ASSERT_GE(loss_scratch(rows), loss);
      ASSERT_GE(column_sums_scratch(rows, n), sums);
      ASSERT_GE(statistics_scratch(rows, n), statistics);
      ASSERT_GE(gather_scratch(rows), gather);
      gather = gather_scratch(rows);
      loss = loss_scratch(rows), sums = column_sums_scratch(rows, n), statistics = statistics_scratch(rows, n);
    }
  }
}

}  // namespace
