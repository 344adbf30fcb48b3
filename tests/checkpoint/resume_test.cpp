/* Resuming from the checkpoint of any step ends with the bits of a training that was never stopped: every optimizer and
 * schedule, with and without dropout, on one thread and two. */
#include "checkpoints.h"

struct Case {
  descent_optimizer optimizer;
  descent_schedule schedule;
  double dropout;
  int threads;
};

static std::string name_of(const Case &c) {
  return std::string(descent_optimizer_name(c.optimizer)) + "_" + descent_schedule_name(c.schedule) +
         (c.dropout > 0 ? "_dropout" : "") + "_" + std::to_string(c.threads);
}

/* 12 epochs of 5 steps, the last of them of fewer rows; the schedules change within that time. */
static Job job_of(const Case &c) {
  Job job;
  job.rows = make_rows(72, 4, 1, 3, 1);
  job.threads = c.threads;
  job.options.optimizer.kind = c.optimizer;
  job.options.optimizer.learning_rate =
      c.optimizer == DESCENT_OPTIMIZER_GD || c.optimizer == DESCENT_OPTIMIZER_SGD ? 0.3 : 0.02;
  const bool has_momentum = c.optimizer == DESCENT_OPTIMIZER_SGD || c.optimizer == DESCENT_OPTIMIZER_RMSPROP ||
                            c.optimizer == DESCENT_OPTIMIZER_LARS;
  job.options.optimizer.momentum = has_momentum ? 0.9 : 0;
  job.options.optimizer.trust_coefficient = 0.02;
  job.options.optimizer.nesterov = c.optimizer == DESCENT_OPTIMIZER_SGD;
  job.options.optimizer.weight_decay = 0.01;
  job.options.optimizer.clip_norm = 1;
  job.options.schedule.kind = c.schedule;
  job.options.schedule.gamma = 0.8;
  job.options.schedule.every = 1;
  job.options.schedule.warmup_steps = 7;
  job.options.dropout = c.dropout;
  job.options.label_smoothing = 0.05;
  job.options.batch_size = 16;
  job.options.epochs = 12;
  job.options.seed = 5;
  return job;
}

class Resume : public testing::TestWithParam<Case> {};

TEST_P(Resume, FromEveryStepEndsWithTheSameBits) {
  const Job job = job_of(GetParam());
  const Scratch scratch;
  const Job::Outcome whole = job.run(), kept = job.run_keeping_all(scratch / "all");
  expect_same_end(whole, kept); /* saving checkpoints changes nothing */
  const std::vector<int64_t> steps = steps_in(scratch / "all");
  ASSERT_EQ(steps.size(), 61u);
  for (int64_t step : steps) {
    SCOPED_TRACE("step " + std::to_string(step));
    const std::string alone = scratch / std::to_string(step);
    std::filesystem::create_directory(alone);
    std::filesystem::rename(scratch / ("all/" + checkpoint_name(step)), alone + "/" + checkpoint_name(step));
    const Job::Outcome resumed = job.resume(alone);
    ASSERT_EQ(resumed.of(DESCENT_CHECKPOINT_RESUMED).size(), 1u);
    EXPECT_EQ(resumed.of(DESCENT_CHECKPOINT_RESUMED)[0].step, step);
    expect_same_end(whole, resumed);
    if (HasFailure()) return;
  }
}

static std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (int o = 0; o < N_OPTIMIZERS; o++)
    for (int s = DESCENT_SCHEDULE_CONSTANT; s <= DESCENT_SCHEDULE_POLYNOMIAL; s++)
      for (double dropout : {0.0, 0.3})
        for (int threads : {1, 2})
          cases.push_back({static_cast<descent_optimizer>(o), static_cast<descent_schedule>(s), dropout, threads});
  return cases;
}
INSTANTIATE_TEST_SUITE_P(Every, Resume, testing::ValuesIn(all_cases()),
                         [](const auto &each) { return name_of(each.param); });

/* ---- other ways to run ------------------------------------------------------------------------------------------- */

struct Variant {
  const char *name;
  void (*change)(Job &job);
};

class ResumeVariant : public testing::TestWithParam<Variant> {};

