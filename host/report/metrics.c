/* The metrics of each task, defined once for the table, the JSON of evaluate and the run log. */
#include "report/metrics.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "report/text.h"

enum { CLASSES_SHOWN = 12, NAME_COLUMNS = 20 };

struct measure {
  const char *name;
  size_t offset; /* of a double in descent_metrics */
  unsigned tasks;
};
#define FOR(task) (1U << DESCENT_TASK_##task)
static const struct measure measures[] = {
    {"loss", offsetof(descent_metrics, loss), FOR(BINARY) | FOR(CLASSES) | FOR(REGRESSION)},
    {"accuracy", offsetof(descent_metrics, accuracy), FOR(BINARY) | FOR(CLASSES)},
    {"balanced_accuracy", offsetof(descent_metrics, balanced_accuracy), FOR(BINARY) | FOR(CLASSES)},
    {"auc", offsetof(descent_metrics, auc), FOR(BINARY)},
    {"top_k_accuracy", offsetof(descent_metrics, top_k_accuracy), FOR(CLASSES)},
    {"rmse", offsetof(descent_metrics, rmse), FOR(REGRESSION)},
    {"r2", offsetof(descent_metrics, r2), FOR(REGRESSION)},
};
enum { MEASURES = sizeof measures / sizeof *measures };

static bool applies(const struct measure *measure, descent_task task) { return measure->tasks & 1U << task; }

static double value_of(const struct measure *measure, const descent_metrics *metrics) {
  return *(const double *)((const char *)metrics + measure->offset);
}

static const char *class_label(const descent_network *network, int64_t class_index, char out[TEXT_SIZE]) {
  const char *name = descent_network_class_name(network, class_index);
  if (name) return text_label(name, NAME_COLUMNS, out);
  snprintf(out, TEXT_SIZE, "%" PRId64, class_index);
  return out;
}

bool report_metrics_add(cJSON *object, const char *prefix, descent_task task, const descent_metrics *metrics) {
  char key[64];
  for (int i = 0; i < MEASURES; i++) {
    if (!applies(&measures[i], task)) continue;
    snprintf(key, sizeof key, "%s%s", prefix, measures[i].name);
    if (!cJSON_AddNumberToObject(object, key, value_of(&measures[i], metrics))) return false;
  }
  if (!metrics->f1) return true;
  snprintf(key, sizeof key, "%sf1", prefix);
  cJSON *f1 = cJSON_AddArrayToObject(object, key);
  for (int64_t k = 0; f1 && k < metrics->classes; k++)
    if (!cJSON_AddItemToArray(f1, cJSON_CreateNumber(metrics->f1[k]))) return false;
  return f1 != NULL;
}

bool report_metrics_add_confusion(cJSON *object, const descent_metrics *metrics) {
  if (!metrics->confusion) return true;
  cJSON *rows = cJSON_AddArrayToObject(object, "confusion");
  for (int64_t i = 0; rows && i < metrics->classes; i++) {
    cJSON *row = cJSON_CreateArray();
    if (!cJSON_AddItemToArray(rows, row)) return false;
    for (int64_t j = 0; j < metrics->classes; j++)
      if (!cJSON_AddItemToArray(row, cJSON_CreateNumber((double)metrics->confusion[i * metrics->classes + j])))
        return false;
  }
  return rows != NULL;
}

static void print_name(FILE *stream, const char *name, int columns) {
  fprintf(stream, "%s%*s", name, columns - text_columns(name), "");
}

static void print_value(FILE *stream, double value) {
  char text[TEXT_SIZE];
  fprintf(stream, "  %10s", isnan(value) ? "-" : text_loss(value, text));
}

static int64_t f1_rows(const struct metrics_column *column) {
  return column->metrics->f1 && column->metrics->classes <= CLASSES_SHOWN ? column->metrics->classes : 0;
}

/* With k = number of classes, top-k accuracy is always 1. */
static bool top_k_is_informative(const struct metrics_column *column) {
  return column->metrics->top_k && column->metrics->top_k < column->metrics->classes;
}

