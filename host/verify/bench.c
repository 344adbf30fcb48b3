/* Times a range of a network's plan, a training step or a prediction: the whole, each operation and each matrix
 * product, and measures the device's ceilings in the same run. Operations are timed inside a step if the backend can do
 * that, else alone; those that one kernel computes together make one row. Each round times everything once, and the
 * median over the rounds is reported, so that a disturbance of the machine affects all timings alike. The state is
 * restored before each timing: otherwise the network would train on, and its moments could decay to denormal numbers,
 * which are slow. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "backend/program.h"
#include "core/clock.h"
#include "core/memory.h"
#include "core/options.h"
#include "core/rng.h"
#include "core/status.h"
#include "plan/operations.h"
#include "train/check.h"
#include "verify/synthetic.h"

enum {
  MAX_ROUNDS = 64,
  MIN_ROUNDS = 3,
  MAX_REPEAT = 1 << 20,
  MAX_STEPS = 4096, /* per timing of the step or of an operation */
  /* Updates alone, with the same gradient, between two restorations of the state. A moment may halve with each, and
   * 2^-64 of a gradient is still far from the denormal numbers. */
  MAX_UPDATES = 64,
  BATCHES = 16 /* the rows of the data, in batches: enough that gather reads memory that is not cached */
};
static const int64_t max_source_bytes = INT64_C(256) << 20; /* fewer rows if BATCHES batches exceed it */
static const double step_share = 1.0 / 3;                   /* of the time of a round, for the whole step */

/* The timing of one op or, for op < 0, of the whole step; `product`: only of the op's matrix product. */
struct timing {
  int op;
  bool product;
  int64_t repeat;             /* executions per sample */
  double samples[MAX_ROUNDS]; /* (rounds) seconds per execution */
};

struct bench {
  struct program program;
  const struct plan *plan; /* the program's */
  struct plan_range range; /* what is timed */
  int *group;              /* (range.count) of each op the first one that is computed with it, counted in the range */
  struct synthetic data;
  struct permutation order;
  struct plan_step *steps; /* (MAX_STEPS) */
  float *state[3];         /* parameters, moment1, moment2 after the warm-up, if the backend cannot save them */
  struct timing *timings;  /* (n_timings) the step, every op, then the products */
  int n_timings, rounds;
  double *inside;       /* (2 train.count) seconds of the operations and of their products, from backend->time */
  int64_t inside_steps; /* steps per sample; 0: operations are timed alone */
};

/* ---- state ---- */

static void state_buffers(const struct bench *b, int buffers[3]) {
  buffers[0] = b->program.at.parameters;
  buffers[1] = b->program.at.moment1;
  buffers[2] = b->program.at.moment2;
}

static descent_status save_state(struct bench *b) {
  const struct backend *backend = b->program.backend;
  descent_status status = DESCENT_OK;
  int buffers[3];
  state_buffers(b, buffers);
  for (int i = 0; i < 3; i++) {
    if (buffers[i] == PLAN_NONE) continue;
    const int64_t count = b->plan->buffers[buffers[i]].cols;
    if (backend->save) {
      TRY(backend->save(b->program.compiled, buffers[i]));
      continue;
    }
    b->state[i] = memory_allocate(count, sizeof *b->state[i], "a copy of the parameters");
    if (!b->state[i]) return DESCENT_ERROR_MEMORY;
    TRY(program_read(&b->program, buffers[i], 0, count, PLAN_F32, b->state[i]));
  }
done:
  return status;
}

static descent_status restore_state(struct bench *b) {
  const struct backend *backend = b->program.backend;
  descent_status status = DESCENT_OK;
  int buffers[3];
  state_buffers(b, buffers);
  for (int i = 0; i < 3; i++) {
    if (buffers[i] == PLAN_NONE) continue;
    if (backend->restore)
      TRY(backend->restore(b->program.compiled, buffers[i]));
    else
      TRY(program_write(&b->program, buffers[i], 0, b->plan->buffers[buffers[i]].cols, PLAN_F32, b->state[i]));
  }
done:
  return status;
}

