/* Trials of the variants of custom kernels, and their times. The trial guards against a device or a compiler that the
 * tests did not see, at the price of a few launches: it is no proof that a kernel is right. */
#include "custom.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "module.h"
#include "race.h"

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

/* ---- a trial's memory ---- */

/* A matrix or vector of the launch. */
struct part {
  size_t member; /* where its address is in struct custom_launch */
  int64_t rows, n, ld;
  enum element element;
  bool written;
  size_t at, again; /* its offset; of a second result */
};
enum { MOST_PARTS = 6, ALIGNMENT = 256 /* bytes */ };

struct custom_trial {
  struct custom_launch launch; /* on the trial's memory */
  const struct product_library *library;
  cudaStream_t stream;
  struct part parts[MOST_PARTS];
  int n_parts;
  char *memory;
  size_t operands;            /* bytes of what a launch reads and writes */
  unsigned long long *counts; /* (2) on the device */
};

static void add(struct custom_trial *trial, size_t member, int64_t rows, int64_t n, int64_t ld, enum element element,
                bool written) {
  trial->parts[trial->n_parts++] = (struct part){member, rows, n, ld, element, written, 0, 0};
}

#define MEMBER(name) offsetof(struct custom_launch, name)
#define MATRIX(name, rows, n, written) \
  add(trial, MEMBER(name.data), rows, n, trial->launch.name.ld, trial->launch.name.element, written)

static void list_parts(struct custom_trial *trial) {
  if (trial->launch.kind == OP_DENSE_FORWARD) {
    const struct fused_forward_launch *const f = &trial->launch.forward;
    const int64_t rows = f->pass.rows, n = f->pass.n;
    MATRIX(forward.A_in, rows, f->n_in, false);
    MATRIX(forward.W, n, f->n_in, false);
    add(trial, MEMBER(forward.pass.bias), 1, n, n, f->pass.bias_element, false);
    if (f->pass.Z.ld) MATRIX(forward.pass.Z, rows, n, true);
    MATRIX(forward.pass.A, rows, n, true);
  } else if (trial->launch.kind == OP_DENSE_BACKWARD_INPUT) {
    const struct fused_input_launch *const i = &trial->launch.input;
    const int64_t rows = i->pass.rows, n = i->pass.n;
    MATRIX(input.dZ_above, rows, i->n_out, false);
    MATRIX(input.W, i->n_out, n, false);
    if (i->pass.A.ld) MATRIX(input.pass.A, rows, n, false);
    if (i->pass.Z.ld) MATRIX(input.pass.Z, rows, n, false);
    MATRIX(input.pass.dZ, rows, n, true);
    if (trial->launch.sums) add(trial, MEMBER(input.pass.bias_gradient), 1, n, n, ELEMENT_F32, true);
  } else {
    const struct weights_launch *const w = &trial->launch.weights;
    MATRIX(weights.dZ, w->rows, w->n_out, false);
    MATRIX(weights.A_in, w->rows, w->n_in, false);
    add(trial, MEMBER(weights.gradient), w->n_out, w->n_in, w->ld, ELEMENT_F32, true);
    add(trial, MEMBER(weights.bias_gradient), 1, w->n_out, w->n_out, ELEMENT_F32, true);
  }
}

