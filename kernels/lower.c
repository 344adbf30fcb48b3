/* From operations to launches.
 *
 * Ranges of the same operations give the same bits. Operations give the same results together and one by one, but for
 * the order of some sums. Together, the column sums of dZ are computed while dZ is written if the operation that needs
 * them is in the range: a pass adds in the same order either way, a custom kernel in another. relu's derivative may come
 * from a mask that the forward product of the range wrote, and the norm adds the step to the metrics of the range. In a
 * captured range weights' operations may run on a second stream. Where one kernel computes several layers of the range,
 * or all of a training step (fusion.h), it is launched at the first operation that it covers. */
#include "lower.h"

#include "compiled.h"
#include "plan/operations.h"
#include "profile.h"

static void *data_of(const struct backend_program *program, int buffer) {
  return layout_data(&program->buffers, buffer);
}

static struct device_matrix matrix_of(const struct backend_program *program, int buffer, int64_t n) {
  return layout_matrix(&program->buffers, buffer, n);
}

static uint32_t threshold_of(double dropout) { return dropout > 0 ? rng_drop_threshold(dropout) : 0; }

/* ---- dense operations ---- */

/* No kernel behind the event starts before it. */
static descent_status record(const struct backend_program *program, const struct lower_marks *marks,
                             cudaEvent_t event) {
  descent_status status = DESCENT_OK;
  CUDA_TRY(cudaEventRecordWithFlags(event, program->device->stream, marks->flags));
  launch_next_plainly();
done:
  return status;
}

/* What a dense op is on these rows, and how the range computes it. */
static descent_status describe(struct backend_program *program, struct plan_range range, int index, int64_t rows,
                               const struct launch_place *place, struct custom_launch *launch, struct dense_way *way) {
  const struct step_state *const state = program->queue.state;
  dense_launch(&program->buffers, &program->plan->ops[index], rows, launch);
  if (launch->kind == OP_DENSE_FORWARD)
    launch->forward.pass.state = state;
  else if (launch->kind == OP_DENSE_BACKWARD_INPUT)
    launch->input.pass.state = state, launch->input.pass.scratch = place->scratch;
  else
    launch->weights.scratch = place->scratch;
  const descent_status status = choose_way(&program->choices, range, index, rows, way);
  fusion_redirect(&program->fusion, range, index, launch, way);
  return status;
}

/* The product, or all of the operation. */
static descent_status launch_dense(struct backend_program *program, int index, const struct custom_launch *launch,
                                   const struct dense_way *way, const struct launch_place *place,
                                   const struct lower_marks *marks) {
  struct product_operands operands = dense_operands(launch, way->fused, way->mask);
  descent_status status = DESCENT_OK;
  /* A product that was chosen later, for other rows, may need more: it is launched alone and takes the device's. */
  if (way->product && product_workspace(way->product) <= place->workspace_bytes) {
    operands.workspace = place->workspace;
    operands.workspace_bytes = place->workspace_bytes;
  }
  if (way->product)
    TRY(product_run(way->product, &operands, place->stream));
  else
    CUDA_TRY(custom_run(launch, way->variant, place->stream));
  if (marks && marks->products) TRY(record(program, marks, marks->products[index - marks->first]));
done:
  return status;
}

static descent_status lower_forward(struct backend_program *program, struct plan_range range, int index, int64_t rows,
                                    const struct lower_marks *marks) {
  const struct launch_place *const place = &program->beside.first;
  struct custom_launch launch;
  struct dense_way way;
  descent_status status;
  TRY(describe(program, range, index, rows, place, &launch, &way));
  TRY(launch_dense(program, index, &launch, &way, place, marks));
  struct forward_launch *const pass = &launch.forward.pass;
  const bool done_by_epilogue =
      !pass->threshold && !pass->Z.data &&
      (pass->activation == DESCENT_ACTIVATION_IDENTITY || pass->activation == DESCENT_ACTIVATION_RELU);
  if (!way.product || way.mask || (way.fused && done_by_epilogue)) goto done;
  if (way.fused) pass->bias = NULL;
  CUDA_TRY(launch_forward(pass, place->stream));
done:
  return status;
}

