/* A chart as data, drawn as SVG or in the terminal. Here are its parts, where its axes begin and
 * end, and which values they name. */
#ifndef DESCENT_REPORT_CHART_H
#define DESCENT_REPORT_CHART_H

#include <stdbool.h>
#include <stdint.h>

/* A color is one of CHART_COLORS that differ as much as they can, CHART_REFERENCE for what data are compared with, or
 * CHART_RAMP + 0 .. CHART_RAMP_STEPS: a place in a range from cold to warm, for things that have an order. */
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
  bool log_y;                          /* values of at most 0 are gaps then */
  bool from_zero;                      /* the linear y axis shows 0 */
  bool whole_x;                        /* x counts something */
  double x_low, x_high, y_low, y_high; /* of the axes; NaN: as the data ask for */
  struct chart_series *series;
  int n_series;
  /* A matrix instead of series: counts (classes, classes), rows by true class. 0 classes: none. */
  int64_t classes;
  char **class_names;
  int64_t *counts;
};

struct figure {
  struct chart *charts;
  int n;
};

/* All of these copy their texts, and return NULL or false when memory ran out. A chart's pointer is valid until the
 * next one is added, a series' likewise. */
struct chart *figure_add(struct figure *figure, const char *title, const char *x_label, const char *y_label);
/* `n` points, all of them 0, for the caller to set. */
struct chart_series *chart_add(struct chart *chart, const char *name, int color, enum chart_style style, int64_t n);
bool chart_add_matrix(struct chart *chart, int64_t classes, const int64_t *counts);
void figure_clear(struct figure *figure);

/* Leaves at most 2 `most` points of a series ordered by x: the lowest and the highest of each stretch. */
void chart_thin(struct chart_series *series, int64_t most);

/* Where all values are above 0 and their range asks for it: a logarithmic axis. */
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
/* Where a value lies: 0 at the low end, 1 at the high one. NaN where it has no place. */
double chart_place(const struct chart_axis *axis, double value);

/* 0xRRGGBB, to be read on white. */
uint32_t chart_color(int color);

#endif
