/* The way to compute each dense operation. All ways are listed with their seconds, and the cheapest is taken; relu with
 * a mask is an alternative for three operations together. The seconds of products and own kernels are measured, once
 * for each shape; those of the passes beside a product are estimated. */
#include "choose.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan/operations.h"

int64_t choose_captured_rows(const struct plan *plan, int op) {
  const struct plan_range ranges[] = {plan->train, plan->train_with_statistics, plan->backward, plan->input_gradient};
  bool training = false;
  for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
    if (op >= ranges[i].first && op < ranges[i].first + ranges[i].count) training = true;
  return training && plan->train_rows ? plan->train_rows : plan->batch;
}

static bool draws(const struct product_choices *choices) { return product_library_draws(choices->device->products); }

/* ---- what is measured ---- */

/* The product of this shape, created at its first use; *product is NULL if the library has none. */
static descent_status find_product(struct product_choices *choices, const struct product_shape *shape,
                                   const struct product **product) {
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
  struct product *created = NULL;
  const struct plan *plan = choices->plan;
  const bool captured = shape->m == plan->batch || shape->k == plan->batch || shape->m == plan->train_rows ||
                        shape->k == plan->train_rows;
  const bool tune = plan->autotune && captured; /* other numbers of rows occur only in checks */
  const descent_status status =
      product_create(choices->device->products, shape, tune, choices->device->stream, &created);
  if (status != DESCENT_OK && status != DESCENT_ERROR_UNSUPPORTED) return status;
  memcpy(&choices->products[choices->n_products].shape, shape,
         sizeof *shape); /* with its padding, which memcmp reads */
  choices->products[choices->n_products++].product = created;
  *product = created;
  return DESCENT_OK;
}

/* The fastest variant of the operation's own kernel; NULL: there is none. */
static descent_status find_own(struct product_choices *choices, const struct own_launch *launch,
                               const struct own_time **time) {
  struct own_time *const next = &choices->own_times[choices->n_own_times];
  descent_status status = DESCENT_OK;
  *time = NULL;
  if (own_variants(launch) == 0) return DESCENT_OK;
  own_key(launch, next->key);
  const struct own_time *at = choices->own_times;
  while (strcmp(at->key, next->key) != 0) at++; /* `next` is the last to be found */
  if (at == next) {
    TRY(own_fastest(choices->device->products, launch, choices->device->stream, &next->variant, &next->seconds));
    choices->n_own_times++;
  }
  if (at->variant >= 0) *time = at;
done:
  return status;
}

/* Estimated seconds of a pass over `bytes`: the traffic at four fifths of the memory's nominal bandwidth, plus the
 * launch. It is compared with measured products. A formula rather than a measurement keeps the choice reproducible. */
static double pass_seconds(const struct backend_device *device, double bytes) {
  const double launch = 2e-6;
  return launch + (device->bandwidth > 0 ? bytes / (0.8 * device->bandwidth) : 0);
}

/* ---- the ways of one operation ---- */

struct priced_way {
  struct dense_way way;
  double timed, passes; /* seconds; timed is 0 where nothing is timed */
};
struct way_list {
  struct priced_way at[2 + MOST_CANDIDATES];
  int n;
};

/* What an operation's ways depend on. */
struct dense_work {
  const struct plan_op *op;
  int index;
  struct own_launch launch;
  struct product_shape shape;
  double unit; /* bytes of a matrix of (rows, n) of the result, or of dZ of the weights */
};

/* The op after `index` that computes this dZ's weight gradients; -1: none. */
static int weights_behind(const struct plan *plan, int index) {
  for (int i = index + 1; i < plan->n_ops && plan->ops[i].kind != OP_DENSE_BACKWARD_INPUT; i++)
    if (plan->ops[i].kind == OP_DENSE_BACKWARD_WEIGHTS && plan->ops[i].weights.dZ == plan->ops[index].input.dZ_below)
      return i;
  return -1;
}

static double element_bytes(enum element element) { return element == ELEMENT_BF16 ? 2 : 4; }

