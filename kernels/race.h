/* Timing of the candidates that passed their trials. */
#ifndef DESCENT_KERNELS_RACE_H
#define DESCENT_KERNELS_RACE_H

#include "facts.h"
#include "module.h"

/* What the candidates have in common. */
struct race_setup {
  cudaStream_t stream;
  int64_t cache;  /* bytes of the device's L2; 0: unknown */
  char *operands; /* device memory that holds all that a launch reads and writes, beside scratch */
  int64_t bytes;
  /* Enqueues a launch on the copy of the operands that is `shift` bytes away. *ran is false if it is refused. */
  descent_status (*launch)(const void *context, const struct candidate *candidate, ptrdiff_t shift, bool *ran);
  const void *context;
};

/* Sets the seconds of each candidate and sorts the candidates, fastest first. A candidate that cannot be captured gets
 * the verdict "not_captured" and comes last. Takes about 2 ms for each candidate, at most 20 ms or, where one launch
 * takes longer than 2.5 ms, four launches. */
descent_status race_run(const struct race_setup *setup, struct candidate candidates[], int n);

#endif
