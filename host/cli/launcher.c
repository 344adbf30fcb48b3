#include "cli/launcher.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

/* ---- the launcher that there is --------------------------------------------------------------------------------- */

static int number_of(const char *variable) {
  const char *text = getenv(variable);
  int64_t value;
  return text && option_integer(text, &value) && value >= 0 && value <= INT_MAX ? (int)value : -1;
}

struct launcher launcher_find(void) {
  /* Slurm sets its variables for a batch script too, which is not a rank: SLURM_STEP_NUM_TASKS and PMIX_RANK are set in
   * steps only. An allocation may have more tasks than a step. */
  static const struct {
    const char *name, *size, *rank, *required, *absent;
  } known[] = {{"mpirun", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", NULL, NULL},
               {"mpirun", "PMI_SIZE", "PMI_RANK", NULL, NULL},
               {"srun", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID", NULL, NULL},
               {"srun", "SLURM_NTASKS", "SLURM_PROCID", "PMIX_RANK", "SLURM_STEP_NUM_TASKS"}};
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
    const int size = number_of(known[i].size), rank = number_of(known[i].rank);
    if (known[i].required && !getenv(known[i].required)) continue;
    if (known[i].absent && getenv(known[i].absent)) continue;
    if (size > 1 && rank >= 0 && rank < size) return (struct launcher){known[i].name, rank, size};
  }
  return (struct launcher){"", 0, 1};
}

/* ---- the launcher that is started ------------------------------------------------------------------------------- */

bool launcher_gpus(const char *device, int *first, int *last) {
  char text[32];
  int length = -1;
  if (sscanf(device, "cuda:%3d-%3d%n", first, last, &length) != 2 || length < 0 || device[length]) return false;
  snprintf(text, sizeof text, "cuda:%d-%d", *first, *last); /* neither signs nor spaces */
  return strcmp(text, device) == 0 && *first >= 0 && *first < *last;
}

static void count(void *user, const descent_device_info *info) {
  (void)info;
  ++*(int *)user;
}

int launcher_count_gpus(void) {
  int n = 0;
  return descent_device_list(count, &n) == DESCENT_OK ? n : -1;
}

static int start(const char *command, const char *device, int ranks, int argc, char **argv) {
  enum { BEFORE = 4 }; /* mpirun -n N PROGRAM */
  char path[PATH_MAX], number[16];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
  char **arguments = calloc((size_t)argc + BEFORE + 1, sizeof *arguments);
  if (!arguments || length < 0) {
    free(arguments);
    return fail(command, EXIT_RUN, "--device %s: cannot start the ranks: %s", device, strerror(errno));
  }
  path[length] = '\0';
  snprintf(number, sizeof number, "%d", ranks);
  arguments[0] = (char[]){"mpirun"};
  arguments[1] = (char[]){"-n"};
  arguments[2] = number;
  arguments[3] = path;
  for (int i = 0; i < argc; i++) arguments[BEFORE + i] = argv[i];
  execvp(arguments[0], arguments);
  free(arguments);
  if (errno == ENOENT)
    return fail(command, EXIT_DEVICE,
                "--device %s: mpirun is missing, which starts a rank for each GPU (install openmpi-bin)", device);
  return fail(command, EXIT_DEVICE, "--device %s: cannot start mpirun: %s", device, strerror(errno));
}

int launcher_start(const char *command, const char *device, int first, int last, int argc, char **argv) {
  static const char mark[] = "DESCENT_LAUNCHED"; /* set for the ranks, which must not start others */
  const int gpus = launcher_count_gpus();
  if (getenv(mark))
    return fail(command, EXIT_DEVICE, "--device %s: mpirun started this process, but not as one of several ranks",
                device);
  if (gpus < 0) return fail_status(command, DESCENT_ERROR_DEVICE);
  if (last >= gpus)
    return fail(command, EXIT_DEVICE, "--device %s: this machine has %d GPU%s (see descent devices)", device, gpus,
                gpus == 1 ? "" : "s");
  if (setenv(mark, "1", true) != 0) return fail(command, EXIT_RUN, "out of memory");
  return start(command, device, last - first + 1, argc, argv);
}
