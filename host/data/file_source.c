/* The source that reads a file anew in each epoch. A thread runs the file's reader and fills one of two windows of rows
 * while `next` gives those of the other, shuffled. The order depends on (seed, epoch) and the window's size only. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/handle.h"
#include "core/memory.h"
#include "core/process.h"
#include "core/rng.h"
#include "core/status.h"
#include "core/thread.h"
#include "data/format.h"
#include "data/read.h"
#include "data/stream.h"

struct window {
  float *X, *y, *weights; /* (capacity, inputs), (.., targets), (..); they grow up to the window's rows */
  int64_t rows, capacity;
  bool full; /* `next` may take its rows; guarded by the mutex */
};

struct file_source {
  const char *path;
  descent_dataset_options options;
  int64_t inputs, targets;
  int64_t window_rows;
  bool shuffled;
  uint32_t generation; /* of the process that opened it: core/process.h */

  /* of the thread that calls next and rewind */
  uint64_t seed;
  int64_t epoch, taken; /* windows of this epoch so far */
  int64_t skip;         /* rows that are still not needed */
  int64_t row;          /* of the window that is given */
  struct permutation order;
  bool reading; /* `reader` is to be joined */

  struct window windows[2];
  int given, filling; /* the window that `next` takes, and the one that the reader fills */
  pthread_t reader;
  pthread_mutex_t mutex; /* guards what follows, and `full` */
  pthread_cond_t changed;
  bool finished, stopping; /* finished: the reader fills no more windows */
  descent_status status;   /* of the reader, once it has finished */
  char error[1024];
};

/* ---- the reader's thread ---------------------------------------------------------------------------------------- */

/* Gives the window to `next` and waits for the other one; false: stop reading. */
static bool pass_window(struct file_source *s) {
  pthread_mutex_lock(&s->mutex);
  s->windows[s->filling].full = true;
  s->filling = 1 - s->filling;
  pthread_cond_broadcast(&s->changed);
  while (s->windows[s->filling].full && !s->stopping) pthread_cond_wait(&s->changed, &s->mutex);
  const bool stopping = s->stopping;
  pthread_mutex_unlock(&s->mutex);
  s->windows[s->filling].rows = 0;
  return !stopping;
}

/* Makes room for `rows` rows. A window may be asked for that is larger than the file. */
static descent_status grow_window(const struct file_source *s, struct window *w, int64_t rows) {
  int64_t capacity = w->capacity ? w->capacity : 1024, values, targets;
  float *X, *y, *weights;
  if (rows <= w->capacity) return DESCENT_OK;
  while (capacity < rows) capacity *= 2;
  if (capacity > s->window_rows) capacity = s->window_rows;
  if (!size_product(capacity, s->inputs, &values) || !size_product(capacity, s->targets, &targets))
    return status_set(DESCENT_ERROR_MEMORY, "%s: a window of %" PRId64 " rows exceeds the address space", s->path,
                      capacity);
  if (!(X = memory_resize(w->X, w->capacity * s->inputs, values, sizeof *X, "a window of rows")))
    return DESCENT_ERROR_MEMORY;
  w->X = X;
  if (!(y = memory_resize(w->y, w->capacity * s->targets, targets, sizeof *y, "a window of rows")))
    return DESCENT_ERROR_MEMORY;
  w->y = y;
  if (!(weights = memory_resize(w->weights, w->capacity, capacity, sizeof *weights, "a window of rows")))
    return DESCENT_ERROR_MEMORY;
  w->weights = weights;
  w->capacity = capacity;
  return DESCENT_OK;
}

static descent_status add_block(void *user, struct dataset_storage *block) {
  struct file_source *s = user;
  descent_status status = DESCENT_OK;
  if (!block->y) TRY(status_set(DESCENT_ERROR_DATA, "%s: no target column (name it as `target`)", s->path));
  for (int64_t r = 0, n; r < block->rows; r += n) {
    struct window *w = &s->windows[s->filling];
    const int64_t room = s->window_rows - w->rows;
    n = block->rows - r < room ? block->rows - r : room;
    TRY(grow_window(s, w, w->rows + n));
    memcpy(w->X + w->rows * s->inputs, block->X + r * s->inputs, (size_t)(n * s->inputs) * sizeof *w->X);
    memcpy(w->y + w->rows * s->targets, block->y + r * s->targets, (size_t)(n * s->targets) * sizeof *w->y);
    for (int64_t i = 0; i < n; i++) w->weights[w->rows + i] = block->weights ? block->weights[r + i] : 1;
    w->rows += n;
    if (w->rows == s->window_rows && !pass_window(s)) TRY(status_set(DESCENT_ERROR_CANCELLED, "the source is rewound"));
  }
done:
  dataset_storage_release(block);
  return status;
}

