#include "verify/comparison.h"

#include <math.h>
#include <string.h>

static bool is_worse(double a, double b) { return isnan(a) ? !isnan(b) : a > b; }

bool comparison_take(struct comparison *comparison, const double *values, const double *expected, const double *bounds,
                     double slack, int64_t count) {
  bool all = true;
  for (int64_t i = 0; i < count; i++) {
    double error = fabs(values[i] - expected[i]), bound = slack * bounds[i];
    double ratio = error == 0 && bound == 0 ? 0 : error / bound;
    if (!(error <= bound) || !isfinite(values[i])) all = false;
    if (is_worse(ratio, comparison->ratio)) comparison->ratio = ratio;
    if (is_worse(error, comparison->largest_error) || (comparison->values == 0 && i == 0)) {
      comparison->largest_error = error;
      comparison->bound = bound;
    }
  }
  comparison->values += count;
  if (!all) comparison->failed = true;
  return all;
}

void comparison_take_bits(struct comparison *comparison, const double *values, const double *expected, int64_t count) {
  for (int64_t i = 0; i < count; i++) {
    if (memcmp(&values[i], &expected[i], sizeof *values) == 0) continue;
    const double error = fabs(values[i] - expected[i]);
    if (is_worse(error, comparison->largest_error)) comparison->largest_error = error;
    comparison->ratio = INFINITY;
    comparison->failed = true;
  }
  comparison->values += count;
}

void comparison_merge(struct comparison *comparison, const struct comparison *other) {
  if (other->values > 0 && (comparison->values == 0 || is_worse(other->largest_error, comparison->largest_error))) {
    comparison->largest_error = other->largest_error;
    comparison->bound = other->bound;
  }
  if (is_worse(other->ratio, comparison->ratio)) comparison->ratio = other->ratio;
  if (other->failed) comparison->failed = true;
  comparison->values += other->values;
}
