/* The command during a training and with its model: repeatable bytes, the run log, numbers that agree, signals. */
#include "command.h"

#include <signal.h>

#include <chrono>
#include <cmath>
#include <regex>
#include <thread>

namespace {

/* ---- training ---------------------------------------------------------------------------------------------------- */

TEST(Train, NamesTheColumnsThatNeverChange) {
  Folder folder;
  std::string text;
  for (const std::string &line : lines(make_data("binary", 60))) text += (text.empty() ? "same," : "7,") + line + "\n";
  folder.write("data.csv", text);
  Result result = folder.run(quick);
  EXPECT_EQ(result.code, 0);
  expect_contains(result.err, "constant    1 column is the same in every training row: same\n");
}

TEST(Train, SaysThatItTookFewWholeNumbersAsClasses) {
  Folder folder;
  std::string text;
  for (int i = 0; i < 60; i++) text += std::to_string(i * 0.5) + "," + std::to_string(i % 3) + "\n";
  folder.write("data.csv", text);
  const Arguments command = {"train", "data.csv", "--target", "-1", "--epochs", "1"};
  const std::string offer = "--task regression predicts them as values";
  const std::string said = folder.run(command).err;
  expect_contains(said, "1 feature, no header, target column -1\n");
  expect_contains(said, offer);
  expect_contains(said, "task        classes (inferred): 0 20, 1 20, 2 20\n");
  EXPECT_EQ(folder.run(command + Arguments{"--task", "classes"}).err.find(offer), std::string::npos);

  folder.write("data.csv", "size,price\n1,100\n2,200\n3,350\n");
  const std::string few = folder.run({"train", "data.csv", "--target", "price", "--epochs", "1"}).err;
  expect_contains(few, "task        regression (inferred)\n");
  expect_contains(few, "--task classes predicts them as classes\n");
}

TEST(Train, LeavesOutRowNumbersAndWhatIsIgnored) {
  Folder folder;
  std::string text;
  for (const std::string &line : lines(make_data("binary", 60)))
    text += (text.empty() ? ",name," : "7,Ann,") + line + "\n";
  folder.write("data.csv", text);
  Result result = folder.run(quick + Arguments{"--ignore", "name,height"});
  ASSERT_EQ(result.code, 0) << result.err;
  expect_contains(result.err, "1 feature, target answer");
  expect_contains(result.err, "            the first column has no name (row numbers?) and is left out\n");
  folder.write("new.csv", "width,answer\n20,\n2,?\n");
  Result predicted = folder.run({"predict", "model.safetensors", "new.csv"});
  EXPECT_EQ(predicted.code, 0) << predicted.err;
  EXPECT_EQ(lines(predicted.out).size(), 3U);
}

TEST(Train, TakesAShareOfTheRowsAsPercentToo) {
  Folder folder;
  folder.write("data.csv", make_data("binary", 60));
  expect_contains(folder.run(quick + Arguments{"--validation", "25%"}).err, "45 training rows, 15 held out");
  expect_contains(folder.run(quick + Arguments{"--validation", "0%"}).err, "none to validate on");
}

TEST(Train, CallsOptionsByTheirMembers) {
  Folder folder;
  folder.write("data.csv", make_data("binary", 60));
  const Result warned = folder.run(quick + Arguments{"--lr", "30", "--log", "log"});
  expect_contains(warned.err, "; try a smaller learning rate or clip_norm 1\n");
  expect_contains(folder.read("log"), "or clip_norm 1\"");
  const Result diverged = folder.run(quick + Arguments{"--lr", "1e30"});
  expect_contains(diverged.err, "; try 1e+29, clip_norm 1 or a warm-up; ");
  expect_contains(folder.run(quick + Arguments{"--schedule", "cosine:1"}).err, "descent train: schedule minimum 1:");
  expect_contains(folder.run(quick + Arguments{"--warmup-steps", "2", "--warmup-epochs", "1"}).err,
                  "descent train: warmup_epochs 1: cannot be combined with warmup_steps 2; use one of them");
}

TEST(Train, TakesEverySpellingOfAnOption) {
  Folder folder;
  folder.write("data.csv", make_data("binary", 60));
  const auto model = [&folder](const Arguments &options) {
    const Arguments command = {"train", "data.csv", "--target", "answer", "--hidden", "4", "--epochs", "2", "--quiet"};
    const Result result = folder.run(command + options);
    EXPECT_EQ(result.code, 0) << result.err;
    return folder.read("model.safetensors");
  };
  const std::string expected = model({"--learning-rate", "0.02", "--warmup-steps", "3", "--class-weights", "balanced"});
  EXPECT_EQ(model({"--lr", "0.02", "--warmup", "3", "--class-weight", "balanced"}), expected);
  EXPECT_EQ(model({"--learning_rate=0.02", "--warmup_steps", "3", "--class_weights=balanced"}), expected);
  EXPECT_EQ(model({"--learning=0.02", "--warmup_s=3", "--class_weight=balanced"}), expected);
  folder.write("new.json", R"({"learning-rate": 0.02, "warmup_steps": 3, "class_weights": "balanced"})");
  folder.write("old.json", R"({"lr": 0.02, "warmup": 3, "class-weight": "balanced"})");
  EXPECT_EQ(model({"--config", "new.json"}), expected);
  EXPECT_EQ(model({"--config", "old.json"}), expected);
  /* The record keeps the names that it had in the first version. */
  const std::string record = folder.run({"info", "--json", "model.safetensors"}).out;
  for (const char *part : {"\"lr\":0.02", "\"warmup\":3", "\"class-weight\":\"balanced\""})
    expect_contains(record, part);
  EXPECT_NE(model({"--lr", "0.03", "--warmup", "3", "--class-weight", "balanced"}), expected);
}

TEST(Verify, NamesTheCombinationThatDiverged) {
  Folder folder;
  const Result result = folder.run({"verify", "--all", "--lr", "1e20", "--device", "cpu"});
  EXPECT_EQ(result.code, 5);
  expect_contains(result.err, "descent verify: identity, binary_cross_entropy, gd: dense_forward layer 2 at step ");
}

TEST(Verify, TakesTheFormerNameOfItsReference) {
  const Arguments verify = {"verify", "--device", "cpu", "--steps", "1"};
  const Result result = Folder().run(verify + Arguments{"--witness", "cpu"});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.out, Folder().run(verify + Arguments{"--reference", "cpu"}).out);
  expect_contains(result.out, "operations on cpu against cpu: 0 failed");
}

