/* Distinct values with an open-addressing hash table of their indices. */
#include "data/dictionary.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/number.h"
#include "core/status.h"
#include "data/text.h"

static bool same_value(const struct dictionary_value *value, double number, const char *text, size_t length) {
  if (!isnan(number) && fabs(number) < 0x1p53) return value->number == number;
  return (isnan(number) ? isnan(value->number) : value->number == number) && strlen(value->text) == length &&
         memcmp(value->text, text, length) == 0;
}

static uint64_t hash_value(double number, const char *text, size_t length) {
  if (number == 0) number = fabs(number); /* -0 and 0 are one value */
  return isnan(number) || fabs(number) >= 0x1p53 ? text_hash(text, length) : text_hash(&number, sizeof number);
}

static bool rehash(struct dictionary *d) {
  const int64_t size = d->table_size ? d->table_size * 2 : 64;
  int32_t *table = calloc((size_t)size, sizeof *table);
  if (!table) return false;
  for (int64_t i = 0; i < d->n; i++) {
    const struct dictionary_value *v = &d->values[i];
    uint64_t slot = hash_value(v->number, v->text, strlen(v->text)) & (uint64_t)(size - 1);
    while (table[slot]) slot = (slot + 1) & (uint64_t)(size - 1);
    table[slot] = (int32_t)i + 1;
  }
  free(d->table);
  d->table = table;
  d->table_size = size;
  return true;
}

/* The index of a value, or -1 - slot, the free slot for it. */
static int64_t locate(const struct dictionary *d, double number, const char *text, size_t length) {
  uint64_t slot = hash_value(number, text, length) & (uint64_t)(d->table_size - 1);
  for (; d->table[slot]; slot = (slot + 1) & (uint64_t)(d->table_size - 1))
    if (same_value(&d->values[d->table[slot] - 1], number, text, length)) return d->table[slot] - 1;
  return -1 - (int64_t)slot;
}

int64_t dictionary_find(const struct dictionary *d, double number, const char *text, size_t length) {
  const int64_t index = d->n ? locate(d, number, text, length) : -1;
  return index < 0 ? -1 : index;
}

static bool reserve(struct dictionary *d) {
  if (d->table_size < 2 * (d->n + 1) && !rehash(d)) return false;
  if (d->n < d->capacity) return true;
  const int64_t capacity = d->capacity ? d->capacity * 2 : 16;
  struct dictionary_value *values = realloc(d->values, (size_t)capacity * sizeof *values);
  if (!values) return false;
  d->values = values;
  d->capacity = capacity;
  return true;
}

descent_status dictionary_add(struct dictionary *d, double number, const char *text, size_t length, int64_t line,
                              int64_t *index) {
  if (!reserve(d)) return status_set(DESCENT_ERROR_MEMORY, "out of memory for the distinct values of a column");
  const int64_t found = locate(d, number, text, length);
  *index = found;
  if (found >= 0) return DESCENT_OK;
  char shortest[NUMBER_TEXT];
  char *copy = text ? strndup(text, length) : strdup(number_format(number, shortest));
  if (!copy) return status_set(DESCENT_ERROR_MEMORY, "out of memory for the distinct values of a column");
  d->values[d->n] = (struct dictionary_value){.text = copy, .number = number, .line = line};
  *index = d->n++;
  d->table[-1 - found] = (int32_t)d->n;
  return DESCENT_OK;
}

static int by_number(const void *a, const void *b, void *values) {
  const struct dictionary_value *v = values;
  const double x = v[*(const int32_t *)a].number, y = v[*(const int32_t *)b].number;
  if (x != y || fabs(x) < 0x1p53) return (x > y) - (x < y);
  const char *a_digits = v[*(const int32_t *)a].text, *b_digits = v[*(const int32_t *)b].text;
  const size_t a_length = strlen(a_digits), b_length = strlen(b_digits);
  const int larger = a_length != b_length ? (a_length > b_length) - (a_length < b_length) : strcmp(a_digits, b_digits);
  return x < 0 ? -larger : larger;
}

static int by_text(const void *a, const void *b, void *values) {
  const struct dictionary_value *v = values;
  return strcmp(v[*(const int32_t *)a].text, v[*(const int32_t *)b].text);
}

void dictionary_sort(const struct dictionary *d, bool texts, int32_t *order) {
  for (int32_t i = 0; i < d->n; i++) order[i] = i;
  qsort_r(order, (size_t)d->n, sizeof *order, texts ? by_text : by_number, d->values);
}

void dictionary_clear(struct dictionary *d) {
  for (int64_t i = 0; i < d->n; i++) free(d->values[i].text);
  free(d->values);
  free(d->table);
  *d = (struct dictionary){0};
}
