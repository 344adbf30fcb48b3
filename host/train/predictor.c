/* Prediction: a plan compiled once and run on blocks of rows, the caller's or those of a dataset. Invariant: a run on the
 * caller's rows allocates nothing. */
#include "train/predictor.h"

#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/progress.h"
#include "core/status.h"
#include "core/terms.h"
#include "train/check.h"
#include "train/extremes.h"
#include "train/member_outputs.h"

enum output { PREDICTED, RAW };

/* ---- a run ------------------------------------------------------------------------------------------------------- */

static void add_target_offsets(const struct schema *schema, int64_t rows, int64_t n_out, float *outputs) {
  for (int64_t i = 0; schema->target_offsets && i < rows * n_out; i++)
    outputs[i] =
        (float)(schema_offset(schema->target_offsets, schema->n_target_offsets, i % n_out) + (double)outputs[i]);
}

/* What a run gives: (rows, outputs) each. */
struct results {
  enum output output;
  float *outputs;
  float *spread; /* or NULL */
};

/* The standard deviation of a target does not depend on its shift, beside which float32 would lose it, so it is taken
 * from raw outputs; that of a probability from those that read_outputs has left in `values`. */
static descent_status read_spread(const descent_predictor *predictor, int64_t rows, float *spread) {
  const descent_network *network = predictor->network;
  const bool regression = loss_is_regression(network->loss);
  const struct member_outputs all = {predictor->values, network->members, rows, network_outputs(network)};
  descent_status status = DESCENT_OK;
  if (regression) TRY(ensemble_read(&predictor->ensemble, ENSEMBLE_A, rows, predictor->values));
  member_outputs_spread(&all, spread);
  for (int64_t i = 0; regression && i < rows * all.n; i++)
    spread[i] = (float)((double)spread[i] / (double)network->y_scale[i % all.n]);
done:
  return status;
}

/* The outputs of the rows of the last run. */
static descent_status read_outputs(descent_predictor *predictor, enum output output, int64_t rows, float *outputs) {
  const descent_network *network = predictor->network;
  const enum ensemble_buffer shown = output == RAW ? ENSEMBLE_A : ENSEMBLE_P;
  const struct member_outputs all = {predictor->values, network->members, rows, network_outputs(network)};
  descent_status status;
  if (network->members == 1) return ensemble_read(&predictor->ensemble, shown, rows, outputs);
  TRY(ensemble_read(&predictor->ensemble, shown, rows, predictor->values));
  if (output == RAW)
    member_outputs_raw_rows(network->loss, &all, &predictor->scratch, outputs);
  else
    member_outputs_mean(&all, outputs);
done:
  return status;
}

/* Predicts the rows of the dataset, which is bound and has the network's offsets. All rows are predicted, also after
 * one that ERROR_DATA names. */
static descent_status run_rows(descent_predictor *predictor, const descent_dataset *dataset, struct results results) {
  const descent_network *network = predictor->network;
  const int64_t n_out = network_outputs(network);
  descent_status status = DESCENT_OK, found = DESCENT_OK;
  for (int64_t first = 0, rows; first < dataset->rows; first += rows) {
    float *outputs = results.outputs + first * n_out;
    rows = ensemble_block_rows(&predictor->ensemble, dataset->rows - first);
    TRY(ensemble_predict(&predictor->ensemble, first, rows));
    TRY(read_outputs(predictor, results.output, rows, outputs));
    if (results.spread) TRY(read_spread(predictor, rows, results.spread + first * n_out));
    if (found == DESCENT_OK) found = extremes_check_inputs(network, dataset, first, rows);
    if (found == DESCENT_OK) found = extremes_check_outputs(network, dataset, first, rows, outputs);
    if (first + rows < dataset->rows) TRY(progress_report("predicting", NULL, "rows", first + rows, dataset->rows));
  }
  if (results.output == PREDICTED) add_target_offsets(&network->schema, dataset->rows, n_out, results.outputs);
  status = found;
done:
  return status;
}

/* ---- a predictor ------------------------------------------------------------------------------------------------- */

