/* The CUDA backend on the emulation, and the controls of the emulation. */
#ifndef DESCENT_TESTS_EMULATED_MODULE_H
#define DESCENT_TESTS_EMULATED_MODULE_H

#include <dlfcn.h>

#include "cuda/cublasLt.h"
#include "cuda_training.h"

namespace {

/* The emulation's controls, inside its module. */
struct Emulation {
  Emulation() {
    void *module = dlopen(DESCENT_EMULATED_MODULE, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    EXPECT_NE(module, nullptr) << dlerror();
    find(module, "emulate_configure", &configure);
    find(module, "emulate_live", &live);
    find(module, "emulate_failed", &failed);
    find(module, "emulate_current", &current);
    find(module, "emulate_choices", &choices);
    find(module, "emulate_launches", &launches);
    find(module, "cudaSetDevice", &set_device);
    find(module, "cudaGetLastError", &last_error);
    find(module, "cudaMemGetInfo", &memory);
    find(module, "emulated_library", &products);
    find(module, "emulated_library_reset", &library_reset);
  }
  void (*configure)(const char *);
  long long (*live)();
  int (*failed)();
  int (*current)();
  long long (*choices)();
  long long (*launches)();
  int (*set_device)(int ordinal);
  int (*last_error)();
  int (*memory)(size_t *free_bytes, size_t *total);
  struct emulated_library *products;
  void (*library_reset)();

 private:
  template <typename Function>
  void find(void *module, const char *name, Function *function) {
    void *symbol = module ? dlsym(module, name) : nullptr;
    EXPECT_NE(symbol, nullptr) << name;
    std::memcpy(function, &symbol, sizeof symbol);
  }
};

class EmulatedModule : public testing::Test {
 protected:
  void SetUp() override {
    use_cuda_module(DESCENT_EMULATED_MODULE);
    emulation.configure("");
  }
  void TearDown() override {
    EXPECT_EQ(emulation.live(), 0) << "left behind";
    emulation.configure("");
    emulation.library_reset();
  }
  void offer(std::initializer_list<int> kinds) {
    emulation.products->n_offered = 0;
    for (const int kind : kinds) emulation.products->offered[emulation.products->n_offered++] = kind;
  }
  Emulation emulation;
};

/* All values of a buffer. */
inline std::vector<double> read(const struct program &program, int buffer) {
  const plan_buffer &b = program.plan->buffers[buffer];
  std::vector<double> values(static_cast<size_t>(b.rows * b.cols));
  EXPECT_EQ(program_read(&program, buffer, 0, b.rows * b.cols, PLAN_F64, values.data()), DESCENT_OK)
      << descent_last_error();
  return values;
}

inline std::vector<double> read(const struct program &program, const std::string &name) {
  for (int b = 0; b < program.plan->n_buffers; b++)
    if (name == program.plan->buffers[b].name) return read(program, b);
  ADD_FAILURE() << "no buffer " << name;
  return {};
}

}  // namespace

#endif
