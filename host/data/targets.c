/* Inference of classes or numbers: distinct values are indexed until the column proves to be numeric; the classes are
 * determined when all rows have been read. */
#include "data/targets.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/number.h"
#include "core/status.h"
#include "core/utf8.h"
#include "data/cell_forms.h"
#include "data/cells.h"
#include "data/text.h"

static bool is_classification(descent_task task) { return task == DESCENT_TASK_BINARY || task == DESCENT_TASK_CLASSES; }

/* Whether several whole numbers are this double, so that a class is its digits. */
static bool is_large(double number) { return fabs(number) >= 0x1p53; }

/* ---- adding ----------------------------------------------------------------------------------------------------- */

/* Enters the network's classes in order, so that the index of a value is its class. */
static descent_status enter_expected_classes(struct targets *t) {
  descent_status status = DESCENT_OK;
  for (int64_t k = 0; k < t->expected->classes; k++) {
    const char *name = t->expected->schema->class_names[k];
    double number;
    int64_t index;
    char digits[NUMBER_DIGITS];
    if (!number_parse(name, strlen(name), &number) || !isfinite(number)) number = (double)NAN;
    if (is_large(number)) name = number_whole(name, strlen(name), NUMBER_PLAIN, number, digits);
    TRY(dictionary_add(&t->distinct, number, name, strlen(name), 0, &index));
    if (index != k) {
      char shown[64];
      text_escape(name, strlen(name), shown, sizeof shown);
      TRY(status_set(DESCENT_ERROR_MODEL, "the network's classes %" PRId64 " and %" PRId64 " are both named '%s'",
                     index, k, shown));
    }
  }
done:
  return status;
}

descent_status targets_begin(struct targets *t, descent_task task, const struct expected_data *expected) {
  *t = (struct targets){.task = expected ? expected->task : task, .expected = expected, .first_text = -1};
  t->counting = t->task != DESCENT_TASK_REGRESSION;
  if (expected) t->offset = schema_offset(expected->schema->target_offsets, expected->schema->n_target_offsets, 0);
  if (!expected) t->early = memory_allocate(offset_rows(1), sizeof *t->early, "the first targets");
  if (!expected && !t->early) return DESCENT_ERROR_MEMORY;
  return expected && expected->schema->class_names && is_classification(t->task) ? enter_expected_classes(t)
                                                                                 : DESCENT_OK;
}

static descent_status reserve_row(struct targets *t) {
  if (t->rows < t->capacity) return DESCENT_OK;
  const int64_t capacity = t->capacity ? t->capacity + t->capacity / 2 : 1024;
  float *y = memory_resize(t->y, t->capacity, capacity, sizeof *y, "the target column");
  if (!y) return DESCENT_ERROR_MEMORY;
  t->y = y;
  t->capacity = capacity;
  return DESCENT_OK;
}

/* Why a cell is not a valid target regardless of other rows; NULL when it is valid. */
static const char *cell_problem(const struct targets *t, const char *text, size_t length, bool numeric, double number) {
  size_t bad;
  if (length == 0) return "is empty (fill in the target, or remove the row)";
  if (numeric && isnan(number)) return "is not a value (fill in the target, or remove the row)";
  if (numeric && !offset_fits(number, t->offset))
    return "is not a finite 32-bit number (correct it, or remove the row)";
  if (!numeric && !t->counting) {
    const char *problem = cell_separator_problem(t->style, text, length);
    const struct cell_decoration *decoration = problem ? NULL : cell_find_decoration(text, length);
    if (problem) return problem;
    if (decoration) return decoration->target_problem;
  }
  if (!numeric && t->task == DESCENT_TASK_REGRESSION) return "is not a number, which regression needs (correct it)";
  if (!numeric && !t->counting)
    return "is not a number, but the target's other values are (correct it, or choose task classes)";
  if (!numeric && !utf8_valid(text, length, &bad)) return "is not UTF-8 text (save the file as UTF-8)";
  return NULL;
}

static descent_status add_expected_class(struct targets *t, const char *text, size_t length, double number,
                                         int64_t *index, const char **problem) {
  const int64_t classes = t->expected->classes;
  if (t->expected->schema->class_names)
    *index = dictionary_find(&t->distinct, number, text, length);
  else
    *index =
        !isnan(number) && number >= 0 && number < (double)classes && number == trunc(number) ? (int64_t)number : -1;
  if (*index >= 0) return DESCENT_OK;
  *problem = t->expected->schema->class_names ? "is not one of the network's classes"
                                              : "is not a class of the network: classes are numbered from 0";
  return DESCENT_ERROR_DATA;
}