/* The backend skips the update of a diverged step, which would make its time too short. */
static descent_status check_divergence(struct bench *b) {
  double bad;
  descent_status status = program_read(&b->program, b->program.at.scalars, SCALAR_BAD_STEP, 1, PLAN_F64, &bad);
  if (status == DESCENT_OK && bad != 0)
    status = status_set(DESCENT_ERROR_DIVERGED,
                        "training on the synthetic rows diverged at step %.0f: lower the learning rate", bad);
  return status;
}

/* ---- timing ---- */

static descent_status synchronise(struct bench *b) {
  const struct backend *backend = b->program.backend;
  return backend->synchronise ? backend->synchronise(b->program.compiled) : DESCENT_OK;
}

static descent_status run_timing(struct bench *b, const struct timing *timing, int64_t repeat, double *seconds) {
  descent_status status = DESCENT_OK;
  struct plan_range range = timing->op < 0 ? b->range : (struct plan_range){timing->op, 1};
  TRY(synchronise(b));
  double start = clock_seconds();
  if (timing->product)
    TRY(b->program.backend->run_product(b->program.compiled, timing->op, b->plan->batch, (int)repeat));
  else
    TRY(program_run(&b->program, range, b->steps, repeat));
  TRY(synchronise(b));
  *seconds = (clock_seconds() - start) / (double)repeat;
done:
  return status;
}

/* Takes one sample of each operation and of each product inside a step. */
static descent_status time_inside(struct bench *b) {
  const int count = b->range.count;
  struct timing *product = &b->timings[1 + count];
  descent_status status = DESCENT_OK;
  TRY(b->program.backend->time(b->program.compiled, b->range, b->steps, b->inside_steps, b->inside, b->inside + count));
  for (int i = 0; i < count; i++) {
    b->timings[1 + i].samples[b->rounds] = b->inside[i];
    if (plan_has_product(&b->plan->ops[b->range.first + i])) (product++)->samples[b->rounds] = b->inside[count + i];
  }
done:
  return status;
}

static int64_t max_repeats(const struct bench *b, const struct timing *timing) {
  if (timing->product) return MAX_REPEAT;
  return timing->op >= 0 && b->plan->ops[timing->op].kind == OP_UPDATE ? MAX_UPDATES : MAX_STEPS;
}

/* Sets timing->repeat so that a sample takes about `budget` seconds. */
static descent_status calibrate(struct bench *b, struct timing *timing, double budget) {
  descent_status status = DESCENT_OK;
  const int64_t most = max_repeats(b, timing);
  timing->repeat = 1;
  for (;;) {
    double each;
    TRY(run_timing(b, timing, timing->repeat, &each));
    if (2 * each * (double)timing->repeat > budget || timing->repeat == most) break;
    timing->repeat = 2 * timing->repeat < most ? 2 * timing->repeat : most;
  }
done:
  return status;
}

/* Sets inside_steps so that timing all operations and products inside steps takes about `budget` seconds. */
static descent_status calibrate_inside(struct bench *b, double budget) {
  enum { MAX_INSIDE_STEPS = 64 };
  descent_status status;
  static const int steps[] = {1, 1, 5}; /* the first includes one-time work of the device */
  double seconds[3];
  for (int i = 0; i < 3; i++) {
    b->inside_steps = steps[i];
    TRY(restore_state(b));
    const double start = clock_seconds();
    TRY(time_inside(b));
    seconds[i] = clock_seconds() - start;
  }
  const double each = fmax((seconds[2] - seconds[1]) / 4, 1e-9), fit = (budget - (seconds[1] - each)) / each;
  b->inside_steps = fit < 1 ? 1 : fit > MAX_INSIDE_STEPS ? MAX_INSIDE_STEPS : (int64_t)fit;
done:
  return status;
}

/* Restores the state before the timings that change it (the step and the update), and after that of the step. */
static descent_status prepare(struct bench *b, int index) {
  const bool changes_state = index == 0 || b->plan->ops[b->timings[index].op].kind == OP_UPDATE;
  return changes_state || index == 1 ? restore_state(b) : DESCENT_OK;
}

/* Products timed alone leave wrong values in their output buffers; one step makes all buffers valid again. */
static descent_status restore_buffers(struct bench *b) {
  descent_status status = restore_state(b);
  return status == DESCENT_OK ? program_run(&b->program, b->range, b->steps, 1) : status;
}

