/* The cpu backend: float32 on the host's cores. Opening a device picks the instruction set and starts the pool;
 * compiling allocates everything that a plan needs; running executes its operations in order. */
#include "backend/cpu/cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "backend/cpu/gemm.h"
#include "core/clock.h"
#include "core/memory.h"
#include "core/status.h"
#include "core/system.h"
#include "plan/operations.h"

/* ---- device ------------------------------------------------------------------------------------------------------ */

enum { MOST_THREADS = 256 };

static const struct kernels *choose_kernels(void) {
#ifdef __x86_64__
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("bmi2"))
    return &kernels_v4;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2"))
    return &kernels_v3;
#endif
  return &kernels_baseline;
}

/* "AMD EPYC 9555" from the kernel, or the machine's architecture. */
static void processor_name(char *name, size_t size) {
  struct utsname machine;
  snprintf(name, size, "%s", uname(&machine) == 0 ? machine.machine : "unknown");
  char text[4096];
  if (!system_read_text("/proc/cpuinfo", text, sizeof text)) return;
  const char *line = strstr(text, "model name"), *end = line ? strchr(line, '\n') : NULL;
  const char *colon = end ? memchr(line, ':', (size_t)(end - line)) : NULL;
  if (!colon) return;
  colon += colon[1] == ' ';
  snprintf(name, size, "%.*s", (int)(end - colon - 1), colon + 1);
}

static void device_close(struct backend_device *device) {
  if (!device) return;
  pool_free(device->pool);
  gemm_end_one_thread();
  free(device);
}

static descent_status device_open(int ordinal, int threads, struct backend_device **result) {
  if (ordinal != 0) return status_set(DESCENT_ERROR_DEVICE, "no device cpu:%d: only cpu", ordinal);
  if (threads < 0 || threads > MOST_THREADS)
    return status_set(DESCENT_ERROR_ARGUMENT, "threads %d: must be 0 (one per core) to %d", threads, MOST_THREADS);
  if (threads == 0) threads = system_cores_allowed();
  if (threads > MOST_THREADS) threads = MOST_THREADS;
  struct backend_device *device = memory_allocate(1, sizeof *device, "the cpu device");
  if (!device) return DESCENT_ERROR_MEMORY;
  gemm_begin_one_thread();
  descent_status status;
  device->kernels = choose_kernels();
  TRY(pool_create(threads, &device->pool));
  if (!gemm_reserve(threads))
    TRY(status_set(DESCENT_ERROR_MEMORY, "cannot allocate 0.13 GB for products in each of %d thread%s (see ulimit -v)",
                   threads, threads == 1 ? "" : "s"));
  char processor[96], blas[96];
  processor_name(processor, sizeof processor);
  const bool complete = gemm_describe(blas, sizeof blas);
  snprintf(device->description, sizeof device->description, "cpu: %s, %d thread%s, %s, %s", processor, threads,
           threads == 1 ? "" : "s", device->kernels->name, blas);
  snprintf(device->arithmetic, sizeof device->arithmetic, "%s, %s%s%s", device->kernels->name, blas,
           complete ? "" : ", ", complete ? "" : processor); /* which decides on the kernels */
  *result = device;
  device = NULL;
done:
  device_close(device);
  return status;
}

static const char *device_describe(const struct backend_device *device) { return device->description; }

/* ---- compile ----------------------------------------------------------------------------------------------------- */

static bool device_supports(const struct backend_device *device, const struct plan *plan, const struct plan_op *op) {
  (void)device;
  int64_t n_in = 0, n_out = 0;
  if (op->kind == OP_DENSE_FORWARD) n_in = op->forward.n_in, n_out = op->forward.n_out;
  if (plan->batch > INT32_MAX) { /* BLAS takes sizes and strides as int */
    status_set(DESCENT_ERROR_UNSUPPORTED, "a batch of %lld rows: cpu products take at most 2^31 - 1",
               (long long)plan->batch);
    return false;
  }
  if (n_in > INT32_MAX || n_out > INT32_MAX) {
    status_set(DESCENT_ERROR_UNSUPPORTED, "layer %d of %lld x %lld: cpu products take at most 2^31 - 1", op->layer,
               (long long)n_out, (long long)n_in);
    return false;
  }
  if (plan->precision != DESCENT_PRECISION_FP32) {
    status_set(DESCENT_ERROR_UNSUPPORTED, "precision %s: the cpu computes in fp32 (use precision fp32)",
               descent_precision_name(plan->precision));
    return false;
  }
  return true;
}

