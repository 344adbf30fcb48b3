/* The checks of buffers that the backends of the host share. */
#include "backend/check.h"

#include <inttypes.h>

#include "core/status.h"

descent_status plan_check_bind(const struct plan *plan, int buffer, const void *data, int64_t rows) {
  if (buffer >= 0 && buffer < plan->n_buffers && plan->buffers[buffer].storage == PLAN_SOURCE && (!data || rows >= 1))
    return DESCENT_OK;
  return status_set(DESCENT_ERROR_ARGUMENT, "bind: buffer %d with %" PRId64 " rows is not a source", buffer, rows);
}

descent_status plan_check_copy(const struct plan *plan, int buffer, int64_t offset, int64_t count,
                               enum plan_type type) {
  if (buffer < 0 || buffer >= plan->n_buffers || plan->buffers[buffer].storage == PLAN_SOURCE)
    return status_set(DESCENT_ERROR_ARGUMENT, "buffer %d cannot be read or written", buffer);
  const struct plan_buffer *b = &plan->buffers[buffer];
  const int64_t size = b->rows * b->cols;
  if (offset < 0 || count < 0 || offset > size || count > size - offset)
    return status_set(DESCENT_ERROR_ARGUMENT, "buffer %s: %" PRId64 " elements from %" PRId64 ", but it has %" PRId64,
                      b->name, count, offset, size);
  if ((b->type == PLAN_I64) != (type == PLAN_I64))
    return status_set(DESCENT_ERROR_ARGUMENT, "buffer %s: integers convert to no other type", b->name);
  return DESCENT_OK;
}
