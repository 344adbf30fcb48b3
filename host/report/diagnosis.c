/* Charts of predictions against true values. */
#include "report/diagnosis.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/probability.h"

enum { BINS = 10, CURVE_STEPS = 400, MAX_POINTS = 1500, CLASSES_DRAWN = 64, TARGETS_DRAWN = 6 };
static const char out_of_memory[] = "out of memory";

const char *const diagnosis_names[DIAGNOSES] = {
#define DIAGNOSIS_NAME(NAME, name) name,
    DIAGNOSIS_MAP(DIAGNOSIS_NAME)};

bool diagnosis_applies(enum diagnosis kind, descent_task task) {
  if (kind == DIAGNOSIS_ROC) return task == DESCENT_TASK_BINARY;
  return (kind == DIAGNOSIS_RESIDUALS || kind == DIAGNOSIS_FIT) == (task == DESCENT_TASK_REGRESSION);
}

/* ---- predictions ------------------------------------------------------------------------------------------------ */

descent_status predictions_make(const descent_network *network, descent_device *device, const descent_dataset *dataset,
                                const descent_predict_options *options, struct predictions *p) {
  *p = (struct predictions){.network = network,
                            .rows = descent_dataset_rows(dataset),
                            .outputs = descent_network_outputs(network),
                            .targets = descent_dataset_targets(dataset)};
  size_t bytes, known;
  if (!__builtin_mul_overflow((size_t)p->rows * sizeof(float), (size_t)p->outputs, &bytes) &&
      !__builtin_mul_overflow((size_t)p->rows * sizeof(double), (size_t)p->targets, &known)) {
    p->raw = malloc(bytes);
    p->truth = malloc(known);
  }
  descent_status status = p->raw && p->truth ? DESCENT_OK : DESCENT_ERROR_MEMORY;
  if (status == DESCENT_OK) status = descent_predict_raw_with(network, device, dataset, options, p->raw);
  for (int64_t i = 0; i < p->rows * p->targets && status == DESCENT_OK; i++)
    p->truth[i] = descent_dataset_target_value(dataset, i / p->targets, i % p->targets);
  if (status != DESCENT_OK) predictions_clear(p);
  return status;
}

void predictions_clear(struct predictions *p) {
  free(p->raw);
  free(p->truth);
  *p = (struct predictions){0};
}

/* ---- ROC -------------------------------------------------------------------------------------------------------- */

struct scored {
  float score;
  bool positive;
};

static int by_descending_score(const void *a, const void *b) {
  const float left = ((const struct scored *)a)->score, right = ((const struct scored *)b)->score;
  return (left < right) - (left > right);
}

/* Computes the points of the curve, x and y (room for 2 CURVE_STEPS + 3), and the area under it; returns their number,
 * 0 when a class is absent. Rows of equal score form one point. A point close to the previous one is omitted. */
static int64_t roc_points(struct scored *rows, int64_t n, double *x, double *y, double *area) {
  int64_t positives = 0, kept = 1;
  for (int64_t i = 0; i < n; i++) positives += rows[i].positive;
  if (positives == 0 || positives == n) return 0;
  qsort(rows, (size_t)n, sizeof *rows, by_descending_score);
  int64_t right = 0, wrong = 0;
  double before_x = 0, before_y = 0;
  x[0] = y[0] = *area = 0;
  for (int64_t i = 0; i < n; i++) {
    right += rows[i].positive, wrong += !rows[i].positive;
    if (i + 1 < n && rows[i + 1].score == rows[i].score) continue;
    const double now_x = (double)wrong / (double)(n - positives), now_y = (double)right / (double)positives;
    *area += (now_x - before_x) * (now_y + before_y) / 2;
    before_x = now_x, before_y = now_y;
    if (i + 1 < n && now_y - y[kept - 1] + now_x - x[kept - 1] < 1.0 / CURVE_STEPS) continue;
    x[kept] = now_x, y[kept] = now_y;
    kept++;
  }
  return kept;
}

/* Adds a dashed reference line from (x0, y0) to (x1, y1). */
static bool add_reference(struct chart *chart, double x0, double y0, double x1, double y1) {
  struct chart_series *line = chart_add(chart, NULL, CHART_REFERENCE, CHART_DASHED, 2);
  if (!line) return false;
  line->x[0] = x0, line->y[0] = y0, line->x[1] = x1, line->y[1] = y1;
  return true;
}

static struct chart *add_unit_chart(struct figure *figure, const char *title, const char *x_label,
                                    const char *y_label) {
  struct chart *chart = figure_add(figure, title, x_label, y_label);
  if (!chart || !add_reference(chart, 0, 0, 1, 1)) return NULL;
  chart->x_low = chart->y_low = 0;
  chart->x_high = chart->y_high = 1;
  return chart;
}

static const char *add_roc(struct figure *figure, const struct predictions *p) {
  enum { ROOM = 2 * CURVE_STEPS + 3 };
  struct scored *rows = malloc((size_t)p->rows * sizeof *rows);
  double x[ROOM], y[ROOM], area;
  if (!rows) return out_of_memory;
  for (int64_t i = 0; i < p->rows; i++) rows[i] = (struct scored){p->raw[i], p->truth[i] > 0.5};
  const int64_t n = roc_points(rows, p->rows, x, y, &area);
  free(rows);
  if (n == 0) return "one of the two classes has no rows";
  char name[64];
  snprintf(name, sizeof name, "area under the curve %.4f", area);
  struct chart *chart = add_unit_chart(figure, "ROC", "false positive rate", "true positive rate");
  struct chart_series *curve = chart ? chart_add(chart, name, 0, CHART_LINE, n) : NULL;
  if (!curve) return out_of_memory;
  memcpy(curve->x, x, (size_t)n * sizeof *x);
  memcpy(curve->y, y, (size_t)n * sizeof *y);
  return NULL;
}

