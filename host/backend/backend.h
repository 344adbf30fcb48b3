/* The backend table: what a device must do to execute plans. Implemented by reference/ (double, naive), cpu/ (float)
 * and, as a shared object, kernels/ (CUDA). No allocation happens inside run(). */
#ifndef DESCENT_BACKEND_BACKEND_H
#define DESCENT_BACKEND_BACKEND_H

#include "backend/device_array.h"
#include "core/handle.h"
#include "plan/plan.h"

/* What a backend knows of a device that it has not opened. Texts are "" where unknown. */
struct backend_gpu {
  char model[128], uuid[48], pci[32]; /* "NVIDIA H200", "GPU-..." or "MIG-...", "0000:3b:00.0" */
  char driver[32];                    /* "580.95.05" */
  char cuda_driver[16], cuda_runtime[16], cublas[32];
  int compute_major, compute_minor, multiprocessors;
  int64_t memory_free, memory_total; /* bytes; free: -1 where unknown */
};
enum { BACKEND_MOST_GPUS = 64, BACKEND_PATH = 32 /* bytes of a text */ };

struct backend_device;  /* an opened device */
struct backend_program; /* a compiled plan: every buffer allocated, every algorithm chosen */

/* One call of run, among several that a device may execute at the same time, at most BACKEND_MOST_JOBS. */
enum { BACKEND_MOST_JOBS = 64 };
struct backend_job {
  struct backend_program *program;
  struct plan_range range;
  const struct plan_step *steps; /* (n_steps) */
  int64_t n_steps;
};

/* Bytes of a device's memory. */
struct backend_room {
  int64_t left;    /* free, beyond a reserve for what is not counted: graphs, measurements */
  int64_t program; /* that a program has, without copies of data and windows on it */
  int64_t later;   /* that run_together is still to take */
};

struct backend {
  const char *name; /* "cpu" */

  /* Lists every device by ordinal, usable or not, at most BACKEND_MOST_GPUS. Creates no context on them, since a
   * context holds device memory until the process exits. NULL in a backend of one device. */
  descent_status (*list)(struct backend_gpu gpus[BACKEND_MOST_GPUS], int *count);

  /* Opens device `ordinal` with at most `threads` threads (0: one per usable core). */
  descent_status (*open)(int ordinal, int threads, struct backend_device **device);
  void (*close)(struct backend_device *device);
  /* One line for people, valid while the device is open. */
  const char *(*describe)(const struct backend_device *device);
  /* False, with the reason as the last error, when the device cannot execute this op. */
  bool (*supports)(const struct backend_device *device, const struct plan *plan, const struct plan_op *op);

  /* Allocates and zeroes every buffer. `plan` is borrowed until release. ERROR_MEMORY names the size asked for. */
  descent_status (*compile)(struct backend_device *device, const struct plan *plan, struct backend_program **program);
  void (*release)(struct backend_program *program);
  /* What the bits of a training depend on beside the plan, the data and this build: the libraries, their kernels, and
   * the choices among them. One line, valid until release. NULL: nothing. */
  const char *(*arithmetic)(const struct backend_program *program);

  /* Points a PLAN_SOURCE buffer at `rows` rows of host memory, borrowed until the next bind or release; NULL unbinds.
   * `dtype`: of its elements, that of the buffer, or DESCENT_DTYPE_U8 for the inputs of a gather, which widens them.
   * `constant`: a device may keep its copy from one bind to the next, and share it among programs that are bound to the
   * same rows. The rows must live, and stay as they are, while any program of the device that was bound to them is not
   * released: their address alone identifies them. */
  descent_status (*bind)(struct backend_program *program, int buffer, descent_dtype dtype, const void *data,
                         int64_t rows, bool constant);

  /* One line on where the bound data is kept, what computes several layers of a training step, and how ranks exchange
   * gradients; "" if there is nothing to report; valid until the next bind or run. NULL: the data is in the caller's memory. */
  const char *(*placement)(const struct backend_program *program);

  /* Connects the ranks of the plan's communicator in the fastest way that all of them have, before the first run of a range
   * with allreduce: collective. NULL, or not called: gradients are added by the communicator's `sum`, which gives the
   * same bits. */
  descent_status (*connect)(struct backend_program *program);
  /* The bytes per second that each rank sends, and receives, while all exchange large messages in the way that connect has
   * found: collective. 0, or NULL: gradients pass through the communicator, and the caller measures that. */
  descent_status (*measure_link)(struct backend_program *program, double *bandwidth);

  /* Executes ops [range.first, range.first + range.count) once for each of the steps, in order. */
  descent_status (*run)(struct backend_program *program, struct plan_range range, const struct plan_step *steps,
                        int64_t n_steps);

  /* As run for each of `count` programs of this device, with its range and its steps, none of which exchanges gradients
   * between ranks; every program's result has the bits of run. Programs are independent, so the device may compute them
   * at the same time. Work that they share, such as gathering the same rows, may be done once. The status of the first
   * program that fails; the others may have run. NULL: the caller runs one after another. */
  descent_status (*run_together)(struct backend_device *device, const struct backend_job *jobs, int64_t count);
  /* Its threads take programs in turn, so that each needs several steps at a time to find its state in their caches. False:
   * run_together is fastest with all programs, and with the same ones in each call. */
  bool shares_threads;

