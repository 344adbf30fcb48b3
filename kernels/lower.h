/* From operations to launches. */
#ifndef DESCENT_KERNELS_LOWER_H
#define DESCENT_KERNELS_LOWER_H

#include "module.h"

/* Marks enqueued between the operations of a range: events that time them, or a wait. */
struct lower_marks {
  int first;               /* the operation of the first entry of both arrays */
  cudaEvent_t begin;       /* recorded before the first operation; NULL: none */
  cudaEvent_t *operations; /* recorded after each operation; NULL: none */
  cudaEvent_t *products;   /* recorded after the product of each dense operation, or all of it if that is one kernel */
  unsigned flags;          /* with which events are recorded: cudaEventRecordExternal, but only in a graph */
  bool wait;               /* for each operation, before the next is launched */
};

/* Enqueues the range once on `rows` rows. `queued`: its gather, or a kernel before a range without one, fetches its step
 * from the queue (the range is captured). marks: NULL: none. */
descent_status lower_range(struct backend_program *program, struct plan_range range, int64_t rows, bool queued,
                           const struct lower_marks *marks);
/* Enqueues the operations of a fused range that compute A, Z and dZ, one by one, on the step that is current: they write
 * what the range's launch has left out, and nothing else. */
descent_status lower_values(struct backend_program *program, struct plan_range range, int64_t rows);
/* Enqueues the matrix product of a dense op as in a step: all of the op where that is one kernel. */
descent_status lower_product(struct backend_program *program, int op, int64_t rows);
bool lower_has(const struct plan *plan, struct plan_range range, enum plan_op_kind kind);
/* SCALAR_BAD_STEP of the range's gradient_norm, on the device; NULL: it has none. */
const double *lower_bad_step(const struct backend_program *program, struct plan_range range);

#endif
