/* The loops for any machine: the compiler's default target. */
#define KERNELS_TABLE kernels_baseline
#ifdef __x86_64__
#define KERNELS_NAME "sse2"
#else
#define KERNELS_NAME "baseline"
#endif
#include "backend/cpu/kernels_impl.h"
