/* The statistics of a layer's activations, and the running totals of an epoch. */
#include <math.h>
#include <stddef.h>

#include "backend/reference/reference.h"

/* A unit is dead if no row lets a gradient pass through it. */
static bool is_dead(const struct backend_program *program, const struct plan_op *op, const struct plan_step *step,
                    int64_t unit) {
  const struct plan_statistics *o = &op->statistics;
  const double *A = reference_values(program, o->A), *Z = reference_values(program, o->Z);
  for (int64_t r = 0; r < step->rows; r++) {
    const int64_t rj = r * o->n + unit;
    if (reference_dropout(program->plan, step, op->layer, o->n, o->dropout, rj) == 0) continue;
    if (!(fabs(reference_slope(o->activation, A[rj] * (1 - o->dropout), Z ? Z[rj] : 0)) < 1e-6)) return false;
  }
  return true;
}

void reference_statistics(struct backend_program *program, const struct plan_op *op, const struct plan_step *step) {
  const struct plan_statistics *o = &op->statistics;
  const double *A = reference_values(program, o->A); /* (rows, n) */
  double *layer = reference_values(program, o->layer_statistics) + (op->layer - 1) * LAYER_SLOTS;
  const int64_t count = step->rows * o->n;

  double mean = 0, variance = 0;
  for (int64_t i = 0; i < count; i++) mean += A[i] / (double)count;
  for (int64_t i = 0; i < count; i++) variance += (A[i] - mean) * (A[i] - mean) / (double)count;
  int64_t dead = 0;
  double *active = reference_values(program, o->active); /* (n) or NULL */
  for (int64_t j = 0; j < o->n; j++) {
    const bool is_active = !is_dead(program, op, step, j) || (active && active[j] == 1);
    if (active && is_active) active[j] = 1;
    dead += !is_active;
  }
  layer[LAYER_MEAN] = mean;
  layer[LAYER_STD] = sqrt(variance);
  layer[LAYER_DEAD] = (double)dead / (double)o->n;
}

void reference_metrics(struct backend_program *program, const struct plan_metrics *op) {
  double *scalars = reference_values(program, op->scalars);
  if (scalars[SCALAR_BAD_STEP] != 0) return;
  scalars[SCALAR_TOTAL_LOSS] += scalars[SCALAR_LOSS] * scalars[SCALAR_WEIGHT_SUM];
  scalars[SCALAR_TOTAL_WEIGHT] += scalars[SCALAR_WEIGHT_SUM];
}
