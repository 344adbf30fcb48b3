/* Columns by name or position, and the small text helpers that readers share. */
#include "data/columns.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/number.h"
#include "core/status.h"

bool text_list_add(struct text_list *list, const char *text, size_t length) {
  if (list->n == list->capacity) {
    int64_t capacity = list->capacity ? list->capacity * 2 : 16;
    char **items = realloc(list->items, (size_t)capacity * sizeof *items);
    if (!items) return false;
    list->items = items;
    list->capacity = capacity;
  }
  char *copy = strndup(text ? text : "", length);
  if (!copy) return false;
  list->items[list->n++] = copy;
  return true;
}

void text_list_clear(struct text_list *list) {
  for (int64_t i = 0; i < list->n; i++) free(list->items[i]);
  free(list->items);
  *list = (struct text_list){0};
}

bool text_list_any_number(const struct text_list *list) {
  double value;
  for (int64_t i = 0; i < list->n; i++)
    if (number_parse(list->items[i], strlen(list->items[i]), &value)) return true;
  return false;
}

void text_escape(const char *text, size_t length, char *shown, size_t size) {
  size_t used = 0;
  for (size_t i = 0; i < length && used + 4 < size; i++) {
    unsigned char c = (unsigned char)text[i];
    shown[used++] = c < 0x20 || c == 0x7f ? '?' : (char)c;
  }
  if (used < length) { /* do not end inside a UTF-8 sequence */
    while (used && ((unsigned char)shown[used - 1] & 0xc0) == 0x80) used--;
    if (used && (unsigned char)shown[used - 1] >= 0xc0) used--;
    memcpy(shown + used, "...", 3);
    used += 3;
  }
  shown[used] = 0;
}

void columns_describe(const struct columns *columns, int64_t column, char *text, size_t size) {
  if (columns->names && column >= 0 && column < columns->n) {
    char shown[48];
    text_escape(columns->names[column], strlen(columns->names[column]), shown, sizeof shown);
    snprintf(text, size, "column '%s'", shown);
  } else {
    snprintf(text, size, "column %lld", (long long)column);
  }
}

void columns_clear(struct columns *columns) {
  for (int64_t i = 0; columns->names && i < columns->n; i++) free(columns->names[i]);
  for (int64_t i = 0; columns->input_names && i < columns->inputs; i++) free(columns->input_names[i]);
  free(columns->names);
  free(columns->input_names);
  free(columns->target_name);
  free(columns->roles);
  *columns = (struct columns){.target = -1};
}

/* The column of this name: -1 if there is none, -2 if there are several. */
static int64_t find_name(const struct columns *columns, const char *name) {
  int64_t found = -1;
  for (int64_t i = 0; columns->names && i < columns->n; i++)
    if (strcmp(columns->names[i], name) == 0) {
      if (found >= 0) return -2;
      found = i;
    }
  return found;
}

/* A name wins over an index, which counts from 0, or from the end when negative. */
static descent_status find_target(struct columns *columns, const char *path, const char *target) {
  int64_t column = find_name(columns, target), index;
  if (column == -2)
    return status_set(DESCENT_ERROR_DATA, "%s:1: column '%s' occurs more than once (give its index instead)", path,
                      target);
  if (column < 0 && number_parse_integer(target, &index)) {
    column = index < 0 ? columns->n + index : index;
    if (column < 0 || column >= columns->n)
      return status_set(DESCENT_ERROR_DATA, "%s:1: no column %s: there are %lld (0 to %lld, or negative from the end)",
                        path, target, (long long)columns->n, (long long)columns->n - 1);
  }
  if (column < 0) {
    char known[400] = "";
    size_t used = 0;
    for (int64_t i = 0; columns->names && i < columns->n && used + 64 < sizeof known; i++) {
      char shown[40];
      text_escape(columns->names[i], strlen(columns->names[i]), shown, sizeof shown);
      used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", shown);
    }
    if (columns->names)
      return status_set(DESCENT_ERROR_DATA, "%s:1: no column '%s' (there are: %s)", path, target, known);
    return status_set(DESCENT_ERROR_DATA, "%s:1: no column '%s': the file has no header, so give an index (0 to %lld)",
                      path, target, (long long)columns->n - 1);
  }
  columns->target = column;
  return DESCENT_OK;
}

