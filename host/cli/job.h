/* A command on several ranks, as it sees them: rank 0 prints and writes, and all ranks end with one exit code. */
#ifndef DESCENT_CLI_JOB_H
#define DESCENT_CLI_JOB_H

#include <cjson/cJSON.h>

#include "cli/cli.h"
#include "cli/launcher.h"

struct rank_choice {
  const char *ranks; /* "auto", "off" or "self" */
  double seconds;
};
enum { RANK_TIMEOUT = 300 };
#define RANK_CHOICE_INIT \
  { "auto", RANK_TIMEOUT }
extern const struct setting rank_options[]; /* follows micro_batch_options, under their heading */

/* Whether the choice can be had with this launcher and device; EXIT_DONE or the exit code. */
int rank_choice_check(const char *command, const struct launcher *launcher, const struct rank_choice *choice,
                      const char *device);

struct job {
  descent_communicator *communicator; /* NULL: one rank, which exchanges nothing */
  int rank, size;
  double seconds; /* after which a rank counts as lost */
  bool saves;     /* rank 0 may have something to save where another rank is lost */
};

/* Where `device` is a range of GPUs and there is no launcher, starts a rank for each: this process becomes mpirun.
 * EXIT_DONE where there is nothing to start, or the exit code. */
int job_start(const char *command, const struct launcher *launcher, const struct rank_choice *choice,
              const char *device, int argc, char **argv);

/* Connects the ranks that the launcher started, unless the choice is off; with self, this process with itself. `code` is how reading the options ended here.
 * From here on failures are kept until job_agree, and notes are printed by rank 0 only. The exit code that all ranks
 * agree on. */
int job_open(const char *command, const struct launcher *launcher, const struct rank_choice *choice, int code,
             struct job *job);
void job_close(struct job *job);

/* Collective: the exit code of the lowest rank that has failed, which rank 0 prints the message of; EXIT_DONE if none has.
 * Where a rank does not answer, it ends the processes of all ranks. */
int job_agree(const char *command, const struct job *job, int code);

/* A recorded configuration as job_compare takes it: without what may differ between ranks, and with the command and the
 * kind of the device. NULL: out of memory. The caller deletes it. */
cJSON *job_describe(const char *command, const cJSON *record, const descent_device *device);
/* Collective: whether every rank describes its work as rank 0 does, in an object of numbers and texts. */
int job_compare(const char *command, const struct job *job, const cJSON *description);

/* This rank's threads and its GPU, by its place among the ranks of its host, in `choice`; `name` has room for the device.
 * EXIT_DONE or the exit code. */
enum { JOB_DEVICE_SIZE = 32 };
int job_choose_device(const char *command, const struct job *job, struct device_choice *choice,
                      char name[JOB_DEVICE_SIZE]);

#endif
