/* Status codes and this thread's last error. Every failing function sets the text where it knows most, once. */
#ifndef DESCENT_CORE_STATUS_H
#define DESCENT_CORE_STATUS_H

#include <descent/descent.h>

/* Sets this thread's error text (truncated to 1023 bytes) and returns `status`: `return status_set(DESCENT_...,
 * "...")`. */
descent_status status_set(descent_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* "<path>: cannot read: <reason>" for an errno: ERROR_READ, or ERROR_MEMORY where that was the reason. */
descent_status status_cannot_read(const char *path, int error);

/* Evaluates to the failure and leaves the function through its `done` label; `status` is the local that holds it. */
#define TRY(expression)                  \
  do {                                   \
    status = (expression);               \
    if (status != DESCENT_OK) goto done; \
  } while (0)

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
