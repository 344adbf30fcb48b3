/* Files that are replaced atomically: temporary names, leftovers of killed writers, links, and renames whose outcome is
 * misreported. */
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <string>
#include <thread>

#include "internal.h"
#include "scratch.h"

namespace {

class Replace : public testing::Test {
 protected:
  void SetUp() override { write_file(path_, "old"); }
  static descent_status replace(const std::string &path, const char *text = "new") {
    file_writer writer;
    descent_status status = file_create(path.c_str(), &writer);
    if (status == DESCENT_OK) status = file_write(&writer, text, strlen(text));
    if (status == DESCENT_OK) status = file_commit(&writer);
    file_abandon(&writer);
    return status;
  }
  Scratch scratch_;
  const std::string path_ = scratch_ / "model";
};

TEST_F(Replace, RemovesWhatKilledWritersOfTheSameNameLeft) {
  const pid_t child = fork();
  if (child == 0) {
    file_writer writer;
    const bool made = file_create(path_.c_str(), &writer) == DESCENT_OK && file_write(&writer, "half", 4) == DESCENT_OK;
    if (made) fflush(writer.stream);
    raise(SIGKILL);
  }
  int status;
  waitpid(child, &status, 0);
  ASSERT_TRUE(WIFSIGNALED(status));
  ASSERT_EQ(scratch_.files(), 2u);
  EXPECT_EQ(replace(path_), DESCENT_OK);
  EXPECT_EQ(scratch_.files(), 1u);
  EXPECT_EQ(read_file(path_), "new");
}

TEST_F(Replace, RemovesNothingElse) {
  const char *const kept[] = {"model.original",
                              "model.abcdefgh.tmp",
                              "other.abcdefgh.descent.tmp",
                              "model.1.tmp",
                              "model.abc.descent.tmp",
                              "model.ABCDEFGH.descent.tmp",
                              "modelabcdefgh.descent.tmp",
                              "model.abcdefgh.descent.tmp.csv"};
  for (const char *name : kept) write_file(scratch_ / name, "mine");
  write_file(scratch_ / "linked", "mine");
  std::filesystem::create_symlink("linked", scratch_ / "model.aaaaaaaa.descent.tmp");
  std::filesystem::create_directory(scratch_ / "model.bbbbbbbb.descent.tmp");
  write_file(scratch_ / "model.cccccccc.descent.tmp", "a living writer's");
  FILE *living = fopen((scratch_ / "model.cccccccc.descent.tmp").c_str(), "r");
  ASSERT_EQ(flock(fileno(living), LOCK_EX), 0);
  const size_t before = scratch_.files();
  EXPECT_EQ(replace(path_), DESCENT_OK);
  EXPECT_EQ(scratch_.files(), before);
  for (const char *name : kept) EXPECT_EQ(read_file(scratch_ / name), "mine") << name;
  EXPECT_EQ(read_file(scratch_ / "linked"), "mine");
  fclose(living);
  EXPECT_EQ(replace(path_), DESCENT_OK);
  EXPECT_EQ(scratch_.files(), before - 1);
}

TEST_F(Replace, CreatesWhatADanglingLinkPointsTo) {
  std::filesystem::create_directory(scratch_ / "folder");
  std::filesystem::create_symlink("folder/second", scratch_ / "first");
  std::filesystem::create_symlink("../target", scratch_ / "folder/second");
  EXPECT_EQ(replace(scratch_ / "first"), DESCENT_OK);
  EXPECT_TRUE(std::filesystem::is_symlink(scratch_ / "first"));
  EXPECT_TRUE(std::filesystem::is_symlink(scratch_ / "folder/second"));
  EXPECT_EQ(read_file(scratch_ / "target"), "new");
}

TEST_F(Replace, RefusesLinksWithoutAnEnd) {
  std::filesystem::create_symlink("b", scratch_ / "a");
  std::filesystem::create_symlink("a", scratch_ / "b");
  std::filesystem::create_symlink("nowhere/file", scratch_ / "lost");
  std::filesystem::create_symlink(scratch_.path(), scratch_ / "folder");
  EXPECT_EQ(replace(scratch_ / "a"), DESCENT_ERROR_WRITE);
  EXPECT_EQ(replace(scratch_ / "lost"), DESCENT_ERROR_WRITE);
  EXPECT_EQ(replace(scratch_ / "folder"), DESCENT_ERROR_WRITE);
  EXPECT_TRUE(std::filesystem::is_symlink(scratch_ / "lost"));
  EXPECT_EQ(scratch_.files(), 5u);
}

TEST_F(Replace, FollowsNoLinkInAnOpenFolder) {
  std::filesystem::create_directory(scratch_ / "folder");
  std::filesystem::create_symlink("../model", scratch_ / "folder/planted");
  const int folder = open((scratch_ / "folder").c_str(), O_RDONLY | O_DIRECTORY);
  file_writer writer;
  ASSERT_EQ(file_create_at(folder, "folder/planted", "planted", &writer), DESCENT_OK);
  close(folder); /* the writer has its own */
  ASSERT_EQ(file_write(&writer, "new", 3), DESCENT_OK);
  ASSERT_EQ(file_commit(&writer), DESCENT_OK);
  EXPECT_FALSE(std::filesystem::is_symlink(scratch_ / "folder/planted"));
  EXPECT_EQ(read_file(scratch_ / "folder/planted"), "new");
  EXPECT_EQ(read_file(path_), "old");
}

TEST_F(Replace, TakesNamesOfTheGreatestLength) {
  std::string name = "x";
  while (name.size() <= 252) name += "\u00fc";
  name.resize(255, 'y');
  EXPECT_EQ(replace(scratch_ / name), DESCENT_OK);
  EXPECT_EQ(read_file(scratch_ / name), "new");
  EXPECT_EQ(replace(scratch_ / (name + "z")), DESCENT_ERROR_WRITE);
  EXPECT_EQ(scratch_.files(), 2u);
}

TEST_F(Replace, WritesIntoAFolderThatIsRenamedMeanwhile) {
  std::filesystem::create_directory(scratch_ / "folder");
  file_writer writer;
  ASSERT_EQ(file_create((scratch_ / "folder/file").c_str(), &writer), DESCENT_OK);
  std::filesystem::rename(scratch_ / "folder", scratch_ / "moved");
  ASSERT_EQ(file_commit(&writer), DESCENT_OK);
  EXPECT_TRUE(std::filesystem::exists(scratch_ / "moved/file"));
}

/* As a network file system may report it: the temporary name is gone, and the file is in its place. */
TEST_F(Replace, FindsARenameDoneThatWasReportedAsFailed) {
  file_writer writer;
  ASSERT_EQ(file_create(path_.c_str(), &writer), DESCENT_OK);
  ASSERT_EQ(file_write(&writer, "new", 3), DESCENT_OK);
  std::filesystem::rename(writer.temporary, path_);
  EXPECT_EQ(file_commit(&writer), DESCENT_OK);
  EXPECT_EQ(read_file(path_), "new");
  EXPECT_EQ(scratch_.files(), 1u);
}

TEST_F(Replace, CanRemoveAllUnfinishedFilesOfAProcess) {
  file_writer kept;
  ASSERT_EQ(file_create((scratch_ / "parent").c_str(), &kept), DESCENT_OK);
  const pid_t child = fork();
  if (child == 0) {
    file_writer writer[3];
    for (int i = 0; i < 3; i++)
      if (file_create((scratch_ / std::to_string(i)).c_str(), &writer[i]) != DESCENT_OK) _exit(1);
    if (file_commit(&writer[1]) != DESCENT_OK) _exit(1);
    descent_remove_unfinished_files();
    _exit(0);
  }
  int status;
  waitpid(child, &status, 0);
  ASSERT_EQ(status, 0);
  EXPECT_EQ(scratch_.files(), 3u); /* model, 1, and the parent's temporary file */
  EXPECT_EQ(file_commit(&kept), DESCENT_OK);
}

/* As a signal handler does on another thread. ThreadSanitizer sees whether a name is read while it is written. */
TEST_F(Replace, CanRemoveThemOnAnyThread) {
  std::atomic<bool> done{false};
  std::thread handlers[2];
  for (std::thread &handler : handlers)
    handler = std::thread([&done] {
      while (!done) {
        descent_remove_unfinished_files();
        std::this_thread::sleep_for(std::chrono::microseconds(50));
      }
    });
  int created = 0;
  for (int i = 0; i < 500; i++) { /* fails where each attempt is removed at once */
    file_writer writer;
    if (file_create((scratch_ / (i % 2 ? "a" : "longer")).c_str(), &writer) != DESCENT_OK) continue;
    file_abandon(&writer);
    created++;
  }
  done = true;
  for (std::thread &handler : handlers) handler.join();
  EXPECT_GT(created, 0);
  EXPECT_EQ(scratch_.files(), 1u);
}

}  // namespace
