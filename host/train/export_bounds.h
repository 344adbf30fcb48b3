/* What an exported network may give: an interval per output, derived from the network's own numbers. */
#ifndef DESCENT_TRAIN_EXPORT_BOUNDS_H
#define DESCENT_TRAIN_EXPORT_BOUNDS_H

#include "backend/interval.h"
#include "model/network.h"

/* For one row of inputs x (inputs), without missing values: outputs (outputs) of descent_predict's meaning hold every
 * value that an evaluation in float32 may arrive at, whatever the order of its sums. `work` has room for
 * export_bounds_room values. */
int64_t export_bounds_room(const descent_network *network);
void export_bounds(const descent_network *network, const float *x, struct interval *work, struct interval *outputs);

#endif
