/* The trainer's guarantees: it learns, it is the notes' gradient descent, it is reproducible bit for bit, it stops when
 * it should and keeps the right weights. */
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "source.h"
#include "training.h"

namespace {

const char *const devices[] = {"reference", "cpu", "cuda"};

/* Fits a new network and returns its final parameters. */
struct Fitted {
  descent_status status;
  descent_fit_result result;
  std::vector<float> parameters;
};

Fitted fit(const Network &network, const Device &device, const Dataset &training, const descent_dataset *validation,
           const descent_train_options &options) {
  Fitted fitted{};
  fitted.status = descent_fit(network.get(), device.get(), training.get(), validation, &options, &fitted.result);
  EXPECT_EQ(fitted.status, DESCENT_OK) << descent_last_error();
  fitted.parameters = parameters_of(network);
  return fitted;
}

/* Callbacks as closures. */
struct Callbacks {
  std::function<int(const descent_step_info &)> step;
  std::function<int(const descent_epoch_info &)> epoch;

  void attach(descent_train_options *options) {
    options->callbacks.user = this;
    if (step)
      options->callbacks.on_step = [](void *user, const descent_step_info *info) {
        return static_cast<Callbacks *>(user)->step(*info);
      };
    if (epoch)
      options->callbacks.on_epoch = [](void *user, const descent_epoch_info *info) {
        return static_cast<Callbacks *>(user)->epoch(*info);
      };
  }
};

Trainer make_trainer(const Network &network, const Device &device, const descent_train_options &options,
                     int64_t max_batch) {
  descent_trainer *trainer = nullptr;
  EXPECT_EQ(descent_trainer_create(network.get(), device.get(), &options, max_batch, &trainer), DESCENT_OK)
      << descent_last_error();
  return {trainer, descent_trainer_free};
}

TEST(Train, OverfitsXor) {
  const Rows xor_rows{4, 2, 1, 2, {0, 0, 0, 1, 1, 0, 1, 1}, {0, 1, 1, 0}, {}};
  for (const char *name : devices) {
    SCOPED_TRACE(name);
    const Device device = open_device(name);
    const Dataset data = xor_rows.dataset();
    const Network network = make_network({2, 8, 1}, DESCENT_ACTIVATION_TANH, DESCENT_LOSS_BINARY_CROSS_ENTROPY);
    descent_train_options options = descent_train_options_default();
    options.optimizer.learning_rate = 0.05;
    options.batch_size = 0;
    options.epochs = 400;
    const Fitted fitted = fit(network, device, data, nullptr, options);
    EXPECT_EQ(fitted.result.stop, DESCENT_STOP_EPOCHS);
    EXPECT_EQ(fitted.result.epochs, 400);
    EXPECT_EQ(fitted.result.steps, 400);
    EXPECT_LT(fitted.result.train_loss, 0.02);
    descent_metrics metrics;
    ASSERT_EQ(descent_evaluate(network.get(), device.get(), data.get(), 0, &metrics), DESCENT_OK);
    EXPECT_EQ(metrics.accuracy, 1);
    EXPECT_EQ(metrics.auc, 1);
    descent_metrics_clear(&metrics);
  }
}

/* The notes' network of three sigmoid layers in double, as they write it: forward, dZ, dW, db, update. */
struct Notes {
  std::vector<int64_t> n;
  std::vector<std::vector<double>> W, b;

  explicit Notes(const Network &network) {
    n.push_back(network->inputs);
    for (int l = 0; l < network->n_layers; l++) {
      const network_layer &layer = network->layers[l];
      const float *p = network->parameters;
      n.push_back(layer.n_out);
      W.emplace_back(p + layer.at.W, p + layer.at.W + layer.n_in * layer.n_out);
      b.emplace_back(p + layer.at.b, p + layer.at.b + layer.n_out);
    }
  }

