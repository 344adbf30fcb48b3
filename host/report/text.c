/* Text for people; numbers are formatted in the C locale. */
#include "report/text.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/printable.h"

static bool continues(char c) { return ((unsigned char)c & 0xc0) == 0x80; }

int text_columns(const char *text) {
  int columns = 0;
  for (; *text; text++) columns += !continues(*text);
  return columns;
}

const char *text_label(const char *text, int columns, char out[TEXT_SIZE]) {
  size_t used = 0, safe = 0; /* safe: where the mark of a cut still fits */
  int shown = 0;
  for (size_t left = strlen(text), n; left; left -= n, text += n) {
    char piece[PRINTABLE_SIZE];
    n = printable_escape(text, left, piece);
    shown += text_columns(piece);
    if (shown > columns) {
      memcpy(out + safe, "~", 2);
      return out;
    }
    memcpy(out + used, piece, strlen(piece));
    used += strlen(piece);
    if (shown < columns) safe = used;
  }
  out[used] = '\0';
  return out;
}

/* Writes text[0 .. length), escaped, and then `end`: in one call if it fits, since stderr has no buffer. */
static void put(FILE *stream, const char *text, size_t length, const char *end) {
  char shown[4096] = "";
  size_t used = 0;
  for (size_t i = 0; i < length; used += strlen(shown + used)) {
    if (used + PRINTABLE_SIZE > sizeof shown) {
      fprintf(stream, "%.*s", (int)used, shown);
      used = 0;
    }
    i += printable_escape(text + i, length - i, shown + used);
  }
  fprintf(stream, "%.*s%s", (int)used, shown, end);
}

void text_write(FILE *stream, const char *text, size_t length) { put(stream, text, length, ""); }

void text_print(FILE *stream, const char *format, ...) {
  char text[16384]; /* three paths; not allocated, since what is said may be a lack of memory */
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  const size_t begin = strspn(format, "\n"), length = strlen(text);
  const bool ends = format[begin] && format[strlen(format) - 1] == '\n', cut = length + 1 == sizeof text;
  if (begin) fprintf(stream, "%.*s", (int)begin, text);
  put(stream, text + begin, length - begin - (ends && !cut), ends ? "\n" : "");
}

char *text_json(const cJSON *value, bool indented) {
  char *plain = indented ? cJSON_Print(value) : cJSON_PrintUnformatted(value);
  const size_t length = plain ? strlen(plain) : 0;
  size_t bytes, more = 0, used = 0;
  for (size_t i = 0; i < length; i += bytes) {
    const uint32_t code = printable_decode(plain + i, length - i, &bytes);
    if (code >= 0x20 && printable_harmful(code)) more += sizeof "\\ufffd";
  }
  if (!more) return plain;
  char *text = cJSON_malloc(length + more + 1);
  for (size_t i = 0; text && i < length; i += bytes) {
    const uint32_t code = printable_decode(plain + i, length - i, &bytes);
    if (code >= 0x20 && printable_harmful(code)) /* below are only the line breaks and tabs between values */
      used += (size_t)sprintf(text + used, "\\u%04x", code == PRINTABLE_INVALID ? 0xfffd : (unsigned)code);
    else
      memcpy(text + used, plain + i, bytes), used += bytes;
  }
  if (text) text[used] = '\0';
  cJSON_free(plain);
  return text;
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
