/* descent sweep: what is searched, that trials are trainings, halving, what it shows, refusals. */
#include "sweep.h"

#include <descent/descent.h>

#include <set>

namespace {

std::string fnv1a(const std::string &bytes) {
  uint64_t sum = 14695981039346656037U;
  for (const char byte : bytes) sum = (sum ^ static_cast<unsigned char>(byte)) * 1099511628211U;
  char text[17];
  std::snprintf(text, sizeof text, "%016" PRIx64, sum);
  return text;
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
