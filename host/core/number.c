/* Decimal text to double, independent of the locale: one operation on exact operands where that suffices, 128-bit
 * integers for most other numbers, strtod in the C locale for the rest. */
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

/* Longer than any decimal expansion in practice. */
enum { MAX_LENGTH = 511 };

static bool parse_slowly(const char *text, size_t length, double *value) {
  char copy[MAX_LENGTH + 1];
  memcpy(copy, text, length);
  copy[length] = 0;
  pthread_once(&c_locale_once, make_c_locale);
  char *end;
  *value = c_locale ? strtod_l(copy, &end, c_locale) : strtod(copy, &end);
  return end == copy + length;
}

enum { MAX_EXPONENT = 27 }; /* 5^27 is the last power below 2^63 */

/* bits * 2^exponent, plus less than one last bit when `more`, rounded to nearest, ties to even. The highest of the 64
 * bits is 1 and the result is not subnormal. */
static double round_bits(uint64_t bits, bool more, int exponent) {
  const uint64_t rest = bits & 0x7ff;
  uint64_t kept = bits >> 11, scale = (uint64_t)(exponent + 11 + 1023) << 52;
  double power;
  if (rest > 0x400 || (rest == 0x400 && (more || (kept & 1)))) kept++;
  memcpy(&power, &scale, sizeof power);
  return (double)kept * power; /* both exact, and so is the product */
}

/* mantissa * 10^exponent from an exact 128-bit product or quotient, rounded once. mantissa > 0, |exponent| <=
 * MAX_EXPONENT. Needed for 17 digits, as programs write them, which exceed the 53 bits of a double. */
static double parse_integers(uint64_t mantissa, int exponent) {
  static const uint64_t fives[MAX_EXPONENT + 1] = {1,
                                                   5,
                                                   25,
                                                   125,
                                                   625,
                                                   3125,
                                                   15625,
                                                   78125,
                                                   390625,
                                                   1953125,
                                                   9765625,
                                                   48828125,
                                                   244140625,
                                                   1220703125,
                                                   6103515625U,
                                                   30517578125U,
                                                   152587890625U,
                                                   762939453125U,
                                                   3814697265625U,
                                                   19073486328125U,
                                                   95367431640625U,
                                                   476837158203125U,
                                                   2384185791015625U,
                                                   11920928955078125U,
                                                   59604644775390625U,
                                                   298023223876953125U,
                                                   1490116119384765625U,
                                                   7450580596923828125U};
  __extension__ typedef unsigned __int128 wide;
  const int shift = __builtin_clzll(mantissa);
  const uint64_t m = mantissa << shift;
  if (exponent >= 0) {
    wide product = (wide)m * fives[exponent];
    const int more = (uint64_t)(product >> 64) ? __builtin_clzll((uint64_t)(product >> 64)) : 64;
    product <<= more; /* 64: times 1, and the highest bit of m is 1 */
    return round_bits((uint64_t)(product >> 64), (uint64_t)product != 0, exponent - shift + 64 - more);
  }
  const int up = __builtin_clzll(fives[-exponent]);
  const uint64_t divisor = fives[-exponent] << up;
  const wide dividend = (wide)m << 63; /* below divisor << 64, so that the quotient takes 63 or 64 bits */
  const uint64_t quotient = (uint64_t)(dividend / divisor), rest = (uint64_t)(dividend - (wide)quotient * divisor);
  const int more = __builtin_clzll(quotient);
  return round_bits(quotient << more, rest != 0, up - 63 - shift + exponent - more);
}

/* The value of eight ASCII digits, the first in the lowest byte: adjacent digits are combined into pairs, then fours,
 * then all eight. */
static uint64_t eight_digits(uint64_t bytes) {
  bytes -= UINT64_C(0x3030303030303030);
  bytes = (bytes * 10 + (bytes >> 8)) & UINT64_C(0x00ff00ff00ff00ff);
  bytes = (bytes * 100 + (bytes >> 16)) & UINT64_C(0x0000ffff0000ffff);
  return (bytes * 10000 + (bytes >> 32)) & UINT64_C(0xffffffff);
}

