/* descent_bench: the figures are consistent. Their size depends on the machine. */
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "cuda_module.h"
#include "internal.h"

namespace {

struct Closer {
  void operator()(descent_device *device) const { descent_device_close(device); }
  void operator()(descent_network *network) const { descent_network_free(network); }
};
using Device = std::unique_ptr<descent_device, Closer>;
using Network = std::unique_ptr<descent_network, Closer>;

Device open_device(const char *name) {
  descent_device *device = nullptr;
  EXPECT_EQ(descent_device_open(name, 2, &device), DESCENT_OK) << descent_last_error();
  return Device(device);
}
Device open_cpu() { return open_device("cpu"); }

/* 9 - 16 - 1, sigmoid, regression. */
Network make_network() {
  const int64_t widths[] = {16, 1};
  const descent_activation activations[] = {DESCENT_ACTIVATION_SIGMOID, DESCENT_ACTIVATION_IDENTITY};
  descent_network_options options = descent_network_options_default();
  options.inputs = 9;
  options.layers = 2;
  options.widths = widths;
  options.activations = activations;
  options.loss = DESCENT_LOSS_MEAN_SQUARED_ERROR;
  descent_network *network = nullptr;
  EXPECT_EQ(descent_network_create(&options, &network), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(descent_network_initialise(network, DESCENT_INIT_AUTO, 1), DESCENT_OK) << descent_last_error();
  return Network(network);
}

struct Row {
  std::string operation, path;
  descent_bench_row values;
};
void take_row(void *user, const descent_bench_row *row) {
  static_cast<std::vector<Row> *>(user)->push_back({row->operation, row->path, *row});
}

bool has_product(const std::string &operation) { return operation.find("dense_") == 0; }

class BenchOn : public testing::TestWithParam<const char *> {};
INSTANTIATE_TEST_SUITE_P(Devices, BenchOn, testing::Values("cpu", "cuda"),
                         [](const testing::TestParamInfo<const char *> &device) { return std::string(device.param); });

TEST_P(BenchOn, OneRowPerOperationAndOneForTheStepThatHoldsTheirSum) {
  const Device device = open_device(GetParam());
  const Network network = make_network();
  const std::vector<float> before(network->parameters, network->parameters + network->n_parameters);
  descent_train_options options = descent_train_options_default();
  options.batch_size = 21;
  std::vector<Row> rows;
  descent_bench_result result;
  ASSERT_EQ(descent_bench(network.get(), device.get(), &options, 0.05, take_row, &rows, &result), DESCENT_OK)
      << descent_last_error();
  EXPECT_EQ(before, std::vector<float>(network->parameters, network->parameters + network->n_parameters));

  const char *const expected[] = {"gather",
                                  "dense_forward layer 1",
                                  "dense_forward layer 2",
                                  "loss",
                                  "dense_backward_weights layer 2",
                                  "dense_backward_input layer 2",
                                  "dense_backward_weights layer 1",
                                  "gradient_norm",
                                  "update",
                                  "metrics",
                                  "step"};
  ASSERT_EQ(rows.size(), std::size(expected));
  EXPECT_GT(result.peak_flops, 0);
  EXPECT_GT(result.peak_bandwidth, 0);
  double flops = 0, bytes = 0, gemm = 0;
  for (size_t i = 0; i < rows.size(); i++) {
    const descent_bench_row &row = rows[i].values;
    SCOPED_TRACE(expected[i]);
    EXPECT_EQ(rows[i].operation, expected[i]);
    EXPECT_EQ(!rows[i].path.empty(), has_product(expected[i]) && std::string(GetParam()) == "cuda") << rows[i].path;
    EXPECT_TRUE(std::isfinite(row.seconds) && row.seconds > 0) << row.seconds;
    EXPECT_GT(row.flops, 0);
    EXPECT_GT(row.bytes, 0);
    EXPECT_EQ(row.floor_seconds, std::max(row.flops / result.peak_flops, row.bytes / result.peak_bandwidth));
    if (i + 1 == rows.size()) break;
    EXPECT_EQ(row.gemm_seconds > 0, has_product(expected[i])) << row.gemm_seconds;
    flops += row.flops;
    bytes += row.bytes;
    gemm += row.gemm_seconds;
  }
  const descent_bench_row &step = rows.back().values;
  EXPECT_EQ(step.flops, flops);
  EXPECT_EQ(step.bytes, bytes);
  EXPECT_EQ(step.gemm_seconds, gemm);
  EXPECT_EQ(result.gemm_seconds, gemm);
  EXPECT_EQ(result.step_seconds, step.seconds);
  EXPECT_GT(result.step_seconds_min, 0);
  EXPECT_LE(result.step_seconds_min, result.step_seconds);
  EXPECT_LE(result.step_seconds, result.step_seconds_max);
  /* at least parameters, gradients and Adam's two moments */
  EXPECT_GE(result.memory, 4 * network->n_parameters * static_cast<int64_t>(sizeof(float)));
}

TEST_P(BenchOn, OptimizersWithNoneOrOneMomentCanBeTimed) {
  const Device device = open_device(GetParam());
  const Network network = make_network();
  for (descent_optimizer optimizer : {DESCENT_OPTIMIZER_GD, DESCENT_OPTIMIZER_SGD}) {
    descent_train_options options = descent_train_options_default();
    options.optimizer.kind = optimizer;
    options.optimizer.momentum = 0.5;
    options.dropout = 0.25;
    descent_bench_result result;
    EXPECT_EQ(descent_bench(network.get(), device.get(), &options, 0.01, nullptr, nullptr, &result), DESCENT_OK)
        << descent_optimizer_name(options.optimizer.kind) << ": " << descent_last_error();
  }
}

TEST_P(BenchOn, TrainingThatDivergesIsNotTimed) {
  const Device device = open_device(GetParam());
  const Network network = make_network();
  descent_train_options options = descent_train_options_default();
  options.optimizer.kind = DESCENT_OPTIMIZER_GD;
  options.optimizer.learning_rate = 1e30;
  descent_bench_result result;
  EXPECT_EQ(descent_bench(network.get(), device.get(), &options, 0.01, nullptr, nullptr, &result),
            DESCENT_ERROR_DIVERGED);
  EXPECT_NE(std::string(descent_last_error()).find("learning rate"), std::string::npos) << descent_last_error();
}

TEST(Bench, WhatCannotBeTimedIsRefused) {
  const Device cpu = open_cpu();
  const Network network = make_network();
  const struct {
    const char *name;
    int64_t batch_size;
    double seconds, dropout;
  } cases[] = {{"all rows of no data", 0, 1, 0},   {"a negative batch", -1, 1, 0},  {"no time", 8, 0, 0},
               {"negative time", 8, -1, 0},        {"time that is NaN", 8, NAN, 0}, {"endless time", 8, INFINITY, 0},
               {"an option out of range", 8, 1, 1}};
  for (const auto &c : cases) {
    descent_train_options options = descent_train_options_default();
    options.batch_size = c.batch_size;
    options.dropout = c.dropout;
    descent_bench_result result;
    EXPECT_EQ(descent_bench(network.get(), cpu.get(), &options, c.seconds, nullptr, nullptr, &result),
              DESCENT_ERROR_ARGUMENT)
        << c.name;
  }
}

}  // namespace
