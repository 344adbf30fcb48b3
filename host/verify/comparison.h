/* What the comparisons of one operation have found; the worst over all of them. */
#ifndef DESCENT_VERIFY_COMPARISON_H
#define DESCENT_VERIFY_COMPARISON_H

#include <stdbool.h>
#include <stdint.h>

struct comparison {
  int64_t values;
  double largest_error, bound, ratio; /* bound: of the value with the largest error */
  bool failed;
};

/* `slack`: permitted difference in units of the bound. Returns whether all values are within it. */
bool comparison_take(struct comparison *comparison, const double *values, const double *expected, const double *bounds,
                     double slack, int64_t count);
/* All bits must be equal. */
void comparison_take_bits(struct comparison *comparison, const double *values, const double *expected, int64_t count);
/* Adds what another comparison of the same operation has found. */
void comparison_merge(struct comparison *comparison, const struct comparison *other);

#endif
