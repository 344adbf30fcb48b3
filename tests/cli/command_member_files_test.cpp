/* The files of many networks in one command: logs, checkpoints, and what none of them may replace. */
#include <chrono>
#include <filesystem>
#include <thread>

#include "command_members.h"

namespace {

/* ---- logs -------------------------------------------------------------------------------------------------------- */

TEST(Ensemble, LogsEachMember) {
  Folder folder;
  folder.write("data.csv", make_data("binary", 60));
  const Result result = folder.run(
      job + Arguments{"--ensemble", "3", "--log", "log.jsonl", "--tensorboard", "board", "--report", "report.html"});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_FALSE(folder.has("log.jsonl"));
  for (int k = 0; k < 3; k++) {
    EXPECT_EQ(lines(folder.read("log-" + std::to_string(k) + ".jsonl")).size(), 10U);
    EXPECT_TRUE(std::filesystem::is_directory(folder / ("board/member-" + std::to_string(k))));
  }
  const std::string report = folder.read("report.html");
  for (int k = 0; k < 3; k++) expect_contains(report, "member " + std::to_string(k));
  expect_contains(report, "members' mean");
  const int64_t steps = [&folder] {
    int64_t all = 0;
    for (int k = 0; k < 3; k++) {
      const Json last = parse(lines(folder.read("log-" + std::to_string(k) + ".jsonl")).back());
      all += static_cast<int64_t>(cJSON_GetNumberValue(cJSON_GetObjectItem(last.get(), "step")));
    }
    return all;
  }();
  EXPECT_GT(steps, 0);
  for (const std::string &text :
       {std::string("ensemble of 3 &middot;"), std::string("<b>3</b><span>networks</span>"),
        std::string("<b>10</b><span>epochs of the longest training</span>"), std::string("<h2>Layers of member 0</h2>"),
        std::string("The training speed is that of member 0."), std::string("The learning rate is that of member 0."),
        "<tr><th>steps of all networks</th><td>" + std::to_string(steps) + "</td>",
        std::string("<dt>ensemble</dt><dd>3</dd>"), std::string("<dt>ensemble-shuffle</dt><dd>own</dd>")})
    expect_contains(report, text);
  for (const char *text : {"<h2>Layers</h2>", "best of", "<th>stopped</th>"})
    EXPECT_EQ(report.find(text), std::string::npos) << text;
  EXPECT_EQ(folder.run({"plot", "log-0.jsonl", "log-1.jsonl"}).code, 0);
}

TEST(Members, WarnOfLogsOfATrainingWithMore) {
  Folder folder;
  folder.write("data.csv", make_noisy(60));
  const Arguments training = job + Arguments{"--log", "run.jsonl", "--ensemble"};
  EXPECT_EQ(folder.run(training + Arguments{"3"}).err, "");
  EXPECT_EQ(folder.run(training + Arguments{"3"}).err, "");
  const Result fewer = folder.run(training + Arguments{"2"});
  EXPECT_EQ(fewer.code, 0);
  EXPECT_EQ(
      fewer.err,
      "descent train: warning: run-2.jsonl: is left there, the log of another training, which had more networks\n");
}

/* A log that breaks in one member ends all in the same epoch, as it ends one network. */
TEST(Members, EndTogetherWhenALogCannotBeWritten) {
  for (const char *option : {"--ensemble", "--folds"}) {
    Folder folder;
    folder.write("data.csv", make_noisy(90));
    std::filesystem::create_symlink("/dev/full", folder / "log-1.jsonl");
    const Result result = folder.run(job + Arguments{option, "3", "--log", "log.jsonl"});
    EXPECT_EQ(result.code, 1);
    EXPECT_EQ(result.err, "descent train: log-1.jsonl: cannot write: No space left on device\n");
    expect_contains(result.out, "\ntrained 3 networks, 1 epoch (");
    expect_contains(result.out, ", stopped because a record could not be written\n");
    EXPECT_EQ(lines(folder.read("log-0.jsonl")).size(), 1U);
    EXPECT_EQ(lines(folder.read("log-2.jsonl")).size(), 1U);
    if (std::string(option) == "--folds") continue;
    const Json root = provenance_of(load(folder));
    const cJSON *members = cJSON_GetObjectItem(cJSON_GetObjectItem(root.get(), "ensemble"), "members"), *member;
    EXPECT_EQ(cJSON_GetArraySize(members), 3);
    cJSON_ArrayForEach(member, members) EXPECT_EQ(cJSON_GetNumberValue(cJSON_GetObjectItem(member, "epochs")), 1);
  }
}

/* ---- checkpoints ------------------------------------------------------------------------------------------------- */

TEST(Ensemble, ContinuesAfterASignalToTheSameBytes) {
  Folder whole, stopped;
  for (const Folder *folder : {&whole, &stopped}) folder->write("data.csv", make_noisy(400));
  const Arguments training = job + Arguments{"--ensemble", "3", "--epochs", "300", "--resume", "kept", "--log", "log"};
  ASSERT_EQ(whole.run(training).code, 0);
  const std::string model = whole.read("model.safetensors");
  int signals = 0;
  for (int tries = 0; tries < 20; tries++) {
    const pid_t child = stopped.start(training, stopped / "out");
    for (int i = 0; i < 400 && stopped.read("log-2").find(R"("epoch":)" + std::to_string(50 * tries + 20) + ",") ==
                                   std::string::npos;
         i++)
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    kill(child, SIGINT);
    int status = 0;
    waitpid(child, &status, 0);
    const int code = exit_code(status);
    if (code == 0) break;
    ASSERT_EQ(code, 128 + SIGINT) << stopped.read(".err");
    expect_contains(stopped.read("out"), "ensemble of 3 networks saved to model.safetensors\n");
    expect_contains(stopped.read("out"), "the same command with --resume kept continues from step ");
    signals++;
  }
  EXPECT_GE(signals, 1);
  ASSERT_EQ(stopped.run(training).code, 0);
  EXPECT_EQ(stopped.read("model.safetensors"), model);
  for (int k = 0; k < 3; k++) EXPECT_EQ(lines(stopped.read("log-" + std::to_string(k))).size(), 300U);
}

TEST(Ensemble, KeepsEachMembersCheckpointsInAFolderOfItsOwn) {
  Folder folder;
  folder.write("data.csv", make_data("binary", 60));
  const Arguments training = quick + Arguments{"--ensemble", "2", "--resume", "kept"};
  const Result first = folder.run(training);
  ASSERT_EQ(first.code, 0) << first.err;
  expect_contains(first.err, "starting    kept: no checkpoint found\n");
  EXPECT_EQ(count(first.err, "starting"), 1U);
  for (const char *name : {"member-0", "member-1"}) EXPECT_TRUE(folder.has(std::string("kept/") + name + "/lock"));
  const std::string model = folder.read("model.safetensors");
  const Result again = folder.run(training);
  ASSERT_EQ(again.code, 0) << again.err;
  expect_contains(again.err, "resumed     kept: 2 of 2 networks at step 20\n");
  EXPECT_EQ(folder.read("model.safetensors"), model);

  const Result alone = folder.run(quick + Arguments{"--resume", "kept"});
  EXPECT_EQ(alone.code, 2);
  expect_one_line(alone.err);
  expect_contains(alone.err, "kept: holds checkpoints of a training with --ensemble: ");
  ASSERT_EQ(folder.run(quick + Arguments{"--resume", "one"}).code, 0);
  const Result many = folder.run(quick + Arguments{"--resume", "one", "--ensemble", "2"});
  EXPECT_EQ(many.code, 2);
  expect_contains(many.err, "one: holds checkpoints of a training without --ensemble and --folds: ");
}

TEST(Folds, ContinueFromTheirCheckpoints) {
  Folder folder;
  folder.write("data.csv", make_noisy(90));
  const Arguments training = quick + Arguments{"--folds", "3", "--resume", "kept", "--log", "log"};
  const Result first = folder.run(training), again = folder.run(training);
  ASSERT_EQ(first.code, 0) << first.err;
  ASSERT_EQ(again.code, 0) << again.err;
  expect_contains(again.err, "resumed     kept: 3 of 3 networks at step 20\n");
  EXPECT_EQ(row_of(first.out, "mean"), row_of(again.out, "mean"));
  EXPECT_TRUE(folder.has("kept/fold-2/lock"));
  EXPECT_EQ(lines(folder.read("log-2")).size(), 10U);
}

TEST(Members, AreContinuedOnlyAsTheyWereTrained) {
  Folder folder;
  folder.write("data.csv", make_noisy(90));
  const Arguments folds = job + Arguments{"--resume", "folds", "--folds"},
                  ensemble = job + Arguments{"--resume", "members", "--ensemble"};
  ASSERT_EQ(folder.run(folds + Arguments{"3"}).code, 0);
  ASSERT_EQ(folder.run(ensemble + Arguments{"2"}).code, 0);
  const struct {
    Arguments arguments;
    const char *says;
  } cases[] = {
      {folds + Arguments{"4"}, "folds: --folds was 3 and is 4: give --folds 3, or use another folder\n"},
      {folds + Arguments{"3", "--seed", "2"}, "folds: --seed was 0 and is 2: give --seed 0, or use another folder\n"},
      {ensemble + Arguments{"2", "--seed", "9"}, "members: --seed was 0 and is 9: give --seed 0, "},
      {ensemble + Arguments{"2", "--shuffle-seed", "9"}, "members: --shuffle-seed was 0 and is 9: "},
      {ensemble + Arguments{"2", "--ensemble-shuffle", "shared"},
       "members: --ensemble-shuffle was own and is shared: "},
      {ensemble + Arguments{"2", "--out", "members/networks.txt"}, "is a name that the checkpoints in members use: "},
      /* What the library tells apart has the name of the fold. */
      {folds + Arguments{"3", "--lr", "0.5"}, "descent train: fold 0: folds/fold-0/step-"},
  };
  for (const auto &c : cases) {
    const Result result = folder.run(c.arguments);
    EXPECT_EQ(result.code, 2) << testing::PrintToString(c.arguments);
    expect_one_line(result.err);
    expect_contains(result.err, c.says);
  }
  const Arguments may_change = {"--resume-with", "shuffle-seed", "--ensemble-shuffle", "shared"};
  const Result changed = folder.run(ensemble + Arguments{"2"} + may_change);
  EXPECT_EQ(changed.code, 0) << changed.err;
  /* Nothing was left to train, so the checkpoints are what they were. */
  ASSERT_EQ(folder.run(ensemble + Arguments{"2"}).code, 0);
  const Result longer = folder.run(ensemble + Arguments{"2", "--epochs", "12"} +
                                   Arguments{"--resume-with", "shuffle-seed,epochs", "--ensemble-shuffle", "shared"});
  EXPECT_EQ(longer.code, 0) << longer.err;
  /* Now they are of the new order. More members than before, of which the first continue. */
  const Result more = folder.run(ensemble + Arguments{"3", "--epochs", "12", "--ensemble-shuffle", "shared"});
  EXPECT_EQ(more.code, 0) << more.err;
  expect_contains(folder.run(ensemble + Arguments{"3", "--epochs", "12"}).err,
                  "members: --ensemble-shuffle was shared and is own: ");
}

/* ---- places ------------------------------------------------------------------------------------------------------ */

/* No network of several writes over an input, an output or a checkpoint, by a name derived from that of an option. */
TEST(Members, DoNotWriteOverOtherFiles) {
  Folder folder;
  const std::string data = make_data("binary", 30);
  for (const char *name : {"run-0.csv", "run-1.csv", "config-1.json"}) folder.write(name, data);
  folder.write("config-1.json", R"({"epochs": 2})");
  std::filesystem::create_directory(folder / "kept");
  std::filesystem::create_directory(folder / "board");
  std::filesystem::create_directories(folder / "more/member-1");
  const struct {
    Arguments arguments;
    const char *says;
  } cases[] = {
      {{"--log", "run.csv"}, "--log 'run-0.csv': is also an input file"},
      {{"--log", "config.json", "--config", "config-1.json"}, "--log 'config-1.json': is also an input file"},
      {{"--log", "run.csv", "--validation", "run-1.csv"}, "--log 'run-0.csv': is also an input file"},
      {{"--log", "out", "--out", "out-1"}, "--log 'out-1': is also the model file (--out)"},
      {{"--log", "page.html", "--report", "./page-1.html"}, "'./page-1.html': is also the log file (--log)"},
      {{"--tensorboard", "board", "--out", "board/member-1"}, "'board/member-1': is also the folder of --tensorboard"},
      {{"--checkpoint", "kept", "--out", "kept/member-1"}, "'kept/member-1': is also the folder of the checkpoints"},
      {{"--resume", "more", "--out", "more/member-1/lock"}, "'more/member-1/lock': is a name that the checkpoints in "},
      {{"--resume", "kept", "--log", "kept/member"}, "'kept/member-0': is also the folder of the checkpoints"},
      {{"--log", "no/log"}, "no/log: cannot write"},
  };
  for (const auto &c : cases) {
    const Result result =
        folder.run(Arguments{"train", "run-0.csv", "--target", "answer", "--ensemble", "2"} + c.arguments);
    EXPECT_NE(result.code, 0) << testing::PrintToString(c.arguments);
    expect_one_line(result.err);
    expect_contains(result.err, c.says);
    EXPECT_EQ(folder.read("run-0.csv"), data);
    EXPECT_TRUE(std::filesystem::is_empty(folder / "kept"));
    EXPECT_TRUE(std::filesystem::is_empty(folder / "board"));
    EXPECT_TRUE(std::filesystem::is_empty(folder / "more/member-1"));
  }
  const Result folds = folder.run(
      {"train", "run-0.csv", "--target", "answer", "--folds", "2", "--log", "out", "--out-of-fold", "out-1"});
  EXPECT_EQ(folds.code, 2);
  expect_contains(folds.err, "--out-of-fold 'out-1': is also the log file (--log)");
}

}  // namespace
