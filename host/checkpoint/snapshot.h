/* The state of a training between two steps, in host memory: everything that the next step depends on. */
#ifndef DESCENT_CHECKPOINT_SNAPSHOT_H
#define DESCENT_CHECKPOINT_SNAPSHOT_H

#include "backend/program.h"

/* X(field): the state of a training beside its tensors. The rest follows from the options and the data. The names are
 * recorded in checkpoint files. */
#define FIT_STATE_INTEGERS(X)                                                           \
  X(epoch) /* to continue with, from 1 */                                               \
  X(done)  /* its steps done; all of them if only validation and reports are missing */ \
  X(plateau_bad_epochs)                                                                 \
  X(bad_epochs) /* since the last improvement */                                        \
  X(best_epoch) /* 0: none yet */                                                       \
  X(rollbacks)  /* so far */                                                            \
  X(tried)      /* 1: the training has already rolled back to here; a second time would repeat it */
#define FIT_STATE_REALS(X)                                                          \
  X(plateau_rate)                                                                   \
  X(rate_factor)   /* of every learning rate; 1 before the first rollback */        \
  X(learning_rate) /* of the last step */                                           \
  X(best_loss)     /* infinite: none yet */                                         \
  X(train_loss)    /* of the last complete epoch */                                 \
  X(total_loss)    /* over the epoch's steps done: sum of J times sum of weights */ \
  X(total_weight)  /* over the same steps: sum of the weights */                    \
  X(train_seconds) /* of the epoch */                                               \
  X(seconds)       /* of the whole training */

struct fit_state {
#define FIT_STATE_INTEGER(field) int64_t field;
#define FIT_STATE_REAL(field) double field;
  FIT_STATE_INTEGERS(FIT_STATE_INTEGER)
  FIT_STATE_REALS(FIT_STATE_REAL)
#undef FIT_STATE_INTEGER
#undef FIT_STATE_REAL
};

struct snapshot {
  struct fit_state state;
  int64_t step;                                 /* steps done in total */
  int64_t best_step;                            /* whose checkpoint is kept as the best; -1: none. Not in the file */
  int64_t n_parameters;                         /* with gaps */
  float *parameters, *moment1, *moment2, *best; /* (n_parameters); NULL if the training has none */
  bool has_best;                                /* best is filled */
  bool new_rate, new_validation;                /* the file read has another learning rate or schedule; other validation
                                                 * rows */
  char other_arithmetic[72];                    /* that of the file read where it differs; otherwise "" */
  int64_t n_statistics;
  double *statistics; /* (n_statistics): layer statistics of the epoch's step with statistics */
};

/* Allocates the buffers for a training of this network by this program; `best`: also for the best epoch's parameters.
 * ERROR_MEMORY. */
descent_status snapshot_create(const descent_network *network, const struct program *program, bool best,
                               struct snapshot *snapshot);
void snapshot_clear(struct snapshot *snapshot);

/* Reads the parameters, the moments and the totals from the device. `*finite`: all parameters are finite; otherwise a
 * training cannot continue from the snapshot. ERROR_DEVICE. */
descent_status snapshot_take(const struct program *program, struct snapshot *snapshot, bool *finite);
/* Writes the parameters and the moments to the device. ERROR_DEVICE. */
descent_status snapshot_restore(struct program *program, const struct snapshot *snapshot);

#endif
