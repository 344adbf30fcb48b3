/* Many networks trained together: their files, their options, what is said of them. */
#include "cli/members.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/place.h"
#include "cli/results.h"
#include "core/clock.h"
#include "report/text.h"

static const char *const command = training_command;

/* ---- places ------------------------------------------------------------------------------------------------------ */

/* "log.jsonl" of member 3 is "log-3.jsonl", and the folder "run" "run/member-3". NULL when out of memory. */
static char *file_of(const char *path, int64_t k) {
  const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path, *dot = strrchr(name, '.');
  const int before = (int)(dot && dot != name ? dot - path : (ptrdiff_t)strlen(path));
  char *text = NULL;
  return asprintf(&text, "%.*s-%" PRId64 "%s", before, path, k, path + before) < 0 ? NULL : text;
}

static char *folder_of(const char *path, const char *noun, int64_t k) {
  char *text = NULL;
  return asprintf(&text, "%s/%s-%" PRId64, path, noun, k) < 0 ? NULL : text;
}

/* False when out of memory. */
static bool set_places(struct run *r, const struct train_values *v, const char *noun, int64_t k) {
  struct descent_train_options *train = &r->values.training.train;
  if (k >= MEMBERS_DRAWN) r->values.report = NULL;
  if (v->checkpoint && !(r->values.checkpoint = r->checkpoint = folder_of(v->checkpoint, noun, k))) return false;
  if (v->resume && !(r->values.resume = r->resume = folder_of(v->resume, noun, k))) return false;
  if (v->log && !(r->values.log = r->log = file_of(v->log, k))) return false;
  if (v->tensorboard && !(r->values.tensorboard = r->tensorboard = folder_of(v->tensorboard, noun, k))) return false;
  train->checkpoint.folder = r->values.checkpoint;
  train->checkpoint.resume = r->values.resume;
  return true;
}

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

/* ---- options ----------------------------------------------------------------------------------------------------- */

/* Whether the folder has one with the checkpoints of a single network, named so; "": it has these itself. */
static bool holds(const char *folder, const char *name) {
  char *path = NULL;
  if (!folder || asprintf(&path, "%s/%s/lock", folder, name) < 0) return false;
  const bool found = place_holds_checkpoints(path);
  free(path);
  return found;
}

static int check_folders(const struct train_values *v) {
  const char *const folders[] = {v->checkpoint, v->resume};
  const char *const others[] = {v->folds || v->ensemble > 1 ? "" : NULL, v->ensemble > 1 ? NULL : "member-0",
                                v->folds ? NULL : "fold-0"};
  static const char *const trained[] = {"without --ensemble and --folds", "with --ensemble", "with --folds"};
  for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
    for (size_t k = 0; k < sizeof others / sizeof *others; k++)
      if (others[k] && holds(folders[i], others[k]))
        return fail(command, EXIT_USAGE, "%s: holds checkpoints of a training %s: train so, or use another folder",
                    folders[i], trained[k]);
  return EXIT_DONE;
}

/* What several networks in one process exclude. */
static int check_company(const struct train_values *v, const char *option, const struct launcher *launcher) {
  int first, last;
  if (launcher->size > 1 && strcmp(v->ranks.ranks, "off") != 0)
    return fail(command, EXIT_USAGE, "%s: trains in one process: start it without %s, or with --ranks off", option,
                launcher->name);
  if (strcmp(v->ranks.ranks, "self") == 0 || launcher_gpus(v->device.device, &first, &last))
    return fail(command, EXIT_USAGE, "%s: trains in one process on one device, without ranks", option);
  if (v->training.train.ranks.micro_batches > 1)
    return fail(command, EXIT_USAGE, "%s: cannot be combined with --micro-batches", option);
  if (v->log && output_is_special(v->log))
    return fail(command, EXIT_USAGE, "--log '%s': with %s each network has a log: name a file", v->log, option);
  return EXIT_DONE;
}

/* What has no use without a model. */
static int check_folds(const struct train_values *v) {
  const struct {
    const char *option;
    bool given;
  } others[] = {{"--ensemble", v->ensemble > 1},
                {"--out", v->out_given},
                {"--test", v->test != NULL},
                {"--report", v->report != NULL}};
  if (v->folds == 1) return fail(command, EXIT_USAGE, "--folds 1: must be 0, for none, or at least 2");
  for (size_t i = 0; i < sizeof others / sizeof *others; i++)
    if (others[i].given)
      return fail(command, EXIT_USAGE,
                  "--folds: measures and writes no model: it cannot be combined with %s (train the model without "
                  "--folds)",
                  others[i].option);
  return EXIT_DONE;
}

