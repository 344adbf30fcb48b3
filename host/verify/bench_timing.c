/* Takes the samples of a measurement. Each round times everything once, so that a disturbance of the machine affects
 * all timings alike. The state is restored before each timing: otherwise the network would train on, and its moments could
 * decay to denormal numbers, which are slow. With several ranks all make the same calls in the same order, since some
 * wait for the others; operations then run inside steps, so that allreduce has the wait that it has there. */
#include <math.h>
#include <stdlib.h>

#include "core/clock.h"
#include "core/communicator.h"
#include "core/memory.h"
#include "core/status.h"
#include "plan/operations.h"
#include "verify/bench_internal.h"

enum {
  MAX_REPEAT = 1 << 20,
  /* Updates alone, with the same gradient, between two restorations of the state. A moment may halve with each, and
   * 2^-64 of a gradient is still far from the denormal numbers. */
  MAX_UPDATES = 64
};

/* ---- ranks ---- */

descent_status bench_agree(struct bench *b, descent_status own) {
  const descent_status status = communicator_agree(b->communicator, own);
  b->ended = status != DESCENT_OK;
  return status;
}

descent_status bench_follow(struct bench *b, descent_status own, int64_t *value) {
  descent_status status;
  TRY(bench_agree(b, own));
  TRY(communicator_broadcast(b->communicator, value, sizeof *value));
done:
  return status;
}

/* ---- state ---- */

static void state_buffers(const struct bench *b, int buffers[3]) {
  buffers[0] = b->program.at.parameters;
  buffers[1] = b->program.at.moment1;
  buffers[2] = b->program.at.moment2;
}

