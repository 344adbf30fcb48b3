/* Loss, output and metrics: J and dJ/dZ of the output layer, by a loss or from the caller's dJ/dA, what predict returns,
 * and the running totals. */
#include <stddef.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "core/terms.h"

struct loss {
  double (*rows)(const struct kernel_loss *loss);
  struct kernel_loss all;
  int64_t n_y;
  double *sums; /* (tiles) */
};

static void loss_tile(void *context, int64_t tile) {
  const struct loss *l = context;
  const int64_t begin = tile * CPU_ROWS, left = l->all.rows - begin, n = l->all.n;
  struct kernel_loss part = l->all;
  part.rows = left < CPU_ROWS ? left : CPU_ROWS;
  part.A += begin * n;
  if (part.Z) part.Z += begin * n;
  if (part.dZ) part.dZ += begin * n;
  part.y += begin * l->n_y;
  part.w += begin;
  l->sums[tile] = l->rows(&part);
}

static double (*loss_kernel(const struct kernels *kernels, descent_loss loss))(const struct kernel_loss *) {
  switch (loss) {
    case DESCENT_LOSS_BINARY_CROSS_ENTROPY: return kernels->loss_binary;
    case DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY: return kernels->loss_softmax;
    case DESCENT_LOSS_MEAN_SQUARED_ERROR: break;
  }
  return kernels->loss_squared;
}

void cpu_loss(struct backend_program *program, const struct plan_op *op, const struct plan_step *step) {
  const struct plan_loss *o = &op->loss;
  double *scalars = cpu_doubles(program, o->scalars);
  const double weight_sum = scalars[SCALAR_WEIGHT_SUM], inverse_weight_sum = weight_sum == 0 ? 0 : 1 / weight_sum;
  struct loss l = {
      .rows = loss_kernel(program->device->kernels, o->loss),
      .all =
          {
              .A = cpu_floats(program, o->A),
              .Z = cpu_floats(program, o->Z),
              .y = cpu_floats(program, o->y),
              .w = cpu_floats(program, o->w),
              .dZ = cpu_floats(program, o->dZ),
              .rows = step->rows,
              .n = o->n,
              .inverse_weight_sum = inverse_weight_sum,
              .label_smoothing = (float)o->label_smoothing,
              .activation = o->activation,
          },
      .n_y = loss_is_regression(o->loss) ? o->n : 1,
      .sums = program->slots,
  };
  const int64_t tiles = cpu_tiles(step->rows, CPU_ROWS);
  cpu_spread(program, step->rows * o->n, loss_tile, &l, tiles);
  double sum = 0;
  for (int64_t tile = 0; tile < tiles; tile++) sum += program->slots[tile];
  scalars[SCALAR_LOSS] = sum * inverse_weight_sum;
}

/* ---- dZ from dA ---- */

struct backward_output {
  const struct kernels *kernels;
  const float *dA, *A, *Z;
  float *dZ;
  int64_t count;
  descent_activation activation;
};

static void backward_output_tile(void *context, int64_t tile) {
  const struct backward_output *b = context;
  const int64_t begin = tile * CPU_PIECE, left = b->count - begin, n = left < CPU_PIECE ? left : CPU_PIECE;
  memcpy(b->dZ + begin, b->dA + begin, (size_t)n * sizeof *b->dZ);
  b->kernels->backward(b->activation, b->A + begin, b->Z ? b->Z + begin : NULL, 1, b->dZ + begin, n);
}

void cpu_backward_output(struct backend_program *program, const struct plan_op *op, const struct plan_step *step) {
  const struct plan_backward_output *o = &op->output_slope;
  struct backward_output b = {
      .kernels = program->device->kernels,
      .dA = cpu_floats(program, o->dA),
      .A = cpu_floats(program, o->A),
      .Z = cpu_floats(program, o->Z),
      .dZ = cpu_floats(program, o->dZ),
      .count = step->rows * o->n,
      .activation = o->activation,
  };
  cpu_spread(program, b.count, backward_output_tile, &b, cpu_tiles(b.count, CPU_PIECE));
}

/* ---- output ------------------------------------------------------------------------------------------------------ */

struct output {
  const struct kernels *kernels;
  const struct plan_output *op;
  const float *A, *y_shift, *y_scale;
  float *P;
  int64_t rows;
};

static void output_tile(void *context, int64_t tile) {
  const struct output *o = context;
  const int64_t n = o->op->n, begin = tile * CPU_ROWS, left = o->rows - begin;
  const int64_t rows = left < CPU_ROWS ? left : CPU_ROWS;
  const float *A = o->A + begin * n;
  float *P = o->P + begin * n;
  switch (o->op->loss) {
    case DESCENT_LOSS_BINARY_CROSS_ENTROPY: o->kernels->sigmoid(A, P, rows * n); break;
    case DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY: o->kernels->softmax(A, P, rows, n); break;
    case DESCENT_LOSS_MEAN_SQUARED_ERROR:
      for (int64_t r = 0; r < rows; r++) o->kernels->denormalise(A + r * n, o->y_shift, o->y_scale, P + r * n, n);
      break;
  }
}

void cpu_output(struct backend_program *program, const struct plan_op *op, const struct plan_step *step) {
  struct output o = {
      .kernels = program->device->kernels,
      .op = &op->output,
      .A = cpu_floats(program, op->output.A),
      .y_shift = cpu_floats(program, op->output.y_shift),
      .y_scale = cpu_floats(program, op->output.y_scale),
      .P = cpu_floats(program, op->output.P),
      .rows = step->rows,
  };
  cpu_spread(program, step->rows * op->output.n, output_tile, &o, cpu_tiles(step->rows, CPU_ROWS));
}

void cpu_metrics(struct backend_program *program, const struct plan_op *op) {
  double *scalars = cpu_doubles(program, op->metrics.scalars);
  if (scalars[SCALAR_BAD_STEP] != 0) return;
  scalars[SCALAR_TOTAL_LOSS] += scalars[SCALAR_LOSS] * scalars[SCALAR_WEIGHT_SUM];
  scalars[SCALAR_TOTAL_WEIGHT] += scalars[SCALAR_WEIGHT_SUM];
}
