/* A compiled plan on the device, as its parts share it: program.c lays out and moves the buffers, lower.c turns
 * operations into launches, run.c queues steps and replays graphs, source.c brings the data. */
#ifndef DESCENT_KERNELS_PROGRAM_H
#define DESCENT_KERNELS_PROGRAM_H

#include "kernels.h"
#include "module.h"
#include "product.h"

struct backend_device {
  int ordinal, threads, multiprocessors;
  double bandwidth; /* bytes per second by the memory's clock and width: for estimates only; 0: unknown */
  cudaStream_t stream, copies;
  struct product_library *products;
  char description[512];
};

/* ---- buffers (program.c, layout.c) ---- */

/* Rows of `cols` values that are adjacent in the plan's flat buffer and `ld` apart on the device. */
struct flat_region {
  int64_t host, device, rows, cols, ld;
};

/* How the plan's flat buffers lie on the device. */
struct flat_map {
  struct flat_region *regions; /* ascending, without holes on the plan's side */
  int n;
  int64_t host_count, device_count; /* device_count: a multiple of 16 */
};

enum layout { LAYOUT_LINEAR, LAYOUT_PADDED, LAYOUT_FLAT };

struct device_buffer {
  enum layout layout;
  enum element element; /* of F32 buffers */
  int64_t ld;           /* padded: elements from row to row */
  int64_t bytes;
  void *data;
  bool owned; /* false: another buffer of the slot has the memory */
};

/* Fills in layouts and sizes; allocates host memory only. */
descent_status layout_plan(struct backend_program *program);
void layout_release(struct backend_program *program);
/* Where element `host` of the plan's flat buffers is on the device; the buffers' end for host_count. */
int64_t flat_position(const struct flat_map *map, int64_t host);
/* From row to row on the device of the W that begins at `host` and has `n` columns. */
int64_t flat_ld(const struct flat_map *map, int64_t host, int64_t n);
/* Rows of `cols` adjacent elements that begin at element `device` and are `ld` apart. */
struct device_block {
  int64_t device, rows, cols, ld;
};
/* The first of the elements from `offset` on, at most `count` (> 0), that lie on the device as one block. */
struct device_block layout_block(const struct backend_program *program, int buffer, int64_t offset, int64_t count);

/* ---- sources (source.c) ---- */

enum source_kind { SOURCE_X, SOURCE_Y, SOURCE_W, SOURCE_INDEX, SOURCES };

struct bound_source {
  int buffer; /* of the plan; PLAN_NONE */
  const void *data;
  int64_t rows, row_bytes;
  bool constant;
  const void *resident; /* the device's copy; NULL: there is none */
};

/* A copy on the device that is kept from bind to bind. */
struct resident {
  const void *host;
  int64_t bytes;
  void *device;
};
enum { MOST_RESIDENTS = 16 };

/* Two slots of rows that take turns: while one is computed on, the other is filled. Slot s begins at row s * rows. */
struct window {
  int64_t rows;          /* of a slot: at least a step of the plan's batch */
  int64_t row_bytes;     /* of all sources together */
  char *host[SOURCES];   /* pinned */
  char *device[SOURCES]; /* NULL: not part of it */
  cudaEvent_t copied[2], consumed[2];
  bool used[2];
  int next;
};

struct source_set {
  struct bound_source at[SOURCES];
  struct resident residents[MOST_RESIDENTS];
  int n_residents;
  struct window window;
  struct source_table shown; /* what the device's table says */
  bool stale;                /* bound since the table was written */
  bool streaming;
  char placement[160];
};

descent_status source_prepare(struct backend_program *program); /* in compile */
void source_release(struct backend_program *program);
descent_status source_bind(struct backend_program *program, int buffer, const void *data, int64_t rows, bool constant);
/* Before a run with a gather: the table on the device is right; *streaming: rows must be brought step by step. */
descent_status source_ready(struct backend_program *program, bool *streaming);
/* Fills the next slot with the rows of as many of these steps as fit and orders the compute stream behind it.
 * placed (n): the same steps, addressing the slot. Sets *taken. After their launches source_consumed(). */
descent_status source_fill(struct backend_program *program, bool shuffle, const struct plan_step *steps, int64_t n,
                           struct plan_step *placed, int64_t *taken);
descent_status source_consumed(struct backend_program *program);

/* ---- dense operations' products (choose.c) ---- */

/* How one dense operation computes its product and what follows it, for some number of rows. */
struct dense_choice {
  int64_t rows;            /* 0: not chosen yet */
  struct product *product; /* of the program's list */
  bool fused;              /* the epilogue does it all; weights: the bias gradient too */
};
enum { CHOICES = 2 }; /* the captured rows, and one other number */

struct shape_product {
  struct product_shape shape;
  struct product *product; /* NULL: the library has none */
};

/* relu's derivative from bits that the forward product leaves, for a pair of operations in one range: an entry at the
 * forward and at the backward_input operation each, and one at the weights' operation of the same dZ. */
struct masked_choice {
  struct product *product; /* NULL: not chosen */
  int partner;             /* forward: its backward_input; the others: the forward operation */
  void *mask;              /* (batch) rows of mask_ld bits */
  int64_t bytes;           /* of the mask, at the forward operation, which has the memory; else 0 */
  bool fused;              /* weights: the bias gradient too */
};

