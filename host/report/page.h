/* --report: a training as one self-contained HTML page without scripts. */
#ifndef DESCENT_REPORT_PAGE_H
#define DESCENT_REPORT_PAGE_H

#include <cjson/cJSON.h>
#include <descent/descent.h>
#include <stdbool.h>
#include <stdio.h>

#include "report/chart.h"
#include "report/curves.h"
#include "report/history.h"
#include "report/measures.h"
#include "report/metrics.h"
#include "report/verdict.h"

/* CSS of every page, before svg_style. */
extern const char page_style[];

struct page {
  const char *model_path, *data_path, *validation_path, *test_path; /* the last two may be NULL */
  const char *target;                                               /* as given; NULL: defined by the file */
  const char *shape;                                                /* the network in one line */
  const descent_network *network;
  const descent_device *device;
  const descent_dataset *data;       /* the whole file */
  const descent_dataset *training;   /* the rows trained on */
  const descent_dataset *validation; /* or NULL */
  const descent_train_options *train;
  const cJSON *options;          /* the configuration by option name, or NULL */
  const cJSON *warnings;         /* [{"epoch": 3, "text": ".."}], or NULL */
  const char *failure;           /* why the training failed, or NULL */
  bool interrupted;              /* by a signal, which wants an end soon: no measures that take an evaluation */
  const struct verdict *verdict; /* or NULL */
  const struct history *history; /* of the network, or of the first of several */
  const struct curves_run *runs; /* (n_runs) of several networks, with names; of one, `history` */
  int n_runs;
  const struct measures_table *members; /* of an ensemble, measured on the rows of the last column; or NULL */
  const descent_fit_result *result;     /* of several networks: most epochs, all steps, the time of all */
  const struct metrics_column *columns; /* (n_columns) final metrics; the last is shown at the top */
  int n_columns;
  const struct figure *diagnosis; /* of the last column's rows */
};

static inline bool page_of_several(const struct page *p) { return p->n_runs > 1; }

/* False when out of memory; write errors remain in the stream. */
bool page_write(FILE *out, const struct page *page);

#endif
