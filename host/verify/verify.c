/* Checks a device operation by operation. Before each operation of the network's plan, the inputs are copied from the
 * candidate to the reference backend; both run the operation, and all outputs must be within the bounds derived for the
 * precision. An output that is not is replaced by the exact one, so that later operations are checked independently.
 * A step in micro-batches is checked as it is trained: this rank's parts, one after another, and then what all ranks do
 * with their sum. */
#include <stdio.h>
#include <stdlib.h>

#include "core/memory.h"
#include "core/options.h"
#include "core/status.h"
#include "plan/operations.h"
#include "train/check.h"
#include "verify/verification.h"

/* ---- training steps ---- */

static descent_status check_range(struct verification *v, enum phase phase, struct plan_range range,
                                  const struct plan_step *step) {
  descent_status status = DESCENT_OK;
  for (int i = 0; i < range.count; i++) TRY(verify_op(v, phase, range.first + i, step));
done:
  return status;
}

/* The marks of active units are 0, as compile has left them: one step alone has statistics. */
static descent_status check_parts(struct verification *v, const struct plan_step *step, bool with_statistics) {
  const struct plan_range range = with_statistics ? v->plan->micro_batch_with_statistics : v->plan->micro_batch;
  descent_status status = DESCENT_OK;
  verification_cut(v, step);
  for (int i = 0; i < v->cut.own; i++) TRY(check_range(v, PHASE_TRAIN, range, &v->cut.steps[i]));
done:
  return status;
}

/* Collective where there is an allreduce. */
static descent_status check_finish(struct verification *v, const struct plan_step *step, bool with_statistics) {
  struct plan_range range = with_statistics ? v->plan->finish_with_statistics : v->plan->finish;
  const struct plan_step finish = plan_finish(step, v->cut.own);
  descent_status status = DESCENT_OK;
  if (v->plan->communicator) {
    TRY(verify_allreduce(v, range.first, &finish));
    range = (struct plan_range){range.first + 1, range.count - 1};
  }
  TRY(communicator_agree(v->communicator, check_range(v, PHASE_TRAIN, range, &finish)));
done:
  return status;
}

static descent_status check_step(struct verification *v, int64_t number, bool with_statistics) {
  const struct plan *plan = v->plan;
  struct permutation order;
  const struct plan_step step = verification_step(v, v->batch, number, &order);
  descent_status status = DESCENT_OK;
  if (!v->cuts) return check_range(v, PHASE_TRAIN, with_statistics ? plan->train_with_statistics : plan->train, &step);
  TRY(communicator_agree(v->communicator, check_parts(v, &step, with_statistics)));
  TRY(check_finish(v, &step, with_statistics));
done:
  return status;
}

/* ---- the other phases, in blocks of the plan's rows ---- */

/* The values of a block, one operation after another: the last part may have had no rows. */
static descent_status run_forward(struct verification *v, const struct plan_step *block) {
  const struct plan_range range = {v->plan->micro_batch.first, 1 + v->plan->layers}; /* with the gather */
  descent_status status = DESCENT_OK;
  for (int i = 0; i < range.count; i++)
    TRY(program_run(&v->candidate, (struct plan_range){range.first + i, 1}, block, 1));
done:
  return status;
}

/* The gradients of a caller's loss, from the values that whole step `number` has left, or block `number`. */
static descent_status check_backward(struct verification *v, int64_t number) {
  const struct plan *plan = v->plan;
  const int dA = v->candidate.at.dA;
  const int64_t count = plan->buffers[dA].rows * plan->buffers[dA].cols;
  struct permutation order;
  const struct plan_step step = verification_step(v, v->cut.rows, number, &order);
  descent_status status = DESCENT_OK;
  if (v->cuts) TRY(run_forward(v, &step));
  synthetic_output_gradient(v->values, count, v->cut.rows, v->seed, number);
  TRY(program_write(&v->candidate, dA, 0, count, PLAN_F64, v->values));
  TRY(check_range(v, PHASE_BACKWARD, plan->keep_gradients, &step));
  TRY(check_range(v, PHASE_BACKWARD, plan->backward, &step));
  TRY(check_range(v, PHASE_BACKWARD, plan->add_gradients, &step));
  TRY(check_range(v, PHASE_BACKWARD, plan->input_gradient, &step));
done:
  return status;
}

