/* What a trained network is measured by, and the report. */
#ifndef DESCENT_CLI_RESULTS_H
#define DESCENT_CLI_RESULTS_H

#include "cli/run.h"
#include "report/curves.h"
#include "report/metrics.h"
#include "report/verdict.h"

enum { MEASURED_MOST = 3 };

/* The model on each of the data sets there are; the last is the one that says most. */
struct measured {
  descent_metrics metrics[MEASURED_MOST];
  struct metrics_column columns[MEASURED_MOST];
  int n;
  const descent_dataset *last;
  struct verdict verdict;
};
void measured_clear(struct measured *measured);

/* In fp32, whatever the training's precision; without the kernels of several layers that it is to do without. */
descent_predict_options results_predict_options(const struct training *training);

/* `network`, which may be an ensemble, on the training's data sets. EXIT_DONE or the exit code. */
int results_measure(const struct training *training, const descent_network *network, struct measured *measured);
/* A data set, called `title` in a message. */
int results_measure_rows(const struct training *training, const descent_network *network, const char *title,
                         const descent_dataset *rows, descent_metrics *metrics);

/* After results_measure. A training without an epoch is not judged. */
int results_judge(const struct training *training, const descent_network *network, const descent_fit_result *result,
                  struct measured *measured);
void results_print_verdict(const struct verdict *verdict);

/* --report, if it is asked for. */
struct results_report {
  const descent_network *network;
  const descent_fit_result *result;
  const struct measured *measured;
  const char *failure;           /* why the training broke off, or NULL */
  const cJSON *warnings;         /* or NULL */
  const struct curves_run *runs; /* (n_runs) the histories of the networks, the first at least */
  int n_runs;
  const struct measures_table *members; /* of an ensemble, or NULL */
};
int results_write_report(const struct training *training, const struct results_report *report);

/* How to continue a training that ended early at `step`; nothing without a folder of checkpoints. */
void results_print_way_on(FILE *out, const char *folder, int64_t step);

#endif
