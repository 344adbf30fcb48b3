/* Bounds of a whole range of operations: intervals of all values, propagated from operation to operation by the functions
 * that bound single operations. */
#include <stdlib.h>

#include "core/memory.h"
#include "core/status.h"
#include "verify/bounds_internal.h"

struct propagation {
  const struct backend_program *reference;
  const struct plan *plan;
  const struct plan_step *step;
  struct interval **values; /* as in range_bounds */
};

static struct interval unbounded(void) { return (struct interval){-INFINITY, INFINITY}; }

static bool is_bounded(struct interval x) { return isfinite(x.lo) && isfinite(x.hi); }

static bool are_bounded(const struct interval *x, int64_t n) {
  for (int64_t i = 0; i < n; i++)
    if (!is_bounded(x[i])) return false;
  return true;
}

static struct interval *values_of(const struct propagation *p, int buffer) {
  return buffer == PLAN_NONE ? NULL : p->values[buffer];
}

/* ---- products ---- */

static struct operand operand(descent_precision precision, struct interval x) {
  if (precision == DESCENT_PRECISION_TF32) x = interval_to_tf32(x);
  if (precision == DESCENT_PRECISION_BF16) x = interval_to_bf16(x);
  const double middle = interval_middle(x);
  return (struct operand){middle, fmax(x.hi - middle, middle - x.lo)};
}

/* NULL if out of memory. */
static struct operand *operands(descent_precision precision, const struct interval *x, int64_t n) {
  struct operand *made = memory_allocate(n, sizeof *made, "a product's operands");
  for (int64_t i = 0; made && i < n; i++) made[i] = operand(precision, x[i]);
  return made;
}

/* A product with 0 is exact, and so is its addition. */
static void add_product(struct sum *sum, struct operand a, struct operand b) {
  if ((a.value == 0 && a.error == 0) || (b.value == 0 && b.error == 0)) return;
  bounds_add_product(sum, a, b);
  sum->products++;
  sum->terms++;
}

/* sum_i x_i y_i, y strided. */
static struct sum dot(const struct operand *x, const struct operand *y, int64_t y_stride, int64_t n) {
  struct sum sum = {0};
  for (int64_t i = 0; i < n; i++) add_product(&sum, x[i], y[i * y_stride]);
  return sum;
}

/* ---- the dense layer ---- */

static struct interval activated(descent_activation activation, struct interval z, double factor, bool reduced) {
  if (!is_bounded(z)) return unbounded();
  const struct interval g = reduced ? bounds_activation_approximate(activation, z) : bounds_activation(activation, z);
  const struct interval a = bounds_dropped(g, factor);
  return reduced ? interval_to_bf16(a) : a;
}

static descent_status dense_forward(const struct propagation *p, const struct plan_op *op) {
  const struct plan_dense_forward *o = &op->forward;
  const bool reduced = plan_is_bf16(p->plan, o->A);
  const descent_precision precision = p->plan->precision;
  const struct interval *b = p->values[o->parameters] + o->b;
  struct interval *A = p->values[o->A], *Z = values_of(p, o->Z);
  struct operand *A_in = operands(precision, p->values[o->A_in], p->step->rows * o->n_in);
  struct operand *W = operands(precision, p->values[o->parameters] + o->W, o->n_out * o->n_in);
  const descent_status status = A_in && W ? DESCENT_OK : DESCENT_ERROR_MEMORY;
  for (int64_t r = 0; status == DESCENT_OK && r < p->step->rows; r++)
    for (int64_t j = 0; j < o->n_out; j++) {
      const int64_t rj = r * o->n_out + j;
      const struct sum product = dot(A_in + r * o->n_in, W + j * o->n_in, 1, o->n_in);
      const double bias = reduced ? interval_bf16(b[j].lo) : b[j].lo;
      const struct interval z = bounds_summed(precision, bounds_plus(product, bias, 0));
      A[rj] = activated(o->activation, z, reference_dropout(p->plan, p->step, op->layer, o->n_out, o->dropout, rj),
                        reduced);
      if (Z) Z[rj] = reduced ? interval_to_bf16(z) : z;
    }
  free(A_in);
  free(W);
  return status;
}

