/* Connecting the ranks, their sum, and waits with a time limit. Every rank takes the same decisions from the same facts, so
 * that none waits for a call that another does not make. */
#include "connection.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "limited.h"

enum { SLICE_ALIGN = 16 }; /* floats */

#define HOW_TO_CONTINUE "(NCCL_DEBUG=INFO shows more; DESCENT_NCCL=off exchanges gradients through host memory)"

/* ---- the sum ---- */

static descent_status nccl_failed(const struct connection *c, const char *what, ncclResult_t result) {
  return module_status(DESCENT_ERROR_DEVICE, "%s through NCCL failed: %s " HOW_TO_CONTINUE, what,
                       c->exchange.nccl.ncclGetErrorString(result));
}

#define NCCL_TRY(c, what, call)                                               \
  do {                                                                        \
    const ncclResult_t nccl_result_ = (call);                                 \
    if (nccl_result_ != ncclSuccess) TRY(nccl_failed(c, what, nccl_result_)); \
  } while (0)

descent_status connection_check(const struct connection *c) {
  if (!c->failed) return DESCENT_OK;
  return module_status(DESCENT_ERROR_DEVICE, "the connection between the ranks failed earlier: start all ranks again");
}

descent_status connection_sum(const struct connection *c, cudaStream_t stream) {
  static const char what[] = "the exchange of gradients";
  descent_status status;
  TRY(connection_check(c));
  NCCL_TRY(c, what, exchange_scatter(&c->exchange, stream));
  launch_next_plainly(); /* NCCL lets the stream wait for streams that it has */
  CUDA_TRY(exchange_add(&c->exchange, stream));
  NCCL_TRY(c, what, exchange_collect(&c->exchange, stream));
  launch_next_plainly();
done:
  return status;
}

descent_status connection_floats(const struct connection *c, const float *sent, float *received, int64_t n,
                                 cudaStream_t stream) {
  descent_status status;
  TRY(connection_check(c));
  NCCL_TRY(c, "the exchange of large messages", exchange_floats(&c->exchange, sent, received, n, stream));
  launch_next_plainly();
done:
  return status;
}

/* ---- the end of a connection ---- */

/* Aborting and destroying may wait for other ranks, or for the device, without end. */
struct ending {
  struct limited_call call; /* first */
  struct nccl nccl;
  ncclComm_t comm;
  int ordinal;
  bool aborts;
};

static void run_ending(struct limited_call *call) {
  struct ending *const ending = (struct ending *)call;
  (void)cudaSetDevice(ending->ordinal);
  (void)(ending->aborts ? ending->nccl.ncclCommAbort : ending->nccl.ncclCommDestroy)(ending->comm);
}

static void release_ending(struct limited_call *call) { free(call); }

/* Where there is no memory or thread for it, the communicator is left to the end of the process. */
static void end_communicator(struct connection *c, bool aborts) {
  struct ending *const ending = module_allocate(1, sizeof *ending, "the end of the connection");
  if (ending) {
    *ending = (struct ending){.call = {.run = run_ending, .release = release_ending},
                              .nccl = c->exchange.nccl,
                              .comm = c->exchange.comm,
                              .ordinal = c->device->ordinal,
                              .aborts = aborts};
    if (limited_run(&ending->call, c->communicator->seconds) != LIMITED_LEFT) free(ending);
  }
  c->exchange.comm = NULL;
}

void connection_holds(struct connection *c, cudaGraphExec_t *graph) {
  if (c->n_graphs < EXCHANGE_GRAPHS) c->graphs[c->n_graphs++] = graph;
}

void connection_forgets(struct connection *c, const cudaGraphExec_t *graph) {
  if (c->n_graphs > 0 && c->graphs[c->n_graphs - 1] == graph) c->n_graphs--;
}

/* What the device waits for ends, and so do the waits for it. The communicator knows that the ranks have lost each
 * other's place, so that no later call waits for them. NCCL counts the graphs that hold its exchanges, and an abort waits
 * until they are destroyed and what was launched of them is over. */
static void give_up(struct connection *c) {
  c->failed = true;
  c->communicator->broken = true;
  for (int i = 0; i < c->n_graphs; i++) {
    if (*c->graphs[i]) (void)cudaGraphExecDestroy(*c->graphs[i]);
    *c->graphs[i] = NULL;
  }
  end_communicator(c, true);
}

