/* A small training step by one cluster of blocks, in every variant: gradients and loss within bounds derived for the
 * whole network, exact where all sums are of whole numbers; rows beyond the step's, columns beyond the matrices and
 * memory beyond the results have no effect and stay. */
#include <algorithm>
#include <cmath>
#include <string>

#include "network.cuh"
#include "network_problem.h"

namespace {

using namespace network_problem;

class NetworkCluster : public testing::TestWithParam<StepCase> {};
class NetworkClusterExact : public NetworkCluster {};

void expect_every_variant_within(Problem &problem, const Gradients &bounds) {
  const int first = problem.resident_variants(NETWORK_STEP), variants = problem.variants(NETWORK_STEP);
  ASSERT_GT(variants, first);
  for (int variant = first; variant < variants && !testing::Test::HasFailure(); variant++) {
    SCOPED_TRACE("variant " + std::to_string(variant));
    problem.expect_within(problem.step(variant), bounds);
  }
}

TEST_P(NetworkCluster, GradientsAndLossAreWithinTheBounds) {
  Problem problem(GetParam());
  expect_every_variant_within(problem, gradients(problem.network, problem.batch));
}

TEST_P(NetworkClusterExact, GradientsAndLossOfWholeNumbersAreExact) {
  Problem problem(GetParam());
  expect_every_variant_within(problem, exact_gradients(problem.network, problem.batch));
}

/* A row of the step that is not finite is the step's: J and the gradients say so. What is no gradient stays 0. */
TEST(NetworkClusterValues, ThatAreNotFiniteStay) {
  for (const Arithmetic arithmetic : {FP32, TF32, BF16})
    for (const float x : {NAN, INFINITY}) {
      Problem problem({arithmetic,
                       {5, 9, 3},
                       DESCENT_ACTIVATION_TANH,
                       0,
                       DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY,
                       DESCENT_ACTIVATION_IDENTITY,
                       0,
                       20,
                       20,
                       UNIFORM,
                       ONES});
      problem.poison(x);
      const int first = problem.resident_variants(NETWORK_STEP), variants = problem.variants(NETWORK_STEP);
      ASSERT_GT(variants, first);
      for (int variant = first; variant < variants; variant++) {
        const Problem::Found found = problem.step(variant);
        EXPECT_EQ(std::isnan(found.J), std::isnan(x)) << "variant " << variant;
        EXPECT_TRUE(std::any_of(found.gradients.begin(), found.gradients.end(), [](float g) { return std::isnan(g); }));
        problem.expect_gaps(found);
      }
    }
}

/* The blocks share the rows and the pieces of dW differently, but both sums are of the same numbers. */
TEST(NetworkClusterVariants, AreOfBothSizesOfClustersAndOfTiles) {
  network_launch l = launch_of({{784, 128, 10}, ELEMENT_BF16, false, NETWORK_STEP, 256});
  EXPECT_EQ(network_cluster_variants(&l, nullptr, 0), 4);
  l.layer[0].n_out = l.layer[1].n_in = 129;
  l.layer[1].W.ld = 136;
  EXPECT_EQ(network_cluster_variants(&l, nullptr, 0), 2);
  l.kind = NETWORK_CHAIN;
  EXPECT_EQ(network_cluster_variants(&l, nullptr, 0), 0);
}

std::string refusal(network_launch l) {
  char reason[128] = "";
  EXPECT_EQ(network_cluster_variants(&l, reason, sizeof reason), 0);
  l.variant = 0;
  EXPECT_EQ(launch_network_cluster(&l, 0, nullptr), cudaErrorInvalidValue);
  return reason;
}

TEST(NetworkClusterVariants, SayWhyThereAreNone) {
  const struct {
    Shape shape;
    const char *reason;
  } refused[] = {
      {{{28, 64, 513, 10}, ELEMENT_BF16, false, NETWORK_STEP, 100}, "layer 2 has 513 outputs, more than 512"},
      {{{28, 64, 10}, ELEMENT_F32, false, NETWORK_STEP, 1025}, "1025 rows, more than 1024"},
      {{{28, 64, 10}, ELEMENT_F32, false, NETWORK_STEP, 0}, "0 rows"},
      {{{4096, 64, 10}, ELEMENT_F32, true, NETWORK_STEP, 100}, "needs 345 KB of shared memory, the GPU has 219"},
  };
  for (const auto &c : refused) EXPECT_EQ(refusal(launch_of(c.shape)), c.reason);

  network_launch l = launch_of({{10, 8, 5}, ELEMENT_BF16, false, NETWORK_STEP, 100});
  l.X.ld = 12;
  EXPECT_EQ(refusal(l), "rows of X are not whole units of 16 bytes");
  l.X.ld = 16, l.layer[0].W.ld = 12;
  EXPECT_EQ(refusal(l), "rows of layer 1's weights are not whole units of 16 bytes");
  l.layer[0].W = {nullptr, 12, ELEMENT_F32};
  EXPECT_EQ(refusal(l), "layer 1 has weights of another element");
  l.layer[0].W = {nullptr, 16, ELEMENT_BF16}, l.layer[1].n_in = 7;
  EXPECT_EQ(refusal(l), "layer 2 does not follow the one before it");
  l.layers = 13;
  EXPECT_EQ(refusal(l), "13 layers, more than 12");
}

/* Small and large clusters, tiles of 16 and of 32 rows, several tiles of a block, blocks without rows; layers round the
 * widths of the tiles and of the pieces of dW; every activation with and without dropout, every loss with every kind
 * of weights. */
std::vector<StepCase> cases() {
  const descent_loss softmax = DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, binary = DESCENT_LOSS_BINARY_CROSS_ENTROPY,
                     squared = DESCENT_LOSS_MEAN_SQUARED_ERROR;
  const struct {
    std::vector<int> widths;
    descent_loss loss;
    int64_t rows, step_rows;
    Weights weights;
  } shapes[] = {
      {{1, 1}, squared, 1, 1, ONES},
      {{3, 2}, softmax, 15, 15, DRAWN},
      {{17, 3, 1}, binary, 16, 12, ONES},
      {{100, 64, 10}, softmax, 17, 17, DRAWN},
      {{64, 100, 17}, softmax, 40, 23, TINY},
      {{3, 128, 3}, squared, 37, 37, HUGE_ONES},
      {{17, 30, 64, 17, 3}, squared, 127, 127, DRAWN},
      {{2, 20, 17, 9, 3, 1}, binary, 300, 270, DRAWN},
      {{10, 16, 20, 32}, softmax, 140, 130, ZEROS},
      {{5, 8, 9, 1}, binary, 1000, 601, TINY},
      {{30, 300, 3}, softmax, 9, 8, ONES},
      {{3, 17, 140}, squared, 18, 18, DRAWN},
      {{8, 12, 7}, squared, 33, 20, HUGE_ONES},
  };
  std::vector<StepCase> all;
  int turn = 0;
  for (const auto &shape : shapes)
    for (const Arithmetic arithmetic : {FP32, TF32, BF16})
      for (const bool drops : {false, true}) {
        if (drops && (shape.rows > 500 || shape.widths.size() == 2)) continue;
        const auto activation = static_cast<descent_activation>(turn % N_ACTIVATIONS);
        const auto output = shape.loss == squared ? static_cast<descent_activation>(3 * turn % N_ACTIVATIONS)
                                                  : DESCENT_ACTIVATION_IDENTITY;
        const double smoothing = shape.loss != squared && turn % 3 == 0 ? 0.125 : 0;
        all.push_back({arithmetic, shape.widths, activation, drops ? 0.25 : 0, shape.loss, output, smoothing,
                       shape.rows, shape.step_rows, UNIFORM, shape.weights});
        turn++;
      }
  return all;
}

/* Without a rounding. Each shape with every arithmetic. */
std::vector<StepCase> exact_cases() {
  const struct {
    std::vector<int> widths;
    int64_t rows, step_rows;
  } shapes[] = {
      {{784, 128, 8}, 256, 256},
      {{100, 128, 64, 17, 2}, 130, 127},
      {{17, 300, 130, 4}, 33, 33},
      {{65, 512, 4}, 20, 17},
      {{33, 16, 16, 16, 16, 2}, 300, 299},
      {{63, 1}, 33, 1},
      {{5, 33, 2}, 1000, 501},
      {{32, 31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 16}, 65, 65},
  };
  std::vector<StepCase> all;
  for (const auto &shape : shapes)
    for (const Arithmetic arithmetic : {FP32, TF32, BF16})
      for (const bool drops : {false, true}) {
        if (drops && (shape.widths.size() == 2 || shape.widths[0] == 784)) continue;
        all.push_back({arithmetic, shape.widths, DESCENT_ACTIVATION_RELU, drops ? 0.5 : 0,
                       DESCENT_LOSS_MEAN_SQUARED_ERROR, DESCENT_ACTIVATION_IDENTITY, 0, shape.rows, shape.step_rows,
                       WHOLE, ONES});
      }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Passes, NetworkCluster, testing::ValuesIn(cases()), name);
INSTANTIATE_TEST_SUITE_P(Passes, NetworkClusterExact, testing::ValuesIn(exact_cases()), name);

}  // namespace
