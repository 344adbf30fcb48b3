/* Fits a network's imputation and normalisation to the training rows and copies their schema; from rows without targets
 * the inputs' part of it. On failure the network is unchanged. */
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/status.h"
#include "core/terms.h"
#include "train/check.h"

descent_status descent_network_fit_preprocessing(descent_network *network, const descent_dataset *dataset,
                                                 descent_normalize inputs, descent_impute impute,
                                                 bool standardise_targets) {
  struct schema schema = {0};
  float *constants = NULL, *fill = NULL;
  descent_status status;
  TRY(network_check_unused(network));
  TRY(network_check_plain(network, "fit_preprocessing"));
  TRY(handle_check(dataset, HANDLE_DATASET, "dataset"));
  const struct dataset_storage *storage = dataset->storage;
  const int64_t n_x = network->inputs, n_y = network_outputs(network);
  const bool standardises = standardise_targets && loss_is_regression(network->loss);
  TRY(check_dataset(network, dataset, storage->y || standardises, "the training data"));
  if ((unsigned)inputs > DESCENT_NORMALIZE_MINMAX)
    TRY(status_set(DESCENT_ERROR_ARGUMENT, "inputs %d: must be a descent_normalize", (int)inputs));
  if ((unsigned)impute > DESCENT_IMPUTE_MOST_FREQUENT)
    TRY(status_set(DESCENT_ERROR_ARGUMENT, "impute %d: must be a descent_impute", (int)impute));
  fill = memory_allocate(n_x, sizeof *fill, "the values of missing cells");
  if (!fill) TRY(DESCENT_ERROR_MEMORY);
  constants = memory_allocate(2 * n_x + 2 * n_y, sizeof *constants, "the normalisation");
  if (!constants) TRY(DESCENT_ERROR_MEMORY);
  float *shift = constants, *scale = shift + n_x, *y_shift = scale + n_x, *y_scale = y_shift + n_y;
  for (int64_t j = 0; j < n_x; j++) scale[j] = 1;
  for (int64_t k = 0; k < n_y; k++) y_scale[k] = 1;
  TRY(preprocess_fit_inputs(dataset, impute, inputs, fill, shift, scale));
  if (standardises) TRY(preprocess_fit_targets(dataset, y_shift, y_scale));
  TRY(schema_copy(&storage->schema, &schema));
  /* With fewer classes than the network has, names would exist only for some of them. */
  if (storage->classes != network->classes) schema_drop_classes(&schema);
  if (!storage->y) {
    schema_swap_targets(&network->schema, &schema);
    memcpy(y_shift, network->y_shift, (size_t)n_y * sizeof *y_shift);
    memcpy(y_scale, network->y_scale, (size_t)n_y * sizeof *y_scale);
  }

  network->normalize = inputs;
  network->impute = impute;
  free(network->fill);
  network->fill = fill;
  fill = NULL;
  memcpy(network->shift, shift, (size_t)n_x * sizeof *shift);
  memcpy(network->scale, scale, (size_t)n_x * sizeof *scale);
  memcpy(network->y_shift, y_shift, (size_t)n_y * sizeof *y_shift);
  memcpy(network->y_scale, y_scale, (size_t)n_y * sizeof *y_scale);
  schema_clear(&network->schema);
  network->schema = schema;
  schema = (struct schema){0};
done:
  schema_clear(&schema);
  free(constants);
  free(fill);
  return status;
}
