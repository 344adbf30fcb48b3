/* Trials of the variants of a custom kernel, and their times. */
#include "variants.h"

#include <stdlib.h>
#include <string.h>

#include "module.h"
#include "race.h"

/* ---- a trial's memory ---- */

enum { ALIGNMENT = 256 /* bytes */ };

struct variant_trial {
  const struct variant_work *tried;
  const struct product_library *library;
  cudaStream_t stream;
  size_t at[MOST_PARTS], again[MOST_PARTS]; /* the parts' offsets; of a second result */
  char *memory;
  size_t operands;            /* bytes of what a launch reads and writes */
  unsigned long long *counts; /* (2) on the device */
  struct variant_place place; /* of the first variant */
  void *launch;               /* the copy that is launched */
};

/* Reserves memory: returns its offset. */
static size_t reserve(size_t *total, int64_t rows, int64_t ld, int64_t size) {
  const size_t at = *total;
  *total += (size_t)(rows * ld * size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  return at;
}

static bool is_updated(const struct variant_part *p) { return p->use == PART_UPDATED || p->use == PART_GROWN; }

static bool is_result(const struct variant_part *p) {
  return p->use == PART_WRITTEN || p->use == PART_AROUND || is_updated(p);
}

/* Reserves memory for the parts, or for a second result of those that are written. */
static void reserve_parts(const struct variant_work *work, bool again, size_t at[MOST_PARTS], size_t *total) {
  for (int i = 0; i < work->n_parts; i++) {
    const struct variant_part *const p = &work->parts[i];
    if (again && !is_result(p)) continue;
    at[i] = p->within ? at[p->within - 1] + (size_t)(p->offset * element_bytes(p->element))
                      : reserve(total, p->rows, p->ld, element_bytes(p->element));
  }
}

static size_t own_bytes(const struct variant_work *work) {
  size_t bytes = 0;
  (void)reserve(&bytes, 1, (int64_t)work->own, 1);
  return bytes;
}

/* The operands come first, and what a launch shares with others behind them. All bytes are zero at first, so that the
 * padding holds no NaN by chance. */
static descent_status open_trial(struct variant_trial *trial) {
  const struct variant_work *const work = trial->tried;
  /* An update moves every parameter, but not far in all of the launches that are timed. */
  const struct update_factors_f32 factors = {1e-3f, 0.999f, 1e-3f, 1, 1};
  const struct step_state state = {.current = {.number = 1, .rows = work->rows, .update = factors}};
  size_t total = 0;
  descent_status status = DESCENT_OK;
  trial->launch = module_allocate(1, work->launch_bytes, "the trial of a kernel");
  if (!trial->launch) return DESCENT_ERROR_MEMORY;
  reserve_parts(work, false, trial->at, &total);
  trial->operands = total;
  reserve_parts(work, true, trial->again, &total);
  const size_t partials = reserve(&total, 1, (int64_t)work->partials, 1);
  const size_t counters = reserve(&total, 1, COUNTERS, sizeof(unsigned));
  const size_t states = reserve(&total, 1, 1, sizeof state), sums = reserve(&total, 1, SCALAR_SLOTS, sizeof(double));
  const size_t own = reserve(&total, work->variants, (int64_t)own_bytes(work), 1);
  const size_t counts = reserve(&total, 1, 2, sizeof *trial->counts);
  CUDA_TRY(cudaMalloc((void **)&trial->memory, total));
  CUDA_TRY(cudaMemsetAsync(trial->memory, 0, total, trial->stream));
  CUDA_TRY(cudaMemcpyAsync(trial->memory + states, &state, sizeof state, cudaMemcpyHostToDevice, trial->stream));
  CUDA_TRY(cudaStreamSynchronize(trial->stream));
  trial->counts = (unsigned long long *)(void *)(trial->memory + counts);
  trial->place = (struct variant_place){
      .state = (struct step_state *)(void *)(trial->memory + states),
      .scalars = (double *)(void *)(trial->memory + sums),
      .scratch = {trial->memory + partials, (unsigned *)(void *)(trial->memory + counters)},
      .own = trial->memory + own,
  };
done:
  return status;
}

static void close_trial(struct variant_trial *trial) {
  if (trial->memory) (void)cudaFree(trial->memory);
  free(trial->launch);
}

/* Enqueues the variant on the copy of the operands that is `shift` bytes away, or with its results elsewhere. */
static bool run(const struct variant_trial *trial, int variant, ptrdiff_t shift, bool again) {
  const struct variant_work *const work = trial->tried;
  struct variant_place place = trial->place;
  place.own = (char *)place.own + (size_t)variant * own_bytes(work);
  place.again = again;
  memcpy(trial->launch, work->launch, work->launch_bytes);
  for (int i = 0; i < work->n_parts; i++) {
    const struct variant_part *const p = &work->parts[i];
    char *const address = trial->memory + (again && is_result(p) ? trial->again[i] : trial->at[i]) + shift;
    if (!p->within) memcpy((char *)trial->launch + p->member, &address, sizeof address);
  }
  const bool ran = work->run(trial->launch, &place, variant, trial->stream) == cudaSuccess;
  if (!ran) (void)cudaGetLastError(); /* an error that stays comes back with the next call */
  return ran;
}

/* ---- the trial of a variant ---- */

static struct device_matrix matrix_of(const struct variant_trial *trial, int part, bool again) {
  const struct variant_part *const p = &trial->tried->parts[part];
  return (struct device_matrix){trial->memory + (again ? trial->again : trial->at)[part], p->ld, p->element};
}

/* Fills what is read with ones or random values, and the results with NaN, the second ones with another NaN: an element
 * that is not written differs. */
static descent_status fill(const struct variant_trial *trial, bool ones) {
  const double scalars[SCALAR_SLOTS] = {[SCALAR_WEIGHT_SUM] = (double)trial->tried->rows};
  descent_status status = DESCENT_OK;
  CUDA_TRY(cudaMemcpyAsync(trial->place.scalars, scalars, sizeof scalars, cudaMemcpyHostToDevice, trial->stream));
  CUDA_TRY(cudaStreamSynchronize(trial->stream));
  for (int i = 0; i < trial->tried->n_parts; i++) {
    const struct variant_part *const p = &trial->tried->parts[i];
    const size_t bytes = (size_t)(p->rows * p->ld * element_bytes(p->element));
    if (p->within) continue;
    if (p->use == PART_GIVEN) {
      CUDA_TRY(cudaMemcpyAsync(trial->memory + trial->at[i], p->given, bytes, cudaMemcpyHostToDevice, trial->stream));
      continue;
    }
    if (!is_result(p) || is_updated(p)) {
      const bool is_one = ones || p->use == PART_ONES || p->use == PART_GROWN;
      for (int again = 0; again < (is_updated(p) ? 2 : 1); again++)
        CUDA_TRY(launch_fill(matrix_of(trial, i, again == 1), p->rows, p->n, is_one, (uint64_t)i + 1, trial->stream));
      continue;
    }
    CUDA_TRY(cudaMemsetAsync(trial->memory + trial->at[i], 0xff, bytes, trial->stream));
    CUDA_TRY(cudaMemsetAsync(trial->memory + trial->again[i], 0xfe, bytes, trial->stream));
  }
done:
  return status;
}

/* counts: the elements of the part that differ between the two results; those that are not `expected`. */
static descent_status compare(const struct variant_trial *trial, int part, bool again, float expected,
                              unsigned long long counts[2]) {
  const struct variant_part *const p = &trial->tried->parts[part];
  descent_status status = DESCENT_OK;
  CUDA_TRY(launch_compare(matrix_of(trial, part, false), matrix_of(trial, part, again), p->rows, p->n, expected,
                          trial->counts, trial->counts + 1, trial->stream));
  CUDA_TRY(cudaMemcpyAsync(counts, trial->counts, 2 * sizeof *counts, cudaMemcpyDeviceToHost, trial->stream));
  CUDA_TRY(cudaStreamSynchronize(trial->stream));
done:
  return status;
}

int64_t variants_exact(enum element element) { return element == ELEMENT_BF16 ? 1 << 8 : 1 << 24; }

/* The reason why a variant is not used, as one word of the trace; NULL: it passes. */
static descent_status try_variant(const struct variant_trial *trial, int variant, const char **verdict) {
  const struct variant_work *const work = trial->tried;
  unsigned long long counts[2];
  float expected;
  bool ran;
  descent_status status;
  *verdict = NULL;
  TRY(fill(trial, true));
  ran = run(trial, variant, 0, false);
  for (int i = 0; ran && i < work->n_parts && !*verdict; i++) {
    const struct variant_part *const p = &work->parts[i];
    if (p->use != PART_WRITTEN || !work->whole(work->launch, p, &expected)) continue;
    TRY(compare(trial, i, false, expected, counts));
    if (counts[1]) *verdict = "inexact";
  }
  TRY(fill(trial, false));
  for (int again = 0; again < 2; again++) ran = ran && run(trial, variant, 0, again == 1);
  for (int i = 0; ran && i < work->n_parts && !*verdict; i++) {
    if (work->parts[i].use != PART_WRITTEN && !is_updated(&work->parts[i])) continue;
    TRY(compare(trial, i, true, 0, counts));
    if (counts[0]) *verdict = "unsteady";
  }
  if (!ran) *verdict = "not_launched";
done:
  return status;
}

static void trace(const struct variant_trial *trial, const struct candidate *candidate, const char *verdict) {
  product_library_trace(trial->library, "candidate", trial->tried->key, "variant=%d verdict=%s seconds=%.4g",
                        candidate->variant, verdict, candidate->seconds);
}

descent_status variants_pass(const struct product_library *library, const struct variant_work *work, int variant,
                             cudaStream_t stream, bool *passes) {
  struct variant_trial trial = {.tried = work, .library = library, .stream = stream};
  struct candidate candidate = {.variant = variant};
  descent_status status;
  TRY(open_trial(&trial));
  TRY(try_variant(&trial, variant, &candidate.verdict));
  trace(&trial, &candidate, candidate.verdict ? candidate.verdict : "passed");
  *passes = !candidate.verdict;
done:
  close_trial(&trial);
  return status;
}

/* ---- the fastest ---- */

static descent_status launch_candidate(const void *context, const struct candidate *candidate, ptrdiff_t shift,
                                       bool *ran) {
  *ran = run(context, candidate->variant, shift, false);
  return DESCENT_OK;
}

/* Tries the variants and times those that pass. *n: their number, the fastest first. */
static descent_status time_variants(struct variant_trial *trial, struct candidate candidates[], int *n) {
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
      trace(trial, &candidate, candidate.verdict);
    else
      candidates[passing++] = candidate;
  }
  if (passing > 0) TRY(race_run(&setup, candidates, passing));
  *n = passing;
  while (*n > 0 && candidates[*n - 1].verdict) --*n; /* could not be captured */
  for (int i = 0; i < passing; i++)
    trace(trial, &candidates[i], candidates[i].verdict ? candidates[i].verdict : i == 0 ? "taken" : "passed");
done:
  return status;
}

