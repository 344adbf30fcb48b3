/* A step by hand in parts: the gradients of the network's loss or of the caller's, then the update. What a training does
 * not need is compiled at the first forward. */
#include <math.h>
#include <string.h>

#include "core/memory.h"
#include "core/status.h"
#include "train/differentiate.h"
#include "train/trainer.h"

/* ---- the halves of a step ---------------------------------------------------------------------------------------- */

descent_status descent_trainer_gradient(descent_trainer *trainer, const float *X, const float *y, const float *weights,
                                        int64_t rows, descent_step_info *info) {
  descent_status status;
  TRY(handle_check(trainer, HANDLE_TRAINER, "trainer"));
  TRY(trainer_run_rows(trainer, trainer->program.plan->gradient, X, y, weights, rows, info));
  trainer->steps--; /* the step is done after its update */
  trainer->gradient.state = GRADIENT_READY;
done:
  return status;
}

descent_status trainer_forget_loss(descent_trainer *trainer) {
  const double none = 0;
  return program_write(&trainer->program, trainer->program.at.scalars, SCALAR_LOSS, 1, PLAN_F64, &none);
}

descent_status descent_trainer_update(descent_trainer *trainer, descent_step_info *info) {
  double scalars[SCALAR_SLOTS];
  descent_status status;
  TRY(handle_check(trainer, HANDLE_TRAINER, "trainer"));
  struct program *program = &trainer->program;
  struct trainer_gradient *gradient = &trainer->gradient;
  if (gradient->state != GRADIENT_READY)
    TRY(status_set(DESCENT_ERROR_ARGUMENT,
                   "trainer: has no gradients that an update has not used: call descent_trainer_gradient, "
                   "descent_trainer_backward or descent_trainer_set_gradient first"));
  const struct plan_step step = trainer_next_step(trainer, gradient->pass_rows ? gradient->pass_rows : 1);
  gradient->state = GRADIENT_NONE;
  trainer_forget_forward(trainer);
  TRY(program_run(program, program->plan->update, &step, 1));
  TRY(trainer_check(trainer, &step, 1, 1, scalars));
  gradient->state = GRADIENT_USED;
  if (info)
    *info = (descent_step_info){
        .epoch = 1,
        .step = step.number,
        .rows = gradient->rows,
        .loss = gradient->loss,
        .gradient_norm = scalars[SCALAR_GRADIENT_NORM],
        .learning_rate = step.learning_rate,
    };
done:
  return status;
}

/* ---- forward ----------------------------------------------------------------------------------------------------- */

/* Compiles the program again, with the backward ranges, in the state that it has. */
descent_status trainer_prepare_forward(descent_trainer *trainer) {
  static const unsigned parts = PLAN_PART_BACKWARD | PLAN_PART_INPUT_GRADIENT | PLAN_PART_ACCUMULATE;
  const struct program *old = &trainer->program;
  descent_train_options options = trainer->options;
  struct program made = {0};
  descent_status status = DESCENT_OK;
  trainer_forget_forward(trainer);
  if (old->plan->backward.count) return DESCENT_OK;
  options.balance_classes = old->at.class_weight != PLAN_NONE; /* whose values are state */
  TRY(program_create_with(trainer->network, trainer->device, &options, parts, old->plan->batch, 0, NULL, &made));
  TRY(program_copy_state(old, &made));
  program_clear(&trainer->program);
  trainer->program = made;
  made = (struct program){0};
done:
  program_clear(&made);
  return status;
}

descent_status trainer_keep_missing(descent_trainer *trainer, const float *X, int64_t rows) {
  struct trainer_gradient *gradient = &trainer->gradient;
  const int64_t inputs = trainer->network->inputs, count = rows * inputs;
  gradient->has_missing = false;
  for (int64_t i = 0; i < count && !gradient->has_missing; i++) gradient->has_missing = isnan(X[i]);
  if (!gradient->has_missing) return DESCENT_OK;
  if (!gradient->X)
    gradient->X =
        memory_allocate(trainer->program.plan->batch * inputs, sizeof *gradient->X, "rows with missing cells");
  if (!gradient->X) return DESCENT_ERROR_MEMORY;
  memcpy(gradient->X, X, (size_t)count * sizeof *X);
  return DESCENT_OK;
}

