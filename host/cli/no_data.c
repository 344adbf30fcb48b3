/* Finds them from the lowest and the highest three values of each column. */
#include "cli/no_data.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "report/text.h"

enum { ROWS_SEEN = 100000, SHOWN = 4, NAME_COLUMNS = 28 };

/* The three lowest different values of a column, or with the sign turned the three highest. */
struct end {
  float values[3];
  int n;
  int64_t repeats; /* of values[0] */
};

struct ends {
  struct end low, high;
};

static void add_value(struct end *end, float x) {
  int place = 0;
  while (place < end->n && end->values[place] < x) place++;
  if (place == 0 && end->n && x == end->values[0]) end->repeats++;
  if (place == 3 || (place < end->n && x == end->values[place])) return;
  for (int i = end->n < 2 ? end->n : 2; i > place; i--) end->values[i] = end->values[i - 1];
  end->values[place] = x;
  if (end->n < 3) end->n++;
  if (place == 0) end->repeats = 1;
}

/* Whether programs write this number for "no data": 99, -999.9, 99999, the least 16-bit number, or one beyond all
 * measurements. */
static bool is_customary(float value) {
  char text[TEXT_SIZE];
  const float size = fabsf(value);
  if (size >= 1e30F || value == -32768) return true;
  text_float(size, text);
  return size >= 99 && strspn(text, "9.") == strlen(text);
}

/* Does the lowest value of `end` stand apart? `far`: the other end of the range. Two values are a flag, not a range,
 * and 0 is a measurement. */
static bool stands_apart(const struct end *end, float far) {
  const float value = end->values[0];
  const double rest = (double)far - (double)end->values[1], gap = (double)end->values[1] - (double)value;
  if (end->n < 2 || value == 0) return false;
  if (fabsf(value) >= 1e30F) return gap >= rest;
  if (end->n < 3 || end->repeats < 2) return false;
  if (is_customary(value)) return gap >= rest;
  return end->repeats > 2 && end->values[2] < far && gap >= 10 * rest;
}

/* Columns of numbers: the inputs, then the targets of a regression. */
static int64_t count_columns(const descent_dataset *data) {
  const bool values = descent_dataset_task(data) == DESCENT_TASK_REGRESSION;
  return descent_dataset_inputs(data) + (values ? descent_dataset_targets(data) : 0);
}

static const char *column_name(const descent_dataset *data, int64_t column) {
  const int64_t inputs = descent_dataset_inputs(data);
  return column < inputs ? descent_dataset_input_name(data, column)
                         : descent_dataset_target_name(data, column - inputs);
}

/* Row `i` of these columns; false after the last row. */
static bool read_row(const descent_dataset *data, int64_t i, float *row) {
  const int64_t inputs = descent_dataset_inputs(data);
  if (i >= descent_dataset_rows(data) || descent_dataset_row(data, i, row) != DESCENT_OK) return false;
  return count_columns(data) == inputs || descent_dataset_target(data, i, row + inputs) == DESCENT_OK;
}

static struct ends *find_ends(const descent_dataset *data) {
  const int64_t columns = count_columns(data), every = (descent_dataset_rows(data) - 1) / ROWS_SEEN + 1;
  struct ends *ends = calloc((size_t)columns, sizeof *ends);
  float *row = malloc((size_t)columns * sizeof *row);
  for (int64_t i = 0; ends && row && read_row(data, i, row); i += every)
    for (int64_t j = 0; j < columns; j++) {
      if (isnan(row[j])) continue;
      add_value(&ends[j].low, row[j]);
      add_value(&ends[j].high, -row[j]);
    }
  if (!row) {
    free(ends);
    ends = NULL;
  }
  free(row);
  return ends;
}

/* A value that stands apart, and the range of the others. */
struct outlier {
  int64_t column, rows;
  float value, low, high;
};

static int find_outliers(const descent_dataset *data, const struct ends *ends, struct outlier *found) {
  const int64_t columns = count_columns(data);
  int n = 0;
  for (int64_t j = 0; j < columns && n < SHOWN; j++) {
    const struct end *low = &ends[j].low, *high = &ends[j].high;
    if (stands_apart(low, -high->values[0]))
      found[n++] = (struct outlier){j, 0, low->values[0], low->values[1], -high->values[0]};
    else if (stands_apart(high, -low->values[0]))
      found[n++] = (struct outlier){j, 0, -high->values[0], low->values[0], -high->values[1]};
  }
  return n;
}

/* Counts each in all rows; whether any cell is missing. */
static bool count_rows(const descent_dataset *data, struct outlier *found, int n) {
  const int64_t columns = count_columns(data);
  float *row = malloc((size_t)columns * sizeof *row);
  bool missing = false;
  for (int64_t i = 0; row && read_row(data, i, row); i++) {
    for (int o = 0; o < n; o++) found[o].rows += row[found[o].column] == found[o].value;
    for (int64_t j = 0; j < columns; j++) missing |= isnan(row[j]) != 0;
  }
  free(row);
  return missing;
}

/* --missing with these values and what counted as missing before. */
static void print_option(FILE *stream, const struct outlier *found, int n, const char *missing, bool any_missing) {
  char text[TEXT_SIZE];
  const char *before = missing ? missing : any_missing ? ",?,NA,N/A,NaN,null" : NULL;
  fputs("--missing='", stream);
  for (int o = 0; o < n; o++) {
    bool listed = false;
    for (int other = 0; other < o; other++) listed |= found[other].value == found[o].value;
    if (!listed) fprintf(stream, "%s%s", o ? "," : "", text_float(found[o].value, text));
  }
  if (before) text_print(stream, ",%s", before);
  fputs("'\n", stream);
}

void no_data_print(FILE *stream, const descent_dataset *training, const char *missing) {
  struct outlier found[SHOWN];
  char name[TEXT_SIZE], value[TEXT_SIZE], low[TEXT_SIZE], high[TEXT_SIZE], count[TEXT_SIZE];
  struct ends *ends = find_ends(training);
  const int n = ends ? find_outliers(training, ends, found) : 0;
  free(ends);
  if (n == 0) return;
  const bool any_missing = count_rows(training, found, n);
  for (int o = 0; o < n; o++) {
    const char *known = column_name(training, found[o].column);
    snprintf(count, sizeof count, "%" PRId64, found[o].column);
    fprintf(stream, "%-12s%s: %s in ", o ? "" : "no data?", text_label(known ? known : count, NAME_COLUMNS, name),
            text_float(found[o].value, value));
    fprintf(stream, "%s row%s, the others between %s and %s\n", text_count(found[o].rows, count),
            found[o].rows == 1 ? "" : "s", text_float(found[o].low, low), text_float(found[o].high, high));
  }
  fprintf(stream, "            where %s for a missing cell, use ", n == 1 ? "it stands" : "they stand");
  print_option(stream, found, n, missing, any_missing);
}
