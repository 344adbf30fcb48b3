/* Times operations inside a step. The range is captured with an event after each operation, so that operands are as
 * cold and the device as busy as in a training, and no host time is included. Matrix products are timed in a separate
 * graph, since an event inside an operation delays the rest of it. An event takes about a microsecond, which counts
 * towards the operation before it. */
#include "timing.h"

#include <stdlib.h>

#include "compiled.h"
#include "plan/operations.h"

struct range_timing {
  struct plan_range range;
  cudaEvent_t *events; /* (1 + 2 count): the start, the end of each operation, the end of each product */
  cudaGraphExec_t graph;
  double *seconds; /* (count) summed over the steps */
  bool products;   /* what is timed */
};

static descent_status add_times(struct backend_program *program, struct range_timing *timing) {
  descent_status status = DESCENT_OK;
  for (int i = 0; i < timing->range.count; i++) {
    float milliseconds;
    if (timing->products && !plan_has_product(&program->plan->ops[timing->range.first + i])) continue;
    CUDA_TRY(cudaEventElapsedTime(&milliseconds, timing->events[i],
                                  timing->events[1 + i + (timing->products ? timing->range.count : 0)]));
    timing->seconds[i] += 1e-3 * (double)milliseconds;
  }
done:
  return status;
}

static descent_status launch_timed(struct backend_program *program, struct plan_range range,
                                   const struct plan_step *steps, int64_t n, bool *stopped, void *context) {
  struct range_timing *timing = context;
  (void)range, (void)steps, (void)stopped;
  descent_status status = DESCENT_OK;
  for (int64_t s = 0; s < n; s++) {
    CUDA_TRY(cudaGraphLaunch(timing->graph, program->device->stream));
    CUDA_TRY(cudaStreamSynchronize(program->device->stream));
    TRY(add_times(program, timing));
  }
done:
  return status;
}

descent_status timing_steps(struct backend_program *program, struct plan_range range, const struct plan_step *steps,
                            int64_t n_steps, double *op_seconds, double *product_seconds) {
  const int n_events = 1 + 2 * range.count;
  struct range_timing timing = {.range = range};
  descent_status status = DESCENT_OK;
  if (n_steps < 1) return module_status(DESCENT_ERROR_ARGUMENT, "time: %lld steps", (long long)n_steps);
  if (lower_has(program->plan, range, OP_ALLREDUCE))
    return module_status(DESCENT_ERROR_UNSUPPORTED, "time: a sum over ranks cannot be timed inside a step");
  timing.events = module_allocate(n_events, sizeof *timing.events, "the times of the operations");
  if (!timing.events) TRY(DESCENT_ERROR_MEMORY);
  for (int i = 0; i < n_events; i++) CUDA_TRY(cudaEventCreate(&timing.events[i]));
  for (int pass = 0; pass < 2; pass++) {
    timing.products = pass == 1;
    timing.seconds = timing.products ? product_seconds : op_seconds;
    for (int i = 0; i < range.count; i++) timing.seconds[i] = 0;
    const struct lower_marks marks = {.first = range.first,
                                      .begin = timing.events[0],
                                      .operations = timing.events + 1,
                                      .products = timing.products ? timing.events + 1 + range.count : NULL};
    TRY(run_capture(program, range, 1, &marks, &timing.graph));
    TRY(run_queued(program, range, steps, n_steps, launch_timed, &timing));
    CUDA_TRY(cudaGraphExecDestroy(timing.graph));
    timing.graph = NULL;
    for (int i = 0; i < range.count; i++) timing.seconds[i] /= (double)n_steps;
  }
done:
  if (timing.graph) (void)cudaGraphExecDestroy(timing.graph);
  for (int i = 0; timing.events && i < n_events; i++)
    if (timing.events[i]) (void)cudaEventDestroy(timing.events[i]);
  free(timing.events);
  return status;
}
