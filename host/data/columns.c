/* Columns by name or position: is there a header, which column is which feature or target. */
#include "data/columns.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/number.h"
#include "core/status.h"
#include "core/utf8.h"

const char columns_are_targets[] = "";

enum { FOUND_NONE = -1, FOUND_SEVERAL = -2 };

/* ---- names ------------------------------------------------------------------------------------------------------ */

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

/* The table's entry of a name, or the free one where it belongs. */
static int32_t *find_entry(const struct columns *columns, char *const *names, const char *name) {
  const uint64_t mask = (uint64_t)columns->table_size - 1;
  uint64_t slot = text_hash(name, strlen(name)) & mask;
  while (columns->table[slot] && strcmp(names[abs(columns->table[slot]) - 1], name) != 0) slot = (slot + 1) & mask;
  return &columns->table[slot];
}

/* Indexes the first record's cells by text; of equal ones the first is kept, as a negative entry. */
static descent_status index_names(struct columns *columns, char *const *names) {
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

static int64_t find_name(const struct columns *columns, char *const *names, const char *name) {
  const int32_t entry = *find_entry(columns, names, name);
  return entry < 0 ? FOUND_SEVERAL : entry == 0 ? FOUND_NONE : entry - 1;
}

static descent_status ambiguous_error(const struct columns *columns, const char *path, const char *name,
                                      const char *advice) {
  char shown[48];
  text_escape(name, strlen(name), shown, sizeof shown);
  return status_set(DESCENT_ERROR_DATA, "%s:%" PRId64 ": several columns are named '%s' (%s)", path, columns->line,
                    shown, advice);
}

/* Does the network know its columns by name? Either all have one or none has. */
static bool has_names(const struct expected *expected) {
  return expected->schema->features && expected->schema->features[0].name;
}

/* ---- the header ------------------------------------------------------------------------------------------------- */

static bool any_number(const struct text_list *record) {
  double value;
  for (int64_t i = 0; i < record->n; i++)
    if (number_parse(record->items[i], strlen(record->items[i]), &value)) return true;
  return false;
}

/* Does a row hold what a network without names knows as categories, for half of the columns that have any? */
static bool holds_categories(const struct columns *columns, char *const *cells, const struct schema *schema) {
  int64_t categorical = 0, held = 0;
  for (int64_t f = 0; f < schema->n_features; f++) {
    const struct feature *feature = &schema->features[f];
    bool found = false;
    for (int64_t k = 0; k < feature->n_categories && !found; k++)
      found = find_name(columns, cells, feature->categories[k]) != FOUND_NONE;
    categorical += feature->categories != NULL;
    held += found;
  }
  return held > 0 && 2 * held >= categorical;
}

/* A row without any number is a header, unless the network knows its texts as data; a row with numbers is one when it
 * holds the names that are asked for. */
static bool is_header(const struct columns *columns, const struct text_list *first,
                      const descent_dataset_options *options, const struct expected *expected) {
  int64_t index;
  if (options->header >= 0) return options->header > 0;
  if (!any_number(first))
    return !expected || has_names(expected) || !holds_categories(columns, first->items, expected->schema);
  if (options->target && !number_parse_integer(options->target, &index) &&
      find_name(columns, first->items, options->target) != FOUND_NONE)
    return true;
  if (!expected || !has_names(expected)) return false;
  for (int64_t j = 0; j < expected->features; j++)
    if (find_name(columns, first->items, expected->schema->features[j].name) == FOUND_NONE) return false;
  return true;
}

static descent_status check_names(const struct columns *columns, const char *path, const int64_t *lines) {
  size_t bad;
  for (int64_t i = 0; i < columns->n; i++)
    if (!utf8_valid(columns->names[i], strlen(columns->names[i]), &bad)) {
      char name[80];
      columns_describe(columns, i, name, sizeof name);
      return status_set(DESCENT_ERROR_DATA, "%s:%" PRId64 ": %s: the name is not UTF-8 text (save the file as UTF-8)",
                        path, lines[i], name);
    }
  return DESCENT_OK;
}

/* ---- roles ------------------------------------------------------------------------------------------------------ */

static descent_status unknown_column(const struct columns *columns, const char *path, const char *wanted) {
  char shown[48], known[500] = "";
  text_escape(wanted, strlen(wanted), shown, sizeof shown);
  if (!columns->names)
    return status_set(DESCENT_ERROR_DATA,
                      "%s:%" PRId64 ": no column '%s': there is no header, so give the column's index, 0 to %" PRId64,
                      path, columns->line, shown, columns->n - 1);
  int64_t listed = 0;
  while (listed < columns->n && text_append_quoted(known, sizeof known, columns->names[listed])) listed++;
  return status_set(DESCENT_ERROR_DATA, "%s:%" PRId64 ": no column '%s'; there are %s%s", path, columns->line, shown,
                    known, listed < columns->n ? ", ..." : "");
}

/* A name wins over an index, which counts from 0, or from the end when negative. FOUND_SEVERAL where the name is not
 * unique. */
static descent_status find_column(const struct columns *columns, const char *path, const char *wanted,
                                  int64_t *column) {
  int64_t index;
  *column = columns->names ? find_name(columns, columns->names, wanted) : FOUND_NONE;
  if (*column != FOUND_NONE) return DESCENT_OK;
  if (!number_parse_integer(wanted, &index)) return unknown_column(columns, path, wanted);
  if (index < -columns->n || index >= columns->n)
    return status_set(DESCENT_ERROR_DATA,
                      "%s:%" PRId64 ": no column %" PRId64 ": the indices are 0 to %" PRId64 ", or -1 to -%" PRId64
                      " from the end",
                      path, columns->line, index, columns->n - 1, columns->n);
  *column = index < 0 ? columns->n + index : index;
  return DESCENT_OK;
}

/* Of a name that several have there is no telling which is meant. */
static descent_status find_one(const struct columns *columns, const char *path, const char *wanted, int64_t *column) {
  descent_status status = find_column(columns, path, wanted, column);
  if (status == DESCENT_OK && *column == FOUND_SEVERAL)
    return ambiguous_error(columns, path, wanted, "rename one, or give its index, which counts from 0");
  return status;
}

descent_status columns_find(const struct columns *columns, const char *path, const char *wanted, int64_t *column) {
  return find_one(columns, path, wanted, column);
}

static descent_status add_target(struct columns *columns, const char *path, int64_t column) {
  for (int64_t k = 0; k < columns->targets; k++)
    if (columns->target_at[k] == column)
      return status_set(DESCENT_ERROR_DATA, "%s:%" PRId64 ": column %" PRId64 " (from 0) is the target twice", path,
                        columns->line, column);
  int64_t *grown = memory_resize(columns->target_at, columns->targets, columns->targets + 1, sizeof *grown, "targets");
  if (!grown) return DESCENT_ERROR_MEMORY;
  columns->target_at = grown;
  columns->target_at[columns->targets++] = column;
  return DESCENT_OK;
}

/* The last `n` columns at once, where none is a target yet. */
static descent_status add_last_targets(struct columns *columns, int64_t n) {
  if (n == 0) return DESCENT_OK;
  int64_t *grown = memory_resize(columns->target_at, columns->targets, n, sizeof *grown, "targets");
  if (!grown) return DESCENT_ERROR_MEMORY;
  columns->target_at = grown;
  for (int64_t k = 0; k < n; k++) grown[k] = columns->n - n + k;
  columns->targets = n;
  return DESCENT_OK;
}

/* "a", or "a,b" where no column has that whole name. */
static descent_status find_targets(struct columns *columns, const char *path, const char *wanted) {
  descent_status status = DESCENT_OK;
  char *copy = NULL;
  int64_t column;
  if (!strchr(wanted, ',') || (columns->names && find_name(columns, columns->names, wanted) != FOUND_NONE)) {
    TRY(find_one(columns, path, wanted, &column));
    return add_target(columns, path, column);
  }
  copy = strdup(wanted);
  if (!copy) return status_set(DESCENT_ERROR_MEMORY, "%s: out of memory for the targets", path);
  for (char *rest = copy, *item; (item = strsep(&rest, ","));) {
    TRY(find_one(columns, path, item, &column));
    TRY(add_target(columns, path, column));
  }
done:
  free(copy);
  return status;
}

/* Without a wish, the columns that the network was trained on, if they are there. */
static descent_status find_known_targets(struct columns *columns, const char *path, const struct schema *schema) {
  descent_status status = DESCENT_OK;
  for (int64_t k = 0; k < schema->targets; k++) {
    const int64_t column = find_name(columns, columns->names, schema->target_names[k]);
    if (column == FOUND_SEVERAL)
      TRY(ambiguous_error(columns, path, schema->target_names[k],
                          "it is the network's target: rename or remove the others"));
    if (column >= 0) TRY(add_target(columns, path, column));
  }
  if (columns->targets < schema->targets) columns->targets = 0;
done:
  return status;
}

static bool is_target(const struct columns *columns, int64_t column) {
  for (int64_t k = 0; k < columns->targets; k++)
    if (columns->target_at[k] == column) return true;
  return false;
}

/* Marks the columns to leave out; of a name that several have, all of them. */
static descent_status mark_ignored(struct columns *columns, const char *path, const descent_dataset_options *options) {
  descent_status status = DESCENT_OK;
  for (int64_t k = 0; k < options->ignored; k++) {
    int64_t column;
    const char *wanted = options->ignore[k];
    TRY(find_column(columns, path, wanted, &column));
    for (int64_t i = 0; column == FOUND_SEVERAL && i < columns->n; i++)
      if (strcmp(columns->names[i], wanted) == 0) columns->roles[i] = COLUMN_IGNORED;
    if (column >= 0) columns->roles[column] = COLUMN_IGNORED;
    for (int64_t i = 0; i < columns->n; i++) {
      if (columns->roles[i] != COLUMN_IGNORED || (!is_target(columns, i) && i != columns->weight)) continue;
      char shown[48];
      text_escape(wanted, strlen(wanted), shown, sizeof shown);
      TRY(status_set(DESCENT_ERROR_DATA, "%s:%" PRId64 ": column '%s' cannot be both the %s and ignored", path,
                     columns->line, shown, i == columns->weight ? "weight" : "target"));
    }
  }
done:
  return status;
}

/* A first column without a name holds row numbers or row names, as pandas and R write them; pandas calls it
 * "Unnamed: 0" where it has read such a file before. */
static bool is_index(const struct columns *columns) {
  return columns->names && (!*columns->names[0] || strcmp(columns->names[0], "Unnamed: 0") == 0);
}

/* Every column that nothing else is known of is a feature, in order. */
static int64_t number_features(struct columns *columns) {
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

/* A model finds its columns by name, so that features have to differ from every other column. */
static descent_status check_distinct(const struct columns *columns, const char *path,
                                     const descent_dataset_options *options) {
  const char *advice = options->header < 0 ? "rename them, ignore them all, or choose header no if this row is data"
                                           : "rename them, or ignore them all";
  for (int64_t i = 0; columns->names && i < columns->n; i++) {
    if (columns->roles[i] < 0 || find_name(columns, columns->names, columns->names[i]) != FOUND_SEVERAL) continue;
    if (*columns->names[i]) return ambiguous_error(columns, path, columns->names[i], advice);
    return status_set(DESCENT_ERROR_DATA,
                      "%s:%" PRId64 ": several columns have no name, column %" PRId64
                      " (from 0) among them (name them, or ignore them)",
                      path, columns->line, i);
  }
  return DESCENT_OK;
}

static descent_status match_by_name(struct columns *columns, const char *path, const struct expected *expected) {
  char missing[400] = "";
  int64_t n_missing = 0, n_listed = 0;
  for (int64_t i = 0; i < columns->n; i++) columns->roles[i] = COLUMN_IGNORED;
  for (int64_t k = 0; k < columns->targets; k++) columns->roles[columns->target_at[k]] = COLUMN_TARGET - k;
  if (columns->weight >= 0) columns->roles[columns->weight] = COLUMN_WEIGHT;
  for (int64_t j = 0; j < expected->features; j++) {
    const char *name = expected->schema->features[j].name;
    const int64_t column = find_name(columns, columns->names, name);
    if (column == FOUND_SEVERAL)
      return ambiguous_error(columns, path, name, "it is an input of the network: rename or remove the others");
    if (column == FOUND_NONE) {
      if (n_missing++ == n_listed && n_listed < 5) n_listed += text_append_quoted(missing, sizeof missing, name);
      continue;
    }
    if (columns->roles[column] != COLUMN_IGNORED) {
      char shown[48];
      text_escape(name, strlen(name), shown, sizeof shown);
      return status_set(DESCENT_ERROR_DATA, "%s:%" PRId64 ": column '%s' cannot be %s", path, columns->line, shown,
                        columns->roles[column] >= 0 ? "two inputs of the network, whose input names are not distinct"
                        : column == columns->weight
                            ? "the weight: it is an input of the network (choose another column)"
                            : "the target: it is an input of the network (choose another target)");
    }
    columns->roles[column] = j;
  }
  if (n_missing == 0) return DESCENT_OK;
  return status_set(DESCENT_ERROR_DATA,
                    "%s:%" PRId64 ": %" PRId64 " of the %" PRId64 " columns that the network needs %s missing: %s%s",
                    path, columns->line, n_missing, expected->features, n_missing == 1 ? "is" : "are", missing,
                    n_missing > n_listed ? ", ..." : "");
}

/* Gives the columns the roles that they had in training, of which the file has the features and, where said, the
 * targets and the columns that were left out. */
static descent_status repeat_roles(struct columns *columns, const char *path, const struct expected *expected,
                                   bool targets, bool left_out) {
  enum { FEATURE, TARGET, LEFT_OUT };
  const struct schema *known = expected->schema;
  const int64_t n = expected->features + known->n_target_places + known->n_left_out;
  descent_status status = DESCENT_ERROR_MEMORY;
  char *kinds = memory_allocate(n, 1, "the columns");
  int64_t *at = memory_allocate(n, sizeof *at, "the columns"), place = 0;
  if (!kinds || !at) goto done;
  for (int64_t k = 0; k < known->n_target_places; k++) kinds[known->target_places[k]] = TARGET;
  for (int64_t k = 0; k < known->n_left_out; k++) kinds[known->left_out[k]] = LEFT_OUT;
  for (int64_t i = 0; i < columns->n; i++) {
    if (columns->roles[i] == COLUMN_IGNORED || (i == columns->weight && !left_out)) continue;
    while ((kinds[place] == TARGET && !targets) || (kinds[place] == LEFT_OUT && !left_out)) place++;
    if (kinds[place] == LEFT_OUT) columns->roles[i] = COLUMN_IGNORED;
    at[place++] = i;
  }
  status = DESCENT_OK;
  for (int64_t k = 0; targets && k < known->n_target_places; k++)
    TRY(add_target(columns, path, at[known->target_places[k]]));
done:
  free(kinds);
  free(at);
  return status;
}

/* The same where the number of columns says which of them the file has; `*done` then. `kept`: neither ignored nor the
 * weight. */
static descent_status match_places(struct columns *columns, const char *path, const descent_dataset_options *options,
                                   const struct expected *expected, int64_t kept, bool *done) {
  const int64_t features = expected->features, targets = expected->schema->n_target_places;
  const int64_t left_out = expected->schema->n_left_out;
  const bool all = !options->ignored && columns->n == features + targets + left_out;
  const bool some = !options->ignored && kept == features + left_out;
  *done = all || kept == features + targets || some;
  if (!*done || kept == features || targets + left_out == 0 || columns->targets) {
    *done = false;
    return DESCENT_OK;
  }
  if (!all && some && targets == left_out)
    return status_set(DESCENT_ERROR_DATA,
                      "%s:%" PRId64 ": %" PRId64 " columns, matched by position: %" PRId64
                      " of them are the network's targets or what was left out in training, but which? (ignore them)",
                      path, columns->line, columns->n, targets);
  return repeat_roles(columns, path, expected, all || kept == features + targets, all || kept != features + targets);
}

/* Where there are no names to go by: as many columns more as the network has targets are these, the last ones. */
static descent_status match_by_position(struct columns *columns, const char *path,
                                        const descent_dataset_options *options, const struct expected *expected) {
  descent_status status;
  int64_t kept = 0;
  bool done;
  for (int64_t i = 0; i < columns->n; i++) kept += columns->roles[i] != COLUMN_IGNORED && i != columns->weight;
  const int64_t targets = expected->classes ? 1 : expected->targets;
  TRY(match_places(columns, path, options, expected, kept, &done));
  if (!done && columns->targets == 0 && kept - targets == expected->features)
    for (int64_t i = 0, seen = 0; i < columns->n; i++) {
      if (columns->roles[i] == COLUMN_IGNORED || i == columns->weight) continue;
      if (seen++ >= expected->features) TRY(add_target(columns, path, i));
    }
  if (number_features(columns) != expected->features)
    TRY(status_set(DESCENT_ERROR_DATA,
                   "%s:%" PRId64 ": %" PRId64
                   " columns%s, matched by position as the %s has no names: the network needs %" PRId64
                   ", and %s for a target",
                   path, columns->line, kept, columns->targets ? " with the target" : "",
                   columns->names ? "network" : "file", expected->features, targets == 1 ? "one more" : "some more"));
done:
  return status;
}

static descent_status assign_roles(struct columns *columns, const char *path, const descent_dataset_options *options,
                                   const struct expected *expected) {
  descent_status status = DESCENT_OK;
  if (options->weight_column) TRY(find_one(columns, path, options->weight_column, &columns->weight));
  if (options->target && columns->targets)
    TRY(status_set(DESCENT_ERROR_DATA, "%s: the file itself says what its targets are (leave the target out)", path));
  if (options->target)
    TRY(find_targets(columns, path, options->target));
  else if (columns->targets == 0 && expected && columns->names)
    TRY(find_known_targets(columns, path, expected->schema));
  if (columns->weight >= 0 && is_target(columns, columns->weight))
    TRY(status_set(DESCENT_ERROR_DATA, "%s:%" PRId64 ": a column cannot be both the target and the weight", path,
                   columns->line));
  if (expected && columns->names && has_names(expected)) {
    columns->features = expected->features;
    return match_by_name(columns, path, expected);
  }
  TRY(mark_ignored(columns, path, options));
  if (expected) {
    columns->features = expected->features;
    columns->note = has_names(expected) ? "no header: columns are taken by position"
                                        : "the model has no column names: columns are taken by position";
    return match_by_position(columns, path, options, expected);
  }
  columns->features = number_features(columns);
  if (is_index(columns) && columns->roles[0] >= 0 && columns->features > 1 &&
      (columns->n > 2 || options->target_file)) {
    columns->roles[0] = COLUMN_IGNORED;
    columns->note = "the first column has no name (row numbers?) and is left out";
    columns->features = number_features(columns);
  }
  if (columns->features == 0)
    TRY(status_set(DESCENT_ERROR_DATA, "%s:%" PRId64 ": %s", path, columns->line,
                   columns->n == 1 ? "the target is the only column: there is none to learn from (is the delimiter one "
                                     "of , ; tab |?)"
                                   : "every column but the target is ignored: there is none to learn from"));
  TRY(check_distinct(columns, path, options));
done:
  return status;
}

static descent_status copy_names(struct columns *columns, const char *path) {
  struct schema *schema = &columns->schema;
  bool copied = true;
  schema->features = memory_allocate(columns->features, sizeof *schema->features, "the column names");
  if (!schema->features) return DESCENT_ERROR_MEMORY;
  schema->n_features = columns->features;
  for (int64_t i = 0; columns->names && i < columns->n; i++)
    if (columns->roles[i] >= 0)
      copied = (schema->features[columns->roles[i]].name = strdup(columns->names[i])) && copied;
  if (columns->names && columns->targets) {
    schema->target_names = memory_allocate(columns->targets, sizeof *schema->target_names, "the targets' names");
    if (!schema->target_names) return DESCENT_ERROR_MEMORY;
    schema->targets = columns->targets;
    for (int64_t k = 0; k < columns->targets; k++)
      copied = (schema->target_names[k] = strdup(columns->names[columns->target_at[k]])) && copied;
  }
  return copied ? DESCENT_OK : status_set(DESCENT_ERROR_MEMORY, "%s: out of memory for the column names", path);
}

/* Notes for the network where the columns lay that are no features, unless the targets are the last and the only. */
static descent_status note_places(struct columns *columns) {
  struct schema *schema = &columns->schema;
  int64_t left_out = 0;
  bool usual = true;
  for (int64_t i = 0; i < columns->n; i++)
    left_out += columns->roles[i] == COLUMN_IGNORED || columns->roles[i] == COLUMN_WEIGHT;
  for (int64_t k = 0; k < columns->targets; k++)
    usual = usual && columns->target_at[k] == columns->n - columns->targets + k;
  if (usual && !left_out) return DESCENT_OK;
  schema->target_places = memory_allocate(columns->targets, sizeof *schema->target_places, "the targets' places");
  schema->left_out = memory_allocate(left_out, sizeof *schema->left_out, "the places of columns");
  if (!schema->target_places || !schema->left_out) return DESCENT_ERROR_MEMORY;
  for (int64_t k = 0; k < columns->targets; k++)
    schema->target_places[schema->n_target_places++] = columns->target_at[k];
  for (int64_t i = 0; i < columns->n; i++)
    if (columns->roles[i] == COLUMN_IGNORED || columns->roles[i] == COLUMN_WEIGHT)
      schema->left_out[schema->n_left_out++] = i;
  return DESCENT_OK;
}

/* The targets' columns are not to be read, whatever they hold: nobody asks for them, or they have a file of their own.
 */
static void leave_targets_out(struct columns *columns) {
  for (int64_t k = 0; k < columns->targets; k++) columns->roles[columns->target_at[k]] = COLUMN_IGNORED;
  columns->targets = 0;
}

/* The labels' file: every column is a target, but for row numbers. */
static descent_status all_targets(struct columns *columns) {
  const int64_t first = columns->n > 1 && is_index(columns);
  descent_status status;
  columns->targets = 0;
  if (first) columns->roles[0] = COLUMN_IGNORED;
  TRY(add_last_targets(columns, columns->n - first));
  number_features(columns);
done:
  return status;
}

static descent_status settle(struct columns *columns, const char *path, const descent_dataset_options *options,
                             const struct expected *expected) {
  descent_status status;
  TRY(options->target_file == columns_are_targets ? all_targets(columns)
                                                  : assign_roles(columns, path, options, expected));
  const bool elsewhere = options->target_file && options->target_file != columns_are_targets;
  if (options->features_only || elsewhere) leave_targets_out(columns);
  TRY(copy_names(columns, path));
  if (!expected && options->target_file != columns_are_targets) TRY(note_places(columns));
done:
  return status;
}

descent_status columns_resolve(struct columns *columns, const char *path, struct text_list *first,
                               const descent_dataset_options *options, const struct expected *expected) {
  descent_status status;
  columns->n = first->n;
  columns->line = first->lines[0];
  columns->roles = memory_allocate(columns->n, sizeof *columns->roles, "the columns");
  if (!columns->roles) return DESCENT_ERROR_MEMORY;
  TRY(index_names(columns, first->items));
  if (is_header(columns, first, options, expected)) {
    columns->names = first->items;
    first->items = NULL;
    first->n = 0;
    TRY(check_names(columns, path, first->lines));
  }
  TRY(settle(columns, path, options, expected));
done:
  return status;
}

descent_status columns_assign(struct columns *columns, const char *path, int64_t n, char *const *names, int64_t targets,
                              int64_t weights, const descent_dataset_options *options,
                              const struct expected *expected) {
  descent_status status;
  columns->n = n;
  columns->line = 1;
  columns->roles = memory_allocate(n, sizeof *columns->roles, "the columns");
  if (!columns->roles) return DESCENT_ERROR_MEMORY;
  if (names) {
    columns->names = memory_allocate(n, sizeof *columns->names, "the column names");
    if (!columns->names) return DESCENT_ERROR_MEMORY;
    for (int64_t i = 0; i < n; i++)
      if (!(columns->names[i] = strdup(names[i])))
        TRY(status_set(DESCENT_ERROR_MEMORY, "%s: out of memory for the column names", path));
    TRY(index_names(columns, columns->names));
  }
  TRY(add_last_targets(columns, targets));
  if (weights) columns->weight = n - targets - 1;
  TRY(settle(columns, path, options, expected));
done:
  return status;
}
