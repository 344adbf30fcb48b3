/* What each column of a table is: input, target or ignored. */
#ifndef DESCENT_DATA_COLUMNS_H
#define DESCENT_DATA_COLUMNS_H

#include "data/dataset.h"

/* A growing list of strings. */
struct text_list {
  char **items;
  int64_t n, capacity;
};
bool text_list_add(struct text_list *list, const char *text, size_t length);
void text_list_clear(struct text_list *list);
bool text_list_any_number(const struct text_list *list);

/* Copies text for an error message: bytes that do not print become '?', long text ends in "...". */
void text_escape(const char *text, size_t length, char *shown, size_t size);

enum { COLUMN_TARGET = -1, COLUMN_IGNORED = -2 }; /* any other role is the number of an input */

struct columns {
  int64_t n;      /* columns of the file */
  int64_t *roles; /* (n) */
  int64_t inputs;
  int64_t target;     /* column, or -1 */
  char **names;       /* (n) or NULL without a header */
  char **input_names; /* (inputs) or NULL; handed over to the storage */
  char *target_name;
};

/* Gives every column its role; `first` is the file's first record. */
descent_status columns_resolve(struct columns *columns, const char *path, const struct text_list *first, bool header,
                               const descent_dataset_options *options, const struct dataset_schema *schema);
/* "column 'age'", or "column 3" without a name. */
void columns_describe(const struct columns *columns, int64_t column, char *text, size_t size);
void columns_clear(struct columns *columns);

#endif
