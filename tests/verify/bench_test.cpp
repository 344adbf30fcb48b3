/* descent_bench: the figures are consistent. Their size depends on the machine. */
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "training.h"

namespace {

Device open_cpu() { return open_device("cpu"); }

/* 9 - 16 - 1, sigmoid, regression. */
Network small_network() {
  return make_network({9, 16, 1}, DESCENT_ACTIVATION_SIGMOID, DESCENT_LOSS_MEAN_SQUARED_ERROR);
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
  const Network network = small_network();
  const std::vector<float> before(network->parameters, network->parameters + network->n_parameters);
  descent_train_options options = descent_train_options_default();
  options.batch_size = 21;
  options.gpu.fusion = DESCENT_FUSION_OFF;
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
  const Network network = small_network();
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
  const Network network = small_network();
  descent_train_options options = descent_train_options_default();
  options.optimizer.kind = DESCENT_OPTIMIZER_GD;
  options.optimizer.learning_rate = 1e30;
  descent_bench_result result;
  EXPECT_EQ(descent_bench(network.get(), device.get(), &options, 0.01, nullptr, nullptr, &result),
            DESCENT_ERROR_DIVERGED);
  EXPECT_NE(std::string(descent_last_error()).find("learning rate"), std::string::npos) << descent_last_error();
}

void expect_prediction(const Device &device, const descent_predict_options &options) {
  const Network network = small_network();
  std::vector<Row> rows;
  descent_bench_result result;
  ASSERT_EQ(descent_bench_predict_with(network.get(), device.get(), &options, 21, 0.05, take_row, &rows, &result),
            DESCENT_OK)
      << descent_last_error();
  ASSERT_GE(rows.size(), 2u);
  const bool fused = rows[1].path.find("fused forward ") == 0;
  EXPECT_TRUE(fused ? options.fusion != DESCENT_FUSION_OFF : options.fusion != DESCENT_FUSION_ON) << rows[1].path;
  const std::vector<std::string> layers = {"gather", "dense_forward layer 1", "dense_forward layer 2", "output",
                                           "prediction"},
                                 groups = {"gather", "layers 1 to 2", "prediction"};
  const std::vector<std::string> &expected = fused ? groups : layers;
  ASSERT_EQ(rows.size(), expected.size());
  double flops = 0, bytes = 0, gemm = 0;
  for (size_t i = 0; i < rows.size(); i++) {
    const descent_bench_row &row = rows[i].values;
    SCOPED_TRACE(expected[i]);
    EXPECT_EQ(rows[i].operation, expected[i]);
    EXPECT_TRUE(std::isfinite(row.seconds) && row.seconds > 0) << row.seconds;
    EXPECT_EQ(row.floor_seconds, std::max(row.flops / result.peak_flops, row.bytes / result.peak_bandwidth));
    if (i + 1 == rows.size()) break;
    flops += row.flops;
    bytes += row.bytes;
    gemm += row.gemm_seconds;
  }
  const descent_bench_row &whole = rows.back().values;
  EXPECT_EQ(whole.flops, flops);
  /* X, W and the hidden layer's b as they are stored, the output layer's b, the scaling of the target, P */
  const int stored = options.precision == DESCENT_PRECISION_BF16 ? 2 : 4;
  EXPECT_EQ(whole.bytes, 21 * 9 * stored + (9 * 16 + 16 + 16) * stored + 4 + 2 * 4 + 21 * 4);
  EXPECT_LT(whole.bytes, bytes);
  EXPECT_EQ(whole.gemm_seconds, gemm);
  EXPECT_EQ(result.step_seconds, whole.seconds);
  EXPECT_LE(result.step_seconds_min, result.step_seconds);
  EXPECT_LE(result.step_seconds, result.step_seconds_max);
}

TEST_P(BenchOn, APredictionIsTimedAgainstRowsReadOnceAndPredictionsWrittenOnce) {
  const Device device = open_device(GetParam());
  descent_predict_options options = descent_predict_options_default();
  expect_prediction(device, options);
  for (const descent_precision precision : {DESCENT_PRECISION_FP32, DESCENT_PRECISION_TF32, DESCENT_PRECISION_BF16})
    for (const descent_fusion fusion : {DESCENT_FUSION_OFF, DESCENT_FUSION_ON}) {
      if (!device->backend->fused_with) continue;
      SCOPED_TRACE(std::string(descent_precision_name(precision)) + ", fusion " + descent_fusion_name(fusion));
      options.precision = precision, options.fusion = fusion;
      expect_prediction(device, options);
    }
}

TEST(Bench, AnEnsembleIsRefused) {
  const Device cpu = open_cpu();
  const Network one = small_network(), other = small_network();
  const descent_network *members[] = {one.get(), other.get()};
  descent_network *joined = nullptr;
  ASSERT_EQ(descent_network_join(members, 2, &joined), DESCENT_OK) << descent_last_error();
  const Network ensemble(joined, descent_network_free);
  descent_bench_result result;
  EXPECT_EQ(descent_bench_predict(ensemble.get(), cpu.get(), 8, 0.01, nullptr, nullptr, &result),
            DESCENT_ERROR_UNSUPPORTED);
  EXPECT_EQ(std::string(descent_last_error()),
            "network: an ensemble of 2 networks: use its members (descent_network_member)");
}

TEST(Bench, OnlyRowsThatAreOnePredictionAreTimed) {
  const Device cpu = open_cpu();
  const Network network = small_network();
  descent_bench_result result;
  const auto bench = [&](int64_t rows, double seconds) {
    return descent_bench_predict(network.get(), cpu.get(), rows, seconds, nullptr, nullptr, &result);
  };
  for (const int64_t rows : {INT64_C(0), INT64_C(-1), INT64_C(4097), INT64_MAX}) {
    EXPECT_EQ(bench(rows, 0.01), DESCENT_ERROR_ARGUMENT);
    EXPECT_EQ(std::string(descent_last_error()), "rows " + std::to_string(rows) +
                                                     ": must be between 1 and 4096, the most that this device predicts "
                                                     "at a time");
  }
  EXPECT_EQ(bench(4096, 0.01), DESCENT_OK) << descent_last_error();
  for (const double seconds : {0.0, -1.0, static_cast<double>(NAN), static_cast<double>(INFINITY)})
    EXPECT_EQ(bench(8, seconds), DESCENT_ERROR_ARGUMENT) << seconds;
}

/* ---- operations that one kernel computes ---- */

/* A step of small_network: gather, forward 1 and 2, loss, weights 2, input 2, weights 1, norm, update, metrics. */
struct Grouping {
  const char *path;
  std::vector<int> members;
} const step_of_two = {"fused step 1", {1, 2, 3, 4, 5, 6}}, chain_of_two = {"fused chain 2", {1, 2, 3, 5}},
        whole_step = {"whole step 1", {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}};
const Grouping *grouping; /* of the table below, which cannot hold state */

/* Op i of a range takes 1 + i microseconds. */
double microseconds(int i) { return 1e-6 * (1 + i); }

backend fusing(const backend &table) {
  backend fuses = table;
  fuses.fused_with = [](backend_program *, plan_range range, int op) {
    const std::vector<int> &members = grouping->members;
    const bool is_member = std::find(members.begin(), members.end(), op - range.first) != members.end();
    return is_member ? range.first + members.front() : op;
  };
  fuses.path = [](backend_program *, plan_range range, int op, char *text) {
    std::snprintf(text, BACKEND_PATH, "%s", op == range.first + grouping->members.front() ? grouping->path : "");
  };
  fuses.time = [](backend_program *, plan_range range, const plan_step *, int64_t, double *ops, double *products) {
    for (int i = 0; i < range.count; i++) ops[i] = microseconds(i), products[i] = 0.5 * microseconds(i);
    return DESCENT_OK;
  };
  return fuses;
}

TEST(Bench, OperationsOfOneKernelAreOneRow) {
  const Device cpu = open_cpu();
  const Network network = small_network();
  const backend fuses = fusing(*cpu->backend);
  descent_device device = *cpu;
  device.backend = &fuses;
  descent_train_options options = descent_train_options_default();
  options.batch_size = 21;
  std::vector<Row> alone;
  descent_bench_result result;
  ASSERT_EQ(descent_bench(network.get(), cpu.get(), &options, 0.01, take_row, &alone, &result), DESCENT_OK);
  /* X, y, w; W and b; what leaves: dW and db, or A and every dZ */
  const double in = 21 * (9 + 1 + 1) * 4, parameters = (9 * 16 + 16 + 16 + 1) * 4;
  const double flat = static_cast<double>(network->n_parameters) * 4; /* with gaps: parameters and moments, updated */
  const struct {
    const Grouping &grouping;
    double bytes;
  } cases[] = {{step_of_two, in + 2 * parameters},
               {chain_of_two, in + parameters + 21 * (16 + 16 + 1) * 4},
               {whole_step, in + 2 * 4 /* shift and scale of y */ + 2 * parameters + 5 * flat}};
  for (const auto &c : cases) {
    SCOPED_TRACE(c.grouping.path);
    grouping = &c.grouping;
    const std::vector<int> &members = c.grouping.members;
    std::vector<Row> rows;
    ASSERT_EQ(descent_bench(network.get(), &device, &options, 0.01, take_row, &rows, &result), DESCENT_OK)
        << descent_last_error();
    ASSERT_EQ(rows.size(), alone.size() - members.size() + 1);
    double flops = 0, seconds = 0, sum_flops = 0, sum_bytes = 0, sum_gemm = 0;
    size_t next = 0;
    for (int i = 0; i < static_cast<int>(alone.size()) - 1; i++) {
      if (std::find(members.begin(), members.end(), i) != members.end()) {
        flops += alone[static_cast<size_t>(i)].values.flops;
        if (i > members.front()) continue;
        seconds = microseconds(i); /* that of the launch */
      } else {
        EXPECT_EQ(rows[next].operation, alone[static_cast<size_t>(i)].operation);
        EXPECT_EQ(rows[next].path, "");
        EXPECT_EQ(rows[next].values.bytes, alone[static_cast<size_t>(i)].values.bytes);
        EXPECT_DOUBLE_EQ(rows[next].values.seconds, microseconds(i));
        EXPECT_DOUBLE_EQ(rows[next].values.gemm_seconds, has_product(rows[next].operation) ? 0.5 * microseconds(i) : 0);
      }
      sum_flops += rows[next].values.flops;
      sum_bytes += rows[next].values.bytes;
      sum_gemm += rows[next++].values.gemm_seconds;
    }
    const bool is_whole = members.size() == alone.size() - 1;
    const Row &group = rows[is_whole ? 0 : 1];
    EXPECT_EQ(group.operation, is_whole ? "all operations" : "layers 1 to 2");
    EXPECT_EQ(group.path, c.grouping.path);
    EXPECT_EQ(group.values.flops, flops);
    EXPECT_EQ(group.values.bytes, c.bytes);
    EXPECT_EQ(group.values.floor_seconds, std::max(flops / result.peak_flops, c.bytes / result.peak_bandwidth));
    EXPECT_DOUBLE_EQ(group.values.seconds, seconds);
    EXPECT_EQ(group.values.gemm_seconds, group.values.seconds);
    const Row &step = rows.back();
    EXPECT_EQ(step.operation, "step");
    EXPECT_EQ(step.values.flops, sum_flops);
    EXPECT_EQ(step.values.bytes, sum_bytes);
    EXPECT_EQ(step.values.gemm_seconds, sum_gemm);
    EXPECT_EQ(step.values.floor_seconds, std::max(sum_flops / result.peak_flops, sum_bytes / result.peak_bandwidth));
  }
}

TEST(Bench, ATrainingThatTheGpuFusesIsOneRow) {
  const Device device = open_device("cuda");
  ASSERT_NE(device->backend->fused_with, nullptr);
  const Network network = small_network();
  descent_train_options options = descent_train_options_default();
  options.batch_size = 21;
  options.gpu.fusion = DESCENT_FUSION_ON;
  options.autotune = false; /* times on the emulation would choose among the kernels that fuse */
  std::vector<Row> rows;
  descent_bench_result result;
  ASSERT_EQ(descent_bench(network.get(), device.get(), &options, 0.05, take_row, &rows, &result), DESCENT_OK)
      << descent_last_error();
  ASSERT_EQ(rows.size(), 6u);
  EXPECT_EQ(rows[1].operation, "layers 1 to 2");
  EXPECT_EQ(rows[1].path.find("fused step "), 0u) << rows[1].path;
  EXPECT_GT(rows[1].values.seconds, 0);
  EXPECT_EQ(rows[1].values.gemm_seconds, rows[1].values.seconds);
  EXPECT_EQ(rows[2].operation, "gradient_norm");
}

TEST(Bench, AGroupOfOneLayerIsNamedByIt) {
  const Device cpu = open_cpu();
  const Network network = small_network();
  const backend fuses = fusing(*cpu->backend);
  descent_device device = *cpu;
  device.backend = &fuses;
  const Grouping output = {"fused forward 1", {2, 3}};
  grouping = &output;
  std::vector<Row> rows;
  descent_bench_result result;
  ASSERT_EQ(descent_bench_predict(network.get(), &device, 21, 0.01, take_row, &rows, &result), DESCENT_OK);
  ASSERT_EQ(rows.size(), 4u);
  EXPECT_EQ(rows[2].operation, "layer 2");
  EXPECT_EQ(rows[2].path, output.path);
}

TEST(Bench, WhatCannotBeTimedIsRefused) {
  const Device cpu = open_cpu();
  const Network network = small_network();
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
