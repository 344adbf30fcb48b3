/* Compares measures with those of the best constant prediction, on the same rows. */
#include "report/verdict.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "report/text.h"

/* A constant prediction: the mean of each target, or the probability of each class. */
struct constant {
  double *values; /* (n) */
  int64_t n;
};

static bool constant_create(const descent_dataset *rows, struct constant *c) {
  const int64_t classes = descent_dataset_classes(rows), targets = descent_dataset_targets(rows);
  *c = (struct constant){.n = classes ? classes : targets};
  c->values = calloc((size_t)c->n, sizeof *c->values);
  return c->values != NULL;
}

static void constant_free(struct constant *c) { free(c->values); }

static double weight_of(const descent_dataset *rows, int64_t row) {
  float weight = 1;
  descent_dataset_weight(rows, row, &weight);
  return (double)weight;
}

/* ---- values ----------------------------------------------------------------------------------------------------- */

static void fit_means(const descent_dataset *rows, struct constant *mean) {
  for (int64_t r = 0; r < descent_dataset_rows(rows); r++)
    for (int64_t k = 0; k < mean->n; k++)
      mean->values[k] += (descent_dataset_target_value(rows, r, k) - mean->values[k]) / (double)(r + 1);
}

static double rmse_of_means(const descent_dataset *rows, const struct constant *mean) {
  double sum = 0;
  const int64_t n = descent_dataset_rows(rows);
  for (int64_t r = 0; r < n; r++)
    for (int64_t k = 0; k < mean->n; k++) {
      const double distance = descent_dataset_target_value(rows, r, k) - mean->values[k];
      sum += distance * distance;
    }
  return sqrt(sum / (double)n / (double)mean->n);
}

/* The margin is what chance makes of few rows. */
static bool values_are_worse(const struct verdict_rows *measured, const struct constant *mean, double *constant) {
  const descent_metrics *m = measured->column.metrics;
  const double margin = 1 + 1 / sqrt((double)m->rows);
  *constant = rmse_of_means(measured->rows, mean);
  return !(m->r2 >= 0) && *constant > 0 && m->rmse > *constant * margin;
}

/* ---- classes ---------------------------------------------------------------------------------------------------- */

/* The probabilities that the training settles on if it learns nothing of the inputs. */
static void fit_shares(const descent_dataset *rows, const descent_train_options *options, struct constant *share) {
  double total = 0;
  for (int64_t r = 0; r < descent_dataset_rows(rows); r++) {
    share->values[(int64_t)descent_dataset_target_value(rows, r, 0)] += weight_of(rows, r);
  }
  for (int64_t k = 0; k < share->n; k++) {
    const double count = (double)descent_dataset_class_count(rows, k);
    if (options->class_weights) share->values[k] *= options->class_weights[k];
    if (options->balance_classes && count > 0) share->values[k] /= count;
    total += share->values[k];
  }
  const double s = options->label_smoothing;
  for (int64_t k = 0; k < share->n; k++) share->values[k] = share->values[k] / total * (1 - s) + s / (double)share->n;
}

static double loss_of_shares(const descent_dataset *rows, const struct constant *share) {
  double sum = 0, total = 0;
  for (int64_t r = 0; r < descent_dataset_rows(rows); r++) {
    const double weight = weight_of(rows, r);
    if (weight > 0) sum -= weight * log(share->values[(int64_t)descent_dataset_target_value(rows, r, 0)]);
    total += weight;
  }
  return sum / total;
}

/* What chance can do depends on how many rows are not of the largest class. */
static bool classes_are_worse(const struct verdict_rows *measured, const struct constant *share, double *constant) {
  int64_t largest = 0;
  for (int64_t k = 0; k < share->n; k++) {
    const int64_t count = descent_dataset_class_count(measured->rows, k);
    if (count > largest) largest = count;
  }
  const double others = (double)(descent_dataset_rows(measured->rows) - largest);
  *constant = loss_of_shares(measured->rows, share);
  return others > 0 && isfinite(*constant) && measured->column.metrics->loss > *constant * (1 + 1 / sqrt(others));
}

/* ---- the lines -------------------------------------------------------------------------------------------------- */

