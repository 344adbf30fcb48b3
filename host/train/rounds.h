/* Trainings beside each other, one epoch at a time. */
#ifndef DESCENT_TRAIN_ROUNDS_H
#define DESCENT_TRAIN_ROUNDS_H

#include "train/fit.h"

/* Trains all of `fits` (count), which are set up on one device and have opened their checkpoints, and ends each: it then
 * has its status, error and result. `options` may be NULL. ERROR_MEMORY before anything changes. */
descent_status rounds_run(struct fit *fits, int64_t count, const descent_members_options *options);

#endif
