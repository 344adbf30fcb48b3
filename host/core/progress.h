/* What a long call reports to the calling thread's handler, and how that handler cancels it. */
#ifndef DESCENT_CORE_PROGRESS_H
#define DESCENT_CORE_PROGRESS_H

#include <descent/descent.h>

/* Reports `done` of `total` (0: unknown) to the handler of this thread if the last report is long enough ago. It costs a
 * clock with a handler, and nothing without. `verb`: "reading"; `path` may be NULL. ERROR_CANCELLED if the handler
 * cancels the call. */
descent_status progress_report(const char *verb, const char *path, const char *unit, int64_t done, int64_t total);

#endif
