/* Charts as SVG, as a file or inside an HTML page, in light or dark colors by the reader's preference. */
#ifndef DESCENT_REPORT_SVG_H
#define DESCENT_REPORT_SVG_H

#include <stdio.h>

#include "report/chart.h"

/* CSS for the classes in the charts, for a page that contains them. */
extern const char svg_style[];

/* Writes a chart as an <svg> element that fills its container, for a page with svg_style. */
void svg_chart(FILE *out, const struct chart *chart);

/* Writes all charts of a figure as an SVG file, in two columns. */
void svg_figure(FILE *out, const struct figure *figure);

#endif
