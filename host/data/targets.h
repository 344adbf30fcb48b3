/* The target column while reading: distinct values are indexed until it is known whether they are classes. */
#ifndef DESCENT_DATA_TARGETS_H
#define DESCENT_DATA_TARGETS_H

#include "data/dataset.h"
#include "data/dictionary.h"
#include "data/offset.h"

enum {
  TARGETS_AUTO_CLASSES = 20,   /* most distinct integers that are inferred to be classes */
  TARGETS_MAX_CLASSES = 65536, /* an identifier is rejected before it exhausts memory */
  TARGETS_MANY_TEXTS = 1000    /* beyond that, texts that hardly repeat are not classes */
};

struct targets {
  descent_task task; /* requested, or the network's; auto: to be inferred */
  const struct expected_data *expected;
  /* (rows) While `counting`, indices into the distinct values (exact as floats), otherwise the numbers themselves. One
   * array for both, so that a column of numbers takes 4 bytes per row. */
  float *y;
  int64_t rows, capacity;
  bool counting;
  int64_t first_text;         /* index of the first distinct value that is not a number; -1 without */
  struct dictionary distinct; /* with a network, its classes */
  /* Numbers of the first rows, (early_rows) until the offset is chosen, NULL afterwards; and what data/offset.h says. */
  double *early;
  double offset;
  struct rounding rounding; /* of numbers, for regression only */
  double largest_change;
};

/* `expected` may be NULL; borrowed until targets_clear. */
descent_status targets_begin(struct targets *targets, descent_task task, const struct expected_data *expected);
/* Adds one cell. On failure `*problem` is a predicate that follows the quoted cell in a message; NULL when out of
 * memory. */
descent_status targets_add(struct targets *targets, const char *text, size_t length, int64_t line,
                           const char **problem);
/* The same for a cell of a file of numbers. */
descent_status targets_add_number(struct targets *targets, double number, int64_t line, const char **problem);
/* Infers the task and fills in y, targets, task, classes and class_names of the storage. `column` is for messages. */
descent_status targets_finish(struct targets *targets, const char *path, const char *column,
                              struct dataset_storage *storage);
void targets_clear(struct targets *targets);

#endif
