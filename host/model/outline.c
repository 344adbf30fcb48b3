/* The outline of a network: what a plan is built from and rows are checked against, without parameters, for objects
 * that outlive the network. */
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/status.h"
#include "model/network.h"

static descent_status copy_floats(const float *values, int64_t n, float **copy) {
  if (!values) return DESCENT_OK;
  *copy = memory_allocate(n, sizeof **copy, "the preprocessing");
  if (!*copy) return DESCENT_ERROR_MEMORY;
  memcpy(*copy, values, (size_t)n * sizeof **copy);
  return DESCENT_OK;
}

descent_status network_copy_outline(const descent_network *network, descent_network **outline) {
  const int64_t inputs = network->inputs, outputs = network_outputs(network);
  descent_network *copy = memory_allocate(1, sizeof *copy, "the network's outline");
  if (!copy) return DESCENT_ERROR_MEMORY;
  descent_status status;
  copy->inputs = inputs;
  copy->members = network->members;
  copy->n_layers = network->n_layers;
  copy->loss = network->loss;
  copy->n_parameters = network->n_parameters;
  copy->normalize = network->normalize;
  copy->impute = network->impute;
  copy->classes = network->classes;
  copy->checkpoint_step = network->checkpoint_step;
  copy->layers = memory_allocate(network->n_layers, sizeof *copy->layers, "the network's layers");
  if (!copy->layers) TRY(DESCENT_ERROR_MEMORY);
  memcpy(copy->layers, network->layers, (size_t)network->n_layers * sizeof *copy->layers);
  TRY(copy_floats(network->fill, inputs, &copy->fill));
  TRY(copy_floats(network->shift, inputs, &copy->shift));
  TRY(copy_floats(network->scale, inputs, &copy->scale));
  TRY(copy_floats(network->y_shift, outputs, &copy->y_shift));
  TRY(copy_floats(network->y_scale, outputs, &copy->y_scale));
  TRY(schema_copy(&network->schema, &copy->schema));
  *outline = copy;
  copy = NULL;
done:
  network_free_outline(copy);
  return status;
}

void network_free_outline(descent_network *outline) {
  if (!outline) return;
  schema_clear(&outline->schema);
  free(outline->fill);
  free(outline->shift);
  free(outline->scale);
  free(outline->y_shift);
  free(outline->y_scale);
  free(outline->layers);
  free(outline);
}

bool network_same_shape(const descent_network *a, const descent_network *b) {
  if (a->inputs != b->inputs || a->n_layers != b->n_layers || a->loss != b->loss) return false;
  for (int32_t l = 0; l < a->n_layers; l++)
    if (a->layers[l].n_out != b->layers[l].n_out || a->layers[l].activation != b->layers[l].activation) return false;
  return true;
}
