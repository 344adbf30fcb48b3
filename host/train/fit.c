/* Training over epochs: shuffled batches, validation, early stopping, schedules and reports. During the training, the
 * network holds the parameters to return (the best ones, or the last finite ones); those being trained are on the
 * device. */
#include "train/fit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/clock.h"
#include "core/memory.h"
#include "core/options.h"
#include "core/rng.h"
#include "core/status.h"
#include "train/check.h"
#include "train/evaluate.h"
#include "train/extremes.h"
#include "train/feed.h"
#include "train/health.h"
#include "train/ranks.h"
#include "train/recovery.h"
#include "train/schedule.h"

enum { MAX_STEPS_PER_RUN = 256, WARNING_SIZE = 256 };

/* ---- set-up ----------------------------------------------------------------------------------------------------- */

/* The weight of a class is rows / (classes * rows of the class); 1, which is not used, for a class without rows. */
static descent_status balanced_weights(const descent_network *network, const descent_dataset *dataset,
                                       float **weights) {
  *weights = memory_allocate(network->classes, sizeof **weights, "class weights");
  if (!*weights) return DESCENT_ERROR_MEMORY;
  for (int64_t k = 0; k < network->classes; k++) {
    double count = (double)descent_dataset_class_count(dataset, k);
    (*weights)[k] = count > 0 ? (float)((double)dataset->rows / ((double)network->classes * count)) : 1;
  }
  return DESCENT_OK;
}

static descent_status check_validation(struct fit *f, const descent_network *network) {
  int64_t first, count;
  descent_status status;
  TRY(check_dataset(network, f->validation, true, "the validation data"));
  TRY(dataset_align(f->validation, &network->schema, &f->aligned[1]));
  if (f->aligned[1]) f->validation = f->aligned[1];
  ranks_share(f, f->validation->rows, &first, &count);
  if (extremes_check_inputs(network, f->validation, first, count) != DESCENT_OK)
    TRY(status_set(DESCENT_ERROR_DATA, "the validation data: %s", descent_last_error()));
done:
  return status;
}

static descent_status set_up(struct fit *f, descent_network *network, descent_device *device) {
  float *class_weights = NULL;
  descent_status status;
  TRY(handle_check(network, HANDLE_NETWORK, "network"));
  TRY(device_check(device, "device"));
  if (!f->source) TRY(handle_check(f->training, HANDLE_DATASET, "training"));
  if (f->validation) TRY(handle_check(f->validation, HANDLE_DATASET, "validation"));
  TRY(network_check_unused(network));
  TRY(check_train_options(network, device, &f->options));
  if (f->options.checkpoint.keep_best && !f->validation)
    TRY(status_set(DESCENT_ERROR_ARGUMENT,
                   "keep_best: needs validation data, whose loss says which checkpoint is best"));
  TRY(feed_check(f, network));
  if (f->validation) TRY(check_validation(f, network));
  f->statistics = memory_allocate((int64_t)network->n_layers * LAYER_SLOTS, sizeof(double), "layer statistics");
  f->health = memory_allocate(network->n_layers, sizeof *f->health, "layer health");
  if (!f->statistics || !f->health) TRY(DESCENT_ERROR_MEMORY);
  if (f->options.balance_classes)
    TRY(balanced_weights(network, f->training, &class_weights));
  else
    TRY(trainer_class_weights(network, &f->options, &class_weights));
  int64_t block = f->validation ? program_evaluation_block(network, device, f->validation->rows) : 0;
  TRY(micro_batches_create(network, &f->options, f->batch, class_weights, &f->cut));
  const unsigned parts = (f->options.callbacks.loss ? PLAN_PART_BACKWARD : 0) |
                         (options_cut_steps(&f->options) ? PLAN_PART_MICRO_BATCHES : 0);
  TRY(trainer_create(network, device, &f->options, parts, f->cut.rows, block, class_weights, &f->trainer));
  TRY(own_loss_create(network, &f->options, f->trainer->program.plan->batch, &f->own_loss));
  TRY(feed_open(f));
  f->keep_best = f->validation && f->options.early_stopping.restore_best;
  f->steps_per_run = 1;
  f->at = (struct fit_state){
      .epoch = 1, .plateau_rate = f->options.optimizer.learning_rate, .rate_factor = 1, .best_loss = INFINITY};
done:
  free(class_weights);
  return status;
}

