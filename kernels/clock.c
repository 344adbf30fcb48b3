/* Times operations inside a step. The range is captured with an event behind each operation, so that operands are as
 * cold and the device as busy as in a training, and no time is the host's. Matrix products are timed in a graph of
 * their own, since an event inside an operation delays what follows it. An event costs about a microsecond, which is
 * part of the operation before it. */
#include <stdlib.h>

#include "plan/operations.h"
#include "program.h"

struct range_clock {
  struct plan_range range;
  cudaEvent_t *events; /* (1 + 2 count) the beginning, the end of each operation, the end of each product */
  cudaGraphExec_t graph;
  double *seconds; /* (count) summed over the steps */
  bool products;   /* what is timed */
};

static descent_status record(struct backend_program *program, int event) {
  descent_status status = DESCENT_OK;
  CUDA_TRY(cudaEventRecordWithFlags(program->clock->events[event], program->device->stream, cudaEventRecordExternal));
done:
  return status;
}

static descent_status begin(struct backend_program *program) { return record(program, 0); }

static int operation_event(const struct range_clock *clock, int op) { return 1 + op - clock->range.first; }

static int product_event(const struct range_clock *clock, int op) {
  return 1 + clock->range.count + op - clock->range.first;
}

static descent_status end_operation(struct backend_program *program, int op) {
  return record(program, operation_event(program->clock, op));
}

static descent_status end_product(struct backend_program *program, int op) {
  return record(program, product_event(program->clock, op));
}

static descent_status capture_clocked(struct backend_program *program, struct range_clock *clock) {
  static const struct lower_watch watches[] = {{begin, end_operation, NULL}, {begin, end_operation, end_product}};
  program->clock = clock;
  program->watch = &watches[clock->products];
  const descent_status status = run_capture(program, clock->range, 1, &clock->graph);
  program->watch = NULL;
  program->clock = NULL;
  return status;
}

static descent_status add_times(struct backend_program *program, struct range_clock *clock) {
  descent_status status = DESCENT_OK;
  for (int i = 0; i < clock->range.count; i++) {
    const int op = clock->range.first + i, event = operation_event(clock, op);
    float milliseconds;
    if (clock->products && !plan_has_product(&program->plan->ops[op])) continue;
    CUDA_TRY(cudaEventElapsedTime(&milliseconds, clock->events[event - 1],
                                  clock->events[clock->products ? product_event(clock, op) : event]));
    clock->seconds[i] += 1e-3 * (double)milliseconds;
  }
done:
  return status;
}

static descent_status launch_clocked(struct backend_program *program, struct plan_range range,
                                     const struct plan_step *steps, int64_t n, bool *stopped, void *context) {
  struct range_clock *clock = context;
  (void)range, (void)steps, (void)stopped;
  descent_status status = DESCENT_OK;
  for (int64_t s = 0; s < n; s++) {
    CUDA_TRY(cudaGraphLaunch(clock->graph, program->device->stream));
    CUDA_TRY(cudaStreamSynchronize(program->device->stream));
    TRY(add_times(program, clock));
  }
done:
  return status;
}

descent_status clock_steps(struct backend_program *program, struct plan_range range, const struct plan_step *steps,
                           int64_t n_steps, double *op_seconds, double *product_seconds) {
  const int n_events = 1 + 2 * range.count;
  struct range_clock clock = {.range = range};
  descent_status status = DESCENT_OK;
  if (n_steps < 1) return module_status(DESCENT_ERROR_ARGUMENT, "time: %lld steps", (long long)n_steps);
  CUDA_TRY(cudaSetDevice(program->device->ordinal));
  clock.events = module_allocate(n_events, sizeof *clock.events, "the times of the operations");
  if (!clock.events) TRY(DESCENT_ERROR_MEMORY);
  for (int i = 0; i < n_events; i++) CUDA_TRY(cudaEventCreate(&clock.events[i]));
  for (int pass = 0; pass < 2; pass++) {
    clock.products = pass == 1;
    clock.seconds = clock.products ? product_seconds : op_seconds;
    for (int i = 0; i < range.count; i++) clock.seconds[i] = 0;
    TRY(capture_clocked(program, &clock));
    TRY(run_queued(program, range, steps, n_steps, launch_clocked, &clock));
    CUDA_TRY(cudaGraphExecDestroy(clock.graph));
    clock.graph = NULL;
    for (int i = 0; i < range.count; i++) clock.seconds[i] /= (double)n_steps;
  }
done:
  if (clock.graph) (void)cudaGraphExecDestroy(clock.graph);
  for (int i = 0; clock.events && i < n_events; i++)
    if (clock.events[i]) (void)cudaEventDestroy(clock.events[i]);
  free(clock.events);
  return status;
}
