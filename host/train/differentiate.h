/* From dJ/d outputs to the gradients of parameters and inputs; for trainers and predictors. */
#ifndef DESCENT_TRAIN_DIFFERENTIATE_H
#define DESCENT_TRAIN_DIFFERENTIATE_H

#include "backend/program.h"

/* ERROR_ARGUMENT, with row and output, unless dOutputs (rows, K) is finite. */
descent_status differentiate_check(const float *dOutputs, int64_t rows, int64_t K);
/* The error of element `at` of it. */
descent_status differentiate_refuse(int64_t at, int64_t K, double value);

/* Runs the program's backward range on the rows of its last forward or predict range; dOutputs (step->rows, K), or
 * NULL where the buffer dA holds it. */
descent_status differentiate_outputs(struct program *program, const struct plan_step *step, const float *dOutputs);

/* After differentiate_outputs: dX (step->rows, inputs) per unit of the raw inputs; 0 where X, of the same shape or NULL, is
 * NaN. */
descent_status differentiate_inputs(struct program *program, const descent_network *network,
                                    const struct plan_step *step, const float *X, float *dX);

#endif
