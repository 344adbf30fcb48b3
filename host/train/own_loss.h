/* A loss of the caller's in place of the network's: computed by a callback on the host from the outputs on the device. */
#ifndef DESCENT_TRAIN_OWN_LOSS_H
#define DESCENT_TRAIN_OWN_LOSS_H

#include "backend/program.h"

struct own_loss {
  descent_loss_function *function; /* NULL: the network's loss is used */
  void *user;
  int64_t n, n_y;        /* outputs K; columns of y */
  float *A, *y, *w, *dA; /* (most rows of a step; n, n_y, 1, n) */
  double total, weight;  /* of an evaluation: the sums of J sum w, and of w */
};

/* The options' loss, with room for steps of `rows` rows; `function` is NULL if there is none. ERROR_MEMORY. */
descent_status own_loss_create(const descent_network *network, const descent_train_options *options, int64_t rows,
                               struct own_loss *loss);
void own_loss_clear(struct own_loss *loss);

/* Of the step whose forward range has run: J into the program's scalars and, by its backward range, the gradients. */
descent_status own_loss_differentiate(struct own_loss *loss, struct program *program, const struct plan_step *step);

/* Adds the rows whose evaluate range has run to the totals. */
descent_status own_loss_add(struct own_loss *loss, const struct program *program, int64_t rows);

#endif
