/* How long a data file takes to be read: read_time FILE [TARGET], a line of JSON. Features that are mapped count as
 * read when they have been summed up, with which the seconds of the second figure end. */
#include <descent/descent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* Of every value, so that none is left unread. */
static double sum_up(const descent_dataset *dataset) {
  const int64_t rows = descent_dataset_rows(dataset), inputs = descent_dataset_inputs(dataset);
  float *X = malloc((size_t)inputs * sizeof *X);
  double sum = 0;
  for (int64_t r = 0; X && r < rows && descent_dataset_row(dataset, r, X) == DESCENT_OK; r++)
    for (int64_t j = 0; j < inputs; j++) sum += (double)X[j];
  free(X);
  return sum;
}

int main(int argc, char **argv) {
  descent_dataset_options options = descent_dataset_options_default();
  descent_dataset *dataset;
  struct rusage usage;
  if (argc < 2) return 2;
  if (argc > 2) options.target = argv[2];
  const double start = now();
  if (descent_dataset_read(argv[1], &options, &dataset) != DESCENT_OK) {
    fprintf(stderr, "read_time: %s\n", descent_last_error());
    return 1;
  }
  const double read = now() - start;
  getrusage(RUSAGE_SELF, &usage);
  const double sum = sum_up(dataset), summed = now() - start;
  printf("{\"seconds\": %.6f, \"summed\": %.6f, \"rows\": %" PRId64 ", \"inputs\": %" PRId64
         ", \"sum\": %.9g, \"kilobytes\": %ld}\n",
         read, summed, descent_dataset_rows(dataset), descent_dataset_inputs(dataset), sum, usage.ru_maxrss);
  descent_dataset_free(dataset);
  return 0;
}
