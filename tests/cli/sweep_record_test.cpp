/* descent sweep: the record of its trials, and its continuation. */
#include "sweep.h"

#include <chrono>
#include <thread>

namespace {

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

}  // namespace
