/* What can be asked of any operation of a plan: its name, its buffers, whether it is a matrix product. Written once,
 * for the backends, their bounds, their costs and the tests; inline, since modules see headers only. */
#ifndef DESCENT_PLAN_OPERATIONS_H
#define DESCENT_PLAN_OPERATIONS_H

#include <stdio.h>

#include "core/terms.h"
#include "plan/plan.h"

static inline const char *plan_op_kind_name(enum plan_op_kind kind) {
  switch (kind) {
    case OP_GATHER: return "gather";
    case OP_DENSE_FORWARD: return "dense_forward";
    case OP_LOSS: return "loss";
    case OP_BACKWARD_OUTPUT: return "backward_output";
    case OP_DENSE_BACKWARD_WEIGHTS: return "dense_backward_weights";
    case OP_DENSE_BACKWARD_INPUT: return "dense_backward_input";
    case OP_ACCUMULATE: return "accumulate";
    case OP_COMBINE: return "combine";
    case OP_ALLREDUCE: return "allreduce";
    case OP_GRADIENT_NORM: return "gradient_norm";
    case OP_TRUST_RATIO: return "trust_ratio";
    case OP_UPDATE: return "update";
    case OP_STATISTICS: return "statistics";
    case OP_METRICS: return "metrics";
    case OP_OUTPUT: return "output";
    case OP_KINDS: break;
  }
  return "unknown operation";
}

/* "dense_forward layer 2"; into text. */
static inline void plan_op_name(const struct plan_op *op, char *text, size_t size) {
  if (op->layer && op->kind != OP_LOSS && op->kind != OP_BACKWARD_OUTPUT)
    snprintf(text, size, "%s layer %d", plan_op_kind_name(op->kind), op->layer);
  else
    snprintf(text, size, "%s", plan_op_kind_name(op->kind));
}

static inline bool plan_has_product(const struct plan_op *op) {
  return op->kind == OP_DENSE_FORWARD || op->kind == OP_DENSE_BACKWARD_WEIGHTS || op->kind == OP_DENSE_BACKWARD_INPUT;
}

/* The moments that the plan keeps tell whether there is momentum. */
static inline enum update_rule update_rule_of(const struct plan_update *update) {
  return update_rule_from(update->optimizer, update->moment1 != PLAN_NONE, update->nesterov);
}

/* The range with which a training computes gradients: of a whole step, or of a part of one. */
static inline struct plan_range plan_training(const struct plan *plan) {
  return plan->train.count ? plan->train : plan->micro_batch;
}

/* Sums that a binary counter keeps while it adds this many parts. */
static inline int plan_combine_levels(int64_t parts) {
  int levels = 1;
  while (INT64_C(1) << levels < parts) levels++;
  return levels;
}

/* plan_combine of one value: the sum that ends with the step's micro-batch, with the kept sums `partial`, `stride` values
 * apart. */
static inline void plan_combine_value(const struct plan_step *step, double *value, double *partial, int64_t stride) {
  const int k = step->micro_batch, K = step->micro_batches;
  int level = 0;
  for (; k >> level & 1; level++) *value = partial[level * stride] + *value;
  if (k < K - 1) {
    partial[level * stride] = *value;
    return;
  }
  for (level++; K >> level; level++)
    if (K >> level & 1) *value = partial[level * stride] + *value;
}

/* Part `number` of the M that a step is cut into: rows [rows number / M, rows (number + 1) / M). It is the `place`th of
 * the `own` parts that its rank computes. `weight_sum`: of the whole step's rows. */
static inline struct plan_step plan_micro_batch(const struct plan_step *step, int64_t number, int64_t M, int place,
                                                int own, double weight_sum) {
  const int64_t begin = step->rows * number / M, end = step->rows * (number + 1) / M;
  struct plan_step part = *step;
  part.first_row += begin;
  part.rows = end - begin;
  part.batch_row = begin;
  part.micro_batch = place;
  part.micro_batches = own;
  part.weight_sum = weight_sum;
  return part;
}

/* The step as its finish range sees it, after its parts: no rows are left. */
static inline struct plan_step plan_finish(const struct plan_step *step, int own) {
  struct plan_step finish = *step;
  finish.rows = 0;
  finish.micro_batches = own;
  return finish;
}

/* ---- the buffers of an operation ---- */

enum plan_access { PLAN_READ = 1, PLAN_WRITE = 2, PLAN_UPDATE = PLAN_READ | PLAN_WRITE };

