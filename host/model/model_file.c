/* A network as a .safetensors file: tensors, and a JSON text that describes the rest.
 *
 *   {"version": 2, "inputs": 30, "layers": [{"width": 16, "activation": "sigmoid"}, ..], "loss": "..",
 *    "normalize": "..", "impute": "..", "columns": [..], "unseen": "..", "target_names": [..], "class_names": [..],
 *    "missing": [..], "numbers": "1234,5", "target_places": [..], "left_out": [..], "svmlight": {..}, "offsets": [..],
 *    "target_offsets": [..], "provenance": "..", "library": "0.3.0"}
 *
 * Version 3 is an ensemble: it has "members": K, at least 2, and the tensors members.0.layers.0.weight, .. instead of
 * layers.0.weight, .. . Plain networks are written as version 2, which earlier releases read.
 * The members from impute to provenance are optional; schema.h describes those from columns to target_offsets; library
 * is the version that wrote the file. Version 1 has "input_names", a list, for columns and "target_name", a text, for
 * target_names. Preprocessing is stored exactly, as tensors: preprocessing.fill (inputs) with impute; .shift and .scale
 * (inputs) unless normalize is none; .target_shift and .target_scale (outputs) for regression. Unknown members and
 * tensors are errors. */
#include "model/model_file.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "core/memory.h"
#include "core/status.h"
#include "core/terms.h"
#include "core/utf8.h"

enum { PLAIN_VERSION = 2, ENSEMBLE_VERSION = 3 };

static const char in_memory[] = "the model in memory"; /* where errors name the path of a file */

enum {
  FIELD_VERSION,
  FIELD_INPUTS,
  FIELD_LAYERS,
  FIELD_LOSS,
  FIELD_NORMALIZE,
  FIELD_IMPUTE,
  FIELD_COLUMNS,
  FIELD_UNSEEN,
  FIELD_TARGET_NAMES,
  FIELD_CLASS_NAMES,
  FIELD_MISSING,
  FIELD_NUMBERS,
  FIELD_TARGET_POSITIONS,
  FIELD_LEFT_OUT,
  FIELD_SVMLIGHT,
  FIELD_OFFSETS,
  FIELD_TARGET_OFFSETS,
  FIELD_PROVENANCE,
  FIELD_LIBRARY,
  FIELD_INPUT_NAMES, /* version 1 */
  FIELD_TARGET_NAME,
  FIELD_MEMBERS, /* version 3 */
  FIELDS
};
static const char *const fields[FIELDS] = {
    "version",        "inputs",      "layers",  "loss",        "normalize",     "impute",   "columns",  "unseen",
    "target_names",   "class_names", "missing", "numbers",     "target_places", "left_out", "svmlight", "offsets",
    "target_offsets", "provenance",  "library", "input_names", "target_name",   "members",
};

/* ---- tensors ---------------------------------------------------------------------------------------------------- */

static void add_vector(struct safetensors_tensor *tensors, int64_t *n, const char *name, int64_t length, float *data) {
  struct safetensors_tensor *tensor = &tensors[(*n)++];
  *tensor = (struct safetensors_tensor){.rank = 1, .shape = {length}, .data = data};
  snprintf(tensor->name, sizeof tensor->name, "%s", name);
}

struct tensor_name {
  char text[sizeof((struct safetensors_tensor *)0)->name];
};

/* "layers.0.weight"; of a member of an ensemble "members.0.layers.0.weight", as PyTorch names the parameters of the
 * networks of a ModuleList. Layers from 0. */
static struct tensor_name name_tensor(int64_t members, int64_t member, int32_t layer, const char *part) {
  struct tensor_name name;
  if (members == 1)
    snprintf(name.text, sizeof name.text, "layers.%" PRId32 ".%s", layer, part);
  else
    snprintf(name.text, sizeof name.text, "members.%" PRId64 ".layers.%" PRId32 ".%s", member, layer, part);
  return name;
}

static void add_layer(struct safetensors_tensor *tensors, int64_t *n, const descent_network *network, int64_t member,
                      int32_t l) {
  const struct network_layer *layer = &network->layers[l];
  float *parameters = network->parameters + member * network->n_parameters;
  struct safetensors_tensor *W = &tensors[(*n)++];
  *W = (struct safetensors_tensor){.rank = 2, .shape = {layer->n_out, layer->n_in}, .data = parameters + layer->at.W};
  strcpy(W->name, name_tensor(network->members, member, l, "weight").text);
  add_vector(tensors, n, name_tensor(network->members, member, l, "bias").text, layer->n_out, parameters + layer->at.b);
}

