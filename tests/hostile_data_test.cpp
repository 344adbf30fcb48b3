// Data files that nobody vouches for: cut off at every length, and with every byte changed to several others. Each is
// read as what it says, or refused in one line that names the file; sizes in it cost no more memory than the file can
// fill.
#include <gtest/gtest.h>

#include "data_files.h"
#include "matrix_files.h"

namespace {

struct Kind {
  const char *file;
  bool knows_its_length;  // so that no shorter file can be right
};
// The names carry the format.
const Kind kinds[] = {{"c_order.npy", true},          {"fortran.npy", true},          {"three_fortran.npy", true},
                      {"version_3.npy", true},        {"stored.npz", true},           {"deflated.npz", true},
                      {"single.npz", true},           {"type_0c.idx", true},          {"images-idx3-ubyte", true},
                      {"labels.idx1-ubyte.gz", true}, {"images-idx3-ubyte.gz", true}, {"from_0.svm", false},
                      {"ranked.svm", false},          {"from_1.svm.gz", true}};

class HostileData : public DataFiles {
 protected:
  // Opens and reads the bytes under the fixture's name; false when that was refused, as it should be refused.
  bool Survives(const std::string &name, const std::string &bytes) {
    const MatrixRead read = ReadMatrix(Write(name, bytes), nullptr, 0, 1, 1000);
    if (read.status == DESCENT_OK) {
      EXPECT_GE(read.rows, 1);
      EXPECT_GE(read.columns, 1);
      EXPECT_LE(read.columns, MATRIX_MOST_COLUMNS);
      return true;
    }
    EXPECT_TRUE(read.status == DESCENT_ERROR_DATA || read.status == DESCENT_ERROR_READ ||
                read.status == DESCENT_ERROR_MEMORY || read.status == DESCENT_ERROR_UNSUPPORTED)
        << read.Describe();
    EXPECT_EQ(read.error.find('\n'), std::string::npos) << read.error;
    const bool names_file = read.error.rfind(Path(name), 0) == 0 || read.status == DESCENT_ERROR_MEMORY;
    EXPECT_TRUE(names_file) << read.error;
    return false;
  }
};

TEST_F(HostileData, IsRefusedAtEveryLengthThatIsTooShort) {
  for (const Kind &kind : kinds) {
    const std::string whole = Bytes(Fixture(kind.file));
    ASSERT_TRUE(Survives(kind.file, whole)) << kind.file;
    for (size_t length = 0; length < whole.size(); length++)
      EXPECT_FALSE(Survives(kind.file, whole.substr(0, length)) && kind.knows_its_length)
          << kind.file << " cut to " << length << " bytes";
  }
}

TEST_F(HostileData, IsReadOrRefusedWithAnyByteChanged) {
  for (const Kind &kind : kinds) {
    const std::string whole = Bytes(Fixture(kind.file));
    int refused = 0;
    for (size_t at = 0; at < whole.size(); at++)
      for (const int value : {0, 1, 0x7f, 0x80, 0xff, whole[at] ^ 1, whole[at] ^ 16, int{'9'}, int{'\n'}}) {
        std::string changed = whole;
        changed[at] = static_cast<char>(value);
        if (changed != whole) refused += !Survives(kind.file, changed);
      }
    EXPECT_GT(refused, 0) << kind.file;
  }
}

TEST_F(HostileData, IsRefusedWithMoreBehindIt) {
  for (const char *file : {"c_order.npy", "fortran.npy", "type_0c.idx", "images-idx3-ubyte"})
    for (const size_t more : {1, 4, 1000}) {
      EXPECT_FALSE(Survives(file, Bytes(Fixture(file)) + std::string(more, '\0'))) << file;
    }
}

// Each of these takes a process of its own; where there is a zero there is mostly nothing.
TEST_F(HostileData, IsReadOrRefusedInHdf5WithAnyByteChanged) {
  for (const char *file : {"contiguous.h5", "packed.h5"}) {
    const std::string whole = Bytes(Fixture(file));
    int refused = 0;
    for (size_t at = 0; at < whole.size(); at++)
      for (const int value : {0, 0xff, whole[at] ^ 1}) {
        if (whole[at] == 0) continue;
        std::string changed = whole;
        changed[at] = static_cast<char>(value);
        refused += !Survives(file, changed);
      }
    EXPECT_GT(refused, 0) << file;
    for (size_t length = 0; length < whole.size(); length += 1 + length / 64)
      EXPECT_FALSE(Survives(file, whole.substr(0, length))) << file << " cut to " << length << " bytes";
  }
}

}  // namespace
