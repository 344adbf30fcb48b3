/* What each column of a table is: input, target or ignored. */
#ifndef DESCENT_DATA_COLUMNS_H
#define DESCENT_DATA_COLUMNS_H

#include "data/dataset.h"
#include "data/text.h"

enum { COLUMN_TARGET = -1, COLUMN_IGNORED = -2 }; /* any other role is the number of an input */

struct columns {
  int64_t n;      /* columns of the file */
  int64_t *roles; /* (n) */
  int64_t inputs;
  int64_t target;       /* column, or -1 */
  int64_t line;         /* of the header, or of the first row */
  char **names;         /* (n) or NULL without a header */
  struct schema schema; /* of the names; handed over to the storage */
  const char *note;     /* what was decided that could surprise; NULL: nothing */
  int32_t *table;       /* hash of a name to column + 1, negative where several have it; 0: free */
  int64_t table_size;
};

/* Takes over the names in the file's first record, if it is a header, and gives every column its role. */
descent_status columns_resolve(struct columns *columns, const char *path, struct text_list *first,
                               const descent_dataset_options *options, const struct expected *expected);
/* "column 'age'", or "column 3 (from 0)" without a name. */
void columns_describe(const struct columns *columns, int64_t column, char *text, size_t size);
void columns_clear(struct columns *columns);

#endif
