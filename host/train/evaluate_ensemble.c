/* Evaluation of an ensemble: the loss of the joined outputs, and the measures that follow from them, on the host in double.
 * The mean of the members' losses would be that of single networks, and is never less. */
#include "train/evaluate_ensemble.h"

#include <math.h>
#include <stdlib.h>

#include "core/memory.h"
#include "core/progress.h"
#include "core/status.h"
#include "core/terms.h"
#include "train/ensemble.h"
#include "train/extremes.h"
#include "train/member_outputs.h"
#include "train/metrics.h"

struct ensemble_evaluation {
  const descent_network *network;
  const descent_dataset *dataset;
  struct ensemble ensemble;
  struct metrics_sums *sums;
  double loss, weight; /* sums of w L and of w */
  float *values;       /* (members, block, outputs) raw outputs of the members */
  float *shown;        /* (block, outputs) of the ensemble: as metrics_add takes them */
  struct member_scratch scratch;
};

/* log(1 + exp(z)) without overflow. */
static double softplus(double z) { return fmax(z, 0) + log1p(exp(-fabs(z))); }

/* mean_c (raw_c - y_c)^2, y in the units of the standardised targets. */
static double squared_error(const descent_network *network, const double *raw, const float *y) {
  const int64_t n = network_outputs(network);
  double sum = 0;
  for (int64_t c = 0; c < n; c++) {
    const double target = ((double)y[c] - (double)network->y_shift[c]) * (double)network->y_scale[c];
    sum += (raw[c] - target) * (raw[c] - target);
  }
  return sum / (double)n;
}

/* L of a row. The raw outputs of classes are logarithms of probabilities. */
static double row_loss(const descent_network *network, const double *raw, const float *y) {
  switch (network->loss) {
    case DESCENT_LOSS_BINARY_CROSS_ENTROPY: return softplus(*y == 1 ? -*raw : *raw);
    case DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY: return -raw[(int64_t)*y];
    case DESCENT_LOSS_MEAN_SQUARED_ERROR: return squared_error(network, raw, y);
  }
  return NAN;
}

/* What the metrics take: logits of classifiers, values in the targets' units otherwise. */
static float shown_value(const descent_network *network, const double *raw, int64_t c) {
  if (!loss_is_regression(network->loss)) return member_outputs_round(raw[c]);
  return (float)(raw[c] / (double)network->y_scale[c] + (double)network->y_shift[c]);
}

/* Joins the members' outputs of rows first .. first + rows - 1, which have been read, and adds their losses. */
static void join_rows(struct ensemble_evaluation *e, int64_t first, int64_t rows) {
  const struct dataset_storage *storage = e->dataset->storage;
  const struct member_outputs all = {e->values, e->network->members, rows, network_outputs(e->network)};
  double *const raw = e->scratch.raw;
  for (int64_t r = 0; r < rows; r++) {
    const int64_t source = dataset_source_row(e->dataset, first + r);
    const double weight = storage->weights ? (double)storage->weights[source] : 1;
    member_outputs_raw(e->network->loss, &all, r, &e->scratch, raw);
    for (int64_t c = 0; c < all.n; c++) e->shown[r * all.n + c] = shown_value(e->network, raw, c);
    e->loss += weight * row_loss(e->network, raw, storage->y + source * storage->targets);
    e->weight += weight;
  }
}

static descent_status add_block(struct ensemble_evaluation *e, int64_t first, int64_t rows) {
  const struct dataset_storage *storage = e->dataset->storage;
  const int64_t n = network_outputs(e->network);
  descent_status status;
  join_rows(e, first, rows);
  TRY(extremes_check_inputs(e->network, e->dataset, first, rows));
  TRY(extremes_check_outputs(e->network, e->dataset, first, rows, e->shown));
  for (int64_t r = 0; r < rows; r++)
    metrics_add(e->sums, e->shown + r * n, storage->y + dataset_source_row(e->dataset, first + r) * storage->targets);
done:
  return status;
}

/* A device with a queue computes a block while the host counts the one before. */
static descent_status add_rows(struct ensemble_evaluation *e) {
  const int64_t total = e->dataset->rows;
  int64_t rows = ensemble_block_rows(&e->ensemble, total);
  descent_status status;
  TRY(ensemble_predict(&e->ensemble, 0, rows));
  for (int64_t first = 0, next; first < total; first = next, rows = ensemble_block_rows(&e->ensemble, total - first)) {
    next = first + rows;
    TRY(ensemble_read(&e->ensemble, ENSEMBLE_A, rows, e->values));
    if (next < total) {
      TRY(progress_report("evaluating", NULL, "rows", next, total));
      TRY(ensemble_predict(&e->ensemble, next, ensemble_block_rows(&e->ensemble, total - next)));
    }
    TRY(add_block(e, first, rows));
  }
done:
  return status;
}

static descent_status allocate(struct ensemble_evaluation *e, int64_t block) {
  static const char what[] = "the outputs of an ensemble's members";
  const int64_t n = network_outputs(e->network), members = e->network->members;
  int64_t count;
  if (!size_product(members * n, block, &count))
    return status_set(DESCENT_ERROR_MEMORY, "%s exceed the address space", what);
  e->values = memory_allocate(count, sizeof *e->values, what);
  e->shown = memory_allocate(block * n, sizeof *e->shown, what);
  return e->values && e->shown ? member_scratch_create(members, n, &e->scratch) : DESCENT_ERROR_MEMORY;
}

descent_status evaluate_ensemble(const descent_network *network, descent_device *device, const descent_dataset *dataset,
                                 const descent_predict_options *options, int64_t top_k, descent_metrics *metrics) {
  const int64_t block = program_evaluation_block(network, device, dataset->rows);
  struct ensemble_evaluation e = {.network = network, .dataset = dataset};
  descent_status status;
  TRY(ensemble_create(network, device, options, 0, block, &e.ensemble));
  TRY(allocate(&e, block));
  TRY(metrics_create(network, dataset->rows, top_k, &e.sums));
  TRY(ensemble_bind(&e.ensemble, dataset, true));
  TRY(add_rows(&e));
  TRY(metrics_finish(e.sums, e.weight > 0 ? e.loss / e.weight : NAN, metrics));
done:
  metrics_free(e.sums);
  ensemble_clear(&e.ensemble);
  free(e.values);
  free(e.shown);
  member_scratch_free(&e.scratch);
  return status;
}
