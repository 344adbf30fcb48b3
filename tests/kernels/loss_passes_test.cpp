/* The losses' and outputs' passes without a plan: at every width whose rows are processed in another way, aligned or
 * not, against float64; rows beyond the step's, columns beyond the matrix, values that are not finite. */
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "passes.h"

namespace {

/* ---- loss beyond the step's rows ---- */

struct LossCase {
  descent_loss loss;
  int64_t n, ld;
  enum element element;
};

class Loss : public testing::TestWithParam<LossCase> {};

/* Rows beyond the step's have no effect, even if they are NaN, and have dZ = 0. */
TEST_P(Loss, LeavesOutTheRowsBeyondTheSteps) {
  const LossCase c = GetParam();
  const int64_t rows = 700, valid = 650, n_y = c.loss == DESCENT_LOSS_MEAN_SQUARED_ERROR ? c.n : 1;
  double J[2];
  for (int64_t covered : {valid, rows}) {
    Buffer<float> A(rows * c.ld, NAN), y(rows * n_y, NAN), w(rows, NAN);
    for (int64_t r = 0; r < valid; r++) {
      for (int64_t j = 0; j < c.n; j++)
        A.host[static_cast<size_t>(r * c.ld + j)] = static_cast<float>((r * 7 + j * 3) % 11 - 5);
      for (int64_t k = 0; k < n_y; k++) y.host[static_cast<size_t>(r * n_y + k)] = static_cast<float>((r + k) % 2);
      w.host[static_cast<size_t>(r)] = 1;
    }
    const Buffer<float> on_device(A.host), targets(y.host), weights(w.host);
    step_state now{};
    now.current.rows = valid;
    const Buffer<step_state> state({now});
    std::vector<double> values(SCALAR_SLOTS, 0);
    values[SCALAR_WEIGHT_SUM] = static_cast<double>(valid);
    Buffer<double> scalars(values);
    Buffer<double> partials(static_cast<int64_t>(loss_scratch(rows) / sizeof(double)), 0);
    Buffer<unsigned> counters(COUNTERS, 0);
    Matrix dZ(rows, c.ld, c.element);
    loss_launch launch{};
    launch.state = state.data, launch.A = {on_device.data, c.ld, ELEMENT_F32};
    launch.y = targets.data, launch.w = weights.data, launch.scalars = scalars.data, launch.dZ = dZ.matrix();
    launch.rows = covered, launch.n = c.n, launch.loss = c.loss, launch.activation = DESCENT_ACTIVATION_IDENTITY;
    launch.scratch = {partials.data, counters.data};
    ASSERT_EQ(launch_loss(&launch, nullptr), cudaSuccess);
    J[covered == rows] = scalars.fetch()[SCALAR_LOSS];
    EXPECT_EQ(counters.fetch(), std::vector<unsigned>(COUNTERS, 0));
    dZ.fetch();
    for (int64_t r = 0; r < rows; r++)
      for (int64_t j = 0; j < c.ld; j++) {
        const float value = dZ.at(r, j);
        if (r >= covered || j >= c.n)
          ASSERT_EQ(value, kUntouched) << r << ", " << j;
        else if (r >= valid)
          ASSERT_EQ(value, 0.0f) << r << ", " << j;
        else
          ASSERT_LT(std::fabs(value), 1.0f) << r << ", " << j;
      }
  }
  EXPECT_GT(J[1], 0.0);
  EXPECT_NEAR(J[0], J[1], 2 * rows * 0x1p-53 * J[1]); /* the same terms, none below 0, added up in another order */
}

INSTANTIATE_TEST_SUITE_P(Passes, Loss,
                         testing::Values(LossCase{DESCENT_LOSS_BINARY_CROSS_ENTROPY, 1, 1, ELEMENT_F32},
                                         LossCase{DESCENT_LOSS_BINARY_CROSS_ENTROPY, 1, 8, ELEMENT_BF16},
                                         LossCase{DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, 10, 12, ELEMENT_F32},
                                         LossCase{DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, 20, 24, ELEMENT_BF16},
                                         LossCase{DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, 37, 37, ELEMENT_F32},
                                         LossCase{DESCENT_LOSS_MEAN_SQUARED_ERROR, 5, 8, ELEMENT_BF16},
                                         LossCase{DESCENT_LOSS_MEAN_SQUARED_ERROR, 40, 44, ELEMENT_F32},
                                         LossCase{DESCENT_LOSS_MEAN_SQUARED_ERROR, 19, 24, ELEMENT_BF16}));

/* The difference of two logits may exceed the largest float32; the loss does not. */
TEST(Loss, IsFiniteForFiniteLogits) {
  const Buffer<float> A({3e38F, -3e38F, 0}), y({1}), w({1});
  step_state now{};
  now.current.rows = 1;
  const Buffer<step_state> state({now});
  std::vector<double> values(SCALAR_SLOTS, 0);
  values[SCALAR_WEIGHT_SUM] = 1;
  Buffer<double> scalars(values);
  Buffer<unsigned> counters(COUNTERS, 0);
  loss_launch launch{};
  launch.state = state.data, launch.A = {A.data, 3, ELEMENT_F32}, launch.y = y.data, launch.w = w.data;
  launch.scalars = scalars.data, launch.rows = 1, launch.n = 3, launch.loss = DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY;
  launch.scratch = {nullptr, counters.data};
  ASSERT_EQ(launch_loss(&launch, nullptr), cudaSuccess);
  EXPECT_NEAR(scalars.fetch()[SCALAR_LOSS], 6e38, 6e38 * 0x1p-22);
}

/* ---- softmax against float64 ---- */

/* Each side of every limit between two ways of processing a row, whole and partial chunks of four columns. */
const int64_t widths[] = {1,  2,   3,   7,   8,   10,  15,  16,  17,   31,   32,   33,   63,   64,
                          65, 100, 127, 128, 255, 256, 257, 500, 1000, 1024, 1025, 4096, 4097, 5000};

/* Rows of logits that bf16 holds exactly, labels and weights; J and dZ in float64. */
struct Rows {
  int64_t rows, n;
  double smoothing;
  std::vector<float> z, y, w; /* (rows, n), (rows), (rows) */
  double weight_sum = 0;
  Rows(int64_t rows_, int64_t n_, double smoothing_) : rows(rows_), n(n_), smoothing(smoothing_) {
    std::mt19937 random(static_cast<unsigned>(n));
    for (int64_t i = 0; i < rows * n; i++) z.push_back(static_cast<float>(static_cast<int>(random() % 256) - 128) / 16);
    for (int64_t r = 0; r < rows; r++) {
      y.push_back(static_cast<float>(random() % static_cast<unsigned>(n)));
      w.push_back(static_cast<float>(1 + random() % 4) / 2);
      weight_sum += static_cast<double>(w.back());
    }
  }
  float &at(int64_t r, int64_t j) { return z[static_cast<size_t>(r * n + j)]; }
  /* P of row r; its share of J. */
  double exact(int64_t r, std::vector<double> &P) const {
    const float *row = &z[static_cast<size_t>(r * n)];
    const double max = static_cast<double>(*std::max_element(row, row + n));
    double sum = 0, distances = 0;
    P.assign(static_cast<size_t>(n), 0);
    for (int64_t j = 0; j < n; j++) {
      sum += P[static_cast<size_t>(j)] = std::exp(static_cast<double>(row[j]) - max);
      distances += max - static_cast<double>(row[j]);
    }
    for (double &p : P) p /= sum;
    const double distance = max - static_cast<double>(row[static_cast<size_t>(y[static_cast<size_t>(r)])]);
    const double L = std::log(sum) + (1 - smoothing) * distance + smoothing * distances / static_cast<double>(n);
    return L * static_cast<double>(w[static_cast<size_t>(r)]) / weight_sum;
  }
};

/* The logits on the device, with `beyond` further rows and padding of NaN. */
struct Logits : Matrix {
  Logits(const Rows &c, int64_t ld_, enum element element_, int64_t beyond) : Matrix(c.rows + beyond, ld_, element_) {
    std::fill(floats.host.begin(), floats.host.end(), NAN);
    std::fill(halves.host.begin(), halves.host.end(), static_cast<uint16_t>(0x7fc0));
    for (int64_t r = 0; r < c.rows; r++)
      for (int64_t j = 0; j < c.n; j++) {
        const float value = c.z[static_cast<size_t>(r * c.n + j)];
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        floats.host[static_cast<size_t>(r * ld + j)] = value;
        halves.host[static_cast<size_t>(r * ld + j)] = static_cast<uint16_t>(bits >> 16);
      }
    store();
  }
};

step_state state_of(int64_t rows) {
  step_state now{};
  now.current.rows = rows;
  return now;
}

/* J; dZ may be NULL. `beyond` rows are covered by the launch and are not the step's. */
double softmax_loss(const Rows &c, Logits &A, Matrix *dZ, int64_t beyond) {
  std::vector<float> all_y = c.y, all_w = c.w;
  all_y.resize(static_cast<size_t>(c.rows + beyond), NAN), all_w.resize(static_cast<size_t>(c.rows + beyond), NAN);
  const Buffer<float> y(all_y), w(all_w);
  const Buffer<step_state> state({state_of(c.rows)});
  std::vector<double> values(SCALAR_SLOTS, 0);
  values[SCALAR_WEIGHT_SUM] = c.weight_sum;
  Buffer<double> scalars(values);
  Buffer<double> partials(static_cast<int64_t>(loss_scratch(c.rows + beyond) / sizeof(double)), 0);
  Buffer<unsigned> counters(COUNTERS, 0);
  loss_launch launch{};
  launch.state = state.data, launch.A = A.matrix(), launch.y = y.data, launch.w = w.data, launch.scalars = scalars.data;
  if (dZ) launch.dZ = dZ->matrix();
  launch.rows = c.rows + beyond, launch.n = c.n, launch.loss = DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY;
  launch.label_smoothing = static_cast<float>(c.smoothing);
  launch.scratch = {partials.data, counters.data};
  EXPECT_EQ(launch_loss(&launch, nullptr), cudaSuccess);
  if (dZ) dZ->fetch();
  return scalars.fetch()[SCALAR_LOSS];
}

/* A step of few rows, at most three blocks of them. */
int64_t rows_for(int64_t n) { return n <= 64 ? 131 : n <= 256 ? 33 : n <= 1024 ? 17 : 3; }

/* Rounding of the exponents, which are below 16, of the exponentials and of their sum. */
double tolerance(int64_t n) { return (40 + static_cast<double>(n) / 8) * 0x1p-24; }

class Softmax : public testing::TestWithParam<int64_t> {};

TEST_P(Softmax, LossAndGradientAreThoseOfFloat64AtAnyStride) {
  const int64_t n = GetParam(), beyond = 2, rows = rows_for(n);
  std::vector<double> P;
  double first = 0;
  for (const bool smoothed : {false, true})
    for (const bool aligned : {false, true})
      for (const enum element element : {ELEMENT_F32, ELEMENT_BF16}) {
        const int64_t ld = aligned ? (n + 7) / 8 * 8 : n + 1 - n % 2; /* odd */
        SCOPED_TRACE("ld " + std::to_string(ld) + (smoothed ? ", smoothed" : "") +
                     (element == ELEMENT_BF16 ? ", A in bf16" : ", A in float32"));
        const Rows c(rows, n, smoothed ? 0.25 : 0);
        Logits A(c, ld, element, beyond);
        Matrix dZ(rows + beyond, ld, smoothed == aligned ? ELEMENT_F32 : ELEMENT_BF16);
        const double J = softmax_loss(c, A, &dZ, beyond), unit = dZ.element == ELEMENT_F32 ? 0 : 0x1p-8;
        double exact = 0;
        for (int64_t r = 0; r < rows; r++) {
          exact += c.exact(r, P);
          const double f = static_cast<double>(c.w[static_cast<size_t>(r)]) / c.weight_sum;
          for (int64_t j = 0; j < ld; j++) {
            if (j >= n) {
              ASSERT_EQ(dZ.at(r, j), kUntouched) << r << ", " << j;
              continue;
            }
            const bool hit = j == static_cast<int64_t>(c.y[static_cast<size_t>(r)]);
            const double p = P[static_cast<size_t>(j)], q = (hit ? 1 - c.smoothing : 0) + c.smoothing / (double)n;
            ASSERT_NEAR(dZ.at(r, j), (p - q) * f, (tolerance(n) * (p + q) + unit * std::fabs(p - q)) * f)
                << r << ", " << j;
          }
        }
        ASSERT_NEAR(J, exact, tolerance(n) * (exact + 1));
        for (int64_t r = rows; r < rows + beyond; r++)
          for (int64_t j = 0; j < ld; j++) ASSERT_EQ(dZ.at(r, j), j < n ? 0.0f : kUntouched) << r << ", " << j;
        ASSERT_EQ(softmax_loss(c, A, nullptr, beyond), J) << "without a gradient";
        if (!aligned && element == ELEMENT_F32)
          first = J;
        else
          ASSERT_EQ(J, first) << "the logits are the same, and so is the order of their sums";
      }
}

TEST_P(Softmax, OutputIsThatOfFloat64AtAnyStride) {
  const int64_t n = GetParam(), beyond = 2, rows = rows_for(n);
  const Rows c(rows, n, 0);
  std::vector<double> exact;
  for (const bool aligned : {false, true})
    for (const enum element element : {ELEMENT_F32, ELEMENT_BF16}) {
      Logits A(c, aligned ? (n + 7) / 8 * 8 : n + 1 - n % 2, element, beyond);
      const Buffer<step_state> state({state_of(rows)});
      Buffer<float> P((rows + beyond) * n, kUntouched);
      output_launch launch{};
      launch.state = state.data, launch.A = A.matrix(), launch.P = P.data;
      launch.rows = rows + beyond, launch.n = n, launch.loss = DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY;
      ASSERT_EQ(launch_output(&launch, nullptr), cudaSuccess);
      P.fetch();
      for (int64_t r = 0; r < rows + beyond; r++) {
        if (r < rows) c.exact(r, exact);
        for (int64_t j = 0; j < n; j++) {
          const float p = P.host[static_cast<size_t>(r * n + j)];
          if (r >= rows)
            ASSERT_EQ(p, kUntouched) << r << ", " << j;
          else
            ASSERT_NEAR(p, exact[static_cast<size_t>(j)], tolerance(n) * exact[static_cast<size_t>(j)])
                << r << ", " << j;
        }
      }
    }
}

/* NaN or plus infinity anywhere makes J and the row's gradient NaN, and no other row's. Minus infinity is a probability
 * of 0; with it as the label's logit J is infinite. */
TEST_P(Softmax, KeepsWhatIsNotFinite) {
  const int64_t n = GetParam(), rows = 3;
  std::mt19937 random(1);
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    Rows c(rows, n, 0);
    const int64_t column = static_cast<int64_t>(random() % static_cast<unsigned>(n));
    c.at(1, column) = bad;
    c.y[1] = static_cast<float>(n > 1 && column == 0 ? 1 : 0); /* another column, if there is one */
    SCOPED_TRACE("column " + std::to_string(column) + ", " + std::to_string(bad));
    Logits A(c, (n + 7) / 8 * 8, ELEMENT_F32, 0);
    Matrix dZ(rows, A.ld, ELEMENT_F32);
    const bool spoils = !(bad < 0) || n == 1;
    ASSERT_EQ(std::isnan(softmax_loss(c, A, &dZ, 0)), spoils);
    for (int64_t r = 0; r < rows; r++)
      for (int64_t j = 0; j < n; j++) ASSERT_EQ(std::isnan(dZ.at(r, j)), spoils && r == 1) << r << ", " << j;
    if (spoils) continue;
    ASSERT_EQ(dZ.at(1, column), 0.0f);
    c.y[1] = static_cast<float>(column);
    ASSERT_EQ(softmax_loss(c, A, nullptr, 0), INFINITY);
  }
}

