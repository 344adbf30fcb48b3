/* Figures into files: the ending of the name says the format. */
#ifndef DESCENT_CLI_PICTURE_H
#define DESCENT_CLI_PICTURE_H

#include <stdbool.h>

#include "report/chart.h"

/* Does the name end in .svg or .png? */
bool picture_named(const char *path);

/* Draws the figure into `path`, which is replaced as a whole: SVG by itself, PNG through gnuplot. EXIT_DONE, or
 * EXIT_RUN after one line about what failed. */
int picture_save(const char *command, const char *path, const struct figure *figure);

#endif
