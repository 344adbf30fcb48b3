/* One cell of text: missing, a number, or an invalid number. */
#ifndef DESCENT_DATA_CELLS_H
#define DESCENT_DATA_CELLS_H

#include <descent/descent.h>

#include "core/number.h"
#include "data/cell_forms.h"

/* Which cells count as missing, by the options. */
struct missing_cells {
  const descent_dataset_options *options; /* borrowed */
  double *numbers;                        /* (n_numbers) numeric values of the options' texts for missing cells */
  int64_t n_numbers;
  enum number_style style; /* of the file's numbers */
};
/* ERROR_MEMORY. */
descent_status missing_cells_create(const descent_dataset_options *options, struct missing_cells *missing);
void missing_cells_clear(struct missing_cells *missing);

/* Whether this text, without surrounding blanks, stands for a missing cell. */
bool cell_is_missing(const struct missing_cells *missing, const char *text, size_t length);
/* The same for a number in a file of numbers. */
bool cell_number_is_missing(const struct missing_cells *missing, double number);
/* Why a cell is not a valid number: a predicate that follows the quoted cell in a message. `numeric`: it parsed as
 * `value`. */
const char *cell_number_problem(const struct missing_cells *missing, const char *text, size_t length, bool numeric,
                                double value);
/* The same for a text that would be a number but for its separators or a sign, in the file's style; else NULL. */
const char *cell_separator_problem(enum number_style style, const char *text, size_t length);
#endif
