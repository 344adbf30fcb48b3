/* cuBLASLt, loaded when the first GPU is opened or listed: the module links no library of NVIDIA's but the static
 * runtime, so that it starts wherever the driver is and says what else is missing. */
#ifndef DESCENT_KERNELS_CUBLAS_H
#define DESCENT_KERNELS_CUBLAS_H

#include "plan/plan.h"

/* Loads libcublasLt once per process: that of the CUDA version this module was built with, else another that is known.
 * `driver` is the CUDA version that the driver knows (13000 is 13.0). ERROR_DEVICE says what is missing or too old. No
 * other function of cuBLASLt may be called before it succeeds. */
descent_status cublas_load(int driver);

#endif
