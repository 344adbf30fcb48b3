/* Opening a data file: chooses the reader and describes the network that the data must fit. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/options.h"
#include "core/status.h"
#include "data/binary.h"
#include "data/format.h"
#include "data/stream.h"
#include "data/table.h"

static descent_status check_texts(const char *const *texts, int64_t n, const char *what) {
  if (n < 0 || (n && !texts))
    return status_set(DESCENT_ERROR_ARGUMENT, "%" PRId64 " %s, but the list is NULL", n, what);
  for (int64_t k = 0; k < n; k++)
    if (!texts[k]) return status_set(DESCENT_ERROR_ARGUMENT, "%s: entry %" PRId64 " (from 0) is NULL", what, k);
  return DESCENT_OK;
}

static descent_status check_options(const descent_dataset_options *options) {
  if ((unsigned)options->task > DESCENT_TASK_REGRESSION)
    return status_set(DESCENT_ERROR_ARGUMENT, "unknown task %d", (int)options->task);
  if (options->target && options->target_file)
    return status_set(DESCENT_ERROR_ARGUMENT, "both a target and a target file are given: choose one");
  if ((unsigned)options->unseen > DESCENT_UNSEEN_ZEROS)
    return status_set(DESCENT_ERROR_ARGUMENT, "unknown policy for unseen categories %d", (int)options->unseen);
  if (options->decimal && options->decimal != '.' && options->decimal != ',')
    return status_set(DESCENT_ERROR_ARGUMENT, "invalid decimal separator 0x%02x: must be . or ,",
                      (unsigned char)options->decimal);
  if (options->decimal && options->decimal == options->delimiter)
    return status_set(DESCENT_ERROR_ARGUMENT,
                      "'%c' is both the delimiter and the decimal separator: choose another one", options->decimal);
  descent_status status;
  if (options->network) TRY(handle_check(options->network, HANDLE_NETWORK, "dataset options: network"));
  if (options->network && options->task != DESCENT_TASK_AUTO && options->task != descent_network_task(options->network))
    return status_set(DESCENT_ERROR_ARGUMENT, "task %s does not match the network's task %s",
                      descent_task_name(options->task), descent_task_name(descent_network_task(options->network)));
  TRY(check_texts(options->ignore, options->ignored, "ignored columns"));
  TRY(check_texts(options->categorical, options->categoricals, "categorical columns"));
  TRY(check_texts(options->missing, options->missing_texts, "texts of missing cells"));
done:
  return status;
}

static struct expected_data expected_from_network(const descent_network *network) {
  const struct schema *schema = network_schema(network);
  const int64_t inputs = descent_network_inputs(network);
  return (struct expected_data){.schema = schema,
                                .features = schema->features ? schema->n_features : inputs,
                                .inputs = inputs,
                                .targets = descent_network_outputs(network),
                                .classes = descent_network_classes(network),
                                .task = descent_network_task(network),
                                .imputes = descent_network_imputes(network)};
}

static descent_status open_matrix(const struct file_choice *choice, const struct expected_data *expected,
                                  struct matrix *matrix) {
  switch (choice->format) {
    case FORMAT_NPY: return npy_open(choice->path, matrix);
    case FORMAT_NPZ: return npz_open(choice->path, choice->part, matrix);
    case FORMAT_IDX: return idx_open(choice->path, matrix);
    case FORMAT_SVMLIGHT:
      if (expected && expected->schema->indexed_columns)
        return svmlight_open(choice->path, choice->base, (int)expected->schema->first_index,
                             expected->schema->indexed_columns, matrix);
      return svmlight_open(choice->path, choice->base, -1, expected ? expected->features : 0, matrix);
    case FORMAT_HDF5: return hdf5_open(choice->path, choice->part, matrix);
    case FORMAT_CSV:
    case FORMAT_SAFETENSORS: break; /* not read as a matrix */
  }
  return status_set(DESCENT_ERROR_INTERNAL, "%s: no reader of format %d", choice->path, (int)choice->format);
}

/* Completes and checks the options. Those left open are taken from the network. */
static descent_status resolve_options(const char *path, const descent_dataset_options *given,
                                      descent_dataset_options *options) {
  descent_status status;
  TRY(argument_check(path, "path"));
  TRY(complete_dataset_options(given, options));
  TRY(check_options(options));
  const struct schema *known = options->network ? network_schema(options->network) : NULL;
  if (known && known->missing && !options->missing) {
    options->missing = (const char *const *)known->missing;
    options->missing_texts = known->n_missing;
  }
done:
  return status;
}

