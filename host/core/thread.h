/* Threads of the library. */
#ifndef DESCENT_CORE_THREAD_H
#define DESCENT_CORE_THREAD_H

#include <pthread.h>
#include <signal.h>

/* pthread_create with all signals blocked, so that they reach the caller's threads. */
static inline int thread_create(pthread_t *thread, void *(*run)(void *argument), void *argument) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const int failed = pthread_create(thread, NULL, run, argument);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return failed;
}

#endif
