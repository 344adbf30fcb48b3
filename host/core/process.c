/* Counts forks: see process.h. */
#include "core/process.h"

#include <pthread.h>

static uint32_t generation = 1; /* atomic */

static void count_fork(void) { __atomic_add_fetch(&generation, 1, __ATOMIC_RELAXED); }
static void watch_forks(void) { pthread_atfork(NULL, NULL, count_fork); }

uint32_t process_generation(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, watch_forks);
  return __atomic_load_n(&generation, __ATOMIC_RELAXED);
}
