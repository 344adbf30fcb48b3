/* The sum over ranks: from GPU to GPU where they are connected, or else through host memory: the device's values are
 * copied to pinned memory, added there by the plan's communicator, and copied back. */
#ifndef DESCENT_KERNELS_RANKS_H
#define DESCENT_KERNELS_RANKS_H

#include "connection.h"
#include "layout.h"

struct rank_sums {
  float *gradients; /* pinned: (n) as in the plan, without padding; NULL: the plan has no sum over ranks */
  double *loss;     /* pinned */
  struct connection connection;
};

/* Allocates what the plan's allreduce needs. */
descent_status ranks_prepare(struct rank_sums *sums, const struct backend_device *device,
                             const struct device_buffers *buffers, struct device_memory *memory);
void ranks_release(struct rank_sums *sums);
/* As struct plan_allreduce. Through host memory it waits for the stream, and for the other ranks. */
descent_status ranks_sum(const struct rank_sums *sums, const struct device_buffers *buffers,
                         const struct plan_allreduce *op, cudaStream_t stream);
/* How it does that, for people: "nccl", "host memory", or "" where nothing is exchanged. */
const char *ranks_path(const struct rank_sums *sums);

#endif
