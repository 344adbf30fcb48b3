/* What verify and bench work on: a network, from a model file or from --inputs, --hidden, --outputs and so on, a device,
 * the options of a training, and the ranks that compute its steps. */
#ifndef DESCENT_CLI_SUBJECT_H
#define DESCENT_CLI_SUBJECT_H

#include "cli/cli.h"
#include "cli/job.h"

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
  struct rank_choice ranks;
  struct job job;
  char device_name[JOB_DEVICE_SIZE]; /* of this rank, where its place among the ranks decides */
};
/* The sets of its options. */
#define SUBJECT_SET(options, values) \
  { options, &(values) }
#define SUBJECT_SETS(s)                                                                            \
  SUBJECT_SET(subject_options, (s)->shape), SUBJECT_SET(network_options, (s)->network),            \
      SUBJECT_SET(optimizer_options, (s)->training), SUBJECT_SET(device_options, (s)->device),     \
      SUBJECT_SET(tuning_options, (s)->training), SUBJECT_SET(micro_batch_options, (s)->training), \
      SUBJECT_SET(rank_options, (s)->ranks)
#define SUBJECT_CHOICE_INIT(inputs, outputs)                                                                    \
  {                                                                                                             \
    {inputs, outputs, "auto"}, NETWORK_CHOICE_INIT, DEVICE_CHOICE_INIT, TRAINING_CHOICE_INIT, RANK_CHOICE_INIT, \
        {NULL, 0, 1, RANK_TIMEOUT}, ""                                                                          \
  }

/* Parses argv into the sets of `syntax` and `arguments`, and checks the choice of ranks. Of several ranks, each keeps its
 * messages from here on. OPTIONS_CONTINUE or the exit code. */
int subject_read(const struct command_syntax *syntax, const struct launcher *launcher, int argc, char **argv,
                 const struct subject *chosen, struct arguments *arguments);

/* Starts or connects the ranks; `code` is how reading the options ended here. From here on only rank 0 prints. The exit
 * code that all ranks agree on. */
int subject_connect(const char *command, const struct launcher *launcher, int argc, char **argv, int code,
                    struct subject *chosen);

/* Collective: resolves the options of the training and opens the device, after the network unless `network` is NULL: the
 * model named first in `arguments`, or without one the chosen network. A model together with options that would shape
 * another network (`chosen` differs from `defaults`) is refused, and so are ranks whose options or networks differ.
 * EXIT_DONE or the exit code, the same on all ranks. */
int subject_open(const struct command_syntax *syntax, const struct arguments *arguments, struct subject *chosen,
                 const struct subject *defaults, descent_network **network, descent_device **device);

/* Whether the options of the training fit together, the network and the device, before anything is printed; EXIT_DONE or
 * the exit code. `who`: the subject of an error message. */
int subject_check(const char *who, const descent_train_options *train, const descent_network *network,
                  const descent_device *device);

/* A line on ranks and micro-batches, where there are several or one that exchanges gradients with itself. */
void subject_print_ranks(const struct subject *chosen);

#endif
