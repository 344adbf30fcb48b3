/* The records of a training: opened, continued, written. */
#include "cli/records.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/interrupt.h"
#include "cli/logged.h"
#include "cli/output.h"
#include "core/clock.h"
#include "core/replace.h"
#include "report/run_log.h"
#include "report/text.h"

static bool wanted(const struct train_values *v) { return v->log || v->tensorboard || v->report || v->checkpoint; }

void records_init(struct records *r, const char *command, const struct train_values *values) {
  *r = (struct records){.values = values, .command = command, .folder = -1};
}

/* ---- what is said ----------------------------------------------------------------------------------------------- */

static void cannot_write(struct records *r, const char *path) {
  fail(r->command, EXIT_RUN, "%s: cannot write: %s", path, strerror(errno));
  r->failed = true;
}

/* The name of a log in messages. */
static const char *name_of(const struct records *r, const struct record_log *log, char name[PATH_MAX]) {
  if (log == &r->log) return r->values->log;
  if (log == &r->board) return r->tensorboard ? tensorboard_path(r->tensorboard) : r->values->tensorboard;
  snprintf(name, PATH_MAX, "%s/%s", r->values->checkpoint, CHECKPOINT_LOG);
  return name;
}

/* A log could not be written, for `error`. It is said once, not at every epoch. */
static void tell_failing(struct records *r, struct record_log *log, int error) {
  char name[PATH_MAX];
  if (!log->error)
    fail(r->command, EXIT_RUN, "%s: cannot write: %s; the training continues, and each epoch tries again",
         name_of(r, log, name), strerror(error));
  log->error = error;
}