static float round_number(struct targets *t, double number) {
  return offset_subtract(number, t->offset, &t->rounding, &t->largest_change);
}

/* Chooses the offset from the first numbers, and rounds those unless y holds indices. No-op once it is chosen. */
static descent_status settle_offset(struct targets *t) {
  const int64_t most = offset_rows(1), n = t->rows < most ? t->rows : most;
  if (!t->early) return DESCENT_OK;
  double *scratch = memory_allocate(n, sizeof *scratch, "the first targets");
  if (!scratch) return DESCENT_ERROR_MEMORY;
  memcpy(scratch, t->early, (size_t)n * sizeof *scratch);
  t->offset = offset_choose(scratch, n);
  free(scratch);
  for (int64_t r = 0; !t->counting && r < n; r++) t->y[r] = round_number(t, t->early[r]);
  free(t->early);
  t->early = NULL;
  return DESCENT_OK;
}

/* The column is numeric: replaces indices by the numbers they stand for. */
static descent_status switch_to_numbers(struct targets *t) {
  if (t->rows >= offset_rows(1)) { /* else in settle_offset, with the first numbers */
    const descent_status status = settle_offset(t);
    if (status != DESCENT_OK) return status;
    for (int64_t r = 0; r < t->rows; r++) t->y[r] = round_number(t, t->distinct.values[(int64_t)t->y[r]].number);
  }
  t->counting = false;
  dictionary_clear(&t->distinct);
  return DESCENT_OK;
}

static descent_status add_distinct(struct targets *t, const char *text, size_t length, double number, int64_t line,
                                   int64_t *index, const char **problem) {
  descent_status status = dictionary_add(&t->distinct, number, text, length, line, index);
  if (status != DESCENT_OK) return status;
  if (isnan(number) && t->first_text < 0) t->first_text = *index;
  if (t->distinct.n > TARGETS_MAX_CLASSES) {
    *problem = t->first_text >= 0 ? "is the 65537th distinct value, but at most 65536 classes are supported (is the "
                                    "column an identifier or free text? choose another target)"
                                  : "is the 65537th distinct value, but at most 65536 classes are supported (choose "
                                    "task regression)";
    return DESCENT_ERROR_DATA;
  }
  return DESCENT_OK;
}

/* `text` NULL: the shortest text of the number. */
static descent_status add_value(struct targets *t, double number, const char *text, size_t length, int64_t line,
                                const char **problem) {
  char digits[NUMBER_DIGITS];
  int64_t index;
  descent_status status;
  TRY(reserve_row(t));
  if (t->counting && is_large(number)) {
    text = number_whole(text, length, t->style, number, digits);
    length = strlen(text);
  }
  if (t->early && t->rows < offset_rows(1)) t->early[t->rows] = number;
  if (t->counting) {
    if (t->expected)
      TRY(add_expected_class(t, text, length, number, &index, problem));
    else
      TRY(add_distinct(t, text, length, number, line, &index, problem));
    t->y[t->rows++] = (float)index;
    if (t->task == DESCENT_TASK_AUTO && t->first_text < 0 &&
        (number != trunc(number) || t->distinct.n > TARGETS_AUTO_CLASSES))
      TRY(switch_to_numbers(t));
  } else {
    t->y[t->rows] = t->early ? 0 : round_number(t, number);
    t->rows++;
  }
  if (!t->counting && t->rows == offset_rows(1)) TRY(settle_offset(t));
done:
  return status;
}

descent_status targets_add(struct targets *t, const char *text, size_t length, int64_t line, const char **problem) {
  double number;
  const bool numeric = number_parse_style(text, length, t->style, &number);
  *problem = cell_problem(t, text, length, numeric, number);
  if (*problem) return DESCENT_ERROR_DATA;
  return add_value(t, numeric ? number : (double)NAN, text, length, line, problem);
}

descent_status targets_add_number(struct targets *t, double number, int64_t line, const char **problem) {
  *problem = offset_fits(number, t->offset) ? NULL : "is not a finite 32-bit number (correct it, or remove the row)";
  return *problem ? DESCENT_ERROR_DATA : add_value(t, number, NULL, 0, line, problem);
}

/* ---- inference -------------------------------------------------------------------------------------------------- */

