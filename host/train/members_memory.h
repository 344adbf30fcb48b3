/* Whether the memory of this machine is enough for many trainings. */
#ifndef DESCENT_TRAIN_MEMBERS_MEMORY_H
#define DESCENT_TRAIN_MEMBERS_MEMORY_H

#include "train/fit.h"

/* Linux grants small blocks beyond the available memory and ends the process when they are used, so what all need is
 * compared with it before they are compiled: ERROR_MEMORY, "64 members need 12.3 GB of memory, 8.1 GB are available: 42
 * would fit". All of `fits` (count) are checked, and the first is compiled. Not of a device
 * with separate memory. `root` as in system.h. */
descent_status members_check_memory(const char *root, const struct fit *fits, int64_t count);

/* The same for a device with separate memory, whose errors are as the next one's: of those that are compiled as the first,
 * which has its data there. More may be refused when they are compiled. */
descent_status members_check_room(const struct fit *fits, int64_t count);
/* Member k is compiled and has its data on such a device: is the rest enough for what those up to k take when they run
 * together? Member 0 is never refused. *later: of those before, and then with k. */
descent_status members_check_next(const struct fit *fits, int64_t k, int64_t count, int64_t *later);
/* ERROR_MEMORY of such a device, which had no memory for member k: "out of GPU memory (2.4 MB needed, 1.9 MB free): 6 of 12
 * members would fit". */
descent_status members_refuse_next(const struct fit *fits, int64_t k, int64_t count, int64_t later);

#endif
