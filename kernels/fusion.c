/* The choice whether one kernel computes the layers of a range, and its launch on the plan's buffers. */
#include "fusion.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "plan/operations.h"

static bool same(struct plan_range a, struct plan_range b) {
  return a.count > 0 && a.first == b.first && a.count == b.count;
}

/* The range that a choice is made for. */
static struct plan_range range_of(const struct plan *plan, enum fused_choice choice) {
  return choice == FUSED_TRAINING ? plan_training(plan) : choice == FUSED_EVALUATE ? plan->evaluate : plan->predict;
}

/* ---- launches ---- */

static void add_layer(const struct device_buffers *buffers, const struct plan_op *op, struct network_launch *l) {
  struct network_layer *const layer = &l->layer[l->layers];
  struct custom_launch launch;
  dense_launch(buffers, op, l->rows, &launch);
  const struct fused_forward_launch *const f = &launch.forward;
  if (l->layers++ == 0) l->X = f->A_in, l->tf32 = f->tf32, l->seed = f->pass.seed;
  layer->W = f->W;
  layer->bias = f->pass.bias;
  layer->bias_element = f->pass.bias_element;
  layer->n_in = (int)f->n_in;
  layer->n_out = (int)f->pass.n;
  layer->activation = f->pass.activation;
  layer->threshold = f->pass.threshold;
  layer->dropout_scale = f->pass.dropout_scale;
  layer->keep_probability = (float)formula_keep_probability(op->forward.dropout);
  if (l->kind == NETWORK_FORWARD) l->A = f->pass.A; /* the last one stays */
  if (l->kind == NETWORK_CHAIN && l->layers < buffers->plan->layers) layer->A = f->pass.A, layer->Z = f->pass.Z;
}

static void add_loss(const struct device_buffers *buffers, const struct plan_loss *o, struct network_launch *l) {
  l->loss = o->loss;
  l->label_smoothing = (float)o->label_smoothing;
  if (l->kind == NETWORK_FORWARD) return;
  l->y = layout_data(buffers, o->y);
  l->w = layout_data(buffers, o->w);
  l->scalars = layout_data(buffers, o->scalars);
}

/* dZ has no memory yet: a chain's is its own. */
static void add_gradients(const struct device_buffers *buffers, const struct plan_op *op, struct network_launch *l) {
  const struct plan_dense_backward_weights *const o = &op->weights;
  struct network_layer *const layer = &l->layer[op->layer - 1];
  if (l->kind == NETWORK_CHAIN) {
    layer->dZ = layout_matrix(buffers, o->dZ, o->n_out);
    layer->dZ.data = NULL;
    return;
  }
  layer->dW = flat_position(&buffers->flat, o->W);
  layer->db = flat_position(&buffers->flat, o->b);
  l->gradients = layout_data(buffers, o->gradients);
  l->n_gradients = buffers->flat.device_count;
}

static void add_output(const struct device_buffers *buffers, const struct plan_output *o, struct network_launch *l) {
  l->loss = o->loss;
  l->P = layout_data(buffers, o->P);
  l->y_shift = layout_data(buffers, o->y_shift);
  l->y_scale = layout_data(buffers, o->y_scale);
}

/* Before layout_take without data. The plan has at most NETWORK_LAYERS layers. */
static void describe(const struct device_buffers *buffers, enum fused_choice choice, enum network_kind kind,
                     struct network_launch *l) {
  const struct plan *const plan = buffers->plan;
  const struct plan_range range = range_of(plan, choice);
  *l = (struct network_launch){.kind = kind, .rows = choose_captured_rows(plan, range.first)};
  for (int i = range.first; i < range.first + range.count; i++) {
    const struct plan_op *const op = &plan->ops[i];
    if (op->kind == OP_DENSE_FORWARD) add_layer(buffers, op, l);
    if (op->kind == OP_LOSS) add_loss(buffers, &op->loss, l);
    if (op->kind == OP_DENSE_BACKWARD_WEIGHTS) add_gradients(buffers, op, l);
    if (op->kind == OP_OUTPUT) add_output(buffers, &op->output, l);
  }
}

/* ---- the choice ---- */