static descent_status lower_weights(struct backend_program *program, struct plan_range range, int index, int64_t rows,
                                    bool has_sums, const struct launch_place *place, const struct lower_marks *marks) {
  struct custom_launch launch;
  struct dense_way way;
  descent_status status;
  TRY(describe(program, range, index, rows, place, &launch, &way));
  TRY(launch_dense(program, index, &launch, &way, place, marks));
  const struct weights_launch *const w = &launch.weights;
  if (way.product && !way.fused && !has_sums)
    CUDA_TRY(launch_column_sums(w->dZ, rows, w->n_out, w->bias_gradient, w->scratch, place->stream));
done:
  return status;
}

/* The weights' op of the range after `index` that sums the columns of the dZ that `index` writes; -1: none. */
static int reader_of_sums(const struct plan *plan, struct plan_range range, int index) {
  for (int i = index + 1; i < range.first + range.count; i++) {
    const struct plan_op *op = &plan->ops[i];
    if (op->kind == OP_DENSE_BACKWARD_WEIGHTS && op->weights.dZ == plan->ops[index].input.dZ_below) return i;
    if (op->kind == OP_DENSE_BACKWARD_INPUT) return -1; /* may write to the same memory */
  }
  return -1;
}

/* *summed: the weights' op whose column sums are computed here; else unchanged. A mask leaves no pass for them. */
static descent_status lower_input(struct backend_program *program, struct plan_range range, int index, int64_t rows,
                                  const struct lower_marks *marks, int *summed) {
  const struct plan *const plan = program->plan;
  const int reader = reader_of_sums(plan, range, index);
  const struct launch_place *const place = &program->beside.first;
  struct custom_launch launch;
  struct dense_way way, reading = {.fused = true};
  descent_status status;
  TRY(describe(program, range, index, rows, place, &launch, &way));
  if (reader >= 0 && !way.mask) TRY(choose_way(&program->choices, range, reader, rows, &reading));
  struct backward_launch *const pass = &launch.input.pass;
  if (reading.product && !reading.fused) {
    const struct plan_dense_backward_weights *const weights = &plan->ops[reader].weights;
    pass->bias_gradient = layout_flat(&program->buffers, weights->gradients, weights->b);
    *summed = reader;
  }
  TRY(launch_dense(program, index, &launch, &way, place, marks));
  const bool is_linear = pass->activation == DESCENT_ACTIVATION_IDENTITY && !pass->threshold;
  if (!way.product || way.mask || (is_linear && !pass->bias_gradient)) goto done;
  CUDA_TRY(launch_backward(pass, place->stream));
done:
  return status;
}

/* ---- the other operations ---- */

static struct gather_launch gather_of(const struct backend_program *program, const struct plan_gather *o, int64_t rows,
                                      bool queued, const double *bad_step) {
  const bool targets = o->source_y != PLAN_NONE;
  double *scalars = data_of(program, o->scalars);
  return (struct gather_launch){
      .state = program->queue.state,
      .queue = queued ? program->queue.steps : NULL,
      .bad_step = bad_step,
      .sources = program->sources.table,
      .fill = data_of(program, o->fill),
      .shift = data_of(program, o->shift),
      .scale = data_of(program, o->scale),
      .y_shift = data_of(program, o->y_shift),
      .y_scale = data_of(program, o->y_scale),
      .class_weight = data_of(program, o->class_weight),
      .X = matrix_of(program, o->X, o->n_x),
      .y = targets ? data_of(program, o->y) : NULL,
      .w = targets ? data_of(program, o->w) : NULL,
      .weight_sum = targets && scalars ? scalars + SCALAR_WEIGHT_SUM : NULL,
      .classes = o->class_weight == PLAN_NONE ? 0 : program->plan->buffers[o->class_weight].cols,
      .n_x = o->n_x,
      .n_y = o->n_y,
      .rows = rows,
      .shuffle = o->shuffle,
      .scratch = program->work.scratch,
  };
}

