/* A training between two of its steps: everything that the next one depends on, in host memory. */
#ifndef DESCENT_CHECKPOINT_SNAPSHOT_H
#define DESCENT_CHECKPOINT_SNAPSHOT_H

#include "backend/program.h"

/* X(field): what a training remembers beside its tensors. Everything else follows from the options and the data. */
#define FIT_STATE_INTEGERS(X)                                                                        \
  X(epoch) /* to go on with, from 1 */                                                               \
  X(done)  /* its steps that are done; all of them when only what follows the last one is missing */ \
  X(plateau_bad_epochs)                                                                              \
  X(bad_epochs) /* since the last improvement */                                                     \
  X(best_epoch) /* 0: none yet */                                                                    \
  X(rollbacks)  /* that there were */                                                                \
  X(tried)      /* 1: the training has gone back to here; once more would be in vain */
#define FIT_STATE_REALS(X)                                                          \
  X(plateau_rate)                                                                   \
  X(rate_factor)   /* of every learning rate; 1 before the first rollback */        \
  X(learning_rate) /* of the last step */                                           \
  X(best_loss)     /* infinite: none yet */                                         \
  X(train_loss)    /* of the last whole epoch */                                    \
  X(total_loss)    /* of the epoch's steps that are done: sum of J times weights */ \
  X(total_weight)  /* likewise */                                                   \
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
  int64_t step;                                 /* done in all */
  int64_t n_parameters;                         /* gaps included */
  float *parameters, *moment1, *moment2, *best; /* (n_parameters); NULL where the training has none */
  bool has_best;                                /* best holds something */
  bool new_rate, new_validation;                /* read from a file: the configuration's differ from that file's */
  int64_t n_statistics;
  double *statistics; /* (n_statistics): the layer statistics of the epoch's probed step */
};

/* Buffers for a training of this network by this program; `best`: it keeps the best epoch's parameters too.
 * ERROR_MEMORY. */
descent_status snapshot_create(const descent_network *network, const struct program *program, bool best,
                               struct snapshot *snapshot);
void snapshot_clear(struct snapshot *snapshot);

/* The device's part of it, from the program. `*finite`: of the parameters; a snapshot of others is no place to go on
 * from. */
descent_status snapshot_take(const struct program *program, struct snapshot *snapshot, bool *finite);
/* And back. */
descent_status snapshot_restore(struct program *program, const struct snapshot *snapshot);

#endif
