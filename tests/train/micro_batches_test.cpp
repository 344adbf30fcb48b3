/* Steps in micro-batches compute what whole steps do: to the bit where no sum rounds, elsewhere within derived bounds. */
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "erring.h"
#include "training.h"

extern "C" {
#include "plan/operations.h"
}

namespace {

const char *const devices[] = {"reference", "cpu"};

/* ---- whole numbers: no sum rounds, whatever its order ---- */

/* Rows of small whole numbers, and such a network, whose gradients are multiples of 1 / rows. */
Rows whole_rows(int64_t rows, int64_t inputs, int64_t targets, unsigned seed) {
  Rows data{rows, inputs, targets, 0, {}, {}, {}};
  std::mt19937 random(seed);
  for (int64_t i = 0; i < rows * inputs; i++) data.X.push_back(static_cast<float>(random() % 5) - 2);
  for (int64_t i = 0; i < rows * targets; i++) data.y.push_back(static_cast<float>(random() % 7) - 3);
  return data;
}

Network whole_network(const std::vector<int64_t> &widths) {
  Network network = make_network(widths, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_MEAN_SQUARED_ERROR);
  std::mt19937 random(3);
  for (int32_t l = 0; l < network->n_layers; l++) {
    const network_layer &layer = network->layers[l];
    for (int64_t i = 0; i < layer.n_out * layer.n_in; i++)
      network->parameters[layer.at.W + i] = static_cast<float>(random() % 5) - 2;
    for (int64_t j = 0; j < layer.n_out; j++) /* some units are dead */
      network->parameters[layer.at.b + j] = j % 4 == 1 ? -1000 : static_cast<float>(random() % 3) - 1;
  }
  return network;
}

descent_train_options whole_options(int64_t batch, int64_t epochs, int64_t micro_batches) {
  descent_train_options options = descent_train_options_default();
  options.optimizer.kind = DESCENT_OPTIMIZER_GD;
  options.optimizer.learning_rate = 0.125;
  options.batch_size = batch;
  options.epochs = epochs;
  options.ranks.micro_batches = micro_batches;
  return options;
}

/* What a training leaves. */
struct Outcome {
  std::vector<float> parameters;
  double loss = 0;
  std::vector<descent_layer_health> health; /* of the last epoch */
};

using Fit = std::function<descent_status(descent_network *, descent_device *, const descent_train_options *,
                                         descent_fit_result *)>;

Outcome train(const Network &network, descent_train_options options, const Fit &fit, const char *name = "cpu") {
  Outcome outcome;
  descent_fit_result result{};
  options.callbacks.user = &outcome;
  options.callbacks.on_epoch = [](void *user, const descent_epoch_info *info) {
    static_cast<Outcome *>(user)->health.assign(info->health, info->health + info->layers);
    return 0;
  };
  const Device device = open_device(name);
  EXPECT_EQ(fit(network.get(), device.get(), &options, &result), DESCENT_OK) << descent_last_error();
  outcome.parameters = parameters_of(network);
  outcome.loss = result.train_loss;
  return outcome;
}

Outcome train(const Network &network, const Dataset &data, const descent_train_options &options, const char *name) {
  const Fit fit = [&](descent_network *n, descent_device *device, const descent_train_options *o,
                      descent_fit_result *result) { return descent_fit(n, device, data.get(), nullptr, o, result); };
  return train(network, options, fit, name);
}

struct Whole {
  const char *name;
  int64_t rows, batch;
  std::vector<int64_t> widths;
  double dropout;
  std::vector<float> weights; /* taken in turns; empty: 1 */
};
const Whole wholes[] = {
    {"one_layer", 64, 64, {5, 4}, 0, {}},
    {"two_layers", 64, 64, {5, 16, 4}, 0, {}},
    {"dropout", 64, 64, {5, 16, 4}, 0.5, {}}, /* kept values are doubled */
    {"weights", 64, 64, {5, 16, 4}, 0.5, {1, 0, 0, 3}},
    /* Steps of 32 rows: with more micro-batches some have none. */
    {"last_step_smaller", 96, 64, {5, 4}, 0, {}},
};

TEST(MicroBatches, GradientIsThatOfTheBatchToTheBit) {
  for (const Whole &c : wholes)
    for (const char *name : devices) {
      SCOPED_TRACE(std::string(c.name) + " on " + name);
      Rows rows = whole_rows(c.rows, c.widths.front(), c.widths.back(), 1);
      for (int64_t r = 0; r < c.rows && !c.weights.empty(); r++)
        rows.weights.push_back(c.weights[static_cast<size_t>(r) % c.weights.size()]);
      const Dataset data = rows.dataset();
      const auto outcome = [&](int64_t micro_batches) {
        descent_train_options options = whole_options(c.batch, 1, micro_batches);
        options.dropout = c.dropout;
        return train(whole_network(c.widths), data, options, name);
      };
      const Outcome whole = outcome(1);
      EXPECT_NE(whole.parameters, parameters_of(whole_network(c.widths)));
      for (int64_t M : {2, 3, 4, 5, 7, 8, 13, 37, 64}) {
        SCOPED_TRACE(M);
        const Outcome cut = outcome(M);
        EXPECT_EQ(cut.parameters, whole.parameters);
        EXPECT_EQ(cut.loss, whole.loss);
      }
    }
}

/* A micro-batch in which no row counts, and a step: rows come in their order where an epoch is one step, and a row alone
 * is in one of two. */
TEST(MicroBatches, RowsOfWeight0DoNotCount) {
  for (const char *name : devices) {
    SCOPED_TRACE(name);
    Rows rows = whole_rows(64, 5, 4, 2);
    for (bool alone : {false, true}) {
      rows.weights.assign(64, alone ? 0 : 1);
      if (alone) rows.weights[17] = 1;
      for (size_t r = 16; r < 48 && !alone; r++) rows.weights[r] = r < 32 ? 0 : 2; /* in all 64 */
      const Dataset data = rows.dataset();
      const int64_t batch = alone ? 32 : 64;
      const Outcome whole = train(whole_network({5, 8, 4}), data, whole_options(batch, 1, 1), name);
      EXPECT_NE(whole.parameters, parameters_of(whole_network({5, 8, 4})));
      for (int64_t M : {2, 4, 8}) {
        const Outcome cut = train(whole_network({5, 8, 4}), data, whole_options(batch, 1, M), name);
        EXPECT_EQ(cut.parameters, whole.parameters) << M;
        EXPECT_EQ(cut.loss, whole.loss) << M;
      }
    }
  }
}

/* The rows of a view have their weights, not those of the rows before them in the file. */
TEST(MicroBatches, RowsOfASplitHaveTheirWeights) {
  Rows rows = whole_rows(128, 5, 4, 3);
  rows.weights.assign(128, 7);
  const auto split = [&](const Dataset &all) {
    descent_dataset *kept = nullptr, *held_out = nullptr;
    EXPECT_EQ(descent_dataset_split(all.get(), 0.5, 3, &kept, &held_out), DESCENT_OK);
    descent_dataset_free(held_out);
    return Dataset(kept, descent_dataset_free);
  };
  const Dataset all = rows.dataset(), view = split(all);
  ASSERT_EQ(descent_dataset_rows(view.get()), 64);
  for (int64_t r = 0; r < 64; r++)
    rows.weights[static_cast<size_t>(dataset_source_row(view.get(), r))] = r % 4 == 3 ? 3 : r % 4 == 0 ? 1 : 0;
  const Dataset weighted = rows.dataset(), data = split(weighted);
  for (const char *name : devices) {
    const Outcome whole = train(whole_network({5, 8, 4}), data, whole_options(64, 1, 1), name);
    for (int64_t M : {2, 5, 8}) {
      const Outcome cut = train(whole_network({5, 8, 4}), data, whole_options(64, 1, M), name);
      EXPECT_EQ(cut.parameters, whole.parameters) << name << " " << M;
      EXPECT_EQ(cut.loss, whole.loss) << name << " " << M;
    }
  }
}

/* The mean is joined from those of the parts: each double is rounded a few times for each part. */
TEST(MicroBatches, HealthIsThatOfTheWholeStep) {
  const Rows rows = whole_rows(64, 5, 4, 4);
  const Dataset data = rows.dataset();
  for (const char *name : devices)
    for (double dropout : {0.0, 0.5}) {
      SCOPED_TRACE(std::string(name) + ", dropout " + std::to_string(dropout));
      descent_train_options options = whole_options(64, 1, 1);
      options.dropout = dropout;
      const Outcome whole = train(whole_network({5, 16, 4}), data, options, name);
      ASSERT_EQ(whole.health.size(), 2U);
      EXPECT_GE(whole.health[0].dead_fraction, 0.25); /* those with a bias of -1000 */
      EXPECT_LT(whole.health[0].dead_fraction, 1);
      for (int64_t M : {2, 3, 8, 64}) {
        options.ranks.micro_batches = M;
        const Outcome cut = train(whole_network({5, 16, 4}), data, options, name);
        for (size_t l = 0; l < 2; l++) {
          SCOPED_TRACE("layer " + std::to_string(l + 1) + " in " + std::to_string(M));
          const descent_layer_health &is = cut.health[l], &was = whole.health[l];
          const double rounding = 0x1p-53 * (64 * 16 + 8 * static_cast<double>(M));
          EXPECT_EQ(is.dead_fraction, was.dead_fraction);
          EXPECT_EQ(is.gradient_norm, was.gradient_norm);
          EXPECT_EQ(is.update_ratio, was.update_ratio);
          EXPECT_NEAR(is.activation_mean, was.activation_mean, rounding * (was.activation_mean + was.activation_std));
          EXPECT_NEAR(is.activation_std, was.activation_std, rounding * (was.activation_mean + was.activation_std));
        }
      }
    }
}

/* The first step makes all units of the hidden layer negative: an epoch's marks are not those of the one before. */
TEST(MicroBatches, UnitsThatHaveDiedAreDead) {
  Rows rows = whole_rows(64, 5, 1, 6);
  for (float &y : rows.y) y = -4000;
  const Dataset data = rows.dataset();
  for (const char *name : devices)
    for (int64_t M : {1, 4})
      for (int64_t epochs : {1, 2}) {
        const Network network = whole_network({5, 8, 1});
        const network_layer &hidden = network->layers[0], &output = network->layers[1];
        std::fill_n(network->parameters + hidden.at.b, hidden.n_out, 100.0F);
        std::fill_n(network->parameters + output.at.W, output.n_in, 1.0F);
        const Outcome outcome = train(network, data, whole_options(64, epochs, M), name);
        ASSERT_EQ(outcome.health.size(), 2U);
        EXPECT_EQ(outcome.health[0].dead_fraction, epochs == 1 ? 0 : 1) << name << " " << M;
      }
}

/* A source of rows in their order. */
struct Stream {
  const Rows *rows;
  int64_t next;
};

Outcome train_on_source(const Rows &rows, int64_t micro_batches) {
  Stream stream{&rows, 0};
  descent_source source = descent_source_default();
  source.inputs = rows.inputs, source.targets = rows.targets, source.task = DESCENT_TASK_REGRESSION;
  source.user = &stream;
  source.next = [](void *user, float *X, float *y, float *weights, int64_t wanted) -> int64_t {
    auto *s = static_cast<Stream *>(user);
    const int64_t n = std::min(wanted, s->rows->rows - s->next);
    std::copy_n(s->rows->X.begin() + s->next * s->rows->inputs, n * s->rows->inputs, X);
    std::copy_n(s->rows->y.begin() + s->next * s->rows->targets, n * s->rows->targets, y);
    std::copy_n(s->rows->weights.begin() + s->next, n, weights);
    s->next += n;
    return n;
  };
  return train(whole_network({5, 4}), whole_options(64, 1, micro_batches),
               [&](descent_network *network, descent_device *device, const descent_train_options *options,
                   descent_fit_result *result) {
                 return descent_fit_source(network, device, &source, nullptr, options, result);
               });
}

TEST(MicroBatches, RowsOfASourceHaveTheirWeights) {
  Rows rows = whole_rows(96, 5, 4, 5);
  for (int64_t r = 0; r < 96; r++) rows.weights.push_back(r % 4 == 3 ? 3 : r % 4 == 0 ? 1 : 0);
  const Outcome whole = train_on_source(rows, 1);
  for (int64_t M : {2, 5, 8}) {
    const Outcome cut = train_on_source(rows, M);
    EXPECT_EQ(cut.parameters, whole.parameters) << M;
    EXPECT_EQ(cut.loss, whole.loss) << M;
  }
}

/* The only step of an epoch, with statistics, has 4 rows: most parts, the first among them, have none. */
TEST(MicroBatches, HealthLeavesOutPartsWithoutRows) {
  Rows rows = whole_rows(4, 5, 4, 5);
  rows.weights.assign(4, 1);
  const Outcome whole = train_on_source(rows, 1), cut = train_on_source(rows, 32);
  EXPECT_EQ(cut.parameters, whole.parameters);
  ASSERT_EQ(cut.health.size(), 1U);
  EXPECT_NEAR(cut.health[0].activation_mean, whole.health[0].activation_mean, 1e-14);
  EXPECT_NEAR(cut.health[0].activation_std, whole.health[0].activation_std, 1e-14);
}

/* ---- any numbers: within what rounding explains ---- */

struct Case {
  const char *name;
  std::vector<int64_t> widths;
  descent_activation hidden;
  descent_loss loss;
  void (*change)(descent_train_options *options);
};
const Case cases[] = {
    {"gd_classes_weights",
     {6, 8, 3},
     DESCENT_ACTIVATION_TANH,
     DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY,
     [](descent_train_options *o) {
       static const double weights[] = {0.5, 1, 3};
       o->optimizer.kind = DESCENT_OPTIMIZER_GD;
       o->optimizer.learning_rate = 0.1;
       o->class_weights = weights;
     }},
    {"nesterov_balanced_dropout",
     {6, 8, 1},
     DESCENT_ACTIVATION_SILU,
     DESCENT_LOSS_BINARY_CROSS_ENTROPY,
     [](descent_train_options *o) {
       o->optimizer.kind = DESCENT_OPTIMIZER_SGD;
       o->optimizer.momentum = 0.9;
       o->optimizer.nesterov = true;
       o->dropout = 0.25;
       o->balance_classes = true;
     }},
    {"rmsprop_clipped",
     {6, 8, 2},
     DESCENT_ACTIVATION_TANH,
     DESCENT_LOSS_MEAN_SQUARED_ERROR,
     [](descent_train_options *o) {
       o->optimizer.kind = DESCENT_OPTIMIZER_RMSPROP;
       o->optimizer.momentum = 0.5;
       o->optimizer.clip_norm = 0.1;
     }},
    {"adamw_dropout_smoothed",
     {6, 8, 8, 3},
     DESCENT_ACTIVATION_GELU,
     DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY,
     [](descent_train_options *o) {
       o->optimizer.kind = DESCENT_OPTIMIZER_ADAMW;
       o->optimizer.weight_decay = 0.01;
       o->dropout = 0.5;
       o->label_smoothing = 0.1;
     }},
};

enum { ROWS = 50, BATCH = 20, EPOCHS = 3 };

class Rounded : public testing::TestWithParam<Case> {
 protected:
  const Case &c = GetParam();
  Rows rows = make_rows(ROWS, 6, c.loss == DESCENT_LOSS_MEAN_SQUARED_ERROR ? 2 : 1,
                        c.loss == DESCENT_LOSS_MEAN_SQUARED_ERROR ? 0
                        : c.widths.back() == 1                    ? 2
                                                                  : 3,
                        1);
  descent_train_options options(int64_t micro_batches) const {
    descent_train_options made = descent_train_options_default();
    c.change(&made);
    made.batch_size = BATCH;
    made.epochs = EPOCHS;
    made.ranks.micro_batches = micro_batches;
    made.early_stopping.restore_best = false;
    return made;
  }
  Network network() const { return make_network(c.widths, c.hidden, c.loss); }

