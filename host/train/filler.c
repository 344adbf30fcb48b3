/* The thread that calls a source. It fills a ring of blocks; a failure of the source waits behind the last block of whole
 * steps before it, so that it is met at the same step independently of timing. */
#include "train/filler.h"

#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/status.h"
#include "core/thread.h"
#include "data/dataset.h"
#include "train/extremes.h"

enum { BLOCKS = 3 }; /* one whose steps run, the one behind it, which shows where an epoch ends, and one being filled */

struct filler {
  const descent_source *source;
  const descent_network *network;
  uint64_t seed;
  int64_t epochs, batch, block_rows;
  pthread_t thread;
  bool running; /* `thread` is to be joined */

  /* of the thread */
  int64_t epoch, row; /* the source's next row */
  int64_t needed;     /* rows of the first epoch before this one are skipped */
  bool may_end;       /* before `needed` */

  struct filler_block blocks[BLOCKS];
  pthread_mutex_t mutex; /* guards what follows */
  pthread_cond_t changed;
  int present, full; /* the block whose steps run, and how many from there on are full */
  bool finished, stopping;
  descent_status status; /* of the source, once it has finished */
  char error[1024];
};

/* ---- the source's rows ------------------------------------------------------------------------------------------ */

static bool stopping(struct filler *f) {
  pthread_mutex_lock(&f->mutex);
  const bool stop = f->stopping;
  pthread_mutex_unlock(&f->mutex);
  return stop;
}

/* A failure of `next` or `rewind`, at the source's next row. This thread's error, if there is one, is of that call. */
static descent_status source_failed(const struct filler *f, const char *function, int64_t code) {
  char reason[1024];
  snprintf(reason, sizeof reason, "%s", descent_last_error());
  return status_set(DESCENT_ERROR_READ,
                    "the source: %s returned %" PRId64 " in epoch %" PRId64 " at row %" PRId64 "%s%s", function, code,
                    f->epoch, f->row, *reason ? ": " : "", reason);
}

static descent_status rewind_source(struct filler *f, int64_t row) {
  f->row = 0;
  if (!f->source->rewind) return DESCENT_OK;
  status_clear();
  const int64_t begins = f->source->rewind(f->source->user, f->epoch, f->seed, row);
  if (begins < 0) return source_failed(f, "rewind", begins);
  if (begins > row)
    return status_set(DESCENT_ERROR_READ,
                      "the source: rewind to row %" PRId64 " of epoch %" PRId64 " returned %" PRId64
                      ": must be at most the row asked for",
                      row, f->epoch, begins);
  f->row = begins;
  return DESCENT_OK;
}

/* The source's next rows behind the first `*rows` of the block, until it is full or the epoch ends: then `*end`. */
static descent_status next_rows(struct filler *f, const struct filler_block *block, int64_t most, int64_t *rows,
                                bool *end) {
  const descent_source *s = f->source;
  int64_t wanted = most - *rows;
  if (s->rows_per_epoch && s->rows_per_epoch - f->row < wanted) wanted = s->rows_per_epoch - f->row;
  *end = wanted == 0;
  if (*end) return DESCENT_OK;
  float *weights = block->weights + *rows;
  for (int64_t i = 0; i < wanted; i++) weights[i] = 1;
  status_clear();
  const int64_t got = s->next(s->user, block->X + *rows * s->inputs, block->y + *rows * s->targets, weights, wanted);
  if (got < 0) return source_failed(f, "next", got);
  if (got > wanted)
    return status_set(DESCENT_ERROR_READ, "the source: next returned %" PRId64 " rows for %" PRId64, got, wanted);
  *end = got == 0;
  *rows += got;
  f->row += got;
  if (*end && s->rows_per_epoch)
    return status_set(DESCENT_ERROR_DATA,
                      "the source: epoch %" PRId64 " ended after %" PRId64 " rows of rows_per_epoch %" PRId64, f->epoch,
                      f->row, s->rows_per_epoch);
  return DESCENT_OK;
}

/* Subtracts the network's offsets from rows as the caller has them. */
static void subtract_offsets(const struct filler *f, const struct filler_block *block, int64_t first, int64_t rows) {
  const struct schema *schema = &f->network->schema;
  const int64_t inputs = f->source->inputs, targets = f->source->targets;
  if (f->source->offsets_subtracted) return;
  for (int64_t i = first * inputs; schema->offsets && i < (first + rows) * inputs; i++)
    block->X[i] = (float)((double)block->X[i] - schema_offset(schema->offsets, schema->n_offsets, i % inputs));
  for (int64_t i = first * targets; schema->target_offsets && i < (first + rows) * targets; i++)
    block->y[i] =
        (float)((double)block->y[i] - schema_offset(schema->target_offsets, schema->n_target_offsets, i % targets));
}

