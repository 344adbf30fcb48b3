/* What tests set and read of the stand-in for NCCL, whose symbol is `emulated_nccl`. Its function emulated_nccl_settle()
 * makes what other threads have written visible and returns `live`; emulated_nccl_release() ends its waits, now and later. */
#ifndef DESCENT_TESTS_CUDA_NCCL_CONTROLS_H
#define DESCENT_TESTS_CUDA_NCCL_CONTROLS_H

enum { EMULATED_NCCL_DEVICES = 64 };

struct emulated_nccl {
  int version[EMULATED_NCCL_DEVICES]; /* of the library that a rank on this device finds; 0: the default */
  int silent;                         /* 1 + the device whose rank sends nothing any more; 0: none */
  int after;                          /* exchanges that are good before it is silent, or before they fail */
  int absent;                         /* 1 + the device whose rank never arrives to be connected; 0: none */
  int fails;                          /* 1 + the device whose exchanges fail; 0: none */
  int loses;                          /* 1 + the device at which messages arrive, but not what they hold; 0: none */
  int late;                           /* 1 + the device whose messages arrive later; 0: none */
  int half_made;                      /* 1 + the device whose rank is not connected, but has a communicator; 0: none */
  int uncapturable;                   /* 1 + the device whose exchanges cannot be captured; 0: none */
  double patience;                    /* seconds for which an arrival waits; 0: 30 */
  double lateness;                    /* by so many seconds */
  double slow;                        /* seconds for which an exchange is enqueued, unless it is captured */
  double parting;                     /* seconds for which a communicator is destroyed */
  int released;                       /* emulated_nccl_release() has been called */
  long long groups;                   /* exchanges that were enqueued */
  long long captured;                 /* of them, into graphs */
  long long graph_runs;               /* of exchanges, in graphs */
  long long in_place;                 /* messages from a place to the same one, which NVIDIA's library leaves out */
  long long live;                     /* communicators that exist */
  long long aborted, destroyed;
  long long stuck; /* of them, those that waited for graphs that hold exchanges and gave up */
};

#endif