TEST(Train, GivesTheSameBytesForTheSameCommand) {
  Folder folder;
  folder.write("data.csv", make_data("classes", 200));
  const Arguments command = quick + Arguments{"--dropout", "0.2", "--quiet"};
  ASSERT_EQ(folder.run(command + Arguments{"--out", "a"}).code, 0);
  ASSERT_EQ(folder.run(command + Arguments{"--out", "b"}).code, 0);
  ASSERT_EQ(folder.run(command + Arguments{"--out", "c", "--seed", "1"}).code, 0);
  EXPECT_EQ(folder.read("a"), folder.read("b"));
  EXPECT_NE(folder.read("a"), folder.read("c"));
}

TEST(Train, GivesTheSameBytesOnOneThreadAndOnTwo) {
  Folder folder;
  folder.write("data.csv", make_data("classes", 400));
  const Arguments command = {"train", "data.csv", "--target", "answer",  "--hidden", "96,64", "--batch-size",
                             "256",   "--epochs", "5",        "--quiet", "--device", "cpu"};
  ASSERT_EQ(folder.run(command + Arguments{"--out", "one", "--threads", "1"}).code, 0);
  ASSERT_EQ(folder.run(command + Arguments{"--out", "two", "--threads", "2"}).code, 0);
  EXPECT_EQ(folder.read("one"), folder.read("two"));
}

