/* The checkpoints of a running training: writes them when due, resumes from one, rolls back to one. */
#ifndef DESCENT_TRAIN_RECOVERY_H
#define DESCENT_TRAIN_RECOVERY_H

#include "train/fit.h"

/* With checkpoint.folder: opens and locks the folder. With checkpoint.resume: reads the newest intact checkpoint, if there
 * is one. Changes neither the training nor any checkpoint. Without both options it does nothing. */
descent_status recovery_open(struct fit *f);
/* Then: takes the state that was read, and writes the first checkpoint if the folder does not have the present state. */
descent_status recovery_start(struct fit *f);

/* Limits `count` so that a run of steps ends at the next step at which a checkpoint is due. */
int64_t recovery_limit(const struct fit *f, int64_t count);
/* Call between steps: reports the outcome of the last checkpoint, and starts the next one if it is due or
 * `requested`. */
descent_status recovery_pause(struct fit *f, bool requested);
/* Call at the end of a training: writes a checkpoint of the final state and waits for it. */
descent_status recovery_finish(struct fit *f);
/* Waits for the writer and frees everything. `failures`: the number of checkpoints that could not be written. */
void recovery_close(struct fit *f, int64_t *failures);

/* Call after a divergence, while it is the last error: restores the newest checkpoint and lowers the learning rate.
 * Returns ERROR_DIVERGED, with the text of the divergence, without checkpoints, after checkpoint.rollbacks rollbacks,
 * or if no checkpoint can be read. */
descent_status recovery_roll_back(struct fit *f);

#endif
