/* Learning rates against PyTorch's schedulers, recorded from torch 2.15. */
#include <gtest/gtest.h>

#include <cfloat>
#include <cmath>
#include <vector>

#include "internal.h"

namespace {

descent_train_options with(descent_schedule schedule, double rate) {
  descent_train_options options = descent_train_options_default();
  options.schedule.kind = schedule;
  options.optimizer.learning_rate = rate;
  return options;
}

/* PyTorch multiplies its way from step to step: in n steps of at most 4 roundings each, ours of at most 8 in all, the
 * two differ by at most (4 n + 8) u relative to the start of the sequence. */
void expect_rate(double rate, double expected, size_t steps, double start) {
  EXPECT_LE(std::fabs(rate - expected), (4 * static_cast<double>(steps) + 8) * DBL_EPSILON / 2 * start)
      << rate << " is not " << expected;
}

TEST(Schedule, MatchesPyTorch) {
  descent_train_options step = with(DESCENT_SCHEDULE_STEP, 0.1);
  step.schedule.every = 3;
  step.schedule.gamma = 0.5;
  descent_train_options exponential = with(DESCENT_SCHEDULE_EXPONENTIAL, 0.1);
  exponential.schedule.gamma = 0.9;
  descent_train_options cosine = with(DESCENT_SCHEDULE_COSINE, 0.1);
  cosine.schedule.minimum = 0.01;
  const struct {
    const char *name;
    descent_train_options options;
    bool per_step; /* the sequence runs over steps of one epoch, otherwise over epochs */
    std::vector<double> rates;
  } cases[] = {
      {"constant", with(DESCENT_SCHEDULE_CONSTANT, 0.1), false, {0.1, 0.1, 0.1}},
      {"StepLR", step, false, {0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.025, 0.025, 0.025}},
      {"ExponentialLR",
       exponential,
       false,
       {0.1, 0.09000000000000001, 0.08100000000000002, 0.07290000000000002, 0.06561000000000002, 0.05904900000000002}},
      {"CosineAnnealingLR",
       cosine,
       true,
       {0.1, 0.09779754323328192, 0.09140576474687263, 0.08145033635316129, 0.06890576474687264, 0.05500000000000001,
        0.04109423525312737, 0.028549663646838717, 0.01859423525312737, 0.012202456766718092}},
  };
  for (const auto &c : cases) {
    SCOPED_TRACE(c.name);
    const schedule_plateau plateau = {c.options.optimizer.learning_rate, 0};
    for (size_t i = 0; i < c.rates.size(); i++) {
      const int64_t at = static_cast<int64_t>(i) + 1;
      expect_rate(schedule_learning_rate(&c.options, &plateau, at, c.per_step ? 1 : at, 10), c.rates[i], c.rates.size(),
                  0.1);
    }
  }
}

TEST(Schedule, ReduceOnPlateauMatchesPyTorch) {
  descent_train_options options = with(DESCENT_SCHEDULE_PLATEAU, 0.1);
  options.schedule.gamma = 0.1;
  options.schedule.every = 2;
  options.schedule.minimum = 0.0005;
  options.early_stopping.min_delta = 0.02;
  const double losses[] = {1, 0.9, 0.9, 0.95, 0.85, 0.85, 0.85, 0.85, 0.84, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9};
  const double rates[] = {0.1,  0.1,  0.1,  0.1,   0.1,   0.1,   0.1,    0.1,
                          0.01, 0.01, 0.01, 0.001, 0.001, 0.001, 0.0005, 0.0005};
  schedule_plateau plateau = {options.optimizer.learning_rate, 0};
  double best = INFINITY;
  for (size_t i = 0; i < std::size(losses); i++) {
    const int64_t at = static_cast<int64_t>(i) + 1;
    expect_rate(schedule_learning_rate(&options, &plateau, at, at, 100), rates[i], std::size(losses), 0.1);
    const bool improved = losses[i] < best - options.early_stopping.min_delta;
    if (improved) best = losses[i];
    schedule_plateau_advance(&options, &plateau, improved);
  }
}

TEST(Schedule, PlateauLeavesOutChangesTooSmallToMatter) {
  descent_train_options options = with(DESCENT_SCHEDULE_PLATEAU, 1.5e-8);
  options.schedule.gamma = 0.5;
  options.schedule.every = 1;
  schedule_plateau plateau = {options.optimizer.learning_rate, 0};
  for (int i = 0; i < 10; i++) schedule_plateau_advance(&options, &plateau, false);
  EXPECT_EQ(plateau.learning_rate, 1.5e-8);
}

TEST(Schedule, WarmUpRisesLinearlyToTheBaseRate) {
  for (descent_schedule schedule : {DESCENT_SCHEDULE_CONSTANT, DESCENT_SCHEDULE_STEP, DESCENT_SCHEDULE_EXPONENTIAL,
                                    DESCENT_SCHEDULE_COSINE, DESCENT_SCHEDULE_PLATEAU}) {
    SCOPED_TRACE(descent_schedule_name(schedule));
    descent_train_options options = with(schedule, 0.5);
    options.schedule.warmup_steps = 4;
    const schedule_plateau plateau = {options.optimizer.learning_rate, 0};
    const double expected[] = {0.125, 0.25, 0.375, 0.5, 0.5}; /* exact in binary */
    for (int64_t step = 1; step <= 5; step++)
      EXPECT_EQ(schedule_learning_rate(&options, &plateau, step, 1, 100), expected[step - 1]) << "step " << step;
  }
}

TEST(Schedule, CosineRunsOverTheStepsAfterTheWarmUp) {
  descent_train_options late = with(DESCENT_SCHEDULE_COSINE, 0.1), plain = late;
  late.schedule.warmup_steps = 7;
  const schedule_plateau plateau = {plain.optimizer.learning_rate, 0};
  for (int64_t step = 1; step <= 20; step++)
    EXPECT_EQ(schedule_learning_rate(&late, &plateau, step + 7, 1, 27),
              schedule_learning_rate(&plain, &plateau, step, 1, 20));
  late.schedule.warmup_steps = 50; /* longer than the training: never past the warm-up */
  EXPECT_DOUBLE_EQ(schedule_learning_rate(&late, &plateau, 20, 1, 20), 0.1 * 20 / 50);
}

}  // namespace
