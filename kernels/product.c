/* The choice of a product's algorithm. An algorithm is used if its flags promise one order of summation at the
 * requested precision, and if it passes its trials. */
#include "product.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "module.h"
#include "race.h"
#include "trial.h"

enum { CANDIDATES = 8 };

struct product_library {
  struct matmul_context context;
  int64_t cache; /* bytes of the device's L2; 0: unknown */
  struct trace trace;
  bool draws; /* choices are drawn from the seed */
  uint64_t seed;
  bool untrusted;      /* an algorithm is in use that only passed its tests */
  bool forgets;        /* a choice could not be remembered */
  char path[PATH_MAX]; /* of the remembered choices; "": none */
  struct tune_table remembered;
};

struct product {
  struct product_library *library;
  struct matmul matmul;
  cublasLtMatmulAlgo_t algorithm;
  size_t workspace; /* bytes that the algorithm needs */
  double seconds;
};

/* ---- the library ---- */

void product_library_close(struct product_library *library) {
  if (!library) return;
  if (library->context.workspace) (void)cudaFree(library->context.workspace);
  if (library->context.handle) (void)cublasLtDestroy(library->context.handle);
  tune_release(&library->remembered);
  trace_close(&library->trace);
  free(library);
}

static descent_status read_seed(struct product_library *library) {
  const char *text = getenv("DESCENT_CUDA_CHOOSE");
  char *end;
  if (!text) return DESCENT_OK;
  errno = 0;
  library->seed = strtoull(text, &end, 10);
  library->draws = true;
  if (*text < '0' || *text > '9' || *end || errno)
    return module_status(DESCENT_ERROR_ARGUMENT,
                         "DESCENT_CUDA_CHOOSE: '%s' is not a seed (give a whole number below 2^64, or unset it)", text);
  return DESCENT_OK;
}

static int64_t cache_bytes(int ordinal) {
  int bytes = 0;
  if (cudaDeviceGetAttribute(&bytes, cudaDevAttrL2CacheSize, ordinal) == cudaSuccess) return bytes;
  (void)cudaGetLastError();
  return 0;
}

descent_status product_library_open(int ordinal, struct product_library **result) {
  struct product_library *library = NULL;
  struct cudaDeviceProp properties;
  descent_status status = DESCENT_OK;
  CUDA_TRY(cudaGetDeviceProperties(&properties, ordinal));
  library = module_allocate(1, sizeof *library, "the products of a device");
  if (!library) return DESCENT_ERROR_MEMORY;
  TRY(trace_open(&library->trace));
  TRY(read_seed(library));
  library->cache = cache_bytes(ordinal);
  CUBLAS_TRY(cublasLtCreate(&library->context.handle));
  const int64_t bytes = properties.major >= 9 ? 32 << 20 : 8 << 20; /* NVIDIA's advice, and twice that before Hopper */
  CUDA_TRY(cudaMalloc(&library->context.workspace, PRODUCT_WORKSPACES * (size_t)bytes));
  library->context.workspace_bytes = bytes;
  if (tune_path(&properties, cublasLtGetVersion(), library->path, sizeof library->path))
    tune_read(library->path, &library->remembered);
  else
    library->path[0] = 0;
  *result = library;
  library = NULL;
done:
  product_library_close(library);
  return status;
}

int64_t product_library_workspace_bytes(const struct product_library *library) {
  return library->context.workspace_bytes;
}

int64_t product_library_bytes(const struct product_library *library) {
  return PRODUCT_WORKSPACES * library->context.workspace_bytes;
}

void *product_library_workspace(const struct product_library *library, int i) {
  return (char *)library->context.workspace + i * library->context.workspace_bytes;
}
bool product_library_forgets(const struct product_library *library) { return library->forgets; }
bool product_library_untrusted(const struct product_library *library) { return library->untrusted; }
bool product_library_draws(const struct product_library *library) { return library->draws; }
int64_t product_library_cache(const struct product_library *library) { return library->cache; }

/* ---- draws and the trace ---- */

