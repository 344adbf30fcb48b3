/* How long predictions take: predict_time FOLDER THREADS WAY answers requests "NAME ROWS SECONDS", one a line, with a line
 * of JSON each: the median and the 99th percentile of a call in microseconds, and some of the values. A call during
 * which another process took the processor counts with the thread's CPU time. The network is
 * FOLDER/NAME.safetensors, its rows are FOLDER/NAME.f32. ROWS 0: from 1 to 64 in turn. WAY: predictor, or predict for
 * descent_predict. */
#define _GNU_SOURCE /* RUSAGE_THREAD */
#include <descent/descent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { MIXED = 64, STRIDE = 37 /* visits all of 0 .. 63 */, MOST_CALLS = 1000000, FEWEST = 3, SHOWN = 50 };

struct job {
  descent_device *device;
  descent_network *network;
  descent_predictor *predictor; /* or NULL */
  int64_t most_rows;
  float *X, *outputs;
};

static double now(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return 1e6 * (double)time.tv_sec + 1e-3 * (double)time.tv_nsec;
}

/* How often another process has taken the processor from this thread. */
static long preemptions(void) {
  struct rusage usage;
  getrusage(RUSAGE_THREAD, &usage);
  return usage.ru_nivcsw;
}

static void need(bool holds, const char *what) {
  if (holds) return;
  fprintf(stderr, "predict_time: %s\n", what);
  exit(1);
}

static void need_ok(descent_status status) { need(status == DESCENT_OK, descent_last_error()); }

static struct job open_job(const char *folder, const char *name, int64_t rows, int threads, bool predictor) {
  struct job job = {.most_rows = rows ? rows : MIXED};
  char path[4096];
  need_ok(descent_device_open("cpu", threads, &job.device));
  snprintf(path, sizeof path, "%s/%s.safetensors", folder, name);
  need_ok(descent_network_load(path, &job.network));
  const int64_t inputs = descent_network_inputs(job.network), outputs = descent_network_outputs(job.network);
  const size_t values = (size_t)(job.most_rows * inputs);
  job.X = malloc(values * sizeof *job.X);
  job.outputs = malloc((size_t)(job.most_rows * outputs) * sizeof *job.outputs);
  snprintf(path, sizeof path, "%s/%s.f32", folder, name);
  FILE *file = fopen(path, "rb");
  need(file && job.X && job.outputs && fread(job.X, sizeof *job.X, values, file) == values, path);
  fclose(file);
  if (predictor) need_ok(descent_predictor_create(job.network, job.device, job.most_rows, &job.predictor));
  return job;
}

static void close_job(struct job *job) {
  descent_predictor_free(job->predictor);
  descent_network_free(job->network);
  descent_device_close(job->device);
  free(job->X);
  free(job->outputs);
}

static void predict(const struct job *job, int64_t rows) {
  descent_dataset *dataset;
  if (job->predictor) {
    need_ok(descent_predictor_run(job->predictor, job->X, rows, job->outputs));
    return;
  }
  need_ok(descent_dataset_create(job->X, NULL, NULL, rows, descent_network_inputs(job->network), 0, DESCENT_TASK_AUTO,
                                 0, &dataset));
  need_ok(descent_predict(job->network, job->device, dataset, job->outputs));
  descent_dataset_free(dataset);
}

static int compare(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* Microseconds of a call. */
static double time_call(const struct job *job, int64_t rows) {
  const long before = preemptions();
  const double cpu = now(CLOCK_THREAD_CPUTIME_ID), start = now(CLOCK_MONOTONIC);
  predict(job, rows);
  const double wall = now(CLOCK_MONOTONIC) - start;
  return preemptions() == before ? wall : now(CLOCK_THREAD_CPUTIME_ID) - cpu;
}

static void answer(const struct job *job, int64_t rows, double seconds) {
  static double times[MOST_CALLS];
  float some[SHOWN];
  int64_t shown = job->most_rows * descent_network_outputs(job->network);
  if (shown > SHOWN) shown = SHOWN;
  predict(job, job->most_rows);
  memcpy(some, job->outputs, (size_t)shown * sizeof *some);
  const int cycle = rows ? 1 : MIXED; /* each number of rows counts equally */
  int n = 0;
  for (const double end = now(CLOCK_MONOTONIC) + 1e6 * seconds;
       n < FEWEST || n % cycle || (n + cycle <= MOST_CALLS && now(CLOCK_MONOTONIC) < end); n++)
    times[n] = time_call(job, rows ? rows : 1 + (int64_t)n * STRIDE % MIXED);
  qsort(times, (size_t)n, sizeof *times, compare);
  printf("{\"p50\": %.4f, \"p99\": %.4f, \"some\": [", times[n / 2], times[(int64_t)n * 99 / 100]);
  for (int64_t i = 0; i < shown; i++) printf("%s%.9g", i ? ", " : "", (double)some[i]);
  printf("]}\n");
  fflush(stdout);
}

int main(int argc, char **argv) {
  char name[64];
  int64_t rows;
  double seconds;
  if (argc != 4) return 2;
  while (scanf("%63s %" SCNd64 " %lf", name, &rows, &seconds) == 3) {
    struct job job = open_job(argv[1], name, rows, atoi(argv[2]), strcmp(argv[3], "predictor") == 0);
    answer(&job, rows, seconds);
    close_job(&job);
  }
  return 0;
}
