/* The element-wise formulas against libm in double, over a stride through all floats, and the products against double,
 * in every instruction set that this machine has. The bounds are the ones that the comments of formulas.h state. */
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "internal.h"
extern "C" {
#include "backend/cpu/kernels.h"
}
#include "backend/formulas.h"

namespace {

constexpr double u = 0x1p-24;              /* unit round-off */
constexpr double subnormal = 0x1p-149;     /* the spacing below the smallest normal float */
constexpr double largest = 0x1.ffffffp127; /* from here on a float rounds to infinity */
constexpr uint32_t stride = 3061;          /* a prime: visits every exponent, both signs */

double sigmoid(double z) { return 1 / (1 + std::exp(-z)); }
double Phi(double z) { return 0.5 * std::erfc(-z * std::sqrt(0.5)); }
double phi(double z) { return std::exp(-0.5 * z * z) * 0.3989422804014327; }
double relu(double z) { return std::fmax(z, 0); }

std::vector<const struct kernels *> tables() {
  std::vector<const struct kernels *> all = {&kernels_baseline};
#ifdef __x86_64__
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) all.push_back(&kernels_v3);
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw"))
    all.push_back(&kernels_v4);
#endif
  return all;
}

/* Every stride-th finite float, every 2^-10 around 0, and the corners. */
std::vector<float> arguments() {
  std::vector<float> z = {0.0f, -0.0f, 88.72284f, -103.97f, 3.4028235e38f, -3.4028235e38f};
  for (int i = -20000; i <= 20000; i++) z.push_back((float)i / 1024);
  for (uint64_t bits = 0; bits <= UINT32_MAX; bits += stride) {
    const float x = float_from_bits((uint32_t)bits);
    if (std::isfinite(x)) z.push_back(x);
  }
  return z;
}

/* The allowed error is units * u * max(|exact|, floor(z)) and, where the result is subnormal, |z| of its spacings. */
void compare(const std::string &name, const std::vector<float> &z, const std::vector<float> &ours,
             double (*exact)(double), double units, double (*floor)(double)) {
  double worst = 0;
  float at = 0;
  for (size_t i = 0; i < z.size(); i++) {
    const double y = exact(z[i]);
    if (y >= largest) {
      EXPECT_EQ(ours[i], INFINITY) << name << "(" << z[i] << ")";
      continue;
    }
    const double scale = std::fmax(std::fabs(y), floor(z[i]));
    const double slack = scale < 0x1p-118 ? subnormal * std::fmax(1, std::fabs((double)z[i])) : 0;
    const double error = (std::fabs(ours[i] - y) - slack) / (scale * u + subnormal);
    if (!(error <= worst)) worst = error, at = z[i];
  }
  EXPECT_LE(worst, units) << name << " at " << at;
}

double none(double) { return 0; }
double one(double) { return 1; }
double magnitude(double z) { return std::fabs(z); }

struct Scalar {
  const char *name;
  float (*ours)(float);
  double (*exact)(double);
  double units;
};
const Scalar scalars[] = {
    {"exp", formula_exp, [](double z) { return std::exp(z); }, 1.4},
    {"softplus_tail", formula_softplus_tail, [](double z) { return std::log1p(std::exp(-std::fabs(z))); }, 3.5},
};

TEST(Formulas, StayWithinTheirStatedErrors) {
  const std::vector<float> z = arguments();
  for (const Scalar &f : scalars) {
    std::vector<float> ours;
    for (float x : z) ours.push_back(f.ours(x));
    compare(f.name, z, ours, f.exact, f.units, none);
  }
}

struct Activation {
  descent_activation activation;
  double (*exact)(double);
  double units;
  double (*floor)(double);
  double (*slope)(double); /* from z; NULL where the slope is taken from a */
  double slope_units;
};
const Activation activations[] = {
    {DESCENT_ACTIVATION_IDENTITY, [](double z) { return z; }, 0, none, nullptr, 0},
    {DESCENT_ACTIVATION_SIGMOID, sigmoid, 3, none, nullptr, 0},
    {DESCENT_ACTIVATION_TANH, [](double z) { return std::tanh(z); }, 3, none, nullptr, 0},
    {DESCENT_ACTIVATION_RELU, relu, 0, none, nullptr, 0},
    {DESCENT_ACTIVATION_LEAKY_RELU, [](double z) { return z > 0 ? z : 0.01 * z; }, 1.4, none, nullptr, 0},
    {DESCENT_ACTIVATION_GELU, [](double z) { return z * Phi(z); }, 2.8, magnitude,
     [](double z) { return Phi(z) + z * phi(z); }, 3},
    {DESCENT_ACTIVATION_SILU, [](double z) { return z * sigmoid(z); }, 3.5, none,
     [](double z) { return sigmoid(z) * (1 + z * sigmoid(-z)); }, 3.5},
};

