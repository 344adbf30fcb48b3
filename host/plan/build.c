/* Builds the plan of a network and its training options: which buffers exist and in which order the operations run.
 * Invariant: within a range every buffer is written before it is read, except state, sources and constants. */
#include "plan/build.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/communicator.h"
#include "core/memory.h"
#include "core/status.h"
#include "core/terms.h"
#include "plan/operations.h"

/* Numbers of the buffers, by layer, from which the ranges are built. */
struct builder {
  const descent_network *network;
  const descent_train_options *options; /* NULL: no train ranges */
  descent_precision precision;
  descent_fusion fusion;
  unsigned parts; /* of enum plan_part */
  struct plan *plan;
  int64_t max_ops; /* room in plan->ops */
  struct plan_handles at;
  int *A, *Z, *dZ; /* (layers + 1); A[0] = X, dZ[0] = dX */
  int *active;     /* (layers + 1); with micro-batches */
  int64_t n_y;     /* columns of y: the class index, or one per output */
  int64_t n_out;   /* outputs K */
};

static bool has_part(const struct builder *s, enum plan_part part) { return (s->parts & (unsigned)part) != 0; }

static bool is_classifier(const descent_network *network) { return !loss_is_regression(network->loss); }

/* ---- buffers ---------------------------------------------------------------------------------------------------- */

/* Appends the buffer "name", or "name[index]" for index >= 0. plan->buffers must have room for it. */
static descent_status add_buffer(struct plan *plan, enum plan_storage storage, enum plan_type type, int64_t rows,
                                 int64_t cols, const char *name, int index, int *number) {
  int64_t count, bytes;
  if (!size_product(rows, cols, &count) || !size_product(count, (int64_t)sizeof(double), &bytes))
    return status_set(DESCENT_ERROR_MEMORY, "buffer %s: %lld x %lld values exceed the address space", name,
                      (long long)rows, (long long)cols);
  struct plan_buffer *buffer = &plan->buffers[plan->n_buffers];
  *buffer = (struct plan_buffer){.storage = storage, .type = type, .rows = rows, .cols = cols};
  if (index < 0)
    snprintf(buffer->name, sizeof buffer->name, "%s", name);
  else
    snprintf(buffer->name, sizeof buffer->name, "%s[%d]", name, index);
  *number = plan->n_buffers++;
  return DESCENT_OK;
}

static descent_status add_sources(struct builder *s) {
  descent_status status;
  struct plan_handles *at = &s->at;
  TRY(add_buffer(s->plan, PLAN_SOURCE, PLAN_F32, 0, s->network->inputs, "source_X", -1, &at->source_X));
  TRY(add_buffer(s->plan, PLAN_SOURCE, PLAN_F32, 0, s->n_y, "source_y", -1, &at->source_y));
  TRY(add_buffer(s->plan, PLAN_SOURCE, PLAN_F32, 0, 1, "source_w", -1, &at->source_w));
  TRY(add_buffer(s->plan, PLAN_SOURCE, PLAN_I64, 0, 1, "source_index", -1, &at->source_index));
done:
  return status;
}

