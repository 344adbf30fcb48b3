/* The available memory of the machine and of control groups, read from files that the test writes. */
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "scratch.h"
extern "C" {
#include "core/memory.h"
#include "core/system.h"
}

namespace {

using Files = std::vector<std::pair<std::string, std::string>>;

int64_t available(const Files &files) {
  const Scratch root;
  for (const auto &[name, text] : files) {
    const std::string path = root.path() + name;
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    write_file(path, text);
  }
  return system_memory_available(root.path().c_str());
}

const std::pair<std::string, std::string> machine = {"/proc/meminfo",
                                                     "MemTotal: 9000 kB\nMemFree:   10 kB\nMemAvailable:  5000 kB\n"};

TEST(Memory, IsTheLeastOfWhatMachineAndControlGroupsLeave) {
  const std::string v1 = "/sys/fs/cgroup/memory", v2 = "/sys/fs/cgroup";
  const struct {
    const char *what;
    Files files;
    int64_t available;
  } cases[] = {
      {"no file says", {}, INT64_MAX},
      {"the machine", {machine}, 5000 * 1024},
      {"no limit",
       {machine,
        {"/proc/self/cgroup", "0::/a/b\n"},
        {v2 + "/a/b/memory.max", "max\n"},
        {v2 + "/a/b/memory.current", "100\n"}},
       5000 * 1024},
      {"a limit, pages of files not counted",
       {machine,
        {"/proc/self/cgroup", "0::/a/b\n"},
        {v2 + "/a/b/memory.max", "1000\n"},
        {v2 + "/a/b/memory.current", "900\n"},
        {v2 + "/a/b/memory.stat", "anon 700\nfile 200\ninactive_file 150\nactive_file 50\n"}},
       300},
      {"a limit of a group above",
       {machine,
        {"/proc/self/cgroup", "0::/a/b\n"},
        {v2 + "/a/memory.max", "1000\n"},
        {v2 + "/a/memory.current", "400\n"},
        {v2 + "/a/b/memory.max", "max\n"},
        {v2 + "/a/b/memory.current", "1\n"}},
       600},
      {"inside a container, whose group is the root of what it sees",
       {machine,
        {"/proc/self/cgroup", "0::/../not/here\n"},
        {v2 + "/memory.max", "2000\n"},
        {v2 + "/memory.current", "400\n"}},
       1600},
      {"used up",
       {machine, {"/proc/self/cgroup", "0::/\n"}, {v2 + "/memory.max", "1000\n"}, {v2 + "/memory.current", "1001\n"}},
       0},
      {"version 1",
       {machine,
        {"/proc/self/cgroup", "5:cpu,cpuacct:/x\n4:hugetlb,memory:/a\n0::/\n"},
        {v1 + "/a/memory.limit_in_bytes", "1000\n"},
        {v1 + "/a/memory.usage_in_bytes", "900\n"},
        {v1 + "/a/memory.stat", "inactive_file 5\ntotal_inactive_file 100\ntotal_active_file 100\n"},
        {v1 + "/memory.limit_in_bytes", "9223372036854771712\n"},
        {v1 + "/memory.usage_in_bytes", "900\n"}},
       300},
      {"unreadable values",
       {machine, {"/proc/self/cgroup", "nonsense\n\n:\n0:\n"}, {v2 + "/memory.max", "1"}},
       5000 * 1024},
  };
  for (const auto &c : cases) EXPECT_EQ(available(c.files), c.available) << c.what;
}

TEST(Memory, IsRequiredInOneLine) {
  const Scratch root;
  std::filesystem::create_directories(root / "proc/self");
  std::filesystem::create_directories(root / "sys/fs/cgroup/small");
  write_file(root / "proc/meminfo", "MemAvailable: 900000 kB\n");
  write_file(root / "proc/self/cgroup", "0::/small\n");
  write_file(root / "sys/fs/cgroup/small/memory.max", std::to_string(20 << 20) + "\n");
  write_file(root / "sys/fs/cgroup/small/memory.current", std::to_string(8 << 20) + "\n");
  EXPECT_EQ(memory_require(root.path().c_str(), 12 << 20, "a device"), DESCENT_OK);
  EXPECT_EQ(memory_require(root.path().c_str(), 24 << 20, "a device"), DESCENT_ERROR_MEMORY);
  EXPECT_STREQ(
      descent_last_error(),
      "only 12 MB of memory are available (see the limits of this machine and of its control groups): a device "
      "needs at least 24 MB");
}

TEST(Memory, IsAskedForOnThisMachine) { EXPECT_GT(system_memory_available(""), 1 << 20); }

}  // namespace
