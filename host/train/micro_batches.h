/* A step in micro-batches: each rank computes the gradients of its parts, and then all of them update their copies of
 * the parameters in the same way. */
#ifndef DESCENT_TRAIN_MICRO_BATCHES_H
#define DESCENT_TRAIN_MICRO_BATCHES_H

#include "backend/program.h"

struct fit;

/* How steps are cut. */
struct micro_batches {
  int64_t total;                                              /* M; 1: steps are not cut */
  int own, first;                                             /* this rank computes parts first .. first + own - 1 */
  int64_t rows;                                               /* of the largest part */
  struct plan_step *steps;                                    /* (own) */
  struct micro_batch_statistics *own_statistics, *statistics; /* (own, layers), (M, layers) */
  float *class_weights;                                       /* (classes) or NULL; owned */
};

/* ERROR_ARGUMENT where so many ranks cannot compute so many micro-batches, or with the loss of a caller. */
descent_status micro_batches_create(const descent_network *network, const descent_train_options *options, int64_t batch,
                                    const float *class_weights, struct micro_batches *cut);
void micro_batches_clear(struct micro_batches *cut);

/* Runs n steps of the rows that are bound to f. */
descent_status micro_batches_run(struct fit *f, const struct plan_step *steps, int64_t n, bool with_statistics);

#endif