void report_metrics_rows(const descent_network *network, const struct metrics_column *columns, int n_columns,
                         metrics_row visit, void *user) {
  descent_task task = descent_network_task(network);
  char text[TEXT_SIZE], name[TEXT_SIZE + 32];
  double values[METRICS_COLUMNS];
  if (n_columns > METRICS_COLUMNS) n_columns = METRICS_COLUMNS;
  for (int i = 0; i < MEASURES; i++) {
    if (!applies(&measures[i], task)) continue;
    bool top_k = measures[i].offset == offsetof(descent_metrics, top_k_accuracy);
    if (top_k && !top_k_is_informative(columns)) continue;
    const bool balanced = measures[i].offset == offsetof(descent_metrics, balanced_accuracy);
    if (top_k)
      snprintf(name, sizeof name, "top-%" PRId64 " accuracy", columns[0].metrics->top_k);
    else
      snprintf(name, sizeof name, "%s", balanced ? "balanced accuracy" : measures[i].name);
    for (int c = 0; c < n_columns; c++) values[c] = value_of(&measures[i], columns[c].metrics);
    visit(user, name, values, n_columns);
  }
  for (int64_t k = 0; k < f1_rows(columns); k++) {
    snprintf(name, sizeof name, "f1 %s", class_label(network, k, text));
    for (int c = 0; c < n_columns; c++) values[c] = columns[c].metrics->f1[k];
    visit(user, name, values, n_columns);
  }
}

struct metrics_table {
  FILE *stream;
  int width; /* of the names */
};

static void widen(void *user, const char *name, const double *values, int n) {
  struct metrics_table *table = user;
  (void)values, (void)n;
  if (text_columns(name) > table->width) table->width = text_columns(name);
}

static void print_row(void *user, const char *name, const double *values, int n) {
  const struct metrics_table *table = user;
  print_name(table->stream, name, table->width);
  for (int c = 0; c < n; c++) print_value(table->stream, values[c]);
  fputc('\n', table->stream);
}

void report_metrics_print(FILE *stream, const descent_network *network, const struct metrics_column *columns,
                          int n_columns) {
  enum { MIN_WIDTH = 8 };
  char text[TEXT_SIZE];
  struct metrics_table table = {stream, MIN_WIDTH};
  report_metrics_rows(network, columns, n_columns, widen, &table);
  print_name(stream, "", table.width);
  for (int c = 0; c < n_columns; c++) fprintf(stream, "  %10s", columns[c].title);
  fputc('\n', stream);
  print_name(stream, "rows", table.width);
  for (int c = 0; c < n_columns; c++) fprintf(stream, "  %10s", text_count(columns[c].metrics->rows, text));
  fputc('\n', stream);
  report_metrics_rows(network, columns, n_columns, print_row, &table);
}

void report_metrics_print_confusion(FILE *stream, const descent_network *network, const struct metrics_column *column) {
  const descent_metrics *m = column->metrics;
  if (!m->confusion || m->classes > CLASSES_SHOWN) return;
  char name[TEXT_SIZE];
  int names = 0, widths[CLASSES_SHOWN];
  for (int64_t k = 0; k < m->classes; k++) {
    widths[k] = text_columns(class_label(network, k, name));
    if (widths[k] > names) names = widths[k];
    for (int64_t i = 0; i < m->classes; i++) {
      int digits = snprintf(NULL, 0, "%" PRId64, m->confusion[i * m->classes + k]);
      if (digits > widths[k]) widths[k] = digits;
    }
  }
  fprintf(stream, "\n%s confusion (row: true class, column: predicted)\n", column->title);
  print_name(stream, "", names);
  for (int64_t k = 0; k < m->classes; k++) {
    const char *label = class_label(network, k, name);
    fprintf(stream, "  %*s%s", widths[k] - text_columns(label), "", label);
  }
  fputc('\n', stream);
  for (int64_t i = 0; i < m->classes; i++) {
    print_name(stream, class_label(network, i, name), names);
    for (int64_t k = 0; k < m->classes; k++)
      fprintf(stream, "  %*" PRId64, widths[k], m->confusion[i * m->classes + k]);
    fputc('\n', stream);
  }
}
