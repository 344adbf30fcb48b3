/* Building the plan of a network's training and evaluation, and what its operations cost. */
#ifndef DESCENT_PLAN_BUILD_H
#define DESCENT_PLAN_BUILD_H

#include "model/network.h"
#include "plan/plan.h"

/* Numbers of the buffers that the host binds, reads and writes. */
struct plan_handles {
  int source_X, source_y, source_w, source_index;
  int fill;                                    /* PLAN_NONE where missing cells have no value */
  int shift, scale;                            /* PLAN_NONE without input normalisation */
  int y_shift, y_scale;                        /* PLAN_NONE for classifiers */
  int class_weight;                            /* PLAN_NONE unless the options ask for class weights */
  int parameters, gradients, moment1, moment2; /* moments PLAN_NONE where the optimizer has none */
  int scalars, layer_statistics;
  int X, y, w, A, P; /* A: of the output layer */
};

/* Builds the plan for steps of at most `batch` rows. `options` NULL: evaluate and predict ranges only (no gradients, no
 * optimizer state; train ranges empty). Class weights are part of the plan when the options ask for any. Borrows
 * nothing. */
descent_status plan_build(const descent_network *network, const descent_train_options *options, int64_t batch,
                          struct plan **plan, struct plan_handles *handles);
void plan_free(struct plan *plan);

/* Least work of an op on `rows` rows: floating-point operations and bytes moved (float32: each input read once, each
 * output written once). */
void plan_op_cost(const struct plan *plan, const struct plan_op *op, int64_t rows, double *flops, double *bytes);

#endif
