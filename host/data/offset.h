/* Offsets of columns that float32 is too coarse for. A float32 has 24 significant bits, so 1700000000, 1700000001, ...,
 * or 1000000.01 and 1000000.02, become the same number. Their differences to a number near them do not: such a column
 * holds value - offset, subtracted in double before the rounding. The offset is chosen from the column's first rows and
 * kept in the schema, for every later file. */
#ifndef DESCENT_DATA_OFFSET_H
#define DESCENT_DATA_OFFSET_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include "data/text.h"

/* The rows of `width` values that are looked at: at most 10,000, and about 4 MB of doubles. At least 1. */
int64_t offset_rows(int64_t width);

/* The offset for a column that begins with the n values, which may include NaN: their median if float32 changes one of
 * them by more than 2^-16 of their standard deviation, else 0. Reorders the values. */
double offset_choose(double *values, int64_t n);

/* Whether the number and its difference to the offset are within float32; false for NaN. */
static inline bool offset_fits(double number, double offset) {
  return text_number_fits(number) && text_number_fits(number - offset);
}

/* What rounding to float32 has changed. */
struct rounding {
  int64_t cells;   /* changed */
  double relative; /* largest |change| / |value| */
};

/* value - offset as a float. Counts it if that changes the value, and raises *largest, the column's largest |change|, which
 * includes what a double may have lost of a whole number beyond 2^53; `rounding` and `largest` may be NULL. */
static inline float offset_subtract(double value, double offset, struct rounding *rounding, double *largest) {
  const float stored = (float)(value - offset);
  const double change = fabs((offset + (double)stored) - value), size = fabs(value);
  /* Beyond 2^53 a double holds not even whole numbers: what it lost may have been half of its last bit. */
  if (largest && size >= 0x1p53) *largest = fmax(*largest, size * 0x1p-53);
  if (change == 0) return stored;
  if (largest && change > *largest) *largest = change;
  if (rounding) {
    rounding->cells++;
    if (size > 0 && change > rounding->relative * size) rounding->relative = change / size; /* divides rarely */
  }
  return stored;
}

#endif
