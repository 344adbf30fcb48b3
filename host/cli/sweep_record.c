/* The file of trials. Its first line says what is searched in which data, so that a sweep is continued only by the same
 * one; a line that was cut off by a kill is removed. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "cli/sweep_run.h"
#include "report/text.h"

static const char *const command = sweep_command;

/* ---- what the sweep is ------------------------------------------------------------------------------------------- */

static bool add_text(cJSON *object, const char *name, const char *text) {
  return cJSON_AddStringToObject(object, name, text) != NULL;
}

static bool add_count(cJSON *object, const char *name, int64_t count) {
  char text[24];
  snprintf(text, sizeof text, "%" PRId64, count);
  return add_text(object, name, text);
}

/* A difference in one of these has no text that would help, so the file that has changed is named. */
static const struct checksum_of {
  const char *name, *what;
} checksums[] = {{"checksum", "data"}, {"--test checksum", "test data"}, {"--weights checksum", "weights"}};

static const char *path_of(const struct sweep *sweep, size_t checksum) {
  const struct train_values *v = &sweep->shared.values;
  return checksum == 0 ? sweep->options.data_path : checksum == 1 ? v->test : v->weights;
}

static bool add_checksum(cJSON *object, const char *name, uint64_t sum) {
  char text[CHECKSUM_SIZE];
  return add_text(object, name, checksum_text(sum, text));
}

/* All rows, names and classes, and the files that trials read besides. */
static bool add_data(cJSON *object, const struct sweep *sweep) {
  const struct training *t = &sweep->shared;
  uint64_t data = CHECKSUM_START, test = CHECKSUM_START, weights = CHECKSUM_START;
  if (!checksum_dataset(t->rows.training, &data) ||
      (t->rows.validation && !checksum_dataset(t->rows.validation, &data)) ||
      (t->test && !checksum_dataset(t->test, &test)) ||
      (t->values.weights && !checksum_file(t->values.weights, &weights)))
    return false;
  return add_text(object, "data", sweep->options.data_path) &&
         add_count(object, "rows", descent_dataset_rows(t->data)) && add_checksum(object, checksums[0].name, data) &&
         (!t->test || add_checksum(object, checksums[1].name, test)) &&
         (!t->values.weights || add_checksum(object, checksums[2].name, weights));
}

/* Texts by name; NULL when memory ran out. */
static cJSON *describe(const struct sweep *sweep) {
  const struct sweep_options *o = &sweep->options;
  cJSON *object = cJSON_CreateObject();
  bool whole = object && add_text(object, "version", descent_version()) && add_data(object, sweep) &&
               add_text(object, "device", descent_device_name(sweep->shared.device)) &&
               add_text(object, "--search", sweep_search_names[o->search]) &&
               add_count(object, "--trials", sweep->trials.n) && add_text(object, "--measure", o->measure_text);
  if (whole && o->search == SWEEP_HALVING) {
    whole = add_count(object, "--eta", o->eta) &&
            add_count(object, "--min-epochs", sweep->rungs.n ? sweep->rungs.epochs[0] : 0);
  }
  char name[OPTION_NAME_SIZE];
  for (int a = 0; a < o->n_axes && whole; a++) {
    snprintf(name, sizeof name, "--%s", o->axes[a].option->name);
    whole = add_text(object, name, o->axes[a].text);
  }
  const cJSON *option;
  cJSON_ArrayForEach(option, o->fixed) {
    snprintf(name, sizeof name, "--%s", option->string);
    whole = whole && add_text(object, name, option->valuestring);
  }
  if (whole) return object;
  cJSON_Delete(object);
  return NULL;
}

static const char *text_of(const cJSON *object, const char *name) {
  const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
  return cJSON_IsString(item) ? item->valuestring : NULL;
}

