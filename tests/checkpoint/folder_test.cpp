/* The folder of a training: links in it are not followed, one training at a time uses it, and the right checkpoints
 * stay. */
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <functional>

#include "checkpoints.h"

namespace {

struct {
  int files, folders; /* errors of flock on them; 0: it works */
  bool cuts;          /* a renamed checkpoint is only half there, as on a store that copies */
} faults;

}  // namespace

/* These take the place of the C library's, in the library under test too. */
extern "C" int flock(int file, int operation) noexcept {
  struct stat about {};
  const int error = fstat(file, &about) == 0 && S_ISDIR(about.st_mode) ? faults.folders : faults.files;
  if (!error) return static_cast<int>(syscall(SYS_flock, file, operation));
  errno = error;
  return -1;
}

extern "C" int renameat(int from_folder, const char *from, int to_folder, const char *to) noexcept {
  const int failed = static_cast<int>(syscall(SYS_renameat2, from_folder, from, to_folder, to, 0));
  if (failed || !faults.cuts || strncmp(to, "step-", 5) != 0) return failed;
  const int file = openat(to_folder, to, O_WRONLY | O_CLOEXEC);
  struct stat about {};
  if (file < 0 || fstat(file, &about) != 0 || ftruncate(file, about.st_size / 2) != 0) abort();
  close(file);
  return 0;
}

namespace {

using Steps = std::vector<int64_t>;

/* A training that calls `react` at every event and records its best epochs. */
struct Watched {
  Job job = small_job();
  std::function<void(const Event &)> react = [](const Event &) {};
  std::vector<Event> events;
  Steps best{-1}; /* steps at which epochs ended that improved on all before */

