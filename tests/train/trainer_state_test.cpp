/* A trainer's state: measured without changing it, saved, and restored so that the coming steps are the same bits. */
#include <gtest/gtest.h>

#include <cmath>

#include "scratch.h"
#include "training.h"

namespace {

const char *const devices[] = {"reference", "cpu", "cuda"};

struct Case {
  const char *name;
  descent_loss loss;
  int64_t outputs, classes;
  descent_optimizer optimizer;
  double momentum, dropout;
};
const Case cases[] = {
    {"adam", DESCENT_LOSS_BINARY_CROSS_ENTROPY, 1, 2, DESCENT_OPTIMIZER_ADAM, 0, 0.25},
    {"sgd", DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, 3, 3, DESCENT_OPTIMIZER_SGD, 0.9, 0},
    {"rmsprop", DESCENT_LOSS_MEAN_SQUARED_ERROR, 2, 0, DESCENT_OPTIMIZER_RMSPROP, 0, 0},
    {"lars", DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, 3, 3, DESCENT_OPTIMIZER_LARS, 0, 0},
    {"lamb", DESCENT_LOSS_MEAN_SQUARED_ERROR, 2, 0, DESCENT_OPTIMIZER_LAMB, 0, 0.25},
};

descent_train_options options_of(const Case &c) {
  descent_train_options options = descent_train_options_default();
  options.optimizer.kind = c.optimizer;
  options.optimizer.momentum = c.momentum;
  options.optimizer.learning_rate = 0.01;
  options.dropout = c.dropout;
  options.schedule.warmup_steps = 6; /* whose factor depends on the number of steps */
  return options;
}

Rows rows_of(const Case &c, int64_t rows = 40) { return make_rows(rows, 5, c.classes ? 1 : c.outputs, c.classes, 7); }

Network network_of(const Case &c) {
  Network network = make_network({5, 8, c.outputs}, DESCENT_ACTIVATION_TANH, c.loss);
  EXPECT_EQ(descent_network_fit_preprocessing(network.get(), rows_of(c).dataset().get(), DESCENT_NORMALIZE_STANDARD,
                                              DESCENT_IMPUTE_MEAN, false),
            DESCENT_OK);
  return network;
}

Trainer trainer_of(const Network &network, const Device &device, const descent_train_options &options,
                   int64_t batch = 16) {
  descent_trainer *trainer = nullptr;
  EXPECT_EQ(descent_trainer_create(network.get(), device.get(), &options, batch, &trainer), DESCENT_OK)
      << descent_last_error();
  return {trainer, descent_trainer_free};
}

/* `n` steps on 16 rows each, from row 8 (k mod 4) of the data. */
void run(const Trainer &trainer, const Rows &rows, int n, int from = 0) {
  for (int i = from; i < from + n; i++) {
    const size_t at = 8 * static_cast<size_t>(i % 4), targets = static_cast<size_t>(rows.targets);
    ASSERT_EQ(
        descent_trainer_step(trainer.get(), rows.X.data() + at * 5, rows.y.data() + at * targets, nullptr, 16, nullptr),
        DESCENT_OK)
        << descent_last_error();
  }
}

std::vector<float> weights_of(const Trainer &trainer, const Network &network) {
  EXPECT_EQ(descent_trainer_sync(trainer.get()), DESCENT_OK) << descent_last_error();
  return parameters_of(network);
}

/* The reference computes in double and files hold float32: a few roundings of 2^-24 apart. Others: the same bits. */
double tolerance_of(const char *device) { return std::string(device) == "reference" ? 16 * std::pow(2, -24) : 0; }

void expect_near(const std::vector<float> &a, const std::vector<float> &b, double tolerance) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); i++)
    EXPECT_LE(std::fabs(static_cast<double>(a[i]) - static_cast<double>(b[i])), tolerance) << i;
}

