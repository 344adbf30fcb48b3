/* Several layers in one kernel: what a trial of its variants fills, launches and checks. */
#include "network.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

const char *network_kind_name(enum network_kind kind) {
  return kind == NETWORK_FORWARD ? "forward" : kind == NETWORK_CHAIN ? "chain" : "step";
}

static int variants_of(const struct network_launch *launch) {
  const int n = network_variants(launch, NULL, 0);
  return n < MOST_CANDIDATES ? n : MOST_CANDIDATES;
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
void network_key(const struct network_launch *l, char key[TUNE_KEY]) {
  uint32_t hash = 2166136261u; /* FNV-1a (Fowler, Noll, Vo 1991) */
  size_t used = 0;
  append(key, &used, "network=%s rows=%" PRId64 " X=%" PRId64 " layers=%d", network_kind_name(l->kind), l->rows,
         l->X.ld, l->layer[0].n_in);
  for (int i = 0; i < l->layers; i++) {
    const struct network_layer *const layer = &l->layer[i];
    const int64_t strides[] = {layer->W.ld, layer->A.ld, layer->Z.ld, layer->dZ.ld};
    for (size_t s = 0; s < sizeof strides / sizeof *strides; s++) hash = (hash ^ (uint32_t)strides[s]) * 16777619u;
    append(key, &used, "x%d:%d%s", layer->n_out, (int)layer->activation, layer->threshold ? "d" : "");
  }
  append(key, &used, " strides=%08x elements=%s tf32=%d loss=%d variants=%d version=" DESCENT_VERSION " timed=captured",
         (unsigned)hash, l->X.element == ELEMENT_F32 ? "f32" : "bf16", l->tf32, (int)l->loss, variants_of(l));
}

/* ---- trials ---- */

#define MEMBER(name) offsetof(struct network_launch, name)
#define LAYER_MEMBER(i, name)                                                            \
  (offsetof(struct network_launch, layer) + (size_t)(i) * sizeof(struct network_layer) + \
   offsetof(struct network_layer, name))

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

static cudaError_t run(void *copy, const struct variant_place *place, int variant, cudaStream_t stream) {
  struct network_launch *const l = copy;
  l->state = place->state;
  l->scalars = place->scalars;
  l->partials = place->own;
  l->counters = place->scratch.counters;
  l->variant = variant;
  return launch_network(l, stream);
}

/* A hidden value is read as an operand, of 11 bits in tf32. */
static int64_t exact_value(const struct network_launch *l, bool hidden) {
  if (!hidden) return variants_exact(ELEMENT_F32);
  return l->tf32 ? 1 << 11 : variants_exact(l->X.element);
}

/* A and Z, where every value up to there is a whole number: only the activations that leave positive numbers as they
 * are give one. No gradient and no dZ is one. */
static bool whole_result(const void *launch, const struct variant_part *part, float *expected) {
  const struct network_launch *const l = launch;
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

static void describe(const struct network_launch *launch, char key[TUNE_KEY], struct variant_work *work) {
  network_key(launch, key);
  *work = (struct variant_work){.key = key,
                                .variants = variants_of(launch),
                                .rows = launch->rows,
                                .own = network_partials(launch),
                                .launch = launch,
                                .launch_bytes = sizeof *launch,
                                .run = run,
                                .whole = whole_result};
  list_parts(launch, work);
}

descent_status network_passes(const struct product_library *library, const struct network_launch *launch, int variant,
                              cudaStream_t stream, bool *passes) {
  struct variant_work work;
  char key[TUNE_KEY];
  describe(launch, key, &work);
  return variants_pass(library, &work, variant, stream, passes);
}

descent_status network_fastest(struct product_library *library, const struct network_launch *launch,
                               cudaStream_t stream, int *variant, double *seconds) {
  struct variant_work work;
  char key[TUNE_KEY];
  describe(launch, key, &work);
  return variants_fastest(library, &work, stream, variant, seconds);
}
