/* What verify and bench work on: a network, from a model file or from --inputs, --hidden, --outputs and so on, a device
 * and the options of a training. */
#ifndef DESCENT_CLI_SUBJECT_H
#define DESCENT_CLI_SUBJECT_H

#include "cli/cli.h"

struct subject_choice {
  int64_t inputs, outputs;
  const char *loss; /* "auto": by the number of outputs */
};
extern const struct setting subject_options[];

struct subject {
  struct subject_choice shape;
  struct network_choice network;
  struct device_choice device;
  struct training_choice training;
};
/* The sets of its options. */
#define SUBJECT_SET(options, values) \
  { options, &(values) }
#define SUBJECT_SETS(s)                                                                        \
  SUBJECT_SET(subject_options, (s)->shape), SUBJECT_SET(network_options, (s)->network),        \
      SUBJECT_SET(optimizer_options, (s)->training), SUBJECT_SET(device_options, (s)->device), \
      SUBJECT_SET(tuning_options, (s)->training)

/* Resolves the options of the training and opens the device, after the network unless `network` is NULL: the model
 * named first in `arguments`, or without one the chosen network. A model together with options that would shape another
 * network (`chosen` differs from `defaults`) is refused. EXIT_DONE or the exit code. */
int subject_open(const char *command, const struct arguments *arguments, struct subject *chosen,
                 const struct subject *defaults, descent_network **network, descent_device **device);

#endif