int members_check_options(const struct train_values *v, const struct launcher *launcher) {
  int code = EXIT_DONE;
  const char *option = v->folds ? "--folds" : "--ensemble";
  if (strcmp(v->ensemble_shuffle, "own") != 0 && strcmp(v->ensemble_shuffle, "shared") != 0)
    return fail(command, EXIT_USAGE, "--ensemble-shuffle '%s': must be own or shared", v->ensemble_shuffle);
  if (v->ensemble == 1 && strcmp(v->ensemble_shuffle, "own") != 0)
    return fail(command, EXIT_USAGE, "--ensemble-shuffle '%s': needs --ensemble", v->ensemble_shuffle);
  if (v->out_of_fold && !v->folds)
    return fail(command, EXIT_USAGE, "--out-of-fold '%s': needs --folds", v->out_of_fold);
  if (v->out_of_fold && strcmp(v->out_of_fold, "-") == 0)
    return fail(command, EXIT_USAGE, "--out-of-fold '-': must name a file: standard output has the measures");
  if (v->folds || v->ensemble > 1) code = check_company(v, option, launcher);
  if (code == EXIT_DONE && v->folds) code = check_folds(v);
  return code == EXIT_DONE ? check_folders(v) : code;
}

/* ---- life -------------------------------------------------------------------------------------------------------- */

int members_open(struct members *m, const struct training *t, const char *noun, int64_t count) {
  const struct train_values *v = &t->values;
  *m = (struct members){.training = t, .noun = noun, .count = count, .group = {.runs = count}};
  m->runs = calloc((size_t)count, sizeof *m->runs);
  m->members = calloc((size_t)count, sizeof *m->members);
  bool fits = m->runs && m->members;
  for (int64_t k = 0; fits && k < count; k++) {
    m->runs[k].values = *v;
    m->members[k] = descent_member_default();
    snprintf(m->runs[k].title, sizeof m->runs[k].title, "%s %" PRId64 ": ", noun, k);
    fits = set_places(&m->runs[k], v, noun, k);
  }
  if (!fits) return fail(command, EXIT_RUN, "%" PRId64 " networks: out of memory", count);
  allow_files(count);
  int code = v->checkpoint ? make_folder(v->checkpoint) : EXIT_DONE;
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
  (void)stop; /* each has ended its training where a signal or its records want that */
  progress_members(&m->group.progress, descent_network_task(m->runs[0].network), epochs, count);
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
  if (m->status != DESCENT_OK) snprintf(m->error, sizeof m->error, "%s", descent_last_error());
}

/* ---- end --------------------------------------------------------------------------------------------------------- */

void members_report_failures(const struct members *m, const char *fate) {
  enum { SHOWN = 10 };
  int64_t failed = 0;
  for (int64_t k = 0; k < m->count; k++)
    if (m->members[k].status != DESCENT_OK && failed++ < SHOWN)
      fail(command, EXIT_DONE, "warning: %s %" PRId64 " is %s: %s", m->noun, k, fate, m->members[k].error);
  if (failed > SHOWN)
    fail(command, EXIT_DONE, "warning: %" PRId64 " more of the %" PRId64 " networks are %s", failed - SHOWN, m->count,
         fate);
}

bool members_kept(const struct members *m, int64_t k) {
  const descent_member *member = &m->members[k];
  const bool broken_off = member->status == DESCENT_ERROR_READ || member->status == DESCENT_ERROR_DEVICE;
  return member->status == DESCENT_ERROR_DIVERGED || (broken_off && m->runs[k].learned) ||
         (member->status == DESCENT_ERROR_WRITE && member->result.steps > 0);
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
  if (ends[DESCENT_STOP_CALLBACK]) printf(", %s stopped on request", text_count(ends[DESCENT_STOP_CALLBACK], text));
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
  if (interrupt_signal()) {
    results_print_way_on(stdout, saved ? v->checkpoint : NULL, most_steps);
    if (code == EXIT_DONE) code = EXIT_SIGNAL + interrupt_signal();
  }
  return code;
}
