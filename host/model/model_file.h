/* What a model file says, for whoever writes the same in another container. */
#ifndef DESCENT_MODEL_MODEL_FILE_H
#define DESCENT_MODEL_MODEL_FILE_H

#include "core/safetensors.h"
#include "model/network.h"

/* Every tensor of the network's file; `list` is the caller's to free, the values stay the network's. */
descent_status model_list_tensors(const descent_network *network, struct safetensors_tensor **list, int64_t *count);
/* The rest as JSON, freed by cJSON_free; `path` leads the messages. */
descent_status model_describe(const char *path, const descent_network *network, char **text);

#endif
