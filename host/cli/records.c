/* The records of a training: opened, continued, written. */
#include "cli/records.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "report/run_log.h"
#include "report/text.h"

static bool wanted(const struct train_values *v) { return v->log || v->tensorboard || v->report || v->checkpoint; }

static void cannot_write(struct records *r, const char *path) {
  fail(r->command, EXIT_RUN, "%s: cannot write: %s", path, strerror(errno));
  r->failed = true;
}

/* The log beside the checkpoints serves a later resume: like a failed checkpoint, its loss does not end the
 * training. */
static void tell_lost(struct records *r) {
  fail(r->command, EXIT_RUN, "%s/%s: cannot write: %s; the training continues", r->values->checkpoint, CHECKPOINT_LOG,
       strerror(errno));
  r->lost = true;
}

static void lose_kept(struct records *r) {
  tell_lost(r);
  fclose(r->kept);
  r->kept = NULL;
}

static char *log_path(const char *folder) {
  char *path;
  return asprintf(&path, "%s/%s", folder, CHECKPOINT_LOG) < 0 ? NULL : path;
}

/* ---- one epoch -------------------------------------------------------------------------------------------------- */

/* Keeps a warning where it says something new; false when memory ran out. */
static bool keep_warning(struct records *r, double epoch, const char *text) {
  enum { WARNINGS_MOST = 20 };
  if (!r->warnings && !(r->warnings = cJSON_CreateArray())) return false;
  const int kept = cJSON_GetArraySize(r->warnings);
  const cJSON *last = kept ? cJSON_GetObjectItem(cJSON_GetArrayItem(r->warnings, kept - 1), "text") : NULL;
  if (!*text || kept == WARNINGS_MOST || text_same_words(text, last ? last->valuestring : "")) return true;
  cJSON *warning = cJSON_CreateObject();
  return cJSON_AddItemToArray(r->warnings, warning) && cJSON_AddNumberToObject(warning, "epoch", epoch) &&
         cJSON_AddStringToObject(warning, "text", text);
}

/* For the report. */
static bool keep_line(struct records *r, const cJSON *line) {
  const char *warning = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(line, "warning"));
  const cJSON *epoch = cJSON_GetObjectItemCaseSensitive(line, "epoch");
  return !history_add(&r->history, line) && keep_warning(r, cJSON_GetNumberValue(epoch), warning ? warning : "");
}

void records_epoch(struct records *r, const descent_network *network, const descent_epoch_info *info) {
  const struct train_values *v = r->values;
  if (!wanted(v) || r->failed) return;
  cJSON *line = run_log_line(descent_network_task(network), &v->training.train, info);
  if (!line || (v->report && !keep_line(r, line))) {
    errno = ENOMEM;
    cannot_write(r, v->report ? v->report : v->log ? v->log : v->tensorboard ? v->tensorboard : v->checkpoint);
  } else if (r->log && !run_log_write(r->log, line)) {
    cannot_write(r, v->log);
  } else if (r->tensorboard && !tensorboard_epoch(r->tensorboard, line, network, info)) {
    cannot_write(r, tensorboard_path(r->tensorboard));
  }
  if (line && r->kept && !run_log_write(r->kept, line)) lose_kept(r);
  cJSON_Delete(line);
}

/* ---- beginning and going back ----------------------------------------------------------------------------------- */

static void close_files(struct records *r) {
  FILE *log = r->log;
  r->log = NULL;
  if (log && fclose(log) != 0 && !r->failed) cannot_write(r, r->values->log);
  if (r->kept && fclose(r->kept) != 0) tell_lost(r);
  r->kept = NULL;
  history_free(&r->history);
  cJSON_Delete(r->warnings);
  r->warnings = NULL;
}

void records_close(struct records *r) {
  close_files(r);
  if (!tensorboard_close(r->tensorboard) && !r->failed) cannot_write(r, r->values->tensorboard);
  r->tensorboard = NULL;
}

/* One line that was kept: into the files that are open and the history. */
static bool replay(struct records *r, FILE *kept, const cJSON *line) {
  if (!run_log_write(kept, line)) return false;
  if (r->log && !run_log_write(r->log, line)) return false;
  return !r->values->report || keep_line(r, line);
}

