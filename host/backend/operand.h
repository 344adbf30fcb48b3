/* Which buffers a reduced-precision plan keeps in the reduced type: those that matrix products read, and what lies on
 * the way to them. One rule for the backends that store them and for the bounds that allow for it. */
#ifndef DESCENT_BACKEND_OPERAND_H
#define DESCENT_BACKEND_OPERAND_H

#include "backend/plan.h"

/* Does some op of the plan show that the buffer is, or pairs with, an operand of a product (X, a hidden layer's A or Z,
 * D)? False for the output layer's A and Z (what loss and output read), which stay float32, and for all others. */
static inline bool plan_is_operand(const struct plan *plan, int buffer) {
  bool operand = false;
  for (int i = 0; buffer != PLAN_NONE && i < plan->n_ops; i++) {
    const struct plan_op *op = &plan->ops[i];
    switch (op->kind) {
      case OP_GATHER: operand |= op->gather.X == buffer; break;
      case OP_DENSE_FORWARD:
        operand |= op->forward.A_in == buffer || op->forward.A == buffer || op->forward.Z == buffer;
        break;
      case OP_LOSS:
        if (op->loss.A == buffer || op->loss.Z == buffer) return false;
        operand |= op->loss.D == buffer;
        break;
      case OP_DENSE_BACKWARD_WEIGHTS: operand |= op->weights.D == buffer || op->weights.A_in == buffer; break;
      case OP_DENSE_BACKWARD_INPUT:
        operand |= op->input.D == buffer || op->input.A == buffer || op->input.Z == buffer || op->input.D_in == buffer;
        break;
      case OP_STATISTICS: operand |= op->statistics.A == buffer || op->statistics.Z == buffer; break;
      case OP_OUTPUT:
        if (op->output.A == buffer) return false;
        break;
      case OP_GRADIENT_NORM:
      case OP_UPDATE:
      case OP_METRICS:
      case OP_KINDS: break;
    }
  }
  return operand;
}

#endif
