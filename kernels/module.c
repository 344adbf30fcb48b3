/* Errors, with the operation and the call that failed, and host memory. */
#include "module.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan/operations.h"

static const struct backend_host *_Atomic host_table;

const struct backend_host *module_host(void) { return host_table; }
void module_set_host(const struct backend_host *host) { host_table = host; }

static const char *file_name(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}

__thread const struct plan_op *module_operation;

/* "dense_forward layer 2: ", or nothing if no operation is being launched. */
static const char *operation_prefix(char *text, size_t size) {
  text[0] = 0;
  if (!module_operation) return text;
  plan_op_name(module_operation, text, size);
  snprintf(text + strlen(text), size - strlen(text), ": ");
  return text;
}

descent_status module_cuda_failed(cudaError_t error, const char *call, const char *file, int line) {
  char operation[64];
  (void)cudaGetLastError(); /* clears it, if it can be cleared */
  const int length = (int)strcspn(call, "(");
  return module_status(error == cudaErrorMemoryAllocation ? DESCENT_ERROR_MEMORY : DESCENT_ERROR_DEVICE,
                       "cuda: %s%.*s failed: %s (%s, %s:%d)", operation_prefix(operation, sizeof operation), length,
                       call, cudaGetErrorString(error), cudaGetErrorName(error), file_name(file), line);
}

descent_status module_cublas_failed(cublasStatus_t error, const char *reason, const char *call, const char *file,
                                    int line) {
  char operation[64];
  (void)cudaGetLastError();
  const int length = (int)strcspn(call, "(");
  return module_status(error == CUBLAS_STATUS_ALLOC_FAILED ? DESCENT_ERROR_MEMORY : DESCENT_ERROR_DEVICE,
                       "cuda: %s%.*s failed: %s (%s:%d)", operation_prefix(operation, sizeof operation), length, call,
                       reason, file_name(file), line);
}

void *module_allocate(int64_t count, size_t size, const char *what) {
  void *memory = count >= 0 && (uint64_t)count <= SIZE_MAX / size ? calloc(count ? (size_t)count : 1, size) : NULL;
  if (!memory)
    module_status(DESCENT_ERROR_MEMORY, "cannot allocate %lld x %zu bytes for %s", (long long)count, size, what);
  return memory;
}