TEST(Train, CutsStepsIntoMicroBatches) {
  Folder folder;
  folder.write("data.csv", make_data("classes", 400));
  const Arguments command = quick + Arguments{"--batch-size", "256"}, cut = {"--micro-batches", "4"};
  const Result one = folder.run(command + cut + Arguments{"--out", "one", "--threads", "1"});
  ASSERT_EQ(one.code, 0) << one.err;
  expect_contains(one.out + one.err, ", batches of 256 in 4 micro-batches, ");
  ASSERT_EQ(folder.run(command + cut + Arguments{"--out", "two", "--threads", "2"}).code, 0);
  EXPECT_EQ(folder.read("one"), folder.read("two"));
  expect_contains(folder.run({"info", "one"}).out, "micro-batches");
  ASSERT_EQ(folder.run(command + Arguments{"--out", "whole"}).code, 0);
  ASSERT_EQ(folder.run(command + Arguments{"--out", "as_one", "--micro-batches", "1"}).code, 0);
  EXPECT_EQ(folder.run({"predict", "whole", "data.csv"}).out, folder.run({"predict", "as_one", "data.csv"}).out);

  const Arguments kept = {"--resume", "kept", "--epochs", "20"}, fewer = {"--micro-batches", "2"};
  ASSERT_EQ(folder.run(command + cut + Arguments{"--checkpoint", "kept"}).code, 0);
  const Result refused = folder.run(command + fewer + kept + Arguments{"--resume-with", "epochs"});
  EXPECT_EQ(refused.code, 2);
  expect_contains(refused.err, "the configuration differs: micro_batches was 4 and is 2; ");
  EXPECT_EQ(folder.run(command + fewer + kept + Arguments{"--resume-with", "epochs,micro-batches"}).code, 0);
}

TEST(Predict, SaysWhenItTakesColumnsByPosition) {
  Folder folder;
  const std::string text = make_data("binary", 60), rows = text.substr(text.find('\n') + 1);
  folder.write("data.csv", text);
  folder.write("rows.csv", rows);
  ASSERT_EQ(folder.run(quick).code, 0);
  Result named = folder.run({"predict", "model.safetensors", "data.csv"});
  Result unnamed = folder.run({"predict", "model.safetensors", "rows.csv"});
  EXPECT_EQ(named.err, "");
  EXPECT_EQ(unnamed.err, "descent predict: note: rows.csv: no header: columns are matched by position\n");
  EXPECT_EQ(unnamed.out, named.out);
}

TEST(Train, TakesItsOptionsFromAFileAndTheCommandLineWins) {
  Folder folder;
  folder.write("data.csv", make_data("binary", 60));
  folder.write("run.json", R"({"target": "answer", "hidden": [8, 4], "lr": 0.01, "epochs": 3, "nesterov": false,
                               "quiet": true, "activation": "tanh"})");
  ASSERT_EQ(folder.run({"train", "data.csv", "--config", "run.json", "--epochs", "2", "--out", "a"}).code, 0);
  ASSERT_EQ(folder
                .run({"train", "data.csv", "--target", "answer", "--hidden", "8,4", "--lr", "0.01", "--epochs", "2",
                      "--activation", "tanh", "--out", "b"})
                .code,
            0);
  EXPECT_EQ(folder.read("a"), folder.read("b"));
}

TEST_F(Trained, KeepsAConfigurationThatMakesTheSameModelAgain) {
  train("classes", {"--schedule", "cosine:1e-5", "--class-weight", "low=2", "--seed", "9007199254740993",
                    "--no-autotune", "--fusion", "off"});
  Json info = parse(folder.run({"info", "model.safetensors", "--json"}).out);
  cJSON *provenance = cJSON_GetObjectItemCaseSensitive(info.get(), "provenance");
  cJSON *options = cJSON_GetObjectItemCaseSensitive(provenance, "options");
  ASSERT_NE(options, nullptr);
  char *text = cJSON_PrintUnformatted(options);
  folder.write("again.json", text);
  cJSON_free(text);
  Result again = folder.run({"train", "data.csv", "--config", "again.json", "--out", "again"});
  ASSERT_EQ(again.code, 0) << again.err;
  EXPECT_EQ(folder.read("again"), folder.read("model.safetensors"));
}

