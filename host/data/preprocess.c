/* Fitting fill, shift and scale to the training rows, per column, in double. */
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/status.h"
#include "data/dataset.h"

struct moments {
  int64_t cells;                  /* not missing */
  double mean, squares, min, max; /* squares: sum of squared deviations from the mean */
};

/* Welford's update (1962), without cancellation for features far from 0. */
static void add_cell(struct moments *m, double x) {
  const double delta = x - m->mean;
  m->cells++;
  m->mean += delta / (double)m->cells;
  m->squares += delta * (x - m->mean);
  if (m->cells == 1 || x < m->min) m->min = x;
  if (m->cells == 1 || x > m->max) m->max = x;
}

static void add_row(struct moments *m, const float *row, int64_t columns) {
  for (int64_t j = 0; j < columns; j++)
    if (!isnan(row[j])) add_cell(&m[j], (double)row[j]);
}

/* Moments of every input over the dataset's rows; from memory_allocate. */
static struct moments *find_input_moments(const descent_dataset *dataset) {
  float piece[DATASET_PIECE];
  const struct dataset_storage *s = dataset->storage;
  struct moments *m = memory_allocate(s->inputs, sizeof *m, "the normalisation");
  if (!m) return NULL;
  for (int64_t r = 0; r < dataset->rows; r++)
    for (int64_t j = 0; j < s->inputs; j += DATASET_PIECE) {
      const int64_t n = s->inputs - j < DATASET_PIECE ? s->inputs - j : DATASET_PIECE;
      add_row(m + j, dataset_cells(s, dataset_source_row(dataset, r), j, n, piece), n);
    }
  return m;
}

/* The same of every target. */
static struct moments *find_target_moments(const descent_dataset *dataset) {
  const int64_t targets = dataset->storage->targets;
  struct moments *m = memory_allocate(targets, sizeof *m, "the normalisation");
  if (!m) return NULL;
  for (int64_t r = 0; r < dataset->rows; r++)
    add_row(m, dataset->storage->y + dataset_source_row(dataset, r) * targets, targets);
  return m;
}

/* Updates the moments for missing cells replaced by `fill` (Chan, Golub and LeVeque 1979: merging two samples). */
static void add_filled(struct moments *m, double fill, int64_t rows) {
  const int64_t missing = rows - m->cells;
  if (missing == 0) return;
  const double share = (double)missing / (double)rows, delta = fill - m->mean;
  m->squares += delta * delta * share * (double)m->cells;
  m->mean += delta * share;
  m->min = fmin(m->min, fill);
  m->max = fmax(m->max, fill);
  m->cells = rows;
}

static void scale_column(const struct moments *m, descent_normalize kind, float *shift, float *scale) {
  double spread = 0, from = 0;
  if (kind == DESCENT_NORMALIZE_STANDARD) from = m->mean, spread = sqrt(m->squares / (double)m->cells);
  if (kind == DESCENT_NORMALIZE_MINMAX) from = m->min, spread = m->max - m->min;
  const bool constant = !(1 / spread <= (double)FLT_MAX); /* or 1 / spread overflows float32 */
  *shift = (float)from;
  *scale = constant ? 1.0f : (float)(1 / spread);
}

/* ---- missing cells ---------------------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b) {
  const float x = *(const float *)a, y = *(const float *)b;
  return (x > y) - (x < y);
}

/* The most frequent value, the smallest of several; `sorted` (n) is ascending. */
static double most_frequent(const float *sorted, int64_t n) {
  int64_t best = 0, most = 0;
  for (int64_t begin = 0, end; begin < n; begin = end) {
    for (end = begin + 1; end < n && sorted[end] == sorted[begin];) end++;
    if (end - begin > most) most = end - begin, best = begin;
  }
  return (double)sorted[best];
}