  /* Executes only the matrix product of a dense op, on `rows` rows, `repeat` times; its output buffer is left
   * unspecified. All of the op where the device computes it in one kernel. For bench. */
  descent_status (*run_product)(struct backend_program *program, int op, int64_t rows, int repeat);
  /* How the range computes an op in whole batches, for people: "cublaslt+epilogue"; of allreduce how gradients are
   * exchanged, "nccl"; "" where there is one way only. NULL: "" for every op. */
  void (*path)(struct backend_program *program, struct plan_range range, int op, char text[BACKEND_PATH]);
  /* The first op of those that one kernel computes together with this one in whole batches of the range: `op` where it
   * is computed alone. For bench. NULL: every op alone. */
  int (*fused_with)(struct backend_program *program, struct plan_range range, int op);

  /* Copies `count` elements from or to element `offset` of a buffer that is not PLAN_SOURCE, converting between the
   * host's `type` and the device's own. Synchronises. ERROR_ARGUMENT outside the buffer. A, Z and dZ that one kernel
   * computed together (fused_with) and did not write are computed when they are read or saved, from X, the targets and
   * the parameters as they are then. */
  descent_status (*read)(struct backend_program *program, int buffer, int64_t offset, int64_t count,
                         enum plan_type type, void *data);
  descent_status (*write)(struct backend_program *program, int buffer, int64_t offset, int64_t count,
                          enum plan_type type, const void *data);

  /* Waits for the work that run and run_product have started. NULL: they return when it is finished. */
  descent_status (*synchronise)(struct backend_program *program);
  /* Bytes held, with the copies of data that it shares with other programs. */
  int64_t (*memory)(const struct backend_program *program);
  /* Of the device's memory. NULL: programs are in the host's. */
  descent_status (*room)(const struct backend_program *program, struct backend_room *room);

  /* Measures the ceilings of this device now: flops per second of a large product in `precision`, bytes per second of a
   * large copy (read plus written). */
  descent_status (*measure)(struct backend_device *device, descent_precision precision, double *flops,
                            double *bandwidth);

  /* Save a copy of a buffer on the device and restore it, for measurements that run repeatedly from one state. restore:
   * ERROR_ARGUMENT before save. NULL: the caller uses read and write instead. */
  descent_status (*save)(struct backend_program *program, int buffer);
  descent_status (*restore)(struct backend_program *program, int buffer);

  /* Runs the range once for each step, and measures each operation inside the step and its matrix product (0 if it has
   * none): seconds per step, range.count of each. A step has at most plan->batch rows: fewer in the smaller parts of a
   * step, none in a finish. NULL: the caller times run and run_product instead. */
  descent_status (*time)(struct backend_program *program, struct plan_range range, const struct plan_step *steps,
                         int64_t n_steps, double *op_seconds, double *product_seconds);

  /* ---- arrays of callers in the device's memory. NULL: a device without memory apart from the host's ---- */

  /* Orders work on such arrays: it waits for what `stream`, of the device's own kind, holds when a call begins, and
   * what the stream is given later waits for it. */
  descent_status (*set_stream)(struct backend_device *device, void *stream);
  /* ERROR_ARGUMENT unless the array begins in the device's memory, aligned to its elements. */
  descent_status (*check_place)(struct backend_device *device, const descent_array *array);
  /* As bind, for an array of the device's memory, or of host memory if it is dense float32: used where it is if it is
   * dense in the device's and of a type that bind takes, and otherwise copied to the device as float32; then at most
   * plan->batch rows. */
  descent_status (*bind_array)(struct backend_program *program, int buffer, const descent_array *array, bool constant);
  /* The values of a buffer of float32 that is not PLAN_SOURCE, of so many rows, as an array in the device's memory. */
  descent_status (*view)(struct backend_program *program, int buffer, int64_t rows, descent_array *array);
  /* Copies values, rounded to float32 and then to the float type of `to`. An array that is not in the device's memory is
   * dense float32 in the host's. Synchronises. */
  descent_status (*copy_array)(struct backend_device *device, const descent_array *from, const descent_array *to);
  /* The first element, counted along the rows, of an array in the device's memory that breaks the rule, and its value;
   * -1: none. Synchronises. */
  descent_status (*check_array)(struct backend_device *device, const descent_array *array, struct array_rule rule,
                                int64_t *element, double *value);

  /* The size of a block of evaluated rows: bytes of its activations, and most rows. Constants, since the block
   * determines the order in which losses are summed. */
  int64_t evaluation_bytes, evaluation_rows;
};

extern const struct backend backend_reference;
extern const struct backend backend_cpu;

/* A backend in a shared object, libdescent_<name>.so, exports one function: const struct backend *descent_backend(const
 * struct backend_host *host); It returns NULL unless host->interface equals the BACKEND_INTERFACE that it was compiled
 * with, so that a module of another build is refused, and reports its failures through host->status_set (the library's
 * own error text is not visible to it). `host` stays valid. */
enum { BACKEND_INTERFACE = 15 }; /* increment it with every change to this header or plan.h */
struct backend_host {
  int interface;
  descent_status (*status_set)(descent_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));
};
typedef const struct backend *backend_module(const struct backend_host *host);

/* The public device: a backend, its opened device, and why "auto" chose it. registry.c */
struct descent_device {
  struct handle handle;
  const struct backend *backend;
  struct backend_device *device;
  uint32_t generation; /* of the process that opened it: core/process.h */
  char name[32];
  char note[256];
  int threads; /* that it was opened with, at least 1 */
};

/* ERROR_ARGUMENT unless it is an open device; ERROR_DEVICE in a child of fork(), which has neither its threads nor its
 * CUDA context. */
descent_status device_check(const descent_device *device, const char *argument);

#endif
