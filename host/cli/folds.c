/* `descent train --folds`: cross-validation. Each fold is measured by a network that was trained, with its preprocessing,
 * on the rows of the others. */
#include <inttypes.h>
#include <stdlib.h>

#include "cli/interrupt.h"
#include "cli/members.h"
#include "cli/out_of_fold.h"
#include "cli/results.h"
#include "report/text.h"

static const char *const command = training_command;

struct folds {
  const struct training *training;
  struct members m;
  struct training_rows *rows; /* (count); the first is the training's */
  descent_network **networks; /* (count); likewise */
};

static int create_networks(struct folds *f) {
  const struct training *t = f->training;
  const uint64_t seed = t->values.training.train.seed;
  int code = EXIT_DONE;
  f->rows[0] = t->rows;
  f->networks[0] = t->network;
  for (int64_t k = 0; k < f->m.count && code == EXIT_DONE; k++) {
    if (k > 0) code = training_split(t, k, &f->rows[k]);
    if (k > 0 && code == EXIT_DONE) code = training_network(t, &f->rows[k], seed, &f->networks[k]);
    if (code == EXIT_DONE && run_set_provenance(t, f->networks[k], NULL, NULL) != DESCENT_OK)
      code = fail_status(command, DESCENT_ERROR_MEMORY);
    if (code == EXIT_DONE) code = members_set(&f->m, k, f->networks[k], &f->rows[k]);
  }
  return code;
}

static void print_summary(const struct folds *f) {
  char text[256], how[512];
  members_describe(&f->m, text);
  snprintf(how, sizeof how, "folds       %s; the split is that of fold 0, and the others are like it", text);
  training_print_summary(f->training, how);
}

/* ---- results ----------------------------------------------------------------------------------------------------- */

enum { SUMMARY_ROWS = 2 };
/* Each fold by its network, then the mean and the deviation between folds. */
static int measure(const struct folds *f, struct measures_table *table) {
  int code = EXIT_DONE;
  if (!measures_open(table, "", f->m.count + SUMMARY_ROWS)) return fail(command, EXIT_RUN, "out of memory");
  for (int64_t k = 0; k < f->m.count && code == EXIT_DONE && !interrupt_signal(); k++) {
    descent_metrics metrics = {0};
    char name[32];
    if (f->m.members[k].status != DESCENT_OK) continue;
    snprintf(name, sizeof name, "fold %" PRId64, k);
    code = results_measure_rows(f->training, f->networks[k], "fold's", f->rows[k].fold, &metrics);
    if (code == EXIT_DONE) measures_add(table, name, f->networks[k], &metrics);
    descent_metrics_clear(&metrics);
  }
  const int64_t measured = table->n_rows;
  measures_add_statistic(table, "mean", MEASURES_MEAN, 0, measured);
  measures_add_statistic(table, "deviation", MEASURES_DEVIATION, 0, measured);
  return code;
}

static void print_what_trains_one(const struct train_values *v) {
  fputs("no model was saved: the same command without --folds trains one on all rows", stdout);
  if (v->validation_fraction > 0) text_print(stdout, " but those that --validation %s holds out", v->validation);
  putchar('\n');
}

static int finish(struct folds *f) {
  struct measures_table table = {0};
  int code = EXIT_DONE;
  if (!interrupt_signal()) code = measure(f, &table);
  if (code == EXIT_DONE && !interrupt_signal()) measures_print(stdout, &table, SUMMARY_ROWS);
  measures_clear(&table);
  if (code == EXIT_DONE && f->training->values.out_of_fold && !interrupt_signal())
    code = out_of_fold_write(&f->m, f->rows, f->networks);
  members_print_end(&f->m);
  if (!interrupt_signal()) print_what_trains_one(&f->training->values);
  return code;
}

int folds_train(struct training *t) {
  struct folds f = {.training = t};
  const int64_t count = t->values.folds;
  int code = members_open(&f.m, t, "fold", count);
  f.rows = calloc((size_t)count, sizeof *f.rows);
  f.networks = calloc((size_t)count, sizeof *f.networks);
  if (code == EXIT_DONE && !(f.rows && f.networks)) code = fail(command, EXIT_RUN, "out of memory");
  if (code == EXIT_DONE) code = create_networks(&f);
  if (code == EXIT_DONE) {
    print_summary(&f);
    members_fit(&f.m);
    if (f.m.status == DESCENT_OK)
      members_report_failures(&f.m, "not measured");
    else
      code = fail(command, exit_of(f.m.status), "%s", f.m.error);
    code = members_end(&f.m, code == EXIT_DONE ? finish(&f) : code);
  }
  members_close(&f.m);
  for (int64_t k = 1; k < count; k++) {
    if (f.networks) descent_network_free(f.networks[k]);
    if (f.rows) training_rows_clear(&f.rows[k]);
  }
  free(f.networks);
  free(f.rows);
  return code;
}
