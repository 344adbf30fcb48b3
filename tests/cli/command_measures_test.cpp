/* What the command says of results that look like results: extreme cells, useless trainings, classes that are never
 * predicted, probabilities beside 1. */
#include "command.h"

#include <cmath>
#include <functional>

namespace {

using Cell = std::function<std::string(int)>;

/* `rows` rows of three columns; x holds 0, 1, .. 9 in turns. */
std::string table(int rows, const Cell &y, const Cell &extra) {
  std::ostringstream text;
  text << "x,extra,y\n";
  for (int i = 0; i < rows; i++) text << i % 10 << ',' << extra(i) << ',' << y(i) << '\n';
  return text.str();
}

const Cell plain = [](int i) { return std::to_string(i * 7 % 11); };
const Cell linear = [](int i) { return std::to_string(i % 10 * 3 + 1); };

Arguments train_on(const Arguments &more) {
  return Arguments{"train", "data.csv", "--target", "y", "--device", "cpu", "--hidden", "8", "--task", "regression"} +
         more;
}

/* ---- extreme cells ---------------------------------------------------------------------------------------------- */

TEST(Extreme, CellsThatOverflowAreRefusedWithRowAndColumn) {
  Folder folder;
  folder.write("data.csv", table(60, linear, plain));
  ASSERT_EQ(folder.run(train_on({"--epochs", "3", "--normalize", "none"})).code, 0);
  ASSERT_EQ(folder.run(train_on({"--epochs", "3", "--out", "scaled"})).code, 0);
  std::string text = table(4, linear, [](int i) { return i == 2 ? "-3.4028235e38" : "1"; });
  folder.write("new.csv", text);
  for (const char *model : {"model.safetensors", "scaled"})
    for (const char *command : {"predict", "evaluate"}) {
      const Result result = folder.run({command, model, "new.csv"});
      EXPECT_EQ(result.code, 3) << command;
      EXPECT_EQ(result.out, "");
      expect_one_line(result.err);
      expect_contains(result.err, std::string("descent ") + command + ": new.csv: row 2 (from 0): ");
      expect_contains(result.err, "input 'extra' is -3.4028235e+38");
    }
  EXPECT_EQ(folder.run({"predict", "model.safetensors", "new.csv", "--missing", "-3.4028235e+38"}).code, 0);
}

/* predict reads blocks of 65,536 rows. */
TEST(Extreme, RowsAreCountedOverAllBlocks) {
  Folder folder;
  folder.write("data.csv", table(60, linear, plain));
  ASSERT_EQ(folder.run(train_on({"--epochs", "3"})).code, 0);
  folder.write("new.csv", table(70000, linear, [](int i) { return i == 69999 ? "3e38" : "1"; }));
  const Result result = folder.run({"predict", "model.safetensors", "new.csv", "--out", "out.csv"});
  EXPECT_EQ(result.code, 3);
  expect_contains(result.err, "new.csv: row 69999 (from 0): ");
  EXPECT_FALSE(folder.has("out.csv"));
}

TEST(Extreme, ValidationRowsAreRefusedBeforeTheTraining) {
  Folder folder;
  folder.write("data.csv", table(60, linear, [](int i) { return std::to_string(0.001 * (i % 7)); }));
  folder.write("validation.csv", table(4, linear, [](int i) { return i == 3 ? "-3.4028235e38" : "0.001"; }));
  const Result result = folder.run(train_on({"--validation", "validation.csv", "--quiet"}));
  EXPECT_EQ(result.code, 3);
  expect_contains(result.err, "the validation data: row 3 (from 0): input 'extra' is -3.4028235e+38");
  EXPECT_FALSE(folder.has("model.safetensors"));
}

TEST(Extreme, AValueThatMayMeanNoDataIsNoted) {
  const struct {
    const char *name;
    Cell extra, y;
    const char *says; /* NULL: no note */
  } cases[] = {
      {"sentinel", [](int i) { return i % 6 ? plain(i) : "-9999"; }, linear,
       "no data?    extra: -9999 in 10 rows, the others between 0 and 10\n"
       "            where it stands for a missing cell, use --missing='-9999'\n"},
      {"above", [](int i) { return i % 20 ? plain(i) : "999.9"; }, linear, "extra: 999.9 in 3 rows"},
      {"raster", [](int i) { return i != 7 ? plain(i) : "-3.4028235e38"; }, linear, "--missing='-3.4028235e+38'\n"},
      {"odd value", [](int i) { return i % 6 ? plain(i) : "777"; }, linear, "extra: 777 in 10 rows"},
      {"beside missing cells", [](int i) { return i % 6    ? plain(i)
                                                  : i % 12 ? "-999"
                                                           : "NA"; }, linear,
       "--missing='-999,,?,NA,N/A,NaN,null'\n"},
      {"target", plain, [](int i) { return i % 6 ? linear(i) : "-9999"; }, "no data?    y: -9999 in 10 rows"},
      {"plain", plain, linear, nullptr},
      {"flag", [](int i) { return i % 2 ? "0" : "99"; }, linear, nullptr},
      {"zeros", [](int i) { return i % 2 ? std::to_string(1000 + i) : "0"; }, linear, nullptr},
      {"one large value", [](int i) { return i ? plain(i) : "9999"; }, linear, nullptr},
      {"within the range", [](int i) { return std::to_string(i * i * 3 - 999); }, linear, nullptr},
  };
  for (const auto &c : cases) {
    SCOPED_TRACE(c.name);
    Folder folder;
    folder.write("data.csv", table(60, c.y, c.extra));
    const Result result = folder.run(train_on({"--epochs", "1", "--validation", "0"}));
    EXPECT_EQ(result.code, 0) << result.err;
    if (c.says)
      expect_contains(result.err, c.says);
    else
      EXPECT_EQ(result.err.find("no data?"), std::string::npos) << result.err;
  }
}

TEST(Extreme, TheNotesOptionSettlesIt) {
  Folder folder;
  folder.write("data.csv", table(60, linear, [](int i) { return i % 6 ? plain(i) : i % 12 ? "-999" : "NA"; }));
  const Result result = folder.run(train_on({"--epochs", "1", "--missing=-999,,?,NA,N/A,NaN,null"}));
  EXPECT_EQ(result.code, 0) << result.err;
  expect_contains(result.err, "missing     10 cells in extra");
  EXPECT_EQ(result.err.find("no data?"), std::string::npos) << result.err;
}

/* ---- useless trainings ------------------------------------------------------------------------------------------ */

TEST(Verdict, SaysWhenAModelIsWorseThanAConstant) {
  const Cell classes = [](int i) { return i % 10 > 4 ? "yes" : "no"; };
  const struct {
    const char *name;
    Cell y;
    Arguments more;
    const char *says; /* NULL: nothing */
  } cases[] = {
      {"regression",
       linear,
       {"--lr", "1e6", "--epochs", "5"},
       "descent train: warning: the model is worse than predicting the mean: RMSE "},
      {"classes",
       classes,
       {"--lr", "1e6", "--epochs", "5", "--task", "auto"},
       "descent train: warning: the model is worse than predicting the share of each class: loss "},
      {"good regression", linear, {"--lr", "0.03", "--epochs", "20"}, nullptr},
      {"good classes", classes, {"--lr", "0.03", "--epochs", "20", "--task", "auto"}, nullptr},
      /* a loss above that of the shares, but not of the weighted shares */
      {"weighted",
       [](int i) { return i % 10 || i % 20 ? "no" : "yes"; },
       {"--lr", "0.0001", "--epochs", "2", "--task", "auto", "--class-weights", "balanced", "--hidden", "none"},
       nullptr},
      {"no training", linear, {"--epochs", "0"}, nullptr},
  };
  for (const auto &c : cases) {
    SCOPED_TRACE(c.name);
    Folder folder;
    folder.write("data.csv", table(120, c.y, plain));
    const Result result = folder.run(train_on(Arguments{"--quiet", "--report", "report.html"} + c.more));
    EXPECT_EQ(result.code, 0) << result.err;
    const std::string html = folder.read("report.html");
    if (!c.says) {
      EXPECT_EQ(result.err, "");
      EXPECT_EQ(html.find("Check the training."), std::string::npos);
      continue;
    }
    expect_one_line(result.err);
    expect_contains(result.err, c.says);
    expect_contains(result.err, "--learning-rate");
    EXPECT_NE(html.find("<b>Check the training.</b> the model is worse than predicting the "), std::string::npos);
  }
}

/* ---- rare classes ----------------------------------------------------------------------------------------------- */

const Cell rare = [](int i) { return i * 37 % 100 < 6 ? "yes" : "no"; };

TEST(Rare, AClassThatIsNeverPredictedIsNamedWithTheOption) {
  Folder folder;
  folder.write("data.csv", table(400, rare, plain));
  const Arguments command =
      train_on({"--task", "auto", "--epochs", "30", "--lr", "0.01", "--quiet", "--report", "report.html"});
  const Result unweighted = folder.run(command);
  EXPECT_EQ(unweighted.code, 0);
  expect_one_line(unweighted.err);
  expect_contains(unweighted.err,
                  "descent train: note: class yes, 5.9 % of the training rows, is seldom predicted: balanced accuracy "
                  "0.5000 against accuracy 0.9375 on the validation rows; --class-weights balanced");
  expect_contains(unweighted.out, "balanced accuracy      0.5000      0.5000");
  std::string html = folder.read("report.html");
  for (const char *part : {"<b>Check the classes.</b>", ">validation balanced accuracy<", ">Loss<"})
    EXPECT_NE(html.find(part), std::string::npos) << part;

  const Result balanced = folder.run(command + Arguments{"--class-weights", "balanced"});
  EXPECT_EQ(balanced.code, 0);
  EXPECT_EQ(balanced.err.find("is seldom predicted"), std::string::npos) << balanced.err;
}

TEST(Rare, LossesOfDifferentMeasuresAreNotDrawnOnOneAxis) {
  const struct {
    Arguments more;
    bool apart;
    const char *with;
  } cases[] = {{{}, false, nullptr},
               {{"--class-weights", "balanced"}, true, "class weights"},
               {{"--class-weights", "yes=3"}, true, "class weights"},
               {{"--label-smoothing", "0.1"}, true, "label smoothing"},
               {{"--class-weights", "1,3", "--label-smoothing", "0.1"}, true, "class weights and label smoothing"}};
  Folder folder;
  folder.write("data.csv", table(200, rare, plain));
  for (const auto &c : cases) {
    const Result result = folder.run(
        train_on(Arguments{"--task", "auto", "--epochs", "3", "--report", "r.html", "--log", "run.jsonl"} + c.more));
    ASSERT_EQ(result.code, 0) << result.err;
    ASSERT_EQ(folder.run({"plot", "run.jsonl", "-o", "plot.svg"}).code, 0);
    for (const char *file : {"r.html", "plot.svg"}) {
      const std::string drawn = folder.read(file);
      EXPECT_EQ(drawn.find(">Loss<") == std::string::npos, c.apart) << file;
      EXPECT_EQ(drawn.find(">Training loss, weighted or smoothed<") != std::string::npos, c.apart) << file;
      EXPECT_EQ(drawn.find(">Validation loss, not weighted<") != std::string::npos, c.apart) << file;
    }
    const Json line = parse(lines(folder.read("run.jsonl"))[0]);
    const char *with = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(line.get(), "train_loss_with"));
    EXPECT_STREQ(with, c.with);
    EXPECT_EQ(result.err.find("loss        in training with ") != std::string::npos, c.apart);
  }
}

