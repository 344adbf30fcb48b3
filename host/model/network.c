/* The network in host memory: creation, with every size checked before allocation, access to parameters, and getters.
 * Invariant: the gaps between the segments of the flat buffer are 0. */
#include "model/network.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/number.h"
#include "core/options.h"
#include "core/status.h"
#include "core/terms.h"
#include "core/utf8.h"

/* ---- creation --------------------------------------------------------------------------------------------------- */

static descent_activation option_activation(const descent_network_options *options, int32_t layer) {
  if (options->activations) return options->activations[layer - 1];
  return layer == options->layers ? DESCENT_ACTIVATION_IDENTITY : DESCENT_ACTIVATION_RELU;
}

static descent_status check_output(const descent_network_options *options) {
  const int32_t last = options->layers;
  const int64_t outputs = options->widths[last - 1];
  const descent_activation activation = option_activation(options, last);
  const char *loss = descent_loss_name(options->loss);
  if (loss_is_regression(options->loss)) return DESCENT_OK;
  if (activation != DESCENT_ACTIVATION_IDENTITY)
    return status_set(DESCENT_ERROR_ARGUMENT, "layer %" PRId32 ": %s takes logits: activation must be identity, not %s",
                      last, loss, descent_activation_name(activation));
  if (options->loss == DESCENT_LOSS_BINARY_CROSS_ENTROPY && outputs != 1)
    return status_set(DESCENT_ERROR_ARGUMENT, "layer %" PRId32 ": %s needs 1 output, not %" PRId64, last, loss,
                      outputs);
  if (options->loss == DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY && outputs < 2)
    return status_set(DESCENT_ERROR_ARGUMENT, "layer %" PRId32 ": %s needs at least 2 outputs, not %" PRId64, last,
                      loss, outputs);
  return DESCENT_OK;
}

static descent_status check_options(const descent_network_options *options) {
  if (options->inputs < 1)
    return status_set(DESCENT_ERROR_ARGUMENT, "a network needs at least 1 input, not %" PRId64, options->inputs);
  if (options->layers < 1 || options->layers > NETWORK_MAX_LAYERS)
    return status_set(DESCENT_ERROR_ARGUMENT, "a network has 1 to %d layers, not %" PRId32, NETWORK_MAX_LAYERS,
                      options->layers);
  if (!options->widths) return status_set(DESCENT_ERROR_ARGUMENT, "the layers' widths are missing");
  if ((unsigned)options->loss >= N_LOSSES)
    return status_set(DESCENT_ERROR_ARGUMENT, "unknown loss %d", (int)options->loss);
  for (int32_t l = 1; l <= options->layers; l++) {
    if (options->widths[l - 1] < 1)
      return status_set(DESCENT_ERROR_ARGUMENT, "layer %" PRId32 ": width must be at least 1, not %" PRId64, l,
                        options->widths[l - 1]);
    if ((unsigned)option_activation(options, l) >= N_ACTIVATIONS)
      return status_set(DESCENT_ERROR_ARGUMENT, "layer %" PRId32 ": unknown activation %d", l,
                        (int)option_activation(options, l));
  }
  return check_output(options);
}

/* Rounds up to a multiple of PARAMETER_ALIGN; false on overflow. */
static bool align_up(int64_t n, int64_t *aligned) {
  if (__builtin_add_overflow(n, PARAMETER_ALIGN - 1, aligned)) return false;
  *aligned -= *aligned % PARAMETER_ALIGN;
  return true;
}

/* Places W and b from `begin`; false when the offsets overflow. */
static bool place_layer(struct network_layer *layer, int64_t begin) {
  struct parameter_segment *at = &layer->at;
  int64_t weights, end;
  *at = (struct parameter_segment){.W = begin, .begin = begin};
  return size_product(layer->n_in, layer->n_out, &weights) && !__builtin_add_overflow(begin, weights, &end) &&
         align_up(end, &at->b) && !__builtin_add_overflow(at->b, layer->n_out, &end) && align_up(end, &at->end);
}

