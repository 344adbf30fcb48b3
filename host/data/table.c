/* The table while it grows: cells by role, rows, blocks, and the dataset that comes out. */
#include "data/table.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/number.h"
#include "core/status.h"
#include "core/utf8.h"
#include "data/cells.h"

enum { MOST_CATEGORIES = 1000 };

/* ---- beginning and ending --------------------------------------------------------------------------------------- */

descent_status table_begin(struct table *t, const char *path, const descent_dataset_options *options,
                           const struct expected *expected, const struct table_blocks *blocks) {
  *t = (struct table){.path = path, .options = options, .expected = expected, .blocks = blocks};
  t->columns.weight = -1;
  if (!options->missing || !options->missing_texts) return DESCENT_OK;
  t->missing_numbers = memory_allocate(options->missing_texts, sizeof *t->missing_numbers, "missing numbers");
  if (!t->missing_numbers) return DESCENT_ERROR_MEMORY;
  for (int64_t i = 0; i < options->missing_texts; i++) {
    double number;
    if (number_parse(options->missing[i], strlen(options->missing[i]), &number) && !isnan(number))
      t->missing_numbers[t->n_missing_numbers++] = number;
  }
  return DESCENT_OK;
}

static void clear_features(struct table *t) {
  for (int64_t f = 0; t->features && f < t->columns.features; f++) dictionary_clear(&t->features[f].categories);
  free(t->features);
  t->features = NULL;
}

void table_clear(struct table *t) {
  clear_features(t);
  columns_clear(&t->columns);
  targets_clear(&t->targets);
  text_list_clear(&t->sample);
  free(t->y);
  free(t->weights);
  free(t->values);
  free(t->missing_numbers);
  *t = (struct table){0};
}

/* ---- growing ---------------------------------------------------------------------------------------------------- */

static descent_status resize(float **values, int64_t from, int64_t to, int64_t width, const char *what) {
  float *resized = memory_resize(*values, from, to, (size_t)width * sizeof **values, what);
  if (!resized) return DESCENT_ERROR_MEMORY;
  *values = resized;
  return DESCENT_OK;
}

/* Are cells only looked at? */
static bool is_survey(const struct table *t) { return t->blocks && t->blocks->rows == 0; }

/* Half as much again, from 256 KiB on: large blocks are remapped rather than copied and use only the pages written. */
static descent_status grow(struct table *t) {
  const int64_t features = t->columns.features, least = ((int64_t)1 << 16) / (features + 1) + 1;
  int64_t capacity = t->capacity ? t->capacity + t->capacity / 2 + 1 : least;
  if (t->blocks && !is_survey(t)) capacity = t->blocks->rows;
  descent_status status = DESCENT_OK;
  if (!is_survey(t) || !t->values)
    TRY(resize(&t->values, t->capacity, is_survey(t) ? 1 : capacity, features ? features : 1, t->path));
  if (t->columns.targets > 1) TRY(resize(&t->y, t->capacity, capacity, t->columns.targets, t->path));
  if (t->columns.weight >= 0) TRY(resize(&t->weights, t->capacity, capacity, 1, t->path));
  t->capacity = capacity;
done:
  return status;
}

/* ---- the columns ------------------------------------------------------------------------------------------------ */

/* The network's categories come first, so that a code is a category's place. */
static descent_status take_categories(const struct feature *known, struct table_feature *feature) {
  descent_status status = DESCENT_OK;
  feature->kind = known->categories ? FEATURE_CATEGORY : FEATURE_NUMBER;
  for (int64_t k = 0; k < known->n_categories; k++) {
    int64_t code;
    TRY(dictionary_add(&feature->categories, (double)NAN, known->categories[k], strlen(known->categories[k]), 0,
                       &code));
  }
done:
  return status;
}

static descent_status force_categories(struct table *t) {
  descent_status status = DESCENT_OK;
  for (int64_t k = 0; k < t->options->categoricals; k++) {
    int64_t column;
    const char *wanted = t->options->categorical[k];
    TRY(columns_find(&t->columns, t->path, wanted, &column));
    if (t->columns.roles[column] < 0) {
      char name[80];
      columns_describe(&t->columns, column, name, sizeof name);
      TRY(status_set(DESCENT_ERROR_DATA, "%s:%" PRId64 ": %s is no feature, so it cannot be categorical", t->path,
                     t->columns.line, name));
    }
    t->features[t->columns.roles[column]].kind = FEATURE_CATEGORY;
  }
done:
  return status;
}

