/* The ways to compute a dense operation, each with its seconds. Products and custom kernels are measured, once for each
 * shape; the passes beside a product are estimated. */
#include "ways.h"

#include <stdlib.h>
#include <string.h>

#include "plan/operations.h"

bool ways_draw(const struct way_table *table) { return product_library_draws(table->device->products); }

/* ---- what is measured ---- */

/* The product of this shape, created at its first use; *product is NULL if the library has none. */
static descent_status find_product(struct way_table *table, const struct product_shape *shape,
                                   const struct product **product) {
  for (int i = 0; i < table->n_products; i++)
    if (memcmp(&table->products[i].shape, shape, sizeof *shape) == 0) {
      *product = table->products[i].product;
      return DESCENT_OK;
    }
  if (table->n_products == table->room_products) {
    const int room = 2 * table->room_products + 16;
    struct shape_product *grown = module_allocate(room, sizeof *grown, "the list of products");
    if (!grown) return DESCENT_ERROR_MEMORY;
    if (table->n_products) memcpy(grown, table->products, (size_t)table->n_products * sizeof *grown);
    free(table->products);
    table->products = grown;
    table->room_products = room;
  }
  struct product *created = NULL;
  const struct plan *plan = table->plan;
  const bool captured = shape->m == plan->batch || shape->k == plan->batch || shape->m == plan->train_rows ||
                        shape->k == plan->train_rows;
  const bool tune = plan->autotune && captured; /* other numbers of rows occur only in checks */
  const descent_status status = product_create(table->device->products, shape, tune, table->device->stream, &created);
  if (status != DESCENT_OK && status != DESCENT_ERROR_UNSUPPORTED) return status;
  memcpy(&table->products[table->n_products].shape, shape, sizeof *shape); /* with its padding, which memcmp reads */
  table->products[table->n_products++].product = created;
  *product = created;
  return DESCENT_OK;
}

/* The fastest variant of the operation's custom kernel; NULL: there is none. */
static descent_status find_custom(struct way_table *table, const struct custom_launch *launch,
                                  const struct custom_time **time) {
  struct custom_time *const next = &table->custom_times[table->n_own_times];
  descent_status status = DESCENT_OK;
  *time = NULL;
  if (custom_variants(launch) == 0) return DESCENT_OK;
  custom_key(launch, next->key);
  const struct custom_time *at = table->custom_times;
  while (strcmp(at->key, next->key) != 0) at++; /* `next` is the last to be found */
  if (at == next) {
    TRY(custom_fastest(table->device->products, launch, table->device->stream, &next->variant, &next->seconds));
    table->n_own_times++;
  }
  if (at->variant >= 0) *time = at;
done:
  return status;
}

/* Estimated seconds of a pass over `bytes`: the traffic at four fifths of the memory's nominal bandwidth, plus the
 * launch. It is compared with measured products. A formula rather than a measurement keeps the choice reproducible. */
double ways_pass_seconds(const struct backend_device *device, double bytes) {
  const double launch = 2e-6;
  return launch + (device->bandwidth > 0 ? bytes / (0.8 * device->bandwidth) : 0);
}

/* ---- the ways of one operation ---- */

int ways_weights_behind(const struct plan *plan, int index) {
  for (int i = index + 1; i < plan->n_ops && plan->ops[i].kind != OP_DENSE_BACKWARD_INPUT; i++)
    if (plan->ops[i].kind == OP_DENSE_BACKWARD_WEIGHTS && plan->ops[i].weights.dZ == plan->ops[index].input.dZ_below)
      return i;
  return -1;
}

void ways_describe(const struct way_table *table, int index, int64_t rows, struct dense_work *work) {
  work->op = &table->plan->ops[index];
  work->index = index;
  dense_launch(table->buffers, work->op, rows, &work->launch);
  dense_shape(&work->launch, &work->shape);
  work->launch.sums = work->op->kind == OP_DENSE_BACKWARD_INPUT && ways_weights_behind(table->plan, index) >= 0;
  const bool weights = work->op->kind == OP_DENSE_BACKWARD_WEIGHTS;
  work->unit = (double)rows * (double)(weights ? work->shape.m : work->shape.n) *
               (double)element_bytes(weights ? work->shape.operands : work->shape.result);
}

descent_status ways_product(struct way_table *table, const struct dense_work *work, enum epilogue epilogue,
                            int64_t mask_ld, const struct product **product) {
  struct product_shape shape;
  memcpy(&shape, &work->shape, sizeof shape); /* with its padding, which memcmp reads */
  shape.epilogue = epilogue;
  shape.mask_ld = mask_ld;
  return find_product(table, &shape, product);
}

static descent_status add_product(struct way_table *table, const struct dense_work *work, enum epilogue epilogue,
                                  double passes, struct way_list *list) {
  const struct product *product;
  const descent_status status = ways_product(table, work, epilogue, 0, &product);
  if (status == DESCENT_OK && product)
    list->at[list->n++] = (struct timed_way){.way = {.product = product, .fused = epilogue != EPILOGUE_NONE},
                                             .timed = product_seconds(product),
                                             .passes = passes};
  return status;
}

