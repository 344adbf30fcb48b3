/* The layout of the plan's buffers on the device, and their memory. */
#include "layout.h"

#include <stdlib.h>

#include "plan/operations.h"

enum { FLAT_ALIGN = PARAMETER_ALIGN };

static int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

static int64_t unit_of(enum element element) { return element == ELEMENT_BF16 ? 8 : 4; }

/* ---- layouts ---- */

/* Operands of products get padded rows, flat buffers a separate layout. An operand narrower than its buffer is dense at
 * the buffer's start, so the buffer has no padding; `narrower` marks those, in a second pass. */
static void mark_buffers(struct device_buffers *buffers, const struct plan_op *op, bool narrower) {
  struct plan_use uses[PLAN_MOST_USES];
  for (int n = plan_uses(op, uses); n-- > 0;) {
    const struct plan_use *use = &uses[n];
    struct device_buffer *b = &buffers->at[use->buffer];
    if (use->role == PLAN_FLAT) b->layout = LAYOUT_FLAT;
    if (use->role != PLAN_ACTIVATION) continue;
    if (!narrower)
      b->layout = LAYOUT_PADDED;
    else if (use->width != buffers->plan->buffers[use->buffer].cols)
      b->layout = LAYOUT_LINEAR;
    if (plan_is_bf16(buffers->plan, use->buffer)) b->element = ELEMENT_BF16;
  }
}

/* The source of the bf16 working copy: the parameters of the products and of the update. */
static int parameters_of(const struct plan *plan) {
  for (int i = 0; i < plan->n_ops; i++) {
    const struct plan_op *op = &plan->ops[i];
    if (op->kind == OP_DENSE_FORWARD) return op->forward.parameters;
    if (op->kind == OP_DENSE_BACKWARD_INPUT) return op->input.parameters;
    if (op->kind == OP_UPDATE) return op->update.parameters;
  }
  return PLAN_NONE;
}

/* ---- the flat buffers ---- */

/* W of a dense operation as a rectangle of the flat buffers; false for other operations. */
static bool rectangle_of(const struct plan_op *op, struct flat_region *region) {
  *region = (struct flat_region){0};
  if (op->kind == OP_DENSE_FORWARD)
    region->host = op->forward.W, region->rows = op->forward.n_out, region->cols = op->forward.n_in;
  else if (op->kind == OP_DENSE_BACKWARD_WEIGHTS)
    region->host = op->weights.W, region->rows = op->weights.n_out, region->cols = op->weights.n_in;
  else if (op->kind == OP_DENSE_BACKWARD_INPUT)
    region->host = op->input.W, region->rows = op->input.n_out, region->cols = op->input.n_in;
  else
    return false;
  return true;
}

static int by_position(const void *a, const void *b) {
  const struct flat_region *x = a, *y = b;
  return (x->host > y->host) - (x->host < y->host);
}

/* Appends a region, at a position with the plan's alignment. */
static void place(struct flat_map *map, struct flat_region region) {
  if (region.rows == 0 || region.cols == 0) return;
  const int64_t shift = (region.host - map->device_count) % FLAT_ALIGN;
  region.device = map->device_count + (shift < 0 ? shift + FLAT_ALIGN : shift);
  map->device_count = region.device + region.rows * region.ld;
  map->host_count = region.host + region.rows * region.cols;
  map->regions[map->n++] = region;
}

static void place_linear(struct flat_map *map, int64_t until) {
  const int64_t count = until - map->host_count;
  if (count > 0) place(map, (struct flat_region){.host = map->host_count, .rows = 1, .cols = count, .ld = count});
}

static descent_status map_flat(struct device_buffers *buffers, int64_t host_count) {
  const struct plan *plan = buffers->plan;
  struct flat_map *map = &buffers->flat;
  const int64_t unit = unit_of(plan->precision == DESCENT_PRECISION_BF16 ? ELEMENT_BF16 : ELEMENT_F32);
  struct flat_region *rectangles = module_allocate(plan->n_ops, sizeof *rectangles, "the layout of the parameters");
  map->regions = module_allocate(2 * (int64_t)plan->n_ops + 1, sizeof *map->regions, "the layout of the parameters");
  if (!rectangles || !map->regions) {
    free(rectangles);
    return DESCENT_ERROR_MEMORY;
  }
  int n = 0;
  for (int i = 0; i < plan->n_ops; i++)
    if (rectangle_of(&plan->ops[i], &rectangles[n])) n++;
  qsort(rectangles, (size_t)n, sizeof *rectangles, by_position);
  for (int i = 0; i < n; i++) {
    if (i > 0 && rectangles[i].host == rectangles[i - 1].host) continue; /* the same W */
    place_linear(map, rectangles[i].host);
    rectangles[i].ld = round_up(rectangles[i].cols, unit);
    place(map, rectangles[i]);
  }
  place_linear(map, host_count);
  map->device_count = round_up(map->device_count, FLAT_ALIGN);
  free(rectangles);
  return DESCENT_OK;
}

