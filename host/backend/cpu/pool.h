/* A pool of threads that share the numbered tiles of one task at a time; the calling thread works too. Any thread may
 * call: one that finds the pool busy with another's task runs its own tiles alone. */
#ifndef DESCENT_BACKEND_CPU_POOL_H
#define DESCENT_BACKEND_CPU_POOL_H

#include <descent/descent.h>

struct pool;
typedef void pool_task(void *context, int64_t tile);

/* `threads` >= 1 counts the caller. ERROR_DEVICE when a thread cannot be started. */
descent_status pool_create(int threads, struct pool **pool);
void pool_free(struct pool *pool);
int pool_threads(const struct pool *pool);
/* The first of the tiles that thread `number` of the pool runs first, in ascending order; those up to that of number + 1. */
int64_t pool_range_begin(const struct pool *pool, int64_t tiles, int number);

/* Calls task(context, t) once for each t in 0 .. tiles-1, in any order and on any thread, and returns when all are
 * done. The result must not depend on which thread runs a tile. tiles < 2^31. */
void pool_run(struct pool *pool, pool_task *task, void *context, int64_t tiles);

#endif
