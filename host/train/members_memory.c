#include "train/members_memory.h"

#include <inttypes.h>

#include "core/status.h"
#include "core/system.h"
#include "data/dataset.h"

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

/* Bytes of the copies of datasets with the network's offsets, which fit_check has made. */
static double aligned_bytes(const struct fit *f) {
  double values = 0;
  for (size_t i = 0; i < sizeof f->aligned / sizeof *f->aligned; i++) {
    if (!f->aligned[i]) continue;
    const struct dataset_storage *s = f->aligned[i]->storage;
    values += (double)s->rows * (double)(s->inputs + (s->y ? s->targets : 0) + (s->weights ? 1 : 0));
  }
  return values * sizeof(float);
}

/* What member k needs, by the program of member 0: scratch memory grows about as the buffers do. */
static descent_status need_of(const struct fit *fits, int64_t k, double first_plan, double *need) {
  const struct program *first = &fits[0].trainer->program;
  double bytes;
  descent_status status;
  TRY(plan_bytes(&fits[k], &bytes));
  *need = (double)first->backend->memory(first->compiled) * (bytes / first_plan) + bytes_beside(&fits[k]) +
          aligned_bytes(&fits[k]);
done:
  return status;
}

descent_status members_check_memory(const char *root, const struct fit *fits, int64_t count) {
  double first_plan, need, sum = 0, held;
  int64_t fitting = 0;
  descent_status status = DESCENT_OK;
  if (fits[0].device->backend->list) return status;
  TRY(plan_bytes(&fits[0], &first_plan));
  TRY(need_of(fits, 0, first_plan, &held)); /* what the members have already: the first all, the others their copies */
  for (int64_t k = 1; k < count; k++) held += aligned_bytes(&fits[k]);
  const double available = (double)system_memory_available(root) + held;
  for (int64_t k = 0; k < count; k++) {
    TRY(need_of(fits, k, first_plan, &need));
    sum += need;
    if (sum <= available) fitting++;
  }
  if (sum > available)
    TRY(status_set(DESCENT_ERROR_MEMORY,
                   "%" PRId64 " members need %.3g GB of memory, %.3g GB are available: %" PRId64 " would fit", count,
                   sum * 1e-9, available * 1e-9, fitting));
done:
  return status;
}

/* ---- the memory of a device ---- */

static descent_status room_of(const struct fit *f, struct backend_room *room) {
  const struct program *program = &f->trainer->program;
  return program->backend->room(program->compiled, room);
}

static descent_status refuse(int64_t k, int64_t count, int64_t needed, int64_t left) {
  return status_set(DESCENT_ERROR_MEMORY,
                    "out of GPU memory (%.1f MB needed, %.1f MB free): %" PRId64 " of %" PRId64 " members would fit",
                    1e-6 * (double)needed, 1e-6 * (double)(left > 0 ? left : 0), k, count);
}

descent_status members_check_room(const struct fit *fits, int64_t count) {
  struct backend_room room;
  double first_plan, plan;
  descent_status status;
  TRY(plan_bytes(&fits[0], &first_plan));
  TRY(room_of(&fits[0], &room));
  const int64_t needed = room.program + room.later;
  int64_t left = room.left - room.later;
  for (int64_t k = 1; k < count; k++) {
    TRY(plan_bytes(&fits[k], &plan));
    if (plan != first_plan) continue; /* it may be computed otherwise */
    if (left < needed) {
      (void)refuse(k, count, needed, left);
      TRY(status_set(DESCENT_ERROR_MEMORY, "member %" PRId64 ": %s", k, descent_last_error()));
    }
    left -= needed;
  }
done:
  return status;
}

descent_status members_check_next(const struct fit *fits, int64_t k, int64_t count, int64_t *later) {
  struct backend_room room;
  descent_status status;
  TRY(room_of(&fits[k], &room));
  *later += room.later;
  const int64_t left = room.left - *later, needed = room.program + room.later;
  if (k > 0 && left < 0) TRY(refuse(k, count, needed, needed + left));
done:
  return status;
}

descent_status members_refuse_next(const struct fit *fits, int64_t k, int64_t count, int64_t later) {
  struct backend_room room;
  double first_plan, plan;
  descent_status status;
  TRY(plan_bytes(&fits[0], &first_plan));
  TRY(plan_bytes(&fits[k], &plan));
  TRY(room_of(&fits[0], &room));
  const int64_t needed = (int64_t)((double)room.program * plan / first_plan), left = room.left - later;
  if (left < needed) TRY(refuse(k, count, needed, left));
  TRY(status_set(
      DESCENT_ERROR_MEMORY, "out of memory (%.1f MB free on the GPU): %" PRId64 " of %" PRId64 " members would fit",
      1e-6 * (double)left, k, count)); /* of the host's, or where a shape needs more than the first's tells */
done:
  return status;
}