/* The region of element `host` < host_count. */
static const struct flat_region *region_of(const struct flat_map *map, int64_t host) {
  int low = 0, high = map->n - 1;
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (map->regions[middle].host <= host)
      low = middle;
    else
      high = middle - 1;
  }
  return &map->regions[low];
}

int64_t flat_position(const struct flat_map *map, int64_t host) {
  if (host >= map->host_count) return map->device_count;
  const struct flat_region *r = region_of(map, host);
  const int64_t at = host - r->host;
  return r->device + at / r->cols * r->ld + at % r->cols;
}

int64_t flat_ld(const struct flat_map *map, int64_t host, int64_t n) {
  const struct flat_region *r = region_of(map, host);
  return r->host == host && r->cols == n ? r->ld : n;
}

/* ---- sizes and memory ---- */

static int owner_of(const struct plan *plan, int buffer) {
  for (int i = 0; plan->buffers[buffer].slot && i < buffer; i++)
    if (plan->buffers[i].slot == plan->buffers[buffer].slot) return i;
  return buffer;
}

static int64_t bytes_of(const struct device_buffers *buffers, int buffer) {
  const struct plan_buffer *planned = &buffers->plan->buffers[buffer];
  const struct device_buffer *b = &buffers->at[buffer];
  if (b->layout == LAYOUT_FLAT) return 4 * planned->rows * buffers->flat.device_count;
  const int64_t size = planned->type != PLAN_F32 ? 8 : b->element == ELEMENT_BF16 ? 2 : 4;
  return planned->rows * (b->layout == LAYOUT_PADDED ? b->ld : planned->cols) * size;
}

descent_status layout_plan(struct device_buffers *buffers, const struct plan *plan) {
  int64_t flat_count = 0;
  buffers->plan = plan;
  buffers->parameters = parameters_of(plan);
  buffers->at = module_allocate(plan->n_buffers, sizeof *buffers->at, "the plan's buffers");
  if (!buffers->at) return DESCENT_ERROR_MEMORY;
  for (int pass = 0; pass < 2; pass++)
    for (int i = 0; i < plan->n_ops; i++) mark_buffers(buffers, &plan->ops[i], pass == 1);
  for (int i = 0; i < plan->n_buffers; i++) {
    struct device_buffer *b = &buffers->at[i];
    if (b->layout == LAYOUT_PADDED) b->ld = round_up(plan->buffers[i].cols, unit_of(b->element));
    if (b->layout == LAYOUT_FLAT && plan->buffers[i].cols > flat_count) flat_count = plan->buffers[i].cols;
  }
  const descent_status status = map_flat(buffers, flat_count);
  if (status != DESCENT_OK) return status;
  for (int i = 0; i < plan->n_buffers; i++) {
    struct device_buffer *b = &buffers->at[i], *owner = &buffers->at[owner_of(plan, i)];
    b->owned = b == owner && plan->buffers[i].storage != PLAN_SOURCE;
    b->bytes = bytes_of(buffers, i);
    if (b->bytes > owner->bytes) owner->bytes = b->bytes;
  }
  return DESCENT_OK;
}

descent_status layout_take(struct device_buffers *buffers, struct device_memory *memory) {
  const struct plan *plan = buffers->plan;
  descent_status status = DESCENT_OK;
  for (int i = 0; i < plan->n_buffers; i++)
    if (buffers->at[i].owned)
      TRY(device_memory_take(memory, buffers->at[i].bytes, plan->buffers[i].name, &buffers->at[i].data));
  for (int i = 0; i < plan->n_buffers; i++)
    for (int j = 0; plan->buffers[i].slot && j < i && !buffers->at[i].data; j++)
      if (plan->buffers[j].slot == plan->buffers[i].slot) buffers->at[i].data = buffers->at[j].data;
  if (plan->precision == DESCENT_PRECISION_BF16 && buffers->parameters != PLAN_NONE)
    TRY(device_memory_take(memory, 2 * buffers->flat.device_count, "the bf16 copy of the parameters",
                           &buffers->working));
done:
  return status;
}