int product_library_draw(const struct product_library *library, const char *key, const char *what, int n) {
  const char *const texts[] = {key, what};
  uint64_t hash = library->seed;
  for (int t = 0; t < 2; t++)
    for (const char *at = texts[t]; *at; at++) { /* splitmix64's steps between the characters */
      hash = (hash ^ (unsigned char)*at) + UINT64_C(0x9e3779b97f4a7c15);
      hash = (hash ^ hash >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
      hash = (hash ^ hash >> 27) * UINT64_C(0x94d049bb133111eb);
      hash ^= hash >> 31;
    }
  return (int)(hash % (uint64_t)n);
}

void product_library_trace(const struct product_library *library, const char *word, const char *key, const char *format,
                           ...) {
  char text[TRACE_LINE - TUNE_KEY];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  trace_line(&library->trace, "%s %s %s", word, key, text);
}

/* ---- what is remembered ---- */

void product_library_key(const struct product_library *library, const struct product_shape *shape, char key[TUNE_KEY]) {
  tune_key(shape, library->context.workspace_bytes, MATMUL_ALIGNMENT, key);
}

const struct tune_entry *product_library_recall(const struct product_library *library, const char *key) {
  return tune_find(&library->remembered, key);
}

void product_library_remember(struct product_library *library, const struct tune_entry *entry) {
  tune_put(&library->remembered, entry);
  if (!library->path[0] || !tune_remember(library->path, entry)) library->forgets = true;
}

/* ---- choosing ---- */

#define PREFER(attribute, value) \
  CUBLAS_TRY(                    \
      cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_##attribute, &(value), sizeof(value)))

/* The heuristic's candidates, best first; *n may be 0. `last`: more candidates, none of which splits K, since
 * algorithms that split K share their faults. */
static descent_status query(const struct product *product, bool last, struct candidate candidates[MOST_CANDIDATES],
                            int *n, cublasStatus_t *answer) {
  const struct product_library *const library = product->library;
  const struct matmul *const m = &product->matmul;
  const uint64_t workspace = (uint64_t)library->context.workspace_bytes;
  const uint32_t alignment = MATMUL_ALIGNMENT;
  const uint32_t schemes =
      last ? (uint32_t)CUBLASLT_REDUCTION_SCHEME_NONE : facts_allowed_schemes(&product->matmul.shape);
  cublasLtMatmulHeuristicResult_t results[MOST_CANDIDATES];
  cublasLtMatmulPreference_t preference = NULL;
  int found = 0;
  descent_status status = DESCENT_OK;
  *n = 0;
  TRY(matmul_promise_alignment(m)); /* trials leave the pointers to their scratch */
  CUBLAS_TRY(cublasLtMatmulPreferenceCreate(&preference));
  PREFER(MAX_WORKSPACE_BYTES, workspace);
  PREFER(REDUCTION_SCHEME_MASK, schemes);
  PREFER(MIN_ALIGNMENT_A_BYTES, alignment);
  PREFER(MIN_ALIGNMENT_B_BYTES, alignment);
  PREFER(MIN_ALIGNMENT_C_BYTES, alignment);
  PREFER(MIN_ALIGNMENT_D_BYTES, alignment);
  *answer = cublasLtMatmulAlgoGetHeuristic(library->context.handle, m->operation, m->x, m->y, m->d, m->d, preference,
                                           last ? MOST_CANDIDATES : CANDIDATES, results, &found);
  for (int i = 0; *answer == CUBLAS_STATUS_SUCCESS && i < found; i++)
    if (results[i].state == CUBLAS_STATUS_SUCCESS && results[i].workspaceSize <= workspace)
      candidates[(*n)++] = (struct candidate){.algorithm = results[i].algo,
                                              .workspace = results[i].workspaceSize,
                                              .waves = results[i].wavesCount,
                                              .trust = facts_trust(&product->matmul.shape, &results[i].algo)};
done:
  if (preference) (void)cublasLtMatmulPreferenceDestroy(preference);
  return status;
}

/* Gives the remembered candidate and returns 1, or 0 if none is remembered that runs. */
static int recall(const struct product *product, const char *key, struct candidate *candidate) {
  const struct product_library *const library = product->library;
  const struct matmul *const m = &product->matmul;
  const struct tune_entry *const entry = tune_find(&library->remembered, key);
  cublasLtMatmulHeuristicResult_t result;
  if (!entry) return 0;
  *candidate = (struct candidate){0};
  _Static_assert(sizeof candidate->algorithm == sizeof entry->algorithm, "the remembered algorithm");
  memcpy(&candidate->algorithm, entry->algorithm, sizeof entry->algorithm);
  candidate->seconds = 1e-9 * (double)entry->nanoseconds;
  candidate->trust = facts_trust(&product->matmul.shape, &candidate->algorithm);
  if (cublasLtMatmulAlgoCheck(library->context.handle, m->operation, m->x, m->y, m->d, m->d, &candidate->algorithm,
                              &result) != CUBLAS_STATUS_SUCCESS)
    return 0;
  candidate->workspace = result.workspaceSize;
  return result.workspaceSize <= (size_t)library->context.workspace_bytes && candidate->trust != TRUST_NONE;
}

/* The product keeps its time as rounded in the file, so that later processes choose by the same number. */
static void remember(struct product *product, const char *key) {
  struct tune_entry entry = {.nanoseconds = (int64_t)(1e9 * product->seconds + 0.5)};
  product->seconds = 1e-9 * (double)entry.nanoseconds;
  strcpy(entry.key, key);
  memcpy(entry.algorithm, &product->algorithm, sizeof entry.algorithm);
  product_library_remember(product->library, &entry);
}

/* A shape for which no algorithm passes is remembered with an all-zero algorithm, so that later compilations do not
 * repeat all trials. */
static void remember_refusal(struct product_library *library, const char *key) {
  struct tune_entry entry = {0};
  strcpy(entry.key, key);
  product_library_remember(library, &entry);
}

static bool is_refused(const struct product_library *library, const char *key) {
  static const struct tune_entry refusal;
  const struct tune_entry *const entry = tune_find(&library->remembered, key);
  return entry && memcmp(entry->algorithm, refusal.algorithm, sizeof refusal.algorithm) == 0;
}

/* Keeps the candidates of this trust and traces the others. */
static int keep_trusted(const struct product *product, const char *key, enum trust trust, struct candidate candidates[],
                        int n) {
  int n_kept = 0;
  for (int i = 0; i < n; i++) {
    if (candidates[i].trust == trust)
      candidates[n_kept++] = candidates[i];
    else
      facts_trace(&product->library->trace, key, &candidates[i], "refused_by_flags");
  }
  return n_kept;
}

/* Keeps the candidates that pass their trials (with `one` only the first of them) and traces the others. */
static descent_status keep_passing(const struct product *product, const char *key, struct trial *trial,
                                   struct candidate candidates[], int *n, bool one) {
  int n_kept = 0;
  descent_status status = DESCENT_OK;
  if (*n > 0) TRY(trial_open(trial));
  for (int i = 0; i < *n && !(one && n_kept); i++) {
    TRY(trial_run(trial, &candidates[i]));
    if (candidates[i].verdict)
      facts_trace(&product->library->trace, key, &candidates[i], candidates[i].verdict);
    else
      candidates[n_kept++] = candidates[i];
  }
  *n = n_kept;
done:
  return status;
}

static descent_status launch(const void *context, const struct candidate *candidate, ptrdiff_t shift, bool *ran) {
  return trial_launch(context, &candidate->algorithm, false, shift, ran);
}

static descent_status race(const struct trial *trial, struct candidate candidates[], int n) {
  const struct race_setup setup = {.stream = trial->stream,
                                   .cache = trial->cache,
                                   .operands = trial->part[0],
                                   .bytes = trial->part[OPERAND_PARTS] - trial->part[0],
                                   .launch = launch,
                                   .context = trial};
  return race_run(&setup, candidates, n);
}

enum selection { SELECT_FIRST, SELECT_FASTEST, SELECT_DRAWN };

/* Chooses one of the candidates, if any passes. */
static descent_status take(struct product *product, const char *key, struct trial *trial, struct candidate candidates[],
                           int n, enum selection selection, bool *found) {
  struct product_library *const library = product->library;
  descent_status status;
  TRY(keep_passing(product, key, trial, candidates, &n, selection == SELECT_FIRST));
  if (n > 0 && selection == SELECT_FASTEST) TRY(race(trial, candidates, n));
  const int taken = n > 0 && selection == SELECT_DRAWN ? product_library_draw(library, key, "algorithm", n) : 0;
  for (int i = 0; i < n; i++)
    facts_trace(&library->trace, key, &candidates[i],
                candidates[i].verdict ? candidates[i].verdict
                : i == taken          ? "taken"
                                      : "passed");
  if (n == 0 || candidates[taken].verdict) goto done;
  product->algorithm = candidates[taken].algorithm;
  product->workspace = candidates[taken].workspace;
  product->seconds = candidates[taken].seconds;
  if (candidates[taken].trust == TRUST_TESTS) library->untrusted = true;
  *found = true;
done:
  return status;
}

/* Chooses one of the algorithms that the library offers. If the flags rule out all of them, those that may be used on
 * the strength of their tests are tried. */
static descent_status choose_offered(struct product *product, const char *key, struct trial *trial,
                                     enum selection selection) {
  struct candidate candidates[MOST_CANDIDATES];
  cublasStatus_t answer = CUBLAS_STATUS_SUCCESS;
  int offered = 0, trusted = 0;
  bool found = false;
  descent_status status = DESCENT_OK;
  for (enum trust trust = TRUST_FLAGS; trust <= TRUST_TESTS && !found && !trusted; trust++)
    for (int last = 0; last <= 1 && !found; last++) {
      int n;
      TRY(query(product, last, candidates, &n, &answer));
      offered += n;
      n = keep_trusted(product, key, trust, candidates, n);
      trusted += n;
      TRY(take(product, key, trial, candidates, n, selection, &found));
    }
  if (!offered)
    TRY(module_status(DESCENT_ERROR_UNSUPPORTED, "cuBLASLt has no algorithm for the product %s (%s)", key,
                      cublasLtGetStatusName(answer)));
  if (!trusted)
    TRY(module_status(DESCENT_ERROR_UNSUPPORTED,
                      "no cuBLASLt algorithm is reproducible and of the requested precision for the product %s "
                      "(unset NVIDIA_TF32_OVERRIDE and CUBLAS_EMULATE_SINGLE_PRECISION)",
                      key));
  if (!found && selection == SELECT_FASTEST) remember_refusal(product->library, key);
  if (!found)
    TRY(module_status(DESCENT_ERROR_UNSUPPORTED, "no cuBLASLt algorithm is reproducible and exact for the product %s",
                      key));
done:
  return status;
}

static descent_status choose(struct product *product, bool tune, cudaStream_t stream) {
  struct product_library *const library = product->library;
  struct trial trial = {.matmul = &product->matmul, .stream = stream, .cache = library->cache};
  struct candidate remembered;
  char key[TUNE_KEY];
  bool found = false;
  descent_status status = DESCENT_OK;
  product_library_key(library, &product->matmul.shape, key);
  tune = tune && !library->draws;
  if (tune && is_refused(library, key))
    TRY(module_status(DESCENT_ERROR_UNSUPPORTED,
                      "no cuBLASLt algorithm is reproducible and exact for the product %s (as remembered in %s: "
                      "delete that file to try again)",
                      key, library->path[0] ? library->path : "this process"));
  if (tune) TRY(take(product, key, &trial, &remembered, recall(product, key, &remembered), SELECT_FIRST, &found));
  if (found) goto done;
  TRY(choose_offered(product, key, &trial, library->draws ? SELECT_DRAWN : tune ? SELECT_FASTEST : SELECT_FIRST));
  if (tune) remember(product, key);
done:
  trial_close(&trial);
  return status;
}

descent_status product_create(struct product_library *library, const struct product_shape *shape, bool tune,
                              cudaStream_t stream, struct product **result) {
  struct product *product = NULL;
  descent_status status;
  if (!product_is_valid(shape))
    return module_status(DESCENT_ERROR_INTERNAL, "invalid description of a product of (%lld, %lld) (%lld, %lld)",
                         (long long)shape->m, (long long)shape->k, (long long)shape->k, (long long)shape->n);
  product = module_allocate(1, sizeof *product, "a product");
  if (!product) return DESCENT_ERROR_MEMORY;
  product->library = library;
  TRY(matmul_create(&product->matmul, &library->context, shape));
  TRY(choose(product, tune, stream));
  *result = product;
  product = NULL;
done:
  product_free(product);
  return status;
}

void product_free(struct product *product) {
  if (!product) return;
  matmul_release(&product->matmul);
  free(product);
}

void product_algorithm(const struct product *product, uint64_t words[TUNE_WORDS]) {
  memcpy(words, &product->algorithm, sizeof product->algorithm);
}

int64_t product_workspace(const struct product *product) { return (int64_t)product->workspace; }
double product_seconds(const struct product *product) { return product->seconds; }

descent_status product_run(const struct product *product, const struct product_operands *operands,
                           cudaStream_t stream) {
  return matmul_run(&product->matmul, &product->algorithm, operands, stream);
}
