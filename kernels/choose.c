/* The product that computes a dense operation, and how much of the work after it the product's epilogue does: chosen
 * once for each shape by measured times. */
#include "choose.h"

#include <stdlib.h>
#include <string.h>

#include "plan/operations.h"

/* ---- product and epilogue ---- */

int64_t choose_captured_rows(const struct plan *plan, int op) {
  const struct plan_range ranges[] = {plan->train, plan->train_with_statistics, plan->backward, plan->input_gradient};
  bool training = false;
  for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
    if (op >= ranges[i].first && op < ranges[i].first + ranges[i].count) training = true;
  return training && plan->train_rows ? plan->train_rows : plan->batch;
}

/* The shape of a product in the list. */
static const struct product_shape *shape_of(const struct product_choices *choices, const struct product *product) {
  int i = 0;
  while (choices->products[i].product != product) i++;
  return &choices->products[i].shape;
}

/* The product of this shape, created at its first use; *product is NULL if the library has none. */
static descent_status find_product(struct product_choices *choices, const struct product_shape *shape,
                                   struct product **product) {
  for (int i = 0; i < choices->n_products; i++)
    if (memcmp(&choices->products[i].shape, shape, sizeof *shape) == 0) {
      *product = choices->products[i].product;
      return DESCENT_OK;
    }
  if (choices->n_products == choices->room_products) {
    const int room = 2 * choices->room_products + 16;
    struct shape_product *grown = module_allocate(room, sizeof *grown, "the list of products");
    if (!grown) return DESCENT_ERROR_MEMORY;
    if (choices->n_products) memcpy(grown, choices->products, (size_t)choices->n_products * sizeof *grown);
    free(choices->products);
    choices->products = grown;
    choices->room_products = room;
  }
  *product = NULL;
  const struct plan *plan = choices->plan;
  const bool captured = shape->m == plan->batch || shape->k == plan->batch || shape->m == plan->train_rows ||
                        shape->k == plan->train_rows;
  const bool tune = plan->autotune && captured; /* other numbers of rows occur only in checks */
  const descent_status status =
      product_create(choices->device->products, shape, tune, choices->device->stream, product);
  if (status != DESCENT_OK && status != DESCENT_ERROR_UNSUPPORTED) return status;
  memcpy(&choices->products[choices->n_products].shape, shape,
         sizeof *shape); /* with its padding, which memcmp reads */
  choices->products[choices->n_products++].product = *product;
  return DESCENT_OK;
}

/* Estimated seconds of a pass over `bytes`: the traffic at four fifths of the memory's nominal bandwidth, plus the
 * launch. It is compared with measured products. A formula rather than a measurement keeps the choice reproducible. */
static double pass_seconds(const struct backend_device *device, double bytes) {
  const double launch = 2e-6;
  return launch + (device->bandwidth > 0 ? bytes / (0.8 * device->bandwidth) : 0);
}

/* Chooses between the product with the epilogue `fused` and the plain product followed by a pass of `otherwise`
 * seconds, which is 0 if a pass that runs anyway does the same work. */
static descent_status choose(struct product_choices *choices, struct product_shape *shape, enum epilogue fused,
                             double otherwise, struct dense_choice *choice) {
  struct product *with = NULL, *plain = NULL;
  descent_status status;
  if (fused != EPILOGUE_NONE) {
    shape->epilogue = fused;
    TRY(find_product(choices, shape, &with));
  }
  shape->epilogue = EPILOGUE_NONE;
  TRY(find_product(choices, shape, &plain));
  if (!with && !plain) return DESCENT_ERROR_UNSUPPORTED; /* the last error names the shape */
  const bool measured = with && plain && product_seconds(with) > 0 && product_seconds(plain) > 0;
  const struct product_library *const library = choices->device->products;
  const bool better = product_library_draws(library) ? product_library_draw(library, shape, "fused")
                      : measured                     ? product_seconds(with) < product_seconds(plain) + otherwise
                                                     : otherwise > 0;
  choice->fused = with && (better || !plain);
  choice->product = choice->fused ? with : plain;
  product_library_note(library, shape, "taken=%s fused_seconds=%.4g plain_seconds=%.4g pass_seconds=%.4g",
                       choice->fused ? "fused" : "plain", with ? product_seconds(with) : 0,
                       plain ? product_seconds(plain) : 0, otherwise);
done:
  return status;
}

static double element_bytes(enum element element) { return element == ELEMENT_BF16 ? 2 : 4; }

