/* What connects the ranks of a training: the processes that compute its micro-batches together. A communicator moves
 * bytes between ranks through a transport (MPI, or threads in tests); everything else is built from that, so its
 * results have the same bits with every transport. Its functions are collective: every rank calls the same ones in the
 * same order. They may be called on one thread only. */
#ifndef DESCENT_CORE_COMMUNICATOR_H
#define DESCENT_CORE_COMMUNICATOR_H

#include <descent/descent.h>

#include "core/handle.h"
#include "core/transport.h"

/* The public communicator. */
struct descent_communicator {
  struct handle handle;
  struct transport *transport;
  double seconds; /* without an answer, after which a rank counts as lost */
  bool broken;    /* an exchange has failed: all later ones do */
  int threads;    /* this rank's share of the cores of its host */
  char *hosts;    /* (size, TRANSPORT_HOST); equal for ranks of one host, different for others */
  float *scratch; /* of `sum`, grown as needed */
  int64_t n_scratch;
  struct message *messages; /* of an exchange */
  void **parts;             /* (size), of `sum` */
  struct outcome *outcomes; /* (size), of communicator_agree */
  /* Each rank's `values` and `scalars` become their sums over the ranks, in the order of a binary counter over the
   * ranks, as in plan_combine; the same bits on every rank. A pointer, since a module of a device calls it. */
  descent_status (*sum)(struct descent_communicator *communicator, float *values, int64_t n, double *scalars,
                        int n_scalars);
  /* communicator_gather, for the same reason. */
  descent_status (*gather)(struct descent_communicator *communicator, const void *own, int64_t bytes, void *all);
};

/* Takes over the transport, also where it fails. Collective. */
descent_status communicator_create(struct transport *transport, double seconds,
                                   struct descent_communicator **communicator);
/* The host of a rank, without its domain where that still tells the hosts apart. */
const char *communicator_host(const struct descent_communicator *communicator, int rank);

/* NULL is the communicator of one rank, here and below. */
static inline int communicator_size(const struct descent_communicator *communicator) {
  return communicator ? communicator->transport->size : 1;
}
static inline int communicator_rank(const struct descent_communicator *communicator) {
  return communicator ? communicator->transport->rank : 0;
}
/* Do gradients pass between ranks, or from the one rank to itself? */
static inline bool communicator_exchanges(const struct descent_communicator *communicator) {
  return communicator && (communicator->transport->size > 1 || communicator->transport->to_itself);
}

/* `all` (size, bytes) receives the `bytes` of every rank. ERROR_DEVICE where a rank has not answered. */
descent_status communicator_gather(struct descent_communicator *communicator, const void *own, int64_t bytes,
                                   void *all);
/* Every rank has the data of rank 0. */
descent_status communicator_broadcast(struct descent_communicator *communicator, void *data, int64_t bytes);
/* Call where every rank has either succeeded or failed: on all of them the status and the text of the lowest rank that
 * failed, the text beginning with "rank 3 (node7): " unless all ranks have the same one; OK if none did. */
descent_status communicator_agree(struct descent_communicator *communicator, descent_status own);
/* The bytes per second that each rank sends, and receives, while all exchange large messages in the pattern of `sum`: the
 * best of a few exchanges, each as long as its slowest rank takes, and so the same on every rank; 0 for one rank. */
descent_status communicator_measure(struct descent_communicator *communicator, double *bandwidth);

/* M, and how many of them a rank computes. */
static inline int options_ranks(const descent_train_options *options) {
  return communicator_size(options->ranks.communicator);
}
static inline int64_t options_micro_batches(const descent_train_options *options) {
  return options->ranks.micro_batches ? options->ranks.micro_batches : options_ranks(options);
}
static inline int64_t options_own_micro_batches(const descent_train_options *options) {
  return options_micro_batches(options) / options_ranks(options);
}
/* What determines M, for messages. */
static inline const char *options_name_of_parts(const descent_train_options *options) {
  return options->ranks.micro_batches ? "micro_batches" : "ranks";
}
/* Is a step computed by the ranges micro_batch and finish, not by train? */
static inline bool options_cut_steps(const descent_train_options *options) {
  return options_micro_batches(options) > 1 || communicator_exchanges(options->ranks.communicator);
}

#endif
