/* In the tests that include this, "cuda" is the module built on the emulation or, to test on a GPU, the
 * libdescent_cuda.so that DESCENT_TEST_MODULE names. Its remembered choices go to a folder that is removed when the
 * process ends. */
#ifndef DESCENT_TESTS_CUDA_MODULE_H
#define DESCENT_TESTS_CUDA_MODULE_H

#include <cstdio>
#include <cstdlib>
#include <string>

#include "internal.h"
#include "scratch.h"

inline std::string cuda_module_path() {
  const char *given = std::getenv("DESCENT_TEST_MODULE");
  return given ? given : DESCENT_EMULATED_MODULE;
}

inline void use_cuda_module(const std::string &path) {
  setenv("DESCENT_BACKEND_PATH", path.substr(0, path.find_last_of('/')).c_str(), 1);
}

struct CudaModuleAtStart {
  CudaModuleAtStart() {
    use_cuda_module(cuda_module_path());
    setenv("XDG_CACHE_HOME", cache.path().c_str(), 1);
  }
  Scratch cache;
};
inline const CudaModuleAtStart cuda_module_at_start;

/* The module's table. If no device opens, nothing can be tested: that is a failure, not a pass. */
inline const struct backend *cuda_module_table() {
  descent_device *device = nullptr;
  use_cuda_module(cuda_module_path());
  if (descent_device_open("cuda", 0, &device) != DESCENT_OK) {
    std::fprintf(stderr, "%s: %s\n", cuda_module_path().c_str(), descent_last_error());
    std::exit(1);
  }
  const struct backend *table = device->backend;
  descent_device_close(device);
  return table;
}

#endif
