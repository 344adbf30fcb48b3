/* What moves bytes between the ranks of a training: the table that a transport fills in. Those of threads are in the
 * tests; that of MPI is a shared object, libdescent_mpi.so, so that the library runs where there is no MPI. */
#ifndef DESCENT_CORE_TRANSPORT_H
#define DESCENT_CORE_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes to or from another rank. Messages between two ranks arrive in the order in which they are sent. */
struct message {
  int peer;
  bool receives;
  void *data; /* only read where it is sent */
  int64_t bytes;
};

enum { TRANSPORT_INTERFACE = 2, TRANSPORT_HOST = 64 };

struct transport {
  int interface; /* TRANSPORT_INTERFACE of the build */
  int rank, size;
  int local_rank, local_size; /* among the ranks of this host */
  char host[TRANSPORT_HOST];  /* with its domain, where the system has it */
  bool to_itself;             /* one rank, whose device exchanges gradients as if there were others */
  /* Sends and receives the messages, in any order among them, and waits for all. After `seconds` without any progress:
   * false, with the rank that is lost in *silent, the same on all others where the transport can tell; -1 in *silent: the transport itself failed, `reason`
   * says how. A message of another length than is expected is such a failure. */
  bool (*exchange)(struct transport *transport, const struct message *messages, int n, double seconds, int *silent,
                   char *reason, size_t size);
  /* Ends the processes of all ranks with this exit code, where the transport can; may return. */
  void (*abort)(struct transport *transport, int code);
  /* Frees the transport. `broken`: an exchange has failed, so the other ranks cannot be waited for. */
  void (*close)(struct transport *transport, bool broken);
};

/* The function `descent_transport` of a shared object: connects this process with the others. `interface` is
 * TRANSPORT_INTERFACE of the caller. On failure false, and `reason` says why. */
typedef bool transport_module(int interface, struct transport **transport, char *reason, size_t size);

#endif
