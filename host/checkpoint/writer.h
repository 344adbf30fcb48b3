/* A thread that writes one snapshot at a time, while the training goes on. */
#ifndef DESCENT_CHECKPOINT_WRITER_H
#define DESCENT_CHECKPOINT_WRITER_H

#include "checkpoint/checkpoint.h"
#include "checkpoint/folder.h"

struct checkpoint_writer;

/* `snapshot` is what it writes: whoever starts the writer may fill it while nothing is being written. All borrowed
 * until the writer is stopped; `keep` files stay in the folder, and of those after step `last`, the newest that is
 * whole (0: none is there), only what the writer writes. ERROR_MEMORY. */
descent_status checkpoint_writer_start(const struct checkpoint_folder *folder, int64_t keep, int64_t last,
                                       const descent_network *network, const struct configuration *configuration,
                                       const struct snapshot *snapshot, struct checkpoint_writer **writer);
/* Waits for what is being written and ends the thread. */
void checkpoint_writer_stop(struct checkpoint_writer *writer);

/* What became of a snapshot. */
struct checkpoint_outcome {
  int64_t step;
  descent_status status;
  char path[512], message[1024]; /* the file, cut to what fits; on failure what happened */
};

/* The outcome of the last snapshot, once: false when there is none yet or it has been given. With `wait`, not before
 * the writer has nothing more to do. */
bool checkpoint_writer_outcome(struct checkpoint_writer *writer, bool wait, struct checkpoint_outcome *outcome);
/* The snapshot is complete: write it. Only when idle and the last outcome was taken. */
void checkpoint_writer_write(struct checkpoint_writer *writer);

#endif
