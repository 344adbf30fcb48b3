/* Memory and cores that the machine, the scheduler and the control groups leave to this process. */
#ifndef DESCENT_CORE_SYSTEM_H
#define DESCENT_CORE_SYSTEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes that this process can allocate before the kernel kills a process: the machine's available memory, or the lowest
 * headroom of its control groups (version 1 or 2), not counting the page cache, which is reclaimed first. INT64_MAX
 * when unknown. `root` precedes every path, "" except in tests. Allocates nothing. */
int64_t system_memory_available(const char *root);

/* Cores in this process's affinity mask; at least 1. */
int system_cores_allowed(void);
/* The same, limited by the CPU quota of its control groups, rounded up; at least 1. */
int system_cores_usable(void);

/* Reads a small file, as much as fits, and terminates it with 0; false when it cannot be read. Allocates nothing. */
bool system_read_text(const char *path, char *text, size_t size);

#endif