static descent_status dense_backward_weights(const struct propagation *p, const struct plan_op *op) {
  const struct plan_dense_backward_weights *o = &op->weights;
  const descent_precision precision = p->plan->precision, fp32 = DESCENT_PRECISION_FP32;
  const struct interval *stored = p->values[o->dZ]; /* which db sums in tf32 */
  struct interval *dW = p->values[o->gradients] + o->W, *db = p->values[o->gradients] + o->b;
  struct operand *dZ = operands(precision, stored, p->step->rows * o->n_out);
  struct operand *A_in = operands(precision, p->values[o->A_in], p->step->rows * o->n_in);
  struct sum *sums = memory_allocate(o->n_in, sizeof *sums, "a row of dW");
  const descent_status status = dZ && A_in && sums ? DESCENT_OK : DESCENT_ERROR_MEMORY;
  for (int64_t j = 0; status == DESCENT_OK && j < o->n_out; j++) {
    struct sum of_db = {0};
    for (int64_t i = 0; i < o->n_in; i++) sums[i] = (struct sum){0};
    for (int64_t r = 0; r < p->step->rows; r++) {
      const int64_t rj = r * o->n_out + j;
      add_product(&of_db, operand(fp32, stored[rj]), (struct operand){1, 0});
      for (int64_t i = 0; i < o->n_in; i++) add_product(&sums[i], dZ[rj], A_in[r * o->n_in + i]);
    }
    for (int64_t i = 0; i < o->n_in; i++) dW[j * o->n_in + i] = bounds_summed(precision, sums[i]);
    /* In bf16 a kernel of several layers may sum db on tensor cores, as products with 1. */
    db[j] = bounds_summed(precision == DESCENT_PRECISION_BF16 ? precision : fp32, of_db);
  }
  free(dZ);
  free(A_in);
  free(sums);
  return status;
}

/* d times g' of element i of the layer below. */
static struct interval sloped(const struct propagation *p, const struct plan_dense_backward_input *o, struct interval d,
                              int64_t i) {
  const struct interval A = p->values[o->A][i], z = o->Z == PLAN_NONE ? interval_exact(0) : p->values[o->Z][i];
  if (o->activation == DESCENT_ACTIVATION_IDENTITY) return d;
  if (!is_bounded(A) || !is_bounded(z)) return unbounded();
  return interval_mul(d, bounds_slope(o->activation, bounds_unscaled(A, o->dropout), z));
}

static descent_status dense_backward_input(const struct propagation *p, const struct plan_op *op) {
  const struct plan_dense_backward_input *o = &op->input;
  const bool reduced = plan_is_bf16(p->plan, o->dZ_below);
  const descent_precision precision = p->plan->precision;
  struct interval *dZ_below = p->values[o->dZ_below];
  struct operand *dZ = operands(precision, p->values[o->dZ], p->step->rows * o->n_out);
  struct operand *W = operands(precision, p->values[o->parameters] + o->W, o->n_out * o->n_in);
  const descent_status status = dZ && W ? DESCENT_OK : DESCENT_ERROR_MEMORY;
  for (int64_t r = 0; status == DESCENT_OK && r < p->step->rows; r++)
    for (int64_t i = 0; i < o->n_in; i++) {
      const int64_t ri = r * o->n_in + i;
      const struct interval product = bounds_summed(precision, dot(dZ + r * o->n_out, W + i, o->n_in, o->n_out));
      const double factor = reference_dropout(p->plan, p->step, op->layer - 1, o->n_in, o->dropout, ri);
      const struct interval d = bounds_dropped(sloped(p, o, product, ri), factor);
      dZ_below[ri] = reduced ? interval_to_bf16(d) : d;
    }
  free(dZ);
  free(W);
  return status;
}

/* ---- loss and output ---- */

/* J sums the rows in double, after at most one rounding of w L. */
static struct interval sum_of_rows(struct interval sum, int64_t rows) {
  const struct interval rounded = interval_rounded(sum, 1);
  const double error = interval_gamma64((double)rows + 4) * interval_magnitude(rounded).hi;
  return (struct interval){rounded.lo - error, rounded.hi + error};
}

