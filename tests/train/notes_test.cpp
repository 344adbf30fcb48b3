/* The notes' formulas on a network small enough to work out by hand: 2 inputs, 2 and 2 hidden units, 1 output, two
 * examples. Every expected number below was computed independently with 40 digits and is given to 17. */
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "cuda_module.h"
#include "internal.h"

extern "C" {
#include "backend/program.h"
}

namespace {

const double tolerance = 1e-13; /* double arithmetic on numbers of order 1, printed to 17 digits */

void check(descent_status status) { ASSERT_EQ(status, DESCENT_OK) << descent_last_error(); }

/* The worked example. X, W and b are exact in float32. */
const std::vector<float> X{0.5f, -1.0f, 2.0f, 0.25f}, y{1.0f, 0.0f};
const std::vector<std::vector<float>> W{{0.5f, -0.25f, 0.75f, 1.0f}, {1.0f, -0.5f, 0.25f, 0.5f}, {0.75f, -1.25f}};
const std::vector<std::vector<float>> b{{0.125f, -0.5f}, {0.0f, 0.25f}, {0.5f}};

struct Expected {
  descent_activation activation;
  double J;
  std::vector<std::vector<double>> A, dW, db; /* A: both examples' rows; per layer */
};
#include "notes_expected.h"

class Notes : public testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    const Expected &e = expected[GetParam()];
    const int64_t widths[] = {2, 2, 1};
    const descent_activation activations[] = {e.activation, e.activation, DESCENT_ACTIVATION_IDENTITY};
    descent_network_options shape = descent_network_options_default();
    shape.inputs = 2;
    shape.layers = 3;
    shape.widths = widths;
    shape.activations = activations;
    shape.loss = DESCENT_LOSS_BINARY_CROSS_ENTROPY;
    check(descent_network_create(&shape, &network_));
    for (int l = 0; l < 3; l++)
      check(descent_network_set_layer(network_, l + 1, W[static_cast<size_t>(l)].data(),
                                      b[static_cast<size_t>(l)].data()));
    descent_train_options options = descent_train_options_default();
    options.optimizer.kind = DESCENT_OPTIMIZER_GD;
    options.batch_size = 2;
    check(descent_device_open("reference", 0, &device_));
    check(descent_dataset_create(X.data(), y.data(), nullptr, 2, 2, 1, DESCENT_TASK_BINARY, 2, &data_));
    check(program_create(network_, device_, &options, 2, 0, nullptr, &program_));
    check(program_bind(&program_, data_));
    order_ = {2, 1, {}};
    plan_step step{};
    step.number = 1;
    step.rows = 2;
    step.learning_rate = alpha;
    /* The permutation determines the order of the rows in the batch; sums over rows do not depend on it. */
    order_ = permutation_create(0, RNG_SHUFFLE, 0, 2);
    step.order = &order_;
    check(program_run(&program_, program_.plan->train, &step, 1));
  }
  void TearDown() override {
    program_clear(&program_);
    descent_dataset_free(data_);
    descent_device_close(device_);
    descent_network_free(network_);
  }
  double at(int buffer, int64_t offset) const {
    double value = NAN;
    check(program_read(&program_, buffer, offset, 1, PLAN_F64, &value));
    return value;
  }
  /* Row of the batch that holds example i. */
  int64_t row_of(int64_t i) const { return permutation_index(&order_, 0) == static_cast<uint64_t>(i) ? 0 : 1; }
  const network_layer &layer(size_t l) const { return network_->layers[l]; }

  static constexpr double alpha = 0.5;
  descent_network *network_ = nullptr;
  descent_device *device_ = nullptr;
  descent_dataset *data_ = nullptr;
  program program_{};
  permutation order_{};
};

TEST_P(Notes, forward_pass_gives_A_of_every_layer) {
  const Expected &e = expected[GetParam()];
  size_t l = 0;
  for (int i = 0; i < program_.plan->train.count; i++) {
    const plan_op &op = program_.plan->ops[program_.plan->train.first + i];
    if (op.kind != OP_DENSE_FORWARD) continue;
    for (int64_t example = 0; example < 2; example++)
      for (int64_t j = 0; j < op.forward.n_out; j++)
        EXPECT_NEAR(at(op.forward.A, row_of(example) * op.forward.n_out + j),
                    e.A[l][static_cast<size_t>(example * op.forward.n_out + j)], tolerance)
            << "layer " << l + 1 << ", example " << example;
    l++;
  }
  EXPECT_EQ(l, 3u);
}

