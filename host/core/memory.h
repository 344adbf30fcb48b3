/* Allocation that reports what could not be had, and the arithmetic of sizes. */
#ifndef DESCENT_CORE_MEMORY_H
#define DESCENT_CORE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* product = a * b; false when it overflows or either is negative. */
bool size_product(int64_t a, int64_t b, int64_t *product);

/* calloc of count elements of `size` bytes, 64-byte aligned; NULL with the error set ("cannot allocate 12.3 GB for X").
 * Freed by free(). A count of 0 gives one element. */
void *memory_allocate(int64_t count, size_t size, const char *what);
/* realloc of a block of `from` elements to `to` of them, which is not zeroed and not aligned beyond malloc's 16 bytes.
 * NULL with the error set, and the block left as it was, under the same conditions. */
void *memory_resize(void *memory, int64_t from, int64_t to, size_t size, const char *what);
/* Frees a list of n texts and the texts, each from malloc or NULL; `texts` NULL is fine. */
void memory_free_texts(char **texts, int64_t n);

#endif
