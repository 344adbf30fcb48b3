/* Training over epochs: shuffled batches, validation, early stopping, schedules and reports. While it runs, the
 * network's own parameters hold the ones to keep (the best, or the last that were finite); the device's move on. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/rng.h"
#include "core/status.h"
#include "train/check.h"
#include "train/evaluate.h"
#include "train/health.h"
#include "train/schedule.h"
#include "train/trainer.h"

enum { STEPS_PER_RUN = 256, WARNING_SIZE = 256 };

struct fit {
  descent_trainer *trainer;
  const descent_train_options *options;
  const descent_dataset *training, *validation;
  int64_t rows, batch;
  int64_t epoch_steps, total_steps, probe; /* probe: the epoch's step, from 0, whose layer statistics are kept */
  struct schedule_plateau plateau;
  bool keep_best;
  double *statistics; /* (layers, LAYER_SLOTS) */
  descent_layer_health *health;
  int64_t epoch;
  char placement[160];
  double started, train_seconds, learning_rate;
  int64_t bad_epochs; /* since the last improvement */
  int64_t kept_epoch; /* whose parameters the network has; 0: the initial ones */
  bool stopped;       /* result.stop says why */
  descent_fit_result result;
};

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* ---- set-up ----------------------------------------------------------------------------------------------------- */

static descent_status check_total_weight(const descent_dataset *dataset) {
  const float *weights = dataset->storage->weights;
  if (!weights) return DESCENT_OK;
  for (int64_t r = 0; r < dataset->rows; r++)
    if (weights[dataset_source_row(dataset, r)] > 0) return DESCENT_OK;
  return status_set(DESCENT_ERROR_ARGUMENT, "the training data: all %lld weights are 0", (long long)dataset->rows);
}

/* rows / (classes * rows of the class); a class without rows never meets its weight. */
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

static descent_status count_steps(struct fit *f) {
  const descent_train_options *o = f->options;
  f->rows = f->training->rows;
  f->batch = o->batch_size && o->batch_size < f->rows ? o->batch_size : f->rows;
  f->epoch_steps = (f->rows - 1) / f->batch + 1;
  if (!size_product(f->epoch_steps, o->epochs, &f->total_steps) || f->total_steps >= INT64_C(1) << 48)
    return status_set(DESCENT_ERROR_ARGUMENT, "epochs %lld of %lld steps: must come to fewer than 2^48 steps",
                      (long long)o->epochs, (long long)f->epoch_steps);
  /* The last full batch: a short rest of an epoch would show chance, not health. */
  f->probe = f->epoch_steps - 1;
  if (f->probe > 0 && f->rows % f->batch) f->probe--;
  return DESCENT_OK;
}

static descent_status set_up(struct fit *f, descent_network *network, descent_device *device) {
  float *class_weights = NULL;
  descent_status status;
  TRY(check_train_options(network, f->options));
  TRY(check_dataset(network, f->training, true, "the training data"));
  if (f->validation) TRY(check_dataset(network, f->validation, true, "the validation data"));
  TRY(check_total_weight(f->training));
  TRY(count_steps(f));
  f->statistics = memory_allocate((int64_t)network->n_layers * LAYER_SLOTS, sizeof(double), "layer statistics");
  f->health = memory_allocate(network->n_layers, sizeof *f->health, "layer health");
  if (!f->statistics || !f->health) TRY(DESCENT_ERROR_MEMORY);
  if (f->options->balance_classes)
    TRY(balanced_weights(network, f->training, &class_weights));
  else
    TRY(trainer_class_weights(network, f->options, &class_weights));
  int64_t block = f->validation ? program_evaluation_block(network, f->validation->rows) : 0;
  TRY(trainer_create(network, device, f->options, f->batch, block, class_weights, &f->trainer));
  f->keep_best = f->validation && f->options->restore_best;
  f->plateau = schedule_plateau_begin(f->options);
  f->result.best_loss = INFINITY;
done:
  free(class_weights);
  return status;
}

