/* Numbers and names as C99 source. */
#include "model/c_source.h"

#include <inttypes.h>
#include <string.h>

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

void c_floats(FILE *stream, const char *name, const float *values, int64_t n) {
  enum { PER_LINE = 6 };
  fprintf(stream, "static const float %s[%" PRId64 "] = {", name, n);
  for (int64_t i = 0; i < n; i++) {
    fputs(i % PER_LINE ? ", " : i ? ",\n  " : "\n  ", stream);
    c_float(stream, values[i]);
  }
  fputs("};\n", stream);
}

/* Length of a UTF-8 character that changes the direction of text; 0 for any other. */
static size_t direction_mark(const unsigned char *c) {
  if (c[0] != 0xe2) return 0;
  if (c[1] == 0x80 && (c[2] == 0x8e || c[2] == 0x8f || (c[2] >= 0xaa && c[2] <= 0xae))) return 3;
  return c[1] == 0x81 && c[2] >= 0xa6 && c[2] <= 0xa9 ? 3 : 0;
}

void c_quoted(FILE *stream, const char *text) {
  fputc('\'', stream);
  for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
    const size_t mark = direction_mark(c);
    const bool clash = (c[0] == '*' && c[1] == '/') || (c[0] == '/' && c[1] == '*') || (c[0] == '?' && c[1] == '?');
    for (size_t i = 0; i < mark; i++) fprintf(stream, "\\x%02x", c[i]);
    if (mark)
      c += mark - 1;
    else if (*c < ' ' || *c == 0x7f)
      fprintf(stream, "\\x%02x", *c);
    else
      fprintf(stream, clash ? "%c\\" : "%c", *c); /* the backslash separates the pair */
  }
  fputc('\'', stream);
}
