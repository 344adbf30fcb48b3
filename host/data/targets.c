/* Classes or numbers? Values are interned as they come; what the column is gets decided when all of it has been seen.
 */
#include "data/targets.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/number.h"
#include "core/status.h"

static uint64_t hash_bytes(const void *data, size_t length) { /* FNV-1a */
  const unsigned char *bytes = data;
  uint64_t hash = 14695981039346656037u;
  for (size_t i = 0; i < length; i++) hash = (hash ^ bytes[i]) * 1099511628211u;
  return hash;
}

static bool same_value(const struct target_value *value, double number, const char *text, size_t length) {
  if (!isnan(number)) return value->number == number;
  return isnan(value->number) && strlen(value->text) == length && memcmp(value->text, text, length) == 0;
}

static uint64_t hash_value(double number, const char *text, size_t length) {
  if (number == 0) number = 0; /* -0 and 0 are one value */
  return isnan(number) ? hash_bytes(text, length) : hash_bytes(&number, sizeof number);
}

static bool rehash(struct targets *t) {
  int64_t size = t->table_size ? t->table_size * 2 : 256;
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

/* The shortest decimal text that reads back as the same number. */
static char *number_name(double number) {
  char text[40];
  for (int digits = 1; digits <= 17; digits++) {
    double back;
    snprintf(text, sizeof text, "%.*g", digits, number == 0 ? 0.0 : number);
    for (char *p = text; *p; p++)
      if (*p == ',') *p = '.'; /* whatever the locale says */
    if (number_parse(text, strlen(text), &back) && back == number) break;
  }
  /* Plain integers rather than 1e+02. */
  if (number == trunc(number) && fabs(number) < 1e15) snprintf(text, sizeof text, "%lld", (long long)number);
  return strdup(text);
}

/* The id of a value, added if new; -1 when memory ran out. */
static int32_t intern(struct targets *t, double number, const char *text, size_t length) {
  if (t->table_size < 2 * (t->n_values + 1) && !rehash(t)) return -1;
  uint64_t slot = hash_value(number, text, length) & (uint64_t)(t->table_size - 1);
  for (; t->table[slot]; slot = (slot + 1) & (uint64_t)(t->table_size - 1))
    if (same_value(&t->values[t->table[slot] - 1], number, text, length)) return t->table[slot] - 1;
  if (t->n_values == t->values_capacity) {
    int64_t capacity = t->values_capacity ? t->values_capacity * 2 : 64;
    struct target_value *values = realloc(t->values, (size_t)capacity * sizeof *values);
    if (!values) return -1;
    t->values = values;
    t->values_capacity = capacity;
  }
  char *name = isnan(number) ? strndup(text, length) : number_name(number);
  if (!name) return -1;
  t->values[t->n_values] = (struct target_value){.text = name, .number = number};
  t->table[slot] = (int32_t)++t->n_values;
  return (int32_t)t->n_values - 1;
}

static bool out_of_memory(void) {
  status_set(DESCENT_ERROR_MEMORY, "out of memory for the target column");
  return false;
}

static bool reserve_row(struct targets *t) {
  if (t->rows < t->capacity) return true;
  int64_t capacity = t->capacity ? t->capacity * 2 : 1024;
  float *numbers = realloc(t->numbers, (size_t)capacity * sizeof *numbers);
  if (numbers) t->numbers = numbers;
  int32_t *ids = realloc(t->ids, (size_t)capacity * sizeof *ids);
  if (ids) t->ids = ids;
  if (!numbers || !ids) return out_of_memory();
  t->capacity = capacity;
  return true;
}

static bool classes_wanted(descent_task task) { return task == DESCENT_TASK_BINARY || task == DESCENT_TASK_CLASSES; }

/* The class index that the schema gives this value, or -1. */
static int32_t schema_class(struct targets *t, double number, const char *text, size_t length) {
  const struct dataset_schema *s = t->schema;
  if (!s->class_names)
    return !isnan(number) && number >= 0 && number < (double)s->classes && number == trunc(number) ? (int32_t)number
                                                                                                   : -1;
  if (!t->n_values) /* first row: intern the schema's names so that ids are class indices */
    for (int64_t k = 0; k < s->classes; k++) {
      double named;
      size_t n = strlen(s->class_names[k]);
      if (!number_parse(s->class_names[k], n, &named) || !isfinite(named)) named = (double)NAN;
      if (intern(t, named, s->class_names[k], n) < 0) return -2;
    }
  int32_t id = intern(t, number, text, length);
  return id < 0 ? -2 : id < s->classes ? id : -1;
}

bool targets_add(struct targets *t, const char *text, size_t length, const char **problem) {
  double number;
  bool numeric = number_parse(text, length, &number);
  *problem = NULL;
  if (length == 0)
    *problem = "is empty: every row needs a target";
  else if (numeric && !isfinite(number))
    *problem = "is not finite: every row needs a target";
  else if (!numeric && t->task == DESCENT_TASK_REGRESSION)
    *problem = "is not a number, which regression needs";
  else if (!numeric && t->task == DESCENT_TASK_AUTO && !t->any_text && (t->many || t->n_values > TARGETS_AUTO_CLASSES))
    *problem = "is not a number, unlike the rows before";
  else if (numeric && fabs(number) > (double)3.4028234e38f)
    *problem = "is beyond the range of a 32-bit number";
  if (*problem || !reserve_row(t)) return false;
  if (!numeric) {
    number = (double)NAN;
    t->any_text = true;
  }
  int32_t id = 0;
  if (t->schema && classes_wanted(t->task)) {
    id = schema_class(t, number, text, length);
    if (id == -1) *problem = "is not one of the network's classes";
    if (id < 0) return *problem ? false : out_of_memory();
  } else if (t->task != DESCENT_TASK_REGRESSION && !t->many) {
    if ((id = intern(t, number, text, length)) < 0) return out_of_memory();
    if (t->n_values > TARGETS_MOST_CLASSES) {
      if (t->any_text || classes_wanted(t->task)) {
        *problem =
            "is the 65537th distinct value: more classes than a target may have (is it an identifier or free text?)";
        return false;
      }
      t->many = true;
    }
  }
  t->integers = (t->rows == 0 || t->integers) && numeric && number == trunc(number);
  t->numbers[t->rows] = (float)number;
  t->ids[t->rows++] = id;
  return true;
}

static int by_number(const void *a, const void *b, void *values) {
  const struct target_value *v = values;
  double x = v[*(const int32_t *)a].number, y = v[*(const int32_t *)b].number;
  return (x > y) - (x < y);
}

static int by_text(const void *a, const void *b, void *values) {
  const struct target_value *v = values;
  return strcmp(v[*(const int32_t *)a].text, v[*(const int32_t *)b].text);
}

/* Sorts the distinct values into classes and turns ids into class indices. */
static descent_status number_classes(struct targets *t, struct dataset_storage *storage) {
  int64_t n = t->n_values;
  int32_t *order = memory_allocate(n, sizeof *order, "the classes");
  int32_t *class_of = memory_allocate(n, sizeof *class_of, "the classes");
  char **names = memory_allocate(n, sizeof *names, "the class names");
  if (!order || !class_of || !names) {
    free(order);
    free(class_of);
    free(names);
    return DESCENT_ERROR_MEMORY;
  }
  for (int32_t i = 0; i < n; i++) order[i] = i;
  qsort_r(order, (size_t)n, sizeof *order, t->any_text ? by_text : by_number, t->values);
  for (int32_t k = 0; k < n; k++) {
    class_of[order[k]] = k;
    names[k] = t->values[order[k]].text;
    t->values[order[k]].text = NULL; /* the name has moved */
  }
  for (int64_t r = 0; r < t->rows; r++) t->numbers[r] = (float)class_of[t->ids[r]];
  storage->class_names = names;
  storage->classes = n;
  t->n_values = 0;
  free(order);
  free(class_of);
  return DESCENT_OK;
}

static descent_status take_schema(struct targets *t, const struct dataset_schema *schema,
                                  struct dataset_storage *storage) {
  storage->task = schema->task;
  if (!classes_wanted(schema->task)) return DESCENT_OK;
  for (int64_t r = 0; r < t->rows; r++) t->numbers[r] = (float)t->ids[r];
  storage->classes = schema->classes;
  if (!schema->class_names) return DESCENT_OK;
  storage->class_names = memory_allocate(schema->classes, sizeof(char *), "the class names");
  if (!storage->class_names) return DESCENT_ERROR_MEMORY;
  for (int64_t k = 0; k < schema->classes; k++)
    if (!(storage->class_names[k] = strdup(schema->class_names[k])))
      return status_set(DESCENT_ERROR_MEMORY, "out of memory for the class names");
  return DESCENT_OK;
}

descent_status targets_finish(struct targets *t, const char *path, const char *column, descent_task task,
                              const struct dataset_schema *schema, struct dataset_storage *storage) {
  descent_status status = DESCENT_OK;
  if (schema) {
    status = take_schema(t, schema, storage);
  } else {
    if (task == DESCENT_TASK_AUTO) {
      bool few = !t->many && t->integers && t->n_values <= TARGETS_AUTO_CLASSES;
      task = !t->any_text && !few ? DESCENT_TASK_REGRESSION
             : t->n_values == 2   ? DESCENT_TASK_BINARY
                                  : DESCENT_TASK_CLASSES;
      if (t->any_text && t->n_values > 1000 && t->n_values > t->rows / 2)
        return status_set(DESCENT_ERROR_DATA,
                          "%s: %s: %lld distinct texts in %lld rows: an identifier or free text, not classes", path,
                          column, (long long)t->n_values, (long long)t->rows);
    }
    if (task == DESCENT_TASK_BINARY && t->n_values != 2)
      return status_set(DESCENT_ERROR_DATA, "%s: %s: %lld distinct values (first: '%s'): a binary target has 2", path,
                        column, (long long)t->n_values, t->values[0].text);
    if (task == DESCENT_TASK_CLASSES && t->n_values < 2)
      return status_set(DESCENT_ERROR_DATA, "%s: %s: one class only, '%s', in all %lld rows: nothing to learn", path,
                        column, t->values[0].text, (long long)t->rows);
    storage->task = task;
    if (task != DESCENT_TASK_REGRESSION) status = number_classes(t, storage);
  }
  if (status != DESCENT_OK) return status;
  storage->targets = 1;
  storage->owned_y = t->numbers;
  storage->y = t->numbers;
  t->numbers = NULL;
  return DESCENT_OK;
}

void targets_clear(struct targets *t) {
  for (int64_t i = 0; i < t->n_values; i++) free(t->values[i].text);
  free(t->values);
  free(t->table);
  free(t->numbers);
  free(t->ids);
  *t = (struct targets){0};
}
