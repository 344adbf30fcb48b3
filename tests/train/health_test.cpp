/* The warnings of vanishing and exploding gradients and dead units: given where they should be, and only there. */
#include <gtest/gtest.h>

#include <cmath>

#include "training.h"

namespace {

struct Seen {
  std::vector<std::string> warnings;
  std::vector<descent_layer_health> last;
};

Seen watch(const Network &network, const Dataset &data, descent_train_options options) {
  Seen seen;
  options.callbacks.user = &seen;
  options.callbacks.on_epoch = [](void *user, const descent_epoch_info *info) {
    auto *s = static_cast<Seen *>(user);
    s->warnings.push_back(info->warning);
    s->last.assign(info->health, info->health + info->layers);
    return 0;
  };
  const Device device = open_device("cpu");
  const descent_status status = descent_fit(network.get(), device.get(), data.get(), nullptr, &options, nullptr);
  EXPECT_TRUE(status == DESCENT_OK || status == DESCENT_ERROR_DIVERGED) << descent_last_error();
  return seen;
}

/* Replaces every weight by scale times a normal number: the naive initialisation. */
void draw_naively(const Network &network, float scale) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, scale);
  for (int32_t l = 1; l <= network->n_layers; l++) {
    std::vector<float> W(static_cast<size_t>(network->layers[l - 1].n_in * network->layers[l - 1].n_out));
    for (float &w : W) w = normal(random);
    ASSERT_EQ(descent_network_set_layer(network.get(), l, W.data(), nullptr), DESCENT_OK);
  }
}

std::vector<int64_t> deep(int hidden, int64_t width) {
  std::vector<int64_t> widths(static_cast<size_t>(hidden) + 1, width);
  widths.push_back(1);
  return widths;
}

TEST(Health, WarnsOfWhatTheNotesWarnOf) {
  const Rows rows = make_rows(256, 32, 1, 2, 1);
  const Dataset data = rows.dataset();
  const struct {
    const char *name;
    descent_activation activation;
    float naive; /* 0: the automatic initialisation */
    double learning_rate;
    const char *warning; /* its beginning; "" for none */
  } cases[] = {
      {"deep sigmoids", DESCENT_ACTIVATION_SIGMOID, 0, 1e-3, "gradients vanish: layer 1's gradient is "},
      {"deep relus with tiny weights", DESCENT_ACTIVATION_RELU, 0.02F, 1e-3, "gradients vanish: "},
      {"deep relus with large weights", DESCENT_ACTIVATION_RELU, 1, 1e-3, "activations explode: layer 19's spread"},
      {"deep linear layers with large weights", DESCENT_ACTIVATION_IDENTITY, 1, 1e-3, "activations explode: "},
      {"deep saturated tanhs", DESCENT_ACTIVATION_TANH, 1.5F, 1e-3, "gradients explode: layer 1's gradient is "},
      {"deep relus, he", DESCENT_ACTIVATION_RELU, 0, 1e-3, ""},
      {"deep tanhs, xavier", DESCENT_ACTIVATION_TANH, 0, 1e-3, ""},
      {"far too high a rate", DESCENT_ACTIVATION_TANH, 0, 30, "weights explode: one step changes layer "},
  };
  for (const auto &c : cases) {
    SCOPED_TRACE(c.name);
    const Network network = make_network(deep(19, 32), c.activation, DESCENT_LOSS_BINARY_CROSS_ENTROPY);
    if (c.naive > 0) draw_naively(network, c.naive);
    descent_train_options options = descent_train_options_default();
    options.optimizer.learning_rate = c.learning_rate;
    options.epochs = 1;
    options.batch_size = 0;
    const Seen seen = watch(network, data, options);
    ASSERT_EQ(seen.warnings.size(), 1U);
    EXPECT_EQ(seen.warnings[0].substr(0, std::string(c.warning).size()), c.warning) << seen.warnings[0];
    if (!*c.warning) {
      EXPECT_EQ(seen.warnings[0], "");
    }
  }
}

