/* One fold of a cross-validation, as two views. */
#include <inttypes.h>
#include <stdlib.h>

#include "core/memory.h"
#include "core/rng.h"
#include "core/status.h"
#include "data/view.h"

/* The rows of one class, or all rows without classes. */
struct dealt_class {
  int64_t first; /* place of its first row among all rows, in order of classes */
  int64_t rows;
  struct permutation order;
};

/* Each class is shuffled, and one class after another is dealt out like cards, each from where the last one ended: so
 * neither the folds' sizes nor their rows of a class differ by more than one. */
static void shuffle_classes(const descent_dataset *dataset, uint64_t seed, struct dealt_class *dealt, int64_t classes) {
  for (int64_t r = 0; r < dataset->rows; r++) dealt[view_class(dataset, r)].rows++;
  int64_t first = 0;
  for (int64_t k = 0; k < classes; k++) {
    struct dealt_class *c = &dealt[k];
    if (c->rows) c->order = permutation_create(seed, RNG_FOLD, (uint64_t)k, (uint64_t)c->rows);
    c->first = first;
    first += c->rows;
    c->rows = 0; /* recounted as they are dealt */
  }
}

static int64_t deal(struct dealt_class *dealt, int64_t folds) {
  return (dealt->first + (int64_t)permutation_index(&dealt->order, (uint64_t)dealt->rows++)) % folds;
}

descent_status descent_dataset_fold(const descent_dataset *dataset, int64_t folds, int64_t fold, uint64_t seed,
                                    descent_dataset **kept, descent_dataset **held_out) {
  struct dealt_class *dealt = NULL;
  descent_dataset *others = NULL, *part = NULL;
  descent_status status;
  TRY(handle_check(dataset, HANDLE_DATASET, "dataset"));
  TRY(argument_check(kept, "kept"));
  TRY(argument_check(held_out, "held_out"));
  if (kept == held_out) TRY(status_set(DESCENT_ERROR_ARGUMENT, "held_out: is where kept goes"));
  if (folds < 2) TRY(status_set(DESCENT_ERROR_ARGUMENT, "folds %" PRId64 ": must be at least 2", folds));
  if (fold < 0 || fold >= folds)
    TRY(status_set(DESCENT_ERROR_ARGUMENT, "fold %" PRId64 ": must be 0 to %" PRId64, fold, folds - 1));
  const int64_t rows = dataset->rows, classes = view_classes(dataset);
  if (rows < folds)
    TRY(status_set(DESCENT_ERROR_DATA, "%" PRId64 " row%s cannot be cut into %" PRId64 " folds (use fewer folds)", rows,
                   rows == 1 ? "" : "s", folds));
  dealt = memory_allocate(classes, sizeof *dealt, "the folds");
  if (!dealt) TRY(DESCENT_ERROR_MEMORY);
  const int64_t held = rows / folds + (fold < rows % folds);
  others = view_create(dataset, rows - held);
  part = view_create(dataset, held);
  if (!others || !part) TRY(DESCENT_ERROR_MEMORY);
  shuffle_classes(dataset, seed, dealt, classes);
  for (int64_t r = 0; r < rows; r++)
    view_add(deal(&dealt[view_class(dataset, r)], folds) == fold ? part : others, dataset, r);
  *kept = others;
  *held_out = part;
  others = part = NULL;
done:
  descent_dataset_free(others);
  descent_dataset_free(part);
  free(dealt);
  return status;
}
