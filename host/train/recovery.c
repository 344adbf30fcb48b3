/* Writes, resumes from and rolls back to checkpoints during a training. With several ranks, rank 0 has the folder: it
 * reads and writes, and the others have its snapshot and its errors. */
#include "train/recovery.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/writer.h"
#include "core/clock.h"
#include "core/memory.h"
#include "core/status.h"
#include "train/feed.h"
#include "train/ranks.h"

struct recovery {
  struct checkpoint_folder folder; /* zeroed: no checkpoints are written */
  struct checkpoint_retention retention;
  struct configuration configuration;
  struct snapshot snapshot;
  struct checkpoint_writer *writer; /* rank 0's */
  int64_t saved_epoch, saved_done;  /* position of the last checkpoint, as in fit_state; epoch 0: none */
  double saved_at;                  /* clock_seconds() of it */
  int64_t failures;                 /* checkpoints that could not be written */
  bool passed_over;                 /* a newer checkpoint than the one in use was damaged */
  bool resumes;                     /* the training starts from the snapshot */
  bool same;                        /* it writes to the folder from which it resumes */
  char *path;                       /* of the checkpoint to resume from, or NULL */
};

static void report(const struct fit *f, descent_checkpoint_event event, const char *path, int64_t step,
                   const char *message) {
  if (!f->options.callbacks.on_checkpoint || !ranks_leads(f)) return;
  const descent_checkpoint_info info = {
      .event = event,
      .path = path,
      .step = step,
      .epochs = step == fit_steps(f) || !f->epoch_steps ? f->at.epoch - 1 : step / f->epoch_steps,
      .rate_factor = f->at.rate_factor,
      .message = message,
  };
  f->options.callbacks.on_checkpoint(f->options.callbacks.user, &info);
}

static void report_unlocked(const struct fit *f) {
  const char *folder = f->recovery->folder.path;
  char message[1024];
  snprintf(message, sizeof message,
           "%.800s: this file system has no locks; make sure that no other training uses this folder", folder);
  report(f, DESCENT_CHECKPOINT_UNLOCKED, folder, fit_steps(f), message);
}

/* Does this training write checkpoints? The same on all ranks. */
static bool writes(const struct fit *f) { return f->recovery && f->options.checkpoint.folder; }

/* On all ranks the outcome of rank 0. */
static descent_status agree(const struct fit *f, descent_status own) {
  return communicator_agree(f->options.ranks.communicator, own);
}

/* Records that a checkpoint exists, or is being written, at the present position. */
static void note_saved(struct fit *f) {
  struct recovery *r = f->recovery;
  r->saved_epoch = f->at.epoch;
  r->saved_done = f->at.done;
  r->saved_at = clock_seconds();
}

static bool saved_here(const struct fit *f) {
  return f->recovery->saved_epoch == f->at.epoch && f->recovery->saved_done == f->at.done;
}

/* ---- saving ----------------------------------------------------------------------------------------------------- */

/* ERROR_WRITE if the training has lost its folder; other failures are reported, and the training continues. */
static descent_status take_outcome(struct fit *f, bool wait) {
  struct recovery *r = f->recovery;
  struct checkpoint_outcome outcome;
  if (!checkpoint_writer_outcome(r->writer, wait, &outcome)) return DESCENT_OK;
  if (outcome.status != DESCENT_OK) {
    r->failures++;
    r->saved_epoch = 0;
  }
  if (outcome.lost) return status_set(outcome.status, "%s", outcome.message);
  report(f, outcome.status == DESCENT_OK ? DESCENT_CHECKPOINT_SAVED : DESCENT_CHECKPOINT_FAILED, outcome.path,
         outcome.step, outcome.message);
  return DESCENT_OK;
}

/* The step whose checkpoint is that of the best epoch, which is written when the epoch ends; -1: none. */
static int64_t best_step(const struct fit *f) {
  return f->options.checkpoint.keep_best && f->at.best_epoch ? f->at.best_epoch * f->epoch_steps : -1;
}

