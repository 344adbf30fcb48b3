/* Times what a network's plan executes, a training step or a prediction: the whole, each operation and each matrix
 * product, and measures the device's ceilings, and the link between ranks, in the same run. Operations are timed inside
 * a step if the backend can do that, or if there are several ranks, which wait for each other there; else alone. The
 * median over the rounds is reported. */
#include <math.h>
#include <stdlib.h>

#include "core/clock.h"
#include "core/communicator.h"
#include "core/memory.h"
#include "core/options.h"
#include "core/status.h"
#include "plan/operations.h"
#include "train/check.h"
#include "train/ranks_compare.h"
#include "verify/bench_internal.h"

enum {
  MIN_ROUNDS = 3,
  MAX_RECORDS = 4096, /* of steps, or of their micro-batches, in a list; more for LEAST_STEPS steps of many */
  LEAST_STEPS = 8,
  BATCHES = 16 /* the rows of the data, in batches: enough that gather reads memory that is not cached */
};
static const int64_t max_source_bytes = INT64_C(256) << 20; /* fewer rows if BATCHES batches exceed it */
static const double step_share = 1.0 / 3;                   /* of the time of a round, for the whole step */

/* ---- set-up ---- */

static int64_t source_rows(const descent_network *network, int64_t batch) {
  int64_t batches = max_source_bytes / (int64_t)sizeof(float) / network->inputs / batch, rows;
  batches = batches < 2 ? 2 : batches < BATCHES ? batches : BATCHES;
  return size_product(batches, batch, &rows) ? rows : INT64_MAX;
}

/* What is timed: a training step, or a prediction. */
struct subject {
  const descent_train_options *options; /* NULL: a prediction */
  descent_predict_options predict;
  int64_t rows; /* of a step, on all ranks together */
};

/* The program's batch is the largest micro-batch. */
static descent_status create_program(struct bench *b, const descent_network *network, descent_device *device,
                                     const struct subject *subject) {
  const descent_train_options *const options = subject->options;
  if (!options) return program_create_prediction(network, device, &subject->predict, 0, subject->rows, &b->program);
  const int64_t M = options_micro_batches(options);
  return program_create_with(network, device, options, options_cut_steps(options) ? PLAN_PART_MICRO_BATCHES : 0,
                             (subject->rows - 1) / M + 1, 0, b->data.class_weights, &b->program);
}

static descent_status add_part(struct bench *b, struct plan_range range, int executions) {
  struct bench_part *const part = &b->parts[b->n_parts++];
  *part = (struct bench_part){.range = range, .executions = executions};
  b->n_ops += range.count;
  part->steps = memory_allocate(b->max_steps, (size_t)executions * sizeof *part->steps, "the steps");
  part->group = memory_allocate(range.count, sizeof *part->group, "the groups of operations");
  return part->steps && part->group ? DESCENT_OK : DESCENT_ERROR_MEMORY;
}

static descent_status list_parts(struct bench *b, const descent_train_options *options) {
  const struct plan *const plan = b->plan;
  const bool cuts = options && options_cut_steps(options);
  const int own = cuts ? (int)options_own_micro_batches(options) : 1;
  descent_status status;
  b->max_steps = MAX_RECORDS / own > LEAST_STEPS ? MAX_RECORDS / own : LEAST_STEPS;
  TRY(add_part(b, cuts ? plan->micro_batch : options ? plan->train : plan->predict, own));
  if (cuts) TRY(add_part(b, plan->finish, 1));
done:
  return status;
}

/* This rank's micro-batches of a step, and its finish. */
static void cut_step(struct bench *b, const descent_train_options *options, const struct plan_step *step,
                     int64_t number) {
  const int own = b->parts[0].executions;
  const int64_t first = own * (int64_t)communicator_rank(b->communicator), M = options_micro_batches(options);
  /* The sum of weights is that of rows of weight 1. With weights of classes it differs, by a constant factor in the loss
   * and the gradients, on which no time depends. */
  const double weight_sum = (double)step->rows;
  for (int i = 0; i < own; i++)
    b->parts[0].steps[number * own + i] = plan_micro_batch(step, first + i, M, i, own, weight_sum);
  b->parts[1].steps[number] = plan_finish(step, own);
}

static void list_steps(struct bench *b, const struct subject *subject, int64_t rows) {
  const descent_train_options *const options = subject->options;
  for (int64_t i = 0; i < b->max_steps; i++) {
    const struct plan_step step = {.number = i + 1,
                                   .first_row = i * subject->rows % rows,
                                   .rows = subject->rows,
                                   .learning_rate = options ? options->optimizer.learning_rate : 0,
                                   .order = options ? &b->order : NULL};
    if (b->n_parts == 1)
      b->parts[0].steps[i] = step;
    else
      cut_step(b, options, &step, i);
  }
}

