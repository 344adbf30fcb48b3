/* The emulated cuBLASLt: column-major products in float32, one element after the other. */
#include "cublasLt.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define EMULATED_DEFAULTS \
  { EMULATED_IN_PLACE, EMULATED_DROPS_TAIL, EMULATED_RIGHT, EMULATED_UNSTEADY }
/* Several threads may use the library: the value before. */
#define COUNT(counter, change) __atomic_fetch_add(&(counter), change, __ATOMIC_RELAXED)

struct emulated_library emulated_library = {.offered = EMULATED_DEFAULTS, .n_offered = 4};

void emulated_library_reset(void) {
  const int live = emulated_library.live;
  emulated_library = (struct emulated_library){.offered = EMULATED_DEFAULTS, .n_offered = 4, .live = live};
}

enum { MAGIC = 0x5eed, WORKSPACE = 1024, ALIGNMENT = 16 };
struct emulated_handle {
  int unused;
};
struct emulated_layout {
  cudaDataType_t type;
  int64_t rows, cols, ld;
};
struct emulated_operation {
  cublasComputeType_t compute;
  cublasOperation_t transpose_a, transpose_b;
  cublasLtEpilogue_t epilogue;
  cudaDataType_t bias_type;
  void *bias, *aux;
  int64_t aux_ld;
};
struct emulated_preference {
  uint64_t workspace;
  uint32_t schemes, alignment[4];
};

#ifndef EMULATED_CUBLAS_VERSION
#define EMULATED_CUBLAS_VERSION 130100
#endif
size_t cublasLtGetVersion(void) { return EMULATED_CUBLAS_VERSION; }
#define STATUS_NAME(name) "CUBLAS_STATUS_" #name,
const char *cublasLtGetStatusName(cublasStatus_t status) {
  static const char *const names[] = {EMULATED_STATUSES(STATUS_NAME)};
  return names[status];
}
const char *cublasLtGetStatusString(cublasStatus_t status) { return cublasLtGetStatusName(status); }

/* ---- descriptors ---- */

static cublasStatus_t create(void *object, size_t bytes, const void *value) {
  void *copy = malloc(bytes);
  if (!copy) return CUBLAS_STATUS_ALLOC_FAILED;
  memcpy(copy, value, bytes);
  memcpy(object, &copy, sizeof copy);
  COUNT(emulated_library.live, 1);
  return CUBLAS_STATUS_SUCCESS;
}
static cublasStatus_t destroy(void *object) {
  if (object) COUNT(emulated_library.live, -1);
  free(object);
  return CUBLAS_STATUS_SUCCESS;
}
static cublasStatus_t set(void *member, size_t size, const void *value, size_t bytes) {
  if (!value || bytes != size) return CUBLAS_STATUS_INVALID_VALUE;
  memcpy(member, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}
#define SET(member) return set(&(member), sizeof(member), value, bytes)

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle) {
  return create(handle, sizeof(struct emulated_handle), &(struct emulated_handle){0});
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) { return destroy(handle); }
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *operation, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
  const struct emulated_operation value = {.compute = compute, .epilogue = CUBLASLT_EPILOGUE_DEFAULT, .bias_type = -1u};
  return scale == CUDA_R_32F ? create(operation, sizeof value, &value) : CUBLAS_STATUS_NOT_SUPPORTED;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation) { return destroy(operation); }
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t attribute,
                                              const void *value, size_t bytes) {
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA: SET(operation->transpose_a);
    case CUBLASLT_MATMUL_DESC_TRANSB: SET(operation->transpose_b);
    case CUBLASLT_MATMUL_DESC_EPILOGUE: SET(operation->epilogue);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: SET(operation->bias);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE: SET(operation->bias_type);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER: SET(operation->aux);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD: SET(operation->aux_ld);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *layout, cudaDataType_t type, uint64_t rows,
                                          uint64_t cols, int64_t ld) {
  const struct emulated_layout value = {type, (int64_t)rows, (int64_t)cols, ld};
  return create(layout, sizeof value, &value);
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) { return destroy(layout); }
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *preference) {
  const struct emulated_preference value = {0, 7, {256, 256, 256, 256}};
  return create(preference, sizeof value, &value);
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) { return destroy(preference); }
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void *value,
                                                    size_t bytes) {
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES: SET(preference->workspace);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK: SET(preference->schemes);
    default: SET(preference->alignment[attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES]);
  }
}

