/* Numbers as text, independent of the locale, and what kind of number they are. */
#ifndef DESCENT_CORE_NUMBER_H
#define DESCENT_CORE_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Parses all of text[0 .. length) as a decimal number, [+-]digits[.digits][e[+-]digits], surrounding blanks allowed.
 * Correctly rounded to double. "nan", "inf", "infinity" in any case parse too (the caller decides); hexadecimal, empty
 * text, trailing characters and texts of more than 511 characters do not. */
bool number_parse(const char *text, size_t length, double *value);

/* Parses all of `text` as a decimal integer. */
bool number_parse_integer(const char *text, int64_t *value);

/* The first of n values that is NaN or infinite; n when there is none. */
int64_t number_find_non_finite(const float *values, int64_t n);

/* The value of an IEEE 754 binary16: sign, 5 bits of exponent, 10 of fraction. */
double number_of_half(uint16_t half);

/* The shortest decimal text that reads back as the same double; plain digits for integers below 1e15. Returns `text`.
 */
enum { NUMBER_TEXT = 40 };
char *number_format(double number, char text[NUMBER_TEXT]);
/* The same for a float: the text, read as a double, rounds to it. Not for NaN. */
char *number_format_float(float number, char text[NUMBER_TEXT]);

#endif
