// The binary form of a dataset is mapped. Every command that reads data accepts it, and an altered file is refused.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "saved_data.h"

namespace {

class Binary : public SavedData {
 protected:
  // A network that has seen the file.
  Network Fitted(const std::string &csv, const char *target) const {
    const Dataset d = OpenTarget(csv, target);
    const int64_t widths[] = {descent_dataset_task(d.get()) == DESCENT_TASK_CLASSES ? descent_dataset_classes(d.get())
                                                                                    : 1};
    descent_network_options shape = descent_network_options_default();
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
  // The text as a string of JSON.
  static std::string Quoted(const std::string &text) {
    std::string quoted = "\"";
    for (const char c : text) quoted += c == '"' ? "\\\"" : c == '\\' ? "\\\\" : std::string(1, c);
    return quoted + "\"";
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
       "bad data: f.safetensors:2: column 'c': 'pink' is a category that the network did not see in training (correct "
       "it, or choose unseen zeros)"},
      {"a,c,y\n1,red,no\n3,blue,yes\n", false,
       "bad data: f.safetensors:1: 1 of the 3 columns that the network needs is missing: 'b'"},
  };
  for (const auto &c : cases) {
    const std::string csv = Write("f.csv", c.csv), path = Convert(csv, "y", "f.safetensors");
    descent_dataset_options options = kDefaults;
    options.network = network.get();
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
  options.network = network.get();
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
  EXPECT_EQ(Read(path, options), "bad data: d.safetensors: the file defines its targets (omit the target)");
  options = kDefaults;
  options.features_only = true;
  EXPECT_EQ(Read(path, options), "a,b -> - auto: 1,0 2,1 3,0 4,1");
  // A category remains one even if it looks like a missing cell.
  const char *const dash[] = {"-"};
  options = kDefaults;
  options.missing = dash;
  options.missing_texts = 1;
  const Dataset d = Open(Write("c.csv", "a,c\n1,NA\n2,-\n3,x\n"), options);
  ASSERT_EQ(Save(d.get(), "c.safetensors"), "");
  options = kDefaults;
  options.ignore = a;
  options.ignored = 1;
  EXPECT_EQ(Read(Path("c.safetensors"), options), "c=NA,c=x -> - auto: 1,0 nan,nan 0,1");
}

TEST_F(Binary, MadeByHandHasItsTaskInferred) {
  const std::string XY =
      R"({"X":{"dtype":"F32","shape":[4,1],"data_offsets":[0,16]},"y":{"dtype":"F32","shape":[4],"data_offsets":[16,32]}})";
  const std::vector<float> classes = {1, 2, 3, 4, 7, 5, 7, 5}, numbers = {1, 2, 3, 4, 0.5F, 5, 7, 5};
  EXPECT_EQ(Read(ByHand("h.safetensors", XY, classes), kDefaults), "- -> - binary 5,7: 1>1 2>0 3>1 4>0");
  EXPECT_EQ(Read(ByHand("h.safetensors", XY, numbers), kDefaults), "- -> - regression: 1>0.5 2>5 3>7 4>5");
  // A header that puts X at an odd offset.
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
      {"{" + X + "," + w + "}", {1, 2, 0, -1}, "byte 140: weights[1] is -1, not a finite weight >= 0"},
      {"{" + y + R"(,"Z":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
       {1, 2, 0, 1},
       "not a dataset: a .safetensors file without a tensor 'X' (rows, inputs)"},
      {R"({"X":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
       {1, 2},
       "tensor 'X' must be (rows, inputs), at least 1 each, but has 1 dimensions, [2, 0]"},
      {R"({"X":{"dtype":"F32","shape":[0,3],"data_offsets":[0,0]}})",
       {},
       "tensor 'X' must be (rows, inputs), at least 1 each, but has 2 dimensions, [0, 3]"},
      {R"({"X":{"dtype":"F64","shape":[1,1],"data_offsets":[0,8]}})", {1, 2}, "tensor 'X': dtype is F64, not F32"},
      {"{" + X + R"(,"y":{"dtype":"F32","shape":[3],"data_offsets":[8,20]}})",
       {1, 2, 0, 1, 1},
       "tensor 'y' has 1 dimensions, [3, 0], but X has 2 rows"},
      {"{" + X + R"(,"weights":{"dtype":"F32","shape":[2,2],"data_offsets":[8,24]}})",
       {1, 2, 1, 1, 1, 1},
       "tensor 'weights' has 2 columns, not 1"},
      {"{" + X + R"(,"y":{"dtype":"F32","shape":[2,0],"data_offsets":[8,8]}})",
       {1, 2},
       "tensor 'y' has 2 dimensions, [2, 0], but X has 2 rows"},
      {"{" + X + R"(,"y":{"dtype":"F32","shape":[],"data_offsets":[8,12]}})",
       {1, 2, 3},
       "tensor 'y' has 0 dimensions, [0, 0], but X has 2 rows"},
      {R"({"X":{"dtype":"F32","shape":[2,0],"data_offsets":[0,0]}})",
       {},
       "tensor 'X' must be (rows, inputs), at least 1 each, but has 2 dimensions, [2, 0]"},
      {"{" + X + "," + w + "}", {1, 2, 0, nan}, "byte 140: weights[1] is nan, not a finite weight >= 0"},
      {described(R"({\"version\":2})") + X + "}",
       {1, 2},
       "metadata: format version 2, but Descent " DESCENT_VERSION " reads up to 1; use a later version of it"},
      {described(R"({\"version\":1})") + X + "," + y + "}",
       {1, 2, 0, 1},
       "metadata: 'task' is not binary, classes or regression"},
      {described(R"({\"version\":1,\"task\":\"classes\",\"classes\":99999999})") + X + "," + y + "}",
       {1, 2, 0, 1},
       "metadata: 'classes' is not a valid number of classes for the task"},
      {described(R"({\"version\":1,\"task\":\"binary\",\"classes\":2})") + X + "," + y + "}",
       {1, 2, 0, 2},
       "byte 220: y[1] is 2, not a class index"},
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

// tests/fixtures/data/dataset_*: a file of each version, and what that version read from it.
TEST_F(Binary, OfEarlierVersionsIsReadAsTheyReadIt) {
  for (const char *version : {"0.1.0", "0.2.0"}) {
    const std::string base = std::string(DESCENT_SOURCE_DIR "/tests/fixtures/data/dataset_") + version;
    EXPECT_EQ(Save(Open(base + ".safetensors").get(), "now.csv"), "");
    EXPECT_EQ(read_file(Path("now.csv")), read_file(base + ".csv")) << version;
  }
}

// Two rows of three inputs and, where `y` is not empty, targets of that shape.
TEST_F(Binary, WithAnInvalidDescriptionIsRefused) {
  const std::string one = "[2]", two = "[2,2]", none;
  const struct {
    const std::string &y;
    const char *data, *expected;
  } cases[] = {
      {none, R"({})", "format version missing or not a positive number"},
      {none, R"({"version":"1"})", "format version missing or not a positive number"},
      {none, R"({"version":1,"colour":1})", "unknown member 'colour'"},
      {none, R"({"version":1,"task":"binary","task":"binary"})", "duplicate member 'task'"},
      {one, R"({"version":1,"task":1})", "'task' is not binary, classes or regression"},
      {one, R"({"version":1,"task":"auto"})", "'task' is not binary, classes or regression"},
      {one, R"({"version":1,"task":"bi\nary"})", "'task' is not binary, classes or regression"},
      {one, R"({"version":1,"task":"binary"})", "'classes' is not a valid number of classes for the task"},
      {one, R"({"version":1,"task":"binary","classes":"2"})", "'classes' is not a number"},
      {one, R"({"version":1,"task":"binary","classes":2.5})", "'classes' is not a number"},
      {one, R"({"version":1,"task":"binary","classes":3})", "'task' is not consistent with the classes and targets"},
      {one, R"({"version":1,"task":"classes","classes":1})", "'classes' is not a valid number of classes for the task"},
      {two, R"({"version":1,"task":"classes","classes":3})", "'task' is not consistent with the classes and targets"},
      {one, R"({"version":1,"task":"regression","classes":2})",
       "'classes' is not a valid number of classes for the task"},
      {none, R"({"version":1,"columns":{}})", "'columns' is not a list of columns"},
      {none, R"({"version":1,"columns":[]})", "'columns' is not a list of columns"},
      {none, R"({"version":1,"columns":["a","b","c","d"]})", "'columns' is not a list of columns"},
      {none, R"({"version":1,"columns":["a","b"]})", "'columns' describes 2 inputs, not 3"},
      {none, R"({"version":1,"columns":["a","b",3]})", "'columns' is not"},
      {none, R"({"version":1,"columns":["a","b",{}]})", "'columns': either all columns must have a name or none"},
      {none, R"({"version":1,"columns":[{},"b","c"]})", "'columns': either all columns must have a name or none"},
      {none, R"({"version":1,"columns":["a","b",{"name":7}]})", "'name' is not"},
      {none, R"({"version":1,"columns":["a",{"name":"b","indicator":1}]})", "'indicator' is not true or false"},
      {none, R"({"version":1,"columns":["a",{"name":"b","categories":["y","x"]}]})",
       "'categories' is not in ascending order"},
      {none, R"({"version":1,"columns":["a",{"name":"b","categories":["x","x"]}]})",
       "'categories' is not in ascending order"},
      {none, R"({"version":1,"columns":["a",{"name":"b","categories":[]}]})", "'categories' is not a list of 0 names"},
      {none, R"({"version":1,"columns":["a",{"name":"b","categories":["x",1]}]})", "'categories' is not"},
      {none, R"({"version":1,"columns":["a",{"name":"b","more":1}]})", "unknown member 'more'"},
      {none, R"({"version":1,"unseen":1})", "'unseen' is not error or zeros"},
      {none, R"({"version":1,"unseen":"ones"})", "'unseen' is not error or zeros"},
      {none, R"({"version":1,"target_names":"t"})", "'target_names' is not a list of 0 names"},
      {two, R"({"version":1,"task":"regression","target_names":["t"]})", "'target_names' is not a list of 2 names"},
      {two, R"({"version":1,"task":"regression","target_names":"t"})", "'target_names' is not a list of 2 names"},
      {one, R"({"version":1,"task":"binary","classes":2,"class_names":["a"]})", "'class_names' is not a list of 2"},
      {none, R"({"version":1,"missing":"?"})", "'missing' is not a list of strings"},
      {none, R"({"version":1,"missing":[1]})", "'missing' is not"},
      {none, R"({"version":1,"left_out":3})", "'left_out' is not a list of positions"},
      {none, R"({"version":1,"left_out":[]})", "'left_out' is not a list of positions"},
      {none, R"({"version":1,"left_out":[-1]})", "'left_out' is not a list of positions"},
      {none, R"({"version":1,"left_out":[0,"1"]})", "'left_out' is not a list of positions"},
      {none, R"({"version":1,"left_out":[4]})", "'target_places' and 'left_out' are not 1 different columns"},
      {none, R"({"version":1,"left_out":[1,1]})", "'target_places' and 'left_out' are not 2 different columns"},
      {one, R"({"version":1,"task":"regression","target_places":[0],"left_out":[0]})",
       "'target_places' and 'left_out' are not 2 different columns"},
      {one, R"({"version":1,"task":"regression","target_places":[0,1]})",
       "'target_places' and 'left_out' are not 2 different columns"},
  };
  for (const auto &c : cases) {
    const size_t targets = c.y.empty() ? 0 : c.y == one ? 1 : 2;
    std::string header = R"({"__metadata__":{"descent.data":)" + Quoted(c.data) +
                         R"(},"X":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]})";
    if (targets)
      header +=
          R"(,"y":{"dtype":"F32","shape":)" + c.y + R"(,"data_offsets":[24,)" + std::to_string(24 + 8 * targets) + "]}";
    const std::string said =
        Read(ByHand("h.safetensors", header + "}", std::vector<float>(6 + 2 * targets)), kDefaults);
    EXPECT_EQ(said.find(std::string("bad data: h.safetensors: metadata: ") + c.expected), 0U)
        << c.data << " gives: " << said;
  }
}

// Numbers that float32 does not hold exactly are counted, in every column.
TEST_F(Binary, SaysHowManyNumbersWereRounded) {
  const struct {
    const char *text, *target, *weights;
    int64_t rounded;
  } cases[] = {{"a,b\n0.5,1\n2,3\n", nullptr, nullptr, 0},         {"a,b\n0.1,1\n2,16777217\n", nullptr, nullptr, 2},
               {"a,b\n0.1,0.3\n2,0.7\n", "b", nullptr, 3},         {"a,b\n0.1,no\n2,yes\n", "b", nullptr, 1},
               {"a,b,c\n1,0.1,0.2\n2,0.3,1\n", "b,c", nullptr, 3}, {"a,b\n1,0.1\n2,0.5\n", nullptr, "b", 1}};
  for (const auto &c : cases) {
    descent_dataset_options options = kDefaults;
    options.target = c.target;
    options.weight_column = c.weights;
    double change = -1;
    EXPECT_EQ(descent_dataset_rounded(Open(Write("r.csv", c.text), options).get(), &change), c.rounded) << c.text;
    EXPECT_EQ(change > 0, c.rounded > 0) << c.text;
    EXPECT_LE(change, 0x1p-24) << c.text;
  }
}

// Each byte of the header and of y and weights altered, each length cut off: refused, or the same data.
TEST_F(Binary, AlteredOrCutOffNeverCrashesNorReadsOtherData) {
  const Dataset original = Mixed(Write("m.csv", kMixed), true);
  ASSERT_EQ(Save(original.get(), "d.safetensors"), "");
  const std::string good = read_file(Path("d.safetensors")), expected = Read(Path("d.safetensors"), kDefaults);
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

// Two passes with memory for a block of rows give the same bytes as reading everything and saving.
TEST_F(Binary, IsMadeInTwoPassesOfEveryFormat) {
  const std::string examples = DESCENT_SOURCE_DIR "/examples/";
  const std::string numbers = Headless(examples + "optdigits_test.csv", "numbers.csv");
  const std::string labels = Write("labels.csv", "y\n0.1\n2.5\n3.25\n4\n");
  const Dataset digits = OpenTarget(numbers, "-1", 0);
  std::string rows;  // several blocks
  for (int r = 0; r < 70000; r++) {
    for (int c = 0; c < 8; c++) rows += std::to_string(r * c % 1000) + ",";
    rows += r % 3 ? "no\n" : "yes\n";
  }
  for (const char *name : {"d.npy", "d.npz", "d.svm"}) ASSERT_EQ(Save(digits.get(), name), "");
  const char *const ignored[] = {"n"};
  const struct {
    std::string path;
    const char *target, *weight_column, *target_file;
    bool indicators;
    int64_t ignored;
  } cases[] = {
      {examples + "breast_cancer.csv", "diagnosis", nullptr, nullptr, false, 0},
      {numbers, "-1", nullptr, nullptr, false, 0},
      {Write("many.csv", rows), "-1", nullptr, nullptr, false, 0},
      {Path("d.npy"), "-1", nullptr, nullptr, false, 0},
      {Path("d.npz"), nullptr, nullptr, nullptr, false, 0},
      {Path("d.svm"), nullptr, nullptr, nullptr, false, 0},
      {Write("m.csv", kMixed), "kind", "w", nullptr, true, 0},
      {Path("m.csv"), "kind", nullptr, nullptr, false, 1},
      {Path("m.csv"), "size,n", nullptr, nullptr, false, 0},  // two rows dropped
      {Path("m.csv"), nullptr, nullptr, labels.c_str(), false, 0},
  };
  for (const auto &c : cases) {
    descent_dataset_options options = kDefaults;
    options.target = c.target;
    options.weight_column = c.weight_column;
    options.target_file = c.target_file;
    options.indicators = c.indicators;
    options.ignore = ignored;
    options.ignored = c.ignored;
    const Dataset once = Open(c.path, options);
    ASSERT_NE(once, nullptr) << c.path;
    ASSERT_EQ(Save(once.get(), "once.safetensors"), "");
    descent_dataset *made = nullptr;
    ASSERT_EQ(descent_dataset_convert(c.path.c_str(), &options, Path("twice.safetensors").c_str(), &made), DESCENT_OK)
        << descent_last_error();
    const Dataset twice(made);
    EXPECT_TRUE(read_file(Path("twice.safetensors")) == read_file(Path("once.safetensors"))) << c.path;
    ExpectSame(once.get(), twice.get(), c.path);
    double change = -1, expected = -1;
    EXPECT_EQ(descent_dataset_rounded(twice.get(), &change), descent_dataset_rounded(once.get(), &expected)) << c.path;
    EXPECT_EQ(change, expected) << c.path;
    EXPECT_EQ(descent_dataset_dropped(twice.get()), descent_dataset_dropped(once.get())) << c.path;
    EXPECT_NE(twice->storage->mapping, nullptr);
  }
  descent_dataset *none = nullptr;
  EXPECT_EQ(descent_dataset_convert(Path("once.safetensors").c_str(), &kDefaults, Path("x.safetensors").c_str(), &none),
            DESCENT_ERROR_ARGUMENT);
  EXPECT_EQ(descent_dataset_convert("-", &kDefaults, Path("x.safetensors").c_str(), &none), DESCENT_ERROR_ARGUMENT);
}

// A file of 64 MiB: opening it costs neither memory nor time of that size, and an epoch over it leaves only pages that
// the system can reclaim.
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
#ifndef __SANITIZE_THREAD__  // which keeps several bytes for each byte that is touched
  // y, and what the allocator keeps.
  EXPECT_LT(after.ru_maxrss - before.ru_maxrss, 8 << 10) << "KiB";
  EXPECT_LT(after.ru_minflt - before.ru_minflt, 3 * 1024) << "pages touched, of 16384 that X has";
#endif
  // Shared with the file, read-only: no copy of a page can belong to this process.
  std::ifstream maps("/proc/self/maps");
  std::string line, found;
  while (std::getline(maps, line))
    if (line.find("large.safetensors") != std::string::npos) found += line.substr(line.find(' ') + 1, 4);
  EXPECT_EQ(found, "r--s");
}

}  // namespace
