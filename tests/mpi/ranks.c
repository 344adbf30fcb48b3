/* ranks SIZE SECONDS [SILENT|mismatch]: one rank of SIZE under mpirun. Checks sums against the same order of additions on one
 * rank, with messages of several parts, then the gather of bytes. Rank SILENT stops answering, or rank 1 makes another
 * call than the others, and they must say so. */
#include <descent/descent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/communicator.h"

/* Values whose sum depends on the order of additions. */
static float value_of(int rank, int64_t i) { return 1.0f / (float)(1 + rank * 7 + (int)(i % 1013)); }

/* The sum over the ranks of a subtree, by its definition: two halves, the first a power of two. */
static float tree(const float *values, int first, int count) {
  int half = 1;
  if (count == 1) return values[first];
  while (half * 2 < count) half *= 2;
  return tree(values, first, half) + tree(values, first + half, count - half);
}

static int failed(const char *what) {
  fprintf(stderr, "%s: %s\n", what, descent_last_error());
  return 1;
}

static int check_sum(descent_communicator *c, int64_t n) {
  const int rank = descent_communicator_rank(c), size = descent_communicator_size(c);
  float *values = malloc((size_t)n * sizeof *values), *one = malloc((size_t)size * sizeof *one);
  double scalars[2] = {rank + 1, 0.1 * rank};
  int code = 0;
  for (int64_t i = 0; i < n; i++) values[i] = value_of(rank, i);
  if (size > 1 && c->sum(c, values, n, scalars, 2) != DESCENT_OK) code = failed("sum");
  for (int64_t i = 0; i < n && !code; i++) {
    for (int r = 0; r < size; r++) one[r] = value_of(r, i);
    const float expected = tree(one, 0, size);
    if (memcmp(&expected, &values[i], sizeof expected) != 0) {
      fprintf(stderr, "rank %d: value %lld of %lld is %.9g, not %.9g\n", rank, (long long)i, (long long)n,
              (double)values[i], (double)expected);
      code = 1;
    }
  }
  if (!code && scalars[0] != 0.5 * size * (size + 1)) {
    fprintf(stderr, "rank %d: the scalars' sum is %g\n", rank, scalars[0]);
    code = 1;
  }
  free(values);
  free(one);
  return code;
}

static int check_gather(descent_communicator *c) {
  const int rank = descent_communicator_rank(c), size = descent_communicator_size(c);
  int all[64];
  if (descent_communicator_gather(c, &rank, sizeof rank, all) != DESCENT_OK) return failed("gather");
  for (int r = 0; r < size; r++)
    if (all[r] != r) return 1;
  return 0;
}

int main(int argc, char **argv) {
  static const int64_t sizes[] = {1, 3, 17, 1000, 100003, 40000003}; /* the last is more than one part of a message */
  descent_communicator *c = NULL;
  int code = 0;
  if (argc < 3 || descent_communicator_open("mpi", atof(argv[2]), &c) != DESCENT_OK) return failed("open");
  const int rank = descent_communicator_rank(c), size = descent_communicator_size(c);
  if (size != atoi(argv[1])) code = 1;
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes && !code; i++) code = check_sum(c, sizes[i]);
  if (!code) code = check_gather(c);
  if (!code && rank == 0)
    printf("%d ranks, %d here, %d threads each, on %s\n", size, descent_communicator_local_size(c),
           descent_communicator_threads(c), *descent_communicator_host(c, size - 1) ? "a host" : "no host");
  if (!code && argc > 3) {
    const bool mismatch = strcmp(argv[3], "mismatch") == 0;
    if (!mismatch && rank == atoi(argv[3])) sleep(60);
    fflush(stdout);
    const size_t bytes = mismatch && rank == 1 ? sizeof rank / 2 : sizeof rank;
    if (descent_communicator_gather(c, &rank, bytes, (int[64]){0}) == DESCENT_OK) return 1;
    fprintf(stderr, "rank %d: %s\n", rank, descent_last_error());
    sleep(1); /* until the others have said it too */
    descent_communicator_abort(c, 4);
  }
  descent_communicator_close(c);
  return code;
}
