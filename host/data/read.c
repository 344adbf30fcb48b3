/* Opening a data file: picks the reader and tells it what a given network expects. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/options.h"
#include "core/status.h"
#include "data/binary.h"
#include "data/format.h"
#include "data/table.h"

static descent_status check_texts(const char *const *texts, int64_t n, const char *what) {
  if (n < 0 || (n && !texts)) return status_set(DESCENT_ERROR_ARGUMENT, "%" PRId64 " %s, but no list of them", n, what);
  for (int64_t k = 0; k < n; k++)
    if (!texts[k]) return status_set(DESCENT_ERROR_ARGUMENT, "%s: number %" PRId64 " (from 0) is NULL", what, k);
  return DESCENT_OK;
}

static descent_status check_options(const descent_dataset_options *options) {
  if ((unsigned)options->task > DESCENT_TASK_REGRESSION)
    return status_set(DESCENT_ERROR_ARGUMENT, "unknown task %d", (int)options->task);
  if (options->target && options->target_file)
    return status_set(DESCENT_ERROR_ARGUMENT, "a target and a target file: choose one");
  if ((unsigned)options->unseen > DESCENT_UNSEEN_ZEROS)
    return status_set(DESCENT_ERROR_ARGUMENT, "unknown policy for unseen categories %d", (int)options->unseen);
  if (options->network && options->task != DESCENT_TASK_AUTO && options->task != descent_network_task(options->network))
    return status_set(DESCENT_ERROR_ARGUMENT, "task %s: the network's is %s", descent_task_name(options->task),
                      descent_task_name(descent_network_task(options->network)));
  descent_status status;
  TRY(check_texts(options->ignore, options->ignored, "ignored columns"));
  TRY(check_texts(options->categorical, options->categoricals, "categorical columns"));
  TRY(check_texts(options->missing, options->missing_texts, "texts of missing cells"));
done:
  return status;
}

static struct expected expected_of(const descent_network *network) {
  const struct schema *schema = network_schema(network);
  const int64_t inputs = descent_network_inputs(network);
  return (struct expected){.schema = schema,
                           .features = schema->features ? schema->n_features : inputs,
                           .inputs = inputs,
                           .targets = descent_network_outputs(network),
                           .classes = descent_network_classes(network),
                           .task = descent_network_task(network),
                           .imputes = descent_network_imputes(network)};
}

static descent_status open_matrix(const struct file_choice *choice, const struct expected *expected,
                                  struct matrix *matrix) {
  switch (choice->format) {
    case FORMAT_NPY: return npy_open(choice->path, matrix);
    case FORMAT_NPZ: return npz_open(choice->path, choice->part, matrix);
    case FORMAT_IDX: return idx_open(choice->path, matrix);
    case FORMAT_SVMLIGHT: return svmlight_open(choice->path, choice->base, expected ? expected->features : 0, matrix);
    case FORMAT_HDF5: return hdf5_open(choice->path, choice->part, matrix);
    case FORMAT_CSV:
    case FORMAT_SAFETENSORS: break; /* no matrix */
  }
  return status_set(DESCENT_ERROR_INTERNAL, "%s: no reader of format %d", choice->path, (int)choice->format);
}