descent_status model_list_tensors(const descent_network *network, struct safetensors_tensor **list, int64_t *count) {
  struct safetensors_tensor *tensors =
      memory_allocate(2 * network->members * network->n_layers + 5, sizeof *tensors, "the list of a model's tensors");
  if (!tensors) return DESCENT_ERROR_MEMORY;
  int64_t n = 0;
  for (int64_t member = 0; member < network->members; member++)
    for (int32_t l = 0; l < network->n_layers; l++) add_layer(tensors, &n, network, member, l);
  if (network->fill) add_vector(tensors, &n, "preprocessing.fill", network->inputs, network->fill);
  if (network->normalize != DESCENT_NORMALIZE_NONE) {
    add_vector(tensors, &n, "preprocessing.shift", network->inputs, network->shift);
    add_vector(tensors, &n, "preprocessing.scale", network->inputs, network->scale);
  }
  if (loss_is_regression(network->loss)) {
    const int64_t outputs = network_outputs(network);
    add_vector(tensors, &n, "preprocessing.target_shift", outputs, network->y_shift);
    add_vector(tensors, &n, "preprocessing.target_scale", outputs, network->y_scale);
  }
  *list = tensors;
  *count = n;
  return DESCENT_OK;
}

/* ---- saving ----------------------------------------------------------------------------------------------------- */

static descent_status out_of_memory(const char *path) {
  return status_set(DESCENT_ERROR_MEMORY, "%s: not written: out of memory for its metadata", path);
}

/* Adds a text member, which must be UTF-8. NULL adds nothing. */
static descent_status add_text(const char *path, cJSON *object, const char *member, const char *text) {
  size_t bad;
  if (!text) return DESCENT_OK;
  if (!utf8_valid(text, strlen(text), &bad))
    return status_set(DESCENT_ERROR_WRITE, "%s: not written: %s: byte %zu is not UTF-8", path, member, bad);
  return cJSON_AddStringToObject(object, member, text) ? DESCENT_OK : out_of_memory(path);
}

static bool add_layers(cJSON *object, const descent_network *network) {
  cJSON *list = cJSON_AddArrayToObject(object, fields[FIELD_LAYERS]);
  for (int32_t l = 0; l < network->n_layers; l++) {
    cJSON *layer = cJSON_CreateObject();
    bool ok = cJSON_AddNumberToObject(layer, "width", (double)network->layers[l].n_out) &&
              cJSON_AddStringToObject(layer, "activation", descent_activation_name(network->layers[l].activation)) &&
              cJSON_AddItemToArray(list, layer);
    if (!ok) {
      cJSON_Delete(layer);
      return false;
    }
  }
  return list != NULL;
}

descent_status model_describe(const char *path, const descent_network *network, char **text) {
  descent_status status = DESCENT_OK;
  cJSON *object = cJSON_CreateObject();
  const bool ensemble = network->members > 1;
  bool ok =
      cJSON_AddNumberToObject(object, fields[FIELD_VERSION], ensemble ? ENSEMBLE_VERSION : PLAIN_VERSION) &&
      (!ensemble || cJSON_AddNumberToObject(object, fields[FIELD_MEMBERS], (double)network->members)) &&
      cJSON_AddNumberToObject(object, fields[FIELD_INPUTS], (double)network->inputs) && add_layers(object, network) &&
      cJSON_AddStringToObject(object, fields[FIELD_LOSS], descent_loss_name(network->loss)) &&
      cJSON_AddStringToObject(object, fields[FIELD_NORMALIZE], descent_normalize_name(network->normalize)) &&
      (!network->fill || cJSON_AddStringToObject(object, fields[FIELD_IMPUTE], descent_impute_name(network->impute)));
  if (!ok) TRY(out_of_memory(path));
  TRY(schema_write(path, &network->schema, object));
  TRY(add_text(path, object, fields[FIELD_PROVENANCE], network->provenance));
  TRY(add_text(path, object, fields[FIELD_LIBRARY], DESCENT_VERSION));
  *text = cJSON_PrintUnformatted(object);
  if (!*text) TRY(out_of_memory(path));
done:
  cJSON_Delete(object);
  return status;
}