  void step(const Rows &data, double alpha) {
    const size_t L = W.size(), m = static_cast<size_t>(data.rows);
    std::vector<std::vector<double>> A{{data.X.begin(), data.X.end()}};
    for (size_t l = 0; l < L; l++) {
      const size_t in = static_cast<size_t>(n[l]), out = static_cast<size_t>(n[l + 1]);
      A.emplace_back(m * out);
      for (size_t r = 0; r < m; r++)
        for (size_t o = 0; o < out; o++) {
          double z = b[l][o];
          for (size_t i = 0; i < in; i++) z += A[l][r * in + i] * W[l][o * in + i];
          A[l + 1][r * out + o] = 1 / (1 + std::exp(-z));
        }
    }
    std::vector<double> dZ(m);
    for (size_t r = 0; r < m; r++) dZ[r] = (A[L][r] - static_cast<double>(data.y[r])) / static_cast<double>(m);
    for (size_t l = L; l-- > 0;) {
      const size_t in = static_cast<size_t>(n[l]), out = static_cast<size_t>(n[l + 1]);
      std::vector<double> below(m * in);
      for (size_t r = 0; r < m; r++)
        for (size_t i = 0; i < in; i++) {
          double d = 0;
          for (size_t o = 0; o < out; o++) d += dZ[r * out + o] * W[l][o * in + i];
          below[r * in + i] = d * A[l][r * in + i] * (1 - A[l][r * in + i]);
        }
      for (size_t o = 0; o < out; o++) {
        double db = 0;
        for (size_t r = 0; r < m; r++) db += dZ[r * out + o];
        b[l][o] -= alpha * db;
        for (size_t i = 0; i < in; i++) {
          double dW = 0;
          for (size_t r = 0; r < m; r++) dW += dZ[r * out + o] * A[l][r * in + i];
          W[l][o * in + i] -= alpha * dW;
        }
      }
      dZ = below;
    }
  }
};

TEST(Train, FullBatchIsTheNotesGradientDescent) {
  const Rows rows = make_rows(40, 5, 1, 2, 3);
  const Device device = open_device("reference");
  const Dataset data = rows.dataset();
  const Network network = make_network({5, 4, 3, 1}, DESCENT_ACTIVATION_SIGMOID, DESCENT_LOSS_BINARY_CROSS_ENTROPY);
  Notes notes(network);
  descent_train_options options = descent_train_options_default();
  options.optimizer.kind = DESCENT_OPTIMIZER_GD;
  options.optimizer.learning_rate = 0.5;
  options.batch_size = 0;
  options.epochs = 25;
  fit(network, device, data, nullptr, options);
  for (int64_t i = 0; i < options.epochs; i++) notes.step(rows, options.optimizer.learning_rate);
  for (size_t l = 0; l < notes.W.size(); l++) {
    std::vector<float> W(notes.W[l].size()), b(notes.b[l].size());
    ASSERT_EQ(descent_network_get_layer(network.get(), static_cast<int32_t>(l) + 1, W.data(), b.data()), DESCENT_OK);
    /* Both work in double and differ by its rounding, far below the float32 in which the result is handed over. */
    for (size_t i = 0; i < W.size(); i++)
      EXPECT_NEAR(static_cast<double>(W[i]), notes.W[l][i], 0x1.01p-24 * std::fabs(notes.W[l][i]) + 1e-12);
    for (size_t i = 0; i < b.size(); i++)
      EXPECT_NEAR(static_cast<double>(b[i]), notes.b[l][i], 0x1.01p-24 * std::fabs(notes.b[l][i]) + 1e-12);
  }
}

/* Options under which everything that depends on seeds and steps is in use. */
descent_train_options busy_options() {
  descent_train_options options = descent_train_options_default();
  options.optimizer.learning_rate = 0.01;
  options.dropout = 0.3;
  options.optimizer.weight_decay = 0.01;
  options.optimizer.clip_norm = 1;
  options.batch_size = 16;
  options.epochs = 3;
  options.seed = 42;
  return options;
}

TEST(Train, FitIsTheSameAsStepsByHandInTheShuffledOrder) {
  const Rows rows = make_rows(37, 6, 1, 4, 5); /* 16 + 16 + 5: a masked last batch */
  const Dataset data = rows.dataset();
  for (const char *name : devices) {
    SCOPED_TRACE(name);
    const Device device = open_device(name);
    const descent_train_options options = busy_options();
    const Network fitted = make_network({6, 9, 7, 4}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
    const Network stepped = make_network({6, 9, 7, 4}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
    fit(fitted, device, data, nullptr, options);
    const Trainer trainer = make_trainer(stepped, device, options, 0);
    for (uint64_t epoch = 1; epoch <= 3; epoch++) {
      const permutation order = permutation_create(options.seed, RNG_SHUFFLE, epoch, 37);
      for (int64_t first = 0; first < rows.rows; first += 16) {
        std::vector<float> X, y;
        for (int64_t r = first; r < std::min(first + 16, rows.rows); r++) {
          const auto row = static_cast<int64_t>(permutation_index(&order, static_cast<uint64_t>(r)));
          X.insert(X.end(), rows.X.begin() + row * 6, rows.X.begin() + row * 6 + 6);
          y.push_back(rows.y[static_cast<size_t>(row)]);
        }
        ASSERT_EQ(
            descent_trainer_step(trainer.get(), X.data(), y.data(), nullptr, static_cast<int64_t>(y.size()), nullptr),
            DESCENT_OK)
            << descent_last_error();
      }
    }
    ASSERT_EQ(descent_trainer_sync(trainer.get()), DESCENT_OK);
    EXPECT_EQ(parameters_of(stepped), parameters_of(fitted));
  }
}

/* Fills everything that is only meaningful within a step with NaN, which must not reach any result. */
void poison_batch(descent_trainer *trainer) {
  const plan *plan = trainer->program.plan;
  for (int i = 0; i < plan->n_buffers; i++) {
    const plan_buffer &buffer = plan->buffers[i];
    if (buffer.storage != PLAN_BATCH) continue;
    const std::vector<float> values(static_cast<size_t>(buffer.rows * buffer.cols), NAN);
    ASSERT_EQ(program_write(&trainer->program, i, 0, buffer.rows * buffer.cols, PLAN_F32, values.data()), DESCENT_OK);
  }
}

/* To the bit if the order of a product's sums does not depend on its shape; on a real GPU it may. */
TEST(Train, MaskedTailEqualsASmallerBatch) {
  const Rows rows = make_rows(16, 6, 2, 0, 6);
  std::vector<std::string> ordered(std::begin(devices), std::end(devices));
  if (std::getenv("DESCENT_TEST_MODULE")) ordered.erase(std::find(ordered.begin(), ordered.end(), "cuda"));
  descent_train_options options = busy_options();
  options.autotune = false; /* an epilogue chosen by time may change the order as well */
  for (const std::string &name : ordered)
    for (int64_t tail : {1, 3, 15}) {
      SCOPED_TRACE(name + " " + std::to_string(tail));
      const Device device = open_device(name.c_str());
      std::vector<std::vector<float>> results;
      for (int64_t max_batch : {tail, INT64_C(16)}) {
        const Network network = make_network({6, 9, 2}, DESCENT_ACTIVATION_GELU, DESCENT_LOSS_MEAN_SQUARED_ERROR);
        const Trainer trainer = make_trainer(network, device, options, max_batch);
        if (max_batch == 16) poison_batch(trainer.get());
        for (int i = 0; i < 3; i++)
          ASSERT_EQ(descent_trainer_step(trainer.get(), rows.X.data(), rows.y.data(), nullptr, tail, nullptr),
                    DESCENT_OK);
        ASSERT_EQ(descent_trainer_sync(trainer.get()), DESCENT_OK);
        results.push_back(parameters_of(network));
      }
      EXPECT_EQ(results[0], results[1]);
    }
}

TEST(Train, EqualSeedsGiveEqualBytesAndOthersDoNot) {
  const Rows rows = make_rows(70, 6, 1, 2, 8), held_out = make_rows(333, 6, 1, 2, 9);
  const Dataset data = rows.dataset(), validation = held_out.dataset();
  for (const char *name : devices) {
    SCOPED_TRACE(name);
    const Device device = open_device(name);
    const auto run = [&](uint64_t seed, bool validate) {
      const Network network = make_network({6, 9, 7, 1}, DESCENT_ACTIVATION_SILU, DESCENT_LOSS_BINARY_CROSS_ENTROPY);
      descent_train_options options = busy_options();
      options.seed = seed;
      options.early_stopping.restore_best = false;
      return fit(network, device, data, validate ? validation.get() : nullptr, options).parameters;
    };
    const std::vector<float> once = run(42, false);
    EXPECT_EQ(run(42, false), once);
    EXPECT_EQ(run(42, true), once) << "validation changed the training";
    EXPECT_NE(run(43, false), once);
  }
}

/* Validation data whose labels are the opposite of the training's: every epoch makes it worse. */
struct Opposites {
  Rows rows = make_rows(64, 4, 1, 2, 11), flipped = rows;
  Dataset training = rows.dataset(), validation{nullptr, descent_dataset_free};
  Opposites() {
    for (float &y : flipped.y) y = 1 - y;
    validation = flipped.dataset();
  }
};

TEST(Train, StopsEarlyAndRestoresTheBestEpoch) {
  const Opposites data;
  for (const char *name : devices) {
    SCOPED_TRACE(name);
    const Device device = open_device(name);
    const auto run = [&](int64_t epochs, int64_t patience, bool restore, const descent_dataset *validation) {
      const Network network = make_network({4, 6, 1}, DESCENT_ACTIVATION_TANH, DESCENT_LOSS_BINARY_CROSS_ENTROPY);
      descent_train_options options = descent_train_options_default();
      options.batch_size = 16;
      options.epochs = epochs;
      options.early_stopping.patience = patience;
      options.early_stopping.restore_best = restore;
      return fit(network, device, data.training, validation, options);
    };
    const Fitted restored = run(50, 3, true, data.validation.get());
    EXPECT_EQ(restored.result.stop, DESCENT_STOP_EARLY);
    EXPECT_EQ(restored.result.epochs, 4);
    EXPECT_EQ(restored.result.best_epoch, 1);
    EXPECT_EQ(restored.parameters, run(1, 0, false, nullptr).parameters);
    const Fitted last = run(50, 3, false, data.validation.get());
    EXPECT_EQ(last.result.epochs, 4);
    EXPECT_EQ(last.parameters, run(4, 0, false, nullptr).parameters);
    EXPECT_EQ(run(6, 0, true, data.validation.get()).result.stop, DESCENT_STOP_EPOCHS);
  }
}

TEST(Train, MinimumChangeDecidesWhatAnImprovementIs) {
  const Rows rows = make_rows(64, 4, 1, 2, 12);
  const Dataset data = rows.dataset();
  const Device device = open_device("cpu");
  const Network network = make_network({4, 6, 1}, DESCENT_ACTIVATION_TANH, DESCENT_LOSS_BINARY_CROSS_ENTROPY);
  descent_train_options options = descent_train_options_default();
  options.early_stopping.patience = 2;
  options.early_stopping.min_delta = 10; /* only the first epoch beats infinity by that much */
  std::vector<bool> best;
  Callbacks callbacks;
  callbacks.epoch = [&](const descent_epoch_info &info) { return best.push_back(info.best), 0; };
  callbacks.attach(&options);
  const Fitted fitted = fit(network, device, data, nullptr, options);
  EXPECT_EQ(best, (std::vector<bool>{true, false, false}));
  EXPECT_EQ(fitted.result.stop, DESCENT_STOP_EARLY);
  EXPECT_EQ(fitted.result.best_epoch, 1);
}

TEST(Train, CallbacksSeeEveryStepAndEpochAndMayStop) {
  const Rows rows = make_rows(40, 4, 1, 2, 13);
  const Dataset data = rows.dataset();
  const Device device = open_device("cpu");
  const auto run = [&](int64_t stop_step, int64_t stop_epoch, std::string *log) {
    const Network network = make_network({4, 6, 1}, DESCENT_ACTIVATION_TANH, DESCENT_LOSS_BINARY_CROSS_ENTROPY);
    descent_train_options options = descent_train_options_default();
    options.batch_size = 16;
    options.epochs = 3;
    options.schedule.warmup_steps = 4;
    Callbacks callbacks;
    if (stop_step)
      callbacks.step = [&](const descent_step_info &info) {
        *log += std::to_string(info.epoch) + "." + std::to_string(info.step) + ":" + std::to_string(info.rows) + " ";
        EXPECT_DOUBLE_EQ(info.learning_rate, 1e-3 * std::min(1.0, static_cast<double>(info.step) / 4));
        EXPECT_TRUE(info.loss > 0 && info.gradient_norm > 0);
        return info.step == stop_step;
      };
    callbacks.epoch = [&](const descent_epoch_info &info) {
      *log +=
          "[" + std::to_string(info.epoch) + "/" + std::to_string(info.epochs) + " " + std::to_string(info.step) + "] ";
      EXPECT_EQ(info.layers, 2);
      EXPECT_EQ(info.validation, nullptr);
      EXPECT_TRUE(info.health[0].gradient_norm > 0 && info.health[0].update_ratio > 0 && info.rows_per_second > 0);
      return info.epoch == stop_epoch;
    };
    callbacks.attach(&options);
    return fit(network, device, data, nullptr, options);
  };
  std::string log;
  const Fitted whole = run(-1, 0, &log);
  EXPECT_EQ(log, "1.1:16 1.2:16 1.3:8 [1/3 3] 2.4:16 2.5:16 2.6:8 [2/3 6] 3.7:16 3.8:16 3.9:8 [3/3 9] ");
  std::string quiet;
  EXPECT_EQ(run(0, 0, &quiet).parameters, whole.parameters) << "being watched changed the training";

  const struct {
    int64_t step, epoch;
    const char *log;
    int64_t epochs, steps;
  } cases[] = {{5, 0, "1.1:16 1.2:16 1.3:8 [1/3 3] 2.4:16 2.5:16 ", 1, 5},
               {1, 0, "1.1:16 ", 0, 1},
               {0, 2, "[1/3 3] [2/3 6] ", 2, 6}};
  for (const auto &c : cases) {
    std::string seen;
    const Fitted stopped = run(c.step, c.epoch, &seen);
    EXPECT_EQ(seen, c.log);
    EXPECT_EQ(stopped.result.stop, DESCENT_STOP_CALLBACK);
    EXPECT_EQ(stopped.result.epochs, c.epochs);
    EXPECT_EQ(stopped.result.steps, c.steps);
  }
}

TEST(Train, ValidationDuringTrainingIsWhatEvaluateSays) {
  const Rows rows = make_rows(50, 4, 1, 3, 14), held_out = make_rows(45, 4, 1, 3, 15);
  const Dataset data = rows.dataset(), validation = held_out.dataset();
  const Device device = open_device("cpu"); /* float32 throughout, so that handing over the weights rounds nothing */
  const Network network = make_network({4, 8, 3}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
  ASSERT_EQ(descent_network_fit_preprocessing(network.get(), data.get(), DESCENT_NORMALIZE_STANDARD,
                                              DESCENT_IMPUTE_MEAN, false),
            DESCENT_OK);
  descent_train_options options = descent_train_options_default();
  options.dropout = 0.5;
  options.label_smoothing = 0.2;
  options.balance_classes = true;
  options.batch_size = 8;
  options.epochs = 5;
  options.early_stopping.restore_best = false;
  double loss = NAN, accuracy = NAN;
  Callbacks callbacks;
  callbacks.epoch = [&](const descent_epoch_info &info) {
    loss = info.validation->loss, accuracy = info.validation->accuracy;
    EXPECT_EQ(info.validation->rows, 45);
    return 0;
  };
  callbacks.attach(&options);
  fit(network, device, data, validation.get(), options);
  descent_metrics metrics;
  ASSERT_EQ(descent_evaluate(network.get(), device.get(), validation.get(), 0, &metrics), DESCENT_OK);
  EXPECT_EQ(metrics.loss, loss);
  EXPECT_EQ(metrics.accuracy, accuracy);
  descent_metrics_clear(&metrics);
}

TEST(Train, WeightsOfZeroTakeRowsOutOfTheTraining) {
  Rows rows = make_rows(24, 4, 1, 2, 16);
  for (const char *name : devices) {
    SCOPED_TRACE(name);
    const Device device = open_device(name);
    descent_train_options options = descent_train_options_default();
    options.optimizer.kind = DESCENT_OPTIMIZER_GD;
    const Network network = make_network({4, 6, 1}, DESCENT_ACTIVATION_TANH, DESCENT_LOSS_BINARY_CROSS_ENTROPY);
    const std::vector<float> before = parameters_of(network);
    const Trainer trainer = make_trainer(network, device, options, 24);
    descent_step_info info;
    const std::vector<float> none(24, 0);
    ASSERT_EQ(descent_trainer_step(trainer.get(), rows.X.data(), rows.y.data(), none.data(), 24, &info), DESCENT_OK)
        << descent_last_error();
    EXPECT_EQ(info.loss, 0);
    EXPECT_EQ(info.gradient_norm, 0);
    ASSERT_EQ(descent_trainer_sync(trainer.get()), DESCENT_OK);
    EXPECT_EQ(parameters_of(network), before);
  }
}

TEST(Train, BalancedClassWeightsAreRowsOverClassesTimesRowsOfTheClass) {
  Rows rows = make_rows(48, 4, 1, 3, 17);
  for (size_t r = 0; r < 48; r++) rows.y[r] = r < 24 ? 0 : r < 36 ? 1 : 2; /* 24, 12, 12 */
  const Dataset data = rows.dataset();
  const double weights[] = {48.0 / (3 * 24), 48.0 / (3 * 12), 48.0 / (3 * 12)};
  const Device device = open_device("cpu");
  std::vector<std::vector<float>> results;
  for (int kind = 0; kind < 3; kind++) {
    const Network network = make_network({4, 6, 3}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
    descent_train_options options = descent_train_options_default();
    options.epochs = 3;
    options.balance_classes = kind == 0;
    if (kind == 1) options.class_weights = weights;
    results.push_back(fit(network, device, data, nullptr, options).parameters);
  }
  EXPECT_EQ(results[0], results[1]);
  EXPECT_NE(results[0], results[2]);
}

TEST(Train, PlateauAndStepSchedulesChangeTheRateBetweenEpochs) {
  const Opposites data;
  const Device device = open_device("cpu");
  const struct {
    descent_schedule schedule;
    std::vector<double> rates;
  } cases[] = {{DESCENT_SCHEDULE_CONSTANT, {0.1, 0.1, 0.1, 0.1, 0.1, 0.1}},
               {DESCENT_SCHEDULE_STEP, {0.1, 0.1, 0.05, 0.05, 0.025, 0.025}},
               {DESCENT_SCHEDULE_EXPONENTIAL, {0.1, 0.05, 0.025, 0.0125, 0.00625, 0.003125}},
               {DESCENT_SCHEDULE_PLATEAU, {0.1, 0.1, 0.1, 0.1, 0.05, 0.05}}};
  for (const auto &c : cases) {
    const Network network = make_network({4, 6, 1}, DESCENT_ACTIVATION_TANH, DESCENT_LOSS_BINARY_CROSS_ENTROPY);
    descent_train_options options = descent_train_options_default();
    options.optimizer.learning_rate = 0.1;
    options.schedule.kind = c.schedule;
    options.schedule.gamma = 0.5;
    options.schedule.every = 2;
    options.epochs = 6;
    std::vector<double> rates;
    Callbacks callbacks;
    callbacks.epoch = [&](const descent_epoch_info &info) { return rates.push_back(info.learning_rate), 0; };
    callbacks.attach(&options);
    fit(network, device, data.training, data.validation.get(), options);
    ASSERT_EQ(rates.size(), c.rates.size());
    for (size_t i = 0; i < rates.size(); i++)
      EXPECT_DOUBLE_EQ(rates[i], c.rates[i]) << descent_schedule_name(c.schedule) << " epoch " << i + 1;
  }
}

/* 3 epochs of 3 steps, of which the first 5 warm up and the other 4 fall to the minimum: exact in binary. */
TEST(Train, PolynomialFollowsTheStepsOfItsEpochs) {
  const Rows rows = make_rows(40, 4, 1, 2, 13);
  const Dataset data = rows.dataset();
  const Device device = open_device("cpu");
  const Network network = make_network({4, 6, 1}, DESCENT_ACTIVATION_TANH, DESCENT_LOSS_BINARY_CROSS_ENTROPY);
  descent_train_options options = descent_train_options_default();
  options.batch_size = 16;
  options.epochs = 3;
  options.optimizer.learning_rate = 0.5;
  options.schedule.kind = DESCENT_SCHEDULE_POLYNOMIAL;
  options.schedule.minimum = 0.125;
  options.schedule.power = 1;
  options.schedule.warmup_epochs = 1.6;
  const double expected[] = {0.5 * (1. / 5), 0.5 * (2. / 5), 0.5 * (3. / 5), 0.5 * (4. / 5), 0.5, 0.5,
                             0.40625,        0.3125,         0.21875};
  std::vector<double> rates;
  Callbacks callbacks;
  callbacks.step = [&](const descent_step_info &info) { return rates.push_back(info.learning_rate), 0; };
  callbacks.attach(&options);
  fit(network, device, data, nullptr, options);
  EXPECT_EQ(rates, std::vector<double>(std::begin(expected), std::end(expected)));
}

TEST(Train, LearnsBreastCancerWithTheDefaults) {
  descent_dataset_options read = descent_dataset_options_default();
  read.target = "diagnosis";
  descent_dataset *whole = nullptr;
  ASSERT_EQ(descent_dataset_read(source_file("examples/breast_cancer.csv").c_str(), &read, &whole), DESCENT_OK)
      << descent_last_error();
  const Dataset all{whole, descent_dataset_free};
  const Device device = open_device("cpu");
  double sum = 0;
  int warnings = 0;
  const uint64_t seeds = 10;
  for (uint64_t seed = 0; seed < seeds; seed++) {
    descent_dataset *kept = nullptr, *held_out = nullptr;
    ASSERT_EQ(descent_dataset_split(all.get(), 0.25, seed, &kept, &held_out), DESCENT_OK);
    const Dataset training{kept, descent_dataset_free}, validation{held_out, descent_dataset_free};
    const Network network =
        make_network({30, 16, 8, 1}, DESCENT_ACTIVATION_SIGMOID, DESCENT_LOSS_BINARY_CROSS_ENTROPY, seed);
    ASSERT_EQ(
        descent_network_fit_preprocessing(network.get(), kept, DESCENT_NORMALIZE_STANDARD, DESCENT_IMPUTE_MEAN, false),
        DESCENT_OK);
    descent_train_options options = descent_train_options_default();
    options.seed = seed;
    Callbacks callbacks;
    callbacks.epoch = [&](const descent_epoch_info &info) {
      if (*info.warning) warnings++, ADD_FAILURE() << "epoch " << info.epoch << ": " << info.warning;
      return 0;
    };
    callbacks.attach(&options);
    fit(network, device, training, held_out, options);
    descent_metrics metrics;
    ASSERT_EQ(descent_evaluate(network.get(), device.get(), held_out, 0, &metrics), DESCENT_OK);
    EXPECT_EQ(metrics.rows, 142);
    sum += metrics.accuracy;
    descent_metrics_clear(&metrics);
  }
  EXPECT_GE(sum / static_cast<double>(seeds), 0.965);
  EXPECT_EQ(warnings, 0);
}

}  // namespace