static_assert(std::size(activations) == N_ACTIVATIONS, "a row for each");

TEST(Formulas, HaveAScaledExponentialOfDifferences) {
  std::vector<float> x, ours;
  for (float z : arguments())
    if (z <= 0 && z >= -104) x.push_back(z), ours.push_back(formula_scaled_exp(z));
  compare(
      "scaled_exp", x, ours, [](double z) { return std::exp(z) * 0x1p32; }, 1.7, none);
  for (const float below : {-104.5f, -1e9f, -INFINITY, NAN})
    EXPECT_EQ(formula_scaled_exp(below), formula_scaled_exp(-104.0f)) << below;
}

TEST(Formulas, HaveALogarithmForSumsOfExponentials) {
  std::vector<float> x;
  for (uint32_t bits = float_bits(1.0f); bits < float_bits(1e9f); bits += 101) x.push_back(float_from_bits(bits));
  std::vector<float> ours;
  for (float value : x) ours.push_back(formula_log(value));
  compare(
      "log", x, ours, [](double v) { return std::log(v); }, 1.8, [](double) { return 0.5; });
  EXPECT_EQ(formula_log(1.0f), 0.0f);
  EXPECT_TRUE(std::isnan(formula_log(NAN)));
}

TEST(Formulas, StayWithinTheirStatedErrorsInEveryInstructionSet) {
  const std::vector<float> z = arguments(), zero(z.size(), 0.0f);
  for (const struct kernels *k : tables())
    for (const Activation &f : activations) {
      const std::string name = std::string(k->name) + " " + descent_activation_name(f.activation);
      std::vector<float> ours = z;
      k->forward(f.activation, zero.data(), ours.data(), ours.data(), (int64_t)z.size());
      compare(name, z, ours, f.exact, f.units, f.floor);
      EXPECT_EQ(slope_is_from_z(f.activation), f.slope != nullptr) << name;
      if (!f.slope) continue;
      std::vector<float> dZ(z.size(), 1.0f);
      k->backward(f.activation, ours.data(), z.data(), 1.0f, dZ.data(), (int64_t)z.size());
      compare(name + " slope", z, dZ, f.slope, f.slope_units, one);
    }
}

TEST(Formulas, KeepNanAndHaveTheirLimitsAtInfinity) {
  struct Limit {
    descent_activation activation;
    float below, above;
  };
  const Limit limits[] = {
      {DESCENT_ACTIVATION_IDENTITY, -INFINITY, INFINITY},
      {DESCENT_ACTIVATION_SIGMOID, 0, 1},
      {DESCENT_ACTIVATION_TANH, -1, 1},
      {DESCENT_ACTIVATION_RELU, 0, INFINITY},
      {DESCENT_ACTIVATION_LEAKY_RELU, -INFINITY, INFINITY},
      {DESCENT_ACTIVATION_GELU, 0, INFINITY},
      {DESCENT_ACTIVATION_SILU, 0, INFINITY},
  };
  static_assert(std::size(limits) == N_ACTIVATIONS, "a row for each");
  for (const struct kernels *k : tables())
    for (const Limit &limit : limits) {
      /* 33 values: whole vectors and the remainder must give the same results. */
      std::vector<float> nan(33, NAN), minus(33, -INFINITY), plus(33, INFINITY), zero(33, 0.0f);
      for (std::vector<float> *z : {&nan, &minus, &plus})
        k->forward(limit.activation, zero.data(), z->data(), z->data(), 33);
      for (size_t i = 0; i < 33; i++) {
        EXPECT_TRUE(std::isnan(nan[i])) << k->name << " " << descent_activation_name(limit.activation);
        EXPECT_EQ(minus[i], limit.below) << k->name << " " << descent_activation_name(limit.activation);
        EXPECT_EQ(plus[i], limit.above) << k->name << " " << descent_activation_name(limit.activation);
      }
      std::vector<float> Z(33, NAN), dZ(33, 1.0f);
      if (!slope_is_from_z(limit.activation)) continue;
      k->backward(limit.activation, Z.data(), Z.data(), 1.0f, dZ.data(), 33);
      for (float d : dZ) EXPECT_TRUE(std::isnan(d)) << k->name;
      for (float end : {-INFINITY, INFINITY}) {
        Z.assign(33, end);
        dZ.assign(33, 1.0f);
        k->backward(limit.activation, Z.data(), Z.data(), 1.0f, dZ.data(), 33);
        for (float d : dZ) EXPECT_EQ(d, end > 0 ? 1.0f : 0.0f) << k->name;
      }
    }
  EXPECT_TRUE(std::isnan(formula_exp(NAN)));
  EXPECT_TRUE(std::isnan(formula_softplus_tail(NAN)));
  EXPECT_EQ(formula_exp(-INFINITY), 0.0f);
  EXPECT_EQ(formula_exp(INFINITY), INFINITY);
  EXPECT_EQ(formula_softplus_tail(-INFINITY), 0.0f);
  EXPECT_EQ(formula_softplus_tail(INFINITY), 0.0f);
}

