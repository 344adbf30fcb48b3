/* Generates synthetic rows with the counter-based generator. */
#include "verify/synthetic.h"

#include <stdlib.h>

#include "core/memory.h"
#include "core/rng.h"
#include "core/status.h"

enum stream { STREAM_X, STREAM_Y, STREAM_WEIGHTS, STREAM_DA };

/* (rows, cols) of (z - 1/2) * width / scale[col] + shift[col], z uniform in (0, 1). NULL scale: 1; NULL shift: 0. */
static void fill_uniform(float *values, int64_t rows, int64_t cols, double width, const float *shift,
                         const float *scale, uint64_t seed, enum stream stream) {
  philox4x32_ctr_t words = {{0}};
  for (int64_t r = 0, i = 0; r < rows; r++)
    for (int64_t c = 0; c < cols; c++, i++) {
      if (i % 4 == 0) words = rng_block(seed, RNG_SYNTHETIC, stream, 0, (uint64_t)i / 4);
      double centred = ((words.v[i % 4] + 0.5) * 0x1p-32 - 0.5) * width;
      values[i] = (float)((scale ? centred / (double)scale[c] : centred) + (shift ? (double)shift[c] : 0));
    }
}

static void fill_classes(float *y, int64_t rows, int64_t classes, uint64_t seed) {
  for (int64_t r = 0; r < rows; r++)
    y[r] = (float)(rng_word(seed, RNG_SYNTHETIC, STREAM_Y, 0, (uint64_t)r) % (uint64_t)classes);
}

static descent_status allocate(const descent_network *network, int64_t rows, struct synthetic *data) {
  const struct dataset_storage *storage = &data->storage;
  int64_t count_X, count_y;
  if (!size_product(rows, storage->inputs, &count_X) || !size_product(rows, storage->targets, &count_y))
    return status_set(DESCENT_ERROR_MEMORY, "%lld synthetic rows of %lld inputs exceed the address space",
                      (long long)rows, (long long)storage->inputs);
  data->X = memory_allocate(count_X, sizeof *data->X, "synthetic rows");
  data->y = memory_allocate(count_y, sizeof *data->y, "synthetic targets");
  data->weights = memory_allocate(rows, sizeof *data->weights, "synthetic weights");
  data->index = memory_allocate(rows, sizeof *data->index, "the index of the synthetic rows");
  if (network->classes)
    data->class_weights = memory_allocate(network->classes, sizeof *data->class_weights, "class weights");
  const bool all = data->X && data->y && data->weights && data->index && (data->class_weights || !network->classes);
  return all ? DESCENT_OK : DESCENT_ERROR_MEMORY;
}

descent_status synthetic_create(const descent_network *network, int64_t rows, uint64_t seed, struct synthetic *data) {
  static const double unit_variance =
      3.4641016151377544; /* sqrt(12): the width of a uniform distribution of variance 1 */
  static const float one = 1;
  const int64_t classes = network->classes, outputs = network->layers[network->n_layers - 1].n_out;
  *data = (struct synthetic){0};
  data->storage = (struct dataset_storage){
      .references = 1, .rows = rows, .inputs = network->inputs, .targets = classes ? 1 : outputs, .classes = classes};
  descent_status status = allocate(network, rows, data);
  if (status != DESCENT_OK) {
    synthetic_clear(data);
    return status;
  }
  fill_uniform(data->X, rows, network->inputs, unit_variance, network->shift, network->scale, seed, STREAM_X);
  if (classes)
    fill_classes(data->y, rows, classes, seed);
  else
    fill_uniform(data->y, rows, outputs, unit_variance, network->y_shift, network->y_scale, seed, STREAM_Y);
  fill_uniform(data->weights, rows, 1, 1, &one, NULL, seed, STREAM_WEIGHTS);
  for (int64_t k = 0; k < classes; k++) data->class_weights[k] = 0.5f + (float)(k + 1) / (float)classes;
  for (int64_t i = 0; i < rows; i++) data->index[i] = rows - 1 - i;
  data->storage.X = data->X;
  data->storage.y = data->y;
  data->storage.weights = data->weights;
  data->dataset = (descent_dataset){.storage = &data->storage, .index = data->index, .rows = rows};
  return DESCENT_OK;
}

void synthetic_output_gradient(double *dA, int64_t count, int64_t rows, uint64_t seed, int64_t number) {
  for (int64_t i = 0; i < count; i++) {
    const double u = rng_uniform(seed, RNG_SYNTHETIC, STREAM_DA, (uint64_t)number, (uint64_t)i);
    dA[i] = (2 * u - 1) / (double)rows;
  }
}

void synthetic_clear(struct synthetic *data) {
  free(data->X);
  free(data->y);
  free(data->weights);
  free(data->class_weights);
  free(data->index);
  *data = (struct synthetic){0};
}
