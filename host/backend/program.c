/* Compiles a plan and writes the network's parameters and constants into it. */
#include "backend/program.h"

#include <stdlib.h>
#include <string.h>

#include "core/communicator.h"
#include "core/memory.h"
#include "core/process.h"
#include "core/status.h"
#include "data/dataset.h"

static descent_status check_process(const struct program *program) {
  if (program->generation == process_generation()) return DESCENT_OK;
  return status_set(DESCENT_ERROR_DEVICE,
                    "the %s device was opened before fork(): open a device in the child and use that there",
                    program->backend->name);
}

descent_status program_read(const struct program *program, int buffer, int64_t offset, int64_t count,
                            enum plan_type type, void *data) {
  const descent_status status = check_process(program);
  if (status != DESCENT_OK) return status;
  return program->backend->read(program->compiled, buffer, offset, count, type, data);
}

descent_status program_write(struct program *program, int buffer, int64_t offset, int64_t count, enum plan_type type,
                             const void *data) {
  const descent_status status = check_process(program);
  if (status != DESCENT_OK) return status;
  return program->backend->write(program->compiled, buffer, offset, count, type, data);
}

descent_status program_connect(struct program *program) {
  const descent_status status = check_process(program);
  if (status != DESCENT_OK || !program->backend->connect) return status;
  return program->backend->connect(program->compiled);
}

descent_status program_measure_link(struct program *program, double *bandwidth) {
  struct descent_communicator *const communicator = program->plan->communicator;
  descent_status status;
  *bandwidth = 0;
  TRY(check_process(program));
  if (!communicator_exchanges(communicator)) goto done;
  if (program->backend->measure_link) TRY(program->backend->measure_link(program->compiled, bandwidth));
  if (*bandwidth == 0) TRY(communicator_measure(communicator, bandwidth));
done:
  return status;
}

descent_status program_run(struct program *program, struct plan_range range, const struct plan_step *steps,
                           int64_t n_steps) {
  const descent_status status = check_process(program);
  if (status != DESCENT_OK) return status;
  return program->backend->run(program->compiled, range, steps, n_steps);
}

static descent_status run_in_turn(const struct program_job *jobs, int64_t count) {
  descent_status status = DESCENT_OK;
  for (int64_t i = 0; i < count && status == DESCENT_OK; i++)
    status = program_run(jobs[i].program, jobs[i].range, jobs[i].steps, jobs[i].n_steps);
  return status;
}

/* The job that has steps; NULL: none has, or several. */
static const struct program_job *only_with_steps(const struct program_job *jobs, int64_t count) {
  const struct program_job *only = NULL;
  for (int64_t i = 0; i < count; i++) {
    if (jobs[i].n_steps == 0) continue;
    if (only) return NULL;
    only = &jobs[i];
  }
  return only;
}

descent_status program_run_together(const struct program_job *jobs, int64_t count) {
  struct backend_job compiled[BACKEND_MOST_JOBS]; /* at a time, so that nothing is allocated */
  descent_status status = DESCENT_OK;
  for (int64_t i = 0; i < count; i++) TRY(check_process(jobs[i].program));
  if (count == 0 || !jobs[0].program->backend->run_together) return run_in_turn(jobs, count);
  for (int64_t first = 0, n; first < count; first += n) {
    n = count - first < BACKEND_MOST_JOBS ? count - first : BACKEND_MOST_JOBS;
    for (int64_t i = 0; i < n; i++) {
      const struct program_job *job = &jobs[first + i];
      compiled[i] = (struct backend_job){job->program->compiled, job->range, job->steps, job->n_steps};
    }
    const struct program_job *const only = only_with_steps(jobs + first, n);
    if (only)
      TRY(program_run(only->program, only->range, only->steps, only->n_steps));
    else
      TRY(jobs[0].program->backend->run_together(jobs[0].program->device->device, compiled, n));
  }
done:
  return status;
}

/* Writes all of a float constant, if the plan uses it. */
static descent_status write_constant(struct program *program, int buffer, const float *values, int64_t count) {
  return buffer == PLAN_NONE ? DESCENT_OK : program_write(program, buffer, 0, count, PLAN_F32, values);
}

static descent_status write_class_weights(struct program *program, const float *class_weights, int64_t classes) {
  if (class_weights) return write_constant(program, program->at.class_weight, class_weights, classes);
  const float one = 1;
  descent_status status = DESCENT_OK;
  for (int64_t k = 0; k < classes && program->at.class_weight != PLAN_NONE; k++)
    TRY(program_write(program, program->at.class_weight, k, 1, PLAN_F32, &one));
done:
  return status;
}