static descent_status check_targets(const struct table *t) {
  const descent_task task = t->expected ? t->expected->task : t->options->task;
  if (t->columns.targets < 2 || task == DESCENT_TASK_AUTO || task == DESCENT_TASK_REGRESSION) return DESCENT_OK;
  return status_set(DESCENT_ERROR_DATA, "%s: %" PRId64 " targets, but task %s has one (choose task regression)",
                    t->path, t->columns.targets, descent_task_name(task));
}

/* After the roles: what is known of every feature, and of the targets. */
static descent_status begin_columns(struct table *t, bool numbers) {
  const struct schema *known = t->expected ? t->expected->schema : NULL;
  descent_status status;
  t->features = memory_allocate(t->columns.features, sizeof *t->features, "the columns");
  if (!t->features) return DESCENT_ERROR_MEMORY;
  TRY(check_targets(t));
  for (int64_t f = 0; f < t->columns.features; f++) {
    if (numbers || t->expected || t->options->strict) t->features[f].kind = FEATURE_NUMBER;
    if (known && known->features) TRY(take_categories(&known->features[f], &t->features[f]));
  }
  if (!t->expected) TRY(force_categories(t));
  t->decided = true;
  for (int64_t f = 0; f < t->columns.features; f++) t->decided = t->decided && t->features[f].kind != FEATURE_UNKNOWN;
  if (t->columns.targets == 1) TRY(targets_begin(&t->targets, t->options->task, t->expected));
  TRY(grow(t));
done:
  return status;
}

descent_status table_first(struct table *t, struct text_list *first) {
  descent_status status;
  TRY(columns_resolve(&t->columns, t->path, first, t->options, t->expected));
  TRY(begin_columns(t, false));
done:
  return status;
}

/* ---- cells ------------------------------------------------------------------------------------------------------ */

static descent_status cell_error(const struct table *t, int64_t column, const char *text, size_t length, int64_t line,
                                 const char *problem) {
  char shown[64], name[80], value[80] = "the cell";
  text_escape(text, length, shown, sizeof shown);
  columns_describe(&t->columns, column, name, sizeof name);
  if (length) snprintf(value, sizeof value, "'%s'", shown);
  return status_set(DESCENT_ERROR_DATA, "%s:%" PRId64 ": %s: %s %s", t->path, line, name, value, problem);
}

/* The same for a number that a file holds as one. */
static descent_status number_error(const struct table *t, int64_t column, double number, int64_t row,
                                   const char *problem) {
  char text[NUMBER_TEXT];
  if (isfinite(number))
    number_format(number, text);
  else
    snprintf(text, sizeof text, "%g", number);
  return cell_error(t, column, text, strlen(text), row, problem);
}

static float *cell(struct table *t, int64_t feature) {
  return &t->values[(is_survey(t) ? 0 : t->rows) * t->columns.features + feature];
}

static descent_status store_missing(struct table *t, int64_t feature, int64_t column, int64_t line) {
  if (t->expected && !t->expected->imputes)
    return cell_error(t, column, "", 0, line, "is missing, and the network has no value for that (fill it in)");
  *cell(t, feature) = NAN;
  t->features[feature].missing++;
  return DESCENT_OK;
}

/* Counts what float32 cannot hold exactly. */
static float rounded(struct table *t, double number) {
  const float stored = (float)number;
  if ((double)stored != number) {
    const double change = fabs((double)stored - number);
    t->rounded++;
    if (change > t->rounding * fabs(number)) t->rounding = change / fabs(number); /* a division only now and then */
  }
  return stored;
}

static descent_status unseen_category(struct table *t, int64_t feature, int64_t column, const char *text, size_t length,
                                      int64_t line) {
  if (t->expected->schema->unseen == DESCENT_UNSEEN_ERROR && t->options->unseen == DESCENT_UNSEEN_ERROR)
    return cell_error(t, column, text, length, line,
                      "is a category that the network has not seen in training (correct it, or choose unseen zeros)");
  *cell(t, feature) = -1;
  t->unseen++;
  return DESCENT_OK;
}

/* Is it a number whose value is all there is to it? 1 and 1.0 are one category, but 01, 1e2 and numbers that a double
 * cannot tell apart are codes: a zip code, a part, a hash. */
