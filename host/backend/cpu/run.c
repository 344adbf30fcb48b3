/* Running a program: the operations of a range in order, once for each step. */
#include <stddef.h>

#include "backend/cpu/cpu.h"
#include "core/status.h"
#include "plan/operations.h"

static descent_status run_op(struct backend_program *program, const struct plan_op *op, const struct plan_step *step) {
  switch (op->kind) {
    case OP_GATHER: return cpu_gather(program, op, step);
    case OP_DENSE_FORWARD: cpu_dense_forward(program, op, step); break;
    case OP_LOSS: cpu_loss(program, op, step); break;
    case OP_BACKWARD_OUTPUT: cpu_backward_output(program, op, step); break;
    case OP_DENSE_BACKWARD_WEIGHTS: cpu_dense_backward_weights(program, op, step); break;
    case OP_DENSE_BACKWARD_INPUT: cpu_dense_backward_input(program, op, step); break;
    case OP_ACCUMULATE: cpu_accumulate(program, op); break;
    case OP_COMBINE: cpu_combine(program, op, step); break;
    case OP_ALLREDUCE: return cpu_allreduce(program, op);
    case OP_TRUST_RATIO: cpu_trust_ratio(program, op, step); break;
    case OP_GRADIENT_NORM: cpu_gradient_norm(program, op, step); break;
    case OP_UPDATE: cpu_update(program, op, step); break;
    case OP_STATISTICS: cpu_statistics(program, op, step); break;
    case OP_METRICS: cpu_metrics(program, op); break;
    case OP_OUTPUT: cpu_output(program, op, step); break;
    case OP_KINDS: return status_set(DESCENT_ERROR_INTERNAL, "unknown operation kind %d", (int)op->kind);
  }
  return DESCENT_OK;
}

const double *cpu_bad_step_flag(const struct backend_program *program, struct plan_range range) {
  for (int i = range.first; i < range.first + range.count; i++)
    if (program->plan->ops[i].kind == OP_GRADIENT_NORM)
      return cpu_doubles(program, program->plan->ops[i].norm.scalars) + SCALAR_BAD_STEP;
  return NULL;
}

static descent_status check_rows(const struct backend_program *program, const struct plan_step *step) {
  if (plan_can_run(program->plan, step)) return DESCENT_OK;
  return status_set(DESCENT_ERROR_ARGUMENT, "run: a step of %lld rows: must be %d to %lld", (long long)step->rows,
                    step->micro_batches > 0 ? 0 : 1, (long long)program->plan->batch);
}

descent_status cpu_check_step(const struct backend_program *program, struct plan_range range,
                              const struct plan_step *step) {
  descent_status status = check_rows(program, step);
  for (int i = range.first; i < range.first + range.count && status == DESCENT_OK; i++)
    if (program->plan->ops[i].kind == OP_GATHER) status = cpu_gather_check(program, &program->plan->ops[i], step);
  return status;
}

descent_status cpu_run_ops(struct backend_program *program, struct plan_range range, const struct plan_step *step) {
  descent_status status = DESCENT_OK;
  for (int i = 0; i < range.count && status == DESCENT_OK; i++)
    status = run_op(program, &program->plan->ops[range.first + i], step);
  return status;
}

descent_status cpu_run(struct backend_program *program, struct plan_range range, const struct plan_step *steps,
                       int64_t n_steps) {
  const double *bad_step = cpu_bad_step_flag(program, range);
  for (int64_t s = 0; s < n_steps; s++) {
    descent_status status = check_rows(program, &steps[s]);
    if (status == DESCENT_OK) status = cpu_run_ops(program, range, &steps[s]);
    if (status != DESCENT_OK) return status;
    if (bad_step && *bad_step != 0) break;
  }
  return DESCENT_OK;
}
