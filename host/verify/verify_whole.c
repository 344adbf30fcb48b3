/* Where the device computes several operations of a range in one kernel, the whole range is also run at once, and its
 * results must be within the bounds propagated through all of its operations. Training steps must leave the same bits
 * at once and in parts: a kernel of a whole step does more than the layers, whose gradients the bounds are for. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/status.h"
#include "plan/operations.h"
#include "verify/verification.h"

static struct plan_range range_of(const struct plan *plan, enum fused_range which) {
  if (which == FUSED_TRAIN) return plan->train.count ? plan->gradient : plan->micro_batch;
  return which == FUSED_EVALUATE ? plan->evaluate : plan->predict;
}

/* Does the candidate compute several operations of the range in one kernel? */
static bool is_fused(const struct verification *v, struct plan_range range) {
  const struct backend *backend = v->candidate.backend;
  for (int i = range.first; backend->fused_with && i < range.first + range.count; i++)
    if (backend->fused_with(v->candidate.compiled, range, i) != i) return true;
  return false;
}

/* What a range leaves, in so many elements of a buffer. */
struct result {
  int buffer;
  int64_t offset, count;
  struct comparison *comparison;
};

/* The results of an operation, at most 2; returns how many. */
static int results_of(const struct verification *v, enum fused_range which, const struct plan_op *op, int64_t rows,
                      struct result results[2]) {
  struct comparison *const comparisons = v->fused + (int)which * (v->plan->layers + 2);
  switch (op->kind) {
    case OP_LOSS: results[0] = (struct result){op->loss.scalars, SCALAR_LOSS, 1, comparisons}; return 1;
    case OP_DENSE_BACKWARD_WEIGHTS: {
      const struct plan_dense_backward_weights *o = &op->weights;
      results[0] = (struct result){o->gradients, o->W, o->n_out * o->n_in, comparisons + op->layer};
      results[1] = (struct result){o->gradients, o->b, o->n_out, comparisons + op->layer};
      return 2;
    }
    case OP_OUTPUT:
      results[0] = (struct result){op->output.P, 0, rows * op->output.n, comparisons + v->plan->layers + 1};
      return 1;
    default: return 0;
  }
}

/* Fills it with NaN, so that a missing write is found. */
static descent_status poison_result(struct verification *v, const struct result *result) {
  for (int64_t k = 0; k < result->count; k++) v->values[k] = NAN;
  return program_write(&v->candidate, result->buffer, result->offset, result->count, PLAN_F64, v->values);
}

/* A bound above the largest value says nothing: such values must be finite and within it, and are not counted. */
static descent_status compare_result(struct verification *v, const struct result *result,
                                     const struct range_bounds *bounds) {
  const struct interval *within = bounds->values[result->buffer] + result->offset;
  descent_status status;
  TRY(program_read(&v->candidate, result->buffer, result->offset, result->count, PLAN_F64, v->values));
  double largest = 0;
  int64_t n = 0;
  for (int64_t k = 0; k < result->count; k++) {
    const double middle = interval_middle(within[k]);
    if (isfinite(middle)) largest = fmax(largest, fabs(middle));
  }
  for (int64_t k = 0; k < result->count; k++) {
    const double value = v->values[k], middle = interval_middle(within[k]), bound = interval_bound(within[k], middle);
    if (isfinite(middle) && bound <= largest) {
      v->values[n] = value, v->expected[n] = middle, v->bounds[n++] = bound;
    } else if (!isfinite(value) || value < within[k].lo || value > within[k].hi) {
      result->comparison->failed = true;
    }
  }
  comparison_take(result->comparison, v->values, v->expected, v->bounds, 1, n);
done:
  return status;
}

static descent_status for_each_result(struct verification *v, enum fused_range which, int64_t rows,
                                      const struct range_bounds *bounds) {
  const struct plan_range range = range_of(v->plan, which);
  descent_status status = DESCENT_OK;
  struct result results[2];
  for (int i = range.first; i < range.first + range.count; i++)
    for (int n = results_of(v, which, &v->plan->ops[i], rows, results); n-- > 0;)
      TRY(bounds ? compare_result(v, &results[n], bounds) : poison_result(v, &results[n]));
done:
  return status;
}

