/* The table that every reader fills with rows of cells, and that becomes a dataset. Columns are assigned roles,
 * categories become codes, missing cells NaN. Invalid cells are errors that name their line and column. */
#ifndef DESCENT_DATA_TABLE_H
#define DESCENT_DATA_TABLE_H

#include "data/cells.h"
#include "data/columns.h"
#include "data/dictionary.h"
#include "data/matrix.h"
#include "data/offset.h"
#include "data/targets.h"

/* Consumer of blocks of rows. `consume` owns the block it receives. */
struct table_blocks {
  int64_t rows; /* of a block, at least 1; 0: a survey, which learns everything but X of a file of any size: the storage
                   at the end has the number of inputs and a NULL X */
  descent_status (*consume)(void *user, struct dataset_storage *block);
  void *user;
};

enum feature_kind { FEATURE_UNKNOWN, FEATURE_NUMBER, FEATURE_CATEGORY };

/* A feature column while reading. A cell is one float: a number or a category's code; NaN when missing. */
struct table_feature {
  enum feature_kind kind;
  struct dictionary categories;
  int64_t missing;        /* cells so far */
  double offset;          /* of a number: the cell holds value - offset; see data/offset.h */
  double rounding;        /* the largest change of a number by rounding */
  double first;           /* number */
  bool has_first, varies; /* varies: another number is different */
};

struct table {
  const char *path;
  struct read_request request;
  const struct table_blocks *blocks; /* or NULL: one storage for all rows */
  struct columns columns;
  struct table_feature *features; /* (columns.features) */
  struct targets targets;         /* with one target */
  float *y;                       /* (capacity, columns.targets) with several targets */
  /* Until the offsets are chosen, NULL afterwards: the numbers of the first rows, (early_rows, columns.features) and,
   * with several targets, (early_rows, columns.targets). */
  double *early, *early_y;
  int64_t early_rows;
  double *y_offsets, *y_rounding; /* (columns.targets) with several targets */
  float *weights;                 /* (capacity) or NULL */
  float *values;                  /* (capacity, columns.features); one row in a survey */
  int64_t rows, capacity, total;  /* total: rows of earlier blocks */
  int64_t stored;                 /* bytes of the file so far; 0: unknown */
  bool row_without_target, decided;
  int64_t plain; /* columns at the beginning whose numbers are stored as they are; known once the offsets are chosen */
  int64_t dropped, unseen;
  struct rounding rounding;
  struct text_list sample; /* the first rows, (sample_rows, columns.n), until the kinds of columns are inferred */
  int64_t sample_rows, sample_bytes;
  struct missing_cells missing;
  char delimiter;              /* of CSV; 0 for other formats */
  const struct matrix *matrix; /* while it is read, else NULL */
};

/* `blocks` may be NULL; everything is borrowed until table_clear. After a failure only table_clear may be called. */
descent_status table_begin(struct table *table, const char *path, const struct read_request *request,
                           const struct table_blocks *blocks);
/* Text files: resolves the columns from the first two records; `second` is NULL when there is one. The first is data if
 * table->columns.names is NULL afterwards. */
descent_status table_resolve_columns(struct table *table, struct text_list *first, const struct text_list *second);
/* Adds a cell of the current row; columns beyond columns.n are ignored. */
descent_status table_add_text(struct table *table, int64_t column, const char *text, size_t length, int64_t line);
descent_status table_end_row(struct table *table);
/* Formats that state their columns (columns_assign); a cell is then a number or a text. */
descent_status table_set_columns(struct table *table, int64_t n, char *const *names, int64_t targets, int64_t weights);
descent_status table_add_number(struct table *table, int64_t column, double number, int64_t row);
/* Reads a whole matrix. */
descent_status table_read_matrix(struct table *table, struct matrix *matrix);
/* Infers what is still undecided and returns the rows since the last block as a storage; NULL when there are none after
 * earlier blocks. */
descent_status table_finish(struct table *table, struct dataset_storage **storage);
/* Refuses sizes out of proportion to the file, unless a network states the columns. ERROR_DATA. */
descent_status table_check_expansion(const struct table *table, int64_t rows, int64_t columns);
/* Moves the rows so far into a new storage and leaves the table without capacity. */
descent_status table_extract(struct table *table, struct dataset_storage **storage);
/* Whether X is not kept. */
static inline bool table_is_survey(const struct table *table) { return table->blocks && table->blocks->rows == 0; }
void table_clear(struct table *table);

/* The CSV reader. `blocks` may be NULL; `*storage` is new (references 1), or NULL after whole blocks. */
descent_status csv_read(const char *path, const struct read_request *request, const struct table_blocks *blocks,
                        struct dataset_storage **storage);
/* The same for an open matrix. */
descent_status matrix_read_as_table(struct matrix *matrix, const struct read_request *request,
                                    const struct table_blocks *blocks, struct dataset_storage **storage);

#endif
