/* Prediction: a plan compiled once and run on blocks of rows, the caller's or those of a dataset. Invariant: a run on the
 * caller's rows allocates nothing. */
#include "train/predictor.h"

#include <stdlib.h>

#include "core/memory.h"
#include "core/progress.h"
#include "core/status.h"
#include "train/check.h"
#include "train/differentiate.h"
#include "train/extremes.h"

enum output { PREDICTED, RAW };

/* ---- a run ------------------------------------------------------------------------------------------------------- */

static void add_target_offsets(const struct schema *schema, int64_t rows, int64_t n_out, float *outputs) {
  for (int64_t i = 0; schema->target_offsets && i < rows * n_out; i++)
    outputs[i] =
        (float)(schema_offset(schema->target_offsets, schema->n_target_offsets, i % n_out) + (double)outputs[i]);
}

/* Predicts the rows of the dataset, which is bound and has the network's offsets. All rows are predicted, also after
 * one that ERROR_DATA names. */
static descent_status run_rows(struct program *program, const descent_network *network, const descent_dataset *dataset,
                               enum output output, float *outputs) {
  const int64_t n_out = network_outputs(network);
  const int shown = output == RAW ? program->at.A : program->at.P;
  descent_status status = DESCENT_OK, found = DESCENT_OK;
  for (int64_t first = 0, rows; first < dataset->rows; first += rows) {
    float *values = outputs + first * n_out;
    rows = program_block_rows(program, dataset->rows - first);
    TRY(program_run_block(program, program->plan->predict, first, rows));
    TRY(program_read(program, shown, 0, rows * n_out, PLAN_F32, values));
    if (found == DESCENT_OK) found = extremes_check_inputs(network, dataset, first, rows);
    if (found == DESCENT_OK) found = extremes_check_outputs(network, dataset, first, rows, values);
    if (first + rows < dataset->rows) TRY(progress_report("predicting", NULL, "rows", first + rows, dataset->rows));
  }
  if (output == PREDICTED) add_target_offsets(&network->schema, dataset->rows, n_out, outputs);
  status = found;
done:
  return status;
}

/* ---- a predictor ------------------------------------------------------------------------------------------------- */