descent_status program_check_support(const descent_device *device, const struct plan *plan) {
  for (int i = 0; i < plan->n_ops; i++) /* supports sets the reason */
    if (!device->backend->supports(device->device, plan, &plan->ops[i])) return DESCENT_ERROR_UNSUPPORTED;
  return DESCENT_OK;
}

descent_status program_write_network(struct program *program, const descent_network *network) {
  const int64_t outputs = network->layers[network->n_layers - 1].n_out;
  const struct plan_handles *at = &program->at;
  descent_status status;
  if (network->parameters) TRY(write_constant(program, at->parameters, network->parameters, network->n_parameters));
  TRY(write_constant(program, at->fill, network->fill, network->inputs));
  TRY(write_constant(program, at->shift, network->shift, network->inputs));
  TRY(write_constant(program, at->scale, network->scale, network->inputs));
  TRY(write_constant(program, at->y_shift, network->y_shift, outputs));
  TRY(write_constant(program, at->y_scale, network->y_scale, outputs));
done:
  return status;
}

descent_status program_create(const descent_network *network, descent_device *device,
                              const descent_train_options *options, int64_t batch, int64_t most_rows,
                              const float *class_weights, struct program *program) {
  return program_create_with(network, device, options, 0, batch, most_rows, class_weights, program);
}

static struct program program_on(const descent_device *device) {
  return (struct program){.backend = device->backend, .device = device, .generation = process_generation()};
}

/* Compiles the program's plan and writes the network into it. */
static descent_status compile(struct program *program, const descent_network *network, descent_device *device) {
  descent_status status;
  TRY(program_check_support(device, program->plan));
  TRY(program->backend->compile(device->device, program->plan, &program->compiled));
  if (program->backend->arithmetic) program->arithmetic = program->backend->arithmetic(program->compiled);
  TRY(program_write_network(program, network));
done:
  return status;
}

descent_status program_create_with(const descent_network *network, descent_device *device,
                                   const descent_train_options *options, unsigned parts, int64_t batch,
                                   int64_t most_rows, const float *class_weights, struct program *program) {
  struct program made = program_on(device);
  descent_status status;
  TRY(plan_build_with(network, options, parts, most_rows > batch ? most_rows : batch, &made.plan, &made.at));
  made.plan->train_rows = batch;
  TRY(compile(&made, network, device));
  TRY(write_class_weights(&made, class_weights, network->classes));
done:
  if (status != DESCENT_OK) program_clear(&made);
  *program = made;
  return status;
}

descent_status program_create_prediction(const descent_network *network, descent_device *device,
                                         const descent_predict_options *options, unsigned parts, int64_t batch,
                                         struct program *program) {
  struct program made = program_on(device);
  descent_status status;
  TRY(plan_build_prediction(network, options, parts, batch, &made.plan, &made.at));
  TRY(compile(&made, network, device));
done:
  if (status != DESCENT_OK) program_clear(&made);
  *program = made;
  return status;
}

void program_clear(struct program *program) {
  if (program->compiled && program->generation == process_generation()) program->backend->release(program->compiled);
  plan_free(program->plan);
  *program = (struct program){0};
}

descent_status program_copy_state(const struct program *from, struct program *to) {
  const struct plan *plan = from->plan;
  double *values = NULL; /* every type of the plan's state is exact in double */
  int64_t largest = 0;
  descent_status status = DESCENT_OK;
  for (int i = 0; i < plan->n_buffers; i++)
    if (plan->buffers[i].storage == PLAN_STATE && plan->buffers[i].rows * plan->buffers[i].cols > largest)
      largest = plan->buffers[i].rows * plan->buffers[i].cols;
  values = memory_allocate(largest, sizeof *values, "the state of a training");
  if (!values) TRY(DESCENT_ERROR_MEMORY);
  for (int i = 0; i < plan->n_buffers; i++) {
    const int64_t count = plan->buffers[i].rows * plan->buffers[i].cols;
    int j = 0;
    if (plan->buffers[i].storage != PLAN_STATE) continue;
    while (j < to->plan->n_buffers && strcmp(to->plan->buffers[j].name, plan->buffers[i].name) != 0) j++;
    if (j == to->plan->n_buffers) continue;
    TRY(program_read(from, i, 0, count, PLAN_F64, values));
    TRY(program_write(to, j, 0, count, PLAN_F64, values));
  }
done:
  free(values);
  return status;
}

