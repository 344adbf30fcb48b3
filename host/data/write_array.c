/* Writing datasets as NumPy arrays and as IDX. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/memory.h"
#include "core/npz.h"
#include "core/number.h"
#include "core/status.h"
#include "data/write.h"

static descent_status no_weights(const char *path, const char *format) {
  return status_set(DESCENT_ERROR_WRITE,
                    "%s: not written: %s cannot store weights (choose npz, csv, hdf5 or safetensors)", path, format);
}

/* ---- npy: X with the targets as last columns -------------------------------------------------------------------- */

/* Whether all numbers are exact in float32. */
static bool are_floats(const double *numbers, int64_t n) {
  for (int64_t k = 0; numbers && k < n; k++)
    if ((double)(float)numbers[k] != numbers[k]) return false;
  return true;
}

static descent_status write_npy_rows(struct file_writer *file, const descent_dataset *dataset, const double *classes,
                                     bool wide) {
  const struct dataset_storage *s = dataset->storage;
  const int64_t targets = s->y ? s->targets : 0, columns = s->inputs + targets;
  descent_status status = DESCENT_OK;
  double *row = memory_allocate(columns, sizeof *row, "a row");
  float *narrow = (float *)row;
  if (!row) return DESCENT_ERROR_MEMORY;
  for (int64_t r = 0; r < dataset->rows; r++) {
    for (int64_t c = 0; c < columns; c++) {
      const double value =
          c < s->inputs ? write_input(dataset, r, c) : write_target(dataset, classes, r, c - s->inputs);
      if (wide)
        row[c] = value;
      else
        narrow[c] = (float)value;
    }
    TRY(file_write(file, row, (size_t)columns * (wide ? sizeof *row : sizeof *narrow)));
  }
done:
  free(row);
  return status;
}

descent_status write_npy(const descent_dataset *dataset, const char *path) {
  const struct dataset_storage *s = dataset->storage;
  struct file_writer file = {0};
  char header[NPY_HEADER];
  double *classes = NULL;
  descent_status status;
  if (s->weights) return no_weights(path, "npy");
  TRY(write_class_numbers(dataset, &classes));
  const bool wide = !are_floats(classes, s->classes) || write_is_wide(dataset);
  const struct npz_array array = {
      .descr = wide ? "<f8" : "<f4", .rank = 2, .shape = {dataset->rows, s->inputs + (s->y ? s->targets : 0)}};
  TRY(file_create(path, &file));
  TRY(file_write(&file, header, npy_header(&array, header)));
  TRY(write_npy_rows(&file, dataset, classes, wide));
  status = file_commit(&file);
done:
  file_abandon(&file);
  free(classes);
  return status;
}

/* ---- npz -------------------------------------------------------------------------------------------------------- */

enum { MAX_ARRAYS = 6 };

struct npz_parts {
  struct npz_array arrays[MAX_ARRAYS];
  void *owned[MAX_ARRAYS];
  char types[MAX_ARRAYS][24];
  int64_t n;
};

/* Takes ownership of `data`. */
static void add_array(struct npz_parts *parts, const char *name, const char *descr, int rank, int64_t rows,
                      int64_t columns, void *data, int64_t size) {
  parts->owned[parts->n] = data;
  parts->arrays[parts->n++] = (struct npz_array){.name = name,
                                                 .descr = descr,
                                                 .rank = rank,
                                                 .shape = {rows, columns},
                                                 .data = data,
                                                 .bytes = rows * columns * size};
}

/* Adds texts in NumPy's fixed-width type, as UTF-8. */
static descent_status add_texts(struct npz_parts *parts, const char *name, char *const *texts, int64_t n) {
  size_t width = 1;
  int64_t bytes;
  if (!texts) return DESCENT_OK;
  for (int64_t i = 0; i < n; i++)
    if (strlen(texts[i]) > width) width = strlen(texts[i]);
  if (!size_product(n, (int64_t)width, &bytes)) return DESCENT_ERROR_MEMORY;
  char *block = memory_allocate(bytes, 1, "names"), *type = parts->types[parts->n];
  if (!block) return DESCENT_ERROR_MEMORY;
  for (int64_t i = 0; i < n; i++) memcpy(block + (size_t)i * width, texts[i], strlen(texts[i]));
  snprintf(type, sizeof parts->types[0], "|S%zu", width);
  add_array(parts, name, type, 1, n, 1, block, (int64_t)width);
  return DESCENT_OK;
}

/* The same in double, for columns with offsets. */
static descent_status add_wide_X(struct npz_parts *parts, const descent_dataset *dataset) {
  const int64_t inputs = dataset->storage->inputs;
  double *X = memory_allocate(dataset->rows * inputs, sizeof *X, "the inputs");
  if (!X) return DESCENT_ERROR_MEMORY;
  for (int64_t i = 0; i < dataset->rows * inputs; i++) X[i] = write_input(dataset, i / inputs, i % inputs);
  add_array(parts, "X", "<f8", 2, dataset->rows, inputs, X, sizeof *X);
  return DESCENT_OK;
}

