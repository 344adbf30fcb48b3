/* What every writer of data files shares: which numbers stand for classes, and the rows of a view. */
#ifndef DESCENT_DATA_WRITE_H
#define DESCENT_DATA_WRITE_H

#include "data/dataset.h"

/* One per format; all through a temporary file that replaces `path` at the end. ERROR_WRITE, also for what the format
 * cannot hold. */
descent_status write_csv(const descent_dataset *dataset, const char *path);
descent_status write_svmlight(const descent_dataset *dataset, const char *path);
descent_status write_npy(const descent_dataset *dataset, const char *path);
descent_status write_npz(const descent_dataset *dataset, const char *path);
descent_status write_idx(const descent_dataset *dataset, const char *path);
descent_status write_hdf5(const descent_dataset *dataset, const char *path);
descent_status write_binary(const descent_dataset *dataset, const char *path);

static inline const float *write_X(const descent_dataset *dataset, int64_t row) {
  return dataset->storage->X + dataset_source_row(dataset, row) * dataset->storage->inputs;
}

/* (classes) What stands for each class in formats of numbers: its name where all of them are whole numbers, as the
 * readers name classes that were numbers, else its index. `*numbers` NULL without classes; the caller frees it. */
descent_status write_class_numbers(const descent_dataset *dataset, double **numbers);
/* (rows) The same for each row of the view, for formats that have whole numbers; NULL without classes. */
descent_status write_labels(const descent_dataset *dataset, int64_t **labels);
/* Target k of a row as such a number. */
double write_target(const descent_dataset *dataset, const double *class_numbers, int64_t row, int64_t k);
/* (rows, targets) of the view in float32 as the storage has them, and (rows); NULL without. The caller frees. */
descent_status write_gather(const descent_dataset *dataset, float **y, float **weights);

#endif
