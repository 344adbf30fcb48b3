/* The dataset in memory: raw float32 rows, targets, names; views share the storage. Knows nothing of networks. */
#ifndef DESCENT_DATA_DATASET_H
#define DESCENT_DATA_DATASET_H

#include <time.h>

#include "model/schema.h"

/* Shared by a dataset and the views split from it; freed with the last of them. */
struct dataset_storage {
  int references;       /* changed with __atomic builtins */
  const float *X;       /* (rows, inputs) */
  const float *y;       /* (rows, targets) or NULL; class index for classifiers */
  const float *weights; /* (rows) or NULL */
  int64_t rows, inputs, targets, classes;
  descent_task task;
  struct schema schema;                    /* names and features; see there */
  int64_t dropped;                         /* rows left out for want of a target */
  int64_t unseen;                          /* cells with a category that the network does not know, taken as zeros */
  int64_t rounded;                         /* cells that float32 does not hold exactly */
  double rounding;                         /* the largest relative change among them */
  const char *note;                        /* static, or NULL; see descent_dataset_note */
  void *owned_X, *owned_y, *owned_weights; /* what free() releases; NULL when borrowed */
  void *mapping;                           /* of the file that X lies in, and its length; see data/binary.h */
  size_t mapped_bytes;
  int mapped_file; /* with a mapping: its descriptor, and the time of the last change, to see whether it stays as it is
                    */
  struct timespec mapped_time;
  char X_sum[17]; /* XXH64 of X as the file has it, in hexadecimal; "" where nothing is known */
};

struct descent_dataset {
  struct dataset_storage *storage;
  int64_t *index; /* (rows) rows of the storage in ascending order; NULL: all of them */
  int64_t rows;
};

/* Storage row of view row `row`. */
static inline int64_t dataset_source_row(const descent_dataset *dataset, int64_t row) {
  return dataset->index ? dataset->index[row] : row;
}

/* Which category the inputs of a categorical feature in a row of X stand for. */
enum { CATEGORY_MISSING = -1, CATEGORY_NONE = -2 /* unknown to the network that it was read for */ };
int64_t dataset_category(const struct feature *feature, const float *inputs);

/* What a reader must match, taken from a network. */
struct expected {
  const struct schema *schema; /* borrowed */
  int64_t features;            /* columns to find: those of the schema, or one per input where it has none */
  int64_t inputs, targets, classes;
  descent_task task;
  bool imputes; /* it knows what a missing cell counts as */
};

/* How a file is to be read; all is borrowed. */
struct reading {
  const descent_dataset_options *options;
  const struct expected *expected; /* or NULL: it fits no network yet */
  bool all_targets;                /* the targets' own file: each column is one, but for row numbers */
};

void dataset_storage_release(struct dataset_storage *storage);

/* Tells the system in which order rows that are mapped will be read: shuffled, or (as at first) one after the other.
 * Where more is mapped than memory holds, what it reads ahead of scattered rows is many times what they are. */
void dataset_expect_shuffled(const descent_dataset *dataset, bool shuffled);

/* ERROR_READ when rows that are mapped lie in a file that was written to since it was opened. */
descent_status dataset_check_unchanged(const descent_dataset *dataset);

/* Per input: fill, what a missing cell (NaN) counts as, and shift and scale such that (x - shift) * scale is normalised
 * once missing cells are filled; a constant feature gets scale 1, and without normalisation shift and scale stay as
 * they are. Accumulated in double (Welford). fill, shift, scale: (inputs). ERROR_DATA for an input without any cell. */
descent_status preprocess_fit_inputs(const descent_dataset *dataset, descent_impute impute, descent_normalize kind,
                                     float *fill, float *shift, float *scale);
/* The same for the targets, standardised: shift, scale (targets). */
descent_status preprocess_fit_targets(const descent_dataset *dataset, float *shift, float *scale);

#endif