/* Reserves memory: returns its offset. */
static size_t reserve(size_t *total, int64_t rows, int64_t ld, int64_t size) {
  const size_t at = *total;
  *total += (size_t)(rows * ld * size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  return at;
}

static int64_t rows_of(const struct custom_launch *l) {
  return l->kind == OP_DENSE_FORWARD          ? l->forward.pass.rows
         : l->kind == OP_DENSE_BACKWARD_INPUT ? l->input.pass.rows
                                              : l->weights.rows;
}

/* The operands come first, and what a launch shares with others behind them. All bytes are zero at first, so that the
 * padding holds no NaN by chance. */
static descent_status open_trial(struct custom_trial *trial) {
  struct custom_launch *const l = &trial->launch;
  struct step_state state = {.current = {.number = 1, .rows = rows_of(l)}};
  size_t total = 0;
  descent_status status = DESCENT_OK;
  list_parts(trial);
  for (int i = 0; i < trial->n_parts; i++) {
    struct part *const p = &trial->parts[i];
    p->at = reserve(&total, p->rows, p->ld, element_bytes(p->element));
  }
  trial->operands = total;
  for (int i = 0; i < trial->n_parts; i++) {
    struct part *const p = &trial->parts[i];
    if (p->written) p->again = reserve(&total, p->rows, p->ld, element_bytes(p->element));
  }
  const size_t partials = reserve(&total, 1, (int64_t)custom_scratch(l), 1);
  const size_t counters = reserve(&total, 1, COUNTERS, sizeof(unsigned));
  const size_t states = reserve(&total, 1, 1, sizeof state), counts = reserve(&total, 1, 2, sizeof *trial->counts);
  CUDA_TRY(cudaMalloc((void **)&trial->memory, total));
  CUDA_TRY(cudaMemsetAsync(trial->memory, 0, total, trial->stream));
  CUDA_TRY(cudaMemcpyAsync(trial->memory + states, &state, sizeof state, cudaMemcpyHostToDevice, trial->stream));
  CUDA_TRY(cudaStreamSynchronize(trial->stream));
  trial->counts = (unsigned long long *)(void *)(trial->memory + counts);
  const struct scratch scratch = {trial->memory + partials, (unsigned *)(void *)(trial->memory + counters)};
  const struct step_state *const steps = (const struct step_state *)(const void *)(trial->memory + states);
  if (l->kind == OP_DENSE_FORWARD)
    l->forward.pass.state = steps;
  else if (l->kind == OP_DENSE_BACKWARD_INPUT)
    l->input.pass.state = steps, l->input.pass.scratch = scratch;
  else
    l->weights.scratch = scratch;
done:
  return status;
}

/* Enqueues the variant on the copy of the operands that is `shift` bytes away, or with its results elsewhere. */
static bool run(const struct custom_trial *trial, int variant, ptrdiff_t shift, bool again) {
  struct custom_launch launch = trial->launch;
  for (int i = 0; i < trial->n_parts; i++) {
    const struct part *const p = &trial->parts[i];
    char *const address = trial->memory + (again && p->written ? p->again : p->at) + shift;
    memcpy((char *)&launch + p->member, &address, sizeof address);
  }
  const bool ran = custom_run(&launch, variant, trial->stream) == cudaSuccess;
  if (!ran) (void)cudaGetLastError(); /* an error that stays comes back with the next call */
  return ran;
}

/* ---- the trial of a variant ---- */

static struct device_matrix matrix_of(const struct custom_trial *trial, const struct part *p, bool again) {
  return (struct device_matrix){trial->memory + (again ? p->again : p->at), p->ld, p->element};
}

/* Fills what is read with ones or random values, and the results with NaN, the second ones with another NaN: an element
 * that is not written differs. */
static descent_status fill(const struct custom_trial *trial, bool ones) {
  descent_status status = DESCENT_OK;
  for (int i = 0; i < trial->n_parts; i++) {
    const struct part *const p = &trial->parts[i];
    const size_t bytes = (size_t)(p->rows * p->ld * element_bytes(p->element));
    if (!p->written) {
      CUDA_TRY(launch_fill(matrix_of(trial, p, false), p->rows, p->n, ones, (uint64_t)i + 1, trial->stream));
      continue;
    }
    CUDA_TRY(cudaMemsetAsync(trial->memory + p->at, 0xff, bytes, trial->stream));
    CUDA_TRY(cudaMemsetAsync(trial->memory + p->again, 0xfe, bytes, trial->stream));
  }
done:
  return status;
}

/* counts: the elements of the part that differ between the two results; those that are not `expected`. */
static descent_status compare(const struct custom_trial *trial, const struct part *p, bool again, float expected,
                              unsigned long long counts[2]) {
  descent_status status = DESCENT_OK;
  CUDA_TRY(launch_compare(matrix_of(trial, p, false), matrix_of(trial, p, again), p->rows, p->n, expected,
                          trial->counts, trial->counts + 1, trial->stream));
  CUDA_TRY(cudaMemcpyAsync(counts, trial->counts, 2 * sizeof *counts, cudaMemcpyDeviceToHost, trial->stream));
  CUDA_TRY(cudaStreamSynchronize(trial->stream));
done:
  return status;
}

enum { EXACT = 1 << 24, EXACT_BF16 = 1 << 8 }; /* whole numbers up to here are exact */

/* What the part holds after a launch on ones; false if that is not a whole number that every order of summation gives
 * exactly. Only the activations that leave positive numbers as they are give one. */
static bool whole_result(const struct custom_trial *trial, const struct part *p, float *expected) {
  const struct custom_launch *const l = &trial->launch;
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
  if (sums && l->input.pass.dZ.element == ELEMENT_BF16 && each > EXACT_BF16) return false;
  return value <= (p->element == ELEMENT_BF16 ? EXACT_BF16 : EXACT);
}

/* The reason why a variant is not used, as one word of the trace; NULL: it passes. */
static descent_status try_variant(const struct custom_trial *trial, int variant, const char **verdict) {
  unsigned long long counts[2];
  float expected;
  bool ran;
  descent_status status;
  *verdict = NULL;
  TRY(fill(trial, true));
  ran = run(trial, variant, 0, false);
  for (int i = 0; ran && i < trial->n_parts && !*verdict; i++) {
    const struct part *const p = &trial->parts[i];
    if (!p->written || !whole_result(trial, p, &expected)) continue;
    TRY(compare(trial, p, false, expected, counts));
    if (counts[1]) *verdict = "inexact";
  }
  TRY(fill(trial, false));
  for (int again = 0; again < 2; again++) ran = ran && run(trial, variant, 0, again == 1);
  for (int i = 0; ran && i < trial->n_parts && !*verdict; i++) {
    if (!trial->parts[i].written) continue;
    TRY(compare(trial, &trial->parts[i], true, 0, counts));
    if (counts[0]) *verdict = "unsteady";
  }
  if (!ran) *verdict = "not_launched";
done:
  return status;
}

static void trace(const struct custom_trial *trial, const char *key, const struct candidate *candidate,
                  const char *verdict) {
  product_library_trace(trial->library, "candidate", key, "variant=%d verdict=%s seconds=%.4g", candidate->variant,
                        verdict, candidate->seconds);
}

descent_status custom_passes(const struct product_library *library, const struct custom_launch *launch, int variant,
                             cudaStream_t stream, bool *passes) {
  struct custom_trial trial = {.launch = *launch, .library = library, .stream = stream};
  struct candidate candidate = {.variant = variant};
  char key[TUNE_KEY];
  descent_status status;
  TRY(open_trial(&trial));
  TRY(try_variant(&trial, variant, &candidate.verdict));
  custom_key(launch, key);
  trace(&trial, key, &candidate, candidate.verdict ? candidate.verdict : "passed");
  *passes = !candidate.verdict;
done:
  if (trial.memory) (void)cudaFree(trial.memory);
  return status;
}

/* ---- the fastest ---- */

static descent_status launch_candidate(const void *context, const struct candidate *candidate, ptrdiff_t shift,
                                       bool *ran) {
  *ran = run(context, candidate->variant, shift, false);
  return DESCENT_OK;
}

/* Tries the variants and times those that pass. *n: their number, the fastest first. */
static descent_status time_variants(struct custom_trial *trial, const char *key, struct candidate candidates[],
                                    int *n) {
  const struct race_setup setup = {.stream = trial->stream,
                                   .cache = product_library_cache(trial->library),
                                   .operands = trial->memory,
                                   .bytes = (int64_t)trial->operands,
                                   .launch = launch_candidate,
                                   .context = trial};
  int passing = 0;
  descent_status status = DESCENT_OK;
  for (int variant = 0; variant < *n; variant++) {
    struct candidate candidate = {.variant = variant};
    TRY(try_variant(trial, variant, &candidate.verdict));
    if (candidate.verdict)
      trace(trial, key, &candidate, candidate.verdict);
    else
      candidates[passing++] = candidate;
  }
  if (passing > 0) TRY(race_run(&setup, candidates, passing));
  *n = passing;
  while (*n > 0 && candidates[*n - 1].verdict) --*n; /* could not be captured */
  for (int i = 0; i < passing; i++)
    trace(trial, key, &candidates[i], candidates[i].verdict ? candidates[i].verdict : i == 0 ? "taken" : "passed");
done:
  return status;
}

/* An entry holds the variant, counted from 1; 0: none passes. Times are rounded as in the file, so that later processes
 * choose by the same number. */
descent_status custom_fastest(struct product_library *library, const struct custom_launch *launch, cudaStream_t stream,
                              int *variant, double *seconds) {
  struct candidate candidates[MOST_CANDIDATES];
  struct custom_trial trial = {.launch = *launch, .library = library, .stream = stream};
  struct tune_entry entry = {.nanoseconds = 0};
  int n = custom_variants(launch);
  descent_status status = DESCENT_OK;
  *variant = -1;
  *seconds = 0;
  if (n == 0) return DESCENT_OK;
  custom_key(launch, entry.key);
  const struct tune_entry *const known = product_library_recall(library, entry.key);
  const bool is_valid = known && known->algorithm[0] <= (uint64_t)n;
  if (is_valid && known->algorithm[0] == 0) return DESCENT_OK;
  TRY(open_trial(&trial));
  if (is_valid) {
    struct candidate candidate = {.variant = (int)known->algorithm[0] - 1,
                                  .seconds = 1e-9 * (double)known->nanoseconds};
    TRY(try_variant(&trial, candidate.variant, &candidate.verdict));
    trace(&trial, entry.key, &candidate, candidate.verdict ? candidate.verdict : "taken");
    if (!candidate.verdict) {
      *variant = candidate.variant, *seconds = candidate.seconds;
      goto done;
    }
  }
  TRY(time_variants(&trial, entry.key, candidates, &n));
  if (n > 0) {
    entry.nanoseconds = (int64_t)(1e9 * candidates[0].seconds + 0.5);
    entry.algorithm[0] = (uint64_t)candidates[0].variant + 1;
    *variant = candidates[0].variant;
    *seconds = 1e-9 * (double)entry.nanoseconds;
  }
  product_library_remember(library, &entry);
done:
  if (trial.memory) (void)cudaFree(trial.memory);
  return status;
}
