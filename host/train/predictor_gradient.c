/* Sensitivities: the gradients of a predictor's raw outputs with respect to the raw inputs. Those of an ensemble are sums
 * over its members: dX = sum_k dz_k dz_k/dX, where dz_k are the derivatives with respect to the raw outputs of member k. */
#include "core/memory.h"
#include "core/status.h"
#include "train/differentiate.h"
#include "train/extremes.h"
#include "train/member_outputs.h"
#include "train/predictor.h"

/* ---- what is needed ---------------------------------------------------------------------------------------------- */

static descent_status allocate_floats(int64_t rows, int64_t columns, float **values) {
  int64_t count;
  if (*values) return DESCENT_OK;
  if (!size_product(rows, columns, &count))
    return status_set(DESCENT_ERROR_MEMORY, "the sensitivities of an ensemble exceed the address space");
  *values = memory_allocate(count, sizeof **values, "the sensitivities of an ensemble");
  return *values ? DESCENT_OK : DESCENT_ERROR_MEMORY;
}

static descent_status allocate_sums(descent_predictor *predictor) {
  const descent_network *network = predictor->network;
  const int64_t block = ensemble_block_rows(&predictor->ensemble, predictor->max_rows);
  descent_status status = DESCENT_OK;
  if (network->members == 1) goto done;
  TRY(allocate_floats(network->members * network_outputs(network), block, &predictor->dA));
  TRY(allocate_floats(network->inputs, block, &predictor->dX));
  if (!predictor->dX_sum)
    predictor->dX_sum =
        memory_allocate(network->inputs * block, sizeof *predictor->dX_sum, "the sensitivities of an ensemble");
  if (!predictor->dX_sum) TRY(DESCENT_ERROR_MEMORY);
done:
  return status;
}

/* The predictor's parameters in programs that differentiate; refreshing discards them. */
static descent_status prepare(descent_predictor *predictor) {
  static const unsigned parts = PLAN_PART_BACKWARD | PLAN_PART_INPUT_GRADIENT;
  struct ensemble made = {0};
  descent_status status = DESCENT_OK;
  if (predictor->differentiated.programs) return DESCENT_OK;
  TRY(allocate_sums(predictor));
  TRY(predictor_create_ensemble(predictor, predictor->network, parts, &made));
  TRY(ensemble_copy_state(&predictor->ensemble, &made));
  predictor->differentiated = made;
  made = (struct ensemble){0};
done:
  ensemble_clear(&made);
  return status;
}

/* ---- a block of rows --------------------------------------------------------------------------------------------- */

/* The member's dX (rows, inputs) from its dJ/d raw outputs, after its predict range. */
static descent_status differentiate_member(descent_predictor *predictor, int64_t member, const struct plan_step *step,
                                           const float *dA, const float *X, float *dX) {
  struct program *program = &predictor->differentiated.programs[member];
  descent_status status;
  TRY(differentiate_outputs(program, step, dA));
  TRY(differentiate_inputs(program, predictor->network, step, X, dX));
done:
  return status;
}

/* The sum of the members' dX in double, in their order, rounded once. */
static descent_status differentiate_members(descent_predictor *predictor, const struct plan_step *step,
                                            const float *dOutputs, const float *X, float *dX) {
  const descent_network *network = predictor->network;
  const int64_t n_out = network_outputs(network), rows = step->rows, count = rows * network->inputs;
  const struct member_outputs all = {predictor->values, network->members, rows, n_out};
  descent_status status;
  TRY(ensemble_read(&predictor->differentiated, ENSEMBLE_A, rows, predictor->values));
  for (int64_t r = 0; r < rows; r++)
    member_outputs_backward(network->loss, &all, r, dOutputs + r * n_out, predictor->scratch, predictor->dA);
  for (int64_t i = 0; i < count; i++) predictor->dX_sum[i] = 0;
  for (int64_t k = 0; k < network->members; k++) {
    TRY(differentiate_member(predictor, k, step, predictor->dA + k * rows * n_out, X, predictor->dX));
    for (int64_t i = 0; i < count; i++) predictor->dX_sum[i] += (double)predictor->dX[i];
  }
  for (int64_t i = 0; i < count; i++) dX[i] = (float)predictor->dX_sum[i];
done:
  return status;
}

static descent_status differentiate_block(descent_predictor *predictor, const descent_dataset *dataset, int64_t first,
                                          int64_t rows, const float *dOutputs, float *dX) {
  const descent_network *network = predictor->network;
  const struct plan_step step = {.number = 1, .first_row = first, .rows = rows};
  const float *X = dataset->storage->X + first * network->inputs;
  descent_status status;
  TRY(ensemble_predict(&predictor->differentiated, first, rows));
  if (network->members == 1)
    TRY(differentiate_member(predictor, 0, &step, dOutputs, X, dX));
  else
    TRY(differentiate_members(predictor, &step, dOutputs, X, dX));
done:
  return status;
}

descent_status descent_predictor_input_gradient(descent_predictor *predictor, const float *X, const float *dOutputs,
                                                int64_t rows, float *dX) {
  descent_dataset dataset;
  descent_status status;
  TRY(handle_check(predictor, HANDLE_PREDICTOR, "predictor"));
  TRY(argument_check(X, "X"));
  TRY(argument_check(dOutputs, "dOutputs"));
  TRY(argument_check(dX, "dX"));
  TRY(predictor_take_rows(predictor, X, rows, &dataset));
  const int64_t inputs = predictor->network->inputs, n_out = network_outputs(predictor->network);
  TRY(differentiate_check(dOutputs, rows, n_out));
  TRY(extremes_check_inputs(predictor->network, &dataset, 0, rows)); /* of all blocks before dX is written */
  TRY(prepare(predictor));
  TRY(ensemble_bind_rows(&predictor->differentiated, dataset.storage->X, rows));
  for (int64_t first = 0, count; first < rows; first += count) {
    count = ensemble_block_rows(&predictor->differentiated, rows - first);
    TRY(differentiate_block(predictor, &dataset, first, count, dOutputs + first * n_out, dX + first * inputs));
  }
done:
  return status;
}
