/* The trainer: a network's parameters and optimizer state on a device, updated one step at a time. */
#include "train/trainer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/number.h"
#include "core/options.h"
#include "core/status.h"
#include "train/check.h"

descent_status trainer_class_weights(const descent_network *network, const descent_train_options *options,
                                     float **weights) {
  *weights = NULL;
  if (!options->class_weights) return DESCENT_OK;
  *weights = memory_allocate(network->classes, sizeof **weights, "class weights");
  if (!*weights) return DESCENT_ERROR_MEMORY;
  for (int64_t k = 0; k < network->classes; k++) (*weights)[k] = (float)options->class_weights[k];
  return DESCENT_OK;
}

static void trainer_clear(void *object) {
  descent_trainer *trainer = object;
  program_clear(&trainer->program);
  free(trainer->parameters);
  staging_free(&trainer->staging);
  free(trainer->gradient.X);
  handle_release(trainer->device);
  __atomic_sub_fetch(&trainer->network->trainers, 1, __ATOMIC_RELAXED);
  handle_release(trainer->network);
}

descent_status trainer_create(descent_network *network, descent_device *device, const descent_train_options *options,
                              unsigned parts, int64_t batch, int64_t most_rows, const float *class_weights,
                              descent_trainer **trainer) {
  descent_trainer *made = handle_create(HANDLE_TRAINER, sizeof *made, trainer_clear, "the trainer");
  if (!made) return DESCENT_ERROR_MEMORY;
  made->network = network;
  made->device = device;
  handle_retain(network);
  __atomic_add_fetch(&network->trainers, 1, __ATOMIC_RELAXED);
  handle_retain(device);
  made->options = *options;
  made->options.class_weights = NULL;
  made->learning_rate = options->optimizer.learning_rate;
  descent_status status;
  made->parameters = memory_allocate(network->n_parameters, sizeof *made->parameters, "parameters from the device");
  if (!made->parameters) TRY(DESCENT_ERROR_MEMORY);
  TRY(program_create_with(network, device, options, parts, batch, most_rows, class_weights, &made->program));
  *trainer = made;
  made = NULL;
done:
  descent_trainer_free(made);
  return status;
}

descent_status descent_trainer_create(descent_network *network, descent_device *device,
                                      const descent_train_options *options, int64_t max_batch,
                                      descent_trainer **trainer) {
  float *class_weights = NULL;
  descent_train_options complete;
  descent_status status;
  TRY(handle_check(network, HANDLE_NETWORK, "network"));
  TRY(device_check(device, "device"));
  TRY(argument_check(trainer, "trainer"));
  TRY(network_check_plain(network, "network"));
  TRY(complete_train_options(options, &complete));
  options = &complete;
  TRY(check_train_options(network, device, options));
  const int64_t batch = max_batch ? max_batch : options->batch_size;
  if (batch < 1)
    TRY(status_set(DESCENT_ERROR_ARGUMENT, "max_batch %lld: must be at least 1, here or as batch_size",
                   (long long)batch));
  if (options->balance_classes)
    TRY(status_set(DESCENT_ERROR_ARGUMENT, "balance_classes: not available for steps by hand; use class_weights"));
  if (options->callbacks.loss)
    TRY(status_set(DESCENT_ERROR_ARGUMENT,
                   "callbacks.loss: not available for steps by hand; use descent_trainer_forward and "
                   "descent_trainer_backward"));
  if (options->schedule.kind != DESCENT_SCHEDULE_CONSTANT)
    TRY(status_set(DESCENT_ERROR_ARGUMENT,
                   "schedule %s: not available for steps by hand; use constant and descent_trainer_set_learning_rate",
                   descent_schedule_name(options->schedule.kind)));
  TRY(check_steps_by_hand(options));
  if (options->schedule.warmup_epochs > 0)
    TRY(status_set(DESCENT_ERROR_ARGUMENT,
                   "warmup_epochs %g: not available for steps by hand, which have no epochs; use warmup_steps",
                   options->schedule.warmup_epochs));
  TRY(trainer_class_weights(network, options, &class_weights));
  TRY(trainer_create(network, device, options, 0, batch, 0, class_weights, trainer));
done:
  free(class_weights);
  return status;
}

