/* `descent train DATA`: from a file to a model. */
#include "cli/train.h"

#include <inttypes.h>
#include <string.h>

#include "cli/interrupt.h"
#include "cli/members.h"
#include "cli/results.h"
#include "report/text.h"

static const char *const command = training_command;

static descent_status fit(const struct training *t, struct run *r, descent_fit_result *result) {
  descent_status status = run_set_provenance(t, r->network, NULL, NULL);
  if (status != DESCENT_OK) return status;
  progress_open(&r->group->progress, t->values.quiet ? NULL : stderr, descent_dataset_rows(t->rows.training));
  interrupt_watch();
  status = descent_fit(r->network, t->device, t->rows.training, t->rows.validation, &r->values.training.train, result);
  progress_close(&r->group->progress);
  return status;
}

static descent_status save(const struct training *t, const descent_fit_result *result) {
  const descent_status status = run_set_provenance(t, t->network, result, NULL);
  return status == DESCENT_OK ? descent_network_save(t->network, t->values.out) : status;
}

/* ---- results ----------------------------------------------------------------------------------------------------- */

static int write_report(const struct run *r, const descent_fit_result *result, const struct measured *measured,
                        const char *failure) {
  const struct curves_run run = {"", &r->records.history};
  return results_write_report(r->training, &(struct results_report){.network = r->network,
                                                                    .result = result,
                                                                    .measured = measured,
                                                                    .failure = failure,
                                                                    .warnings = r->records.warnings,
                                                                    .runs = &run,
                                                                    .n_runs = 1});
}

static void print_end(const struct run *r, const descent_fit_result *result) {
  static const char *const ends[] = {"", ", stopped early", ", stopped on request"};
  const char *const end = r->records.failed ? ", stopped because its record could not be written" : ends[result->stop];
  char epochs[TEXT_SIZE], steps[TEXT_SIZE], text[TEXT_SIZE];
  printf("\ntrained %s epoch%s (%s step%s) in %s%s\n", text_count(result->epochs, epochs),
         result->epochs == 1 ? "" : "s", text_count(result->steps, steps), result->steps == 1 ? "" : "s",
         text_duration(result->seconds, text), end);
  if (r->rows->validation && result->best_epoch)
    printf("best epoch %" PRId64 ", validation loss %s\n", result->best_epoch, text_loss(result->best_loss, text));
  text_print(stdout, "model saved to %s\n", r->values.out);
  if (run_stopping(r)) results_print_way_on(stdout, r->folder, r->step);
}

/* After a training that was not stopped by a signal, which wants an end soon. */
static int measure_and_print(const struct training *t, struct measured *measured) {
  const int code = results_measure(t, t->network, measured);
  if (code != EXIT_DONE || interrupt_signal()) return code;
  report_metrics_print(stdout, t->network, measured->columns, measured->n);
  report_metrics_print_confusion(stdout, t->network, &measured->columns[measured->n - 1]);
  return EXIT_DONE;
}

static int finish(const struct training *t, struct run *r, const descent_fit_result *result) {
  struct measured measured = {0};
  int code = EXIT_DONE;
  if (!interrupt_signal()) code = measure_and_print(t, &measured);
  print_end(r, result);
  if (code == EXIT_DONE) code = results_judge(t, t->network, result, &measured);
  results_print_verdict(&measured.verdict);
  const int reported = write_report(r, result, &measured, NULL);
  measured_clear(&measured);
  if (code == EXIT_DONE) code = reported;
  if (result->checkpoint_failures)
    code = fail(command, EXIT_RUN, "%s: %" PRId64 " checkpoint%s could not be written", t->values.checkpoint,
                result->checkpoint_failures, result->checkpoint_failures == 1 ? "" : "s");
  records_close(&r->records);
  return r->records.failed || r->records.incomplete ? EXIT_RUN : code;
}

/* Saves the network of a training that has ended or, as far as it came, of one that broke off; the exit code. */
static int keep(const struct training *t, const struct run *r, descent_status fitted,
                const descent_fit_result *result) {
  char failure[1024];
  snprintf(failure, sizeof failure, "%s", descent_last_error());
  const int code = fitted == DESCENT_OK ? EXIT_DONE : fail_status(command, fitted);
  const bool kept = run_kept(r, fitted, result->steps);
  if (fitted == DESCENT_OK || kept) {
    const descent_status saved = save(t, kept ? NULL : result);
    if (saved != DESCENT_OK) {
      const int unsaved = fail_status(command, saved);
      results_print_way_on(stderr, r->folder, r->step);
      return kept ? code : unsaved;
    }
  }
  if (kept) {
    const struct measured nothing = {0};
    text_print(stdout, "last good weights saved to %s\n", t->values.out);
    write_report(r, result, &nothing, failure);
  }
  if (fitted == DESCENT_ERROR_DEVICE) results_print_way_on(stdout, r->folder, r->step);
  return code;
}

/* One network. */
static int train(struct training *t) {
  struct run_group group = {.runs = 1};
  struct run r = {.values = t->values};
  descent_fit_result result = {0};
  int code = run_open(&r, t, &group, t->network, &t->rows);
  if (code == EXIT_DONE) {
    training_print_summary(t, NULL);
    const descent_status fitted = fit(t, &r, &result);
    if (t->job.rank == 0)
      code = keep(t, &r, fitted, &result);
    else if (fitted != DESCENT_OK)
      code = fail_status(command, fitted);
    code = job_agree(command, &t->job, code);
    /* The others end here, and wait for rank 0 as MPI ends. */
    if (code == EXIT_DONE && t->job.rank == 0) code = finish(t, &r, &result);
    if (code == EXIT_DONE && interrupt_signal()) code = EXIT_SIGNAL + interrupt_signal();
  }
  run_close(&r);
  return code;
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
  if (!is_help && code == EXIT_DONE) code = training_open(&t);
  if (!is_help && code == EXIT_DONE)
    code = t.values.folds ? folds_train(&t) : t.values.ensemble > 1 ? ensemble_train(&t) : train(&t);
  training_clear(&t);
  return code;
}
