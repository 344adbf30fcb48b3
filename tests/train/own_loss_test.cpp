/* A loss of the caller in descent_fit: one that repeats a built-in loss gives its training, and another decides
 * what validation, early stopping and checkpoints see. */
#include <cmath>
#include <functional>

#include "scratch.h"
#include "training.h"

namespace {

using Loss = std::function<double(const float *, const float *, const float *, int64_t, int64_t, float *)>;

double call(void *user, const float *outputs, const float *y, const float *weights, int64_t rows, int64_t K,
            float *dOutputs) {
  return (*static_cast<Loss *>(user))(outputs, y, weights, rows, K, dOutputs);
}

double sum_of(const float *weights, int64_t rows) {
  double sum = 0;
  for (int64_t r = 0; r < rows; r++) sum += static_cast<double>(weights[r]);
  return sum;
}

/* factor times the built-in loss, in double; dOutputs is rounded once. */
Loss repeated(descent_loss loss, double factor) {
  return [=](const float *outputs, const float *y, const float *weights, int64_t rows, int64_t K, float *dOutputs) {
    const double sum = sum_of(weights, rows);
    double J = 0;
    for (int64_t r = 0; r < rows; r++) {
      const float *a = outputs + r * K;
      const double w = static_cast<double>(weights[r]) / sum * factor;
      double exponentials = 0;
      for (int64_t k = 0; k < K; k++) exponentials += std::exp(static_cast<double>(a[k]));
      for (int64_t k = 0; k < K; k++) {
        const double z = static_cast<double>(a[k]);
        double d = 0;
        if (loss == DESCENT_LOSS_BINARY_CROSS_ENTROPY) {
          const double t = static_cast<double>(y[r]);
          J += w * (std::log1p(std::exp(z)) - t * z);
          d = 1 / (1 + std::exp(-z)) - t;
        } else if (loss == DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY) {
          const bool hit = static_cast<int64_t>(y[r]) == k;
          if (hit) J += w * (std::log(exponentials) - z);
          d = std::exp(z) / exponentials - (hit ? 1 : 0);
        } else {
          const double error = z - static_cast<double>(y[r * K + k]);
          J += w * error * error / static_cast<double>(K);
          d = 2 * error / static_cast<double>(K);
        }
        dOutputs[r * K + k] = static_cast<float>(w * d);
      }
    }
    return J;
  };
}

struct Epochs {
  std::vector<double> train, validation;
  std::vector<std::vector<double>> norms; /* gradient norms of the layers */
};

/* What callbacks get as `user`: the loss first, since both share it. */
struct User {
  Loss loss;
  Epochs epochs;
  static double compute(void *user, const float *outputs, const float *y, const float *weights, int64_t rows, int64_t K,
                        float *dOutputs) {
    return call(&static_cast<User *>(user)->loss, outputs, y, weights, rows, K, dOutputs);
  }
  static int report(void *user, const descent_epoch_info *info) {
    Epochs &epochs = static_cast<User *>(user)->epochs;
    epochs.train.push_back(info->train_loss);
    epochs.validation.push_back(info->validation ? info->validation->loss : 0);
    epochs.norms.emplace_back();
    for (int32_t l = 0; l < info->layers; l++) epochs.norms.back().push_back(info->health[l].gradient_norm);
    return 0;
  }
};

struct Trained {
  descent_status status;
  std::string error;
  std::vector<float> before, after;
  Epochs epochs;
  double evaluated; /* the network's own loss of the validation rows */
};

Trained fit(const char *name, descent_loss loss, const Loss &own, descent_train_options options,
            bool with_validation = true) {
  const bool regression = loss == DESCENT_LOSS_MEAN_SQUARED_ERROR;
  const int64_t K = loss == DESCENT_LOSS_BINARY_CROSS_ENTROPY ? 1 : 3;
  const int64_t classes = regression ? 0 : K == 1 ? 2 : K;
  const Network network = make_network({4, 6, K}, DESCENT_ACTIVATION_TANH, loss);
  const Device device = open_device(name);
  Rows training = make_rows(60, 4, regression ? K : 1, classes, 3),
       held_out = make_rows(30, 4, regression ? K : 1, classes, 4);
  for (int r = 0; r < 60; r++) training.weights.push_back(r % 3 ? 1.0F : 0.5F);
  for (int r = 0; r < 30; r++) held_out.weights.push_back(r % 2 ? 2.0F : 1.0F);
  const Dataset data = training.dataset(), validation = held_out.dataset();
  User user{own, {}};
  options.callbacks.user = &user;
  options.callbacks.loss = own ? User::compute : nullptr;
  options.callbacks.on_epoch = User::report;
  Trained result{};
  result.before = parameters_of(network);
  EXPECT_EQ(descent_network_fit_preprocessing(network.get(), data.get(), DESCENT_NORMALIZE_STANDARD,
                                              DESCENT_IMPUTE_MEAN, regression),
            DESCENT_OK);
  result.status = descent_fit(network.get(), device.get(), data.get(), with_validation ? validation.get() : nullptr,
                              &options, nullptr);
  result.error = result.status == DESCENT_OK ? "" : descent_last_error();
  result.after = parameters_of(network);
  result.epochs = user.epochs;
  descent_metrics metrics{};
  EXPECT_EQ(descent_evaluate(network.get(), device.get(), validation.get(), 0, &metrics), DESCENT_OK);
  result.evaluated = metrics.loss;
  descent_metrics_clear(&metrics);
  return result;
}

double distance(const std::vector<float> &a, const std::vector<float> &b) {
  double squares = 0;
  for (size_t i = 0; i < a.size(); i++) squares += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
  return std::sqrt(squares);
}

descent_train_options options_of(int64_t epochs) {
  descent_train_options options = descent_train_options_default();
  options.epochs = epochs;
  options.batch_size = 16; /* the last batch of an epoch has 12 rows */
  options.optimizer.kind = DESCENT_OPTIMIZER_SGD;
  options.optimizer.momentum = 0.5;
  options.optimizer.learning_rate = 0.05;
  options.early_stopping.restore_best = false;
  return options;
}

class OwnLoss : public testing::TestWithParam<const char *> {};
INSTANTIATE_TEST_SUITE_P(Devices, OwnLoss, testing::Values("reference", "cpu", "cuda"),
                         [](const testing::TestParamInfo<const char *> &row) { return std::string(row.param); });

/* A dOutputs differs from the built-in one in the roundings of L' and w / sum w, at most 8 units; an update moves the
 * parameters by less than 1 / 8 of it and of what it causes later, over 12 steps. */
TEST_P(OwnLoss, ThatRepeatsABuiltInOneGivesItsTraining) {
  for (descent_loss loss :
       {DESCENT_LOSS_BINARY_CROSS_ENTROPY, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, DESCENT_LOSS_MEAN_SQUARED_ERROR})
    for (double dropout : {0.0, 0.2}) {
      SCOPED_TRACE(std::string(descent_loss_name(loss)) + (dropout > 0 ? ", dropout" : ""));
      descent_train_options options = options_of(3);
      options.dropout = dropout;
      const double class_weights[] = {1, 2, 0.5};
      if (loss == DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY) options.class_weights = class_weights;
      const Trained built_in = fit(GetParam(), loss, nullptr, options),
                    own = fit(GetParam(), loss, repeated(loss, 1), options);
      ASSERT_EQ(built_in.status, DESCENT_OK) << built_in.error;
      ASSERT_EQ(own.status, DESCENT_OK) << own.error;
      const double unit = 0x1p-24, moved = distance(built_in.before, built_in.after);
      EXPECT_GT(moved, 0.1);
      EXPECT_LE(distance(built_in.after, own.after), 12 * 8 * unit * moved);
      ASSERT_EQ(own.epochs.train.size(), 3U);
      for (size_t e = 0; e < 3; e++) {
        EXPECT_NEAR(own.epochs.train[e], built_in.epochs.train[e], 12 * 8 * unit * built_in.epochs.train[e]);
        EXPECT_NEAR(own.epochs.validation[e], built_in.epochs.validation[e],
                    12 * 8 * unit * built_in.epochs.validation[e]);
        for (size_t l = 0; l < 2; l++)
          EXPECT_NEAR(own.epochs.norms[e][l], built_in.epochs.norms[e][l], 12 * 8 * unit * built_in.epochs.norms[e][l]);
      }
    }
}

TEST_P(OwnLoss, IsTheLossThatEpochsReport) {
  const Loss twice = repeated(DESCENT_LOSS_MEAN_SQUARED_ERROR, 2);
  const Trained own = fit(GetParam(), DESCENT_LOSS_MEAN_SQUARED_ERROR, twice, options_of(2));
  ASSERT_EQ(own.status, DESCENT_OK) << own.error;
  EXPECT_NEAR(own.epochs.validation.back(), 2 * own.evaluated, 1e-5 * own.evaluated);
}

/* One that only falls for three epochs ends the training by its patience, although the network's own falls on. */
TEST(OwnLossInFit, DecidesWhenATrainingStops) {
  int64_t calls = 0; /* of validation: 30 rows */
  const Loss counted = [&](const float *outputs, const float *y, const float *weights, int64_t rows, int64_t K,
                           float *dOutputs) {
    const double J = repeated(DESCENT_LOSS_MEAN_SQUARED_ERROR, 1)(outputs, y, weights, rows, K, dOutputs);
    return rows == 30 ? static_cast<double>(std::abs(++calls - 3)) : J;
  };
  descent_train_options options = options_of(50);
  options.early_stopping.patience = 2;
  const Trained own = fit("cpu", DESCENT_LOSS_MEAN_SQUARED_ERROR, counted, options);
  ASSERT_EQ(own.status, DESCENT_OK) << own.error;
  EXPECT_EQ(own.epochs.validation, (std::vector<double>{2, 1, 0, 1, 2}));
}

TEST(OwnLossInFit, ThatIsNotFiniteIsADivergence) {
  const struct {
    const char *says;
    bool in_J;
  } cases[] = {{"the loss is not finite", true}, {"layer 2's gradient is not finite", false}};
  for (const auto &c : cases) {
    int step = 0;
    const Loss breaks = [&](const float *outputs, const float *y, const float *weights, int64_t rows, int64_t K,
                            float *dOutputs) {
      double J = repeated(DESCENT_LOSS_MEAN_SQUARED_ERROR, 1)(outputs, y, weights, rows, K, dOutputs);
      if (++step == 3) (c.in_J ? J = NAN : J), dOutputs[1] = c.in_J ? dOutputs[1] : NAN;
      return J;
    };
    const Trained own = fit("cpu", DESCENT_LOSS_MEAN_SQUARED_ERROR, breaks, options_of(2), false);
    EXPECT_EQ(own.status, DESCENT_ERROR_DIVERGED);
    EXPECT_NE(own.error.find("training diverged at step 3"), std::string::npos) << own.error;
    EXPECT_NE(own.error.find(c.says), std::string::npos) << own.error;
    EXPECT_NE(own.error.find("the weights before that step are kept"), std::string::npos) << own.error;
    for (float w : own.after) EXPECT_TRUE(std::isfinite(w));
  }
}

TEST(OwnLossInFit, AndLabelSmoothingExcludeEachOther) {
  descent_train_options options = options_of(1);
  options.label_smoothing = 0.1;
  const Loss loss = repeated(DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, 1);
  const Trained own = fit("cpu", DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, loss, options);
  EXPECT_EQ(own.status, DESCENT_ERROR_ARGUMENT);
  EXPECT_EQ(own.error.find("label_smoothing 0.1: "), 0U) << own.error;
  EXPECT_EQ(own.before, own.after);

  const Network network = make_network({2, 3}, DESCENT_ACTIVATION_IDENTITY, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
  const Device device = open_device("cpu");
  options.callbacks.loss = [](void *, const float *, const float *, const float *, int64_t, int64_t, float *) {
    return 0.0;
  };
  EXPECT_EQ(descent_train_options_check(&options, network.get(), device.get()), DESCENT_ERROR_ARGUMENT);
  options.label_smoothing = 0;
  EXPECT_EQ(descent_train_options_check(&options, network.get(), device.get()), DESCENT_OK) << descent_last_error();
}

/* A trainer would step with the network's loss instead. */
TEST(OwnLossInFit, IsRefusedForStepsByHand) {
  const Network network = make_network({2, 1}, DESCENT_ACTIVATION_IDENTITY, DESCENT_LOSS_MEAN_SQUARED_ERROR);
  const Device device = open_device("cpu");
  descent_train_options options = descent_train_options_default();
  options.callbacks.loss = [](void *, const float *, const float *, const float *, int64_t, int64_t, float *) {
    return 0.0;
  };
  descent_trainer *trainer = nullptr;
  EXPECT_EQ(descent_trainer_create(network.get(), device.get(), &options, 4, &trainer), DESCENT_ERROR_ARGUMENT);
  EXPECT_EQ(trainer, nullptr);
  EXPECT_NE(std::string(descent_last_error()).find("callbacks.loss"), std::string::npos) << descent_last_error();
}

/* A checkpoint of one is not resumed by a training without, nor the other way round, unless that is asked for; and a
 * resumed training ends with the bits of an uninterrupted one. */
TEST(OwnLossInFit, BelongsToTheCheckpoint) {
  const Loss own = repeated(DESCENT_LOSS_MEAN_SQUARED_ERROR, 1);
  const Trained whole = fit("cpu", DESCENT_LOSS_MEAN_SQUARED_ERROR, own, options_of(4));
  for (bool own_first : {true, false}) {
    const Scratch folder;
    descent_train_options options = options_of(4);
    options.checkpoint.folder = folder.path().c_str();
    options.checkpoint.steps = 4;
    options.callbacks.on_step = [](void *, const descent_step_info *info) { return info->step == 6 ? 1 : 0; };
    ASSERT_EQ(fit("cpu", DESCENT_LOSS_MEAN_SQUARED_ERROR, own_first ? own : nullptr, options).status, DESCENT_OK);
    options.callbacks.on_step = nullptr;
    options.checkpoint.resume = folder.path().c_str();
    const Trained other = fit("cpu", DESCENT_LOSS_MEAN_SQUARED_ERROR, own_first ? nullptr : own, options);
    EXPECT_EQ(other.status, DESCENT_ERROR_ARGUMENT);
    const char *says = own_first ? "loss was a function of the program and is of the network"
                                 : "loss was of the network and is a function of the program";
    EXPECT_NE(other.error.find(says), std::string::npos) << other.error;
    if (own_first) {
      const Trained resumed = fit("cpu", DESCENT_LOSS_MEAN_SQUARED_ERROR, own, options);
      ASSERT_EQ(resumed.status, DESCENT_OK) << resumed.error;
      EXPECT_EQ(resumed.after, whole.after);
    } else {
      options.checkpoint.resume_with = "loss";
      EXPECT_EQ(fit("cpu", DESCENT_LOSS_MEAN_SQUARED_ERROR, own, options).status, DESCENT_OK) << descent_last_error();
    }
  }
}

}  // namespace
