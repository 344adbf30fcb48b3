/* Properties of the terminal, and charts drawn in it. */
#ifndef DESCENT_REPORT_TERMINAL_H
#define DESCENT_REPORT_TERMINAL_H

#include <stdbool.h>
#include <stdio.h>

#include "report/chart.h"

/* Width of the window of `stream`; 80 when there is none. */
int terminal_columns(FILE *stream);
/* Whether the locale's encoding is UTF-8. */
bool terminal_unicode(void);
/* Whether lines of `stream` can be redrawn in place: a terminal, and not a dumb one. */
bool terminal_is_live(FILE *stream);
/* Whether `stream` is a terminal with colors and NO_COLOR is not set. */
bool terminal_colors(FILE *stream);

struct terminal_look {
  int columns;
  bool unicode, colors;
};
/* Draws every chart of the figure, one below the other: curves in braille dots, or in ASCII with a character for each
 * series. Without colors a letter at the end of each curve identifies its series. False when out of memory. */
bool terminal_figure(FILE *out, const struct figure *figure, const struct terminal_look *look);

#endif
