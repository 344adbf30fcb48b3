/* The network in double, with the error that float32 would have made so far beside every value. */
#include "train/export_bounds.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "backend/reference/reference.h"

#define U (0x1p-24)

/* Errors of one evaluation of g from a float32 argument, in u: of its result, and for gelu, which graphs spell
 * (z / 2) (1 + erf(z / sqrt 2)), of its argument. */
enum { OWN = 4 };

int64_t export_values_room(const descent_network *network) {
  int64_t widest = network->inputs;
  for (int32_t l = 0; l < network->n_layers; l++)
    if (network->layers[l].n_out > widest) widest = network->layers[l].n_out;
  return 2 * widest;
}

/* The smallest float32 is what results below the normal range may be off by. */
static double rounding(double value, double units) { return U * units * fabs(value) + FLT_TRUE_MIN; }

static struct export_value activation(descent_activation g, struct export_value z) {
  const double a = reference_activate(g, z.value), slope = reference_slope(g, a, z.value);
  if (g == DESCENT_ACTIVATION_IDENTITY) return z;
  return (struct export_value){a, hypot(slope * z.error, rounding(g == DESCENT_ACTIVATION_GELU ? z.value : a, OWN))};
}

/* z = w . a + b. The partial sums, each rounded, are a walk to z whose steps are the terms: about as far from 0 as its
 * end, or as the root of the sum of its squared steps, whichever is more. */
static struct export_value unit(const float *w, const struct export_value *a, int64_t n, double b) {
  double sum = b, squares = b * b, errors = 0;
  for (int64_t i = 0; i < n; i++) {
    const double weight = (double)w[i], term = weight * a[i].value, error = weight * a[i].error;
    sum += term;
    squares += term * term;
    errors += error * error;
  }
  const double walk = fmax(squares, sum * sum) * (double)(n + 1) + squares;
  return (struct export_value){sum, sqrt(errors + U * U * walk) + FLT_TRUE_MIN};
}

/* p_k = exp(z_k - max) / sum: dp_k = p_k (dz_k - sum p_j dz_j); the difference is rounded, which its exponential feels
 * as a relative error, then exp, the sum and the division. */
static void softmax(struct export_value *z, int64_t n) {
  double most = -INFINITY, sum = 0, shared = 0;
  for (int64_t k = 0; k < n; k++) most = fmax(most, z[k].value);
  for (int64_t k = 0; k < n; k++) sum += exp(z[k].value - most);
  for (int64_t k = 0; k < n; k++) {
    const double p = exp(z[k].value - most) / sum;
    shared += p * p * z[k].error * z[k].error;
  }
  for (int64_t k = 0; k < n; k++) {
    const double away = fmin(most - z[k].value, 110), p = exp(z[k].value - most) / sum;
    const double relative = sqrt(z[k].error * z[k].error + shared) + U * (away + OWN + sqrt((double)n));
    z[k] = (struct export_value){p, p * relative + FLT_TRUE_MIN};
  }
}

static void finish(const descent_network *network, struct export_value *A) {
  const int64_t n = descent_network_outputs(network);
  switch (network->loss) {
    case DESCENT_LOSS_BINARY_CROSS_ENTROPY: A[0] = activation(DESCENT_ACTIVATION_SIGMOID, A[0]); break;
    case DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY: softmax(A, n); break;
    case DESCENT_LOSS_MEAN_SQUARED_ERROR:
      for (int64_t k = 0; k < n; k++) {
        const double scale = (double)network->y_scale[k], scaled = A[k].value / scale;
        const double value = scaled + (double)network->y_shift[k];
        A[k] = (struct export_value){value, A[k].error / scale + rounding(scaled, 1) + rounding(value, 1)};
      }
  }
}

void export_values(const descent_network *network, const float *x, struct export_value *work,
                   struct export_value *outputs) {
  struct export_value *A = work, *next = work + export_values_room(network) / 2;
  for (int64_t j = 0; j < network->inputs; j++) {
    const double value = (double)(network->fill && isnan(x[j]) ? network->fill[j] : x[j]);
    const double a = (value - (double)network->shift[j]) * (double)network->scale[j];
    A[j] = (struct export_value){a, rounding(a, 2)};
  }
  for (int32_t l = 0; l < network->n_layers; l++) {
    const struct network_layer *layer = &network->layers[l];
    const float *W = network->parameters + layer->at.W, *b = network->parameters + layer->at.b;
    for (int64_t j = 0; j < layer->n_out; j++)
      next[j] = activation(layer->activation, unit(W + j * layer->n_in, A, layer->n_in, (double)b[j]));
    struct export_value *swap = A;
    A = next;
    next = swap;
  }
  finish(network, A);
  memcpy(outputs, A, (size_t)descent_network_outputs(network) * sizeof *outputs);
}
