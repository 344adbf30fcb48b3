/* The dense layer's products, cut into fixed tiles for the pool, each followed by its element-wise work while the tile
 * is in cache. Invariant: tiles and slices depend on shapes alone, so the result does not depend on the thread count.
 */
#include <stddef.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "backend/cpu/gemm.h"
#include "core/rng.h"

/* C (m, n) as a grid of tiles, all of one size but the last of each row and column. */
struct tiling {
  int64_t m, n, tile_m, tile_n, across, count;
};

struct tile {
  int64_t m0, n0, m, n; /* origin and size */
};

static int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

/* A tile is large enough to be worth scheduling and to amortise the BLAS's packing of its operands, yet small enough
 * that a large product keeps many threads busy. */
static int64_t tiles_wanted(double flops) {
  const double limits[] = {1e6, 1e8, 1e9, 16e9, 128e9};
  int64_t tiles = 1;
  for (size_t i = 0; i < sizeof limits / sizeof *limits && flops >= limits[i]; i++) tiles *= 2;
  return tiles;
}

static struct tiling tiling_choose(int64_t m, int64_t n, int64_t k) {
  enum { SMALLEST = 32, ALIGN = 16 };
  const int64_t wanted = tiles_wanted(2.0 * (double)m * (double)n * (double)k);
  int64_t parts_m = 1, parts_n = 1;
  while (parts_m * parts_n < wanted) {
    const int64_t tile_m = m / parts_m, tile_n = n / parts_n;
    if (tile_m < SMALLEST && tile_n < SMALLEST) break;
    if (tile_m > tile_n)
      parts_m *= 2;
    else
      parts_n *= 2;
  }
  struct tiling t = {.m = m, .n = n};
  t.tile_m = round_up(cpu_tiles(m, parts_m), ALIGN);
  t.tile_n = round_up(cpu_tiles(n, parts_n), ALIGN);
  t.across = cpu_tiles(n, t.tile_n);
  t.count = m > 0 ? cpu_tiles(m, t.tile_m) * t.across : 0;
  return t;
}

static struct tile tiling_tile(const struct tiling *t, int64_t number) {
  struct tile tile = {.m0 = number / t->across * t->tile_m, .n0 = number % t->across * t->tile_n};
  tile.m = t->m - tile.m0 < t->tile_m ? t->m - tile.m0 : t->tile_m;
  tile.n = t->n - tile.n0 < t->tile_n ? t->n - tile.n0 : t->tile_n;
  return tile;
}

/* ---- what forward and backward input share ----------------------------------------------------------------------- */

struct dense {
  const struct kernels *kernels;
  struct tiling tiling;
  bool product_only;
  const float *A_in, *dZ, *W, *b; /* inputs; unused ones NULL */
  const float *A_below, *Z_below;
  float *C, *A, *Z; /* C receives the product */
  int64_t n_in, n_out;
  descent_activation activation;
  struct kernel_dropout dropout; /* threshold 0: none */
  float keep_probability;        /* 1 - p of the layer below: its A times this is g(z) */
};

struct kernel_dropout cpu_dropout(const struct backend_program *program, int layer, const struct plan_step *step,
                                  int64_t n, double dropout) {
  return (struct kernel_dropout){
      .seed = program->plan->seed,
      .step = (uint64_t)step->number,
      .offset = step->batch_row * n,
      .layer = (uint32_t)layer,
      .threshold = rng_drop_threshold(dropout),
      .dropout_scale = (float)formula_dropout_scale(dropout),
  };
}

/* Rows of a tile per call of the BLAS, before their element-wise work. Where W is small, packing it again costs little,
 * and the block's C stays in cache. */
static int64_t block_rows(const struct dense *d) {
  enum { NARROW = 256, BLOCK = 65536 };
  const int64_t widest = d->n_in > d->n_out ? d->n_in : d->n_out;
  return widest <= NARROW ? BLOCK / widest : d->tiling.tile_m;
}

static void for_blocks(const struct dense *d, int64_t number, void (*work)(const struct dense *, struct tile)) {
  struct tile t = tiling_tile(&d->tiling, number);
  const int64_t end = t.m0 + t.m, rows = block_rows(d);
  for (; t.m0 < end; t.m0 += rows) {
    t.m = end - t.m0 < rows ? end - t.m0 : rows;
    work(d, t);
  }
}

/* ---- forward: A = g(A_in W^T + b) -------------------------------------------------------------------------------- */

enum { FLAT = 1024 }; /* floats */