/* The first name whose texts differ; NULL: none. */
static const char *difference(const cJSON *a, const cJSON *b) {
  const cJSON *item;
  cJSON_ArrayForEach(item, a) {
    const char *x = text_of(a, item->string), *y = text_of(b, item->string);
    if (!x || !y || strcmp(x, y) != 0) return item->string;
  }
  return NULL;
}

static int compare(const struct sweep *sweep, const cJSON *recorded, const cJSON *here) {
  const char *name = difference(here, recorded);
  if (!name) name = difference(recorded, here);
  if (!name) return EXIT_DONE;
  const char *before = text_of(recorded, name), *now = text_of(here, name);
  for (size_t i = 0; i < sizeof checksums / sizeof *checksums && before && now; i++)
    if (strcmp(name, checksums[i].name) == 0)
      return fail(command, EXIT_USAGE, "%s: records a sweep of other %s: %s has changed since", sweep->record.path,
                  checksums[i].what, path_of(sweep, i));
  return fail(command, EXIT_USAGE, "%s: records another sweep: %s was %s and is now %s", sweep->record.path, name,
              before ? before : "not given", now ? now : "not given");
}

/* ---- lines ------------------------------------------------------------------------------------------------------- */

static bool write_line(struct sweep *sweep, cJSON *object, bool whole) {
  char *text = whole ? text_json(object, false) : NULL, *line = NULL;
  cJSON_Delete(object);
  const int length = text ? asprintf(&line, "%s\n", text) : -1;
  cJSON_free(text);
  if (length < 0) {
    fail(command, EXIT_RUN, "out of memory");
    return false;
  }
  const bool written = appended_add(&sweep->record.file, line, (size_t)length) &&
                       (fsync(sweep->record.file.descriptor) == 0 || errno == EINVAL || errno == EROFS);
  free(line);
  if (!written && !sweep->failed) { /* else it has been said */
    sweep_table_close(&sweep->table);
    fail(command, EXIT_RUN, "%s: cannot write: %s", sweep->record.path, strerror(errno));
  }
  return written;
}

static bool add_numbers(cJSON *object, const char *name, const double *values, int64_t n) {
  cJSON *array = cJSON_AddArrayToObject(object, name);
  for (int64_t i = 0; i < n && array; i++)
    if (!cJSON_AddItemToArray(array, cJSON_CreateNumber(values[i]))) return false; /* not finite: null */
  return array != NULL;
}

static cJSON *values_of(const struct sweep_options *options, const struct sweep_trial *t) {
  cJSON *object = cJSON_CreateObject();
  for (int a = 0; a < options->n_axes && object; a++)
    if (!add_text(object, options->axes[a].option->name, t->values[a])) {
      cJSON_Delete(object);
      return NULL;
    }
  return object;
}

bool sweep_record_trial(struct sweep *sweep, struct sweep_trial *t) {
  if (!sweep->record.path || t->recorded) return true;
  cJSON *object = cJSON_CreateObject(), *values = values_of(&sweep->options, t);
  char *line = sweep_trial_command(&sweep->options, t);
  const struct sweep_course *c = &t->course;
  bool whole = object && line && values && cJSON_AddNumberToObject(object, "trial", (double)t->number);
  if (whole)
    cJSON_AddItemToObject(object, "options", values);
  else
    cJSON_Delete(values);
  whole = whole && add_text(object, "command", line) && add_text(object, "status", sweep_status_names[t->status]) &&
          (!t->error || add_text(object, "error", t->error)) && (!*t->model || add_text(object, "model", t->model)) &&
          cJSON_AddNumberToObject(object, "epochs", (double)t->epochs) &&
          cJSON_AddNumberToObject(object, "best_epoch", (double)t->best_epoch) &&
          cJSON_AddNumberToObject(object, sweep->options.measure_text, t->objective) &&
          cJSON_AddNumberToObject(object, "seconds", t->seconds) &&
          add_numbers(object, "train_loss", c->train_loss, c->n) &&
          add_numbers(object, "validation_loss", c->validation_loss, c->n) &&
          add_numbers(object, "best_so_far", c->objective, c->n);
  free(line);
  t->recorded = write_line(sweep, object, whole);
  return t->recorded;
}

