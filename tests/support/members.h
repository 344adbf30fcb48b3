/* Shared by the tests of members: trainings that can be run alone and together, and everything that they show. */
#ifndef DESCENT_TESTS_MEMBERS_H
#define DESCENT_TESTS_MEMBERS_H

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>

#include "checkpoints.h"

/* One training. What it points to belongs to the test. */
struct Training {
  std::string name;
  std::vector<int64_t> widths{5, 8, 6, 3};
  descent_activation hidden = DESCENT_ACTIVATION_TANH;
  descent_loss loss = DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY;
  uint64_t weights = 7; /* the seed of the initial weights */
  const Rows *rows = nullptr, *held_out = nullptr;
  int64_t split = 0; /* not 0: the seed of a split of `rows`, which gives both */
  descent_train_options options = descent_train_options_default();
  std::string folder; /* of checkpoints, below the root of a run; "": none */
  bool resumes = false, records_steps = false;
  bool preprocesses = false;             /* standardises, and fills missing cells with means */
  int64_t stop_epoch = 0, stop_step = 0; /* the one after which its callback stops it */
  int64_t pause_stop_step = 0;           /* on_pause stops it after this step; steps run one at a time */
};

/* What a training shows, without times. */
struct Seen {
  descent_status status = DESCENT_OK;
  std::string error;
  std::vector<float> parameters;
  descent_fit_result result{};
  std::vector<std::string> epochs, steps, checkpoints;
  std::vector<int64_t> files; /* steps of the checkpoints that are left */
};

inline std::string text_of(std::initializer_list<double> numbers) {
  std::string text;
  char number[48];
  for (double value : numbers) {
    std::snprintf(number, sizeof number, "%a ", value);
    text += number;
  }
  return text;
}

inline std::string text_of(const descent_epoch_info &info) {
  std::string text =
      text_of({static_cast<double>(info.epoch), static_cast<double>(info.epochs), static_cast<double>(info.step),
               info.train_loss, info.learning_rate, static_cast<double>(info.best)});
  for (int32_t l = 0; l < info.layers; l++) {
    const descent_layer_health &h = info.health[l];
    text += text_of({h.gradient_norm, h.update_ratio, h.activation_mean, h.activation_std, h.dead_fraction});
  }
  if (const descent_metrics *m = info.validation) {
    text += "validation " + text_of({static_cast<double>(m->rows), m->loss, m->accuracy, m->auc, m->top_k_accuracy,
                                     m->rmse, m->r2, m->balanced_accuracy});
    for (int64_t k = 0; k < m->classes; k++) text += text_of({m->f1[k]});
    for (int64_t k = 0; m->confusion && k < m->classes * m->classes; k++) text += std::to_string(m->confusion[k]) + " ";
  }
  return text + info.warning;
}

inline std::string text_of(const descent_fit_result &r) {
  return text_of({static_cast<double>(r.stop), static_cast<double>(r.epochs), static_cast<double>(r.steps),
                  static_cast<double>(r.best_epoch), r.best_loss, r.train_loss,
                  static_cast<double>(r.checkpoint_failures)});
}

/* Half the squared error of each row, summed over the outputs. */
inline double half_squared_error(void *, const float *outputs, const float *y, const float *weights, int64_t rows,
                                 int64_t n, float *dOutputs) {
  double J = 0, sum = 0;
  for (int64_t r = 0; r < rows; r++) sum += static_cast<double>(weights[r]);
  for (int64_t r = 0; r < rows; r++)
    for (int64_t k = 0; k < n; k++) {
      const int64_t i = r * n + k;
      const double share = static_cast<double>(weights[r]) / sum,
                   error = static_cast<double>(outputs[i]) - static_cast<double>(y[i]);
      J += share * error * error / 2;
      dOutputs[i] = static_cast<float>(share * error);
    }
  return J;
}

/* Members on one device, below one root of checkpoints. */
class Members {
 public:
  Members(std::vector<Training> trainings, const Device &device, std::string root)
      : trainings_(std::move(trainings)), device_(device), root_(std::move(root)) {
    std::filesystem::create_directories(root_);
    for (const Training &t : trainings_) prepare(t);
  }

  /* Each by its descent_fit. */
  std::vector<Seen> train_alone() {
    for (size_t k = 0; k < trainings_.size(); k++) {
      Run &run = *runs_[k];
      const descent_member &m = members_[k];
      run.seen.status = descent_fit(m.network, device_.get(), m.training, m.validation, m.options, &run.seen.result);
      run.seen.error = run.seen.status == DESCENT_OK ? "" : descent_last_error();
    }
    return seen();
  }

  /* All by one descent_fit_members. `status`: what that returns, unless NULL. */
  std::vector<Seen> train_together(const descent_members_options *options = nullptr, descent_status *status = nullptr) {
    const descent_status returned =
        descent_fit_members(device_.get(), members_.data(), static_cast<int64_t>(members_.size()), options);
    if (status) *status = returned;
    for (size_t k = 0; k < trainings_.size(); k++) {
      runs_[k]->seen.status = members_[k].status;
      runs_[k]->seen.error = members_[k].error;
      runs_[k]->seen.result = members_[k].result;
    }
    return seen();
  }

  std::vector<descent_member> &members() { return members_; }
  const Network &network(size_t k) const { return runs_[k]->network; }

 private:
  struct Run {
    Training training;
    std::string folder, root;
    Network network{nullptr, descent_network_free};
    Seen seen;
    int64_t step = 0;

