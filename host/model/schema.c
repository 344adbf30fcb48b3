/* Schemas: inputs and their names, copies, and the JSON of model and data files. */
#include "model/schema.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "core/memory.h"
#include "core/number.h"
#include "core/status.h"
#include "core/utf8.h"

static descent_status out_of_memory(void) { return status_set(DESCENT_ERROR_MEMORY, "out of memory for column names"); }

int64_t feature_inputs(const struct feature *feature) {
  return (feature->categories ? feature->n_categories : 1) + feature->indicator;
}

int64_t schema_inputs(const struct schema *schema) {
  int64_t inputs = 0;
  for (int64_t c = 0; c < schema->n_features; c++) inputs += feature_inputs(&schema->features[c]);
  return inputs;
}

const struct feature *schema_feature(const struct schema *schema, int64_t column) {
  return column >= 0 && column < schema->n_features ? &schema->features[column] : NULL;
}

const char *schema_text(char *const *texts, int64_t n, int64_t i) { return texts && i >= 0 && i < n ? texts[i] : NULL; }

const char *schema_column_name(const struct schema *schema, int64_t column) {
  const struct feature *feature = schema_feature(schema, column);
  return feature ? feature->name : NULL;
}

int64_t schema_column_categories(const struct schema *schema, int64_t column) {
  const struct feature *feature = schema_feature(schema, column);
  return feature ? feature->n_categories : 0;
}

const char *schema_column_category(const struct schema *schema, int64_t column, int64_t category) {
  const struct feature *feature = schema_feature(schema, column);
  return feature ? schema_text(feature->categories, feature->n_categories, category) : NULL;
}

/* ---- names of inputs -------------------------------------------------------------------------------------------- */

static bool name_feature(const struct feature *feature, int64_t position, char **names) {
  char index[32];
  snprintf(index, sizeof index, "column %" PRId64, position);
  const char *name = feature->name ? feature->name : index;
  const int64_t n = feature->categories ? feature->n_categories : 1;
  for (int64_t k = 0; k < n; k++) {
    if (!feature->categories)
      names[k] = strdup(name);
    else if (asprintf(&names[k], "%s=%s", name, feature->categories[k]) < 0)
      names[k] = NULL;
    if (!names[k]) return false;
  }
  if (!feature->indicator || asprintf(&names[n], "%s missing", name) >= 0) return true;
  names[n] = NULL;
  return false;
}

/* Whether inputs have names: any feature has a name or several inputs. */
static bool has_names(const struct schema *schema) {
  for (int64_t c = 0; c < schema->n_features; c++)
    if (schema->features[c].name || feature_inputs(&schema->features[c]) > 1) return true;
  return false;
}

descent_status schema_name_inputs(struct schema *schema) {
  memory_free_texts(schema->input_names, schema->inputs);
  schema->input_names = NULL;
  schema->inputs = 0;
  if (!has_names(schema)) return DESCENT_OK;
  const int64_t inputs = schema_inputs(schema);
  schema->input_names = memory_allocate(inputs, sizeof *schema->input_names, "the inputs' names");
  if (!schema->input_names) return DESCENT_ERROR_MEMORY;
  schema->inputs = inputs;
  char **names = schema->input_names;
  for (int64_t c = 0; c < schema->n_features; c++) {
    if (!name_feature(&schema->features[c], c, names)) return out_of_memory();
    names += feature_inputs(&schema->features[c]);
  }
  return DESCENT_OK;
}

/* ---- copies ----------------------------------------------------------------------------------------------------- */

/* Copies the names and offsets of targets and the names of classes as they are. */
static void assign_targets(const struct schema *from, struct schema *to) {
  to->target_names = from->target_names;
  to->targets = from->targets;
  to->class_names = from->class_names;
  to->classes = from->classes;
  to->target_offsets = from->target_offsets;
  to->n_target_offsets = from->n_target_offsets;
}

void schema_swap_targets(struct schema *a, struct schema *b) {
  const struct schema kept = *a;
  assign_targets(b, a);
  assign_targets(&kept, b);
}

void schema_drop_features(struct schema *schema) {
  for (int64_t c = 0; c < schema->n_features; c++) {
    free(schema->features[c].name);
    memory_free_texts(schema->features[c].categories, schema->features[c].n_categories);
  }
  free(schema->features);
  memory_free_texts(schema->input_names, schema->inputs);
  schema->features = NULL;
  schema->input_names = NULL;
  schema->n_features = schema->inputs = 0;
}

