/* A predictor's runs on arrays of the caller. Those in the device's memory are used there, unless the network has
 * offsets, which are subtracted and added on the host, or is an ensemble, whose outputs are joined there. */
#include "backend/device_array.h"
#include "core/status.h"
#include "data/strided.h"
#include "train/arguments.h"
#include "train/extremes.h"
#include "train/predictor.h"

static struct shape shape_of(const descent_predictor *predictor, int64_t columns, int64_t rows) {
  return (struct shape){predictor->max_rows, columns, rows};
}

/* ---- on the device ----------------------------------------------------------------------------------------------- */

/* A block of the rows, and where its outputs go. */
struct block {
  descent_array X;       /* or, on the host, dense float32 */
  descent_array outputs; /* on the device; data NULL: `values` */
  float *values;
  int64_t first;
};

/* The error of a block with a value that is refused, which the library finds in the rows themselves. */
static descent_status explain(descent_predictor *predictor, const struct block *block, const descent_array *shown) {
  const struct argument X = {"X", block->X, predictor->max_rows}, A = {"outputs", *shown, predictor->max_rows};
  const int64_t rows = shown->rows;
  const float *X_rows, *values;
  descent_status status;
  TRY(argument_rows(&X, predictor->device, &predictor->staging.X, &X_rows));
  TRY(argument_rows(&A, predictor->device, &predictor->staging.dOutputs, &values)); /* `outputs` may hold results */
  struct dataset_storage storage = {
      .X = X_rows, .rows = rows, .inputs = predictor->network->inputs, .before = block->first};
  const descent_dataset dataset = {.storage = &storage, .rows = rows};
  TRY(extremes_check_inputs(predictor->network, &dataset, 0, rows));
  TRY(extremes_check_outputs(predictor->network, &dataset, 0, rows, values));
done:
  return status;
}

/* *refused: an input or output of the rows that have been run is. */
static descent_status check_block(const descent_predictor *predictor, const descent_array *shown, bool *refused) {
  struct program *program = (struct program *)&predictor->ensemble.programs[0];
  /* Where X is rounded to bf16, what exceeds the largest input may have become that: `explain` finds out. */
  const double below = predictor->options.precision == DESCENT_PRECISION_BF16 ? 1 - 0x1p-8 : 1;
  const struct array_rule in_range = {ARRAY_AT_MOST, below * extremes_largest_input}, finite = {.kind = ARRAY_FINITE};
  descent_array X;
  int64_t input = -1, output = -1;
  double value;
  descent_status status;
  TRY(program_view(program, program->at.X, shown->rows, &X));
  TRY(device_array_find(predictor->device, &X, in_range, &input, &value));
  TRY(device_array_find(predictor->device, shown, finite, &output, &value));
  *refused = input >= 0 || output >= 0;
done:
  return status;
}

/* *found: the first error of the rows' values. */
static descent_status run_block(descent_predictor *predictor, const struct block *block, int buffer,
                                descent_status *found) {
  struct program *program = &predictor->ensemble.programs[0];
  const int64_t rows = block->X.rows;
  descent_array shown;
  bool refused = false;
  descent_status status;
  TRY(program_bind_array(program, program->at.source_X, &block->X));
  TRY(program_run_block(program, program->plan->predict, 0, rows));
  TRY(program_view(program, buffer, rows, &shown));
  if (block->outputs.data)
    TRY(device_array_copy(predictor->device, &shown, &block->outputs));
  else
    TRY(device_array_read(predictor->device, &shown, block->values));
  TRY(check_block(predictor, &shown, &refused));
  if (refused && *found == DESCENT_OK) *found = explain(predictor, block, &shown);
done:
  return status;
}

