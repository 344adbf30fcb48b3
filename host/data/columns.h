/* What each column of a table is: a feature, a target, the rows' weight, or ignored. */
#ifndef DESCENT_DATA_COLUMNS_H
#define DESCENT_DATA_COLUMNS_H

#include "data/dataset.h"
#include "data/text.h"

/* A role of 0 or more is the number of a feature; COLUMN_TARGET - k is target k. */
enum { COLUMN_IGNORED = -1, COLUMN_WEIGHT = -2, COLUMN_TARGET = -3 };

struct columns {
  int64_t n;      /* columns of the file */
  int64_t *roles; /* (n) */
  int64_t features, targets;
  int64_t *target_at;   /* (targets) their columns */
  int64_t weight;       /* column of the rows' weights, or -1 */
  int64_t line;         /* of the header, or of the first row */
  char **names;         /* (n) or NULL without a header */
  struct schema schema; /* of the names: handed over to the storage */
  const char *note;     /* what was decided that could surprise; NULL: nothing */
  int32_t *table;       /* hash of a name to column + 1, negative where several have it; 0: free */
  int64_t table_size;
};

/* Takes over the names in the first record of a text file, if it is a header, and gives every column its role. */
descent_status columns_resolve(struct columns *columns, const char *path, struct text_list *first,
                               const struct reading *reading);
/* The same for a file that says itself how many columns it has, what they are called (names (n) or NULL, copied), and
 * which are targets (the last `targets`) and weights (`weights` of them, 0 or 1, before those). */
descent_status columns_assign(struct columns *columns, const char *path, int64_t n, char *const *names, int64_t targets,
                              int64_t weights, const struct reading *reading);
/* The column of a name or of an index in text; ERROR_DATA lists what there is. */
descent_status columns_find(const struct columns *columns, const char *path, const char *wanted, int64_t *column);
/* "column 'age'", or "column 3 (from 0)" without a name. */
void columns_describe(const struct columns *columns, int64_t column, char *text, size_t size);
void columns_clear(struct columns *columns);

#endif
