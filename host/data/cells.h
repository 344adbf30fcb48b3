/* What a cell of text may be: missing, a number, a category, or something to refuse. */
#ifndef DESCENT_DATA_CELLS_H
#define DESCENT_DATA_CELLS_H

#include "data/table.h"

/* Is this one of the texts that stand for a missing cell, blanks around it aside? */
bool cell_is_missing(const struct table *table, const char *text, size_t length);
/* Is it one of the numbers that do, in a file of numbers? */
bool cell_number_is_missing(const struct table *table, double number);
/* Cuts the blanks from both ends. */
void cell_trim(const char **text, size_t *length);
/* What is wrong with a cell that should be a number, to follow the quoted cell in a message. */
const char *cell_number_problem(const descent_dataset_options *options, const char *text, size_t length, bool numeric,
                                double value);
/* Gives every feature of unknown kind one, by its cells in table->sample: numbers where all are, categories where they
 * are texts. ERROR_DATA, naming the column, for a slip among numbers, and for dates and free text. */
descent_status cells_decide(struct table *table);

#endif
