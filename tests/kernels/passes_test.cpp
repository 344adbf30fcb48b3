/* The device's passes without a plan: properties on which a captured step relies but which no plan can show. The queue
 * of steps, rows beyond the step's, columns beyond the matrix, and the random matrices on which algorithms are
 * timed. */
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "passes.h"

namespace {

/* ---- gather from the queue ---- */

struct GatherCase {
  int64_t rows, n_x, ld, n_y;
  enum element element;
};

class Gather : public testing::TestWithParam<GatherCase> {};

/* Source row s holds s + j / 64 in X, s + k in y and s + 1 in w, all exact. */
TEST_P(Gather, FollowsTheQueueAndStopsAfterABadStep) {
  const GatherCase c = GetParam();
  const int64_t source_rows = 3 * c.rows;
  std::vector<float> X, y, w;
  for (int64_t s = 0; s < source_rows; s++) {
    for (int64_t j = 0; j < c.n_x; j++) X.push_back(static_cast<float>(s % 64) + static_cast<float>(j % 4) / 4);
    for (int64_t k = 0; k < c.n_y; k++) y.push_back(static_cast<float>(s + k));
    w.push_back(static_cast<float>(s + 1));
  }
  const Buffer<float> source_X(X), source_y(y), source_w(w);
  const Buffer<source_table> table({{source_X.data, source_y.data, source_w.data, nullptr, false}});
  std::vector<device_step> steps(3);
  for (size_t i = 0; i < steps.size(); i++) {
    steps[i].number = static_cast<int64_t>(i) + 1;
    steps[i].first_row = static_cast<int64_t>(i) * c.rows;
    steps[i].rows = i == 1 ? c.rows / 2 + 1 : c.rows;
    steps[i].update.learning_rate = static_cast<float>(i) / 2;
  }
  const Buffer<device_step> queue(steps);
  Buffer<step_state> state(1, step_state{});
  Buffer<double> bad_step(1, 0), weight_sum(1, -1);
  Matrix to(c.rows, c.ld, c.element);
  Buffer<float> to_y(c.rows * c.n_y, kUntouched), to_w(c.rows, kUntouched);
  Buffer<int64_t> source(c.rows, 0);
  Buffer<double> partials(static_cast<int64_t>(gather_scratch(c.rows) / sizeof(double)), 0);
  Buffer<unsigned> counters(COUNTERS, 0);
  gather_launch launch{};
  launch.state = state.data, launch.queue = queue.data, launch.bad_step = bad_step.data, launch.sources = table.data;
  launch.X = to.matrix(), launch.y = to_y.data, launch.w = to_w.data, launch.weight_sum = weight_sum.data;
  launch.n_x = c.n_x, launch.n_y = c.n_y, launch.rows = c.rows, launch.source = source.data;
  launch.scratch = {partials.data, counters.data};

  size_t current = 0; /* step whose rows must be there */
  for (size_t turn = 0; turn < 4; turn++) {
    SCOPED_TRACE("turn " + std::to_string(turn));
    if (turn < 2) current = turn;
    const double bad = turn == 2 ? 2 : 0; /* turn 2 does nothing, turn 3 continues */
    if (turn == 3) current = 2;
    ASSERT_EQ(cudaMemcpy(bad_step.data, &bad, sizeof bad, cudaMemcpyHostToDevice), cudaSuccess);
    const std::vector<float> now = turn == 2 ? std::vector<float>(X.size(), 99) : X; /* another window of the data */
    ASSERT_EQ(cudaMemcpy(source_X.data, now.data(), now.size() * sizeof(float), cudaMemcpyHostToDevice), cudaSuccess);
    ASSERT_EQ(launch_gather(&launch, nullptr), cudaSuccess);
    const device_step &step = steps[current];
    EXPECT_EQ(state.fetch()[0].next, static_cast<int64_t>(current) + 1);
    EXPECT_EQ(memcmp(&state.host[0].current, &step, sizeof step), 0);
    to.fetch(), to_y.fetch(), to_w.fetch();
    double sum = 0;
    for (int64_t r = 0; r < c.rows; r++) {
      const int64_t s = step.first_row + r;
      const bool valid = r < step.rows;
      for (int64_t j = 0; j < c.ld; j++)
        ASSERT_EQ(to.at(r, j), j >= c.n_x ? kUntouched
                               : valid    ? X[static_cast<size_t>(s * c.n_x + j)]
                                          : 0.0f)
            << "row " << r << ", column " << j;
      for (int64_t k = 0; k < c.n_y; k++)
        ASSERT_EQ(to_y.host[static_cast<size_t>(r * c.n_y + k)], valid ? static_cast<float>(s + k) : 0.0f) << r;
      ASSERT_EQ(to_w.host[static_cast<size_t>(r)], valid ? static_cast<float>(s + 1) : 0.0f) << r;
      if (valid) sum += static_cast<double>(s + 1);
    }
    EXPECT_EQ(weight_sum.fetch()[0], sum);
    EXPECT_EQ(counters.fetch(), std::vector<unsigned>(COUNTERS, 0));
  }
}

INSTANTIATE_TEST_SUITE_P(Passes, Gather,
                         testing::Values(GatherCase{1, 1, 1, 1, ELEMENT_F32}, GatherCase{7, 5, 8, 1, ELEMENT_F32},
                                         GatherCase{300, 28, 32, 1, ELEMENT_BF16},
                                         GatherCase{1024, 4, 4, 2, ELEMENT_F32},
                                         GatherCase{1025, 3, 8, 4, ELEMENT_BF16},
                                         GatherCase{3000, 8, 12, 1, ELEMENT_F32},
                                         GatherCase{33, 1300, 1304, 1, ELEMENT_BF16}));

TEST(Passes, FetchTakesTheQueuesNextStep) {
  std::vector<device_step> steps(2);
  for (int i : {0, 1})
    steps[static_cast<size_t>(i)].number = i + 5, steps[static_cast<size_t>(i)].update.root_bias_correction = 0.5f;
  const Buffer<device_step> queue(steps);
  Buffer<step_state> state(1, step_state{});
  for (size_t i = 0; i < 2; i++) {
    ASSERT_EQ(launch_fetch(state.data, queue.data, nullptr), cudaSuccess);
    EXPECT_EQ(memcmp(&state.fetch()[0].current, &steps[i], sizeof steps[i]), 0);
    EXPECT_EQ(state.host[0].next, static_cast<int64_t>(i) + 1);
  }
}

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
    size_t loss = 0, sums = 0, statistics = 0;
    for (int64_t rows = 1; rows <= 70000; rows += rows < 2000 ? 1 : 61) {
      SCOPED_TRACE(std::to_string(rows) + " rows of " + std::to_string(n));
      ASSERT_GE(loss_scratch(rows, n), loss);
      ASSERT_GE(column_sums_scratch(rows, n), sums);
      ASSERT_GE(statistics_scratch(rows, n), statistics);
      loss = loss_scratch(rows, n), sums = column_sums_scratch(rows, n), statistics = statistics_scratch(rows, n);
    }
  }
}

}  // namespace
