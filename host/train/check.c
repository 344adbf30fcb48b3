/* Checks the ranges of the training options, and a dataset against a network. */
#include "train/check.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>

#include "backend/program.h"
#include "checkpoint/configuration.h"
#include "core/communicator.h"
#include "core/option_table.h"
#include "core/options.h"
#include "core/status.h"
#include "core/terms.h"

static descent_status require(bool holds, const char *option, double value, const char *range) {
  return holds ? DESCENT_OK : status_set(DESCENT_ERROR_ARGUMENT, "%s %.10g: must be %s", option, value, range);
}

static descent_status check_ranges(const descent_train_options *o) {
  const double minimum = o->schedule.minimum;
  descent_status status = DESCENT_OK;
  for (int i = 0; i < n_train_options; i++) TRY(train_option_check(&train_options[i], o));
  TRY(require(minimum <= o->optimizer.learning_rate, "schedule minimum", minimum, "between 0 and the learning rate"));
  if (o->schedule.warmup_epochs > 0 && o->schedule.warmup_steps > 0)
    status = status_set(DESCENT_ERROR_ARGUMENT,
                        "warmup_epochs %.10g: cannot be combined with warmup_steps %lld; use one of them",
                        o->schedule.warmup_epochs, (long long)o->schedule.warmup_steps);
done:
  return status;
}

static descent_status check_classifier_options(const descent_network *network, const descent_train_options *o) {
  if (o->callbacks.loss && o->label_smoothing > 0)
    return status_set(
        DESCENT_ERROR_ARGUMENT,
        "label_smoothing %g: belongs to the network's loss; with a loss function of your own, smooth there",
        o->label_smoothing);
  if (loss_is_regression(network->loss)) {
    if (o->class_weights || o->balance_classes)
      return status_set(DESCENT_ERROR_ARGUMENT, "class weights: not available for regression");
    return require(o->label_smoothing == 0, "label_smoothing", o->label_smoothing, "0 for regression");
  }
  if (o->class_weights && o->balance_classes)
    return status_set(DESCENT_ERROR_ARGUMENT,
                      "balance_classes: cannot be combined with class_weights; use one of them");
  for (int64_t k = 0; o->class_weights && k < network->classes; k++) {
    double weight = o->class_weights[k];
    if (!((float)weight > 0 && isfinite((float)weight)))
      return status_set(DESCENT_ERROR_ARGUMENT, "class_weights[%lld] %g: must be a number above 0", (long long)k,
                        weight);
  }
  return DESCENT_OK;
}

static descent_status check_fusion(const descent_device *device, const descent_train_options *o) {
  if (o->gpu.fusion != DESCENT_FUSION_ON) return DESCENT_OK;
  if (o->callbacks.loss)
    return status_set(
        DESCENT_ERROR_UNSUPPORTED,
        "fusion on: a program's own loss is computed between the layers and the gradients; use auto or off");
  if (device->backend->fused_with) return DESCENT_OK;
  return status_set(DESCENT_ERROR_UNSUPPORTED, "fusion on: the device %s computes layer by layer; use auto or off",
                    device->name);
}

static bool is_power_of_two(int64_t n) { return n > 0 && (n & (n - 1)) == 0; }

static descent_status check_micro_batches(const descent_train_options *o) {
  const long long M = options_micro_batches(o);
  const int ranks = options_ranks(o);
  if (!options_cut_steps(o)) return DESCENT_OK;
  if (o->callbacks.loss) {
    char option[48] = "communicator"; /* of one rank that exchanges with itself */
    if (M > 1) snprintf(option, sizeof option, "micro_batches %lld", M);
    return status_set(DESCENT_ERROR_ARGUMENT,
                      "%s: not available with a loss function of the program, which is given whole steps", option);
  }
  if (o->batch_size && M > o->batch_size)
    return status_set(DESCENT_ERROR_ARGUMENT, "%s %lld: must be at most batch_size %lld", options_name_of_parts(o), M,
                      (long long)o->batch_size);
  if (M > INT_MAX) return status_set(DESCENT_ERROR_ARGUMENT, "micro_batches %lld: must be at most %d", M, INT_MAX);
  if (ranks > 1 && (M % ranks || !is_power_of_two(M / ranks)))
    return status_set(DESCENT_ERROR_ARGUMENT,
                      "micro_batches %lld: must be a power of two for each of the %d ranks: %d, %d, %d, ..", M, ranks,
                      ranks, 2 * ranks, 4 * ranks);
  return DESCENT_OK;
}

