/* Opening a data file: picks the reader and tells it what a given network expects. */
#include <inttypes.h>
#include <stdlib.h>

#include "core/status.h"
#include "data/dataset.h"

static void schema_clear(struct dataset_schema *schema) {
  free((void *)schema->input_names);
  free((void *)schema->class_names);
}

/* Borrows the network's names. */
static descent_status schema_from(const descent_network *network, struct dataset_schema *schema) {
  *schema = (struct dataset_schema){.inputs = descent_network_inputs(network),
                                    .target_name = descent_network_target_name(network),
                                    .classes = descent_network_classes(network),
                                    .task = descent_network_task(network)};
  if (descent_network_input_name(network, 0)) {
    const char **names = memory_allocate(schema->inputs, sizeof *names, "the column names");
    if (!names) return DESCENT_ERROR_MEMORY;
    for (int64_t j = 0; j < schema->inputs; j++) names[j] = descent_network_input_name(network, j);
    schema->input_names = names;
  }
  if (descent_network_class_name(network, 0)) {
    const char **names = memory_allocate(schema->classes, sizeof *names, "the class names");
    if (!names) return DESCENT_ERROR_MEMORY;
    for (int64_t k = 0; k < schema->classes; k++) names[k] = descent_network_class_name(network, k);
    schema->class_names = names;
  }
  return DESCENT_OK;
}

static descent_status check_options(const char *path, const descent_dataset_options *options) {
  if (!path) return status_set(DESCENT_ERROR_ARGUMENT, "a data file's path is missing");
  if (!options || options->size != sizeof *options)
    return status_set(DESCENT_ERROR_ARGUMENT, "dataset options must start from DESCENT_DATASET_OPTIONS_INIT");
  if ((unsigned)options->task > DESCENT_TASK_REGRESSION)
    return status_set(DESCENT_ERROR_ARGUMENT, "unknown task %d", (int)options->task);
  if (options->ignored < 0 || (options->ignored && !options->ignore))
    return status_set(DESCENT_ERROR_ARGUMENT, "%" PRId64 " ignored columns, but no list of them", options->ignored);
  for (int64_t k = 0; k < options->ignored; k++)
    if (!options->ignore[k]) return status_set(DESCENT_ERROR_ARGUMENT, "ignored column %" PRId64 " is NULL", k);
  if (options->like && options->task != DESCENT_TASK_AUTO && options->task != descent_network_task(options->like))
    return status_set(DESCENT_ERROR_ARGUMENT, "task %s: the network's is %s", descent_task_name(options->task),
                      descent_task_name(descent_network_task(options->like)));
  return DESCENT_OK;
}

descent_status descent_dataset_read(const char *path, const descent_dataset_options *options,
                                    descent_dataset **dataset) {
  struct dataset_schema schema = {0};
  descent_dataset *created = NULL;
  descent_status status;
  TRY(check_options(path, options));
  if (options->like) TRY(schema_from(options->like, &schema));
  created = memory_allocate(1, sizeof *created, "the dataset");
  if (!created) {
    status = DESCENT_ERROR_MEMORY;
    goto done;
  }
  /* Formats are told by the file's ending; what has none of its own is CSV. */
  TRY(csv_read(path, options, options->like ? &schema : NULL, &created->storage));
  created->rows = created->storage->rows;
  *dataset = created;
  created = NULL;
done:
  schema_clear(&schema);
  descent_dataset_free(created);
  return status;
}