/* What a kernel may do: a kind, or a whole step. */
struct way_to_fuse {
  enum network_kind kind;
  bool whole;
};
enum { MOST_TO_FUSE = 3 };

/* One of them, tried. */
struct trial_of_kind {
  struct fused_network network; /* taken: a variant passes */
  struct whole_step around;     /* as network_key takes it; used if network.whole */
  double seconds;               /* 0: not timed; of training with gather, norm and update */
  size_t scratch;               /* bytes that the custom kernels behind a chain need */
  bool lacks_memory;            /* that is why it is not taken */
  char reason[160];             /* why it is not taken */
};

/* A training may time its kernels. What evaluates and predicts is not timed, so that a trainer and a program that only
 * predicts choose alike where neither asks for a kind. */
static bool is_timed(const struct way_table *table, enum fused_choice choice) {
  return choice == FUSED_TRAINING && table->plan->autotune && !ways_draw(table);
}

static const struct whole_step *whole_of(const struct trial_of_kind *tried) {
  return tried->network.whole ? &tried->around : NULL;
}

/* Drawn: the first that passes from a drawn one on; timed: the fastest; else the first; of the n first ones. An untimed
 * trial takes few rows, so that it needs little memory. */
static descent_status choose_variant(const struct way_table *table, bool timed, int n, struct trial_of_kind *made) {
  enum { TRIAL_ROWS = 512 };
  struct product_library *const library = table->device->products;
  struct network_launch *const launch = &made->network.launch;
  const struct whole_step *const whole = whole_of(made);
  const cudaStream_t stream = table->device->stream;
  struct network_launch tried = *launch;
  char key[TUNE_KEY];
  int first;
  bool passes = false;
  descent_status status = DESCENT_OK;
  launch->variant = -1;
  if (timed) {
    TRY(network_fastest(library, launch, whole, stream, &launch->variant, &made->seconds));
    goto done;
  }
  (void)network_part(launch, whole != NULL, &first);
  network_key(launch, whole, key);
  const int begin = ways_draw(table) ? product_library_draw(library, key, "variant", n) : 0;
  if (tried.rows > TRIAL_ROWS) tried.rows = TRIAL_ROWS;
  for (int i = 0; i < n && !passes; i++) {
    const int variant = first + (begin + i) % n;
    TRY(network_passes(library, &tried, whole, variant, stream, &passes));
    if (passes) launch->variant = variant;
  }
done:
  return status;
}

/* The custom kernel of each dense_backward_weights, with its seconds. */
static descent_status choose_weights(struct way_table *table, struct trial_of_kind *made) {
  const struct plan *const plan = table->plan;
  const struct plan_range range = plan_training(plan);
  struct fused_network *const network = &made->network;
  descent_status status = DESCENT_OK;
  for (int i = range.first; i < range.first + range.count && network->taken; i++) {
    struct dense_work work;
    double seconds;
    if (plan->ops[i].kind != OP_DENSE_BACKWARD_WEIGHTS) continue;
    int *const variant = &network->weights[plan->ops[i].layer - 1];
    ways_describe(table, i, network->launch.rows, &work);
    TRY(ways_custom(table, &work.launch, variant, &seconds));
    network->taken = *variant >= 0;
    made->seconds += seconds;
    const size_t bytes = custom_scratch(&work.launch);
    if (bytes > made->scratch) made->scratch = bytes;
  }
done:
  return status;
}

/* Neither asked for, nor timed, nor drawn. Then a network is fused whose weights stay in a multiprocessor's memory while
 * rows pass through it: its launch moves X and the results only, in place of every A and dZ, and takes the place of many.
 * Nothing speaks for others unless they are timed. */
static bool is_estimated(const struct way_table *table, enum fused_choice choice) {
  return table->plan->fusion == DESCENT_FUSION_AUTO && !is_timed(table, choice) && !ways_draw(table);
}

/* Without addresses and pieces. */
static void describe_around(const struct plan *plan, struct whole_step *around) {
  for (int i = plan->train.first; i < plan->train.first + plan->train.count; i++) {
    const struct plan_op *const op = &plan->ops[i];
    if (op->kind == OP_GRADIENT_NORM) around->norm.clip_norm = op->norm.clip_norm;
    if (op->kind == OP_METRICS) around->norm.metrics = true;
    if (op->kind != OP_UPDATE) continue;
    around->update.rule = update_rule_of(&op->update);
    around->update.coefficients = update_coefficients_of_f32(&op->update);
  }
}

