/* descent sweep: what is searched, that trials are trainings, halving, the record and its continuation, refusals. */
#include "command.h"

#include <descent/descent.h>

#include <chrono>
#include <cinttypes>
#include <cmath>
#include <map>
#include <regex>
#include <set>
#include <thread>

namespace {

const Arguments sweep = {"sweep", "data.csv", "--target", "answer", "--epochs", "4", "--hidden", "8"};

/* A folder with data on which trials differ: some labels are wrong. */
class Data : public Folder {
 public:
  explicit Data(const std::string &kind = "binary", int rows = 90) {
    std::vector<std::string> all = lines(make_data(kind, rows));
    if (kind != "regression")
      for (size_t i = 5; i < all.size(); i += 7)
        all[i] = all[i].substr(0, all[i].rfind(',')) + all[i - 1].substr(all[i - 1].rfind(','));
    std::string text;
    for (const std::string &line : all) text += line + "\n";
    write("data.csv", text);
  }
};

struct Trial {
  std::map<std::string, std::string> options;
  std::string command, status, model;
  int64_t epochs = 0, best_epoch = 0;
  double objective = NAN;
  std::vector<double> train_loss, validation_loss, best_so_far;
};

std::vector<double> numbers(const cJSON *line, const char *key) {
  std::vector<double> all;
  const cJSON *item = nullptr;
  cJSON_ArrayForEach(item, cJSON_GetObjectItem(line, key)) all.push_back(cJSON_GetNumberValue(item));
  return all;
}

/* The trials of a --log, by number. */
std::map<int, Trial> read_log(const std::string &text, const char *measure = "loss") {
  std::map<int, Trial> trials;
  for (const std::string &line : lines(text)) {
    const Json json = parse(line);
    if (!json || cJSON_HasObjectItem(json.get(), "sweep")) continue;
    Trial trial;
    const cJSON *option = nullptr;
    cJSON_ArrayForEach(option, cJSON_GetObjectItem(json.get(), "options")) trial.options[option->string] =
        option->valuestring;
    trial.command = cJSON_GetObjectItem(json.get(), "command")->valuestring;
    trial.status = cJSON_GetObjectItem(json.get(), "status")->valuestring;
    const cJSON *model = cJSON_GetObjectItem(json.get(), "model");
    if (model) trial.model = model->valuestring;
    trial.epochs = static_cast<int64_t>(number(json, "epochs"));
    trial.best_epoch = static_cast<int64_t>(number(json, "best_epoch"));
    trial.objective = number(json, measure);
    trial.train_loss = numbers(json.get(), "train_loss");
    trial.validation_loss = numbers(json.get(), "validation_loss");
    trial.best_so_far = numbers(json.get(), "best_so_far");
    trials[static_cast<int>(number(json, "trial"))] = trial;
  }
  return trials;
}

std::string fnv1a(const std::string &bytes) {
  uint64_t sum = 14695981039346656037U;
  for (const char byte : bytes) sum = (sum ^ static_cast<unsigned char>(byte)) * 1099511628211U;
  char text[17];
  std::snprintf(text, sizeof text, "%016" PRIx64, sum);
  return text;
}

/* The lines of trials in the order of their numbers, without the seconds. */
std::string timeless(const std::string &log) {
  std::map<int, std::string> by_number;
  for (const std::string &line : lines(log))
    by_number[static_cast<int>(number(parse(line), "trial"))] =
        std::regex_replace(line, std::regex("\"seconds\":[^,]*"), "");
  std::string text;
  for (const auto &entry : by_number) text += entry.second + "\n";
  return text;
}

std::string best_command(const std::string &out) {
  for (const std::string &line : lines(out))
    if (line.rfind("  descent train ", 0) == 0) return line.substr(10);
  ADD_FAILURE() << "no command in: " << out;
  return "";
}

/* Runs what the shell makes of "train data.csv ..". */
int run_in_shell(const Folder &folder, const std::string &arguments) {
  const std::string line = "cd '" + folder.path() + "' && '" DESCENT_COMMAND "' " + arguments + " --quiet > /dev/null";
  return exit_code(system(line.c_str()));
}

/* ---- what is searched -------------------------------------------------------------------------------------------- */

TEST(Sweep, GridHasEveryCombinationOnce) {
  Data folder;
  const Result result = folder.run(sweep + Arguments{"--search", "grid", "--lr", "1e-3..1e-1:log:3", "--momentum",
                                                     "0..0.9:4", "--optimizer", "sgd; rmsprop", "--log", "log"});
  ASSERT_EQ(result.code, 0) << result.err;
  std::set<std::vector<std::string>> expected, found;
  for (const char *optimizer : {"sgd", "rmsprop"})
    for (const char *rate : {"0.001", "0.01", "0.1"})
      for (const char *momentum : {"0", "0.3", "0.6", "0.9"}) expected.insert({optimizer, rate, momentum});
  for (auto &entry : read_log(folder.read("log"))) {
    auto &o = entry.second.options;
    EXPECT_TRUE(found.insert({o["optimizer"], o["learning-rate"], o["momentum"]}).second);
  }
  EXPECT_EQ(found, expected);
}

/* Number j of the draws is descent_member_seed(seed, j) 2^-53, of which each option takes one in the order of the help. */
TEST(Sweep, DrawsWhatIsDocumented) {
  Data folder;
  const Arguments search = {"--lr", "1e-4..1e-1:log", "--dropout", "0..0.5", "--batch-size", "8..32", "--seed", "7"};
  ASSERT_EQ(folder.run(sweep + search + Arguments{"--trials", "20", "--log", "log"}).code, 0);
  std::map<int, Trial> trials = read_log(folder.read("log"));
  ASSERT_EQ(trials.size(), 20U);
  for (int t = 0; t < 20; t++) {
    const auto u = [t](int option) {
      return std::ldexp(static_cast<double>(descent_member_seed(7, 1 + 3 * t + option)), -53);
    };
    auto &o = trials[t + 1].options;
    EXPECT_NEAR(std::log10(std::stod(o["learning-rate"])), -4 + 3 * u(0), 5e-6) << t;
    EXPECT_NEAR(std::stod(o["dropout"]), 0.5 * u(1), 5e-6 * 0.5) << t;
    EXPECT_EQ(std::stoi(o["batch-size"]), 8 + static_cast<int>(25 * u(2))) << t;
  }
  ASSERT_EQ(folder.run(sweep + search + Arguments{"--trials", "5", "--log", "few"}).code, 0);
  for (auto &entry : read_log(folder.read("few"))) EXPECT_EQ(entry.second.options, trials[entry.first].options);
}

TEST(Sweep, PointsIncludeBothEndsExactly) {
  Data folder;
  ASSERT_EQ(folder
                .run(sweep + Arguments{"--search", "grid", "--lr", "0.001234567..0.01234567:3", "--batch-size",
                                       "8..100000000:2", "--log", "log"})
                .code,
            0);
  std::set<std::string> rates, sizes;
  for (auto &entry : read_log(folder.read("log"))) {
    rates.insert(entry.second.options["learning-rate"]);
    sizes.insert(entry.second.options["batch-size"]);
  }
  EXPECT_EQ(rates, (std::set<std::string>{"0.001234567", "0.00679012", "0.01234567"}));
  EXPECT_EQ(sizes, (std::set<std::string>{"8", "100000000"}));
}

TEST(Sweep, DrawsEveryValueAndNoConfigurationTwice) {
  Data folder;
  ASSERT_EQ(
      folder
          .run(sweep + Arguments{"--batch-size", "8..10", "--activation", "relu;tanh", "--epochs", "1", "--log", "log"})
          .code,
      0);
  std::set<std::map<std::string, std::string>> found;
  for (auto &entry : read_log(folder.read("log"))) found.insert(entry.second.options);
  EXPECT_EQ(found.size(), 6U) << "at most as many trials as configurations";
}

TEST(Sweep, WholeNumbersReachBothEnds) {
  Data folder;
  for (const char *range : {"1..3", "1..3:log"}) {
    ASSERT_EQ(
        folder.run(sweep + Arguments{"--warmup-steps", range, "--epochs", "1", "--trials", "3", "--log", range}).code,
        0);
    std::set<std::string> found;
    for (auto &entry : read_log(folder.read(range))) found.insert(entry.second.options["warmup-steps"]);
    EXPECT_EQ(found, (std::set<std::string>{"1", "2", "3"})) << range;
  }
}

/* ---- trials are trainings ---------------------------------------------------------------------------------------- */

TEST(Sweep, BestIsTheFileOfItsCommand) {
  const struct {
    const char *kind;
    Arguments options;
  } cases[] = {
      {"binary", {"--lr", "1e-3..1e-1:log", "--hidden", "8;16,4;none", "--dropout", "0..0.3", "--trials", "6"}},
      {"classes",
       {"--search", "grid", "--lr", "0.1;0.01", "--optimizer", "sgd;lamb;adamw", "--patience", "2", "--epochs", "12"}},
      {"classes", {"--class-weights", "balanced;low=2,high=3;1,1,5", "--label-smoothing", "0..0.2", "--trials", "5"}},
      {"regression", {"--lr", "1e-3..1e-1:log", "--normalize", "standard;minmax", "--l2", "0;1e-3", "--trials", "6"}},
      {"binary", {"--lr", "1e-3..1e-1:log", "--validation", "0", "--schedule", "cosine;step:2", "--trials", "4"}},
      {"binary", {"--lr", "1e-3..1e-1:log", "--search", "halving", "--trials", "9", "--epochs", "9"}},
      {"binary",
       {"--lr", "1e-3..1e-1:log", "--batch-size", "all;16", "--measure", "auc", "--trials", "4", "--seed", "3"}},
      {"classes", {"--lr", "1e-3..1e-1:log", "--measure", "accuracy", "--trials", "5", "--epochs", "6"}},
  };
  for (const auto &c : cases) {
    Data folder(c.kind);
    const Result result = folder.run(sweep + c.options + Arguments{"--out", "best of.safetensors"});
    ASSERT_EQ(result.code, 0) << result.err;
    const std::string model = folder.read("best of.safetensors");
    std::filesystem::remove(folder / "best of.safetensors");
    EXPECT_EQ(run_in_shell(folder, best_command(result.out)), 0) << result.out;
    EXPECT_TRUE(model == folder.read("best of.safetensors")) << best_command(result.out);
  }
}

/* Preprocessing is copied between trials from 10,000 rows on: missing cells, a column that has almost only such, and
 * categories. */
TEST(Sweep, CopiesThePreprocessingOfManyRows) {
  for (const std::string kind : {"classes", "regression"}) {
    Data folder(kind, 14000); /* of which 11,200 are trained on */
    std::vector<std::string> all = lines(folder.read("data.csv"));
    std::string common = "colour," + all[0] + "\n", seldom = "colour,rare," + all[0] + "\n";
    for (size_t i = 1; i < all.size(); i++) {
      const std::string colour = i % 3 == 0 ? "red," : i % 3 == 1 ? "blue," : i % 5 ? "green," : ",";
      const std::string row = i % 11 ? all[i] : all[i].substr(all[i].find(','));
      common += colour + row + "\n";
      seldom += colour + (i == 7777 ? "3," : i == 8000 ? "5," : ",") + row + "\n";
    }
    for (const std::string &text : {common, seldom}) {
      folder.write("data.csv", text);
      const Result result = folder.run({"sweep",        "data.csv",
                                        "--target",     "answer",
                                        "--epochs",     "1",
                                        "--batch-size", "1024",
                                        "--search",     "grid",
                                        "--hidden",     "4",
                                        "--normalize",  "minmax;standard;none",
                                        "--impute",     "median;most_frequent",
                                        "--out",        "m",
                                        "--log",        "log"});
      ASSERT_EQ(result.code, 0) << result.err;
      for (const auto &entry : read_log(folder.read("log"))) {
        EXPECT_EQ(run_in_shell(folder, entry.second.command.substr(8)), 0);
        EXPECT_EQ(fnv1a(folder.read("m")), entry.second.model) << entry.second.command;
      }
      std::filesystem::remove(folder / "log");
    }
  }
}

TEST(Sweep, ADataFileMayBeginWithAHyphen) {
  Data folder;
  std::filesystem::rename(folder / "data.csv", folder / "-d.csv");
  const Result result =
      folder.run({"sweep", "--target", "answer", "--epochs", "2", "--lr", "0.1;0.01", "--out", "m", "--", "-d.csv"});
  ASSERT_EQ(result.code, 0) << result.err;
  const std::string model = folder.read("m");
  std::filesystem::remove(folder / "m");
  EXPECT_EQ(run_in_shell(folder, best_command(result.out)), 0) << result.out;
  EXPECT_TRUE(model == folder.read("m"));
}

TEST(Sweep, QuotesItsCommandForAShell) {
  Data folder;
  std::string text = folder.read("data.csv");
  folder.write("it's $HOME.csv", "width,height,the answer\n" + text.substr(text.find('\n') + 1));
  const Result result = folder.run({"sweep", "it's $HOME.csv", "--target", "the answer", "--epochs", "2", "--lr",
                                    "0.1;0.01", "--missing", "?,", "--out", "m"});
  ASSERT_EQ(result.code, 0) << result.err;
  const std::string model = folder.read("m");
  std::filesystem::remove(folder / "m");
  EXPECT_EQ(run_in_shell(folder, best_command(result.out)), 0) << result.out;
  EXPECT_TRUE(model == folder.read("m"));
}

/* The best is the lowest loss, or the highest measure, of the weights that each trial ends with. */
TEST(Sweep, RecordsEveryTrialAndPicksTheBest) {
  for (const std::string measure : {"loss", "accuracy"}) {
    Data folder("classes");
    const Result result = folder.run(sweep + Arguments{"--lr", "1e-2..1:log", "--trials", "8", "--measure", measure,
                                                       "--epochs", "12", "--log", "log"});
    ASSERT_EQ(result.code, 0) << result.err;
    const std::map<int, Trial> trials = read_log(folder.read("log"), measure.c_str());
    const bool high = measure == "accuracy";
    int best = 1, past_the_best = 0;
    for (const auto &entry : trials) {
      const Trial &t = entry.second;
      EXPECT_EQ(t.epochs, 12);
      ASSERT_EQ(t.validation_loss.size(), 12U);
      ASSERT_EQ(t.train_loss.size(), 12U);
      const auto lowest = std::min_element(t.validation_loss.begin(), t.validation_loss.end());
      EXPECT_EQ(t.best_epoch, lowest - t.validation_loss.begin() + 1);
      EXPECT_EQ(t.objective, t.best_so_far.back());
      EXPECT_EQ(t.objective, t.best_so_far[static_cast<size_t>(t.best_epoch) - 1]);
      if (!high) {
        EXPECT_EQ(t.objective, *lowest);
      }
      past_the_best += t.best_epoch < 12;
      const double other = trials.at(best).objective;
      if (high ? t.objective > other : t.objective < other) best = entry.first;
    }
    EXPECT_GT(past_the_best, 0);
    expect_contains(result.out, "best trial " + std::to_string(best) + ":");
    EXPECT_EQ("descent " + best_command(result.out), trials.at(best).command);
    /* The saved model has the measure that chose it. */
    std::smatch found;
    ASSERT_TRUE(std::regex_search(result.out, found, std::regex("\n" + measure + " +[0-9.]+ +([0-9.]+)\n")));
    EXPECT_NEAR(std::stod(found[1]), trials.at(best).objective, 0.5001e-4);
  }
}

TEST(Sweep, DoesNotDependOnHowManyTrainTogether) {
  Data folder("classes");
  const Arguments search =
      sweep + Arguments{"--lr", "1e-3..1e-1:log", "--hidden", "8;16,4", "--trials", "7", "--out", "m"};
  ASSERT_EQ(folder.run(search + Arguments{"--log", "log"}).code, 0);
  const std::string model = folder.read("m"), log = timeless(folder.read("log"));
  int n = 0;
  for (const Arguments &other :
       {Arguments{"--together", "1"}, Arguments{"--together", "3"}, Arguments{"--together", "2", "--threads", "2"}}) {
    const std::string name = "log" + std::to_string(n++);
    ASSERT_EQ(folder.run(search + other + Arguments{"--log", name}).code, 0);
    EXPECT_TRUE(folder.read("m") == model) << name;
    if (other.size() == 2) {
      EXPECT_EQ(timeless(folder.read(name)), log);
    } /* --threads is in the commands */
  }
}

TEST(Sweep, ADivergedTrialIsNeverTheBest) {
  Data folder;
  const Result result = folder.run(sweep + Arguments{"--search", "grid", "--lr", "1e30;1e-2;1e29", "--log", "log"});
  ASSERT_EQ(result.code, 0) << result.err;
  expect_contains(result.out, "best trial 2:");
  expect_contains(result.err, "3 of 3 trials are finished, 2 diverged; best validation loss ");
  std::map<int, Trial> trials = read_log(folder.read("log"));
  EXPECT_EQ(trials[1].status, "diverged");
  EXPECT_EQ(trials[2].status, "done");
  expect_contains(folder.read("log"), "\"error\":\"training diverged at step ");
  const Result none =
      folder.run(sweep + Arguments{"--search", "grid", "--lr", "1e30;1e29", "--quiet", "--out", "none"});
  EXPECT_EQ(none.code, 5);
  expect_contains(none.err, "descent sweep: all trials have diverged; trial 1: training diverged at step ");
  EXPECT_FALSE(folder.has("none"));
}

/* ---- successive halving ------------------------------------------------------------------------------------------ */

/* The rule, applied to what the trials recorded: after r, r eta, .. epochs the best 1/eta continue. */
TEST(Halving, DropsTheWorstByTheRule) {
  const struct {
    int trials, epochs, eta, min_epochs, first;
  } cases[] = {{9, 9, 3, 0, 1}, {16, 20, 2, 2, 2}, {10, 30, 3, 4, 4}, {5, 8, 4, 0, 2}};
  for (const auto &c : cases) {
    Data folder("classes", 150);
    Arguments options = {"--search", "halving",
                         "--lr",     "1e-4..1e-1:log",
                         "--trials", std::to_string(c.trials),
                         "--epochs", std::to_string(c.epochs),
                         "--eta",    std::to_string(c.eta),
                         "--log",    "log"};
    if (c.min_epochs) options = options + Arguments{"--min-epochs", std::to_string(c.min_epochs)};
    const Result result = folder.run(sweep + options);
    ASSERT_EQ(result.code, 0) << result.err;
    const std::map<int, Trial> trials = read_log(folder.read("log"));
    ASSERT_EQ(trials.size(), static_cast<size_t>(c.trials));
    std::vector<int> in_race;
    std::map<int, int64_t> expected; /* epochs of each */
    for (int t = 1; t <= c.trials; t++) in_race.push_back(t);
    for (int r = c.first; r < c.epochs && in_race.size() > 1; r *= c.eta) {
      const size_t keep = std::max<size_t>(1, in_race.size() / static_cast<size_t>(c.eta));
      std::stable_sort(in_race.begin(), in_race.end(), [&](int a, int b) {
        return trials.at(a).best_so_far.at(static_cast<size_t>(r) - 1) <
               trials.at(b).best_so_far.at(static_cast<size_t>(r) - 1);
      });
      for (size_t i = keep; i < in_race.size(); i++) expected[in_race[i]] = r;
      in_race.resize(keep);
      std::sort(in_race.begin(), in_race.end());
    }
    for (const int t : in_race) expected[t] = c.epochs;
    for (const auto &entry : trials) {
      EXPECT_EQ(entry.second.epochs, expected[entry.first]) << c.trials << ": trial " << entry.first;
      EXPECT_EQ(entry.second.status, expected[entry.first] == c.epochs ? "done" : "dropped");
    }
  }
}

/* Two classes that overlap, so that the accuracy can fall while the loss falls. */
std::string noisy_data(int rows) {
  std::ostringstream text;
  unsigned state = 12345;
  const auto next = [&state] { /* the constants of Numerical Recipes; 0 .. 7.75 */
                               state = state * 1664525U + 1013904223U;
                               return static_cast<int>(state >> 27) / 4.0;
  };
  text << "width,height,answer\n";
  for (int i = 0; i < rows; i++) {
    const double width = next(), height = next(), noise = next() - 4;
    text << width << ',' << height << (width + height + noise > 8 ? ",yes\n" : ",no\n");
  }
  return text.str();
}

/* A trial that --patience ended keeps its place until a rung drops it, and is then never the best, although it may have
 * a higher accuracy than the one that remains. */
TEST(Halving, ATrialThatPatienceEndedCanBeDropped) {
  int better = 0;
  for (int seed = 0; seed < 12; seed++) {
    Folder folder;
    folder.write("data.csv", noisy_data(150));
    const int trials = 12, epochs = 16, eta = 2;
    const Arguments race = {"--search", "halving", "--eta", "2", "--trials", "12", "--patience", "2"};
    const Arguments options = {"--lr",      "1e-3..3e-1:log", "--hidden", "4;16;none",
                               "--measure", "accuracy",       "--seed",   std::to_string(seed)};
    const Result result = folder.run(
        Arguments{"sweep", "data.csv", "--target", "answer", "--epochs", "16", "--log", "log"} + race + options);
    ASSERT_EQ(result.code, 0) << result.err;
    const std::map<int, Trial> all = read_log(folder.read("log"), "accuracy");
    std::vector<int> in_race;
    std::map<int, bool> dropped;
    for (int t = 1; t <= trials; t++) in_race.push_back(t);
    for (int r = 2; r < epochs && in_race.size() > 1; r *= eta) {
      const auto reached = [&](int t) {
        const std::vector<double> &values = all.at(t).best_so_far;
        return values.at(std::min(values.size(), static_cast<size_t>(r)) - 1);
      };
      bool training = false; /* without one there is nothing to compare for */
      for (const int t : in_race) training = training || all.at(t).epochs >= r;
      if (!training) break;
      const size_t keep = std::max<size_t>(1, in_race.size() / eta);
      std::stable_sort(in_race.begin(), in_race.end(), [&](int a, int b) { return reached(a) > reached(b); });
      for (size_t i = keep; i < in_race.size(); i++) dropped[in_race[i]] = true;
      in_race.resize(keep);
      std::sort(in_race.begin(), in_race.end());
    }
    int best = in_race[0];
    for (const int t : in_race)
      if (all.at(t).objective > all.at(best).objective) best = t;
    expect_contains(result.out, "best trial " + std::to_string(best) + ":");
    for (const auto &entry : all) {
      EXPECT_EQ(entry.second.status == "dropped", dropped[entry.first]) << seed << ": trial " << entry.first;
      better += dropped[entry.first] && entry.second.objective > all.at(best).objective;
    }
  }
  EXPECT_GT(better, 0) << "no trial that was dropped is better than the best: nothing was tested";
}

/* A trial in company has the losses that it has alone, as far as it comes. */
TEST(Halving, LeavesTheSurvivorsAsTheyAre) {
  Data folder("classes");
  const Arguments search = {"--lr", "1e-3..1e-1:log", "--trials", "6", "--epochs", "9"};
  ASSERT_EQ(folder.run(sweep + search + Arguments{"--log", "whole"}).code, 0);
  ASSERT_EQ(folder.run(sweep + search + Arguments{"--search", "halving", "--log", "halved"}).code, 0);
  const std::map<int, Trial> whole = read_log(folder.read("whole")), halved = read_log(folder.read("halved"));
  for (const auto &entry : halved) {
    const std::vector<double> &all = whole.at(entry.first).validation_loss;
    const std::vector<double> some(all.begin(), all.begin() + static_cast<long>(entry.second.epochs));
    EXPECT_EQ(entry.second.validation_loss, some) << entry.first;
  }
}

/* ---- the record -------------------------------------------------------------------------------------------------- */

const Arguments long_sweep = {"sweep",          "data.csv", "--target", "answer",   "--hidden", "16;8;4", "--lr",
                              "1e-4..1e-1:log", "--trials", "12",       "--epochs", "162",      "--quiet"};

/* Starts the sweep and sends the signal when some of its trials are recorded; its exit code. */
int stop_in_the_middle(const Folder &folder, const Arguments &arguments, const std::string &log, int number) {
  const pid_t child = folder.start(arguments, folder / ".out");
  for (int i = 0; i < 3000; i++) {
    if (folder.has(log) && lines(folder.read(log)).size() > 3) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  kill(child, number);
  int status = 0;
  waitpid(child, &status, 0);
  return exit_code(status);
}

class Resume : public testing::TestWithParam<const char *> {};

TEST_P(Resume, AfterAKillGivesWhatAnUninterruptedSweepGives) {
  Data folder("classes", 2400);
  Arguments search = long_sweep + Arguments{"--search", GetParam()};
  if (search.back() == "random")
    search = search + Arguments{"--together", "2"};
  else /* some end by it before a rung drops them, and before the signal */
    search = search + Arguments{"--patience", "4", "--eta", "2", "--measure", "accuracy"};
  const Result whole = folder.run(search + Arguments{"--log", "whole", "--out", "m"});
  ASSERT_EQ(whole.code, 0) << whole.err;
  const std::string model = folder.read("m"), log = timeless(folder.read("whole"));
  std::filesystem::remove(folder / "m");
  for (const int number : {SIGKILL, SIGINT}) {
    std::filesystem::remove(folder / "log");
    EXPECT_EQ(stop_in_the_middle(folder, search + Arguments{"--resume", "log", "--out", "m"}, "log", number),
              128 + number);
    const std::string part = folder.read("log");
    const size_t finished = lines(part).size() - 1;
    EXPECT_GT(finished, 1U);
    EXPECT_LT(finished, 12U) << "the sweep ended before it was stopped";
    if (number == SIGINT)
      expect_contains(folder.read(".out"),
                      "stopped; " + std::to_string(finished) +
                          " of 12 trials are finished; the same command with --resume log continues\n");
    folder.write("log", part + "{\"trial\":12,\"opti"); /* a line cut off */
    const Result rest = folder.run(search + Arguments{"--resume", "log", "--out", "m"});
    EXPECT_EQ(rest.code, 0) << rest.err;
    EXPECT_EQ(rest.out, whole.out);
    EXPECT_EQ(folder.read("log").substr(0, part.size()), part) << "finished trials are not trained again";
    EXPECT_EQ(timeless(folder.read("log")), log);
    EXPECT_TRUE(folder.read("m") == model);
  }
}
INSTANTIATE_TEST_SUITE_P(Search, Resume, testing::Values("random", "halving"));

/* Until the race is over, others than those that were dropped are the best. */
TEST(Halving, ASignalSavesNoTrialThatWasDropped) {
  Data folder("classes", 600);
  folder.write("m", "of an earlier sweep");
  const Arguments race = {"--search", "halving", "--epochs", "5000", "--min-epochs", "2", "--patience", "4000"};
  EXPECT_EQ(stop_in_the_middle(folder, long_sweep + race + Arguments{"--resume", "log", "--out", "m"}, "log", SIGINT),
            128 + SIGINT);
  for (const auto &entry : read_log(folder.read("log"))) EXPECT_EQ(entry.second.status, "dropped");
  EXPECT_EQ(folder.read("m"), "of an earlier sweep");
  expect_contains(folder.read(".out"), "trials are finished; the same command with --resume log continues\n");
  EXPECT_EQ(count(folder.read(".out"), "the best so far"), 0U);
}

/* What the record says of the best trial stays while it is trained again. */
TEST(Sweep, AnInterruptionOfTheSecondTrainingKeepsTheResult) {
  Data folder("classes", 600);
  const Arguments search = {"sweep", "data.csv", "--target", "answer", "--lr",     "0.01;0.02", "--hidden", "16",
                            "--out", "m",        "--epochs", "3000",   "--report", "r",         "--resume", "log"};
  ASSERT_EQ(folder.run(search).code, 0);
  const auto rows = [&] { /* of the table of trials */
                          const std::string page = folder.read("r");
                          return page.substr(page.rfind("<table"));
  };
  const std::string whole = rows();
  std::filesystem::remove(folder / "m");
  const pid_t child = folder.start(search, folder / ".out");
  for (int i = 0; i < 3000 && folder.read(".err").find("trained again") == std::string::npos; i++)
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  kill(child, SIGINT);
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(exit_code(status), 128 + SIGINT);
  EXPECT_FALSE(folder.has("m"));
  EXPECT_EQ(rows(), whole);
}

TEST(Sweep, TrainsTheBestAgainWhereItsModelIsGone) {
  Data folder;
  const Arguments search =
      sweep + Arguments{"--lr", "1e-3..1e-1:log", "--trials", "4", "--resume", "log", "--out", "m"};
  const Result first = folder.run(search);
  ASSERT_EQ(first.code, 0) << first.err;
  const std::string model = folder.read("m"), log = folder.read("log");
  ASSERT_EQ(folder.run(search + Arguments{"--resume", "log"}).err.find("trained again"), std::string::npos);
  /* A model with the same provenance, and another parameter. */
  std::string stale = model;
  stale.back() = static_cast<char>(stale.back() ^ 1);
  for (const std::string &other : {std::string(), std::string("something else"), stale}) {
    if (!other.empty())
      folder.write("m", other);
    else
      std::filesystem::remove(folder / "m");
    const Result again = folder.run(search);
    EXPECT_EQ(again.code, 0) << again.err;
    expect_contains(again.err, "is trained again: m does not hold its model\n");
    EXPECT_EQ(again.out, first.out);
    EXPECT_TRUE(folder.read("m") == model);
    EXPECT_EQ(folder.read("log"), log);
  }
  expect_contains(folder.run(search).err, "resumed     log: 4 of them are finished\n");
}

/* As after a divergence that followed good epochs: --out still holds a model of that trial. */
TEST(Sweep, ADivergedTrialOfTheRecordIsNotTheBest) {
  Data folder;
  const Arguments search =
      sweep + Arguments{"--lr", "1e-3..1e-1:log", "--trials", "4", "--resume", "log", "--out", "m"};
  const auto best = [](const Result &r) { return r.out.substr(r.out.find("best trial "), sizeof "best trial "); };
  const Result first = folder.run(search);
  ASSERT_EQ(first.code, 0) << first.err;
  std::string log = folder.read("log");
  const size_t line = log.find("{\"trial\":" + best(first).substr(11)), status = log.find("\"done\"", line);
  folder.write("log", log.replace(status, 6, "\"diverged\",\"error\":\"as written here\""));
  const Result second = folder.run(search);
  ASSERT_EQ(second.code, 0) << second.err;
  EXPECT_NE(best(second), best(first));
  const std::string model = folder.read("m");
  EXPECT_EQ(run_in_shell(folder, best_command(second.out)), 0);
  EXPECT_TRUE(folder.read("m") == model);
}

TEST(Sweep, RefusesToContinueAnother) {
  Data folder;
  const Arguments search = sweep + Arguments{"--lr", "1e-3..1e-1:log", "--trials", "4", "--quiet"};
  ASSERT_EQ(folder.run(search + Arguments{"--log", "log"}).code, 0);
  const struct {
    Arguments options;
    int code;
    const char *error;
  } cases[] = {
      {{"--seed", "1", "--resume", "log"}, 2, "log: records another sweep: checksum"}, /* another split */
      {{"--epochs", "5", "--resume", "log"}, 2, "log: records another sweep: --epochs was 4 and is now 5"},
      {{"--lr", "1e-3..1:log", "--resume", "log"},
       2,
       "log: records another sweep: --learning-rate was 1e-3..1e-1:log and is now 1e-3..1:log"},
      {{"--trials", "5", "--resume", "log"}, 2, "log: records another sweep: --trials was 4 and is now 5"},
      {{"--search", "halving", "--resume", "log"},
       2,
       "log: records another sweep: --search was random and is now halving"},
      {{"--measure", "auc", "--resume", "log"}, 2, "log: records another sweep: --measure was loss and is now auc"},
      {{"--dropout", "0..0.1", "--resume", "log"}, 2, "log: records another sweep: --dropout was 0 and is now 0..0.1"},
      {{"--device", "reference", "--resume", "log"},
       2,
       "log: records another sweep: device was cpu and is now reference"},
      {{"--log", "log"}, 2, "--log 'log': exists: continue that sweep with --resume, or choose another name"},
      {{"--resume", "data.csv"}, 2, "--resume 'data.csv': is also an input file"},
      {{"--resume", "junk"}, 3, "junk: is not the --log of a sweep"},
  };
  folder.write("junk", "hello\n");
  for (const auto &c : cases) {
    const std::string before = folder.read("log");
    const Result result = folder.run(search + c.options);
    EXPECT_EQ(result.code, c.code) << c.error;
    if (std::string(c.error).find("checksum") == std::string::npos) {
      EXPECT_EQ(result.err, std::string("descent sweep: ") + c.error + "\n");
    }
    expect_one_line(result.err);
    EXPECT_EQ(folder.read("log"), before);
  }
  folder.write("data.csv", make_data("binary", 90));
  const Result changed = folder.run(search + Arguments{"--resume", "log"});
  EXPECT_EQ(changed.err, "descent sweep: log: records a sweep of other data: data.csv has changed since\n");
  EXPECT_EQ(changed.code, 2);
}

/* A file that is no record stays as it is, whether its line is whole or not. */
TEST(Sweep, NeverEmptiesAnotherFile) {
  Data folder;
  const Arguments search = sweep + Arguments{"--lr", "1e-3..1e-1:log", "--trials", "3", "--quiet", "--out", "m"};
  for (const std::string foreign : {"{\"learning-rate\":\"1e-3..1e-1\"}", "hello", "\"sweep\"", "\n", "[]\n"}) {
    folder.write("other", foreign);
    const Result result = folder.run(search + Arguments{"--resume", "other"});
    EXPECT_EQ(result.code, 3) << foreign;
    EXPECT_EQ(result.err, "descent sweep: other: is not the --log of a sweep\n");
    EXPECT_EQ(folder.read("other"), foreign);
  }
  ASSERT_EQ(folder.run(search + Arguments{"--log", "log"}).code, 0);
  const std::string log = folder.read("log");
  for (const size_t length : {size_t{0}, size_t{1}, size_t{8}, size_t{9}, size_t{40}}) { /* after a kill at its start */
    folder.write("cut", log.substr(0, length));
    EXPECT_EQ(folder.run(search + Arguments{"--resume", "cut"}).code, 0);
    EXPECT_EQ(timeless(folder.read("cut")), timeless(log));
  }
}

TEST(Sweep, NeverWritesOverAnInput) {
  Data folder;
  std::string all = folder.read("data.csv");
  folder.write("more.csv", all);
  folder.write("c.json", "{\"epochs\": 2}");
  ASSERT_EQ(
      folder.run({"train", "data.csv", "--target", "answer", "--epochs", "1", "--hidden", "8", "--out", "w"}).code, 0);
  const std::string model = folder.read("w");
  const struct {
    const char *input, *file;
  } inputs[] = {{"--validation", "more.csv"}, {"--test", "more.csv"}, {"--weights", "w"}, {"--config", "c.json"}};
  for (const auto &input : inputs)
    for (const std::string output : {"--report", "--log", "--resume", "--out"}) {
      const Result result =
          folder.run(sweep + Arguments{"--lr", "0.1;0.01", "--quiet", input.input, input.file, output, input.file});
      EXPECT_EQ(result.code, 2) << input.input << ' ' << output;
      EXPECT_EQ(result.err, "descent sweep: " + output + " '" + input.file + "': is also an input file\n");
    }
  EXPECT_EQ(folder.read("more.csv"), all);
  EXPECT_EQ(folder.read("c.json"), "{\"epochs\": 2}");
  EXPECT_TRUE(folder.read("w") == model);
}

/* Whatever a trial reads: names and classes too, and the files of --weights and --test. */
TEST(Sweep, RefusesChangedInputs) {
  Data folder("classes");
  const std::string data = folder.read("data.csv");
  const auto replace = [&](const std::string &from, const std::string &to) {
    return std::regex_replace(data, std::regex(from), to);
  };
  const Arguments first = {"train", "data.csv", "--target", "answer", "--epochs", "1", "--hidden", "8", "--quiet"};
  ASSERT_EQ(folder.run(first + Arguments{"--out", "w"}).code, 0);
  folder.write("test.csv", data);
  const Arguments search = sweep + Arguments{"--lr",     "1e-3..1e-1:log", "--trials", "3",        "--quiet", "--test",
                                             "test.csv", "--weights",      "w",        "--resume", "log"};
  ASSERT_EQ(folder.run(search).code, 0);
  const std::string log = folder.read("log"), weights = folder.read("w");
  const struct {
    const char *file;
    std::string text, what;
  } changes[] = {{"data.csv", replace("low", "lower"), "data: data.csv"},
                 {"data.csv", replace("height", "depth"), "data: data.csv"},
                 {"test.csv", data.substr(0, data.rfind('\n', data.size() - 2) + 1), "test data: test.csv"},
                 {"w", std::string(), "weights: w"}};
  for (const auto &change : changes) {
    folder.write("data.csv", data);
    folder.write("test.csv", change.file == std::string("data.csv") ? change.text : data);
    folder.write("w", weights);
    if (change.text.empty())
      ASSERT_EQ(folder.run(first + Arguments{"--seed", "5", "--out", "w"}).code, 0);
    else
      folder.write(change.file, change.text);
    const Result result = folder.run(search);
    EXPECT_EQ(result.code, 2) << change.what;
    EXPECT_EQ(result.err, "descent sweep: log: records a sweep of other " + change.what + " has changed since\n");
    EXPECT_EQ(folder.read("log"), log);
  }
}

TEST(Sweep, SaysThatItCannotRecord) {
  Data folder;
  Result result;
  {
    SmallFiles small(4000);
    result = folder.run(
        sweep + Arguments{"--lr", "1e-3..1e-1:log", "--trials", "12", "--together", "2", "--log", "log", "--quiet"});
  }
  EXPECT_EQ(result.code, 1);
  EXPECT_EQ(result.err, "descent sweep: log: cannot write: File too large\n");
}

/* ---- what it shows ------------------------------------------------------------------------------------------------ */

TEST(Sweep, KeepsToTheWidthOfATerminal) {
  Data folder("classes", 600);
  for (const unsigned short columns : {40, 120}) {
    const Result result = run_on_terminal(folder,
                                          Arguments{"sweep", "data.csv", "--target", "answer", "--lr", "1e-4..1e-1:log",
                                                    "--hidden", "64,64;32", "--epochs", "60", "--trials", "12"},
                                          columns, [] {});
    EXPECT_EQ(result.code, 0) << result.out;
    expect_contains(result.out, "/60  12 training, ");
    size_t n = 0;
    for (const std::string &line : lines(result.out)) {
      const std::string shown = std::regex_replace(line, std::regex("\x1b\\[[0-9]*[AKJ]|\r"), "");
      if (!std::regex_search(shown, std::regex("^(epoch|trial|   [ 0-9]\\d) "))) continue;
      EXPECT_LE(shown.size(), columns) << shown;
      n++;
    }
    EXPECT_GE(n, 12U);
  }
}

TEST(Sweep, QuietPrintsResultsOnly) {
  Data folder;
  const Result result = folder.run(sweep + Arguments{"--lr", "0.1;0.01", "--quiet"});
  EXPECT_EQ(result.code, 0);
  EXPECT_EQ(result.err, "");
  expect_contains(result.out, "model saved to model.safetensors\n");
}

TEST(Sweep, ReportsAllTrialsOnOnePage) {
  Data folder("classes");
  std::filesystem::rename(folder / "data.csv", folder / "<b>&.csv");
  const Result result = folder.run({"sweep", "<b>&.csv", "--target", "answer", "--epochs", "6", "--lr",
                                    "1e-3..1e-1:log", "--hidden", "8;4,4", "--trials", "11", "--report", "r.html"});
  ASSERT_EQ(result.code, 0) << result.err;
  const std::string page = folder.read("r.html");
  EXPECT_EQ(count(page, "<title>trial "), 11U);
  EXPECT_EQ(count(page, "line best"), 1U);
  EXPECT_EQ(count(page, "<td>done</td>"), 11U);
  EXPECT_EQ(count(page, "NaN") + count(page, "nan\"") + count(page, "<script"), 0U);
  EXPECT_EQ(page.find("<b>&"), std::string::npos);
  expect_contains(page, "trained alone by</th><td><code>descent train &#39;&lt;b&gt;&amp;.csv&#39; --target answer ");
  for (const char *tag : {"svg", "table", "tr", "g", "main", "html", "div"})
    EXPECT_EQ(count(page, std::string("<") + tag + ">") + count(page, std::string("<") + tag + " "),
              count(page, std::string("</") + tag + ">"))
        << tag;
}

/* In the terms of a sweep, as the command that was given. */
TEST(Sweep, SpeaksOfItself) {
  Data folder;
  std::string test = folder.read("data.csv");
  folder.write("test.csv", test + ",1,yes\n");
  const Arguments search = {"sweep", "data.csv", "--target", "answer", "--lr", "0.1;0.01", "--epochs", "1"};
  const Result noted = folder.run(search + Arguments{"--test", "test.csv"});
  ASSERT_EQ(noted.code, 0) << noted.err;
  expect_contains(noted.err, "descent sweep: note: test.csv: 1 missing cell is filled in\n");
  expect_contains(noted.err, "trials of at most 1 epoch\n");
  folder.write("test.csv", test + "1e30,1,yes\n");
  const Result refused = folder.run(search + Arguments{"--test", "test.csv", "--quiet"});
  EXPECT_EQ(refused.code, 3);
  expect_contains(refused.err, "descent sweep: the test data: ");
  expect_one_line(refused.err);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* which reserve more addresses than the limit */
TEST(Sweep, SaysHowManyTrialsWouldFit) {
  Data folder;
  const std::string line = "cd '" + folder.path() +
                           "' && ulimit -v 600000 && '" DESCENT_COMMAND
                           "' sweep data.csv --target answer --threads 1 --quiet --search halving --trials 8 --hidden "
                           "'2000,2000;2001,2000' --lr 1e-3..1e-2 2> err";
  EXPECT_EQ(exit_code(system(line.c_str())), 1);
  const std::string err = folder.read("err");
  expect_contains(err, "descent sweep: trial ");
  expect_contains(err, " of 8 trials would fit; halving trains all trials together: use fewer --trials\n");
  EXPECT_EQ(count(err, "member"), 0U);
}
#endif

/* ---- refusals ---------------------------------------------------------------------------------------------------- */

TEST(Sweep, RefusesInOneLine) {
  Data folder;
  const struct {
    Arguments options;
    int code;
    const char *error;
  } cases[] = {
      {{"--lr", "1e-2..1e-4"},
       2,
       "--learning-rate '1e-2..1e-4': the range ends below its start: did you mean 1e-4..1e-2?"},
      {{"--l2", "0..1:log"}, 2, "--l2 '0..1:log': a logarithmic range must start above 0"},
      {{"--lr", "0..1:log"}, 2, "--learning-rate '0..1:log': '0' must be a number above 0"},
      {{"--dropout", "0..1"}, 2, "--dropout '0..1': '1' must be a number of at least 0 and below 1"},
      {{"--lr", "1e-4..fast"}, 2, "--learning-rate '1e-4..fast': 'fast' must be a number above 0"},
      {{"--lr", "0.1..0.1"}, 2, "--learning-rate '0.1..0.1': the range holds one value: omit .."},
      {{"--lr", "1e-4.."},
       2,
       "--learning-rate '1e-4..': a range is LO..HI or LO..HI:log, with :N at its end for 2 to 10000 points of a grid"},
      {{"--lr", "0.1..0.2:1"},
       2,
       "--learning-rate '0.1..0.2:1': a range is LO..HI or LO..HI:log, with :N at its end for 2 to 10000 points of a "
       "grid"},
      {{"--lr", "0.1;;0.2"}, 2, "--learning-rate '0.1;;0.2': an alternative is empty: separate values with one ;"},
      {{"--lr", "0.1;0.1..0.2"},
       2,
       "--learning-rate '0.1;0.1..0.2': '0.1..0.2' is a range: give a range or alternatives, not both"},
      {{"--lr", "0.1;0.2;0.1"}, 2, "--learning-rate '0.1;0.2;0.1': '0.1' is given twice"},
      {{"--lr", "1e-3;0.1;.001"}, 2, "--learning-rate '1e-3;0.1;.001': '.001' is given twice"},
      {{"--hidden", "16..64"}, 2, "--hidden '16..64': takes no range: give alternatives, like a;b;c"},
      {{"--hidden", "16;0"},
       2,
       "--hidden '0': must be none or up to 9999 whole numbers from 1 to 10000000 separated by commas, like 64,32"},
      {{"--epochs", "5..9"}, 2, "--epochs '5..9': must be one value: it is the same for all trials of a sweep"},
      {{"--seed", "1;2"}, 2, "--seed '1;2': must be one value: it is the same for all trials of a sweep"},
      {{"--warmup-steps", "1..2:5"}, 2, "--warmup-steps '1..2:5': there are only 2 whole numbers in the range"},
      {{"--batch-size", "16;all;most"}, 2, "--batch-size 'most': must be a whole number of at least 1, or all"},
      {{"--search", "grid", "--lr", "0.1..0.2"},
       2,
       "--learning-rate '0.1..0.2': a grid needs the number of points of a range, like 0.1..0.2:5"},
      {{"--search", "grid", "--lr", "0.1..0.2:101", "--dropout", "0..0.3:101"},
       2,
       "the grid has 10201 combinations, and at most 10000 are trained: use fewer points or --search random"},
      {{"--lr", "0.1;0.2", "--trials", "3"}, 2, "--trials 3: there are only 2 configurations: use --search grid"},
      {{"--lr", "0.1..0.2", "--trials", "20000"},
       2,
       "--trials '20000': must be a whole number of at least 0 and at most 10000"},
      {{"--lr", "0.1..0.2", "--search", "halving", "--validation", "0"},
       2,
       "--search halving: needs validation rows to compare trials on"},
      {{"--lr", "0.1..0.2", "--search", "halving", "--min-epochs", "4"},
       2,
       "--min-epochs 4: must be below --epochs, which is 4"},
      {{"--lr", "0.1..0.2", "--eta", "2"}, 2, "--eta is for --search halving"},
      {{"--lr", "0.1..0.2", "--min-epochs", "2"}, 2, "--min-epochs is for --search halving"},
      {{"--lr", "0.1..0.2", "--search", "halving", "--together", "2"},
       2,
       "--together is for grid and random: halving trains all trials together"},
      {{"--lr", "0.1..0.2", "--search", "gird"}, 2, "--search 'gird': must be grid, random or halving"},
      {{"--lr", "0.1..0.2", "--measure", "rmse"}, 2, "--measure rmse: is for regression; the task here has classes"},
      {{"--lr", "0.1..0.2", "--epochs", "0"}, 2, "--epochs 0: a sweep compares trained networks"},
      {{"--lr", "0.1"},
       2,
       "nothing differs between trials: give an option a range like --learning-rate 1e-4..1e-2:log, or alternatives "
       "like --hidden '64,32;128'"},
      {{"--learnign-rate", "0.1..0.2"},
       2,
       "unknown option '--learnign-rate': did you mean --learning-rate? (see descent sweep --help)"},
      {{"--lr", "0.1..0.2", "--checkpoint", "x"}, 2, "unknown option '--checkpoint' (see descent sweep --help)"},
      {{"--lr", "0.1..0.2", "--log", "a", "--resume", "b"},
       2,
       "--log and --resume: give one; a resumed sweep is recorded in the same file"},
      {{"--lr", "0.1..0.2", "--out", "x", "--report", "x"}, 2, "--report 'x': is also the file of --out"},
      {{"--lr", "0.1..0.2", "--out", "no/x"}, 1, "no/x: cannot write: No such file or directory"},
      {{"--lr", "0.1..0.2", "--target", "anwser"}, 3, nullptr},
      {{"--lr", "0.1;0.2", "--nesterov"}, 2, "nesterov: needs optimizer sgd and momentum above 0, not adam and 0"},
      {{"--search", "grid", "--optimizer", "sgd;adam", "--momentum", "0.9", "--nesterov"},
       2,
       "nesterov: needs optimizer sgd and momentum above 0, not adam and 0.9 (trial 2: optimizer adam)"},
  };
  for (const auto &c : cases) {
    const Result result = folder.run(sweep + c.options);
    EXPECT_EQ(result.code, c.code) << result.err;
    expect_one_line(result.err);
    if (c.error) {
      EXPECT_EQ(result.err, std::string("descent sweep: ") + c.error + "\n");
    }
    EXPECT_EQ(folder.list(), Arguments{"data.csv"});
  }
}

TEST(Sweep, ReadsAConfigurationWithRanges) {
  Data folder;
  folder.write("c.json", R"({"lr": "1e-3..1e-1:log", "hidden": "8;4", "trials": 5, "epochs": 2, "target": "answer"})");
  const Result result = folder.run({"sweep", "data.csv", "--config", "c.json", "--log", "log", "--trials", "3"});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(read_log(folder.read("log")).size(), 3U);
  EXPECT_EQ(best_command(result.out).find("--config"), std::string::npos);
}

}  // namespace
