/* Evaluation, prediction and preprocessing from the caller's side, and the errors of what is refused. */
#include <gtest/gtest.h>

#include <cfloat>
#include <cmath>
#include <functional>

#include "row_source.h"
#include "source.h"
#include "training.h"

namespace {

const char *const devices[] = {"reference", "cpu", "cuda"};

bool says(const std::string &part) { return std::string(descent_last_error()).find(part) != std::string::npos; }

/* One layer z = x W^T + b with given numbers. */
Network linear(const std::vector<float> &W, const std::vector<float> &b, descent_loss loss) {
  Network network = make_network({static_cast<int64_t>(W.size() / b.size()), static_cast<int64_t>(b.size())},
                                 DESCENT_ACTIVATION_RELU, loss);
  EXPECT_EQ(descent_network_set_layer(network.get(), 1, W.data(), b.data()), DESCENT_OK);
  return network;
}

/* exp and one division in float32, from a logit that is exact here: a few roundings. */
const double close = 8 * FLT_EPSILON;

TEST(Evaluate, PredictsProbabilitiesAndValues) {
  for (const char *name : devices) {
    SCOPED_TRACE(name);
    const Device device = open_device(name);
    const Rows binary{2, 2, 1, 2, {1, 0, 0, 1}, {0, 1}, {}};
    float P[6];
    const Network sigmoid = linear({1, -2}, {0.5F}, DESCENT_LOSS_BINARY_CROSS_ENTROPY);
    ASSERT_EQ(descent_predict(sigmoid.get(), device.get(), binary.dataset().get(), P), DESCENT_OK);
    EXPECT_NEAR(static_cast<double>(P[0]), 1 / (1 + std::exp(-1.5)), close);
    EXPECT_NEAR(static_cast<double>(P[1]), 1 / (1 + std::exp(1.5)), close);

    const Network softmax = linear({1, 0, 0, 2, 0, 0}, {0, 0, 1}, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
    ASSERT_EQ(descent_predict(softmax.get(), device.get(), binary.dataset().get(), P), DESCENT_OK);
    const double first = 2 * std::exp(1) + 1, second = 1 + std::exp(2) + std::exp(1);
    const double expected[] = {std::exp(1) / first,  1 / first,           std::exp(1) / first, 1 / second,
                               std::exp(2) / second, std::exp(1) / second};
    for (int i = 0; i < 6; i++) EXPECT_NEAR(static_cast<double>(P[i]), expected[i], close) << i;
  }
}

TEST(Evaluate, RegressionSpeaksTheTargetsOwnUnits) {
  const Rows rows{4, 1, 1, 0, {-1, 1, -1, 1}, {90, 110, 90, 110}, {}}; /* mean 100, deviation 10 */
  for (const char *name : devices) {
    SCOPED_TRACE(name);
    const Device device = open_device(name);
    const Dataset data = rows.dataset();
    const Network network = linear({0.5F}, {0}, DESCENT_LOSS_MEAN_SQUARED_ERROR);
    ASSERT_EQ(
        descent_network_fit_preprocessing(network.get(), data.get(), DESCENT_NORMALIZE_NONE, DESCENT_IMPUTE_MEAN, true),
        DESCENT_OK);
    float P[4];
    ASSERT_EQ(descent_predict(network.get(), device.get(), data.get(), P), DESCENT_OK);
    EXPECT_FLOAT_EQ(P[0], 95);
    EXPECT_FLOAT_EQ(P[1], 105);
    descent_metrics metrics;
    ASSERT_EQ(descent_evaluate(network.get(), device.get(), data.get(), 0, &metrics), DESCENT_OK);
    EXPECT_NEAR(metrics.loss, 0.25, close); /* in units of the target's deviation */
    EXPECT_NEAR(metrics.rmse, 5, 100 * close);
    EXPECT_NEAR(metrics.r2, 1 - 25.0 / 100, close);
    descent_metrics_clear(&metrics);
  }
}

TEST(Evaluate, ExampleWeightsCountInTheLossAndNowhereElse) {
  const std::vector<float> weights = {3, 0, 1};
  const Rows rows{3, 1, 1, 2, {1, 1, -1}, {1, 0, 1}, weights};
  for (const char *name : devices) {
    SCOPED_TRACE(name);
    const Device device = open_device(name);
    const Network network = linear({1}, {0}, DESCENT_LOSS_BINARY_CROSS_ENTROPY);
    descent_metrics metrics;
    ASSERT_EQ(descent_evaluate(network.get(), device.get(), rows.dataset().get(), 0, &metrics), DESCENT_OK);
    const double right = std::log1p(std::exp(-1)), wrong = std::log1p(std::exp(1));
    EXPECT_NEAR(metrics.loss, (3 * right + 1 * wrong) / 4, close);
    EXPECT_EQ(metrics.accuracy, 1.0 / 3);
    descent_metrics_clear(&metrics);
  }
}

TEST(Evaluate, RowsComeOutInTheirOrderAcrossBlocksAndViews) {
  const Rows rows = make_rows(10000, 3, 1, 2, 4); /* more than one block of rows */
  const Dataset data = rows.dataset();
  descent_dataset *kept = nullptr, *held_out = nullptr;
  ASSERT_EQ(descent_dataset_split(data.get(), 0.5, 1, &kept, &held_out), DESCENT_OK);
  const Dataset first{kept, descent_dataset_free}, second{held_out, descent_dataset_free};
  const Device device = open_device("cpu");
  const Network network = linear({1, 10, 100}, {0}, DESCENT_LOSS_MEAN_SQUARED_ERROR);
  Rows values = rows;
  values.classes = 0;
  const auto expect_rows = [&](const Dataset &view) {
    std::vector<float> P(static_cast<size_t>(descent_dataset_rows(view.get())));
    ASSERT_EQ(descent_predict(network.get(), device.get(), view.get(), P.data()), DESCENT_OK);
    for (size_t r = 0; r < P.size(); r++) {
      float x[3];
      ASSERT_EQ(descent_dataset_row(view.get(), static_cast<int64_t>(r), x), DESCENT_OK);
      const double exact =
          static_cast<double>(x[0]) + 10.0 * static_cast<double>(x[1]) + 100.0 * static_cast<double>(x[2]);
      const double size = std::fabs(static_cast<double>(x[0])) + 10 * std::fabs(static_cast<double>(x[1])) +
                          100 * std::fabs(static_cast<double>(x[2]));
      ASSERT_NEAR(static_cast<double>(P[r]), exact, 4 * FLT_EPSILON / 2 * size) << "row " << r; /* gamma(4) */
    }
  };
  expect_rows(data);
  expect_rows(first);
  expect_rows(second);
}

/* Higgs' network: activations of 4 MB on the CPU, of 64 MB on the GPU. */
TEST(Evaluate, TheBlockIsOfTheDevicesSize) {
  const Network network =
      make_network({28, 300, 300, 300, 300, 300, 1}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_BINARY_CROSS_ENTROPY);
  const Device cpu = open_device("cpu"), cuda = open_device("cuda");
  const int64_t row_bytes = (28 + 5 * 300 + 1) * 4;
  EXPECT_EQ(program_evaluation_block(network.get(), cpu.get(), 500000), (4 << 20) / row_bytes);
  EXPECT_EQ(program_evaluation_block(network.get(), cuda.get(), 500000), (64 << 20) / row_bytes);
  EXPECT_EQ(program_evaluation_block(network.get(), cuda.get(), 10000), 10000);
  const Network small = make_network({2, 1}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_BINARY_CROSS_ENTROPY);
  EXPECT_EQ(program_evaluation_block(small.get(), cpu.get(), 500000), 4096);
  EXPECT_EQ(program_evaluation_block(small.get(), cuda.get(), 500000), 65536);
}

TEST(Evaluate, MetricsAreThoseOfAllBlocks) {
  const Rows rows = make_rows(70000, 2, 1, 2, 4); /* two blocks of the GPU's, 18 of the CPU's */
  const Network network = linear({1, -1}, {0.5F}, DESCENT_LOSS_BINARY_CROSS_ENTROPY);
  descent_metrics metrics[2];
  for (int i = 0; i < 2; i++) {
    const Device device = open_device(i ? "cuda" : "cpu");
    ASSERT_EQ(descent_evaluate(network.get(), device.get(), rows.dataset().get(), 0, &metrics[i]), DESCENT_OK)
        << descent_last_error();
  }
  EXPECT_NEAR(metrics[1].loss, metrics[0].loss, close);
  EXPECT_EQ(metrics[1].accuracy, metrics[0].accuracy);
  for (descent_metrics &m : metrics) descent_metrics_clear(&m);
}

/* Probabilities that are all 1, or all 0, in float32 are still ranked. */
TEST(Evaluate, SaturatedProbabilitiesDoNotTie) {
  const Rows binary{4, 1, 1, 2, {20, 30, 25, 40}, {0, 1, 0, 1}, {}};
  const Rows classes{2, 3, 1, 3, {500, -300, -200, -300, -200, 500}, {2, 1}, {}};
  for (const char *name : devices) {
    SCOPED_TRACE(name);
    const Device device = open_device(name);
    const Network sigmoid = linear({1}, {0}, DESCENT_LOSS_BINARY_CROSS_ENTROPY);
    const Network softmax = linear({1, 0, 0, 0, 1, 0, 0, 0, 1}, {0, 0, 0}, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
    descent_metrics m;
    ASSERT_EQ(descent_evaluate(sigmoid.get(), device.get(), binary.dataset().get(), 0, &m), DESCENT_OK);
    EXPECT_EQ(m.auc, 1);
    EXPECT_EQ(m.accuracy, 0.5);
    descent_metrics_clear(&m);
    ASSERT_EQ(descent_evaluate(softmax.get(), device.get(), classes.dataset().get(), 2, &m), DESCENT_OK);
    EXPECT_EQ(m.top_k_accuracy, 1);
    descent_metrics_clear(&m);
  }
}

TEST(Evaluate, RefusesWhatIsNotFiniteWithItsRow) {
  const Network line = linear({1e38F, 1e38F}, {0}, DESCENT_LOSS_MEAN_SQUARED_ERROR);
  const Network twice = make_network({2, 4, 1}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_BINARY_CROSS_ENTROPY);
  twice->scale[1] = 1e3F; /* -3e38 then overflows, and relu may hide it */
  twice->normalize = DESCENT_NORMALIZE_STANDARD;
  const struct {
    const char *name;
    const Network &network;
    std::vector<float> X;
    const char *says;
  } cases[] = {
      {"output",
       line,
       {1, 1, 1, 2e7F, 0, 1},
       "row 1 (from 0): the output is not finite: input 1 (from 0) is 2e+07, far from the training rows"},
      {"weights",
       line,
       {1, 1, 0, 1, 3, 3},
       "row 2 (from 0): the output is not finite, although no input is far from the training rows"},
      {"missing", line, {1, 1, 0, NAN, 3, 3}, "row 1 (from 0): the output is not finite: input 1 (from 0) is missing"},
      {"normalised",
       twice,
       {1, 1, 0, 1, 3, -3e38F},
       "row 2 (from 0): input 1 (from 0) is -3e+38, too large for float32 once it is normalised"},
  };
  for (const char *name : devices)
    for (const auto &c : cases) {
      SCOPED_TRACE(std::string(name) + " " + c.name);
      const Device device = open_device(name);
      const Rows rows{3, 2, 1, c.network->classes, c.X, {0, 1, 1}, {}};
      float outputs[3];
      descent_metrics metrics;
      EXPECT_EQ(descent_predict(c.network.get(), device.get(), rows.dataset().get(), outputs), DESCENT_ERROR_DATA);
      EXPECT_TRUE(says(c.says)) << descent_last_error();
      EXPECT_TRUE(std::isfinite(outputs[0])) << "the other rows are there";
      EXPECT_EQ(descent_predict_raw(c.network.get(), device.get(), rows.dataset().get(), outputs), DESCENT_ERROR_DATA);
      EXPECT_EQ(descent_evaluate(c.network.get(), device.get(), rows.dataset().get(), 0, &metrics), DESCENT_ERROR_DATA);
      EXPECT_TRUE(says(c.says)) << descent_last_error();
    }
  const Rows training = make_rows(8, 2, 1, 2, 1), validation{1, 2, 1, 2, {0, -3e38F}, {1}, {}};
  const descent_train_options options = descent_train_options_default();
  const Device device = open_device("cpu");
  EXPECT_EQ(
      descent_fit(twice.get(), device.get(), training.dataset().get(), validation.dataset().get(), &options, nullptr),
      DESCENT_ERROR_DATA);
  EXPECT_TRUE(says("the validation data: row 0 (from 0): input 1 (from 0) is -3e+38")) << descent_last_error();
}

TEST(Preprocessing, FitsTheTrainingRowsOnly) {
  const Rows rows{4, 2, 1, 2, {0, 5, 2, 5, 4, 5, 1000, 5}, {0, 1, 0, 1}, {}};
  const Dataset data = rows.dataset();
  const struct {
    descent_normalize kind;
    float shift, scale;
  } cases[] = {{DESCENT_NORMALIZE_STANDARD, 251.5F, 1 / std::sqrt(186752.75F)}, /* 747011 / 4 by hand */
               {DESCENT_NORMALIZE_MINMAX, 0, 1.0F / 1000},
               {DESCENT_NORMALIZE_NONE, 0, 1}};
  for (const auto &c : cases) {
    const Network network = make_network({2, 1}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_BINARY_CROSS_ENTROPY);
    ASSERT_EQ(descent_network_fit_preprocessing(network.get(), data.get(), c.kind, DESCENT_IMPUTE_MEAN, true),
              DESCENT_OK);
    EXPECT_EQ(descent_network_normalize(network.get()), c.kind);
    EXPECT_FLOAT_EQ(network->shift[0], c.shift);
    EXPECT_FLOAT_EQ(network->scale[0], c.scale);
    EXPECT_EQ(network->scale[1], 1) << "a constant feature is only shifted";
    EXPECT_EQ(network->y_scale[0], 1) << "classes are not standardised";
  }
}

TEST(Preprocessing, TakesOverTheNames) {
  descent_dataset_options read = descent_dataset_options_default();
  read.target = "diagnosis";
  descent_dataset *made = nullptr;
  ASSERT_EQ(descent_dataset_read(source_file("examples/breast_cancer.csv").c_str(), &read, &made), DESCENT_OK);
  const Dataset data{made, descent_dataset_free};
  const Network network = make_network({30, 1}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_BINARY_CROSS_ENTROPY);
  for (int twice = 0; twice < 2; twice++) {
    ASSERT_EQ(descent_network_fit_preprocessing(network.get(), data.get(), DESCENT_NORMALIZE_STANDARD,
                                                DESCENT_IMPUTE_MEAN, false),
              DESCENT_OK);
  }
  EXPECT_STREQ(descent_network_target_name(network.get(), 0), "diagnosis");
  for (int64_t j = 0; j < 30; j++)
    EXPECT_STREQ(descent_network_input_name(network.get(), j), descent_dataset_input_name(data.get(), j));
  for (int64_t k = 0; k < 2; k++)
    EXPECT_STREQ(descent_network_class_name(network.get(), k), descent_dataset_class_name(data.get(), k));
}

TEST(Preprocessing, OfRowsWithoutTargetsFitsTheInputsAndKeepsWhatIsKnownOfTheTargets) {
  const std::string path = source_file("examples/breast_cancer.csv");
  descent_dataset_options read = descent_dataset_options_default();
  descent_dataset *made = nullptr, *made_inputs = nullptr, *kept = nullptr, *held_out = nullptr;
  read.target = "diagnosis";
  ASSERT_EQ(descent_dataset_read(path.c_str(), &read, &made), DESCENT_OK) << descent_last_error();
  read.features_only = true;
  ASSERT_EQ(descent_dataset_read(path.c_str(), &read, &made_inputs), DESCENT_OK) << descent_last_error();
  const Dataset data{made, descent_dataset_free}, inputs{made_inputs, descent_dataset_free};
  ASSERT_EQ(descent_dataset_targets(made_inputs), 0);
  const Network network = make_network({30, 1}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_BINARY_CROSS_ENTROPY);
  const auto fit = [&](const descent_dataset *rows) {
    ASSERT_EQ(
        descent_network_fit_preprocessing(network.get(), rows, DESCENT_NORMALIZE_STANDARD, DESCENT_IMPUTE_MEAN, false),
        DESCENT_OK)
        << descent_last_error();
  };
  fit(made_inputs);
  EXPECT_EQ(descent_network_target_name(network.get(), 0), nullptr);
  EXPECT_STREQ(descent_network_input_name(network.get(), 29), descent_dataset_input_name(made, 29));
  const std::vector<float> shift(network->shift, network->shift + 30);
  fit(made);
  EXPECT_EQ(std::vector<float>(network->shift, network->shift + 30), shift) << "the same rows, with targets";
  ASSERT_EQ(descent_dataset_split(made_inputs, 0.5, 1, &kept, &held_out), DESCENT_OK);
  fit(kept);
  descent_dataset_free(kept);
  descent_dataset_free(held_out);
  EXPECT_NE(std::vector<float>(network->shift, network->shift + 30), shift) << "half of the rows";
  EXPECT_STREQ(descent_network_target_name(network.get(), 0), "diagnosis");
  for (int64_t k = 0; k < 2; k++)
    EXPECT_STREQ(descent_network_class_name(network.get(), k), descent_dataset_class_name(made, k));
}

TEST(Preprocessing, OfRowsWithoutTargetsKeepsTheirScalingAndCannotStandardiseThem) {
  const Rows values{3, 1, 1, 0, {1, 2, 3}, {10, 20, 60}, {}};
  const Dataset data = values.dataset();
  const Network network = make_network({1, 1}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_MEAN_SQUARED_ERROR);
  const auto fit = [&](const descent_dataset *rows, bool standardise) {
    return descent_network_fit_preprocessing(network.get(), rows, DESCENT_NORMALIZE_STANDARD, DESCENT_IMPUTE_MEAN,
                                             standardise);
  };
  ASSERT_EQ(fit(data.get(), true), DESCENT_OK) << descent_last_error();
  const float X[] = {5, 7};
  descent_dataset *made = nullptr;
  ASSERT_EQ(descent_dataset_create(X, nullptr, nullptr, 2, 1, 0, DESCENT_TASK_AUTO, 0, &made), DESCENT_OK);
  const Dataset inputs{made, descent_dataset_free};
  EXPECT_EQ(fit(made, true), DESCENT_ERROR_ARGUMENT);
  EXPECT_TRUE(says("the training data: no target column")) << descent_last_error();
  EXPECT_EQ(network->shift[0], 2) << "unchanged";
  ASSERT_EQ(fit(made, false), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(network->shift[0], 6);
  EXPECT_EQ(network->y_shift[0], 30);
  EXPECT_FLOAT_EQ(network->y_scale[0], 1 / std::sqrt(1400.0F / 3)); /* 20^2 + 10^2 + 30^2 by hand */
}

TEST(Refusals, DatasetsThatDoNotFitAreNamedWithBothSizes) {
  const Rows wide = make_rows(4, 3, 1, 2, 1), classes = make_rows(4, 2, 1, 3, 1), values = make_rows(4, 2, 2, 0, 1);
  Rows untargeted = make_rows(4, 2, 1, 2, 1);
  const Device device = open_device("cpu");
  const struct {
    const char *name;
    Network network;
    Dataset data;
    const char *says;
  } cases[] = {
      {"inputs", make_network({2, 1}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_BINARY_CROSS_ENTROPY), wide.dataset(),
       "3 input columns, but the network has 2 inputs"},
      {"classes", make_network({2, 1}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_BINARY_CROSS_ENTROPY), classes.dataset(),
       "3 classes, but the network has 2"},
      {"task", make_network({2, 1}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_BINARY_CROSS_ENTROPY), values.dataset(),
       "the task is regression"},
      {"targets", make_network({2, 1}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_MEAN_SQUARED_ERROR), values.dataset(),
       "2 target columns, but the network has 1 outputs"},
  };
  for (const auto &c : cases) {
    SCOPED_TRACE(c.name);
    const descent_train_options options = descent_train_options_default();
    const descent_dataset *data = c.data.get();
    descent_metrics metrics;
    EXPECT_EQ(descent_fit(c.network.get(), device.get(), data, nullptr, &options, nullptr), DESCENT_ERROR_ARGUMENT);
    EXPECT_TRUE(says(c.says) && says("the training data")) << descent_last_error();
    EXPECT_EQ(descent_evaluate(c.network.get(), device.get(), data, 0, &metrics), DESCENT_ERROR_ARGUMENT);
    EXPECT_TRUE(says(c.says)) << descent_last_error();
    EXPECT_EQ(descent_network_fit_preprocessing(c.network.get(), data, DESCENT_NORMALIZE_STANDARD, DESCENT_IMPUTE_MEAN,
                                                false),
              DESCENT_ERROR_ARGUMENT);
    EXPECT_TRUE(says(c.says)) << descent_last_error();
  }
  descent_dataset *made = nullptr;
  ASSERT_EQ(descent_dataset_create(untargeted.X.data(), nullptr, nullptr, 4, 2, 1, DESCENT_TASK_BINARY, 2, &made),
            DESCENT_OK);
  const Dataset no_target{made, descent_dataset_free};
  const Network network = make_network({2, 1}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_BINARY_CROSS_ENTROPY);
  descent_metrics metrics;
  EXPECT_EQ(descent_evaluate(network.get(), device.get(), made, 0, &metrics), DESCENT_ERROR_ARGUMENT);
  EXPECT_TRUE(says("no target column")) << descent_last_error();
  float P[4];
  EXPECT_EQ(descent_predict(network.get(), device.get(), made, P), DESCENT_OK) << descent_last_error();
}

TEST(Refusals, EveryOptionOutOfRangeIsNamedWithItsValue) {
  using Change = void (*)(descent_train_options *);
  static const double weights[] = {1, -2}, fine[] = {1, 2};
  const struct {
    const char *says;
    Change change;
  } cases[] = {
      {"descent_train_options_default()", [](descent_train_options *o) { o->size = 0; }},
      {"learning_rate 0:", [](descent_train_options *o) { o->optimizer.learning_rate = 0; }},
      {"learning_rate -1:", [](descent_train_options *o) { o->optimizer.learning_rate = -1; }},
      {"learning_rate nan:", [](descent_train_options *o) { o->optimizer.learning_rate = NAN; }},
      {"learning_rate 1e+39:", [](descent_train_options *o) { o->optimizer.learning_rate = 1e39; }},
      {"momentum 1:", [](descent_train_options *o) { o->optimizer.momentum = 1; }},
      {"momentum -0.1:", [](descent_train_options *o) { o->optimizer.momentum = -0.1; }},
      {"beta1 1:", [](descent_train_options *o) { o->optimizer.beta1 = 1; }},
      {"beta2 nan:", [](descent_train_options *o) { o->optimizer.beta2 = NAN; }},
      {"rho -1:", [](descent_train_options *o) { o->optimizer.rho = -1; }},
      {"epsilon 0:", [](descent_train_options *o) { o->optimizer.epsilon = 0; }},
      {"epsilon 1e-50:", [](descent_train_options *o) { o->optimizer.epsilon = 1e-50; }},
      {"weight_decay -1:", [](descent_train_options *o) { o->optimizer.weight_decay = -1; }},
      {"l2 inf:", [](descent_train_options *o) { o->optimizer.l2 = INFINITY; }},
      {"clip_norm -2:", [](descent_train_options *o) { o->optimizer.clip_norm = -2; }},
      {"dropout 1:", [](descent_train_options *o) { o->dropout = 1; }},
      {"label_smoothing 1:", [](descent_train_options *o) { o->label_smoothing = 1; }},
      {"schedule gamma 0:", [](descent_train_options *o) { o->schedule.gamma = 0; }},
      {"schedule gamma 1.5:", [](descent_train_options *o) { o->schedule.gamma = 1.5; }},
      {"schedule minimum 1:", [](descent_train_options *o) { o->schedule.minimum = 1; }},
      {"schedule every 0:", [](descent_train_options *o) { o->schedule.every = 0; }},
      {"min_delta -1:", [](descent_train_options *o) { o->early_stopping.min_delta = -1; }},
      {"batch_size -1:", [](descent_train_options *o) { o->batch_size = -1; }},
      {"epochs -1:", [](descent_train_options *o) { o->epochs = -1; }},
      {"epochs 9223372036854775807 of", [](descent_train_options *o) { o->epochs = INT64_MAX; }},
      {"patience -1:", [](descent_train_options *o) { o->early_stopping.patience = -1; }},
      {"warmup_steps -1:", [](descent_train_options *o) { o->schedule.warmup_steps = -1; }},
      {"warmup_epochs -0.5: must be a number of at least 0",
       [](descent_train_options *o) { o->schedule.warmup_epochs = -0.5; }},
      {"warmup_epochs nan:", [](descent_train_options *o) { o->schedule.warmup_epochs = NAN; }},
      {"warmup_epochs 0.5: cannot be combined with warmup_steps 3; use one of them",
       [](descent_train_options *o) { o->schedule.warmup_epochs = 0.5, o->schedule.warmup_steps = 3; }},
      {"schedule power 0:", [](descent_train_options *o) { o->schedule.power = 0; }},
      {"schedule power inf:", [](descent_train_options *o) { o->schedule.power = INFINITY; }},
      {"nesterov", [](descent_train_options *o) { o->optimizer.nesterov = true; }},
      {"class_weights[1] -2:", [](descent_train_options *o) { o->class_weights = weights; }},
      {"balance_classes",
       [](descent_train_options *o) {
         o->class_weights = fine;
         o->balance_classes = true;
       }},
  };
  const Rows rows = make_rows(8, 2, 1, 2, 1);
  const Dataset data = rows.dataset();
  const Device device = open_device("cpu");
  for (const auto &c : cases) {
    SCOPED_TRACE(c.says);
    const Network network = make_network({2, 1}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_BINARY_CROSS_ENTROPY);
    const std::vector<float> before = parameters_of(network);
    descent_train_options options = descent_train_options_default();
    options.batch_size = 4;
    c.change(&options);
    EXPECT_EQ(descent_fit(network.get(), device.get(), data.get(), nullptr, &options, nullptr), DESCENT_ERROR_ARGUMENT);
    EXPECT_TRUE(says(c.says)) << descent_last_error();
    EXPECT_EQ(parameters_of(network), before);
  }
}

TEST(Refusals, FusionOnADeviceThatComputesLayerByLayer) {
  const Rows rows = make_rows(8, 2, 1, 2, 1);
  const Dataset data = rows.dataset();
  RowSource given(rows);
  const descent_source source = given.source(true);
  const Network network = make_network({2, 1}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_BINARY_CROSS_ENTROPY);
  const std::vector<float> before = parameters_of(network);
  for (const char *name : {"cpu", "reference"}) {
    SCOPED_TRACE(name);
    const Device device = open_device(name);
    const std::string expected =
        std::string("fusion on: the device ") + name + " computes layer by layer; use auto or off";
    descent_train_options options = descent_train_options_default();
    options.batch_size = 4;
    options.epochs = 1;
    descent_trainer *trainer = nullptr;
    bool passed = false;
    descent_bench_result result;
    const std::function<descent_status()> calls[] = {
        [&] { return descent_train_options_check(&options, network.get(), device.get()); },
        [&] { return descent_fit(network.get(), device.get(), data.get(), nullptr, &options, nullptr); },
        [&] { return descent_fit_source(network.get(), device.get(), &source, nullptr, &options, nullptr); },
        [&] { return descent_trainer_create(network.get(), device.get(), &options, 4, &trainer); },
        [&] {
          return descent_verify(network.get(), device.get(), device.get(), &options, 4, 1, nullptr, nullptr, &passed);
        },
        [&] { return descent_bench(network.get(), device.get(), &options, 0.01, nullptr, nullptr, &result); },
    };
    options.gpu.fusion = DESCENT_FUSION_ON;
    for (size_t i = 0; i < std::size(calls); i++) {
      EXPECT_EQ(calls[i](), DESCENT_ERROR_UNSUPPORTED) << i;
      EXPECT_EQ(descent_last_error(), expected) << i;
    }
    EXPECT_EQ(parameters_of(network), before);
    for (const descent_fusion fusion : {DESCENT_FUSION_AUTO, DESCENT_FUSION_OFF}) {
      options.gpu.fusion = fusion;
      EXPECT_EQ(calls[0](), DESCENT_OK) << descent_last_error();
    }
  }
}

TEST(Refusals, NoOptionsAtAll) {
  const Rows rows = make_rows(8, 2, 1, 2, 1);
  const Dataset data = rows.dataset();
  const Device device = open_device("cpu");
  const Network network = make_network({2, 1}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_BINARY_CROSS_ENTROPY);
  descent_trainer *trainer = nullptr;
  EXPECT_EQ(descent_fit(network.get(), device.get(), data.get(), nullptr, nullptr, nullptr), DESCENT_ERROR_ARGUMENT);
  EXPECT_EQ(descent_trainer_create(network.get(), device.get(), nullptr, 4, &trainer), DESCENT_ERROR_ARGUMENT);
  EXPECT_EQ(descent_train_options_check(nullptr, network.get(), device.get()), DESCENT_ERROR_ARGUMENT);
  EXPECT_TRUE(says("descent_train_options_default()")) << descent_last_error();
}

TEST(Refusals, RegressionHasNoClassesToWeightOrSmooth) {
  const Rows rows = make_rows(8, 2, 1, 0, 1);
  const Dataset data = rows.dataset();
  const Device device = open_device("cpu");
  const Network network = make_network({2, 1}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_MEAN_SQUARED_ERROR);
  for (bool balance : {true, false}) {
    descent_train_options options = descent_train_options_default();
    options.balance_classes = balance;
    options.label_smoothing = balance ? 0 : 0.1;
    EXPECT_EQ(descent_fit(network.get(), device.get(), data.get(), nullptr, &options, nullptr), DESCENT_ERROR_ARGUMENT);
    EXPECT_TRUE(says(balance ? "class weights" : "label_smoothing 0.1: must be 0 for regression"))
        << descent_last_error();
  }
}

TEST(Refusals, StepsByHandCheckTheirRows) {
  const Rows rows = make_rows(8, 2, 1, 3, 1);
  const Device device = open_device("cpu");
  const Network network = make_network({2, 3}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
  descent_train_options options = descent_train_options_default();
  descent_trainer *made = nullptr;
  ASSERT_EQ(descent_trainer_create(network.get(), device.get(), &options, 8, &made), DESCENT_OK);
  const Trainer trainer{made, descent_trainer_free};
  const struct {
    const char *says;
    int64_t rows;
    float y, weight;
  } cases[] = {
      {"0 rows", 0, 0, 1},
      {"9 rows", 9, 0, 1},
      {"invalid class 3: must be an integer in 0 .. 2", 8, 3, 1},
      {"class -1", 8, -1, 1},
      {"class 0.5", 8, 0.5F, 1},
      {"class nan", 8, NAN, 1},
      {"invalid weight -1: must be finite and >= 0", 8, 0, -1},
      {"invalid weight nan: must be finite and >= 0", 8, 0, NAN},
      {"invalid weight inf: must be finite and >= 0", 8, 0, INFINITY},
  };
  for (const auto &c : cases) {
    std::vector<float> y(9, 0), w(9, 1);
    y[7] = c.y, w[7] = c.weight;
    EXPECT_EQ(descent_trainer_step(made, rows.X.data(), y.data(), w.data(), c.rows, nullptr), DESCENT_ERROR_ARGUMENT);
    EXPECT_TRUE(says(c.says)) << descent_last_error();
  }
  EXPECT_EQ(descent_trainer_set_learning_rate(made, 0), DESCENT_ERROR_ARGUMENT);
  EXPECT_EQ(descent_trainer_set_learning_rate(made, 0.1), DESCENT_OK);
}

TEST(Refusals, TrainersByHandWantABatchAndNoEpochs) {
  const Device device = open_device("cpu");
  const Network network = make_network({2, 3}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
  const struct {
    const char *says;
    int64_t batch_size, max_batch;
    descent_schedule schedule;
    bool balance;
    double warmup_epochs;
  } cases[] = {{"max_batch 0", 0, 0, DESCENT_SCHEDULE_CONSTANT, false, 0},
               {"max_batch -3", 8, -3, DESCENT_SCHEDULE_CONSTANT, false, 0},
               {"schedule cosine", 8, 0, DESCENT_SCHEDULE_COSINE, false, 0},
               {"schedule polynomial", 8, 0, DESCENT_SCHEDULE_POLYNOMIAL, false, 0},
               {"warmup_epochs 2.5: not available for steps by hand", 8, 0, DESCENT_SCHEDULE_CONSTANT, false, 2.5},
               {"balance_classes", 8, 0, DESCENT_SCHEDULE_CONSTANT, true, 0}};
  for (const auto &c : cases) {
    descent_train_options options = descent_train_options_default();
    options.batch_size = c.batch_size;
    options.schedule.kind = c.schedule;
    options.balance_classes = c.balance;
    options.schedule.warmup_epochs = c.warmup_epochs;
    descent_trainer *made = nullptr;
    EXPECT_EQ(descent_trainer_create(network.get(), device.get(), &options, c.max_batch, &made),
              DESCENT_ERROR_ARGUMENT);
    EXPECT_TRUE(says(c.says)) << descent_last_error();
    EXPECT_EQ(made, nullptr);
  }
}

TEST(Refusals, TrainingRowsThatAllWeighNothing) {
  Rows rows = make_rows(8, 2, 1, 2, 1);
  rows.weights.assign(8, 0);
  const Device device = open_device("cpu");
  const Network network = make_network({2, 1}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_BINARY_CROSS_ENTROPY);
  const descent_train_options options = descent_train_options_default();
  EXPECT_EQ(descent_fit(network.get(), device.get(), rows.dataset().get(), nullptr, &options, nullptr),
            DESCENT_ERROR_ARGUMENT);
  EXPECT_TRUE(says("all 8 weights are 0")) << descent_last_error();
}

}  // namespace
