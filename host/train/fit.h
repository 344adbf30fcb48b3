/* A training over epochs, while it runs: what fit.c and recovery.c share. */
#ifndef DESCENT_TRAIN_FIT_H
#define DESCENT_TRAIN_FIT_H

#include "checkpoint/snapshot.h"
#include "train/trainer.h"

struct recovery;

struct fit {
  descent_trainer *trainer;
  const descent_train_options *options;
  const descent_dataset *training, *validation;
  int64_t rows, batch;
  int64_t epoch_steps, total_steps, probe; /* probe: the epoch's step, from 0, whose layer statistics are kept */
  bool keep_best;
  int64_t kept_step;  /* after which the network's parameters were the training's; 0: the initial ones */
  double *statistics; /* (layers, LAYER_SLOTS) */
  descent_layer_health *health;
  char placement[160];
  struct fit_state at; /* where the training is; seconds: those before `started` */
  double started;
  int64_t steps_per_run; /* steps to run at once, so that pauses come often enough */
  bool stopped;          /* `stop` says why */
  bool save_asked;
  descent_stop stop;
  struct recovery *recovery; /* NULL without checkpoints */
};

static inline int64_t fit_steps(const struct fit *f) { return (f->at.epoch - 1) * f->epoch_steps + f->at.done; }

#endif
