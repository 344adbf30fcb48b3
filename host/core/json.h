/* JSON from files that nobody vouches for: bounded in size, depth and number of values before it is parsed. */
#ifndef DESCENT_CORE_JSON_H
#define DESCENT_CORE_JSON_H

#include <cjson/cJSON.h>
#include <descent/descent.h>

enum { JSON_MAX_BYTES = 64 << 20, JSON_MAX_VALUES = 4 << 20, JSON_MAX_DEPTH = 16 };

/* Parses all of text[0 .. length), one value followed by blanks at most. ERROR_MODEL, "<where>: byte <n>: <reason>",
 * for bytes that are not UTF-8, control characters, \u0000 (C strings cannot hold it), more than the limits above, and
 * everything that is not JSON. `base` is the offset of text[0] in the messages. */
descent_status json_parse(const char *where, int64_t base, const char *text, size_t length, cJSON **value);

/* The same checks without the parsing, for text about to be written: what passes can be read back. */
descent_status json_check(const char *where, int64_t base, const char *text, size_t length);

/* found[i] = the member fields[i] of `object`, NULL when absent. ERROR_MODEL when `object` is not an object, has a
 * member twice or one that is not among the fields. */
descent_status json_fields(const char *where, const cJSON *object, const char *const *fields, int n,
                           const cJSON **found);

/* A whole number 0 .. 2^53 (what a double holds exactly); false otherwise, also for NULL. */
bool json_integer(const cJSON *value, int64_t *integer);

/* Hostile text for a message: at most 60 bytes of it, without control characters. */
struct json_quoted {
  char text[72];
};
struct json_quoted json_quote(const char *text);

#endif
