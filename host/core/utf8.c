/* UTF-8, character by character. */
#include "core/utf8.h"

#include "core/printable.h"

bool utf8_valid(const char *text, size_t length, size_t *bad) {
  for (size_t i = 0; i < length;) {
    size_t step;
    if (printable_decode(text + i, length - i, &step) == PRINTABLE_INVALID) {
      *bad = i;
      return false;
    }
    i += step;
  }
  return true;
}
