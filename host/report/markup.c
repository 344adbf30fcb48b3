/* Escaping character by character: names come from untrusted files. */
#include "report/markup.h"

#include <limits.h>
#include <string.h>

#include "core/printable.h"
#include "report/text.h"

void markup_label(FILE *out, const char *text, int columns) {
  const bool cut = text_columns(text) > columns;
  size_t left = strlen(text), length;
  for (int shown = 0; left && shown < columns - cut; text += length, left -= length, shown++) {
    const uint32_t code = printable_decode(text, left, &length);
    switch (code) {
      case '&': fputs("&amp;", out); continue;
      case '<': fputs("&lt;", out); continue;
      case '>': fputs("&gt;", out); continue;
      case '"': fputs("&quot;", out); continue;
      case '\'': fputs("&#39;", out); continue;
      default: break;
    }
    if (printable_harmful(code))
      fputs("\xef\xbf\xbd", out); /* U+FFFD */
    else
      fwrite(text, 1, length, out);
  }
  if (cut) fputs("\xe2\x80\xa6", out);
}

void markup_text(FILE *out, const char *text) { markup_label(out, text, INT_MAX); }