/* Copies what the range has read to the exact program: the state, and the rows that its gather has written. */
static descent_status copy_read(struct verification *v) {
  const int buffers[] = {v->candidate.at.X, v->candidate.at.y, v->candidate.at.w};
  descent_status status;
  TRY(program_copy_state(&v->candidate, &v->exact));
  for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) {
    const int64_t count = v->plan->buffers[buffers[i]].rows * v->plan->buffers[buffers[i]].cols;
    TRY(program_read(&v->candidate, buffers[i], 0, count, PLAN_F64, v->values));
    TRY(program_write(&v->exact, buffers[i], 0, count, PLAN_F64, v->values));
  }
done:
  return status;
}

/* The last part of the training step that has rows on this rank. It is run as if it were the only one, so that combine adds
 * nothing to its gradients and J. Without rows: none has any. */
static struct plan_step only_part(struct verification *v, const struct plan_step *step) {
  struct plan_step part = {0};
  verification_cut(v, step);
  for (int i = 0; i < v->cut.own; i++)
    if (v->cut.steps[i].rows > 0) part = v->cut.steps[i];
  part.micro_batch = 0;
  part.micro_batches = 1;
  return part;
}

descent_status verify_fused(struct verification *v, enum fused_range which, int64_t number) {
  const struct plan_range range = range_of(v->plan, which);
  const bool is_part = v->cuts && which == FUSED_TRAIN;
  struct range_bounds bounds = {0};
  struct permutation order;
  struct plan_step step = verification_step(v, is_part ? v->batch : v->cut.rows, number, &order);
  double scalars[SCALAR_SLOTS];
  descent_status status = DESCENT_OK;
  if (is_part) step = only_part(v, &step);
  if (!is_fused(v, range) || step.rows == 0) goto done;
  TRY(program_read(&v->candidate, v->candidate.at.scalars, 0, SCALAR_SLOTS, PLAN_F64, scalars));
  TRY(for_each_result(v, which, step.rows, NULL));
  TRY(program_run(&v->candidate, range, &step, 1));
  TRY(copy_read(v));
  TRY(range_bounds_run(v->exact.compiled, range, &step, &bounds));
  TRY(for_each_result(v, which, step.rows, &bounds));
  /* A wrong loss may have marked the step as bad, and spoilt the total. */
  TRY(program_write(&v->candidate, v->candidate.at.scalars, 0, SCALAR_SLOTS, PLAN_F64, scalars));
done:
  range_bounds_clear(&bounds);
  return status;
}

/* ---- training steps at once and in parts ---- */

void verify_list_step(const struct verification *v, int buffers[STEP_RESULTS]) {
  const struct plan_handles *at = &v->candidate.at;
  const int whole[STEP_RESULTS] = {at->parameters,       at->moment1, at->moment2, at->scalars, at->gradients,
                                   at->layer_statistics, at->X,       at->y,       at->w};
  const int parts[STEP_RESULTS] = {
      at->parameters, at->partial_gradients, at->partial_losses, at->scalars, at->gradients, PLAN_NONE, at->X, at->y,
      at->w};
  memcpy(buffers, v->cuts ? parts : whole, sizeof whole);
}

static int64_t values_of(const struct plan *plan, int buffer) {
  return buffer == PLAN_NONE ? 0 : plan->buffers[buffer].rows * plan->buffers[buffer].cols;
}

/* Reads all of the buffers, one after another. */
static descent_status read_step(const struct verification *v, const int buffers[STEP_RESULTS], double *values) {
  descent_status status = DESCENT_OK;
  for (int i = 0; i < STEP_RESULTS; i++) {
    const int64_t count = values_of(v->plan, buffers[i]);
    if (count > 0) TRY(program_read(&v->candidate, buffers[i], 0, count, PLAN_F64, values));
    values += count;
  }
done:
  return status;
}