/* The name of a class that is a number: its digits, or the shortest text where it is exact and beyond 64 bits. */
static const char *class_number(const struct dictionary_value *value, char shortest[NUMBER_TEXT]) {
  char digits[NUMBER_DIGITS];
  if (!is_large(value->number)) return number_format(value->number, shortest);
  if (fabs(value->number) < 0x1p64) return value->text;
  number_whole(NULL, 0, NUMBER_PLAIN, value->number, digits);
  return strcmp(digits, value->text) == 0 ? number_format(value->number, shortest) : value->text;
}

/* Sorts the distinct values into classes and replaces their indices by class indices. */
static descent_status number_classes(struct targets *t, struct dataset_storage *storage) {
  const int64_t n = t->distinct.n;
  const bool texts = t->first_text >= 0;
  descent_status status = DESCENT_ERROR_MEMORY;
  int32_t *order = memory_allocate(2 * n, sizeof *order, "the classes"), *class_of = order ? order + n : NULL;
  char **names = memory_allocate(n, sizeof *names, "the class names");
  if (!order || !names) goto done;
  dictionary_sort(&t->distinct, texts, order);
  for (int32_t k = 0; k < n; k++) {
    const struct dictionary_value *value = &t->distinct.values[order[k]];
    char shortest[NUMBER_TEXT];
    names[k] = strdup(texts ? value->text : class_number(value, shortest));
    storage->schema.class_names = names; /* freed with the storage from here on */
    storage->schema.classes = storage->classes = k + 1;
    if (!names[k]) {
      status = status_set(DESCENT_ERROR_MEMORY, "out of memory for the target column");
      names = NULL;
      goto done;
    }
    class_of[order[k]] = k;
  }
  names = NULL;
  for (int64_t r = 0; r < t->rows; r++) t->y[r] = (float)class_of[(int64_t)t->y[r]];
  status = DESCENT_OK;
done:
  free(order);
  free(names);
  return status;
}

static descent_status copy_expected_classes(const struct expected_data *expected, struct dataset_storage *storage) {
  if (!is_classification(expected->task)) return DESCENT_OK;
  storage->classes = expected->classes;
  if (!expected->schema->class_names) return DESCENT_OK;
  storage->schema.class_names = memory_allocate(expected->classes, sizeof(char *), "the class names");
  if (!storage->schema.class_names) return DESCENT_ERROR_MEMORY;
  storage->schema.classes = expected->classes;
  for (int64_t k = 0; k < expected->classes; k++)
    if (!(storage->schema.class_names[k] = strdup(expected->schema->class_names[k])))
      return status_set(DESCENT_ERROR_MEMORY, "out of memory for the target column");
  return DESCENT_OK;
}

/* An error about distinct value `index`, at the line of its first appearance. */
static descent_status value_error(const struct targets *t, const char *path, const char *column, int64_t index,
                                  const char *problem) {
  char shown[64];
  text_escape(t->distinct.values[index].text, strlen(t->distinct.values[index].text), shown, sizeof shown);
  return status_set(DESCENT_ERROR_DATA, "%s:%" PRId64 ": %s: '%s' %s", path, t->distinct.values[index].line, column,
                    shown, problem);
}

/* Rejects text among numbers that would not be classes: it is a typing error rather than a class. */
static descent_status check_mixture(const struct targets *t, const char *path, const char *column) {
  int64_t numbers = 0;
  bool integers = true;
  for (int64_t i = 0; i < t->distinct.n; i++)
    if (!isnan(t->distinct.values[i].number)) {
      numbers++;
      integers = integers && t->distinct.values[i].number == trunc(t->distinct.values[i].number);
    }
  if (integers && numbers <= TARGETS_AUTO_CLASSES) return DESCENT_OK;
  return value_error(t, path, column, t->first_text,
                     "is not a number, but the target's other values are (correct it, or choose task classes)");
}

/* Integers are classes when they repeat: two distinct values, or two rows per value on average. */
static bool values_repeat(const struct targets *t) { return t->distinct.n <= 2 || t->distinct.n <= t->rows / 2; }

