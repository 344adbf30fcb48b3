/* A step in parts: its bits, the gradients of outputs against central differences in double, sums over several passes,
 * sensitivities of a predictor, and what is refused. */
#include <cmath>
#include <functional>
#include <limits>
#include <tuple>

#include "scratch.h"
#include "training.h"

extern "C" {
#include "core/rng.h"
}

namespace {

const int64_t rows = 6, inputs = 3, batch = 8;

/* 3 inputs, hidden layers of 5 and 4, `outputs` with the activation of the hidden layers for regression. Inputs are
 * normalised and missing cells filled. */
Network make(descent_activation activation, descent_loss loss, int64_t outputs) {
  const int64_t widths[] = {5, 4, outputs};
  const descent_activation output = loss_is_regression(loss) ? activation : DESCENT_ACTIVATION_IDENTITY;
  const descent_activation activations[] = {activation, activation, output};
  descent_network_options shape = descent_network_options_default();
  shape.inputs = inputs;
  shape.layers = 3;
  shape.widths = widths;
  shape.activations = activations;
  shape.loss = loss;
  descent_network *network = nullptr;
  EXPECT_EQ(descent_network_create(&shape, &network), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(descent_network_initialise(network, DESCENT_INIT_XAVIER_NORMAL, 3), DESCENT_OK);
  const float bias[] = {0.1F, -0.2F, 0.3F, -0.4F, 0.5F};
  for (int layer = 1; layer <= 3; layer++)
    EXPECT_EQ(descent_network_set_layer(network, layer, nullptr, bias), DESCENT_OK);
  const bool regression = loss_is_regression(loss);
  Rows fitted = make_rows(40, inputs, regression ? outputs : 1, regression ? 0 : outputs, 9);
  for (float &x : fitted.X) x = 3 * x + 2;
  EXPECT_EQ(descent_network_fit_preprocessing(network, fitted.dataset().get(), DESCENT_NORMALIZE_STANDARD,
                                              DESCENT_IMPUTE_MEAN, false),
            DESCENT_OK)
      << descent_last_error();
  return {network, descent_network_free};
}

/* Values in (-1, 1), multiples of 2^-12, so that a step of 2^-9 to either side is exact in float32. */
std::vector<float> drawn(int64_t n, uint32_t stream) {
  std::vector<float> values(static_cast<size_t>(n));
  for (size_t i = 0; i < values.size(); i++)
    values[i] = static_cast<float>(std::round((2 * rng_uniform(5, RNG_SYNTHETIC, stream, 0, i) - 1) * 4096) / 4096);
  return values;
}

std::vector<float> drawn_rows(bool missing) {
  std::vector<float> X = drawn(rows * inputs, 1);
  for (float &x : X) x = 4 * x + 2;
  for (size_t i = 1; missing && i < X.size(); i += 5) X[i] = NAN;
  return X;
}

Trainer make_trainer(const Network &network, const Device &device, const descent_train_options &options) {
  descent_trainer *trainer = nullptr;
  EXPECT_EQ(descent_trainer_create(network.get(), device.get(), &options, batch, &trainer), DESCENT_OK)
      << descent_last_error();
  return {trainer, descent_trainer_free};
}

struct Layer {
  std::vector<float> W, b;
};

Layer layer_of(const Trainer &trainer, int32_t layer, bool gradient) {
  const network_layer &at = trainer->network->layers[layer - 1];
  Layer made{std::vector<float>(static_cast<size_t>(at.n_out * at.n_in)),
             std::vector<float>(static_cast<size_t>(at.n_out))};
  const auto get = gradient ? descent_trainer_get_gradient : descent_trainer_get_layer;
  EXPECT_EQ(get(trainer.get(), layer, made.W.data(), made.b.data()), DESCENT_OK) << descent_last_error();
  return made;
}

/* All layers' parameters or gradients, in the order of the network's. */
std::vector<float> all_of(const Trainer &trainer, bool gradient) {
  std::vector<float> all;
  for (int32_t l = 1; l <= trainer->network->n_layers; l++) {
    const Layer layer = layer_of(trainer, l, gradient);
    all.insert(all.end(), layer.W.begin(), layer.W.end());
    all.insert(all.end(), layer.b.begin(), layer.b.end());
  }
  return all;
}

double norm_of(const std::vector<float> &values) {
  double squares = 0;
  for (float value : values) squares += static_cast<double>(value) * static_cast<double>(value);
  return std::sqrt(squares);
}

double distance(const std::vector<float> &a, const std::vector<float> &b) {
  double squares = 0;
  EXPECT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); i++) squares += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
  return std::sqrt(squares);
}

/* ---- against central differences --------------------------------------------------------------------------------- */

class Outputs : public testing::TestWithParam<std::tuple<descent_activation, int64_t, double>> {};

/* J = sum of dOutputs times the outputs, in double, after a forward of the reference device. */
class Linear {
 public:
  Linear(descent_activation activation, int64_t outputs, double dropout)
      : network(make(activation, DESCENT_LOSS_MEAN_SQUARED_ERROR, outputs)),
        device(open_device("reference")),
        X(drawn_rows(true)),
        dOutputs(drawn(rows * outputs, 2)),
        outputs_(static_cast<size_t>(rows * outputs)) {
    descent_train_options options = descent_train_options_default();
    options.dropout = dropout;
    trainer = make_trainer(network, device, options);
  }

