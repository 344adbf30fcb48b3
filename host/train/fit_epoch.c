/* What a training does between its epochs: validation, early stopping, schedules by epoch, reports. */
#include <math.h>
#include <stdio.h>

#include "core/clock.h"
#include "core/status.h"
#include "train/feed.h"
#include "train/fit.h"
#include "train/health.h"
#include "train/ranks.h"
#include "train/recovery.h"
#include "train/schedule.h"

descent_status fit_keep_parameters(struct fit *f) {
  const descent_status status = descent_trainer_sync(f->trainer);
  if (status == DESCENT_OK) f->kept_step = fit_steps(f);
  return status;
}

/* The same on all ranks. A divergence needs no agreement: their parameters are equal. */
static descent_status keep_parameters_together(struct fit *f) {
  const descent_status own = fit_keep_parameters(f);
  const descent_status status = fit_agree(f, own == DESCENT_ERROR_DIVERGED ? DESCENT_OK : own);
  return status == DESCENT_OK ? own : status;
}

bool fit_has_best(const struct fit *f) { return f->keep_best && f->at.best_epoch; }

/* After an epoch: counts improvements, keeps the parameters of the best epoch and advances the plateau schedule. */
static descent_status update_best(struct fit *f, const descent_metrics *validation, bool *improved) {
  struct fit_state *at = &f->at;
  const double loss = validation ? validation->loss : at->train_loss;
  descent_status status = DESCENT_OK;
  *improved = loss < at->best_loss - f->options.early_stopping.min_delta;
  at->bad_epochs = *improved ? 0 : at->bad_epochs + 1;
  if (*improved) at->best_loss = loss;
  if (*improved || !fit_has_best(f)) TRY(keep_parameters_together(f));
  if (*improved) at->best_epoch = at->epoch;
  if (f->options.schedule.kind == DESCENT_SCHEDULE_PLATEAU) {
    struct schedule_plateau plateau = {at->plateau_rate, at->plateau_bad_epochs};
    schedule_plateau_advance(&f->options, &plateau, *improved);
    at->plateau_rate = plateau.learning_rate;
    at->plateau_bad_epochs = plateau.bad_epochs;
  }
done:
  return status;
}

/* What the backend says, and whether results depend on the number of ranks although they need not. */
static void describe_placement(const struct fit *f, char *text, size_t size) {
  const char *const differ = "ranks have chosen different algorithms: results depend on the number of ranks";
  snprintf(text, size, "%s%s%s", f->placement, *f->placement && f->ranks.choices_differ ? "; " : "",
           f->ranks.choices_differ ? differ : "");
}

void fit_report_epoch(struct fit *f) {
  struct fit_report *r = &f->report;
  const descent_network *network = f->trainer->network;
  const descent_metrics *validation = f->validation ? &r->validation : NULL;
  if (!f->describes_epochs) return;
  health_from_statistics(network, f->statistics, f->health);
  health_warning(network, &f->options, f->statistics, f->health, f->batch, r->warning, sizeof r->warning);
  if (validation && !isfinite(validation->loss))
    snprintf(r->warning, sizeof r->warning, "the validation loss is not finite, so this epoch cannot be the best");
  describe_placement(f, r->placement, sizeof r->placement);
  r->info = (descent_epoch_info){
      .epoch = f->at.epoch,
      .epochs = f->options.epochs,
      .step = f->trainer->steps,
      .train_loss = f->at.train_loss,
      .validation = validation,
      .learning_rate = f->at.learning_rate,
      .rows_per_second = f->at.train_seconds > 0 ? (double)f->rows / f->at.train_seconds : 0,
      .seconds = f->at.seconds + clock_seconds() - f->started,
      .best = r->improved,
      .layers = network->n_layers,
      .health = f->health,
      .warning = r->warning,
      .placement = r->placement,
      .trainer = f->trainer,
  };
  if (f->options.callbacks.on_epoch && f->options.callbacks.on_epoch(f->options.callbacks.user, &r->info) != 0)
    fit_stop(f, DESCENT_STOP_CALLBACK);
}

static bool out_of_patience(const struct fit *f) {
  return f->options.early_stopping.patience && f->at.bad_epochs >= f->options.early_stopping.patience;
}

void fit_continue(struct fit *f) {
  if (!f->stopped && out_of_patience(f)) fit_stop(f, DESCENT_STOP_EARLY); /* resumed after it had ended */
  f->phase = f->stopped || f->at.epoch > f->options.epochs ? FIT_OVER : FIT_EPOCH;
}

/* The ranks share the blocks of one evaluation. */
static descent_status evaluate_on_ranks(struct fit *f) {
  bool stopped;
  descent_status status;
  TRY(ranks_evaluate(f, fit_poll, f, &stopped, &f->report.validation));
  f->evaluation.stopped = stopped;
  if (stopped && !f->stopped) fit_stop(f, DESCENT_STOP_CALLBACK); /* asked for on another rank */
done:
  return status;
}

descent_status fit_begin_validation(struct fit *f, bool *evaluates) {
  struct program *program = &f->trainer->program;
  descent_status status;
  descent_metrics_clear(&f->report.validation);
  *evaluates = f->validation && options_ranks(&f->options) == 1;
  f->evaluation = (struct evaluation){.program = program,
                                      .network = f->trainer->network,
                                      .dataset = f->validation,
                                      .own_loss = f->own_loss.function ? &f->own_loss : NULL,
                                      .stop = fit_poll,
                                      .user = f,
                                      .metrics = &f->report.validation};
  TRY(fit_agree(f, feed_check_unchanged(f)));
  TRY(ranks_check_replicas(f));
  if (f->validation) TRY(fit_agree(f, program_bind(program, f->validation)));
  if (f->validation && !*evaluates) TRY(evaluate_on_ranks(f));
done:
  return status;
}

descent_status fit_end_validation(struct fit *f) {
  descent_status status = f->evaluation.status;
  if (status != DESCENT_OK) TRY(status_set(status, "%s", f->evaluation.error));
  /* A resumed training repeats a validation that was stopped. A stop behind its last row is one between epochs. */
  f->phase = f->evaluation.stopped ? FIT_OVER : FIT_REPORT;
  if (f->evaluation.stopped) goto done;
  TRY(update_best(f, f->validation ? &f->report.validation : NULL, &f->report.improved));
  if (out_of_patience(f)) fit_stop(f, DESCENT_STOP_EARLY);
done:
  return status;
}

descent_status fit_next_epoch(struct fit *f) {
  descent_status status;
  TRY(ranks_agree(f));
  f->at.epoch++;
  f->at.done = 0;
  f->at.total_loss = f->at.total_weight = f->at.train_seconds = 0;
  if (!f->stopped && f->at.epoch <= f->options.epochs) TRY(fit_pause(f));
  fit_continue(f);
done:
  return status;
}

descent_status fit_finish(struct fit *f) {
  descent_status status;
  if (!fit_has_best(f)) TRY(keep_parameters_together(f));
  TRY(recovery_finish(f));
done:
  return status;
}
