/* Which product computes a dense operation, and how much of what follows it the product's epilogue does: chosen once
 * for each shape by the times that the products were measured to take, never by what ought to be faster. */
#include <stdlib.h>
#include <string.h>

#include "plan/operations.h"
#include "program.h"

/* ---- buffers as matrices ---- */

void *data_of(const struct backend_program *program, int buffer) {
  return buffer == PLAN_NONE ? NULL : program->buffers[buffer].data;
}

struct device_matrix matrix_of(const struct backend_program *program, int buffer, int64_t n) {
  if (buffer == PLAN_NONE) return (struct device_matrix){NULL, 0, ELEMENT_F32};
  const struct device_buffer *b = &program->buffers[buffer];
  return (struct device_matrix){b->data, b->layout == LAYOUT_PADDED ? b->ld : n, b->element};
}

struct device_matrix weights_of(const struct backend_program *program, int parameters, int64_t W, int64_t n_in) {
  const int64_t at = flat_position(&program->flat, W), ld = flat_ld(&program->flat, W, n_in);
  const bool bf16 = program->plan->precision == DESCENT_PRECISION_BF16;
  char *data = bf16 ? program->working : program->buffers[parameters].data; /* NULL while products are chosen */
  return (struct device_matrix){data ? data + at * (bf16 ? 2 : 4) : NULL, ld, bf16 ? ELEMENT_BF16 : ELEMENT_F32};
}

/* ---- choosing ---- */

int64_t captured_rows(const struct plan *plan, int op) {
  const struct plan_range train = plan->train, with_statistics = plan->train_with_statistics;
  const bool training = (op >= train.first && op < train.first + train.count) ||
                        (op >= with_statistics.first && op < with_statistics.first + with_statistics.count);
  return training && plan->train_rows ? plan->train_rows : plan->batch;
}

/* Of a product in the program's list. */
static const struct product_shape *shape_of(const struct backend_program *program, const struct product *product) {
  int i = 0;
  while (program->products[i].product != product) i++;
  return &program->products[i].shape;
}

/* The program's product of this shape, made when it is asked for first; *product is NULL when the library has none. */
static descent_status find_product(struct backend_program *program, const struct product_shape *shape,
                                   struct product **product) {
  for (int i = 0; i < program->n_products; i++)
    if (memcmp(&program->products[i].shape, shape, sizeof *shape) == 0) {
      *product = program->products[i].product;
      return DESCENT_OK;
    }
  if (program->n_products == program->room_products) {
    const int room = 2 * program->room_products + 16;
    struct shape_product *grown = module_allocate(room, sizeof *grown, "the list of products");
    if (!grown) return DESCENT_ERROR_MEMORY;
    if (program->n_products) memcpy(grown, program->products, (size_t)program->n_products * sizeof *grown);
    free(program->products);
    program->products = grown;
    program->room_products = room;
  }
  *product = NULL;
  const struct plan *plan = program->plan;
  const bool captured = shape->m == plan->batch || shape->k == plan->batch || shape->m == plan->train_rows ||
                        shape->k == plan->train_rows;
  const bool tune = plan->autotune && captured; /* other numbers of rows come in checks only */
  const descent_status status =
      product_create(program->device->products, shape, tune, program->device->stream, product);
  if (status != DESCENT_OK && status != DESCENT_ERROR_UNSUPPORTED) return status;
  memcpy(&program->products[program->n_products].shape, shape, sizeof *shape); /* with its padding, for memcmp */
  program->products[program->n_products++].product = *product;
  return DESCENT_OK;
}

/* Seconds that a pass over `bytes` is likely to take: its bytes at four fifths of the memory's nominal speed, and the
 * launch. Only compared with measured products; a formula rather than a measurement so that the choice repeats. */
static double pass_seconds(const struct backend_device *device, double bytes) {
  const double launch = 2e-6;
  return launch + (device->bandwidth > 0 ? bytes / (0.8 * device->bandwidth) : 0);
}

/* Chooses between the product with `fused` as its epilogue and the plain one, after which the same takes another
 * `otherwise` seconds; 0 when a pass that comes anyway does it on the way. */
