/* The files and folders of checkpoints: damaged files are never used, intact ones never lost. */
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>

#include "checkpoints.h"

/* Reads a file as resuming does, with the job's network. */
class Reader {
 public:
  explicit Reader(const Job &job)
      : network_(make_network(job.widths, job.hidden, job.loss, 7)),
        training_(job.rows.dataset()),
        validation_(job.held_out.dataset()) {
    EXPECT_EQ(configuration_create(network_.get(), job.device, nullptr, training_.get(), nullptr, validation_.get(),
                                   &job.options, &configuration_),
              DESCENT_OK);
    const size_t n = static_cast<size_t>(network_->n_parameters);
    for (std::vector<float> *buffer : {&parameters_, &moment1_, &moment2_, &best_}) buffer->resize(n);
    statistics_.resize(static_cast<size_t>(network_->n_layers) * LAYER_SLOTS);
    snapshot_.n_parameters = network_->n_parameters;
    snapshot_.parameters = parameters_.data();
    snapshot_.moment1 = moment1_.data();
    snapshot_.moment2 = moment2_.data();
    snapshot_.best = best_.data();
    snapshot_.n_statistics = static_cast<int64_t>(statistics_.size());
    snapshot_.statistics = statistics_.data();
  }
  ~Reader() { configuration_clear(&configuration_); }

  descent_status read(const std::string &path) {
    return checkpoint_read(path.c_str(), network_.get(), &configuration_, nullptr, &snapshot_);
  }

 private:
  Network network_;
  Dataset training_, validation_;
  configuration configuration_{};
  snapshot snapshot_{};
  std::vector<float> parameters_, moment1_, moment2_, best_;
  std::vector<double> statistics_;
};

/* One checkpoint's bytes, and a place to put altered ones. */
class DamagedCheckpoint : public testing::Test {
 protected:
  void SetUp() override {
    const Job::Outcome outcome = job_.run_keeping_all(scratch_ / "kept");
    ASSERT_EQ(outcome.status, DESCENT_OK) << outcome.error;
    bytes_ = read_file(scratch_ / ("kept/" + checkpoint_name(6)));
    ASSERT_GT(bytes_.size(), 4096u);
  }
  std::string place() const { return scratch_ / "altered.safetensors"; }
  /* A folder with this checkpoint, of step 6, and the remains of one of another step. */
  std::string folder_with(int64_t step, const std::string &left) const {
    const std::string folder = scratch_ / "c";
    std::filesystem::remove_all(folder);
    std::filesystem::create_directory(folder);
    write_file(folder + "/" + checkpoint_name(6), bytes_);
    write_file(folder + "/" + checkpoint_name(step), left);
    return folder;
  }

  Job job_ = small_job();
  Scratch scratch_;
  std::string bytes_;
};

TEST_F(DamagedCheckpoint, CutAtAnyLengthIsRefused) {
  Reader reader(job_);
  write_file(place(), bytes_);
  ASSERT_EQ(reader.read(place()), DESCENT_OK) << descent_last_error();
  for (size_t length = bytes_.size(); length-- > 0;) {
    ASSERT_EQ(truncate(place().c_str(), static_cast<off_t>(length)), 0);
    ASSERT_EQ(reader.read(place()), DESCENT_ERROR_MODEL) << length;
  }
  write_file(place(), bytes_ + std::string(1, '\0'));
  EXPECT_EQ(reader.read(place()), DESCENT_ERROR_MODEL);
}

TEST_F(DamagedCheckpoint, EveryFlippedBitIsFound) {
  Reader reader(job_);
  write_file(place(), bytes_);
  FILE *file = fopen(place().c_str(), "r+b");
  ASSERT_NE(file, nullptr);
  for (size_t i = 0; i < bytes_.size(); i++)
    for (int bit = 0; bit < 8; bit++) {
      fseek(file, static_cast<long>(i), SEEK_SET);
      fputc(static_cast<unsigned char>(bytes_[i]) ^ 1 << bit, file);
      fflush(file);
      const descent_status status = reader.read(place());
      ASSERT_EQ(status, DESCENT_ERROR_MODEL) << "byte " << i << ", bit " << bit << ": " << descent_last_error();
      if (bit < 7) continue;
      fseek(file, static_cast<long>(i), SEEK_SET);
      fputc(bytes_[i], file);
      fflush(file);
    }
  fclose(file);
}

