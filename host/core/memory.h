/* How much memory there is to take. */
#ifndef DESCENT_CORE_MEMORY_H
#define DESCENT_CORE_MEMORY_H

#include <stdint.h>

/* Bytes that this process can still take before the kernel ends one: what the machine has available, or the least that
 * a control group it is in (version 1 or 2) leaves below its limit, pages of files not counted, since those go first.
 * INT64_MAX where nobody says. `root` stands before every path: "" but in tests. Takes no memory. */
int64_t memory_available(const char *root);

#endif
