/* Datasets over shared storage: creation from memory, and getters. */
#include "data/dataset.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/memory.h"
#include "core/status.h"

void dataset_storage_release(struct dataset_storage *storage) {
  if (!storage || __atomic_sub_fetch(&storage->references, 1, __ATOMIC_ACQ_REL) > 0) return;
  if (storage->device) handle_release(storage->device);
  schema_clear(&storage->schema);
  free(storage->owned_X);
  free(storage->owned_y);
  free(storage->owned_weights);
  free(storage->X_rounding);
  free(storage->y_rounding);
  if (storage->mapping) {
    munmap(storage->mapping, storage->mapped_bytes);
    close(storage->mapped_file);
  }
  free(storage);
}

descent_status dataset_check_unchanged(const descent_dataset *dataset) {
  const struct dataset_storage *s = dataset->storage;
  struct stat now;
  if (!s->mapping) return DESCENT_OK;
  if (fstat(s->mapped_file, &now) == 0 && (size_t)now.st_size == s->mapped_bytes &&
      now.st_mtim.tv_sec == s->mapped_time.tv_sec && now.st_mtim.tv_nsec == s->mapped_time.tv_nsec)
    return DESCENT_OK;
  return status_set(DESCENT_ERROR_READ,
                    "the data file was modified while it was mapped: results since then may mix old and new rows");
}

void dataset_expect_shuffled(const descent_dataset *dataset, bool shuffled) {
  struct dataset_storage *storage = dataset->storage;
  const int readers = __atomic_add_fetch(&storage->shuffled, shuffled ? 1 : -1, __ATOMIC_ACQ_REL);
  if (storage->mapping && readers == (shuffled ? 1 : 0))
    madvise(storage->mapping, storage->mapped_bytes, shuffled ? MADV_RANDOM : MADV_NORMAL);
}

static void dataset_clear(void *object) {
  descent_dataset *dataset = object;
  dataset_storage_release(dataset->storage);
  free(dataset->index);
}

descent_dataset *dataset_create(void) {
  return handle_create(HANDLE_DATASET, sizeof(descent_dataset), dataset_clear, "the dataset");
}

descent_dataset *dataset_wrap(struct dataset_storage *storage) {
  descent_dataset *dataset = dataset_create();
  if (!dataset) return NULL;
  dataset->storage = storage;
  dataset->rows = storage->rows;
  return dataset;
}

void descent_dataset_free(descent_dataset *dataset) { handle_close(dataset, HANDLE_DATASET); }

descent_status dataset_check_values(const struct dataset_storage *s) {
  for (int64_t r = 0; r < s->rows; r++) {
    const int64_t row = s->before + r;
    for (int64_t j = 0; s->X && j < s->inputs; j++)
      if (isinf(s->X[r * s->inputs + j]))
        return status_set(DESCENT_ERROR_ARGUMENT, "X: row %lld, column %lld is infinite", (long long)row, (long long)j);
    for (int64_t k = 0; s->y && k < s->targets; k++) {
      float value = s->y[r * s->targets + k];
      bool good = isfinite(value);
      if (s->classes) good = good && value >= 0 && value < (float)s->classes && value == truncf(value);
      if (!good)
        return status_set(DESCENT_ERROR_ARGUMENT, "y: row %lld: %g is not a %s", (long long)row, (double)value,
                          s->classes ? "class index below the number of classes" : "finite number");
    }
    if (s->weights && !(isfinite(s->weights[r]) && s->weights[r] >= 0))
      return status_set(DESCENT_ERROR_ARGUMENT, "weights: row %lld: invalid weight %g: must be finite and >= 0",
                        (long long)row, (double)s->weights[r]);
  }
  return DESCENT_OK;
}

static descent_status check_target(struct dataset_storage *s) {
  enum { MAX_CLASSES = 1 << 24 }; /* class indices must be exact as floats */
  int64_t cells, bytes;
  if (!s->y) {
    s->targets = 0;
    s->classes = 0;
    return DESCENT_OK;
  }
  if (s->task != DESCENT_TASK_BINARY && s->task != DESCENT_TASK_CLASSES && s->task != DESCENT_TASK_REGRESSION)
    return status_set(DESCENT_ERROR_ARGUMENT, "invalid task: a dataset in memory needs binary, classes or regression");
  if (s->task == DESCENT_TASK_REGRESSION) s->classes = 0;
  if (s->targets < 1 || !size_product(s->rows, s->targets, &cells) || !size_product(cells, 4, &bytes) ||
      (s->task != DESCENT_TASK_REGRESSION && s->targets != 1))
    return status_set(DESCENT_ERROR_ARGUMENT, "invalid number of targets %lld: must be 1, or at least 1 for regression",
                      (long long)s->targets);
  if ((s->task == DESCENT_TASK_BINARY && s->classes != 2) ||
      (s->task == DESCENT_TASK_CLASSES && (s->classes < 2 || s->classes > MAX_CLASSES)))
    return status_set(DESCENT_ERROR_ARGUMENT,
                      "invalid number of classes %lld: must be 2 for task binary, 2 to %d for task classes",
                      (long long)s->classes, MAX_CLASSES);
  return DESCENT_OK;
}

