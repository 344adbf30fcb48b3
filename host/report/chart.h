/* A chart as data, independent of its renderer: series, ranges of the axes, and ticks. */
#ifndef DESCENT_REPORT_CHART_H
#define DESCENT_REPORT_CHART_H

#include <stdbool.h>
#include <stdint.h>

/* A color is one of CHART_COLORS distinct ones, CHART_REFERENCE for reference lines, or CHART_RAMP + 0 ..
 * CHART_RAMP_STEPS on a ramp from cold to warm, for ordered series. */
enum { CHART_COLORS = 8, CHART_REFERENCE = -1, CHART_RAMP = 100, CHART_RAMP_STEPS = 100 };

enum chart_style { CHART_LINE, CHART_DASHED, CHART_POINTS, CHART_LINE_POINTS, CHART_BARS };

struct chart_series {
  char *name;    /* NULL: not in the legend */
  double *x, *y; /* (n); a y that is not finite is a gap */
  int64_t n;
  int color;
  enum chart_style style;
};

struct chart {
  char *title, *x_label, *y_label;
  bool log_y;                          /* values <= 0 are gaps */
  bool from_zero;                      /* the linear y axis includes 0 */
  bool whole_x;                        /* x is an integer */
  double x_low, x_high, y_low, y_high; /* ranges of the axes; NaN: from the data */
  struct chart_series *series;
  int n_series;
  /* A confusion matrix instead of series: counts (classes, classes), rows by true class. 0 classes: none. */
  int64_t classes;
  char **class_names;
  int64_t *counts;
};

struct figure {
  struct chart *charts;
  int n;
};

/* These functions copy their texts, and return NULL or false when out of memory. A pointer to a chart or series is
 * valid until the next one is added. */
struct chart *figure_add(struct figure *figure, const char *title, const char *x_label, const char *y_label);
/* Adds a series of `n` points, initially 0, for the caller to set. */
struct chart_series *chart_add(struct chart *chart, const char *name, int color, enum chart_style style, int64_t n);
bool chart_add_matrix(struct chart *chart, int64_t classes, const int64_t *counts);
void figure_clear(struct figure *figure);

/* Reduces a series ordered by x to at most 2 `most` points: the lowest and highest of each of `most` intervals. */
void chart_thin(struct chart_series *series, int64_t most);

/* Sets log_y when all values are > 0 and span a wide range. */
void chart_choose_scale(struct chart *chart);

enum { CHART_TICKS = 12, CHART_TICK_SIZE = 24 };
struct chart_axis {
  double low, high;
  bool log;
  double ticks[CHART_TICKS];
  char texts[CHART_TICKS][CHART_TICK_SIZE];
  int n;
};
struct chart_axis chart_x_axis(const struct chart *chart);
struct chart_axis chart_y_axis(const struct chart *chart);
/* The position of a value on an axis: 0 at the low end, 1 at the high end; NaN when it cannot be drawn. */
double chart_position(const struct chart_axis *axis, double value);

/* 0xRRGGBB, for a white background. */
uint32_t chart_color(int color);

#endif
