/* The thread pool. A region's tiles are dealt out in equal ranges, one per thread, the same way for every region with
 * the same number of tiles, so that a thread finds the data that it left in its cache; a thread that finishes early
 * helps the others. Tiles are claimed by compare-and-swap on the range's 64-bit word (generation, tiles left).
 * Invariant: a claim succeeds only while its region is open, so a late thread finds no tile to claim, and no thread
 * waits for it. Idle threads spin briefly (not where threads outnumber cores), yield, then sleep. */
#include "backend/cpu/pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/status.h"
#include "core/system.h"

#if defined(__x86_64__) || defined(__i386__)
#define SPIN_PAUSE() __builtin_ia32_pause()
#else
#define SPIN_PAUSE() ((void)0)
#endif

enum { SPINS = 4000, YIELDS = 50, TILE_BITS = 32, CACHE_LINE = 64 };
enum { CLOSING = 1 }; /* the generation that stops the workers; regions count from 2 */

struct range {
  _Alignas(CACHE_LINE) _Atomic uint64_t word; /* generation << TILE_BITS | tiles left */
};

struct pool {
  /* The open region: written before its ranges and its generation are published, never while a tile is unfinished. */
  _Alignas(CACHE_LINE) _Atomic uint32_t generation;
  _Atomic(pool_task *) task;
  _Atomic(void *) context;
  _Atomic int64_t tiles;
  atomic_bool busy;                              /* a caller has its region open */
  _Alignas(CACHE_LINE) _Atomic int64_t finished; /* tiles of the open region */
  _Alignas(CACHE_LINE) _Atomic int sleepers;
  pthread_mutex_t mutex;
  pthread_cond_t opened;
  int threads; /* running, the caller included */
  int spins;
  int ranges;             /* requested threads: the number of ranges is fixed before the first worker starts */
  struct range *range;    /* (ranges) */
  struct worker *workers; /* (ranges - 1) */
};

struct worker {
  struct pool *pool;
  pthread_t thread;
  int number; /* of the worker's range; 0 is the caller's */
};

int64_t pool_range_begin(const struct pool *pool, int64_t tiles, int number) { return tiles * number / pool->ranges; }

/* Takes and runs the tiles of one range, in ascending order, while it belongs to `generation` and has any. */
static void work_range(struct pool *pool, uint32_t generation, int number) {
  _Atomic uint64_t *range = &pool->range[number].word;
  uint64_t word = atomic_load_explicit(range, memory_order_acquire);
  while (word >> TILE_BITS == generation && (uint32_t)word > 0) {
    pool_task *task = atomic_load_explicit(&pool->task, memory_order_relaxed);
    void *context = atomic_load_explicit(&pool->context, memory_order_relaxed);
    const int64_t tiles = atomic_load_explicit(&pool->tiles, memory_order_relaxed);
    /* Success proves that the region was still open, so the three values just read belong to it. */
    if (!atomic_compare_exchange_weak_explicit(range, &word, word - 1, memory_order_acq_rel, memory_order_acquire))
      continue;
    task(context, pool_range_begin(pool, tiles, number + 1) - (uint32_t)word);
    atomic_fetch_add_explicit(&pool->finished, 1, memory_order_release);
    word = atomic_load_explicit(range, memory_order_acquire);
  }
}

/* The thread's own range first, then the others', starting with the next. */
static void work(struct pool *pool, uint32_t generation, int number) {
  for (int i = 0; i < pool->ranges; i++) work_range(pool, generation, (number + i) % pool->ranges);
}

/* Blocks until the generation differs from `seen`. */
static void sleep_until_opened(struct pool *pool, uint32_t seen) {
  pthread_mutex_lock(&pool->mutex);
  atomic_fetch_add(&pool->sleepers, 1); /* sequentially consistent, like publishing: one of the two sees the other */
  while (atomic_load(&pool->generation) == seen) pthread_cond_wait(&pool->opened, &pool->mutex);
  atomic_fetch_sub(&pool->sleepers, 1);
  pthread_mutex_unlock(&pool->mutex);
}

