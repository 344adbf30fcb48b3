/* The target column while it is read: distinct values are counted until it is known whether they are classes. */
#ifndef DESCENT_DATA_TARGETS_H
#define DESCENT_DATA_TARGETS_H

#include "data/dataset.h"
#include "data/dictionary.h"

enum {
  TARGETS_AUTO_CLASSES = 20,    /* most distinct integers that are taken for classes unasked */
  TARGETS_MOST_CLASSES = 65536, /* so that an identifier is refused before it fills the memory */
  TARGETS_MANY_TEXTS = 1000     /* beyond that, texts that hardly repeat are no classes */
};

struct targets {
  descent_task task; /* asked for, or the network's; auto: to be inferred */
  const struct expected *expected;
  /* (rows) While `counting`, indices into the distinct values (exact as floats); otherwise the numbers themselves. One
   * array does for both, so that a column of numbers costs 4 bytes a row. */
  float *y;
  int64_t rows, capacity;
  bool counting;
  int64_t first_text;         /* index of the first distinct value that is no number; -1 without */
  struct dictionary distinct; /* with a network, its classes */
  int64_t rounded;            /* numbers that float32 does not hold exactly, and their largest relative change; means
                                 something where they are no classes */
  double rounding;
};

/* `expected` may be NULL; borrowed until targets_clear. */
descent_status targets_begin(struct targets *targets, descent_task task, const struct expected *expected);
/* Adds one cell. On failure `*problem` says what is wrong with it, to follow the quoted cell in a message; NULL when
 * memory ran out. */
descent_status targets_add(struct targets *targets, const char *text, size_t length, int64_t line,
                           const char **problem);
/* The same for a number that a file holds as one. */
descent_status targets_add_number(struct targets *targets, double number, int64_t line, const char **problem);
/* Settles the task and fills y, targets, task, classes and class_names of the storage. `column` is for messages. */
descent_status targets_finish(struct targets *targets, const char *path, const char *column,
                              struct dataset_storage *storage);
void targets_clear(struct targets *targets);

#endif
