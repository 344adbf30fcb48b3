/* Conversion of a table to a dataset: sorts categories, expands codes to inputs, and moves the arrays. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/status.h"
#include "data/expansion.h"
#include "data/table.h"

/* Copies a feature's categories, sorted, to the schema. *index_of_code (n) maps codes to sorted indices; the caller
 * frees it. */
static descent_status sort_categories(const struct table_feature *from, struct feature *to, int32_t **index_of_code) {
  const int64_t n = from->categories.n;
  descent_status status = DESCENT_OK;
  int32_t *order = memory_allocate(2 * n, sizeof *order, "the categories");
  to->categories = memory_allocate(n, sizeof *to->categories, "the categories");
  if (!order || !to->categories) TRY(DESCENT_ERROR_MEMORY);
  to->n_categories = n;
  dictionary_sort(&from->categories, true, order);
  for (int32_t k = 0; k < n; k++) {
    order[n + order[k]] = k;
    to->categories[k] = strdup(from->categories.values[order[k]].text);
    if (!to->categories[k]) TRY(status_set(DESCENT_ERROR_MEMORY, "out of memory for the categories"));
  }
  memmove(order, order + n, (size_t)n * sizeof *order);
  *index_of_code = order;
  order = NULL;
done:
  free(order);
  return status;
}

static void replace_codes(struct table *t, int64_t feature, const int32_t *index_of_code) {
  for (int64_t r = 0; r < t->rows; r++) {
    float *code = &t->values[r * t->columns.features + feature];
    if (*code >= 0) *code = (float)index_of_code[(int64_t)*code];
  }
}

/* Fills in indicator and categories of a feature, and replaces its codes by sorted indices. */
static descent_status describe_feature(struct table *t, int64_t feature, struct feature *to) {
  struct table_feature *from = &t->features[feature];
  int32_t *index_of_code;
  to->indicator = t->request.options->indicators && from->missing > 0;
  if (from->kind != FEATURE_CATEGORY) return DESCENT_OK;
  if (from->categories.n == 0) {
    char name[80] = "";
    for (int64_t c = 0; c < t->columns.n; c++)
      if (t->columns.roles[c] == feature) columns_describe(&t->columns, c, name, sizeof name);
    return status_set(DESCENT_ERROR_DATA, "%s: %s: every cell is missing (ignore the column)", t->path, name);
  }
  descent_status status = sort_categories(from, to, &index_of_code);
  if (status != DESCENT_OK) return status;
  if (!table_is_survey(t)) replace_codes(t, feature, index_of_code);
  free(index_of_code);
  return DESCENT_OK;
}

/* Names are the file's; everything else is the network's if there is one. */
static descent_status make_schema(struct table *t, struct schema *schema) {
  const struct schema *known = t->request.expected ? t->request.expected->schema : NULL;
  descent_status status;
  TRY(schema_copy(&t->columns.schema, schema));
  for (int64_t f = 0; f < schema->n_features; f++) {
    if (!t->request.expected)
      TRY(describe_feature(t, f, &schema->features[f]));
    else if (known->features)
      TRY(feature_copy_kind(&known->features[f], &schema->features[f]));
  }
  schema->unseen = t->request.options->unseen;
  if (known)
    TRY(schema_copy_reading(known, schema));
  else if (t->request.options->missing || t->request.options->strict)
    TRY(schema_set_missing(schema, t->request.options->missing,
                           t->request.options->missing ? t->request.options->missing_texts : 0));
  if (!known || t->request.options->decimal) schema->numbers = t->missing.style;
  TRY(schema_name_inputs(schema));
done:
  return status;
}

/* Expands a row of features to inputs. */
static void expand_row(const struct schema *schema, const float *values, float *X) {
  for (int64_t f = 0; f < schema->n_features; f++) {
    const struct feature *feature = &schema->features[f];
    const float value = values[f];
    if (!feature->categories) *X++ = value;
    for (int64_t k = 0; k < feature->n_categories; k++) *X++ = isnan(value) ? NAN : value == (float)k ? 1.0F : 0.0F;
    if (feature->indicator) *X++ = isnan(value) ? 1.0F : 0.0F;
  }
}

static descent_status expand(struct table *t, struct dataset_storage *storage) {
  const int64_t inputs = schema_inputs(&storage->schema);
  int64_t cells;
  if (!size_product(t->rows, inputs, &cells))
    return status_set(DESCENT_ERROR_MEMORY, "%s: %" PRId64 " rows of %" PRId64 " inputs are too many", t->path, t->rows,
                      inputs);
  float *X = memory_allocate(cells, sizeof *X, "the inputs");
  if (!X) return DESCENT_ERROR_MEMORY;
  for (int64_t r = 0; r < t->rows; r++)
    expand_row(&storage->schema, t->values + r * t->columns.features, X + r * inputs);
  storage->owned_X = X;
  storage->inputs = inputs;
  return DESCENT_OK;
}

/* Moves an array out of the table, shrunk to (rows, width); NULL when there is none. */
static float *move_array(float **values, int64_t rows, int64_t width) {
  float *given = *values ? realloc(*values, (size_t)(rows * width + 1) * sizeof **values) : NULL;
  if (!given) given = *values;
  *values = NULL;
  return given;
}

/* Whether every feature is a plain number, so that its values are the inputs. */
static bool is_plain(const struct schema *schema) {
  for (int64_t f = 0; f < schema->n_features; f++)
    if (schema->features[f].categories || schema->features[f].indicator) return false;
  return true;
}

