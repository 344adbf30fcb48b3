// A dataset saved in any format and read back is the same dataset, to the bit, and trains to the same model; what a
// format cannot hold is refused.
#include <gtest/gtest.h>

#include "saved_data.h"

namespace {

using Formats = SavedData;

struct Format {
  const char *name, *target;  // target: the option that the reader needs
};
const Format kFormats[] = {{"d.csv", "-1"},  {"d.tsv", "-1"},    {"d.npy", "-1"},       {"d.npz", nullptr},
                           {"d.idx", "-1"},  {"d.svm", nullptr}, {"d.libsvm", nullptr}, {"d.safetensors", nullptr},
                           {"d.h5", nullptr}};

// A build without HDF5: it must say so, and nothing else is tested.
bool NotBuilt(const std::string &problem) { return problem.rfind("not supported: ", 0) == 0; }

TEST_F(Formats, OfTheSameDataTrainToTheSameModel) {
  const struct {
    const char *file, *target;
    bool bytes;  // whole numbers from 0 to 255
  } sources[] = {{"breast_cancer.csv", "-1", false}, {"optdigits_test.csv", "-1", true}};
  for (const auto &source : sources) {
    const std::string path = Headless(std::string(DESCENT_SOURCE_DIR "/examples/") + source.file, "source.csv");
    const Dataset original = OpenTarget(path, source.target, 0);
    const std::string model = Train(original.get());
    for (const Format &format : kFormats) {
      const std::string what = std::string(source.file) + " as " + format.name;
      const std::string problem = Save(original.get(), format.name);
      if (NotBuilt(problem)) continue;
      if (std::string(format.name) == "d.idx" && !source.bytes) {
        EXPECT_NE(problem.find("IDX files hold only integers from 0 to 255"), std::string::npos) << problem;
        continue;
      }
      ASSERT_EQ(problem, "") << what;
      const Dataset again = OpenTarget(Path(format.name), format.target);
      ExpectSame(original.get(), again.get(), what);
      const int64_t indexed = again->storage->schema.indexed_columns;
      again->storage->schema.indexed_columns = 0;  // else the model says how svmlight's indices count
      EXPECT_TRUE(Train(again.get()) == model) << what;
      again->storage->schema.indexed_columns = indexed;
      const std::string bytes = read_file(Path(format.name));
      ASSERT_EQ(Save(again.get(), format.name), "") << what;  // over itself, also if it is mapped
      EXPECT_TRUE(read_file(Path(format.name)) == bytes) << what;
    }
  }
}

TEST_F(Formats, KeepNamesCategoriesMissingCellsAndWeightsAsTextAndMapped) {
  for (bool indicators : {false, true}) {
    const Dataset d = Mixed(Write("m.csv", kMixed), indicators);
    ASSERT_NE(d, nullptr);
    for (const char *name : {"d.csv", "d.tsv", "d.safetensors"}) {
      ASSERT_EQ(Save(d.get(), name), "");
      descent_dataset_options options = kDefaults;
      options.target = "kind";
      options.weight_column = std::string(name) == "d.safetensors" ? nullptr : "weight";
      options.indicators = indicators && options.weight_column;
      const Dataset again = Open(Path(name), options);
      ASSERT_NE(again, nullptr) << name;
      ExpectSame(d.get(), again.get(), name);
      std::vector<int64_t> missing(static_cast<size_t>(descent_dataset_columns(again.get())));
      descent_dataset_missing(again.get(), missing.data());
      EXPECT_EQ(missing.at(1), 1) << name;
      EXPECT_EQ(again->storage->mapping != nullptr, !options.weight_column) << name;
    }
  }
}

TEST_F(Formats, HoldInputsAndClassNumbersWithoutTexts) {
  const Dataset d = Mixed(Write("m.csv", kMixed), false);
  for (const char *name : {"d.npz", "d.h5"}) {
    const std::string problem = Save(d.get(), name);
    if (NotBuilt(problem)) continue;
    ASSERT_EQ(problem, "");
    descent_dataset_options options = kDefaults;
    options.task = DESCENT_TASK_CLASSES;  // 3 numbers in 4 rows would be inferred as regression
    const Dataset again = Open(Path(name), options);
    ASSERT_EQ(descent_dataset_inputs(again.get()), 4);
    EXPECT_STREQ(descent_dataset_class_name(again.get(), 2), "2");
    schema_clear(&again->storage->schema);
    again->storage->schema = d->storage->schema;  // the rest is the same
    ExpectSame(d.get(), again.get(), name);
    again->storage->schema = {};
  }
}

TEST_F(Formats, RefuseWhatTheyCannotHold) {
  const Dataset weighted = Mixed(Write("m.csv", kMixed), false);
  const Dataset two = OpenTarget(Write("t.csv", "a,b,c\n1,2.5,3\n4,5,6.5\n"), "b,c");
  const Dataset none = OpenTarget(Write("n.csv", "a,b\n1,300\n"), nullptr);
  const struct {
    const descent_dataset *dataset;
    const char *name, *expected;
  } cases[] = {
      {weighted.get(), "w.npy",
       "cannot write: w.npy: not written: npy cannot store weights (choose npz, csv, hdf5 or safetensors)"},
      {weighted.get(), "w.idx",
       "cannot write: w.idx: not written: IDX cannot store weights (choose npz, csv, hdf5 or safetensors)"},
      {two.get(), "t.svm",
       "cannot write: t.svm: not written: svmlight stores one target and no weight per row (choose npz, csv, hdf5 or "
       "safetensors)"},
      {two.get(), "t.idx",
       "cannot write: t.idx: not written: row 0, column 1 is 2.5, but IDX files hold only integers from 0 to 255 "
       "(choose npy)"},
      {none.get(), "n.idx",
       "cannot write: n.idx: not written: row 0, column 1 is 300, but IDX files hold only integers from 0 to 255 "
       "(choose npy)"},
      {none.get(), "n.parquet",
       "invalid argument: n.parquet: unknown extension (known: .csv, .tsv, .npy, .npz, .idx, .svm, .svmlight, .libsvm, "
       ".h5, .hdf5, .safetensors)"},
      {none.get(), "there/n.npy", "cannot write: there/n.npy: cannot write: No such file or directory"},
  };
  for (const auto &c : cases) EXPECT_EQ(Save(c.dataset, c.name), c.expected);
}

// An entry omitted from a sparse row is 0, not missing.
TEST_F(Formats, OfSparseTextKeepLastColumnsMissingCellsAndSigns) {
  const Dataset d = OpenTarget(Write("z.csv", "0,1,0,0.5\n0,-0,0,1.5\n0,?,0,2.5\n"), "-1", 0);
  ASSERT_EQ(Save(d.get(), "z.svm"), "");
  EXPECT_EQ(read_file(Path("z.svm")), "0.5 2:1 3:0\n1.5 2:-0\n2.5 2:nan\n");
  ExpectSame(d.get(), Open(Path("z.svm")).get(), "z.svm");
}

// ---- svmlight: where indices start ----

constexpr char kFrom0[] = "0 0:1 1:2 3:3\n1 1:4 2:5\n0 0:6 3:7\n1 2:8\n";
constexpr char kFrom1[] = "0 1:1 2:2 4:3\n1 2:4 3:5\n0 1:6 4:7\n1 3:8\n";

class Indices : public SavedData {
 protected:
  Network TrainOn(const descent_dataset *dataset) const {
    Train(dataset);
    descent_network *network = nullptr;
    EXPECT_EQ(descent_network_load(Path("model.safetensors").c_str(), &network), DESCENT_OK) << descent_last_error();
    return Network(network);
  }
  Network TrainOn(const std::string &text) const { return TrainOn(Open(Write("train.svm", text)).get()); }

