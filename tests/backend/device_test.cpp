/* Devices by name: the known names, their numbers of threads, and the search for the GPU's module. */
#include <descent/descent.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <thread>

namespace {

struct Closer {
  void operator()(descent_device *device) const { descent_device_close(device); }
};
using Device = std::unique_ptr<descent_device, Closer>;

descent_status open(const char *name, int threads, Device &device) {
  descent_device *opened = nullptr;
  descent_status status = descent_device_open(name, threads, &opened);
  device.reset(opened);
  return status;
}

/* The directory that holds the GPU's module, for the life of a test. */
class ModulePath {
 public:
  explicit ModulePath(const std::string &path) { setenv("DESCENT_BACKEND_PATH", path.c_str(), 1); }
  ~ModulePath() { unsetenv("DESCENT_BACKEND_PATH"); }
};

const std::string kModules = DESCENT_FAKE_MODULES;

TEST(Device, KnownNamesOpenAndOthersAreRefused) {
  const ModulePath path(kModules + "/works");
  const struct {
    const char *asked;
    descent_status status;
    const char *name, *description;
  } cases[] = {
      {"cpu", DESCENT_OK, "cpu", "cpu"},
      {"reference", DESCENT_OK, "reference", ""},
      {"cuda", DESCENT_OK, "cuda:0", "fake GPU 0"},
      {"cuda:0", DESCENT_OK, "cuda:0", "fake GPU 0"},
      {"cuda:17", DESCENT_OK, "cuda:17", "fake GPU 17"},
      {"cuda:GPU-aa11", DESCENT_OK, "cuda:1", "fake GPU 1"},
      {"cuda:GPU-aa0", DESCENT_OK, "cuda:0", "fake GPU 0"},
      {"cuda:MIG-", DESCENT_OK, "cuda:2", "fake GPU 2"},
      {"", DESCENT_ERROR_ARGUMENT, "", ""},
      {"CPU", DESCENT_ERROR_ARGUMENT, "", ""},
      {"cpu ", DESCENT_ERROR_ARGUMENT, "", ""},
      {"cpu:0", DESCENT_ERROR_ARGUMENT, "", ""},
      {"reference:0", DESCENT_ERROR_ARGUMENT, "", ""},
      {"auto:0", DESCENT_ERROR_ARGUMENT, "", ""},
      {"gpu", DESCENT_ERROR_ARGUMENT, "", ""},
      {"cuda:", DESCENT_ERROR_ARGUMENT, "", ""},
      {"cuda:x", DESCENT_ERROR_ARGUMENT, "", ""},
      {"cuda:1x", DESCENT_ERROR_ARGUMENT, "", ""},
      {"cuda:-1", DESCENT_ERROR_ARGUMENT, "", ""},
      {"cuda:+1", DESCENT_ERROR_ARGUMENT, "", ""},
      {"cuda: 1", DESCENT_ERROR_ARGUMENT, "", ""},
      {"cuda:01", DESCENT_ERROR_ARGUMENT, "", ""},
      {"cuda:1000", DESCENT_ERROR_ARGUMENT, "", ""},
      {"cuda:99999999999999999999", DESCENT_ERROR_ARGUMENT, "", ""},
      {"cuda0", DESCENT_ERROR_ARGUMENT, "", ""},
      {"cuda:aa11", DESCENT_ERROR_ARGUMENT, "", ""},
      {"GPU-aa11", DESCENT_ERROR_ARGUMENT, "", ""},
      {"cuda:GPU-aa", DESCENT_ERROR_DEVICE, "", "there are GPU-aa00, GPU-aa11, MIG-bb22"},
      {"cuda:GPU-aa111", DESCENT_ERROR_DEVICE, "", "there are GPU-aa00, GPU-aa11, MIG-bb22"},
      {"cuda:MIG-aa11", DESCENT_ERROR_DEVICE, "", "CUDA_VISIBLE_DEVICES"},
  };
  for (const auto &c : cases) {
    SCOPED_TRACE(c.asked);
    Device device;
    ASSERT_EQ(open(c.asked, 1, device), c.status) << descent_last_error();
    if (c.status != DESCENT_OK) {
      const std::string error = descent_last_error(), asked = c.asked;
      const bool is_uuid = c.status == DESCENT_ERROR_DEVICE;
      EXPECT_EQ(device, nullptr);
      EXPECT_NE(error.find("'" + (is_uuid ? asked.substr(5) : asked) + "'"), std::string::npos) << error;
      EXPECT_NE(error.find(c.description), std::string::npos) << error;
      continue;
    }
    EXPECT_STREQ(descent_device_name(device.get()), c.name);
    EXPECT_EQ(std::string(descent_device_description(device.get())).find(c.description), 0u);
    EXPECT_STREQ(descent_device_note(device.get()), "");
  }
}

TEST(Device, AutoTakesTheGpuWithTheMostFreeMemoryThatOpens) {
  const struct {
    const char *module, *name;
  } cases[] = {{"/works", "cuda:1"}, {"/busy", "cuda:2"}, {"/silent", "cuda:0"}};
  for (const auto &c : cases) {
    SCOPED_TRACE(c.module);
    const ModulePath path(kModules + c.module);
    Device device;
    ASSERT_EQ(open("auto", 1, device), DESCENT_OK) << descent_last_error();
    EXPECT_STREQ(descent_device_name(device.get()), c.name);
    EXPECT_STREQ(descent_device_note(device.get()), "");
  }
}

TEST(Device, ThreadsFromZeroToTheLimitAreTaken) {
  const struct {
    int threads;
    descent_status status;
  } cases[] = {{-1, DESCENT_ERROR_ARGUMENT}, {0, DESCENT_OK}, {1, DESCENT_OK}, {2, DESCENT_OK}, {256, DESCENT_OK},
               {257, DESCENT_ERROR_ARGUMENT}};
  for (const auto &c : cases) {
    SCOPED_TRACE(c.threads);
    Device device;
    EXPECT_EQ(open("reference", c.threads, device), c.status) << descent_last_error();
    if (c.threads > 2) continue; /* 256 threads would test nothing more and are slow to create */
    EXPECT_EQ(open("cpu", c.threads, device), c.status) << descent_last_error();
  }
}

TEST(Device, DefaultThreadsAreTheCoresTheProcessMayUse) {
  cpu_set_t before, one;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  int first = 0;
  while (!CPU_ISSET(first, &before)) first++;
  CPU_ZERO(&one);
  CPU_SET(first, &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  Device device;
  descent_status status = open("cpu", 0, device);
  ASSERT_EQ(sched_setaffinity(0, sizeof before, &before), 0);
  ASSERT_EQ(status, DESCENT_OK) << descent_last_error();
  EXPECT_NE(std::string(descent_device_description(device.get())).find(" 1 thread,"), std::string::npos)
      << descent_device_description(device.get());
}

TEST(Device, NullIsRefusedAndClosingNullDoesNothing) {
  descent_device *device = nullptr;
  EXPECT_EQ(descent_device_open(nullptr, 0, &device), DESCENT_ERROR_ARGUMENT);
  EXPECT_EQ(descent_device_open("cpu", 0, nullptr), DESCENT_ERROR_ARGUMENT);
  EXPECT_EQ(descent_device_list(nullptr, nullptr), DESCENT_ERROR_ARGUMENT);
  descent_device_close(nullptr);
}

TEST(Device, AModuleThatCannotBeUsedSaysWhyAndAutoTakesTheCpu) {
  const std::string garbage = testing::TempDir() + "descent_garbage_module";
  ASSERT_EQ(std::system(("mkdir -p '" + garbage + "'").c_str()), 0);
  std::ofstream(garbage + "/libdescent_cuda.so") << "this is not a shared object despite its name\n";
  const struct {
    std::string path;
    const char *reason;
  } cases[] = {
      {kModules + "/nowhere", "has no libdescent_cuda.so"}, {garbage, "libdescent_cuda.so"},
      {kModules + "/foreign", "not a descent module"},      {kModules + "/stale", "built for another version"},
      {kModules + "/no_gpu", "cuda:0: no such device"},     {std::string(5000, 'x'), "longer than"},
  };
  for (const auto &c : cases) {
    SCOPED_TRACE(c.path.substr(0, 200));
    const ModulePath path(c.path);
    Device device;
    EXPECT_EQ(open("cuda", 1, device), DESCENT_ERROR_DEVICE);
    const std::string reason = descent_last_error();
    EXPECT_NE(reason.find(c.reason), std::string::npos) << reason;
    EXPECT_EQ(reason.find('\n'), std::string::npos);
    ASSERT_EQ(open("auto", 1, device), DESCENT_OK) << descent_last_error();
    EXPECT_STREQ(descent_device_name(device.get()), "cpu");
    EXPECT_EQ(descent_device_note(device.get()), reason.substr(0, 255));
  }
}

/* Also in builds that have one, and on machines where it works. */
TEST(Device, WithoutAPathTheModuleIsSoughtBesideTheLibrary) {
  unsetenv("DESCENT_BACKEND_PATH");
  const std::string command = DESCENT_COMMAND; /* in bin/, the library in lib/ next to it */
  const std::string lib = command.substr(0, command.rfind("/bin/")) + "/lib/libdescent_cuda.so";
  const bool built = access(lib.c_str(), F_OK) == 0;
  Device device;
  const descent_status status = open("cuda", 1, device);
  const std::string error = descent_last_error();
  const bool missing = error.find("libdescent_cuda.so is not beside") != std::string::npos ||
                       error == "no CUDA: this build of descent has no CUDA backend";
  if (!built) {
    EXPECT_EQ(status, DESCENT_ERROR_DEVICE);
    EXPECT_TRUE(missing) << descent_last_error();
  } else if (status != DESCENT_OK) {
    EXPECT_FALSE(missing) << descent_last_error();
  }
}

}  // namespace
