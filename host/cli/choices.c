/* The groups of options that several commands share, and what they stand for: a device, a network, a training. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

#define AT(member) offsetof(struct device_choice, member)
const struct setting device_options[] = {
    ROW_HEADING("Device:"),
    ROW_TEXT("device", "NAME", AT(device), "auto (a GPU if one is usable), cpu, reference, cuda, cuda:I or cuda:UUID",
             0),
    ROW_INTEGER("threads", "N", AT(threads), "CPU threads (0: one per core)", OPTION_UNRECORDED, 0, 256),
    ROW_TERM("precision", "NAME", AT(precision), "fp32; on a GPU also tf32 or bf16", 0, precision),
    ROW_TERM("fusion", "auto|off|on", AT(fusion),
             "On a GPU, compute several layers of a narrow network in one kernel: auto (where that is estimated or "
             "measured to be faster), off, or on (an error where no kernel takes the network)",
             0, fusion),
    ROW_END,
};
#undef AT

/* CUDA shows a process one part of a GPU that is divided (MIG): that which the environment names when CUDA starts. */
static void show_part(const char *device) {
  if (strncmp(device, "cuda:MIG-", strlen("cuda:MIG-")) == 0)
    (void)setenv("CUDA_VISIBLE_DEVICES", device + strlen("cuda:"), false);
}

int device_choice_open(const char *command, const struct device_choice *choice, descent_device **device) {
  show_part(choice->device);
  descent_status status = descent_device_open(choice->device, (int)choice->threads, device);
  if (status == DESCENT_OK) return EXIT_DONE;
  return fail(command, exit_of(status), "--device '%s': %s", choice->device, descent_last_error());
}

descent_predict_options device_choice_predict_options(const struct device_choice *choice) {
  descent_predict_options options = descent_predict_options_default();
  options.precision = choice->precision;
  options.fusion = choice->fusion;
  return options;
}

#define AT(member) offsetof(struct network_choice, member)
const struct setting network_options[] = {
    ROW_HEADING("Network:"),
    ROW_TEXT("hidden", "N,N,...", AT(hidden), "Widths of the hidden layers, or none", 0),
    ROW_TERM("activation", "NAME", AT(activation),
             "Activation of the hidden layers: identity, sigmoid, tanh, relu, leaky_relu, gelu or silu", 0, activation),
    ROW_TERM("output-activation", "NAME", AT(output_activation), "Activation of the output layer, for regression", 0,
             activation),
    ROW_TERM("init", "NAME", AT(init),
             "Initial weights: auto (depends on the activation), xavier_uniform, xavier_normal, he_uniform, he_normal, "
             "lecun_uniform or lecun_normal",
             0, init),
    ROW_END,
};
#undef AT

enum { WIDTHS_MOST = 9999, WIDTH_LARGEST = 10000000 };

/* The widths of "64,32" (none for "none"): their number, or -1 for any other text. */
static int read_widths(const char *text, int64_t widths[static WIDTHS_MOST]) {
  if (strcmp(text, "none") == 0) return 0;
  int n = 0;
  for (const char *c = text;; c++) {
    char item[24];
    size_t length = strcspn(c, ",");
    if (n == WIDTHS_MOST || length >= sizeof item) return -1;
    memcpy(item, c, length);
    item[length] = '\0';
    if (!option_integer(item, &widths[n]) || widths[n] < 1 || widths[n] > WIDTH_LARGEST) return -1;
    n++;
    c += length;
    if (!*c) return n;
  }
}

int network_choice_create(const char *command, const struct network_choice *choice, int64_t inputs, int64_t outputs,
                          descent_loss loss, uint64_t seed, descent_network **network) {
  int64_t widths[WIDTHS_MOST + 1];
  descent_activation activations[WIDTHS_MOST + 1];
  int hidden = read_widths(choice->hidden, widths);
  if (hidden < 0)
    return fail(command, EXIT_USAGE,
                "--hidden '%s': must be none or up to %d whole numbers from 1 to %d separated by commas, like 64,32",
                choice->hidden, WIDTHS_MOST, WIDTH_LARGEST);
  for (int i = 0; i < hidden; i++) activations[i] = choice->activation;
  widths[hidden] = outputs;
  activations[hidden] = choice->output_activation;
  descent_network_options options = descent_network_options_default();
  options.inputs = inputs;
  options.layers = hidden + 1;
  options.widths = widths;
  options.activations = activations;
  options.loss = loss;
  descent_network *created = NULL;
  descent_status status = descent_network_create(&options, &created);
  if (status == DESCENT_OK) status = descent_network_initialise(created, choice->init, seed);
  if (status != DESCENT_OK) {
    descent_network_free(created);
    return fail_status(command, status);
  }
  *network = created;
  return EXIT_DONE;
}

