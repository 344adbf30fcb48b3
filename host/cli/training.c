#include "cli/training.h"

#include <inttypes.h>
#include <stdlib.h>

#include "cli/summary.h"

const char training_command[] = "descent train";
static const char *const command = training_command;

void training_rows_clear(struct training_rows *rows) {
  descent_dataset_free(rows->held_out);
  descent_dataset_free(rows->kept);
  descent_dataset_free(rows->fold);
  descent_dataset_free(rows->others);
}

void training_clear(struct training *t) {
  descent_device_close(t->device);
  descent_network_free(t->network);
  free(t->class_weights);
  descent_dataset_free(t->test);
  descent_dataset_free(t->validation_file);
  training_rows_clear(&t->rows);
  descent_dataset_free(t->data);
  cJSON_Delete(t->record);
  options_config_free(&t->config);
  job_close(&t->job);
}

/* ---- data ------------------------------------------------------------------------------------------------------- */

/* Reads a file by the options; `network` NULL: the training data themselves. */
static int read_file(const struct training *t, const char *path, const char *target_file,
                     const descent_network *network, descent_dataset **dataset) {
  descent_dataset_options source = descent_dataset_options_default();
  source.target = t->values.target;
  source.target_file = target_file;
  source.task = t->values.task;
  source.network = network;
  struct data_choice choice = t->values.data;
  choice.quiet = t->values.quiet;
  return data_choice_read(t->command ? t->command : command, &choice, path, source, dataset);
}

static int read_data(struct training *t) {
  const struct train_values *v = &t->values;
  int code = read_file(t, v->data_path, v->data.target_file, NULL, &t->data);
  if (code != EXIT_DONE) return code;
  if (descent_dataset_targets(t->data) == 0)
    return fail(command, EXIT_USAGE, "--target is missing: name the column of %s to predict", v->data_path);
  return training_split(t, 0, &t->rows);
}

int training_split(const struct training *t, int64_t fold, struct training_rows *rows) {
  const struct train_values *v = &t->values;
  const uint64_t seed = v->training.train.seed;
  descent_status status = DESCENT_OK;
  rows->training = t->data;
  rows->validation = t->validation_file;
  if (v->folds) {
    const int64_t data_rows = descent_dataset_rows(t->data);
    if (data_rows < v->folds)
      return fail(command, EXIT_USAGE, "--folds %" PRId64 ": %s has %" PRId64 " row%s: use fewer folds", v->folds,
                  v->data_path, data_rows, data_rows == 1 ? "" : "s");
    status = descent_dataset_fold(t->data, v->folds, fold, seed, &rows->others, &rows->fold);
    if (status != DESCENT_OK) return fail_status(command, status);
    rows->training = rows->others;
  }
  if (v->validation_fraction == 0) return EXIT_DONE;
  status = descent_dataset_split(rows->training, v->validation_fraction, seed, &rows->kept, &rows->held_out);
  /* Too few rows for the default share: train on all of them. */
  if (status == DESCENT_ERROR_DATA && !v->validation_given) return EXIT_DONE;
  if (status != DESCENT_OK) return fail_status(command, status);
  rows->training = rows->kept;
  rows->validation = rows->held_out;
  return EXIT_DONE;
}

int training_network_create(const struct training *t, uint64_t seed, descent_network **network) {
  const struct train_values *v = &t->values;
  descent_loss loss = DESCENT_LOSS_MEAN_SQUARED_ERROR;
  int64_t outputs = descent_dataset_targets(t->data);
  if (descent_dataset_task(t->data) == DESCENT_TASK_BINARY) loss = DESCENT_LOSS_BINARY_CROSS_ENTROPY;
  if (descent_dataset_task(t->data) == DESCENT_TASK_CLASSES) {
    loss = DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY;
    outputs = descent_dataset_classes(t->data);
  }
  int code = network_choice_create(command, &v->network, descent_dataset_inputs(t->data), outputs, loss, seed, network);
  if (code != EXIT_DONE || !v->weights) return code;
  const descent_status status = descent_network_load_weights(*network, v->weights);
  return status == DESCENT_OK ? EXIT_DONE : fail_status(command, status);
}