/* An entry holds the variant, counted from 1; 0: none passes. Times are rounded as in the file, so that later processes
 * choose by the same number. */
descent_status variants_fastest(struct product_library *library, const struct variant_work *work, cudaStream_t stream,
                                int *variant, double *seconds) {
  struct candidate candidates[MOST_CANDIDATES];
  struct variant_trial trial = {.tried = work, .library = library, .stream = stream};
  struct tune_entry entry = {.nanoseconds = 0};
  int n = work->variants;
  descent_status status = DESCENT_OK;
  *variant = -1;
  *seconds = 0;
  if (n == 0) return DESCENT_OK;
  strcpy(entry.key, work->key);
  const struct tune_entry *const known = product_library_recall(library, entry.key);
  const bool is_valid = known && known->algorithm[0] <= (uint64_t)n;
  if (is_valid && known->algorithm[0] == 0) return DESCENT_OK;
  TRY(open_trial(&trial));
  if (is_valid) {
    struct candidate candidate = {.variant = (int)known->algorithm[0] - 1,
                                  .seconds = 1e-9 * (double)known->nanoseconds};
    TRY(try_variant(&trial, candidate.variant, &candidate.verdict));
    trace(&trial, &candidate, candidate.verdict ? candidate.verdict : "taken");
    if (!candidate.verdict) {
      *variant = candidate.variant, *seconds = candidate.seconds;
      goto done;
    }
  }
  TRY(time_variants(&trial, candidates, &n));
  if (n > 0) {
    entry.nanoseconds = (int64_t)(1e9 * candidates[0].seconds + 0.5);
    entry.algorithm[0] = (uint64_t)candidates[0].variant + 1;
    *variant = candidates[0].variant;
    *seconds = 1e-9 * (double)entry.nanoseconds;
  }
  product_library_remember(library, &entry);
done:
  close_trial(&trial);
  return status;
}
