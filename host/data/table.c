/* The growing table: cells by role, rows, blocks. */
#include "data/table.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/number.h"
#include "core/progress.h"
#include "core/status.h"
#include "core/utf8.h"
#include "data/column_kinds.h"

enum { MAX_CATEGORIES = 1000 };

/* ---- set-up and clean-up ---------------------------------------------------------------------------------------- */

descent_status table_begin(struct table *t, const char *path, const struct read_request *request,
                           const struct table_blocks *blocks) {
  *t = (struct table){.path = path, .request = *request, .blocks = blocks};
  t->columns.weight = -1;
  const descent_status status = missing_cells_create(request->options, &t->missing);
  if (request->options->decimal)
    t->missing.style = request->options->decimal == ',' ? NUMBER_COMMA_GROUPED : NUMBER_POINT_GROUPED;
  else if (request->expected)
    t->missing.style = request->expected->schema->numbers;
  return status;
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
  free(t->early);
  free(t->early_y);
  free(t->y_offsets);
  free(t->y_rounding);
  free(t->weights);
  free(t->values);
  missing_cells_clear(&t->missing);
  *t = (struct table){0};
}

/* ---- growing ---------------------------------------------------------------------------------------------------- */

static descent_status resize(float **values, int64_t from, int64_t to, int64_t width, const char *what) {
  float *resized = memory_resize(*values, from, to, (size_t)width * sizeof **values, what);
  if (!resized) return DESCENT_ERROR_MEMORY;
  *values = resized;
  return DESCENT_OK;
}

/* Grows by half, from 256 KiB on. Large blocks are remapped rather than copied, and only written pages take memory. */
static descent_status grow(struct table *t) {
  const int64_t features = t->columns.features, least = ((int64_t)1 << 16) / (features + 1) + 1;
  int64_t capacity = t->capacity ? t->capacity + t->capacity / 2 + 1 : least;
  /* A block may be asked for that is larger than the file: the first one grows, and the others are as large. */
  if (t->blocks && !table_is_survey(t) && (t->total > 0 || capacity > t->blocks->rows)) capacity = t->blocks->rows;
  descent_status status = DESCENT_OK;
  if (!table_is_survey(t) || !t->values)
    TRY(resize(&t->values, t->capacity, table_is_survey(t) ? 1 : capacity, features ? features : 1, t->path));
  if (t->columns.targets > 1) TRY(resize(&t->y, t->capacity, capacity, t->columns.targets, t->path));
  if (t->columns.weight >= 0) TRY(resize(&t->weights, t->capacity, capacity, 1, t->path));
  t->capacity = capacity;
done:
  return status;
}

/* ---- the columns ------------------------------------------------------------------------------------------------ */