static void list_groups(struct bench *b) {
  const struct backend *const backend = b->program.backend;
  for (int p = 0; p < b->n_parts; p++) {
    const struct plan_range range = b->parts[p].range;
    for (int i = 0; i < range.count; i++)
      b->parts[p].group[i] =
          backend->fused_with ? backend->fused_with(b->program.compiled, range, range.first + i) - range.first : i;
  }
}

static descent_status compile(struct bench *b, const descent_network *network, descent_device *device,
                              const struct subject *subject) {
  descent_status status;
  const int64_t rows = source_rows(network, subject->rows);
  const uint64_t seed = subject->options ? subject->options->seed : 0;
  TRY(synthetic_create(network, rows, seed, &b->data));
  b->data.storage.weights = NULL; /* like most data: no weights, and not a view */
  b->data.dataset.index = NULL;
  TRY(create_program(b, network, device, subject));
  TRY(program_bind(&b->program, &b->data.dataset));
  b->plan = b->program.plan;
  b->order = permutation_create(seed, RNG_SHUFFLE, 1, (uint64_t)rows);
  TRY(list_parts(b, subject->options));
  list_steps(b, subject, rows);
  list_groups(b);
done:
  return status;
}

static descent_status list_timings(struct bench *b, const descent_network *network) {
  const bool times = b->program.backend->time != NULL;
  b->by_clock = !times && communicator_size(b->communicator) > 1;
  b->timings = memory_allocate(1 + 2 * (int64_t)b->n_ops, sizeof *b->timings, "the timings");
  if (!b->timings) return DESCENT_ERROR_MEMORY;
  b->timings[b->n_timings++] = (struct bench_timing){.op = -1};
  for (int product = 0; product < 2; product++)
    for (int p = 0; p < b->n_parts; p++)
      for (int i = 0; i < b->parts[p].range.count; i++) {
        const int op = b->parts[p].range.first + i;
        if (!product || plan_has_product(&b->plan->ops[op]))
          b->timings[b->n_timings++] = (struct bench_timing){.part = p, .op = op, .product = product};
      }
  if (times || b->by_clock) {
    b->inside = memory_allocate(2 * (int64_t)b->n_ops, sizeof *b->inside, "the timings");
    return b->inside ? DESCENT_OK : DESCENT_ERROR_MEMORY;
  }
  if (b->parts[0].executions == 1) return DESCENT_OK; /* nothing to combine */
  b->zeros = memory_allocate(network->n_parameters, sizeof *b->zeros, "gradients of zero");
  return b->zeros ? DESCENT_OK : DESCENT_ERROR_MEMORY;
}

/* ---- ranks ---- */

/* Ranks with different steps, or that time them in different ways, would wait for each other in different operations. */
static descent_status compare_ranks(const struct bench *b, const descent_network *network,
                                    const struct subject *subject) {
  const struct rank_quantity timing = {"timing of operations", b->by_clock ? "by the clock" : "by the device"};
  const struct rank_work work = {.network = network,
                                 .program = &b->program,
                                 .options = subject->options,
                                 .training = &b->data.dataset,
                                 .more = &timing,
                                 .n_more = 1};
  return b->communicator ? ranks_compare_work(&work) : DESCENT_OK;
}

/* ---- measuring ---- */

/* The ceilings are the best of several measurements during the run, since a disturbance can only lower them. */
static descent_status measure(struct bench *b, const descent_device *device, descent_bench_result *result) {
  double flops = 0, bandwidth = 0, link = 0;
  descent_status status;
  TRY(bench_agree(b, device->backend->measure(device->device, b->plan->precision, &flops, &bandwidth)));
  TRY(bench_agree(b, program_measure_link(&b->program, &link)));
  result->peak_flops = fmax(result->peak_flops, flops);
  result->peak_bandwidth = fmax(result->peak_bandwidth, bandwidth);
  result->link_bandwidth = fmax(result->link_bandwidth, link);
done:
  return status;
}

/* Many short rounds rather than a few long ones: the median is robust if fewer than half of them are disturbed. */
static descent_status time_all(struct bench *b, const descent_device *device, double seconds,
                               descent_bench_result *result) {
  enum { ROUNDS = 40, ROUNDS_BETWEEN_CEILINGS = 16 };
  descent_status status = DESCENT_OK;
  const double round = seconds / ROUNDS, op_budget = round * (1 - step_share) / (b->n_timings - 1);
  const double start = clock_seconds();
  const int first_alone = bench_first_alone(b);
  TRY(bench_calibrate(b, 0, round * step_share));
  if (b->inside) TRY(bench_calibrate_inside(b, op_budget * (first_alone - 1)));
  for (int i = first_alone; i < b->n_timings; i++) TRY(bench_calibrate(b, i, op_budget));
  for (int64_t more = 1; more;) {
    if (b->rounds % ROUNDS_BETWEEN_CEILINGS == 0) TRY(measure(b, device, result));
    TRY(bench_run_round(b));
    more = b->rounds < MIN_ROUNDS || (b->rounds < BENCH_MAX_ROUNDS && clock_seconds() - start < seconds);
    TRY(bench_follow(b, DESCENT_OK, &more));
  }
  TRY(measure(b, device, result));
done:
  return status;
}

