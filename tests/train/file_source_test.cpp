// Files as sources: each epoch gives every row once, in an order of (seed, epoch), with the bits that the file has as a
// dataset, in bounded memory.
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cinttypes>
#include <set>

#include "saved_data.h"

namespace {

constexpr int64_t kWhole = 1000;  // a window that holds all of a test's rows

struct CloseSource {
  void operator()(descent_source *source) const {
    descent_source_close(source);
    delete source;
  }
};
using Source = std::unique_ptr<descent_source, CloseSource>;

class FileSource : public SavedData {
 protected:
  descent_device *Device() const {
    descent_device *device = nullptr;
    EXPECT_EQ(descent_device_open("cpu", 1, &device), DESCENT_OK);
    return device;
  }
  Source OpenSource(const std::string &path, const descent_dataset_options &options, int64_t window) const {
    Source source(new descent_source{});
    EXPECT_EQ(descent_source_open(path.c_str(), &options, window, source.get()), DESCENT_OK) << descent_last_error();
    return source;
  }
  std::string GZip(const std::string &path) const {
    const std::string to = path + ".gz", text = read_file(path);
    gzFile out = gzopen(to.c_str(), "wb1");
    EXPECT_EQ(gzwrite(out, text.data(), static_cast<unsigned>(text.size())), static_cast<int>(text.size()));
    gzclose(out);
    return to;
  }
  // Columns x = row number, a category, sometimes missing, and a class.
  std::string Numbered(int64_t rows) const {
    std::string text = "row,colour,class\n";
    for (int64_t r = 0; r < rows; r++)
      text += std::to_string(r) + "," +
              (r % 5 == 3 ? ""
               : r % 2    ? "red"
                          : "blue") +
              "," + (r % 3 ? "no" : "yes") + "\n";
    return Write("numbered.csv", text);
  }
};

std::vector<float> Parameters(const Network &network) {
  return {network->parameters, network->parameters + network->n_parameters};
}

// The first input of the rows that next gives, `at_a_time`, until the end.
std::vector<int64_t> RowsOf(const descent_source *s, int64_t at_a_time) {
  std::vector<int64_t> rows;
  std::vector<float> X(static_cast<size_t>(at_a_time * s->inputs)), y(static_cast<size_t>(at_a_time * s->targets)),
      weights(static_cast<size_t>(at_a_time));
  for (int64_t n; (n = s->next(s->user, X.data(), y.data(), weights.data(), at_a_time)) != 0;) {
    EXPECT_GT(n, 0) << descent_last_error();
    if (n < 0) break;
    for (int64_t i = 0; i < n; i++) {
      const int64_t row = static_cast<int64_t>(X[static_cast<size_t>(i * s->inputs)]);
      EXPECT_EQ(y[static_cast<size_t>(i)], row % 3 ? 0 : 1);
      EXPECT_EQ(weights[static_cast<size_t>(i)], 1);
      rows.push_back(row);
    }
  }
  return rows;
}

std::vector<int64_t> RowsOf(const descent_source *s, int64_t epoch, uint64_t seed, int64_t first, int64_t at_a_time) {
  EXPECT_EQ(s->rewind(s->user, epoch, seed, first), first);
  return RowsOf(s, at_a_time);
}

TEST_F(FileSource, OfEveryFormatTrainsToTheBitsOfItsDataset) {
  const std::string path = Headless(DESCENT_SOURCE_DIR "/examples/breast_cancer.csv", "source.csv");
  const Dataset original = OpenTarget(path, "-1", 0);
  descent_device *device = Device();
  int tried = 0;
  for (const auto &[name, target] :
       {std::pair("d.csv", "-1"), std::pair("d.npy", "-1"), std::pair<const char *, const char *>("d.npz", nullptr),
        std::pair<const char *, const char *>("d.svm", nullptr), std::pair<const char *, const char *>("d.h5", nullptr),
        std::pair<const char *, const char *>("d.safetensors", nullptr)}) {
    SCOPED_TRACE(name);
    if (Save(original.get(), name).rfind("not supported: ", 0) == 0) continue;  // a build without HDF5
    tried++;
    const std::string file = Path(name);
    for (const std::string &form : {file, std::string(name) == "d.csv" ? GZip(file) : file}) {
      descent_dataset_options options = kDefaults;
      options.target = target;
      const Dataset whole = Open(form, options);
      std::vector<std::vector<float>> runs;
      for (const bool streamed : {false, true}) {
        const Network network = NetworkFor(whole.get(), 7);
        options.network = network.get();
        descent_train_options train = descent_train_options_default();
        train.epochs = 2;
        train.batch_size = 50;
        const Source source = OpenSource(form, options, kWhole);
        ASSERT_EQ(streamed ? descent_fit_source(network.get(), device, source.get(), whole.get(), &train, nullptr)
                           : descent_fit(network.get(), device, whole.get(), whole.get(), &train, nullptr),
                  DESCENT_OK)
            << descent_last_error();
        runs.push_back(Parameters(network));
        options.network = nullptr;
      }
      EXPECT_EQ(runs[0], runs[1]);
    }
  }
  EXPECT_GE(tried, 5);
  descent_device_close(device);
}

// Missing cells, categories, weights, several targets, rows without a target, and differences to an offset.
TEST_F(FileSource, KeepsWhatTheReaderMakesOfCells) {
  std::string text = "time,colour,w,a,b\n";
  for (int r = 0; r < 100; r++)
    text += std::to_string(1700000000 + r * r) + "," + (r % 7 ? r % 2 ? "red" : "blue" : "") + "," +
            std::to_string(r % 3) + "," + (r % 10 == 9 ? "" : std::to_string(r) + ".5") + "," + std::to_string(-r) +
            "\n";
  const std::string path = Write("cells.csv", text);
  descent_dataset_options options = kDefaults;
  options.target = "a,b";
  options.task = DESCENT_TASK_REGRESSION;
  options.weight_column = "w";
  const Dataset whole = Open(path, options);
  ASSERT_EQ(whole->rows, 90);
  ASSERT_NE(whole->storage->schema.offsets, nullptr);
  descent_device *device = Device();
  std::vector<std::vector<float>> runs;
  for (const bool streamed : {false, true}) {
    const Network network = NetworkFor(whole.get(), 7);
    descent_train_options train = descent_train_options_default();
    train.epochs = 3;
    train.batch_size = 16;
    options.network = network.get();
    const Source source = OpenSource(path, options, kWhole);
    ASSERT_EQ(streamed ? descent_fit_source(network.get(), device, source.get(), nullptr, &train, nullptr)
                       : descent_fit(network.get(), device, whole.get(), nullptr, &train, nullptr),
              DESCENT_OK)
        << descent_last_error();
    runs.push_back(Parameters(network));
  }
  EXPECT_EQ(runs[0], runs[1]);
  descent_device_close(device);
}

TEST_F(FileSource, GivesEachRowOnceInAnOrderOfSeedAndEpoch) {
  constexpr int64_t kRows = 100;
  const std::string path = Numbered(kRows);
  descent_dataset_options options = kDefaults;
  options.target = "class";
  const Dataset whole = Open(path, options);
  const Network network = NetworkFor(whole.get(), 7);
  options.network = network.get();
  std::vector<int64_t> in_order(kRows);
  for (int64_t r = 0; r < kRows; r++) in_order[static_cast<size_t>(r)] = r;
  for (const int64_t window :
       {INT64_C(0), INT64_C(1), INT64_C(2), INT64_C(30), INT64_C(50), INT64_C(99), INT64_C(100), INT64_MAX}) {
    SCOPED_TRACE(window);
    const Source source = OpenSource(path, options, window);
    std::set<std::vector<int64_t>> orders;
    for (const auto &[epoch, seed] :
         {std::pair<int64_t, uint64_t>(1, 1), std::pair<int64_t, uint64_t>(2, 1), std::pair<int64_t, uint64_t>(1, 2)}) {
      const std::vector<int64_t> rows = RowsOf(source.get(), epoch, seed, 0, 7);
      orders.insert(rows);
      std::vector<int64_t> sorted = rows;
      std::sort(sorted.begin(), sorted.end());
      EXPECT_EQ(sorted, in_order);
      for (size_t i = 0; window && i < rows.size(); i++) EXPECT_EQ(rows[i] / window, static_cast<int64_t>(i) / window);
      EXPECT_EQ(RowsOf(source.get(), epoch, seed, 0, 1000), rows) << "however many at a time";
      for (const int64_t first : {0, 1, 29, 30, 31, 60, 99, 100}) {
        const std::vector<int64_t> tail(rows.begin() + first, rows.end());
        EXPECT_EQ(RowsOf(source.get(), epoch, seed, first, 11), tail) << first;
      }
      EXPECT_TRUE(RowsOf(source.get(), epoch, seed, 500, 11).empty());
    }
    EXPECT_EQ(orders.size(), window == 1 ? 1u : 3u);
    if (window == 1) {
      EXPECT_EQ(*orders.begin(), in_order);
    }
  }
}

TEST_F(FileSource, ResumesExactlyWithinAnEpoch) {
  const std::string path = Numbered(100);
  descent_dataset_options options = kDefaults;
  options.target = "class";
  const Dataset whole = Open(path, options);
  descent_device *device = Device();
  const auto train = [&](const char *folder, const char *resume, int64_t stop, descent_fit_result *result) {
    const Network network = NetworkFor(whole.get(), 7);
    options.network = network.get();
    const Source source = OpenSource(path, options, 30);
    descent_train_options with = descent_train_options_default();
    with.epochs = 3;
    with.batch_size = 16; /* 7 steps */
    with.checkpoint.folder = folder;
    with.checkpoint.resume = resume;
    with.callbacks.user = &stop;
    with.callbacks.on_step = [](void *user, const descent_step_info *info) {
      return static_cast<int>(info->step == *static_cast<int64_t *>(user));
    };
    EXPECT_EQ(descent_fit_source(network.get(), device, source.get(), whole.get(), &with, result), DESCENT_OK)
        << descent_last_error();
    return Parameters(network);
  };
  descent_fit_result uninterrupted, result;
  const std::vector<float> expected = train(nullptr, nullptr, 0, &uninterrupted);
  ASSERT_EQ(uninterrupted.steps, 21);
  for (const int64_t stop : {1, 5, 6, 7, 8, 18}) {
    SCOPED_TRACE(stop);
    const std::string folder = Path("kept" + std::to_string(stop));
    train(folder.c_str(), nullptr, stop, &result);
    ASSERT_EQ(result.steps, stop);
    EXPECT_EQ(train(folder.c_str(), folder.c_str(), 0, &result), expected);
    EXPECT_EQ(result.train_loss, uninterrupted.train_loss);
  }
  descent_device_close(device);
}

// A sample of the first rows is enough to prepare a network.
TEST_F(FileSource, TrainsANetworkPreparedWithASample) {
  const std::string path = GZip(Numbered(500));
  descent_dataset_options options = kDefaults;
  options.target = "class";
  options.max_rows = 50;
  const Dataset sample = Open(path, options);
  ASSERT_EQ(sample->rows, 50);
  const Network network = NetworkFor(sample.get(), 7);
  options.max_rows = 0;
  options.network = network.get();
  const Source source = OpenSource(path, options, 64);
  descent_device *device = Device();
  descent_train_options train = descent_train_options_default();
  train.epochs = 2;
  train.batch_size = 100;
  descent_fit_result result;
  ASSERT_EQ(descent_fit_source(network.get(), device, source.get(), sample.get(), &train, &result), DESCENT_OK)
      << descent_last_error();
  EXPECT_EQ(result.steps, 10);
  descent_device_close(device);
}

TEST_F(FileSource, PassesOnTheReadersErrors) {
  const Dataset whole = OpenTarget(Numbered(20), "class");
  const Network network = NetworkFor(whole.get(), 7);
  descent_device *device = Device();
  const struct {
    const char *text, *error;
  } cases[] = {
      {"row,colour,class\n0,red,no\n1,red,yes\n2,red,maybe\n", "bad.csv:4: "},
      {"row,colour,class\n0,red,no\nx,red,yes\n", "bad.csv:3: column 'row': 'x'"},
      {"row,colour,class\n0,green,no\n", "did not see in training"},
      {"row,colour\n0,red\n", "bad.csv: no target column"},
      {"row,class\n0,no\n", "colour"},
  };
  for (const auto &c : cases) {
    SCOPED_TRACE(c.error);
    const std::string path = Write("bad.csv", c.text);
    descent_dataset_options options = kDefaults;
    options.network = network.get();
    const Source source = OpenSource(path, options, 0);
    descent_train_options train = descent_train_options_default();
    EXPECT_EQ(descent_fit_source(network.get(), device, source.get(), nullptr, &train, nullptr), DESCENT_ERROR_READ);
    EXPECT_NE(std::string(descent_last_error()).find(c.error), std::string::npos) << descent_last_error();
    EXPECT_NE(std::string(descent_last_error()).find("the initial weights are kept"), std::string::npos);
  }
  descent_device_close(device);
}

/* The reader gives 8 rows of so many columns at a time: 24 rows, 4 windows of 6, before the bad row 25. */
TEST_F(FileSource, TrainsOnTheWindowsBeforeAnError) {
  constexpr int64_t kColumns = 1 << 15, kRows = 40;
  const auto write = [&](const char *name, const char *cell) {
    std::string text;
    for (int64_t r = 0; r < kRows; r++) {
      text += r == 25 ? cell : std::to_string(r);
      for (int64_t c = 1; c < kColumns; c++) text += ",0";
      text += r % 3 ? ",no\n" : ",yes\n";
    }
    return Write(name, text);
  };
  const Dataset whole = OpenTarget(write("good.csv", "25"), "-1");
  const Network network = NetworkFor(whole.get(), 7);
  descent_device *device = Device();
  descent_dataset_options options = kDefaults;
  options.network = network.get();
  options.target = "-1";
  const std::string path = write("bad.csv", "x");
  const Source source = OpenSource(path, options, 6);
  descent_train_options train = descent_train_options_default();
  train.batch_size = 4;
  source->rows_per_epoch = kRows;
  descent_fit_result result = {};
  EXPECT_EQ(descent_fit_source(network.get(), device, source.get(), nullptr, &train, &result), DESCENT_ERROR_READ);
  const std::string error = descent_last_error();
  EXPECT_NE(error.find("in epoch 1 at row 24: "), std::string::npos) << error;
  EXPECT_NE(error.find("bad.csv:26: column"), std::string::npos) << error;
  EXPECT_EQ(result.steps, 6) << error;
  descent_device_close(device);
}

/* Its reader waits in the parent, with the window that next has not taken. */
TEST_F(FileSource, IsOnlyClosedInAChildOfFork) {
  const std::string path = Numbered(30);
  const Dataset whole = OpenTarget(path, "class");
  const Network network = NetworkFor(whole.get(), 7);
  descent_dataset_options options = kDefaults;
  options.network = network.get();
  const Source source = OpenSource(path, options, 6);
  const std::vector<int64_t> expected = RowsOf(source.get(), 1, 1, 0, 4);
  ASSERT_EQ(source->rewind(source->user, 1, 1, 0), 0);
  usleep(100000); /* for the reader to fill both windows */
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);
    std::vector<float> X(static_cast<size_t>(source->inputs)), y(1), weights(1);
    const bool refused = source->rewind(source->user, 1, 1, 0) < 0 &&
                         source->next(source->user, X.data(), y.data(), weights.data(), 1) < 0 &&
                         strstr(descent_last_error(), "before fork()") != nullptr;
    descent_source_close(source.get());
    _exit(refused ? 0 : 1);
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(RowsOf(source.get(), 4), expected);
}

