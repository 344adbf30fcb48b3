/* Metrics as a table for people and as JSON for programs. */
#ifndef DESCENT_REPORT_METRICS_H
#define DESCENT_REPORT_METRICS_H

#include <cjson/cJSON.h>
#include <descent/descent.h>
#include <stdio.h>

/* Adds the measures that apply to the task, each key after `prefix`; what applies but is undefined becomes null. */
bool report_metrics_add(cJSON *object, const char *prefix, descent_task task, const descent_metrics *metrics);
/* The confusion matrix, rows by true class; adds nothing where there is none. */
bool report_metrics_add_confusion(cJSON *object, const descent_metrics *metrics);

struct metrics_column {
  const char *title;
  const descent_metrics *metrics;
};
/* Visits the measures that apply and tell something, in the order they are read: a name and a value for each of the
 * columns, at most METRICS_COLUMNS, of which all have the same classes. */
enum { METRICS_COLUMNS = 4 };
typedef void (*metrics_row)(void *user, const char *name, const double *values, int n);
void report_metrics_rows(const descent_network *network, const struct metrics_column *columns, int n_columns,
                         metrics_row visit, void *user);
/* A line per measure, a column per data set; class names from `network`. */
void report_metrics_print(FILE *stream, const descent_network *network, const struct metrics_column *columns,
                          int n_columns);
/* Nothing for regression or for more classes than people read. */
void report_metrics_print_confusion(FILE *stream, const descent_network *network, const struct metrics_column *column);

#endif