TEST_F(DamagedCheckpoint, IsNamedAndPassedOver) {
  const Job::Outcome whole = job_.run();
  for (const std::string &damage : {std::string(), bytes_.substr(0, 4000), std::string(9000, 'x')}) {
    const std::string folder = folder_with(9, damage);
    write_file(folder + "/step-10.safetensors", "not one of ours");
    const Job::Outcome resumed = job_.resume(folder);
    expect_same_end(whole, resumed);
    ASSERT_EQ(resumed.of(DESCENT_CHECKPOINT_DAMAGED).size(), 1u);
    EXPECT_NE(resumed.of(DESCENT_CHECKPOINT_DAMAGED)[0].message.find(checkpoint_name(9)), std::string::npos);
    EXPECT_EQ(resumed.of(DESCENT_CHECKPOINT_RESUMED)[0].step, 6);
  }
}

TEST_F(DamagedCheckpoint, WhenAllAreDamagedNoTrainingStarts) {
  Scratch scratch;
  std::filesystem::create_directory(scratch / "c");
  write_file(scratch / ("c/" + checkpoint_name(6)), bytes_.substr(0, 4000));
  const Job::Outcome resumed = job_.resume(scratch / "c");
  EXPECT_EQ(resumed.status, DESCENT_ERROR_MODEL);
  EXPECT_NE(resumed.error.find("none of the 1 checkpoints can be read"), std::string::npos) << resumed.error;
}

TEST_F(DamagedCheckpoint, OnesOfLaterStepsGoWhenTheTrainingHasPassedThem) {
  const std::string folder = folder_with(999, "damaged");
  Job job = job_;
  job.options.checkpoint.folder = folder.c_str();
  job.options.checkpoint.keep = 1;
  const Job::Outcome resumed = job.resume(folder);
  ASSERT_EQ(resumed.status, DESCENT_OK) << resumed.error;
  EXPECT_EQ(steps_in(folder), std::vector<int64_t>{12});
}

TEST_F(DamagedCheckpoint, IsNotCountedAmongThoseKept) {
  const std::string folder = folder_with(7, "damaged");
  Job job = job_;
  job.options.checkpoint.folder = job.options.checkpoint.resume = folder.c_str();
  job.options.checkpoint.steps = 4;
  job.options.checkpoint.keep = 2;
  job.options.callbacks.user = &scratch_;
  job.options.callbacks.on_step = [](void *, const descent_step_info *) { return 0; };
  job.options.callbacks.on_checkpoint = [](void *user, const descent_checkpoint_info *info) {
    const std::string place = *static_cast<Scratch *>(user) / "c";
    if (info->event == DESCENT_CHECKPOINT_SAVED && info->step == 8) {
      EXPECT_EQ(steps_in(place), (std::vector<int64_t>{6, 8}));
    }
  };
  ASSERT_EQ(job.run().status, DESCENT_OK);
  EXPECT_EQ(steps_in(folder), (std::vector<int64_t>{8, 12}));
}

/* It is also a model, with the weights at its step. */
TEST_F(DamagedCheckpoint, AWholeOneIsAModel) {
  Job six = job_;
  six.options.early_stopping.restore_best = false;
  six.options.callbacks.on_step = [](void *, const descent_step_info *info) {
    return static_cast<int>(info->step == 6);
  };
  const Job::Outcome stopped = six.run();
  write_file(place(), bytes_);
  descent_network *loaded = nullptr;
  ASSERT_EQ(descent_network_load(place().c_str(), &loaded), DESCENT_OK) << descent_last_error();
  const Network network(loaded, descent_network_free);
  EXPECT_EQ(parameters_of(network), stopped.parameters);
}

/* ---- configurations ---------------------------------------------------------------------------------------------- */

struct Difference {
  const char *name; /* as the message has it */
  void (*change)(Job &job);
  bool may_change;
};

class OtherConfiguration : public testing::TestWithParam<Difference> {};

TEST_P(OtherConfiguration, IsRefusedUnlessItMayDiffer) {
  const Scratch scratch;
  const std::string folder = scratch / "c";
  Job job = small_job();
  ASSERT_EQ(job.run_keeping_all(folder).status, DESCENT_OK);
  const Difference &difference = GetParam();
  difference.change(job);
  const Job::Outcome refused = job.resume(folder), other = job.resume(folder, "momentum"),
                     allowed = job.resume(folder, difference.name);
  for (const Job::Outcome *outcome : {&refused, &other}) {
    EXPECT_EQ(outcome->status, DESCENT_ERROR_ARGUMENT);
    EXPECT_NE(outcome->error.find(std::string(difference.name) + " was "), std::string::npos) << outcome->error;
  }
  EXPECT_EQ(allowed.status, difference.may_change ? DESCENT_OK : DESCENT_ERROR_ARGUMENT) << allowed.error;
}

