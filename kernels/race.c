/* Timing candidates as a step runs them: launches are captured into graphs, so that the host's launch rate does not
 * matter; the launches of a graph cycle through copies of the operands, so that a cache holds no more of them than in a
 * step; the graphs are interleaved, so that a change of the clock rate affects all candidates. */
#include "race.h"

#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 7, FEW_ROUNDS = 3, LEAST_LAUNCHES = 4, MOST_LAUNCHES = 64, MOST_WARM = 100 /* launches of a graph */ };
static const int64_t most_copied = INT64_C(256) << 20; /* bytes */
static const double sample_seconds = 250e-6;           /* of one graph: events resolve half a microsecond */
static const double warm_seconds = 2e-3;               /* of work, after which the clock rate is up */
static const double most_seconds = 20e-3; /* of all samples of a candidate, except FEW_ROUNDS of a long launch */

struct race {
  const struct race_setup *setup;
  int launches, copies; /* of a graph; of the operands, those of the setup among them */
  char *memory;         /* the other copies */
  size_t copy_bytes;
  cudaGraphExec_t graphs[MOST_CANDIDATES]; /* NULL: not captured */
  int running[MOST_CANDIDATES], n_running; /* candidates still timed */
  cudaEvent_t events[MOST_CANDIDATES + 1];
  double samples[MOST_CANDIDATES][ROUNDS];
};

static descent_status elapsed(cudaEvent_t from, cudaEvent_t to, double *seconds) {
  float milliseconds;
  descent_status status = DESCENT_OK;
  CUDA_TRY(cudaEventSynchronize(to));
  CUDA_TRY(cudaEventElapsedTime(&milliseconds, from, to));
  *seconds = 1e-3 * (double)milliseconds;
done:
  return status;
}

/* The number of launches of the first candidate that take about as long as a sample should; *rounds: the number of
 * samples. */
static descent_status plan_samples(struct race *race, const struct candidate *first, int *rounds) {
  const cudaStream_t stream = race->setup->stream;
  double seconds = 0;
  bool ran;
  descent_status status = DESCENT_OK;
  CUDA_TRY(cudaEventRecord(race->events[0], stream));
  TRY(race->setup->launch(race->setup->context, first, 0, &ran));
  CUDA_TRY(cudaEventRecord(race->events[1], stream));
  TRY(elapsed(race->events[0], race->events[1], &seconds));
  race->launches = seconds * MOST_LAUNCHES < sample_seconds ? MOST_LAUNCHES
                   : seconds < sample_seconds               ? (int)(sample_seconds / seconds)
                                                            : 1;
  if (race->launches < LEAST_LAUNCHES && LEAST_LAUNCHES * (ROUNDS + 1) * seconds < most_seconds)
    race->launches = LEAST_LAUNCHES; /* so that several copies of the operands are used */
  *rounds = (ROUNDS + 1) * seconds < most_seconds ? ROUNDS : FEW_ROUNDS;
done:
  return status;
}

/* Copies of twice the cache size in total, but no more than there are launches and than fit in half of the free memory;
 * none if the allocation fails. */
static descent_status take_copies(struct race *race) {
  const struct race_setup *const setup = race->setup;
  const int64_t bytes = setup->bytes;
  size_t left, total;
  descent_status status = DESCENT_OK;
  CUDA_TRY(cudaMemGetInfo(&left, &total));
  const int64_t room = (int64_t)(left / 2) < most_copied ? (int64_t)(left / 2) : most_copied;
  int64_t copies = 2 * setup->cache / bytes + 1;
  if (copies > race->launches) copies = race->launches;
  if (copies > 1 + room / bytes) copies = 1 + room / bytes;
  race->copies = 1;
  race->copy_bytes = (size_t)bytes;
  if (copies == 1) goto done;
  const cudaError_t error = cudaMalloc((void **)&race->memory, (size_t)(copies - 1) * race->copy_bytes);
  if (error == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();
    race->memory = NULL;
    goto done;
  }
  CUDA_TRY(error);
  for (int64_t i = 0; i < copies - 1; i++)
    CUDA_TRY(cudaMemcpyAsync(race->memory + (size_t)i * race->copy_bytes, setup->operands, race->copy_bytes,
                             cudaMemcpyDeviceToDevice, setup->stream));
  race->copies = (int)copies;
done:
  return status;
}