static descent_status match_by_name(struct columns *columns, const char *path, const struct dataset_schema *schema) {
  char missing[300] = "";
  size_t used = 0;
  int64_t n_missing = 0;
  for (int64_t i = 0; i < columns->n; i++) columns->roles[i] = COLUMN_IGNORED;
  if (columns->target >= 0) columns->roles[columns->target] = COLUMN_TARGET;
  for (int64_t j = 0; j < schema->inputs; j++) {
    const char *name = schema->input_names[j];
    int64_t column = find_name(columns, name);
    if (column == -2) return status_set(DESCENT_ERROR_DATA, "%s:1: column '%s' occurs more than once", path, name);
    if (column >= 0 && columns->roles[column] == COLUMN_IGNORED) {
      columns->roles[column] = j;
      continue;
    }
    if (n_missing++ < 5 && used + 64 < sizeof missing) {
      char shown[40];
      text_escape(name, strlen(name), shown, sizeof shown);
      used += (size_t)snprintf(missing + used, sizeof missing - used, "%s'%s'", used ? ", " : "", shown);
    }
  }
  if (n_missing)
    return status_set(DESCENT_ERROR_DATA, "%s:1: %lld of the network's %lld input columns missing: %s%s", path,
                      (long long)n_missing, (long long)schema->inputs, missing, n_missing > 5 ? ", ..." : "");
  return DESCENT_OK;
}

static descent_status match_by_position(struct columns *columns, const char *path,
                                        const struct dataset_schema *schema) {
  if (columns->target < 0 && columns->n == schema->inputs + 1) columns->target = columns->n - 1;
  int64_t input = 0;
  for (int64_t i = 0; i < columns->n; i++) columns->roles[i] = i == columns->target ? COLUMN_TARGET : input++;
  if (input != schema->inputs)
    return status_set(DESCENT_ERROR_DATA, "%s:1: %lld input columns where the network has %lld", path, (long long)input,
                      (long long)schema->inputs);
  return DESCENT_OK;
}

descent_status columns_resolve(struct columns *columns, const char *path, const struct text_list *first, bool header,
                               const descent_dataset_options *options, const struct dataset_schema *schema) {
  columns->n = first->n;
  columns->target = -1;
  columns->roles = memory_allocate(columns->n, sizeof *columns->roles, "the columns");
  if (!columns->roles) return DESCENT_ERROR_MEMORY;
  if (header) {
    columns->names = memory_allocate(columns->n, sizeof *columns->names, "the column names");
    if (!columns->names) return DESCENT_ERROR_MEMORY;
    for (int64_t i = 0; i < columns->n; i++)
      if (!(columns->names[i] = strdup(first->items[i])))
        return status_set(DESCENT_ERROR_MEMORY, "%s: out of memory for the column names", path);
  }
  descent_status status = DESCENT_OK;
  if (options->target)
    status = find_target(columns, path, options->target);
  else if (schema && schema->target_name && header) {
    columns->target = find_name(columns, schema->target_name);
    if (columns->target == -2)
      status = status_set(DESCENT_ERROR_DATA, "%s:1: column '%s' occurs more than once", path, schema->target_name);
  }
  if (status != DESCENT_OK) return status;
  columns->inputs = columns->n - (columns->target >= 0);
  if (schema) {
    columns->inputs = schema->inputs;
    status =
        header && schema->input_names ? match_by_name(columns, path, schema) : match_by_position(columns, path, schema);
  } else {
    int64_t input = 0;
    for (int64_t i = 0; i < columns->n; i++) columns->roles[i] = i == columns->target ? COLUMN_TARGET : input++;
    if (columns->inputs < 1)
      status = status_set(DESCENT_ERROR_DATA, "%s:1: no input columns: the only column is the target", path);
  }
  if (status != DESCENT_OK || !header) return status;

  columns->input_names = memory_allocate(columns->inputs, sizeof *columns->input_names, "the column names");
  if (!columns->input_names) return DESCENT_ERROR_MEMORY;
  bool copied = true;
  for (int64_t i = 0; i < columns->n; i++)
    if (columns->roles[i] >= 0)
      copied = (columns->input_names[columns->roles[i]] = strdup(columns->names[i])) && copied;
  if (columns->target >= 0) copied = (columns->target_name = strdup(columns->names[columns->target])) && copied;
  return copied ? DESCENT_OK : status_set(DESCENT_ERROR_MEMORY, "%s: out of memory for the column names", path);
}