void schema_clear(struct schema *schema) {
  schema_drop_features(schema);
  memory_free_texts(schema->target_names, schema->targets);
  memory_free_texts(schema->class_names, schema->classes);
  memory_free_texts(schema->missing, schema->n_missing);
  free(schema->target_positions);
  free(schema->left_out);
  free(schema->offsets);
  free(schema->target_offsets);
  *schema = (struct schema){0};
}

void schema_drop_classes(struct schema *schema) {
  memory_free_texts(schema->class_names, schema->classes);
  schema->class_names = NULL;
  schema->classes = 0;
}

static descent_status copy_texts(char *const *texts, int64_t n, char ***copy, int64_t *copied) {
  if (!texts) return DESCENT_OK;
  *copy = memory_allocate(n, sizeof **copy, "names");
  if (!*copy) return DESCENT_ERROR_MEMORY;
  *copied = n;
  for (int64_t i = 0; i < n; i++)
    if (texts[i] && !((*copy)[i] = strdup(texts[i]))) return out_of_memory();
  return DESCENT_OK;
}

descent_status feature_copy_kind(const struct feature *feature, struct feature *copy) {
  copy->indicator = feature->indicator;
  return copy_texts(feature->categories, feature->n_categories, &copy->categories, &copy->n_categories);
}

static descent_status copy_feature(const struct feature *feature, struct feature *copy) {
  if (feature->name && !(copy->name = strdup(feature->name))) return out_of_memory();
  return feature_copy_kind(feature, copy);
}

static descent_status copy_positions(const int64_t *positions, int64_t n, int64_t **copy, int64_t *copied) {
  if (!n) return DESCENT_OK;
  *copy = memory_allocate(n, sizeof **copy, "the positions of columns");
  if (!*copy) return DESCENT_ERROR_MEMORY;
  memcpy(*copy, positions, (size_t)n * sizeof *positions);
  *copied = n;
  return DESCENT_OK;
}

static descent_status copy_offsets(const double *offsets, int64_t n, double **copy, int64_t *copied) {
  if (!offsets) return DESCENT_OK;
  *copy = memory_allocate(n, sizeof **copy, "the offsets of columns");
  if (!*copy) return DESCENT_ERROR_MEMORY;
  memcpy(*copy, offsets, (size_t)n * sizeof *offsets);
  *copied = n;
  return DESCENT_OK;
}

descent_status schema_copy_offsets(const struct schema *schema, struct schema *copy) {
  const descent_status status = copy_offsets(schema->offsets, schema->n_offsets, &copy->offsets, &copy->n_offsets);
  if (status != DESCENT_OK) return status;
  return copy_offsets(schema->target_offsets, schema->n_target_offsets, &copy->target_offsets, &copy->n_target_offsets);
}

descent_status schema_copy_reading(const struct schema *schema, struct schema *copy) {
  descent_status status;
  copy->unseen = schema->unseen;
  copy->first_index = schema->first_index;
  copy->indexed_columns = schema->indexed_columns;
  copy->numbers = schema->numbers;
  TRY(copy_positions(schema->target_positions, schema->n_target_positions, &copy->target_positions,
                     &copy->n_target_positions));
  TRY(copy_positions(schema->left_out, schema->n_left_out, &copy->left_out, &copy->n_left_out));
done:
  if (status != DESCENT_OK) return status;
  return copy_texts(schema->missing, schema->n_missing, &copy->missing, &copy->n_missing);
}

descent_status schema_set_missing(struct schema *schema, const char *const *texts, int64_t n) {
  schema->missing = memory_allocate(n, sizeof *schema->missing, "the texts of missing cells");
  if (!schema->missing) return DESCENT_ERROR_MEMORY;
  schema->n_missing = n;
  for (int64_t i = 0; i < n; i++)
    if (!(schema->missing[i] = strdup(texts[i]))) return out_of_memory();
  return DESCENT_OK;
}

