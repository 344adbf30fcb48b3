/* Loads cuBLASLt and NVML as the module does, by kernels/cublas.c and kernels/nvml.c, and uses each of their functions:
 * loader DRIVER [UUID...]    DRIVER: the CUDA version that the driver supports, 13000 Prints the version and a product
 * computed through the library, then what each GPU has free; or why it cannot. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "cublas.h"
#include "module.h"
#include "nvml.h"

static descent_status say(descent_status status, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vprintf(format, arguments);
  va_end(arguments);
  printf("\n");
  return status;
}

enum { M = 2, N = 3, K = 4 }; /* column-major */

/* D = A^T B with A (K, M) = 1, 2, ... and B (K, N) = 1, 2, ... */
static descent_status multiply(void) {
  cublasLtHandle_t handle = NULL;
  cublasLtMatmulDesc_t operation = NULL;
  cublasLtMatrixLayout_t a = NULL, b = NULL, d = NULL;
  cublasLtMatmulPreference_t preference = NULL;
  cublasLtMatmulHeuristicResult_t found, checked;
  const cublasOperation_t transposed = CUBLAS_OP_T;
  const float one = 1, zero = 0;
  const uint64_t workspace = 1 << 20;
  uint64_t flags;
  uint32_t scheme;
  size_t written;
  int n = 0;
  char *memory = NULL;
  float A[K * M], B[K * N], D[M * N];
  descent_status status = DESCENT_OK;
  for (int i = 0; i < K * M; i++) A[i] = (float)(i + 1);
  for (int i = 0; i < K * N; i++) B[i] = (float)(i + 1);
  CUDA_TRY(cudaMalloc((void **)&memory, 3 * 256 + workspace));
  CUDA_TRY(cudaMemcpy(memory, A, sizeof A, cudaMemcpyHostToDevice));
  CUDA_TRY(cudaMemcpy(memory + 256, B, sizeof B, cudaMemcpyHostToDevice));
  CUBLAS_TRY(cublasLtCreate(&handle));
  CUBLAS_TRY(cublasLtMatmulDescCreate(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  CUBLAS_TRY(cublasLtMatmulDescSetAttribute(operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed));
  CUBLAS_TRY(cublasLtMatrixLayoutCreate(&a, CUDA_R_32F, K, M, K));
  CUBLAS_TRY(cublasLtMatrixLayoutCreate(&b, CUDA_R_32F, K, N, K));
  CUBLAS_TRY(cublasLtMatrixLayoutCreate(&d, CUDA_R_32F, M, N, M));
  CUBLAS_TRY(cublasLtMatmulPreferenceCreate(&preference));
  CUBLAS_TRY(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
                                                  sizeof workspace));
  const uint32_t alignment = 4, none = CUBLASLT_REDUCTION_SCHEME_NONE;
  CUBLAS_TRY(
      cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &none, sizeof none));
  for (int i = 0; i < 4; i++)
    CUBLAS_TRY(cublasLtMatmulPreferenceSetAttribute(
        preference, (cublasLtMatmulPreferenceAttributes_t)(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES + i), &alignment,
        sizeof alignment));
  CUBLAS_TRY(cublasLtMatmulAlgoGetHeuristic(handle, operation, a, b, d, d, preference, 1, &found, &n));
  CUBLAS_TRY(cublasLtMatmulAlgoCheck(handle, operation, a, b, d, d, &found.algo, &checked));
  CUBLAS_TRY(cublasLtMatmulAlgoCapGetAttribute(&found.algo, CUBLASLT_ALGO_CAP_NUMERICAL_IMPL_FLAGS, &flags,
                                               sizeof flags, &written));
  CUBLAS_TRY(cublasLtMatmulAlgoConfigGetAttribute(&found.algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &scheme,
                                                  sizeof scheme, &written));
  CUBLAS_TRY(cublasLtMatmul(handle, operation, &one, memory, a, memory + 256, b, &zero, memory + 512, d, memory + 512,
                            d, &found.algo, memory + 768, workspace, NULL));
  CUDA_TRY(cudaMemcpy(D, memory + 512, sizeof D, cudaMemcpyDeviceToHost));
  printf("%d algorithm, flags %llx, scheme %u:", n, (unsigned long long)flags, scheme);
  for (int i = 0; i < M * N; i++) printf(" %g", D[i]);
  printf("\n");
done:
  if (preference) (void)cublasLtMatmulPreferenceDestroy(preference);
  if (a) (void)cublasLtMatrixLayoutDestroy(a);
  if (b) (void)cublasLtMatrixLayoutDestroy(b);
  if (d) (void)cublasLtMatrixLayoutDestroy(d);
  if (operation) (void)cublasLtMatmulDescDestroy(operation);
  if (handle) (void)cublasLtDestroy(handle);
  if (memory) (void)cudaFree(memory);
  return status;
}

int main(int argc, char **argv) {
  static const struct backend_host host = {BACKEND_INTERFACE, say};
  module_set_host(&host);
  if (argc < 2 || cublas_load(atoi(argv[1])) != DESCENT_OK) return EXIT_FAILURE;
  printf("cuBLAS %zu\n", cublasLtGetVersion());
  for (int i = 2; i < argc; i++) {
    struct backend_gpu gpu = {.memory_free = -1};
    snprintf(gpu.uuid, sizeof gpu.uuid, "%s", argv[i]);
    nvml_fill(&gpu, 1);
    printf("%s: %lld bytes free, driver '%s'\n", gpu.uuid, (long long)gpu.memory_free, gpu.driver);
  }
  return multiply() == DESCENT_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
