/* Shared by the writers of data files. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/number.h"
#include "core/status.h"
#include "data/write.h"

descent_status write_class_numbers(const descent_dataset *dataset, double **numbers) {
  const struct dataset_storage *s = dataset->storage;
  bool named = s->schema.class_names != NULL;
  *numbers = NULL;
  if (!s->y || !s->classes) return DESCENT_OK;
  double *made = memory_allocate(s->classes, sizeof *made, "the classes");
  if (!made) return DESCENT_ERROR_MEMORY;
  for (int64_t k = 0; named && k < s->classes; k++) {
    const char *name = s->schema.class_names[k];
    named = number_parse(name, strlen(name), &made[k]) && made[k] == trunc(made[k]) && fabs(made[k]) < 0x1p53;
  }
  for (int64_t k = 0; !named && k < s->classes; k++) made[k] = (double)k;
  *numbers = made;
  return DESCENT_OK;
}

descent_status write_labels(const descent_dataset *dataset, int64_t **labels) {
  double *numbers = NULL;
  int64_t *made = NULL;
  descent_status status;
  *labels = NULL;
  TRY(write_class_numbers(dataset, &numbers));
  if (!numbers) goto done;
  made = memory_allocate(dataset->rows, sizeof *made, "the targets");
  if (!made) TRY(DESCENT_ERROR_MEMORY);
  for (int64_t r = 0; r < dataset->rows; r++) made[r] = (int64_t)write_target(dataset, numbers, r, 0);
  *labels = made;
done:
  free(numbers);
  return status;
}

double write_target(const descent_dataset *dataset, const double *class_numbers, int64_t row, int64_t k) {
  const struct dataset_storage *s = dataset->storage;
  const int64_t at = dataset_source_row(dataset, row);
  return class_numbers ? class_numbers[(int64_t)s->y[at * s->targets + k]] : dataset_target(s, at, k);
}

char *write_number_text(double value, double offset, char *text) {
  return offset != 0 ? number_format(value, text) : number_format_float((float)value, text);
}

descent_status write_wide_targets(const descent_dataset *dataset, double **targets) {
  const int64_t n = dataset->storage->targets;
  *targets = memory_allocate(dataset->rows * n, sizeof **targets, "the targets");
  if (!*targets) return DESCENT_ERROR_MEMORY;
  for (int64_t i = 0; i < dataset->rows * n; i++) (*targets)[i] = write_target(dataset, NULL, i / n, i % n);
  return DESCENT_OK;
}

static descent_status gather(const descent_dataset *dataset, const float *values, int64_t width, const char *what,
                             float **gathered) {
  *gathered = NULL;
  if (!values) return DESCENT_OK;
  float *made = memory_allocate(dataset->rows * width, sizeof *made, what);
  if (!made) return DESCENT_ERROR_MEMORY;
  for (int64_t r = 0; r < dataset->rows; r++)
    memcpy(made + r * width, values + dataset_source_row(dataset, r) * width, (size_t)width * sizeof *made);
  *gathered = made;
  return DESCENT_OK;
}

void write_copy_X(const descent_dataset *dataset, int64_t first, int64_t rows, float *X) {
  const int64_t inputs = dataset->storage->inputs;
  for (int64_t r = 0; r < rows; r++, X += inputs) {
    const float *row = dataset_cells(dataset->storage, dataset_source_row(dataset, first + r), 0, inputs, X);
    if (row != X) memcpy(X, row, (size_t)inputs * sizeof *X);
  }
}

descent_status write_gather(const descent_dataset *dataset, float **y, float **weights) {
  const struct dataset_storage *s = dataset->storage;
  *y = *weights = NULL;
  descent_status status = gather(dataset, s->y, s->targets, "the targets", y);
  if (status == DESCENT_OK) status = gather(dataset, s->weights, 1, "the weights", weights);
  return status;
}
