/* Checks a device operation by operation. Before each operation of the network's plan, the inputs are copied from the
 * candidate to the reference backend; both run the operation, and all outputs must be within the bounds derived for the
 * precision. An output that is not is replaced by the exact one, so that later operations are checked independently.
 *
 * Where the device computes several operations of a range in one kernel, the whole range is also run at once, and its
 * results must be within the bounds propagated through all of its operations. Training steps must leave the same bits
 * at once and in parts: a kernel of a whole step does more than the layers, whose gradients the bounds are for. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/program.h"
#include "core/memory.h"
#include "core/options.h"
#include "core/rng.h"
#include "core/status.h"
#include "plan/operations.h"
#include "train/check.h"
#include "verify/bounds.h"
#include "verify/synthetic.h"

enum phase { PHASE_TRAIN, PHASE_BACKWARD, PHASE_EVALUATE, PHASE_PREDICT, PHASES };

/* The ranges that are also run as a whole if the device fuses operations of them. */
enum fused_range { FUSED_TRAIN, FUSED_EVALUATE, FUSED_PREDICT, FUSED_RANGES };

/* The buffers that a training step leaves. */
enum { STEP_RESULTS = 9 };

/* All that a plan may have. */
static const unsigned parts = PLAN_PART_BACKWARD | PLAN_PART_INPUT_GRADIENT | PLAN_PART_ACCUMULATE;

/* The comparison of one operation; the worst over the steps. */
struct comparison {
  int64_t values;
  double largest_error, bound, ratio;
  bool failed;
};

struct verification {
  struct synthetic data;
  int64_t batch, batches;
  uint64_t seed;
  double learning_rate;
  struct program candidate, exact;
  struct program reference;             /* compiled NULL: the exact program is the reference */
  const struct plan *plan;              /* of the candidate; the others are equal */
  struct comparison *comparisons;       /* (PHASES, OP_KINDS, layers + 1) */
  struct comparison *fused;             /* (FUSED_RANGES, layers + 2): loss, gradients layer by layer, predictions */
  struct comparison step[STEP_RESULTS]; /* of training steps at once and in parts */
  double *values, *expected;            /* (largest buffer) read from the candidate, from the reference */
  double *bounds;                       /* (largest buffer) */
};

/* ---- inputs and outputs of an operation ---- */

/* Copies every buffer that the op reads or writes, except sources, from the candidate to `to`. */
static descent_status copy_inputs(struct verification *v, const struct plan_op *op, struct program *to) {
  descent_status status = DESCENT_OK;
  struct plan_use uses[PLAN_MOST_USES];
  const int n = plan_uses(op, uses);
  for (int i = 0; i < n; i++) {
    const int buffer = uses[i].buffer;
    if (uses[i].role == PLAN_ROWS_OF_SOURCE) continue;
    int64_t offset = 0, count = v->plan->buffers[buffer].rows * v->plan->buffers[buffer].cols;
    if (op->layer > 0 && uses[i].role == PLAN_FLAT) {
      const struct parameter_segment *segment = &v->plan->segments[op->layer - 1];
      offset = segment->begin, count = segment->end - segment->begin;
    }
    TRY(program_read(&v->candidate, buffer, offset, count, PLAN_F64, v->values));
    TRY(program_write(to, buffer, offset, count, PLAN_F64, v->values));
  }
done:
  return status;
}

/* Does the op write the buffer without reading it? */
static bool only_written(const struct plan_op *op, int buffer) {
  struct plan_use uses[PLAN_MOST_USES];
  bool written = true;
  for (int n = plan_uses(op, uses); n-- > 0;)
    if (uses[n].buffer == buffer && uses[n].access != PLAN_WRITE) written = false;
  return written;
}

/* Fills the outputs of the op with NaN, so that a missing write is found; except those that it also reads. */
static descent_status poison_outputs(struct verification *v, const struct plan_op *op, const struct bounds *bounds) {
  descent_status status = DESCENT_OK;
  for (int i = 0; i < bounds->n; i++) {
    const struct bounds_output *output = &bounds->outputs[i];
    if (v->plan->buffers[output->buffer].type != PLAN_F32 || !only_written(op, output->buffer)) continue;
    for (int64_t k = 0; k < output->count; k++) v->values[k] = NAN;
    TRY(program_write(&v->candidate, output->buffer, output->offset, output->count, PLAN_F64, v->values));
  }
done:
  return status;
}

/* ---- comparing ---- */

