/* Numbers and names as C99 source. */
#include "model/c_source.h"

#include <inttypes.h>
#include <string.h>

#include "core/printable.h"

/* printf's %a would write the locale's decimal point. */
void c_float(FILE *stream, float value) {
  enum { FRACTION = 23, LOWEST = -126 };
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  const uint32_t fraction = bits & ((1u << FRACTION) - 1), exponent = bits >> FRACTION & 0xff;
  const char *sign = bits >> 31 ? "-" : "";
  if (!fraction && !exponent)
    fprintf(stream, "%s0x0p+0f", sign);
  else
    fprintf(stream, "%s0x%d.%06" PRIx32 "p%+df", sign, exponent != 0, fraction << 1,
            exponent ? (int)exponent + LOWEST - 1 : LOWEST);
}

static void write_values(FILE *stream, const float *values, int64_t n) {
  enum { PER_LINE = 6 };
  for (int64_t i = 0; i < n; i++) {
    fputs(i % PER_LINE ? ", " : i ? ",\n  " : "\n  ", stream);
    c_float(stream, values[i]);
  }
}

void c_floats(FILE *stream, const char *name, const float *values, int64_t n) {
  fprintf(stream, "static const float %s[%" PRId64 "] = {", name, n);
  write_values(stream, values, n);
  fputs("};\n", stream);
}

void c_float_rows(FILE *stream, const char *name, const float *values, int64_t rows, int64_t stride, int64_t n) {
  fprintf(stream, "static const float %s[%" PRId64 "][%" PRId64 "] = {", name, rows, n);
  for (int64_t row = 0; row < rows; row++) {
    fputs(row ? "}, {" : "{", stream);
    write_values(stream, values + row * stride, n);
  }
  fputs("}};\n", stream);
}

void c_quoted(FILE *stream, const char *text) {
  char shown[PRINTABLE_SIZE];
  fputc('\'', stream);
  for (size_t left = strlen(text), n; left; left -= n, text += n) {
    const bool clash =
        (text[0] == '*' && text[1] == '/') || (text[0] == '/' && text[1] == '*') || (text[0] == '?' && text[1] == '?');
    n = printable_escape(text, left, shown);
    fprintf(stream, clash ? "%s\\" : "%s", shown); /* the backslash separates the pair */
  }
  fputc('\'', stream);
}