/* A model keeps its bytes from version to version: an option that is added later is recorded only where it is used. */
TEST_F(Trained, RecordsTheOptionsOfTheFirstVersions) {
  const std::string first =
      "target task validation normalize impute indicators unseen strict delimiter header hidden activation "
      "output-activation init epochs patience min-delta label-smoothing optimizer lr schedule warmup "
      "warmup-epochs momentum nesterov beta1 beta2 rho epsilon weight-decay trust-coefficient l2 dropout "
      "clip-norm batch-size seed device precision fusion no-autotune micro-batches";
  const auto recorded = [this] {
    const Json info = parse(folder.run({"info", "model.safetensors", "--json"}).out);
    const cJSON *provenance = cJSON_GetObjectItem(info.get(), "provenance"), *item;
    std::string names;
    cJSON_ArrayForEach(item, cJSON_GetObjectItem(provenance, "options")) names += std::string(" ") + item->string;
    return names.substr(names.empty() ? 0 : 1);
  };
  train("binary");
  EXPECT_EQ(recorded(), first);
  train("binary", {"--shuffle-seed", "9"});
  expect_contains(recorded(), " shuffle-seed ");
}

TEST(Train, PrintsOnlyResultsWhenQuiet) {
  Folder folder;
  folder.write("data.csv", make_data("binary", 60));
  Result result = folder.run(quick + Arguments{"--quiet"});
  EXPECT_EQ(result.code, 0);
  EXPECT_EQ(result.err, "");
  expect_contains(result.out, "model saved to model.safetensors\n");
}

TEST(Train, TrainsOnAllRowsWhenThereAreTooFewToHoldAnyOut) {
  Folder folder;
  folder.write("data.csv", "a,answer\n1,x\n2,y\n");
  Result result = folder.run(quick);
  EXPECT_EQ(result.code, 0) << result.err;
  expect_contains(result.err, "none to validate on");
  EXPECT_EQ(folder.run(quick + Arguments{"--validation", "0.1"}).code, 3);
}

TEST(Train, MeasuresOnSeparateFilesWithColumnsInAnyOrder) {
  Folder folder;
  folder.write("data.csv", make_data("binary", 60));
  std::string turned;
  for (const std::string &line : lines(make_data("binary", 30))) {
    size_t first = line.find(','), second = line.find(',', first + 1);
    turned +=
        line.substr(second + 1) + "," + line.substr(first + 1, second - first - 1) + "," + line.substr(0, first) + "\n";
  }
  folder.write("turned.csv", turned);
  folder.write("straight.csv", make_data("binary", 30));
  Result a =
      folder.run(quick + Arguments{"--validation", "turned.csv", "--test", "turned.csv", "--out", "a", "--quiet"});
  Result b =
      folder.run(quick + Arguments{"--validation", "straight.csv", "--test", "straight.csv", "--out", "b", "--quiet"});
  ASSERT_EQ(a.code, 0) << a.err;
  ASSERT_EQ(b.code, 0) << b.err;
  EXPECT_EQ(lines(a.out)[5], lines(b.out)[5]);
  expect_contains(a.out, "test");
}

/* With a learning rate this large the loss overflows within a few steps. */
TEST(Train, ExitsWith5WhenItDivergesAndSavesTheLastGoodWeights) {
  Folder folder;
  folder.write("data.csv", make_data("regression", 60));
  Result result =
      folder.run(quick + Arguments{"--optimizer", "gd", "--lr", "1e15", "--activation", "identity", "--quiet"});
  EXPECT_EQ(result.code, 5);
  expect_one_line(result.err);
  expect_contains(result.err, "step");
  expect_contains(result.err, "layer");
  EXPECT_EQ(result.out, "last good weights saved to model.safetensors\n");
  EXPECT_EQ(folder.run({"info", "model.safetensors"}).out.find("\nepochs  "), std::string::npos) << "it has no end";
  EXPECT_EQ(folder.run({"info", "model.safetensors"}).code, 0);
}

