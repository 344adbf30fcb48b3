/* What `descent train` reads and opens before it trains: data, splits, networks, the device. */
#ifndef DESCENT_CLI_TRAINING_H
#define DESCENT_CLI_TRAINING_H

#include "cli/summary.h"
#include "cli/train.h"

extern const char training_command[]; /* "descent train", in messages */

/* The rows of one training. */
struct training_rows {
  descent_dataset *others, *fold;               /* of a cross-validation, else NULL */
  descent_dataset *kept, *held_out;             /* NULL without a split */
  const descent_dataset *training, *validation; /* to train on; to measure on, or NULL */
};

struct training {
  const char *command; /* in notes about the data; NULL: descent train */
  struct train_values values;
  struct option_config config;
  cJSON *record;             /* the configuration */
  descent_dataset *data;     /* the whole file */
  struct training_rows rows; /* of a cross-validation: of fold 0 */
  descent_dataset *validation_file, *test;
  double *class_weights;
  descent_network *network; /* with the preprocessing of `rows` and the weights of --seed */
  descent_device *device;
  struct job job;
  char device_name[JOB_DEVICE_SIZE];
};

/* Reads, opens and checks everything, on all ranks; rank 0 reports from here on. EXIT_DONE or the exit code. */
int training_open(struct training *t);
void training_clear(struct training *t);

/* The rows of fold `fold` (of no cross-validation: of the one training), with a share held out to validate on. */
int training_split(const struct training *t, int64_t fold, struct training_rows *rows);
void training_rows_clear(struct training_rows *rows);
/* A network for the data with the weights of the seed or of --weights, then its preprocessing by the rows. */
int training_network_create(const struct training *t, uint64_t seed, descent_network **network);
int training_network_fit(const struct training *t, const struct training_rows *rows, descent_network *network);
/* Both: a network for the rows, with their preprocessing and the weights of the seed or of --weights. */
int training_network(const struct training *t, const struct training_rows *rows, uint64_t seed,
                     descent_network **network);

/* What is to be trained, without how several networks are. */
struct summary training_summary(const struct training *t);
/* The banner; nothing with --quiet. `how`: several networks are trained, in words; NULL for one. */
void training_print_summary(const struct training *t, const char *how);

#endif