/* Enters the network's categories in order, so that a code is the index of a category. */
static descent_status enter_categories(const struct feature *known, struct table_feature *feature) {
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

/* Takes the offsets of the network, or makes room for the numbers from which they are chosen. */
static descent_status begin_offsets(struct table *t) {
  const struct schema *known = t->request.expected ? t->request.expected->schema : NULL;
  const int64_t features = t->columns.features, targets = t->columns.targets > 1 ? t->columns.targets : 0;
  if (targets) {
    t->y_offsets = memory_allocate(targets, sizeof *t->y_offsets, "the targets");
    t->y_rounding = memory_allocate(targets, sizeof *t->y_rounding, "the targets");
    if (!t->y_offsets || !t->y_rounding) return DESCENT_ERROR_MEMORY;
  }
  if (known) {
    for (int64_t f = 0, j = 0; f < features; f++) {
      t->features[f].offset = schema_offset(known->offsets, known->n_offsets, j);
      j += known->features ? feature_inputs(&known->features[f]) : 1;
    }
    for (int64_t k = 0; k < targets; k++)
      t->y_offsets[k] = schema_offset(known->target_offsets, known->n_target_offsets, k);
    return DESCENT_OK;
  }
  t->early_rows = offset_rows(features + targets);
  t->early = memory_allocate(t->early_rows * features, sizeof *t->early, "the first rows");
  if (targets) t->early_y = memory_allocate(t->early_rows * targets, sizeof *t->early_y, "the first rows");
  return t->early && (t->early_y || !targets) ? DESCENT_OK : DESCENT_ERROR_MEMORY;
}

static descent_status apply_categorical_option(struct table *t) {
  descent_status status = DESCENT_OK;
  for (int64_t k = 0; k < t->request.options->categoricals; k++) {
    int64_t column;
    const char *wanted = t->request.options->categorical[k];
    TRY(columns_find(&t->columns, t->path, wanted, &column));
    if (t->columns.roles[column] < 0) {
      char name[80];
      columns_describe(&t->columns, column, name, sizeof name);
      TRY(status_set(DESCENT_ERROR_DATA, "%s:%" PRId64 ": %s is not a feature and cannot be categorical", t->path,
                     t->columns.line, name));
    }
    t->features[t->columns.roles[column]].kind = FEATURE_CATEGORY;
  }
done:
  return status;
}

static descent_status check_targets(const struct table *t) {
  const descent_task task = t->request.expected ? t->request.expected->task : t->request.options->task;
  if (t->columns.targets < 2 || task == DESCENT_TASK_AUTO || task == DESCENT_TASK_REGRESSION) return DESCENT_OK;
  return status_set(DESCENT_ERROR_DATA, "%s: %" PRId64 " targets, but task %s takes one (choose task regression)",
                    t->path, t->columns.targets, descent_task_name(task));
}

/* A file that is read for a network has the network's separators, which is said, since 1.125 may be 1125 by them. In a file
 * whose cells are separated by commas numbers have no decimal commas, whatever the training file had. */
static void settle_style(struct table *t) {
  static const char *const applied[NUMBER_STYLES] = {
      [NUMBER_COMMA_GROUPED] = "numbers are read as in training: decimal commas, thousands separated by points",
      [NUMBER_POINT_GROUPED] = "numbers are read as in training: thousands separated by commas"};
  if (!t->request.expected || t->request.options->decimal || !t->delimiter) return;
  if (t->delimiter == ',' && (t->missing.style == NUMBER_COMMA || t->missing.style == NUMBER_COMMA_GROUPED)) {
    t->missing.style = NUMBER_PLAIN;
    note_add(t->columns.note, "numbers have decimal points, unlike in training, since commas separate the cells");
  } else if (applied[t->missing.style]) {
    note_add(t->columns.note, applied[t->missing.style]);
  }
}

/* Called once the roles are known: sets the known feature kinds and starts the targets. */
static descent_status begin_columns(struct table *t, bool numbers) {
  const struct schema *known = t->request.expected ? t->request.expected->schema : NULL;
  descent_status status;
  t->features = memory_allocate(t->columns.features, sizeof *t->features, "the columns");
  if (!t->features) return DESCENT_ERROR_MEMORY;
  TRY(check_targets(t));
  settle_style(t);
  for (int64_t f = 0; f < t->columns.features; f++) {
    if (numbers || t->request.expected || t->request.options->strict) t->features[f].kind = FEATURE_NUMBER;
    if (known && known->features) TRY(enter_categories(&known->features[f], &t->features[f]));
  }
  if (!t->request.expected) TRY(apply_categorical_option(t));
  TRY(begin_offsets(t));
  t->decided = true;
  for (int64_t f = 0; f < t->columns.features; f++) t->decided = t->decided && t->features[f].kind != FEATURE_UNKNOWN;
  if (columns_infer_style(t)) t->decided = false;
  if (t->columns.targets == 1) TRY(targets_begin(&t->targets, t->request.options->task, t->request.expected));
  t->targets.style = t->missing.style;
  t->targets.of_text = t->delimiter != 0;
  TRY(grow(t));
done:
  return status;
}

descent_status table_resolve_columns(struct table *t, struct text_list *first, const struct text_list *second) {
  descent_status status;
  TRY(columns_resolve(&t->columns, t->path, first, second, &t->request));
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

/* The same for a cell of a file of numbers. */
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
  return &t->values[(table_is_survey(t) ? 0 : t->rows) * t->columns.features + feature];
}

static descent_status store_missing(struct table *t, int64_t feature, int64_t column, int64_t line) {
  if (t->request.expected && !t->request.expected->imputes)
    return cell_error(t, column, "", 0, line,
                      "is missing, and the network does not replace missing cells (fill it in)");
  *cell(t, feature) = NAN;
  if (t->early) t->early[t->rows * t->columns.features + feature] = (double)NAN;
  t->features[feature].missing++;
  return DESCENT_OK;
}

static void store_value(struct table *t, int64_t feature, double number) {
  struct table_feature *f = &t->features[feature];
  if (!f->has_first) f->first = number, f->has_first = true;
  f->varies = f->varies || number != f->first;
  if (t->early) {
    t->early[t->rows * t->columns.features + feature] = number;
    *cell(t, feature) = (float)number; /* until the offset is known */
  } else {
    *cell(t, feature) = offset_subtract(number, f->offset, &t->rounding, &f->rounding);
  }
}

/* A target of several. */
static void store_target_value(struct table *t, int64_t target, double number) {
  const int64_t at = t->rows * t->columns.targets + target;
  if (t->early)
    t->early_y[at] = number;
  else
    t->y[at] = offset_subtract(number, t->y_offsets[target], &t->rounding, &t->y_rounding[target]);
}

/* Chooses the offset of the column early[.., i] and writes its rows, early or not, to values[.., i]. */
static void settle_column(struct table *t, const double *early, float *values, int64_t width, int64_t i,
                          double *scratch, double *offset, double *largest) {
  for (int64_t r = 0; r < t->rows; r++) scratch[r] = early[r * width + i];
  *offset = offset_choose(scratch, t->rows);
  for (int64_t r = 0; r < t->rows; r++) {
    const double number = early[r * width + i];
    const float stored = isnan(number) ? NAN : offset_subtract(number, *offset, &t->rounding, largest);
    if (values) values[r * width + i] = stored;
  }
}

/* Chooses the offsets from the first rows and rounds those. No-op once they are chosen. */
static descent_status settle_offsets(struct table *t) {
  const int64_t features = t->columns.features, targets = t->columns.targets;
  if (!t->early) return DESCENT_OK;
  double *scratch = memory_allocate(t->rows, sizeof *scratch, "the first rows");
  if (!scratch) return DESCENT_ERROR_MEMORY;
  for (int64_t f = 0; f < features; f++)
    if (t->features[f].kind != FEATURE_CATEGORY)
      settle_column(t, t->early, table_is_survey(t) ? NULL : t->values, features, f, scratch, &t->features[f].offset,
                    &t->features[f].rounding);
  for (int64_t k = 0; t->early_y && k < targets; k++)
    settle_column(t, t->early_y, t->y, targets, k, scratch, &t->y_offsets[k], &t->y_rounding[k]);
  free(scratch);
  free(t->early);
  free(t->early_y);
  t->early = t->early_y = NULL;
  return DESCENT_OK;
}

static descent_status unseen_category(struct table *t, int64_t feature, int64_t column, const char *text, size_t length,
                                      int64_t line) {
  if (t->request.expected->schema->unseen == DESCENT_UNSEEN_ERROR && t->request.options->unseen == DESCENT_UNSEEN_ERROR)
    return cell_error(t, column, text, length, line,
                      "is a category that the network did not see in training (correct it, or choose unseen zeros)");
  *cell(t, feature) = -1;
  t->unseen++;
  return DESCENT_OK;
}

/* Whether the text is a number identified by its value, so that 1 and 1.0 are one category. 01, 1e2 and numbers of more
 * digits than a double holds are codes, such as zip codes, part numbers or hashes, and compare as text. */
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
  if (t->request.expected) {
    code = dictionary_find(&f->categories, (double)NAN, text, length);
    if (code < 0) return unseen_category(t, feature, column, text, length, line);
    *cell(t, feature) = (float)code;
    return DESCENT_OK;
  }
  if (!utf8_valid(text, length, &bad))
    return cell_error(t, column, text, length, line, "is not UTF-8 text (save the file as UTF-8)");
  descent_status status = dictionary_add(&f->categories, (double)NAN, text, length, line, &code);
  if (status != DESCENT_OK) return status;
  if (code >= MAX_CATEGORIES)
    return cell_error(t, column, text, length, line,
                      "is the 1001st category of its column (ignore the column, or group its categories)");
  *cell(t, feature) = (float)code;
  return DESCENT_OK;
}

