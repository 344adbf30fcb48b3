/* Device memory: allocations whose errors name their purpose. */
#include "device_memory.h"

descent_status device_memory_try(struct device_memory *memory, int64_t bytes, void **data) {
  const cudaError_t error = cudaMalloc(data, (size_t)bytes);
  descent_status status = DESCENT_OK;
  if (error == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();
    *data = NULL;
    return DESCENT_OK;
  }
  CUDA_TRY(error);
  memory->bytes += bytes;
done:
  return status;
}

descent_status device_memory_take(struct device_memory *memory, int64_t bytes, const char *what, void **data) {
  descent_status status;
  if (bytes < 1) bytes = 1;
  TRY(device_memory_try(memory, bytes, data));
  if (!*data)
    return module_status(DESCENT_ERROR_MEMORY, "cannot allocate %.1f MB on the GPU for %s", 1e-6 * (double)bytes, what);
  CUDA_TRY(cudaMemsetAsync(*data, 0, (size_t)bytes, memory->stream));
done:
  return status;
}

void device_memory_free(void *data) {
  if (data) (void)cudaFree(data);
}
