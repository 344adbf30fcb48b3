/* `descent train DATA`: from a file to a model. */
#include "cli/train.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/records.h"
#include "cli/summary.h"
#include "report/diagnosis.h"
#include "report/page.h"
#include "report/progress.h"
#include "report/text.h"

static const char command[] = "descent train";

struct training {
  struct train_values values;
  struct option_config config;
  cJSON *record;
  descent_dataset *data, *kept, *held_out; /* kept and held_out NULL without a split */
  descent_dataset *validation_file, *test;
  const descent_dataset *rows, *validation; /* to train on; to measure on, or NULL */
  double *class_weights;
  descent_network *network;
  descent_device *device;
  struct job job;
  char device_name[JOB_DEVICE_SIZE];
  struct records records;
  struct progress progress;
  bool learned;       /* the network has weights of the training: an epoch is over, or it was resumed */
  int64_t step;       /* of the last checkpoint */
  const char *folder; /* that has it; NULL before there is one */
  bool tell_saving;   /* SIGUSR1 came: say when the checkpoint is there */
};

static void training_clear(struct training *t) {
  records_close(&t->records);
  descent_device_close(t->device);
  descent_network_free(t->network);
  free(t->class_weights);
  descent_dataset_free(t->test);
  descent_dataset_free(t->validation_file);
  descent_dataset_free(t->held_out);
  descent_dataset_free(t->kept);
  descent_dataset_free(t->data);
  cJSON_Delete(t->record);
  options_config_free(&t->config);
  job_close(&t->job);
}

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
  return data_choice_read(command, &choice, path, source, dataset);
}

/* Reads the data and, unless validation comes from a file, holds a share of it out. */
static int read_data(struct training *t) {
  const struct train_values *v = &t->values;
  int code = read_file(t, v->data_path, v->data.target_file, NULL, &t->data);
  if (code != EXIT_DONE) return code;
  if (descent_dataset_targets(t->data) == 0)
    return fail(command, EXIT_USAGE, "--target is missing: name the column of %s to predict", v->data_path);
  t->rows = t->data;
  if (v->validation_fraction == 0) return EXIT_DONE;
  descent_status status =
      descent_dataset_split(t->data, v->validation_fraction, v->training.train.seed, &t->kept, &t->held_out);
  /* Too few rows for the default share: train on all of them. */
  if (status == DESCENT_ERROR_DATA && !v->validation_given) return EXIT_DONE;
  if (status != DESCENT_OK) return fail_status(command, status);
  t->rows = t->kept;
  t->validation = t->held_out;
  return EXIT_DONE;
}

static int create_network(struct training *t) {
  const struct train_values *v = &t->values;
  descent_loss loss = DESCENT_LOSS_MEAN_SQUARED_ERROR;
  int64_t outputs = descent_dataset_targets(t->data);
  if (descent_dataset_task(t->data) == DESCENT_TASK_BINARY) loss = DESCENT_LOSS_BINARY_CROSS_ENTROPY;
  if (descent_dataset_task(t->data) == DESCENT_TASK_CLASSES) {
    loss = DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY;
    outputs = descent_dataset_classes(t->data);
  }
  int code = network_choice_create(command, &v->network, descent_dataset_inputs(t->data), outputs, loss,
                                   v->training.train.seed, &t->network);
  if (code != EXIT_DONE) return code;
  descent_status status = descent_network_fit_preprocessing(t->network, t->rows, v->normalize, v->impute, true);
  if (status == DESCENT_OK && v->weights) status = descent_network_load_weights(t->network, v->weights);
  return status == DESCENT_OK ? EXIT_DONE : fail_status(command, status);
}

/* Data sets that have to match the network: read by its names. */
static int read_like_network(struct training *t) {
  const struct train_values *v = &t->values;
  int code = EXIT_DONE;
  if (v->validation_path) {
    code = read_file(t, v->validation_path, v->validation_targets, t->network, &t->validation_file);
    t->validation = t->validation_file;
  }
  if (code == EXIT_DONE && v->test) code = read_file(t, v->test, v->test_targets, t->network, &t->test);
  return code;
}

/* Whether the options fit together and the device, before anything is printed. */
static int check_options(const struct training *t) {
  descent_status status = descent_train_options_check(&t->values.training.train, t->network, t->device);
  return status == DESCENT_OK ? EXIT_DONE : fail_status(command, status);
}

