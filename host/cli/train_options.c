/* The options of `descent train`. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/output.h"
#include "cli/place.h"
#include "cli/train.h"

static const char command[] = "descent train";
static const char default_validation[] = "0.2", default_out[] = "model.safetensors";

#define AT(member) offsetof(struct train_values, member)
static const struct setting data_rows[] = {
    ROW_HEADING("Data:"),
    ROW_TEXT(
        "target", "NAME|INDEX", AT(target),
        "Column to predict: its name, or its index from 0 (-1: the last); for regression several, separated by commas",
        0),
    ROW_TERM(
        "task", "NAME", AT(task),
        "auto, binary, classes or regression; auto takes text, and at most 20 different whole numbers that repeat, as "
        "classes",
        0, task),
    ROW_TEXT("validation", "FILE|SHARE", AT(validation),
             "Validation data: a file, or a share of DATA (0.2 or 20%) held out at random; 0: none", 0),
    ROW_TEXT("test", "FILE", AT(test), "File to measure on once, after the training", 0),
    ROW_TEXT("validation-target-file", "FILE", AT(validation_targets), "Targets of the --validation file", 0),
    ROW_TEXT("test-target-file", "FILE", AT(test_targets), "Targets of the --test file", 0),
    ROW_TERM("normalize", "NAME", AT(normalize), "Scale each column, by the training rows: standard, minmax or none", 0,
             normalize),
    ROW_TERM(
        "impute", "NAME", AT(impute),
        "Replace missing numbers by a column's mean, median or most_frequent value in the training rows; a missing "
        "category becomes the most frequent one",
        0, impute),
    ROW_END,
};
static const struct setting training_rows[] = {
    ROW_HEADING("Training:"),
    ROW_TEXT("weights", "FILE", AT(weights),
             "Start from the weights of a model file, or of a PyTorch nn.Sequential saved as .safetensors", 0),
    ROW_INTEGER("epochs", "N", AT(training.train.epochs), "Maximum number of epochs; 0: only measure and save", 0, 0,
                1e12),
    ROW_INTEGER(
        "patience", "N", AT(training.train.early_stopping.patience),
        "Stop after N epochs without improvement of the validation loss, or of the training loss without validation "
        "rows (0: never)",
        0, 0, 1e12),
    ROW_REAL("min-delta", "X", AT(training.train.early_stopping.min_delta),
             "Minimum decrease of the loss that counts as an improvement", 0, 0, HUGE_VAL),
    ROW_TEXT("class-weights", "WEIGHTS", AT(class_weights),
             "balanced, one weight per class like 1,5, or by name like yes=5 (others: 1)", 0),
    ROW_INTEGER("shuffle-seed", "N", AT(training.train.shuffle_seed),
                "Seed of the shuffles, to give several networks their rows in the same order; 0: --seed",
                OPTION_RECORDED_UNLESS_0, 0, 9e18),
    ROW_REAL("label-smoothing", "X", AT(training.train.label_smoothing),
             "Fraction of each label spread over all classes", OPTION_OPEN_HIGH, 0, 1),
    ROW_HEADING("Several networks:"),
    ROW_INTEGER("ensemble", "K", AT(ensemble),
                "Train K networks with different seeds, together, and save them as one model, which predicts the mean "
                "of their probabilities or values",
                OPTION_UNRECORDED, 1, 10000),
    ROW_TEXT("ensemble-shuffle", "own|shared", AT(ensemble_shuffle),
             "own: each network sees the rows in another order; shared: all in the same order", OPTION_UNRECORDED),
    ROW_INTEGER("folds", "N", AT(folds),
                "Cross-validate instead of saving a model: deal the rows into N folds, and measure each with a network "
                "trained on the others; 0: no. The deviation between folds is that of a sample, with n - 1",
                OPTION_UNRECORDED, 0, 10000),
    ROW_TEXT(
        "out-of-fold", "FILE", AT(out_of_fold),
        "With --folds: write the fold of each row, and what it is predicted by the network that was not trained on "
        "it, as CSV",
        OPTION_UNRECORDED),
    ROW_END,
};
static const struct setting checkpoint_rows[] = {
    ROW_HEADING("Checkpoints:"),
    ROW_TEXT("checkpoint", "DIR", AT(checkpoint),
             "Write checkpoints to this folder; a training that is resumed from one ends with the same model",
             OPTION_UNRECORDED),
    ROW_TEXT(
        "checkpoint-every", "N UNIT", AT(checkpoint_every),
        "How often: '100 steps', '2 epochs', 60s, 10m or 1h; always before the first step, at the end and when stopped",
        OPTION_UNRECORDED),
    ROW_INTEGER("keep", "N", AT(keep), "Number of checkpoints to keep: the newest N", OPTION_UNRECORDED, 1, 1e9),
    ROW_FLAG("keep-best", AT(keep_best),
             "Also write a checkpoint after each epoch that improves the validation loss, and keep the last of these",
             OPTION_UNRECORDED),
    ROW_TEXT("keep-every", "N UNIT", AT(keep_every),
             "Also write a checkpoint at every multiple of '1000 steps' or '10 epochs', and keep all of these",
             OPTION_UNRECORDED),
    ROW_TEXT(
        "resume", "DIR", AT(resume),
        "Continue from the newest intact checkpoint in this folder, or start if there is none; write checkpoints there "
        "too, unless --checkpoint names another folder",
        OPTION_UNRECORDED),
    ROW_TEXT(
        "resume-with", "NAME,...", AT(resume_with),
        "Options that may differ from the resumed training, like epochs,learning-rate; also validation, device, and "
        "library (its version)",
        OPTION_UNRECORDED),
    ROW_TEXT("on-divergence", "WHAT", AT(on_divergence),
             "stop, or rollback[:TIMES[:DIVISOR]]: return to the newest checkpoint, at most TIMES times (3), with the "
             "learning rate divided by DIVISOR (10)",
             OPTION_UNRECORDED),
    ROW_END,
};
static const struct setting output_rows[] = {
    ROW_HEADING("Output:"),
    ROW_TEXT("out", "FILE", AT(out), "Model file to write; an existing file is replaced", OPTION_UNRECORDED),
    ROW_TEXT("log", "FILE", AT(log), "Write one JSON object per epoch", OPTION_UNRECORDED),
    ROW_TEXT("tensorboard", "DIR", AT(tensorboard), "Write a TensorBoard event file to this folder", OPTION_UNRECORDED),
    ROW_TEXT("report", "FILE", AT(report), "Write an HTML report of the training", OPTION_UNRECORDED),
    ROW_TEXT("config", "FILE", AT(config), "JSON object of option names and values; the command line takes precedence",
             OPTION_UNRECORDED),
    ROW_FLAG("quiet", AT(quiet), "Print only results and errors", OPTION_UNRECORDED),
    ROW_END,
};
#undef AT

static int parse(const struct command_syntax *syntax, int argc, char **argv, struct train_values *values,
                 struct option_config *config) {
  struct arguments arguments;
  int code = options_parse(syntax, argc, argv, NULL, 0, &arguments);
  if (code == OPTIONS_CONTINUE && values->config) {
    code = options_config_read(syntax, values->config, argc, argv, config);
    if (code == EXIT_DONE)
      code = options_parse(syntax, config->argc, config->argv, values->config, config->n_config, &arguments);
  }
  values->data_path = arguments.values[0];
  return code;
}

static int check_validation(struct train_values *v) {
  v->validation_given = strcmp(v->validation, default_validation) != 0;
  char number[32];
  size_t length = strlen(v->validation);
  const bool percent = length > 1 && length < sizeof number && v->validation[length - 1] == '%';
  memcpy(number, v->validation, percent ? length - 1 : 0);
  number[percent ? length - 1 : 0] = '\0';
  if (!option_real(percent ? number : v->validation, &v->validation_fraction)) {
    v->validation_path = v->validation;
    v->validation_fraction = 0;
    return EXIT_DONE;
  }
  if (percent) v->validation_fraction /= 100;
  if (v->validation_fraction >= 0 && v->validation_fraction < 1) return EXIT_DONE;
  return fail(command, EXIT_USAGE,
              "--validation '%s': must be a file, a number of at least 0 and below 1, or below 100%%", v->validation);
}

/* An output must be writable, tried now and not after hours of training, and must not be what is being read. */
static int check_output(const struct train_values *v, const char *option, const char *path, bool must_be_regular) {
  const char *const read[] = {v->data_path,        v->validation_path,    v->test,        v->config, v->weights,
                              v->data.target_file, v->validation_targets, v->test_targets};
  if (!path) return EXIT_DONE;
  for (size_t i = 0; i < sizeof read / sizeof *read; i++)
    if (read[i] && output_same_file(path, read[i]))
      return fail(command, EXIT_USAGE, "--%s '%s': is also an input file", option, path);
  if (must_be_regular && output_is_special(path))
    return fail(command, EXIT_RUN, "%s: cannot write: not a regular file", path);
  if (!output_possible(path)) return fail(command, EXIT_RUN, "%s: cannot write: %s", path, strerror(errno));
  return EXIT_DONE;
}

