/* Training on a source: the bits of descent_fit with the same rows in the same order, independently of timing, exact
 * resuming within an epoch, and errors that say where the source failed and keep the right weights. */
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <limits>
#include <thread>

#include "checkpoints.h"
#include "row_source.h"

namespace {

const char *const devices[] = {"reference", "cpu", "cuda"};

/* The job with its training rows from a source. */
Job through_source(Job job, RowSource *rows, bool counted) {
  job.fit = [rows, counted](descent_network *network, descent_device *device, const descent_dataset *validation,
                            const descent_train_options *options, descent_fit_result *result) {
    const descent_source source = rows->source(counted);
    return descent_fit_source(network, device, &source, validation, options, result);
  };
  return job;
}

TEST(FitSource, GivesTheBitsOfFit) {
  struct Data {
    const char *name;
    std::vector<int64_t> widths;
    descent_loss loss;
    int64_t targets, classes;
    bool weighted;
  };
  const Data kinds[] = {{"binary", {4, 6, 1}, DESCENT_LOSS_BINARY_CROSS_ENTROPY, 1, 2, true},
                        {"classes", {4, 6, 5, 3}, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, 1, 3, false},
                        {"regression", {4, 6, 2}, DESCENT_LOSS_MEAN_SQUARED_ERROR, 2, 0, true}};
  struct Steps {
    int64_t batch, at_a_time;
    bool counted;
  };
  const Steps steps[] = {{20, 7, true},  {20, 1, false}, {24, 1000, true}, {24, 24, false}, {79, 80, false},
                         {80, 80, true}, {80, 9, false}, {0, 7, true},     {1, 3, false}};
  const std::string all = "cpu"; /* the other devices differ in how they bind rows only */
  for (const char *device : devices)
    for (const Data &kind : kinds)
      for (const Steps &by : steps) {
        if (device != all && by.batch != 24) continue;
        SCOPED_TRACE(std::string(device) + " " + kind.name + " batch " + std::to_string(by.batch) +
                     (by.counted ? " counted" : " not counted"));
        Job job;
        job.device = device;
        job.widths = kind.widths;
        job.loss = kind.loss;
        job.rows = make_rows(80, 4, kind.targets, kind.classes, 1);
        job.held_out = make_rows(20, 4, kind.targets, kind.classes, 2);
        for (int64_t r = 0; kind.weighted && r < 80; r++) job.rows.weights.push_back(static_cast<float>(r % 3));
        job.options.epochs = 3;
        job.options.batch_size = by.batch;
        job.options.dropout = 0.2;
        RowSource rows(job.rows);
        rows.at_a_time = by.at_a_time;
        rows.shuffled = by.batch && by.batch < 80;
        expect_same_end(job.run(), through_source(job, &rows, by.counted).run());
        EXPECT_EQ(rows.overlaps, 0);
        EXPECT_EQ(rows.rewinds, (std::vector<std::pair<int64_t, int64_t>>{{1, 0}, {2, 0}, {3, 0}}));
      }
}

/* A block has at most 256 steps, here of 2 rows: the last full step, whose statistics are kept, is the last of a block,
 * with nothing or a part of a step behind it, or within a block. */
TEST(FitSource, GivesTheBitsOfFitAcrossBlocks) {
  for (const int64_t rows : {1023, 1024, 1025, 1026, 1301})
    for (const bool counted : {true, false}) {
      SCOPED_TRACE(std::to_string(rows) + (counted ? " counted" : ""));
      Job job;
      job.threads = 2;
      job.rows = make_rows(rows, 4, 1, 3, 1);
      job.options.epochs = 2;
      job.options.batch_size = 2;
      RowSource source(job.rows);
      source.at_a_time = 333;
      expect_same_end(job.run(), through_source(job, &source, counted).run());
    }
}

/* Networks whose rows are stored as differences: the source's rows are raw, as those of a dataset in memory. */
TEST(FitSource, SubtractsTheNetworksOffsets) {
  const Scratch scratch;
  std::string text = "time,x,y\n";
  for (int i = 0; i < 60; i++)
    text += std::to_string(1700000000 + i) + "," + std::to_string(i % 7) + "," + std::to_string(i % 5) + ".25\n";
  write_file(scratch / "times.csv", text);
  descent_dataset_options options = descent_dataset_options_default();
  options.target = "y";
  descent_dataset *read = nullptr;
  ASSERT_EQ(descent_dataset_read((scratch / "times.csv").c_str(), &options, &read), DESCENT_OK) << descent_last_error();
  const Dataset file(read, descent_dataset_free);
  Rows raw{60, 2, 1, 0, {}, {}, {}};
  for (int64_t r = 0; r < 60; r++) {
    std::vector<float> x(2), y(1);
    ASSERT_EQ(descent_dataset_row(read, r, x.data()), DESCENT_OK);
    ASSERT_EQ(descent_dataset_target(read, r, y.data()), DESCENT_OK);
    raw.X.insert(raw.X.end(), x.begin(), x.end());
    raw.y.push_back(y[0]);
  }
  std::vector<std::vector<float>> runs;
  for (const bool streamed : {false, true}) {
    const Network network = make_network({2, 3, 1}, DESCENT_ACTIVATION_TANH, DESCENT_LOSS_MEAN_SQUARED_ERROR);
    ASSERT_EQ(
        descent_network_fit_preprocessing(network.get(), read, DESCENT_NORMALIZE_STANDARD, DESCENT_IMPUTE_MEAN, true),
        DESCENT_OK);
    ASSERT_NE(descent_network_input_offset(network.get(), 0), 0);
    const Device device = open_device("cpu");
    descent_train_options train = descent_train_options_default();
    train.epochs = 2;
    train.batch_size = 16;
    RowSource rows(raw);
    const descent_source source = rows.source(true);
    const Dataset data = raw.dataset();
    ASSERT_EQ(streamed ? descent_fit_source(network.get(), device.get(), &source, nullptr, &train, nullptr)
                       : descent_fit(network.get(), device.get(), data.get(), nullptr, &train, nullptr),
              DESCENT_OK)
        << descent_last_error();
    runs.push_back(parameters_of(network));
  }
  EXPECT_EQ(runs[0], runs[1]);
}

/* ---- resuming --------------------------------------------------------------------------------------------------- */

/* Not on the reference, whose state in double a checkpoint rounds. */
TEST(FitSource, ResumesExactlyFromEveryStep) {
  for (const char *device : {"cpu", "cuda"})
    for (const bool counted : {true, false})
      for (const bool seeks : {true, false}) {
        if (device == std::string("cuda") && seeks != counted) continue;
        SCOPED_TRACE(std::string(device) + (counted ? " counted" : "") + (seeks ? " seeks" : ""));
        const Scratch scratch;
        Job job = small_job(); /* 80 rows */
        job.device = device;
        job.options.batch_size = 23;
        RowSource rows(job.rows);
        rows.seeks = seeks;
        const Job streamed = through_source(job, &rows, counted);
        const Job::Outcome whole = streamed.run_keeping_all(scratch / "all");
        expect_same_end(job.run(), whole);
        const std::vector<int64_t> steps = steps_in(scratch / "all");
        ASSERT_EQ(steps.size(), 13u);
        for (const int64_t step : steps) {
          SCOPED_TRACE(step);
          const std::string folder = scratch / std::to_string(step);
          std::filesystem::create_directory(folder);
          std::filesystem::copy(scratch / ("all/" + checkpoint_name(step)), folder);
          rows.rewinds.clear();
          expect_same_end(whole, streamed.resume(folder));
          if (step == 12) continue;
          const int64_t done = step % 4;
          ASSERT_FALSE(rows.rewinds.empty());
          EXPECT_EQ(rows.rewinds[0].first, step / 4 + 1);
          EXPECT_LE(rows.rewinds[0].second, done * 23);
          EXPECT_GE(rows.rewinds[0].second, done ? (done - 1) * 23 + 1 : 0);
        }
      }
}

/* Stopped during the validation of the first epoch, when all of its steps are done: resuming must find that its length,
 * if it is unknown, is already reached. */
TEST(FitSource, ResumesBehindTheLastStepOfAnEpoch) {
  struct Stopper {
    int64_t step = 0;
    bool stopped = false;
  };
  for (const bool counted : {true, false})
    for (const bool seeks : {true, false})
      for (const int64_t batch : {20, 23}) {
        SCOPED_TRACE(std::to_string(batch) + (counted ? " counted" : "") + (seeks ? " seeks" : ""));
        const Scratch scratch;
        const std::string folder = scratch / "kept";
        Job job = small_job();
        job.options.batch_size = batch;
        job.held_out = make_rows(5000, 4, 1, 3, 2); /* more than a block */
        RowSource rows(job.rows);
        rows.seeks = seeks;
        Job stopping = through_source(job, &rows, counted);
        Stopper stopper;
        stopping.options.checkpoint.folder = folder.c_str();
        stopping.options.callbacks.user = &stopper;
        stopping.options.callbacks.on_step = [](void *user, const descent_step_info *info) {
          static_cast<Stopper *>(user)->step = info->step;
          return 0;
        };
        stopping.options.callbacks.on_pause = [](void *user) {
          return static_cast<Stopper *>(user)->step == 4 ? DESCENT_STOP : DESCENT_CONTINUE;
        };
        const Job::Outcome stopped = stopping.run();
        ASSERT_EQ(stopped.status, DESCENT_OK) << stopped.error;
        ASSERT_EQ(stopped.result.steps, 4);
        ASSERT_EQ(stopped.result.epochs, 0);
        expect_same_end(job.run(), through_source(job, &rows, counted).resume(folder));
      }
}

TEST(FitSource, RefusesToResumeWithAnotherShape) {
  const Scratch scratch;
  const std::string folder = scratch / "kept";
  Job job = small_job();
  RowSource rows(job.rows);
  Job counted = through_source(job, &rows, true);
  counted.options.checkpoint.folder = folder.c_str();
  ASSERT_EQ(counted.run().status, DESCENT_OK);
  const Job::Outcome refused = through_source(job, &rows, false).resume(folder);
  EXPECT_EQ(refused.status, DESCENT_ERROR_ARGUMENT);
  EXPECT_NE(refused.error.find("data was a source of 80 rows per epoch"), std::string::npos) << refused.error;
  const Job::Outcome from_memory = job.resume(folder);
  EXPECT_EQ(from_memory.status, DESCENT_ERROR_ARGUMENT) << "a dataset is not the source";
}

TEST(FitSource, RollsBackAsFitDoes) {
  for (const bool counted : {true, false}) {
    const Scratch scratch;
    const std::string a = scratch / "fit", b = scratch / "source";
    Job job = returning_job(a);
    const Job::Outcome expected = job.run();
    ASSERT_GT(expected.of(DESCENT_CHECKPOINT_ROLLED_BACK).size(), 0u);
    RowSource rows(job.rows);
    job.options.checkpoint.folder = b.c_str();
    expect_same_end(expected, through_source(job, &rows, counted).run());
  }
}

/* ---- the end of a training -------------------------------------------------------------------------------------- */

TEST(FitSource, StopsEarlyAsFitDoes) {
  Job job = small_job();
  job.options.epochs = 50;
  job.options.optimizer.learning_rate = 0.5;
  job.options.early_stopping.patience = 2;
  job.options.schedule.kind = DESCENT_SCHEDULE_PLATEAU;
  job.options.schedule.every = 1;
  const Job::Outcome expected = job.run();
  ASSERT_EQ(expected.result.stop, DESCENT_STOP_EARLY);
  ASSERT_LT(expected.result.epochs, 50);
  for (const bool counted : {true, false}) {
    RowSource rows(job.rows);
    expect_same_end(expected, through_source(job, &rows, counted).run());
  }
}

TEST(FitSource, TakesEverySchedule) {
  for (const descent_schedule kind : {DESCENT_SCHEDULE_CONSTANT, DESCENT_SCHEDULE_STEP, DESCENT_SCHEDULE_EXPONENTIAL,
                                      DESCENT_SCHEDULE_COSINE, DESCENT_SCHEDULE_PLATEAU, DESCENT_SCHEDULE_POLYNOMIAL}) {
    SCOPED_TRACE(descent_schedule_name(kind));
    Job job = small_job();
    job.options.schedule.kind = kind;
    job.options.schedule.every = 1;
    job.options.schedule.warmup_epochs = 0.75;
    RowSource rows(job.rows);
    expect_same_end(job.run(), through_source(job, &rows, true).run());
  }
}

/* The source waits until on_pause has been called: it is, while rows are awaited. */
TEST(FitSource, PausesWhileItWaitsForRows) {
  struct Waiting {
    RowSource rows{make_rows(80, 4, 1, 3, 1)};
    std::atomic<bool> released{false};
    descent_request request = DESCENT_CONTINUE;
  };
  for (const descent_request request : {DESCENT_CONTINUE, DESCENT_STOP}) {
    Waiting waiting;
    waiting.request = request;
    Job job = small_job();
    job.fit = [&](descent_network *network, descent_device *device, const descent_dataset *validation,
                  const descent_train_options *options, descent_fit_result *result) {
      descent_source source = waiting.rows.source(true);
      source.user = &waiting;
      source.rewind = [](void *user, int64_t epoch, uint64_t seed, int64_t row) {
        return static_cast<Waiting *>(user)->rows.rewind(epoch, seed, row);
      };
      source.next = [](void *user, float *X, float *y, float *weights, int64_t n) {
        Waiting *w = static_cast<Waiting *>(user);
        while (!w->released) std::this_thread::sleep_for(std::chrono::milliseconds(1));
        return w->rows.next(X, y, weights, n);
      };
      return descent_fit_source(network, device, &source, validation, options, result);
    };
    job.options.callbacks.user = &waiting;
    job.options.callbacks.on_pause = [](void *user) {
      Waiting *w = static_cast<Waiting *>(user);
      w->released = true;
      return w->request;
    };
    const Job::Outcome outcome = job.run();
    EXPECT_EQ(outcome.status, DESCENT_OK) << outcome.error;
    EXPECT_EQ(outcome.result.stop, request == DESCENT_STOP ? DESCENT_STOP_CALLBACK : DESCENT_STOP_EPOCHS);
    EXPECT_EQ(outcome.result.steps, request == DESCENT_STOP ? 0 : 12);
  }
}

TEST(FitSource, TakesALossOfTheCallers) {
  Job job = small_job();
  job.loss = DESCENT_LOSS_MEAN_SQUARED_ERROR;
  job.widths = {4, 6, 2};
  job.rows = make_rows(80, 4, 2, 0, 1);
  job.held_out = make_rows(20, 4, 2, 0, 2);
  job.options.callbacks.loss = [](void *, const float *outputs, const float *y, const float *weights, int64_t rows,
                                  int64_t K, float *dOutputs) {
    double J = 0; /* the mean of cosh(a - y); all weights are 1 */
    for (int64_t i = 0; i < K * rows; i++) {
      const double d = static_cast<double>(outputs[i]) - static_cast<double>(y[i]);
      EXPECT_EQ(weights[i / K], 1);
      J += std::cosh(d) / static_cast<double>(K * rows);
      dOutputs[i] = static_cast<float>(std::sinh(d) / static_cast<double>(K * rows));
    }
    return J;
  };
  RowSource rows(job.rows);
  expect_same_end(job.run(), through_source(job, &rows, false).run());
}

TEST(FitSource, ShufflesByTheSeedOfShuffles) {
  Job job = small_job();
  job.options.shuffle_seed = 9; /* the same order as that of descent_fit's dataset */
  RowSource rows(job.rows), others(job.rows);
  const Job::Outcome fitted = job.run();
  expect_same_end(fitted, through_source(job, &rows, true).run());
  job.options.shuffle_seed = 0;
  EXPECT_NE(through_source(job, &others, true).run().parameters, fitted.parameters);
}

TEST(FitSource, NeedsNoRewindForOneEpoch) {
  Job job = small_job();
  job.options.epochs = 1;
  RowSource rows(job.rows);
  rows.rewind(1, job.options.seed, 0);
  Job once = job;
  once.fit = [&](descent_network *network, descent_device *device, const descent_dataset *validation,
                 const descent_train_options *options, descent_fit_result *result) {
    descent_source source = rows.source(false);
    source.rewind = nullptr;
    return descent_fit_source(network, device, &source, validation, options, result);
  };
  expect_same_end(job.run(), once.run());
}

/* ---- failures --------------------------------------------------------------------------------------------------- */

/* Ends a training with descent_fit after so many steps. */
std::vector<float> parameters_after(Job job, int64_t steps) {
  job.validate = false;
  job.options.callbacks.user = &steps;
  job.options.callbacks.on_step = [](void *user, const descent_step_info *info) {
    return static_cast<int>(info->step == *static_cast<int64_t *>(user));
  };
  return job.run().parameters;
}

/* Steps of 20 rows, 4 in an epoch. Without rows_per_epoch the step before a failure waits for its next row too. */
TEST(FitSource, NamesTheFailureAndKeepsTheLastStep) {
  const float infinite = std::numeric_limits<float>::infinity(), none = std::numeric_limits<float>::quiet_NaN();
  struct Failure {
    const char *name;
    std::function<void(RowSource *)> make;
    descent_status status;
    int64_t steps; /* whose weights are kept if the length is known */
    const char *text;
    bool only_counted, only_uncounted;
  };
  const auto put_X = [](float x) { return [x](RowSource *s) { s->rows.X[4 * 45 + 2] = x, s->shuffled = false; }; };
  const auto put_y = [](float y) { return [y](RowSource *s) { s->rows.y[45] = y, s->shuffled = false; }; };
  const auto put_w = [](float w) {
    return [w](RowSource *s) { s->rows.weights.assign(80, 1), s->rows.weights[45] = w, s->shuffled = false; };
  };
  const Failure failures[] = {
      {"next fails", [](RowSource *s) { s->fail_epoch = 2, s->fail_row = 45; }, DESCENT_ERROR_READ, 6,
       "the source: next returned -1 in epoch 2 at row 45; the weights of step 6 are kept", false, false},
      {"next fails at once", [](RowSource *s) { s->fail_epoch = 1, s->fail_row = 0; }, DESCENT_ERROR_READ, 0,
       "the source: next returned -1 in epoch 1 at row 0; the initial weights are kept", false, false},
      {"infinite X", put_X(infinite), DESCENT_ERROR_DATA, 2,
       "the source, epoch 1: X: row 45, column 2 is infinite; the weights of step 2 are kept", false, false},
      {"far X", put_X(1e30F), DESCENT_ERROR_DATA, 2, "the source, epoch 1: row 45 (from 0): input 2 (from 0) is 1e",
       false, false},
      {"class", put_y(3), DESCENT_ERROR_DATA, 2, "the source, epoch 1: y: row 45: 3 is not a class index", false,
       false},
      {"missing class", put_y(none), DESCENT_ERROR_DATA, 2, "y: row 45: nan is not a class index", false, false},
      {"negative weight", put_w(-1), DESCENT_ERROR_DATA, 2, "weights: row 45: invalid weight -1", false, false},
      {"weight", put_w(none), DESCENT_ERROR_DATA, 2, "weights: row 45: invalid weight nan", false, false},
      {"too few rows", [](RowSource *s) { s->length = 45; }, DESCENT_ERROR_DATA, 6,
       "the source: epoch 2 ended after 45 rows of rows_per_epoch 80; the weights of step 6 are kept", true, false},
      {"a shorter epoch", [](RowSource *s) { s->length = 45; }, DESCENT_ERROR_DATA, 6,
       "the source: epoch 2 has 3 steps, and those before 4", false, true},
      {"a longer epoch", [](RowSource *s) { s->length = 85, s->shuffled = false; }, DESCENT_ERROR_DATA, 0,
       "the source: epoch 2 has 5 steps, and those before 4", false, true},
      {"a much longer epoch", [](RowSource *s) { s->length = 100000, s->shuffled = false; }, DESCENT_ERROR_DATA, 0,
       "the source: epoch 2 has more than the 4 steps of those before", false, true},
      {"no rows", [](RowSource *s) { s->length = 0; }, DESCENT_ERROR_DATA, 4, "the source: no rows in epoch 2", false,
       true},
  };
  for (const bool counted : {true, false})
    for (const int64_t at_a_time : {1, 7, 1000})
      for (const Failure &failure : failures) {
        if (counted ? failure.only_uncounted : failure.only_counted) continue;
        SCOPED_TRACE(std::string(failure.name) + (counted ? ", counted" : "") + ", " + std::to_string(at_a_time));
        Job job = small_job();
        job.validate = false;
        RowSource rows(job.rows);
        rows.at_a_time = at_a_time;
        failure.make(&rows);
        const Job::Outcome outcome = through_source(job, &rows, counted).run();
        EXPECT_EQ(outcome.status, failure.status);
        const std::string text = failure.text;
        EXPECT_NE(outcome.error.find(counted ? text : text.substr(0, text.find(';'))), std::string::npos)
            << outcome.error;
        EXPECT_NE(outcome.error.find(" kept"), std::string::npos) << outcome.error;
        if (!counted) continue;
        EXPECT_EQ(outcome.result.steps, failure.steps);
        if (rows.shuffled && failure.steps) {
          EXPECT_EQ(outcome.parameters, parameters_after(job, failure.steps));
        }
      }
}

TEST(FitSource, KeepsTheBestEpochAfterAFailure) {
  Job job = small_job();
  job.options.epochs = 2;
  const Job::Outcome two = job.run();
  ASSERT_EQ(two.result.best_epoch, 2);
  job.options.epochs = 3;
  RowSource rows(job.rows);
  rows.fail_epoch = 3, rows.fail_row = 70;
  const Job::Outcome failed = through_source(job, &rows, true).run();
  EXPECT_EQ(failed.status, DESCENT_ERROR_READ);
  EXPECT_NE(failed.error.find("the weights of epoch 2 are kept"), std::string::npos) << failed.error;
  EXPECT_EQ(failed.parameters, two.parameters);
}

/* In the second step, or where the training resumes in the second. */
TEST(FitSource, NamesTheRowsOfADivergence) {
  const Scratch scratch;
  const std::string folder = scratch / "kept";
  Job job = exploding_job(folder);
  job.validate = false;
  job.options.checkpoint.steps = 1;
  RowSource rows(job.rows);
  for (const bool resumed : {false, true}) {
    rows.seeks = true;
    const Job streamed = through_source(job, &rows, true);
    const Job::Outcome outcome = resumed ? streamed.resume(folder) : streamed.run();
    EXPECT_EQ(outcome.status, DESCENT_ERROR_DIVERGED);
    EXPECT_NE(outcome.error.find("diverged at step 2 (epoch 1, row 20)"), std::string::npos) << outcome.error;
  }
  EXPECT_EQ(std::count(rows.rewinds.begin(), rows.rewinds.end(), std::pair<int64_t, int64_t>{1, 20}), 1);
}

TEST(FitSource, PassesOnTheLibrarysErrorInACallback) {
  Job job = small_job();
  RowSource rows(job.rows);
  job.fit = [&](descent_network *network, descent_device *device, const descent_dataset *validation,
                const descent_train_options *options, descent_fit_result *result) {
    descent_source source = rows.source(true);
    source.next = [](void *, float *, float *, float *, int64_t) -> int64_t {
      descent_network *read = nullptr;
      return -static_cast<int64_t>(descent_network_load("/nowhere.safetensors", &read));
    };
    return descent_fit_source(network, device, &source, validation, options, result);
  };
  const Job::Outcome outcome = job.run();
  EXPECT_EQ(outcome.status, DESCENT_ERROR_READ);
  EXPECT_NE(outcome.error.find("/nowhere.safetensors"), std::string::npos) << outcome.error;
}

TEST(FitSource, DoesNotPassOnAnErrorThatACallbackHasGotOver) {
  Job job = small_job();
  RowSource rows(job.rows);
  job.fit = [&](descent_network *network, descent_device *device, const descent_dataset *validation,
                const descent_train_options *options, descent_fit_result *result) {
    descent_source source = rows.source(true);
    source.next = [](void *user, float *X, float *y, float *weights, int64_t n) -> int64_t {
      RowSource *const from = static_cast<RowSource *>(user);
      if (from->row >= 40) return -7;
      descent_network *read = nullptr;
      EXPECT_NE(descent_network_load("/nowhere.safetensors", &read), DESCENT_OK);
      return from->next(X, y, weights, n);
    };
    return descent_fit_source(network, device, &source, validation, options, result);
  };
  const Job::Outcome outcome = job.run();
  EXPECT_EQ(outcome.status, DESCENT_ERROR_READ);
  EXPECT_NE(outcome.error.find("next returned -7"), std::string::npos) << outcome.error;
  EXPECT_EQ(outcome.error.find("/nowhere.safetensors"), std::string::npos) << outcome.error;
}

/* ---- refusals --------------------------------------------------------------------------------------------------- */

TEST(FitSource, RefusesWhatItCannotDo) {
  struct Refusal {
    const char *text;
    std::function<void(descent_source *, descent_train_options *)> make;
  };
  using Source = descent_source;
  using Options = descent_train_options;
  const Refusal refusals[] = {
      {"balance_classes: cannot be used with a source", [](Source *, Options *o) { o->balance_classes = true; }},
      {"epochs above 1: needs a source with rewind", [](Source *s, Options *) { s->rewind = nullptr; }},
      {"resume: needs a source with rewind",
       [](Source *s, Options *o) { s->rewind = nullptr, o->epochs = 1, o->checkpoint.resume = "none"; }},
      {"rollbacks: needs a source with rewind",
       [](Source *s, Options *o) {
         s->rewind = nullptr, o->epochs = 1, o->checkpoint.rollbacks = 1, o->checkpoint.folder = "none";
       }},
      {"batch_size 0: needs the source's rows_per_epoch",
       [](Source *s, Options *o) { s->rows_per_epoch = 0, o->batch_size = 0; }},
      {"schedule cosine: needs the source's rows_per_epoch",
       [](Source *s, Options *o) { s->rows_per_epoch = 0, o->schedule.kind = DESCENT_SCHEDULE_COSINE; }},
      {"schedule polynomial: needs the source's rows_per_epoch",
       [](Source *s, Options *o) { s->rows_per_epoch = 0, o->schedule.kind = DESCENT_SCHEDULE_POLYNOMIAL; }},
      {"warmup_epochs: needs the source's rows_per_epoch",
       [](Source *s, Options *o) { s->rows_per_epoch = 0, o->schedule.warmup_epochs = 2; }},
      {"keep_every_epochs: needs the source's rows_per_epoch",
       [](Source *s, Options *o) { s->rows_per_epoch = 0, o->checkpoint.keep_every_epochs = 1; }},
      {"the source: next is NULL", [](Source *s, Options *) { s->next = nullptr; }},
      {"the source: task 0: must be", [](Source *s, Options *) { s->task = DESCENT_TASK_AUTO; }},
      {"the source: the task is regression", [](Source *s, Options *) { s->task = DESCENT_TASK_REGRESSION; }},
      {"the source: targets 2, classes 3", [](Source *s, Options *) { s->targets = 2; }},
      {"the source: targets 1, classes 1", [](Source *s, Options *) { s->classes = 1; }},
      {"the source: 4 classes, but the network has 3", [](Source *s, Options *) { s->classes = 4; }},
      {"the source: 5 input columns", [](Source *s, Options *) { s->inputs = 5; }},
      {"the source: rows_per_epoch -1", [](Source *s, Options *) { s->rows_per_epoch = -1; }},
      {"fewer than 2^48 steps", [](Source *s, Options *) { s->rows_per_epoch = INT64_C(1) << 62; }},
      {"the source: a member is set", [](Source *s, Options *) { s->reserved[0] = 1; }},
      {"the source must start from descent_source_default()", [](Source *s, Options *) { s->size = 3; }},
  };
  for (const Refusal &refusal : refusals) {
    SCOPED_TRACE(refusal.text);
    Job job = small_job();
    RowSource rows(job.rows);
    job.fit = [&](descent_network *network, descent_device *device, const descent_dataset *validation,
                  const descent_train_options *options, descent_fit_result *result) {
      descent_source source = rows.source(true);
      descent_train_options with = *options;
      refusal.make(&source, &with);
      return descent_fit_source(network, device, &source, validation, &with, result);
    };
    const Job::Outcome outcome = job.run();
    EXPECT_EQ(outcome.status, DESCENT_ERROR_ARGUMENT);
    EXPECT_NE(outcome.error.find(refusal.text), std::string::npos) << outcome.error;
    EXPECT_TRUE(rows.rewinds.empty());
  }
  Job without = small_job();
  without.fit = [](descent_network *network, descent_device *device, const descent_dataset *validation,
                   const descent_train_options *options, descent_fit_result *result) {
    return descent_fit_source(network, device, nullptr, validation, options, result);
  };
  EXPECT_EQ(without.run().status, DESCENT_ERROR_ARGUMENT);
}

TEST(FitSource, RefusesCallbacksThatBreakTheContract) {
  struct Broken {
    const char *text;
    int64_t (*next)(void *, float *, float *, float *, int64_t);
    int64_t (*rewind)(void *, int64_t, uint64_t, int64_t);
  };
  const auto rewind = [](void *, int64_t, uint64_t, int64_t) -> int64_t { return 0; };
  const auto next = [](void *, float *, float *, float *, int64_t) -> int64_t { return 0; };
  const Broken broken[] = {
      {"next returned 81 rows for 80", [](void *, float *, float *, float *, int64_t n) { return n + 1; }, rewind},
      {"rewind to row 0 of epoch 1 returned 1", next,
       [](void *, int64_t, uint64_t, int64_t row) -> int64_t { return row + 1; }},
      {"rewind returned -5 in epoch 1 at row 0", next,
       [](void *, int64_t, uint64_t, int64_t) -> int64_t { return -5; }},
  };
  for (const Broken &b : broken) {
    Job job = small_job();
    RowSource rows(job.rows);
    job.fit = [&](descent_network *network, descent_device *device, const descent_dataset *validation,
                  const descent_train_options *options, descent_fit_result *result) {
      descent_source source = rows.source(true);
      source.next = b.next, source.rewind = b.rewind;
      return descent_fit_source(network, device, &source, validation, options, result);
    };
    const Job::Outcome outcome = job.run();
    EXPECT_EQ(outcome.status, DESCENT_ERROR_READ);
    EXPECT_NE(outcome.error.find(b.text), std::string::npos) << outcome.error;
  }
}

}  // namespace