static cudaError_t lower_loss(struct backend_program *program, const struct plan_loss *o, int64_t rows,
                              double *scalars) {
  const struct loss_launch launch = {
      .state = program->queue.state,
      .A = matrix_of(program, o->A, o->n),
      .Z = matrix_of(program, o->Z, o->n),
      .y = data_of(program, o->y),
      .w = data_of(program, o->w),
      .scalars = scalars,
      .dZ = matrix_of(program, o->dZ, o->n),
      .rows = rows,
      .n = o->n,
      .loss = o->loss,
      .activation = o->activation,
      .label_smoothing = (float)o->label_smoothing,
      .scratch = program->work.scratch,
  };
  return launch_loss(&launch, program->device->stream);
}

static cudaError_t lower_backward_output(struct backend_program *program, const struct plan_backward_output *o,
                                         int64_t rows) {
  const struct backward_output_launch launch = {
      .state = program->queue.state,
      .dA = data_of(program, o->dA),
      .A = matrix_of(program, o->A, o->n),
      .Z = matrix_of(program, o->Z, o->n),
      .dZ = matrix_of(program, o->dZ, o->n),
      .rows = rows,
      .n = o->n,
      .activation = o->activation,
  };
  return launch_backward_output(&launch, program->device->stream);
}

static cudaError_t lower_accumulate(struct backend_program *program, const struct plan_accumulate *o) {
  const struct accumulate_launch launch = {
      .gradients = data_of(program, o->gradients),
      .kept_gradients = data_of(program, o->kept_gradients),
      .pieces = program->work.pieces,
      .n_pieces = program->work.n_pieces,
      .adds = o->adds,
  };
  return launch_accumulate(&launch, program->device->stream);
}

static cudaError_t lower_combine(struct backend_program *program, const struct plan_combine *o) {
  const struct combine_launch launch = {
      .state = program->queue.state,
      .gradients = data_of(program, o->gradients),
      .partial_gradients = data_of(program, o->partial_gradients),
      .n = program->buffers.flat.device_count,
      .loss = (double *)data_of(program, o->scalars) + SCALAR_LOSS,
      .partial_losses = data_of(program, o->partial_losses),
      .pieces = program->work.pieces,
      .n_pieces = program->work.n_pieces,
  };
  return launch_combine(&launch, program->device->stream);
}

/* The metrics' op of the range after the norm `index`, of the same scalars; -1: none. The update between the two leaves
 * the scalars as they are. */
static int metrics_of(const struct plan *plan, struct plan_range range, int index) {
  for (int i = index + 1; i < range.first + range.count; i++)
    if (plan->ops[i].kind == OP_METRICS && plan->ops[i].metrics.scalars == plan->ops[index].norm.scalars) return i;
  return -1;
}

static struct norm_launch norm_of(const struct backend_program *program, const struct plan_gradient_norm *o,
                                  bool metrics) {
  return (struct norm_launch){
      .state = program->queue.state,
      .gradients = data_of(program, o->gradients),
      .pieces = program->work.pieces,
      .n_pieces = program->work.n_pieces,
      .layers = program->plan->layers,
      .scalars = data_of(program, o->scalars),
      .layer_statistics = data_of(program, o->layer_statistics),
      .clip_norm = o->clip_norm,
      .bad_parameters = program->work.bad_parameters,
      .metrics = metrics,
      .scratch = program->work.scratch,
  };
}

static struct update_launch update_of(const struct backend_program *program, const struct plan_update *o) {
  return (struct update_launch){
      .state = program->queue.state,
      .parameters = data_of(program, o->parameters),
      .working = o->parameters == program->buffers.parameters ? program->buffers.working : NULL,
      .gradients = data_of(program, o->gradients),
      .moment1 = data_of(program, o->moment1),
      .moment2 = data_of(program, o->moment2),
      .pieces = program->work.pieces,
      .biases = program->work.biases,
      .n_pieces = program->work.n_pieces,
      .layers = program->plan->layers,
      .scalars = data_of(program, o->scalars),
      .layer_statistics = data_of(program, o->layer_statistics),
      .rule = update_rule_of(o),
      .coefficients = update_coefficients_of_f32(o),
      .measure = o->measure,
      .bad_parameters = program->work.bad_parameters,
      .scratch = program->work.scratch,
  };
}

