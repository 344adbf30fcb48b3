/* Used by every C file of the module: errors and host memory. The module sees only headers of the library and one
 * table, struct backend_host; it knows nothing of files, datasets or the command line. */
#ifndef DESCENT_KERNELS_MODULE_H
#define DESCENT_KERNELS_MODULE_H

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include "backend/backend.h"
#include "core/status.h" /* for TRY; its functions are in the library, which the module does not link */

/* Sets the library's last error and returns `status`. */
#define module_status module_host()->status_set
const struct backend_host *module_host(void);
/* Called before everything else; every call sets the same table. */
void module_set_host(const struct backend_host *host);

/* The status of a failed call, its error cleared: ERROR_MEMORY for a failed allocation, else ERROR_DEVICE with the
 * call, the reason and the source line. */
descent_status module_cuda_failed(cudaError_t error, const char *call, const char *file, int line);
descent_status module_cublas_failed(cublasStatus_t error, const char *reason, const char *call, const char *file,
                                    int line);

/* The operation that this thread is launching: its name begins the text of errors. NULL: none. */
extern __thread const struct plan_op *module_operation;

/* As TRY, for calls to CUDA and to cuBLASLt. */
#define CUDA_TRY(call)                                                     \
  do {                                                                     \
    const cudaError_t cuda_error_ = (call);                                \
    if (cuda_error_ != cudaSuccess) {                                      \
      status = module_cuda_failed(cuda_error_, #call, __FILE__, __LINE__); \
      goto done;                                                           \
    }                                                                      \
  } while (0)
#define CUBLAS_TRY(call)                                                                                               \
  do {                                                                                                                 \
    const cublasStatus_t cublas_error_ = (call);                                                                       \
    if (cublas_error_ != CUBLAS_STATUS_SUCCESS) {                                                                      \
      status = module_cublas_failed(cublas_error_, cublasLtGetStatusString(cublas_error_), #call, __FILE__, __LINE__); \
      goto done;                                                                                                       \
    }                                                                                                                  \
  } while (0)

/* "580" for 13: the oldest NVIDIA driver that runs programs built with that major version of CUDA. */
static inline const char *module_driver_for(int major) { return major >= 13 ? "580" : "525"; }

/* calloc of host memory, at least one element; on failure NULL, with the error set. */
void *module_allocate(int64_t count, size_t size, const char *what);

#endif
