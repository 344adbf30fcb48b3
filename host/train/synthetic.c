/* Synthetic rows from the counter-based generator, and a network's constants into a compiled plan. */
#include "train/synthetic.h"

#include <stdlib.h>

#include "core/rng.h"
#include "core/status.h"

enum stream { STREAM_X, STREAM_Y, STREAM_WEIGHTS };

/* (rows, cols) of (z - 1/2) * width / scale[col] + shift[col], z uniform in (0, 1); NULL scale and shift: 1 and 0. */
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

descent_status synthetic_create(const descent_network *network, int64_t rows, uint64_t seed, struct synthetic *data) {
  static const double unit_variance = 3.4641016151377544; /* sqrt(12): the width of a uniform law of variance 1 */
  descent_status status = DESCENT_OK;
  int64_t outputs = network->layers[network->n_layers - 1].n_out, classes = network->classes;
  int64_t targets = classes ? 1 : outputs, count_X, count_y;
  *data = (struct synthetic){.rows = rows};
  if (!size_product(rows, network->inputs, &count_X) || !size_product(rows, targets, &count_y))
    return status_set(DESCENT_ERROR_MEMORY, "%lld synthetic rows of %lld inputs are too many", (long long)rows,
                      (long long)network->inputs);
  data->X = memory_allocate(count_X, sizeof *data->X, "synthetic rows");
  data->y = memory_allocate(count_y, sizeof *data->y, "synthetic targets");
  data->weights = memory_allocate(rows, sizeof *data->weights, "synthetic weights");
  if (classes) data->class_weights = memory_allocate(classes, sizeof *data->class_weights, "class weights");
  if (!data->X || !data->y || !data->weights || (classes && !data->class_weights)) {
    status = DESCENT_ERROR_MEMORY;
    goto done;
  }
  fill_uniform(data->X, rows, network->inputs, unit_variance, network->shift, network->scale, seed, STREAM_X);
  if (classes)
    fill_classes(data->y, rows, classes, seed);
  else
    fill_uniform(data->y, rows, targets, unit_variance, network->y_shift, network->y_scale, seed, STREAM_Y);
  static const float one = 1;
  fill_uniform(data->weights, rows, 1, 1, &one, NULL, seed, STREAM_WEIGHTS);
  for (int64_t k = 0; k < classes; k++) data->class_weights[k] = 0.5f + (float)(k + 1) / (float)classes;
done:
  if (status != DESCENT_OK) synthetic_clear(data);
  return status;
}

void synthetic_clear(struct synthetic *data) {
  free(data->X);
  free(data->y);
  free(data->weights);
  free(data->class_weights);
  *data = (struct synthetic){0};
}

descent_status synthetic_load(const struct synthetic *data, const descent_network *network, const struct plan *plan,
                              const struct plan_handles *handles, const struct backend *backend,
                              struct backend_program *program) {
  const struct {
    int buffer;
    const float *values;
  } constants[] = {{handles->parameters, network->parameters}, {handles->shift, network->shift},
                   {handles->scale, network->scale},           {handles->y_shift, network->y_shift},
                   {handles->y_scale, network->y_scale},       {handles->class_weight, data->class_weights}};
  descent_status status = DESCENT_OK;
  for (size_t i = 0; i < sizeof constants / sizeof *constants; i++) {
    if (constants[i].buffer == PLAN_NONE) continue;
    const struct plan_buffer *buffer = &plan->buffers[constants[i].buffer];
    TRY(backend->write(program, constants[i].buffer, 0, buffer->rows * buffer->cols, PLAN_F32, constants[i].values));
  }
  TRY(backend->bind(program, handles->source_X, data->X, data->rows));
  if (handles->source_y != PLAN_NONE) TRY(backend->bind(program, handles->source_y, data->y, data->rows));
done:
  return status;
}
