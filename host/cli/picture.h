/* Figures into files, as SVG. */
#ifndef DESCENT_CLI_PICTURE_H
#define DESCENT_CLI_PICTURE_H

#include <stdbool.h>

#include "report/chart.h"

/* Does the name end in .svg? */
bool picture_named(const char *path);

/* Draws the figure into `path`, which is replaced as a whole. EXIT_DONE, or EXIT_RUN after one line about
 * what failed. */
int picture_save(const char *command, const char *path, const struct figure *figure);

#endif
