/* Values that may stand for "no data": -9999, 99999, -3.4e38 and the like, left in a column as numbers. */
#ifndef DESCENT_CLI_NO_DATA_H
#define DESCENT_CLI_NO_DATA_H

#include <descent/descent.h>
#include <stdio.h>

/* Prints a note about the columns of numbers, targets among them, in which one value dominates the range: it is
 * repeated, at one end, and the other values lie within a fraction of the distance to it. `missing`: the option
 * --missing as given, or NULL. Looks for them in about 100,000 rows, evenly spread, and counts them in all. */
void no_data_print(FILE *stream, const descent_dataset *training, const char *missing);

#endif