static descent_status add_state(struct builder *s) {
  const descent_network *network = s->network;
  const descent_train_options *options = s->options;
  const int64_t n = network->n_parameters;
  struct plan *plan = s->plan;
  struct plan_handles *at = &s->at;
  descent_status status = DESCENT_OK;
  if (network->fill) TRY(add_buffer(plan, PLAN_STATE, PLAN_F32, 1, network->inputs, "fill", -1, &at->fill));
  if (network->normalize != DESCENT_NORMALIZE_NONE) {
    TRY(add_buffer(plan, PLAN_STATE, PLAN_F32, 1, network->inputs, "shift", -1, &at->shift));
    TRY(add_buffer(plan, PLAN_STATE, PLAN_F32, 1, network->inputs, "scale", -1, &at->scale));
  }
  if (!is_classifier(network)) {
    TRY(add_buffer(plan, PLAN_STATE, PLAN_F32, 1, s->n_y, "y_shift", -1, &at->y_shift));
    TRY(add_buffer(plan, PLAN_STATE, PLAN_F32, 1, s->n_y, "y_scale", -1, &at->y_scale));
  }
  TRY(add_buffer(plan, PLAN_STATE, PLAN_F32, 1, n, "parameters", -1, &at->parameters));
  TRY(add_buffer(plan, PLAN_STATE, PLAN_F64, 1, SCALAR_SLOTS, "scalars", -1, &at->scalars));
  if (!options) goto done;
  if (is_classifier(network) && (options->class_weights || options->balance_classes))
    TRY(add_buffer(plan, PLAN_STATE, PLAN_F32, 1, network->classes, "class_weight", -1, &at->class_weight));
  TRY(add_buffer(plan, PLAN_STATE, PLAN_F32, 1, n, "gradients", -1, &at->gradients));
  if (has_part(s, PLAN_PART_ACCUMULATE))
    TRY(add_buffer(plan, PLAN_STATE, PLAN_F32, 1, n, "kept_gradients", -1, &at->kept_gradients));
  if (has_part(s, PLAN_PART_MICRO_BATCHES)) {
    const int64_t parts = options_own_micro_batches(options);
    const int levels = plan_combine_levels(parts);
    if (parts > 1) {
      TRY(add_buffer(plan, PLAN_STATE, PLAN_F32, levels, n, "partial_gradients", -1, &at->partial_gradients));
      TRY(add_buffer(plan, PLAN_STATE, PLAN_F64, 1, levels, "partial_losses", -1, &at->partial_losses));
    }
    for (int l = 1; l <= network->n_layers; l++)
      TRY(add_buffer(plan, PLAN_STATE, PLAN_F32, 1, network->layers[l - 1].n_out, "active", l, &s->active[l]));
  }
  const enum update_rule rule =
      update_rule_from(options->optimizer.kind, options->optimizer.momentum > 0, options->optimizer.nesterov);
  const struct update_moments moments = update_moments_of(rule);
  if (moments.moment1) TRY(add_buffer(plan, PLAN_STATE, PLAN_F32, 1, n, "moment1", -1, &at->moment1));
  if (moments.moment2) TRY(add_buffer(plan, PLAN_STATE, PLAN_F32, 1, n, "moment2", -1, &at->moment2));
  TRY(add_buffer(plan, PLAN_STATE, PLAN_F64, network->n_layers, LAYER_SLOTS, "layer_statistics", -1,
                 &at->layer_statistics));
done:
  return status;
}

/* Only two adjacent dZ are in use at a time. */
static int slot_of_dZ(int layer) { return 1 + layer % 2; }

/* dA, and dX in the memory of dZ[2], which is no longer needed then. */
static descent_status add_backward(struct builder *s) {
  struct plan *plan = s->plan;
  descent_status status = DESCENT_OK;
  if (has_part(s, PLAN_PART_BACKWARD))
    TRY(add_buffer(plan, PLAN_BATCH, PLAN_F32, plan->batch, s->n_out, "dA", -1, &s->at.dA));
  if (!has_part(s, PLAN_PART_INPUT_GRADIENT)) goto done;
  TRY(add_buffer(plan, PLAN_BATCH, PLAN_F32, plan->batch, s->network->inputs, "dX", -1, &s->at.dX));
  plan->buffers[s->at.dX].slot = slot_of_dZ(0);
  s->dZ[0] = s->at.dX;
done:
  return status;
}

static descent_status add_batch(struct builder *s) {
  const descent_network *network = s->network;
  struct plan *plan = s->plan;
  const int64_t batch = plan->batch;
  descent_status status;
  TRY(add_buffer(plan, PLAN_BATCH, PLAN_F32, batch, network->inputs, "X", -1, &s->at.X));
  TRY(add_buffer(plan, PLAN_BATCH, PLAN_F32, batch, s->n_y, "y", -1, &s->at.y));
  TRY(add_buffer(plan, PLAN_BATCH, PLAN_F32, batch, 1, "w", -1, &s->at.w));
  s->A[0] = s->at.X;
  for (int l = 1; l <= network->n_layers; l++) {
    const struct network_layer *layer = &network->layers[l - 1];
    TRY(add_buffer(plan, PLAN_BATCH, PLAN_F32, batch, layer->n_out, "A", l, &s->A[l]));
    if (slope_is_from_z(layer->activation))
      TRY(add_buffer(plan, PLAN_BATCH, PLAN_F32, batch, layer->n_out, "Z", l, &s->Z[l]));
    if (!s->options && !has_part(s, PLAN_PART_BACKWARD)) continue;
    TRY(add_buffer(plan, PLAN_BATCH, PLAN_F32, batch, layer->n_out, "dZ", l, &s->dZ[l]));
    plan->buffers[s->dZ[l]].slot = slot_of_dZ(l);
  }
  s->at.A = s->A[network->n_layers];
  TRY(add_backward(s));
  TRY(add_buffer(plan, PLAN_BATCH, PLAN_F32, batch, s->n_out, "P", -1, &s->at.P));
done:
  return status;
}

