/* Vanishing and exploding gradients and dead units, recognised in the layer statistics. */
#include "train/health.h"

#include <math.h>
#include <stdio.h>

/* Thresholds. A layer of sigmoids passes on at most a quarter of a gradient, in practice about a tenth: three layers
 * stay well above one part in 1e4, ten do not. Updates are healthy near a thousandth of the weights; one as large as
 * half of them replaces the layer within two steps. */
static const double apart = 1e4, largest_update = 0.5, most_dead = 0.5;
enum { ROWS_TO_CALL_DEAD = 16 }; /* fewer rows leave many a healthy relu unit silent by chance */

void health_from_statistics(const descent_network *network, const double *statistics, descent_layer_health *health) {
  for (int l = 0; l < network->n_layers; l++) {
    const double *row = statistics + (size_t)l * LAYER_SLOTS;
    health[l] = (descent_layer_health){
        .gradient_norm = row[LAYER_GRADIENT],
        .update_ratio = row[LAYER_PARAMETERS] > 0 ? row[LAYER_UPDATE] / row[LAYER_PARAMETERS] : 0,
        .activation_mean = row[LAYER_MEAN],
        .activation_std = row[LAYER_STD],
        .dead_fraction = l + 1 < network->n_layers ? row[LAYER_DEAD] : 0,
    };
  }
}

/* The gradient's root mean square per parameter: comparable between layers of different sizes. */
static double gradient_size(const descent_network *network, const descent_layer_health *health, int layer) {
  const struct network_layer *at = &network->layers[layer - 1];
  return health[layer - 1].gradient_norm / sqrt((double)at->n_out * ((double)at->n_in + 1));
}

static bool warn_exploding(const descent_network *network, const descent_layer_health *health, char *text,
                           size_t size) {
  const int L = network->n_layers;
  for (int l = 1; l <= L; l++)
    if (health[l - 1].update_ratio > largest_update) {
      snprintf(text, size,
               "weights explode: one step changes layer %d by %.2g of its size; try a smaller learning rate, "
               "clip_norm, or normalised inputs",
               l, health[l - 1].update_ratio);
      return true;
    }
  const double first = gradient_size(network, health, 1), last = gradient_size(network, health, L);
  if (L > 1 && last > 0 && first > apart * last) {
    snprintf(text, size,
             "gradients explode: layer 1's gradient is %.1e times layer %d's; try %s initialisation, "
             "normalised inputs, or clip_norm",
             first / last, L, network->layers[0].activation == DESCENT_ACTIVATION_RELU ? "he" : "xavier");
    return true;
  }
  if (L > 2 && health[0].activation_std > 0 && health[L - 2].activation_std > apart * health[0].activation_std) {
    snprintf(text, size,
             "activations explode: layer %d's spread is %.1e times layer 1's; try xavier or he initialisation", L - 1,
             health[L - 2].activation_std / health[0].activation_std);
    return true;
  }
  return false;
}

static bool warn_dead(const descent_network *network, const descent_layer_health *health, int64_t rows, char *text,
                      size_t size) {
  for (int l = 1; l < network->n_layers && rows >= ROWS_TO_CALL_DEAD; l++)
    if (health[l - 1].dead_fraction > most_dead) {
      snprintf(text, size,
               "dead units: %.0f %% of layer %d no longer respond to any row; try a smaller learning rate, leaky_relu, "
               "or he initialisation",
               100 * health[l - 1].dead_fraction, l);
      return true;
    }
  return false;
}

/* A gradient that is nothing at all comes from dead units further up, which have their own warning: `even_none`. */
static bool warn_vanishing(const descent_network *network, const descent_layer_health *health, bool even_none,
                           char *text, size_t size) {
  const int L = network->n_layers;
  const double first = gradient_size(network, health, 1), last = gradient_size(network, health, L);
  if (first == 0 && !even_none) return false;
  if (L > 1 && last > 0 && first * apart < last) {
    snprintf(text, size,
             "gradients vanish: layer 1's gradient is %.1e of layer %d's; try he initialisation, relu, or fewer layers",
             first / last, L);
    return true;
  }
  if (L > 2 && health[L - 2].activation_std * apart < health[0].activation_std) {
    snprintf(text, size, "activations vanish: layer %d's spread is %.1e of layer 1's; try xavier or he initialisation",
             L - 1, health[L - 2].activation_std / health[0].activation_std);
    return true;
  }
  return false;
}

void health_warning(const descent_network *network, const descent_layer_health *health, int64_t rows, char *text,
                    size_t size) {
  if (size) *text = 0;
  if (warn_exploding(network, health, text, size)) return;
  if (warn_vanishing(network, health, false, text, size)) return;
  if (warn_dead(network, health, rows, text, size)) return;
  warn_vanishing(network, health, true, text, size);
}