static cudaError_t lower_trust_ratio(const struct backend_program *program, const struct plan_update *o) {
  const struct trust_launch launch = {
      .update = update_of(program, o),
      .trust_coefficient = o->trust_coefficient,
      .weight_decay = o->weight_decay,
  };
  return launch_trust_ratio(&launch, program->device->stream);
}

static cudaError_t lower_statistics(struct backend_program *program, const struct plan_op *op, int64_t rows) {
  const struct plan_statistics *o = &op->statistics;
  const struct statistics_launch launch = {
      .state = program->queue.state,
      .A = matrix_of(program, o->A, o->n),
      .Z = matrix_of(program, o->Z, o->n),
      .layer_statistics = (double *)data_of(program, o->layer_statistics) + (size_t)(op->layer - 1) * LAYER_SLOTS,
      .active = data_of(program, o->active),
      .rows = rows,
      .n = o->n,
      .activation = o->activation,
      .seed = program->plan->seed,
      .layer = (uint32_t)op->layer,
      .threshold = threshold_of(o->dropout),
      .keep_probability = (float)formula_keep_probability(o->dropout),
      .scratch = program->work.scratch,
  };
  return launch_statistics(&launch, program->device->stream);
}

static cudaError_t lower_output(struct backend_program *program, const struct plan_output *o, int64_t rows) {
  const struct output_launch launch = {
      .state = program->queue.state,
      .A = matrix_of(program, o->A, o->n),
      .y_shift = data_of(program, o->y_shift),
      .y_scale = data_of(program, o->y_scale),
      .P = data_of(program, o->P),
      .rows = rows,
      .n = o->n,
      .loss = o->loss,
  };
  return launch_output(&launch, program->device->stream);
}

/* ---- ranges ---- */

static void enter(const struct plan_op *op) {
  char name[64];
  plan_op_name(op, name, sizeof name);
  module_operation = op;
  profile_begin(name);
}

static void leave(void) {
  if (module_operation) profile_end();
  module_operation = NULL;
}

const double *lower_bad_step(const struct backend_program *program, struct plan_range range) {
  for (int i = range.first; i < range.first + range.count; i++) {
    const struct plan_op *op = &program->plan->ops[i];
    if (op->kind == OP_GRADIENT_NORM) return (const double *)data_of(program, op->norm.scalars) + SCALAR_BAD_STEP;
  }
  return NULL;
}

/* What the operations of a range tell those behind them. */
struct lowering {
  struct plan_range range;
  int64_t rows;
  bool queued;
  const struct lower_marks *marks;
  int summed;  /* the weights' op whose column sums are already computed; -1: none */
  int counted; /* the metrics' op that the norm's kernel has done; -1: none */
};

