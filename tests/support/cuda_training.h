/* A training on the CUDA backend, cut into calls as a test chooses, and its resulting state. */
#ifndef DESCENT_TESTS_CUDA_TRAINING_H
#define DESCENT_TESTS_CUDA_TRAINING_H

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <set>

#include "command.h"
#include "cuda_module.h"
#include "training.h"

struct Case {
  const char *name;
  std::vector<int64_t> widths;
  descent_activation hidden;
  descent_loss loss;
  double dropout;
  descent_precision precision;
};
inline const Case cases[] = {
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
  explicit Training(const Case &c, int64_t rows = ROWS, int64_t batch_size = BATCH, unsigned seed = 3)
      : batch(batch_size), rows_(rows), data_(nullptr, nullptr), network_(make_network(c.widths, c.hidden, c.loss)) {
    const int64_t outputs = c.widths.back();
    const bool regression = c.loss == DESCENT_LOSS_MEAN_SQUARED_ERROR;
    given_ = make_rows(rows, c.widths[0], regression ? outputs : 1, regression ? 0 : outputs == 1 ? 2 : outputs, seed);
    for (int64_t r = 0; r < rows; r++) given_.weights.push_back(0.5F + static_cast<float>(r % 7));
    data_ = given_.dataset();
    EXPECT_EQ(descent_network_fit_preprocessing(network_.get(), data_.get(), DESCENT_NORMALIZE_STANDARD,
                                                DESCENT_IMPUTE_MEAN, regression),
              DESCENT_OK);
    options = descent_train_options_default();
    options.dropout = c.dropout;
    options.precision = c.precision;
    options.optimizer.clip_norm = 1;
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
    const unsigned parts = micro_batches ? PLAN_PART_MICRO_BATCHES : 0;
    const int64_t rows = micro_batches ? (batch - 1) / micro_batches + 1 : batch;
    if (micro_batches) options.ranks.micro_batches = micro_batches;
    return status == DESCENT_OK
               ? program_create_with(network_.get(), device_, &options, parts, rows, 0, nullptr, &program)
               : status;
  }
  /* Member `k` of many, which differ in weights, dropout and learning rates. */
  void vary(int k) {
    for (int64_t i = 0; i < network_->n_parameters; i++)
      network_->parameters[i] *= 1 + 0.03125F * static_cast<float>(k);
    options.seed = 100 + static_cast<uint64_t>(k);
    learning_rate = 0.01 + 0.001 * k;
  }
  /* On a device that stays open, with the rows of `data`, which outlives this. */
  descent_status open_on(descent_device *device, const Training &data) {
    const descent_status status = program_create_with(network_.get(), device, &options, 0, batch, 0, nullptr, &program);
    return status == DESCENT_OK ? program_bind(&program, data.data_.get()) : status;
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
      made.push_back({t + 1, first, std::min(batch, rows_ - first), learning_rate / (1 + 0.1 * static_cast<double>(t)),
                      &orders_[static_cast<size_t>(t / epoch_steps)], 0, 0, 0, 0});
    }
    return made;
  }

  /* The parts of the step that a rank has: `own` of the micro-batches from `first` on. */
  std::vector<plan_step> cut(const plan_step &step, int64_t first, int64_t own) const {
    double weight = 0;
    for (int64_t r = 0; r < step.rows; r++) {
      int64_t row = step.first_row + r;
      if (step.order) row = static_cast<int64_t>(permutation_index(step.order, static_cast<uint64_t>(row)));
      weight += static_cast<double>(given_.weights[static_cast<size_t>(row)]);
    }
    return cut_step(step, weight, micro_batches, first, own);
  }

  /* Everything that lasts from step to step. */
  std::vector<std::vector<double>> state() {
    std::vector<std::vector<double>> now;
    if (program.backend->synchronise) {
      EXPECT_EQ(program.backend->synchronise(program.compiled), DESCENT_OK) << descent_last_error();
    }
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
  double learning_rate = 0.01; /* of the first step */
  int64_t micro_batches = 0;   /* 0: steps are not cut */
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

/* During its lifetime, devices that are opened draw their choices from the seed and trace them. */
class Drawn {
 public:
  explicit Drawn(int seed) {
    setenv("DESCENT_CUDA_CHOOSE", std::to_string(seed).c_str(), 1);
    setenv("DESCENT_CUDA_TRACE", (folder_ / "trace").c_str(), 1);
  }
  ~Drawn() {
    unsetenv("DESCENT_CUDA_CHOOSE");
    unsetenv("DESCENT_CUDA_TRACE");
  }
  Drawn(const Drawn &) = delete;
  Drawn &operator=(const Drawn &) = delete;

  /* The lines that have all of these. */
  int lines(std::initializer_list<const char *> words) const {
    std::istringstream trace(folder_.read("trace"));
    int found = 0;
    for (std::string line; std::getline(trace, line);)
      found += std::all_of(words.begin(), words.end(), [&](const char *word) {
        return (line + " ").find(word + std::string(" ")) != std::string::npos;
      });
    return found;
  }

 private:
  Folder folder_;
};

/* How often each way was chosen, for each kind of operation. */
struct Ways {
  static constexpr const char *kinds[] = {"kind=forward", "kind=weights", "kind=input"};
  int fused[3] = {}, plain[3] = {}, custom[3] = {}, mask = 0, pass = 0;
  std::set<int> variants[3];
  bool masks = false; /* true if the library has products that write and read masks */
  void add(const Drawn &drawn) {
    for (size_t k = 0; k < 3; k++) {
      fused[k] += drawn.lines({kinds[k], "taken=fused"});
      plain[k] += drawn.lines({kinds[k], "taken=plain"});
      custom[k] += drawn.lines({kinds[k], "taken=custom"});
      for (int variant = 0; variant < 32; variant++)
        if (drawn.lines({kinds[k], "taken=custom", ("variant=" + std::to_string(variant)).c_str()}))
          variants[k].insert(variant);
    }
    mask += drawn.lines({"taken=mask"});
    pass += drawn.lines({"taken=pass"});
    masks |=
        drawn.lines({"epilogue=masked", "verdict=taken"}) && drawn.lines({"epilogue=relu_mask_bias", "verdict=taken"});
  }
};
/* Every way must occur, or every way without masks if the trace shows that each algorithm with a mask was rejected. An
 * input's product has no epilogue, nor has the weights' with tf32. */
inline void expect_all(const Ways &ways, descent_precision precision) {
  for (size_t k = 0; k < 3; k++) {
    SCOPED_TRACE(Ways::kinds[k]);
    EXPECT_GT(ways.plain[k], 0);
    EXPECT_EQ(ways.fused[k] > 0, k == 0 || (k == 1 && precision != DESCENT_PRECISION_TF32));
    EXPECT_GT(ways.custom[k], 0);
    EXPECT_GT(ways.variants[k].size(), 1U);
  }
  if (!ways.masks) return;
  EXPECT_GT(ways.mask, 0);
  EXPECT_GT(ways.pass, 0);
}

using Bytes = std::vector<std::vector<double>>;

inline void expect_same(const Bytes &a, const Bytes &b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); i++) {
    ASSERT_EQ(a[i].size(), b[i].size());
    for (size_t j = 0; j < a[i].size(); j++)
      ASSERT_EQ(std::memcmp(&a[i][j], &b[i][j], sizeof(double)), 0)
          << "state " << i << "[" << j << "]: " << a[i][j] << " and " << b[i][j];
  }
}