static void tell_written(struct records *r, struct record_log *log) {
  char name[PATH_MAX];
  if (!log->error || log->file.lost) return;
  fail(r->command, EXIT_DONE, "%s: written again, with the epochs that waited", name_of(r, log, name));
  log->error = 0;
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

/* After an epoch was added: `written`, or errno is why something waits. */
static void note_write(struct records *r, struct record_log *log, bool written) {
  const int error = errno;
  char name[PATH_MAX];
  if (written)
    tell_written(r, log);
  else if (log->file.open && log->file.regular)
    tell_failing(r, log, error);
  else if (log->file.open) /* a part of the line may be in it */
    cannot_write(r, name_of(r, log, name));
}

static void begin_missing(struct records *r);

void records_epoch(struct records *r, const descent_network *network, const descent_epoch_info *info) {
  const struct train_values *v = r->values;
  if (!wanted(v) || r->failed) return;
  cJSON *line = run_log_line(descent_network_task(network), &v->training.train, info);
  char *text = line ? run_log_text(line) : NULL;
  if (!text || (v->report && !keep_line(r, line))) {
    errno = ENOMEM;
    cannot_write(r, v->report ? v->report : v->log ? v->log : v->tensorboard ? v->tensorboard : v->checkpoint);
  } else if (r->tensorboard) {
    note_write(r, &r->board, tensorboard_epoch(r->tensorboard, line, network, info));
  }
  begin_missing(r);
  if (text && v->checkpoint) note_write(r, &r->kept, appended_add(&r->kept.file, text, strlen(text)));
  if (text && v->log) note_write(r, &r->log, appended_add(&r->log.file, text, strlen(text)));
  cJSON_free(text);
  cJSON_Delete(line);
}

/* ---- beginning and going back ----------------------------------------------------------------------------------- */

/* A log that takes the place of the one before when it is complete. */
struct new_log {
  struct record_log *log; /* that it will be; NULL: it is not needed */
  struct replacement replacement;
  bool direct; /* to a device or a pipe instead */
  int error;   /* errno; 0: none */
};

/* A log of before; NULL without one, or with `*error` set. */
static FILE *open_old(int folder, const char *name, int flags, int *error) {
  struct stat about;
  const int descriptor = openat(folder, name, O_RDONLY | O_NONBLOCK | O_CLOEXEC | flags);
  FILE *file = NULL;
  errno = descriptor < 0 ? errno : 0;
  if (descriptor >= 0 && fstat(descriptor, &about) == 0) {
    if (S_ISREG(about.st_mode))
      file = fdopen(descriptor, "r");
    else
      errno = S_ISDIR(about.st_mode) ? EISDIR : EINVAL;
  }
  *error = file || errno == ENOENT ? 0 : errno;
  if (!file && descriptor >= 0) close(descriptor);
  return file;
}

/* The log beside the checkpoints that the training continues from. */
static FILE *open_kept(const char *folder, int *error) {
  const int descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  FILE *file = NULL;
  *error = descriptor < 0 && errno != ENOENT ? errno : 0;
  if (descriptor < 0) return NULL;
  file = open_old(descriptor, CHECKPOINT_LOG, O_NOFOLLOW, error);
  close(descriptor);
  return file;
}

static void open_new_kept(struct records *r, struct new_log *fresh) {
  if (r->folder < 0) r->folder = open(r->values->checkpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (r->folder < 0 || !replace_open_at(r->folder, CHECKPOINT_LOG, &fresh->replacement)) fresh->error = errno;
}

static void open_new_log(struct records *r, struct new_log *fresh) {
  char place[PATH_MAX];
  fresh->direct = output_is_special(r->values->log);
  if (fresh->direct) {
    const int descriptor = open(r->values->log, O_WRONLY | O_CLOEXEC);
    if (descriptor < 0 || !appended_open(&fresh->log->file, descriptor)) fresh->error = errno;
  } else if (!replace_open(r->values->log, &fresh->replacement, place)) {
    fresh->error = errno;
  }
}

static void write_new(struct new_log *fresh, const char *line) {
  if (!fresh->log || fresh->error) return;
  const bool written = fresh->direct ? appended_add(&fresh->log->file, line, strlen(line))
                                     : fputs(line, fresh->replacement.stream) != EOF;
  if (!written) fresh->error = errno;
}

/* Puts a new log in its place, open for the lines to come; not after an error. */
static void place_new(struct records *r, struct new_log *fresh) {
  if (!fresh->log) return;
  if (fresh->replacement.stream) {
    const int descriptor = fresh->error ? -1 : fcntl(fileno(fresh->replacement.stream), F_DUPFD_CLOEXEC, 0);
    if (descriptor < 0 && !fresh->error) fresh->error = errno;
    if (fresh->error) {
      replace_abandon(&fresh->replacement);
    } else if (!replace_commit(&fresh->replacement)) {
      fresh->error = errno;
      close(descriptor);
    } else if (!appended_open(&fresh->log->file, descriptor)) {
      fresh->error = errno;
    }
  }
  if (fresh->error && fresh->direct) {
    errno = fresh->error;
    cannot_write(r, r->values->log);
  } else if (fresh->error) {
    tell_failing(r, fresh->log, fresh->error);
  }
}

/* Copies what was recorded into new logs, and the first time into the history. False with errno set where it cannot be
 * read. */
static bool copy_epochs(struct records *r, struct logged *logged, bool first, struct new_log fresh[2], int64_t *n) {
  const cJSON *line;
  while (logged_next(logged, &line)) {
    if (!line) return true;
    char *text = run_log_text(line);
    const bool kept = text && (!first || !r->values->report || keep_line(r, line));
    if (kept)
      for (int i = 0; i < 2; i++) write_new(&fresh[i], text);
    cJSON_free(text);
    errno = ENOMEM;
    if (!kept) return false;
    ++*n;
  }
  return false;
}

/* Of the epochs that were recorded only `n` were found; `error`: because a log could not be read. */
static void tell_missing(struct records *r, int64_t n, int error) {
  const struct train_values *v = r->values;
  if (error)
    fail(r->command, EXIT_RUN, "%s/%s: cannot read: %s; the training continues, and each epoch tries again", r->from,
         CHECKPOINT_LOG, error == ELOOP ? "it is a symbolic link, which is not followed" : strerror(error));
  else
    fail(r->command, EXIT_DONE, "%s/%s: lacks %" PRId64 " of the %" PRId64 " epochs before step %" PRId64, r->from,
         CHECKPOINT_LOG, r->epochs - n, r->epochs, r->step);
  if (n != r->epochs && (v->report || (!error && (v->log || r->kept.error)))) r->incomplete = true;
  r->told_missing = !error;
}

/* Begins the logs that are not open with what was recorded. */
static void begin_logs(struct records *r, bool first) {
  const struct train_values *v = r->values;
  struct new_log fresh[2] = {{.log = v->checkpoint && !r->kept.file.open ? &r->kept : NULL},
                             {.log = v->log && !r->log.file.open ? &r->log : NULL}};
  struct logged logged = {0};
  int error = 0, unused;
  int64_t n = 0;
  r->tried = clock_seconds();
  if (fresh[0].log) open_new_kept(r, &fresh[0]);
  if (fresh[1].log) open_new_log(r, &fresh[1]);
  if (r->step) {
    FILE *const kept = open_kept(r->from, &error);
    FILE *const log = v->log && !fresh[1].direct ? open_old(AT_FDCWD, v->log, 0, &unused) : NULL;
    if ((!logged_open(&logged, kept, log, r->step, r->epochs) || !copy_epochs(r, &logged, first, fresh, &n)) && !error)
      error = errno;
  }
  logged_close(&logged);
  /* What cannot be read now is not replaced by less. */
  if (error)
    for (int i = 0; i < 2; i++)
      if (!fresh[i].direct && (fresh[i].log == &r->kept || n != r->epochs)) fresh[i].error = error;
  if (error ? first : n != r->epochs && !r->told_missing) tell_missing(r, n, error);
  for (int i = 0; i < 2; i++) {
    if (error && fresh[i].log && fresh[i].error) fresh[i].log->error = error; /* has been reported */
    place_new(r, &fresh[i]);
  }
}

/* Not more often than each second, as it reads what was recorded. */
static void begin_missing(struct records *r) {
  const struct train_values *v = r->values;
  const bool missing = (v->checkpoint && !r->kept.file.open) || (v->log && !r->log.file.open);
  if (r->started && missing && clock_seconds() - r->tried >= 1) begin_logs(r, false);
}

static void close_log(struct records *r, struct record_log *log) {
  char name[PATH_MAX];
  const int tries = interrupt_signal() ? 2 : 5;
  const bool started = log->file.open || !log->error, direct = log->file.open && !log->file.regular;
  int64_t missing;
  const bool closed = appended_close(&log->file, direct && r->failed ? 1 : tries, &missing) && started;
  const int error = closed || !started ? log->error : errno;
  if (direct && r->failed)
    ; /* has been reported */
  else if (missing)
    fail(r->command, EXIT_RUN, "%s: lacks %" PRId64 " %s%s, which could not be written: %s", name_of(r, log, name),
         missing, log == &r->board ? "record" : "epoch", missing == 1 ? "" : "s", strerror(error));
  else if (closed)
    tell_written(r, log);
  else if (!r->failed)
    fail(r->command, EXIT_RUN, "%s: cannot write: %s", name_of(r, log, name),
         started && error == ENOENT ? "it was removed during the training" : strerror(error));
  if (!closed) r->incomplete = true;
  log->error = 0;
}

/* Before the log begins again up to an earlier step. What waits belongs to later steps, or is counted by tell_missing. A
 * pipe or a device stays open: its reader would take that for the end, and opening it would wait for the next reader. */
static void leave_log(struct records *r, struct record_log *log) {
  int64_t missing;
  if (log->file.open && !log->file.regular) return;
  if (!appended_close(&log->file, 1, &missing) && !log->error) tell_failing(r, log, errno);
}

static void close_rest(struct records *r) {
  if (r->folder >= 0) close(r->folder);
  r->folder = -1;
  history_free(&r->history);
  cJSON_Delete(r->warnings);
  r->warnings = NULL;
}

void records_close(struct records *r) {
  if (!r->values) return;
  r->tried = 0;
  if (!r->failed) begin_missing(r);
  close_log(r, &r->kept);
  close_log(r, &r->log);
  close_rest(r);
  close_log(r, &r->board);
  tensorboard_free(r->tensorboard);
  r->tensorboard = NULL;
  r->values = NULL;
}

void records_begin(struct records *r, const char *folder, int64_t step, int64_t epochs) {
  const struct train_values *v = r->values;
  if (!r->started || r->kept.file.open) r->from = folder; /* else the new log is not there yet */
  leave_log(r, &r->kept);
  leave_log(r, &r->log);
  close_rest(r);
  r->started = true;
  r->step = step;
  r->epochs = epochs;
  r->told_missing = false;
  begin_logs(r, true);
  if (r->failed) return;
  if (v->tensorboard && !r->tensorboard && !(r->tensorboard = tensorboard_open(v->tensorboard, &r->board.file)))
    cannot_write(r, v->tensorboard);
  else if (r->tensorboard && step)
    note_write(r, &r->board, tensorboard_restart(r->tensorboard, step));
}