  Job::Outcome run() {
    job.options.callbacks.user = this;
    job.options.callbacks.on_epoch = [](void *user, const descent_epoch_info *info) {
      if (info->best) static_cast<Watched *>(user)->best.push_back(info->step);
      return 0;
    };
    job.options.callbacks.on_checkpoint = [](void *user, const descent_checkpoint_info *info) {
      Watched *w = static_cast<Watched *>(user);
      w->events.push_back({info->event, info->path, info->message, info->step, info->rate_factor});
      w->react(w->events.back());
    };
    return job.run();
  }
  int64_t count(descent_checkpoint_event kind) const {
    int64_t n = 0;
    for (const Event &event : events) n += event.event == kind;
    return n;
  }
};

std::string file_of(const std::string &folder, int64_t step) { return folder + "/" + checkpoint_name(step); }

/* ---- links ------------------------------------------------------------------------------------------------------- */

TEST(Link, AsALockIsRefused) {
  const Scratch scratch;
  const std::string folder = scratch / "c", precious = scratch / "precious";
  std::filesystem::create_directory(folder);
  Job job = small_job();
  job.options.checkpoint.folder = folder.c_str();
  std::filesystem::create_symlink(precious, folder + "/lock");
  Job::Outcome outcome = job.run();
  EXPECT_EQ(outcome.status, DESCENT_ERROR_WRITE);
  EXPECT_EQ(scratch.plain(outcome.error), "c/lock: is a symbolic link; remove it, or use another folder");
  EXPECT_FALSE(std::filesystem::exists(precious));
  EXPECT_TRUE(steps_in(folder).empty());
  for (const bool pipe : {false, true}) {
    std::filesystem::remove(folder + "/lock");
    ASSERT_EQ(pipe ? mkfifo((folder + "/lock").c_str(), 0600) : mkdir((folder + "/lock").c_str(), 0700), 0);
    outcome = job.run();
    EXPECT_EQ(outcome.status, DESCENT_ERROR_WRITE);
    EXPECT_EQ(scratch.plain(outcome.error), "c/lock: is not a regular file; remove it, or use another folder");
  }
}

TEST(Link, WithTheNameOfACheckpointIsReplacedNotFollowed) {
  const Scratch scratch;
  const std::string folder = scratch / "c", precious = scratch / "precious";
  const Job job = small_job();
  const Job::Outcome whole = job.run_keeping_all(folder);
  for (int64_t step : steps_in(folder))
    if (step > 6) std::filesystem::remove(file_of(folder, step));
  write_file(precious, "mine");
  for (int64_t step : {8, 10, 12}) std::filesystem::create_symlink(precious, file_of(folder, step));
  std::filesystem::create_symlink(precious, file_of(folder, 9) + ".abcdefgh.descent.tmp");
  Job again = job;
  again.options.checkpoint.folder = folder.c_str();
  again.options.checkpoint.steps = 4;
  expect_same_end(whole, again.resume(folder));
  EXPECT_EQ(read_file(precious), "mine");
  EXPECT_EQ(steps_in(folder), (Steps{8, 12}));
  for (int64_t step : {8, 12}) EXPECT_FALSE(std::filesystem::is_symlink(file_of(folder, step))) << step;
}

/* ---- locks ------------------------------------------------------------------------------------------------------- */

TEST(Lock, ThatTheFileSystemLacksIsReportedOnce) {
  const struct {
    int files, folders;
    int64_t reports;
  } cases[] = {{ENOLCK, ENOLCK, 1}, {ENOSYS, EBADF, 1}, {EOPNOTSUPP, EOPNOTSUPP, 1}, {0, EBADF, 0}, {ENOLCK, 0, 1}};
  for (const auto &c : cases) {
    SCOPED_TRACE(c.files);
    const Scratch scratch;
    const std::string folder = scratch / "c";
    Watched watched;
    watched.job.options.checkpoint.folder = folder.c_str();
    watched.job.options.checkpoint.steps = 1;
    watched.react = [&](const Event &event) {
      if (event.event != DESCENT_CHECKPOINT_UNLOCKED) return;
      EXPECT_EQ(scratch.plain(event.message),
                "c: this file system has no locks; make sure that no other training uses this folder");
    };
    faults.files = c.files;
    faults.folders = c.folders;
    const Job::Outcome outcome = watched.run();
    faults.files = faults.folders = 0;
    EXPECT_EQ(outcome.status, DESCENT_OK) << outcome.error;
    EXPECT_EQ(watched.count(DESCENT_CHECKPOINT_UNLOCKED), c.reports);
  }
}

struct Loss {
  const char *name;
  void (*happen)(const Scratch &scratch); /* to the folder c */
  const char *expected;
  bool second_is_refused;
};

void remove_lock(const Scratch &scratch) { std::filesystem::remove(scratch / "c/lock"); }
void replace_lock(const Scratch &scratch) {
  remove_lock(scratch);
  write_file(scratch / "c/lock", "");
}
void move_folder(const Scratch &scratch) { std::filesystem::rename(scratch / "c", scratch / "away"); }
void replace_folder(const Scratch &scratch) {
  move_folder(scratch);
  std::filesystem::create_directory(scratch / "c");
}

class Lost : public testing::TestWithParam<Loss> {};

/* The training stops with its last weights, and writes nothing more; until then no second one comes in. */
TEST_P(Lost, FolderEndsTheTraining) {
  const Scratch scratch;
  const std::string folder = scratch / "c";
  Watched watched;
  watched.job.validate = false;
  watched.job.options.checkpoint.folder = folder.c_str();
  watched.job.options.checkpoint.steps = 1;
  watched.job.options.checkpoint.keep = 99;
  Steps left;
  std::string where = folder;
  watched.react = [&](const Event &event) {
    if (event.event != DESCENT_CHECKPOINT_SAVED || event.step != 4) return;
    GetParam().happen(scratch); /* while nothing is being written */
    if (GetParam().second_is_refused) {
      Job second = small_job();
      second.options.checkpoint.folder = folder.c_str();
      const Job::Outcome refused = second.run();
      EXPECT_EQ(refused.status, DESCENT_ERROR_WRITE);
      EXPECT_NE(refused.error.find("c: in use by another running training"), std::string::npos) << refused.error;
    }
    if (std::filesystem::exists(scratch / "away")) where = scratch / "away";
    left = steps_in(where);
  };
  const Job::Outcome outcome = watched.run();
  EXPECT_EQ(outcome.status, DESCENT_ERROR_WRITE);
  EXPECT_EQ(scratch.plain(outcome.error), std::string(GetParam().expected) + "; the weights of step 6 are kept");
  EXPECT_EQ(left.back(), 4);
  EXPECT_EQ(steps_in(where), left);
  EXPECT_TRUE(where == folder || steps_in(folder).empty());
  EXPECT_EQ(watched.count(DESCENT_CHECKPOINT_FAILED), 0);
  EXPECT_EQ(outcome.result.steps, 6);
  Job stopped = small_job();
  stopped.validate = false;
  stopped.options.callbacks.on_step = [](void *, const descent_step_info *info) {
    return static_cast<int>(info->step == 6);
  };
  EXPECT_EQ(outcome.parameters, stopped.run().parameters);
}

const char moved[] =
    "c: was moved, removed or replaced while the training used it; put it back and resume, or use another "
    "folder";
const char unlocked[] =
    "c/lock: was removed or replaced while the training used it; make sure that no other training "
    "uses the folder, and resume";
INSTANTIATE_TEST_SUITE_P(Every, Lost,
                         testing::Values(Loss{"lock_removed", remove_lock, unlocked, true},
                                         Loss{"lock_replaced", replace_lock, unlocked, true},
                                         Loss{"folder_moved", move_folder, moved, false},
                                         Loss{"folder_replaced", replace_folder, moved, false}),
                         [](const auto &each) { return each.param.name; });

/* Neither does it return to a checkpoint of another training, or remove one. */
TEST(Lost, FolderIsNotRolledBackTo) {
  const Scratch scratch;
  const std::string folder = scratch / "c", other = scratch / "other";
  Watched watched;
  watched.job = returning_job(folder);
  watched.react = [&](const Event &event) {
    if (event.event != DESCENT_CHECKPOINT_SAVED || event.step != 0) return;
    std::filesystem::copy(folder, other);
    write_file(file_of(other, 99), "of another training");
    std::filesystem::rename(folder, scratch / "away");
    std::filesystem::rename(other, folder);
  };
  watched.job.options.checkpoint.steps = 0;
  const Job::Outcome outcome = watched.run();
  EXPECT_EQ(outcome.status, DESCENT_ERROR_WRITE) << outcome.error;
  EXPECT_EQ(watched.count(DESCENT_CHECKPOINT_ROLLED_BACK), 0);
  EXPECT_EQ(steps_in(folder), (Steps{0, 99}));
}

/* ---- incomplete files -------------------------------------------------------------------------------------------- */

/* A file proves its length and content, so that no marker beside it is needed. */
TEST(Incomplete, NewestFileIsPassedOverAtAnyLength) {
  const Scratch scratch;
  const std::string folder = scratch / "c";
  const Job job = small_job();
  const Job::Outcome whole = job.run_keeping_all(folder);
  const std::string newest = read_file(file_of(folder, 12));
  for (const size_t length : {size_t{0}, size_t{7}, size_t{8}, size_t{500}, newest.size() / 2, newest.size() - 1}) {
    SCOPED_TRACE(length);
    write_file(file_of(folder, 12), newest.substr(0, length));
    const Job::Outcome resumed = job.resume(folder);
    expect_same_end(whole, resumed);
    EXPECT_EQ(resumed.of(DESCENT_CHECKPOINT_DAMAGED).size(), 1U);
    EXPECT_EQ(resumed.of(DESCENT_CHECKPOINT_RESUMED).at(0).step, 11);
  }
}

TEST(Incomplete, FileIsAFailureAndTheOlderOnesStay) {
  const Scratch scratch;
  const std::string folder = scratch / "c";
  Watched watched;
  watched.job.options.checkpoint.folder = folder.c_str();
  watched.job.options.checkpoint.steps = 4;
  watched.job.options.checkpoint.keep = 1;
  watched.react = [&](const Event &event) {
    if (event.event == DESCENT_CHECKPOINT_SAVED && event.step == 4) faults.cuts = true;
    if (event.event != DESCENT_CHECKPOINT_FAILED) return;
    faults.cuts = false;
    EXPECT_EQ(event.step, 8);
    EXPECT_NE(event.message.find("(read back after it was written)"), std::string::npos) << event.message;
    EXPECT_EQ(steps_in(folder), (Steps{4, 8}));
  };
  const Job::Outcome outcome = watched.run();
  EXPECT_EQ(outcome.status, DESCENT_OK) << outcome.error;
  EXPECT_EQ(outcome.result.checkpoint_failures, 1);
  EXPECT_EQ(steps_in(folder), Steps{12}); /* the incomplete one does not count among those kept */
}

/* ---- retention --------------------------------------------------------------------------------------------------- */

/* 4 steps an epoch; the validation loss falls and rises. */
Job wavering_job() {
  Job job = small_job();
  job.options.epochs = 9;
  job.options.optimizer.learning_rate = 3;
  job.held_out = job.rows;
  job.options.checkpoint.seconds = 0;
  job.options.checkpoint.keep = 1;
  return job;
}

TEST(Retention, KeepsTheBestAndTheNewestThroughEveryInterruption) {
  const Scratch scratch;
  const std::string folder = scratch / "c";
  Watched watched;
  watched.job = wavering_job();
  watched.job.options.checkpoint.folder = folder.c_str();
  watched.job.options.checkpoint.epochs = 2;
  watched.job.options.checkpoint.keep_best = true;
  int copies = 0;
  watched.react = [&](const Event &event) {
    if (event.event != DESCENT_CHECKPOINT_SAVED) return;
    Steps expected{event.step};
    int64_t best = -1; /* at this step: the event comes later */
    for (int64_t step : watched.best)
      if (step <= event.step) best = step;
    if (best >= 0 && best < event.step) expected.insert(expected.begin(), best);
    EXPECT_EQ(steps_in(folder), expected);
    std::filesystem::copy(folder, scratch / ("copy" + std::to_string(copies++)));
  };
  const Job::Outcome whole = watched.run();
  ASSERT_EQ(whole.status, DESCENT_OK) << whole.error;
  ASSERT_GT(watched.best.size(), 2U);
  ASSERT_LT(watched.best.back(), 32);
  EXPECT_EQ(steps_in(folder), (Steps{watched.best.back(), 36}));
  for (int i = 0; i < copies; i++) { /* each is what a training killed then leaves */
    SCOPED_TRACE(i);
    const std::string copy = scratch / ("copy" + std::to_string(i));
    Job resumed = watched.job;
    resumed.options.callbacks = {};
    resumed.options.callbacks.on_epoch = [](void *, const descent_epoch_info *) { return 0; };
    resumed.options.checkpoint.folder = copy.c_str();
    expect_same_end(whole, resumed.resume(copy));
    EXPECT_EQ(steps_in(copy), steps_in(folder));
  }
}

TEST(Retention, RemovesTheOneTooManyThatAKillLeft) {
  const Scratch scratch;
  const std::string folder = scratch / "folder";
  Job job = small_job();
  job.options.checkpoint.folder = folder.c_str();
  job.options.checkpoint.steps = 4;
  ASSERT_EQ(job.run().status, DESCENT_OK);
  const Steps kept = steps_in(folder);
  ASSERT_EQ(kept.size(), 2U);
  const auto add = [&](int step) { write_file(folder + "/" + checkpoint_name(step), "older"); };
  add(0);
  ASSERT_EQ(job.resume(folder).status, DESCENT_OK); /* at its end: no checkpoint is written */
  EXPECT_EQ(steps_in(folder), kept);
  for (int step : {0, 1}) add(step); /* kept by an earlier command */
  ASSERT_EQ(job.resume(folder).status, DESCENT_OK);
  EXPECT_EQ(steps_in(folder).size(), 4U);
}

TEST(Retention, KeepsTheCheckpointInUseWhereTheNewestIsDamaged) {
  const Scratch scratch;
  const std::string folder = scratch / "folder";
  Job job = small_job();
  job.options.checkpoint.folder = folder.c_str();
  job.options.checkpoint.steps = 4;
  ASSERT_EQ(job.run().status, DESCENT_OK);
  const Steps kept = steps_in(folder);
  ASSERT_EQ(kept.size(), 2U);
  std::filesystem::resize_file(folder + "/" + checkpoint_name(kept[1]), 100);
  struct {
    const std::string &folder;
    Steps steps;
  } seen{folder, {}};
  job.options.checkpoint.keep = 1;
  job.options.checkpoint.steps = 1000;
  job.options.callbacks.user = &seen;
  job.options.callbacks.on_epoch = [](void *user, const descent_epoch_info *) {
    auto *const at = static_cast<decltype(seen) *>(user);
    at->steps = steps_in(at->folder);
    return 1;
  };
  ASSERT_EQ(job.resume(folder).status, DESCENT_OK);
  EXPECT_EQ(seen.steps, kept);
}

TEST(Retention, WritesAndKeepsEveryMultiple) {
  const Scratch scratch;
  const std::string by_steps = scratch / "steps", by_epochs = scratch / "epochs";
  Job job = wavering_job();
  job.options.checkpoint.folder = by_steps.c_str();
  job.options.checkpoint.keep_every_steps = 10;
  const Job::Outcome whole = job.run();
  ASSERT_EQ(whole.status, DESCENT_OK) << whole.error;
  EXPECT_EQ(steps_in(by_steps), (Steps{0, 10, 20, 30, 36}));
  job.options.checkpoint.folder = by_epochs.c_str();
  job.options.checkpoint.keep_every_steps = 0;
  job.options.checkpoint.keep_every_epochs = 4;
  job.options.checkpoint.steps = 3;
  expect_same_end(whole, job.run());
  EXPECT_EQ(steps_in(by_epochs), (Steps{0, 16, 32, 36}));
  job.options.checkpoint.keep_every_epochs = INT64_MAX; /* beyond 2^63 steps */
  const std::string never = scratch / "never";
  job.options.checkpoint.folder = never.c_str();
  EXPECT_EQ(job.run().status, DESCENT_OK);
  EXPECT_EQ(steps_in(never), (Steps{0, 36}));
}

/* A training that diverges after some epochs, of which the first is the best, as the growing weights say. It returns to
 * the newest checkpoint, diverges again, and returns to the best one. */
TEST(Retention, OfTheBestServesRollbacksAndForgetsWhatTheyUndo) {
  const Scratch scratch;
  const std::string folder = scratch / "c";
  Watched watched;
  watched.job = returning_job(folder);
  watched.job.widths = {4, 2}; /* linear: grows by the same factor each step */
  watched.job.options.epochs = 15;
  watched.job.options.optimizer.learning_rate = 10;
  watched.job.options.checkpoint.steps = 3;
  watched.job.options.checkpoint.keep = 1;
  watched.job.options.checkpoint.keep_best = true;
  watched.job.options.checkpoint.rollback_factor = 0.5;
  watched.job.options.checkpoint.rollbacks = 20;
  Steps returned;
  watched.react = [&](const Event &event) {
    if (event.event == DESCENT_CHECKPOINT_ROLLED_BACK) {
      returned.push_back(event.step);
      while (watched.best.back() > event.step) watched.best.pop_back();
      EXPECT_EQ(steps_in(folder).back(), event.step);
    }
    if (event.event != DESCENT_CHECKPOINT_SAVED) return;
    EXPECT_LE(steps_in(folder).size(), 2U);
  };
  const Job::Outcome outcome = watched.run();
  ASSERT_EQ(outcome.status, DESCENT_OK) << outcome.error;
  ASSERT_GE(returned.size(), 2U);
  EXPECT_GT(returned.front(), 4);
  EXPECT_EQ(returned.back(), 4);
  const Steps left = steps_in(folder);
  EXPECT_EQ(left.front(), outcome.result.best_epoch * 4);
  EXPECT_EQ(left.back(), 60);
}

TEST(Retention, OfTheBestNeedsValidationData) {
  const Scratch scratch;
  const std::string folder = scratch / "c";
  Job job = small_job();
  job.options.checkpoint.keep_best = true;
  Job::Outcome outcome = job.run();
  EXPECT_EQ(outcome.status, DESCENT_ERROR_ARGUMENT);
  EXPECT_EQ(outcome.error, "keep_best: needs a checkpoint folder");
  job.options.checkpoint.folder = folder.c_str();
  job.validate = false;
  outcome = job.run();
  EXPECT_EQ(outcome.status, DESCENT_ERROR_ARGUMENT);
  EXPECT_NE(outcome.error.find("keep_best: needs validation data"), std::string::npos) << outcome.error;
  EXPECT_FALSE(std::filesystem::exists(folder));
}

/* The folder's own rules, without a training. */
TEST(Retention, IsOfNamesAndNumbersOnly) {
  const Scratch scratch;
  checkpoint_folder folder{};
  ASSERT_EQ(checkpoint_folder_open((scratch / "c").c_str(), &folder), DESCENT_OK);
  const auto fill = [&] {
    for (int64_t step : {0, 5, 7, 10, 12, 15, 17}) write_file(file_of(scratch / "c", step), "");
  };
  const struct {
    checkpoint_retention retention;
    int64_t best;
    Steps left;
  } cases[] = {{{2, {0, 0}}, -1, {15, 17}},
               {{1, {5, 0}}, -1, {0, 5, 10, 15, 17}},
               {{1, {10, 12}}, 7, {0, 7, 10, 12, 17}},
               {{2, {0, 0}}, 17, {15, 17}},
               {{1, {0, 0}}, 5, {5, 17}},
               {{9, {0, 0}}, -1, {0, 5, 7, 10, 12, 15, 17}},
               {{1, {0, 0}}, 6, {17}}};
  for (const auto &c : cases) {
    fill();
    checkpoint_folder_prune(&folder, &c.retention, c.best, INT64_MAX);
    EXPECT_EQ(steps_in(scratch / "c"), c.left);
  }
  fill();
  checkpoint_folder_remove_after(&folder, 7, 12); /* the best one, too, if it is later */
  EXPECT_EQ(steps_in(scratch / "c"), (Steps{0, 5, 7, 12}));
  checkpoint_folder_close(&folder);
}

}  // namespace
