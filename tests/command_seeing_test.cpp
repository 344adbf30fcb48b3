/* What the command shows of a training beyond its own lines: event files, plots and reports. */
#include <sys/resource.h>

#include <csignal>

#include "command.h"

namespace {

/* ---- TensorBoard (what is in the file is read back by tensorboard_read.py) --------------------------------------- */

TEST(TensorBoard, GetsAFileOfItsOwnForEachTraining) {
  Folder folder;
  folder.write("data.csv", make_data("binary", 60));
  const Arguments command = quick + Arguments{"--tensorboard", "runs/deep/one"};
  for (int i = 0; i < 2; i++) EXPECT_EQ(folder.run(command).code, 0);
  int files = 0;
  for (const auto &entry : std::filesystem::directory_iterator(folder / "runs/deep/one")) {
    expect_contains(entry.path().filename(), "events.out.tfevents.");
    EXPECT_GT(entry.file_size(), 1000U);
    files++;
  }
  EXPECT_EQ(files, 2);
}

TEST(TensorBoard, IsNotWrittenWhereAFileIs) {
  Folder folder;
  folder.write("data.csv", make_data("binary", 60));
  const Result result = folder.run(quick + Arguments{"--tensorboard", "data.csv/runs", "--quiet"});
  EXPECT_EQ(result.code, 1);
  EXPECT_EQ(result.err, "descent train: data.csv/runs: cannot write: Not a directory\n");
  EXPECT_FALSE(folder.has("model.safetensors"));
}

/* While it lives, the command's files cannot grow beyond so many bytes: writing fails as on a full disk. */
class SmallFiles {
 public:
  explicit SmallFiles(rlim_t bytes) {
    getrlimit(RLIMIT_FSIZE, &old_);
    rlimit small = old_;
    small.rlim_cur = bytes;
    handler_ = signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
  }
  ~SmallFiles() {
    setrlimit(RLIMIT_FSIZE, &old_);
    signal(SIGXFSZ, handler_);
  }
  SmallFiles(const SmallFiles &) = delete;
  SmallFiles &operator=(const SmallFiles &) = delete;

 private:
  rlimit old_{};
  void (*handler_)(int);
};

TEST(TensorBoard, EndsTheTrainingWithItsModelSavedWhenTheDiskIsFull) {
  Folder folder;
  folder.write("data.csv", make_data("binary", 60));
  Result result;
  {
    SmallFiles small(20000);
    result = folder.run(quick + Arguments{"--tensorboard", "runs", "--epochs", "5000", "--quiet"});
  }
  EXPECT_EQ(result.code, 1);
  expect_one_line(result.err);
  expect_contains(result.err, "descent train: runs/events.out.tfevents.");
  expect_contains(result.err, ": cannot write: File too large");
  EXPECT_EQ(folder.run({"info", "model.safetensors"}).code, 0);
}

}  // namespace
