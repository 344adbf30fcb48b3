/* A hundred steps on every backend, in each of its precisions, layer by layer and several layers in one kernel, stay as
 * close to the same steps in double as that precision can explain.
 *
 * How far that is, is derived by propagation: bounds.h says how far what one operation writes may be from the exact
 * result, and machines that err by exactly that much, in every value of every operation, are simulated by disturbing
 * the reference. What their errors grow to over the steps, through this very network and optimizer, bounds what a
 * backend's may. While errors are small they grow linearly: the deviation after t steps is the sum over all values v
 * ever written of e_v L_v, where |e_v| <= bound_v. Two parts of e_v grow differently:
 * - a systematic one, of which the worst of the machines that always err alike (up, down, inward, outward, or for each
 *   unit or parameter the same way at every step) is taken;
 * - an independent one of mean 0. For a machine that errs at random the mean square of the deviation is sigma^2 = sum_v
 *   bound_v^2 |L_v|^2, and no smaller errors exceed sigma (1 + sqrt(2 ln(1 / p))) but with probability p (McDiarmid's
 *   inequality for the norm of the sum: changing e_v changes it by at most 2 bound_v |L_v|). */
#include <gtest/gtest.h>

#include <cmath>

#include "candidates.h"
#include "training.h"

namespace {

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

using Parameters = std::vector<double>;

double distance(const Parameters &a, const Parameters &b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); i++) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return std::sqrt(sum);
}

/* How the values that the reference writes are moved, each by its whole bound. */
enum Manner { EXACTLY, UP, DOWN, INWARD, OUTWARD, ALWAYS_ALIKE, AT_RANDOM };
struct Machine {
  Manner manner;
  uint64_t seed; /* of ALWAYS_ALIKE and AT_RANDOM */
};
const Machine systematic[] = {{UP, 0}, {DOWN, 0}, {INWARD, 0}, {OUTWARD, 0}, {ALWAYS_ALIKE, 1}, {ALWAYS_ALIKE, 2}};
const Machine at_random[] = {{AT_RANDOM, 1}, {AT_RANDOM, 2}, {AT_RANDOM, 3}, {AT_RANDOM, 4}};

bool is_up(const Machine &machine, int64_t step, int op, int64_t column, int64_t element, double exact) {
  const auto drawn = [&](int64_t i, int64_t counter) {
    return rng_uniform(machine.seed, RNG_SYNTHETIC, static_cast<uint32_t>(op), static_cast<uint64_t>(counter),
                       static_cast<uint64_t>(i)) < 0.5;
  };
  switch (machine.manner) {
    case INWARD: return exact < 0;
    case OUTWARD: return exact > 0;
    case ALWAYS_ALIKE: return drawn(column, 0);
    case AT_RANDOM: return drawn(element, step);
    default: return machine.manner == UP;
  }
}

/* Runs the step's operations one by one and moves every value that they write. */
void run_erring(struct program *program, const plan_step &step, const Machine &machine) {
  const plan_range range = program->plan->train;
  for (int i = range.first; i < range.first + range.count; i++) {
    bounds bounds{};
    ASSERT_EQ(bounds_run(program->compiled, program->plan, i, &step, &bounds), DESCENT_OK) << descent_last_error();
    for (int j = 0; j < bounds.n; j++) {
      const bounds_output &output = bounds.outputs[j];
      std::vector<double> values(static_cast<size_t>(output.count));
      const int64_t cols = program->plan->buffers[output.buffer].cols;
      for (int64_t v = 0; v < output.count; v++) {
        const bool up = is_up(machine, step.number, i, (output.offset + v) % cols, output.offset + v, output.exact[v]);
        values[static_cast<size_t>(v)] = output.exact[v] + (up ? output.bound[v] : -output.bound[v]);
      }
      ASSERT_EQ(program_write(program, output.buffer, output.offset, output.count, PLAN_F64, values.data()),
                DESCENT_OK);
    }
    bounds_clear(&bounds);
  }
}

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
      run_erring(&program, step, machine);
    }
    note();
  }
  program_clear(&program);
  device.backend->close(device.device);
  return trajectory;
}

/* How far from the exact parameters those after each step may be. */
std::vector<double> bounds_of(const Case &c, descent_precision precision, const std::vector<Parameters> &exact) {
  std::vector<double> worst(STEPS + 1), squares(STEPS + 1), bound(STEPS + 1);
  for (const Machine &machine : systematic) {
    const std::vector<Parameters> trajectory = run(c, precision, nullptr, machine);
    for (size_t t = 0; t <= STEPS; t++) worst[t] = std::max(worst[t], distance(trajectory[t], exact[t]));
  }
  for (const Machine &machine : at_random) {
    const std::vector<Parameters> trajectory = run(c, precision, nullptr, machine);
    for (size_t t = 0; t <= STEPS; t++) squares[t] += std::pow(distance(trajectory[t], exact[t]), 2);
  }
  const double lambda = 1 + std::sqrt(2 * std::log(1 / 1e-9));
  for (size_t t = 0; t <= STEPS; t++)
    bound[t] = worst[t] + lambda * std::sqrt(squares[t] / static_cast<double>(std::size(at_random)));
  return bound;
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
