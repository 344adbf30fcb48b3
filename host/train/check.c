/* Checks the ranges of the training options, and a dataset against a network. */
#include "train/check.h"

#include <float.h>
#include <math.h>

#include "backend/program.h"
#include "checkpoint/configuration.h"
#include "core/status.h"

static descent_status require(bool holds, const char *option, double value, const char *range) {
  return holds ? DESCENT_OK : status_set(DESCENT_ERROR_ARGUMENT, "%s %.10g: must be %s", option, value, range);
}

/* Finite in float32, in which the backends compute. */
static bool is_float(double value) { return isfinite((float)value); }

static descent_status check_reals(const descent_train_options *o) {
  static const char share[] = "in [0, 1)", positive[] = "a number of at least 0";
  const struct {
    const char *name;
    double value;
    bool holds;
    const char *range;
  } rows[] = {
      {"learning_rate", o->learning_rate, o->learning_rate > 0 && is_float(o->learning_rate), "a number above 0"},
      {"momentum", o->momentum, o->momentum >= 0 && o->momentum < 1, share},
      {"beta1", o->beta1, o->beta1 >= 0 && o->beta1 < 1, share},
      {"beta2", o->beta2, o->beta2 >= 0 && o->beta2 < 1, share},
      {"rho", o->rho, o->rho >= 0 && o->rho < 1, share},
      {"epsilon", o->epsilon, o->epsilon >= (double)FLT_MIN && is_float(o->epsilon),
       "at least 1.2e-38, the smallest normal float32"},
      {"weight_decay", o->weight_decay, o->weight_decay >= 0 && is_float(o->weight_decay), positive},
      {"l2", o->l2, o->l2 >= 0 && is_float(o->l2), positive},
      {"clip_norm", o->clip_norm, o->clip_norm >= 0 && is_float(o->clip_norm), "a number of at least 0 (0: off)"},
      {"dropout", o->dropout, o->dropout >= 0 && o->dropout < 1, share},
      {"label_smoothing", o->label_smoothing, o->label_smoothing >= 0 && o->label_smoothing < 1, share},
      {"schedule_gamma", o->schedule_gamma, o->schedule_gamma > 0 && o->schedule_gamma <= 1, "in (0, 1]"},
      {"schedule_minimum", o->schedule_minimum, o->schedule_minimum >= 0 && o->schedule_minimum <= o->learning_rate,
       "between 0 and the learning rate"},
      {"min_delta", o->min_delta, o->min_delta >= 0 && isfinite(o->min_delta), positive},
      {"checkpoint_seconds", o->checkpoint_seconds, o->checkpoint_seconds >= 0, positive},
      {"rollback_factor", o->rollback_factor, o->rollback_factor > 0 && o->rollback_factor < 1, "in (0, 1)"},
  };
  descent_status status = DESCENT_OK;
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    TRY(require(rows[i].holds, rows[i].name, rows[i].value, rows[i].range));
done:
  return status;
}

static descent_status check_counts(const descent_train_options *o) {
  const struct {
    const char *name;
    int64_t value, least;
    const char *range;
  } rows[] = {
      {"batch_size", o->batch_size, 0, "at least 1, or 0 for all rows"},
      {"epochs", o->epochs, 0, "at least 0"},
      {"patience", o->patience, 0, "at least 1, or 0 to never stop early"},
      {"schedule_every", o->schedule_every, 1, "at least 1"},
      {"warmup_steps", o->warmup_steps, 0, "at least 0"},
      {"checkpoint_steps", o->checkpoint_steps, 0, "at least 1, or 0 for none"},
      {"checkpoint_epochs", o->checkpoint_epochs, 0, "at least 1, or 0 for none"},
      {"checkpoints_kept", o->checkpoints_kept, 1, "at least 1"},
      {"rollbacks", o->rollbacks, 0, "at least 0"},
  };
  descent_status status = DESCENT_OK;
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    TRY(require(rows[i].value >= rows[i].least, rows[i].name, (double)rows[i].value, rows[i].range));
  TRY(require((unsigned)o->optimizer <= DESCENT_OPTIMIZER_ADAMW, "optimizer", o->optimizer, "a descent_optimizer"));
  TRY(require((unsigned)o->schedule <= DESCENT_SCHEDULE_PLATEAU, "schedule", o->schedule, "a descent_schedule"));
  TRY(require((unsigned)o->precision <= DESCENT_PRECISION_BF16, "precision", o->precision, "a descent_precision"));
done:
  return status;
}

static descent_status check_classifier_options(const descent_network *network, const descent_train_options *o) {
  if (network->loss == DESCENT_LOSS_MEAN_SQUARED_ERROR) {
    if (o->class_weights || o->balance_classes)
      return status_set(DESCENT_ERROR_ARGUMENT, "class weights: not available for regression");
    return require(o->label_smoothing == 0, "label_smoothing", o->label_smoothing, "0 for regression");
  }
  if (o->class_weights && o->balance_classes)
    return status_set(DESCENT_ERROR_ARGUMENT,
                      "balance_classes: cannot be combined with class_weights; use one of them");
  for (int64_t k = 0; o->class_weights && k < network->classes; k++) {
    double weight = o->class_weights[k];
    if (!((float)weight > 0 && is_float(weight)))
      return status_set(DESCENT_ERROR_ARGUMENT, "class_weights[%lld] %g: must be a number above 0", (long long)k,
                        weight);
  }
  return DESCENT_OK;
}

descent_status check_train_options(const descent_network *network, const descent_train_options *options) {
  descent_status status;
  if (!options || options->size != sizeof *options)
    return status_set(DESCENT_ERROR_ARGUMENT, "train options must start from DESCENT_TRAIN_OPTIONS_INIT");
  TRY(check_reals(options));
  TRY(check_counts(options));
  TRY(check_classifier_options(network, options));
  TRY(configuration_check_names(options->resume_with));
  if (options->rollbacks && !options->checkpoint)
    TRY(status_set(DESCENT_ERROR_ARGUMENT, "rollbacks %lld: needs a checkpoint folder", (long long)options->rollbacks));
  if (options->nesterov && !(options->optimizer == DESCENT_OPTIMIZER_SGD && options->momentum > 0))
    status = status_set(DESCENT_ERROR_ARGUMENT, "nesterov: needs optimizer sgd and momentum above 0, not %s and %g",
                        descent_optimizer_name(options->optimizer), options->momentum);
done:
  return status;
}

descent_status check_dataset(const descent_network *network, const descent_dataset *dataset, bool targets,
                             const char *role) {
  const struct dataset_storage *storage = dataset->storage;
  const bool regression = network->loss == DESCENT_LOSS_MEAN_SQUARED_ERROR;
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
  descent_status status;
  TRY(check_train_options(network, options));
  TRY(plan_build(network, options, 1, &plan, &handles));
  TRY(program_check_support(device, plan));
done:
  plan_free(plan);
  return status;
}
