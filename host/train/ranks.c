#include "train/ranks.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/memory.h"
#include "core/status.h"

void ranks_share(const struct fit *f, int64_t rows, int64_t *first, int64_t *count) {
  const int64_t size = options_ranks(&f->options), rank = communicator_rank(f->options.ranks.communicator);
  const int64_t each = rows / size, more = rows % size; /* the first `more` ranks have one row more */
  *first = rank * each + (rank < more ? rank : more);
  *count = each + (rank < more);
}

/* ---- requests --------------------------------------------------------------------------------------------------- */

/* Of one rank. */
struct rank_request {
  int64_t stopped, stop, save, reports_steps, steps_per_run;
};

static descent_status allocate(struct fit *f, int size) {
  f->ranks.requests = memory_allocate(size, sizeof *f->ranks.requests, "requests of ranks");
  f->ranks.sums = memory_allocate(size, sizeof *f->ranks.sums, "checksums of ranks");
  return f->ranks.requests && f->ranks.sums ? DESCENT_OK : DESCENT_ERROR_MEMORY;
}

descent_status ranks_begin(struct fit *f, descent_status own) {
  const int size = options_ranks(&f->options);
  descent_status status = own;
  if (size == 1) {
    const bool connects = own == DESCENT_OK && communicator_exchanges(f->options.ranks.communicator);
    return connects ? program_connect(&f->trainer->program) : own;
  }
  if (own == DESCENT_OK) own = allocate(f, size);
  TRY(communicator_agree(f->options.ranks.communicator, own));
  TRY(ranks_compare(f));
  TRY(communicator_agree(f->options.ranks.communicator, program_connect(&f->trainer->program)));
  TRY(ranks_agree(f));
done:
  return status;
}

void ranks_clear(struct ranks *ranks) {
  free(ranks->requests);
  free(ranks->sums);
  *ranks = (struct ranks){0};
}

descent_status ranks_agree(struct fit *f) {
  struct descent_communicator *communicator = f->options.ranks.communicator;
  const int size = communicator_size(communicator);
  struct rank_request *all = f->ranks.requests;
  const struct rank_request own = {f->stopped, (int64_t)f->stop, f->save_requested,
                                   f->options.callbacks.on_step != NULL, f->steps_per_run};
  descent_status status = DESCENT_OK;
  if (size == 1) return status;
  TRY(communicator_gather(communicator, &own, sizeof own, all));
  f->steps_per_run = all[0].steps_per_run;
  for (int r = 0; r < size; r++) {
    /* A callback's stop may come on one rank when all stop early: it counts, as on one rank. */
    if (all[r].stopped && (!f->stopped || all[r].stop == DESCENT_STOP_CALLBACK)) f->stop = (descent_stop)all[r].stop;
    f->stopped |= all[r].stopped != 0;
    f->save_requested |= all[r].save != 0;
    f->ranks.single_steps |= all[r].reports_steps != 0;
  }
done:
  return status;
}

/* ---- replicas --------------------------------------------------------------------------------------------------- */

static uint64_t sum_of(const float *values, int64_t n) { return XXH64(values, (size_t)n * sizeof *values, 0); }

descent_status ranks_check_replicas(struct fit *f) {
  struct descent_communicator *communicator = f->options.ranks.communicator;
  const int size = communicator_size(communicator);
  const int64_t n = f->trainer->network->n_parameters;
  const struct program *program = &f->trainer->program;
  descent_status status = DESCENT_OK;
  if (size == 1) return status;
  TRY(communicator_agree(communicator,
                         program_read(program, program->at.parameters, 0, n, PLAN_F32, f->trainer->parameters)));
  const uint64_t own = sum_of(f->trainer->parameters, n);
  TRY(communicator_gather(communicator, &own, sizeof own, f->ranks.sums));
  for (int r = 1; r < size; r++)
    if (f->ranks.sums[r] != f->ranks.sums[0])
      TRY(status_set(DESCENT_ERROR_INTERNAL,
                     "rank %d (%s): its weights after step %" PRId64
                     " differ from those of rank 0, so one of the two has computed wrongly: check that machine's "
                     "memory and device, and resume from a checkpoint",
                     r, communicator_host(communicator, r), fit_steps(f)));
done:
  return status;
}

/* ---- divergence ------------------------------------------------------------------------------------------------- */

/* What a rank says of a step that was not finite. */
struct rank_explanation {
  int64_t status, evident;
  char text[1024];
};

/* The rank whose explanation all take: the lowest that failed to look, else the lowest that found a value, else 0. */
static int choose_explanation(const struct rank_explanation *all, int size) {
  for (int r = 0; r < size; r++)
    if (all[r].status != DESCENT_ERROR_DIVERGED) return r;
  for (int r = 0; r < size; r++)
    if (all[r].evident) return r;
  return 0;
}

descent_status ranks_explain(struct fit *f, descent_status own) {
  struct descent_communicator *communicator = f->options.ranks.communicator;
  const int size = communicator_size(communicator);
  struct rank_explanation mine = {.status = own, .evident = f->trainer->evident}, *all = NULL;
  descent_status status;
  if (size == 1) return own;
  snprintf(mine.text, sizeof mine.text, "%s", descent_last_error());
  all = memory_allocate(size, sizeof *all, "explanations of ranks");
  TRY(communicator_agree(communicator, all ? DESCENT_OK : DESCENT_ERROR_MEMORY));
  TRY(communicator_gather(communicator, &mine, sizeof mine, all));
  const int rank = choose_explanation(all, size);
  if (all[rank].status == DESCENT_ERROR_DIVERGED)
    status = status_set(DESCENT_ERROR_DIVERGED, "%s", all[rank].text);
  else
    status = status_set((descent_status)all[rank].status, "rank %d (%s): %s", rank,
                        communicator_host(communicator, rank), all[rank].text);
done:
  free(all);
  return status;
}

/* ---- state ------------------------------------------------------------------------------------------------------ */

descent_status ranks_share_snapshot(struct fit *f, struct snapshot *s) {
  struct descent_communicator *communicator = f->options.ranks.communicator;
  const int64_t bytes = s->n_parameters * (int64_t)sizeof(float);
  float *const arrays[] = {s->parameters, s->moment1, s->moment2};
  struct {
    struct fit_state state;
    int64_t step, has_best, new_rate, new_validation;
  } values = {s->state, s->step, s->has_best, s->new_rate, s->new_validation};
  descent_status status;
  TRY(communicator_broadcast(communicator, &values, sizeof values));
  s->state = values.state;
  s->step = values.step;
  s->has_best = values.has_best != 0;
  s->new_rate = values.new_rate != 0;
  s->new_validation = values.new_validation != 0;
  for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
    if (arrays[i]) TRY(communicator_broadcast(communicator, arrays[i], bytes));
  if (s->has_best) TRY(communicator_broadcast(communicator, s->best, bytes));
  TRY(communicator_broadcast(communicator, s->statistics, s->n_statistics * (int64_t)sizeof *s->statistics));
done:
  return status;
}
