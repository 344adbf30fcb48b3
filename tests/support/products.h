/* Shared by the tests of products: problems with their exact answers, and a fixture with a library on the emulated
 * device. Defines stand-ins for two passes, so it is included once per program. */
#ifndef DESCENT_TESTS_PRODUCTS_H
#define DESCENT_TESTS_PRODUCTS_H

#include <Random123/philox.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>

extern "C" {
#include "module.h"
#include "product.h"
#include "tune.h"
}

namespace {

namespace fs = std::filesystem;

/* ---- elements ---- */

float as_float(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}
uint32_t as_bits(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}
/* The nearest bf16, ties to even. */
float rounded(double x, element type) {
  const uint32_t bits = as_bits((float)x);
  return type == ELEMENT_F32 ? (float)x : as_float((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000);
}
float load(const void *data, int64_t i, element type) {
  return type == ELEMENT_F32 ? ((const float *)data)[i] : as_float((uint32_t)((const uint16_t *)data)[i] << 16);
}
void store(void *data, int64_t i, element type, float x) {
  if (type == ELEMENT_F32) ((float *)data)[i] = x;
  if (type == ELEMENT_BF16) ((uint16_t *)data)[i] = (uint16_t)(as_bits(rounded(x, type)) >> 16);
}
int64_t size_of(element type) { return type == ELEMENT_F32 ? 4 : 2; }

cudaError_t enqueue(cudaStream_t stream, std::function<void()> work) {
  return emulate_enqueue(
      stream, [](void *context) { (*(std::function<void()> *)context)(); }, new std::function<void()>(std::move(work)),
      [](void *context) { delete (std::function<void()> *)context; });
}

/* Memory of the device, as bytes. */
class OnDevice {
 public:
  explicit OnDevice(const std::string &bytes) : bytes_(bytes.size()) {
    EXPECT_EQ(cudaMalloc(&data_, bytes_), cudaSuccess);
    EXPECT_EQ(cudaMemcpy(data_, bytes.data(), bytes_, cudaMemcpyHostToDevice), cudaSuccess);
  }
  ~OnDevice() { cudaFree(data_); }
  OnDevice(const OnDevice &) = delete;
  OnDevice &operator=(const OnDevice &) = delete;
  void *get() const { return data_; }
  std::string bytes() const {
    std::string now(bytes_, 0);
    EXPECT_EQ(cudaMemcpy(&now[0], data_, bytes_, cudaMemcpyDeviceToHost), cudaSuccess);
    return now;
  }

 private:
  void *data_ = nullptr;
  size_t bytes_;
};

}  // namespace

/* Fast stand-ins for the passes of random.cu, which is tested separately. */
extern "C" cudaError_t launch_fill(device_matrix m, int64_t rows, int64_t n, bool ones, uint64_t seed,
                                   cudaStream_t stream) {
  return enqueue(stream, [=] {
    std::mt19937 random((unsigned)seed);
    for (int64_t i = 0; i < rows; i++)
      for (int64_t j = 0; j < n; j++)
        store(m.data, i * m.ld + j, m.element, ones ? 1.0f : (float)random() * 0x1p-31f - 1);
  });
}
extern "C" cudaError_t launch_fill_bits(device_matrix m, int64_t rows, int64_t n, uint64_t seed, cudaStream_t stream) {
  return enqueue(stream, [=] {
    std::mt19937 random((unsigned)seed);
    for (int64_t i = 0; i < rows; i++)
      for (int64_t j = 0; j < n; j++) store(m.data, i * m.ld + j, ELEMENT_F32, as_float((uint32_t)random()));
  });
}
extern "C" cudaError_t launch_compare(device_matrix a, device_matrix b, int64_t rows, int64_t n, float expected,
                                      unsigned long long *differing, unsigned long long *off, cudaStream_t stream) {
  return enqueue(stream, [=] {
    *differing = *off = 0;
    for (int64_t i = 0; i < rows; i++)
      for (int64_t j = 0; j < n; j++) {
        const float x = load(a.data, i * a.ld + j, a.element), y = load(b.data, i * b.ld + j, b.element);
        *differing += as_bits(x) != as_bits(y);
        *off += !(x == expected);
      }
  });
}

namespace {

bool has_bias(const product_shape &s) { return s.epilogue >= EPILOGUE_BIAS && s.epilogue <= EPILOGUE_RELU_MASK_BIAS; }
bool has_mask(const product_shape &s) {
  return s.epilogue >= EPILOGUE_RELU_MASK_BIAS && s.epilogue <= EPILOGUE_MASKED_COLUMN_SUMS;
}
int64_t sum_count(const product_shape &s) {
  return s.epilogue == EPILOGUE_MASKED_COLUMN_SUMS ? s.n : s.epilogue == EPILOGUE_COLUMN_SUMS_A ? s.m : 0;
}

/* Dense unless padded; bias_element and mask as the epilogue requires. */
inline product_shape shape_of(int64_t m, int64_t n, int64_t k, element operands = ELEMENT_F32,
                              element result = ELEMENT_F32, epilogue epilogue = EPILOGUE_NONE, bool transpose_a = false,
                              bool transpose_b = false, int64_t padding = 0) {
  product_shape s = {};
  s.m = m, s.n = n, s.k = k;
  s.transpose_a = transpose_a, s.transpose_b = transpose_b;
  s.lda = (transpose_a ? m : k) + padding, s.ldb = (transpose_b ? k : n) + padding, s.ldc = n + padding;
  s.operands = operands, s.result = result, s.bias_element = result;
  s.epilogue = epilogue;
  if (has_mask(s)) s.mask_ld = (n + 127) / 128 * 128 + 128 * (padding > 0);
  return s;
}

/* Operands and their expected product: values so coarse that every sum is exact in float32, so no tolerance is needed;
 * results are rounded once. */
struct Problem {
  product_shape shape;
  std::string A, B, C, bias, sums, mask;
  std::string expected_C, expected_sums, expected_mask;

