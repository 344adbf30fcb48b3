/* Shared by the tests of checkpoints: folders, and trainings that use them. */
#ifndef DESCENT_TESTS_CHECKPOINTS_H
#define DESCENT_TESTS_CHECKPOINTS_H

#include <functional>

#include "scratch.h"
#include "training.h"

inline std::string checkpoint_name(int64_t step) {
  char name[64];
  std::snprintf(name, sizeof name, "step-%015lld.safetensors", static_cast<long long>(step));
  return name;
}

/* The steps that a folder has files of. */
inline std::vector<int64_t> steps_in(const std::string &folder) {
  int64_t *steps = nullptr, n = 0;
  EXPECT_EQ(checkpoint_folder_list(folder.c_str(), &steps, &n), DESCENT_OK);
  std::vector<int64_t> list(steps, steps + n);
  free(steps);
  return list;
}

/* What an epoch reported, except times. */
struct Epoch {
  int64_t epoch, step;
  double train_loss, validation_loss, learning_rate;
  bool best;
  std::vector<double> health;
  std::string warning;

  bool operator==(const Epoch &other) const {
    return epoch == other.epoch && step == other.step && train_loss == other.train_loss &&
           validation_loss == other.validation_loss && learning_rate == other.learning_rate && best == other.best &&
           health == other.health && warning == other.warning;
  }
};

struct Event {
  descent_checkpoint_event event;
  std::string path, message;
  int64_t step;
  double rate_factor;
};

/* A training that can be run repeatedly from the same initial state. */
struct Job {
  std::vector<int64_t> widths{4, 6, 5, 3};
  descent_activation hidden = DESCENT_ACTIVATION_TANH;
  descent_loss loss = DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY;
  Rows rows = make_rows(80, 4, 1, 3, 1), held_out = make_rows(20, 4, 1, 3, 2);
  bool validate = true;
  descent_train_options options = descent_train_options_default();
  const char *device = "cpu";
  int threads = 1;
  const backend *through = nullptr; /* the table by which the device is called, if not its own */
  /* How to train, if not with descent_fit. */
  std::function<descent_status(descent_network *, descent_device *, const descent_dataset *validation,
                               const descent_train_options *, descent_fit_result *)>
      fit;

  struct Outcome {
    descent_status status;
    std::string error;
    std::vector<float> parameters;
    descent_fit_result result;
    std::vector<Event> events;
    std::vector<Epoch> epochs;

    std::vector<Event> of(descent_checkpoint_event kind) const {
      std::vector<Event> some;
      for (const Event &event : events)
        if (event.event == kind) some.push_back(event);
      return some;
    }
  };

  static void record(void *user, const descent_checkpoint_info *info) {
    static_cast<Outcome *>(user)->events.push_back(
        {info->event, info->path, info->message, info->step, info->rate_factor});
  }

  static int record_epoch(void *user, const descent_epoch_info *info) {
    Epoch epoch{
        info->epoch, info->step, info->train_loss, info->validation ? info->validation->loss : 0, info->learning_rate,
        info->best,  {},         info->warning};
    for (int32_t l = 0; l < info->layers; l++) {
      const descent_layer_health &h = info->health[l];
      for (double value : {h.gradient_norm, h.update_ratio, h.activation_mean, h.activation_std, h.dead_fraction})
        epoch.health.push_back(value);
    }
    static_cast<Outcome *>(user)->epochs.push_back(epoch);
    return 0;
  }

  Outcome run() const {
    const Network network = make_network(widths, hidden, loss, 7);
    const Dataset training = rows.dataset(), validation = held_out.dataset();
    const Device opened = open_device(device, threads);
    if (through) opened->backend = through;
    Outcome outcome{};
    descent_train_options with = options;
    if (!with.callbacks.on_step && !with.callbacks.on_epoch && !with.callbacks.on_pause) {
      with.callbacks.user = &outcome;
      with.callbacks.on_checkpoint = record;
      with.callbacks.on_epoch = record_epoch;
    }
    const descent_dataset *held = validate ? validation.get() : nullptr;
    outcome.status = fit ? fit(network.get(), opened.get(), held, &with, &outcome.result)
                         : descent_fit(network.get(), opened.get(), training.get(), held, &with, &outcome.result);
    if (outcome.status != DESCENT_OK) outcome.error = descent_last_error();
    outcome.parameters = parameters_of(network);
    return outcome;
  }

  /* Keeps every step's checkpoint in `folder`. */
  Outcome run_keeping_all(const std::string &folder) const {
    Job every = *this;
    every.options.checkpoint.folder = folder.c_str();
    every.options.checkpoint.steps = 1;
    every.options.checkpoint.seconds = 0;
    every.options.checkpoint.keep = 1000;
    return every.run();
  }

  Outcome resume(const std::string &folder, const char *with = nullptr) const {
    Job resumed = *this;
    resumed.options.checkpoint.resume = folder.c_str();
    resumed.options.checkpoint.resume_with = with;
    return resumed.run();
  }
};

/* 4 steps an epoch. */
inline Job small_job() {
  Job job;
  job.options.batch_size = 20;
  job.options.epochs = 3;
  job.options.dropout = 0.2;
  return job;
}

/* Its learning rate is far too high. */
inline Job exploding_job(const std::string &folder) {
  Job job = small_job();
  job.options.optimizer.kind = DESCENT_OPTIMIZER_GD;
  job.options.optimizer.learning_rate = 1e30;
  job.options.dropout = 0;
  job.loss = DESCENT_LOSS_MEAN_SQUARED_ERROR;
  job.hidden = DESCENT_ACTIVATION_IDENTITY;
  job.widths = {4, 6, 2};
  job.rows = make_rows(80, 4, 2, 0, 1);
  job.held_out = make_rows(20, 4, 2, 0, 2);
  job.options.checkpoint.folder = folder.c_str();
  return job;
}

/* The same, which rolls back as often as necessary, to older and older checkpoints. */
inline Job returning_job(const std::string &folder) {
  Job job = exploding_job(folder);
  job.options.checkpoint.steps = 1;
  job.options.checkpoint.keep = 9;
  job.options.checkpoint.rollbacks = 9;
  job.options.checkpoint.rollback_factor = 1e-16;
  return job;
}

inline void expect_same_end(const Job::Outcome &a, const Job::Outcome &b) {
  ASSERT_EQ(a.status, DESCENT_OK) << a.error;
  ASSERT_EQ(b.status, DESCENT_OK) << b.error;
  EXPECT_EQ(a.parameters, b.parameters);
  EXPECT_EQ(a.result.stop, b.result.stop);
  EXPECT_EQ(a.result.epochs, b.result.epochs);
  EXPECT_EQ(a.result.steps, b.result.steps);
  EXPECT_EQ(a.result.best_epoch, b.result.best_epoch);
  EXPECT_EQ(a.result.best_loss, b.result.best_loss);
  EXPECT_EQ(a.result.train_loss, b.result.train_loss);
  ASSERT_GE(a.epochs.size(), b.epochs.size()); /* b: those after resuming, or none if they were not recorded */
  for (size_t i = 0; i < b.epochs.size(); i++)
    EXPECT_TRUE(a.epochs[a.epochs.size() - b.epochs.size() + i] == b.epochs[i]) << "epoch " << b.epochs[i].epoch;
}

#endif
