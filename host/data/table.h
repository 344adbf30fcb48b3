/* What every reader fills: rows of cells, texts or numbers, that become a dataset. Columns get their roles, categories
 * their codes, missing cells NaN; what cannot be used is refused with its place. */
#ifndef DESCENT_DATA_TABLE_H
#define DESCENT_DATA_TABLE_H

#include "data/columns.h"
#include "data/dictionary.h"
#include "data/matrix.h"
#include "data/targets.h"

/* Where full blocks of rows go; the storage is handed over, and the next block starts at row first + its rows. */
struct table_blocks {
  int64_t rows; /* of a block, at least 1; 0: no blocks, but X is not kept, so that everything else is learned of a file
                   of any size: the storage at the end has its inputs, and X is NULL */
  descent_status (*take)(void *user, struct dataset_storage *block);
  void *user;
};

enum feature_kind { FEATURE_UNKNOWN, FEATURE_NUMBER, FEATURE_CATEGORY };

/* A feature column while it is read. In the row it is one float: a number, or a category's code; NaN where missing. */
struct table_feature {
  enum feature_kind kind;
  struct dictionary categories;
  int64_t missing; /* cells so far */
};

struct table {
  const char *path;
  struct reading reading;
  const struct table_blocks *blocks; /* or NULL: all rows in one storage */
  struct columns columns;
  struct table_feature *features; /* (columns.features) */
  struct targets targets;         /* of the one target */
  float *y;                       /* (capacity, columns.targets) of several targets */
  float *weights;                 /* (capacity) or NULL */
  float *values;                  /* (capacity, columns.features); where X is not kept one row */
  int64_t rows, capacity, total;  /* total: of the blocks already taken */
  bool row_without_target, decided;
  int64_t dropped, rounded, unseen;
  double rounding;         /* the largest relative change of a cell by float32 */
  struct text_list sample; /* the first rows, (sample_rows, columns.n), until the kinds of columns are decided */
  int64_t sample_rows, sample_bytes;
  double *missing_numbers; /* (n_missing_numbers) the values of those texts for missing cells that are numbers */
  int64_t n_missing_numbers;
};

/* Text files: the first record, then cell by cell. `blocks` may be NULL; all is borrowed until
 * table_clear. A function that fails has set the error and the table is only good for table_clear. */
descent_status table_begin(struct table *table, const char *path, const struct reading *reading,
                           const struct table_blocks *blocks);
/* Settles the columns by the first record, which is data itself where table->columns.names is NULL afterwards. */
descent_status table_first(struct table *table, struct text_list *first);
/* A cell of the current row; columns beyond columns.n are ignored. */
descent_status table_text(struct table *table, int64_t column, const char *text, size_t length, int64_t line);
descent_status table_end_row(struct table *table);
/* Files that say themselves what their columns are (columns_assign); a cell is a number then, or a text all the same.
 */
descent_status table_first_numbers(struct table *table, int64_t n, char *const *names, int64_t targets,
                                   int64_t weights);
descent_status table_number(struct table *table, int64_t column, double number, int64_t row);
/* Files of numbers: all of it. */
descent_status table_matrix(struct table *table, struct matrix *matrix);
/* Decides what is still open and gives the rows since the last block as a storage; NULL where there are none and blocks
 * were taken. */
descent_status table_finish(struct table *table, struct dataset_storage **storage);
/* Moves the rows so far into a storage; the table has room for none then. */
descent_status table_take(struct table *table, struct dataset_storage **storage);
/* Are cells only looked at? */
static inline bool table_is_survey(const struct table *table) { return table->blocks && table->blocks->rows == 0; }
void table_clear(struct table *table);

/* The CSV reader. `blocks` may be NULL; `*storage` is fresh (references 1), or NULL after whole blocks.
 */
descent_status csv_read(const char *path, const struct reading *reading, const struct table_blocks *blocks,
                        struct dataset_storage **storage);
/* An open matrix into a storage in the same way. */
descent_status matrix_into_table(struct matrix *matrix, const struct reading *reading,
                                 const struct table_blocks *blocks, struct dataset_storage **storage);

#endif
