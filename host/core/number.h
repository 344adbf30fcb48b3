/* Numbers to and from text, independent of the locale. */
#ifndef DESCENT_CORE_NUMBER_H
#define DESCENT_CORE_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Parses all of text[0 .. length) as a decimal number, [+-]digits[.digits][e[+-]digits], surrounding blanks allowed,
 * correctly rounded to double. Also accepts "nan", "inf" and "infinity" in any case, which the caller may reject.
 * Rejects hexadecimal, empty text, trailing characters and texts of more than 511 characters. */
bool number_parse(const char *text, size_t length, double *value);

/* The separators that a file writes numbers with. Groups are thousands: three digits each, up to three in the first. */
enum number_style {
  NUMBER_PLAIN,         /* 1234.5 */
  NUMBER_COMMA,         /* 1234,5; 1.234,5 and 1.234.567 too, but not 1.234, which may have a decimal point */
  NUMBER_COMMA_GROUPED, /* 1.234,5 and 1234,5 */
  NUMBER_POINT_GROUPED, /* 1,234.5 and 1234.5 */
  NUMBER_STYLES
};
/* 1234.5 in a style other than NUMBER_PLAIN, as files of models and datasets name it; NULL for NUMBER_PLAIN. */
const char *number_style_name(enum number_style style);

/* number_parse for a style other than NUMBER_PLAIN. */
bool number_parse_separated(const char *text, size_t length, enum number_style style, double *value);
/* number_parse for any style. */
static inline bool number_parse_style(const char *text, size_t length, enum number_style style, double *value) {
  return style == NUMBER_PLAIN ? number_parse(text, length, value) : number_parse_separated(text, length, style, value);
}

/* The digits of a whole number beyond 2^53, without leading zeros: those of the text if it is one, since a double holds
 * only the first of them, else (or for text NULL) those of `number`. Returns `digits`. */
enum { NUMBER_DIGITS = 48 };
char *number_whole(const char *text, size_t length, enum number_style style, double number, char digits[NUMBER_DIGITS]);

/* Parses all of `text` as a decimal integer. */
bool number_parse_integer(const char *text, int64_t *value);

/* Index of the first of n values that is NaN or infinite; n when all are finite. */
int64_t number_find_non_finite(const float *values, int64_t n);

/* The shortest decimal text that parses to the same double; plain digits for integers below 1e15. Returns `text`. */
enum { NUMBER_TEXT = 40 };
char *number_format(double number, char text[NUMBER_TEXT]);
/* The same for a float: the text, parsed as a double, rounds to it. Not for NaN. */
char *number_format_float(float number, char text[NUMBER_TEXT]);

#endif