/* Waits for the writer, then fills the snapshot. `*usable` false: the weights are not finite. */
static descent_status take_snapshot(struct fit *f, bool already_rolled_back, bool *usable) {
  struct recovery *r = f->recovery;
  struct snapshot *s = &r->snapshot;
  const descent_network *network = f->trainer->network;
  descent_status status;
  TRY(feed_check_unchanged(f));
  TRY(take_outcome(f, true));
  s->state = f->at;
  s->state.seconds += clock_seconds() - f->started;
  s->state.tried = already_rolled_back;
  s->step = fit_steps(f);
  s->best_step = best_step(f);
  memcpy(s->statistics, f->statistics, (size_t)s->n_statistics * sizeof *s->statistics);
  s->has_best = f->keep_best && f->at.best_epoch > 0;
  if (s->has_best) memcpy(s->best, network->parameters, (size_t)s->n_parameters * sizeof *s->best);
  TRY(snapshot_take(&f->trainer->program, s, usable));
  /* Between epochs the device's totals can be those of the validation, and right after a restore they are not yet those
   * of the snapshot. */
  if (f->at.done == 0 || f->at.done == f->epoch_steps || saved_here(f)) {
    s->state.total_loss = f->at.total_loss;
    s->state.total_weight = f->at.total_weight;
  }
done:
  return status;
}

/* Starts to write a checkpoint of the present state; `already_rolled_back`: the training has just returned to it. If
 * the weights are not finite, `*usable` is false and nothing is written; the next step, if there is one, diverges. */
static descent_status save(struct fit *f, bool already_rolled_back, bool *usable) {
  descent_status status;
  TRY(take_snapshot(f, already_rolled_back, usable));
  note_saved(f);
  if (*usable) checkpoint_writer_write(f->recovery->writer);
done:
  return status;
}

/* Writes a checkpoint and waits for it; a failure to write is an error of the training. */
static descent_status save_now(struct fit *f) {
  struct checkpoint_outcome outcome;
  bool usable;
  descent_status status;
  TRY(save(f, false, &usable));
  if (!checkpoint_writer_outcome(f->recovery->writer, true, &outcome)) goto done;
  if (outcome.status != DESCENT_OK) TRY(status_set(outcome.status, "%s", outcome.message));
  report(f, DESCENT_CHECKPOINT_SAVED, outcome.path, outcome.step, "");
done:
  return status;
}

static bool is_due(const struct fit *f) {
  const descent_train_options *o = &f->options;
  if (checkpoint_lasts(&f->recovery->retention, fit_steps(f))) return true;
  if (f->at.done == 0 && best_step(f) == fit_steps(f)) return true;
  if (o->checkpoint.steps && fit_steps(f) % o->checkpoint.steps == 0) return true;
  if (o->checkpoint.epochs && f->at.done == 0 && (f->at.epoch - 1) % o->checkpoint.epochs == 0) return true;
  return o->checkpoint.seconds > 0 && clock_seconds() - f->recovery->saved_at >= o->checkpoint.seconds;
}

int64_t recovery_limit(const struct fit *f, int64_t count) {
  if (!writes(f)) return count;
  const int64_t intervals[] = {f->options.checkpoint.steps, f->options.checkpoint.keep_every_steps};
  for (size_t i = 0; i < sizeof intervals / sizeof *intervals; i++) {
    const int64_t left = intervals[i] ? intervals[i] - fit_steps(f) % intervals[i] : count;
    if (left < count) count = left;
  }
  return count;
}

static descent_status save_if_due(struct fit *f, bool requested) {
  bool usable;
  const descent_status status = take_outcome(f, false);
  return status == DESCENT_OK && (requested || is_due(f)) && !saved_here(f) ? save(f, false, &usable) : status;
}

descent_status recovery_pause(struct fit *f, bool requested) {
  if (!writes(f)) return DESCENT_OK;
  return agree(f, ranks_leads(f) ? save_if_due(f, requested) : DESCENT_OK);
}

static descent_status save_last(struct fit *f) {
  bool usable = true;
  descent_status status;
  TRY(take_outcome(f, true));
  if (!saved_here(f)) TRY(save(f, false, &usable));
  TRY(take_outcome(f, true));
  if (usable) goto done;
  f->recovery->failures++;
  report(f, DESCENT_CHECKPOINT_FAILED, f->options.checkpoint.folder, fit_steps(f),
         "the last checkpoint was not written: the weights are not finite");
done:
  return status;
}

descent_status recovery_finish(struct fit *f) {
  if (!writes(f)) return DESCENT_OK;
  descent_status status;
  TRY(agree(f, ranks_leads(f) ? save_last(f) : DESCENT_OK));
  TRY(communicator_broadcast(f->options.ranks.communicator, &f->recovery->failures, sizeof f->recovery->failures));
done:
  return status;
}