/* Chooses for every dense operation of the plan at its captured rows; before the buffers are allocated, since
 * algorithms are tried on memory of their own. Then choose_take allocates what the choices need. */
descent_status choose_prepare(struct backend_program *program);
descent_status choose_take(struct backend_program *program);
void choose_release(struct backend_program *program);
/* The rows that the captured range of this op computes. */
int64_t captured_rows(const struct plan *plan, int op);
/* The choice for this dense op on so many rows. */
descent_status choice_for(struct backend_program *program, int op, int64_t rows, const struct dense_choice **choice);
/* The masked way for this op, where it was chosen and the range has all of its operations; else NULL. */
const struct masked_choice *masked_for(const struct backend_program *program, struct plan_range range, int op,
                                       int64_t rows);

void *data_of(const struct backend_program *program, int buffer); /* NULL for PLAN_NONE */
struct device_matrix matrix_of(const struct backend_program *program, int buffer, int64_t n);
/* W (n_out, n_in) of the parameters as the products read it. */
struct device_matrix weights_of(const struct backend_program *program, int parameters, int64_t W, int64_t n_in);

/* ---- operations (lower.c) ---- */

/* Called while a range is lowered, where program->watch is set: before the first operation, after each one, and after
 * its matrix product. */
struct lower_watch {
  descent_status (*before)(struct backend_program *program); /* NULL: not called; after_product too */
  descent_status (*after)(struct backend_program *program, int op);
  descent_status (*after_product)(struct backend_program *program, int op);
};

/* Enqueues the range once on `rows` rows. `queued`: a gather fetches its step from the queue (the range is captured).
 */
descent_status lower_range(struct backend_program *program, struct plan_range range, int64_t rows, bool queued);
descent_status lower_product(struct backend_program *program, int op, int64_t rows);

/* ---- running (run.c) ---- */

enum { QUEUE_STEPS = 1024, GRAPHS = 4 };

/* One of the plan's ranges, captured: one step, and many in a row. */
struct step_graph {
  struct plan_range range;
  cudaGraphExec_t one, many;
  int64_t steps; /* of `many`; 0: there is none */
};

/* Pinned memory through which values come and go. */
struct staging {
  char *memory[2]; /* NULL: not needed so far */
  cudaEvent_t copied[2];
};

struct backend_program {
  struct backend_device *device;
  const struct plan *plan;
  struct device_buffer *buffers;
  struct flat_map flat;
  void *working;             /* bf16 copy of the parameters, laid out as they; NULL unless bf16 */
  int parameters;            /* the buffer it copies, or PLAN_NONE */
  struct flat_piece *pieces; /* on the device */
  int n_pieces;
  struct scratch scratch;
  int64_t *gathered; /* (batch) rows of the source */
  int *bad_parameters;
  struct step_state *state;
  struct device_step *queue;     /* (QUEUE_STEPS) on the device */
  struct device_step *staged[2]; /* (QUEUE_STEPS) pinned */
  struct plan_step *placed;      /* (QUEUE_STEPS) steps that address a window */
  cudaEvent_t uploaded[2];
  bool staging[2]; /* in use until uploaded */
  int turn;
  struct source_table *table; /* on the device */
  struct source_set sources;
  struct dense_choice (*choices)[CHOICES]; /* (n_ops) */
  struct masked_choice *masked;            /* (n_ops) */
  struct shape_product *products;
  int n_products, room_products;
  struct step_graph graphs[GRAPHS];
  struct staging staging_area;
  void **saved;                    /* (n_buffers) copies on the device; NULL: none */
  struct range_clock *clock;       /* while the range is captured with it */
  const struct lower_watch *watch; /* NULL: none */
  int64_t bytes;                   /* of device memory */
};

/* cudaMalloc that keeps account and zeroes. ERROR_MEMORY says what it was for. */
descent_status program_take(struct backend_program *program, int64_t bytes, const char *what, void **memory);

/* Zeroes the plan's buffers and what is kept beside the parameters. */
descent_status program_zero(struct backend_program *program);

descent_status run_prepare(struct backend_program *program); /* queue, state, graphs */
void run_release(struct backend_program *program);
descent_status run_steps(struct backend_program *program, struct plan_range range, const struct plan_step *steps,
                         int64_t n_steps);

/* Captures the range on its captured rows, so many steps in a row, as program->watch sees it. */
descent_status run_capture(struct backend_program *program, struct plan_range range, int64_t steps,
                           cudaGraphExec_t *result);
/* Launches n steps of the range, which are in the queue; *stopped: no more are to follow. */
typedef descent_status launch_steps(struct backend_program *program, struct plan_range range,
                                    const struct plan_step *steps, int64_t n, bool *stopped, void *context);
/* Brings the rows of the steps and queues them, as many at a time as fit, for `launch`. */
descent_status run_queued(struct backend_program *program, struct plan_range range, const struct plan_step *steps,
                          int64_t n_steps, launch_steps *launch, void *context);

/* Operations timed inside a step (clock.c). */
descent_status clock_steps(struct backend_program *program, struct plan_range range, const struct plan_step *steps,
                           int64_t n_steps, double *op_seconds, double *product_seconds);

/* The flag of the range's gradient_norm or update, or NULL. */
const double *program_bad_step(const struct backend_program *program, struct plan_range range);

#endif
