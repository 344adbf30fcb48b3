/* The report of a sweep as one self-contained HTML page without scripts. */
#ifndef DESCENT_REPORT_SWEEP_PAGE_H
#define DESCENT_REPORT_SWEEP_PAGE_H

#include <stdbool.h>
#include <stdio.h>

#include "report/chart.h"
#include "report/parallel.h"

struct sweep_page_trial {
  int64_t number;
  const char *const *values;  /* (n_names) */
  const char *status, *error; /* error: or NULL */
  double objective;           /* NaN: none */
  int64_t epochs, best_epoch; /* best_epoch 0: none */
  double seconds;
};

struct sweep_page {
  const char *data_path, *model_path;
  const char *search;       /* "random, 64 trials of at most 100 epochs" */
  const char *measure;      /* "validation loss" */
  const char *const *names; /* (n_names) of the options that differ */
  int n_names;
  const struct sweep_page_trial *trials; /* (n_trials) from the best to the worst */
  int64_t n_trials;
  int64_t open;        /* trials that were not trained */
  const char *command; /* that trains the best trial alone */
  bool same_model;     /* whether it gives the model */
  bool interrupted;
  struct parallel parallel;
  const struct figure *curves;
};

/* Write errors remain in the stream. */
void sweep_page_write(FILE *out, const struct sweep_page *page);

#endif