descent_status layout_zero(const struct device_buffers *buffers, cudaStream_t stream) {
  descent_status status = DESCENT_OK;
  for (int i = 0; i < buffers->plan->n_buffers; i++) {
    const struct device_buffer *b = &buffers->at[i];
    if (b->owned && b->bytes) CUDA_TRY(cudaMemsetAsync(b->data, 0, (size_t)b->bytes, stream));
  }
  if (buffers->working) CUDA_TRY(cudaMemsetAsync(buffers->working, 0, 2 * (size_t)buffers->flat.device_count, stream));
done:
  return status;
}

void layout_release(struct device_buffers *buffers) {
  for (int i = 0; buffers->at && i < buffers->plan->n_buffers; i++)
    if (buffers->at[i].owned) device_memory_free(buffers->at[i].data);
  device_memory_free(buffers->working);
  free(buffers->flat.regions);
  free(buffers->at);
}

/* ---- positions of values ---- */

void *layout_data(const struct device_buffers *buffers, int buffer) {
  return buffer == PLAN_NONE ? NULL : buffers->at[buffer].data;
}

struct device_matrix layout_matrix(const struct device_buffers *buffers, int buffer, int64_t n) {
  if (buffer == PLAN_NONE) return (struct device_matrix){NULL, 0, ELEMENT_F32};
  const struct device_buffer *b = &buffers->at[buffer];
  return (struct device_matrix){b->data, b->layout == LAYOUT_PADDED ? b->ld : n, b->element};
}

struct device_matrix layout_weights(const struct device_buffers *buffers, int parameters, int64_t W, int64_t n_in) {
  const int64_t at = flat_position(&buffers->flat, W), ld = flat_ld(&buffers->flat, W, n_in);
  const bool bf16 = buffers->plan->precision == DESCENT_PRECISION_BF16;
  char *data = bf16 ? buffers->working : buffers->at[parameters].data; /* NULL before layout_take */
  return (struct device_matrix){data ? data + at * (bf16 ? 2 : 4) : NULL, ld, bf16 ? ELEMENT_BF16 : ELEMENT_F32};
}

float *layout_flat(const struct device_buffers *buffers, int buffer, int64_t host) {
  return (float *)buffers->at[buffer].data + flat_position(&buffers->flat, host);
}

descent_status layout_view(const struct device_buffers *buffers, int ordinal, int buffer, int64_t rows,
                           descent_array *array) {
  const struct plan_buffer *planned = &buffers->plan->buffers[buffer];
  const struct device_buffer *b = &buffers->at[buffer];
  if (planned->storage == PLAN_SOURCE || planned->type != PLAN_F32 || b->layout == LAYOUT_FLAT || rows > planned->rows)
    return module_status(DESCENT_ERROR_ARGUMENT, "buffer %s: %lld rows of it are not an array", planned->name,
                         (long long)rows);
  *array = (descent_array){.size = sizeof *array,
                           .data = b->data,
                           .dtype = b->element == ELEMENT_BF16 ? DESCENT_DTYPE_BF16 : DESCENT_DTYPE_F32,
                           .place = DESCENT_PLACE_CUDA,
                           .ordinal = ordinal,
                           .rows = rows,
                           .columns = planned->cols,
                           .row_stride = b->layout == LAYOUT_PADDED ? b->ld : planned->cols,
                           .column_stride = 1};
  return DESCENT_OK;
}

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

struct device_block layout_block(const struct device_buffers *buffers, int buffer, int64_t offset, int64_t count) {
  const struct device_buffer *b = &buffers->at[buffer];
  const struct plan_buffer *planned = &buffers->plan->buffers[buffer];
  struct flat_region whole = {.rows = 1, .cols = planned->rows * planned->cols, .ld = planned->rows * planned->cols};
  if (b->layout == LAYOUT_PADDED)
    whole = (struct flat_region){.rows = planned->rows, .cols = planned->cols, .ld = b->ld};
  if (b->layout == LAYOUT_FLAT) {
    const int64_t flat = offset / planned->cols, begin = flat * planned->cols; /* of several, one behind another */
    whole = *region_of(&buffers->flat, offset - begin);
    whole.host += begin;
    whole.device += flat * buffers->flat.device_count;
    count = least(count, begin + planned->cols - offset);
  }
  const int64_t at = offset - whole.host, row = at / whole.cols, col = at % whole.cols;
  const int64_t device = whole.device + row * whole.ld + col;
  if (whole.ld == whole.cols) {
    const int64_t n = least(whole.rows * whole.cols - at, count);
    return (struct device_block){device, 1, n, n};
  }
  if (col || count < whole.cols) return (struct device_block){device, 1, least(whole.cols - col, count), whole.ld};
  return (struct device_block){device, least(whole.rows - row, count / whole.cols), whole.cols, whole.ld};
}
