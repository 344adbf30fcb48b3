/* The whole CUDA backend, on the module under test: a training gives the same bytes however it is cut into calls,
 * captured or streamed. */
#include <chrono>

#include "conformance.h"
#include "cuda_training.h"

extern "C" {
#include "core/communicator.h"
}

namespace {

class CudaModule : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override { use_cuda_module(cuda_module_path()); }
};

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

/* On whole batches: single operations run on the step's rows, for which other algorithms may be chosen. They are never
 * fused. */
TEST_P(CudaModule, GivesTheSameBytesOperationByOperation) {
  Bytes results[2];
  for (bool whole : {true, false}) {
    Training training(GetParam(), 3 * BATCH);
    training.options.gpu.fusion = DESCENT_FUSION_OFF;
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

bool has_clusters() {
  bool found = false;
  const auto note = [](void *user, const descent_device_info *info) {
    if (!strcmp(info->name, "cuda:0")) *static_cast<bool *>(user) = info->compute_major >= 9;
  };
  EXPECT_EQ(descent_device_list(note, &found), DESCENT_OK) << descent_last_error();
  return found;
}

std::string path_of(const struct program &program, plan_range range) {
  char text[BACKEND_PATH];
  program.backend->path(program.compiled, range, range.first, text);
  return text;
}

/* Draws the kernels of the case's training such that a step is one kernel. False: no seed does. */
bool draw_whole_step(const Case &c) {
  enum { MOST = 60 };
  for (int seed = 1; seed <= MOST; seed++) {
    setenv("DESCENT_CUDA_CHOOSE", std::to_string(seed).c_str(), 1);
    Training training(c);
    training.options.gpu.fusion = DESCENT_FUSION_ON;
    EXPECT_EQ(training.open(), DESCENT_OK) << descent_last_error();
    if (path_of(training.program, training.program.plan->train).find("whole step ") == 0) return true;
  }
  unsetenv("DESCENT_CUDA_CHOOSE");
  return false;
}

/* Small steps that are fused: by one kernel from the gather to the metrics, where the device has clusters of blocks. */
TEST(CudaModule, GivesTheSameBytesForWholeSteps) {
  use_cuda_module(cuda_module_path());
  const Case small[] = {
      {"fp32", {40, 80, 3}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, 0.25, DESCENT_PRECISION_FP32},
      {"tf32", {12, 72, 40, 2}, DESCENT_ACTIVATION_GELU, DESCENT_LOSS_MEAN_SQUARED_ERROR, 0, DESCENT_PRECISION_TF32},
      {"bf16", {33, 96, 1}, DESCENT_ACTIVATION_TANH, DESCENT_LOSS_BINARY_CROSS_ENTROPY, 0.5, DESCENT_PRECISION_BF16},
  };
  const bool is_whole = has_clusters();
  for (const Case &c : small) {
    SCOPED_TRACE(c.name);
    if (is_whole) {
      EXPECT_TRUE(draw_whole_step(c));
    }
    const auto fused = [&c, is_whole](const std::vector<plan_range plan::*> &ranges, bool all) {
      Training training(c);
      training.options.gpu.fusion = DESCENT_FUSION_ON;
      EXPECT_EQ(training.open(), DESCENT_OK) << descent_last_error();
      if (is_whole) expect_contains(path_of(training.program, training.program.plan->train), "whole step ");
      if (ranges.empty()) all_at_once(training);
      for (const plan_step &step : training.steps(ranges.empty() ? 0 : STEPS))
        for (plan_range plan::*range : ranges)
          EXPECT_EQ(program_run(&training.program, training.program.plan->*range, &step, 1), DESCENT_OK)
              << descent_last_error();
      if (all) return training.state();
      Bytes parameters;
      for (const int buffer :
           {training.program.at.parameters, training.program.at.moment1, training.program.at.moment2}) {
        const int64_t n = training.program.plan->buffers[buffer].cols;
        parameters.emplace_back(static_cast<size_t>(n));
        EXPECT_EQ(program_read(&training.program, buffer, 0, n, PLAN_F64, parameters.back().data()), DESCENT_OK);
      }
      return parameters;
    };
    const Bytes expected = fused({}, true), parameters = fused({}, false);
    expect_same(fused({&plan::train}, true), expected);
    expect_same(fused({&plan::gradient, &plan::update}, true), expected);
    expect_same(fused({&plan::train_with_statistics}, false), parameters);
    expect_same(fused({&plan::evaluate, &plan::train, &plan::predict}, false), parameters);
    setenv("DESCENT_GPU_DATA_MB", "0", 1);
    expect_same(fused({}, true), expected);
    unsetenv("DESCENT_GPU_DATA_MB");
    unsetenv("DESCENT_CUDA_CHOOSE");
  }
}

/* Trains on two datasets in turn, one with missing cells, and writes or restores one of the preprocessing's constants
 * before each run. */
void train_while_constants_change(Training &training, const Case &c) {
  const backend &table = *training.program.backend;
  const plan_handles &at = training.program.at;
  const int64_t inputs = c.widths[0], outputs = c.widths.back();
  const bool regression = c.loss == DESCENT_LOSS_MEAN_SQUARED_ERROR;
  Rows rows = make_rows(ROWS, inputs, regression ? outputs : 1, regression ? 0 : outputs == 1 ? 2 : outputs, 8);
  for (size_t i = 0; i < rows.X.size(); i += 3) rows.X[i] = NAN;
  rows.weights.assign(rows.y.size() / static_cast<size_t>(rows.targets), 2);
  const Dataset others = rows.dataset();
  ASSERT_EQ(table.save(training.program.compiled, at.shift), DESCENT_OK);
  for (int turn = 0; turn < 5; turn++) {
    const int constant = turn == 0 ? at.shift : turn == 1 ? at.scale : at.fill;
    const std::vector<float> values(static_cast<size_t>(inputs), turn == 1 ? 0.75F : 0.5F);
    ASSERT_NE(constant, PLAN_NONE);
    if (turn == 4)
      ASSERT_EQ(table.restore(training.program.compiled, at.shift), DESCENT_OK);
    else
      ASSERT_EQ(program_write(&training.program, constant, 0, inputs, PLAN_F32, values.data()), DESCENT_OK);
    all_at_once(training);
    ASSERT_EQ(turn % 2 ? training.bind() : program_bind(&training.program, others.get()), DESCENT_OK);
    all_at_once(training);
  }
}

TEST_P(CudaModule, ReadsNoRowsOfFormerPreprocessing) {
  Bytes results[2];
  for (bool streamed : {false, true}) {
    if (streamed) setenv("DESCENT_GPU_DATA_MB", "0", 1);
    results[streamed] =
        trained(GetParam(), [](Training &training) { train_while_constants_change(training, GetParam()); });
    unsetenv("DESCENT_GPU_DATA_MB");
  }
  expect_same(results[0], results[1]);
}

/* The operations are timed in one training and their products in another. */
TEST_P(CudaModule, TrainsWhileItTimesOperationsInsideSteps) {
  Bytes results[2];
  for (bool timed : {false, true}) {
    Training training(GetParam(), 3 * BATCH);
    ASSERT_EQ(training.open(), DESCENT_OK) << descent_last_error();
    const plan_range range = training.program.plan->train;
    const std::vector<plan_step> steps = training.steps(STEPS);
    const size_t count = static_cast<size_t>(range.count);
    std::vector<double> ops(count, -1), products(count, -1);
    if (timed) {
      ASSERT_EQ(training.program.backend->time(training.program.compiled, range, steps.data(), STEPS, ops.data(),
                                               products.data()),
                DESCENT_OK)
          << descent_last_error();
      for (size_t i = 0; i < count; i++) {
        const plan_op_kind kind = training.program.plan->ops[range.first + static_cast<int>(i)].kind;
        EXPECT_GT(ops[i], 0) << i;
        EXPECT_EQ(products[i] > 0,
                  kind == OP_DENSE_FORWARD || kind == OP_DENSE_BACKWARD_WEIGHTS || kind == OP_DENSE_BACKWARD_INPUT)
            << i;
        EXPECT_GE(products[i], 0) << i;
      }
    } else {
      for (int pass = 0; pass < 2; pass++) all_at_once(training);
    }
    results[timed] = training.state();
  }
  expect_same(results[0], results[1]);
}

TEST_P(CudaModule, RestoresTheStateThatItSaved) {
  Training training(GetParam());
  ASSERT_EQ(training.open(), DESCENT_OK) << descent_last_error();
  const backend &table = *training.program.backend;
  backend_program *const program = training.program.compiled;
  const std::vector<int> buffers = {training.program.at.parameters, training.program.at.moment1,
                                    training.program.at.moment2};
  EXPECT_EQ(table.restore(program, buffers[0]), DESCENT_ERROR_ARGUMENT) << "nothing was saved";
  Bytes results[2];
  for (Bytes &result : results) {
    for (int buffer : buffers)
      ASSERT_EQ(&result == results ? table.save(program, buffer) : table.restore(program, buffer), DESCENT_OK);
    const double zeros[2] = {0, 0};
    ASSERT_EQ(program_write(&training.program, training.program.at.scalars, SCALAR_TOTAL_LOSS, 2, PLAN_F64, zeros),
              DESCENT_OK);
    all_at_once(training);
    result = training.state();
  }
  expect_same(results[0], results[1]);
}

/* Of every length and at every offset, within and across the rows and layers that the device pads; the surrounding
 * values stay unchanged. */
TEST_P(CudaModule, WritesAndReadsAnyPartOfABuffer) {
  Training training(GetParam());
  ASSERT_EQ(training.open(), DESCENT_OK) << descent_last_error();
  std::mt19937 random(1);
  for (int b : {training.program.at.parameters, training.program.at.A, training.program.at.moment1}) {
    const plan_buffer &buffer = training.program.plan->buffers[b];
    const int64_t size = buffer.rows * buffer.cols;
    std::vector<float> expected(static_cast<size_t>(size)), found(expected.size());
    ASSERT_EQ(program_read(&training.program, b, 0, size, PLAN_F32, expected.data()), DESCENT_OK);
    for (int n = 0; n < 60; n++) {
      const int64_t offset = static_cast<int64_t>(random() % static_cast<uint64_t>(size));
      const int64_t count = static_cast<int64_t>(random() % static_cast<uint64_t>(size - offset + 1));
      std::vector<double> part(static_cast<size_t>(count));
      for (int64_t i = 0; i < count; i++) {
        part[static_cast<size_t>(i)] = static_cast<double>(random() % 256); /* exact in bf16 */
        expected[static_cast<size_t>(offset + i)] = static_cast<float>(part[static_cast<size_t>(i)]);
      }
      ASSERT_EQ(program_write(&training.program, b, offset, count, n % 2 ? PLAN_F64 : PLAN_F32,
                              n % 2 ? static_cast<const void *>(part.data()) : expected.data() + offset),
                DESCENT_OK);
      ASSERT_EQ(program_read(&training.program, b, 0, size, PLAN_F32, found.data()), DESCENT_OK);
      ASSERT_EQ(found, expected) << buffer.name << ": " << count << " from " << offset;
      ASSERT_EQ(program_read(&training.program, b, offset, count, PLAN_F64, part.data()), DESCENT_OK);
      for (int64_t i = 0; i < count; i++)
        ASSERT_EQ(part[static_cast<size_t>(i)], expected[static_cast<size_t>(offset + i)]);
    }
  }
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

/* Larger than a staging buffer, with and without padding, in both types of the host. */
TEST(CudaModule, LargeBuffersAreTransferredInPieces) {
  const Case c = {"", {263001, 2, 1},        DESCENT_ACTIVATION_RELU, DESCENT_LOSS_BINARY_CROSS_ENTROPY,
                  0,  DESCENT_PRECISION_FP32};
  Training training(c, 8, 4);
  ASSERT_EQ(training.open(), DESCENT_OK) << descent_last_error();
  const int b = training.program.at.parameters;
  const int64_t size = training.program.plan->buffers[b].cols;
  ASSERT_GT(size, 1 << 19); /* floats of a staging buffer */
  std::vector<float> values(static_cast<size_t>(size)), found(values.size());
  std::vector<double> wide(values.size());
  for (size_t i = 0; i < values.size(); i++) values[i] = static_cast<float>(i);
  ASSERT_EQ(program_write(&training.program, b, 0, size, PLAN_F32, values.data()), DESCENT_OK);
  ASSERT_EQ(program_read(&training.program, b, 0, size, PLAN_F32, found.data()), DESCENT_OK);
  ASSERT_TRUE(found == values);
  ASSERT_EQ(program_read(&training.program, b, 0, size, PLAN_F64, wide.data()), DESCENT_OK);
  ASSERT_TRUE(std::equal(wide.begin(), wide.end(), values.begin()));
}

/* More steps than any queue holds, the last of each epoch of one row. */
TEST(CudaModule, GivesTheSameBytesForManyStepsInOneCallOrInFew) {
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

TEST(CudaModule, GivesTheSameBitsOfWholeNumbersForEveryDraw) {
  use_cuda_module(cuda_module_path());
  for (descent_precision precision : {DESCENT_PRECISION_FP32, DESCENT_PRECISION_TF32, DESCENT_PRECISION_BF16}) {
    Ways ways;
    expect_whole_steps_to_agree(precision, &ways);
    expect_all(ways, precision);
  }
}

/* One step up to its gradients, in one range, so that relu's mask is used if the draw chooses it; then each operation
 * is compared with the exact result from its inputs. */
void expect_step_within_bounds(Training &training) {
  const struct program &program = training.program;
  const plan_range train = program.plan->train, range = {train.first, train.count - 3};
  ASSERT_EQ(program.plan->ops[train.first + range.count].kind, OP_GRADIENT_NORM);
  const plan_step step = training.steps(1)[0];
  ASSERT_EQ(program_run(&training.program, range, &step, 1), DESCENT_OK) << descent_last_error();
  std::vector<std::vector<double>> values;
  for (int b = 0; b < program.plan->n_buffers; b++) {
    const plan_buffer &buffer = program.plan->buffers[b];
    values.emplace_back(static_cast<size_t>(buffer.storage == PLAN_SOURCE ? 0 : buffer.rows * buffer.cols));
    if (buffer.type != PLAN_I64 && !values.back().empty()) {
      ASSERT_EQ(program_read(&program, b, 0, buffer.rows * buffer.cols, PLAN_F64, values.back().data()), DESCENT_OK);
    }
  }
  backend_device *device = nullptr;
  backend_program *exact = nullptr;
  ASSERT_EQ(backend_reference.open(0, 1, &device), DESCENT_OK);
  ASSERT_EQ(backend_reference.compile(device, program.plan, &exact), DESCENT_OK);
  for (int op = range.first + 1; op < range.first + range.count; op++) { /* except the gather */
    for (int b = 0; b < program.plan->n_buffers; b++)
      if (program.plan->buffers[b].type != PLAN_I64 && !values[static_cast<size_t>(b)].empty()) {
        const std::vector<double> &now = values[static_cast<size_t>(b)];
        ASSERT_EQ(backend_reference.write(exact, b, 0, static_cast<int64_t>(now.size()), PLAN_F64, now.data()),
                  DESCENT_OK);
      }
    bounds within{};
    ASSERT_EQ(bounds_run(exact, program.plan, op, &step, &within), DESCENT_OK) << descent_last_error();
    for (int i = 0; i < within.n; i++) {
      const int buffer = within.outputs[i].buffer;
      conformance::expect_within(within.outputs[i], program.plan->buffers[buffer].name,
                                 values[static_cast<size_t>(buffer)]);
    }
    bounds_clear(&within);
  }
  backend_reference.release(exact);
  backend_reference.close(device);
}

TEST(CudaModule, StaysWithinTheBoundsForEveryDraw) {
  use_cuda_module(cuda_module_path());
  for (descent_precision precision : {DESCENT_PRECISION_FP32, DESCENT_PRECISION_TF32, DESCENT_PRECISION_BF16}) {
    const Case c = {"", {8, 33, 4}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, 0, precision};
    Ways ways;
    for (int seed = 1; seed <= SEEDS; seed++) {
      SCOPED_TRACE(testing::Message() << descent_precision_name(precision) << ", DESCENT_CUDA_CHOOSE=" << seed);
      const Drawn drawn(seed);
      Training training(c, BATCH);
      ASSERT_EQ(training.open(), DESCENT_OK) << descent_last_error();
      expect_step_within_bounds(training);
      if (HasFatalFailure()) return;
      ways.add(drawn);
    }
    expect_all(ways, precision);
  }
}

/* ---- one rank that exchanges gradients with itself ---- */

/* Finishes in one call, of more parameters than a device exchanges and updates while the host queues the next. */
enum { FINISHES = 32 };
const Case many_parameters = {"", {16, 256, 256, 5},     DESCENT_ACTIVATION_RELU, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY,
                              0,  DESCENT_PRECISION_FP32};

struct Exchanged {
  Bytes state;
  std::string placement;
};

/* After some steps; `aborts`: the connection is given up while they are still computed. */
Exchanged exchanged(bool aborts) {
  descent_communicator *communicator = nullptr;
  EXPECT_EQ(descent_communicator_open("self", 60, &communicator), DESCENT_OK) << descent_last_error();
  Exchanged result;
  {
    Training training(many_parameters);
    training.micro_batches = 2;
    training.options.ranks.communicator = communicator;
    EXPECT_EQ(training.compile(), DESCENT_OK) << descent_last_error();
    if (testing::Test::HasFailure()) return result;
    EXPECT_EQ(program_connect(&training.program), DESCENT_OK) << descent_last_error();
    EXPECT_EQ(training.bind(), DESCENT_OK) << descent_last_error();
    const struct plan *const plan = training.program.plan;
    const std::vector<plan_step> steps = training.steps(FINISHES);
    const std::vector<plan_step> parts = training.cut(steps[0], 0, 2);
    std::vector<plan_step> finishes;
    for (const plan_step &step : steps) finishes.push_back(finish_of(step, 2));
    EXPECT_EQ(program_run(&training.program, plan->micro_batch, parts.data(), 2), DESCENT_OK) << descent_last_error();
    EXPECT_EQ(program_run(&training.program, plan->finish, finishes.data(), FINISHES), DESCENT_OK)
        << descent_last_error();
    communicator->broken = aborts;
    if (!aborts) result.state = training.state();
    result.placement = training.program.backend->placement(training.program.compiled);
  }
  descent_communicator_close(communicator);
  return result;
}

/* On a GPU, NCCL may be missing; the emulation has a stand-in for it. */
TEST(CudaModule, IsAsBeforeOnceAConnectionWithWorkInFlightWasAborted) {
  const bool emulated = !getenv("DESCENT_TEST_MODULE");
  if (emulated) setenv("DESCENT_NCCL", DESCENT_EMULATED_NCCL, 1);
  use_cuda_module(cuda_module_path());
  const Exchanged before = exchanged(false);
  if (!emulated && before.placement.find("NCCL cannot be loaded") != std::string::npos)
    GTEST_SKIP() << "this machine has no NCCL whose connection could be aborted: " << before.placement;
  ASSERT_NE(before.placement.find("through NCCL"), std::string::npos) << before.placement;
  const auto begin = std::chrono::steady_clock::now();
  (void)exchanged(true);
  EXPECT_LT(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(), 30)
      << "of a limit of 60 s";
  expect_same(exchanged(false).state, before.state);
  if (emulated) unsetenv("DESCENT_NCCL");
}

}  // namespace
