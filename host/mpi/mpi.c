/* The transport of MPI, a separate shared object: only it links MPI. Every call of MPI is made on the thread that calls
 * the transport. */
#include <mpi.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/clock.h"
#include "core/transport.h"

enum {
  PART = 1 << 26, /* bytes: MPI counts in int, and each part that arrives is progress */
  TAG = 1,
  EAGER_POLLS = 200,    /* before the core is offered to other processes */
  YIELDING_POLLS = 2000 /* before the process sleeps between polls */
};

/* A message, or a part of one. */
struct part {
  const struct message *message;
  int bytes;
};

struct mpi {
  struct transport transport; /* first: the library has a pointer to it */
  MPI_Comm world;
  bool initialised; /* MPI was initialised here */
  int capacity;     /* of what follows, in parts of an exchange */
  struct part *parts;
  MPI_Request *requests;
  MPI_Status *statuses;
  int *finished;
};

static bool refuse(int error, char *reason, size_t size) {
  char text[MPI_MAX_ERROR_STRING] = "MPI reports no reason";
  int length;
  MPI_Error_string(error, text, &length);
  text[strcspn(text, "\n")] = '\0';
  snprintf(reason, size, "%s", text);
  return false;
}

/* ---- an exchange ------------------------------------------------------------------------------------------------ */

static int parts_of(const struct message *message) { return (int)((message->bytes + PART - 1) / PART); }

static bool grow(struct mpi *mpi, int n, char *reason, size_t size) {
  if (n <= mpi->capacity) return true;
  const size_t count = (size_t)n;
  struct part *parts = realloc(mpi->parts, count * sizeof *parts);
  if (parts) mpi->parts = parts;
  MPI_Request *requests = realloc(mpi->requests, count * sizeof *requests);
  if (requests) mpi->requests = requests;
  MPI_Status *statuses = realloc(mpi->statuses, count * sizeof *statuses);
  if (statuses) mpi->statuses = statuses;
  int *finished = realloc(mpi->finished, count * sizeof *finished);
  if (finished) mpi->finished = finished;
  if (!parts || !requests || !statuses || !finished) {
    snprintf(reason, size, "cannot allocate the requests of %d messages", n);
    return false;
  }
  mpi->capacity = n;
  return true;
}

/* Starts the parts of message `m` and counts them in *started; MPI_SUCCESS or the error. */
static int start(struct mpi *mpi, const struct message *m, int *started) {
  int error = MPI_SUCCESS;
  for (int64_t begin = 0; begin < m->bytes && error == MPI_SUCCESS; begin += PART) {
    const int64_t left = m->bytes - begin;
    const int bytes = left < PART ? (int)left : PART;
    char *const data = (char *)m->data + begin;
    MPI_Request *const request = &mpi->requests[*started];
    mpi->parts[*started] = (struct part){m, bytes};
    error = m->receives ? MPI_Irecv(data, bytes, MPI_BYTE, m->peer, TAG, mpi->world, request)
                        : MPI_Isend(data, bytes, MPI_BYTE, m->peer, TAG, mpi->world, request);
    if (error == MPI_SUCCESS) ++*started;
  }
  return error;
}

/* Receives first, so that arriving data finds its place. */
static bool start_all(struct mpi *mpi, const struct message *messages, int n, int *started, char *reason, size_t size) {
  int needed = 0, error = MPI_SUCCESS;
  for (int i = 0; i < n; i++) needed += parts_of(&messages[i]);
  *started = 0;
  if (!grow(mpi, needed, reason, size)) return false;
  for (int pass = 0; pass < 2; pass++)
    for (int i = 0; i < n && error == MPI_SUCCESS; i++)
      if (messages[i].receives == (pass == 0)) error = start(mpi, &messages[i], started);
  return error == MPI_SUCCESS || refuse(error, reason, size);
}

static bool check(const struct mpi *mpi, const struct part *part, const MPI_Status *status, char *reason, size_t size) {
  int bytes = 0;
  if (!part->message->receives) return true;
  MPI_Get_count(status, MPI_BYTE, &bytes);
  if (bytes == part->bytes) return true;
  snprintf(reason, size, "rank %d sent %d bytes where rank %d expected %d: it has failed, or runs another program",
           part->message->peer, bytes, mpi->transport.rank, part->bytes);
  return false;
}

/* The parts that have finished in this poll, their number in *n; -1: all had finished before. */
static bool poll_parts(struct mpi *mpi, int started, int *n, char *reason, size_t size) {
  const int error = MPI_Testsome(started, mpi->requests, n, mpi->finished, mpi->statuses);
  if (error != MPI_SUCCESS && error != MPI_ERR_IN_STATUS) return refuse(error, reason, size);
  if (*n == MPI_UNDEFINED) {
    *n = -1;
    return true;
  }
  for (int i = 0; i < *n; i++) {
    const MPI_Status *const status = &mpi->statuses[i];
    if (error == MPI_ERR_IN_STATUS && status->MPI_ERROR != MPI_SUCCESS && status->MPI_ERROR != MPI_ERR_PENDING)
      return refuse(status->MPI_ERROR, reason, size);
    if (!check(mpi, &mpi->parts[mpi->finished[i]], status, reason, size)) return false;
  }
  return true;
}

/* Ranks may be more than cores: a rank that waits lets others compute. */
static void rest(int polls) {
  static const struct timespec pause = {.tv_nsec = 50000};
  if (polls > YIELDING_POLLS)
    nanosleep(&pause, NULL);
  else if (polls > EAGER_POLLS)
    sched_yield();
}

