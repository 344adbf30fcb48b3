/* The CUDA backend as a whole: however a training is cut into calls, captured, streamed or scheduled, its bytes are the
 * same; whatever fails is reported with its place and leaves nothing behind. What needs faults runs on the emulation.
 */
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <regex>

#include "command.h"
#include "cuda_module.h"
#include "training.h"

namespace {

/* The emulation's controls, inside its module. */
struct Emulation {
  Emulation() {
    void *module = dlopen(DESCENT_EMULATED_MODULE, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    EXPECT_NE(module, nullptr) << dlerror();
    find(module, "emulate_configure", &configure);
    find(module, "emulate_live", &live);
    find(module, "emulate_failed", &failed);
    find(module, "cudaGetLastError", &last_error);
    find(module, "cudaMemGetInfo", &memory);
  }
  void (*configure)(const char *);
  long long (*live)();
  int (*failed)();
  int (*last_error)();
  int (*memory)(size_t *free_bytes, size_t *total);

 private:
  template <typename Function>
  void find(void *module, const char *name, Function *function) {
    void *symbol = module ? dlsym(module, name) : nullptr;
    EXPECT_NE(symbol, nullptr) << name;
    std::memcpy(function, &symbol, sizeof symbol);
  }
};

/* ---- a training, cut as a test likes ------------------------------------------------------------------------------
 */

struct Case {
  const char *name;
  std::vector<int64_t> widths;
  descent_activation hidden;
  descent_loss loss;
  double dropout;
  descent_precision precision;
};
const Case cases[] = {
    {"fp32_relu_classes",
     {7, 24, 17, 5},
     DESCENT_ACTIVATION_RELU,
     DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY,
     0.25,
     DESCENT_PRECISION_FP32},
    {"fp32_tanh_binary",
     {28, 30, 30, 1},
     DESCENT_ACTIVATION_TANH,
     DESCENT_LOSS_BINARY_CROSS_ENTROPY,
     0,
     DESCENT_PRECISION_FP32},
    {"tf32_gelu_regression",
     {8, 15, 3},
     DESCENT_ACTIVATION_GELU,
     DESCENT_LOSS_MEAN_SQUARED_ERROR,
     0.5,
     DESCENT_PRECISION_TF32},
    {"bf16_relu_classes",
     {8, 16, 16, 3},
     DESCENT_ACTIVATION_RELU,
     DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY,
     0,
     DESCENT_PRECISION_BF16},
    {"bf16_silu_binary",
     {5, 33, 19, 1},
     DESCENT_ACTIVATION_SILU,
     DESCENT_LOSS_BINARY_CROSS_ENTROPY,
     0.25,
     DESCENT_PRECISION_BF16},
};

enum { ROWS = 101, BATCH = 32, STEPS = 23 };

/* A network, its data and its steps. */
class Training {
 public:
  explicit Training(const Case &c, int64_t rows = ROWS, int64_t batch_size = BATCH)
      : batch(batch_size), rows_(rows), data_(nullptr, nullptr), network_(make_network(c.widths, c.hidden, c.loss)) {
    const int64_t outputs = c.widths.back();
    const bool regression = c.loss == DESCENT_LOSS_MEAN_SQUARED_ERROR;
    given_ = make_rows(rows, c.widths[0], regression ? outputs : 1, regression ? 0 : outputs == 1 ? 2 : outputs, 3);
    for (int64_t r = 0; r < rows; r++) given_.weights.push_back(0.5F + static_cast<float>(r % 7));
    data_ = given_.dataset();
    EXPECT_EQ(descent_network_fit_preprocessing(network_.get(), data_.get(), DESCENT_NORMALIZE_STANDARD,
                                                DESCENT_IMPUTE_MEAN, regression),
              DESCENT_OK);
    options = DESCENT_TRAIN_OPTIONS_INIT;
    options.dropout = c.dropout;
    options.precision = c.precision;
    options.clip_norm = 1;
    options.autotune = false;
  }
  ~Training() { close(); }

