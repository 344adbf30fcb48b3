/* Evaluation: runs the network over a dataset, one block of rows at a time. */
#include "train/evaluate.h"

#include <math.h>
#include <stdio.h>
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

/* ---- several evaluations ---------------------------------------------------------------------------------------- */

static void fail(struct evaluation *e, descent_status status) {
  e->status = status;
  snprintf(e->error, sizeof e->error, "%s", descent_last_error());
}

static bool is_running(const struct evaluation *e) { return e->status == DESCENT_OK && !e->stopped; }

/* The first row behind the present block. */
static int64_t next_row(const struct evaluation *e) { return e->first + e->rows; }

static descent_status begin(struct evaluation *e) {
  const int64_t block = program_block_rows(e->program, e->dataset->rows);
  descent_status status = DESCENT_OK;
  /* The measures of classifiers come from logits: float32 probabilities near 0 and 1 tie. */
  e->shown = loss_is_regression(e->network->loss) ? e->program->at.P : e->program->at.A;
  e->values = memory_allocate(block * network_outputs(e->network), sizeof *e->values, "predictions");
  if (!e->values) TRY(DESCENT_ERROR_MEMORY);
  TRY(metrics_create(e->network, e->dataset->rows, e->top_k, &e->sums));
  TRY(evaluate_begin(e->program, 0, 0));
  if (e->own_loss) e->own_loss->total = e->own_loss->weight = 0;
done:
  return status;
}

/* Starts the next block of each that has one; `jobs` (count). */
static void start_blocks(struct evaluation *const *all, int64_t count, struct program_job *jobs) {
  int64_t n = 0;
  for (int64_t i = 0; i < count; i++) {
    struct evaluation *e = all[i];
    const int64_t left = e->dataset->rows - next_row(e);
    if (!is_running(e) || left == 0) continue;
    e->step = (struct plan_step){.number = 1, .first_row = next_row(e), .rows = program_block_rows(e->program, left)};
    jobs[n++] = (struct program_job){e->program, e->program->plan->evaluate, &e->step, 1};
  }
  const descent_status status = program_run_together(jobs, n);
  for (int64_t i = 0; i < count && status != DESCENT_OK; i++)
    if (is_running(all[i]) && all[i]->dataset->rows > next_row(all[i])) fail(all[i], status);
}

/* Moves to the block that was started last, or behind the last row. */
static descent_status advance(struct evaluation *e) {
  e->first = next_row(e);
  e->rows = program_block_rows(e->program, e->dataset->rows - e->first);
  return DESCENT_OK;
}

static descent_status read_block(struct evaluation *e) {
  const int64_t rows = e->rows;
  descent_status status = DESCENT_OK;
  if (rows == 0) return status;
  TRY(program_read(e->program, e->shown, 0, rows * network_outputs(e->network), PLAN_F32, e->values));
  if (e->own_loss) TRY(own_loss_add(e->own_loss, e->program, rows));
  if (!e->stop && next_row(e) < e->dataset->rows)
    TRY(progress_report("evaluating", NULL, "rows", next_row(e), e->dataset->rows));
done:
  return status;
}

static descent_status count_block(struct evaluation *e) {
  const struct dataset_storage *storage = e->dataset->storage;
  const int64_t outputs = network_outputs(e->network);
  descent_status status = DESCENT_OK;
  if (e->strict) {
    TRY(extremes_check_inputs(e->network, e->dataset, e->first, e->rows));
    TRY(extremes_check_outputs(e->network, e->dataset, e->first, e->rows, e->values));
  }
  for (int64_t r = 0; r < e->rows; r++)
    metrics_add(e->sums, e->values + r * outputs,
                storage->y + dataset_source_row(e->dataset, e->first + r) * storage->targets);
done:
  return status;
}

static descent_status finish(struct evaluation *e) {
  double totals[2], loss;
  descent_status status;
  TRY(evaluate_mean_loss(e->program, totals, &loss));
  if (e->own_loss) loss = e->own_loss->weight > 0 ? e->own_loss->total / e->own_loss->weight : NAN;
  TRY(metrics_finish(e->sums, loss, e->metrics));
done:
  return status;
}