static bool is_plain_number(const char *text, size_t length, double *number) {
  enum { EXACT_DIGITS = 15 };
  size_t i = length && (*text == '-' || *text == '+'), digits = 0;
  if (i + 1 < length && text[i] == '0' && text[i + 1] != '.') return false;
  for (; i < length; i++) {
    if (text[i] != '.' && (text[i] < '0' || text[i] > '9')) return false;
    digits += text[i] != '.';
  }
  return digits <= EXACT_DIGITS && number_parse(text, length, number);
}

static descent_status store_category(struct table *t, int64_t feature, int64_t column, const char *text, size_t length,
                                     int64_t line) {
  struct table_feature *f = &t->features[feature];
  char shortest[NUMBER_TEXT];
  double number;
  size_t bad;
  int64_t code;
  if (is_plain_number(text, length, &number)) {
    text = number_format(number, shortest);
    length = strlen(text);
  }
  if (t->expected) {
    code = dictionary_find(&f->categories, (double)NAN, text, length);
    if (code < 0) return unseen_category(t, feature, column, text, length, line);
    *cell(t, feature) = (float)code;
    return DESCENT_OK;
  }
  if (!utf8_valid(text, length, &bad))
    return cell_error(t, column, text, length, line, "is not UTF-8 text (save the file as UTF-8)");
  descent_status status = dictionary_add(&f->categories, (double)NAN, text, length, line, &code);
  if (status != DESCENT_OK) return status;
  if (code >= MOST_CATEGORIES)
    return cell_error(t, column, text, length, line,
                      "is the 1001st category of its column (ignore the column, or group its categories)");
  *cell(t, feature) = (float)code;
  return DESCENT_OK;
}

static descent_status store_number(struct table *t, int64_t feature, int64_t column, const char *text, size_t length,
                                   int64_t line) {
  double value;
  const bool numeric = number_parse(text, length, &value);
  if (numeric && text_number_fits(value) && !(t->options->missing && cell_is_missing(t, text, length))) {
    *cell(t, feature) = rounded(t, value);
    return DESCENT_OK;
  }
  if (cell_is_missing(t, text, length)) return store_missing(t, feature, column, line);
  return cell_error(t, column, text, length, line, cell_number_problem(t->options, text, length, numeric, value));
}

static descent_status store_feature(struct table *t, int64_t feature, int64_t column, const char *text, size_t length,
                                    int64_t line) {
  if (t->features[feature].kind == FEATURE_NUMBER) return store_number(t, feature, column, text, length, line);
  cell_trim(&text, &length);
  if (!cell_is_missing(t, text, length)) return store_category(t, feature, column, text, length, line);
  return store_missing(t, feature, column, line);
}

static descent_status store_weight(struct table *t, int64_t column, const char *text, size_t length, int64_t line) {
  double value;
  if (!number_parse(text, length, &value) || !text_number_fits(value) || value < 0)
    return cell_error(t, column, text, length, line, "is no weight: a finite number of at least 0 (correct it)");
  t->weights[t->rows] = rounded(t, value);
  return DESCENT_OK;
}

static descent_status store_target(struct table *t, int64_t target, int64_t column, const char *text, size_t length,
                                   int64_t line) {
  const char *problem = NULL;
  double value = 0;
  descent_status status = DESCENT_OK;
  if (cell_is_missing(t, text, length)) {
    t->row_without_target = true;
  } else if (t->columns.targets == 1) {
    status = targets_add(&t->targets, text, length, line, &problem);
  } else if (number_parse(text, length, &value) && text_number_fits(value)) {
    t->y[t->rows * t->columns.targets + target] = rounded(t, value);
  } else {
    problem = "is not a finite number, which regression on several targets needs (correct it)";
  }
  return problem ? cell_error(t, column, text, length, line, problem) : status;
}

static descent_status store_text(struct table *t, int64_t column, const char *text, size_t length, int64_t line) {
  const int64_t role = t->columns.roles[column];
  if (role >= 0) return store_feature(t, role, column, text, length, line);
  if (role == COLUMN_WEIGHT) return store_weight(t, column, text, length, line);
  if (role <= COLUMN_TARGET) return store_target(t, COLUMN_TARGET - role, column, text, length, line);
  return DESCENT_OK;
}

/* ---- rows ------------------------------------------------------------------------------------------------------- */

