/* The least work of each operation of the plan; bench derives its lower bounds on time from it. */
#include "core/communicator.h"
#include "plan/build.h"
#include "plan/operations.h"

/* Flops count each addition, multiplication, division, comparison and elementary function that the formula in plan.h
 * needs. */
struct cost {
  double flops, bytes;
};

enum { FLOAT = sizeof(float), BF16 = 2 }; /* bytes */

/* Bytes per value of the buffer; 0 for PLAN_NONE. */
static double width(const struct plan *plan, int buffer) {
  if (buffer == PLAN_NONE) return 0;
  return plan_is_bf16(plan, buffer) ? BF16 : FLOAT;
}

/* Bytes per weight as products read it; in bf16 they read the bf16 copy. */
static double weight_width(const struct plan *plan) { return plan->precision == DESCENT_PRECISION_BF16 ? BF16 : FLOAT; }

static struct cost gather_cost(const struct plan *plan, const struct plan_gather *op, double m) {
  const double x = (double)op->n_x, y = (double)op->n_y;
  struct cost cost = {.bytes = 2 * m * x * width(plan, op->X)}; /* the source may be kept in the form of X */
  if (op->scale != PLAN_NONE) cost.flops += 2 * m * x, cost.bytes += 2 * x * FLOAT;
  if (op->fill != PLAN_NONE) cost.bytes += x * FLOAT;
  if (op->source_index != PLAN_NONE) cost.bytes += m * (double)sizeof(int64_t);
  if (op->source_y == PLAN_NONE) return cost;
  cost.bytes += (2 * m * y + m * (op->source_w != PLAN_NONE ? 2 : 1)) * FLOAT;
  cost.flops += m; /* the sum of the weights */
  if (op->y_scale != PLAN_NONE) cost.flops += 2 * m * y, cost.bytes += 2 * y * FLOAT;
  if (op->class_weight != PLAN_NONE) cost.flops += m;
  return cost;
}

static struct cost forward_cost(const struct plan *plan, const struct plan_dense_forward *op, double m) {
  const double in = (double)op->n_in, out = (double)op->n_out;
  struct cost cost = {.flops = 2 * m * in * out + m * out};
  cost.bytes = m * in * width(plan, op->A_in) + in * out * weight_width(plan) + m * out * width(plan, op->A);
  cost.bytes += out * width(plan, op->A); /* b, which may be stored like A */
  cost.bytes += m * out * width(plan, op->Z);
  if (op->activation != DESCENT_ACTIVATION_IDENTITY) cost.flops += m * out;
  if (op->dropout > 0) cost.flops += m * out;
  return cost;
}

static struct cost loss_cost(const struct plan *plan, const struct plan_loss *op, double m) {
  const double n = (double)op->n;
  /* per logit exp, sum and difference, or per output difference, square and sum; one product for dZ */
  struct cost cost = {.flops = 3 * m * n, .bytes = (m * n + m) * FLOAT};
  cost.bytes += (loss_is_regression(op->loss) ? m * n : m) * FLOAT;
  if (op->dZ == PLAN_NONE) return cost;
  cost.flops += m * n;
  cost.bytes += m * n * (width(plan, op->dZ) + width(plan, op->Z));
  return cost;
}

static struct cost backward_output_cost(const struct plan *plan, const struct plan_backward_output *op, double m) {
  const double n = (double)op->n;
  struct cost cost = {.bytes = m * n * (FLOAT + width(plan, op->dZ))};
  if (op->activation == DESCENT_ACTIVATION_IDENTITY) return cost;
  cost.flops = 2 * m * n;
  cost.bytes += m * n * width(plan, op->A); /* or Z, which has the same size */
  return cost;
}

static struct cost weights_cost(const struct plan *plan, const struct plan_dense_backward_weights *op, double m) {
  const double in = (double)op->n_in, out = (double)op->n_out;
  return (struct cost){
      .flops = 2 * m * in * out + m * out,
      .bytes = m * out * width(plan, op->dZ) + m * in * width(plan, op->A_in) + (in * out + out) * FLOAT,
  };
}

