/* Copies the state of a training from the device to the host and back. */
#include "checkpoint/snapshot.h"

#include <stdlib.h>

#include "core/memory.h"
#include "core/number.h"
#include "core/status.h"

_Static_assert(SCALAR_TOTAL_WEIGHT == SCALAR_TOTAL_LOSS + 1, "both totals are read and written at once");

descent_status snapshot_create(const descent_network *network, const struct program *program, bool best,
                               struct snapshot *snapshot) {
  const int64_t n = network->n_parameters;
  const struct plan_handles *at = &program->at;
  const struct {
    bool needed;
    float **buffer;
    const char *what;
  } buffers[] = {
      {true, &snapshot->parameters, "a checkpoint's parameters"},
      {at->moment1 != PLAN_NONE, &snapshot->moment1, "a checkpoint's first moments"},
      {at->moment2 != PLAN_NONE, &snapshot->moment2, "a checkpoint's second moments"},
      {best, &snapshot->best, "a checkpoint's best parameters"},
  };
  *snapshot = (struct snapshot){.n_parameters = n, .n_statistics = (int64_t)network->n_layers * LAYER_SLOTS};
  snapshot->statistics = memory_allocate(snapshot->n_statistics, sizeof *snapshot->statistics, "layer statistics");
  bool allocated = snapshot->statistics != NULL;
  for (size_t i = 0; allocated && i < sizeof buffers / sizeof *buffers; i++) {
    if (!buffers[i].needed) continue;
    *buffers[i].buffer = memory_allocate(n, sizeof(float), buffers[i].what);
    allocated = *buffers[i].buffer != NULL;
  }
  if (allocated) return DESCENT_OK;
  snapshot_clear(snapshot);
  return DESCENT_ERROR_MEMORY;
}

void snapshot_clear(struct snapshot *snapshot) {
  free(snapshot->parameters);
  free(snapshot->moment1);
  free(snapshot->moment2);
  free(snapshot->best);
  free(snapshot->statistics);
  *snapshot = (struct snapshot){0};
}

descent_status snapshot_take(const struct program *program, struct snapshot *snapshot, bool *finite) {
  const struct plan_handles *at = &program->at;
  const int64_t n = snapshot->n_parameters;
  double totals[2];
  descent_status status;
  TRY(program_read(program, at->parameters, 0, n, PLAN_F32, snapshot->parameters));
  if (snapshot->moment1) TRY(program_read(program, at->moment1, 0, n, PLAN_F32, snapshot->moment1));
  if (snapshot->moment2) TRY(program_read(program, at->moment2, 0, n, PLAN_F32, snapshot->moment2));
  TRY(program_read(program, at->scalars, SCALAR_TOTAL_LOSS, 2, PLAN_F64, totals));
  snapshot->state.total_loss = totals[0];
  snapshot->state.total_weight = totals[1];
  *finite = number_find_non_finite(snapshot->parameters, n) == n;
done:
  return status;
}

descent_status snapshot_restore(struct program *program, const struct snapshot *snapshot) {
  const struct plan_handles *at = &program->at;
  const int64_t n = snapshot->n_parameters;
  descent_status status;
  TRY(program_write(program, at->parameters, 0, n, PLAN_F32, snapshot->parameters));
  if (snapshot->moment1) TRY(program_write(program, at->moment1, 0, n, PLAN_F32, snapshot->moment1));
  if (snapshot->moment2) TRY(program_write(program, at->moment2, 0, n, PLAN_F32, snapshot->moment2));
done:
  return status;
}