descent_status ways_custom(struct way_table *table, const struct custom_launch *launch, int *variant, double *seconds) {
  const struct product_library *const library = table->device->products;
  const int n = custom_variants(launch);
  const struct custom_time *time = NULL;
  bool passes = false;
  char key[TUNE_KEY];
  descent_status status = DESCENT_OK;
  *variant = -1;
  *seconds = 0;
  if (table->plan->autotune && !ways_draw(table)) {
    TRY(find_custom(table, launch, &time));
    if (time) *variant = time->variant, *seconds = time->seconds;
    goto done;
  }
  custom_key(launch, key);
  const int first = n && ways_draw(table) ? product_library_draw(library, key, "variant", n) : 0;
  for (int i = 0; i < n && !passes; i++) {
    const int tried = (first + i) % n;
    TRY(custom_passes(library, launch, tried, table->device->stream, &passes));
    if (passes) *variant = tried;
  }
done:
  return status;
}

/* Drawn, every variant is listed; timed, the fastest; otherwise the first, and only where there is no product. Where
 * memory for the trial is short, a product does without it: the plan itself may fit. */
static descent_status add_custom(struct way_table *table, const struct dense_work *work, struct way_list *list) {
  const int n = ways_draw(table) ? custom_variants(&work->launch) : 0;
  int taken;
  double seconds;
  descent_status status = DESCENT_OK;
  for (int variant = 0; variant < n; variant++) list->at[list->n++] = (struct timed_way){.way = {.variant = variant}};
  if (ways_draw(table) || (!table->plan->autotune && list->n > 0)) return DESCENT_OK;
  status = ways_custom(table, &work->launch, &taken, &seconds);
  if (status == DESCENT_ERROR_MEMORY && table->plan->autotune && list->n > 0) return DESCENT_OK;
  TRY(status);
  if (taken >= 0) list->at[list->n++] = (struct timed_way){.way = {.variant = taken}, .timed = seconds};
done:
  return status;
}

/* If only bias and relu follow the product, its epilogue does both; otherwise a pass adds the bias to a plain one. */
static descent_status list_forward(struct way_table *table, const struct dense_work *work, struct way_list *list) {
  const struct forward_launch *const pass = &work->launch.forward.pass;
  const bool linear = pass->activation == DESCENT_ACTIVATION_IDENTITY && !pass->threshold;
  const bool relu = pass->activation == DESCENT_ACTIVATION_RELU && !pass->threshold;
  const double seconds = ways_pass_seconds(table->device, 2 * work->unit);
  descent_status status;
  TRY(add_product(table, work, relu ? EPILOGUE_RELU_BIAS : EPILOGUE_BIAS, relu || linear ? 0 : seconds, list));
  TRY(add_product(table, work, EPILOGUE_NONE, seconds, list));
done:
  return status;
}

static descent_status list_weights(struct way_table *table, const struct dense_work *work, bool has_sums,
                                   struct way_list *list) {
  const double sums = has_sums ? 0 : ways_pass_seconds(table->device, work->unit);
  descent_status status = DESCENT_OK;
  /* Not with tf32: the epilogue may sum the operands as the product reads them, truncated to 11 bits. */
  if (!work->shape.tf32) TRY(add_product(table, work, EPILOGUE_COLUMN_SUMS_A, 0, list));
  TRY(add_product(table, work, EPILOGUE_NONE, sums, list));
done:
  return status;
}

/* The pass reads dZ and A or Z, and writes dZ. */
static descent_status list_input(struct way_table *table, const struct dense_work *work, struct way_list *list) {
  const struct backward_launch *const pass = &work->launch.input.pass;
  const bool passes = pass->activation != DESCENT_ACTIVATION_IDENTITY || pass->threshold;
  return add_product(table, work, EPILOGUE_NONE, passes ? ways_pass_seconds(table->device, 3 * work->unit) : 0, list);
}

descent_status ways_list(struct way_table *table, const struct dense_work *work, bool with_custom, bool has_sums,
                         struct way_list *list) {
  descent_status status;
  list->n = 0;
  if (work->op->kind == OP_DENSE_FORWARD)
    TRY(list_forward(table, work, list));
  else if (work->op->kind == OP_DENSE_BACKWARD_INPUT)
    TRY(list_input(table, work, list));
  else
    TRY(list_weights(table, work, has_sums, list));
  if (with_custom) TRY(add_custom(table, work, list));
  if (list->n == 0) return DESCENT_ERROR_UNSUPPORTED;
done:
  return status;
}

bool ways_are_timed(const struct way_list *list) {
  for (int i = 0; i < list->n; i++)
    if (list->at[i].timed <= 0) return false;
  return list->n > 0;
}

/* ---- the table ---- */

descent_status ways_prepare(struct way_table *table, const struct backend_device *device,
                            const struct device_buffers *buffers) {
  table->device = device;
  table->plan = buffers->plan;
  table->buffers = buffers;
  table->custom_times =
      module_allocate(table->plan->n_ops + 1, sizeof *table->custom_times, "the choice of algorithms");
  return table->custom_times ? DESCENT_OK : DESCENT_ERROR_MEMORY;
}

void ways_release(struct way_table *table) {
  for (int i = 0; i < table->n_products; i++) product_free(table->products[i].product);
  free(table->products);
  free(table->custom_times);
}
