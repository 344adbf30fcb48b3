/* Kinds of feature columns and the style of numbers, inferred from the first rows. */
#ifndef DESCENT_DATA_COLUMN_KINDS_H
#define DESCENT_DATA_COLUMN_KINDS_H

#include "data/table.h"

/* Whether the style of numbers has to be inferred: no option, network or --strict decides it. */
bool columns_infer_style(const struct table *table);
/* Infers the style of numbers and every unknown feature kind from the cells in table->sample: numbers when all are, else
 * categories. ERROR_DATA, naming the column, for text among mostly numbers, for numbers that can be read in two ways,
 * for dates and for free text. */
descent_status columns_infer_kinds(struct table *table);

#endif