/* Takes one sample of each timing. */
static descent_status run_round(struct bench *b) {
  descent_status status = DESCENT_OK;
  TRY(restore_buffers(b));
  for (int i = 0; i < (b->inside_steps ? 1 : b->n_timings); i++) {
    TRY(prepare(b, i));
    TRY(run_timing(b, &b->timings[i], b->timings[i].repeat, &b->timings[i].samples[b->rounds]));
  }
  if (b->inside_steps) {
    TRY(restore_state(b));
    TRY(time_inside(b));
  }
  TRY(check_divergence(b));
  b->rounds++;
done:
  return status;
}

static int compare_doubles(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* Also sorts the samples. */
static double median(double *samples, int n) {
  qsort(samples, (size_t)n, sizeof *samples, compare_doubles);
  return n % 2 ? samples[n / 2] : 0.5 * (samples[n / 2 - 1] + samples[n / 2]);
}

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
  int64_t rows; /* of a step */
};

static descent_status create_program(struct bench *b, const descent_network *network, descent_device *device,
                                     const struct subject *subject) {
  if (!subject->options)
    return program_create_prediction(network, device, &subject->predict, 0, subject->rows, &b->program);
  return program_create(network, device, subject->options, subject->rows, 0, b->data.class_weights, &b->program);
}

static descent_status compile(struct bench *b, const descent_network *network, descent_device *device,
                              const struct subject *subject) {
  const descent_train_options *const options = subject->options;
  const int64_t batch = subject->rows;
  descent_status status = DESCENT_OK;
  const int64_t rows = source_rows(network, batch);
  const uint64_t seed = options ? options->seed : 0;
  TRY(synthetic_create(network, rows, seed, &b->data));
  b->data.storage.weights = NULL; /* like most data: no weights, and not a view */
  b->data.dataset.index = NULL;
  TRY(create_program(b, network, device, subject));
  TRY(program_bind(&b->program, &b->data.dataset));
  b->plan = b->program.plan;
  b->range = options ? b->plan->train : b->plan->predict;
  b->steps = memory_allocate(MAX_STEPS, sizeof *b->steps, "the steps");
  if (!b->steps) return DESCENT_ERROR_MEMORY;
  b->order = permutation_create(seed, RNG_SHUFFLE, 1, (uint64_t)rows);
  for (int64_t i = 0; i < MAX_STEPS; i++)
    b->steps[i] = (struct plan_step){.number = i + 1,
                                     .first_row = i * batch % rows,
                                     .rows = batch,
                                     .learning_rate = options ? options->optimizer.learning_rate : 0,
                                     .order = options ? &b->order : NULL};
done:
  return status;
}

static descent_status list_groups(struct bench *b) {
  const struct backend *const backend = b->program.backend;
  const int first = b->range.first;
  b->group = memory_allocate(b->range.count, sizeof *b->group, "the groups of operations");
  if (!b->group) return DESCENT_ERROR_MEMORY;
  for (int i = 0; i < b->range.count; i++)
    b->group[i] = backend->fused_with ? backend->fused_with(b->program.compiled, b->range, first + i) - first : i;
  return DESCENT_OK;
}

static descent_status list_timings(struct bench *b) {
  const int first = b->range.first, end = first + b->range.count;
  b->timings = memory_allocate(1 + 2 * (int64_t)b->range.count, sizeof *b->timings, "the timings");
  if (!b->timings) return DESCENT_ERROR_MEMORY;
  b->timings[b->n_timings++] = (struct timing){.op = -1};
  for (int op = first; op < end; op++) b->timings[b->n_timings++] = (struct timing){.op = op};
  for (int op = first; op < end; op++)
    if (plan_has_product(&b->plan->ops[op])) b->timings[b->n_timings++] = (struct timing){.op = op, .product = true};
  if (b->program.backend->time)
    b->inside = memory_allocate(2 * (int64_t)b->range.count, sizeof *b->inside, "the timings");
  return b->program.backend->time && !b->inside ? DESCENT_ERROR_MEMORY : DESCENT_OK;
}

