/* Random split of a dataset into two views, stratified by class. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "core/memory.h"
#include "core/rng.h"
#include "core/status.h"
#include "data/view.h"

/* One class, or all rows without classes. `held`: rows to hold out. */
struct class_share {
  int64_t class_index, rows, held;
  double exact; /* fraction * rows */
};

static int by_remainder(const void *a, const void *b) {
  const struct class_share *x = a, *y = b;
  const double x_left = x->exact - (double)x->held, y_left = y->exact - (double)y->held;
  if (x_left != y_left) return x_left < y_left ? 1 : -1;
  return (x->class_index > y->class_index) - (x->class_index < y->class_index);
}

static int by_class(const void *a, const void *b) {
  const struct class_share *x = a, *y = b;
  return (x->class_index > y->class_index) - (x->class_index < y->class_index);
}

/* Each class of two or more rows with none on one side takes a row from a class that stays within one row of its share.
 * `sign` is 1 to fill the held-out side, -1 to fill the kept side. */
static void fill_empty_side(struct class_share *shares, int64_t n, int sign) {
  int64_t donor = 0;
  for (int64_t k = 0; k < n; k++) {
    struct class_share *s = &shares[k];
    if (s->rows < 2 || s->held != (sign > 0 ? 0 : s->rows)) continue;
    for (; donor < n; donor++) {
      const struct class_share *d = &shares[donor];
      const int64_t side = sign > 0 ? d->held : d->rows - d->held;
      if (side >= 2 && sign * ((double)d->held - d->exact) >= 0) break;
    }
    if (donor == n) return;
    s->held += sign;
    shares[donor++].held -= sign;
  }
}

/* Sets the number of rows to hold out of each class, by largest remainders: the total is exact and each class is within
 * one row of its share. As far as possible, a class of two or more rows has one on each side. */
static void set_shares(struct class_share *shares, int64_t n, double fraction, int64_t total) {
  int64_t left = total;
  for (int64_t k = 0; k < n; k++) {
    struct class_share *s = &shares[k];
    s->exact = fraction * (double)s->rows;
    s->held = (int64_t)s->exact;
    left -= s->held;
  }
  qsort(shares, (size_t)n, sizeof *shares, by_remainder);
  for (int64_t k = 0; k < n && left > 0; k++)
    if (shares[k].held < shares[k].rows) shares[k].held++, left--;
  qsort(shares, (size_t)n, sizeof *shares, by_class);
  fill_empty_side(shares, n, 1);
  fill_empty_side(shares, n, -1);
}

descent_status descent_dataset_split(const descent_dataset *dataset, double fraction, uint64_t seed,
                                     descent_dataset **kept, descent_dataset **held_out) {
  struct class_share *shares = NULL;
  struct permutation *orders = NULL;
  descent_dataset *first = NULL, *second = NULL;
  descent_status status;
  TRY(handle_check(dataset, HANDLE_DATASET, "dataset"));
  TRY(argument_check(kept, "kept"));
  TRY(argument_check(held_out, "held_out"));
  if (kept == held_out) TRY(status_set(DESCENT_ERROR_ARGUMENT, "held_out: is where kept goes"));
  if (!(fraction > 0 && fraction < 1))
    TRY(status_set(DESCENT_ERROR_ARGUMENT, "fraction %g: must be above 0 and below 1", fraction));
  const int64_t rows = dataset->rows, total = llround(fraction * (double)rows), classes = view_classes(dataset);
  if (total < 1 || total >= rows)
    TRY(status_set(DESCENT_ERROR_DATA,
                   "a fraction of %g of %" PRId64 " row%s leaves one side of the split empty (change the fraction, "
                   "or add rows)",
                   fraction, rows, rows == 1 ? "" : "s"));
  shares = memory_allocate(classes, sizeof *shares, "the split");
  orders = memory_allocate(classes, sizeof *orders, "the split");
  if (!shares || !orders) TRY(DESCENT_ERROR_MEMORY);
  for (int64_t k = 0; k < classes; k++) shares[k].class_index = k;
  for (int64_t r = 0; r < rows; r++) shares[view_class(dataset, r)].rows++;
  set_shares(shares, classes, fraction, total);
  int64_t n_held = 0;
  for (int64_t k = 0; k < classes; k++) {
    n_held += shares[k].held;
    if (shares[k].rows) orders[k] = permutation_create(seed, RNG_SPLIT, (uint64_t)k, (uint64_t)shares[k].rows);
    shares[k].rows = 0; /* recounted below */
  }
  first = view_create(dataset, rows - n_held);
  second = view_create(dataset, n_held);
  if (!first || !second) TRY(DESCENT_ERROR_MEMORY);
  /* Each class is shuffled on its own; the first of its rows are held out. */
  for (int64_t r = 0; r < rows; r++) {
    const int64_t k = view_class(dataset, r);
    const uint64_t position = permutation_index(&orders[k], (uint64_t)shares[k].rows++);
    view_add((int64_t)position < shares[k].held ? second : first, dataset, r);
  }
  *kept = first;
  *held_out = second;
  first = second = NULL;
done:
  descent_dataset_free(first);
  descent_dataset_free(second);
  free(shares);
  free(orders);
  return status;
}
