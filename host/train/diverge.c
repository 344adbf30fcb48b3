/* Explains a step that was not finite: searches the buffers of the step, in the order in which they were computed, for
 * the first value that is not finite. The error names its place, the likely cause and a remedy. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/memory.h"
#include "core/number.h"
#include "core/rng.h"
#include "core/status.h"
#include "plan/operations.h"
#include "train/advice.h"
#include "train/trainer.h"

enum { CHUNK = 8192 }; /* values per read: large enough that the latency of a device does not dominate */

descent_status diverge_find(const struct program *program, int buffer, int64_t offset, int64_t count,
                            int64_t *position) {
  float values[CHUNK];
  *position = -1;
  for (int64_t done = 0; done < count; done += CHUNK) {
    const int64_t n = count - done < CHUNK ? count - done : CHUNK;
    descent_status status = program_read(program, buffer, offset + done, n, PLAN_F32, values);
    if (status != DESCENT_OK) return status;
    const int64_t at = number_find_non_finite(values, n);
    if (at == n) continue;
    *position = done + at;
    break;
  }
  return DESCENT_OK;
}

/* The place of the first value that is not finite. */
struct finding {
  enum { FOUND_NOTHING, FOUND_INPUT, FOUND_TARGET, FOUND_WEIGHT, FOUND_ACTIVATION, FOUND_GRADIENT } what;
  int64_t index; /* layer from 1, or column of an input or target from 0 */
  int64_t row;   /* row of the step from 0; -1: unknown */
};

static descent_status find_in_layers(const struct program *program, enum plan_op_kind kind, int64_t rows,
                                     struct finding *finding) {
  const struct plan *plan = program->plan;
  int64_t position;
  descent_status status = DESCENT_OK;
  const struct plan_range training = plan_training(plan);
  for (int i = training.first; i < training.first + training.count; i++) {
    const struct plan_op *op = &plan->ops[i];
    const struct parameter_segment *segment = &plan->segments[op->layer ? op->layer - 1 : 0];
    if (op->kind != kind) continue;
    if (kind == OP_DENSE_FORWARD) {
      TRY(diverge_find(program, op->forward.A, 0, rows * op->forward.n_out, &position));
      if (position >= 0) *finding = (struct finding){FOUND_ACTIVATION, op->layer, position / op->forward.n_out};
    } else {
      TRY(diverge_find(program, op->weights.gradients, segment->begin, segment->end - segment->begin, &position));
      if (position >= 0) *finding = (struct finding){FOUND_GRADIENT, op->layer, -1};
    }
    if (position >= 0) goto done;
  }
done:
  return status;
}

static descent_status find_first(const struct program *program, int64_t rows, struct finding *finding) {
  const struct plan *plan = program->plan;
  const int64_t n_x = plan->buffers[program->at.X].cols, n_y = plan->buffers[program->at.y].cols;
  int64_t position;
  descent_status status;
  *finding = (struct finding){FOUND_NOTHING, 0, -1};
  TRY(diverge_find(program, program->at.X, 0, rows * n_x, &position));
  if (position >= 0) {
    *finding = (struct finding){FOUND_INPUT, position % n_x, position / n_x};
    goto done;
  }
  TRY(diverge_find(program, program->at.y, 0, rows * n_y, &position));
  if (position >= 0) {
    *finding = (struct finding){FOUND_TARGET, position % n_y, position / n_y};
    goto done;
  }
  for (int l = 1; l <= plan->layers; l++) {
    const struct parameter_segment *segment = &plan->segments[l - 1];
    TRY(diverge_find(program, program->at.parameters, segment->begin, segment->end - segment->begin, &position));
    if (position >= 0) {
      *finding = (struct finding){FOUND_WEIGHT, l, -1};
      goto done;
    }
  }
  TRY(find_in_layers(program, OP_DENSE_FORWARD, rows, finding));
  if (finding->what == FOUND_NOTHING) TRY(find_in_layers(program, OP_DENSE_BACKWARD_WEIGHTS, rows, finding));
done:
  return status;
}

descent_status diverge_is_seen(const struct program *program, int64_t rows, bool *seen) {
  struct finding finding;
  double loss;
  descent_status status;
  TRY(find_first(program, rows, &finding));
  TRY(program_read(program, program->at.scalars, SCALAR_LOSS, 1, PLAN_F64, &loss));
  *seen = finding.what != FOUND_NOTHING || !isfinite(loss);
done:
  return status;
}

/* The largest magnitude of the step's inputs, after normalisation. */
static descent_status largest_input(const struct program *program, int64_t rows, double *largest) {
  const int64_t count = rows * program->plan->buffers[program->at.X].cols;
  float values[CHUNK];
  *largest = 0;
  for (int64_t done = 0; done < count; done += CHUNK) {
    const int64_t n = count - done < CHUNK ? count - done : CHUNK;
    descent_status status = program_read(program, program->at.X, done, n, PLAN_F32, values);
    if (status != DESCENT_OK) return status;
    for (int64_t i = 0; i < n; i++) *largest = fmax(*largest, fabs((double)values[i]));
  }
  return DESCENT_OK;
}

