/* Allocations that fail on request. */
#ifndef DESCENT_TESTS_FAULTS_ALLOCATION_H
#define DESCENT_TESTS_FAULTS_ALLOCATION_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* From here on the k-th allocation fails (0: none does), and with `persistent` all that follow it. */
void allocation_fail(long k, bool persistent);
/* Allocations since then. */
long allocation_count(void);
/* For libraries that take an allocator of their user. */
void *allocation_malloc(size_t size);

#ifdef __cplusplus
}
#endif
#endif
