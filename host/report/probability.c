/* The output functions of classifiers, in double. */
#include "report/probability.h"

#include <math.h>

static double sigmoid(double z) {
  const double e = exp(-fabs(z));
  return (z < 0 ? e : 1) / (1 + e);
}

void probabilities_from_logits(const float *logits, int64_t n, double *p) {
  if (n == 1) {
    p[0] = sigmoid(-(double)logits[0]);
    p[1] = sigmoid((double)logits[0]);
    return;
  }
  double max = (double)logits[0], sum = 0;
  for (int64_t k = 1; k < n; k++) max = fmax(max, (double)logits[k]);
  for (int64_t k = 0; k < n; k++) sum += p[k] = exp((double)logits[k] - max);
  for (int64_t k = 0; k < n; k++) p[k] /= sum;
}

int64_t predicted_class(const float *logits, int64_t n, double threshold) {
  if (n == 1) return threshold == 0.5 ? logits[0] >= 0 : sigmoid((double)logits[0]) >= threshold;
  int64_t best = 0;
  for (int64_t k = 1; k < n; k++)
    if (logits[k] > logits[best]) best = k;
  return best;
}
