/* A network's plan compiled on a device, with its parameters and constants in place. */
#ifndef DESCENT_BACKEND_PROGRAM_H
#define DESCENT_BACKEND_PROGRAM_H

#include "backend/backend.h"
#include "plan/build.h"

struct program {
  const struct backend *backend;
  struct backend_program *compiled;
  struct plan *plan;
  struct plan_handles at;
  const char *arithmetic; /* as in struct backend, or NULL; valid while the device is open */
};

/* `batch`: most rows of a training step; `most_rows`: of any step, 0 for the same. Builds and compiles the plan, then
 * writes parameters, normalisation and class weights. `options` NULL: no training part. `class_weights` (classes) may
 * be NULL: each class then counts 1. `program` is zeroed on failure. */
descent_status program_create(const descent_network *network, descent_device *device,
                              const descent_train_options *options, int64_t batch, int64_t most_rows,
                              const float *class_weights, struct program *program);
void program_clear(struct program *program);

/* ERROR_UNSUPPORTED, with the reason, when the device cannot execute one of the plan's operations. */
descent_status program_check_support(const descent_device *device, const struct plan *plan);

/* Binds the dataset's rows as the source. They are borrowed, and must not change, until the program is cleared. */
descent_status program_bind(struct program *program, const descent_dataset *dataset);
/* The same until program_unbind: the device keeps no copy of them after it. */
descent_status program_bind_once(struct program *program, const descent_dataset *dataset);
descent_status program_unbind(struct program *program);

descent_status program_run(struct program *program, struct plan_range range, const struct plan_step *steps,
                           int64_t n_steps);
descent_status program_read(const struct program *program, int buffer, int64_t offset, int64_t count,
                            enum plan_type type, void *data);
descent_status program_write(struct program *program, int buffer, int64_t offset, int64_t count, enum plan_type type,
                             const void *data);

/* Rows at a time that make an evaluation on the device efficient without holding much memory, at most `rows`. */
int64_t program_evaluation_block(const descent_network *network, const descent_device *device, int64_t rows);

#endif
