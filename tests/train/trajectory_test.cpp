/* A hundred steps on every backend, in each of its precisions, layer by layer and several layers in one kernel, stay as
 * close to the same steps in double as that precision can explain; erring.h derives how far that is. */
#include <gtest/gtest.h>

#include <cmath>

#include "candidates.h"
#include "erring.h"
#include "training.h"

namespace {

using erring::distance;
using erring::EXACTLY;
using erring::Machine;
using erring::Parameters;

enum { STEPS = 100, ROWS = 100, BATCH = 32 };

struct Case {
  const char *name;
  std::vector<int64_t> widths;
  descent_activation hidden;
  descent_loss loss;
  void (*change)(descent_train_options *options);
};

const Case cases[] = {
    {"gd_sigmoid_binary",
     {8, 16, 8, 1},
     DESCENT_ACTIVATION_SIGMOID,
     DESCENT_LOSS_BINARY_CROSS_ENTROPY,
     [](descent_train_options *o) {
       o->optimizer.kind = DESCENT_OPTIMIZER_GD;
       o->optimizer.learning_rate = 0.5;
     }},
    {"nesterov_tanh_classes",
     {8, 12, 12, 5},
     DESCENT_ACTIVATION_TANH,
     DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY,
     [](descent_train_options *o) {
       o->optimizer.kind = DESCENT_OPTIMIZER_SGD;
       o->optimizer.learning_rate = 0.05;
       o->optimizer.momentum = 0.9;
       o->optimizer.nesterov = true;
       o->optimizer.l2 = 0.01;
     }},
    {"rmsprop_silu_regression",
     {8, 15, 3},
     DESCENT_ACTIVATION_SILU,
     DESCENT_LOSS_MEAN_SQUARED_ERROR,
     [](descent_train_options *o) {
       o->optimizer.kind = DESCENT_OPTIMIZER_RMSPROP;
       o->optimizer.momentum = 0.5;
     }},
    {"adam_relu_classes_dropout",
     {8, 24, 17, 5},
     DESCENT_ACTIVATION_RELU,
     DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY,
     [](descent_train_options *o) {
       o->dropout = 0.25;
       o->label_smoothing = 0.1;
       o->optimizer.clip_norm = 0.5;
     }},
    {"adamw_gelu_binary_dropout",
     {8, 16, 16, 16, 1},
     DESCENT_ACTIVATION_GELU,
     DESCENT_LOSS_BINARY_CROSS_ENTROPY,
     [](descent_train_options *o) {
       o->optimizer.kind = DESCENT_OPTIMIZER_ADAMW;
       o->optimizer.weight_decay = 0.01;
       o->dropout = 0.5;
       o->balance_classes = true;
     }},
    {"adam_leaky_relu_regression",
     {8, 16, 4},
     DESCENT_ACTIVATION_LEAKY_RELU,
     DESCENT_LOSS_MEAN_SQUARED_ERROR,
     [](descent_train_options *) {}},
    {"sgd_tanh_classes_wide",
     {8, 72, 3},
     DESCENT_ACTIVATION_TANH,
     DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY,
     [](descent_train_options *o) {
       o->optimizer.kind = DESCENT_OPTIMIZER_SGD;
       o->optimizer.momentum = 0.9;
     }},
    {"lars_tanh_classes",
     {8, 16, 5},
     DESCENT_ACTIVATION_TANH,
     DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY,
     [](descent_train_options *o) {
       o->optimizer.kind = DESCENT_OPTIMIZER_LARS;
       o->optimizer.learning_rate = 0.05;
       o->optimizer.trust_coefficient = 0.1;
       o->optimizer.momentum = 0.9;
       o->optimizer.weight_decay = 0.01;
     }},
    {"lamb_gelu_regression",
     {8, 16, 4},
     DESCENT_ACTIVATION_GELU,
     DESCENT_LOSS_MEAN_SQUARED_ERROR,
     [](descent_train_options *o) {
       o->optimizer.kind = DESCENT_OPTIMIZER_LAMB;
       o->optimizer.weight_decay = 0.01;
     }},
};

/* The parameters before the first step and after each, on the candidate or, where it is NULL, on the machine. */
std::vector<Parameters> run(const Case &c, descent_precision precision, const conformance::Candidate *candidate,
                            const Machine &machine, descent_fusion fusion = DESCENT_FUSION_OFF) {
  const int64_t outputs = c.widths.back();
  const bool regression = c.loss == DESCENT_LOSS_MEAN_SQUARED_ERROR;
  Rows rows = make_rows(ROWS, c.widths[0], regression ? outputs : 1, regression ? 0 : outputs == 1 ? 2 : outputs, 1);
  std::mt19937 random(1);
  for (int64_t r = 0; r < ROWS; r++) rows.weights.push_back(0.5F + static_cast<float>(random() % 100) / 100);
  const Dataset data = rows.dataset();
  const Device known = open_device("reference", 1);
  descent_device device = *known; /* for a backend that cannot be opened by name */
  device.backend = candidate ? candidate->backend : &backend_reference;
  EXPECT_EQ(device.backend->open(0, candidate ? candidate->threads : 1, &device.device), DESCENT_OK)
      << descent_last_error();
  const Network network = make_network(c.widths, c.hidden, c.loss);
  EXPECT_EQ(descent_network_fit_preprocessing(network.get(), data.get(), DESCENT_NORMALIZE_STANDARD,
                                              DESCENT_IMPUTE_MEAN, regression),
            DESCENT_OK);
  descent_train_options options = descent_train_options_default();
  c.change(&options);
  options.precision = precision;
  options.gpu.fusion = fusion;
  EXPECT_EQ(descent_train_options_check(&options, network.get(), &device), DESCENT_OK) << descent_last_error();
  const float class_weights[] = {0.75F, 1.5F};
  struct program program {};
  EXPECT_EQ(program_create(network.get(), &device, &options, BATCH, 0, class_weights, &program), DESCENT_OK)
      << descent_last_error();
  EXPECT_EQ(program_bind(&program, data.get()), DESCENT_OK);

  std::vector<Parameters> trajectory;
  const auto note = [&] {
    trajectory.emplace_back(static_cast<size_t>(network->n_parameters));
    EXPECT_EQ(
        program_read(&program, program.at.parameters, 0, network->n_parameters, PLAN_F64, trajectory.back().data()),
        DESCENT_OK);
  };
  note();
  const int64_t epoch_steps = (ROWS - 1) / BATCH + 1;
  for (int64_t t = 0; t < STEPS; t++) {
    const permutation order = permutation_create(7, RNG_SHUFFLE, static_cast<uint64_t>(t / epoch_steps), ROWS);
    const int64_t first = t % epoch_steps * BATCH;
    const plan_step step = {
        t + 1, first, std::min<int64_t>(BATCH, ROWS - first), options.optimizer.learning_rate, &order, 0, 0, 0, 0};
    if (machine.manner == EXACTLY) {
      EXPECT_EQ(program_run(&program, program.plan->train, &step, 1), DESCENT_OK) << descent_last_error();
    } else {
      erring::run(&program, program.plan->train, step, machine);
    }
    note();
  }
  program_clear(&program);
  device.backend->close(device.device);
  return trajectory;
}

/* How far from the exact parameters those after each step may be. */
std::vector<double> bounds_of(const Case &c, descent_precision precision, const std::vector<Parameters> &exact) {
  return erring::growth(exact, [&](const Machine &machine) { return run(c, precision, nullptr, machine); });
}

const simulated::Manner manners[] = {
    {false, false, false, false, simulated::TOGETHER, 0, simulated::RIGHT},
    {true, false, true, false, simulated::TOGETHER_IN_BF16, -1, simulated::RIGHT},
    {true, true, false, true, simulated::APART, 1, simulated::RIGHT},
};

using Parameter = std::tuple<Case, descent_precision>;
class Trajectory : public testing::TestWithParam<Parameter> {};

TEST_P(Trajectory, EveryBackendStaysWithTheReference) {
  const auto &[c, precision] = GetParam();
  const Machine exactly{EXACTLY, 0};
  const std::vector<Parameters> exact = run(c, precision, nullptr, exactly);
  const std::vector<double> bound = bounds_of(c, precision, exact);
  const double way = distance(exact[STEPS], exact[0]);
  for (const conformance::Candidate &candidate : conformance::candidates()) {
    if (std::find(candidate.precisions.begin(), candidate.precisions.end(), precision) == candidate.precisions.end())
      continue;
    const auto expect_near = [&](descent_fusion fusion) {
      SCOPED_TRACE(candidate.name + std::string(", fusion ") + descent_fusion_name(fusion));
      const std::vector<Parameters> tried = run(c, precision, &candidate, exactly, fusion);
      for (size_t t = 0; t <= STEPS; t++) ASSERT_LE(distance(tried[t], exact[t]), bound[t]) << "after step " << t;
    };
    for (const simulated::Manner &manner : manners) { /* which only the simulated backend uses */
      if (candidate.backend != &simulated::table() && &manner != manners) break;
      simulated::manner = manner;
      expect_near(DESCENT_FUSION_OFF);
      simulated::manner = {};
    }
    if (candidate.backend->fused_with) expect_near(DESCENT_FUSION_ON);
    if (HasFatalFailure()) return;
  }
  /* The allowance is small compared with the distance travelled, so a wrong formula, or a sum that lacks an element,
   * shows. */
  EXPECT_LT(bound[STEPS], way * (precision == DESCENT_PRECISION_FP32 ? 1e-3 : 0.15));
  const conformance::Candidate wrong{"wrong", &simulated::table(), 1, {}};
  simulated::manner.fault = simulated::LOSES_THE_TAIL;
  const std::vector<Parameters> strayed = run(c, precision, &wrong, exactly);
  simulated::manner = {};
  EXPECT_GT(distance(strayed[STEPS], exact[STEPS]), bound[STEPS]);
}

INSTANTIATE_TEST_SUITE_P(Cases, Trajectory,
                         testing::Combine(testing::ValuesIn(cases),
                                          testing::Values(DESCENT_PRECISION_FP32, DESCENT_PRECISION_TF32,
                                                          DESCENT_PRECISION_BF16)),
                         [](const testing::TestParamInfo<Parameter> &row) {
                           return std::get<0>(row.param).name + std::string("_") +
                                  descent_precision_name(std::get<1>(row.param));
                         });

}  // namespace
