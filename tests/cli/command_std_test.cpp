/* What `predict --std` adds for an ensemble: the standard deviation of what its members predict. */
#include "command.h"

#include <cmath>

namespace {

const int members = 3;

/* The numbers of a file of predictions by the names of their columns. */
struct Columns {
  std::vector<std::string> names;
  std::vector<std::vector<double>> rows; /* a name is NAN */

  explicit Columns(const std::string &text) {
    std::istringstream file(text);
    std::string line;
    std::getline(file, line);
    names = cells(line);
    while (std::getline(file, line)) {
      rows.emplace_back();
      for (const std::string &cell : cells(line)) {
        char *end = nullptr;
        const double value = strtod(cell.c_str(), &end);
        rows.back().push_back(*end ? NAN : value);
      }
    }
  }
  static std::vector<std::string> cells(const std::string &line) {
    std::vector<std::string> all;
    std::istringstream text(line);
    for (std::string cell; std::getline(text, cell, ',');) all.push_back(cell);
    return all;
  }
  size_t at(const std::string &name) const {
    const auto found = std::find(names.begin(), names.end(), name);
    EXPECT_NE(found, names.end()) << name;
    return static_cast<size_t>(found - names.begin());
  }
};

/* A folder with data.csv and an ensemble of it, m, after few epochs, so that its members differ. */
struct Ensemble : Folder {
  Ensemble(const std::string &data, const std::string &target) {
    write("data.csv", data);
    const Result trained = run({"train", "data.csv", "--target", target, "--ensemble", std::to_string(members),
                                "--epochs", "3", "--hidden", "4", "--device", "cpu", "--quiet", "--out", "m"});
    EXPECT_EQ(trained.code, 0) << trained.err;
  }
  Columns predict(const std::string &model, const Arguments &more) const {
    const Result result = run(Arguments{"predict", model, "data.csv"} + more);
    EXPECT_EQ(result.code, 0) << result.err;
    return Columns(result.out);
  }
  std::vector<Columns> predict_members(const Arguments &more) const {
    std::vector<Columns> all;
    for (int k = 0; k < members; k++) {
      const std::string number = std::to_string(k);
      EXPECT_EQ(run({"export", "m", "--member", number, "--out", number + ".safetensors"}).code, 0);
      all.push_back(predict(number + ".safetensors", more));
    }
    return all;
  }
};

std::string two_targets() {
  std::string text = "a,b,sum,difference\n";
  for (int i = 0; i < 60; i++) {
    const int a = i % 7, b = i % 5;
    text +=
        std::to_string(a) + "," + std::to_string(b) + "," + std::to_string(a + b) + "," + std::to_string(a - b) + "\n";
  }
  return text;
}

/* Printed with 9 digits, as float32 has them; the command computes probabilities in double and their deviation from
 * float32, and values of targets beside their shift. */
TEST(Std, IsTheDeviationOfWhatTheMembersPredict) {
  const struct {
    std::string data, target;
    Arguments options;
    std::vector<std::pair<std::string, std::string>> columns; /* and its deviation */
    std::string header;
  } cases[] = {
      {make_data("binary", 60),
       "answer",
       {},
       {{"probability_no", "std_no"}, {"probability_yes", "std_yes"}},
       "prediction,probability_no,probability_yes,std_no,std_yes"},
      {make_data("classes", 60),
       "answer",
       {"--output", "probabilities"},
       {{"probability_high", "std_high"}, {"probability_low", "std_low"}, {"probability_middle", "std_middle"}},
       "probability_high,probability_low,probability_middle,std_high,std_low,std_middle"},
      {make_data("regression", 60), "answer", {}, {{"prediction", "std"}}, "prediction,std"},
      {two_targets(),
       "sum,difference",
       {},
       {{"prediction_sum", "std_sum"}, {"prediction_difference", "std_difference"}},
       "prediction_sum,prediction_difference,std_sum,std_difference"},
  };
  for (const auto &c : cases) {
    SCOPED_TRACE(c.header);
    const Ensemble folder(c.data, c.target);
    const Columns found = folder.predict("m", c.options + Arguments{"--std"});
    const std::vector<Columns> alone = folder.predict_members(c.options);
    std::string header;
    for (const std::string &name : found.names) header += (header.empty() ? "" : ",") + name;
    EXPECT_EQ(header, c.header);
    EXPECT_EQ(folder.predict("m", c.options).names.size(), found.names.size() - c.columns.size());
    double largest = 0;
    ASSERT_EQ(found.rows.size(), 60U);
    for (size_t r = 0; r < found.rows.size(); r++)
      for (const auto &column : c.columns) {
        double sum = 0, squares = 0, size = 0;
        for (const Columns &member : alone) sum += member.rows[r][member.at(column.first)];
        for (const Columns &member : alone) {
          const double value = member.rows[r][member.at(column.first)];
          squares += (value - sum / members) * (value - sum / members);
          size = std::max(size, std::fabs(value));
        }
        const double spread = std::sqrt(squares / members);
        EXPECT_NEAR(found.rows[r][found.at(column.first)], sum / members, 8 * 0x1p-24 * size);
        EXPECT_NEAR(found.rows[r][found.at(column.second)], spread, 8 * 0x1p-24 * size) << "row " << r;
        largest = std::max(largest, spread);
      }
    EXPECT_GT(largest, 1e-3) << "members that do not differ show nothing";
  }
}

TEST(Std, IsRefusedWhereItSaysNothing) {
  const Ensemble folder(make_data("binary", 60), "answer");
  ASSERT_EQ(folder.run({"export", "m", "--member", "0", "--out", "one.safetensors"}).code, 0);
  const struct {
    Arguments arguments;
    std::string says;
  } cases[] = {
      {{"m", "data.csv", "--std", "--output", "raw"},
       "--std: is of probabilities or values: omit it with --output raw"},
      {{"m", "data.csv", "--std", "--output", "classes"}, "omit it with --output classes"},
      {{"one.safetensors", "data.csv", "--std"},
       "--std: the model is a single network: train with --ensemble, or omit --std"},
  };
  for (const auto &c : cases) {
    const Result result = folder.run(Arguments{"predict"} + c.arguments);
    EXPECT_EQ(result.code, 2);
    expect_contains(result.err, c.says);
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    EXPECT_EQ(result.out, "");
  }
}

/* evaluate with charts, of the same outputs. */
TEST(Std, EvaluateMeasuresTheMean) {
  const Ensemble folder(make_data("classes", 60), "answer");
  const Result result = folder.run({"evaluate", "m", "data.csv", "--json", "--plot", "confusion.svg,calibration.svg"});
  ASSERT_EQ(result.code, 0) << result.err;
  const Json measures = parse(result.out);
  const Columns predicted = folder.predict("m", {"--output", "probabilities"});
  std::istringstream data(folder.read("data.csv"));
  std::string line;
  std::getline(data, line);
  double loss = 0;
  for (size_t r = 0; std::getline(data, line); r++)
    loss -= std::log(predicted.rows[r][predicted.at("probability_" + line.substr(line.rfind(',') + 1))]) / 60;
  EXPECT_NEAR(cJSON_GetNumberValue(cJSON_GetObjectItem(measures.get(), "loss")), loss, 1e-7 * (1 + loss));
  EXPECT_NE(folder.read("confusion.svg").find("</svg>"), std::string::npos);
  EXPECT_NE(folder.read("calibration.svg").find("</svg>"), std::string::npos);
}

}  // namespace
