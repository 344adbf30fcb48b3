/* The sum over ranks, through host memory: the device's values are copied to pinned memory, added there by the plan's
 * communicator, and copied back. */
#ifndef DESCENT_KERNELS_RANKS_H
#define DESCENT_KERNELS_RANKS_H

#include "layout.h"

struct rank_sums {
  float *gradients; /* pinned: (n) as in the plan, without padding; NULL: the plan has no sum over ranks */
  double *loss;     /* pinned */
};

/* Allocates what the plan's allreduce needs. */
descent_status ranks_prepare(struct rank_sums *sums, const struct plan *plan);
void ranks_release(struct rank_sums *sums);
/* As struct plan_allreduce. Waits for the stream, and for the other ranks. */
descent_status ranks_sum(const struct rank_sums *sums, const struct device_buffers *buffers,
                         const struct plan_allreduce *op, cudaStream_t stream);

#endif
