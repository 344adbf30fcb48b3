// Datasets in memory, files matched to a network, splits that keep each class's share, and the fit of the
// normalisation.
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "data_files.h"

namespace {

using namespace std::string_literals;

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr descent_task kAuto = DESCENT_TASK_AUTO;
constexpr descent_task kBinary = DESCENT_TASK_BINARY;
constexpr descent_task kClasses = DESCENT_TASK_CLASSES;
constexpr descent_task kRegression = DESCENT_TASK_REGRESSION;

Dataset Create(const std::vector<float> &X, const std::vector<float> &y, int64_t rows, descent_task task,
               int64_t classes, int64_t targets = 1) {
  descent_dataset *made = nullptr;
  EXPECT_EQ(descent_dataset_create(X.data(), y.empty() ? nullptr : y.data(), nullptr, rows,
                                   static_cast<int64_t>(X.size()) / rows, targets, task, classes, &made),
            DESCENT_OK)
      << descent_last_error();
  return Dataset(made);
}

// ---- in memory ----------------------------------------------------------------------------------------------------

TEST(DatasetInMemory, BorrowsAndDescribesWhatItIsGiven) {
  const std::vector<float> X = {1, 2, 3, 4, 5, 6}, y = {0, 2, 2}, values = {1, 2, 3, 4, 5, 6};
  const Dataset classes = Create(X, y, 3, kClasses, 4);
  EXPECT_EQ(Describe(classes.get()), "-,- -> - classes -,-,-,-: 1,2>0 3,4>2 5,6>2");
  EXPECT_EQ(classes->storage->X, X.data());
  EXPECT_EQ(classes->storage->y, y.data());
  const int64_t counts[] = {0, 1, 0, 2, 0, 0};
  for (int64_t k = -1; k < 5; k++) EXPECT_EQ(descent_dataset_class_count(classes.get(), k), counts[k + 1]) << k;
  EXPECT_EQ(descent_dataset_input_name(classes.get(), 0), nullptr);
  EXPECT_EQ(descent_dataset_class_name(classes.get(), -1), nullptr);

  const Dataset regression = Create(X, values, 3, kRegression, 99, 2);
  EXPECT_EQ(descent_dataset_targets(regression.get()), 2);
  EXPECT_EQ(descent_dataset_classes(regression.get()), 0);
  float both[2];
  EXPECT_EQ(descent_dataset_target(regression.get(), 2, both), DESCENT_OK);
  EXPECT_EQ(both[0], 5);
  EXPECT_EQ(both[1], 6);
  EXPECT_EQ(descent_dataset_weight(regression.get(), 2, both), DESCENT_OK);
  EXPECT_EQ(both[0], 1) << "without weights";

  const Dataset unlabelled = Create(X, {}, 3, kAuto, 0);
  EXPECT_EQ(descent_dataset_targets(unlabelled.get()), 0);
  EXPECT_EQ(descent_dataset_classes(unlabelled.get()), 0);
  EXPECT_EQ(descent_dataset_class_count(unlabelled.get(), 0), 0);
  EXPECT_EQ(descent_dataset_target(unlabelled.get(), 0, both), DESCENT_ERROR_ARGUMENT);
  for (const int64_t row : {INT64_C(-1), INT64_C(3), INT64_MAX}) {
    EXPECT_EQ(descent_dataset_row(unlabelled.get(), row, both), DESCENT_ERROR_ARGUMENT);
    EXPECT_EQ(descent_dataset_target(classes.get(), row, both), DESCENT_ERROR_ARGUMENT);
    EXPECT_EQ(descent_dataset_weight(classes.get(), row, both), DESCENT_ERROR_ARGUMENT);
  }
  descent_dataset_free(nullptr);
}

TEST(DatasetInMemory, RefusesWhatItCannotBeAndSaysWhy) {
  const std::vector<float> good = {1, 2, 3, 4}, y = {0, 1}, infinite = {1, 2, 3, -kInfinity}, two = {0, 2},
                           half = {0.5f, 0}, below = {-1, 0}, nan_y = {0, kNaN}, minus = {1, -0.5f};
  const struct {
    const char *name;
    const float *X, *y, *weights;
    int64_t rows, inputs, targets;
    descent_task task;
    int64_t classes;
    std::string says;
  } cases[] = {
      {"no X", nullptr, y.data(), nullptr, 2, 2, 1, kBinary, 2, "X: is NULL"},
      {"no rows", good.data(), y.data(), nullptr, 0, 2, 1, kBinary, 2, "0 rows"},
      {"negative inputs", good.data(), y.data(), nullptr, 2, -2, 1, kBinary, 2, "-2 inputs"},
      {"sizes that overflow", good.data(), y.data(), nullptr, INT64_MAX / 2, 4, 1, kBinary, 2,
       "4611686018427387903 rows"},
      {"bytes that overflow", good.data(), y.data(), nullptr, INT64_MAX / 2, 2, 1, kBinary, 2,
       "4611686018427387903 rows"},
      {"no targets", good.data(), y.data(), nullptr, 2, 2, 0, kRegression, 0, "targets 0: must"},
      {"many targets", good.data(), y.data(), nullptr, 2, 2, INT64_MAX, kRegression, 0,
       "targets 9223372036854775807: must"},
      {"two targets of a class", good.data(), y.data(), nullptr, 2, 2, 2, kBinary, 2, "targets 2: must"},
      {"task auto", good.data(), y.data(), nullptr, 2, 2, 1, kAuto, 2, "task"},
      {"binary of three", good.data(), y.data(), nullptr, 2, 2, 1, kBinary, 3, "classes 3: must"},
      {"one class", good.data(), y.data(), nullptr, 2, 2, 1, kClasses, 1, "classes 1: must"},
      {"more classes than a float counts", good.data(), y.data(), nullptr, 2, 2, 1, kClasses, INT64_C(1) << 40,
       "classes 1099511627776: must"},
      {"infinite", infinite.data(), nullptr, nullptr, 2, 2, 1, kAuto, 0, "X: row 1, column 1"},
      {"class beyond the last", good.data(), two.data(), nullptr, 2, 2, 1, kBinary, 2, "y: row 1: 2"},
      {"half a class", good.data(), half.data(), nullptr, 2, 2, 1, kBinary, 2, "y: row 0: 0.5"},
      {"negative class", good.data(), below.data(), nullptr, 2, 2, 1, kClasses, 3, "y: row 0: -1"},
      {"NaN class", good.data(), nan_y.data(), nullptr, 2, 2, 1, kBinary, 2, "y: row 1: nan"},
      {"NaN target", good.data(), nan_y.data(), nullptr, 2, 2, 1, kRegression, 0, "y: row 1: nan"},
      {"negative weight", good.data(), y.data(), minus.data(), 2, 2, 1, kBinary, 2,
       "weights: row 1: invalid weight -0.5"},
      {"NaN weight", good.data(), y.data(), nan_y.data(), 2, 2, 1, kBinary, 2, "weights: row 1: invalid weight nan"},
  };
  for (const auto &c : cases) {
    descent_dataset *made = nullptr;
    EXPECT_EQ(descent_dataset_create(c.X, c.y, c.weights, c.rows, c.inputs, c.targets, c.task, c.classes, &made),
              DESCENT_ERROR_ARGUMENT)
        << c.name;
    EXPECT_EQ(made, nullptr) << c.name;
    EXPECT_NE(std::string(descent_last_error()).find(c.says), std::string::npos)
        << c.name << ": " << descent_last_error();
  }
}

// ---- files for a network -------------------------------------------------------------------------------------------

// A network's description of its data; names NULL: it has none.
struct Known {
  int64_t inputs;
  const char *const *input_names;
  const char *target_name;
  const char *const *class_names;
  int64_t classes;
  descent_task task;
};

// The same as a reader gets it. Borrows the names.
class Expected {
 public:
  explicit Expected(const Known &known) {
    for (int64_t j = 0; known.input_names && j < known.inputs; j++)
      features_.push_back({const_cast<char *>(known.input_names[j]), nullptr, 0, false});
    target_ = const_cast<char *>(known.target_name);
    schema_.features = features_.empty() ? nullptr : features_.data();
    schema_.n_features = static_cast<int64_t>(features_.size());
    schema_.target_names = target_ ? &target_ : nullptr;
    schema_.targets = target_ ? 1 : 0;
    schema_.class_names = const_cast<char **>(known.class_names);
    schema_.classes = known.class_names ? known.classes : 0;
    expected_ = {&schema_, known.inputs, known.inputs, 1, known.classes, known.task, true};
  }
  Expected(const Expected &) = delete;
  const expected_data *get() const { return &expected_; }

