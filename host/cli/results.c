#include "cli/results.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/summary.h"
#include "report/diagnosis.h"
#include "report/page.h"
#include "report/text.h"

static const char *const command = training_command;

/* ---- measures ---------------------------------------------------------------------------------------------------- */

void measured_clear(struct measured *m) {
  for (int i = 0; i < m->n; i++) descent_metrics_clear(&m->metrics[i]);
}

descent_predict_options results_predict_options(const struct training *t) {
  descent_predict_options options = descent_predict_options_default();
  if (t->values.device.fusion == DESCENT_FUSION_OFF) options.fusion = DESCENT_FUSION_OFF;
  return options;
}

int results_measure_rows(const struct training *t, const descent_network *network, const char *title,
                         const descent_dataset *rows, descent_metrics *metrics) {
  const descent_predict_options options = results_predict_options(t);
  const descent_status status = descent_evaluate_with(network, t->device, rows, &options, 0, metrics);
  if (status == DESCENT_ERROR_DATA) return fail(command, EXIT_DATA, "the %s data: %s", title, descent_last_error());
  return status == DESCENT_OK ? EXIT_DONE : fail_status(command, status);
}

int results_measure(const struct training *t, const descent_network *network, struct measured *m) {
  const descent_dataset *const data[MEASURED_MOST] = {t->rows.training, t->rows.validation, t->test};
  static const char *const titles[MEASURED_MOST] = {"training", "validation", "test"};
  for (int i = 0; i < MEASURED_MOST; i++) {
    if (!data[i] || interrupt_signal()) continue;
    const int code = results_measure_rows(t, network, titles[i], data[i], &m->metrics[m->n]);
    if (code != EXIT_DONE) return code;
    m->columns[m->n] = (struct metrics_column){titles[i], &m->metrics[m->n]};
    m->n++;
    m->last = data[i];
  }
  return EXIT_DONE;
}

int results_judge(const struct training *t, const descent_network *network, const descent_fit_result *result,
                  struct measured *m) {
  const struct training_rows *rows = &t->rows;
  const struct verdict_rows training = {m->columns[0], rows->training}, validation = {m->columns[1], rows->validation};
  if (result->epochs == 0 || m->n < (rows->validation ? 2 : 1)) return EXIT_DONE;
  if (!verdict_make(network, &t->values.training.train, result, &training, rows->validation ? &validation : NULL,
                    &m->verdict))
    return fail(command, EXIT_RUN, "out of memory");
  return EXIT_DONE;
}

void results_print_verdict(const struct verdict *verdict) {
  if (!*verdict->worse && !*verdict->seldom) return; /* the reason why stdout cannot be written is for main to find */
  fflush(stdout);
  if (*verdict->worse) text_print(stderr, "%s: warning: %s\n", command, verdict->worse);
  if (*verdict->seldom) text_print(stderr, "%s: note: %s\n", command, verdict->seldom);
}

void results_print_way_on(FILE *out, const char *folder, int64_t step) {
  if (folder) text_print(out, "the same command with --resume %s continues from step %" PRId64 "\n", folder, step);
}

/* ---- report ------------------------------------------------------------------------------------------------------ */

/* All that can be drawn of the last data set. */
static int diagnose(const struct training *t, const descent_network *network, const struct measured *m,
                    struct figure *figure) {
  struct predictions predictions;
  if (!m->last || interrupt_signal()) return EXIT_DONE;
  const descent_predict_options options = results_predict_options(t);
  const descent_status status = predictions_make(network, t->device, m->last, &options, &predictions);
  if (status != DESCENT_OK) return fail_status(command, status);
  bool fits = true;
  for (int kind = 0; kind < DIAGNOSES; kind++) { /* what cannot be drawn is left out */
    errno = 0;
    if (diagnosis_applies((enum diagnosis)kind, descent_network_task(network)) &&
        diagnosis_add(figure, (enum diagnosis)kind, &predictions, &m->metrics[m->n - 1]) && errno == ENOMEM)
      fits = false;
  }
  predictions_clear(&predictions);
  return fits ? EXIT_DONE : fail(command, EXIT_RUN, "%s: not written: out of memory", t->values.report);
}

static int cannot_write(const char *path) {
  return fail(command, EXIT_RUN, "%s: cannot write: %s", path, strerror(errno));
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

int results_write_report(const struct training *t, const struct results_report *report) {
  const struct train_values *v = &t->values;
  const struct measured *m = report->measured;
  char shape[512];
  struct figure diagnosis = {0};
  if (!v->report) return EXIT_DONE;
  int code = diagnose(t, report->network, m, &diagnosis);
  cJSON *provenance = cJSON_Parse(descent_network_provenance(report->network));
  summary_shape(report->network, shape, sizeof shape);
  const struct page page = {.model_path = v->out,
                            .data_path = v->data_path,
                            .validation_path = v->validation_path,
                            .test_path = v->test,
                            .target = v->target,
                            .shape = shape,
                            .network = report->network,
                            .device = t->device,
                            .data = t->data,
                            .training = t->rows.training,
                            .validation = t->rows.validation,
                            .train = &v->training.train,
                            .options = cJSON_GetObjectItem(provenance, "options"),
                            .warnings = report->warnings,
                            .failure = report->failure,
                            .interrupted = interrupt_signal() != 0,
                            .verdict = &m->verdict,
                            .history = report->runs[0].history,
                            .runs = report->runs,
                            .n_runs = report->n_runs,
                            .result = report->result,
                            .columns = m->columns,
                            .n_columns = m->n,
                            .members = report->members,
                            .diagnosis = &diagnosis};
  if (code == EXIT_DONE) code = write_page(v->report, &page);
  cJSON_Delete(provenance);
  figure_clear(&diagnosis);
  return code;
}
