/* The target column while it is read: numbers and distinct values side by side, until its kind is known. */
#ifndef DESCENT_DATA_TARGETS_H
#define DESCENT_DATA_TARGETS_H

#include "data/dataset.h"

enum { TARGETS_MOST_CLASSES = 65536, TARGETS_AUTO_CLASSES = 20 };

struct target_value {
  char *text;    /* as a class is named: the text, or the shortest form of the number */
  double number; /* NaN for text */
};

struct targets {
  descent_task task; /* asked for; auto: to be inferred */
  const struct dataset_schema *schema;
  float *numbers; /* (rows) */
  int32_t *ids;   /* (rows) into values */
  int64_t rows, capacity;
  struct target_value *values; /* distinct, in order of appearance */
  int64_t n_values, values_capacity;
  int32_t *table; /* hash to value + 1; 0: free */
  int64_t table_size;
  bool any_text, many; /* many: more distinct numbers than classes may be, no longer counted */
  bool integers;       /* all numbers so far */
};

/* Adds one cell. False with a problem text ("is not a number ..."), or with NULL when memory ran out. */
bool targets_add(struct targets *targets, const char *text, size_t length, const char **problem);
/* Settles the task and fills y, task, classes, class_names of the storage. */
descent_status targets_finish(struct targets *targets, const char *path, const char *column, descent_task task,
                              const struct dataset_schema *schema, struct dataset_storage *storage);
void targets_clear(struct targets *targets);

#endif