  explicit Problem(const product_shape &s) : shape(s) {
    std::mt19937 random(7);
    const auto coarse = [&] { return ((float)(random() % 17) - 8) / 4; };
    const auto matrix = [&](int64_t rows, int64_t n, int64_t ld, element type) {
      std::string bytes((size_t)(rows * ld * size_of(type)), '\xff'); /* padding: NaN */
      for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < n; j++) store(&bytes[0], i * ld + j, type, coarse());
      return bytes;
    };
    A = matrix(s.transpose_a ? s.k : s.m, s.transpose_a ? s.m : s.k, s.lda, s.operands);
    B = matrix(s.transpose_b ? s.n : s.k, s.transpose_b ? s.k : s.n, s.ldb, s.operands);
    C.assign((size_t)(s.m * s.ldc * size_of(s.result)), '\x5a');
    bias = matrix(1, s.n, s.n, s.bias_element);
    sums.assign((size_t)(4 * sum_count(s)), '\x5a');
    mask.assign((size_t)(s.m * s.mask_ld / 8), 0);
    for (char &byte : mask) byte = (char)random();
    compute();
  }

  void compute() {
    const product_shape &s = shape;
    std::vector<double> totals((size_t)sum_count(s));
    expected_C = C, expected_sums = sums, expected_mask = mask;
    for (int64_t i = 0; i < s.m; i++)
      for (int64_t j = 0; j < s.n; j++) {
        double z = 0;
        for (int64_t p = 0; p < s.k; p++)
          z += (double)load(A.data(), s.transpose_a ? p * s.lda + i : i * s.lda + p, s.operands) *
               (double)load(B.data(), s.transpose_b ? j * s.ldb + p : p * s.ldb + j, s.operands);
        if (has_bias(s)) z += (double)load(bias.data(), j, s.bias_element);
        if (s.epilogue == EPILOGUE_RELU_BIAS || s.epilogue == EPILOGUE_RELU_MASK_BIAS) z = std::max(z, 0.0);
        char *const byte = has_mask(s) ? &expected_mask[(size_t)((i * s.mask_ld + j) / 8)] : nullptr;
        const int bit = 1 << j % 8;
        if (s.epilogue == EPILOGUE_RELU_MASK_BIAS) *byte = (char)(z > 0 ? *byte | bit : *byte & ~bit);
        if (s.epilogue == EPILOGUE_MASKED || s.epilogue == EPILOGUE_MASKED_COLUMN_SUMS) z = *byte & bit ? z : 0;
        if (s.epilogue == EPILOGUE_MASKED_COLUMN_SUMS) totals[(size_t)j] += z;
        store(&expected_C[0], i * s.ldc + j, s.result, rounded(z, s.result));
      }
    if (s.epilogue == EPILOGUE_COLUMN_SUMS_A)
      for (int64_t i = 0; i < s.m; i++)
        for (int64_t p = 0; p < s.k; p++)
          totals[(size_t)i] += (double)load(A.data(), s.transpose_a ? p * s.lda + i : i * s.lda + p, s.operands);
    for (size_t i = 0; i < totals.size(); i++) store(&expected_sums[0], (int64_t)i, ELEMENT_F32, (float)totals[i]);
  }
};

inline std::string name_of(const product_shape &shape) {
  char key[TUNE_KEY];
  tune_key(&shape, 0, 0, key);
  return key;
}

/* The trace of libraries that are opened during its lifetime. */
class Traced {
 public:
  explicit Traced(const fs::path &folder) : path_(folder.string() + ".trace") {
    forget();
    setenv("DESCENT_CUDA_TRACE", path_.c_str(), 1);
  }
  ~Traced() {
    unsetenv("DESCENT_CUDA_TRACE");
    forget();
  }
  void forget() const { fs::remove(path_); }
  std::string text() const {
    std::ifstream stream(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(stream), {}};
  }
  /* The last one of the algorithm. */
  std::string verdict(int kind) const {
    const std::string lines = text(), id = " id=" + std::to_string(kind) + " ", name = " verdict=";
    const size_t line = lines.rfind(id);
    if (line == std::string::npos) return "";
    const size_t at = lines.find(name, line) + name.size();
    return lines.substr(at, lines.find(' ', at) - at);
  }