enum plan_role {
  PLAN_ROWS_OF_SOURCE, /* bound data: (source rows, width) */
  PLAN_CONSTANT,       /* fill, shift, scale, class weights: (1, width) */
  PLAN_ACTIVATION,     /* X, A, Z, dZ: (rows, width), an operand of matrix products or beside one */
  PLAN_ROWS,           /* y, w, P, dA: (rows, width) */
  PLAN_FLAT,           /* parameters, gradients, moments; width: of the whole buffer, or 0 for one layer's part */
  PLAN_STATISTIC,      /* scalars and layer statistics, in double */
};

struct plan_use {
  int buffer;
  enum plan_role role;
  int64_t width;
  enum plan_access access;
};

enum { PLAN_MOST_USES = 14 };

/* Every buffer of the operation, PLAN_NONE left out; returns how many. A buffer that serves twice (A and Z of one
 * operation, say) is listed twice. The widths are the operation's, which may be less than the buffer's. */
static inline int plan_uses(const struct plan_op *op, struct plan_use uses[PLAN_MOST_USES]) {
  int n = 0;
#define USE(buffer_, role_, width_, access_)                  \
  if ((buffer_) != PLAN_NONE) uses[n++] = (struct plan_use) { \
      (buffer_), (role_), (width_), (access_)                 \
    }
  switch (op->kind) {
    case OP_GATHER: {
      const struct plan_gather *o = &op->gather;
      USE(o->source_X, PLAN_ROWS_OF_SOURCE, o->n_x, PLAN_READ);
      USE(o->source_y, PLAN_ROWS_OF_SOURCE, o->n_y, PLAN_READ);
      USE(o->source_w, PLAN_ROWS_OF_SOURCE, 1, PLAN_READ);
      USE(o->source_index, PLAN_ROWS_OF_SOURCE, 1, PLAN_READ);
      USE(o->fill, PLAN_CONSTANT, o->n_x, PLAN_READ);
      USE(o->shift, PLAN_CONSTANT, o->n_x, PLAN_READ);
      USE(o->scale, PLAN_CONSTANT, o->n_x, PLAN_READ);
      USE(o->y_shift, PLAN_CONSTANT, o->n_y, PLAN_READ);
      USE(o->y_scale, PLAN_CONSTANT, o->n_y, PLAN_READ);
      USE(o->class_weight, PLAN_CONSTANT, 0, PLAN_READ); /* as many as there are classes */
      USE(o->X, PLAN_ACTIVATION, o->n_x, PLAN_WRITE);
      USE(o->y, PLAN_ROWS, o->n_y, PLAN_WRITE);
      USE(o->w, PLAN_ROWS, 1, PLAN_WRITE);
      USE(o->scalars, PLAN_STATISTIC, SCALAR_SLOTS, PLAN_WRITE);
      break;
    }
    case OP_DENSE_FORWARD: {
      const struct plan_dense_forward *o = &op->forward;
      USE(o->A_in, PLAN_ACTIVATION, o->n_in, PLAN_READ);
      USE(o->parameters, PLAN_FLAT, 0, PLAN_READ);
      USE(o->Z, PLAN_ACTIVATION, o->n_out, PLAN_WRITE);
      USE(o->A, PLAN_ACTIVATION, o->n_out, PLAN_WRITE);
      break;
    }
    case OP_LOSS: {
      const struct plan_loss *o = &op->loss;
      USE(o->A, PLAN_ACTIVATION, o->n, PLAN_READ);
      USE(o->Z, PLAN_ACTIVATION, o->n, PLAN_READ);
      USE(o->y, PLAN_ROWS, loss_is_regression(o->loss) ? o->n : 1, PLAN_READ);
      USE(o->w, PLAN_ROWS, 1, PLAN_READ);
      USE(o->scalars, PLAN_STATISTIC, SCALAR_SLOTS, PLAN_UPDATE);
      USE(o->dZ, PLAN_ACTIVATION, o->n, PLAN_WRITE);
      break;
    }
    case OP_BACKWARD_OUTPUT: {
      const struct plan_backward_output *o = &op->output_slope;
      USE(o->dA, PLAN_ROWS, o->n, PLAN_READ);
      USE(o->A, PLAN_ACTIVATION, o->n, PLAN_READ);
      USE(o->Z, PLAN_ACTIVATION, o->n, PLAN_READ);
      USE(o->dZ, PLAN_ACTIVATION, o->n, PLAN_WRITE);
      break;
    }
    case OP_DENSE_BACKWARD_WEIGHTS: {
      const struct plan_dense_backward_weights *o = &op->weights;
      USE(o->dZ, PLAN_ACTIVATION, o->n_out, PLAN_READ);
      USE(o->A_in, PLAN_ACTIVATION, o->n_in, PLAN_READ);
      USE(o->gradients, PLAN_FLAT, 0, PLAN_WRITE);
      break;
    }
    case OP_DENSE_BACKWARD_INPUT: {
      const struct plan_dense_backward_input *o = &op->input;
      USE(o->dZ, PLAN_ACTIVATION, o->n_out, PLAN_READ);
      USE(o->parameters, PLAN_FLAT, 0, PLAN_READ);
      USE(o->A, PLAN_ACTIVATION, o->n_in, PLAN_READ);
      USE(o->Z, PLAN_ACTIVATION, o->n_in, PLAN_READ);
      USE(o->dZ_below, PLAN_ACTIVATION, o->n_in, PLAN_WRITE);
      break;
    }
    case OP_ACCUMULATE: {
      const struct plan_accumulate *o = &op->accumulate;
      USE(o->gradients, PLAN_FLAT, o->n, o->adds ? PLAN_UPDATE : PLAN_READ);
      USE(o->kept_gradients, PLAN_FLAT, o->n, o->adds ? PLAN_READ : PLAN_WRITE);
      break;
    }
    case OP_COMBINE: {
      const struct plan_combine *o = &op->combine;
      USE(o->gradients, PLAN_FLAT, o->n, PLAN_UPDATE);
      USE(o->partial_gradients, PLAN_FLAT, o->n, PLAN_UPDATE);
      USE(o->scalars, PLAN_STATISTIC, SCALAR_SLOTS, PLAN_UPDATE);
      USE(o->partial_losses, PLAN_STATISTIC, o->levels, PLAN_UPDATE);
      break;
    }
    case OP_ALLREDUCE: {
      const struct plan_allreduce *o = &op->allreduce;
      USE(o->gradients, PLAN_FLAT, o->n, PLAN_UPDATE);
      USE(o->scalars, PLAN_STATISTIC, SCALAR_SLOTS, PLAN_UPDATE);
      break;
    }
    case OP_GRADIENT_NORM: {
      const struct plan_gradient_norm *o = &op->norm;
      USE(o->gradients, PLAN_FLAT, 0, PLAN_READ);
      USE(o->scalars, PLAN_STATISTIC, SCALAR_SLOTS, PLAN_UPDATE);
      USE(o->layer_statistics, PLAN_STATISTIC, LAYER_SLOTS, PLAN_WRITE);
      break;
    }
    case OP_TRUST_RATIO: {
      const struct plan_update *o = &op->update;
      USE(o->parameters, PLAN_FLAT, o->n, PLAN_READ);
      USE(o->gradients, PLAN_FLAT, o->n, PLAN_READ);
      USE(o->moment1, PLAN_FLAT, o->n, PLAN_READ);
      USE(o->moment2, PLAN_FLAT, o->n, PLAN_READ);
      USE(o->scalars, PLAN_STATISTIC, SCALAR_SLOTS, PLAN_READ);
      USE(o->layer_statistics, PLAN_STATISTIC, LAYER_SLOTS, PLAN_WRITE);
      break;
    }
    case OP_UPDATE: {
      const struct plan_update *o = &op->update;
      USE(o->parameters, PLAN_FLAT, o->n, PLAN_UPDATE);
      USE(o->gradients, PLAN_FLAT, o->n, PLAN_READ);
      USE(o->moment1, PLAN_FLAT, o->n, PLAN_UPDATE);
      USE(o->moment2, PLAN_FLAT, o->n, PLAN_UPDATE);
      USE(o->scalars, PLAN_STATISTIC, SCALAR_SLOTS, PLAN_READ);
      USE(o->layer_statistics, PLAN_STATISTIC, LAYER_SLOTS,
          update_has_trust_ratio(update_rule_of(o)) ? PLAN_UPDATE : PLAN_WRITE);
      break;
    }
    case OP_STATISTICS: {
      const struct plan_statistics *o = &op->statistics;
      USE(o->A, PLAN_ACTIVATION, o->n, PLAN_READ);
      USE(o->Z, PLAN_ACTIVATION, o->n, PLAN_READ);
      USE(o->layer_statistics, PLAN_STATISTIC, LAYER_SLOTS, PLAN_WRITE);
      USE(o->active, PLAN_CONSTANT, o->n, PLAN_UPDATE);
      break;
    }
    case OP_METRICS: USE(op->metrics.scalars, PLAN_STATISTIC, SCALAR_SLOTS, PLAN_UPDATE); break;
    case OP_OUTPUT: {
      const struct plan_output *o = &op->output;
      USE(o->A, PLAN_ACTIVATION, o->n, PLAN_READ);
      USE(o->y_shift, PLAN_CONSTANT, o->n, PLAN_READ);
      USE(o->y_scale, PLAN_CONSTANT, o->n, PLAN_READ);
      USE(o->P, PLAN_ROWS, o->n, PLAN_WRITE);
      break;
    }
    case OP_KINDS: break;
  }
#undef USE
  return n;
}

