/* The steps of an epoch, in runs that are short enough for pauses. */
#include <stdio.h>

#include "core/status.h"
#include "train/evaluate.h"
#include "train/feed.h"
#include "train/fit.h"
#include "train/ranks.h"
#include "train/recovery.h"
#include "train/schedule.h"

descent_status fit_agree(const struct fit *f, descent_status own) {
  return communicator_agree(f->options.ranks.communicator, own);
}

static void fill_steps(struct fit *f) {
  const struct schedule_plateau plateau = {f->at.plateau_rate, f->at.plateau_bad_epochs};
  for (int64_t i = 0; i < f->n_steps; i++) {
    const int64_t number = fit_steps(f) + i + 1, first_row = (f->at.done + i) * f->batch - f->feed.first;
    f->steps[i] = (struct plan_step){
        .number = number,
        .first_row = first_row,
        .rows = f->feed.rows - first_row < f->batch ? f->feed.rows - first_row : f->batch,
        .learning_rate =
            f->at.rate_factor * schedule_learning_rate(&f->options, &plateau, number, f->at.epoch, f->epoch_steps),
        .order = f->feed.order,
    };
  }
}

static void report_step(struct fit *f, const struct plan_step *step, const double *scalars) {
  const descent_step_info info = {
      .epoch = f->at.epoch,
      .step = step->number,
      .rows = step->rows,
      .loss = scalars[SCALAR_LOSS],
      .gradient_norm = scalars[SCALAR_GRADIENT_NORM],
      .learning_rate = step->learning_rate,
  };
  if (f->options.callbacks.on_step(f->options.callbacks.user, &info) != 0) fit_stop(f, DESCENT_STOP_CALLBACK);
}

/* The number of the epoch's `ready` steps to run at once. The step with statistics runs alone; with on_step, or with a
 * loss of the caller's, each step does. */
static int64_t count_next(const struct fit *f, int64_t ready) {
  /* At most one step follows the one with statistics. */
  int64_t count = f->at.done < f->statistics_step ? f->statistics_step - f->at.done : 1;
  if (count > ready) count = ready;
  if (count > f->steps_per_run) count = f->steps_per_run;
  if (f->options.callbacks.on_step || f->ranks.single_steps || f->own_loss.function) count = 1;
  return recovery_limit(f, count);
}

bool fit_poll(void *user) {
  struct fit *f = user;
  const descent_request request =
      f->options.callbacks.on_pause ? f->options.callbacks.on_pause(f->options.callbacks.user) : DESCENT_CONTINUE;
  if (request == DESCENT_STOP && !f->stopped) fit_stop(f, DESCENT_STOP_CALLBACK);
  if (request == DESCENT_SAVE) f->save_requested = true;
  return f->stopped;
}

descent_status fit_pause(struct fit *f) {
  descent_status status;
  fit_poll(f);
  TRY(ranks_agree(f));
  const bool requested = f->save_requested;
  f->save_requested = false;
  TRY(recovery_pause(f, requested));
done:
  return status;
}

/* One step with the caller's loss between its parts. */
static descent_status run_own_step(struct fit *f, const struct plan_step *step, bool with_statistics) {
  struct program *program = &f->trainer->program;
  const struct plan *plan = program->plan;
  descent_status status;
  TRY(program_run(program, with_statistics ? plan->forward_with_statistics : plan->forward, step, 1));
  TRY(own_loss_differentiate(&f->own_loss, program, step));
  TRY(program_run(program, with_statistics ? plan->update_with_statistics : plan->update, step, 1));
done:
  return status;
}

