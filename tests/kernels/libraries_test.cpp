/* Which of NVIDIA's libraries the CUDA backend uses if it finds several, and its error if it can use none. */
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

namespace {

const std::string kLibraries = DESCENT_LIBRARIES;

/* The loader's output and exit code, with `folders` (below kLibraries, separated by ':') on the search path. */
std::string load(const std::string &folders, const std::string &arguments, int *code) {
  std::string path, text;
  for (size_t from = 0, to; from <= folders.size(); from = to + 1) {
    to = std::min(folders.find(':', from), folders.size());
    path += (path.empty() ? "" : ":") + kLibraries + "/" + folders.substr(from, to - from);
  }
  FILE *pipe = popen(("LD_LIBRARY_PATH='" + path + "' '" DESCENT_LOADER "' " + arguments).c_str(), "r");
  EXPECT_NE(pipe, nullptr);
  char line[512];
  while (pipe && fgets(line, sizeof line, pipe)) text += line;
  *code = pipe ? WEXITSTATUS(pclose(pipe)) : -1;
  return text;
}

TEST(Libraries, TheNewestCublasThatTheDriverRunsIsTaken) {
  const std::string product = "1 algorithm, flags 80201, scheme 1: 30 70 70 174 110 278\n";
  std::filesystem::create_directories(kLibraries + "/garbage");
  std::ofstream(kLibraries + "/garbage/libfakeLt.so.13") << "no library\n";
  const struct {
    const char *folders, *driver;
    int code;
    std::string text; /* all of it, or how the error begins */
  } cases[] = {
      {"both", "13000", 0, "cuBLAS 130100\n"},
      {"both", "13010", 0, "cuBLAS 130100\n"},
      {"both", "12080", 0, "cuBLAS 120901\n"},
      {"twelve:thirteen", "13000", 0, "cuBLAS 130100\n"},
      {"twelve", "13000", 0, "cuBLAS 120405\n"},
      {"lacking:twelve", "13000", 0, "cuBLAS 120405\n"},
      {"garbage:twelve", "13000", 0, "cuBLAS 120405\n"},
      {"none", "13000", 1, "no CUDA: neither libcublasLt.so.13 nor .so.12 was found: install cuBLAS"},
      {"thirteen", "12040", 1, "no CUDA: libfakeLt.so.13 needs an NVIDIA driver 580 or newer"},
      {"old", "13000", 1, "no CUDA: " + kLibraries + "/old/libfakeLt.so.12 is cuBLAS 12.3.9: 12.4 or newer"},
      {"lacking", "13000", 1, "no CUDA: " + kLibraries + "/lacking/libfakeLt.so.13 has no cublasLtMatmulAlgoCheck:"},
      {"garbage", "13000", 1, "no CUDA: " + kLibraries + "/garbage/libfakeLt.so.13: "},
  };
  for (const auto &c : cases) {
    SCOPED_TRACE(std::string(c.folders) + " " + c.driver);
    int code;
    const std::string text = load(c.folders, c.driver, &code);
    EXPECT_EQ(code, c.code) << text;
    if (c.code == 0) {
      EXPECT_EQ(text, c.text + product);
    } else {
      EXPECT_EQ(text.find(c.text), 0U) << text;
      EXPECT_EQ(text.find('\n'), text.size() - 1) << text;
    }
  }
}

TEST(Libraries, ToolkitsFoldersAreSearchedAfterTheLoaders) {
  const std::filesystem::path place = kLibraries + "/place";
  std::filesystem::create_directories(place);
  std::filesystem::copy_file(kLibraries + "/both/libfakeLt.so.12", place / "libfakeLt.so.12");
  int code;
  EXPECT_EQ(load("none", "13000", &code).find("cuBLAS 120901\n"), 0U);
  EXPECT_EQ(load("twelve", "13000", &code).find("cuBLAS 120405\n"), 0U);
  std::filesystem::remove_all(place);
}

TEST(Libraries, FreeMemoryIsWhatTheManagementLibrarySays) {
  int code;
  const std::string known = ": 700 bytes free, driver '580.95.05'\n", driver = "13000 GPU-known GPU-other";
  EXPECT_NE(load("both:nvml", driver, &code).find("GPU-known" + known + "GPU-other: -1 bytes free, driver '580.95.05'"),
            std::string::npos);
  EXPECT_NE(load("both", driver, &code).find("GPU-known: -1 bytes free"), std::string::npos);
}

}  // namespace
