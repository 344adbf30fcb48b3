/* Exports a network as NumPy arrays: every tensor of the model file by name, and `metadata`, its JSON as bytes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/npz.h"
#include "core/status.h"
#include "model/export.h"
#include "model/model_file.h"

descent_status export_npz(const descent_network *network, const char *path) {
  struct safetensors_tensor *tensors = NULL;
  struct npz_array *arrays = NULL;
  char *metadata = NULL, type[24];
  int64_t n;
  descent_status status;
  TRY(model_list_tensors(network, &tensors, &n));
  TRY(model_describe(path, network, &metadata));
  arrays = memory_allocate(n + 1, sizeof *arrays, "the list of a model's arrays");
  if (!arrays) TRY(DESCENT_ERROR_MEMORY);
  for (int64_t i = 0; i < n; i++) {
    const struct safetensors_tensor *t = &tensors[i];
    arrays[i] = (struct npz_array){.name = t->name,
                                   .descr = "<f4",
                                   .rank = t->rank,
                                   .shape = {t->shape[0], t->shape[1]},
                                   .data = t->data,
                                   .bytes = safetensors_count(t) * (int64_t)sizeof *t->data};
  }
  snprintf(type, sizeof type, "|S%zu", strlen(metadata));
  arrays[n] =
      (struct npz_array){.name = "metadata", .descr = type, .data = metadata, .bytes = (int64_t)strlen(metadata)};
  TRY(npz_save(path, true, arrays, n + 1));
done:
  free(arrays);
  free(tensors);
  cJSON_free(metadata);
  return status;
}
