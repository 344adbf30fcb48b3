/* Builds the plan of a network's training and evaluation; counts the work of its operations. */
#ifndef DESCENT_PLAN_BUILD_H
#define DESCENT_PLAN_BUILD_H

#include "model/network.h"
#include "plan/plan.h"

/* Numbers of the buffers that the host binds, reads and writes. */
struct plan_handles {
  int source_X, source_y, source_w, source_index;
  int fill;                                    /* PLAN_NONE without imputation */
  int shift, scale;                            /* PLAN_NONE without input normalisation */
  int y_shift, y_scale;                        /* PLAN_NONE for classifiers */
  int class_weight;                            /* PLAN_NONE without class weights */
  int parameters, gradients, moment1, moment2; /* moments: PLAN_NONE where the optimizer has none */
  int scalars, layer_statistics;
  int kept_gradients, dA, dX; /* PLAN_NONE unless their part is asked for */
  int partial_gradients, partial_losses;
  int X, y, w, A, P; /* A: of the output layer */
};

/* Builds the plan for steps of at most `batch` >= 1 rows. `options` NULL: only the evaluate and predict ranges, without
 * gradients and optimizer state, in fp32; the train ranges are empty. The plan has a class_weight buffer if the options set
 * class weights or balance classes. The plan keeps no pointer to its arguments. ERROR_ARGUMENT, ERROR_MEMORY. */
descent_status plan_build(const descent_network *network, const descent_train_options *options, int64_t batch,
                          struct plan **plan, struct plan_handles *handles);
/* The same with some of enum plan_part; without options, the network's values in prediction are what is differentiated.
 */
descent_status plan_build_with(const descent_network *network, const descent_train_options *options, unsigned parts,
                               int64_t batch, struct plan **plan, struct plan_handles *handles);
/* Without options for a training: evaluations and predictions as `predict` says. */
descent_status plan_build_prediction(const descent_network *network, const descent_predict_options *predict,
                                     unsigned parts, int64_t batch, struct plan **plan, struct plan_handles *handles);
void plan_free(struct plan *plan);

/* The least work of an op on `rows` rows: floating-point operations, and bytes moved if each input is read once and
 * each output is written once, in the precision in which it is stored. */
void plan_op_cost(const struct plan *plan, const struct plan_op *op, int64_t rows, double *flops, double *bytes);

/* The bytes that a rank sends to others in an op, as many as it receives: 0 but for allreduce, where each of R ranks sends
 * the others their slices of the gradients and its slice of the sum, 2 (R - 1) / R of them, and J. One rank that exchanges
 * with itself sends all of them twice. */
double plan_link_bytes(const struct plan *plan, const struct plan_op *op);

/* The same of a group of ops in one kernel: those of the range whose entries of `group` (range.count) are `number`.
 * Flops are the sum over the ops. Bytes: what the group reads before it writes it, once, and what it writes, once, if
 * it is state, an op of the range outside the group reads it, or it is the result P. Values that stay inside the group
 * are not counted. A group of one op costs what the op does. */
void plan_group_cost(const struct plan *plan, struct plan_range range, const int *group, int number, int64_t rows,
                     double *flops, double *bytes);

#endif