descent_status schema_copy(const struct schema *schema, struct schema *copy) {
  struct schema made = {0};
  descent_status status = DESCENT_OK;
  if (schema->features) {
    made.features = memory_allocate(schema->n_features, sizeof *made.features, "the columns");
    if (!made.features) TRY(DESCENT_ERROR_MEMORY);
    made.n_features = schema->n_features;
    for (int64_t c = 0; c < made.n_features; c++) TRY(copy_feature(&schema->features[c], &made.features[c]));
  }
  TRY(copy_texts(schema->input_names, schema->inputs, &made.input_names, &made.inputs));
  TRY(copy_texts(schema->target_names, schema->targets, &made.target_names, &made.targets));
  TRY(copy_texts(schema->class_names, schema->classes, &made.class_names, &made.classes));
  TRY(schema_copy_offsets(schema, &made));
  TRY(schema_copy_reading(schema, &made));
done:
  if (status != DESCENT_OK) schema_clear(&made);
  *copy = made;
  return status;
}

/* ---- writing ---------------------------------------------------------------------------------------------------- */

static descent_status no_memory(const char *where) {
  return status_set(DESCENT_ERROR_MEMORY, "%s: not written: out of memory for its metadata", where);
}

/* Creates a JSON string; ERROR_WRITE for a text that is not UTF-8. */
static descent_status text_value(const char *where, const char *member, int64_t i, const char *text, cJSON **value) {
  size_t bad;
  if (!utf8_valid(text, strlen(text), &bad))
    return status_set(DESCENT_ERROR_WRITE, "%s: not written: %s[%" PRId64 "]: byte %zu is not UTF-8", where, member, i,
                      bad);
  *value = cJSON_CreateString(text);
  return *value ? DESCENT_OK : no_memory(where);
}

static descent_status add_texts(const char *where, cJSON *object, const char *member, char *const *texts, int64_t n) {
  if (!texts) return DESCENT_OK;
  descent_status status = DESCENT_OK;
  cJSON *list = cJSON_AddArrayToObject(object, member);
  if (!list) return no_memory(where);
  for (int64_t i = 0; i < n; i++) {
    cJSON *value;
    TRY(text_value(where, member, i, texts[i], &value));
    cJSON_AddItemToArray(list, value);
  }
done:
  return status;
}

static descent_status add_positions(const char *where, cJSON *object, const char *member, const int64_t *positions,
                                    int64_t n) {
  cJSON *list = n ? cJSON_AddArrayToObject(object, member) : NULL;
  if (n && !list) return no_memory(where);
  for (int64_t i = 0; i < n; i++) {
    cJSON *position = cJSON_CreateNumber((double)positions[i]);
    if (!position) return no_memory(where);
    cJSON_AddItemToArray(list, position);
  }
  return DESCENT_OK;
}

descent_status schema_write_reals(const char *where, cJSON *object, const char *member, const double *reals,
                                  int64_t n) {
  char text[NUMBER_TEXT];
  if (!reals) return DESCENT_OK;
  cJSON *list = cJSON_AddArrayToObject(object, member);
  for (int64_t i = 0; list && i < n; i++) {
    cJSON *number = cJSON_CreateRaw(number_format(reals[i], text)); /* cJSON would write 15 digits of some */
    if (!number) return no_memory(where);
    cJSON_AddItemToArray(list, number);
  }
  return list ? DESCENT_OK : no_memory(where);
}

enum { COLUMN_NAME, COLUMN_CATEGORIES, COLUMN_INDICATOR, COLUMN_FIELDS };
static const char *const column_fields[COLUMN_FIELDS] = {"name", "categories", "indicator"};

static descent_status column_value(const char *where, const struct feature *feature, int64_t c, cJSON **column) {
  descent_status status = DESCENT_OK;
  cJSON *name = NULL, *object = NULL;
  if (feature->name) TRY(text_value(where, "columns", c, feature->name, &name));
  if (name && !feature->categories && !feature->indicator) {
    *column = name;
    return DESCENT_OK;
  }
  object = cJSON_CreateObject();
  if (!object) TRY(no_memory(where));
  if (name && !cJSON_AddItemToObject(object, column_fields[COLUMN_NAME], name)) TRY(no_memory(where));
  name = NULL;
  TRY(add_texts(where, object, column_fields[COLUMN_CATEGORIES], feature->categories, feature->n_categories));
  if (feature->indicator && !cJSON_AddTrueToObject(object, column_fields[COLUMN_INDICATOR])) TRY(no_memory(where));
  *column = object;
  object = NULL;
done:
  cJSON_Delete(name);
  cJSON_Delete(object);
  return status;
}

