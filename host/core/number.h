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

/* Parses all of `text` as a decimal integer. */
bool number_parse_integer(const char *text, int64_t *value);

/* Index of the first of n values that is NaN or infinite; n when all are finite. */
int64_t number_find_non_finite(const float *values, int64_t n);

/* The value of an IEEE 754 binary16: sign, 5 bits of exponent, 10 of fraction. */
double number_of_half(uint16_t half);

/* The shortest decimal text that parses to the same double; plain digits for integers below 1e15. Returns `text`. */
enum { NUMBER_TEXT = 40 };
char *number_format(double number, char text[NUMBER_TEXT]);
/* The same for a float: the text, parsed as a double, rounds to it. Not for NaN. */
char *number_format_float(float number, char text[NUMBER_TEXT]);

#endif
