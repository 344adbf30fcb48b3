/* The loops for x86-64-v3 (AVX2, FMA); empty elsewhere. */
#ifdef __x86_64__
#define KERNELS_TABLE kernels_v3
#define KERNELS_NAME "avx2"
#include "backend/cpu/kernels_impl.h"
#else
typedef int kernels_v3_unused;
#endif