/* ---- calibration ------------------------------------------------------------------------------------------------ */

/* The probability of class 1, or of the most probable of more classes, and whether that is the true class.
 * `probabilities` (classes) is scratch. */
static double predicted_probability(const struct predictions *p, int64_t row, double *probabilities, bool *correct) {
  const float *logits = p->raw + row * p->outputs;
  const int64_t shown = p->outputs == 1 ? 1 : predicted_class(logits, p->outputs, 0.5);
  probabilities_from_logits(logits, p->outputs, probabilities);
  *correct = (int64_t)p->truth[row] == shown;
  return probabilities[shown];
}

static const char *add_calibration(struct figure *figure, const struct predictions *p) {
  double total[BINS] = {0}, probability[BINS] = {0}, frequency[BINS] = {0}, error = 0;
  double *probabilities = malloc((size_t)(p->outputs + 1) * sizeof *probabilities);
  if (!probabilities) return out_of_memory;
  for (int64_t i = 0; i < p->rows; i++) {
    bool correct;
    const double share = predicted_probability(p, i, probabilities, &correct);
    const int b = share >= 1 ? BINS - 1 : share > 0 ? (int)(share * BINS) : 0;
    total[b]++, probability[b] += share, frequency[b] += correct;
  }
  free(probabilities);
  for (int b = 0; b < BINS; b++) error += fabs(frequency[b] - probability[b]) / (double)p->rows;
  char name[64];
  snprintf(name, sizeof name, "model, expected calibration error %.4f", error);
  const char *positive = descent_network_class_name(p->network, 1);
  char predicted[200];
  snprintf(predicted, sizeof predicted, "probability of %.150s",
           p->outputs > 1 ? "the prediction"
           : positive     ? positive
                          : "class 1");
  struct chart *chart = add_unit_chart(figure, "Calibration", predicted, "observed frequency");
  struct chart_series *bars = chart ? chart_add(chart, "share of rows", 5, CHART_BARS, BINS) : NULL;
  for (int b = 0; bars && b < BINS; b++) bars->x[b] = (b + 0.5) / BINS, bars->y[b] = total[b] / (double)p->rows;
  struct chart_series *line = bars ? chart_add(chart, name, 0, CHART_LINE_POINTS, BINS) : NULL;
  if (!line) return out_of_memory;
  line->n = 0;
  for (int b = 0; b < BINS; b++) {
    if (total[b] == 0) continue;
    line->x[line->n] = probability[b] / total[b], line->y[line->n] = frequency[b] / total[b];
    line->n++;
  }
  return NULL;
}

/* ---- confusion -------------------------------------------------------------------------------------------------- */

static const char *add_confusion(struct figure *figure, const descent_network *network, const descent_metrics *m) {
  if (!m->confusion || m->classes > CLASSES_DRAWN) return "more than 64 classes cannot be drawn";
  struct chart *chart = figure_add(figure, "Confusion matrix", "predicted class", "true class");
  if (!chart || !chart_add_matrix(chart, m->classes, m->confusion)) return out_of_memory;
  for (int64_t k = 0; k < m->classes; k++) {
    const char *name = descent_network_class_name(network, k);
    if (name && !(chart->class_names[k] = strdup(name))) return out_of_memory;
  }
  return NULL;
}

/* ---- regression ------------------------------------------------------------------------------------------------- */

static bool add_points(struct chart *chart, const struct predictions *p, int64_t target, bool residuals) {
  const int64_t every = (p->rows - 1) / MAX_POINTS + 1, n = (p->rows - 1) / every + 1;
  char name[64];
  snprintf(name, sizeof name, "one row in %" PRId64, every);
  double low = INFINITY, high = -INFINITY;
  struct chart_series *points = chart_add(chart, every == 1 ? NULL : name, 0, CHART_POINTS, n);
  if (!points) return false;
  double shift, scale;
  descent_network_target_scaling(p->network, target, &shift, &scale);
  for (int64_t i = 0; i < n; i++) {
    const double predicted = shift + scale * (double)p->raw[i * every * p->outputs + target];
    const double known = p->truth[i * every * p->targets + target];
    points->x[i] = predicted;
    points->y[i] = residuals ? known - predicted : known;
    low = fmin(low, predicted), high = fmax(high, predicted);
  }
  return add_reference(chart, low, residuals ? 0 : low, high, residuals ? 0 : high);
}

static const char *add_values(struct figure *figure, const struct predictions *p, bool residuals) {
  for (int64_t k = 0; k < p->targets && k < TARGETS_DRAWN; k++) {
    const char *target = descent_network_target_name(p->network, k);
    char title[200];
    snprintf(title, sizeof title, "%s%s%.150s", residuals ? "Residuals" : "True vs. predicted", target ? ": " : "",
             target ? target : "");
    struct chart *chart = figure_add(figure, title, "predicted", residuals ? "true - predicted" : "true");
    if (!chart || !add_points(chart, p, k, residuals)) return out_of_memory;
  }
  return NULL;
}

const char *diagnosis_add(struct figure *figure, enum diagnosis kind, const struct predictions *p,
                          const descent_metrics *metrics) {
  switch (kind) {
    case DIAGNOSIS_ROC: return add_roc(figure, p);
    case DIAGNOSIS_CONFUSION: return add_confusion(figure, p->network, metrics);
    case DIAGNOSIS_CALIBRATION: return add_calibration(figure, p);
    case DIAGNOSIS_RESIDUALS: return add_values(figure, p, true);
    default: return add_values(figure, p, false);
  }
}
