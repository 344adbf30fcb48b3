/* Classes or numbers? Distinct values are interned as they come, until the column turns out to hold numbers; what the
 * classes are gets decided when all of it has been seen. */
#include "data/targets.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/number.h"
#include "core/status.h"
#include "core/utf8.h"
#include "data/text.h"

static bool classes_wanted(descent_task task) { return task == DESCENT_TASK_BINARY || task == DESCENT_TASK_CLASSES; }

/* ---- distinct values -------------------------------------------------------------------------------------------- */

/* Numbers are equal by value, however they are written; texts by their bytes. */
static bool same_value(const struct target_value *value, double number, const char *text, size_t length) {
  if (!isnan(number)) return value->number == number;
  return isnan(value->number) && strlen(value->text) == length && memcmp(value->text, text, length) == 0;
}

static uint64_t hash_value(double number, const char *text, size_t length) {
  if (number == 0) number = 0; /* -0 and 0 are one value */
  return isnan(number) ? text_hash(text, length) : text_hash(&number, sizeof number);
}

static bool rehash(struct targets *t) {
  const int64_t size = t->table_size ? t->table_size * 2 : 256;
  int32_t *table = calloc((size_t)size, sizeof *table);
  if (!table) return false;
  for (int64_t i = 0; i < t->n_values; i++) {
    const struct target_value *v = &t->values[i];
    uint64_t slot = hash_value(v->number, v->text, strlen(v->text)) & (uint64_t)(size - 1);
    while (table[slot]) slot = (slot + 1) & (uint64_t)(size - 1);
    table[slot] = (int32_t)i + 1;
  }
  free(t->table);
  t->table = table;
  t->table_size = size;
  return true;
}

/* The index of a value, or -1 - the free slot of the table where it belongs. */
static int64_t find(const struct targets *t, double number, const char *text, size_t length) {
  uint64_t slot = hash_value(number, text, length) & (uint64_t)(t->table_size - 1);
  for (; t->table[slot]; slot = (slot + 1) & (uint64_t)(t->table_size - 1))
    if (same_value(&t->values[t->table[slot] - 1], number, text, length)) return t->table[slot] - 1;
  return -1 - (int64_t)slot;
}

static descent_status memory_error(void) {
  return status_set(DESCENT_ERROR_MEMORY, "out of memory for the target column");
}

/* The index of a value, added when it is new. */
static descent_status intern(struct targets *t, double number, const char *text, size_t length, int64_t line,
                             int64_t *index) {
  if (t->table_size < 2 * (t->n_values + 1) && !rehash(t)) return memory_error();
  *index = find(t, number, text, length);
  if (*index >= 0) return DESCENT_OK;
  const int64_t slot = -1 - *index;
  if (t->n_values == t->values_capacity) {
    const int64_t capacity = t->values_capacity ? t->values_capacity * 2 : 64;
    struct target_value *values = realloc(t->values, (size_t)capacity * sizeof *values);
    if (!values) return memory_error();
    t->values = values;
    t->values_capacity = capacity;
  }
  char *copy = strndup(text, length);
  if (!copy) return memory_error();
  t->values[t->n_values] = (struct target_value){.text = copy, .number = number, .line = line};
  *index = t->n_values++;
  t->table[slot] = (int32_t)t->n_values;
  return DESCENT_OK;
}

static void forget_values(struct targets *t) {
  for (int64_t i = 0; i < t->n_values; i++) free(t->values[i].text);
  free(t->values);
  free(t->table);
  t->values = NULL;
  t->table = NULL;
  t->n_values = t->values_capacity = t->table_size = 0;
}

/* ---- adding ----------------------------------------------------------------------------------------------------- */

