/* The trainer inside: what stepping by hand and fit share. */
#ifndef DESCENT_TRAIN_TRAINER_H
#define DESCENT_TRAIN_TRAINER_H

#include "backend/program.h"
#include "data/dataset.h"

struct descent_trainer {
  descent_network *network;      /* borrowed */
  descent_train_options options; /* class_weights NULL: they are in the program */
  struct program program;
  float *parameters;           /* read from the device to here first: the network gets all of them or none */
  const descent_dataset *data; /* borrowed: what its steps' rows are of; NULL when stepped by hand */
  int64_t steps;               /* done */
  double learning_rate;        /* of steps by hand, before the warm-up */
};

/* Checked options; `batch` and `most_rows` as in program_create; `class_weights` (classes) as floats or NULL. */
descent_status trainer_create(descent_network *network, descent_device *device, const descent_train_options *options,
                              int64_t batch, int64_t most_rows, const float *class_weights, descent_trainer **trainer);

/* The options' class weights as floats, (classes); `*weights` is NULL when they give none. Freed by free(). */
descent_status trainer_class_weights(const descent_network *network, const descent_train_options *options,
                                     float **weights);

/* After run() of these steps: reads the scalars; ERROR_DIVERGED, explained, when one of the steps was not finite. The
 * program may go on afterwards, from the parameters before that step. */
descent_status trainer_check(descent_trainer *trainer, const struct plan_step *steps, int64_t n_steps, int64_t epoch,
                             double scalars[SCALAR_SLOTS]);

/* diverge.c: sets the error text: which step, which layer, the likely cause, what to try. */
descent_status diverge_explain(const descent_trainer *trainer, const struct plan_step *step, int64_t epoch,
                               const double scalars[SCALAR_SLOTS]);

/* diverge.c: "the learning rate 1 is too high; try 0.1 or a warm-up". */
void diverge_blame_rate(const descent_trainer *trainer, double learning_rate, char *cause, size_t size);

/* diverge.c: position of the first value in elements [offset, offset + count) of a buffer that is not finite, -1 when
 * all are. */
descent_status diverge_find(const struct program *program, int buffer, int64_t offset, int64_t count,
                            int64_t *position);

#endif
