#include "train/micro_batches.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/formulas.h"
#include "core/communicator.h"
#include "core/memory.h"
#include "core/status.h"
#include "data/dataset.h"
#include "train/fit.h"

/* Of one layer and part: rows, and mean and variance of A over them. */
struct micro_batch_statistics {
  double rows, mean, variance;
};

/* ---- set-up ----------------------------------------------------------------------------------------------------- */

static bool is_power_of_two(int64_t n) { return n > 0 && (n & (n - 1)) == 0; }

static descent_status check(const descent_train_options *o, int64_t batch) {
  const int64_t M = options_micro_batches(o);
  const int ranks = options_ranks(o);
  if (M == 1) return DESCENT_OK;
  if (o->callbacks.loss)
    return status_set(
        DESCENT_ERROR_ARGUMENT,
        "micro_batches %lld: not available with a loss function of the program, which is given whole steps",
        (long long)M);
  if (M > batch)
    return status_set(DESCENT_ERROR_ARGUMENT, "micro_batches %lld: must be at most the %lld rows of a step",
                      (long long)M, (long long)batch);
  if (ranks > 1 && (M % ranks || !is_power_of_two(M / ranks)))
    return status_set(DESCENT_ERROR_ARGUMENT,
                      "micro_batches %lld: must be a power of two for each of the %d ranks: %d, %d, %d, ..",
                      (long long)M, ranks, ranks, 2 * ranks, 4 * ranks);
  return DESCENT_OK;
}

descent_status micro_batches_create(const descent_network *network, const descent_train_options *options, int64_t batch,
                                    const float *class_weights, struct micro_batches *cut) {
  descent_status status;
  TRY(check(options, batch));
  const int64_t M = options_micro_batches(options);
  cut->total = M;
  cut->own = (int)options_own_micro_batches(options);
  cut->first = cut->own * communicator_rank(options->ranks.communicator);
  cut->rows = (batch - 1) / M + 1;
  if (M == 1) goto done;
  cut->steps = memory_allocate(cut->own, sizeof *cut->steps, "micro-batches");
  cut->statistics =
      memory_allocate((M + cut->own) * network->n_layers, sizeof *cut->statistics, "statistics of micro-batches");
  if (!cut->steps || !cut->statistics) TRY(DESCENT_ERROR_MEMORY);
  cut->own_statistics = cut->statistics + M * network->n_layers;
  if (!class_weights) goto done;
  cut->class_weights = memory_allocate(network->classes, sizeof *cut->class_weights, "class weights");
  if (!cut->class_weights) TRY(DESCENT_ERROR_MEMORY);
  memcpy(cut->class_weights, class_weights, (size_t)network->classes * sizeof *class_weights);
done:
  return status;
}

void micro_batches_clear(struct micro_batches *cut) {
  free(cut->steps);
  free(cut->statistics);
  free(cut->class_weights);
}

/* ---- a step ----------------------------------------------------------------------------------------------------- */

/* The sum of w over the whole step, as the gather computes w, in the order of the rows; every rank computes all of it.
 * Without weights, the number of rows. */
static double weight_of(const struct fit *f, const struct plan_step *step) {
  const struct micro_batches *cut = &f->cut;
  if (!f->feed.weights && !cut->class_weights) return (double)step->rows;
  double sum = 0;
  for (int64_t r = 0; r < step->rows; r++) {
    int64_t row = step->first_row + r;
    if (step->order) row = (int64_t)permutation_index(step->order, (uint64_t)row);
    if (f->training) row = dataset_source_row(f->training, row);
    const float w = f->feed.weights ? f->feed.weights[row] : 1.0f;
    sum += (double)(cut->class_weights
                        ? formula_class_weighted(w, cut->class_weights, f->trainer->network->classes, f->feed.y[row])
                        : w);
  }
  return sum;
}

/* This rank's parts of the step. Part i of M has rows [rows i / M, rows (i + 1) / M). */
static void cut_step(const struct fit *f, const struct plan_step *step) {
  const struct micro_batches *cut = &f->cut;
  const double weight = weight_of(f, step);
  for (int i = 0; i < cut->own; i++) {
    const int64_t number = cut->first + i, M = cut->total;
    const int64_t begin = step->rows * number / M, end = step->rows * (number + 1) / M;
    cut->steps[i] = *step;
    cut->steps[i].first_row += begin;
    cut->steps[i].rows = end - begin;
    cut->steps[i].batch_row = begin;
    cut->steps[i].micro_batch = i;
    cut->steps[i].micro_batches = cut->own;
    cut->steps[i].weight_sum = weight;
  }
}

/* The step as its finish range sees it: no rows are left. */
static struct plan_step finish_of(const struct fit *f, const struct plan_step *step) {
  struct plan_step finish = *step;
  finish.rows = 0;
  finish.micro_batches = f->cut.own;
  return finish;
}

/* ---- statistics of a step, from those of its parts ---- */

static descent_status read_one(struct fit *f, int part, struct micro_batch_statistics *statistics) {
  const struct program *program = &f->trainer->program;
  const int layers = program->plan->layers;
  double slots[LAYER_SLOTS];
  descent_status status = DESCENT_OK;
  for (int l = 0; l < layers; l++) {
    TRY(program_read(program, program->at.layer_statistics, l * LAYER_SLOTS, LAYER_SLOTS, PLAN_F64, slots));
    statistics[l] = (struct micro_batch_statistics){(double)f->cut.steps[part].rows, slots[LAYER_MEAN],
                                                    slots[LAYER_STD] * slots[LAYER_STD]};
  }
done:
  return status;
}

