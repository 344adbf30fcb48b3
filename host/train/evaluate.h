/* Evaluates a program on a whole dataset. */
#ifndef DESCENT_TRAIN_EVALUATE_H
#define DESCENT_TRAIN_EVALUATE_H

#include "train/own_loss.h"

/* Runs the evaluate range over all rows of the dataset, which is bound to the program, and computes the metrics. `stop`
 * is called between blocks of rows; if it returns true, the evaluation ends with DESCENT_OK and `metrics` is unchanged.
 * Without it (NULL) progress is reported, and ERROR_CANCELLED is possible. `strict`: ERROR_DATA for a row with an input or output that is not finite
 * (extremes.h); otherwise such a row makes measures NaN. `own_loss`: gives the metrics' loss; NULL: the network's does. */
descent_status evaluate_dataset(struct program *program, const descent_network *network, const descent_dataset *dataset,
                                int64_t top_k, bool strict, struct own_loss *own_loss, bool (*stop)(void *user),
                                void *user, descent_metrics *metrics);

/* evaluate_begin sets the totals to which the metrics operation adds. evaluate_mean_loss reads them: totals[0] is the
 * sum of J times weight, totals[1] the sum of the weights, and `loss` their quotient (NaN if no row has weight). */
descent_status evaluate_begin(struct program *program, double loss, double weight);
descent_status evaluate_mean_loss(const struct program *program, double totals[2], double *loss);

#endif