/* X is read and written, both as it is stored. */
static double gather_bytes(const struct network_launch *l) {
  return 2 * (double)l->rows * l->layer[0].n_in * (double)element_bytes(l->X.element);
}

/* Estimated time of a whole step's gather, which its trial does not run. 7 blocks of a cluster of 8 fetch X, while a
 * separate gather kernel uses every multiprocessor. A cluster of 16 counts the same: with so few threads a
 * multiprocessor does not reach its nominal bandwidth. */
static double whole_gather_seconds(const struct way_table *table, const struct network_launch *l) {
  enum { FETCHING = 7 };
  const double few = FETCHING * table->device->multiprocessor_bandwidth, all = 0.8 * table->device->bandwidth;
  return few > 0 && all > 0 ? gather_bytes(l) / fmin(few, all) : 0;
}

/* Estimated time of separate gather, norm and update kernels, as many of them as the range has. A whole step is timed
 * with norm and update. */
static double around_seconds(const struct way_table *table, const struct network_launch *l) {
  const struct plan *const plan = table->plan;
  const struct plan_range range = plan_training(plan);
  const double all = (double)table->buffers->flat.device_count * sizeof(float);
  double seconds = ways_pass_seconds(table->device, gather_bytes(l));
  for (int i = range.first; i < range.first + range.count; i++) {
    const struct plan_update *const o = &plan->ops[i].update;
    if (plan->ops[i].kind == OP_GRADIENT_NORM) seconds += ways_pass_seconds(table->device, all);
    const int moments = (o->moment1 != PLAN_NONE) + (o->moment2 != PLAN_NONE);
    if (plan->ops[i].kind == OP_TRUST_RATIO) seconds += ways_pass_seconds(table->device, (2 + moments) * all);
    if (plan->ops[i].kind != OP_UPDATE) continue;
    const double copy = plan->precision == DESCENT_PRECISION_BF16 ? 0.5 : 0; /* the parameters in bf16 */
    seconds += ways_pass_seconds(table->device, (3 + 2 * moments + copy) * all);
  }
  return seconds;
}

static bool has_dropout(const struct plan *plan) {
  for (int i = 0; i < plan->n_ops; i++)
    if (plan->ops[i].kind == OP_DENSE_FORWARD && plan->ops[i].forward.dropout > 0) return true;
  return false;
}

/* Memory for a trial may be short: another kind, or the plan layer by layer, may fit. */
static descent_status try_kind(const struct fusion *fusion, struct way_table *table, enum fused_choice choice,
                               struct way_to_fuse way, struct trial_of_kind *made) {
  struct network_launch *const launch = &made->network.launch;
  const struct plan *const plan = table->plan;
  int first, n;
  descent_status status = DESCENT_OK;
  *made =
      (struct trial_of_kind){.reason = "no kernel of several layers, or no kernel of dW behind it, passes its trial"};
  if (plan->layers > NETWORK_LAYERS) {
    snprintf(made->reason, sizeof made->reason, "%d layers, more than %d", plan->layers, NETWORK_LAYERS);
    return DESCENT_OK;
  }
  describe(fusion->buffers, choice, way.kind, launch);
  made->network.whole = way.whole;
  if (way.whole) describe_around(plan, &made->around);
  n = network_part(launch, way.whole, &first);
  if (way.whole && update_has_trust_ratio(made->around.update.rule)) {
    n = 0; /* the update needs norms of every layer, for which no kernel of whole steps has a phase */
    snprintf(made->reason, sizeof made->reason, "lars and lamb have a trust ratio");
  } else if (n == 0 && way.whole)
    network_refuses_whole(launch, made->reason, sizeof made->reason);
  else if (n == 0)
    (void)network_variants(launch, made->reason, sizeof made->reason);
  if (is_estimated(table, choice)) n = way.whole ? 0 : network_resident_variants(launch);
  if (n > 0 && way.kind == NETWORK_CHAIN && plan->micro_batch.count && has_dropout(plan)) {
    n = 0; /* its masks are those of a step's first rows */
    snprintf(made->reason, sizeof made->reason, "no chain with dropout in micro-batches");
  }
  if (n == 0) return DESCENT_OK;
  status = choose_variant(table, is_timed(table, choice), n, made);
  if (status == DESCENT_OK) {
    made->network.taken = launch->variant >= 0;
    if (way.kind == NETWORK_CHAIN) status = choose_weights(table, made);
  }
  if (choice == FUSED_TRAINING && made->seconds > 0)
    made->seconds += way.whole ? whole_gather_seconds(table, launch) : around_seconds(table, launch);
  if (status == DESCENT_ERROR_MEMORY) {
    made->network.taken = false;
    made->lacks_memory = true;
    snprintf(made->reason, sizeof made->reason, "not enough memory to try a kernel of several layers");
    status = DESCENT_OK;
  }
  return status;
}

