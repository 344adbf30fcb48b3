/* Finding the columns of a table by name or index, and assigning single roles. */
#include "data/columns.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/number.h"
#include "core/status.h"
#include "data/column_roles.h"

void columns_describe(const struct columns *columns, int64_t column, char *text, size_t size) {
  if (columns->names && columns->names[column][0]) {
    char shown[48];
    text_escape(columns->names[column], strlen(columns->names[column]), shown, sizeof shown);
    snprintf(text, size, "column '%s'", shown);
  } else {
    snprintf(text, size, "column %" PRId64 " (from 0)", column);
  }
}

void columns_clear(struct columns *columns) {
  memory_free_texts(columns->names, columns->n);
  schema_clear(&columns->schema);
  free(columns->roles);
  free(columns->target_at);
  free(columns->table);
  *columns = (struct columns){.weight = -1};
}

/* ---- names ------------------------------------------------------------------------------------------------------ */

/* The hash table's entry of a name, or the free entry for it. */
static int32_t *find_entry(const struct columns *columns, char *const *names, const char *name) {
  const uint64_t mask = (uint64_t)columns->table_size - 1;
  uint64_t slot = text_hash(name, strlen(name)) & mask;
  while (columns->table[slot] && strcmp(names[abs(columns->table[slot]) - 1], name) != 0) slot = (slot + 1) & mask;
  return &columns->table[slot];
}

descent_status columns_index(struct columns *columns, char *const *names) {
  columns->table_size = 16;
  while (columns->table_size < 2 * columns->n) columns->table_size *= 2;
  columns->table = memory_allocate(columns->table_size, sizeof *columns->table, "the column names");
  if (!columns->table) return DESCENT_ERROR_MEMORY;
  for (int64_t i = 0; i < columns->n; i++) {
    int32_t *entry = find_entry(columns, names, names[i]);
    *entry = *entry ? -abs(*entry) : (int32_t)i + 1;
  }
  return DESCENT_OK;
}

int64_t columns_find_name(const struct columns *columns, char *const *names, const char *name) {
  const int32_t entry = *find_entry(columns, names, name);
  return entry < 0 ? FOUND_SEVERAL : entry == 0 ? FOUND_NONE : entry - 1;
}

descent_status columns_ambiguous(const struct columns *columns, const char *path, const char *name,
                                 const char *advice) {
  char shown[48];
  text_escape(name, strlen(name), shown, sizeof shown);
  return status_set(DESCENT_ERROR_DATA, "%s:%" PRId64 ": several columns are named '%s' (%s)", path, columns->line,
                    shown, advice);
}

static descent_status unknown_column(const struct columns *columns, const char *path, const char *wanted) {
  char shown[48], known[500] = "";
  text_escape(wanted, strlen(wanted), shown, sizeof shown);
  if (!columns->names)
    return status_set(DESCENT_ERROR_DATA,
                      "%s:%" PRId64 ": no column '%s': the file has no header, use an index from 0 to %" PRId64, path,
                      columns->line, shown, columns->n - 1);
  int64_t listed = 0;
  while (listed < columns->n && text_append_quoted(known, sizeof known, columns->names[listed])) listed++;
  return status_set(DESCENT_ERROR_DATA, "%s:%" PRId64 ": no column '%s' (known: %s%s)", path, columns->line, shown,
                    known, listed < columns->n ? ", ..." : "");
}

descent_status columns_find_any(const struct columns *columns, const char *path, const char *wanted, int64_t *column) {
  int64_t index;
  *column = columns->names ? columns_find_name(columns, columns->names, wanted) : FOUND_NONE;
  if (*column != FOUND_NONE) return DESCENT_OK;
  if (!number_parse_integer(wanted, &index)) return unknown_column(columns, path, wanted);
  if (index < -columns->n || index >= columns->n)
    return status_set(DESCENT_ERROR_DATA,
                      "%s:%" PRId64 ": no column %" PRId64 ": indices are 0 to %" PRId64 ", or -1 to -%" PRId64
                      " from the end",
                      path, columns->line, index, columns->n - 1, columns->n);
  *column = index < 0 ? columns->n + index : index;
  return DESCENT_OK;
}

descent_status columns_find(const struct columns *columns, const char *path, const char *wanted, int64_t *column) {
  descent_status status = columns_find_any(columns, path, wanted, column);
  if (status == DESCENT_OK && *column == FOUND_SEVERAL)
    return columns_ambiguous(columns, path, wanted, "rename one, or use its index, counted from 0");
  return status;
}

/* ---- roles ------------------------------------------------------------------------------------------------------ */

descent_status columns_add_target(struct columns *columns, const char *path, int64_t column) {
  for (int64_t k = 0; k < columns->targets; k++)
    if (columns->target_at[k] == column)
      return status_set(DESCENT_ERROR_DATA, "%s:%" PRId64 ": column %" PRId64 " (from 0) is listed twice as a target",
                        path, columns->line, column);
  int64_t *grown = memory_resize(columns->target_at, columns->targets, columns->targets + 1, sizeof *grown, "targets");
  if (!grown) return DESCENT_ERROR_MEMORY;
  columns->target_at = grown;
  columns->target_at[columns->targets++] = column;
  return DESCENT_OK;
}

descent_status columns_add_last_targets(struct columns *columns, int64_t n) {
  if (n == 0) return DESCENT_OK;
  int64_t *grown = memory_resize(columns->target_at, columns->targets, n, sizeof *grown, "targets");
  if (!grown) return DESCENT_ERROR_MEMORY;
  columns->target_at = grown;
  for (int64_t k = 0; k < n; k++) grown[k] = columns->n - n + k;
  columns->targets = n;
  return DESCENT_OK;
}

bool columns_is_target(const struct columns *columns, int64_t column) {
  for (int64_t k = 0; k < columns->targets; k++)
    if (columns->target_at[k] == column) return true;
  return false;
}

int64_t columns_number_features(struct columns *columns) {
  int64_t features = 0;
  for (int64_t i = 0; i < columns->n; i++)
    if (columns->roles[i] != COLUMN_IGNORED) columns->roles[i] = features++;
  for (int64_t k = 0; k < columns->targets; k++) columns->roles[columns->target_at[k]] = COLUMN_TARGET - k;
  if (columns->weight >= 0) columns->roles[columns->weight] = COLUMN_WEIGHT;
  features = 0;
  for (int64_t i = 0; i < columns->n; i++)
    if (columns->roles[i] >= 0) columns->roles[i] = features++;
  return features;
}