descent_status predictor_create_ensemble(const descent_predictor *predictor, const descent_network *network,
                                         unsigned parts, struct ensemble *ensemble) {
  const int64_t block = program_evaluation_block(network, predictor->device, predictor->max_rows);
  return ensemble_create(network, predictor->device, &predictor->options, parts, block, ensemble);
}

/* What an ensemble needs to join the outputs of a block of rows. */
static descent_status create_values(descent_predictor *predictor) {
  const int64_t members = predictor->network->members, n_out = network_outputs(predictor->network);
  const int64_t block = ensemble_block_rows(&predictor->ensemble, predictor->max_rows);
  int64_t count;
  if (members == 1) return DESCENT_OK;
  if (!size_product(members * n_out, block, &count))
    return status_set(DESCENT_ERROR_MEMORY, "the outputs of %lld members exceed the address space", (long long)members);
  predictor->values = memory_allocate(count, sizeof *predictor->values, "the outputs of an ensemble's members");
  return predictor->values ? member_scratch_create(members, n_out, &predictor->scratch) : DESCENT_ERROR_MEMORY;
}

/* The memory for rows minus the network's offsets, if it has some. */
static descent_status create_aligned(const descent_network *network, int64_t max_rows, float **aligned) {
  int64_t count;
  *aligned = NULL;
  if (!network->schema.offsets) return DESCENT_OK;
  if (!size_product(max_rows, network->inputs, &count))
    return status_set(DESCENT_ERROR_MEMORY, "max_rows %lld: %lld x %lld inputs exceed the address space",
                      (long long)max_rows, (long long)max_rows, (long long)network->inputs);
  *aligned = memory_allocate(count, sizeof **aligned, "the rows of a prediction");
  return *aligned ? DESCENT_OK : DESCENT_ERROR_MEMORY;
}

static void predictor_clear(void *object) {
  descent_predictor *predictor = object;
  ensemble_clear(&predictor->ensemble);
  ensemble_clear(&predictor->differentiated);
  network_free_outline(predictor->network);
  free(predictor->aligned);
  free(predictor->values);
  member_scratch_free(&predictor->scratch);
  free(predictor->dA);
  free(predictor->dX);
  free(predictor->dX_sum);
  staging_free(&predictor->staging);
  handle_release(predictor->device);
}

static descent_status predictor_create(const descent_network *network, descent_device *device,
                                       const descent_predict_options *options, int64_t max_rows,
                                       descent_predictor **predictor) {
  descent_predictor *made = handle_create(HANDLE_PREDICTOR, sizeof *made, predictor_clear, "the predictor");
  if (!made) return DESCENT_ERROR_MEMORY;
  descent_status status;
  made->device = device;
  handle_retain(device);
  made->options = *options;
  made->max_rows = max_rows;
  made->storage.inputs = network->inputs;
  TRY(network_copy_outline(network, &made->network));
  TRY(create_aligned(network, max_rows, &made->aligned));
  TRY(predictor_create_ensemble(made, network, 0, &made->ensemble));
  TRY(create_values(made));
  *predictor = made;
  made = NULL;
done:
  descent_predictor_free(made);
  return status;
}

descent_status descent_predictor_create_with(const descent_network *network, descent_device *device,
                                             const descent_predict_options *options, int64_t max_rows,
                                             descent_predictor **predictor) {
  descent_predict_options complete;
  descent_status status;
  TRY(handle_check(network, HANDLE_NETWORK, "network"));
  TRY(device_check(device, "device"));
  TRY(argument_check(predictor, "predictor"));
  if (max_rows < 1) TRY(status_set(DESCENT_ERROR_ARGUMENT, "max_rows %lld: must be at least 1", (long long)max_rows));
  TRY(check_predict_options(device, options, &complete));
  TRY(predictor_create(network, device, &complete, max_rows, predictor));
done:
  return status;
}

descent_status descent_predictor_create(const descent_network *network, descent_device *device, int64_t max_rows,
                                        descent_predictor **predictor) {
  const descent_predict_options options = descent_predict_options_default();
  return descent_predictor_create_with(network, device, &options, max_rows, predictor);
}

void descent_predictor_free(descent_predictor *predictor) { handle_close(predictor, HANDLE_PREDICTOR); }