descent_status dataset_from_rows(struct dataset_storage given, descent_dataset **dataset) {
  descent_dataset *created = NULL;
  descent_status status;
  struct dataset_storage *storage = memory_allocate(1, sizeof *storage, "the dataset");
  if (!storage) TRY(DESCENT_ERROR_MEMORY);
  given.references = 1;
  *storage = given;
  given = (struct dataset_storage){0};
  TRY(check_target(storage));
  TRY(dataset_check_values(storage));
  created = dataset_wrap(storage);
  if (!created) TRY(DESCENT_ERROR_MEMORY);
  storage = NULL;
  *dataset = created;
done:
  free(given.owned_X);
  free(given.owned_y);
  free(given.owned_weights);
  dataset_storage_release(storage);
  return status;
}

descent_status descent_dataset_create(const float *X, const float *y, const float *weights, int64_t rows,
                                      int64_t inputs, int64_t targets, descent_task task, int64_t classes,
                                      descent_dataset **dataset) {
  int64_t cells, bytes;
  if (!X) return argument_refuse("X");
  if (!dataset) return argument_refuse("dataset");
  if (rows < 1 || inputs < 1 || !size_product(rows, inputs, &cells) || !size_product(cells, 4, &bytes))
    return status_set(DESCENT_ERROR_ARGUMENT,
                      "%lld rows of %lld inputs: must be at least 1 each, and fit the address space", (long long)rows,
                      (long long)inputs);
  return dataset_from_rows((struct dataset_storage){.X = X,
                                                    .y = y,
                                                    .weights = weights,
                                                    .rows = rows,
                                                    .inputs = inputs,
                                                    .targets = targets,
                                                    .classes = classes,
                                                    .task = task},
                           dataset);
}

/* ---- getters ---------------------------------------------------------------------------------------------------- */

/* The dataset, or an empty one instead of NULL and of a dead handle. */
static const descent_dataset *or_none(const descent_dataset *dataset) {
  static struct dataset_storage no_storage;
  static const descent_dataset none = {.storage = &no_storage};
  return handle_alive(dataset, HANDLE_DATASET) ? dataset : &none;
}

int64_t descent_dataset_rows(const descent_dataset *dataset) { return or_none(dataset)->rows; }
int64_t descent_dataset_inputs(const descent_dataset *dataset) { return or_none(dataset)->storage->inputs; }
int64_t descent_dataset_targets(const descent_dataset *dataset) {
  dataset = or_none(dataset);
  return dataset->storage->y ? dataset->storage->targets : 0;
}
descent_task descent_dataset_task(const descent_dataset *dataset) { return or_none(dataset)->storage->task; }
int64_t descent_dataset_classes(const descent_dataset *dataset) { return or_none(dataset)->storage->classes; }

const char *descent_dataset_input_name(const descent_dataset *dataset, int64_t input) {
  dataset = or_none(dataset);
  return schema_text(dataset->storage->schema.input_names, dataset->storage->schema.inputs, input);
}

const char *descent_dataset_target_name(const descent_dataset *dataset, int64_t target) {
  dataset = or_none(dataset);
  return schema_text(dataset->storage->schema.target_names, dataset->storage->schema.targets, target);
}

const char *descent_dataset_class_name(const descent_dataset *dataset, int64_t class_index) {
  dataset = or_none(dataset);
  return schema_text(dataset->storage->schema.class_names, dataset->storage->schema.classes, class_index);
}

int64_t descent_dataset_columns(const descent_dataset *dataset) {
  dataset = or_none(dataset);
  const struct dataset_storage *s = dataset->storage;
  return s->schema.features ? s->schema.n_features : s->inputs;
}

const char *descent_dataset_column_name(const descent_dataset *dataset, int64_t column) {
  return schema_column_name(&or_none(dataset)->storage->schema, column);
}

int64_t descent_dataset_column_categories(const descent_dataset *dataset, int64_t column) {
  return schema_column_categories(&or_none(dataset)->storage->schema, column);
}

const char *descent_dataset_column_category(const descent_dataset *dataset, int64_t column, int64_t category) {
  return schema_column_category(&or_none(dataset)->storage->schema, column, category);
}

int64_t descent_dataset_column_inputs(const descent_dataset *dataset, int64_t column) {
  dataset = or_none(dataset);
  const struct feature *feature = schema_feature(&dataset->storage->schema, column);
  if (feature) return feature_inputs(feature);
  return column >= 0 && column < descent_dataset_columns(dataset);
}