TEST_P(Notes, loss_is_the_mean_binary_cross_entropy) {
  EXPECT_NEAR(at(program_.at.scalars, SCALAR_LOSS), expected[GetParam()].J, tolerance);
}

TEST_P(Notes, backward_pass_gives_dJ_dW_and_dJ_db_of_every_layer) {
  const Expected &e = expected[GetParam()];
  for (size_t l = 0; l < 3; l++) {
    for (size_t i = 0; i < e.dW[l].size(); i++)
      EXPECT_NEAR(at(program_.at.gradients, layer(l).at.W + static_cast<int64_t>(i)), e.dW[l][i], tolerance)
          << "dW of layer " << l + 1;
    for (size_t i = 0; i < e.db[l].size(); i++)
      EXPECT_NEAR(at(program_.at.gradients, layer(l).at.b + static_cast<int64_t>(i)), e.db[l][i], tolerance)
          << "db of layer " << l + 1;
  }
}

TEST_P(Notes, update_is_w_minus_alpha_dJ_dw) {
  const Expected &e = expected[GetParam()];
  for (size_t l = 0; l < 3; l++) {
    for (size_t i = 0; i < e.dW[l].size(); i++)
      EXPECT_NEAR(at(program_.at.parameters, layer(l).at.W + static_cast<int64_t>(i)),
                  static_cast<double>(W[l][i]) - alpha * e.dW[l][i], tolerance);
    for (size_t i = 0; i < e.db[l].size(); i++)
      EXPECT_NEAR(at(program_.at.parameters, layer(l).at.b + static_cast<int64_t>(i)),
                  static_cast<double>(b[l][i]) - alpha * e.db[l][i], tolerance);
  }
}

INSTANTIATE_TEST_SUITE_P(Activations, Notes, testing::Range(0, static_cast<int>(std::size(expected))),
                         [](const testing::TestParamInfo<int> &which) {
                           return std::string(descent_activation_name(expected[which.param].activation));
                         });

/* One-layer networks that isolate single formulas: W = 1, b = 0, so Z = x. */
class Probe {
 public:
  Probe(const char *device, descent_activation activation, descent_loss loss, int64_t width) : width_(width) {
    descent_network_options shape = descent_network_options_default();
    shape.inputs = width;
    shape.layers = 1;
    shape.widths = &width;
    shape.activations = &activation;
    shape.loss = loss;
    check(descent_network_create(&shape, &network_));
    std::vector<float> identity(static_cast<size_t>(width * width));
    for (int64_t i = 0; i < width; i++) identity[static_cast<size_t>(i * width + i)] = 1;
    check(descent_network_set_layer(network_, 1, identity.data(), nullptr));
    descent_train_options options = descent_train_options_default();
    options.optimizer.kind = DESCENT_OPTIMIZER_GD;
    options.optimizer.learning_rate = 1e-30;
    check(descent_device_open(device, 1, &device_));
    check(descent_trainer_create(network_, device_, &options, 1, &trainer_));
  }
  ~Probe() {
    descent_trainer_free(trainer_);
    descent_device_close(device_);
    descent_network_free(network_);
  }
  Probe(const Probe &) = delete;
  Probe &operator=(const Probe &) = delete;
  double loss(const std::vector<float> &x, const std::vector<float> &target) {
    descent_step_info info{};
    EXPECT_EQ(descent_trainer_step(trainer_, x.data(), target.data(), nullptr, 1, &info), DESCENT_OK)
        << descent_last_error();
    return info.loss;
  }

 private:
  int64_t width_;
  descent_network *network_ = nullptr;
  descent_device *device_ = nullptr;
  descent_trainer *trainer_ = nullptr;
};

