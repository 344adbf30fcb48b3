/* One network in training, alone or as one of many: what its callbacks do, and its records. */
#ifndef DESCENT_CLI_RUN_H
#define DESCENT_CLI_RUN_H

#include "cli/records.h"
#include "cli/training.h"
#include "report/progress.h"

/* What the runs of a command share. */
struct run_group {
  struct progress progress;
  int64_t runs;                     /* that train together; 1: alone */
  int64_t saves;                    /* how often SIGUSR1 has asked for a checkpoint */
  int64_t started, resumed;         /* runs that began without a checkpoint, and from one */
  int64_t fewest_steps, most_steps; /* of those that resumed */
  bool noted;                       /* members_note_write was called */
  bool failed;                      /* a record of one could not be written, which ends the training of all */
};

struct run {
  const struct training *training;
  struct run_group *group;
  struct train_values values;  /* the training's, with the places of this run's files */
  struct member_places places; /* those, where they are not the training's */
  char title[32];              /* "member 3: " before what is said; "" alone */
  descent_network *network;
  const struct training_rows *rows;
  struct records records;
  bool learned;       /* the network has weights of the training: an epoch is over, or it was resumed */
  int64_t step;       /* of the last checkpoint */
  const char *folder; /* that has it; NULL before there is one */
  int64_t saves;      /* of the group's, those that were passed on */
  bool tell_saving;   /* say when the checkpoint is there */
};

/* Begins the records and sets the callbacks. `network` and `rows` are borrowed. EXIT_DONE or the exit code. */
int run_open(struct run *run, const struct training *training, struct run_group *group, descent_network *network,
             const struct training_rows *rows);
void run_close(struct run *run); /* after run_open, or of zeros */

/* Whether a signal came or a record of the group failed. */
bool run_stopping(const struct run *run);
/* Whether the network has weights worth saving though its training broke off, after so many steps. */
bool run_kept(const struct run *run, descent_status status, int64_t steps);
/* A line between those of the progress. */
void run_say(struct run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Keeps with a network what made it: enough to make it again, nothing that differs between two equal runs. `result` NULL:
 * of a training that has not come to its end. `ensemble`: what describes its members, or NULL. */
descent_status run_set_provenance(const struct training *t, descent_network *network, const descent_fit_result *result,
                                  const cJSON *ensemble);

#endif