static size_t element_size(enum plan_type type) { return type == PLAN_F32 ? sizeof(float) : sizeof(double); }

/* memory_allocate that adds to the program's total. */
static void *allocate(struct backend_program *program, int64_t count, size_t size, const char *what) {
  void *memory = memory_allocate(count, size, what);
  if (memory) program->bytes += count * (int64_t)size;
  return memory;
}

/* The first buffer of this buffer's slot; it owns the slot's memory. */
static int owner_of(const struct plan *plan, int buffer) {
  for (int i = 0; plan->buffers[buffer].slot && i < buffer; i++)
    if (plan->buffers[i].slot == plan->buffers[buffer].slot) return i;
  return buffer;
}

/* Values in the widest buffer of the slot. */
static int64_t slot_cols(const struct plan *plan, const struct plan_buffer *buffer) {
  int64_t cols = buffer->cols;
  for (int i = 0; buffer->slot && i < plan->n_buffers; i++)
    if (plan->buffers[i].slot == buffer->slot && plan->buffers[i].cols > cols) cols = plan->buffers[i].cols;
  return cols;
}

static descent_status allocate_buffers(struct backend_program *program) {
  const struct plan *plan = program->plan;
  for (int i = 0; i < plan->n_buffers; i++) {
    const struct plan_buffer *buffer = &plan->buffers[i];
    if (buffer->storage == PLAN_SOURCE) continue;
    int64_t count;
    const int owner = owner_of(plan, i);
    if (owner != i) {
      program->buffers[i] = program->buffers[owner];
      continue;
    }
    if (!size_product(buffer->rows, slot_cols(plan, buffer), &count))
      return status_set(DESCENT_ERROR_MEMORY, "cannot allocate %lld x %lld values for %s", (long long)buffer->rows,
                        (long long)buffer->cols, buffer->name);
    program->buffers[i].rows = buffer->rows;
    program->buffers[i].data = allocate(program, count, element_size(buffer->type), buffer->name);
    if (!program->buffers[i].data) return DESCENT_ERROR_MEMORY;
  }
  return DESCENT_OK;
}

static descent_status cut_pieces(struct backend_program *program) {
  const struct plan *plan = program->plan;
  int64_t n = 0;
  for (int l = 0; l < plan->layers; l++) n += cpu_tiles(plan->segments[l].end - plan->segments[l].begin, CPU_PIECE);
  program->pieces = allocate(program, n, sizeof *program->pieces, "the pieces of the flat buffers");
  if (!program->pieces) return DESCENT_ERROR_MEMORY;
  for (int l = 0; l < plan->layers; l++)
    for (int64_t begin = plan->segments[l].begin, end = plan->segments[l].end; begin < end; begin += CPU_PIECE)
      program->pieces[program->n_pieces++] =
          (struct cpu_piece){begin, end - begin < CPU_PIECE ? end : begin + CPU_PIECE, l + 1};
  return DESCENT_OK;
}

static descent_status allocate_scratch(struct backend_program *program) {
  const struct plan *plan = program->plan;
  int64_t widest = 0, slots = cpu_tiles(plan->batch, CPU_ROWS);
  for (int i = 0; i < plan->n_ops; i++)
    if (plan->ops[i].kind == OP_STATISTICS && plan->ops[i].statistics.n > widest) widest = plan->ops[i].statistics.n;
  if (slots < cpu_gather_slots(plan)) slots = cpu_gather_slots(plan);
  if (slots < 2 * program->n_pieces) slots = 2 * program->n_pieces;
  program->slots = allocate(program, slots, sizeof *program->slots, "partial sums");
  program->alive = allocate(program, widest, sizeof *program->alive, "marks of live units");
  program->workspace =
      allocate(program, cpu_dense_workspace(plan), sizeof *program->workspace, "partial weight gradients");
  return program->slots && program->alive && program->workspace ? DESCENT_OK : DESCENT_ERROR_MEMORY;
}