descent_status descent_network_save(const descent_network *network, const char *path) {
  struct safetensors_tensor *tensors = NULL;
  char *metadata = NULL;
  int64_t n;
  descent_status status;
  TRY(handle_check(network, HANDLE_NETWORK, "network"));
  TRY(argument_check(path, "path"));
  TRY(model_describe(path, network, &metadata));
  TRY(model_list_tensors(network, &tensors, &n));
  TRY(safetensors_save(path, metadata, tensors, n));
done:
  free(tensors);
  cJSON_free(metadata);
  return status;
}

descent_status descent_network_save_memory(const descent_network *network, void *data, size_t capacity, size_t *size) {
  struct safetensors_tensor *tensors = NULL;
  char *metadata = NULL;
  int64_t n;
  descent_status status;
  TRY(handle_check(network, HANDLE_NETWORK, "network"));
  TRY(argument_check(size, "size"));
  TRY(model_describe(in_memory, network, &metadata));
  TRY(model_list_tensors(network, &tensors, &n));
  TRY(safetensors_save_memory(in_memory, metadata, tensors, n, data, capacity, size));
done:
  free(tensors);
  cJSON_free(metadata);
  return status;
}

/* ---- loading ---------------------------------------------------------------------------------------------------- */

/* The parsed metadata, before it is checked against the tensors. */
struct description {
  cJSON *json;
  int64_t version, members;
  const cJSON *found[FIELDS];
  int64_t *widths;                 /* (options.layers) */
  descent_activation *activations; /* (options.layers) */
  descent_network_options options;
  descent_normalize normalize;
  descent_impute impute;
};

static descent_status bad_field(const char *path, int field, const char *expected) {
  return status_set(DESCENT_ERROR_MODEL, "%s: metadata: '%s' is not %s", path, fields[field], expected);
}

static descent_status bad_term(const char *path) {
  return status_set(DESCENT_ERROR_MODEL, "%s: metadata: %s", path, descent_last_error());
}

/* A JSON string escaped for the error messages of the term parsers. */
static const char *quote_text(const cJSON *value, struct json_quoted *quoted) {
  *quoted = json_quote(cJSON_IsString(value) ? value->valuestring : "");
  return quoted->text;
}

static descent_status parse_layer(const char *path, const cJSON *object, int32_t layer, struct description *d) {
  enum { WIDTH, ACTIVATION, LAYER_MEMBERS };
  static const char *const layer_fields[LAYER_MEMBERS] = {"width", "activation"};
  const cJSON *found[LAYER_MEMBERS];
  struct json_quoted quoted;
  descent_status status;
  TRY(json_fields(path, object, layer_fields, LAYER_MEMBERS, found));
  if (!json_integer(found[WIDTH], &d->widths[layer]) || d->widths[layer] < 1)
    return status_set(DESCENT_ERROR_MODEL, "%s: metadata: the width of layer %" PRId32 " is not a positive integer",
                      path, layer + 1);
  if (descent_activation_parse(quote_text(found[ACTIVATION], &quoted), &d->activations[layer]) != DESCENT_OK)
    status = bad_term(path);
done:
  return status;
}

static descent_status parse_layers(const char *path, struct description *d) {
  const cJSON *list = d->found[FIELD_LAYERS], *object;
  const int n = cJSON_IsArray(list) ? cJSON_GetArraySize(list) : 0;
  if (n < 1 || n > NETWORK_MAX_LAYERS) return bad_field(path, FIELD_LAYERS, "a list of 1 to 10000 layers");
  descent_status status = DESCENT_OK;
  d->widths = memory_allocate(n, sizeof *d->widths, "the widths of a model's layers");
  d->activations = memory_allocate(n, sizeof *d->activations, "the activations of a model's layers");
  if (!d->widths || !d->activations) return DESCENT_ERROR_MEMORY;
  cJSON_ArrayForEach(object, list) TRY(parse_layer(path, object, d->options.layers++, d));
  d->options.widths = d->widths;
  d->options.activations = d->activations;
done:
  return status;
}

static descent_status parse_members(const char *path, struct description *d) {
  d->members = 1;
  if (d->version < ENSEMBLE_VERSION) {
    if (!d->found[FIELD_MEMBERS]) return DESCENT_OK;
    return status_set(DESCENT_ERROR_MODEL, "%s: metadata: 'members' is not part of format version %" PRId64, path,
                      d->version);
  }
  if (json_integer(d->found[FIELD_MEMBERS], &d->members) && d->members > 1) return DESCENT_OK;
  return bad_field(path, FIELD_MEMBERS, "an integer of at least 2");
}

