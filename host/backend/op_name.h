/* What the plan's operations are called, in the library's tables and in a module's errors. */
#ifndef DESCENT_BACKEND_OP_NAME_H
#define DESCENT_BACKEND_OP_NAME_H

#include <stdio.h>

#include "backend/plan.h"

static inline const char *plan_op_kind_name(enum plan_op_kind kind) {
  switch (kind) {
    case OP_GATHER: return "gather";
    case OP_DENSE_FORWARD: return "dense_forward";
    case OP_LOSS: return "loss";
    case OP_DENSE_BACKWARD_WEIGHTS: return "dense_backward_weights";
    case OP_DENSE_BACKWARD_INPUT: return "dense_backward_input";
    case OP_GRADIENT_NORM: return "gradient_norm";
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
  if (op->layer && op->kind != OP_LOSS)
    snprintf(text, size, "%s layer %d", plan_op_kind_name(op->kind), op->layer);
  else
    snprintf(text, size, "%s", plan_op_kind_name(op->kind));
}

#endif
