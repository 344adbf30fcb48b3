/* Loading weights into an existing network: from the linear layers of a PyTorch Sequential, or from a model file. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "core/memory.h"
#include "core/number.h"
#include "core/safetensors.h"
#include "core/status.h"
#include "model/network.h"

/* A linear layer of the file: "<prefix><number>.weight" and "<prefix><number>.bias". */
struct linear_layer {
  int64_t number;
  struct safetensors_entry *weight, *bias;
};

static bool has_suffix(const char *name, const char *ending) {
  const size_t length = strlen(name), n = strlen(ending);
  return length > n && strcmp(name + length - n, ending) == 0;
}

static descent_status name_error(const struct safetensors *file, const char *name, const char *problem) {
  return status_set(DESCENT_ERROR_MODEL, "%s: tensor '%s' %s", file->path, json_quote(name).text, problem);
}

/* Splits "<prefix><number>.weight": the number, and the length of the prefix. */
static bool split_name(const char *name, int64_t *number, size_t *prefix) {
  const size_t end = strlen(name) - strlen(".weight");
  char digits[20];
  size_t begin = end;
  while (begin > 0 && name[begin - 1] >= '0' && name[begin - 1] <= '9') begin--;
  if (begin == end || end - begin >= sizeof digits) return false;
  memcpy(digits, name + begin, end - begin);
  digits[end - begin] = '\0';
  *prefix = begin;
  return number_parse_integer(digits, number);
}

static descent_status find_bias(const struct safetensors *file, struct linear_layer *linear) {
  const char *name = linear->weight->name;
  char *other = strdup(name);
  if (!other) return status_set(DESCENT_ERROR_MEMORY, "%s: out of memory for its names", file->path);
  strcpy(other + strlen(name) - strlen("weight"), "bias");
  linear->bias = safetensors_find(file, other);
  free(other);
  return linear->bias ? DESCENT_OK : name_error(file, name, "has no matching bias");
}

static int by_number(const void *a, const void *b) {
  const struct linear_layer *x = a, *y = b;
  return (x->number > y->number) - (x->number < y->number);
}

/* Whether it is one of the tensors that a model file or checkpoint has besides its layers. */
static bool is_auxiliary(const char *name) {
  static const char preprocessing[] = "preprocessing.", checkpoint[] = SAFETENSORS_CHECKPOINT_PREFIX;
  return strncmp(name, preprocessing, sizeof preprocessing - 1) == 0 ||
         strncmp(name, checkpoint, sizeof checkpoint - 1) == 0;
}

/* Finds the file's layers, ordered by number. Other tensors of a model file are skipped; unknown tensors are errors,
 * since they would be lost. `layers` has room for all tensors. */
static descent_status find_layers(const struct safetensors *file, struct linear_layer *layers, int64_t *count) {
  const char *first = NULL;
  size_t first_prefix = 0, prefix = 0;
  descent_status status = DESCENT_OK;
  for (int64_t i = 0; i < file->n; i++) {
    const char *name = file->entries[i].name;
    struct linear_layer linear = {.weight = &file->entries[i]};
    if (has_suffix(name, ".bias") || (file->texts[SAFETENSORS_MODEL] && is_auxiliary(name))) continue;
    if (!has_suffix(name, ".weight") || !split_name(name, &linear.number, &prefix))
      TRY(name_error(file, name,
                     "is not the weight or bias of a numbered linear layer, such as 0.weight or model.2.bias"));
    if (first && (prefix != first_prefix || memcmp(name, first, prefix) != 0))
      TRY(name_error(file, name, "has another prefix than the first one: expected one sequence of layers"));
    first = name;
    first_prefix = prefix;
    TRY(find_bias(file, &linear));
    layers[(*count)++] = linear;
  }
  qsort(layers, (size_t)*count, sizeof *layers, by_number);
done:
  return status;
}

static void shape_text(int rank, int64_t rows, int64_t cols, char *text, size_t size) {
  if (rank == 2)
    snprintf(text, size, "%" PRId64 ", %" PRId64, rows, cols);
  else
    snprintf(text, size, rank ? "%" PRId64 : "", rows);
}

static descent_status check_shape(const struct safetensors *file, const struct safetensors_entry *entry, int32_t layer,
                                  int64_t n_out, int64_t n_in) {
  const int rank = n_in ? 2 : 1;
  if (entry->rank == rank && entry->shape[0] == n_out && (rank == 1 || entry->shape[1] == n_in)) return DESCENT_OK;
  char needs[64], has[64];
  shape_text(rank, n_out, n_in, needs, sizeof needs);
  shape_text(entry->rank, entry->shape[0], entry->shape[1], has, sizeof has);
  return status_set(DESCENT_ERROR_MODEL,
                    "%s: tensor '%s' has shape [%s], but layer %" PRId32 " of the network needs [%s]", file->path,
                    json_quote(entry->name).text, has, layer, needs);
}

static descent_status read_layer(struct safetensors *file, const struct linear_layer *linear,
                                 const descent_network *network, int32_t layer, float *parameters) {
  const struct network_layer *at = &network->layers[layer - 1];
  descent_status status;
  TRY(check_shape(file, linear->weight, layer, at->n_out, at->n_in));
  TRY(check_shape(file, linear->bias, layer, at->n_out, 0));
  TRY(safetensors_read_entry(file, linear->weight, parameters + at->at.W));
  TRY(safetensors_read_entry(file, linear->bias, parameters + at->at.b));
done:
  return status;
}

/* A model file of several networks has no one sequence of layers. */
static descent_status check_plain(const struct safetensors *file) {
  const char *text = file->texts[SAFETENSORS_MODEL];
  cJSON *json = NULL;
  int64_t members;
  descent_status status = DESCENT_OK;
  if (!text) return DESCENT_OK;
  TRY(json_parse(file->path, 0, text, strlen(text), &json));
  if (json_integer(cJSON_GetObjectItemCaseSensitive(json, "members"), &members) && members > 1)
    TRY(status_set(DESCENT_ERROR_MODEL,
                   "%s: an ensemble of %" PRId64
                   " networks: write one of them as a model (descent export --member) and load that",
                   file->path, members));
done:
  cJSON_Delete(json);
  return status;
}

descent_status descent_network_load_weights(descent_network *network, const char *path) {
  struct safetensors file = {0};
  struct linear_layer *layers = NULL;
  float *parameters = NULL;
  int64_t n = 0;
  descent_status status;
  TRY(network_check_unused(network));
  TRY(network_check_plain(network, "load_weights"));
  TRY(argument_check(path, "path"));
  TRY(safetensors_open_any(path, &file));
  TRY(check_plain(&file));
  layers = memory_allocate(file.n, sizeof *layers, "the layers of a file");
  parameters = memory_allocate(network->n_parameters, sizeof *parameters, "the network's parameters");
  if (!layers || !parameters) TRY(DESCENT_ERROR_MEMORY);
  TRY(find_layers(&file, layers, &n));
  if (n != network->n_layers)
    TRY(status_set(DESCENT_ERROR_MODEL, "%s: %" PRId64 " linear layers, but the network has %" PRId32, path, n,
                   network->n_layers));
  for (int32_t l = 1; l <= network->n_layers; l++) TRY(read_layer(&file, &layers[l - 1], network, l, parameters));
  free(network->parameters);
  network->parameters = parameters;
  parameters = NULL;
done:
  safetensors_close(&file);
  free(layers);
  free(parameters);
  return status;
}