/* Files must not be what the folder of checkpoints keeps for itself, nor the folder. */
static int check_kept(const struct train_values *v) {
  const struct {
    const char *option, *path;
    bool is_file; /* to write */
  } files[] = {{"--out", v->out, true},
               {"--log", v->log, true},
               {"--report", v->report, true},
               {"--tensorboard", v->tensorboard, false},
               {"--out-of-fold", v->out_of_fold, true},
               {"DATA", v->data_path, false},
               {"--validation", v->validation_path, false},
               {"--test", v->test, false}};
  char name[NAME_MAX + 1];
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
    const char *folder = files[i].path ? checkpoint_choice_keeps(v, files[i].path, name) : NULL;
    if (folder && *name)
      return fail(command, EXIT_USAGE, "%s '%s': is a name that the checkpoints in %s use: choose another",
                  files[i].option, files[i].path, folder);
    if (files[i].path && files[i].is_file && place_holds_checkpoints(files[i].path))
      return fail(command, EXIT_USAGE, "%s '%s': would replace a file of the checkpoints there: choose another name",
                  files[i].option, files[i].path);
    if (folder && files[i].is_file)
      return fail(command, EXIT_USAGE, "%s '%s': is also the folder of the checkpoints", files[i].option,
                  files[i].path);
  }
  return EXIT_DONE;
}

