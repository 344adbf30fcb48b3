#include "train/feed.h"

#include <inttypes.h>

#include "core/memory.h"
#include "core/options.h"
#include "core/status.h"
#include "train/check.h"
#include "train/extremes.h"
#include "train/filler.h"
#include "train/ranks.h"

/* ---- set-up ----------------------------------------------------------------------------------------------------- */

/* An epoch of so many rows. */
static void set_rows(struct fit *f, int64_t rows) {
  f->rows = rows;
  f->epoch_steps = (rows - 1) / f->batch + 1;
  /* The last full batch; the statistics of a smaller one would vary more from epoch to epoch. */
  f->statistics_step = f->epoch_steps - 1;
  if (f->statistics_step > 0 && rows % f->batch) f->statistics_step--;
}

static descent_status count_steps(struct fit *f, int64_t rows) {
  const descent_train_options *o = &f->options;
  f->batch = o->batch_size && o->batch_size < rows ? o->batch_size : rows;
  int64_t total_steps;
  set_rows(f, rows);
  if (!size_product(f->epoch_steps, o->epochs, &total_steps) || total_steps >= INT64_C(1) << 48)
    return status_set(DESCENT_ERROR_ARGUMENT, "epochs %lld of %lld steps: must be fewer than 2^48 steps in total",
                      (long long)o->epochs, (long long)f->epoch_steps);
  return DESCENT_OK;
}

static descent_status check_total_weight(const descent_dataset *dataset) {
  const float *weights = dataset->storage->weights;
  if (!weights) return DESCENT_OK;
  for (int64_t r = 0; r < dataset->rows; r++)
    if (weights[dataset_source_row(dataset, r)] > 0) return DESCENT_OK;
  return status_set(DESCENT_ERROR_ARGUMENT, "the training data: all %lld weights are 0", (long long)dataset->rows);
}

static descent_status check_training(struct fit *f, const descent_network *network) {
  int64_t first, count;
  descent_status status;
  TRY(check_dataset(network, f->training, true, "the training data"));
  TRY(dataset_align(f->training, &network->schema, &f->aligned[0]));
  if (f->aligned[0]) f->training = f->aligned[0];
  ranks_share(f, f->training->rows, &first, &count);
  if (extremes_check_inputs(network, f->training, first, count) != DESCENT_OK)
    TRY(status_set(DESCENT_ERROR_DATA, "the training data: %s", descent_last_error()));
  TRY(check_total_weight(f->training));
  TRY(count_steps(f, f->training->rows));
done:
  return status;
}

