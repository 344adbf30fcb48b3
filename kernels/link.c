/* All ranks exchange large messages with all others at once, several times, after a first exchange that also lets them start
 * together. As in a training, an exchange is over when the slowest rank has its messages. */
#include "link.h"

enum { ROUNDS = 5, SENT_BYTES = 32 << 20 }; /* a rank sends so much, and receives as much: scratch of 64 MiB */
enum { MESSAGE_ALIGN = 32 };                /* floats: NCCL copies aligned messages faster */

struct link_test {
  float *sent, *received; /* (peers, n) on the device */
  int64_t n;
  cudaEvent_t begin, end; /* of the rounds behind the first */
};

static descent_status prepare(const struct connection *c, cudaStream_t stream, struct link_test *test) {
  const int peers = exchange_peers(&c->exchange);
  struct device_memory memory = {.stream = stream};
  descent_status status;
  test->n = SENT_BYTES / (int64_t)sizeof *test->sent / peers / MESSAGE_ALIGN * MESSAGE_ALIGN;
  const int64_t bytes = peers * test->n * (int64_t)sizeof *test->sent;
  TRY(device_memory_take(&memory, bytes, "messages between ranks", (void **)&test->sent));
  TRY(device_memory_take(&memory, bytes, "messages between ranks", (void **)&test->received));
  CUDA_TRY(cudaEventCreate(&test->begin));
  CUDA_TRY(cudaEventCreate(&test->end));
done:
  return status;
}

static void release(struct link_test *test) {
  if (test->begin) (void)cudaEventDestroy(test->begin);
  if (test->end) (void)cudaEventDestroy(test->end);
  device_memory_free(test->sent);
  device_memory_free(test->received);
}

/* The smallest and the largest of the ranks' numbers. */
static descent_status compare(struct connection *c, double own, double *least, double *most) {
  double all[RANKS_MOST];
  descent_status status;
  TRY(c->communicator->gather(c->communicator, &own, sizeof own, all));
  *least = *most = own;
  for (int r = 0; r < c->exchange.ranks; r++) {
    if (all[r] < *least) *least = all[r];
    if (all[r] > *most) *most = all[r];
  }
done:
  return status;
}

static descent_status enqueue_rounds(struct connection *c, cudaStream_t stream, const struct link_test *test) {
  descent_status status = DESCENT_OK;
  for (int round = 0; round <= ROUNDS; round++) {
    if (round == 1) CUDA_TRY(cudaEventRecord(test->begin, stream));
    TRY(connection_begin(c, stream));
    const descent_status enqueued = connection_floats(c, test->sent, test->received, test->n, stream);
    TRY(connection_end(c, stream));
    TRY(enqueued);
  }
  CUDA_TRY(cudaEventRecord(test->end, stream));
done:
  return status;
}

descent_status link_measure(struct connection *c, cudaStream_t stream, double *bandwidth) {
  struct link_test test = {0};
  float milliseconds;
  double least, most;
  descent_status status, prepared, settled;
  *bandwidth = 0;
  TRY(connection_check(c));
  if (!c->exchange.comm) return DESCENT_OK;
  prepared = prepare(c, stream, &test);
  TRY(compare(c, prepared == DESCENT_OK, &least, &most));
  TRY(prepared);
  if (least == 0)
    TRY(module_status(DESCENT_ERROR_MEMORY, "a rank has no GPU memory to measure the links between ranks"));
  status = enqueue_rounds(c, stream, &test);
  settled = connection_settle(c, stream); /* what is queued uses the memory */
  TRY(status != DESCENT_OK ? status : settled);
  CUDA_TRY(cudaEventSynchronize(test.end));
  CUDA_TRY(cudaEventElapsedTime(&milliseconds, test.begin, test.end));
  TRY(compare(c, 1e-3 * (double)milliseconds, &least, &most));
  if (most > 0) *bandwidth = (double)(ROUNDS * exchange_peers(&c->exchange) * test.n) * sizeof *test.sent / most;
done:
  release(&test);
  return status;
}
