/* --tensorboard: an event file with a scalar for every number of an epoch, and a histogram of every layer's weights and
 * biases. */
#ifndef DESCENT_REPORT_TENSORBOARD_H
#define DESCENT_REPORT_TENSORBOARD_H

#include <cjson/cJSON.h>
#include <descent/descent.h>
#include <stdbool.h>

struct tensorboard;

/* Creates the folder and its parents, and a new event file in it; existing files are kept. NULL with errno set. */
struct tensorboard *tensorboard_open(const char *folder);
/* The path of the event file; valid until it is closed. */
const char *tensorboard_path(const struct tensorboard *tensorboard);

/* Writes an epoch: `line` from run_log_line, and the current weights from `info`, with the layers' widths from
 * `network`. Flushes; false with errno set. */
bool tensorboard_epoch(struct tensorboard *tensorboard, const cJSON *line, const descent_network *network,
                       const descent_epoch_info *info);
/* Marks a restart from `step`: TensorBoard discards events of later steps in all files of the folder. */
bool tensorboard_restart(struct tensorboard *tensorboard, int64_t step);
/* False with errno set when closing fails, as it may on a network file system. */
bool tensorboard_close(struct tensorboard *tensorboard);

#endif