/* Of a training step's dense operations, as timed; 0: not all are timed. Of two that run beside each other the longer
 * counts. */
static double dense_seconds(const struct product_choices *choices) {
  const struct plan *const plan = choices->ways.plan;
  const struct plan_range range = plan_training(plan);
  double all = 0;
  for (int i = range.first; i < range.first + range.count; i++) {
    const double seconds = choose_seconds(choices, range, i);
    const int neighbour = beside_neighbour(choices->ways.device, plan, i);
    if (!plan_has_product(&plan->ops[i])) continue;
    if (seconds <= 0) return 0;
    all += seconds;
    if (neighbour >= 0) all -= fmin(seconds, choose_seconds(choices, range, neighbour));
  }
  return all;
}

/* The loss reads A and writes dZ. With gather, norm and update. */
static double apart_seconds(const struct product_choices *choices, const struct network_launch *l) {
  const struct way_table *const table = &choices->ways;
  const double dense = dense_seconds(choices);
  const double outputs = (double)l->rows * (double)l->layer[l->layers - 1].n_out;
  const double written = (double)element_bytes(l->X.element);
  const double loss = ways_pass_seconds(table->device, outputs * (4 + written));
  return dense > 0 ? dense + loss + around_seconds(table, l) : 0;
}

/* Of the launch's variant, in its part of them. */
static int number_of(const struct fused_network *network) {
  int first;
  (void)network_part(&network->launch, network->whole, &first);
  return network->launch.variant - first;
}

static void trace(const struct way_table *table, const struct trial_of_kind *tried, bool taken, double apart) {
  const struct network_launch *const l = &tried->network.launch;
  char key[TUNE_KEY];
  if (l->layers == 0) return;
  const char *const way = tried->network.whole ? "whole" : network_kind_name(l->kind);
  network_key(l, whole_of(tried), key);
  product_library_trace(table->device->products, "choice", key,
                        "fusion=%s variant=%d together_seconds=%.4g apart_seconds=%.4g", taken ? way : "none",
                        tried->network.taken ? number_of(&tried->network) : -1, tried->seconds, apart);
}

/* Is what was tried used, where it may be left out? */
static bool is_better(const struct way_table *table, enum fused_choice choice, const struct trial_of_kind *tried,
                      double apart) {
  char key[TUNE_KEY];
  network_key(&tried->network.launch, whole_of(tried), key);
  if (ways_draw(table)) return product_library_draw(table->device->products, key, "fusion", 2) == 1;
  return is_estimated(table, choice) || (apart > 0 && tried->seconds < apart);
}

/* Of these the one to use: timed, the cheapest; drawn, a drawn one; else the first that passes. *found: NULL if none is. */
static void pick(const struct way_table *table, struct trial_of_kind tried[], int n, struct trial_of_kind **found) {
  char key[TUNE_KEY];
  int first = 0;
  *found = NULL;
  if (ways_draw(table) && tried[0].network.launch.layers) {
    network_key(&tried[0].network.launch, whole_of(&tried[0]), key);
    first = product_library_draw(table->device->products, key, "kind", n);
  }
  for (int i = 0; i < n; i++) {
    struct trial_of_kind *const t = &tried[(first + i) % n];
    if (t->network.taken && (!*found || (t->seconds > 0 && t->seconds < (*found)->seconds))) *found = t;
  }
}

