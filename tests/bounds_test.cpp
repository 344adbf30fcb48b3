/* The bounds of the element-wise functions hold over all of float32, and are not loose: the formulas that the backends
 * share come close to them somewhere. */
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "internal.h"

extern "C" {
#include "backend/bounds_internal.h"
#include "backend/formulas.h"
}

namespace {

struct Function {
  descent_activation activation;
  float (*value)(float z);
  float (*slope)(float a, float z);
};

float identity(float z) { return z; }
float one(float, float) { return 1; }

/* The slopes as every backend takes them: from a where that is possible. */
const Function functions[] = {
    {DESCENT_ACTIVATION_IDENTITY, identity, one},
    {DESCENT_ACTIVATION_SIGMOID, formula_sigmoid, [](float a, float) { return formula_sigmoid_slope(a); }},
    {DESCENT_ACTIVATION_TANH, formula_tanh, [](float a, float) { return formula_tanh_slope(a); }},
    {DESCENT_ACTIVATION_RELU, formula_relu, [](float a, float) { return formula_relu_slope(a); }},
    {DESCENT_ACTIVATION_LEAKY_RELU, formula_leaky_relu, [](float a, float) { return formula_leaky_relu_slope(a); }},
    {DESCENT_ACTIVATION_GELU, formula_gelu, [](float, float z) { return formula_gelu_slope(z); }},
    {DESCENT_ACTIVATION_SILU, formula_silu, [](float, float z) { return formula_silu_slope(z); }},
};

class Bounds : public testing::TestWithParam<Function> {};

/* Largest |value - exact| / bound seen where a bound is relative, far above the subnormal floats. */
struct Worst {
  double ratio = 0;
  void see(float z, double value, double exact, interval range) {
    const double error = std::fabs(value - exact), bound = interval_bound(range, exact);
    ASSERT_LE(error, bound) << "z = " << z << ": " << value << " instead of " << exact;
    if (bound > 0 && std::fabs(exact) > 0x1p-100) ratio = std::fmax(ratio, error / bound);
  }
};

TEST_P(Bounds, hold_for_every_float_and_are_nearly_reached) {
  const Function &f = GetParam();
  Worst value, slope;
  /* A prime stride through all bit patterns visits every exponent and all kinds of mantissas. */
  for (uint64_t bits = 0; bits <= 0xffffffff; bits += 4093) {
    const float z = formula_from_bits(static_cast<uint32_t>(bits));
    if (!std::isfinite(z)) continue;
    const double exact = reference_activate(f.activation, static_cast<double>(z));
    value.see(z, static_cast<double>(f.value(z)), exact, bounds_activation(f.activation, interval_exact(z)));
    const float a = static_cast<float>(exact);
    slope.see(z, static_cast<double>(f.slope(a, z)), reference_slope(f.activation, static_cast<double>(a), z),
              bounds_slope(f.activation, interval_exact(a), z));
    if (HasFatalFailure()) return;
  }
  const bool rounds = f.activation != DESCENT_ACTIVATION_IDENTITY && f.activation != DESCENT_ACTIVATION_RELU;
  EXPECT_GE(value.ratio, rounds ? 0.25 : 0);
  EXPECT_GE(slope.ratio, rounds ? 0.25 : 0);
}

INSTANTIATE_TEST_SUITE_P(Formulas, Bounds, testing::ValuesIn(functions),
                         [](const testing::TestParamInfo<Function> &item) {
                           return std::string(descent_activation_name(item.param.activation));
                         });

/* Every rounding of a chain of float operations stays inside the intervals of the same chain. */
TEST(Interval, holds_what_float_arithmetic_gives) {
  double widest = 0;
  for (uint64_t i = 0; i < 200000; i++) {
    const auto draw = [&](uint32_t stream) {
      const double u = rng_uniform(1, RNG_SYNTHETIC, stream, 0, 2 * i),
                   v = rng_uniform(1, RNG_SYNTHETIC, stream, 0, 2 * i + 1);
      return static_cast<float>((v < 0.5 ? -1 : 1) * std::exp2(140 * u - 80));
    };
    const float x = draw(1), y = draw(2), z = draw(3);
    const volatile float product = x * y, sum = product + z, root = std::sqrt(std::fabs(sum)),
                         quotient = z / (root + 1e-30f);
    const interval p = interval_mul(interval_exact(x), interval_exact(y)), s = interval_add(p, interval_exact(z));
    const interval magnitude = s.lo >= 0 ? s : s.hi <= 0 ? interval_negated(s) : interval{0, std::fmax(-s.lo, s.hi)};
    const interval r = interval_sqrt(magnitude);
    const interval q = interval_div(interval_exact(z), interval_add(r, interval_constant(1e-30)));
    ASSERT_TRUE(p.lo <= product && product <= p.hi) << x << " * " << y;
    ASSERT_TRUE(s.lo <= sum && sum <= s.hi) << x << " * " << y << " + " << z;
    ASSERT_TRUE(r.lo <= root && root <= r.hi) << "sqrt " << sum;
    ASSERT_TRUE(q.lo <= quotient && quotient <= q.hi) << z << " / " << root;
    if (std::fabs(product) > 0x1p-100) widest = std::fmax(widest, (p.hi - p.lo) / std::fabs(double(x) * double(y)));
  }
  EXPECT_LT(widest, 2.001 * 0x1p-24); /* one rounding either way, and no more */
}

}  // namespace
