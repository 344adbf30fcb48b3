/* Activations, their derivatives, softmax and dropout's factor. */
#include <math.h>

#include "backend/reference/reference.h"
#include "core/rng.h"

static const double leaky_slope = 0.01;

/* The form that does not overflow: exp of negative numbers only. */
double reference_sigmoid(double z) { return z < 0 ? exp(z) / (1 + exp(z)) : 1 / (1 + exp(-z)); }

/* Phi(z) and phi(z) of the standard normal distribution. */
static double normal_distribution(double z) { return 0.5 * erfc(-z * M_SQRT1_2); }
static double normal_density(double z) { return exp(-0.5 * z * z) * (0.5 * M_2_SQRTPI * M_SQRT1_2); }

double reference_activate(descent_activation activation, double z) {
  switch (activation) {
    case DESCENT_ACTIVATION_IDENTITY: return z;
    case DESCENT_ACTIVATION_SIGMOID: return reference_sigmoid(z);
    case DESCENT_ACTIVATION_TANH: return tanh(z);
    case DESCENT_ACTIVATION_RELU: return z < 0 ? 0 : z; /* keeps NaN */
    case DESCENT_ACTIVATION_LEAKY_RELU: return z < 0 ? leaky_slope * z : z;
    case DESCENT_ACTIVATION_GELU: return z * normal_distribution(z);
    case DESCENT_ACTIVATION_SILU: return z * reference_sigmoid(z);
  }
  return NAN;
}

double reference_slope(descent_activation activation, double a, double z) {
  switch (activation) {
    case DESCENT_ACTIVATION_IDENTITY: return 1;
    case DESCENT_ACTIVATION_SIGMOID: return a * (1 - a);
    case DESCENT_ACTIVATION_TANH: return 1 - a * a;
    case DESCENT_ACTIVATION_RELU: return a > 0 ? 1 : 0;
    case DESCENT_ACTIVATION_LEAKY_RELU: return a > 0 ? 1 : leaky_slope;
    case DESCENT_ACTIVATION_GELU: return normal_distribution(z) + z * normal_density(z);
    case DESCENT_ACTIVATION_SILU: {
      const double s = reference_sigmoid(z);
      return s * (1 + z * (1 - s));
    }
  }
  return NAN;
}

void reference_softmax(const double *z, double *p, int64_t n) {
  double max = z[0], sum = 0;
  for (int64_t k = 1; k < n; k++) max = fmax(max, z[k]);
  for (int64_t k = 0; k < n; k++) sum += p[k] = exp(z[k] - max);
  for (int64_t k = 0; k < n; k++) p[k] /= sum;
}

double reference_dropout(const struct plan *plan, const struct plan_step *step, int layer, int64_t n, double dropout,
                         int64_t index) {
  if (dropout == 0) return 1;
  return rng_keep(plan->seed, (uint32_t)layer, (uint64_t)step->number, (uint64_t)(step->batch_row * n + index),
                  rng_drop_threshold(dropout))
             ? 1 / (1 - dropout)
             : 0;
}
