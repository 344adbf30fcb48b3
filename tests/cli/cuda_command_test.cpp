/* The command with and without a GPU. */
#include <gtest/gtest.h>

#include <filesystem>
#include <regex>
#include <set>

#include "command.h"
#include "cuda_module.h"

namespace {

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

TEST(CudaCommand, KeepsWhatItHasLearnedWhereTheDeviceFails) {
  use_cuda_module(DESCENT_EMULATED_MODULE);
  Folder folder;
  folder.write("data.csv", make_data("classes", 200));
  const Arguments train = quick + Arguments{"--device", "cuda", "--quiet", "--validation", "0", "--epochs"};
  const Arguments keeping = {"5", "--checkpoint", "kept", "--checkpoint-every", "1 epoch", "--keep", "9"};
  ASSERT_EQ(folder.run(train + Arguments{"5", "--out", "whole"}).code, 0);
#ifdef __SANITIZE_ADDRESS__ /* where a process is slow to start */
  const int distance = 40;
#else
  const int distance = 10;
#endif
  int kept = 0;
  for (int launch = 10;; launch += distance) {
    SCOPED_TRACE(launch);
    std::filesystem::remove_all(folder / "kept");
    std::filesystem::remove(folder / "broken");
    setenv("DESCENT_EMULATE", ("fault=" + std::to_string(launch)).c_str(), 1);
    Result result = folder.run(train + keeping + Arguments{"--out", "broken"});
    unsetenv("DESCENT_EMULATE");
    if (result.code == 0) break;
    ASSERT_EQ(result.code, 4) << result.err;
    if (result.out.find("model saved to broken") != std::string::npos) { /* it failed while evaluating the model */
      EXPECT_EQ(folder.read("broken"), folder.read("whole"));
      continue;
    }
    std::smatch epoch;
    const bool learned = std::regex_search(result.err, epoch, std::regex("the weights of epoch ([0-9]) are kept"));
    EXPECT_EQ(folder.has("broken"), learned) << result.err;
    if (learned) {
      kept++;
      expect_contains(result.out, "last good weights saved to broken");
      expect_contains(result.out, "--resume kept continues from step");
      EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
      ASSERT_EQ(folder.run(train + Arguments{epoch[1], "--out", "shorter"}).code, 0);
      const Result same = folder.run({"predict", "broken", "data.csv"});
      EXPECT_EQ(same.out, folder.run({"predict", "shorter", "data.csv"}).out);
      EXPECT_FALSE(same.out.empty());
    }
    result = folder.run(train + keeping + Arguments{"--resume", "kept", "--out", "resumed"});
    ASSERT_EQ(result.code, 0) << result.err;
    EXPECT_EQ(folder.read("resumed"), folder.read("whole"));
    if (HasFailure()) return;
  }
  EXPECT_GT(kept, 20 / distance);
}

/* Of an ensemble too: the members' last good weights are saved, and the command says how to continue. */
TEST(CudaCommand, KeepsWhatMembersHaveLearnedWhereTheDeviceFails) {
  use_cuda_module(DESCENT_EMULATED_MODULE);
  Folder folder;
  folder.write("data.csv", make_data("classes", 200));
  const Arguments train = quick + Arguments{"--device", "cuda", "--quiet", "--validation", "0", "--epochs", "5"};
  const Arguments keeping = {"--ensemble", "2", "--checkpoint", "kept", "--checkpoint-every", "1 epoch"};
  int kept = 0;
  for (int launch = 40; !kept && launch < 2000; launch += 40) {
    std::filesystem::remove_all(folder / "kept");
    setenv("DESCENT_EMULATE", ("fault=" + std::to_string(launch)).c_str(), 1);
    const Result result = folder.run(train + keeping);
    unsetenv("DESCENT_EMULATE");
    if (result.code == 0) break;
    ASSERT_EQ(result.code, 4) << result.err;
    if (result.out.find("last good weights saved to model.safetensors\n") == std::string::npos) continue;
    kept++;
    expect_contains(result.out, "the same command with --resume kept continues from step ");
    const Result resumed = folder.run(train + keeping + Arguments{"--resume", "kept"});
    EXPECT_EQ(resumed.code, 0) << resumed.err;
  }
  EXPECT_EQ(kept, 1);
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

/* Not even --device auto may pass over a setting: the CPU would train, or the GPU without the limit. */
TEST(CudaCommand, RefusesAWrongSetting) {
  use_cuda_module(DESCENT_EMULATED_MODULE);
  const struct {
    const char *name, *value;
    int code;
    const char *reason;
  } cases[] = {
      {"DESCENT_GPU_DATA_MB", "2GB", 2, "DESCENT_GPU_DATA_MB: '2GB' is not a number of megabytes"},
      {"DESCENT_GPU_DATA_MB", "-1", 2, "'-1' is not a number of megabytes"},
      {"DESCENT_GPU_DATA_MB", "", 2, "'' is not a number of megabytes"},
      {"DESCENT_GPU_DATA_MB", "1e300", 2, "'1e300' is not a number of megabytes"},
      {"DESCENT_GPU_DATA_MB", "0.5", 0, ""},
      {"DESCENT_CUDA_CHOOSE", "abc", 2, "DESCENT_CUDA_CHOOSE: 'abc' is not a seed"},
      {"DESCENT_CUDA_TRACE", "/nosuch/trace", 1, "DESCENT_CUDA_TRACE: cannot append to '/nosuch/trace'"},
  };
  Folder folder;
  folder.write("data.csv", make_data("classes", 200));
  for (const auto &c : cases)
    for (const char *device : {"auto", "cuda"}) {
      SCOPED_TRACE(std::string(c.name) + "=" + c.value + ", " + device);
      setenv(c.name, c.value, 1);
      const Result result = folder.run(quick + Arguments{"--device", device, "--quiet"});
      unsetenv(c.name);
      EXPECT_EQ(result.code, c.code) << result.err;
      expect_contains(result.err, c.reason);
    }
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

TEST(CudaCommand, DrawsChartsInThePrecisionOfTheEvaluation) {
  use_cuda_module(cuda_module_path());
  Folder folder;
  folder.write("data.csv", make_data("regression", 60));
  ASSERT_EQ(folder.run(quick + Arguments{"--device", "cpu", "--out", "model", "--quiet"}).code, 0);
  std::set<std::string> charts;
  for (const char *precision : {"fp32", "bf16"}) {
    const Result drawn = folder.run(
        {"evaluate", "model", "data.csv", "--device", "cuda", "--precision", precision, "--plot", "fit.svg"});
    ASSERT_EQ(drawn.code, 0) << drawn.err;
    charts.insert(folder.read("fit.svg"));
  }
  EXPECT_EQ(charts.size(), 2u);
}

/* The measures at the end of the training, too. */
TEST(CudaCommand, ATrainingWithoutFusionFusesNothing) {
  use_cuda_module(cuda_module_path());
  Folder folder;
  folder.write("data.csv", make_data("classes", 60));
  setenv("DESCENT_CUDA_TRACE", (folder.path() + "/trace").c_str(), 1);
  for (const char *fusion : {"auto", "off"}) {
    folder.write("trace", "");
    const Result trained = folder.run(quick + Arguments{"--device", "cuda", "--no-autotune", "--fusion", fusion,
                                                        "--report", "report.html", "--out", "model", "--quiet"});
    ASSERT_EQ(trained.code, 0) << trained.err;
    EXPECT_EQ(folder.read("trace").find("fusion=forward") != std::string::npos, std::string(fusion) == "auto")
        << fusion;
  }
  unsetenv("DESCENT_CUDA_TRACE");
}

/* Each gives its own values, from the model as it is. */
TEST(CudaCommand, EvaluatesAndPredictsInEveryPrecisionWithLayersFusedAndNot) {
  use_cuda_module(cuda_module_path());
  Folder folder;
  folder.write("data.csv", make_data("classes", 200));
  ASSERT_EQ(folder.run(quick + Arguments{"--device", "cpu", "--out", "model", "--quiet"}).code, 0);
  const Arguments predict = {"predict", "model", "data.csv", "--device", "cuda"},
                  evaluate = {"evaluate", "model", "data.csv", "--device", "cuda", "--json"};
  std::set<std::string> predictions, evaluations[2];
  for (const char *precision : {"fp32", "tf32", "bf16"})
    for (const char *fusion : {"off", "on"}) {
      SCOPED_TRACE(std::string(precision) + ", fusion " + fusion);
      const Arguments options = {"--precision", precision, "--fusion", fusion};
      const Result predicted = folder.run(predict + options);
      ASSERT_EQ(predicted.code, 0) << predicted.err;
      predictions.insert(predicted.out);
      EXPECT_EQ(folder.run(predict + options).out, predicted.out);
      const Result evaluated = folder.run(evaluate + options + Arguments{"--plot", "calibration.svg"});
      ASSERT_EQ(evaluated.code, 0) << evaluated.err;
      evaluations[std::string(fusion) == "on"].insert(evaluated.out);
      const Result timed = folder.run(Arguments{"bench", "model", "--predict", "--seconds", "0.1", "--json"} +
                                      Arguments{"--device", "cuda"} + options);
      ASSERT_EQ(timed.code, 0) << timed.err;
      expect_contains(timed.out, std::string("\"precision\":\t\"") + precision + "\"");
      EXPECT_EQ(timed.out.find("fused forward ") != std::string::npos, std::string(fusion) == "on") << timed.out;
    }
  EXPECT_EQ(predictions.size(), 6u);
  EXPECT_EQ(evaluations[0].size(), 3u);
  EXPECT_EQ(evaluations[1].size(), 3u);
  const Result plain = folder.run(predict);
  EXPECT_EQ(plain.code, 0) << plain.err;
  EXPECT_EQ(folder.run(predict + Arguments{"--precision", "fp32", "--fusion", "auto"}).out, plain.out);
}

}  // namespace
