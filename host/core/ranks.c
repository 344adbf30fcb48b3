/* The public functions of a communicator: how ranks are connected, and what they know of each other. */
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/communicator.h"
#include "core/memory.h"
#include "core/module.h"
#include "core/status.h"
#include "core/system.h"

/* ---- transports ------------------------------------------------------------------------------------------------- */

static bool exchange_nothing(struct transport *transport, const struct message *messages, int n, double seconds,
                             int *silent, char *reason, size_t size) {
  (void)transport, (void)messages, (void)n, (void)seconds;
  *silent = -1;
  snprintf(reason, size, "there is one rank");
  return false;
}

static void abort_nothing(struct transport *transport, int code) { (void)transport, (void)code; }

static void free_single(struct transport *transport, bool broken) {
  (void)broken;
  free(transport);
}

static descent_status open_single(bool to_itself, struct transport **transport) {
  struct transport *single = memory_allocate(1, sizeof *single, "the communicator");
  if (!single) return DESCENT_ERROR_MEMORY;
  *single = (struct transport){.interface = TRANSPORT_INTERFACE,
                               .size = 1,
                               .local_size = 1,
                               .to_itself = to_itself,
                               .exchange = exchange_nothing,
                               .abort = abort_nothing,
                               .close = free_single};
  gethostname(single->host, sizeof single->host - 1);
  *transport = single;
  return DESCENT_OK;
}

static descent_status open_mpi(struct transport **transport) {
#ifdef DESCENT_MPI_BUILT
  static const char absent[] = "libdescent_mpi.so is not beside the library (see DESCENT_BACKEND_PATH)";
#else
  static const char absent[] = "this build of descent has no MPI (install libopenmpi-dev, and build again)";
#endif
  char reason[256] = "";
  void *symbol;
  transport_module *module;
  const descent_status status = module_load("MPI", "libdescent_mpi.so", "descent_transport", absent, &symbol);
  if (status != DESCENT_OK) return status;
  memcpy(&module, &symbol, sizeof module);
  if (module(TRANSPORT_INTERFACE, transport, reason, sizeof reason)) return DESCENT_OK;
  return status_set(DESCENT_ERROR_DEVICE, "no MPI: %s", reason);
}

/* ---- introductions ---------------------------------------------------------------------------------------------- */

/* What every rank tells the others when it opens the communicator. */
struct introduction {
  char version[32];
  int64_t usable; /* cores, by affinity and quota */
  cpu_set_t cores;
};

static void introduce(struct introduction *own) {
  memset(own, 0, sizeof *own);
  snprintf(own->version, sizeof own->version, "%s", DESCENT_VERSION);
  own->usable = system_cores_usable();
  if (sched_getaffinity(0, sizeof own->cores, &own->cores) != 0) CPU_ZERO(&own->cores);
}

static descent_status compare_versions(const struct descent_communicator *c, const struct introduction *all) {
  for (int r = 1; r < c->transport->size; r++)
    if (strcmp(all[r].version, all[0].version) != 0)
      return status_set(DESCENT_ERROR_DEVICE, "rank %d (%s) has descent %s, but rank 0 (%s) %s: install one version", r,
                        communicator_host(c, r), all[r].version, communicator_host(c, 0), all[0].version);
  return DESCENT_OK;
}

/* A core that several ranks of this host may use counts for each of them in part, since launchers may bind each rank to
 * some cores, or not. A quota is for all ranks of the host. */
static int share_of_cores(const struct descent_communicator *c, const struct introduction *all) {
  const int rank = c->transport->rank;
  const struct introduction *const own = &all[rank];
  double share = 0;
  for (size_t core = 0; core < CPU_SETSIZE; core++) {
    int ranks = 0;
    if (!CPU_ISSET(core, &own->cores)) continue;
    for (int r = 0; r < c->transport->size; r++)
      ranks += CPU_ISSET(core, &all[r].cores) && strcmp(communicator_host(c, r), communicator_host(c, rank)) == 0;
    share += 1.0 / ranks;
  }
  if (own->usable != CPU_COUNT(&own->cores)) {
    const double quota = (double)own->usable / c->transport->local_size;
    if (share == 0 || quota < share) share = quota;
  }
  return share < 1 ? 1 : (int)(share + 1e-6);
}

