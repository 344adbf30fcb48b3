/* Charts as SVG: a file of their own, or inside a page. Light and dark as the reader's screen is. */
#ifndef DESCENT_REPORT_SVG_H
#define DESCENT_REPORT_SVG_H

#include <stdio.h>

#include "report/chart.h"

/* What the classes in the drawings look like: CSS, for the page that holds them. */
extern const char svg_style[];

/* One chart as an <svg> element as wide as its place, for a page with svg_style. */
void svg_chart(FILE *out, const struct chart *chart);

/* All charts of a figure in a file of its own, two beside each other. */
void svg_figure(FILE *out, const struct figure *figure);

#endif