/* Contiguous rows are processed as one long row with the bias repeated, so that narrow layers vectorise too. */
static void activate_flat(const struct dense *d, int64_t m0, int64_t m) {
  const int64_t n = d->n_out;
  float repeated[FLAT];
  int64_t rows = FLAT / n;
  if (rows > m) rows = m;
  memcpy(repeated, d->b, (size_t)n * sizeof *repeated);
  for (int64_t done = 1, more; done < rows; done += more) {
    more = done < rows - done ? done : rows - done;
    memcpy(repeated + done * n, repeated, (size_t)(more * n) * sizeof *repeated);
  }
  for (int64_t r = 0; r < m; r += rows) {
    const int64_t count = (m - r < rows ? m - r : rows) * n, at = (m0 + r) * n;
    d->kernels->forward(d->activation, repeated, d->Z + at, d->A + at, count);
    if (d->dropout.threshold) d->kernels->dropout(&d->dropout, at, d->A + at, count);
  }
}

/* Packing its operands pays for the BLAS from about 64 rows on: measured on 8 x 1 to 2048 x 2048 weights. */
static void forward_product(const struct dense *d, struct tile t) {
  const int64_t n_in = d->n_in, n_out = d->n_out;
  const float *A_in = d->A_in + t.m0 * n_in, *W = d->W + t.n0 * n_in;
  float *C = d->C + t.m0 * n_out + t.n0;
  if (t.m <= KERNEL_FEW_ROWS)
    d->kernels->product(t.m, t.n, n_in, A_in, n_in, W, n_in, C, n_out);
  else
    gemm(false, true, t.m, t.n, n_in, A_in, n_in, W, n_in, C, n_out);
}

static void forward_block(const struct dense *d, struct tile t) {
  forward_product(d, t);
  if (d->product_only) return;
  if (t.n == d->n_out && t.n <= FLAT / 2) {
    activate_flat(d, t.m0, t.m);
    return;
  }
  for (int64_t r = t.m0; r < t.m0 + t.m; r++) {
    const int64_t at = r * d->n_out + t.n0;
    d->kernels->forward(d->activation, d->b + t.n0, d->Z + at, d->A + at, t.n);
    if (d->dropout.threshold) d->kernels->dropout(&d->dropout, at, d->A + at, t.n);
  }
}

static void forward_tile(void *context, int64_t number) {
  const struct dense *d = context;
  for_blocks(d, number, forward_block);
}

static struct dense forward_prepare(const struct backend_program *program, const struct plan_op *op, int64_t rows) {
  const struct plan_dense_forward *o = &op->forward;
  const float *parameters = cpu_floats(program, o->parameters);
  struct dense d = {
      .kernels = program->device->kernels,
      .tiling = tiling_choose(rows, o->n_out, o->n_in),
      .A_in = cpu_floats(program, o->A_in),
      .W = parameters + o->W,
      .b = parameters + o->b,
      .A = cpu_floats(program, o->A),
      .Z = cpu_floats(program, o->Z),
      .n_in = o->n_in,
      .n_out = o->n_out,
      .activation = o->activation,
  };
  if (!d.Z) d.Z = d.A;
  d.C = d.Z;
  return d;
}

void cpu_dense_forward(struct backend_program *program, const struct plan_op *op, const struct plan_step *step) {
  struct dense d = forward_prepare(program, op, step->rows);
  d.dropout = cpu_dropout(program, op->layer, step, op->forward.n_out, op->forward.dropout);
  pool_run(program->device->pool, forward_tile, &d, d.tiling.count);
}

/* ---- backward input: dZ_below = (dZ W) * g' ---- */

static void slope_span(const struct dense *d, int64_t begin, int64_t count) {
  for (int64_t at = begin; at < begin + count; at += FLAT) {
    const int64_t left = begin + count - at, n = left < FLAT ? left : FLAT;
    const float *Z = d->Z_below ? d->Z_below + at : NULL;
    d->kernels->backward(d->activation, d->A_below + at, Z, d->keep_probability, d->C + at, n);
    if (d->dropout.threshold) d->kernels->dropout(&d->dropout, at, d->C + at, n);
  }
}

static void input_block(const struct dense *d, struct tile t) {
  const float *dZ = d->dZ + t.m0 * d->n_out, *W = d->W + t.n0;
  float *C = d->C + t.m0 * d->n_in + t.n0;
  if (t.m <= d->kernels->combine_rows)
    d->kernels->combine(t.m, t.n, d->n_out, dZ, d->n_out, 1, W, d->n_in, C, d->n_in);
  else
    gemm(false, false, t.m, t.n, d->n_out, dZ, d->n_out, W, d->n_in, C, d->n_in);
  if (d->product_only) return;
  if (t.n == d->n_in)
    slope_span(d, t.m0 * d->n_in, t.m * d->n_in);
  else
    for (int64_t r = t.m0; r < t.m0 + t.m; r++) slope_span(d, r * d->n_in + t.n0, t.n);
}

