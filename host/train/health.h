/* Derives the health of each layer, and a warning, from the layer statistics of a step. */
#ifndef DESCENT_TRAIN_HEALTH_H
#define DESCENT_TRAIN_HEALTH_H

#include "model/network.h"
#include "plan/plan.h"

/* statistics: the layer_statistics buffer, (layers, LAYER_SLOTS). health: (layers). */
void health_from_statistics(const descent_network *network, const double *statistics, descent_layer_health *health);

/* Writes the most important warning into text, with advice for the network and the options, or "" if there is none.
 * `rows`: of the step that the statistics are from. */
void health_warning(const descent_network *network, const descent_train_options *options, const double *statistics,
                    const descent_layer_health *health, int64_t rows, char *text, size_t size);

#endif
