/* The backend table, and the module's entry point. */
#include "ceilings.h"
#include "compile.h"
#include "compiled.h"
#include "timing.h"

static descent_status backend_bind(struct backend_program *program, int buffer, const void *data, int64_t rows,
                                   bool constant) {
  return source_bind(&program->sources, buffer, data, rows, constant);
}

static const char *backend_placement(const struct backend_program *program) { return program->sources.placement; }

static descent_status backend_synchronise(struct backend_program *program) {
  descent_status status = DESCENT_OK;
  CUDA_TRY(cudaStreamSynchronize(program->device->stream));
done:
  return status;
}

static int64_t backend_memory(const struct backend_program *program) {
  return program->memory.bytes + product_library_bytes(program->device->products);
}

static const struct backend table = {
    .name = "cuda",
    .list = device_list,
    .open = device_open,
    .close = device_close,
    .describe = device_describe,
    .arithmetic = device_arithmetic,
    .supports = compile_supports,
    .compile = compile_plan,
    .release = compile_release,
    .bind = backend_bind,
    .placement = backend_placement,
    .run = run_steps,
    .run_product = run_product,
    .read = transfer_read,
    .write = transfer_write,
    .synchronise = backend_synchronise,
    .memory = backend_memory,
    .measure = ceilings_measure,
    .save = transfer_save,
    .restore = transfer_restore,
    .time = timing_steps,
    .evaluation_bytes = 64 << 20, /* enough for products that fill the device, and for few launches and copies */
    .evaluation_rows = 1 << 16,
};

backend_module descent_backend __attribute__((visibility("default")));
const struct backend *descent_backend(const struct backend_host *host) {
  if (host->interface != BACKEND_INTERFACE) return NULL;
  module_set_host(host);
  return &table;
}