static struct cost input_cost(const struct plan *plan, const struct plan_dense_backward_input *op, double m) {
  const double in = (double)op->n_in, out = (double)op->n_out;
  struct cost cost = {.flops = 2 * m * in * out};
  cost.bytes = m * out * width(plan, op->dZ) + in * out * weight_width(plan) + m * in * width(plan, op->dZ_below);
  if (op->activation == DESCENT_ACTIVATION_IDENTITY && op->dropout <= 0) return cost;
  cost.flops += 2 * m * in;
  cost.bytes += m * in * width(plan, op->A); /* or Z, which has the same size */
  if (op->Z != PLAN_NONE && op->dropout > 0) cost.flops += m * in;
  return cost;
}

/* Per parameter. */
static double rule_flops(enum update_rule rule) {
  switch (rule) {
    case UPDATE_GD: break;
    case UPDATE_MOMENTUM: return 4;
    case UPDATE_NESTEROV: return 6;
    case UPDATE_RMSPROP: return 9;
    case UPDATE_RMSPROP_MOMENTUM: return 11;
    case UPDATE_ADAM: return 12;
    case UPDATE_LARS: return 5;
    case UPDATE_LAMB: return 14;
  }
  return 2;
}

static struct cost update_cost(const struct plan *plan, const struct plan_update *op) {
  const double n = (double)op->n;
  struct cost cost = {.flops = (rule_flops(update_rule_of(op)) + 1) * n, .bytes = 3 * n * FLOAT}; /* + 1: clipping */
  if (op->moment1 != PLAN_NONE) cost.bytes += 2 * n * FLOAT;
  if (op->moment2 != PLAN_NONE) cost.bytes += 2 * n * FLOAT;
  if (plan->precision == DESCENT_PRECISION_BF16) cost.bytes += n * BF16; /* the bf16 copy */
  if (op->l2 > 0) cost.flops += 2 * n;
  if (op->weight_decay > 0) cost.flops += (update_has_trust_ratio(update_rule_of(op)) ? 2 : 1) * n;
  return cost;
}

/* Everything that the update reads, once more; of b's share, which is small, too. */
static struct cost trust_cost(const struct plan_update *op) {
  const double n = (double)op->n;
  const bool is_lamb = update_rule_of(op) == UPDATE_LAMB;
  struct cost cost = {.flops = (is_lamb ? 16 : 5) * n,
                      .bytes = 2 * n * FLOAT}; /* clipping, u and two sums of squares */
  if (is_lamb) cost.bytes += 2 * n * FLOAT;
  if (op->l2 > 0) cost.flops += 2 * n;
  if (is_lamb && op->weight_decay > 0) cost.flops += 2 * n;
  return cost;
}

/* Of one part, as a mean over the K parts of a step: together they read K gradients and the K - 1 sums that are added to
 * them, write K results, and add K - 1 times. */
static struct cost combine_cost(const struct plan_combine *op) {
  const double K = (double)op->micro_batches, n = (double)op->n;
  return (struct cost){.flops = n * (K - 1) / K, .bytes = n * FLOAT * (3 * K - 1) / K};
}

/* In memory, each rank reads all of its gradients and writes their sums. It adds its slice of every rank's: R - 1 sums for
 * each of n / R elements. One rank has the sums already; if it sends them to itself, that is the link's traffic. */
static struct cost allreduce_cost(const struct plan *plan, const struct plan_allreduce *op) {
  const double ranks = communicator_size(plan->communicator), n = (double)op->n;
  return (struct cost){.flops = n * (ranks - 1) / ranks, .bytes = ranks > 1 ? 2 * n * FLOAT : 0};
}

