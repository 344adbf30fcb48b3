/* A dataset of the caller's arrays. */
#include <stdlib.h>

#include "core/status.h"
#include "data/dataset.h"
#include "data/strided.h"

/* The rows of an argument, its own or a copy in `*owned`; *rows, unless it is 0, must be theirs. */
static descent_status take_rows(const descent_array *given, const char *name, int64_t *rows, int64_t *columns,
                                void **owned, const float **values) {
  descent_array array;
  float *copy = NULL;
  descent_status status;
  TRY(strided_complete(given, name, &array));
  TRY(strided_check_host(&array, name));
  if (*rows) TRY(strided_check_rows(&array, name, *rows));
  TRY(strided_rows(&array, name, array.rows, &copy, values));
  *rows = array.rows;
  *columns = array.columns;
done:
  *owned = copy;
  return status;
}

descent_status descent_dataset_create_arrays(const descent_array *X, const descent_array *y,
                                             const descent_array *weights, descent_task task, int64_t classes,
                                             descent_dataset **dataset) {
  struct dataset_storage given = {.task = task, .classes = classes};
  int64_t weight_columns = 1;
  descent_status status;
  TRY(argument_check(dataset, "dataset"));
  TRY(take_rows(X, "X", &given.rows, &given.inputs, &given.owned_X, &given.X));
  if (y) TRY(take_rows(y, "y", &given.rows, &given.targets, &given.owned_y, &given.y));
  if (weights) TRY(take_rows(weights, "weights", &given.rows, &weight_columns, &given.owned_weights, &given.weights));
  if (weight_columns != 1)
    TRY(status_set(DESCENT_ERROR_ARGUMENT, "weights: has %lld columns: must be 1", (long long)weight_columns));
  return dataset_from_rows(given, dataset);
done:
  free(given.owned_X);
  free(given.owned_y);
  free(given.owned_weights);
  return status;
}
