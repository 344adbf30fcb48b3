// Untrusted data files: truncated at every length, and with every byte changed to several others. Each is read as it
// is, or refused in one line that names the file; sizes in it cost no more memory than the file can fill.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "matrix_files.h"

namespace {

struct Kind {
  const char *file, *format;
  bool knows_its_length;  // so that no shorter file can be right
};
const Kind kinds[] = {
    {"c_order.npy", "npy", true},          {"fortran.npy", "npy", true},          {"three_fortran.npy", "npy", true},
    {"version_3.npy", "npy", true},        {"stored.npz", "npz", true},           {"deflated.npz", "npz", true},
    {"single.npz", "npz", true},           {"type_0c.idx", "idx", true},          {"images-idx3-ubyte", "idx", true},
    {"labels.idx1-ubyte.gz", "idx", true}, {"images-idx3-ubyte.gz", "idx", true}, {"from_0.svm", "svmlight", false},
    {"ranked.svm", "svmlight", false},     {"from_1.svm.gz", "svmlight", true}};

class HostileData : public testing::Test {
 protected:
  void SetUp() override {
    descriptor_ = memfd_create("hostile", 0);
    ASSERT_GE(descriptor_, 0);
    path_ = "/proc/self/fd/" + std::to_string(descriptor_);
  }
  void TearDown() override { close(descriptor_); }

