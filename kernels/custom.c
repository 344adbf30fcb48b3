/* The custom kernels of dense operations: what a trial of their variants fills, launches and checks. */
#include "custom.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>

/* ---- one function for the three operations ---- */

int custom_variants(const struct custom_launch *l) {
  const int n = l->kind == OP_DENSE_FORWARD          ? fused_forward_variants(&l->forward)
                : l->kind == OP_DENSE_BACKWARD_INPUT ? fused_input_variants(&l->input)
                                                     : weights_variants(&l->weights);
  return n < MOST_CANDIDATES ? n : MOST_CANDIDATES;
}

size_t custom_scratch(const struct custom_launch *l) {
  return l->kind == OP_DENSE_FORWARD          ? 0
         : l->kind == OP_DENSE_BACKWARD_INPUT ? fused_input_scratch(l->input.pass.rows, l->input.pass.n)
                                              : weights_scratch(l->weights.rows, l->weights.n_in, l->weights.n_out);
}

cudaError_t custom_run(const struct custom_launch *l, int variant, cudaStream_t stream) {
  struct custom_launch launch = *l;
  switch (l->kind) {
    case OP_DENSE_FORWARD: launch.forward.variant = variant; return launch_fused_forward(&launch.forward, stream);
    case OP_DENSE_BACKWARD_INPUT: launch.input.variant = variant; return launch_fused_input(&launch.input, stream);
    default: launch.weights.variant = variant; return launch_weights(&launch.weights, stream);
  }
}

static const char *element_name(enum element element) { return element == ELEMENT_F32 ? "f32" : "bf16"; }

static void forward_key(const struct custom_launch *l, char key[TUNE_KEY]) {
  const struct fused_forward_launch *const f = &l->forward;
  snprintf(key, TUNE_KEY,
           "custom=forward rows=%" PRId64 " n_in=%" PRId64 " n_out=%" PRId64 " A_in=%" PRId64 " W=%" PRId64
           " Z=%" PRId64 " A=%" PRId64 " elements=%s,%s tf32=%d activation=%d dropout=%d",
           f->pass.rows, f->n_in, f->pass.n, f->A_in.ld, f->W.ld, f->pass.Z.ld, f->pass.A.ld,
           element_name(f->A_in.element), element_name(f->pass.A.element), f->tf32, (int)f->pass.activation,
           f->pass.threshold != 0);
}

static void input_key(const struct custom_launch *l, char key[TUNE_KEY]) {
  const struct fused_input_launch *const i = &l->input;
  snprintf(key, TUNE_KEY,
           "custom=input rows=%" PRId64 " n_in=%" PRId64 " n_out=%" PRId64 " dZ_above=%" PRId64 " W=%" PRId64
           " Z=%" PRId64 " A=%" PRId64 " dZ=%" PRId64 " elements=%s,%s tf32=%d activation=%d dropout=%d sums=%d",
           i->pass.rows, i->pass.n, i->n_out, i->dZ_above.ld, i->W.ld, i->pass.Z.ld, i->pass.A.ld, i->pass.dZ.ld,
           element_name(i->dZ_above.element), element_name(i->pass.dZ.element), i->tf32, (int)i->pass.activation,
           i->pass.threshold != 0, l->sums);
}

static void weights_key(const struct custom_launch *l, char key[TUNE_KEY]) {
  const struct weights_launch *const w = &l->weights;
  snprintf(key, TUNE_KEY,
           "custom=weights rows=%" PRId64 " n_in=%" PRId64 " n_out=%" PRId64 " dZ=%" PRId64 " A_in=%" PRId64
           " dW=%" PRId64 " elements=%s,%s tf32=%d",
           w->rows, w->n_in, w->n_out, w->dZ.ld, w->A_in.ld, w->ld, element_name(w->dZ.element),
           element_name(w->A_in.element), w->tf32);
}

/* The kernels of another version of Descent, or another number of variants, have other times. */
void custom_key(const struct custom_launch *l, char key[TUNE_KEY]) {
  char operation[TUNE_KEY];
  if (l->kind == OP_DENSE_FORWARD)
    forward_key(l, operation);
  else if (l->kind == OP_DENSE_BACKWARD_INPUT)
    input_key(l, operation);
  else
    weights_key(l, operation);
  snprintf(key, TUNE_KEY, "%.*s variants=%d version=" DESCENT_VERSION " timed=captured", TUNE_KEY - 80, operation,
           custom_variants(l));
}

/* ---- trials ---- */

static void add(struct variant_work *work, size_t member, int64_t rows, int64_t n, int64_t ld, enum element element,
                bool written) {
  work->parts[work->n_parts++] = (struct variant_part){
      .member = member, .rows = rows, .n = n, .ld = ld, .element = element, .use = written ? PART_WRITTEN : PART_READ};
}

#define MEMBER(name) offsetof(struct custom_launch, name)
#define MATRIX(name, rows, n, written) \
  add(work, MEMBER(name.data), rows, n, launch->name.ld, launch->name.element, written)

