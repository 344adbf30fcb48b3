/* The monotonic clock of the library and the command. */
#ifndef DESCENT_CORE_CLOCK_H
#define DESCENT_CORE_CLOCK_H

#include <time.h>

/* Seconds since an arbitrary start; never decreases. */
static inline double clock_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#endif