INSTANTIATE_TEST_SUITE_P(
    All, OtherConfiguration,
    testing::Values(Difference{"learning_rate", [](Job &job) { job.options.optimizer.learning_rate = 0.5; }, true},
                    Difference{"epochs", [](Job &job) { job.options.epochs = 4; }, true},
                    Difference{"dropout", [](Job &job) { job.options.dropout = 0; }, true},
                    Difference{"seed", [](Job &job) { job.options.seed = 99; }, true},
                    Difference{"shuffle_seed", [](Job &job) { job.options.shuffle_seed = 99; }, true},
                    Difference{"beta2", [](Job &job) { job.options.optimizer.beta2 = 0.99; }, true},
                    Difference{"clip_norm", [](Job &job) { job.options.optimizer.clip_norm = 1; }, true},
                    Difference{"l2", [](Job &job) { job.options.optimizer.l2 = 1e-9; }, true},
                    Difference{"patience", [](Job &job) { job.options.early_stopping.patience = 5; }, true},
                    Difference{"restore_best", [](Job &job) { job.options.early_stopping.restore_best = false; }, true},
                    Difference{"class_weights", [](Job &job) { job.options.balance_classes = true; }, true},
                    Difference{"label_smoothing", [](Job &job) { job.options.label_smoothing = 0.1; }, true},
                    Difference{"warmup_steps", [](Job &job) { job.options.schedule.warmup_steps = 3; }, true},
                    Difference{"warmup_epochs", [](Job &job) { job.options.schedule.warmup_epochs = 1.5; }, true},
                    Difference{"schedule", [](Job &job) { job.options.schedule.kind = DESCENT_SCHEDULE_COSINE; }, true},
                    Difference{"validation", [](Job &job) { job.held_out.y[0] = 2 - job.held_out.y[0]; }, true},
                    Difference{"fusion", [](Job &job) { job.options.gpu.fusion = DESCENT_FUSION_OFF; }, true},
                    Difference{"device", [](Job &job) { job.device = "reference"; }, true},
                    Difference{"batch_size", [](Job &job) { job.options.batch_size = 10; }, false},
                    Difference{"optimizer", [](Job &job) { job.options.optimizer.kind = DESCENT_OPTIMIZER_ADAMW; },
                               false},
                    Difference{"data", [](Job &job) { job.rows.X[17] += 1; }, false},
                    Difference{"network", [](Job &job) { job.hidden = DESCENT_ACTIVATION_RELU; }, false}),
    [](const auto &each) { return each.param.name; });

/* Few class weights are shown as they are, of many the first and a sum. */
TEST(OtherClassWeights, AreRefusedUnlessEqual) {
  for (const int64_t classes : {3, 6}) {
    const Scratch scratch;
    Job job = small_job();
    job.widths.back() = classes;
    job.rows = make_rows(80, 4, 1, classes, 1);
    job.held_out = make_rows(20, 4, 1, classes, 2);
    std::vector<double> weights(static_cast<size_t>(classes), 0.5);
    job.options.class_weights = weights.data();
    const Job::Outcome whole = job.run_keeping_all(scratch / "c");
    ASSERT_EQ(whole.status, DESCENT_OK) << whole.error;
    expect_same_end(whole, job.resume(scratch / "c"));
    weights.back() = 2;
    const Job::Outcome refused = job.resume(scratch / "c");
    EXPECT_EQ(refused.status, DESCENT_ERROR_ARGUMENT);
    const char *expected =
        classes == 3 ? "class_weights was 0.5,0.5,0.5 and is 0.5,0.5,2" : "class_weights was 0.5,0.5,0.5,0.5,.. (";
    EXPECT_NE(refused.error.find(expected), std::string::npos) << refused.error;
    EXPECT_EQ(job.resume(scratch / "c", "class_weights").status, DESCENT_OK);
  }
}

