/* Steps: queued in device memory, their ranges captured as graphs or launched operation by operation. */
#ifndef DESCENT_KERNELS_RUN_H
#define DESCENT_KERNELS_RUN_H

#include "lower.h"
#include "source.h"

struct step_queue {
  struct step_state *state;      /* on the device */
  double *scalars;               /* on the device: of a loss that is computed again */
  struct plan_range fused;       /* the range whose last run left values out that are not computed yet; count 0: none */
  struct device_step *steps;     /* (QUEUE_STEPS) on the device */
  struct device_step *staged[2]; /* (QUEUE_STEPS) pinned; they take turns */
  cudaEvent_t uploaded[2];
  bool in_use[2]; /* until uploaded */
  int turn;
  struct device_step part; /* the last micro-batch that was queued */
};

/* A captured range of the plan: one step, and many consecutive steps. */
struct step_graph {
  struct plan_range range;
  cudaGraphExec_t one, many;
  int64_t steps; /* of `many`; 0: none */
};
enum { GRAPHS = 8 };

descent_status run_prepare(struct backend_program *program); /* queue, state, graphs */
/* As specified in struct backend. */
descent_status run_connect(struct backend_program *program);
void run_release(struct backend_program *program);
/* As specified in struct backend. */
descent_status run_steps(struct backend_program *program, struct plan_range range, const struct plan_step *steps,
                         int64_t n_steps);
descent_status run_product(struct backend_program *program, int op, int64_t rows, int repeat);

/* Has a fused launch left out the values of this buffer? Enqueues their computation from X, the targets and the parameters
 * as they are now: after a step that was marked as bad, those of the step. */
bool run_leaves_out(const struct backend_program *program, int buffer);
descent_status run_values(struct backend_program *program);

/* A run whose steps are queued and launched in turns: run_begin; until all are `done`, run_queue for the next `taken` of
 * them, their launch, and run_launched; run_end. */
struct run {
  struct backend_program *program;
  struct plan_range range;
  const struct plan_step *steps; /* (n_steps) */
  int64_t n_steps, done;
  const struct plan_step *now; /* (taken) the queued ones, with their rows where those are on the device */
  int64_t taken, launched;     /* launched: of the queued ones */
  struct step_graph *graph;    /* NULL: launched operation by operation */
  const struct plan_gather *gather;
  bool streaming, in_place;
};
descent_status run_begin(struct run *run, struct backend_program *program, struct plan_range range,
                         const struct plan_step *steps, int64_t n_steps);
descent_status run_queue(struct run *run);
/* Launches the queued steps that are not launched yet. After a bad step none may be left. */
descent_status run_launch(struct run *run);
descent_status run_launched(struct run *run);
descent_status run_end(const struct run *run);

/* `steps` consecutive steps of the range as a graph, at its captured number of rows. */
descent_status run_record(struct backend_program *program, struct plan_range range, int64_t steps,
                          const struct lower_marks *marks, cudaGraph_t *graph);
/* The same, to be launched. */
descent_status run_capture(struct backend_program *program, struct plan_range range, int64_t steps,
                           const struct lower_marks *marks, cudaGraphExec_t *result);
/* Collective. Captures one step of a range with the sum over ranks; *graph is NULL where NCCL does not take this sum into a
 * graph on every rank, so that it is launched operation by operation on all. The connection holds the graph. */
descent_status run_capture_exchange(struct backend_program *program, struct plan_range range,
                                    const struct lower_marks *marks, cudaGraphExec_t *graph);
/* Launches n queued steps of the range. *stopped: no further steps must be launched. */
typedef descent_status launch_steps(struct backend_program *program, struct plan_range range,
                                    const struct plan_step *steps, int64_t n, bool *stopped, void *context);
/* Makes the rows of the steps available and queues the steps, as many at a time as fit, then calls `launch`. */
descent_status run_queued(struct backend_program *program, struct plan_range range, const struct plan_step *steps,
                          int64_t n_steps, launch_steps *launch, void *context);

#endif