/* ---- the run log ------------------------------------------------------------------------------------------------- */

TEST_F(Trained, LogsOneObjectPerEpochWithEveryKey) {
  struct {
    const char *kind;
    std::vector<std::string> keys;
  } const cases[] = {
      {"binary",
       {"validation_loss", "validation_accuracy", "validation_balanced_accuracy", "validation_auc", "validation_f1"}},
      {"classes",
       {"validation_loss", "validation_accuracy", "validation_balanced_accuracy", "validation_top_k_accuracy",
        "validation_f1"}},
      {"regression", {"validation_loss", "validation_rmse", "validation_r2"}},
  };
  for (const auto &[kind, metrics] : cases) {
    SCOPED_TRACE(kind);
    train(kind, {"--log", "run.jsonl"});
    std::vector<std::string> expected{"epoch", "step", "train_loss"}, log = lines(folder.read("run.jsonl"));
    expected.insert(expected.end(), metrics.begin(), metrics.end());
    for (const char *key : {"learning_rate", "rows_per_second", "seconds", "layers"}) expected.push_back(key);
    ASSERT_EQ(log.size(), 10U);
    for (size_t epoch = 1; epoch <= log.size(); epoch++) {
      Json json = parse(log[epoch - 1]);
      ASSERT_NE(json, nullptr);
      std::vector<std::string> keys;
      for (cJSON *item = json->child; item; item = item->next)
        if (strcmp(item->string, "warning") != 0) keys.push_back(item->string);
      EXPECT_EQ(keys, expected);
      EXPECT_EQ(number(json, "epoch"), static_cast<double>(epoch));
      cJSON *layers = cJSON_GetObjectItemCaseSensitive(json.get(), "layers");
      EXPECT_EQ(cJSON_GetArraySize(layers), 2);
      for (const char *key : {"gradient_norm", "update_ratio", "activation_mean", "activation_std", "dead_fraction"})
        EXPECT_TRUE(cJSON_IsNumber(cJSON_GetObjectItemCaseSensitive(layers->child, key))) << key;
    }
  }
}

TEST_F(Trained, LogsAnUndefinedMeasureAsNull) {
  folder.write("yes.csv", "width,height,answer\n20,20,yes\n30,30,yes\n");
  train("binary", {"--validation", "yes.csv", "--log", "run.jsonl"});
  Json json = parse(lines(folder.read("run.jsonl"))[0]);
  EXPECT_TRUE(cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(json.get(), "validation_auc")));
}

TEST(Train, ExitsWith1WhenTheLogCannotBeWritten) {
  Folder folder;
  folder.write("data.csv", make_data("binary", 60));
  Result result = folder.run(quick + Arguments{"--log", "/dev/full", "--quiet"});
  EXPECT_EQ(result.code, 1);
  expect_one_line(result.err);
  expect_contains(result.err, "/dev/full");
}

/* ---- evaluation and prediction ----------------------------------------------------------------------------------- */