/* No two outputs in the same place. */
static int check_different(const struct train_values *v) {
  const struct {
    const char *option, *path, *what;
  } files[] = {{"out", v->out, "the model file (--out)"},
               {"log", v->log, "the log file (--log)"},
               {"report", v->report, "the report (--report)"},
               {"out-of-fold", v->out_of_fold, NULL}};
  char name[NAME_MAX + 1];
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
    if (!files[i].path) continue;
    for (size_t k = 0; k < i; k++)
      if (files[k].path && output_same_place(files[i].path, files[k].path))
        return fail(command, EXIT_USAGE, "--%s '%s': is also %s", files[i].option, files[i].path, files[k].what);
    if (v->tensorboard && place_within(files[i].path, v->tensorboard, name) && !*name)
      return fail(command, EXIT_USAGE, "--%s '%s': is also the folder of --tensorboard", files[i].option,
                  files[i].path);
  }
  return EXIT_DONE;
}

/* Whether this rank writes the files. */
static bool writes(const struct train_values *v, const struct launcher *launcher) {
  return launcher->rank == 0 || strcmp(v->ranks.ranks, "off") == 0;
}

/* The outputs are tried. */
static int check_outputs(const struct train_values *v, const struct launcher *launcher) {
  int code = EXIT_DONE;
  if (!writes(v, launcher)) return EXIT_DONE;
  if (((code = check_output(v, "out", v->out, true)) != EXIT_DONE ||
       (code = check_output(v, "out-of-fold", v->out_of_fold, false)) != EXIT_DONE ||
       (code = check_output(v, "log", v->log, false)) != EXIT_DONE))
    return code;
  return check_output(v, "report", v->report, false);
}

/* Network k of several among the inputs and the outputs of the command. */
static int check_member(const struct train_values *values, int64_t k, const struct launcher *launcher) {
  struct train_values v = *values;
  struct member_places places;
  int code = EXIT_DONE;
  if (!member_places_set(&places, &v, k)) code = fail(command, EXIT_RUN, "out of memory");
  if (code == EXIT_DONE) code = check_kept(&v);
  if (code == EXIT_DONE) code = check_different(&v);
  if (code == EXIT_DONE && writes(&v, launcher)) code = check_output(&v, "log", v.log, false);
  member_places_clear(&places);
  return code;
}

/* Also the names that are derived from those of the options. */
static int check_places(const struct train_values *v, const struct launcher *launcher) {
  const int64_t networks = v->folds ? v->folds : v->ensemble > 1 ? v->ensemble : 0;
  int code = check_kept(v);
  if (code == EXIT_DONE) code = check_different(v);
  if (code == EXIT_DONE) code = check_outputs(v, launcher);
  for (int64_t k = 0; code == EXIT_DONE && k < networks; k++) code = check_member(v, k, launcher);
  return code;
}

void train_options_sets(struct train_values *values, struct setting_set sets[TRAIN_SETS]) {
  *values = (struct train_values){.validation = default_validation,
                                  .normalize = DESCENT_NORMALIZE_STANDARD,
                                  .data = DATA_CHOICE_INIT,
                                  .network = NETWORK_CHOICE_INIT,
                                  .training = TRAINING_CHOICE_INIT,
                                  .device = DEVICE_CHOICE_INIT,
                                  .ranks = RANK_CHOICE_INIT,
                                  .checkpoint_every = CHECKPOINT_EVERY,
                                  .keep = CHECKPOINTS_KEPT,
                                  .on_divergence = "stop",
                                  .ensemble = 1,
                                  .ensemble_shuffle = "own",
                                  .out = default_out};
  const struct setting_set all[] = {
      {data_rows, values},
      {answer_options, &values->data},
      {column_options, &values->data},
      {data_options, &values->data},
      {network_options, &values->network},
      {training_rows, values},
      {optimizer_options, &values->training},
      {device_options, &values->device},
      {tuning_options, &values->training},
      {micro_batch_options, &values->training},
      {rank_options, &values->ranks},
      {checkpoint_rows, values},
      {output_rows, values},
  };
  _Static_assert(sizeof all / sizeof *all == TRAIN_SETS, "TRAIN_SETS counts them");
  memcpy(sets, all, sizeof all);
}