static bool is_worse(double a, double b) { return isnan(a) ? !isnan(b) : a > b; }

/* `slack`: permitted difference in units of the bound. Returns whether all values are within it. */
static bool compare(struct comparison *comparison, const double *values, const double *expected, const double *bounds,
                    double slack, int64_t count) {
  bool all = true;
  for (int64_t i = 0; i < count; i++) {
    double error = fabs(values[i] - expected[i]), bound = slack * bounds[i];
    double ratio = error == 0 && bound == 0 ? 0 : error / bound;
    if (!(error <= bound) || !isfinite(values[i])) all = false;
    if (is_worse(ratio, comparison->ratio)) comparison->ratio = ratio;
    if (is_worse(error, comparison->largest_error) || (comparison->values == 0 && i == 0)) {
      comparison->largest_error = error;
      comparison->bound = bound;
    }
  }
  comparison->values += count;
  if (!all) comparison->failed = true;
  return all;
}

/* If an exact result exceeds the range of its type, the training diverges on any device. */
static descent_status check_range_of_exact(const struct verification *v, const struct plan_op *op,
                                           const struct bounds *bounds, int64_t step) {
  for (int i = 0; i < bounds->n; i++) {
    const struct bounds_output *output = &bounds->outputs[i];
    const double limit = v->plan->buffers[output->buffer].type == PLAN_F32 ? (double)FLT_MAX : DBL_MAX;
    for (int64_t k = 0; k < output->count; k++) {
      if (fabs(output->exact[k]) <= limit) continue;
      char name[64];
      plan_op_name(op, name, sizeof name);
      return status_set(DESCENT_ERROR_DIVERGED,
                        "%s at step %lld: training diverged (%g in exact arithmetic); lower the learning rate", name,
                        (long long)step, output->exact[k]);
    }
  }
  return DESCENT_OK;
}

static descent_status compare_outputs(struct verification *v, struct comparison *comparison,
                                      const struct bounds *bounds) {
  descent_status status = DESCENT_OK;
  for (int i = 0; i < bounds->n; i++) {
    const struct bounds_output *output = &bounds->outputs[i];
    const double *expected = output->exact;
    TRY(program_read(&v->candidate, output->buffer, output->offset, output->count, PLAN_F64, v->values));
    if (v->reference.compiled) {
      TRY(program_read(&v->reference, output->buffer, output->offset, output->count, PLAN_F64, v->expected));
      expected = v->expected;
    }
    double slack = v->reference.compiled ? 2 : 1; /* each side may be one bound away from the exact value */
    if (!compare(comparison, v->values, expected, output->bound, slack, output->count))
      TRY(program_write(&v->candidate, output->buffer, output->offset, output->count, PLAN_F64, output->exact));
  }
done:
  return status;
}

static struct comparison *comparison_of(struct verification *v, enum phase phase, const struct plan_op *op) {
  return &v->comparisons[((int)phase * OP_KINDS + (int)op->kind) * (v->plan->layers + 1) + op->layer];
}

static descent_status check_op(struct verification *v, enum phase phase, int index, const struct plan_step *step) {
  const struct plan_op *op = &v->plan->ops[index];
  const struct plan_range range = {index, 1};
  struct bounds bounds = {0};
  descent_status status = DESCENT_OK;
  TRY(copy_inputs(v, op, &v->exact));
  if (v->reference.compiled) TRY(copy_inputs(v, op, &v->reference));
  TRY(bounds_run(v->exact.compiled, v->exact.plan, index, step, &bounds));
  TRY(check_range_of_exact(v, op, &bounds, step->number));
  if (v->reference.compiled) TRY(program_run(&v->reference, range, step, 1));
  TRY(poison_outputs(v, op, &bounds));
  TRY(program_run(&v->candidate, range, step, 1));
  TRY(compare_outputs(v, comparison_of(v, phase, op), &bounds));
done:
  bounds_clear(&bounds);
  return status;
}

/* Step `number` uses the next batch of the rows, epoch after epoch; the last batch of an epoch may be smaller. */
static struct plan_step step_of(const struct verification *v, int64_t number, struct permutation *order) {
  const int64_t first = (number - 1) % v->batches * v->batch, left = v->data.dataset.rows - first;
  *order = permutation_create(v->seed, RNG_SHUFFLE, (uint64_t)((number - 1) / v->batches + 1),
                              (uint64_t)v->data.dataset.rows);
  return (struct plan_step){.number = number,
                            .first_row = first,
                            .rows = left < v->batch ? left : v->batch,
                            .learning_rate = v->learning_rate,
                            .order = order};
}

