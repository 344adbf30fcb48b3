/* Records of a running training: the log, TensorBoard's event file and, for the report, its curves and warnings. With
 * checkpoints, a second log is kept beside them, from which all records are cut back to the step at which a training
 * resumes. */
#ifndef DESCENT_CLI_RECORDS_H
#define DESCENT_CLI_RECORDS_H

#include "cli/train.h"
#include "report/history.h"
#include "report/tensorboard.h"

struct records {
  const struct train_values *values; /* borrowed: where everything goes */
  const char *command;
  FILE *log, *kept; /* of --log, and the one beside the checkpoints; NULL: none */
  struct tensorboard *tensorboard;
  struct history history; /* for the report */
  cJSON *warnings;        /* likewise */
  bool failed;            /* something could not be written, which has been told */
  bool lost;              /* the same of the log beside the checkpoints; the training need not end for it */
};

/* Begins anew, or with what was recorded up to a step (0: nothing), after so many epochs, which is read from the log in
 * the folder of checkpoints, NULL without them; what that lacks is reported. What was open before is closed. */
void records_begin(struct records *records, const char *folder, int64_t step, int64_t epochs);
/* A file that cannot be closed counts as not written (`failed`, `lost`). */
void records_close(struct records *records);

/* Records an epoch. A failed write is reported and ends the training (`failed`), so that the model is saved while there
 * is room left. */
void records_epoch(struct records *records, const descent_network *network, const descent_epoch_info *info);

#endif