/* Is the buffer stored in bf16: in a bf16 plan an operand of a product, or on the way to one (X, a hidden layer's A or
 * Z, dZ)? What the loss or the output reads, the output layer's A and Z, stays float32, as does everything else. One
 * rule for the backends that store them and for the bounds that allow for it. */
static inline bool plan_is_bf16(const struct plan *plan, int buffer) {
  bool is_operand = false;
  for (int i = 0; plan->precision == DESCENT_PRECISION_BF16 && i < plan->n_ops; i++) {
    const struct plan_op *op = &plan->ops[i];
    struct plan_use uses[PLAN_MOST_USES];
    for (int n = plan_uses(op, uses); n-- > 0;) {
      if (uses[n].buffer != buffer || uses[n].role != PLAN_ACTIVATION) continue;
      const bool of_outputs = op->kind == OP_LOSS || op->kind == OP_BACKWARD_OUTPUT || op->kind == OP_OUTPUT;
      if (uses[n].access == PLAN_READ && of_outputs) return false;
      is_operand = true;
    }
  }
  return is_operand;
}

/* ---- what backends refuse ---- */

/* Whether a source may hold elements of this type: its own, or bytes where a gather reads its inputs from it. */
static inline bool plan_source_holds(const struct plan *plan, int source, descent_dtype dtype) {
  if (dtype == (plan->buffers[source].type == PLAN_I64 ? DESCENT_DTYPE_I64 : DESCENT_DTYPE_F32)) return true;
  for (int i = 0; dtype == DESCENT_DTYPE_U8 && i < plan->n_ops; i++)
    if (plan->ops[i].kind == OP_GATHER && plan->ops[i].gather.source_X == source) return true;
  return false;
}

