/* Messages between ranks, each phase a group of NCCL. Every rank lists its messages from the rank after it on, so that not
 * all send to the same one first. A message of a rank to itself needs its receipt in the same group, and another place:
 * NCCL refuses the first otherwise, and leaves out messages from a place to the same place. */
#include "exchange.h"

#include "kernels.h"

static int64_t slice_begin(const struct exchange *e, int rank) {
  const int64_t begin = rank * e->width;
  return begin < e->n ? begin : e->n;
}

static size_t slice_length(const struct exchange *e, int rank) {
  return (size_t)(slice_begin(e, rank + 1) - slice_begin(e, rank));
}

int exchange_peers(const struct exchange *e) { return e->ranks > 1 ? e->ranks - 1 : 1; }

static int receiver(const struct exchange *e, int peer) { return (e->rank + 1 + peer) % e->ranks; }
static int sender(const struct exchange *e, int peer) {
  return (e->rank + e->ranks - (1 + peer) % e->ranks) % e->ranks;
}

static ncclResult_t send_floats(const struct exchange *e, const float *data, size_t n, int to, cudaStream_t stream) {
  return n ? e->nccl.ncclSend(data, n, ncclFloat32, to, e->comm, stream) : ncclSuccess;
}

static ncclResult_t receive_floats(const struct exchange *e, float *data, size_t n, int from, cudaStream_t stream) {
  return n ? e->nccl.ncclRecv(data, n, ncclFloat32, from, e->comm, stream) : ncclSuccess;
}

/* Sends one double and receives one. */
static ncclResult_t pass_loss(const struct exchange *e, const double *sent, int to, double *received, int from,
                              cudaStream_t stream) {
  const ncclResult_t result = e->nccl.ncclSend(sent, 1, ncclFloat64, to, e->comm, stream);
  return result != ncclSuccess ? result : e->nccl.ncclRecv(received, 1, ncclFloat64, from, e->comm, stream);
}

static ncclResult_t end_group(const struct exchange *e, ncclResult_t result) {
  const ncclResult_t ended = e->nccl.ncclGroupEnd();
  return result != ncclSuccess ? result : ended;
}

/* Empty slices are left out, on both sides. */
ncclResult_t exchange_scatter(const struct exchange *e, cudaStream_t stream) {
  ncclResult_t result = e->nccl.ncclGroupStart();
  for (int i = 0; i < exchange_peers(e) && result == ncclSuccess; i++) {
    const int to = receiver(e, i), from = sender(e, i);
    result = send_floats(e, e->gradients + slice_begin(e, to), slice_length(e, to), to, stream);
    if (result == ncclSuccess)
      result = receive_floats(e, e->received + from * e->width, slice_length(e, e->rank), from, stream);
    if (result == ncclSuccess) result = pass_loss(e, e->loss, to, e->losses + from, from, stream);
  }
  return end_group(e, result);
}

/* All bits set are a NaN. */
static cudaError_t overwrite(const struct exchange *e, cudaStream_t stream) {
  const cudaError_t error = cudaMemsetAsync(e->gradients, 0xff, (size_t)e->n * sizeof *e->gradients, stream);
  return error != cudaSuccess ? error : cudaMemsetAsync(e->loss, 0xff, sizeof *e->loss, stream);
}

cudaError_t exchange_add(const struct exchange *e, cudaStream_t stream) {
  const struct rank_sum_launch launch = {
      .own = e->gradients + slice_begin(e, e->rank),
      .received = e->received,
      .n = (int64_t)slice_length(e, e->rank),
      .width = e->width,
      .loss = e->loss,
      .losses = e->losses,
      .ranks = e->ranks,
      .rank = e->rank,
  };
  return e->ranks == 1 ? overwrite(e, stream) : launch_rank_sum(&launch, stream);
}

ncclResult_t exchange_collect(const struct exchange *e, cudaStream_t stream) {
  const float *const sum = e->ranks == 1 ? e->received : e->gradients + slice_begin(e, e->rank);
  ncclResult_t result = e->nccl.ncclGroupStart();
  for (int i = 0; i < exchange_peers(e) && result == ncclSuccess; i++) {
    const int to = receiver(e, i), from = sender(e, i);
    result = send_floats(e, sum, slice_length(e, e->rank), to, stream);
    if (result == ncclSuccess)
      result = receive_floats(e, e->gradients + slice_begin(e, from), slice_length(e, from), from, stream);
  }
  if (result == ncclSuccess && e->ranks == 1) result = pass_loss(e, e->losses, 0, e->loss, 0, stream);
  return end_group(e, result);
}

ncclResult_t exchange_floats(const struct exchange *e, const float *sent, float *received, int64_t n,
                             cudaStream_t stream) {
  ncclResult_t result = e->nccl.ncclGroupStart();
  for (int i = 0; i < exchange_peers(e) && result == ncclSuccess; i++) {
    result = send_floats(e, sent + i * n, (size_t)n, receiver(e, i), stream);
    if (result == ncclSuccess) result = receive_floats(e, received + i * n, (size_t)n, sender(e, i), stream);
  }
  return end_group(e, result);
}
