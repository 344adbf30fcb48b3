/* Synchronous successive halving: Jamieson and Talwalkar 2016, algorithm 1, with the fraction 1/eta of Li et al. 2020. The
 * best trial does not depend on timing, and a resumed sweep makes the same cuts from what was recorded. */
#include <math.h>
#include <stdlib.h>

#include "cli/sweep_run.h"

struct sweep_rungs sweep_rungs_plan(int64_t trials, int64_t epochs, int64_t eta, int64_t min_epochs) {
  struct sweep_rungs rungs = {.n = 0};
  int64_t r = min_epochs;
  if (r == 0) {
    r = epochs;
    for (int64_t left = trials; left >= eta; left /= eta) r /= eta;
    if (r < 1) r = 1;
  }
  for (int64_t left = trials; left > 1 && r < epochs && rungs.n < RUNGS_MOST; r *= eta) {
    left = left / eta > 1 ? left / eta : 1;
    rungs.epochs[rungs.n] = r;
    rungs.keep[rungs.n++] = left;
    if (r > epochs / eta) break;
  }
  return rungs;
}

bool sweep_ended_early(const struct sweep_trial *t) {
  const int64_t patience = t->train.training.train.early_stopping.patience;
  return patience > 0 && t->course.n - t->best_epoch >= patience;
}

/* What the trial had reached after so many epochs. One that was over by then counts as what it ended with, one that had
 * diverged as nothing. */
static double reached(const struct sweep_trial *t, int64_t epochs) {
  if (t->course.n >= epochs) return t->course.objective[epochs - 1];
  return sweep_ended_early(t) && t->course.n > 0 ? t->course.objective[t->course.n - 1] : NAN;
}

struct entry {
  int64_t trial;
  double reached;
  enum sweep_measure measure;
};

static int compare(const void *a, const void *b) {
  const struct entry *x = a, *y = b;
  if (sweep_measure_is_better(x->measure, x->reached, y->reached)) return -1;
  if (sweep_measure_is_better(x->measure, y->reached, x->reached)) return 1;
  return x->trial < y->trial ? -1 : 1;
}

bool sweep_rungs_cut(const struct sweep_rungs *rungs, int rung, const struct sweep_trials *trials,
                     enum sweep_measure measure, bool *in_race) {
  struct entry *entries = calloc((size_t)trials->n, sizeof *entries);
  int64_t n = 0;
  if (!entries) return false;
  for (int64_t t = 0; t < trials->n; t++)
    if (in_race[t]) entries[n++] = (struct entry){t, reached(&trials->trials[t], rungs->epochs[rung]), measure};
  qsort(entries, (size_t)n, sizeof *entries, compare);
  for (int64_t i = rungs->keep[rung]; i < n; i++) in_race[entries[i].trial] = false;
  free(entries);
  return true;
}
