/* Rows of a source in blocks of whole steps, filled by a thread ahead of their steps. */
#ifndef DESCENT_TRAIN_FILLER_H
#define DESCENT_TRAIN_FILLER_H

#include "model/network.h"

struct filler;

/* The rows of one or more steps. Only the last block of an epoch may end with a part of a step, or be empty. */
struct filler_block {
  float *X, *y, *weights; /* (rows, inputs) as the network takes them, (rows, targets), (rows) */
  int64_t epoch, first;   /* row of the epoch, from 0, that is row 0 of the block */
  int64_t rows;
  bool last; /* of its epoch */
};

/* `source` is borrowed and checked; the first `epochs` epochs are read in steps of `batch` rows. Reads nothing before
 * filler_seek. ERROR_MEMORY. */
descent_status filler_create(const descent_source *source, const descent_network *network, uint64_t seed,
                             int64_t epochs, int64_t batch, struct filler **filler);

/* Drops all blocks and continues with the first row of step `done` (from 0) of `epoch`. `may_end`: the epoch may end before
 * that row, with a part of the step before it. ERROR_MEMORY when no thread can be started. */
descent_status filler_seek(struct filler *filler, int64_t epoch, int64_t done, bool may_end);

/* Waits for the present block (`ahead` 0) or the one behind it (1), asking `stop` ten times a second; *block is NULL if
 * that returned true. The block is valid until it is released. ERROR_READ and ERROR_DATA of the source, once the steps
 * before the failure are taken. */
descent_status filler_wait(struct filler *filler, int ahead, bool (*stop)(void *user), void *user,
                           const struct filler_block **block);
/* The present block is not needed any more. */
void filler_release(struct filler *filler);

/* Waits for the call of the source that is in progress. Does nothing for NULL. */
void filler_free(struct filler *filler);

#endif