  /* Small whole numbers throughout, weights that sum to a power of two. */
  void make_whole() {
    std::mt19937 random(5);
    const auto draw = [&](float most) {
      return std::floor(static_cast<float>(random() % 1000) / 1000 * (2 * most + 1)) - most;
    };
    for (float &x : given_.X) x = draw(3);
    for (float &y : given_.y) y = draw(8);
    given_.weights.assign(given_.weights.size(), 1);
    for (int64_t i = 0; i < network_->n_parameters; i++)
      if (network_->parameters[i] != 0) network_->parameters[i] = draw(2);
    for (int64_t j = 0; j < network_->inputs; j++) network_->shift[j] = 0, network_->scale[j] = 1;
    for (int64_t k = 0; k < network_->layers[network_->n_layers - 1].n_out; k++)
      network_->y_shift[k] = 0, network_->y_scale[k] = 1;
  }
  Training(const Training &) = delete;
  Training &operator=(const Training &) = delete;

  descent_status open(const char *device = "cuda") {
    const descent_status status = compile(device);
    return status == DESCENT_OK ? bind() : status;
  }
  descent_status bind() { return program_bind(&program, data_.get()); }
  descent_status compile(const char *device = "cuda") {
    const descent_status status = descent_device_open(device, 2, &device_);
    return status == DESCENT_OK ? program_create(network_.get(), device_, &options, batch, 0, nullptr, &program)
                                : status;
  }
  bool has_device() const { return device_ != nullptr; }
  void close() {
    program_clear(&program);
    if (device_) descent_device_close(device_);
    device_ = nullptr;
  }

  std::vector<plan_step> steps(int64_t count) {
    const int64_t epoch_steps = (rows_ - 1) / batch + 1;
    orders_.clear();
    for (int64_t epoch = 0; epoch * epoch_steps < count; epoch++)
      orders_.push_back(permutation_create(7, RNG_SHUFFLE, static_cast<uint64_t>(epoch), static_cast<uint64_t>(rows_)));
    std::vector<plan_step> made;
    for (int64_t t = 0; t < count; t++) {
      const int64_t first = t % epoch_steps * batch;
      made.push_back({t + 1, first, std::min(batch, rows_ - first), 0.01 / (1 + 0.1 * static_cast<double>(t)),
                      &orders_[static_cast<size_t>(t / epoch_steps)]});
    }
    return made;
  }

  /* Everything that lasts from step to step. */
  std::vector<std::vector<double>> state() {
    std::vector<std::vector<double>> now;
    EXPECT_EQ(program.backend->synchronise(program.compiled), DESCENT_OK) << descent_last_error();
    for (int b = 0; b < program.plan->n_buffers; b++) {
      const plan_buffer &buffer = program.plan->buffers[b];
      if (buffer.storage != PLAN_STATE || buffer.type == PLAN_I64) continue;
      now.emplace_back(static_cast<size_t>(buffer.rows * buffer.cols));
      EXPECT_EQ(program_read(&program, b, 0, buffer.rows * buffer.cols, PLAN_F64, now.back().data()), DESCENT_OK)
          << descent_last_error();
    }
    return now;
  }

  int64_t batch;
  descent_train_options options;
  struct program program {};

 private:
  int64_t rows_;
  Rows given_;
  Dataset data_;
  Network network_;
  descent_device *device_ = nullptr;
  std::vector<permutation> orders_;
};

using Bytes = std::vector<std::vector<double>>;

void expect_same(const Bytes &a, const Bytes &b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); i++) {
    ASSERT_EQ(a[i].size(), b[i].size());
    for (size_t j = 0; j < a[i].size(); j++)
      ASSERT_EQ(std::memcmp(&a[i][j], &b[i][j], sizeof(double)), 0)
          << "state " << i << "[" << j << "]: " << a[i][j] << " and " << b[i][j];
  }
}

/* ---- on whichever module is under test ----------------------------------------------------------------------------
 */

class CudaModule : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override { use_cuda_module(cuda_module_path()); }
};

Bytes trained(const Case &c, const std::function<void(Training &)> &run) {
  Training training(c);
  EXPECT_EQ(training.open(), DESCENT_OK) << descent_last_error();
  if (testing::Test::HasFailure()) return {};
  run(training);
  return training.state();
}