TEST_F(Trained, EvaluatesToTheSameNumbersAsTrainingPrinted) {
  folder.write("data.csv", make_data("binary", 60));
  folder.write("test.csv", make_data("binary", 200));
  Result trained = folder.run(quick + Arguments{"--test", "test.csv", "--validation", "0", "--lr", "0.001", "--quiet"});
  Json json = parse(folder.run({"evaluate", "model.safetensors", "test.csv", "--json"}).out);
  ASSERT_NE(json, nullptr);
  EXPECT_EQ(number(json, "rows"), 200);
  for (const char *key : {"loss", "accuracy", "auc"}) {
    std::smatch match;
    std::regex line(std::string(key) + " +[0-9.]+ +([0-9.]+)");
    ASSERT_TRUE(std::regex_search(trained.out, match, line)) << trained.out;
    EXPECT_LE(std::abs(number(json, key) - std::stod(match[1])), 0.00005 + 1e-9) << key; /* printed to 4 decimals */
  }
  cJSON *confusion = cJSON_GetObjectItemCaseSensitive(json.get(), "confusion");
  int sum = 0;
  for (int i = 0; i < 4; i++) sum += cJSON_GetArrayItem(cJSON_GetArrayItem(confusion, i / 2), i % 2)->valueint;
  EXPECT_EQ(sum, 200);
}

TEST_F(Trained, PredictsByColumnNameWhateverTheOrder) {
  train("classes");
  folder.write("a.csv", "width,height\n1,30\n20,5\n");
  folder.write("b.csv", "colour,height,width\n9,30,1\n9,5,20\n");
  Result a = folder.run({"predict", "model.safetensors", "a.csv"}),
         b = folder.run({"predict", "model.safetensors", "b.csv"});
  EXPECT_EQ(a.code, 0) << a.err;
  EXPECT_EQ(b.code, 0) << b.err;
  EXPECT_EQ(a.out, b.out);
  EXPECT_EQ(lines(a.out).size(), 3U);
}

TEST_F(Trained, CutsLongNamesBetweenCharacters) {
  std::string name;
  for (int i = 0; i < 70; i++) name += "\u65e5"; /* three bytes each */
  folder.write(name + ".csv", make_data("binary", 60));
  Arguments command = quick;
  command[1] = name + ".csv";
  ASSERT_EQ(folder.run(command).code, 0);
  const Result info = folder.run({"info", "model.safetensors"});
  expect_contains(info.out, "trained on    " + name.substr(0, 59 * 3) + "~\n");
}

TEST_F(Trained, QuotesClassNamesThatNeedIt) {
  folder.write("data.csv", "a,answer\n1,\"x,\"\"1\"\"\"\n2,y\n3,y\n");
  ASSERT_EQ(folder.run(quick).code, 0);
  Result result = folder.run({"predict", "model.safetensors", "data.csv", "--out", "p.csv"});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.out, "");
  expect_contains(lines(folder.read("p.csv"))[0], "\"probability_x,\"\"1\"\"\"");
}

TEST_F(Trained, PredictionsReplaceTheFileNotTheLinkToIt) {
  train("binary");
  folder.write("old.csv", "old");
  ASSERT_EQ(chmod((folder / "old.csv").c_str(), 0600), 0);
  std::filesystem::create_symlink("old.csv", folder / "link.csv");
  ASSERT_EQ(folder.run({"predict", "model.safetensors", "data.csv", "--out", "link.csv"}).code, 0);
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "link.csv"));
  EXPECT_EQ(lines(folder.read("old.csv")).size(), 61U);
  struct stat file;
  ASSERT_EQ(stat((folder / "old.csv").c_str(), &file), 0);
  EXPECT_EQ(file.st_mode & 0777, 0600U);
}

TEST_F(Trained, PredictionsThatDoNotFitTheDiskAreReported) {
  train("binary");
  folder.write("many.csv", make_data("binary", 20000)); /* more than a stream's buffer */
  for (const char *data : {"data.csv", "many.csv"}) {
    const Result result = folder.run({"predict", "model.safetensors", data, "--out", "/dev/full"});
    EXPECT_EQ(result.code, 1);
    EXPECT_EQ(result.err, "descent predict: /dev/full: cannot write: No space left on device\n");
  }
}

