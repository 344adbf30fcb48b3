/* A loss of the caller's: its inputs are read from the device, its gradient is written there. */
#include "train/own_loss.h"

#include <stdlib.h>

#include "core/memory.h"
#include "core/status.h"
#include "core/terms.h"
#include "train/differentiate.h"

descent_status own_loss_create(const descent_network *network, const descent_train_options *options, int64_t rows,
                               struct own_loss *loss) {
  *loss = (struct own_loss){.function = options->callbacks.loss, .user = options->callbacks.user};
  if (!loss->function) return DESCENT_OK;
  loss->n = network_outputs(network);
  loss->n_y = loss_is_regression(network->loss) ? loss->n : 1;
  loss->A = memory_allocate(rows * loss->n, sizeof *loss->A, "the outputs of a step");
  loss->y = memory_allocate(rows * loss->n_y, sizeof *loss->y, "the targets of a step");
  loss->w = memory_allocate(rows, sizeof *loss->w, "the weights of a step");
  loss->dA = memory_allocate(rows * loss->n, sizeof *loss->dA, "the gradient of a step's outputs");
  if (loss->A && loss->y && loss->w && loss->dA) return DESCENT_OK;
  own_loss_clear(loss);
  return DESCENT_ERROR_MEMORY;
}

void own_loss_clear(struct own_loss *loss) {
  free(loss->A);
  free(loss->y);
  free(loss->w);
  free(loss->dA);
  *loss = (struct own_loss){0};
}

/* Calls the function on the rows that the device holds. */
static descent_status compute(struct own_loss *loss, const struct program *program, int64_t rows, double *J) {
  descent_status status;
  TRY(program_read(program, program->at.A, 0, rows * loss->n, PLAN_F32, loss->A));
  TRY(program_read(program, program->at.y, 0, rows * loss->n_y, PLAN_F32, loss->y));
  TRY(program_read(program, program->at.w, 0, rows, PLAN_F32, loss->w));
  *J = loss->function(loss->user, loss->A, loss->y, loss->w, rows, loss->n, loss->dA);
done:
  return status;
}

descent_status own_loss_differentiate(struct own_loss *loss, struct program *program, const struct plan_step *step) {
  double J;
  descent_status status;
  TRY(compute(loss, program, step->rows, &J));
  TRY(program_write(program, program->at.scalars, SCALAR_LOSS, 1, PLAN_F64, &J));
  TRY(differentiate_outputs(program, step, loss->dA));
done:
  return status;
}

descent_status own_loss_add(struct own_loss *loss, const struct program *program, int64_t rows) {
  double J, weight = 0;
  descent_status status;
  TRY(compute(loss, program, rows, &J));
  for (int64_t r = 0; r < rows; r++) weight += (double)loss->w[r];
  loss->total += J * weight;
  loss->weight += weight;
done:
  return status;
}
