/* The program that started this process as one rank of several, and the one that this process starts its ranks with. */
#ifndef DESCENT_CLI_LAUNCHER_H
#define DESCENT_CLI_LAUNCHER_H

#include <stdbool.h>

struct launcher {
  const char *name; /* "mpirun" or "srun" */
  int rank, size;   /* of this process; 0 and 1 without a launcher */
};
/* By the environment: of Open MPI, of launchers with the PMI (MPICH, Intel MPI, srun --mpi=pmi2), of srun. */
struct launcher launcher_find(void);

/* "cuda:0-7": the GPUs first to last. False for any other text. */
bool launcher_gpus(const char *device, int *first, int *last);
/* How many GPUs this machine has; -1, with the library's error set, where that is unknown. */
int launcher_count_gpus(void);

/* Replaces this process by mpirun, which starts the subcommand argv[0] with the same arguments once for each GPU from first
 * to last. Returns the exit code after a line about what is wrong. */
int launcher_start(const char *command, const char *device, int first, int last, int argc, char **argv);

#endif