/* ---- waiting ---- */

/* This rank has waited for others for too long. Every rank that still runs notices it at about the same time, so that a
 * rank that does not answer here is the lost one, and the error names it. No other message has this length. */
static descent_status find_lost(struct connection *c) {
  const struct rank_facts own = {0};
  return c->communicator->gather(c->communicator, &own, sizeof own, c->facts);
}

static descent_status not_exchanged(const struct connection *c) {
  return module_status(DESCENT_ERROR_DEVICE,
                       "the connection between the ranks failed: no gradients have arrived through NCCL for %g s, "
                       "though all ranks still run: allow more time " HOW_TO_CONTINUE,
                       c->communicator->seconds);
}

static descent_status is_ready(cudaEvent_t event, bool *ready) {
  const cudaError_t error = cudaEventQuery(event);
  descent_status status = DESCENT_OK;
  *ready = error == cudaSuccess;
  if (error == cudaErrorNotReady)
    (void)cudaGetLastError();
  else
    CUDA_TRY(error);
done:
  return status;
}

/* Is the device in an exchange, or waits for one? */
static descent_status see_exchange(struct connection *c, bool *is_in) {
  bool passed = true;
  descent_status status = DESCENT_OK;
  *is_in = false;
  while (c->finished < c->started) {
    TRY(is_ready(c->passed[c->finished % EXCHANGES], &passed));
    if (!passed) break;
    c->finished++;
  }
  if (c->finished < c->started) TRY(is_ready(c->reached[c->finished % EXCHANGES], is_in));
done:
  return status;
}

/* Waits for the stream or, where it is not NULL, the event. The time in an exchange counts, and not that of what is queued
 * before it; `counts`: all of it. */
static descent_status wait_for(struct connection *c, cudaStream_t stream, cudaEvent_t event, bool counts) {
  const double begin = clock_seconds();
  double since = begin; /* the device has been in the exchange */
  int64_t exchange = c->finished;
  bool was_in = counts;
  descent_status status = DESCENT_OK;
  for (;;) {
    const cudaError_t error = event ? cudaEventQuery(event) : cudaStreamQuery(stream);
    ncclResult_t result = ncclSuccess;
    bool is_in = false;
    if (error != cudaErrorNotReady) {
      CUDA_TRY(error);
      return DESCENT_OK;
    }
    (void)cudaGetLastError();
    NCCL_TRY(c, "the exchange of gradients", c->exchange.nccl.ncclCommGetAsyncError(c->exchange.comm, &result));
    NCCL_TRY(c, "the exchange of gradients", result);
    TRY(see_exchange(c, &is_in));
    is_in |= counts;
    if (!is_in || !was_in || exchange != c->finished) since = clock_seconds();
    was_in = is_in;
    exchange = c->finished;
    if (clock_seconds() - since > c->communicator->seconds) {
      TRY(find_lost(c));
      TRY(not_exchanged(c));
    }
    limited_pause(clock_seconds() - begin);
  }
done:
  give_up(c);
  return status;
}

descent_status connection_settle(struct connection *c, cudaStream_t stream) {
  bool is_in;
  descent_status status = DESCENT_OK;
  if (!c->exchange.comm) return status;
  TRY(see_exchange(c, &is_in));
  if (c->finished < c->started) status = wait_for(c, stream, NULL, false);
done:
  return status;
}

descent_status connection_await(struct connection *c, cudaEvent_t event) {
  bool is_in;
  descent_status status = DESCENT_OK;
  if (c->exchange.comm) {
    TRY(see_exchange(c, &is_in));
    if (c->finished < c->started) return wait_for(c, NULL, event, false);
  }
  CUDA_TRY(cudaEventSynchronize(event));
done:
  return status;
}

descent_status connection_begin(struct connection *c, cudaStream_t stream) {
  descent_status status = DESCENT_OK;
  if (!c->exchange.comm) return status;
  if (c->started - c->finished == EXCHANGES) TRY(connection_await(c, c->passed[c->started % EXCHANGES]));
  if (c->started - c->finished == EXCHANGES) c->finished++;
  CUDA_TRY(cudaEventRecord(c->reached[c->started % EXCHANGES], stream));
done:
  return status;
}