static void list_parts(const struct custom_launch *launch, struct variant_work *work) {
  if (launch->kind == OP_DENSE_FORWARD) {
    const struct fused_forward_launch *const f = &launch->forward;
    const int64_t rows = f->pass.rows, n = f->pass.n;
    MATRIX(forward.A_in, rows, f->n_in, false);
    MATRIX(forward.W, n, f->n_in, false);
    add(work, MEMBER(forward.pass.bias), 1, n, n, f->pass.bias_element, false);
    if (f->pass.Z.ld) MATRIX(forward.pass.Z, rows, n, true);
    MATRIX(forward.pass.A, rows, n, true);
  } else if (launch->kind == OP_DENSE_BACKWARD_INPUT) {
    const struct fused_input_launch *const i = &launch->input;
    const int64_t rows = i->pass.rows, n = i->pass.n;
    MATRIX(input.dZ_above, rows, i->n_out, false);
    MATRIX(input.W, i->n_out, n, false);
    if (i->pass.A.ld) MATRIX(input.pass.A, rows, n, false);
    if (i->pass.Z.ld) MATRIX(input.pass.Z, rows, n, false);
    MATRIX(input.pass.dZ, rows, n, true);
    if (launch->sums) add(work, MEMBER(input.pass.bias_gradient), 1, n, n, ELEMENT_F32, true);
  } else {
    const struct weights_launch *const w = &launch->weights;
    MATRIX(weights.dZ, w->rows, w->n_out, false);
    MATRIX(weights.A_in, w->rows, w->n_in, false);
    add(work, MEMBER(weights.gradient), w->n_out, w->n_in, w->ld, ELEMENT_F32, true);
    add(work, MEMBER(weights.bias_gradient), 1, w->n_out, w->n_out, ELEMENT_F32, true);
  }
}

static cudaError_t run(void *copy, const struct variant_place *place, int variant, cudaStream_t stream) {
  struct custom_launch *const l = copy;
  if (l->kind == OP_DENSE_FORWARD)
    l->forward.pass.state = place->state;
  else if (l->kind == OP_DENSE_BACKWARD_INPUT)
    l->input.pass.state = place->state, l->input.pass.scratch = place->scratch;
  else
    l->weights.scratch = place->scratch;
  return custom_run(l, variant, stream);
}

/* Only the activations that leave positive numbers as they are give whole numbers. */
static bool whole_result(const void *launch, const struct variant_part *p, float *expected) {
  const struct custom_launch *const l = launch;
  const bool forward = l->kind == OP_DENSE_FORWARD, input = l->kind == OP_DENSE_BACKWARD_INPUT;
  const descent_activation activation = forward ? l->forward.pass.activation : l->input.pass.activation;
  const uint32_t threshold = forward ? l->forward.pass.threshold : l->input.pass.threshold;
  const bool sums = input && p->member == MEMBER(input.pass.bias_gradient);
  const int64_t each = forward ? l->forward.n_in + 1 : input ? l->input.n_out : l->weights.rows;
  const int64_t value = sums ? each * l->input.pass.rows : each;
  const bool plain = activation == DESCENT_ACTIVATION_IDENTITY || activation == DESCENT_ACTIVATION_RELU;
  const bool is_Z = forward && p->member == MEMBER(forward.pass.Z.data);
  *expected = (float)value;
  if ((forward || input) && !is_Z && (!plain || threshold)) return false;
  if (sums && each > variants_exact(l->input.pass.dZ.element)) return false;
  return value <= variants_exact(p->element);
}

static int64_t rows_of(const struct custom_launch *l) {
  return l->kind == OP_DENSE_FORWARD          ? l->forward.pass.rows
         : l->kind == OP_DENSE_BACKWARD_INPUT ? l->input.pass.rows
                                              : l->weights.rows;
}

static void describe(const struct custom_launch *launch, char key[TUNE_KEY], struct variant_work *work) {
  custom_key(launch, key);
  *work = (struct variant_work){.key = key,
                                .variants = custom_variants(launch),
                                .rows = rows_of(launch),
                                .partials = custom_scratch(launch),
                                .launch = launch,
                                .launch_bytes = sizeof *launch,
                                .run = run,
                                .whole = whole_result};
  list_parts(launch, work);
}

descent_status custom_passes(const struct product_library *library, const struct custom_launch *launch, int variant,
                             cudaStream_t stream, bool *passes) {
  struct variant_work work;
  char key[TUNE_KEY];
  describe(launch, key, &work);
  return variants_pass(library, &work, variant, stream, passes);
}

descent_status custom_fastest(struct product_library *library, const struct custom_launch *launch, cudaStream_t stream,
                              int *variant, double *seconds) {
  struct variant_work work;
  char key[TUNE_KEY];
  describe(launch, key, &work);
  return variants_fastest(library, &work, stream, variant, seconds);
}