/* What a dataset's rows are checked for, and that no input is too large once it is normalised. */
static descent_status check_rows(const struct filler *f, const struct filler_block *block, int64_t first,
                                 int64_t rows) {
  const descent_source *s = f->source;
  struct dataset_storage storage = {.X = block->X + first * s->inputs,
                                    .y = block->y + first * s->targets,
                                    .weights = block->weights + first,
                                    .rows = rows,
                                    .inputs = s->inputs,
                                    .targets = s->targets,
                                    .classes = s->task == DESCENT_TASK_REGRESSION ? 0 : s->classes,
                                    .before = block->first + first};
  const descent_dataset dataset = {.storage = &storage, .rows = rows};
  descent_status status;
  TRY(dataset_check_values(&storage));
  subtract_offsets(f, block, first, rows);
  TRY(extremes_check_inputs(f->network, &dataset, 0, rows));
  return DESCENT_OK;
done:
  return status_set(DESCENT_ERROR_DATA, "the source, epoch %" PRId64 ": %s", f->epoch, descent_last_error());
}

/* Reads rows that are not needed into the block. */
static descent_status skip_rows(struct filler *f, const struct filler_block *block, bool *end) {
  descent_status status = DESCENT_OK;
  *end = false;
  while (f->row < f->needed && !*end && !stopping(f)) {
    const int64_t left = f->needed - f->row;
    int64_t rows = 0;
    TRY(next_rows(f, block, left < f->block_rows ? left : f->block_rows, &rows, end));
  }
  if (*end && !(f->may_end && f->needed - f->row < f->batch))
    TRY(status_set(DESCENT_ERROR_DATA,
                   "the source: epoch %" PRId64 " ended after %" PRId64
                   " rows, but the training continues at row %" PRId64,
                   f->epoch, f->row, f->needed));
done:
  return status;
}

/* Fills the block. On failure it holds the whole steps before. Rows are checked a step at a time, so that how many `next`
 * returns at a time does not change which steps these are. */
static descent_status fill_block(struct filler *f, struct filler_block *block) {
  descent_status status = DESCENT_OK;
  int64_t checked = 0;
  bool end = false;
  block->epoch = f->epoch;
  block->rows = 0;
  if (f->row < f->needed) TRY(skip_rows(f, block, &end));
  block->first = f->row;
  while (!end && block->rows < f->block_rows && !stopping(f)) {
    TRY(next_rows(f, block, f->block_rows, &block->rows, &end));
    for (int64_t n; (n = block->rows - checked) > 0 && (n >= f->batch || end); checked += n) {
      if (n > f->batch) n = f->batch;
      TRY(check_rows(f, block, checked, n));
    }
  }
  block->last = end || f->row == f->source->rows_per_epoch;
done:
  if (status != DESCENT_OK) {
    block->rows = checked;
    block->last = false;
  }
  return status;
}

/* ---- the thread ------------------------------------------------------------------------------------------------- */

/* The next free block; NULL: stop. */
static struct filler_block *free_block(struct filler *f) {
  pthread_mutex_lock(&f->mutex);
  while (f->full == BLOCKS && !f->stopping) pthread_cond_wait(&f->changed, &f->mutex);
  struct filler_block *block = f->stopping ? NULL : &f->blocks[(f->present + f->full) % BLOCKS];
  pthread_mutex_unlock(&f->mutex);
  return block;
}

static void pass_block(struct filler *f) {
  pthread_mutex_lock(&f->mutex);
  f->full++;
  pthread_cond_broadcast(&f->changed);
  pthread_mutex_unlock(&f->mutex);
}

static descent_status fill_epoch(struct filler *f) {
  const struct filler_block *filled = NULL;
  descent_status status = DESCENT_OK;
  const bool may_end = f->may_end && f->needed > 0;
  TRY(rewind_source(f, may_end ? f->needed - f->batch + 1 : f->needed));
  do {
    struct filler_block *block = free_block(f);
    if (!block) return DESCENT_OK;
    status = fill_block(f, block);
    if (status == DESCENT_OK || block->rows) pass_block(f);
    filled = block;
    TRY(status);
  } while (!filled->last && !stopping(f));
done:
  return status;
}

static void *fill_epochs(void *argument) {
  struct filler *f = argument;
  descent_status status = DESCENT_OK;
  while (f->epoch <= f->epochs && status == DESCENT_OK && !stopping(f)) {
    status = fill_epoch(f);
    f->epoch++;
    f->needed = 0;
  }
  pthread_mutex_lock(&f->mutex);
  f->status = status;
  if (status != DESCENT_OK) snprintf(f->error, sizeof f->error, "%s", descent_last_error());
  f->finished = true;
  pthread_cond_broadcast(&f->changed);
  pthread_mutex_unlock(&f->mutex);
  return NULL;
}