/* Joins two sets of values (Chan, Golub and LeVeque 1979). */
static void join(struct micro_batch_statistics *all, const struct micro_batch_statistics *part) {
  if (part->rows == 0) return;
  const double rows = all->rows + part->rows, distance = part->mean - all->mean, share = part->rows / rows;
  all->variance = all->variance * (1 - share) + part->variance * share + distance * distance * share * (1 - share);
  all->mean += distance * share;
  all->rows = rows;
}

static const struct plan_statistics *statistics_of(const struct plan *plan, int layer) {
  const struct plan_range range = plan->micro_batch_with_statistics;
  for (int i = range.first; i < range.first + range.count; i++)
    if (plan->ops[i].kind == OP_STATISTICS && plan->ops[i].layer == layer) return &plan->ops[i].statistics;
  return NULL;
}

/* The share of a layer's units that no part of any rank found active. */
static descent_status share_of_dead(struct fit *f, int layer, double *dead) {
  struct program *program = &f->trainer->program;
  struct descent_communicator *communicator = f->options.ranks.communicator;
  const struct plan_statistics *o = statistics_of(program->plan, layer);
  const int size = communicator_size(communicator);
  float *active = memory_allocate((size + 1) * o->n, sizeof *active, "marks of active units");
  float *all = active + o->n;
  int64_t count = 0;
  descent_status status = active ? DESCENT_OK : DESCENT_ERROR_MEMORY;
  if (status != DESCENT_OK) goto done;
  TRY(program_read(program, o->active, 0, o->n, PLAN_F32, active));
  TRY(communicator_gather(communicator, active, o->n * (int64_t)sizeof *active, all));
  for (int64_t j = 0; j < o->n; j++) {
    bool is_active = false;
    for (int rank = 0; rank < size; rank++) is_active |= all[rank * o->n + j] == 1;
    count += !is_active;
  }
  *dead = (double)count / (double)o->n;
done:
  free(active);
  return status;
}

static descent_status forget_active(struct program *program) {
  descent_status status = DESCENT_OK;
  for (int layer = 1; layer <= program->plan->layers; layer++) {
    const struct plan_statistics *o = statistics_of(program->plan, layer);
    float *zeros = memory_allocate(o->n, sizeof *zeros, "marks of active units");
    if (!zeros) return DESCENT_ERROR_MEMORY;
    status = program_write(program, o->active, 0, o->n, PLAN_F32, zeros);
    free(zeros);
    if (status != DESCENT_OK) return status;
  }
  return status;
}

/* Into the program's layer_statistics, those of the whole step. */
static descent_status join_parts(struct fit *f) {
  struct program *program = &f->trainer->program;
  struct micro_batches *cut = &f->cut;
  const int layers = program->plan->layers;
  const int64_t own = (int64_t)cut->own * layers;
  descent_status status;
  TRY(communicator_gather(f->options.ranks.communicator, cut->own_statistics,
                          own * (int64_t)sizeof *cut->own_statistics, cut->statistics));
  for (int l = 0; l < layers; l++) {
    struct micro_batch_statistics all = {0, 0, 0};
    double values[3], dead;
    for (int64_t i = 0; i < cut->total; i++) join(&all, &cut->statistics[i * layers + l]);
    TRY(share_of_dead(f, l + 1, &dead));
    _Static_assert(LAYER_STD == LAYER_MEAN + 1 && LAYER_DEAD == LAYER_MEAN + 2, "the three are written at once");
    values[0] = all.mean, values[1] = sqrt(all.variance), values[2] = dead;
    TRY(program_write(program, program->at.layer_statistics, l * LAYER_SLOTS + LAYER_MEAN, 3, PLAN_F64, values));
  }
done:
  return status;
}

static descent_status run_with_statistics(struct fit *f) {
  struct program *program = &f->trainer->program;
  const struct micro_batches *cut = &f->cut;
  descent_status status;
  TRY(forget_active(program));
  for (int i = 0; i < cut->own; i++) {
    TRY(program_run(program, program->plan->micro_batch_with_statistics, &cut->steps[i], 1));
    TRY(read_one(f, i, cut->own_statistics + i * program->plan->layers));
  }
  TRY(join_parts(f));
done:
  return status;
}

descent_status micro_batches_run(struct fit *f, const struct plan_step *steps, int64_t n, bool with_statistics) {
  struct program *program = &f->trainer->program;
  const struct plan *plan = program->plan;
  descent_status status = DESCENT_OK;
  for (int64_t s = 0; s < n; s++) {
    const struct plan_step finish = finish_of(f, &steps[s]);
    cut_step(f, &steps[s]);
    if (with_statistics)
      TRY(run_with_statistics(f));
    else
      TRY(program_run(program, plan->micro_batch, f->cut.steps, f->cut.own));
    TRY(program_run(program, with_statistics ? plan->finish_with_statistics : plan->finish, &finish, 1));
  }
done:
  return status;
}