static descent_status create_layers(const descent_network_options *options, descent_network *network) {
  network->layers = memory_allocate(options->layers, sizeof *network->layers, "the network's layers");
  if (!network->layers) return DESCENT_ERROR_MEMORY;
  network->n_layers = options->layers;
  int64_t n_in = options->inputs;
  for (int32_t l = 1; l <= options->layers; l++) {
    struct network_layer *layer = &network->layers[l - 1];
    *layer = (struct network_layer){
        .n_in = n_in, .n_out = options->widths[l - 1], .activation = option_activation(options, l)};
    if (!place_layer(layer, network->n_parameters))
      return status_set(DESCENT_ERROR_MEMORY,
                        "layer %" PRId32 ": %" PRId64 " x %" PRId64 " weights exceed the address space", l,
                        layer->n_out, layer->n_in);
    network->n_parameters = layer->at.end;
    n_in = layer->n_out;
  }
  return DESCENT_OK;
}

/* Room for those of so many members. */
static descent_status create_parameters(int64_t members, descent_network *network) {
  int64_t count;
  if (!size_product(members, network->n_parameters, &count))
    return status_set(DESCENT_ERROR_MEMORY, "%" PRId64 " members of %" PRId64 " parameters exceed the address space",
                      members, network->n_parameters);
  int32_t largest = 1; /* named in the error message */
  for (int32_t l = 2; l <= network->n_layers; l++) {
    const struct parameter_segment *at = &network->layers[l - 1].at, *most = &network->layers[largest - 1].at;
    if (at->end - at->begin > most->end - most->begin) largest = l;
  }
  const struct network_layer *layer = &network->layers[largest - 1];
  char what[160];
  if (members > 1)
    snprintf(what, sizeof what, "%" PRId64 " members of %" PRId64 " parameters: use fewer", members,
             network->n_parameters);
  else
    snprintf(what, sizeof what,
             "%" PRId64 " parameters, most of them in layer %" PRId32 " (%" PRId64 " x %" PRId64
             " weights): use narrower layers",
             network->n_parameters, largest, layer->n_out, layer->n_in);
  network->parameters = memory_allocate(count, sizeof *network->parameters, what);
  if (!network->parameters) return DESCENT_ERROR_MEMORY;
  network->members = members;
  return DESCENT_OK;
}

/* Preprocessing that changes nothing: shift 0, scale 1. */
static descent_status create_preprocessing(descent_network *network) {
  const int64_t inputs = network->inputs, outputs = network_outputs(network);
  network->shift = memory_allocate(inputs, sizeof(float), "the inputs' shift");
  network->scale = memory_allocate(inputs, sizeof(float), "the inputs' scale");
  network->y_shift = memory_allocate(outputs, sizeof(float), "the targets' shift");
  network->y_scale = memory_allocate(outputs, sizeof(float), "the targets' scale");
  if (!network->shift || !network->scale || !network->y_shift || !network->y_scale) return DESCENT_ERROR_MEMORY;
  for (int64_t j = 0; j < inputs; j++) network->scale[j] = 1;
  for (int64_t k = 0; k < outputs; k++) network->y_scale[k] = 1;
  return DESCENT_OK;
}

static int64_t count_classes(descent_loss loss, int64_t outputs) {
  if (loss == DESCENT_LOSS_BINARY_CROSS_ENTROPY) return 2;
  return loss == DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY ? outputs : 0;
}

static void network_clear(void *object) {
  descent_network *network = object;
  schema_clear(&network->schema);
  free(network->provenance);
  free(network->library);
  free(network->fill);
  free(network->shift);
  free(network->scale);
  free(network->y_shift);
  free(network->y_scale);
  free(network->parameters);
  free(network->layers);
}

descent_status network_create(const descent_network_options *options, int64_t members, descent_network **network) {
  descent_network *created = NULL;
  descent_status status;
  TRY(check_options(options));
  created = handle_create(HANDLE_NETWORK, sizeof *created, network_clear, "the network");
  if (!created) return DESCENT_ERROR_MEMORY;
  created->inputs = options->inputs;
  created->loss = options->loss;
  created->normalize = DESCENT_NORMALIZE_NONE;
  created->checkpoint_step = -1;
  created->classes = count_classes(options->loss, options->widths[options->layers - 1]);
  TRY(create_layers(options, created));
  TRY(create_parameters(members, created));
  TRY(create_preprocessing(created));
  *network = created;
  created = NULL;
done:
  descent_network_free(created);
  return status;
}

