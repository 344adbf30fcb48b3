/* The distinct values of a column, numbered in order of appearance. Numbers compare by value, texts by bytes; numbers
 * from 2^53 on, several of which may be one double, by value and by their digits, which must be given. */
#ifndef DESCENT_DATA_DICTIONARY_H
#define DESCENT_DATA_DICTIONARY_H

#include <descent/descent.h>

struct dictionary_value {
  char *text;    /* as first seen */
  double number; /* NaN for a text */
  int64_t line;  /* of its first appearance */
};

struct dictionary {
  struct dictionary_value *values; /* (n) */
  int64_t n, capacity;
  int32_t *table; /* hash table of index + 1; 0: free */
  int64_t table_size;
};

/* The index of the value text[0 .. length), whose number is `number` (NaN for a text); -1 when absent. */
int64_t dictionary_find(const struct dictionary *dictionary, double number, const char *text, size_t length);
/* The same, adding a new value. `text` NULL: the shortest text of the number. ERROR_MEMORY. */
descent_status dictionary_add(struct dictionary *dictionary, double number, const char *text, size_t length,
                              int64_t line, int64_t *index);
/* order (n): order[k] = index of the k-th value in ascending order, by bytes if `texts`, else by number. */
void dictionary_sort(const struct dictionary *dictionary, bool texts, int32_t *order);
void dictionary_clear(struct dictionary *dictionary);

#endif
