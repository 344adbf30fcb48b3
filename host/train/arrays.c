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
  free(staging->dOutputs);
  free(staging->dX);
  *staging = (struct staging){0};
}

/* ---- arguments --------------------------------------------------------------------------------------------------- */

/* Most rows and columns that an argument may have; rows, unless 0: those that it must have, the number of X. */
struct shape {
  int64_t most_rows, columns, rows;
};

static descent_status check(const descent_array *given, const char *name, struct shape shape, descent_array *array) {
  descent_status status;
  TRY(strided_complete(given, name, array));
  TRY(strided_check_host(array, name));
  TRY(strided_check_shape(array, name, shape.most_rows, shape.columns));
  if (shape.rows) TRY(strided_check_rows(array, name, shape.rows));
done:
  return status;
}

static descent_status read_rows(const descent_array *given, const char *name, struct shape shape, float **staging,
                                const float **values) {
  descent_array array;
  descent_status status;
  TRY(check(given, name, shape, &array));
  TRY(strided_rows(&array, name, shape.most_rows, staging, values));
done:
  return status;
}

/* A result: written to `values`, which are the array's if it is dense, else of the staging. */
struct result {
  descent_array array;
  float *values;
};

static descent_status prepare(const descent_array *given, const char *name, struct shape shape, float **staging,
                              struct result *result) {
  descent_status status;
  TRY(check(given, name, shape, &result->array));
  TRY(strided_check_output(&result->array, name));
  result->values = result->array.data;
  if (strided_is_dense(&result->array)) goto done;
  if (!*staging) *staging = memory_allocate(shape.most_rows * shape.columns, sizeof **staging, name);
  if (!*staging) TRY(DESCENT_ERROR_MEMORY);
  result->values = *staging;
done:
  return status;
}

static void give(const struct result *result) {
  if (result->values != result->array.data) strided_store(result->values, &result->array);
}

/* ---- a trainer --------------------------------------------------------------------------------------------------- */

static struct shape shape_of(const descent_trainer *trainer, int64_t columns, int64_t rows) {
  return (struct shape){trainer->program.plan->train_rows, columns, rows};
}

typedef descent_status train_rows(descent_trainer *trainer, const float *X, const float *y, const float *weights,
                                  int64_t rows, descent_step_info *info);

static descent_status train_arrays(descent_trainer *trainer, const descent_array *X, const descent_array *y,
                                   const descent_array *weights, train_rows *train, descent_step_info *info) {
  const float *X_rows, *y_rows, *weight_rows = NULL;
  descent_status status;
  TRY(handle_check(trainer, HANDLE_TRAINER, "trainer"));
  const descent_network *network = trainer->network;
  const int64_t targets = network->classes ? 1 : network_outputs(network);
  struct staging *staging = &trainer->staging;
  TRY(read_rows(X, "X", shape_of(trainer, network->inputs, 0), &staging->X, &X_rows));
  TRY(read_rows(y, "y", shape_of(trainer, targets, X->rows), &staging->y, &y_rows));
  if (weights) TRY(read_rows(weights, "weights", shape_of(trainer, 1, X->rows), &staging->weights, &weight_rows));
  TRY(train(trainer, X_rows, y_rows, weight_rows, X->rows, info));
done:
  return status;
}

descent_status descent_trainer_step_arrays(descent_trainer *trainer, const descent_array *X, const descent_array *y,
                                           const descent_array *weights, descent_step_info *info) {
  return train_arrays(trainer, X, y, weights, descent_trainer_step, info);
}

descent_status descent_trainer_gradient_arrays(descent_trainer *trainer, const descent_array *X, const descent_array *y,
                                               const descent_array *weights, descent_step_info *info) {
  return train_arrays(trainer, X, y, weights, descent_trainer_gradient, info);
}

