/* Accumulation, gradient norm and update over the flat buffers, and the layers' statistics. Norms are summed in double,
 * piece by piece in a fixed order. */
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "core/communicator.h"
#include "plan/operations.h"

/* ---- accumulation ---- */

struct accumulate {
  const struct kernels *kernels;
  float *gradients, *kept_gradients;
  int64_t n;
  bool adds;
};

static void accumulate_tile(void *context, int64_t tile) {
  const struct accumulate *a = context;
  const int64_t begin = tile * CPU_PIECE, left = a->n - begin, n = left < CPU_PIECE ? left : CPU_PIECE;
  if (a->adds)
    a->kernels->add(a->kept_gradients + begin, a->gradients + begin, n);
  else
    memcpy(a->kept_gradients + begin, a->gradients + begin, (size_t)n * sizeof *a->gradients);
}

void cpu_accumulate(struct backend_program *program, const struct plan_op *op) {
  const struct plan_accumulate *o = &op->accumulate;
  struct accumulate a = {
      .kernels = program->device->kernels,
      .gradients = cpu_floats(program, o->gradients),
      .kept_gradients = cpu_floats(program, o->kept_gradients),
      .n = o->n,
      .adds = o->adds,
  };
  cpu_spread(program, o->n, accumulate_tile, &a, cpu_tiles(o->n, CPU_PIECE));
}

/* ---- micro-batches and ranks ---- */

struct combine {
  const struct kernels *kernels;
  float *gradients, *partial; /* (n), (levels, n) */
  int64_t n;
  int part, parts;
};

static void combine_tile(void *context, int64_t tile) {
  const struct combine *c = context;
  const int64_t begin = tile * CPU_PIECE, left = c->n - begin, n = left < CPU_PIECE ? left : CPU_PIECE;
  float *value = c->gradients + begin;
  int level = 0;
  for (; c->part >> level & 1; level++) c->kernels->add(c->partial + level * c->n + begin, value, n);
  if (c->part < c->parts - 1) {
    memcpy(c->partial + level * c->n + begin, value, (size_t)n * sizeof *value);
    return;
  }
  while (++level < 31)
    if (c->parts >> level & 1) c->kernels->add(c->partial + level * c->n + begin, value, n);
}

void cpu_combine(struct backend_program *program, const struct plan_op *op, const struct plan_step *step) {
  const struct plan_combine *o = &op->combine;
  struct combine c = {
      .kernels = program->device->kernels,
      .gradients = cpu_floats(program, o->gradients),
      .partial = cpu_floats(program, o->partial_gradients),
      .n = o->n,
      .part = step->micro_batch,
      .parts = step->micro_batches,
  };
  if (c.parts > 1) cpu_spread(program, o->n, combine_tile, &c, cpu_tiles(o->n, CPU_PIECE));
  plan_combine_value(step, &cpu_doubles(program, o->scalars)[SCALAR_LOSS], cpu_doubles(program, o->partial_losses), 1);
}

descent_status cpu_allreduce(struct backend_program *program, const struct plan_op *op) {
  const struct plan_allreduce *o = &op->allreduce;
  struct descent_communicator *communicator = program->plan->communicator;
  if (communicator_size(communicator) == 1) return DESCENT_OK;
  return communicator->sum(communicator, cpu_floats(program, o->gradients), o->n,
                           &cpu_doubles(program, o->scalars)[SCALAR_LOSS], 1);
}

/* ---- gradient norm ----------------------------------------------------------------------------------------------- */

struct norm {
  const struct backend_program *program;
  const float *gradients;
};

static void norm_piece(void *context, int64_t number) {
  const struct norm *norm = context;
  const struct cpu_piece *piece = &norm->program->pieces[number];
  norm->program->slots[number] =
      norm->program->device->kernels->sum_squares(norm->gradients + piece->begin, piece->end - piece->begin);
}

void cpu_gradient_norm(struct backend_program *program, const struct plan_op *op, const struct plan_step *step) {
  const struct plan_gradient_norm *o = &op->norm;
  struct norm norm = {.program = program, .gradients = cpu_floats(program, o->gradients)};
  double *scalars = cpu_doubles(program, o->scalars), *layers = cpu_doubles(program, o->layer_statistics);
  const int64_t n = program->n_pieces;
  cpu_spread(program, n ? program->pieces[n - 1].end : 0, norm_piece, &norm, n);

  double total = 0;
  for (int64_t i = 0; i < n;) {
    const int layer = program->pieces[i].layer;
    double sum = 0;
    for (; i < n && program->pieces[i].layer == layer; i++) sum += program->slots[i];
    if (layers) layers[(layer - 1) * LAYER_SLOTS + LAYER_GRADIENT] = sqrt(sum);
    total += sum;
  }
  const double length = sqrt(total);
  scalars[SCALAR_GRADIENT_NORM] = length;
  scalars[SCALAR_CLIP] = formula_clip_factor(o->clip_norm, length);
  if (scalars[SCALAR_BAD_STEP] == 0 && (!isfinite(length) || !isfinite(scalars[SCALAR_LOSS])))
    scalars[SCALAR_BAD_STEP] = (double)step->number;
}