descent_status descent_network_create(const descent_network_options *options, descent_network **network) {
  descent_network_options complete;
  descent_status status;
  TRY(argument_check(network, "network"));
  TRY(complete_network_options(options, &complete));
  status = network_create(&complete, 1, network);
done:
  return status;
}

descent_status network_check_unused(const descent_network *network) {
  const descent_status status = handle_check(network, HANDLE_NETWORK, "network");
  if (status != DESCENT_OK) return status;
  if (__atomic_load_n(&network->trainers, __ATOMIC_RELAXED) == 0) return DESCENT_OK;
  return status_set(DESCENT_ERROR_ARGUMENT,
                    "network: in use by a trainer, which would overwrite the change: free the trainer first");
}

descent_status network_check_plain(const descent_network *network, const char *what) {
  if (network->members == 1) return DESCENT_OK;
  return status_set(DESCENT_ERROR_UNSUPPORTED,
                    "%s: an ensemble of %" PRId64 " networks: use its members (descent_network_member)", what,
                    network->members);
}

void descent_network_free(descent_network *network) { handle_close(network, HANDLE_NETWORK); }

static descent_status copy_text(const char *text, const char *what, char **copy) {
  *copy = text ? strdup(text) : NULL;
  if (*copy || !text) return DESCENT_OK;
  return status_set(DESCENT_ERROR_MEMORY, "cannot allocate %zu bytes of %s", strlen(text), what);
}

/* What comes beside shape and parameters, into a network of the same shape that has none of it. */
static descent_status copy_contents(const descent_network *network, descent_network *copy) {
  const size_t inputs = (size_t)network->inputs * sizeof(float),
               outputs = (size_t)network_outputs(network) * sizeof(float);
  descent_status status;
  memcpy(copy->shift, network->shift, inputs);
  memcpy(copy->scale, network->scale, inputs);
  memcpy(copy->y_shift, network->y_shift, outputs);
  memcpy(copy->y_scale, network->y_scale, outputs);
  copy->normalize = network->normalize;
  copy->impute = network->impute;
  copy->checkpoint_step = network->checkpoint_step;
  if (network->fill) {
    copy->fill = memory_allocate(network->inputs, sizeof *copy->fill, "the values of missing cells");
    if (!copy->fill) return DESCENT_ERROR_MEMORY;
    memcpy(copy->fill, network->fill, inputs);
  }
  TRY(schema_copy(&network->schema, &copy->schema));
  TRY(copy_text(network->provenance, "provenance", &copy->provenance));
  TRY(copy_text(network->library, "the library's version", &copy->library));
done:
  return status;
}

descent_status network_copy_frame(const descent_network *network, int64_t members, descent_network **copy) {
  descent_network_options options = descent_network_options_default();
  descent_activation *activations = NULL;
  int64_t *widths = NULL;
  descent_network *created = NULL;
  descent_status status;
  widths = memory_allocate(network->n_layers, sizeof *widths, "the widths of the layers");
  activations = memory_allocate(network->n_layers, sizeof *activations, "the activations of the layers");
  if (!widths || !activations) TRY(DESCENT_ERROR_MEMORY);
  for (int32_t l = 0; l < network->n_layers; l++) {
    widths[l] = network->layers[l].n_out;
    activations[l] = network->layers[l].activation;
  }
  options.inputs = network->inputs, options.layers = network->n_layers, options.loss = network->loss;
  options.widths = widths, options.activations = activations;
  TRY(network_create(&options, members, &created));
  TRY(copy_contents(network, created));
  *copy = created;
  created = NULL;
done:
  descent_network_free(created);
  free(activations);
  free(widths);
  return status;
}

