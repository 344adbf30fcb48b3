#include "report/measures.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "report/metrics.h"
#include "report/text.h"

bool measures_open(struct measures_table *table, const char *title, int64_t capacity) {
  *table = (struct measures_table){.title = title, .capacity = capacity};
  table->rows = calloc((size_t)capacity, sizeof *table->rows);
  return table->rows != NULL;
}

void measures_clear(struct measures_table *table) {
  free(table->rows);
  *table = (struct measures_table){0};
}

/* What the visit of a row needs. */
struct adding {
  struct measures_table *table;
  struct measures_row *row;
  int n;
};

static void add_measure(void *user, const char *name, const double *values, int n) {
  struct adding *a = user;
  (void)n;
  if (a->n == MEASURES_MOST || strncmp(name, "f1 ", 3) == 0) return;
  snprintf(a->table->names[a->n], sizeof a->table->names[a->n], "%s", name);
  a->row->values[a->n++] = values[0];
}

/* The next row; the caller has asked for room. */
static struct measures_row *next_row(struct measures_table *table, const char *name) {
  struct measures_row *row = &table->rows[table->n_rows++];
  snprintf(row->name, sizeof row->name, "%s", name);
  return row;
}

void measures_add(struct measures_table *table, const char *name, const descent_network *network,
                  const descent_metrics *metrics) {
  const struct metrics_column column = {"", metrics};
  struct adding adding = {table, next_row(table, name), 0};
  adding.row->rows = metrics->rows;
  report_metrics_rows(network, &column, 1, add_measure, &adding);
  table->n_measures = adding.n;
}

static double statistic_of(const struct measures_table *table, int measure, enum measures_statistic statistic,
                           int64_t first, int64_t n) {
  double sum = 0, squares = 0, lowest = HUGE_VAL, highest = -HUGE_VAL;
  int64_t defined = 0;
  for (int64_t r = first; r < first + n; r++) {
    const double value = table->rows[r].values[measure];
    if (isnan(value)) continue;
    defined++;
    sum += value;
    lowest = fmin(lowest, value);
    highest = fmax(highest, value);
  }
  if (defined == 0) return NAN;
  const double mean = sum / (double)defined;
  if (statistic == MEASURES_MEAN) return mean;
  if (statistic == MEASURES_LOWEST) return lowest;
  if (statistic == MEASURES_HIGHEST) return highest;
  for (int64_t r = first; r < first + n; r++) {
    const double difference = table->rows[r].values[measure] - mean;
    if (!isnan(difference)) squares += difference * difference;
  }
  return defined < 2 ? NAN : sqrt(squares / (double)(defined - 1));
}

/* "auc over 2 of 5": the measures that are undefined for some of the networks; left as it is where there is none. */
static void write_undefined(const struct measures_table *table, int64_t first, int64_t n, char note[static 192]) {
  size_t used = 0;
  for (int m = 0; m < table->n_measures; m++) {
    int64_t defined = 0;
    for (int64_t r = first; r < first + n; r++) defined += !isnan(table->rows[r].values[m]);
    if (defined == 0 || defined == n) continue;
    snprintf(note + used, 192 - used, "%s%s over %" PRId64 " of %" PRId64, used ? ", " : "", table->names[m], defined,
             n);
    used = strlen(note);
  }
}

void measures_add_statistic(struct measures_table *table, const char *name, enum measures_statistic statistic,
                            int64_t first, int64_t n) {
  struct measures_row *row = next_row(table, name);
  for (int m = 0; m < table->n_measures; m++) row->values[m] = statistic_of(table, m, statistic, first, n);
  write_undefined(table, first, n, table->undefined);
}

/* ---- printing ---------------------------------------------------------------------------------------------------- */

enum { MIN_WIDTH = 8, ROWS_SHOWN = 32 };

static int width_of(const struct measures_table *table, int measure) {
  const int width = text_columns(table->names[measure]);
  return width < MIN_WIDTH ? MIN_WIDTH : width;
}

void measures_print(FILE *stream, const struct measures_table *table, int64_t summary) {
  char text[TEXT_SIZE];
  const int64_t first = table->n_rows - summary > ROWS_SHOWN ? table->n_rows - summary : 0;
  int names = text_columns(table->title);
  for (int64_t r = first; r < table->n_rows; r++)
    if (text_columns(table->rows[r].name) > names) names = text_columns(table->rows[r].name);
  fprintf(stream, "%-*s  %7s", names, table->title, "rows");
  for (int m = 0; m < table->n_measures; m++) fprintf(stream, "  %*s", width_of(table, m), table->names[m]);
  fputc('\n', stream);
  for (int64_t r = first; r < table->n_rows; r++) {
    const struct measures_row *row = &table->rows[r];
    fprintf(stream, "%-*s  %7s", names, row->name, row->rows ? text_count(row->rows, text) : "");
    for (int m = 0; m < table->n_measures; m++)
      fprintf(stream, "  %*s", width_of(table, m), isnan(row->values[m]) ? "-" : text_loss(row->values[m], text));
    fputc('\n', stream);
  }
  if (*table->undefined) fprintf(stream, "statistics of %s, where it is defined\n", table->undefined);
}
