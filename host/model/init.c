/* Initial weights, each a function of (seed, layer, row-major index), computed in double and rounded once. */
#include <math.h>
#include <string.h>

#include "core/rng.h"
#include "core/status.h"
#include "model/network.h"

descent_init init_auto(descent_activation activation) {
  switch (activation) {
    case DESCENT_ACTIVATION_RELU:
    case DESCENT_ACTIVATION_LEAKY_RELU:
    case DESCENT_ACTIVATION_GELU:
    case DESCENT_ACTIVATION_SILU: return DESCENT_INIT_HE_NORMAL;
    case DESCENT_ACTIVATION_IDENTITY:
    case DESCENT_ACTIVATION_SIGMOID:
    case DESCENT_ACTIVATION_TANH: break;
  }
  return DESCENT_INIT_XAVIER_UNIFORM;
}

static bool is_normal(descent_init init) {
  return init == DESCENT_INIT_XAVIER_NORMAL || init == DESCENT_INIT_HE_NORMAL || init == DESCENT_INIT_LECUN_NORMAL;
}

static double variance(descent_init init, double fan_in, double fan_out) {
  switch (init) {
    case DESCENT_INIT_HE_UNIFORM:
    case DESCENT_INIT_HE_NORMAL: return 2 / fan_in;
    case DESCENT_INIT_LECUN_UNIFORM:
    case DESCENT_INIT_LECUN_NORMAL: return 1 / fan_in;
    case DESCENT_INIT_XAVIER_UNIFORM:
    case DESCENT_INIT_XAVIER_NORMAL:
    case DESCENT_INIT_AUTO: break;
  }
  return 2 / (fan_in + fan_out);
}

/* Four values of mean 0 and variance 1 from four uniforms in (0, 1): uniform on +-sqrt(3), or normal by Box and Muller
 * (1958), two from each pair. */
static void standardise(bool normal, const double uniform[4], double z[4]) {
  for (int pair = 0; pair < 4; pair += 2) {
    const double u = uniform[pair], v = uniform[pair + 1];
    const double radius = sqrt(-2 * log(u)), angle = 2 * M_PI * v;
    z[pair] = normal ? radius * cos(angle) : sqrt(3) * (2 * u - 1);
    z[pair + 1] = normal ? radius * sin(angle) : sqrt(3) * (2 * v - 1);
  }
}

static void draw(const struct network_layer *layer, uint32_t number, descent_init init, uint64_t seed, float *W) {
  const uint64_t n = (uint64_t)(layer->n_in * layer->n_out);
  const double std = sqrt(variance(init, (double)layer->n_in, (double)layer->n_out));
  for (uint64_t i = 0; i < n; i += 4) {
    const philox4x32_ctr_t words = rng_block(seed, RNG_WEIGHTS, number, 0, i / 4);
    double uniform[4], z[4];
    for (int lane = 0; lane < 4; lane++) uniform[lane] = (words.v[lane] + 0.5) * 0x1p-32;
    standardise(is_normal(init), uniform, z);
    for (uint64_t lane = 0; lane < 4 && i + lane < n; lane++) W[i + lane] = (float)(std * z[lane]);
  }
}

descent_status descent_network_initialise(descent_network *network, descent_init init, uint64_t seed) {
  descent_status status;
  TRY(network_check_unused(network));
  TRY(network_check_plain(network, "initialise"));
  if ((unsigned)init > DESCENT_INIT_LECUN_NORMAL)
    return status_set(DESCENT_ERROR_ARGUMENT, "unknown initialisation %d", (int)init);
  for (int32_t l = 1; l <= network->n_layers; l++) {
    const struct network_layer *layer = &network->layers[l - 1];
    draw(layer, (uint32_t)l, init == DESCENT_INIT_AUTO ? init_auto(layer->activation) : init, seed,
         network->parameters + layer->at.W);
    memset(network->parameters + layer->at.b, 0, (size_t)layer->n_out * sizeof(float));
  }
done:
  return status;
}