/* Evaluation and prediction of a block. */
static descent_status check_block(struct verification *v, int64_t number) {
  struct permutation order;
  const struct plan_step step = verification_step(v, v->cut.rows, number, &order);
  descent_status status;
  TRY(check_range(v, PHASE_EVALUATE, v->plan->evaluate, &step));
  TRY(check_range(v, PHASE_PREDICT, v->plan->predict, &step));
  TRY(verify_fused(v, FUSED_EVALUATE, number));
  TRY(verify_fused(v, FUSED_PREDICT, number));
done:
  return status;
}

/* The number of the last step, or block, of so many rows; the first is 1. */
static int64_t last_of(const struct verification *v, int64_t rows) { return (v->data.dataset.rows - 1) / rows + 1; }

static descent_status check_training_at_once(struct verification *v, int64_t number) {
  descent_status status;
  TRY(verify_fused(v, FUSED_TRAIN, number));
  TRY(verify_at_once(v, number));
done:
  return status;
}

static descent_status check_phases(struct verification *v, int64_t steps) {
  const int64_t last_block = last_of(v, v->cut.rows), last_step = last_of(v, v->batch);
  descent_status status;
  TRY(check_backward(v, steps + 1));
  TRY(check_block(v, 1));
  if (last_block > 1) TRY(check_block(v, last_block));
  TRY(check_training_at_once(v, 1));
  if (last_step > 1) TRY(check_training_at_once(v, last_step));
done:
  return status;
}

/* Collective. */
static descent_status check_all(struct verification *v, int64_t steps) {
  descent_status status = DESCENT_OK;
  for (int64_t number = 1; number <= steps; number++) TRY(check_step(v, number, false));
  TRY(check_step(v, steps + 1, true));
  TRY(communicator_agree(v->communicator, check_phases(v, steps)));
done:
  return status;
}

/* ---- set-up ---- */