/* ---- algorithms ---- */

static uint64_t numerics(const struct emulated_operation *operation, cudaDataType_t type, int kind) {
  const bool tf32 = kind == EMULATED_TENSOR || operation->compute == CUBLAS_COMPUTE_32F_FAST_TF32;
  const uint64_t inputs = type == CUDA_R_16BF ? CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_16BF
                          : tf32              ? CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_TF32
                                              : CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_32F;
  const uint64_t odd = kind == EMULATED_ODD_FLAGS    ? UINT64_C(0x40) << 16
                       : kind == EMULATED_HALF_FLAGS ? CUBLASLT_NUMERICAL_IMPL_FLAGS_ACCUMULATOR_16F
                                                     : 0;
  return inputs | odd | CUBLASLT_NUMERICAL_IMPL_FLAGS_ACCUMULATOR_32F |
         (type == CUDA_R_32F && !tf32 ? CUBLASLT_NUMERICAL_IMPL_FLAGS_FMA : CUBLASLT_NUMERICAL_IMPL_FLAGS_HMMA);
}

/* As in the library: a bias or its gradient has D's type. */
static cublasStatus_t check(const struct emulated_operation *operation, const struct emulated_layout *A,
                            const struct emulated_layout *B, const struct emulated_layout *C,
                            const struct emulated_layout *D) {
  const bool ta = operation->transpose_a == CUBLAS_OP_T, tb = operation->transpose_b == CUBLAS_OP_T;
  const bool fits = (ta ? A->cols : A->rows) == D->rows && (tb ? B->rows : B->cols) == D->cols &&
                    (ta ? A->rows : A->cols) == (tb ? B->cols : B->rows) && !memcmp(C, D, sizeof *C);
  if (!fits || A->ld < A->rows || B->ld < B->rows || D->ld < D->rows) return CUBLAS_STATUS_INVALID_VALUE;
  if (operation->epilogue & 128 && (operation->aux_ld % 128 || operation->aux_ld < D->rows))
    return CUBLAS_STATUS_INVALID_VALUE;
  if ((int)operation->epilogue == emulated_library.unsupported || A->type != B->type)
    return CUBLAS_STATUS_NOT_SUPPORTED;
  if (operation->epilogue & (4 | 16 | 256 | 512) && operation->bias_type != D->type) return CUBLAS_STATUS_NOT_SUPPORTED;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                                              cublasLtMatrixLayout_t A, cublasLtMatrixLayout_t B,
                                              cublasLtMatrixLayout_t C, cublasLtMatrixLayout_t D,
                                              cublasLtMatmulPreference_t preference, int most,
                                              cublasLtMatmulHeuristicResult_t results[], int *count) {
  (void)handle;
  COUNT(emulated_library.heuristics, 1);
  /* The promised alignment must not exceed that of the pointers; NULL promises any. */
  const uint32_t bias = (uint32_t)(uintptr_t)operation->bias, aux = (uint32_t)(uintptr_t)operation->aux;
  for (int i = 0; i < 4; i++)
    if (preference->alignment[i] > ALIGNMENT) return CUBLAS_STATUS_INVALID_VALUE;
  if (operation->epilogue & (4 | 16 | 512) && !(bias % (2 * ALIGNMENT))) return CUBLAS_STATUS_INVALID_VALUE;
  if (operation->epilogue & 128 && !(aux % (2 * ALIGNMENT))) return CUBLAS_STATUS_INVALID_VALUE;
  if (preference->workspace < WORKSPACE) return CUBLAS_STATUS_NOT_SUPPORTED;
  const cublasStatus_t status = check(operation, A, B, C, D);
  *count = 0;
  for (int i = 0; status == CUBLAS_STATUS_SUCCESS && i < emulated_library.n_offered && i < most; i++) {
    const int kind = emulated_library.offered[i];
    const cublasLtMatmulAlgo_t algorithm = {{MAGIC, (uint64_t)kind, numerics(operation, A->type, kind)}};
    results[(*count)++] = (cublasLtMatmulHeuristicResult_t){algorithm, WORKSPACE, CUBLAS_STATUS_SUCCESS, 0.5f};
  }
  return status;
}
cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                                       cublasLtMatrixLayout_t A, cublasLtMatrixLayout_t B, cublasLtMatrixLayout_t C,
                                       cublasLtMatrixLayout_t D, const cublasLtMatmulAlgo_t *algorithm,
                                       cublasLtMatmulHeuristicResult_t *result) {
  (void)handle;
  COUNT(emulated_library.checks, 1);
  const uint64_t *data = algorithm->data;
  if (data[0] != MAGIC || data[1] >= EMULATED_ALGORITHMS || data[2] != numerics(operation, A->type, (int)data[1]))
    return CUBLAS_STATUS_INVALID_VALUE;
  *result = (cublasLtMatmulHeuristicResult_t){*algorithm, WORKSPACE, CUBLAS_STATUS_SUCCESS, 0.5f};
  return check(operation, A, B, C, D);
}
cublasStatus_t cublasLtMatmulAlgoCapGetAttribute(const cublasLtMatmulAlgo_t *algorithm,
                                                 cublasLtMatmulAlgoCapAttributes_t attribute, void *value, size_t bytes,
                                                 size_t *written) {
  (void)attribute;
  if (algorithm->data[1] == EMULATED_NO_FLAGS) return CUBLAS_STATUS_NOT_SUPPORTED;
  *written = bytes;
  return set(value, sizeof(uint64_t), &algorithm->data[2], bytes);
}
cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t *algorithm,
                                                    cublasLtMatmulAlgoConfigAttributes_t attribute, void *value,
                                                    size_t bytes, size_t *written) {
  const uint64_t kind = algorithm->data[1];
  const uint32_t in_place = CUBLASLT_REDUCTION_SCHEME_INPLACE;
  const uint32_t values[] = {[CUBLASLT_ALGO_CONFIG_ID] = (uint32_t)kind,
                             [CUBLASLT_ALGO_CONFIG_TILE_ID] = 20,
                             [CUBLASLT_ALGO_CONFIG_SPLITK_NUM] = 1,
                             [CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME] = kind == EMULATED_IN_PLACE ? in_place : 0,
                             [CUBLASLT_ALGO_CONFIG_STAGES_ID] = 3};
  const uint16_t shape = 2;
  *written = bytes;
  if (attribute == CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME && kind == EMULATED_NO_SCHEME)
    return CUBLAS_STATUS_NOT_SUPPORTED;
  if (attribute == CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID) return set(value, sizeof shape, &shape, bytes);
  if (attribute > CUBLASLT_ALGO_CONFIG_STAGES_ID) return CUBLAS_STATUS_NOT_SUPPORTED;
  return set(value, sizeof values[0], &values[attribute], bytes);
}

