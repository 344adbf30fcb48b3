/* Learning rates against PyTorch's schedulers, recorded from torch 2.15. */
#include <gtest/gtest.h>

#include <cfloat>
#include <cmath>
#include <string>
#include <vector>

#include "internal.h"

namespace {

/* One epoch, whose steps are then those of the training. */
descent_train_options with(descent_schedule schedule, double rate) {
  descent_train_options options = descent_train_options_default();
  options.epochs = 1;
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
  descent_train_options polynomial = with(DESCENT_SCHEDULE_POLYNOMIAL, 0.1);
  polynomial.schedule.power = 2;
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
      {"PolynomialLR",
       polynomial,
       true,
       {0.1, 0.08100000000000002, 0.06400000000000002, 0.048999999999999995, 0.036000000000000004, 0.025000000000000005,
        0.016000000000000007, 0.009000000000000008, 0.004, 0.001}},
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
                                    DESCENT_SCHEDULE_COSINE, DESCENT_SCHEDULE_PLATEAU, DESCENT_SCHEDULE_POLYNOMIAL}) {
    SCOPED_TRACE(descent_schedule_name(schedule));
    descent_train_options steps = with(schedule, 0.5), epochs = steps;
    steps.schedule.warmup_steps = 4;
    epochs.schedule.warmup_epochs = 0.04;
    const schedule_plateau plateau = {0.5, 0};
    const double expected[] = {0.125, 0.25, 0.375, 0.5, 0.5}; /* exact in binary */
    for (int64_t step = 1; step <= 5; step++)
      for (const descent_train_options *options : {&steps, &epochs})
        EXPECT_EQ(schedule_learning_rate(options, &plateau, step, 1, 100), expected[step - 1]) << "step " << step;
  }
}

/* Of 10 steps an epoch: 0.04 epochs are less than half a step. */
TEST(Schedule, WarmUpEpochsAreRoundedToSteps) {
  const struct {
    double epochs;
    int64_t steps;
  } cases[] = {{0, 0}, {0.04, 0}, {0.05, 1}, {0.24, 2}, {0.26, 3}, {1, 10}, {2.5, 25}, {4, 40}, {7, 70}};
  const schedule_plateau plateau = {0.1, 0};
  for (const descent_schedule kind :
       {DESCENT_SCHEDULE_CONSTANT, DESCENT_SCHEDULE_COSINE, DESCENT_SCHEDULE_POLYNOMIAL}) {
    for (const auto &c : cases) {
      SCOPED_TRACE(std::string(descent_schedule_name(kind)) + " " + std::to_string(c.epochs));
      descent_train_options steps = with(kind, 0.1);
      steps.epochs = 4;
      descent_train_options epochs = steps;
      steps.schedule.warmup_steps = c.steps;
      epochs.schedule.warmup_epochs = c.epochs;
      for (int64_t step = 1; step <= 40; step++)
        EXPECT_EQ(schedule_learning_rate(&epochs, &plateau, step, (step - 1) / 10 + 1, 10),
                  schedule_learning_rate(&steps, &plateau, step, (step - 1) / 10 + 1, 10))
            << "step " << step;
    }
  }
}

/* As many epochs as a float holds are more steps than an integer holds: the rate only rises. */
TEST(Schedule, TakesAnyNumberOfWarmUpEpochs) {
  for (const descent_schedule kind : {DESCENT_SCHEDULE_CONSTANT, DESCENT_SCHEDULE_POLYNOMIAL}) {
    descent_train_options options = with(kind, 0.5);
    options.schedule.warmup_epochs = FLT_MAX;
    const schedule_plateau plateau = {0.5, 0};
    const int64_t last = INT64_C(1) << 47;
    EXPECT_EQ(schedule_learning_rate(&options, &plateau, last, 1, last), 0.5 / static_cast<double>(FLT_MAX));
  }
}

TEST(Schedule, CosineAndPolynomialRunOverTheStepsAfterTheWarmUp) {
  for (const descent_schedule kind : {DESCENT_SCHEDULE_COSINE, DESCENT_SCHEDULE_POLYNOMIAL}) {
    SCOPED_TRACE(descent_schedule_name(kind));
    descent_train_options late = with(kind, 0.1), plain = late;
    late.schedule.warmup_steps = 7;
    const schedule_plateau plateau = {plain.optimizer.learning_rate, 0};
    for (int64_t step = 1; step <= 20; step++)
      EXPECT_EQ(schedule_learning_rate(&late, &plateau, step + 7, 1, 27),
                schedule_learning_rate(&plain, &plateau, step, 1, 20));
    late.schedule.warmup_steps = 50; /* longer than the training: never past the warm-up */
    EXPECT_DOUBLE_EQ(schedule_learning_rate(&late, &plateau, 20, 1, 20), 0.1 * 20 / 50);
  }
}

/* min + (a - min) (1 - s / S)^power in long double. Ours has 6 roundings, each of at most u of at most a, and a pow
 * that glibc keeps below 1 ulp. */
TEST(Schedule, PolynomialIsItsFormula) {
  const struct {
    double power, minimum;
    int64_t warmup, epochs, epoch_steps;
  } cases[] = {{1, 0, 0, 1, 10}, {2, 0, 5, 4, 7}, {0.5, 0.01, 0, 3, 5}, {3, 0.1, 7, 2, 9}, {1, 0.02, 1, 2, 1}};
  const double a = 0.1;
  for (const auto &c : cases) {
    SCOPED_TRACE("power " + std::to_string(c.power) + ", minimum " + std::to_string(c.minimum));
    descent_train_options options = with(DESCENT_SCHEDULE_POLYNOMIAL, a);
    options.schedule.power = c.power;
    options.schedule.minimum = c.minimum;
    options.schedule.warmup_steps = c.warmup;
    options.epochs = c.epochs;
    const schedule_plateau plateau = {a, 0};
    const int64_t steps = c.epochs * c.epoch_steps, S = steps - c.warmup;
    for (int64_t step = c.warmup + 1; step <= steps; step++) {
      const long double share = static_cast<long double>(S - (step - 1 - c.warmup)) / static_cast<long double>(S);
      const long double minimum = c.minimum,
                        expected = minimum + (a - minimum) * std::pow(share, static_cast<long double>(c.power));
      const double rate =
          schedule_learning_rate(&options, &plateau, step, (step - 1) / c.epoch_steps + 1, c.epoch_steps);
      EXPECT_LE(std::fabs(static_cast<double>(rate - expected)), 8 * DBL_EPSILON / 2 * a) << "step " << step;
      if (step == c.warmup + 1) EXPECT_EQ(rate, a); /* the first after the warm-up, and its last */
    }
  }
}

}  // namespace
