// A dataset saved in any format and read back is the same dataset, to the bit, and trains to the same model. What a
// format has no place for is refused, and the binary form is mapped, not read.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cmath>
#include <cstring>

#include "data_files.h"
#include "matrix_files.h"

extern "C" {
#include "data/binary.h"
}

namespace {

constexpr descent_dataset_options kDefaults = DESCENT_DATASET_OPTIONS_INIT;

class Formats : public DataFiles {
 protected:
  Dataset Open(const std::string &path, descent_dataset_options options = kDefaults) const {
    descent_dataset *read = nullptr;
    EXPECT_EQ(descent_dataset_read(path.c_str(), &options, &read), DESCENT_OK) << descent_last_error();
    return Dataset(read);
  }
  Dataset OpenTarget(const std::string &path, const char *target, int header = -1) const {
    descent_dataset_options options = kDefaults;
    options.target = target;
    options.header = header;
    return Open(path, options);
  }
  // Without its first line and with classes as numbers: no names, as in the formats that have none.
  std::string Headless(const std::string &source, const std::string &name) const {
    std::string text = Bytes(source);
    text.erase(0, text.find('\n') + 1);
    for (const auto &[word, number] : {std::pair("benign", "0"), std::pair("malignant", "1")})
      for (size_t at; (at = text.find(word)) != std::string::npos;) text.replace(at, strlen(word), number);
    return Write(name, text);
  }
  std::string Save(const descent_dataset *dataset, const std::string &name) const {
    const descent_status status = descent_dataset_save(dataset, Path(name).c_str());
    if (status == DESCENT_OK) return "";
    EXPECT_FALSE(std::filesystem::exists(Path(name))) << name;
    return Plain(std::string(descent_status_text(status)) + ": " + descent_last_error());
  }
  // The bytes of a model trained on the dataset for a few epochs.
  std::string Train(const descent_dataset *d) const {
    const descent_task task = descent_dataset_task(d);
    const int64_t outputs = task == DESCENT_TASK_CLASSES ? descent_dataset_classes(d) : descent_dataset_targets(d);
    const int64_t widths[] = {9, outputs};
    descent_network_options shape = DESCENT_NETWORK_OPTIONS_INIT;
    shape.inputs = descent_dataset_inputs(d);
    shape.layers = 2;
    shape.widths = widths;
    shape.loss = task == DESCENT_TASK_BINARY    ? DESCENT_LOSS_BINARY_CROSS_ENTROPY
                 : task == DESCENT_TASK_CLASSES ? DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY
                                                : DESCENT_LOSS_MEAN_SQUARED_ERROR;
    descent_network *network = nullptr;
    EXPECT_EQ(descent_network_create(&shape, &network), DESCENT_OK) << descent_last_error();
    const Network owner(network);
    descent_device *device = nullptr;
    EXPECT_EQ(descent_device_open("cpu", 1, &device), DESCENT_OK);
    EXPECT_EQ(descent_network_initialise(network, DESCENT_INIT_AUTO, 3), DESCENT_OK);
    EXPECT_EQ(descent_network_fit_preprocessing(network, d, DESCENT_NORMALIZE_STANDARD, DESCENT_IMPUTE_MEAN, true),
              DESCENT_OK);
    descent_train_options options = DESCENT_TRAIN_OPTIONS_INIT;
    options.epochs = 2;
    EXPECT_EQ(descent_fit(network, device, d, nullptr, &options, nullptr), DESCENT_OK) << descent_last_error();
    descent_device_close(device);
    EXPECT_EQ(descent_network_save(network, Path("model.safetensors").c_str()), DESCENT_OK);
    return Bytes(Path("model.safetensors"));
  }
};

// Names, task, classes and the bits of every value.
void ExpectSame(const descent_dataset *a, const descent_dataset *b, const std::string &what) {
  const dataset_storage *x = a->storage, *y = b->storage;
  ASSERT_EQ(a->rows, b->rows) << what;
  ASSERT_EQ(x->inputs, y->inputs) << what;
  ASSERT_EQ(x->targets, y->targets) << what;
  ASSERT_EQ(x->classes, y->classes) << what;
  ASSERT_EQ(x->weights != nullptr, y->weights != nullptr) << what;
  EXPECT_EQ(x->task, y->task) << what;
  const auto width = [](int64_t n) { return static_cast<size_t>(n) * sizeof(float); };
  for (int64_t r = 0; r < a->rows; r++) {
    const int64_t i = dataset_source_row(a, r), j = dataset_source_row(b, r);
    for (int64_t c = 0; c < x->inputs; c++) {
      const float *p = x->X + i * x->inputs + c, *q = y->X + j * x->inputs + c;
      ASSERT_TRUE((std::isnan(*p) && std::isnan(*q)) || !std::memcmp(p, q, sizeof *p))
          << what << " row " << r << " input " << c << ": " << *p << " and " << *q;
    }
    if (x->targets) {
      ASSERT_EQ(std::memcmp(x->y + i * x->targets, y->y + j * x->targets, width(x->targets)), 0) << what;
    }
    if (x->weights) {
      ASSERT_EQ(x->weights[i], y->weights[j]) << what;
    }
  }
  for (int64_t k = 0; k < x->inputs; k++)
    EXPECT_STREQ(descent_dataset_input_name(a, k), descent_dataset_input_name(b, k)) << what;
  for (int64_t k = 0; k < x->classes; k++)
    EXPECT_STREQ(descent_dataset_class_name(a, k), descent_dataset_class_name(b, k)) << what;
  EXPECT_STREQ(descent_dataset_target_name(a, 0), descent_dataset_target_name(b, 0)) << what;
}

struct Format {
  const char *name, *target;  // target: what the reader has to be told
};
const Format kFormats[] = {{"d.csv", "-1"},  {"d.tsv", "-1"},    {"d.npy", "-1"},       {"d.npz", nullptr},
                           {"d.idx", "-1"},  {"d.svm", nullptr}, {"d.libsvm", nullptr}, {"d.safetensors", nullptr},
                           {"d.h5", nullptr}};

// HDF5 where it is not built in: said, and nothing else is asked of it.
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
        EXPECT_NE(problem.find("IDX is written for whole numbers from 0 to 255 only"), std::string::npos) << problem;
        continue;
      }
      ASSERT_EQ(problem, "") << what;
      const Dataset again = OpenTarget(Path(format.name), format.target);
      ExpectSame(original.get(), again.get(), what);
      EXPECT_TRUE(Train(again.get()) == model) << what;
      const std::string bytes = Bytes(Path(format.name));
      ASSERT_EQ(Save(again.get(), format.name), "") << what;  // over itself, also where it is mapped
      EXPECT_TRUE(Bytes(Path(format.name)) == bytes) << what;
    }
  }
}

