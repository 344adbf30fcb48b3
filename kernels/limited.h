/* Calls that may never return, such as those of NCCL that need other ranks: a thread makes the call, and its caller waits
 * for a limited time. */
#ifndef DESCENT_KERNELS_LIMITED_H
#define DESCENT_KERNELS_LIMITED_H

#include <pthread.h>
#include <stdbool.h>

/* The first member of what the call uses. */
struct limited_call {
  pthread_mutex_t lock;
  bool done, left;
  void (*run)(struct limited_call *call);
  /* On the thread, after a call that was left: frees the struct, and all else that the call used. */
  void (*release)(struct limited_call *call);
};

enum limited_end {
  LIMITED_DONE,
  LIMITED_LEFT,       /* the thread cannot be ended, and keeps the struct until the call returns, or the process ends,
                       * which waits some seconds for it */
  LIMITED_NOT_STARTED /* no thread */
};

/* Runs the call for `seconds` at most. Unless it was left, the caller keeps the struct. */
enum limited_end limited_run(struct limited_call *call, double seconds);
/* For `run`, before each of its phases: does nothing wait for the call any more? */
bool limited_is_left(struct limited_call *call);

/* Between two looks at whether something is done, after `waited` seconds: often at first, then every 50 microseconds. A
 * step may take less, and a processor has other ranks to run. */
void limited_pause(double waited);

#endif
