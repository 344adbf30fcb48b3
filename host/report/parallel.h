/* Parallel coordinates: a vertical axis for each variable, and a line through its values for each item. */
#ifndef DESCENT_REPORT_PARALLEL_H
#define DESCENT_REPORT_PARALLEL_H

#include <stdint.h>
#include <stdio.h>

struct parallel_tick {
  double at; /* 0 at the low end of the axis, 1 at the high end */
  const char *text;
};

struct parallel_axis {
  const char *name;
  const struct parallel_tick *ticks; /* (n_ticks) */
  int n_ticks;
};

struct parallel_line {
  const double *at;  /* (n_axes) as for ticks; NaN: the line ends before */
  int color;         /* as of a chart's series */
  const char *title; /* shown where the pointer rests on the line */
};

struct parallel {
  const struct parallel_axis *axes; /* (n_axes) */
  int n_axes;
  const struct parallel_line *lines; /* (n_lines); later ones over earlier ones, the last in bold */
  int64_t n_lines;
};

/* CSS for the page, after svg_style. */
extern const char parallel_style[];

/* Writes an <svg> element that fills its container, for a page with svg_style. */
void parallel_write(FILE *out, const struct parallel *parallel);

#endif
