/* Steps are queued in device memory, the plan's ranges are captured once as graphs, and a step's first kernel fetches
 * its entry of the queue. Between the upload of the queue and the next read of values the host only launches graphs, but
 * for a sum over ranks in its memory. Other ranges (parts of a step; of verify, bench, tests) are launched operation by
 * operation. */
#include "run.h"

#include <string.h>

#include "arrays.h"
#include "compiled.h"
#include "plan/operations.h"
#include "profile.h"

enum { MANY = 16, MOST_NODES = 1024 }; /* steps and operations of a graph, at most */

/* ---- the queue ---- */

/* The trust ratio has the coefficients of the update behind it. */
static const struct plan_update *update_of(const struct plan *plan, struct plan_range range) {
  for (int i = range.first; i < range.first + range.count; i++)
    if (plan->ops[i].kind == OP_UPDATE || plan->ops[i].kind == OP_TRUST_RATIO) return &plan->ops[i].update;
  return NULL;
}

static void describe_step(const struct plan_step *step, const struct plan_update *update, struct device_step *made) {
  memset(made, 0, sizeof *made);
  made->number = step->number;
  made->first_row = step->first_row;
  made->rows = step->rows;
  made->batch_row = step->batch_row;
  made->weight_sum = step->weight_sum;
  made->micro_batch = step->micro_batch;
  made->micro_batches = step->micro_batches;
  if (step->order) made->order = *step->order;
  if (update) made->update = update_factors_of_f32(update, step);
}

static bool same(struct plan_range a, struct plan_range b) {
  return a.count > 0 && a.first == b.first && a.count == b.count;
}

static bool is_micro_batch(const struct plan *plan, struct plan_range range) {
  return same(range, plan->micro_batch) || same(range, plan->micro_batch_with_statistics);
}

/* Enqueues the upload of up to QUEUE_STEPS steps, behind the launches that read the queue. It waits for the last upload but
 * one: the host is never further ahead, so a window of streamed rows needs no time limit. */
static descent_status upload(struct backend_program *program, struct plan_range range, const struct plan_step *steps,
                             int64_t n) {
  struct step_queue *const queue = &program->queue;
  const struct plan_update *update = update_of(program->plan, range);
  const cudaStream_t stream = program->device->stream;
  const int turn = queue->turn;
  descent_status status = DESCENT_OK;
  if (queue->in_use[turn]) TRY(connection_await(&program->ranks.connection, queue->uploaded[turn]));
  for (int64_t i = 0; i < n; i++) describe_step(&steps[i], update, &queue->staged[turn][i]);
  CUDA_TRY(cudaMemcpyAsync(queue->steps, queue->staged[turn], (size_t)n * sizeof *queue->steps, cudaMemcpyHostToDevice,
                           stream));
  CUDA_TRY(cudaMemsetAsync(&queue->state->next, 0, sizeof queue->state->next, stream));
  CUDA_TRY(cudaEventRecord(queue->uploaded[turn], stream));
  queue->in_use[turn] = true;
  queue->turn = 1 - turn;
  if (is_micro_batch(program->plan, range)) queue->part = queue->staged[turn][n - 1];
done:
  return status;
}

/* ---- graphs ---- */

