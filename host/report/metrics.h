/* Metrics as a table for people and as JSON for programs. */
#ifndef DESCENT_REPORT_METRICS_H
#define DESCENT_REPORT_METRICS_H

#include <cjson/cJSON.h>
#include <descent/descent.h>
#include <stdio.h>

/* Adds the task's metrics, each key after `prefix`; an undefined metric becomes null. False when out of memory. */
bool report_metrics_add(cJSON *object, const char *prefix, descent_task task, const descent_metrics *metrics);
/* Adds the confusion matrix, rows by true class, if there is one. */
bool report_metrics_add_confusion(cJSON *object, const descent_metrics *metrics);

struct metrics_column {
  const char *title;
  const descent_metrics *metrics;
};
/* Visits the task's informative metrics in display order, with a name and a value for each of the columns, of which
 * there are at most METRICS_COLUMNS, all with the same classes. */
enum { METRICS_COLUMNS = 4 };
typedef void (*metrics_row)(void *user, const char *name, const double *values, int n);
void report_metrics_rows(const descent_network *network, const struct metrics_column *columns, int n_columns,
                         metrics_row visit, void *user);
/* Prints a line per metric and a column per dataset; class names are the network's. */
void report_metrics_print(FILE *stream, const descent_network *network, const struct metrics_column *columns,
                          int n_columns);
/* Prints nothing for regression, or with more than 12 classes. */
void report_metrics_print_confusion(FILE *stream, const descent_network *network, const struct metrics_column *column);

#endif