/* All of the targets and weights, and of a large X rows at equal distances. */
TEST(OtherData, IsSeenInWeightsAndInRowsOfALargeX) {
  enum { ROWS = 17000, INPUTS = 1000 }; /* 68 MB: every fourth row */
  const Scratch scratch;
  Job job = small_job();
  job.validate = false;
  job.widths = {INPUTS, 2, 3};
  job.rows = Rows{ROWS, INPUTS, 1, 3, {}, {}, std::vector<float>(ROWS, 1)};
  for (int i = 0; i < ROWS * INPUTS; i++) job.rows.X.push_back(static_cast<float>(i % 1009) / 1009 - 0.5F);
  for (int r = 0; r < ROWS; r++) job.rows.y.push_back(static_cast<float>(r % 3));
  job.options.batch_size = 8000;
  job.options.epochs = 1;
  const Job::Outcome whole = job.run_keeping_all(scratch / "c");
  ASSERT_EQ(whole.status, DESCENT_OK) << whole.error;
  const struct {
    float *value;
    bool seen;
  } changes[] = {{&job.rows.X[8 * INPUTS], true},
                 {&job.rows.X[7 * INPUTS], false},
                 {&job.rows.weights[7], true},
                 {&job.rows.y[7], true}};
  for (const auto &change : changes) {
    const float before = *change.value;
    *change.value = before == 1 ? 2 : 1;
    const Job::Outcome outcome = job.resume(scratch / "c");
    EXPECT_EQ(outcome.status, change.seen ? DESCENT_ERROR_ARGUMENT : DESCENT_OK) << outcome.error;
    if (change.seen) {
      EXPECT_NE(outcome.error.find("data was 17000 rows ("), std::string::npos) << outcome.error;
    }
    *change.value = before;
  }
  expect_same_end(whole, job.resume(scratch / "c"));
}

TEST(ResumeWith, KnowsItsNames) {
  const Scratch scratch;
  Job job = small_job();
  for (const char *names : {"colour", "epochs,colour", "epochs,,seed"}) {
    const Job::Outcome outcome = job.resume(scratch / "none", names);
    EXPECT_EQ(outcome.status, DESCENT_ERROR_ARGUMENT) << names;
    EXPECT_NE(outcome.error.find("unknown name: must be one of"), std::string::npos) << outcome.error;
  }
}

TEST(ResumeWith, MoreEpochsEndWhereALongerTrainingDoes) {
  const Scratch scratch;
  Job job = small_job();
  ASSERT_EQ(job.run_keeping_all(scratch / "c").status, DESCENT_OK);
  job.options.epochs = 5;
  expect_same_end(job.run(), job.resume(scratch / "c", "epochs"));
}

/* The earlier best epoch was not kept: the result is the best of the following epochs. */
TEST(ResumeWith, RestoreBestCountsFromThere) {
  const Scratch scratch;
  Job job = small_job();
  job.options.early_stopping.restore_best = false;
  job.options.optimizer.learning_rate = 0.05;
  const Job::Outcome whole = job.run_keeping_all(scratch / "c");
  ASSERT_EQ(whole.result.best_epoch, 1);
  job.options.early_stopping.restore_best = true;
  const Job::Outcome over = job.resume(scratch / "c", "restore_best"); /* all steps are done */
  EXPECT_EQ(over.result.best_epoch, 0);
  EXPECT_EQ(over.parameters, whole.parameters);
  std::filesystem::remove(scratch / ("c/" + checkpoint_name(12)));
  const Job::Outcome resumed = job.resume(scratch / "c", "restore_best");
  EXPECT_EQ(resumed.of(DESCENT_CHECKPOINT_RESUMED)[0].step, 11);
  EXPECT_EQ(resumed.result.best_epoch, 3);
  EXPECT_EQ(resumed.parameters, whole.parameters);
}

/* ---- folders ----------------------------------------------------------------------------------------------------- */

TEST(Folder, KeepsTheNewest) {
  for (int64_t keep : {1, 2, 5}) {
    const Scratch scratch;
    const std::string folder = scratch / "a/b/c"; /* created with its parents */
    Job job = small_job();
    job.options.checkpoint.folder = folder.c_str();
    job.options.checkpoint.epochs = 1;
    job.options.checkpoint.keep = keep;
    ASSERT_EQ(job.run().status, DESCENT_OK);
    std::vector<int64_t> expected{0, 4, 8, 12};
    if (keep < 4) expected.erase(expected.begin(), expected.end() - keep);
    EXPECT_EQ(steps_in(folder), expected);
  }
}

TEST(Folder, OfAnEarlierTrainingIsRefusedWithoutResume) {
  const Scratch scratch;
  const std::string folder = scratch / "c";
  Job job = small_job();
  job.options.checkpoint.folder = folder.c_str();
  ASSERT_EQ(job.run().status, DESCENT_OK);
  const Job::Outcome again = job.run();
  EXPECT_EQ(again.status, DESCENT_ERROR_ARGUMENT);
  EXPECT_NE(again.error.find("(newest: step 12)"), std::string::npos) << again.error;
}

