/* Looks for the input that is farthest from the training rows. */
#include "train/extremes.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "backend/formulas.h"
#include "core/number.h"
#include "core/status.h"

/* "row 12 (from 0)", counted over all blocks of a file. */
static int64_t row_number(const descent_dataset *dataset, int64_t row) {
  return dataset->storage->before + dataset_source_row(dataset, row);
}

/* "input 'height'", or "input 3 (from 0)" without names. */
static void name_input(const descent_network *network, int64_t j, char *text, size_t size) {
  const char *name = schema_text(network->schema.input_names, network->schema.inputs, j);
  if (name)
    snprintf(text, size, "input '%.200s'", name);
  else
    snprintf(text, size, "input %" PRId64 " (from 0)", j);
}

/* The cell that became this input. */
static const char *cell_text(const descent_network *network, int64_t j, float x, char text[NUMBER_TEXT]) {
  const double offset = schema_offset(network->schema.offsets, network->schema.n_offsets, j);
  return offset == 0 ? number_format_float(x, text) : number_format(dataset_add_offset(offset, x), text);
}

static float normalised(const descent_network *network, int64_t j, float x) {
  return formula_normalise(x, network->shift[j], network->scale[j]);
}

/* Input j of a row, as stored. */
static float input_of(const descent_dataset *dataset, int64_t row, int64_t j) {
  const struct dataset_storage *s = dataset->storage;
  return dataset_cell(s, dataset_source_row(dataset, row) * s->inputs + j);
}

/* The input with the largest normalised value; unless `present`, the first that is missing and not replaced. */
static int64_t find_farthest(const descent_network *network, const descent_dataset *dataset, int64_t row,
                             bool present) {
  int64_t farthest = 0;
  float most = -1;
  for (int64_t j = 0; j < network->inputs; j++) {
    const float x = input_of(dataset, row, j);
    if (isnan(x) && (network->fill || present)) continue;
    const float size = fabsf(normalised(network, j, x));
    if (isnan(size)) return j;
    if (size > most) most = size, farthest = j;
  }
  return farthest;
}

static const char advice[] = "correct it, list it as missing, or leave the row out";

/* Whether one of n inputs is too large. */
static bool has_extreme(const float *restrict x, const float *restrict shift, const float *restrict scale, int64_t n) {
  int extreme = 0;
  for (int64_t j = 0; j < n; j++)
    extreme |=
        fabsf(formula_normalise(x[j], shift[j], scale[j])) > extremes_largest_input; /* false of a missing cell */
  return extreme;
}

static bool row_has_extreme(const descent_network *network, const descent_dataset *dataset, int64_t row) {
  float piece[DATASET_PIECE];
  for (int64_t j = 0; j < network->inputs; j += DATASET_PIECE) {
    const int64_t n = network->inputs - j < DATASET_PIECE ? network->inputs - j : DATASET_PIECE;
    const float *x = dataset_cells(dataset->storage, dataset_source_row(dataset, row), j, n, piece);
    if (has_extreme(x, network->shift + j, network->scale + j, n)) return true;
  }
  return false;
}

descent_status extremes_check_inputs(const descent_network *network, const descent_dataset *dataset, int64_t first,
                                     int64_t rows) {
  for (int64_t r = first; r < first + rows; r++) {
    if (!row_has_extreme(network, dataset, r)) continue;
    char name[256], value[NUMBER_TEXT];
    const int64_t j = find_farthest(network, dataset, r, true);
    name_input(network, j, name, sizeof name);
    return status_set(DESCENT_ERROR_DATA,
                      "row %" PRId64 " (from 0): %s is %s, too large for float32 once it is normalised (%s)",
                      row_number(dataset, r), name, cell_text(network, j, input_of(dataset, r, j), value), advice);
  }
  return DESCENT_OK;
}

static descent_status refuse_output(const descent_network *network, const descent_dataset *dataset, int64_t row) {
  static const float far = 1e3F; /* of a normalised input; those of the training rows rarely exceed 10 */
  const int64_t j = find_farthest(network, dataset, row, false);
  const float x = input_of(dataset, row, j);
  char name[256], value[NUMBER_TEXT];
  name_input(network, j, name, sizeof name);
  if (isnan(x))
    return status_set(DESCENT_ERROR_DATA,
                      "row %" PRId64
                      " (from 0): the output is not finite: %s is missing, and the network does not replace "
                      "missing cells (fill it in)",
                      row_number(dataset, row), name);
  if (fabsf(normalised(network, j, x)) < far)
    return status_set(DESCENT_ERROR_DATA,
                      "row %" PRId64
                      " (from 0): the output is not finite, although no input is far from the training rows: "
                      "the weights are too large (train with a lower learning rate)",
                      row_number(dataset, row));
  return status_set(DESCENT_ERROR_DATA,
                    "row %" PRId64 " (from 0): the output is not finite: %s is %s, far from the training rows (%s)",
                    row_number(dataset, row), name, cell_text(network, j, x, value), advice);
}

descent_status extremes_check_outputs(const descent_network *network, const descent_dataset *dataset, int64_t first,
                                      int64_t rows, const float *values) {
  const int64_t outputs = network->layers[network->n_layers - 1].n_out;
  const int64_t found = number_find_non_finite(values, rows * outputs);
  return found == rows * outputs ? DESCENT_OK : refuse_output(network, dataset, first + found / outputs);
}