descent_status connection_end(struct connection *c, cudaStream_t stream) {
  descent_status status = DESCENT_OK;
  if (!c->exchange.comm) return status;
  CUDA_TRY(cudaEventRecord(c->passed[c->started % EXCHANGES], stream));
  c->started++;
done:
  return status;
}

/* ---- what all ranks know of each other ---- */

static bool share_a_gpu(const struct rank_facts *a, const struct rank_facts *b) {
  return memcmp(a->uuid, b->uuid, sizeof a->uuid) == 0 ||
         (strcmp(a->host, b->host) == 0 && strcmp(a->gpu, b->gpu) == 0);
}

bool connection_is_possible(const struct rank_facts *facts, int ranks, char *reason, size_t size) {
  char version[16], first[16];
  *reason = 0;
  if (ranks > RANKS_MOST) snprintf(reason, size, "NCCL is used for at most %d ranks", RANKS_MOST);
  for (int r = 0; r < ranks && !*reason; r++) {
    if (facts[r].version == 0) snprintf(reason, size, "rank %d (%s): %s", r, facts[r].host, facts[r].problem);
    for (int other = 0; other < r && !*reason; other++)
      if (share_a_gpu(&facts[other], &facts[r])) snprintf(reason, size, "ranks %d and %d share a GPU", other, r);
  }
  for (int r = 1; r < ranks && !*reason; r++) {
    nccl_version_text(facts[0].version, first, sizeof first);
    nccl_version_text(facts[r].version, version, sizeof version);
    if (facts[r].version != facts[0].version)
      snprintf(reason, size, "rank %d (%s) has NCCL %s, rank 0 %s", r, facts[r].host, version, first);
    else if (facts[r].n != facts[0].n)
      snprintf(reason, size, "rank %d (%s) lays out its gradients differently", r, facts[r].host);
  }
  return !*reason;
}

static void find_facts(const struct connection *c, struct rank_facts *facts) {
  struct cudaDeviceProp properties = {0};
  memset(facts, 0, sizeof *facts);
  snprintf(facts->host, sizeof facts->host, "%s", c->communicator->transport->host);
  facts->version = c->exchange.nccl.version;
  snprintf(facts->problem, sizeof facts->problem, "%.159s", c->text);
  facts->n = c->exchange.n;
  if (cudaGetDeviceProperties(&properties, c->device->ordinal) != cudaSuccess) {
    (void)cudaGetLastError();
    facts->version = 0;
    snprintf(facts->problem, sizeof facts->problem, "its GPU does not answer");
  }
  snprintf(facts->gpu, sizeof facts->gpu, "%04x:%02x:%02x", (unsigned)properties.pciDomainID & 0xffff,
           (unsigned)properties.pciBusID & 0xff, (unsigned)properties.pciDeviceID & 0xff);
  memcpy(facts->uuid, properties.uuid.bytes, sizeof facts->uuid);
}

/* ---- connecting ---- */

/* Calls of NCCL that set something up end only when all ranks make them. What they use is the attempt's, until it is
 * done. */
struct attempt {
  struct limited_call call; /* first */
  struct exchange exchange; /* a copy, with scratch as gradients and loss; `comm` once it is made */
  ncclUniqueId id;
  int ordinal;
  cudaStream_t stream;
  cudaError_t error;
  ncclResult_t result;
};

static bool may_continue(struct attempt *attempt) {
  return attempt->error == cudaSuccess && attempt->result == ncclSuccess && !limited_is_left(&attempt->call);
}

/* The first exchange between two ranks connects them. */
static void connect_ranks(struct limited_call *call) {
  struct attempt *const attempt = (struct attempt *)call;
  struct exchange *const e = &attempt->exchange;
  attempt->error = cudaSetDevice(attempt->ordinal);
  if (may_continue(attempt)) attempt->result = e->nccl.ncclCommInitRank(&e->comm, e->ranks, attempt->id, e->rank);
  if (may_continue(attempt)) attempt->result = exchange_scatter(e, attempt->stream);
  launch_next_plainly();
  if (may_continue(attempt)) attempt->error = exchange_add(e, attempt->stream);
  if (may_continue(attempt)) attempt->result = exchange_collect(e, attempt->stream);
}

static void free_attempt(struct attempt *attempt) {
  if (!attempt) return;
  if (attempt->stream) (void)cudaStreamDestroy(attempt->stream);
  device_memory_free(attempt->exchange.gradients); /* waits for the device */
  free(attempt);
}