TEST(Health, AdvisesWhatTheNetworkDoesNotHaveYet) {
  const Rows rows = make_rows(256, 32, 1, 2, 1);
  const Dataset data = rows.dataset();
  const struct {
    const char *name;
    descent_activation activation;
    float naive;
    double learning_rate, clip_norm;
    bool normalised;
    const char *advice; /* the warning's end */
  } cases[] = {
      {"deep sigmoids", DESCENT_ACTIVATION_SIGMOID, 0, 1e-3, 0, true, "; try relu or fewer layers"},
      {"deep relus with tiny weights", DESCENT_ACTIVATION_RELU, 0.02F, 1e-3, 0, true,
       "; try he initialisation or fewer layers"},
      {"deep tanhs with tiny weights", DESCENT_ACTIVATION_TANH, 0.02F, 1e-3, 0, true,
       "; try relu, xavier initialisation or fewer layers"},
      {"deep relus with large weights", DESCENT_ACTIVATION_RELU, 1, 1e-3, 0, true, "; try he initialisation"},
      {"deep saturated tanhs", DESCENT_ACTIVATION_TANH, 1.5F, 1e-3, 0, true,
       "; try xavier initialisation or clip_norm 1"},
      {"deep saturated tanhs, clipped", DESCENT_ACTIVATION_TANH, 1.5F, 1e-3, 1e30, true, "; try xavier initialisation"},
      {"far too high a rate", DESCENT_ACTIVATION_TANH, 0, 30, 0, true, "; try a smaller learning rate or clip_norm 1"},
      {"far too high a rate, raw", DESCENT_ACTIVATION_TANH, 0, 30, 0, false,
       "; try a smaller learning rate, clip_norm 1 or standard normalisation"},
      {"far too high a rate, clipped", DESCENT_ACTIVATION_TANH, 0, 30, 1e30, true, "; try a smaller learning rate"},
  };
  for (const auto &c : cases) {
    SCOPED_TRACE(c.name);
    const Network network = make_network(deep(19, 32), c.activation, DESCENT_LOSS_BINARY_CROSS_ENTROPY);
    if (c.normalised) {
      ASSERT_EQ(descent_network_fit_preprocessing(network.get(), data.get(), DESCENT_NORMALIZE_STANDARD,
                                                  DESCENT_IMPUTE_MEAN, false),
                DESCENT_OK);
    }
    if (c.naive > 0) draw_naively(network, c.naive);
    descent_train_options options = descent_train_options_default();
    options.optimizer.learning_rate = c.learning_rate;
    options.optimizer.clip_norm = c.clip_norm;
    options.epochs = 1;
    options.batch_size = 0;
    const Seen seen = watch(network, data, options);
    ASSERT_EQ(seen.warnings.size(), 1U);
    const std::string &said = seen.warnings[0];
    ASSERT_NE(said.find(';'), std::string::npos) << said;
    EXPECT_EQ(said.substr(said.find(';')), c.advice) << said;
  }
}

TEST(Health, NamesALayerWhoseUnitsAreDead) {
  const Rows rows = make_rows(256, 8, 1, 2, 2);
  const Dataset data = rows.dataset();
  for (double dead : {0.25, 0.75}) {
    const Network network = make_network({8, 16, 16, 1}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_BINARY_CROSS_ENTROPY);
    std::vector<float> b(16, 1); /* 1 keeps the others alive */
    for (size_t i = 0; i < static_cast<size_t>(16 * dead); i++) b[i] = -1000;
    ASSERT_EQ(descent_network_set_layer(network.get(), 2, nullptr, b.data()), DESCENT_OK);
    descent_train_options options = descent_train_options_default();
    options.epochs = 1;
    Seen seen = watch(network, data, options);
    EXPECT_EQ(seen.last[1].dead_fraction, dead);
    EXPECT_EQ(seen.last[2].dead_fraction, 0) << "the output layer has no dead units";
    if (dead > 0.5) {
      EXPECT_EQ(seen.warnings[0],
                "dead units: 75 % of layer 2 do not respond to any row; try a smaller learning rate, leaky_relu or "
                "standard normalisation");
    } else {
      EXPECT_EQ(seen.warnings[0], "");
    }
    options.batch_size = 4; /* too few rows to distinguish dead from inactive */
    EXPECT_EQ(watch(network, data, options).warnings[0], "");
  }
}

TEST(Health, ReportsWhatTheLastFullBatchShowed) {
  /* One layer, z = 2 x + 1 on x = 1 and -1: A is 3 and -1, mean 1, deviation 2. With y = A - 1, J's gradient is
   * mean_i 2 (a_i - y_i) (x_i, 1) = (0, 2); gd with rate 0.1 moves (W, b) = (2, 1) by 0.2. */
  const Rows rows{3, 1, 1, 0, {1, -1, 5}, {2, -2, 0}, {}};
  const Dataset data = rows.dataset();
  const Network network = make_network({1, 1}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_MEAN_SQUARED_ERROR);
  const float W = 2, b = 1;
  ASSERT_EQ(descent_network_set_layer(network.get(), 1, &W, &b), DESCENT_OK);
  descent_train_options options = descent_train_options_default();
  options.optimizer.kind = DESCENT_OPTIMIZER_GD;
  options.optimizer.learning_rate = 0.1;
  options.epochs = 1;
  options.batch_size = 2;
  for (options.seed = 0;; options.seed++) { /* until the third row is the rest of the epoch */
    const permutation order = permutation_create(options.seed, RNG_SHUFFLE, 1, 3);
    if (permutation_index(&order, 2) == 2) break;
  }
  const Seen seen = watch(network, data, options);
  ASSERT_EQ(seen.last.size(), 1U);
  EXPECT_NEAR(seen.last[0].gradient_norm, 2, 4 * 0x1p-24);
  EXPECT_NEAR(seen.last[0].update_ratio, 0.2 / std::sqrt(5.0), 4 * 0x1p-24);
  EXPECT_NEAR(seen.last[0].activation_mean, 1, 4 * 0x1p-24);
  EXPECT_NEAR(seen.last[0].activation_std, 2, 4 * 0x1p-24);
}

