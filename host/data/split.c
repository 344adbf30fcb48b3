/* Splitting a dataset at random into two views, class by class where there are classes. */
#include <math.h>
#include <stdlib.h>

#include "core/rng.h"
#include "core/status.h"
#include "data/dataset.h"

struct share {
  int64_t rows, held, least, most;
  double remainder;
  int64_t class_index;
};

static int by_remainder(const void *a, const void *b) {
  const struct share *x = a, *y = b;
  if (x->remainder != y->remainder) return x->remainder < y->remainder ? 1 : -1;
  return (x->class_index > y->class_index) - (x->class_index < y->class_index);
}

static int by_class(const void *a, const void *b) {
  const struct share *x = a, *y = b;
  return (x->class_index > y->class_index) - (x->class_index < y->class_index);
}

/* How many rows of each class to hold out: the largest-remainder method, so that the total is round(fraction rows) and
 * each class is within one of its share; a class of two or more rows keeps at least one on each side. */
static void set_shares(struct share *shares, int64_t n, double fraction, int64_t total) {
  int64_t left = total;
  for (int64_t k = 0; k < n; k++) {
    struct share *s = &shares[k];
    double exact = fraction * (double)s->rows;
    s->least = s->rows >= 2 ? 1 : 0;
    s->most = s->rows >= 2 ? s->rows - 1 : s->rows;
    s->held = (int64_t)floor(exact);
    s->remainder = exact - floor(exact);
    if (s->held < s->least) s->held = s->least;
    if (s->held > s->most) s->held = s->most;
    left -= s->held;
  }
  qsort(shares, (size_t)n, sizeof *shares, by_remainder);
  for (bool moved = true; moved && left > 0;) {
    moved = false;
    for (int64_t k = 0; k < n && left > 0; k++)
      if (shares[k].held < shares[k].most) shares[k].held++, left--, moved = true;
  }
  for (bool moved = true; moved && left < 0;) {
    moved = false;
    for (int64_t k = n - 1; k >= 0 && left < 0; k--)
      if (shares[k].held > shares[k].least) shares[k].held--, left++, moved = true;
  }
  qsort(shares, (size_t)n, sizeof *shares, by_class);
}

static int64_t class_of(const descent_dataset *dataset, int64_t row) {
  const struct dataset_storage *s = dataset->storage;
  return s->classes && s->y ? (int64_t)s->y[dataset_source_row(dataset, row)] : 0;
}

static descent_dataset *make_view(const descent_dataset *parent, const unsigned char *held, unsigned char side,
                                  int64_t rows) {
  descent_dataset *view = memory_allocate(1, sizeof *view, "the split");
  int64_t *index = memory_allocate(rows, sizeof *index, "the split");
  if (!view || !index) {
    free(view);
    free(index);
    return NULL;
  }
  for (int64_t r = 0, n = 0; r < parent->rows; r++)
    if (held[r] == side) index[n++] = dataset_source_row(parent, r);
  *view = (descent_dataset){.storage = parent->storage, .index = index, .rows = rows};
  __atomic_add_fetch(&parent->storage->references, 1, __ATOMIC_RELAXED);
  return view;
}

descent_status descent_dataset_split(const descent_dataset *dataset, double fraction, uint64_t seed,
                                     descent_dataset **kept, descent_dataset **held_out) {
  if (!(fraction > 0 && fraction < 1))
    return status_set(DESCENT_ERROR_ARGUMENT, "fraction: %g is not above 0 and below 1", fraction);
  int64_t rows = dataset->rows, total = llround(fraction * (double)rows);
  int64_t classes = dataset->storage->classes && dataset->storage->y ? dataset->storage->classes : 1;
  if (total < 1 || total >= rows)
    return status_set(DESCENT_ERROR_DATA, "a share of %g of %lld rows leaves one side of the split empty", fraction,
                      (long long)rows);
  descent_status status = DESCENT_ERROR_MEMORY;
  descent_dataset *first = NULL, *second = NULL;
  unsigned char *held = memory_allocate(rows, 1, "the split");
  struct share *shares = memory_allocate(classes, sizeof *shares, "the split");
  if (!held || !shares) goto done;
  for (int64_t k = 0; k < classes; k++) shares[k].class_index = k;
  for (int64_t r = 0; r < rows; r++) shares[class_of(dataset, r)].rows++;
  set_shares(shares, classes, fraction, total);
  struct permutation order = permutation_create(seed, RNG_SPLIT, 0, (uint64_t)rows);
  int64_t n_held = 0;
  for (int64_t i = 0; i < rows; i++) {
    int64_t r = (int64_t)permutation_index(&order, (uint64_t)i);
    struct share *share = &shares[class_of(dataset, r)];
    if (share->held > 0) share->held--, held[r] = 1, n_held++;
  }
  first = make_view(dataset, held, 0, rows - n_held);
  second = make_view(dataset, held, 1, n_held);
  if (!first || !second) goto done;
  *kept = first;
  *held_out = second;
  first = second = NULL;
  status = DESCENT_OK;
done:
  descent_dataset_free(first);
  descent_dataset_free(second);
  free(held);
  free(shares);
  return status;
}