void all_at_once(Training &training) {
  const std::vector<plan_step> steps = training.steps(STEPS);
  EXPECT_EQ(program_run(&training.program, training.program.plan->train, steps.data(), STEPS), DESCENT_OK)
      << descent_last_error();
}

void one_by_one(Training &training) {
  for (const plan_step &step : training.steps(STEPS))
    EXPECT_EQ(program_run(&training.program, training.program.plan->train, &step, 1), DESCENT_OK)
        << descent_last_error();
}

TEST_P(CudaModule, GivesTheSameBytesForOneCallAndForMany) {
  const Bytes expected = trained(GetParam(), all_at_once);
  expect_same(trained(GetParam(), all_at_once), expected);
  expect_same(trained(GetParam(), one_by_one), expected);
}

/* On whole batches: operations by themselves run on the step's rows, which may be computed by other algorithms. */
TEST_P(CudaModule, GivesTheSameBytesOperationByOperation) {
  Bytes results[2];
  for (bool whole : {true, false}) {
    Training training(GetParam(), 3 * BATCH);
    ASSERT_EQ(training.open(), DESCENT_OK) << descent_last_error();
    const plan_range range = training.program.plan->train;
    for (const plan_step &step : training.steps(STEPS))
      for (int op = range.first; op < range.first + (whole ? 1 : range.count); op++)
        ASSERT_EQ(program_run(&training.program, whole ? range : plan_range{op, 1}, &step, 1), DESCENT_OK)
            << descent_last_error();
    results[whole] = training.state();
  }
  expect_same(results[0], results[1]);
}

TEST_P(CudaModule, GivesTheSameBytesForStreamedData) {
  const Bytes expected = trained(GetParam(), all_at_once);
  setenv("DESCENT_GPU_DATA_MB", "0", 1);
  expect_same(trained(GetParam(),
                      [](Training &training) {
                        all_at_once(training);
                        expect_contains(training.program.backend->placement(training.program.compiled), "streamed");
                      }),
              expected);
  unsetenv("DESCENT_GPU_DATA_MB");
}

TEST_P(CudaModule, TrainsSoThatTheLossFalls) {
  Training training(GetParam());
  ASSERT_EQ(training.open(), DESCENT_OK) << descent_last_error();
  double losses[2];
  for (double &loss : losses) {
    all_at_once(training);
    ASSERT_EQ(program_read(&training.program, training.program.at.scalars, SCALAR_LOSS, 1, PLAN_F64, &loss),
              DESCENT_OK);
  }
  EXPECT_LT(losses[1], losses[0]);
}

INSTANTIATE_TEST_SUITE_P(Cases, CudaModule, testing::ValuesIn(cases),
                         [](const testing::TestParamInfo<Case> &row) { return std::string(row.param.name); });

/* More steps than any queue holds, the last of each epoch of one row. */
TEST(CudaModule, ManyStepsAreAsFew) {
  enum { MANY = 2500 };
  const Case c = {"", {3, 4, 1}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_BINARY_CROSS_ENTROPY, 0, DESCENT_PRECISION_FP32};
  Bytes results[2];
  for (int64_t call : {int64_t{MANY}, int64_t{7}}) {
    Training training(c, 33, 4);
    ASSERT_EQ(training.open(), DESCENT_OK) << descent_last_error();
    const std::vector<plan_step> steps = training.steps(MANY);
    for (int64_t t = 0; t < MANY; t += call)
      ASSERT_EQ(program_run(&training.program, training.program.plan->train, &steps[static_cast<size_t>(t)],
                            std::min<int64_t>(call, MANY - t)),
                DESCENT_OK)
          << descent_last_error();
    results[call == MANY] = training.state();
  }
  expect_same(results[0], results[1]);
}

/* ---- on the emulation ---------------------------------------------------------------------------------------------
 */

