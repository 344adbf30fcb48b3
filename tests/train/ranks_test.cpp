/* A training has the same bytes on any number of ranks. Threads stand for the ranks. */
#include <chrono>
#include <cstring>
#include <optional>

#include "checkpoints.h"
#include "rank_threads.h"
#include "row_source.h"

namespace {

using Seconds = std::chrono::duration<double>;

/* The measures that an epoch reports, beside those of Epoch. */
struct Measures {
  std::vector<double> values;
  std::vector<int64_t> confusion;
};

/* A training in 8 micro-batches, on threads as ranks. */
struct RankedJob : Job {
  int64_t micro_batches = 8;
  /* Changes what rank `rank` is given. */
  std::function<void(int rank, descent_train_options *options, Rows *rows)> change;
  double seconds = 60;
  RankThreads::Plan faults;

  struct Ranked : Outcome {
    std::vector<Measures> measures;
    std::string placement;
  };

  static int record_measures(void *user, const descent_epoch_info *info) {
    Ranked *outcome = static_cast<Ranked *>(user);
    (void)record_epoch(static_cast<Outcome *>(outcome), info);
    outcome->placement = info->placement;
    if (const descent_metrics *m = info->validation) {
      Measures measures{{m->loss, m->accuracy, m->auc, m->top_k_accuracy, m->rmse, m->r2, m->balanced_accuracy}, {}};
      measures.values.insert(measures.values.end(), m->f1, m->f1 + m->classes);
      if (m->confusion) measures.confusion.assign(m->confusion, m->confusion + m->classes * m->classes);
      outcome->measures.push_back(measures);
    }
    return 0;
  }

  static void record_event(void *user, const descent_checkpoint_info *info) {
    record(static_cast<Outcome *>(static_cast<Ranked *>(user)), info);
  }

  Ranked run_rank(int rank, descent_communicator *communicator) const {
    Rows own = rows;
    descent_train_options with = options;
    Ranked outcome{};
    with.ranks.micro_batches = micro_batches;
    with.ranks.communicator = communicator;
    if (!with.callbacks.on_pause && !with.callbacks.on_step) {
      with.callbacks.user = &outcome;
      with.callbacks.on_checkpoint = record_event;
      with.callbacks.on_epoch = record_measures;
    }
    if (change) change(rank, &with, &own);
    const Network network = make_network(widths, hidden, loss, 7);
    const Dataset training = own.dataset(), validation = held_out.dataset();
    const Device opened = open_device(device, threads);
    if (through) opened->backend = through;
    outcome.status = descent_fit(network.get(), opened.get(), training.get(), validate ? validation.get() : nullptr,
                                 &with, &outcome.result);
    if (outcome.status != DESCENT_OK) outcome.error = descent_last_error();
    outcome.parameters = parameters_of(network);
    return outcome;
  }

