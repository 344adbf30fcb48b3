/* The backend table, whose entries take their turns on the device and leave the caller's current device as it is, and
 * the module's entry point. */
#include <stdio.h>

#include "arrays.h"
#include "ceilings.h"
#include "compile.h"
#include "compiled.h"
#include "link.h"
#include "timing.h"
#include "together.h"

/* Evaluates to the status of `call`, made inside the device's context, or to why it cannot be entered. */
#define INSIDE(device, call)                                   \
  __extension__({                                              \
    struct device_context *const context_ = (device)->context; \
    descent_status status_ = context_enter(context_);          \
    if (status_ == DESCENT_OK) {                               \
      status_ = (call);                                        \
      context_leave(context_);                                 \
    }                                                          \
    status_;                                                   \
  })

/* The same for a call that waits for what the program has started, which may wait for other ranks. */
#define SETTLED(program, call)                                                                                   \
  INSIDE((program)->device, __extension__({                                                                      \
           descent_status settled_ = connection_settle(&(program)->ranks.connection, (program)->device->stream); \
           settled_ == DESCENT_OK ? (call) : settled_;                                                           \
         }))

static descent_status backend_compile(struct backend_device *device, const struct plan *plan,
                                      struct backend_program **program) {
  return INSIDE(device, compile_plan(device, plan, program));
}

/* Where the context cannot be entered, the device is lost, and what it held with it. */
static void backend_release(struct backend_program *program) {
  struct device_context *const context = program->device->context;
  const bool entered = context_enter(context) == DESCENT_OK;
  compile_release(program);
  if (entered) context_leave(context);
}

static descent_status backend_bind(struct backend_program *program, int buffer, descent_dtype dtype, const void *data,
                                   int64_t rows, bool constant) {
  return SETTLED(program, source_bind(&program->sources, buffer, dtype, data, rows, constant));
}

static const char *backend_placement(const struct backend_program *program) { return program->sources.placement; }

static descent_status backend_connect(struct backend_program *program) {
  return INSIDE(program->device, run_connect(program));
}

static descent_status backend_measure_link(struct backend_program *program, double *bandwidth) {
  return SETTLED(program, link_measure(&program->ranks.connection, program->device->stream, bandwidth));
}

static descent_status backend_run(struct backend_program *program, struct plan_range range,
                                  const struct plan_step *steps, int64_t n_steps) {
  return INSIDE(program->device, run_steps(program, range, steps, n_steps));
}

static descent_status backend_run_together(struct backend_device *device, const struct backend_job *jobs,
                                           int64_t count) {
  return INSIDE(device, together_run(device, jobs, count));
}

static descent_status backend_run_product(struct backend_program *program, int op, int64_t rows, int repeat) {
  return INSIDE(program->device, run_product(program, op, rows, repeat));
}

static void backend_path(struct backend_program *program, struct plan_range range, int op, char text[BACKEND_PATH]) {
  if (program->plan->ops[op].kind == OP_ALLREDUCE)
    snprintf(text, BACKEND_PATH, "%s", ranks_path(&program->ranks));
  else
    fusion_path(&program->fusion, &program->choices, range, op, text);
}

static int backend_fused_with(struct backend_program *program, struct plan_range range, int op) {
  return fusion_covers(&program->fusion, range, op) ? fusion_first(&program->fusion, range) : op;
}

static descent_status backend_read(struct backend_program *program, int buffer, int64_t offset, int64_t count,
                                   enum plan_type type, void *data) {
  return SETTLED(program, transfer_read(program, buffer, offset, count, type, data));
}

static descent_status backend_write(struct backend_program *program, int buffer, int64_t offset, int64_t count,
                                    enum plan_type type, const void *data) {
  return SETTLED(program, transfer_write(program, buffer, offset, count, type, data));
}

static descent_status synchronise(struct backend_program *program) {
  descent_status status = DESCENT_OK;
  CUDA_TRY(cudaStreamSynchronize(program->device->stream));
done:
  return status;
}

