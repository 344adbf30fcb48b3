/* The thread pool: a region is opened by publishing one 64-bit word (generation, tiles left), and tiles are claimed,
 * the last first, by compare-and-swap on it. Invariant: a claim succeeds only while its region is open, so a thread
 * that comes late finds nothing to take and nobody has to wait for it. Idle threads spin briefly, yield, then sleep. */
#include "backend/cpu/pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/status.h"

#if defined(__x86_64__) || defined(__i386__)
#define SPIN_PAUSE() __builtin_ia32_pause()
#else
#define SPIN_PAUSE() ((void)0)
#endif

enum { SPINS = 4000, YIELDS = 50, TILE_BITS = 32, CACHE_LINE = 64 };
enum { CLOSING = 1 }; /* generation of the word that ends the workers; regions count from 2 */

struct pool {
  /* The open region. task and context are written before its word is published, never while a tile is unfinished. */
  _Alignas(CACHE_LINE) _Atomic uint64_t word; /* generation << TILE_BITS | tiles left */
  _Atomic(pool_task *) task;
  _Atomic(void *) context;
  _Alignas(CACHE_LINE) _Atomic int64_t finished; /* tiles of the open region */
  _Alignas(CACHE_LINE) _Atomic int sleepers;
  pthread_mutex_t mutex;
  pthread_cond_t opened;
  uint32_t generation;
  int threads; /* the caller included */
  pthread_t workers[];
};

/* Takes and runs tiles of the region of `word` until none is left; returns the word last seen. */
static uint64_t work(struct pool *pool, uint64_t word) {
  uint32_t left;
  while ((left = (uint32_t)word) > 0) {
    pool_task *task = atomic_load_explicit(&pool->task, memory_order_relaxed);
    void *context = atomic_load_explicit(&pool->context, memory_order_relaxed);
    /* Success proves that the region was still open, hence that task and context are its own. */
    if (!atomic_compare_exchange_weak_explicit(&pool->word, &word, word - 1, memory_order_acq_rel,
                                               memory_order_acquire))
      continue;
    task(context, left - 1);
    atomic_fetch_add_explicit(&pool->finished, 1, memory_order_release);
    word = atomic_load_explicit(&pool->word, memory_order_acquire);
  }
  return word;
}

/* Blocks until the word differs from `seen`. */
static void sleep_until_changed(struct pool *pool, uint64_t seen) {
  pthread_mutex_lock(&pool->mutex);
  atomic_fetch_add(&pool->sleepers, 1); /* sequentially consistent, as is publishing: one of the two sees the other */
  while (atomic_load(&pool->word) == seen) pthread_cond_wait(&pool->opened, &pool->mutex);
  atomic_fetch_sub(&pool->sleepers, 1);
  pthread_mutex_unlock(&pool->mutex);
}

static void *worker(void *argument) {
  struct pool *pool = argument;
  uint64_t seen = 0;
  for (int idle = 0;;) {
    uint64_t word = atomic_load_explicit(&pool->word, memory_order_acquire);
    if (word != seen) {
      if (word >> TILE_BITS == CLOSING) return NULL;
      seen = work(pool, word);
      idle = 0;
    } else if (idle < SPINS + YIELDS) {
      if (idle++ < SPINS)
        SPIN_PAUSE();
      else
        sched_yield();
    } else {
      sleep_until_changed(pool, seen);
      idle = 0;
    }
  }
}

static void publish(struct pool *pool, uint64_t word) {
  atomic_store(&pool->word, word);
  if (atomic_load(&pool->sleepers) == 0) return;
  pthread_mutex_lock(&pool->mutex);
  pthread_cond_broadcast(&pool->opened);
  pthread_mutex_unlock(&pool->mutex);
}

void pool_run(struct pool *pool, pool_task *task, void *context, int64_t tiles) {
  if (pool->threads == 1 || tiles == 1) {
    for (int64_t tile = 0; tile < tiles; tile++) task(context, tile);
    return;
  }
  atomic_store_explicit(&pool->task, task, memory_order_relaxed);
  atomic_store_explicit(&pool->context, context, memory_order_relaxed);
  atomic_store_explicit(&pool->finished, 0, memory_order_relaxed);
  if (++pool->generation <= CLOSING) pool->generation = CLOSING + 1;
  const uint64_t word = (uint64_t)pool->generation << TILE_BITS | (uint64_t)tiles;
  publish(pool, word);
  work(pool, word);
  for (int spins = 0; atomic_load_explicit(&pool->finished, memory_order_acquire) != tiles;)
    if (spins++ < SPINS)
      SPIN_PAUSE();
    else
      sched_yield();
}

int pool_threads(const struct pool *pool) { return pool->threads; }

/* Workers leave signals to the host's own threads. */
static descent_status start_workers(struct pool *pool, int threads) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int error = 0;
  while (pool->threads < threads && !error) {
    error = pthread_create(&pool->workers[pool->threads - 1], NULL, worker, pool);
    if (!error) pool->threads++;
  }
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (!error) return DESCENT_OK;
  return status_set(DESCENT_ERROR_DEVICE, "cannot start thread %d of %d: %s", pool->threads + 1, threads,
                    strerror(error));
}

descent_status pool_create(int threads, struct pool **result) {
  struct pool *pool = memory_allocate(1, sizeof *pool + (size_t)threads * sizeof *pool->workers, "the pool of threads");
  if (!pool) return DESCENT_ERROR_MEMORY;
  pool->threads = 1;
  pool->generation = CLOSING;
  pthread_mutex_init(&pool->mutex, NULL);
  pthread_cond_init(&pool->opened, NULL);
  descent_status status;
  TRY(start_workers(pool, threads));
  *result = pool;
  pool = NULL;
done:
  pool_free(pool);
  return status;
}

void pool_free(struct pool *pool) {
  if (!pool) return;
  publish(pool, (uint64_t)CLOSING << TILE_BITS);
  for (int i = 0; i < pool->threads - 1; i++) pthread_join(pool->workers[i], NULL);
  pthread_cond_destroy(&pool->opened);
  pthread_mutex_destroy(&pool->mutex);
  free(pool);
}