TEST(Folder, OfAnotherTrainingIsRefusedForResuming) {
  const Scratch scratch;
  const std::string folder = scratch / "c", other = scratch / "d", same = scratch / "./c";
  Job job = small_job();
  for (const std::string *each : {&folder, &other}) {
    job.options.checkpoint.folder = each->c_str();
    ASSERT_EQ(job.run().status, DESCENT_OK);
  }
  const Job::Outcome mixed = job.resume(folder); /* into the other */
  EXPECT_EQ(mixed.status, DESCENT_ERROR_ARGUMENT);
  EXPECT_NE(mixed.error.find("d': contains checkpoints of another training (newest: step 12)"), std::string::npos)
      << mixed.error;
  job.options.checkpoint.folder = same.c_str(); /* by another name */
  EXPECT_EQ(job.resume(folder).status, DESCENT_OK);
}

/* The first checkpoint in it is that of the step where the training resumes, in the middle of an epoch. */
TEST(Folder, CanChangeOnResuming) {
  const Scratch scratch;
  const std::string folder = scratch / "c", other = scratch / "d";
  Job job = small_job();
  const Job::Outcome whole = job.run_keeping_all(folder);
  for (int64_t step : steps_in(folder))
    if (step != 6) std::filesystem::remove(folder + "/" + checkpoint_name(step));
  job.options.checkpoint.folder = other.c_str();
  job.options.checkpoint.keep = 9;
  expect_same_end(whole, job.resume(folder));
  ASSERT_EQ(steps_in(other), (std::vector<int64_t>{6, 12}));
  std::filesystem::remove(other + "/" + checkpoint_name(12));
  expect_same_end(whole, job.resume(other));
}

TEST(Folder, IsUsedByOneTrainingAtATime) {
  const Scratch scratch;
  const std::string folder = scratch / "c";
  checkpoint_folder held{};
  ASSERT_EQ(checkpoint_folder_open(folder.c_str(), &held), DESCENT_OK);
  Job job = small_job();
  job.options.checkpoint.folder = folder.c_str();
  const Job::Outcome second = job.run();
  EXPECT_EQ(second.status, DESCENT_ERROR_WRITE);
  EXPECT_NE(second.error.find("in use by another running training"), std::string::npos) << second.error;
  checkpoint_folder_close(&held);
  EXPECT_EQ(job.run().status, DESCENT_OK);
}

TEST(Folder, LosesWhatAKilledProcessLeftUnfinished) {
  const Scratch scratch;
  const std::string folder = scratch / "c";
  std::filesystem::create_directory(folder);
  const std::string left = folder + "/" + checkpoint_name(5) + ".abcdefgh.descent.tmp";
  const std::string foreign[] = {"notes.txt", checkpoint_name(5) + ".bak", checkpoint_name(5) + ".abcdefghi",
                                 checkpoint_name(5) + ".ABCDEFGH.descent.tmp"};
  write_file(left, "half");
  for (const std::string &name : foreign) write_file(folder + "/" + name, "mine");
  Job job = small_job();
  job.options.checkpoint.folder = folder.c_str();
  ASSERT_EQ(job.run().status, DESCENT_OK);
  EXPECT_FALSE(std::filesystem::exists(left));
  for (const std::string &name : foreign) EXPECT_TRUE(std::filesystem::exists(folder + "/" + name)) << name;
}

TEST(Folder, ThatCannotBeMadeEndsTheTrainingBeforeItBegins) {
  const Scratch scratch;
  write_file(scratch / "file", "");
  const std::string folder = scratch / "file/c";
  Job job = small_job();
  job.options.checkpoint.folder = folder.c_str();
  const Job::Outcome outcome = job.run();
  EXPECT_EQ(outcome.status, DESCENT_ERROR_WRITE);
  EXPECT_NE(outcome.error.find("Not a directory"), std::string::npos) << outcome.error;
}

/* ---- while training ---------------------------------------------------------------------------------------------- */

