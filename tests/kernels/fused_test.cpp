/* Dense layers in one kernel, without a plan: every variant computes its product within the bound of a float32 sum, does
 * exactly what the passes do to it, and touches nothing beyond column n. */
#include <cmath>
#include <string>

#include "passes.h"

namespace {

enum Arithmetic { FP32, TF32, BF16 };

struct FusedCase {
  int64_t rows, k, n;
  Arithmetic arithmetic;
  descent_activation activation;
  bool drops;
};

enum element element_of(Arithmetic arithmetic) { return arithmetic == BF16 ? ELEMENT_BF16 : ELEMENT_F32; }

/* Of rows padded to whole 16 bytes, and of another 16. */
int64_t padded(int64_t n, enum element element) {
  const int64_t unit = element == ELEMENT_F32 ? 4 : 8;
  return (n + unit - 1) / unit * unit + unit;
}

/* (rows, n), with NaN behind column n. */
struct Operand : Matrix {
  Operand(int64_t rows, int64_t n, enum element element_) : Matrix(rows, padded(n, element_), element_) {
    for (int64_t i = 0; i < rows * ld; i++) set(i, NAN);
    store();
  }
  void set(int64_t i, float x) {
    const auto at = static_cast<size_t>(i);
    floats.host[at] = x;
    halves.host[at] = bf16_from_float(x);
  }
};

/* Values that a sum of 300 products of two still has exactly, even as bf16, and of a size for which activations are
 * curved; or uniform in (-1, 1). */
void fill(Operand &m, int64_t rows, int64_t n, bool whole, uint64_t seed) {
  if (!whole) {
    EXPECT_EQ(launch_fill(m.matrix(), rows, n, false, seed, nullptr), cudaSuccess);
    m.fetch();
    return;
  }
  uint64_t random = seed * 0x9e3779b97f4a7c15U + 1;
  for (int64_t r = 0; r < rows; r++)
    for (int64_t j = 0; j < n; j++) {
      random = random * 6364136223846793005U + 1442695040888963407U;
      m.set(r * m.ld + j, static_cast<float>(static_cast<int>(random >> 33) % 3 - 1) * (seed == 2 ? 0.125f : 1));
    }
  m.store();
}

/* The rows and columns that a result may have written are `rows` and `n`. */
struct Result : Matrix {
  Result(int64_t rows_, int64_t n_, enum element element_)
      : Matrix(rows_ + 2, padded(n_, element_), element_), rows(rows_), n(n_) {}
  void expect_rest_untouched() const {
    for (int64_t r = 0; r < rows + 2; r++)
      for (int64_t j = r < rows ? n : 0; j < ld; j++) ASSERT_EQ(at(r, j), kUntouched) << r << ", " << j;
  }
  void expect_same(const Result &other) const {
    for (int64_t r = 0; r < rows; r++)
      for (int64_t j = 0; j < n; j++) ASSERT_EQ(at(r, j), other.at(r, j)) << r << ", " << j;
  }
  int64_t rows, n;
};

class Fused : public testing::TestWithParam<FusedCase> {
 protected:
  FusedCase c = GetParam();
  enum element element = element_of(c.arithmetic);
  uint32_t threshold = c.drops ? rng_drop_threshold(0.25) : 0;
  float dropout_scale = c.drops ? 1 / 0.75f : 1;
  Buffer<step_state> state{step()};

  static std::vector<step_state> step() {
    step_state at{};
    at.current.number = 3;
    at.current.batch_row = kBatchRow; /* the passes, to which these kernels are compared, have a test of masks */
    return {at};
  }
  template <class PASS>
  void fill_pass(PASS &pass) const {
    pass.state = state.data;
    pass.rows = c.rows, pass.n = c.n, pass.activation = c.activation;
    pass.seed = 7, pass.layer = 2, pass.threshold = threshold, pass.dropout_scale = dropout_scale;
  }