descent_status program_bind_buffer(struct program *program, int buffer, descent_dtype dtype, const void *data,
                                   int64_t rows, bool constant) {
  const descent_status status = check_process(program);
  if (status != DESCENT_OK) return status;
  return program->backend->bind(program->compiled, buffer, dtype, data, rows, constant);
}

static descent_status bind_array(struct program *program, int buffer, const descent_array *array, bool constant) {
  const descent_status status = check_process(program);
  return status == DESCENT_OK ? program->backend->bind_array(program->compiled, buffer, array, constant) : status;
}

descent_status program_bind_array(struct program *program, int buffer, const descent_array *array) {
  return bind_array(program, buffer, array, false);
}

descent_status program_view(struct program *program, int buffer, int64_t rows, descent_array *array) {
  const descent_status status = check_process(program);
  return status == DESCENT_OK ? program->backend->view(program->compiled, buffer, rows, array) : status;
}

static descent_status bind_floats(struct program *program, int buffer, const float *values, int64_t rows,
                                  bool constant) {
  return program_bind_buffer(program, buffer, DESCENT_DTYPE_F32, values, rows, constant);
}

static descent_status bind_dataset(struct program *program, const descent_dataset *dataset, bool constant) {
  const struct dataset_storage *storage = dataset->storage;
  const struct plan_handles *at = &program->at;
  descent_status status;
  if (constant && storage->device == program->device && storage->device)
    TRY(bind_array(program, at->source_X, &storage->device_X, true));
  else if (storage->bytes)
    TRY(program_bind_buffer(program, at->source_X, DESCENT_DTYPE_U8, storage->bytes, storage->rows, constant));
  else
    TRY(bind_floats(program, at->source_X, storage->X, storage->rows, constant));
  TRY(bind_floats(program, at->source_y, storage->y, storage->rows, constant));
  TRY(bind_floats(program, at->source_w, storage->weights, storage->rows, constant));
  TRY(program_bind_buffer(program, at->source_index, DESCENT_DTYPE_I64, dataset->index, dataset->rows, constant));
done:
  return status;
}

descent_status program_bind(struct program *program, const descent_dataset *dataset) {
  return bind_dataset(program, dataset, true);
}

descent_status program_bind_once(struct program *program, const descent_dataset *dataset) {
  return bind_dataset(program, dataset, false);
}

descent_status program_unbind(struct program *program) {
  const struct plan_handles *at = &program->at;
  const int sources[] = {at->source_X, at->source_y, at->source_w, at->source_index};
  descent_status status = DESCENT_OK;
  for (size_t i = 0; i < sizeof sources / sizeof *sources; i++) {
    const descent_status unbound = bind_floats(program, sources[i], NULL, 0, false);
    if (unbound != DESCENT_OK) status = unbound;
  }
  return status;
}

descent_status program_bind_rows(struct program *program, const float *X, const float *y, const float *weights,
                                 int64_t rows) {
  const struct plan_handles *at = &program->at;
  descent_status status;
  TRY(bind_floats(program, at->source_X, X, rows, false));
  TRY(bind_floats(program, at->source_y, y, rows, false));
  TRY(bind_floats(program, at->source_w, weights, rows, false));
done:
  return status;
}

descent_status program_unbind_index(struct program *program) {
  return program_bind_buffer(program, program->at.source_index, DESCENT_DTYPE_I64, NULL, 0, false);
}

int64_t program_block_rows(const struct program *program, int64_t left) {
  return left < program->plan->batch ? left : program->plan->batch;
}

descent_status program_run_block(struct program *program, struct plan_range range, int64_t first, int64_t rows) {
  const struct plan_step step = {.number = 1, .first_row = first, .rows = rows};
  return program_run(program, range, &step, 1);
}

int64_t program_evaluation_block(const descent_network *network, const descent_device *device, int64_t rows) {
  enum { LEAST = 64 }; /* for efficient matrix products */
  const struct backend *backend = device->backend;
  double row_bytes = (double)network->inputs * sizeof(float);
  for (int l = 0; l < network->n_layers; l++) row_bytes += (double)network->layers[l].n_out * sizeof(float);
  row_bytes *= (double)network->members; /* each computes the same rows */
  const double fit = (double)backend->evaluation_bytes / row_bytes, most = (double)backend->evaluation_rows;
  const int64_t block = fit < LEAST ? LEAST : fit > most ? backend->evaluation_rows : (int64_t)fit;
  return block < rows ? block : rows;
}
