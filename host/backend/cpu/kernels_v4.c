/* The loops for x86-64-v4 (AVX-512); empty elsewhere. */
#ifdef __x86_64__
#define KERNELS_TABLE kernels_v4
#define KERNELS_NAME "avx512"
#include "backend/cpu/kernels_impl.h"
#else
typedef int kernels_v4_unused;
#endif