/* The ceilings are the best of several measurements during the run, since a disturbance can only lower them. */
static descent_status measure(const descent_device *device, descent_precision precision, descent_bench_result *result) {
  double flops, bandwidth;
  descent_status status = device->backend->measure(device->device, precision, &flops, &bandwidth);
  if (status != DESCENT_OK) return status;
  result->peak_flops = fmax(result->peak_flops, flops);
  result->peak_bandwidth = fmax(result->peak_bandwidth, bandwidth);
  return DESCENT_OK;
}

/* Many short rounds rather than a few long ones: the median is robust if fewer than half of them are disturbed. */
static descent_status time_all(struct bench *b, const descent_device *device, descent_precision precision,
                               double seconds, descent_bench_result *result) {
  enum { ROUNDS = 40, ROUNDS_BETWEEN_CEILINGS = 16 };
  descent_status status = DESCENT_OK;
  const double round = seconds / ROUNDS, op_budget = round * (1 - step_share) / (b->n_timings - 1);
  const double start = clock_seconds();
  for (int i = 0; i < (b->inside ? 1 : b->n_timings); i++) {
    TRY(prepare(b, i));
    TRY(calibrate(b, &b->timings[i], i == 0 ? round * step_share : op_budget));
  }
  if (b->inside) TRY(calibrate_inside(b, round * (1 - step_share)));
  while (b->rounds < MIN_ROUNDS || (b->rounds < MAX_ROUNDS && clock_seconds() - start < seconds)) {
    if (b->rounds % ROUNDS_BETWEEN_CEILINGS == 0) TRY(measure(device, precision, result));
    TRY(run_round(b));
  }
  TRY(measure(device, precision, result));
done:
  return status;
}

/* ---- results ---- */

static double floor_seconds(const descent_bench_result *result, double flops, double bytes) {
  return fmax(flops / result->peak_flops, bytes / result->peak_bandwidth);
}

/* Is op i of the range computed with later ones? `text`: "layers 1 to 5", all that they belong to, "all operations" of
 * the range, or the op's name. */
static bool name_group(const struct bench *b, int i, char *text, size_t size) {
  const struct plan_op *const ops = &b->plan->ops[b->range.first];
  int members = 0, lowest = 0, highest = 0;
  for (int j = i; j < b->range.count; j++) {
    if (b->group[j] != i) continue;
    members++;
    if (ops[j].layer && (!lowest || ops[j].layer < lowest)) lowest = ops[j].layer;
    if (ops[j].layer > highest) highest = ops[j].layer;
  }
  if (members == 1 || !highest)
    plan_op_name(&ops[i], text, size);
  else if (members == b->range.count)
    snprintf(text, size, "all operations");
  else if (lowest == highest)
    snprintf(text, size, "layer %d", highest);
  else
    snprintf(text, size, "layers %d to %d", lowest, highest);
  return members > 1;
}

/* The least work of a group. The plan counts an index of the gather's rows, and the rows have none. */
static void group_cost(const struct bench *b, int number, double *flops, double *bytes) {
  plan_group_cost(b->plan, b->range, b->group, number, b->plan->batch, flops, bytes);
  for (int i = 0; i < b->range.count; i++) {
    const struct plan_op *const op = &b->plan->ops[b->range.first + i];
    if (b->group[i] == number && op->kind == OP_GATHER && op->gather.source_index != PLAN_NONE)
      *bytes -= (double)b->plan->batch * (double)sizeof(int64_t);
  }
}

/* The least memory traffic of a prediction: that of one kernel. A training step has to store gradients in between. */
static double prediction_bytes(const struct bench *b) {
  double flops, bytes;
  int *const together = b->group; /* no longer used */
  for (int i = 0; i < b->range.count; i++) together[i] = 0;
  group_cost(b, 0, &flops, &bytes);
  return bytes;
}