inline Bytes trained(const Case &c, const std::function<void(Training &)> &run) {
  Training training(c);
  EXPECT_EQ(training.open(), DESCENT_OK) << descent_last_error();
  if (testing::Test::HasFailure()) return {};
  run(training);
  return training.state();
}

inline void all_at_once(Training &training) {
  const std::vector<plan_step> steps = training.steps(STEPS);
  EXPECT_EQ(program_run(&training.program, training.program.plan->train, steps.data(), STEPS), DESCENT_OK)
      << descent_last_error();
}

enum { SEEDS = 12 };

/* With small whole numbers every sum is exact, so a whole step gives the same bytes with any algorithm. */
inline void expect_whole_steps_to_agree(descent_precision precision, Ways *ways) {
  const Case c = {"", {8, 16, 16, 4}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_MEAN_SQUARED_ERROR, 0, precision};
  Bytes expected;
  for (int seed = 0; seed <= SEEDS; seed++) {
    SCOPED_TRACE(testing::Message() << descent_precision_name(precision) << ", DESCENT_CUDA_CHOOSE=" << seed);
    const auto drawn = seed ? std::make_unique<Drawn>(seed) : nullptr;
    Training training(c, BATCH);
    training.make_whole();
    ASSERT_EQ(training.open(), DESCENT_OK) << descent_last_error();
    const plan_step step = training.steps(1)[0];
    ASSERT_EQ(program_run(&training.program, training.program.plan->train, &step, 1), DESCENT_OK)
        << descent_last_error();
    if (!seed) expected = training.state();
    expect_same(training.state(), expected);
    if (testing::Test::HasFatalFailure()) return;
    if (drawn) ways->add(*drawn);
  }
}

#endif