static descent_status take_storage(struct table *t, struct dataset_storage **out);

static descent_status give_block(struct table *t) {
  struct dataset_storage *block = NULL;
  descent_status status = take_storage(t, &block);
  return status == DESCENT_OK ? t->blocks->take(t->blocks->user, block) : status;
}

/* What was counted of the current row's cells is no part of the dataset. */
static void forget_row(struct table *t) {
  for (int64_t f = 0; f < t->columns.features; f++) {
    const float value = *cell(t, f);
    t->features[f].missing -= isnan(value);
    t->unseen -= t->features[f].kind == FEATURE_CATEGORY && value < 0;
  }
}

static descent_status keep_row(struct table *t) {
  descent_status status = DESCENT_OK;
  if (t->row_without_target) {
    forget_row(t);
    t->dropped++;
    t->row_without_target = false;
    return DESCENT_OK;
  }
  t->rows++;
  if (t->rows == t->capacity) TRY(t->blocks && !is_survey(t) ? give_block(t) : grow(t));
done:
  return status;
}

/* Decides the kinds by the rows held and stores them. */
static descent_status settle_sample(struct table *t) {
  descent_status status;
  const int64_t n = t->columns.n;
  TRY(cells_decide(t));
  t->decided = true;
  for (int64_t r = 0; r < t->sample_rows; r++) {
    for (int64_t c = 0; c < n; c++) {
      const char *text = t->sample.items[r * n + c];
      TRY(store_text(t, c, text, strlen(text), t->sample.lines[r * n + c]));
    }
    TRY(keep_row(t));
  }
  text_list_clear(&t->sample);
done:
  return status;
}

descent_status table_text(struct table *t, int64_t column, const char *text, size_t length, int64_t line) {
  if (column >= t->columns.n) return DESCENT_OK; /* told when the record ends */
  if (t->decided) return store_text(t, column, text, length, line);
  t->sample_bytes += (int64_t)length + 1;
  if (text_list_add(&t->sample, text, length, line)) return DESCENT_OK;
  return status_set(DESCENT_ERROR_MEMORY, "%s:%" PRId64 ": out of memory for the first rows", t->path, line);
}

descent_status table_end_row(struct table *t) {
  enum { SAMPLE_ROWS = 10000, SAMPLE_BYTES = 4 << 20 };
  if (t->decided) return keep_row(t);
  t->sample_rows++;
  return t->sample_rows < SAMPLE_ROWS && t->sample_bytes < SAMPLE_BYTES ? DESCENT_OK : settle_sample(t);
}

/* ---- files of numbers ------------------------------------------------------------------------------------------- */

descent_status table_first_numbers(struct table *t, int64_t n, char *const *names, int64_t targets, int64_t weights) {
  descent_status status;
  TRY(columns_assign(&t->columns, t->path, n, names, targets, weights, t->options, t->expected));
  TRY(begin_columns(t, true));
done:
  return status;
}

descent_status table_number(struct table *t, int64_t column, double number, int64_t row) {
  const int64_t role = t->columns.roles[column];
  const char *problem = NULL;
  descent_status status = DESCENT_OK;
  const bool missing = cell_number_is_missing(t, number);
  if (role >= 0 && t->features[role].kind == FEATURE_CATEGORY) {
    char text[NUMBER_TEXT];
    if (missing)
      status = store_missing(t, role, column, row);
    else if (!isfinite(number))
      return number_error(t, column, number, row, "is no category (correct it)");
    else {
      number_format(number, text); /* first: arguments are evaluated in any order */
      return store_category(t, role, column, text, strlen(text), row);
    }
  } else if (role >= 0) {
    if (missing)
      status = store_missing(t, role, column, row);
    else if (!text_number_fits(number))
      problem = "is not a finite 32-bit number, at most 3.4e38 (correct it, or remove the row or the column)";
    else
      *cell(t, role) = rounded(t, number);
  } else if (role == COLUMN_WEIGHT) {
    if (!text_number_fits(number) || number < 0) problem = "is no weight: a finite number of at least 0 (correct it)";
    t->weights[t->rows] = problem ? 0 : rounded(t, number);
  } else if (role <= COLUMN_TARGET && missing) {
    t->row_without_target = true;
  } else if (role <= COLUMN_TARGET && t->columns.targets == 1) {
    status = targets_add_number(&t->targets, number, row, &problem);
  } else if (role <= COLUMN_TARGET) {
    if (!text_number_fits(number)) problem = "is not a finite 32-bit number (correct it, or remove the row)";
    t->y[t->rows * t->columns.targets + COLUMN_TARGET - role] = problem ? 0 : rounded(t, number);
  }
  return problem ? number_error(t, column, number, row, problem) : status;
}