static descent_status loss(const struct propagation *p, const struct plan_op *op) {
  const struct plan_loss *o = &op->loss;
  const int64_t n = o->n, n_y = loss_is_regression(o->loss) ? n : 1;
  const double *y = reference_values(p->reference, o->y), *w = reference_values(p->reference, o->w);
  const struct interval *A = p->values[o->A], *Z = values_of(p, o->Z);
  struct interval *dZ = values_of(p, o->dZ), *scalars = p->values[o->scalars], sum = {0, 0};
  const double weight_sum = scalars[SCALAR_WEIGHT_SUM].lo;
  const bool reduced = plan_is_bf16(p->plan, o->dZ);
  struct interval *e = memory_allocate(n, sizeof *e, "a row's bounds");
  if (!e) return DESCENT_ERROR_MEMORY;
  for (int64_t r = 0; r < p->step->rows; r++) {
    const struct loss_row row = {A + r * n, Z ? Z + r * n : NULL,  y + r * n_y, weight_sum == 0 ? 0 : w[r] / weight_sum,
                                 e,         dZ ? dZ + r * n : NULL};
    const bool bounded = are_bounded(row.a, n) && (!row.z || are_bounded(row.z, n));
    const struct interval L = bounded ? bounds_loss_row(o, &row) : unbounded();
    sum.lo += L.lo;
    sum.hi += L.hi;
    for (int64_t k = 0; dZ && k < n; k++) {
      if (!bounded) row.dZ[k] = unbounded();
      if (reduced) row.dZ[k] = interval_to_bf16(row.dZ[k]);
    }
  }
  scalars[SCALAR_LOSS] = sum_of_rows(sum, p->step->rows);
  free(e);
  return DESCENT_OK;
}

static descent_status output(const struct propagation *p, const struct plan_op *op) {
  const struct plan_output *o = &op->output;
  const double *shift = reference_values(p->reference, o->y_shift), *scale = reference_values(p->reference, o->y_scale);
  struct interval *e = memory_allocate(o->n, sizeof *e, "a row's bounds");
  if (!e) return DESCENT_ERROR_MEMORY;
  for (int64_t r = 0; r < p->step->rows; r++) {
    const struct interval *a = p->values[o->A] + r * o->n;
    struct interval *P = p->values[o->P] + r * o->n;
    bounds_output_row(o, a, scale, shift, e, P);
    for (int64_t k = 0; k < o->n && !are_bounded(a, o->n); k++) P[k] = unbounded();
  }
  free(e);
  return DESCENT_OK;
}

/* ---- the range ---- */

static bool is_propagated(const struct plan_op *op) {
  return plan_has_product(op) || op->kind == OP_LOSS || op->kind == OP_OUTPUT;
}

static descent_status propagate(const struct propagation *p, const struct plan_op *op) {
  switch (op->kind) {
    case OP_DENSE_FORWARD: return dense_forward(p, op);
    case OP_LOSS: return loss(p, op);
    case OP_DENSE_BACKWARD_WEIGHTS: return dense_backward_weights(p, op);
    case OP_DENSE_BACKWARD_INPUT: return dense_backward_input(p, op);
    case OP_OUTPUT: return output(p, op);
    default: return DESCENT_OK;
  }
}

/* Each buffer of the operation begins as the reference's values. */
static descent_status take_buffers(const struct propagation *p, const struct plan_op *op) {
  struct plan_use uses[PLAN_MOST_USES];
  for (int n = plan_uses(op, uses); n-- > 0;) {
    const int buffer = uses[n].buffer;
    const double *values = reference_values(p->reference, buffer);
    const int64_t count = p->plan->buffers[buffer].rows * p->plan->buffers[buffer].cols;
    if (p->values[buffer]) continue;
    if (!(p->values[buffer] = memory_allocate(count, sizeof **p->values, "a buffer's bounds")))
      return DESCENT_ERROR_MEMORY;
    for (int64_t i = 0; i < count; i++) p->values[buffer][i] = interval_exact(values[i]);
  }
  return DESCENT_OK;
}

descent_status range_bounds_run(const struct backend_program *reference, struct plan_range range,
                                const struct plan_step *step, struct range_bounds *bounds) {
  const struct plan *plan = reference->plan;
  descent_status status = DESCENT_ERROR_MEMORY;
  *bounds = (struct range_bounds){.n_buffers = plan->n_buffers};
  bounds->values = memory_allocate(plan->n_buffers, sizeof *bounds->values, "the range's bounds");
  if (!bounds->values) goto done;
  const struct propagation p = {reference, plan, step, bounds->values};
  for (int i = range.first; i < range.first + range.count; i++) {
    const struct plan_op *op = &plan->ops[i];
    if (!is_propagated(op)) continue;
    TRY(take_buffers(&p, op));
    TRY(propagate(&p, op));
  }
  status = DESCENT_OK;
done:
  return status;
}

void range_bounds_clear(struct range_bounds *bounds) {
  for (int i = 0; bounds->values && i < bounds->n_buffers; i++) free(bounds->values[i]);
  free(bounds->values);
  *bounds = (struct range_bounds){0};
}