static int cannot_write(const char *path) {
  return fail(command, EXIT_RUN, "%s: cannot write: %s", path, strerror(errno));
}

static int read_and_open(struct training *t) {
  int code = read_data(t);
  if (code == EXIT_DONE) code = create_network(t);
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

static int prepare(struct training *t) {
  int code = job_agree(command, &t->job, read_and_open(t));
  if (code == EXIT_DONE && t->job.size > 1) code = compare_job(t);
  if (code != EXIT_DONE || t->job.rank > 0) return code;
  messages_print(); /* from here on rank 0 reports */
  records_init(&t->records, command, &t->values);
  if (!t->values.checkpoint)
    records_begin(&t->records, NULL, 0, 0); /* else when it is known where the training begins */
  return t->records.failed ? EXIT_RUN : EXIT_DONE;
}

/* A line between those of the progress. */
static void say(struct training *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(struct training *t, const char *format, ...) {
  char text[1400];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  progress_close(&t->progress);
  fail(command, EXIT_DONE, "%s", text);
}

static bool stopping(const struct training *t) { return t->records.failed || interrupt_signal(); }

static int on_step(void *user, const descent_step_info *info) {
  struct training *t = user;
  progress_step(&t->progress, t->values.training.train.epochs, info);
  return interrupt_signal();
}

static int on_epoch(void *user, const descent_epoch_info *info) {
  struct training *t = user;
  progress_epoch(&t->progress, descent_network_task(t->network), info);
  if (t->job.rank == 0) records_epoch(&t->records, t->network, info);
  t->learned = true;
  return stopping(t);
}

static descent_request on_pause(void *user) {
  struct training *t = user;
  if (stopping(t)) return DESCENT_STOP;
  if (!interrupt_save_asked()) return DESCENT_CONTINUE;
  t->tell_saving = t->values.checkpoint != NULL;
  if (!t->tell_saving) say(t, "SIGUSR1: there is nothing to save without --checkpoint");
  return DESCENT_SAVE;
}

static void on_checkpoint(void *user, const descent_checkpoint_info *info) {
  struct training *t = user;
  const struct train_values *v = &t->values;
  if (t->job.rank > 0) return;
  if (info->event != DESCENT_CHECKPOINT_FAILED && info->event != DESCENT_CHECKPOINT_DAMAGED) t->step = info->step;
  switch (info->event) {
    case DESCENT_CHECKPOINT_STARTED:
      if (v->resume && !v->quiet) text_print(stderr, "starting    %s: no checkpoint found\n", v->resume);
      records_begin(&t->records, v->checkpoint, 0, 0);
      break;
    case DESCENT_CHECKPOINT_DAMAGED: say(t, "%s; skipped", info->message); break;
    case DESCENT_CHECKPOINT_FAILED: say(t, "%s%s", info->message, stopping(t) ? "" : "; the training continues"); break;
    case DESCENT_CHECKPOINT_RESUMED:
      if (!v->quiet)
        text_print(stderr, "resumed     %s: step %" PRId64 ", %" PRId64 " epoch%s done\n", info->path, info->step,
                   info->epochs, info->epochs == 1 ? "" : "s");
      if (*info->message) say(t, "warning: %s", info->message);
      t->folder = v->resume;
      t->learned = info->step > 0;
      records_begin(&t->records, v->resume, info->step, info->epochs);
      break;
    case DESCENT_CHECKPOINT_UNLOCKED: say(t, "warning: %s", info->message); break;
    case DESCENT_CHECKPOINT_SAVED:
      t->folder = v->checkpoint;
      if (t->tell_saving) say(t, "checkpoint of step %" PRId64 " saved to %s", info->step, info->path);
      t->tell_saving = false;
      break;
    case DESCENT_CHECKPOINT_ROLLED_BACK:
      say(t, "%s; returned to step %" PRId64 ", with %g of the learning rate", info->message, info->step,
          info->rate_factor);
      t->learned = info->step > 0;
      records_begin(&t->records, v->checkpoint, info->step, info->epochs);
      break;
  }
}

/* Does an epoch take long enough that people want to see it move, and to be able to stop within it? Counted in
 * floating-point operations, of which a core does some 1e10 per second. */
static bool epoch_is_long(const struct training *t) {
  return 6.0 * (double)descent_network_parameters(t->network) * (double)descent_dataset_rows(t->rows) > 1e10;
}

/* Keeps with the network what made it: enough to make it again, nothing that differs between two equal runs. `result`
 * NULL: of a training that has not come to its end. */
static descent_status set_provenance(const struct training *t, const descent_fit_result *result) {
  cJSON *root = cJSON_CreateObject();
  char *text = NULL;
  if (cJSON_AddStringToObject(root, "data", t->values.data_path) &&
      cJSON_AddStringToObject(root, "device", descent_device_name(t->device)) &&
      (!result || (cJSON_AddNumberToObject(root, "epochs", (double)result->epochs) &&
                   cJSON_AddNumberToObject(root, "best_epoch", (double)result->best_epoch))) &&
      cJSON_AddItemReferenceToObject(root, "options", t->record))
    text = cJSON_PrintUnformatted(root);
  const descent_status status = text ? descent_network_set_provenance(t->network, text) : DESCENT_ERROR_MEMORY;
  cJSON_free(text);
  cJSON_Delete(root);
  return status;
}

static descent_status fit(struct training *t, descent_fit_result *result) {
  descent_train_options *options = &t->values.training.train;
  options->callbacks.on_epoch = on_epoch;
  options->callbacks.on_step = epoch_is_long(t) ? on_step : NULL;
  options->callbacks.on_pause = on_pause;
  options->callbacks.on_checkpoint = on_checkpoint;
  options->callbacks.user = t;
  descent_status status = set_provenance(t, NULL);
  if (status != DESCENT_OK) return status;
  progress_open(&t->progress, t->values.quiet ? NULL : stderr, descent_dataset_rows(t->rows));
  interrupt_watch();
  status = descent_fit(t->network, t->device, t->rows, t->validation, options, result);
  progress_close(&t->progress);
  return status;
}

static descent_status save(const struct training *t, const descent_fit_result *result) {
  const descent_status status = set_provenance(t, result);
  return status == DESCENT_OK ? descent_network_save(t->network, t->values.out) : status;
}

/* ---- results ----------------------------------------------------------------------------------------------------- */

enum { MEASURED_MOST = 3 };

/* The model on each of the data sets there are; the last is the one that says most. */
struct measured {
  descent_metrics metrics[MEASURED_MOST];
  struct metrics_column columns[MEASURED_MOST];
  int n;
  const descent_dataset *last;
  struct verdict verdict;
};

static void measured_clear(struct measured *m) {
  for (int i = 0; i < m->n; i++) descent_metrics_clear(&m->metrics[i]);
}

/* In fp32, whatever the training's precision; without the kernels of several layers that it is to do without. */
static descent_predict_options options_of_measures(const struct training *t) {
  descent_predict_options options = descent_predict_options_default();
  if (t->values.device.fusion == DESCENT_FUSION_OFF) options.fusion = DESCENT_FUSION_OFF;
  return options;
}

static int measure(const struct training *t, struct measured *m) {
  const descent_predict_options options = options_of_measures(t);
  const descent_dataset *const data[MEASURED_MOST] = {t->rows, t->validation, t->test};
  static const char *const titles[MEASURED_MOST] = {"training", "validation", "test"};
  for (int i = 0; i < MEASURED_MOST; i++) {
    if (!data[i] || interrupt_signal()) continue;
    const descent_status status = descent_evaluate_with(t->network, t->device, data[i], &options, 0, &m->metrics[m->n]);
    if (status == DESCENT_ERROR_DATA)
      return fail(command, EXIT_DATA, "the %s data: %s", titles[i], descent_last_error());
    if (status != DESCENT_OK) return fail_status(command, status);
    m->columns[m->n] = (struct metrics_column){titles[i], &m->metrics[m->n]};
    m->n++;
    m->last = data[i];
  }
  return EXIT_DONE;
}

/* After measure(). A training without an epoch is not judged. */
static int judge(const struct training *t, const descent_fit_result *result, struct measured *m) {
  const struct verdict_rows training = {m->columns[0], t->rows}, validation = {m->columns[1], t->validation};
  if (result->epochs == 0 || m->n < (t->validation ? 2 : 1)) return EXIT_DONE;
  if (!verdict_make(t->network, &t->values.training.train, result, &training, t->validation ? &validation : NULL,
                    &m->verdict))
    return fail(command, EXIT_RUN, "out of memory");
  return EXIT_DONE;
}

static void print_verdict(const struct verdict *verdict) {
  if (!*verdict->worse && !*verdict->seldom) return; /* the reason why stdout cannot be written is for main to find */
  fflush(stdout);
  if (*verdict->worse) text_print(stderr, "%s: warning: %s\n", command, verdict->worse);
  if (*verdict->seldom) text_print(stderr, "%s: note: %s\n", command, verdict->seldom);
}

/* All that can be drawn of the last data set. */
static int diagnose(const struct training *t, const struct measured *m, struct figure *figure) {
  struct predictions predictions;
  if (!m->last || interrupt_signal()) return EXIT_DONE;
  const descent_predict_options options = options_of_measures(t);
  const descent_status status = predictions_make(t->network, t->device, m->last, &options, &predictions);
  if (status != DESCENT_OK) return fail_status(command, status);
  bool fits = true;
  for (int kind = 0; kind < DIAGNOSES; kind++) { /* what cannot be drawn is left out */
    errno = 0;
    if (diagnosis_applies((enum diagnosis)kind, descent_network_task(t->network)) &&
        diagnosis_add(figure, (enum diagnosis)kind, &predictions, &m->metrics[m->n - 1]) && errno == ENOMEM)
      fits = false;
  }
  predictions_clear(&predictions);
  return fits ? EXIT_DONE : fail(command, EXIT_RUN, "%s: not written: out of memory", t->values.report);
}

static int write_page(const char *path, const struct page *page) {
  struct output_file output;
  if (!output_open(&output, path)) return cannot_write(path);
  if (!page_write(output.stream, page)) {
    output_abandon(&output);
    return fail(command, EXIT_RUN, "%s: not written: out of memory", path);
  }
  return output_commit(&output) ? EXIT_DONE : cannot_write(path);
}

/* `failure`: why the training broke off, or NULL. */
static int write_report(const struct training *t, const descent_fit_result *result, const struct measured *m,
                        const char *failure) {
  const struct train_values *v = &t->values;
  char shape[512];
  struct figure diagnosis = {0};
  if (!v->report) return EXIT_DONE;
  int code = diagnose(t, m, &diagnosis);
  cJSON *provenance = cJSON_Parse(descent_network_provenance(t->network));
  summary_shape(t->network, shape, sizeof shape);
  const struct page page = {.model_path = v->out,
                            .data_path = v->data_path,
                            .validation_path = v->validation_path,
                            .test_path = v->test,
                            .target = v->target,
                            .shape = shape,
                            .network = t->network,
                            .device = t->device,
                            .data = t->data,
                            .training = t->rows,
                            .validation = t->validation,
                            .train = &v->training.train,
                            .options = cJSON_GetObjectItem(provenance, "options"),
                            .warnings = t->records.warnings,
                            .failure = failure,
                            .interrupted = interrupt_signal() != 0,
                            .verdict = &m->verdict,
                            .history = &t->records.history,
                            .result = result,
                            .columns = m->columns,
                            .n_columns = m->n,
                            .diagnosis = &diagnosis};
  if (code == EXIT_DONE) code = write_page(v->report, &page);
  cJSON_Delete(provenance);
  figure_clear(&diagnosis);
  return code;
}

/* How to continue a training that ended early. */
static void print_way_on(FILE *out, const struct training *t) {
  if (t->folder)
    text_print(out, "the same command with --resume %s continues from step %" PRId64 "\n", t->folder, t->step);
}

static void print_end(const struct training *t, const descent_fit_result *r) {
  static const char *const ends[] = {"", ", stopped early", ", stopped on request"};
  const char *const end = t->records.failed ? ", stopped because its record could not be written" : ends[r->stop];
  char epochs[TEXT_SIZE], steps[TEXT_SIZE], text[TEXT_SIZE];
  printf("\ntrained %s epoch%s (%s step%s) in %s%s\n", text_count(r->epochs, epochs), r->epochs == 1 ? "" : "s",
         text_count(r->steps, steps), r->steps == 1 ? "" : "s", text_duration(r->seconds, text), end);
  if (t->validation && r->best_epoch)
    printf("best epoch %" PRId64 ", validation loss %s\n", r->best_epoch, text_loss(r->best_loss, text));
  text_print(stdout, "model saved to %s\n", t->values.out);
  if (stopping(t)) print_way_on(stdout, t);
}

/* After a training that was not stopped by a signal, which wants an end soon. */
static int measure_and_print(const struct training *t, struct measured *measured) {
  const int code = measure(t, measured);
  if (code != EXIT_DONE || interrupt_signal()) return code;
  report_metrics_print(stdout, t->network, measured->columns, measured->n);
  report_metrics_print_confusion(stdout, t->network, &measured->columns[measured->n - 1]);
  return EXIT_DONE;
}

static int finish(struct training *t, const descent_fit_result *result) {
  struct measured measured = {0};
  int code = EXIT_DONE;
  if (!interrupt_signal()) code = measure_and_print(t, &measured);
  print_end(t, result);
  if (code == EXIT_DONE) code = judge(t, result, &measured);
  print_verdict(&measured.verdict);
  const int reported = write_report(t, result, &measured, NULL);
  measured_clear(&measured);
  if (code == EXIT_DONE) code = reported;
  if (result->checkpoint_failures)
    code = fail(command, EXIT_RUN, "%s: %" PRId64 " checkpoint%s could not be written", t->values.checkpoint,
                result->checkpoint_failures, result->checkpoint_failures == 1 ? "" : "s");
  records_close(&t->records);
  return t->records.failed || t->records.incomplete ? EXIT_RUN : code;
}

/* Saves the network of a training that has ended or, as far as it came, of one that broke off; the exit code. */
static int keep(struct training *t, descent_status fitted, const descent_fit_result *result) {
  char failure[1024];
  snprintf(failure, sizeof failure, "%s", descent_last_error());
  const int code = fitted == DESCENT_OK ? EXIT_DONE : fail_status(command, fitted);
  /* Data that changed under the training and a device that failed leave the weights of an epoch before, as a divergence
   * does; a folder of checkpoints that was taken away, those of the last step. */
  const bool broken_off = fitted == DESCENT_ERROR_READ || fitted == DESCENT_ERROR_DEVICE;
  const bool kept = fitted == DESCENT_ERROR_DIVERGED || (broken_off && t->learned) ||
                    (fitted == DESCENT_ERROR_WRITE && result->steps > 0);
  if (fitted == DESCENT_OK || kept) {
    const descent_status saved = save(t, kept ? NULL : result);
    if (saved != DESCENT_OK) {
      const int unsaved = fail_status(command, saved);
      print_way_on(stderr, t);
      return kept ? code : unsaved;
    }
  }
  if (kept) {
    const struct measured nothing = {0};
    text_print(stdout, "last good weights saved to %s\n", t->values.out);
    write_report(t, result, &nothing, failure);
  }
  if (fitted == DESCENT_ERROR_DEVICE) print_way_on(stdout, t);
  return code;
}

static int train(struct training *t) {
  int code = prepare(t);
  if (code != EXIT_DONE) return code;
  if (!t->values.quiet)
    summary_print(stderr, &(struct summary){.data_path = t->values.data_path,
                                            .target = t->values.target,
                                            .impute = t->values.impute,
                                            .missing = t->values.data.missing,
                                            .task_inferred = t->values.task == DESCENT_TASK_AUTO,
                                            .data = t->data,
                                            .training = t->rows,
                                            .validation = t->validation,
                                            .validation_path = t->values.validation_path,
                                            .network = t->network,
                                            .device = t->device,
                                            .ranks = t->job.communicator,
                                            .train = &t->values.training.train});
  descent_fit_result result = {0};
  const descent_status fitted = fit(t, &result);
  if (t->job.rank == 0)
    code = keep(t, fitted, &result);
  else if (fitted != DESCENT_OK)
    code = fail_status(command, fitted);
  code = job_agree(command, &t->job, code);
  if (code != EXIT_DONE) return code;
  /* The others end here, and wait for rank 0 as MPI ends. */
  if (t->job.rank == 0) code = finish(t, &result);
  return code == EXIT_DONE && interrupt_signal() ? EXIT_SIGNAL + interrupt_signal() : code;
}

int command_train(int argc, char **argv) {
  struct training t = {.job = {NULL, 0, 1}};
  const struct launcher launcher = launcher_find();
  if (launcher.size > 1) messages_keep(launcher.rank > 0);
  int code = train_options_read(argc, argv, &launcher, &t.values, &t.config, &t.record);
  const bool is_help = code == EXIT_DONE;
  if (code == OPTIONS_CONTINUE)
    code = job_start(command, &launcher, &t.values.ranks, t.values.device.device, argc, argv);
  if (!is_help) code = job_open(command, &launcher, &t.values.ranks, code, &t.job);
  t.job.saves = true;
  if (t.job.rank > 0) t.values.quiet = true;
  if (!is_help && code == EXIT_DONE) code = train(&t);
  training_clear(&t);
  return code;
}