void descent_dataset_missing(const descent_dataset *dataset, int64_t *counts) {
  dataset = or_none(dataset);
  const struct dataset_storage *s = dataset->storage;
  const int64_t columns = descent_dataset_columns(dataset);
  if (!counts) return;
  memset(counts, 0, (size_t)columns * sizeof *counts);
  for (int64_t r = 0; s->X && r < dataset->rows; r++) {
    const float *x = s->X + dataset_source_row(dataset, r) * s->inputs;
    for (int64_t c = 0; c < columns; c++) {
      counts[c] += isnan(*x);
      x += s->schema.features ? feature_inputs(&s->schema.features[c]) : 1;
    }
  }
}

int64_t dataset_category(const struct feature *feature, const float *inputs) {
  int64_t category = CATEGORY_NONE;
  for (int64_t k = 0; k < feature->n_categories; k++) {
    if (isnan(inputs[k])) return CATEGORY_MISSING;
    if (inputs[k] == 1) category = k;
  }
  return category;
}

int64_t descent_dataset_dropped(const descent_dataset *dataset) { return or_none(dataset)->storage->dropped; }

int64_t descent_dataset_unseen(const descent_dataset *dataset) { return or_none(dataset)->storage->unseen; }

int64_t descent_dataset_rounded(const descent_dataset *dataset, double *change) {
  dataset = or_none(dataset);
  if (change) *change = dataset->storage->rounding.relative;
  return dataset->storage->rounding.cells;
}

const char *descent_dataset_note(const descent_dataset *dataset) { return or_none(dataset)->storage->note; }

int64_t descent_dataset_class_count(const descent_dataset *dataset, int64_t class_index) {
  dataset = or_none(dataset);
  const struct dataset_storage *s = dataset->storage;
  int64_t count = 0;
  if (!s->y || class_index < 0 || class_index >= s->classes) return 0;
  for (int64_t r = 0; r < dataset->rows; r++) count += s->y[dataset_source_row(dataset, r)] == (float)class_index;
  return count;
}

static descent_status check_row(const descent_dataset *dataset, int64_t row) {
  const descent_status status = handle_check(dataset, HANDLE_DATASET, "dataset");
  if (status != DESCENT_OK) return status;
  if (row >= 0 && row < dataset->rows) return DESCENT_OK;
  return status_set(DESCENT_ERROR_ARGUMENT, "row %lld is out of range: the dataset has %lld rows", (long long)row,
                    (long long)dataset->rows);
}

descent_status descent_dataset_row(const descent_dataset *dataset, int64_t row, float *X) {
  descent_status status;
  TRY(check_row(dataset, row));
  TRY(argument_check(X, "X"));
  const struct dataset_storage *s = dataset->storage;
  for (int64_t j = 0; j < s->inputs; j++) X[j] = (float)dataset_input(s, dataset_source_row(dataset, row), j);
done:
  return status;
}

descent_status descent_dataset_target(const descent_dataset *dataset, int64_t row, float *y) {
  descent_status status;
  TRY(check_row(dataset, row));
  TRY(argument_check(y, "y"));
  const struct dataset_storage *s = dataset->storage;
  if (!s->y) TRY(status_set(DESCENT_ERROR_ARGUMENT, "the dataset has no target"));
  for (int64_t k = 0; k < s->targets; k++) y[k] = (float)dataset_target(s, dataset_source_row(dataset, row), k);
done:
  return status;
}

double descent_dataset_input_value(const descent_dataset *dataset, int64_t row, int64_t input) {
  dataset = or_none(dataset);
  const struct dataset_storage *s = dataset->storage;
  if (row < 0 || row >= dataset->rows || input < 0 || input >= s->inputs) return NAN;
  return dataset_input(s, dataset_source_row(dataset, row), input);
}

double descent_dataset_target_value(const descent_dataset *dataset, int64_t row, int64_t target) {
  dataset = or_none(dataset);
  const struct dataset_storage *s = dataset->storage;
  if (!s->y || row < 0 || row >= dataset->rows || target < 0 || target >= s->targets) return NAN;
  return dataset_target(s, dataset_source_row(dataset, row), target);
}

/* The standard deviation of a column of values (rows, width) over at most 10,000 of the view's rows, evenly spread;
 * NaN is left out. */
