/* Fifty steps on the cpu stay as close to the same steps in double as float32 can explain.
 *
 * How far that is, is derived by propagation: bounds.h says how far one operation's float32 outputs may be from the
 * exact ones, and a machine that errs by exactly that much, in every value of every operation, is simulated by
 * disturbing the reference. What its errors grow to over the steps, through this very network and optimizer, is what
 * the cpu, whose every error is smaller, may not exceed. */
#include <gtest/gtest.h>

#include <cmath>

#include "training.h"

namespace {

enum { STEPS = 50, ROWS = 100, BATCH = 32 };

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
       o->optimizer = DESCENT_OPTIMIZER_GD;
       o->learning_rate = 0.5;
     }},
    {"nesterov_tanh_classes",
     {8, 12, 12, 5},
     DESCENT_ACTIVATION_TANH,
     DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY,
     [](descent_train_options *o) {
       o->optimizer = DESCENT_OPTIMIZER_SGD;
       o->learning_rate = 0.05;
       o->momentum = 0.9;
       o->nesterov = true;
       o->l2 = 0.01;
     }},
    {"rmsprop_silu_regression",
     {8, 15, 3},
     DESCENT_ACTIVATION_SILU,
     DESCENT_LOSS_MEAN_SQUARED_ERROR,
     [](descent_train_options *o) {
       o->optimizer = DESCENT_OPTIMIZER_RMSPROP;
       o->momentum = 0.5;
     }},
    {"adam_relu_classes_dropout",
     {8, 24, 17, 5},
     DESCENT_ACTIVATION_RELU,
     DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY,
     [](descent_train_options *o) {
       o->dropout = 0.25;
       o->label_smoothing = 0.1;
       o->clip_norm = 0.5;
     }},
    {"adamw_gelu_binary_dropout",
     {8, 16, 16, 16, 1},
     DESCENT_ACTIVATION_GELU,
     DESCENT_LOSS_BINARY_CROSS_ENTROPY,
     [](descent_train_options *o) {
       o->optimizer = DESCENT_OPTIMIZER_ADAMW;
       o->weight_decay = 0.01;
       o->dropout = 0.5;
       o->balance_classes = true;
     }},
    {"adam_leaky_relu_regression",
     {8, 16, 4},
     DESCENT_ACTIVATION_LEAKY_RELU,
     DESCENT_LOSS_MEAN_SQUARED_ERROR,
     [](descent_train_options *) {}},
};

using Parameters = std::vector<double>;

double distance(const Parameters &a, const Parameters &b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); i++) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return std::sqrt(sum);
}

enum class Machine { EXACT, CPU, ERRS_UP, ERRS_DOWN, ERRS_AT_RANDOM };

/* Runs the step's operations one by one and moves every value that they write by its whole bound. */
void run_erring(struct program *program, const plan_step &step, Machine machine, std::mt19937 *random) {
  const plan_range range = program->plan->train;
  for (int i = range.first; i < range.first + range.count; i++) {
    bounds bounds{};
    ASSERT_EQ(bounds_run(program->compiled, program->plan, i, &step, &bounds), DESCENT_OK) << descent_last_error();
    for (int j = 0; j < bounds.n; j++) {
      const bounds_output &output = bounds.outputs[j];
      std::vector<double> values(static_cast<size_t>(output.count));
      for (size_t v = 0; v < values.size(); v++) {
        const bool up = machine == Machine::ERRS_AT_RANDOM ? (*random)() & 1 : machine == Machine::ERRS_UP;
        values[v] = output.exact[v] + (up ? output.bound[v] : -output.bound[v]);
      }
      ASSERT_EQ(program_write(program, output.buffer, output.offset, output.count, PLAN_F64, values.data()),
                DESCENT_OK);
    }
    bounds_clear(&bounds);
  }
}

/* The parameters before the first step and after each. */
std::vector<Parameters> run(const Case &c, Machine machine, unsigned seed) {
  const int64_t outputs = c.widths.back();
  const bool regression = c.loss == DESCENT_LOSS_MEAN_SQUARED_ERROR;
  Rows rows = make_rows(ROWS, c.widths[0], regression ? outputs : 1, regression ? 0 : outputs == 1 ? 2 : outputs, 1);
  std::mt19937 random(1);
  for (int64_t r = 0; r < ROWS; r++) rows.weights.push_back(0.5F + static_cast<float>(random() % 100) / 100);
  random.seed(seed);
  const Dataset data = rows.dataset();
  const Device device = open_device(machine == Machine::CPU ? "cpu" : "reference");
  const Network network = make_network(c.widths, c.hidden, c.loss);
  EXPECT_EQ(descent_network_fit_preprocessing(network.get(), data.get(), DESCENT_NORMALIZE_STANDARD, regression),
            DESCENT_OK);
  descent_train_options options = DESCENT_TRAIN_OPTIONS_INIT;
  c.change(&options);
  EXPECT_EQ(descent_train_options_check(&options, network.get(), device.get()), DESCENT_OK) << descent_last_error();
  const float class_weights[] = {0.75F, 1.5F};
  struct program program {};
  EXPECT_EQ(program_create(network.get(), device.get(), &options, BATCH, class_weights, &program), DESCENT_OK);
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
    const plan_step step = {t + 1, first, std::min<int64_t>(BATCH, ROWS - first), options.learning_rate, &order};
    if (machine == Machine::EXACT || machine == Machine::CPU) {
      EXPECT_EQ(program_run(&program, program.plan->train, &step, 1), DESCENT_OK);
    } else {
      run_erring(&program, step, machine, &random);
    }
    note();
  }
  program_clear(&program);
  return trajectory;
}

class Trajectory : public testing::TestWithParam<Case> {};

TEST_P(Trajectory, CpuStaysWithTheReference) {
  const Case &c = GetParam();
  const std::vector<Parameters> exact = run(c, Machine::EXACT, 1), cpu = run(c, Machine::CPU, 1);
  const std::vector<Parameters> erring[] = {run(c, Machine::ERRS_UP, 1), run(c, Machine::ERRS_DOWN, 1),
                                            run(c, Machine::ERRS_AT_RANDOM, 1), run(c, Machine::ERRS_AT_RANDOM, 2)};
  double bound = 0;
  for (size_t t = 0; t <= STEPS; t++) {
    bound = 0;
    for (const auto &trajectory : erring) bound = std::max(bound, distance(trajectory[t], exact[t]));
    ASSERT_LE(distance(cpu[t], exact[t]), bound) << "after step " << t;
  }
  /* And that is little beside the way gone: a wrong formula would show. */
  EXPECT_LT(bound, 1e-3 * distance(exact[STEPS], exact[0]));
}

INSTANTIATE_TEST_SUITE_P(Cases, Trajectory, testing::ValuesIn(cases),
                         [](const testing::TestParamInfo<Case> &row) { return row.param.name; });

}  // namespace
