/* The writers of data files, and what they share: numbers for classes, and the rows of a view. */
#ifndef DESCENT_DATA_WRITE_H
#define DESCENT_DATA_WRITE_H

#include "data/dataset.h"

/* One per format; all write atomically. ERROR_WRITE, also for data that the format cannot store. */
descent_status write_csv(const descent_dataset *dataset, const char *path);
descent_status write_csv_guarded(const descent_dataset *dataset, const char *path);
descent_status write_svmlight(const descent_dataset *dataset, const char *path);
descent_status write_npy(const descent_dataset *dataset, const char *path);
descent_status write_npz(const descent_dataset *dataset, const char *path);
descent_status write_idx(const descent_dataset *dataset, const char *path);
descent_status write_hdf5(const descent_dataset *dataset, const char *path);
descent_status write_binary(const descent_dataset *dataset, const char *path);

/* Copies the inputs of rows first .. first + rows - 1, as the storage has them, to X (rows, inputs). */
void write_copy_X(const descent_dataset *dataset, int64_t first, int64_t rows, float *X);

/* Whether columns hold differences to offsets, so that their values need doubles. */
static inline bool write_is_wide(const descent_dataset *dataset) {
  return dataset->storage->schema.offsets || dataset->storage->schema.target_offsets;
}
/* Input j of a row, with its offset. */
static inline double write_input(const descent_dataset *dataset, int64_t row, int64_t j) {
  return dataset_input(dataset->storage, dataset_source_row(dataset, row), j);
}
/* The shortest text of a value: that of a float, or of a double where the column has an offset. */
char *write_number_text(double value, double offset, char *text);

/* The number (classes) that stands for each class in numeric formats: its name when all names are integers, as readers
 * name numeric classes, else its index. `*numbers` is NULL without classes; the caller frees it. */
descent_status write_class_numbers(const descent_dataset *dataset, double **numbers);
/* The same for each row (rows) of the view as an integer; NULL without classes. */
descent_status write_labels(const descent_dataset *dataset, int64_t **labels);
/* Target k of a row; class_numbers[class] when `class_numbers` is not NULL. */
double write_target(const descent_dataset *dataset, const double *class_numbers, int64_t row, int64_t k);
/* Every target (rows, targets) with its offset. The caller frees it. */
descent_status write_wide_targets(const descent_dataset *dataset, double **targets);
/* y (rows, targets) and weights (rows) of the view as the storage has them; NULL when absent. The caller frees them. */
descent_status write_gather(const descent_dataset *dataset, float **y, float **weights);

#endif
