/* Steps by hand, and their parts, on arrays of the caller. Those in the device's memory are used there, unless the
 * network has offsets, which are subtracted on the host. */
#include "backend/device_array.h"
#include "core/status.h"
#include "data/strided.h"
#include "train/arguments.h"
#include "train/differentiate.h"
#include "train/trainer.h"

static struct shape shape_of(const descent_trainer *trainer, int64_t columns, int64_t rows) {
  return (struct shape){trainer->program.plan->train_rows, columns, rows};
}

/* Whether rows on the device can be used there. */
static bool takes_device_rows(const descent_network *network) {
  return !network->schema.offsets && !network->schema.target_offsets;
}

/* ---- a step ------------------------------------------------------------------------------------------------------ */

struct step_arguments {
  struct argument X, y, weights;
  bool weighted;
};

static descent_status take_step(const descent_trainer *trainer, const descent_array *X, const descent_array *y,
                                const descent_array *weights, struct step_arguments *a) {
  const descent_network *network = trainer->network;
  const int64_t targets = network->classes ? 1 : network_outputs(network);
  descent_status status;
  TRY(argument_take(X, "X", trainer->device, shape_of(trainer, network->inputs, 0), &a->X));
  const int64_t rows = a->X.array.rows;
  TRY(argument_take(y, "y", trainer->device, shape_of(trainer, targets, rows), &a->y));
  a->weighted = weights != NULL;
  if (weights) TRY(argument_take(weights, "weights", trainer->device, shape_of(trainer, 1, rows), &a->weights));
done:
  return status;
}

/* Checks the values of y and weights where they are. */
static descent_status check_on_device(const descent_trainer *trainer, const struct argument *argument, bool is_y) {
  const int64_t classes = trainer->network->classes;
  const struct array_rule rule = {is_y ? ARRAY_CLASS : ARRAY_WEIGHT, (double)classes};
  int64_t row = -1;
  double value = 0;
  descent_status status;
  if (is_y && !classes) return device_array_check_fit(trainer->device, &argument->array, argument->name);
  TRY(device_array_find(trainer->device, &argument->array, rule, &row, &value));
  if (row >= 0) TRY(is_y ? trainer_refuse_class(trainer, row, value) : trainer_refuse_weight(row, value));
done:
  return status;
}

static descent_status bind_targets(descent_trainer *trainer, const struct argument *argument, bool is_y) {
  struct program *program = &trainer->program;
  const int buffer = is_y ? program->at.source_y : program->at.source_w;
  float **staging = is_y ? &trainer->staging.y : &trainer->staging.weights;
  const float *values;
  descent_array array = argument->array;
  descent_status status;
  if (argument_on_device(argument)) {
    TRY(check_on_device(trainer, argument, is_y));
  } else {
    TRY(argument_rows(argument, trainer->device, staging, &values));
    TRY(is_y ? trainer_check_classes(trainer, values, array.rows) : trainer_check_weights(values, array.rows));
    array = device_array_of_host(values, array.rows, array.columns);
  }
  TRY(program_bind_array(program, buffer, &array));
done:
  return status;
}

static descent_status bind_inputs(descent_trainer *trainer, const struct argument *X) {
  const float *values;
  descent_array array = X->array;
  descent_status status;
  if (argument_on_device(X)) {
    TRY(device_array_check_fit(trainer->device, &array, X->name));
  } else {
    TRY(argument_rows(X, trainer->device, &trainer->staging.X, &values));
    array = device_array_of_host(values, array.rows, array.columns);
  }
  TRY(program_bind_array(&trainer->program, trainer->program.at.source_X, &array));
done:
  return status;
}

static descent_status run_on_device(descent_trainer *trainer, struct plan_range range, const struct step_arguments *a,
                                    descent_step_info *info) {
  descent_status status;
  TRY(program_bind_rows(&trainer->program, NULL, NULL, NULL, 0));
  TRY(bind_inputs(trainer, &a->X));
  TRY(bind_targets(trainer, &a->y, true));
  if (a->weighted) TRY(bind_targets(trainer, &a->weights, false));
  TRY(trainer_run_bound(trainer, range, a->X.array.rows, info));
done:
  return status;
}

static descent_status run_on_host(descent_trainer *trainer, struct plan_range range, const struct step_arguments *a,
                                  descent_step_info *info) {
  struct staging *staging = &trainer->staging;
  const float *X, *y, *weights = NULL;
  descent_status status;
  TRY(argument_rows(&a->X, trainer->device, &staging->X, &X));
  TRY(argument_rows(&a->y, trainer->device, &staging->y, &y));
  if (a->weighted) TRY(argument_rows(&a->weights, trainer->device, &staging->weights, &weights));
  TRY(trainer_run_rows(trainer, range, X, y, weights, a->X.array.rows, info));
done:
  return status;
}

static descent_status run_step(descent_trainer *trainer, struct plan_range range, const struct step_arguments *a,
                               descent_step_info *info) {
  const bool on_device =
      argument_on_device(&a->X) || argument_on_device(&a->y) || (a->weighted && argument_on_device(&a->weights));
  return on_device && takes_device_rows(trainer->network) ? run_on_device(trainer, range, a, info)
                                                          : run_on_host(trainer, range, a, info);
}

descent_status descent_trainer_step_arrays(descent_trainer *trainer, const descent_array *X, const descent_array *y,
                                           const descent_array *weights, descent_step_info *info) {
  struct step_arguments a;
  descent_status status;
  TRY(handle_check(trainer, HANDLE_TRAINER, "trainer"));
  TRY(take_step(trainer, X, y, weights, &a));
  TRY(run_step(trainer, trainer->program.plan->train, &a, info));
  trainer->gradient.state = GRADIENT_USED;
done:
  return status;
}

