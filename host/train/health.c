/* Recognises vanishing and exploding gradients and dead units in the layer statistics. */
#include "train/health.h"

#include <math.h>
#include <stdio.h>

#include "train/advice.h"

/* Thresholds. A sigmoid layer scales a gradient by at most 1/4, in practice by about 1/10: with three layers the ratio
 * stays well above 1e-4, with ten it does not. Healthy updates are about 1/1000 of the weights; an update of half of
 * the weights replaces a layer within two steps. */
static const double largest_ratio = 1e4, largest_update = 0.5, largest_dead_fraction = 0.5;
enum { MIN_ROWS_FOR_DEAD = 16 }; /* with fewer rows, healthy relu units can be inactive by chance */

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

/* The root mean square of the gradient over the parameters, which is comparable between layers of different sizes. */
static double gradient_size(const descent_network *network, const descent_layer_health *health, int layer) {
  const struct network_layer *at = &network->layers[layer - 1];
  return health[layer - 1].gradient_norm / sqrt((double)at->n_out * ((double)at->n_in + 1));
}

/* The arguments of the warnings. */
struct health_input {
  const descent_network *network;
  const descent_train_options *options;
  const double *statistics;
  const descent_layer_health *health;
  int64_t rows;
};

static const char *initialisation(const struct health_input *p, int sign) {
  return advice_initialisation(p->network, p->statistics + LAYER_PARAMETERS, LAYER_SLOTS, sign);
}

static bool warn_exploding(const struct health_input *p, char *text, size_t size) {
  const descent_layer_health *health = p->health;
  const int L = p->network->n_layers;
  for (int l = 1; l <= L; l++)
    if (health[l - 1].update_ratio > largest_update) {
      snprintf(text, size, "weights explode: one step changes layer %d by %.2g of its norm", l,
               health[l - 1].update_ratio);
      ADVISE(text, size, "a smaller learning rate", advice_clipping(p->options), advice_normalisation(p->network));
      return true;
    }
  const char *large = initialisation(p, 1);
  const double first = gradient_size(p->network, health, 1), last = gradient_size(p->network, health, L);
  if (L > 1 && last > 0 && first > largest_ratio * last) {
    snprintf(text, size, "gradients explode: layer 1's gradient is %.1e times layer %d's", first / last, L);
    ADVISE(text, size, large, advice_clipping(p->options), advice_normalisation(p->network),
           large ? NULL : "a smaller learning rate");
    return true;
  }
  if (L > 2 && health[0].activation_std > 0 &&
      health[L - 2].activation_std > largest_ratio * health[0].activation_std) {
    snprintf(text, size, "activations explode: layer %d's spread is %.1e times layer 1's", L - 1,
             health[L - 2].activation_std / health[0].activation_std);
    ADVISE(text, size, large, large ? NULL : "a smaller learning rate");
    return true;
  }
  return false;
}

static bool warn_dead(const struct health_input *p, char *text, size_t size) {
  for (int l = 1; l < p->network->n_layers && p->rows >= MIN_ROWS_FOR_DEAD; l++)
    if (p->health[l - 1].dead_fraction > largest_dead_fraction) {
      const bool relu = p->network->layers[l - 1].activation == DESCENT_ACTIVATION_RELU;
      snprintf(text, size, "dead units: %.0f %% of layer %d do not respond to any row",
               100 * p->health[l - 1].dead_fraction, l);
      ADVISE(text, size, "a smaller learning rate", relu ? "leaky_relu" : advice_activation(p->network),
             advice_normalisation(p->network));
      return true;
    }
  return false;
}

/* A gradient of exactly 0 is caused by dead units in a later layer, for which warn_dead has a better warning; with
 * `accept_zero` it is reported here. */
static bool warn_vanishing(const struct health_input *p, bool accept_zero, char *text, size_t size) {
  const descent_layer_health *health = p->health;
  const int L = p->network->n_layers;
  const double first = gradient_size(p->network, health, 1), last = gradient_size(p->network, health, L);
  const char *small = initialisation(p, -1);
  if (first == 0 && !accept_zero) return false;
  if (L > 1 && last > 0 && first * largest_ratio < last) {
    snprintf(text, size, "gradients vanish: layer 1's gradient is %.1e of layer %d's", first / last, L);
    ADVISE(text, size, first > 0 ? NULL : "a smaller learning rate", advice_activation(p->network), small,
           "fewer layers");
    return true;
  }
  if (L > 2 && health[L - 2].activation_std * largest_ratio < health[0].activation_std) {
    snprintf(text, size, "activations vanish: layer %d's spread is %.1e of layer 1's", L - 1,
             health[L - 2].activation_std / health[0].activation_std);
    ADVISE(text, size, small, advice_activation(p->network), "fewer layers");
    return true;
  }
  return false;
}

void health_warning(const descent_network *network, const descent_train_options *options, const double *statistics,
                    const descent_layer_health *health, int64_t rows, char *text, size_t size) {
  const struct health_input input = {network, options, statistics, health, rows};
  if (size) *text = 0;
  if (warn_exploding(&input, text, size)) return;
  if (warn_vanishing(&input, false, text, size)) return;
  if (warn_dead(&input, text, size)) return;
  warn_vanishing(&input, true, text, size);
}