  // The inputs of a file read for the network, and the note; or the error.
  std::string Read(const descent_network *network, const std::string &text, const char *format = nullptr) const {
    descent_dataset_options options = kDefaults;
    options.network = network;
    options.format = format;
    descent_dataset *read = nullptr;
    const std::string path = Write("test.svm", text);
    if (descent_dataset_read(path.c_str(), &options, &read) != DESCENT_OK) return Plain(descent_last_error());
    const Dataset owner(read);
    std::string shown;
    std::vector<float> x(static_cast<size_t>(descent_dataset_inputs(read)));
    for (int64_t r = 0; r < descent_dataset_rows(read); r++) {
      EXPECT_EQ(descent_dataset_row(read, r, x.data()), DESCENT_OK);
      for (const float value : x) shown += std::to_string(static_cast<int>(value)) + " ";
      shown += "| ";
    }
    std::string note = descent_dataset_note(read);
    const std::string matched = "the model has no column names: columns are matched by position";
    if (note.rfind(matched, 0) == 0) note.erase(0, std::min(note.size(), matched.size() + 2));
    return shown + note;
  }
};

TEST_F(Indices, OfAFileCountAsInTheTrainingFile) {
  const Network from_0 = TrainOn(kFrom0), from_1 = TrainOn(kFrom1);
  EXPECT_EQ(descent_network_svmlight_base(from_0.get()), 0);
  EXPECT_EQ(descent_network_svmlight_base(from_1.get()), 1);
  const struct {
    const descent_network *network;
    const char *text, *format, *expected;
  } cases[] = {
      {from_0.get(), "1 1:4 2:5", nullptr, "0 4 5 0 | indices count from 0, as in training"},
      {from_0.get(), "1 0:4", nullptr, "4 0 0 0 | indices count from 0, as in training"},
      {from_0.get(), "1 1:4", "svmlight", "0 4 0 0 | indices count from 0, as in training"},
      {from_0.get(), "1 1:4", "svmlight:0", "0 4 0 0 | "},
      {from_0.get(), "1 1:4", "svmlight:1", "4 0 0 0 | indices count from 1, as stated, but from 0 in training"},
      {from_0.get(), "1 4:4", nullptr,
       "test.svm:1: '4:4' is beyond the expected 4 columns, counted from 0 as in training (choose format svmlight:1 if "
       "this file counts from 1)"},
      {from_0.get(), "1 5:4", nullptr,
       "test.svm:1: '5:4' is beyond the expected 4 columns, counted from 0 as in training"},
      {from_1.get(), "1 2:4 3:5", nullptr, "0 4 5 0 | indices count from 1, as in training"},
      {from_1.get(), "1 1:4", nullptr, "4 0 0 0 | indices count from 1, as in training"},
      {from_1.get(), "1 1:4", "svmlight:0", "0 4 0 0 | indices count from 0, as stated, but from 1 in training"},
      {from_1.get(), "1 0:4", nullptr,
       "test.svm:1: '0:4' has index 0, but indices count from 1 in the file that the network was trained on (choose "
       "format svmlight:0 if they count from 0 in this one)"},
      {from_1.get(), "1 5:4", nullptr,
       "test.svm:1: '5:4' is beyond the expected 4 columns, counted from 1 as in training"},
      {from_1.get(), "0:2 2:4", nullptr,
       "0 4 0 0 | indices count from 1, as in training; rows have weights, as label:weight"},
  };
  for (const auto &c : cases) EXPECT_EQ(Read(c.network, c.text, c.format), c.expected) << c.text;
}

TEST_F(Indices, AreKeptByTheBinaryFormAndBySvmlight) {
  descent_dataset *converted = nullptr;
  const std::string source = Write("source.svm", kFrom0);
  ASSERT_EQ(descent_dataset_convert(source.c_str(), &kDefaults, Path("two.safetensors").c_str(), &converted),
            DESCENT_OK)
      << descent_last_error();
  const Dataset two_passes(converted);
  ASSERT_EQ(Save(Open(source).get(), "one.safetensors"), "");
  EXPECT_EQ(read_file(Path("one.safetensors")), read_file(Path("two.safetensors")));
  const Dataset mapped = Open(Path("one.safetensors"));
  ASSERT_EQ(Save(mapped.get(), "back.svm"), "");
  EXPECT_EQ(read_file(Path("back.svm")), kFrom0);
  descent_dataset_options options = kDefaults;
  options.task = DESCENT_TASK_CLASSES;  // another task: not mapped, but read as a table
  for (const Network &network : {TrainOn(mapped.get()), TrainOn(Open(Path("one.safetensors"), options).get())})
    EXPECT_EQ(Read(network.get(), "1 1:4"), "0 4 0 0 | indices count from 0, as in training");
  // Data from elsewhere count from 1, and show where they start.
  ASSERT_EQ(Save(OpenTarget(Write("z.csv", "0,1,0\n0,2,1\n"), "-1", 0).get(), "z.svm"), "");
  EXPECT_EQ(read_file(Path("z.svm")), "0 2:1\n1 2:2\n");
  ASSERT_EQ(Save(Open(Write("y.svm", "0 0:0 1:1\n1 1:2\n")).get(), "y2.svm"), "");
  EXPECT_EQ(read_file(Path("y2.svm")), "0 0:0 1:1\n1 1:2\n");
}

TEST_F(Indices, SkipTheColumnsLeftOutInTraining) {
  const char *const ignore[] = {"1"};
  descent_dataset_options options = kDefaults;
  options.ignore = ignore;
  options.ignored = 1;
  const Network network = TrainOn(Open(Write("train.svm", kFrom0), options).get());
  EXPECT_EQ(descent_network_inputs(network.get()), 3);
  EXPECT_EQ(Read(network.get(), "1 0:1 1:2 2:3 3:4"), "1 3 4 | indices count from 0, as in training");
  EXPECT_EQ(Read(network.get(), "1:2 0:1 1:2 2:3"),
            "1 3 0 | indices count from 0, as in training; rows have weights, as label:weight");
}

// Of a file without index 0, nothing shows that a network that was not trained on svmlight counts from 0.
TEST_F(Indices, OfAFileForAnotherNetworkAreDetectedAndSaid) {
  const Network network = TrainOn(OpenTarget(Write("z.csv", "1,2,3,4,0\n5,6,7,8,1\n"), "-1", 0).get());
  EXPECT_EQ(descent_network_svmlight_base(network.get()), -1);
  EXPECT_EQ(Read(network.get(), "1 1:4"), "4 0 0 0 | indices count from 1, as none is 0");
  EXPECT_EQ(Read(network.get(), "1 0:4"), "4 0 0 0 | indices count from 0, as one is 0");
}

TEST_F(Formats, HoldTheRowsOfAView) {
  const Dataset d = OpenTarget(DESCENT_SOURCE_DIR "/examples/breast_cancer.csv", "-1");
  descent_dataset *kept = nullptr, *held = nullptr;
  ASSERT_EQ(descent_dataset_split(d.get(), 0.3, 1, &kept, &held), DESCENT_OK);
  const Dataset view(kept), other(held);
  for (const char *name : {"v.csv", "v.safetensors"}) {
    ASSERT_EQ(Save(view.get(), name), "");
    const Dataset again = OpenTarget(Path(name), "diagnosis");
    ExpectSame(view.get(), again.get(), name);
  }
  ASSERT_EQ(Save(view.get(), "v.npz"), "");
  EXPECT_EQ(descent_dataset_rows(Open(Path("v.npz")).get()), descent_dataset_rows(view.get()));
}

}  // namespace
