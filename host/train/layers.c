/* One layer's parameters and gradients, between the caller and a trainer's device. */
#include <math.h>

#include "core/status.h"
#include "train/trainer.h"

/* Layer `layer`, from 1; NULL with the error set when the trainer or the layer does not exist. */
static const struct network_layer *find_layer(const descent_trainer *trainer, int32_t layer) {
  if (handle_check(trainer, HANDLE_TRAINER, "trainer") != DESCENT_OK) return NULL;
  const descent_network *network = trainer->network;
  if (layer >= 1 && layer <= network->n_layers) return &network->layers[layer - 1];
  status_set(DESCENT_ERROR_ARGUMENT, "layer %d: must be in 1 .. %d", layer, network->n_layers);
  return NULL;
}

/* W (n_out, n_in) and b (n_out) of a flat buffer; either may be NULL. */
static descent_status read_layer(const struct program *program, int buffer, const struct network_layer *layer, float *W,
                                 float *b) {
  descent_status status = DESCENT_OK;
  if (W) TRY(program_read(program, buffer, layer->at.W, layer->n_out * layer->n_in, PLAN_F32, W));
  if (b) TRY(program_read(program, buffer, layer->at.b, layer->n_out, PLAN_F32, b));
done:
  return status;
}

static descent_status write_layer(struct program *program, int buffer, const struct network_layer *layer,
                                  const float *W, const float *b) {
  descent_status status = DESCENT_OK;
  if (W) TRY(program_write(program, buffer, layer->at.W, layer->n_out * layer->n_in, PLAN_F32, W));
  if (b) TRY(program_write(program, buffer, layer->at.b, layer->n_out, PLAN_F32, b));
done:
  return status;
}

descent_status descent_trainer_get_layer(const descent_trainer *trainer, int32_t layer, float *W, float *b) {
  const struct network_layer *at = find_layer(trainer, layer);
  if (!at) return DESCENT_ERROR_ARGUMENT;
  return read_layer(&trainer->program, trainer->program.at.parameters, at, W, b);
}

descent_status descent_trainer_set_layer(descent_trainer *trainer, int32_t layer, const float *W, const float *b) {
  const struct network_layer *at = find_layer(trainer, layer);
  if (!at) return DESCENT_ERROR_ARGUMENT;
  descent_status status;
  TRY(network_check_finite(layer, "W", W, at->n_out * at->n_in));
  TRY(network_check_finite(layer, "b", b, at->n_out));
  trainer_forget_forward(trainer);
  TRY(write_layer(&trainer->program, trainer->program.at.parameters, at, W, b));
done:
  return status;
}

descent_status descent_trainer_get_gradient(const descent_trainer *trainer, int32_t layer, float *dW, float *db) {
  const struct network_layer *at = find_layer(trainer, layer);
  if (!at) return DESCENT_ERROR_ARGUMENT;
  descent_status status;
  if (trainer->gradient.state == GRADIENT_NONE)
    TRY(status_set(DESCENT_ERROR_ARGUMENT,
                   "trainer: has no gradients: call descent_trainer_gradient or descent_trainer_backward first"));
  TRY(read_layer(&trainer->program, trainer->program.at.gradients, at, dW, db));
done:
  return status;
}

descent_status descent_trainer_set_gradient(descent_trainer *trainer, int32_t layer, const float *dW, const float *db) {
  const struct network_layer *at = find_layer(trainer, layer);
  if (!at) return DESCENT_ERROR_ARGUMENT;
  descent_status status;
  struct program *program = &trainer->program;
  struct trainer_gradient *gradient = &trainer->gradient;
  TRY(network_check_finite(layer, "dW", dW, at->n_out * at->n_in));
  TRY(network_check_finite(layer, "db", db, at->n_out));
  if (gradient->state != GRADIENT_READY) { /* the other layers keep those of the last step */
    TRY(trainer_forget_loss(trainer));
    gradient->rows = 0;
  }
  gradient->loss = NAN;
  TRY(write_layer(program, program->at.gradients, at, dW, db));
  gradient->state = GRADIENT_READY;
done:
  return status;
}
