#include "data/view.h"

#include <stdlib.h>

#include "core/memory.h"

descent_dataset *view_create(const descent_dataset *parent, int64_t rows) {
  int64_t *index = memory_allocate(rows, sizeof *index, "the split");
  descent_dataset *view = index ? dataset_create() : NULL;
  if (!view) {
    free(index);
    return NULL;
  }
  view->storage = parent->storage;
  view->index = index;
  __atomic_add_fetch(&parent->storage->references, 1, __ATOMIC_RELAXED);
  return view;
}

int64_t view_classes(const descent_dataset *dataset) {
  const struct dataset_storage *s = dataset->storage;
  return s->y && s->classes ? s->classes : 1;
}

int64_t view_class(const descent_dataset *dataset, int64_t row) {
  const struct dataset_storage *s = dataset->storage;
  return s->y && s->classes ? (int64_t)s->y[dataset_source_row(dataset, row)] : 0;
}