static struct dense_work work_of(const struct product_choices *choices, int index, int64_t rows) {
  struct dense_work w;
  memset(&w, 0, sizeof w); /* the shape's padding too, since shapes are compared as bytes */
  w.op = &choices->plan->ops[index];
  w.index = index;
  dense_launch(choices->buffers, w.op, rows, &w.launch);
  w.launch.sums = w.op->kind == OP_DENSE_BACKWARD_INPUT && weights_behind(choices->plan, index) >= 0;
  dense_shape(choices->buffers, w.op, rows, &w.shape);
  const bool weights = w.op->kind == OP_DENSE_BACKWARD_WEIGHTS;
  w.unit = (double)rows * (double)(weights ? w.shape.m : w.shape.n) *
           element_bytes(weights ? w.shape.operands : w.shape.result);
  return w;
}

static descent_status add_product(struct product_choices *choices, const struct dense_work *work,
                                  enum epilogue epilogue, double passes, struct way_list *list) {
  struct product_shape shape;
  const struct product *product;
  memcpy(&shape, &work->shape, sizeof shape);
  shape.epilogue = epilogue;
  const descent_status status = find_product(choices, &shape, &product);
  if (status == DESCENT_OK && product)
    list->at[list->n++] = (struct priced_way){.way = {.product = product, .fused = epilogue != EPILOGUE_NONE},
                                              .timed = product_seconds(product),
                                              .passes = passes};
  return status;
}

/* Drawn, every variant is listed; timed, the fastest; otherwise the first, and only where there is no product. */
static descent_status add_own(struct product_choices *choices, const struct dense_work *work, struct way_list *list) {
  const int n = draws(choices) ? own_variants(&work->launch) : 0;
  const struct own_time *time = NULL;
  bool passes = false;
  descent_status status = DESCENT_OK;
  for (int variant = 0; variant < n; variant++) list->at[list->n++] = (struct priced_way){.way = {.variant = variant}};
  if (draws(choices)) return DESCENT_OK;
  if (choices->plan->autotune) {
    TRY(find_own(choices, &work->launch, &time));
    if (time) list->at[list->n++] = (struct priced_way){.way = {.variant = time->variant}, .timed = time->seconds};
  } else if (list->n == 0) {
    for (int variant = 0; variant < own_variants(&work->launch) && !passes; variant++) {
      TRY(own_passes(choices->device->products, &work->launch, variant, choices->device->stream, &passes));
      if (passes) list->at[list->n++] = (struct priced_way){.way = {.variant = variant}};
    }
  }
done:
  return status;
}

/* If only bias and relu follow the product, its epilogue does both; otherwise a pass adds the bias to a plain one. */
static descent_status list_forward(struct product_choices *choices, const struct dense_work *work,
                                   struct way_list *list) {
  const struct forward_launch *const pass = &work->launch.forward.pass;
  const bool linear = pass->activation == DESCENT_ACTIVATION_IDENTITY && !pass->threshold;
  const bool relu = pass->activation == DESCENT_ACTIVATION_RELU && !pass->threshold;
  const double seconds = pass_seconds(choices->device, 2 * work->unit);
  descent_status status;
  TRY(add_product(choices, work, relu ? EPILOGUE_RELU_BIAS : EPILOGUE_BIAS, relu || linear ? 0 : seconds, list));
  TRY(add_product(choices, work, EPILOGUE_NONE, seconds, list));
done:
  return status;
}

/* `sums`: seconds of a pass that sums the columns of dZ; 0 if a pass that runs anyway does it. */
static descent_status list_weights(struct product_choices *choices, const struct dense_work *work, double sums,
                                   struct way_list *list) {
  descent_status status = DESCENT_OK;
  /* Not with tf32: the epilogue may sum the operands as the product reads them, truncated to 11 bits. */
  if (!work->shape.tf32) TRY(add_product(choices, work, EPILOGUE_COLUMN_SUMS_A, 0, list));
  TRY(add_product(choices, work, EPILOGUE_NONE, sums, list));
done:
  return status;
}