/* Reads a file with the reader of its format. */
static descent_status read_file(const char *path, const struct read_request *request, const struct table_blocks *blocks,
                                struct dataset_storage **storage) {
  struct file_choice choice = {0};
  struct matrix matrix = {0};
  descent_status status;
  TRY(format_choose(path, request->options->format, &choice));
  if (choice.format == FORMAT_CSV) {
    TRY(csv_read(choice.path, request, blocks, storage));
  } else if (choice.format == FORMAT_SAFETENSORS) {
    TRY(binary_read(choice.path, request, blocks, storage));
  } else {
    TRY(open_matrix(&choice, request->expected, &matrix));
    TRY(matrix_read_as_table(&matrix, request, blocks, storage));
  }
done:
  matrix_close(&matrix);
  format_clear(&choice);
  return status;
}

/* Reads the target file and moves its targets to `storage`. */
static descent_status add_target_file(const struct read_request *request, struct dataset_storage *storage) {
  const char *path = request->options->target_file;
  const struct expected_data *expected = request->expected;
  descent_dataset_options target_options = *request->options;
  struct expected_data classes = {0};
  struct dataset_storage *targets = NULL;
  struct schema schema = {0};
  descent_status status;
  target_options.format = NULL; /* determined by its own name */
  target_options.target = NULL;
  target_options.target_file = NULL;
  target_options.weight_column = NULL;
  target_options.network = NULL;
  target_options.ignored = target_options.categoricals = 0;
  if (expected) { /* only the part about targets */
    classes = *expected;
    schema.class_names = expected->schema->class_names;
    schema.classes = expected->schema->classes;
    schema.target_offsets = expected->schema->target_offsets;
    schema.n_target_offsets = expected->schema->n_target_offsets;
    schema.numbers = expected->schema->numbers;
    classes.schema = &schema;
    classes.features = 0;
  }
  const struct read_request target_request = {&target_options, expected ? &classes : NULL, true};
  TRY(read_file(path, &target_request, NULL, &targets));
  if (targets->dropped)
    TRY(status_set(DESCENT_ERROR_DATA,
                   "%s: %" PRId64 " targets are missing (fill them in, or remove their rows from both files)", path,
                   targets->dropped));
  if (targets->rows != storage->rows)
    TRY(status_set(DESCENT_ERROR_DATA, "%s: %" PRId64 " targets for %" PRId64 " rows of data", path, targets->rows,
                   storage->rows));
  storage->y = storage->owned_y = targets->owned_y;
  targets->owned_y = NULL;
  storage->targets = targets->targets;
  storage->classes = targets->classes;
  storage->task = targets->task;
  storage->schema.target_names = targets->schema.target_names;
  storage->schema.targets = targets->schema.targets;
  storage->schema.class_names = targets->schema.class_names;
  storage->schema.classes = targets->schema.classes;
  storage->schema.target_offsets = targets->schema.target_offsets;
  storage->schema.n_target_offsets = targets->schema.n_target_offsets;
  storage->y_rounding = targets->y_rounding;
  if (storage->schema.numbers == NUMBER_PLAIN) storage->schema.numbers = targets->schema.numbers;
  note_add(storage->note, targets->note);
  targets->schema.target_names = targets->schema.class_names = NULL;
  targets->schema.target_offsets = targets->y_rounding = NULL;
  targets->schema.targets = targets->schema.classes = targets->schema.n_target_offsets = 0;
done:
  dataset_storage_release(targets);
  return status;
}

/* Reads all of a file, without X in a survey. */
static descent_status read_whole(const char *path, const descent_dataset_options *options,
                                 const struct table_blocks *survey, struct dataset_storage **storage) {
  struct expected_data expected;
  struct read_request request = {.options = options};
  descent_status status;
  if (options->network) {
    expected = expected_from_network(options->network);
    request.expected = &expected;
  }
  TRY(read_file(path, &request, survey, storage));
  if (options->target_file && !options->features_only) TRY(add_target_file(&request, *storage));
done:
  return status;
}

descent_status descent_dataset_read(const char *path, const descent_dataset_options *options,
                                    descent_dataset **dataset) {
  struct dataset_storage *storage = NULL;
  descent_dataset *created;
  descent_dataset_options complete;
  descent_status status;
  TRY(argument_check(dataset, "dataset"));
  TRY(resolve_options(path, options, &complete));
  TRY(read_whole(path, &complete, NULL, &storage));
  created = dataset_wrap(storage);
  if (!created) TRY(DESCENT_ERROR_MEMORY);
  storage = NULL;
  *dataset = created;
done:
  dataset_storage_release(storage);
  return status;
}

/* ---- block by block --------------------------------------------------------------------------------------------- */

struct block_callback {
  int (*call)(void *user, const descent_dataset *block);
  void *user;
  bool stopped;
};

