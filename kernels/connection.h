/* The GPUs of a training's ranks, connected by NCCL: gradients then go from GPU to GPU, in the order of the stream, and
 * are added by a kernel in the order of plan_combine, which gives the bits of the sum in host memory. Either all ranks are
 * connected or none is. */
#ifndef DESCENT_KERNELS_CONNECTION_H
#define DESCENT_KERNELS_CONNECTION_H

#include "core/communicator.h"
#include "device.h"
#include "device_memory.h"
#include "exchange.h"
#include "kernels.h"

/* What each rank tells the others. */
struct rank_facts {
  int32_t version; /* of NCCL; 0: there is none, `problem` says why */
  char problem[NCCL_PROBLEM];
  char host[TRANSPORT_HOST], gpu[16], uuid[16]; /* gpu: its place on the host's PCI bus */
  int64_t n;
};

/* Exchanges that are queued at most; graphs that hold them: finish with and without statistics, and one that is timed. */
enum { EXCHANGES = 4, EXCHANGE_GRAPHS = 3 };

struct connection {
  const struct backend_device *device;
  struct descent_communicator *communicator; /* NULL: one rank */
  struct exchange exchange;
  bool failed;                                       /* aborted: nothing can be exchanged any more */
  struct rank_facts *facts;                          /* (ranks) */
  cudaEvent_t reached[EXCHANGES], passed[EXCHANGES]; /* they take turns: before an exchange, and after it */
  int64_t started, finished;                         /* exchanges; finished: as far as is known */
  cudaGraphExec_t *graphs[EXCHANGE_GRAPHS];          /* that hold exchanges */
  int n_graphs;
  char text[256]; /* how gradients are exchanged, for people; before: why this rank has no NCCL */
};

/* Takes the scratch memory, where this rank has NCCL. `gradients` and `loss`: on the device. */
descent_status connection_prepare(struct connection *connection, const struct backend_device *device,
                                  struct descent_communicator *communicator, float *gradients, int64_t n, double *loss,
                                  struct device_memory *memory);
/* Before the program is released: ends what the device waits for. */
void connection_close(struct connection *connection, cudaStream_t stream);
void connection_release(struct connection *connection);

/* Collective. Connects the ranks if NCCL can be used on all of them; then runs connection_sum once, so that the first of
 * a training does not set up anything. */
descent_status connection_open(struct connection *connection);
/* Can its sum be part of a graph? */
bool connection_captures(const struct connection *connection);
/* Collective, after each rank has captured the same range, or could not. NCCL needs an exchange to be captured on all ranks
 * or on none: *all says whether all could. */
descent_status connection_agree(const struct connection *connection, bool captured, bool *all);
/* Completes the text. */
void connection_tell_captured(struct connection *connection, bool captured);
/* A graph that holds the sum, and would keep NCCL from being aborted: it is destroyed before, and becomes NULL. */
void connection_holds(struct connection *connection, cudaGraphExec_t *graph);
/* The last one of them is no longer such a graph. */
void connection_forgets(struct connection *connection, const cudaGraphExec_t *graph);
/* Enqueues the sum on the stream: gradients and loss become their sums over the ranks. */
descent_status connection_sum(const struct connection *connection, cudaStream_t stream);

/* Enqueues exchange_floats. */
descent_status connection_floats(const struct connection *connection, const float *sent, float *received, int64_t n,
                                 cudaStream_t stream);

/* Around each of them, or each launch of a range with the sum: marks in the stream when the exchange is reached and when it has passed. */
descent_status connection_begin(struct connection *connection, cudaStream_t stream);
descent_status connection_end(struct connection *connection, cudaStream_t stream);

/* ERROR_DEVICE where the connection has failed. */
descent_status connection_check(const struct connection *connection);

/* Where an exchange is queued, a wait for the device is a wait for other ranks. These replace endless ones: ERROR_DEVICE
 * where the device has been in an exchange for longer than the communicator's time limit, or where NCCL reports a
 * failure. The connection is then aborted, which ends what the device waits for. Without such an exchange, settle does
 * nothing and await waits for the event as usual. */
descent_status connection_settle(struct connection *connection, cudaStream_t stream);
descent_status connection_await(struct connection *connection, cudaEvent_t event);

/* False, with the reason, where these ranks cannot be connected. The same on all of them. */
bool connection_is_possible(const struct rank_facts *facts, int ranks, char *reason, size_t size);

#endif
