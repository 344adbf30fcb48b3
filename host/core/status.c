/* Status codes and the thread-local error text. */
#include "core/status.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local char last_error[1024];

/* Removes the middle of an overlong text, since the file comes first and the reason last. Out of memory, the end is cut
 * off instead. */
static void elide_middle(char text[static sizeof last_error], size_t length, const char *format, va_list arguments) {
  static const char gap[] = " ... ";
  char *whole = malloc(length + 1);
  if (!whole) return;
  vsnprintf(whole, length + 1, format, arguments);
  size_t kept = sizeof last_error / 2;
  memcpy(text + kept - strlen(gap), gap, strlen(gap));
  memcpy(text + kept, whole + length + 1 - kept, kept);
  free(whole);
}

descent_status status_set(descent_status status, const char *format, ...) {
  /* An argument may be last_error itself, so format into a buffer first. */
  char text[sizeof last_error];
  va_list arguments, again;
  va_start(arguments, format);
  va_copy(again, arguments);
  int length = vsnprintf(text, sizeof text, format, arguments);
  if (length >= (int)sizeof text) elide_middle(text, (size_t)length, format, again);
  va_end(again);
  va_end(arguments);
  memcpy(last_error, text, sizeof text);
  return status;
}

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