static descent_status store_number(struct table *t, int64_t feature, int64_t column, const char *text, size_t length,
                                   int64_t line) {
  double value;
  const bool numeric = number_parse_style(text, length, t->missing.style, &value);
  if (numeric && offset_fits(value, t->features[feature].offset) &&
      !(t->request.options->missing && cell_is_missing(&t->missing, text, length))) {
    store_value(t, feature, value);
    return DESCENT_OK;
  }
  if (cell_is_missing(&t->missing, text, length)) return store_missing(t, feature, column, line);
  return cell_error(t, column, text, length, line, cell_number_problem(&t->missing, text, length, numeric, value));
}

static descent_status store_feature(struct table *t, int64_t feature, int64_t column, const char *text, size_t length,
                                    int64_t line) {
  if (t->features[feature].kind == FEATURE_NUMBER) return store_number(t, feature, column, text, length, line);
  cell_trim(&text, &length);
  if (!cell_is_missing(&t->missing, text, length)) return store_category(t, feature, column, text, length, line);
  return store_missing(t, feature, column, line);
}

static descent_status store_weight(struct table *t, int64_t column, const char *text, size_t length, int64_t line) {
  double value;
  if (!number_parse_style(text, length, t->missing.style, &value) || !text_number_fits(value) || value < 0)
    return cell_error(t, column, text, length, line, "is not a valid weight: must be finite and >= 0");
  t->weights[t->rows] = offset_subtract(value, 0, &t->rounding, NULL);
  return DESCENT_OK;
}