TEST(Kernels, DropTheValuesThatTheGeneratorNames) {
  for (const struct kernels *k : tables())
    for (int64_t first : {0, 1, 3, 64, 1000003})
      for (int64_t n : {1, 2, 5, 63, 64, 65, 300}) {
        const struct kernel_dropout dropout = {0x123456789abcdefULL, 77, 0, 3, rng_drop_threshold(0.4), 2.5f};
        std::vector<float> values((size_t)n, 2.0f);
        k->dropout(&dropout, first, values.data(), n);
        for (int64_t i = 0; i < n; i++)
          ASSERT_EQ(values[(size_t)i],
                    rng_keep(dropout.seed, dropout.layer, dropout.step, (uint64_t)(first + i), dropout.threshold)
                        ? 5.0f
                        : 0.0f)
              << k->name << " first " << first << " n " << n << " i " << i;
      }
}

TEST(Kernels, PermuteAsTheScalarFormulaDoes) {
  for (const struct kernels *k : tables())
    for (uint64_t n : {1, 2, 17, 64, 1000, 65536, 70001}) {
      const struct permutation order = permutation_create(42, RNG_SHUFFLE, 3, n);
      const int64_t count = n < 300 ? (int64_t)n : 300, first = (int64_t)n - count;
      std::vector<int64_t> rows((size_t)count, -1);
      k->permute(&order, first, rows.data(), count);
      for (int64_t j = 0; j < count; j++)
        ASSERT_EQ(rows[(size_t)j], (int64_t)permutation_index(&order, (uint64_t)(first + j)))
            << k->name << " n " << n << " j " << j;
    }
}

/* A matrix whose rows are `stride` apart; what lies between them must not be read or written: NaN. */
struct Matrix {
  int64_t rows, columns, stride;
  std::vector<float> values;

  Matrix(int64_t m, int64_t n, uint64_t purpose)
      : rows(m), columns(n), stride(n + 3), values((size_t)(m * (n + 3)), NAN) {
    for (int64_t r = 0; r < m && purpose; r++)
      for (int64_t j = 0; j < n; j++)
        at(r, j) = (float)rng_uniform(1, RNG_SYNTHETIC, 0, purpose, (uint64_t)(r * n + j)) * 2 - 1;
  }
  float &at(int64_t r, int64_t j) { return values[(size_t)(r * stride + j)]; }
};

/* C (m, n) = sum over t < k of left(i, t) right(t, j): within gamma(k) of the exact one in any order (Higham 2002,
 * 3.1), and nothing beside it is written. */
template <class Left, class Right>
void expect_product(const std::string &name, Matrix &C, int64_t k, const Left &left, const Right &right) {
  for (int64_t i = 0; i < C.rows; i++) {
    for (int64_t j = 0; j < C.columns; j++) {
      double exact = 0, magnitude = 0;
      for (int64_t t = 0; t < k; t++) {
        const double term = (double)left(i, t) * (double)right(t, j);
        exact += term;
        magnitude += std::fabs(term);
      }
      ASSERT_LE(std::fabs((double)C.at(i, j) - exact), (double)k * u / (1 - (double)k * u) * magnitude)
          << name << " " << C.rows << " x " << C.columns << " of " << k << ", element " << i << ", " << j;
    }
    for (int64_t j = C.columns; j < C.stride; j++) ASSERT_TRUE(std::isnan(C.at(i, j))) << name << " row " << i;
  }
}

/* Every number of rows and columns up to those of two blocks, then the most rows; sums shorter than a vector, of whole
 * vectors, with a remainder, and longer than one pass. */
template <class Body>
void for_products(const Body &body) {
  for (const struct kernels *kernels : tables())
    for (int64_t m : {1, 2, 3, 4, 5, 6, 7, 11, 13, (int)KERNEL_FEW_ROWS})
      for (int64_t n : {1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 64, 83})
        for (int64_t k : {1, 3, 7, 8, 16, 30, 129, 300}) body(kernels, m, n, k);
}

