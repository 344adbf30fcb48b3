#include "limited.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "core/clock.h"

void limited_pause(double waited) {
  const struct timespec moment = {0, 50000};
  if (waited > 1e-3) (void)nanosleep(&moment, NULL);
}

/* ---- calls that were left, at the end of the process ---- */

enum { EXIT_SECONDS = 5 };
static atomic_int left_calls;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* Runs before what a call may use is destroyed: the handlers of CUDA and NCCL are registered earlier. A call that never
 * returns sleeps, and disturbs nothing. */
static void await_left_calls(void) {
  const double begin = clock_seconds();
  while (atomic_load(&left_calls) > 0 && clock_seconds() - begin < EXIT_SECONDS) limited_pause(clock_seconds() - begin);
}

static void await_at_exit(void) { (void)atexit(await_left_calls); }

/* ---- calls ---- */

bool limited_is_left(struct limited_call *call) {
  (void)pthread_mutex_lock(&call->lock);
  const bool left = call->left;
  (void)pthread_mutex_unlock(&call->lock);
  return left;
}

static void *run(void *context) {
  struct limited_call *const call = context;
  call->run(call);
  (void)pthread_mutex_lock(&call->lock);
  const bool left = call->left;
  call->done = true;
  (void)pthread_mutex_unlock(&call->lock);
  if (!left) return NULL;
  (void)pthread_mutex_destroy(&call->lock);
  call->release(call);
  (void)atomic_fetch_sub(&left_calls, 1);
  return NULL;
}

static bool is_done(struct limited_call *call, bool leaves) {
  (void)pthread_mutex_lock(&call->lock);
  const bool done = call->done;
  call->left = leaves && !done;
  if (call->left) (void)atomic_fetch_add(&left_calls, 1);
  (void)pthread_mutex_unlock(&call->lock);
  return done;
}

enum limited_end limited_run(struct limited_call *call, double seconds) {
  const double begin = clock_seconds();
  pthread_t thread;
  bool late = false;
  (void)pthread_mutex_init(&call->lock, NULL);
  call->done = call->left = false;
  if (pthread_create(&thread, NULL, run, call) != 0) {
    (void)pthread_mutex_destroy(&call->lock);
    return LIMITED_NOT_STARTED;
  }
  while (!is_done(call, late)) {
    const double waited = clock_seconds() - begin;
    if (late) {
      (void)pthread_once(&once, await_at_exit);
      (void)pthread_detach(thread);
      return LIMITED_LEFT;
    }
    late = waited > seconds;
    if (!late) limited_pause(waited);
  }
  (void)pthread_join(thread, NULL);
  (void)pthread_mutex_destroy(&call->lock);
  return LIMITED_DONE;
}