  std::vector<Ranked> run_on(int ranks) const {
    std::vector<Ranked> outcomes(static_cast<size_t>(ranks));
    if (ranks == 1) {
      outcomes[0] = run_rank(0, nullptr);
      return outcomes;
    }
    RankThreads all(ranks, seconds, faults);
    all.run([&](int rank, descent_communicator *communicator) {
      Ranked &outcome = outcomes[static_cast<size_t>(rank)];
      if (communicator)
        outcome = run_rank(rank, communicator);
      else
        outcome.status = DESCENT_ERROR_DEVICE;
    });
    return outcomes;
  }
};

/* NaN equals itself. */
bool same_bits(const std::vector<double> &a, const std::vector<double> &b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0;
}

void expect_same_training(const RankedJob::Ranked &one, const RankedJob::Ranked &other) {
  expect_same_end(one, other);
  ASSERT_EQ(one.epochs.size(), other.epochs.size());
  ASSERT_EQ(one.measures.size(), other.measures.size());
  for (size_t i = 0; i < one.measures.size(); i++) {
    EXPECT_TRUE(same_bits(one.measures[i].values, other.measures[i].values)) << "epoch " << i + 1;
    EXPECT_EQ(one.measures[i].confusion, other.measures[i].confusion);
  }
}

/* 4 steps an epoch, the last of 17 rows, and 21 rows to validate on in blocks of 3. */
RankedJob ranked_job() {
  RankedJob job;
  job.rows = make_rows(77, 4, 1, 3, 1);
  job.held_out = make_rows(22, 4, 1, 3, 2);
  job.options.batch_size = 20;
  job.options.epochs = 3;
  return job;
}

struct Case {
  const char *name;
  void (*set)(RankedJob *job);
};
void PrintTo(const Case &c, std::ostream *out) { *out << c.name; }

RankedJob binary(RankedJob job) {
  job.loss = DESCENT_LOSS_BINARY_CROSS_ENTROPY;
  job.widths = {4, 6, 1};
  job.rows = make_rows(77, 4, 1, 2, 1);
  job.held_out = make_rows(22, 4, 1, 2, 2);
  return job;
}

RankedJob regression(RankedJob job) {
  job.loss = DESCENT_LOSS_MEAN_SQUARED_ERROR;
  job.widths = {4, 6, 2};
  job.rows = make_rows(77, 4, 2, 0, 1);
  job.held_out = make_rows(22, 4, 2, 0, 2);
  return job;
}

void set_weights(Rows *rows) {
  for (int64_t r = 0; r < rows->rows; r++) rows->weights.push_back(static_cast<float>(r % 5) / 3);
}

const Case cases[] = {
    {"gd", [](RankedJob *j) { j->options.optimizer.kind = DESCENT_OPTIMIZER_GD; }},
    {"sgd",
     [](RankedJob *j) {
       j->options.optimizer.kind = DESCENT_OPTIMIZER_SGD;
       j->options.optimizer.momentum = 0.9;
       j->options.optimizer.nesterov = true;
     }},
    {"rmsprop", [](RankedJob *j) { j->options.optimizer.kind = DESCENT_OPTIMIZER_RMSPROP; }},
    {"adam", [](RankedJob *j) { j->options.optimizer.kind = DESCENT_OPTIMIZER_ADAM; }},
    {"adamw",
     [](RankedJob *j) {
       j->options.optimizer.kind = DESCENT_OPTIMIZER_ADAMW;
       j->options.optimizer.weight_decay = 0.01;
       j->options.optimizer.clip_norm = 0.1;
     }},
    {"lars",
     [](RankedJob *j) {
       j->options.optimizer.kind = DESCENT_OPTIMIZER_LARS;
       j->options.optimizer.momentum = 0.9;
       j->options.optimizer.weight_decay = 0.01;
       j->options.schedule.kind = DESCENT_SCHEDULE_POLYNOMIAL;
     }},
    {"lamb",
     [](RankedJob *j) {
       j->options.optimizer.kind = DESCENT_OPTIMIZER_LAMB;
       j->options.optimizer.weight_decay = 0.01;
       j->options.schedule.warmup_epochs = 1.5;
     }},
    {"dropout", [](RankedJob *j) { j->options.dropout = 0.3; }},
    {"last_step_of_5_rows", [](RankedJob *j) { j->rows = make_rows(65, 4, 1, 3, 1); }},
    {"one_step_an_epoch", [](RankedJob *j) { j->options.batch_size = 0; }},
    {"weights", [](RankedJob *j) { set_weights(&j->rows), set_weights(&j->held_out); }},
    {"balanced_classes", [](RankedJob *j) { j->options.balance_classes = true; }},
    {"binary", [](RankedJob *j) { *j = binary(*j); }},
    {"regression", [](RankedJob *j) { *j = regression(*j); }},
    {"relu",
     [](RankedJob *j) {
       j->hidden = DESCENT_ACTIVATION_RELU;
       j->options.dropout = 0.5;
     }},
    {"early_stop",
     [](RankedJob *j) {
       j->options.epochs = 30;
       j->options.early_stopping.patience = 1;
       j->options.early_stopping.restore_best = true;
       j->options.optimizer.learning_rate = 0.3;
     }},
    {"plateau",
     [](RankedJob *j) {
       j->options.schedule.kind = DESCENT_SCHEDULE_PLATEAU;
       j->options.schedule.every = 1;
       j->options.schedule.gamma = 0.5;
       j->options.optimizer.learning_rate = 0.3;
       j->options.epochs = 6;
     }},
    {"without_validation", [](RankedJob *j) { j->validate = false; }},
    {"large_validation", [](RankedJob *j) { j->held_out = make_rows(9001, 4, 1, 3, 2); }},
    {"two_threads", [](RankedJob *j) { j->threads = 2; }},
};

class EveryTraining : public testing::TestWithParam<Case> {};

TEST_P(EveryTraining, HasTheSameBytesOn1To8Ranks) {
  RankedJob job = ranked_job();
  GetParam().set(&job);
  const RankedJob::Ranked one = job.run_on(1)[0];
  for (int ranks : {2, 4, 8}) {
    SCOPED_TRACE(std::to_string(ranks) + " ranks");
    for (const RankedJob::Ranked &outcome : job.run_on(ranks)) expect_same_training(one, outcome);
  }
}
INSTANTIATE_TEST_SUITE_P(Ranks, EveryTraining, testing::ValuesIn(cases),
                         [](const auto &of) { return std::string(of.param.name); });

TEST(Ranks, AreAsManyAsMicroBatchesByDefault) {
  RankedJob job = ranked_job();
  job.micro_batches = 3;
  const RankedJob::Ranked one = job.run_on(1)[0];
  job.micro_batches = 0;
  for (const RankedJob::Ranked &outcome : job.run_on(3)) expect_same_training(one, outcome);
}

/* ---- refusals --------------------------------------------------------------------------------------------------- */

struct Difference {
  const char *name;
  void (*change)(descent_train_options *options, Rows *rows);
  const char *text;
};
void PrintTo(const Difference &d, std::ostream *out) { *out << d.name; }

const Difference differences[] = {
    {"learning_rate", [](descent_train_options *o, Rows *) { o->optimizer.learning_rate = 0.5; },
     "rank 2 (node1): learning_rate is 0.5, but 0.001 on rank 0; start all ranks with the same"},
    {"epochs", [](descent_train_options *o, Rows *) { o->epochs = 4; }, "rank 2 (node1): epochs is 4, but 3 on rank 0"},
    {"seed", [](descent_train_options *o, Rows *) { o->seed = 5; }, "rank 2 (node1): seed is 5, but "},
    {"shuffle_seed", [](descent_train_options *o, Rows *) { o->shuffle_seed = 5; },
     "rank 2 (node1): shuffle_seed is 5, but 0 on rank 0"},
    {"batch_size", [](descent_train_options *o, Rows *) { o->batch_size = 16; },
     "rank 2 (node1): batch_size is 16, but 20 on rank 0"},
    {"rollbacks_and_folder",
     [](descent_train_options *o, Rows *) { o->checkpoint.folder = "elsewhere", o->checkpoint.keep = 9; },
     "rank 2 (node1): checkpoint folder is given, but none on rank 0; checkpoint keep is 9, but 2 on rank 0"},
    {"data", [](descent_train_options *, Rows *rows) { rows->X[5] += 1; }, "rank 2 (node1): data is 77 rows ("},
    {"target", [](descent_train_options *, Rows *rows) { rows->y[5] = rows->y[5] == 1 ? 0 : 1; },
     "rank 2 (node1): data is 77 rows ("},
    /* Each is refused by one rank alone: the others have its error. */
    {"dropout", [](descent_train_options *o, Rows *) { o->dropout = 2; }, "rank 2 (node1): dropout 2: must be"},
    {"infinite", [](descent_train_options *, Rows *rows) { rows->X[4 * 45] = 1e30F; },
     "rank 2 (node1): the training data: row 45 (from 0): input 0 (from 0) is "},
};

class Different : public testing::TestWithParam<Difference> {};

TEST_P(Different, RanksAreRefusedByAllOfThem) {
  RankedJob job = ranked_job();
  job.change = [](int rank, descent_train_options *options, Rows *rows) {
    if (rank == 2) GetParam().change(options, rows);
  };
  for (const RankedJob::Ranked &outcome : job.run_on(4)) {
    EXPECT_NE(outcome.status, DESCENT_OK);
    EXPECT_EQ(outcome.error.substr(0, std::strlen(GetParam().text)), GetParam().text);
  }
}
INSTANTIATE_TEST_SUITE_P(Ranks, Different, testing::ValuesIn(differences),
                         [](const auto &of) { return std::string(of.param.name); });

/* One rank gives no network, or data of the wrong kind: the others do not wait for it. */
TEST(Ranks, AreToldOfHandlesThatOneOfThemMisuses) {
  const RankedJob job = ranked_job();
  for (bool without_network : {true, false}) {
    std::vector<std::string> errors(2);
    RankThreads(2, 5).run([&](int rank, descent_communicator *communicator) {
      const Network network = make_network(job.widths, job.hidden, job.loss, 7);
      const Device device = open_device("cpu", 1);
      const Dataset data = job.rows.dataset();
      descent_train_options options = job.options;
      options.ranks.communicator = communicator;
      EXPECT_EQ(descent_fit(rank && without_network ? nullptr : network.get(), device.get(),
                            rank && !without_network ? nullptr : data.get(), nullptr, &options, nullptr),
                DESCENT_ERROR_ARGUMENT);
      errors[static_cast<size_t>(rank)] = descent_last_error();
    });
    const std::string expected =
        std::string("rank 1 (node0): ") + (without_network ? "network" : "training") + ": is NULL";
    for (const std::string &error : errors) EXPECT_EQ(error, expected);
  }
}

TEST(Ranks, DoNotTrainOnTheReference) {
  const Scratch scratch;
  const std::string folder = scratch / "checkpoints";
  RankedJob job = ranked_job();
  job.device = "reference";
  job.options.checkpoint.folder = folder.c_str();
  static const char text[] = "ranks 2: the reference computes on one; use the device cpu or cuda";
  for (const RankedJob::Ranked &outcome : job.run_on(2)) {
    EXPECT_EQ(outcome.status, DESCENT_ERROR_UNSUPPORTED);
    EXPECT_EQ(outcome.error, text);
  }
  EXPECT_FALSE(std::filesystem::exists(folder));
  RankThreads(2).run([&](int, descent_communicator *communicator) {
    const Network network = make_network(job.widths, job.hidden, job.loss, 7);
    const Device device = open_device("reference", 1);
    descent_train_options options = job.options;
    options.ranks.communicator = communicator;
    EXPECT_EQ(descent_train_options_check(&options, network.get(), device.get()), DESCENT_ERROR_UNSUPPORTED);
    EXPECT_STREQ(descent_last_error(), text);
  });
}

/* Each rank checks a share of the rows. */
TEST(Ranks, FindAnInfiniteInputInAnyRow) {
  for (int64_t row : {0, 19, 20, 38, 39, 76}) {
    RankedJob job = ranked_job();
    job.rows.X[static_cast<size_t>(4 * row)] = 1e30F;
    for (const RankedJob::Ranked &outcome : job.run_on(4)) {
      EXPECT_EQ(outcome.status, DESCENT_ERROR_DATA);
      EXPECT_NE(outcome.error.find("row " + std::to_string(row) + " "), std::string::npos) << outcome.error;
    }
  }
}

TEST(Ranks, MayHaveDifferentNumbersOfThreads) {
  RankedJob job = ranked_job();
  const RankedJob::Ranked one = job.run_on(1)[0];
  std::vector<RankedJob::Ranked> outcomes(2);
  RankThreads(2).run([&](int rank, descent_communicator *communicator) {
    RankedJob own = job;
    own.threads = 1 + rank;
    outcomes[static_cast<size_t>(rank)] = own.run_rank(rank, communicator);
  });
  for (const RankedJob::Ranked &outcome : outcomes) expect_same_training(one, outcome);
}

TEST(Ranks, TrainOnDatasetsOnly) {
  RankThreads(2).run([](int, descent_communicator *communicator) {
    const RankedJob job = ranked_job();
    const Network network = make_network(job.widths, job.hidden, job.loss, 7);
    const Device device = open_device("cpu", 1);
    RowSource rows(job.rows);
    const descent_source source = rows.source(true);
    descent_train_options options = job.options;
    options.ranks.communicator = communicator;
    EXPECT_EQ(descent_fit_source(network.get(), device.get(), &source, nullptr, &options, nullptr),
              DESCENT_ERROR_ARGUMENT);
    EXPECT_STREQ(descent_last_error(),
                 "ranks 2: not available with a source, which each rank would read; use a dataset, or one rank");
  });
}

/* By number of the rank. */
template <int kind>
const char *arithmetic_of(const backend_program *) {
  static const char *const texts[] = {"gpu A, choices 0123", "gpu A, choices 4567", "gpu B, choices 0123"};
  return texts[kind];
}

/* Which is said, since the bytes are then not those of one rank. */
TEST(Ranks, MayChooseAlgorithmsDifferentlyOnEqualGpusOnly) {
  backend backends[] = {backend_cpu, backend_cpu, backend_cpu};
  backends[0].arithmetic = arithmetic_of<0>;
  backends[1].arithmetic = arithmetic_of<1>;
  backends[2].arithmetic = arithmetic_of<2>;
  const std::string said = "ranks have chosen different algorithms: results depend on the number of ranks";
  for (int other : {0, 1, 2}) {
    std::vector<RankedJob::Ranked> outcomes(2);
    RankThreads(2).run([&](int rank, descent_communicator *communicator) {
      RankedJob job = ranked_job();
      job.through = &backends[rank ? other : 0];
      outcomes[static_cast<size_t>(rank)] = job.run_rank(rank, communicator);
    });
    for (const RankedJob::Ranked &outcome : outcomes) {
      EXPECT_EQ(outcome.status, other < 2 ? DESCENT_OK : DESCENT_ERROR_ARGUMENT) << outcome.error;
      EXPECT_EQ(outcome.placement, other == 1 ? said : "");
      const std::string error = outcome.error.substr(0, outcome.error.find(';'));
      EXPECT_EQ(error, other < 2 ? "" : "rank 1 (node0): arithmetic is gpu B, but gpu A on rank 0");
    }
  }
}

/* ---- stops ------------------------------------------------------------------------------------------------------ */

int stop_at_step_6(void *, const descent_step_info *info) { return info->step == 6; }
int stop_at_step_8(void *, const descent_step_info *info) { return info->step == 8; /* an epoch's last */ }
int stop_at_epoch_2(void *, const descent_epoch_info *info) { return info->epoch == 2; }

TEST(Ranks, StopAtTheStepAtWhichOneOfThemStops) {
  const struct {
    int (*on_step)(void *, const descent_step_info *);
    int (*on_epoch)(void *, const descent_epoch_info *);
    int64_t steps;
  } stops[] = {{stop_at_step_6, nullptr, 6}, {stop_at_step_8, nullptr, 8}, {nullptr, stop_at_epoch_2, 8}};
  for (const auto &stop : stops)
    for (int which : {0, 3}) {
      RankedJob job = ranked_job();
      job.change = [&](int rank, descent_train_options *options, Rows *) {
        options->callbacks = {};
        if (rank == which) options->callbacks.on_step = stop.on_step, options->callbacks.on_epoch = stop.on_epoch;
      };
      const std::vector<RankedJob::Ranked> outcomes = job.run_on(4);
      for (const RankedJob::Ranked &outcome : outcomes) {
        EXPECT_EQ(outcome.status, DESCENT_OK) << outcome.error;
        EXPECT_EQ(outcome.result.stop, DESCENT_STOP_CALLBACK);
        EXPECT_EQ(outcome.result.steps, stop.steps);
        EXPECT_EQ(outcome.parameters, outcomes[0].parameters);
      }
    }
}

/* Asks for `request` at the `at`-th pause. */
struct Pauses {
  descent_request request;
  int at, seen;
  static descent_request poll(void *user) {
    Pauses *pauses = static_cast<Pauses *>(user);
    return ++pauses->seen == pauses->at ? pauses->request : DESCENT_CONTINUE;
  }
};

TEST(Ranks, StopTogetherAtAPauseOfOneOfThem) {
  for (int at = 1; at <= 12; at++)
    for (int which : {0, 1}) {
      RankedJob job = ranked_job();
      job.options.epochs = 50;
      job.held_out = make_rows(9001, 4, 1, 3, 2); /* three blocks */
      std::vector<Pauses> pauses(2);
      job.change = [&](int rank, descent_train_options *options, Rows *) {
        options->callbacks = {};
        pauses[static_cast<size_t>(rank)] = {rank == which ? DESCENT_STOP : DESCENT_CONTINUE, at, 0};
        options->callbacks.on_pause = Pauses::poll;
        options->callbacks.user = &pauses[static_cast<size_t>(rank)];
      };
      const std::vector<RankedJob::Ranked> outcomes = job.run_on(2);
      for (const RankedJob::Ranked &outcome : outcomes) {
        EXPECT_EQ(outcome.status, DESCENT_OK) << outcome.error;
        EXPECT_EQ(outcome.result.stop, DESCENT_STOP_CALLBACK);
        EXPECT_EQ(outcome.result.steps, outcomes[0].result.steps);
        EXPECT_EQ(outcome.result.epochs, outcomes[0].result.epochs);
        EXPECT_EQ(outcome.parameters, outcomes[0].parameters);
      }
      EXPECT_LT(outcomes[0].result.epochs, 50);
    }
}

TEST(Ranks, SaveWhenOneOfThemAsksForIt) {
  const Scratch scratch;
  RankedJob job = ranked_job();
  const std::string folder = scratch / "checkpoints";
  job.options.checkpoint.folder = folder.c_str();
  job.options.checkpoint.seconds = 0;
  job.options.checkpoint.keep = 100;
  std::vector<Pauses> pauses(2);
  job.change = [&](int rank, descent_train_options *options, Rows *) {
    options->callbacks = {};
    pauses[static_cast<size_t>(rank)] = {rank == 1 ? DESCENT_SAVE : DESCENT_CONTINUE, 1, 0};
    options->callbacks.on_pause = Pauses::poll;
    options->callbacks.user = &pauses[static_cast<size_t>(rank)];
  };
  for (const RankedJob::Ranked &outcome : job.run_on(2)) EXPECT_EQ(outcome.status, DESCENT_OK) << outcome.error;
  EXPECT_EQ(steps_in(folder), (std::vector<int64_t>{0, 1, 12}));
}

/* ---- checkpoints ------------------------------------------------------------------------------------------------ */

TEST(Ranks, ResumeOnAnotherNumberOfThem) {
  RankedJob job = ranked_job();
  job.options.optimizer.kind = DESCENT_OPTIMIZER_ADAM;
  job.options.dropout = 0.2;
  job.options.early_stopping.restore_best = true;
  const struct {
    int before, after;
    double min_delta; /* 10: the first epoch stays the best */
  } orders[] = {{1, 4, 0}, {4, 1, 10}, {2, 8, 10}, {8, 2, 0}};
  for (const auto &order : orders) {
    job.options.early_stopping.min_delta = order.min_delta;
    const RankedJob::Ranked whole = job.run_on(1)[0];
    for (int64_t step : {2, 4, 7}) {
      SCOPED_TRACE(std::to_string(order.before) + " to " + std::to_string(order.after) + " ranks at step " +
                   std::to_string(step));
      const Scratch scratch;
      const std::string folder = scratch / "checkpoints";
      RankedJob every = job;
      every.options.checkpoint.folder = folder.c_str();
      every.options.checkpoint.steps = 1;
      every.options.checkpoint.seconds = 0;
      every.options.checkpoint.keep = 1000;
      for (const RankedJob::Ranked &outcome : every.run_on(order.before)) expect_same_training(whole, outcome);
      for (int64_t later : steps_in(folder))
        if (later > step) std::filesystem::remove(folder + "/" + checkpoint_name(later));
      RankedJob resumed = every;
      resumed.options.checkpoint.resume = folder.c_str();
      const std::vector<RankedJob::Ranked> outcomes = resumed.run_on(order.after);
      for (const RankedJob::Ranked &outcome : outcomes) expect_same_end(whole, outcome);
      EXPECT_EQ(outcomes[0].of(DESCENT_CHECKPOINT_RESUMED).size(), 1U);
      for (size_t r = 1; r < outcomes.size(); r++) EXPECT_TRUE(outcomes[r].events.empty()); /* rank 0 reports */
    }
  }
}

TEST(Ranks, HaveTheErrorOfAFolderThatRank0CannotUse) {
  RankedJob job = ranked_job();
  job.options.checkpoint.folder = "/dev/null/checkpoints";
  for (const RankedJob::Ranked &outcome : job.run_on(4)) {
    EXPECT_EQ(outcome.status, DESCENT_ERROR_WRITE);
    EXPECT_EQ(outcome.error.find("rank 0 (node0): "), 0U) << outcome.error;
  }
}

/* ---- divergence ------------------------------------------------------------------------------------------------- */

RankedJob exploding(const std::string &folder) {
  RankedJob job;
  static_cast<Job &>(job) = exploding_job(folder);
  return job;
}

TEST(Ranks, DivergeWithOneExplanation) {
  RankedJob job = exploding("");
  job.options.checkpoint.folder = nullptr;
  const std::vector<RankedJob::Ranked> outcomes = job.run_on(4);
  for (const RankedJob::Ranked &outcome : outcomes) {
    EXPECT_EQ(outcome.status, DESCENT_ERROR_DIVERGED);
    EXPECT_NE(outcome.error.find("training diverged at step"), std::string::npos) << outcome.error;
    EXPECT_EQ(outcome.error, outcomes[0].error);
    EXPECT_EQ(outcome.parameters, job.run_on(1)[0].parameters);
  }
}

/* One row makes the gradient of its micro-batch overflow: 0, 4 or 7. */
TEST(Ranks, NameTheRowsOfTheMicroBatchThatDiverges) {
  const struct {
    int64_t row;
    const char *rows;
  } places[] = {
      {3, "9 rows: 0, 1, 2, 3, .."}, {45, "10 rows: 38, 39, 40, 41, .."}, {76, "10 rows: 67, 68, 69, 70, .."}};
  for (const auto &place : places) {
    RankedJob job = regression(ranked_job());
    job.hidden = DESCENT_ACTIVATION_IDENTITY;
    job.options.batch_size = 0;
    job.rows.X[static_cast<size_t>(4 * place.row)] = 1e19F;
    job.rows.y[static_cast<size_t>(2 * place.row)] = 1e30F;
    const std::string expected = job.run_on(1)[0].error;
    EXPECT_NE(expected.find(place.rows), std::string::npos) << expected;
    for (int ranks : {2, 4, 8})
      for (const RankedJob::Ranked &outcome : job.run_on(ranks)) EXPECT_EQ(outcome.error, expected);
  }
}

/* A last step of one row, which is that of the last part: the other ranks have no rows. */
TEST(Ranks, AreExplainedByTheOneThatHasTheRow) {
  RankedJob job = ranked_job();
  job.loss = DESCENT_LOSS_MEAN_SQUARED_ERROR;
  job.widths = {4, 1};
  job.rows = make_rows(9, 4, 1, 0, 1);
  job.validate = false;
  job.options.optimizer.kind = DESCENT_OPTIMIZER_GD;
  job.options.optimizer.learning_rate = 1e-6;
  job.options.batch_size = 8;
  const permutation order = permutation_create(job.options.seed, RNG_SHUFFLE, 1, 9);
  const size_t last = permutation_index(&order, 8);
  job.rows.X[4 * last] = 1e3F, job.rows.y[last] = 1e38F; /* whose product is beyond float32 */
  const std::string expected = job.run_on(1)[0].error;
  EXPECT_NE(expected.find("step 2 (epoch 1, 1 rows: " + std::to_string(last) + ")"), std::string::npos) << expected;
  EXPECT_NE(expected.find("inputs of up to 1e+03 are not normalised"), std::string::npos) << expected;
  for (int ranks : {2, 4, 8})
    for (const RankedJob::Ranked &outcome : job.run_on(ranks)) EXPECT_EQ(outcome.error, expected);
}

TEST(Ranks, RollBackTogether) {
  const auto run = [](int ranks) {
    const Scratch scratch;
    const std::string folder = scratch / "checkpoints";
    RankedJob job;
    static_cast<Job &>(job) = returning_job(folder);
    return job.run_on(ranks);
  };
  const RankedJob::Ranked one = run(1)[0];
  EXPECT_FALSE(one.of(DESCENT_CHECKPOINT_ROLLED_BACK).empty());
  for (int ranks : {2, 4})
    for (const RankedJob::Ranked &outcome : run(ranks)) expect_same_training(one, outcome);
}

/* ---- faults ----------------------------------------------------------------------------------------------------- */

/* Changes a weight on the device. */
int corrupt(void *, const descent_epoch_info *info) {
  descent_trainer *trainer = const_cast<descent_trainer *>(info->trainer);
  float w;
  EXPECT_EQ(program_read(&trainer->program, trainer->program.at.parameters, 3, 1, PLAN_F32, &w), DESCENT_OK);
  w = std::nextafter(w, 2.0F);
  EXPECT_EQ(program_write(&trainer->program, trainer->program.at.parameters, 3, 1, PLAN_F32, &w), DESCENT_OK);
  return 0;
}

TEST(Ranks, NameTheOneWhoseWeightsDiffer) {
  RankedJob job = ranked_job();
  job.change = [](int rank, descent_train_options *options, Rows *) {
    options->callbacks = {};
    if (rank == 2) options->callbacks.on_epoch = corrupt;
  };
  for (const RankedJob::Ranked &outcome : job.run_on(4)) {
    EXPECT_EQ(outcome.status, DESCENT_ERROR_INTERNAL);
    EXPECT_EQ(outcome.error.find("rank 2 (node1): its weights after step 8 differ from those of rank 0"), 0U)
        << outcome.error;
  }
}

/* The weights differ from epoch 1 on, and the training stops within epoch 2. */
TEST(Ranks, NameTheOneWhoseWeightsDifferWhenTheyStop) {
  RankedJob job = ranked_job();
  job.change = [](int rank, descent_train_options *options, Rows *) {
    options->callbacks = {};
    if (rank == 2) options->callbacks.on_epoch = corrupt;
    options->callbacks.on_step = stop_at_step_6;
  };
  for (const RankedJob::Ranked &outcome : job.run_on(4)) {
    EXPECT_EQ(outcome.status, DESCENT_ERROR_INTERNAL);
    EXPECT_EQ(outcome.error.find("rank 2 (node1): its weights after step 6 differ from those of rank 0"), 0U)
        << outcome.error;
  }
}

/* The CPU, which on this thread fails at one of its calls. */
thread_local int64_t calls_left;

template <typename Call, typename... Arguments>
descent_status call_or_fail(Call call, Arguments... arguments) {
  if (calls_left > 0 && --calls_left == 0) return status_set(DESCENT_ERROR_DEVICE, "planted");
  return call(arguments...);
}

backend failing_cpu() {
  backend failing = backend_cpu;
  failing.run = [](backend_program *program, plan_range range, const plan_step *steps, int64_t n) {
    return call_or_fail(backend_cpu.run, program, range, steps, n);
  };
  failing.read = [](backend_program *program, int buffer, int64_t offset, int64_t count, plan_type type, void *data) {
    return call_or_fail(backend_cpu.read, program, buffer, offset, count, type, data);
  };
  return failing;
}

/* Binding data, and the reads and writes of totals and of all parameters: what a training does between its steps. */
thread_local int64_t parameters_in_all;

backend failing_between_steps() {
  backend failing = backend_cpu;
  failing.bind = [](backend_program *program, int buffer, descent_dtype dtype, const void *data, int64_t rows,
                    bool constant) {
    return call_or_fail(backend_cpu.bind, program, buffer, dtype, data, rows, constant);
  };
  failing.read = [](backend_program *program, int buffer, int64_t offset, int64_t count, plan_type type, void *data) {
    const bool is_between = (type == PLAN_F64 && count == 2) || (type == PLAN_F32 && count == parameters_in_all);
    return is_between ? call_or_fail(backend_cpu.read, program, buffer, offset, count, type, data)
                      : backend_cpu.read(program, buffer, offset, count, type, data);
  };
  failing.write = [](backend_program *program, int buffer, int64_t offset, int64_t count, plan_type type,
                     const void *data) {
    return type == PLAN_F64 && count == 2 ? call_or_fail(backend_cpu.write, program, buffer, offset, count, type, data)
                                          : backend_cpu.write(program, buffer, offset, count, type, data);
  };
  return failing;
}

/* The job is not ended: all ranks return together. */
TEST(Ranks, ReturnTheErrorOfOneOfThemBetweenSteps) {
  const backend failing = failing_between_steps();
  RankedJob job = ranked_job();
  job.options.epochs = 2;
  job.seconds = 5;
  job.through = &failing;
  int64_t call = 1;
  for (; call < 1000; call++) {
    job.change = [&](int rank, descent_train_options *, Rows *) {
      parameters_in_all = make_network(job.widths, job.hidden, job.loss, 7)->n_parameters;
      calls_left = rank == 1 ? call : 0;
    };
    const std::vector<RankedJob::Ranked> outcomes = job.run_on(2);
    if (outcomes[1].status == DESCENT_OK) break; /* it has fewer calls */
    for (const RankedJob::Ranked &outcome : outcomes) {
      EXPECT_EQ(outcome.status, DESCENT_ERROR_DEVICE);
      EXPECT_EQ(outcome.error.find("rank 1 (node0): planted"), 0U) << "call " << call << ": " << outcome.error;
    }
    if (HasFailure()) break;
  }
  EXPECT_GT(call, 20);
}

/* Fails at the first run after a step that was not finite, in which a rank looks for its part. */
thread_local bool fails_looking, is_looking;

TEST(Ranks, ReturnTheErrorOfOneThatCannotLookForItsPart) {
  backend failing = backend_cpu;
  failing.read = [](backend_program *program, int buffer, int64_t offset, int64_t count, plan_type type, void *data) {
    const descent_status status = backend_cpu.read(program, buffer, offset, count, type, data);
    if (type == PLAN_F64 && count == SCALAR_SLOTS && static_cast<double *>(data)[SCALAR_BAD_STEP] != 0)
      is_looking = true;
    return status;
  };
  failing.run = [](backend_program *program, plan_range range, const plan_step *steps, int64_t n) {
    if (fails_looking && is_looking) return status_set(DESCENT_ERROR_DEVICE, "planted");
    return backend_cpu.run(program, range, steps, n);
  };
  RankedJob job = exploding("");
  job.options.checkpoint.folder = nullptr;
  job.options.checkpoint.rollbacks = 0;
  job.seconds = 5;
  job.through = &failing;
  job.change = [](int rank, descent_train_options *, Rows *) { fails_looking = rank == 1; };
  for (const RankedJob::Ranked &outcome : job.run_on(2)) {
    EXPECT_EQ(outcome.status, DESCENT_ERROR_DEVICE);
    EXPECT_EQ(outcome.error.find("rank 1 (node0): planted"), 0U) << outcome.error;
  }
}

TEST(Ranks, EndWithAnErrorWhenTheDeviceOfOneFails) {
  const backend failing = failing_cpu();
  RankedJob job = ranked_job();
  job.options.epochs = 1;
  job.through = &failing;
  /* A rank that fails ends the job, as the command does. */
  const auto run = [&](int64_t call) {
    std::vector<RankedJob::Ranked> outcomes(2);
    job.change = [call](int rank, descent_train_options *, Rows *) { calls_left = rank == 1 ? call : 0; };
    RankThreads(2).run([&](int rank, descent_communicator *communicator) {
      RankedJob::Ranked &outcome = outcomes[static_cast<size_t>(rank)] = job.run_rank(rank, communicator);
      if (outcome.status != DESCENT_OK) communicator->transport->abort(communicator->transport, 4);
    });
    return outcomes;
  };
  int64_t call = 1;
  for (;; call++) {
    const std::vector<RankedJob::Ranked> outcomes = run(call);
    if (outcomes[1].status == DESCENT_OK) break; /* it has fewer calls */
    SCOPED_TRACE("call " + std::to_string(call));
    EXPECT_EQ(outcomes[1].status, DESCENT_ERROR_DEVICE);
    EXPECT_NE(outcomes[1].error.find("planted"), std::string::npos) << outcomes[1].error;
    EXPECT_EQ(outcomes[0].status, DESCENT_ERROR_DEVICE);
  }
  EXPECT_GT(call, 10);
}

/* Rank 1 falls silent, or loses its connection, after so many messages: all ranks end with an error in time. Only in the
 * last exchange can others have what they need already. */
TEST(Ranks, EndWithAnErrorWhenOneFallsSilent) {
  RankedJob job = ranked_job();
  job.options.epochs = 1;
  RankThreads counter(4);
  counter.run([&](int rank, descent_communicator *communicator) { job.run_rank(rank, communicator); });
  const int64_t messages = counter.sent() / 4, last = 3;
  ASSERT_GT(messages, 30);
  job.seconds = 0.1;
  for (RankThreads::Fault fault : {RankThreads::SILENCE, RankThreads::BREAKAGE})
    for (int64_t after = 0; after < messages - last; after += messages / 12) {
      SCOPED_TRACE("after " + std::to_string(after) + " of " + std::to_string(messages) + " messages");
      job.faults = {fault, 1, after};
      const auto started = std::chrono::steady_clock::now();
      for (const RankedJob::Ranked &outcome : job.run_on(4)) EXPECT_EQ(outcome.status, DESCENT_ERROR_DEVICE);
      EXPECT_LT(Seconds(std::chrono::steady_clock::now() - started).count(), 5);
    }
}

}  // namespace