/* What ranks cannot see of each other: all return the error of the lowest rank that has one. */
static descent_status agree(const struct fit *f, descent_status own) {
  return communicator_agree(f->options.ranks.communicator, own);
}

/* ---- one epoch -------------------------------------------------------------------------------------------------- */

static void stop(struct fit *f, descent_stop reason) {
  f->stopped = true;
  f->stop = reason;
}

static void fill_steps(const struct fit *f, int64_t count, struct plan_step *steps) {
  const struct schedule_plateau plateau = {f->at.plateau_rate, f->at.plateau_bad_epochs};
  for (int64_t i = 0; i < count; i++) {
    const int64_t number = fit_steps(f) + i + 1, first_row = (f->at.done + i) * f->batch - f->feed.first;
    steps[i] = (struct plan_step){
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
  if (f->options.callbacks.on_step(f->options.callbacks.user, &info) != 0) stop(f, DESCENT_STOP_CALLBACK);
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

/* Runs more steps at once while a run is short, fewer when pauses would come too rarely. */
static void adapt_steps_per_run(struct fit *f, double seconds) {
  static const double shortest = 0.025, longest = 0.1; /* seconds of a run */
  if (seconds < shortest && f->steps_per_run < MAX_STEPS_PER_RUN) f->steps_per_run *= 2;
  if (seconds > longest && f->steps_per_run > 1) f->steps_per_run /= 2;
}

/* Calls on_pause and notes its request; true: stop. */
static bool poll_request(void *user) {
  struct fit *f = user;
  const descent_request request =
      f->options.callbacks.on_pause ? f->options.callbacks.on_pause(f->options.callbacks.user) : DESCENT_CONTINUE;
  if (request == DESCENT_STOP && !f->stopped) stop(f, DESCENT_STOP_CALLBACK);
  if (request == DESCENT_SAVE) f->save_requested = true;
  return f->stopped;
}

static descent_status pause_between_steps(struct fit *f) {
  descent_status status;
  poll_request(f);
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

/* Of the steps that were just run: ERROR_DIVERGED, with its explanation, where one was not finite. */
static descent_status check_steps(struct fit *f, struct plan_step *steps, int64_t count, double scalars[SCALAR_SLOTS]) {
  const struct program *program = &f->trainer->program;
  descent_status status;
  if (!options_cut_steps(&f->options)) return trainer_check(f->trainer, steps, count, f->at.epoch, scalars);
  TRY(program_read(program, program->at.scalars, 0, SCALAR_SLOTS, PLAN_F64, scalars));
  /* From here on all ranks know of the bad step, and wait for each other's explanation. */
  const int64_t bad = trainer_bad_step(steps, count, scalars);
  status = bad < 0 ? DESCENT_OK : micro_batches_narrow(f, &steps[bad]);
  if (status == DESCENT_OK) status = trainer_check(f->trainer, steps, count, f->at.epoch, scalars);
  if (bad >= 0) status = ranks_explain(f, status);
done:
  return status;
}

static descent_status run_steps(struct fit *f, int64_t count) {
  struct program *program = &f->trainer->program;
  struct plan_step steps[MAX_STEPS_PER_RUN];
  double scalars[SCALAR_SLOTS] = {0};
  const bool with_statistics = f->at.done == f->statistics_step;
  descent_status status;
  fill_steps(f, count, steps);
  if (f->own_loss.function)
    TRY(run_own_step(f, steps, with_statistics));
  else if (options_cut_steps(&f->options))
    TRY(micro_batches_run(f, steps, count, with_statistics));
  else
    TRY(program_run(program, with_statistics ? program->plan->train_with_statistics : program->plan->train, steps,
                    count));
  TRY(check_steps(f, steps, count, scalars));
  f->at.done += count;
  f->at.learning_rate = steps[count - 1].learning_rate;
  if (with_statistics)
    TRY(program_read(program, program->at.layer_statistics, 0, (int64_t)program->plan->layers * LAYER_SLOTS, PLAN_F64,
                     f->statistics));
  if (f->options.callbacks.on_step) report_step(f, steps, scalars);
done:
  return status;
}

static descent_status begin_epoch(struct fit *f) {
  descent_status status;
  TRY(feed_begin_epoch(f));
  TRY(evaluate_begin(&f->trainer->program, f->at.total_loss, f->at.total_weight));
done:
  return status;
}

/* Runs the remaining steps of the epoch. */
static descent_status run_epoch(struct fit *f) {
  struct program *program = &f->trainer->program;
  double totals[2];
  int64_t ready;
  descent_status status;
  TRY(agree(f, begin_epoch(f)));
  for (;;) {
    const double started = clock_seconds();
    TRY(feed_steps(f, poll_request, f, &ready));
    if (ready == 0) break;
    const double ran = clock_seconds();
    TRY(run_steps(f, count_next(f, ready)));
    feed_taken(f);
    const double now = clock_seconds();
    f->at.train_seconds += now - started;
    adapt_steps_per_run(f, now - ran);
    TRY(f->at.done != f->epoch_steps ? pause_between_steps(f) : ranks_agree(f));
    if (f->stopped) break;
  }
  if (program->backend->placement)
    snprintf(f->placement, sizeof f->placement, "%s", program->backend->placement(program->compiled));
  TRY(agree(f, evaluate_mean_loss(program, totals, &f->at.train_loss)));
  f->at.total_loss = totals[0];
  f->at.total_weight = totals[1];
done:
  feed_end_epoch(f);
  return status;
}

/* ---- between epochs --------------------------------------------------------------------------------------------- */

/* Copies the device's parameters to the network. ERROR_DIVERGED if they are not finite. */
static descent_status keep_parameters(struct fit *f) {
  const descent_status status = descent_trainer_sync(f->trainer);
  if (status == DESCENT_OK) f->kept_step = fit_steps(f);
  return status;
}

/* The same on all ranks. A divergence needs no agreement: their parameters are equal. */
static descent_status keep_parameters_together(struct fit *f) {
  const descent_status own = keep_parameters(f);
  const descent_status status = agree(f, own == DESCENT_ERROR_DIVERGED ? DESCENT_OK : own);
  return status == DESCENT_OK ? own : status;
}

/* Does the network hold the parameters of the best epoch, which must not be overwritten? */
static bool has_best(const struct fit *f) { return f->keep_best && f->at.best_epoch; }

/* After an epoch: counts improvements, keeps the parameters of the best epoch and advances the plateau schedule. */
static descent_status update_best(struct fit *f, const descent_metrics *validation, bool *improved) {
  struct fit_state *at = &f->at;
  const double loss = validation ? validation->loss : at->train_loss;
  descent_status status = DESCENT_OK;
  *improved = loss < at->best_loss - f->options.early_stopping.min_delta;
  at->bad_epochs = *improved ? 0 : at->bad_epochs + 1;
  if (*improved) at->best_loss = loss;
  if (*improved || !has_best(f)) TRY(keep_parameters_together(f));
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

static void report_epoch(struct fit *f, const descent_metrics *validation, bool improved) {
  char warning[WARNING_SIZE], placement[sizeof f->placement + 100];
  const descent_network *network = f->trainer->network;
  health_from_statistics(network, f->statistics, f->health);
  health_warning(network, &f->options, f->statistics, f->health, f->batch, warning, sizeof warning);
  if (validation && !isfinite(validation->loss))
    snprintf(warning, sizeof warning, "the validation loss is not finite, so this epoch cannot be the best");
  describe_placement(f, placement, sizeof placement);
  const descent_epoch_info info = {
      .epoch = f->at.epoch,
      .epochs = f->options.epochs,
      .step = f->trainer->steps,
      .train_loss = f->at.train_loss,
      .validation = validation,
      .learning_rate = f->at.learning_rate,
      .rows_per_second = f->at.train_seconds > 0 ? (double)f->rows / f->at.train_seconds : 0,
      .seconds = f->at.seconds + clock_seconds() - f->started,
      .best = improved,
      .layers = network->n_layers,
      .health = f->health,
      .warning = warning,
      .placement = placement,
      .trainer = f->trainer,
  };
  if (f->options.callbacks.on_epoch(f->options.callbacks.user, &info) != 0) stop(f, DESCENT_STOP_CALLBACK);
}

static bool out_of_patience(const struct fit *f) {
  return f->options.early_stopping.patience && f->at.bad_epochs >= f->options.early_stopping.patience;
}

static struct own_loss *own_loss(struct fit *f) { return f->own_loss.function ? &f->own_loss : NULL; }

static descent_status validate(struct fit *f, descent_metrics *metrics) {
  struct program *program = &f->trainer->program;
  bool stopped = false;
  descent_status status;
  TRY(agree(f, program_bind(program, f->validation)));
  if (options_ranks(&f->options) == 1)
    TRY(evaluate_dataset(program, f->trainer->network, f->validation, 0, false, own_loss(f), poll_request, f, metrics));
  else
    TRY(ranks_evaluate(f, poll_request, f, &stopped, metrics));
  if (stopped && !f->stopped) stop(f, DESCENT_STOP_CALLBACK); /* asked for on another rank */
done:
  return status;
}

/* After the last step of an epoch: validates, reports, and moves to the next epoch. */
static descent_status finish_epoch(struct fit *f) {
  descent_metrics metrics = {0};
  bool improved;
  descent_status status;
  TRY(agree(f, feed_check_unchanged(f)));
  TRY(ranks_check_replicas(f));
  if (f->validation) TRY(validate(f, &metrics));
  if (f->stopped) goto done; /* during validation, which a resumed training repeats */
  TRY(update_best(f, f->validation ? &metrics : NULL, &improved));
  if (out_of_patience(f)) stop(f, DESCENT_STOP_EARLY);
  if (f->options.callbacks.on_epoch) report_epoch(f, f->validation ? &metrics : NULL, improved);
  TRY(ranks_agree(f));
  f->at.epoch++;
  f->at.done = 0;
  f->at.total_loss = f->at.total_weight = f->at.train_seconds = 0;
  if (!f->stopped && f->at.epoch <= f->options.epochs) TRY(pause_between_steps(f));
done:
  descent_metrics_clear(&metrics);
  return status;
}

static descent_status run_epochs(struct fit *f) {
  descent_status status = DESCENT_OK;
  if (out_of_patience(f)) stop(f, DESCENT_STOP_EARLY); /* resumed after it had ended */
  while (f->at.epoch <= f->options.epochs && !f->stopped) {
    TRY(run_epoch(f));
    TRY(f->stopped ? ranks_check_replicas(f) : finish_epoch(f));
  }
done:
  return status;
}

/* "the weights of epoch 3 are kept": the weights that the network holds. */
static void describe_kept(const struct fit *f, char *text, size_t size) {
  const bool whole = f->epoch_steps && f->kept_step % f->epoch_steps == 0;
  if (f->kept_step)
    snprintf(text, size, "the weights of %s %lld are kept", whole ? "epoch" : "step",
             (long long)(whole ? f->kept_step / f->epoch_steps : f->kept_step));
  else
    snprintf(text, size, "the initial weights are kept");
}

/* Adds to the error which weights the network holds. After a divergence these are the weights before that step, and
 * after the loss of the checkpoints' folder or a source's failure those of the last step; they are read from the device
 * here. They are the last ones kept if there is a best epoch, if the weights cannot be read or are not finite, or if
 * the device failed; a failed device is not used again. */
static descent_status finish_failed(struct fit *f, descent_status failure) {
  char text[768], kept_text[64];
  snprintf(text, sizeof text, "%s", descent_last_error());
  if ((failure == DESCENT_ERROR_WRITE || f->source_failed) && !has_best(f)) (void)keep_parameters(f);
  describe_kept(f, kept_text, sizeof kept_text);
  if (failure == DESCENT_ERROR_DIVERGED && !has_best(f) && keep_parameters(f) == DESCENT_OK)
    snprintf(kept_text, sizeof kept_text, "the weights before that step are kept");
  return status_set(failure, "%s; %s", text, kept_text);
}

static void fill_result(const struct fit *f, descent_fit_result *result) {
  *result = (descent_fit_result){
      .stop = f->stop,
      .epochs = f->at.epoch - 1,
      .steps = f->trainer->steps, /* exact after a divergence within a run of steps, too */
      .best_epoch = f->at.best_epoch,
      .best_loss = f->at.best_loss,
      .train_loss = f->at.train_loss,
      .seconds = f->at.seconds + clock_seconds() - f->started,
  };
}

static bool names_weights(const struct fit *f, descent_status failure) {
  return failure == DESCENT_ERROR_DIVERGED || failure == DESCENT_ERROR_DEVICE || failure == DESCENT_ERROR_WRITE ||
         (failure != DESCENT_OK && f->source_failed);
}

/* Trains on f->training or f->source; `own`: the outcome of what was checked before. The ranks can tell each other of
 * every error but one of the options, which name the communicator. */
static descent_status fit(struct fit *f, descent_status own, descent_network *network, descent_device *device,
                          const descent_train_options *options, descent_fit_result *result) {
  descent_fit_result reached = {0};
  bool ready = false;
  descent_status status;
  f->started = clock_seconds();
  TRY(complete_train_options(options, &f->options));
  TRY(check_communicator(&f->options));
  TRY(ranks_begin(f, own == DESCENT_OK ? set_up(f, network, device) : own));
  TRY(recovery_open(f));
  ready = true;
  do status = run_epochs(f);
  while (status == DESCENT_ERROR_DIVERGED && (status = recovery_roll_back(f)) == DESCENT_OK);
  if (status == DESCENT_OK && !has_best(f)) TRY(keep_parameters_together(f));
  if (status == DESCENT_OK) TRY(recovery_finish(f));
done:
  if (ready && names_weights(f, status)) status = finish_failed(f, status);
  if (ready) fill_result(f, &reached);
  recovery_close(f, &reached.checkpoint_failures);
  if (ready && result) *result = reached;
  feed_close(f);
  descent_trainer_free(f->trainer);
  descent_dataset_free(f->aligned[0]);
  descent_dataset_free(f->aligned[1]);
  own_loss_clear(&f->own_loss);
  micro_batches_clear(&f->cut);
  ranks_clear(&f->ranks);
  free(f->statistics);
  free(f->health);
  return status;
}

descent_status descent_fit(descent_network *network, descent_device *device, const descent_dataset *training,
                           const descent_dataset *validation, const descent_train_options *options,
                           descent_fit_result *result) {
  struct fit f = {.training = training, .validation = validation};
  return fit(&f, DESCENT_OK, network, device, options, result);
}

descent_status descent_fit_source(descent_network *network, descent_device *device, const descent_source *source,
                                  const descent_dataset *validation, const descent_train_options *options,
                                  descent_fit_result *result) {
  descent_source complete;
  struct fit f = {.source = &complete, .validation = validation};
  return fit(&f, complete_source(source, &complete), network, device, options, result);
}
