/* Memory, streams and arrays on the GPU for tests, through the runtime that the module in use has: the emulation or,
 * where DESCENT_TEST_MODULE names a build for a GPU, CUDA's own library. */
#ifndef DESCENT_TESTS_DEVICE_MEMORY_H
#define DESCENT_TESTS_DEVICE_MEMORY_H

#include <dlfcn.h>
#include <gtest/gtest.h>

#include "arrays.h"
#include "cuda_module.h"

namespace device_memory {

inline void *symbol(const char *name) {
  static void *const library = [] {
    void *module = dlopen(cuda_module_path().c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    for (const char *other : {"libcudart.so.13", "libcudart.so.12", "libcudart.so"})
      if (!module || !dlsym(module, "cudaMalloc")) module = dlopen(other, RTLD_NOW | RTLD_LOCAL);
    return module;
  }();
  void *found = library ? dlsym(library, name) : nullptr;
  return found;
}

/* Calls a function of the runtime, which must succeed. */
template <typename... Arguments>
void call(const char *name, Arguments... arguments) {
  const auto function = reinterpret_cast<int (*)(Arguments...)>(symbol(name));
  ASSERT_NE(function, nullptr) << name;
  ASSERT_EQ(function(arguments...), 0) << name;
}

enum { TO_DEVICE = 1, TO_HOST = 2 };

struct Block {
  void *data = nullptr;
  explicit Block(size_t bytes) { call("cudaMalloc", &data, bytes); }
  ~Block() { call("cudaFree", data); }
  Block(const Block &) = delete;
};

/* A host array's bytes in device memory, with the same strides. */
struct Array {
  const arrays::Array &host;
  Block block;
  descent_array array;

  explicit Array(const arrays::Array &source) : host(source), block(source.bytes.size()), array(source.array) {
    call("cudaMemcpy", block.data, static_cast<const void *>(source.bytes.data()), source.bytes.size(),
         static_cast<int>(TO_DEVICE));
    array.data = static_cast<char *>(block.data) + source.first_element();
    array.place = DESCENT_PLACE_CUDA;
  }
  const descent_array *operator&() const { return &array; }
  std::vector<char> bytes() const {
    std::vector<char> read(host.bytes.size());
    call("cudaMemcpy", static_cast<void *>(read.data()), static_cast<const void *>(block.data), read.size(),
         static_cast<int>(TO_HOST));
    return read;
  }
};

}  // namespace device_memory

#endif
