/* Shared by the tests of the device's passes: device memory with its copy on the host, matrices of either element
 * type. */
#ifndef DESCENT_TESTS_PASSES_H
#define DESCENT_TESTS_PASSES_H

#include <gtest/gtest.h>

#include <cstring>
#include <utility>
#include <vector>

#include "kernels.h"

/* Device memory; `host` is a copy that fetch() renews. */
template <typename T>
class Buffer {
 public:
  explicit Buffer(std::vector<T> values) : host(std::move(values)) {
    EXPECT_EQ(cudaMalloc(reinterpret_cast<void **>(&data), host.size() * sizeof(T)), cudaSuccess);
    EXPECT_EQ(cudaMemcpy(data, host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice), cudaSuccess);
  }
  Buffer(int64_t n, T value) : Buffer(std::vector<T>(static_cast<size_t>(n), value)) {}
  ~Buffer() { cudaFree(data); }
  Buffer(const Buffer &) = delete;
  Buffer &operator=(const Buffer &) = delete;
  const std::vector<T> &fetch() {
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    EXPECT_EQ(cudaMemcpy(host.data(), data, host.size() * sizeof(T), cudaMemcpyDeviceToHost), cudaSuccess);
    return host;
  }
  void store() {
    EXPECT_EQ(cudaMemcpy(data, host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice), cudaSuccess);
  }
  T *data = nullptr;
  std::vector<T> host;
};

const float kUntouched = -77;

inline float bf16_value(uint16_t bits) {
  const uint32_t word = static_cast<uint32_t>(bits) << 16;
  float value;
  memcpy(&value, &word, sizeof value);
  return value;
}

/* A matrix of either element, filled with kUntouched, which bf16 holds exactly. */
struct Matrix {
  Matrix(int64_t rows, int64_t ld_, enum element element_)
      : ld(ld_), element(element_), floats(rows * ld, kUntouched), halves(rows * ld, 0xc29a) {}
  struct device_matrix matrix() {
    return {element == ELEMENT_F32 ? static_cast<void *>(floats.data) : halves.data, ld, element};
  }
  void fetch() { floats.fetch(), halves.fetch(); }
  void store() { floats.store(), halves.store(); }
  float at(int64_t row, int64_t column) const {
    const size_t i = static_cast<size_t>(row * ld + column);
    return element == ELEMENT_F32 ? floats.host[i] : bf16_value(halves.host[i]);
  }
  int64_t ld;
  enum element element;
  Buffer<float> floats;
  Buffer<uint16_t> halves;
};

/* The rows of a matrix from `row` on. */
inline device_matrix rows_from(device_matrix m, int64_t row) {
  m.data = static_cast<char *>(m.data) + row * m.ld * element_bytes(m.element);
  return m;
}

/* Of a part of a step, for its masks: elements have numbers of more than 32 bits. */
const int64_t kBatchRow = 37 + (INT64_C(1) << 33);

#endif
