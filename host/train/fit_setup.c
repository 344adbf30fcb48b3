/* Sets a training up: what is checked before anything changes, and what is compiled and allocated. */
#include <math.h>
#include <stdlib.h>

#include "core/memory.h"
#include "core/status.h"
#include "train/check.h"
#include "train/extremes.h"
#include "train/feed.h"
#include "train/fit.h"
#include "train/ranks.h"

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

descent_status fit_check(struct fit *f) {
  const descent_network *network = f->network;
  const descent_device *device = f->device;
  descent_status status;
  TRY(handle_check(network, HANDLE_NETWORK, "network"));
  TRY(device_check(device, "device"));
  if (!f->source) TRY(handle_check(f->training, HANDLE_DATASET, "training"));
  if (f->validation) TRY(handle_check(f->validation, HANDLE_DATASET, "validation"));
  TRY(network_check_plain(network, "network"));
  TRY(network_check_unused(network));
  TRY(check_train_options(network, device, &f->options));
  if (f->options.checkpoint.keep_best && !f->validation)
    TRY(status_set(DESCENT_ERROR_ARGUMENT,
                   "keep_best: needs validation data, whose loss says which checkpoint is best"));
  TRY(feed_check(f, network));
  if (f->validation) TRY(check_validation(f, network));
done:
  return status;
}

/* Rows of a block of validation rows; 0 without any. */
static int64_t validation_block(const struct fit *f) {
  return f->validation ? program_evaluation_block(f->network, f->device, f->validation->rows) : 0;
}

static unsigned plan_parts(const struct fit *f) {
  return (f->options.callbacks.loss ? PLAN_PART_BACKWARD : 0) |
         (options_cut_steps(&f->options) ? PLAN_PART_MICRO_BATCHES : 0);
}

descent_status fit_build_plan(const struct fit *f, struct plan **plan) {
  const int64_t block = validation_block(f);
  struct plan_handles at;
  return plan_build_with(f->network, &f->options, plan_parts(f), block > f->batch ? block : f->batch, plan, &at);
}

descent_status fit_compile(struct fit *f) {
  descent_network *network = f->network;
  float *class_weights = NULL;
  descent_status status;
  f->statistics = memory_allocate((int64_t)network->n_layers * LAYER_SLOTS, sizeof(double), "layer statistics");
  f->health = memory_allocate(network->n_layers, sizeof *f->health, "layer health");
  if (!f->statistics || !f->health) TRY(DESCENT_ERROR_MEMORY);
  if (f->options.balance_classes)
    TRY(balanced_weights(network, f->training, &class_weights));
  else
    TRY(trainer_class_weights(network, &f->options, &class_weights));
  TRY(micro_batches_create(network, &f->options, f->batch, class_weights, &f->cut));
  TRY(trainer_create(network, f->device, &f->options, plan_parts(f), f->cut.rows, validation_block(f), class_weights,
                     &f->trainer));
  TRY(own_loss_create(network, &f->options, f->trainer->program.plan->batch, &f->own_loss));
  TRY(feed_open(f));
  f->keep_best = f->validation && f->options.early_stopping.restore_best;
  f->describes_epochs |= f->options.callbacks.on_epoch != NULL;
  f->steps_per_run = 1;
  f->at = (struct fit_state){
      .epoch = 1, .plateau_rate = f->options.optimizer.learning_rate, .rate_factor = 1, .best_loss = INFINITY};
done:
  free(class_weights);
  return status;
}

descent_status fit_place_data(struct fit *f) {
  struct program *program = &f->trainer->program;
  descent_status status;
  TRY(program_bind(program, f->training));
  if (f->validation) TRY(program_bind(program, f->validation));
done:
  return status;
}