 private:
  const fs::path path_;
};

class ProductTest : public testing::Test {
 protected:
  void SetUp() override {
    static const backend_host host = {BACKEND_INTERFACE, status_set};
    module_set_host(&host);
    emulate_configure("");
    emulated_library_reset();
    live_ = emulate_live();
    cache_ = fs::temp_directory_path() / ("descent-product-" + std::to_string(getpid()));
    fs::remove_all(cache_);
    setenv("XDG_CACHE_HOME", cache_.c_str(), 1);
    open();
    ASSERT_EQ(cudaStreamCreate(&stream_), cudaSuccess);
  }
  void TearDown() override {
    product_library_close(library_);
    EXPECT_EQ(cudaStreamDestroy(stream_), cudaSuccess);
    EXPECT_EQ(emulate_live(), live_);
    EXPECT_EQ(emulated_library.live, 0);
    fs::remove_all(cache_);
  }
  void open() { ASSERT_EQ(product_library_open(0, &library_), DESCENT_OK) << descent_last_error(); }
  void reopen_keeping() {
    product_library_close(library_);
    open();
  }
  void reopen() {
    reopen_keeping();
    emulated_library_reset();
  }
  void offer(const std::vector<int> &kinds) {
    emulated_library_reset();
    emulated_library.n_offered = 0;
    for (const int kind : kinds) emulated_library.offered[emulated_library.n_offered++] = kind;
  }

  descent_status create(const product_shape &shape, bool tune, product **product) {
    return product_create(library_, &shape, tune, stream_, product);
  }
  /* Which algorithm a product launches. */
  int launched(product *product, const Problem &problem) {
    int before[EMULATED_ALGORITHMS];
    memcpy(before, emulated_library.launches, sizeof before);
    check(product, problem);
    for (int kind = 0; kind < EMULATED_ALGORITHMS; kind++)
      if (emulated_library.launches[kind] != before[kind]) return kind;
    return -1;
  }
  /* Creates, runs once and frees. */
  int chosen(const product_shape &shape, bool tune, double *seconds = nullptr) {
    product *product = nullptr;
    EXPECT_EQ(create(shape, tune, &product), DESCENT_OK) << descent_last_error();
    if (!product) return -1;
    const int kind = launched(product, Problem(shape));
    if (seconds) *seconds = product_seconds(product);
    product_free(product);
    return kind;
  }
  void check(product *product, const Problem &problem) {
    const OnDevice A(problem.A), B(problem.B), C(problem.C), bias(problem.bias), sums(problem.sums), mask(problem.mask);
    product_operands operands = {};
    operands.A = A.get(), operands.B = B.get(), operands.C = C.get();
    if (has_bias(problem.shape)) operands.bias = bias.get();
    if (sum_count(problem.shape)) operands.bias_gradient = (float *)sums.get();
    if (has_mask(problem.shape)) operands.mask = mask.get();
    ASSERT_EQ(product_run(product, &operands, stream_), DESCENT_OK) << descent_last_error();
    ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    EXPECT_EQ(C.bytes(), problem.expected_C);
    EXPECT_EQ(sums.bytes(), problem.expected_sums);
    EXPECT_EQ(mask.bytes(), problem.expected_mask);
    EXPECT_EQ(bias.bytes(), problem.bias);
  }
  std::vector<fs::path> files() const {
    std::vector<fs::path> found;
    if (fs::exists(cache_))
      for (const auto &entry : fs::recursive_directory_iterator(cache_))
        if (!entry.is_directory()) found.push_back(entry.path());
    return found;
  }
  fs::path file() const {
    const auto found = files();
    EXPECT_EQ(found.size(), 1u);
    return found.empty() ? fs::path() : found[0];
  }
  static std::string read(const fs::path &path) {
    std::ifstream stream(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(stream), {}};
  }
  static void write(const fs::path &path, const std::string &text) {
    fs::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << text;
  }

  fs::path cache_;
  long long live_ = 0;
  product_library *library_ = nullptr;
  cudaStream_t stream_ = nullptr;
};

}  // namespace

#endif
