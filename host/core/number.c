/* Decimal text to double without the locale: one operation on exact operands where that suffices, strtod in the C
 * locale otherwise. */
#include "core/number.h"

#include <errno.h>
#include <float.h>
#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_blank(char c) { return c == ' ' || c == '\t'; }
static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static locale_t c_locale;
static pthread_once_t c_locale_once = PTHREAD_ONCE_INIT;
static void make_c_locale(void) { c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0); }

/* Longer than any decimal expansion that people or programs write, and short enough to count in an int. */
enum { LONGEST = 511 };

static bool parse_slowly(const char *text, size_t length, double *value) {
  char copy[LONGEST + 1];
  memcpy(copy, text, length);
  copy[length] = 0;
  pthread_once(&c_locale_once, make_c_locale);
  char *end;
  *value = c_locale ? strtod_l(copy, &end, c_locale) : strtod(copy, &end);
  return end == copy + length;
}

/* mantissa * 10^exponent where `long double` holds both exactly: the result is off by at most half a unit of its own,
 * so if a few units more and a few units less round to the same double, that is the nearest. 17 digits, as programs
 * write them, are too many for a double but not for this. False when undecided. */
static bool parse_extended(uint64_t mantissa, int exponent, double *value) {
  static const long double powers[] = {1e0L,  1e1L,  1e2L,  1e3L,  1e4L,  1e5L,  1e6L,  1e7L,  1e8L,  1e9L,
                                       1e10L, 1e11L, 1e12L, 1e13L, 1e14L, 1e15L, 1e16L, 1e17L, 1e18L, 1e19L,
                                       1e20L, 1e21L, 1e22L, 1e23L, 1e24L, 1e25L, 1e26L, 1e27L};
  const long double slack = 4 * LDBL_EPSILON;
  if (LDBL_MANT_DIG < 64 || exponent < -27 || exponent > 27) return false;
  const long double near =
      exponent < 0 ? (long double)mantissa / powers[-exponent] : (long double)mantissa * powers[exponent];
  *value = (double)(near * (1 - slack));
  return *value == (double)(near * (1 + slack));
}

bool number_parse(const char *text, size_t length, double *value) {
  static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                  1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
  while (length && is_blank(*text)) text++, length--;
  while (length && is_blank(text[length - 1])) length--;
  if (length > LONGEST) return false;
  const char *p = text, *end = text + length;
  bool negative = p < end && *p == '-';
  if (p < end && (*p == '-' || *p == '+')) p++;
  if (p == end) return false;
  if (!is_digit(*p) && *p != '.') { /* only the special words may begin otherwise */
    size_t rest = (size_t)(end - p);
    if (!((rest == 3 && (!strncasecmp(p, "nan", 3) || !strncasecmp(p, "inf", 3))) ||
          (rest == 8 && !strncasecmp(p, "infinity", 8))))
      return false;
    return parse_slowly(text, length, value);
  }
  if (end - p > 1 && p[0] == '0' && (p[1] == 'x' || p[1] == 'X')) return false;

  uint64_t mantissa = 0;
  int digits = 0, exponent = 0;
  bool any = false;
  for (; p < end && is_digit(*p); p++, any = true)
    if (mantissa || *p != '0') mantissa = digits < 19 ? mantissa * 10 + (uint64_t)(*p - '0') : mantissa, digits++;
  if (p < end && *p == '.')
    for (p++; p < end && is_digit(*p); p++, any = true, exponent--)
      if (mantissa || *p != '0') mantissa = digits < 19 ? mantissa * 10 + (uint64_t)(*p - '0') : mantissa, digits++;
  if (!any) return false;
  if (p < end && (*p == 'e' || *p == 'E')) {
    p++;
    bool minus = p < end && *p == '-';
    if (p < end && (*p == '-' || *p == '+')) p++;
    if (p == end) return false;
    int written = 0;
    for (; p < end && is_digit(*p); p++)
      if (written < 100000) written = written * 10 + (*p - '0');
    exponent += minus ? -written : written;
  }
  if (p != end) return false;
  /* Mantissa and power both exact in double: one correctly rounded operation (Clinger 1990). */
  if (digits <= 19 && mantissa < UINT64_C(1) << 53 && exponent >= -22 && exponent <= 22) {
    double magnitude = exponent < 0 ? (double)mantissa / powers[-exponent] : (double)mantissa * powers[exponent];
    *value = negative ? -magnitude : magnitude;
    return true;
  }
  if (digits <= 19 && parse_extended(mantissa, exponent, value)) {
    if (negative) *value = -*value;
    return true;
  }
  return parse_slowly(text, length, value);
}

bool number_parse_integer(const char *text, int64_t *value) {
  char *end;
  errno = 0;
  long long parsed = strtoll(text, &end, 10);
  if (end == text || *end || errno) return false;
  *value = parsed;
  return true;
}

/* With a point whatever the locale says; true when it reads back as the same number. */
static bool format_digits(double number, int digits, char text[NUMBER_TEXT], double *back) {
  snprintf(text, NUMBER_TEXT, "%.*g", digits, number);
  for (char *p = text; *p; p++)
    if (*p == ',') *p = '.';
  return number_parse(text, strlen(text), back);
}

char *number_format(double number, char text[NUMBER_TEXT]) {
  if (number == trunc(number) && fabs(number) < 1e15) {
    snprintf(text, NUMBER_TEXT, "%" PRId64, (int64_t)number);
    return text;
  }
  for (int digits = 1; digits <= 17; digits++) {
    double back;
    if (format_digits(number, digits, text, &back) && back == number) break;
  }
  return text;
}

char *number_format_float(float number, char text[NUMBER_TEXT]) {
  if (number == truncf(number) && fabsf(number) < 0x1p24F && !(number == 0 && signbit(number))) {
    snprintf(text, NUMBER_TEXT, "%" PRId32, (int32_t)number);
    return text;
  }
  /* Fewer digits than 6 need not be tried: six decimal ones survive in a float, so "%g" then leaves zeros out. */
  for (int digits = 6; digits <= 9; digits++) {
    double back;
    if (format_digits((double)number, digits, text, &back) && (float)back == number) break;
  }
  return text;
}
