/* The second stream of a captured range, on which weights' operations run beside the operations that follow them. */
#ifndef DESCENT_KERNELS_BESIDE_H
#define DESCENT_KERNELS_BESIDE_H

#include "choose.h"
#include "work.h"

/* What the launches on one stream use; those on two streams must not share it. */
struct launch_place {
  cudaStream_t stream;
  struct scratch scratch;
  void *workspace; /* of the products; NULL: none of them needs one */
  int64_t workspace_bytes;
};

enum { BESIDE_RUNNING = 2 };
struct beside {
  const struct plan *plan;
  const struct device_buffers *buffers;
  const struct product_choices *choices;
  bool *takes;                       /* (n_ops) operations that run on the second stream when their range has both */
  struct launch_place first, second; /* second: no stream if it has no operations */
  cudaEvent_t forked;
  struct {          /* of the range being captured: operations that the first stream has not waited for */
    const void *dZ; /* which the operation reads; NULL: none */
    cudaEvent_t done;
  } running[BESIDE_RUNNING];
  int turn;
  void *workspaces; /* of this program alone, for both streams; NULL: those that all programs of the device share */
};

/* The input's operation beside which weights' operation `op` runs in a captured training step; -1: none. */
int beside_neighbour(const struct backend_device *device, const struct plan *plan, int op);

descent_status beside_prepare(struct beside *beside, const struct backend_device *device,
                              const struct device_buffers *buffers, const struct product_choices *choices,
                              const struct work_memory *work, struct device_memory *memory);
void beside_release(struct beside *beside);
/* Bytes that beside_separate is still to take. */
int64_t beside_separate_bytes(const struct beside *beside);
/* Later launches use workspaces of this program alone, so that they may run beside those of other programs. *taken is
 * false if there is no memory for them. */
descent_status beside_separate(struct beside *beside, struct device_memory *memory, bool *taken);

/* Where operation `index` of a captured range is to be launched, once this orders it behind what it depends on. */
descent_status beside_order(struct beside *beside, struct plan_range range, int index,
                            const struct launch_place **place);
/* Called after the launch of that operation. */
descent_status beside_launched(struct beside *beside, int index, const struct launch_place *place);
/* A capture has failed: none of its operations runs. */
void beside_abandon(struct beside *beside);
/* The first stream waits for the second one. */
descent_status beside_join(struct beside *beside);

#endif