static descent_status introductions(struct descent_communicator *c) {
  descent_status status = DESCENT_OK;
  struct introduction *all = memory_allocate(c->transport->size, sizeof *all, "the communicator");
  if (!all) return DESCENT_ERROR_MEMORY;
  introduce(&all[c->transport->rank]);
  TRY(communicator_gather(c, &all[c->transport->rank], sizeof *all, all));
  TRY(compare_versions(c, all));
  c->threads = share_of_cores(c, all);
done:
  free(all);
  return status;
}

/* ---- public ----------------------------------------------------------------------------------------------------- */

descent_status descent_communicator_open(const char *kind, double seconds, descent_communicator **communicator) {
  struct transport *transport = NULL;
  struct descent_communicator *opened;
  descent_status status;
  if (!kind) return argument_refuse("kind");
  if (!communicator) return argument_refuse("communicator");
  if (!(seconds > 0) || !isfinite(seconds))
    return status_set(DESCENT_ERROR_ARGUMENT, "seconds %g: must be a number above 0", seconds);
  if (strcmp(kind, "single") == 0 || strcmp(kind, "self") == 0)
    status = open_single(strcmp(kind, "self") == 0, &transport);
  else if (strcmp(kind, "mpi") == 0)
    status = open_mpi(&transport);
  else
    status = status_set(DESCENT_ERROR_ARGUMENT, "unknown kind '%s' (known: single, self, mpi)", kind);
  if (status != DESCENT_OK) return status;
  status = communicator_create(transport, seconds, &opened);
  if (status != DESCENT_OK) return status;
  status = introductions(opened);
  if (status == DESCENT_OK)
    *communicator = opened;
  else
    descent_communicator_close(opened);
  return status;
}

void descent_communicator_close(descent_communicator *communicator) { handle_close(communicator, HANDLE_COMMUNICATOR); }

static bool alive(const descent_communicator *communicator) { return handle_alive(communicator, HANDLE_COMMUNICATOR); }

int descent_communicator_rank(const descent_communicator *communicator) {
  return alive(communicator) ? communicator->transport->rank : 0;
}

int descent_communicator_size(const descent_communicator *communicator) {
  return alive(communicator) ? communicator->transport->size : 0;
}

int descent_communicator_local_rank(const descent_communicator *communicator) {
  return alive(communicator) ? communicator->transport->local_rank : 0;
}

int descent_communicator_local_size(const descent_communicator *communicator) {
  return alive(communicator) ? communicator->transport->local_size : 0;
}

const char *descent_communicator_host(const descent_communicator *communicator, int rank) {
  if (!alive(communicator) || rank < 0 || rank >= communicator->transport->size) return "";
  return communicator_host(communicator, rank);
}

int descent_communicator_threads(const descent_communicator *communicator) {
  return alive(communicator) ? communicator->threads : 0;
}

descent_status descent_communicator_gather(descent_communicator *communicator, const void *data, size_t bytes,
                                           void *all) {
  const descent_status status = handle_check(communicator, HANDLE_COMMUNICATOR, "communicator");
  if (status != DESCENT_OK) return status;
  if (!data) return argument_refuse("data");
  if (!all) return argument_refuse("all");
  if (bytes > PTRDIFF_MAX / (size_t)communicator->transport->size)
    return status_set(DESCENT_ERROR_ARGUMENT, "bytes %zu: too many for %d ranks", bytes, communicator->transport->size);
  return communicator_gather(communicator, data, (int64_t)bytes, all);
}

void descent_communicator_abort(descent_communicator *communicator, int code) {
  if (alive(communicator)) communicator->transport->abort(communicator->transport, code);
}
