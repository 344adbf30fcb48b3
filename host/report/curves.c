/* Charts of training histories. */
#include "report/curves.h"

#include <inttypes.h>
#include <stdio.h>

#include "report/text.h"

enum { MAX_POINTS = 400, LAYERS_SHOWN = 12, NAME_COLUMNS = 24 };

typedef double (*value_at)(const struct history *history, int64_t point, int number, int32_t layer);

static double number_at(const struct history *history, int64_t point, int number, int32_t layer) {
  (void)layer;
  return history_number(history, point, (enum history_number)number);
}

static double layer_at(const struct history *history, int64_t point, int number, int32_t layer) {
  return history_layer(history, point, layer, (enum history_layer)number);
}

static bool add_series(struct chart *chart, const char *name, int color, enum chart_style style,
                       const struct history *history, value_at value, int number, int32_t layer) {
  struct chart_series *series = chart_add(chart, name, color, style, history->points);
  if (!series) return false;
  for (int64_t point = 0; point < history->points; point++) {
    series->x[point] = history_number(history, point, HISTORY_EPOCH);
    series->y[point] = value(history, point, number, layer);
  }
  chart_thin(series, MAX_POINTS);
  return true;
}

const char *curves_epochs(const struct curves_run *runs, int n_runs, char text[TEXT_SIZE]) {
  int64_t fewest = runs[0].history->stride, most = fewest;
  for (int r = 1; r < n_runs; r++) {
    const int64_t stride = runs[r].history->stride;
    if (stride < fewest) fewest = stride;
    if (stride > most) most = stride;
  }
  if (most <= 1)
    snprintf(text, TEXT_SIZE, "epoch");
  else /* a power of 2 */
    snprintf(text, TEXT_SIZE, "epoch (%severy %" PRId64 "%s is drawn)", fewest == most ? "" : "of some runs ", most,
             most % 10 == 2 && most % 100 != 12 ? "nd" : "th");
  return text;
}

static struct chart *add_chart(struct figure *figure, const struct curves_run *runs, int n_runs, const char *title,
                               const char *y_label) {
  char epochs[TEXT_SIZE];
  struct chart *chart = figure_add(figure, title, curves_epochs(runs, n_runs, epochs), y_label);
  if (chart) chart->whole_x = true;
  return chart;
}

/* A line that a chart shows of each run. */
struct line {
  enum history_number number;
  const char *name; /* "training"; "" when the run's name suffices */
};

/* Adds a chart with these lines of every run. With one run, lines differ by color; with several, runs differ by color
 * and lines by style. */
static bool add_lines(struct figure *figure, const struct curves_run *runs, int n_runs, const char *title,
                      const char *y_label, const struct line *lines, int n_lines) {
  struct chart *chart = NULL;
  for (int r = 0; r < n_runs; r++)
    for (int i = 0; i < n_lines; i++) {
      if (!history_has(runs[r].history, lines[i].number)) continue;
      if (!chart && !(chart = add_chart(figure, runs, n_runs, title, y_label))) return false;
      char run[TEXT_SIZE], name[TEXT_SIZE + 32];
      const char *separator = n_runs > 1 && *lines[i].name ? " " : "";
      snprintf(name, sizeof name, "%s%s%s", n_runs > 1 ? text_label(runs[r].name, NAME_COLUMNS, run) : "", separator,
               lines[i].name);
      if (!add_series(chart, *name ? name : NULL, n_runs > 1 ? r : i,
                      n_runs > 1 && i + 1 < n_lines ? CHART_DASHED : CHART_LINE, runs[r].history, number_at,
                      (int)lines[i].number, 0))
        return false;
    }
  if (!chart) return true;
  if (lines[0].number == HISTORY_TRAIN_LOSS || lines[0].number == HISTORY_VALIDATION_LOSS) chart_choose_scale(chart);
  chart->from_zero = lines[0].number == HISTORY_LEARNING_RATE || lines[0].number == HISTORY_ROWS_PER_SECOND;
  return true;
}

bool curves_add_loss(struct figure *figure, const struct curves_run *runs, int n_runs) {
  static const struct line lines[] = {{HISTORY_TRAIN_LOSS, "training"}, {HISTORY_VALIDATION_LOSS, "validation"}};
  static const struct line training[] = {{HISTORY_TRAIN_LOSS, ""}}, validation[] = {{HISTORY_VALIDATION_LOSS, ""}};
  bool other = false;
  for (int r = 0; r < n_runs; r++) other |= runs[r].history->other_loss;
  if (!other) return add_lines(figure, runs, n_runs, "Loss", "loss", lines, 2);
  return add_lines(figure, runs, n_runs, "Training loss, weighted or smoothed", "loss as trained", training, 1) &&
         add_lines(figure, runs, n_runs, "Validation loss, not weighted", "loss", validation, 1);
}

