/* The functions of cuBLASLt that the module calls, each forwarded to the loaded library.
 *
 * One build works with the libraries of CUDA 12 (from 12.4) and of CUDA 13: cublasLt.h and cublas_api.h of 12.4.5 and
 * of 13.1.0 agree on everything that is used here. That is the prototypes below, the sizes of cublasLtMatmulAlgo_t (64
 * bytes) and cublasLtMatmulHeuristicResult_t, and the values of the enumerations (cudaDataType_t, cublasComputeType_t,
 * cublasOperation_t, cublasStatus_t, epilogues, reduction schemes, numerical flags, the attributes of descriptors,
 * layouts, preferences and algorithms). 13 reuses no value for another meaning, and the one that it drops (ATOMIC_SYNC)
 * is not used. The library allocates the descriptors, so their sizes do not matter. */
#include "cublas.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "module.h"

#define FUNCTIONS(X)                      \
  X(cublasLtGetVersion)                   \
  X(cublasLtGetStatusName)                \
  X(cublasLtGetStatusString)              \
  X(cublasLtCreate)                       \
  X(cublasLtDestroy)                      \
  X(cublasLtMatmulDescCreate)             \
  X(cublasLtMatmulDescDestroy)            \
  X(cublasLtMatmulDescSetAttribute)       \
  X(cublasLtMatrixLayoutCreate)           \
  X(cublasLtMatrixLayoutDestroy)          \
  X(cublasLtMatmulPreferenceCreate)       \
  X(cublasLtMatmulPreferenceDestroy)      \
  X(cublasLtMatmulPreferenceSetAttribute) \
  X(cublasLtMatmulAlgoGetHeuristic)       \
  X(cublasLtMatmulAlgoCheck)              \
  X(cublasLtMatmulAlgoCapGetAttribute)    \
  X(cublasLtMatmulAlgoConfigGetAttribute) \
  X(cublasLtMatmul)

static struct {
#define MEMBER(name) __typeof__(name) *name;
  FUNCTIONS(MEMBER)
#undef MEMBER
} library;

/* ---- loading ---- */

enum { LEAST_VERSION = 120400, OLDEST = 12, NEWEST = 13, BUILT = CUDART_VERSION / 1000 };
enum { PLACE = 128, TEXT = 512 }; /* bytes of a path, of a problem */

/* First by the loader's rules (LD_LIBRARY_PATH, the module's run path, the system's folders), then in the toolkits'
 * folders. %1$d is the major version. */
#ifndef CUBLAS_PLACES
#define CUBLAS_PLACES                                                      \
  "libcublasLt.so.%1$d", "/usr/local/cuda-%1$d/lib64/libcublasLt.so.%1$d", \
      "/usr/local/cuda/lib64/libcublasLt.so.%1$d", "/opt/cuda/lib64/libcublasLt.so.%1$d"
#endif
static const char *const places[] = {CUBLAS_PLACES};

static pthread_mutex_t loading = PTHREAD_MUTEX_INITIALIZER;
static bool loaded;

/* Looks up the functions in a library; false, with the reason in `problem`, if it cannot be used. */
static bool take(void *handle, const char *name, char problem[TEXT]) {
  const struct {
    const char *name;
    void *at;
  } functions[] = {
#define FUNCTION(function) {#function, &library.function},
      FUNCTIONS(FUNCTION)
#undef FUNCTION
  };
  Dl_info file = {0};
  for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
    void *const symbol = dlsym(handle, functions[i].name);
    if (symbol && dladdr(symbol, &file) && file.dli_fname) name = file.dli_fname;
    if (!symbol) {
      snprintf(problem, TEXT, "%.256s has no %s: cuBLAS 12.4 or newer is needed", name, functions[i].name);
      return false;
    }
    memcpy(functions[i].at, &symbol, sizeof symbol);
  }
  const size_t version = library.cublasLtGetVersion();
  if (version < LEAST_VERSION)
    snprintf(problem, TEXT, "%.256s is cuBLAS %zu.%zu.%zu: 12.4 or newer is needed", name, version / 10000,
             version / 100 % 100, version % 100);
  return version >= LEAST_VERSION;
}

/* Tries one path. `problem` is unchanged if there is no such file. An opened library is never closed: CUDA's libraries
 * keep threads and exit handlers. */
static bool load_from(const char *path, int major, int driver, char problem[TEXT]) {
  if (strchr(path, '/') && access(path, F_OK) != 0) return false;
  void *const handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  const char *const why = handle ? NULL : dlerror();
  if (handle && major <= driver / 1000) return take(handle, path, problem);
  if (handle)
    snprintf(problem, TEXT, "%.256s needs an NVIDIA driver %s or newer", path, module_driver_for(major));
  else if (strchr(path, '/') || !strstr(why, "cannot open shared object file")) /* found, but not loadable */
    snprintf(problem, TEXT, "%.400s", why);
  return false;
}

