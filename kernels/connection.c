/* Connecting the ranks, their sum, and waits with a time limit. Every rank takes the same decisions from the same facts, so
 * that none waits for a call that another does not make. */
#include "connection.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/clock.h"

enum { SLICE_ALIGN = 16 }; /* floats */

#define HOW_TO_CONTINUE "(NCCL_DEBUG=INFO shows more; DESCENT_NCCL=off exchanges gradients through host memory)"

/* ---- the sum ---- */

static int64_t slice_begin(const struct connection *c, int rank) {
  const int64_t begin = rank * c->width;
  return begin < c->n ? begin : c->n;
}

static size_t slice_length(const struct connection *c, int rank) {
  return (size_t)(slice_begin(c, rank + 1) - slice_begin(c, rank));
}

/* Each rank receives its slice of every other rank's gradients, and their losses. Empty slices are left out, on both
 * sides. */
static ncclResult_t scatter(const struct connection *c, cudaStream_t stream) {
  const int rank = communicator_rank(c->communicator), size = communicator_size(c->communicator);
  const struct nccl *const nccl = &c->nccl;
  ncclResult_t result = nccl->ncclGroupStart(), ended;
  for (int i = 1; i < size && result == ncclSuccess; i++) {
    const int to = (rank + i) % size, from = (rank - i + size) % size;
    if (slice_length(c, to))
      result = nccl->ncclSend(c->gradients + slice_begin(c, to), slice_length(c, to), ncclFloat32, to, c->comm, stream);
    if (result == ncclSuccess) result = nccl->ncclSend(c->loss, 1, ncclFloat64, to, c->comm, stream);
    if (result == ncclSuccess && slice_length(c, rank))
      result = nccl->ncclRecv(c->received + from * c->width, slice_length(c, rank), ncclFloat32, from, c->comm, stream);
    if (result == ncclSuccess) result = nccl->ncclRecv(c->losses + from, 1, ncclFloat64, from, c->comm, stream);
  }
  ended = nccl->ncclGroupEnd();
  return result != ncclSuccess ? result : ended;
}

/* Each rank sends the sum of its slice to every other. */
static ncclResult_t collect(const struct connection *c, cudaStream_t stream) {
  const int rank = communicator_rank(c->communicator), size = communicator_size(c->communicator);
  const struct nccl *const nccl = &c->nccl;
  ncclResult_t result = nccl->ncclGroupStart(), ended;
  for (int i = 1; i < size && result == ncclSuccess; i++) {
    const int to = (rank + i) % size, from = (rank - i + size) % size;
    if (slice_length(c, rank))
      result =
          nccl->ncclSend(c->gradients + slice_begin(c, rank), slice_length(c, rank), ncclFloat32, to, c->comm, stream);
    if (result == ncclSuccess && slice_length(c, from))
      result = nccl->ncclRecv(c->gradients + slice_begin(c, from), slice_length(c, from), ncclFloat32, from, c->comm,
                              stream);
  }
  ended = nccl->ncclGroupEnd();
  return result != ncclSuccess ? result : ended;
}

static cudaError_t add_slices(const struct connection *c, cudaStream_t stream) {
  const int rank = communicator_rank(c->communicator);
  const struct rank_sum_launch launch = {
      .own = c->gradients + slice_begin(c, rank),
      .received = c->received,
      .n = (int64_t)slice_length(c, rank),
      .width = c->width,
      .loss = c->loss,
      .losses = c->losses,
      .ranks = communicator_size(c->communicator),
      .rank = rank,
  };
  return launch_rank_sum(&launch, stream);
}

static descent_status nccl_failed(const struct connection *c, const char *what, ncclResult_t result) {
  return module_status(DESCENT_ERROR_DEVICE, "%s through NCCL failed: %s " HOW_TO_CONTINUE, what,
                       c->nccl.ncclGetErrorString(result));
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
  NCCL_TRY(c, what, scatter(c, stream));
  CUDA_TRY(add_slices(c, stream));
  NCCL_TRY(c, what, collect(c, stream));
done:
  return status;
}

/* ---- waiting ---- */

/* What the device waits for ends, and so do the waits for it. The communicator knows that the ranks have lost each
 * other's place, so that no later call waits for them. */
static void give_up(struct connection *c) {
  c->failed = true;
  c->communicator->broken = true;
  (void)c->nccl.ncclCommAbort(c->comm);
  c->comm = NULL;
}

/* Looks often at first, then every 50 microseconds: a step may take less, and a processor has other ranks to run. */
static void pause_between_looks(double waited) {
  const struct timespec moment = {0, 50000};
  if (waited > 1e-3) (void)nanosleep(&moment, NULL);
}

