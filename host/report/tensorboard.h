/* --tensorboard: an event file with a scalar for every number of an epoch, and a histogram of every layer's weights and
 * biases. */
#ifndef DESCENT_REPORT_TENSORBOARD_H
#define DESCENT_REPORT_TENSORBOARD_H

#include <cjson/cJSON.h>
#include <descent/descent.h>
#include <stdbool.h>

#include "report/appended.h"

struct tensorboard;

/* Creates the folder and its parents, and a new event file in it, which `file` is opened for; existing files are kept.
 * `file` is borrowed until the end, and the caller closes it. NULL with errno set. */
struct tensorboard *tensorboard_open(const char *folder, struct appended_file *file);
/* The path of the event file; valid until tensorboard_free. */
const char *tensorboard_path(const struct tensorboard *tensorboard);

/* Adds an epoch to the file: `line` from run_log_line, and the current weights from `info`, with the layers' widths from
 * `network`. False with errno set as appended_add. */
bool tensorboard_epoch(struct tensorboard *tensorboard, const cJSON *line, const descent_network *network,
                       const descent_epoch_info *info);
/* Marks a restart from `step`: TensorBoard discards events of later steps in all files of the folder. Likewise. */
bool tensorboard_restart(struct tensorboard *tensorboard, int64_t step);
void tensorboard_free(struct tensorboard *tensorboard);

#endif
