/* Holds an exported file against the network that it was made from: rows through both. */
#include "train/export_bounds.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/rng.h"
#include "core/status.h"
#include "data/dataset.h"
#include "model/export.h"
#include "model/onnx_check.h"
#include "train/check.h"

enum { BLOCK = 32, DRAWN_ROWS = 256 };

struct check {
  const descent_network *network;
  struct onnx_model *model;
  struct onnx_value *inputs;  /* (n_inputs) what the graph is given for a block */
  float *numbers;             /* (inputs, BLOCK) or (BLOCK, inputs) */
  ProtobufCBinaryData *texts; /* (columns, BLOCK) */
  int64_t n_inputs;
  struct export_value *work, *exact; /* see export_values; (outputs) */
  descent_export_difference difference;
};

/* ---- rows ------------------------------------------------------------------------------------------------------- */

/* A feature's inputs: missing where it can be, a number as drawn, or one category or none. */
static void draw_feature(const struct feature *feature, bool missing, uint32_t word, float *x) {
  const int64_t chosen = (int64_t)word % (feature->n_categories + 1);
  for (int64_t k = 0; k < feature->n_categories; k++) x[k] = missing ? NAN : (float)(k == chosen);
  if (!feature->categories && missing) *x = NAN;
  if (feature->indicator) x[feature_inputs(feature) - 1] = missing;
}

/* Uniform over three standard deviations to either side of the normalisation's middle; one cell in eight missing. */
static void draw_row(const descent_network *network, int64_t row, float *x) {
  static const struct feature number = {0};
  const struct schema *schema = &network->schema;
  const uint64_t first = (uint64_t)(row * network->inputs);
  for (int64_t j = 0; j < network->inputs; j++) {
    const double u = rng_word(0, RNG_SYNTHETIC, 0, 1, first + (uint64_t)j) * 0x1p-32;
    x[j] = (float)((double)network->shift[j] + (6 * u - 3) / (double)network->scale[j]);
  }
  for (int64_t c = 0, j = 0; j < network->inputs; c++) {
    const struct feature *feature = schema->features ? &schema->features[c] : &number;
    const uint32_t word = rng_word(0, RNG_SYNTHETIC, 0, 2, first + (uint64_t)j);
    draw_feature(feature, network->fill && word % 8 == 0, word / 8, x + j);
    j += feature_inputs(feature);
  }
}

static descent_status draw_rows(const descent_network *network, float **X, descent_dataset **dataset) {
  descent_status status;
  int64_t count;
  if (!size_product(DRAWN_ROWS, network->inputs, &count)) count = INT64_MAX;
  *X = memory_allocate(count, sizeof **X, "rows to check an export with");
  if (!*X) return DESCENT_ERROR_MEMORY;
  for (int64_t r = 0; r < DRAWN_ROWS; r++) draw_row(network, r, *X + r * network->inputs);
  TRY(descent_dataset_create(*X, NULL, NULL, DRAWN_ROWS, network->inputs, 0, DESCENT_TASK_REGRESSION, 0, dataset));
done:
  return status;
}

/* ---- the graph's inputs ----------------------------------------------------------------------------------------- */

/* The text of a row's category. */
static ProtobufCBinaryData category(const struct feature *feature, const float *x) {
  static const char none[] = "\x7f none of them"; /* no text that a table would have */
  const char *text = isnan(*x) ? export_missing_text(feature) : none;
  for (int64_t k = 0; k < feature->n_categories; k++)
    if (x[k] == 1) text = feature->categories[k];
  return (ProtobufCBinaryData){.len = strlen(text), .data = (uint8_t *)(uintptr_t)text};
}

/* Rows of inputs, as a dataset has them, to the columns of the table. */
static void fill_columns(struct check *check, const descent_dataset *dataset, int64_t first, int64_t rows) {
  const struct schema *schema = &check->network->schema;
  for (int64_t c = 0, j = 0; c < schema->n_features; j += feature_inputs(&schema->features[c++])) {
    const struct feature *feature = &schema->features[c];
    float *numbers = check->numbers + c * BLOCK;
    ProtobufCBinaryData *texts = check->texts + c * BLOCK;
    for (int64_t r = 0; r < rows; r++) {
      const float *x = dataset->storage->X + dataset_source_row(dataset, first + r) * check->network->inputs + j;
      if (feature->categories)
        texts[r] = category(feature, x);
      else
        numbers[r] = *x;
    }
    check->inputs[c] = (struct onnx_value){.rows = rows, .n = 1};
    if (feature->categories)
      check->inputs[c].texts = texts;
    else
      check->inputs[c].numbers = numbers;
  }
}

static void fill_matrix(struct check *check, const descent_dataset *dataset, int64_t first, int64_t rows) {
  const int64_t n = check->network->inputs;
  for (int64_t r = 0; r < rows; r++)
    memcpy(check->numbers + r * n, dataset->storage->X + dataset_source_row(dataset, first + r) * n,
           (size_t)n * sizeof *check->numbers);
  check->inputs[0] = (struct onnx_value){.rows = rows, .n = n, .numbers = check->numbers};
}

/* ---- comparing -------------------------------------------------------------------------------------------------- */

static void compare_value(struct check *check, double theirs, double ours, double error) {
  descent_export_difference *d = &check->difference;
  const double difference = fabs(theirs - ours);
  const double ratio = difference == 0 ? 0 : difference / (EXPORT_ERRORS * error);
  if (isnan(difference) || difference > d->largest) d->largest = difference; /* a NaN stays */
  if (isnan(ratio) || ratio > d->ratio) d->ratio = ratio;
}