/* ---- probabilities ---------------------------------------------------------------------------------------------- */

TEST(Predict, PrintsSmallProbabilitiesAndComparesThemInDouble) {
  Folder folder;
  folder.write("data.csv", table(
                               120, [](int i) { return i % 10 > 4 ? "yes" : "no"; }, plain));
  ASSERT_EQ(folder.run(train_on({"--task", "auto", "--epochs", "30", "--lr", "0.05", "--hidden", "none"})).code, 0);
  folder.write("new.csv", "x,extra\n200,1\n-200,1\n");
  const auto raw = lines(folder.run({"predict", "model.safetensors", "new.csv", "--output", "raw"}).out);
  const Result result = folder.run({"predict", "model.safetensors", "new.csv"});
  const auto rows = lines(result.out);
  ASSERT_EQ(rows.size(), 3U);
  for (size_t r = 1; r < rows.size(); r++) {
    char name[8];
    double no, yes;
    ASSERT_EQ(sscanf(rows[r].c_str(), "%7[a-z],%lf,%lf", name, &no, &yes), 3) << rows[r];
    const double z = std::stod(raw[r]), small = r == 1 ? no : yes;
    ASSERT_GT(std::fabs(z), 20) << "1 in float32";
    EXPECT_NEAR(small, std::exp(-std::fabs(z)), 1e-6 * small) << z;
    EXPECT_GT(small, 0);
    char below[32], above[32];
    snprintf(below, sizeof below, "%.9g", yes * 0.999);
    snprintf(above, sizeof above, "%.9g", yes * 1.001);
    if (r == 1) continue;
    const Arguments classes{"predict", "model.safetensors", "new.csv", "--output", "classes", "--threshold"};
    EXPECT_EQ(lines(folder.run(classes + Arguments{below}).out)[r], "yes");
    EXPECT_EQ(lines(folder.run(classes + Arguments{above}).out)[r], "no");
  }
}

}  // namespace