/* What to try: the last epoch being the best, the training was not at its end. */
static const char *advice(const descent_fit_result *result, bool of_training) {
  const bool improving = result->best_epoch == result->epochs;
  if (!of_training && !improving)
    return "a smaller network (--hidden), --dropout, --weight-decay or a lower --learning-rate";
  return improving ? "more --epochs or another --learning-rate" : "a lower --learning-rate or more --epochs";
}

static void write_worse(const descent_network *network, const struct verdict_rows *measured, double constant,
                        const char *advised, char *text) {
  char model[TEXT_SIZE], other[TEXT_SIZE];
  const descent_metrics *m = measured->column.metrics;
  const bool regression = descent_network_task(network) == DESCENT_TASK_REGRESSION;
  snprintf(text, VERDICT_SIZE, "the model is worse than %s: %s %s on the %s rows, against %s; try %s",
           regression ? "predicting the mean" : "predicting the share of each class", regression ? "RMSE" : "loss",
           text_loss(regression ? m->rmse : m->loss, model), measured->column.title, text_loss(constant, other),
           advised);
}

static bool find_worse(const descent_network *network, const descent_train_options *options,
                       const descent_fit_result *result, const struct verdict_rows *const sets[2], char *text) {
  const bool regression = descent_network_task(network) == DESCENT_TASK_REGRESSION;
  struct constant constant;
  double measure;
  const bool made = constant_create(sets[0]->rows, &constant);
  if (made && regression) fit_means(sets[0]->rows, &constant);
  if (made && !regression) fit_shares(sets[0]->rows, options, &constant);
  for (int i = 0; made && i < 2 && !*text; i++)
    if (sets[i] &&
        (regression ? values_are_worse(sets[i], &constant, &measure) : classes_are_worse(sets[i], &constant, &measure)))
      write_worse(network, sets[i], measure, advice(result, i == 0), text);
  constant_free(&constant);
  return made;
}

/* Finds the rarest class of which hardly a row is predicted, and says so where the accuracy hides it. */
static void find_seldom(const descent_network *network, const descent_train_options *options,
                        const descent_dataset *training, const struct metrics_column *column, char *text) {
  enum { FEWEST = 3, NAME_COLUMNS = 28 }; /* rows of a class to judge by */
  static const double rare = 0.5, hidden = 0.2;
  const descent_metrics *m = column->metrics;
  const double balanced = m->balanced_accuracy, rows = (double)descent_dataset_rows(training);
  int64_t seldom = -1;
  double least = INFINITY;
  if (!m->confusion || options->class_weights || options->balance_classes) return;
  for (int64_t k = 0; k < m->classes; k++) {
    const double share = (double)descent_dataset_class_count(training, k) / rows;
    int64_t labelled = 0;
    for (int64_t i = 0; i < m->classes; i++) labelled += m->confusion[k * m->classes + i];
    const bool missed = m->confusion[k * m->classes + k] == 0 || m->accuracy - balanced > hidden;
    if (labelled >= FEWEST && share > 0 && share < rare / (double)m->classes && missed && share < least)
      seldom = k, least = share;
  }
  if (seldom < 0) return;
  char name[TEXT_SIZE], index[24], accuracy[TEXT_SIZE], shown[TEXT_SIZE];
  const char *known = descent_network_class_name(network, seldom);
  snprintf(index, sizeof index, "%" PRId64, seldom);
  snprintf(text, VERDICT_SIZE,
           "class %s, %.2g %% of the training rows, is seldom predicted: balanced accuracy %s against accuracy %s on "
           "the %s rows; --class-weights balanced counts all classes alike",
           text_label(known ? known : index, NAME_COLUMNS, name), 100 * least, text_loss(balanced, shown),
           text_loss(m->accuracy, accuracy), column->title);
}

bool verdict_make(const descent_network *network, const descent_train_options *options,
                  const descent_fit_result *result, const struct verdict_rows *training,
                  const struct verdict_rows *validation, struct verdict *verdict) {
  const struct verdict_rows *const sets[] = {training, validation};
  *verdict = (struct verdict){0};
  if (descent_network_classes(network))
    find_seldom(network, options, training->rows, validation ? &validation->column : &training->column,
                verdict->seldom);
  return find_worse(network, options, result, sets, verdict->worse);
}