 private:
  std::vector<feature> features_;
  char *target_;
  struct schema schema_ = {};
  struct expected_data expected_;
};

class MatchedFile : public DataFiles {
 protected:
  static constexpr const char *kInputs[] = {"a", "b"}, *kNames[] = {"no", "yes"}, *kNumbers[] = {"1", "7", "10"};

  std::string ReadFor(const Known &schema, const std::string &text, const char *target = nullptr,
                      int header = -1) const {
    descent_dataset_options options = descent_dataset_options_default();
    options.strict = true;
    options.target = target;
    options.header = header;
    dataset_storage *storage = nullptr;
    const Expected expected(schema);
    const read_request how = {&options, expected.get(), false};
    const descent_status status = csv_read(Write("t.csv", text).c_str(), &how, nullptr, &storage);
    if (status != DESCENT_OK) return Plain(std::string(descent_status_text(status)) + ": " + descent_last_error());
    const Dataset dataset(dataset_wrap(storage));
    return Describe(dataset.get());
  }

  const Known named = {2, kInputs, "y", kNames, 2, kBinary};
  const Known unnamed = {2, nullptr, nullptr, nullptr, 3, kClasses};
  const Known numbered = {2, kInputs, "y", kNumbers, 3, kClasses};
  const Known amounts = {2, kInputs, "y", nullptr, 0, kRegression};
};

TEST_F(MatchedFile, TakesColumnsByName) {
  const struct {
    const char *name;
    const Known *schema;
    const char *text, *target, *expected;
  } cases[] = {
      {"as trained", &named, "a,b,y\n1,2,yes\n3,4,no\n", nullptr, "a,b -> y binary no,yes: 1,2>1 3,4>0"},
      {"another order", &named, "y,b,a\nyes,2,1\nno,4,3\n", nullptr, "a,b -> y binary no,yes: 1,2>1 3,4>0"},
      {"columns besides", &named, "id,b,note,a,y\nx1,2,hello,1,yes\n", nullptr, "a,b -> y binary no,yes: 1,2>1"},
      {"equal names besides", &named, "n,b,n,a,y\n0,2,0,1,yes\n", nullptr, "a,b -> y binary no,yes: 1,2>1"},
      {"without a target", &named, "b,a\n2,1\n", nullptr, "a,b -> - binary no,yes: 1,2"},
      {"another target", &named, "b,a,z\n2,1,no\n", "z", "a,b -> z binary no,yes: 1,2>0"},
      {"another target by index", &named, "b,a,z\n2,1,no\n", "-1", "a,b -> z binary no,yes: 1,2>0"},
      {"one class only", &named, "a,b,y\n1,2,yes\n3,4,yes\n", nullptr, "a,b -> y binary no,yes: 1,2>1 3,4>1"},
      {"numbers", &numbered, "a,b,y\n1,2,7.0\n3,4,1e1\n", nullptr, "a,b -> y classes 1,7,10: 1,2>1 3,4>2"},
      {"regression", &amounts, "a,b,y\n1,2,5\n3,4,5\n", nullptr, "a,b -> y regression: 1,2>5 3,4>5"},
      {"a class that does not exist", &named, "a,b,y\n1,2,yes\n3,4,maybe\n", nullptr,
       "bad data: t.csv:3: column 'y': 'maybe' is not one of the network's classes"},
      {"a number that does not exist", &numbered, "a,b,y\n1,2,0\n", nullptr,
       "bad data: t.csv:2: column 'y': '0' is not one of the network's classes"},
      {"an empty class", &named, "a,b,y\n1,2,\n", nullptr,
       "bad data: t.csv:2: column 'y': the cell is empty (fill in the target, or remove the row)"},
      {"text for regression", &amounts, "a,b,y\n1,2,many\n", nullptr,
       "bad data: t.csv:2: column 'y': 'many' is not a number, which regression needs (correct it)"},
      {"a column missing", &named, "a,y\n1,yes\n", nullptr,
       "bad data: t.csv:1: 1 of the 2 columns that the network needs is missing: 'b'"},
      {"all columns missing", &named, "c,y\n1,yes\n", nullptr,
       "bad data: t.csv:1: 2 of the 2 columns that the network needs are missing: 'a', 'b'"},
      {"another case", &named, "A,b\n1,2\n", nullptr,
       "bad data: t.csv:1: 1 of the 2 columns that the network needs is missing: 'a'"},
      {"equal names", &named, "a,b,a\n1,2,3\n", nullptr,
       "bad data: t.csv:1: several columns are named 'a' (it is an input of the network: rename or remove the others)"},
      {"equal targets", &named, "a,b,y,y\n1,2,yes,no\n", nullptr,
       "bad data: t.csv:1: several columns are named 'y' (it is the network's target: rename or remove the others)"},
      {"an input as target", &named, "a,b\n1,2\n", "b",
       "bad data: t.csv:1: column 'b' cannot be the target: it is an input of the network (choose another target)"},
      {"a target that is not there", &named, "a,b\n1,2\n", "z", "bad data: t.csv:1: no column 'z' (known: 'a', 'b')"},
  };
  for (const auto &c : cases) {
    std::string read = ReadFor(*c.schema, c.text, c.target);
    // Without a target column there are no classes to name.
    const std::string expected = c.name == "without a target"s ? "a,b -> - binary: 1,2" : c.expected;
    EXPECT_EQ(read, expected) << c.name;
  }
}

TEST_F(MatchedFile, TakesColumnsByPositionWithoutNames) {
  const struct {
    const char *name;
    const Known *schema;
    const char *text, *target, *expected;
  } cases[] = {
      {"file without names", &named, "1,2,yes\n3,4,no\n", nullptr, "-,- -> - binary no,yes: 1,2>1 3,4>0"},
      {"without target", &named, "1,2\n3,4\n", nullptr, "-,- -> - binary: 1,2 3,4"},
      {"target elsewhere", &named, "yes,1,2\nno,3,4\n", "0", "-,- -> - binary no,yes: 1,2>1 3,4>0"},
      {"network without names", &unnamed, "u,v,w\n1,2,0\n3,4,2\n", nullptr, "u,v -> w classes -,-,-: 1,2>0 3,4>2"},
      {"network without names, target by name", &unnamed, "u,v,w\n2,1,2\n", "u", "v,w -> u classes -,-,-: 1,2>2"},
      {"no class of that number", &unnamed, "1,2,3\n", nullptr,
       "bad data: t.csv:1: column 2 (from 0): '3' is not a class of the network: classes are numbered from 0"},
      {"no class of that name", &unnamed, "1,2,x\n", nullptr,
       "bad data: t.csv:1: column 2 (from 0): 'x' is not a class of the network: classes are numbered from 0"},
      {"too few", &named, "1\n", nullptr,
       "bad data: t.csv:1: 1 column, matched by position because the file has no names: the network needs 2, plus one "
       "for the target"},
      {"too many", &unnamed, "u,v,w,x\n1,2,3,4\n", nullptr,
       "bad data: t.csv:1: 4 columns, matched by position because the network has no names: the network needs 2, plus "
       "one for the target"},
      {"target among the inputs", &named, "1,2\n", "1",
       "bad data: t.csv:1: 2 columns with the target, matched by position because the file has no names: the network "
       "needs 2, plus one for the target"},
  };
  for (const auto &c : cases) EXPECT_EQ(ReadFor(*c.schema, c.text, c.target), c.expected) << c.name;
}

TEST_F(MatchedFile, FindsNamesThatAreNumbers) {
  static constexpr const char *kColumns[] = {"0", "1"};
  const Known schema = {2, kColumns, "y", kNames, 2, kBinary};
  EXPECT_EQ(ReadFor(schema, "1,0\n5,6\n"), "0,1 -> - binary: 6,5");
  EXPECT_EQ(ReadFor(schema, "1,3\n5,6\n"), "-,- -> - binary: 1,3 5,6");
}

TEST_F(MatchedFile, ListsTheFirstOfManyMissingColumns) {
  std::vector<std::string> names;
  std::vector<const char *> pointers;
  for (int j = 0; j < 1000; j++) names.push_back("column_" + std::to_string(j));
  for (const std::string &name : names) pointers.push_back(name.c_str());
  const Known schema = {1000, pointers.data(), nullptr, nullptr, 0, kRegression};
  EXPECT_EQ(ReadFor(schema, "column_1,column_3\n1,2\n"),
            "bad data: t.csv:1: 998 of the 1000 columns that the network needs are missing: 'column_0', 'column_2', "
            "'column_4', 'column_5', 'column_6', ...");
}

TEST_F(MatchedFile, RefusesNetworksWhoseNamesAreNotDistinct) {
  static constexpr const char *kTwins[] = {"1", "1.0"}, *kColumns[] = {"a", "a"};
  EXPECT_EQ(ReadFor({2, kInputs, "y", kTwins, 2, kBinary}, "a,b,y\n1,2,1\n"),
            "bad model file: the network's classes 0 and 1 are both named '1.0'");
  EXPECT_EQ(ReadFor({2, kColumns, "y", kNames, 2, kBinary}, "a,b,y\n1,2,no\n"),
            "bad data: t.csv:1: column 'a' cannot be two inputs of the network: its input names are not distinct");
}

TEST_F(MatchedFile, FollowsTheNetworkItIsReadLike) {
  descent_dataset_options options = descent_dataset_options_default();
  options.target = "y";
  descent_dataset *read = nullptr;
  ASSERT_EQ(descent_dataset_read(Write("train.csv", "a,b,y\n1,2,no\n3,4,yes\n").c_str(), &options, &read), DESCENT_OK);
  const Dataset training(read);
  descent_network_options shape = descent_network_options_default();
  const int64_t widths[] = {1};
  shape.inputs = 2, shape.layers = 1, shape.widths = widths;
  descent_network *made = nullptr;
  ASSERT_EQ(descent_network_create(&shape, &made), DESCENT_OK);
  const Network network(made);

  options.target = nullptr;
  options.network = made;
  EXPECT_EQ(Read(Write("t.csv", "8,9,1\n"), options), "-,- -> - binary -,-: 8,9>1");
  ASSERT_EQ(descent_network_fit_preprocessing(made, read, DESCENT_NORMALIZE_STANDARD, DESCENT_IMPUTE_MEAN, false),
            DESCENT_OK);
  EXPECT_EQ(Read(Write("t.csv", "y,b,id,a\nyes,9,1,8\n"), options), "a,b -> y binary no,yes: 8,9>1");
  EXPECT_EQ(Read(Write("t.csv", "y,b\nyes,9\n"), options),
            "bad data: t.csv:1: 1 of the 2 columns that the network needs is missing: 'a'");
  options.task = kRegression;
  EXPECT_EQ(Read(Path("t.csv"), options), "invalid argument: task regression does not match the network's task binary");
  options.task = kBinary;
  EXPECT_EQ(Read(Write("t.csv", "b,a\n9,8\n"), options), "a,b -> - binary: 8,9");
}

TEST_F(MatchedFile, LeavesTheTargetUnreadWhereOnlyFeaturesAreWanted) {
  const struct {
    const char *name;
    const Known *schema;
    const char *text;
    std::vector<const char *> ignore;
    const char *expected, *note;
  } cases[] = {
      {"empty", &named, "a,b,y\n1,2,\n3,4,\n", {}, "a,b -> - binary: 1,2 3,4", ""},
      {"of no known class", &named, "y,a,b\nmaybe,1,2\n", {}, "a,b -> - binary: 1,2", ""},
      {"no number", &amounts, "a,b,y\n1,2,?\n", {}, "a,b -> - regression: 1,2", ""},
      {"by position", &named, "1,2,?\n", {}, "-,- -> - binary: 1,2", "no header: columns are matched by position"},
      {"by position, some ignored",
       &unnamed,
       "k,a,b,c\nx,1,2,?\n",
       {"k"},
       "a,b -> - classes: 1,2",
       "the model has no column names: columns are matched by position"},
      {"ignored columns are not required by name", &named, "a,b,k\n1,2,x\n", {"none"}, "a,b -> - binary: 1,2", ""},
  };
  for (const auto &c : cases) {
    descent_dataset_options options = descent_dataset_options_default();
    options.features_only = true;
    options.ignore = c.ignore.data();
    options.ignored = static_cast<int64_t>(c.ignore.size());
    dataset_storage *storage = nullptr;
    const Expected expected(c.schema ? *c.schema : Known{});
    const read_request how = {&options, c.schema ? expected.get() : nullptr, false};
    ASSERT_EQ(csv_read(Write("t.csv", c.text).c_str(), &how, nullptr, &storage), DESCENT_OK)
        << c.name << ": " << descent_last_error();
    const Dataset dataset(dataset_wrap(storage));
    EXPECT_EQ(Describe(dataset.get()), c.expected) << c.name;
    EXPECT_STREQ(descent_dataset_note(dataset.get()), c.note) << c.name;
    EXPECT_EQ(descent_dataset_targets(dataset.get()), 0) << c.name;
  }
}

// ---- splits --------------------------------------------------------------------------------------------------------

struct Split {
  Dataset kept, held_out;
};

Split SplitOf(const descent_dataset *dataset, double fraction, uint64_t seed) {
  descent_dataset *kept = nullptr, *held_out = nullptr;
  EXPECT_EQ(descent_dataset_split(dataset, fraction, seed, &kept, &held_out), DESCENT_OK) << descent_last_error();
  return {Dataset(kept), Dataset(held_out)};
}

std::vector<int64_t> RowsOf(const Dataset &view) {
  std::vector<int64_t> rows;
  for (int64_t r = 0; r < descent_dataset_rows(view.get()); r++) rows.push_back(dataset_source_row(view.get(), r));
  return rows;
}

TEST(DatasetSplit, KeepsTheShareOfEachClass) {
  const std::vector<std::vector<int64_t>> compositions = {{50, 50},    {90, 10},    {997, 3},        {100, 2},
                                                          {1, 99},     {7, 11, 13}, {1000, 2, 2, 2}, {3, 3, 3, 3, 3},
                                                          {0, 10, 20}, {212, 357},  {51, 2, 2}};
  for (const auto &counts : compositions)
    for (const double fraction : {0.05, 0.1, 0.2, 0.25, 0.29, 0.5, 0.75, 0.9, 0.95}) {
      std::vector<float> y;
      for (size_t k = 0; k < counts.size(); k++)
        y.insert(y.end(), static_cast<size_t>(counts[k]), static_cast<float>(k));
      // Classes come in an order that has nothing to do with the split.
      for (size_t i = 0; i < y.size(); i++) std::swap(y[i], y[i * 7919 % y.size()]);
      const auto rows = static_cast<int64_t>(y.size());
      const int64_t total = llround(fraction * static_cast<double>(rows));
      if (total < 1 || total >= rows) continue;
      const std::vector<float> X(y.size(), 1);
      const Dataset all = Create(X, y, rows, kClasses, static_cast<int64_t>(counts.size()));
      const Split split = SplitOf(all.get(), fraction, 5);
      SCOPED_TRACE(testing::PrintToString(counts) + " " + std::to_string(fraction));
      EXPECT_EQ(descent_dataset_rows(split.held_out.get()), total);
      EXPECT_EQ(descent_dataset_rows(split.kept.get()), rows - total);
      int64_t bare = 0, spare = 0;
      for (size_t k = 0; k < counts.size(); k++) {
        const double share = fraction * static_cast<double>(counts[k]);
        const int64_t held = descent_dataset_class_count(split.held_out.get(), static_cast<int64_t>(k));
        EXPECT_EQ(held + descent_dataset_class_count(split.kept.get(), static_cast<int64_t>(k)), counts[k]);
        EXPECT_LE(std::abs(static_cast<double>(held) - share), 1 + 1e-9) << k;
        if (counts[k] >= 2 && (held == 0 || held == counts[k])) bare++;
        // Could have given a row to an empty class (either side) and stayed within one row of its share.
        if (held >= 2 && static_cast<double>(held) >= share && fraction < 0.5) spare++;
      }
      if (fraction < 0.5) {
        EXPECT_TRUE(bare == 0 || spare == 0) << bare << " classes bare, " << spare << " could give";
      }
    }
}

TEST(DatasetSplit, GivesTheRestToTheLargestRemainders) {
  // Shares of 1.4, 1.7 and 1.9 rows, 5 in all.
  std::vector<float> y(50, 0);
  std::fill(y.begin() + 14, y.end(), 1.0f);
  std::fill(y.begin() + 31, y.end(), 2.0f);
  const std::vector<float> X(y.size(), 1);
  const Dataset all = Create(X, y, 50, kClasses, 3);
  const Split split = SplitOf(all.get(), 0.1, 1);
  const int64_t counts[] = {1, 2, 2};
  for (int64_t k = 0; k < 3; k++) EXPECT_EQ(descent_dataset_class_count(split.held_out.get(), k), counts[k]) << k;
}

TEST(DatasetSplit, LeavesOneOfEachClassOnBothSidesWherePossible) {
  std::vector<float> y(1006, 0);
  for (size_t i = 0; i < 6; i++) y[i] = static_cast<float>(1 + i / 2);
  const std::vector<float> X(y.size(), 1);
  const Dataset all = Create(X, y, 1006, kClasses, 4);
  for (const double fraction : {0.26, 0.74}) {
    const Split split = SplitOf(all.get(), fraction, 1);
    for (int64_t k = 1; k < 4; k++)
      EXPECT_EQ(descent_dataset_class_count(split.held_out.get(), k), 1) << fraction << " " << k;
  }
  // Two rows to hold out: one is the large class's, so one small class gets the other.
  const Split split = SplitOf(all.get(), 0.002, 1);
  for (int64_t k = 0; k < 4; k++) EXPECT_EQ(descent_dataset_class_count(split.held_out.get(), k), k < 2) << k;
}

TEST(DatasetSplit, SharesRowsOutInAscendingOrderAndNoneTwice) {
  const std::vector<float> X(1000, 1), y(1000, 0.5f);
  for (const descent_task task : {kRegression, kAuto}) {
    const Dataset all = Create(X, task == kRegression ? y : std::vector<float>(), 1000, task, 0);
    const Split split = SplitOf(all.get(), 0.3, 9);
    const std::vector<int64_t> kept = RowsOf(split.kept), held_out = RowsOf(split.held_out);
    EXPECT_EQ(held_out.size(), 300u);
    EXPECT_TRUE(std::is_sorted(kept.begin(), kept.end()));
    EXPECT_TRUE(std::is_sorted(held_out.begin(), held_out.end()));
    std::set<int64_t> both(kept.begin(), kept.end());
    both.insert(held_out.begin(), held_out.end());
    EXPECT_EQ(both.size(), 1000u);
    EXPECT_EQ(*both.rbegin(), 999);
  }
}

TEST(DatasetSplit, IsDrawnFromTheSeed) {
  const std::vector<float> X(400, 1);
  std::vector<float> y(400);
  for (size_t i = 0; i < y.size(); i++) y[i] = static_cast<float>(i % 2);
  const Dataset all = Create(X, y, 400, kBinary, 2);
  EXPECT_EQ(RowsOf(SplitOf(all.get(), 0.25, 3).held_out), RowsOf(SplitOf(all.get(), 0.25, 3).held_out));
  EXPECT_NE(RowsOf(SplitOf(all.get(), 0.25, 3).held_out), RowsOf(SplitOf(all.get(), 0.25, 4).held_out));
  // Each row is held out in a quarter of the splits: over 1000 seeds 250 times, with a standard deviation of 13.7 if
  // the draws are independent. None of 400 rows deviates by 5.5 standard deviations (chance 2e-5).
  std::vector<int> times(400, 0);
  for (uint64_t seed = 0; seed < 1000; seed++)
    for (const int64_t row : RowsOf(SplitOf(all.get(), 0.25, seed).held_out)) times[static_cast<size_t>(row)]++;
  EXPECT_GE(*std::min_element(times.begin(), times.end()), 250 - 75);
  EXPECT_LE(*std::max_element(times.begin(), times.end()), 250 + 75);
}

TEST_F(MatchedFile, ViewsOutliveTheirParents) {
  descent_dataset_options options = descent_dataset_options_default();
  options.target = "y";
  std::string text = "a,y\n";
  for (int i = 0; i < 100; i++) text += std::to_string(i) + (i % 2 ? ",odd\n" : ",even\n");
  descent_dataset *read = nullptr;
  ASSERT_EQ(descent_dataset_read(Write("t.csv", text).c_str(), &options, &read), DESCENT_OK);
  Split outer = SplitOf(read, 0.5, 1);
  descent_dataset_free(read);
  Split inner = SplitOf(outer.kept.get(), 0.2, 2);
  outer.kept.reset();
  outer.held_out.reset();
  inner.kept.reset();
  EXPECT_EQ(descent_dataset_rows(inner.held_out.get()), 10);
  for (int64_t r = 0; r < 10; r++) {
    float x, y;
    descent_dataset_row(inner.held_out.get(), r, &x);
    descent_dataset_target(inner.held_out.get(), r, &y);
    EXPECT_STREQ(descent_dataset_class_name(inner.held_out.get(), static_cast<int64_t>(y)),
                 static_cast<int>(x) % 2 ? "odd" : "even");
  }
}

TEST(DatasetSplit, RefusesEmptySides) {
  const std::vector<float> X(10, 1);
  const Dataset all = Create(X, {}, 10, kAuto, 0), one = Create({1}, {}, 1, kAuto, 0);
  const struct {
    const descent_dataset *dataset;
    double fraction;
    descent_status status;
    const char *says;
  } cases[] = {
      {all.get(), 0, DESCENT_ERROR_ARGUMENT, "fraction 0: must be above 0 and below 1"},
      {all.get(), 1, DESCENT_ERROR_ARGUMENT, "fraction 1: must be above 0 and below 1"},
      {all.get(), -0.5, DESCENT_ERROR_ARGUMENT, "fraction -0.5: must be above 0 and below 1"},
      {all.get(), std::nan(""), DESCENT_ERROR_ARGUMENT, "fraction nan: must be above 0 and below 1"},
      {all.get(), 0.04, DESCENT_ERROR_DATA,
       "a fraction of 0.04 of 10 rows leaves one side of the split empty (change the fraction, or add rows)"},
      {all.get(), 0.96, DESCENT_ERROR_DATA,
       "a fraction of 0.96 of 10 rows leaves one side of the split empty (change the fraction, or add rows)"},
      {one.get(), 0.5, DESCENT_ERROR_DATA,
       "a fraction of 0.5 of 1 row leaves one side of the split empty (change the fraction, or add rows)"},
  };
  for (const auto &c : cases) {
    descent_dataset *kept = nullptr, *held_out = nullptr;
    EXPECT_EQ(descent_dataset_split(c.dataset, c.fraction, 1, &kept, &held_out), c.status) << c.fraction;
    EXPECT_STREQ(descent_last_error(), c.says);
    EXPECT_EQ(kept, nullptr);
    EXPECT_EQ(held_out, nullptr);
  }
}

// ---- normalisation -------------------------------------------------------------------------------------------------

struct Fit {
  float fill, shift, scale;
};

Fit FitOf(const std::vector<float> &column, descent_normalize kind, descent_impute impute = DESCENT_IMPUTE_MEAN) {
  const Dataset data = Create(column, {}, static_cast<int64_t>(column.size()), kAuto, 0);
  Fit fit = {kNaN, 0, 1};
  EXPECT_EQ(preprocess_fit_inputs(data.get(), impute, kind, &fit.fill, &fit.shift, &fit.scale), DESCENT_OK);
  return fit;
}

TEST(Preprocess, FitsWhatMissingCellsCountAs) {
  const struct {
    const char *name;
    std::vector<float> column;
    descent_impute impute;
    float fill;
  } cases[] = {
      {"mean", {1, kNaN, 2, 6}, DESCENT_IMPUTE_MEAN, 3},
      {"odd median", {7, kNaN, 1, 2}, DESCENT_IMPUTE_MEDIAN, 2},
      {"even median", {7, 1, kNaN, 2, 4}, DESCENT_IMPUTE_MEDIAN, 3},
      {"most frequent", {5, 1, 5, 1, 1, kNaN, kNaN, kNaN, kNaN}, DESCENT_IMPUTE_MOST_FREQUENT, 1},
      {"smallest of the most frequent", {5, 1, 5, 1}, DESCENT_IMPUTE_MOST_FREQUENT, 1},
  };
  for (const auto &c : cases) EXPECT_EQ(FitOf(c.column, DESCENT_NORMALIZE_NONE, c.impute).fill, c.fill) << c.name;
}

// Shift and scale are those of the column with its missing cells filled.
TEST(Preprocess, NormalisesTheFilledColumn) {
  const std::vector<float> column = {1, kNaN, 2, 6, kNaN, 11, 3, 3};
  for (const descent_impute impute : {DESCENT_IMPUTE_MEAN, DESCENT_IMPUTE_MEDIAN, DESCENT_IMPUTE_MOST_FREQUENT})
    for (const descent_normalize kind : {DESCENT_NORMALIZE_STANDARD, DESCENT_NORMALIZE_MINMAX}) {
      const Fit fit = FitOf(column, kind, impute);
      std::vector<float> filled = column;
      for (float &x : filled)
        if (std::isnan(x)) x = fit.fill;
      const Fit expected = FitOf(filled, kind, impute);
      EXPECT_FLOAT_EQ(fit.shift, expected.shift) << kind << " " << impute;
      EXPECT_FLOAT_EQ(fit.scale, expected.scale) << kind << " " << impute;
    }
}

TEST(Preprocess, RefusesAColumnWithoutAnyCell) {
  const std::vector<float> column = {kNaN, kNaN};
  const Dataset data = Create(column, {}, 2, kAuto, 0);
  float fill, shift, scale;
  EXPECT_EQ(preprocess_fit_inputs(data.get(), DESCENT_IMPUTE_MEAN, DESCENT_NORMALIZE_STANDARD, &fill, &shift, &scale),
            DESCENT_ERROR_DATA);
  EXPECT_STREQ(descent_last_error(), "input 0 (from 0): missing in all 2 training rows (ignore its column)");
}

TEST(Preprocess, FitsShiftAndScale) {
  const struct {
    const char *name;
    std::vector<float> column;
    descent_normalize kind;
    double shift, scale;
  } cases[] = {
      {"standard", {2, 4, 4, 4, 5, 5, 7, 9}, DESCENT_NORMALIZE_STANDARD, 5, 0.5},
      {"minmax", {2, 4, 4, 4, 5, 5, 7, 10}, DESCENT_NORMALIZE_MINMAX, 2, 0.125},
      {"minmax below 0", {-3, -1}, DESCENT_NORMALIZE_MINMAX, -3, 0.5},
      {"none", {2, 4}, DESCENT_NORMALIZE_NONE, 0, 1},
      {"constant, standard", {0.1f, 0.1f, 0.1f}, DESCENT_NORMALIZE_STANDARD, 0.1f, 1},
      {"constant, minmax", {-7, -7, -7}, DESCENT_NORMALIZE_MINMAX, -7, 1},
      {"one row", {42}, DESCENT_NORMALIZE_STANDARD, 42, 1},
      {"far from 0", {16777214, 16777216}, DESCENT_NORMALIZE_STANDARD, 16777215, 1},
      {"huge", {-1e30f, 1e30f}, DESCENT_NORMALIZE_STANDARD, 0, 1 / static_cast<double>(1e30f)},
      {"huge, minmax", {-1e30f, 1e30f}, DESCENT_NORMALIZE_MINMAX, -1e30f, 0.5 / static_cast<double>(1e30f)},
      {"the largest", {-FLT_MAX, FLT_MAX}, DESCENT_NORMALIZE_STANDARD, 0, 1 / static_cast<double>(FLT_MAX)},
      {"small", {1e-30f, 3e-30f}, DESCENT_NORMALIZE_STANDARD, 2e-30, 1e30},
      {"too close together to be distinguished", {0, 0x1p-149f}, DESCENT_NORMALIZE_STANDARD, 0, 1},
  };
  for (const auto &c : cases) {
    const Fit fit = FitOf(c.column, c.kind);
    // One rounding to float of a value accurate to a few units of double (the inputs themselves are floats, which shows
    // in "small": 3e-30f is off by up to half a unit).
    const double unit = 0x1p-24 * (c.name == "small"s ? 4 : 1) * (1 + 1e-6);
    EXPECT_NEAR(fit.shift, c.shift, std::abs(c.shift) * unit) << c.name;
    EXPECT_NEAR(fit.scale, c.scale, c.scale * unit + 0x1p-150) << c.name;
  }
}

TEST(Preprocess, FitsManyRowsWithoutLosingDigits) {
  // 1e6 rows of 1000 +- 1: summing squares in float would lose the deviation entirely.
  std::vector<float> column(1000000);
  for (size_t i = 0; i < column.size(); i++) column[i] = i % 2 ? 1001.0f : 999.0f;
  const Fit fit = FitOf(column, DESCENT_NORMALIZE_STANDARD);
  EXPECT_EQ(fit.shift, 1000.0f);
  EXPECT_EQ(fit.scale, 1.0f);
}

TEST(Preprocess, FitsOnlyTheRowsOfTheView) {
  std::vector<float> X, y;
  for (int i = 0; i < 40; i++)
    X.push_back(static_cast<float>(i)), X.push_back(static_cast<float>(-3 * i)), y.push_back(static_cast<float>(2 * i));
  const Dataset all = Create(X, y, 40, kRegression, 0);
  const Split split = SplitOf(all.get(), 0.25, 1);
  double mean = 0, squares = 0;
  const std::vector<int64_t> rows = RowsOf(split.kept);
  for (const int64_t row : rows) mean += static_cast<double>(row) / static_cast<double>(rows.size());
  for (const int64_t row : rows) squares += std::pow(static_cast<double>(row) - mean, 2);
  const double deviation = std::sqrt(squares / static_cast<double>(rows.size()));
  float shift[2], scale[2];
  const double unit = 0x1p-24 * (1 + 1e-6);
  float fill[2];
  ASSERT_EQ(
      preprocess_fit_inputs(split.kept.get(), DESCENT_IMPUTE_MEAN, DESCENT_NORMALIZE_STANDARD, fill, shift, scale),
      DESCENT_OK);
  EXPECT_NEAR(shift[0], mean, mean * unit);
  EXPECT_NEAR(shift[1], -3 * mean, 3 * mean * unit);
  EXPECT_NEAR(scale[0], 1 / deviation, unit / deviation);
  EXPECT_NEAR(scale[1], 1 / deviation / 3, unit / deviation / 3);
  ASSERT_EQ(preprocess_fit_targets(split.kept.get(), shift, scale), DESCENT_OK);
  EXPECT_NEAR(shift[0], 2 * mean, 2 * mean * unit);
  EXPECT_NEAR(scale[0], 1 / deviation / 2, unit / deviation / 2);
}

}  // namespace