static descent_status backend_synchronise(struct backend_program *program) {
  return SETTLED(program, synchronise(program));
}

static descent_status backend_measure(struct backend_device *device, descent_precision precision, double *flops,
                                      double *bandwidth) {
  return INSIDE(device, ceilings_measure(device, precision, flops, bandwidth));
}

static descent_status backend_save(struct backend_program *program, int buffer) {
  return INSIDE(program->device, transfer_save(program, buffer));
}

static descent_status backend_restore(struct backend_program *program, int buffer) {
  return INSIDE(program->device, transfer_restore(program, buffer));
}

static descent_status backend_time(struct backend_program *program, struct plan_range range,
                                   const struct plan_step *steps, int64_t n_steps, double *op_seconds,
                                   double *product_seconds) {
  return SETTLED(program, timing_steps(program, range, steps, n_steps, op_seconds, product_seconds));
}

static int64_t backend_memory(const struct backend_program *program) {
  return program->memory.bytes + resident_bytes(&program->sources.residents) +
         product_library_bytes(program->device->products);
}

static descent_status find_room(const struct backend_program *program, struct backend_room *room) {
  room->program = program->memory.bytes - source_bytes(&program->sources);
  room->later = beside_separate_bytes(&program->beside);
  return resident_free(&room->left);
}

static descent_status backend_room(const struct backend_program *program, struct backend_room *room) {
  return INSIDE(program->device, find_room(program, room));
}

/* ---- arrays of callers ---- */

static descent_status backend_set_stream(struct backend_device *device, void *stream) {
  return INSIDE(device, arrays_set_stream(device, stream));
}

static descent_status backend_check_place(struct backend_device *device, const descent_array *array) {
  return INSIDE(device, arrays_check_place(device, array));
}

static descent_status backend_bind_array(struct backend_program *program, int buffer, const descent_array *array,
                                         bool constant) {
  return SETTLED(program, source_bind_array(&program->sources, buffer, array, constant));
}

static descent_status backend_view(struct backend_program *program, int buffer, int64_t rows, descent_array *array) {
  return INSIDE(program->device, transfer_view(program, buffer, rows, array));
}

static descent_status backend_copy_array(struct backend_device *device, const descent_array *from,
                                         const descent_array *to) {
  return INSIDE(device, arrays_copy(device, from, to));
}

static descent_status backend_check_array(struct backend_device *device, const descent_array *array,
                                          struct array_rule rule, int64_t *element, double *value) {
  return INSIDE(device, arrays_check(device, array, rule, element, value));
}

static const struct backend table = {
    .name = "cuda",
    .list = device_list,
    .open = device_open,
    .close = device_close,
    .describe = device_describe,
    .supports = compile_supports,
    .compile = backend_compile,
    .arithmetic = compile_arithmetic,
    .release = backend_release,
    .bind = backend_bind,
    .placement = backend_placement,
    .connect = backend_connect,
    .measure_link = backend_measure_link,
    .run = backend_run,
    .run_together = backend_run_together,
    .run_product = backend_run_product,
    .path = backend_path,
    .fused_with = backend_fused_with,
    .read = backend_read,
    .write = backend_write,
    .synchronise = backend_synchronise,
    .memory = backend_memory,
    .room = backend_room,
    .measure = backend_measure,
    .save = backend_save,
    .restore = backend_restore,
    .time = backend_time,
    .set_stream = backend_set_stream,
    .check_place = backend_check_place,
    .bind_array = backend_bind_array,
    .view = backend_view,
    .copy_array = backend_copy_array,
    .check_array = backend_check_array,
    .evaluation_bytes = 64 << 20, /* enough for products that fill the device, and for few launches and copies */
    .evaluation_rows = 1 << 16,
};

backend_module descent_backend __attribute__((visibility("default")));
const struct backend *descent_backend(const struct backend_host *host) {
  if (host->interface != BACKEND_INTERFACE) return NULL;
  module_set_host(host);
  return &table;
}
