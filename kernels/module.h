/* What the module's C files share: its errors. The module sees nothing of the library but headers and the one table
 * that it is given (struct backend_host); files, datasets and the command line are unknown here. */
#ifndef DESCENT_KERNELS_MODULE_H
#define DESCENT_KERNELS_MODULE_H

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include "backend/backend.h"
#include "core/status.h" /* for TRY; its functions live in the library, beyond the module's sight */

/* Sets the library's last error and returns `status`. */
#define module_status module_library()->status_set
const struct backend_host *module_library(void);

/* The status of a failed call, its error cleared: ERROR_MEMORY for an allocation that did not fit, else ERROR_DEVICE
 * with the call, the reason in words and the place. */
descent_status module_cuda_failed(cudaError_t error, const char *call, const char *file, int line);
descent_status module_cublas_failed(cublasStatus_t error, const char *call, const char *file, int line);

/* The operation that this thread launches: errors begin with its name. NULL: none. */
extern __thread const struct plan_op *module_operation;

/* As TRY, for calls of CUDA and of cuBLASLt. */
#define CUDA_TRY(call)                                                     \
  do {                                                                     \
    const cudaError_t cuda_error_ = (call);                                \
    if (cuda_error_ != cudaSuccess) {                                      \
      status = module_cuda_failed(cuda_error_, #call, __FILE__, __LINE__); \
      goto done;                                                           \
    }                                                                      \
  } while (0)
#define CUBLAS_TRY(call)                                                       \
  do {                                                                         \
    const cublasStatus_t cublas_error_ = (call);                               \
    if (cublas_error_ != CUBLAS_STATUS_SUCCESS) {                              \
      status = module_cublas_failed(cublas_error_, #call, __FILE__, __LINE__); \
      goto done;                                                               \
    }                                                                          \
  } while (0)

/* "580" of 13: the oldest NVIDIA driver whose CUDA runs programs made with that major version. */
static inline const char *module_driver_for(int major) { return major >= 13 ? "580" : "525"; }

/* calloc of host memory, at least one element; NULL with the error set. */
void *module_allocate(int64_t count, size_t size, const char *what);

#endif