/* The options complete and checked. What the caller leaves open is as it was in training. */
static descent_status resolve_options(const char *path, const descent_dataset_options *given,
                                      descent_dataset_options *options) {
  descent_status status;
  if (!path) return status_set(DESCENT_ERROR_ARGUMENT, "a data file's path is missing");
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

/* By the file's format. */
static descent_status read_file(const char *path, const struct reading *reading, const struct table_blocks *blocks,
                                struct dataset_storage **storage) {
  struct file_choice choice = {0};
  struct matrix matrix = {0};
  descent_status status;
  TRY(format_choose(path, reading->options->format, &choice));
  if (choice.format == FORMAT_CSV) {
    TRY(csv_read(choice.path, reading, blocks, storage));
  } else if (choice.format == FORMAT_SAFETENSORS) {
    TRY(binary_read(choice.path, reading, blocks, storage));
  } else {
    TRY(open_matrix(&choice, reading->expected, &matrix));
    TRY(matrix_into_table(&matrix, reading, blocks, storage));
  }
done:
  matrix_close(&matrix);
  format_clear(&choice);
  return status;
}

/* Reads the targets' own file and gives its targets to `storage`. */
static descent_status add_target_file(const struct reading *reading, struct dataset_storage *storage) {
  const char *path = reading->options->target_file;
  const struct expected *expected = reading->expected;
  descent_dataset_options only = *reading->options;
  struct expected classes = {0};
  struct dataset_storage *targets = NULL;
  struct schema schema = {0};
  descent_status status;
  only.format = NULL; /* by its own name */
  only.target = NULL;
  only.target_file = NULL;
  only.weight_column = NULL;
  only.network = NULL;
  only.ignored = only.categoricals = 0;
  if (expected) { /* of the network, only what it says of the target */
    classes = *expected;
    schema.class_names = expected->schema->class_names;
    schema.classes = expected->schema->classes;
    classes.schema = &schema;
    classes.features = 0;
  }
  const struct reading all = {&only, expected ? &classes : NULL, true};
  TRY(read_file(path, &all, NULL, &targets));
  if (targets->dropped)
    TRY(status_set(DESCENT_ERROR_DATA,
                   "%s: %" PRId64 " targets are missing (fill them in, or leave out their rows in "
                   "both files)",
                   path, targets->dropped));
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
  targets->schema.target_names = targets->schema.class_names = NULL;
  targets->schema.targets = targets->schema.classes = 0;
done:
  dataset_storage_release(targets);
  return status;
}

/* All of a file but, with a survey, X. */
static descent_status read_whole(const char *path, const descent_dataset_options *options,
                                 const struct table_blocks *survey, struct dataset_storage **storage) {
  struct expected expected;
  struct reading reading = {.options = options};
  descent_status status;
  if (options->network) {
    expected = expected_of(options->network);
    reading.expected = &expected;
  }
  TRY(read_file(path, &reading, survey, storage));
  if (options->target_file && !options->features_only) TRY(add_target_file(&reading, *storage));
done:
  return status;
}

static descent_dataset *dataset_over(struct dataset_storage *storage) {
  descent_dataset *dataset = memory_allocate(1, sizeof *dataset, "the dataset");
  if (!dataset) return NULL;
  dataset->storage = storage;
  dataset->rows = storage->rows;
  return dataset;
}

descent_status descent_dataset_read(const char *path, const descent_dataset_options *options,
                                    descent_dataset **dataset) {
  struct dataset_storage *storage = NULL;
  descent_dataset *created;
  descent_dataset_options complete;
  descent_status status;
  TRY(resolve_options(path, options, &complete));
  TRY(read_whole(path, &complete, NULL, &storage));
  created = dataset_over(storage);
  if (!created) TRY(DESCENT_ERROR_MEMORY);
  storage = NULL;
  *dataset = created;
done:
  dataset_storage_release(storage);
  return status;
}

/* ---- block by block --------------------------------------------------------------------------------------------- */

struct taker {
  int (*take)(void *user, const descent_dataset *block);
  void *user;
  bool stopped;
};

static descent_status take_block(void *user, struct dataset_storage *storage) {
  struct taker *taker = user;
  descent_dataset *block = dataset_over(storage);
  if (!block) {
    dataset_storage_release(storage);
    return DESCENT_ERROR_MEMORY;
  }
  taker->stopped = taker->take(taker->user, block) != 0;
  descent_dataset_free(block);
  return taker->stopped ? DESCENT_ERROR_INTERNAL : DESCENT_OK;
}

descent_status descent_dataset_read_blocks(const char *path, const descent_dataset_options *options, int64_t rows,
                                           int (*take)(void *user, const descent_dataset *block), void *user) {
  struct taker taker = {take, user, false};
  const struct table_blocks blocks = {rows, take_block, &taker};
  struct dataset_storage *rest = NULL;
  struct expected expected;
  descent_dataset_options complete;
  descent_status status;
  TRY(resolve_options(path, options, &complete));
  if (!complete.network || !complete.features_only || rows < 1)
    TRY(status_set(DESCENT_ERROR_ARGUMENT,
                   "blocks of %" PRId64 " rows need a network to fit, features only, and at "
                   "least 1 row",
                   rows));
  expected = expected_of(complete.network);
  status = read_file(path, &(struct reading){&complete, &expected, false}, &blocks, &rest);
  if (status == DESCENT_OK && rest) {
    status = take_block(&taker, rest);
    rest = NULL;
  }
  if (taker.stopped) status = DESCENT_OK;
done:
  dataset_storage_release(rest);
  return status;
}

/* ---- in two passes, into the binary form ------------------------------------------------------------------------ */

static descent_status take_rows(void *user, struct dataset_storage *block) {
  const descent_status status = binary_rows(user, block->X, block->rows);
  dataset_storage_release(block);
  return status;
}

/* The rows of a file about which everything but X is known. */
static descent_status write_rows(const char *path, const descent_dataset_options *options,
                                 const struct dataset_storage *known, struct binary_writer *writer) {
  enum { BLOCK = 1 << 18 }; /* values */
  const int64_t rows = known->inputs < BLOCK ? BLOCK / known->inputs : 1;
  const struct table_blocks blocks = {rows, take_rows, writer};
  const struct expected expected = {.schema = &known->schema,
                                    .features = known->schema.features ? known->schema.n_features : known->inputs,
                                    .inputs = known->inputs,
                                    .targets = known->targets,
                                    .classes = known->classes,
                                    .task = known->task,
                                    .imputes = true};
  struct dataset_storage *rest = NULL;
  descent_status status;
  TRY(read_file(path, &(struct reading){options, &expected, false}, &blocks, &rest));
  if (rest) {
    status = take_rows(writer, rest);
    rest = NULL;
  }
done:
  return status;
}

descent_status descent_dataset_convert(const char *path, const descent_dataset_options *options, const char *to,
                                       descent_dataset **dataset) {
  const struct table_blocks survey = {0, NULL, NULL};
  struct file_choice choice = {0};
  struct dataset_storage *known = NULL;
  struct binary_writer writer = {0};
  descent_dataset_options mapped = descent_dataset_options_default(), complete;
  descent_status status;
  TRY(resolve_options(path, options, &complete));
  options = &complete;
  if (!to || options->network) TRY(status_set(DESCENT_ERROR_ARGUMENT, "a path to write to is needed, and no network"));
  TRY(format_choose(path, options->format, &choice));
  if (strcmp(path, "-") == 0 || choice.format == FORMAT_SAFETENSORS)
    TRY(status_set(DESCENT_ERROR_ARGUMENT, "%s: cannot be read in two passes (read and save it)", path));
  TRY(read_whole(path, options, &survey, &known));
  TRY(binary_begin(&writer, to, known, known->rows, known->y, known->weights));
  TRY(write_rows(path, options, known, &writer));
  TRY(binary_end(&writer));
  mapped.format = "safetensors";
  TRY(descent_dataset_read(to, &mapped, dataset));
  (*dataset)->storage->dropped = known->dropped;
  (*dataset)->storage->rounded = known->rounded;
  (*dataset)->storage->rounding = known->rounding;
  (*dataset)->storage->note = known->note;
done:
  binary_abandon(&writer);
  dataset_storage_release(known);
  format_clear(&choice);
  return status;
}
