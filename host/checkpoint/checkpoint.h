/* A snapshot as a file: a model file of the network as it is at that step, which every command that takes a model
 * reads, with what the training needs besides. On top of the model's text and tensors (model/model_file.c):
 *
 *   descent.checkpoint   JSON {"version": 1, "step": N, "configuration": {NAME: TEXT, ..}, "state": {FIELD: ..},
 *                        "statistics": [..], "sums": {TENSOR: HEX, ..}}
 *   descent.header.xxh64 XXH64 of all that comes before the data
 *   checkpoint.moment1, checkpoint.moment2, checkpoint.best: (parameters), flat as in memory, where the training has
 * them
 *
 * sums holds the XXH64 of every tensor's bytes. Reals are kept as the 16 hexadecimal digits of their bits. */
#ifndef DESCENT_CHECKPOINT_CHECKPOINT_H
#define DESCENT_CHECKPOINT_CHECKPOINT_H

#include "checkpoint/configuration.h"
#include "checkpoint/snapshot.h"

/* Writes the file, wholly or not at all. The tensors' values are the snapshot's, the rest is the network's.
 * ERROR_WRITE, ERROR_MEMORY. */
descent_status checkpoint_write(const char *path, const descent_network *network,
                                const struct configuration *configuration, const struct snapshot *snapshot);

/* Reads a file into a snapshot made for the same network. ERROR_MODEL or ERROR_READ when it is damaged or no
 * checkpoint; ERROR_ARGUMENT, with the differences, when the configuration is another one beyond the names in
 * `may_change` (with commas between, or NULL). */
descent_status checkpoint_read(const char *path, const descent_network *network,
                               const struct configuration *configuration, const char *may_change,
                               struct snapshot *snapshot);

#endif