/* ---- update ------------------------------------------------------------------------------------------------------ */

struct update {
  const struct backend_program *program;
  enum update_rule rule;
  struct update_coefficients_f32 coefficients;
  float *parameters, *moment1, *moment2;
  const float *gradients;
  double *layer_statistics;
  int64_t n;
};

enum { UPDATE_SPAN = 1024 }; /* values that are kept beside a sum over a piece */

static struct update update_prepare(const struct backend_program *program, const struct plan_op *op,
                                    const struct plan_step *step) {
  const struct plan_update *o = &op->update;
  struct update u = {
      .program = program,
      .rule = update_rule_of(o),
      .coefficients = update_coefficients_of_f32(o),
      .parameters = cpu_floats(program, o->parameters),
      .moment1 = cpu_floats(program, o->moment1),
      .moment2 = cpu_floats(program, o->moment2),
      .gradients = cpu_floats(program, o->gradients),
      .layer_statistics = cpu_doubles(program, o->layer_statistics),
      .n = o->n,
  };
  u.coefficients.clip_factor = (float)cpu_doubles(program, o->scalars)[SCALAR_CLIP];
  u.coefficients.step = update_factors_of_f32(o, step);
  return u;
}

static int64_t clamped(int64_t at, int64_t begin, int64_t end) { return at < begin ? begin : at > end ? end : at; }

/* ---- trust ratio ---- */

/* Slots 2 i and 2 i + 1 receive the sums of squares of the terms and of w, over the piece's part of W. */
static void trust_piece(void *context, int64_t number) {
  const struct update *u = context;
  const struct kernels *kernels = u->program->device->kernels;
  const struct cpu_piece *piece = &u->program->pieces[number];
  const int64_t end = clamped(u->program->plan->segments[piece->layer - 1].b, piece->begin, piece->end);
  float terms[UPDATE_SPAN];
  double term_squares = 0, squares = 0;
  for (int64_t begin = piece->begin; begin < end; begin += UPDATE_SPAN) {
    const int64_t left = end - begin, n = left < UPDATE_SPAN ? left : UPDATE_SPAN;
    kernels->trust_terms(u->rule, &u->coefficients, u->parameters + begin, u->gradients + begin,
                         u->moment1 ? u->moment1 + begin : NULL, u->moment2 ? u->moment2 + begin : NULL, terms, n);
    term_squares += kernels->sum_squares(terms, n);
    squares += kernels->sum_squares(u->parameters + begin, n);
  }
  u->program->slots[2 * number] = term_squares;
  u->program->slots[2 * number + 1] = squares;
}

/* The sums over the pieces of the layer whose first one is *next, which moves on to the next layer's. */
static void layer_sums(const struct backend_program *program, int64_t *next, double sums[2]) {
  const int layer = program->pieces[*next].layer;
  sums[0] = sums[1] = 0;
  for (; *next < program->n_pieces && program->pieces[*next].layer == layer; ++*next)
    for (int k = 0; k < 2; k++) sums[k] += program->slots[2 * *next + k];
}

void cpu_trust_ratio(struct backend_program *program, const struct plan_op *op, const struct plan_step *step) {
  const struct plan_update *o = &op->update;
  struct update u = update_prepare(program, op, step);
  if (cpu_doubles(program, o->scalars)[SCALAR_BAD_STEP] != 0) return;
  cpu_spread(program, o->n, trust_piece, &u, program->n_pieces);
  for (int64_t i = 0; i < program->n_pieces;) {
    const int layer = program->pieces[i].layer;
    double sums[2];
    layer_sums(program, &i, sums);
    u.layer_statistics[(layer - 1) * LAYER_SLOTS + LAYER_TRUST] =
        formula_trust_ratio(u.rule, o->trust_coefficient, o->weight_decay, sqrt(sums[1]), sqrt(sums[0]));
  }
}

/* ---- elements ---- */

static void update_span(const struct update *u, const struct update_coefficients_f32 *coefficients, int64_t begin,
                        int64_t end) {
  u->program->device->kernels->update(u->rule, coefficients, u->parameters + begin, u->gradients + begin,
                                      u->moment1 ? u->moment1 + begin : NULL, u->moment2 ? u->moment2 + begin : NULL,
                                      end - begin);
}

/* [begin, end) of one layer. */
static void update_layer(const struct update *u, int layer, int64_t begin, int64_t end) {
  if (!update_has_trust_ratio(u->rule)) {
    update_span(u, &u->coefficients, begin, end);
    return;
  }
  const int64_t b = clamped(u->program->plan->segments[layer - 1].b, begin, end);
  const double trust_ratio = u->layer_statistics[(layer - 1) * LAYER_SLOTS + LAYER_TRUST];
  const struct update_coefficients_f32 of_W = update_coefficients_of_W_f32(u->coefficients, trust_ratio),
                                       of_b = update_coefficients_of_b_f32(u->coefficients);
  update_span(u, &of_W, begin, b);
  update_span(u, &of_b, b, end);
}