descent_status descent_network_clone(const descent_network *network, descent_network **clone) {
  descent_network *copy = NULL;
  descent_status status;
  TRY(handle_check(network, HANDLE_NETWORK, "network"));
  TRY(argument_check(clone, "clone"));
  TRY(network_copy_frame(network, network->members, &copy));
  memcpy(copy->parameters, network->parameters,
         (size_t)(network->members * network->n_parameters) * sizeof *copy->parameters);
  *clone = copy;
done:
  return status;
}

/* ---- parameters ------------------------------------------------------------------------------------------------- */

/* Layer `layer`, from 1. */
static descent_status find_layer(const descent_network *network, int32_t layer, const struct network_layer **found) {
  if (layer < 1 || layer > network->n_layers)
    return status_set(DESCENT_ERROR_ARGUMENT, "layer %" PRId32 " is out of range: the network has layers 1 to %" PRId32,
                      layer, network->n_layers);
  *found = &network->layers[layer - 1];
  return DESCENT_OK;
}

descent_status descent_network_get_layer(const descent_network *network, int32_t layer, float *W, float *b) {
  const struct network_layer *at = NULL;
  descent_status status;
  TRY(handle_check(network, HANDLE_NETWORK, "network"));
  TRY(network_check_plain(network, "get_layer"));
  TRY(find_layer(network, layer, &at));
  if (W) memcpy(W, network->parameters + at->at.W, (size_t)(at->n_out * at->n_in) * sizeof *W);
  if (b) memcpy(b, network->parameters + at->at.b, (size_t)at->n_out * sizeof *b);
done:
  return status;
}

descent_status network_check_finite(int32_t layer, const char *what, const float *values, int64_t n) {
  const int64_t i = values ? number_find_non_finite(values, n) : n;
  if (i == n) return DESCENT_OK;
  return status_set(DESCENT_ERROR_ARGUMENT, "layer %" PRId32 ": %s[%" PRId64 "] is %g: must be finite", layer, what, i,
                    (double)values[i]);
}

descent_status descent_network_set_layer(descent_network *network, int32_t layer, const float *W, const float *b) {
  const struct network_layer *at = NULL;
  descent_status status;
  TRY(network_check_unused(network));
  TRY(network_check_plain(network, "set_layer"));
  TRY(find_layer(network, layer, &at));
  TRY(network_check_finite(layer, "W", W, at->n_out * at->n_in));
  TRY(network_check_finite(layer, "b", b, at->n_out));
  if (W) memcpy(network->parameters + at->at.W, W, (size_t)(at->n_out * at->n_in) * sizeof *W);
  if (b) memcpy(network->parameters + at->at.b, b, (size_t)at->n_out * sizeof *b);
done:
  return status;
}

/* ---- getters ---------------------------------------------------------------------------------------------------- */

/* The network, or one without layers instead of NULL and of a dead handle. */
static const descent_network *or_none(const descent_network *network) {
  static const descent_network none = {.checkpoint_step = -1};
  return handle_alive(network, HANDLE_NETWORK) ? network : &none;
}

int64_t descent_network_inputs(const descent_network *network) { return or_none(network)->inputs; }

int32_t descent_network_layers(const descent_network *network) { return or_none(network)->n_layers; }

int64_t descent_network_outputs(const descent_network *network) {
  return handle_alive(network, HANDLE_NETWORK) ? network_outputs(network) : 0;
}

int64_t descent_network_width(const descent_network *network, int32_t layer) {
  network = or_none(network);
  if (layer < 0 || layer > network->n_layers) return 0;
  return layer == 0 ? network->inputs : network->layers[layer - 1].n_out;
}

descent_activation descent_network_activation(const descent_network *network, int32_t layer) {
  network = or_none(network);
  if (layer < 1 || layer > network->n_layers) return DESCENT_ACTIVATION_IDENTITY;
  return network->layers[layer - 1].activation;
}

descent_loss descent_network_loss(const descent_network *network) { return or_none(network)->loss; }