/* On the thread that was left. */
static void release_attempt(struct limited_call *call) {
  struct attempt *const attempt = (struct attempt *)call;
  if (attempt->exchange.comm) (void)attempt->exchange.nccl.ncclCommAbort(attempt->exchange.comm);
  device_memory_free(attempt->exchange.received);
  device_memory_free(attempt->exchange.losses);
  free_attempt(attempt);
}

/* The attempt exchanges scratch memory on a separate stream: it may outlive the rest. What it sends lies apart from what it
 * receives, as NCCL requires. */
static descent_status prepare_attempt(const struct connection *c, struct attempt **made) {
  const int64_t floats = c->exchange.ranks * c->exchange.width; /* at least n; the loss behind it is aligned */
  struct attempt *const attempt = *made = module_allocate(1, sizeof *attempt, "the connection of the ranks");
  struct device_memory memory = {0};
  descent_status status = DESCENT_OK;
  if (!attempt) return DESCENT_ERROR_MEMORY;
  attempt->call = (struct limited_call){.run = connect_ranks, .release = release_attempt};
  attempt->exchange = c->exchange;
  attempt->exchange.gradients = NULL;
  attempt->ordinal = c->device->ordinal;
  CUDA_TRY(cudaStreamCreateWithFlags(&attempt->stream, cudaStreamNonBlocking));
  memory.stream = attempt->stream;
  TRY(device_memory_take(&memory, floats * (int64_t)sizeof(float) + (int64_t)sizeof(double), "connecting the ranks",
                         (void **)&attempt->exchange.gradients));
  attempt->exchange.loss = (double *)(void *)(attempt->exchange.gradients + floats);
done:
  return status;
}

/* What the thread uses is left to it. */
static descent_status leave(struct connection *c) {
  descent_status status;
  c->exchange.received = NULL;
  c->exchange.losses = NULL;
  TRY(find_lost(c));
  status = module_status(DESCENT_ERROR_DEVICE,
                         "the connection between the ranks failed: NCCL has not connected them within %g s, though all "
                         "still run: allow more time " HOW_TO_CONTINUE,
                         c->communicator->seconds);
done:
  c->failed = c->communicator->broken = true;
  return status;
}

/* Takes over the attempt. */
static descent_status connect_in_time(struct connection *c, struct attempt *attempt) {
  descent_status status = DESCENT_OK;
  switch (limited_run(&attempt->call, c->communicator->seconds)) {
    case LIMITED_LEFT: return leave(c);
    case LIMITED_NOT_STARTED:
      TRY(module_status(DESCENT_ERROR_MEMORY, "cannot start the thread that connects the ranks"));
      break;
    case LIMITED_DONE: break;
  }
  c->exchange.comm = attempt->exchange.comm;
  if (attempt->error != cudaSuccess)
    TRY(module_cuda_failed(attempt->error, "connecting the ranks", __FILE__, __LINE__));
  NCCL_TRY(c, "connecting the ranks", attempt->result);
  status = wait_for(c, attempt->stream, NULL, true);
done:
  if (status != DESCENT_OK) c->failed = c->communicator->broken = true; /* the others wait for this rank */
  if (status != DESCENT_OK && c->exchange.comm) give_up(c);
  free_attempt(attempt);
  return status;
}

/* From rank 0 to all: where its GPUs meet. From every rank: whether it can come. */
struct invitation {
  int32_t accepts;
  ncclUniqueId id;
};

static descent_status connect_all(struct connection *c, struct invitation *all) {
  const int size = c->exchange.ranks;
  struct attempt *attempt;
  descent_status status = prepare_attempt(c, &attempt);
  struct invitation own = {.accepts = status == DESCENT_OK};
  ncclResult_t result = ncclSuccess;
  bool all_accept = true;
  if (c->exchange.rank == 0) result = c->exchange.nccl.ncclGetUniqueId(&own.id);
  if (result != ncclSuccess) {
    own.accepts = 0;
    status = nccl_failed(c, "connecting the ranks", result);
  }
  const descent_status gathered = c->communicator->gather(c->communicator, &own, sizeof own, all);
  for (int r = 0; r < size; r++) all_accept &= all[r].accepts != 0;
  if (gathered != DESCENT_OK || !all_accept) {
    free_attempt(attempt);
    return gathered != DESCENT_OK ? gathered : status;
  }
  attempt->id = all[0].id;
  return connect_in_time(c, attempt);
}

