/* The whole CUDA backend on the emulation, which controls order and faults: a training gives the same bytes in any
 * order of execution, and every failure is reported with its place and leaves nothing behind. */
#include <regex>
#include <set>
#include <thread>

#include "emulated_module.h"

namespace {

TEST_F(EmulatedModule, GivesTheSameBytesInAnyOrderOfBlocksAndStreams) {
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

/* Of lars and lamb, in networks with layers of one piece of the flat buffers and of several, with and without a kernel
 * for several layers. */
Bytes trained_by_trust(const Case &c, descent_optimizer optimizer, descent_fusion fusion) {
  Training training(c);
  training.options.optimizer.kind = optimizer;
  training.options.optimizer.weight_decay = 0.01;
  training.options.optimizer.l2 = 0.001;
  training.options.optimizer.momentum = 0.9;
  training.options.gpu.fusion = fusion;
  EXPECT_EQ(training.open(), DESCENT_OK) << descent_last_error();
  all_at_once(training);
  return training.state();
}

TEST_F(EmulatedModule, TrustRatiosAreTheSameInAnyOrderOfBlocks) {
  const Case large = {
      "several pieces",      {33, 150, 21, 3}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, 0,
      DESCENT_PRECISION_BF16};
  for (const Case &c : {cases[0], large})
    for (const descent_optimizer optimizer : {DESCENT_OPTIMIZER_LARS, DESCENT_OPTIMIZER_LAMB})
      for (const descent_fusion fusion : {DESCENT_FUSION_OFF, DESCENT_FUSION_ON}) {
        SCOPED_TRACE(std::string(c.name) + ", " + descent_optimizer_name(optimizer) + ", fusion " +
                     descent_fusion_name(fusion));
        const Bytes expected = trained_by_trust(c, optimizer, fusion);
        emulation.configure("seed=3,late=1");
        expect_same(trained_by_trust(c, optimizer, fusion), expected);
        emulation.configure("");
      }
}

/* A few steps of so many rows that sums are added up over several blocks. */
Bytes trained_on_large_steps(const Case &c) {
  enum { LARGE = 700, FEW = 4 };
  Training training(c, LARGE, LARGE);
  training.options.gpu.fusion = DESCENT_FUSION_OFF;
  EXPECT_EQ(training.open(), DESCENT_OK) << descent_last_error();
  const std::vector<plan_step> steps = training.steps(FEW);
  EXPECT_EQ(program_run(&training.program, training.program.plan->train, steps.data(), FEW), DESCENT_OK)
      << descent_last_error();
  return training.state();
}

TEST_F(EmulatedModule, WeightsBesideInputsGiveTheBytesOfOneAfterTheOther) {
  for (const Case &c : cases) {
    SCOPED_TRACE(c.name);
    emulation.configure("processors=0");
    const Bytes expected = trained_on_large_steps(c);
    EXPECT_EQ(emulation.choices(), 0) << "no product fits beside another";
    for (const char *how : {"processors=132", "processors=132,seed=3,late=1"}) {
      SCOPED_TRACE(how);
      emulation.configure(how);
      expect_same(trained_on_large_steps(c), expected);
      EXPECT_GT(emulation.choices(), 0);
    }
    emulation.configure("");
  }
}

TEST_F(EmulatedModule, SaysWhatItIs) {
  const Device device = open_device("cuda");
  expect_contains(descent_device_description(device.get()), "emulated GPU");
  EXPECT_STREQ(descent_device_name(device.get()), "cuda:0");
}

TEST_F(EmulatedModule, AutoTakesTheGpuOfWhichOthersUseLeast) {
  const struct {
    const char *settings, *asked, *name;
  } cases[] = {{"devices=3,busy=1", "auto", "cuda:1"},       {"devices=3,busy=3", "auto", "cuda:2"},
               {"devices=3,busy=7", "auto", "cuda:0"},       {"devices=3,busy=1,nvml=0", "auto", "cuda:0"},
               {"devices=3,busy=1", "cuda", "cuda:0"},       {"devices=3", "cuda:GPU-e1", "cuda:1"},
               {"devices=3", "cuda:GPU-e2ffeeee", "cuda:2"}, {"mig=2", "cuda:MIG-e0ffe", "cuda:0"}};
  for (const auto &c : cases) {
    SCOPED_TRACE(std::string(c.settings) + " " + c.asked);
    emulation.configure(c.settings);
    const Device device = open_device(c.asked);
    EXPECT_STREQ(descent_device_name(device.get()), c.name);
  }
}

TEST_F(EmulatedModule, ListsDevicesAndLeavesNothingOnThem) {
  emulation.configure("devices=2,busy=2");
  std::vector<std::string> seen;
  const auto note = [](void *user, const descent_device_info *info) {
    auto *list = static_cast<std::vector<std::string> *>(user);
    list->push_back(std::string(info->name) + " " + info->model + " " + info->uuid + " " + info->pci + " " +
                    info->driver + " " + info->cuda_driver + " " + info->cuda_runtime + " " + info->cublas + " " +
                    std::to_string(info->compute_major) + std::to_string(info->compute_minor) + " " +
                    std::to_string(info->multiprocessors) + " " + std::to_string(info->memory_free) + " " +
                    std::to_string(info->memory_total));
  };
  ASSERT_EQ(descent_device_list(note, &seen), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(seen, (std::vector<std::string>{
                      "cuda:0 emulated GPU GPU-e0ffeeee-eeee-eeee-eeee-eeeeeeeeeeee 0000:3b:00.0 580.0 13.0 13.0 "
                      "13.1.0 90 2 8589934592 8589934592",
                      "cuda:1 emulated GPU GPU-e1ffeeee-eeee-eeee-eeee-eeeeeeeeeeee 0000:3c:00.0 580.0 13.0 13.0 "
                      "13.1.0 90 2 4294967296 8589934592"}));
  EXPECT_EQ(emulation.live(), 0);
  emulation.configure("devices=0");
  EXPECT_EQ(descent_device_list(note, &seen), DESCENT_ERROR_DEVICE);
  expect_contains(descent_last_error(), "no NVIDIA GPU");
  EXPECT_EQ(seen.size(), 2U);
}

TEST_F(EmulatedModule, WithoutADeviceSaysWhyAndAutoTakesTheCpu) {
  const struct {
    const char *settings, *device, *reason;
  } absences[] = {
      {"devices=0", "cuda", "no NVIDIA GPU"},
      {"driver=0", "cuda", "no NVIDIA driver"},
      {"driver=11080", "cuda", "it supports CUDA 11.8, this build uses CUDA 13.0 and needs driver 580 or newer"},
      {"driver=12080", "cuda", "update it, or build with an older toolkit, from 12.4 on"},
      {"code=0", "cuda", "this build has no code for emulated GPU, of compute capability 9.0 (configure it with -DCM"},
      {"cublas=0", "cuda", "no emulated cuBLASLt"},
      {"devices=2", "cuda:2", "no device cuda:2: only cuda:0 to cuda:1"},
      {"devices=1", "cuda:1", "no device cuda:1: only cuda:0"},
      {"devices=2", "cuda:GPU-e2", "(there are GPU-e0ffeeee-eeee-eeee-eeee-eeeeeeeeeeee, GPU-e1ffeeee-"},
      {"mig=2", "cuda:MIG-e1", "CUDA_VISIBLE_DEVICES"},
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
  const Case c = {"", {2000, 1}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_BINARY_CROSS_ENTROPY, 0, DESCENT_PRECISION_FP32};
  Training training(c, 10, 12000); /* 96 MB of X */
  emulation.configure("memory=148000000");
  ASSERT_EQ(training.compile(), DESCENT_ERROR_MEMORY);
  const std::string said = descent_last_error();
  std::smatch found;
  ASSERT_TRUE(std::regex_search(
      said, found, std::regex("batch size 12000 needs ([0-9.]+) MB, ([0-9.]+) MB are free; a batch size of ([0-9]+)")))
      << said;
  EXPECT_GT(std::stod(found[1]), std::stod(found[2]));
  EXPECT_GT(std::stod(found[1]), 12000 * 2000 * 4e-6);
  training.close();
  training.batch = std::stoll(found[3]);
  EXPECT_GT(training.batch, 1000);
  ASSERT_EQ(training.compile(), DESCENT_OK) << said << "; then: " << descent_last_error();
  training.close();
  EXPECT_EQ(emulation.last_error(), 0) << "the error is cleared";
}

/* Runs `work` in a thread that has no current context, and must have none afterwards. */
void in_new_thread(const Emulation &emulation, const std::function<void()> &work) {
  std::thread([&] {
    EXPECT_EQ(emulation.current(), -1);
    work();
    EXPECT_EQ(emulation.current(), -1) << "a context is left current";
  }).join();
}

#ifdef __SANITIZE_ADDRESS__
enum { STRIDE = 3 }; /* many times as slow, and most calls come from the place of the one before */
#else
enum { STRIDE = 1 };
#endif

/* Trains, reads, closes, with the n-th call of a kind failing, n = 1, 2, ... until there are no more. A training that
 * works around the failure must give the same result, unless it chose otherwise. */
void sweep(Emulation &emulation, const Case &c, const std::string &kind, descent_status expected, const char *place) {
  Bytes result;
  std::string arithmetic;
  bool more = true;
  for (int n = 0; more; n += n > 0 ? STRIDE : 1)
    in_new_thread(emulation, [&] {
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
        if (n == 0) arithmetic = training.program.arithmetic, result = training.state();
        if (training.program.arithmetic == arithmetic) expect_same(training.state(), result);
      } else {
        EXPECT_TRUE(failed) << said;
        EXPECT_EQ(status, training.has_device() ? expected : DESCENT_ERROR_DEVICE) << said;
        EXPECT_TRUE(std::regex_search(said, std::regex(place))) << said;
        EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 0) << said;
        EXPECT_TRUE(kind == "fault" || emulation.last_error() == 0) << "not cleared: " << said;
      }
      training.close();
      EXPECT_EQ(emulation.live(), 0) << said;
      more = !testing::Test::HasFailure() && (n == 0 || failed);
      if (!more) {
        EXPECT_GT(n, 5);
      }
    });
}

TEST_F(EmulatedModule, LeavesTheCallersCurrentDeviceAsItWas) {
  emulation.configure("devices=2");
  for (const int own : {-1, 0, 1})
    std::thread([&] {
      SCOPED_TRACE(own);
      const auto unchanged = [&](descent_status status) {
        EXPECT_EQ(status, DESCENT_OK) << descent_last_error();
        EXPECT_EQ(emulation.current(), own);
      };
      if (own >= 0) emulation.set_device(own);
      ASSERT_EQ(emulation.current(), own);
      Training training(cases[0]);
      const std::vector<plan_step> steps = training.steps(5);
      const struct backend *backend;
      double seconds[2][64], flops, bandwidth;
      unchanged(training.open("cuda:0"));
      struct program *program = &training.program;
      backend = program->backend;
      unchanged(program_run(program, program->plan->train, steps.data(), 5));
      unchanged(backend->synchronise(program->compiled));
      unchanged(backend->run_product(program->compiled, 1, 8, 2));
      unchanged(backend->save(program->compiled, program->at.parameters));
      unchanged(backend->time(program->compiled, program->plan->train, steps.data(), 2, seconds[0], seconds[1]));
      unchanged(backend->restore(program->compiled, program->at.parameters));
      EXPECT_GT(training.state().size(), 1U);
      unchanged(program_write(program, program->at.scalars, 0, 1, PLAN_F64, seconds[0]));
      training.close();
      unchanged(DESCENT_OK);
      const Device device = open_device("cuda:1");
      unchanged(backend->measure(device->device, DESCENT_PRECISION_FP32, &flops, &bandwidth));
    }).join();
}

/* On cuda:8, whose context no other test makes: it stays until the process ends. */
TEST_F(EmulatedModule, SaysThatNotEvenAContextFits) {
  emulation.configure("devices=9,context=1");
  in_new_thread(emulation, [] {
    descent_device *device = nullptr;
    EXPECT_EQ(descent_device_open("cuda:8", 1, &device), DESCENT_ERROR_DEVICE);
    expect_contains(descent_last_error(), "out of memory on emulated GPU: other processes hold its memory");
  });
}

TEST_F(EmulatedModule, EveryAllocationMayFail) {
  for (const Case &c : {cases[0], cases[4]})
    sweep(emulation, c, "allocation", DESCENT_ERROR_MEMORY, "memory|cannot allocate .* on the GPU for");
}

TEST_F(EmulatedModule, EveryLaunchMayFailAndSaysWhere) {
  for (const Case &c : {cases[0], cases[4]})
    sweep(emulation, c, "launch", DESCENT_ERROR_DEVICE, "too many resources requested for launch.*[a-z_]+\\.c:[0-9]+");
}

/* Compiling runs every range once, operation by operation; `late` work fails when compiling waits for the operation. */
TEST_F(EmulatedModule, CompilingNamesTheOperationThatCannotRun) {
  const Case c = {
      "", {3, 4, 2}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, 0.25, DESCENT_PRECISION_FP32};
  for (const std::string kind : {"launch=", "late=1,fault="}) {
    SCOPED_TRACE(kind);
    std::set<std::string> named;
    for (int n = 1;; n++) {
      Training training(c);
      training.options.gpu.fusion = DESCENT_FUSION_OFF;
      emulation.configure((kind + std::to_string(n)).c_str());
      const descent_status status = training.compile();
      if (status == DESCENT_OK) break;
      ASSERT_EQ(status, DESCENT_ERROR_DEVICE);
      const std::string said = descent_last_error();
      std::smatch found;
      if (std::regex_search(said, found, std::regex("^cuda: ([^:]*): \\w+ failed: "))) named.insert(found[1]);
    }
    for (const char *name : {"gather", "dense_forward layer 1", "loss", "dense_backward_input layer 2", "gradient_norm",
                             "update", "statistics layer 1", "metrics", "output"})
      EXPECT_EQ(named.count(name), 1) << name;
  }
}

TEST_F(EmulatedModule, CompilingLeavesEveryBufferZero) {
  for (const Case &c : cases) {
    SCOPED_TRACE(c.name);
    const Network network = make_network(c.widths, c.hidden, c.loss);
    const Device device = open_device("cuda");
    Training training(c);
    struct plan *plan;
    struct plan_handles handles;
    struct backend_program *program;
    ASSERT_EQ(plan_build(network.get(), &training.options, BATCH, &plan, &handles), DESCENT_OK);
    ASSERT_EQ(device->backend->compile(device->device, plan, &program), DESCENT_OK) << descent_last_error();
    for (int b = 0; b < plan->n_buffers; b++) {
      const plan_buffer &buffer = plan->buffers[b];
      if (buffer.storage == PLAN_SOURCE || buffer.type == PLAN_I64) continue;
      std::vector<double> values(static_cast<size_t>(buffer.rows * buffer.cols), 1);
      ASSERT_EQ(device->backend->read(program, b, 0, buffer.rows * buffer.cols, PLAN_F64, values.data()), DESCENT_OK);
      EXPECT_EQ(values, std::vector<double>(values.size())) << buffer.name;
    }
    device->backend->release(program);
    plan_free(plan);
  }
}

TEST_F(EmulatedModule, EveryKernelMayFaultAndTheErrorArrives) {
  for (const Case &c : {cases[0], cases[4]})
    sweep(emulation, c, "fault", DESCENT_ERROR_DEVICE, "illegal memory access.*[a-z_]+\\.c:[0-9]+");
}

/* Memory for the program but not for the data: the rows are streamed in windows, with the same result. */
TEST_F(EmulatedModule, StreamedDataGivesTheBytesOfResidentData) {
  enum { STREAM_ROWS = 3001, STREAM_STEPS = 250 };
#ifdef __SANITIZE_ADDRESS__ /* a minute: orders that show each missing wait; the plain suite has the rest */
  const std::vector<Case> streamed = {cases[0], cases[3]};
  const std::vector<const char *> orders = {"", ",late=1", ",late=2,seed=4"};
#else
  const std::vector<Case> streamed(std::begin(cases), std::end(cases));
  const std::vector<const char *> orders = {"", ",seed=2", ",late=1", ",late=2", ",late=2,seed=3", ",late=2,seed=4"};
#endif
  for (const Case &c : streamed) {
    SCOPED_TRACE(c.name);
    Bytes resident;
    std::string memory;
    for (const char *how : orders) {
      SCOPED_TRACE(how);
      emulation.configure(memory.empty() ? "" : (memory + how).c_str());
      Training training(c, STREAM_ROWS);
      ASSERT_EQ(training.compile(), DESCENT_OK) << descent_last_error();
      if (memory.empty()) {
        size_t left, total;
        ASSERT_EQ(emulation.memory(&left, &total), 0);
        const size_t data = STREAM_ROWS * static_cast<size_t>(c.widths[0] + 2) * sizeof(float);
        memory = "memory=" + std::to_string((total - left + data / 2) * 16 / 15); /* a sixteenth stays free */
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

/* Rows that are normalised in several pieces, on a device that has no room for them in float32. */
TEST_F(EmulatedModule, KeepsTheInputsOfBf16InHalfTheMemory) {
  const Case c = {"", {20000, 2, 1},         DESCENT_ACTIVATION_RELU, DESCENT_LOSS_BINARY_CROSS_ENTROPY,
                  0,  DESCENT_PRECISION_BF16};
  Bytes results[2];
  for (const bool resident : {true, false}) {
    setenv("DESCENT_GPU_DATA_MB", resident ? "22" : "20", 1); /* 24 MB of float32, pieces of 8.3 MB */
    Training training(c, 301, 8);
    ASSERT_EQ(training.open(), DESCENT_OK) << descent_last_error();
    const std::vector<plan_step> steps = training.steps(2);
    ASSERT_EQ(program_run(&training.program, training.program.plan->train, steps.data(), 2), DESCENT_OK)
        << descent_last_error();
    expect_contains(training.program.backend->placement(training.program.compiled),
                    resident ? "data in GPU memory: 12.0 MB, room for 1.6 MB more" : "streamed");
    results[resident] = training.state();
  }
  unsetenv("DESCENT_GPU_DATA_MB");
  expect_same(results[0], results[1]);
}

/* A bind takes memory for pieces of its rows, of which the first rows need less: without it they keep theirs. */
TEST_F(EmulatedModule, NormalisesRowsAfterABindThatFindsNoMemory) {
  const Case &c = cases[3];
  Rows rows = make_rows(3 * ROWS, c.widths[0], 1, c.widths.back(), 8);
  rows.weights.assign(rows.y.size(), 2);
  const Dataset others = rows.dataset();
  const Bytes expected = trained(c, all_at_once);
  Training training(c);
  ASSERT_EQ(training.open(), DESCENT_OK) << descent_last_error();
  emulation.configure("allocation=1");
  EXPECT_EQ(program_bind(&training.program, others.get()), DESCENT_OK) << descent_last_error();
  EXPECT_TRUE(emulation.failed());
  emulation.configure("");
  ASSERT_EQ(training.bind(), DESCENT_OK) << descent_last_error();
  all_at_once(training);
  expect_same(training.state(), expected);
}

/* Inputs that fit as they are, but not in bf16 beside the piece of float32 rows that they are made from. */
TEST_F(EmulatedModule, KeepsFewInputsAsTheyAreWhereTheNormalisedOnesDoNotFit) {
  const Case &c = cases[3];
  const Bytes expected = trained(c, all_at_once);
  setenv("DESCENT_GPU_DATA_MB", "0.0045", 1); /* 32 bytes of X a row, 8 of y and w; 48 with bf16 and its piece */
  Training training(c);
  ASSERT_EQ(training.open(), DESCENT_OK) << descent_last_error();
  unsetenv("DESCENT_GPU_DATA_MB");
  all_at_once(training);
  expect_contains(training.program.backend->placement(training.program.compiled), "data in GPU memory");
  expect_same(training.state(), expected);
}

/* With algorithms that sum in different orders, and with masks throughout. */
TEST_F(EmulatedModule, GivesTheSameBitsOfWholeNumbersInAnyOrderOfSummation) {
  for (descent_precision precision : {DESCENT_PRECISION_FP32, DESCENT_PRECISION_TF32, DESCENT_PRECISION_BF16}) {
    offer({EMULATED_BACKWARDS, EMULATED_DROPS_TAIL, EMULATED_RIGHT});
    Ways ways;
    expect_whole_steps_to_agree(precision, &ways);
    EXPECT_TRUE(ways.masks);
    expect_all(ways, precision);
    EXPECT_GT(emulation.products->turns, 0);
  }
}

/* A device whose algorithms are chosen by tests alone says so in the line that a training shows. */
TEST_F(EmulatedModule, SaysThatAlgorithmsAreChosenByTests) {
  for (const bool doubtful : {false, true}) {
    Training training(cases[3]);
    offer({doubtful ? EMULATED_ODD_FLAGS : EMULATED_RIGHT});
    ASSERT_EQ(training.open(), DESCENT_OK) << descent_last_error();
    all_at_once(training);
    const std::string said = training.program.backend->placement(training.program.compiled);
    expect_contains(said, "data in GPU memory");
    EXPECT_EQ(said.find("; cuBLASLt's flags are unknown: its algorithms are chosen by tests") != std::string::npos,
              doubtful)
        << said;
  }
}

}  // namespace