/* The number of leading digits among eight bytes. The sum sets a byte's highest bit above '9', the difference below
 * '0'; carries reach later bytes only. */
static int count_digits(uint64_t bytes) {
  const uint64_t none =
      ((bytes + UINT64_C(0x4646464646464646)) | (bytes - UINT64_C(0x3030303030303030))) & UINT64_C(0x8080808080808080);
  return none ? __builtin_ctzll(none) / 8 : 8;
}

/* The n significant digits of a number so far; mantissa holds the first 19. */
struct digits {
  uint64_t mantissa;
  int n;
};

/* Parses digits from p, eight at a time; returns the first byte that is not a digit. `text` is the start of the number:
 * bytes between it and p may be loaded too. */
static const char *parse_digits(const char *text, const char *p, const char *end, struct digits *digits) {
  static const uint64_t tens[9] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000};
  if (digits->n == 0)
    while (p < end && *p == '0') p++;
  while (digits->n <= 11 && p < end && end - text >= 8) {
    uint64_t bytes;
    const int past = end - p < 8 ? 8 - (int)(end - p) : 0;
    memcpy(&bytes, p - past, sizeof bytes);
    bytes >>= 8 * past; /* zero bytes after the end are not digits */
    const int n = count_digits(bytes);
    if (n == 0) return p;
    /* Shift the digits to the end of the eight bytes and put '0' before them. */
    if (n < 8) bytes = bytes << (64 - 8 * n) | UINT64_C(0x3030303030303030) >> 8 * n;
    digits->mantissa = digits->mantissa * tens[n] + eight_digits(bytes);
    digits->n += n;
    p += n;
    if (n < 8) return p;
  }
  for (; p < end && is_digit(*p); p++, digits->n++)
    if (digits->n < 19) digits->mantissa = digits->mantissa * 10 + (uint64_t)(*p - '0');
  return p;
}

bool number_parse(const char *text, size_t length, double *value) {
  static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                  1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
  while (length && is_blank(*text)) text++, length--;
  while (length && is_blank(text[length - 1])) length--;
  if (length > MAX_LENGTH) return false;
  const char *p = text, *end = text + length;
  bool negative = p < end && *p == '-';
  if (p < end && (*p == '-' || *p == '+')) p++;
  if (p == end) return false;
  if (!is_digit(*p) && *p != '.') { /* only nan, inf and infinity start differently */
    size_t rest = (size_t)(end - p);
    if (!((rest == 3 && (!strncasecmp(p, "nan", 3) || !strncasecmp(p, "inf", 3))) ||
          (rest == 8 && !strncasecmp(p, "infinity", 8))))
      return false;
    return parse_slowly(text, length, value);
  }
  if (end - p > 1 && p[0] == '0' && (p[1] == 'x' || p[1] == 'X')) return false;

  struct digits digits = {0, 0};
  const char *begin = p;
  int exponent = 0;
  p = parse_digits(text, p, end, &digits);
  bool any = p > begin;
  if (p < end && *p == '.') {
    begin = ++p;
    p = parse_digits(text, p, end, &digits);
    any = any || p > begin;
    exponent = (int)(begin - p);
  }
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
  if (digits.n > 19) return parse_slowly(text, length, value);
  double magnitude;
  const uint64_t mantissa = digits.mantissa;
  if (mantissa == 0)
    magnitude = 0;
  else if (mantissa < UINT64_C(1) << 53 && exponent >= -22 && exponent <= 22)
    /* Mantissa and power are exact in double: one correctly rounded operation (Clinger 1990). */
    magnitude = exponent < 0 ? (double)mantissa / powers[-exponent] : (double)mantissa * powers[exponent];
  else if (exponent >= -MAX_EXPONENT && exponent <= MAX_EXPONENT)
    magnitude = parse_integers(mantissa, exponent);
  else
    return parse_slowly(text, length, value);
  *value = negative ? -magnitude : magnitude;
  return true;
}

