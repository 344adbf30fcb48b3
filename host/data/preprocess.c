/* Fitting shift and scale to the training rows, column by column, in double. */
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "core/status.h"
#include "data/dataset.h"

struct moments {
  double mean, squares, min, max; /* squares: sum of squared deviations from the mean */
};

/* Welford's update (1962): no cancellation for features far from 0. */
static descent_status fit(const descent_dataset *dataset, const float *values, int64_t columns, descent_normalize kind,
                          float *shift, float *scale) {
  struct moments *m = memory_allocate(columns, sizeof *m, "the normalisation");
  if (!m) return DESCENT_ERROR_MEMORY;
  for (int64_t r = 0; r < dataset->rows; r++) {
    const float *row = values + dataset_source_row(dataset, r) * columns;
    for (int64_t j = 0; j < columns; j++) {
      double x = (double)row[j], delta = x - m[j].mean;
      m[j].mean += delta / (double)(r + 1);
      m[j].squares += delta * (x - m[j].mean);
      if (r == 0 || x < m[j].min) m[j].min = x;
      if (r == 0 || x > m[j].max) m[j].max = x;
    }
  }
  for (int64_t j = 0; j < columns; j++) {
    double spread = 0, from = 0;
    if (kind == DESCENT_NORMALIZE_STANDARD) from = m[j].mean, spread = sqrt(m[j].squares / (double)dataset->rows);
    if (kind == DESCENT_NORMALIZE_MINMAX) from = m[j].min, spread = m[j].max - m[j].min;
    const bool constant = !(1 / spread <= (double)FLT_MAX); /* or so nearly that float32 has no such scale */
    shift[j] = (float)from;
    scale[j] = constant ? 1.0f : (float)(1 / spread);
  }
  free(m);
  return DESCENT_OK;
}

descent_status preprocess_fit_inputs(const descent_dataset *dataset, descent_normalize kind, float *shift,
                                     float *scale) {
  return fit(dataset, dataset->storage->X, dataset->storage->inputs, kind, shift, scale);
}

descent_status preprocess_fit_targets(const descent_dataset *dataset, float *shift, float *scale) {
  return fit(dataset, dataset->storage->y, dataset->storage->targets, DESCENT_NORMALIZE_STANDARD, shift, scale);
}
