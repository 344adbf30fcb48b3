/* Narrow networks in one kernel, in every variant: gradients and predictions within bounds derived for the whole
 * network, exact where all sums are of whole numbers; rows beyond the step's, columns beyond the matrices and memory
 * beyond the results have no effect and stay. */
#include <algorithm>
#include <cmath>
#include <string>

#include "network_problem.h"

namespace {

using namespace network_problem;

class NetworkStep : public testing::TestWithParam<StepCase> {};

class NetworkStepExact : public NetworkStep {};

void expect_every_variant_within(Problem &problem, const Gradients &bounds) {
  const int variants = problem.resident_variants(NETWORK_STEP);
  ASSERT_GT(variants, 0);
  const int each = problem.is_long() ? std::max(variants - 1, 1) : 1;
  for (int variant = 0; variant < variants && !testing::Test::HasFailure(); variant += each) {
    SCOPED_TRACE("variant " + std::to_string(variant));
    problem.expect_within(problem.step(variant), bounds);
  }
}

TEST_P(NetworkStep, GradientsAndLossAreWithinTheBounds) {
  Problem problem(GetParam(), kBatchRow);
  expect_every_variant_within(problem, gradients(problem.network, problem.batch));
}

TEST_P(NetworkStep, OutputsAreWithinTheBounds) {
  Problem problem(GetParam());
  const int variants = problem.variants(NETWORK_FORWARD);
  ASSERT_GT(variants, 0);
  for (int variant = 0; variant < variants && !HasFailure(); variant++) {
    SCOPED_TRACE("variant " + std::to_string(variant));
    problem.expect_output(problem.forward(variant, true, true), true, true);
    problem.expect_output(problem.forward(variant, true, false), true, false);
    problem.expect_output(problem.forward(variant, false, true), false, true);
  }
}

TEST_P(NetworkStepExact, GradientsAndLossOfWholeNumbersAreExact) {
  Problem problem(GetParam(), kBatchRow);
  expect_every_variant_within(problem, exact_gradients(problem.network, problem.batch));
}

/* A row of the step that is not finite is the step's: J and the gradients say so. */
TEST(NetworkStepValues, ThatAreNotFiniteStay) {
  for (const Arithmetic arithmetic : {FP32, TF32, BF16})
    for (const descent_loss loss : {DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, DESCENT_LOSS_MEAN_SQUARED_ERROR})
      for (const float x : {NAN, INFINITY}) {
        Problem problem({arithmetic,
                         {5, 9, 3},
                         DESCENT_ACTIVATION_TANH,
                         0,
                         loss,
                         DESCENT_ACTIVATION_IDENTITY,
                         0,
                         20,
                         20,
                         UNIFORM,
                         ONES});
        problem.poison(x);
        for (int variant = 0; variant < problem.resident_variants(NETWORK_STEP); variant++) {
          const Problem::Found found = problem.step(variant);
          EXPECT_EQ(std::isnan(found.J), std::isnan(x)) << "variant " << variant;
          EXPECT_TRUE(
              std::any_of(found.gradients.begin(), found.gradients.end(), [](float g) { return std::isnan(g); }));
        }
      }
}

std::string refusal(network_launch l) {
  char reason[128] = "";
  EXPECT_EQ(network_variants(&l, reason, sizeof reason), 0);
  EXPECT_EQ(launch_network(&l, nullptr), cudaErrorInvalidValue);
  return reason;
}

TEST(NetworkStepVariants, SayWhyThereAreNone) {
  const struct {
    Shape shape;
    const char *reason;
  } refused[] = {
      {{{28, 64, 100, 10}, ELEMENT_BF16, false, NETWORK_STEP, 2000}, "layer 2 has 100 outputs, more than 64"},
      {{{65, 64, 10}, ELEMENT_F32, false, NETWORK_STEP, 2000}, "layer 1 has 65 inputs, more than 64"},
      {{{64, 64, 64, 64, 64, 64, 64, 64}, ELEMENT_BF16, false, NETWORK_STEP, 2000},
       "7 layers of up to 64 units, more than 6"},
      {{{64, 64, 64, 64, 64, 64}, ELEMENT_F32, true, NETWORK_STEP, 2000}, "5 layers of up to 64 units, more than 4"},
      {{{32, 32, 32, 32, 32, 32, 32, 32, 32, 32}, ELEMENT_F32, false, NETWORK_STEP, 2000},
       "9 layers of up to 32 units, more than 8"},
      {{{64, 64, 64, 64, 64, 64, 64}, ELEMENT_BF16, false, NETWORK_STEP, 2000},
       "needs 250 KB of shared memory, the GPU has 226"},
      {{{8, 8}, ELEMENT_BF16, false, NETWORK_STEP, 0}, "0 rows"},
  };
  for (const auto &c : refused) EXPECT_EQ(refusal(launch_of(c.shape)), c.reason);

  network_launch l = launch_of({{10, 8}, ELEMENT_BF16, false, NETWORK_STEP, 2000});
  l.X.ld = 12;
  EXPECT_EQ(refusal(l), "rows of X are not whole units of 16 bytes");
  l.X.ld = 16, l.layer[0].W.ld = 12;
  EXPECT_EQ(refusal(l), "rows of layer 1's weights are not whole units of 16 bytes");
  l.layer[0].W = {nullptr, 12, ELEMENT_F32};
  EXPECT_EQ(refusal(l), "layer 1 has weights of another element");
}

TEST(NetworkStepVariants, PartialSumsSufficeForFewerRows) {
  for (const enum element element : {ELEMENT_F32, ELEMENT_BF16}) {
    size_t last = 0;
    for (int64_t rows = 1; rows < 100000; rows += 1 + rows / 20) {
      network_launch l = launch_of({{28, 64, 10}, element, false, NETWORK_STEP, rows});
      l.n_gradients = 4096;
      ASSERT_GE(network_partials(&l), last) << rows;
      last = network_partials(&l);
    }
    EXPECT_GT(last, 0u);
  }
}

/* Layers up to 64 wide and up to 32 wide, deep and flat, rows round the tiles, every activation with and without
 * dropout, every loss with every kind of weights. */
std::vector<StepCase> cases() {
  const descent_loss softmax = DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, binary = DESCENT_LOSS_BINARY_CROSS_ENTROPY,
                     squared = DESCENT_LOSS_MEAN_SQUARED_ERROR;
  const std::vector<StepShape> shapes = {
      {{1, 1}, squared, 1, 1, ONES},
      {{3, 2}, softmax, 127, 127, DRAWN},
      {{16, 17, 1}, binary, 128, 120, ONES},
      {{28, 64, 10}, softmax, 129, 129, DRAWN},
      {{64, 33, 63}, softmax, 130, 64, TINY},
      {{63, 64, 2}, squared, 70, 70, HUGE_ONES},
      {{33, 3, 64}, squared, 128, 128, DRAWN},
      {{2, 40, 33, 1}, binary, 129, 100, DRAWN},
      {{17, 32, 28, 3}, squared, 300, 270, ONES},
      {{10, 16, 20, 32}, softmax, 140, 140, ZEROS},
      {{5, 24, 30, 1}, binary, 1000, 999, TINY},
      {{8, 12, 7}, squared, 33, 20, HUGE_ONES},
  };
  return cases_of(shapes, [&](ptrdiff_t number, bool drops) {
    if (drops && shapes[static_cast<size_t>(number)].rows > 500) return true;
#ifdef __SANITIZE_ADDRESS__ /* dropout draws its numbers without memory: with every second shape */
    if (drops != (number % 2 == 1)) return true;
#endif
    return false;
  });
}

/* As many layers as any variant takes, without a rounding. */
std::vector<StepCase> exact_cases() {
#ifdef __SANITIZE_ADDRESS__
  const bool long_too = false; /* the other cases reach every access */
#else
  const bool long_too = true;
#endif
  const struct {
    std::vector<int> widths;
    int64_t rows, step_rows;
    Arithmetic least; /* the first that takes so many layers */
  } shapes[] = {
      {{64, 64, 64, 64, 64, 64, 2}, 130, 130, BF16},
      {{64, 64, 64, 64, 64}, 129, 129, FP32},
      {{28, 64, 33, 16, 2}, 128, 127, FP32},
      {{32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32}, 129, 128, TF32},
      {{32, 31, 30, 29, 28, 27, 26, 25, 16}, 65, 65, FP32},
      {{17, 3, 64}, 1000, 900, FP32},
      {{63, 1}, 33, 1, FP32},
      {{5, 33, 2}, 256 * 64 + 200, 256 * 64 + 190, FP32},
      {{5, 8, 2}, 256 * 64 + 200, 256 * 64 + 190, FP32},
      {{5, 8, 9, 2}, 256 * 128 + 200, 256 * 128 + 190, BF16},
  };
  std::vector<StepCase> all;
  for (const auto &shape : shapes)
    for (const Arithmetic arithmetic : {FP32, TF32, BF16})
      if (arithmetic >= shape.least)
        for (const bool drops : {false, true}) {
          if (shape.rows > 10000 && (drops || !long_too)) continue;
          all.push_back({arithmetic, shape.widths, DESCENT_ACTIVATION_RELU, drops ? 0.5 : 0,
                         DESCENT_LOSS_MEAN_SQUARED_ERROR, DESCENT_ACTIVATION_IDENTITY, 0, shape.rows, shape.step_rows,
                         WHOLE, ONES});
        }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Passes, NetworkStep, testing::ValuesIn(cases()), name);
INSTANTIATE_TEST_SUITE_P(Passes, NetworkStepExact, testing::ValuesIn(exact_cases()), name);

}  // namespace
