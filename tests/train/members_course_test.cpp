/* The course of members that do not end together: stops, divergences, rollbacks, lost folders, interruptions. The others
 * are not disturbed. */
#include <chrono>
#include <numeric>
#include <thread>

#include "members.h"

namespace {

const Rows classes = make_rows(90, 5, 1, 3, 1), held_out = make_rows(50, 5, 1, 3, 2);
const Rows values = make_rows(80, 5, 2, 0, 5), values_held_out = make_rows(41, 5, 2, 0, 6);

/* 6 steps an epoch. */
Training steady(const std::string &name, uint64_t seed) {
  Training t;
  t.name = name;
  t.rows = &classes;
  t.held_out = &held_out;
  t.weights = t.options.seed = seed;
  t.options.epochs = 5;
  t.options.batch_size = 16;
  t.options.dropout = 0.1;
  return t;
}

/* Diverges within its first epoch. */
Training exploding(const std::string &name) {
  Training t = steady(name, 3);
  t.rows = &values;
  t.held_out = &values_held_out;
  t.widths = {5, 6, 2};
  t.hidden = DESCENT_ACTIVATION_IDENTITY;
  t.loss = DESCENT_LOSS_MEAN_SQUARED_ERROR;
  t.options.optimizer.kind = DESCENT_OPTIMIZER_GD;
  t.options.optimizer.learning_rate = 1e30;
  t.options.dropout = 0;
  return t;
}

/* The same, which rolls back to older and older checkpoints until its rate is low enough. */
Training returning(const std::string &name, const std::string &folder) {
  Training t = exploding(name);
  t.folder = folder;
  t.options.checkpoint.steps = 1;
  t.options.checkpoint.seconds = 0;
  t.options.checkpoint.keep = 9;
  t.options.checkpoint.rollbacks = 9;
  t.options.checkpoint.rollback_factor = 1e-16;
  return t;
}

class MembersCourse : public testing::TestWithParam<const char *> {
 protected:
  Device device_ = open_device(GetParam());
  Scratch scratch_;
};

TEST_P(MembersCourse, OneThatDivergesDisturbsNoOther) {
  const std::vector<Seen> seen =
      expect_as_alone({steady("before", 1), exploding("diverging"), steady("behind", 2)}, device_, scratch_.path());
  EXPECT_EQ(seen[0].status, DESCENT_OK);
  EXPECT_EQ(seen[1].status, DESCENT_ERROR_DIVERGED);
  EXPECT_NE(seen[1].error.find("diverged at step"), std::string::npos) << seen[1].error;
  EXPECT_NE(seen[1].error.find("are kept"), std::string::npos) << seen[1].error;
  EXPECT_EQ(seen[2].epochs.size(), 5u);
}

TEST_P(MembersCourse, EndForTheirOwnReasons) {
  Training by_epoch = steady("stopped by on_epoch", 1), by_step = steady("stopped by on_step", 2);
  Training at_the_end = steady("stopped at the last step of an epoch", 3), patient = steady("out of patience", 4);
  Training one = steady("of one epoch", 5), none = steady("of no epochs", 6);
  by_epoch.stop_epoch = 2;
  by_step.stop_step = 15;
  at_the_end.stop_step = 12;
  patient.options.early_stopping.patience = 1;
  patient.options.early_stopping.min_delta = 10;
  one.options.epochs = 1;
  none.options.epochs = 0;
  const std::vector<Seen> seen = expect_as_alone(
      {by_epoch, steady("whole", 7), by_step, at_the_end, patient, one, none}, device_, scratch_.path());
  const descent_stop stops[] = {DESCENT_STOP_CALLBACK, DESCENT_STOP_EPOCHS, DESCENT_STOP_CALLBACK,
                                DESCENT_STOP_CALLBACK, DESCENT_STOP_EARLY,  DESCENT_STOP_EPOCHS,
                                DESCENT_STOP_EPOCHS};
  const int64_t steps[] = {12, 30, 15, 12, 12, 6, 0};
  for (size_t k = 0; k < seen.size(); k++) {
    EXPECT_EQ(seen[k].result.stop, stops[k]) << k;
    EXPECT_EQ(seen[k].result.steps, steps[k]) << k;
  }
}

TEST_P(MembersCourse, OneRollsBackWhileOthersGoOn) {
  Training late = returning("rolled back in a later epoch", "late");
  late.options.optimizer.kind = DESCENT_OPTIMIZER_SGD;
  late.options.optimizer.momentum = 0.9;
  late.options.optimizer.learning_rate = 1.7; /* grows slowly: the loss is finite for some epochs */
  late.options.checkpoint.rollback_factor = 0.01;
  late.options.epochs = 40;
  const std::vector<Seen> seen = expect_as_alone(
      {steady("before", 1), returning("rolled back", "a"), late, steady("behind", 2)}, device_, scratch_.path());
  for (size_t k : {1, 2}) {
    int rolled_back = 0;
    for (const std::string &event : seen[k].checkpoints)
      rolled_back += event.rfind(std::to_string(DESCENT_CHECKPOINT_ROLLED_BACK) + " ", 0) == 0;
    EXPECT_EQ(seen[k].status, DESCENT_OK) << seen[k].error;
    EXPECT_GT(rolled_back, 0) << k;
  }
}

TEST_P(MembersCourse, WriteCheckpointsAsAlone) {
  std::vector<Training> all;
  for (uint64_t k = 0; k < 4; k++) {
    all.push_back(steady("member", k));
    all[k].folder = "c" + std::to_string(k);
    all[k].options.checkpoint.steps = k == 1 ? 4 : 0;
    all[k].options.checkpoint.epochs = k == 2 ? 2 : 0;
    all[k].options.checkpoint.keep_best = k == 3;
    all[k].options.checkpoint.keep = 3;
  }
  for (const Seen &seen : expect_as_alone(all, device_, scratch_.path())) EXPECT_FALSE(seen.files.empty());
}

/* Checkpoints hold float32, so not for the reference device, which computes in double. */
class MembersResumed : public MembersCourse {};

TEST_P(MembersResumed, AfterAnInterruptionEndAsUninterrupted) {
  std::vector<Training> whole, interrupted, resumed;
  for (uint64_t k = 0; k < 5; k++) {
    whole.push_back(steady("whole", k));
    whole[k].options.batch_size = k == 1 ? 45 : 16; /* so that their epochs have other numbers of steps */
    whole[k].options.schedule.kind = k == 2 ? DESCENT_SCHEDULE_PLATEAU : DESCENT_SCHEDULE_COSINE;
    whole[k].options.early_stopping.restore_best = true;
    whole[k].records_steps = true;
    interrupted.push_back(whole[k]);
    interrupted[k].folder = "c" + std::to_string(k);
    if (k != 4) interrupted[k].pause_stop_step = static_cast<int64_t>(3 * k + 2); /* one has ended by then */
    resumed.push_back(interrupted[k]);
    resumed[k].pause_stop_step = 0;
    resumed[k].resumes = true;
  }
  const std::vector<Seen> expected = Members(whole, device_, scratch_ / "whole").train_together();
  const std::vector<Seen> first = Members(interrupted, device_, scratch_ / "c").train_together();
  const std::vector<Seen> second = Members(resumed, device_, scratch_ / "c").train_together();
  for (size_t k = 0; k < whole.size(); k++) {
    SCOPED_TRACE(k);
    if (k != 4) {
      EXPECT_EQ(first[k].result.stop, DESCENT_STOP_CALLBACK);
      EXPECT_EQ(first[k].result.steps, static_cast<int64_t>(3 * k + 2));
    }
    EXPECT_EQ(second[k].status, DESCENT_OK) << second[k].error;
    EXPECT_EQ(second[k].parameters, expected[k].parameters);
    EXPECT_EQ(text_of(second[k].result), text_of(expected[k].result));
    ASSERT_LE(second[k].epochs.size(), expected[k].epochs.size());
    EXPECT_TRUE(std::equal(second[k].epochs.rbegin(), second[k].epochs.rend(), expected[k].epochs.rbegin()));
    EXPECT_TRUE(std::equal(second[k].steps.rbegin(), second[k].steps.rend(), expected[k].steps.rbegin()));
  }
}

INSTANTIATE_TEST_SUITE_P(All, MembersCourse, testing::Values("reference", "cpu", "cuda"));
INSTANTIATE_TEST_SUITE_P(All, MembersResumed, testing::Values("cpu", "cuda"));

/* ---- options->on_epoch ------------------------------------------------------------------------------------------- */

/* Records what on_epoch of the members sees, and stops those that `drops` names. */
struct Watch {
  std::vector<std::vector<int64_t>> rounds; /* the epoch of each member; 0: NULL */
  std::vector<std::vector<bool>> drops;     /* after round i */
  std::vector<std::string> epochs;          /* of member 0 */

