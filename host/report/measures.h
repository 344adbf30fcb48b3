/* The measures of several networks: a row for each, a column for each measure. */
#ifndef DESCENT_REPORT_MEASURES_H
#define DESCENT_REPORT_MEASURES_H

#include <descent/descent.h>
#include <stdbool.h>
#include <stdio.h>

enum { MEASURES_MOST = 5 };

struct measures_row {
  char name[48];
  int64_t rows; /* that were measured; 0: not shown */
  double values[MEASURES_MOST];
};

struct measures_table {
  const char *title; /* above the names, or "" */
  char names[MEASURES_MOST][32];
  int n_measures;
  struct measures_row *rows; /* (n_rows), of room for `capacity` */
  int64_t n_rows, capacity;
  char undefined[192]; /* "auc over 2 of 5": what statistics leave out; "": nothing */
};

/* Room for so many rows; false when out of memory. Freed by measures_clear. */
bool measures_open(struct measures_table *table, const char *title, int64_t capacity);
void measures_clear(struct measures_table *table);

/* Adds a row of a network's measures, those of report_metrics_rows without F1. */
void measures_add(struct measures_table *table, const char *name, const descent_network *network,
                  const descent_metrics *metrics);

enum measures_statistic { MEASURES_MEAN, MEASURES_DEVIATION, MEASURES_LOWEST, MEASURES_HIGHEST };
/* Adds a row with a statistic of n rows from `first`. The deviation is that of a sample, with n - 1; NaN of fewer than
 * two. A measure that is NaN in some rows is that of the others; measures_print says how many these are. */
void measures_add_statistic(struct measures_table *table, const char *name, enum measures_statistic statistic,
                            int64_t first, int64_t n);

/* Prints a heading and the rows; where there are more networks than are read one by one, only the last `summary` rows. */
void measures_print(FILE *stream, const struct measures_table *table, int64_t summary);

#endif
