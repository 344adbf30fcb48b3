/* Learning curves: charts of one or more trainings over the epochs. */
#ifndef DESCENT_REPORT_CURVES_H
#define DESCENT_REPORT_CURVES_H

#include "report/chart.h"
#include "report/history.h"
#include "report/text.h"

struct curves_run {
  const char *name;
  const struct history *history;
};

/* The name of the x axis, "epoch"; where not all are drawn: "epoch (every 64th is drawn)". */
const char *curves_epochs(const struct curves_run *runs, int n_runs, char text[TEXT_SIZE]);

/* Each adds charts of what the runs recorded, if anything; false when out of memory. Several runs share a chart. */
/* One chart, or where the losses of training and validation are not the same measure, two. */
bool curves_add_loss(struct figure *figure, const struct curves_run *runs, int n_runs);
bool curves_add_measures(struct figure *figure, const struct curves_run *runs, int n_runs);
bool curves_add_learning_rate(struct figure *figure, const struct curves_run *runs, int n_runs);
bool curves_add_speed(struct figure *figure, const struct curves_run *runs, int n_runs);
/* One run: a chart with a line per layer. Several runs: a chart per layer. Deep networks: a selection of layers. */
bool curves_add_layers(struct figure *figure, const struct curves_run *runs, int n_runs, enum history_layer number);

#endif