static descent_status add_columns(const char *where, const struct schema *schema, cJSON *object) {
  if (!has_names(schema)) return DESCENT_OK;
  descent_status status = DESCENT_OK;
  cJSON *list = cJSON_AddArrayToObject(object, "columns");
  if (!list) return no_memory(where);
  bool categories = false;
  for (int64_t c = 0; c < schema->n_features; c++) {
    cJSON *column;
    TRY(column_value(where, &schema->features[c], c, &column));
    cJSON_AddItemToArray(list, column);
    categories = categories || schema->features[c].categories;
  }
  if (categories && !cJSON_AddStringToObject(object, "unseen", descent_unseen_name(schema->unseen)))
    TRY(no_memory(where));
done:
  return status;
}

enum { INDEX_FIRST, INDEX_COLUMNS, INDEX_FIELDS };
static const char *const index_fields[INDEX_FIELDS] = {"first_index", "columns"};

static descent_status add_indices(const char *where, const struct schema *schema, cJSON *object) {
  if (!schema->indexed_columns) return DESCENT_OK;
  cJSON *indices = cJSON_AddObjectToObject(object, "svmlight");
  if (cJSON_AddNumberToObject(indices, index_fields[INDEX_FIRST], (double)schema->first_index) &&
      cJSON_AddNumberToObject(indices, index_fields[INDEX_COLUMNS], (double)schema->indexed_columns))
    return DESCENT_OK;
  return no_memory(where);
}

descent_status schema_write(const char *where, const struct schema *schema, cJSON *object) {
  descent_status status;
  TRY(add_columns(where, schema, object));
  TRY(add_texts(where, object, "target_names", schema->target_names, schema->targets));
  TRY(add_texts(where, object, "class_names", schema->class_names, schema->classes));
  TRY(add_texts(where, object, "missing", schema->missing, schema->n_missing));
  if (number_style_name(schema->numbers) &&
      !cJSON_AddStringToObject(object, "numbers", number_style_name(schema->numbers)))
    TRY(no_memory(where));
  TRY(add_positions(where, object, "target_places", schema->target_positions, schema->n_target_positions));
  TRY(add_positions(where, object, "left_out", schema->left_out, schema->n_left_out));
  TRY(add_indices(where, schema, object));
  TRY(schema_write_reals(where, object, "offsets", schema->offsets, schema->n_offsets));
  TRY(schema_write_reals(where, object, "target_offsets", schema->target_offsets, schema->n_target_offsets));
done:
  return status;
}

/* ---- reading ---------------------------------------------------------------------------------------------------- */

static descent_status bad_member(const char *where, const char *member, const char *expected) {
  return status_set(DESCENT_ERROR_MODEL, "%s: '%s' is not %s", where, member, expected);
}

static descent_status read_text(const char *where, const char *member, const cJSON *value, char **text) {
  if (!cJSON_IsString(value)) return bad_member(where, member, "a list of strings");
  *text = strdup(value->valuestring);
  return *text ? DESCENT_OK : status_set(DESCENT_ERROR_MEMORY, "%s: out of memory for '%s'", where, member);
}

/* Reads a list of n texts; a list of one may be the text itself. `list` NULL reads nothing. */
static descent_status read_texts(const char *where, const cJSON *list, int64_t n, char ***texts, int64_t *length) {
  const cJSON *value;
  descent_status status = DESCENT_OK;
  if (!list) return DESCENT_OK;
  const bool single = n == 1 && cJSON_IsString(list);
  if (!single && (!cJSON_IsArray(list) || n == 0 || cJSON_GetArraySize(list) != n))
    return status_set(DESCENT_ERROR_MODEL, "%s: '%s' is not a list of %" PRId64 " names", where, list->string, n);
  *texts = memory_allocate(n, sizeof **texts, "names");
  if (!*texts) return DESCENT_ERROR_MEMORY;
  *length = n;
  if (single) return read_text(where, list->string, list, &(*texts)[0]);
  int64_t i = 0;
  cJSON_ArrayForEach(value, list) TRY(read_text(where, list->string, value, &(*texts)[i++]));
done:
  return status;
}