  double J() {
    std::vector<double> A(outputs_.size());
    EXPECT_EQ(descent_trainer_forward(trainer.get(), X.data(), rows, outputs_.data()), DESCENT_OK);
    EXPECT_EQ(
        program_read(&trainer->program, trainer->program.at.A, 0, static_cast<int64_t>(A.size()), PLAN_F64, A.data()),
        DESCENT_OK);
    double sum = 0;
    for (size_t i = 0; i < A.size(); i++) sum += static_cast<double>(dOutputs[i]) * A[i];
    return sum;
  }

  /* Which units are on, for each row: between two states that differ there is a kink of relu or leaky_relu. */
  std::vector<bool> signs() {
    const plan &p = *trainer->program.plan;
    std::vector<bool> on;
    for (int i = p.forward.first; i < p.forward.first + p.forward.count; i++) {
      if (p.ops[i].kind != OP_DENSE_FORWARD) continue;
      std::vector<double> A(static_cast<size_t>(rows * p.ops[i].forward.n_out));
      EXPECT_EQ(
          program_read(&trainer->program, p.ops[i].forward.A, 0, static_cast<int64_t>(A.size()), PLAN_F64, A.data()),
          DESCENT_OK);
      for (double a : A) on.push_back(a > 0);
    }
    return on;
  }

  /* Compares the derivative by the value that `set` sets with central differences of steps h and 2 h, whose distance
   * is three times the error of the nearer one; J has about 100 roundings of values near 1, magnified by 1 / h; the
   * gradient is rounded to float32. False at a kink. */
  bool agrees(double gradient, double at, double h, const std::function<void(double)> &set) {
    double J_at[4];
    std::vector<bool> on[2];
    const double steps[] = {2 * h, -2 * h, h, -h};
    for (int i = 0; i < 4; i++) {
      set(at + steps[i]);
      J_at[i] = J();
      if (i < 2) on[i] = signs();
    }
    set(at);
    if (on[0] != on[1] && kinked()) return false;
    const double near = (J_at[2] - J_at[3]) / (2 * h), wide = (J_at[0] - J_at[1]) / (4 * h);
    const double bound =
        2 * std::fabs(near - wide) + 100 * 0x1p-53 * (1 + std::fabs(J_at[0])) / h + 4 * 0x1p-24 * std::fabs(gradient);
    EXPECT_LE(std::fabs(near - gradient), bound) << "gradient " << gradient;
    return true;
  }

  bool kinked() const {
    const descent_activation g = network->layers[0].activation;
    return g == DESCENT_ACTIVATION_RELU || g == DESCENT_ACTIVATION_LEAKY_RELU;
  }

  Network network;
  Device device;
  std::vector<float> X, dOutputs;
  Trainer trainer{nullptr, descent_trainer_free};

 private:
  std::vector<float> outputs_;
};

TEST_P(Outputs, HaveTheGradientsOfCentralDifferences) {
  Linear linear(std::get<0>(GetParam()), std::get<1>(GetParam()), std::get<2>(GetParam()));
  struct program *program = nullptr;
  std::vector<float> dX(static_cast<size_t>(rows * inputs), NAN);
  linear.J();
  program = &linear.trainer->program;
  ASSERT_EQ(descent_trainer_backward(linear.trainer.get(), linear.dOutputs.data(), dX.data(), false), DESCENT_OK)
      << descent_last_error();
  int compared = 0, kinks = 0;
  std::vector<Layer> gradients;
  for (int32_t l = 1; l <= 3; l++) gradients.push_back(layer_of(linear.trainer, l, true));
  for (int32_t l = 1; l <= 3; l++) {
    const network_layer &at = linear.network->layers[l - 1];
    const Layer &gradient = gradients[static_cast<size_t>(l - 1)];
    for (int64_t i = 0; i < at.n_out * (at.n_in + 1); i++) {
      const bool in_W = i < at.n_out * at.n_in;
      const int64_t position = in_W ? at.at.W + i : at.at.b + i - at.n_out * at.n_in;
      const auto index = static_cast<size_t>(in_W ? i : i - at.n_out * at.n_in);
      double w = 0;
      ASSERT_EQ(program_read(program, program->at.parameters, position, 1, PLAN_F64, &w), DESCENT_OK);
      const bool smooth =
          linear.agrees(static_cast<double>(in_W ? gradient.W[index] : gradient.b[index]), w, 1e-5, [&](double value) {
            ASSERT_EQ(program_write(program, program->at.parameters, position, 1, PLAN_F64, &value), DESCENT_OK);
          });
      smooth ? compared++ : kinks++;
    }
  }
  for (size_t i = 0; i < linear.X.size(); i++) {
    if (std::isnan(linear.X[i])) {
      EXPECT_EQ(dX[i], 0) << "a missing cell";
      continue;
    }
    const bool smooth = linear.agrees(static_cast<double>(dX[i]), static_cast<double>(linear.X[i]), 0x1p-9,
                                      [&](double value) { linear.X[i] = static_cast<float>(value); });
    smooth ? compared++ : kinks++;
  }
  EXPECT_GT(compared, 40);
  EXPECT_LT(kinks, compared / 3) << "too many kinks to say anything";
}

