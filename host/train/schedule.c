/* The learning rate of each step; the formulas are in the header. */
#include "train/schedule.h"

#include <math.h>

static double cosine(const descent_train_options *o, int64_t step, int64_t total_steps) {
  int64_t s = step - 1 - o->schedule.warmup_steps, S = total_steps - o->schedule.warmup_steps;
  if (s <= 0 || S <= 0) return o->optimizer.learning_rate;
  return o->schedule.minimum +
         (o->optimizer.learning_rate - o->schedule.minimum) * (1 + cos(M_PI * (double)s / (double)S)) / 2;
}

static double base_learning_rate(const descent_train_options *o, const struct schedule_plateau *plateau, int64_t step,
                                 int64_t epoch, int64_t total_steps) {
  switch (o->schedule.kind) {
    case DESCENT_SCHEDULE_CONSTANT: break;
    case DESCENT_SCHEDULE_STEP:
      return o->optimizer.learning_rate * pow(o->schedule.gamma, (double)((epoch - 1) / o->schedule.every));
    case DESCENT_SCHEDULE_EXPONENTIAL: return o->optimizer.learning_rate * pow(o->schedule.gamma, (double)(epoch - 1));
    case DESCENT_SCHEDULE_COSINE: return cosine(o, step, total_steps);
    case DESCENT_SCHEDULE_PLATEAU: return plateau->learning_rate;
    case DESCENT_SCHEDULE_POLYNOMIAL: break;
  }
  return o->optimizer.learning_rate;
}

double schedule_learning_rate(const descent_train_options *options, const struct schedule_plateau *plateau,
                              int64_t step, int64_t epoch, int64_t total_steps) {
  double learning_rate = base_learning_rate(options, plateau, step, epoch, total_steps);
  if (step < options->schedule.warmup_steps) learning_rate *= (double)step / (double)options->schedule.warmup_steps;
  return learning_rate;
}

void schedule_plateau_advance(const descent_train_options *options, struct schedule_plateau *plateau, bool improved) {
  static const double least_change = 1e-8;
  if (improved) {
    plateau->bad_epochs = 0;
    return;
  }
  if (++plateau->bad_epochs <= options->schedule.every) return;
  plateau->bad_epochs = 0;
  const double reduced = fmax(options->schedule.gamma * plateau->learning_rate, options->schedule.minimum);
  if (plateau->learning_rate - reduced > least_change) plateau->learning_rate = reduced;
}
