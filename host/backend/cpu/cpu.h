/* Inside the cpu backend: the opened device, the compiled program, and one function per op. */
#ifndef DESCENT_BACKEND_CPU_CPU_H
#define DESCENT_BACKEND_CPU_CPU_H

#include "backend/backend.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/pool.h"

struct backend_device {
  struct pool *pool;
  const struct kernels *kernels;
  char description[256], arithmetic[256];
};

struct cpu_buffer {
  void *data;          /* borrowed for PLAN_SOURCE */
  int64_t rows;        /* that can be read */
  descent_dtype dtype; /* of what is bound to PLAN_SOURCE */
};

/* A piece of one layer's part of the flat buffers: norms are summed piece by piece, in this order. */
struct cpu_piece {
  int64_t begin, end;
  int layer; /* from 1 */
};

struct backend_program {
  struct backend_device *device;
  const struct plan *plan;
  struct cpu_buffer *buffers; /* (n_buffers) */
  struct cpu_piece *pieces;   /* (n_pieces) */
  int64_t n_pieces;
  double *slots;    /* (n_slots) one or more per tile, summed in order of tiles */
  float *workspace; /* partial products of long, small weight gradients */
  uint8_t *alive;   /* (widest layer) */
  int64_t bytes;
};

/* Fixed sizes of work; results depend on them, so they may not depend on the number of threads. */
enum {
  CPU_PIECE = 8192,  /* floats of the flat buffers per tile */
  CPU_ROWS = 256,    /* rows per tile of row-wise ops */
  CPU_SMALL = 16384, /* element-wise work below this many values stays on the calling thread */
};

static inline float *cpu_floats(const struct backend_program *program, int buffer) {
  return buffer == PLAN_NONE ? NULL : (float *)program->buffers[buffer].data;
}

static inline double *cpu_doubles(const struct backend_program *program, int buffer) {
  return buffer == PLAN_NONE ? NULL : (double *)program->buffers[buffer].data;
}

static inline int64_t cpu_tiles(int64_t n, int64_t tile) { return (n + tile - 1) / tile; }

/* Runs `task` over the tiles: on the pool, or for less than CPU_SMALL values on the calling thread, in order. */
static inline void cpu_spread(const struct backend_program *program, int64_t values, pool_task *task, void *context,
                              int64_t tiles) {
  if (values >= CPU_SMALL) {
    pool_run(program->device->pool, task, context, tiles);
    return;
  }
  for (int64_t tile = 0; tile < tiles; tile++) task(context, tile);
}

/* The dropout mask of a layer's activations, of width n, at this step; threshold 0 when `dropout`, the probability p,
 * is 0. */
struct kernel_dropout cpu_dropout(const struct backend_program *program, int layer, const struct plan_step *step,
                                  int64_t n, double dropout);

/* Each executes one op for one step. */
descent_status cpu_gather(struct backend_program *program, const struct plan_op *op, const struct plan_step *step);
void cpu_dense_forward(struct backend_program *program, const struct plan_op *op, const struct plan_step *step);
void cpu_dense_backward_weights(struct backend_program *program, const struct plan_op *op,
                                const struct plan_step *step);
void cpu_dense_backward_input(struct backend_program *program, const struct plan_op *op, const struct plan_step *step);
void cpu_loss(struct backend_program *program, const struct plan_op *op, const struct plan_step *step);
void cpu_backward_output(struct backend_program *program, const struct plan_op *op, const struct plan_step *step);
void cpu_accumulate(struct backend_program *program, const struct plan_op *op);
void cpu_combine(struct backend_program *program, const struct plan_op *op, const struct plan_step *step);
descent_status cpu_allreduce(struct backend_program *program, const struct plan_op *op);
void cpu_gradient_norm(struct backend_program *program, const struct plan_op *op, const struct plan_step *step);
void cpu_trust_ratio(struct backend_program *program, const struct plan_op *op, const struct plan_step *step);
void cpu_update(struct backend_program *program, const struct plan_op *op, const struct plan_step *step);
void cpu_statistics(struct backend_program *program, const struct plan_op *op, const struct plan_step *step);
void cpu_metrics(struct backend_program *program, const struct plan_op *op);
void cpu_output(struct backend_program *program, const struct plan_op *op, const struct plan_step *step);

/* ERROR_ARGUMENT unless the step has as many rows as the plan takes, and every gather of the range finds them bound. */
descent_status cpu_check_step(const struct backend_program *program, struct plan_range range,
                              const struct plan_step *step);
/* The operations of the range, once. */
descent_status cpu_run_ops(struct backend_program *program, struct plan_range range, const struct plan_step *step);
/* The flag of a bad step that an op of the range may have set, or NULL if none can. */
const double *cpu_bad_step_flag(const struct backend_program *program, struct plan_range range);

/* As in struct backend. */
descent_status cpu_run(struct backend_program *program, struct plan_range range, const struct plan_step *steps,
                       int64_t n_steps);
descent_status cpu_run_together(struct backend_device *device, const struct backend_job *jobs, int64_t count);

/* As cpu_gather would find them: ERROR_ARGUMENT unless the step's rows are bound. */
descent_status cpu_gather_check(const struct backend_program *program, const struct plan_op *op,
                                const struct plan_step *step);
/* Whether both gathers, whose targets are bound if they have any, read the same sources in the same way, so that equal
 * steps give the same X, y, w and sum. */
bool cpu_gather_same(const struct backend_program *a, const struct plan_op *op_a, const struct backend_program *b,
                     const struct plan_op *op_b);
/* Whether a gather reads the same rows in both steps. */
bool cpu_gather_same_step(const struct plan_op *op, const struct plan_step *a, const struct plan_step *b);

/* Only the matrix product of a dense op, tiled as in the op itself. False for an op that has none. */
bool cpu_dense_product(struct backend_program *program, const struct plan_op *op, int64_t rows);

/* Partial sums that a plan's gathers need. */
int64_t cpu_gather_slots(const struct plan *plan);
/* Floats of workspace that a plan's dense ops need. */
int64_t cpu_dense_workspace(const struct plan *plan);

#endif
