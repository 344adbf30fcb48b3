/* Runs trainings beside each other. In each turn, those advance that are in the earliest phase of their epoch, so none
 * begins the next epoch before all have finished the one that they are in; one that has rolled back finishes that of its
 * checkpoint in this round. A single training is the case of one.
 *
 * A turn of steps lasts about as long as on_pause may wait. Where that is too short for many steps of all, a device that
 * runs them on its threads runs fewer trainings at a time: the first step of each finds the parameters and moments of
 * another one in the caches. On any other device, such as a GPU, all run in each turn, so that it sees the same set. */
#include "train/rounds.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/clock.h"
#include "core/memory.h"
#include "core/status.h"
#include "train/recovery.h"

enum { LEAST_STEPS = 64 }; /* of a training in a turn: reading its state into the caches is then a small part */
static const double step_flops = 1e5; /* that a step takes beside its products; about a microsecond */

struct rounds {
  struct fit *fits;
  int64_t count;
  double turn_work;                  /* flops of all trainings in a turn, adapted to its time */
  struct fit **present;              /* (count) those that advance in this turn; NULL: has ended within it */
  struct program_job *jobs;          /* (count) */
  struct evaluation **evaluations;   /* (count) */
  const descent_epoch_info **epochs; /* (count) */
  bool *stop;                        /* (count) */
  const descent_members_options *options;
};

/* Takes the outcome of a phase: after a divergence, the training returns to a checkpoint, if it can; another failure ends
 * it. True: it continues as the phase says. */
static bool settle(struct fit *f, descent_status status) {
  if (status == DESCENT_OK) return true;
  if (status == DESCENT_ERROR_DIVERGED) status = recovery_roll_back(f);
  if (status == DESCENT_OK)
    fit_continue(f);
  else
    fit_end(f, status);
  return false;
}

/* Those in this phase into r->present; returns their number. */
static int64_t gather(struct rounds *r, enum fit_phase phase) {
  int64_t n = 0;
  for (int64_t i = 0; i < r->count; i++)
    if (r->fits[i].phase == phase) r->present[n++] = &r->fits[i];
  return n;
}

/* settle for present[i], which leaves the turn where it does not continue. */
static void settle_present(struct rounds *r, int64_t i, descent_status status) {
  if (!settle(r->present[i], status)) r->present[i] = NULL;
}

/* ---- steps ------------------------------------------------------------------------------------------------------ */

static int64_t steps_left(const struct fit *f) { return f->epoch_steps - f->at.done; }

/* By falling number of steps left, in the order of r->fits where equal, so that none is left to run alone at the end. */
static int compare_steps_left(const void *a, const void *b) {
  const struct fit *f = *(struct fit *const *)a, *g = *(struct fit *const *)b;
  if (steps_left(f) != steps_left(g)) return steps_left(f) > steps_left(g) ? -1 : 1;
  return f < g ? -1 : f > g;
}

/* How many of `ready` trainings run in a turn at least, and in multiples of: one for each thread. */
static int64_t least_running(const struct rounds *r, int64_t ready) {
  const int64_t threads = r->fits->device->threads;
  return threads < ready ? threads : ready;
}

/* Flops of a step, by which trainings of different size share a turn. */
static double step_work(const struct fit *f) {
  return step_flops + 6 * (double)f->batch * (double)f->trainer->network->n_parameters;
}

static bool some_may_wait(const struct rounds *r) { return r->fits->device->backend->shares_threads; }

/* Keeps those of the first n of r->present that run steps in this turn, and returns their number; *work: flops of these
 * steps. The others wait, with n_steps 0. */
static int64_t prepare_steps(struct rounds *r, int64_t n, double *work) {
  const bool some_wait = some_may_wait(r);
  const int64_t least = least_running(r, n);
  int64_t n_running = 0;
  *work = 0;
  if (some_wait) qsort(r->present, (size_t)n, sizeof *r->present, compare_steps_left);
  for (int64_t i = 0; i < n; i++) {
    struct fit *f = r->present[i];
    const bool is_full = some_wait && n_running && n_running % least == 0 && *work >= r->turn_work;
    f->n_steps = 0;
    if ((is_full && steps_left(f) > 0) || !settle(f, fit_prepare_steps(f))) continue;
    *work += (double)f->n_steps * step_work(f);
    if (f->n_steps)
      r->present[n_running++] = f;
    else
      settle(f, fit_end_steps(f));
  }
  return n_running;
}