static void input_tile(void *context, int64_t number) {
  const struct dense *d = context;
  for_blocks(d, number, input_block);
}

static struct dense input_prepare(const struct backend_program *program, const struct plan_op *op, int64_t rows) {
  const struct plan_dense_backward_input *o = &op->input;
  return (struct dense){
      .kernels = program->device->kernels,
      .tiling = tiling_choose(rows, o->n_in, o->n_out),
      .dZ = cpu_floats(program, o->dZ),
      .W = cpu_floats(program, o->parameters) + o->W,
      .A_below = cpu_floats(program, o->A),
      .Z_below = cpu_floats(program, o->Z),
      .C = cpu_floats(program, o->dZ_below),
      .n_in = o->n_in,
      .n_out = o->n_out,
      .activation = o->activation,
  };
}

void cpu_dense_backward_input(struct backend_program *program, const struct plan_op *op, const struct plan_step *step) {
  struct dense d = input_prepare(program, op, step->rows);
  d.dropout = cpu_dropout(program, op->layer - 1, step, op->input.n_in, op->input.dropout);
  d.keep_probability = (float)formula_keep_probability(op->input.dropout);
  pool_run(program->device->pool, input_tile, &d, d.tiling.count);
}

/* ---- backward weights: dW = dZ^T A_in, db = column sums of dZ
 * ---------------------------------------------------------- */

/* dW is cut into tiles. Where dW is small and the batch long, the batch is cut into slices instead, whose partial
 * products are added in order. */
struct weights {
  const struct kernels *kernels;
  struct tiling tiling;
  bool product_only;
  const float *dZ, *A_in;
  float *dW, *db, *workspace;
  int64_t rows, n_in, n_out;
  int64_t slices, slice_rows;
};

enum { SLICE_ROWS = 1024, MOST_SLICES = 16, SLICED_WEIGHTS = 32768 };

static int64_t slices_choose(int64_t rows, int64_t n_in, int64_t n_out) {
  if (n_in * n_out > SLICED_WEIGHTS || rows < 2 * SLICE_ROWS) return 1;
  return rows / SLICE_ROWS < MOST_SLICES ? rows / SLICE_ROWS : MOST_SLICES;
}

/* db[j] = column sum j. Several rows of a narrow dZ are summed as one long row, which is then folded. */
static void column_sums(const struct kernels *kernels, const float *dZ, int64_t rows, int64_t stride, float *db,
                        int64_t n) {
  enum { WIDE = 64 };
  memset(db, 0, (size_t)n * sizeof *db);
  if (n < stride || n > WIDE / 2 || rows < WIDE) {
    kernels->column_sums(dZ, rows, stride, db, n);
    return;
  }
  float folded[WIDE] = {0};
  const int64_t fold = WIDE / n, long_rows = rows / fold;
  kernels->column_sums(dZ, long_rows, fold * n, folded, fold * n);
  kernels->column_sums(folded, fold, n, db, n);
  kernels->column_sums(dZ + long_rows * fold * n, rows - long_rows * fold, n, db, n);
}

static void weights_tile(void *context, int64_t number) {
  const struct weights *w = context;
  const struct tile t = tiling_tile(&w->tiling, number);
  const float *dZ = w->dZ + t.m0, *A_in = w->A_in + t.n0;
  float *dW = w->dW + t.m0 * w->n_in + t.n0;
  if (w->rows <= w->kernels->combine_rows)
    w->kernels->combine(t.m, t.n, w->rows, dZ, 1, w->n_out, A_in, w->n_in, dW, w->n_in);
  else
    gemm(true, false, t.m, t.n, w->rows, dZ, w->n_out, A_in, w->n_in, dW, w->n_in);
  if (t.n0 == 0 && !w->product_only) column_sums(w->kernels, w->dZ + t.m0, w->rows, w->n_out, w->db + t.m0, t.m);
}

static void weights_slice(void *context, int64_t slice) {
  const struct weights *w = context;
  const int64_t r0 = slice * w->slice_rows, left = w->rows - r0, rows = left < w->slice_rows ? left : w->slice_rows;
  float *dW = w->workspace + slice * (w->n_in + 1) * w->n_out;
  gemm(true, false, w->n_out, w->n_in, rows, w->dZ + r0 * w->n_out, w->n_out, w->A_in + r0 * w->n_in, w->n_in, dW,
       w->n_in);
  if (!w->product_only)
    column_sums(w->kernels, w->dZ + r0 * w->n_out, rows, w->n_out, dW + w->n_in * w->n_out, w->n_out);
}

