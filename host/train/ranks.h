/* What the ranks of a training decide together. Each rank runs the same loop over epochs and steps, and the operations of
 * a step wait for all ranks; so every decision that changes what follows must be the same on all of them. What may differ
 * between ranks (the clock, requests of callbacks, errors, the disk) is exchanged here. The functions that return a status are
 * collective, and change nothing where there is one rank. */
#ifndef DESCENT_TRAIN_RANKS_H
#define DESCENT_TRAIN_RANKS_H

#include "core/communicator.h"
#include "train/fit.h"

static inline bool ranks_leads(const struct fit *f) { return communicator_rank(f->options.ranks.communicator) == 0; }

/* The rows [*first, *first + *count) of `rows` that this rank checks; those of lower ranks come before. */
void ranks_share(const struct fit *f, int64_t rows, int64_t *first, int64_t *count);

/* ERROR_ARGUMENT, "rank 2 (node7): learning_rate is 0.01, but 0.001 on rank 0; ..", where the build, the network, the
 * options or the data of a rank are not those of rank 0. `own`: the status of what this rank has set up. Then takes the
 * first common decisions. */
descent_status ranks_begin(struct fit *f, descent_status own);
void ranks_clear(struct ranks *ranks);

/* Part of ranks_begin, in ranks_compare.c. */
descent_status ranks_compare(struct fit *f);

/* Makes f->stopped, stop, save_requested and steps_per_run the same on all ranks: a request of one is a request of all,
 * and rank 0 says how many steps to run. */
descent_status ranks_agree(struct fit *f);

/* ERROR_INTERNAL, naming the rank, where the parameters of one are not those of rank 0. */
descent_status ranks_check_replicas(struct fit *f);

/* Call with this rank's explanation of a step that was not finite, which all ranks see, or its failure to find one. All
 * have the explanation of the lowest rank that has found a value, or the failure of one that could not look. */
descent_status ranks_explain(struct fit *f, descent_status own);

/* All ranks receive the snapshot of rank 0, whose buffers they have. */
descent_status ranks_share_snapshot(struct fit *f, struct snapshot *snapshot);

/* As evaluate_together of the validation data, which is bound, each rank computing some of the blocks. The metrics have
 * the bits of one rank. Polls `stop` between blocks; if it returns true on any rank, `*stopped` is true on all and
 * `metrics` is unchanged. */
descent_status ranks_evaluate(struct fit *f, bool (*stop)(void *user), void *user, bool *stopped,
                              descent_metrics *metrics);

#endif
