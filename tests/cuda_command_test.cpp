/* The command on a GPU and where there is none. */
#include <gtest/gtest.h>

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