TEST(Kernels, MultiplyFewRowsByTheTransposeWithinTheBoundOfTheirSums) {
  for_products([](const struct kernels *kernels, int64_t m, int64_t n, int64_t k) {
    Matrix A(m, k, 1), W(n, k, 2), C(m, n, 0);
    kernels->product(m, n, k, A.values.data(), A.stride, W.values.data(), W.stride, C.values.data(), C.stride);
    expect_product(
        kernels->name, C, k, [&](int64_t i, int64_t t) { return A.at(i, t); },
        [&](int64_t t, int64_t j) { return W.at(j, t); });
  });
}

TEST(Kernels, CombineRowsWithinTheBoundOfTheirSums) {
  for_products([](const struct kernels *kernels, int64_t m, int64_t n, int64_t k) {
    Matrix S(m, k, 1), B(k, n, 2), C(m, n, 0), T(k, m, 3), D(m, n, 0);
    kernels->combine(m, n, k, S.values.data(), S.stride, 1, B.values.data(), B.stride, C.values.data(), C.stride);
    expect_product(
        kernels->name, C, k, [&](int64_t i, int64_t t) { return S.at(i, t); },
        [&](int64_t t, int64_t j) { return B.at(t, j); });
    kernels->combine(m, n, k, T.values.data(), 1, T.stride, B.values.data(), B.stride, D.values.data(), D.stride);
    expect_product(
        kernels->name, D, k, [&](int64_t i, int64_t t) { return T.at(t, i); },
        [&](int64_t t, int64_t j) { return B.at(t, j); });
  });
}

/* A matrix in which some numbers are 0, -0, so small that products vanish, or infinite. In the first row, all products
 * with another such row vanish, to -0 where `purpose` is 2 there. */
Matrix with_extremes(int64_t m, int64_t n, uint64_t purpose) {
  const float extremes[] = {0, -0.0F, 1e-30F, -1e-30F, INFINITY};
  Matrix matrix(m, n, purpose);
  for (int64_t i = 0; i < m * n; i += 3) matrix.at(i / n, i % n) = extremes[i / 3 % 4 + (i % 599 == 0)];
  for (int64_t j = 0; j < n; j++) matrix.at(0, j) = purpose == 2 ? -1e-30F : 1e-30F;
  return matrix;
}

void expect_same_bits(const std::string &name, Matrix &a, int64_t i, int64_t j, Matrix &b) {
  const float x = a.at(i, j), y = b.at(0, 0);
  EXPECT_TRUE(std::isnan(x) ? std::isnan(y) : std::memcmp(&x, &y, sizeof x) == 0)
      << name << ", element " << i << ", " << j << ": " << x << " instead of " << y;
}

/* An element's bits do not depend on the rows and columns beside it. */
TEST(Kernels, ComputeAnElementAlikeInEveryProduct) {
  for (const struct kernels *kernels : tables())
    for (int64_t k : {1, 3, 4, 7, 8, 9, 15, 16, 17, 30, 32, 33, 47, 48, 64, 65, 129, 300})
      for (int64_t m : {1, 3, 15, 16, 17, 19, (int)KERNEL_FEW_ROWS})
        for (int64_t n : {1, 3, 4, 11, 12, 15, 16, 17, 28, 33, 62}) {
          Matrix A = with_extremes(m, k, 1), W = with_extremes(n, k, 2), B = with_extremes(k, n, 3);
          Matrix C(m, n, 0), D(m, n, 0), one(1, 1, 0);
          const std::string name = std::string(kernels->name) + " " + std::to_string(m) + " x " + std::to_string(n) +
                                   " of " + std::to_string(k);
          kernels->product(m, n, k, &A.at(0, 0), A.stride, &W.at(0, 0), W.stride, &C.at(0, 0), C.stride);
          kernels->combine(m, n, k, &A.at(0, 0), A.stride, 1, &B.at(0, 0), B.stride, &D.at(0, 0), D.stride);
          for (int64_t i = 0; i<m; i += m> 20 ? 7 : 1)
            for (int64_t j = 0; j<n; j += n> 20 ? 5 : 1) {
              kernels->product(1, 1, k, &A.at(i, 0), A.stride, &W.at(j, 0), W.stride, &one.at(0, 0), 1);
              expect_same_bits(name + ", product", C, i, j, one);
              kernels->combine(1, 1, k, &A.at(i, 0), A.stride, 1, &B.at(0, j), B.stride, &one.at(0, 0), 1);
              expect_same_bits(name + ", combine", D, i, j, one);
            }
          ASSERT_FALSE(::testing::Test::HasFailure()) << name;
        }
}

}  // namespace