/* ---- operations ------------------------------------------------------------------------------------------------- */

static struct plan_op *append(const struct builder *s, enum plan_op_kind kind, int layer) {
  assert(s->plan->n_ops < s->max_ops);
  struct plan_op *op = &s->plan->ops[s->plan->n_ops++];
  *op = (struct plan_op){.kind = kind, .layer = layer};
  return op;
}

static void append_gather(const struct builder *s, bool targets, bool training) {
  const struct plan_handles *at = &s->at;
  append(s, OP_GATHER, 0)->gather = (struct plan_gather){
      .source_X = at->source_X,
      .source_y = targets ? at->source_y : PLAN_NONE,
      .source_w = targets ? at->source_w : PLAN_NONE,
      .source_index = at->source_index,
      .fill = at->fill,
      .shift = at->shift,
      .scale = at->scale,
      .y_shift = targets ? at->y_shift : PLAN_NONE,
      .y_scale = targets ? at->y_scale : PLAN_NONE,
      .class_weight = training ? at->class_weight : PLAN_NONE,
      .X = at->X,
      .y = targets ? at->y : PLAN_NONE,
      .w = targets ? at->w : PLAN_NONE,
      .scalars = targets ? at->scalars : PLAN_NONE,
      .n_x = s->network->inputs,
      .n_y = s->n_y,
      .shuffle = training,
  };
}

/* Dropout applies to hidden layers, and only in training. */
static double layer_dropout(const struct builder *s, int layer) {
  return s->options && layer >= 1 && layer < s->network->n_layers ? s->options->dropout : 0;
}

static void append_forward(const struct builder *s, bool training) {
  for (int l = 1; l <= s->network->n_layers; l++) {
    const struct network_layer *layer = &s->network->layers[l - 1];
    append(s, OP_DENSE_FORWARD, l)->forward = (struct plan_dense_forward){
        .A_in = s->A[l - 1],
        .parameters = s->at.parameters,
        .Z = s->Z[l],
        .A = s->A[l],
        .W = layer->at.W,
        .b = layer->at.b,
        .n_in = layer->n_in,
        .n_out = layer->n_out,
        .activation = layer->activation,
        .dropout = training ? layer_dropout(s, l) : 0,
    };
  }
}

static void append_statistics(const struct builder *s) {
  for (int l = 1; l <= s->network->n_layers; l++) {
    const struct network_layer *layer = &s->network->layers[l - 1];
    append(s, OP_STATISTICS, l)->statistics = (struct plan_statistics){
        .A = s->A[l],
        .Z = s->Z[l],
        .layer_statistics = s->at.layer_statistics,
        .active = s->active[l],
        .n = layer->n_out,
        .activation = layer->activation,
        .dropout = layer_dropout(s, l),
    };
  }
}

static void append_loss(const struct builder *s, bool training) {
  const int L = s->network->n_layers;
  append(s, OP_LOSS, L)->loss = (struct plan_loss){
      .A = s->A[L],
      .Z = s->Z[L],
      .y = s->at.y,
      .w = s->at.w,
      .scalars = s->at.scalars,
      .dZ = training ? s->dZ[L] : PLAN_NONE,
      .n = s->n_out,
      .loss = s->network->loss,
      .activation = s->network->layers[L - 1].activation,
      .label_smoothing = training && is_classifier(s->network) ? s->options->label_smoothing : 0,
  };
}

static void append_weights(const struct builder *s, int l) {
  const struct network_layer *layer = &s->network->layers[l - 1];
  append(s, OP_DENSE_BACKWARD_WEIGHTS, l)->weights = (struct plan_dense_backward_weights){
      .dZ = s->dZ[l],
      .A_in = s->A[l - 1],
      .gradients = s->at.gradients,
      .W = layer->at.W,
      .b = layer->at.b,
      .n_in = layer->n_in,
      .n_out = layer->n_out,
  };
}