/* Reads `missing`, a list of any length including 0. */
static descent_status read_missing(const char *where, const cJSON *list, struct schema *schema) {
  if (!list) return DESCENT_OK;
  const int64_t n = cJSON_GetArraySize(list);
  if (!cJSON_IsArray(list)) return bad_member(where, list->string, "a list of strings");
  return n ? read_texts(where, list, n, &schema->missing, &schema->n_missing) : schema_set_missing(schema, NULL, 0);
}

static descent_status read_numbers(const char *where, const cJSON *value, enum number_style *style) {
  if (!value) return DESCENT_OK;
  for (int s = NUMBER_PLAIN + 1; s < NUMBER_STYLES; s++)
    if (cJSON_IsString(value) && strcmp(value->valuestring, number_style_name((enum number_style)s)) == 0) {
      *style = (enum number_style)s;
      return DESCENT_OK;
    }
  return bad_member(where, value->string, "1234,5, 1.234,5 or 1,234.5");
}

static descent_status read_positions(const char *where, const cJSON *list, int64_t **positions, int64_t *n) {
  const cJSON *value;
  if (!list) return DESCENT_OK;
  const int64_t length = cJSON_GetArraySize(list);
  if (!cJSON_IsArray(list) || length == 0) return bad_member(where, list->string, "a list of positions");
  *positions = memory_allocate(length, sizeof **positions, "the positions of columns");
  if (!*positions) return DESCENT_ERROR_MEMORY;
  cJSON_ArrayForEach(value, list) if (!json_integer(value, &(*positions)[(*n)++])) return bad_member(
      where, list->string, "a list of positions");
  return DESCENT_OK;
}

/* Checks that the positions are distinct columns of a file with `features` more columns. */
static descent_status check_positions(const char *where, const struct schema *schema, int64_t features,
                                      int64_t targets) {
  const int64_t n_targets = schema->n_target_positions, n = features + n_targets + schema->n_left_out;
  bool good = n_targets == 0 || n_targets == targets;
  if (n == features) return DESCENT_OK;
  bool *taken = memory_allocate(n, sizeof *taken, "the positions of columns");
  if (!taken) return DESCENT_ERROR_MEMORY;
  for (int64_t k = 0; k < n - features && good; k++) {
    const int64_t position = k < n_targets ? schema->target_positions[k] : schema->left_out[k - n_targets];
    good = position < n && !taken[position];
    if (good) taken[position] = true;
  }
  free(taken);
  if (good) return DESCENT_OK;
  return status_set(DESCENT_ERROR_MODEL, "%s: 'target_places' and 'left_out' are not %" PRId64 " different columns",
                    where, n - features);
}

/* `features` of the file's columns are inputs; the others are left out. */
static descent_status read_indices(const char *where, const cJSON *indices, int64_t features, struct schema *schema) {
  const cJSON *found[INDEX_FIELDS];
  descent_status status;
  if (!indices) return DESCENT_OK;
  TRY(json_fields(where, indices, index_fields, INDEX_FIELDS, found));
  if (!json_integer(found[INDEX_FIRST], &schema->first_index) || schema->first_index > 1)
    TRY(bad_member(where, index_fields[INDEX_FIRST], "0 or 1"));
  if (!json_integer(found[INDEX_COLUMNS], &schema->indexed_columns) || schema->indexed_columns < features ||
      schema->indexed_columns - features > schema->n_left_out)
    TRY(bad_member(where, index_fields[INDEX_COLUMNS], "the number of columns that are inputs or left out"));
done:
  return status;
}

descent_status schema_read_reals(const char *where, const cJSON *list, int64_t n, double **reals) {
  const cJSON *value;
  int64_t i = 0;
  if (!list) return DESCENT_OK;
  if (!cJSON_IsArray(list) || n == 0 || cJSON_GetArraySize(list) != n)
    return status_set(DESCENT_ERROR_MODEL, "%s: '%s' is not a list of %" PRId64 " numbers", where, list->string, n);
  *reals = memory_allocate(n, sizeof **reals, list->string);
  if (!*reals) return DESCENT_ERROR_MEMORY;
  cJSON_ArrayForEach(value, list) {
    if (!cJSON_IsNumber(value) || !(fabs(value->valuedouble) <= (double)FLT_MAX))
      return bad_member(where, list->string, "a list of numbers that float32 can hold");
    (*reals)[i++] = value->valuedouble;
  }
  return DESCENT_OK;
}

