/* Choosing offsets. */
#include "data/offset.h"

#include <math.h>
#include <stdlib.h>

int64_t offset_rows(int64_t width) {
  enum { ROWS = 10000, VALUES = 1 << 19 };
  const int64_t rows = width > 0 ? VALUES / width : ROWS;
  return rows < 1 ? 1 : rows < ROWS ? rows : ROWS;
}

static int by_value(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

double offset_choose(double *values, int64_t n) {
  static const double tolerance = 0x1p-16; /* of the standard deviation: less than normalised inputs resolve */
  int64_t cells = 0;
  double largest = 0, mean = 0, squares = 0;
  for (int64_t i = 0; i < n; i++) {
    const double x = values[i];
    if (isnan(x)) continue;
    largest = fmax(largest, fabs((double)(float)x - x));
    const double delta = x - mean; /* Welford */
    values[cells++] = x;
    mean += delta / (double)cells;
    squares += delta * (x - mean);
  }
  if (largest == 0 || squares == 0 || largest <= tolerance * sqrt(squares / (double)cells)) return 0;
  qsort(values, (size_t)cells, sizeof *values, by_value);
  const double median = values[(cells - 1) / 2];
  return fabs(median) < 0x1p-126 ? 0 : median; /* no offset makes subnormal numbers finer */
}