/* Files cannot grow for a while. */
TEST(Saving, FailuresAreReportedAndTheTrainingContinues) {
  const Scratch scratch;
  const std::string folder = scratch / "c";
  Job job = small_job();
  const Job::Outcome whole = job.run();
  struct Watch {
    rlimit before, small;
    std::vector<Event> events;
  } watch{};
  getrlimit(RLIMIT_FSIZE, &watch.before);
  watch.small = watch.before;
  watch.small.rlim_cur = 2000;
  void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
  job.options.checkpoint.folder = folder.c_str();
  job.options.checkpoint.steps = 1;
  job.options.callbacks.user = &watch;
  job.options.callbacks.on_step = [](void *user, const descent_step_info *info) {
    const Watch *w = static_cast<Watch *>(user);
    if (info->step == 4) setrlimit(RLIMIT_FSIZE, &w->small);
    if (info->step == 8) setrlimit(RLIMIT_FSIZE, &w->before);
    return 0;
  };
  job.options.callbacks.on_checkpoint = [](void *user, const descent_checkpoint_info *info) {
    static_cast<Watch *>(user)->events.push_back({info->event, info->path, info->message, info->step, 1});
  };
  const Job::Outcome outcome = job.run();
  signal(SIGXFSZ, handler);
  expect_same_end(whole, outcome);
  EXPECT_GE(outcome.result.checkpoint_failures, 3);
  EXPECT_LE(outcome.result.checkpoint_failures, 5);
  int64_t failures = 0;
  for (const Event &event : watch.events)
    if (event.event == DESCENT_CHECKPOINT_FAILED) {
      failures++;
      EXPECT_NE(event.message.find("File too large"), std::string::npos) << event.message;
    }
  EXPECT_EQ(failures, outcome.result.checkpoint_failures);
  EXPECT_EQ(steps_in(folder).back(), 12);
  EXPECT_EQ(job.resume(folder).status, DESCENT_OK);
}

/* A file that hits the limit on its size. */
TEST(Saving, OfTheFirstCheckpointMustSucceed) {
  const Scratch scratch;
  const std::string folder = scratch / "c";
  Job job = small_job();
  job.options.checkpoint.folder = folder.c_str();
  rlimit before{}, small{};
  getrlimit(RLIMIT_FSIZE, &before);
  small = before;
  small.rlim_cur = 2000;
  void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &small);
  const Job::Outcome outcome = job.run();
  setrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, handler);
  EXPECT_EQ(outcome.status, DESCENT_ERROR_WRITE);
  EXPECT_NE(outcome.error.find("File too large"), std::string::npos) << outcome.error;
  EXPECT_TRUE(steps_in(folder).empty());
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder), {}), 1); /* the lock */
}

TEST(Pause, SavesAndStopsWhenAsked) {
  const Scratch scratch;
  const std::string folder = scratch / "c";
  Job job = small_job();
  const Job::Outcome whole = job.run();
  struct Asked {
    int pauses = 0;
    std::vector<int64_t> saved;
  } asked;
  job.options.checkpoint.folder = folder.c_str();
  job.options.checkpoint.seconds = 0;
  job.options.callbacks.user = &asked;
  job.options.callbacks.on_pause = [](void *user) {
    const int n = ++static_cast<Asked *>(user)->pauses;
    return n == 1 ? DESCENT_SAVE : n == 3 ? DESCENT_STOP : DESCENT_CONTINUE;
  };
  job.options.callbacks.on_checkpoint = [](void *user, const descent_checkpoint_info *info) {
    if (info->event == DESCENT_CHECKPOINT_SAVED) static_cast<Asked *>(user)->saved.push_back(info->step);
  };
  const Job::Outcome stopped = job.run();
  ASSERT_EQ(stopped.status, DESCENT_OK) << stopped.error;
  EXPECT_EQ(stopped.result.stop, DESCENT_STOP_CALLBACK);
  ASSERT_EQ(asked.saved.size(), 3u); /* the first, the one asked for, the one at the end */
  EXPECT_EQ(asked.saved[0], 0);
  EXPECT_LT(asked.saved[1], asked.saved[2]);
  EXPECT_EQ(asked.saved[2], stopped.result.steps);
  job.options.callbacks.on_pause = nullptr;
  expect_same_end(whole, job.resume(folder));
}

/* At every moment at which it polls, also between blocks of validation rows. */
TEST(Pause, MayStopATrainingWhileValidationIsMeasured) {
  Job job = small_job();
  job.held_out = make_rows(9000, 4, 1, 3, 2);
  job.options.schedule.kind = DESCENT_SCHEDULE_PLATEAU;
  const Job::Outcome whole = job.run();
  ASSERT_EQ(whole.status, DESCENT_OK) << whole.error;
  int64_t pauses = 0, with_an_epoch_left = 0;
  for (bool stopped = true; stopped; pauses++) {
    SCOPED_TRACE(pauses);
    const Scratch scratch;
    const std::string folder = scratch / "c";
    int64_t left = pauses;
    Job once = job;
    once.options.checkpoint.folder = folder.c_str();
    once.options.callbacks.user = &left;
    once.options.callbacks.on_pause = [](void *user) {
      return --*static_cast<int64_t *>(user) < 0 ? DESCENT_STOP : DESCENT_CONTINUE;
    };
    const Job::Outcome outcome = once.run();
    stopped = outcome.result.stop == DESCENT_STOP_CALLBACK;
    if (!stopped) break;
    with_an_epoch_left += outcome.result.steps == (outcome.result.epochs + 1) * 4;
    once.options.callbacks.on_pause = nullptr;
    const Job::Outcome resumed = once.resume(folder);
    expect_same_end(whole, resumed);
    EXPECT_EQ(resumed.of(DESCENT_CHECKPOINT_RESUMED)[0].step, outcome.result.steps);
  }
  EXPECT_EQ(with_an_epoch_left, 6); /* three epochs with two moments between their three blocks */
}

