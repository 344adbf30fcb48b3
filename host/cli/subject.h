/* The network that verify and bench work on: a model file's, or one made for the occasion by --inputs, --hidden,
 * --outputs and so on. */
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
};

/* The loss that --loss asks for; on failure says so and returns the exit code, else EXIT_DONE. */
int subject_loss(const char *command, const struct subject_choice *shape, descent_loss *loss);

/* Loads the model named first in `arguments`, or without one creates the chosen network. A model together with options
 * that would shape another network (`chosen` is no longer `defaults`) is refused. EXIT_DONE or the exit code. */
int subject_open(const char *command, const struct arguments *arguments, const struct subject *chosen,
                 const struct subject *defaults, uint64_t seed, descent_network **network);

#endif
