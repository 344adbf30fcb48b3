/* Matching columns to a network: by name, or by their positions in the training file. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/status.h"
#include "data/column_roles.h"

descent_status columns_match_names(struct columns *columns, const char *path, const struct expected_data *expected) {
  char missing[400] = "";
  int64_t n_missing = 0, n_listed = 0;
  for (int64_t i = 0; i < columns->n; i++) columns->roles[i] = COLUMN_IGNORED;
  for (int64_t k = 0; k < columns->targets; k++) columns->roles[columns->target_at[k]] = COLUMN_TARGET - k;
  if (columns->weight >= 0) columns->roles[columns->weight] = COLUMN_WEIGHT;
  for (int64_t j = 0; j < expected->features; j++) {
    const char *name = expected->schema->features[j].name;
    const int64_t column = columns_find_name(columns, columns->names, name);
    if (column == FOUND_SEVERAL)
      return columns_ambiguous(columns, path, name, "it is an input of the network: rename or remove the others");
    if (column == FOUND_NONE) {
      if (n_missing++ == n_listed && n_listed < 5) n_listed += text_append_quoted(missing, sizeof missing, name);
      continue;
    }
    if (columns->roles[column] != COLUMN_IGNORED) {
      char shown[48];
      text_escape(name, strlen(name), shown, sizeof shown);
      return status_set(DESCENT_ERROR_DATA, "%s:%" PRId64 ": column '%s' cannot be %s", path, columns->line, shown,
                        columns->roles[column] >= 0 ? "two inputs of the network: its input names are not distinct"
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

/* Assigns the roles that columns had in training. The file has the features and, as stated, the targets and the columns
 * left out. */
static descent_status repeat_roles(struct columns *columns, const char *path, const struct expected_data *expected,
                                   bool targets, bool left_out) {
  enum { FEATURE, TARGET, LEFT_OUT };
  const struct schema *known = expected->schema;
  const int64_t n = expected->features + known->n_target_positions + known->n_left_out;
  descent_status status = DESCENT_ERROR_MEMORY;
  char *kinds = memory_allocate(n, 1, "the columns");
  int64_t *at = memory_allocate(n, sizeof *at, "the columns"), position = 0;
  if (!kinds || !at) goto done;
  for (int64_t k = 0; k < known->n_target_positions; k++) kinds[known->target_positions[k]] = TARGET;
  for (int64_t k = 0; k < known->n_left_out; k++) kinds[known->left_out[k]] = LEFT_OUT;
  for (int64_t i = 0; i < columns->n; i++) {
    if (columns->roles[i] == COLUMN_IGNORED || (i == columns->weight && !left_out)) continue;
    while ((kinds[position] == TARGET && !targets) || (kinds[position] == LEFT_OUT && !left_out)) position++;
    if (kinds[position] == LEFT_OUT) columns->roles[i] = COLUMN_IGNORED;
    at[position++] = i;
  }
  status = DESCENT_OK;
  for (int64_t k = 0; targets && k < known->n_target_positions; k++)
    TRY(columns_add_target(columns, path, at[known->target_positions[k]]));
done:
  free(kinds);
  free(at);
  return status;
}

/* Infers from the number of columns which of them the file has, then repeats their roles and sets *done. `kept`: number
 * of columns that are neither ignored nor the weight. */
static descent_status match_positions(struct columns *columns, const char *path, const descent_dataset_options *options,
                                      const struct expected_data *expected, int64_t kept, bool *done) {
  const int64_t features = expected->features, targets = expected->schema->n_target_positions;
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
                      "%s:%" PRId64 ": %" PRId64 " columns, matched by position, are ambiguous: %" PRId64
                      " of them are the network's targets or columns left out in training (ignore them)",
                      path, columns->line, columns->n, targets);
  return repeat_roles(columns, path, expected, all || kept == features + targets, all || kept != features + targets);
}

/* In a file that states its targets: leaves out the columns at the positions that were left out in training. */
static void repeat_left_out(struct columns *columns, const descent_dataset_options *options,
                            const struct expected_data *expected) {
  const struct schema *known = expected->schema;
  const bool own_weights = columns->weight >= 0 && !options->weight_column;
  const int64_t n = columns->n - columns->targets - own_weights; /* the weights come before the targets */
  int64_t features = n - (columns->weight >= 0 && !own_weights);
  for (int64_t k = 0; k < known->n_target_positions; k++)
    if (known->target_positions[k] < n) return;
  for (int64_t k = 0; k < known->n_left_out; k++)
    features -= known->left_out[k] < n && known->left_out[k] != columns->weight;
  if (features != expected->features) return;
  for (int64_t k = 0; k < known->n_left_out; k++)
    if (known->left_out[k] < n && known->left_out[k] != columns->weight)
      columns->roles[known->left_out[k]] = COLUMN_IGNORED;
}

descent_status columns_match_positions(struct columns *columns, const char *path,
                                       const descent_dataset_options *options, const struct expected_data *expected) {
  descent_status status;
  int64_t kept = 0;
  bool done;
  if (columns->targets && !options->ignored) repeat_left_out(columns, options, expected);
  for (int64_t i = 0; i < columns->n; i++) kept += columns->roles[i] != COLUMN_IGNORED && i != columns->weight;
  const int64_t targets = expected->classes ? 1 : expected->targets;
  TRY(match_positions(columns, path, options, expected, kept, &done));
  if (!done && columns->targets == 0 && kept - targets == expected->features)
    for (int64_t i = 0, seen = 0; i < columns->n; i++) {
      if (columns->roles[i] == COLUMN_IGNORED || i == columns->weight) continue;
      if (seen++ >= expected->features) TRY(columns_add_target(columns, path, i));
    }
  if (columns_number_features(columns) != expected->features)
    TRY(status_set(
        DESCENT_ERROR_DATA,
        "%s:%" PRId64 ": %" PRId64
        " column%s%s, matched by position because the %s has no names: the network needs %" PRId64 ", plus one %s",
        path, columns->line, kept, kept == 1 ? "" : "s", columns->targets ? " with the target" : "",
        columns->names ? "network" : "file", expected->features, targets == 1 ? "for the target" : "per target"));
done:
  return status;
}
