/* The terminal: how wide it is, what it can show, and charts drawn in it. */
#ifndef DESCENT_REPORT_TERMINAL_H
#define DESCENT_REPORT_TERMINAL_H

#include <stdbool.h>
#include <stdio.h>

#include "report/chart.h"

/* Of the window behind `stream`, 80 where there is none. */
int terminal_columns(FILE *stream);
/* Does the locale's encoding have every character? */
bool terminal_unicode(void);
/* Is it a terminal with colors, and does nobody mind (NO_COLOR)? */
bool terminal_colors(FILE *stream);

struct terminal_look {
  int columns;
  bool unicode, colors;
};
/* Every chart of the figure, one below the other: curves in braille dots, or in ASCII with a character for each series.
 * Where there are no colors a letter at the end of each line says whose it is. False when memory ran out. */
bool terminal_figure(FILE *out, const struct figure *figure, const struct terminal_look *look);

#endif