/* The lowest rank from which something is missing, or else to which something could not be sent. */
static int silent_rank(const struct mpi *mpi, int started) {
  int silent = -1;
  bool receives = false;
  for (int i = 0; i < started; i++) {
    const struct message *const m = mpi->parts[i].message;
    if (mpi->requests[i] == MPI_REQUEST_NULL || (receives && !m->receives)) continue;
    if (silent < 0 || (m->receives && !receives) || m->peer < silent) silent = m->peer;
    receives = receives || m->receives;
  }
  return silent;
}

static bool wait_for(struct mpi *mpi, int started, double seconds, int *silent, char *reason, size_t size) {
  double progress = clock_seconds();
  for (int polls = 0;; polls++) {
    int n;
    if (!poll_parts(mpi, started, &n, reason, size)) return false;
    if (n < 0) return true;
    if (n > 0) {
      progress = clock_seconds();
      polls = 0;
    } else if (clock_seconds() - progress > seconds) {
      *silent = silent_rank(mpi, started);
      return false;
    }
    rest(polls);
  }
}

/* What was started must not write to the caller's memory later. */
static void give_up(struct mpi *mpi, int started) {
  for (int i = 0; i < started; i++) {
    if (mpi->requests[i] == MPI_REQUEST_NULL) continue;
    if (mpi->parts[i].message->receives) MPI_Cancel(&mpi->requests[i]);
    MPI_Request_free(&mpi->requests[i]);
  }
}

static bool exchange(struct transport *transport, const struct message *messages, int n, double seconds, int *silent,
                     char *reason, size_t size) {
  struct mpi *mpi = (struct mpi *)transport;
  int started = 0;
  *silent = -1;
  if (start_all(mpi, messages, n, &started, reason, size) && wait_for(mpi, started, seconds, silent, reason, size))
    return true;
  give_up(mpi, started);
  return false;
}

/* ---- life ------------------------------------------------------------------------------------------------------- */

static void end_all(struct transport *transport, int code) { MPI_Abort(((struct mpi *)transport)->world, code); }

static void close_transport(struct transport *transport, bool broken) {
  struct mpi *mpi = (struct mpi *)transport;
  if (!broken) {
    if (mpi->world != MPI_COMM_NULL) MPI_Comm_free(&mpi->world);
    if (mpi->initialised) MPI_Finalize();
  }
  free(mpi->parts);
  free(mpi->requests);
  free(mpi->statuses);
  free(mpi->finished);
  free(mpi);
}

/* MPI_Init ends the process where it fails. A program may have called it already. */
static bool initialise(struct mpi *mpi, char *reason, size_t size) {
  int done, provided;
  MPI_Finalized(&done);
  if (done) {
    snprintf(reason, size, "MPI was finalised in this process, and cannot be started again");
    return false;
  }
  MPI_Initialized(&done);
  if (done) return true;
  const int error = MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided);
  if (error != MPI_SUCCESS) return refuse(error, reason, size);
  mpi->initialised = true;
  if (provided >= MPI_THREAD_FUNNELED) return true;
  snprintf(reason, size, "this MPI was built without support for threads");
  return false;
}

static int rank_among_local(struct mpi *mpi) {
  MPI_Comm local;
  int error = MPI_Comm_split_type(mpi->world, MPI_COMM_TYPE_SHARED, mpi->transport.rank, MPI_INFO_NULL, &local);
  if (error != MPI_SUCCESS) return error;
  error = MPI_Comm_rank(local, &mpi->transport.local_rank);
  if (error == MPI_SUCCESS) error = MPI_Comm_size(local, &mpi->transport.local_size);
  MPI_Comm_free(&local);
  return error;
}

static bool find_place(struct mpi *mpi, char *reason, size_t size) {
  char host[MPI_MAX_PROCESSOR_NAME + 1] = "";
  int length = 0, error;
  if ((error = MPI_Comm_dup(MPI_COMM_WORLD, &mpi->world)) != MPI_SUCCESS ||
      (error = MPI_Comm_set_errhandler(mpi->world, MPI_ERRORS_RETURN)) != MPI_SUCCESS ||
      (error = MPI_Comm_rank(mpi->world, &mpi->transport.rank)) != MPI_SUCCESS ||
      (error = MPI_Comm_size(mpi->world, &mpi->transport.size)) != MPI_SUCCESS ||
      (error = MPI_Get_processor_name(host, &length)) != MPI_SUCCESS || (error = rank_among_local(mpi)) != MPI_SUCCESS)
    return refuse(error, reason, size);
  host[strcspn(host, ".")] = '\0'; /* without the domain */
  snprintf(mpi->transport.host, sizeof mpi->transport.host, "%.*s", TRANSPORT_HOST - 1, host);
  return true;
}

__attribute__((visibility("default"))) transport_module descent_transport;

bool descent_transport(int interface, struct transport **transport, char *reason, size_t size) {
  if (interface != TRANSPORT_INTERFACE) {
    snprintf(reason, size, "libdescent_mpi.so was built for another version of descent: rebuild it");
    return false;
  }
  struct mpi *mpi = calloc(1, sizeof *mpi);
  if (!mpi) {
    snprintf(reason, size, "out of memory");
    return false;
  }
  mpi->world = MPI_COMM_NULL;
  mpi->transport = (struct transport){
      .interface = TRANSPORT_INTERFACE, .exchange = exchange, .abort = end_all, .close = close_transport};
  *transport = &mpi->transport;
  if (initialise(mpi, reason, size) && find_place(mpi, reason, size)) return true;
  close_transport(&mpi->transport, true);
  return false;
}
