/* The trainer's internals, shared by steps by hand and fit. */
#ifndef DESCENT_TRAIN_TRAINER_H
#define DESCENT_TRAIN_TRAINER_H

#include "backend/program.h"
#include "core/handle.h"
#include "data/dataset.h"
#include "train/staging.h"

/* The gradients of steps by hand. */
struct trainer_gradient {
  enum { GRADIENT_NONE, GRADIENT_READY, GRADIENT_USED } state; /* used: an update has applied them */
  int64_t rows;                                                /* that they come from */
  double loss;                                                 /* J of those rows; NaN where it is the caller's */
  int64_t pass_rows; /* of the last pass, whose values the device holds; 0: there was none */
  bool forwarded;    /* these are of a forward, with the parameters of now */
  float *X;          /* (batch, inputs) the forward's rows, NaN where a cell is missing; NULL until some are */
  bool has_missing;  /* some cells of those rows are */
};

struct descent_trainer {
  struct handle handle;
  descent_network *network;      /* a reference */
  descent_device *device;        /* a reference */
  descent_train_options options; /* class_weights is NULL: the program has them */
  struct program program;
  struct staging staging;
  float *parameters;           /* (n_parameters) read buffer, so that the network is updated as a whole */
  const descent_dataset *data; /* borrowed: the dataset of the steps' rows; NULL for steps by hand and for a source */
  int64_t first_row;           /* row of a source's epoch that is row 0 of those bound; otherwise 0 */
  int64_t steps;               /* steps done */
  double learning_rate;        /* of steps by hand, before the warm-up factor */
  bool evident; /* the last divergence was found in the values here, not only in a sum over parts or ranks */
  struct trainer_gradient gradient;
};

/* Call when the parameters, or the values of a pass on the device, have changed: descent_trainer_backward then needs
 * another forward. */
static inline void trainer_forget_forward(descent_trainer *trainer) { trainer->gradient.forwarded = false; }

/* Call when the loss on the device is not that of the gradients there: an update would refuse one that is not finite. */
descent_status trainer_forget_loss(descent_trainer *trainer);

/* `options` must be checked; `parts`, `batch` and `most_rows` as in program_create_with; `class_weights`: (classes), or
 * NULL. */
descent_status trainer_create(descent_network *network, descent_device *device, const descent_train_options *options,
                              unsigned parts, int64_t batch, int64_t most_rows, const float *class_weights,
                              descent_trainer **trainer);

/* The next step by hand, of this many rows. */
struct plan_step trainer_next_step(const descent_trainer *trainer, int64_t rows);

/* ERROR_ARGUMENT unless a step can have so many rows. */
descent_status trainer_check_rows(const descent_trainer *trainer, int64_t rows);

/* ERROR_ARGUMENT unless the values that the device uses as indices or divisors can be; weights may be NULL. Values of X and
 * regression targets are not checked: a step with one that is not finite diverges. */
descent_status trainer_check_classes(const descent_trainer *trainer, const float *y, int64_t rows);
descent_status trainer_check_weights(const float *weights, int64_t rows);
/* The error of one of them. */
descent_status trainer_refuse_class(const descent_trainer *trainer, int64_t row, double value);
descent_status trainer_refuse_weight(int64_t row, double value);

/* Runs a range of the next step by hand on the rows that are bound, and trainer_check. */
descent_status trainer_run_bound(descent_trainer *trainer, struct plan_range range, int64_t rows,
                                 descent_step_info *info);
/* The same on the caller's rows. */
descent_status trainer_run_rows(descent_trainer *trainer, struct plan_range range, const float *X, const float *y,
                                const float *weights, int64_t rows, descent_step_info *info);

/* The parts of descent_trainer_forward, in their order; gradient.c. */
/* Compiles the backward ranges at the first forward. */
descent_status trainer_prepare_forward(descent_trainer *trainer);
/* Copies rows in which cells are missing, since dX is 0 there. */
descent_status trainer_keep_missing(descent_trainer *trainer, const float *X, int64_t rows);
/* Runs the forward range on the rows that are bound. */
descent_status trainer_run_forward(descent_trainer *trainer, int64_t rows);
/* descent_trainer_backward with dOutputs that are checked or, where NULL, in the device's buffer. */
descent_status trainer_backward(descent_trainer *trainer, const float *dOutputs, float *dX, bool accumulate);
/* ERROR_ARGUMENT unless there has been a forward that it can follow. */
descent_status trainer_check_forwarded(const descent_trainer *trainer);

/* The options' class weights as floats, (classes), from malloc; `*weights` is NULL if the options have none. */
descent_status trainer_class_weights(const descent_network *network, const descent_train_options *options,
                                     float **weights);

/* Which of the steps is the first that was not finite, by the scalars after them; -1: none. */
int64_t trainer_bad_step(const struct plan_step *steps, int64_t n, const double scalars[SCALAR_SLOTS]);

/* Call after running these steps: reads the scalars. Returns ERROR_DIVERGED, with an explanation, if one of the steps
 * was not finite. The program can still be used then; its parameters are those before that step. */
descent_status trainer_check(descent_trainer *trainer, const struct plan_step *steps, int64_t n_steps, int64_t epoch,
                             double scalars[SCALAR_SLOTS]);

/* diverge.c: returns ERROR_DIVERGED; the text names the step, the layer, the likely cause and what to try. Sets
 * trainer->evident. */
descent_status diverge_explain(descent_trainer *trainer, const struct plan_step *step, int64_t epoch,
                               const double scalars[SCALAR_SLOTS]);

/* diverge.c: whether the buffers, which hold this many rows, have a value or a loss that is not finite. */
descent_status diverge_is_seen(const struct program *program, int64_t rows, bool *seen);

/* diverge.c: "the learning rate 1 is too high; try 0.1 or a warm-up" into `cause`. */
void diverge_rate_cause(const descent_trainer *trainer, double learning_rate, char *cause, size_t size);

/* diverge.c: finds the first value that is not finite in elements [offset, offset + count) of a buffer; `position` is
 * relative to offset, -1 if all are finite. */
descent_status diverge_find(const struct program *program, int buffer, int64_t offset, int64_t count,
                            int64_t *position);

#endif
