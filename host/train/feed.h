/* Where the rows of a training come from: a dataset, bound as a whole and shuffled by the gather, or the blocks of a
 * source, bound one after another in its order. Everything else about a training is the same. */
#ifndef DESCENT_TRAIN_FEED_H
#define DESCENT_TRAIN_FEED_H

#include "train/fit.h"

/* Checks the training data against the network and the options, and sets f->rows, batch, epoch_steps and
 * statistics_step. ERROR_ARGUMENT, ERROR_DATA. */
descent_status feed_check(struct fit *f, const descent_network *network);
/* Call once the trainer exists. */
descent_status feed_open(struct fit *f);

/* Makes the rows from step f->at.done of epoch f->at.epoch on the next ones. */
descent_status feed_begin_epoch(struct fit *f);
/* Binds the rows of the next `*steps` steps, at least 1, and sets f->feed; 0 where the epoch has no more, or `stop`,
 * which is asked while rows are awaited, returned true. Where a source's epoch ends, sets f->epoch_steps, rows and
 * statistics_step. ERROR_READ and ERROR_DATA of the source, which is noted in f->source_failed. */
descent_status feed_steps(struct fit *f, bool (*stop)(void *user), void *user, int64_t *steps);
/* Call after steps were done. */
void feed_taken(struct fit *f);
void feed_end_epoch(struct fit *f);

/* ERROR_READ when a mapped dataset file was written to. */
descent_status feed_check_unchanged(const struct fit *f);
void feed_close(struct fit *f);

#endif
