/* Verification on several ranks. Each compares its device with its exact program, but the sums of an allreduce need the
 * values of all ranks. An error of one rank ends all of them: between two exchanges a rank that has failed still comes to
 * the next place where they agree. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/memory.h"
#include "core/status.h"
#include "plan/operations.h"
#include "train/ranks_compare.h"
#include "verify/verification.h"

/* ---- the same work ---- */

static descent_status compare_work(const struct verification *v, const descent_network *network,
                                   const descent_train_options *options, int64_t steps) {
  char steps_text[32];
  const struct backend *reference = v->reference.compiled ? v->reference.backend : v->exact.backend;
  const struct rank_quantity more[] = {{"steps", steps_text}, {"reference", reference->name}};
  const struct rank_work work = {.network = network,
                                 .program = &v->candidate,
                                 .options = options,
                                 .training = &v->data.dataset,
                                 .more = more,
                                 .n_more = sizeof more / sizeof *more};
  snprintf(steps_text, sizeof steps_text, "%" PRId64, steps);
  return ranks_compare_work(&work);
}

descent_status verify_ranks_begin(struct verification *v, const descent_network *network,
                                  const descent_train_options *options, int64_t steps, descent_status own) {
  descent_status status;
  TRY(communicator_agree(v->communicator, own));
  TRY(compare_work(v, network, options, steps));
  if (v->plan->communicator && v->reference.compiled)
    TRY(communicator_agree(v->communicator, program_connect(&v->reference)));
  if (v->plan->communicator) TRY(communicator_agree(v->communicator, program_connect(&v->candidate)));
done:
  return status;
}

/* ---- allreduce ---- */

static descent_status read_sums(struct verification *v, const struct plan_allreduce *o) {
  descent_status status;
  TRY(program_read(&v->candidate, o->gradients, 0, o->n, PLAN_F64, v->sums));
  TRY(program_read(&v->candidate, o->scalars, SCALAR_LOSS, 1, PLAN_F64, &v->sums[o->n]));
done:
  return status;
}

/* Into v->sums_of_ranks. */
static descent_status gather_sums(struct verification *v, const struct plan_allreduce *o) {
  const int64_t bytes = (o->n + 1) * (int64_t)sizeof *v->sums;
  descent_status status;
  TRY(communicator_agree(v->communicator, read_sums(v, o)));
  TRY(communicator_gather(v->communicator, v->sums, bytes, v->sums_of_ranks));
done:
  return status;
}

static descent_status derive(struct verification *v, const struct plan_op *op, const struct plan_step *step,
                             struct bounds *bounds) {
  descent_status status;
  TRY(verify_copy_inputs(v, op, &v->exact));
  if (v->reference.compiled) TRY(verify_copy_inputs(v, op, &v->reference));
  TRY(bounds_allreduce(v->exact.compiled, op, v->sums_of_ranks, communicator_size(v->communicator), bounds));
  TRY(verify_exact_range(v, op, bounds, step->number));
done:
  return status;
}

/* If the sums of any rank have failed, all ranks receive the exact ones: their replicas stay equal. */
static descent_status replace_failed(struct verification *v, const struct bounds *bounds, bool own_failed) {
  const int size = communicator_size(v->communicator);
  const double own = own_failed;
  double *const all = v->sums_of_ranks; /* (size) */
  bool failed = false;
  descent_status status;
  TRY(communicator_gather(v->communicator, &own, sizeof own, all));
  for (int r = 0; r < size; r++) failed |= all[r] != 0;
  for (int i = 0; failed && i < bounds->n; i++) {
    const struct bounds_output *output = &bounds->outputs[i];
    TRY(program_write(&v->candidate, output->buffer, output->offset, output->count, PLAN_F64, output->exact));
  }
done:
  return status;
}

/* The device's sums are those of its ranks within the bounds, and have the same bits on all of them. */
descent_status verify_allreduce(struct verification *v, int index, const struct plan_step *step) {
  const struct plan_op *op = &v->plan->ops[index];
  const struct plan_range range = {index, 1};
  struct comparison *comparison = verification_row(v, PHASE_TRAIN, op), sums = {0}, bits = {0};
  struct bounds bounds = {0};
  descent_status status;
  TRY(gather_sums(v, &op->allreduce));
  TRY(communicator_agree(v->communicator, derive(v, op, step, &bounds)));
  if (v->reference.compiled) TRY(communicator_agree(v->communicator, program_run(&v->reference, range, step, 1)));
  TRY(communicator_agree(v->communicator, program_run(&v->candidate, range, step, 1)));
  TRY(gather_sums(v, &op->allreduce));
  TRY(communicator_agree(v->communicator, verify_outputs(v, &sums, &bounds)));
  comparison_take_bits(&bits, v->sums, v->sums_of_ranks, op->allreduce.n + 1); /* those of rank 0 */
  bits.values = 0;                                                             /* the outputs are already counted */
  comparison_merge(comparison, &sums);
  comparison_merge(comparison, &bits);
  TRY(communicator_agree(v->communicator, replace_failed(v, &bounds, sums.failed || bits.failed)));
done:
  bounds_clear(&bounds);
  return status;
}

/* ---- the result ---- */

descent_status verify_ranks_merge(struct verification *v) {
  const int size = communicator_size(v->communicator);
  struct comparison *all = NULL;
  descent_status status = DESCENT_OK;
  if (size == 1) goto done;
  all = memory_allocate(size * v->n_comparisons, sizeof *all, "the comparisons of ranks");
  TRY(communicator_agree(v->communicator, all ? DESCENT_OK : DESCENT_ERROR_MEMORY));
  TRY(communicator_gather(v->communicator, v->comparisons, v->n_comparisons * (int64_t)sizeof *all, all));
  for (int64_t i = 0; i < v->n_comparisons; i++) {
    v->comparisons[i] = all[i];
    for (int r = 1; r < size; r++) comparison_merge(&v->comparisons[i], &all[r * v->n_comparisons + i]);
  }
done:
  free(all);
  return status;
}
