/* Where an operation leaves a value, for tests in which a device gets one wrong. */
#ifndef DESCENT_TESTS_OP_OUTPUT_H
#define DESCENT_TESTS_OP_OUTPUT_H

#include <gtest/gtest.h>

#include "internal.h"

/* One value that the op writes. */
inline void output_of(const plan *p, const plan_op &op, int *buffer, int64_t *offset) {
  *offset = 0;
  switch (op.kind) {
    case OP_GATHER: *buffer = op.gather.X; break;
    case OP_DENSE_FORWARD: *buffer = op.forward.A; break;
    case OP_LOSS: *buffer = op.loss.scalars, *offset = SCALAR_LOSS; break;
    case OP_BACKWARD_OUTPUT: *buffer = op.output_slope.dZ; break;
    case OP_DENSE_BACKWARD_WEIGHTS: *buffer = op.weights.gradients, *offset = op.weights.b; break;
    case OP_DENSE_BACKWARD_INPUT: *buffer = op.input.dZ_below; break;
    case OP_ACCUMULATE:
      *buffer = op.accumulate.adds ? op.accumulate.gradients : op.accumulate.kept_gradients, *offset = p->segments[1].W;
      break;
    case OP_COMBINE: *buffer = op.combine.gradients, *offset = p->segments[1].W; break;
    case OP_ALLREDUCE: *buffer = op.allreduce.gradients, *offset = p->segments[1].W; break;
    case OP_TRUST_RATIO: *buffer = op.update.layer_statistics, *offset = LAYER_TRUST; break;
    case OP_GRADIENT_NORM: *buffer = op.norm.scalars, *offset = SCALAR_GRADIENT_NORM; break;
    case OP_UPDATE: *buffer = op.update.parameters, *offset = p->segments[1].W; break;
    case OP_STATISTICS:
      *buffer = op.statistics.layer_statistics, *offset = (op.layer - 1) * LAYER_SLOTS + LAYER_STD;
      break;
    case OP_METRICS: *buffer = op.metrics.scalars, *offset = SCALAR_TOTAL_LOSS; break;
    case OP_OUTPUT: *buffer = op.output.P; break;
    case OP_KINDS: FAIL();
  }
}

#endif
