/* Names for a profiler's timeline, by NVTX. The header loads what a profiler brings; without one a call is a test of a
 * pointer. Without the header, as under the emulation, there are no calls. */
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
