// The readers of arrays and sparse text give the values that the programs wrote, or say why not. The files in
// fixtures/data come from NumPy, scikit-learn and h5py: fixtures/make_data.py.
#include <gtest/gtest.h>
#include <zip.h>

#include "data_files.h"
#include "matrix_files.h"

namespace {

constexpr char kX[] = "3 x 3: 0.5 -1 2 | 3 0 0.001 | -7.25 8 65504";
constexpr char kLarge[] = "2 x 3, 2 inexact: 0 1 9007199254740992 | -9.2233720368547758e+18 4.6116860184273879e+18 -3";

class Matrix : public DataFiles {
 protected:
  // The description, with the folders of files taken out.
  std::string Plainly(const MatrixRead &read) const {
    std::string text = Plain(read.Describe());
    const std::string fixtures = Fixture("");
    for (size_t at; (at = text.find(fixtures)) != std::string::npos;) text.erase(at, fixtures.size());
    return text;
  }
};

struct Case {
  const char *file, *expected;
};

TEST_F(Matrix, ReadsNumPysArrays) {
  const Case cases[] = {
      {"c_order.npy", kX},
      {"version_2.npy", kX},
      {"version_3.npy", kX},
      {"fortran.npy", "3 x 3: 0.5 -1 2 | 3 0 0.0010000000474974513 | -7.25 8 65504"},
      {"one_dimension.npy", "3 x 1: 0 | 1 | 1"},
      {"three_dimensions.npy", "2 x 6: 0 1 2 3 4 5 | 6 7 8 9 10 11"},
      {"three_fortran.npy", "2 x 6: 0 1 2 3 4 5 | 6 7 8 9 10 11"},
      {"large.npy", kLarge},
      {"not_finite.npy", "2 x 2: nan inf | -inf 0"},
      {"types.npz:bool", "1 x 2: 1 0"},
  };
  for (const auto &c : cases)
    for (int64_t rows : {1, 2, 100}) EXPECT_EQ(Plainly(ReadMatrix(Fixture(c.file), nullptr, 0, rows)), c.expected);
}

TEST_F(Matrix, ReadsEveryTypeInBothByteOrders) {
  for (const char *type : {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"})
    for (const char *order : {"le", "be"}) {
      const std::string part = std::string("types.npz:") + type + "_" + order;
      EXPECT_EQ(Plainly(ReadMatrix(Fixture(part))), *type == 'u' ? "1 x 2: 3 100" : "1 x 2: -3 100") << part;
    }
}

TEST_F(Matrix, PutsTheArraysOfAnNpzSideBySide) {
  constexpr char with_y[] = "3 x 4, 1 targets: 0.5 -1 2 0 | 3 0 0.001 1 | -7.25 8 65504 1";
  constexpr char with_weights[] = "3 x 5, 1 targets, a weight: 0.5 -1 2 1 0 | 3 0 0.001 0.5 1 | -7.25 8 65504 2 1";
  const Case cases[] = {
      {"stored.npz", with_y},
      {"stored.npz:X", kX},
      {"stored.npz:y", "3 x 1: 0 | 1 | 1"},
      {"deflated.npz", with_weights},
      {"deflated.npz:X", kX},
      {"single.npz", "3 x 3: 0.5 -1 2 | 3 0 0.0010000000474974513 | -7.25 8 65504"},
      {"train_and_test.npz:x_test", "1 x 3: 0.5 -1 2"},
      {"train_and_test.npz",
       "bad data: train_and_test.npz: several arrays, none named X, x or data: 'x_train', 'y_train', 'x_test' (select "
       "one with train_and_test.npz:NAME)"},
      {"stored.npz:Z", "bad data: stored.npz: unknown array 'Z', known: 'X', 'y' (select one with stored.npz:NAME)"},
      {"rows_differ.npz", "bad data: rows_differ.npz: array 'y' has 2 rows, but array X has 3"},
      {"c_order.npy:X", "invalid argument: c_order.npy: cannot select part 'X': only npz and HDF5 files have parts"},
  };
  for (const auto &c : cases) EXPECT_EQ(Plainly(ReadMatrix(Fixture(c.file))), c.expected);
}

TEST_F(Matrix, ReadsIdx) {
  const Case cases[] = {
      {"type_08.idx", "2 x 3: 1 2 3 | 4 5 100"},
      {"type_09.idx", "2 x 3: -1 2 3 | 4 5 100"},
      {"type_0b.idx", "2 x 3: -1 2 3 | 4 5 100"},
      {"type_0c.idx", "2 x 3: -1 2 3 | 4 5 100"},
      {"type_0d.idx", "2 x 3: -1 2 3 | 4 5 100"},
      {"type_0e.idx", "2 x 3: -1 2 3 | 4 5 100"},
      {"images-idx3-ubyte", "3 x 4: 250 251 252 253 | 254 255 0 1 | 2 3 4 5"},
      {"images-idx3-ubyte.gz", "3 x 4: 250 251 252 253 | 254 255 0 1 | 2 3 4 5"},
      {"labels.idx1-ubyte.gz", "3 x 1: 7 | 0 | 9"},
  };
  for (const auto &c : cases) EXPECT_EQ(Plainly(ReadMatrix(Fixture(c.file))), c.expected);
}

TEST_F(Matrix, ReadsSvmlight) {
  constexpr char from_1[] =
      "3 x 4, 1 targets: 0.5 -1 2 0 | 3 0 0.001 1 | -7.25 8 65504 1 [indices count from 1, as none is 0]";
  const Case fixtures[] = {
      {"from_0.svm",
       "3 x 4, 1 targets: 0.5 -1 2 0 | 3 0 0.001 1 | -7.25 8 65504 1 [indices count from 0, as one is 0]"},
      {"from_1.libsvm", from_1},
      {"from_1.svm.gz", from_1},
      {"ranked.svm",
       "3 x 4, 1 targets: 0.5 -1 2 0 | 3 0 0.001 1 | -7.25 8 65504 1 [indices count from 1, as none is 0; qid is left "
       "out]"},
  };
  for (const auto &c : fixtures) EXPECT_EQ(Plainly(ReadMatrix(Fixture(c.file))), c.expected);

  const struct {
    const char *text, *expected;
    const char *format = nullptr;
    int64_t features = 0;
  } cases[] = {
      {"+1 2:5\n-1 1:7 # 3:9\n", "2 x 3, 1 targets: 0 5 1 | 7 0 -1 [indices count from 1, as none is 0]"},
      {"# head\n\n1.5 2:5 \r\n2\r\n", "2 x 3, 1 targets: 0 5 1.5 | 0 0 2 [indices count from 1, as none is 0]"},
      {"1 1:5", "1 x 2, 1 targets: 5 1 [indices count from 1, as none is 0]"},
      {"1 1:5", "1 x 3, 1 targets: 0 5 1", "svmlight:0"},
      {"1 1:5", "1 x 4, 1 targets: 5 0 0 1 [indices count from 1, as none is 0]", nullptr, 3},
      {"1 4:5", "bad data: t.svm:1: '4:5' is beyond the expected 3 columns, counted from 1", nullptr, 3},
      {"1 0:1 3:5", "bad data: t.svm:1: '3:5' is beyond the expected 3 columns, counted from 0", nullptr, 3},
      {"1 0:5", "bad data: t.svm:1: '0:5' has index 0, but indices count from 1 in format svmlight:1", "svmlight:1"},
      {"1 qid:3 1:nan", "1 x 2, 1 targets: nan 1 [indices count from 1, as none is 0; qid is left out]"},
      {"", "bad data: t.svm: the file has no rows"},
      {"# only\n", "bad data: t.svm: the file has no rows"},
      {"1\n2\n", "bad data: t.svm: no row lists a feature: nothing to learn from"},
      {"1 1:2 1:3", "bad data: t.svm:1: '1:3' is out of order: the indices of a row must ascend, without duplicates"},
      {"1 1:2\n\n0 3:2 2:3",
       "bad data: t.svm:3: '2:3' is out of order: the indices of a row must ascend, without duplicates"},
      {"1:2 2:3",
       "bad data: t.svm:1: '1:2' is in the place of the label, and no row shows whether it is label:weight (if the "
       "label is unknown, insert 0; else write it as a decimal, 1.0)"},
      // label:weight, as XGBoost reads it: shown by a label that no index can be, or by one that the next index follows
      {"1:0.5 1:3\n0:2 2:1\n",
       "2 x 4, 1 targets, a weight: 3 0 0.5 1 | 0 1 2 0 [indices count from 1, as none is 0; rows have weights, as "
       "label:weight]"},
      {"-1:0.5 3:1.2\n1:2 2:1\n",
       "2 x 5, 1 targets, a weight: 0 0 1.2 0.5 -1 | 0 1 0 2 1 [indices count from 1, as none is 0; rows have weights, "
       "as label:weight]"},
      {"1.0:0.5 3:1.2\n", "1 x 6, 1 targets, a weight: 0 0 0 1.2 0.5 1 [rows have weights, as label:weight]",
       "svmlight:0"},
      {"0:0.5 3:1.2\n", "1 x 5, 1 targets, a weight: 0 0 1.2 0.5 0 [rows have weights, as label:weight]", "svmlight:1"},
      {"4:0 qid:3 5:1\n2:1 qid:3\n",
       "2 x 7, 1 targets, a weight: 0 0 0 0 1 0 4 | 0 0 0 0 0 1 2 [indices count from 1, as none is 0; rows have "
       "weights, as label:weight; qid is left out]"},
      {"0:1 1:2\n3:0.5 4:1\n",
       "bad data: t.svm:1: '0:1' is in the place of the label, and no row shows whether it is label:weight (if the "
       "label is unknown, insert 0; else write it as a decimal, 0.0)"},
      {"1:0.5 1:3\n1 2:3\n",
       "bad data: t.svm:2: '1' has no weight, but the rows before begin with label:weight (add a weight to every row, "
       "or to none)"},
      {"1 1:3\n\n3:0.5 4:3\n",
       "bad data: t.svm:3: '3:0.5' is in the place of the label, but the rows before have no label:weight (if the "
       "label is unknown, insert 0)"},
      {"1:0.5 1:3\n1:-1 2:3\n",
       "bad data: t.svm:2: '1:-1' is in the place of the label (if it is unknown, insert 0; the weight of a "
       "label:weight is finite and >= 0)"},
      {"1:nan 1:3",
       "bad data: t.svm:1: '1:nan' is in the place of the label (if it is unknown, insert 0; the weight of a "
       "label:weight is finite and >= 0)"},
      {"qid:3 1:3",
       "bad data: t.svm:1: 'qid:3' is in the place of the label (if it is unknown, insert 0; the weight of a "
       "label:weight is finite and >= 0)"},
      {"1,2 2:3",
       "bad data: t.svm:1: '1,2' is a list of labels: a row has one (use a CSV file with one column per label)"},
      {"cat 2:3", "bad data: t.svm:1: 'cat' is not a valid label: must be a finite number (number the classes)"},
      {"nan 2:3", "bad data: t.svm:1: 'nan' is not a valid label: must be a finite number (number the classes)"},
      {"1 2", "bad data: t.svm:1: '2' is not of the form index:value"},
      {"1 2:", "bad data: t.svm:1: '2:' has an invalid value: must be a number"},
      {"1 :2", "bad data: t.svm:1: ':2' has no index"},
      {"1 -1:2", "bad data: t.svm:1: '-1:2' has an invalid index: must be an integer >= 0"},
      {"1 1:2 qid:3", "bad data: t.svm:1: 'qid:3' has an invalid index: must be an integer >= 0"},
      {"1 4194305:2", "bad data: t.svm:1: '4194305:2' has an index above 4194304, the maximum number of columns"},
      {"1 99999999999999999999:2",
       "bad data: t.svm:1: '99999999999999999999:2' has an index above 4194304, the maximum number of columns"},
  };
  for (const auto &c : cases)
    EXPECT_EQ(Plainly(ReadMatrix(Write("t.svm", c.text), c.format, c.features)), c.expected) << c.text;
}

TEST_F(Matrix, ReadsSvmlightLinesLongerThanItsBuffer) {
  std::string text = "1";
  double sum = 0;
  for (int i = 1; i <= 60000; i++) {
    text += " " + std::to_string(i) + ":" + std::to_string(i % 7);
    sum += i % 7;
  }
  const MatrixRead read = ReadMatrix(Write("t.svm", text + "\n2 3:1\n" + text));
  ASSERT_EQ(read.columns, 60001) << read.error;
  ASSERT_EQ(read.rows, 3);
  for (int64_t row : {0, 2}) {
    double got = 0;
    for (int64_t c = 0; c < 60000; c++) got += read.cells[static_cast<size_t>(row * read.columns + c)];
    EXPECT_EQ(got, sum);
  }
}

TEST_F(Matrix, ReadsHdf5) {
  const Case cases[] = {
      {"contiguous.h5",
       "3 x 5, 1 targets, a weight: 0.5 -1 2 1 0 | 3 0 0.001 0.5 1 | -7.25 8 65504 2 1 [not read: 'remark']"},
      {"contiguous.h5:X", kX},
      {"contiguous.h5:/y", "3 x 1: 0 | 1 | 1"},
      {"packed.h5",
       "8 x 5: 0 1 2 3 4 | 5 6 7 8 9 | 10 11 12 13 14 | 15 16 17 18 19 | 20 21 22 23 24 | 25 26 27 28 29 | 30 31 32 "
       "33 34 | 35 36 37 38 39"},
      {"several.h5",
       "bad data: several.h5: several datasets, none named X, x or data: 'a', 'b', 'c' (select one with "
       "several.h5:NAME)"},
      {"several.h5:a", "2 x 6: 0 1 2 3 4 5 | 6 7 8 9 10 11"},
      {"several.h5:b", "2 x 1: 1 | 0"},
      {"several.h5:c", kLarge},
      {"several.h5:z",
       "bad data: several.h5: dataset 'z' is not an array of numbers of at most 64 bits: it holds complex numbers "
       "(store it as numbers, or select another dataset with several.h5:NAME)"},
      {"several.h5:scalar",
       "bad data: several.h5: dataset 'scalar' is not an array of numbers of at most 64 bits: it holds a single number "
       "(store it as numbers, or select another dataset with several.h5:NAME)"},
      {"several.h5:q",
       "bad data: several.h5: dataset 'q' does not exist, is in another file, or cannot be opened (list the datasets "
       "with h5ls -r)"},
  };
  if (!ReadsHdf5()) {
    EXPECT_EQ(Plainly(ReadMatrix(Fixture("contiguous.h5"))), WithoutHdf5("contiguous.h5"));
    return;
  }
  for (const auto &c : cases)
    for (int64_t rows : {1, 3, 100}) EXPECT_EQ(Plainly(ReadMatrix(Fixture(c.file), nullptr, 0, rows)), c.expected);
}

std::string Header(const std::string &dictionary, const std::string &data = std::string(24, '\0')) {
  std::string text = std::string("\x93NUMPY\x01\x00", 8);
  text += static_cast<char>(dictionary.size());
  text += '\0';
  return text + dictionary + data;
}

TEST_F(Matrix, NamesTheArraysOfAnNpzThatItDoesNotRead) {
  const std::string array = Header("{'descr':'<f8','fortran_order':False,'shape':(1,3)}");
  int error = 0;
  zip_t *zip = zip_open(Path("x.npz").c_str(), ZIP_CREATE, &error);
  ASSERT_NE(zip, nullptr);
  for (const char *name : {"data.npy", "class_names.npy", "Y.npy", "sample_weights", "x/y.npy", "x.npy"})
    zip_file_add(zip, name, zip_source_buffer(zip, array.data(), array.size(), 0), 0);
  ASSERT_EQ(zip_close(zip), 0);
  EXPECT_EQ(Plainly(ReadMatrix(Path("x.npz"))), "1 x 3: 0 0 0 [not read: 'data', 'Y', 'sample_weights', 'x/y']");
  EXPECT_EQ(Plainly(ReadMatrix(Path("x.npz:data"))), "1 x 3: 0 0 0");
}

TEST_F(Matrix, RefusesNonNumericAndTruncatedArrays) {
  const Case fixtures[] = {
      {"objects.npy",
       "bad data: objects.npy: unsupported element type '|O', Python objects (convert the array to numbers with "
       ".astype)"},
      {"complex.npy",
       "bad data: complex.npy: unsupported element type '<c16', complex numbers (convert the array to numbers with "
       ".astype)"},
      {"texts.npy",
       "bad data: texts.npy: unsupported element type '<U2', text (convert the array to numbers with .astype)"},
      {"structured.npy",
       "bad data: structured.npy: structured arrays are not supported (save the fields as one array of numbers)"},
      {"scalar.npy", "bad data: scalar.npy: a single number, not an array of rows (give a 1-D or 2-D array)"},
      {"empty.npy", "bad data: empty.npy: the array has no elements"},
  };
  for (const auto &c : fixtures) EXPECT_EQ(Plainly(ReadMatrix(Fixture(c.file))), c.expected);

  constexpr char six[] = "2 x 3: 0 0 0 | 0 0 0";
  const struct {
    std::string bytes;
    const char *expected;
  } cases[] = {
      {Header("{'descr':'<f4','fortran_order':False,'shape':(2,3)}"), six},
      {Header("{ \"shape\" : ( 2L , 3L , ) , 'fortran_order' : True , 'descr' : '=f4' , }  \n"), six},
      {Header("{'descr':'<f4','fortran_order':False,'shape':(2,3)}", "x"),
       "bad data: t.npy: byte 61: 2 x 3 elements of 4 bytes do not fit in the remaining 1 bytes (is the file "
       "truncated?)"},
      {Header("{'descr':'<f4','fortran_order':False,'shape':(1,3)}"),
       "bad data: t.npy: byte 73: 12 bytes after the array (save the file again)"},
      {Header("{'descr':'<f4','fortran_order':False,'shape':(4611686018427387904,4)}"),
       "bad data: t.npy: byte 79: 4611686018427387904 x 4 elements of 4 bytes do not fit in the remaining 24 bytes (is "
       "the file truncated?)"},
      {Header("{'descr':'<f4','fortran_order':False,'shape':(99999999999999999999,3)}"),
       "bad data: t.npy: byte 74: dimension out of range at '99,3)}' (save the file again with numpy.save)"},
      {Header("{'descr':'<f4','fortran_order':False,'shape':(2,3037000500,3037000500)}"),
       "bad data: t.npy: 9223372036854775807 columns exceed the maximum of 4194304"},
      {Header("{'descr':'<f4','fortran_order':False,'shape':(-2,3)}"),
       "bad data: t.npy: byte 56: expected a dimension at '-2,3)}' (save the file again with numpy.save)"},
      {Header("{'descr':'<f4','fortran_order':False,'shape':(6)}"),
       "bad data: t.npy: byte 58: expected ',' after a single dimension at '}' (save the file again with numpy.save)"},
      {Header("{'descr':'<f4','fortran_order':False}"),
       "bad data: t.npy: byte 47: descr, fortran_order or shape is missing at '' (save the file again with "
       "numpy.save)"},
      {Header("{'descr':'<f4','descr':'<f4'}"),
       "bad data: t.npy: byte 25: duplicate name at ''descr':'<f4'}' (save the file again with numpy.save)"},
      {Header("{'descr':'<f4','more':1}"),
       "bad data: t.npy: byte 25: unknown name at ''more':1}' (save the file again with numpy.save)"},
      {Header("{'descr':'<f4','fortran_order':0}"),
       "bad data: t.npy: byte 41: expected True or False at '0}' (save the file again with numpy.save)"},
      {Header("{'descr':'<f3','fortran_order':False,'shape':(2,3)}"),
       "bad data: t.npy: unsupported element type '<f3' (convert the array to numbers with .astype)"},
      {Header("{'descr':'|f4','fortran_order':False,'shape':(2,3)}"),
       "bad data: t.npy: unsupported element type '|f4' (convert the array to numbers with .astype)"},
      {Header("{'descr':'<f\\x34','fortran_order':False,'shape':(2,3)}"),
       "bad data: t.npy: byte 19: invalid string at ''<f\\x34','fortra' (save the file again with numpy.save)"},
      {"\x93NUMPY\x04" + std::string(20, '\0'),
       "bad data: t.npy: byte 6: unsupported .npy version 4.0 (1.0 to 3.0 are supported)"},
      {"\x93NUMPY\x02" + std::string(1, '\0') + "\xff\xff\xff\xff" + std::string(20, '\0'),
       "bad data: t.npy: byte 8: a header of 4294967295 bytes in a file of 32 (is it truncated?)"},
      {"PK", "bad data: t.npy: 2 bytes: too short for a .npy file (is it truncated?)"},
      {"1,2,3,4,5,6", "bad data: t.npy: byte 0: not a .npy file (choose another format)"},
  };
  for (const auto &c : cases) EXPECT_EQ(Plainly(ReadMatrix(Write("t.npy", c.bytes))), c.expected);
  EXPECT_EQ(Plainly(ReadMatrix(Path("none.npy"))), "cannot read: none.npy: cannot read: No such file or directory");
  EXPECT_EQ(Plainly(ReadMatrix(Path("none.npz"))), "cannot read: none.npz: cannot read: No such file or directory");
  EXPECT_EQ(Plainly(ReadMatrix(Path("none.idx"))), "cannot read: none.idx: cannot read: No such file or directory");
}

// More rows than are held at a time: the value of a cell is its index.
TEST_F(Matrix, ReadsArraysLargerThanItsWindowInEitherOrder) {
  constexpr int64_t kRows = 400000, kColumns = 3;
  for (const bool by_column : {false, true}) {
    std::vector<double> values(kRows * kColumns);
    for (int64_t r = 0; r < kRows; r++)
      for (int64_t c = 0; c < kColumns; c++)
        values[static_cast<size_t>(by_column ? c * kRows + r : r * kColumns + c)] =
            static_cast<double>(r * kColumns + c);
    const std::string bytes(reinterpret_cast<const char *>(values.data()), values.size() * sizeof values[0]);
    const MatrixRead read =
        ReadMatrix(Write("large.npy", Header(std::string("{'descr':'<f8','fortran_order':") +
                                                 (by_column ? "True" : "False") + ",'shape':(400000,3)}",
                                             bytes)),
                   nullptr, 0, 777);
    ASSERT_EQ(read.status, DESCENT_OK) << read.error;
    int64_t wrong = 0;
    for (size_t i = 0; i < read.cells.size(); i++) wrong += read.cells[i] != static_cast<double>(i);
    EXPECT_EQ(wrong, 0);
    EXPECT_EQ(read.cells.size(), values.size());
  }
}

TEST_F(Matrix, RefusesEncryptedArrays) {
  const std::string path = Path("secret.npz"), bytes = read_file(Fixture("c_order.npy"));
  int error = 0;
  zip_t *zip = zip_open(path.c_str(), ZIP_CREATE, &error);
  ASSERT_NE(zip, nullptr);
  zip_file_add(zip, "X.npy", zip_source_buffer(zip, bytes.data(), bytes.size(), 0), 0);
  ASSERT_EQ(zip_file_set_encryption(zip, 0, ZIP_EM_AES_128, "secret"), 0);
  ASSERT_EQ(zip_close(zip), 0);
  EXPECT_EQ(Plainly(ReadMatrix(path)), "bad data: secret.npz: array 'X': it is encrypted (save it without a password)");
}

TEST_F(Matrix, RefusesTruncatedIdx) {
  const struct {
    std::string bytes;
    const char *expected;
  } cases[] = {
      {std::string("\0\0\x08\x01\0\0\0\x02", 8) + "ab", "2 x 1: 97 | 98"},
      {std::string("\0\0\x08\x01\0\0\0\x02", 8) + "a",
       "bad data: t.idx: byte 8: expected 2 x 1 elements of 1 bytes, but 1 bytes follow (is it truncated?)"},
      {std::string("\0\0\x08\x01\0\0\0\x02", 8) + "abc",
       "bad data: t.idx: byte 8: expected 2 x 1 elements of 1 bytes, but 3 bytes follow (is it truncated?)"},
      {std::string("\0\0\x08\x01\0\0\0", 7),
       "bad data: t.idx: byte 7: the file ends here, 1 bytes too early (is it truncated?)"},
      {std::string("\0\0\x0a\x01\0\0\0\x02", 8),
       "bad data: t.idx: byte 0: 00 00 0a: not an IDX file (choose another format)"},
      {std::string("\0\0\x08\0\0\0\0\x02", 8), "bad data: t.idx: byte 3: no dimensions"},
      {std::string("\0\0\x08\x01\0\0\0\0", 8), "bad data: t.idx: the array has no elements"},
      {std::string("\0\0\x08\x03\0\0\0\x01\xff\xff\xff\xff\xff\xff\xff\xff", 16),
       "bad data: t.idx: byte 8: 4194305 columns exceed the maximum of 4194304"},
  };
  for (const auto &c : cases) EXPECT_EQ(Plainly(ReadMatrix(Write("t.idx", c.bytes))), c.expected);
}

// ---- through descent_dataset_read ----------------------------------------------------------------------------------

TEST_F(Matrix, BecomesADatasetByEndingContentOrWish) {
  constexpr char binary[] = "-,-,- -> - binary 0,1: 0.5,-1,2>0 3,0,0.00100000005>1 -7.25,8,65504>1";
  const auto copy = [this](const char *fixture, const char *name) { return Write(name, read_file(Fixture(fixture))); };
  const struct {
    std::string path;
    const char *format, *target_file;
  } cases[] = {
      {Fixture("stored.npz"), nullptr, nullptr},
      {Fixture("from_0.svm"), nullptr, nullptr},
      {Fixture("c_order.npy"), nullptr, "one_dimension.npy"},
      {Fixture("stored.npz:X"), nullptr, "stored.npz:y"},
      {copy("stored.npz", "no_ending"), nullptr, nullptr},
      {copy("from_1.svm.gz", "a9a"), nullptr, nullptr},
      {copy("c_order.npy", "array"), nullptr, "one_dimension.npy"},
      {copy("from_1.libsvm", "t.csv"), "svmlight", nullptr},
      {copy("from_1.libsvm", "t:1.SVM"), nullptr, nullptr},
  };
  for (const auto &c : cases) {
    descent_dataset_options options = descent_dataset_options_default();
    const std::string targets = c.target_file ? Fixture(c.target_file) : "";
    options.format = c.format;
    if (c.target_file) options.target_file = targets.c_str();
    options.task = DESCENT_TASK_BINARY;
    EXPECT_EQ(Read(c.path, options), binary) << c.path;
  }
  descent_dataset_options options = descent_dataset_options_default();
  const std::string labels = Fixture("labels.idx1-ubyte.gz");
  options.target_file = labels.c_str();
  options.task = DESCENT_TASK_CLASSES;
  EXPECT_EQ(Read(Fixture("images-idx3-ubyte.gz"), options),
            "-,-,-,- -> - classes 0,7,9: 250,251,252,253>1 254,255,0,1>0 2,3,4,5>2");
  options.format = "xls";
  EXPECT_EQ(Read(Fixture("stored.npz"), options),
            "invalid argument: unknown format 'xls' (known: csv, npy, npz, idx, svmlight, hdf5, safetensors; "
            "svmlight:0 and svmlight:1 state the first index)");
}

}  // namespace
