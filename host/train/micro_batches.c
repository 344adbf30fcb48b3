#include "train/micro_batches.h"

#include <stdlib.h>
#include <string.h>

#include "backend/formulas.h"
#include "core/communicator.h"
#include "core/memory.h"
#include "core/status.h"
#include "data/dataset.h"
#include "plan/operations.h"
#include "train/fit.h"

/* ---- set-up ----------------------------------------------------------------------------------------------------- */

static int64_t widest_layer(const descent_network *network) {
  int64_t widest = 0;
  for (int l = 0; l < network->n_layers; l++)
    if (network->layers[l].n_out > widest) widest = network->layers[l].n_out;
  return widest;
}

descent_status micro_batches_create(const descent_network *network, const descent_train_options *options, int64_t batch,
                                    const float *class_weights, struct micro_batches *cut) {
  const int64_t M = options_micro_batches(options), layers = network->n_layers, widest = widest_layer(network);
  descent_status status = DESCENT_OK;
  if (M > batch)
    TRY(status_set(DESCENT_ERROR_ARGUMENT, "%s %lld: must be at most the %lld row%s of a step",
                   options_name_of_parts(options), (long long)M, (long long)batch, batch == 1 ? "" : "s"));
  cut->total = M;
  cut->own = (int)options_own_micro_batches(options);
  cut->first = cut->own * communicator_rank(options->ranks.communicator);
  cut->rows = (batch - 1) / M + 1;
  if (!options_cut_steps(options)) goto done;
  cut->steps = memory_allocate(cut->own, sizeof *cut->steps, "micro-batches");
  cut->statistics = memory_allocate((M + cut->own) * layers, sizeof *cut->statistics, "statistics of micro-batches");
  cut->active = memory_allocate((options_ranks(options) + 1) * widest, sizeof *cut->active, "marks of active units");
  if (!cut->steps || !cut->statistics || !cut->active) TRY(DESCENT_ERROR_MEMORY);
  cut->own_statistics = cut->statistics + M * layers;
  cut->all_active = cut->active + widest;
  if (!class_weights) goto done;
  cut->classes = network->classes;
  cut->class_weights = memory_allocate(network->classes, sizeof *cut->class_weights, "class weights");
  if (!cut->class_weights) TRY(DESCENT_ERROR_MEMORY);
  memcpy(cut->class_weights, class_weights, (size_t)network->classes * sizeof *class_weights);
done:
  return status;
}

void micro_batches_clear(struct micro_batches *cut) {
  free(cut->steps);
  free(cut->statistics);
  free(cut->active);
  free(cut->class_weights);
}

/* ---- a step ----------------------------------------------------------------------------------------------------- */

/* The sum of w over the whole step, with w as the gather computes it, in the order of the rows; every rank computes all
 * of it. Without weights it is the number of rows. */
static double weight_of(const struct micro_batches *cut, const struct plan_step *step, const descent_dataset *view,
                        const float *y, const float *weights) {
  if (!weights && !cut->class_weights) return (double)step->rows;
  double sum = 0;
  for (int64_t r = 0; r < step->rows; r++) {
    int64_t row = step->first_row + r;
    if (step->order) row = (int64_t)permutation_index(step->order, (uint64_t)row);
    if (view) row = dataset_source_row(view, row);
    const float w = weights ? weights[row] : 1.0f;
    sum += (double)(cut->class_weights ? formula_class_weighted(w, cut->class_weights, cut->classes, y[row]) : w);
  }
  return sum;
}

void micro_batches_cut(const struct micro_batches *cut, const struct plan_step *step, const descent_dataset *view,
                       const float *y, const float *weights) {
  const double weight = weight_of(cut, step, view, y, weights);
  for (int i = 0; i < cut->own; i++)
    cut->steps[i] = plan_micro_batch(step, cut->first + i, cut->total, i, cut->own, weight);
}

static void cut_step(const struct fit *f, const struct plan_step *step) {
  micro_batches_cut(&f->cut, step, f->training, f->feed.y, f->feed.weights);
}

/* ---- a step that is not finite ---------------------------------------------------------------------------------- */

/* The parameters are those that the step has read, so the values are the same. */
descent_status micro_batches_narrow(struct fit *f, struct plan_step *step) {
  struct program *program = &f->trainer->program;
  descent_status status = DESCENT_OK;
  cut_step(f, step);
  for (int i = 0; i < f->cut.own; i++) {
    struct plan_step part = f->cut.steps[i];
    bool found;
    if (part.rows == 0) continue;
    part.micro_batch = 0;
    part.micro_batches = 1;
    TRY(program_run(program, program->plan->micro_batch, &part, 1));
    TRY(diverge_is_seen(program, part.rows, &found));
    if (!found) continue;
    *step = part;
    break;
  }
done:
  return status;
}

/* The steps after a bad one are computed but update nothing: reading the flag after each would make a GPU wait. */
descent_status micro_batches_run(struct fit *f, const struct plan_step *steps, int64_t n, bool with_statistics) {
  struct program *program = &f->trainer->program;
  const struct plan *plan = program->plan;
  descent_status status = DESCENT_OK;
  for (int64_t s = 0; s < n; s++) {
    const struct plan_step finish = plan_finish(&steps[s], f->cut.own);
    cut_step(f, &steps[s]);
    TRY(with_statistics ? micro_batches_run_with_statistics(f)
                        : program_run(program, plan->micro_batch, f->cut.steps, f->cut.own));
    TRY(program_run(program, with_statistics ? plan->finish_with_statistics : plan->finish, &finish, 1));
  }
done:
  return status;
}