/* The network's classes come first, so that an index into the values is a class. */
static descent_status intern_expected(struct targets *t) {
  descent_status status = DESCENT_OK;
  for (int64_t k = 0; k < t->expected->classes; k++) {
    const char *name = t->expected->schema->class_names[k];
    double number;
    int64_t index;
    if (!number_parse(name, strlen(name), &number) || !isfinite(number)) number = (double)NAN;
    TRY(intern(t, number, name, strlen(name), 0, &index));
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

descent_status targets_begin(struct targets *t, descent_task task, const struct expected *expected) {
  *t = (struct targets){.task = expected ? expected->task : task, .expected = expected, .first_text = -1};
  t->counting = t->task != DESCENT_TASK_REGRESSION;
  return expected && expected->schema->class_names && classes_wanted(t->task) ? intern_expected(t) : DESCENT_OK;
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

/* What makes a cell no target whatever the other rows hold; NULL when nothing does. */
static const char *cell_problem(const struct targets *t, const char *text, size_t length, bool numeric, double number) {
  size_t bad;
  if (length == 0) return "is empty (fill in the target, or remove the row)";
  if (numeric && isnan(number)) return "is not a value (fill in the target, or remove the row)";
  if (numeric && !text_number_fits(number)) return "is not a finite 32-bit number (correct it, or remove the row)";
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
    *index = find(t, number, text, length);
  else
    *index =
        !isnan(number) && number >= 0 && number < (double)classes && number == trunc(number) ? (int64_t)number : -1;
  if (*index >= 0) return DESCENT_OK;
  *problem = t->expected->schema->class_names ? "is not one of the network's classes"
                                              : "is not a class of the network, which are numbered from 0";
  return DESCENT_ERROR_DATA;
}

/* The column holds numbers: what was counted becomes what it stood for. */
static void stop_counting(struct targets *t) {
  for (int64_t r = 0; r < t->rows; r++) t->y[r] = (float)t->values[(int64_t)t->y[r]].number;
  t->counting = false;
  forget_values(t);
}

static descent_status add_distinct(struct targets *t, const char *text, size_t length, double number, int64_t line,
                                   int64_t *index, const char **problem) {
  descent_status status = intern(t, number, text, length, line, index);
  if (status != DESCENT_OK) return status;
  if (isnan(number) && t->first_text < 0) t->first_text = *index;
  if (t->n_values > TARGETS_MOST_CLASSES) {
    *problem = t->first_text >= 0 ? "is the 65537th distinct value: more than there may be classes (is the column an "
                                    "identifier or free text? choose another target)"
                                  : "is the 65537th distinct value: more than there may be classes (choose task "
                                    "regression)";
    return DESCENT_ERROR_DATA;
  }
  return DESCENT_OK;
}

descent_status targets_add(struct targets *t, const char *text, size_t length, int64_t line, const char **problem) {
  double number;
  int64_t index;
  descent_status status = DESCENT_OK;
  const bool numeric = number_parse(text, length, &number);
  *problem = cell_problem(t, text, length, numeric, number);
  if (*problem) return DESCENT_ERROR_DATA;
  if (!numeric) number = (double)NAN;
  TRY(reserve_row(t));
  if (t->counting) {
    if (t->expected)
      TRY(add_expected_class(t, text, length, number, &index, problem));
    else
      TRY(add_distinct(t, text, length, number, line, &index, problem));
    t->y[t->rows++] = (float)index;
    if (t->task == DESCENT_TASK_AUTO && t->first_text < 0 &&
        (number != trunc(number) || t->n_values > TARGETS_AUTO_CLASSES))
      stop_counting(t);
  } else {
    t->y[t->rows++] = (float)number;
  }
done:
  return status;
}

/* ---- deciding --------------------------------------------------------------------------------------------------- */

/* The shortest decimal text that reads back as the same number; plain digits for integers. */
static char *number_name(double number) {
  char text[40];
  if (number == trunc(number) && fabs(number) < 1e15) {
    snprintf(text, sizeof text, "%" PRId64, (int64_t)number);
    return strdup(text);
  }
  for (int digits = 1; digits <= 17; digits++) {
    double back;
    snprintf(text, sizeof text, "%.*g", digits, number);
    for (char *p = text; *p; p++)
      if (*p == ',') *p = '.'; /* whatever the locale says */
    if (number_parse(text, strlen(text), &back) && back == number) break;
  }
  return strdup(text);
}

static int by_number(const void *a, const void *b, void *values) {
  const struct target_value *v = values;
  const double x = v[*(const int32_t *)a].number, y = v[*(const int32_t *)b].number;
  return (x > y) - (x < y);
}

static int by_text(const void *a, const void *b, void *values) {
  const struct target_value *v = values;
  return strcmp(v[*(const int32_t *)a].text, v[*(const int32_t *)b].text);
}

/* Sorts the distinct values into classes and turns their indices into those of the classes. */
static descent_status number_classes(struct targets *t, struct dataset_storage *storage) {
  const int64_t n = t->n_values;
  const bool texts = t->first_text >= 0;
  descent_status status = DESCENT_ERROR_MEMORY;
  int32_t *order = memory_allocate(2 * n, sizeof *order, "the classes"), *class_of = order ? order + n : NULL;
  char **names = memory_allocate(n, sizeof *names, "the class names");
  if (!order || !names) goto done;
  for (int32_t i = 0; i < n; i++) order[i] = i;
  qsort_r(order, (size_t)n, sizeof *order, texts ? by_text : by_number, t->values);
  for (int32_t k = 0; k < n; k++) {
    const struct target_value *value = &t->values[order[k]];
    names[k] = texts ? strdup(value->text) : number_name(value->number);
    storage->schema.class_names = names; /* freed with the storage from here on */
    storage->schema.classes = storage->classes = k + 1;
    if (!names[k]) {
      status = memory_error();
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

static descent_status take_expected(const struct expected *expected, struct dataset_storage *storage) {
  if (!classes_wanted(expected->task)) return DESCENT_OK;
  storage->classes = expected->classes;
  if (!expected->schema->class_names) return DESCENT_OK;
  storage->schema.class_names = memory_allocate(expected->classes, sizeof(char *), "the class names");
  if (!storage->schema.class_names) return DESCENT_ERROR_MEMORY;
  storage->schema.classes = expected->classes;
  for (int64_t k = 0; k < expected->classes; k++)
    if (!(storage->schema.class_names[k] = strdup(expected->schema->class_names[k]))) return memory_error();
  return DESCENT_OK;
}

/* An error about value `index`, at its first line. */
static descent_status value_error(const struct targets *t, const char *path, const char *column, int64_t index,
                                  const char *problem) {
  char shown[64];
  text_escape(t->values[index].text, strlen(t->values[index].text), shown, sizeof shown);
  return status_set(DESCENT_ERROR_DATA, "%s:%" PRId64 ": %s: '%s' %s", path, t->values[index].line, column, shown,
                    problem);
}

/* Texts among numbers that alone would be no classes: a slip rather than a class. */
static descent_status check_mixture(const struct targets *t, const char *path, const char *column) {
  int64_t numbers = 0;
  bool integers = true;
  for (int64_t i = 0; i < t->n_values; i++)
    if (!isnan(t->values[i].number)) {
      numbers++;
      integers = integers && t->values[i].number == trunc(t->values[i].number);
    }
  if (integers && numbers <= TARGETS_AUTO_CLASSES) return DESCENT_OK;
  return value_error(t, path, column, t->first_text,
                     "is not a number, but the target's other values are (correct it, or choose task classes)");
}

/* Whole numbers are classes when they repeat: two values, or each in two rows on average. */
static bool repeats(const struct targets *t) { return t->n_values <= 2 || t->n_values <= t->rows / 2; }

static descent_status infer_task(struct targets *t, const char *path, const char *column) {
  descent_status status = DESCENT_OK;
  if (t->counting && t->first_text < 0 && !repeats(t)) stop_counting(t);
  if (!t->counting) {
    t->task = DESCENT_TASK_REGRESSION;
    return DESCENT_OK;
  }
  if (t->first_text >= 0) {
    TRY(check_mixture(t, path, column));
    if (t->n_values > TARGETS_MANY_TEXTS && t->n_values > t->rows / 2)
      TRY(status_set(DESCENT_ERROR_DATA,
                     "%s: %s: %" PRId64 " distinct texts in %" PRId64
                     " rows look like an identifier or free text (choose another target, or task classes)",
                     path, column, t->n_values, t->rows));
  }
  t->task = t->n_values == 2 ? DESCENT_TASK_BINARY : DESCENT_TASK_CLASSES;
done:
  return status;
}

static descent_status check_classes(const struct targets *t, const char *path, const char *column) {
  char first[64];
  if (!classes_wanted(t->task)) return DESCENT_OK;
  text_escape(t->values[0].text, strlen(t->values[0].text), first, sizeof first);
  if (t->n_values == 1)
    return status_set(DESCENT_ERROR_DATA,
                      "%s: %s: one class only, '%s' in all %" PRId64
                      " rows: nothing to tell apart (choose another "
                      "target, or add rows of another class)",
                      path, column, first, t->rows);
  for (int64_t i = 0; t->first_text < 0 && i < t->n_values; i++)
    if (t->values[i].number != trunc(t->values[i].number))
      return value_error(t, path, column, i, "is neither an integer nor text, so no class (choose task regression)");
  if (t->task == DESCENT_TASK_BINARY && t->n_values > 2)
    return value_error(t, path, column, 2, "is a third class, but task binary has two (choose task classes)");
  return DESCENT_OK;
}

descent_status targets_finish(struct targets *t, const char *path, const char *column,
                              struct dataset_storage *storage) {
  descent_status status = DESCENT_OK;
  if (t->expected) {
    TRY(take_expected(t->expected, storage));
  } else {
    if (t->task == DESCENT_TASK_AUTO) TRY(infer_task(t, path, column));
    TRY(check_classes(t, path, column));
    if (classes_wanted(t->task)) TRY(number_classes(t, storage));
  }
  float *y = realloc(t->y, (size_t)t->rows * sizeof *y); /* gives the slack back */
  storage->owned_y = y ? y : t->y;
  storage->y = storage->owned_y;
  storage->targets = 1;
  storage->task = t->task;
  t->y = NULL;
done:
  return status;
}

void targets_clear(struct targets *t) {
  forget_values(t);
  free(t->y);
  *t = (struct targets){0};
}
