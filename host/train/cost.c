/* What the plan's operations are called and the least that each must do: the floors that bench measures against. */
#include <stdio.h>

#include "train/plan.h"

void plan_op_name(const struct plan_op *op, char *text, size_t size) {
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

/* Counted per value: one operation for each addition, multiplication, division, comparison or elementary function that
 * the formula in plan.h cannot do without. */
struct cost {
  double flops, values; /* values: float32 moved */
};

static struct cost gather_cost(const struct plan_gather *op, double m) {
  const double x = (double)op->n_x, y = (double)op->n_y;
  struct cost cost = {.values = 2 * m * x};
  if (op->scale != PLAN_NONE) cost.flops += 2 * m * x, cost.values += 2 * x;
  if (op->source_index != PLAN_NONE) cost.values += 2 * m; /* an index is as wide as two floats */
  if (op->source_y == PLAN_NONE) return cost;
  cost.values += 2 * m * y + m * (op->source_w != PLAN_NONE ? 2 : 1);
  cost.flops += m; /* the sum of the weights */
  if (op->y_scale != PLAN_NONE) cost.flops += 2 * m * y, cost.values += 2 * y;
  if (op->class_weight != PLAN_NONE) cost.flops += m;
  return cost;
}

static struct cost forward_cost(const struct plan_dense_forward *op, double m) {
  const double in = (double)op->n_in, out = (double)op->n_out;
  struct cost cost = {.flops = 2 * m * in * out + m * out, .values = m * in + in * out + out + m * out};
  if (op->activation != DESCENT_ACTIVATION_IDENTITY) cost.flops += m * out;
  if (op->dropout > 0) cost.flops += m * out;
  if (op->Z != PLAN_NONE) cost.values += m * out;
  return cost;
}

static struct cost loss_cost(const struct plan_loss *op, double m) {
  const double n = (double)op->n;
  /* exp, sum and difference per logit, or difference, square and sum per output; then one product for D */
  struct cost cost = {.flops = 3 * m * n, .values = m * n + m};
  cost.values += op->loss == DESCENT_LOSS_MEAN_SQUARED_ERROR ? m * n : m;
  if (op->D != PLAN_NONE) cost.flops += m * n, cost.values += m * n;
  if (op->D != PLAN_NONE && op->Z != PLAN_NONE) cost.values += m * n;
  return cost;
}

static struct cost weights_cost(const struct plan_dense_backward_weights *op, double m) {
  const double in = (double)op->n_in, out = (double)op->n_out;
  return (struct cost){.flops = 2 * m * in * out + m * out, .values = m * out + m * in + in * out + out};
}

static struct cost input_cost(const struct plan_dense_backward_input *op, double m) {
  const double in = (double)op->n_in, out = (double)op->n_out;
  struct cost cost = {.flops = 2 * m * in * out, .values = m * out + in * out + m * in};
  if (op->activation == DESCENT_ACTIVATION_IDENTITY && op->dropout <= 0) return cost;
  cost.flops += 2 * m * in;
  cost.values += m * in; /* A, or Z in its place */
  if (op->Z != PLAN_NONE && op->dropout > 0) cost.flops += m * in;
  return cost;
}

static struct cost update_cost(const struct plan_update *op) {
  static const double flops[] = {
      [DESCENT_OPTIMIZER_GD] = 2,    [DESCENT_OPTIMIZER_SGD] = 2,    [DESCENT_OPTIMIZER_RMSPROP] = 9,
      [DESCENT_OPTIMIZER_ADAM] = 12, [DESCENT_OPTIMIZER_ADAMW] = 12,
  };
  const double n = (double)op->n;
  struct cost cost = {.flops = (flops[op->optimizer] + 1) * n, .values = 3 * n}; /* + 1: the clipping factor */
  if (op->moment1 != PLAN_NONE) cost.values += 2 * n;
  if (op->moment2 != PLAN_NONE) cost.values += 2 * n;
  if (op->moment1 != PLAN_NONE && op->optimizer <= DESCENT_OPTIMIZER_RMSPROP)
    cost.flops += (op->nesterov ? 4 : 2) * n; /* the velocity */
  if (op->l2 > 0) cost.flops += 2 * n;
  if (op->weight_decay > 0) cost.flops += n;
  return cost;
}

void plan_op_cost(const struct plan *plan, const struct plan_op *op, int64_t rows, double *flops, double *bytes) {
  const double m = (double)rows;
  struct cost cost = {0, 0};
  switch (op->kind) {
    case OP_GATHER: cost = gather_cost(&op->gather, m); break;
    case OP_DENSE_FORWARD: cost = forward_cost(&op->forward, m); break;
    case OP_LOSS: cost = loss_cost(&op->loss, m); break;
    case OP_DENSE_BACKWARD_WEIGHTS: cost = weights_cost(&op->weights, m); break;
    case OP_DENSE_BACKWARD_INPUT: cost = input_cost(&op->input, m); break;
    case OP_GRADIENT_NORM:
      cost.values = (double)plan->buffers[op->norm.gradients].cols;
      cost.flops = 2 * cost.values;
      break;
    case OP_UPDATE: cost = update_cost(&op->update); break;
    case OP_STATISTICS: /* sum and sum of squares, and the threshold on g' */
      cost.values = m * (double)op->statistics.n * (op->statistics.Z != PLAN_NONE ? 2 : 1);
      cost.flops = 4 * m * (double)op->statistics.n;
      break;
    case OP_METRICS: /* four doubles read, two written */
      cost.values = 12;
      cost.flops = 3;
      break;
    case OP_OUTPUT:
      cost.values = 2 * m * (double)op->output.n;
      cost.flops = 2 * m * (double)op->output.n;
      break;
    case OP_KINDS: break;
  }
  *flops = cost.flops;
  *bytes = cost.values * (double)sizeof(float);
}
