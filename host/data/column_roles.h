/* What the parts of columns.h share: columns.c finds columns, column_match.c gives them a network's roles, and
 * column_roles.c decides. */
#ifndef DESCENT_DATA_COLUMN_ROLES_H
#define DESCENT_DATA_COLUMN_ROLES_H

#include "data/columns.h"

enum { FOUND_NONE = -1, FOUND_SEVERAL = -2 };

/* Indexes (n) names, those of the columns or the cells that may be; of equal ones the first is kept. */
descent_status columns_index(struct columns *columns, char *const *names);
/* The column of one of the names that were indexed, or FOUND_*. */
int64_t columns_find_name(const struct columns *columns, char *const *names, const char *name);
/* columns_find, but FOUND_SEVERAL where the name is not unique. A name wins over an index, which counts from 0, or from
 * the end when negative. */
descent_status columns_find_any(const struct columns *columns, const char *path, const char *wanted, int64_t *column);
/* ERROR_DATA: of a name that several columns have there is no telling which is meant. */
descent_status columns_ambiguous(const struct columns *columns, const char *path, const char *name, const char *advice);

/* ERROR_DATA where it is one already. */
descent_status columns_add_target(struct columns *columns, const char *path, int64_t column);
/* The last `n` columns at once, where none is a target yet. */
descent_status columns_add_last_targets(struct columns *columns, int64_t n);
bool columns_is_target(const struct columns *columns, int64_t column);
/* Gives targets and weight their roles; every column that is not ignored is a feature, in order. Returns how many. */
int64_t columns_number_features(struct columns *columns);

/* Does the network know its columns by name? Either all have one or none has. */
static inline bool columns_are_named(const struct expected *expected) {
  return expected->schema->features && expected->schema->features[0].name;
}
/* The network's features by their names; what else there is, is ignored. */
descent_status columns_match_names(struct columns *columns, const char *path, const struct expected *expected);
/* Where there are no names to go by: the columns lie as they did in training, with or without the targets and what was
 * left out, which their number tells; or as many more as the network has targets are these, the last ones. */
descent_status columns_match_positions(struct columns *columns, const char *path,
                                       const descent_dataset_options *options, const struct expected *expected);

#endif
