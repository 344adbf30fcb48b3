/* The role of each column of a table: feature, target, row weight, or ignored. */
#ifndef DESCENT_DATA_COLUMNS_H
#define DESCENT_DATA_COLUMNS_H

#include "data/dataset.h"
#include "data/text.h"

/* A role >= 0 is the index of a feature; COLUMN_TARGET - k is target k. */
enum { COLUMN_IGNORED = -1, COLUMN_WEIGHT = -2, COLUMN_TARGET = -3 };

struct columns {
  int64_t n;      /* columns of the file */
  int64_t *roles; /* (n) */
  int64_t features, targets;
  int64_t *target_at;   /* (targets) column of each target */
  int64_t weight;       /* column of the rows' weights, or -1 */
  int64_t line;         /* line number of the header, or of the first row */
  char **names;         /* (n) or NULL without a header */
  struct schema schema; /* with names only */
  char note[NOTE_SIZE]; /* decisions that the user should know, or "" */
  int32_t *table;       /* hash table from name to column + 1, negative when several have it; 0: free */
  int64_t table_size;
};

/* Assigns every column its role. Takes ownership of the texts in the first record of a text file if it is a header.
 * `second`: the record below it, or NULL without one. */
descent_status columns_resolve(struct columns *columns, const char *path, struct text_list *first,
                               const struct text_list *second, const struct read_request *request);
/* The same for a format that states its columns: n of them, names (n) or NULL (copied), the last `targets` of which are
 * targets, preceded by `weights` (0 or 1) columns of weights. */
descent_status columns_assign(struct columns *columns, const char *path, int64_t n, char *const *names, int64_t targets,
                              int64_t weights, const struct read_request *request);
/* The column of a name, or of an index as text; ERROR_DATA lists the known columns. */
descent_status columns_find(const struct columns *columns, const char *path, const char *wanted, int64_t *column);
/* Writes "column 'age'", or "column 3 (from 0)" without a name. */
void columns_describe(const struct columns *columns, int64_t column, char *text, size_t size);
void columns_clear(struct columns *columns);

#endif