  static void on_epoch(void *user, const descent_epoch_info *const *epochs, bool *stop, int64_t count) {
    Watch *w = static_cast<Watch *>(user);
    w->rounds.emplace_back();
    for (int64_t k = 0; k < count; k++) {
      w->rounds.back().push_back(epochs[k] ? epochs[k]->epoch : 0);
      EXPECT_FALSE(stop[k]);
    }
    if (epochs[0]) w->epochs.push_back(text_of(*epochs[0]));
    const size_t round = w->rounds.size() - 1;
    if (round < w->drops.size()) std::copy(w->drops[round].begin(), w->drops[round].end(), stop);
  }
  descent_members_options options() {
    descent_members_options made = descent_members_options_default();
    made.on_epoch = on_epoch;
    made.user = this;
    return made;
  }
};

TEST(MembersTogether, SeeTheEpochsOfAllAndStopSome) {
  const Device device = open_device("cpu");
  const Scratch scratch;
  std::vector<Training> all = {steady("whole", 1), steady("dropped", 2), exploding("diverging"), steady("short", 4),
                               steady("dropped later", 5)};
  all[3].options.epochs = 3;
  Watch watch;
  watch.drops = {
      {false, true, true, false, false}, {false, false, true, false, false}, {false, false, false, false, true}};
  const descent_members_options options = watch.options();
  Members members(all, device, scratch / "together");
  const std::vector<Seen> seen = members.train_together(&options);
  EXPECT_EQ(watch.rounds, (std::vector<std::vector<int64_t>>{
                              {1, 1, 0, 1, 1}, {2, 0, 0, 2, 2}, {3, 0, 0, 3, 3}, {4, 0, 0, 0, 0}, {5, 0, 0, 0, 0}}));
  EXPECT_EQ(watch.epochs, seen[0].epochs);
  EXPECT_EQ(seen[2].status, DESCENT_ERROR_DIVERGED); /* a stop of one that has ended changes nothing */
  /* Those that were dropped end as if their own on_epoch had stopped them. */
  all[1].stop_epoch = 1;
  all[4].stop_epoch = 3;
  const std::vector<Seen> alone = Members(all, device, scratch / "alone").train_alone();
  for (size_t k = 0; k < all.size(); k++) {
    SCOPED_TRACE(k);
    expect_same(seen[k], alone[k]);
  }
}

TEST(MembersTogether, SeeEpochsWithoutCallbacksOfTheMembers) {
  const Device device = open_device("cpu");
  const Network a = make_network({5, 4, 3}, DESCENT_ACTIVATION_TANH, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, 1);
  const Network b = make_network({5, 4, 3}, DESCENT_ACTIVATION_TANH, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, 2);
  const Dataset data = classes.dataset();
  descent_train_options options = descent_train_options_default();
  options.epochs = 2;
  descent_member members[2] = {descent_member_default(), descent_member_default()};
  for (descent_member &m : members) m.training = data.get(), m.options = &options;
  members[0].network = a.get(), members[1].network = b.get();
  Watch watch;
  const descent_members_options together = watch.options();
  ASSERT_EQ(descent_fit_members(device.get(), members, 2, &together), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(watch.rounds, (std::vector<std::vector<int64_t>>{{1, 1}, {2, 2}}));
}

/* One resumed at a later epoch, and one that returns to an earlier one, still take one epoch a round. */
TEST(MembersTogether, OfDifferentEpochsTakeOneEachRound) {
  const Device device = open_device("cpu");
  const Scratch scratch;
  Training resumed = steady("resumed", 1);
  resumed.folder = "c";
  resumed.stop_epoch = 3;
  Members({resumed}, device, scratch.path()).train_together();
  resumed.resumes = true;
  resumed.stop_epoch = 0;
  Watch watch;
  const descent_members_options options = watch.options();
  Members({steady("fresh", 2), resumed, returning("rolled back", "d")}, device, scratch.path())
      .train_together(&options);
  EXPECT_EQ(watch.rounds, (std::vector<std::vector<int64_t>>{{1, 4, 1}, {2, 5, 2}, {3, 0, 3}, {4, 0, 4}, {5, 0, 5}}));
}

/* Its only step of the epoch leaves weights that are not finite, which is found when they are kept: then the others have
 * validated, and wait for it. */
TEST(MembersTogether, ReportNoEpochBeforeOneThatReturnsHasFinishedIts) {
  const Device device = open_device("cpu");
  const Scratch scratch;
  Training late = returning("overflows in an update", "c");
  late.options.batch_size = 0;
  late.options.optimizer.learning_rate = 3e38;
  late.options.epochs = 1;
  Training steady_one = steady("steady", 1);
  steady_one.options.epochs = 1;
  Watch watch;
  const descent_members_options options = watch.options();
  const std::vector<Seen> together = Members({steady_one, late}, device, scratch / "together").train_together(&options);
  EXPECT_EQ(watch.rounds, (std::vector<std::vector<int64_t>>{{1, 1}}));
  const std::vector<Seen> alone = Members({steady_one, late}, device, scratch / "alone").train_alone();
  EXPECT_GT(together[1].checkpoints.size(), 2u);
  for (size_t k = 0; k < 2; k++) expect_same(together[k], alone[k]);
  EXPECT_NE(
      std::accumulate(together[1].checkpoints.begin(), together[1].checkpoints.end(), std::string()).find("made layer"),
      std::string::npos);
}

/* on_pause is asked between the blocks of an evaluation. A validation that is cut short counts as none. */
TEST(MembersTogether, OneStopsDuringTheValidationOfAll) {
  const Device device = open_device("cpu");
  const Scratch scratch;
  static const Rows large = make_rows(9000, 5, 1, 3, 9); /* several blocks */
  std::vector<Training> all = {steady("before", 1), steady("stopped", 2), steady("behind", 3)};
  for (Training &t : all) {
    t.held_out = &large;
    t.options.epochs = 2;
  }
  all[1].pause_stop_step = 6; /* the last of its epoch, after which on_pause is asked first during the validation */
  const std::vector<Seen> seen = expect_as_alone(all, device, scratch.path());
  EXPECT_EQ(seen[1].result.stop, DESCENT_STOP_CALLBACK);
  EXPECT_EQ(seen[1].result.epochs, 0);
  EXPECT_EQ(seen[1].result.best_epoch, 0);
  EXPECT_EQ(seen[1].epochs.size(), 0u);
  EXPECT_EQ(seen[2].epochs.size(), 2u);
}

/* ---- failures ---------------------------------------------------------------------------------------------------- */

TEST(MembersTogether, ReturnTheStatusOfTheFirstWhereNoneSucceeds) {
  const Device device = open_device("cpu");
  const Scratch scratch;
  descent_status status;
  const std::vector<Seen> seen =
      Members({exploding("a"), exploding("b")}, device, scratch.path()).train_together(nullptr, &status);
  EXPECT_EQ(status, DESCENT_ERROR_DIVERGED);
  EXPECT_EQ(std::string(descent_last_error()), "member 0: " + seen[0].error);
}

TEST(MembersTogether, OneThatLosesItsFolderEndsAlone) {
  const Device device = open_device("cpu");
  const Scratch scratch;
  std::vector<Training> all = {steady("whole", 1), steady("robbed", 2), steady("whole", 3)};
  all[1].folder = "c";
  all[1].options.checkpoint.steps = 2;
  struct Thief {
    std::string folder;
    static void on_epoch(void *user, const descent_epoch_info *const *epochs, bool *, int64_t) {
      const Thief *thief = static_cast<Thief *>(user);
      if (epochs[0]->epoch == 2) std::filesystem::rename(thief->folder, thief->folder + "-gone");
    }
  } thief{scratch / "together/c"};
  descent_members_options options = descent_members_options_default();
  options.on_epoch = Thief::on_epoch;
  options.user = &thief;
  descent_status status;
  const std::vector<Seen> seen = Members(all, device, scratch / "together").train_together(&options, &status);
  EXPECT_EQ(status, DESCENT_OK);
  EXPECT_EQ(seen[1].status, DESCENT_ERROR_WRITE) << seen[1].error;
  EXPECT_NE(seen[1].error.find("are kept"), std::string::npos) << seen[1].error;
  all.erase(all.begin() + 1);
  const std::vector<Seen> alone = Members(all, device, scratch / "alone").train_alone();
  expect_same(seen[0], alone[0]);
  expect_same(seen[2], alone[1]);
}

/* A device of which one run together fails. */
int runs_left;
descent_status failing_run_together(struct backend_device *, const struct backend_job *jobs, int64_t count) {
  if (runs_left-- == 0) return status_set(DESCENT_ERROR_DEVICE, "the device is gone");
  for (int64_t i = 0; i < count; i++) {
    const descent_status status = backend_cpu.run(jobs[i].program, jobs[i].range, jobs[i].steps, jobs[i].n_steps);
    if (status != DESCENT_OK) return status;
  }
  return DESCENT_OK;
}

TEST(MembersTogether, AllEndWithTheDevice) {
  const Device device = open_device("cpu");
  const Scratch scratch;
  struct backend failing = backend_cpu;
  failing.run_together = failing_run_together;
  for (int before : {0, 2, 3}) {
    device->backend = &failing;
    runs_left = before;
    descent_status status;
    const std::vector<Seen> seen = Members({steady("a", 1), steady("b", 2), steady("c", 3)}, device, scratch.path())
                                       .train_together(nullptr, &status);
    EXPECT_EQ(status, DESCENT_ERROR_DEVICE);
    for (const Seen &s : seen) {
      EXPECT_EQ(s.status, DESCENT_ERROR_DEVICE);
      EXPECT_EQ(s.error.find("the device is gone; "), 0u) << s.error;
    }
  }
}

/* A device that takes a millisecond for each step of each program, and notes the runs. */
struct Noted {
  int64_t programs, steps, last;
};
std::vector<Noted> noted;
descent_status slow_run(struct backend_program *program, struct plan_range range, const struct plan_step *steps,
                        int64_t n_steps) {
  if (n_steps > 0 && steps[0].learning_rate > 0) {
    noted.push_back({1, n_steps, steps[n_steps - 1].number});
    std::this_thread::sleep_for(std::chrono::milliseconds(n_steps));
  }
  return backend_cpu.run(program, range, steps, n_steps);
}
descent_status slow_run_together(struct backend_device *device, const struct backend_job *jobs, int64_t count) {
  if (jobs[0].steps[0].learning_rate > 0) {
    int64_t all = 0;
    for (int64_t i = 0; i < count; i++) all += jobs[i].n_steps;
    noted.push_back({count, jobs[0].n_steps, jobs[0].steps[jobs[0].n_steps - 1].number});
    std::this_thread::sleep_for(std::chrono::milliseconds(all));
  }
  return backend_cpu.run_together(device, jobs, count);
}

/* On threads, some wait for many steps of the others. Elsewhere all run in each turn, in powers of two but where the epoch
 * ends, whose last step has statistics and is run alone; so does a training alone. */
TEST(MembersTogether, WaitForOthersOnThreadsOnly) {
  enum { STEPS = 64 };
  const Device device = open_device("cpu", 1);
  const Rows many = make_rows(4 * STEPS, 5, 1, 3, 1);
  const Scratch scratch;
  struct backend slow = backend_cpu;
  slow.run = slow_run;
  slow.run_together = slow_run_together;
  device->backend = &slow;
  for (const size_t count : {1, 6}) {
    std::vector<Training> all(count, steady("a", 1));
    for (Training &t : all) t.rows = &many, t.held_out = nullptr, t.options.batch_size = 4, t.options.epochs = 2;
    for (const bool shares : {false, true}) {
      slow.shares_threads = shares;
      noted.clear();
      Members(all, device, scratch.path()).train_together();
      int64_t fewest = INT64_MAX, most = 0;
      for (const Noted &run : noted) {
        fewest = std::min(fewest, run.programs);
        most = std::max(most, run.steps);
        if (shares) continue;
        EXPECT_EQ(run.programs, static_cast<int64_t>(count));
        EXPECT_TRUE((run.steps & (run.steps - 1)) == 0 || run.last % STEPS == STEPS - 1 || run.last % STEPS == 0)
            << run.steps << " steps to " << run.last;
      }
      EXPECT_GE(most, 4);
      if (shares && count > 1) {
        EXPECT_LT(fewest, static_cast<int64_t>(count));
      }
    }
  }
}

/* Its steps need the host in between, and so are not among those that run in one call. */
TEST(MembersTogether, WithALossOfTheCallersEndAsAlone) {
  const Device device = open_device("cpu");
  const Scratch scratch;
  Training own = exploding("own loss");
  own.options.optimizer.learning_rate = 0.01;
  own.options.callbacks.loss = half_squared_error;
  Training diverging = own;
  diverging.name = "own loss, diverging";
  diverging.options.optimizer.learning_rate = 1e30;
  const std::vector<Seen> seen = expect_as_alone({own, steady("other", 1), diverging}, device, scratch.path());
  EXPECT_EQ(seen[0].status, DESCENT_OK);
  EXPECT_EQ(seen[2].status, DESCENT_ERROR_DIVERGED);
}

}  // namespace