descent_status table_check_expansion(const struct table *t, int64_t rows, int64_t columns) {
  const struct expected_data *expected = t->request.expected;
  if (!t->stored || (expected && expected->features)) return DESCENT_OK;
  return expansion_check(t->path, rows, columns, t->stored, "",
                         "the file is damaged, or holds hardly any data (if it is packed, unpack it)");
}

static descent_status move_X(struct table *t, struct dataset_storage *storage) {
  descent_status status = DESCENT_OK;
  const bool plain = is_plain(&storage->schema);
  storage->inputs = schema_inputs(&storage->schema);
  TRY(table_check_expansion(t, t->rows, storage->inputs));
  if (!table_is_survey(t) && plain) storage->owned_X = move_array(&t->values, t->rows, storage->inputs);
  if (!table_is_survey(t) && !plain) TRY(expand(t, storage));
  if (plain && !storage->schema.input_names) schema_drop_features(&storage->schema); /* carry no information */
  storage->X = storage->owned_X;
done:
  return status;
}

static descent_status move_targets(struct table *t, struct dataset_storage *storage) {
  storage->task = t->request.expected ? t->request.expected->task : t->request.options->task;
  if (t->columns.targets == 1) {
    char name[80];
    columns_describe(&t->columns, t->columns.target_at[0], name, sizeof name);
    const descent_status status = targets_finish(&t->targets, t->path, name, storage);
    if (status == DESCENT_OK && storage->task == DESCENT_TASK_REGRESSION) {
      storage->rounding.cells += t->targets.rounding.cells;
      storage->rounding.relative = fmax(storage->rounding.relative, t->targets.rounding.relative);
    }
    return status;
  }
  if (t->columns.targets > 1) {
    storage->task = DESCENT_TASK_REGRESSION;
    storage->targets = t->columns.targets;
    storage->owned_y = move_array(&t->y, t->rows, t->columns.targets);
    storage->y = storage->owned_y;
  }
  return DESCENT_OK;
}

/* What rounding has changed at most; nothing is lost of a column whose numbers are all the same. */
static double rounding_of(const struct table_feature *feature) { return feature->varies ? feature->rounding : 0; }

/* Fills in the offsets of inputs and targets, and what rounding has changed in each. Lists that hold only 0 are left
 * out. `t` has the features, `s` their inputs. */
static descent_status move_offsets(struct table *t, struct dataset_storage *s) {
  const int64_t features = t->columns.features, targets = s->classes ? 0 : s->targets;
  bool offsets = false, roundings = false, y_offsets = false, y_roundings = false;
  for (int64_t f = 0; f < features; f++) {
    offsets = offsets || t->features[f].offset != 0;
    roundings = roundings || rounding_of(&t->features[f]) > 0;
  }
  const double *given_offsets = targets == 1 ? &t->targets.offset : t->y_offsets;
  const double *given_roundings = targets == 1 ? &t->targets.largest_change : t->y_rounding;
  for (int64_t k = 0; k < targets; k++) {
    y_offsets = y_offsets || given_offsets[k] != 0;
    y_roundings = y_roundings || given_roundings[k] > 0;
  }
  if ((offsets && !(s->schema.offsets = memory_allocate(s->inputs, sizeof(double), "the offsets"))) ||
      (roundings && !(s->X_rounding = memory_allocate(s->inputs, sizeof(double), "the rounding"))) ||
      (y_offsets && !(s->schema.target_offsets = memory_allocate(targets, sizeof(double), "the offsets"))) ||
      (y_roundings && !(s->y_rounding = memory_allocate(targets, sizeof(double), "the rounding"))))
    return DESCENT_ERROR_MEMORY;
  if (offsets) s->schema.n_offsets = s->inputs;
  if (y_offsets) s->schema.n_target_offsets = targets;
  for (int64_t f = 0, j = 0; f < features; f++) {
    if (offsets) s->schema.offsets[j] = t->features[f].offset;
    if (roundings) s->X_rounding[j] = rounding_of(&t->features[f]);
    j += s->schema.features ? feature_inputs(&s->schema.features[f]) : 1;
  }
  for (int64_t k = 0; k < targets; k++) {
    if (y_offsets) s->schema.target_offsets[k] = given_offsets[k];
    if (y_roundings) s->y_rounding[k] = given_roundings[k];
  }
  return DESCENT_OK;
}

descent_status table_extract(struct table *t, struct dataset_storage **out) {
  descent_status status;
  struct dataset_storage *storage = memory_allocate(1, sizeof *storage, "the dataset");
  if (!storage) return DESCENT_ERROR_MEMORY;
  *storage = (struct dataset_storage){.references = 1,
                                      .rows = t->rows,
                                      .before = t->total,
                                      .dropped = t->dropped,
                                      .unseen = t->unseen,
                                      .rounding = t->rounding};
  note_add(storage->note, t->columns.note);
  TRY(make_schema(t, &storage->schema));
  TRY(move_X(t, storage));
  TRY(move_targets(t, storage));
  TRY(move_offsets(t, storage));
  storage->owned_weights = move_array(&t->weights, t->rows, 1);
  storage->weights = storage->owned_weights;
  t->total += t->rows;
  t->rows = t->capacity = t->dropped = t->unseen = t->rounding.cells = 0;
  free(t->values);
  t->values = NULL;
  *out = storage;
  storage = NULL;
done:
  dataset_storage_release(storage);
  return status;
}
