/* Text into HTML and SVG. */
#ifndef DESCENT_REPORT_MARKUP_H
#define DESCENT_REPORT_MARKUP_H

#include <stdio.h>

/* Writes any text so that it means itself, in an element or in a quoted attribute: & < > and quotes become entities;
 * what is not UTF-8, control characters and those that turn the direction of the text around become U+FFFD. */
void markup_text(FILE *out, const char *text);
/* The same, cut to at most `columns` with an ellipsis. */
void markup_label(FILE *out, const char *text, int columns);

#endif
