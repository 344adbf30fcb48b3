/* --tensorboard: an event file in a folder that TensorBoard watches. Every number of an epoch is a scalar by its step,
 * and every layer's weights and biases are a histogram. */
#ifndef DESCENT_REPORT_TENSORBOARD_H
#define DESCENT_REPORT_TENSORBOARD_H

#include <cjson/cJSON.h>
#include <descent/descent.h>
#include <stdbool.h>

struct tensorboard;

/* Makes the folder, with those above it, and begins a new event file in it: what is there stays. NULL with errno set.
 */
struct tensorboard *tensorboard_open(const char *folder);
/* The event file's path; valid until it is closed. */
const char *tensorboard_path(const struct tensorboard *tensorboard);

/* Writes the epoch: `line` as run_log_line gives it, `network` for its layers' widths, and the current weights from
 * `info`. On disk when it returns; false with errno set. */
bool tensorboard_epoch(struct tensorboard *tensorboard, const cJSON *line, const descent_network *network,
                       const descent_epoch_info *info);
/* Says that the training goes on from `step`: what was written of later ones, in any file of the folder, is void. */
bool tensorboard_restart(struct tensorboard *tensorboard, int64_t step);
/* False with errno set where closing failed, as network file systems may. */
bool tensorboard_close(struct tensorboard *tensorboard);

#endif
