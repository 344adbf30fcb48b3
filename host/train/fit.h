/* The state of a training over epochs, shared by fit.c, feed.c and recovery.c. */
#ifndef DESCENT_TRAIN_FIT_H
#define DESCENT_TRAIN_FIT_H

#include "checkpoint/snapshot.h"
#include "core/rng.h"
#include "train/micro_batches.h"
#include "train/own_loss.h"
#include "train/trainer.h"

struct recovery;
struct filler;

/* The rows that are bound: row 0 is row `first` of the epoch, or of its `order`. */
struct feed {
  int64_t first, rows;
  const struct permutation *order; /* NULL: not shuffled */
  const float *y, *weights;        /* on the host; weights NULL: 1 */
};

/* What the ranks of a training exchange; zeroed where there is one. */
struct ranks {
  struct rank_request *requests; /* (ranks) */
  uint64_t *sums;                /* (ranks), of the parameters */
  bool single_steps;             /* a rank has on_step, so all run one step at a time */
  bool choices_differ;           /* of algorithms, between ranks */
};

struct fit {
  descent_trainer *trainer;
  descent_train_options options;                /* with defaults for what was not given */
  const descent_dataset *training, *validation; /* training: NULL with a source */
  const descent_source *source;                 /* or NULL */
  descent_dataset *aligned[2]; /* owned copies of both with the network's offsets, where theirs differ */
  int64_t rows, batch;
  int64_t epoch_steps;          /* 0 while they are not known of a source */
  int64_t statistics_step;      /* the step of an epoch, from 0, whose layer statistics are recorded */
  bool keep_best;               /* the network keeps the parameters of the best epoch */
  int64_t kept_step;            /* the step of the parameters that the network holds; 0: the initial ones */
  double *statistics;           /* (layers, LAYER_SLOTS) */
  descent_layer_health *health; /* (layers) */
  struct micro_batches cut;     /* micro-batches of a step */
  struct ranks ranks;
  struct own_loss own_loss; /* of the caller; its function is NULL for the network's */
  char placement[400];
  struct fit_state at;   /* the position of the training; `seconds` excludes the time since `started` */
  double started;        /* clock_seconds() */
  int64_t steps_per_run; /* most steps to run at once, adapted so that pauses are frequent enough */
  bool stopped;          /* for the reason `stop` */
  bool save_requested;   /* by on_pause */
  descent_stop stop;
  struct recovery *recovery; /* NULL without checkpoints */
  struct feed feed;
  struct permutation order;     /* of the epoch's rows in a dataset */
  struct filler *filler;        /* of a source */
  int64_t fed_epoch, fed_steps; /* the step that the filler has next: as `epoch` and `done` in fit_state */
  bool bound;                   /* `feed` is the filler's present block */
  bool source_failed;
};

/* Steps done in total. In a first epoch of unknown length epoch_steps is 0 and not needed. */
static inline int64_t fit_steps(const struct fit *f) { return (f->at.epoch - 1) * f->epoch_steps + f->at.done; }

#endif