TEST_P(ResumeVariant, FromEveryStepEndsWithTheSameBits) {
  Job job = job_of({DESCENT_OPTIMIZER_ADAM, DESCENT_SCHEDULE_COSINE, 0.3, 2});
  GetParam().change(job);
  const Scratch scratch;
  const Job::Outcome whole = job.run();
  job.run_keeping_all(scratch / "all");
  for (int64_t step : steps_in(scratch / "all")) {
    SCOPED_TRACE("step " + std::to_string(step));
    const std::string alone = scratch / std::to_string(step);
    std::filesystem::create_directory(alone);
    std::filesystem::rename(scratch / ("all/" + checkpoint_name(step)), alone + "/" + checkpoint_name(step));
    expect_same_end(whole, job.resume(alone));
    if (HasFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, ResumeVariant,
    testing::Values(Variant{"without_validation", [](Job &job) { job.validate = false; }},
                    Variant{"without_best", [](Job &job) { job.options.early_stopping.restore_best = false; }},
                    Variant{"early_stopping",
                            [](Job &job) {
                              job.options.early_stopping.patience = 2;
                              job.options.optimizer.learning_rate = 0.5;
                            }},
                    Variant{"warmup_epochs",
                            [](Job &job) {
                              job.options.schedule.kind = DESCENT_SCHEDULE_POLYNOMIAL;
                              job.options.schedule.warmup_steps = 0;
                              job.options.schedule.warmup_epochs = 2.5;
                              job.options.schedule.minimum = 0.001;
                            }},
                    Variant{"full_batch", [](Job &job) { job.options.batch_size = 0; }},
                    Variant{"regression",
                            [](Job &job) {
                              job.widths = {4, 6, 2};
                              job.loss = DESCENT_LOSS_MEAN_SQUARED_ERROR;
                              job.rows = make_rows(72, 4, 2, 0, 1);
                              job.held_out = make_rows(20, 4, 2, 0, 2);
                              job.options.label_smoothing = 0;
                            }},
                    Variant{"balanced_classes", [](Job &job) { job.options.balance_classes = true; }},
                    Variant{"gpu_fp32", [](Job &job) { job.device = "cuda"; }},
                    Variant{"gpu_tf32",
                            [](Job &job) {
                              job.device = "cuda";
                              job.options.precision = DESCENT_PRECISION_TF32;
                            }},
                    Variant{"gpu_bf16",
                            [](Job &job) {
                              job.device = "cuda";
                              job.options.precision = DESCENT_PRECISION_BF16;
                            }},
                    Variant{"gpu_whole_step", /* of which one kernel computes all: too wide for other kernels */
                            [](Job &job) {
                              job.device = "cuda";
                              job.widths = {4, 330, 3};
                              job.options.epochs = 3;
                              job.options.precision = DESCENT_PRECISION_BF16;
                              job.options.gpu.fusion = DESCENT_FUSION_ON;
                            }}),
    [](const auto &each) { return each.param.name; });

/* Stopped repeatedly, each time after a few steps, with everything kept in one folder. */
TEST(Interrupted, AnyNumberOfTimesEndsWithTheSameBits) {
  Job job = job_of({DESCENT_OPTIMIZER_ADAM, DESCENT_SCHEDULE_PLATEAU, 0.3, 2});
  const Job::Outcome whole = job.run();
  for (int every : {1, 3, 7}) {
    const Scratch scratch;
    const std::string folder = scratch / "kept";
    Job stopped = job;
    struct Stops {
      int every, steps;
    } stops{every, 0};
    stopped.options.checkpoint.folder = stopped.options.checkpoint.resume = folder.c_str();
    stopped.options.callbacks.user = &stops;
    stopped.options.callbacks.on_step = [](void *user, const descent_step_info *) {
      Stops *s = static_cast<Stops *>(user);
      return static_cast<int>(++s->steps % s->every == 0);
    };
    Job::Outcome outcome{};
    int runs = 0;
    do outcome = stopped.run();
    while (outcome.status == DESCENT_OK && outcome.result.stop == DESCENT_STOP_CALLBACK && ++runs < 100);
    EXPECT_GE(runs, 60 / every - 1);
    outcome = stopped.run(); /* a finished training only returns its result */
    expect_same_end(whole, outcome);
    EXPECT_LE(steps_in(folder).size(), 2u);
  }
}