static descent_status parse_description(const char *path, const char *text, struct description *d) {
  char where[512];
  snprintf(where, sizeof where, "%.400s: metadata", path);
  struct json_quoted quoted;
  descent_status status;
  d->options = descent_network_options_default();
  TRY(json_parse(where, 0, text, strlen(text), &d->json));
  TRY(json_version(where, d->json, ENSEMBLE_VERSION, DESCENT_ERROR_MODEL, &d->version));
  TRY(json_fields(where, d->json, fields, FIELDS, d->found));
  if (!json_integer(d->found[FIELD_INPUTS], &d->options.inputs) || d->options.inputs < 1)
    return bad_field(path, FIELD_INPUTS, "a positive integer");
  TRY(parse_members(path, d));
  TRY(parse_layers(path, d));
  if (descent_loss_parse(quote_text(d->found[FIELD_LOSS], &quoted), &d->options.loss) != DESCENT_OK ||
      descent_normalize_parse(quote_text(d->found[FIELD_NORMALIZE], &quoted), &d->normalize) != DESCENT_OK)
    status = bad_term(path);
  if (status == DESCENT_OK && d->found[FIELD_IMPUTE] &&
      descent_impute_parse(quote_text(d->found[FIELD_IMPUTE], &quoted), &d->impute) != DESCENT_OK)
    status = bad_term(path);
done:
  return status;
}

/* Checks, before any large allocation, that the file has the tensors of every member of an ensemble. */
static descent_status check_members(const struct safetensors *file, const struct description *d) {
  static const char *const parts[] = {"weight", "bias"};
  for (int64_t member = 0; d->members > 1 && member < d->members; member++)
    for (int32_t i = 0; i < 2 * d->options.layers; i++) {
      const struct tensor_name name = name_tensor(d->members, member, i / 2, parts[i % 2]);
      if (!safetensors_find(file, name.text))
        return status_set(DESCENT_ERROR_MODEL,
                          "%s: tensor '%s' is missing, but the metadata states %" PRId64 " members", file->path,
                          name.text, d->members);
    }
  return DESCENT_OK;
}

/* Checks, before any large allocation, that the described layers do not exceed the data of the file. */
static descent_status check_size(const struct safetensors *file, const struct description *d) {
  int64_t values = 0, n_in = d->options.inputs;
  const int64_t each = file->data_bytes / (int64_t)sizeof(float) / d->members; /* values of a member */
  for (int32_t l = 0; l < d->options.layers; l++) {
    const int64_t n_out = d->widths[l]; /* at most 2^53: sums of two do not overflow */
    int64_t weights;
    if (!size_product(n_in + 1, n_out, &weights) || weights > each - values)
      return status_set(DESCENT_ERROR_MODEL,
                        "%s: layer %" PRId32 ", %" PRId64 " x %" PRId64 ", exceeds the file's %" PRId64 " values%s",
                        file->path, l + 1, n_out, n_in, each, d->members > 1 ? " of each member" : "");
    values += weights;
    n_in = n_out;
  }
  return DESCENT_OK;
}

static descent_status copy_text(const char *path, const struct description *d, int field, char **text) {
  const cJSON *value = d->found[field];
  if (!value) return DESCENT_OK;
  if (!cJSON_IsString(value)) return bad_field(path, field, "a string");
  *text = strdup(value->valuestring);
  return *text ? DESCENT_OK : status_set(DESCENT_ERROR_MEMORY, "%s: out of memory for '%s'", path, fields[field]);
}

static descent_status check_scales(const char *path, const char *name, const float *scale, int64_t n) {
  for (int64_t i = 0; i < n; i++)
    if (!(scale[i] > 0))
      return status_set(DESCENT_ERROR_MODEL, "%s: preprocessing.%s[%" PRId64 "] is %g, not > 0", path, name, i,
                        (double)scale[i]);
  return DESCENT_OK;
}

static descent_status fill_schema(const char *path, const struct description *d, descent_network *network) {
  char where[512];
  snprintf(where, sizeof where, "%.400s: metadata", path);
  const bool first = d->version == 1;
  const int64_t targets = network->classes ? 1 : network_outputs(network);
  const struct schema_members members = {.columns = d->found[first ? FIELD_INPUT_NAMES : FIELD_COLUMNS],
                                         .unseen = d->found[FIELD_UNSEEN],
                                         .target_names = d->found[first ? FIELD_TARGET_NAME : FIELD_TARGET_NAMES],
                                         .class_names = d->found[FIELD_CLASS_NAMES],
                                         .missing = d->found[FIELD_MISSING],
                                         .numbers = d->found[FIELD_NUMBERS],
                                         .target_positions = d->found[FIELD_TARGET_POSITIONS],
                                         .left_out = d->found[FIELD_LEFT_OUT],
                                         .svmlight = d->found[FIELD_SVMLIGHT],
                                         .offsets = d->found[FIELD_OFFSETS],
                                         .target_offsets = d->found[FIELD_TARGET_OFFSETS]};
  return schema_read(where, &members, network->inputs, targets, network->classes, &network->schema);
}