TEST(TrainerState, RestoredContinuesWithTheSameBits) {
  const Scratch folder;
  const std::string path = folder / "state.safetensors";
  for (const char *name : devices)
    for (const Case &c : cases) {
      SCOPED_TRACE(std::string(name) + " " + c.name);
      const Device device = open_device(name);
      const Rows rows = rows_of(c);
      const Network network = network_of(c), other = network_of(c);
      const Trainer whole = trainer_of(network, device, options_of(c));
      run(whole, rows, 3);
      ASSERT_EQ(descent_trainer_set_learning_rate(whole.get(), 0.02), DESCENT_OK);
      ASSERT_EQ(descent_trainer_save(whole.get(), path.c_str()), DESCENT_OK) << descent_last_error();
      run(whole, rows, 5, 3);
      const std::vector<float> expected = weights_of(whole, network);

      const Trainer again = trainer_of(other, device, options_of(c));
      run(again, rows, 1); /* whatever it did before */
      ASSERT_EQ(descent_trainer_restore(again.get(), path.c_str()), DESCENT_OK) << descent_last_error();
      descent_step_info info = {};
      run(again, rows, 4, 3);
      ASSERT_EQ(descent_trainer_step(again.get(), rows.X.data() + 8 * 3 * 5,
                                     rows.y.data() + 8 * 3 * static_cast<size_t>(rows.targets), nullptr, 16, &info),
                DESCENT_OK);
      expect_near(weights_of(again, other), expected, tolerance_of(name));
      EXPECT_EQ(info.step, 8);
      EXPECT_DOUBLE_EQ(info.learning_rate, 0.02);
    }
}

/* A step in one kernel, once on fewer rows: the same bits as in parts, and after it is restored. No other kernel of
 * several layers takes so many inputs. */