static void *read_epoch(void *argument) {
  enum { BLOCK = 1 << 18 }; /* values */
  struct file_source *s = argument;
  const struct table_blocks blocks = {s->inputs < BLOCK ? BLOCK / s->inputs : 1, add_block, s};
  const descent_status status = read_in_blocks(s->path, &s->options, &blocks);
  const bool rest = status == DESCENT_OK && s->windows[s->filling].rows > 0;
  pthread_mutex_lock(&s->mutex);
  if (rest) s->windows[s->filling].full = true;
  s->status = status;
  if (status != DESCENT_OK) snprintf(s->error, sizeof s->error, "%s", descent_last_error());
  s->finished = true;
  pthread_cond_broadcast(&s->changed);
  pthread_mutex_unlock(&s->mutex);
  return NULL;
}

static void stop_reader(struct file_source *s) {
  if (!s->reading) return;
  pthread_mutex_lock(&s->mutex);
  s->stopping = true;
  pthread_cond_broadcast(&s->changed);
  pthread_mutex_unlock(&s->mutex);
  pthread_join(s->reader, NULL);
  s->reading = false;
}

static descent_status start_reader(struct file_source *s) {
  s->given = s->filling = 0;
  for (int i = 0; i < 2; i++) s->windows[i].rows = 0, s->windows[i].full = false;
  s->finished = s->stopping = false;
  const int failed = thread_create(&s->reader, read_epoch, s);
  if (failed)
    return status_set(DESCENT_ERROR_MEMORY, "out of memory: cannot start a thread to read %s: %s", s->path,
                      strerror(failed));
  s->reading = true;
  return DESCENT_OK;
}

/* ---- next and rewind -------------------------------------------------------------------------------------------- */

/* Waits for the next window and selects its order; `*found` is false at the end of the file. */
static descent_status take_window(struct file_source *s, bool *found) {
  const struct window *w = &s->windows[s->given];
  descent_status status;
  pthread_mutex_lock(&s->mutex);
  while (!w->full && !s->finished) pthread_cond_wait(&s->changed, &s->mutex);
  *found = w->full;
  status = w->full ? DESCENT_OK : s->status;
  pthread_mutex_unlock(&s->mutex);
  if (status != DESCENT_OK) return status_set(status, "%s", s->error);
  if (!*found) return DESCENT_OK;
  s->order =
      permutation_create(s->seed, RNG_SHUFFLE, (uint64_t)s->epoch + ((uint64_t)s->taken << 32), (uint64_t)w->rows);
  s->taken++;
  s->row = s->skip < w->rows ? s->skip : w->rows;
  s->skip -= s->row;
  return DESCENT_OK;
}

static void release_window(struct file_source *s) {
  pthread_mutex_lock(&s->mutex);
  s->windows[s->given].full = false;
  s->given = 1 - s->given;
  pthread_cond_broadcast(&s->changed);
  pthread_mutex_unlock(&s->mutex);
  s->row = -1;
}

/* A child of fork() has no reader, nor can it tell what the reader was doing. */
static descent_status check_process(const struct file_source *s) {
  if (s->generation == process_generation()) return DESCENT_OK;
  return status_set(DESCENT_ERROR_READ, "%s: the source was opened before fork(): open one in the child instead",
                    s->path);
}

static int64_t file_next(void *user, float *X, float *y, float *weights, int64_t rows) {
  struct file_source *s = user;
  int64_t n = 0;
  const descent_status usable = check_process(s);
  if (usable != DESCENT_OK) return -(int64_t)usable;
  for (bool found = true; n < rows;) {
    if (s->row < 0) {
      const descent_status status = take_window(s, &found);
      if (status != DESCENT_OK) return n ? n : -(int64_t)status; /* the next call meets it again */
      if (!found) break;
    }
    const struct window *w = &s->windows[s->given];
    for (; n < rows && s->row < w->rows; n++, s->row++) {
      const int64_t r = s->shuffled ? (int64_t)permutation_index(&s->order, (uint64_t)s->row) : s->row;
      memcpy(X + n * s->inputs, w->X + r * s->inputs, (size_t)s->inputs * sizeof *X);
      memcpy(y + n * s->targets, w->y + r * s->targets, (size_t)s->targets * sizeof *y);
      weights[n] = w->weights[r];
    }
    if (s->row == w->rows) release_window(s);
  }
  return n;
}