/* Asked for and not timed, the first that passes is used: the others need no trial. */
static bool is_settled(const struct way_table *table, const struct trial_of_kind *last) {
  return last->network.taken && table->plan->fusion == DESCENT_FUSION_ON && !ways_draw(table) && !table->plan->autotune;
}

/* For the reason of the last way tried, whose limits on rows are the widest, and that of a whole step, whose limits on
 * widths are. Or for lack of memory, where another time may be different. */
static descent_status refuse_all(const struct trial_of_kind tried[], int n) {
  const struct trial_of_kind *const last = &tried[n - 1];
  const struct trial_of_kind *whole = NULL;
  for (int i = 0; i < n; i++) {
    if (tried[i].lacks_memory)
      return module_status(DESCENT_ERROR_MEMORY, "fusion on: %s; use auto or off", tried[i].reason);
    if (tried[i].network.whole) whole = &tried[i];
  }
  if (!whole || strcmp(whole->reason, last->reason) == 0)
    return module_status(DESCENT_ERROR_UNSUPPORTED, "fusion on: %s; use auto or off", last->reason);
  return module_status(DESCENT_ERROR_UNSUPPORTED, "fusion on: %s; for a whole step, %s; use auto or off", last->reason,
                       whole->reason);
}

static descent_status choose(struct fusion *fusion, struct product_choices *choices, enum fused_choice choice,
                             const struct way_to_fuse all[], int n) {
  struct way_table *const table = &choices->ways;
  const bool asked = table->plan->fusion == DESCENT_FUSION_ON;
  struct trial_of_kind tried[MOST_TO_FUSE], *found;
  descent_status status = DESCENT_OK;
  int tries = 0;
  do {
    TRY(try_kind(fusion, table, choice, all[tries], &tried[tries]));
  } while (++tries < n && !is_settled(table, &tried[tries - 1]));
  pick(table, tried, tries, &found);
  const struct trial_of_kind *const seen = found ? found : &tried[tries - 1];
  const bool compares = is_timed(table, choice) && seen->network.launch.layers;
  const double apart = compares ? apart_seconds(choices, &seen->network.launch) : 0;
  const bool taken = found && (asked || is_better(table, choice, found, apart));
  trace(table, seen, taken, apart);
  if (taken) fusion->at[choice] = found->network;
  if (taken && found->scratch > fusion->scratch) fusion->scratch = found->scratch;
  const bool is_asked = choice == FUSED_TRAINING || plan_training(table->plan).count == 0; /* else beside a training */
  if (asked && is_asked && !taken) TRY(refuse_all(tried, tries));
done:
  return status;
}

/* `backward` reads what a prediction leaves where there is no training. A micro-batch is never a whole step. */
descent_status fusion_prepare(struct fusion *fusion, struct product_choices *choices,
                              const struct device_buffers *buffers) {
  static const struct way_to_fuse training[MOST_TO_FUSE] = {{NETWORK_STEP, false},
                                                            {NETWORK_STEP, true},
                                                            {NETWORK_CHAIN, false}},
                                  micro_batch[] = {{NETWORK_STEP, false}, {NETWORK_CHAIN, false}},
                                  forward[] = {{NETWORK_FORWARD, false}};
  const struct plan *const plan = buffers->plan;
  descent_status status = DESCENT_OK;
  fusion->buffers = buffers;
  if (plan->fusion == DESCENT_FUSION_OFF) return DESCENT_OK;
  if (plan->train.count) TRY(choose(fusion, choices, FUSED_TRAINING, training, MOST_TO_FUSE));
  if (plan->micro_batch.count) TRY(choose(fusion, choices, FUSED_TRAINING, micro_batch, 2));
  if (plan->evaluate.count) TRY(choose(fusion, choices, FUSED_EVALUATE, forward, 1));
  if (plan->predict.count && (plan_training(plan).count || !plan->backward.count))
    TRY(choose(fusion, choices, FUSED_PREDICT, forward, 1));
done:
  return status;
}