    /* The text with the root of its folder as ROOT. */
    std::string named(std::string text) const {
      for (size_t at; !root.empty() && (at = text.find(root)) != std::string::npos;)
        text.replace(at, root.size(), "ROOT");
      return text;
    }
  };

  const descent_dataset *dataset(const Rows *rows) {
    if (!rows) return nullptr;
    auto &made = datasets_[rows];
    if (!made) made = std::make_unique<Dataset>(rows->dataset());
    return made->get();
  }

  void split(const Training &t, descent_member *member) {
    descent_dataset *kept = nullptr, *held_out = nullptr;
    ASSERT_EQ(descent_dataset_split(dataset(t.rows), 0.3, static_cast<uint64_t>(t.split), &kept, &held_out),
              DESCENT_OK);
    parts_.push_back({kept, descent_dataset_free});
    parts_.push_back({held_out, descent_dataset_free});
    member->training = kept;
    member->validation = held_out;
  }

  static void preprocess(const Network &network, const descent_dataset *rows) {
    ASSERT_EQ(
        descent_network_fit_preprocessing(network.get(), rows, DESCENT_NORMALIZE_STANDARD, DESCENT_IMPUTE_MEAN, true),
        DESCENT_OK)
        << descent_last_error();
  }

  void prepare(const Training &t) {
    runs_.push_back(std::make_unique<Run>());
    Run &run = *runs_.back();
    run.training = t;
    run.root = root_;
    run.network = make_network(t.widths, t.hidden, t.loss, t.weights);
    descent_train_options &o = run.training.options;
    if (!t.folder.empty()) {
      run.folder = root_ + "/" + t.folder;
      o.checkpoint.folder = run.folder.c_str();
      if (t.resumes) o.checkpoint.resume = run.folder.c_str();
    }
    if (t.preprocesses) preprocess(run.network, dataset(t.rows));
    o.callbacks.user = &run;
    o.callbacks.on_epoch = on_epoch;
    o.callbacks.on_checkpoint = on_checkpoint;
    if (t.records_steps || t.stop_step || t.pause_stop_step) o.callbacks.on_step = on_step;
    if (t.pause_stop_step) o.callbacks.on_pause = on_pause;
    descent_member member = descent_member_default();
    member.network = run.network.get();
    member.options = &o;
    member.training = dataset(t.rows);
    member.validation = dataset(t.held_out);
    if (t.split) split(t, &member);
    members_.push_back(member);
  }

  static int on_epoch(void *user, const descent_epoch_info *info) {
    Run *run = static_cast<Run *>(user);
    run->seen.epochs.push_back(text_of(*info));
    return info->epoch == run->training.stop_epoch;
  }

  static int on_step(void *user, const descent_step_info *info) {
    Run *run = static_cast<Run *>(user);
    run->step = info->step;
    run->seen.steps.push_back(
        text_of({static_cast<double>(info->epoch), static_cast<double>(info->step), static_cast<double>(info->rows),
                 info->loss, info->gradient_norm, info->learning_rate}));
    return info->step == run->training.stop_step;
  }

  static descent_request on_pause(void *user) {
    Run *run = static_cast<Run *>(user);
    return run->step == run->training.pause_stop_step ? DESCENT_STOP : DESCENT_CONTINUE;
  }

  static void on_checkpoint(void *user, const descent_checkpoint_info *info) {
    Run *run = static_cast<Run *>(user);
    run->seen.checkpoints.push_back(std::to_string(info->event) + " " + text_of({info->rate_factor}) +
                                    std::to_string(info->step) + " " + run->named(info->message));
  }

  std::vector<Seen> seen() {
    std::vector<Seen> all;
    for (auto &run : runs_) {
      run->seen.parameters = parameters_of(run->network);
      run->seen.error = run->named(run->seen.error);
      if (!run->folder.empty()) run->seen.files = steps_in(run->folder);
      all.push_back(run->seen);
    }
    return all;
  }

  std::vector<Training> trainings_;
  const Device &device_;
  std::string root_;
  std::map<const Rows *, std::unique_ptr<Dataset>> datasets_;
  std::vector<Dataset> parts_;
  std::vector<std::unique_ptr<Run>> runs_;
  std::vector<descent_member> members_;
};

inline void expect_same(const Seen &together, const Seen &alone) {
  EXPECT_EQ(together.status, alone.status) << together.error << " / " << alone.error;
  EXPECT_EQ(together.error, alone.error);
  ASSERT_EQ(together.parameters.size(), alone.parameters.size());
  EXPECT_EQ(std::memcmp(together.parameters.data(), alone.parameters.data(), alone.parameters.size() * sizeof(float)),
            0);
  EXPECT_EQ(text_of(together.result), text_of(alone.result));
  EXPECT_EQ(together.epochs, alone.epochs);
  EXPECT_EQ(together.steps, alone.steps);
  EXPECT_EQ(together.checkpoints, alone.checkpoints);
  EXPECT_EQ(together.files, alone.files);
}

/* Trains them in both ways from the same initial state, and expects the same. */
inline std::vector<Seen> expect_as_alone(const std::vector<Training> &trainings, const Device &device,
                                         const std::string &root) {
  const std::vector<Seen> alone = Members(trainings, device, root + "/alone").train_alone();
  const std::vector<Seen> together = Members(trainings, device, root + "/together").train_together();
  for (size_t k = 0; k < trainings.size(); k++) {
    SCOPED_TRACE("member " + std::to_string(k) + ": " + trainings[k].name);
    expect_same(together[k], alone[k]);
  }
  return together;
}

#endif