#define AT(member) offsetof(struct training_choice, member)
#define ABOVE_0 OPTION_OPEN_LOW, 0, HUGE_VAL
#define FROM_0 0, 0, HUGE_VAL
#define SHARE OPTION_OPEN_HIGH, 0, 1
const struct setting optimizer_options[] = {
    ROW_HEADING("Optimizer:"),
    ROW_TERM("optimizer", "NAME", AT(train.optimizer.kind), "gd, sgd, rmsprop, adam, adamw, lars or lamb", 0,
             optimizer),
    ROW_REAL("learning-rate", "X", AT(train.optimizer.learning_rate), "Learning rate", ABOVE_0),
    ROW_TEXT("schedule", "NAME[:...]", AT(schedule),
             "Learning-rate schedule: constant, step:EVERY[:GAMMA], exponential:GAMMA, cosine[:MIN], "
             "polynomial[:POWER[:MIN]] or plateau[:PATIENCE[:FACTOR]]",
             0),
    ROW_INTEGER("warmup-steps", "N", AT(train.schedule.warmup_steps), "Steps of linear warm-up", 0, 0, 1e15),
    ROW_REAL("warmup-epochs", "X", AT(train.schedule.warmup_epochs),
             "Epochs of linear warm-up, in place of steps; 0.5 is half an epoch", FROM_0),
    ROW_REAL("momentum", "B", AT(train.optimizer.momentum), "Momentum of sgd, rmsprop and lars", SHARE),
    ROW_FLAG("nesterov", AT(train.optimizer.nesterov), "Nesterov momentum, for sgd", 0),
    ROW_REAL("beta1", "B", AT(train.optimizer.beta1), "Decay rate of the first-moment estimate (adam, adamw, lamb)",
             SHARE),
    ROW_REAL("beta2", "B", AT(train.optimizer.beta2), "Decay rate of the second-moment estimate (adam, adamw, lamb)",
             SHARE),
    ROW_REAL("rho", "B", AT(train.optimizer.rho), "Decay rate of the squared-gradient average (rmsprop)", SHARE),
    ROW_REAL("epsilon", "X", AT(train.optimizer.epsilon), "Added to the denominator (rmsprop, adam, adamw, lamb)",
             ABOVE_0),
    ROW_REAL("weight-decay", "X", AT(train.optimizer.weight_decay), "Decoupled weight decay", FROM_0),
    ROW_REAL("trust-coefficient", "X", AT(train.optimizer.trust_coefficient), "Factor of the trust ratio (lars)",
             ABOVE_0),
    ROW_REAL("l2", "X", AT(train.optimizer.l2), "L2 penalty, added to the gradient", FROM_0),
    ROW_REAL("dropout", "P", AT(train.dropout), "Fraction of the hidden activations dropped in training", SHARE),
    ROW_REAL("clip-norm", "X", AT(train.optimizer.clip_norm), "Clip the global gradient norm to X (0: off)", FROM_0),
    ROW_TEXT("batch-size", "N|all", AT(batch_size), "Rows per step", 0),
    ROW_INTEGER("seed", "N", AT(seed), "Seed of the initial weights, splits, shuffles and dropout", 0, 0, 9e18),
    ROW_END,
};
const struct setting tuning_options[] = {
    ROW_FLAG(
        "no-autotune", AT(no_autotune),
        "On a GPU, use the first algorithm that cuBLASLt proposes for each matrix product instead of timing several "
        "and Descent's own kernels",
        0),
    ROW_END,
};
const struct setting micro_batch_options[] = {
    ROW_HEADING("Micro-batches and ranks:"),
    ROW_INTEGER(
        "micro-batches", "M", AT(train.ranks.micro_batches),
        "Compute the gradient of a step in M parts of --batch-size / M rows, one after another, so that it needs the "
        "memory of one part; 0: one part for each rank",
        0, 0, 1e9),
    ROW_END,
};
#undef AT

static bool is_set(const struct setting *o, const struct training_choice *choice,
                   const struct training_choice *defaults) {
  const void *const value = (const char *)choice + o->offset, *const other = (const char *)defaults + o->offset;
  switch (o->kind) {
    case OPTION_FLAG: return *(const bool *)value != *(const bool *)other;
    case OPTION_INTEGER: return *(const int64_t *)value != *(const int64_t *)other;
    case OPTION_REAL: return *(const double *)value != *(const double *)other;
    case OPTION_TEXT: return strcmp(*(const char *const *)value, *(const char *const *)other) != 0;
    case OPTION_TERM: return *(const int *)value != *(const int *)other;
    case OPTION_HEADING:
    case OPTION_END: break;
  }
  return false;
}

