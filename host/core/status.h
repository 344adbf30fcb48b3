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

#endif
