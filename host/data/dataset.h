/* The dataset in memory: raw rows of float32 or bytes, targets and names. Views share the storage. Independent of
 * networks. */
#ifndef DESCENT_DATA_DATASET_H
#define DESCENT_DATA_DATASET_H

#include <time.h>

#include "core/handle.h"
#include "data/offset.h"
#include "data/text.h"
#include "model/schema.h"

/* Shared by a dataset and its views; freed with the last of them. */
struct dataset_storage {
  int references;       /* changed with __atomic builtins */
  const float *X;       /* (rows, inputs); NULL with bytes */
  const uint8_t *bytes; /* (rows, inputs) instead of X, of an array of bytes; NULL: X */
  const float *y;       /* (rows, targets) or NULL; class indices for classifiers */
  const float *weights; /* (rows) or NULL */
  int64_t rows, inputs, targets, classes;
  int64_t before; /* rows of the file before those of a block; 0 where it was read as a whole */
  descent_task task;
  struct schema schema;            /* names and features */
  int64_t dropped;                 /* rows left out because their target is missing */
  int64_t unseen;                  /* cells with a category unknown to the network, encoded as zeros */
  struct rounding rounding;        /* cells that float32 does not hold exactly */
  double *X_rounding, *y_rounding; /* (inputs), (targets): the largest change of a cell; NULL: none, or unknown */
  char note[NOTE_SIZE];            /* or "": see descent_dataset_note */
  struct descent_device *device;   /* a reference; NULL: X is in host memory only */
  descent_array device_X;          /* X in that device's memory, borrowed */
  void *owned_X, *owned_y, *owned_weights; /* released by free(); NULL when borrowed */
  void *mapping;                           /* of the file that holds X, or NULL; see data/binary.h */
  size_t mapped_bytes;
  int shuffled;    /* trainings that read the mapping in random order; changed with __atomic builtins */
  int mapped_file; /* with a mapping: its descriptor and modification time, to detect changes */
  struct timespec mapped_time;
  char X_sum[17]; /* XXH64 of X in hexadecimal, as the file states it; "" when unknown */
};

struct descent_dataset {
  struct handle handle; /* unused in those that the library makes on its stack, which it gives to no public function */
  struct dataset_storage *storage;
  int64_t *index; /* (rows) storage rows in ascending order; NULL: all rows */
  int64_t rows;
};

/* Storage row of view row `row`. */
static inline int64_t dataset_source_row(const descent_dataset *dataset, int64_t row) {
  return dataset->index ? dataset->index[row] : row;
}

/* Element `at` of X. */
static inline float dataset_cell(const struct dataset_storage *s, int64_t at) {
  return s->bytes ? (float)s->bytes[at] : s->X[at];
}
enum { DATASET_PIECE = 512 }; /* inputs looked at together */
/* Inputs first .. first + n - 1 of a storage row: in X, or widened into `piece` (n). */
static inline const float *dataset_cells(const struct dataset_storage *s, int64_t source_row, int64_t first, int64_t n,
                                         float *piece) {
  const int64_t at = source_row * s->inputs + first;
  if (!s->bytes) return s->X + at;
  for (int64_t j = 0; j < n; j++) piece[j] = (float)s->bytes[at + j];
  return piece;
}

/* offset + x, which keeps the sign of a zero without an offset. */
static inline double dataset_add_offset(double offset, float x) { return offset == 0 ? (double)x : offset + (double)x; }
/* Input j and target k of a storage row, in double: what the storage holds plus the offset. */
static inline double dataset_input(const struct dataset_storage *s, int64_t source_row, int64_t j) {
  return dataset_add_offset(schema_offset(s->schema.offsets, s->schema.n_offsets, j),
                            dataset_cell(s, source_row * s->inputs + j));
}
static inline double dataset_target(const struct dataset_storage *s, int64_t source_row, int64_t k) {
  return dataset_add_offset(schema_offset(s->schema.target_offsets, s->schema.n_target_offsets, k),
                            s->y[source_row * s->targets + k]);
}

/* Input j as a network with the offsets of `schema` takes it. */
static inline float dataset_align_input(const struct dataset_storage *s, int64_t source_row, int64_t j,
                                        const struct schema *schema) {
  return (float)(dataset_input(s, source_row, j) - schema_offset(schema->offsets, schema->n_offsets, j));
}

/* Whether both have the same offsets, for so many inputs and targets. */
bool dataset_has_offsets(const struct schema *ours, const struct schema *theirs, int64_t inputs, int64_t targets);
/* A dataset with the offsets of `schema`: `*aligned` is NULL where the dataset has these already, else a copy of its
 * rows without names. */
descent_status dataset_align(const descent_dataset *dataset, const struct schema *schema, descent_dataset **aligned);

/* The category that the one-hot inputs of a feature encode, or CATEGORY_*. */
enum { CATEGORY_MISSING = -1, CATEGORY_NONE = -2 /* unknown to the network that the data were read for */ };
int64_t dataset_category(const struct feature *feature, const float *inputs);

/* What data must match to fit a network. */
struct expected_data {
  const struct schema *schema; /* borrowed */
  int64_t features;            /* columns to find: those of the schema, or one per input when it has none */
  int64_t inputs, targets, classes;
  descent_task task;
  bool imputes; /* the network replaces missing cells */
};

/* How to read a file; everything is borrowed. */
struct read_request {
  const descent_dataset_options *options;
  const struct expected_data *expected; /* or NULL without a network */
  bool all_targets;                     /* a target file: every column is a target, except row numbers */
};

/* ERROR_ARGUMENT, with the row counted from `before`, for an infinite X, a class that is none, another y that is not
 * finite and a weight that is not finite or negative. */
descent_status dataset_check_values(const struct dataset_storage *storage);

/* A dataset without storage; NULL with the error set. descent_dataset_free releases it. */
descent_dataset *dataset_create(void);
/* A dataset of all rows of the storage, whose reference it takes; NULL with the error set. */
descent_dataset *dataset_wrap(struct dataset_storage *storage);
/* A dataset of checked rows in memory: X or bytes, y and weights, what is owned of them, their shapes, task and
 * classes. Takes what is owned, also on failure. ERROR_ARGUMENT as descent_dataset_create. */
descent_status dataset_from_rows(struct dataset_storage given, descent_dataset **dataset);
void dataset_storage_release(struct dataset_storage *storage);

/* Advises the kernel whether mapped rows will be read in shuffled order or, by default, sequentially. Readahead around
 * scattered rows would read many times their size, which matters when the file exceeds memory. Trainings may share the
 * rows: each says `true` and then `false`, and the last `false` counts. */
void dataset_expect_shuffled(const descent_dataset *dataset, bool shuffled);

/* ERROR_READ when the mapped file was modified after it was opened. */
descent_status dataset_check_unchanged(const descent_dataset *dataset);

/* Fits fill, shift and scale, (inputs) each: fill replaces a missing cell (NaN), and (x - shift) * scale is normalised
 * once missing cells are filled. A constant input gets scale 1; without normalisation shift and scale are unchanged.
 * Accumulated in double (Welford). ERROR_DATA for an input whose cells are all missing. */
descent_status preprocess_fit_inputs(const descent_dataset *dataset, descent_impute impute, descent_normalize kind,
                                     float *fill, float *shift, float *scale);
/* Fits shift and scale, (targets) each, that standardise the targets. */
descent_status preprocess_fit_targets(const descent_dataset *dataset, float *shift, float *scale);

#endif