TEST(TrainerState, AWholeStepContinuesWithTheSameBits) {
  const Scratch folder;
  const std::string path = folder / "state.safetensors";
  const Device device = open_device("cuda");
  const Rows rows = make_rows(96, 400, 1, 3, 7);
  for (const descent_precision precision : {DESCENT_PRECISION_FP32, DESCENT_PRECISION_BF16}) {
    SCOPED_TRACE(descent_precision_name(precision));
    descent_train_options options = options_of(cases[0]);
    options.precision = precision;
    options.gpu.fusion = DESCENT_FUSION_ON;
    std::vector<float> learnt[3];
    for (const int how : {0, 1, 2}) { /* in one, in parts, restored in the middle */
      const Network network = make_network({400, 80, 3}, DESCENT_ACTIVATION_TANH, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
      Trainer trainer = trainer_of(network, device, options, 32);
      for (int step = 0; step < 6; step++) {
        const float *const X = rows.X.data() + 16 * (step % 4) * 400, *const y = rows.y.data() + 16 * (step % 4);
        const int64_t n = step == 3 ? 19 : 32;
        if (how == 2 && step == 4) {
          ASSERT_EQ(descent_trainer_save(trainer.get(), path.c_str()), DESCENT_OK) << descent_last_error();
          trainer.reset();
          trainer = trainer_of(network, device, options, 32);
          ASSERT_EQ(descent_trainer_restore(trainer.get(), path.c_str()), DESCENT_OK) << descent_last_error();
        }
        if (how == 1) {
          ASSERT_EQ(descent_trainer_gradient(trainer.get(), X, y, nullptr, n, nullptr), DESCENT_OK);
          ASSERT_EQ(descent_trainer_update(trainer.get(), nullptr), DESCENT_OK) << descent_last_error();
        } else {
          ASSERT_EQ(descent_trainer_step(trainer.get(), X, y, nullptr, n, nullptr), DESCENT_OK) << descent_last_error();
        }
      }
      learnt[how] = weights_of(trainer, network);
    }
    EXPECT_EQ(learnt[1], learnt[0]);
    EXPECT_EQ(learnt[2], learnt[0]);
  }
}

TEST(TrainerState, SavedIsAModelFileOfTheDevicesWeights) {
  const Scratch folder;
  const std::string path = folder / "state.safetensors";
  const Device device = open_device("cpu");
  const Rows rows = rows_of(cases[1]);
  const Network network = network_of(cases[1]);
  const std::vector<float> before = parameters_of(network);
  const Trainer trainer = trainer_of(network, device, options_of(cases[1]));
  run(trainer, rows, 2);
  ASSERT_EQ(descent_trainer_save(trainer.get(), path.c_str()), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(parameters_of(network), before);
  descent_network *loaded = nullptr;
  ASSERT_EQ(descent_network_load(path.c_str(), &loaded), DESCENT_OK) << descent_last_error();
  const Network owner(loaded, descent_network_free);
  EXPECT_EQ(descent_network_checkpoint_step(loaded), 2);
  EXPECT_EQ(parameters_of(owner), weights_of(trainer, network));
}

/* Trains the network by descent_fit with these options and restores the newest checkpoint into a trainer of another one. */
Trainer trainer_after_fit(const Network &network, const Network &other, const Device &device,
                          descent_train_options options) {
  const Scratch folder;
  const std::string checkpoints = folder / "c";
  const Rows rows = rows_of(cases[0]);
  const Dataset data = rows.dataset();
  options.batch_size = 10;
  options.checkpoint.folder = checkpoints.c_str();
  EXPECT_EQ(descent_fit(network.get(), device.get(), data.get(), nullptr, &options, nullptr), DESCENT_OK)
      << descent_last_error();
  std::string newest;
  for (const auto &entry : std::filesystem::directory_iterator(checkpoints))
    if (entry.path().extension() == ".safetensors" && entry.path().string() > newest) newest = entry.path().string();
  Trainer trainer = trainer_of(other, device, options_of(cases[0]));
  EXPECT_EQ(descent_trainer_restore(trainer.get(), newest.c_str()), DESCENT_OK) << descent_last_error();
  return trainer;
}

TEST(TrainerState, TakesACheckpointOfFit) {
  const Device device = open_device("cpu");
  const Rows rows = rows_of(cases[0]);
  const Network network = network_of(cases[0]), other = network_of(cases[0]);
  descent_train_options options = options_of(cases[0]);
  options.epochs = 2;
  const Trainer trainer = trainer_after_fit(network, other, device, options);
  EXPECT_EQ(weights_of(trainer, other), parameters_of(network));
  descent_step_info info = {};
  ASSERT_EQ(descent_trainer_step(trainer.get(), rows.X.data(), rows.y.data(), nullptr, 16, &info), DESCENT_OK);
  EXPECT_EQ(info.step, 9);
}

/* descent_fit's steps and those by hand warm up by one rule, so that the coming step has the rate that it would have had. */
TEST(TrainerState, TakesACheckpointOfFitWithinItsWarmUp) {
  const Device device = open_device("cpu");
  const Rows rows = rows_of(cases[0]);
  const Network network = network_of(cases[0]), other = network_of(cases[0]);
  descent_train_options options = options_of(cases[0]);
  options.callbacks.on_step = [](void *, const descent_step_info *info) { return info->step == 3 ? 1 : 0; };
  const Trainer trainer = trainer_after_fit(network, other, device, options);
  for (int step = 4; step <= 8; step++) {
    descent_step_info info = {};
    ASSERT_EQ(descent_trainer_step(trainer.get(), rows.X.data(), rows.y.data(), nullptr, 16, &info), DESCENT_OK);
    EXPECT_EQ(info.step, step);
    EXPECT_DOUBLE_EQ(info.learning_rate, 0.01 * std::fmin(step, 6) / 6);
  }
}

TEST(TrainerState, RestoreRefusesWhatDoesNotFitAndChangesNothing) {
  const Scratch folder;
  const std::string path = folder / "state.safetensors", model = folder / "model.safetensors";
  const Device device = open_device("cpu");
  const Rows rows = rows_of(cases[0]);
  const Network network = network_of(cases[0]);
  {
    const Trainer trainer = trainer_of(network, device, options_of(cases[0]));
    run(trainer, rows, 2);
    ASSERT_EQ(descent_trainer_save(trainer.get(), path.c_str()), DESCENT_OK);
  }
  ASSERT_EQ(descent_network_save(network.get(), model.c_str()), DESCENT_OK);
  const Network wider = make_network({5, 9, 1}, DESCENT_ACTIVATION_TANH, cases[0].loss);
  const Network unfitted = make_network({5, 8, 1}, DESCENT_ACTIVATION_TANH, cases[0].loss);
  descent_train_options sgd = options_of(cases[0]);
  sgd.optimizer.kind = DESCENT_OPTIMIZER_SGD;
  const struct {
    const Network &network;
    descent_train_options options;
    std::string path;
    descent_status status;
    const char *says;
  } refused[] = {
      {wider, options_of(cases[0]), path, DESCENT_ERROR_ARGUMENT, "network was 5-8-1"},
      {unfitted, options_of(cases[0]), path, DESCENT_ERROR_ARGUMENT, "normalize standard"},
      {network, sgd, path, DESCENT_ERROR_ARGUMENT, "optimizer was adam and is sgd"},
      {network, options_of(cases[0]), model, DESCENT_ERROR_MODEL, "header missing"},
      {network, options_of(cases[0]), folder / "none", DESCENT_ERROR_READ, "none"},
  };
  for (const auto &r : refused) {
    const Trainer trainer = trainer_of(r.network, device, r.options),
                  untouched = trainer_of(r.network, device, r.options);
    EXPECT_EQ(descent_trainer_restore(trainer.get(), r.path.c_str()), r.status);
    EXPECT_NE(std::string(descent_last_error()).find(r.says), std::string::npos) << descent_last_error();
    run(trainer, rows, 2);
    run(untouched, rows, 2);
    EXPECT_EQ(weights_of(trainer, r.network), weights_of(untouched, r.network));
  }
}

/* The measures are those of the synced network, and the coming steps are not touched, also after a view of the rows. */
TEST(TrainerState, EvaluatesWhatIsOnTheDevice) {
  for (const char *name : devices)
    for (const Case &c : cases) {
      SCOPED_TRACE(std::string(name) + " " + c.name);
      const Device device = open_device(name);
      const Rows rows = rows_of(c);
      const Network network = network_of(c), other = network_of(c);
      const Trainer trainer = trainer_of(network, device, options_of(c)),
                    untouched = trainer_of(other, device, options_of(c));
      run(trainer, rows, 3);
      descent_metrics now = {}, expected = {};
      {
        const Dataset data = rows.dataset();
        descent_dataset *kept = nullptr, *held_out = nullptr;
        ASSERT_EQ(descent_dataset_split(data.get(), 0.4, 1, &kept, &held_out), DESCENT_OK);
        const Dataset one(kept, descent_dataset_free), two(held_out, descent_dataset_free);
        ASSERT_EQ(descent_trainer_evaluate(trainer.get(), held_out, 0, &now), DESCENT_OK) << descent_last_error();
        ASSERT_EQ(descent_trainer_sync(trainer.get()), DESCENT_OK);
        ASSERT_EQ(descent_evaluate(network.get(), device.get(), held_out, 0, &expected), DESCENT_OK);
      }
      EXPECT_EQ(now.rows, 16);
      EXPECT_NEAR(now.loss, expected.loss, tolerance_of(name)); /* one block in both */
      if (c.classes) {
        EXPECT_EQ(now.accuracy, expected.accuracy);
      } else {
        EXPECT_NEAR(now.rmse, expected.rmse, tolerance_of(name));
      }
      descent_metrics_clear(&now);
      descent_metrics_clear(&expected);
      run(untouched, rows, 3);
      run(trainer, rows, 2, 3);
      run(untouched, rows, 2, 3);
      EXPECT_EQ(weights_of(trainer, network), weights_of(untouched, other));
    }
}

}  // namespace
