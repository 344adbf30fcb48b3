/* Device memory of the emulation that frees itself. */
#ifndef DESCENT_TESTS_ON_DEVICE_H
#define DESCENT_TESTS_ON_DEVICE_H

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <vector>

template <typename T>
class OnDevice {
 public:
  explicit OnDevice(size_t count) : count_(count) {
    EXPECT_EQ(cudaMalloc(reinterpret_cast<void **>(&data_), count * sizeof(T)), cudaSuccess);
  }
  explicit OnDevice(const std::vector<T> &values) : OnDevice(values.size()) {
    EXPECT_EQ(cudaMemcpy(data_, values.data(), count_ * sizeof(T), cudaMemcpyHostToDevice), cudaSuccess);
  }
  ~OnDevice() { cudaFree(data_); }
  OnDevice(const OnDevice &) = delete;
  OnDevice &operator=(const OnDevice &) = delete;
  T *get() const { return data_; }
  std::vector<T> values() const {
    std::vector<T> now(count_);
    EXPECT_EQ(cudaMemcpy(now.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost), cudaSuccess);
    return now;
  }

 private:
  T *data_ = nullptr;
  size_t count_;
};

#endif
