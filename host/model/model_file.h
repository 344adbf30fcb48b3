/* The contents of a model file, for writers of other containers. */
#ifndef DESCENT_MODEL_MODEL_FILE_H
#define DESCENT_MODEL_MODEL_FILE_H

#include "core/safetensors.h"
#include "model/network.h"

/* Lists every tensor of the network's file. The caller frees `list`; the network owns the values. */
descent_status model_list_tensors(const descent_network *network, struct safetensors_tensor **list, int64_t *count);
/* Everything else as JSON, freed by cJSON_free; messages start with `path`. */
descent_status model_describe(const char *path, const descent_network *network, char **text);

#endif