/* What a source can not do for want of `rewind`, or of the number of rows. */
static descent_status check_ability(const descent_source *s, const descent_train_options *o) {
  static const char once[] = "needs a source with rewind", known[] = "needs the source's rows_per_epoch";
  const struct {
    bool asked;
    const char *option, *problem;
  } rows[] = {
      {o->balance_classes, "balance_classes",
       "cannot be used with a source, whose classes are not counted "
       "(use class_weights)"},
      {!s->rewind && o->epochs > 1, "epochs above 1", once},
      {!s->rewind && o->checkpoint.resume, "resume", once},
      {!s->rewind && o->checkpoint.rollbacks, "rollbacks", once},
      {!s->rows_per_epoch && !o->batch_size, "batch_size 0", known},
      {!s->rows_per_epoch && o->schedule.kind == DESCENT_SCHEDULE_COSINE, "schedule cosine", known},
      {!s->rows_per_epoch && o->schedule.kind == DESCENT_SCHEDULE_POLYNOMIAL, "schedule polynomial", known},
      {!s->rows_per_epoch && o->schedule.warmup_epochs > 0, "warmup_epochs", known},
      {!s->rows_per_epoch && o->checkpoint.keep_every_epochs, "keep_every_epochs", known},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    if (rows[i].asked) return status_set(DESCENT_ERROR_ARGUMENT, "%s: %s", rows[i].option, rows[i].problem);
  return DESCENT_OK;
}

static descent_status check_source(struct fit *f, const descent_network *network) {
  const descent_source *s = f->source;
  const bool regression = s->task == DESCENT_TASK_REGRESSION;
  const float y = 0; /* that there are targets */
  struct dataset_storage shape = {
      .y = &y, .inputs = s->inputs, .targets = s->targets, .classes = regression ? 0 : s->classes, .task = s->task};
  descent_status status;
  if (!s->next) TRY(status_set(DESCENT_ERROR_ARGUMENT, "the source: next is NULL"));
  if (options_ranks(&f->options) > 1)
    TRY(status_set(DESCENT_ERROR_ARGUMENT,
                   "ranks %d: not available with a source, which each rank would read; use a dataset, or one rank",
                   options_ranks(&f->options)));
  if (s->task != DESCENT_TASK_BINARY && s->task != DESCENT_TASK_CLASSES && !regression)
    TRY(status_set(DESCENT_ERROR_ARGUMENT, "the source: task %d: must be binary, classes or regression", (int)s->task));
  if (!regression && (s->targets != 1 || s->classes < 2))
    TRY(status_set(DESCENT_ERROR_ARGUMENT,
                   "the source: targets %" PRId64 ", classes %" PRId64 ": must be 1 and at least 2", s->targets,
                   s->classes));
  if (s->rows_per_epoch < 0)
    TRY(status_set(DESCENT_ERROR_ARGUMENT, "the source: rows_per_epoch %" PRId64 ": must be at least 1, or 0: unknown",
                   s->rows_per_epoch));
  TRY(check_dataset(network, &(descent_dataset){.storage = &shape}, true, "the source"));
  TRY(check_ability(s, &f->options));
  if (s->rows_per_epoch)
    TRY(count_steps(f, s->rows_per_epoch));
  else
    f->batch = f->options.batch_size; /* epoch_steps 0: not known yet */
done:
  return status;
}

descent_status feed_check(struct fit *f, const descent_network *network) {
  return f->source ? check_source(f, network) : check_training(f, network);
}

descent_status feed_open(struct fit *f) {
  f->trainer->data = f->training;
  if (!f->source) return DESCENT_OK;
  return filler_create(f->source, f->trainer->network, options_shuffle_seed(&f->options), f->options.epochs, f->batch,
                       &f->filler);
}

/* ---- an epoch --------------------------------------------------------------------------------------------------- */

static bool epoch_is_done(const struct fit *f) { return f->epoch_steps && f->at.done >= f->epoch_steps; }

/* Says whether the training reads its dataset in random order, once for each change. */
static void expect_shuffled(struct fit *f, bool shuffles) {
  if (!f->training || f->shuffles == shuffles) return;
  dataset_expect_shuffled(f->training, shuffles);
  f->shuffles = shuffles;
}

static descent_status begin_dataset(struct fit *f) {
  f->order =
      permutation_create(options_shuffle_seed(&f->options), RNG_SHUFFLE, (uint64_t)f->at.epoch, (uint64_t)f->rows);
  f->feed = (struct feed){.rows = f->rows,
                          .order = f->epoch_steps > 1 ? &f->order : NULL,
                          .y = f->training->storage->y,
                          .weights = f->training->storage->weights};
  expect_shuffled(f, true);
  return program_bind(&f->trainer->program, f->training);
}

/* Notes which step the filler has next. */
static void note_position(struct fit *f) {
  f->fed_epoch = f->at.epoch + epoch_is_done(f);
  f->fed_steps = epoch_is_done(f) ? 0 : f->at.done;
}

static descent_status begin_source(struct fit *f) {
  const bool counted = f->source->rows_per_epoch > 0;
  descent_status status;
  f->bound = false;
  if (!counted) f->statistics_step = INT64_MAX; /* until the end is in sight */
  TRY(program_unbind_index(&f->trainer->program));
  if (epoch_is_done(f) || (f->fed_epoch == f->at.epoch && f->fed_steps == f->at.done)) goto done;
  TRY(filler_seek(f->filler, f->at.epoch, f->at.done, !counted));
  note_position(f);
done:
  return status;
}

descent_status feed_begin_epoch(struct fit *f) { return f->source ? begin_source(f) : begin_dataset(f); }

/* The block is the last of its epoch, or the last but one and `rows` include the last. */
static descent_status end_epoch(struct fit *f, int64_t rows) {
  const int64_t before = f->epoch_steps, steps = rows ? (rows - 1) / f->batch + 1 : 0;
  if (steps == 0) return status_set(DESCENT_ERROR_DATA, "the source: no rows in epoch %" PRId64, f->at.epoch);
  if (before && steps != before)
    return status_set(DESCENT_ERROR_DATA,
                      "the source: epoch %" PRId64 " has %" PRId64 " steps, and those before %" PRId64
                      ": each must have the same number",
                      f->at.epoch, steps, before);
  set_rows(f, rows);
  return DESCENT_OK;
}

static descent_status bind_block(struct fit *f, const struct filler_block *block) {
  if (f->bound) return DESCENT_OK;
  f->feed = (struct feed){.first = block->first, .rows = block->rows, .y = block->y, .weights = block->weights};
  f->trainer->first_row = block->first;
  f->bound = true;
  return block->rows ? program_bind_rows(&f->trainer->program, block->X, block->y, block->weights, block->rows)
                     : DESCENT_OK;
}

/* The present block, of this epoch; NULL: stop. */
static descent_status present_block(struct fit *f, bool (*stop)(void *user), void *user,
                                    const struct filler_block **block) {
  descent_status status;
  for (;;) {
    TRY(filler_wait(f->filler, 0, stop, user, block));
    if (!*block || (*block)->epoch == f->at.epoch) goto done;
    filler_release(f->filler); /* the empty end of the epoch before */
  }
done:
  return status;
}

static int64_t end_step(const struct fit *f, const struct filler_block *block) {
  return (block->first + block->rows + f->batch - 1) / f->batch;
}

/* Steps of the block that may run. Without rows_per_epoch its last step waits for the block behind it, which shows
 * whether it is the step with statistics; then `*steps` may be 0 for a stop. */
static descent_status count_ready(struct fit *f, const struct filler_block *block, bool (*stop)(void *user), void *user,
                                  int64_t *steps) {
  const struct filler_block *behind = NULL;
  const int64_t left = end_step(f, block) - f->at.done;
  descent_status status = DESCENT_OK;
  *steps = 0;
  if (block->last || f->source->rows_per_epoch) {
    if (block->last) TRY(end_epoch(f, block->first + block->rows));
    *steps = left;
    goto done;
  }
  if (left == 1) {
    TRY(filler_wait(f->filler, 1, stop, user, &behind));
    if (!behind) goto done;
    if (behind->last) TRY(end_epoch(f, behind->first + behind->rows));
  }
  if (f->epoch_steps && end_step(f, block) > f->epoch_steps - (behind && !behind->last))
    TRY(status_set(DESCENT_ERROR_DATA,
                   "the source: epoch %" PRId64 " has more than the %" PRId64 " steps of those before: each must have "
                   "the same number",
                   f->at.epoch, f->epoch_steps));
  *steps = left == 1 ? 1 : left - 1;
done:
  return status;
}

descent_status feed_steps(struct fit *f, bool (*stop)(void *user), void *user, int64_t *steps) {
  const struct filler_block *block;
  descent_status status = DESCENT_OK;
  *steps = 0;
  if (epoch_is_done(f)) return DESCENT_OK;
  if (!f->source) {
    *steps = f->epoch_steps - f->at.done;
    return DESCENT_OK;
  }
  f->source_failed = true;
  TRY(present_block(f, stop, user, &block));
  f->source_failed = false;
  if (!block) goto done;
  TRY(bind_block(f, block));
  f->source_failed = true;
  TRY(count_ready(f, block, stop, user, steps));
  f->source_failed = false;
  note_position(f);
done:
  return status;
}

void feed_taken(struct fit *f) {
  if (!f->source) return;
  note_position(f);
  if (f->at.done * f->batch < f->feed.first + f->feed.rows) return;
  filler_release(f->filler);
  f->bound = false;
}

void feed_end_epoch(struct fit *f) { expect_shuffled(f, false); }

descent_status feed_check_unchanged(const struct fit *f) {
  return f->training ? dataset_check_unchanged(f->training) : DESCENT_OK;
}

void feed_close(struct fit *f) { filler_free(f->filler); }
