// HDF5 files that h5py seldom writes: links and datasets that point outside the file, shapes that fit no table,
// non-numeric types. Each is refused with its reason, and nothing outside the file is touched.
#include <gtest/gtest.h>
#ifdef DESCENT_HDF5_BUILT
#include <hdf5.h>
#include <sys/stat.h>

#include "data_files.h"
#include "matrix_files.h"
extern "C" {
#include "data/hdf5_file.h"
}

namespace {

using Shape = std::vector<hsize_t>;

// A file being written; identifiers are closed with it.
class Made {
 public:
  explicit Made(const std::string &path)
      : file_(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT)), made_(H5Pcreate(H5P_DATASET_CREATE)) {}
  ~Made() {
    H5Pclose(made_);
    H5Fclose(file_);
  }
  Made(const Made &) = delete;
  Made &operator=(const Made &) = delete;

  // A dataset of the type, filled with 0, 1, 2 .. if requested.
  void Add(const char *name, const Shape &shape, bool filled = true, hid_t type = H5T_NATIVE_DOUBLE) const {
    size_t n = 1;
    for (hsize_t d : shape) n *= d;
    const hid_t space =
        shape.empty() ? H5Screate(H5S_NULL) : H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr);
    const hid_t dataset = H5Dcreate2(file_, name, type, space, H5P_DEFAULT, made_, H5P_DEFAULT);
    std::vector<double> values(filled ? n : 0);
    for (size_t i = 0; i < values.size(); i++) values[i] = static_cast<double>(i);
    if (filled) {
      EXPECT_GE(H5Dwrite(dataset, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), 0);
    }
    H5Dclose(dataset);
    H5Sclose(space);
  }
  void Group(const char *name) const { H5Gclose(H5Gcreate2(file_, name, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT)); }
  void Alias(const char *name, const char *other) const {
    EXPECT_GE(H5Lcreate_hard(file_, name, file_, other, H5P_DEFAULT, H5P_DEFAULT), 0);
  }
  void Chunks(const Shape &chunk) const {
    EXPECT_GE(H5Pset_chunk(made_, static_cast<int>(chunk.size()), chunk.data()), 0);
  }
  void Flush() const { H5Fflush(file_, H5F_SCOPE_GLOBAL); }
  void Link(const char *to, const char *name) const {
    EXPECT_GE(H5Lcreate_external(to, "/X", file_, name, H5P_DEFAULT, H5P_DEFAULT), 0);
  }
  void StoreIn(const std::string &path) const { EXPECT_GE(H5Pset_external(made_, path.c_str(), 0, H5F_UNLIMITED), 0); }
  void View(const std::string &path, const Shape &shape) const {
    const hid_t space = H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr);
    EXPECT_GE(H5Pset_virtual(made_, space, path.c_str(), "/X", space), 0);
    H5Sclose(space);
  }

 private:
  hid_t file_, made_;
};

class Hdf5 : public DataFiles {};

constexpr char kNotInside[] =
    "bad data: x.h5: dataset 'X' does not exist, is in another file, or cannot be opened (list the datasets with h5ls "
    "-r)";

// The other file is a pipe: opening it would block.
TEST_F(Hdf5, FollowsNoLinkOutOfTheFile) {
  ASSERT_EQ(mkfifo(Path("pipe").c_str(), 0600), 0);
  Made(Path("other.h5")).Add("X", {2, 2});
  for (const char *to : {"other.h5", "pipe"}) {
    Made(Path("x.h5")).Link(to, "X");
    EXPECT_EQ(Plain(ReadMatrix(Path("x.h5:X")).Describe()), kNotInside) << to;
    EXPECT_EQ(Plain(ReadMatrix(Path("x.h5")).Describe()), kNotInside) << to;
  }
}