/* Where one of the steps that were run was not finite: ERROR_DIVERGED, with its explanation. */
static descent_status check_steps(struct fit *f, double scalars[SCALAR_SLOTS]) {
  const struct program *program = &f->trainer->program;
  descent_status status;
  if (!options_cut_steps(&f->options)) return trainer_check(f->trainer, f->steps, f->n_steps, f->at.epoch, scalars);
  TRY(program_read(program, program->at.scalars, 0, SCALAR_SLOTS, PLAN_F64, scalars));
  /* From here on all ranks know of the bad step, and wait for each other's explanation. */
  const int64_t bad = trainer_bad_step(f->steps, f->n_steps, scalars);
  status = bad < 0 ? DESCENT_OK : micro_batches_narrow(f, &f->steps[bad]);
  if (status == DESCENT_OK) status = trainer_check(f->trainer, f->steps, f->n_steps, f->at.epoch, scalars);
  if (bad >= 0) status = ranks_explain(f, status);
done:
  return status;
}

/* Whether the next step is the one whose layer statistics are recorded. */
static bool with_statistics(const struct fit *f) { return f->at.done == f->statistics_step; }

bool fit_needs_host(const struct fit *f) { return f->own_loss.function || options_cut_steps(&f->options); }

struct plan_range fit_range(const struct fit *f) {
  const struct plan *plan = f->trainer->program.plan;
  return with_statistics(f) ? plan->train_with_statistics : plan->train;
}

descent_status fit_run_steps(struct fit *f) {
  if (f->own_loss.function) return run_own_step(f, f->steps, with_statistics(f));
  return micro_batches_run(f, f->steps, f->n_steps, with_statistics(f));
}

descent_status fit_take_steps(struct fit *f) {
  struct program *program = &f->trainer->program;
  double scalars[SCALAR_SLOTS] = {0};
  const bool has_statistics = with_statistics(f);
  descent_status status;
  TRY(check_steps(f, scalars));
  f->at.done += f->n_steps;
  f->at.learning_rate = f->steps[f->n_steps - 1].learning_rate;
  if (has_statistics)
    TRY(program_read(program, program->at.layer_statistics, 0, (int64_t)program->plan->layers * LAYER_SLOTS, PLAN_F64,
                     f->statistics));
  if (f->options.callbacks.on_step) report_step(f, f->steps, scalars);
  feed_taken(f);
done:
  return status;
}

descent_status fit_begin_epoch(struct fit *f) {
  struct program *program = &f->trainer->program;
  descent_status status = feed_begin_epoch(f);
  if (status == DESCENT_OK) status = evaluate_begin(program, f->at.total_loss, f->at.total_weight);
  TRY(fit_agree(f, status));
  f->phase = FIT_STEPS;
done:
  return status;
}

descent_status fit_prepare_steps(struct fit *f) {
  int64_t ready;
  descent_status status;
  f->n_steps = 0;
  TRY(feed_steps(f, fit_poll, f, &ready));
  if (ready == 0) goto done;
  f->n_steps = count_next(f, ready);
  fill_steps(f);
done:
  return status;
}

descent_status fit_after_steps(struct fit *f, double seconds) {
  f->at.train_seconds += seconds;
  return f->at.done != f->epoch_steps ? fit_pause(f) : ranks_agree(f);
}

descent_status fit_wait(struct fit *f, double seconds) {
  descent_status status;
  f->at.train_seconds += seconds;
  TRY(fit_pause(f));
  if (f->stopped && f->at.done)
    TRY(fit_end_steps(f));
  else if (f->stopped)
    f->phase = FIT_OVER; /* between epochs: the epoch before has its loss already */
done:
  return status;
}

descent_status fit_end_steps(struct fit *f) {
  struct program *program = &f->trainer->program;
  double totals[2];
  descent_status status;
  if (program->backend->placement)
    snprintf(f->placement, sizeof f->placement, "%s", program->backend->placement(program->compiled));
  TRY(fit_agree(f, evaluate_mean_loss(program, totals, &f->at.train_loss)));
  f->at.total_loss = totals[0];
  f->at.total_weight = totals[1];
  feed_end_epoch(f);
  if (f->stopped) TRY(ranks_check_replicas(f));
  f->phase = f->stopped ? FIT_OVER : FIT_VALIDATION;
done:
  return status;
}
