/* Ranges of which one kernel computes several layers: which those are, by which kind and variant, with what memory.
 *
 * The training step, with and without statistics, and its gradient are one choice, so that they give the same bits, or
 * a micro-batch, with and without statistics; evaluate and predict are one each. What a launch computes:
 *
 *   NETWORK_STEP     dense_forward, loss, dense_backward_weights, dense_backward_input
 *   NETWORK_CHAIN    the same but dense_backward_weights, whose custom kernels follow it
 *   NETWORK_FORWARD  dense_forward, output
 *
 * A variant of NETWORK_STEP that takes a whole step computes all operations of `train` in one launch, gather, norm,
 * update and metrics too; of the other two ranges of its choice the layers only.
 *
 * Statistics read A and Z of every layer, so in a step with statistics dense_forward is computed layer by layer too. */
#ifndef DESCENT_KERNELS_FUSION_H
#define DESCENT_KERNELS_FUSION_H

#include "beside.h"
#include "network.h"
#include "work.h"

struct fused_network {
  bool taken;
  bool whole;                   /* NETWORK_STEP: of `train` the launch does the whole step */
  struct network_launch launch; /* without state and whole */
  int weights[NETWORK_LAYERS];  /* NETWORK_CHAIN: the variants of the layers' dense_backward_weights */
  void *dZ;                     /* NETWORK_CHAIN: of every layer, since the plan's take turns in two slots */
};

enum fused_choice { FUSED_TRAINING, FUSED_EVALUATE, FUSED_PREDICT, FUSED_CHOICES };
struct fusion {
  const struct device_buffers *buffers;
  struct fused_network at[FUSED_CHOICES];
  size_t scratch; /* bytes that the custom kernels behind a chain need */
};

/* Chooses, after the dense operations, whose seconds are compared, and before the buffers are allocated, since trials
 * allocate their own memory. Then fusion_take allocates what the launches need. ERROR_UNSUPPORTED, with the reason,
 * where the plan asks for fusion and the training cannot be fused. */
descent_status fusion_prepare(struct fusion *fusion, struct product_choices *choices,
                              const struct device_buffers *buffers);
descent_status fusion_take(struct fusion *fusion, const struct work_memory *work, struct device_memory *memory);
void fusion_release(struct fusion *fusion);
/* Bytes that fusion_take allocates: those that grow with the batch, for each row of it, and the rest. */
void fusion_bytes(const struct fusion *fusion, double *per_row, double *fixed);
/* Changes the digest of the choices for the training step where that is fused. */
uint32_t fusion_digest(const struct fusion *fusion, uint32_t digest);

/* How the range is computed; NULL: operation by operation. */
const struct fused_network *fusion_of(const struct fusion *fusion, struct plan_range range);
/* Does the range's launch do a whole step? Does it compute this op? And the first one that it computes. */
bool fusion_takes_whole(const struct fusion *fusion, struct plan_range range);
bool fusion_covers(const struct fusion *fusion, struct plan_range range, int op);
int fusion_first(const struct fusion *fusion, struct plan_range range);
/* Is this PLAN_BATCH buffer written by an op that the launch computes, but not by the launch? */
bool fusion_leaves_out(const struct fusion *fusion, struct plan_range range, int buffer);
/* `whole`: what surrounds the layers, where the launch does all of it; else NULL. */
cudaError_t fusion_launch(const struct fused_network *network, const struct step_state *state,
                          const struct whole_step *whole, cudaStream_t stream);
/* Behind a chain: dense_backward_weights reads the chain's dZ, and its way is a custom kernel. Else nothing changes. */
void fusion_redirect(const struct fusion *fusion, struct plan_range range, int op, struct custom_launch *launch,
                     struct dense_way *way);
/* As fusion_path, what computes several layers of a training step; false: nothing does. */
bool fusion_of_training(const struct fusion *fusion, char text[BACKEND_PATH]);
/* As choose_path, for any op: "fused step 1" or "whole step 1" where the range's launch computes it. */
void fusion_path(const struct fusion *fusion, struct product_choices *choices, struct plan_range range, int op,
                 char text[BACKEND_PATH]);

#endif