static descent_status run_on_device(descent_predictor *predictor, const struct argument *X,
                                    const struct argument *outputs, bool raw) {
  struct program *program = &predictor->ensemble.programs[0];
  const int64_t rows = X->array.rows, n_out = outputs->array.columns;
  const int buffer = raw ? program->at.A : program->at.P;
  const float *X_rows;
  float *values = NULL;
  descent_array given = X->array;
  descent_status status = DESCENT_OK, found = DESCENT_OK;
  if (argument_on_device(X)) {
    TRY(device_array_check_fit(predictor->device, &given, X->name));
  } else {
    TRY(argument_rows(X, predictor->device, &predictor->staging.X, &X_rows));
    given = device_array_of_host(X_rows, rows, given.columns);
  }
  if (!argument_on_device(outputs)) TRY(argument_values(outputs, &predictor->staging.outputs, &values));
  for (int64_t first = 0, taken; first < rows; first += taken) {
    taken = program_block_rows(program, rows - first);
    struct block block = {.X = strided_part(&given, first, taken), .first = first};
    if (values)
      block.values = values + first * n_out;
    else
      block.outputs = strided_part(&outputs->array, first, taken);
    TRY(run_block(predictor, &block, buffer, &found));
  }
  if (values) TRY(argument_give(outputs, predictor->device, values));
  status = found;
done:
  return status;
}

/* ---- the functions ----------------------------------------------------------------------------------------------- */

static descent_status run_on_host(descent_predictor *predictor, const struct argument *X,
                                  const struct argument *outputs, bool raw) {
  const float *X_rows;
  float *values;
  descent_status status, found;
  TRY(argument_rows(X, predictor->device, &predictor->staging.X, &X_rows));
  TRY(argument_values(outputs, &predictor->staging.outputs, &values));
  found = (raw ? descent_predictor_run_raw : descent_predictor_run)(predictor, X_rows, X->array.rows, values);
  if (found != DESCENT_OK && found != DESCENT_ERROR_DATA) TRY(found);
  TRY(argument_give(outputs, predictor->device, values)); /* all rows are predicted */
  status = found;
done:
  return status;
}

static descent_status run_arrays(descent_predictor *predictor, const descent_array *X, const descent_array *outputs,
                                 bool raw) {
  struct argument rows, result;
  descent_status status;
  TRY(handle_check(predictor, HANDLE_PREDICTOR, "predictor"));
  const descent_network *network = predictor->network;
  TRY(argument_take(X, "X", predictor->device, shape_of(predictor, network->inputs, 0), &rows));
  TRY(argument_take_result(outputs, "outputs", predictor->device,
                           shape_of(predictor, network_outputs(network), rows.array.rows), &result));
  const bool needs_host = network->members > 1 || network->schema.offsets || network->schema.target_offsets;
  const bool on_device = !needs_host && (argument_on_device(&rows) || argument_on_device(&result));
  TRY(on_device ? run_on_device(predictor, &rows, &result, raw) : run_on_host(predictor, &rows, &result, raw));
done:
  return status;
}

descent_status descent_predictor_run_arrays(descent_predictor *predictor, const descent_array *X,
                                            const descent_array *outputs) {
  return run_arrays(predictor, X, outputs, false);
}

descent_status descent_predictor_run_raw_arrays(descent_predictor *predictor, const descent_array *X,
                                                const descent_array *outputs) {
  return run_arrays(predictor, X, outputs, true);
}

descent_status descent_predictor_input_gradient_arrays(descent_predictor *predictor, const descent_array *X,
                                                       const descent_array *dOutputs, const descent_array *dX) {
  struct argument rows, given, result;
  const float *X_rows, *dOutputs_rows;
  float *values;
  descent_status status;
  TRY(handle_check(predictor, HANDLE_PREDICTOR, "predictor"));
  const descent_network *network = predictor->network;
  const descent_device *device = predictor->device;
  struct staging *staging = &predictor->staging;
  TRY(argument_take(X, "X", device, shape_of(predictor, network->inputs, 0), &rows));
  const int64_t m = rows.array.rows;
  TRY(argument_take(dOutputs, "dOutputs", device, shape_of(predictor, network_outputs(network), m), &given));
  TRY(argument_take_result(dX, "dX", device, shape_of(predictor, network->inputs, m), &result));
  TRY(argument_rows(&rows, device, &staging->X, &X_rows));
  TRY(argument_rows(&given, device, &staging->dOutputs, &dOutputs_rows));
  TRY(argument_values(&result, &staging->dX, &values));
  TRY(descent_predictor_input_gradient(predictor, X_rows, dOutputs_rows, m, values));
  TRY(argument_give(&result, device, values));
done:
  return status;
}
