/* The distinct values of a column, numbered in order of appearance. Numbers are equal by value, however they are
 * written; texts by their bytes. */
#ifndef DESCENT_DATA_DICTIONARY_H
#define DESCENT_DATA_DICTIONARY_H

#include <descent/descent.h>

struct dictionary_value {
  char *text;    /* as first seen */
  double number; /* NaN for text */
  int64_t line;  /* of its first appearance */
};

struct dictionary {
  struct dictionary_value *values; /* (n) */
  int64_t n, capacity;
  int32_t *table; /* hash to value + 1; 0: free */
  int64_t table_size;
};

/* The index of the value of text[0 .. length), whose number is `number` (NaN: it is a text); -1 when it is not there.
 */
int64_t dictionary_find(const struct dictionary *dictionary, double number, const char *text, size_t length);
/* The same, added when it is new. `text` NULL: the number's shortest. ERROR_MEMORY. */
descent_status dictionary_add(struct dictionary *dictionary, double number, const char *text, size_t length,
                              int64_t line, int64_t *index);
/* order[k] = the index of the k-th value in ascending order: texts by bytes, numbers by value; (n) filled. */
void dictionary_sort(const struct dictionary *dictionary, bool texts, int32_t *order);
void dictionary_clear(struct dictionary *dictionary);

#endif