static descent_status read_categories(const char *where, const cJSON *list, struct feature *feature) {
  descent_status status;
  if (!list) return DESCENT_OK;
  TRY(read_texts(where, list, cJSON_GetArraySize(list), &feature->categories, &feature->n_categories));
  for (int64_t k = 1; k < feature->n_categories; k++)
    if (strcmp(feature->categories[k - 1], feature->categories[k]) >= 0)
      TRY(bad_member(where, "categories", "in ascending order"));
done:
  return status;
}

static descent_status read_column(const char *where, const char *list, const cJSON *column, struct feature *feature) {
  const cJSON *found[COLUMN_FIELDS];
  descent_status status;
  if (!cJSON_IsObject(column)) return read_text(where, list, column, &feature->name);
  TRY(json_fields(where, column, column_fields, COLUMN_FIELDS, found));
  if (found[COLUMN_NAME]) TRY(read_text(where, "name", found[COLUMN_NAME], &feature->name));
  TRY(read_categories(where, found[COLUMN_CATEGORIES], feature));
  if (found[COLUMN_INDICATOR] && !cJSON_IsBool(found[COLUMN_INDICATOR]))
    TRY(bad_member(where, "indicator", "true or false"));
  feature->indicator = cJSON_IsTrue(found[COLUMN_INDICATOR]);
done:
  return status;
}

static descent_status read_columns(const char *where, const cJSON *columns, int64_t inputs, struct schema *schema) {
  const cJSON *column;
  descent_status status;
  const int64_t n = cJSON_GetArraySize(columns);
  if (!cJSON_IsArray(columns) || n == 0 || n > inputs) return bad_member(where, columns->string, "a list of columns");
  schema->features = memory_allocate(n, sizeof *schema->features, "the columns");
  if (!schema->features) return DESCENT_ERROR_MEMORY;
  cJSON_ArrayForEach(column, columns)
      TRY(read_column(where, columns->string, column, &schema->features[schema->n_features++]));
  for (int64_t c = 1; c < n; c++)
    if (!schema->features[c].name != !schema->features[0].name)
      TRY(status_set(DESCENT_ERROR_MODEL, "%s: '%s': either all columns must have a name or none", where,
                     columns->string));
  if (schema_inputs(schema) != inputs)
    TRY(status_set(DESCENT_ERROR_MODEL, "%s: '%s' describes %" PRId64 " inputs, not %" PRId64, where, columns->string,
                   schema_inputs(schema), inputs));
  TRY(schema_name_inputs(schema));
done:
  return status;
}

descent_status schema_read(const char *where, const struct schema_members *members, int64_t inputs, int64_t targets,
                           int64_t classes, struct schema *schema) {
  const cJSON *unseen = members->unseen;
  struct schema made = {0};
  descent_status status = DESCENT_OK;
  if (members->columns) TRY(read_columns(where, members->columns, inputs, &made));
  if (unseen && (!cJSON_IsString(unseen) || descent_unseen_parse(unseen->valuestring, &made.unseen) != DESCENT_OK))
    TRY(bad_member(where, "unseen", "error or zeros"));
  TRY(read_texts(where, members->target_names, targets, &made.target_names, &made.targets));
  TRY(read_texts(where, members->class_names, classes, &made.class_names, &made.classes));
  TRY(read_missing(where, members->missing, &made));
  TRY(read_numbers(where, members->numbers, &made.numbers));
  TRY(read_positions(where, members->target_positions, &made.target_positions, &made.n_target_positions));
  TRY(read_positions(where, members->left_out, &made.left_out, &made.n_left_out));
  TRY(schema_read_reals(where, members->offsets, inputs, &made.offsets));
  TRY(schema_read_reals(where, members->target_offsets, targets, &made.target_offsets));
  if (made.offsets) made.n_offsets = inputs;
  if (made.target_offsets) made.n_target_offsets = targets;
  TRY(check_positions(where, &made, made.features ? made.n_features : inputs, targets));
  TRY(read_indices(where, members->svmlight, made.features ? made.n_features : inputs, &made));
  *schema = made;
  made = (struct schema){0};
done:
  schema_clear(&made);
  return status;
}