/* Most cells of a matrix are numbers of features that float32 holds. */
static descent_status store_numbers(struct table *t, const double *cells, int64_t row) {
  float *const values = cell(t, 0);
  descent_status status = DESCENT_OK;
  for (int64_t c = 0; c < t->columns.n; c++) {
    const int64_t role = t->columns.roles[c];
    const float stored = (float)cells[c];
    if (role >= 0 && t->features[role].kind == FEATURE_NUMBER && (double)stored == cells[c] && isfinite(stored) &&
        !t->n_missing_numbers)
      values[role] = stored;
    else
      TRY(table_number(t, c, cells[c], row));
  }
  TRY(keep_row(t));
done:
  return status;
}

descent_status table_matrix(struct table *t, struct matrix *matrix) {
  enum { CHUNK = 1 << 16 }; /* cells */
  const int64_t n = matrix->columns, at_a_time = n < CHUNK ? CHUNK / n : 1;
  double *cells = NULL;
  descent_status status;
  TRY(table_first_numbers(t, n, matrix->names, matrix->targets, matrix->weights));
  if (!t->columns.note) t->columns.note = matrix->note;
  cells = memory_allocate(at_a_time * n, sizeof *cells, "rows of numbers");
  if (!cells) return DESCENT_ERROR_MEMORY;
  for (int64_t row = 0, rows; row < matrix->rows; row += rows) {
    rows = matrix->rows - row < at_a_time ? matrix->rows - row : at_a_time;
    TRY(matrix->read(matrix, rows, cells));
    for (int64_t r = 0; r < rows; r++) TRY(store_numbers(t, cells + r * n, row + r + 1));
  }
  t->rounded += matrix->inexact;
done:
  free(cells);
  return status;
}

/* ---- the dataset ------------------------------------------------------------------------------------------------ */

/* Sorts a feature's categories into the schema, whose places replace the codes in the order that is returned. */
static descent_status sort_categories(const struct table_feature *from, struct feature *to, int32_t **place_of) {
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
  *place_of = order;
  order = NULL;
done:
  free(order);
  return status;
}

static void replace_codes(struct table *t, int64_t feature, const int32_t *place_of) {
  for (int64_t r = 0; r < t->rows; r++) {
    float *code = &t->values[r * t->columns.features + feature];
    if (*code >= 0) *code = (float)place_of[(int64_t)*code];
  }
}

/* What the cells of a feature were. */
static descent_status describe_feature(struct table *t, int64_t feature, struct feature *to) {
  struct table_feature *from = &t->features[feature];
  int32_t *place_of;
  to->indicator = t->options->indicators && from->missing > 0;
  if (from->kind != FEATURE_CATEGORY) return DESCENT_OK;
  if (from->categories.n == 0) {
    char name[80] = "";
    for (int64_t c = 0; c < t->columns.n; c++)
      if (t->columns.roles[c] == feature) columns_describe(&t->columns, c, name, sizeof name);
    return status_set(DESCENT_ERROR_DATA, "%s: %s: every cell is missing (ignore the column)", t->path, name);
  }
  descent_status status = sort_categories(from, to, &place_of);
  if (status != DESCENT_OK) return status;
  if (!is_survey(t)) replace_codes(t, feature, place_of);
  free(place_of);
  return DESCENT_OK;
}

/* The names are the file's, all else is the network's where there is one. */
static descent_status give_schema(struct table *t, struct schema *schema) {
  const struct schema *known = t->expected ? t->expected->schema : NULL;
  descent_status status;
  TRY(schema_copy(&t->columns.schema, schema));
  for (int64_t f = 0; f < schema->n_features; f++) {
    if (!t->expected)
      TRY(describe_feature(t, f, &schema->features[f]));
    else if (known->features)
      TRY(feature_copy_kind(&known->features[f], &schema->features[f]));
  }
  schema->unseen = t->options->unseen;
  if (known)
    TRY(schema_copy_reading(known, schema));
  else if (t->options->missing || t->options->strict)
    TRY(schema_set_missing(schema, t->options->missing, t->options->missing ? t->options->missing_texts : 0));
  TRY(schema_name_inputs(schema));
done:
  return status;
}

