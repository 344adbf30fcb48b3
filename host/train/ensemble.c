/* Creates, binds and runs the programs of an ensemble's members. */
#include "train/ensemble.h"

#include <stdlib.h>

#include "core/memory.h"
#include "core/status.h"

descent_status ensemble_create(const descent_network *network, descent_device *device,
                               const descent_predict_options *options, unsigned parts, int64_t block,
                               struct ensemble *ensemble) {
  const int64_t members = network->members;
  struct ensemble made = {.members = members};
  descent_status status = DESCENT_ERROR_MEMORY;
  made.programs = memory_allocate(members, sizeof *made.programs, "the members of an ensemble");
  made.jobs = memory_allocate(members, sizeof *made.jobs, "the members of an ensemble");
  if (!made.programs || !made.jobs) goto done;
  for (int64_t k = 0; k < members; k++) {
    const descent_network member = network_view_member(network, k);
    TRY(program_create_prediction(&member, device, options, parts, block, &made.programs[k]));
  }
done:
  if (status != DESCENT_OK) ensemble_clear(&made);
  *ensemble = made;
  return status;
}

void ensemble_clear(struct ensemble *ensemble) {
  for (int64_t k = 0; ensemble->programs && k < ensemble->members; k++) program_clear(&ensemble->programs[k]);
  free(ensemble->programs);
  free(ensemble->jobs);
  *ensemble = (struct ensemble){0};
}

descent_status ensemble_write_network(struct ensemble *ensemble, const descent_network *network) {
  descent_status status = DESCENT_OK;
  for (int64_t k = 0; k < ensemble->members; k++) {
    const descent_network member = network_view_member(network, k);
    TRY(program_write_network(&ensemble->programs[k], &member));
  }
done:
  return status;
}

descent_status ensemble_copy_state(const struct ensemble *from, struct ensemble *to) {
  descent_status status = DESCENT_OK;
  for (int64_t k = 0; k < from->members; k++) TRY(program_copy_state(&from->programs[k], &to->programs[k]));
done:
  return status;
}

descent_status ensemble_bind(struct ensemble *ensemble, const descent_dataset *dataset, bool constant) {
  descent_status status = DESCENT_OK;
  for (int64_t k = 0; k < ensemble->members; k++)
    TRY((constant ? program_bind : program_bind_once)(&ensemble->programs[k], dataset));
done:
  return status;
}

descent_status ensemble_unbind(struct ensemble *ensemble) {
  descent_status status = DESCENT_OK;
  for (int64_t k = 0; k < ensemble->members; k++) {
    const descent_status unbound = program_unbind(&ensemble->programs[k]);
    if (unbound != DESCENT_OK) status = unbound;
  }
  return status;
}

descent_status ensemble_bind_rows(struct ensemble *ensemble, const float *X, int64_t rows) {
  descent_status status = DESCENT_OK;
  for (int64_t k = 0; k < ensemble->members; k++) TRY(program_bind_rows(&ensemble->programs[k], X, NULL, NULL, rows));
done:
  return status;
}

int64_t ensemble_block_rows(const struct ensemble *ensemble, int64_t left) {
  return program_block_rows(&ensemble->programs[0], left);
}

descent_status ensemble_predict(struct ensemble *ensemble, int64_t first, int64_t rows) {
  const struct plan_step step = {.number = 1, .first_row = first, .rows = rows};
  struct program *const programs = ensemble->programs;
  for (int64_t k = 0; k < ensemble->members; k++)
    ensemble->jobs[k] = (struct program_job){&programs[k], programs[k].plan->predict, &step, 1};
  return program_run_together(ensemble->jobs, ensemble->members);
}

descent_status ensemble_read(const struct ensemble *ensemble, enum ensemble_buffer buffer, int64_t rows,
                             float *values) {
  descent_status status = DESCENT_OK;
  for (int64_t k = 0; k < ensemble->members; k++) {
    const struct program *program = &ensemble->programs[k];
    const int shown = buffer == ENSEMBLE_A ? program->at.A : program->at.P;
    const int64_t count = rows * program->plan->buffers[shown].cols;
    TRY(program_read(program, shown, 0, count, PLAN_F32, values + k * count));
  }
done:
  return status;
}
