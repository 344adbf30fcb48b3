/* Formatting for people: names made safe for a terminal, counts, rates and durations. */
#ifndef DESCENT_REPORT_TEXT_H
#define DESCENT_REPORT_TEXT_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Large enough for any of the texts below. */
enum { TEXT_SIZE = 256 };

/* Width of UTF-8 text in columns, one per code point. */
int text_columns(const char *text);

/* `text` with what is harmful to a terminal (core/printable.h) escaped, truncated to `columns` (<= 60) with a final
 * '~'. */
const char *text_label(const char *text, int columns, char out[TEXT_SIZE]);

/* Writes text[0 .. length), escaped likewise. */
void text_write(FILE *stream, const char *text, size_t length);

/* Prints formatted text, at most 16 KB, escaped likewise: for every line with a path or a text that is not a label.
 * Newlines are printed where they begin or end `format`; all others are escaped. */
void text_print(FILE *stream, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The value as JSON in which those characters are \uNNNN; cJSON escapes only those below U+0020. Freed with cJSON_free;
 * NULL when memory ran out. */
char *text_json(const cJSON *value, bool indented);

const char *text_count(int64_t count, char out[TEXT_SIZE]);     /* "1,234,567" */
const char *text_scaled(double number, char out[TEXT_SIZE]);    /* "123", "45.6k", "1.23M" */
const char *text_loss(double loss, char out[TEXT_SIZE]);        /* "0.0832", "8.32e-05" */
const char *text_float(float number, char out[TEXT_SIZE]);      /* the shortest that reads back: "-9999" */
const char *text_duration(double seconds, char out[TEXT_SIZE]); /* "420ms", "4.2s", "45s", "3m20s", "2h05m", "3d04h" */

/* Whether the texts are equal apart from their numbers. */
bool text_same_words(const char *a, const char *b);

#endif
