/* Charts as PNG, drawn by gnuplot, which has to be there when it is asked for. */
#ifndef DESCENT_REPORT_GNUPLOT_H
#define DESCENT_REPORT_GNUPLOT_H

#include <stdbool.h>
#include <stdio.h>

#include "report/chart.h"

/* Writes the picture to `png`, which is flushed first. False with one line in `error`. No shell is involved and no text
 * of the figure is taken for a command. */
bool gnuplot_figure(FILE *png, const struct figure *figure, char *error, size_t size);

#endif