/* Keeps the first problem, that of the preferred version. */
static bool load_version(int major, int driver, char problem[TEXT]) {
  for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
    char path[PLACE], now[TEXT] = "";
    snprintf(path, sizeof path, places[i], major);
    if (load_from(path, major, driver, now)) return true;
    if (!*problem) memcpy(problem, now, sizeof now);
  }
  return false;
}

static descent_status load(int driver) {
  char problem[TEXT] = "";
  loaded = load_version(BUILT, driver, problem);
  for (int major = NEWEST; major >= OLDEST && !loaded; major--)
    if (major != BUILT) loaded = load_version(major, driver, problem);
  if (loaded) return DESCENT_OK;
  if (*problem) return module_status(DESCENT_ERROR_DEVICE, "no CUDA: %s", problem);
  return module_status(DESCENT_ERROR_DEVICE,
                       "no CUDA: neither libcublasLt.so.%d nor .so.%d was found: install cuBLAS (part of NVIDIA's "
                       "toolkit, and of PyTorch for CUDA), or add its folder to LD_LIBRARY_PATH",
                       BUILT, BUILT == NEWEST ? OLDEST : NEWEST);
}

descent_status cublas_load(int driver) {
  (void)pthread_mutex_lock(&loading);
  const descent_status status = loaded ? DESCENT_OK : load(driver);
  (void)pthread_mutex_unlock(&loading);
  return status;
}

/* ---- the functions ---- */

size_t cublasLtGetVersion(void) { return library.cublasLtGetVersion(); }
const char *cublasLtGetStatusName(cublasStatus_t status) { return library.cublasLtGetStatusName(status); }
const char *cublasLtGetStatusString(cublasStatus_t status) { return library.cublasLtGetStatusString(status); }

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle) { return library.cublasLtCreate(handle); }
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) { return library.cublasLtDestroy(handle); }

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *operation, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
  return library.cublasLtMatmulDescCreate(operation, compute, scale);
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation) {
  return library.cublasLtMatmulDescDestroy(operation);
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t attribute,
                                              const void *value, size_t bytes) {
  return library.cublasLtMatmulDescSetAttribute(operation, attribute, value, bytes);
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *layout, cudaDataType_t type, uint64_t rows,
                                          uint64_t cols, int64_t ld) {
  return library.cublasLtMatrixLayoutCreate(layout, type, rows, cols, ld);
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  return library.cublasLtMatrixLayoutDestroy(layout);
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *preference) {
  return library.cublasLtMatmulPreferenceCreate(preference);
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  return library.cublasLtMatmulPreferenceDestroy(preference);
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void *value,
                                                    size_t bytes) {
  return library.cublasLtMatmulPreferenceSetAttribute(preference, attribute, value, bytes);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                                              cublasLtMatrixLayout_t A, cublasLtMatrixLayout_t B,
                                              cublasLtMatrixLayout_t C, cublasLtMatrixLayout_t D,
                                              cublasLtMatmulPreference_t preference, int most,
                                              cublasLtMatmulHeuristicResult_t results[], int *count) {
  return library.cublasLtMatmulAlgoGetHeuristic(handle, operation, A, B, C, D, preference, most, results, count);
}
cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                                       cublasLtMatrixLayout_t A, cublasLtMatrixLayout_t B, cublasLtMatrixLayout_t C,
                                       cublasLtMatrixLayout_t D, const cublasLtMatmulAlgo_t *algorithm,
                                       cublasLtMatmulHeuristicResult_t *result) {
  return library.cublasLtMatmulAlgoCheck(handle, operation, A, B, C, D, algorithm, result);
}
cublasStatus_t cublasLtMatmulAlgoCapGetAttribute(const cublasLtMatmulAlgo_t *algorithm,
                                                 cublasLtMatmulAlgoCapAttributes_t attribute, void *value, size_t bytes,
                                                 size_t *written) {
  return library.cublasLtMatmulAlgoCapGetAttribute(algorithm, attribute, value, bytes, written);
}
cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t *algorithm,
                                                    cublasLtMatmulAlgoConfigAttributes_t attribute, void *value,
                                                    size_t bytes, size_t *written) {
  return library.cublasLtMatmulAlgoConfigGetAttribute(algorithm, attribute, value, bytes, written);
}
cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation, const void *alpha, const void *A,
                              cublasLtMatrixLayout_t A_layout, const void *B, cublasLtMatrixLayout_t B_layout,
                              const void *beta, const void *C, cublasLtMatrixLayout_t C_layout, void *D,
                              cublasLtMatrixLayout_t D_layout, const cublasLtMatmulAlgo_t *algorithm, void *workspace,
                              size_t workspace_bytes, cudaStream_t stream) {
  return library.cublasLtMatmul(handle, operation, alpha, A, A_layout, B, B_layout, beta, C, C_layout, D, D_layout,
                                algorithm, workspace, workspace_bytes, stream);
}