TEST_F(FileSource, IsRefused) {
  const std::string path = Numbered(20);
  const Dataset whole = OpenTarget(path, "class");
  const Network network = NetworkFor(whole.get(), 7);
  descent_dataset_options good = kDefaults;
  good.network = network.get();
  const auto with = [&](auto change) {
    descent_dataset_options options = good;
    change(&options);
    return options;
  };
  using Options = descent_dataset_options;
  const std::string absent = Path("absent.csv"), pipe = Path("pipe.csv");
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  const struct {
    std::string path;
    Options options;
    int64_t window;
    descent_status status;
    const char *error;
  } cases[] = {
      {path, kDefaults, 0, DESCENT_ERROR_ARGUMENT, "a source needs options.network"},
      {path, with([](Options *o) { o->features_only = true; }), 0, DESCENT_ERROR_ARGUMENT, "features_only is not"},
      {path, with([](Options *o) { o->max_rows = 5; }), 0, DESCENT_ERROR_ARGUMENT, "max_rows is not"},
      {path, with([](Options *o) { o->target_file = "t.csv"; }), 0, DESCENT_ERROR_ARGUMENT, "target_file is not"},
      {path, good, -1, DESCENT_ERROR_ARGUMENT, "window -1"},
      {"-", good, 0, DESCENT_ERROR_ARGUMENT, "standard input"},
      {absent, good, 0, DESCENT_ERROR_READ, "absent.csv: cannot read"},
      {pipe, good, 0, DESCENT_ERROR_READ, "not a regular file, which every epoch reads anew"},
  };
  for (const auto &c : cases) {
    SCOPED_TRACE(c.error);
    descent_source source = descent_source_default();
    EXPECT_EQ(descent_source_open(c.path.c_str(), &c.options, c.window, &source), c.status) << descent_last_error();
    EXPECT_NE(std::string(descent_last_error()).find(c.error), std::string::npos) << descent_last_error();
    EXPECT_EQ(source.user, nullptr);
  }
  descent_source source = descent_source_default();
  EXPECT_EQ(descent_source_open(nullptr, &good, 0, &source), DESCENT_ERROR_ARGUMENT);
  EXPECT_EQ(descent_source_open(path.c_str(), nullptr, 0, &source), DESCENT_ERROR_ARGUMENT);
  EXPECT_EQ(descent_source_open(path.c_str(), &good, 0, nullptr), DESCENT_ERROR_ARGUMENT);
  descent_source_close(nullptr);
  descent_source_close(&source);
  descent_source_close(&source);
}

