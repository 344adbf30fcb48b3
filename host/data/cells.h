/* Kinds of text cells: missing, number, category, or invalid. */
#ifndef DESCENT_DATA_CELLS_H
#define DESCENT_DATA_CELLS_H

#include "data/table.h"

/* Whether this text, without surrounding blanks, stands for a missing cell. */
bool cell_is_missing(const struct table *table, const char *text, size_t length);
/* The same for a number in a file of numbers. */
bool cell_number_is_missing(const struct table *table, double number);
/* Removes blanks from both ends. */
void cell_trim(const char **text, size_t *length);
/* Why a cell is not a valid number: a predicate that follows the quoted cell in a message. `numeric`: it parsed as
 * `value`. */
const char *cell_number_problem(const descent_dataset_options *options, const char *text, size_t length, bool numeric,
                                double value);
/* Infers every unknown feature kind from the cells in table->sample: numbers when all are, else categories. ERROR_DATA,
 * naming the column, for text among mostly numbers, for dates and for free text. */
descent_status cells_infer_kinds(struct table *table);

#endif