/* Zeroes the padding too, since shapes are compared as bytes. */
static void set_shape(struct product_shape *shape, const struct product_choices *choices, int64_t m, int64_t n,
                      int64_t k) {
  memset(shape, 0, sizeof *shape);
  shape->m = m;
  shape->n = n;
  shape->k = k;
  shape->tf32 = choices->plan->precision == DESCENT_PRECISION_TF32;
}

/* If only bias and relu follow, the epilogue does both; otherwise the pass adds the bias. */
static descent_status choose_forward(struct product_choices *choices, const struct plan_dense_forward *op, int64_t rows,
                                     struct dense_choice *choice) {
  const struct device_matrix A_in = layout_matrix(choices->buffers, op->A_in, op->n_in);
  const struct device_matrix W = layout_weights(choices->buffers, op->parameters, op->W, op->n_in);
  const struct device_matrix out = layout_matrix(choices->buffers, op->Z != PLAN_NONE ? op->Z : op->A, op->n_out);
  struct product_shape shape;
  set_shape(&shape, choices, rows, op->n_out, op->n_in);
  shape.transpose_b = true;
  shape.lda = A_in.ld, shape.ldb = W.ld, shape.ldc = out.ld;
  shape.operands = A_in.element, shape.result = out.element, shape.bias_element = out.element;
  const bool relu = op->activation == DESCENT_ACTIVATION_RELU && op->dropout <= 0;
  const double values = (double)rows * (double)op->n_out;
  const bool passes = !relu && (op->activation != DESCENT_ACTIVATION_IDENTITY || op->dropout > 0);
  return choose(choices, &shape, relu ? EPILOGUE_RELU_BIAS : EPILOGUE_BIAS,
                passes ? 0 : pass_seconds(choices->device, 2 * values * element_bytes(out.element)), choice);
}

/* True if a pass writes dZ; it can then sum its columns too. */
static bool is_passed(const struct plan *plan, int dZ) {
  for (int i = 0; i < plan->n_ops; i++) {
    const struct plan_op *op = &plan->ops[i];
    if (op->kind == OP_DENSE_BACKWARD_INPUT && op->input.dZ_below == dZ)
      return op->input.activation != DESCENT_ACTIVATION_IDENTITY || op->input.dropout > 0;
  }
  return false;
}

static descent_status choose_weights(struct product_choices *choices, const struct plan_dense_backward_weights *op,
                                     int64_t rows, struct dense_choice *choice) {
  const struct device_matrix dZ = layout_matrix(choices->buffers, op->dZ, op->n_out),
                             A_in = layout_matrix(choices->buffers, op->A_in, op->n_in);
  struct product_shape shape;
  set_shape(&shape, choices, op->n_out, op->n_in, rows);
  shape.transpose_a = true;
  shape.lda = dZ.ld, shape.ldb = A_in.ld, shape.ldc = flat_ld(&choices->buffers->flat, op->W, op->n_in);
  shape.operands = dZ.element, shape.result = ELEMENT_F32, shape.bias_element = ELEMENT_F32;
  const double bytes = (double)rows * (double)op->n_out * element_bytes(dZ.element);
  /* Not with tf32: the epilogue may sum the operands as the product reads them, truncated to 11 bits. */
  return choose(choices, &shape, shape.tf32 ? EPILOGUE_NONE : EPILOGUE_COLUMN_SUMS_A,
                is_passed(choices->plan, op->dZ) ? 0 : pass_seconds(choices->device, bytes), choice);
}

static descent_status choose_input(struct product_choices *choices, const struct plan_dense_backward_input *op,
                                   int64_t rows, struct dense_choice *choice) {
  const struct device_matrix dZ = layout_matrix(choices->buffers, op->dZ, op->n_out),
                             dZ_below = layout_matrix(choices->buffers, op->dZ_below, op->n_in);
  const struct device_matrix W = layout_weights(choices->buffers, op->parameters, op->W, op->n_in);
  struct product_shape shape;
  set_shape(&shape, choices, rows, op->n_in, op->n_out);
  shape.lda = dZ.ld, shape.ldb = W.ld, shape.ldc = dZ_below.ld;
  shape.operands = dZ.element, shape.result = dZ_below.element;
  return choose(choices, &shape, EPILOGUE_NONE, 0, choice);
}