/* One row of inputs from one of features. */
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

/* Gives an array (rows, width) away, cut to its rows; NULL where there is none. */
static float *hand_over(float **values, int64_t rows, int64_t width) {
  float *given = *values ? realloc(*values, (size_t)(rows * width + 1) * sizeof **values) : NULL;
  if (!given) given = *values;
  *values = NULL;
  return given;
}

/* Is every input a number? Then the rows are the inputs already. */
static bool is_plain(const struct schema *schema) {
  for (int64_t f = 0; f < schema->n_features; f++)
    if (schema->features[f].categories || schema->features[f].indicator) return false;
  return true;
}

static descent_status give_X(struct table *t, struct dataset_storage *storage) {
  descent_status status = DESCENT_OK;
  const bool plain = is_plain(&storage->schema);
  storage->inputs = schema_inputs(&storage->schema);
  if (!is_survey(t) && plain) storage->owned_X = hand_over(&t->values, t->rows, storage->inputs);
  if (!is_survey(t) && !plain) TRY(expand(t, storage));
  if (plain && !storage->schema.input_names) schema_drop_features(&storage->schema); /* needs no list */
  storage->X = storage->owned_X;
done:
  return status;
}

static descent_status give_targets(struct table *t, struct dataset_storage *storage) {
  storage->task = t->expected ? t->expected->task : t->options->task;
  if (t->columns.targets == 1) {
    char name[80];
    columns_describe(&t->columns, t->columns.target_at[0], name, sizeof name);
    const descent_status status = targets_finish(&t->targets, t->path, name, storage);
    if (status == DESCENT_OK && storage->task == DESCENT_TASK_REGRESSION) {
      storage->rounded += t->targets.rounded;
      storage->rounding = fmax(storage->rounding, t->targets.rounding);
    }
    return status;
  }
  if (t->columns.targets > 1) {
    storage->task = DESCENT_TASK_REGRESSION;
    storage->targets = t->columns.targets;
    storage->owned_y = hand_over(&t->y, t->rows, t->columns.targets);
    storage->y = storage->owned_y;
  }
  return DESCENT_OK;
}

/* Moves the rows into a storage; the table can take more after that. */
static descent_status take_storage(struct table *t, struct dataset_storage **out) {
  descent_status status;
  struct dataset_storage *storage = memory_allocate(1, sizeof *storage, "the dataset");
  if (!storage) return DESCENT_ERROR_MEMORY;
  *storage = (struct dataset_storage){.references = 1,
                                      .rows = t->rows,
                                      .dropped = t->dropped,
                                      .unseen = t->unseen,
                                      .rounded = t->rounded,
                                      .rounding = t->rounding,
                                      .note = t->columns.note};
  TRY(give_schema(t, &storage->schema));
  TRY(give_X(t, storage));
  TRY(give_targets(t, storage));
  storage->owned_weights = hand_over(&t->weights, t->rows, 1);
  storage->weights = storage->owned_weights;
  t->total += t->rows;
  t->rows = t->capacity = t->dropped = t->unseen = t->rounded = 0;
  free(t->values);
  t->values = NULL;
  if (t->blocks) TRY(grow(t));
  *out = storage;
  storage = NULL;
done:
  dataset_storage_release(storage);
  return status;
}

descent_status table_finish(struct table *t, struct dataset_storage **storage) {
  descent_status status = DESCENT_OK;
  *storage = NULL;
  if (!t->decided) TRY(settle_sample(t));
  if (t->rows == 0 && t->total == 0)
    TRY(status_set(DESCENT_ERROR_DATA, "%s: the target is missing in every row (%" PRId64 ")", t->path, t->dropped));
  if (t->rows > 0) TRY(take_storage(t, storage));
done:
  return status;
}

descent_status matrix_into_table(struct matrix *matrix, const descent_dataset_options *options,
                                 const struct expected *expected, const struct table_blocks *blocks,
                                 struct dataset_storage **storage) {
  struct table table;
  descent_status status;
  TRY(table_begin(&table, matrix->path, options, expected, blocks));
  TRY(table_matrix(&table, matrix));
  TRY(table_finish(&table, storage));
done:
  table_clear(&table);
  return status;
}