TEST_F(Trained, PredictionsCarryEveryBitOfTheirValues) {
  train("regression");
  std::vector<std::string> rows = lines(folder.run({"predict", "model.safetensors", "data.csv"}).out);
  ASSERT_EQ(rows.size(), 61U);
  EXPECT_EQ(rows[0], "prediction");
  Json json = parse(folder.run({"evaluate", "model.safetensors", "data.csv", "--json"}).out);
  std::vector<std::string> data = lines(folder.read("data.csv"));
  double squares = 0;
  for (size_t i = 1; i < rows.size(); i++) {
    double residual = static_cast<double>(std::stof(rows[i])) - std::stod(data[i].substr(data[i].rfind(',') + 1));
    squares += residual * residual;
  }
  /* Nine digits restore every float, and the targets are floats: only the rounding of 120 operations in double
   * remains. */
  EXPECT_NEAR(std::sqrt(squares / 60), number(json, "rmse"), 120 * 0x1p-52 * number(json, "rmse"));
}

/* ---- streams, signals and terminals ------------------------------------------------------------------------------ */

TEST_F(Trained, ExitsWith1WhenStandardOutputCannotBeWritten) {
  train("binary");
  const Arguments evaluate = {"evaluate", "model.safetensors", "data.csv"};
  for (const char *out : {"", "/dev/full"}) {
    Result result = folder.run_to(evaluate, out);
    EXPECT_EQ(result.code, 1);
    expect_one_line(result.err);
    expect_contains(result.err, "standard output");
  }
  std::string rows = folder.read("data.csv"), many = rows.substr(0, rows.find('\n') + 1);
  const std::string body = rows.substr(rows.find('\n') + 1);
  for (int i = 0; i < 200; i++) many += body;
  folder.write("many.csv", many); /* more than stdio's buffer holds: the write that fails is not the last one */
  for (const Arguments &arguments : {evaluate, Arguments{"predict", "model.safetensors", "many.csv"}}) {
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    close(ends[0]); /* a reader that has exited, as with `| head` */
    Result piped = folder.run_to(arguments, "/dev/fd/" + std::to_string(ends[1]));
    close(ends[1]);
    EXPECT_EQ(piped.code, 1);
    EXPECT_EQ(piped.err, "");
  }
}

/* Waits until `file` has text in it. */
bool wait_for_text(const Folder &folder, const std::string &file, const std::string &text) {
  for (int i = 0; i < 1000; i++) {
    if (folder.read(file).find(text) != std::string::npos) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

TEST(Train, SavesTheModelWhenASignalStopsIt) {
  for (int number : {SIGINT, SIGTERM}) {
    Folder folder;
    folder.write("data.csv", make_data("binary", 200));
    pid_t child = folder.start({"train", "data.csv", "--target", "answer", "--epochs", "100000000", "--log", "log"},
                               folder / "out");
    ASSERT_TRUE(wait_for_text(folder, "log", "\"epoch\":3,"));
    kill(child, number);
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_EQ(exit_code(status), 128 + number);
    EXPECT_TRUE(WIFEXITED(status));
    expect_contains(folder.read("out"), "stopped on request");
    EXPECT_EQ(folder.run({"evaluate", "model.safetensors", "data.csv"}).code, 0);
  }
}

/* One step here is some 1e11 operations in naive loops: it would take a minute to finish. */
TEST(Train, LeavesAtOnceOnASecondSignal) {
  Folder folder;
  folder.write("data.csv", make_data("binary", 8000));
  pid_t child = folder.start({"train", "data.csv", "--target", "answer", "--hidden", "1500,1500", "--batch-size", "all",
                              "--device", "reference", "--validation", "0"},
                             folder / "out");
  ASSERT_TRUE(wait_for_text(folder, ".err", "device"));
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  int status = 0;
  kill(child, SIGTERM);
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  EXPECT_EQ(waitpid(child, &status, WNOHANG), 0);
  kill(child, SIGTERM);
  waitpid(child, &status, 0);
  EXPECT_EQ(exit_code(status), 128 + SIGTERM);
  EXPECT_FALSE(folder.has("model.safetensors"));
}

}  // namespace
