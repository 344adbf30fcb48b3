/* Assigning roles: whether there is a header, and which columns are features, targets and weight. */
#include "data/column_roles.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/number.h"
#include "core/status.h"
#include "core/utf8.h"
#include "data/cell_forms.h"
#include "data/cells.h"

/* ---- the header ------------------------------------------------------------------------------------------------- */

static bool is_number(const char *cell) { return cell_number_forms(cell, strlen(cell)) != 0; }

static bool any_number(const struct text_list *record) {
  for (int64_t i = 0; i < record->n; i++)
    if (is_number(record->items[i])) return true;
  return false;
}

static bool is_missing(const descent_dataset_options *options, const char *cell) {
  const struct missing_cells missing = {.options = options};
  return cell_is_missing(&missing, cell, strlen(cell));
}

static bool all_missing(const struct text_list *record, const descent_dataset_options *options) {
  for (int64_t i = 0; i < record->n; i++)
    if (!is_missing(options, record->items[i])) return false;
  return true;
}

/* The whole numbers of a row, if all of its numbers are, from left to right. */
struct whole_numbers {
  int64_t n, first;
  bool counting; /* each is one more than the one before */
};

static bool find_whole_numbers(const struct text_list *record, struct whole_numbers *whole) {
  int64_t value, last = 0;
  *whole = (struct whole_numbers){.counting = true};
  for (int64_t i = 0; i < record->n; i++) {
    if (!is_number(record->items[i])) continue;
    if (!number_parse_integer(record->items[i], &value)) return false;
    if (whole->n++ == 0)
      whole->first = value;
    else
      whole->counting = whole->counting && last < INT64_MAX && value == last + 1;
    last = value;
  }
  return true;
}

/* Whether a first row with numbers, all whole and different, holds names by what is below: some text stands above a
 * number, and at least half of the cells are texts or stand above a number that is not whole (with fewer ERROR_DATA: a
 * row of data would be lost). Or the numbers count up, as those that pandas writes for columns without names, and those
 * below do not. Two such numbers, 0 and 1, may be either, and so may a count from another number: ERROR_DATA. */
static descent_status compare_rows(const struct columns *columns, const char *path, const struct text_list *first,
                                   const struct text_list *second, const descent_dataset_options *options, bool *header,
                                   const char **why) {
  struct whole_numbers names, below;
  const bool indexed = !*first->items[0]; /* the column of row numbers has no name */
  bool above_number = false;
  int64_t signs = 0;
  *header = false;
  if (!second || second->n != first->n || !find_whole_numbers(first, &names)) return DESCENT_OK;
  for (int64_t i = 0; i < first->n; i++) {
    const bool number = is_number(first->items[i]);
    if (i == 0 && indexed) continue;
    if (columns_find_name(columns, first->items, first->items[i]) == FOUND_SEVERAL ||
        (!number && is_missing(options, first->items[i])))
      return DESCENT_OK;
    int64_t whole;
    signs += !number || (is_number(second->items[i]) && !number_parse_integer(second->items[i], &whole));
    above_number = above_number || (!number && is_number(second->items[i]));
  }
  if (above_number && 2 * signs < first->n)
    return status_set(DESCENT_ERROR_DATA,
                      "%s:%" PRId64
                      ": the first row may be names of columns or data: it has texts and whole numbers, and "
                      "a text is above a number (choose header yes or no)",
                      path, first->lines[0]);
  if (above_number) {
    *why = "the first row is read as names, although some are numbers (header no reads it as data)";
    *header = true;
    return DESCENT_OK;
  }
  const bool counts = names.counting && (names.first == 0 || (names.first == 1 && names.n >= 4));
  if (!counts && names.n == first->n && names.n >= 3 && signs == names.n)
    return status_set(DESCENT_ERROR_DATA,
                      "%s:%" PRId64
                      ": '%s', '%s', ... may be names of columns or data: they are whole numbers, and those "
                      "below are not (choose header yes or no)",
                      path, first->lines[0], first->items[0], first->items[1]);
  if (!names.counting || (find_whole_numbers(second, &below) && below.counting && below.n == names.n && !indexed))
    return DESCENT_OK;
  if ((names.first == 0 && (names.n >= 3 || indexed)) || (names.first == 1 && names.n >= 4)) {
    *why = "the first row counts the columns and is read as names (header no reads it as data)";
    *header = true;
    return DESCENT_OK;
  }
  if ((names.first == 0 && names.n == 2) || names.n >= 4)
    return status_set(DESCENT_ERROR_DATA,
                      "%s:%" PRId64 ": '%s', '%s'%s may be names of columns or data (choose header yes or no)", path,
                      columns->line, first->items[0], first->items[1], first->n > 2 ? ", ..." : "");
  return DESCENT_OK;
}

