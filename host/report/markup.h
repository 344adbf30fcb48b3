/* Escaping of text for HTML and SVG. */
#ifndef DESCENT_REPORT_MARKUP_H
#define DESCENT_REPORT_MARKUP_H

#include <stdio.h>

/* Writes untrusted text for an element or a quoted attribute: & < > and quotes become entities; what is
 * harmful (core/printable.h) becomes U+FFFD. */
void markup_text(FILE *out, const char *text);
/* The same, truncated to `columns` with an ellipsis. */
void markup_label(FILE *out, const char *text, int columns);

#endif
