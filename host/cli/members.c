/* Many networks trained together: their files, and what is said of them. */
#include "cli/members.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/interrupt.h"
#include "cli/results.h"
#include "core/clock.h"
#include "core/system.h"
#include "core/terms.h"
#include "report/text.h"

static const char *const command = training_command;

/* ---- places ------------------------------------------------------------------------------------------------------ */

/* The folder in which each network has one. */
static int make_folder(const char *path) {
  if (mkdir(path, 0777) == 0 || errno == EEXIST) return EXIT_DONE;
  return fail(command, EXIT_RUN, "%s: cannot write: %s", path, strerror(errno));
}

/* Each network has up to four files and folders open: as many as the system lets this process have. */
static void allow_files(int64_t count) {
  struct rlimit limit;
  if (count < 100 || getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

/* ---- life -------------------------------------------------------------------------------------------------------- */

/* Bytes that each network needs at least: its parameters, and once more in the ensemble; where the host trains it, those
 * on the device and as they are read back, gradients, moments and activations, which are freed before they are joined. */
static double least_bytes(const struct training *t) {
  const descent_train_options *o = &t->values.training.train;
  const double parameters = (double)descent_network_parameters(t->network);
  const int64_t rows = descent_dataset_rows(t->rows.training);
  const int64_t batch = o->batch_size && o->batch_size < rows ? o->batch_size : rows;
  const struct update_moments moments =
      update_moments_of(update_rule_from(o->optimizer.kind, o->optimizer.momentum > 0, o->optimizer.nesterov));
  double widths = 0;
  if (strcmp(descent_device_name(t->device), "cpu") != 0)
    return sizeof(float) * (t->values.folds ? parameters : 2 * parameters);
  for (int32_t l = 1; l <= descent_network_layers(t->network); l++)
    widths += (double)descent_network_width(t->network, l);
  return sizeof(float) * ((4 + moments.moment1 + moments.moment2) * parameters + (double)batch * widths);
}

/* Networks that cannot fit are refused before the others are made: that would take minutes, and the memory that other
 * programs need. The library compares again, with all that a training takes. */
static int check_size(const struct training *t, int64_t count) {
  const double each = least_bytes(t), available = (double)system_memory_available("");
  char needed[TEXT_SIZE], there[TEXT_SIZE], networks[TEXT_SIZE], fit[TEXT_SIZE];
  if (each * (double)count <= available) return EXIT_DONE;
  return fail(command, EXIT_RUN,
              "%s networks need at least %sB of memory, and %sB are available: train fewer networks, of which %s fit, "
              "or narrower layers",
              text_count(count, networks), text_scaled(each * (double)count, needed), text_scaled(available, there),
              text_count((int64_t)(available / each), fit));
}

/* "descent plot log-*.jsonl" would draw them too. */
static void warn_of_logs(const struct train_values *v, int64_t count) {
  char *left = members_log_left(v, count);
  if (left)
    fail(command, EXIT_DONE, "warning: %s: is left there, the log of another training, which had more networks", left);
  free(left);
}

int members_open(struct members *m, const struct training *t, const char *noun, int64_t count) {
  const struct train_values *v = &t->values;
  *m = (struct members){.training = t, .noun = noun, .count = count, .group = {.runs = count}};
  int code = check_size(t, count);
  if (code != EXIT_DONE) return code;
  m->runs = calloc((size_t)count, sizeof *m->runs);
  m->members = calloc((size_t)count, sizeof *m->members);
  bool fits = m->runs && m->members;
  for (int64_t k = 0; fits && k < count; k++) {
    m->runs[k].values = *v;
    m->members[k] = descent_member_default();
    snprintf(m->runs[k].title, sizeof m->runs[k].title, "%s %" PRId64 ": ", noun, k);
    if (k >= MEMBERS_DRAWN) m->runs[k].values.report = NULL;
    fits = member_places_set(&m->runs[k].places, &m->runs[k].values, k);
  }
  if (!fits) return fail(command, EXIT_RUN, "%" PRId64 " networks: out of memory", count);
  allow_files(count);
  warn_of_logs(v, count);
  if (v->checkpoint) code = make_folder(v->checkpoint);
  if (code == EXIT_DONE && v->resume) code = make_folder(v->resume);
  return code;
}

void members_close(struct members *m) {
  for (int64_t k = 0; m->runs && k < m->count; k++) run_close(&m->runs[k]);
  free(m->runs);
  free(m->members);
}

int members_set(struct members *m, int64_t k, descent_network *network, const struct training_rows *rows) {
  struct run *run = &m->runs[k];
  m->members[k].network = network;
  m->members[k].training = rows->training;
  m->members[k].validation = rows->validation;
  m->members[k].options = &run->values.training.train;
  return run_open(run, m->training, &m->group, network, rows);
}

/* ---- training ---------------------------------------------------------------------------------------------------- */

/* Parameters, gradients, two moments, the best weights and the network's copy; activations and their gradients. */
static double bytes_of(const descent_network *network, int64_t batch) {
  double widths = 2 * (double)descent_network_inputs(network);
  for (int32_t l = 1; l <= descent_network_layers(network); l++)
    widths += 2 * (double)descent_network_width(network, l);
  return sizeof(float) * (6 * (double)descent_network_parameters(network) + (double)batch * widths);
}

void members_describe(const struct members *m, char text[static 256]) {
  char networks[TEXT_SIZE], parameters[TEXT_SIZE], bytes[TEXT_SIZE];
  double size = 0;
  int64_t count = 0;
  for (int64_t k = 0; k < m->count; k++) {
    const int64_t rows = descent_dataset_rows(m->members[k].training);
    const int64_t batch = m->members[k].options->batch_size;
    size += bytes_of(m->members[k].network, batch && batch < rows ? batch : rows);
    count += descent_network_parameters(m->members[k].network);
  }
  snprintf(text, 256, "%.20s networks, %.40s parameters, up to %.20sB to train", text_count(m->count, networks),
           text_count(count, parameters), text_scaled(size, bytes));
}

static void on_epochs(void *user, const descent_epoch_info *const *epochs, bool *stop, int64_t count) {
  struct members *m = user;
  (void)stop; /* each ends its training where a signal or a record of the group wants that */
  progress_members(&m->group.progress, descent_network_task(m->runs[0].network), epochs, count);
}

/* How long the error is without its end, "; the weights of epoch 3 are kept", which are not where no model has them. */
static int length_without_weights(const char *error) {
  static const char of[] = "; the weights ", initial[] = "; the initial weights ";
  const char *last = strrchr(error, ';');
  if (last && (strncmp(last, of, sizeof of - 1) == 0 || strncmp(last, initial, sizeof initial - 1) == 0))
    return (int)(last - error);
  return (int)strlen(error);
}

static bool all_diverged(const struct members *m) {
  for (int64_t k = 0; k < m->count; k++)
    if (m->members[k].status != DESCENT_ERROR_DIVERGED) return false;
  return true;
}

/* All have failed, or none has been trained. */
static void note_failure(struct members *m) {
  static const char library[] = "member "; /* as the library calls each network */
  const descent_member *first = &m->members[0];
  const char *error = descent_last_error();
  char all[64] = "";
  if (all_diverged(m)) snprintf(all, sizeof all, "all %" PRId64 " networks have diverged; ", m->count);
  if (first->status != DESCENT_OK && *first->error)
    snprintf(m->error, sizeof m->error, "%s%s 0: %.*s", all, m->noun,
             m->training->values.folds ? length_without_weights(first->error) : (int)strlen(first->error),
             first->error);
  else if (strncmp(error, library, sizeof library - 1) == 0)
    snprintf(m->error, sizeof m->error, "%s %s", m->noun, error + sizeof library - 1);
  else
    snprintf(m->error, sizeof m->error, "%s", error);
}

void members_fit(struct members *m) {
  descent_members_options options = descent_members_options_default();
  int64_t rows = 0;
  for (int64_t k = 0; k < m->count; k++) rows += descent_dataset_rows(m->members[k].training);
  options.on_epoch = on_epochs;
  options.user = m;
  progress_open(&m->group.progress, m->training->values.quiet ? NULL : stderr, rows);
  interrupt_watch();
  const double started = clock_seconds();
  m->status = descent_fit_members(m->training->device, m->members, m->count, &options);
  m->seconds = clock_seconds() - started;
  progress_close(&m->group.progress);
  if (m->status != DESCENT_OK) note_failure(m);
}

/* ---- end --------------------------------------------------------------------------------------------------------- */

void members_report_failures(const struct members *m, const char *fate) {
  enum { SHOWN = 10 };
  int64_t failed = 0;
  for (int64_t k = 0; k < m->count; k++)
    if (m->members[k].status != DESCENT_OK && failed++ < SHOWN)
      fail(command, EXIT_DONE, "warning: %s %" PRId64 " is %s: %.*s", m->noun, k, fate,
           length_without_weights(m->members[k].error), m->members[k].error);
  if (failed > SHOWN)
    fail(command, EXIT_DONE, "warning: %" PRId64 " more of the %" PRId64 " networks are %s", failed - SHOWN, m->count,
         fate);
}

void members_print_end(const struct members *m) {
  char text[TEXT_SIZE];
  int64_t fewest = INT64_MAX, most = 0, steps = 0, trained = 0, ends[3] = {0};
  for (int64_t k = 0; k < m->count; k++) {
    const descent_fit_result *r = &m->members[k].result;
    if (m->members[k].status != DESCENT_OK) continue;
    if (r->epochs < fewest) fewest = r->epochs;
    if (r->epochs > most) most = r->epochs;
    steps += r->steps;
    ends[r->stop]++;
    trained++;
  }
  printf("\ntrained %s network%s, ", text_count(trained, text), trained == 1 ? "" : "s");
  if (fewest < most) printf("%s to ", text_count(fewest, text));
  printf("%s epoch%s", text_count(most, text), most == 1 ? "" : "s");
  printf(" (%s step%s in all)", text_count(steps, text), steps == 1 ? "" : "s");
  printf(" in %s", text_duration(m->seconds, text));
  if (ends[DESCENT_STOP_EARLY]) printf(", %s stopped early", text_count(ends[DESCENT_STOP_EARLY], text));
  if (m->group.failed)
    printf(", stopped because a record could not be written");
  else if (ends[DESCENT_STOP_CALLBACK])
    printf(", %s stopped on request", text_count(ends[DESCENT_STOP_CALLBACK], text));
  putchar('\n');
}

int members_end(struct members *m, int code) {
  const struct train_values *v = &m->training->values;
  int64_t failures = 0, most_steps = 0;
  bool incomplete = false, saved = false;
  for (int64_t k = 0; k < m->count; k++) {
    struct run *r = &m->runs[k];
    failures += m->members[k].result.checkpoint_failures;
    records_close(&r->records);
    incomplete = incomplete || r->records.failed || r->records.incomplete;
    saved = saved || r->folder;
    if (r->step > most_steps) most_steps = r->step;
  }
  if (failures)
    code = fail(command, EXIT_RUN, "%s: %" PRId64 " checkpoint%s could not be written", v->checkpoint, failures,
                failures == 1 ? "" : "s");
  if (incomplete) code = EXIT_RUN;
  if (interrupt_signal() || m->group.failed || m->status == DESCENT_ERROR_DEVICE)
    results_print_way_on(stdout, saved ? v->checkpoint : NULL, most_steps);
  return code == EXIT_DONE && interrupt_signal() ? EXIT_SIGNAL + interrupt_signal() : code;
}