/* ---- divergence -------------------------------------------------------------------------------------------------- */

TEST(Rollback, ReturnsWithALowerRateAsOftenAsAllowed) {
  const Scratch scratch;
  const std::string folder = scratch / "c", again = scratch / "d";
  Job job = exploding_job(folder);
  job.options.checkpoint.rollbacks = 4;
  job.options.checkpoint.rollback_factor = 1e-8;
  const Job::Outcome outcome = job.run();
  ASSERT_EQ(outcome.status, DESCENT_OK) << outcome.error;
  const std::vector<Event> back = outcome.of(DESCENT_CHECKPOINT_ROLLED_BACK);
  ASSERT_EQ(back.size(), 4u);
  double factor = 1;
  for (const Event &event : back) {
    factor *= 1e-8;
    EXPECT_DOUBLE_EQ(event.rate_factor, factor);
    EXPECT_NE(event.message.find("training diverged at step"), std::string::npos) << event.message;
  }
  job.options.checkpoint.folder = again.c_str();
  expect_same_end(outcome, job.run()); /* and always the same way */
  job.options.checkpoint.folder = folder.c_str();
  expect_same_end(outcome, job.resume(folder));
}

/* The first divergence returns to the newest checkpoint, which diverges again; the next one further back. */
TEST(Rollback, GoesFurtherBackIfTheNewestDivergesAgain) {
  const Scratch scratch;
  const std::string folder = scratch / "c";
  Job job = returning_job(folder);
  const Job::Outcome outcome = job.run();
  ASSERT_EQ(outcome.status, DESCENT_OK) << outcome.error;
  std::vector<int64_t> to;
  for (const Event &event : outcome.of(DESCENT_CHECKPOINT_ROLLED_BACK)) to.push_back(event.step);
  EXPECT_EQ(to, (std::vector<int64_t>{1, 0}));
}

/* At every change of its files, the folder is what a training killed at that moment resumes from: with the same
 * result. */
TEST(Rollback, ThatIsInterruptedIsContinued) {
  const Scratch scratch;
  const std::string folder = scratch / "c";
  struct Copies {
    const Scratch *scratch;
    int n = 0;
  } copies{&scratch};
  Job job = returning_job(folder);
  const Job::Outcome whole = job.run();
  ASSERT_EQ(whole.status, DESCENT_OK) << whole.error;
  std::filesystem::remove_all(folder);
  job.options.callbacks.user = &copies;
  job.options.callbacks.on_checkpoint = [](void *user, const descent_checkpoint_info *info) {
    Copies *c = static_cast<Copies *>(user);
    if (info->event == DESCENT_CHECKPOINT_ROLLED_BACK) { /* discarded ones are removed before one is marked as tried */
      EXPECT_EQ(steps_in(*c->scratch / "c").back(), info->step);
    }
    std::filesystem::copy(*c->scratch / "c", *c->scratch / ("copy" + std::to_string(c->n++)));
  };
  job.options.callbacks.on_step = [](void *, const descent_step_info *) { return 0; };
  expect_same_end(whole, job.run());
  ASSERT_GT(copies.n, 5);
  job.options.callbacks.on_checkpoint = nullptr;
  for (int i = 0; i < copies.n; i++) {
    SCOPED_TRACE(i);
    const std::string copy = scratch / ("copy" + std::to_string(i));
    job.options.checkpoint.folder = copy.c_str();
    expect_same_end(whole, job.resume(copy));
  }
}

TEST(Rollback, GivesUpAndKeepsTheLastGoodState) {
  const Scratch scratch;
  const std::string folder = scratch / "c";
  Job job = exploding_job(folder);
  job.options.checkpoint.rollbacks = 2;
  job.options.checkpoint.rollback_factor = 0.5;
  const Job::Outcome outcome = job.run();
  EXPECT_EQ(outcome.status, DESCENT_ERROR_DIVERGED);
  EXPECT_EQ(outcome.of(DESCENT_CHECKPOINT_ROLLED_BACK).size(), 2u);
  for (float value : outcome.parameters) EXPECT_TRUE(std::isfinite(value));
  for (int64_t step : steps_in(folder)) {
    descent_network *loaded = nullptr;
    ASSERT_EQ(descent_network_load((folder + "/" + checkpoint_name(step)).c_str(), &loaded), DESCENT_OK);
    for (float value : parameters_of(Network(loaded, descent_network_free))) EXPECT_TRUE(std::isfinite(value));
  }
}

