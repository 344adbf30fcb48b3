/* One writer per export format; each writes atomically. */
#ifndef DESCENT_MODEL_EXPORT_H
#define DESCENT_MODEL_EXPORT_H

#include "model/network.h"

descent_status export_onnx(const descent_network *network, const char *path);
descent_status export_c(const descent_network *network, const char *path);
descent_status export_npz(const descent_network *network, const char *path);

/* Whether every column is one plain input, so that the graph's input is the matrix X. */
static inline bool export_is_matrix(const descent_network *network) {
  return !network->schema.features || network->schema.n_features == network->inputs;
}

/* An offset, minus its float32. */
static inline float export_offset_low(double offset) { return (float)(offset - (double)(float)offset); }

#endif
