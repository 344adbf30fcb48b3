/* The reference backend: double precision, naive loops, one thread. It specifies every operation in code and is the
 * oracle of the tests. One file per family of operations, each written to read like the mathematics. */
#ifndef DESCENT_BACKEND_REFERENCE_REFERENCE_H
#define DESCENT_BACKEND_REFERENCE_REFERENCE_H

#include "backend/backend.h"

struct reference_buffer {
  const void *source;  /* PLAN_SOURCE: the caller's rows, or NULL */
  descent_dtype dtype; /* of what is bound to a source */
  int64_t rows;        /* bound to a source */
  double *values;      /* F32 and F64 alike; NULL for sources and I64 */
  int64_t *integers;   /* I64 buffers other than sources */
};

struct backend_program {
  const struct plan *plan;
  struct reference_buffer *buffers; /* (plan->n_buffers) */
  int64_t bytes;
};

/* The values of a buffer; NULL for PLAN_NONE. */
static inline double *reference_values(const struct backend_program *program, int buffer) {
  return buffer == PLAN_NONE ? NULL : program->buffers[buffer].values;
}

/* The rows bound to a source; NULL for PLAN_NONE and where nothing is bound. */
static inline const void *reference_source(const struct backend_program *program, int buffer) {
  return buffer == PLAN_NONE ? NULL : program->buffers[buffer].source;
}

/* g(z). */
double reference_activate(descent_activation activation, double z);
/* g'(z) from a = g(z), or from z where slope_is_from_z; the other argument is ignored. */
double reference_slope(descent_activation activation, double a, double z);
double reference_sigmoid(double z);
/* p (n) = softmax of z (n). */
void reference_softmax(const double *z, double *p, int64_t n);

/* The factor of element `index` of a layer under dropout with probability p = `dropout`: 0, or 1 / (1 - p) if it is
 * kept. */
double reference_dropout(const struct plan *plan, const struct plan_step *step, int layer, int64_t n, double dropout,
                         int64_t index);

descent_status reference_gather(struct backend_program *program, const struct plan_gather *op,
                                const struct plan_step *step);
void reference_dense_forward(struct backend_program *program, const struct plan_op *op, const struct plan_step *step);
void reference_loss(struct backend_program *program, const struct plan_loss *op, const struct plan_step *step);
void reference_backward_output(struct backend_program *program, const struct plan_backward_output *op,
                               const struct plan_step *step);
void reference_dense_backward_weights(struct backend_program *program, const struct plan_dense_backward_weights *op,
                                      const struct plan_step *step);
void reference_dense_backward_input(struct backend_program *program, const struct plan_op *op,
                                    const struct plan_step *step);
void reference_accumulate(struct backend_program *program, const struct plan_accumulate *op);
void reference_combine(struct backend_program *program, const struct plan_combine *op, const struct plan_step *step);
void reference_gradient_norm(struct backend_program *program, const struct plan_gradient_norm *op,
                             const struct plan_step *step);
void reference_trust_ratio(struct backend_program *program, const struct plan_update *op, const struct plan_step *step);
void reference_update(struct backend_program *program, const struct plan_update *op, const struct plan_step *step);
void reference_statistics(struct backend_program *program, const struct plan_op *op, const struct plan_step *step);
void reference_metrics(struct backend_program *program, const struct plan_metrics *op);
void reference_output(struct backend_program *program, const struct plan_output *op, const struct plan_step *step);

#endif
