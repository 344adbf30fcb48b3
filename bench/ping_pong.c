/* Latency and bandwidth between two ranks, by MPI as the communicator uses it: nonblocking messages of bytes. Prints the
 * seconds of a message of 8 bytes and the bytes per second of one of 8 MB, medians of many. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

enum { SMALL = 8, LARGE = 8 << 20 };

static int ascending(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* Half a round trip in seconds, the median of n. */
static double one_way(char *data, int bytes, int rank, int n) {
  double *seconds = malloc((size_t)n * sizeof *seconds);
  if (!seconds) MPI_Abort(MPI_COMM_WORLD, 1);
  for (int i = 0; i < n; i++) {
    const double started = MPI_Wtime();
    for (int turn = 0; turn < 2; turn++) {
      MPI_Request request;
      if (turn == rank)
        MPI_Isend(data, bytes, MPI_BYTE, 1 - rank, 1, MPI_COMM_WORLD, &request);
      else
        MPI_Irecv(data, bytes, MPI_BYTE, 1 - rank, 1, MPI_COMM_WORLD, &request);
      MPI_Wait(&request, MPI_STATUS_IGNORE);
    }
    seconds[i] = (MPI_Wtime() - started) / 2;
  }
  qsort(seconds, (size_t)n, sizeof *seconds, ascending);
  const double median = seconds[n / 2];
  free(seconds);
  return median;
}

int main(int argc, char **argv) {
  int rank, size;
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  char *data = calloc(1, LARGE);
  if (size != 2 || !data) MPI_Abort(MPI_COMM_WORLD, 1);
  const double small = one_way(data, SMALL, rank, 2001), large = one_way(data, LARGE, rank, 101);
  if (rank == 0) printf("%.9g %.9g\n", small, LARGE / (large - small));
  free(data);
  MPI_Finalize();
  return 0;
}
