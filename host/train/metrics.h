/* Metrics of a network's predictions, accumulated row by row on the host. Every row counts once; example weights affect
 * only the loss, which the device computes. */
#ifndef DESCENT_TRAIN_METRICS_H
#define DESCENT_TRAIN_METRICS_H

#include "model/network.h"

struct metrics_sums;

/* For at most `rows` rows. `top_k` as in descent_evaluate. ERROR_ARGUMENT, ERROR_MEMORY. */
descent_status metrics_create(const descent_network *network, int64_t rows, int64_t top_k, struct metrics_sums **sums);
void metrics_free(struct metrics_sums *sums);

/* One row. values (K): logits of classifiers, where probabilities round to ties; predictions P of regression. y: its
 * class index (1), or its targets (K) in their original units. */
void metrics_add(struct metrics_sums *sums, const float *values, const float *y);

/* Computes the metrics of all rows added. `metrics` takes ownership of arrays of `sums`, which can then only be freed.
 * ERROR_MEMORY. */
descent_status metrics_finish(struct metrics_sums *sums, double loss, descent_metrics *metrics);

#endif
