/* Building charts, and their axes. */
#include "report/chart.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- parts ------------------------------------------------------------------------------------------------------ */

static void series_clear(struct chart_series *series) {
  free(series->name);
  free(series->x);
  free(series->y);
}

static void chart_clear(struct chart *chart) {
  for (int s = 0; s < chart->n_series; s++) series_clear(&chart->series[s]);
  for (int64_t k = 0; chart->class_names && k < chart->classes; k++) free(chart->class_names[k]);
  free(chart->series);
  free(chart->class_names);
  free(chart->counts);
  free(chart->title);
  free(chart->x_label);
  free(chart->y_label);
}

void figure_clear(struct figure *figure) {
  for (int i = 0; i < figure->n; i++) chart_clear(&figure->charts[i]);
  free(figure->charts);
  *figure = (struct figure){0};
}

struct chart *figure_add(struct figure *figure, const char *title, const char *x_label, const char *y_label) {
  struct chart *charts = realloc(figure->charts, ((size_t)figure->n + 1) * sizeof *charts);
  if (!charts) return NULL;
  figure->charts = charts;
  struct chart *chart = &charts[figure->n++];
  *chart = (struct chart){.title = strdup(title), .x_label = strdup(x_label), .y_label = strdup(y_label)};
  chart->x_low = chart->x_high = chart->y_low = chart->y_high = NAN;
  if (chart->title && chart->x_label && chart->y_label) return chart;
  chart_clear(chart);
  figure->n--;
  return NULL;
}

struct chart_series *chart_add(struct chart *chart, const char *name, int color, enum chart_style style, int64_t n) {
  struct chart_series *all = realloc(chart->series, ((size_t)chart->n_series + 1) * sizeof *all);
  if (!all) return NULL;
  chart->series = all;
  struct chart_series *series = &all[chart->n_series++];
  *series = (struct chart_series){.name = name ? strdup(name) : NULL, .n = n, .color = color, .style = style};
  series->x = calloc((size_t)n + 1, sizeof *series->x);
  series->y = calloc((size_t)n + 1, sizeof *series->y);
  if ((series->name || !name) && series->x && series->y) return series;
  series_clear(series);
  chart->n_series--;
  return NULL;
}

bool chart_add_matrix(struct chart *chart, int64_t classes, const int64_t *counts) {
  const size_t cells = (size_t)(classes * classes);
  chart->counts = malloc(cells * sizeof *counts);
  chart->class_names = calloc((size_t)classes, sizeof *chart->class_names);
  if (!chart->counts || !chart->class_names) return false;
  memcpy(chart->counts, counts, cells * sizeof *counts);
  chart->classes = classes;
  return true;
}

void chart_thin(struct chart_series *s, int64_t most) {
  if (s->n <= 2 * most) return;
  int64_t kept = 0;
  for (int64_t part = 0; part < most; part++) {
    const int64_t first = s->n * part / most, end = s->n * (part + 1) / most;
    int64_t low = first, high = first;
    for (int64_t i = first; i < end; i++) {
      if (!(s->y[low] <= s->y[i])) low = i; /* also replaces a NaN */
      if (!(s->y[high] >= s->y[i])) high = i;
    }
    const int64_t chosen[2] = {low < high ? low : high, low < high ? high : low};
    for (int i = chosen[0] == chosen[1]; i < 2; i++, kept++) s->x[kept] = s->x[chosen[i]], s->y[kept] = s->y[chosen[i]];
  }
  s->n = kept;
}

/* ---- axes ------------------------------------------------------------------------------------------------------- */

/* Larger values are not drawn, so that the length of an axis is finite. */
static const double MAX_MAGNITUDE = 1e100;

static bool shown(const struct chart *chart, double y) { return fabs(y) <= MAX_MAGNITUDE && (!chart->log_y || y > 0); }

static void find_range(const struct chart *chart, bool of_x, double *low, double *high) {
  *low = INFINITY, *high = -INFINITY;
  for (int s = 0; s < chart->n_series; s++) {
    const struct chart_series *series = &chart->series[s];
    if (!of_x && chart->from_zero) *low = fmin(*low, 0);
    for (int64_t i = 0; i < series->n; i++) {
      if (!shown(chart, series->y[i])) continue;
      const double value = of_x ? series->x[i] : series->y[i];
      *low = fmin(*low, value), *high = fmax(*high, value);
    }
  }
}

void chart_choose_scale(struct chart *chart) {
  enum { RATIO = 100 }; /* below it a linear axis suffices */
  double low, high;
  find_range(chart, false, &low, &high);
  chart->log_y = low > 0 && high / low >= RATIO;
}

/* 1, 2 or 5 times a power of ten, for about five steps over the range. */
static double nice_step(double range) {
  const double rough = range / 5, power = pow(10, floor(log10(rough)));
  const double mantissa = rough / power;
  return power * (mantissa < sqrt(2) ? 1 : mantissa < sqrt(10) ? 2 : mantissa < sqrt(50) ? 5 : 10);
}

/* "250k", "1.5M" */
static void write_scaled(double value, char text[CHART_TICK_SIZE]) {
  const char *suffix = "kMGT";
  value /= 1000;
  while (fabs(value) >= 999.5) value /= 1000, suffix++;
  snprintf(text, CHART_TICK_SIZE, "%.4g%c", value, *suffix);
}

