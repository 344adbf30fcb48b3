/* Choices of algorithms are remembered, and no content of the file of choices can do harm. */
#include <sys/stat.h>

#include <thread>

#include "products.h"

namespace {

class Choices : public ProductTest {};

TEST_F(Choices, AreRememberedFromOneProcessToTheNext) {
  const product_shape shape = shape_of(4, 5, 40);
  double measured = 0, remembered = 0;
  EXPECT_EQ(chosen(shape, true, &measured), EMULATED_RIGHT);
  EXPECT_EQ(emulated_library.heuristics, 1);
  EXPECT_EQ(chosen(shape, true, &remembered), EMULATED_RIGHT); /* in memory */
  EXPECT_EQ(emulated_library.heuristics, 1);
  reopen(); /* from the file */
  EXPECT_EQ(chosen(shape, true, &remembered), EMULATED_RIGHT);
  EXPECT_EQ(emulated_library.heuristics, 0);
  EXPECT_EQ(emulated_library.checks, 1);
  EXPECT_NEAR(remembered, measured, 1e-9);
  EXPECT_EQ(file().parent_path(), cache_ / "descent");
  EXPECT_EQ(chosen(shape, false), EMULATED_RIGHT); /* not tuned: asks the heuristic */
  EXPECT_EQ(emulated_library.heuristics, 1);
}

TEST_F(Choices, KeepWhatAnotherProcessHasAddedMeanwhile) {
  product_library *other = library_;
  open(); /* both have looked for the file, which does not exist */
  EXPECT_EQ(chosen(shape_of(4, 5, 40), true), EMULATED_RIGHT);
  std::swap(library_, other);
  EXPECT_EQ(chosen(shape_of(4, 5, 41), true), EMULATED_RIGHT);
  product_library_close(other);
  reopen();
  EXPECT_EQ(chosen(shape_of(4, 5, 40), true), EMULATED_RIGHT);
  EXPECT_EQ(chosen(shape_of(4, 5, 41), true), EMULATED_RIGHT);
  EXPECT_EQ(emulated_library.heuristics, 0);
}

TEST_F(Choices, AreKeyedByEverythingTheyDependOn) {
  const product_shape shape = shape_of(4, 5, 6, ELEMENT_F32, ELEMENT_F32, EPILOGUE_MASKED);
  const std::function<void(product_shape *)> changes[] = {
      [](product_shape *) {},
      [](product_shape *s) { s->m++; },
      [](product_shape *s) { s->n--; },
      [](product_shape *s) { s->k--; },
      [](product_shape *s) { s->transpose_a = true; },
      [](product_shape *s) { s->transpose_b = true; },
      [](product_shape *s) { s->lda++; },
      [](product_shape *s) { s->ldb++; },
      [](product_shape *s) { s->ldc++; },
      [](product_shape *s) { s->operands = ELEMENT_BF16; },
      [](product_shape *s) { s->result = ELEMENT_BF16; },
      [](product_shape *s) { s->tf32 = true; },
      [](product_shape *s) { s->epilogue = EPILOGUE_RELU_MASK_BIAS; },
      [](product_shape *s) { s->bias_element = ELEMENT_BF16; },
      [](product_shape *s) { s->mask_ld += 128; },
  };
  std::vector<std::string> keys;
  char key[TUNE_KEY];
  for (const auto &change : changes) {
    product_shape other = shape;
    change(&other);
    tune_key(&other, 1, 1, key);
    keys.push_back(key);
  }
  tune_key(&shape, 2, 1, key);
  keys.push_back(key);
  tune_key(&shape, 1, 2, key);
  keys.push_back(key);
  std::sort(keys.begin(), keys.end());
  EXPECT_EQ(std::unique(keys.begin(), keys.end()), keys.end());
  product_shape large = shape; /* the longest key fits */
  large.m = large.n = large.k = large.lda = large.ldb = large.ldc = large.mask_ld = INT64_MAX;
  large.epilogue = EPILOGUE_MASKED_COLUMN_SUMS, large.operands = large.result = large.bias_element = ELEMENT_BF16;
  tune_key(&large, INT64_MAX, INT64_MAX, key);
  EXPECT_LT(strlen(key), (size_t)TUNE_KEY - 1);
}

tune_entry entry_of(const product_shape &shape, int kind, int64_t workspace) {
  tune_entry entry = {};
  tune_key(&shape, workspace, 16, entry.key);
  entry.nanoseconds = 12345;
  entry.algorithm[0] = 0x5eed, entry.algorithm[1] = (uint64_t)kind;
  entry.algorithm[2] = CUBLASLT_NUMERICAL_IMPL_FLAGS_FMA | CUBLASLT_NUMERICAL_IMPL_FLAGS_ACCUMULATOR_32F |
                       CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_32F;
  return entry;
}
std::string line_of(const tune_entry &entry) {
  char line[TUNE_LINE];
  tune_format(&entry, line);
  return line;
}

TEST_F(Choices, AreTrustedNoMoreThanAnyOtherAlgorithm) {
  const product_shape shape = shape_of(4, 5, 40);
  EXPECT_EQ(chosen(shape, true), EMULATED_RIGHT);
  const fs::path path = file();
  const int64_t workspace = product_library_bytes(library_) / PRODUCT_WORKSPACES;
  for (const int kind : {(int)EMULATED_IN_PLACE, (int)EMULATED_DROPS_TAIL, (int)EMULATED_REFUSES, 1 << 20}) {
    write(path, line_of(entry_of(shape, kind, workspace)) + "\n");
    reopen();
    EXPECT_EQ(chosen(shape, true), EMULATED_RIGHT) << kind;
    EXPECT_EQ(emulated_library.heuristics, 1) << kind;
    reopen(); /* the new choice is now remembered */
    EXPECT_EQ(chosen(shape, true), EMULATED_RIGHT) << kind;
    EXPECT_EQ(emulated_library.heuristics, 0) << kind;
  }
  write(path, line_of(entry_of(shape, EMULATED_SLOW, workspace)) + "\n"); /* the file does decide */
  reopen();
  double seconds;
  EXPECT_EQ(chosen(shape, true, &seconds), EMULATED_SLOW);
  EXPECT_DOUBLE_EQ(seconds, 12345e-9);
}

TEST_F(Choices, AreNotTakenFromTimesOfAnotherKind) {
  const product_shape shape = shape_of(4, 5, 40);
  EXPECT_EQ(chosen(shape, true), EMULATED_RIGHT);
  tune_entry entry = entry_of(shape, EMULATED_SLOW, product_library_bytes(library_) / PRODUCT_WORKSPACES);
  char *const kind = strstr(entry.key, " timed=");
  ASSERT_NE(kind, nullptr);
  *kind = 0; /* as before launches were captured */
  write(file(), line_of(entry) + "\n");
  reopen();
  EXPECT_EQ(chosen(shape, true), EMULATED_RIGHT);
  EXPECT_EQ(emulated_library.heuristics, 1);
}

TEST_F(Choices, AreReadLineByLineAndDamageIgnored) {
  const product_shape shape = shape_of(4, 5, 40);
  EXPECT_EQ(chosen(shape, true), EMULATED_RIGHT);
  const fs::path path = file();
  const std::string good = read(path), line = good.substr(0, good.size() - 1);
  const std::string junk[] = {"",
                              "\n\n\n",
                              std::string(5000, 'x') + "\n",
                              std::string("\0\0\n", 3),
                              "\xff\xfe\n",
                              line.substr(0, line.size() / 2) + "\n",
                              line + " \n",
                              line.substr(1) + "\n",
                              " " + line + "\n"};
  for (const std::string &each : junk) {
    write(path, each + good);
    reopen();
    EXPECT_EQ(chosen(shape, true), EMULATED_RIGHT);
    EXPECT_EQ(emulated_library.heuristics, 0) << each; /* the good line behind it is found */
    write(path, each);
    reopen();
    EXPECT_EQ(chosen(shape, true), EMULATED_RIGHT);
    EXPECT_EQ(emulated_library.heuristics, 1) << each;
    reopen();
    EXPECT_EQ(chosen(shape, true), EMULATED_RIGHT);
    EXPECT_EQ(emulated_library.heuristics, 0) << each;
  }
}

TEST_F(Choices, AreReadFromASmallFileOnly) {
  const product_shape shape = shape_of(4, 5, 40);
  EXPECT_EQ(chosen(shape, true), EMULATED_RIGHT);
  const fs::path path = file();
  const std::string good = read(path);
  write(path, good + std::string(TUNE_BYTES, '\n'));
  reopen();
  EXPECT_EQ(chosen(shape, true), EMULATED_RIGHT);
  EXPECT_EQ(emulated_library.heuristics, 1); /* too large; replaced */
  EXPECT_LT(fs::file_size(path), (uintmax_t)TUNE_LINE);
  fs::remove(path);
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0); /* does not wait for a writer */
  reopen();
  EXPECT_EQ(chosen(shape, true), EMULATED_RIGHT);
  fs::remove(path);
  fs::create_directory(path);
  reopen();
  EXPECT_EQ(chosen(shape, true), EMULATED_RIGHT);
  EXPECT_TRUE(fs::is_directory(path));
  EXPECT_TRUE(files().empty()); /* no temporary file is left */
}

