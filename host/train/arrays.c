/* The functions that take the caller's arrays as they are: each gives dense float32 rows to its relative. */
#include <stdlib.h>

#include "core/memory.h"
#include "core/status.h"
#include "data/strided.h"
#include "train/predictor.h"
#include "train/trainer.h"

void staging_free(struct staging *staging) {
  free(staging->X);
  free(staging->y);
  free(staging->weights);
  free(staging->outputs);
  *staging = (struct staging){0};
}

/* The rows of an argument, which must have `columns` columns and `*rows` rows; if these are 0, at most `most_rows`, and
 * *rows becomes theirs. */
static descent_status take_rows(const descent_array *given, const char *name, int64_t most_rows, int64_t columns,
                                int64_t *rows, float **staging, const float **values) {
  descent_array array;
  descent_status status;
  TRY(strided_complete(given, name, &array));
  TRY(strided_check_shape(&array, name, most_rows, columns));
  TRY(strided_check_host(&array, name));
  if (*rows) TRY(strided_check_rows(&array, name, *rows));
  TRY(strided_rows(&array, name, most_rows, staging, values));
  *rows = array.rows;
done:
  return status;
}

/* ---- a trainer --------------------------------------------------------------------------------------------------- */

descent_status descent_trainer_step_arrays(descent_trainer *trainer, const descent_array *X, const descent_array *y,
                                           const descent_array *weights, descent_step_info *info) {
  const float *X_rows, *y_rows, *weight_rows = NULL;
  int64_t rows = 0;
  descent_status status;
  TRY(handle_check(trainer, HANDLE_TRAINER, "trainer"));
  const descent_network *network = trainer->network;
  const int64_t most = trainer->program.plan->train_rows, targets = network->classes ? 1 : network_outputs(network);
  struct staging *staging = &trainer->staging;
  TRY(take_rows(X, "X", most, network->inputs, &rows, &staging->X, &X_rows));
  TRY(take_rows(y, "y", most, targets, &rows, &staging->y, &y_rows));
  if (weights) TRY(take_rows(weights, "weights", most, 1, &rows, &staging->weights, &weight_rows));
  TRY(descent_trainer_step(trainer, X_rows, y_rows, weight_rows, rows, info));
done:
  return status;
}

/* ---- a predictor ------------------------------------------------------------------------------------------------- */

typedef descent_status run_rows(descent_predictor *predictor, const float *X, int64_t rows, float *outputs);

/* Where a run writes its outputs: into the array if it is dense, else into the staging. */
static descent_status output_rows(const descent_array *array, const char *name, int64_t most_rows, float **staging,
                                  float **values) {
  if (strided_is_dense(array)) {
    *values = array->data;
    return DESCENT_OK;
  }
  if (!*staging) *staging = memory_allocate(most_rows * array->columns, sizeof **staging, name);
  *values = *staging;
  return *staging ? DESCENT_OK : DESCENT_ERROR_MEMORY;
}

static descent_status run_arrays(descent_predictor *predictor, const descent_array *X, const descent_array *outputs,
                                 run_rows *run) {
  const float *X_rows;
  float *values;
  descent_array to;
  int64_t rows = 0;
  descent_status status;
  TRY(handle_check(predictor, HANDLE_PREDICTOR, "predictor"));
  struct staging *staging = &predictor->staging;
  TRY(take_rows(X, "X", predictor->max_rows, predictor->network->inputs, &rows, &staging->X, &X_rows));
  TRY(strided_complete(outputs, "outputs", &to));
  TRY(strided_check_output(&to, "outputs"));
  TRY(strided_check_shape(&to, "outputs", predictor->max_rows, network_outputs(predictor->network)));
  TRY(strided_check_host(&to, "outputs"));
  TRY(strided_check_rows(&to, "outputs", rows));
  TRY(output_rows(&to, "outputs", predictor->max_rows, &staging->outputs, &values));
  status = run(predictor, X_rows, rows, values);
  if (values == staging->outputs && (status == DESCENT_OK || status == DESCENT_ERROR_DATA)) strided_store(values, &to);
done:
  return status;
}

descent_status descent_predictor_run_arrays(descent_predictor *predictor, const descent_array *X,
                                            const descent_array *outputs) {
  return run_arrays(predictor, X, outputs, descent_predictor_run);
}

descent_status descent_predictor_run_raw_arrays(descent_predictor *predictor, const descent_array *X,
                                                const descent_array *outputs) {
  return run_arrays(predictor, X, outputs, descent_predictor_run_raw);
}