/* After a failure of the device: no training whose steps are run together continues, those that wait included. */
static void fail_jobs(struct rounds *r, int64_t n, descent_status status) {
  char text[sizeof r->fits->error];
  snprintf(text, sizeof text, "%s", descent_last_error());
  for (int64_t i = 0; i < r->count; i++)
    if (r->fits[i].phase == FIT_STEPS && !fit_needs_host(&r->fits[i]))
      settle(&r->fits[i], status_set(status, "%s", text));
  for (int64_t i = 0; i < n; i++)
    if (r->present[i]->phase != FIT_STEPS) r->present[i] = NULL;
}

/* Runs the steps of all that need no host in between, in one call. It does not say whose steps were done before one
 * failed. */
static void run_jobs(struct rounds *r, int64_t n) {
  int64_t n_jobs = 0;
  for (int64_t i = 0; i < n; i++) {
    struct fit *f = r->present[i];
    if (!fit_needs_host(f))
      r->jobs[n_jobs++] = (struct program_job){&f->trainer->program, fit_range(f), f->steps, f->n_steps};
  }
  const descent_status status = program_run_together(r->jobs, n_jobs);
  if (status != DESCENT_OK) fail_jobs(r, n, status);
}

/* Steps of a training that take so much work, at least one. */
static int64_t steps_of(const struct fit *f, double work) {
  const double steps = work / step_work(f);
  return steps < 1 ? 1 : steps > FIT_MAX_STEPS ? FIT_MAX_STEPS : (int64_t)steps;
}

/* Fits the next turn of `ready` trainings to the time of this one, in which so much work took `seconds`. */
static void adapt_turn(struct rounds *r, int64_t ready, double work, double seconds) {
  static const double aim = 0.05; /* seconds of a turn */
  const double twice = 2 * (work > r->turn_work ? work : r->turn_work);
  r->turn_work = work * aim < twice * seconds ? work * aim / seconds : twice;
  const double alone = r->turn_work / (double)least_running(r, ready); /* of each if as few as possible run */
  for (int64_t i = 0; i < r->count; i++) {
    struct fit *f = &r->fits[i];
    if (f->phase == FIT_ENDED) continue;
    const int64_t shared = steps_of(f, r->turn_work / (double)ready), most = steps_of(f, alone);
    f->steps_per_run = shared >= LEAST_STEPS ? shared : most < LEAST_STEPS ? most : LEAST_STEPS;
  }
}

/* Where all run in each turn: more steps of each while a turn is short, fewer when pauses would come too rarely. A power
 * of two, which a GPU divides into few graphs. */
static void adapt_steps_of_each(struct rounds *r, double seconds) {
  static const double shortest = 0.025, longest = 0.1; /* seconds of a turn */
  for (int64_t i = 0; i < r->count; i++) {
    int64_t *const each = &r->fits[i].steps_per_run;
    if (seconds < shortest && *each < FIT_MAX_STEPS) *each *= 2;
    if (seconds > longest && *each > 1) *each /= 2;
  }
}

static void pause_waiting(struct rounds *r, double seconds) {
  for (int64_t i = 0; i < r->count; i++) {
    struct fit *f = &r->fits[i];
    if (f->phase == FIT_STEPS && f->n_steps == 0) settle(f, fit_wait(f, seconds));
  }
}

/* A training that has left the turn does not agree with other ranks on its steps, so its clock must not change them. */
static bool any_present(const struct rounds *r, int64_t n) {
  for (int64_t i = 0; i < n; i++)
    if (r->present[i]) return true;
  return false;
}

/* Of the first `ready` of r->present. */
static void run_steps(struct rounds *r, int64_t ready) {
  const double started = clock_seconds();
  double work;
  const int64_t n = prepare_steps(r, ready, &work);
  const double ran = clock_seconds();
  run_jobs(r, n);
  for (int64_t i = 0; i < n; i++)
    if (r->present[i] && fit_needs_host(r->present[i])) settle_present(r, i, fit_run_steps(r->present[i]));
  for (int64_t i = 0; i < n; i++)
    if (r->present[i]) settle_present(r, i, fit_take_steps(r->present[i]));
  const double now = clock_seconds();
  if (any_present(r, n)) {
    if (some_may_wait(r))
      adapt_turn(r, ready, work, now - ran);
    else
      adapt_steps_of_each(r, now - ran);
  }
  for (int64_t i = 0; i < n; i++) {
    struct fit *f = r->present[i];
    if (f && settle(f, fit_after_steps(f, now - started)) && f->stopped) settle(f, fit_end_steps(f));
  }
  pause_waiting(r, now - started);
}

