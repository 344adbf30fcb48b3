#include "train/members_memory.h"

#include <inttypes.h>

#include "core/status.h"
#include "core/system.h"

/* Values of the slot of buffer `b`, counted at its first buffer; 0 at the others, and for rows of the caller's. */
static double values_of(const struct plan *plan, int b) {
  const struct plan_buffer *buffer = &plan->buffers[b];
  int64_t widest = buffer->cols;
  for (int i = 0; buffer->slot && i < plan->n_buffers; i++) {
    if (plan->buffers[i].slot != buffer->slot) continue;
    if (i < b) return 0;
    if (plan->buffers[i].cols > widest) widest = plan->buffers[i].cols;
  }
  return buffer->storage == PLAN_SOURCE ? 0 : (double)buffer->rows * (double)widest;
}

/* Bytes of the plan's buffers as float32 and double. */
static descent_status plan_bytes(const struct fit *f, double *bytes) {
  struct plan *plan = NULL;
  const descent_status status = fit_build_plan(f, &plan);
  if (status != DESCENT_OK) return status;
  *bytes = 0;
  for (int b = 0; b < plan->n_buffers; b++)
    *bytes += values_of(plan, b) * (plan->buffers[b].type == PLAN_F32 ? sizeof(float) : sizeof(double));
  plan_free(plan);
  return DESCENT_OK;
}

/* Bytes beside the program: parameters read from the device; for checkpoints a snapshot of parameters, two moments and the
 * best parameters; the scores of a validation. */
static double bytes_beside(const struct fit *f) {
  const bool has_snapshot = f->options.checkpoint.folder || f->options.checkpoint.resume;
  const double values = (double)f->network->n_parameters * (has_snapshot ? 5 : 1);
  return (values + (f->validation ? (double)f->validation->rows : 0)) * sizeof(float);
}

/* What member k needs, by the program of member 0: scratch memory grows about as the buffers do. */
static descent_status need_of(const struct fit *fits, int64_t k, double first_plan, double *need) {
  const struct program *first = &fits[0].trainer->program;
  double bytes;
  descent_status status;
  TRY(plan_bytes(&fits[k], &bytes));
  *need = (double)first->backend->memory(first->compiled) * (bytes / first_plan) + bytes_beside(&fits[k]);
done:
  return status;
}

descent_status members_check_memory(const char *root, const struct fit *fits, int64_t count) {
  double first_plan, first, need, sum = 0;
  int64_t fitting = 1;
  descent_status status = DESCENT_OK;
  if (fits[0].device->backend->list) return status;
  const double available = (double)system_memory_available(root);
  TRY(plan_bytes(&fits[0], &first_plan));
  TRY(need_of(fits, 0, first_plan, &first));
  for (int64_t k = 1; k < count; k++) {
    TRY(need_of(fits, k, first_plan, &need));
    sum += need;
    if (sum <= available) fitting++;
  }
  if (sum > available) /* of which the first has its part */
    TRY(status_set(DESCENT_ERROR_MEMORY,
                   "%" PRId64 " members need %.3g GB of memory, %.3g GB are available: %" PRId64 " would fit", count,
                   (sum + first) * 1e-9, (available + first) * 1e-9, fitting));
done:
  return status;
}