static void clear(struct bench *b) {
  program_clear(&b->program);
  for (int i = 0; i < 3; i++) free(b->state[i]);
  for (int p = 0; p < b->n_parts; p++) {
    free(b->parts[p].steps);
    free(b->parts[p].group);
  }
  synthetic_clear(&b->data);
  free(b->zeros);
  free(b->timings);
  free(b->inside);
}

/* ---- a training step, a prediction ---- */

static descent_status check_seconds(const char *function, double seconds) {
  if (seconds > 0 && isfinite(seconds)) return DESCENT_OK;
  return status_set(DESCENT_ERROR_ARGUMENT, "%s: seconds %g: must be finite and > 0", function, seconds);
}

static descent_status set_up(struct bench *b, const descent_network *network, descent_device *device,
                             const struct subject *subject) {
  descent_status status;
  TRY(compile(b, network, device, subject));
  TRY(list_timings(b, network));
done:
  return status;
}

static descent_status measure_subject(const descent_network *network, descent_device *device,
                                      const struct subject *subject, double seconds,
                                      void (*on_row)(void *user, const descent_bench_row *row), void *user,
                                      descent_bench_result *result) {
  struct bench b = {.communicator = subject->options ? subject->options->ranks.communicator : NULL};
  descent_bench_result measured = {0};
  descent_status status;
  TRY(bench_agree(&b, set_up(&b, network, device, subject)));
  TRY(compare_ranks(&b, network, subject));
  if (b.plan->communicator) TRY(bench_agree(&b, program_connect(&b.program)));
  TRY(bench_run_steps(&b, 2)); /* warm-up: every buffer is used, and moments are not 0 */
  TRY(bench_check_divergence(&b));
  TRY(bench_save_state(&b));
  TRY(time_all(&b, device, seconds, &measured));
  bench_report(&b, !subject->options, on_row, user, &measured);
  *result = measured;
done:
  if (status != DESCENT_OK && !b.ended) status = bench_agree(&b, status);
  clear(&b);
  return status;
}

static descent_status check_bench(const descent_network *network, descent_device *device,
                                  const descent_train_options *options, double seconds,
                                  const descent_bench_result *result) {
  descent_status status;
  TRY(handle_check(network, HANDLE_NETWORK, "network"));
  TRY(device_check(device, "device"));
  TRY(argument_check(result, "result"));
  TRY(network_check_plain(network, "network"));
  if (options->batch_size < 1)
    TRY(status_set(DESCENT_ERROR_ARGUMENT, "descent_bench: batch_size %lld: must be at least 1, as there is no dataset",
                   (long long)options->batch_size));
  TRY(check_seconds("descent_bench", seconds));
  TRY(check_train_options(network, device, options));
done:
  return status;
}

descent_status descent_bench(const descent_network *network, descent_device *device,
                             const descent_train_options *options, double seconds,
                             void (*on_row)(void *user, const descent_bench_row *row), void *user,
                             descent_bench_result *result) {
  descent_train_options complete;
  descent_status status;
  TRY(complete_train_options(options, &complete));
  TRY(check_communicator(&complete));
  TRY(communicator_agree(complete.ranks.communicator, check_bench(network, device, &complete, seconds, result)));
  const struct subject subject = {.options = &complete, .rows = complete.batch_size};
  TRY(measure_subject(network, device, &subject, seconds, on_row, user, result));
done:
  return status;
}

descent_status descent_bench_predict_with(const descent_network *network, descent_device *device,
                                          const descent_predict_options *options, int64_t rows, double seconds,
                                          void (*on_row)(void *user, const descent_bench_row *row), void *user,
                                          descent_bench_result *result) {
  struct subject subject = {.rows = rows};
  descent_status status;
  TRY(handle_check(network, HANDLE_NETWORK, "network"));
  TRY(device_check(device, "device"));
  TRY(argument_check(result, "result"));
  const int64_t most = program_evaluation_block(network, device, INT64_MAX);
  if (rows < 1 || rows > most)
    TRY(status_set(DESCENT_ERROR_ARGUMENT,
                   "rows %lld: must be between 1 and %lld, the most that this device predicts at a time",
                   (long long)rows, (long long)most));
  TRY(check_seconds("descent_bench_predict", seconds));
  TRY(check_predict_options(device, options, &subject.predict));
  TRY(measure_subject(network, device, &subject, seconds, on_row, user, result));
done:
  return status;
}

descent_status descent_bench_predict(const descent_network *network, descent_device *device, int64_t rows,
                                     double seconds, void (*on_row)(void *user, const descent_bench_row *row),
                                     void *user, descent_bench_result *result) {
  const descent_predict_options options = descent_predict_options_default();
  return descent_bench_predict_with(network, device, &options, rows, seconds, on_row, user, result);
}