// ---- the first rows of a file ----

TEST_F(FileSource, SamplesAreTheFirstRowsOfEveryFormat) {
  const std::string path = Headless(DESCENT_SOURCE_DIR "/examples/breast_cancer.csv", "source.csv");
  const Dataset original = OpenTarget(path, "-1", 0);
  for (const auto &[name, target] :
       {std::pair("d.csv", "-1"), std::pair("d.npy", "-1"), std::pair<const char *, const char *>("d.npz", nullptr),
        std::pair<const char *, const char *>("d.svm", nullptr), std::pair<const char *, const char *>("d.h5", nullptr),
        std::pair<const char *, const char *>("d.safetensors", nullptr)}) {
    if (Save(original.get(), name).rfind("not supported: ", 0) == 0) continue;
    const Dataset whole = OpenTarget(Path(name), target);
    for (const int64_t rows : {40, 568, 569, 570}) {
      const std::string what = std::string(name) + " " + std::to_string(rows);
      descent_dataset_options options = kDefaults;
      options.target = target;
      options.max_rows = rows;
      const Dataset sample = Open(Path(name), options);
      const int64_t whole_rows = whole->rows;
      whole->rows = std::min(rows, whole_rows);
      ExpectSame(whole.get(), sample.get(), what);
      whole->rows = whole_rows;
      ASSERT_EQ(Save(sample.get(), "sample.safetensors"), "") << what;
      ExpectSame(sample.get(), Open(Path("sample.safetensors")).get(), what);
    }
  }
}