descent_status descent_trainer_forward_arrays(descent_trainer *trainer, const descent_array *X,
                                              const descent_array *outputs) {
  const float *X_rows;
  struct result result;
  descent_status status;
  TRY(handle_check(trainer, HANDLE_TRAINER, "trainer"));
  const descent_network *network = trainer->network;
  struct staging *staging = &trainer->staging;
  TRY(read_rows(X, "X", shape_of(trainer, network->inputs, 0), &staging->X, &X_rows));
  TRY(prepare(outputs, "outputs", shape_of(trainer, network_outputs(network), X->rows), &staging->outputs, &result));
  TRY(descent_trainer_forward(trainer, X_rows, X->rows, result.values));
  give(&result);
done:
  return status;
}

descent_status descent_trainer_backward_arrays(descent_trainer *trainer, const descent_array *dOutputs,
                                               const descent_array *dX, bool accumulate) {
  const float *dOutputs_rows;
  struct result result = {.values = NULL};
  descent_status status;
  TRY(handle_check(trainer, HANDLE_TRAINER, "trainer"));
  const descent_network *network = trainer->network;
  struct staging *staging = &trainer->staging;
  const int64_t rows = trainer->gradient.forwarded ? trainer->gradient.pass_rows : 0; /* 0: will be refused */
  TRY(read_rows(dOutputs, "dOutputs", shape_of(trainer, network_outputs(network), rows), &staging->dOutputs,
                &dOutputs_rows));
  if (dX) TRY(prepare(dX, "dX", shape_of(trainer, network->inputs, rows), &staging->dX, &result));
  TRY(descent_trainer_backward(trainer, dOutputs_rows, result.values, accumulate));
  if (dX) give(&result);
done:
  return status;
}

/* ---- a predictor ------------------------------------------------------------------------------------------------- */

typedef descent_status predict_rows(descent_predictor *predictor, const float *X, int64_t rows, float *outputs);

static descent_status predict_arrays(descent_predictor *predictor, const descent_array *X, const descent_array *outputs,
                                     predict_rows *predict) {
  const float *X_rows;
  struct result result;
  descent_status status;
  TRY(handle_check(predictor, HANDLE_PREDICTOR, "predictor"));
  const descent_network *network = predictor->network;
  struct staging *staging = &predictor->staging;
  TRY(read_rows(X, "X", (struct shape){predictor->max_rows, network->inputs, 0}, &staging->X, &X_rows));
  TRY(prepare(outputs, "outputs", (struct shape){predictor->max_rows, network_outputs(network), X->rows},
              &staging->outputs, &result));
  status = predict(predictor, X_rows, X->rows, result.values);
  if (status == DESCENT_OK || status == DESCENT_ERROR_DATA) give(&result); /* all rows are predicted */
done:
  return status;
}

descent_status descent_predictor_run_arrays(descent_predictor *predictor, const descent_array *X,
                                            const descent_array *outputs) {
  return predict_arrays(predictor, X, outputs, descent_predictor_run);
}

descent_status descent_predictor_run_raw_arrays(descent_predictor *predictor, const descent_array *X,
                                                const descent_array *outputs) {
  return predict_arrays(predictor, X, outputs, descent_predictor_run_raw);
}

descent_status descent_predictor_input_gradient_arrays(descent_predictor *predictor, const descent_array *X,
                                                       const descent_array *dOutputs, const descent_array *dX) {
  const float *X_rows, *dOutputs_rows;
  struct result result;
  descent_status status;
  TRY(handle_check(predictor, HANDLE_PREDICTOR, "predictor"));
  const descent_network *network = predictor->network;
  struct staging *staging = &predictor->staging;
  const int64_t most = predictor->max_rows;
  TRY(read_rows(X, "X", (struct shape){most, network->inputs, 0}, &staging->X, &X_rows));
  TRY(read_rows(dOutputs, "dOutputs", (struct shape){most, network_outputs(network), X->rows}, &staging->dOutputs,
                &dOutputs_rows));
  TRY(prepare(dX, "dX", (struct shape){most, network->inputs, X->rows}, &staging->dX, &result));
  TRY(descent_predictor_input_gradient(predictor, X_rows, dOutputs_rows, X->rows, result.values));
  give(&result);
done:
  return status;
}