descent_task descent_network_task(const descent_network *network) {
  if (!handle_alive(network, HANDLE_NETWORK)) return DESCENT_TASK_AUTO;
  switch (network->loss) {
    case DESCENT_LOSS_BINARY_CROSS_ENTROPY: return DESCENT_TASK_BINARY;
    case DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY: return DESCENT_TASK_CLASSES;
    case DESCENT_LOSS_MEAN_SQUARED_ERROR: break;
  }
  return DESCENT_TASK_REGRESSION;
}

int64_t descent_network_parameters(const descent_network *network) {
  network = or_none(network);
  int64_t count = 0;
  for (int32_t l = 0; l < network->n_layers; l++) count += network->layers[l].n_out * (network->layers[l].n_in + 1);
  return count * network->members;
}

int64_t descent_network_classes(const descent_network *network) { return or_none(network)->classes; }

descent_impute descent_network_impute(const descent_network *network) { return or_none(network)->impute; }

bool descent_network_imputes(const descent_network *network) { return or_none(network)->fill != NULL; }

descent_normalize descent_network_normalize(const descent_network *network) { return or_none(network)->normalize; }

int descent_network_svmlight_base(const descent_network *network) {
  network = or_none(network);
  return network->schema.indexed_columns ? (int)network->schema.first_index : -1;
}

const struct schema *network_schema(const descent_network *network) { return &network->schema; }

const char *descent_network_input_name(const descent_network *network, int64_t input) {
  network = or_none(network);
  return schema_text(network->schema.input_names, network->schema.inputs, input);
}

double descent_network_input_offset(const descent_network *network, int64_t input) {
  network = or_none(network);
  return schema_offset(network->schema.offsets, network->schema.n_offsets, input);
}

double descent_network_target_offset(const descent_network *network, int64_t target) {
  network = or_none(network);
  return schema_offset(network->schema.target_offsets, network->schema.n_target_offsets, target);
}

void descent_network_target_scaling(const descent_network *network, int64_t target, double *shift, double *scale) {
  network = or_none(network);
  const bool known = !network->classes && target >= 0 && target < descent_network_outputs(network);
  if (shift)
    *shift = known ? schema_offset(network->schema.target_offsets, network->schema.n_target_offsets, target) +
                         (double)network->y_shift[target]
                   : 0;
  if (scale) *scale = known ? 1 / (double)network->y_scale[target] : 1;
}

const char *descent_network_target_name(const descent_network *network, int64_t target) {
  network = or_none(network);
  return schema_text(network->schema.target_names, network->schema.targets, target);
}

int64_t descent_network_columns(const descent_network *network) {
  network = or_none(network);
  return network->schema.features ? network->schema.n_features : network->inputs;
}

const char *descent_network_column_name(const descent_network *network, int64_t column) {
  return schema_column_name(&or_none(network)->schema, column);
}

int64_t descent_network_column_categories(const descent_network *network, int64_t column) {
  return schema_column_categories(&or_none(network)->schema, column);
}

const char *descent_network_column_category(const descent_network *network, int64_t column, int64_t category) {
  return schema_column_category(&or_none(network)->schema, column, category);
}

const char *descent_network_class_name(const descent_network *network, int64_t class_index) {
  network = or_none(network);
  return schema_text(network->schema.class_names, network->schema.classes, class_index);
}

const char *descent_network_library(const descent_network *network) {
  network = or_none(network);
  return network->library ? network->library : "";
}

int64_t descent_network_checkpoint_step(const descent_network *network) { return or_none(network)->checkpoint_step; }

const char *descent_network_provenance(const descent_network *network) {
  network = or_none(network);
  return network->provenance ? network->provenance : "";
}

descent_status descent_network_set_provenance(descent_network *network, const char *text) {
  size_t bad;
  char *copy;
  descent_status status;
  TRY(handle_check(network, HANDLE_NETWORK, "network"));
  if (text && !utf8_valid(text, strlen(text), &bad))
    TRY(status_set(DESCENT_ERROR_ARGUMENT, "provenance: byte %zu is not UTF-8", bad));
  TRY(copy_text(text, "provenance", &copy));
  free(network->provenance);
  network->provenance = copy;
done:
  return status;
}
