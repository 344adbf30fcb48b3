/* Whether all ranks have been called with the same work: a training, or a check or a timing of one. */
#ifndef DESCENT_TRAIN_RANKS_COMPARE_H
#define DESCENT_TRAIN_RANKS_COMPARE_H

#include "backend/program.h"
#include "data/dataset.h"
#include "model/network.h"

/* A quantity beside those of a training. */
struct rank_quantity {
  const char *name, *text;
};

/* What a rank computes with. `training` may be NULL if there is a `source`, `validation` in any case. */
struct rank_work {
  const descent_network *network;
  const struct program *program;
  const descent_train_options *options; /* complete; with the communicator */
  const descent_dataset *training, *validation;
  const descent_source *source;
  const struct rank_quantity *more; /* (n_more) */
  int n_more;
};

/* ERROR_ARGUMENT, "rank 2 (node7): learning_rate is 0.01, but 0.001 on rank 0; ..", where the network with its weights,
 * the options, the data, the kind of device, its arithmetic or the version of the library are not those of rank 0: the
 * same error on all ranks. Collective; nothing where there is one rank. */
descent_status ranks_compare_work(const struct rank_work *work);

#endif