descent_status bench_save_state(struct bench *b) {
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
descent_status bench_check_divergence(struct bench *b) {
  double bad;
  descent_status status = program_read(&b->program, b->program.at.scalars, SCALAR_BAD_STEP, 1, PLAN_F64, &bad);
  if (status == DESCENT_OK && bad != 0)
    status = status_set(DESCENT_ERROR_DIVERGED,
                        "training on the synthetic rows diverged at step %.0f: lower the learning rate", bad);
  return status;
}

/* Combine adds to the gradients in place: repeated alone, it would multiply them without limit. Allreduce of several
 * ranks does too, but runs inside steps only. */
static bool adds_in_place(const struct bench *b, const struct bench_timing *timing) {
  return timing->op >= 0 && b->plan->ops[timing->op].kind == OP_COMBINE;
}

static descent_status zero_gradients(struct bench *b) {
  const struct plan_handles *const at = &b->program.at;
  static const double none = 0;
  descent_status status;
  TRY(program_write(&b->program, at->gradients, 0, b->plan->buffers[at->gradients].cols, PLAN_F32, b->zeros));
  TRY(program_write(&b->program, at->scalars, SCALAR_LOSS, 1, PLAN_F64, &none));
  const struct plan_buffer *const partial = &b->plan->buffers[at->partial_gradients];
  for (int64_t level = 0; level < partial->rows; level++) {
    TRY(program_write(&b->program, at->partial_gradients, level * partial->cols, partial->cols, PLAN_F32, b->zeros));
    TRY(program_write(&b->program, at->partial_losses, level, 1, PLAN_F64, &none));
  }
done:
  return status;
}

/* ---- timing ---- */

descent_status bench_run_steps(struct bench *b, int64_t n) {
  const int64_t at_once = b->n_parts == 1 ? n : 1;
  descent_status status = DESCENT_OK;
  for (int64_t s = 0; s < n; s += at_once)
    for (int p = 0; p < b->n_parts; p++) {
      const struct bench_part *const part = &b->parts[p];
      TRY(program_run(&b->program, part->range, part->steps + s * part->executions, at_once * part->executions));
    }
done:
  return status;
}

static descent_status synchronise(struct bench *b) {
  const struct backend *backend = b->program.backend;
  return backend->synchronise ? backend->synchronise(b->program.compiled) : DESCENT_OK;
}

/* The products of an operation in so many steps, with the rows of their parts. */
static descent_status run_products(struct bench *b, const struct bench_part *part, int op, int64_t steps) {
  const struct backend *const backend = b->program.backend;
  const struct bench_rows rows = bench_rows(part);
  const int64_t least = steps * (part->executions - rows.larger), larger = steps * rows.larger;
  descent_status status = DESCENT_OK;
  TRY(backend->run_product(b->program.compiled, op, rows.least, (int)least));
  if (larger > 0) TRY(backend->run_product(b->program.compiled, op, rows.least + 1, (int)larger));
done:
  return status;
}

static descent_status run_timing(struct bench *b, const struct bench_timing *timing, double *seconds) {
  const struct bench_part *const part = &b->parts[timing->part];
  descent_status status = DESCENT_OK;
  TRY(synchronise(b));
  double start = clock_seconds();
  if (timing->op < 0)
    TRY(bench_run_steps(b, timing->repeat));
  else if (timing->product)
    TRY(run_products(b, part, timing->op, timing->repeat));
  else
    TRY(program_run(&b->program, (struct plan_range){timing->op, 1}, part->steps, timing->repeat * part->executions));
  TRY(synchronise(b));
  *seconds = (clock_seconds() - start) / (double)timing->repeat;
done:
  return status;
}

/* As backend->time, of the operations only. They follow each other without a gap, so that their times add up to the
 * step's. */
static descent_status time_by_clock(struct bench *b, struct plan_range range, const struct plan_step *steps, int64_t n,
                                    double *seconds) {
  descent_status status;
  for (int i = 0; i < range.count; i++) seconds[i] = 0;
  TRY(synchronise(b));
  double before = clock_seconds();
  for (int64_t s = 0; s < n; s++)
    for (int i = 0; i < range.count; i++) {
      TRY(program_run(&b->program, (struct plan_range){range.first + i, 1}, &steps[s], 1));
      TRY(synchronise(b));
      const double after = clock_seconds();
      seconds[i] += (after - before) / (double)n;
      before = after;
    }
done:
  return status;
}

/* Adds the times of some steps, from the first record on, to the current samples of a part's operations and products;
 * `share`: of these steps among all. `op` and `product` are the timings of the part's first ones. */
static descent_status add_inside(struct bench *b, const struct bench_part *part, int64_t first, int64_t steps,
                                 double share, struct bench_timing *op, struct bench_timing *product) {
  const int count = part->range.count;
  const struct plan_step *const records = part->steps + first * part->executions;
  const int64_t n = steps * part->executions;
  descent_status status;
  if (b->by_clock)
    TRY(time_by_clock(b, part->range, records, n, b->inside));
  else
    TRY(b->program.backend->time(b->program.compiled, part->range, records, n, b->inside, b->inside + count));
  for (int i = 0; i < count; i++) {
    op[i].samples[b->rounds] += b->inside[i] * part->executions * share;
    if (!b->by_clock && plan_has_product(&b->plan->ops[part->range.first + i]))
      (product++)->samples[b->rounds] += b->inside[count + i] * part->executions * share;
  }
done:
  return status;
}

static int count_products(const struct bench *b, const struct bench_part *part) {
  int n = 0;
  for (int i = 0; i < part->range.count; i++) n += plan_has_product(&b->plan->ops[part->range.first + i]);
  return n;
}

/* Takes one sample of each operation inside a step, and of each product if the backend times it there. Of a step in
 * micro-batches, both ranges of each step run in turn, so that every finish has the gradients of its step. */
static descent_status time_inside(struct bench *b) {
  const int64_t at_once = b->n_parts == 1 ? b->inside_steps : 1;
  descent_status status = DESCENT_OK;
  for (int i = 1; i < bench_first_alone(b); i++) b->timings[i].samples[b->rounds] = 0;
  if (b->by_clock) TRY(bench_run_steps(b, 1)); /* ranks that do not begin together are together after a step */
  for (int64_t s = 0; s < b->inside_steps; s += at_once) {
    struct bench_timing *op = &b->timings[1], *product = op + b->n_ops;
    for (int p = 0; p < b->n_parts; p++) {
      const struct bench_part *const part = &b->parts[p];
      TRY(add_inside(b, part, s, at_once, (double)at_once / (double)b->inside_steps, op, product));
      op += part->range.count;
      product += count_products(b, part);
    }
  }
done:
  return status;
}

/* Restores the state before the timings that change it (the step and the update), and after that of the step. */
static descent_status prepare(struct bench *b, int index) {
  const struct bench_timing *const timing = &b->timings[index];
  if (adds_in_place(b, timing)) return zero_gradients(b);
  const bool changes_state = index == 0 || b->plan->ops[timing->op].kind == OP_UPDATE;
  return changes_state || index == 1 ? restore_state(b) : DESCENT_OK;
}

/* Products timed alone, and gradients that were zeroed, leave wrong values; one step makes all buffers valid again. */
static descent_status restore_buffers(struct bench *b) {
  descent_status status;
  TRY(bench_agree(b, restore_state(b)));
  TRY(bench_run_steps(b, 1));
done:
  return status;
}

/* ---- calibration ---- */

static int64_t max_repeats(const struct bench *b, const struct bench_timing *timing) {
  if (timing->product) {
    const int64_t most = MAX_REPEAT / b->parts[timing->part].executions;
    return most ? most : 1;
  }
  const bool updates = timing->op >= 0 && b->plan->ops[timing->op].kind == OP_UPDATE;
  return updates && b->max_steps > MAX_UPDATES ? MAX_UPDATES : b->max_steps;
}

descent_status bench_calibrate(struct bench *b, int index, double budget) {
  struct bench_timing *const timing = &b->timings[index];
  const int64_t most = max_repeats(b, timing);
  descent_status status;
  TRY(bench_agree(b, prepare(b, index)));
  for (int64_t next = 1; next;) {
    double each = 0;
    timing->repeat = next;
    status = run_timing(b, timing, &each);
    if (2 * each * (double)next > budget || next == most)
      next = 0;
    else
      next = 2 * next < most ? 2 * next : most;
    TRY(bench_follow(b, status, &next));
  }
  if (adds_in_place(b, timing)) TRY(restore_buffers(b));
done:
  return status;
}

descent_status bench_calibrate_inside(struct bench *b, double budget) {
  enum { MAX_INSIDE_STEPS = 64 };
  const int64_t most = b->max_steps < MAX_INSIDE_STEPS ? b->max_steps : MAX_INSIDE_STEPS;
  descent_status status;
  static const int steps[] = {1, 1, 5}; /* the first includes one-time work of the device */
  double seconds[3];
  for (int i = 0; i < 3; i++) {
    b->inside_steps = steps[i];
    TRY(bench_agree(b, restore_state(b)));
    double start = clock_seconds();
    TRY(time_inside(b));
    seconds[i] = clock_seconds() - start;
  }
  const double each = fmax((seconds[2] - seconds[1]) / 4, 1e-9), fit = (budget - (seconds[1] - each)) / each;
  /* Rows of few steps, which no disturbance meets, would add up to less than a row of many steps. */
  const double least = b->by_clock ? (double)b->timings[0].repeat : 1;
  b->inside_steps = fmax(fit, least) > (double)most ? most : (int64_t)fmax(fit, least);
  TRY(bench_follow(b, DESCENT_OK, &b->inside_steps));
done:
  return status;
}

/* ---- rounds ---- */

static descent_status take_sample(struct bench *b, int index) {
  struct bench_timing *const timing = &b->timings[index];
  descent_status status;
  TRY(bench_agree(b, prepare(b, index))); /* so that ranks begin together */
  TRY(bench_agree(b, run_timing(b, timing, &timing->samples[b->rounds])));
  if (adds_in_place(b, timing)) TRY(restore_buffers(b));
done:
  return status;
}

descent_status bench_run_round(struct bench *b) {
  descent_status status;
  TRY(restore_buffers(b));
  TRY(take_sample(b, 0));
  if (b->inside) {
    TRY(bench_agree(b, restore_state(b)));
    TRY(bench_agree(b, time_inside(b)));
  }
  for (int i = bench_first_alone(b); i < b->n_timings; i++) TRY(take_sample(b, i));
  TRY(bench_check_divergence(b));
  b->rounds++;
done:
  return status;
}
