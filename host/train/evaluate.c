/* Evaluation: runs the network over a dataset, one block of rows at a time. */
#include "train/evaluate.h"

#include <math.h>
#include <stdlib.h>

#include "core/memory.h"
#include "core/progress.h"
#include "core/status.h"
#include "core/terms.h"
#include "data/dataset.h"
#include "train/check.h"
#include "train/evaluate_ensemble.h"
#include "train/extremes.h"
#include "train/metrics.h"

descent_status evaluate_begin(struct program *program, double loss, double weight) {
  const double totals[2] = {loss, weight};
  _Static_assert(SCALAR_TOTAL_WEIGHT == SCALAR_TOTAL_LOSS + 1, "both totals are written at once");
  return program_write(program, program->at.scalars, SCALAR_TOTAL_LOSS, 2, PLAN_F64, totals);
}

descent_status evaluate_mean_loss(const struct program *program, double totals[2], double *loss) {
  descent_status status = program_read(program, program->at.scalars, SCALAR_TOTAL_LOSS, 2, PLAN_F64, totals);
  if (status == DESCENT_OK) *loss = totals[1] > 0 ? totals[0] / totals[1] : NAN;
  return status;
}

descent_status evaluate_dataset(struct program *program, const descent_network *network, const descent_dataset *dataset,
                                int64_t top_k, bool strict, struct own_loss *own_loss, bool (*stop)(void *user),
                                void *user, descent_metrics *metrics) {
  const struct dataset_storage *storage = dataset->storage;
  const int64_t outputs = network->layers[network->n_layers - 1].n_out;
  const int64_t block = program_block_rows(program, dataset->rows);
  struct metrics_sums *sums = NULL;
  double totals[2], loss;
  descent_status status = DESCENT_OK;
  /* The measures of classifiers come from logits: float32 probabilities near 0 and 1 tie. */
  const int shown = loss_is_regression(network->loss) ? program->at.P : program->at.A;
  float *values = memory_allocate(block * outputs, sizeof *values, "predictions");
  if (!values) TRY(DESCENT_ERROR_MEMORY);
  TRY(metrics_create(network, dataset->rows, top_k, &sums));
  TRY(evaluate_begin(program, 0, 0));
  if (own_loss) own_loss->total = own_loss->weight = 0;
  TRY(program_run_block(program, program->plan->evaluate, 0, block));
  for (int64_t first = 0; first < dataset->rows; first += block) {
    const int64_t rows = program_block_rows(program, dataset->rows - first), next = first + rows;
    TRY(program_read(program, shown, 0, rows * outputs, PLAN_F32, values));
    if (own_loss) TRY(own_loss_add(own_loss, program, rows));
    if (next < dataset->rows) { /* a device with a queue computes this block while the host counts the last one */
      if (stop && stop(user)) goto done;
      if (!stop) TRY(progress_report("evaluating", NULL, "rows", next, dataset->rows));
      TRY(program_run_block(program, program->plan->evaluate, next, program_block_rows(program, dataset->rows - next)));
    }
    if (strict) {
      TRY(extremes_check_inputs(network, dataset, first, rows));
      TRY(extremes_check_outputs(network, dataset, first, rows, values));
    }
    for (int64_t r = 0; r < rows; r++)
      metrics_add(sums, values + r * outputs, storage->y + dataset_source_row(dataset, first + r) * storage->targets);
  }
  TRY(evaluate_mean_loss(program, totals, &loss));
  if (own_loss) loss = own_loss->weight > 0 ? own_loss->total / own_loss->weight : NAN;
  TRY(metrics_finish(sums, loss, metrics));
done:
  metrics_free(sums);
  free(values);
  return status;
}

/* A plain network, on a dataset with its offsets. */
static descent_status evaluate_network(const descent_network *network, descent_device *device,
                                       const descent_dataset *dataset, const descent_predict_options *options,
                                       int64_t top_k, descent_metrics *metrics) {
  const int64_t block = program_evaluation_block(network, device, dataset->rows);
  struct program program = {0};
  descent_status status;
  TRY(program_create_prediction(network, device, options, 0, block, &program));
  TRY(program_bind(&program, dataset));
  TRY(evaluate_dataset(&program, network, dataset, top_k, true, NULL, NULL, NULL, metrics));
done:
  program_clear(&program);
  return status;
}

descent_status descent_evaluate_with(const descent_network *network, descent_device *device,
                                     const descent_dataset *dataset, const descent_predict_options *options,
                                     int64_t top_k, descent_metrics *metrics) {
  descent_predict_options complete;
  descent_dataset *aligned = NULL;
  descent_status status;
  TRY(handle_check(network, HANDLE_NETWORK, "network"));
  TRY(device_check(device, "device"));
  TRY(handle_check(dataset, HANDLE_DATASET, "dataset"));
  TRY(argument_check(metrics, "metrics"));
  TRY(check_predict_options(device, options, &complete));
  TRY(check_dataset(network, dataset, true, "the dataset"));
  TRY(dataset_align(dataset, &network->schema, &aligned));
  if (aligned) dataset = aligned;
  TRY((network->members == 1 ? evaluate_network : evaluate_ensemble)(network, device, dataset, &complete, top_k,
                                                                     metrics));
done:
  descent_dataset_free(aligned);
  return status;
}

descent_status descent_evaluate(const descent_network *network, descent_device *device, const descent_dataset *dataset,
                                int64_t top_k, descent_metrics *metrics) {
  const descent_predict_options options = descent_predict_options_default();
  return descent_evaluate_with(network, device, dataset, &options, top_k, metrics);
}
