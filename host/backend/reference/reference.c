/* The reference backend's table: buffers held in double, operations run one after another. */
#include "backend/reference/reference.h"

#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/communicator.h"
#include "core/memory.h"
#include "core/status.h"
#include "plan/operations.h"

struct backend_device {
  char unused; /* a device has no state but needs an address */
};

/* ---- device ------------------------------------------------------------------------------------------------------ */

static descent_status device_open(int ordinal, int threads, struct backend_device **device) {
  (void)threads; /* always one thread */
  if (ordinal != 0) return status_set(DESCENT_ERROR_DEVICE, "no device reference:%d: only reference", ordinal);
  struct backend_device *made = memory_allocate(1, sizeof *made, "the reference device");
  if (!made) return DESCENT_ERROR_MEMORY;
  *device = made;
  return DESCENT_OK;
}

static void device_close(struct backend_device *device) { free(device); }

static const char *device_describe(const struct backend_device *device) {
  (void)device;
  return "reference: float64, naive loops, 1 thread";
}

/* Computes in double whatever the precision. */
static bool device_supports(const struct backend_device *device, const struct plan *plan, const struct plan_op *op) {
  (void)device;
  if (op->kind == OP_ALLREDUCE && communicator_size(plan->communicator) > 1) { /* which adds float32 */
    status_set(DESCENT_ERROR_UNSUPPORTED, "ranks %d: the reference computes on one; use the device cpu or cuda",
               communicator_size(plan->communicator));
    return false;
  }
  if ((unsigned)op->kind < OP_KINDS) return true;
  status_set(DESCENT_ERROR_UNSUPPORTED, "unknown operation kind %d", (int)op->kind);
  return false;
}

/* ---- programs and their buffers ---------------------------------------------------------------------------------- */

static void program_release(struct backend_program *program) {
  if (!program) return;
  for (int i = 0; program->buffers && i < program->plan->n_buffers; i++) {
    free(program->buffers[i].values);
    free(program->buffers[i].integers);
  }
  free(program->buffers);
  free(program);
}

static descent_status allocate_buffer(struct backend_program *program, int buffer) {
  const struct plan_buffer *asked = &program->plan->buffers[buffer];
  struct reference_buffer *made = &program->buffers[buffer];
  int64_t count;
  if (asked->storage == PLAN_SOURCE) return DESCENT_OK;
  if (!size_product(asked->rows, asked->cols, &count))
    return status_set(DESCENT_ERROR_MEMORY, "cannot allocate %lld x %lld values for %s", (long long)asked->rows,
                      (long long)asked->cols, asked->name);
  if (asked->type == PLAN_I64)
    made->integers = memory_allocate(count, sizeof *made->integers, asked->name);
  else
    made->values = memory_allocate(count, sizeof *made->values, asked->name);
  if (!made->integers && !made->values) return DESCENT_ERROR_MEMORY;
  program->bytes += count * 8;
  return DESCENT_OK;
}

static descent_status device_compile(struct backend_device *device, const struct plan *plan,
                                     struct backend_program **result) {
  for (int i = 0; i < plan->n_ops; i++)
    if (!device_supports(device, plan, &plan->ops[i])) return DESCENT_ERROR_UNSUPPORTED;
  struct backend_program *program = memory_allocate(1, sizeof *program, "the compiled plan");
  if (!program) return DESCENT_ERROR_MEMORY;
  program->plan = plan;
  descent_status status = DESCENT_ERROR_MEMORY;
  program->buffers = memory_allocate(plan->n_buffers, sizeof *program->buffers, "the plan's buffers");
  if (!program->buffers) goto done;
  status = DESCENT_OK;
  for (int i = 0; i < plan->n_buffers; i++) TRY(allocate_buffer(program, i));
  *result = program;
  program = NULL;
done:
  program_release(program);
  return status;
}

static descent_status program_bind(struct backend_program *program, int buffer, descent_dtype dtype, const void *data,
                                   int64_t rows, bool constant) {
  (void)constant; /* the caller's memory is read in place */
  char reason[96];
  if (!plan_can_bind(program->plan, buffer, dtype, data, rows, reason, sizeof reason))
    return status_set(DESCENT_ERROR_ARGUMENT, "%s", reason);
  program->buffers[buffer].source = data;
  program->buffers[buffer].dtype = dtype;
  program->buffers[buffer].rows = data ? rows : 0;
  return DESCENT_OK;
}

static descent_status program_read(struct backend_program *program, int buffer, int64_t offset, int64_t count,
                                   enum plan_type type, void *data) {
  char reason[128];
  if (!plan_can_copy(program->plan, buffer, offset, count, type, reason, sizeof reason))
    return status_set(DESCENT_ERROR_ARGUMENT, "%s", reason);
  const struct reference_buffer *b = &program->buffers[buffer];
  for (int64_t i = 0; i < count; i++) switch (type) {
      case PLAN_F32: ((float *)data)[i] = (float)b->values[offset + i]; break;
      case PLAN_F64: ((double *)data)[i] = b->values[offset + i]; break;
      case PLAN_I64: ((int64_t *)data)[i] = b->integers[offset + i]; break;
    }
  return DESCENT_OK;
}

static descent_status program_write(struct backend_program *program, int buffer, int64_t offset, int64_t count,
                                    enum plan_type type, const void *data) {
  char reason[128];
  if (!plan_can_copy(program->plan, buffer, offset, count, type, reason, sizeof reason))
    return status_set(DESCENT_ERROR_ARGUMENT, "%s", reason);
  struct reference_buffer *b = &program->buffers[buffer];
  for (int64_t i = 0; i < count; i++) switch (type) {
      case PLAN_F32: b->values[offset + i] = (double)((const float *)data)[i]; break;
      case PLAN_F64: b->values[offset + i] = ((const double *)data)[i]; break;
      case PLAN_I64: b->integers[offset + i] = ((const int64_t *)data)[i]; break;
    }
  return DESCENT_OK;
}

