/* Several layers in one kernel: what a trial of its variants fills, launches and checks. */
#include "network.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "module.h"

const char *network_kind_name(enum network_kind kind) {
  return kind == NETWORK_FORWARD ? "forward" : kind == NETWORK_CHAIN ? "chain" : "step";
}

int network_part(const struct network_launch *launch, bool whole, int *first) {
  const int n = network_variants(launch, NULL, 0);
  int found = 0;
  struct network_launch l = *launch;
  *first = 0;
  for (l.variant = 0; l.variant < n; l.variant++) {
    if (network_takes_whole(&l) != whole) continue;
    if (found++ == 0) *first = l.variant;
  }
  return found < MOST_CANDIDATES ? found : MOST_CANDIDATES;
}

static int64_t outputs_of(const struct network_launch *l) { return l->layer[l->layers - 1].n_out; }

/* ---- the key ---- */

static void append(char key[TUNE_KEY], size_t *used, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void append(char key[TUNE_KEY], size_t *used, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const int n = vsnprintf(key + *used, TUNE_KEY - *used, format, arguments);
  va_end(arguments);
  *used += (size_t)n;
  if (*used > TUNE_KEY - 1) *used = TUNE_KEY - 1;
}

/* A layer as "x64:1d", with its activation, dropout and a hash of its strides, which follow from the plan's layout. */
void network_key(const struct network_launch *l, const struct whole_step *whole, char key[TUNE_KEY]) {
  uint32_t hash = 2166136261u; /* FNV-1a (Fowler, Noll, Vo 1991) */
  size_t used = 0;
  int first;
  append(key, &used, "network=%s rows=%" PRId64 " X=%" PRId64 " layers=%d",
         whole ? "whole" : network_kind_name(l->kind), l->rows, l->X.ld, l->layer[0].n_in);
  for (int i = 0; i < l->layers; i++) {
    const struct network_layer *const layer = &l->layer[i];
    const int64_t strides[] = {layer->W.ld, layer->A.ld, layer->Z.ld, layer->dZ.ld};
    for (size_t s = 0; s < sizeof strides / sizeof *strides; s++) hash = (hash ^ (uint32_t)strides[s]) * 16777619u;
    append(key, &used, "x%d:%d%s", layer->n_out, (int)layer->activation, layer->threshold ? "d" : "");
  }
  if (whole) append(key, &used, " update=%d", (int)whole->update.rule);
  append(key, &used, " strides=%08x elements=%s tf32=%d loss=%d variants=%d version=" DESCENT_VERSION " timed=captured",
         (unsigned)hash, l->X.element == ELEMENT_F32 ? "f32" : "bf16", l->tf32, (int)l->loss,
         network_part(l, whole != NULL, &first));
}

/* ---- trials ---- */

/* A launch as it is tried. */
struct network_trial {
  struct network_launch network; /* its variant: the first of the part */
  bool is_whole;
  struct whole_step whole;
};

#define MEMBER(name) offsetof(struct network_trial, network.name)
#define LAYER_MEMBER(i, name) \
  (MEMBER(layer) + (size_t)(i) * sizeof(struct network_layer) + offsetof(struct network_layer, name))
#define WHOLE_MEMBER(name) offsetof(struct network_trial, whole.name)

static void add(struct variant_work *work, size_t member, int64_t rows, struct device_matrix m, int64_t n,
                enum part_use use) {
  work->parts[work->n_parts++] =
      (struct variant_part){.member = member, .rows = rows, .n = n, .ld = m.ld, .element = m.element, .use = use};
}

/* Dense, of float32. */
static void add_dense(struct variant_work *work, size_t member, int64_t rows, int64_t n, enum part_use use) {
  add(work, member, rows, (struct device_matrix){.ld = n, .element = ELEMENT_F32}, n, use);
}

static void add_gradient(struct variant_work *work, int64_t rows, int64_t n, int64_t ld, int around, int64_t offset) {
  add(work, 0, rows, (struct device_matrix){.ld = ld, .element = ELEMENT_F32}, n, PART_WRITTEN);
  work->parts[work->n_parts - 1].within = around;
  work->parts[work->n_parts - 1].offset = offset;
}

/* Padding and gaps between the gradients stay as they are. */
static void add_gradients(const struct network_launch *l, struct variant_work *work) {
  add_dense(work, MEMBER(gradients), 1, l->n_gradients, PART_AROUND);
  const int around = work->n_parts;
  for (int i = 0; i < l->layers; i++) {
    const struct network_layer *const layer = &l->layer[i];
    add_gradient(work, layer->n_out, layer->n_in, layer->W.ld, around, layer->dW);
    add_gradient(work, 1, layer->n_out, layer->n_out, around, layer->db);
  }
}

/* A target of a class is 1: the second of at least two. */
static void add_targets(const struct network_launch *l, struct variant_work *work) {
  const bool regression = loss_is_regression(l->loss);
  add_dense(work, MEMBER(y), l->rows, regression ? outputs_of(l) : 1, regression ? PART_READ : PART_ONES);
  add_dense(work, MEMBER(w), l->rows, 1, PART_ONES);
}

static void list_parts(const struct network_launch *l, struct variant_work *work) {
  const int64_t outputs = outputs_of(l);
  add(work, MEMBER(X.data), l->rows, l->X, l->layer[0].n_in, PART_READ);
  for (int i = 0; i < l->layers; i++) {
    const struct network_layer *const layer = &l->layer[i];
    const struct device_matrix bias = {.ld = layer->n_out, .element = layer->bias_element};
    add(work, LAYER_MEMBER(i, W.data), layer->n_out, layer->W, layer->n_in, PART_READ);
    add(work, LAYER_MEMBER(i, bias), 1, bias, layer->n_out, PART_READ);
    if (l->kind != NETWORK_CHAIN) continue;
    if (layer->A.ld) add(work, LAYER_MEMBER(i, A.data), l->rows, layer->A, layer->n_out, PART_WRITTEN);
    if (layer->Z.ld) add(work, LAYER_MEMBER(i, Z.data), l->rows, layer->Z, layer->n_out, PART_WRITTEN);
    add(work, LAYER_MEMBER(i, dZ.data), l->rows, layer->dZ, layer->n_out, PART_WRITTEN);
  }
  if (l->kind == NETWORK_FORWARD) {
    add(work, MEMBER(A.data), l->rows, l->A, outputs, PART_WRITTEN);
    add_dense(work, MEMBER(P), l->rows, outputs, PART_WRITTEN);
  } else {
    add_targets(l, work);
  }
  if (l->kind == NETWORK_STEP) add_gradients(l, work);
}

static void add_given(struct variant_work *work, size_t member, const void *given, size_t bytes) {
  add_dense(work, member, 1, (int64_t)(bytes / sizeof(float)), PART_GIVEN);
  work->parts[work->n_parts - 1].given = given;
}

/* What the norm leaves of each layer, two floats for a double. */
static void add_norms(const struct network_launch *l, struct variant_work *work) {
  enum { DOUBLE = sizeof(double) / sizeof(float) };
  add_dense(work, WHOLE_MEMBER(norm.layer_statistics), 1, l->layers * (int64_t)(LAYER_SLOTS * DOUBLE), PART_AROUND);
  const int around = work->n_parts;
  add(work, 0, l->layers, (struct device_matrix){.ld = LAYER_SLOTS * DOUBLE, .element = ELEMENT_F32}, DOUBLE,
      PART_WRITTEN);
  work->parts[work->n_parts - 1].within = around;
  work->parts[work->n_parts - 1].offset = LAYER_GRADIENT * DOUBLE;
}

/* Parameters and moments are results. Second moments are not negative. */
static void list_whole_parts(const struct network_trial *trial, const struct flat_piece *pieces,
                             struct variant_work *work) {
  static const struct source_table unbound;
  static const float clear[2];
  const struct network_launch *const l = &trial->network;
  const int64_t n = l->n_gradients;
  add_given(work, WHOLE_MEMBER(gather.sources), &unbound, sizeof unbound);
  add_given(work, WHOLE_MEMBER(norm.pieces), pieces, (size_t)trial->whole.norm.n_pieces * sizeof *pieces);
  add_given(work, WHOLE_MEMBER(update.bad_parameters), clear, sizeof clear);
  add_norms(l, work);
  add_dense(work, WHOLE_MEMBER(update.parameters), 1, n, PART_UPDATED);
  add_dense(work, WHOLE_MEMBER(update.moment1), 1, n, PART_GROWN);
  add_dense(work, WHOLE_MEMBER(update.moment2), 1, n, PART_GROWN);
  if (l->X.element == ELEMENT_BF16)
    add(work, WHOLE_MEMBER(update.working), 1, (struct device_matrix){.ld = n, .element = ELEMENT_BF16}, n,
        PART_UPDATED);
}

/* What the parts of the whole share with each other and with the layers. */
static void complete_whole(const struct network_launch *l, const struct variant_place *place,
                           struct whole_step *whole) {
  whole->gather.state = place->state;
  whole->gather.X = l->X;
  whole->gather.weight_sum = place->scalars + SCALAR_WEIGHT_SUM;
  whole->gather.n_x = l->layer[0].n_in;
  whole->gather.n_y = loss_is_regression(l->loss) ? outputs_of(l) : 1;
  whole->gather.rows = l->rows;
  whole->norm.state = whole->update.state = place->state;
  whole->norm.gradients = whole->update.gradients = l->gradients;
  whole->norm.layers = whole->update.layers = l->layers;
  whole->norm.scalars = place->scalars;
  whole->norm.bad_parameters = whole->update.bad_parameters;
  whole->update.pieces = whole->norm.pieces;
  whole->update.n_pieces = whole->norm.n_pieces;
  whole->update.scalars = place->scalars;
  whole->gather.scratch = whole->norm.scratch = whole->update.scratch = place->scratch;
}

/* A trial compares two launches. The second computes the layers only, then separate kernels do the norm and the update.
 * A bad step in the first launch does not stop them. */
static cudaError_t run(void *copy, const struct variant_place *place, int variant, cudaStream_t stream) {
  struct network_trial *const trial = copy;
  struct network_launch *const l = &trial->network;
  l->state = place->state;
  l->scalars = place->scalars;
  l->partials = place->own;
  l->counters = place->scratch.counters;
  l->variant += variant;
  if (trial->is_whole) complete_whole(l, place, &trial->whole);
  l->whole = trial->is_whole && !place->again ? &trial->whole : NULL;
  if (!trial->is_whole || l->whole) return launch_network(l, stream);
  cudaError_t error = cudaMemsetAsync(place->scalars + SCALAR_BAD_STEP, 0, sizeof(double), stream);
  if (error == cudaSuccess) error = launch_network(l, stream);
  if (error == cudaSuccess) error = launch_norm(&trial->whole.norm, stream);
  if (error == cudaSuccess) error = launch_update(&trial->whole.update, stream);
  return error;
}

/* A hidden value is read as an operand, of 11 bits in tf32. */
static int64_t exact_value(const struct network_launch *l, bool hidden) {
  if (!hidden) return variants_exact(ELEMENT_F32);
  return l->tf32 ? 1 << 11 : variants_exact(l->X.element);
}

/* A and Z, where every value up to there is a whole number: only the activations that leave positive numbers as they
 * are give one. No gradient and no dZ is one. */
static bool whole_result(const void *launch, const struct variant_part *part, float *expected) {
  const struct network_launch *const l = &((const struct network_trial *)launch)->network;
  int64_t value = 1; /* of the layer's inputs */
  for (int i = 0; i < l->layers; i++) {
    const struct network_layer *const layer = &l->layer[i];
    const bool hidden = i < l->layers - 1;
    const bool plain = layer->activation == DESCENT_ACTIVATION_IDENTITY || layer->activation == DESCENT_ACTIVATION_RELU;
    value = layer->n_in * value + 1;
    *expected = (float)value;
    if (value > exact_value(l, hidden)) return false;
    if (part->member == LAYER_MEMBER(i, Z.data)) return true;
    if (!plain || layer->threshold) return false;
    if (part->member == (hidden ? LAYER_MEMBER(i, A.data) : MEMBER(A.data))) return true;
  }
  return false;
}

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

static size_t whole_scratch(const struct network_launch *l, int n_pieces) {
  return larger(gather_scratch(l->rows),
                larger(norm_scratch(n_pieces, l->layers), update_scratch(n_pieces, l->layers)));
}

/* The gradients as pieces of one layer; *n: how many. */
static struct flat_piece *make_pieces(const struct network_launch *l, int *n) {
  const int64_t each = flat_piece_floats(l->n_gradients), end = l->n_gradients;
  struct flat_piece *const pieces = module_allocate((end + each - 1) / each, sizeof *pieces, "the trial of a kernel");
  *n = 0;
  for (int64_t begin = 0; pieces && begin < end; begin += each)
    pieces[(*n)++] = (struct flat_piece){begin, begin + each < end ? begin + each : end, 1, (int32_t)end};
  return pieces;
}

/* A part of the variants, to be tried. */
struct tried_part {
  char key[TUNE_KEY];
  struct network_trial trial;
  struct flat_piece *pieces;
  struct variant_work work;
  int first;
};

static descent_status open_part(const struct network_launch *launch, const struct whole_step *whole,
                                struct tried_part **result) {
  struct tried_part *const part = *result = module_allocate(1, sizeof *part, "the trial of a kernel");
  if (!part) return DESCENT_ERROR_MEMORY;
  const int n = network_part(launch, whole != NULL, &part->first);
  network_key(launch, whole, part->key);
  part->trial.network = *launch;
  part->trial.network.variant = part->first;
  part->work = (struct variant_work){.key = part->key,
                                     .variants = n,
                                     .rows = launch->rows,
                                     .own = network_partials(launch),
                                     .launch = &part->trial,
                                     .launch_bytes = sizeof part->trial,
                                     .run = run,
                                     .whole = whole_result};
  list_parts(launch, &part->work);
  if (!whole) return DESCENT_OK;
  struct network_trial *const trial = &part->trial;
  trial->is_whole = true;
  trial->whole = *whole;
  part->pieces = make_pieces(launch, &trial->whole.norm.n_pieces);
  if (!part->pieces) return DESCENT_ERROR_MEMORY;
  part->work.partials = whole_scratch(launch, trial->whole.norm.n_pieces);
  list_whole_parts(trial, part->pieces, &part->work);
  return DESCENT_OK;
}

static void close_part(struct tried_part *part) {
  if (part) free(part->pieces);
  free(part);
}

descent_status network_passes(const struct product_library *library, const struct network_launch *launch,
                              const struct whole_step *whole, int variant, cudaStream_t stream, bool *passes) {
  struct tried_part *part = NULL;
  descent_status status;
  TRY(open_part(launch, whole, &part));
  TRY(variants_pass(library, &part->work, variant - part->first, stream, passes));
done:
  close_part(part);
  return status;
}

descent_status network_fastest(struct product_library *library, const struct network_launch *launch,
                               const struct whole_step *whole, cudaStream_t stream, int *variant, double *seconds) {
  struct tried_part *part = NULL;
  descent_status status;
  TRY(open_part(launch, whole, &part));
  TRY(variants_fastest(library, &part->work, stream, variant, seconds));
  if (*variant >= 0) *variant += part->first;
done:
  close_part(part);
  return status;
}
