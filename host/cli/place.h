/* Where a path leads, whether something is there yet or not. */
#ifndef DESCENT_CLI_PLACE_H
#define DESCENT_CLI_PLACE_H

#include <limits.h>
#include <stdbool.h>

/* Is `path` the folder, or in it? Links are followed, and folders are the same that are one inode. `name`: that of the
 * file or folder in `folder` that it is or leads through; "" for the folder itself. */
bool place_within(const char *path, const char *folder, char name[NAME_MAX + 1]);

/* Whether a folder of checkpoints uses this name for itself: for a checkpoint, the lock, the log, or one being written. */
bool place_is_of_checkpoints(const char *name);
/* Whether `path` has such a name in a folder of checkpoints that exists. An output there would replace them. */
bool place_holds_checkpoints(const char *path);

#endif