/* The class that a label names; -1 for none. */
static int64_t class_of(const descent_network *network, const struct onnx_value *label, int64_t row) {
  if (!label->texts) return (int64_t)label->numbers[row];
  const ProtobufCBinaryData text = label->texts[row];
  for (int64_t k = 0; k < network->schema.classes; k++) {
    const char *name = network->schema.class_names[k];
    if (strlen(name) == text.len && memcmp(name, text.data, text.len) == 0) return k;
  }
  return -1;
}

/* May class k be the one that float32 arrives at? */
static bool possible(const struct export_value *exact, int64_t outputs, int64_t k) {
  if (k < 0) return false;
  if (outputs == 1) return (k == 1 ? 0.5 - exact[0].value : exact[0].value - 0.5) <= EXPORT_ERRORS * exact[0].error;
  for (int64_t j = 0; j < outputs; j++)
    if (exact[j].value - exact[k].value > EXPORT_ERRORS * (exact[j].error + exact[k].error)) return false;
  return true;
}

static descent_status compare_block(struct check *check, const descent_dataset *dataset, int64_t first, int64_t rows,
                                    const float *predicted) {
  const descent_network *network = check->network;
  const int64_t n = descent_network_outputs(network), columns = network->classes ? network->classes : n;
  const struct onnx_value *values = onnx_model_value(check->model, network->classes ? "probabilities" : "prediction");
  const struct onnx_value *label = onnx_model_value(check->model, "label");
  if (!values || !values->numbers || values->rows != rows || values->n != columns ||
      (network->classes && (!label || label->rows != rows || label->n != 1)))
    return status_set(DESCENT_ERROR_MODEL, "the exported graph's outputs do not fit the network");
  for (int64_t r = 0; r < rows; r++) {
    const float *x = dataset->storage->X + dataset_source_row(dataset, first + r) * network->inputs;
    const float *theirs = values->numbers + r * columns, *ours = predicted + r * n;
    export_values(network, x, check->work, check->exact);
    for (int64_t k = 0; k < n; k++) compare_value(check, theirs[columns - n + k], ours[k], check->exact[k].error);
    if (columns > n) compare_value(check, theirs[0], 1 - (double)ours[0], check->exact[0].error + 0x1p-24);
    if (network->classes && !possible(check->exact, n, class_of(network, label, r))) check->difference.wrong_labels++;
  }
  return DESCENT_OK;
}

static descent_status compare(struct check *check, const descent_dataset *dataset, const float *predicted) {
  const int64_t n = descent_network_outputs(check->network);
  descent_status status = DESCENT_OK;
  for (int64_t first = 0; first < dataset->rows; first += BLOCK) {
    const int64_t rows = dataset->rows - first < BLOCK ? dataset->rows - first : BLOCK;
    if (check->texts)
      fill_columns(check, dataset, first, rows);
    else
      fill_matrix(check, dataset, first, rows);
    TRY(onnx_model_run(check->model, check->inputs));
    TRY(compare_block(check, dataset, first, rows, predicted + first * n));
  }
  check->difference.rows = dataset->rows;
  check->difference.pass = check->difference.ratio <= 1 && check->difference.wrong_labels == 0;
done:
  return status;
}

/* ---- all of it -------------------------------------------------------------------------------------------------- */

static descent_status prepare(struct check *check, const char *path) {
  const descent_network *network = check->network;
  const struct schema *schema = &network->schema;
  const bool matrix = export_is_matrix(network);
  int64_t count, columns = matrix ? 1 : schema->n_features;
  descent_status status;
  TRY(onnx_model_open(path, &check->model));
  check->n_inputs = onnx_model_inputs(check->model);
  if (check->n_inputs != columns)
    TRY(status_set(DESCENT_ERROR_MODEL, "%s: has %" PRId64 " inputs, not %" PRId64, path, check->n_inputs, columns));
  if (!size_product(network->inputs, BLOCK, &count)) count = INT64_MAX;
  check->numbers = memory_allocate(count, sizeof *check->numbers, "rows of a check");
  check->inputs = memory_allocate(columns, sizeof *check->inputs, "rows of a check");
  check->work = memory_allocate(export_values_room(network), sizeof *check->work, "bounds");
  check->exact = memory_allocate(descent_network_outputs(network), sizeof *check->exact, "bounds");
  if (!matrix) check->texts = memory_allocate(columns * BLOCK, sizeof *check->texts, "rows of a check");
  if (!check->numbers || !check->inputs || !check->work || !check->exact || (!matrix && !check->texts))
    TRY(DESCENT_ERROR_MEMORY);
done:
  return status;
}

descent_status descent_export_check(const descent_network *network, descent_device *device, const char *path,
                                    const descent_dataset *dataset, descent_export_difference *difference) {
  struct check check = {.network = network};
  descent_dataset *drawn = NULL;
  float *X = NULL, *predicted = NULL;
  int64_t count;
  descent_status status;
  TRY(prepare(&check, path));
  if (!dataset) {
    TRY(draw_rows(network, &X, &drawn));
    dataset = drawn;
  }
  TRY(check_dataset(network, dataset, false, "the rows to check with"));
  if (!size_product(dataset->rows, descent_network_outputs(network), &count)) count = INT64_MAX;
  predicted = memory_allocate(count, sizeof *predicted, "predictions");
  if (!predicted) TRY(DESCENT_ERROR_MEMORY);
  TRY(descent_predict(network, device, dataset, predicted));
  TRY(compare(&check, dataset, predicted));
  *difference = check.difference;
done:
  onnx_model_close(check.model);
  free(check.numbers);
  free(check.texts);
  free(check.inputs);
  free(check.work);
  free(check.exact);
  descent_dataset_free(drawn);
  free(X);
  free(predicted);
  return status;
}
