/* The learning rate of each step; the formulas are in the header. */
#include "train/schedule.h"

#include <math.h>

/* As a double, since so many epochs may have more steps than an integer holds. */
static double warmup_steps(const descent_train_options *o, int64_t epoch_steps) {
  return o->schedule.warmup_epochs > 0 ? round(o->schedule.warmup_epochs * (double)epoch_steps)
                                       : (double)o->schedule.warmup_steps;
}

/* From the learning rate down to the minimum, over the steps after the warm-up. */
static double decayed(const descent_train_options *o, int64_t step, int64_t epoch_steps) {
  const double minimum = o->schedule.minimum, range = o->optimizer.learning_rate - minimum;
  const double w = warmup_steps(o, epoch_steps), s = (double)(step - 1) - w;
  const double S = (double)epoch_steps * (double)o->epochs - w;
  if (s <= 0 || S <= 0) return o->optimizer.learning_rate;
  if (o->schedule.kind == DESCENT_SCHEDULE_COSINE) return minimum + range * (1 + cos(M_PI * s / S)) / 2;
  return minimum + range * pow((S - s) / S, o->schedule.power);
}

static double base_learning_rate(const descent_train_options *o, const struct schedule_plateau *plateau, int64_t step,
                                 int64_t epoch, int64_t epoch_steps) {
  switch (o->schedule.kind) {
    case DESCENT_SCHEDULE_CONSTANT: break;
    case DESCENT_SCHEDULE_STEP:
      return o->optimizer.learning_rate * pow(o->schedule.gamma, (double)((epoch - 1) / o->schedule.every));
    case DESCENT_SCHEDULE_EXPONENTIAL: return o->optimizer.learning_rate * pow(o->schedule.gamma, (double)(epoch - 1));
    case DESCENT_SCHEDULE_COSINE:
    case DESCENT_SCHEDULE_POLYNOMIAL: return decayed(o, step, epoch_steps);
    case DESCENT_SCHEDULE_PLATEAU: return plateau->learning_rate;
  }
  return o->optimizer.learning_rate;
}

double schedule_learning_rate(const descent_train_options *options, const struct schedule_plateau *plateau,
                              int64_t step, int64_t epoch, int64_t epoch_steps) {
  const double learning_rate = base_learning_rate(options, plateau, step, epoch, epoch_steps);
  const double warmup = warmup_steps(options, epoch_steps);
  return (double)step < warmup ? learning_rate * ((double)step / warmup) : learning_rate;
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