static void add_slices(const struct weights *w) {
  const int64_t n = w->n_in * w->n_out, stride = n + w->n_out;
  memcpy(w->dW, w->workspace, (size_t)n * sizeof *w->dW);
  memcpy(w->db, w->workspace + n, (size_t)w->n_out * sizeof *w->db);
  for (int64_t slice = 1; slice < w->slices; slice++) {
    w->kernels->add(w->workspace + slice * stride, w->dW, n);
    w->kernels->add(w->workspace + slice * stride + n, w->db, w->n_out);
  }
}

static struct weights weights_prepare(const struct backend_program *program, const struct plan_op *op, int64_t rows) {
  const struct plan_dense_backward_weights *o = &op->weights;
  float *gradients = cpu_floats(program, o->gradients);
  struct weights w = {
      .kernels = program->device->kernels,
      .tiling = tiling_choose(o->n_out, o->n_in, rows),
      .dZ = cpu_floats(program, o->dZ),
      .A_in = cpu_floats(program, o->A_in),
      .dW = gradients + o->W,
      .db = gradients + o->b,
      .workspace = program->workspace,
      .rows = rows,
      .n_in = o->n_in,
      .n_out = o->n_out,
      .slices = slices_choose(rows, o->n_in, o->n_out),
  };
  w.slice_rows = round_up(cpu_tiles(rows, w.slices), 16);
  w.slices = cpu_tiles(rows, w.slice_rows);
  return w;
}

static void weights_run(struct backend_program *program, struct weights *w) {
  if (w->slices == 1) {
    pool_run(program->device->pool, weights_tile, w, w->tiling.count);
    return;
  }
  pool_run(program->device->pool, weights_slice, w, w->slices);
  add_slices(w);
}

void cpu_dense_backward_weights(struct backend_program *program, const struct plan_op *op,
                                const struct plan_step *step) {
  const struct plan_dense_backward_weights *o = &op->weights;
  if (step->rows == 0) { /* the sum of nothing */
    float *gradients = cpu_floats(program, o->gradients);
    memset(gradients + o->W, 0, (size_t)(o->n_out * o->n_in) * sizeof *gradients);
    memset(gradients + o->b, 0, (size_t)o->n_out * sizeof *gradients);
    return;
  }
  struct weights w = weights_prepare(program, op, step->rows);
  weights_run(program, &w);
}

int64_t cpu_dense_workspace(const struct plan *plan) {
  int64_t most = 0;
  for (int i = 0; i < plan->n_ops; i++) {
    const struct plan_op *op = &plan->ops[i];
    if (op->kind != OP_DENSE_BACKWARD_WEIGHTS) continue;
    const int64_t slices = slices_choose(plan->batch, op->weights.n_in, op->weights.n_out);
    const int64_t floats = slices * (op->weights.n_in + 1) * op->weights.n_out;
    if (slices > 1 && floats > most) most = floats;
  }
  return most;
}

/* ---- how threads can share a product ---- */

int64_t cpu_dense_tiles(const struct plan_op *op, int64_t rows, double *flops) {
  int64_t n_in = 0, n_out = 0, tiles = 0;
  switch (op->kind) {
    case OP_DENSE_FORWARD:
      n_in = op->forward.n_in, n_out = op->forward.n_out;
      tiles = tiling_choose(rows, n_out, n_in).count;
      break;
    case OP_DENSE_BACKWARD_INPUT:
      n_in = op->input.n_in, n_out = op->input.n_out;
      tiles = tiling_choose(rows, n_in, n_out).count;
      break;
    case OP_DENSE_BACKWARD_WEIGHTS:
      n_in = op->weights.n_in, n_out = op->weights.n_out;
      tiles = slices_choose(rows, n_in, n_out);
      if (tiles == 1) tiles = tiling_choose(n_out, n_in, rows).count;
      break;
    default: break;
  }
  *flops = 2.0 * (double)rows * (double)n_in * (double)n_out;
  return tiles;
}

/* ---- for bench --------------------------------------------------------------------------------------------------- */

bool cpu_dense_product(struct backend_program *program, const struct plan_op *op, int64_t rows) {
  struct pool *pool = program->device->pool;
  struct dense d = {0};
  struct weights w;
  switch (op->kind) {
    case OP_DENSE_FORWARD:
      d = forward_prepare(program, op, rows);
      d.product_only = true;
      pool_run(pool, forward_tile, &d, d.tiling.count);
      return true;
    case OP_DENSE_BACKWARD_INPUT:
      d = input_prepare(program, op, rows);
      d.product_only = true;
      pool_run(pool, input_tile, &d, d.tiling.count);
      return true;
    case OP_DENSE_BACKWARD_WEIGHTS:
      w = weights_prepare(program, op, rows);
      w.product_only = true;
      weights_run(program, &w);
      return true;
    default: return false;
  }
}