static void *worker_run(void *argument) {
  const struct worker *self = argument;
  struct pool *pool = self->pool;
  uint32_t seen = 0;
  for (int idle = 0;;) {
    const uint32_t generation = atomic_load_explicit(&pool->generation, memory_order_acquire);
    if (generation == CLOSING) return NULL;
    if (generation != seen) {
      work(pool, generation, self->number);
      seen = generation;
      idle = 0;
    } else if (idle < pool->spins + YIELDS) {
      if (idle++ < pool->spins)
        SPIN_PAUSE();
      else
        sched_yield();
    } else {
      sleep_until_opened(pool, seen);
      idle = 0;
    }
  }
}

static void publish(struct pool *pool, uint32_t generation) {
  atomic_store(&pool->generation, generation);
  if (atomic_load(&pool->sleepers) == 0) return;
  pthread_mutex_lock(&pool->mutex);
  pthread_cond_broadcast(&pool->opened);
  pthread_mutex_unlock(&pool->mutex);
}

/* Opens a region, works on it, and returns when it is finished. */
static void run_shared(struct pool *pool, pool_task *task, void *context, int64_t tiles) {
  atomic_store_explicit(&pool->task, task, memory_order_relaxed);
  atomic_store_explicit(&pool->context, context, memory_order_relaxed);
  atomic_store_explicit(&pool->tiles, tiles, memory_order_relaxed);
  atomic_store_explicit(&pool->finished, 0, memory_order_relaxed);
  uint32_t generation = atomic_load_explicit(&pool->generation, memory_order_relaxed) + 1;
  if (generation <= CLOSING) generation = CLOSING + 1; /* after 2^32 regions */
  for (int i = 0; i < pool->ranges; i++) {
    const int64_t count = pool_range_begin(pool, tiles, i + 1) - pool_range_begin(pool, tiles, i);
    atomic_store_explicit(&pool->range[i].word, (uint64_t)generation << TILE_BITS | (uint64_t)count,
                          memory_order_release);
  }
  publish(pool, generation);
  work(pool, generation, 0);
  for (int spins = 0; atomic_load_explicit(&pool->finished, memory_order_acquire) != tiles;)
    if (spins++ < pool->spins)
      SPIN_PAUSE();
    else
      sched_yield();
}

void pool_run(struct pool *pool, pool_task *task, void *context, int64_t tiles) {
  if (pool->threads > 1 && tiles > 1 && !atomic_exchange_explicit(&pool->busy, true, memory_order_acquire)) {
    run_shared(pool, task, context, tiles);
    atomic_store_explicit(&pool->busy, false, memory_order_release);
  } else {
    for (int64_t tile = 0; tile < tiles; tile++) task(context, tile);
  }
}

int pool_threads(const struct pool *pool) { return pool->threads; }

/* Workers block signals, which the host's own threads handle. */
static descent_status start_workers(struct pool *pool) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int error = 0;
  while (pool->threads < pool->ranges && !error) {
    struct worker *worker = &pool->workers[pool->threads - 1];
    *worker = (struct worker){.pool = pool, .number = pool->threads};
    error = pthread_create(&worker->thread, NULL, worker_run, worker);
    if (!error) pool->threads++;
  }
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (!error) return DESCENT_OK;
  return status_set(DESCENT_ERROR_DEVICE, "cannot start thread %d of %d: %s", pool->threads + 1, pool->ranges,
                    strerror(error));
}

descent_status pool_create(int threads, struct pool **result) {
  struct pool *pool = memory_allocate(1, sizeof *pool, "the thread pool");
  if (!pool) return DESCENT_ERROR_MEMORY;
  pool->threads = 1;
  pool->ranges = threads;
  pool->spins = threads <= system_cores_allowed() ? SPINS : 0;
  pthread_mutex_init(&pool->mutex, NULL);
  pthread_cond_init(&pool->opened, NULL);
  descent_status status = DESCENT_ERROR_MEMORY;
  pool->range = memory_allocate(threads, sizeof *pool->range, "the pool's ranges");
  pool->workers = memory_allocate(threads, sizeof *pool->workers, "the pool's threads");
  if (!pool->range || !pool->workers) goto done;
  TRY(start_workers(pool));
  *result = pool;
  pool = NULL;
done:
  pool_free(pool);
  return status;
}

void pool_free(struct pool *pool) {
  if (!pool) return;
  publish(pool, CLOSING);
  for (int i = 0; i < pool->threads - 1; i++) pthread_join(pool->workers[i].thread, NULL);
  pthread_cond_destroy(&pool->opened);
  pthread_mutex_destroy(&pool->mutex);
  free(pool->range);
  free(pool->workers);
  free(pool);
}