void descent_trainer_free(descent_trainer *trainer) { handle_close(trainer, HANDLE_TRAINER); }

descent_status descent_trainer_set_learning_rate(descent_trainer *trainer, double learning_rate) {
  const descent_status status = handle_check(trainer, HANDLE_TRAINER, "trainer");
  if (status != DESCENT_OK) return status;
  if (!(learning_rate > 0 && isfinite((float)learning_rate)))
    return status_set(DESCENT_ERROR_ARGUMENT, "learning_rate %.10g: must be a number above 0", learning_rate);
  trainer->learning_rate = learning_rate;
  return DESCENT_OK;
}

descent_status descent_trainer_set_steps(descent_trainer *trainer, int64_t steps) {
  const descent_status status = handle_check(trainer, HANDLE_TRAINER, "trainer");
  if (status != DESCENT_OK) return status;
  if (steps < 0 || steps >= INT64_C(1) << 48)
    return status_set(DESCENT_ERROR_ARGUMENT, "steps %lld: must be 0 to 2^48 - 1", (long long)steps);
  trainer->steps = steps;
  trainer_forget_forward(trainer); /* whose masks were those of another step */
  return DESCENT_OK;
}

descent_status trainer_check_rows(const descent_trainer *trainer, int64_t rows) {
  if (rows >= 1 && rows <= trainer->program.plan->batch) return DESCENT_OK;
  return status_set(DESCENT_ERROR_ARGUMENT, "a step of %lld rows: must be between 1 and max_batch %lld",
                    (long long)rows, (long long)trainer->program.plan->batch);
}

descent_status trainer_refuse_class(const descent_trainer *trainer, int64_t row, double value) {
  return status_set(DESCENT_ERROR_ARGUMENT, "row %lld: invalid class %g: must be an integer in 0 .. %lld",
                    (long long)row, value, (long long)trainer->network->classes - 1);
}

descent_status trainer_refuse_weight(int64_t row, double value) {
  return status_set(DESCENT_ERROR_ARGUMENT, "row %lld: invalid weight %g: must be finite and >= 0", (long long)row,
                    value);
}

descent_status trainer_check_classes(const descent_trainer *trainer, const float *y, int64_t rows) {
  const int64_t classes = trainer->network->classes;
  for (int64_t r = 0; classes && r < rows; r++)
    if (!(y[r] >= 0 && y[r] < (float)classes && y[r] == floorf(y[r])))
      return trainer_refuse_class(trainer, r, (double)y[r]);
  return DESCENT_OK;
}

descent_status trainer_check_weights(const float *weights, int64_t rows) {
  for (int64_t r = 0; weights && r < rows; r++)
    if (!(weights[r] >= 0 && isfinite(weights[r]))) return trainer_refuse_weight(r, (double)weights[r]);
  return DESCENT_OK;
}

int64_t trainer_bad_step(const struct plan_step *steps, int64_t n, const double scalars[SCALAR_SLOTS]) {
  int64_t bad = 0;
  if (scalars[SCALAR_BAD_STEP] == 0) return -1;
  while (bad + 1 < n && (double)steps[bad].number < scalars[SCALAR_BAD_STEP]) bad++;
  return bad;
}

descent_status trainer_check(descent_trainer *trainer, const struct plan_step *steps, int64_t n_steps, int64_t epoch,
                             double scalars[SCALAR_SLOTS]) {
  struct program *program = &trainer->program;
  descent_status status;
  TRY(program_read(program, program->at.scalars, 0, SCALAR_SLOTS, PLAN_F64, scalars));
  const int64_t bad = trainer_bad_step(steps, n_steps, scalars);
  if (bad < 0) {
    trainer->steps = steps[n_steps - 1].number;
    goto done;
  }
  trainer->steps = steps[bad].number - 1;
  status = diverge_explain(trainer, &steps[bad], epoch, scalars);
  const double none = 0;
  descent_status reset = program_write(program, program->at.scalars, SCALAR_BAD_STEP, 1, PLAN_F64, &none);
  if (reset != DESCENT_OK) status = reset;
done:
  return status;
}