static descent_status store_target(struct table *t, int64_t target, int64_t column, const char *text, size_t length,
                                   int64_t line) {
  const char *problem = NULL;
  double value = 0;
  descent_status status = DESCENT_OK;
  if (cell_is_missing(&t->missing, text, length)) {
    t->row_without_target = true;
  } else if (t->columns.targets == 1) {
    status = targets_add(&t->targets, text, length, line, &problem);
  } else if (number_parse_style(text, length, t->missing.style, &value) && offset_fits(value, t->y_offsets[target])) {
    store_target_value(t, target, value);
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

static descent_status pass_block(struct table *t) {
  struct dataset_storage *block = NULL;
  descent_status status;
  TRY(settle_offsets(t)); /* of a sample that ends early */
  TRY(table_extract(t, &block));
  TRY(grow(t));
  status = t->blocks->consume(t->blocks->user, block);
  block = NULL;
done:
  dataset_storage_release(block);
  return status;
}

/* Undoes the counts of a dropped row's cells. */
static void undo_counts(struct table *t) {
  for (int64_t f = 0; f < t->columns.features; f++) {
    const float value = *cell(t, f);
    t->features[f].missing -= isnan(value);
    t->unseen -= t->features[f].kind == FEATURE_CATEGORY && value < 0;
  }
}

static descent_status finish_row(struct table *t) {
  descent_status status = DESCENT_OK;
  if (t->row_without_target) {
    undo_counts(t);
    t->dropped++;
    t->row_without_target = false;
    return DESCENT_OK;
  }
  t->rows++;
  if (t->rows == t->early_rows) TRY(settle_offsets(t));
  if (t->blocks && t->rows == t->blocks->rows) TRY(pass_block(t)); /* never in a survey, of 0 rows */
  if (t->rows == t->capacity) TRY(grow(t));
done:
  return status;
}

/* Infers the feature kinds from the sample and stores its rows. */
static descent_status flush_sample(struct table *t) {
  descent_status status;
  const int64_t n = t->columns.n;
  TRY(columns_infer_kinds(t));
  t->targets.style = t->missing.style;
  t->decided = true;
  for (int64_t r = 0; r < t->sample_rows; r++) {
    for (int64_t c = 0; c < n; c++) {
      const char *text = t->sample.items[r * n + c];
      TRY(store_text(t, c, text, strlen(text), t->sample.lines[r * n + c]));
    }
    TRY(finish_row(t));
  }
  text_list_clear(&t->sample);
done:
  return status;
}

descent_status table_add_text(struct table *t, int64_t column, const char *text, size_t length, int64_t line) {
  if (column >= t->columns.n) return DESCENT_OK; /* reported at the end of the record */
  if (t->decided) return store_text(t, column, text, length, line);
  t->sample_bytes += (int64_t)length + 1;
  if (text_list_add(&t->sample, text, length, line)) return DESCENT_OK;
  return status_set(DESCENT_ERROR_MEMORY, "%s:%" PRId64 ": out of memory for the first rows", t->path, line);
}

descent_status table_end_row(struct table *t) {
  enum { SAMPLE_ROWS = 10000, SAMPLE_BYTES = 4 << 20 };
  if (t->decided) return finish_row(t);
  t->sample_rows++;
  return t->sample_rows < SAMPLE_ROWS && t->sample_bytes < SAMPLE_BYTES ? DESCENT_OK : flush_sample(t);
}

/* ---- files of numbers ------------------------------------------------------------------------------------------- */

descent_status table_set_columns(struct table *t, int64_t n, char *const *names, int64_t targets, int64_t weights) {
  descent_status status;
  TRY(columns_assign(&t->columns, t->path, n, names, targets, weights, &t->request));
  TRY(begin_columns(t, true));
done:
  return status;
}

/* Whether a file of integers may hold another number here that is the same double. */
static bool may_be_merged(const struct table *t, double number) {
  return t->matrix && t->matrix->inexact && fabs(number) >= 0x1p53;
}

descent_status table_add_number(struct table *t, int64_t column, double number, int64_t row) {
  const int64_t role = t->columns.roles[column];
  const char *problem = NULL;
  descent_status status = DESCENT_OK;
  const bool missing = cell_number_is_missing(&t->missing, number);
  if (role >= 0 && t->features[role].kind == FEATURE_CATEGORY) {
    char text[NUMBER_TEXT];
    if (missing)
      status = store_missing(t, role, column, row);
    else if (!isfinite(number))
      return number_error(t, column, number, row, "is not a valid category (correct it)");
    else if (may_be_merged(t, number))
      return number_error(t, column, number, row,
                          "is beyond 2^53, where a file of numbers does not tell categories apart (use a CSV file)");
    else {
      number_format(number, text); /* not in the call: arguments are evaluated in any order */
      return store_category(t, role, column, text, strlen(text), row);
    }
  } else if (role >= 0) {
    if (missing)
      status = store_missing(t, role, column, row);
    else if (!offset_fits(number, t->features[role].offset))
      problem = "is not a finite 32-bit number, at most 3.4e38 (correct it, or remove the row or the column)";
    else
      store_value(t, role, number);
  } else if (role == COLUMN_WEIGHT) {
    if (!text_number_fits(number) || number < 0) problem = "is not a valid weight: must be finite and >= 0";
    t->weights[t->rows] = problem ? 0 : offset_subtract(number, 0, &t->rounding, NULL);
  } else if (role <= COLUMN_TARGET && missing) {
    t->row_without_target = true;
  } else if (role <= COLUMN_TARGET && t->columns.targets == 1) {
    if (may_be_merged(t, number) && !t->targets.merged_row) t->targets.merged_row = row;
    status = targets_add_number(&t->targets, number, row, &problem);
  } else if (role <= COLUMN_TARGET) {
    const int64_t target = COLUMN_TARGET - role;
    if (offset_fits(number, t->y_offsets[target]))
      store_target_value(t, target, number);
    else
      problem = "is not a finite 32-bit number (correct it, or remove the row)";
  }
  return problem ? number_error(t, column, number, row, problem) : status;
}

/* The number of columns at the beginning that are the first features, numbers without an offset. */
static int64_t count_plain_columns(const struct table *t) {
  int64_t n = 0;
  while (n < t->columns.n && t->columns.roles[n] == n && t->features[n].kind == FEATURE_NUMBER &&
         t->features[n].offset == 0)
    n++;
  return n;
}

/* Stores a row, with a fast path for numeric features behind the first rows, the faster for numbers that float32 holds
 * exactly, and the fastest, which looks at the numbers only, for those of plain columns. */
static descent_status store_numbers(struct table *t, const double *cells, int64_t row) {
  float *const values = cell(t, 0);
  const bool fast = !t->early && !t->missing.n_numbers;
  descent_status status = DESCENT_OK;
  if (fast && t->plain < 0) t->plain = count_plain_columns(t);
  const int64_t plain = fast ? t->plain : 0;
  for (int64_t c = 0; c < t->columns.n; c++) {
    for (; c < plain && text_number_fits(cells[c]) && (double)(float)cells[c] == cells[c]; c++)
      values[c] = (float)cells[c];
    if (c == t->columns.n) break;
    const int64_t role = t->columns.roles[c];
    const struct table_feature *f = fast && role >= 0 ? &t->features[role] : NULL;
    if (!f || f->kind != FEATURE_NUMBER || !offset_fits(cells[c], f->offset))
      TRY(table_add_number(t, c, cells[c], row));
    else if (f->offset == 0 && (double)(float)cells[c] == cells[c])
      values[role] = (float)cells[c];
    else
      store_value(t, role, cells[c]);
  }
  TRY(finish_row(t));
done:
  return status;
}

descent_status table_read_matrix(struct table *t, struct matrix *matrix) {
  enum { CHUNK = 1 << 16 }; /* cells */
  const int64_t n = matrix->columns, at_a_time = n < CHUNK ? CHUNK / n : 1;
  double *cells = NULL;
  descent_status status;
  t->stored = matrix->stored;
  TRY(table_check_expansion(t, matrix->rows, n));
  TRY(table_set_columns(t, n, matrix->names, matrix->targets, matrix->weights));
  note_add(t->columns.note, matrix->note);
  t->columns.schema.first_index = matrix->first_index;
  t->columns.schema.indexed_columns = matrix->indexed_columns;
  t->matrix = matrix;
  t->plain = -1; /* not counted yet */
  cells = memory_allocate(at_a_time * n, sizeof *cells, "rows of numbers");
  if (!cells) return DESCENT_ERROR_MEMORY;
  for (int64_t row = 0, rows; row < matrix->rows; row += rows) {
    rows = matrix->rows - row < at_a_time ? matrix->rows - row : at_a_time;
    TRY(matrix->read(matrix, rows, cells));
    for (int64_t r = 0; r < rows; r++) TRY(store_numbers(t, cells + r * n, row + r + 1));
    TRY(progress_report("reading", t->path, "rows", row + rows, matrix->rows));
  }
  t->rounding.cells += matrix->inexact;
done:
  free(cells);
  t->matrix = NULL;
  return status;
}

/* ---- the end ---------------------------------------------------------------------------------------------------- */

descent_status table_finish(struct table *t, struct dataset_storage **storage) {
  descent_status status = DESCENT_OK;
  *storage = NULL;
  if (!t->decided) TRY(flush_sample(t));
  if (t->rows == 0 && t->total == 0)
    TRY(status_set(DESCENT_ERROR_DATA, "%s: the target is missing in every row (%" PRId64 ")", t->path, t->dropped));
  TRY(settle_offsets(t));
  if (t->rows > 0) TRY(table_extract(t, storage));
done:
  return status;
}

descent_status matrix_read_as_table(struct matrix *matrix, const struct read_request *request,
                                    const struct table_blocks *blocks, struct dataset_storage **storage) {
  struct table table;
  descent_status status;
  TRY(table_begin(&table, matrix->path, request, blocks));
  TRY(table_read_matrix(&table, matrix));
  TRY(table_finish(&table, storage));
done:
  table_clear(&table);
  return status;
}
