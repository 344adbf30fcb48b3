/* Opening a data file: picks the reader and tells it what a given network expects. */
#include <inttypes.h>
#include <stdlib.h>

#include "core/status.h"
#include "data/dataset.h"

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
  struct expected expected = {0};
  descent_dataset *created = NULL;
  descent_status status;
  TRY(check_options(path, options));
  if (options->like)
    expected = (struct expected){.schema = network_schema(options->like),
                                 .inputs = descent_network_inputs(options->like),
                                 .targets = descent_network_outputs(options->like),
                                 .classes = descent_network_classes(options->like),
                                 .task = descent_network_task(options->like)};
  created = memory_allocate(1, sizeof *created, "the dataset");
  if (!created) {
    status = DESCENT_ERROR_MEMORY;
    goto done;
  }
  /* Formats are told by the file's ending; what has none of its own is CSV. */
  TRY(csv_read(path, options, options->like ? &expected : NULL, &created->storage));
  created->rows = created->storage->rows;
  *dataset = created;
  created = NULL;
done:
  descent_dataset_free(created);
  return status;
}
