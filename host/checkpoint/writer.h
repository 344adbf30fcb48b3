/* A thread that writes one snapshot at a time while the training continues. */
#ifndef DESCENT_CHECKPOINT_WRITER_H
#define DESCENT_CHECKPOINT_WRITER_H

#include "checkpoint/checkpoint.h"
#include "checkpoint/folder.h"

struct checkpoint_writer;

/* The writer writes `snapshot`, which the caller may change only while nothing is being written. All arguments are
 * borrowed until the writer is stopped. Each write leaves the files of `retention` and that of the snapshot's best
 * step, none of a later step, and no damaged ones after the newest intact file; `newest` is the step of that file at
 * the start (0: none). ERROR_MEMORY. */
descent_status checkpoint_writer_start(const struct checkpoint_folder *folder,
                                       const struct checkpoint_retention *retention, int64_t newest,
                                       const descent_network *network, const struct configuration *configuration,
                                       const struct snapshot *snapshot, struct checkpoint_writer **writer);
/* Waits for the present write and ends the thread. Does nothing on NULL. */
void checkpoint_writer_stop(struct checkpoint_writer *writer);

/* The outcome of writing a snapshot. */
struct checkpoint_outcome {
  int64_t step;
  descent_status status;
  bool lost;                     /* nothing was written: the folder is no longer this training's */
  char path[512], message[1024]; /* the file, truncated to fit; the error, "" on success */
};

/* Takes the outcome of the last snapshot; false if there is none, or it has been taken. `wait`: first waits until the
 * writer is idle. */
bool checkpoint_writer_outcome(struct checkpoint_writer *writer, bool wait, struct checkpoint_outcome *outcome);
/* Starts to write the snapshot. The writer must be idle and its last outcome taken. */
void checkpoint_writer_write(struct checkpoint_writer *writer);

#endif
