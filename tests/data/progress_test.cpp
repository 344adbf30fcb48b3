// A thread's progress callback sees what long calls do, and cancels them without leaving anything behind.
#include <atomic>
#include <thread>

#include "saved_data.h"

namespace {

struct Seen {
  std::vector<std::string> tasks;  // "task unit", where it differs from the one before
  int64_t reports = 0, cancel_at = 0;
  bool in_order = true;
  int64_t done = 0, total = 0;
};

int Note(void *user, const descent_progress *progress) {
  Seen *seen = static_cast<Seen *>(user);
  const std::string task = std::string(progress->task) + " " + progress->unit;
  if (seen->tasks.empty() || seen->tasks.back() != task) seen->tasks.push_back(task), seen->done = 0;
  if (progress->done < seen->done || (progress->total && progress->done > progress->total)) seen->in_order = false;
  seen->done = progress->done, seen->total = progress->total;
  return ++seen->reports == seen->cancel_at;
}

// Sets itself again, so that each opportunity is used.
int NoteAll(void *user, const descent_progress *progress) {
  descent_set_progress(NoteAll, user);
  return Note(user, progress);
}

class Progress : public SavedData {
 protected:
  ~Progress() override { descent_set_progress(nullptr, nullptr); }
  // Enough for more than one report of a writer, which come a megabyte apart.
  std::string Large() const {
    std::string text = "a,b,c,d,y\n";
    for (int r = 0; r < 70000; r++)
      text += std::to_string(r) + "," + std::to_string(r % 7) + ",0.12345678,2,0." + std::to_string(r % 1000) + "\n";
    return Write("large.csv", text);
  }
};

TEST_F(Progress, OfReadingIsReportedForEachFormat) {
  const Dataset d = OpenTarget(Large(), "y");
  const struct {
    const char *name, *task;
    int64_t total;  // 0: the bytes of the file
  } cases[] = {{"large.csv", "reading", 0},     {"large.npy", "reading", 70000},
               {"large.npz", "reading", 70000}, {"large.svm", "counting", 0},
#ifdef DESCENT_HDF5_BUILT
               {"large.h5", "reading", 70000},
#endif
               {"large.tsv", "reading", 0}};
  for (const auto &c : cases) {
    if (!std::filesystem::exists(Path(c.name))) {
      ASSERT_EQ(Save(d.get(), c.name), "");
    }
    for (const int64_t cancel_at : {0, 1}) {
      Seen seen;
      seen.cancel_at = cancel_at;
      descent_set_progress(Note, &seen);
      descent_dataset *read = nullptr;
      const descent_status status = descent_dataset_read(Path(c.name).c_str(), &kDefaults, &read);
      descent_set_progress(nullptr, nullptr);
      const Dataset owner(read);
      const std::string what = std::string(c.task) + " " + Path(c.name);
      ASSERT_FALSE(seen.tasks.empty()) << c.name;
      EXPECT_EQ(seen.tasks[0], what + (c.total ? " rows" : " bytes"));
      EXPECT_TRUE(seen.in_order) << c.name;
      if (cancel_at) {
        EXPECT_EQ(status, DESCENT_ERROR_CANCELLED) << c.name;
        EXPECT_EQ(descent_last_error(), what + ": cancelled");
        EXPECT_EQ(read, nullptr);
        EXPECT_EQ(seen.reports, 1);
        EXPECT_EQ(seen.total, c.total ? c.total : static_cast<int64_t>(std::filesystem::file_size(Path(c.name))));
      } else {
        EXPECT_EQ(status, DESCENT_OK) << c.name << descent_last_error();
      }
    }
  }
}

TEST_F(Progress, OfWritingIsReportedAndCancellingKeepsTheOldFile) {
  const Dataset d = OpenTarget(Large(), "y");
  for (const char *name : {"o.csv", "o.npy", "o.npz", "o.svm", "o.safetensors",
#ifdef DESCENT_HDF5_BUILT
                           "o.h5"
#endif
       }) {
    Seen seen;
    Write(name, "old");
    seen.cancel_at = 1;
    descent_set_progress(Note, &seen);
    EXPECT_EQ(descent_dataset_save(d.get(), Path(name).c_str()), DESCENT_ERROR_CANCELLED) << name;
    EXPECT_EQ(read_file(Path(name)), "old");
    EXPECT_GT(seen.done, 0);
    seen.cancel_at = 0;
    EXPECT_EQ(descent_dataset_save(d.get(), Path(name).c_str()), DESCENT_OK) << descent_last_error();
    ASSERT_FALSE(seen.tasks.empty());
    EXPECT_EQ(seen.tasks[0].rfind("writing " + Path(name), 0), 0u) << seen.tasks[0];
  }
  for (const auto &entry : std::filesystem::directory_iterator(Path(".")))
    EXPECT_NE(entry.path().extension(), ".tmp") << entry.path();
}

/* So a program that has cancelled a call can save its model before it has reset its flag. */
TEST_F(Progress, OfSavingAModelIsNeitherReportedNorCancelled) {
  const int64_t widths[] = {1000, 1};
  descent_network_options shape = descent_network_options_default();
  shape.inputs = 1000, shape.layers = 2, shape.widths = widths; /* 4 MB */
  descent_network *made = nullptr;
  ASSERT_EQ(descent_network_create(&shape, &made), DESCENT_OK) << descent_last_error();
  ASSERT_EQ(descent_network_initialise(made, DESCENT_INIT_AUTO, 1), DESCENT_OK);
  const Network network(made);
  Seen seen;
  seen.cancel_at = 1;
  descent_set_progress(Note, &seen);
  EXPECT_EQ(descent_network_save(made, Path("model.safetensors").c_str()), DESCENT_OK) << descent_last_error();
  for (const descent_export_format format :
       {DESCENT_EXPORT_FORMAT_ONNX, DESCENT_EXPORT_FORMAT_C, DESCENT_EXPORT_FORMAT_NPZ})
    EXPECT_EQ(descent_network_export(made, format, Path("exported").c_str()), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(seen.reports, 0);
}

TEST_F(Progress, OfAConversionCoversBothPasses) {
  const std::string from = Large(), to = Path("o.safetensors");
  Seen seen;
  descent_dataset *made = nullptr;
  descent_set_progress(NoteAll, &seen);
  ASSERT_EQ(descent_dataset_convert(from.c_str(), &kDefaults, to.c_str(), &made), DESCENT_OK);
  descent_dataset_free(made);
  EXPECT_EQ(seen.tasks[0], "reading " + from + " bytes");
  seen.cancel_at = seen.reports;
  for (seen.reports = 0; seen.cancel_at > 0; seen.cancel_at--, seen.reports = 0) {
    descent_set_progress(NoteAll, &seen);
    const descent_status status = descent_dataset_convert(from.c_str(), &kDefaults, to.c_str(), &made);
    EXPECT_EQ(status, DESCENT_ERROR_CANCELLED) << seen.cancel_at;
  }
}

// What the callback calls does not report to it, and other threads have none.
TEST_F(Progress, BelongsToOneThreadAndIsNotCalledFromInside) {
  const std::string path = Large();
  struct Nested {
    const std::string *path;
    int depth, most;
    descent_status status;
  } nested = {&path, 0, 0, DESCENT_ERROR_INTERNAL};
  descent_set_progress(
      [](void *user, const descent_progress *) {
        Nested *n = static_cast<Nested *>(user);
        n->most = std::max(n->most, ++n->depth);
        descent_dataset *read = nullptr;
        n->status = descent_dataset_read(n->path->c_str(), &kDefaults, &read);
        descent_dataset_free(read);
        n->depth--;
        return 1;
      },
      &nested);
  EXPECT_EQ(Read(path, kDefaults).rfind("cancelled: ", 0), 0u);
  EXPECT_EQ(nested.most, 1);
  EXPECT_EQ(nested.status, DESCENT_OK);
  std::thread([&] { EXPECT_NE(OpenTarget(path, "y"), nullptr); }).join();
}

TEST_F(Progress, CallbackCancelsForAnotherThread) {
  std::atomic<bool> stop = false;
  descent_set_progress(
      [](void *user, const descent_progress *) { return static_cast<std::atomic<bool> *>(user)->load() ? 1 : 0; },
      &stop);
  const std::string path = Large();
  EXPECT_NE(OpenTarget(path, "y"), nullptr);
  std::thread([&] { stop = true; }).join();
  std::this_thread::sleep_for(std::chrono::milliseconds(110));  // reports are 0.1 seconds apart
  EXPECT_EQ(Read(path, kDefaults).rfind("cancelled: ", 0), 0u);
}

}  // namespace