static void append_input(const struct builder *s, int l) {
  const struct network_layer *layer = &s->network->layers[l - 1];
  append(s, OP_DENSE_BACKWARD_INPUT, l)->input = (struct plan_dense_backward_input){
      .dZ = s->dZ[l],
      .parameters = s->at.parameters,
      .A = s->A[l - 1],
      .Z = s->Z[l - 1],
      .dZ_below = s->dZ[l - 1],
      .W = layer->at.W,
      .n_in = layer->n_in,
      .n_out = layer->n_out,
      .activation = l > 1 ? s->network->layers[l - 2].activation : DESCENT_ACTIVATION_IDENTITY,
      .dropout = layer_dropout(s, l - 1),
  };
}

/* From dZ[L] to the gradients, if there are any, and dZ[1]. dJ/dX is not needed in training. */
static void append_backward(const struct builder *s) {
  for (int l = s->network->n_layers; l >= 1; l--) {
    if (s->at.gradients != PLAN_NONE) append_weights(s, l);
    if (l > 1) append_input(s, l);
  }
}

static void append_backward_output(const struct builder *s) {
  const int L = s->network->n_layers;
  append(s, OP_BACKWARD_OUTPUT, L)->output_slope = (struct plan_backward_output){
      .dA = s->at.dA,
      .A = s->A[L],
      .Z = s->Z[L],
      .dZ = s->dZ[L],
      .n = s->n_out,
      .activation = s->network->layers[L - 1].activation,
  };
}

static void append_accumulate(const struct builder *s, bool adds) {
  append(s, OP_ACCUMULATE, 0)->accumulate = (struct plan_accumulate){
      .gradients = s->at.gradients,
      .kept_gradients = s->at.kept_gradients,
      .n = s->network->n_parameters,
      .adds = adds,
  };
}

static void append_combine(const struct builder *s) {
  append(s, OP_COMBINE, 0)->combine = (struct plan_combine){
      .gradients = s->at.gradients,
      .partial_gradients = s->at.partial_gradients,
      .scalars = s->at.scalars,
      .partial_losses = s->at.partial_losses,
      .n = s->network->n_parameters,
      .levels = plan_combine_levels(options_own_micro_batches(s->options)),
      .micro_batches = options_own_micro_batches(s->options),
  };
}

static void append_allreduce(const struct builder *s) {
  append(s, OP_ALLREDUCE, 0)->allreduce =
      (struct plan_allreduce){.gradients = s->at.gradients, .scalars = s->at.scalars, .n = s->network->n_parameters};
}

static void append_norm(const struct builder *s) {
  append(s, OP_GRADIENT_NORM, 0)->norm = (struct plan_gradient_norm){
      .gradients = s->at.gradients,
      .scalars = s->at.scalars,
      .layer_statistics = s->at.layer_statistics,
      .clip_norm = s->options->optimizer.clip_norm,
  };
}

static void append_update(const struct builder *s, bool measure) {
  const descent_train_options *o = s->options;
  const struct plan_handles *at = &s->at;
  const struct plan_update update = {
      .parameters = at->parameters,
      .gradients = at->gradients,
      .moment1 = at->moment1,
      .moment2 = at->moment2,
      .scalars = at->scalars,
      .layer_statistics = at->layer_statistics,
      .n = s->network->n_parameters,
      .optimizer = o->optimizer.kind,
      .momentum = o->optimizer.momentum,
      .beta1 = o->optimizer.beta1,
      .beta2 = o->optimizer.beta2,
      .rho = o->optimizer.rho,
      .epsilon = o->optimizer.epsilon,
      .weight_decay = o->optimizer.weight_decay,
      .l2 = o->optimizer.l2,
      .trust_coefficient = o->optimizer.trust_coefficient,
      .nesterov = o->optimizer.nesterov,
      .measure = measure,
  };
  if (update_has_trust_ratio(update_rule_of(&update))) append(s, OP_TRUST_RATIO, 0)->update = update;
  append(s, OP_UPDATE, 0)->update = update;
}

