/* One operation of a plan on the candidate, from the inputs that it has, beside the exact program and a reference. */
#include <float.h>
#include <math.h>
#include <stdio.h>

#include "core/status.h"
#include "plan/operations.h"
#include "verify/verification.h"

/* ---- inputs and outputs of an operation ---- */

descent_status verify_copy_inputs(struct verification *v, const struct plan_op *op, struct program *to) {
  descent_status status = DESCENT_OK;
  struct plan_use uses[PLAN_MOST_USES];
  const int n = plan_uses(op, uses);
  for (int i = 0; i < n; i++) {
    const int buffer = uses[i].buffer;
    if (uses[i].role == PLAN_ROWS_OF_SOURCE) continue;
    int64_t offset = 0, count = v->plan->buffers[buffer].rows * v->plan->buffers[buffer].cols;
    if (op->layer > 0 && uses[i].role == PLAN_FLAT) {
      const struct parameter_segment *segment = &v->plan->segments[op->layer - 1];
      offset = segment->begin, count = segment->end - segment->begin;
    }
    TRY(program_read(&v->candidate, buffer, offset, count, PLAN_F64, v->values));
    TRY(program_write(to, buffer, offset, count, PLAN_F64, v->values));
  }
done:
  return status;
}

/* Does the op write the buffer without reading it? */
static bool only_written(const struct plan_op *op, int buffer) {
  struct plan_use uses[PLAN_MOST_USES];
  bool written = true;
  for (int n = plan_uses(op, uses); n-- > 0;)
    if (uses[n].buffer == buffer && uses[n].access != PLAN_WRITE) written = false;
  return written;
}

/* Fills the outputs of the op with NaN, so that a missing write is found; except those that it also reads. */
static descent_status poison_outputs(struct verification *v, const struct plan_op *op, const struct bounds *bounds) {
  descent_status status = DESCENT_OK;
  for (int i = 0; i < bounds->n; i++) {
    const struct bounds_output *output = &bounds->outputs[i];
    if (v->plan->buffers[output->buffer].type != PLAN_F32 || !only_written(op, output->buffer)) continue;
    for (int64_t k = 0; k < output->count; k++) v->values[k] = NAN;
    TRY(program_write(&v->candidate, output->buffer, output->offset, output->count, PLAN_F64, v->values));
  }
done:
  return status;
}

/* ---- comparing ---- */

descent_status verify_exact_range(const struct verification *v, const struct plan_op *op, const struct bounds *bounds,
                                  int64_t step) {
  for (int i = 0; i < bounds->n; i++) {
    const struct bounds_output *output = &bounds->outputs[i];
    const double limit = v->plan->buffers[output->buffer].type == PLAN_F32 ? (double)FLT_MAX : DBL_MAX;
    for (int64_t k = 0; k < output->count; k++) {
      if (fabs(output->exact[k]) <= limit) continue;
      char name[64];
      plan_op_name(op, name, sizeof name);
      return status_set(DESCENT_ERROR_DIVERGED,
                        "%s at step %lld: training diverged (%g in exact arithmetic); lower the learning rate", name,
                        (long long)step, output->exact[k]);
    }
  }
  return DESCENT_OK;
}

descent_status verify_outputs(struct verification *v, struct comparison *comparison, const struct bounds *bounds) {
  descent_status status = DESCENT_OK;
  for (int i = 0; i < bounds->n; i++) {
    const struct bounds_output *output = &bounds->outputs[i];
    const double *expected = output->exact;
    TRY(program_read(&v->candidate, output->buffer, output->offset, output->count, PLAN_F64, v->values));
    if (v->reference.compiled) {
      TRY(program_read(&v->reference, output->buffer, output->offset, output->count, PLAN_F64, v->expected));
      expected = v->expected;
    }
    double slack = v->reference.compiled ? 2 : 1; /* each side may be one bound away from the exact value */
    if (!comparison_take(comparison, v->values, expected, output->bound, slack, output->count))
      TRY(program_write(&v->candidate, output->buffer, output->offset, output->count, PLAN_F64, output->exact));
  }
done:
  return status;
}

descent_status verify_op(struct verification *v, enum phase phase, int index, const struct plan_step *step) {
  const struct plan_op *op = &v->plan->ops[index];
  const struct plan_range range = {index, 1};
  struct bounds bounds = {0};
  descent_status status = DESCENT_OK;
  TRY(verify_copy_inputs(v, op, &v->exact));
  if (v->reference.compiled) TRY(verify_copy_inputs(v, op, &v->reference));
  TRY(bounds_run(v->exact.compiled, v->exact.plan, index, step, &bounds));
  TRY(verify_exact_range(v, op, &bounds, step->number));
  if (v->reference.compiled) TRY(program_run(&v->reference, range, step, 1));
  TRY(poison_outputs(v, op, &bounds));
  TRY(program_run(&v->candidate, range, step, 1));
  TRY(verify_outputs(v, verification_row(v, phase, op), &bounds));
done:
  bounds_clear(&bounds);
  return status;
}
