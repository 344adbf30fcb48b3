// Datasets that readers refuse because they are wrong from the start, neither truncated nor altered, or are requested
// in the wrong way; and unusual ones that they accept.
#include <sys/stat.h>
#include <zip.h>

#include <functional>

#include "saved_data.h"

namespace {

using Options = descent_dataset_options;
using Change = std::function<void(Options *)>;

class DatasetRefusals : public SavedData {
 protected:
  std::string ReadWith(const std::string &path, const Change &change = nullptr) const {
    Options options = kDefaults;
    if (change) change(&options);
    return Read(path, options);
  }
  // A trained network's file is not needed: the first layer says how many inputs, the data all else.
  Network Like(const std::string &csv, const char *target, descent_loss loss, int64_t outputs = 1) const {
    const Dataset d = OpenTarget(csv, target);
    descent_network_options shape = descent_network_options_default();
    shape.inputs = descent_dataset_inputs(d.get());
    shape.layers = 1;
    shape.widths = &outputs;
    shape.loss = loss;
    descent_network *network = nullptr;
    EXPECT_EQ(descent_network_create(&shape, &network), DESCENT_OK) << descent_last_error();
    EXPECT_EQ(
        descent_network_fit_preprocessing(network, d.get(), DESCENT_NORMALIZE_STANDARD, DESCENT_IMPUTE_MEAN, false),
        DESCENT_OK)
        << descent_last_error();
    return Network(network);
  }
};

// ---- which format it is ----

TEST_F(DatasetRefusals, KnowTheFormatByTheContentWhereTheNameDoesNotSay) {
  const struct {
    std::string bytes;
    const char *expected;
  } cases[] = {
      {"# a comment\n\n1 1:2 2:3\n-1 2:4\n", "-,- -> - binary -1,1: 2,3>1 0,4>0"},
      {"1 qid:3 1:2\n0 qid:3 1:1\n", "- -> - binary 0,1: 2>1 1>0"},
      {"# only a comment", "bad data: data:1: a header without rows below it (add rows)"},
      {"1 x:2\n", "bad data: data:1: a header without rows below it (add rows)"},
      {"1 qid\n0 qie:3\n", "1 qid=0 qie:3 -> - auto: 1"},
      {"1\t1:2\n0\t1:3\n", "- -> - binary 0,1: 2>1 3>0"},
      {"word 1:2\n", "bad data: data:1: a header without rows below it (add rows)"},
      {"1\n2\n", "- -> - auto: 1 2"},
      {"", "bad data: data: the file is empty"},
      {std::string("PK\5\6") + std::string(18, '\0'), "bad data: data: the zip file is empty"},
      {std::string("\0\0\x8\1\0\0\0\2ab", 10), "- -> - auto: 97 98"},
      {std::string("\0\0\x8\2\0\0\0\2\0\0\0\1ab", 14), "- -> - auto: 97 98"},
      {std::string("\0\0\x7\1\0\0\0\2ab", 10),
       "bad data: data:1: a NUL byte: this is not text, or it is UTF-16 (save the file as UTF-8)"},
      {std::string("\0\0\x8\0\0\0\0\2ab", 10),
       "bad data: data:1: a NUL byte: this is not text, or it is UTF-16 (save the file as UTF-8)"},
      {std::string("\x93NUMPY") + std::string(10, ' '),
       "bad data: data: byte 6: unsupported .npy version 32.32 (1.0 to 3.0 are supported)"},
      {std::string("\x89HDF\r\n\x1a\n"), "bad data: data: not an HDF5 file, damaged, or open for writing elsewhere"},
      {std::string("\2\0\0\0\0\0\0\0{\"", 10), "bad data: data: byte 9: invalid JSON"},
      {read_file(Fixture("contiguous.h5")), "-,-,- -> - binary 0,1: 0.5,-1,2>0 3,0,0.00100000005>1 -7.25,8,65504>1"},
      {read_file(Fixture("single.npz")), "-,-,- -> - auto: 0.5,-1,2 3,0,0.00100000005 -7.25,8,65504"},
  };
  for (const auto &c : cases) {
    const bool refused = !ReadsHdf5() && c.bytes.compare(0, 4, "\x89HDF") == 0;
    EXPECT_EQ(ReadWith(Write("data", c.bytes)), refused ? WithoutHdf5("data") : c.expected);
  }
  const std::string broken = ReadWith(Write("data", "PK\3\4broken")); /* in libzip's words, which change */
  EXPECT_EQ(broken.rfind("bad data: data: cannot read: ", 0), 0U) << broken;
  EXPECT_NE(broken.find("zip archive"), std::string::npos) << broken;
}

TEST_F(DatasetRefusals, WhatIsNotARegularFile) {
  for (const char *pipe : {"pipe.npy", "pipe.npz", "pipe.svm", "pipe.h5", "pipe.safetensors"})
    ASSERT_EQ(mkfifo(Path(pipe).c_str(), 0600), 0);
  std::filesystem::create_directory(Path("folder.csv"));
  std::filesystem::create_directory(Path("folder.npy"));
  std::filesystem::create_directory(Path("folder.npz"));
  std::filesystem::create_directory(Path("folder.svm"));
  std::filesystem::create_directory(Path("folder.h5"));
  std::filesystem::create_directory(Path("folder.safetensors"));
  for (const auto &[name, expected] :
       {std::pair("folder.csv", "cannot read: folder.csv: cannot read: Is a directory"),
        {"folder.npy", "cannot read: folder.npy: not a regular file, which .npy requires"},
        {"folder.npz", "bad data: folder.npz: cannot read: Operation not supported"},
        {"folder.svm", "cannot read: folder.svm: cannot read: Is a directory"},
        {"folder.h5", "bad data: folder.h5: not an HDF5 file, damaged, or open for writing elsewhere"},
        {"folder.safetensors", "cannot read: folder.safetensors: cannot read: Is a directory"},
        {"pipe.npy", "cannot read: pipe.npy: not a regular file, which .npy requires (save it as a file)"},
        {"pipe.npz", "cannot read: pipe.npz: not a regular file, which .npz requires (save it as a file)"},
        {"pipe.svm",
         "cannot read: pipe.svm: not a regular file, which svmlight requires, as it is read twice (save it as a file)"},
        {"pipe.h5", "cannot read: pipe.h5: not a regular file, which HDF5 requires (save it as a file)"},
        {"pipe.safetensors", "cannot read: pipe.safetensors: cannot read: not a regular file"},
        {"nosuch.npz", "cannot read: nosuch.npz: cannot read: No such file or directory"},
        {"nosuch.npy", "cannot read: nosuch.npy: cannot read: No such file or directory"},
        {"nosuch.h5", "cannot read: nosuch.h5: cannot read: No such file or directory"},
        {"a:b:c", "cannot read: a:b:c: cannot read: No such file or directory"}}) {
    const bool refused = !ReadsHdf5() && std::filesystem::path(name).extension() == ".h5";
    EXPECT_EQ(ReadWith(Path(name)), refused ? WithoutHdf5(name) : expected);
  }
}

// ---- requests ----

TEST_F(DatasetRefusals, InvalidOptions) {
  const std::string csv = Write("t.csv", "a,b\n1,no\n2,yes\n");
  const Network binary = Like(csv, "b", DESCENT_LOSS_BINARY_CROSS_ENTROPY);
  static const char *const hole[] = {"a", nullptr};
  const struct {
    Change change;
    const char *expected;
  } cases[] = {
      {[](Options *o) { o->task = static_cast<descent_task>(99); }, "invalid argument: unknown task 99"},
      {[](Options *o) { o->unseen = static_cast<descent_unseen>(99); },
       "invalid argument: unknown policy for unseen categories 99"},
      {[](Options *o) { o->size = 1; },
       "invalid argument: dataset options must start from descent_dataset_options_default()"},
      {[](Options *o) { o->target = "b", o->target_file = "t.csv"; },
       "invalid argument: both a target and a target file are given: choose one"},
      {[](Options *o) { o->ignored = -1; }, "invalid argument: -1 ignored columns, but the list is NULL"},
      {[](Options *o) { o->ignored = 1; }, "invalid argument: 1 ignored columns, but the list is NULL"},
      {[](Options *o) { o->ignore = hole, o->ignored = 2; },
       "invalid argument: ignored columns: entry 1 (from 0) is NULL"},
      {[](Options *o) { o->categorical = hole, o->categoricals = 2; },
       "invalid argument: categorical columns: entry 1 (from 0) is NULL"},
      {[](Options *o) { o->missing = hole, o->missing_texts = 2; },
       "invalid argument: texts of missing cells: entry 1 (from 0) is NULL"},
      {[](Options *o) { o->format = "nosuch"; },
       "invalid argument: unknown format 'nosuch' (known: csv, npy, npz, idx, svmlight, hdf5, safetensors; svmlight:0 "
       "and svmlight:1 state the first index)"},
      {[](Options *o) { o->target = "b", o->weight_column = "b"; },
       "bad data: t.csv:1: a column cannot be both the target and the weight"},
      {[](Options *o) { o->target = "a,nosuch"; }, "bad data: t.csv:1: no column 'nosuch' (known: 'a', 'b')"},
      {[](Options *o) { o->target = "a,b"; },
       "bad data: t.csv:1: every column but the target is ignored: nothing to learn from"},
      {[](Options *o) { o->target = "a,a"; }, "bad data: t.csv:1: column 0 (from 0) is listed twice as a target"},
      {[](Options *o) { o->target = "7"; },
       "bad data: t.csv:1: no column 7: indices are 0 to 1, or -1 to -2 from the end"},
      {[](Options *o) { o->target = "b", o->task = DESCENT_TASK_REGRESSION; },
       "bad data: t.csv:2: column 'b': 'no' is not a number, which regression needs (correct it)"},
      {[&](Options *o) { o->target = "b", o->network = binary.get(), o->task = DESCENT_TASK_REGRESSION; },
       "invalid argument: task regression does not match the network's task binary"},
      {[&](Options *o) { o->target = "b", o->network = binary.get(); }, "a -> b binary no,yes: 1>0 2>1"},
      {[&](Options *o) { o->target = "a", o->network = binary.get(); },
       "bad data: t.csv:1: column 'a' cannot be the target: it is an input of the network (choose another target)"},
  };
  for (const auto &c : cases) EXPECT_EQ(ReadWith(csv, c.change), c.expected);
  descent_dataset *none = nullptr;
  Options options = kDefaults;
  EXPECT_EQ(descent_dataset_read(nullptr, &options, &none), DESCENT_ERROR_ARGUMENT);
  EXPECT_EQ(descent_dataset_read(csv.c_str(), nullptr, &none), DESCENT_ERROR_ARGUMENT);
  EXPECT_EQ(descent_dataset_convert(csv.c_str(), &options, nullptr, &none), DESCENT_ERROR_ARGUMENT);
  const auto take = [](void *, const descent_dataset *) { return 0; };
  EXPECT_EQ(descent_dataset_read_blocks(csv.c_str(), &options, 1, take, nullptr), DESCENT_ERROR_ARGUMENT);
  options.network = binary.get();
  EXPECT_EQ(descent_dataset_read_blocks(csv.c_str(), &options, 1, take, nullptr), DESCENT_ERROR_ARGUMENT);
  options.features_only = true;
  EXPECT_EQ(descent_dataset_read_blocks(csv.c_str(), &options, 0, take, nullptr), DESCENT_ERROR_ARGUMENT);
  EXPECT_EQ(descent_dataset_read_blocks(csv.c_str(), &options, 1, take, nullptr), DESCENT_OK) << descent_last_error();
}

// ---- the binary form, read for a network or with columns in other roles ----

TEST_F(DatasetRefusals, BinaryFilesOfAnotherNetwork) {
  const struct {
    const char *network, *network_target;
    descent_loss loss;
    int64_t outputs;
    const char *file, *file_target;
    const char *expected;
  } cases[] = {
      // Other names, other categories, more columns, columns without names.
      {"a,b,y\n1,2,no\n2,1,yes\n", "y", DESCENT_LOSS_BINARY_CROSS_ENTROPY, 1, "a,c,y\n1,2,no\n2,1,yes\n", "y",
       "bad data: f.safetensors:1: 1 of the 2 columns that the network needs is missing: 'b'"},
      {"a,b,y\n1,2,no\n2,1,yes\n", "y", DESCENT_LOSS_BINARY_CROSS_ENTROPY, 1, "a,b,c,y\n1,2,0,no\n2,1,0,yes\n", "y",
       "a,b -> y binary no,yes: 1,2>0 2,1>1"},
      {"a,b,y\n1,2,no\n2,1,yes\n", "y", DESCENT_LOSS_BINARY_CROSS_ENTROPY, 1, "1,2,0\n2,1,1\n", "-1",
       "bad data: f.safetensors:1: column 2 (from 0): '0' is not one of the network's classes"},
      {"1,2,0\n2,1,1\n", "-1", DESCENT_LOSS_BINARY_CROSS_ENTROPY, 1, "a,b,y\n1,2,0\n2,1,1\n", "y",
       "a,b -> y binary 0,1: 1,2>0 2,1>1"},
      {"a,k,y\n1,r,no\n2,s,yes\n", "y", DESCENT_LOSS_BINARY_CROSS_ENTROPY, 1, "a,k,y\n1,s,no\n2,s,yes\n", "y",
       "a,k=r,k=s -> y binary no,yes: 1,0,1>0 2,0,1>1"},
      {"a,k,y\n1,r,no\n2,s,yes\n", "y", DESCENT_LOSS_BINARY_CROSS_ENTROPY, 1, "a,k,y\n1,5,no\n2,6,yes\n", "y",
       "bad data: f.safetensors:1: column 'k': '5' is a category that the network did not see in training (correct it, "
       "or choose unseen zeros)"},
      // Other targets.
      {"a,y\n1,no\n2,yes\n", "y", DESCENT_LOSS_BINARY_CROSS_ENTROPY, 1, "a,y\n1,2.5\n2,3.5\n", "y",
       "bad data: f.safetensors:1: column 'y': '2.5' is not one of the network's classes"},
      {"a,y\n1,2.5\n2,3.5\n", "y", DESCENT_LOSS_MEAN_SQUARED_ERROR, 1, "a,y\n1,no\n2,yes\n", "y",
       "bad data: f.safetensors:1: column 'y': 'no' is not a number, which regression needs (correct it)"},
      {"a,y,z\n1,2.5,1\n2,3.5,1\n", "y,z", DESCENT_LOSS_MEAN_SQUARED_ERROR, 2, "a,y\n1,2.5\n2,3\n", "y",
       "a -> y regression: 1>2.5 2>3"},
      {"a,y,z\n1,2.5,1\n2,3.5,1\n", "y,z", DESCENT_LOSS_MEAN_SQUARED_ERROR, 2, "a,y,z\n1,2.5,1\n2,3,4\n", "y,z",
       "a -> y regression: 1>2.5&1 2>3&4"},
      {"a,y\n1,p\n2,q\n3,r\n", "y", DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, 3, "a,y\n1,p\n2,q\n", "y",
       "a -> y classes p,q,r: 1>0 2>1"},
      {"a,y\n1,p\n2,q\n3,r\n", "y", DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, 3, "a,y\n1,p\n2,q\n3,t\n", "y",
       "bad data: f.safetensors:3: column 'y': 't' is not one of the network's classes"},
      {"a,y\n1,no\n2,yes\n", "y", DESCENT_LOSS_BINARY_CROSS_ENTROPY, 1, "a\n1\n2\n", nullptr, "a -> - binary: 1 2"},
  };
  for (const auto &c : cases) {
    const Network network = Like(Write("n.csv", c.network), c.network_target, c.loss, c.outputs);
    const Dataset file =
        c.file_target ? OpenTarget(Write("f.csv", c.file), c.file_target) : Open(Write("f.csv", c.file));
    ASSERT_EQ(Save(file.get(), "f.safetensors"), "");
    EXPECT_EQ(ReadWith(Path("f.safetensors"), [&](Options *o) { o->network = network.get(); }), c.expected) << c.file;
  }
}

TEST_F(DatasetRefusals, BinaryFilesDecodedIntoRows) {
  const std::string csv = Write("t.csv", "a,k,w,y,z\n1,r,1,2,3\n,s,2,4,5\n3,r,1,6,7\n");
  Options options = kDefaults;
  options.target = "y,z";
  options.weight_column = "w";
  options.indicators = true;
  ASSERT_EQ(Save(Open(csv, options).get(), "d.safetensors"), "");
  ASSERT_EQ(Save(OpenTarget(Write("p.csv", "1,2,5\n3,4,6\n"), "-1").get(), "plain.safetensors"), "");
  static const char *const a[] = {"a"}, *const none[] = {"nosuch"}, *const dash[] = {"-"}, *const zero[] = {"0"};
  const struct {
    const char *file;
    Change change;
    const char *expected;
  } cases[] = {
      {"d.safetensors", nullptr, "a,a missing,k=r,k=s -> y regression: 1,0,1,0>2&3 nan,1,0,1>4&5 3,0,1,0>6&7"},
      {"d.safetensors", [](Options *o) { o->target = "y"; },
       "bad data: d.safetensors: the file defines its targets (omit the target)"},
      {"d.safetensors", [](Options *o) { o->target = "y,z"; },
       "a,a missing,k=r,k=s -> y regression: 1,0,1,0>2&3 nan,1,0,1>4&5 3,0,1,0>6&7"},
      {"d.safetensors", [](Options *o) { o->target = "y,z,a"; },
       "bad data: d.safetensors: the file defines its targets (omit the target)"},
      {"d.safetensors", [](Options *o) { o->target = "yz"; },
       "bad data: d.safetensors: the file defines its targets (omit the target)"},
      {"d.safetensors", [](Options *o) { o->task = DESCENT_TASK_BINARY; },
       "bad data: d.safetensors: 2 targets, but task binary takes one (choose task regression)"},
      {"d.safetensors", [](Options *o) { o->task = DESCENT_TASK_REGRESSION; },
       "a,a missing,k=r,k=s -> y regression: 1,0,1,0>2&3 nan,1,0,1>4&5 3,0,1,0>6&7"},
      {"d.safetensors", [](Options *o) { o->ignore = a, o->ignored = 1; },
       "k=r,k=s -> y regression: 1,0>2&3 0,1>4&5 1,0>6&7"},
      {"d.safetensors", [](Options *o) { o->ignore = none, o->ignored = 1; },
       "bad data: d.safetensors:1: no column 'nosuch' (known: 'a', 'k', 'weights', 'y', 'z')"},
      {"d.safetensors", [](Options *o) { o->categorical = a, o->categoricals = 1; },
       "a=1,a=3,a missing,k=r,k=s -> y regression: 1,0,0,1,0>2&3 nan,nan,1,0,1>4&5 0,1,0,1,0>6&7"},
      {"d.safetensors", [](Options *o) { o->missing = dash, o->missing_texts = 1; },
       "a,a missing,k=r,k=s -> y regression: 1,0,1,0>2&3 nan,1,0,1>4&5 3,0,1,0>6&7"},
      {"d.safetensors", [](Options *o) { o->weight_column = "a"; },
       "bad data: d.safetensors: the file defines its weights (omit the weight column)"},
      {"d.safetensors", [](Options *o) { o->weight_column = "weights"; },
       "a,a missing,k=r,k=s -> y regression: 1,0,1,0>2&3 nan,1,0,1>4&5 3,0,1,0>6&7"},
      {"d.safetensors", [](Options *o) { o->indicators = true; },
       "a,a missing,k=r,k=s -> y regression: 1,0,1,0>2&3 nan,1,0,1>4&5 3,0,1,0>6&7"},
      {"d.safetensors", [](Options *o) { o->features_only = true; },
       "a,a missing,k=r,k=s -> - auto: 1,0,1,0 nan,1,0,1 3,0,1,0"},
      {"d.safetensors", [](Options *o) { o->unseen = DESCENT_UNSEEN_ZEROS; },
       "a,a missing,k=r,k=s -> y regression: 1,0,1,0>2&3 nan,1,0,1>4&5 3,0,1,0>6&7"},
      {"plain.safetensors", nullptr, "-,- -> - binary 5,6: 1,2>0 3,4>1"},
      {"plain.safetensors", [](Options *o) { o->target = "0"; },
       "bad data: plain.safetensors: the file defines its targets (omit the target)"},
      {"plain.safetensors", [](Options *o) { o->ignore = zero, o->ignored = 1; }, "- -> - binary 5,6: 2>0 4>1"},
      {"plain.safetensors", [](Options *o) { o->categorical = zero, o->categoricals = 1; },
       "column 0=1,column 0=3,column 1 -> - binary 5,6: 1,0,2>0 0,1,4>1"},
      {"plain.safetensors", [](Options *o) { o->weight_column = "0"; }, "- -> - binary 5,6: 2>0 4>1"},
  };
  for (const auto &c : cases) EXPECT_EQ(ReadWith(Path(c.file), c.change), c.expected);
}

// ---- .npz ----

std::string Npy(const std::string &shape, size_t values, const std::string &type = "'<f8'") {
  std::string header = "{'descr': " + type + ", 'fortran_order': False, 'shape': " + shape + ", }";
  header += std::string((64 - (11 + header.size()) % 64) % 64, ' ') + "\n";
  std::string text("\x93NUMPY\x01\x00", 8);
  text += static_cast<char>(header.size() & 255);
  text += static_cast<char>(header.size() >> 8);
  return text + header + std::string(8 * values, '\0');
}

TEST_F(DatasetRefusals, ArchivesOfInconsistentArrays) {
  using Parts = std::vector<std::pair<std::string, std::string>>;
  Parts many;
  for (int i = 0; i < 60; i++) many.emplace_back("array" + std::to_string(i) + ".npy", Npy("(2,)", 2));
  const struct {
    Parts parts;
    const char *part, *expected;
  } cases[] = {
      {{{"X.npy", Npy("(2, 2)", 4)}, {"y.npy", Npy("(3,)", 3)}},
       "",
       "bad data: a.npz: array 'y' has 3 rows, but array X has 2"},
      {{{"X.npy", Npy("(2, 2)", 4)}, {"w.npy", Npy("(2, 2)", 4)}},
       "",
       "bad data: a.npz: array 'w' has 2 columns, not 1"},
      {{{"X.npy", Npy("(2, 2)", 4)}, {"y.npy", Npy("(0,)", 0)}},
       "",
       "bad data: a.npz: array 'y': the array has no elements"},
      {{{"X.npy", Npy("(2, 2)", 4)}, {"y.npy", Npy("()", 1)}},
       "",
       "bad data: a.npz: array 'y': a single number, not an array of rows (give a 1-D or 2-D array)"},
      {{{"X.npy", Npy("(2, 2)", 4)}, {"labels.npy", Npy("(2,)", 2, "'<U3'")}},
       "",
       "bad data: a.npz: array 'labels': unsupported element type '<U3', text (convert the array to numbers with "
       ".astype)"},
      {{{"X.npy", Npy("(2, 2)", 4, "'<c16'")}, {"data.npy", Npy("(2,)", 2)}},
       "",
       "bad data: a.npz: array 'X': unsupported element type '<c16', complex numbers (convert the array to numbers "
       "with .astype)"},
      {{{"X.npy", Npy("(2, 2)", 4)}, {"w.npy", Npy("(2,)", 2, "[('a', '<f8')]")}},
       "",
       "bad data: a.npz: array 'w': structured arrays are not supported (save the fields as one array of numbers)"},
      {{{"X.npy", Npy("(2,)", 2)}, {"y", Npy("(2,)", 2)}, {"y.npy", Npy("(2,)", 2)}},
       "",
       "bad data: a.npz: several arrays are named 'y' (save the file again)"},
      {{{"a.npy", Npy("(2,)", 2)}, {"a", Npy("(2,)", 2)}},
       ":a",
       "bad data: a.npz: several arrays are named 'a' (save the file again)"},
      {{{"X.npy", Npy("(1, 4194304)", 4194304)}, {"w.npy", Npy("(1,)", 1)}},
       "",
       "bad data: a.npz: 4194305 columns exceed the maximum of 4194304"},
      {{{"a.npy", Npy("(2,)", 2)}, {"b", Npy("(2,)", 2)}},
       "",
       "bad data: a.npz: several arrays, none named X, x or data: 'a', 'b' (select one with a.npz:NAME)"},
      {{{"a.npy", Npy("(2,)", 2)}, {"b", Npy("(2,)", 2)}}, ":b", "- -> - auto: 0 0"},
      {{{"a.npy", Npy("(2,)", 2)}, {"b", Npy("(2,)", 2)}},
       ":c",
       "bad data: a.npz: unknown array 'c', known: 'a', 'b' (select one with a.npz:NAME)"},
      {many, "",
       "bad data: a.npz: several arrays, none named X, x or data: 'array0', 'array1', 'array2', 'array3', 'array4', "
       "'array5', 'array6', 'array7', 'array8', 'array9', 'array10', 'array11', 'array12', 'array13', 'array14', "
       "'array15', 'array16', 'array17', 'array18', 'array19', 'array20', 'array21', 'array22', 'array23', 'array24', "
       "'array25', 'array26', 'array27', 'array28', 'array29', 'array30', 'array31', 'array32', 'array33', 'array34', "
       "'array35', 'array36', ... (select one with a.npz:NAME)"},
      {many, ":array7", "- -> - auto: 0 0"},
      {{{"X.npy", "no array"}},
       "",
       "bad data: a.npz: array 'X': 8 bytes: too short for a .npy file (is it truncated?)"},
      {{{"X.npy", Npy("(2, 2)", 3)}},
       "",
       "bad data: a.npz: array 'X': byte 128: 2 x 2 elements of 8 bytes do not fit in the remaining 24 bytes (is the "
       "file truncated?)"},
      {{{"X.npy", Npy("(2, 2)", 5)}},
       "",
       "bad data: a.npz: array 'X': byte 160: 8 bytes after the array (save the file again)"},
      {{{"X.npy", Npy("(0, 2)", 0)}}, "", "bad data: a.npz: array 'X': the array has no elements"},
      {{{"X.npy", Npy("()", 1)}},
       "",
       "bad data: a.npz: array 'X': a single number, not an array of rows (give a 1-D or 2-D array)"},
      {{{"X.npy", Npy("(2, 9223372036854775807)", 1)}},
       "",
       "bad data: a.npz: array 'X': 9223372036854775807 columns exceed the maximum of 4194304"},
      {{{"X.npy", Npy("(2, 92233720368547758070)", 1)}},
       "",
       "bad data: a.npz: array 'X': byte 83: dimension out of range at '0), }           ' (save the file again with "
       "numpy.save)"},
      {{{"X.npy", Npy("(1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1)", 1)}},
       "",
       "- -> - auto: 0"},
      {{{"X.npy", Npy("(2 2)", 4)}},
       "",
       "bad data: a.npz: array 'X': byte 63: expected ',' or ')' at '2), }           ' (save the file again with "
       "numpy.save)"},
      {{{"X.npy", Npy("(2)", 2)}},
       "",
       "bad data: a.npz: array 'X': byte 63: expected ',' after a single dimension at ', }             ' (save the "
       "file again with numpy.save)"},
  };
  for (const auto &c : cases) {
    std::filesystem::remove(Path("a.npz"));
    int error = 0;
    zip_t *zip = zip_open(Path("a.npz").c_str(), ZIP_CREATE, &error);
    ASSERT_NE(zip, nullptr);
    for (const auto &[name, bytes] : c.parts)
      zip_file_add(zip, name.c_str(), zip_source_buffer(zip, bytes.data(), bytes.size(), 0), 0);
    ASSERT_EQ(zip_close(zip), 0);
    EXPECT_EQ(ReadWith(Path("a.npz") + c.part), c.expected) << c.parts.size() << " arrays" << c.part;
  }
}

// ---- svmlight, IDX, gzip ----

TEST_F(DatasetRefusals, InvalidLinesAndSizes) {
  const struct {
    const char *name;
    std::string bytes;
    const char *expected;
  } cases[] = {
      {"a.svm", "1 1:2 1:3\n",
       "bad data: a.svm:1: '1:3' is out of order: the indices of a row must ascend, without duplicates"},
      {"a.svm", "1 2:2 1:3\n",
       "bad data: a.svm:1: '1:3' is out of order: the indices of a row must ascend, without duplicates"},
      {"a.svm", "1 1:\n", "bad data: a.svm:1: '1:' has an invalid value: must be a number"},
      {"a.svm", "1 :2\n", "bad data: a.svm:1: ':2' has no index"},
      {"a.svm", "1 1:x\n", "bad data: a.svm:1: '1:x' has an invalid value: must be a number"},
      {"a.svm", "1 99999999999:1\n",
       "bad data: a.svm:1: '99999999999:1' has an index above 4194304, the maximum number of columns"},
      {"a.svm", "1 5000000:1\n",
       "bad data: a.svm:1: '5000000:1' has an index above 4194304, the maximum number of columns"},
      {"a.svm", "x 1:1\n", "bad data: a.svm:1: 'x' is not a valid label: must be a finite number (number the classes)"},
      {"a.svm", "1 -1:1\n", "bad data: a.svm:1: '-1:1' has an invalid index: must be an integer >= 0"},
      {"a.svm", "", "bad data: a.svm: the file has no rows"},
      {"a.svm", "\n# nothing\n", "bad data: a.svm: the file has no rows"},
      {"a.idx", std::string("\0\0\x8\0", 4), "bad data: a.idx: byte 3: no dimensions"},
      {"a.idx", std::string("\0\0\xa\1\0\0\0\1a", 9),
       "bad data: a.idx: byte 0: 00 00 0a: not an IDX file (choose another format)"},
      {"a.idx", std::string("\0\0\x8\2\xff\xff\xff\xff\xff\xff\xff\xff", 12),
       "bad data: a.idx: byte 8: 4194305 columns exceed the maximum of 4194304"},
      {"a.idx", std::string("\0\0\xe\3\xff\xff\xff\xff\0\xff\xff\xff\0\0\xff\xff", 16),
       "bad data: a.idx: byte 8: 4194305 columns exceed the maximum of 4194304"},
      {"a.idx", std::string("\0\0\x8\1\0\0\0\0", 8), "bad data: a.idx: the array has no elements"},
      {"a.idx", std::string("\0\0\x8\1\0\0\0\2a", 9),
       "bad data: a.idx: byte 8: expected 2 x 1 elements of 1 bytes, but 1 bytes follow (is it truncated?)"},
      {"a.idx", std::string("\0\0\x8\1\0\0\0\2abc", 11),
       "bad data: a.idx: byte 8: expected 2 x 1 elements of 1 bytes, but 3 bytes follow (is it truncated?)"},
      {"a.csv", "a,b\n1,2\n3\n",
       "bad data: a.csv:3: 1 cell, but the header has 2 (add or remove cells; quote those that contain ',')"},
      {"a.csv", "a,b\n1,\"2\n", "bad data: a.csv:2: a quote opens here and is never closed (close it)"},
      {"a.csv", "a,a\n1,2\n",
       "bad data: a.csv:1: several columns are named 'a' (rename them, ignore them all, or choose header no if this "
       "row is data)"},
      {"a.csv", "a,b\n1,2\"3\n",
       "bad data: a.csv:2: a quote inside an unquoted cell (quote the whole cell, and double the quotes inside)"},
      {"a.csv", "a,b\n", "bad data: a.csv:1: a header without rows below it (add rows)"},
      {"a.csv", "\n\n", "bad data: a.csv: the file is empty"},
      {"a.csv", std::string("a,b\n1,\0\n", 8),
       "bad data: a.csv:2: a NUL byte: this is not text, or it is UTF-16 (save the file as UTF-8)"},
      {"a.csv",
       "\xff\xfe"
       "a,b",
       "bad data: a.csv:1: this is UTF-16 text (save the file as UTF-8)"},
      {"a.csv", "a,b\n1,\xff\n2,x\n",
       "bad data: a.csv:2: column 'b': '\\xff' is not UTF-8 text (save the file as UTF-8)"},
      {"a.csv", "a\xff,b\n1,2\n",
       "bad data: a.csv:1: column 'a\\xff': the name is not UTF-8 text (save the file as UTF-8)"},
      {"a.csv", "a,b\n1,1e400\n",
       "bad data: a.csv:2: column 'b': '1e400' is not a finite 32-bit number, at most 3.4e38 (correct it, or remove "
       "the row or the column)"},
      {"a.csv", "a,b\n1,0x10\n", "a,b=0x10 -> - auto: 1,1"},
      {"a.csv.gz", "\x1f\x8b\x08garbage",
       "bad data: a.csv.gz: gzip, at decompressed byte 0: unknown header flags set (copy the file again)"},
  };
  for (const auto &c : cases) EXPECT_EQ(ReadWith(Write(c.name, c.bytes)), c.expected) << c.bytes;
}

}  // namespace