/* The epoch of a line of the checkpoints' log, where it is one that follows `last` and the step; else 0. */
static int64_t epoch_of(const cJSON *line, int64_t last, int64_t step) {
  const cJSON *at = cJSON_GetObjectItemCaseSensitive(line, "step");
  const cJSON *epoch = cJSON_GetObjectItemCaseSensitive(line, "epoch");
  const bool sound = cJSON_IsNumber(at) && at->valuedouble <= (double)step && cJSON_IsNumber(epoch) &&
                     epoch->valuedouble > (double)last && epoch->valuedouble <= (double)step;
  return sound ? (int64_t)epoch->valuedouble : 0;
}

/* The lines of the checkpoints' log up to a step, in order; damaged ones are left out. `*epochs`: their number. False
 * with errno set where memory is short, as a part of the log is not to replace all of it then. */
static bool replay_log(struct records *r, FILE *from, FILE *kept, int64_t step, int64_t *epochs) {
  char *text = NULL;
  size_t capacity = 0;
  ssize_t length;
  int64_t last = 0;
  bool written = true;
  while (written && (errno = 0, length = getline(&text, &capacity, from)) > 0) {
    cJSON *line = cJSON_ParseWithLength(text, (size_t)length);
    written = line || errno != ENOMEM;
    const int64_t epoch = epoch_of(line, last, step);
    errno = ENOMEM; /* not set by what failed */
    if (epoch) {
      written = replay(r, kept, line);
      last = epoch;
      ++*epochs;
    }
    cJSON_Delete(line);
  }
  if (written && (ferror(from) || errno == ENOMEM)) written = false;
  const int error = errno;
  free(text);
  errno = error;
  return written;
}

/* Writes what was logged up to the step into a new log beside the checkpoints and puts it in the place of the old one.
 * The folder is locked, so the new one may have a fixed name; a killed process leaves it to the next. The writer of
 * checkpoints syncs the files beside them. */
static bool rewrite_log(struct records *r, FILE *old, const char *path, int64_t step, int64_t *epochs) {
  char *fresh = NULL;
  errno = ENOMEM;
  if (asprintf(&fresh, "%s.new", path) < 0) return false;
  unlink(fresh); /* which may be anything, such as a link or a pipe */
  FILE *file = fopen(fresh, "w");
  bool done = file && (!old || replay_log(r, old, file, step, epochs)) && fflush(file) == 0 && fsync(fileno(file)) == 0;
  int error = errno;
  if (file && fclose(file) != 0 && done) done = false, error = errno;
  errno = error;
  if (done) done = rename(fresh, path) == 0 && (r->kept = fopen(path, "a"));
  error = errno;
  if (!done) unlink(fresh);
  free(fresh);
  errno = error;
  return done;
}

/* Does not wait for the writer of a pipe that came with the folder. NULL with errno set. */
static FILE *open_log(const char *path) {
  struct stat about;
  const int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) return NULL;
  int error = fstat(descriptor, &about) ? errno : S_ISDIR(about.st_mode) ? EISDIR : S_ISREG(about.st_mode) ? 0 : EINVAL;
  FILE *file = error ? NULL : fdopen(descriptor, "r");
  if (!error && !file) error = errno;
  if (!file) close(descriptor);
  errno = error;
  return file;
}

static bool continue_log(struct records *r, const char *folder, int64_t step, int64_t epochs) {
  int64_t logged = 0;
  const char *own = r->values->checkpoint;
  char *from = log_path(folder), *to = log_path(own);
  errno = ENOMEM;
  FILE *old = from && to ? open_log(from) : NULL;
  const bool done = (old || errno == ENOENT) && rewrite_log(r, old, to, step, &logged);
  const int error = errno;
  if (done && logged != epochs)
    fail(r->command, EXIT_DONE, "%s/%s: lacks %" PRId64 " of the %" PRId64 " epochs before step %" PRId64, folder,
         CHECKPOINT_LOG, epochs - logged, epochs, step);
  if (old) fclose(old);
  free(from);
  free(to);
  errno = error;
  return done;
}

void records_begin(struct records *r, const char *folder, int64_t step, int64_t epochs) {
  const struct train_values *v = r->values;
  close_files(r);
  if (v->log && !(r->log = fopen(v->log, "w"))) {
    cannot_write(r, v->log);
    return;
  }
  if (v->checkpoint && !continue_log(r, folder, step, epochs)) tell_lost(r);
  if (v->tensorboard && !r->tensorboard && !(r->tensorboard = tensorboard_open(v->tensorboard))) {
    cannot_write(r, v->tensorboard);
  } else if (r->tensorboard && step && !tensorboard_restart(r->tensorboard, step)) {
    cannot_write(r, tensorboard_path(r->tensorboard));
  }
}