descent_status run_record(struct backend_program *program, struct plan_range range, int64_t steps,
                          const struct lower_marks *marks, cudaGraph_t *graph) {
  const int64_t rows = choose_captured_rows(program->plan, range.first);
  const cudaStream_t stream = program->device->stream;
  bool capturing = false;
  descent_status status = DESCENT_OK;
  *graph = NULL;
  CUDA_TRY(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  capturing = true;
  for (int64_t s = 0; s < steps; s++) TRY(lower_range(program, range, rows, true, marks));
  capturing = false;
  CUDA_TRY(cudaStreamEndCapture(stream, graph));
done:
  if (capturing) {
    if (cudaStreamEndCapture(stream, graph) == cudaSuccess) (void)cudaGraphDestroy(*graph);
    *graph = NULL;
    beside_abandon(&program->beside);
    (void)cudaGetLastError();
  }
  return status;
}

descent_status run_capture(struct backend_program *program, struct plan_range range, int64_t steps,
                           const struct lower_marks *marks, cudaGraphExec_t *result) {
  cudaGraph_t graph;
  descent_status status;
  TRY(run_record(program, range, steps, marks, &graph));
  CUDA_TRY(cudaGraphInstantiate(result, graph, 0));
done:
  if (graph) (void)cudaGraphDestroy(graph);
  return status;
}

static const char *const range_names[GRAPHS] = {
    "train",  "train with statistics",  "micro-batch", "micro-batch with statistics",
    "finish", "finish with statistics", "evaluate",    "predict"};

static void list_ranges(const struct plan *plan, struct plan_range ranges[GRAPHS]) {
  ranges[0] = plan->train;
  ranges[1] = plan->train_with_statistics;
  ranges[2] = plan->micro_batch;
  ranges[3] = plan->micro_batch_with_statistics;
  ranges[4] = plan->finish;
  ranges[5] = plan->finish_with_statistics;
  ranges[6] = plan->evaluate;
  ranges[7] = plan->predict;
}

/* A graph cannot wait for other ranks in host memory. */
static bool can_capture(const struct plan *plan, struct plan_range range) {
  return range.count > 0 && !lower_has(plan, range, OP_ALLREDUCE);
}

/* Runs each range once, operation by operation, before it is captured: this loads the kernels outside a capture, and an
 * error names its operation; of the sum over ranks, which needs the others, only what follows it. The queue holds zeros,
 * hence steps of no rows, whose sources are not read. Afterwards all buffers are zeroed again. */
static descent_status run_uncaptured(struct backend_program *program) {
  static const struct lower_marks wait = {.wait = true};
  const cudaStream_t stream = program->device->stream;
  const struct plan *plan = program->plan;
  struct plan_range ranges[GRAPHS];
  descent_status status = DESCENT_OK;
  list_ranges(plan, ranges);
  for (int i = 0; i < GRAPHS; i++) {
    for (; ranges[i].count > 0 && !can_capture(plan, ranges[i]); ranges[i].count--) ranges[i].first++;
    if (ranges[i].count) TRY(lower_range(program, ranges[i], choose_captured_rows(plan, ranges[i].first), true, &wait));
  }
  TRY(layout_zero(&program->buffers, stream));
  TRY(work_clear_flag(&program->work, stream));
  CUDA_TRY(cudaMemsetAsync(program->queue.state, 0, sizeof *program->queue.state, stream));
done:
  return status;
}

/* Steps of one graph of a training; micro-batches are run as many at a time as a step has. These are divided into equal
 * graphs, since each one left over is a launch. */
static int64_t many_steps(const struct plan *plan, struct plan_range range) {
  const int64_t most = MOST_NODES / range.count < MANY ? MOST_NODES / range.count : MANY;
  const struct plan_op *const last = &plan->ops[range.first + range.count - 1];
  if (most < 2 || !is_micro_batch(plan, range)) return most;
  if (last->kind != OP_COMBINE) return 1; /* the only one of its rank */
  const int64_t K = last->combine.micro_batches, graphs = (K - 1) / most + 1;
  return K / graphs;
}

static descent_status capture_ranges(struct backend_program *program) {
  const struct plan *plan = program->plan;
  struct plan_range ranges[GRAPHS];
  descent_status status = DESCENT_OK;
  list_ranges(plan, ranges);
  for (int i = 0; i < GRAPHS; i++) {
    struct step_graph *g = &program->graphs[i];
    if (!can_capture(plan, ranges[i])) continue;
    g->range = ranges[i];
    TRY(run_capture(program, g->range, 1, NULL, &g->one));
    if (!same(g->range, plan_training(plan))) continue; /* the other ranges run one step at a time */
    g->steps = many_steps(plan, g->range);
    if (g->steps > 1) TRY(run_capture(program, g->range, g->steps, NULL, &g->many));
  }
done:
  return status;
}

descent_status run_capture_exchange(struct backend_program *program, struct plan_range range,
                                    const struct lower_marks *marks, cudaGraphExec_t *graph) {
  struct connection *const connection = &program->ranks.connection;
  bool all;
  descent_status status;
  *graph = NULL;
  if (!connection_captures(connection)) return DESCENT_OK;
  /* A failure that a launch has too, other than a refusal to capture, shows there. */
  const bool captured = run_capture(program, range, 1, marks, graph) == DESCENT_OK;
  connection_holds(connection, graph); /* a failed gather gives the connection up */
  TRY(connection_agree(connection, captured, &all));
  if (all || !*graph) goto done;
  CUDA_TRY(cudaGraphExecDestroy(*graph));
  *graph = NULL;
done:
  if (!*graph) connection_forgets(connection, graph);
  return status;
}

/* Captures the ranges that run_prepare could not. */
descent_status run_connect(struct backend_program *program) {
  struct plan_range ranges[GRAPHS];
  struct connection *const connection = &program->ranks.connection;
  bool captured = true;
  descent_status status = DESCENT_OK;
  if (!communicator_exchanges(program->plan->communicator)) return DESCENT_OK;
  TRY(connection_open(connection));
  program->sources.exchange = connection->text;
  if (!connection->exchange.comm) return DESCENT_OK;
  list_ranges(program->plan, ranges);
  for (int i = 0; i < GRAPHS; i++) {
    struct step_graph *const g = &program->graphs[i];
    if (!lower_has(program->plan, ranges[i], OP_ALLREDUCE)) continue;
    TRY(run_capture_exchange(program, ranges[i], NULL, &g->one));
    g->range = ranges[i];
    captured &= g->one != NULL;
  }
  connection_tell_captured(connection, captured);
done:
  return status;
}

static struct step_graph *find_graph(struct backend_program *program, struct plan_range range) {
  for (int i = 0; i < GRAPHS; i++) {
    struct step_graph *g = &program->graphs[i];
    if (g->one && same(g->range, range)) return g;
  }
  return NULL;
}

descent_status run_prepare(struct backend_program *program) {
  struct step_queue *const queue = &program->queue;
  descent_status status;
  TRY(device_memory_take(&program->memory, QUEUE_STEPS * (int64_t)sizeof *queue->steps, "the queue of steps",
                         (void **)&queue->steps));
  TRY(device_memory_take(&program->memory, (int64_t)sizeof *queue->state, "the current step", (void **)&queue->state));
  TRY(device_memory_take(&program->memory, SCALAR_SLOTS * (int64_t)sizeof *queue->scalars, "scalars",
                         (void **)&queue->scalars));
  for (int i = 0; i < 2; i++) {
    CUDA_TRY(cudaMallocHost((void **)&queue->staged[i], QUEUE_STEPS * sizeof *queue->staged[i]));
    CUDA_TRY(cudaEventCreateWithFlags(&queue->uploaded[i], cudaEventDisableTiming));
  }
  TRY(run_uncaptured(program));
  TRY(capture_ranges(program));
done:
  return status;
}

void run_release(struct backend_program *program) {
  struct step_queue *const queue = &program->queue;
  for (int i = 0; i < GRAPHS; i++) {
    if (program->graphs[i].one) (void)cudaGraphExecDestroy(program->graphs[i].one);
    if (program->graphs[i].many) (void)cudaGraphExecDestroy(program->graphs[i].many);
  }
  for (int i = 0; i < 2; i++) {
    if (queue->staged[i]) (void)cudaFreeHost(queue->staged[i]);
    if (queue->uploaded[i]) (void)cudaEventDestroy(queue->uploaded[i]);
  }
  device_memory_free(queue->steps);
  device_memory_free(queue->state);
  device_memory_free(queue->scalars);
}

/* ---- values that a fused launch leaves out ---- */

descent_status run_values(struct backend_program *program) {
  const struct plan_range range = program->queue.fused;
  descent_status status = DESCENT_OK;
  if (range.count == 0) return DESCENT_OK;
  if (is_micro_batch(program->plan, range)) /* the finish of its step may be the current one */
    CUDA_TRY(cudaMemcpyAsync(&program->queue.state->current, &program->queue.part, sizeof program->queue.part,
                             cudaMemcpyHostToDevice, program->device->stream));
  TRY(lower_values(program, range, choose_captured_rows(program->plan, range.first)));
  program->queue.fused = (struct plan_range){0, 0};
done:
  return status;
}

bool run_leaves_out(const struct backend_program *program, int buffer) {
  return program->queue.fused.count > 0 && fusion_leaves_out(&program->fusion, program->queue.fused, buffer);
}

/* Does the range begin a step and compute all of its A itself? */
static bool is_whole(const struct plan *plan, struct plan_range range) {
  int layers = 0;
  for (int i = range.first; i < range.first + range.count; i++) layers += plan->ops[i].kind == OP_DENSE_FORWARD;
  return layers == plan->layers && plan->ops[range.first].kind == OP_GATHER;
}

/* Does the range use rows of the step: X, A, Z, dZ? */
static bool uses_rows(const struct plan *plan, struct plan_range range) {
  for (int i = range.first; i < range.first + range.count; i++) {
    struct plan_use uses[PLAN_MOST_USES];
    for (int n = plan_uses(&plan->ops[i], uses); n-- > 0;)
      if (plan->buffers[uses[n].buffer].storage == PLAN_BATCH) return true;
  }
  return false;
}

/* Before a run. What the last one left out is computed for ranges that use it; those of a whole step replace it. */
static descent_status keep_values(struct backend_program *program, struct plan_range range) {
  descent_status status = DESCENT_OK;
  if (program->queue.fused.count && !is_whole(program->plan, range)) {
    if (uses_rows(program->plan, range)) TRY(run_values(program));
    goto done;
  }
  program->queue.fused = fusion_of(&program->fusion, range) ? range : (struct plan_range){0, 0};
done:
  return status;
}

/* ---- steps ---- */

static descent_status launch_graphs(struct backend_program *program, struct plan_range range,
                                    const struct plan_step *steps, int64_t n, bool *stopped, void *context) {
  const struct step_graph *graph = context;
  struct connection *const connection = &program->ranks.connection;
  const bool exchanges = lower_has(program->plan, range, OP_ALLREDUCE);
  const cudaStream_t stream = program->device->stream;
  (void)steps, (void)stopped;
  descent_status status = DESCENT_OK;
  for (int64_t done = 0; done < n;) {
    const bool many = graph->many && n - done >= graph->steps;
    if (exchanges) TRY(connection_begin(connection, stream));
    CUDA_TRY(cudaGraphLaunch(many ? graph->many : graph->one, stream));
    if (exchanges) TRY(connection_end(connection, stream));
    done += many ? graph->steps : 1;
  }
done:
  return status;
}

/* Is the range a part of a step, which must give the bits of the whole? */
static bool is_part(const struct plan *plan, struct plan_range range) {
  const struct plan_range parts[] = {plan->forward,
                                     plan->forward_with_statistics,
                                     plan->gradient,
                                     plan->update,
                                     plan->update_with_statistics,
                                     plan->backward,
                                     plan->input_gradient,
                                     plan->finish,
                                     plan->finish_with_statistics};
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
    if (same(range, parts[i])) return true;
  return false;
}

/* Also where the range fails, its exchanges are marked: a part of them may be in the stream. */
static descent_status lower_exchanging(struct backend_program *program, struct plan_range range, int64_t rows) {
  struct connection *const connection = &program->ranks.connection;
  const bool exchanges = lower_has(program->plan, range, OP_ALLREDUCE);
  descent_status status = DESCENT_OK;
  if (exchanges) TRY(connection_begin(connection, program->device->stream));
  status = lower_range(program, range, rows, false, NULL);
  if (exchanges) {
    const descent_status ended = connection_end(connection, program->device->stream);
    if (status == DESCENT_OK) status = ended;
  }
done:
  return status;
}

/* Runs operation by operation and stops after a step that is marked as bad. The flag of the last step is not needed. A
 * part of a step is computed on the rows of the captured step, any other range on the step's own. */
static descent_status launch_operations(struct backend_program *program, struct plan_range range,
                                        const struct plan_step *steps, int64_t n, bool *stopped, void *context) {
  const double *bad_step = lower_bad_step(program, range);
  const cudaStream_t stream = program->device->stream;
  const bool part = is_part(program->plan, range);
  int64_t *left = context; /* steps left, including these */
  descent_status status = DESCENT_OK;
  for (int64_t s = 0; s < n && !*stopped; s++) {
    double bad = 0;
    CUDA_TRY(launch_fetch(program->queue.state, program->queue.steps, stream));
    const int64_t rows = part ? choose_captured_rows(program->plan, range.first) : steps[s].rows;
    TRY(lower_exchanging(program, range, rows));
    if (--*left == 0 || !bad_step) continue;
    CUDA_TRY(cudaMemcpyAsync(&bad, bad_step, sizeof bad, cudaMemcpyDeviceToHost, stream));
    TRY(connection_settle(&program->ranks.connection, stream));
    CUDA_TRY(cudaStreamSynchronize(stream));
    *stopped = bad != 0;
  }
done:
  return status;
}

static const struct plan_gather *gather_of(const struct plan *plan, struct plan_range range) {
  for (int i = range.first; i < range.first + range.count; i++)
    if (plan->ops[i].kind == OP_GATHER) return &plan->ops[i].gather;
  return NULL;
}

static descent_status check_steps(const struct plan *plan, int64_t most, const struct plan_step *steps, int64_t n) {
  for (int64_t s = 0; s < n; s++)
    if (!plan_can_run(plan, &steps[s]) || steps[s].rows > most)
      return module_status(DESCENT_ERROR_ARGUMENT, "run: a step of %lld rows: must be %d to %lld",
                           (long long)steps[s].rows, steps[s].micro_batches > 0 ? 0 : 1, (long long)most);
  return DESCENT_OK;
}

descent_status run_begin(struct run *run, struct backend_program *program, struct plan_range range,
                         const struct plan_step *steps, int64_t n_steps) {
  const struct plan *const plan = program->plan;
  *run = (struct run){.program = program, .range = range, .steps = steps, .n_steps = n_steps};
  run->graph = find_graph(program, range);
  run->gather = gather_of(plan, range);
  const bool captured = run->graph || is_part(plan, range);
  descent_status status;
  TRY(check_steps(plan, captured ? choose_captured_rows(plan, range.first) : plan->batch, steps, n_steps));
  if (run->gather) TRY(source_ready(&program->sources, &run->streaming));
  TRY(keep_values(program, range));
  run->in_place = run->gather && source_in_place(&program->sources);
  if (run->in_place) TRY(arrays_begin(program->device));
done:
  return status;
}

descent_status run_queue(struct run *run) {
  const int64_t left = run->n_steps - run->done;
  descent_status status = DESCENT_OK;
  run->now = run->steps + run->done;
  run->taken = left < QUEUE_STEPS ? left : QUEUE_STEPS;
  if (run->streaming)
    TRY(source_fill(&run->program->sources, run->gather->shuffle, run->now, run->taken, &run->now, &run->taken));
  TRY(upload(run->program, run->range, run->now, run->taken));
done:
  return status;
}

descent_status run_launched(struct run *run) {
  descent_status status = DESCENT_OK;
  if (run->streaming) TRY(source_consumed(&run->program->sources));
  run->done += run->taken;
  run->taken = run->launched = 0;
done:
  return status;
}

descent_status run_end(const struct run *run) { return run->in_place ? arrays_end(run->program->device) : DESCENT_OK; }

descent_status run_launch(struct run *run) {
  const int64_t first = run->launched;
  int64_t left = run->n_steps - run->done - first;
  bool stopped = false;
  launch_steps *const launch = run->graph ? launch_graphs : launch_operations;
  void *const context = run->graph ? (void *)run->graph : &left;
  descent_status status;
  TRY(launch(run->program, run->range, run->now + first, run->taken - first, &stopped, context));
  if (stopped) run->n_steps = run->done + run->taken;
done:
  return status;
}

descent_status run_queued(struct backend_program *program, struct plan_range range, const struct plan_step *steps,
                          int64_t n_steps, launch_steps *launch, void *context) {
  struct run run;
  bool stopped = false;
  descent_status status;
  TRY(run_begin(&run, program, range, steps, n_steps));
  while (run.done < n_steps && !stopped) {
    TRY(run_queue(&run));
    TRY(launch(program, range, run.now, run.taken, &stopped, context));
    TRY(run_launched(&run));
  }
  TRY(run_end(&run));
done:
  return status;
}

descent_status run_steps(struct backend_program *program, struct plan_range range, const struct plan_step *steps,
                         int64_t n_steps) {
  struct run run;
  descent_status status;
  TRY(connection_check(&program->ranks.connection));
  TRY(run_begin(&run, program, range, steps, n_steps));
  profile_begin(run.graph ? range_names[run.graph - program->graphs] : "operations");
  while (run.done < run.n_steps && status == DESCENT_OK) {
    status = run_queue(&run);
    if (status == DESCENT_OK) status = run_launch(&run);
    if (status == DESCENT_OK) status = run_launched(&run);
  }
  profile_end();
  if (status == DESCENT_OK) status = run_end(&run);
done:
  return status;
}

descent_status run_product(struct backend_program *program, int op, int64_t rows, int repeat) {
  descent_status status = DESCENT_OK;
  for (int i = 0; i < repeat; i++) TRY(lower_product(program, op, rows));
done:
  return status;
}