/* Rows of the caller as a network takes them: without its offsets. */
static const float *align_rows(descent_predictor *predictor, const float *X, int64_t rows) {
  const struct schema *schema = &predictor->network->schema;
  const struct dataset_storage given = {.X = X, .inputs = predictor->network->inputs};
  if (!predictor->aligned) return X;
  for (int64_t r = 0; r < rows; r++)
    for (int64_t j = 0; j < given.inputs; j++)
      predictor->aligned[r * given.inputs + j] = dataset_align_input(&given, r, j, schema);
  return predictor->aligned;
}

descent_status predictor_take_rows(descent_predictor *predictor, const float *X, int64_t rows,
                                   descent_dataset *dataset) {
  struct dataset_storage *const storage = &predictor->storage;
  if (rows < 1 || rows > predictor->max_rows)
    return status_set(DESCENT_ERROR_ARGUMENT, "rows %lld: must be 1 to max_rows %lld", (long long)rows,
                      (long long)predictor->max_rows);
  storage->X = align_rows(predictor, X, rows);
  storage->rows = rows;
  *dataset = (descent_dataset){.storage = storage, .rows = rows};
  return DESCENT_OK;
}

static descent_status run(descent_predictor *predictor, const float *X, int64_t rows, enum output output,
                          float *outputs) {
  descent_dataset dataset;
  descent_status status;
  TRY(handle_check(predictor, HANDLE_PREDICTOR, "predictor"));
  TRY(argument_check(X, "X"));
  TRY(argument_check(outputs, "outputs"));
  TRY(predictor_take_rows(predictor, X, rows, &dataset));
  TRY(ensemble_bind_rows(&predictor->ensemble, dataset.storage->X, rows));
  TRY(run_rows(predictor, &dataset, (struct results){output, outputs, NULL}));
done:
  return status;
}

descent_status descent_predictor_run(descent_predictor *predictor, const float *X, int64_t rows, float *outputs) {
  return run(predictor, X, rows, PREDICTED, outputs);
}

descent_status descent_predictor_run_raw(descent_predictor *predictor, const float *X, int64_t rows, float *outputs) {
  return run(predictor, X, rows, RAW, outputs);
}

/* ---- a dataset --------------------------------------------------------------------------------------------------- */

/* `constant`: the dataset outlives the predictor, whose device may keep a copy of it. An aligned one does not. */
static descent_status run_dataset(descent_predictor *predictor, const descent_dataset *dataset, bool constant,
                                  struct results results) {
  const descent_network *network = predictor->network;
  descent_dataset *aligned = NULL;
  descent_status status;
  TRY(handle_check(dataset, HANDLE_DATASET, "dataset"));
  TRY(argument_check(results.outputs, "outputs"));
  TRY(check_dataset(network, dataset, false, "the dataset"));
  TRY(dataset_align(dataset, &network->schema, &aligned));
  if (aligned) dataset = aligned;
  status = ensemble_bind(&predictor->ensemble, dataset, constant && !aligned);
  if (status == DESCENT_OK) status = run_rows(predictor, dataset, results);
  const descent_status unbound = ensemble_unbind(&predictor->ensemble);
  if (status == DESCENT_OK) status = unbound;
done:
  descent_dataset_free(aligned);
  return status;
}

static descent_status run_rows_of(descent_predictor *predictor, const descent_dataset *dataset, enum output output,
                                  float *outputs) {
  const descent_status status = handle_check(predictor, HANDLE_PREDICTOR, "predictor");
  return status == DESCENT_OK ? run_dataset(predictor, dataset, false, (struct results){output, outputs, NULL})
                              : status;
}

descent_status descent_predictor_run_dataset(descent_predictor *predictor, const descent_dataset *dataset,
                                             float *outputs) {
  return run_rows_of(predictor, dataset, PREDICTED, outputs);
}

descent_status descent_predictor_run_raw_dataset(descent_predictor *predictor, const descent_dataset *dataset,
                                                 float *outputs) {
  return run_rows_of(predictor, dataset, RAW, outputs);
}