/* ---- one epoch -------------------------------------------------------------------------------------------------- */

static void fill_steps(const struct fit *f, const struct permutation *order, int64_t first, int64_t count,
                       struct plan_step *steps) {
  for (int64_t i = 0; i < count; i++) {
    const int64_t number = (f->epoch - 1) * f->epoch_steps + first + i + 1, first_row = (first + i) * f->batch;
    steps[i] = (struct plan_step){
        .number = number,
        .first_row = first_row,
        .rows = f->rows - first_row < f->batch ? f->rows - first_row : f->batch,
        .learning_rate = schedule_learning_rate(f->options, &f->plateau, number, f->epoch, f->total_steps),
        .order = f->epoch_steps > 1 ? order : NULL, /* one batch of all rows has nothing to shuffle */
    };
  }
}

static void report_step(struct fit *f, const struct plan_step *step, const double *scalars) {
  const descent_step_info info = {
      .epoch = f->epoch,
      .step = step->number,
      .rows = step->rows,
      .loss = scalars[SCALAR_LOSS],
      .gradient_norm = scalars[SCALAR_GRADIENT_NORM],
      .learning_rate = step->learning_rate,
  };
  if (f->options->on_step(f->options->user, &info) == 0) return;
  f->stopped = true;
  f->result.stop = DESCENT_STOP_CALLBACK;
}

/* Runs the epoch's steps, many at a time; alone runs the probed one, and each where every step is reported. */
static descent_status run_epoch(struct fit *f) {
  struct program *program = &f->trainer->program;
  struct plan_step steps[STEPS_PER_RUN];
  double scalars[SCALAR_SLOTS];
  const struct permutation order =
      permutation_create(f->options->seed, RNG_SHUFFLE, (uint64_t)f->epoch, (uint64_t)f->rows);
  descent_status status;
  dataset_expect_shuffled(f->training, true);
  TRY(program_bind(program, f->training));
  TRY(evaluate_reset(program));
  const double started = now();
  for (int64_t done = 0, count; done < f->epoch_steps && !f->stopped; done += count) {
    const bool probed = done == f->probe;
    count = done < f->probe ? f->probe - done : 1; /* at most one step follows the probed one */
    if (count > STEPS_PER_RUN) count = STEPS_PER_RUN;
    if (f->options->on_step) count = 1;
    fill_steps(f, &order, done, count, steps);
    TRY(program_run(program, probed ? program->plan->train_probed : program->plan->train, steps, count));
    TRY(trainer_check(f->trainer, steps, count, f->epoch, scalars));
    f->learning_rate = steps[count - 1].learning_rate;
    if (probed)
      TRY(program_read(program, program->at.layer_statistics, 0, (int64_t)program->plan->layers * LAYER_SLOTS, PLAN_F64,
                       f->statistics));
    if (f->options->on_step) report_step(f, steps, scalars);
  }
  f->train_seconds = now() - started;
  snprintf(f->placement, sizeof f->placement, "%s", program->backend->placement(program->compiled));
  TRY(evaluate_mean_loss(program, &f->result.train_loss));
done:
  dataset_expect_shuffled(f->training, false);
  f->result.steps = f->trainer->steps;
  return status;
}

/* ---- between epochs --------------------------------------------------------------------------------------------- */

/* Notes an improvement and keeps what it came from. */
static descent_status judge(struct fit *f, const descent_metrics *validation, bool *improved) {
  const double loss = validation ? validation->loss : f->result.train_loss;
  descent_status status = DESCENT_OK;
  *improved = loss < f->result.best_loss - f->options->min_delta;
  f->bad_epochs = *improved ? 0 : f->bad_epochs + 1;
  if (*improved) f->result.best_loss = loss;
  if (*improved || !f->keep_best) {
    TRY(descent_trainer_sync(f->trainer));
    f->kept_epoch = f->epoch;
  }
  if (*improved) f->result.best_epoch = f->epoch;
  if (f->options->schedule == DESCENT_SCHEDULE_PLATEAU) schedule_plateau_advance(f->options, &f->plateau, *improved);
done:
  return status;
}

