/* Gather: the step's rows from the caller's memory into the batch, in the order of the permutation, normalised. */
#include <stddef.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "core/rng.h"
#include "core/status.h"

struct gather {
  const struct kernels *kernels;
  const struct plan_gather *op;
  const struct plan_step *step;
  const char *source_X; /* float32, or bytes */
  int64_t element;      /* of source_X, in bytes */
  const float *source_y, *source_w;
  const int64_t *source_index;
  const float *fill, *shift, *scale, *y_shift, *y_scale, *class_weight;
  int64_t classes; /* entries of class_weight */
  float *X, *y, *w;
  int64_t tile_rows;
  double *weight_sums; /* (tiles) */
};

static const void *source(const struct backend_program *program, int buffer) {
  return buffer == PLAN_NONE ? NULL : program->buffers[buffer].data;
}

/* Rows per tile, so that a tile is about GATHERED values. PREFETCHED values are prefetched before they are read. */
enum { GATHERED = 8192, MOST_ROWS = 256, FEWEST_ROWS = 8, PREFETCHED = 1024 };

static int64_t tile_rows(int64_t n_x) {
  const int64_t rows = GATHERED / n_x;
  return rows < FEWEST_ROWS ? FEWEST_ROWS : rows > MOST_ROWS ? MOST_ROWS : rows;
}

/* The order of the rows: NULL where the step is not shuffled. */
static const struct permutation *order_of(const struct plan_gather *o, const struct plan_step *step) {
  return o->shuffle ? step->order : NULL;
}

/* Source rows of the step's rows [begin, begin + count). */
static void find_rows(const struct gather *g, int64_t begin, int64_t count, int64_t *rows) {
  const int64_t first = g->step->first_row + begin;
  const struct permutation *order = order_of(g->op, g->step);
  if (order)
    g->kernels->permute(order, first, rows, count);
  else
    for (int64_t r = 0; r < count; r++) rows[r] = first + r;
  for (int64_t r = 0; r < count && g->source_index; r++) rows[r] = g->source_index[rows[r]];
}

static void copy_row(const struct gather *g, const float *from, const float *shift, const float *scale, float *to,
                     int64_t n) {
  if (shift || scale)
    g->kernels->normalise(from, shift, scale, to, n);
  else
    memcpy(to, from, (size_t)n * sizeof *to);
}

static const void *inputs_of(const struct gather *g, int64_t s) { return g->source_X + s * g->op->n_x * g->element; }

static void copy_inputs(const struct gather *g, const void *from, float *to) {
  if (g->element == 1)
    g->kernels->normalise_bytes(from, g->shift, g->scale, to, g->op->n_x);
  else if (g->fill)
    g->kernels->impute(from, g->fill, g->shift, g->scale, to, g->op->n_x);
  else
    copy_row(g, from, g->shift, g->scale, to, g->op->n_x);
}

static float row_weight(const struct gather *g, int64_t s, float y) {
  const float w = g->source_w ? g->source_w[s] : 1.0f;
  return g->class_weight ? formula_class_weighted(w, g->class_weight, g->classes, y) : w;
}

/* Rows are at random addresses, which the hardware prefetcher cannot predict: each is prefetched some time before it is
 * read. */
static void prefetch_row(const struct gather *g, int64_t s) {
  enum { LINE = 64, MOST_LINES = 64 };
  const int64_t bytes = g->op->n_x * g->element, n = bytes < MOST_LINES * LINE ? bytes : MOST_LINES * LINE;
  const char *row = inputs_of(g, s);
  for (int64_t i = 0; i < n; i += LINE) __builtin_prefetch(row + i);
  if (g->source_y) __builtin_prefetch(g->source_y + s * g->op->n_y);
}

static void gather_tile(void *context, int64_t tile) {
  const struct gather *g = context;
  const int64_t n_x = g->op->n_x, n_y = g->op->n_y, begin = tile * g->tile_rows;
  const int64_t left = g->step->rows - begin, count = left < g->tile_rows ? left : g->tile_rows;
  int64_t rows[MOST_ROWS];
  find_rows(g, begin, count, rows);
  const int64_t ahead = 2 + PREFETCHED / n_x;
  for (int64_t r = -ahead; r < count; r++) {
    if (r + ahead < count) prefetch_row(g, rows[r + ahead]);
    if (r >= 0) copy_inputs(g, inputs_of(g, rows[r]), g->X + (begin + r) * n_x);
  }
  if (!g->source_y) return;
  double sum = 0;
  for (int64_t r = 0; r < count; r++) {
    const float *y = g->source_y + rows[r] * n_y;
    copy_row(g, y, g->y_shift, g->y_scale, g->y + (begin + r) * n_y, n_y);
    g->w[begin + r] = row_weight(g, rows[r], y[0]);
    sum += (double)g->w[begin + r];
  }
  g->weight_sums[tile] = sum;
}

