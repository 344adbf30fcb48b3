/* Escaping character by character: names come from untrusted files. */
#include "report/markup.h"

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "report/text.h"

enum { REPLACEMENT = 0xFFFD };

/* Decodes one UTF-8 character (RFC 3629) and its length in bytes; REPLACEMENT, of length 1, for an invalid byte. */
static uint32_t decode(const char *text, int *length) {
  static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  const unsigned char first = (unsigned char)*text;
  *length = 1;
  if (first < 0x80) return first;
  const int n = first >= 0xf0 && first < 0xf5 ? 4 : first >= 0xe0 ? 3 : first >= 0xc2 ? 2 : 1;
  if (n == 1 || first >= 0xf5) return REPLACEMENT;
  uint32_t code = first & (0x7fU >> n);
  for (int i = 1; i < n; i++) {
    if (((unsigned char)text[i] & 0xc0) != 0x80) return REPLACEMENT;
    code = code << 6 | ((unsigned char)text[i] & 0x3f);
  }
  if (code < least[n] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return REPLACEMENT;
  *length = n;
  return code;
}

static bool harmful(uint32_t code) {
  return code < 0x20 || (code >= 0x7f && code < 0xa0) || (code & 0xfffe) == 0xfffe ||
         (code >= 0x202a && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069) || code == 0x2028 || code == 0x2029;
}

void markup_label(FILE *out, const char *text, int columns) {
  const bool cut = text_columns(text) > columns;
  for (int shown = 0, length; *text && shown < columns - cut; text += length, shown++) {
    const uint32_t code = decode(text, &length);
    switch (code) {
      case '&': fputs("&amp;", out); continue;
      case '<': fputs("&lt;", out); continue;
      case '>': fputs("&gt;", out); continue;
      case '"': fputs("&quot;", out); continue;
      case '\'': fputs("&#39;", out); continue;
      default: break;
    }
    if (code == REPLACEMENT || harmful(code))
      fputs("\xef\xbf\xbd", out);
    else
      fwrite(text, 1, (size_t)length, out);
  }
  if (cut) fputs("\xe2\x80\xa6", out);
}

void markup_text(FILE *out, const char *text) { markup_label(out, text, INT_MAX); }