descent_status trainer_run_forward(descent_trainer *trainer, int64_t rows) {
  struct program *program = &trainer->program;
  const struct plan_step step = trainer_next_step(trainer, rows);
  descent_status status;
  TRY(trainer_forget_loss(trainer));
  trainer->gradient.pass_rows = rows;
  TRY(program_run(program, program->plan->forward, &step, 1));
done:
  return status;
}

descent_status descent_trainer_forward(descent_trainer *trainer, const float *X, int64_t rows, float *outputs) {
  descent_dataset *aligned = NULL;
  descent_status status;
  TRY(handle_check(trainer, HANDLE_TRAINER, "trainer"));
  TRY(argument_check(X, "X"));
  TRY(argument_check(outputs, "outputs"));
  TRY(trainer_check_rows(trainer, rows));
  const descent_network *network = trainer->network;
  struct dataset_storage given = {.X = X, .rows = rows, .inputs = network->inputs};
  TRY(dataset_align(&(descent_dataset){.storage = &given, .rows = rows}, &network->schema, &aligned));
  if (aligned) X = aligned->storage->X;
  TRY(trainer_prepare_forward(trainer));
  TRY(trainer_keep_missing(trainer, X, rows));
  struct program *program = &trainer->program;
  TRY(program_bind_rows(program, X, NULL, NULL, rows));
  TRY(trainer_run_forward(trainer, rows));
  TRY(program_read(program, program->at.A, 0, rows * network_outputs(network), PLAN_F32, outputs));
  trainer->gradient.forwarded = true;
done:
  descent_dataset_free(aligned);
  return status;
}

/* ---- backward ---------------------------------------------------------------------------------------------------- */

/* The gradients of the last forward's rows, added to those that are there or in their place. */
static descent_status run_backward(descent_trainer *trainer, const float *dOutputs, bool adds) {
  struct program *program = &trainer->program;
  const struct plan *plan = program->plan;
  const struct plan_step step = trainer_next_step(trainer, trainer->gradient.pass_rows);
  descent_status status;
  if (adds) TRY(program_run(program, plan->keep_gradients, &step, 1));
  TRY(differentiate_outputs(program, &step, dOutputs));
  if (adds) TRY(program_run(program, plan->add_gradients, &step, 1));
done:
  return status;
}

descent_status trainer_check_forwarded(const descent_trainer *trainer) {
  if (trainer->gradient.forwarded) return DESCENT_OK;
  return status_set(DESCENT_ERROR_ARGUMENT,
                    "trainer: its parameters or rows are not those of a forward: call descent_trainer_forward first");
}

descent_status trainer_backward(descent_trainer *trainer, const float *dOutputs, float *dX, bool accumulate) {
  struct trainer_gradient *gradient = &trainer->gradient;
  const bool adds = accumulate && gradient->state == GRADIENT_READY;
  const int64_t rows = gradient->pass_rows;
  const struct plan_step step = trainer_next_step(trainer, rows);
  descent_status status;
  gradient->state = GRADIENT_NONE;
  TRY(run_backward(trainer, dOutputs, adds));
  if (dX)
    TRY(differentiate_inputs(&trainer->program, trainer->network, &step, gradient->has_missing ? gradient->X : NULL,
                             dX));
  gradient->rows = adds ? gradient->rows + rows : rows;
  gradient->loss = NAN;
  gradient->state = GRADIENT_READY;
done:
  return status;
}

descent_status descent_trainer_backward(descent_trainer *trainer, const float *dOutputs, float *dX, bool accumulate) {
  descent_status status;
  TRY(handle_check(trainer, HANDLE_TRAINER, "trainer"));
  TRY(argument_check(dOutputs, "dOutputs"));
  TRY(trainer_check_forwarded(trainer));
  TRY(differentiate_check(dOutputs, trainer->gradient.pass_rows, network_outputs(trainer->network)));
  TRY(trainer_backward(trainer, dOutputs, dX, accumulate));
done:
  return status;
}