struct plan_step trainer_next_step(const descent_trainer *trainer, int64_t rows) {
  struct plan_step step = {.number = trainer->steps + 1, .rows = rows, .learning_rate = trainer->learning_rate};
  if (step.number < trainer->options.schedule.warmup_steps)
    step.learning_rate *= (double)step.number / (double)trainer->options.schedule.warmup_steps;
  return step;
}

descent_status trainer_run_bound(descent_trainer *trainer, struct plan_range range, int64_t rows,
                                 descent_step_info *info) {
  const struct plan_step step = trainer_next_step(trainer, rows);
  double scalars[SCALAR_SLOTS];
  descent_status status;
  trainer->gradient.state = GRADIENT_NONE;
  trainer->gradient.pass_rows = rows;
  trainer_forget_forward(trainer);
  TRY(program_run(&trainer->program, range, &step, 1));
  TRY(trainer_check(trainer, &step, 1, 1, scalars));
  trainer->gradient.rows = rows;
  trainer->gradient.loss = scalars[SCALAR_LOSS];
  if (info)
    *info = (descent_step_info){
        .epoch = 1,
        .step = step.number,
        .rows = rows,
        .loss = scalars[SCALAR_LOSS],
        .gradient_norm = scalars[SCALAR_GRADIENT_NORM],
        .learning_rate = step.learning_rate,
    };
done:
  return status;
}

descent_status trainer_run_rows(descent_trainer *trainer, struct plan_range range, const float *X, const float *y,
                                const float *weights, int64_t rows, descent_step_info *info) {
  const descent_network *network = trainer->network;
  descent_dataset *aligned = NULL;
  descent_status status;
  TRY(argument_check(X, "X"));
  TRY(argument_check(y, "y"));
  TRY(trainer_check_rows(trainer, rows));
  TRY(trainer_check_classes(trainer, y, rows));
  TRY(trainer_check_weights(weights, rows));
  struct dataset_storage given = {.X = X,
                                  .y = y,
                                  .rows = rows,
                                  .inputs = network->inputs,
                                  .classes = network->classes,
                                  .targets = network->classes ? 1 : network_outputs(network)};
  TRY(dataset_align(&(descent_dataset){.storage = &given, .rows = rows}, &network->schema, &aligned));
  if (aligned) X = aligned->storage->X, y = aligned->storage->y;
  TRY(program_bind_rows(&trainer->program, X, y, weights, rows));
  TRY(trainer_run_bound(trainer, range, rows, info));
done:
  descent_dataset_free(aligned);
  return status;
}

descent_status descent_trainer_step(descent_trainer *trainer, const float *X, const float *y, const float *weights,
                                    int64_t rows, descent_step_info *info) {
  descent_status status;
  TRY(handle_check(trainer, HANDLE_TRAINER, "trainer"));
  TRY(trainer_run_rows(trainer, trainer->program.plan->train, X, y, weights, rows, info));
  trainer->gradient.state = GRADIENT_USED;
done:
  return status;
}

descent_status descent_trainer_sync(descent_trainer *trainer) {
  descent_status status;
  TRY(handle_check(trainer, HANDLE_TRAINER, "trainer"));
  const struct program *program = &trainer->program;
  const struct plan *plan = program->plan;
  const int64_t n = trainer->network->n_parameters;
  int layer = 1;
  TRY(program_read(program, program->at.parameters, 0, n, PLAN_F32, trainer->parameters));
  const int64_t position = number_find_non_finite(trainer->parameters, n);
  if (position < n) {
    while (layer < plan->layers && plan->segments[layer - 1].end <= position) layer++;
    char cause[256];
    diverge_rate_cause(trainer, trainer->learning_rate, cause, sizeof cause);
    TRY(status_set(
        DESCENT_ERROR_DIVERGED,
        "training diverged at step %lld: its update made layer %d's weights exceed float32; likely cause: %s",
        (long long)trainer->steps, layer, cause));
  }
  memcpy(trainer->network->parameters, trainer->parameters, (size_t)n * sizeof *trainer->parameters);
done:
  return status;
}