TEST_F(Choices, DoWithoutAFileThatCannotBeWritten) {
  const product_shape shape = shape_of(4, 5, 40);
  write(cache_, "in the way of a directory");
  reopen();
  EXPECT_EQ(chosen(shape, true), EMULATED_RIGHT);
  EXPECT_EQ(chosen(shape, true), EMULATED_RIGHT);
  EXPECT_EQ(emulated_library.heuristics, 1); /* still remembered in memory */
  unsetenv("XDG_CACHE_HOME");
  const char *const home = getenv("HOME");
  const std::string kept = home ? home : "";
  unsetenv("HOME");
  reopen();
  EXPECT_EQ(chosen(shape, true), EMULATED_RIGHT);
  if (home) setenv("HOME", kept.c_str(), 1);
}

TEST_F(Choices, AreKeptWhereCachesBelong) {
  const struct {
    const char *cache, *home, *path;
  } cases[] = {
      {"/c", "/h", "/c/descent/products-NVIDIA-H200--x--sm90-132-130100.txt"},
      {"", "/h", "/h/.cache/descent/products-NVIDIA-H200--x--sm90-132-130100.txt"},
      {"relative", "/h", "/h/.cache/descent/products-NVIDIA-H200--x--sm90-132-130100.txt"},
      {"relative", "also", nullptr},
  };
  cudaDeviceProp gpu = {};
  snprintf(gpu.name, sizeof gpu.name, "NVIDIA H200/\"x\"");
  gpu.major = 9;
  gpu.multiProcessorCount = 132;
  const char *const home = getenv("HOME");
  const std::string kept = home ? home : "";
  for (const auto &each : cases) {
    setenv("XDG_CACHE_HOME", each.cache, 1);
    setenv("HOME", each.home, 1);
    char path[256];
    ASSERT_EQ(tune_path(&gpu, 130100, path, sizeof path), each.path != nullptr);
    if (each.path) {
      EXPECT_STREQ(path, each.path);
    }
    EXPECT_FALSE(tune_path(&gpu, 130100, path, 20));
  }
  if (home) setenv("HOME", kept.c_str(), 1);
}

