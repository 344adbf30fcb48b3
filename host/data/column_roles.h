/* Shared by the implementation of columns.h: columns.c finds columns, column_match.c matches them to a network, and
 * column_roles.c assigns the roles. */
#ifndef DESCENT_DATA_COLUMN_ROLES_H
#define DESCENT_DATA_COLUMN_ROLES_H

#include "data/columns.h"

enum { FOUND_NONE = -1, FOUND_SEVERAL = -2 };

/* Builds the hash of the n names, which are the column names or the cells of what may be a header. */
descent_status columns_index(struct columns *columns, char *const *names);
/* The column of this name among those indexed, or FOUND_*. */
int64_t columns_find_name(const struct columns *columns, char *const *names, const char *name);
/* columns_find, with *column = FOUND_SEVERAL for a name that is not unique. A name takes precedence over an index,
 * which counts from 0, or from the end when negative. */
descent_status columns_find_any(const struct columns *columns, const char *path, const char *wanted, int64_t *column);
/* ERROR_DATA: several columns have this name. */
descent_status columns_ambiguous(const struct columns *columns, const char *path, const char *name, const char *advice);

/* ERROR_DATA when the column is a target already. */
descent_status columns_add_target(struct columns *columns, const char *path, int64_t column);
/* Makes the last `n` columns targets; there must be none yet. */
descent_status columns_add_last_targets(struct columns *columns, int64_t n);
bool columns_is_target(const struct columns *columns, int64_t column);
/* Assigns the roles of targets and weight and numbers the remaining columns that are not ignored as features, in order.
 * Returns the number of features. */
int64_t columns_number_features(struct columns *columns);

/* Whether the network's columns have names; either all have one or none has. */
static inline bool columns_are_named(const struct expected_data *expected) {
  return expected->schema->features && expected->schema->features[0].name;
}
/* Assigns the network's features by name and ignores all other columns. */
descent_status columns_match_names(struct columns *columns, const char *path, const struct expected_data *expected);
/* Without names: assigns the roles that columns had at the same positions in training. The number of columns shows
 * whether the file has the targets and the columns left out. Otherwise the last columns beyond the features are the
 * targets, when their number matches. */
descent_status columns_match_positions(struct columns *columns, const char *path,
                                       const descent_dataset_options *options, const struct expected_data *expected);

#endif