/* The median or most frequent value of input j; `cells` (rows) is scratch. */
static double order_statistic(const descent_dataset *dataset, int64_t j, descent_impute impute, float *cells) {
  const struct dataset_storage *s = dataset->storage;
  int64_t n = 0;
  for (int64_t r = 0; r < dataset->rows; r++) {
    const float x = dataset_cell(s, dataset_source_row(dataset, r) * s->inputs + j);
    if (!isnan(x)) cells[n++] = x;
  }
  qsort(cells, (size_t)n, sizeof *cells, by_value);
  if (impute == DESCENT_IMPUTE_MOST_FREQUENT) return most_frequent(cells, n);
  return ((double)cells[(n - 1) / 2] + (double)cells[n / 2]) / 2;
}

/* Fills with the most frequent category: 1 for the one-hot input with the largest mean, 0 for the others. */
static void fill_categories(const struct moments *m, int64_t n, float *fill) {
  int64_t best = 0;
  for (int64_t k = 1; k < n; k++)
    if (m[k].mean > m[best].mean) best = k;
  for (int64_t k = 0; k < n; k++) fill[k] = k == best ? 1.0f : 0.0f;
}

static descent_status check_cells(const descent_dataset *dataset, const struct moments *m) {
  const struct dataset_storage *s = dataset->storage;
  for (int64_t j = 0; j < s->inputs; j++) {
    if (m[j].cells > 0) continue;
    const char *name = schema_text(dataset->storage->schema.input_names, dataset->storage->schema.inputs, j);
    return status_set(DESCENT_ERROR_DATA,
                      "input %" PRId64 " (from 0)%s%s: missing in all %" PRId64 " training rows (ignore its column)", j,
                      name ? ", " : "", name ? name : "", dataset->rows);
  }
  return DESCENT_OK;
}

static descent_status fit_fill(const descent_dataset *dataset, const struct moments *m, descent_impute impute,
                               float *fill) {
  const struct dataset_storage *s = dataset->storage;
  float *cells = NULL;
  if (impute != DESCENT_IMPUTE_MEAN) {
    cells = memory_allocate(dataset->rows, sizeof *cells, "a column");
    if (!cells) return DESCENT_ERROR_MEMORY;
  }
  int64_t j = 0;
  for (int64_t c = 0; j < s->inputs; c++) {
    const struct feature *feature = schema_feature(&s->schema, c);
    if (feature && feature->categories) {
      fill_categories(m + j, feature->n_categories, fill + j);
      j += feature->n_categories;
    } else {
      fill[j] = (float)(cells ? order_statistic(dataset, j, impute, cells) : m[j].mean);
      j++;
    }
    if (feature && feature->indicator) fill[j++] = 0; /* an indicator is never missing */
  }
  free(cells);
  return DESCENT_OK;
}

/* ---- fitting ---------------------------------------------------------------------------------------------------- */

descent_status preprocess_fit_inputs(const descent_dataset *dataset, descent_impute impute, descent_normalize kind,
                                     float *fill, float *shift, float *scale) {
  const int64_t inputs = dataset->storage->inputs;
  descent_status status;
  struct moments *m = find_input_moments(dataset);
  if (!m) return DESCENT_ERROR_MEMORY;
  TRY(check_cells(dataset, m));
  TRY(fit_fill(dataset, m, impute, fill));
  for (int64_t j = 0; kind != DESCENT_NORMALIZE_NONE && j < inputs; j++) {
    add_filled(&m[j], (double)fill[j], dataset->rows);
    scale_column(&m[j], kind, &shift[j], &scale[j]);
  }
done:
  free(m);
  return status;
}

descent_status preprocess_fit_targets(const descent_dataset *dataset, float *shift, float *scale) {
  struct moments *m = find_target_moments(dataset);
  if (!m) return DESCENT_ERROR_MEMORY;
  for (int64_t k = 0; k < dataset->storage->targets; k++)
    scale_column(&m[k], DESCENT_NORMALIZE_STANDARD, &shift[k], &scale[k]);
  free(m);
  return DESCENT_OK;
}
