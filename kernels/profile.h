/* Names for a profiler's timeline, through NVTX. Its header loads the profiler's library at run time; without a
 * profiler a call tests a pointer. Without the header, as in the emulation, the functions are empty. */
#ifndef DESCENT_KERNELS_PROFILE_H
#define DESCENT_KERNELS_PROFILE_H

#include <cuda_runtime_api.h>

#if !defined(EMULATED_ERRORS) && __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>

static inline void profile_begin(const char *name) { (void)nvtxRangePushA(name); }
static inline void profile_end(void) { (void)nvtxRangePop(); }
#else
static inline void profile_begin(const char *name) { (void)name; }
static inline void profile_end(void) {}
#endif

#endif
