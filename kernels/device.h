/* An opened GPU: what it reports, its streams, its matrix products. */
#ifndef DESCENT_KERNELS_DEVICE_H
#define DESCENT_KERNELS_DEVICE_H

#include "context.h"
#include "module.h"
#include "product.h"

struct caller_arrays; /* arrays.c */
struct resident;      /* resident.c */
struct joint_graph;   /* together.c */

enum { DEVICE_ASKED = 16 };
/* What the programs of a device share. Calls take their turns, so it needs no lock. */
struct device_shared {
  struct resident *residents; /* a list, as below; NULL: empty */
  struct joint_graph *joints;
  uint64_t asked[DEVICE_ASKED]; /* the sets that a joint graph was last missing for, as hashes; 0: none */
  int next_asked;
};

struct backend_device {
  struct device_context *context;
  int ordinal, threads, multiprocessors;
  double bandwidth;                /* bytes per second from the memory's clock and width, for estimates; 0: unknown */
  double multiprocessor_bandwidth; /* of one multiprocessor, at most; 0: unknown */
  cudaStream_t stream, copies, beside; /* beside: a second branch of captured ranges */
  struct product_library *products;
  struct caller_arrays *arrays;
  struct device_shared *shared;
  char description[512], arithmetic[192];
};

/* arrays.c */
descent_status arrays_prepare(struct backend_device *device);
void arrays_release(struct backend_device *device);

/* As specified in struct backend. */
descent_status device_list(struct backend_gpu gpus[BACKEND_MOST_GPUS], int *count);
descent_status device_open(int ordinal, int threads, struct backend_device **device);
void device_close(struct backend_device *device);
const char *device_describe(const struct backend_device *device);

#endif