/* ---- between epochs --------------------------------------------------------------------------------------------- */

/* The first n of r->present. */
static void validate(struct rounds *r, int64_t n) {
  int64_t evaluated = 0;
  for (int64_t i = 0; i < n; i++) {
    bool evaluates;
    settle_present(r, i, fit_begin_validation(r->present[i], &evaluates));
    if (r->present[i] && evaluates) r->evaluations[evaluated++] = &r->present[i]->evaluation;
  }
  if (evaluated) evaluate_together(r->evaluations, evaluated);
  for (int64_t i = 0; i < n; i++)
    if (r->present[i]) settle(r->present[i], fit_end_validation(r->present[i]));
}

/* options->on_epoch with the epochs of those that have finished one in this round. */
static void report_together(struct rounds *r) {
  for (int64_t i = 0; i < r->count; i++) {
    r->epochs[i] = r->fits[i].phase == FIT_REPORT ? &r->fits[i].report.info : NULL;
    r->stop[i] = false;
  }
  r->options->on_epoch(r->options->user, r->epochs, r->stop, r->count);
  for (int64_t i = 0; i < r->count; i++)
    if (r->epochs[i] && r->stop[i]) fit_stop(&r->fits[i], DESCENT_STOP_CALLBACK);
}

/* The first n of r->present. */
static void report(struct rounds *r, int64_t n) {
  for (int64_t i = 0; i < n; i++) fit_report_epoch(r->present[i]);
  if (r->options && r->options->on_epoch) report_together(r);
  for (int64_t i = 0; i < n; i++) settle(r->present[i], fit_next_epoch(r->present[i]));
}

/* ---- turns ------------------------------------------------------------------------------------------------------ */

static enum fit_phase least_far(const struct rounds *r) {
  enum fit_phase phase = FIT_ENDED;
  for (int64_t i = 0; i < r->count; i++)
    if (r->fits[i].phase < phase) phase = r->fits[i].phase;
  return phase;
}

static void run_turns(struct rounds *r) {
  for (;;) {
    const enum fit_phase phase = least_far(r);
    const int64_t n = gather(r, phase);
    switch (phase) {
      case FIT_OVER:
        for (int64_t i = 0; i < n; i++) fit_end(r->present[i], fit_finish(r->present[i]));
        break;
      case FIT_EPOCH:
        for (int64_t i = 0; i < n; i++) settle(r->present[i], fit_begin_epoch(r->present[i]));
        break;
      case FIT_STEPS: run_steps(r, n); break;
      case FIT_VALIDATION: validate(r, n); break;
      case FIT_REPORT: report(r, n); break;
      case FIT_ENDED: return;
    }
  }
}

static descent_status allocate(struct rounds *r) {
  static const char what[] = "trainings beside each other";
  r->present = memory_allocate(r->count, sizeof *r->present, what);
  r->jobs = memory_allocate(r->count, sizeof *r->jobs, what);
  r->evaluations = memory_allocate(r->count, sizeof *r->evaluations, what);
  r->epochs = memory_allocate(r->count, sizeof *r->epochs, what);
  r->stop = memory_allocate(r->count, sizeof *r->stop, what);
  return r->present && r->jobs && r->evaluations && r->epochs && r->stop ? DESCENT_OK : DESCENT_ERROR_MEMORY;
}

descent_status rounds_run(struct fit *fits, int64_t count, const descent_members_options *options) {
  struct rounds r = {.fits = fits, .count = count, .options = options};
  descent_status status;
  TRY(fit_agree(fits, allocate(&r))); /* recovery_start is collective */
  for (int64_t i = 0; i < count; i++) {
    status = recovery_start(&fits[i]);
    fits[i].ready = status == DESCENT_OK;
    if (fits[i].ready)
      fit_continue(&fits[i]);
    else
      fit_end(&fits[i], status);
  }
  run_turns(&r);
  status = DESCENT_OK;
done:
  free(r.present);
  free(r.jobs);
  free(r.evaluations);
  free(r.epochs);
  free(r.stop);
  return status;
}
