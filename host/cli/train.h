/* What `descent train` was asked for: the options' values and the texts among them made sense of. */
#ifndef DESCENT_CLI_TRAIN_H
#define DESCENT_CLI_TRAIN_H

#include "cli/cli.h"

struct train_values {
  const char *target, *validation, *test;
  const char *validation_targets, *test_targets; /* or NULL */
  descent_task task;
  descent_normalize normalize;
  descent_impute impute;
  struct data_choice data;
  struct network_choice network;
  struct training_choice training;
  const char *weights;      /* or NULL */
  const char *class_weight; /* or NULL */
  struct device_choice device;
  const char *out, *log, *tensorboard, *report, *config;
  bool quiet;
  /* Worked out from the above: */
  const char *data_path;
  const char *validation_path; /* or NULL */
  double validation_fraction;  /* 0 with a path */
  bool validation_given;       /* false: the fraction is the default */
};

/* The command line into `values`, with --config, every text that can be checked before the data is read, and
 * `*record`, the configuration as JSON text (freed by the caller). OPTIONS_GO_ON or the exit code. The strings in
 * `values` live as long as argv and `config`. */
int train_options_read(int argc, char **argv, struct train_values *values, struct option_config *config,
                       cJSON **record);

/* --class-weight for these classes into `weights` (classes) and the options; EXIT_DONE or the exit code. */
int train_class_weights(const struct train_values *values, const descent_dataset *data, double *weights,
                        descent_train_options *options);

#endif
