/* The layer statistics of a step in micro-batches, from those of its parts: mean and standard deviation are joined, and
 * a unit is dead if no part of any rank has found it active. The parts of all ranks are joined in their order on every
 * rank, so the statistics have the same bits there. */
#include <math.h>
#include <string.h>

#include "core/communicator.h"
#include "core/status.h"
#include "plan/operations.h"
#include "train/fit.h"

static const struct plan_statistics *statistics_of(const struct plan *plan, int layer) {
  const struct plan_range range = plan->micro_batch_with_statistics;
  for (int i = range.first; i < range.first + range.count; i++)
    if (plan->ops[i].kind == OP_STATISTICS && plan->ops[i].layer == layer) return &plan->ops[i].statistics;
  return NULL;
}

/* No unit has been active yet in this step. */
static descent_status forget_active(struct fit *f) {
  struct program *program = &f->trainer->program;
  descent_status status = DESCENT_OK;
  for (int layer = 1; layer <= program->plan->layers; layer++) {
    const struct plan_statistics *o = statistics_of(program->plan, layer);
    memset(f->cut.active, 0, (size_t)o->n * sizeof *f->cut.active);
    TRY(program_write(program, o->active, 0, o->n, PLAN_F32, f->cut.active));
  }
done:
  return status;
}

/* (layers) of the part that has just run. */
static descent_status read_part(const struct fit *f, int part, struct micro_batch_statistics *statistics) {
  const struct program *program = &f->trainer->program;
  double slots[LAYER_SLOTS];
  descent_status status = DESCENT_OK;
  for (int l = 0; l < program->plan->layers; l++) {
    TRY(program_read(program, program->at.layer_statistics, l * LAYER_SLOTS, LAYER_SLOTS, PLAN_F64, slots));
    statistics[l] = (struct micro_batch_statistics){(double)f->cut.steps[part].rows, slots[LAYER_MEAN],
                                                    slots[LAYER_STD] * slots[LAYER_STD]};
  }
done:
  return status;
}

/* Joins two sets of values (Chan, Golub and LeVeque 1979). A step of fewer rows than M has parts without any. */
static void join(struct micro_batch_statistics *all, const struct micro_batch_statistics *part) {
  if (part->rows == 0) return;
  const double rows = all->rows + part->rows, distance = part->mean - all->mean, share = part->rows / rows;
  all->variance = all->variance * (1 - share) + part->variance * share + distance * distance * share * (1 - share);
  all->mean += distance * share;
  all->rows = rows;
}

/* The share of a layer's units that no part of any rank has found active. */
static descent_status share_of_dead(struct fit *f, int layer, double *dead) {
  struct program *program = &f->trainer->program;
  const struct micro_batches *cut = &f->cut;
  struct descent_communicator *communicator = f->options.ranks.communicator;
  const struct plan_statistics *o = statistics_of(program->plan, layer);
  int64_t count = 0;
  descent_status status;
  TRY(program_read(program, o->active, 0, o->n, PLAN_F32, cut->active));
  TRY(communicator_gather(communicator, cut->active, o->n * (int64_t)sizeof *cut->active, cut->all_active));
  for (int64_t j = 0; j < o->n; j++) {
    bool is_active = false;
    for (int rank = 0; rank < communicator_size(communicator); rank++)
      is_active |= cut->all_active[rank * o->n + j] == 1;
    count += !is_active;
  }
  *dead = (double)count / (double)o->n;
done:
  return status;
}

/* Into the program's layer_statistics, those of the whole step. */
static descent_status join_parts(struct fit *f) {
  struct program *program = &f->trainer->program;
  struct micro_batches *cut = &f->cut;
  const int layers = program->plan->layers;
  const int64_t bytes = (int64_t)cut->own * layers * (int64_t)sizeof *cut->own_statistics;
  descent_status status;
  TRY(communicator_gather(f->options.ranks.communicator, cut->own_statistics, bytes, cut->statistics));
  for (int l = 0; l < layers; l++) {
    struct micro_batch_statistics all = {0, 0, 0};
    double values[3];
    for (int64_t i = 0; i < cut->total; i++) join(&all, &cut->statistics[i * layers + l]);
    _Static_assert(LAYER_STD == LAYER_MEAN + 1 && LAYER_DEAD == LAYER_MEAN + 2, "the three are written at once");
    values[0] = all.mean;
    values[1] = sqrt(all.variance);
    TRY(share_of_dead(f, l + 1, &values[2]));
    TRY(program_write(program, program->at.layer_statistics, l * LAYER_SLOTS + LAYER_MEAN, 3, PLAN_F64, values));
  }
done:
  return status;
}

descent_status micro_batches_run_with_statistics(struct fit *f) {
  struct program *program = &f->trainer->program;
  const struct micro_batches *cut = &f->cut;
  descent_status status;
  TRY(forget_active(f));
  for (int i = 0; i < cut->own; i++) {
    TRY(program_run(program, program->plan->micro_batch_with_statistics, &cut->steps[i], 1));
    TRY(read_part(f, i, cut->own_statistics + (int64_t)i * program->plan->layers));
  }
  TRY(join_parts(f));
done:
  return status;
}
