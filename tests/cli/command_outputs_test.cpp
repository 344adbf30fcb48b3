/* Outputs of commands that are ended while they write. */
#include <chrono>
#include <regex>
#include <thread>

#include "command.h"

namespace {

const std::regex temporary(R"(.*\.[a-z0-5]{8}\.descent\.tmp)");

/* Whether one is being written. The command makes an empty one first, to see that it can. */
bool is_writing(const Folder &folder) {
  for (const std::string &name : folder.list()) {
    std::error_code gone;
    if (std::regex_match(name, temporary) && std::filesystem::file_size(folder / name, gone) > 0 && !gone) return true;
  }
  return false;
}

size_t temporary_files(const Folder &folder) {
  const std::vector<std::string> names = folder.list();
  return static_cast<size_t>(std::count_if(names.begin(), names.end(),
                                           [](const std::string &name) { return std::regex_match(name, temporary); }));
}

/* A command that is writing its output, "out.csv". */
class Writing {
 public:
  explicit Writing(const std::string &command) {
    std::string rows = "a,b,answer\n";
    for (int i = 0; i < 200; i++)
      rows += std::to_string(i % 7) + "," + std::to_string(i % 5) + (i % 7 > 3 ? ",yes\n" : ",no\n");
    folder.write("data.csv", rows);
    EXPECT_EQ(folder.run({"train", "data.csv", "--target", "answer", "--epochs", "1", "--quiet"}).code, 0);
    for (int i = 0; i < 12; i++) rows += rows.substr(11);
    folder.write("data.csv", rows);
    const bool predicts = command == "predict";
    child_ = folder.start(predicts ? Arguments{"predict", "model.safetensors", "data.csv", "--out", "out.csv"}
                                   : Arguments{"convert", "data.csv", "out.csv", "--target", "answer"},
                          folder / ".out");
    for (int i = 0; i < 20000 && !is_writing(folder); i++) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    EXPECT_EQ(temporary_files(folder), 1u);
  }
  int end(int number) const {
    int status = 0;
    kill(child_, number);
    waitpid(child_, &status, 0);
    return exit_code(status);
  }
  Folder folder;

 private:
  pid_t child_;
};

TEST(Outputs, ASignalLeavesNoTemporaryFile) {
  for (const char *command : {"predict", "convert"})
    for (int number : {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGXCPU}) {
      const Writing writing(command);
      ASSERT_EQ(writing.end(number), 128 + number) << command;
      EXPECT_EQ(temporary_files(writing.folder), 0u)
          << command << " " << number << testing::PrintToString(writing.folder.list());
      EXPECT_FALSE(writing.folder.has("out.csv")) << command;
    }
}

TEST(Outputs, WhatAKilledCommandLeftIsRemovedByTheNext) {
  for (const char *command : {"predict", "convert"}) {
    const Writing writing(command);
    const Folder &folder = writing.folder;
    ASSERT_EQ(writing.end(SIGKILL), 128 + SIGKILL) << command;
    ASSERT_EQ(temporary_files(folder), 1u) << command;
    folder.write("few.csv", "a,b,answer\n1,2,no\n");
    ASSERT_EQ(folder.run({"predict", "model.safetensors", "few.csv", "--out", "out.csv"}).code, 0);
    EXPECT_EQ(temporary_files(folder), 0u) << command;
    EXPECT_EQ(folder.read("out.csv").substr(0, 10), "prediction");
  }
}

/* A conversion that is stopped after it has started to write `out`; 0: it was too fast each time. */
pid_t stop_while_writing(const Folder &folder, const std::string &out) {
  const auto started = [&] {
    std::error_code gone;
    for (const std::string &name : folder.list())
      if (std::regex_match(name, temporary) && std::filesystem::file_size(folder / name, gone) > 0 && !gone)
        return true;
    return false;
  };
  for (int attempt = 0; attempt < 50; attempt++) {
    const pid_t child = folder.start({"convert", "many.csv", out}, folder / ".first");
    int status = 0;
    while (waitpid(child, &status, WNOHANG) == 0) {
      if (!started()) continue;
      kill(child, SIGSTOP);
      if (waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status) && temporary_files(folder) == 1)
        return child;
      kill(child, SIGCONT);
    }
  }
  return 0;
}

/* Also if HDF5's own locks are disabled, which is common on clusters. */
TEST(Outputs, AreNotTakenForLeftoversWhileTheyAreWritten) {
  const Folder folder;
  std::string line = "1", rows;
  for (int i = 0; i < 999; i++) line += ",1";
  for (int i = 0; i < 2000; i++) rows += line + "\n";
  folder.write("many.csv", rows);
  folder.write("few.csv", "1,2\n3,4\n");
  setenv("HDF5_USE_FILE_LOCKING", "FALSE", 1);
  for (const char *out : {"out.h5", "out.npz"}) {
    if (folder.run({"convert", "few.csv", out}).code != 0) continue; /* a build without HDF5 */
    const pid_t first = stop_while_writing(folder, out);
    ASSERT_NE(first, 0) << out;
    const Result second = folder.run({"convert", "few.csv", out});
    EXPECT_EQ(second.code, 0) << second.err;
    EXPECT_EQ(temporary_files(folder), 1u) << out;
    int status = 0;
    kill(first, SIGCONT);
    waitpid(first, &status, 0);
    EXPECT_EQ(exit_code(status), 0) << out;
    EXPECT_EQ(temporary_files(folder), 0u) << out;
  }
  unsetenv("HDF5_USE_FILE_LOCKING");
}

/* As a container does it with a single file. Nothing can be renamed over it, which must not show after the training. */
TEST(Outputs, AFileThatIsMountedIsRefusedAtTheStart) {
  const Folder folder;
  folder.write("data.csv", "a,answer\n1,no\n2,no\n3,yes\n4,yes\n");
  for (const char *name : {"source", "mounted"}) folder.write(name, "old");
  const std::string within = "cd '" + folder.path() + "' && unshare --map-root-user --mount sh -c ";
  if (std::system((within + "'mount --bind source mounted' 2>.err").c_str()) != 0)
    GTEST_SKIP() << "no file can be mounted here: " << folder.read(".err");
  for (const char *option : {"--out", "--log", "--report"}) {
    const std::string train = std::string("'mount --bind source mounted && exec " DESCENT_COMMAND
                                          " train data.csv --target answer --epochs 1 --quiet ") +
                              option + " mounted' >.out 2>.err";
    const int status = std::system((within + train).c_str());
    EXPECT_EQ(exit_code(status), 1) << option;
    EXPECT_EQ(folder.read(".err"), "descent train: mounted: cannot write: Device or resource busy\n");
    EXPECT_EQ(folder.read(".out"), "");
    EXPECT_EQ(folder.read("source"), "old");
  }
}

TEST(Outputs, ADanglingLinkIsFollowed) {
  const Folder folder;
  folder.write("data.csv", "a,answer\n1,no\n2,no\n3,yes\n4,yes\n");
  std::filesystem::create_symlink("elsewhere", folder / "model");
  std::filesystem::create_symlink("target.csv", folder / "link.csv");
  ASSERT_EQ(folder.run({"train", "data.csv", "--target", "answer", "--epochs", "1", "--quiet", "--out", "model"}).code,
            0);
  ASSERT_EQ(folder.run({"predict", "model", "data.csv", "--out", "link.csv"}).code, 0);
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "model"));
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "link.csv"));
  EXPECT_TRUE(folder.has("elsewhere"));
  EXPECT_TRUE(folder.has("target.csv"));
}

}  // namespace