/* A step has 1 to `batch` rows; a part of a step may have none. */
static inline bool plan_can_run(const struct plan *plan, const struct plan_step *step) {
  return step->rows >= (step->micro_batches > 0 ? 0 : 1) && step->rows <= plan->batch;
}

/* bind: the buffer is a source, and data come with at least one row of a type that it holds. Otherwise false, with the
 * reason in text. */
static inline bool plan_can_bind(const struct plan *plan, int buffer, descent_dtype dtype, const void *data,
                                 int64_t rows, char *text, size_t size) {
  if (buffer < 0 || buffer >= plan->n_buffers || plan->buffers[buffer].storage != PLAN_SOURCE || (data && rows < 1))
    snprintf(text, size, "bind: buffer %d with %lld rows is not a source", buffer, (long long)rows);
  else if (data && !plan_source_holds(plan, buffer, dtype))
    snprintf(text, size, "bind: buffer %s cannot hold elements of dtype %d", plan->buffers[buffer].name, (int)dtype);
  else
    return true;
  return false;
}

/* read and write: elements offset .. offset + count - 1 are in a buffer that is not a source, and convert to `type`. */
static inline bool plan_can_copy(const struct plan *plan, int buffer, int64_t offset, int64_t count,
                                 enum plan_type type, char *text, size_t size) {
  const struct plan_buffer *b = buffer >= 0 && buffer < plan->n_buffers ? &plan->buffers[buffer] : NULL;
  const int64_t elements = b ? b->rows * b->cols : 0;
  if (!b || b->storage == PLAN_SOURCE)
    snprintf(text, size, "buffer %d cannot be read or written", buffer);
  else if (offset < 0 || count < 0 || offset > elements || count > elements - offset)
    snprintf(text, size, "buffer %s: %lld elements from %lld, but it has %lld", b->name, (long long)count,
             (long long)offset, (long long)elements);
  else if ((b->type == PLAN_I64) != (type == PLAN_I64))
    snprintf(text, size, "buffer %s: integers convert to no other type", b->name);
  else
    return true;
  return false;
}

#endif