class EmulatedModule : public testing::Test {
 protected:
  void SetUp() override {
    use_cuda_module(DESCENT_EMULATED_MODULE);
    emulation.configure("");
  }
  void TearDown() override {
    EXPECT_EQ(emulation.live(), 0) << "left behind";
    emulation.configure("");
  }
  Emulation emulation;
};

TEST_F(EmulatedModule, GivesTheSameBytesInWhateverOrderBlocksAndStreamsRun) {
  for (const Case &c : cases) {
    SCOPED_TRACE(c.name);
    const Bytes expected = trained(c, all_at_once);
    for (const char *how : {"seed=2", "seed=3,late=1", "late=1"}) {
      SCOPED_TRACE(how);
      emulation.configure(how);
      expect_same(trained(c, all_at_once), expected);
    }
    emulation.configure("");
  }
}

TEST_F(EmulatedModule, SaysWhatItIs) {
  const Device device = open_device("cuda");
  expect_contains(descent_device_description(device.get()), "emulated GPU");
  EXPECT_STREQ(descent_device_name(device.get()), "cuda:0");
}

TEST_F(EmulatedModule, WithoutADeviceSaysWhyAndAutoTakesTheCpu) {
  const struct {
    const char *settings, *device, *reason;
  } absences[] = {
      {"devices=0", "cuda", "no NVIDIA GPU"},
      {"driver=0", "cuda", "no NVIDIA driver"},
      {"driver=11080", "cuda", "the NVIDIA driver is too old: it knows CUDA 11.8, this needs 13.0"},
      {"devices=2", "cuda:2", "cuda:2"},
  };
  for (const auto &absence : absences) {
    SCOPED_TRACE(absence.settings);
    emulation.configure(absence.settings);
    descent_device *device = nullptr;
    EXPECT_EQ(descent_device_open(absence.device, 1, &device), DESCENT_ERROR_DEVICE);
    expect_contains(descent_last_error(), absence.reason);
    EXPECT_EQ(emulation.last_error(), 0) << "the error is cleared";
    if (std::string(absence.device) != "cuda") continue;
    const Device other = open_device("auto");
    EXPECT_STREQ(descent_device_name(other.get()), "cpu");
    expect_contains(descent_device_note(other.get()), absence.reason);
  }
}

TEST_F(EmulatedModule, WithoutMemoryNamesTheBatchThatFits) {
  const Case c = {"", {4000, 1}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_BINARY_CROSS_ENTROPY, 0, DESCENT_PRECISION_FP32};
  Training training(c, 10, 12000); /* 192 MB of X */
  emulation.configure("memory=200000000");
  ASSERT_EQ(training.compile(), DESCENT_ERROR_MEMORY);
  const std::string said = descent_last_error();
  std::smatch found;
  ASSERT_TRUE(std::regex_search(
      said, found, std::regex("batch size 12000 needs ([0-9.]+) MB, ([0-9.]+) MB are free; a batch size of ([0-9]+)")))
      << said;
  EXPECT_GT(std::stod(found[1]), std::stod(found[2]));
  EXPECT_GT(std::stod(found[1]), 12000 * 4000 * 4e-6);
  training.close();
  training.batch = std::stoll(found[3]);
  EXPECT_GT(training.batch, 1000);
  ASSERT_EQ(training.compile(), DESCENT_OK) << said << "; then: " << descent_last_error();
  training.close();
  EXPECT_EQ(emulation.last_error(), 0) << "the error is cleared";
}

/* Trains, reads, closes, with the n-th call of a kind failing, n = 1, 2, ... until there are no more. A training that
 * finds a way round the failure must come to the same result. */
