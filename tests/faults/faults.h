/* Calls that fail on request, in this process and those that it forks. */
#ifndef DESCENT_TESTS_FAULTS_H
#define DESCENT_TESTS_FAULTS_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum fault_kind { FAULT_ALLOCATION, FAULT_CALL, FAULT_KINDS };

/* From now on the k-th call of that kind fails (0: none), and with `persistent` all calls after it. */
void fault_choose(enum fault_kind kind, long k, bool persistent);
/* Nothing fails in this process any more. */
void fault_suspend(void);
/* Calls of the chosen kind since then. */
long fault_count(enum fault_kind kind);
/* The error of every flock from now on, as of a file system without locks; 0: none. */
void fault_flock(int error);
/* For libraries that take an allocator from the caller. */
void *fault_malloc(size_t size);

#ifdef __cplusplus
}
#endif
#endif