static void report(struct bench *b, bool predicts, void (*on_row)(void *user, const descent_bench_row *row), void *user,
                   descent_bench_result *result) {
  const struct backend *const backend = b->program.backend;
  descent_bench_row step = {.operation = predicts ? "prediction" : "step", .path = ""};
  step.seconds = median(b->timings[0].samples, b->rounds);
  struct timing *products = &b->timings[1 + b->range.count]; /* in the order of their ops */
  for (int i = 0; i < b->range.count; i++) {
    char name[64], path[BACKEND_PATH] = "";
    const int op = b->range.first + i;
    struct timing *const product = plan_has_product(&b->plan->ops[op]) ? products++ : NULL;
    if (b->group[i] != i) continue;
    const bool is_fused = name_group(b, i, name, sizeof name);
    descent_bench_row row = {.operation = name, .path = path, .seconds = median(b->timings[1 + i].samples, b->rounds)};
    if (backend->path) backend->path(b->program.compiled, b->range, op, path);
    group_cost(b, i, &row.flops, &row.bytes);
    row.floor_seconds = floor_seconds(result, row.flops, row.bytes);
    if (is_fused)
      row.gemm_seconds = row.seconds;
    else if (product)
      row.gemm_seconds = median(product->samples, b->rounds);
    step.flops += row.flops;
    step.bytes += row.bytes;
    step.gemm_seconds += row.gemm_seconds;
    if (on_row) on_row(user, &row);
  }
  if (predicts) step.bytes = prediction_bytes(b);
  step.floor_seconds = floor_seconds(result, step.flops, step.bytes);
  if (on_row) on_row(user, &step);
  result->step_seconds = step.seconds;
  result->step_seconds_min = b->timings[0].samples[0];
  result->step_seconds_max = b->timings[0].samples[b->rounds - 1];
  result->gemm_seconds = step.gemm_seconds;
  result->memory = backend->memory(b->program.compiled);
}

/* ---- a training step, a prediction ---- */

static descent_status check_seconds(const char *function, double seconds) {
  if (seconds > 0 && isfinite(seconds)) return DESCENT_OK;
  return status_set(DESCENT_ERROR_ARGUMENT, "%s: seconds %g: must be finite and > 0", function, seconds);
}

static descent_status measure_range(const descent_network *network, descent_device *device,
                                    const struct subject *subject, double seconds,
                                    void (*on_row)(void *user, const descent_bench_row *row), void *user,
                                    descent_bench_result *result) {
  struct bench b = {0};
  descent_bench_result measured = {0};
  descent_status status;
  TRY(compile(&b, network, device, subject));
  TRY(list_groups(&b));
  TRY(list_timings(&b));
  TRY(program_run(&b.program, b.range, b.steps, 2)); /* warm-up: every buffer is used, and moments are not 0 */
  TRY(check_divergence(&b));
  TRY(save_state(&b));
  TRY(time_all(&b, device, b.plan->precision, seconds, &measured));
  report(&b, !subject->options, on_row, user, &measured);
  *result = measured;
done:
  program_clear(&b.program);
  for (int i = 0; i < 3; i++) free(b.state[i]);
  synthetic_clear(&b.data);
  free(b.steps);
  free(b.group);
  free(b.timings);
  free(b.inside);
  return status;
}

descent_status descent_bench(const descent_network *network, descent_device *device,
                             const descent_train_options *options, double seconds,
                             void (*on_row)(void *user, const descent_bench_row *row), void *user,
                             descent_bench_result *result) {
  descent_train_options complete;
  descent_status status;
  TRY(handle_check(network, HANDLE_NETWORK, "network"));
  TRY(device_check(device, "device"));
  TRY(argument_check(result, "result"));
  TRY(complete_train_options(options, &complete));
  if (complete.batch_size < 1)
    TRY(status_set(DESCENT_ERROR_ARGUMENT, "descent_bench: batch_size %lld: must be at least 1, as there is no dataset",
                   (long long)complete.batch_size));
  TRY(check_seconds("descent_bench", seconds));
  TRY(check_train_options(network, device, &complete));
  TRY(check_whole_steps(&complete, "in descent_bench"));
  const struct subject subject = {.options = &complete, .rows = complete.batch_size};
  TRY(measure_range(network, device, &subject, seconds, on_row, user, result));
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
  TRY(measure_range(network, device, &subject, seconds, on_row, user, result));
done:
  return status;
}

descent_status descent_bench_predict(const descent_network *network, descent_device *device, int64_t rows,
                                     double seconds, void (*on_row)(void *user, const descent_bench_row *row),
                                     void *user, descent_bench_result *result) {
  const descent_predict_options options = descent_predict_options_default();
  return descent_bench_predict_with(network, device, &options, rows, seconds, on_row, user, result);
}
