/* Status codes, the thread-local error text, and allocation that reports what it asked for. */
#include "core/status.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"

static _Thread_local char last_error[1024];

/* The file comes first and the reason last: of a text that is too long the middle goes. Without memory, the end. */
static void cut_middle(char text[static sizeof last_error], size_t length, const char *format, va_list arguments) {
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
  /* An argument may be the old text itself: format aside first. */
  char text[sizeof last_error];
  va_list arguments, again;
  va_start(arguments, format);
  va_copy(again, arguments);
  int length = vsnprintf(text, sizeof text, format, arguments);
  if (length >= (int)sizeof text) cut_middle(text, (size_t)length, format, again);
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

bool size_product(int64_t a, int64_t b, int64_t *product) {
  return a >= 0 && b >= 0 && !__builtin_mul_overflow(a, b, product);
}

enum { ASK_ABOVE = 1 << 20 }; /* asking takes longer than filling less */

static bool too_much(int64_t bytes) { return bytes > ASK_ABOVE && bytes > memory_available(""); }

static void *allocation_failed(int64_t bytes, const char *what) {
  status_set(DESCENT_ERROR_MEMORY, "cannot allocate %.3g GB for %s", (double)bytes * 1e-9, what);
  return NULL;
}

static bool byte_count(int64_t count, size_t size, const char *what, int64_t *bytes) {
  if (size_product(count, (int64_t)size, bytes) && *bytes <= INT64_MAX - 64) return true;
  status_set(DESCENT_ERROR_MEMORY, "cannot allocate %lld x %zu bytes for %s", (long long)count, size, what);
  return false;
}

void *memory_allocate(int64_t count, size_t size, const char *what) {
  int64_t bytes;
  if (count == 0) count = 1;
  if (!byte_count(count, size, what, &bytes)) return NULL;
  size_t rounded = ((size_t)bytes + 63) / 64 * 64;
  void *memory = too_much(bytes) ? NULL : aligned_alloc(64, rounded);
  if (!memory) return allocation_failed(bytes, what);
  memset(memory, 0, rounded);
  return memory;
}

void *memory_resize(void *memory, int64_t from, int64_t to, size_t size, const char *what) {
  int64_t bytes;
  if (to == 0) to = 1;
  if (!byte_count(to, size, what, &bytes)) return NULL;
  void *resized = to > from && too_much((to - from) * (int64_t)size) ? NULL : realloc(memory, (size_t)bytes);
  return resized ? resized : allocation_failed(bytes, what);
}

void memory_free_texts(char **texts, int64_t n) {
  for (int64_t i = 0; texts && i < n; i++) free(texts[i]);
  free(texts);
}