uint32_t fusion_digest(const struct fusion *fusion, uint32_t digest) {
  const struct fused_network *const training = &fusion->at[FUSED_TRAINING];
  const struct network_launch *const l = &training->launch;
  if (!training->taken) return digest;
  digest = (digest ^ (uint32_t)l->kind) * 16777619u; /* FNV-1a, as choose_digest */
  digest = (digest ^ (uint32_t)l->variant) * 16777619u;
  for (int i = 0; l->kind == NETWORK_CHAIN && i < l->layers; i++)
    digest = (digest ^ (uint32_t)training->weights[i]) * 16777619u;
  return digest;
}

/* ---- memory ---- */

enum { DZ_ALIGNMENT = 256 /* bytes */ };

/* Bytes of a chain's dZ; sets their addresses from `memory` on, if it is not NULL. */
static int64_t place_dZ(struct network_launch *l, char *memory) {
  int64_t bytes = 0;
  for (int i = 0; l->kind == NETWORK_CHAIN && i < l->layers; i++) {
    struct device_matrix *const dZ = &l->layer[i].dZ;
    if (memory) dZ->data = memory + bytes;
    bytes += (l->rows * dZ->ld * element_bytes(dZ->element) + DZ_ALIGNMENT - 1) / DZ_ALIGNMENT * DZ_ALIGNMENT;
  }
  return bytes;
}

descent_status fusion_take(struct fusion *fusion, const struct work_memory *work, struct device_memory *memory) {
  descent_status status = DESCENT_OK;
  for (enum fused_choice c = 0; c < FUSED_CHOICES; c++) {
    struct fused_network *const network = &fusion->at[c];
    struct network_launch *const l = &network->launch;
    const int variant = l->variant;
    if (!network->taken) continue;
    describe(fusion->buffers, c, l->kind, l);
    l->variant = variant;
    l->counters = work->scratch.counters;
    const int64_t partials = (int64_t)network_partials(l), dZ = place_dZ(l, NULL);
    if (partials) TRY(device_memory_take(memory, partials, "partial sums of fused layers", &l->partials));
    if (dZ) TRY(device_memory_take(memory, dZ, "dZ of fused layers", &network->dZ));
    (void)place_dZ(l, network->dZ);
  }
done:
  return status;
}

void fusion_release(struct fusion *fusion) {
  for (int c = 0; c < FUSED_CHOICES; c++) {
    device_memory_free(fusion->at[c].launch.partials);
    device_memory_free(fusion->at[c].dZ);
  }
}

void fusion_bytes(const struct fusion *fusion, double *per_row, double *fixed) {
  *per_row = *fixed = 0;
  for (int c = 0; c < FUSED_CHOICES; c++) {
    struct network_launch launch = fusion->at[c].launch;
    if (!fusion->at[c].taken) continue;
    *fixed += (double)network_partials(&launch);
    *per_row += (double)place_dZ(&launch, NULL) / (double)fusion->buffers->plan->batch;
  }
}

/* ---- ranges ---- */

const struct fused_network *fusion_of(const struct fusion *fusion, struct plan_range range) {
  const struct plan *const plan = fusion->buffers->plan;
  const struct fused_network *network = NULL;
  if (same(range, plan->train) || same(range, plan->train_with_statistics) || same(range, plan->gradient) ||
      same(range, plan->micro_batch) || same(range, plan->micro_batch_with_statistics))
    network = &fusion->at[FUSED_TRAINING];
  else if (same(range, plan->evaluate))
    network = &fusion->at[FUSED_EVALUATE];
  else if (same(range, plan->predict))
    network = &fusion->at[FUSED_PREDICT];
  return network && network->taken ? network : NULL;
}

bool fusion_takes_whole(const struct fusion *fusion, struct plan_range range) {
  return same(range, fusion->buffers->plan->train) && fusion->at[FUSED_TRAINING].whole;
}

