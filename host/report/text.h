/* Formatting for people: names made safe for a terminal, counts, rates and durations. */
#ifndef DESCENT_REPORT_TEXT_H
#define DESCENT_REPORT_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Large enough for any of the texts below. */
enum { TEXT_SIZE = 256 };

/* Width of UTF-8 text in columns, one per code point. */
int text_columns(const char *text);

/* `text` with control characters replaced by '?', truncated to `columns` (<= 60) with a final '~'. */
const char *text_label(const char *text, int columns, char out[TEXT_SIZE]);

const char *text_count(int64_t count, char out[TEXT_SIZE]);     /* "1,234,567" */
const char *text_scaled(double number, char out[TEXT_SIZE]);    /* "123", "45.6k", "1.23M" */
const char *text_loss(double loss, char out[TEXT_SIZE]);        /* "0.0832", "8.32e-05" */
const char *text_float(float number, char out[TEXT_SIZE]);      /* the shortest that reads back: "-9999" */
const char *text_duration(double seconds, char out[TEXT_SIZE]); /* "420ms", "4.2s", "45s", "3m20s", "2h05m", "3d04h" */

/* Whether the texts are equal apart from their numbers. */
bool text_same_words(const char *a, const char *b);

#endif