static descent_status compile(struct verification *v, const descent_network *network, descent_device *device,
                              const descent_train_options *options, struct program *program) {
  const unsigned parts =
      PLAN_PART_BACKWARD | PLAN_PART_INPUT_GRADIENT | PLAN_PART_ACCUMULATE | (v->cuts ? PLAN_PART_MICRO_BATCHES : 0u);
  descent_status status =
      program_create_with(network, device, options, parts, v->cut.rows, 0, v->data.class_weights, program);
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

/* The reference backend is one rank: it has the parts of this rank alone, and an allreduce that changes nothing. */
static descent_status compile_exact(struct verification *v, const descent_network *network, descent_device *device,
                                    const descent_train_options *options) {
  descent_train_options alone = *options;
  descent_status status;
  if (communicator_exchanges(options->ranks.communicator))
    TRY(descent_communicator_open("self", options->ranks.communicator->seconds, &v->alone));
  alone.ranks.communicator = v->alone;
  alone.ranks.micro_batches = v->cut.own;
  TRY(compile(v, network, device, &alone, &v->exact));
done:
  return status;
}

static descent_status allocate(struct verification *v) {
  const struct plan *plan = v->plan;
  const int64_t layers = plan->layers, each = (int64_t)PHASES * OP_KINDS * (layers + 1),
                fused = FUSED_RANGES * (layers + 2), n = plan->buffers[v->candidate.at.parameters].cols + 1;
  int64_t largest = 0;
  for (int i = 0; i < plan->n_buffers; i++) {
    int64_t count = plan->buffers[i].rows * plan->buffers[i].cols;
    if (count > largest) largest = count;
  }
  v->n_comparisons = each + fused + STEP_RESULTS;
  v->comparisons = memory_allocate(v->n_comparisons, sizeof *v->comparisons, "the comparisons");
  v->values = memory_allocate(largest, sizeof *v->values, "a buffer's values");
  v->expected = memory_allocate(largest, sizeof *v->expected, "a buffer's values");
  v->bounds = memory_allocate(largest, sizeof *v->bounds, "a buffer's bounds");
  if (!v->comparisons || !v->values || !v->expected || !v->bounds) return DESCENT_ERROR_MEMORY;
  v->fused = v->comparisons + each;
  v->step = v->fused + fused;
  if (!plan->communicator) return DESCENT_OK;
  v->sums = memory_allocate(n, sizeof *v->sums, "the gradients of a rank");
  v->sums_of_ranks =
      memory_allocate(n * communicator_size(v->communicator), sizeof *v->sums_of_ranks, "the gradients of ranks");
  return v->sums && v->sums_of_ranks ? DESCENT_OK : DESCENT_ERROR_MEMORY;
}

/* `exact`: the reference backend, to be opened if `reference` is another one. */
static descent_status prepare(struct verification *v, const descent_network *network, descent_device *candidate,
                              descent_device *reference, descent_device *exact, const descent_train_options *options,
                              int64_t rows) {
  const bool weighs_classes = options->class_weights || options->balance_classes;
  descent_status status;
  v->batch = options->batch_size > 0 && options->batch_size < rows ? options->batch_size : rows;
  v->cuts = options_cut_steps(options);
  v->seed = options->seed;
  v->learning_rate = options->optimizer.learning_rate;
  TRY(check_train_options(network, candidate, options));
  TRY(synthetic_create(network, rows, v->seed, &v->data));
  TRY(micro_batches_create(network, options, v->batch, weighs_classes ? v->data.class_weights : NULL, &v->cut));
  TRY(compile(v, network, candidate, options, &v->candidate));
  v->plan = v->candidate.plan;
  TRY(allocate(v));
  if (reference->backend != &backend_reference) {
    TRY(backend_reference.open(0, 1, &exact->device));
    TRY(compile_reference(v, network, reference, options));
    reference = exact;
  }
  TRY(compile_exact(v, network, reference, options));
done:
  return status;
}

static void clear(struct verification *v) {
  program_clear(&v->candidate);
  program_clear(&v->reference);
  program_clear(&v->exact);
  descent_communicator_close(v->alone);
  micro_batches_clear(&v->cut);
  synthetic_clear(&v->data);
  free(v->comparisons);
  free(v->values);
  free(v->expected);
  free(v->bounds);
  free(v->sums);
  free(v->sums_of_ranks);
}

/* ---- the result ---- */

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
    const struct comparison *c = verification_row(v, phase, &v->plan->ops[i]);
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
  verify_list_step(v, buffers);
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

static void report_training(struct verification *v, void (*on_row)(void *user, const descent_verify_row *row),
                            void *user, bool *passed) {
  report(v, PHASE_TRAIN, v->plan->train_with_statistics, on_row, user, passed);
  report(v, PHASE_TRAIN, v->plan->micro_batch_with_statistics, on_row, user, passed);
  report(v, PHASE_TRAIN, v->plan->finish_with_statistics, on_row, user, passed);
}

/* Its result is shared with the other ranks, which would otherwise wait for this one. */
static descent_status check_arguments(const descent_network *network, const descent_device *candidate,
                                      const descent_device *reference, int64_t rows, int64_t steps,
                                      const bool *passed) {
  descent_status status;
  TRY(handle_check(network, HANDLE_NETWORK, "network"));
  TRY(device_check(candidate, "candidate"));
  TRY(device_check(reference, "reference"));
  TRY(argument_check(passed, "passed"));
  TRY(network_check_plain(network, "network"));
  if (rows < 1 || steps < 1)
    TRY(status_set(DESCENT_ERROR_ARGUMENT, "descent_verify: rows %lld and steps %lld must be at least 1",
                   (long long)rows, (long long)steps));
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
  TRY(complete_train_options(options, &complete));
  TRY(check_communicator(&complete));
  v.communicator = complete.ranks.communicator;
  status = check_arguments(network, candidate, reference, rows, steps, passed);
  if (status == DESCENT_OK) status = prepare(&v, network, candidate, reference, &exact, &complete, rows);
  TRY(verify_ranks_begin(&v, network, &complete, steps, status));
  TRY(check_all(&v, steps));
  TRY(verify_ranks_merge(&v));
  *passed = true;
  report_training(&v, on_row, user, passed);
  report_backward(&v, on_row, user, passed);
  report(&v, PHASE_EVALUATE, v.plan->evaluate, on_row, user, passed);
  report(&v, PHASE_PREDICT, v.plan->predict, on_row, user, passed);
  report_fused(&v, on_row, user, passed);
done:
  clear(&v);
  if (exact.device) backend_reference.close(exact.device);
  return status;
}