bool fusion_covers(const struct fusion *fusion, struct plan_range range, int op) {
  const struct fused_network *const network = fusion_of(fusion, range);
  const struct plan *const plan = fusion->buffers->plan;
  if (!network) return false;
  if (fusion_takes_whole(fusion, range)) return true;
  const enum network_kind kind = network->launch.kind;
  switch (plan->ops[op].kind) {
    case OP_DENSE_FORWARD:
      return !same(range, plan->train_with_statistics) && !same(range, plan->micro_batch_with_statistics);
    case OP_LOSS:
    case OP_DENSE_BACKWARD_INPUT: return kind != NETWORK_FORWARD;
    case OP_DENSE_BACKWARD_WEIGHTS: return kind == NETWORK_STEP;
    case OP_OUTPUT: return kind == NETWORK_FORWARD;
    default: return false;
  }
}

int fusion_first(const struct fusion *fusion, struct plan_range range) {
  int op = range.first;
  while (!fusion_covers(fusion, range, op)) op++;
  return op;
}

/* X, y and w too, where the launch covers the gather. */
static bool launch_writes(const struct fused_network *network, const void *data) {
  const struct network_launch *const l = &network->launch;
  bool writes = data == l->A.data || data == (const void *)l->P || data == l->X.data || data == (const void *)l->y ||
                data == (const void *)l->w;
  for (int i = 0; i < l->layers; i++) writes = writes || data == l->layer[i].A.data || data == l->layer[i].Z.data;
  return writes;
}

bool fusion_leaves_out(const struct fusion *fusion, struct plan_range range, int buffer) {
  const struct plan *const plan = fusion->buffers->plan;
  const struct fused_network *const network = fusion_of(fusion, range);
  if (!network || plan->buffers[buffer].storage != PLAN_BATCH) return false;
  for (int i = range.first; i < range.first + range.count; i++) {
    struct plan_use uses[PLAN_MOST_USES];
    for (int n = fusion_covers(fusion, range, i) ? plan_uses(&plan->ops[i], uses) : 0; n-- > 0;)
      if (uses[n].buffer == buffer && uses[n].access == PLAN_WRITE)
        return !launch_writes(network, layout_data(fusion->buffers, buffer));
  }
  return false;
}

cudaError_t fusion_launch(const struct fused_network *network, const struct step_state *state,
                          const struct whole_step *whole, cudaStream_t stream) {
  struct network_launch launch = network->launch;
  launch.state = state;
  launch.whole = whole;
  return launch_network(&launch, stream);
}

static bool follows_chain(const struct fusion *fusion, struct plan_range range, int op) {
  const struct fused_network *const network = fusion_of(fusion, range);
  return network && network->launch.kind == NETWORK_CHAIN &&
         fusion->buffers->plan->ops[op].kind == OP_DENSE_BACKWARD_WEIGHTS;
}

void fusion_redirect(const struct fusion *fusion, struct plan_range range, int op, struct custom_launch *launch,
                     struct dense_way *way) {
  if (!follows_chain(fusion, range, op)) return;
  const struct fused_network *const network = fusion_of(fusion, range);
  const int layer = fusion->buffers->plan->ops[op].layer - 1;
  launch->weights.dZ = network->launch.layer[layer].dZ;
  *way = (struct dense_way){.variant = network->weights[layer]};
}

static void name_kernel(const struct fused_network *network, bool whole, char text[BACKEND_PATH]) {
  const int variant = network->launch.variant;
  if (whole)
    snprintf(text, BACKEND_PATH, "whole step %d", number_of(network));
  else
    snprintf(text, BACKEND_PATH, "fused %s %d", network_kind_name(network->launch.kind), variant);
}

bool fusion_of_training(const struct fusion *fusion, char text[BACKEND_PATH]) {
  const struct fused_network *const training = &fusion->at[FUSED_TRAINING];
  if (training->taken) name_kernel(training, training->whole, text);
  return training->taken;
}

void fusion_path(const struct fusion *fusion, struct product_choices *choices, struct plan_range range, int op,
                 char text[BACKEND_PATH]) {
  const struct fused_network *const network = fusion_of(fusion, range);
  if (fusion_covers(fusion, range, op))
    name_kernel(network, fusion_takes_whole(fusion, range), text);
  else if (follows_chain(fusion, range, op))
    snprintf(text, BACKEND_PATH, "custom %d", network->weights[fusion->buffers->plan->ops[op].layer - 1]);
  else
    choose_path(choices, range, op, text);
}