/* The exponentials of these are at both ends of float32, in every order of the columns. */
TEST_P(Softmax, HasSmallProbabilitiesToTheLastBit) {
  const int64_t n = GetParam(), rows = 8;
  Rows c(rows, n, 0);
  for (int64_t r = 0; r < rows; r++)
    for (int64_t j = 0; j < n; j++)
      c.at(r, j) = -static_cast<float>((r % 2 ? j : n - 1 - j) * (r + 1) * 13 % 131); /* 0 to -130, beyond -104 */
  c.w.assign(static_cast<size_t>(rows), 1), c.weight_sum = 1;                         /* dZ is p - q */
  Logits A(c, (n + 7) / 8 * 8, ELEMENT_F32, 0);
  Matrix dZ(rows, A.ld, ELEMENT_F32);
  softmax_loss(c, A, &dZ, 0);
  std::vector<double> P;
  for (int64_t r = 0; r < rows; r++) {
    c.exact(r, P);
    for (int64_t j = 0; j < n; j++) {
      const double p = P[static_cast<size_t>(j)], q = j == static_cast<int64_t>(c.y[static_cast<size_t>(r)]) ? 1 : 0;
      ASSERT_NEAR(dZ.at(r, j), p - q, tolerance(n) * (p + q) + 0x1p-149) << r << ", " << j;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Passes, Softmax, testing::ValuesIn(widths));

/* A row's threads keep a row each until all have one; here every block does that, and most begin again. */
TEST(Softmax, LossHasEveryRowOfALongStepOnce) {
  const int64_t rows = 550001;
  const Rows c(rows, 2, 0);
  Logits A(c, 2, ELEMENT_F32, 0);
  double exact = 0;
  std::vector<double> P;
  for (int64_t r = 0; r < rows; r++) exact += c.exact(r, P);
  EXPECT_NEAR(softmax_loss(c, A, nullptr, 0), exact, 1e-6 * exact);
}

}  // namespace