static void report_epoch(struct fit *f, const descent_metrics *validation, bool improved) {
  char warning[WARNING_SIZE];
  const descent_network *network = f->trainer->network;
  health_from_statistics(network, f->statistics, f->health);
  health_warning(network, f->options, f->statistics, f->health, f->batch, warning, sizeof warning);
  const descent_epoch_info info = {
      .epoch = f->epoch,
      .epochs = f->options->epochs,
      .step = f->trainer->steps,
      .train_loss = f->result.train_loss,
      .validation = validation,
      .learning_rate = f->learning_rate,
      .rows_per_second = f->train_seconds > 0 ? (double)f->rows / f->train_seconds : 0,
      .seconds = now() - f->started,
      .best = improved,
      .layers = network->n_layers,
      .health = f->health,
      .warning = warning,
      .placement = f->placement,
      .trainer = f->trainer,
  };
  if (f->options->on_epoch(f->options->user, &info) == 0) return;
  f->stopped = true;
  f->result.stop = DESCENT_STOP_CALLBACK;
}

static descent_status finish_epoch(struct fit *f) {
  descent_metrics metrics = {0};
  bool improved;
  descent_status status;
  f->result.epochs = f->epoch;
  if (f->validation) TRY(evaluate_dataset(&f->trainer->program, f->trainer->network, f->validation, 0, &metrics));
  TRY(judge(f, f->validation ? &metrics : NULL, &improved));
  if (f->options->patience && f->bad_epochs >= f->options->patience) {
    f->stopped = true;
    f->result.stop = DESCENT_STOP_EARLY;
  }
  if (f->options->on_epoch) report_epoch(f, f->validation ? &metrics : NULL, improved);
done:
  descent_metrics_clear(&metrics);
  return status;
}

/* Brings the network's parameters to what the training leaves behind: the best epoch's, where they are kept, else the
 * device's. */
static descent_status leave_parameters(struct fit *f) {
  if (f->keep_best && f->result.best_epoch) return DESCENT_OK; /* there already */
  return descent_trainer_sync(f->trainer);
}

/* After a divergence: the same, but weights that are themselves not finite give way to the last ones kept. */
static descent_status leave_after_divergence(struct fit *f) {
  const struct program *program = &f->trainer->program;
  char text[512], kept[64] = "the initial weights are kept";
  int64_t position;
  descent_status status;
  snprintf(text, sizeof text, "%s", descent_last_error());
  TRY(diverge_find(program, program->at.parameters, 0, f->trainer->network->n_parameters, &position));
  if (position < 0 && !(f->keep_best && f->result.best_epoch)) {
    TRY(descent_trainer_sync(f->trainer));
    snprintf(kept, sizeof kept, "the weights before that step are kept");
  } else if (f->kept_epoch) {
    snprintf(kept, sizeof kept, "the weights of epoch %lld are kept", (long long)f->kept_epoch);
  }
  status = status_set(DESCENT_ERROR_DIVERGED, "%s; %s", text, kept);
done:
  return status;
}

descent_status descent_fit(descent_network *network, descent_device *device, const descent_dataset *training,
                           const descent_dataset *validation, const descent_train_options *options,
                           descent_fit_result *result) {
  struct fit f = {.options = options, .training = training, .validation = validation, .started = now()};
  descent_status status;
  TRY(set_up(&f, network, device));
  for (f.epoch = 1; f.epoch <= options->epochs && !f.stopped; f.epoch++) {
    TRY(run_epoch(&f));
    if (!f.stopped) TRY(finish_epoch(&f));
  }
  TRY(leave_parameters(&f));
  f.result.seconds = now() - f.started;
  if (result) *result = f.result;
done:
  if (status == DESCENT_ERROR_DIVERGED) status = leave_after_divergence(&f);
  descent_trainer_free(f.trainer);
  free(f.statistics);
  free(f.health);
  return status;
}