/* Validation labels are the opposite of the training's: the network keeps the first epoch's weights while the
 * training's move on, and those are what a callback sees. */
TEST(Health, ShowsTheWeightsOfTheMoment) {
  const Rows rows = make_rows(64, 3, 1, 2, 11);
  Rows flipped = rows;
  for (float &y : flipped.y) y = 1 - y;
  const Dataset data = rows.dataset(), opposite = flipped.dataset();
  for (const char *name : {"reference", "cpu", "cuda"}) {
    SCOPED_TRACE(name);
    const Device device = open_device(name);
    const auto network = [] {
      return make_network({3, 5, 1}, DESCENT_ACTIVATION_TANH, DESCENT_LOSS_BINARY_CROSS_ENTROPY);
    };
    struct Moment {
      std::vector<float> W, b;
      descent_status wrong_layer;
    } seen;
    descent_train_options options = descent_train_options_default();
    options.optimizer.learning_rate = 0.1;
    options.epochs = 4;
    options.callbacks.user = &seen;
    options.callbacks.on_epoch = [](void *user, const descent_epoch_info *info) {
      auto *s = static_cast<Moment *>(user);
      s->W.resize(15), s->b.resize(5);
      EXPECT_EQ(descent_trainer_get_layer(info->trainer, 1, s->W.data(), s->b.data()), DESCENT_OK);
      s->wrong_layer = descent_trainer_get_layer(info->trainer, 3, s->W.data(), nullptr);
      return 0;
    };
    const Network keeps = network(), moves = network();
    ASSERT_EQ(descent_fit(keeps.get(), device.get(), data.get(), opposite.get(), &options, nullptr), DESCENT_OK);
    EXPECT_EQ(seen.wrong_layer, DESCENT_ERROR_ARGUMENT);
    options.callbacks.on_epoch = nullptr;
    ASSERT_EQ(descent_fit(moves.get(), device.get(), data.get(), nullptr, &options, nullptr), DESCENT_OK);
    std::vector<float> W(15), b(5);
    ASSERT_EQ(descent_network_get_layer(moves.get(), 1, W.data(), b.data()), DESCENT_OK);
    EXPECT_EQ(seen.W, W);
    EXPECT_EQ(seen.b, b);
    ASSERT_EQ(descent_network_get_layer(keeps.get(), 1, W.data(), nullptr), DESCENT_OK);
    EXPECT_NE(seen.W, W);
  }
}

TEST(Health, IsSilentOnTheExampleData) {
  const struct {
    const char *file, *target;
    int64_t inputs, outputs;
    descent_activation activation;
    descent_loss loss;
  } cases[] = {
      {"breast_cancer.csv", "diagnosis", 30, 1, DESCENT_ACTIVATION_SIGMOID, DESCENT_LOSS_BINARY_CROSS_ENTROPY},
      {"breast_cancer.csv", "diagnosis", 30, 1, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_BINARY_CROSS_ENTROPY},
      {"optdigits_test.csv", "digit", 64, 10, DESCENT_ACTIVATION_SIGMOID, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY},
      {"optdigits_test.csv", "digit", 64, 10, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY},
  };
  for (const auto &c : cases) {
    SCOPED_TRACE(std::string(c.file) + " " + descent_activation_name(c.activation));
    descent_dataset_options read = descent_dataset_options_default();
    read.target = c.target;
    descent_dataset *made = nullptr;
    ASSERT_EQ(descent_dataset_read((std::string(DESCENT_SOURCE_DIR "/examples/") + c.file).c_str(), &read, &made),
              DESCENT_OK)
        << descent_last_error();
    const Dataset data{made, descent_dataset_free};
    const Network network = make_network({c.inputs, 32, 16, c.outputs}, c.activation, c.loss);
    ASSERT_EQ(
        descent_network_fit_preprocessing(network.get(), made, DESCENT_NORMALIZE_STANDARD, DESCENT_IMPUTE_MEAN, false),
        DESCENT_OK);
    descent_train_options options = descent_train_options_default();
    options.epochs = 30;
    for (const std::string &warning : watch(network, data, options).warnings) EXPECT_EQ(warning, "");
  }
}

}  // namespace
