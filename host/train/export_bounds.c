/* The network on intervals: every value that float32 may arrive at on the way through it. */
#include "train/export_bounds.h"
#include "backend/bounds_internal.h"

int64_t export_bounds_room(const descent_network *network) {
  int64_t widest = network->inputs;
  for (int32_t l = 0; l < network->n_layers; l++)
    if (network->layers[l].n_out > widest) widest = network->layers[l].n_out;
  return 2 * widest;
}

/* Besides the relative error of each operation: (z / 2) (1 + erf(z / sqrt 2)), as graphs spell gelu, cancels below 0.
 * erf is off by 2 u of at most 1 and 1 u for its argument, the sum by 2 u, each times |z| / 2, and the products add 2 u
 * of at most |z|: below 5 u |z| in all. */
static struct interval activation(descent_activation g, struct interval z) {
  const struct interval a = bounds_activation(g, z);
  if (g != DESCENT_ACTIVATION_GELU) return a;
  const double error = 5 * INTERVAL_U * fmax(fabs(z.lo), fabs(z.hi));
  return (struct interval){a.lo - error, a.hi + error};
}

/* z_j = w . a + b: n products and as many additions. */
static struct interval unit(const float *w, const struct interval *a, int64_t n, float b) {
  struct interval sum = interval_exact((double)b);
  double magnitude = fabs((double)b);
  for (int64_t i = 0; i < n; i++) {
    const struct interval term = interval_times(interval_exact((double)w[i]), a[i]);
    sum.lo += term.lo;
    sum.hi += term.hi;
    magnitude += fmax(fabs(term.lo), fabs(term.hi));
  }
  const double error = interval_gamma((double)n + 1) * magnitude + (double)n * INTERVAL_ETA;
  return (struct interval){sum.lo - error, sum.hi + error};
}

/* exp(z_k) / sum exp(z_j): moving every z by at most d changes it by a factor within exp(2 d). In float32 each
 * difference from the largest is rounded, which its exponential feels as a relative error, then exp (2 u), the sum and
 * the division. */
static void softmax(struct interval *z, int64_t n) {
  double most = -INFINITY, d = 0, sum = 0;
  for (int64_t k = 0; k < n; k++) {
    most = fmax(most, (z[k].lo + z[k].hi) / 2);
    d = fmax(d, (z[k].hi - z[k].lo) / 2);
  }
  for (int64_t k = 0; k < n; k++) sum += exp((z[k].lo + z[k].hi) / 2 - most);
  for (int64_t k = 0; k < n; k++) {
    const double away = (z[k].lo + z[k].hi) / 2 - most, p = exp(away) / sum;
    const double rounding = interval_gamma(2 * (fmin(-away, 110) + 3) + (double)n + 2), spread = expm1(2 * d);
    const double error = p * (spread + rounding + spread * rounding) + ((double)n + 2) * INTERVAL_ETA;
    z[k] = (struct interval){fmax(p - error, 0), fmin(p + error, 1 + INTERVAL_U)};
  }
}

static void finish(const descent_network *network, struct interval *A) {
  const int64_t n = descent_network_outputs(network);
  switch (network->loss) {
    case DESCENT_LOSS_BINARY_CROSS_ENTROPY: A[0] = bounds_activation(DESCENT_ACTIVATION_SIGMOID, A[0]); break;
    case DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY: softmax(A, n); break;
    case DESCENT_LOSS_MEAN_SQUARED_ERROR:
      for (int64_t k = 0; k < n; k++) {
        const struct interval scaled = interval_div(A[k], interval_exact((double)network->y_scale[k]));
        A[k] = interval_add(scaled, interval_exact((double)network->y_shift[k]));
      }
  }
}

void export_bounds(const descent_network *network, const float *x, struct interval *work, struct interval *outputs) {
  struct interval *A = work, *next = work + export_bounds_room(network) / 2;
  for (int64_t j = 0; j < network->inputs; j++) {
    const struct interval shifted =
        interval_sub(interval_exact((double)x[j]), interval_exact((double)network->shift[j]));
    A[j] = interval_mul(shifted, interval_exact((double)network->scale[j]));
  }
  for (int32_t l = 0; l < network->n_layers; l++) {
    const struct network_layer *layer = &network->layers[l];
    const float *W = network->parameters + layer->at.W, *b = network->parameters + layer->at.b;
    for (int64_t j = 0; j < layer->n_out; j++)
      next[j] = activation(layer->activation, unit(W + j * layer->n_in, A, layer->n_in, b[j]));
    struct interval *swap = A;
    A = next;
    next = swap;
  }
  finish(network, A);
  memcpy(outputs, A, (size_t)descent_network_outputs(network) * sizeof *outputs);
}