void sweep(Emulation &emulation, const Case &c, const std::string &kind, descent_status expected, const char *place) {
  Bytes result;
  for (int n = 0;; n++) {
    SCOPED_TRACE(kind + "=" + std::to_string(n));
    Training training(c);
    emulation.configure((kind + "=" + std::to_string(n)).c_str());
    descent_status status = training.open();
    const std::vector<plan_step> steps = training.steps(5);
    if (status == DESCENT_OK) status = program_run(&training.program, training.program.plan->train, steps.data(), 5);
    if (status == DESCENT_OK) status = training.program.backend->synchronise(training.program.compiled);
    const std::string said = descent_last_error();
    const bool failed = emulation.failed();
    if (status == DESCENT_OK) {
      if (n == 0) result = training.state();
      expect_same(training.state(), result);
    } else {
      EXPECT_TRUE(failed) << said;
      EXPECT_EQ(status, training.has_device() ? expected : DESCENT_ERROR_DEVICE) << said;
      EXPECT_TRUE(std::regex_search(said, std::regex(place))) << said;
      EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 0) << said;
      EXPECT_TRUE(kind == "fault" || emulation.last_error() == 0) << "not cleared: " << said;
    }
    training.close();
    EXPECT_EQ(emulation.live(), 0) << said;
    if (testing::Test::HasFailure()) return;
    if (n > 0 && !failed) {
      EXPECT_GT(n, 5);
      return;
    }
  }
}

TEST_F(EmulatedModule, EveryAllocationMayFail) {
  for (const Case &c : {cases[0], cases[4]})
    sweep(emulation, c, "allocation", DESCENT_ERROR_MEMORY, "memory|cannot allocate .* on the GPU for");
}

TEST_F(EmulatedModule, EveryLaunchMayFailAndSaysWhere) {
  for (const Case &c : {cases[0], cases[4]})
    sweep(emulation, c, "launch", DESCENT_ERROR_DEVICE, "too many resources requested for launch.*[a-z_]+\\.c:[0-9]+");
}

TEST_F(EmulatedModule, EveryKernelMayFaultAndTheErrorArrives) {
  for (const Case &c : {cases[0], cases[4]})
    sweep(emulation, c, "fault", DESCENT_ERROR_DEVICE, "illegal memory access.*[a-z_]+\\.c:[0-9]+");
}

/* Memory for the program but not for the data: then rows come in windows, with the same result. */
TEST_F(EmulatedModule, StreamedDataGivesTheBytesOfResidentData) {
  enum { STREAM_ROWS = 3001, STREAM_STEPS = 250 };
  for (const Case &c : cases) {
    SCOPED_TRACE(c.name);
    Bytes resident;
    std::string memory;
    for (const char *how : {"", ",seed=2", ",late=1", ",late=2", ",late=2,seed=3", ",late=2,seed=4"}) {
      SCOPED_TRACE(how);
      emulation.configure(memory.empty() ? "" : (memory + how).c_str());
      Training training(c, STREAM_ROWS);
      ASSERT_EQ(training.compile(), DESCENT_OK) << descent_last_error();
      if (memory.empty()) {
        size_t left, total;
        ASSERT_EQ(emulation.memory(&left, &total), 0);
        const size_t data = STREAM_ROWS * static_cast<size_t>(c.widths[0] + 2) * sizeof(float);
        memory = "memory=" + std::to_string((total - left + data / 2) * 16 / 15); /* a sixteenth is left free */
      }
      ASSERT_EQ(training.bind(), DESCENT_OK) << descent_last_error();
      const std::vector<plan_step> steps = training.steps(STREAM_STEPS);
      ASSERT_EQ(program_run(&training.program, training.program.plan->train, steps.data(), STREAM_STEPS), DESCENT_OK)
          << descent_last_error();
      expect_contains(training.program.backend->placement(training.program.compiled),
                      resident.empty() ? "in GPU memory" : "streamed");
      if (resident.empty()) resident = training.state();
      expect_same(training.state(), resident);
    }
  }
}

/* With small whole numbers every sum is exact, so whichever algorithms and epilogues the times favour, what a step
 * writes has the same bytes; in float32 those of the reference. */
