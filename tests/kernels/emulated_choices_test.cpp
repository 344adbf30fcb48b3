/* The ways of dense operations chosen by time, on the emulation: each is right, all occur, and a choice is repeated. */
#include <fstream>
#include <regex>
#include <set>

#include "emulated_module.h"
#include "plan/operations.h"

namespace {

class EmulatedChoices : public EmulatedModule {};

#ifdef __SANITIZE_ADDRESS__
enum { SEEDS = 2 }; /* a dozen times as slow */
#else
enum { SEEDS = 6 };
#endif

/* With small whole numbers every sum is exact, so a step writes the same bytes with whichever algorithms and epilogues
 * the times favour; in float32 they are the reference's. */
TEST_F(EmulatedChoices, EveryChoiceByTimeIsRight) {
  const Case c = {"", {8, 16, 4}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_MEAN_SQUARED_ERROR, 0, DESCENT_PRECISION_FP32};
  for (descent_precision precision : {DESCENT_PRECISION_FP32, DESCENT_PRECISION_TF32, DESCENT_PRECISION_BF16}) {
    SCOPED_TRACE(descent_precision_name(precision));
    Bytes expected;
    for (int seed = 0; seed <= SEEDS; seed++) {
      SCOPED_TRACE(seed);
      const Folder cache;
      setenv("XDG_CACHE_HOME", (cache / "").c_str(), 1);
      emulation.configure(seed ? ("guess=1,seed=" + std::to_string(seed)).c_str() : "");
      Training training(c, BATCH);
      training.make_whole();
      training.options.precision = precision;
      training.options.optimizer.kind = DESCENT_OPTIMIZER_GD;
      training.options.autotune = seed > 0;
      training.options.gpu.fusion = DESCENT_FUSION_OFF;
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
  setenv("XDG_CACHE_HOME", cuda_module_at_start.cache.path().c_str(), 1);
}

/* How each operation of the training step is computed. */
std::vector<std::string> paths_of(const Training &training) {
  const struct program &program = training.program;
  std::vector<std::string> paths;
  for (int i = 0; i < program.plan->train.count; i++) {
    const int op = program.plan->train.first + i;
    char text[BACKEND_PATH];
    program.backend->path(program.compiled, program.plan->train, op, text);
    EXPECT_EQ(*text != 0, plan_has_product(&program.plan->ops[op])) << text;
    paths.push_back(std::string(plan_op_kind_name(program.plan->ops[op].kind)) + ": " + text);
  }
  return paths;
}

#ifndef __SANITIZE_ADDRESS__ /* 24 compilations, whose code the others run too */
/* In each line of the trace about a choice: the way taken costs no more than any other. */
void expect_cheapest(const std::string &trace) {
  std::istringstream lines(trace);
  const std::regex cost("(\\w+)_seconds=([0-9.e+-]+)[+]([0-9.e+-]+)");
  int found = 0;
  for (std::string line; std::getline(lines, line);) {
    std::smatch taken;
    if (!std::regex_search(line, taken, std::regex("^choice .* kind=\\w+ taken=(\\w+)"))) continue;
    double least = INFINITY, its = NAN;
    for (std::sregex_iterator it(line.begin(), line.end(), cost), end; it != end; ++it) {
      const double seconds = std::stod((*it)[2]) + std::stod((*it)[3]);
      least = std::min(least, seconds);
      if ((*it)[1] == taken[1]) its = seconds;
    }
    EXPECT_EQ(its, least) << line;
    found++;
  }
  EXPECT_GT(found, 0);
}

/* Times decide which way is taken; the next process repeats the choice by what is remembered, whatever it would measure.
 * Over several times every way occurs. */
TEST_F(EmulatedChoices, ChoosesByTimeAmongAllWaysAndRepeatsIt) {
  const Case c = {"", {8, 16, 4}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_MEAN_SQUARED_ERROR, 0, DESCENT_PRECISION_BF16};
  std::set<std::string> missing = {
      "dense_forward: cublaslt",        "dense_forward: cublaslt+epilogue", "dense_forward: cublaslt+mask",
      "dense_forward: custom",          "dense_backward_weights: cublaslt", "dense_backward_weights: cublaslt+epilogue",
      "dense_backward_weights: custom", "dense_backward_input: cublaslt",   "dense_backward_input: cublaslt+mask",
      "dense_backward_input: custom"};
  for (int seed = 1; seed <= 24 && !missing.empty(); seed++) {
    SCOPED_TRACE(seed);
    const Folder cache;
    setenv("XDG_CACHE_HOME", (cache / "").c_str(), 1);
    const std::string trace = cache / "trace";
    std::vector<std::string> paths[2];
    setenv("DESCENT_CUDA_TRACE", trace.c_str(), 1);
    for (int process = 0; process < 2; process++) {
      emulation.configure(("guess=1,seed=" + std::to_string(seed + 100 * process)).c_str());
      Training training(c, BATCH);
      training.options.autotune = true;
      training.options.gpu.fusion = DESCENT_FUSION_OFF;
      ASSERT_EQ(training.compile(), DESCENT_OK) << descent_last_error();
      paths[process] = paths_of(training);
    }
    unsetenv("DESCENT_CUDA_TRACE");
    EXPECT_EQ(paths[0], paths[1]);
    expect_cheapest(cache.read("trace"));
    for (const std::string &path : paths[0]) missing.erase(path.substr(0, path.find_last_not_of(" 0123456789") + 1));
  }
  setenv("XDG_CACHE_HOME", cuda_module_at_start.cache.path().c_str(), 1);
  EXPECT_EQ(missing, std::set<std::string>());
}
#endif

/* What a checkpoint records of the device differs where the choices do, and is the same again with the same choices. */
TEST_F(EmulatedChoices, ArithmeticNamesThem) {
  const Case c = {"", {8, 16, 4}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_MEAN_SQUARED_ERROR, 0, DESCENT_PRECISION_BF16};
  std::set<std::string> all;
  for (const int seed : {1, 2, 3, 1, 2, 3}) {
    const Drawn drawn(seed);
    Training training(c, BATCH);
    ASSERT_EQ(training.compile(), DESCENT_OK) << descent_last_error();
    all.insert(training.program.arithmetic);
  }
  EXPECT_EQ(all.size(), 3u) << *all.begin();
  for (const std::string &text : all) expect_contains(text, ", choices ");
}

/* Where nothing can be written, the next process may choose otherwise, and the training says so. */
TEST_F(EmulatedChoices, WhatCannotBeRememberedIsSaid) {
  const Case c = {"", {8, 4}, DESCENT_ACTIVATION_TANH, DESCENT_LOSS_MEAN_SQUARED_ERROR, 0, DESCENT_PRECISION_FP32};
  const Folder cache;
  for (const bool writable : {true, false}) {
    const std::string folder = cache / (writable ? "folder" : "file/below");
    if (!writable) std::ofstream(cache / "file") << "not a folder";
    setenv("XDG_CACHE_HOME", folder.c_str(), 1);
    Training training(c, BATCH);
    training.options.autotune = true;
    ASSERT_EQ(training.open(), DESCENT_OK) << descent_last_error();
    const std::vector<plan_step> steps = training.steps(1);
    ASSERT_EQ(program_run(&training.program, training.program.plan->train, steps.data(), 1), DESCENT_OK);
    const std::string placement = training.program.backend->placement(training.program.compiled);
    EXPECT_EQ(placement.find("cannot be remembered") == std::string::npos, writable) << placement;
  }
  setenv("XDG_CACHE_HOME", cuda_module_at_start.cache.path().c_str(), 1);
}

/* A captured step, whose weights' operations may run on the second stream, and its parts, one operation after another: with
 * custom kernels, with products and with both. */
TEST_F(EmulatedChoices, PartsOfAStepGiveItsBytesForEveryDraw) {
  Ways ways;
  for (const Case &c : cases)
    for (int seed = 1; seed <= 2; seed++) {
      SCOPED_TRACE(testing::Message() << c.name << ", DESCENT_CUDA_CHOOSE=" << seed);
      const Drawn drawn(seed);
      const auto run = [&](std::initializer_list<plan_range plan::*> ranges) {
        return trained(c, [&](Training &training) {
          for (const plan_step &step : training.steps(STEPS))
            for (plan_range plan::*range : ranges)
              ASSERT_EQ(program_run(&training.program, training.program.plan->*range, &step, 1), DESCENT_OK)
                  << descent_last_error();
        });
      };
      expect_same(run({&plan::gradient, &plan::update}), run({&plan::train}));
      ways.add(drawn);
    }
  for (const int custom : ways.custom) EXPECT_GT(custom, 0);
  EXPECT_GT(emulation.choices(), 0) << "nothing ran beside another operation";
}

/* A trial of a custom kernel allocates memory that the training itself does not need. */
TEST_F(EmulatedChoices, CompilesWithoutCustomKernelsThatHaveNoMemoryForTheirTrials) {
  const Case c = {"", {8, 4, 2}, DESCENT_ACTIVATION_TANH, DESCENT_LOSS_MEAN_SQUARED_ERROR, 0, DESCENT_PRECISION_TF32};
  const Folder cache;
  const std::string trace = cache / "trace";
  setenv("XDG_CACHE_HOME", (cache / "").c_str(), 1);
  setenv("DESCENT_CUDA_TRACE", trace.c_str(), 1);
  bool failed = true, compiled = false;
  for (int n = 0; failed; n++) { /* the first time nothing fails, and everything is timed and remembered */
    SCOPED_TRACE("allocation=" + std::to_string(n));
    std::remove(trace.c_str());
    emulation.configure(n ? ("allocation=" + std::to_string(n)).c_str() : "");
    Training training(c, BATCH);
    training.options.autotune = true;
    training.options.gpu.fusion = DESCENT_FUSION_OFF;
    const descent_status status = training.compile();
    failed = n == 0 || emulation.failed();
    if (status != DESCENT_OK) {
      EXPECT_TRUE(failed) << descent_last_error();
      EXPECT_EQ(std::string(descent_last_error()).find("variants.c"), std::string::npos) << descent_last_error();
    } else if (failed && n > 0) {
      compiled |=
          std::regex_search(cache.read("trace"), std::regex("kind=\\w+ taken=\\w+( (fused|plain)_seconds=\\S+)+\n"));
    }
  }
  EXPECT_TRUE(compiled);
  unsetenv("DESCENT_CUDA_TRACE");
  setenv("XDG_CACHE_HOME", cuda_module_at_start.cache.path().c_str(), 1);
}

/* Where cuBLASLt computes nothing acceptably, the custom kernels do all of it, timed or not. Not in bf16, whose output layer
 * has float32 results of bf16 operands: no custom kernel has both. */
TEST_F(EmulatedChoices, TrainsWithCustomKernelsWhereTheLibraryHasNoAlgorithm) {
  for (const Case &c : cases) {
    if (c.precision == DESCENT_PRECISION_BF16) continue;
    SCOPED_TRACE(c.name);
    for (const bool autotune : {false, true}) {
      const Folder cache;
      setenv("XDG_CACHE_HOME", (cache / "").c_str(), 1);
      offer({EMULATED_UNSTEADY});
      Training training(c);
      training.options.autotune = autotune;
      training.options.gpu.fusion = DESCENT_FUSION_OFF;
      ASSERT_EQ(training.open(), DESCENT_OK) << descent_last_error();
      for (const std::string &path : paths_of(training))
        EXPECT_EQ(path.find("dense_") == 0, path.find(": custom ") != std::string::npos) << path;
      all_at_once(training);
      double loss;
      ASSERT_EQ(program_read(&training.program, training.program.at.scalars, SCALAR_LOSS, 1, PLAN_F64, &loss),
                DESCENT_OK);
      EXPECT_TRUE(std::isfinite(loss) && loss > 0) << loss;
      emulation.library_reset();
    }
  }
  setenv("XDG_CACHE_HOME", cuda_module_at_start.cache.path().c_str(), 1);
}

}  // namespace
