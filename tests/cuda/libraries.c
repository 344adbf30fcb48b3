/* Stand-ins for the libraries that kernels/cublas.c and kernels/nvml.c load: cuBLASLt is linked here, and the emulation
 * reports the free memory. Both loaders are tested by libraries_test. */
#include "cublas.h"
#include "module.h"
#include "nvml.h"

#include <stdio.h>

descent_status cublas_load(int driver) {
  (void)driver;
  return emulate_cublas() ? DESCENT_OK : module_status(DESCENT_ERROR_DEVICE, "no CUDA: no emulated cuBLASLt");
}

void nvml_fill(struct backend_gpu *gpus, int count) {
  for (int i = 0; i < count; i++) {
    gpus[i].memory_free = emulate_free(i);
    if (gpus[i].memory_free >= 0) snprintf(gpus[i].driver, sizeof gpus[i].driver, "580.0");
  }
}