static descent_status choose(struct backend_program *program, struct product_shape *shape, enum epilogue fused,
                             double otherwise, struct dense_choice *choice) {
  struct product *with = NULL, *plain = NULL;
  descent_status status;
  if (fused != EPILOGUE_NONE) {
    shape->epilogue = fused;
    TRY(find_product(program, shape, &with));
  }
  shape->epilogue = EPILOGUE_NONE;
  TRY(find_product(program, shape, &plain));
  if (!with && !plain) return DESCENT_ERROR_UNSUPPORTED; /* the last error names the shape */
  const bool measured = with && plain && product_seconds(with) > 0 && product_seconds(plain) > 0;
  const struct product_library *const library = program->device->products;
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

/* The shape zeroed with its padding, since shapes are compared as bytes. */
static void set_shape(struct product_shape *shape, const struct backend_program *program, int64_t m, int64_t n,
                      int64_t k) {
  memset(shape, 0, sizeof *shape);
  shape->m = m;
  shape->n = n;
  shape->k = k;
  shape->tf32 = program->plan->precision == DESCENT_PRECISION_TF32;
}

/* forward: (bias, and relu where nothing else follows) in the epilogue, or bias in the pass. */
static descent_status choose_forward(struct backend_program *program, const struct plan_dense_forward *op, int64_t rows,
                                     struct dense_choice *choice) {
  const struct device_matrix A_in = matrix_of(program, op->A_in, op->n_in);
  const struct device_matrix W = weights_of(program, op->parameters, op->W, op->n_in);
  const struct device_matrix out = matrix_of(program, op->Z != PLAN_NONE ? op->Z : op->A, op->n_out);
  struct product_shape shape;
  set_shape(&shape, program, rows, op->n_out, op->n_in);
  shape.transpose_b = true;
  shape.lda = A_in.ld, shape.ldb = W.ld, shape.ldc = out.ld;
  shape.operands = A_in.element, shape.result = out.element, shape.bias_element = out.element;
  const bool relu = op->activation == DESCENT_ACTIVATION_RELU && op->dropout <= 0;
  const double values = (double)rows * (double)op->n_out;
  const bool passes = !relu && (op->activation != DESCENT_ACTIVATION_IDENTITY || op->dropout > 0);
  return choose(program, &shape, relu ? EPILOGUE_RELU_BIAS : EPILOGUE_BIAS,
                passes ? 0 : pass_seconds(program->device, 2 * values * element_bytes(out.element)), choice);
}

/* Is dZ written by a pass, which can sum its columns on the way? */
static bool is_passed(const struct plan *plan, int dZ) {
  for (int i = 0; i < plan->n_ops; i++) {
    const struct plan_op *op = &plan->ops[i];
    if (op->kind == OP_DENSE_BACKWARD_INPUT && op->input.dZ_below == dZ)
      return op->input.activation != DESCENT_ACTIVATION_IDENTITY || op->input.dropout > 0;
  }
  return false;
}

static descent_status choose_weights(struct backend_program *program, const struct plan_dense_backward_weights *op,
                                     int64_t rows, struct dense_choice *choice) {
  const struct device_matrix dZ = matrix_of(program, op->dZ, op->n_out), A_in = matrix_of(program, op->A_in, op->n_in);
  struct product_shape shape;
  set_shape(&shape, program, op->n_out, op->n_in, rows);
  shape.transpose_a = true;
  shape.lda = dZ.ld, shape.ldb = A_in.ld, shape.ldc = flat_ld(&program->flat, op->W, op->n_in);
  shape.operands = dZ.element, shape.result = ELEMENT_F32, shape.bias_element = ELEMENT_F32;
  const double bytes = (double)rows * (double)op->n_out * element_bytes(dZ.element);
  /* Not of tf32: the epilogue may sum the operands as the product reads them, cut off after 11 bits. */
  return choose(program, &shape, shape.tf32 ? EPILOGUE_NONE : EPILOGUE_COLUMN_SUMS_A,
                is_passed(program->plan, op->dZ) ? 0 : pass_seconds(program->device, bytes), choice);
}

static descent_status choose_input(struct backend_program *program, const struct plan_dense_backward_input *op,
                                   int64_t rows, struct dense_choice *choice) {
  const struct device_matrix dZ = matrix_of(program, op->dZ, op->n_out),
                             dZ_below = matrix_of(program, op->dZ_below, op->n_in);
  const struct device_matrix W = weights_of(program, op->parameters, op->W, op->n_in);
  struct product_shape shape;
  set_shape(&shape, program, rows, op->n_in, op->n_out);
  shape.lda = dZ.ld, shape.ldb = W.ld, shape.ldc = dZ_below.ld;
  shape.operands = dZ.element, shape.result = dZ_below.element;
  return choose(program, &shape, EPILOGUE_NONE, 0, choice);
}

/* The choice for this op on so many rows; NULL on failure and for operations without a product. */
descent_status choice_for(struct backend_program *program, int index, int64_t rows,
                          const struct dense_choice **result) {
  const struct plan_op *op = &program->plan->ops[index];
  struct dense_choice *choice = &program->choices[index][rows == captured_rows(program->plan, index) ? 0 : 1];
  descent_status status = DESCENT_OK;
  if (choice->rows != rows) {
    struct dense_choice made = {.rows = rows};
    if (op->kind == OP_DENSE_FORWARD)
      TRY(choose_forward(program, &op->forward, rows, &made));
    else if (op->kind == OP_DENSE_BACKWARD_WEIGHTS)
      TRY(choose_weights(program, &op->weights, rows, &made));
    else
      TRY(choose_input(program, &op->input, rows, &made));
    product_library_note(program->device->products, shape_of(program, made.product), "op=%d layer=%d took=%s", index,
                         op->layer, made.fused ? "fused" : "plain");
    *choice = made;
  }
  *result = choice;
done:
  return status;
}

/* ---- relu by a mask ---- */

/* The op before `index`, back to the range's gather, that wrote relu's A for this backward_input; -1: none. */
static int forward_of(const struct plan *plan, int index) {
  for (int i = index - 1; i >= 0 && plan->ops[i].kind != OP_GATHER; i--)
    if (plan->ops[i].kind == OP_DENSE_FORWARD && plan->ops[i].forward.A == plan->ops[index].input.A) return i;
  return -1;
}

/* The op behind `index` that takes this dZ's weight gradients; -1: none. */
static int weights_behind(const struct plan *plan, int index) {
  for (int i = index + 1; i < plan->n_ops && plan->ops[i].kind != OP_DENSE_BACKWARD_INPUT; i++)
    if (plan->ops[i].kind == OP_DENSE_BACKWARD_WEIGHTS && plan->ops[i].weights.dZ == plan->ops[index].input.dZ_below)
      return i;
  return -1;
}

/* The product of a choice made before, with another epilogue; NULL when the library has none. */
static descent_status with_epilogue(struct backend_program *program, const struct product *like, enum epilogue epilogue,
                                    int64_t mask_ld, struct product **product) {
  struct product_shape shape;
  memcpy(&shape, shape_of(program, like), sizeof shape); /* with its padding, for memcmp */
  shape.epilogue = epilogue;
  shape.mask_ld = mask_ld;
  return find_product(program, &shape, product);
}

/* The masked way saves the pass over dZ (two reads, one write) and costs the mask; the column sums, which that pass
 * would take on its way, then need the weights' epilogue or a pass of their own. */
static descent_status choose_masked(struct backend_program *program, int index) {
  const struct plan *plan = program->plan;
  const struct plan_dense_backward_input *op = &plan->ops[index].input;
  const int forward = forward_of(plan, index), weights = weights_behind(plan, index);
  const struct product_library *const library = program->device->products;
  const bool draws = product_library_draws(library);
  if (!plan->autotune && !draws) return DESCENT_OK; /* nothing is measured */
  if (op->activation != DESCENT_ACTIVATION_RELU || op->dropout > 0 || op->Z != PLAN_NONE || forward < 0 || weights < 0)
    return DESCENT_OK;
  const struct dense_choice *F = &program->choices[forward][0], *I = &program->choices[index][0],
                            *W = &program->choices[weights][0];
  const int64_t mask_ld = (op->n_in + 127) / 128 * 128;
  struct product *masking = NULL, *masked = NULL, *plain = NULL, *summing = NULL;
  descent_status status;
  TRY(with_epilogue(program, F->product, EPILOGUE_RELU_MASK_BIAS, mask_ld, &masking));
  TRY(with_epilogue(program, I->product, EPILOGUE_MASKED, mask_ld, &masked));
  TRY(with_epilogue(program, W->product, EPILOGUE_NONE, 0, &plain));
  if (program->plan->precision != DESCENT_PRECISION_TF32)
    TRY(with_epilogue(program, W->product, EPILOGUE_COLUMN_SUMS_A, 0, &summing));
  if (!masking || !masked || !plain) goto done;
  if (!draws && (!F->fused || product_seconds(masked) <= 0)) goto done;
  const struct product_shape *const shape = shape_of(program, masked);
  const int64_t rows = captured_rows(plan, index);
  const double unit = (double)rows * (double)op->n_in * element_bytes(matrix_of(program, op->dZ_below, 0).element);
  const double summed_apart = product_seconds(plain) + pass_seconds(program->device, unit);
  const bool fused =
      summing && (draws ? product_library_draw(library, shape, "sums") : product_seconds(summing) < summed_apart);
  const double by_mask =
      product_seconds(masking) + product_seconds(masked) + (fused ? product_seconds(summing) : summed_apart);
  const double by_pass = product_seconds(F->product) + product_seconds(I->product) +
                         pass_seconds(program->device, 3 * unit) + product_seconds(W->product);
  const bool taken = draws ? product_library_draw(library, shape, "mask") : by_mask < by_pass;
  product_library_note(library, shape, "op=%d layer=%d taken=%s mask_seconds=%.4g pass_seconds=%.4g", index,
                       plan->ops[index].layer, taken ? "mask" : "pass", by_mask, by_pass);
  if (!taken) goto done;
  program->masked[forward] = (struct masked_choice){masking, index, NULL, rows * mask_ld / 8, true};
  program->masked[index] = (struct masked_choice){masked, forward, NULL, 0, false};
  program->masked[weights] = (struct masked_choice){fused ? summing : plain, forward, NULL, 0, fused};
done:
  return status;
}

const struct masked_choice *masked_for(const struct backend_program *program, struct plan_range range, int op,
                                       int64_t rows) {
  const struct masked_choice *choice = &program->masked[op];
  const int end = range.first + range.count;
  if (!choice->product || rows != captured_rows(program->plan, op)) return NULL;
  const int forward = choice->bytes ? op : choice->partner, input = program->masked[forward].partner;
  return forward >= range.first && input < end ? choice : NULL;
}

/* ---- the whole ---- */

descent_status choose_prepare(struct backend_program *program) {
  const struct plan *plan = program->plan;
  const struct dense_choice *choice;
  descent_status status = DESCENT_OK;
  program->choices = module_allocate(plan->n_ops, sizeof *program->choices, "the choice of algorithms");
  program->masked = module_allocate(plan->n_ops, sizeof *program->masked, "the choice of algorithms");
  if (!program->choices || !program->masked) return DESCENT_ERROR_MEMORY;
  for (int i = 0; i < plan->n_ops; i++)
    if (plan_has_product(&plan->ops[i])) TRY(choice_for(program, i, captured_rows(plan, i), &choice));
  for (int i = 0; i < plan->n_ops; i++)
    if (plan->ops[i].kind == OP_DENSE_BACKWARD_INPUT) TRY(choose_masked(program, i));
done:
  return status;
}

descent_status choose_take(struct backend_program *program) {
  descent_status status = DESCENT_OK;
  for (int i = 0; i < program->plan->n_ops; i++) {
    struct masked_choice *choice = &program->masked[i];
    if (choice->bytes) TRY(program_take(program, choice->bytes, "a mask of relu", &choice->mask));
  }
  for (int i = 0; i < program->plan->n_ops; i++) {
    struct masked_choice *choice = &program->masked[i];
    if (choice->product && !choice->bytes) choice->mask = program->masked[choice->partner].mask;
  }
done:
  return status;
}

void choose_release(struct backend_program *program) {
  for (int i = 0; program->masked && i < program->plan->n_ops; i++)
    if (program->masked[i].bytes && program->masked[i].mask) (void)cudaFree(program->masked[i].mask);
  for (int i = 0; i < program->n_products; i++) product_free(program->products[i].product);
  free(program->products);
  free(program->masked);
  free(program->choices);
}
