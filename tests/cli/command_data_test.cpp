// The command on realistic data: categories, missing cells, weights, several targets, other formats.
#include "command.h"

#include <cmath>

namespace {

// Rows like those of the census of 1994: numbers, texts, '?' for unknown, a blank after each comma. Income follows from
// age and education alone.
std::string Census(int rows) {
  static const char *const work[] = {"Private", "Self-emp", "Gov"}, *const school[] = {"HS", "Bachelors", "Masters"};
  std::ostringstream text;
  unsigned state = 7;
  auto next = [&state](int n) {
    state = state * 1664525U + 1013904223U;
    return static_cast<int>(state >> 16) % n;
  };
  text << "age, workclass, education, hours, income\n";
  for (int i = 0; i < rows; i++) {
    const bool rich = i % 2;
    text << (rich ? 50 + next(10) : 20 + next(10)) << ", " << (next(10) ? work[next(3)] : "?") << ", "
         << school[rich ? 2 : next(2)] << ", ";
    if (next(10))
      text << 30 + next(20);
    else
      text << "?";
    text << ", " << (rich ? ">50K" : "<=50K") << "\n";
  }
  return text.str();
}

class CommandData : public ::testing::Test {
 protected:
  Folder folder;

  Result Train(const Arguments &more, const std::string &file = "census.csv") {
    return folder.run(Arguments{"train", file, "--epochs", "20", "--lr", "0.01", "--hidden", "8", "--out", "m"} + more);
  }
  Result Predict(const std::string &text, const Arguments &more = {}) {
    folder.write("new.csv", text);
    return folder.run(Arguments{"predict", "m", "new.csv"} + more);
  }
};

TEST_F(CommandData, TrainsOnACensusWithTheTargetAlone) {
  folder.write("census.csv", Census(300));
  const Result trained = Train({"--target", "income"});
  ASSERT_EQ(trained.code, 0) << trained.err;
  expect_contains(trained.err, "4 features, target income");
  expect_contains(trained.err, "categories  workclass: 3 categories, education: 3 (8 inputs in total)");
  expect_contains(trained.err, " cells in workclass, ");
  expect_contains(trained.err, "; filled with the mean or the most frequent category\n");
  expect_contains(trained.err, "binary (inferred): <=50K 150, >50K 150");

  // Another order, a column more, missing cells.
  const Result predicted = Predict("income,education,note,age,hours,workclass\n,Masters,x,55,40,Gov\n,HS,y,22,?,?\n",
                                   {"--output", "classes"});
  EXPECT_EQ(predicted.code, 0) << predicted.err;
  EXPECT_EQ(predicted.out, "prediction\n>50K\n<=50K\n");
  expect_contains(predicted.err, "note: new.csv: 2 missing cells are filled in");
}

TEST_F(CommandData, SaysWhatAFileForAModelLacks) {
  folder.write("census.csv", Census(100));
  ASSERT_EQ(Train({"--target", "income", "--quiet"}).code, 0);
  const struct {
    const char *name, *text;
    Arguments more;
    int code;
    std::vector<const char *> says;
  } cases[] = {
      {"a column", "age,hours,education\n50,40,HS\n", {}, 3, {"new.csv:1: 1 of the 4 columns", "missing: 'workclass'"}},
      {"a category", "age,hours,education,workclass\n50,40,PhD,Gov\n", {}, 3, {"new.csv:2: column 'education': 'PhD'"}},
      {"a number", "age,hours,education,workclass\nold,40,HS,Gov\n", {}, 3, {"new.csv:2: column 'age': 'old' is not"}},
      {"unseen as zeros",
       "age,hours,education,workclass\n50,40,PhD,Gov\n",
       {"--unseen", "zeros"},
       0,
       {"1 cell holds a category not seen in training"}},
      {"a class threshold", "age,hours,education,workclass\n50,40,HS,Gov\n", {"--threshold", "2"}, 2, {"--threshold"}},
      {"a kind of output", "age,hours,education,workclass\n50,40,HS,Gov\n", {"--output", "x"}, 2, {"--output 'x'"}},
  };
  for (const auto &c : cases) {
    SCOPED_TRACE(c.name);
    const Result result = Predict(c.text, c.more);
    EXPECT_EQ(result.code, c.code);
    expect_one_line(result.err);
    for (const char *part : c.says) expect_contains(result.err, part);
    EXPECT_TRUE(!c.code || result.out.empty()) << result.out;
  }
}

TEST_F(CommandData, PredictsTheSameAcrossBlocks) {
  folder.write("census.csv", Census(100));
  ASSERT_EQ(Train({"--target", "income", "--quiet"}).code, 0);
  std::string text = "age,hours,education,workclass\n", expected = "prediction\n";
  for (int i = 0; i < 150000; i++) {  // blocks have 65,536 rows
    text += i % 3 ? "25,40,HS,Gov\n" : "55,40,Masters,Private\n";
    expected += i % 3 ? "<=50K\n" : ">50K\n";
  }
  const Result predicted = Predict(text, {"--output", "classes"});
  EXPECT_EQ(predicted.code, 0) << predicted.err;
  EXPECT_TRUE(predicted.out == expected);
  // An error in the last block leaves no partial file behind.
  const Result failed = Predict(text + "old,40,HS,Gov\n", {"--out", "p.csv"});
  EXPECT_EQ(failed.code, 3);
  expect_contains(failed.err, "new.csv:150002: column 'age'");
  EXPECT_FALSE(folder.has("p.csv"));
}

TEST_F(CommandData, PredictsByThresholdAndKind) {
  folder.write("census.csv", Census(100));
  ASSERT_EQ(Train({"--target", "income", "--quiet"}).code, 0);
  const std::string row = "age,hours,education,workclass\n25,40,HS,Gov\n";
  EXPECT_EQ(Predict(row, {"--output", "classes", "--threshold", "0"}).out, "prediction\n>50K\n");
  const std::vector<std::string> probabilities = lines(Predict(row, {"--output", "probabilities"}).out);
  ASSERT_EQ(probabilities.size(), 2U);
  EXPECT_EQ(probabilities[0], "probability_<=50K,probability_>50K");
  const std::vector<std::string> raw = lines(Predict(row, {"--output", "raw"}).out);
  ASSERT_EQ(raw.size(), 2U);
  EXPECT_EQ(raw[0], "raw");
  const double z = std::stod(raw[1]), p = std::stod(probabilities[1].substr(probabilities[1].find(',') + 1));
  EXPECT_NEAR(p, 1 / (1 + std::exp(-z)), 1e-6);  // 2^-24 of p at most 1, and of z below 10
}

TEST_F(CommandData, TakesSeveralTargetsAndWeights) {
  std::string text = "a,b,sum,difference,w\n";
  for (int i = 0; i < 60; i++) {
    const int a = i % 7, b = i % 5;
    text += std::to_string(a) + "," + std::to_string(b) + "," + std::to_string(a + b) + "," + std::to_string(a - b) +
            "," + (i % 2 ? "1" : "0.5") + "\n";
  }
  folder.write("census.csv", text);
  const Result trained = Train({"--target", "sum,difference", "--weight-column", "w", "--epochs", "200"});
  ASSERT_EQ(trained.code, 0) << trained.err;
  expect_contains(trained.err, "2 features, targets sum, difference");
  const std::vector<std::string> predicted = lines(Predict("b,a\n1,4\n").out);
  ASSERT_EQ(predicted.size(), 2U);
  EXPECT_EQ(predicted[0], "prediction_sum,prediction_difference");
  EXPECT_NEAR(std::stod(predicted[1]), 5, 1);
  const Result evaluated = folder.run({"evaluate", "m", "census.csv", "--json"});
  EXPECT_EQ(evaluated.code, 0) << evaluated.err;
  EXPECT_GT(number(parse(evaluated.out), "r2"), 0.9);
}

TEST_F(CommandData, StartsFromOtherWeightsAndTrainsNoEpoch) {
  folder.write("census.csv", Census(100));
  ASSERT_EQ(Train({"--target", "income", "--quiet"}).code, 0);
  const std::string before = folder.run({"evaluate", "m", "census.csv", "--json"}).out;
  std::filesystem::rename(folder / "m", folder / "first");
  const Result again = Train({"--target", "income", "--weights", "first", "--epochs", "0"});
  ASSERT_EQ(again.code, 0) << again.err;
  EXPECT_EQ(folder.run({"evaluate", "m", "census.csv", "--json"}).out, before);
  const Result other = Train({"--target", "income", "--weights", "first", "--hidden", "9"});
  EXPECT_EQ(other.code, 3);
  expect_contains(other.err, "layer 1 of the network needs [9, 8]");
}

TEST_F(CommandData, SaysWhichColumnsLookLikeIdentifiers) {
  const struct {
    const char *name, *column;
    int rows;
    long (*cell)(int row);
    bool caution;
  } cases[] = {
      {"row numbers", "n", 60, [](int r) { return static_cast<long>(r); }, true},
      {"shuffled", "n", 61, [](int r) { return 500 + r * 7L % 61; }, true},
      {"with gaps", "n", 60, [](int r) { return r + r / 3L; }, true},
      {"sparse, but called so", "userId", 60, [](int r) { return r * 1013L + 4000; }, true},
      {"sparse", "amount", 60, [](int r) { return r * 1013L + 4000; }, false},
      {"called so, but repeated", "user_id", 60, [](int r) { return r / 2L; }, false},
      {"one value twice", "n", 60, [](int r) { return r ? r - 1L : 0L; }, false},
      {"a word that ends in id", "paid", 60, [](int r) { return r * 1013L; }, false},
      {"few rows", "id", 49, [](int r) { return static_cast<long>(r); }, false},
  };
  for (const auto &c : cases) {
    SCOPED_TRACE(c.name);
    std::string text = "x," + std::string(c.column) + ",y\n";
    for (int r = 0; r < c.rows; r++)
      text += std::to_string(0.5 * (r % 7)) + "," + std::to_string(c.cell(r)) + "," + (r % 2 ? "a" : "b") + "\n";
    folder.write("t.csv", text);
    const Result trained = Train({"--target", "y", "--epochs", "1"}, "t.csv");
    ASSERT_EQ(trained.code, 0) << trained.err;
    const std::string said = "warning     column '" + std::string(c.column) + "' looks like a row number or identifier";
    EXPECT_EQ(trained.err.find(said) != std::string::npos, c.caution) << trained.err;
    EXPECT_EQ(trained.err.find("column 'x'"), std::string::npos) << trained.err;
  }
  // The only feature is what there is to learn from.
  std::string text = "n,y\n";
  for (int r = 0; r < 60; r++) text += std::to_string(r) + "," + (r % 2 ? "a" : "b") + "\n";
  folder.write("t.csv", text);
  EXPECT_EQ(Train({"--target", "y", "--epochs", "1"}, "t.csv").err.find("identifier"), std::string::npos);
}

TEST_F(CommandData, SaysWhichClassesASplitLeavesOut) {
  std::string text = "x,y\n";
  for (int r = 0; r < 40; r++)
    text += std::to_string(r % 9) + "," + (r == 3 ? "once" : r < 6 && r > 3 ? "twice" : r % 2 ? "a" : "b") + "\n";
  folder.write("t.csv", text);
  bool trained = false, validated = false;
  for (const char *seed : {"1", "2", "3", "4", "5", "6"}) {  // the row is held out or not
    const std::string said =
        Train({"--target", "y", "--epochs", "1", "--seed", seed, "--validation", "0.4"}, "t.csv").err;
    trained = trained || said.find("no validation rows of class once (1 row): not measured\n") != std::string::npos;
    validated = validated || said.find("no training rows of class once (1 row): not learned\n") != std::string::npos;
    expect_contains(said, "held out, stratified where classes have enough rows\n");
    EXPECT_EQ(said.find("twice ("), std::string::npos) << said;
  }
  EXPECT_TRUE(trained || validated);
  folder.write("v.csv", "x,y\n1,a\n2,b\n");
  const std::string said = Train({"--target", "y", "--epochs", "1", "--validation", "v.csv"}, "t.csv").err;
  expect_contains(said, "no validation rows of classes once (1 row), twice (2 rows): not measured\n");
}

}  // namespace
