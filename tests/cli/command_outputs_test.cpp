/* Outputs of commands that are ended while they write. */
#include <chrono>
#include <regex>
#include <thread>

#include "command.h"

namespace {

const std::regex temporary(R"(.*\.[a-z0-5]{8}\.descent\.tmp)");

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
    for (int i = 0; i < 20000 && !temporary_files(folder); i++)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
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
      ASSERT_EQ(writing.end(number), 128 + number) << command << ' ' << number;
      EXPECT_EQ(temporary_files(writing.folder), 0u) << command << ' ' << number;
      EXPECT_FALSE(writing.folder.has("out.csv")) << command << ' ' << number;
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
