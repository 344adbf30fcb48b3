/* Allocation that reports its failures, and checked size arithmetic. */
#ifndef DESCENT_CORE_MEMORY_H
#define DESCENT_CORE_MEMORY_H

#include <descent/descent.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* product = a * b; false when it overflows or either is negative. */
bool size_product(int64_t a, int64_t b, int64_t *product);

/* `count` zeroed elements of `size` bytes, 64-byte aligned; NULL with the error set ("cannot allocate 12.3 GB for X").
 * Freed by free(). A count of 0 allocates one element. */
void *memory_allocate(int64_t count, size_t size, const char *what);
/* realloc from `from` to `to` elements; new elements are not zeroed, and alignment is malloc's 16 bytes. On failure
 * NULL with the error set, and the block is unchanged. */
void *memory_resize(void *memory, int64_t from, int64_t to, size_t size, const char *what);
/* Whether `bytes` more leave a reserve of what the machine and the control groups have; always true up to 1 MB. For many
 * small blocks, which the kernel grants and then ends the process for. */
bool memory_fits(int64_t bytes);
/* ERROR_MEMORY, "<what> needs at least ...", where less is available. `root` as in system.h. */
descent_status memory_require(const char *root, int64_t bytes, const char *what);
/* Frees n texts, each from malloc or NULL, and their list, which may be NULL. */
void memory_free_texts(char **texts, int64_t n);

#endif