bool curves_add_measures(struct figure *figure, const struct curves_run *runs, int n_runs) {
  static const struct line accuracy[] = {{HISTORY_VALIDATION_ACCURACY, ""}};
  static const struct line auc[] = {{HISTORY_VALIDATION_AUC, ""}};
  static const struct line rmse[] = {{HISTORY_VALIDATION_RMSE, ""}};
  static const struct line r2[] = {{HISTORY_VALIDATION_R2, ""}};
  return add_lines(figure, runs, n_runs, "Validation accuracy", "accuracy", accuracy, 1) &&
         add_lines(figure, runs, n_runs, "Validation AUC", "area under the ROC curve", auc, 1) &&
         add_lines(figure, runs, n_runs, "Validation RMSE", "rmse", rmse, 1) &&
         add_lines(figure, runs, n_runs, "Validation R2", "r2", r2, 1);
}

bool curves_add_learning_rate(struct figure *figure, const struct curves_run *runs, int n_runs) {
  static const struct line lines[] = {{HISTORY_LEARNING_RATE, ""}};
  return add_lines(figure, runs, n_runs, "Learning rate", "learning rate", lines, 1);
}

bool curves_add_speed(struct figure *figure, const struct curves_run *runs, int n_runs) {
  static const struct line lines[] = {{HISTORY_ROWS_PER_SECOND, ""}};
  return add_lines(figure, runs, n_runs, "Speed", "training rows per second", lines, 1);
}

/* ---- layers ----------------------------------------------------------------------------------------------------- */

static const struct layer_chart {
  const char *title, *y_label;
  bool log, from_zero;
} layer_charts[] = {
    [HISTORY_LAYER_GRADIENT_NORM] = {"Gradient norm", "norm", true, false},
    [HISTORY_LAYER_UPDATE_RATIO] = {"Update-to-weight ratio", "ratio of norms", true, false},
    [HISTORY_LAYER_ACTIVATION_MEAN] = {"Mean activation", "mean", false, false},
    [HISTORY_LAYER_ACTIVATION_STD] = {"Standard deviation of activations", "standard deviation", false, true},
    [HISTORY_LAYER_DEAD_FRACTION] = {"Dead units", "share of the layer", false, true},
};

/* Adds an empty chart for a layer statistic, titled "<title><more>". */
static struct chart *add_layer_chart(struct figure *figure, const struct curves_run *runs, int n_runs,
                                     enum history_layer number, const char *more) {
  const struct layer_chart *kind = &layer_charts[number];
  char title[96];
  snprintf(title, sizeof title, "%s%s", kind->title, more);
  struct chart *chart = add_chart(figure, runs, n_runs, title, kind->y_label);
  if (!chart) return NULL;
  chart->log_y = kind->log;
  chart->from_zero = kind->from_zero;
  return chart;
}

/* The i-th of `shown` layers evenly spread over 1 .. layers. */
static int32_t spread(int32_t layers, int32_t shown, int32_t i) {
  return shown == 1 ? layers : 1 + (int32_t)((int64_t)i * (layers - 1) / (shown - 1));
}

static bool add_layers_of_one(struct figure *figure, const struct curves_run *run, enum history_layer number) {
  const int32_t layers = run->history->layers, shown = layers < LAYERS_SHOWN ? layers : LAYERS_SHOWN;
  char name[32];
  struct chart *chart = add_layer_chart(figure, run, 1, number, " by layer");
  if (!chart) return false;
  for (int32_t i = 0; i < shown; i++) {
    const int32_t layer = spread(layers, shown, i);
    snprintf(name, sizeof name, "layer %" PRId32, layer);
    const int color = CHART_RAMP + (shown > 1 ? (int)(i * CHART_RAMP_STEPS / (shown - 1)) : 0);
    if (!add_series(chart, name, color, CHART_LINE, run->history, layer_at, (int)number, layer)) return false;
  }
  return true;
}

static bool add_layer_of_all(struct figure *figure, const struct curves_run *runs, int n_runs,
                             enum history_layer number, int32_t layer) {
  char more[32];
  snprintf(more, sizeof more, ", layer %" PRId32, layer);
  struct chart *chart = add_layer_chart(figure, runs, n_runs, number, more);
  if (!chart) return false;
  for (int r = 0; r < n_runs; r++)
    if (layer <= runs[r].history->layers &&
        !add_series(chart, runs[r].name, r, CHART_LINE, runs[r].history, layer_at, (int)number, layer))
      return false;
  return true;
}

bool curves_add_layers(struct figure *figure, const struct curves_run *runs, int n_runs, enum history_layer number) {
  int32_t layers = 0;
  for (int r = 0; r < n_runs; r++)
    if (runs[r].history->layers > layers) layers = runs[r].history->layers;
  if (layers == 0) return true;
  if (n_runs == 1) return add_layers_of_one(figure, runs, number);
  const int32_t shown = layers < LAYERS_SHOWN ? layers : LAYERS_SHOWN;
  for (int32_t i = 0; i < shown; i++)
    if (!add_layer_of_all(figure, runs, n_runs, number, spread(layers, shown, i))) return false;
  return true;
}