static void append_metrics(const struct builder *s) {
  append(s, OP_METRICS, 0)->metrics = (struct plan_metrics){.scalars = s->at.scalars};
}

static void append_output(const struct builder *s) {
  append(s, OP_OUTPUT, 0)->output = (struct plan_output){
      .A = s->A[s->network->n_layers],
      .y_shift = s->at.y_shift,
      .y_scale = s->at.y_scale,
      .P = s->at.P,
      .n = s->n_out,
      .loss = s->network->loss,
  };
}

/* The operations from `first` to the last one appended. */
static struct plan_range range_from(const struct builder *s, int first) {
  return (struct plan_range){first, s->plan->n_ops - first};
}

/* A training step, and its parts. */
struct step_ranges {
  struct plan_range whole, forward, gradient, update;
};

static struct step_ranges append_train(const struct builder *s, bool with_statistics) {
  struct step_ranges ranges;
  const int first = s->plan->n_ops;
  append_gather(s, true, true);
  append_forward(s, true);
  if (with_statistics) append_statistics(s);
  ranges.forward = range_from(s, first);
  append_loss(s, true);
  append_backward(s);
  const int norm = s->plan->n_ops;
  append_norm(s);
  ranges.gradient = range_from(s, first);
  append_update(s, with_statistics);
  append_metrics(s);
  ranges.update = range_from(s, norm);
  ranges.whole = range_from(s, first);
  return ranges;
}

/* One micro-batch. */
static struct plan_range append_micro_batch(const struct builder *s, bool with_statistics) {
  const int first = s->plan->n_ops;
  append_gather(s, true, true);
  append_forward(s, true);
  if (with_statistics) append_statistics(s);
  append_loss(s, true);
  append_backward(s);
  if (s->at.partial_gradients != PLAN_NONE) append_combine(s);
  return range_from(s, first);
}

static struct plan_range append_finish(const struct builder *s, bool with_statistics) {
  const int first = s->plan->n_ops;
  if (s->plan->communicator) append_allreduce(s);
  append_norm(s);
  append_update(s, with_statistics);
  append_metrics(s);
  return range_from(s, first);
}

static void append_parts(const struct builder *s) {
  struct plan *plan = s->plan;
  int first = plan->n_ops;
  if (has_part(s, PLAN_PART_BACKWARD)) {
    append_backward_output(s);
    append_backward(s);
    plan->backward = range_from(s, first);
  }
  first = plan->n_ops;
  if (has_part(s, PLAN_PART_INPUT_GRADIENT)) {
    append_input(s, 1);
    plan->input_gradient = range_from(s, first);
  }
  if (!has_part(s, PLAN_PART_ACCUMULATE)) return;
  append_accumulate(s, false);
  append_accumulate(s, true);
  plan->keep_gradients = (struct plan_range){plan->n_ops - 2, 1};
  plan->add_gradients = (struct plan_range){plan->n_ops - 1, 1};
}

static struct plan_range append_evaluate(const struct builder *s, bool targets) {
  const int first = s->plan->n_ops;
  append_gather(s, targets, false);
  append_forward(s, false);
  if (targets) {
    append_loss(s, false);
    append_metrics(s);
  }
  append_output(s);
  return range_from(s, first);
}

/* ---- building --------------------------------------------------------------------------------------------------- */

static descent_status allocate(struct builder *s) {
  const int64_t layers = s->network->n_layers;
  enum { FIXED_BUFFERS = 26, OPS_PER_LAYER = 11, FIXED_OPS = 26 };
  struct plan *plan = memory_allocate(1, sizeof *plan, "the plan");
  if (!plan) return DESCENT_ERROR_MEMORY;
  s->plan = plan;
  plan->buffers = memory_allocate(FIXED_BUFFERS + 4 * layers, sizeof *plan->buffers, "the plan's buffers");
  s->max_ops = FIXED_OPS + OPS_PER_LAYER * layers;
  plan->ops = memory_allocate(s->max_ops, sizeof *plan->ops, "the plan's operations");
  plan->segments = memory_allocate(layers, sizeof *plan->segments, "the plan's segments");
  s->A = memory_allocate(4 * (layers + 1), sizeof *s->A, "the plan's layout");
  if (!plan->buffers || !plan->ops || !plan->segments || !s->A) return DESCENT_ERROR_MEMORY;
  s->Z = s->A + layers + 1;
  s->dZ = s->Z + layers + 1;
  s->active = s->dZ + layers + 1;
  for (int64_t l = 0; l <= layers; l++) s->A[l] = s->Z[l] = s->dZ[l] = s->active[l] = PLAN_NONE;
  return DESCENT_OK;
}