void plan_op_cost(const struct plan *plan, const struct plan_op *op, int64_t rows, double *flops, double *bytes) {
  const double m = (double)rows;
  struct cost cost = {0, 0};
  switch (op->kind) {
    case OP_GATHER: cost = gather_cost(plan, &op->gather, m); break;
    case OP_DENSE_FORWARD: cost = forward_cost(plan, &op->forward, m); break;
    case OP_LOSS: cost = loss_cost(plan, &op->loss, m); break;
    case OP_BACKWARD_OUTPUT: cost = backward_output_cost(plan, &op->output_slope, m); break;
    case OP_DENSE_BACKWARD_WEIGHTS: cost = weights_cost(plan, &op->weights, m); break;
    case OP_DENSE_BACKWARD_INPUT: cost = input_cost(plan, &op->input, m); break;
    case OP_ACCUMULATE: /* a copy, or two operands and a sum */
      cost.bytes = (op->accumulate.adds ? 3 : 2) * (double)op->accumulate.n * FLOAT;
      cost.flops = op->accumulate.adds ? (double)op->accumulate.n : 0;
      break;
    case OP_COMBINE: cost = combine_cost(&op->combine); break;
    case OP_ALLREDUCE: cost = allreduce_cost(plan, &op->allreduce); break;
    case OP_TRUST_RATIO: cost = trust_cost(&op->update); break;
    case OP_GRADIENT_NORM:
      cost.bytes = (double)plan->buffers[op->norm.gradients].cols * FLOAT;
      cost.flops = 2 * (double)plan->buffers[op->norm.gradients].cols;
      break;
    case OP_UPDATE: cost = update_cost(plan, &op->update); break;
    case OP_STATISTICS: /* sum, sum of squares and the threshold on g' */
      cost.bytes = m * (double)op->statistics.n * (width(plan, op->statistics.A) + width(plan, op->statistics.Z));
      cost.flops = 4 * m * (double)op->statistics.n;
      break;
    case OP_METRICS: /* four doubles read, two written */
      cost.bytes = 6 * (double)sizeof(double);
      cost.flops = 3;
      break;
    case OP_OUTPUT:
      cost.bytes = 2 * m * (double)op->output.n * FLOAT;
      cost.flops = 2 * m * (double)op->output.n;
      break;
    case OP_KINDS: break;
  }
  *flops = cost.flops;
  *bytes = cost.bytes;
}

double plan_link_bytes(const struct plan *plan, const struct plan_op *op) {
  if (op->kind != OP_ALLREDUCE || !communicator_exchanges(plan->communicator)) return 0;
  const double ranks = communicator_size(plan->communicator), others = ranks > 1 ? ranks - 1 : 1;
  return others * (2 * (double)op->allreduce.n * FLOAT / ranks + (double)sizeof(double));
}

/* ---- several operations in one kernel ---- */

/* Bytes of the part of a flat buffer that an op uses: its layer's, or all of it. `exact`: W and b in float32, not in the
 * form that products read. */
static double part_bytes(const struct plan *plan, const struct plan_op *op, int buffer, bool exact) {
  const double weight = exact ? FLOAT : weight_width(plan);
  const struct plan_dense_forward *f = &op->forward;
  const struct plan_dense_backward_weights *w = &op->weights;
  const struct plan_dense_backward_input *i = &op->input;
  switch (op->kind) {
    case OP_DENSE_FORWARD: /* b may be stored like A */
      return (double)f->n_out * ((double)f->n_in * weight + (exact ? FLOAT : width(plan, f->A)));
    case OP_DENSE_BACKWARD_WEIGHTS: return (double)w->n_out * (double)(w->n_in + 1) * FLOAT;
    case OP_DENSE_BACKWARD_INPUT: return (double)i->n_out * (double)i->n_in * weight;
    default: return (double)plan->buffers[buffer].cols * FLOAT;
  }
}

/* Bytes of an operand on m rows. Statistics count nothing: they are a few numbers. */
static double use_bytes(const struct plan *plan, const struct plan_op *op, const struct plan_use *use, double m,
                        bool exact) {
  const double n = (double)use->width;
  switch (use->role) {
    case PLAN_ROWS_OF_SOURCE: /* X may be kept in the form that is gathered */
      if (op->kind == OP_GATHER && use->buffer == op->gather.source_X) return m * n * width(plan, op->gather.X);
      return m * n * (plan->buffers[use->buffer].type == PLAN_I64 ? (double)sizeof(int64_t) : FLOAT);
    case PLAN_CONSTANT: return n * FLOAT;
    case PLAN_ACTIVATION:
    case PLAN_ROWS: return m * n * width(plan, use->buffer);
    case PLAN_FLAT: return n > 0 ? n * FLOAT : part_bytes(plan, op, use->buffer, exact);
    case PLAN_STATISTIC: break;
  }
  return 0;
}