/* Stopped right after the update that made the weights non-finite, with a best epoch to return: nothing can be saved,
 * which is reported. */
TEST(Saving, OfNonFiniteWeightsAtTheEndIsReportedAsAFailure) {
  int64_t told = 0;
  for (int64_t last = 1; last <= 12; last++) {
    SCOPED_TRACE(last);
    const Scratch scratch;
    const std::string folder = scratch / "c";
    struct Watch {
      int64_t last, saved = -1, failed = -1;
    } watch{last};
    Job job = small_job();
    job.widths = {4, 1}; /* a decay that makes the weights grow a million times each step, and inputs that are small */
    job.loss = DESCENT_LOSS_BINARY_CROSS_ENTROPY;
    job.rows = make_rows(80, 4, 1, 2, 1);
    for (float &x : job.rows.X) x *= 1e-3F;
    job.held_out = job.rows;
    job.options.optimizer.kind = DESCENT_OPTIMIZER_ADAMW;
    job.options.optimizer.learning_rate = 1;
    job.options.optimizer.weight_decay = 1e6;
    job.options.dropout = 0;
    job.options.batch_size = 0;
    job.options.epochs = 50;
    job.options.checkpoint.folder = folder.c_str();
    job.options.callbacks.user = &watch;
    job.options.callbacks.on_step = [](void *user, const descent_step_info *info) {
      return static_cast<int>(info->step == static_cast<Watch *>(user)->last);
    };
    job.options.callbacks.on_checkpoint = [](void *user, const descent_checkpoint_info *info) {
      Watch *w = static_cast<Watch *>(user);
      if (info->event == DESCENT_CHECKPOINT_SAVED) w->saved = info->step;
      if (info->event == DESCENT_CHECKPOINT_FAILED) w->failed = info->step;
    };
    const Job::Outcome outcome = job.run();
    if (outcome.status != DESCENT_OK) break;
    EXPECT_EQ(watch.saved == last, watch.failed == -1);
    EXPECT_EQ(outcome.result.checkpoint_failures, watch.failed == last);
    told += watch.failed == last;
  }
  EXPECT_GT(told, 0);
}

TEST(Rollback, IsNoChangeOfConfiguration) {
  const Scratch scratch;
  const std::string folder = scratch / "c";
  Job job = exploding_job(folder);
  EXPECT_EQ(job.run().status, DESCENT_ERROR_DIVERGED);
  job.options.checkpoint.rollbacks = 9;
  job.options.checkpoint.rollback_factor = 1e-8;
  EXPECT_EQ(job.resume(folder).status, DESCENT_OK);
}

TEST(Options, AreChecked) {
  const struct {
    const char *name;
    void (*change)(descent_train_options &o);
  } cases[] = {
      {"checkpoint steps -1", [](descent_train_options &o) { o.checkpoint.steps = -1; }},
      {"checkpoint epochs -1", [](descent_train_options &o) { o.checkpoint.epochs = -1; }},
      {"checkpoint seconds", [](descent_train_options &o) { o.checkpoint.seconds = NAN; }},
      {"checkpoint keep 0", [](descent_train_options &o) { o.checkpoint.keep = 0; }},
      {"keep_every_steps -1", [](descent_train_options &o) { o.checkpoint.keep_every_steps = -1; }},
      {"keep_every_epochs -1", [](descent_train_options &o) { o.checkpoint.keep_every_epochs = -1; }},
      {"rollbacks -1", [](descent_train_options &o) { o.checkpoint.rollbacks = -1; }},
      {"rollback_factor 1", [](descent_train_options &o) { o.checkpoint.rollback_factor = 1; }},
      {"rollbacks 1: needs a checkpoint", [](descent_train_options &o) { o.checkpoint.rollbacks = 1; }},
  };
  for (const auto &c : cases) {
    Job job = small_job();
    c.change(job.options);
    const Job::Outcome outcome = job.run();
    EXPECT_EQ(outcome.status, DESCENT_ERROR_ARGUMENT) << c.name;
    EXPECT_NE(outcome.error.find(c.name), std::string::npos) << outcome.error;
  }
}