#define LISTED(NAME, text) DESCENT_ACTIVATION_##NAME,
const descent_activation activations[] = {DESCENT_ACTIVATION_MAP(LISTED)};
#undef LISTED
INSTANTIATE_TEST_SUITE_P(Activations, Outputs,
                         testing::Combine(testing::ValuesIn(activations), testing::Values(1, 3),
                                          testing::Values(0.0, 0.4)),
                         [](const testing::TestParamInfo<Outputs::ParamType> &row) {
                           return std::string(descent_activation_name(std::get<0>(row.param))) + "_" +
                                  std::to_string(std::get<1>(row.param)) +
                                  (std::get<2>(row.param) > 0 ? "_dropout" : "");
                         });

/* ---- on every device --------------------------------------------------------------------------------------------- */

struct Arithmetic {
  const char *device;
  descent_precision precision;
  double unit; /* largest relative error of an operand or a sum */
};
const Arithmetic arithmetics[] = {{"reference", DESCENT_PRECISION_FP32, 0x1p-24},
                                  {"cpu", DESCENT_PRECISION_FP32, 0x1p-24},
                                  {"cuda", DESCENT_PRECISION_FP32, 0x1p-24},
                                  {"cuda", DESCENT_PRECISION_TF32, 0x1p-10},
                                  {"cuda", DESCENT_PRECISION_BF16, 0x1p-8}};

/* The distance of two results of the network that are equal in exact arithmetic, relative to the sum of the terms' norms:
 * each operation on the way, three products forward and three backward with what follows them, has an error of its dot
 * length, at most 8 with the rows, in units of the precision. */
double bound_of(double unit) { return 6 * 8 * unit; }

class OnDevice : public testing::TestWithParam<Arithmetic> {
 protected:
  descent_train_options options() const {
    descent_train_options o = descent_train_options_default();
    o.precision = GetParam().precision;
    return o;
  }
  double bound() const { return bound_of(GetParam().unit); }
};
INSTANTIATE_TEST_SUITE_P(Devices, OnDevice, testing::ValuesIn(arithmetics),
                         [](const testing::TestParamInfo<Arithmetic> &row) {
                           return std::string(row.param.device) + "_" + descent_precision_name(row.param.precision);
                         });

/* Steps of different numbers of rows with dropout, weights, classes' weights, clipping, decay and momentum. */
TEST_P(OnDevice, GradientAndUpdateGiveTheBitsOfAStep) {
  const double class_weights[] = {0.5, 2, 1};
  for (descent_loss loss : {DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, DESCENT_LOSS_MEAN_SQUARED_ERROR}) {
    SCOPED_TRACE(descent_loss_name(loss));
    const bool classes = loss == DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY;
    const Network whole_network = make(DESCENT_ACTIVATION_RELU, loss, 3),
                  network = make(DESCENT_ACTIVATION_RELU, loss, 3);
    const Device device = open_device(GetParam().device);
    descent_train_options o = options();
    o.dropout = classes ? 0.25 : 0;
    o.optimizer.clip_norm = 0.1;
    o.optimizer.l2 = 0.01;
    o.optimizer.weight_decay = 0.01;
    o.schedule.warmup_steps = 3;
    if (classes) o.label_smoothing = 0.1, o.class_weights = class_weights;
    const Trainer whole = make_trainer(whole_network, device, o), parts = make_trainer(network, device, o);
    for (int64_t n : {8, 5, 8, 1, 7}) {
      SCOPED_TRACE(n);
      const Rows data = make_rows(n, inputs, classes ? 1 : 3, classes ? 3 : 0, static_cast<unsigned>(n));
      const std::vector<float> weights(static_cast<size_t>(n), 1.5F);
      const float *w = n % 2 ? weights.data() : nullptr;
      descent_step_info expected{}, first{}, second{};
      ASSERT_EQ(descent_trainer_step(whole.get(), data.X.data(), data.y.data(), w, n, &expected), DESCENT_OK);
      const std::vector<float> before = all_of(parts, false);
      ASSERT_EQ(descent_trainer_gradient(parts.get(), data.X.data(), data.y.data(), w, n, &first), DESCENT_OK)
          << descent_last_error();
      EXPECT_EQ(all_of(parts, false), before);
      EXPECT_EQ(all_of(parts, true), all_of(whole, true));
      ASSERT_EQ(descent_trainer_update(parts.get(), &second), DESCENT_OK) << descent_last_error();
      EXPECT_EQ(all_of(parts, false), all_of(whole, false));
      for (const descent_step_info &info : {first, second}) {
        EXPECT_EQ(info.step, expected.step);
        EXPECT_EQ(info.rows, n);
        EXPECT_EQ(info.loss, expected.loss);
        EXPECT_EQ(info.gradient_norm, expected.gradient_norm);
        EXPECT_EQ(info.learning_rate, expected.learning_rate);
      }
    }
  }
}