static double number_of(const cJSON *item) { return cJSON_IsNumber(item) ? item->valuedouble : NAN; }

static enum sweep_status status_of(const cJSON *line) {
  const char *text = text_of(line, "status");
  for (int s = SWEEP_TRIAL_DONE; text && s < SWEEP_STATUSES; s++)
    if (strcmp(sweep_status_names[s], text) == 0) return (enum sweep_status)s;
  return SWEEP_TRIAL_OPEN;
}

/* False: out of memory, or the arrays do not fit. */
static bool read_course(const cJSON *line, struct sweep_course *course) {
  const cJSON *train = cJSON_GetObjectItem(line, "train_loss");
  const cJSON *validation = cJSON_GetObjectItem(line, "validation_loss");
  const cJSON *best = cJSON_GetObjectItem(line, "best_so_far");
  if (!cJSON_IsArray(train) || !cJSON_IsArray(validation) || !cJSON_IsArray(best)) return false;
  train = train->child, validation = validation->child, best = best->child;
  for (; train && validation && best; train = train->next, validation = validation->next, best = best->next)
    if (!sweep_course_add(course, number_of(train), number_of(validation), number_of(best))) return false;
  return !train && !validation && !best;
}

/* Takes a line into its trial; false when it is none of this sweep's. */
static bool read_trial(struct sweep *sweep, const cJSON *line) {
  const double number = number_of(cJSON_GetObjectItem(line, "trial"));
  const char *error = text_of(line, "error"), *model = text_of(line, "model");
  if (!(number >= 1 && number <= (double)sweep->trials.n)) return false;
  struct sweep_trial *t = &sweep->trials.trials[(int64_t)number - 1];
  cJSON *values = values_of(&sweep->options, t);
  const bool same = values && cJSON_Compare(values, cJSON_GetObjectItem(line, "options"), true);
  cJSON_Delete(values);
  if (!same || t->recorded || status_of(line) == SWEEP_TRIAL_OPEN || !read_course(line, &t->course)) return false;
  t->status = status_of(line);
  t->epochs = (int64_t)number_of(cJSON_GetObjectItem(line, "epochs"));
  t->best_epoch = (int64_t)number_of(cJSON_GetObjectItem(line, "best_epoch"));
  t->objective = number_of(cJSON_GetObjectItem(line, sweep->options.measure_text));
  t->seconds = number_of(cJSON_GetObjectItem(line, "seconds"));
  if (error) t->error = strdup(error);
  if (model) snprintf(t->model, sizeof t->model, "%s", model);
  return t->recorded = true;
}

/* ---- the file ---------------------------------------------------------------------------------------------------- */

static int refuse_file(const struct sweep *sweep) {
  return fail(command, EXIT_DATA, "%s: is not the --log of a sweep", sweep->record.path);
}

/* The line without its newline: the first one is the sweep's. */
static int read_line(struct sweep *sweep, const cJSON *here, const char *text, int64_t number) {
  cJSON *line = cJSON_Parse(text);
  const cJSON *recorded = number == 1 ? cJSON_GetObjectItem(line, "sweep") : NULL;
  int code = EXIT_DONE;
  if (recorded)
    code = compare(sweep, recorded, here);
  else if (number == 1)
    code = refuse_file(sweep);
  else if (!read_trial(sweep, line))
    code =
        fail(command, EXIT_DATA, "%s:%" PRId64 ": is not a line of a trial of this sweep", sweep->record.path, number);
  cJSON_Delete(line);
  return code;
}

/* Whether a first line that was cut off can be that of a sweep: another file must not be emptied. */
static bool begins_sweep(const char *text, size_t length) {
  static const char first[] = "{\"sweep\":";
  const size_t known = sizeof first - 1;
  return memcmp(text, first, length < known ? length : known) == 0;
}

