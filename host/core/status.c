/* Status codes and the thread-local error text. */
#include "core/status.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/printable.h"

static _Thread_local char last_error[1024];

/* Keeps the text with what is harmful to a terminal escaped: it holds paths and names from files. Removes the middle of
 * an overlong text, since the file comes first and the reason last. */
static void keep(const char *text) {
  static const char gap[] = " ... ";
  enum { HALF = sizeof last_error / 2 };
  const size_t length = strlen(text);
  char shown[PRINTABLE_SIZE];
  size_t total = 0, used = 0;
  bool elided = false;
  for (size_t i = 0; i < length; total += strlen(shown)) i += printable_escape(text + i, length - i, shown);
  const bool fits = total < sizeof last_error;
  for (size_t i = 0, before = 0, n; i < length; before += n) {
    i += printable_escape(text + i, length - i, shown);
    n = strlen(shown);
    if (fits || before + n <= HALF - strlen(gap) || total - before < HALF) {
      memcpy(last_error + used, shown, n);
      used += n;
    } else if (!elided) {
      memcpy(last_error + used, gap, strlen(gap));
      used += strlen(gap);
      elided = true;
    }
  }
  last_error[used] = '\0';
}

descent_status status_set(descent_status status, const char *format, ...) {
  /* An argument may be last_error itself, so format into a buffer first. */
  char text[sizeof last_error], *whole = NULL;
  va_list arguments, again;
  va_start(arguments, format);
  va_copy(again, arguments);
  const int length = vsnprintf(text, sizeof text, format, arguments);
  if (length >= (int)sizeof text && (whole = malloc((size_t)length + 1))) /* out of memory, the end is cut off */
    vsnprintf(whole, (size_t)length + 1, format, again);
  va_end(again);
  va_end(arguments);
  keep(whole ? whole : text);
  free(whole);
  return status;
}

void status_clear(void) { last_error[0] = '\0'; }

descent_status status_cannot_read(const char *path, int error) {
  return status_set(error == ENOMEM ? DESCENT_ERROR_MEMORY : DESCENT_ERROR_READ, "%s: cannot read: %s", path,
                    strerror(error));
}

const char *descent_last_error(void) { return last_error; }

const char *descent_status_text(descent_status status) {
  static const char *const texts[] = {
#define STATUS_TEXT(name, text) text,
      DESCENT_STATUS_MAP(STATUS_TEXT)
#undef STATUS_TEXT
  };
  return (unsigned)status < sizeof texts / sizeof *texts ? texts[status] : "unknown status";
}