/* A trainer compiles its backward pass at the first forward; nothing of its state may change by that. */
TEST_P(OnDevice, AForwardBetweenStepsChangesNoBit) {
  const Network first = make(DESCENT_ACTIVATION_TANH, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, 3),
                second = make(DESCENT_ACTIVATION_TANH, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, 3);
  const Device device = open_device(GetParam().device);
  const double class_weights[] = {0.5, 2, 1};
  descent_train_options o = options();
  o.class_weights = class_weights;
  const Trainer plain = make_trainer(first, device, o), tried = make_trainer(second, device, o);
  const Rows data = make_rows(batch, inputs, 1, 3, 4);
  std::vector<float> outputs(3 * static_cast<size_t>(batch));
  for (int step = 0; step < 4; step++) {
    ASSERT_EQ(descent_trainer_step(plain.get(), data.X.data(), data.y.data(), nullptr, batch, nullptr), DESCENT_OK);
    ASSERT_EQ(descent_trainer_step(tried.get(), data.X.data(), data.y.data(), nullptr, batch, nullptr), DESCENT_OK);
    ASSERT_EQ(descent_trainer_forward(tried.get(), data.X.data(), batch, outputs.data()), DESCENT_OK)
        << descent_last_error();
    EXPECT_EQ(all_of(plain, false), all_of(tried, false)) << "step " << step + 1;
  }
}

TEST_P(OnDevice, ForwardWithoutDropoutIsThePrediction) {
  const Network network = make(DESCENT_ACTIVATION_SILU, DESCENT_LOSS_MEAN_SQUARED_ERROR, 3);
  const Device device = open_device(GetParam().device), exact = open_device("reference");
  const Trainer trainer = make_trainer(network, device, options());
  const Rows data{rows, inputs, 3, 0, drawn_rows(true), drawn(rows * 3, 7), {}};
  std::vector<float> outputs(3 * static_cast<size_t>(rows)), predicted(outputs.size());
  ASSERT_EQ(descent_trainer_forward(trainer.get(), data.X.data(), rows, outputs.data()), DESCENT_OK);
  ASSERT_EQ(descent_predict_raw(network.get(), exact.get(), data.dataset().get(), predicted.data()), DESCENT_OK);
  EXPECT_LE(distance(outputs, predicted), bound() * norm_of(predicted));
}

/* The gradients of every device are those of the reference; dX as well. */
TEST_P(OnDevice, BackwardIsThatOfTheReference) {
  for (descent_activation activation : activations) {
    SCOPED_TRACE(descent_activation_name(activation));
    const Network network = make(activation, DESCENT_LOSS_MEAN_SQUARED_ERROR, 3);
    const std::vector<float> X = drawn_rows(true), dOutputs = drawn(rows * 3, 2);
    std::vector<float> outputs(3 * static_cast<size_t>(rows));
    std::vector<std::vector<float>> gradients, dX;
    for (const char *name : {"reference", GetParam().device}) {
      const Device device = open_device(name);
      descent_train_options o = options();
      o.dropout = 0.25;
      if (name == std::string("reference")) o.precision = DESCENT_PRECISION_FP32;
      const Trainer trainer = make_trainer(network, device, o);
      dX.emplace_back(X.size(), NAN);
      ASSERT_EQ(descent_trainer_forward(trainer.get(), X.data(), rows, outputs.data()), DESCENT_OK);
      ASSERT_EQ(descent_trainer_backward(trainer.get(), dOutputs.data(), dX.back().data(), true), DESCENT_OK)
          << descent_last_error();
      gradients.push_back(all_of(trainer, true));
    }
    EXPECT_LE(distance(gradients[0], gradients[1]), bound() * norm_of(gradients[0]));
    EXPECT_LE(distance(dX[0], dX[1]), bound() * norm_of(dX[0]));
    EXPECT_GT(norm_of(gradients[0]), 0);
  }
}