static int64_t program_memory(const struct backend_program *program) { return program->bytes; }

/* ---- running ----------------------------------------------------------------------------------------------------- */

static descent_status run_op(struct backend_program *program, const struct plan_op *op, const struct plan_step *step) {
  switch (op->kind) {
    case OP_GATHER: return reference_gather(program, &op->gather, step);
    case OP_DENSE_FORWARD: reference_dense_forward(program, op, step); break;
    case OP_LOSS: reference_loss(program, &op->loss, step); break;
    case OP_BACKWARD_OUTPUT: reference_backward_output(program, &op->output_slope, step); break;
    case OP_DENSE_BACKWARD_WEIGHTS: reference_dense_backward_weights(program, &op->weights, step); break;
    case OP_DENSE_BACKWARD_INPUT: reference_dense_backward_input(program, op, step); break;
    case OP_ACCUMULATE: reference_accumulate(program, &op->accumulate); break;
    case OP_COMBINE: reference_combine(program, &op->combine, step); break;
    case OP_ALLREDUCE: break; /* of one rank: device_supports */
    case OP_TRUST_RATIO: reference_trust_ratio(program, &op->update, step); break;
    case OP_GRADIENT_NORM: reference_gradient_norm(program, &op->norm, step); break;
    case OP_UPDATE: reference_update(program, &op->update, step); break;
    case OP_STATISTICS: reference_statistics(program, op, step); break;
    case OP_METRICS: reference_metrics(program, &op->metrics); break;
    case OP_OUTPUT: reference_output(program, &op->output, step); break;
    case OP_KINDS: break;
  }
  return DESCENT_OK;
}

/* True if a step of this range is marked as bad, which only gradient_norm does. */
static bool is_stopped(const struct backend_program *program, struct plan_range range) {
  for (int i = range.first; i < range.first + range.count; i++) {
    const struct plan_op *op = &program->plan->ops[i];
    if (op->kind == OP_GRADIENT_NORM) return reference_values(program, op->norm.scalars)[SCALAR_BAD_STEP] != 0;
  }
  return false;
}

static descent_status program_run(struct backend_program *program, struct plan_range range,
                                  const struct plan_step *steps, int64_t n_steps) {
  descent_status status = DESCENT_OK;
  for (int64_t s = 0; s < n_steps; s++) {
    if (!plan_can_run(program->plan, &steps[s]))
      return status_set(DESCENT_ERROR_ARGUMENT, "run: a step of %lld rows: must be %d to %lld",
                        (long long)steps[s].rows, steps[s].micro_batches > 0 ? 0 : 1, (long long)program->plan->batch);
    for (int i = 0; i < range.count; i++) TRY(run_op(program, &program->plan->ops[range.first + i], &steps[s]));
    if (is_stopped(program, range)) break;
  }
done:
  return status;
}

/* The naive loops spend nearly all of their time in the product, so the whole op is run in its place. */
static descent_status program_run_product(struct backend_program *program, int op, int64_t rows, int repeat) {
  const struct plan_op *o = &program->plan->ops[op];
  if (o->kind != OP_DENSE_FORWARD && o->kind != OP_DENSE_BACKWARD_WEIGHTS && o->kind != OP_DENSE_BACKWARD_INPUT)
    return status_set(DESCENT_ERROR_ARGUMENT, "operation %d has no matrix product", op);
  const struct plan_step step = {.number = 1, .rows = rows};
  descent_status status = DESCENT_OK;
  for (int i = 0; i < repeat; i++) TRY(program_run(program, (struct plan_range){op, 1}, &step, 1));
done:
  return status;
}

/* ---- ceilings ---------------------------------------------------------------------------------------------------- */

static descent_status device_measure(struct backend_device *device, descent_precision precision, double *flops,
                                     double *bandwidth) {
  enum { SIDE = 192, VALUES = 4 << 20 };
  (void)device;
  (void)precision;
  double *from = memory_allocate(VALUES, sizeof *from, "the copy benchmark");
  double *to = memory_allocate(VALUES, sizeof *to, "the copy benchmark");
  descent_status status = from && to ? DESCENT_OK : DESCENT_ERROR_MEMORY;
  if (status != DESCENT_OK) goto done;
  double begin = clock_seconds();
  memcpy(to, from, VALUES * sizeof *to);
  *bandwidth = 2.0 * VALUES * sizeof *to / (clock_seconds() - begin);
  begin = clock_seconds();
  for (int r = 0; r < SIDE; r++)
    for (int j = 0; j < SIDE; j++) {
      double z = 0;
      for (int i = 0; i < SIDE; i++) z += from[r * SIDE + i] * from[(SIDE + j) * SIDE + i];
      to[r * SIDE + j] = z;
    }
  *flops = 2.0 * SIDE * SIDE * SIDE / (clock_seconds() - begin);
done:
  free(from);
  free(to);
  return status;
}

const struct backend backend_reference = {
    .name = "reference",
    .open = device_open,
    .close = device_close,
    .describe = device_describe,
    .supports = device_supports,
    .compile = device_compile,
    .release = program_release,
    .bind = program_bind,
    .run = program_run,
    .run_product = program_run_product,
    .read = program_read,
    .write = program_write,
    .memory = program_memory,
    .measure = device_measure,
    .evaluation_bytes = 4 << 20, /* the activations stay in the caches */
    .evaluation_rows = 4096,
};
