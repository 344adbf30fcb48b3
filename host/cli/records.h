/* Records of a running training: the log, TensorBoard's event file and, for the report, its curves and warnings. With
 * checkpoints, a second log is kept beside them, from which all records are cut back to the step at which a training
 * resumes. */
#ifndef DESCENT_CLI_RECORDS_H
#define DESCENT_CLI_RECORDS_H

#include "cli/train.h"
#include "report/appended.h"
#include "report/history.h"
#include "report/tensorboard.h"

/* A log, and why it cannot be written at present. */
struct record_log {
  struct appended_file file; /* not open: what was recorded before could not be put in its place yet */
  int error;                 /* errno, which has been reported; 0: none */
};

struct records {
  const struct train_values *values; /* borrowed: where everything goes; NULL before records_init */
  const char *command;
  struct record_log log, kept; /* of --log, and the one beside the checkpoints */
  struct record_log board;     /* TensorBoard's file */
  int folder;                  /* descriptor of the checkpoints' folder; -1: not open */
  bool started;
  const char *from;     /* what records_begin was given, for a log that cannot be started at once */
  int64_t step, epochs; /* likewise */
  double tried;         /* when that was last tried, in seconds */
  struct tensorboard *tensorboard;
  struct history history; /* for the report */
  cJSON *warnings;        /* likewise */
  bool failed;            /* something could not be written that ends the training; has been reported */
  bool incomplete;        /* a log lacks epochs; has been reported */
  bool told_missing;      /* what could not be found of earlier epochs has been reported */
};

void records_init(struct records *records, const char *command, const struct train_values *values);

/* Begins anew, or with what was recorded up to a step (0: nothing), after so many epochs. It is read from the log in the
 * folder of checkpoints, NULL without them, and what that lacks from --log; what both lack is reported. What was open
 * before is closed, except for a log that is no regular file: there the epochs from the step follow. */
void records_begin(struct records *records, const char *folder, int64_t step, int64_t epochs);
/* Writes the waiting lines, with a few retries, and reports those that are missing (`failed`, `incomplete`). */
void records_close(struct records *records);

/* Records an epoch. A file that cannot be written is reported, and tried again at every further epoch. A log that is no
 * regular file cannot be tried again and ends the training (`failed`). */
void records_epoch(struct records *records, const descent_network *network, const descent_epoch_info *info);

#endif
