/* A network's plan compiled on a device, with its parameters and constants in place. */
#ifndef DESCENT_BACKEND_PROGRAM_H
#define DESCENT_BACKEND_PROGRAM_H

#include "backend/backend.h"
#include "plan/build.h"

struct program {
  const struct backend *backend;
  const descent_device *device;
  uint32_t generation; /* of the process that compiled it: core/process.h */
  struct backend_program *compiled;
  struct plan *plan;
  struct plan_handles at;
  const char *arithmetic; /* as in struct backend, or NULL; valid as long as the program */
};

/* `batch`: most rows of a training step; `most_rows`: of any step, 0 for the same. Builds and compiles the plan, then
 * writes parameters, normalisation and class weights. `options` NULL: no training part. `class_weights` (classes) may
 * be NULL: each class then counts 1. `program` is zeroed on failure. */
descent_status program_create(const descent_network *network, descent_device *device,
                              const descent_train_options *options, int64_t batch, int64_t most_rows,
                              const float *class_weights, struct program *program);
/* The same with some of enum plan_part. */
descent_status program_create_with(const descent_network *network, descent_device *device,
                                   const descent_train_options *options, unsigned parts, int64_t batch,
                                   int64_t most_rows, const float *class_weights, struct program *program);
/* For evaluations and predictions alone, as the options say. */
descent_status program_create_prediction(const descent_network *network, descent_device *device,
                                         const descent_predict_options *options, unsigned parts, int64_t batch,
                                         struct program *program);
void program_clear(struct program *program);

/* Copies to `to` the state (parameters, moments, constants, scalars, ...) of the buffers that both plans have, exactly.
 * Both are of the same network. */
descent_status program_copy_state(const struct program *from, struct program *to);

/* Writes the network's parameters (unless it is an outline), imputation and normalisation, for which the program must
 * have been created with a network of the same shape and preprocessing. */
descent_status program_write_network(struct program *program, const descent_network *network);

/* ERROR_UNSUPPORTED, with the reason, when the device cannot execute one of the plan's operations. */
descent_status program_check_support(const descent_device *device, const struct plan *plan);

/* Rows at a time that make an evaluation on the device efficient without holding much memory, at most `rows`. */
int64_t program_evaluation_block(const descent_network *network, const descent_device *device, int64_t rows);

/* What follows is ERROR_DEVICE in a child of fork() that has inherited the program. */

/* As in struct backend. */
descent_status program_bind_buffer(struct program *program, int buffer, descent_dtype dtype, const void *data,
                                   int64_t rows, bool constant);
/* Binds the dataset's rows as the source. They are borrowed: they must live, and not change, until all programs of the
 * device that were bound to them are cleared, since a device may share its copy of them. */
descent_status program_bind(struct program *program, const descent_dataset *dataset);
/* The same until program_unbind: the device keeps no copy of them after it. */
descent_status program_bind_once(struct program *program, const descent_dataset *dataset);
descent_status program_unbind(struct program *program);

/* Binds rows of the caller's for the next run alone: X (rows, inputs), y and weights as in a dataset, or NULL. */
descent_status program_bind_rows(struct program *program, const float *X, const float *y, const float *weights,
                                 int64_t rows);

/* The source's rows are those bound, without a view's index. */
descent_status program_unbind_index(struct program *program);
/* Binds an array of the device's memory, or dense float32 of the host's, to source_X, source_y or source_w. */
descent_status program_bind_array(struct program *program, int buffer, const descent_array *array);
/* So many rows of a buffer as an array in the device's memory. */
descent_status program_view(struct program *program, int buffer, int64_t rows, descent_array *array);

/* As in struct backend; OK where there is one rank. */
descent_status program_connect(struct program *program);
/* The bytes per second that each rank sends, and receives, while all exchange large messages as allreduce does: collective.
 * 0 where gradients stay on this rank. */
descent_status program_measure_link(struct program *program, double *bandwidth);
descent_status program_run(struct program *program, struct plan_range range, const struct plan_step *steps,
                           int64_t n_steps);
/* One run of many: as program_run's arguments. */
struct program_job {
  struct program *program;
  struct plan_range range;
  const struct plan_step *steps; /* (n_steps) */
  int64_t n_steps;               /* 0: none */
};
/* program_run for each of the jobs, whose programs are different ones of one device, at the same time where the device
 * can; each has the bits of program_run. */
descent_status program_run_together(const struct program_job *jobs, int64_t count);
descent_status program_read(const struct program *program, int buffer, int64_t offset, int64_t count,
                            enum plan_type type, void *data);
descent_status program_write(struct program *program, int buffer, int64_t offset, int64_t count, enum plan_type type,
                             const void *data);

/* Rows of the next step when `left` remain, and a range run on so many rows from `first` on. */
int64_t program_block_rows(const struct program *program, int64_t left);
descent_status program_run_block(struct program *program, struct plan_range range, int64_t first, int64_t rows);

#endif