int training_network_fit(const struct training *t, const struct training_rows *rows, descent_network *network) {
  const struct train_values *v = &t->values;
  const descent_status status =
      descent_network_fit_preprocessing(network, rows->training, v->normalize, v->impute, true);
  return status == DESCENT_OK ? EXIT_DONE : fail_status(command, status);
}

int training_network(const struct training *t, const struct training_rows *rows, uint64_t seed,
                     descent_network **network) {
  const int code = training_network_create(t, seed, network);
  return code == EXIT_DONE ? training_network_fit(t, rows, *network) : code;
}

/* Data sets that have to match the network: read by its names. */
static int read_like_network(struct training *t) {
  const struct train_values *v = &t->values;
  int code = EXIT_DONE;
  if (v->validation_path) {
    code = read_file(t, v->validation_path, v->validation_targets, t->network, &t->validation_file);
    t->rows.validation = t->validation_file;
  }
  if (code == EXIT_DONE && v->test) code = read_file(t, v->test, v->test_targets, t->network, &t->test);
  return code;
}

/* ---- everything -------------------------------------------------------------------------------------------------- */

/* Whether the options fit together and the device, before anything is printed. */
static int check_options(const struct training *t) {
  descent_status status = descent_train_options_check(&t->values.training.train, t->network, t->device);
  return status == DESCENT_OK ? EXIT_DONE : fail_status(command, status);
}

static int read_and_open(struct training *t) {
  int code = read_data(t);
  if (code == EXIT_DONE) code = training_network(t, &t->rows, t->values.training.train.seed, &t->network);
  if (code == EXIT_DONE) code = read_like_network(t);
  if (code != EXIT_DONE) return code;
  t->class_weights = calloc((size_t)descent_dataset_classes(t->data) + 1, sizeof *t->class_weights);
  if (!t->class_weights) return fail(command, EXIT_RUN, "out of memory");
  code = train_class_weights(&t->values, t->data, t->class_weights, &t->values.training.train);
  if (code == EXIT_DONE) code = job_choose_device(command, &t->job, &t->values.device, t->device_name);
  if (code == EXIT_DONE) code = device_choice_open(command, &t->values.device, &t->device);
  t->values.training.train.ranks.communicator = t->job.communicator;
  return code == EXIT_DONE ? check_options(t) : code;
}

/* What must be the same on all ranks and is known here: the options, the shape of the data, the kind of device. */
static int compare_job(const struct training *t) {
  cJSON *object = job_describe(command, t->record, t->device);
  const bool whole =
      cJSON_AddNumberToObject(object, "the number of rows", (double)descent_dataset_rows(t->data)) &&
      cJSON_AddNumberToObject(object, "the number of inputs", (double)descent_dataset_inputs(t->data)) &&
      cJSON_AddNumberToObject(object, "the number of outputs", (double)descent_network_outputs(t->network));
  const int code = job_compare(command, &t->job, whole ? object : NULL);
  cJSON_Delete(object);
  return code;
}

int training_open(struct training *t) {
  int code = job_agree(command, &t->job, read_and_open(t));
  if (code == EXIT_DONE && t->job.size > 1) code = compare_job(t);
  if (code == EXIT_DONE && t->job.rank == 0) messages_print(); /* from here on rank 0 reports */
  return code;
}

struct summary training_summary(const struct training *t) {
  return (struct summary){.data_path = t->values.data_path,
                          .target = t->values.target,
                          .impute = t->values.impute,
                          .missing = t->values.data.missing,
                          .task_inferred = t->values.task == DESCENT_TASK_AUTO,
                          .data = t->data,
                          .training = t->rows.training,
                          .validation = t->rows.validation,
                          .validation_path = t->values.validation_path,
                          .network = t->network,
                          .device = t->device,
                          .ranks = t->job.communicator,
                          .train = &t->values.training.train};
}

void training_print_summary(const struct training *t, const char *how) {
  struct summary summary = training_summary(t);
  summary.how = how;
  if (!t->values.quiet) summary_print(stderr, &summary);
}