  /* Of an element of the product: its exact value and the sum of the absolute values of its terms. */
  struct Exact {
    double value, absolute;
  };
  /* The product of the rows of `left` and, with W (n, k), its rows, or, with W (k, n), its columns. */
  std::vector<Exact> product_of(const Operand &left, const Operand &W, bool transposed) const {
    std::vector<double> column(static_cast<size_t>(c.k));
    std::vector<Exact> all(static_cast<size_t>(c.rows * c.n));
    for (int64_t j = 0; j < c.n; j++) {
      for (int64_t i = 0; i < c.k; i++)
        column[static_cast<size_t>(i)] = static_cast<double>(transposed ? W.at(i, j) : W.at(j, i));
      for (int64_t r = 0; r < c.rows; r++) {
        Exact &exact = all[static_cast<size_t>(r * c.n + j)];
        for (int64_t i = 0; i < c.k; i++) {
          const double p = static_cast<double>(left.at(r, i)) * column[static_cast<size_t>(i)];
          exact.value += p, exact.absolute += std::fabs(p);
        }
      }
    }
    return all;
  }
  /* The same as a matrix, which holds it exactly. */
  void store_product(const Operand &left, const Operand &W, bool transposed, Result &product) const {
    const std::vector<Exact> all = product_of(left, W, transposed);
    for (int64_t r = 0; r < c.rows; r++)
      for (int64_t j = 0; j < c.n; j++) {
        const auto at = static_cast<size_t>(r * product.ld + j);
        const double value = all[static_cast<size_t>(r * c.n + j)].value;
        product.floats.host[at] = static_cast<float>(value);
        product.halves.host[at] = bf16_from_float(static_cast<float>(value));
        ASSERT_EQ(static_cast<double>(product.at(r, j)), value);
      }
    product.store();
  }

  void expect_product(const Result &result, const std::vector<Exact> &product) const {
    const double unit = c.arithmetic == FP32 ? 0x1p-24 : 0x1p-23;   /* tensor cores may truncate */
    const double cut = c.arithmetic == TF32 ? 0x1p-9 + 0x1p-20 : 0; /* (1 + 2^-10)^2 - 1 */
    const double lost = static_cast<double>(c.k) * unit;
    for (int64_t r = 0; r < c.rows; r++)
      for (int64_t j = 0; j < c.n; j++) {
        const Exact exact = product[static_cast<size_t>(r * c.n + j)];
        double bound = cut * exact.absolute + lost / (1 - lost) * (1 + cut) * exact.absolute;
        if (element == ELEMENT_BF16) bound += 0x1p-8 * (std::fabs(exact.value) + bound);
        ASSERT_LE(std::fabs(static_cast<double>(result.at(r, j)) - exact.value), bound) << r << ", " << j;
      }
  }