/* Refuses texts that are not names of classes: dates, and numbers written in another way. */
static descent_status check_texts(const struct targets *t, const char *path, const char *column) {
  int64_t texts = 0, dates = 0, numbers = 0, first_number = -1;
  const char *problem = NULL;
  for (int64_t i = 0; i < t->distinct.n; i++) {
    const struct dictionary_value *v = &t->distinct.values[i];
    const size_t length = strlen(v->text);
    texts += isnan(v->number);
    if (!isnan(v->number)) {
      numbers++;
      continue;
    }
    const char *separators = cell_separator_problem(t->style, v->text, length);
    const struct cell_decoration *decoration = separators ? NULL : cell_find_decoration(v->text, length);
    dates += !separators && cell_looks_like_date(v->text, length);
    if (!separators && !decoration) continue;
    numbers++;
    if (first_number >= 0) continue;
    first_number = i;
    problem = separators ? separators : decoration->target_problem;
  }
  const bool repeat = t->distinct.n <= TARGETS_AUTO_CLASSES && t->distinct.n <= t->rows / 10; /* names, such as 1.0.2 */
  if (repeat) return DESCENT_OK;
  if (dates == texts)
    return value_error(t, path, column, t->first_text,
                       "looks like a date or time, which is not a class (choose another target, or task classes)");
  if (first_number >= 0 && 10 * numbers >= 9 * t->distinct.n)
    return value_error(t, path, column, first_number, problem);
  return DESCENT_OK;
}

static descent_status infer_task(struct targets *t, const char *path, const char *column) {
  descent_status status = DESCENT_OK;
  if (t->counting && t->first_text < 0 && !values_repeat(t)) TRY(switch_to_numbers(t));
  if (!t->counting) {
    t->task = DESCENT_TASK_REGRESSION;
    return DESCENT_OK;
  }
  if (t->first_text >= 0) {
    if (t->of_text) TRY(check_texts(t, path, column));
    TRY(check_mixture(t, path, column));
    if (t->distinct.n >= TARGETS_FEW_TEXTS && t->distinct.n > t->rows / 2)
      TRY(status_set(DESCENT_ERROR_DATA,
                     "%s: %s: %" PRId64 " distinct texts in %" PRId64
                     " rows look like an identifier or free text (choose another target, or task classes)",
                     path, column, t->distinct.n, t->rows));
  }
  t->task = t->distinct.n == 2 ? DESCENT_TASK_BINARY : DESCENT_TASK_CLASSES;
done:
  return status;
}

static descent_status check_classes(const struct targets *t, const char *path, const char *column) {
  char first[64];
  if (!is_classification(t->task)) return DESCENT_OK;
  text_escape(t->distinct.values[0].text, strlen(t->distinct.values[0].text), first, sizeof first);
  if (t->distinct.n == 1)
    return status_set(DESCENT_ERROR_DATA,
                      "%s: %s: only one class, '%s' in all %" PRId64
                      " rows (choose another target, or add rows of another class)",
                      path, column, first, t->rows);
  for (int64_t i = 0; t->first_text < 0 && i < t->distinct.n; i++)
    if (t->distinct.values[i].number != trunc(t->distinct.values[i].number))
      return value_error(t, path, column, i,
                         "is neither an integer nor text, so it cannot be a class (choose task regression)");
  if (t->task == DESCENT_TASK_BINARY && t->distinct.n > 2)
    return value_error(t, path, column, 2, "is a third class, but task binary has two (choose task classes)");
  return DESCENT_OK;
}

descent_status targets_finish(struct targets *t, const char *path, const char *column,
                              struct dataset_storage *storage) {
  descent_status status = DESCENT_OK;
  if (t->task == DESCENT_TASK_AUTO) TRY(infer_task(t, path, column));
  if (is_classification(t->task) && t->merged_row)
    TRY(status_set(DESCENT_ERROR_DATA,
                   "%s:%" PRId64 ": %s: whole numbers beyond 2^53 are not told apart as classes in a file of numbers "
                   "(number the classes from 0, or use a CSV file)",
                   path, t->merged_row, column));
  if (t->expected) {
    TRY(copy_expected_classes(t->expected, storage));
  } else {
    TRY(check_classes(t, path, column));
    if (is_classification(t->task)) TRY(number_classes(t, storage));
  }
  if (!t->counting) TRY(settle_offset(t));
  float *y = realloc(t->y, (size_t)t->rows * sizeof *y); /* releases the slack */
  storage->owned_y = y ? y : t->y;
  storage->y = storage->owned_y;
  storage->targets = 1;
  storage->task = t->task;
  t->y = NULL;
  t->rows = t->capacity = 0; /* for the next block */
done:
  return status;
}

void targets_clear(struct targets *t) {
  dictionary_clear(&t->distinct);
  free(t->y);
  free(t->early);
  *t = (struct targets){0};
}
