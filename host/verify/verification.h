/* A device under verification: its program, the exact one beside it, and what has been compared. */
#ifndef DESCENT_VERIFY_VERIFICATION_H
#define DESCENT_VERIFY_VERIFICATION_H

#include "backend/program.h"
#include "core/communicator.h"
#include "core/rng.h"
#include "train/micro_batches.h"
#include "verify/bounds.h"
#include "verify/comparison.h"
#include "verify/synthetic.h"

enum phase { PHASE_TRAIN, PHASE_BACKWARD, PHASE_EVALUATE, PHASE_PREDICT, PHASES };

/* The ranges that are also run as a whole if the device fuses operations of them. */
enum fused_range { FUSED_TRAIN, FUSED_EVALUATE, FUSED_PREDICT, FUSED_RANGES };

/* The buffers that a training step leaves. */
enum { STEP_RESULTS = 9 };

struct verification {
  struct synthetic data;
  int64_t batch;            /* rows of a training step */
  bool cuts;                /* steps are cut into micro-batches */
  struct micro_batches cut; /* cut.rows is the most rows that any range is run on: `batch` if steps are not cut */
  uint64_t seed;
  double learning_rate;
  struct descent_communicator *communicator; /* of the ranks, or NULL; borrowed */
  struct descent_communicator *alone;        /* of the exact program: one rank that exchanges with itself, or NULL */
  struct program candidate, exact;
  struct program reference;       /* compiled NULL: the exact program is the reference */
  const struct plan *plan;        /* of the candidate; the others have the same operations and buffers */
  int64_t n_comparisons;          /* of all that follow, which are one array */
  struct comparison *comparisons; /* (PHASES, OP_KINDS, layers + 1) */
  struct comparison *fused;       /* (FUSED_RANGES, layers + 2): loss, gradients layer by layer, predictions */
  struct comparison *step;        /* (STEP_RESULTS), of training steps at once and in parts */
  double *values, *expected;      /* (largest buffer) read from the candidate, from the reference */
  double *bounds;                 /* (largest buffer) */
  double *sums, *sums_of_ranks;   /* (n + 1), (ranks, n + 1): gradients and J before or after an allreduce */
};

/* Step `number` uses the next `batch` of the rows, epoch after epoch; the last batch of an epoch may be smaller. */
static inline struct plan_step verification_step(const struct verification *v, int64_t batch, int64_t number,
                                                 struct permutation *order) {
  const int64_t rows = v->data.dataset.rows, batches = (rows - 1) / batch + 1;
  const int64_t first = (number - 1) % batches * batch, left = rows - first;
  *order = permutation_create(v->seed, RNG_SHUFFLE, (uint64_t)((number - 1) / batches + 1), (uint64_t)rows);
  return (struct plan_step){.number = number,
                            .first_row = first,
                            .rows = left < batch ? left : batch,
                            .learning_rate = v->learning_rate,
                            .order = order};
}

/* Into v->cut.steps, this rank's parts of a training step. */
static inline void verification_cut(struct verification *v, const struct plan_step *step) {
  const struct dataset_storage *storage = v->data.dataset.storage;
  micro_batches_cut(&v->cut, step, &v->data.dataset, storage->y, storage->weights);
}

static inline struct comparison *verification_row(struct verification *v, enum phase phase, const struct plan_op *op) {
  return &v->comparisons[((int)phase * OP_KINDS + (int)op->kind) * (v->plan->layers + 1) + op->layer];
}

/* ---- one operation: verify_op.c ---- */

/* Runs the op on all programs from the candidate's inputs and compares its outputs. */
descent_status verify_op(struct verification *v, enum phase phase, int index, const struct plan_step *step);

/* Its parts. Copies every buffer that the op reads or writes, except sources, from the candidate to `to`. */
descent_status verify_copy_inputs(struct verification *v, const struct plan_op *op, struct program *to);
/* If an exact result exceeds the range of its type, the training diverges on any device: ERROR_DIVERGED. */
descent_status verify_exact_range(const struct verification *v, const struct plan_op *op, const struct bounds *bounds,
                                  int64_t step);
/* A buffer that fails becomes the exact one. */
descent_status verify_outputs(struct verification *v, struct comparison *comparison, const struct bounds *bounds);

/* ---- several ranks: verify_ranks.c; collective ---- */

/* The ranks have called descent_verify with the same work: otherwise ERROR_ARGUMENT. `own`: what this rank has set up. */
descent_status verify_ranks_begin(struct verification *v, const descent_network *network,
                                  const descent_train_options *options, int64_t steps, descent_status own);
/* As verify_op for an allreduce. The same status on all ranks. */
descent_status verify_allreduce(struct verification *v, int index, const struct plan_step *step);
/* The comparisons of all ranks become one, on all of them. */
descent_status verify_ranks_merge(struct verification *v);

/* ---- several operations at once: verify_whole.c ---- */

/* If the candidate fuses operations of the range: runs the whole range from the candidate's current state. */
descent_status verify_fused(struct verification *v, enum fused_range which, int64_t number);
/* If the candidate fuses operations of a training step: steps from `number` on at once and in parts, from its current
 * state. */
descent_status verify_at_once(struct verification *v, int64_t number);
/* The buffers whose values verify_at_once compares, in the order of v->step; PLAN_NONE: the plan has none. */
void verify_list_step(const struct verification *v, int buffers[STEP_RESULTS]);

#endif