  /* All variants, of long cases one of each way to hold W. */
  template <class LAUNCH_STRUCT, class USE>
  void each_variant(LAUNCH_STRUCT &launch, int variants, USE use) const {
    ASSERT_GT(variants, 1);
    for (launch.variant = 0; launch.variant < variants && !HasFatalFailure();
         launch.variant += c.rows > 1000 ? variants / 2 : 1) {
      SCOPED_TRACE("variant " + std::to_string(launch.variant));
      use();
    }
    launch.variant = variants;
  }
};

/* Of shapes of one tile in each run. */
class FusedProduct : public Fused {};

TEST_P(FusedProduct, ForwardProductIsWithinTheBound) {
  Operand A_in(c.rows, c.k, element), W(c.n, c.k, element);
  fill(A_in, c.rows, c.k, false, 1), fill(W, c.n, c.k, false, 2);
  fused_forward_launch launch{};
  launch.A_in = A_in.matrix(), launch.W = W.matrix(), launch.n_in = c.k, launch.tf32 = c.arithmetic == TF32;
  launch.pass.rows = c.rows, launch.pass.n = c.n, launch.pass.activation = DESCENT_ACTIVATION_IDENTITY;
  launch.pass.Z.element = launch.pass.A.element = element, launch.pass.A.ld = padded(c.n, element);
  const std::vector<Exact> product = product_of(A_in, W, false);
  each_variant(launch, fused_forward_variants(&launch), [&] {
    Result A(c.rows, c.n, element);
    launch.pass.A = A.matrix();
    ASSERT_EQ(launch_fused_forward(&launch, nullptr), cudaSuccess);
    A.fetch();
    expect_product(A, product);
    A.expect_rest_untouched();
  });
  EXPECT_EQ(launch_fused_forward(&launch, nullptr), cudaErrorInvalidValue); /* there is no such variant */
}

TEST_P(Fused, ForwardIsThePassAppliedToTheProduct) {
  Operand A_in(c.rows, c.k, element), W(c.n, c.k, element);
  fill(A_in, c.rows, c.k, true, 1), fill(W, c.n, c.k, true, 2);
  Result product(c.rows, c.n, element), Z(c.rows, c.n, element), A(c.rows, c.n, element);
  store_product(A_in, W, false, product);
  const bool has_Z = slope_is_from_z(c.activation), bias_is_bf16 = element == ELEMENT_BF16;
  Operand bias(1, c.n, bias_is_bf16 ? ELEMENT_BF16 : ELEMENT_F32);
  fill(bias, 1, c.n, false, 3);
  fused_forward_launch launch{};
  fill_pass(launch.pass);
  launch.pass.bias = bias.matrix().data, launch.pass.bias_element = bias.element;
  launch.pass.product = product.matrix(), launch.pass.A = A.matrix();
  launch.pass.Z = has_Z ? Z.matrix() : device_matrix{nullptr, 0, element};
  ASSERT_EQ(launch_forward(&launch.pass, nullptr), cudaSuccess);
  Z.fetch(), A.fetch();
  launch.A_in = A_in.matrix(), launch.W = W.matrix(), launch.n_in = c.k, launch.tf32 = c.arithmetic == TF32;
  each_variant(launch, fused_forward_variants(&launch), [&] {
    Result fused_Z(c.rows, c.n, element), fused_A(c.rows, c.n, element);
    launch.pass.A = fused_A.matrix();
    if (has_Z) launch.pass.Z = fused_Z.matrix();
    ASSERT_EQ(launch_fused_forward(&launch, nullptr), cudaSuccess);
    fused_Z.fetch(), fused_A.fetch();
    fused_A.expect_same(A), fused_Z.expect_same(Z);
    fused_A.expect_rest_untouched(), fused_Z.expect_rest_untouched();
  });
}

TEST_P(FusedProduct, BackwardProductIsWithinTheBound) {
  Operand dZ_above(c.rows, c.k, element), W(c.k, c.n, element);
  fill(dZ_above, c.rows, c.k, false, 1), fill(W, c.k, c.n, false, 2);
  fused_input_launch launch{};
  launch.dZ_above = dZ_above.matrix(), launch.W = W.matrix(), launch.n_out = c.k, launch.tf32 = c.arithmetic == TF32;
  launch.pass.rows = c.rows, launch.pass.n = c.n, launch.pass.activation = DESCENT_ACTIVATION_IDENTITY;
  launch.pass.dZ.element = element, launch.pass.dZ.ld = padded(c.n, element);
  const std::vector<Exact> product = product_of(dZ_above, W, true);
  each_variant(launch, fused_input_variants(&launch), [&] {
    Result dZ(c.rows, c.n, element);
    launch.pass.dZ = dZ.matrix();
    ASSERT_EQ(launch_fused_input(&launch, nullptr), cudaSuccess);
    dZ.fetch();
    expect_product(dZ, product);
    dZ.expect_rest_untouched();
  });
  EXPECT_EQ(launch_fused_input(&launch, nullptr), cudaErrorInvalidValue);
}

TEST_P(Fused, BackwardIsThePassAppliedToTheProductAndSumsItsColumns) {
  Operand dZ_above(c.rows, c.k, element), W(c.k, c.n, element), A(c.rows, c.n, element);
  fill(dZ_above, c.rows, c.k, true, 1), fill(W, c.k, c.n, true, 2), fill(A, c.rows, c.n, false, 4);
  Result expected(c.rows, c.n, element);
  store_product(dZ_above, W, true, expected);
  fused_input_launch launch{};
  fill_pass(launch.pass);
  launch.pass.keep_probability = c.drops ? 0.75f : 1;
  launch.pass.dZ = expected.matrix(), launch.pass.A = launch.pass.Z = A.matrix();
  ASSERT_EQ(launch_backward(&launch.pass, nullptr), cudaSuccess);
  expected.fetch();
  launch.dZ_above = dZ_above.matrix(), launch.W = W.matrix(), launch.n_out = c.k, launch.tf32 = c.arithmetic == TF32;
  Buffer<unsigned> counters(COUNTERS, 0);
  Buffer<char> partials(std::vector<char>(fused_input_scratch(c.rows, c.n)));
  launch.pass.scratch = {partials.data, counters.data};
  each_variant(launch, fused_input_variants(&launch), [&] {
    std::vector<float> first;
    for (int again = 0; again < (c.rows > 1000 ? 1 : 2); again++) { /* blocks and threads in another order */
      Result dZ(c.rows, c.n, element);
      Buffer<float> sums(c.n + 1, kUntouched);
      launch.pass.dZ = dZ.matrix(), launch.pass.bias_gradient = sums.data;
      ASSERT_EQ(launch_fused_input(&launch, nullptr), cudaSuccess);
      dZ.fetch(), sums.fetch();
      dZ.expect_same(expected);
      dZ.expect_rest_untouched();
      ASSERT_EQ(sums.host.back(), kUntouched);
      ASSERT_EQ(counters.fetch(), std::vector<unsigned>(COUNTERS, 0));
      if (again) {
        ASSERT_EQ(sums.host, first);
      }
      first = sums.host;
    }
    for (int64_t j = 0; j < c.n; j++) {
      double sum = 0, absolute = 0;
      for (int64_t r = 0; r < c.rows; r++) {
        const auto d = static_cast<double>(expected.at(r, j));
        sum += d, absolute += std::fabs(d);
      }
      const double u = static_cast<double>(c.rows) * 0x1p-24; /* no order of summation is worse */
      ASSERT_LE(std::fabs(static_cast<double>(first[static_cast<size_t>(j)]) - sum), u / (1 - u) * absolute) << j;
    }
  });
}

TEST(FusedVariants, ThereIsNoneForRowsThatAreNotWholeUnits) {
  fused_forward_launch forward{};
  forward.pass.rows = 8, forward.pass.n = 24, forward.n_in = 16;
  forward.A_in = {nullptr, 16, ELEMENT_F32}, forward.W = {nullptr, 16, ELEMENT_F32};
  forward.pass.A = {nullptr, 24, ELEMENT_F32};
  EXPECT_GT(fused_forward_variants(&forward), 1);
  for (device_matrix *m : {&forward.A_in, &forward.W, &forward.pass.A, &forward.pass.Z}) {
    const device_matrix before = *m;
    m->ld = 26;
    EXPECT_EQ(fused_forward_variants(&forward), 0);
    *m = {before.data, 24, ELEMENT_BF16};
    EXPECT_EQ(fused_forward_variants(&forward), 0);
    *m = before;
  }
  fused_input_launch input{};
  input.pass.rows = 8, input.pass.n = 24, input.n_out = 16, input.pass.activation = DESCENT_ACTIVATION_TANH;
  input.dZ_above = {nullptr, 16, ELEMENT_F32}, input.W = {nullptr, 24, ELEMENT_F32};
  input.pass.dZ = input.pass.A = {nullptr, 24, ELEMENT_F32};
  EXPECT_GT(fused_input_variants(&input), 1);
  for (device_matrix *m : {&input.dZ_above, &input.W, &input.pass.dZ, &input.pass.A}) {
    const device_matrix before = *m;
    m->ld = 26;
    EXPECT_EQ(fused_input_variants(&input), 0);
    *m = before;
  }
}

/* Less and more than a tile, a chunk of K and 16 bytes; the last, of few columns, has runs of several tiles. */
std::vector<FusedCase> cases([[maybe_unused]] bool long_too) {
#ifdef __SANITIZE_ADDRESS__
  long_too = false; /* half a minute; the other cases reach every access */
#endif
  std::vector<FusedCase> all;
  const struct {
    int64_t rows, k, n;
  } shapes[] = {{1, 1, 3},       {7, 10, 17},    {127, 28, 64},  {128, 64, 64}, {129, 65, 100},
                {150, 3, 1},     {300, 100, 10}, {129, 255, 28}, {40, 256, 65}, {130, 17, 256},
                {131, 100, 300}, {30, 300, 300}, {65700, 33, 3}};
  int turn = 0;
  for (const auto &shape : shapes)
    for (const Arithmetic arithmetic : {FP32, TF32, BF16})
      if (shape.rows < 1000 || (long_too && arithmetic == BF16)) {
        all.push_back({shape.rows, shape.k, shape.n, arithmetic,
                       static_cast<descent_activation>(3 * turn % N_ACTIVATIONS), turn / 2 % 2 == 0});
        turn++;
      }
  return all;
}

std::string name(const testing::TestParamInfo<FusedCase> &info) {
  const FusedCase &c = info.param;
  const char *const arithmetics[] = {"_fp32_", "_tf32_", "_bf16_"};
  return std::to_string(c.rows) + "x" + std::to_string(c.k) + "x" + std::to_string(c.n) + arithmetics[c.arithmetic] +
         descent_activation_name(c.activation) + (c.drops ? "_dropout" : "");
}

INSTANTIATE_TEST_SUITE_P(Passes, FusedProduct, testing::ValuesIn(cases(false)), name);
INSTANTIATE_TEST_SUITE_P(Passes, Fused, testing::ValuesIn(cases(true)), name);

}  // namespace