TEST_F(Hdf5, RefusesDatasetsInOtherFiles) {
  const std::string expected =
      "bad data: x.h5: dataset 'X' is in another file, which is not followed (copy it into this file with h5copy)";
  Made(Path("other.h5")).Add("X", {2, 2});
  std::ofstream(Path("raw"), std::ios::binary) << std::string(32, '\0');
  {
    Made made(Path("x.h5"));
    made.StoreIn(Path("raw"));
    made.Add("X", {2, 2}, false);
  }
  EXPECT_EQ(Plain(ReadMatrix(Path("x.h5")).Describe()), expected);
  {
    Made made(Path("x.h5"));
    made.View(Path("other.h5"), {2, 2});
    made.Add("X", {2, 2}, false);
  }
  EXPECT_EQ(Plain(ReadMatrix(Path("x.h5")).Describe()), expected);
}

TEST_F(Hdf5, RefusesShapesThatFitNoTable) {
  struct Part {
    const char *name;
    Shape shape;
    bool filled;
  };
  const struct {
    std::vector<Part> parts;
    const char *expected;
  } cases[] = {
      {{{"X", {0, 3}, false}}, "dataset 'X' has no elements"},
      {{{"X", {1, (1 << 22) + 1}, false}}, "dataset 'X' has more than 4194304 columns"},
      {{{"X", {2000, 8}, false}}, "dataset 'X' stores almost no data for its size (was it written?)"},
      {{{"X", {1 << 30, 8}, false}}, "dataset 'X' stores almost no data for its size (was it written?)"},
      {{{"X", {1ULL << 62, 8}, false}}, "dataset 'X' is too large"},
      {{{"X", {3, 2}, true}, {"y", {2}, true}}, "the targets have 2 rows, but the inputs have 3"},
      {{{"X", {3, 2}, true}, {"weights", {4}, true}}, "the weights have 4 rows, but the inputs have 3"},
      {{{"X", {3, 2}, true}, {"w", {3, 2}, true}}, "the weights have 2 columns, not 1"},
      {{{"X", {1, 1 << 22}, true}, {"y", {1}, true}}, "4194305 columns exceed the maximum of 4194304"},
      {{{"X", {}, false}},
       "dataset 'X' is not an array of numbers of at most 64 bits: it holds nothing (store it as numbers, or select "
       "another dataset with x.h5:NAME)"},
      {{{"X", {3, 2}, true}, {"y", {0}, false}}, "dataset 'y' has no elements"},
  };
  for (const auto &c : cases) {
    {
      const Made made(Path("x.h5"));
      for (const Part &part : c.parts) made.Add(part.name, part.shape, part.filled);
    }
    EXPECT_EQ(Plain(ReadMatrix(Path("x.h5")).Describe()), std::string("bad data: x.h5: ") + c.expected);
  }
}