static descent_status call_with_block(void *user, struct dataset_storage *storage) {
  struct block_callback *callback = user;
  descent_dataset *block = dataset_wrap(storage);
  if (!block) {
    dataset_storage_release(storage);
    return DESCENT_ERROR_MEMORY;
  }
  callback->stopped = callback->call(callback->user, block) != 0;
  descent_dataset_free(block);
  return callback->stopped ? DESCENT_ERROR_INTERNAL : DESCENT_OK;
}

descent_status descent_dataset_read_blocks(const char *path, const descent_dataset_options *options, int64_t rows,
                                           int (*take)(void *user, const descent_dataset *block), void *user) {
  struct block_callback callback = {take, user, false};
  const struct table_blocks blocks = {rows, call_with_block, &callback};
  struct dataset_storage *rest = NULL;
  struct expected_data expected;
  descent_dataset_options complete;
  descent_status status;
  if (!take) TRY(argument_refuse("take"));
  TRY(resolve_options(path, options, &complete));
  if (!complete.network || !complete.features_only || rows < 1)
    TRY(status_set(DESCENT_ERROR_ARGUMENT,
                   "blocks of %" PRId64 " rows: reading blocks needs a network, features_only and at least 1 row",
                   rows));
  expected = expected_from_network(complete.network);
  status = read_file(path, &(struct read_request){&complete, &expected, false}, &blocks, &rest);
  if (status == DESCENT_OK && rest) {
    status = call_with_block(&callback, rest);
    rest = NULL;
  }
  if (callback.stopped) status = DESCENT_OK;
done:
  dataset_storage_release(rest);
  return status;
}

/* ---- conversion to the binary form in two passes ---------------------------------------------------------------- */

static descent_status append_rows(void *user, struct dataset_storage *block) {
  const descent_status status = binary_rows(user, block->X, block->rows);
  dataset_storage_release(block);
  return status;
}

/* Second pass: writes the rows of a file about which the first pass learned everything but X. */
static descent_status write_rows(const char *path, const descent_dataset_options *options,
                                 const struct dataset_storage *surveyed, struct binary_writer *writer) {
  enum { BLOCK = 1 << 18 }; /* values */
  const int64_t rows = surveyed->inputs < BLOCK ? BLOCK / surveyed->inputs : 1;
  const struct table_blocks blocks = {rows, append_rows, writer};
  const struct expected_data expected = {
      .schema = &surveyed->schema,
      .features = surveyed->schema.features ? surveyed->schema.n_features : surveyed->inputs,
      .inputs = surveyed->inputs,
      .targets = surveyed->targets,
      .classes = surveyed->classes,
      .task = surveyed->task,
      .imputes = true};
  struct dataset_storage *rest = NULL;
  descent_status status;
  TRY(read_file(path, &(struct read_request){options, &expected, false}, &blocks, &rest));
  if (rest) {
    status = append_rows(writer, rest);
    rest = NULL;
  }
done:
  return status;
}

descent_status descent_dataset_convert(const char *path, const descent_dataset_options *options, const char *to,
                                       descent_dataset **dataset) {
  const struct table_blocks survey = {0, NULL, NULL};
  struct file_choice choice = {0};
  struct dataset_storage *surveyed = NULL;
  struct binary_writer writer = {0};
  descent_dataset_options mapped = descent_dataset_options_default(), complete;
  descent_status status;
  TRY(argument_check(to, "to"));
  TRY(argument_check(dataset, "dataset"));
  TRY(resolve_options(path, options, &complete));
  options = &complete;
  if (options->network) TRY(status_set(DESCENT_ERROR_ARGUMENT, "dataset options: network: a conversion takes none"));
  TRY(format_choose(path, options->format, &choice));
  if (strcmp(path, "-") == 0 || choice.format == FORMAT_SAFETENSORS)
    TRY(status_set(DESCENT_ERROR_ARGUMENT, "%s: cannot be read in two passes (read and save it)", path));
  TRY(stream_require_file(path, "which two passes require"));
  TRY(read_whole(path, options, &survey, &surveyed));
  TRY(binary_begin(&writer, to, surveyed, surveyed->rows, surveyed->y, surveyed->weights));
  TRY(write_rows(path, options, surveyed, &writer));
  TRY(binary_end(&writer));
  mapped.format = "safetensors";
  TRY(descent_dataset_read(to, &mapped, dataset));
  (*dataset)->storage->dropped = surveyed->dropped;
  (*dataset)->storage->rounding = surveyed->rounding;
  snprintf((*dataset)->storage->note, sizeof surveyed->note, "%s", surveyed->note);
done:
  binary_abandon(&writer);
  dataset_storage_release(surveyed);
  format_clear(&choice);
  return status;
}