/* Whether a row contains categories of the network, for at least half of its categorical columns. */
static bool holds_categories(const struct columns *columns, char *const *cells, const struct schema *schema) {
  int64_t categorical = 0, held = 0;
  for (int64_t f = 0; f < schema->n_features; f++) {
    const struct feature *feature = &schema->features[f];
    bool found = false;
    for (int64_t k = 0; k < feature->n_categories && !found; k++)
      found = columns_find_name(columns, cells, feature->categories[k]) != FOUND_NONE;
    categorical += feature->categories != NULL;
    held += found;
  }
  return held > 0 && 2 * held >= categorical;
}

/* Whether the target that the user names is in the row, and is not the index of a column. */
static bool holds_target(const struct columns *columns, const struct text_list *first,
                         const descent_dataset_options *options) {
  int64_t index;
  if (!options->target || columns_find_name(columns, first->items, options->target) == FOUND_NONE) return false;
  return !number_parse_integer(options->target, &index) || index < -columns->n || index >= columns->n;
}

/* A row without numbers is a header, unless it contains categories of a network without names. A row with numbers is
 * one when it contains the requested names, or differs from the row below it as names do. */
static descent_status find_header(struct columns *columns, const char *path, const struct text_list *first,
                                  const struct text_list *second, const struct read_request *request, bool *header) {
  const descent_dataset_options *options = request->options;
  const struct expected_data *expected = request->expected;
  const bool named = expected && columns_are_named(expected);
  const char *why = "";
  *header = options->header > 0;
  if (options->header >= 0) return DESCENT_OK;
  if (all_missing(first, options)) return DESCENT_OK; /* a row to fill in */
  if (!any_number(first)) {
    *header = !expected || named || !holds_categories(columns, first->items, expected->schema);
    return DESCENT_OK;
  }
  *header = holds_target(columns, first, options);
  if (*header) return DESCENT_OK;
  *header = named;
  for (int64_t j = 0; named && *header && j < expected->features; j++)
    *header = columns_find_name(columns, first->items, expected->schema->features[j].name) != FOUND_NONE;
  if (*header || (expected && !named)) return DESCENT_OK;
  const descent_status status = compare_rows(columns, path, first, second, options, header, &why);
  note_add(columns->note, why);
  return status;
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

/* `wanted` is "a", or "a,b" when no column has that whole name. */
static descent_status find_targets(struct columns *columns, const char *path, const char *wanted) {
  descent_status status = DESCENT_OK;
  char *copy = NULL;
  int64_t column;
  if (!strchr(wanted, ',') || (columns->names && columns_find_name(columns, columns->names, wanted) != FOUND_NONE)) {
    TRY(columns_find(columns, path, wanted, &column));
    return columns_add_target(columns, path, column);
  }
  copy = strdup(wanted);
  if (!copy) return status_set(DESCENT_ERROR_MEMORY, "%s: out of memory for the targets", path);
  for (char *rest = copy, *item; (item = strsep(&rest, ","));) {
    TRY(columns_find(columns, path, item, &column));
    TRY(columns_add_target(columns, path, column));
  }
done:
  free(copy);
  return status;
}

/* Without a requested target: the columns that were targets in training, if all exist. */
static descent_status find_known_targets(struct columns *columns, const char *path, const struct schema *schema) {
  descent_status status = DESCENT_OK;
  for (int64_t k = 0; k < schema->targets; k++) {
    const int64_t column = columns_find_name(columns, columns->names, schema->target_names[k]);
    if (column == FOUND_SEVERAL)
      TRY(columns_ambiguous(columns, path, schema->target_names[k],
                            "it is the network's target: rename or remove the others"));
    if (column >= 0) TRY(columns_add_target(columns, path, column));
  }
  if (columns->targets < schema->targets) columns->targets = 0;
done:
  return status;
}

/* Marks the ignored columns; a name that several columns have marks all of them. */
static descent_status mark_ignored(struct columns *columns, const char *path, const descent_dataset_options *options) {
  descent_status status = DESCENT_OK;
  for (int64_t k = 0; k < options->ignored; k++) {
    int64_t column;
    const char *wanted = options->ignore[k];
    TRY(columns_find_any(columns, path, wanted, &column));
    for (int64_t i = 0; column == FOUND_SEVERAL && i < columns->n; i++)
      if (strcmp(columns->names[i], wanted) == 0) columns->roles[i] = COLUMN_IGNORED;
    if (column >= 0) columns->roles[column] = COLUMN_IGNORED;
    for (int64_t i = 0; i < columns->n; i++) {
      if (columns->roles[i] != COLUMN_IGNORED || (!columns_is_target(columns, i) && i != columns->weight)) continue;
      char shown[48];
      text_escape(wanted, strlen(wanted), shown, sizeof shown);
      TRY(status_set(DESCENT_ERROR_DATA, "%s:%" PRId64 ": column '%s' cannot be both the %s and ignored", path,
                     columns->line, shown, i == columns->weight ? "weight" : "target"));
    }
  }
done:
  return status;
}

/* Whether the first column holds row numbers or names: it has no name, as pandas and R write it, or is "Unnamed: 0", as
 * pandas writes it after reading such a file. */
static bool has_index_column(const struct columns *columns) {
  return columns->names && (!*columns->names[0] || strcmp(columns->names[0], "Unnamed: 0") == 0);
}

/* A model finds its columns by name, so the name of a feature must be unique in the file. */
static descent_status check_distinct(const struct columns *columns, const char *path,
                                     const descent_dataset_options *options) {
  const char *advice = options->header < 0 ? "rename them, ignore them all, or choose header no if this row is data"
                                           : "rename them, or ignore them all";
  for (int64_t i = 0; columns->names && i < columns->n; i++) {
    if (columns->roles[i] < 0 || columns_find_name(columns, columns->names, columns->names[i]) != FOUND_SEVERAL)
      continue;
    if (*columns->names[i]) return columns_ambiguous(columns, path, columns->names[i], advice);
    return status_set(DESCENT_ERROR_DATA,
                      "%s:%" PRId64 ": several columns have no name, including column %" PRId64
                      " (from 0) (name them, or ignore them)",
                      path, columns->line, i);
  }
  return DESCENT_OK;
}

/* Whether `wanted` is the name of the column that the format defines as the weights. */
static bool names_weight(const struct columns *columns, const char *wanted) {
  return columns->names && strcmp(columns->names[columns->weight], wanted) == 0;
}

static descent_status assign_roles(struct columns *columns, const char *path, const descent_dataset_options *options,
                                   const struct expected_data *expected) {
  descent_status status = DESCENT_OK;
  if (options->weight_column && columns->weight >= 0 && !names_weight(columns, options->weight_column))
    TRY(status_set(DESCENT_ERROR_DATA, "%s: the file defines its weights (omit the weight column)", path));
  if (options->weight_column) TRY(columns_find(columns, path, options->weight_column, &columns->weight));
  if (options->target && columns->targets)
    TRY(status_set(DESCENT_ERROR_DATA, "%s: the file defines its targets (omit the target)", path));
  if (options->target)
    TRY(find_targets(columns, path, options->target));
  else if (columns->targets == 0 && expected && columns->names)
    TRY(find_known_targets(columns, path, expected->schema));
  if (columns->weight >= 0 && columns_is_target(columns, columns->weight))
    TRY(status_set(DESCENT_ERROR_DATA, "%s:%" PRId64 ": a column cannot be both the target and the weight", path,
                   columns->line));
  if (expected && columns->names && columns_are_named(expected)) {
    columns->features = expected->features;
    return columns_match_names(columns, path, expected);
  }
  TRY(mark_ignored(columns, path, options));
  if (expected) {
    columns->features = expected->features;
    note_add(columns->note, columns_are_named(expected)
                                ? "no header: columns are matched by position"
                                : "the model has no column names: columns are matched by position");
    return columns_match_positions(columns, path, options, expected);
  }
  columns->features = columns_number_features(columns);
  if (has_index_column(columns) && columns->roles[0] >= 0 && columns->features > 1 &&
      (columns->n > 2 || options->target_file)) {
    columns->roles[0] = COLUMN_IGNORED;
    note_add(columns->note, "the first column has no name (row numbers?) and is left out");
    columns->features = columns_number_features(columns);
  }
  if (columns->features == 0)
    TRY(status_set(DESCENT_ERROR_DATA, "%s:%" PRId64 ": %s", path, columns->line,
                   columns->n == 1 ? "the target is the only column: nothing to learn from (check the delimiter: , ; "
                                     "tab or |)"
                                   : "every column but the target is ignored: nothing to learn from"));
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

/* Records the positions of the columns that are not features, unless these are only targets at the end. */
static descent_status record_positions(struct columns *columns) {
  struct schema *schema = &columns->schema;
  int64_t left_out = 0;
  bool usual = true;
  for (int64_t i = 0; i < columns->n; i++)
    left_out += columns->roles[i] == COLUMN_IGNORED || columns->roles[i] == COLUMN_WEIGHT;
  for (int64_t k = 0; k < columns->targets; k++)
    usual = usual && columns->target_at[k] == columns->n - columns->targets + k;
  if (usual && !left_out) return DESCENT_OK;
  schema->target_positions =
      memory_allocate(columns->targets, sizeof *schema->target_positions, "the positions of targets");
  schema->left_out = memory_allocate(left_out, sizeof *schema->left_out, "the positions of columns");
  if (!schema->target_positions || !schema->left_out) return DESCENT_ERROR_MEMORY;
  for (int64_t k = 0; k < columns->targets; k++)
    schema->target_positions[schema->n_target_positions++] = columns->target_at[k];
  for (int64_t i = 0; i < columns->n; i++)
    if (columns->roles[i] == COLUMN_IGNORED || columns->roles[i] == COLUMN_WEIGHT)
      schema->left_out[schema->n_left_out++] = i;
  return DESCENT_OK;
}

/* Ignores the target columns: targets are not wanted, or are read from a separate file. */
static void ignore_targets(struct columns *columns) {
  for (int64_t k = 0; k < columns->targets; k++) columns->roles[columns->target_at[k]] = COLUMN_IGNORED;
  columns->targets = 0;
}

/* For a target file: every column is a target, except row numbers. */
static descent_status all_targets(struct columns *columns) {
  const int64_t first = columns->n > 1 && has_index_column(columns);
  descent_status status;
  columns->targets = 0;
  if (first) columns->roles[0] = COLUMN_IGNORED;
  TRY(columns_add_last_targets(columns, columns->n - first));
  columns_number_features(columns);
done:
  return status;
}

static descent_status resolve_roles(struct columns *columns, const char *path, const struct read_request *request) {
  const descent_dataset_options *options = request->options;
  const struct expected_data *expected = request->expected;
  descent_status status;
  TRY(request->all_targets ? all_targets(columns) : assign_roles(columns, path, options, expected));
  if (options->features_only || options->target_file) ignore_targets(columns);
  TRY(copy_names(columns, path));
  if (!expected && !request->all_targets) TRY(record_positions(columns));
done:
  return status;
}

descent_status columns_resolve(struct columns *columns, const char *path, struct text_list *first,
                               const struct text_list *second, const struct read_request *request) {
  descent_status status;
  bool header;
  columns->n = first->n;
  columns->line = first->lines[0];
  columns->roles = memory_allocate(columns->n, sizeof *columns->roles, "the columns");
  if (!columns->roles) return DESCENT_ERROR_MEMORY;
  TRY(columns_index(columns, first->items));
  TRY(find_header(columns, path, first, second, request, &header));
  if (header) {
    columns->names = first->items;
    first->items = NULL;
    first->n = 0;
    TRY(check_names(columns, path, first->lines));
  }
  TRY(resolve_roles(columns, path, request));
done:
  return status;
}

descent_status columns_assign(struct columns *columns, const char *path, int64_t n, char *const *names, int64_t targets,
                              int64_t weights, const struct read_request *request) {
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
    TRY(columns_index(columns, columns->names));
  }
  TRY(columns_add_last_targets(columns, targets));
  if (weights) columns->weight = n - targets - 1;
  TRY(resolve_roles(columns, path, request));
done:
  return status;
}