/* Two passes of half the rows are one of all, up to rounding; without accumulate the second replaces the first. */
TEST_P(OnDevice, PassesAddUp) {
  const Network network = make(DESCENT_ACTIVATION_GELU, DESCENT_LOSS_MEAN_SQUARED_ERROR, 2);
  const Device device = open_device(GetParam().device);
  const Trainer trainer = make_trainer(network, device, options());
  const std::vector<float> X = drawn_rows(false), dOutputs = drawn(rows * 2, 3);
  std::vector<float> outputs(2 * static_cast<size_t>(rows));
  const int64_t half = rows / 2;
  const auto pass = [&](int64_t from, int64_t n, bool accumulate) {
    ASSERT_EQ(descent_trainer_forward(trainer.get(), X.data() + from * inputs, n, outputs.data()), DESCENT_OK);
    ASSERT_EQ(descent_trainer_backward(trainer.get(), dOutputs.data() + from * 2, nullptr, accumulate), DESCENT_OK);
  };
  pass(0, rows, false);
  const std::vector<float> whole = all_of(trainer, true);
  pass(half, half, false);
  const std::vector<float> second = all_of(trainer, true);
  pass(0, half, false);
  const std::vector<float> first = all_of(trainer, true);
  pass(half, half, true);
  const std::vector<float> sum = all_of(trainer, true);
  EXPECT_LE(distance(sum, whole), bound() * (norm_of(first) + norm_of(second)));
  std::vector<float> added(first.size());
  for (size_t i = 0; i < added.size(); i++) added[i] = first[i] + second[i];
  if (GetParam().device != std::string("reference")) {
    EXPECT_EQ(sum, added);
  }
  descent_step_info info{};
  ASSERT_EQ(descent_trainer_update(trainer.get(), &info), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(info.rows, rows);
  EXPECT_EQ(info.step, 1);
  EXPECT_TRUE(std::isnan(info.loss));
  pass(0, half, true); /* nothing is left to add to */
  pass(0, half, true);
  EXPECT_NEAR(norm_of(all_of(trainer, true)) / norm_of(first), 2, 0.5);
}

/* gd with the gradients that the caller sets: w - rate * gradient, one rounding of the product and one of the
 * difference. */
TEST_P(OnDevice, UpdatesTakeTheCallersGradientsAndParameters) {
  const Network network = make(DESCENT_ACTIVATION_TANH, DESCENT_LOSS_MEAN_SQUARED_ERROR, 2);
  const Device device = open_device(GetParam().device);
  descent_train_options o = options();
  o.optimizer.kind = DESCENT_OPTIMIZER_GD;
  o.optimizer.learning_rate = 0.5;
  const Trainer trainer = make_trainer(network, device, o);
  const std::vector<float> W = drawn(5 * 4, 11), dW = drawn(5 * 4, 12), b = drawn(4, 13), db = drawn(4, 14);
  ASSERT_EQ(descent_trainer_set_layer(trainer.get(), 2, W.data(), b.data()), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(layer_of(trainer, 2, false).W, W);
  EXPECT_EQ(layer_of(trainer, 2, false).b, b);
  ASSERT_EQ(descent_trainer_set_gradient(trainer.get(), 2, dW.data(), db.data()), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(layer_of(trainer, 2, true).W, dW);
  EXPECT_EQ(layer_of(trainer, 2, true).b, db);
  const std::vector<float> others = layer_of(trainer, 3, false).W;
  ASSERT_EQ(descent_trainer_update(trainer.get(), nullptr), DESCENT_OK) << descent_last_error();
  const Layer after = layer_of(trainer, 2, false);
  for (size_t i = 0; i < W.size(); i++) EXPECT_EQ(after.W[i], W[i] - 0.5F * dW[i]) << i; /* exact: multiples of 2^-13 */
  for (size_t i = 0; i < b.size(); i++) EXPECT_EQ(after.b[i], b[i] - 0.5F * db[i]) << i;
  EXPECT_EQ(layer_of(trainer, 3, false).W, others);

  /* Gradients that are the caller's in part are those of no loss. */
  const std::vector<float> X = drawn_rows(false), y = drawn(rows * 2, 5);
  descent_step_info info{};
  ASSERT_EQ(descent_trainer_set_layer(trainer.get(), 2, after.W.data(), after.b.data()), DESCENT_OK);
  ASSERT_EQ(descent_trainer_gradient(trainer.get(), X.data(), y.data(), nullptr, rows, &info), DESCENT_OK);
  EXPECT_TRUE(std::isfinite(info.loss));
  ASSERT_EQ(descent_trainer_set_gradient(trainer.get(), 2, dW.data(), nullptr), DESCENT_OK);
  ASSERT_EQ(descent_trainer_set_learning_rate(trainer.get(), 1e-30), DESCENT_OK); /* keeps the parameters */
  ASSERT_EQ(descent_trainer_update(trainer.get(), &info), DESCENT_OK) << descent_last_error();
  EXPECT_TRUE(std::isnan(info.loss));
  EXPECT_EQ(info.rows, rows);
  ASSERT_EQ(descent_trainer_sync(trainer.get()), DESCENT_OK);
  std::vector<float> synced(W.size());
  ASSERT_EQ(descent_network_get_layer(network.get(), 2, synced.data(), nullptr), DESCENT_OK);
  EXPECT_EQ(synced, after.W);
}

class Sensitivities : public testing::TestWithParam<const char *> {};
/* Rows whose loss is not finite are measured between a gradient and its update. */
TEST_P(OnDevice, AnEvaluationLeavesTheGradientsToTheUpdate) {
  const Device device = open_device(GetParam().device);
  const std::vector<float> X = drawn_rows(false), y = drawn(rows * 2, 5);
  Rows bad{rows, inputs, 2, 0, X, y, {}};
  bad.X[3] = NAN; /* which the network does not replace */
  const Dataset data = bad.dataset();
  std::vector<float> updated[2];
  for (int evaluates = 0; evaluates < 2; evaluates++) {
    const Network network = make(DESCENT_ACTIVATION_TANH, DESCENT_LOSS_MEAN_SQUARED_ERROR, 2);
    const descent_preprocessing none = descent_preprocessing_default();
    ASSERT_EQ(descent_network_set_preprocessing(network.get(), &none), DESCENT_OK);
    const Trainer trainer = make_trainer(network, device, options());
    ASSERT_EQ(descent_trainer_gradient(trainer.get(), X.data(), y.data(), nullptr, rows, nullptr), DESCENT_OK);
    descent_metrics metrics{};
    if (evaluates) {
      ASSERT_EQ(descent_trainer_evaluate(trainer.get(), data.get(), 0, &metrics), DESCENT_ERROR_DATA);
    }
    descent_step_info info{};
    ASSERT_EQ(descent_trainer_update(trainer.get(), &info), DESCENT_OK) << descent_last_error();
    EXPECT_TRUE(std::isfinite(info.loss));
    updated[evaluates] = all_of(trainer, false);
  }
  EXPECT_EQ(updated[0], updated[1]);
}

INSTANTIATE_TEST_SUITE_P(Devices, Sensitivities, testing::Values("reference", "cpu", "cuda"),
                         [](const testing::TestParamInfo<const char *> &row) { return std::string(row.param); });

/* A predictor's sensitivities are a trainer's without dropout, and follow a refresh. */
TEST_P(Sensitivities, AreTheGradientsOfTheOutputsAndFollowARefresh) {
  const Device device = open_device(GetParam()), exact = open_device("reference");
  for (descent_activation activation : activations) {
    SCOPED_TRACE(descent_activation_name(activation));
    const Network network = make(activation, DESCENT_LOSS_MEAN_SQUARED_ERROR, 3);
    const std::vector<float> X = drawn_rows(true), dOutputs = drawn(rows * 3, 2);
    std::vector<float> outputs(3 * static_cast<size_t>(rows)), expected(X.size()), dX(X.size(), NAN);
    descent_predictor *predictor = nullptr;
    ASSERT_EQ(descent_predictor_create(network.get(), device.get(), rows, &predictor), DESCENT_OK);
    for (bool refreshed : {false, true}) {
      if (refreshed) {
        const std::vector<float> W = drawn(5 * 4, 21);
        ASSERT_EQ(descent_network_set_layer(network.get(), 2, W.data(), nullptr), DESCENT_OK);
        ASSERT_EQ(descent_predictor_refresh(predictor, network.get()), DESCENT_OK);
      }
      const Trainer trainer = make_trainer(network, exact, descent_train_options_default());
      ASSERT_EQ(descent_trainer_forward(trainer.get(), X.data(), rows, outputs.data()), DESCENT_OK);
      ASSERT_EQ(descent_trainer_backward(trainer.get(), dOutputs.data(), expected.data(), false), DESCENT_OK);
      ASSERT_EQ(descent_predictor_input_gradient(predictor, X.data(), dOutputs.data(), rows, dX.data()), DESCENT_OK)
          << descent_last_error();
      EXPECT_LE(distance(dX, expected), bound_of(0x1p-24) * norm_of(expected)) << refreshed;
      EXPECT_GT(norm_of(expected), 0);
      for (size_t i = 0; i < X.size(); i++)
        if (std::isnan(X[i])) {
          EXPECT_EQ(dX[i], 0);
        }
    }
    descent_predictor_free(predictor);
  }
}

/* More rows than the predictor computes at a time: copies of a few, which have the same gradients. */
TEST(Differentiate, SensitivitiesOfManyRowsComeInBlocks) {
  const int64_t copies = 900; /* 5400 rows; a block has at most 4096 */
  const Network network = make(DESCENT_ACTIVATION_TANH, DESCENT_LOSS_MEAN_SQUARED_ERROR, 2);
  const Device device = open_device("cpu");
  const std::vector<float> few = drawn_rows(true), few_d = drawn(rows * 2, 6);
  std::vector<float> X, d, expected(few.size()), dX(few.size() * static_cast<size_t>(copies), NAN);
  for (int64_t i = 0; i < copies; i++) {
    X.insert(X.end(), few.begin(), few.end());
    d.insert(d.end(), few_d.begin(), few_d.end());
  }
  descent_predictor *predictor = nullptr;
  ASSERT_EQ(descent_predictor_create(network.get(), device.get(), rows * copies, &predictor), DESCENT_OK);
  ASSERT_LT(program_evaluation_block(network.get(), device.get(), rows * copies), rows * copies);
  ASSERT_EQ(descent_predictor_input_gradient(predictor, few.data(), few_d.data(), rows, expected.data()), DESCENT_OK);
  ASSERT_EQ(descent_predictor_input_gradient(predictor, X.data(), d.data(), rows * copies, dX.data()), DESCENT_OK);
  for (size_t at = 0; at < dX.size(); at += few.size())
    EXPECT_LE(
        distance({dX.begin() + static_cast<int64_t>(at), dX.begin() + static_cast<int64_t>(at + few.size())}, expected),
        bound_of(0x1p-24) * norm_of(expected))
        << at;
  X[static_cast<size_t>(5000 * inputs)] = 1e30F; /* beyond the first block */
  const std::vector<float> untouched(dX.size(), 7);
  dX = untouched;
  EXPECT_EQ(descent_predictor_input_gradient(predictor, X.data(), d.data(), rows * copies, dX.data()),
            DESCENT_ERROR_DATA);
  EXPECT_NE(std::string(descent_last_error()).find("row 5000"), std::string::npos) << descent_last_error();
  EXPECT_EQ(dX, untouched);
  descent_predictor_free(predictor);
}

/* ---- misuse ------------------------------------------------------------------------------------------------------ */

TEST(Differentiate, MisuseIsAnError) {
  const Network network = make(DESCENT_ACTIVATION_RELU, DESCENT_LOSS_MEAN_SQUARED_ERROR, 2);
  const Device device = open_device("cpu");
  const Trainer trainer = make_trainer(network, device, descent_train_options_default());
  descent_trainer *t = trainer.get();
  descent_predictor *predictor = nullptr;
  ASSERT_EQ(descent_predictor_create(network.get(), device.get(), 4, &predictor), DESCENT_OK);
  const std::vector<float> X = drawn_rows(false), y = drawn(rows * 2, 5), d(2 * static_cast<size_t>(rows), 1);
  std::vector<float> bad(d), out(2 * static_cast<size_t>(rows)), dX(X.size()), W(32, NAN);
  bad[3] = std::numeric_limits<float>::infinity();
  const Rows held_out{rows, inputs, 2, 0, X, y, {}};
  const Dataset data = held_out.dataset();
  descent_metrics metrics{};
  const Scratch folder;
  const std::string saved = folder / "trainer.safetensors";
  const struct {
    const char *says;
    std::function<descent_status()> call;
  } cases[] = {
      {"trainer: is NULL", [&] { return descent_trainer_gradient(nullptr, X.data(), y.data(), nullptr, 1, nullptr); }},
      {"X: is NULL", [&] { return descent_trainer_gradient(t, nullptr, y.data(), nullptr, 1, nullptr); }},
      {"y: is NULL", [&] { return descent_trainer_gradient(t, X.data(), nullptr, nullptr, 1, nullptr); }},
      {"a step of 9 rows", [&] { return descent_trainer_gradient(t, X.data(), y.data(), nullptr, 9, nullptr); }},
      {"trainer: is NULL", [&] { return descent_trainer_update(nullptr, nullptr); }},
      {"no gradients that an update", [&] { return descent_trainer_update(t, nullptr); }},
      {"has no gradients", [&] { return descent_trainer_get_gradient(t, 1, W.data(), nullptr); }},
      {"trainer: is NULL", [&] { return descent_trainer_get_gradient(nullptr, 1, W.data(), nullptr); }},
      {"trainer: is NULL", [&] { return descent_trainer_set_gradient(nullptr, 1, W.data(), nullptr); }},
      {"layer 4", [&] { return descent_trainer_set_gradient(t, 4, nullptr, nullptr); }},
      {"layer 1: dW[0] is nan", [&] { return descent_trainer_set_gradient(t, 1, W.data(), nullptr); }},
      {"trainer: is NULL", [&] { return descent_trainer_set_layer(nullptr, 1, W.data(), nullptr); }},
      {"layer 0", [&] { return descent_trainer_set_layer(t, 0, nullptr, nullptr); }},
      {"layer 1: b[0] is nan", [&] { return descent_trainer_set_layer(t, 1, nullptr, W.data()); }},
      {"call descent_trainer_forward", [&] { return descent_trainer_backward(t, d.data(), nullptr, false); }},
      {"trainer: is NULL", [&] { return descent_trainer_forward(nullptr, X.data(), rows, out.data()); }},
      {"X: is NULL", [&] { return descent_trainer_forward(t, nullptr, rows, out.data()); }},
      {"outputs: is NULL", [&] { return descent_trainer_forward(t, X.data(), rows, nullptr); }},
      {"a step of 0 rows", [&] { return descent_trainer_forward(t, X.data(), 0, out.data()); }},
      {"a step of 9 rows", [&] { return descent_trainer_forward(t, X.data(), 9, out.data()); }},
      {"", [&] { return descent_trainer_forward(t, X.data(), rows, out.data()); }},
      {"trainer: is NULL", [&] { return descent_trainer_backward(nullptr, d.data(), nullptr, false); }},
      {"dOutputs: is NULL", [&] { return descent_trainer_backward(t, nullptr, nullptr, false); }},
      {"row 1, output 1 is inf", [&] { return descent_trainer_backward(t, bad.data(), nullptr, false); }},
      {"", [&] { return descent_trainer_backward(t, d.data(), nullptr, false); }},
      {"", [&] { return descent_trainer_backward(t, d.data(), dX.data(), true); }},
      {"", [&] { return descent_trainer_update(t, nullptr); }},
      {"no gradients that an update", [&] { return descent_trainer_update(t, nullptr); }},
      {"call descent_trainer_forward", [&] { return descent_trainer_backward(t, d.data(), nullptr, false); }},
      {"", [&] { return descent_trainer_forward(t, X.data(), rows, out.data()); }},
      {"", [&] { return descent_trainer_gradient(t, X.data(), y.data(), nullptr, rows, nullptr); }},
      {"call descent_trainer_forward", [&] { return descent_trainer_backward(t, d.data(), nullptr, false); }},
      {"", [&] { return descent_trainer_forward(t, X.data(), rows, out.data()); }},
      {"", [&] { return descent_trainer_evaluate(t, data.get(), 0, &metrics); }},
      {"call descent_trainer_forward", [&] { return descent_trainer_backward(t, d.data(), nullptr, false); }},
      {"", [&] { return descent_trainer_save(t, saved.c_str()); }},
      {"", [&] { return descent_trainer_forward(t, X.data(), rows, out.data()); }},
      {"", [&] { return descent_trainer_restore(t, saved.c_str()); }},
      {"call descent_trainer_forward", [&] { return descent_trainer_backward(t, d.data(), nullptr, false); }},
      {"no gradients that an update", [&] { return descent_trainer_update(t, nullptr); }},
      {"predictor: is NULL",
       [&] { return descent_predictor_input_gradient(nullptr, X.data(), d.data(), 1, dX.data()); }},
      {"X: is NULL", [&] { return descent_predictor_input_gradient(predictor, nullptr, d.data(), 1, dX.data()); }},
      {"dOutputs: is NULL",
       [&] { return descent_predictor_input_gradient(predictor, X.data(), nullptr, 1, dX.data()); }},
      {"dX: is NULL", [&] { return descent_predictor_input_gradient(predictor, X.data(), d.data(), 1, nullptr); }},
      {"rows 5", [&] { return descent_predictor_input_gradient(predictor, X.data(), d.data(), 5, dX.data()); }},
      {"row 1, output 1 is inf",
       [&] { return descent_predictor_input_gradient(predictor, X.data(), bad.data(), 4, dX.data()); }},
      {"", [&] { return descent_predictor_input_gradient(predictor, X.data(), d.data(), 4, dX.data()); }},
  };
  for (const auto &c : cases) {
    EXPECT_EQ(c.call(), *c.says ? DESCENT_ERROR_ARGUMENT : DESCENT_OK) << c.says << ": " << descent_last_error();
    if (*c.says) {
      EXPECT_NE(std::string(descent_last_error()).find(c.says), std::string::npos) << descent_last_error();
    }
  }
  descent_metrics_clear(&metrics);
  descent_predictor_free(predictor);
}

/* A divergence leaves the weights, and the trainer can continue. */
TEST(Differentiate, AGradientThatIsNotFiniteIsADivergence) {
  const Network network = make(DESCENT_ACTIVATION_RELU, DESCENT_LOSS_MEAN_SQUARED_ERROR, 2);
  const Device device = open_device("cpu");
  const Trainer trainer = make_trainer(network, device, descent_train_options_default());
  std::vector<float> X = drawn_rows(false), y = drawn(rows * 2, 5), outputs(y.size());
  const std::vector<float> before = all_of(trainer, false), huge(outputs.size(), 3e38F);
  y[0] = NAN;
  EXPECT_EQ(descent_trainer_gradient(trainer.get(), X.data(), y.data(), nullptr, rows, nullptr),
            DESCENT_ERROR_DIVERGED);
  EXPECT_EQ(descent_trainer_update(trainer.get(), nullptr), DESCENT_ERROR_ARGUMENT);
  ASSERT_EQ(descent_trainer_forward(trainer.get(), X.data(), rows, outputs.data()), DESCENT_OK);
  ASSERT_EQ(descent_trainer_backward(trainer.get(), huge.data(), nullptr, false), DESCENT_OK);
  EXPECT_EQ(descent_trainer_update(trainer.get(), nullptr), DESCENT_ERROR_DIVERGED);
  EXPECT_NE(std::string(descent_last_error()).find("step 1"), std::string::npos) << descent_last_error();
  EXPECT_EQ(all_of(trainer, false), before);
  y[0] = 0;
  descent_step_info info{};
  EXPECT_EQ(descent_trainer_step(trainer.get(), X.data(), y.data(), nullptr, rows, &info), DESCENT_OK);
  EXPECT_EQ(info.step, 1);
}

/* With an optimizer of the program's, masks change with the number of steps that it sets, as they do with updates. */
TEST(Gradient, MasksFollowTheNumberOfSteps) {
  for (const char *name : {"reference", "cpu", "cuda"}) {
    SCOPED_TRACE(name);
    const Device device = open_device(name);
    const Network network = make_network({5, 16, 1}, DESCENT_ACTIVATION_TANH, DESCENT_LOSS_BINARY_CROSS_ENTROPY);
    const Rows data = make_rows(8, 5, 1, 2, 3);
    descent_train_options options = descent_train_options_default();
    options.dropout = 0.5;
    descent_trainer *made = nullptr;
    ASSERT_EQ(descent_trainer_create(network.get(), device.get(), &options, 8, &made), DESCENT_OK);
    const Trainer trainer(made, descent_trainer_free);
    double loss[4];
    const int64_t steps[] = {0, 1, 0, 1};
    for (int i = 0; i < 4; i++) {
      descent_step_info info = {};
      ASSERT_EQ(descent_trainer_set_steps(made, steps[i]), DESCENT_OK) << descent_last_error();
      ASSERT_EQ(descent_trainer_gradient(made, data.X.data(), data.y.data(), nullptr, 8, &info), DESCENT_OK);
      EXPECT_EQ(info.step, steps[i] + 1);
      loss[i] = info.loss;
    }
    EXPECT_EQ(loss[0], loss[2]);
    EXPECT_EQ(loss[1], loss[3]);
    EXPECT_NE(loss[0], loss[1]);
    for (const int64_t wrong : {INT64_C(-1), INT64_C(1) << 48})
      EXPECT_EQ(descent_trainer_set_steps(made, wrong), DESCENT_ERROR_ARGUMENT);
    std::vector<float> outputs(8);
    ASSERT_EQ(descent_trainer_forward(made, data.X.data(), 8, outputs.data()), DESCENT_OK);
    ASSERT_EQ(descent_trainer_set_steps(made, 3), DESCENT_OK);
    EXPECT_EQ(descent_trainer_backward(made, outputs.data(), nullptr, false), DESCENT_ERROR_ARGUMENT);
  }
}

}  // namespace
