/* From dJ/d outputs to the gradients of parameters and inputs. The device computes dJ per unit of the normalised inputs;
 * what remains is done in the caller's array. */
#include "train/differentiate.h"

#include <math.h>

#include "core/number.h"
#include "core/status.h"

descent_status differentiate_refuse(int64_t at, int64_t K, double value) {
  return status_set(DESCENT_ERROR_ARGUMENT, "dOutputs: row %lld, output %lld is %g: must be finite",
                    (long long)(at / K), (long long)(at % K), value);
}

descent_status differentiate_check(const float *dOutputs, int64_t rows, int64_t K) {
  const int64_t at = number_find_non_finite(dOutputs, rows * K);
  return at == rows * K ? DESCENT_OK : differentiate_refuse(at, K, (double)dOutputs[at]);
}

descent_status differentiate_outputs(struct program *program, const struct plan_step *step, const float *dOutputs) {
  const int64_t count = step->rows * program->plan->buffers[program->at.dA].cols;
  descent_status status = DESCENT_OK;
  if (dOutputs) TRY(program_write(program, program->at.dA, 0, count, PLAN_F32, dOutputs));
  TRY(program_run(program, program->plan->backward, step, 1));
done:
  return status;
}

descent_status differentiate_inputs(struct program *program, const descent_network *network,
                                    const struct plan_step *step, const float *X, float *dX) {
  const int64_t inputs = network->inputs, count = step->rows * inputs;
  descent_status status;
  TRY(program_run(program, program->plan->input_gradient, step, 1));
  TRY(program_read(program, program->at.dX, 0, count, PLAN_F32, dX));
  for (int64_t i = 0; network->normalize != DESCENT_NORMALIZE_NONE && i < count; i++)
    dX[i] *= network->scale[i % inputs];
  for (int64_t i = 0; X && i < count; i++)
    if (isnan(X[i])) dX[i] = 0;
done:
  return status;
}