static void update_tile(void *context, int64_t tile) {
  const struct update *u = context;
  const int64_t begin = tile * CPU_PIECE, left = u->n - begin;
  update_span(u, &u->coefficients, begin, begin + (left < CPU_PIECE ? left : CPU_PIECE));
}

static void update_piece(void *context, int64_t number) {
  const struct update *u = context;
  const struct cpu_piece *piece = &u->program->pieces[number];
  update_layer(u, piece->layer, piece->begin, piece->end);
}

/* Slots 2 i and 2 i + 1 receive the sums of squares of the change and of the parameters before it. */
static void measured_piece(void *context, int64_t number) {
  const struct update *u = context;
  const struct kernels *kernels = u->program->device->kernels;
  const struct cpu_piece *piece = &u->program->pieces[number];
  float before[UPDATE_SPAN];
  double change = 0, squares = 0;
  for (int64_t begin = piece->begin; begin < piece->end; begin += UPDATE_SPAN) {
    const int64_t left = piece->end - begin, n = left < UPDATE_SPAN ? left : UPDATE_SPAN;
    memcpy(before, u->parameters + begin, (size_t)n * sizeof *before);
    update_layer(u, piece->layer, begin, begin + n);
    change += kernels->sum_squared_differences(u->parameters + begin, before, n);
    squares += kernels->sum_squares(before, n);
  }
  u->program->slots[2 * number] = change;
  u->program->slots[2 * number + 1] = squares;
}

static void measured_layers(const struct backend_program *program, double *layers) {
  for (int64_t i = 0; i < program->n_pieces;) {
    const int layer = program->pieces[i].layer;
    double sums[2];
    layer_sums(program, &i, sums);
    layers[(layer - 1) * LAYER_SLOTS + LAYER_UPDATE] = sqrt(sums[0]);
    layers[(layer - 1) * LAYER_SLOTS + LAYER_PARAMETERS] = sqrt(sums[1]);
  }
}

void cpu_update(struct backend_program *program, const struct plan_op *op, const struct plan_step *step) {
  const struct plan_update *o = &op->update;
  struct update u = update_prepare(program, op, step);
  if (cpu_doubles(program, o->scalars)[SCALAR_BAD_STEP] != 0) return;
  if (o->measure) {
    cpu_spread(program, o->n, measured_piece, &u, program->n_pieces);
    measured_layers(program, u.layer_statistics);
  } else if (update_has_trust_ratio(u.rule)) {
    cpu_spread(program, o->n, update_piece, &u, program->n_pieces);
  } else {
    cpu_spread(program, o->n, update_tile, &u, cpu_tiles(o->n, CPU_PIECE));
  }
}

/* ---- statistics: once per epoch, on the calling thread ----------------------------------------------------------- */

/* Marks the units of the row at `at` whose |g'| is not below 1e-6. A dropped value is no evidence about its unit. */
static void mark_alive(const struct backend_program *program, const struct plan_statistics *o,
                       const struct kernel_dropout *dropout, int64_t at) {
  enum { SPAN = 256 };
  const struct kernels *kernels = program->device->kernels;
  const float *A = cpu_floats(program, o->A) + at, *Z = cpu_floats(program, o->Z);
  float slope[SPAN];
  for (int64_t begin = 0; begin < o->n; begin += SPAN) {
    const int64_t left = o->n - begin, n = left < SPAN ? left : SPAN;
    for (int64_t j = 0; j < n; j++) slope[j] = 1;
    kernels->backward(o->activation, A + begin, Z ? Z + at + begin : NULL, (float)formula_keep_probability(o->dropout),
                      slope, n);
    if (dropout->threshold) kernels->dropout(dropout, at + begin, slope, n);
    for (int64_t j = 0; j < n; j++) program->alive[begin + j] |= !(fabsf(slope[j]) < 1e-6f);
  }
}

void cpu_statistics(struct backend_program *program, const struct plan_op *op, const struct plan_step *step) {
  const struct plan_statistics *o = &op->statistics;
  const struct kernels *kernels = program->device->kernels;
  const float *A = cpu_floats(program, o->A);
  const int64_t n = step->rows * o->n;
  const double values = n > 0 ? (double)n : 1; /* without rows all sums are 0 */
  const double mean = kernels->sum(A, n) / values;
  struct kernel_dropout dropout = cpu_dropout(program, op->layer, step, o->n, o->dropout);
  dropout.dropout_scale = 1;
  float *active = cpu_floats(program, o->active); /* (n) or NULL */
  for (int64_t j = 0; j < o->n; j++) program->alive[j] = active && active[j] == 1;
  for (int64_t r = 0; r < step->rows; r++) mark_alive(program, o, &dropout, r * o->n);
  for (int64_t j = 0; active && j < o->n; j++) active[j] = program->alive[j];
  int64_t dead = 0;
  for (int64_t j = 0; j < o->n; j++) dead += !program->alive[j];
  double *layer = cpu_doubles(program, o->layer_statistics) + (op->layer - 1) * LAYER_SLOTS;
  layer[LAYER_MEAN] = mean;
  layer[LAYER_STD] = sqrt(kernels->sum_squares_about(A, mean, n) / values);
  layer[LAYER_DEAD] = (double)dead / (double)o->n;
}