descent_status check_communicator(const descent_train_options *options) {
  const descent_communicator *communicator = options->ranks.communicator;
  return communicator ? handle_check(communicator, HANDLE_COMMUNICATOR, "ranks.communicator") : DESCENT_OK;
}

descent_status check_steps_by_hand(const descent_train_options *options) {
  if (options->ranks.micro_batches > 1)
    return status_set(DESCENT_ERROR_ARGUMENT, "micro_batches %lld: not available for steps by hand; use descent_fit",
                      (long long)options->ranks.micro_batches);
  if (options->ranks.communicator)
    return status_set(DESCENT_ERROR_ARGUMENT, "communicator: not available for steps by hand; use descent_fit");
  return DESCENT_OK;
}

descent_status check_train_options(const descent_network *network, const descent_device *device,
                                   const descent_train_options *options) {
  descent_status status;
  TRY(check_communicator(options));
  TRY(check_ranges(options));
  TRY(check_fusion(device, options));
  TRY(check_classifier_options(network, options));
  TRY(check_micro_batches(options));
  TRY(configuration_check_names(options->checkpoint.resume_with));
  if (options->checkpoint.keep_best && !options->checkpoint.folder)
    TRY(status_set(DESCENT_ERROR_ARGUMENT, "keep_best: needs a checkpoint folder"));
  if (options->checkpoint.rollbacks && !options->checkpoint.folder)
    TRY(status_set(DESCENT_ERROR_ARGUMENT, "rollbacks %lld: needs a checkpoint folder",
                   (long long)options->checkpoint.rollbacks));
  if (options->optimizer.nesterov &&
      !(options->optimizer.kind == DESCENT_OPTIMIZER_SGD && options->optimizer.momentum > 0))
    status = status_set(DESCENT_ERROR_ARGUMENT, "nesterov: needs optimizer sgd and momentum above 0, not %s and %g",
                        descent_optimizer_name(options->optimizer.kind), options->optimizer.momentum);
done:
  return status;
}

/* Each option has the name, the range and the texts of the training's. */
descent_status check_predict_options(const descent_device *device, const descent_predict_options *given,
                                     descent_predict_options *complete) {
  descent_train_options same;
  descent_status status;
  TRY(complete_predict_options(given, complete));
  descent_train_options_init(&same, sizeof same);
  same.precision = complete->precision;
  same.gpu.fusion = complete->fusion;
  TRY(check_ranges(&same));
  TRY(check_fusion(device, &same));
done:
  return status;
}

descent_status check_dataset(const descent_network *network, const descent_dataset *dataset, bool targets,
                             const char *role) {
  const struct dataset_storage *storage = dataset->storage;
  const bool regression = loss_is_regression(network->loss);
  const int64_t outputs = network->layers[network->n_layers - 1].n_out;
  if (storage->inputs != network->inputs)
    return status_set(DESCENT_ERROR_ARGUMENT, "%s: %lld input columns, but the network has %lld inputs", role,
                      (long long)storage->inputs, (long long)network->inputs);
  if (!targets) return DESCENT_OK;
  if (!storage->y) return status_set(DESCENT_ERROR_ARGUMENT, "%s: no target column", role);
  if (regression != (storage->task == DESCENT_TASK_REGRESSION))
    return status_set(DESCENT_ERROR_ARGUMENT, "%s: the task is %s, but the network's loss is %s", role,
                      descent_task_name(storage->task), descent_loss_name(network->loss));
  if (regression && storage->targets != outputs)
    return status_set(DESCENT_ERROR_ARGUMENT, "%s: %lld target columns, but the network has %lld outputs", role,
                      (long long)storage->targets, (long long)outputs);
  if (!regression && storage->classes > network->classes)
    return status_set(DESCENT_ERROR_ARGUMENT, "%s: %lld classes, but the network has %lld", role,
                      (long long)storage->classes, (long long)network->classes);
  return DESCENT_OK;
}

descent_status descent_train_options_check(const descent_train_options *options, const descent_network *network,
                                           const descent_device *device) {
  struct plan *plan = NULL;
  struct plan_handles handles;
  descent_train_options complete;
  descent_status status;
  TRY(handle_check(network, HANDLE_NETWORK, "network"));
  TRY(device_check(device, "device"));
  TRY(complete_train_options(options, &complete));
  TRY(check_train_options(network, device, &complete));
  TRY(plan_build_with(network, &complete, options_cut_steps(&complete) ? PLAN_PART_MICRO_BATCHES : 0, 1, &plan,
                      &handles));
  TRY(program_check_support(device, plan));
done:
  plan_free(plan);
  return status;
}