/* *result stays NULL if the candidate cannot be captured. */
static descent_status capture(const struct race *race, const struct candidate *candidate, cudaGraphExec_t *result) {
  const struct race_setup *const setup = race->setup;
  cudaGraph_t graph = NULL;
  bool ran = true;
  descent_status status = DESCENT_OK;
  CUDA_TRY(cudaStreamBeginCapture(setup->stream, cudaStreamCaptureModeThreadLocal));
  for (int i = 0; i < race->launches && ran && status == DESCENT_OK; i++) {
    const int copy = i % race->copies;
    const char *const at = copy ? race->memory + (size_t)(copy - 1) * race->copy_bytes : setup->operands;
    status = setup->launch(setup->context, candidate, at - setup->operands, &ran);
  }
  const cudaError_t ended = cudaStreamEndCapture(setup->stream, &graph);
  if (!ran || status != DESCENT_OK) {
    (void)cudaGetLastError(); /* of a capture that ended early */
    goto done;
  }
  CUDA_TRY(ended);
  CUDA_TRY(cudaGraphInstantiate(result, graph, 0));
  CUDA_TRY(cudaGraphUpload(*result, setup->stream)); /* else the first launch includes the upload */
done:
  if (graph) (void)cudaGraphDestroy(graph);
  return status;
}

static descent_status warm_up(const struct race *race, cudaGraphExec_t graph) {
  const cudaStream_t stream = race->setup->stream;
  double seconds = 0, all = 0;
  descent_status status = DESCENT_OK;
  for (int i = 0; i < MOST_WARM && all < warm_seconds; i++) {
    CUDA_TRY(cudaEventRecord(race->events[0], stream));
    CUDA_TRY(cudaGraphLaunch(graph, stream));
    CUDA_TRY(cudaEventRecord(race->events[1], stream));
    TRY(elapsed(race->events[0], race->events[1], &seconds));
    all += seconds;
  }
done:
  return status;
}

/* Each graph once, an event between any two. The launch before the first event keeps the device busy until the host has
 * enqueued the timed ones. */
static descent_status run_round(struct race *race, int round) {
  const cudaStream_t stream = race->setup->stream;
  descent_status status = DESCENT_OK;
  CUDA_TRY(cudaGraphLaunch(race->graphs[race->running[race->n_running - 1]], stream));
  CUDA_TRY(cudaEventRecord(race->events[0], stream));
  for (int r = 0; r < race->n_running; r++) {
    CUDA_TRY(cudaGraphLaunch(race->graphs[race->running[r]], stream));
    CUDA_TRY(cudaEventRecord(race->events[r + 1], stream));
  }
  for (int r = 0; r < race->n_running; r++)
    TRY(elapsed(race->events[r], race->events[r + 1], &race->samples[race->running[r]][round]));
done:
  return status;
}

/* Stops timing candidates that take more than twice as long as the fastest; they keep their one sample. */
static void drop_slow(struct race *race, struct candidate candidates[]) {
  double best = race->samples[race->running[0]][0];
  int n = 0;
  for (int r = 1; r < race->n_running; r++)
    if (race->samples[race->running[r]][0] < best) best = race->samples[race->running[r]][0];
  for (int r = 0; r < race->n_running; r++) {
    const int i = race->running[r];
    candidates[i].seconds = race->samples[i][0] / race->launches;
    if (race->samples[i][0] <= 2 * best) race->running[n++] = i;
  }
  race->n_running = n;
}

static int ascending(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

/* Orders by time; candidates without a graph come last. */
static int faster(const void *a, const void *b) {
  const struct candidate *const x = a, *const y = b;
  return x->verdict || y->verdict ? (x->verdict != NULL) - (y->verdict != NULL) : ascending(&x->seconds, &y->seconds);
}

static descent_status run_all(struct race *race, struct candidate candidates[], int n) {
  int rounds = 0;
  descent_status status;
  for (int i = 0; i <= n; i++) CUDA_TRY(cudaEventCreate(&race->events[i]));
  TRY(plan_samples(race, &candidates[0], &rounds));
  TRY(take_copies(race));
  for (int i = 0; i < n; i++) {
    TRY(capture(race, &candidates[i], &race->graphs[i]));
    if (race->graphs[i])
      race->running[race->n_running++] = i;
    else
      candidates[i].verdict = "not_captured";
  }
  if (race->n_running == 0) goto done;
  TRY(warm_up(race, race->graphs[race->running[0]]));
  TRY(run_round(race, 0));
  drop_slow(race, candidates);
  for (int round = 0; round < rounds; round++) TRY(run_round(race, round));
  for (int r = 0; r < race->n_running; r++) {
    const int i = race->running[r];
    qsort(race->samples[i], (size_t)rounds, sizeof race->samples[i][0], ascending);
    candidates[i].seconds = race->samples[i][rounds / 2] / race->launches;
  }
  qsort(candidates, (size_t)n, sizeof *candidates, faster);
done:
  return status;
}

descent_status race_run(const struct race_setup *setup, struct candidate candidates[], int n) {
  struct race *race = module_allocate(1, sizeof *race, "the times of algorithms");
  if (!race) return DESCENT_ERROR_MEMORY;
  race->setup = setup;
  const descent_status status = run_all(race, candidates, n);
  for (int i = 0; i < n; i++)
    if (race->graphs[i]) (void)cudaGraphExecDestroy(race->graphs[i]);
  for (int i = 0; i <= n; i++)
    if (race->events[i]) (void)cudaEventDestroy(race->events[i]);
  if (race->memory) (void)cudaFree(race->memory);
  free(race);
  return status;
}