const char *training_choice_set(const struct training_choice *choice, const struct training_choice *defaults) {
  const struct setting *const tables[] = {optimizer_options, tuning_options, micro_batch_options};
  for (size_t t = 0; t < sizeof tables / sizeof *tables; t++)
    for (const struct setting *o = tables[t]; o->kind != OPTION_END; o++) {
      const bool of_any = o->offset == offsetof(struct training_choice, batch_size) ||
                          o->offset == offsetof(struct training_choice, seed);
      if (!of_any && is_set(o, choice, defaults)) return o->name;
    }
  return NULL;
}

struct schedule_fields {
  double values[2];
  int count;
};

/* The numbers after the name in "step:10:0.5"; false for anything else. */
static bool read_fields(const char *text, struct schedule_fields *fields) {
  fields->count = 0;
  while (*text == ':') {
    char item[32];
    size_t length = strcspn(++text, ":");
    if (fields->count == 2 || length >= sizeof item) return false;
    memcpy(item, text, length);
    item[length] = '\0';
    if (!option_real(item, &fields->values[fields->count++])) return false;
    text += length;
  }
  return *text == '\0';
}

static bool is_count(double x) { return x >= 1 && x <= 1e9 && x == floor(x); }
static bool is_factor(double x) { return x > 0 && x <= 1; }

static bool read_schedule(const char *text, descent_train_options *train) {
  char name[16];
  size_t length = strcspn(text, ":");
  struct schedule_fields f;
  if (length >= sizeof name) return false;
  memcpy(name, text, length);
  name[length] = '\0';
  if (descent_schedule_parse(name, &train->schedule.kind) != DESCENT_OK || !read_fields(text + length, &f))
    return false;
  switch (train->schedule.kind) {
    case DESCENT_SCHEDULE_CONSTANT: return f.count == 0;
    case DESCENT_SCHEDULE_EXPONENTIAL:
      train->schedule.gamma = f.values[0];
      return f.count == 1 && is_factor(f.values[0]);
    case DESCENT_SCHEDULE_COSINE:
      train->schedule.minimum = f.count ? f.values[0] : 0;
      return f.count <= 1 && train->schedule.minimum >= 0;
    case DESCENT_SCHEDULE_POLYNOMIAL:
      if (f.count > 0) train->schedule.power = f.values[0];
      train->schedule.minimum = f.count > 1 ? f.values[1] : 0;
      return train->schedule.power > 0 && train->schedule.minimum >= 0;
    case DESCENT_SCHEDULE_STEP:
    case DESCENT_SCHEDULE_PLATEAU:
      if (train->schedule.kind == DESCENT_SCHEDULE_STEP && f.count == 0) return false;
      if ((f.count > 0 && !is_count(f.values[0])) || (f.count > 1 && !is_factor(f.values[1]))) return false;
      if (f.count > 0) train->schedule.every = (int64_t)f.values[0];
      if (f.count > 1) train->schedule.gamma = f.values[1];
      return true;
  }
  return false;
}

int training_choice_resolve(const char *command, struct training_choice *choice, const struct device_choice *device) {
  descent_train_options *train = &choice->train;
  int64_t batch = 0;
  if (strcmp(choice->batch_size, "all") != 0 && (!option_integer(choice->batch_size, &batch) || batch < 1))
    return fail(command, EXIT_USAGE, "--batch-size '%s': must be a whole number of at least 1, or all",
                choice->batch_size);
  if (!read_schedule(choice->schedule, train))
    return fail(
        command, EXIT_USAGE,
        "--schedule '%s': must be constant, step:EVERY[:GAMMA], exponential:GAMMA, cosine[:MIN], "
        "polynomial[:POWER[:MIN]] or plateau[:PATIENCE[:FACTOR]], with EVERY and PATIENCE of at least 1, GAMMA and "
        "FACTOR above 0 and at most 1, POWER above 0, MIN of at least 0",
        choice->schedule);
  train->batch_size = batch;
  train->seed = (uint64_t)choice->seed;
  train->precision = device->precision;
  train->gpu.fusion = device->fusion;
  train->autotune = !choice->no_autotune;
  return EXIT_DONE;
}