/* The choice without a mask, made when it is first needed. */
static descent_status choose_dense(struct product_choices *choices, int index, int64_t rows,
                                   const struct dense_choice **result) {
  const struct plan_op *op = &choices->plan->ops[index];
  struct dense_choice *choice = &choices->dense[index][rows == choose_captured_rows(choices->plan, index) ? 0 : 1];
  descent_status status = DESCENT_OK;
  if (choice->rows != rows) {
    struct dense_choice made = {.rows = rows};
    if (op->kind == OP_DENSE_FORWARD)
      TRY(choose_forward(choices, &op->forward, rows, &made));
    else if (op->kind == OP_DENSE_BACKWARD_WEIGHTS)
      TRY(choose_weights(choices, &op->weights, rows, &made));
    else
      TRY(choose_input(choices, &op->input, rows, &made));
    product_library_note(choices->device->products, shape_of(choices, made.product), "op=%d layer=%d took=%s", index,
                         op->layer, made.fused ? "fused" : "plain");
    *choice = made;
  }
  *result = choice;
done:
  return status;
}

/* ---- relu with a mask ---- */

/* The op of the same step before `index` that writes relu's A for this backward_input; -1: none. */
static int forward_of(const struct plan *plan, int index) {
  for (int i = index - 1; i >= 0 && plan->ops[i].kind != OP_GATHER && plan->ops[i].kind != OP_BACKWARD_OUTPUT; i--)
    if (plan->ops[i].kind == OP_DENSE_FORWARD && plan->ops[i].forward.A == plan->ops[index].input.A) return i;
  return -1;
}

/* The op after `index` that computes this dZ's weight gradients; -1: none. */
static int weights_behind(const struct plan *plan, int index) {
  for (int i = index + 1; i < plan->n_ops && plan->ops[i].kind != OP_DENSE_BACKWARD_INPUT; i++)
    if (plan->ops[i].kind == OP_DENSE_BACKWARD_WEIGHTS && plan->ops[i].weights.dZ == plan->ops[index].input.dZ_below)
      return i;
  return -1;
}

/* `base` with another epilogue; NULL when the library has none. */
static descent_status with_epilogue(struct product_choices *choices, const struct product *base, enum epilogue epilogue,
                                    int64_t mask_ld, struct product **product) {
  struct product_shape shape;
  memcpy(&shape, shape_of(choices, base), sizeof shape); /* with its padding, which memcmp reads */
  shape.epilogue = epilogue;
  shape.mask_ld = mask_ld;
  return find_product(choices, &shape, product);
}

/* A mask saves the pass over dZ (two reads, one write) and costs its own memory traffic. That pass also computes the
 * column sums, which then need the weights' epilogue or a separate pass. */
static descent_status choose_mask(struct product_choices *choices, int index) {
  const struct plan *plan = choices->plan;
  const struct plan_dense_backward_input *op = &plan->ops[index].input;
  const int forward = forward_of(plan, index), weights = weights_behind(plan, index);
  const struct product_library *const library = choices->device->products;
  const bool draws = product_library_draws(library);
  if (!plan->autotune && !draws) return DESCENT_OK; /* nothing is measured */
  if (op->activation != DESCENT_ACTIVATION_RELU || op->dropout > 0 || op->Z != PLAN_NONE || forward < 0 || weights < 0)
    return DESCENT_OK;
  const struct dense_choice *F = &choices->dense[forward][0], *I = &choices->dense[index][0],
                            *W = &choices->dense[weights][0];
  const int64_t mask_ld = (op->n_in + 127) / 128 * 128;
  struct product *masking = NULL, *masked = NULL, *plain = NULL, *summing = NULL;
  descent_status status;
  TRY(with_epilogue(choices, F->product, EPILOGUE_RELU_MASK_BIAS, mask_ld, &masking));
  TRY(with_epilogue(choices, I->product, EPILOGUE_MASKED, mask_ld, &masked));
  TRY(with_epilogue(choices, W->product, EPILOGUE_NONE, 0, &plain));
  if (choices->plan->precision != DESCENT_PRECISION_TF32)
    TRY(with_epilogue(choices, W->product, EPILOGUE_COLUMN_SUMS_A, 0, &summing));
  if (!masking || !masked || !plain) goto done;
  if (!draws && (!F->fused || product_seconds(masked) <= 0)) goto done;
  const struct product_shape *const shape = shape_of(choices, masked);
  const int64_t rows = choose_captured_rows(plan, index);
  const double unit =
      (double)rows * (double)op->n_in * element_bytes(layout_matrix(choices->buffers, op->dZ_below, 0).element);
  const double summed_apart = product_seconds(plain) + pass_seconds(choices->device, unit);
  const bool fused =
      summing && (draws ? product_library_draw(library, shape, "sums") : product_seconds(summing) < summed_apart);
  const double by_mask =
      product_seconds(masking) + product_seconds(masked) + (fused ? product_seconds(summing) : summed_apart);
  const double by_pass = product_seconds(F->product) + product_seconds(I->product) +
                         pass_seconds(choices->device, 3 * unit) + product_seconds(W->product);
  const bool taken = draws ? product_library_draw(library, shape, "mask") : by_mask < by_pass;
  product_library_note(library, shape, "op=%d layer=%d taken=%s mask_seconds=%.4g pass_seconds=%.4g", index,
                       plan->ops[index].layer, taken ? "mask" : "pass", by_mask, by_pass);
  if (!taken) goto done;
  choices->masked[forward] = (struct masked_choice){masking, index, NULL, rows * mask_ld / 8, true};
  choices->masked[index] = (struct masked_choice){masked, forward, NULL, 0, false};
  choices->masked[weights] = (struct masked_choice){fused ? summing : plain, forward, NULL, 0, fused};
done:
  return status;
}