TEST(Losses, stay_finite_and_right_for_extreme_logits_on_every_device) {
  struct {
    descent_loss loss;
    std::vector<float> z, y;
    double expected;
  } const cases[] = {
      {DESCENT_LOSS_BINARY_CROSS_ENTROPY, {1000}, {1}, 0},
      {DESCENT_LOSS_BINARY_CROSS_ENTROPY, {1000}, {0}, 1000},
      {DESCENT_LOSS_BINARY_CROSS_ENTROPY, {-1000}, {1}, 1000},
      {DESCENT_LOSS_BINARY_CROSS_ENTROPY, {-1000}, {0}, 0},
      {DESCENT_LOSS_BINARY_CROSS_ENTROPY, {0}, {1}, 0.693147180559945},
      {DESCENT_LOSS_BINARY_CROSS_ENTROPY, {2}, {0}, 2.12692801104297},
      {DESCENT_LOSS_BINARY_CROSS_ENTROPY, {3e38f}, {0}, 3e38},
      {DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, {1000, 0, -1000}, {0}, 0},
      {DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, {1000, 0, -1000}, {2}, 2000},
      {DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, {5, 5, 5}, {1}, 1.09861228866811},
      {DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, {1, 2, 3}, {2}, 0.407605964444380},
      {DESCENT_LOSS_MEAN_SQUARED_ERROR, {1, 2, 3}, {1, 0, 6}, 13.0 / 3},
  };
  for (const char *device : {"reference", "cpu", "cuda"})
    for (const auto &c : cases) {
      Probe probe(device, DESCENT_ACTIVATION_IDENTITY, c.loss, static_cast<int64_t>(c.z.size()));
      const double J = probe.loss(c.z, c.y);
      /* float32: the loss of one row carries a handful of roundings of the logits' size. */
      EXPECT_NEAR(J, c.expected, 8 * 0x1p-24 * std::fmax(1, c.expected)) << device << " z[0] = " << c.z[0];
    }
}

TEST(Initialisation, has_the_variance_of_its_scheme) {
  const int64_t n_in = 300, n_out = 200;
  struct {
    descent_init init;
    descent_activation activation;
    double variance, kurtosis; /* of the distribution: 3 for normal, 1.8 for uniform */
  } const cases[] = {
      {DESCENT_INIT_XAVIER_UNIFORM, DESCENT_ACTIVATION_RELU, 2.0 / (n_in + n_out), 1.8},
      {DESCENT_INIT_XAVIER_NORMAL, DESCENT_ACTIVATION_RELU, 2.0 / (n_in + n_out), 3},
      {DESCENT_INIT_HE_UNIFORM, DESCENT_ACTIVATION_TANH, 2.0 / n_in, 1.8},
      {DESCENT_INIT_HE_NORMAL, DESCENT_ACTIVATION_TANH, 2.0 / n_in, 3},
      {DESCENT_INIT_LECUN_UNIFORM, DESCENT_ACTIVATION_RELU, 1.0 / n_in, 1.8},
      {DESCENT_INIT_LECUN_NORMAL, DESCENT_ACTIVATION_RELU, 1.0 / n_in, 3},
      {DESCENT_INIT_AUTO, DESCENT_ACTIVATION_RELU, 2.0 / n_in, 3},
      {DESCENT_INIT_AUTO, DESCENT_ACTIVATION_TANH, 2.0 / (n_in + n_out), 1.8},
      {DESCENT_INIT_AUTO, DESCENT_ACTIVATION_SIGMOID, 2.0 / (n_in + n_out), 1.8},
      {DESCENT_INIT_AUTO, DESCENT_ACTIVATION_GELU, 2.0 / n_in, 3},
  };
  for (const auto &c : cases) {
    const int64_t widths[] = {n_out, 1};
    const descent_activation activations[] = {c.activation, DESCENT_ACTIVATION_IDENTITY};
    descent_network_options shape = descent_network_options_default();
    shape.inputs = n_in;
    shape.layers = 2;
    shape.widths = widths;
    shape.activations = activations;
    descent_network *network = nullptr;
    check(descent_network_create(&shape, &network));
    check(descent_network_initialise(network, c.init, 5));
    std::vector<float> weights(static_cast<size_t>(n_in * n_out)), biases(static_cast<size_t>(n_out));
    check(descent_network_get_layer(network, 1, weights.data(), biases.data()));
    descent_network_free(network);
    double sum = 0, squares = 0;
    const double n = static_cast<double>(weights.size());
    for (float w : weights) sum += static_cast<double>(w), squares += static_cast<double>(w) * static_cast<double>(w);
    /* Standard errors of mean and variance; five of them. */
    EXPECT_NEAR(sum / n, 0, 5 * std::sqrt(c.variance / n)) << descent_init_name(c.init);
    EXPECT_NEAR(squares / n, c.variance, 5 * c.variance * std::sqrt((c.kurtosis - 1) / n)) << descent_init_name(c.init);
    for (float bias : biases) EXPECT_EQ(bias, 0);
  }
}

}  // namespace