TEST(TuneEntry, ReadsBackWhatItWroteAndNothingElse) {
  tune_entry entry = entry_of(shape_of(4, 5, 6, ELEMENT_BF16, ELEMENT_F32, EPILOGUE_BIAS), 3, 1 << 25), back;
  for (int i = 0; i < TUNE_WORDS; i++) entry.algorithm[i] = UINT64_C(0xfedcba9876543210) >> i;
  for (const int64_t nanoseconds : {INT64_C(0), INT64_C(1), INT64_C(123456789012)}) {
    entry.nanoseconds = nanoseconds;
    const std::string line = line_of(entry);
    ASSERT_TRUE(tune_parse(line.data(), line.size(), &back));
    EXPECT_STREQ(back.key, entry.key);
    EXPECT_EQ(back.nanoseconds, entry.nanoseconds);
    EXPECT_EQ(memcmp(back.algorithm, entry.algorithm, sizeof back.algorithm), 0);
    for (size_t length = 0; length < line.size(); length++) EXPECT_FALSE(tune_parse(line.data(), length, &back));
    for (size_t i = 0; i < line.size(); i++)
      for (int bit = 0; bit < 8; bit++) {
        std::string damaged = line;
        damaged[i] = (char)(damaged[i] ^ 1 << bit);
        EXPECT_FALSE(tune_parse(damaged.data(), damaged.size(), &back)) << damaged;
      }
  }
}

TEST(TuneEntry, HoldsTheNewestWhenFull) {
  tune_table table = {};
  tune_entry entry = {};
  for (int i = 0; i < TUNE_ENTRIES + 3; i++) {
    snprintf(entry.key, sizeof entry.key, "key %d", i);
    entry.nanoseconds = i;
    ASSERT_TRUE(tune_put(&table, &entry));
  }
  EXPECT_EQ(table.n, TUNE_ENTRIES);
  EXPECT_EQ(tune_find(&table, "key 2"), nullptr);
  ASSERT_NE(tune_find(&table, "key 3"), nullptr);
  snprintf(entry.key, sizeof entry.key, "key 3");
  ASSERT_TRUE(tune_put(&table, &entry)); /* replaces: no other entry is dropped */
  EXPECT_EQ(table.n, TUNE_ENTRIES);
  EXPECT_EQ(tune_find(&table, "key 3")->nanoseconds, TUNE_ENTRIES + 2);
  EXPECT_NE(tune_find(&table, "key 4"), nullptr);
  tune_release(&table);
}

TEST_F(Choices, OfWritersAtTheSameTimeAreAllKept) {
  const fs::path path = cache_ / "deep" / "er" / "choices.txt";
  enum { WRITERS = 4, EACH = 20 };
  std::vector<std::thread> writers;
  for (int w = 0; w < WRITERS; w++)
    writers.emplace_back([&, w] {
      for (int i = 0; i < EACH; i++) {
        tune_entry entry = {};
        snprintf(entry.key, sizeof entry.key, "key %d of %d", i, w);
        EXPECT_TRUE(tune_remember(path.c_str(), &entry));
      }
    });
  for (auto &writer : writers) writer.join();
  const std::string text = read(path);
  tune_table table = {};
  tune_read(path.c_str(), &table);
  EXPECT_EQ((int64_t)std::count(text.begin(), text.end(), '\n'), table.n); /* whole lines only */
  EXPECT_EQ(table.n, WRITERS * EACH);
  tune_release(&table);
  EXPECT_EQ(files().size(), 1u);
}

}  // namespace