  erring::Parameters fit(const char *name, int64_t micro_batches, const Dataset &data, int threads = 2) const {
    const Network trained = network();
    const descent_train_options o = options(micro_batches);
    const Device device = open_device(name, threads);
    EXPECT_EQ(descent_fit(trained.get(), device.get(), data.get(), data.get(), &o, nullptr), DESCENT_OK)
        << descent_last_error();
    return {trained->parameters, trained->parameters + trained->n_parameters};
  }

  std::vector<erring::Parameters> steps(int64_t M, const Dataset &data, const erring::Machine &machine) const {
    const Network trained = network();
    const descent_train_options o = options(M);
    std::vector<float> class_weights;
    for (int64_t k = 0; k < trained->classes && (o.class_weights || o.balance_classes); k++)
      class_weights.push_back(
          o.class_weights ? static_cast<float>(o.class_weights[k])
                          : static_cast<float>(static_cast<double>(ROWS) /
                                               (static_cast<double>(trained->classes) *
                                                static_cast<double>(descent_dataset_class_count(data.get(), k)))));
    std::vector<float> weights = rows.weights;
    for (size_t r = 0; r < weights.size() && !class_weights.empty(); r++)
      weights[r] *= class_weights[static_cast<size_t>(rows.y[r])];
    return erring::in_micro_batches(trained, o, data, weights, class_weights.empty() ? nullptr : class_weights.data(),
                                    machine);
  }
};

TEST_P(Rounded, TrainingsStayWithThatOfWholeStepsAndDoNotDependOnThreads) {
  std::mt19937 random(1);
  for (int64_t r = 0; r < ROWS; r++) rows.weights.push_back(0.5F + static_cast<float>(random() % 100) / 100);
  const Dataset data = rows.dataset();
  const erring::Parameters exact = fit("reference", 1, data);
  for (int64_t M : {2, 3, 8, 16}) { /* the last step of an epoch has 10 rows */
    SCOPED_TRACE(M);
    const std::vector<erring::Parameters> path = steps(M, data, {erring::EXACTLY, 0});
    const double bound =
        erring::growth(path, [&](const erring::Machine &machine) { return steps(M, data, machine); }).back();
    const double way = erring::distance(path.back(), path.front());
    /* fit rounds the reference's parameters to float32 when it keeps them. */
    const double stored = 0x1p-24 * erring::distance(exact, erring::Parameters(exact.size()));
    EXPECT_LE(erring::distance(path.back(), exact), 2 * stored);
    const erring::Parameters cut = fit("cpu", M, data);
    EXPECT_LE(erring::distance(cut, exact), bound + stored);
    EXPECT_LT(bound, 1e-3 * way);
    EXPECT_EQ(fit("cpu", M, data, 1), cut);
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, Rounded, testing::ValuesIn(cases),
                         [](const testing::TestParamInfo<Case> &row) { return std::string(row.param.name); });

}  // namespace