/* For the predictor's options, device and rows; `parts` of enum plan_part. */
static descent_status create_program(const descent_predictor *predictor, const descent_network *network, unsigned parts,
                                     struct program *program) {
  const int64_t block = program_evaluation_block(network, predictor->device, predictor->max_rows);
  return program_create_prediction(network, predictor->device, &predictor->options, parts, block, program);
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
  program_clear(&predictor->program);
  program_clear(&predictor->differentiated);
  network_free_outline(predictor->network);
  free(predictor->aligned);
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
  TRY(create_program(made, network, 0, &made->program));
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

/* Makes the caller's rows those of a dataset, with the network's offsets. */
static descent_status take_rows(descent_predictor *predictor, const float *X, int64_t rows, descent_dataset *dataset) {
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
  TRY(take_rows(predictor, X, rows, &dataset));
  TRY(program_bind_rows(&predictor->program, dataset.storage->X, NULL, NULL, rows));
  TRY(run_rows(&predictor->program, predictor->network, &dataset, output, outputs));
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
                                  enum output output, float *outputs) {
  struct program *program = &predictor->program;
  const descent_network *network = predictor->network;
  descent_dataset *aligned = NULL;
  descent_status status;
  TRY(handle_check(dataset, HANDLE_DATASET, "dataset"));
  TRY(argument_check(outputs, "outputs"));
  TRY(check_dataset(network, dataset, false, "the dataset"));
  TRY(dataset_align(dataset, &network->schema, &aligned));
  if (aligned) dataset = aligned;
  status = constant && !aligned ? program_bind(program, dataset) : program_bind_once(program, dataset);
  if (status == DESCENT_OK) status = run_rows(program, network, dataset, output, outputs);
  const descent_status unbound = program_unbind(program);
  if (status == DESCENT_OK) status = unbound;
done:
  descent_dataset_free(aligned);
  return status;
}

static descent_status run_rows_of(descent_predictor *predictor, const descent_dataset *dataset, enum output output,
                                  float *outputs) {
  const descent_status status = handle_check(predictor, HANDLE_PREDICTOR, "predictor");
  return status == DESCENT_OK ? run_dataset(predictor, dataset, false, output, outputs) : status;
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
                              const descent_predict_options *options, enum output output, float *outputs) {
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
  TRY(run_dataset(predictor, dataset, true, output, outputs));
done:
  descent_predictor_free(predictor);
  return status;
}

descent_status descent_predict_with(const descent_network *network, descent_device *device,
                                    const descent_dataset *dataset, const descent_predict_options *options,
                                    float *outputs) {
  return predict(network, device, dataset, options, PREDICTED, outputs);
}

descent_status descent_predict_raw_with(const descent_network *network, descent_device *device,
                                        const descent_dataset *dataset, const descent_predict_options *options,
                                        float *outputs) {
  return predict(network, device, dataset, options, RAW, outputs);
}

descent_status descent_predict(const descent_network *network, descent_device *device, const descent_dataset *dataset,
                               float *outputs) {
  const descent_predict_options options = descent_predict_options_default();
  return predict(network, device, dataset, &options, PREDICTED, outputs);
}

descent_status descent_predict_raw(const descent_network *network, descent_device *device,
                                   const descent_dataset *dataset, float *outputs) {
  const descent_predict_options options = descent_predict_options_default();
  return predict(network, device, dataset, &options, RAW, outputs);
}

/* ---- sensitivities ----------------------------------------------------------------------------------------------- */

/* The predictor's parameters in a program that differentiates; refreshing discards it. */
static descent_status prepare_differentiated(descent_predictor *predictor) {
  static const unsigned parts = PLAN_PART_BACKWARD | PLAN_PART_INPUT_GRADIENT;
  struct program made = {0};
  descent_status status = DESCENT_OK;
  if (predictor->differentiated.compiled) return DESCENT_OK;
  TRY(create_program(predictor, predictor->network, parts, &made));
  TRY(program_copy_state(&predictor->program, &made));
  predictor->differentiated = made;
  made = (struct program){0};
done:
  program_clear(&made);
  return status;
}

/* dX of a block of the rows that are bound. */
static descent_status differentiate_block(descent_predictor *predictor, const descent_dataset *dataset, int64_t first,
                                          int64_t rows, const float *dOutputs, float *dX) {
  struct program *program = &predictor->differentiated;
  const descent_network *network = predictor->network;
  const struct plan_step step = {.number = 1, .first_row = first, .rows = rows};
  const int64_t inputs = network->inputs;
  descent_status status;
  TRY(program_run(program, program->plan->predict, &step, 1));
  TRY(differentiate_outputs(program, &step, dOutputs + first * network_outputs(network)));
  TRY(differentiate_inputs(program, network, &step, dataset->storage->X + first * inputs, dX + first * inputs));
done:
  return status;
}

descent_status descent_predictor_input_gradient(descent_predictor *predictor, const float *X, const float *dOutputs,
                                                int64_t rows, float *dX) {
  descent_dataset dataset;
  descent_status status;
  TRY(handle_check(predictor, HANDLE_PREDICTOR, "predictor"));
  TRY(argument_check(X, "X"));
  TRY(argument_check(dOutputs, "dOutputs"));
  TRY(argument_check(dX, "dX"));
  TRY(take_rows(predictor, X, rows, &dataset));
  TRY(differentiate_check(dOutputs, rows, network_outputs(predictor->network)));
  TRY(extremes_check_inputs(predictor->network, &dataset, 0, rows)); /* of all blocks before dX is written */
  TRY(prepare_differentiated(predictor));
  TRY(program_bind_rows(&predictor->differentiated, dataset.storage->X, NULL, NULL, rows));
  for (int64_t first = 0, count; first < rows; first += count) {
    count = program_block_rows(&predictor->differentiated, rows - first);
    TRY(differentiate_block(predictor, &dataset, first, count, dOutputs, dX));
  }
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
  struct program program = {0};
  descent_status status;
  TRY(handle_check(predictor, HANDLE_PREDICTOR, "predictor"));
  TRY(handle_check(network, HANDLE_NETWORK, "network"));
  if (!network_same_shape(predictor->network, network))
    TRY(status_set(DESCENT_ERROR_ARGUMENT,
                   "network: its inputs, widths, activations or loss are not the predictor's: create another "
                   "predictor"));
  TRY(network_copy_outline(network, &outline));
  TRY(create_aligned(network, predictor->max_rows, &aligned));
  if (same_steps(predictor->network, network)) {
    TRY(program_write_network(&predictor->program, network));
  } else {
    TRY(create_program(predictor, network, 0, &program));
    program_clear(&predictor->program);
    predictor->program = program;
  }
  program_clear(&predictor->differentiated);
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
