/* A dataset of the caller's arrays. X in a GPU's memory is read there by programs on it; all else reads a copy. */
#include <stdlib.h>

#include "backend/backend.h"
#include "core/memory.h"
#include "core/status.h"
#include "data/dataset.h"
#include "data/strided.h"
#include "train/arguments.h"

static descent_status check_place(const descent_device *device, const descent_array *array, const char *name) {
  if (array->place == DESCENT_PLACE_HOST) return DESCENT_OK;
  if (device) return device_array_check_place(device, array, name);
  return status_set(DESCENT_ERROR_ARGUMENT, "%s: is in the memory of a GPU: give its device", name);
}

/* The rows of an argument, its own or a copy in `*owned`; *rows, unless it is 0, must be theirs. */
static descent_status take_rows(const descent_array *given, const char *name, const descent_device *device,
                                int64_t *rows, int64_t *columns, void **owned, const float **values) {
  struct argument argument = {.name = name};
  descent_array *const array = &argument.array;
  float *copy = NULL;
  descent_status status;
  TRY(strided_complete(given, name, array));
  TRY(check_place(device, array, name));
  if (*rows) TRY(strided_check_rows(array, name, *rows));
  argument.most_rows = array->rows;
  TRY(argument_rows(&argument, device, &copy, values));
  *rows = array->rows;
  *columns = array->columns;
done:
  *owned = copy;
  return status;
}

/* Copies an array of bytes to `bytes` (rows, columns), through float32, which holds them exactly. */
static descent_status copy_bytes(const descent_array *array, const descent_device *device, uint8_t *bytes) {
  enum { BLOCK = 1 << 16 }; /* elements */
  const int64_t n = array->columns, at_a_time = n < BLOCK ? BLOCK / n : 1;
  float *staging = NULL;
  descent_status status = DESCENT_OK;
  for (int64_t first = 0; first < array->rows; first += at_a_time) {
    const int64_t left = array->rows - first, rows = left < at_a_time ? left : at_a_time;
    const struct argument part = {"X", strided_part(array, first, rows), at_a_time};
    const float *values;
    TRY(argument_rows(&part, device, &staging, &values));
    for (int64_t i = 0; i < rows * n; i++) bytes[first * n + i] = (uint8_t)values[i];
  }
done:
  free(staging);
  return status;
}

/* The same as take_rows for the bytes of X. */
static descent_status take_bytes(const descent_array *array, const descent_device *device,
                                 struct dataset_storage *given) {
  descent_status status;
  TRY(check_place(device, array, "X"));
  given->rows = array->rows;
  given->inputs = array->columns;
  given->bytes = array->data;
  if (array->place == DESCENT_PLACE_HOST && strided_is_dense_bytes(array)) goto done;
  given->bytes = given->owned_X = memory_allocate(array->rows * array->columns, 1, "X");
  if (!given->owned_X) TRY(DESCENT_ERROR_MEMORY);
  TRY(copy_bytes(array, device, given->owned_X));
done:
  return status;
}

static descent_status take_inputs(const descent_array *X, const descent_device *device, struct dataset_storage *given) {
  descent_array array;
  descent_status status;
  TRY(strided_complete(X, "X", &array));
  if (array.dtype == DESCENT_DTYPE_U8)
    TRY(take_bytes(&array, device, given));
  else
    TRY(take_rows(X, "X", device, &given->rows, &given->inputs, &given->owned_X, &given->X));
done:
  return status;
}

/* Lets programs on the device read X there, if they can. */
static descent_status keep_on_device(const descent_array *X, descent_device *device, struct dataset_storage *storage) {
  descent_status status = strided_complete(X, "X", &storage->device_X);
  if (status != DESCENT_OK || X->place == DESCENT_PLACE_HOST ||
      !(strided_is_dense(&storage->device_X) || strided_is_dense_bytes(&storage->device_X)) ||
      (uintptr_t)X->data % DEVICE_ARRAY_ALIGN != 0)
    return status;
  storage->device = device;
  handle_retain(device);
  return DESCENT_OK;
}

descent_status descent_dataset_create_arrays(descent_device *device, const descent_array *X, const descent_array *y,
                                             const descent_array *weights, descent_task task, int64_t classes,
                                             descent_dataset **dataset) {
  struct dataset_storage given = {.task = task, .classes = classes};
  int64_t weight_columns = 1;
  descent_dataset *created = NULL;
  descent_status status;
  TRY(argument_check(dataset, "dataset"));
  if (device) TRY(device_check(device, "device"));
  TRY(take_inputs(X, device, &given));
  if (y) TRY(take_rows(y, "y", device, &given.rows, &given.targets, &given.owned_y, &given.y));
  if (weights)
    TRY(take_rows(weights, "weights", device, &given.rows, &weight_columns, &given.owned_weights, &given.weights));
  if (weight_columns != 1)
    TRY(status_set(DESCENT_ERROR_ARGUMENT, "weights: has %lld columns: must be 1", (long long)weight_columns));
  status = dataset_from_rows(given, &created); /* takes what is owned */
  given = (struct dataset_storage){0};
  TRY(status);
  TRY(keep_on_device(X, device, created->storage));
  *dataset = created;
  created = NULL;
done:
  descent_dataset_free(created);
  free(given.owned_X);
  free(given.owned_y);
  free(given.owned_weights);
  return status;
}