static descent_status fill_network(struct safetensors *file, const struct description *d, descent_network *network) {
  const char *path = file->path;
  struct safetensors_tensor *tensors = NULL;
  int64_t n;
  descent_status status;
  network->normalize = d->normalize;
  network->impute = d->impute;
  if (d->found[FIELD_IMPUTE]) {
    network->fill = memory_allocate(network->inputs, sizeof *network->fill, "the values of missing cells");
    if (!network->fill) return DESCENT_ERROR_MEMORY;
  }
  TRY(model_list_tensors(network, &tensors, &n));
  TRY(safetensors_read(file, tensors, n));
  TRY(check_scales(path, "scale", network->scale, network->inputs));
  TRY(check_scales(path, "target_scale", network->y_scale, network_outputs(network)));
  TRY(fill_schema(path, d, network));
  TRY(copy_text(path, d, FIELD_PROVENANCE, &network->provenance));
  TRY(copy_text(path, d, FIELD_LIBRARY, &network->library));
done:
  free(tensors);
  return status;
}

/* Reads the step of a checkpoint; see checkpoint/checkpoint.h for the rest. */
static descent_status read_step(const struct safetensors *file, descent_network *network) {
  const char *text = file->texts[SAFETENSORS_CHECKPOINT];
  cJSON *json = NULL;
  descent_status status = DESCENT_OK;
  if (!text) return DESCENT_OK;
  TRY(json_parse(file->path, 0, text, strlen(text), &json));
  if (!json_integer(cJSON_GetObjectItemCaseSensitive(json, "step"), &network->checkpoint_step))
    TRY(status_set(DESCENT_ERROR_MODEL, "%s: checkpoint: missing step", file->path));
done:
  cJSON_Delete(json);
  return status;
}

/* Rejects data files and files of other programs. */
static descent_status check_kind(const struct safetensors *file) {
  if (file->texts[SAFETENSORS_MODEL]) return DESCENT_OK;
  if (file->texts[SAFETENSORS_DATA])
    return status_set(DESCENT_ERROR_DATA, "%s: holds data, not a model (the model comes first on the command line)",
                      file->path);
  return status_set(DESCENT_ERROR_MODEL,
                    "%s: not a model of this program: a .safetensors file without 'descent' in its __metadata__",
                    file->path);
}

/* Closes the file. */
static descent_status load(struct safetensors *file, descent_network **network) {
  const char *path = file->path;
  struct description described = {0};
  descent_network *loaded = NULL;
  descent_status status;
  TRY(check_kind(file));
  TRY(parse_description(path, file->texts[SAFETENSORS_MODEL], &described));
  TRY(check_members(file, &described));
  TRY(check_size(file, &described));
  status = network_create(&described.options, described.members, &loaded);
  if (status == DESCENT_ERROR_ARGUMENT) status = status_set(DESCENT_ERROR_MODEL, "%s: %s", path, descent_last_error());
  if (status != DESCENT_OK) goto done;
  TRY(fill_network(file, &described, loaded));
  TRY(read_step(file, loaded));
  *network = loaded;
  loaded = NULL;
done:
  descent_network_free(loaded);
  cJSON_Delete(described.json);
  free(described.widths);
  free(described.activations);
  safetensors_close(file);
  return status;
}

descent_status descent_network_load(const char *path, descent_network **network) {
  struct safetensors file;
  descent_status status;
  TRY(argument_check(path, "path"));
  TRY(argument_check(network, "network"));
  TRY(safetensors_open(path, &file));
  status = load(&file, network);
done:
  return status;
}

descent_status descent_network_load_memory(const void *data, size_t size, descent_network **network) {
  struct safetensors file;
  descent_status status;
  TRY(argument_check(data, "data"));
  TRY(argument_check(network, "network"));
  TRY(safetensors_open_memory(in_memory, data, size, &file));
  status = load(&file, network);
done:
  return status;
}