static descent_status lower_operation(struct backend_program *program, struct lowering *l, int index,
                                      const struct launch_place *place) {
  const struct plan_op *const op = &program->plan->ops[index];
  const struct plan_range range = l->range;
  const cudaStream_t stream = program->device->stream;
  struct gather_launch gather;
  struct norm_launch norm;
  struct update_launch update;
  descent_status status = DESCENT_OK;
  switch (op->kind) {
    case OP_GATHER:
      gather = gather_of(program, &op->gather, l->rows, l->queued, lower_bad_step(program, range));
      CUDA_TRY(launch_gather(&gather, stream));
      break;
    case OP_DENSE_FORWARD: TRY(lower_forward(program, range, index, l->rows, l->marks)); break;
    case OP_LOSS: CUDA_TRY(lower_loss(program, &op->loss, l->rows, data_of(program, op->loss.scalars))); break;
    case OP_BACKWARD_OUTPUT: CUDA_TRY(lower_backward_output(program, &op->output_slope, l->rows)); break;
    case OP_DENSE_BACKWARD_WEIGHTS:
      TRY(lower_weights(program, range, index, l->rows, l->summed == index, place, l->marks));
      break;
    case OP_DENSE_BACKWARD_INPUT: TRY(lower_input(program, range, index, l->rows, l->marks, &l->summed)); break;
    case OP_ACCUMULATE: CUDA_TRY(lower_accumulate(program, &op->accumulate)); break;
    case OP_COMBINE: CUDA_TRY(lower_combine(program, &op->combine)); break;
    case OP_ALLREDUCE: TRY(ranks_sum(&program->ranks, &program->buffers, &op->allreduce, stream)); break;
    case OP_GRADIENT_NORM:
      l->counted = metrics_of(program->plan, range, index);
      norm = norm_of(program, &op->norm, l->counted >= 0);
      CUDA_TRY(launch_norm(&norm, stream));
      break;
    case OP_TRUST_RATIO: CUDA_TRY(lower_trust_ratio(program, &op->update)); break;
    case OP_UPDATE:
      update = update_of(program, &op->update);
      CUDA_TRY(launch_update(&update, stream));
      break;
    case OP_STATISTICS: CUDA_TRY(lower_statistics(program, op, l->rows)); break;
    case OP_METRICS:
      if (l->counted != index) CUDA_TRY(launch_metrics(data_of(program, op->metrics.scalars), stream));
      break;
    case OP_OUTPUT: CUDA_TRY(lower_output(program, &op->output, l->rows)); break;
    case OP_KINDS: TRY(module_status(DESCENT_ERROR_INTERNAL, "unknown operation kind %d", (int)op->kind));
  }
done:
  return status;
}

/* What surrounds the layers of the range, for a launch that does all of it. */
static void list_whole(const struct backend_program *program, const struct lowering *l, struct whole_step *whole) {
  const struct plan *const plan = program->plan;
  const double *const bad_step = lower_bad_step(program, l->range);
  for (int i = l->range.first; i < l->range.first + l->range.count; i++) {
    const struct plan_op *const op = &plan->ops[i];
    if (op->kind == OP_GATHER) whole->gather = gather_of(program, &op->gather, l->rows, l->queued, bad_step);
    if (op->kind == OP_GRADIENT_NORM) whole->norm = norm_of(program, &op->norm, metrics_of(plan, l->range, i) >= 0);
    if (op->kind == OP_UPDATE) whole->update = update_of(program, &op->update);
  }
}

/* An op that the range's launch covers: the launch at the first of them, nothing at the others. */
static descent_status lower_covered(struct backend_program *program, const struct lowering *l, int index) {
  const struct lower_marks *const marks = l->marks;
  const bool is_whole = fusion_takes_whole(&program->fusion, l->range);
  struct whole_step whole;
  descent_status status = DESCENT_OK;
  if (index == fusion_first(&program->fusion, l->range)) {
    if (is_whole) list_whole(program, l, &whole);
    CUDA_TRY(fusion_launch(fusion_of(&program->fusion, l->range), program->queue.state, is_whole ? &whole : NULL,
                           program->device->stream));
  }
  if (marks && marks->products && plan_has_product(&program->plan->ops[index]))
    TRY(record(program, marks, marks->products[index - marks->first]));
done:
  return status;
}

bool lower_has(const struct plan *plan, struct plan_range range, enum plan_op_kind kind) {
  for (int i = range.first; i < range.first + range.count; i++)
    if (plan->ops[i].kind == kind) return true;
  return false;
}