static struct plan_handles no_handles(void) {
  struct plan_handles none = {0};
  int *const handles = (int *)&none;
  for (size_t i = 0; i < sizeof none / sizeof *handles; i++) handles[i] = PLAN_NONE;
  return none;
}

descent_status plan_build(const descent_network *network, const descent_train_options *options, int64_t batch,
                          struct plan **plan, struct plan_handles *handles) {
  return plan_build_with(network, options, 0, batch, plan, handles);
}

static descent_status build(struct builder s, int64_t batch, struct plan **plan, struct plan_handles *handles) {
  const descent_network *const network = s.network;
  const descent_train_options *const options = s.options;
  if (batch < 1)
    return status_set(DESCENT_ERROR_ARGUMENT, "batch of %lld rows: must have at least 1", (long long)batch);
  s.at = no_handles();
  s.n_out = network->layers[network->n_layers - 1].n_out;
  s.n_y = is_classifier(network) ? 1 : s.n_out;
  descent_status status;
  TRY(allocate(&s));
  s.plan->layers = network->n_layers;
  s.plan->batch = s.plan->train_rows = batch;
  s.plan->seed = options ? options->seed : 0;
  s.plan->autotune = options && options->autotune; /* prediction is too short to repay the timing of algorithms */
  s.plan->fusion = s.fusion;
  if (options && options->callbacks.loss) s.plan->fusion = DESCENT_FUSION_OFF; /* it divides the step */
  s.plan->precision = s.precision;
  for (int l = 0; l < network->n_layers; l++) s.plan->segments[l] = network->layers[l].at;
  TRY(add_sources(&s));
  TRY(add_state(&s));
  TRY(add_batch(&s));
  if (options && has_part(&s, PLAN_PART_MICRO_BATCHES)) {
    if (communicator_exchanges(options->ranks.communicator)) s.plan->communicator = options->ranks.communicator;
    s.plan->micro_batch = append_micro_batch(&s, false);
    s.plan->finish = append_finish(&s, false);
    s.plan->micro_batch_with_statistics = append_micro_batch(&s, true);
    s.plan->finish_with_statistics = append_finish(&s, true);
  } else if (options) {
    const struct step_ranges train = append_train(&s, false), with_statistics = append_train(&s, true);
    s.plan->train = train.whole;
    s.plan->forward = train.forward;
    s.plan->gradient = train.gradient;
    s.plan->update = train.update;
    s.plan->train_with_statistics = with_statistics.whole;
    s.plan->forward_with_statistics = with_statistics.forward;
    s.plan->update_with_statistics = with_statistics.update;
  }
  s.plan->evaluate = append_evaluate(&s, true);
  s.plan->predict = append_evaluate(&s, false);
  append_parts(&s);
  *plan = s.plan;
  *handles = s.at;
  s.plan = NULL;
done:
  plan_free(s.plan);
  free(s.A);
  return status;
}

descent_status plan_build_with(const descent_network *network, const descent_train_options *options, unsigned parts,
                               int64_t batch, struct plan **plan, struct plan_handles *handles) {
  struct builder s = {.network = network, .options = options, .parts = parts};
  s.precision = options ? options->precision : DESCENT_PRECISION_FP32;
  s.fusion = options ? options->gpu.fusion : DESCENT_FUSION_AUTO;
  return build(s, batch, plan, handles);
}

descent_status plan_build_prediction(const descent_network *network, const descent_predict_options *predict,
                                     unsigned parts, int64_t batch, struct plan **plan, struct plan_handles *handles) {
  const struct builder s = {
      .network = network, .parts = parts, .precision = predict->precision, .fusion = predict->fusion};
  return build(s, batch, plan, handles);
}

void plan_free(struct plan *plan) {
  if (!plan) return;
  free(plan->buffers);
  free(plan->ops);
  free(plan->segments);
  free(plan);
}
