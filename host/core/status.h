/* Status codes and this thread's last error. The error text is set once, where the failure is detected. */
#ifndef DESCENT_CORE_STATUS_H
#define DESCENT_CORE_STATUS_H

#include <descent/descent.h>

/* Sets this thread's error text, of at most 1023 bytes, and returns `status`. What is harmful to a terminal is escaped,
 * whatever file it comes from. Longer texts lose their middle. */
descent_status status_set(descent_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Clears this thread's error text, to find out whether a later call sets one. */
void status_clear(void);

/* "<path>: cannot read: <reason>" for an errno: ERROR_READ, or ERROR_MEMORY for ENOMEM. */
descent_status status_cannot_read(const char *path, int error);

/* Stores the result in the local `status` and jumps to `done` when it is a failure. */
#define TRY(expression)                  \
  do {                                   \
    status = (expression);               \
    if (status != DESCENT_OK) goto done; \
  } while (0)

#endif
