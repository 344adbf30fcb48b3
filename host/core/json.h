/* JSON from untrusted files: size, depth and number of values are checked before parsing. */
#ifndef DESCENT_CORE_JSON_H
#define DESCENT_CORE_JSON_H

#include <cjson/cJSON.h>
#include <descent/descent.h>

enum { JSON_MAX_BYTES = 64 << 20, JSON_MAX_VALUES = 4 << 20, JSON_MAX_DEPTH = 16 };

/* Parses all of text[0 .. length): one value, then only blanks. ERROR_MODEL, "<where>: byte <n>: <reason>", for invalid
 * UTF-8, control characters, \u0000 (which C strings cannot hold), values beyond the limits above, and invalid JSON.
 * Messages count bytes from `base`, the offset of text[0]. */
descent_status json_parse(const char *where, int64_t base, const char *text, size_t length, cJSON **value);

/* The same checks without parsing, for text about to be written: text that passes can be read back. */
descent_status json_check(const char *where, int64_t base, const char *text, size_t length);

/* found[i] = member fields[i] of `object`, NULL when absent. ERROR_MODEL when `object` is not an object, or has a
 * duplicate or unknown member. */
descent_status json_fields(const char *where, const cJSON *object, const char *const *fields, int n,
                           const cJSON **found);

/* An integer 0 .. 2^53, which a double holds exactly; false otherwise, also for NULL. */
bool json_integer(const cJSON *value, int64_t *integer);

/* The version of a format: the object's member "version", 1 to `newest`. Otherwise `error`, which names both versions
 * if the file is from a later version of this program. */
descent_status json_version(const char *where, const cJSON *object, int64_t newest, descent_status error,
                            int64_t *version);

/* Untrusted text for a message: at most 60 bytes, control characters replaced by '?'. */
struct json_quoted {
  char text[72];
};
struct json_quoted json_quote(const char *text);

#endif
