/* What the GPUs of the ranks send each other through NCCL: the slices of their gradients and the sums of these. A single
 * rank sends all of its gradients to itself and back, which takes the same way. */
#ifndef DESCENT_KERNELS_EXCHANGE_H
#define DESCENT_KERNELS_EXCHANGE_H

#include <stdint.h>

#include "nccl.h"

struct exchange {
  struct nccl nccl;
  ncclComm_t comm; /* NULL: not connected */
  int rank, ranks;
  float *gradients, *received; /* (n); (ranks, width), scratch: this rank's slice as the others have it */
  double *loss, *losses;       /* SCALAR_LOSS; (ranks), scratch: that of the others */
  int64_t n, width;            /* of the flat buffers with their padding; of a slice: rank r adds the r-th */
};

/* The first enqueues that each rank receives its slice of every other rank's gradients, and their losses; the second adds
 * them; with the third each rank sends the sum to every other. Of one rank the second overwrites what was sent, with NaN,
 * so that the result is what has come back. */
ncclResult_t exchange_scatter(const struct exchange *exchange, cudaStream_t stream);
cudaError_t exchange_add(const struct exchange *exchange, cudaStream_t stream);
ncclResult_t exchange_collect(const struct exchange *exchange, cudaStream_t stream);

/* How many ranks each rank sends to: the others, or itself. */
int exchange_peers(const struct exchange *exchange);
/* Each rank sends n floats to each of its peers, from `sent` (peers, n) to `received` (peers, n). */
ncclResult_t exchange_floats(const struct exchange *exchange, const float *sent, float *received, int64_t n,
                             cudaStream_t stream);

#endif