/* ---- resuming --------------------------------------------------------------------------------------------------- */

/* Steps of an epoch: known, or as many as each of the snapshot's epochs had. 0 within a first epoch of unknown length. */
static int64_t steps_of_epoch(const struct fit *f) {
  const struct snapshot *s = &f->recovery->snapshot;
  return f->epoch_steps || s->state.epoch <= 1 ? f->epoch_steps : (s->step - s->state.done) / (s->state.epoch - 1);
}

static descent_status check_state(const struct fit *f, const char *path) {
  const struct snapshot *s = &f->recovery->snapshot;
  const struct fit_state *at = &s->state;
  const int64_t epoch_steps = steps_of_epoch(f);
  int64_t before;
  const bool valid = at->epoch >= 1 && at->done >= 0 && (epoch_steps == 0 ? at->epoch == 1 : at->done <= epoch_steps) &&
                     size_product(at->epoch - 1, epoch_steps, &before) && s->step - before == at->done &&
                     at->rate_factor > 0 && at->rate_factor <= 1 && at->plateau_rate > 0 && isfinite(at->plateau_rate);
  return valid ? DESCENT_OK : status_set(DESCENT_ERROR_MODEL, "%s: checkpoint: inconsistent training state", path);
}

/* Resets the parts of the restored state that the allowed changes to the configuration invalidate. */
static void reset_changed(struct fit *f) {
  const struct snapshot *s = &f->recovery->snapshot;
  if (s->new_rate) { /* a new learning rate replaces the reduced one */
    f->at.plateau_rate = f->options.optimizer.learning_rate;
    f->at.rate_factor = 1;
    f->at.rollbacks = 0;
  }
  if (s->new_validation) f->at.bad_epochs = f->at.plateau_bad_epochs = 0;
  /* Losses on other data are not comparable, and a best epoch is useless without its parameters. */
  if (s->new_validation || (f->keep_best && !s->has_best)) {
    f->at.best_loss = INFINITY;
    f->at.best_epoch = 0;
  }
}

static descent_status restore(struct fit *f) {
  const struct snapshot *s = &f->recovery->snapshot;
  descent_network *network = f->trainer->network;
  descent_status status;
  TRY(snapshot_restore(&f->trainer->program, s));
  memcpy(network->parameters, s->has_best ? s->best : s->parameters,
         (size_t)s->n_parameters * sizeof *network->parameters);
  memcpy(f->statistics, s->statistics, (size_t)s->n_statistics * sizeof *f->statistics);
  f->at = s->state;
  f->epoch_steps = steps_of_epoch(f);
  f->started = clock_seconds();
  f->trainer->steps = s->step;
  f->kept_step = s->has_best ? f->at.best_epoch * f->epoch_steps : s->step;
  note_saved(f);
done:
  return status;
}

/* Reads the newest intact checkpoint of the folder into the snapshot; `*found` is false if the folder has no
 * checkpoints. Damaged ones are reported and skipped. With `skip_rolled_back`, a checkpoint to which the training has
 * already returned once is skipped too, unless it is the oldest. The caller frees `*path`. ERROR_MODEL if all are
 * damaged. */
static descent_status read_newest(struct fit *f, const char *folder, bool skip_rolled_back, bool *found, char **path) {
  struct recovery *r = f->recovery;
  int64_t *steps = NULL, n = 0;
  descent_status status;
  *found = false;
  *path = NULL;
  TRY(checkpoint_folder_list(folder, &steps, &n));
  for (int64_t i = n; i-- > 0;) {
    free(*path);
    TRY(checkpoint_folder_file(folder, steps[i], path));
    status =
        checkpoint_read(*path, f->trainer->network, &r->configuration, f->options.checkpoint.resume_with, &r->snapshot);
    if (status == DESCENT_OK) status = check_state(f, *path);
    if (status != DESCENT_OK && status != DESCENT_ERROR_MODEL && status != DESCENT_ERROR_READ) goto done;
    if (status == DESCENT_OK && skip_rolled_back && i > 0 && r->snapshot.state.tried) continue;
    *found = status == DESCENT_OK;
    if (*found) break;
    r->passed_over = true;
    report(f, DESCENT_CHECKPOINT_DAMAGED, *path, steps[i], descent_last_error());
  }
  status = DESCENT_OK;
  if (n && !*found)
    status = status_set(DESCENT_ERROR_MODEL,
                        "%s: none of the %lld checkpoints can be read; move them away to start at the first step",
                        folder, (long long)n);
done:
  free(steps);
  return status;
}

