/* One writer per form in which a network leaves, each whole or not at all. */
#ifndef DESCENT_MODEL_EXPORT_H
#define DESCENT_MODEL_EXPORT_H

#include "model/network.h"

descent_status export_onnx(const descent_network *network, const char *path);
descent_status export_c(const descent_network *network, const char *path);
descent_status export_npz(const descent_network *network, const char *path);

/* Does every column give one number, so that rows of inputs are rows of the table? */
bool export_is_matrix(const descent_network *network);

#endif
