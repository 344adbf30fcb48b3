/* The checkpoints of a running training: when they are due, going on from one, and going back to one. */
#ifndef DESCENT_TRAIN_RECOVERY_H
#define DESCENT_TRAIN_RECOVERY_H

#include "train/fit.h"

/* With options->checkpoint or ->resume: takes the folder, goes on from the newest checkpoint where that is asked for,
 * else writes the first one. Without them it does nothing. */
descent_status recovery_open(struct fit *f);

/* At most `count`, so that a run of steps ends where a checkpoint is due. */
int64_t recovery_limit(const struct fit *f, int64_t count);
/* Between steps: reports what became of the last checkpoint and begins the next one if it is due or `asked` for. */
descent_status recovery_pause(struct fit *f, bool asked);
/* At the end of a training: one of the state it ends with, waited for. */
descent_status recovery_finish(struct fit *f);
/* Frees everything; waits for what is being written. `failures`: checkpoints that could not be written. */
void recovery_close(struct fit *f, int64_t *failures);

/* After a divergence, told by the last error: goes back to the newest checkpoint with lower learning rates, or returns
 * ERROR_DIVERGED, the error being as it was, when that is not asked for or has been done often enough. */
descent_status recovery_roll_back(struct fit *f);

#endif
