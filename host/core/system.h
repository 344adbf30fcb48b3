/* What the machine, the scheduler and the control groups leave this process: memory and cores. */
#ifndef DESCENT_CORE_SYSTEM_H
#define DESCENT_CORE_SYSTEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes that this process can still take before the kernel ends a process: what the machine has available, or the least
 * that a control group it is in (version 1 or 2) leaves below its limit, pages of files not counted, since those go
 * first. INT64_MAX where nothing says. `root` precedes every path: "" except in tests. Takes no memory. */
int64_t system_memory_available(const char *root);

/* Cores that the scheduler lets this process run on; at least 1. */
int system_cores_allowed(void);
/* The same, and no more than its control groups' CPU quota is worth, rounded up; at least 1. */
int system_cores_usable(void);

/* The beginning of a small file, as much as fits, with a 0 at its end; false when it cannot be read. Takes no memory.
 */
bool system_read_text(const char *path, char *text, size_t size);

#endif