static void run_part(struct evaluation *const *all, int64_t count, descent_status (*part)(struct evaluation *e)) {
  for (int64_t i = 0; i < count; i++) {
    if (!is_running(all[i])) continue;
    const descent_status status = part(all[i]);
    if (status != DESCENT_OK) fail(all[i], status);
  }
}

static bool any_has_rows(struct evaluation *const *all, int64_t count) {
  for (int64_t i = 0; i < count; i++)
    if (is_running(all[i]) && all[i]->rows) return true;
  return false;
}

/* Asks all whether to stop, those that wait or are finished included. */
static void poll(struct evaluation *const *all, int64_t count) {
  for (int64_t i = 0; i < count; i++) {
    struct evaluation *e = all[i];
    if (!e->stop || !is_running(e)) continue;
    const bool stop = e->stop(e->user);
    e->stopped = stop && next_row(e) < e->dataset->rows;
  }
}

/* How many of the evaluations from the first on run together: all, or on a device whose threads they share at least one
 * for each, and as many as have a block within its work. */
static int64_t count_together(struct evaluation *const *all, int64_t count) {
  static const double most = 1e9, counting = 1e3; /* flops of a thread, about 50 ms; those of a row on the host */
  const int threads = all[0]->program->device->threads;
  double work = 0;
  int64_t n = 0;
  if (!all[0]->program->backend->shares_threads) return count;
  for (; n < count; n++) {
    const double row = 2 * (double)all[n]->network->n_parameters + counting;
    work += row * (double)program_block_rows(all[n]->program, all[n]->dataset->rows);
    if (n >= threads && work > most * threads) break;
  }
  return n;
}

/* Runs those from `first` to before `end`; all `count` are asked for stops. `jobs` (end - first). */
static void run_group(struct evaluation *const *all, int64_t count, int64_t first, int64_t end,
                      struct program_job *jobs) {
  struct evaluation *const *group = all + first;
  const int64_t n = end - first;
  run_part(group, n, begin);
  start_blocks(group, n, jobs);
  run_part(group, n, advance);
  while (any_has_rows(group, n)) {
    run_part(group, n, read_block);
    start_blocks(group, n, jobs); /* a device with a queue computes them while the host counts the last ones */
    run_part(group, n, count_block);
    poll(all, count);
    run_part(group, n, advance);
  }
  run_part(group, n, finish);
  for (int64_t i = 0; i < n; i++) {
    metrics_free(group[i]->sums);
    free(group[i]->values);
  }
}

void evaluate_together(struct evaluation *const *all, int64_t count) {
  struct program_job *jobs = memory_allocate(count, sizeof *jobs, "evaluations");
  for (int64_t i = 0; i < count && !jobs; i++) fail(all[i], DESCENT_ERROR_MEMORY);
  for (int64_t first = 0, end; jobs && first < count; first = end) {
    end = first + count_together(all + first, count - first);
    run_group(all, count, first, end, jobs);
  }
  free(jobs);
}

descent_status evaluate_dataset(struct program *program, const descent_network *network, const descent_dataset *dataset,
                                int64_t top_k, descent_metrics *metrics) {
  struct evaluation one = {
      .program = program, .network = network, .dataset = dataset, .top_k = top_k, .strict = true, .metrics = metrics};
  struct evaluation *const all[] = {&one};
  evaluate_together(all, 1);
  return one.status;
}

/* ---- a network on a dataset ------------------------------------------------------------------------------------- */

/* A plain network, on a dataset with its offsets. */
static descent_status evaluate_network(const descent_network *network, descent_device *device,
                                       const descent_dataset *dataset, const descent_predict_options *options,
                                       int64_t top_k, descent_metrics *metrics) {
  const int64_t block = program_evaluation_block(network, device, dataset->rows);
  struct program program = {0};
  descent_status status;
  TRY(program_create_prediction(network, device, options, 0, block, &program));
  TRY(program_bind(&program, dataset));
  TRY(evaluate_dataset(&program, network, dataset, top_k, metrics));
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