/* The pass reads dZ and A or Z, and writes dZ. */
static descent_status list_input(struct product_choices *choices, const struct dense_work *work,
                                 struct way_list *list) {
  const struct backward_launch *const pass = &work->launch.input.pass;
  const bool passes = pass->activation != DESCENT_ACTIVATION_IDENTITY || pass->threshold;
  return add_product(choices, work, EPILOGUE_NONE, passes ? pass_seconds(choices->device, 3 * work->unit) : 0, list);
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

/* ERROR_UNSUPPORTED if the list is empty: the last error names the shape. */
static descent_status list_ways(struct product_choices *choices, const struct dense_work *work, bool with_own,
                                struct way_list *list) {
  const struct plan_op *const op = work->op;
  descent_status status;
  if (op->kind == OP_DENSE_FORWARD)
    TRY(list_forward(choices, work, list));
  else if (op->kind == OP_DENSE_BACKWARD_INPUT)
    TRY(list_input(choices, work, list));
  else
    TRY(list_weights(choices, work,
                     is_passed(choices->plan, op->weights.dZ) ? 0 : pass_seconds(choices->device, work->unit), list));
  if (with_own) TRY(add_own(choices, work, list));
  if (list->n == 0) return DESCENT_ERROR_UNSUPPORTED;
done:
  return status;
}

/* ---- the choice among them ---- */

static bool all_timed(const struct way_list *list) {
  for (int i = 0; i < list->n; i++)
    if (list->at[i].timed <= 0) return false;
  return list->n > 0;
}

/* By the estimated passes alone where not all are timed; the later one where two cost the same. */
static int cheapest(const struct way_list *list) {
  const bool timed = all_timed(list);
  double least = INFINITY;
  int best = 0;
  for (int i = 0; i < list->n; i++) {
    const double seconds = (timed ? list->at[i].timed : 0) + list->at[i].passes;
    if (seconds <= least) best = i, least = seconds;
  }
  return best;
}

/* Draws until a product or a variant that passes its trial is drawn; *drawn is -1 if none is left. */
static descent_status draw_way(struct product_choices *choices, const struct dense_work *work, const char *key,
                               struct way_list *list, int *drawn) {
  bool passes = false;
  descent_status status = DESCENT_OK;
  for (*drawn = -1; list->n > 0 && *drawn < 0;) {
    const int i = product_library_draw(choices->device->products, key, "way", list->n);
    passes = list->at[i].way.product != NULL;
    if (!passes)
      TRY(own_passes(choices->device->products, &work->launch, list->at[i].way.variant, choices->device->stream,
                     &passes));
    if (passes)
      *drawn = i;
    else
      list->at[i] = list->at[--list->n];
  }
done:
  return status;
}

static void name_way(const struct dense_way *way, char text[BACKEND_PATH]) {
  if (!way->product)
    snprintf(text, BACKEND_PATH, "own %d", way->variant);
  else
    snprintf(text, BACKEND_PATH, "cublaslt%s", way->mask ? "+mask" : way->fused ? "+epilogue" : "");
}

/* "taken=own variant=1", and the seconds of each way. */
static void trace_choice(const struct product_choices *choices, const struct dense_work *work, const char *key,
                         const struct way_list *list, int taken) {
  char text[512];
  int at = 0;
  for (int i = -1; i < list->n && at < (int)sizeof text; i++) {
    const struct priced_way *const p = &list->at[i < 0 ? taken : i];
    const char *const name = !p->way.product ? "own" : p->way.fused ? "fused" : "plain";
    if (i < 0)
      at += snprintf(text, sizeof text, p->way.product ? "taken=%s" : "taken=%s variant=%d", name, p->way.variant);
    else
      at += snprintf(text + at, sizeof text - (size_t)at, " %s_seconds=%.4g+%.4g", name, p->timed, p->passes);
  }
  product_library_trace(choices->device->products, "choice", key, "op=%d layer=%d %s", work->index, work->op->layer,
                        text);
}

static descent_status choose(struct product_choices *choices, const struct dense_work *work, bool with_own,
                             struct dense_choice *choice) {
  struct way_list list = {.n = 0};
  char key[TUNE_KEY];
  int taken = 0;
  descent_status status;
  product_library_key(choices->device->products, &work->shape, key);
  TRY(list_ways(choices, work, with_own, &list));
  if (draws(choices))
    TRY(draw_way(choices, work, key, &list, &taken));
  else
    taken = cheapest(&list);
  if (taken < 0) return DESCENT_ERROR_UNSUPPORTED;
  choice->way = list.at[taken].way;
  choice->seconds = all_timed(&list) ? list.at[taken].timed + list.at[taken].passes : 0;
  trace_choice(choices, work, key, &list, taken);
done:
  return status;
}

/* The choice without a mask, made when it is first needed. On other rows than the captured ones, which occur only in
 * checks, an own kernel is used where it is on those, so that the checks reach it. */
static descent_status choose_dense(struct product_choices *choices, int index, int64_t rows,
                                   const struct dense_choice **result) {
  const bool captured = rows == choose_captured_rows(choices->plan, index);
  struct dense_choice *const choice = &choices->dense[index][captured ? 0 : 1];
  const struct dense_way *const usual = &choices->dense[index][0].way;
  descent_status status = DESCENT_OK;
  if (choice->rows != rows) {
    const struct dense_work work = work_of(choices, index, rows);
    struct dense_choice made = {.rows = rows};
    if (!captured && choices->dense[index][0].rows && !usual->product && usual->variant < own_variants(&work.launch))
      made.way = *usual;
    else
      TRY(choose(choices, &work, captured, &made));
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

/* The operation's product with an epilogue that has a mask; NULL when the library has none. */
static descent_status masked_product(struct product_choices *choices, const struct dense_work *work,
                                     enum epilogue epilogue, int64_t mask_ld, const struct product **product) {
  struct product_shape shape;
  memcpy(&shape, &work->shape, sizeof shape); /* with its padding, which memcmp reads */
  shape.epilogue = epilogue;
  shape.mask_ld = mask_ld;
  return find_product(choices, &shape, product);
}

/* A mask saves the pass over dZ and costs its own memory traffic. That pass also sums the columns, which then takes the
 * weights' epilogue, a pass of its own, or the weights' own kernel. */
static descent_status choose_mask(struct product_choices *choices, int index) {
  const struct plan *plan = choices->plan;
  const struct plan_dense_backward_input *op = &plan->ops[index].input;
  const int forward = forward_of(plan, index), weights = weights_behind(plan, index);
  const struct product_library *const library = choices->device->products;
  if (!plan->autotune && !draws(choices)) return DESCENT_OK; /* nothing is measured */
  if (op->activation != DESCENT_ACTIVATION_RELU || op->dropout > 0 || op->Z != PLAN_NONE || forward < 0 || weights < 0)
    return DESCENT_OK;
  const int64_t rows = choose_captured_rows(plan, index), mask_ld = (op->n_in + 127) / 128 * 128;
  const struct dense_work F = work_of(choices, forward, rows), I = work_of(choices, index, rows),
                          W = work_of(choices, weights, rows);
  const struct product *masking = NULL, *masked = NULL;
  struct way_list list = {.n = 0};
  char key[TUNE_KEY];
  int taken = 0;
  descent_status status;
  TRY(masked_product(choices, &F, EPILOGUE_RELU_MASK_BIAS, mask_ld, &masking));
  TRY(masked_product(choices, &I, EPILOGUE_MASKED, mask_ld, &masked));
  if (!masking || !masked) goto done;
  product_library_key(library, &I.shape, key);
  TRY(list_weights(choices, &W, pass_seconds(choices->device, W.unit), &list));
  TRY(add_own(choices, &W, &list));
  if (draws(choices))
    TRY(draw_way(choices, &W, key, &list, &taken));
  else
    taken = cheapest(&list);
  if (list.n == 0) goto done;
  const double by_mask =
      product_seconds(masking) + product_seconds(masked) + list.at[taken].timed + list.at[taken].passes;
  const double apart[] = {choices->dense[forward][0].seconds, choices->dense[index][0].seconds,
                          choices->dense[weights][0].seconds};
  const double by_pass = apart[0] + apart[1] + apart[2];
  const bool timed = product_seconds(masking) > 0 && product_seconds(masked) > 0 && all_timed(&list) && apart[0] > 0 &&
                     apart[1] > 0 && apart[2] > 0;
  const bool chosen = draws(choices) ? product_library_draw(library, key, "mask", 2) == 1 : timed && by_mask < by_pass;
  product_library_trace(library, "choice", key, "op=%d layer=%d taken=%s mask_seconds=%.4g pass_seconds=%.4g", index,
                        plan->ops[index].layer, chosen ? "mask" : "pass", by_mask, by_pass);
  if (!chosen) goto done;
  choices->masked[forward] =
      (struct masked_choice){true, {.product = masking, .fused = true}, index, rows * mask_ld / 8};
  choices->masked[index] = (struct masked_choice){true, {.product = masked}, forward, 0};
  choices->masked[weights] = (struct masked_choice){true, list.at[taken].way, forward, 0};
done:
  return status;
}

/* The choice with a mask if one was made and the range has all of its operations; else NULL. */
static const struct masked_choice *find_masked(const struct product_choices *choices, struct plan_range range, int op,
                                               int64_t rows) {
  const struct masked_choice *choice = &choices->masked[op];
  const int end = range.first + range.count;
  if (!choice->taken || rows != choose_captured_rows(choices->plan, op)) return NULL;
  const int forward = choice->bytes ? op : choice->partner, input = choices->masked[forward].partner;
  return forward >= range.first && input < end ? choice : NULL;
}

descent_status choose_way(struct product_choices *choices, struct plan_range range, int op, int64_t rows,
                          struct dense_way *way) {
  const struct masked_choice *masked = find_masked(choices, range, op, rows);
  const struct dense_choice *dense;
  descent_status status = DESCENT_OK;
  if (!masked) TRY(choose_dense(choices, op, rows, &dense));
  *way = masked ? masked->way : dense->way;
done:
  return status;
}

void choose_path(struct product_choices *choices, struct plan_range range, int op, char text[BACKEND_PATH]) {
  struct dense_way way;
  text[0] = 0;
  if (!plan_has_product(&choices->plan->ops[op])) return;
  if (choose_way(choices, range, op, choose_captured_rows(choices->plan, op), &way) == DESCENT_OK) name_way(&way, text);
}

/* ---- the whole ---- */

static void count_scratch(struct product_choices *choices, int index, const struct dense_way *way) {
  const struct dense_work work = work_of(choices, index, choose_captured_rows(choices->plan, index));
  const size_t bytes = way->product ? 0 : own_scratch(&work.launch);
  if (bytes > choices->scratch) choices->scratch = bytes;
}

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
  choices->own_times = module_allocate(plan->n_ops + 1, sizeof *choices->own_times, "the choice of algorithms");
  if (!choices->dense || !choices->masked || !choices->own_times) return DESCENT_ERROR_MEMORY;
  for (int i = 0; i < plan->n_ops; i++)
    if (plan_has_product(&plan->ops[i])) TRY(choose_dense(choices, i, choose_captured_rows(plan, i), &choice));
  for (int i = 0; i < plan->n_ops; i++)
    if (plan->ops[i].kind == OP_DENSE_BACKWARD_INPUT) TRY(choose_mask(choices, i));
  for (int i = 0; i < plan->n_ops; i++) {
    if (choices->dense[i][0].rows) count_scratch(choices, i, &choices->dense[i][0].way);
    if (choices->masked[i].taken) count_scratch(choices, i, &choices->masked[i].way);
  }
done:
  return status;
}

descent_status choose_take(struct product_choices *choices, struct device_memory *memory) {
  descent_status status = DESCENT_OK;
  for (int i = 0; i < choices->plan->n_ops; i++) {
    struct masked_choice *choice = &choices->masked[i];
    if (choice->bytes) TRY(device_memory_take(memory, choice->bytes, "a mask of relu", &choice->way.mask));
  }
  for (int i = 0; i < choices->plan->n_ops; i++) {
    struct masked_choice *choice = &choices->masked[i];
    if (choice->taken && choices->plan->ops[i].kind == OP_DENSE_BACKWARD_INPUT)
      choice->way.mask = choices->masked[choice->partner].way.mask;
  }
done:
  return status;
}

void choose_release(struct product_choices *choices) {
  for (int i = 0; choices->masked && i < choices->plan->n_ops; i++)
    if (choices->masked[i].bytes) device_memory_free(choices->masked[i].way.mask);
  for (int i = 0; i < choices->n_products; i++) product_free(choices->products[i].product);
  free(choices->products);
  free(choices->own_times);
  free(choices->masked);
  free(choices->dense);
}
