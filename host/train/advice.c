/* Advice on what to change, given the network and the options. */
#include "train/advice.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

void advice_append(char *text, size_t size, const char *const *items, int n) {
  int left = 0;
  bool first = true;
  for (int i = 0; i < n; i++) left += items[i] != NULL;
  for (int i = 0; i < n; i++) {
    const size_t used = strlen(text);
    if (!items[i]) continue;
    snprintf(text + used, size - used, "%s%s", first ? "; try " : --left > 1 ? ", " : " or ", items[i]);
    first = false;
  }
}

/* The step of lars does not depend on the length of the gradient. */
const char *advice_clipping(const descent_train_options *options) {
  const bool helps = options->optimizer.kind != DESCENT_OPTIMIZER_LARS && options->optimizer.clip_norm <= 0;
  return helps ? "clip_norm 1" : NULL;
}

const char *advice_warmup(const descent_train_options *options) {
  return options->schedule.warmup_steps > 0 || options->schedule.warmup_epochs > 0 ? NULL : "a warm-up";
}

const char *advice_normalisation(const descent_network *network) {
  return network->normalize == DESCENT_NORMALIZE_NONE ? "standard normalisation" : NULL;
}

const char *advice_activation(const descent_network *network) {
  for (int l = 0; l + 1 < network->n_layers; l++)
    if (network->layers[l].activation == DESCENT_ACTIVATION_SIGMOID ||
        network->layers[l].activation == DESCENT_ACTIVATION_TANH)
      return "relu";
  return NULL;
}

const char *advice_initialisation(const descent_network *network, const double *norms, int stride, int sign) {
  static const double largest_factor = 2;
  for (int l = 0; l + 1 < network->n_layers; l++) {
    const struct network_layer *layer = &network->layers[l];
    const double in = (double)layer->n_in, out = (double)layer->n_out;
    const bool he = init_auto(layer->activation) == DESCENT_INIT_HE_NORMAL;
    const double scale = norms[l * stride] / sqrt(in * out) / sqrt(he ? 2 / in : 2 / (in + out));
    if (sign < 0 ? scale < 1 / largest_factor : scale > largest_factor)
      return he ? "he initialisation" : "xavier initialisation";
  }
  return NULL;
}