int train_options_read(int argc, char **argv, const struct launcher *launcher, struct train_values *values,
                       struct option_config *config, cJSON **record) {
  struct setting_set sets[TRAIN_SETS];
  train_options_sets(values, sets);
  const struct command_syntax syntax = {
      .name = command,
      .arguments = "DATA",
      .about =
          "Train a network on the file DATA and save it as a model. --target alone is enough: everything else has a "
          "default or is inferred from the data, and is printed before the training starts."
          "\vWith validation rows, the model has the weights of the best epoch. SIGINT, SIGTERM and SIGHUP end the "
          "training after the current step and save the model and a checkpoint; a second signal ends it at once. "
          "SIGUSR1 saves a checkpoint and continues. If the training diverges, the last good weights are saved. The "
          "same command with --resume DIR starts a training and continues it after every interruption. Progress is a "
          "live line on a terminal. In a pipe or a file it is a line for the first and the last epoch, each tenth of "
          "the training, an epoch with a new warning, and one that ends a minute after the last line; --log has every "
          "epoch. Option names can be abbreviated while they are unambiguous, and may be spelled with _ for -.",
      .fewest = 1,
      .most = 1,
      .sets = sets,
      .n_sets = TRAIN_SETS,
  };
  int code = parse(&syntax, argc, argv, values, config);
  if (code != OPTIONS_CONTINUE) return code;
  values->out_given = values->out != default_out;
  if ((code = training_choice_resolve(command, &values->training, &values->device)) != EXIT_DONE ||
      (code = rank_choice_check(command, launcher, &values->ranks, values->device.device)) != EXIT_DONE ||
      (code = checkpoint_choice_resolve(command, values)) != EXIT_DONE ||
      (code = members_choice_check(command, values, launcher)) != EXIT_DONE ||
      (code = check_validation(values)) != EXIT_DONE || (code = check_places(values, launcher)) != EXIT_DONE)
    return code;
  *record = options_record(&syntax);
  return *record ? OPTIONS_CONTINUE : fail(command, EXIT_RUN, "out of memory");
}

/* Index of the class called `name` (length bytes), or -1. */
static int64_t find_class(const descent_dataset *data, const char *name, size_t length) {
  for (int64_t k = 0; k < descent_dataset_classes(data); k++) {
    const char *known = descent_dataset_class_name(data, k);
    if (known && strlen(known) == length && strncmp(known, name, length) == 0) return k;
  }
  return -1;
}

/* One item, "5" or "name=5", as item `place`; false when it is invalid. */
static bool read_weight(const descent_dataset *data, const char *item, int64_t place, double *weights) {
  const char *equals = strrchr(item, '=');
  int64_t k = equals ? find_class(data, item, (size_t)(equals - item)) : place;
  double weight;
  if (k < 0 || k >= descent_dataset_classes(data) || !option_real(equals ? equals + 1 : item, &weight) || weight <= 0)
    return false;
  weights[k] = weight;
  return true;
}

int train_class_weights(const struct train_values *values, const descent_dataset *data, double *weights,
                        descent_train_options *options) {
  const char *text = values->class_weights;
  int64_t classes = descent_dataset_classes(data);
  if (!text) return EXIT_DONE;
  if (classes == 0) return fail(command, EXIT_USAGE, "--class-weights '%s': the task is regression", text);
  if (strcmp(text, "balanced") == 0) {
    options->balance_classes = true;
    return EXIT_DONE;
  }
  for (int64_t k = 0; k < classes; k++) weights[k] = 1;
  char *copy = strdup(text), *rest = copy, *item;
  if (!copy) return fail(command, EXIT_RUN, "out of memory");
  bool valid = true, named = strchr(text, '=') != NULL;
  int64_t items = 0;
  while (valid && (item = strsep(&rest, ",")))
    valid = (strchr(item, '=') != NULL) == named && read_weight(data, item, items++, weights);
  free(copy);
  if (!valid || (!named && items != classes))
    return fail(
        command, EXIT_USAGE,
        "--class-weights '%s': must be balanced, %lld numbers above 0, or CLASS=NUMBER with classes of the data", text,
        (long long)classes);
  options->class_weights = weights;
  return EXIT_DONE;
}
