/* Reading a file of any format a block of rows at a time, in order. */
#ifndef DESCENT_DATA_READ_H
#define DESCENT_DATA_READ_H

#include "data/table.h"

/* Completes and checks the options for reading `path`. Those left open are taken from the network. ERROR_ARGUMENT. */
descent_status read_resolve_options(const char *path, const descent_dataset_options *given,
                                    descent_dataset_options *options);

/* Reads all rows with `options`, resolved and with a network; the last block may be shorter. ERROR_READ, ERROR_DATA, and
 * what `consume` returns. */
descent_status read_in_blocks(const char *path, const descent_dataset_options *options,
                              const struct table_blocks *blocks);

#endif