static descent_status refuse_used_folder(const char *folder) {
  int64_t *steps, n;
  const descent_status status = checkpoint_folder_list(folder, &steps, &n);
  if (status != DESCENT_OK) return status;
  const int64_t newest = n ? steps[n - 1] : 0;
  free(steps);
  if (!n) return DESCENT_OK;
  return status_set(DESCENT_ERROR_ARGUMENT,
                    "checkpoint '%s': contains checkpoints of another training (newest: step %lld); resume it, or use "
                    "another folder",
                    folder, (long long)newest);
}

/* "" if the bits of this training's results are those of the one that wrote the checkpoint. */
static void describe_arithmetic(const struct fit *f, const char *path, char *text, size_t size) {
  const char *was = f->recovery->snapshot.other_arithmetic;
  *text = '\0';
  if (*was)
    snprintf(text, size,
             "%.400s: the arithmetic was %s and is %s: results will differ in their last bits from those of an "
             "uninterrupted training",
             path, was, f->trainer->program.arithmetic);
}

/* Takes the state of the snapshot of rank 0, if that was `*found` there. */
static descent_status take_over(struct fit *f, bool *found) {
  struct descent_communicator *communicator = f->options.ranks.communicator;
  descent_status status;
  TRY(communicator_broadcast(communicator, found, sizeof *found));
  if (!*found) goto done;
  if (communicator_size(communicator) > 1) TRY(ranks_share_snapshot(f, &f->recovery->snapshot));
  TRY(agree(f, restore(f)));
  reset_changed(f);
done:
  return status;
}

static void report_resumed(const struct fit *f, const char *path) {
  char message[768];
  describe_arithmetic(f, path, message, sizeof message);
  report(f, DESCENT_CHECKPOINT_RESUMED, path, fit_steps(f), message);
}

static descent_status open_folder(struct fit *f) {
  const descent_train_options *o = &f->options;
  struct recovery *r = f->recovery;
  int64_t epochs = 0;
  if (o->checkpoint.keep_every_epochs && !size_product(o->checkpoint.keep_every_epochs, f->epoch_steps, &epochs))
    epochs = INT64_MAX; /* no training gets there */
  r->retention = (struct checkpoint_retention){o->checkpoint.keep, {o->checkpoint.keep_every_steps, epochs}};
  return checkpoint_folder_open(o->checkpoint.folder, &r->folder);
}

static descent_status create(struct fit *f) {
  struct recovery *r = f->recovery = memory_allocate(1, sizeof *r, "the checkpoints of a training");
  const descent_network *network = f->trainer->network;
  const struct program *program = &f->trainer->program;
  descent_status status;
  if (!r) return DESCENT_ERROR_MEMORY;
  TRY(configuration_create(network, program->backend->name, program->arithmetic, f->training, f->source, f->validation,
                           &f->options, &r->configuration));
  TRY(snapshot_create(network, program, f->keep_best, &r->snapshot));
done:
  return status;
}

/* Opens the folder and reads the checkpoint to resume from. */
static descent_status find_start(struct fit *f) {
  const descent_train_options *o = &f->options;
  struct recovery *r = f->recovery;
  descent_status status = DESCENT_OK;
  if (o->checkpoint.folder) TRY(open_folder(f));
  if (o->checkpoint.folder && o->checkpoint.resume)
    TRY(checkpoint_folder_same(o->checkpoint.folder, o->checkpoint.resume, &r->same));
  if (o->checkpoint.folder && !r->same) TRY(refuse_used_folder(o->checkpoint.folder));
  if (o->checkpoint.resume) TRY(read_newest(f, o->checkpoint.resume, false, &r->resumes, &r->path));
done:
  return status;
}

