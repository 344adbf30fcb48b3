/* descent_bench of steps in micro-batches, on one rank and on several. Counts are derived by hand for the network of
 * small_network; times depend on the machine. */
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "rank_threads.h"
#include "training.h"

extern "C" {
#include "plan/operations.h"
}

namespace {

/* 9 - 16 - 1, sigmoid, regression. */
Network small_network() {
  return make_network({9, 16, 1}, DESCENT_ACTIVATION_SIGMOID, DESCENT_LOSS_MEAN_SQUARED_ERROR);
}

constexpr int64_t batch = 21;

/* In place of the ceilings, whose measurement takes a second. */
descent_status measure_nothing(backend_device *, descent_precision, double *flops, double *bandwidth) {
  *flops = 1e12, *bandwidth = 1e11;
  return DESCENT_OK;
}

descent_train_options make_options(int64_t micro_batches, descent_communicator *communicator = nullptr) {
  descent_train_options options = descent_train_options_default();
  options.batch_size = batch;
  options.gpu.fusion = DESCENT_FUSION_OFF;
  options.ranks.micro_batches = micro_batches;
  options.ranks.communicator = communicator;
  return options;
}

/* A device with given ceilings. */
class Unmeasured {
 public:
  explicit Unmeasured(const Device &device) : table_(*device->backend), copy_(*device) {
    table_.measure = measure_nothing;
    copy_.backend = &table_;
  }
  Unmeasured(const Unmeasured &) = delete;
  Unmeasured &operator=(const Unmeasured &) = delete;
  descent_device *get() { return &copy_; }

 private:
  backend table_;
  descent_device copy_;
};

struct Row {
  std::string operation;
  descent_bench_row values;
};
void take_row(void *user, const descent_bench_row *row) {
  static_cast<std::vector<Row> *>(user)->push_back({row->operation, *row});
}

/* What one rank has measured. */
struct Measured {
  descent_status status = DESCENT_OK;
  std::string error;
  std::vector<Row> rows;
  descent_bench_result result{};

