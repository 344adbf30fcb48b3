/* The speed of the links between ranks, measured. */
#ifndef DESCENT_KERNELS_LINK_H
#define DESCENT_KERNELS_LINK_H

#include "connection.h"

/* As measure_link is specified in struct backend. */
descent_status link_measure(struct connection *connection, cudaStream_t stream, double *bandwidth);

#endif
