/* Names of the public enums and their parsers, from the maps in the public header. */
#include <stdio.h>
#include <string.h>

#include "core/handle.h"
#include "core/status.h"

static const char *term_name(const char *const *names, size_t count, unsigned value) {
  return value < count ? names[value] : "unknown";
}

static descent_status term_parse(const char *term, const char *const *names, size_t count, const char *text,
                                 int *value) {
  for (size_t i = 0; i < count; i++)
    if (strcmp(text, names[i]) == 0) {
      *value = (int)i;
      return DESCENT_OK;
    }
  char known[512] = "";
  size_t used = 0;
  for (size_t i = 0; i < count && used < sizeof known; i++) {
    int wrote = snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", names[i]);
    used += wrote > 0 ? (size_t)wrote : 0;
  }
  return status_set(DESCENT_ERROR_ARGUMENT, "unknown %s '%s' (known: %s)", term, text, known);
}

#define TERM_TEXT(NAME, text) text,
#define DEFINE_TERM(type, PREFIX, MAP)                                                                    \
  static const char *const type##_names[] = {MAP(TERM_TEXT)};                                             \
  const char *descent_##type##_name(descent_##type value) {                                               \
    return term_name(type##_names, sizeof type##_names / sizeof *type##_names, (unsigned)value);          \
  }                                                                                                       \
  descent_status descent_##type##_parse(const char *text, descent_##type *value) {                        \
    int index = 0;                                                                                        \
    descent_status status = argument_check(value, "value");                                               \
    if (status == DESCENT_OK) status = argument_check(text, "text");                                      \
    if (status == DESCENT_OK)                                                                             \
      status = term_parse(#type, type##_names, sizeof type##_names / sizeof *type##_names, text, &index); \
    if (status == DESCENT_OK) *value = (descent_##type)index;                                             \
    return status;                                                                                        \
  }

DESCENT_TERM_MAP(DEFINE_TERM)