/* ---- products ---- */

/* What a product writes to its workspace first. */
struct stamp {
  const void *D, *A;
};

struct call { /* one product as it was enqueued */
  struct emulated_operation operation;
  struct emulated_layout A_layout, B_layout, D_layout;
  const void *A, *B;
  void *D;
  struct stamp *workspace;
  int kind, launch;
};

static float load(const void *data, int64_t i, cudaDataType_t type) {
  if (type == CUDA_R_32F) return ((const float *)data)[i];
  const uint32_t bits = (uint32_t)((const uint16_t *)data)[i] << 16;
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}
static void store(void *data, int64_t i, cudaDataType_t type, float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof x);
  if (type == CUDA_R_32F) ((float *)data)[i] = x;
  if (type == CUDA_R_16BF) /* to nearest, ties to even */
    ((uint16_t *)data)[i] = (uint16_t)(x != x ? 0x7fffu : (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

/* op(A) or op(B)^T as dense rows of k float32, which run `along_rows` of the column-major matrix or across them; with
 * `tf32` without their low 13 bits. */
static float *unpack(const void *data, const struct emulated_layout *layout, bool along_rows, bool tf32) {
  const int64_t count = along_rows ? layout->cols : layout->rows, k = along_rows ? layout->rows : layout->cols;
  float *values = malloc((size_t)(count * k) * sizeof *values);
  for (int64_t i = 0; i < count; i++)
    for (int64_t p = 0; p < k; p++) {
      float x = load(data, along_rows ? p + i * layout->ld : i + p * layout->ld, layout->type);
      uint32_t bits;
      memcpy(&bits, &x, sizeof x);
      bits &= tf32 ? ~0x1fffu : ~0u;
      memcpy(&values[i * k + p], &bits, sizeof x);
    }
  return values;
}

/* The epilogue of element (i, j) of the product. */
static float finish(const struct call *call, int64_t i, int64_t j, float x) {
  const struct emulated_operation *operation = &call->operation;
  const int64_t rows = call->D_layout.rows;
  const int64_t aux_ld = call->kind == EMULATED_MASK_DENSE ? (rows + 7) / 8 * 8 : operation->aux_ld;
  unsigned char *byte = (unsigned char *)operation->aux + (i + j * aux_ld) / 8;
  const unsigned bit = 1u << (call->kind == EMULATED_MASK_REVERSED ? 7 - i % 8 : i % 8);
  const bool all = call->kind == EMULATED_MASK_ALL, shifted = call->kind == EMULATED_BIAS_SHIFTED;
  if (operation->epilogue & 4 && call->kind != EMULATED_NO_BIAS)
    x += load(operation->bias, shifted ? (i + 1) % rows : i, operation->bias_type);
  const bool set = all || x > 0 || (x == 0 && call->kind == EMULATED_MASK_AT_ZERO);
  if (operation->epilogue & 2) x = x > 0 ? x : 0; /* NaN too becomes 0 */
  if ((operation->epilogue & (2 | 128)) == (2 | 128)) *byte = (unsigned char)(set ? *byte | bit : *byte & ~bit);
  if (operation->epilogue & 8) x = all || *byte & bit ? x : 0;
  return x;
}

static float rounded_to_bf16(float x) {
  uint16_t stored;
  store(&stored, 0, CUDA_R_16BF, x);
  return load(&stored, 0, CUDA_R_16BF);
}

/* One bit of the first sum or, without sums, of the first element that is not a whole number. */
static void disturb(const struct call *call, int64_t n_sums) {
  const cudaDataType_t type = n_sums ? call->operation.bias_type : call->D_layout.type;
  unsigned char *const result = n_sums ? call->operation.bias : call->D;
  const int64_t rows = n_sums ? n_sums : call->D_layout.rows, cols = n_sums ? 1 : call->D_layout.cols;
  for (int64_t j = 0; j < cols; j++)
    for (int64_t i = 0; i < rows; i++) {
      const int64_t at = i + j * call->D_layout.ld;
      const float x = load(result, at, type);
      if (x == (float)(int)x) continue;
      result[at * (type == CUDA_R_32F ? 4 : 2)] ^= 1;
      return;
    }
}

static void note(const struct call *call) {
  struct emulated_library *const library = &emulated_library;
  library->turns += library->last != call->kind;
  library->last = call->kind;
  int place = 0;
  while (place < library->places && library->place[place] != call->A) place++;
  if (place == library->places && place < 64) library->place[library->places++] = call->A;
}

/* A product has two steps, so that those of another one on a second stream may be in between. */
static void begin(void *context) {
  const struct call *call = context;
  *call->workspace = (struct stamp){call->D, call->A};
}

static void run(void *context) {
  const struct call *call = context;
  if (call->workspace->D != call->D || call->workspace->A != call->A) {
    fprintf(stderr, "emulated cuBLASLt: two products use one workspace at the same time\n");
    abort();
  }
  note(call);
  const struct emulated_operation *operation = &call->operation;
  const bool ta = operation->transpose_a == CUBLAS_OP_T, tb = operation->transpose_b == CUBLAS_OP_T;
  const int64_t m = call->D_layout.rows, n = call->D_layout.cols, k = ta ? call->A_layout.rows : call->A_layout.cols;
  const bool tf32 = call->A_layout.type == CUDA_R_32F && (operation->compute == CUBLAS_COMPUTE_32F_FAST_TF32 ||
                                                          call->kind == EMULATED_TENSOR || call->kind == EMULATED_CUTS);
  float *const A = unpack(call->A, &call->A_layout, ta, tf32), *const B = unpack(call->B, &call->B_layout, !tb, tf32);
  const int64_t tail = k <= 32 ? k > 1 : k % 32 ? k % 32 : 32, forgotten = call->kind == EMULATED_DROPS_SUM;
  const int64_t first = call->kind == EMULATED_DROPS_HALF ? k / 2 : 0;
  const int64_t last = call->kind == EMULATED_DROPS_TAIL ? k - tail : k;
  const bool of_D = operation->epilogue & 16, of_B = operation->epilogue & 512; /* sums of D's rows, op(B)'s columns */
  const int64_t n_sums = of_D ? m : of_B ? n : 0;
  float *const sums = calloc((size_t)n_sums + 1, sizeof *sums);
  if (call->kind == EMULATED_SLOW) nanosleep(&(struct timespec){.tv_nsec = 300000}, NULL);
  for (int64_t j = 0; j < n; j++)
    for (int64_t i = 0; i < m; i++) {
      float x = 0;
      for (int64_t at = first; at < last; at++) {
        const int64_t p = call->kind == EMULATED_BACKWARDS ? last - 1 - (at - first) : at;
        x += A[i * k + p] * B[j * k + p];
        if (call->kind == EMULATED_COARSE) x = rounded_to_bf16(x);
      }
      x = finish(call, i, j, x);
      if (of_D && j >= forgotten) sums[i] += x;
      store(call->D, i + j * call->D_layout.ld, call->D_layout.type, x);
    }
  for (int64_t i = 0; of_B && i < n * k; i++)
    if (i % k >= forgotten) sums[i / k] += B[i];
  for (int64_t i = 0; i < n_sums; i++) store(operation->bias, i, operation->bias_type, sums[i]);
  if (call->kind == EMULATED_UNSTEADY && call->launch % 2) disturb(call, n_sums);
  free(A);
  free(B);
  free(sums);
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation, const void *alpha, const void *A,
                              cublasLtMatrixLayout_t A_layout, const void *B, cublasLtMatrixLayout_t B_layout,
                              const void *beta, const void *C, cublasLtMatrixLayout_t C_layout, void *D,
                              cublasLtMatrixLayout_t D_layout, const cublasLtMatmulAlgo_t *algorithm, void *workspace,
                              size_t workspace_bytes, cudaStream_t stream) {
  cublasLtMatmulHeuristicResult_t result;
  const cublasStatus_t status =
      cublasLtMatmulAlgoCheck(handle, operation, A_layout, B_layout, C_layout, D_layout, algorithm, &result);
  COUNT(emulated_library.checks, -1); /* only the caller's checks count */
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  const uintptr_t addresses =
      (uintptr_t)A | (uintptr_t)B | (uintptr_t)D | (uintptr_t)operation->bias | (uintptr_t)operation->aux;
  if (addresses % ALIGNMENT || C != D || !workspace || workspace_bytes < WORKSPACE || *(const float *)alpha != 1 ||
      *(const float *)beta != 0)
    return CUBLAS_STATUS_INVALID_VALUE;
  const int kind = (int)algorithm->data[1], launch = COUNT(emulated_library.launches[kind], 1);
  if (kind == EMULATED_REFUSES || (kind == EMULATED_NO_CAPTURE && emulate_is_capturing(stream)))
    return CUBLAS_STATUS_NOT_SUPPORTED;
  for (int step = 0; step < 2; step++) {
    struct call *call = malloc(sizeof *call);
    if (!call) return CUBLAS_STATUS_ALLOC_FAILED;
    *call = (struct call){*operation, *A_layout, *B_layout, *D_layout, A, B, D, workspace, kind, launch};
    if (emulate_enqueue(stream, step ? run : begin, call, free) != cudaSuccess) return CUBLAS_STATUS_EXECUTION_FAILED;
  }
  return CUBLAS_STATUS_SUCCESS;
}