static descent_status start_writing(struct fit *f, bool resumed, bool same) {
  struct recovery *r = f->recovery;
  descent_status status;
  /* A kill between writing one and removing an older one leaves one too many, and beside a new best one the best before.
   * More were kept by an earlier command, and stay until the next is written. */
  if (resumed && same && !r->passed_over)
    checkpoint_folder_prune(&r->folder, &r->retention, best_step(f), 1 + f->options.checkpoint.keep_best);
  TRY(checkpoint_writer_start(&r->folder, &r->retention, same ? fit_steps(f) : 0, f->trainer->network,
                              &r->configuration, &r->snapshot, &r->writer));
  if (!resumed || !same) TRY(save_now(f));
done:
  return status;
}

descent_status recovery_open(struct fit *f) {
  const descent_train_options *o = &f->options;
  descent_status status = DESCENT_OK;
  if (!o->checkpoint.folder && !o->checkpoint.resume) return DESCENT_OK;
  status = create(f);
  if (status == DESCENT_OK && ranks_leads(f)) status = find_start(f);
  return agree(f, status);
}

descent_status recovery_start(struct fit *f) {
  const descent_train_options *o = &f->options;
  struct recovery *r = f->recovery;
  descent_status status = DESCENT_OK;
  if (!r) return DESCENT_OK;
  TRY(take_over(f, &r->resumes));
  if (r->resumes) report_resumed(f, r->path);
  if (o->checkpoint.folder) TRY(agree(f, ranks_leads(f) ? start_writing(f, r->resumes, r->same) : DESCENT_OK));
  if (!r->resumes) report(f, DESCENT_CHECKPOINT_STARTED, o->checkpoint.folder ? o->checkpoint.folder : "", 0, "");
  if (r->folder.unlocked) report_unlocked(f);
done:
  return status;
}

void recovery_close(struct fit *f, int64_t *failures) {
  struct recovery *r = f->recovery;
  *failures = 0;
  if (!r) return;
  if (r->writer) (void)take_outcome(f, true);
  checkpoint_writer_stop(r->writer);
  checkpoint_folder_close(&r->folder);
  configuration_clear(&r->configuration);
  snapshot_clear(&r->snapshot);
  *failures = r->failures;
  free(r->path);
  free(r);
  f->recovery = NULL;
}

/* ---- rolling back ----------------------------------------------------------------------------------------------- */

/* A training that has lost its folder must not return to the checkpoint of another one, or remove any. */
static descent_status check_folder(const struct fit *f) {
  bool lost;
  const descent_status status = checkpoint_folder_check(&f->recovery->folder, &lost);
  return lost ? status : DESCENT_OK;
}

/* Reads the checkpoint to return to; `*found` is false where there is none. */
static descent_status find_return(struct fit *f, bool *found, char **path) {
  descent_status status;
  TRY(take_outcome(f, true));
  TRY(check_folder(f));
  if (read_newest(f, f->recovery->folder.path, true, found, path) != DESCENT_OK) *found = false;
done:
  return status;
}

/* `divergence`: why the training has returned to the present step, from the checkpoint at `path`. */
static descent_status record_return(struct fit *f, const char *path, const char *divergence) {
  bool usable;
  descent_status status;
  report(f, DESCENT_CHECKPOINT_ROLLED_BACK, path, fit_steps(f), divergence);
  TRY(save(f, true, &usable)); /* a resumed training uses the lower rate too */
  TRY(take_outcome(f, true));
done:
  return status;
}

descent_status recovery_roll_back(struct fit *f) {
  const int64_t rollbacks = f->at.rollbacks + 1;
  const double factor = f->at.rate_factor * f->options.checkpoint.rollback_factor;
  char divergence[1024], *path = NULL;
  bool found = false;
  descent_status status;
  if (!writes(f) || rollbacks > f->options.checkpoint.rollbacks) return DESCENT_ERROR_DIVERGED;
  snprintf(divergence, sizeof divergence, "%s", descent_last_error());
  TRY(agree(f, ranks_leads(f) ? find_return(f, &found, &path) : DESCENT_OK));
  TRY(take_over(f, &found));
  if (!found) TRY(status_set(DESCENT_ERROR_DIVERGED, "%s", divergence));
  /* Removed before the checkpoint of this step is replaced, so that a training killed in between resumes from a state
   * that it has been in. */
  if (ranks_leads(f)) checkpoint_folder_remove_after(&f->recovery->folder, fit_steps(f), -1);
  f->at.rollbacks = rollbacks;
  f->at.rate_factor = factor;
  TRY(agree(f, ranks_leads(f) ? record_return(f, path, divergence) : DESCENT_OK));
done:
  free(path);
  return status;
}
