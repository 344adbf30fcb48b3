/* dJ/dW and dJ/db of whole networks against central differences of J, both in double through the reference backend. */
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "internal.h"

extern "C" {
#include "backend/program.h"
#include "verify/synthetic.h"
}

namespace {

const int64_t rows = 7;
const uint64_t seed = 20;

class Gradient : public testing::TestWithParam<std::tuple<descent_activation, descent_loss, bool>> {};

std::string case_name(const testing::TestParamInfo<Gradient::ParamType> &info) {
  return std::string(descent_activation_name(std::get<0>(info.param))) + "_" +
         descent_loss_name(std::get<1>(info.param)) + (std::get<2>(info.param) ? "_smoothed_and_weighted" : "");
}

/* A network's training step on the reference, with the ranges "forward and loss" and "through the gradients". */
class Step {
 public:
  Step(descent_activation hidden, descent_loss loss, bool smoothed) {
    std::vector<int64_t> widths{5, 4, loss == DESCENT_LOSS_BINARY_CROSS_ENTROPY ? 1 : 3};
    std::vector<descent_activation> activations{hidden, hidden, DESCENT_ACTIVATION_IDENTITY};
    if (loss_is_regression(loss)) activations.back() = hidden;
    descent_network_options shape = descent_network_options_default();
    shape.inputs = 3;
    shape.layers = 3;
    shape.widths = widths.data();
    shape.activations = activations.data();
    shape.loss = loss;
    check(descent_network_create(&shape, &network_));
    check(descent_network_initialise(network_, DESCENT_INIT_XAVIER_NORMAL, seed));
    const std::vector<float> bias{0.1f, -0.2f, 0.3f, -0.4f, 0.5f};
    for (int layer = 1; layer <= 3; layer++) check(descent_network_set_layer(network_, layer, nullptr, bias.data()));
    check(descent_device_open("reference", 0, &device_));
    check(synthetic_create(network_, rows, seed, &data_));
    descent_train_options options = descent_train_options_default();
    options.batch_size = rows;
    std::vector<double> class_weights;
    if (smoothed && !loss_is_regression(loss)) {
      options.label_smoothing = 0.1;
      for (int64_t k = 0; k < data_.storage.classes; k++) class_weights.push_back(0.5 + static_cast<double>(k));
      options.class_weights = class_weights.data();
    }
    if (!smoothed) data_.storage.weights = nullptr;
    check(program_create(network_, device_, &options, rows, 0, options.class_weights ? data_.class_weights : nullptr,
                         &program_));
    check(program_bind(&program_, &data_.dataset));
  }
  ~Step() {
    program_clear(&program_);
    synthetic_clear(&data_);
    descent_device_close(device_);
    descent_network_free(network_);
  }
  Step(const Step &) = delete;
  Step &operator=(const Step &) = delete;

  /* Runs the step's operations up to and including the last of kind `last`. */
  void run(plan_op_kind last) {
    plan_range range{program_.plan->train.first, 0};
    for (int i = 0; i < program_.plan->train.count; i++)
      if (program_.plan->ops[range.first + i].kind == last) range.count = i + 1;
    ASSERT_GT(range.count, 0);
    permutation order = permutation_create(seed, RNG_SHUFFLE, 1, rows);
    plan_step step{};
    step.number = 1;
    step.rows = rows;
    step.learning_rate = 0;
    step.order = &order;
    check(program_run(&program_, range, &step, 1));
  }

  double J_with(int64_t at, double value) {
    check(program_write(&program_, program_.at.parameters, at, 1, PLAN_F64, &value));
    run(OP_LOSS);
    double J = NAN;
    check(program_read(&program_, program_.at.scalars, SCALAR_LOSS, 1, PLAN_F64, &J));
    return J;
  }

