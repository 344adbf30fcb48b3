/* Times the training plan of a network: the whole step, each operation and each matrix product, and measures the
 * device's ceilings in the same run. Operations are timed inside a step if the backend can do that, else alone. Each
 * round times everything once, and the median over the rounds is reported, so that a disturbance of the machine affects
 * all timings alike. The state is restored before each timing: otherwise the network would train on, and its moments
 * could decay to denormal numbers, which are slow. */
#include <math.h>
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
  struct plan_range range = timing->op < 0 ? b->plan->train : (struct plan_range){timing->op, 1};
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
  const int count = b->plan->train.count;
  struct timing *product = &b->timings[1 + count];
  descent_status status = DESCENT_OK;
  TRY(b->program.backend->time(b->program.compiled, b->plan->train, b->steps, b->inside_steps, b->inside,
                               b->inside + count));
  for (int i = 0; i < count; i++) {
    b->timings[1 + i].samples[b->rounds] = b->inside[i];
    if (plan_has_product(&b->plan->ops[b->plan->train.first + i]))
      (product++)->samples[b->rounds] = b->inside[count + i];
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
  return status == DESCENT_OK ? program_run(&b->program, b->plan->train, b->steps, 1) : status;
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

static descent_status compile(struct bench *b, const descent_network *network, descent_device *device,
                              const descent_train_options *options) {
  descent_status status = DESCENT_OK;
  const int64_t rows = source_rows(network, options->batch_size);
  TRY(check_train_options(network, options));
  TRY(synthetic_create(network, rows, options->seed, &b->data));
  b->data.storage.weights = NULL; /* like most data: no weights, and not a view */
  b->data.dataset.index = NULL;
  TRY(program_create(network, device, options, options->batch_size, 0, b->data.class_weights, &b->program));
  TRY(program_bind(&b->program, &b->data.dataset));
  b->plan = b->program.plan;
  b->steps = memory_allocate(MAX_STEPS, sizeof *b->steps, "the steps");
  if (!b->steps) return DESCENT_ERROR_MEMORY;
  b->order = permutation_create(options->seed, RNG_SHUFFLE, 1, (uint64_t)rows);
  for (int64_t i = 0; i < MAX_STEPS; i++)
    b->steps[i] = (struct plan_step){.number = i + 1,
                                     .first_row = i * options->batch_size % rows,
                                     .rows = options->batch_size,
                                     .learning_rate = options->optimizer.learning_rate,
                                     .order = &b->order};
done:
  return status;
}

static descent_status list_timings(struct bench *b) {
  const int first = b->plan->train.first, end = first + b->plan->train.count;
  b->timings = memory_allocate(1 + 2 * (int64_t)b->plan->train.count, sizeof *b->timings, "the timings");
  if (!b->timings) return DESCENT_ERROR_MEMORY;
  b->timings[b->n_timings++] = (struct timing){.op = -1};
  for (int op = first; op < end; op++) b->timings[b->n_timings++] = (struct timing){.op = op};
  for (int op = first; op < end; op++)
    if (plan_has_product(&b->plan->ops[op])) b->timings[b->n_timings++] = (struct timing){.op = op, .product = true};
  if (b->program.backend->time)
    b->inside = memory_allocate(2 * (int64_t)b->plan->train.count, sizeof *b->inside, "the timings");
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

static void report(struct bench *b, void (*on_row)(void *user, const descent_bench_row *row), void *user,
                   descent_bench_result *result) {
  const struct backend *const backend = b->program.backend;
  descent_bench_row step = {.operation = "step", .path = ""};
  step.seconds = median(b->timings[0].samples, b->rounds);
  struct timing *product = &b->timings[1 + b->plan->train.count]; /* in the order of their ops */
  for (int i = 1; i <= b->plan->train.count; i++) {
    char name[64], path[BACKEND_PATH] = "";
    struct timing *timing = &b->timings[i];
    const struct plan_op *op = &b->plan->ops[timing->op];
    descent_bench_row row = {.operation = name, .path = path, .seconds = median(timing->samples, b->rounds)};
    plan_op_name(op, name, sizeof name);
    if (backend->path) backend->path(b->program.compiled, b->plan->train, timing->op, path);
    plan_op_cost(b->plan, op, b->plan->batch, &row.flops, &row.bytes);
    row.floor_seconds = floor_seconds(result, row.flops, row.bytes);
    if (plan_has_product(op)) row.gemm_seconds = median((product++)->samples, b->rounds);
    step.flops += row.flops;
    step.bytes += row.bytes;
    step.gemm_seconds += row.gemm_seconds;
    if (on_row) on_row(user, &row);
  }
  step.floor_seconds = floor_seconds(result, step.flops, step.bytes);
  if (on_row) on_row(user, &step);
  result->step_seconds = step.seconds;
  result->step_seconds_min = b->timings[0].samples[0];
  result->step_seconds_max = b->timings[0].samples[b->rounds - 1];
  result->gemm_seconds = step.gemm_seconds;
  result->memory = backend->memory(b->program.compiled);
}

descent_status descent_bench(const descent_network *network, descent_device *device,
                             const descent_train_options *options, double seconds,
                             void (*on_row)(void *user, const descent_bench_row *row), void *user,
                             descent_bench_result *result) {
  descent_train_options complete;
  struct bench b = {0};
  descent_status status;
  TRY(handle_check(network, HANDLE_NETWORK, "network"));
  TRY(device_check(device, "device"));
  TRY(argument_check(result, "result"));
  TRY(complete_train_options(options, &complete));
  options = &complete;
  if (options->batch_size < 1)
    TRY(status_set(DESCENT_ERROR_ARGUMENT, "descent_bench: batch_size %lld: must be at least 1, as there is no dataset",
                   (long long)options->batch_size));
  if (!(seconds > 0) || !isfinite(seconds))
    TRY(status_set(DESCENT_ERROR_ARGUMENT, "descent_bench: seconds %g: must be finite and > 0", seconds));
  descent_bench_result measured = {0};
  TRY(compile(&b, network, device, options));
  TRY(list_timings(&b));
  TRY(program_run(&b.program, b.plan->train, b.steps, 2)); /* warm-up: every buffer is used, and moments are not 0 */
  TRY(check_divergence(&b));
  TRY(save_state(&b));
  TRY(time_all(&b, device, options->precision, seconds, &measured));
  report(&b, on_row, user, &measured);
  *result = measured;
done:
  program_clear(&b.program);
  for (int i = 0; i < 3; i++) free(b.state[i]);
  synthetic_clear(&b.data);
  free(b.steps);
  free(b.timings);
  free(b.inside);
  return status;
}