  const descent_bench_row &row(const std::string &operation) const {
    for (const Row &row : rows)
      if (row.operation == operation) return row.values;
    static const descent_bench_row none{};
    ADD_FAILURE() << "no row " << operation;
    return none;
  }
  bool has(const std::string &operation) const {
    return std::any_of(rows.begin(), rows.end(), [&](const Row &row) { return row.operation == operation; });
  }
};

Measured measure(descent_device *device, const descent_train_options &options, double seconds = 0.05) {
  const Network network = small_network();
  Measured measured;
  measured.status = descent_bench(network.get(), device, &options, seconds, take_row, &measured.rows, &measured.result);
  if (measured.status != DESCENT_OK) measured.error = descent_last_error();
  return measured;
}

/* The rows are those of a step whose rank computes `own` of its parts. */
void expect_consistent(const Measured &measured, int own, bool exchanges) {
  std::vector<std::string> expected = {"gather",
                                       "dense_forward layer 1",
                                       "dense_forward layer 2",
                                       "loss",
                                       "dense_backward_weights layer 2",
                                       "dense_backward_input layer 2",
                                       "dense_backward_weights layer 1"};
  if (own > 1) expected.push_back("combine");
  if (exchanges) expected.push_back("allreduce");
  for (const char *name : {"gradient_norm", "update", "metrics", "step"}) expected.push_back(name);
  std::vector<std::string> names;
  for (const Row &row : measured.rows) names.push_back(row.operation);
  ASSERT_EQ(measured.status, DESCENT_OK) << measured.error;
  ASSERT_EQ(names, expected);
  const descent_bench_result &result = measured.result;
  descent_bench_row sum{};
  for (size_t i = 0; i < measured.rows.size(); i++) {
    const descent_bench_row &row = measured.rows[i].values;
    SCOPED_TRACE(names[i]);
    EXPECT_TRUE(std::isfinite(row.seconds) && row.seconds > 0) << row.seconds;
    const double link = result.link_bandwidth > 0 ? row.link_bytes / result.link_bandwidth : 0;
    EXPECT_EQ(row.floor_seconds, std::max({row.flops / result.peak_flops, row.bytes / result.peak_bandwidth, link}));
    if (i + 1 == measured.rows.size()) break;
    EXPECT_EQ(row.link_bytes > 0, names[i] == "allreduce" && result.link_bandwidth > 0);
    EXPECT_EQ(row.gemm_seconds > 0, names[i].find("dense_") == 0) << row.gemm_seconds;
    sum.flops += row.flops, sum.bytes += row.bytes, sum.link_bytes += row.link_bytes;
    sum.gemm_seconds += row.gemm_seconds;
  }
  const descent_bench_row &step = measured.rows.back().values;
  EXPECT_EQ(step.flops, sum.flops);
  EXPECT_EQ(step.bytes, sum.bytes);
  EXPECT_EQ(step.link_bytes, sum.link_bytes);
  EXPECT_EQ(step.gemm_seconds, sum.gemm_seconds);
  EXPECT_EQ(result.step_seconds, step.seconds);
}

/* `rows` in `own` parts, each of which reads the weights again and leaves gradients. */
void expect_work(const Measured &measured, double rows, double own, double n) {
  const descent_bench_row &forward = measured.row("dense_forward layer 1"),
                          &weights = measured.row("dense_backward_weights layer 1");
  EXPECT_DOUBLE_EQ(forward.flops, rows * (2 * 9 * 16 + 16 + 16)); /* product, b, sigmoid */
  EXPECT_DOUBLE_EQ(forward.bytes, 4 * (rows * 9 + own * (9 * 16 + 16) + rows * 16));
  EXPECT_DOUBLE_EQ(weights.flops, rows * (2 * 9 * 16 + 16));
  EXPECT_DOUBLE_EQ(weights.bytes, 4 * (rows * 16 + rows * 9 + own * (9 * 16 + 16)));
  EXPECT_DOUBLE_EQ(measured.row("gradient_norm").bytes, 4 * n);
  if (own == 1) return;
  /* own gradients and own - 1 sums are read, own results written, own - 1 of them sums */
  EXPECT_DOUBLE_EQ(measured.row("combine").flops, (own - 1) * n);
  EXPECT_DOUBLE_EQ(measured.row("combine").bytes, (3 * own - 1) * 4 * n);
}

/* ---- one rank ---- */

class BenchMicroBatchesOn : public testing::TestWithParam<std::tuple<const char *, int>> {};
INSTANTIATE_TEST_SUITE_P(Devices, BenchMicroBatchesOn,
                         testing::Combine(testing::Values("cpu", "reference", "cuda"), testing::Values(1, 2, 3, 4, 21)),
                         [](const testing::TestParamInfo<std::tuple<const char *, int>> &chosen) {
                           return std::string(std::get<0>(chosen.param)) + "_" +
                                  std::to_string(std::get<1>(chosen.param));
                         });

TEST_P(BenchMicroBatchesOn, HaveOneRowPerOperationWithTheWorkOfAllParts) {
  const auto &[name, M] = GetParam();
  const Device device = open_device(name, 1);
  const Measured measured = measure(Unmeasured(device).get(), make_options(M), 0.02);
  expect_consistent(measured, M, false);
  if (HasFatalFailure()) return;
  expect_work(measured, static_cast<double>(batch), M, static_cast<double>(small_network()->n_parameters));
  EXPECT_EQ(measured.result.link_bandwidth, 0);
}

TEST(BenchMicroBatches, ThatTheGpuFusesAreOneRow) {
  const Device device = open_device("cuda", 1);
  descent_train_options options = make_options(3);
  options.gpu.fusion = DESCENT_FUSION_ON;
  options.autotune = false; /* times on the emulation would choose among the kernels that fuse */
  const Measured measured = measure(Unmeasured(device).get(), options);
  ASSERT_EQ(measured.status, DESCENT_OK) << measured.error;
  std::vector<std::string> names;
  for (const Row &row : measured.rows) names.push_back(row.operation);
  const std::vector<std::string> expected = {"gather", "layers 1 to 2", "combine", "gradient_norm",
                                             "update", "metrics",       "step"};
  ASSERT_EQ(names, expected);
  /* all rows of X, y and w once; W and b read and dW and db written in each part */
  const descent_bench_row &fused = measured.row("layers 1 to 2");
  EXPECT_EQ(fused.bytes, batch * (9 + 1 + 1) * 4 + 3 * 2 * (9 * 16 + 16 + 16 + 1) * 4);
  EXPECT_EQ(fused.gemm_seconds, fused.seconds);
}

/* ---- what is executed ---- */

/* A call of a backend's run or time. */
struct Call {
  int first, count;
  int64_t steps;
  bool operator==(const Call &other) const {
    return first == other.first && count == other.count && steps == other.steps;
  }
};

/* What a thread's backend has seen. */
struct Watch {
  const plan *compiled = nullptr; /* during the measurement */
  plan_range train{}, micro_batch{}, finish{};
  std::vector<Call> calls;
  std::vector<plan_step> records;      /* given to time */
  std::map<int64_t, int64_t> products; /* run alone, by their rows */
  int64_t fails_at = -1;               /* the call that fails */
  double link = 0;                     /* what measure_link finds; 0: nothing, so the communicator measures */
  int links = 0, link_fails_at = -1;   /* calls of measure_link, and the one that fails */
  double pause = 0;                    /* seconds of each call of time */
  double alone = 0;                    /* seconds of each range of one operation */
  bool finite = true;
  double least_norm = HUGE_VAL; /* of the gradients that gradient_norm sees */
};
thread_local Watch watch;
const backend *watched; /* the table beneath */

int buffer_named(const char *name) {
  for (int i = 0; i < watch.compiled->n_buffers; i++)
    if (std::string(watch.compiled->buffers[i].name) == name) return i;
  ADD_FAILURE() << "no buffer " << name;
  return 0;
}

std::vector<double> values_of(backend_program *program, const char *name) {
  const int number = buffer_named(name);
  const plan_buffer &buffer = watch.compiled->buffers[number];
  std::vector<double> values(static_cast<size_t>(buffer.rows * buffer.cols));
  EXPECT_EQ(watched->read(program, number, 0, buffer.rows * buffer.cols, PLAN_F64, values.data()), DESCENT_OK);
  return values;
}

/* After a range of one operation. On one rank, where it runs alone, sums in place are repeated far more often than a
 * clock would have it: gradients that are not zero would at least double each time. */
void look(backend_program *program, plan_range range, const plan_step *steps, int64_t n) {
  const plan_op_kind kind = watch.compiled->ops[range.first].kind;
  if (range.count != 1) return;
  const bool in_place = kind == OP_COMBINE || kind == OP_ALLREDUCE;
  const bool is_alone = communicator_size(watch.compiled->communicator) == 1;
  for (int i = 0; in_place && is_alone && i < 64; i++)
    watch.finite &= watched->run(program, range, steps, n) == DESCENT_OK;
  const std::vector<double> scalars = values_of(program, "scalars");
  watch.finite = watch.finite && std::isfinite(scalars[SCALAR_LOSS]);
  if (in_place)
    for (const double value : values_of(program, "gradients"))
      watch.finite = watch.finite && std::isfinite(value) && std::fabs(value) < 1e6;
  if (kind == OP_GRADIENT_NORM) watch.least_norm = std::min(watch.least_norm, scalars[SCALAR_GRADIENT_NORM]);
}

backend watching(const backend &table) {
  backend watches = table;
  watched = &table;
  watches.compile = [](backend_device *device, const plan *plan, backend_program **program) {
    watch.compiled = plan;
    watch.train = plan->train, watch.micro_batch = plan->micro_batch, watch.finish = plan->finish;
    return watched->compile(device, plan, program);
  };
  watches.measure = measure_nothing;
  watches.measure_link = [](backend_program *, double *bandwidth) {
    *bandwidth = watch.link;
    if (watch.links++ != watch.link_fails_at) return DESCENT_OK;
    return status_set(DESCENT_ERROR_DEVICE, "the link is lost");
  };
  watches.run = [](backend_program *program, plan_range range, const plan_step *steps, int64_t n) {
    const bool fails = static_cast<int64_t>(watch.calls.size()) == watch.fails_at;
    watch.calls.push_back({range.first, range.count, n});
    if (fails) return status_set(DESCENT_ERROR_DEVICE, "the device is lost");
    if (range.count == 1) std::this_thread::sleep_for(std::chrono::duration<double>(watch.alone));
    const descent_status status = watched->run(program, range, steps, n);
    if (status == DESCENT_OK) look(program, range, steps, n);
    return status;
  };
  watches.run_product = [](backend_program *program, int op, int64_t rows, int repeat) {
    watch.products[rows] += repeat;
    return watched->run_product(program, op, rows, repeat);
  };
  return watches;
}

/* Operation i of the plan takes 1 + i microseconds. */
descent_status time_inside(backend_program *, plan_range range, const plan_step *steps, int64_t n, double *ops,
                           double *products) {
  watch.calls.push_back({-1 - range.first, range.count, n});
  watch.records.insert(watch.records.end(), steps, steps + n);
  std::this_thread::sleep_for(std::chrono::duration<double>(watch.pause));
  for (int i = 0; i < range.count; i++) ops[i] = 1e-6 * (range.first + i + 1), products[i] = 0.5 * ops[i];
  return DESCENT_OK;
}

TEST(BenchMicroBatches, KeepGradientsFiniteHoweverOftenTheyAreAdded) {
  const Device cpu = open_device("cpu", 1);
  const backend watches = watching(*cpu->backend);
  descent_device device = *cpu;
  device.backend = &watches;
  for (const int M : {2, 3, 4}) {
    watch = Watch();
    const Measured measured = measure(&device, make_options(M));
    ASSERT_EQ(measured.status, DESCENT_OK) << measured.error;
    EXPECT_TRUE(watch.finite) << M;
    EXPECT_GT(watch.least_norm, 0) << M;
    EXPECT_TRUE(std::isfinite(watch.least_norm)) << M;
    /* every step: its parts, then its finish */
    for (size_t i = 0; i < watch.calls.size(); i++)
      if (watch.calls[i].first == watch.micro_batch.first && watch.calls[i].count > 1) {
        EXPECT_EQ(watch.calls[i].steps, M);
        ASSERT_LT(i + 1, watch.calls.size());
        const Call finish = {watch.finish.first, watch.finish.count, 1};
        EXPECT_TRUE(watch.calls[i + 1] == finish);
      }
  }
}

TEST(BenchMicroBatches, AreOneRangeWhereThereIsOne) {
  const Device cpu = open_device("cpu", 1);
  const backend watches = watching(*cpu->backend);
  descent_device device = *cpu;
  device.backend = &watches;
  watch = Watch();
  ASSERT_EQ(measure(&device, make_options(1)).status, DESCENT_OK);
  ASSERT_FALSE(watch.calls.empty());
  for (const Call &call : watch.calls) EXPECT_TRUE(call.count == 1 || call.count == watch.train.count) << call.count;
  EXPECT_TRUE(watch.calls[0] == (Call{watch.train.first, watch.train.count, 2}));
}

TEST(BenchMicroBatches, AreTimedInsideStepsWithAFinishAfterTheParts) {
  const Device cpu = open_device("cpu", 1);
  backend times = watching(*cpu->backend);
  times.time = time_inside;
  descent_device device = *cpu;
  device.backend = &times;
  watch = Watch();
  const Measured measured = measure(&device, make_options(4));
  expect_consistent(measured, 4, false);
  if (HasFatalFailure()) return;
  const plan_range finish_of_plan = {7 + 1, 3}; /* behind gather, two forward, loss, three backward and combine */
  for (int i = 0; i < finish_of_plan.first + finish_of_plan.count; i++) {
    const descent_bench_row &row = measured.rows[static_cast<size_t>(i)].values;
    const double executions = i < finish_of_plan.first ? 4 : 1;
    const double expected = 1e-6 * (i + 1) * executions, rounding = 70 * 0x1p-53 * expected; /* of at most 64 sums */
    EXPECT_NEAR(row.seconds, expected, rounding) << i;
    if (row.gemm_seconds > 0) {
      EXPECT_NEAR(row.gemm_seconds, 0.5 * expected, rounding) << i;
    }
  }
  std::vector<Call> inside;
  for (const Call &call : watch.calls)
    if (call.first < 0) inside.push_back(call);
  ASSERT_GE(inside.size(), 14u); /* the calibration's 1 + 1 + 5 steps */
  for (size_t i = 0; i < inside.size(); i++)
    EXPECT_TRUE(inside[i] == (i % 2 ? Call{-1 - finish_of_plan.first, 3, 1} : Call{-1, 8, 4})) << i;
  /* The steps of a sample follow each other: after the two of one step each, five of the last calibration. */
  for (size_t i = 0; i < 7 * 5; i++) {
    const plan_step &record = watch.records[i];
    const int64_t part = static_cast<int64_t>(i % 5);
    EXPECT_EQ(record.number, i < 10 ? 1 : static_cast<int64_t>(i / 5) - 1) << i;
    EXPECT_EQ(record.rows, part < 4 ? batch * (part + 1) / 4 - batch * part / 4 : 0) << i;
    EXPECT_EQ(record.micro_batch, part < 4 ? part : 0) << i;
    EXPECT_EQ(record.micro_batches, 4) << i;
    EXPECT_EQ(record.weight_sum, part < 4 ? batch : 0) << i;
  }
}

TEST(BenchMicroBatches, HaveProductsWithTheRowsOfTheParts) {
  const struct {
    int64_t batch, M, rows, few, more;
  } cases[] = {{21, 1, 21, 1, 0}, {21, 4, 5, 3, 1}, {21, 2, 10, 1, 1}, {20, 4, 5, 4, 0}, {100, 64, 1, 28, 36}};
  const Device cpu = open_device("cpu", 1);
  const backend watches = watching(*cpu->backend);
  descent_device device = *cpu;
  device.backend = &watches;
  for (const auto &c : cases) {
    SCOPED_TRACE(std::to_string(c.batch) + " rows in " + std::to_string(c.M) + " parts");
    watch = Watch();
    descent_train_options options = make_options(c.M);
    options.batch_size = c.batch;
    const Measured measured = measure(&device, options, 0.02);
    ASSERT_EQ(measured.status, DESCENT_OK) << measured.error;
    int64_t all = 0;
    for (const auto &[rows, times] : watch.products) all += times;
    ASSERT_GT(all, 0);
    EXPECT_EQ(watch.products[c.rows] * (c.few + c.more), all * c.few);
    EXPECT_EQ(watch.products[c.rows + 1] * (c.few + c.more), all * c.more);
  }
}

/* ---- several ranks ---- */

/* Measures on every rank; `body` may change a rank's options and watch. */
template <typename Body>
std::vector<Measured> measure_ranks(RankThreads &ranks, int size, int64_t M, Body body, double seconds = 0.05,
                                    bool inside = false) {
  std::vector<Measured> measured(static_cast<size_t>(size));
  const Device cpu = open_device("cpu", 1);
  backend watches = watching(*cpu->backend);
  if (inside) watches.time = time_inside;
  ranks.run([&](int rank, descent_communicator *communicator) {
    const Device device = open_device("cpu", 1);
    descent_device copy = *device;
    copy.backend = &watches;
    descent_train_options options = make_options(M, communicator);
    watch = Watch();
    double own_seconds = seconds;
    body(rank, options, own_seconds);
    measured[static_cast<size_t>(rank)] = measure(&copy, options, own_seconds);
    body(rank, options, own_seconds);
  });
  return measured;
}

TEST(BenchRanks, ExchangeGradientsInARowWithAFloorFromTheLink) {
  const double n = static_cast<double>(small_network()->n_parameters);
  const struct { int ranks, M; } cases[] = {{2, 2}, {2, 8}, {4, 4}, {4, 8}, {3, 3}};
  for (const auto &c : cases) {
    SCOPED_TRACE(std::to_string(c.ranks) + " ranks, M " + std::to_string(c.M));
    RankThreads ranks(c.ranks);
    std::vector<std::vector<Call>> calls(static_cast<size_t>(c.ranks));
    std::vector<int> finite(static_cast<size_t>(c.ranks), 1);
    const std::vector<Measured> all =
        measure_ranks(ranks, c.ranks, c.M, [&](int rank, const descent_train_options &, double &) {
          calls[static_cast<size_t>(rank)] = watch.calls; /* at the second time those of the measurement */
          finite[static_cast<size_t>(rank)] = watch.finite && watch.least_norm > 0;
        });
    const double R = c.ranks;
    for (size_t r = 0; r < all.size(); r++) {
      SCOPED_TRACE("rank " + std::to_string(r));
      const int own = c.M / c.ranks;
      expect_consistent(all[r], own, true);
      if (HasFatalFailure()) return;
      const int64_t first = static_cast<int64_t>(r) * own;
      expect_work(all[r], static_cast<double>(batch * (first + own) / c.M - batch * first / c.M), own, n);
      const descent_bench_row &allreduce = all[r].row("allreduce");
      EXPECT_DOUBLE_EQ(allreduce.link_bytes, 2 * (R - 1) / R * 4 * n + (R - 1) * 8);
      EXPECT_DOUBLE_EQ(allreduce.bytes, 2 * 4 * n);
      EXPECT_DOUBLE_EQ(allreduce.flops, (R - 1) / R * n);
      EXPECT_GT(all[r].result.link_bandwidth, 0);
      EXPECT_EQ(all[r].result.link_bandwidth, all[0].result.link_bandwidth);
      EXPECT_TRUE(calls[r] == calls[0]) << calls[r].size() << " calls, and " << calls[0].size();
      EXPECT_TRUE(finite[r]);
    }
  }
}

TEST(BenchRanks, RepeatAsOftenInsideStepsAsTheClockOfRank0Says) {
  RankThreads ranks(2);
  std::vector<std::vector<Call>> calls(2);
  const std::vector<Measured> all = measure_ranks(
      ranks, 2, 4,
      [&](int rank, const descent_train_options &, double &) {
        calls[static_cast<size_t>(rank)] = watch.calls;
        watch.pause = rank == 0 ? 2e-4 : 1e-6;
      },
      0.1, true);
  for (const Measured &measured : all) {
    expect_consistent(measured, 2, true);
    if (HasFatalFailure()) return;
  }
  EXPECT_TRUE(calls[0] == calls[1]) << calls[0].size() << " calls, and " << calls[1].size();
  EXPECT_TRUE(std::any_of(calls[0].begin(), calls[0].end(), [](const Call &call) { return call.first < 0; }));
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

TEST(BenchRanks, EndTogetherWhereOneFails) {
  const double limit = 60;
  /* 4 calls to warm up. Calibration: 2 of a step, and 7 steps of the 8 operations of two parts and the 4 of a finish. At
   * least 3 rounds: 4 of two steps, and one by operations. */
  const int64_t by_operations = 2 * 8 + 4;
  for (int64_t call = 0; call < 4 + 2 + 7 * by_operations + 3 * (4 + by_operations); call += call < 30 ? 1 : 7)
    for (const int rank_that_fails : {0, 1}) {
      SCOPED_TRACE("call " + std::to_string(call) + " on rank " + std::to_string(rank_that_fails));
      RankThreads ranks(2, limit);
      const auto start = std::chrono::steady_clock::now();
      const std::vector<Measured> all = measure_ranks(
          ranks, 2, 4,
          [&](int rank, const descent_train_options &, double &) {
            if (rank == rank_that_fails) watch.fails_at = call;
          },
          0.01);
      EXPECT_LT(seconds_since(start), limit / 2);
      for (const Measured &measured : all) EXPECT_EQ(measured.status, DESCENT_ERROR_DEVICE) << measured.error;
      EXPECT_NE(all[static_cast<size_t>(rank_that_fails)].error.find("the device is lost"), std::string::npos)
          << all[static_cast<size_t>(rank_that_fails)].error;
      const std::string &other = all[static_cast<size_t>(1 - rank_that_fails)].error;
      EXPECT_TRUE(other.find("rank " + std::to_string(rank_that_fails) + " (node0): the device is lost") == 0 ||
                  other.find("the connection between the ranks failed") == 0)
          << other;
    }
}

thread_local bool is_slow;

/* One rank takes longer for the first layer: the other waits for it in allreduce. */
TEST(BenchRanks, ShowTheWaitForASlowerOneInAllreduce) {
  static constexpr double pause = 0.03; /* seconds for each part: long beside a loaded machine's delays */
  const Device cpu = open_device("cpu", 1);
  backend pauses = *cpu->backend;
  watched = cpu->backend;
  pauses.measure = measure_nothing;
  pauses.run = [](backend_program *program, plan_range range, const plan_step *steps, int64_t n) {
    const int first_layer = 1; /* behind gather */
    if (is_slow && range.first <= first_layer && first_layer < range.first + range.count)
      std::this_thread::sleep_for(std::chrono::duration<double>(pause * static_cast<double>(n)));
    return watched->run(program, range, steps, n);
  };
  const struct {
    int M;
    size_t slow;
  } cases[] = {{2, 1}, {4, 0}};
  for (const auto &c : cases) {
    SCOPED_TRACE("M " + std::to_string(c.M) + ", rank " + std::to_string(c.slow) + " is slow");
    const double wait = pause * c.M / 2;
    RankThreads ranks(2);
    std::vector<Measured> all(2);
    ranks.run([&](int rank, descent_communicator *communicator) {
      const Device device = open_device("cpu", 1);
      descent_device copy = *device;
      copy.backend = &pauses;
      is_slow = rank == static_cast<int>(c.slow);
      all[static_cast<size_t>(rank)] = measure(&copy, make_options(c.M, communicator), 0.5);
    });
    for (const Measured &measured : all) {
      expect_consistent(measured, c.M / 2, true);
      if (HasFatalFailure()) return;
      double sum = 0;
      for (size_t i = 0; i + 1 < measured.rows.size(); i++) sum += measured.rows[i].values.seconds;
      EXPECT_NEAR(sum, measured.result.step_seconds, 0.5 * measured.result.step_seconds);
    }
    const Measured &late = all[c.slow], &prompt = all[1 - c.slow];
    EXPECT_GE(late.row("dense_forward layer 1").seconds, wait);
    EXPECT_LT(late.row("allreduce").seconds, 0.5 * wait);
    EXPECT_LT(prompt.row("dense_forward layer 1").seconds, 0.5 * wait);
    EXPECT_GT(prompt.row("allreduce").seconds, 0.7 * wait);
  }
}

/* Delays that few steps rarely meet are in the rows as often as in the row of the whole step. */
TEST(BenchRanks, TimeOperationsInAsManyStepsAsTheWhole) {
  RankThreads ranks(2);
  std::vector<Call> calls;
  plan_range part{};
  const std::vector<Measured> all = measure_ranks(
      ranks, 2, 2,
      [&](int rank, const descent_train_options &, double &) {
        watch.alone = 2e-4; /* so that few steps would fill the time */
        if (rank == 0) calls = watch.calls, part = watch.micro_batch;
      },
      0.3);
  ASSERT_EQ(all[0].status, DESCENT_OK) << all[0].error;
  /* Of the last round, from its end: steps by operations, one step before them, the steps of the whole, and one that
   * restores the buffers. */
  int64_t by_operations = 0, whole = 0;
  for (size_t i = calls.size(); i-- > 0 && (whole == 0 || calls[i].count > 1);) {
    by_operations += calls[i].first == part.first && calls[i].count == 1;
    whole += calls[i].first == part.first && calls[i].count > 1;
  }
  ASSERT_GT(whole, 3);
  EXPECT_GE(by_operations, std::min<int64_t>(whole - 2, 64)); /* at most 64 */
}

/* A device that times operations and one that leaves this to the clock would make different calls. */
TEST(BenchRanks, RefuseDevicesThatTimeInDifferentWays) {
  RankThreads ranks(2, 10);
  const Device cpu = open_device("cpu", 1);
  const backend watches = watching(*cpu->backend);
  backend times = watches;
  times.time = time_inside;
  std::vector<Measured> all(2);
  ranks.run([&](int rank, descent_communicator *communicator) {
    const Device device = open_device("cpu", 1);
    descent_device copy = *device;
    copy.backend = rank == 0 ? &watches : &times;
    watch = Watch();
    all[static_cast<size_t>(rank)] = measure(&copy, make_options(2, communicator));
  });
  for (const Measured &measured : all) {
    EXPECT_EQ(measured.status, DESCENT_ERROR_ARGUMENT);
    EXPECT_NE(measured.error.find("timing of operations is by the device, but by the clock on rank 0"),
              std::string::npos)
        << measured.error;
  }
}

/* The shortest measurement sends 170 messages from each rank. */
TEST(BenchRanks, EndWhereOneIsSilent) {
  for (const int64_t messages : {1, 3, 10, 50, 150}) {
    SCOPED_TRACE(messages);
    RankThreads ranks(2, 0.5, {RankThreads::SILENCE, 1, messages});
    std::vector<Measured> all(2);
    ranks.run([&](int rank, descent_communicator *communicator) {
      ASSERT_NE(communicator, nullptr);
      const Device device = open_device("cpu", 1);
      all[static_cast<size_t>(rank)] = measure(Unmeasured(device).get(), make_options(2, communicator), 0.05);
    });
    EXPECT_EQ(all[0].status, DESCENT_ERROR_DEVICE) << all[0].error;
    EXPECT_NE(all[0].error.find("rank 1 (node0) has not answered"), std::string::npos) << all[0].error;
    EXPECT_EQ(all[1].status, DESCENT_ERROR_DEVICE) << all[1].error;
  }
}

/* The last measurement of the link is followed by no other call. */
TEST(BenchRanks, EndTogetherWhereTheLinkOfOneFails) {
  const double limit = 10;
  for (const int call : {0, 1}) /* in so short a time: before the first round and after the last */
    for (const int rank_that_fails : {0, 1}) {
      SCOPED_TRACE("call " + std::to_string(call) + " on rank " + std::to_string(rank_that_fails));
      RankThreads ranks(2, limit);
      const auto start = std::chrono::steady_clock::now();
      int links = 0;
      const std::vector<Measured> all = measure_ranks(
          ranks, 2, 2,
          [&](int rank, const descent_train_options &, double &) {
            watch.link = 1e9;
            if (rank != rank_that_fails) return;
            watch.link_fails_at = call;
            links = watch.links;
          },
          1e-6);
      EXPECT_LT(seconds_since(start), limit / 2);
      EXPECT_EQ(links, call + 1);
      for (size_t r = 0; r < all.size(); r++) {
        EXPECT_EQ(all[r].status, DESCENT_ERROR_DEVICE) << r;
        EXPECT_EQ(all[r].error, "rank " + std::to_string(rank_that_fails) + " (node0): the link is lost") << r;
      }
    }
}

TEST(BenchRanks, RefuseWhatDiffersOrIsWrongOnOne) {
  RankThreads differing(2);
  for (const Measured &measured :
       measure_ranks(differing, 2, 2, [](int rank, descent_train_options &options, double &) {
         if (rank == 1) options.batch_size = 22;
       })) {
    EXPECT_EQ(measured.status, DESCENT_ERROR_ARGUMENT);
    EXPECT_EQ(measured.error.find("rank 1 (node0): batch_size is 22, but 21 on rank 0; "), 0U) << measured.error;
  }
  RankThreads learning(2);
  for (const Measured &measured : measure_ranks(learning, 2, 2, [](int rank, descent_train_options &options, double &) {
         if (rank == 1) options.optimizer.learning_rate = 0.5;
       })) {
    EXPECT_EQ(measured.status, DESCENT_ERROR_ARGUMENT);
    EXPECT_NE(measured.error.find("learning_rate is 0.5, but "), std::string::npos) << measured.error;
  }
  RankThreads wrong(2);
  for (const Measured &measured : measure_ranks(wrong, 2, 2, [](int rank, descent_train_options &, double &seconds) {
         if (rank == 1) seconds = -1;
       })) {
    EXPECT_EQ(measured.status, DESCENT_ERROR_ARGUMENT);
    EXPECT_EQ(measured.error, "rank 1 (node0): descent_bench: seconds -1: must be finite and > 0");
  }
  RankThreads diverging(2);
  for (const Measured &measured : measure_ranks(diverging, 2, 2, [](int, descent_train_options &options, double &) {
         options.optimizer.kind = DESCENT_OPTIMIZER_GD;
         options.optimizer.learning_rate = 1e30;
       })) {
    EXPECT_EQ(measured.status, DESCENT_ERROR_DIVERGED);
    EXPECT_NE(measured.error.find("lower the learning rate"), std::string::npos) << measured.error;
  }
}

TEST(BenchRanks, OneThatExchangesWithItselfHasNoLinkOnACpu) {
  const Device device = open_device("cpu", 1);
  descent_communicator *self = nullptr;
  ASSERT_EQ(descent_communicator_open("self", 1, &self), DESCENT_OK) << descent_last_error();
  for (const int M : {1, 2}) {
    const Measured measured = measure(Unmeasured(device).get(), make_options(M, self));
    expect_consistent(measured, M, true);
    if (HasFatalFailure()) break;
    EXPECT_EQ(measured.result.link_bandwidth, 0);
    EXPECT_EQ(measured.row("allreduce").link_bytes, 0);
    EXPECT_EQ(measured.row("allreduce").flops, 0);
    EXPECT_EQ(measured.row("allreduce").bytes, 0);
    EXPECT_EQ(measured.row("allreduce").floor_seconds, 0); /* nothing moves */
  }
  descent_communicator_close(self);
}

/* ---- the link ---- */

using Exchange = decltype(transport::exchange);
Exchange prompt_exchange; /* of the transport beneath */

TEST(Link, IsAsFastAsItsSlowestRankIsAtBest) {
  static constexpr double pause = 0.02; /* seconds of rank 1 before each exchange: two of a measurement */
  for (const int size : {2, 4}) {
    const double bytes = 2.0 * (size - 1) / size * (1 << 21) * 4;
    for (const bool slow : {false, true}) {
      std::vector<double> bandwidth(static_cast<size_t>(size)), took(static_cast<size_t>(size));
      RankThreads ranks(size);
      ranks.run([&](int rank, descent_communicator *communicator) {
        if (slow && rank == 1) {
          prompt_exchange = communicator->transport->exchange;
          communicator->transport->exchange = [](transport *base, const message *messages, int n, double seconds,
                                                 int *silent, char *reason, size_t room) {
            std::this_thread::sleep_for(std::chrono::duration<double>(pause));
            return prompt_exchange(base, messages, n, seconds, silent, reason, room);
          };
        }
        const auto start = std::chrono::steady_clock::now();
        EXPECT_EQ(communicator_measure(communicator, &bandwidth[static_cast<size_t>(rank)]), DESCENT_OK);
        took[static_cast<size_t>(rank)] = seconds_since(start);
      });
      for (const double each : bandwidth) EXPECT_EQ(each, bandwidth[0]);
      /* The best of three is no slower than their mean. */
      EXPECT_GE(bandwidth[0], 3 * bytes / *std::max_element(took.begin(), took.end()));
      if (slow) {
        EXPECT_LE(bandwidth[0], bytes / (2 * pause));
      }
    }
  }
  double none = 1;
  EXPECT_EQ(communicator_measure(nullptr, &none), DESCENT_OK);
  EXPECT_EQ(none, 0);
}

}  // namespace