TEST_F(FileSource, SamplesHaveTheirOwnCategoriesClassesAndOffsets) {
  std::string text = "time,colour,class\n1700000000,red,no\n1700000001,blue,yes\n1700000002,red,no\n";
  const std::string path = Write("s.csv", text + "1700000003,green,maybe\n");
  descent_dataset_options options = kDefaults;
  options.target = "class";
  options.max_rows = 3;
  const Dataset sample = Open(path, options);
  options.max_rows = 0;
  ExpectSame(sample.get(), Open(Write("three.csv", text), options).get(), "the first three rows");
  EXPECT_EQ(descent_dataset_task(sample.get()), DESCENT_TASK_BINARY);
  EXPECT_EQ(descent_dataset_column_categories(sample.get(), 1), 2);
  EXPECT_EQ(descent_dataset_input_value(sample.get(), 2, 0), 1700000002);
}

TEST_F(FileSource, SamplesWithTargetsFromAFileEndTogether) {
  std::string X = "a,b\n", y;
  for (int r = 0; r < 30; r++) X += std::to_string(r) + ",1\n", y += std::to_string(r % 2) + "\n";
  const std::string path = Write("X.csv", X), targets = Write("y.csv", y);
  descent_dataset_options options = kDefaults;
  options.target_file = targets.c_str();
  options.max_rows = 12;
  const Dataset sample = Open(path, options);
  ASSERT_EQ(sample->rows, 12);
  EXPECT_EQ(sample->storage->y[11], 1);
}