  /* Which units of relu-like layers are on, for every row: there is a kink between two states that differ. */
  std::vector<bool> signs() {
    std::vector<bool> on;
    for (int i = 0; i < program_.plan->train.count; i++) {
      const plan_op &op = program_.plan->ops[program_.plan->train.first + i];
      if (op.kind != OP_DENSE_FORWARD ||
          (op.forward.activation != DESCENT_ACTIVATION_RELU && op.forward.activation != DESCENT_ACTIVATION_LEAKY_RELU))
        continue;
      std::vector<double> A(static_cast<size_t>(rows * op.forward.n_out));
      check(program_read(&program_, op.forward.A, 0, static_cast<int64_t>(A.size()), PLAN_F64, A.data()));
      for (double a : A) on.push_back(a > 0);
    }
    return on;
  }

  std::vector<double> read(int buffer, int64_t count) {
    std::vector<double> values(static_cast<size_t>(count));
    check(program_read(&program_, buffer, 0, count, PLAN_F64, values.data()));
    return values;
  }

  static void check(descent_status status) { ASSERT_EQ(status, DESCENT_OK) << descent_last_error(); }

  descent_network *network_ = nullptr;
  descent_device *device_ = nullptr;
  synthetic data_{};
  program program_{};
};

TEST_P(Gradient, equals_the_central_difference_of_J) {
  Step step(std::get<0>(GetParam()), std::get<1>(GetParam()), std::get<2>(GetParam()));
  if (HasFatalFailure()) return;
  step.run(OP_DENSE_BACKWARD_WEIGHTS);
  const std::vector<double> gradients = step.read(step.program_.at.gradients, step.network_->n_parameters);
  const std::vector<double> parameters = step.read(step.program_.at.parameters, step.network_->n_parameters);

  /* (J(w+h) - J(w-h)) / 2h = J' + h^2 J''' / 6 + O(h^4). The difference between steps h and 2h estimates three times
   * the h^2 term, so twice that difference bounds it with room; J itself carries at most about 100 roundings of
   * quantities of order 1, which the division by h magnifies. */
  const double h = 1e-5, unit = 0x1p-53;
  int compared = 0, kinks = 0;
  for (int layer = 0; layer < step.network_->n_layers; layer++) {
    const network_layer &at = step.network_->layers[layer];
    std::vector<int64_t> positions;
    for (int64_t i = 0; i < at.n_out * at.n_in; i++) positions.push_back(at.at.W + i);
    for (int64_t i = 0; i < at.n_out; i++) positions.push_back(at.at.b + i);
    for (int64_t i : positions) {
      const double w = parameters[static_cast<size_t>(i)], g = gradients[static_cast<size_t>(i)];
      const double far_up = step.J_with(i, w + 2 * h);
      const std::vector<bool> above = step.signs();
      const double far_down = step.J_with(i, w - 2 * h);
      const bool kink = above != step.signs();
      const double up = step.J_with(i, w + h), down = step.J_with(i, w - h), J = step.J_with(i, w);
      if (kink) {
        kinks++;
        continue;
      }
      const double near = (up - down) / (2 * h), wide = (far_up - far_down) / (4 * h);
      const double bound = 2 * std::fabs(near - wide) + 100 * unit * (1 + std::fabs(J)) / h;
      EXPECT_LE(std::fabs(near - g), bound) << "layer " << layer + 1 << ", parameter " << i << ": gradient " << g;
      compared++;
    }
  }
  EXPECT_GT(compared, 40);
  EXPECT_LT(kinks, compared / 10) << "too many kinks to say anything";
}

#define ACTIVATION(NAME, text) DESCENT_ACTIVATION_##NAME,
#define LOSS(NAME, text) DESCENT_LOSS_##NAME,
const descent_activation activations[] = {DESCENT_ACTIVATION_MAP(ACTIVATION)};
const descent_loss losses[] = {DESCENT_LOSS_MAP(LOSS)};
INSTANTIATE_TEST_SUITE_P(Networks, Gradient,
                         testing::Combine(testing::ValuesIn(activations), testing::ValuesIn(losses), testing::Bool()),
                         case_name);

}  // namespace