/* The ops of `range` whose entries of `group` are `number`. */
struct group {
  struct plan_range range;
  const int *group;
  int number;
};

static bool is_member(const struct group *g, int i) { return g->group[i] == g->number; }

/* Do two uses of a buffer meet? Those of two layers' parts do not. */
static bool is_same_part(const struct plan_op *a, const struct plan_use *use_a, const struct plan_op *b,
                         const struct plan_use *use_b) {
  const bool are_parts = use_a->width == 0 && use_b->width == 0 && a->layer && b->layer;
  return use_a->buffer == use_b->buffer && (!are_parts || a->layer == b->layer);
}

/* Has the group accessed this use's part before, in one of these ways? The use is number `place` of op i's. */
static bool is_met_before(const struct plan *plan, const struct group *g, int i, const struct plan_use *use, int place,
                          enum plan_access access) {
  const struct plan_op *ops = &plan->ops[g->range.first];
  struct plan_use uses[PLAN_MOST_USES];
  for (int j = 0; j <= i; j++) {
    if (!is_member(g, j)) continue;
    const int n = plan_uses(&ops[j], uses);
    for (int k = 0; k < (j == i ? place : n); k++)
      if ((uses[k].access & access) && is_same_part(&ops[i], use, &ops[j], &uses[k])) return true;
  }
  return false;
}

/* Must what is written be in memory after the group: is it state, read by an op outside the group, or a result of the
 * range, as P, which none reads? */
static bool is_kept(const struct plan *plan, const struct group *g, const struct plan_use *use) {
  struct plan_use uses[PLAN_MOST_USES];
  bool is_read = false;
  if (plan->buffers[use->buffer].storage == PLAN_STATE) return true;
  for (int i = 0; i < g->range.count; i++)
    for (int n = plan_uses(&plan->ops[g->range.first + i], uses); n-- > 0;) {
      if (uses[n].buffer != use->buffer || !(uses[n].access & PLAN_READ)) continue;
      if (!is_member(g, i)) return true;
      is_read = true;
    }
  return use->role == PLAN_ROWS && !is_read;
}

/* Does an update of the group read the float32 of this buffer? What products read of it can be made from that. */
static bool is_updated(const struct plan *plan, const struct group *g, int buffer) {
  for (int i = 0; i < g->range.count; i++) {
    const struct plan_op *op = &plan->ops[g->range.first + i];
    if (is_member(g, i) && op->kind == OP_UPDATE && op->update.parameters == buffer) return true;
  }
  return false;
}

void plan_group_cost(const struct plan *plan, struct plan_range range, const int *group, int number, int64_t rows,
                     double *flops, double *bytes) {
  const struct group g = {range, group, number};
  int members = 0;
  *flops = *bytes = 0;
  double moved = 0;
  for (int i = 0; i < range.count; i++) {
    const struct plan_op *op = &plan->ops[range.first + i];
    struct plan_use uses[PLAN_MOST_USES];
    double op_flops;
    if (!is_member(&g, i)) continue;
    members++;
    plan_op_cost(plan, op, rows, &op_flops, bytes);
    *flops += op_flops;
    for (int k = 0, n = plan_uses(op, uses); k < n; k++) {
      const double once = use_bytes(plan, op, &uses[k], (double)rows, is_updated(plan, &g, uses[k].buffer));
      if ((uses[k].access & PLAN_READ) && !is_met_before(plan, &g, i, &uses[k], k, PLAN_UPDATE)) moved += once;
      if ((uses[k].access & PLAN_WRITE) && is_kept(plan, &g, &uses[k]) &&
          !is_met_before(plan, &g, i, &uses[k], k, PLAN_WRITE))
        moved += once;
    }
    /* The copy that the next step's products read; `once` is the float32. */
    if (op->kind == OP_UPDATE && plan->precision == DESCENT_PRECISION_BF16) moved += (double)op->update.n * BF16;
  }
  if (members > 1) *bytes = moved; /* an op alone stores all that it computes */
}