static descent_status add_X(struct npz_parts *parts, const descent_dataset *dataset) {
  const int64_t inputs = dataset->storage->inputs;
  if (dataset->storage->schema.offsets) return add_wide_X(parts, dataset);
  float *X = memory_allocate(dataset->rows * inputs, sizeof *X, "the inputs");
  if (!X) return DESCENT_ERROR_MEMORY;
  write_copy_X(dataset, 0, dataset->rows, X);
  add_array(parts, "X", "<f4", 2, dataset->rows, inputs, X, sizeof *X);
  return DESCENT_OK;
}

/* Adds classes as integers, other targets as float32, or double where they have offsets. */
static descent_status add_y_and_weights(struct npz_parts *parts, const descent_dataset *dataset) {
  const struct dataset_storage *s = dataset->storage;
  float *y = NULL, *weights = NULL;
  double *wide = NULL;
  int64_t *labels = NULL;
  descent_status status;
  TRY(write_labels(dataset, &labels));
  TRY(write_gather(dataset, &y, &weights));
  if (s->schema.target_offsets) TRY(write_wide_targets(dataset, &wide));
  if (labels) {
    add_array(parts, "y", "<i8", 1, dataset->rows, 1, labels, sizeof *labels);
    labels = NULL;
  } else if (wide) {
    add_array(parts, "y", "<f8", s->targets == 1 ? 1 : 2, dataset->rows, s->targets, wide, sizeof *wide);
    wide = NULL;
  } else if (y) {
    add_array(parts, "y", "<f4", s->targets == 1 ? 1 : 2, dataset->rows, s->targets, y, sizeof *y);
    y = NULL;
  }
  if (weights) add_array(parts, "weights", "<f4", 1, dataset->rows, 1, weights, sizeof *weights);
  weights = NULL;
done:
  free(labels);
  free(wide);
  free(y);
  free(weights);
  return status;
}

descent_status write_npz(const descent_dataset *dataset, const char *path) {
  const struct schema *schema = &dataset->storage->schema;
  struct npz_parts parts = {.n = 0};
  descent_status status;
  TRY(add_X(&parts, dataset));
  TRY(add_y_and_weights(&parts, dataset));
  TRY(add_texts(&parts, "input_names", schema->input_names, schema->inputs));
  TRY(add_texts(&parts, "target_names", schema->target_names, schema->targets));
  TRY(add_texts(&parts, "class_names", schema->class_names, schema->classes));
  TRY(npz_save(path, false, parts.arrays, parts.n));
done:
  for (int64_t i = 0; i < parts.n; i++) free(parts.owned[i]);
  return status;
}

/* ---- IDX: bytes, with the targets as last columns --------------------------------------------------------------- */

static descent_status write_idx_row(struct file_writer *file, const descent_dataset *dataset, const double *classes,
                                    int64_t row, unsigned char *bytes, int64_t columns) {
  const int64_t inputs = dataset->storage->inputs;
  for (int64_t c = 0; c < columns; c++) {
    const double value = c < inputs ? write_input(dataset, row, c) : write_target(dataset, classes, row, c - inputs);
    if (!(value >= 0 && value <= 255 && value == trunc(value)))
      return status_set(DESCENT_ERROR_WRITE,
                        "%s: not written: row %" PRId64 ", column %" PRId64
                        " is %g, but IDX files hold only integers from 0 to 255 (choose npy)",
                        file->path, row, c, value);
    bytes[c] = (unsigned char)value;
  }
  return file_write(file, bytes, (size_t)columns);
}

descent_status write_idx(const descent_dataset *dataset, const char *path) {
  const struct dataset_storage *s = dataset->storage;
  const int64_t columns = s->inputs + (s->y ? s->targets : 0), sizes[] = {dataset->rows, columns};
  struct file_writer file = {0};
  unsigned char header[12] = {0, 0, 8, 2}, *bytes = NULL;
  double *classes = NULL;
  descent_status status;
  if (s->weights) return no_weights(path, "IDX");
  if (dataset->rows > UINT32_MAX || columns > UINT32_MAX)
    return status_set(DESCENT_ERROR_WRITE, "%s: not written: %" PRId64 " x %" PRId64 " exceeds the limits of IDX", path,
                      dataset->rows, columns);
  for (int k = 0; k < 8; k++) header[4 + k] = (unsigned char)(sizes[k / 4] >> 8 * (3 - k % 4) & 0xff);
  TRY(write_class_numbers(dataset, &classes));
  bytes = memory_allocate(columns, 1, "a row");
  if (!bytes) TRY(DESCENT_ERROR_MEMORY);
  TRY(file_create(path, &file));
  TRY(file_write(&file, header, sizeof header));
  for (int64_t r = 0; r < dataset->rows; r++) TRY(write_idx_row(&file, dataset, classes, r, bytes, columns));
  status = file_commit(&file);
done:
  file_abandon(&file);
  free(bytes);
  free(classes);
  return status;
}
