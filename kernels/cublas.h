/* cuBLASLt, loaded when the first GPU is opened or listed: of NVIDIA's libraries the module links only the static
 * runtime, so that it starts with a driver alone and can report what is missing. */
#ifndef DESCENT_KERNELS_CUBLAS_H
#define DESCENT_KERNELS_CUBLAS_H

#include "plan/plan.h"

/* Loads libcublasLt once per process: for the major CUDA version of this build, else for another supported one.
 * `driver` is the CUDA version that the driver supports (13000 is 13.0). ERROR_DEVICE names what is missing or too old.
 * No other function of cuBLASLt may be called before this succeeds. */
descent_status cublas_load(int driver);

#endif
