/* Checkpoints on the command line: one restartable command, signals, the log, and the reporting of faults. */
#include <sys/syscall.h>

#include <chrono>
#include <regex>
#include <thread>

#include "command.h"

namespace {

const Arguments job = quick + Arguments{"--dropout", "0.1", "--threads", "1", "--device", "cpu", "--quiet"};
const Arguments restartable = job + Arguments{"--resume", "kept"};

std::vector<std::string> checkpoints(const Folder &folder, const std::string &name = "kept") {
  std::vector<std::string> names;
  for (const auto &entry : std::filesystem::directory_iterator(folder / name))
    if (entry.path().filename().string().rfind("step-", 0) == 0) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

std::string checkpoint_of(int step) {
  char name[64];
  std::snprintf(name, sizeof name, "step-%015d.safetensors", step);
  return name;
}

/* The lines of a log without times. */
std::vector<std::string> timeless(const std::string &log) {
  std::vector<std::string> kept;
  for (const std::string &line : lines(log))
    kept.push_back(std::regex_replace(line, std::regex("\"(rows_per_second|seconds)\":[^,}]*"), ""));
  return kept;
}

/* A training that ends by a signal only, with its folder. */
class Running {
 public:
  explicit Running(const Arguments &more = {}) {
    folder.write("data.csv", make_data("binary", 200));
    child_ = folder.start(Arguments{"train", "data.csv", "--target", "answer", "--epochs", "100000000", "--checkpoint",
                                    "kept", "--checkpoint-every", "1000000 epochs", "--log", "log", "--quiet"} +
                              more,
                          folder / "out");
  }
  ~Running() {
    if (child_ > 0) end(SIGKILL);
  }
  bool wait_for(const std::string &file, const std::string &text) const {
    for (int i = 0; i < 2000; i++) {
      if (folder.read(file).find(text) != std::string::npos) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return false;
  }
  void send(int number) const { kill(child_, number); }
  /* To one thread after another, but never to the first, until `seen` is true. A sanitizer may hold a signal back while
   * its thread waits. */
  template <typename Seen>
  bool send_to_other_threads(int number, const Seen &seen) const {
    for (const auto &entry : std::filesystem::directory_iterator("/proc/" + std::to_string(child_) + "/task")) {
      const pid_t thread = std::stoi(entry.path().filename());
      if (thread == child_ || syscall(SYS_tgkill, child_, thread, number) != 0) continue;
      for (int i = 0; i < 200; i++) {
        if (seen()) return true;
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
      }
    }
    return false;
  }
  bool has_ended() const {
    siginfo_t about{};
    return waitid(P_PID, static_cast<id_t>(child_), &about, WEXITED | WNOHANG | WNOWAIT) == 0 && about.si_pid == child_;
  }
  void allow_files_of(rlim_t bytes) const {
    rlimit limit{};
    prlimit(child_, RLIMIT_FSIZE, nullptr, &limit);
    limit.rlim_cur = std::min(bytes, limit.rlim_max);
    prlimit(child_, RLIMIT_FSIZE, &limit, nullptr);
  }
  int end(int number) {
    int status = 0;
    send(number);
    waitpid(child_, &status, 0);
    child_ = 0;
    return exit_code(status);
  }
  Folder folder;

 private:
  pid_t child_;
};

TEST(Checkpoints, OneCommandServesFromTheFirstStartToTheEnd) {
  Folder whole, stopped;
  for (const Folder *folder : {&whole, &stopped}) folder->write("data.csv", make_data("binary", 60));
  const Arguments recorded = {"--log", "log", "--report", "report.html"};
  ASSERT_EQ(whole.run(job + recorded).code, 0);
  const std::string model = whole.read("model.safetensors");

  const Arguments often = {"--checkpoint-every", "3 steps", "--keep", "99"};
  ASSERT_EQ(stopped.run(restartable + recorded + often).code, 0); /* no checkpoint yet */
  EXPECT_EQ(stopped.read("model.safetensors"), model);
  const std::vector<std::string> names = checkpoints(stopped);
  ASSERT_EQ(names.size(), 8u);              /* 0, 3, .. 18 and the last, 20 */
  while (checkpoints(stopped).size() > 1) { /* as if it had died after fewer and fewer steps */
    std::filesystem::remove(stopped / ("kept/" + checkpoints(stopped).back()));
    std::filesystem::remove(stopped / "model.safetensors");
    std::filesystem::copy(stopped / "kept", stopped / "again");
    std::filesystem::remove(stopped / "log"); /* is restored from the one beside the checkpoints */
    const Result result = stopped.run(job + recorded + Arguments{"--resume", "again"});
    ASSERT_EQ(result.code, 0) << result.err;
    EXPECT_EQ(stopped.read("model.safetensors"), model);
    EXPECT_EQ(timeless(stopped.read("log")), timeless(whole.read("log")));
    EXPECT_EQ(timeless(stopped.read("again/log.jsonl")), timeless(whole.read("log")));
    EXPECT_EQ(count(stopped.read("report.html"), "<svg"), count(whole.read("report.html"), "<svg"));
    std::filesystem::remove_all(stopped / "again");
  }
}

/* tests/fixtures/checkpoints: what versions 0.1.0 (v1) and 0.2.0 (v2) wrote at step 6 of 18, the data, and the model
 * that the undisturbed training ended with. Another processor or BLAS rounds differently, which 12 steps hardly
 * amplify. */
TEST(Checkpoints, ThoseOfEarlierVersionsResumeUnderOldAndNewNames) {
  const std::string fixtures = DESCENT_SOURCE_DIR "/tests/fixtures/checkpoints/";
  const Arguments old_names = {"--lr", "0.01", "--warmup", "2", "--class-weight", "balanced"},
                  names = {"--learning-rate", "0.01", "--warmup-steps", "2", "--class-weights", "balanced"};
  const struct {
    const char *version;
    Arguments names;
  } cases[] = {{"v1", old_names}, {"v1", names}, {"v2", names}};
  for (const auto &c : cases) {
    SCOPED_TRACE(c.version);
    Folder folder;
    std::filesystem::create_directory(folder / "kept");
    std::filesystem::copy(fixtures + c.version + "_step6.safetensors", folder / ("kept/" + checkpoint_of(6)));
    std::filesystem::copy(fixtures + "v1_model.safetensors", folder / "then.safetensors");
    std::filesystem::copy(fixtures + "v1.csv", folder / "v1.csv");
    const Result resumed = folder.run(
        Arguments{"train",          "v1.csv", "--target",      "kind",   "--hidden", "4",    "--batch-size", "8",
                  "--optimizer",    "adamw",  "--epochs",      "6",      "--device", "cpu",  "--threads",    "1",
                  "--dropout",      "0.1",    "--seed",        "5",      "--resume", "kept", "--validation", "0.25",
                  "--weight-decay", "0.01",   "--resume-with", "library"} +
        c.names);
    ASSERT_EQ(resumed.code, 0) << resumed.err;
    expect_contains(resumed.err, checkpoint_of(6) + ": step 6, 2 epochs done");
    expect_contains(resumed.out, "trained 6 epochs (18 steps)");
    std::istringstream now(folder.run({"predict", "model.safetensors", "v1.csv"}).out);
    std::istringstream then(folder.run({"predict", "then.safetensors", "v1.csv"}).out);
    std::string a, b;
    int rows = 0;
    while (std::getline(now, a) && std::getline(then, b)) {
      if (rows++ == 0) continue; /* names */
      EXPECT_NEAR(std::stod(a.substr(a.rfind(',') + 1)), std::stod(b.substr(b.rfind(',') + 1)), 1e-3) << rows;
    }
    EXPECT_EQ(rows, 25);
  }
}

/* Lines that the log lacks, for example after a full disk, are reported; none of the others is lost, then or later. */
TEST(Checkpoints, ALogWithGapsKeepsWhatItHas) {
  Folder folder;
  folder.write("data.csv", make_data("binary", 60));
  ASSERT_EQ(folder.run(restartable).code, 0);
  std::vector<std::string> logged = lines(folder.read("kept/log.jsonl"));
  ASSERT_EQ(logged.size(), 10u);
  logged.erase(logged.begin() + 6);
  logged[3] = logged[3].substr(0, 30); /* cut off */
  std::string text;
  for (const std::string &line : logged) text += line + "\n";
  folder.write("kept/log.jsonl", text);
  const Arguments longer = restartable + Arguments{"--epochs", "12", "--resume-with", "epochs"};
  const Result result = folder.run(longer);
  EXPECT_EQ(result.code, 0);
  EXPECT_EQ(result.err, "descent train: kept/log.jsonl: lacks 2 of the 10 epochs before step 20\n");
  const std::string whole = folder.read("kept/log.jsonl");
  EXPECT_EQ(lines(whole).size(), 10u); /* 8, and 2 more */
  EXPECT_EQ(folder.run(longer).code, 0);
  EXPECT_EQ(folder.read("kept/log.jsonl"), whole);
}

/* A folder from elsewhere may hold pipes; their writers are not waited for. */
TEST(Checkpoints, ALogThatIsAPipeIsLeftAlone) {
  const Folder folder;
  folder.write("data.csv", make_data("binary", 60));
  ASSERT_EQ(folder.run(restartable).code, 0);
  std::filesystem::remove(folder / "kept/log.jsonl");
  for (const char *pipe : {"kept/log.jsonl", "kept/log.jsonl.new"}) ASSERT_EQ(mkfifo((folder / pipe).c_str(), 0600), 0);
  const Result result = folder.run(restartable + Arguments{"--epochs", "12", "--resume-with", "epochs"});
  EXPECT_EQ(result.code, 1);
  expect_contains(result.err, "kept/log.jsonl: cannot read: Invalid argument");
}

TEST(Checkpoints, SignalsSaveAndStop) {
  for (int number : {SIGINT, SIGTERM, SIGHUP}) {
    Running running({"--report", "report.html"});
    ASSERT_TRUE(running.wait_for("log", "\"epoch\":3,"));
    const auto sent = std::chrono::steady_clock::now();
    EXPECT_EQ(running.end(number), 128 + number);
    EXPECT_LT(std::chrono::steady_clock::now() - sent, std::chrono::seconds(5));
    const std::string out = running.folder.read("out");
    std::smatch step;
    ASSERT_TRUE(std::regex_search(out, step, std::regex("--resume kept continues from step ([0-9]+)"))) << out;
    const std::string newest = checkpoints(running.folder).back();
    EXPECT_EQ(std::stoll(newest.substr(5)), std::stoll(step[1]));
    EXPECT_EQ(running.folder.run({"evaluate", "kept/" + newest, "data.csv"}).code, 0);
    EXPECT_EQ(running.folder.run({"evaluate", "model.safetensors", "data.csv"}).code, 0);
    const std::string report = running.folder.read("report.html");
    EXPECT_TRUE(std::regex_search(report, std::regex("The training was stopped by a signal.</b> [0-9,]+ epochs are "
                                                     "complete. The model was not measured.")));
    expect_contains(report, "Training curves");
    EXPECT_EQ(report.find("<h2>Measures</h2>"), std::string::npos);
    EXPECT_EQ(report.find("</html>\n"), report.size() - 8);
  }
}

/* The system may deliver a signal to any thread, also to one that the BLAS library started. */
TEST(Checkpoints, SignalsMayReachAnyThread) {
  Running running({"--threads", "2"});
  ASSERT_TRUE(running.wait_for("log", "\"epoch\":3,"));
  EXPECT_TRUE(running.send_to_other_threads(SIGUSR1, [&] { return checkpoints(running.folder).size() == 2; }));
  EXPECT_TRUE(running.send_to_other_threads(SIGTERM, [&] { return running.has_ended(); }));
  EXPECT_EQ(running.end(SIGCONT), 128 + SIGTERM) << running.folder.read(".err");
  expect_contains(running.folder.read("out"), "--resume kept continues from step");
}

/* The last checkpoint cannot be written, because its name and the next ones are folders: the training resumes from the
 * one before. */
TEST(Checkpoints, ASignalNamesTheStepThatIsOnDisk) {
  Running running;
  ASSERT_TRUE(running.wait_for("log", "\"epoch\":3,"));
  running.send(SIGSTOP);
  running.send(SIGTERM);
  const std::string logged = lines(running.folder.read("log")).back();
  const int step = std::stoi(logged.substr(logged.find("\"step\":") + 7));
  for (int i = 0; i < 1500; i++)
    std::filesystem::create_directory(running.folder / ("kept/" + checkpoint_of(step + i)));
  EXPECT_EQ(running.end(SIGCONT), 1) << running.folder.read(".err");
  expect_contains(running.folder.read("out"), "the same command with --resume kept continues from step 0\n");
  expect_contains(running.folder.read(".err"), "kept: 1 checkpoint could not be written\n");
  EXPECT_EQ(running.folder.read(".err").find("the training continues"), std::string::npos);
}

TEST(Checkpoints, AreModelsForEveryCommandThatTakesOne) {
  Folder folder;
  folder.write("data.csv", make_data("binary", 60));
  ASSERT_EQ(folder.run(restartable).code, 0);
  const std::string newest = "kept/" + checkpoints(folder).back();
  for (const Arguments &command : {Arguments{"evaluate", newest, "data.csv"},
                                   {"predict", newest, "data.csv"},
                                   {"info", newest},
                                   {"export", newest, "--out", "m.onnx"},
                                   job + Arguments{"--weights", newest, "--out", "m"}}) {
    const Result result = folder.run(command);
    EXPECT_EQ(result.code, 0) << command[0] << ": " << result.err;
  }
  const Result shown = folder.run({"info", newest}), json = folder.run({"info", newest, "--json"});
  const int64_t step = std::stoll(newest.substr(newest.find('-') + 1));
  expect_contains(shown.out, "checkpoint    of step " + std::to_string(step) + " of a training\n");
  EXPECT_EQ(number(parse(json.out), "checkpoint_step"), static_cast<double>(step));
  EXPECT_EQ(folder.run({"info", "m"}).out.find("checkpoint"), std::string::npos);
}

TEST(Checkpoints, OptionsForThemNeedAFolder) {
  Folder folder;
  folder.write("data.csv", make_data("binary", 60));
  for (const Arguments &option : {Arguments{"--keep", "3"},
                                  {"--checkpoint-every", "5 steps"},
                                  {"--resume-with", ""},
                                  {"--keep-best"},
                                  {"--keep-every", "5 steps"}}) {
    const Result result = folder.run(job + option);
    EXPECT_EQ(result.code, 2) << option[0];
    expect_one_line(result.err);
  }
}

/* --log fills the gaps, if it is of the same training. */
TEST(Checkpoints, EachLogAddsWhatTheOtherLacks) {
  Folder folder;
  folder.write("data.csv", make_data("binary", 60));
  const Arguments logged = restartable + Arguments{"--log", "log", "--report", "report.html"};
  ASSERT_EQ(folder.run(logged).code, 0);
  const std::string whole = folder.read("log");
  const std::vector<std::string> all = lines(whole);
  const std::string first = all[0] + "\n" + all[1] + "\n", last = all[9] + "\n";
  ASSERT_EQ(folder.read("kept/log.jsonl"), whole);
  const struct {
    std::string kept, log;
  } cases[] = {{first, whole}, {whole, first}, {"", whole}, {last, whole}, {whole.substr(0, whole.size() / 2), whole}};
  for (const auto &c : cases) {
    folder.write("kept/log.jsonl", c.kept);
    folder.write("log", c.log);
    const Result result = folder.run(logged);
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_EQ(result.err, "");
    EXPECT_EQ(folder.read("log"), whole);
    EXPECT_EQ(folder.read("kept/log.jsonl"), whole);
  }
  /* Of another training. */
  const std::string other = std::regex_replace(whole, std::regex("\"train_loss\":[^,]*"), "\"train_loss\":7");
  folder.write("kept/log.jsonl", first + last);
  folder.write("log", other);
  const Result result = folder.run(logged);
  EXPECT_EQ(result.code, 1);
  EXPECT_EQ(result.err, "descent train: kept/log.jsonl: lacks 7 of the 10 epochs before step 20\n");
  EXPECT_EQ(folder.read("log"), first + last);
  EXPECT_EQ(folder.read("kept/log.jsonl"), first + last);
}

TEST(Checkpoints, ALogThatCannotBeReadIsReportedAndTheTrainingContinues) {
  Folder folder;
  folder.write("data.csv", make_data("binary", 60));
  const Arguments longer = restartable + Arguments{"--epochs", "12", "--resume-with", "epochs"};
  ASSERT_EQ(folder.run(restartable).code, 0);
  const std::string log = folder.read("kept/log.jsonl");
  std::filesystem::remove(folder / "kept/log.jsonl");
  std::filesystem::create_directory(folder / "kept/log.jsonl");
  folder.write("log", log.substr(0, log.size() - 20));
  const Result result = folder.run(longer + Arguments{"--log", "log"});
  EXPECT_EQ(result.code, 1);
  expect_contains(result.err, "descent train: kept/log.jsonl: cannot read: Is a directory; the training continues");
  expect_contains(result.err, "descent train: kept/log.jsonl: lacks 2 epochs, which could not be written: Is a dir");
  expect_contains(result.err, "descent train: log: lacks 2 epochs, which could not be written: Is a directory");
  expect_contains(result.out, "trained 12 epochs");
  EXPECT_EQ(folder.read("log"), log.substr(0, log.size() - 20)); /* not replaced by less */
}

/* In a folder from someone else. */
TEST(Checkpoints, ALinkInThePlaceOfTheLogIsNotFollowed) {
  Folder folder;
  folder.write("data.csv", make_data("binary", 60));
  folder.write("mine", "keep this\n");
  std::filesystem::create_directory(folder / "kept");
  for (const char *name : {"log.jsonl", "log.jsonl.new"})
    std::filesystem::create_symlink("../mine", folder / (std::string("kept/") + name));
  const Result started = folder.run(restartable);
  EXPECT_EQ(started.code, 0) << started.err;
  EXPECT_EQ(folder.read("mine"), "keep this\n");
  EXPECT_EQ(lines(folder.read("kept/log.jsonl")).size(), 10u); /* the link was replaced */
  std::filesystem::remove(folder / "kept/log.jsonl");
  std::filesystem::create_symlink("../mine", folder / "kept/log.jsonl");
  const Result resumed = folder.run(restartable + Arguments{"--epochs", "12", "--resume-with", "epochs"});
  EXPECT_EQ(resumed.code, 1);
  expect_contains(resumed.err,
                  "kept/log.jsonl: cannot read: it is a symbolic link, which is not followed; the training");
  EXPECT_EQ(folder.read("mine"), "keep this\n");
}

/* A disk that is full for a while costs no epoch. */
TEST(Checkpoints, LogsWaitInMemoryWhileTheyCannotBeWritten) {
  std::unique_ptr<Running> running;
  {
    SmallFiles small(100000); /* room for the checkpoint */
    running = std::make_unique<Running>(Arguments{"--tensorboard", "runs"});
  }
  const std::string full = ": cannot write: File too large; the training continues, and each epoch tries again\n";
  ASSERT_TRUE(running->wait_for(".err", "kept/log.jsonl" + full) && running->wait_for(".err", " log" + full));
  EXPECT_EQ(running->folder.read("log").back(), '\n'); /* no part of a line is left */
  running->allow_files_of(RLIM_INFINITY);
  ASSERT_TRUE(running->wait_for(".err", " log: written again, with the epochs that waited\n"));
  EXPECT_EQ(running->end(SIGTERM), 128 + SIGTERM);
  const std::string said = running->folder.read(".err");
  EXPECT_EQ(lines(said).size(), 6u) << said; /* two for each log and for the event file */
  EXPECT_TRUE(std::regex_search(said, std::regex("runs/events.*: written again, with"))) << said;
  const std::vector<std::string> log = lines(running->folder.read("log"));
  for (size_t i = 0; i < log.size(); i++)
    ASSERT_EQ(log[i].rfind("{\"epoch\":" + std::to_string(i + 1) + ",", 0), 0u) << log[i];
  EXPECT_EQ(running->folder.read("kept/log.jsonl"), running->folder.read("log"));
}

TEST(Checkpoints, AFailureToWriteIsTheExitCodeOfASignalToo) {
  Running running;
  ASSERT_TRUE(running.wait_for("kept/log.jsonl", "\n"));
  std::filesystem::remove(running.folder / "kept/log.jsonl");
  EXPECT_EQ(running.end(SIGTERM), 1);
  expect_contains(running.folder.read(".err"), "kept/log.jsonl: cannot write: it was removed during the training");
}

TEST(Checkpoints, Usr1SavesAndTheTrainingContinues) {
  Running running;
  ASSERT_TRUE(running.wait_for("log", "\"epoch\":3,"));
  ASSERT_EQ(checkpoints(running.folder).size(), 1u);
  running.send(SIGUSR1);
  ASSERT_TRUE(running.wait_for(".err", "saved to kept/step-")) << running.folder.read(".err");
  EXPECT_EQ(checkpoints(running.folder).size(), 2u);
  const size_t epochs = lines(running.folder.read("log")).size();
  ASSERT_TRUE(running.wait_for("log", "\"epoch\":" + std::to_string(epochs + 3) + ","));
  EXPECT_EQ(running.end(SIGTERM), 128 + SIGTERM);
}

TEST(Checkpoints, AFolderServesOneTrainingAtATime) {
  Running running;
  ASSERT_TRUE(running.wait_for("log", "\"epoch\":1,"));
  const Result second = running.folder.run(restartable);
  EXPECT_EQ(second.code, 1);
  expect_one_line(second.err);
  expect_contains(second.err, "kept: in use by another running training");
  EXPECT_EQ(running.end(SIGKILL), 128 + SIGKILL);
  running.folder.write("data.csv", make_data("binary", 60)); /* the lock went with the process; this is another one */
  const Result third = running.folder.run(restartable);
  EXPECT_EQ(third.code, 2);
  expect_one_line(third.err);
  expect_contains(third.err, "data was 160 rows");
  EXPECT_FALSE(running.folder.has("model.safetensors"));
}

/* Its weights are saved, and nothing is written to what now has the folder's name. */
TEST(Checkpoints, AFolderThatIsTakenAwayEndsTheTraining) {
  Running running;
  ASSERT_TRUE(running.wait_for("log", "\"epoch\":3,"));
  std::filesystem::rename(running.folder / "kept", running.folder / "away");
  std::filesystem::create_directory(running.folder / "kept");
  EXPECT_EQ(running.end(SIGUSR1), 1); /* asks for a checkpoint */
  expect_one_line(running.folder.read(".err"));
  expect_contains(running.folder.read(".err"),
                  "kept: was moved, removed or replaced while the training used it; put it "
                  "back and resume, or use another folder; the weights of ");
  EXPECT_EQ(running.folder.read("out"), "last good weights saved to model.safetensors\n");
  EXPECT_EQ(running.folder.run({"evaluate", "model.safetensors", "data.csv"}).code, 0);
  EXPECT_TRUE(checkpoints(running.folder).empty());
}

/* Where OpenBLAS honours OPENBLAS_CORETYPE. */
TEST(Checkpoints, OfOtherKernelsAreResumedWithAWarning) {
  Folder folder;
  folder.write("data.csv", make_data("binary", 60));
  const auto with = [&](const char *kernels, const Arguments &arguments) {
    setenv("OPENBLAS_CORETYPE", kernels, 1);
    const Result result = folder.run(arguments);
    unsetenv("OPENBLAS_CORETYPE");
    return result;
  };
  for (const char *kernels : {"Prescott", "Haswell"})
    if (with(kernels, {"devices"}).out.find(std::string("(") + kernels + " kernels)") == std::string::npos)
      GTEST_SKIP() << "no " << kernels << " kernels";
  ASSERT_EQ(with("Prescott", restartable).code, 0);
  EXPECT_EQ(with("Prescott", restartable).err, "");
  const Result resumed = with("Haswell", restartable);
  EXPECT_EQ(resumed.code, 0);
  expect_one_line(resumed.err);
  expect_contains(resumed.err, "descent train: warning: kept/" + checkpoint_of(20) + ": the arithmetic was ");
  expect_contains(resumed.err, "(Prescott kernels) and is ");
  expect_contains(
      resumed.err,
      "(Haswell kernels): results will differ in their last bits from those of an uninterrupted training\n");
}

TEST(Checkpoints, TheBestAndEveryMultipleStay) {
  Folder folder;
  folder.write("data.csv", make_data("binary", 60));
  const Result result = folder.run(restartable + Arguments{"--keep", "1", "--keep-best", "--keep-every", "4 epochs"});
  ASSERT_EQ(result.code, 0) << result.err;
  const size_t at = result.out.find("best epoch ");
  ASSERT_NE(at, std::string::npos) << result.out;
  std::vector<std::string> expected;
  for (int step : {0, 8, 16, 20, 2 * std::stoi(result.out.substr(at + 11))}) expected.push_back(checkpoint_of(step));
  std::sort(expected.begin(), expected.end());
  expected.erase(std::unique(expected.begin(), expected.end()), expected.end());
  EXPECT_EQ(checkpoints(folder), expected);

  /* Without the options they would go: that has to be said. */
  const Arguments longer = restartable + Arguments{"--keep", "1", "--epochs", "20"};
  const Result refused = folder.run(longer + Arguments{"--resume-with", "epochs"});
  EXPECT_EQ(refused.code, 2);
  expect_one_line(refused.err);
  expect_contains(refused.err, "keep_best was yes and is no, keep_every was 4 epochs and is none; to resume anyway");
  EXPECT_EQ(checkpoints(folder), expected);
  EXPECT_EQ(folder.run(longer + Arguments{"--resume-with", "epochs,keep-best,keep-every"}).code, 0);
  EXPECT_EQ(checkpoints(folder), std::vector<std::string>{checkpoint_of(40)});
  /* More may always be kept. */
  EXPECT_EQ(folder.run(longer + Arguments{"--keep-every", "10 steps"}).code, 0);
}

TEST(Checkpoints, AnotherConfigurationIsShown) {
  Folder folder;
  folder.write("data.csv", make_data("binary", 60));
  ASSERT_EQ(folder.run(restartable + Arguments{"--log", "log"}).code, 0);
  const std::string log = folder.read("log");
  const Result refused = folder.run(restartable + Arguments{"--log", "log", "--lr", "0.5", "--epochs", "20"});
  EXPECT_EQ(refused.code, 2);
  expect_one_line(refused.err);
  expect_contains(refused.err, "learning_rate was 0.03 and is 0.5, epochs was 10 and is 20");
  expect_contains(refused.err, "to resume anyway, name these options in resume_with");
  EXPECT_EQ(folder.read("log"), log); /* nothing is lost */
  const Result allowed = folder.run(
      restartable + Arguments{"--log", "log", "--lr", "0.5", "--epochs", "20", "--resume-with", "lr,epochs"});
  EXPECT_EQ(allowed.code, 0) << allowed.err;
  EXPECT_EQ(lines(folder.read("log")).size(), 20u);
}

TEST(Checkpoints, OfAnEarlierTrainingAreNotOverwritten) {
  Folder folder;
  folder.write("data.csv", make_data("binary", 60));
  ASSERT_EQ(folder.run(job + Arguments{"--checkpoint", "kept"}).code, 0);
  const std::vector<std::string> before = checkpoints(folder);
  const Result again = folder.run(job + Arguments{"--checkpoint", "kept"});
  EXPECT_EQ(again.code, 2);
  expect_one_line(again.err);
  expect_contains(again.err, "(newest: step 20)");
  EXPECT_EQ(checkpoints(folder), before);
}

TEST(Checkpoints, DamagedOnesAreNamed) {
  Folder folder;
  folder.write("data.csv", make_data("binary", 60));
  ASSERT_EQ(folder.run(restartable).code, 0);
  const std::string model = folder.read("model.safetensors"), newest = checkpoints(folder).back();
  std::string bytes = folder.read("kept/" + newest);
  bytes[bytes.size() / 2] ^= 1;
  folder.write("kept/" + newest, bytes);
  const Result resumed = folder.run(restartable);
  EXPECT_EQ(resumed.code, 0) << resumed.err;
  expect_one_line(resumed.err);
  expect_contains(resumed.err, newest);
  expect_contains(resumed.err, "; skipped");
  EXPECT_EQ(folder.read("model.safetensors"), model);
  std::filesystem::copy(folder / "model.safetensors", folder / ("kept/" + checkpoint_of(99)));
  expect_contains(folder.run(restartable).err, checkpoint_of(99) + ": checkpoint: header missing or altered; skipped");
  std::filesystem::remove(folder / ("kept/" + checkpoint_of(99)));
  for (const std::string &name : checkpoints(folder)) folder.write("kept/" + name, "damaged");
  const Result none = folder.run(restartable);
  EXPECT_EQ(none.code, 3);
  expect_contains(none.err, "none of the 2 checkpoints can be read");
}

/* Room for the model, not for checkpoints, which hold three times as much. */
TEST(Checkpoints, ThatCannotBeWrittenAreReportedAtTheEndToo) {
  Folder folder;
  folder.write("data.csv", make_data("binary", 60));
  ASSERT_EQ(folder.run(restartable + Arguments{"--hidden", "64", "--epochs", "1", "--keep", "9"}).code, 0);
  const Arguments longer = {"--hidden", "64", "--checkpoint-every", "1 epochs", "--resume-with", "epochs"};
  const size_t room = std::filesystem::file_size(folder / "model.safetensors") + 100;
  Result result{};
  {
    SmallFiles small(room);
    result = folder.run(restartable + longer);
  }
  EXPECT_EQ(result.code, 1);
  expect_contains(result.err, "File too large; the training continues");
  expect_contains(result.err, "kept: 9 checkpoints could not be written");
  expect_contains(result.err, "kept/log.jsonl: cannot write: File too large; the training continues");
  EXPECT_TRUE(std::regex_search(
      result.err, std::regex("kept/log.jsonl: lacks [1-9] epochs, which could not be written: File too large\n")))
      << result.err;
  const Result again = folder.run(restartable + longer);
  EXPECT_EQ(again.code, 0) << again.err;
}

TEST(Checkpoints, ADivergenceRollsBack) {
  Folder folder;
  folder.write("data.csv", make_data("regression", 60));
  const Arguments wild = job + Arguments{"--optimizer", "gd",           "--lr", "1e6",   "--activation",
                                         "identity",    "--checkpoint", "kept", "--log", "log"};
  const Result stopped = folder.run(wild);
  EXPECT_EQ(stopped.code, 5);
  std::filesystem::remove_all(folder / "kept");
  const Result result = folder.run(wild + Arguments{"--on-divergence", "rollback:5:1000"});
  EXPECT_EQ(result.code, 0) << result.err;
  expect_contains(result.err, "training diverged at step");
  expect_contains(result.err, "; returned to step 0, with 0.001 of the learning rate");
  EXPECT_EQ(lines(folder.read("log")).size(), 10u);
}

/* Epochs after the step that it returns to are not missing. */
TEST(Checkpoints, ARollbackDropsWhatWaitsInMemory) {
  Folder folder;
  folder.write("data.csv", make_data("regression", 60));
  std::filesystem::create_directories(folder / "kept/log.jsonl"); /* the log waits throughout */
  const Result result = folder.run(job + Arguments{"--optimizer", "gd", "--lr", "1e6", "--activation", "identity",
                                                   "--checkpoint", "kept", "--on-divergence", "rollback:5:1000"});
  EXPECT_EQ(result.code, 1);
  expect_contains(result.err, "; returned to step 0");
  expect_contains(result.err, "kept/log.jsonl: lacks 10 epochs, which could not be written");
  EXPECT_EQ(result.err.find("lacks"), result.err.rfind("lacks")) << result.err;
}

/* A reader of a pipe would take a log that is closed for its end, and opening it again would wait for the next one. */
TEST(Checkpoints, ALogOnAPipeStaysOpenAfterARollback) {
  Folder folder;
  folder.write("data.csv", make_data("regression", 60));
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
  std::string read;
  std::thread reader([&] { read = folder.read("pipe"); });
  const Result result =
      folder.run(job + Arguments{"--optimizer", "gd", "--lr", "1e6", "--activation", "identity", "--checkpoint", "kept",
                                 "--log", "pipe", "--on-divergence", "rollback:5:1000"});
  reader.join();
  EXPECT_EQ(result.code, 0) << result.err;
  expect_contains(result.err, "; returned to step 0");
  EXPECT_EQ(lines(read).size(), 15u); /* 5 before divergences, and all 10 */
}

/* Data in binary form are mapped. Writes to the file during a training are detected before the next checkpoint;
 * truncation is detected at the first access. Data in other formats are in memory by then. */
TEST(Checkpoints, OfDataThatChangeUnderTheTrainingAreNotMade) {
  for (const char *kind : {"written", "cut", "csv"}) {
    SCOPED_TRACE(kind);
    Folder folder;
    folder.write("data.csv", make_data("binary", 20000));
    ASSERT_EQ(folder.run({"convert", "data.csv", "data.safetensors", "--target", "answer"}).code, 0);
    const bool csv = kind == std::string("csv");
    const std::string data = csv ? "data.csv" : "data.safetensors";
    const pid_t child =
        folder.start({"train", data, "--target", "answer", "--epochs", "100000000", "--checkpoint", "kept",
                      "--checkpoint-every", "20 steps", "--log", "log", "--quiet", "--threads", "1"},
                     folder / "out");
    for (int i = 0; i < 2000 && folder.read("log").find("\"epoch\":3,") == std::string::npos; i++)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    if (kind == std::string("written")) {
      std::fstream file(folder / data, std::ios::in | std::ios::out | std::ios::binary);
      file.seekp(-4, std::ios::end);
      file.write("\0\0\0\0", 4);
    } else {
      std::filesystem::resize_file(folder / data, 4096);
    }
    int status = 0;
    if (csv) {
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
      kill(child, SIGTERM);
    }
    waitpid(child, &status, 0);
    EXPECT_EQ(exit_code(status), csv ? 128 + SIGTERM : 3);
    if (!csv) {
      expect_one_line(folder.read(".err"));
      expect_contains(folder.read(".err"), kind == std::string("cut") ? "was " : "was modified while it was mapped");
    }
    for (const std::string &name : checkpoints(folder)) {
      if (name.size() != checkpoint_of(0).size()) continue; /* a temporary file, left by an immediate exit */
      EXPECT_EQ(folder.run({"info", "kept/" + name}).code, 0) << name;
    }
  }
}

/* Refused before anything is read or written, whether the folder is there or not. */
TEST(Checkpoints, TheirNamesAreNotForOtherFiles) {
  const std::string step = checkpoint_of(12), names = ": is a name that the checkpoints in ";
  struct Case {
    Arguments arguments;
    std::string says;
  };
  const std::vector<Case> always = {
      {{"--log", "kept/log.jsonl"}, "--log 'kept/log.jsonl'" + names + "kept use: choose another"},
      {{"--log", "./kept//../kept/log.jsonl"}, "log.jsonl'" + names + "kept use"},
      {{"--out", "kept/" + step}, "--out 'kept/" + step + "'" + names},
      {{"--out", "kept/lock"}, "--out 'kept/lock'" + names},
      {{"--report", "kept/lock"}, "--report 'kept/lock'" + names},
      {{"--tensorboard", "kept/log.jsonl/runs"}, "--tensorboard 'kept/log.jsonl/runs'" + names},
      {{"--out", "kept"}, "--out 'kept': is also the folder of the checkpoints"},
      {{"--out", "also_lock"}, "--out 'also_lock'" + names},
      {{"--test", "kept/" + step}, "--test 'kept/" + step + "'" + names},
      {{"--log", "runs", "--tensorboard", "runs"}, "--log 'runs': is also the folder of --tensorboard"},
  };
  const std::vector<Case> linked = {
      {{"--log", "link/log.jsonl"}, "--log 'link/log.jsonl'" + names + "kept use"},
      {{"--out", "also_step"}, "--out 'also_step'" + names},
  };
  Folder folder;
  folder.write("data.csv", make_data("binary", 60));
  std::filesystem::create_symlink("kept/lock", folder / "also_lock"); /* leads nowhere yet */
  const auto refuses = [&](const std::vector<Case> &cases) {
    const std::vector<std::string> before = folder.list();
    for (const Case &c : cases) {
      const Result result = folder.run(restartable + c.arguments);
      EXPECT_EQ(result.code, 2) << c.says;
      expect_one_line(result.err);
      expect_contains(result.err, c.says);
      EXPECT_EQ(folder.list(), before);
    }
  };
  refuses(always);
  EXPECT_EQ(folder.run(restartable + Arguments{"--checkpoint-every", "4 steps", "--keep", "9"}).code, 0);
  std::filesystem::create_symlink("kept", folder / "link");
  std::filesystem::create_symlink("link/" + step, folder / "also_step");
  const std::string log = folder.read("kept/log.jsonl"), checkpoint = folder.read("kept/" + step);
  refuses(always);
  refuses(linked);
  EXPECT_EQ(folder.read("kept/log.jsonl"), log);
  EXPECT_EQ(folder.read("kept/" + step), checkpoint);
  EXPECT_EQ(folder.run(restartable + Arguments{"--out", "kept/model", "--log", "kept/my.jsonl"}).code, 0);

  /* Commands that have nothing to do with these checkpoints. */
  const Arguments others[] = {
      job + Arguments{"--out", "kept/lock"},
      job + Arguments{"--log", "link/" + step},
      job + Arguments{"--report", "also_lock"},
      {"predict", "kept/model", "data.csv", "--out", "kept/log.jsonl"},
      {"convert", "data.csv", "link/" + step, "--target", "answer"},
  };
  for (const Arguments &arguments : others) {
    const Result result = folder.run(arguments);
    EXPECT_EQ(result.code, 2) << arguments.front() << " " << arguments.back();
    expect_one_line(result.err);
    expect_contains(result.err, "': would replace a file of the checkpoints there: choose another name");
  }
  EXPECT_EQ(folder.read("kept/log.jsonl"), log);
  EXPECT_EQ(folder.read("kept/" + step), checkpoint);
  EXPECT_EQ(folder.run({"predict", "kept/model", "data.csv", "--out", "lock"}).code, 0); /* no checkpoints there */
}

TEST(Checkpoints, OptionsAreChecked) {
  const struct {
    Arguments arguments;
    const char *says;
  } cases[] = {
      {{"--checkpoint-every", "5"}, "--checkpoint-every '5': must be"},
      {{"--checkpoint-every", "0 steps"}, "--checkpoint-every '0 steps': must be"},
      {{"--checkpoint-every", "1.5 epochs"}, "--checkpoint-every '1.5 epochs': must be"},
      {{"--checkpoint-every", "5 years"}, "--checkpoint-every '5 years': must be"},
      {{"--keep", "0"}, "--keep"},
      {{"--checkpoint", "kept", "--keep-every", "5"}, "--keep-every '5': must be"},
      {{"--checkpoint", "kept", "--keep-every", "60s"}, "--keep-every '60s': must be"},
      {{"--checkpoint", "kept", "--keep-every", "0 epochs"}, "--keep-every '0 epochs': must be"},
      {{"--checkpoint", "kept", "--keep-best", "--validation", "0"}, "keep_best: needs validation data"},
      {{"--checkpoint", ""}, "must name a folder"},
      {{"--resume", ""}, "must name a folder"},
      {{"--resume-with", "lr"}, "needs --resume"},
      {{"--resume", "kept", "--resume-with", "colour"}, "resume_with 'colour': unknown name"},
      {{"--resume", "kept", "--resume-with", "batch-size"}, "cannot change on resume"},
      {{"--on-divergence", "explode"}, "--on-divergence 'explode': must be stop or rollback"},
      {{"--on-divergence", "rollback"}, "needs --resume DIR or --checkpoint DIR"},
      {{"--checkpoint", "kept", "--on-divergence", "rollback:0"}, "must be stop or rollback"},
      {{"--checkpoint", "kept", "--on-divergence", "rollback:3:1"}, "must be stop or rollback"},
      {{"--checkpoint", "kept", "--on-divergence", "rollback:3:2:1"}, "must be stop or rollback"},
      {{"--checkpoint", "data.csv/kept"}, "Not a directory"},
  };
  Folder folder;
  folder.write("data.csv", make_data("binary", 60));
  for (const auto &c : cases) {
    const Result result = folder.run(job + c.arguments);
    EXPECT_TRUE(result.code == 2 || result.code == 1) << result.code;
    expect_one_line(result.err);
    expect_contains(result.err, c.says);
    EXPECT_FALSE(folder.has("model.safetensors"));
  }
}

}  // namespace