/* Rows before `row` are read, since only the reader knows where a row begins, but not given. */
static int64_t file_rewind(void *user, int64_t epoch, uint64_t seed, int64_t row) {
  struct file_source *s = user;
  const descent_status usable = check_process(s);
  if (usable != DESCENT_OK) return -(int64_t)usable;
  stop_reader(s);
  s->seed = seed;
  s->epoch = epoch;
  s->taken = 0;
  s->skip = row;
  s->row = -1;
  const descent_status status = start_reader(s);
  return status == DESCENT_OK ? row : -(int64_t)status;
}

/* ---- opening ---------------------------------------------------------------------------------------------------- */

static descent_status check_use(const char *path, const descent_dataset_options *options, int64_t window) {
  descent_status status = DESCENT_OK;
  if (!options->network)
    TRY(status_set(DESCENT_ERROR_ARGUMENT,
                   "%s: a source needs options.network, whose columns it reads (fit its preprocessing to a sample)",
                   path));
  if (options->target_file || options->features_only || options->max_rows)
    TRY(status_set(DESCENT_ERROR_ARGUMENT, "%s: %s is not available for a source", path,
                   options->target_file     ? "target_file"
                   : options->features_only ? "features_only"
                                            : "max_rows"));
  if (window < 0)
    TRY(status_set(DESCENT_ERROR_ARGUMENT, "window %" PRId64 ": must be at least 1, or 0 for 32 MB", window));
done:
  return status;
}

/* An error now rather than in the first epoch. */
static descent_status check_file(const char *path, const char *format) {
  struct file_choice choice = {0};
  struct stream file;
  descent_status status;
  if (strcmp(path, "-") == 0)
    TRY(status_set(DESCENT_ERROR_ARGUMENT, "standard input: cannot be read anew in every epoch (save it as a file)"));
  TRY(format_choose(path, format, &choice));
  TRY(stream_require_file(choice.path, "which every epoch reads anew"));
  TRY(stream_open(choice.path, &file));
  stream_close(&file);
done:
  format_clear(&choice);
  return status;
}

static void free_source(struct file_source *s) {
  if (!s) return;
  const bool ours = s->generation == process_generation();
  if (ours) stop_reader(s);
  for (int i = 0; i < 2; i++) {
    free(s->windows[i].X);
    free(s->windows[i].y);
    free(s->windows[i].weights);
  }
  if (ours) { /* in a child of fork() destroying the condition would wait for the reader */
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->mutex);
  }
  free(s);
}

descent_status descent_source_open(const char *path, const descent_dataset_options *options, int64_t window,
                                   descent_source *source) {
  static const int64_t window_bytes = INT64_C(32) << 20;
  struct file_source *s = NULL;
  descent_dataset_options complete;
  descent_status status;
  TRY(argument_check(source, "source"));
  TRY(read_resolve_options(path, options, &complete));
  TRY(check_use(path, &complete, window));
  TRY(check_file(path, complete.format));
  s = memory_allocate(1, sizeof *s, "the source");
  if (!s) TRY(DESCENT_ERROR_MEMORY);
  pthread_mutex_init(&s->mutex, NULL);
  pthread_cond_init(&s->changed, NULL);
  const descent_network *network = complete.network;
  const int64_t classes = descent_network_classes(network);
  s->generation = process_generation();
  s->path = path;
  s->options = complete;
  s->inputs = descent_network_inputs(network);
  s->targets = classes ? 1 : descent_network_outputs(network);
  s->shuffled = window != 1;
  s->row = -1;
  const int64_t row_bytes = (s->inputs + s->targets + 1) * (int64_t)sizeof(float);
  s->window_rows = window > 1 ? window : row_bytes < window_bytes ? window_bytes / row_bytes : 1;
  *source = descent_source_default();
  source->inputs = s->inputs;
  source->targets = s->targets;
  source->classes = classes;
  source->task = descent_network_task(network);
  source->offsets_subtracted = true;
  source->next = file_next;
  source->rewind = file_rewind;
  source->user = s;
  s = NULL;
done:
  free_source(s);
  return status;
}

void descent_source_close(descent_source *source) {
  if (!source) return;
  if (source->next == file_next) free_source(source->user);
  *source = (descent_source){0};
}