/* The choice with a mask if one was made and the range has all of its operations; else NULL. */
static const struct masked_choice *find_masked(const struct product_choices *choices, struct plan_range range, int op,
                                               int64_t rows) {
  const struct masked_choice *choice = &choices->masked[op];
  const int end = range.first + range.count;
  if (!choice->product || rows != choose_captured_rows(choices->plan, op)) return NULL;
  const int forward = choice->bytes ? op : choice->partner, input = choices->masked[forward].partner;
  return forward >= range.first && input < end ? choice : NULL;
}

descent_status choose_product(struct product_choices *choices, struct plan_range range, int op, int64_t rows,
                              struct product_choice *choice) {
  const struct masked_choice *masked = find_masked(choices, range, op, rows);
  const struct dense_choice *dense;
  descent_status status = DESCENT_OK;
  if (masked) {
    *choice = (struct product_choice){masked->product, masked->fused, masked->mask};
  } else {
    TRY(choose_dense(choices, op, rows, &dense));
    *choice = (struct product_choice){dense->product, dense->fused, NULL};
  }
done:
  return status;
}

/* ---- the whole ---- */

descent_status choose_prepare(struct product_choices *choices, const struct backend_device *device,
                              const struct device_buffers *buffers) {
  const struct plan *plan = buffers->plan;
  const struct dense_choice *choice;
  descent_status status = DESCENT_OK;
  choices->device = device;
  choices->plan = plan;
  choices->buffers = buffers;
  choices->dense = module_allocate(plan->n_ops, sizeof *choices->dense, "the choice of algorithms");
  choices->masked = module_allocate(plan->n_ops, sizeof *choices->masked, "the choice of algorithms");
  if (!choices->dense || !choices->masked) return DESCENT_ERROR_MEMORY;
  for (int i = 0; i < plan->n_ops; i++)
    if (plan_has_product(&plan->ops[i])) TRY(choose_dense(choices, i, choose_captured_rows(plan, i), &choice));
  for (int i = 0; i < plan->n_ops; i++)
    if (plan->ops[i].kind == OP_DENSE_BACKWARD_INPUT) TRY(choose_mask(choices, i));
done:
  return status;
}

descent_status choose_take(struct product_choices *choices, struct device_memory *memory) {
  descent_status status = DESCENT_OK;
  for (int i = 0; i < choices->plan->n_ops; i++) {
    struct masked_choice *choice = &choices->masked[i];
    if (choice->bytes) TRY(device_memory_take(memory, choice->bytes, "a mask of relu", &choice->mask));
  }
  for (int i = 0; i < choices->plan->n_ops; i++) {
    struct masked_choice *choice = &choices->masked[i];
    if (choice->product && !choice->bytes) choice->mask = choices->masked[choice->partner].mask;
  }
done:
  return status;
}

void choose_release(struct product_choices *choices) {
  for (int i = 0; choices->masked && i < choices->plan->n_ops; i++)
    if (choices->masked[i].bytes) device_memory_free(choices->masked[i].mask);
  for (int i = 0; i < choices->n_products; i++) product_free(choices->products[i].product);
  free(choices->products);
  free(choices->masked);
  free(choices->dense);
}
