/* Text for people; numbers are formatted in the C locale. */
#include "report/text.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool continues(char c) { return ((unsigned char)c & 0xc0) == 0x80; }

int text_columns(const char *text) {
  int columns = 0;
  for (; *text; text++) columns += !continues(*text);
  return columns;
}

const char *text_label(const char *text, int columns, char out[TEXT_SIZE]) {
  bool cut = text_columns(text) > columns;
  int kept = 0;
  size_t length = 0;
  for (; *text && length + 2 < TEXT_SIZE; text++) {
    kept += !continues(*text);
    if (kept > columns - cut) break;
    out[length++] = ((unsigned char)*text < 0x20 || *text == 0x7f) ? '?' : *text;
  }
  if (cut) out[length++] = '~';
  out[length] = '\0';
  return out;
}

const char *text_count(int64_t count, char out[TEXT_SIZE]) {
  char digits[24];
  int n = snprintf(digits, sizeof digits, "%" PRId64, count), length = 0;
  for (int i = 0; i < n; i++) {
    out[length++] = digits[i];
    if (digits[i] != '-' && i + 1 < n && (n - i - 1) % 3 == 0) out[length++] = ',';
  }
  out[length] = '\0';
  return out;
}

const char *text_scaled(double number, char out[TEXT_SIZE]) {
  static const char suffixes[] = " kMGT";
  int power = 0;
  while (number >= 999.5 && suffixes[power + 1]) number /= 1000, power++;
  snprintf(out, TEXT_SIZE, number >= 99.5 || power == 0 ? "%.0f" : number >= 9.95 ? "%.1f" : "%.2f", number);
  if (power) {
    size_t length = 0;
    while (out[length]) length++;
    out[length] = suffixes[power];
    out[length + 1] = '\0';
  }
  return out;
}

const char *text_loss(double loss, char out[TEXT_SIZE]) {
  double size = fabs(loss);
  bool fixed = size == 0 || (size >= 0.001 && size < 10000);
  snprintf(out, TEXT_SIZE, fixed ? "%.4f" : size < 1 ? "%.3g" : "%.6g", loss);
  return out;
}

const char *text_float(float number, char out[TEXT_SIZE]) {
  int digits = 5;
  do snprintf(out, TEXT_SIZE, "%.*g", ++digits, (double)number);
  while (digits < 9 && strtof(out, NULL) != number);
  return out;
}

const char *text_duration(double seconds, char out[TEXT_SIZE]) {
  double whole = floor(seconds + 0.5);
  if (seconds < 0.9995)
    snprintf(out, TEXT_SIZE, "%.0fms", seconds * 1000);
  else if (seconds < 9.95)
    snprintf(out, TEXT_SIZE, "%.1fs", seconds);
  else if (whole < 60)
    snprintf(out, TEXT_SIZE, "%.0fs", whole);
  else if (whole < 3600)
    snprintf(out, TEXT_SIZE, "%.0fm%02.0fs", floor(whole / 60), fmod(whole, 60));
  else if (whole < 86400)
    snprintf(out, TEXT_SIZE, "%.0fh%02.0fm", floor(whole / 3600), floor(fmod(whole, 3600) / 60));
  else
    snprintf(out, TEXT_SIZE, "%.0fd%02.0fh", floor(whole / 86400), floor(fmod(whole, 86400) / 3600));
  return out;
}

bool text_same_words(const char *a, const char *b) {
  static const char number[] = "0123456789.+-";
  for (;;) {
    a += strspn(a, number);
    b += strspn(b, number);
    if (*a != *b) return false;
    if (!*a) return true;
    a++, b++;
  }
}