static descent_status predict(const descent_network *network, descent_device *device, const descent_dataset *dataset,
                              const descent_predict_options *options, struct results results) {
  descent_predict_options complete;
  descent_predictor *predictor = NULL;
  descent_status status;
  TRY(handle_check(network, HANDLE_NETWORK, "network"));
  TRY(device_check(device, "device"));
  TRY(handle_check(dataset, HANDLE_DATASET, "dataset"));
  TRY(check_predict_options(device, options, &complete));
  TRY(check_dataset(network, dataset, false, "the dataset"));
  TRY(predictor_create(network, device, &complete, program_evaluation_block(network, device, dataset->rows),
                       &predictor));
  TRY(run_dataset(predictor, dataset, true, results));
done:
  descent_predictor_free(predictor);
  return status;
}

descent_status descent_predict_with(const descent_network *network, descent_device *device,
                                    const descent_dataset *dataset, const descent_predict_options *options,
                                    float *outputs) {
  return predict(network, device, dataset, options, (struct results){PREDICTED, outputs, NULL});
}

descent_status descent_predict_raw_with(const descent_network *network, descent_device *device,
                                        const descent_dataset *dataset, const descent_predict_options *options,
                                        float *outputs) {
  return predict(network, device, dataset, options, (struct results){RAW, outputs, NULL});
}

descent_status descent_predict(const descent_network *network, descent_device *device, const descent_dataset *dataset,
                               float *outputs) {
  const descent_predict_options options = descent_predict_options_default();
  return predict(network, device, dataset, &options, (struct results){PREDICTED, outputs, NULL});
}

descent_status descent_predict_raw(const descent_network *network, descent_device *device,
                                   const descent_dataset *dataset, float *outputs) {
  const descent_predict_options options = descent_predict_options_default();
  return predict(network, device, dataset, &options, (struct results){RAW, outputs, NULL});
}

descent_status descent_predict_spread(const descent_network *network, descent_device *device,
                                      const descent_dataset *dataset, const descent_predict_options *options,
                                      float *outputs, float *spread) {
  descent_status status;
  TRY(handle_check(network, HANDLE_NETWORK, "network"));
  TRY(handle_check(dataset, HANDLE_DATASET, "dataset"));
  TRY(argument_check(spread, "spread"));
  const bool plain = network->members == 1;
  if (plain) memset(spread, 0, (size_t)(dataset->rows * network_outputs(network)) * sizeof *spread);
  TRY(predict(network, device, dataset, options, (struct results){PREDICTED, outputs, plain ? NULL : spread}));
done:
  return status;
}

/* ---- refreshing -------------------------------------------------------------------------------------------------- */

/* Whether a plan of one network has the preprocessing that the other needs. */
static bool same_steps(const descent_network *a, const descent_network *b) {
  return !a->fill == !b->fill && (a->normalize == DESCENT_NORMALIZE_NONE) == (b->normalize == DESCENT_NORMALIZE_NONE);
}

descent_status descent_predictor_refresh(descent_predictor *predictor, const descent_network *network) {
  descent_network *outline = NULL;
  float *aligned = NULL;
  struct ensemble ensemble = {0};
  descent_status status;
  TRY(handle_check(predictor, HANDLE_PREDICTOR, "predictor"));
  TRY(handle_check(network, HANDLE_NETWORK, "network"));
  if (network->members != predictor->network->members)
    TRY(status_set(DESCENT_ERROR_ARGUMENT, "network: has %lld members, the predictor %lld: create another predictor",
                   (long long)network->members, (long long)predictor->network->members));
  if (!network_same_shape(predictor->network, network))
    TRY(status_set(DESCENT_ERROR_ARGUMENT,
                   "network: its inputs, widths, activations or loss are not the predictor's: create another "
                   "predictor"));
  TRY(network_copy_outline(network, &outline));
  TRY(create_aligned(network, predictor->max_rows, &aligned));
  if (same_steps(predictor->network, network)) {
    TRY(ensemble_write_network(&predictor->ensemble, network));
  } else {
    TRY(predictor_create_ensemble(predictor, network, 0, &ensemble));
    ensemble_clear(&predictor->ensemble);
    predictor->ensemble = ensemble;
  }
  ensemble_clear(&predictor->differentiated);
  network_free_outline(predictor->network);
  free(predictor->aligned);
  predictor->network = outline;
  predictor->aligned = aligned;
  return DESCENT_OK;
done:
  network_free_outline(outline);
  free(aligned);
  return status;
}
