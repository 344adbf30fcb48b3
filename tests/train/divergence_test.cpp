/* When numbers stop being finite: training stops at that step, names step, layer and likely cause, and keeps the last
 * good weights. */
#include <gtest/gtest.h>

#include <cmath>

#include "training.h"

namespace {

const char *const devices[] = {"reference", "cpu", "cuda"};

bool all_finite(const std::vector<float> &values) {
  for (float value : values)
    if (!std::isfinite(value)) return false;
  return true;
}

bool says(const char *part) { return std::string(descent_last_error()).find(part) != std::string::npos; }

TEST(Divergence, FitNamesStepLayerAndCauseAndKeepsFiniteWeights) {
  Rows tame = make_rows(64, 4, 1, 0, 1), wild = tame;
  for (float &x : wild.X) x *= 1e15F;
  const struct {
    const char *name;
    const Rows *rows;
    double learning_rate;
    std::vector<const char *> parts;
  } cases[] = {
      {"rate", &tame, 1e12, {"at step ", "(epoch ", "layer ", "learning rate 1e+12 is too high", "try 1e+11"}},
      {"inputs", &wild, 0.1, {"at step ", "(epoch 1, ", "layer ", "inputs of up to ", "are not normalised"}},
  };
  const Device device = open_device("cpu");
  for (const auto &c : cases) {
    SCOPED_TRACE(c.name);
    const Dataset data = c.rows->dataset();
    const Network network = make_network({4, 8, 8, 1}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_MEAN_SQUARED_ERROR);
    descent_train_options options = descent_train_options_default();
    options.optimizer.kind = DESCENT_OPTIMIZER_GD;
    options.optimizer.learning_rate = c.learning_rate;
    options.epochs = 20;
    descent_fit_result result{};
    result.steps = result.epochs = -7;
    ASSERT_EQ(descent_fit(network.get(), device.get(), data.get(), nullptr, &options, &result), DESCENT_ERROR_DIVERGED);
    EXPECT_TRUE(says(("at step " + std::to_string(result.steps + 1) + " (epoch").c_str())) << result.steps;
    EXPECT_TRUE(says(("(epoch " + std::to_string(result.epochs + 1) + ",").c_str())) << result.epochs;
    for (const char *part : c.parts) EXPECT_TRUE(says(part)) << part << " is missing in: " << descent_last_error();
    EXPECT_TRUE(all_finite(parameters_of(network)));
  }
}

/* One row of the file is absurd: it is named by its number in the file, for any order and split. */
TEST(Divergence, NamesTheRowOfTheData) {
  for (int64_t bad : {0, 17, 63}) {
    Rows rows = make_rows(64, 4, 1, 2, 1);
    rows.X[static_cast<size_t>(bad) * 4 + 2] = 1e19F; /* as large as an input may be */
    const std::string expected = ", row " + std::to_string(bad) + "): layer 1's activations";
    const Device device = open_device("cpu");
    const Dataset whole = rows.dataset();
    descent_dataset *kept = nullptr, *held_out = nullptr;
    ASSERT_EQ(descent_dataset_split(whole.get(), 0.5, 3, &kept, &held_out), DESCENT_OK);
    const Dataset first(kept, descent_dataset_free), second(held_out, descent_dataset_free);
    int named = 0;
    for (const descent_dataset *data : {whole.get(), first.get(), second.get()}) {
      const Network network = make_network({4, 6, 1}, DESCENT_ACTIVATION_IDENTITY, DESCENT_LOSS_BINARY_CROSS_ENTROPY);
      const parameter_segment at = network->layers[0].at;
      for (int64_t i = 0; i < 24; i++) network->parameters[at.W + i] *= 1e20F;
      for (int64_t i = 0; i < 6; i++) network->parameters[network->layers[1].at.W + i] *= 1e-20F;
      descent_train_options options = descent_train_options_default();
      options.batch_size = 8;
      options.epochs = 1;
      options.optimizer.kind = DESCENT_OPTIMIZER_GD;
      options.optimizer.learning_rate = 1e-37; /* the update changes nothing */
      if (descent_fit(network.get(), device.get(), data, nullptr, &options, nullptr) == DESCENT_OK) continue;
      EXPECT_TRUE(says(expected.c_str())) << descent_last_error();
      named++;
    }
    EXPECT_EQ(named, 2); /* all rows, and the half with that one */
  }
}

TEST(Divergence, StepKeepsThePreviousWeightsAndCanContinue) {
  const Rows rows = make_rows(16, 4, 1, 2, 2);
  for (const char *name : devices) {
    SCOPED_TRACE(name);
    const Device device = open_device(name);
    const Network network = make_network({4, 6, 1}, DESCENT_ACTIVATION_TANH, DESCENT_LOSS_BINARY_CROSS_ENTROPY);
    const Network twin = make_network({4, 6, 1}, DESCENT_ACTIVATION_TANH, DESCENT_LOSS_BINARY_CROSS_ENTROPY);
    descent_train_options options = descent_train_options_default();
    descent_trainer *made[2] = {nullptr, nullptr};
    ASSERT_EQ(descent_trainer_create(network.get(), device.get(), &options, 16, &made[0]), DESCENT_OK);
    const Trainer trainer{made[0], descent_trainer_free};
    ASSERT_EQ(descent_trainer_create(twin.get(), device.get(), &options, 16, &made[1]), DESCENT_OK);
    const Trainer undisturbed{made[1], descent_trainer_free};
    const auto step = [&](const Trainer &which, const std::vector<float> &X) {
      return descent_trainer_step(which.get(), X.data(), rows.y.data(), nullptr, 16, nullptr);
    };
    ASSERT_EQ(step(trainer, rows.X), DESCENT_OK);
    ASSERT_EQ(step(undisturbed, rows.X), DESCENT_OK);
    for (float bad : {NAN, INFINITY}) {
      std::vector<float> X = rows.X;
      X[4 * 7 + 2] = bad;
      EXPECT_EQ(step(trainer, X), DESCENT_ERROR_DIVERGED);
      EXPECT_TRUE(says("at step 2") && says("input column 2 is not finite")) << descent_last_error();
    }
    for (int i = 0; i < 3; i++) {
      ASSERT_EQ(step(trainer, rows.X), DESCENT_OK);
      ASSERT_EQ(step(undisturbed, rows.X), DESCENT_OK);
    }
    ASSERT_EQ(descent_trainer_sync(trainer.get()), DESCENT_OK);
    ASSERT_EQ(descent_trainer_sync(undisturbed.get()), DESCENT_OK);
    EXPECT_EQ(parameters_of(network), parameters_of(twin)); /* moments and step count are unchanged too */
  }
}

TEST(Divergence, NamesTheFirstBadLayerForwardAndTheLastBackward) {
  const Rows rows = make_rows(8, 4, 1, 0, 3);
  const struct {
    const char *name;
    double W[3]; /* every weight of the layer */
    const char *expected;
  } cases[] = {
      {"layer 2 overflows", {1, 3e38, 1}, "layer 2's activations are not finite"},
      {"layer 3 overflows", {1e15, 1e15, 1e15}, "layer 3's activations are not finite"},
      {"the loss overflows", {1e10, 1e10, 1e10}, "is not finite"},
  };
  for (const auto &c : cases) {
    SCOPED_TRACE(c.name);
    const Device device = open_device("cpu");
    const Network network = make_network({4, 6, 6, 1}, DESCENT_ACTIVATION_IDENTITY, DESCENT_LOSS_MEAN_SQUARED_ERROR);
    for (int32_t l = 1; l <= 3; l++) {
      const std::vector<float> W(36, static_cast<float>(c.W[l - 1]));
      ASSERT_EQ(descent_network_set_layer(network.get(), l, W.data(), nullptr), DESCENT_OK) << descent_last_error();
    }
    descent_train_options options = descent_train_options_default();
    descent_trainer *made = nullptr;
    ASSERT_EQ(descent_trainer_create(network.get(), device.get(), &options, 8, &made), DESCENT_OK);
    const Trainer trainer{made, descent_trainer_free};
    EXPECT_EQ(descent_trainer_step(made, rows.X.data(), rows.y.data(), nullptr, 8, nullptr), DESCENT_ERROR_DIVERGED);
    EXPECT_TRUE(says(c.expected)) << descent_last_error();
    EXPECT_TRUE(says("no update has been made yet")) << descent_last_error();
  }
}

/* One step in which only the update overflows float32: only the weights show it. */
TEST(Divergence, AnUpdateBeyondFloat32IsNotASuccess) {
  const Rows rows = make_rows(8, 2, 1, 0, 4);
  const Dataset data = rows.dataset();
  const Device device = open_device("cpu");
  const Network network = make_network({2, 1}, DESCENT_ACTIVATION_IDENTITY, DESCENT_LOSS_MEAN_SQUARED_ERROR);
  ASSERT_EQ(descent_network_set_layer(network.get(), 1, std::vector<float>{1e3F, 1e3F}.data(), nullptr), DESCENT_OK);
  const std::vector<float> before = parameters_of(network);
  descent_train_options options = descent_train_options_default();
  options.optimizer.kind = DESCENT_OPTIMIZER_GD;
  options.optimizer.learning_rate = 3e38;
  options.epochs = 1;
  EXPECT_EQ(descent_fit(network.get(), device.get(), data.get(), nullptr, &options, nullptr), DESCENT_ERROR_DIVERGED);
  EXPECT_TRUE(says("at step 1") && says("layer 1's weights")) << descent_last_error();
  EXPECT_TRUE(says("initial weights are kept")) << descent_last_error();
  EXPECT_EQ(parameters_of(network), before);
}

TEST(Divergence, KeepsTheBestEpochWhereThereWasOne) {
  const Rows rows = make_rows(64, 4, 1, 0, 5);
  const Dataset data = rows.dataset();
  const Device device = open_device("cpu");
  descent_train_options options = descent_train_options_default();
  options.optimizer.kind = DESCENT_OPTIMIZER_GD;
  options.optimizer.learning_rate = 2e17; /* over 1e18 steps of warm-up: 0.2, 0.4, ... until it is too much */
  options.schedule.warmup_steps = INT64_C(1000000000000000000);
  options.batch_size = 0;
  options.epochs = 50;
  std::vector<std::vector<float>> after;
  int64_t best = 0;
  struct Seen {
    const Network *network;
    std::vector<std::vector<float>> *after;
    int64_t *best;
  };
  const Network network = make_network({4, 8, 1}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_MEAN_SQUARED_ERROR);
  Seen seen{&network, &after, &best};
  options.callbacks.user = &seen;
  options.callbacks.on_epoch = [](void *user, const descent_epoch_info *info) {
    auto *s = static_cast<Seen *>(user);
    if (info->best) *s->best = info->epoch;
    s->after->push_back(parameters_of(*s->network));
    return 0;
  };
  ASSERT_EQ(descent_fit(network.get(), device.get(), data.get(), data.get(), &options, nullptr),
            DESCENT_ERROR_DIVERGED);
  ASSERT_GT(best, 0);
  ASSERT_GT(after.size(), static_cast<size_t>(best)) << "it diverged right after the best epoch";
  EXPECT_EQ(parameters_of(network), after[static_cast<size_t>(best) - 1]);
  EXPECT_TRUE(says(("the weights of epoch " + std::to_string(best) + " are kept").c_str())) << descent_last_error();
}

}  // namespace
