/* Views: some of the rows of a dataset, whose storage they share. */
#ifndef DESCENT_DATA_VIEW_H
#define DESCENT_DATA_VIEW_H

#include "data/dataset.h"

/* A view without rows, with room for `rows` of them; NULL with the error set. */
descent_dataset *view_create(const descent_dataset *parent, int64_t rows);
/* Appends a row of `parent`; rows are to come in ascending order. */
static inline void view_add(descent_dataset *view, const descent_dataset *parent, int64_t row) {
  view->index[view->rows++] = dataset_source_row(parent, row);
}

/* Classes by which rows are stratified; 1 for values and where there are no targets. */
int64_t view_classes(const descent_dataset *dataset);
/* The class of a row, from 0. */
int64_t view_class(const descent_dataset *dataset, int64_t row);

#endif