TEST_F(FileSource, SamplesAreRefused) {
  const std::string path = Numbered(20), to = Path("to.safetensors");
  const Dataset whole = OpenTarget(path, "class");
  const Network network = NetworkFor(whole.get(), 7);
  descent_dataset_options options = kDefaults;
  options.max_rows = -1;
  EXPECT_NE(Read(path, options).find("max_rows -1: must be at least 1"), std::string::npos);
  options.max_rows = 5;
  descent_dataset *dataset = nullptr;
  EXPECT_EQ(descent_dataset_convert(path.c_str(), &options, to.c_str(), &dataset), DESCENT_ERROR_ARGUMENT);
  EXPECT_NE(std::string(descent_last_error()).find("max_rows 5"), std::string::npos) << descent_last_error();
  options.network = network.get();
  options.features_only = true;
  const auto take = [](void *, const descent_dataset *) { return 0; };
  EXPECT_EQ(descent_dataset_read_blocks(path.c_str(), &options, 4, take, nullptr), DESCENT_ERROR_ARGUMENT);
  EXPECT_NE(std::string(descent_last_error()).find("max_rows 5"), std::string::npos) << descent_last_error();
}

// ---- memory ----

// AddressSanitizer keeps freed memory, and ThreadSanitizer a shadow of it.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

