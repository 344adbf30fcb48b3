/* A scan that bounds the cost of parsing, then cJSON, then strict access to its members. */
#include "core/json.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/memory.h"
#include "core/status.h"
#include "core/utf8.h"

struct scan {
  bool in_string;
  int depth;
  int64_t values; /* an upper bound */
};

/* Scans one character; returns NULL, or why the text is rejected. */
static const char *scan_character(struct scan *scan, char c) {
  if (c == '"') {
    scan->in_string = !scan->in_string;
    return NULL;
  }
  if ((unsigned char)c < 0x20 && (scan->in_string || !strchr("\t\n\r", c) || c == '\0')) return "control character";
  if (scan->in_string) return NULL;
  if (c == '[' || c == '{') scan->depth++;
  if (c == ']' || c == '}') scan->depth--;
  if (strchr("[{,:", c)) scan->values++;
  if (scan->depth > JSON_MAX_DEPTH) return "nested too deeply";
  return scan->values > JSON_MAX_VALUES ? "too many values" : NULL;
}

/* *values: an upper bound. */
static descent_status check(const char *where, int64_t base, const char *text, size_t length, int64_t *values) {
  struct scan scan = {0};
  const char *reason = NULL;
  size_t at = 0;
  if (length > JSON_MAX_BYTES) {
    reason = "too long";
    at = JSON_MAX_BYTES;
  } else if (!utf8_valid(text, length, &at)) {
    reason = "not UTF-8";
  } else {
    for (at = 0; at < length; at++) {
      if (scan.in_string && text[at] == '\\') {
        if (length - at >= 6 && memcmp(text + at, "\\u0000", 6) == 0) {
          reason = "\\u0000 in a string";
          break;
        }
        at++; /* an escaped character does not end the string; cJSON checks it */
        continue;
      }
      reason = scan_character(&scan, text[at]);
      if (reason) break;
    }
  }
  *values = scan.values + 1;
  if (!reason) return DESCENT_OK;
  return status_set(DESCENT_ERROR_MODEL, "%s: byte %" PRId64 ": %s", where, base + (int64_t)at, reason);
}

descent_status json_check(const char *where, int64_t base, const char *text, size_t length) {
  int64_t values;
  return check(where, base, text, length, &values);
}

descent_status json_parse(const char *where, int64_t base, const char *text, size_t length, cJSON **value) {
  enum { VALUE = 80 }; /* bytes that the allocator takes for a cJSON */
  int64_t values;
  descent_status status = check(where, base, text, length, &values);
  if (status != DESCENT_OK) return status;
  if (!memory_fits(values * VALUE + (int64_t)length))
    return status_set(DESCENT_ERROR_MEMORY, "%s: out of memory for %zu bytes of JSON", where, length);
  const char *end = text;
  errno = 0; /* cJSON reports a failed allocation only through malloc's errno */
  cJSON *parsed = cJSON_ParseWithLengthOpts(text, length, &end, false);
  if (!parsed && errno == ENOMEM)
    return status_set(DESCENT_ERROR_MEMORY, "%s: out of memory for %zu bytes of JSON", where, length);
  if (!parsed)
    return status_set(DESCENT_ERROR_MODEL, "%s: byte %" PRId64 ": invalid JSON", where, base + (int64_t)(end - text));
  while (end < text + length && strchr(" \t\r\n", *end)) end++; /* NUL was rejected by json_check */
  if (end < text + length) {
    cJSON_Delete(parsed);
    return status_set(DESCENT_ERROR_MODEL, "%s: byte %" PRId64 ": text after the JSON value", where,
                      base + (int64_t)(end - text));
  }
  *value = parsed;
  return DESCENT_OK;
}

descent_status json_fields(const char *where, const cJSON *object, const char *const *fields, int n,
                           const cJSON **found) {
  if (!cJSON_IsObject(object)) return status_set(DESCENT_ERROR_MODEL, "%s: not a JSON object", where);
  for (int i = 0; i < n; i++) found[i] = NULL;
  const cJSON *member;
  cJSON_ArrayForEach(member, object) {
    int i = 0;
    while (i < n && strcmp(member->string, fields[i]) != 0) i++;
    if (i == n)
      return status_set(DESCENT_ERROR_MODEL, "%s: unknown member '%s'", where, json_quote(member->string).text);
    if (found[i]) return status_set(DESCENT_ERROR_MODEL, "%s: duplicate member '%s'", where, fields[i]);
    found[i] = member;
  }
  return DESCENT_OK;
}

bool json_integer(const cJSON *value, int64_t *integer) {
  if (!cJSON_IsNumber(value) || !(value->valuedouble >= 0 && value->valuedouble <= 0x1p53)) return false;
  *integer = (int64_t)value->valuedouble;
  return (double)*integer == value->valuedouble;
}

descent_status json_version(const char *where, const cJSON *object, int64_t newest, descent_status error,
                            int64_t *version) {
  if (!json_integer(cJSON_GetObjectItemCaseSensitive(object, "version"), version) || *version < 1)
    return status_set(error, "%s: format version missing or not a positive number", where);
  if (*version <= newest) return DESCENT_OK;
  return status_set(
      error, "%s: format version %lld, but Descent " DESCENT_VERSION " reads up to %lld; use a later version of it",
      where, (long long)*version, (long long)newest);
}

struct json_quoted json_quote(const char *text) {
  enum { SHOWN = 60 };
  struct json_quoted quoted = {""};
  const size_t length = strlen(text);
  size_t n = length < SHOWN ? length : SHOWN;
  memcpy(quoted.text, text, n);
  if (n < length) {
    while (n && ((unsigned char)quoted.text[n] & 0xc0) == 0x80) n--; /* not within a UTF-8 sequence */
    memcpy(quoted.text + n, "...", 4);
  }
  return quoted;
}
