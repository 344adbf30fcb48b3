/* The end of a training, as a success or not: what the network keeps, what the caller gets, and what is freed. */
#include <stdio.h>
#include <stdlib.h>

#include "core/clock.h"
#include "core/status.h"
#include "train/feed.h"
#include "train/fit.h"
#include "train/ranks.h"
#include "train/recovery.h"

/* "the weights of epoch 3 are kept": the weights that the network holds. */
static void describe_kept(const struct fit *f, char *text, size_t size) {
  const bool whole = f->epoch_steps && f->kept_step % f->epoch_steps == 0;
  if (f->kept_step)
    snprintf(text, size, "the weights of %s %lld are kept", whole ? "epoch" : "step",
             (long long)(whole ? f->kept_step / f->epoch_steps : f->kept_step));
  else
    snprintf(text, size, "the initial weights are kept");
}

/* Adds to the error which weights the network holds. After a divergence these are the weights before that step, and
 * after the loss of the checkpoints' folder or a source's failure those of the last step; they are read from the device
 * here. They are the last ones kept if there is a best epoch, if the weights cannot be read or are not finite, or if
 * the device failed; a failed device is not used again. */
static descent_status finish_failed(struct fit *f, descent_status failure) {
  char text[768], kept_text[64];
  snprintf(text, sizeof text, "%s", descent_last_error());
  if ((failure == DESCENT_ERROR_WRITE || f->source_failed) && !fit_has_best(f)) (void)fit_keep_parameters(f);
  describe_kept(f, kept_text, sizeof kept_text);
  if (failure == DESCENT_ERROR_DIVERGED && !fit_has_best(f) && fit_keep_parameters(f) == DESCENT_OK)
    snprintf(kept_text, sizeof kept_text, "the weights before that step are kept");
  return status_set(failure, "%s; %s", text, kept_text);
}

static void fill_result(const struct fit *f, descent_fit_result *result) {
  *result = (descent_fit_result){
      .stop = f->stop,
      .epochs = f->at.epoch - 1,
      .steps = f->trainer->steps, /* exact after a divergence within a run of steps, too */
      .best_epoch = f->at.best_epoch,
      .best_loss = f->at.best_loss,
      .train_loss = f->at.train_loss,
      .seconds = f->at.seconds + clock_seconds() - f->started,
  };
}

static bool names_weights(const struct fit *f, descent_status failure) {
  return failure == DESCENT_ERROR_DIVERGED || failure == DESCENT_ERROR_DEVICE || failure == DESCENT_ERROR_WRITE ||
         (failure != DESCENT_OK && f->source_failed);
}

void fit_end(struct fit *f, descent_status status) {
  descent_fit_result reached = {0};
  if (f->ready) feed_end_epoch(f);
  if (f->ready && names_weights(f, status)) status = finish_failed(f, status);
  if (f->ready) fill_result(f, &reached);
  recovery_close(f, &reached.checkpoint_failures);
  if (f->ready && f->result) *f->result = reached;
  feed_close(f);
  descent_trainer_free(f->trainer);
  descent_dataset_free(f->aligned[0]);
  descent_dataset_free(f->aligned[1]);
  descent_metrics_clear(&f->report.validation);
  own_loss_clear(&f->own_loss);
  micro_batches_clear(&f->cut);
  ranks_clear(&f->ranks);
  free(f->statistics);
  free(f->health);
  f->phase = FIT_ENDED;
  f->status = status;
  snprintf(f->error, sizeof f->error, "%s", status == DESCENT_OK ? "" : descent_last_error());
}
