/* A training over epochs, as phases that rounds.c calls: one training alone, or many beside each other. During the
 * training, the network holds the parameters to return (the best ones, or the last finite ones); those being trained are
 * on the device. */
#ifndef DESCENT_TRAIN_FIT_H
#define DESCENT_TRAIN_FIT_H

#include "checkpoint/snapshot.h"
#include "core/rng.h"
#include "train/evaluate.h"
#include "train/micro_batches.h"
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

/* Most steps that are given to the device at once. */
enum { FIT_MAX_STEPS = 256, FIT_WARNING = 256, FIT_PLACEMENT = 400 };

/* What comes next, in the order in which an epoch has them. */
enum fit_phase {
  FIT_OVER,       /* it has its epochs, or was stopped: fit_finish */
  FIT_EPOCH,      /* fit_begin_epoch, whose first step may be one within the epoch */
  FIT_STEPS,      /* fit_prepare_steps, .. */
  FIT_VALIDATION, /* fit_begin_validation, .. */
  FIT_REPORT,     /* fit_report_epoch and fit_next_epoch */
  FIT_ENDED       /* nothing: it has its result, or its error */
};

/* The epoch that was finished last, with what its texts and numbers point to. */
struct fit_report {
  descent_epoch_info info;
  descent_metrics validation;
  bool improved;
  char warning[FIT_WARNING], placement[FIT_PLACEMENT + 100];
};

struct fit {
  descent_network *network; /* of the caller, as the device: until the trainer has references */
  descent_device *device;
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
  char placement[FIT_PLACEMENT];
  struct fit_state at;   /* the position of the training; `seconds` excludes the time since `started` */
  double started;        /* clock_seconds() */
  int64_t steps_per_run; /* most steps to run at once, which rounds.c adapts so that pauses are frequent enough */
  bool stopped;          /* for the reason `stop` */
  bool save_requested;   /* by on_pause */
  descent_stop stop;
  enum fit_phase phase;
  descent_fit_result *result;            /* of the caller, or NULL */
  descent_status status;                 /* once it has ended */
  char error[1024];                      /* its text; "" for a success */
  bool ready;                            /* to train: what ends it from then on leaves a result */
  bool describes_epochs;                 /* in `report`, for a callback */
  struct plan_step steps[FIT_MAX_STEPS]; /* the next or last steps to be given to the device at once */
  int64_t n_steps;
  struct evaluation evaluation; /* of the validation data */
  struct fit_report report;
  struct recovery *recovery; /* NULL without checkpoints */
  struct feed feed;
  bool shuffles;                /* has said that it reads its dataset in random order */
  struct permutation order;     /* of the epoch's rows in a dataset */
  struct filler *filler;        /* of a source */
  int64_t fed_epoch, fed_steps; /* the step that the filler has next: as `epoch` and `done` in fit_state */
  bool bound;                   /* `feed` is the filler's present block */
  bool source_failed;
};

/* Steps done in total. In a first epoch of unknown length epoch_steps is 0 and not needed. */
static inline int64_t fit_steps(const struct fit *f) { return (f->at.epoch - 1) * f->epoch_steps + f->at.done; }

static inline void fit_stop(struct fit *f, descent_stop reason) {
  f->stopped = true;
  f->stop = reason;
}

/* What ranks cannot see of each other: all return the error of the lowest rank that has one. */
descent_status fit_agree(const struct fit *f, descent_status own);
/* Calls on_pause and notes its request; true: stop. `user`: the struct fit. */
bool fit_poll(void *user);
/* Between steps: notes the request of on_pause, and writes a checkpoint where one is due. */
descent_status fit_pause(struct fit *f);

/* ---- setting up; fit_setup.c ---- */

/* Checks arguments, options and data, and changes nothing. f->options are complete. */
descent_status fit_check(struct fit *f);
/* The plan that fit_compile will compile, of a training that is checked; the caller frees it. */
descent_status fit_build_plan(const struct fit *f, struct plan **plan);
/* Compiles the trainer and allocates what the training needs. */
descent_status fit_compile(struct fit *f);
/* Of a training on datasets, compiled: binds them, so that a device with separate memory takes now what it needs for them.
 * What it keeps is found again when the training binds them. */
descent_status fit_place_data(struct fit *f);

/* ---- steps; fit_steps.c ---- */

descent_status fit_begin_epoch(struct fit *f);
/* Into f->steps the f->n_steps that come next; 0: the epoch has no more, or the training was stopped. */
descent_status fit_prepare_steps(struct fit *f);
/* Whether the steps need the host in between, so that only fit_run_steps runs them. */
bool fit_needs_host(const struct fit *f);
/* The range that runs f->steps otherwise. */
struct plan_range fit_range(const struct fit *f);
/* Runs f->steps with the host in between. */
descent_status fit_run_steps(struct fit *f);
/* Of the steps that were run: ERROR_DIVERGED, with its explanation, where one was not finite. */
descent_status fit_take_steps(struct fit *f);
/* After them; `seconds`: since before fit_prepare_steps. */
descent_status fit_after_steps(struct fit *f, double seconds);
/* After a turn of so many seconds in which others ran and this one had to wait, within an epoch: a pause. */
descent_status fit_wait(struct fit *f, double seconds);
/* After the last step of the epoch, or a stop. */
descent_status fit_end_steps(struct fit *f);

/* ---- between epochs; fit_epoch.c ---- */

/* Copies the device's parameters to the network. ERROR_DIVERGED if they are not finite. */
descent_status fit_keep_parameters(struct fit *f);
/* Does the network hold the parameters of the best epoch, which must not be overwritten? */
bool fit_has_best(const struct fit *f);
/* Sets the phase that follows a whole epoch, a resume or a rollback. */
void fit_continue(struct fit *f);
/* Binds the validation data. `*evaluates`: f->evaluation is to be run before fit_end_validation. */
descent_status fit_begin_validation(struct fit *f, bool *evaluates);
descent_status fit_end_validation(struct fit *f);
/* Describes the epoch, and calls on_epoch with it. */
void fit_report_epoch(struct fit *f);
descent_status fit_next_epoch(struct fit *f);
/* After the last epoch, or a stop: the final parameters, and their checkpoint. */
descent_status fit_finish(struct fit *f);

/* ---- the end; fit_end.c ---- */

/* Ends the training with `status`, whose text is the last error: sets f->status, error and result, and frees everything.
 * The last error names the weights that the network holds. */
void fit_end(struct fit *f, descent_status status);

#endif