const char *number_style_name(enum number_style style) {
  static const char *const names[NUMBER_STYLES] = {NULL, "1234,5", "1.234,5", "1,234.5"};
  return names[style];
}

/* Rewrites text without thousands separators and with a decimal point; the length, or 0 when it is not in the style. */
static size_t remove_separators(const char *text, size_t length, enum number_style style, char plain[MAX_LENGTH]) {
  const char decimal = style == NUMBER_POINT_GROUPED ? '.' : ',', other = decimal == ',' ? '.' : ',';
  size_t n = 0, i = 0, digits = 0, groups = 0; /* groups: after a separator */
  while (length && is_blank(*text)) text++, length--;
  while (length && is_blank(text[length - 1])) length--;
  if (length > MAX_LENGTH) return 0;
  if (i < length && (text[i] == '-' || text[i] == '+')) plain[n++] = text[i++];
  const size_t first = i;
  for (; i < length && (is_digit(text[i]) || text[i] == other); i++) {
    if (is_digit(text[i])) {
      digits++;
      plain[n++] = text[i];
      continue;
    }
    if (groups ? digits != 3 : digits < 1 || digits > 3 || text[first] == '0') return 0;
    groups++;
    digits = 0;
  }
  if (groups && (digits != 3 || (i < length && text[i] != decimal))) return 0;
  if (style == NUMBER_COMMA && groups == 1 && i == length) return 0;
  for (; i < length; i++) {
    if (text[i] == other) return 0;
    plain[n++] = text[i] == decimal ? '.' : text[i];
  }
  return n;
}

bool number_parse_separated(const char *text, size_t length, enum number_style style, double *value) {
  char plain[MAX_LENGTH];
  const size_t n = remove_separators(text, length, style, plain);
  return n && number_parse(plain, n, value);
}

char *number_whole(const char *text, size_t length, enum number_style style, double number,
                   char digits[NUMBER_DIGITS]) {
  char plain[MAX_LENGTH];
  size_t n = 0, i = 0, written = 0;
  if (text && style != NUMBER_PLAIN) {
    n = remove_separators(text, length, style, plain);
  } else if (text && length <= MAX_LENGTH) {
    memcpy(plain, text, length);
    n = length;
  }
  while (n && is_blank(plain[n - 1])) n--;
  while (i < n && is_blank(plain[i])) i++;
  if (i < n && (plain[i] == '-' || plain[i] == '+')) i++;
  while (i < n && plain[i] == '0') i++;
  if (number < 0) digits[written++] = '-';
  for (; i < n && is_digit(plain[i]) && written + 1 < NUMBER_DIGITS; i++) digits[written++] = plain[i];
  bool whole = n && written;
  if (i < n && plain[i] == '.') i++;
  for (; i < n; i++) whole = whole && plain[i] == '0';
  digits[written] = '\0';
  if (!whole) snprintf(digits, NUMBER_DIGITS, "%.0f", number);
  return digits;
}

bool number_parse_integer(const char *text, int64_t *value) {
  char *end;
  errno = 0;
  long long parsed = strtoll(text, &end, 10);
  if (end == text || *end || errno) return false;
  *value = parsed;
  return true;
}

/* Formats with a decimal point in any locale and parses the text into *back; false when that fails. */
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
  /* A normal float preserves six decimal digits, so start there: "%g" removes trailing zeros. */
  for (int digits = fabsf(number) < FLT_MIN ? 1 : 6; digits <= 9; digits++) {
    double back;
    if (format_digits((double)number, digits, text, &back) && (float)back == number) break;
  }
  return text;
}

int64_t number_find_non_finite(const float *values, int64_t n) {
  enum { BLOCK = 256 }; /* the inner loop has no exit, so that it is vectorised */
  int64_t i = 0;
  for (int bad = 0; i + BLOCK <= n; i += BLOCK) {
    for (int k = 0; k < BLOCK; k++) bad |= !(fabsf(values[i + k]) <= FLT_MAX);
    if (bad) break;
  }
  while (i < n && isfinite(values[i])) i++;
  return i;
}