static double spread_of(const descent_dataset *dataset, const float *values, int64_t width, int64_t column) {
  enum { ROWS = 10000 };
  static const double golden = 0.6180339887498949; /* its multiples meet no period of the rows */
  const int64_t looked_at = dataset->rows < ROWS ? dataset->rows : ROWS;
  double mean = 0, squares = 0, n = 0;
  for (int64_t i = 0; i < looked_at; i++) {
    const double part = (double)i * golden;
    const int64_t r = looked_at < dataset->rows ? (int64_t)((part - floor(part)) * (double)dataset->rows) : i;
    const double x = (double)values[dataset_source_row(dataset, r) * width + column];
    if (isnan(x)) continue;
    const double delta = x - mean; /* Welford */
    mean += delta / ++n;
    squares += delta * (x - mean);
  }
  return n > 0 ? sqrt(squares / n) : 0;
}

double descent_dataset_input_rounding(const descent_dataset *dataset, int64_t input, double *spread) {
  dataset = or_none(dataset);
  const struct dataset_storage *s = dataset->storage;
  const double change = s->X_rounding && input >= 0 && input < s->inputs ? s->X_rounding[input] : 0;
  if (spread) *spread = change > 0 ? spread_of(dataset, s->X, s->inputs, input) : 0;
  return change;
}

double descent_dataset_target_rounding(const descent_dataset *dataset, int64_t target, double *spread) {
  dataset = or_none(dataset);
  const struct dataset_storage *s = dataset->storage;
  const double change = s->y && s->y_rounding && target >= 0 && target < s->targets ? s->y_rounding[target] : 0;
  if (spread) *spread = change > 0 ? spread_of(dataset, s->y, s->targets, target) : 0;
  return change;
}

/* ---- other offsets ---------------------------------------------------------------------------------------------- */

static bool same_offsets(const double *a, int64_t n_a, const double *b, int64_t n_b, int64_t n) {
  for (int64_t i = 0; (a || b) && i < n; i++)
    if (schema_offset(a, n_a, i) != schema_offset(b, n_b, i)) return false;
  return true;
}

bool dataset_has_offsets(const struct schema *ours, const struct schema *theirs, int64_t inputs, int64_t targets) {
  return same_offsets(ours->offsets, ours->n_offsets, theirs->offsets, theirs->n_offsets, inputs) &&
         same_offsets(ours->target_offsets, ours->n_target_offsets, theirs->target_offsets, theirs->n_target_offsets,
                      targets);
}

descent_status dataset_align(const descent_dataset *dataset, const struct schema *schema, descent_dataset **aligned) {
  const struct dataset_storage *s = dataset->storage;
  const int64_t rows = dataset->rows, targets = s->y && !s->classes ? s->targets : 0;
  struct dataset_storage *storage = NULL;
  descent_status status = DESCENT_OK;
  *aligned = NULL;
  if (dataset_has_offsets(&s->schema, schema, s->inputs, targets)) return DESCENT_OK;
  storage = memory_allocate(1, sizeof *storage, "the dataset");
  if (!storage) return DESCENT_ERROR_MEMORY;
  *storage = (struct dataset_storage){.references = 1,
                                      .rows = rows,
                                      .inputs = s->inputs,
                                      .targets = s->targets,
                                      .classes = s->classes,
                                      .task = s->task,
                                      .before = s->before};
  float *X = storage->owned_X = memory_allocate(rows * s->inputs, sizeof *X, "X");
  float *y = storage->owned_y = s->y ? memory_allocate(rows * s->targets, sizeof *y, "y") : NULL;
  float *weights = storage->owned_weights = s->weights ? memory_allocate(rows, sizeof *weights, "weights") : NULL;
  if (!X || (s->y && !y) || (s->weights && !weights)) TRY(DESCENT_ERROR_MEMORY);
  for (int64_t r = 0; r < rows; r++) {
    const int64_t at = dataset_source_row(dataset, r);
    for (int64_t j = 0; j < s->inputs; j++) X[r * s->inputs + j] = dataset_align_input(s, at, j, schema);
    for (int64_t k = 0; s->y && k < s->targets; k++)
      y[r * s->targets + k] =
          targets
              ? (float)(dataset_target(s, at, k) - schema_offset(schema->target_offsets, schema->n_target_offsets, k))
              : s->y[at * s->targets + k];
    if (weights) weights[r] = s->weights[at];
  }
  storage->X = X;
  storage->y = y;
  storage->weights = weights;
  TRY(schema_copy_offsets(schema, &storage->schema));
  *aligned = dataset_wrap(storage);
  if (!*aligned) TRY(DESCENT_ERROR_MEMORY);
  storage = NULL;
done:
  dataset_storage_release(storage);
  return status;
}

descent_status descent_dataset_weight(const descent_dataset *dataset, int64_t row, float *weight) {
  descent_status status;
  TRY(check_row(dataset, row));
  TRY(argument_check(weight, "weight"));
  const float *weights = dataset->storage->weights;
  *weight = weights ? weights[dataset_source_row(dataset, row)] : 1;
done:
  return status;
}
