/* Checks the ranges of the training options, and a dataset against a network. */
#include "train/check.h"

#include <float.h>
#include <math.h>

#include "backend/program.h"
#include "checkpoint/configuration.h"
#include "core/options.h"
#include "core/status.h"
#include "core/terms.h"

static descent_status require(bool holds, const char *option, double value, const char *range) {
  return holds ? DESCENT_OK : status_set(DESCENT_ERROR_ARGUMENT, "%s %.10g: must be %s", option, value, range);
}

/* Finite in float32, in which the backends compute. */
static bool is_float(double value) { return isfinite((float)value); }
static bool is_positive(double value) { return value > 0 && is_float(value); }
static bool is_normal(double value) { return value >= (double)FLT_MIN && is_float(value); }
static bool is_from_0(double value) { return value >= 0 && is_float(value); }
static bool is_loss_difference(double value) { return value >= 0 && isfinite(value); }
static bool is_time(double value) { return value >= 0; }
static bool is_share(double value) { return value >= 0 && value < 1; }
static bool is_factor(double value) { return value > 0 && value <= 1; }
static bool is_reduction(double value) { return value > 0 && value < 1; }

static descent_status check_reals(const descent_train_options *o) {
  static const char share[] = "in [0, 1)", from_0[] = "a number of at least 0";
  const struct {
    const char *name;
    double value;
    bool (*holds)(double value);
    const char *range;
  } rows[] = {
      {"learning_rate", o->optimizer.learning_rate, is_positive, "a number above 0"},
      {"momentum", o->optimizer.momentum, is_share, share},
      {"beta1", o->optimizer.beta1, is_share, share},
      {"beta2", o->optimizer.beta2, is_share, share},
      {"rho", o->optimizer.rho, is_share, share},
      {"epsilon", o->optimizer.epsilon, is_normal, "at least 1.2e-38, the smallest normal float32"},
      {"weight_decay", o->optimizer.weight_decay, is_from_0, from_0},
      {"l2", o->optimizer.l2, is_from_0, from_0},
      {"clip_norm", o->optimizer.clip_norm, is_from_0, "a number of at least 0 (0: off)"},
      {"dropout", o->dropout, is_share, share},
      {"label_smoothing", o->label_smoothing, is_share, share},
      {"schedule gamma", o->schedule.gamma, is_factor, "in (0, 1]"},
      {"min_delta", o->early_stopping.min_delta, is_loss_difference, from_0},
      {"checkpoint seconds", o->checkpoint.seconds, is_time, from_0},
      {"rollback_factor", o->checkpoint.rollback_factor, is_reduction, "in (0, 1)"},
  };
  const double minimum = o->schedule.minimum;
  descent_status status;
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    TRY(require(rows[i].holds(rows[i].value), rows[i].name, rows[i].value, rows[i].range));
  TRY(require(minimum >= 0 && minimum <= o->optimizer.learning_rate, "schedule minimum", minimum,
              "between 0 and the learning rate"));
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
      {"patience", o->early_stopping.patience, 0, "at least 1, or 0 to never stop early"},
      {"schedule every", o->schedule.every, 1, "at least 1"},
      {"warmup_steps", o->schedule.warmup_steps, 0, "at least 0"},
      {"checkpoint steps", o->checkpoint.steps, 0, "at least 1, or 0 for none"},
      {"checkpoint epochs", o->checkpoint.epochs, 0, "at least 1, or 0 for none"},
      {"checkpoint keep", o->checkpoint.keep, 1, "at least 1"},
      {"keep_every_steps", o->checkpoint.keep_every_steps, 0, "at least 1, or 0 for none"},
      {"keep_every_epochs", o->checkpoint.keep_every_epochs, 0, "at least 1, or 0 for none"},
      {"rollbacks", o->checkpoint.rollbacks, 0, "at least 0"},
  };
  descent_status status = DESCENT_OK;
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    TRY(require(rows[i].value >= rows[i].least, rows[i].name, (double)rows[i].value, rows[i].range));
  TRY(require((unsigned)o->optimizer.kind < N_OPTIMIZERS, "optimizer", o->optimizer.kind, "a descent_optimizer"));
  TRY(require((unsigned)o->schedule.kind <= DESCENT_SCHEDULE_PLATEAU, "schedule", o->schedule.kind,
              "a descent_schedule"));
  TRY(require((unsigned)o->precision <= DESCENT_PRECISION_BF16, "precision", o->precision, "a descent_precision"));
done:
  return status;
}

static descent_status check_classifier_options(const descent_network *network, const descent_train_options *o) {
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
    if (!((float)weight > 0 && is_float(weight)))
      return status_set(DESCENT_ERROR_ARGUMENT, "class_weights[%lld] %g: must be a number above 0", (long long)k,
                        weight);
  }
  return DESCENT_OK;
}

descent_status check_train_options(const descent_network *network, const descent_train_options *options) {
  descent_status status;
  TRY(check_reals(options));
  TRY(check_counts(options));
  TRY(check_classifier_options(network, options));
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
  TRY(check_train_options(network, &complete));
  TRY(plan_build(network, &complete, 1, &plan, &handles));
  TRY(program_check_support(device, plan));
done:
  plan_free(plan);
  return status;
}
