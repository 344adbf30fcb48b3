/* Dense operations of a plan as launches and shapes. */
#include "dense.h"

#include <string.h>

static uint32_t threshold_of(double dropout) { return dropout > 0 ? rng_drop_threshold(dropout) : 0; }

static bool is_tf32(const struct device_buffers *buffers) { return buffers->plan->precision == DESCENT_PRECISION_TF32; }

/* b, in the element type of the matrix that it is added to. */
static const void *bias_of(const struct device_buffers *buffers, const struct plan_dense_forward *o,
                           enum element element) {
  const int64_t at = flat_position(&buffers->flat, o->b);
  if (element == ELEMENT_BF16) return buffers->working ? (const uint16_t *)buffers->working + at : NULL;
  const void *const parameters = layout_data(buffers, o->parameters);
  return parameters ? (const float *)parameters + at : NULL;
}

static float *gradient_of(const struct device_buffers *buffers, int gradients, int64_t offset) {
  float *const all = layout_data(buffers, gradients);
  return all ? all + flat_position(&buffers->flat, offset) : NULL;
}

/* The product is written where Z is kept, else where A is. */
static struct fused_forward_launch forward_launch(const struct device_buffers *buffers, const struct plan_op *op,
                                                  int64_t rows) {
  const struct plan_dense_forward *const o = &op->forward;
  const struct device_matrix product = layout_matrix(buffers, o->Z != PLAN_NONE ? o->Z : o->A, o->n_out);
  return (struct fused_forward_launch){
      .pass = {.product = product,
               .bias = bias_of(buffers, o, product.element),
               .bias_element = product.element,
               .Z = layout_matrix(buffers, o->Z, o->n_out),
               .A = layout_matrix(buffers, o->A, o->n_out),
               .rows = rows,
               .n = o->n_out,
               .activation = o->activation,
               .seed = buffers->plan->seed,
               .layer = (uint32_t)op->layer,
               .threshold = threshold_of(o->dropout),
               .dropout_scale = (float)formula_dropout_scale(o->dropout)},
      .A_in = layout_matrix(buffers, o->A_in, o->n_in),
      .W = layout_weights(buffers, o->parameters, o->W, o->n_in),
      .n_in = o->n_in,
      .tf32 = is_tf32(buffers),
  };
}

static struct fused_input_launch input_launch(const struct device_buffers *buffers, const struct plan_op *op,
                                              int64_t rows) {
  const struct plan_dense_backward_input *const o = &op->input;
  return (struct fused_input_launch){
      .pass = {.dZ = layout_matrix(buffers, o->dZ_below, o->n_in),
               .A = layout_matrix(buffers, o->A, o->n_in),
               .Z = layout_matrix(buffers, o->Z, o->n_in),
               .rows = rows,
               .n = o->n_in,
               .activation = o->activation,
               .seed = buffers->plan->seed,
               .layer = (uint32_t)(op->layer - 1),
               .threshold = threshold_of(o->dropout),
               .dropout_scale = (float)formula_dropout_scale(o->dropout),
               .keep_probability = (float)formula_keep_probability(o->dropout)},
      .dZ_above = layout_matrix(buffers, o->dZ, o->n_out),
      .W = layout_weights(buffers, o->parameters, o->W, o->n_in),
      .n_out = o->n_out,
      .tf32 = is_tf32(buffers),
  };
}

static struct weights_launch weights_launch(const struct device_buffers *buffers, const struct plan_op *op,
                                            int64_t rows) {
  const struct plan_dense_backward_weights *const o = &op->weights;
  return (struct weights_launch){
      .dZ = layout_matrix(buffers, o->dZ, o->n_out),
      .A_in = layout_matrix(buffers, o->A_in, o->n_in),
      .gradient = gradient_of(buffers, o->gradients, o->W),
      .ld = flat_ld(&buffers->flat, o->W, o->n_in),
      .bias_gradient = gradient_of(buffers, o->gradients, o->b),
      .rows = rows,
      .n_in = o->n_in,
      .n_out = o->n_out,
      .tf32 = is_tf32(buffers),
  };
}

void dense_launch(const struct device_buffers *buffers, const struct plan_op *op, int64_t rows,
                  struct custom_launch *launch) {
  *launch = (struct custom_launch){.kind = op->kind};
  if (op->kind == OP_DENSE_FORWARD)
    launch->forward = forward_launch(buffers, op, rows);
  else if (op->kind == OP_DENSE_BACKWARD_INPUT)
    launch->input = input_launch(buffers, op, rows);
  else
    launch->weights = weights_launch(buffers, op, rows);
}

void dense_shape(const struct custom_launch *launch, struct product_shape *shape) {
  memset(shape, 0, sizeof *shape);
  if (launch->kind == OP_DENSE_FORWARD) {
    const struct fused_forward_launch *const f = &launch->forward;
    shape->m = f->pass.rows, shape->n = f->pass.n, shape->k = f->n_in;
    shape->tf32 = f->tf32;
    shape->transpose_b = true;
    shape->lda = f->A_in.ld, shape->ldb = f->W.ld, shape->ldc = f->pass.product.ld;
    shape->operands = f->A_in.element;
    shape->result = shape->bias_element = f->pass.product.element;
  } else if (launch->kind == OP_DENSE_BACKWARD_INPUT) {
    const struct fused_input_launch *const i = &launch->input;
    shape->m = i->pass.rows, shape->n = i->pass.n, shape->k = i->n_out;
    shape->tf32 = i->tf32;
    shape->lda = i->dZ_above.ld, shape->ldb = i->W.ld, shape->ldc = i->pass.dZ.ld;
    shape->operands = i->dZ_above.element, shape->result = i->pass.dZ.element;
  } else {
    const struct weights_launch *const w = &launch->weights;
    shape->m = w->n_out, shape->n = w->n_in, shape->k = w->rows;
    shape->tf32 = w->tf32;
    shape->transpose_a = true;
    shape->lda = w->dZ.ld, shape->ldb = w->A_in.ld, shape->ldc = w->ld;
    shape->operands = w->dZ.element;
    shape->result = shape->bias_element = ELEMENT_F32;
  }
}

struct product_operands dense_operands(const struct custom_launch *l, bool fused, void *mask) {
  if (l->kind == OP_DENSE_FORWARD)
    return (struct product_operands){.A = l->forward.A_in.data,
                                     .B = l->forward.W.data,
                                     .C = l->forward.pass.product.data,
                                     .bias = fused ? l->forward.pass.bias : NULL,
                                     .mask = mask};
  if (l->kind == OP_DENSE_BACKWARD_WEIGHTS)
    return (struct product_operands){.A = l->weights.dZ.data,
                                     .B = l->weights.A_in.data,
                                     .C = l->weights.gradient,
                                     .bias_gradient = fused ? l->weights.bias_gradient : NULL};
  return (struct product_operands){
      .A = l->input.dZ_above.data, .B = l->input.W.data, .C = l->input.pass.dZ.data, .mask = mask};
}