static void program_release(struct backend_program *program) {
  if (!program) return;
  for (int i = 0; program->buffers && i < program->plan->n_buffers; i++)
    if (program->plan->buffers[i].storage != PLAN_SOURCE && owner_of(program->plan, i) == i)
      free(program->buffers[i].data);
  free(program->buffers);
  free(program->pieces);
  free(program->slots);
  free(program->alive);
  free(program->workspace);
  free(program);
}

static descent_status device_compile(struct backend_device *device, const struct plan *plan,
                                     struct backend_program **result) {
  for (int i = 0; i < plan->n_ops; i++)
    if (!device_supports(device, plan, &plan->ops[i])) return DESCENT_ERROR_UNSUPPORTED;
  struct backend_program *program = memory_allocate(1, sizeof *program, "the compiled plan");
  if (!program) return DESCENT_ERROR_MEMORY;
  program->device = device;
  program->plan = plan;
  descent_status status = DESCENT_ERROR_MEMORY;
  program->buffers = allocate(program, plan->n_buffers, sizeof *program->buffers, "the plan's buffers");
  if (!program->buffers) goto done;
  TRY(allocate_buffers(program));
  TRY(cut_pieces(program));
  TRY(allocate_scratch(program));
  *result = program;
  program = NULL;
done:
  program_release(program);
  return status;
}

/* ---- for bench --------------------------------------------------------------------------------------------------- */

static descent_status program_run_product(struct backend_program *program, int op, int64_t rows, int repeat) {
  for (int i = 0; i < repeat; i++)
    if (!cpu_dense_product(program, &program->plan->ops[op], rows))
      return status_set(DESCENT_ERROR_ARGUMENT, "operation %d has no matrix product", op);
  return DESCENT_OK;
}

/* ---- buffers ----------------------------------------------------------------------------------------------------- */

static descent_status program_bind(struct backend_program *program, int buffer, descent_dtype dtype, const void *data,
                                   int64_t rows, bool constant) {
  (void)constant; /* the caller's memory is read in place */
  char reason[96];
  if (!plan_can_bind(program->plan, buffer, dtype, data, rows, reason, sizeof reason))
    return status_set(DESCENT_ERROR_ARGUMENT, "%s", reason);
  program->buffers[buffer] =
      (struct cpu_buffer){(void *)data, data ? rows : 0, dtype}; /* const: sources are only read */
  return DESCENT_OK;
}

static double load(const void *data, enum plan_type type, int64_t i) {
  if (type == PLAN_F32) return (double)((const float *)data)[i];
  return ((const double *)data)[i];
}

static void store(void *data, enum plan_type type, int64_t i, double value) {
  if (type == PLAN_F32)
    ((float *)data)[i] = (float)value;
  else
    ((double *)data)[i] = value;
}

/* Equal types are copied bit for bit. I64 is never converted, see plan_can_copy. */
static void convert(void *to, enum plan_type to_type, const void *from, enum plan_type from_type, int64_t count) {
  if (to_type == from_type) {
    memcpy(to, from, (size_t)count * element_size(to_type));
    return;
  }
  for (int64_t i = 0; i < count; i++) store(to, to_type, i, load(from, from_type, i));
}

static char *element(const struct backend_program *program, int buffer, int64_t offset) {
  return (char *)program->buffers[buffer].data + (size_t)offset * element_size(program->plan->buffers[buffer].type);
}

static descent_status program_read(struct backend_program *program, int buffer, int64_t offset, int64_t count,
                                   enum plan_type type, void *data) {
  char reason[128];
  if (!plan_can_copy(program->plan, buffer, offset, count, type, reason, sizeof reason))
    return status_set(DESCENT_ERROR_ARGUMENT, "%s", reason);
  convert(data, type, element(program, buffer, offset), program->plan->buffers[buffer].type, count);
  return DESCENT_OK;
}