descent_status descent_trainer_gradient_arrays(descent_trainer *trainer, const descent_array *X, const descent_array *y,
                                               const descent_array *weights, descent_step_info *info) {
  struct step_arguments a;
  descent_status status;
  TRY(handle_check(trainer, HANDLE_TRAINER, "trainer"));
  TRY(take_step(trainer, X, y, weights, &a));
  TRY(run_step(trainer, trainer->program.plan->gradient, &a, info));
  trainer->steps--; /* the step is done after its update */
  trainer->gradient.state = GRADIENT_READY;
done:
  return status;
}

/* ---- forward and backward ---------------------------------------------------------------------------------------- */

/* Keeps rows in the device's memory if some of their cells are missing. */
static descent_status keep_missing_on_device(descent_trainer *trainer, const struct argument *X) {
  const struct array_rule present = {.kind = ARRAY_PRESENT};
  const float *values;
  int64_t element = -1;
  double value;
  descent_status status;
  trainer->gradient.has_missing = false;
  TRY(device_array_find(trainer->device, &X->array, present, &element, &value));
  if (element < 0) goto done;
  TRY(argument_rows(X, trainer->device, &trainer->staging.X, &values));
  TRY(trainer_keep_missing(trainer, values, X->array.rows));
done:
  return status;
}

static descent_status forward_on_device(descent_trainer *trainer, const struct argument *X,
                                        const struct argument *outputs) {
  struct program *program = &trainer->program;
  const int64_t rows = X->array.rows;
  descent_array A;
  descent_status status;
  TRY(trainer_prepare_forward(trainer));
  TRY(keep_missing_on_device(trainer, X));
  TRY(program_bind_rows(program, NULL, NULL, NULL, 0));
  TRY(bind_inputs(trainer, X));
  TRY(trainer_run_forward(trainer, rows));
  TRY(program_view(program, program->at.A, rows, &A));
  if (argument_on_device(outputs)) {
    TRY(device_array_copy(trainer->device, &A, &outputs->array));
  } else {
    float *values;
    TRY(argument_values(outputs, &trainer->staging.outputs, &values));
    TRY(device_array_read(trainer->device, &A, values));
    TRY(argument_give(outputs, trainer->device, values));
  }
  trainer->gradient.forwarded = true;
done:
  return status;
}

static descent_status forward_on_host(descent_trainer *trainer, const struct argument *X,
                                      const struct argument *outputs) {
  const float *rows;
  float *values;
  descent_status status;
  TRY(argument_rows(X, trainer->device, &trainer->staging.X, &rows));
  TRY(argument_values(outputs, &trainer->staging.outputs, &values));
  TRY(descent_trainer_forward(trainer, rows, X->array.rows, values));
  TRY(argument_give(outputs, trainer->device, values));
done:
  return status;
}

descent_status descent_trainer_forward_arrays(descent_trainer *trainer, const descent_array *X,
                                              const descent_array *outputs) {
  struct argument rows, result;
  descent_status status;
  TRY(handle_check(trainer, HANDLE_TRAINER, "trainer"));
  const descent_network *network = trainer->network;
  TRY(argument_take(X, "X", trainer->device, shape_of(trainer, network->inputs, 0), &rows));
  TRY(argument_take_result(outputs, "outputs", trainer->device,
                           shape_of(trainer, network_outputs(network), rows.array.rows), &result));
  const bool on_device = argument_on_device(&rows) && takes_device_rows(network);
  TRY(on_device ? forward_on_device(trainer, &rows, &result) : forward_on_host(trainer, &rows, &result));
done:
  return status;
}

/* Copies dOutputs from the device's memory to where the backward range reads it. */
static descent_status place_on_device(descent_trainer *trainer, const struct argument *dOutputs) {
  const struct array_rule finite = {.kind = ARRAY_FINITE};
  const descent_array *array = &dOutputs->array;
  descent_array dA;
  int64_t element = -1;
  double value = 0;
  descent_status status;
  TRY(device_array_find(trainer->device, array, finite, &element, &value));
  if (element >= 0) TRY(differentiate_refuse(element, array->columns, value));
  TRY(program_view(&trainer->program, trainer->program.at.dA, array->rows, &dA));
  TRY(device_array_copy(trainer->device, array, &dA));
done:
  return status;
}

descent_status descent_trainer_backward_arrays(descent_trainer *trainer, const descent_array *dOutputs,
                                               const descent_array *dX, bool accumulate) {
  struct argument given, result;
  const float *rows = NULL;
  float *values = NULL;
  descent_status status;
  TRY(handle_check(trainer, HANDLE_TRAINER, "trainer"));
  TRY(trainer_check_forwarded(trainer));
  const descent_network *network = trainer->network;
  struct staging *staging = &trainer->staging;
  const int64_t m = trainer->gradient.pass_rows;
  TRY(argument_take(dOutputs, "dOutputs", trainer->device, shape_of(trainer, network_outputs(network), m), &given));
  if (dX) TRY(argument_take_result(dX, "dX", trainer->device, shape_of(trainer, network->inputs, m), &result));
  if (dX) TRY(argument_values(&result, &staging->dX, &values));
  if (argument_on_device(&given)) {
    TRY(place_on_device(trainer, &given));
  } else {
    TRY(argument_rows(&given, trainer->device, &staging->dOutputs, &rows));
    TRY(differentiate_check(rows, m, network_outputs(network)));
  }
  TRY(trainer_backward(trainer, rows, values, accumulate));
  if (dX) TRY(argument_give(&result, trainer->device, values));
done:
  return status;
}
