/* Looks for the input that is farthest from the training rows. */
#include "train/extremes.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "backend/formulas.h"
#include "core/number.h"
#include "core/status.h"

static const float *row_of(const descent_dataset *dataset, int64_t row) {
  return dataset->storage->X + dataset_source_row(dataset, row) * dataset->storage->inputs;
}

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

/* The input with the largest normalised value; unless `present`, the first that is missing and not replaced. */
static int64_t find_farthest(const descent_network *network, const float *x, bool present) {
  int64_t farthest = 0;
  float most = -1;
  for (int64_t j = 0; j < network->inputs; j++) {
    if (isnan(x[j]) && (network->fill || present)) continue;
    const float size = fabsf(normalised(network, j, x[j]));
    if (isnan(size)) return j;
    if (size > most) most = size, farthest = j;
  }
  return farthest;
}

static const char advice[] = "correct it, list it as missing, or leave the row out";

descent_status extremes_check_inputs(const descent_network *network, const descent_dataset *dataset, int64_t first,
                                     int64_t rows) {
  const float *restrict shift = network->shift, *restrict scale = network->scale;
  for (int64_t r = first; r < first + rows; r++) {
    const float *restrict x = row_of(dataset, r);
    int extreme = 0;
    for (int64_t j = 0; j < network->inputs; j++)
      extreme |=
          fabsf(formula_normalise(x[j], shift[j], scale[j])) > extremes_largest_input; /* false of a missing cell */
    if (!extreme) continue;
    char name[256], value[NUMBER_TEXT];
    const int64_t j = find_farthest(network, x, true);
    name_input(network, j, name, sizeof name);
    return status_set(DESCENT_ERROR_DATA,
                      "row %" PRId64 " (from 0): %s is %s, too large for float32 once it is normalised (%s)",
                      row_number(dataset, r), name, cell_text(network, j, x[j], value), advice);
  }
  return DESCENT_OK;
}

static descent_status refuse_output(const descent_network *network, const descent_dataset *dataset, int64_t row) {
  static const float far = 1e3F; /* of a normalised input; those of the training rows rarely exceed 10 */
  const float *x = row_of(dataset, row);
  const int64_t j = find_farthest(network, x, false);
  char name[256], value[NUMBER_TEXT];
  name_input(network, j, name, sizeof name);
  if (isnan(x[j]))
    return status_set(DESCENT_ERROR_DATA,
                      "row %" PRId64
                      " (from 0): the output is not finite: %s is missing, and the network does not replace "
                      "missing cells (fill it in)",
                      row_number(dataset, row), name);
  if (fabsf(normalised(network, j, x[j])) < far)
    return status_set(DESCENT_ERROR_DATA,
                      "row %" PRId64
                      " (from 0): the output is not finite, although no input is far from the training rows: "
                      "the weights are too large (train with a lower learning rate)",
                      row_number(dataset, row));
  return status_set(DESCENT_ERROR_DATA,
                    "row %" PRId64 " (from 0): the output is not finite: %s is %s, far from the training rows (%s)",
                    row_number(dataset, row), name, cell_text(network, j, x[j], value), advice);
}

descent_status extremes_check_outputs(const descent_network *network, const descent_dataset *dataset, int64_t first,
                                      int64_t rows, const float *values) {
  const int64_t outputs = network->layers[network->n_layers - 1].n_out;
  const int64_t found = number_find_non_finite(values, rows * outputs);
  return found == rows * outputs ? DESCENT_OK : refuse_output(network, dataset, first + found / outputs);
}