static void stop_thread(struct filler *f) {
  if (!f->running) return;
  pthread_mutex_lock(&f->mutex);
  f->stopping = true;
  pthread_cond_broadcast(&f->changed);
  pthread_mutex_unlock(&f->mutex);
  pthread_join(f->thread, NULL);
  f->running = false;
}

/* ---- the training's side ---------------------------------------------------------------------------------------- */

/* Rows of a block: whole steps of 8 MB together, one at least. */
static int64_t choose_block_rows(const descent_source *s, int64_t batch) {
  static const int64_t bytes = INT64_C(8) << 20, most_steps = 256;
  const double step_bytes = (double)batch * (double)(s->inputs + s->targets + 1) * sizeof(float);
  double steps = floor((double)bytes / step_bytes);
  if (steps > (double)most_steps) steps = (double)most_steps;
  if (s->rows_per_epoch) steps = fmin(steps, (double)((s->rows_per_epoch - 1) / batch + 1));
  return (steps < 1 ? 1 : (int64_t)steps) * batch;
}

static descent_status allocate_block(const descent_source *s, int64_t rows, struct filler_block *block) {
  int64_t values, targets;
  if (!size_product(rows, s->inputs, &values) || !size_product(rows, s->targets, &targets))
    return status_set(DESCENT_ERROR_ARGUMENT, "a step of %" PRId64 " rows: too many", rows);
  block->X = memory_allocate(values, sizeof *block->X, "a block of rows");
  block->y = memory_allocate(targets, sizeof *block->y, "a block of rows");
  block->weights = memory_allocate(rows, sizeof *block->weights, "a block of rows");
  return block->X && block->y && block->weights ? DESCENT_OK : DESCENT_ERROR_MEMORY;
}

descent_status filler_create(const descent_source *source, const descent_network *network, uint64_t seed,
                             int64_t epochs, int64_t batch, struct filler **filler) {
  pthread_condattr_t monotonic;
  descent_status status = DESCENT_OK;
  struct filler *f = memory_allocate(1, sizeof *f, "the thread that reads the source");
  if (!f) return DESCENT_ERROR_MEMORY;
  pthread_mutex_init(&f->mutex, NULL);
  pthread_condattr_init(&monotonic);
  pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
  pthread_cond_init(&f->changed, &monotonic);
  pthread_condattr_destroy(&monotonic);
  f->source = source;
  f->network = network;
  f->seed = seed;
  f->epochs = epochs;
  f->batch = batch;
  f->block_rows = choose_block_rows(source, batch);
  for (int i = 0; i < BLOCKS; i++) TRY(allocate_block(source, f->block_rows, &f->blocks[i]));
  *filler = f;
  f = NULL;
done:
  filler_free(f);
  return status;
}

descent_status filler_seek(struct filler *f, int64_t epoch, int64_t done, bool may_end) {
  stop_thread(f);
  f->epoch = epoch;
  f->needed = done * f->batch;
  f->may_end = may_end;
  f->present = f->full = 0;
  f->finished = f->stopping = false;
  const int failed = thread_create(&f->thread, fill_epochs, f);
  if (failed)
    return status_set(DESCENT_ERROR_MEMORY, "out of memory: cannot start a thread to read the source: %s",
                      strerror(failed));
  f->running = true;
  return DESCENT_OK;
}

descent_status filler_wait(struct filler *f, int ahead, bool (*stop)(void *user), void *user,
                           const struct filler_block **block) {
  static const long between = 100 * 1000 * 1000; /* nanoseconds between two calls of stop */
  struct timespec until;
  descent_status status = DESCENT_OK;
  *block = NULL;
  pthread_mutex_lock(&f->mutex);
  while (f->full <= ahead && !f->finished) {
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += between;
    if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
    if (pthread_cond_timedwait(&f->changed, &f->mutex, &until) == 0) continue;
    pthread_mutex_unlock(&f->mutex);
    if (stop(user)) return DESCENT_OK;
    pthread_mutex_lock(&f->mutex);
  }
  if (f->full > ahead)
    *block = &f->blocks[(f->present + ahead) % BLOCKS];
  else
    status = f->status;
  pthread_mutex_unlock(&f->mutex);
  return status == DESCENT_OK ? DESCENT_OK : status_set(status, "%s", f->error);
}

void filler_release(struct filler *f) {
  pthread_mutex_lock(&f->mutex);
  f->present = (f->present + 1) % BLOCKS;
  f->full--;
  pthread_cond_broadcast(&f->changed);
  pthread_mutex_unlock(&f->mutex);
}

void filler_free(struct filler *f) {
  if (!f) return;
  stop_thread(f);
  for (int i = 0; i < BLOCKS; i++) {
    free(f->blocks[i].X);
    free(f->blocks[i].y);
    free(f->blocks[i].weights);
  }
  pthread_cond_destroy(&f->changed);
  pthread_mutex_destroy(&f->mutex);
  free(f);
}
