/* What a step's layer statistics say about the training, in numbers and in plain words. */
#ifndef DESCENT_TRAIN_HEALTH_H
#define DESCENT_TRAIN_HEALTH_H

#include "model/network.h"
#include "plan/plan.h"

/* statistics: the layer_statistics buffer (layers, LAYER_SLOTS). health: (layers). */
void health_from_statistics(const descent_network *network, const double *statistics, descent_layer_health *health);

/* Writes the most pressing warning into text, with advice that suits the network and the options, or "" when all is
 * well. `rows`: of the batch that was probed. */
void health_warning(const descent_network *network, const descent_train_options *options, const double *statistics,
                    const descent_layer_health *health, int64_t rows, char *text, size_t size);

#endif
