/* Kinds of feature columns, inferred from the first rows. */
#ifndef DESCENT_DATA_COLUMN_KINDS_H
#define DESCENT_DATA_COLUMN_KINDS_H

#include "data/table.h"

/* Infers every unknown feature kind from the cells in table->sample: numbers when all are, else categories. ERROR_DATA,
 * naming the column, for text among mostly numbers, for dates and for free text. */
descent_status columns_infer_kinds(struct table *table);

#endif