static void describe(const struct finding *finding, double loss, char *text, size_t size) {
  const long long index = finding->index;
  switch (finding->what) {
    case FOUND_INPUT: snprintf(text, size, "input column %lld is not finite", index); break;
    case FOUND_TARGET: snprintf(text, size, "target column %lld is not finite", index); break;
    case FOUND_WEIGHT: snprintf(text, size, "layer %lld's weights are not finite", index); break;
    case FOUND_ACTIVATION: snprintf(text, size, "layer %lld's activations are not finite", index); break;
    case FOUND_GRADIENT: snprintf(text, size, "layer %lld's gradient is not finite", index); break;
    case FOUND_NOTHING:
      snprintf(text, size, isfinite(loss) ? "the gradient norm exceeds float32" : "the loss is not finite");
      break;
  }
}

/* The row of the dataset, from 0, of row `row` of the step; of a source, that of the epoch; for steps by hand, the row of
 * the caller's arrays. */
static int64_t data_row(const descent_trainer *trainer, const struct plan_step *step, int64_t row) {
  int64_t t = step->first_row + row;
  if (!trainer->data) return trainer->first_row + t;
  if (step->order) t = (int64_t)permutation_index(step->order, (uint64_t)t);
  return dataset_source_row(trainer->data, t);
}

/* "row 17", or "32 rows: 17, 203, 5, .." if the row is unknown. */
static void name_rows(const descent_trainer *trainer, const struct plan_step *step, const struct finding *finding,
                      char *text, size_t size) {
  enum { SHOWN = 4 };
  if (finding->row >= 0) {
    snprintf(text, size, "row %lld", (long long)data_row(trainer, step, finding->row));
    return;
  }
  size_t used = (size_t)snprintf(text, size, "%lld rows: ", (long long)step->rows);
  for (int64_t r = 0; r < step->rows && r < SHOWN; r++)
    used += (size_t)snprintf(text + used, size - used, "%s%lld", r ? ", " : "", (long long)data_row(trainer, step, r));
  if (step->rows > SHOWN) snprintf(text + used, size - used, ", ..");
}

void diverge_rate_cause(const descent_trainer *trainer, double learning_rate, char *cause, size_t size) {
  char lower[32];
  snprintf(lower, sizeof lower, "%g", learning_rate / 10);
  snprintf(cause, size, "the learning rate %g is too high", learning_rate);
  ADVISE(cause, size, lower, advice_clipping(&trainer->options), advice_warmup(&trainer->options));
}

/* The likely cause at the first step, whose weights are the initial ones. */
static descent_status initial_cause(const descent_network *network, char *cause, size_t size) {
  double *norms = memory_allocate(network->n_layers, sizeof *norms, "the norms of the weights");
  if (!norms) return DESCENT_ERROR_MEMORY;
  for (int l = 0; l < network->n_layers; l++) {
    const struct network_layer *layer = &network->layers[l];
    const float *W = network->parameters + layer->at.W;
    for (int64_t i = 0; i < layer->n_out * layer->n_in; i++) norms[l] += (double)W[i] * (double)W[i];
    norms[l] = sqrt(norms[l]);
  }
  snprintf(cause, size, "the weights or inputs are too large (no update has been made yet)");
  ADVISE(cause, size, advice_initialisation(network, norms, 1, 1), advice_normalisation(network));
  free(norms);
  return DESCENT_OK;
}

descent_status diverge_explain(descent_trainer *trainer, const struct plan_step *step, int64_t epoch,
                               const double scalars[SCALAR_SLOTS]) {
  static const double large = 100; /* normalised inputs rarely exceed 10 */
  /* A whole step in micro-batches, each of which is finite on this rank: the buffers hold one of them, or none. */
  const bool is_sum = trainer->program.plan->train.count == 0 && step->micro_batches == 0;
  struct finding finding = {FOUND_NOTHING, 0, -1};
  double largest = 0;
  descent_status status = DESCENT_OK;
  trainer->evident = step->micro_batches > 0;
  if (!is_sum) {
    TRY(find_first(&trainer->program, step->rows, &finding));
    TRY(largest_input(&trainer->program, step->rows, &largest));
  }
  char where[96], cause[256], rows[160];
  name_rows(trainer, step, &finding, rows, sizeof rows);
  describe(&finding, is_sum ? 0 : scalars[SCALAR_LOSS], where, sizeof where); /* finite, as its parts are */
  if (finding.what == FOUND_INPUT || finding.what == FOUND_TARGET)
    snprintf(cause, sizeof cause, "the data contain NaN, infinite or extremely large values; remove them%s",
             finding.what == FOUND_INPUT && !trainer->network->fill
                 ? ", or fit the network's preprocessing, which fills in missing cells"
                 : "");
  else if (trainer->options.callbacks.loss && finding.what != FOUND_WEIGHT && finding.what != FOUND_ACTIVATION)
    snprintf(cause, sizeof cause,
             "the program's loss function gave a loss or a gradient that is not finite or too large");
  else if (trainer->network->normalize == DESCENT_NORMALIZE_NONE && largest > large)
    snprintf(cause, sizeof cause, "inputs of up to %.3g are not normalised; try standard normalisation", largest);
  else if (step->number == 1)
    TRY(initial_cause(trainer->network, cause, sizeof cause));
  else
    diverge_rate_cause(trainer, step->learning_rate, cause, sizeof cause);
  status = status_set(DESCENT_ERROR_DIVERGED, "training diverged at step %lld (epoch %lld, %s): %s; likely cause: %s",
                      (long long)step->number, (long long)epoch, rows, where, cause);
done:
  return status;
}
