/* Refuses rows that no measure or prediction can be made of: an input so far from the training rows that it overflows
 * float32. "No data" values such as -3.4e38 do. */
#ifndef DESCENT_TRAIN_EXTREMES_H
#define DESCENT_TRAIN_EXTREMES_H

#include "data/dataset.h"
#include "model/network.h"

/* The largest size of a normalised input: the square of a larger one exceeds FLT_MAX. */
static const float extremes_largest_input = 0x1p64F;

/* ERROR_DATA, with row, input and value, if the square of a normalised input of rows first .. first + rows - 1 exceeds
 * float32: a network takes it, but no other input counts beside it. A missing cell is none, as it is replaced. */
descent_status extremes_check_inputs(const descent_network *network, const descent_dataset *dataset, int64_t first,
                                     int64_t rows);

/* ERROR_DATA, with row and likely cause, if one of `values`, (rows, outputs) from row `first` on, is not finite. */
descent_status extremes_check_outputs(const descent_network *network, const descent_dataset *dataset, int64_t first,
                                      int64_t rows, const float *values);

#endif