TEST_F(EmulatedModule, WhateverIsChosenByTimeIsRight) {
  const Case c = {"", {8, 16, 16, 4},        DESCENT_ACTIVATION_RELU, DESCENT_LOSS_MEAN_SQUARED_ERROR,
                  0,  DESCENT_PRECISION_FP32};
  for (descent_precision precision : {DESCENT_PRECISION_FP32, DESCENT_PRECISION_TF32, DESCENT_PRECISION_BF16}) {
    SCOPED_TRACE(descent_precision_name(precision));
    Bytes expected;
    for (int seed = 0; seed <= 12; seed++) {
      SCOPED_TRACE(seed);
      const Folder cache;
      setenv("XDG_CACHE_HOME", (cache / "").c_str(), 1);
      emulation.configure(seed ? ("guess=1,seed=" + std::to_string(seed)).c_str() : "");
      Training training(c, BATCH);
      training.make_whole();
      training.options.precision = precision;
      training.options.optimizer = DESCENT_OPTIMIZER_GD;
      training.options.autotune = seed > 0;
      ASSERT_EQ(training.open(seed == 0 && precision == DESCENT_PRECISION_FP32 ? "reference" : "cuda"), DESCENT_OK)
          << descent_last_error();
      const plan_step step = training.steps(1)[0];
      const plan_range train = training.program.plan->train;
      const plan_range range = {train.first, train.count - 3}; /* without norm, update and metrics */
      ASSERT_EQ(training.program.plan->ops[train.first + range.count].kind, OP_GRADIENT_NORM);
      ASSERT_EQ(program_run(&training.program, range, &step, 1), DESCENT_OK) << descent_last_error();
      if (seed == 0) expected = training.state();
      expect_same(training.state(), expected);
    }
  }
  setenv("XDG_CACHE_HOME", cuda_module_at_start.cache.c_str(), 1);
}

/* ---- through the command ------------------------------------------------------------------------------------------
 */

TEST(CudaCommand, FailsWithExitCodeFourAndTheReason) {
  use_cuda_module(DESCENT_EMULATED_MODULE);
  const struct {
    const char *settings, *reason;
    int code;
  } failures[] = {
      {"devices=0", "no NVIDIA GPU", 4},       {"driver=11080", "too old", 4},
      {"memory=100000", "out of memory", 4},   {"launch=9", "too many resources", 4},
      {"fault=9", "illegal memory access", 4},
  };
  Folder folder;
  folder.write("data.csv", make_data("classes", 200));
  for (const auto &failure : failures) {
    SCOPED_TRACE(failure.settings);
    setenv("DESCENT_EMULATE", failure.settings, 1);
    const Result result = folder.run(quick + Arguments{"--device", "cuda", "--quiet"});
    EXPECT_EQ(result.code, failure.code) << result.err;
    expect_contains(result.err, failure.reason);
    unsetenv("DESCENT_EMULATE");
  }
}

TEST(CudaCommand, TrainsOnTheCpuWhereThereIsNoGpuAndSaysWhy) {
  use_cuda_module(DESCENT_EMULATED_MODULE);
  Folder folder;
  folder.write("data.csv", make_data("classes", 200));
  setenv("DESCENT_EMULATE", "devices=0", 1);
  const Result result = folder.run(quick);
  unsetenv("DESCENT_EMULATE");
  EXPECT_EQ(result.code, 0) << result.err;
  expect_contains(result.err, "no NVIDIA GPU");
  EXPECT_TRUE(folder.has("model.safetensors"));
}

TEST(CudaCommand, TrainsVerifiesAndPredictsInEveryPrecision) {
  use_cuda_module(cuda_module_path());
  Folder folder;
  folder.write("data.csv", make_data("classes", 200));
  for (const char *precision : {"fp32", "tf32", "bf16"}) {
    SCOPED_TRACE(precision);
    const Arguments on = {"--device", "cuda", "--precision", precision};
    Result result = folder.run(quick + on + Arguments{"--out", "a"});
    ASSERT_EQ(result.code, 0) << result.err;
    ASSERT_EQ(folder.run(quick + on + Arguments{"--out", "b", "--quiet"}).code, 0);
    EXPECT_EQ(folder.read("a"), folder.read("b"));
    result = folder.run({"verify", "a", "--device", "cuda", "--precision", precision});
    EXPECT_EQ(result.code, 0) << result.out << result.err;
    result = folder.run({"predict", "a", "data.csv", "--device", "cuda"});
    EXPECT_EQ(result.code, 0) << result.err;
  }
}

}  // namespace