int64_t ResidentBytes() {
  int64_t pages = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> pages >> resident;
  return resident * 4096;
}

// 96 MB as a dataset: the training holds two windows of 2 MB and three blocks of 8 MB, and the reader its buffers.
TEST_F(FileSource, TrainsInBoundedMemory) {
  constexpr int64_t kRows = 600000, kColumns = 40, kBound = 48 << 20;
  std::string block;
  for (int r = 0; r < 1000; r++) {
    for (int64_t j = 0; j < kColumns; j++) block += std::to_string((r * 7 + j * 3) % 10) + ",";
    block += r % 3 ? "no\n" : "yes\n";
  }
  const std::string path = Path("large.csv.gz");
  gzFile out = gzopen(path.c_str(), "wb1");
  for (int64_t r = 0; r < kRows; r += 1000) gzwrite(out, block.data(), static_cast<unsigned>(block.size()));
  gzclose(out);
  descent_dataset_options options = kDefaults;
  options.target = "-1";
  options.header = 0;
  options.max_rows = 2000;
  const Dataset sample = Open(path, options);
  const Network network = NetworkFor(sample.get(), 7);
  options.max_rows = 0;
  options.network = network.get();
  descent_device *device = Device();
  const int64_t before = ResidentBytes();
  const Source source = OpenSource(path, options, 12000);
  descent_train_options train = descent_train_options_default();
  train.epochs = 1;
  train.batch_size = 2000;
  int64_t most = 0;
  train.callbacks.user = &most;
  train.callbacks.on_step = [](void *user, const descent_step_info *) {
    int64_t *largest = static_cast<int64_t *>(user);
    *largest = std::max(*largest, ResidentBytes());
    return 0;
  };
  descent_fit_result result;
  ASSERT_EQ(descent_fit_source(network.get(), device, source.get(), nullptr, &train, &result), DESCENT_OK)
      << descent_last_error();
  EXPECT_EQ(result.steps, kRows / 2000);
  EXPECT_LT(most - before, kBound);
  descent_device_close(device);
}

#endif

}  // namespace
