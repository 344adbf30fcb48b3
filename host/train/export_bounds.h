/* How far an exported network may be from the network: what rounding in float32 does on the way, estimated from the
 * network's own numbers. */
#ifndef DESCENT_TRAIN_EXPORT_BOUNDS_H
#define DESCENT_TRAIN_EXPORT_BOUNDS_H

#include "model/network.h"

/* Rounding errors are taken as independent and of mean 0, each within u = 2^-24 of its result: then they add up as
 * squares do (Higham and Mary 2019, "A new approach to probabilistic rounding error analysis"). Worst cases, where all
 * point the same way, exceed that by the square root of the terms, and grow with each layer until they allow anything.
 * Two evaluations count as equal within EXPORT_ERRORS such errors: errors that all point the same way in a sum of a
 * thousand terms would take 32. */
enum { EXPORT_ERRORS = 64 };

struct export_value {
  double value; /* exact */
  double error; /* of one evaluation in float32: the root of the sum of squares */
};

/* One row x (inputs) through the network: outputs (outputs) mean what descent_predict gives.
 * `work` has room for export_values_room values. */
int64_t export_values_room(const descent_network *network);
void export_values(const descent_network *network, const float *x, struct export_value *work,
                   struct export_value *outputs);

#endif