/* The stream or, where it is not NULL, the event. */
static descent_status wait_for(struct connection *c, cudaStream_t stream, cudaEvent_t event) {
  const double begin = clock_seconds();
  descent_status status = DESCENT_OK;
  for (;;) {
    const cudaError_t error = event ? cudaEventQuery(event) : cudaStreamQuery(stream);
    const double waited = clock_seconds() - begin;
    ncclResult_t result = ncclSuccess;
    if (error != cudaErrorNotReady) {
      CUDA_TRY(error);
      return DESCENT_OK;
    }
    (void)cudaGetLastError();
    NCCL_TRY(c, "the exchange of gradients", c->nccl.ncclCommGetAsyncError(c->comm, &result));
    NCCL_TRY(c, "the exchange of gradients", result);
    if (waited > c->communicator->seconds)
      TRY(module_status(DESCENT_ERROR_DEVICE,
                        "the other ranks have not sent their gradients for %g s: see whether all of them still run, or "
                        "allow more time",
                        c->communicator->seconds));
    pause_between_looks(waited);
  }
done:
  give_up(c);
  return status;
}

descent_status connection_settle(struct connection *c, cudaStream_t stream) {
  return c->comm ? wait_for(c, stream, NULL) : DESCENT_OK;
}

descent_status connection_await(struct connection *c, cudaEvent_t event) {
  descent_status status = DESCENT_OK;
  if (c->comm) return wait_for(c, NULL, event);
  CUDA_TRY(cudaEventSynchronize(event));
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
  facts->version = c->nccl.version;
  snprintf(facts->problem, sizeof facts->problem, "%.159s", c->text);
  facts->n = c->n;
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

/* Calls of NCCL that set something up end only when all ranks make them, so a thread makes them here. */
struct attempt {
  pthread_mutex_t lock;
  struct connection connection; /* a copy; `comm` once it is made */
  ncclUniqueId id;
  bool done, left; /* left: no call waits for the thread any more, and it frees this */
  cudaError_t error;
  ncclResult_t result;
};

static void attempt_free(struct attempt *attempt) {
  (void)pthread_mutex_destroy(&attempt->lock);
  free(attempt);
}

/* True: no call waits any more. */
static bool tell(struct attempt *attempt, ncclComm_t comm, bool done) {
  (void)pthread_mutex_lock(&attempt->lock);
  const bool left = attempt->left;
  if (!left) attempt->connection.comm = comm;
  attempt->done = done;
  (void)pthread_mutex_unlock(&attempt->lock);
  return left;
}

/* The first exchange between two ranks connects them. */
static void exchange_once(struct attempt *attempt) {
  const struct connection *const c = &attempt->connection;
  attempt->result = scatter(c, c->device->stream);
  if (attempt->result == ncclSuccess) attempt->error = add_slices(c, c->device->stream);
  if (attempt->result == ncclSuccess && attempt->error == cudaSuccess) attempt->result = collect(c, c->device->stream);
}

static void *connect_ranks(void *context) {
  struct attempt *const attempt = context;
  const struct connection *const c = &attempt->connection;
  const int rank = communicator_rank(c->communicator), size = communicator_size(c->communicator);
  ncclComm_t comm = NULL;
  attempt->error = cudaSetDevice(c->device->ordinal);
  if (attempt->error == cudaSuccess) attempt->result = c->nccl.ncclCommInitRank(&comm, size, attempt->id, rank);
  if (comm && tell(attempt, comm, false))
    (void)c->nccl.ncclCommAbort(comm);
  else if (comm)
    exchange_once(attempt);
  if (tell(attempt, comm, true)) attempt_free(attempt);
  return NULL;
}

static bool is_done(struct attempt *attempt) {
  (void)pthread_mutex_lock(&attempt->lock);
  const bool done = attempt->done;
  (void)pthread_mutex_unlock(&attempt->lock);
  return done;
}

/* The thread cannot be ended: it ends when the other ranks answer, or with the process. */
static descent_status leave(struct connection *c, struct attempt *attempt, pthread_t thread) {
  (void)pthread_mutex_lock(&attempt->lock);
  const ncclComm_t comm = attempt->connection.comm;
  const bool done = attempt->done;
  attempt->left = true;
  (void)pthread_mutex_unlock(&attempt->lock);
  (void)pthread_detach(thread);
  c->failed = c->communicator->broken = true;
  if (comm) (void)c->nccl.ncclCommAbort(comm);
  if (done) attempt_free(attempt);
  return module_status(DESCENT_ERROR_DEVICE,
                       "NCCL has not connected the ranks within %g s: see whether all of them still run, or allow more "
                       "time " HOW_TO_CONTINUE,
                       c->communicator->seconds);
}

/* Takes over the attempt. */
static descent_status connect_in_time(struct connection *c, struct attempt *attempt) {
  const double begin = clock_seconds();
  pthread_t thread;
  descent_status status = DESCENT_OK;
  if (pthread_create(&thread, NULL, connect_ranks, attempt) != 0) {
    attempt_free(attempt);
    return module_status(DESCENT_ERROR_MEMORY, "cannot start the thread that connects the ranks");
  }
  while (!is_done(attempt)) {
    const double waited = clock_seconds() - begin;
    if (waited > c->communicator->seconds) return leave(c, attempt, thread);
    pause_between_looks(waited);
  }
  (void)pthread_join(thread, NULL);
  c->comm = attempt->connection.comm;
  if (attempt->error != cudaSuccess)
    TRY(module_cuda_failed(attempt->error, "connecting the ranks", __FILE__, __LINE__));
  NCCL_TRY(c, "connecting the ranks", attempt->result);
  TRY(connection_settle(c, c->device->stream));
done:
  if (status != DESCENT_OK && c->comm) give_up(c);
  attempt_free(attempt);
  return status;
}

/* From rank 0 to all: where its GPUs meet. From every rank: whether it can come. */
struct invitation {
  int32_t accepts;
  ncclUniqueId id;
};

static descent_status connect_all(struct connection *c, struct invitation *all) {
  const int size = communicator_size(c->communicator);
  struct attempt *attempt = module_allocate(1, sizeof *attempt, "the connection of the ranks");
  struct invitation own = {.accepts = attempt != NULL};
  ncclResult_t result = ncclSuccess;
  bool all_accept = true;
  descent_status status = attempt ? DESCENT_OK : DESCENT_ERROR_MEMORY;
  if (communicator_rank(c->communicator) == 0) result = c->nccl.ncclGetUniqueId(&own.id);
  if (result != ncclSuccess) {
    own.accepts = 0;
    status = nccl_failed(c, "connecting the ranks", result);
  }
  const descent_status gathered = c->communicator->gather(c->communicator, &own, sizeof own, all);
  for (int r = 0; r < size; r++) all_accept &= all[r].accepts != 0;
  if (gathered != DESCENT_OK || !all_accept) {
    free(attempt);
    return gathered != DESCENT_OK ? gathered : status;
  }
  (void)pthread_mutex_init(&attempt->lock, NULL);
  attempt->connection = *c;
  attempt->id = all[0].id;
  return connect_in_time(c, attempt);
}

descent_status connection_open(struct connection *c) {
  _Static_assert(sizeof(struct invitation) <= sizeof(struct rank_facts), "one array serves both");
  const int size = communicator_size(c->communicator);
  char reason[NCCL_PROBLEM + 2 * TRANSPORT_HOST], version[16];
  struct rank_facts own;
  descent_status status = DESCENT_OK;
  if (size == 1) return status;
  find_facts(c, &own);
  TRY(c->communicator->gather(c->communicator, &own, sizeof own, c->facts));
  nccl_version_text(c->facts[0].version, version, sizeof version);
  if (connection_is_possible(c->facts, size, reason, sizeof reason)) TRY(connect_all(c, (struct invitation *)c->facts));
  if (c->comm)
    snprintf(c->text, sizeof c->text, "gradients of %d ranks through NCCL %s", size, version);
  else
    snprintf(c->text, sizeof c->text, "gradients of %d ranks through host memory: %.200s", size, reason);
done:
  return status;
}

bool connection_captures(const struct connection *c) { return c->comm && c->nccl.version >= NCCL_CAPTURED_VERSION; }

descent_status connection_prepare(struct connection *c, const struct backend_device *device,
                                  struct descent_communicator *communicator, float *gradients, int64_t n, double *loss,
                                  struct device_memory *memory) {
  const int64_t size = communicator_size(communicator);
  descent_status status = DESCENT_OK;
  c->device = device;
  c->communicator = communicator;
  c->gradients = gradients;
  c->loss = loss;
  c->n = n;
  c->width = ((n + size - 1) / size + SLICE_ALIGN - 1) / SLICE_ALIGN * SLICE_ALIGN;
  c->facts = module_allocate(size, sizeof *c->facts, "what the ranks have");
  if (!c->facts) TRY(DESCENT_ERROR_MEMORY);
  if (!nccl_load(&c->nccl, c->text)) {
    c->nccl = (struct nccl){0};
    goto done;
  }
  TRY(device_memory_take(memory, size * c->width * (int64_t)sizeof *c->received, "gradients of other ranks",
                         (void **)&c->received));
  TRY(device_memory_take(memory, size * (int64_t)sizeof *c->losses, "losses of other ranks", (void **)&c->losses));
done:
  return status;
}

void connection_release(struct connection *c) {
  if (c->comm) (void)c->nccl.ncclCommDestroy(c->comm);
  device_memory_free(c->received);
  device_memory_free(c->losses);
  free(c->facts);
}