static descent_status check_range(struct verification *v, enum phase phase, struct plan_range range, int64_t number) {
  descent_status status = DESCENT_OK;
  struct permutation order;
  const struct plan_step step = step_of(v, number, &order);
  for (int i = 0; i < range.count; i++) TRY(check_op(v, phase, range.first + i, &step));
done:
  return status;
}

/* The gradients of a caller's loss, from the values that step `number` has left. */
static descent_status check_backward(struct verification *v, int64_t number) {
  const struct plan *plan = v->plan;
  const int dA = v->candidate.at.dA;
  const int64_t count = plan->buffers[dA].rows * plan->buffers[dA].cols;
  descent_status status;
  synthetic_output_gradient(v->values, count, v->batch, v->seed, number);
  TRY(program_write(&v->candidate, dA, 0, count, PLAN_F64, v->values));
  TRY(check_range(v, PHASE_BACKWARD, plan->keep_gradients, number));
  TRY(check_range(v, PHASE_BACKWARD, plan->backward, number));
  TRY(check_range(v, PHASE_BACKWARD, plan->add_gradients, number));
  TRY(check_range(v, PHASE_BACKWARD, plan->input_gradient, number));
done:
  return status;
}

/* ---- whole ranges ---- */

static struct plan_range range_of(const struct plan *plan, enum fused_range which) {
  return which == FUSED_TRAIN ? plan->gradient : which == FUSED_EVALUATE ? plan->evaluate : plan->predict;
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
  compare(result->comparison, v->values, v->expected, v->bounds, 1, n);
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

/* If the candidate fuses operations of the range: runs the whole range from the candidate's current state. */
static descent_status check_fused(struct verification *v, enum fused_range which, int64_t number) {
  const struct plan_range range = range_of(v->plan, which);
  struct range_bounds bounds = {0};
  struct permutation order;
  const struct plan_step step = step_of(v, number, &order);
  double scalars[SCALAR_SLOTS];
  descent_status status = DESCENT_OK;
  if (!is_fused(v, range)) goto done;
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

/* Those that the next step reads come first. PLAN_NONE: the plan has none. */
static void list_step(const struct verification *v, int buffers[STEP_RESULTS]) {
  const struct plan_handles *at = &v->candidate.at;
  const int all[STEP_RESULTS] = {at->parameters,       at->moment1, at->moment2, at->scalars, at->gradients,
                                 at->layer_statistics, at->X,       at->y,       at->w};
  memcpy(buffers, all, sizeof all);
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

static void compare_bits(struct comparison *comparison, const double *values, const double *expected, int64_t count) {
  for (int64_t i = 0; i < count; i++) {
    if (memcmp(&values[i], &expected[i], sizeof *values) == 0) continue;
    const double error = fabs(values[i] - expected[i]);
    if (is_worse(error, comparison->largest_error)) comparison->largest_error = error;
    comparison->ratio = INFINITY;
    comparison->failed = true;
  }
  comparison->values += count;
}

/* If the candidate fuses operations of a training step: two steps at once and in parts, from its current state. The
 * second one shows that the first has left the copy of the parameters that products read. */
static descent_status check_step(struct verification *v, int64_t number) {
  enum { STEPS = 2 };
  struct permutation orders[STEPS];
  struct plan_step steps[STEPS];
  int buffers[STEP_RESULTS];
  int64_t count = 0;
  double *before = NULL, *at_once = NULL, *in_parts = NULL;
  descent_status status = DESCENT_OK;
  if (!is_fused(v, v->plan->train)) return DESCENT_OK;
  for (int i = 0; i < STEPS; i++) steps[i] = step_of(v, number + i, &orders[i]);
  list_step(v, buffers);
  for (int i = 0; i < STEP_RESULTS; i++) count += values_of(v->plan, buffers[i]);
  before = memory_allocate(count, sizeof *before, "what a step has left");
  at_once = memory_allocate(count, sizeof *at_once, "what a step has left");
  in_parts = memory_allocate(count, sizeof *in_parts, "what a step has left");
  if (!before || !at_once || !in_parts) TRY(DESCENT_ERROR_MEMORY);
  TRY(read_step(v, buffers, before));
  TRY(write_step(v, buffers, before, true));
  TRY(program_run(&v->candidate, v->plan->train, steps, STEPS));
  TRY(read_step(v, buffers, at_once));
  TRY(write_step(v, buffers, before, true));
  TRY(run_in_parts(v, steps, STEPS));
  TRY(read_step(v, buffers, in_parts));
  TRY(write_step(v, buffers, before, false));
  for (int64_t i = 0, offset = 0; i < STEP_RESULTS; offset += values_of(v->plan, buffers[i++]))
    compare_bits(&v->step[i], at_once + offset, in_parts + offset, values_of(v->plan, buffers[i]));
done:
  free(before);
  free(at_once);
  free(in_parts);
  return status;
}

/* ---- set-up ---- */

static descent_status compile(struct verification *v, const descent_network *network, descent_device *device,
                              const descent_train_options *options, struct program *program) {
  descent_status status =
      program_create_with(network, device, options, parts, v->batch, 0, v->data.class_weights, program);
  return status == DESCENT_OK ? program_bind(program, &v->data.dataset) : status;
}

/* Explains what to use if the reference device does not support the precision. */
static descent_status compile_reference(struct verification *v, const descent_network *network,
                                        descent_device *reference, const descent_train_options *options) {
  const descent_status status = compile(v, network, reference, options, &v->reference);
  if (status != DESCENT_ERROR_UNSUPPORTED) return status;
  char reason[192];
  snprintf(reason, sizeof reason, "%s", descent_last_error());
  return status_set(status, "reference %s: %s; use the device 'reference', which supports every precision",
                    reference->name, reason);
}

static descent_status prepare(struct verification *v, const descent_network *network, descent_device *candidate,
                              const descent_train_options *options, int64_t rows) {
  descent_status status;
  v->batch = options->batch_size > 0 && options->batch_size < rows ? options->batch_size : rows;
  v->batches = (rows - 1) / v->batch + 1;
  v->seed = options->seed;
  v->learning_rate = options->optimizer.learning_rate;
  TRY(check_train_options(network, candidate, options));
  TRY(check_whole_steps(options, "in descent_verify"));
  TRY(synthetic_create(network, rows, v->seed, &v->data));
  TRY(compile(v, network, candidate, options, &v->candidate));
  v->plan = v->candidate.plan;
  int64_t largest = 0;
  for (int i = 0; i < v->plan->n_buffers; i++) {
    int64_t count = v->plan->buffers[i].rows * v->plan->buffers[i].cols;
    if (count > largest) largest = count;
  }
  v->comparisons =
      memory_allocate((int64_t)PHASES * OP_KINDS * (v->plan->layers + 1), sizeof *v->comparisons, "the comparisons");
  v->fused = memory_allocate((int64_t)FUSED_RANGES * (v->plan->layers + 2), sizeof *v->fused, "the comparisons");
  v->values = memory_allocate(largest, sizeof *v->values, "a buffer's values");
  v->expected = memory_allocate(largest, sizeof *v->expected, "a buffer's values");
  v->bounds = memory_allocate(largest, sizeof *v->bounds, "a buffer's bounds");
  if (!v->comparisons || !v->fused || !v->values || !v->expected || !v->bounds) return DESCENT_ERROR_MEMORY;
done:
  return status;
}

static void report_row(const struct comparison *c, const char *prefix, const char *name,
                       void (*on_row)(void *user, const descent_verify_row *row), void *user, bool *passed) {
  char text[96];
  snprintf(text, sizeof text, "%s%s", prefix, name);
  if (c->failed) *passed = false;
  const descent_verify_row row = {text, c->values, c->largest_error, c->bound, c->ratio, !c->failed};
  if (on_row) on_row(user, &row);
}

static void report(struct verification *v, enum phase phase, struct plan_range range,
                   void (*on_row)(void *user, const descent_verify_row *row), void *user, bool *passed) {
  static const char *const prefixes[PHASES] = {"", "backward: ", "evaluate: ", "predict: "};
  for (int i = range.first; i < range.first + range.count; i++) {
    const struct comparison *c = comparison_of(v, phase, &v->plan->ops[i]);
    char name[64];
    plan_op_name(&v->plan->ops[i], name, sizeof name);
    report_row(c, prefixes[phase], name, on_row, user, passed);
  }
}

static void report_backward(struct verification *v, void (*on_row)(void *user, const descent_verify_row *row),
                            void *user, bool *passed) {
  report(v, PHASE_BACKWARD, v->plan->backward, on_row, user, passed);
  report(v, PHASE_BACKWARD, v->plan->input_gradient, on_row, user, passed);
  report(v, PHASE_BACKWARD, v->plan->add_gradients, on_row, user, passed); /* with keep_gradients: the same kind */
}

static void report_step(struct verification *v, void (*on_row)(void *user, const descent_verify_row *row), void *user,
                        bool *passed) {
  int buffers[STEP_RESULTS];
  list_step(v, buffers);
  for (int i = 0; i < STEP_RESULTS; i++)
    if (v->step[i].values > 0)
      report_row(&v->step[i], "fused train: ", v->plan->buffers[buffers[i]].name, on_row, user, passed);
}

/* What has been compared: nothing where the device fuses nothing. */
static void report_fused(struct verification *v, void (*on_row)(void *user, const descent_verify_row *row), void *user,
                         bool *passed) {
  static const char *const prefixes[FUSED_RANGES] = {"fused: ", "fused evaluate: ", "fused predict: "};
  const int layers = v->plan->layers;
  for (int which = 0; which < FUSED_RANGES; which++) {
    for (int i = 0; i < layers + 2; i++) {
      const struct comparison *c = &v->fused[which * (layers + 2) + i];
      char gradients[64];
      snprintf(gradients, sizeof gradients, "gradients layer %d", i);
      const char *name = i == 0 ? "loss" : i <= layers ? gradients : "predictions";
      if (c->values > 0 || c->failed) report_row(c, prefixes[which], name, on_row, user, passed);
    }
    if (which == FUSED_TRAIN) report_step(v, on_row, user, passed);
  }
}

static descent_status check_all(struct verification *v, int64_t steps) {
  descent_status status = DESCENT_OK;
  for (int64_t number = 1; number <= steps; number++) TRY(check_range(v, PHASE_TRAIN, v->plan->train, number));
  TRY(check_range(v, PHASE_TRAIN, v->plan->train_with_statistics, steps + 1));
  TRY(check_backward(v, steps + 1));
  for (int64_t number = 1; number <= v->batches; number += v->batches > 1 ? v->batches - 1 : 1) {
    TRY(check_range(v, PHASE_EVALUATE, v->plan->evaluate, number));
    TRY(check_range(v, PHASE_PREDICT, v->plan->predict, number));
    for (int which = 0; which < FUSED_RANGES; which++) TRY(check_fused(v, (enum fused_range)which, number));
    TRY(check_step(v, number));
  }
done:
  return status;
}

descent_status descent_verify(const descent_network *network, descent_device *candidate, descent_device *reference,
                              const descent_train_options *options, int64_t rows, int64_t steps,
                              void (*on_row)(void *user, const descent_verify_row *row), void *user, bool *passed) {
  struct verification v = {0};
  descent_train_options complete;
  descent_device exact = {.backend = &backend_reference};
  descent_status status = DESCENT_OK;
  TRY(handle_check(network, HANDLE_NETWORK, "network"));
  TRY(device_check(candidate, "candidate"));
  TRY(device_check(reference, "reference"));
  TRY(argument_check(passed, "passed"));
  if (rows < 1 || steps < 1)
    TRY(status_set(DESCENT_ERROR_ARGUMENT, "descent_verify: rows %lld and steps %lld must be at least 1",
                   (long long)rows, (long long)steps));
  const bool own_exact = reference->backend != &backend_reference;
  TRY(complete_train_options(options, &complete));
  options = &complete;
  TRY(prepare(&v, network, candidate, options, rows));
  if (own_exact) {
    TRY(backend_reference.open(0, 1, &exact.device));
    TRY(compile_reference(&v, network, reference, options));
  }
  TRY(compile(&v, network, own_exact ? &exact : reference, options, &v.exact));
  TRY(check_all(&v, steps));
  *passed = true;
  report(&v, PHASE_TRAIN, v.plan->train_with_statistics, on_row, user, passed);
  report_backward(&v, on_row, user, passed);
  report(&v, PHASE_EVALUATE, v.plan->evaluate, on_row, user, passed);
  report(&v, PHASE_PREDICT, v.plan->predict, on_row, user, passed);
  report_fused(&v, on_row, user, passed);
done:
  program_clear(&v.candidate);
  program_clear(&v.reference);
  program_clear(&v.exact);
  if (exact.device) backend_reference.close(exact.device);
  synthetic_clear(&v.data);
  free(v.comparisons);
  free(v.fused);
  free(v.values);
  free(v.expected);
  free(v.bounds);
  return status;
}