descent_status connection_open(struct connection *c) {
  _Static_assert(sizeof(struct invitation) <= sizeof(struct rank_facts), "one array serves both");
  const int size = communicator_size(c->communicator);
  char reason[NCCL_PROBLEM + 2 * TRANSPORT_HOST], version[16], whose[32];
  struct rank_facts own;
  descent_status status = DESCENT_OK;
  if (!communicator_exchanges(c->communicator)) return status;
  find_facts(c, &own);
  TRY(c->communicator->gather(c->communicator, &own, sizeof own, c->facts));
  nccl_version_text(c->facts[0].version, version, sizeof version);
  if (connection_is_possible(c->facts, size, reason, sizeof reason)) TRY(connect_all(c, (struct invitation *)c->facts));
  snprintf(whose, sizeof whose, size == 1 ? "of %d rank, to itself," : "of %d ranks", size);
  if (c->exchange.comm)
    snprintf(c->text, sizeof c->text, "gradients %s through NCCL %s", whose, version);
  else
    snprintf(c->text, sizeof c->text, "gradients %s through host memory: %.190s", whose, reason);
done:
  return status;
}

bool connection_captures(const struct connection *c) {
  return c->exchange.comm && c->exchange.nccl.version >= NCCL_CAPTURED_VERSION;
}

descent_status connection_agree(const struct connection *c, bool captured, bool *all) {
  const int32_t own = captured;
  int32_t answers[RANKS_MOST];
  descent_status status;
  *all = false;
  TRY(c->communicator->gather(c->communicator, &own, sizeof own, answers));
  *all = true;
  for (int r = 0; r < c->exchange.ranks; r++) *all &= answers[r] != 0;
done:
  return status;
}

void connection_tell_captured(struct connection *c, bool captured) {
  const size_t length = strlen(c->text);
  snprintf(c->text + length, sizeof c->text - length, "%s",
           captured ? ", in the step's graph" : ", launched by the host");
}

descent_status connection_prepare(struct connection *c, const struct backend_device *device,
                                  struct descent_communicator *communicator, float *gradients, int64_t n, double *loss,
                                  struct device_memory *memory) {
  const int64_t size = communicator_size(communicator);
  struct exchange *const e = &c->exchange;
  descent_status status = DESCENT_OK;
  c->device = device;
  c->communicator = communicator;
  *e = (struct exchange){.rank = communicator_rank(communicator),
                         .ranks = (int)size,
                         .gradients = gradients,
                         .loss = loss,
                         .n = n,
                         .width = ((n + size - 1) / size + SLICE_ALIGN - 1) / SLICE_ALIGN * SLICE_ALIGN};
  c->facts = module_allocate(size, sizeof *c->facts, "what the ranks have");
  if (!c->facts) TRY(DESCENT_ERROR_MEMORY);
  if (!nccl_load(&e->nccl, c->text)) {
    e->nccl = (struct nccl){0};
    goto done;
  }
  TRY(device_memory_take(memory, size * e->width * (int64_t)sizeof *e->received, "gradients of other ranks",
                         (void **)&e->received));
  TRY(device_memory_take(memory, size * (int64_t)sizeof *e->losses, "losses of other ranks", (void **)&e->losses));
  for (int i = 0; i < EXCHANGES; i++) {
    CUDA_TRY(cudaEventCreateWithFlags(&c->reached[i], cudaEventDisableTiming));
    CUDA_TRY(cudaEventCreateWithFlags(&c->passed[i], cudaEventDisableTiming));
  }
done:
  return status;
}

void connection_close(struct connection *c, cudaStream_t stream) {
  if (!c->exchange.comm) return;
  if (c->communicator->broken)
    give_up(c);
  else
    (void)connection_settle(c, stream);
}

void connection_release(struct connection *c) {
  if (c->exchange.comm) end_communicator(c, false);
  for (int i = 0; i < EXCHANGES; i++) {
    if (c->reached[i]) (void)cudaEventDestroy(c->reached[i]);
    if (c->passed[i]) (void)cudaEventDestroy(c->passed[i]);
  }
  device_memory_free(c->exchange.received);
  device_memory_free(c->exchange.losses);
  free(c->facts);
}
