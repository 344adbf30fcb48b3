/* What a backend of the host refuses to bind, read or write. */
#ifndef DESCENT_BACKEND_CHECK_H
#define DESCENT_BACKEND_CHECK_H

#include "backend/plan.h"

/* bind: the buffer is a source; data come with at least one row. */
descent_status plan_check_bind(const struct plan *plan, int buffer, const void *data, int64_t rows);

/* read and write: elements offset .. offset + count - 1 lie in a buffer that is no source, and convert to `type`. */
descent_status plan_check_copy(const struct plan *plan, int buffer, int64_t offset, int64_t count, enum plan_type type);

#endif
