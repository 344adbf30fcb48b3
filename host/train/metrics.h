/* Measures of a network's predictions, accumulated row by row on the host. Every row counts once: example weights enter
 * the loss, which the device computes, and nothing else. */
#ifndef DESCENT_TRAIN_METRICS_H
#define DESCENT_TRAIN_METRICS_H

#include "model/network.h"

struct metrics_sums;

/* For at most `rows` rows of the network's outputs. `top_k` as in descent_evaluate. */
descent_status metrics_create(const descent_network *network, int64_t rows, int64_t top_k, struct metrics_sums **sums);
void metrics_free(struct metrics_sums *sums);

/* P (K): a row of predict's outputs; y: its class index (1), or its targets (K) in their own units. */
void metrics_add(struct metrics_sums *sums, const float *P, const float *y);

/* Computes the measures of all rows added. Hands the sums' arrays over to `metrics`; the sums can only be freed then.
 */
descent_status metrics_finish(struct metrics_sums *sums, double loss, descent_metrics *metrics);

#endif