static descent_status program_write(struct backend_program *program, int buffer, int64_t offset, int64_t count,
                                    enum plan_type type, const void *data) {
  char reason[128];
  if (!plan_can_copy(program->plan, buffer, offset, count, type, reason, sizeof reason))
    return status_set(DESCENT_ERROR_ARGUMENT, "%s", reason);
  convert(element(program, buffer, offset), program->plan->buffers[buffer].type, data, type, count);
  return DESCENT_OK;
}

static const char *program_arithmetic(const struct backend_program *program) { return program->device->arithmetic; }

static int64_t program_memory(const struct backend_program *program) { return program->bytes; }

/* ---- ceilings
 * -------------------------------------------------------------------------------------------------------- */

enum { SIDE = 1024, COPY_TILES = 64, COPY_BYTES = 1 << 20, ROUNDS = 5 };

struct ceiling {
  const float *A, *B;
  float *C; /* (threads, SIDE, SIDE) */
  const char *from;
  char *to;
};

static void product_tile(void *context, int64_t tile) {
  const struct ceiling *c = context;
  gemm(false, true, SIDE, SIDE, SIDE, c->A, SIDE, c->B, SIDE, c->C + tile * SIDE * SIDE, SIDE);
}

static void copy_tile(void *context, int64_t tile) {
  const struct ceiling *c = context;
  memcpy(c->to + tile * COPY_BYTES, c->from + tile * COPY_BYTES, COPY_BYTES);
}

/* The shortest of a few rounds after a warm-up round. */
static double shortest_round(struct pool *pool, pool_task *task, struct ceiling *ceiling, int64_t tiles) {
  double best = 0;
  for (int round = 0; round <= ROUNDS; round++) {
    const double start = clock_seconds();
    pool_run(pool, task, ceiling, tiles);
    const double seconds = clock_seconds() - start;
    if (round == 1 || (round > 1 && seconds < best)) best = seconds;
  }
  return best;
}

static descent_status device_measure(struct backend_device *device, descent_precision precision, double *flops,
                                     double *bandwidth) {
  if (precision != DESCENT_PRECISION_FP32)
    return status_set(DESCENT_ERROR_UNSUPPORTED, "precision %s: the cpu computes in fp32",
                      descent_precision_name(precision));
  const int64_t threads = pool_threads(device->pool), square = SIDE * SIDE;
  float *matrices = memory_allocate((2 + threads) * square, sizeof *matrices, "the product benchmark");
  char *bytes = memory_allocate(2 * (int64_t)COPY_TILES * COPY_BYTES, 1, "the copy benchmark");
  descent_status status = matrices && bytes ? DESCENT_OK : DESCENT_ERROR_MEMORY;
  if (status != DESCENT_OK) goto done;
  for (int64_t i = 0; i < 2 * square; i++) matrices[i] = (float)(i % 13 - 6) / 16;
  struct ceiling c = {matrices, matrices + square, matrices + 2 * square, bytes,
                      bytes + (int64_t)COPY_TILES * COPY_BYTES};
  *flops = (double)threads * 2.0 * SIDE * SIDE * SIDE / shortest_round(device->pool, product_tile, &c, threads);
  *bandwidth = 2.0 * COPY_TILES * COPY_BYTES / shortest_round(device->pool, copy_tile, &c, COPY_TILES);
done:
  free(matrices);
  free(bytes);
  return status;
}

const struct backend backend_cpu = {
    .name = "cpu",
    .open = device_open,
    .close = device_close,
    .describe = device_describe,
    .arithmetic = program_arithmetic,
    .supports = device_supports,
    .compile = device_compile,
    .release = program_release,
    .bind = program_bind,
    .run = cpu_run,
    .run_together = cpu_run_together,
    .shares_threads = true,
    .run_product = program_run_product,
    .read = program_read,
    .write = program_write,
    .memory = program_memory,
    .measure = device_measure,
    .evaluation_bytes = 4 << 20, /* the activations stay in the caches */
    .evaluation_rows = 4096,
};