/* The caller checks the rows named by source_index. */
descent_status cpu_gather_check(const struct backend_program *program, const struct plan_op *op,
                                const struct plan_step *step) {
  const struct plan_gather *o = &op->gather;
  const struct permutation *order = order_of(o, step);
  if (!source(program, o->source_X))
    return status_set(DESCENT_ERROR_ARGUMENT, "run: no rows are bound to buffer %d", o->source_X);
  const int64_t bound = program->buffers[source(program, o->source_index) ? o->source_index : o->source_X].rows;
  const int64_t reach = order ? (int64_t)order->n : bound;
  if (step->first_row < 0 || step->rows > reach - step->first_row || reach > bound)
    return status_set(DESCENT_ERROR_ARGUMENT, "run: %lld rows from row %lld: only %lld are bound",
                      (long long)step->rows, (long long)step->first_row, (long long)bound);
  return DESCENT_OK;
}

/* ---- what gathers of several programs have in common ---- */

/* Whether both constants are absent, or have the same bytes. They may be written between runs. */
static bool same_constant(const struct backend_program *a, int buffer_a, const struct backend_program *b,
                          int buffer_b) {
  if (buffer_a == PLAN_NONE || buffer_b == PLAN_NONE) return buffer_a == buffer_b;
  const int64_t n = a->plan->buffers[buffer_a].cols;
  return n == b->plan->buffers[buffer_b].cols &&
         memcmp(cpu_floats(a, buffer_a), cpu_floats(b, buffer_b), (size_t)n * sizeof(float)) == 0;
}

bool cpu_gather_same(const struct backend_program *a, const struct plan_op *op_a, const struct backend_program *b,
                     const struct plan_op *op_b) {
  const struct plan_gather *p = &op_a->gather, *q = &op_b->gather;
  const bool targets = p->y != PLAN_NONE;
  return source(a, p->source_X) == source(b, q->source_X) &&
         a->buffers[p->source_X].dtype == b->buffers[q->source_X].dtype &&
         source(a, p->source_index) == source(b, q->source_index) && p->n_x == q->n_x && p->shuffle == q->shuffle &&
         targets == (q->y != PLAN_NONE) && same_constant(a, p->fill, b, q->fill) &&
         same_constant(a, p->shift, b, q->shift) && same_constant(a, p->scale, b, q->scale) &&
         (!targets ||
          (source(a, p->source_y) == source(b, q->source_y) && source(a, p->source_w) == source(b, q->source_w) &&
           p->n_y == q->n_y && same_constant(a, p->y_shift, b, q->y_shift) &&
           same_constant(a, p->y_scale, b, q->y_scale) && same_constant(a, p->class_weight, b, q->class_weight)));
}

static bool same_order(const struct permutation *a, const struct permutation *b) {
  if (a == b || !a || !b) return a == b;
  return a->n == b->n && a->half_bits == b->half_bits && memcmp(a->keys, b->keys, sizeof a->keys) == 0;
}

bool cpu_gather_same_step(const struct plan_op *op, const struct plan_step *a, const struct plan_step *b) {
  return a->first_row == b->first_row && a->rows == b->rows && a->weight_sum == b->weight_sum &&
         same_order(order_of(&op->gather, a), order_of(&op->gather, b));
}

/* ---- the operation ---- */

int64_t cpu_gather_slots(const struct plan *plan) {
  int64_t most = 0;
  for (int i = 0; i < plan->n_ops; i++) {
    if (plan->ops[i].kind != OP_GATHER) continue;
    const int64_t tiles = cpu_tiles(plan->batch, tile_rows(plan->ops[i].gather.n_x));
    if (tiles > most) most = tiles;
  }
  return most;
}

descent_status cpu_gather(struct backend_program *program, const struct plan_op *op, const struct plan_step *step) {
  const struct plan_gather *o = &op->gather;
  struct gather g = {
      .kernels = program->device->kernels,
      .op = o,
      .step = step,
      .source_X = source(program, o->source_X),
      .element = program->buffers[o->source_X].dtype == DESCENT_DTYPE_U8 ? 1 : (int64_t)sizeof(float),
      .source_y = o->y == PLAN_NONE ? NULL : source(program, o->source_y),
      .source_w = source(program, o->source_w),
      .source_index = source(program, o->source_index),
      .fill = cpu_floats(program, o->fill),
      .shift = cpu_floats(program, o->shift),
      .scale = cpu_floats(program, o->scale),
      .y_shift = cpu_floats(program, o->y_shift),
      .y_scale = cpu_floats(program, o->y_scale),
      .class_weight = cpu_floats(program, o->class_weight),
      .classes = o->class_weight == PLAN_NONE ? 0 : program->plan->buffers[o->class_weight].cols,
      .X = cpu_floats(program, o->X),
      .y = cpu_floats(program, o->y),
      .w = cpu_floats(program, o->w),
      .tile_rows = tile_rows(o->n_x),
      .weight_sums = program->slots,
  };
  const descent_status status = cpu_gather_check(program, op, step);
  if (status != DESCENT_OK) return status;
  const int64_t tiles = cpu_tiles(step->rows, g.tile_rows);
  cpu_spread(program, step->rows * o->n_x, gather_tile, &g, tiles);
  if (!g.source_y) return DESCENT_OK;
  double sum = 0;
  for (int64_t tile = 0; tile < tiles; tile++) sum += program->slots[tile];
  cpu_doubles(program, o->scalars)[SCALAR_WEIGHT_SUM] = step->weight_sum != 0 ? step->weight_sum : sum;
  return DESCENT_OK;
}
