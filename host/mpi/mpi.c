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
  ROLL_CALL = 2,        /* the tag of a byte that says: this rank has waited too long, or knows of one that has */
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
  // NOLINTNEXTLINE(clang-analyzer-optin.portability.UnixAPI): count > capacity >= 0
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

/* A time of waiting. Between two polls at most a second counts, so that a job that was suspended has not waited. */
struct patience {
  double last, waited; /* seconds */
};

static void patience_begin(struct patience *patience) { *patience = (struct patience){clock_seconds(), 0}; }

static bool patience_ends(struct patience *patience, double seconds) {
  const double now = clock_seconds(), passed = now - patience->last;
  patience->last = now;
  patience->waited += passed < 1 ? passed : 1;
  return patience->waited > seconds;
}

/* The lowest rank from which something is missing, or else to which something could not be sent. `present`: ranks that
 * are left out, or NULL. -1: none. */
static int silent_rank(const struct mpi *mpi, int started, const bool *present) {
  int silent = -1;
  bool receives = false;
  for (int i = 0; i < started; i++) {
    const struct message *const m = mpi->parts[i].message;
    if (mpi->requests[i] == MPI_REQUEST_NULL || (receives && !m->receives) || (present && present[m->peer])) continue;
    if (silent < 0 || (m->receives && !receives) || m->peer < silent) silent = m->peer;
    receives = receives || m->receives;
  }
  return silent;
}

static bool is_called(const struct mpi *mpi) {
  int called = 0;
  return MPI_Iprobe(MPI_ANY_SOURCE, ROLL_CALL, mpi->world, &called, MPI_STATUS_IGNORE) == MPI_SUCCESS && called;
}

/* Marks the ranks whose byte has arrived; the number of new ones. */
static int hear(struct mpi *mpi, bool *present) {
  int n = 0;
  while (is_called(mpi)) {
    MPI_Status status;
    char byte;
    if (MPI_Recv(&byte, 1, MPI_BYTE, MPI_ANY_SOURCE, ROLL_CALL, mpi->world, &status) != MPI_SUCCESS) break;
    n += !present[status.MPI_SOURCE];
    present[status.MPI_SOURCE] = true;
  }
  return n;
}

/* The rank that is lost. A rank that waits for another one, which itself waits for the lost one, cannot tell the two
 * apart, so every rank that waits calls all others, and those that do not answer in some seconds are lost. Of these the
 * lowest for which this rank waits, or else the lowest. */
static int lost_rank(struct mpi *mpi, int started) {
  static const double limit = 3; /* seconds */
  static char byte;              /* may be sent after the return */
  const int size = mpi->transport.size;
  bool *present = calloc((size_t)size, sizeof *present);
  struct patience patience;
  int missing = size - 1, lost = -1;
  if (!present) return silent_rank(mpi, started, NULL);
  present[mpi->transport.rank] = true;
  // NOLINTNEXTLINE(clang-analyzer-optin.mpi.MPI-Checker): a request that is freed needs no wait
  for (int r = 0; r < size; r++) {
    MPI_Request request;
    if (!present[r] && MPI_Isend(&byte, 1, MPI_BYTE, r, ROLL_CALL, mpi->world, &request) == MPI_SUCCESS)
      MPI_Request_free(&request);
  }
  patience_begin(&patience);
  while ((missing -= hear(mpi, present)) > 0 && !patience_ends(&patience, limit)) rest(YIELDING_POLLS + 1);
  lost = silent_rank(mpi, started, present);
  for (int r = 0; r < size && lost < 0; r++)
    if (!present[r]) lost = r;
  free(present);
  return lost >= 0 ? lost : silent_rank(mpi, started, NULL); /* all answer, but one makes other calls */
}

static bool wait_for(struct mpi *mpi, int started, double seconds, int *silent, char *reason, size_t size) {
  struct patience patience;
  patience_begin(&patience);
  for (int polls = 0;; polls++) {
    int n;
    if (!poll_parts(mpi, started, &n, reason, size)) return false;
    if (n < 0) return true;
    if (n > 0) {
      patience_begin(&patience);
      polls = 0;
    } else if (patience_ends(&patience, seconds) || (polls > YIELDING_POLLS && is_called(mpi))) {
      *silent = lost_rank(mpi, started);
      return false;
    }
    rest(polls);
  }
}

/* Cancels what has not finished, so that nothing writes to the caller's memory later. MPI cannot cancel a receive while
 * its message arrives; such a receive has one second to finish. If it does not, because its host is lost, it may still
 * write, which is why the process must then end. */
static void give_up(struct mpi *mpi, int started) {
  int n = 0, done = 0;
  for (int i = 0; i < started; i++) {
    if (mpi->requests[i] == MPI_REQUEST_NULL) continue;
    if (mpi->parts[i].message->receives) {
      MPI_Cancel(&mpi->requests[i]);
      mpi->requests[n++] = mpi->requests[i];
    } else {
      MPI_Request_free(&mpi->requests[i]);
    }
  }
  struct patience patience;
  patience_begin(&patience);
  while (MPI_Testall(n, mpi->requests, &done, mpi->statuses) == MPI_SUCCESS && !done && !patience_ends(&patience, 1))
    rest(YIELDING_POLLS + 1);
  for (int i = 0; i < n; i++)
    if (mpi->requests[i] != MPI_REQUEST_NULL) MPI_Request_free(&mpi->requests[i]);
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

static void end_all(struct transport *transport, int code) {
  if (transport->size > 1) MPI_Abort(((struct mpi *)transport)->world, code);
}

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