/* Reads all whole lines; `*end` is where they end. */
static int read_lines(struct sweep *sweep, const cJSON *here, FILE *in, off_t *end) {
  char *text = NULL;
  size_t capacity = 0;
  ssize_t length;
  int code = EXIT_DONE;
  for (int64_t number = 1; code == EXIT_DONE && (length = getline(&text, &capacity, in)) > 0; number++) {
    if (number == 1 && !begins_sweep(text, (size_t)length)) code = refuse_file(sweep);
    if (code != EXIT_DONE || text[length - 1] != '\n') break;
    code = read_line(sweep, here, text, number);
    *end += length;
  }
  if (code == EXIT_DONE && ferror(in))
    code = fail(command, EXIT_DATA, "%s: cannot read: %s", sweep->record.path, strerror(errno));
  free(text);
  return code;
}

static int read_file(struct sweep *sweep, const cJSON *here, int descriptor, off_t *end) {
  const int copy = dup(descriptor);
  FILE *in = copy < 0 ? NULL : fdopen(copy, "r");
  if (!in) return fail(command, EXIT_RUN, "%s: cannot read: %s", sweep->record.path, strerror(errno));
  const int code = read_lines(sweep, here, in, end);
  fclose(in);
  if (code == EXIT_DONE && ftruncate(descriptor, *end) != 0 && errno != EINVAL)
    return fail(command, EXIT_RUN, "%s: cannot write: %s", sweep->record.path, strerror(errno));
  return code;
}

static int open_file(struct sweep *sweep, int *descriptor) {
  const bool resumes = sweep->options.resume != NULL;
  const char *path = sweep->record.path;
  *descriptor = open(path, (resumes ? O_RDWR : O_WRONLY | O_EXCL) | O_CREAT | O_CLOEXEC, 0666);
  if (*descriptor < 0 && errno == EEXIST)
    return fail(command, EXIT_USAGE, "--log '%s': exists: continue that sweep with --resume, or choose another name",
                path);
  if (*descriptor < 0) return fail(command, EXIT_RUN, "%s: cannot write: %s", path, strerror(errno));
  if (flock(*descriptor, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return EXIT_DONE;
  close(*descriptor);
  return fail(command, EXIT_RUN, "%s: another sweep is writing to it", path);
}

static int begin(struct sweep *sweep, cJSON *here) {
  int descriptor;
  off_t end = 0;
  int code = open_file(sweep, &descriptor);
  if (code != EXIT_DONE) return code;
  if (sweep->options.resume) code = read_file(sweep, here, descriptor, &end);
  if (code != EXIT_DONE) {
    close(descriptor);
    return code;
  }
  if (!appended_open(&sweep->record.file, descriptor))
    return fail(command, EXIT_RUN, "%s: cannot write: %s", sweep->record.path, strerror(errno));
  if (end > 0) return EXIT_DONE;
  cJSON *line = cJSON_CreateObject();
  const bool whole = line && cJSON_AddItemReferenceToObject(line, "sweep", here);
  return write_line(sweep, line, whole) ? EXIT_DONE : EXIT_RUN;
}

int sweep_record_open(struct sweep *sweep) {
  sweep->record.path = sweep->options.resume ? sweep->options.resume : sweep->options.log;
  if (!sweep->record.path) return EXIT_DONE;
  cJSON *here = describe(sweep);
  const int code = here ? begin(sweep, here) : fail(command, EXIT_RUN, "out of memory");
  cJSON_Delete(here);
  return code;
}

void sweep_record_close(struct sweep *sweep) {
  int64_t missing;
  if (sweep->record.file.open && !appended_close(&sweep->record.file, 1, &missing) && !sweep->failed) {
    fail(command, EXIT_RUN, "%s: cannot write: %s", sweep->record.path, strerror(errno));
    sweep->failed = true;
  }
}
