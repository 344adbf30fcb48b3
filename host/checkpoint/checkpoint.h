/* A snapshot as a file. It is a model file of the network at that step, which every command that takes a model accepts,
 * with the state of the training added. In addition to the model's texts and tensors (model/model_file.c) it has:
 *
 *   descent.checkpoint   JSON {"version": 1, "step": N, "configuration": {NAME: TEXT, ..}, "state": {FIELD: ..},
 *                        "statistics": [..], "sums": {TENSOR: HEX, ..}}
 *   descent.header.xxh64 XXH64 of all bytes before the data
 *   checkpoint.moment1, checkpoint.moment2, checkpoint.best
 *                        tensors (parameters), flat as in memory, if the training has them
 *
 * `sums` has the XXH64 of each tensor's bytes. Reals are stored as the 16 hexadecimal digits of their bits. */
#ifndef DESCENT_CHECKPOINT_CHECKPOINT_H
#define DESCENT_CHECKPOINT_CHECKPOINT_H

#include "checkpoint/configuration.h"
#include "checkpoint/snapshot.h"

struct file_writer;

/* Writes into an open file and commits it, or abandons it. The parameters are the snapshot's; the rest of the model is
 * the network's. ERROR_WRITE, ERROR_MEMORY. */
descent_status checkpoint_write(struct file_writer *file, const descent_network *network,
                                const struct configuration *configuration, const struct snapshot *snapshot);

/* Reads a file into a snapshot created for the same network. ERROR_MODEL or ERROR_READ if the file is damaged or not a
 * checkpoint. ERROR_ARGUMENT, with the differences, if its configuration differs in names other than those in
 * `may_change` (separated by commas; may be NULL), or if a later version of this program wrote it. */
descent_status checkpoint_read(const char *path, const descent_network *network,
                               const struct configuration *configuration, const char *may_change,
                               struct snapshot *snapshot);

#endif
