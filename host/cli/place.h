/* Where a path leads, whether something is there yet or not. */
#ifndef DESCENT_CLI_PLACE_H
#define DESCENT_CLI_PLACE_H

#include <limits.h>
#include <stdbool.h>

/* Is `path` the folder, or in it? Links are followed, and folders are the same that are one inode. `name`: that of the
 * file or folder in `folder` that it is or leads through; "" for the folder itself. */
bool place_within(const char *path, const char *folder, char name[NAME_MAX + 1]);

#endif
