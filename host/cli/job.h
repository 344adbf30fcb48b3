/* A training on several ranks, as the command sees it: rank 0 prints and writes, and all ranks end with one exit code. */
#ifndef DESCENT_CLI_JOB_H
#define DESCENT_CLI_JOB_H

#include <cjson/cJSON.h>

#include "cli/cli.h"
#include "cli/launcher.h"

struct rank_choice {
  const char *ranks; /* "auto" or "off" */
  double seconds;
};
enum { RANK_TIMEOUT = 300 };
#define RANK_CHOICE_INIT \
  { "auto", RANK_TIMEOUT }
extern const struct setting rank_options[];

/* The texts of the choice; EXIT_DONE or the exit code. */
int rank_choice_check(const char *command, const struct rank_choice *choice);

struct job {
  descent_communicator *communicator; /* NULL: one rank */
  int rank, size;
  double seconds; /* after which a rank counts as lost */
};

/* Connects the ranks that the launcher started, unless the choice is off. `code` is how reading the options ended here.
 * From here on failures are kept until job_agree, and notes are printed by rank 0 only. The exit code that all ranks
 * agree on. */
int job_open(const char *command, const struct launcher *launcher, const struct rank_choice *choice, int code,
             struct job *job);
void job_close(struct job *job);

/* Collective: the exit code of the lowest rank that has failed, which rank 0 prints the message of; EXIT_DONE if none has.
 * Where a rank does not answer, it ends the processes of all ranks. */
int job_agree(const char *command, const struct job *job, int code);

/* Collective: whether every rank describes its training as rank 0 does, in an object of numbers and texts. */
int job_compare(const char *command, const struct job *job, const cJSON *description);

/* This rank's threads and its GPU, by its place among the ranks of its host, in `choice`; `name` has room for the device.
 * EXIT_DONE or the exit code. */
enum { JOB_DEVICE_SIZE = 32 };
int job_choose_device(const char *command, const struct job *job, struct device_choice *choice,
                      char name[JOB_DEVICE_SIZE]);

#endif