/* An operation on a step of no rows, outside a captured range: what does not depend on the rows is written. */
static descent_status lower_without_rows(struct backend_program *program, struct lowering *l, int index,
                                         const struct launch_place *place) {
  const struct plan_op *const op = &program->plan->ops[index];
  const struct plan_dense_backward_weights *const o = &op->weights;
  const struct device_buffers *const buffers = &program->buffers;
  descent_status status = DESCENT_OK;
  if (op->kind == OP_DENSE_BACKWARD_WEIGHTS) {
    const int64_t dW = o->n_out * flat_ld(&buffers->flat, o->W, o->n_in);
    CUDA_TRY(cudaMemsetAsync(layout_flat(buffers, o->gradients, o->W), 0, (size_t)dW * sizeof(float), place->stream));
    CUDA_TRY(
        cudaMemsetAsync(layout_flat(buffers, o->gradients, o->b), 0, (size_t)o->n_out * sizeof(float), place->stream));
  } else if (!plan_has_product(op) && op->kind != OP_BACKWARD_OUTPUT && op->kind != OP_OUTPUT) {
    l->rows = choose_captured_rows(program->plan, index); /* of which none is valid */
    TRY(lower_operation(program, l, index, place));
  }
done:
  return status;
}

descent_status lower_range(struct backend_program *program, struct plan_range range, int64_t rows, bool queued,
                           const struct lower_marks *marks) {
  const bool fused = fusion_of(&program->fusion, range) != NULL;
  const bool concurrent = queued && !marks && !fused; /* marks are for operations one after another */
  const struct launch_place *place = &program->beside.first;
  struct lowering l = {range, rows, queued, marks, .summed = -1, .counted = -1};
  descent_status status = DESCENT_OK;
  if (queued && !lower_has(program->plan, range, OP_GATHER))
    CUDA_TRY(launch_fetch(program->queue.state, program->queue.steps, program->device->stream));
  if (marks && marks->begin) TRY(record(program, marks, marks->begin));
  for (int i = range.first; i < range.first + range.count; i++) {
    enter(&program->plan->ops[i]);
    if (concurrent) TRY(beside_order(&program->beside, range, i, &place));
    if (rows == 0)
      TRY(lower_without_rows(program, &l, i, place));
    else if (fusion_covers(&program->fusion, range, i))
      TRY(lower_covered(program, &l, i));
    else
      TRY(lower_operation(program, &l, i, place));
    if (concurrent) TRY(beside_launched(&program->beside, i, place));
    if (marks && marks->operations) TRY(record(program, marks, marks->operations[i - marks->first]));
    if (marks && marks->wait) CUDA_TRY(cudaStreamSynchronize(program->device->stream));
    leave();
  }
  if (concurrent) TRY(beside_join(&program->beside));
done:
  leave();
  return status;
}

/* An input's op sums no columns here, since the range ends with it: gradients stay as they are, and so does the loss. */
descent_status lower_values(struct backend_program *program, struct plan_range range, int64_t rows) {
  const struct plan *const plan = program->plan;
  int summed = -1;
  descent_status status = DESCENT_OK;
  for (int i = range.first; i < range.first + range.count; i++) {
    const struct plan_op *const op = &plan->ops[i];
    const struct plan_range until = {range.first, i + 1 - range.first};
    enter(op);
    if (op->kind == OP_DENSE_FORWARD) TRY(lower_forward(program, range, i, rows, NULL));
    if (op->kind == OP_LOSS) {
      CUDA_TRY(cudaMemcpyAsync(program->queue.scalars, data_of(program, op->loss.scalars),
                               SCALAR_SLOTS * sizeof(double), cudaMemcpyDeviceToDevice, program->device->stream));
      CUDA_TRY(lower_loss(program, &op->loss, rows, program->queue.scalars));
    }
    if (op->kind == OP_DENSE_BACKWARD_INPUT) TRY(lower_input(program, until, i, rows, NULL, &summed));
    leave();
  }
done:
  leave();
  return status;
}

descent_status lower_product(struct backend_program *program, int index, int64_t rows) {
  const struct plan_range all = {0, program->plan->n_ops};
  struct custom_launch launch;
  struct dense_way way;
  descent_status status;
  if (index < 0 || index >= program->plan->n_ops || !plan_has_product(&program->plan->ops[index]))
    return module_status(DESCENT_ERROR_ARGUMENT, "operation %d has no matrix product", index);
  TRY(describe(program, all, index, rows, &program->beside.first, &launch, &way));
  TRY(launch_dense(program, index, &launch, &way, &program->beside.first, NULL));
done:
  return status;
}