  // Opens and reads the bytes; false if they were refused in the right way. `read_as`: the values read.
  bool Survives(const char *format, const std::string &bytes, std::string *read_as = nullptr) {
    EXPECT_EQ(ftruncate(descriptor_, 0), 0);
    EXPECT_EQ(pwrite(descriptor_, bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
    const MatrixRead read = ReadMatrix(path_, format, 0, 1, 1000);
    if (read.status == DESCENT_OK) {
      EXPECT_GE(read.rows, 1);
      EXPECT_GE(read.columns, 1);
      EXPECT_LE(read.columns, MATRIX_MAX_COLUMNS);
      if (read_as) *read_as = read.Describe();
      return true;
    }
    EXPECT_TRUE(read.status == DESCENT_ERROR_DATA || read.status == DESCENT_ERROR_MEMORY) << read.Describe();
    EXPECT_EQ(read.error.find('\n'), std::string::npos) << read.error;
    const bool names_file = read.error.rfind(path_, 0) == 0 || read.status == DESCENT_ERROR_MEMORY;
    EXPECT_TRUE(names_file) << read.error;
    return false;
  }

  bool SurvivesMapped(const std::string &bytes) {
    EXPECT_EQ(ftruncate(descriptor_, 0), 0);
    EXPECT_EQ(pwrite(descriptor_, bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
    descent_dataset_options options = descent_dataset_options_default();
    descent_dataset *dataset = nullptr;
    options.format = "safetensors";
    const descent_status status = descent_dataset_read(path_.c_str(), &options, &dataset);
    if (status == DESCENT_OK) {
      std::vector<float> x(static_cast<size_t>(descent_dataset_inputs(dataset)));
      for (int64_t row = 0; row < descent_dataset_rows(dataset); row++)
        EXPECT_EQ(descent_dataset_row(dataset, row, x.data()), DESCENT_OK);
    } else {
      EXPECT_TRUE(status == DESCENT_ERROR_DATA || status == DESCENT_ERROR_MODEL) << descent_last_error();
      EXPECT_EQ(std::string(descent_last_error()).rfind(path_, 0), 0U) << descent_last_error();
    }
    descent_dataset_free(dataset);
    return status == DESCENT_OK;
  }

  int descriptor_ = -1;
  std::string path_;
};

TEST_F(HostileData, IsRefusedAtEveryLengthThatIsTooShort) {
  for (const Kind &kind : kinds) {
    const std::string whole = read_file(Fixture(kind.file));
    ASSERT_TRUE(Survives(kind.format, whole)) << kind.file;
    for (size_t length = 0; length < whole.size(); length++)
      EXPECT_FALSE(Survives(kind.format, whole.substr(0, length)) && kind.knows_its_length)
          << kind.file << " cut to " << length << " bytes";
  }
}

TEST_F(HostileData, IsReadOrRefusedWithAnyByteChanged) {
  for (const Kind &kind : kinds) {
    const std::string whole = read_file(Fixture(kind.file));
    int refused = 0;
    for (size_t at = 0; at < whole.size(); at++)
      for (const int value : {0, 1, 0x7f, 0x80, 0xff, whole[at] ^ 1, whole[at] ^ 16, int{'9'}, int{'\n'}}) {
        std::string changed = whole;
        changed[at] = static_cast<char>(value);
        if (changed != whole) refused += !Survives(kind.format, changed);
      }
    EXPECT_GT(refused, 0) << kind.file;
  }
}

TEST_F(HostileData, IsNeverReadAsOtherDataWhereThereIsAChecksum) {
  const Kind sealed[] = {{"single.npz", "npz", true},
                         {"labels.idx1-ubyte.gz", "idx", true},
                         {"images-idx3-ubyte.gz", "idx", true},
                         {"from_1.svm.gz", "svmlight", true}};
  for (const Kind &kind : sealed) {
    const std::string whole = read_file(Fixture(kind.file));
    std::string original;
    ASSERT_TRUE(Survives(kind.format, whole, &original));
    for (size_t at = 0; at < whole.size(); at++)
      for (int bit = 0; bit < 8; bit++) {
        std::string changed = whole, read_as;
        changed[at] = static_cast<char>(changed[at] ^ 1 << bit);
        if (!Survives(kind.format, changed, &read_as)) continue;
        EXPECT_EQ(read_as, original) << kind.file << " byte " << at;
      }
  }
}

TEST_F(HostileData, IsRefusedWithMoreBehindIt) {
  for (const Kind &kind : kinds) {
    const std::string name = kind.file, format = kind.format;
    if (format != "npy" && (format != "idx" || name.find(".gz") != std::string::npos)) continue;
    for (const size_t more : {1, 4, 1000})
      EXPECT_FALSE(Survives(kind.format, read_file(Fixture(name)) + std::string(more, '\0'))) << name;
  }
}

// A gzip file may have several members. zlib's file functions take a damaged later member for the end of the file.
TEST_F(HostileData, IsRefusedWhereALaterMemberOfGzipIsCutOrDamaged) {
  const std::string member = read_file(Fixture("from_1.svm.gz")), zeros(1000, '\0');
  std::string once, twice;
  ASSERT_TRUE(Survives("svmlight", member, &once));
  ASSERT_TRUE(Survives("svmlight", member + member, &twice));
  EXPECT_EQ(once.rfind("3 x 4", 0), 0U) << once;
  EXPECT_EQ(twice.rfind("6 x 4", 0), 0U) << twice;
  for (size_t length = 1; length < member.size(); length++)
    EXPECT_FALSE(Survives("svmlight", member + member.substr(0, length))) << length << " bytes of the second member";
  for (size_t at = 0; at < member.size(); at++)
    for (int bit = 0; bit < 8; bit++) {
      std::string changed = member, read_as;
      changed[at] = static_cast<char>(changed[at] ^ 1 << bit);
      if (Survives("svmlight", member + changed, &read_as)) {
        EXPECT_EQ(read_as, twice) << "byte " << at;
      }
    }
  std::string padded;
  for (const size_t n : {1, 2, 1000}) {
    ASSERT_TRUE(Survives("svmlight", member + std::string(n, '\0'), &padded)) << n;
    EXPECT_EQ(padded, once) << n;
  }
  for (const std::string &more :
       {std::string("\n"), std::string("\x1f"), std::string("1 1:2\n"), zeros + "1", zeros + member})
    EXPECT_FALSE(Survives("svmlight", member + more)) << more.size();
}

// The binary form, which is mapped and not opened as a matrix: as Python wrote it, and as saved here with checksums.
TEST_F(HostileData, IsReadOrRefusedWhereItIsMapped) {
  for (const char *file : {"fixtures/data/plain.safetensors", "fuzz/corpus/safetensors/categories.safetensors"}) {
    const std::string whole = read_file(std::string(DESCENT_SOURCE_DIR "/tests/") + file);
    ASSERT_TRUE(SurvivesMapped(whole)) << file;
    for (size_t length = 0; length < whole.size(); length++)
      EXPECT_FALSE(SurvivesMapped(whole.substr(0, length))) << file << " cut to " << length << " bytes";
    for (size_t at = 0; at < whole.size(); at++)
      for (const int value : {0, 1, 0x7f, 0x80, 0xff, whole[at] ^ 1, whole[at] ^ 16}) {
        std::string changed = whole;
        changed[at] = static_cast<char>(value);
        SurvivesMapped(changed);
      }
  }
}

// Each of these takes a separate process, which is slow to start under a sanitizer; zero bytes are mostly unused.
TEST_F(HostileData, IsReadOrRefusedInHdf5WithAnyByteChanged) {
  if (!ReadsHdf5()) {  // then all of it is refused
    const MatrixRead read = ReadMatrix(Fixture("contiguous.h5"), "hdf5");
    EXPECT_EQ(read.status, DESCENT_ERROR_UNSUPPORTED);
    EXPECT_NE(read.error.find("this build does not read HDF5"), std::string::npos) << read.error;
    return;
  }
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  constexpr size_t kStep = 16;
#else
  constexpr size_t kStep = 1;
#endif
  for (const char *file : {"contiguous.h5", "packed.h5"}) {
    const std::string whole = read_file(Fixture(file));
    int refused = 0, tried = 0;
    for (size_t at = 0; at < whole.size(); at++)
      for (const int value : {0, 0xff, whole[at] ^ 1}) {
        if (whole[at] == 0 || ++tried % kStep != 0) continue;
        std::string changed = whole;
        changed[at] = static_cast<char>(value);
        refused += !Survives("hdf5", changed);
      }
    EXPECT_GT(refused, 0) << file;
    for (size_t length = 0; length < whole.size(); length += kStep + length / 64)
      EXPECT_FALSE(Survives("hdf5", whole.substr(0, length))) << file << " cut to " << length << " bytes";
  }
}

}  // namespace
