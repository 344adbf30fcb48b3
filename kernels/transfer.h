/* Values between the host's memory and the plan's buffers, and copies of buffers on the device. */
#ifndef DESCENT_KERNELS_TRANSFER_H
#define DESCENT_KERNELS_TRANSFER_H

#include "module.h"

struct transfer {
  char *pinned[2]; /* of TRANSFER_BYTES, used in turn. NULL: not allocated yet */
  cudaEvent_t copied[2];
  void **saved; /* (n_buffers) copies on the device; NULL: none */
};

descent_status transfer_prepare(struct transfer *transfer, const struct plan *plan);
void transfer_release(struct transfer *transfer, const struct plan *plan);
/* As specified in struct backend. */
descent_status transfer_read(struct backend_program *program, int buffer, int64_t offset, int64_t count,
                             enum plan_type type, void *data);
descent_status transfer_write(struct backend_program *program, int buffer, int64_t offset, int64_t count,
                              enum plan_type type, const void *data);
descent_status transfer_save(struct backend_program *program, int buffer);
descent_status transfer_restore(struct backend_program *program, int buffer);
descent_status transfer_view(struct backend_program *program, int buffer, int64_t rows, descent_array *array);

#endif
