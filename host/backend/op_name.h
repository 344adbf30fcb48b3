/* What the plan's operations are called, in the library's tables and in a module's errors. */
#ifndef DESCENT_BACKEND_OP_NAME_H
#define DESCENT_BACKEND_OP_NAME_H

#include <stdio.h>

#include "backend/plan.h"

/* "dense_forward layer 2"; into text. */
static inline void plan_op_name(const struct plan_op *op, char *text, size_t size) {
  static const char *const names[OP_KINDS] = {
      [OP_GATHER] = "gather",
      [OP_DENSE_FORWARD] = "dense_forward",
      [OP_LOSS] = "loss",
      [OP_DENSE_BACKWARD_WEIGHTS] = "dense_backward_weights",
      [OP_DENSE_BACKWARD_INPUT] = "dense_backward_input",
      [OP_GRADIENT_NORM] = "gradient_norm",
      [OP_UPDATE] = "update",
      [OP_STATISTICS] = "statistics",
      [OP_METRICS] = "metrics",
      [OP_OUTPUT] = "output",
  };
  if (op->layer && op->kind != OP_LOSS)
    snprintf(text, size, "%s layer %d", names[op->kind], op->layer);
  else
    snprintf(text, size, "%s", names[op->kind]);
}

#endif