// Categories, missing cells, weights, names that need quotes, classes in words, floats of every size.
constexpr char kMixed[] =
    "size,\"the \"\"colour\"\"\",n,w,kind\n"
    "1e-40,red,1,0.5,bad\n"
    ",\" blue, light\",16777217,1,good\n"
    "-0,,-3.4e38,2,good\n"
    "0.1,red,?,0.25,\"so, so\"\n";

Dataset Mixed(const DataFiles &files, const std::string &path, bool indicators) {
  descent_dataset_options options = kDefaults;
  options.target = "kind";
  options.weight_column = "w";
  options.indicators = indicators;
  descent_dataset *read = nullptr;
  EXPECT_EQ(descent_dataset_read(path.c_str(), &options, &read), DESCENT_OK) << descent_last_error();
  (void)files;
  return Dataset(read);
}

TEST_F(Formats, KeepNamesCategoriesMissingCellsAndWeightsAsTextAndMapped) {
  for (bool indicators : {false, true}) {
    const Dataset d = Mixed(*this, Write("m.csv", kMixed), indicators);
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

TEST_F(Formats, HoldInputsAndNumbersOfClassesWhereThereAreNoTexts) {
  const Dataset d = Mixed(*this, Write("m.csv", kMixed), false);
  for (const char *name : {"d.npz", "d.h5"}) {
    const std::string problem = Save(d.get(), name);
    if (NotBuilt(problem)) continue;
    ASSERT_EQ(problem, "");
    descent_dataset_options options = kDefaults;
    options.task = DESCENT_TASK_CLASSES;  // 3 numbers in 4 rows would be guessed to be no classes
    const Dataset again = Open(Path(name), options);
    ASSERT_EQ(descent_dataset_inputs(again.get()), 4);
    EXPECT_STREQ(descent_dataset_class_name(again.get(), 2), "2");
    again->storage->schema = d->storage->schema;  // the rest is the same
    ExpectSame(d.get(), again.get(), name);
    again->storage->schema = {};
  }
}

TEST_F(Formats, RefuseWhatTheyHaveNoPlaceFor) {
  const Dataset weighted = Mixed(*this, Write("m.csv", kMixed), false);
  const Dataset two = OpenTarget(Write("t.csv", "a,b,c\n1,2.5,3\n4,5,6.5\n"), "b,c");
  const Dataset none = OpenTarget(Write("n.csv", "a,b\n1,300\n"), nullptr);
  const struct {
    const descent_dataset *dataset;
    const char *name, *expected;
  } cases[] = {
      {weighted.get(), "w.npy",
       "cannot write: w.npy: not written: npy has no place for weights (choose npz, csv, hdf5 or safetensors)"},
      {weighted.get(), "w.idx",
       "cannot write: w.idx: not written: IDX has no place for weights (choose npz, csv, hdf5 or safetensors)"},
      {two.get(), "t.svm",
       "cannot write: t.svm: not written: a row of svmlight has one target and no weight (choose npz, csv, hdf5 or "
       "safetensors)"},
      {two.get(), "t.idx",
       "cannot write: t.idx: not written: row 0, column 1 is 2.5, but IDX is written for whole numbers from 0 to 255 "
       "only (choose npy)"},
      {none.get(), "n.idx",
       "cannot write: n.idx: not written: row 0, column 1 is 300, but IDX is written for whole numbers from 0 to 255 "
       "only (choose npy)"},
      {none.get(), "n.parquet",
       "invalid argument: n.parquet: ends in none of .csv, .tsv, .npy, .npz, .idx, .svm, .svmlight, .libsvm, .h5, "
       ".hdf5 and .safetensors, which say the format"},
      {none.get(), "there/n.npy", "cannot write: there/n.npy: cannot write: No such file or directory"},
  };
  for (const auto &c : cases) EXPECT_EQ(Save(c.dataset, c.name), c.expected);
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

// ---- the binary form ------------------------------------------------------------------------------------------------

class Binary : public Formats {
 protected:
  // A network that has seen the file.
  Network Fitted(const std::string &csv, const char *target) const {
    const Dataset d = OpenTarget(csv, target);
    const int64_t widths[] = {descent_dataset_task(d.get()) == DESCENT_TASK_CLASSES ? descent_dataset_classes(d.get())
                                                                                    : 1};
    descent_network_options shape = DESCENT_NETWORK_OPTIONS_INIT;
    shape.inputs = descent_dataset_inputs(d.get());
    shape.layers = 1;
    shape.widths = widths;
    if (descent_dataset_task(d.get()) == DESCENT_TASK_CLASSES) shape.loss = DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY;
    if (descent_dataset_task(d.get()) == DESCENT_TASK_REGRESSION) shape.loss = DESCENT_LOSS_MEAN_SQUARED_ERROR;
    descent_network *network = nullptr;
    EXPECT_EQ(descent_network_create(&shape, &network), DESCENT_OK) << descent_last_error();
    EXPECT_EQ(
        descent_network_fit_preprocessing(network, d.get(), DESCENT_NORMALIZE_STANDARD, DESCENT_IMPUTE_MEAN, false),
        DESCENT_OK);
    return Network(network);
  }
  std::string Convert(const std::string &csv, const char *target, const std::string &name) const {
    EXPECT_EQ(Save(OpenTarget(csv, target).get(), name), "");
    return Path(name);
  }
  // As other programs write it: `header` before `values`.
  std::string ByHand(const std::string &name, std::string header, const std::vector<float> &values, bool align = true) {
    while (align && header.size() % 8) header += ' ';
    const uint64_t length = header.size();
    std::string bytes(reinterpret_cast<const char *>(&length), 8);
    bytes += header;
    bytes.append(reinterpret_cast<const char *>(values.data()), values.size() * sizeof(float));
    return Write(name, bytes);
  }
};

TEST_F(Binary, OfTheNetworksColumnsIsMappedAndOthersAreGathered) {
  constexpr char train[] = "a,c,b,y\n1,red,2,no\n3,blue,4,yes\n5,red,6,no\n7,green,8,yes\n";
  const Network network = Fitted(Write("train.csv", train), "y");
  const struct {
    const char *csv;
    bool mapped;
    const char *expected;
  } cases[] = {
      {train, true, ""},
      {"b,a,extra,c,y\n2,1,9,red,no\n4,3,9,green,yes\n8,7,9,blue,no\n", false, ""},
      {"a,c,b,y\n1,red,2,no\n3,red,4,yes\n", false, ""},
      {"a,c,b,y\n1,red,2,no\n3,blue,4,maybe\n", false,
       "bad data: f.safetensors:2: column 'y': 'maybe' is not one of the network's classes"},
      {"a,c,b,y\n1,red,2,no\n3,pink,4,yes\n", false,
       "bad data: f.safetensors:2: column 'c': 'pink' is a category that the network has not seen in training (correct "
       "it, or choose unseen zeros)"},
      {"a,c,y\n1,red,no\n3,blue,yes\n", false,
       "bad data: f.safetensors:1: 1 of the 3 columns that the network needs is missing: 'b'"},
  };
  for (const auto &c : cases) {
    const std::string csv = Write("f.csv", c.csv), path = Convert(csv, "y", "f.safetensors");
    descent_dataset_options options = kDefaults;
    options.like = network.get();
    if (*c.expected) {
      EXPECT_EQ(Read(path, options), c.expected);
      continue;
    }
    const Dataset from_text = Open(csv, options), mapped = Open(path, options);
    ASSERT_NE(mapped, nullptr);
    ExpectSame(from_text.get(), mapped.get(), c.csv);
    EXPECT_EQ(mapped->storage->mapping != nullptr, c.mapped) << c.csv;
  }
}

TEST_F(Binary, IsGivenBlockByBlock) {
  const std::string csv = DESCENT_SOURCE_DIR "/examples/breast_cancer.csv";
  const Network network = Fitted(csv, "-1");
  const std::string path = Convert(csv, "-1", "d.safetensors");
  descent_dataset_options options = kDefaults;
  options.like = network.get();
  options.features_only = true;
  const Dataset whole = Open(csv, options);
  struct Taken {
    const descent_dataset *whole;
    int64_t rows = 0, blocks = 0;
  } taken{whole.get()};
  const auto take = [](void *user, const descent_dataset *block) {
    auto *t = static_cast<Taken *>(user);
    std::vector<float> x(30), expected(30);
    EXPECT_EQ(descent_dataset_targets(block), 0);
    for (int64_t r = 0; r < descent_dataset_rows(block); r++) {
      EXPECT_EQ(descent_dataset_row(block, r, x.data()), DESCENT_OK);
      EXPECT_EQ(descent_dataset_row(t->whole, t->rows++, expected.data()), DESCENT_OK);
      EXPECT_EQ(x, expected);
    }
    return static_cast<int>(++t->blocks == 5);
  };
  ASSERT_EQ(descent_dataset_read_blocks(path.c_str(), &options, 100, take, &taken), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(taken.rows, 500);  // stopped by the fifth
  taken = {whole.get(), 0, 10};
  ASSERT_EQ(descent_dataset_read_blocks(path.c_str(), &options, 100, take, &taken), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(taken.rows, 569);
}

TEST_F(Binary, TakesColumnsOtherRolesWhenAsked) {
  const std::string path = Convert(Write("t.csv", "a,b,y\n1,0,2.5\n2,1,3.5\n3,0,4.5\n4,1,9\n"), "y", "d.safetensors");
  descent_dataset_options options = kDefaults;
  EXPECT_EQ(Read(path, options), "a,b -> y regression: 1,0>2.5 2,1>3.5 3,0>4.5 4,1>9");
  options.target = "y";
  EXPECT_EQ(Read(path, options), "a,b -> y regression: 1,0>2.5 2,1>3.5 3,0>4.5 4,1>9");
  options.target = nullptr;
  const char *const a[] = {"a"};
  options.ignore = a;
  options.ignored = 1;
  EXPECT_EQ(Read(path, options), "b -> y regression: 0>2.5 1>3.5 0>4.5 1>9");
  options.target = "b";
  EXPECT_EQ(Read(path, options),
            "bad data: d.safetensors: the file itself says what its targets are (leave the target out)");
  options = kDefaults;
  options.features_only = true;
  EXPECT_EQ(Read(path, options), "a,b -> - auto: 1,0 2,1 3,0 4,1");
}

TEST_F(Binary, MadeByHandHasItsTaskInferred) {
  const std::string XY =
      R"({"X":{"dtype":"F32","shape":[4,1],"data_offsets":[0,16]},"y":{"dtype":"F32","shape":[4],"data_offsets":[16,32]}})";
  const std::vector<float> classes = {1, 2, 3, 4, 7, 5, 7, 5}, numbers = {1, 2, 3, 4, 0.5F, 5, 7, 5};
  EXPECT_EQ(Read(ByHand("h.safetensors", XY, classes), kDefaults), "- -> - binary 5,7: 1>1 2>0 3>1 4>0");
  EXPECT_EQ(Read(ByHand("h.safetensors", XY, numbers), kDefaults), "- -> - regression: 1>0.5 2>5 3>7 4>5");
  // A header that leaves X at an odd place.
  EXPECT_EQ(
      Read(ByHand("h.safetensors", XY + std::string(1 + (4 - XY.size() % 4) % 4, ' '), classes, false), kDefaults),
      "- -> - binary 5,7: 1>1 2>0 3>1 4>0");
  descent_dataset_options options = kDefaults;
  options.task = DESCENT_TASK_REGRESSION;
  EXPECT_EQ(Read(ByHand("h.safetensors", XY, classes), options), "- -> - regression: 1>7 2>5 3>7 4>5");
  EXPECT_EQ(Read(ByHand("without_an_ending", XY, classes), kDefaults), "- -> - binary 5,7: 1>1 2>0 3>1 4>0");
}

TEST_F(Binary, ThatCannotBeUsedIsRefused) {
  const float nan = NAN;
  const std::string X = R"("X":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]})",
                    y = R"("y":{"dtype":"F32","shape":[2],"data_offsets":[8,16]})",
                    w = R"("weights":{"dtype":"F32","shape":[2],"data_offsets":[8,16]})";
  const auto described = [](const std::string &data) {
    return R"({"__metadata__":{"descent.data":")" + data + R"("},)";
  };
  const struct {
    std::string header;
    std::vector<float> values;
    const char *expected;
  } cases[] = {
      {"{" + X + "," + y + "}", {1, 2, 0, nan}, "byte 132: y[1] is nan, not a finite number"},
      {"{" + X + "," + w + "}", {1, 2, 0, -1}, "byte 140: weights[1] is -1, not a finite weight of at least 0"},
      {"{" + y + R"(,"Z":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
       {1, 2, 0, 1},
       "no tensor 'X' (rows, inputs): a .safetensors file, but no dataset"},
      {R"({"X":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
       {1, 2},
       "tensor 'X' has no rows and inputs: 1 dimensions, [2, 0]"},
      {R"({"X":{"dtype":"F32","shape":[0,3],"data_offsets":[0,0]}})",
       {},
       "tensor 'X' has no rows and inputs: 2 dimensions, [0, 3]"},
      {R"({"X":{"dtype":"F64","shape":[1,1],"data_offsets":[0,8]}})", {1, 2}, "tensor 'X': dtype is F64, not F32"},
      {"{" + X + R"(,"y":{"dtype":"F32","shape":[3],"data_offsets":[8,20]}})",
       {1, 2, 0, 1, 1},
       "tensor 'y' has 1 dimensions, [3, 0], but X has 2 rows"},
      {described(R"({\"version\":2})") + X + "}",
       {1, 2},
       "metadata: no version 1: written by another version of this program?"},
      {described(R"({\"version\":1})") + X + "," + y + "}",
       {1, 2, 0, 1},
       "metadata: 'task' is not binary, classes or regression"},
      {described(R"({\"version\":1,\"task\":\"classes\",\"classes\":99999999})") + X + "," + y + "}",
       {1, 2, 0, 1},
       "metadata: 'classes' is not as many as the task has"},
      {described(R"({\"version\":1,\"task\":\"binary\",\"classes\":2})") + X + "," + y + "}",
       {1, 2, 0, 2},
       "byte 220: y[1] is 2, not an index of a class"},
      {described(R"({\"version\":1,\"columns\":[\"a\",\"b\"]})") + X + "}",
       {1, 2},
       "metadata: 'columns' is not a list of columns"},
      {R"({"__metadata__":{"descent":"{}"},)" + X + "}",
       {1, 2},
       "holds a model, not data (the model comes first on the command line)"},
  };
  for (const auto &c : cases)
    EXPECT_EQ(Read(ByHand("h.safetensors", c.header, c.values), kDefaults),
              std::string("bad data: h.safetensors: ") + c.expected);
  descent_network *network = nullptr;
  Convert(Write("t.csv", "a,y\n1,2.5\n2,3\n"), "y", "d.safetensors");
  EXPECT_EQ(descent_network_load(Path("d.safetensors").c_str(), &network), DESCENT_ERROR_DATA);
  EXPECT_EQ(Plain(descent_last_error()),
            "d.safetensors: holds data, not a model (the model comes first on the command line)");
}

// Each byte of the header and of y and weights altered, each length cut off: refused, or the same data.
TEST_F(Binary, AlteredOrCutOffNeverCrashesNorReadsOtherData) {
  const Dataset original = Mixed(*this, Write("m.csv", kMixed), true);
  ASSERT_EQ(Save(original.get(), "d.safetensors"), "");
  const std::string good = Bytes(Path("d.safetensors")), expected = Read(Path("d.safetensors"), kDefaults);
  const size_t X = 4 * 7 * sizeof(float), rest = 8 * sizeof(float), data = good.size() - X - rest;
  for (size_t length = 0; length < good.size(); length++)
    EXPECT_NE(Read(Write("cut.safetensors", good.substr(0, length)), kDefaults), expected) << length;
  for (size_t i = 0; i < good.size(); i++) {
    if (i >= data && i < data + X) continue;  // not looked at here
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ (1 << i % 8));
    const std::string read = Read(Write("bad.safetensors", bad), kDefaults);
    if (read.rfind("bad data: ", 0) != 0) {
      EXPECT_EQ(read, expected) << "byte " << i;
    }
  }
  std::string bad = good;
  bad[data + 5] = static_cast<char>(bad[data + 5] ^ 1);
  const Dataset altered = Open(Write("bad.safetensors", bad));
  EXPECT_NE(Save(altered.get(), "again.npz").find("X was altered since it was saved: its checksum is"),
            std::string::npos);
}

// A file of 64 MiB: opening it takes neither its memory nor its time, and an epoch over it leaves nothing behind but
// pages that the system may take back.
TEST_F(Binary, IsMappedWithoutBeingLoaded) {
  const int64_t rows = 1 << 20, inputs = 16;
  std::vector<float> X(static_cast<size_t>(rows * inputs)), y(static_cast<size_t>(rows));
  for (size_t i = 0; i < X.size(); i++) X[i] = static_cast<float>(i % 1001) / 1001;
  for (size_t r = 0; r < y.size(); r++) y[r] = static_cast<float>(r % 2);
  descent_dataset *made = nullptr;
  ASSERT_EQ(descent_dataset_create(X.data(), y.data(), nullptr, rows, inputs, 1, DESCENT_TASK_BINARY, 2, &made),
            DESCENT_OK);
  ASSERT_EQ(Save(Dataset(made).get(), "large.safetensors"), "");
  struct rusage before, after;
  getrusage(RUSAGE_SELF, &before);
  const Dataset d = Open(Path("large.safetensors"));
  getrusage(RUSAGE_SELF, &after);
  ASSERT_NE(d, nullptr);
  ASSERT_NE(d->storage->mapping, nullptr);
  EXPECT_EQ(d->storage->owned_X, nullptr);
  // y, and what the allocator keeps.
  EXPECT_LT(after.ru_maxrss - before.ru_maxrss, 8 << 10) << "KiB";
  EXPECT_LT(after.ru_minflt - before.ru_minflt, 3 * 1024) << "pages touched, of 16384 that X has";
  // Shared with the file, read-only: no copy of a page can belong to this process.
  std::ifstream maps("/proc/self/maps");
  std::string line, found;
  while (std::getline(maps, line))
    if (line.find("large.safetensors") != std::string::npos) found += line.substr(line.find(' ') + 1, 4);
  EXPECT_EQ(found, "r--s");
}

}  // namespace