/* Writes the values; with `cleared`, zeros to what a step does not continue from, so that a missing write is found. */
static descent_status write_step(struct verification *v, const int buffers[STEP_RESULTS], const double *values,
                                 bool cleared) {
  const struct plan_handles *at = &v->candidate.at;
  descent_status status = DESCENT_OK;
  for (int i = 0; i < STEP_RESULTS; i++) {
    const int buffer = buffers[i];
    const bool is_read = buffer == at->parameters || buffer == at->moment1 || buffer == at->moment2;
    const int64_t count = values_of(v->plan, buffer);
    for (int64_t k = 0; k < count; k++) v->values[k] = cleared && !is_read ? 0 : values[k];
    if (count > 0) TRY(program_write(&v->candidate, buffer, 0, count, PLAN_F64, v->values));
    values += count;
  }
done:
  return status;
}

/* As the train range, which ends at a bad step. */
static descent_status run_in_parts(struct verification *v, const struct plan_step *steps, int n) {
  descent_status status = DESCENT_OK;
  double bad_step = 0;
  for (int i = 0; i < n && bad_step == 0; i++) {
    TRY(program_run(&v->candidate, v->plan->gradient, &steps[i], 1));
    TRY(program_run(&v->candidate, v->plan->update, &steps[i], 1));
    TRY(program_read(&v->candidate, v->candidate.at.scalars, SCALAR_BAD_STEP, 1, PLAN_F64, &bad_step));
  }
done:
  return status;
}

/* Steps, or the parts of one, to run at once and one after another. */
struct series {
  struct plan_range range;
  const struct plan_step *steps;
  int n;
};

static descent_status run_one_by_one(struct verification *v, const struct series *series) {
  descent_status status = DESCENT_OK;
  if (!v->cuts) return run_in_parts(v, series->steps, series->n);
  for (int i = 0; i < series->n; i++) TRY(program_run(&v->candidate, series->range, &series->steps[i], 1));
done:
  return status;
}

/* What the series leaves must have the same bits both ways. */
static descent_status compare_series(struct verification *v, const struct series *series) {
  int buffers[STEP_RESULTS];
  int64_t count = 0;
  double *before = NULL, *at_once = NULL, *in_parts = NULL;
  descent_status status = DESCENT_OK;
  verify_list_step(v, buffers);
  for (int i = 0; i < STEP_RESULTS; i++) count += values_of(v->plan, buffers[i]);
  before = memory_allocate(count, sizeof *before, "what a step has left");
  at_once = memory_allocate(count, sizeof *at_once, "what a step has left");
  in_parts = memory_allocate(count, sizeof *in_parts, "what a step has left");
  if (!before || !at_once || !in_parts) TRY(DESCENT_ERROR_MEMORY);
  TRY(read_step(v, buffers, before));
  TRY(write_step(v, buffers, before, true));
  TRY(program_run(&v->candidate, series->range, series->steps, series->n));
  TRY(read_step(v, buffers, at_once));
  TRY(write_step(v, buffers, before, true));
  TRY(run_one_by_one(v, series));
  TRY(read_step(v, buffers, in_parts));
  TRY(write_step(v, buffers, before, false));
  for (int64_t i = 0, offset = 0; i < STEP_RESULTS; offset += values_of(v->plan, buffers[i++]))
    comparison_take_bits(&v->step[i], at_once + offset, in_parts + offset, values_of(v->plan, buffers[i]));
done:
  free(before);
  free(at_once);
  free(in_parts);
  return status;
}

/* Whole steps are two: the second shows that the first has left the copy of the parameters that products read. Parts are
 * those of one step, whose sums show that each has been added once and in its place. */
descent_status verify_at_once(struct verification *v, int64_t number) {
  enum { STEPS = 2 };
  struct permutation orders[STEPS];
  struct plan_step steps[STEPS];
  const struct series whole = {v->plan->train, steps, STEPS};
  const struct series parts = {v->plan->micro_batch, v->cut.steps, v->cut.own};
  const struct series *const series = v->cuts ? &parts : &whole;
  if (series->n == 1 || !is_fused(v, series->range)) return DESCENT_OK;
  for (int i = 0; i < STEPS; i++) steps[i] = verification_step(v, v->batch, number + i, &orders[i]);
  if (v->cuts) verification_cut(v, &steps[0]);
  return compare_series(v, series);
}
