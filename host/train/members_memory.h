/* Whether the memory of this machine is enough for many trainings. */
#ifndef DESCENT_TRAIN_MEMBERS_MEMORY_H
#define DESCENT_TRAIN_MEMBERS_MEMORY_H

#include "train/fit.h"

/* Linux grants small blocks beyond the available memory and ends the process when they are used, so what all need is
 * compared with it before they are compiled: ERROR_MEMORY, "64 members need 12.3 GB of memory, 8.1 GB are available: 42
 * would fit". All of `fits` (count) are checked, and the first is compiled. A device with separate memory is not looked at: it
 * refuses what does not fit when that is compiled. `root` as in system.h. */
descent_status members_check_memory(const char *root, const struct fit *fits, int64_t count);

#endif