// A row passes through as many chunks as it has columns, and the rows of a chunk take more than a window: with windows of
// 4 MB each chunk would be unpacked 18 times.
TEST_F(Hdf5, UnpacksAChunkAtMostAboutFourTimes) {
  const Shape shape{9000, 1000};
  {
    const Made made(Path("x.h5"));
    made.Chunks({9000, 1});
    made.Add("X", shape);
  }
  hdf5_shape found{};
  hdf5_file *file = nullptr;
  int64_t rows = 0, inexact = 0;
  ASSERT_EQ(hdf5_file_open(Path("x.h5").c_str(), nullptr, &found, &file), DESCENT_OK) << descent_last_error();
  std::vector<double> cells(9000 * 1000);
  EXPECT_EQ(hdf5_file_read(file, 9000, cells.data(), &rows, &inexact), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(rows, 2251);
  hdf5_file_close(file);
}

TEST_F(Hdf5, TakesInputsWeightsAndTargetsByTheirNames) {
  {
    const Made made(Path("x.h5"));
    made.Add("data", {2, 2}, true, H5T_NATIVE_FLOAT);
    made.Add("sample_weight", {2}, true, H5T_NATIVE_UINT8);
    made.Add("labels", {2}, true, H5T_STD_I16BE);
  }
  for (int64_t rows : {1, 2})
    EXPECT_EQ(ReadMatrix(Path("x.h5"), nullptr, 0, rows).Describe(), "2 x 4, 1 targets, a weight: 0 1 0 0 | 2 3 1 1");
}

// The types of a dataset that is not read, each created in a file and closed by it.
hid_t Text() {
  const hid_t type = H5Tcopy(H5T_C_S1);
  H5Tset_size(type, 8);
  return type;
}
hid_t Record(const char *first, const char *second) {
  const hid_t type = H5Tcreate(H5T_COMPOUND, 16);
  H5Tinsert(type, first, 0, H5T_NATIVE_DOUBLE);
  H5Tinsert(type, second, 8, H5T_NATIVE_DOUBLE);
  return type;
}

// What has a wanted name is read or refused: nothing else takes its place, and nothing is left out without a word.
TEST_F(Hdf5, RefusesWhatHasAWantedNameAndHoldsNoNumbers) {
  const struct {
    hid_t type;
    const char *holds;
  } types[] = {{Text(), "text"},
               {Record("r", "i"), "complex numbers"},
               {Record("age", "size"), "records of several fields"},
               {H5Tvlen_create(H5T_NATIVE_DOUBLE), "lists of different lengths"},
               {H5Tcopy(H5T_STD_REF_OBJ), "references to other objects"},
               {H5Tcopy(H5T_NATIVE_LDOUBLE), "larger numbers"}};
  const struct {
    std::vector<const char *> numbers;
    const char *name;
  } files[] = {{{"other"}, "X"}, {{"other"}, "data"},     {{"X"}, "y"}, {{"X", "w"}, "labels"}, {{"X", "y"}, "weights"},
               {{"other"}, "y"}, {{"inputs"}, "weights"}, {{}, "y"}};
  for (const auto &type : types) {
    for (const auto &file : files) {
      {
        const Made made(Path("x.h5"));
        for (const char *name : file.numbers) made.Add(name, {2});
        made.Add(file.name, {2}, false, type.type);
      }
      EXPECT_EQ(Plain(ReadMatrix(Path("x.h5")).Describe()),
                std::string("bad data: x.h5: dataset '") + file.name +
                    "' is not an array of numbers of at most 64 bits: it holds " + type.holds +
                    " (store it as numbers, or select another dataset with x.h5:NAME)");
    }
    H5Tclose(type.type);
  }
}

TEST_F(Hdf5, RefusesAGroupWithAWantedName) {
  for (const char *name : {"X", "y", "weights"}) {
    {
      const Made made(Path("x.h5"));
      made.Add("data", {2, 3});
      made.Group(name);
    }
    EXPECT_EQ(Plain(ReadMatrix(Path("x.h5")).Describe()),
              std::string("bad data: x.h5: '") + name +
                  "' is a group, not a dataset (select one inside it with x.h5:" + name + "/NAME)");
  }
  const Made made(Path("x.h5"));
  made.Group("data");
  made.Add("data/values", {1, 2});
  made.Flush();
  EXPECT_EQ(ReadMatrix(Path("x.h5")).Describe(), "1 x 2: 0 1");  // the only dataset
}

TEST_F(Hdf5, NamesWhatItDoesNotRead) {
  const hid_t text = Text();
  {
    const Made made(Path("x.h5"));
    made.Add("X", {1, 2});
    made.Add("y", {1});
    made.Add("target", {1});
    made.Add("Y", {1});
    made.Group("more");
    made.Add("more/X", {1});
    for (const char *name : {"remark", "input_names"}) made.Add(name, {1}, false, text);  // the second is our own
    made.Alias("X", "inputs");
  }
  EXPECT_EQ(ReadMatrix(Path("x.h5")).Describe(),
            "1 x 3, 1 targets: 0 1 0 [not read: 'Y', 'more/X', 'remark', 'target']");
  EXPECT_EQ(ReadMatrix(Path("x.h5:X")).Describe(), "1 x 2: 0 1");
  {
    const Made made(Path("x.h5"));
    made.Add("inputs", {1, 2});
    made.Add("remark", {1}, false, text);
  }
  EXPECT_EQ(ReadMatrix(Path("x.h5")).Describe(), "1 x 2: 0 1 [not read: 'remark']");
  H5Tclose(text);
}

}  // namespace
#endif