static void add_tick(struct chart_axis *axis, double value, double step, int decimals) {
  if (axis->n == CHART_TICKS || value < axis->low || value > axis->high) return;
  char *text = axis->texts[axis->n];
  const double size = fabs(value);
  if (size < 1e-12 * fmax(fabs(axis->low), fabs(axis->high))) value = 0; /* cancellation error */
  if (value == 0 && decimals > 4)
    snprintf(text, CHART_TICK_SIZE, "0");
  else if (size >= 1e4 && size < 9.995e14 && step > size / 1000) /* else neighbours would look the same */
    write_scaled(value, text);
  else if (value != 0 && (size >= 1e15 || size < 1e-4))
    snprintf(text, CHART_TICK_SIZE, "%.3g", value);
  else
    snprintf(text, CHART_TICK_SIZE, "%.*f", decimals > 0 ? decimals : 0, value);
  axis->ticks[axis->n++] = value;
}

static void linear_axis(struct chart_axis *axis, bool round_out, bool whole) {
  if (axis->low == 0 && axis->high == 0) axis->high = 1;
  if (!(axis->high > axis->low)) { /* a single value: add a margin */
    const double room = whole ? 1 : fabs(axis->low) * 0.1;
    axis->low -= room, axis->high += room;
  }
  double step = nice_step(axis->high - axis->low);
  if (whole && step < 1) step = 1;
  if (round_out) {
    axis->low = floor(axis->low / step + 1e-9) * step;
    axis->high = ceil(axis->high / step - 1e-9) * step;
  }
  const int decimals = (int)fmax(0, fmin(12, -floor(log10(step) + 1e-9)));
  const double slack = 1e-9 * step;
  axis->low -= slack, axis->high += slack;
  double k = ceil(axis->low / step);
  while (k * step <= axis->high && axis->n < CHART_TICKS) add_tick(axis, k++ * step, step, decimals);
  axis->low += slack, axis->high -= slack;
}

static void add_log_tick(struct chart_axis *axis, int factor, int power) {
  const double value = factor * pow(10, power);
  if (axis->n == CHART_TICKS || value < axis->low * (1 - 1e-9) || value > axis->high * (1 + 1e-9)) return;
  char *text = axis->texts[axis->n];
  if (power < -3 || power > 5)
    snprintf(text, CHART_TICK_SIZE, "%de%d", factor, power);
  else
    snprintf(text, CHART_TICK_SIZE, "%.*f", power < 0 ? -power : 0, value);
  axis->ticks[axis->n++] = value;
}

/* Ticks at powers of ten, and at 2 and 5 times them when there are few. */
static void log_axis(struct chart_axis *axis, bool with_room) {
  if (with_room) {
    const double room = fmax(pow(axis->high / axis->low, 0.04), 1.2);
    axis->low /= room, axis->high *= room;
  }
  const int first = (int)ceil(log10(axis->low)), last = (int)floor(log10(axis->high));
  const int step = last - first > 8 ? (last - first) / 8 + 1 : 1;
  const bool few = last - first < 2;
  for (int k = few ? first - 1 : first; k <= last; k += step) {
    add_log_tick(axis, 1, k);
    if (few) add_log_tick(axis, 2, k), add_log_tick(axis, 5, k);
  }
}

static struct chart_axis make_axis(const struct chart *chart, bool of_x) {
  const double fixed_low = of_x ? chart->x_low : chart->y_low, fixed_high = of_x ? chart->x_high : chart->y_high;
  struct chart_axis axis = {.log = !of_x && chart->log_y};
  find_range(chart, of_x, &axis.low, &axis.high);
  if (!(axis.low <= axis.high)) axis.low = axis.log ? 1 : 0, axis.high = axis.log ? 10 : 1; /* nothing to show */
  if (!isnan(fixed_low)) axis.low = fixed_low;
  if (!isnan(fixed_high)) axis.high = fixed_high;
  const bool round_out = !of_x && isnan(fixed_low) && isnan(fixed_high);
  if (axis.log)
    log_axis(&axis, round_out);
  else
    linear_axis(&axis, round_out, of_x && chart->whole_x);
  return axis;
}

struct chart_axis chart_x_axis(const struct chart *chart) {
  return make_axis(chart, true);
}
struct chart_axis chart_y_axis(const struct chart *chart) {
  return make_axis(chart, false);
}

double chart_position(const struct chart_axis *axis, double value) {
  if (!(fabs(value) <= MAX_MAGNITUDE) || (axis->log && value <= 0)) return NAN;
  if (!axis->log) return (value - axis->low) / (axis->high - axis->low);
  return log(value / axis->low) / log(axis->high / axis->low);
}

/* ---- colors ----------------------------------------------------------------------------------------------------- */

uint32_t chart_color(int color) {
  static const uint32_t distinct[CHART_COLORS] = {0x2563c9, 0xc93c52, 0x128060, 0xb06000,
                                                  0x7a4cc8, 0x0c7c96, 0xa3336b, 0x6a6e14};
  static const unsigned char ramp[4][3] = {{63, 111, 216}, {31, 150, 130}, {196, 128, 18}, {214, 68, 94}};
  if (color == CHART_REFERENCE) return 0x8a8f98;
  if (color < CHART_RAMP) return distinct[color % CHART_COLORS];
  const double place = fmin(color - CHART_RAMP, CHART_RAMP_STEPS) * 3.0 / CHART_RAMP_STEPS;
  const int low = place >= 2 ? 2 : (int)place;
  uint32_t mixed = 0;
  for (int c = 0; c < 3; c++)
    mixed = mixed << 8 | (uint32_t)lround(ramp[low][c] + (place - low) * (ramp[low + 1][c] - ramp[low][c]));
  return mixed;
}
