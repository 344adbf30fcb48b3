/* The error of a format that this build leaves out. */
#ifndef DESCENT_CORE_LEFT_OUT_H
#define DESCENT_CORE_LEFT_OUT_H

#include "core/status.h"

/* ERROR_UNSUPPORTED; `does`: "read HDF5". */
static inline descent_status format_left_out(const char *path, const char *does) {
#ifdef DESCENT_FORMATS_BUILT /* then only HDF5 can be missing */
  static const char advice[] = "install libhdf5-dev and build with -DDESCENT_HDF5=ON";
#else
  static const char advice[] = "build with -DDESCENT_FORMATS=ON";
#endif
  return status_set(DESCENT_ERROR_UNSUPPORTED, "%s: this build does not %s (%s)", path, does, advice);
}

#endif
