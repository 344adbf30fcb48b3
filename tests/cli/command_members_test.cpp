/* Many networks in one command: members that are what each would be alone, ensembles of them, cross-validation. */
#include "command.h"

#include <descent/descent.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <regex>
#include <thread>

namespace {

const Arguments job = quick + Arguments{"--dropout", "0.1", "--threads", "1", "--device", "cpu", "--quiet"};

struct FreeNetwork {
  void operator()(descent_network *network) const { descent_network_free(network); }
};
using Network = std::unique_ptr<descent_network, FreeNetwork>;

Network load(const Folder &folder, const std::string &name = "model.safetensors") {
  descent_network *network = nullptr;
  EXPECT_EQ(descent_network_load((folder / name).c_str(), &network), DESCENT_OK) << descent_last_error();
  return Network(network);
}

Network member_of(const Network &ensemble, int64_t k) {
  descent_network *copy = nullptr;
  EXPECT_EQ(descent_network_member(ensemble.get(), k, &copy), DESCENT_OK) << descent_last_error();
  return Network(copy);
}

/* All weights and biases. */
std::vector<float> parameters_of(const Network &network) {
  std::vector<float> all;
  for (int32_t l = 1; l <= descent_network_layers(network.get()); l++) {
    const auto in = static_cast<size_t>(descent_network_width(network.get(), l - 1));
    const auto out = static_cast<size_t>(descent_network_width(network.get(), l));
    std::vector<float> W(in * out), b(out);
    EXPECT_EQ(descent_network_get_layer(network.get(), l, W.data(), b.data()), DESCENT_OK) << descent_last_error();
    all.insert(all.end(), W.begin(), W.end());
    all.insert(all.end(), b.begin(), b.end());
  }
  return all;
}

Json provenance_of(const Network &network) { return parse(descent_network_provenance(network.get())); }

/* Seeds of the members, as the model states them. */
std::vector<std::string> seeds_of(const Network &ensemble) {
  const Json root = provenance_of(ensemble);
  const cJSON *described = cJSON_GetObjectItem(root.get(), "ensemble"), *member;
  std::vector<std::string> seeds;
  cJSON_ArrayForEach(member, cJSON_GetObjectItem(described, "members")) {
    const cJSON *seed = cJSON_GetObjectItem(member, "seed");
    EXPECT_TRUE(cJSON_IsString(seed));
    if (cJSON_IsString(seed)) seeds.push_back(seed->valuestring);
  }
  return seeds;
}

/* The cells of the line that begins with this name. */
std::vector<double> row_of(const std::string &text, const std::string &name) {
  std::vector<double> cells;
  for (const std::string &line : lines(text)) {
    if (line.rfind(name, 0) != 0) continue;
    std::istringstream rest(line.substr(name.size()));
    for (std::string cell; rest >> cell;) cells.push_back(cell == "-" ? NAN : std::stod(cell));
    return cells;
  }
  ADD_FAILURE() << "no line '" << name << "' in " << text;
  return cells;
}

/* Two classes that overlap, so that networks differ and no measure is 1. */
std::string make_noisy(int rows) {
  std::ostringstream text;
  unsigned state = 99;
  auto next = [&state] {
    state = state * 1664525U + 1013904223U;
    return static_cast<double>(state >> 8) / 16777216.0;
  };
  text << "a,b,answer\n";
  for (int i = 0; i < rows; i++)
    text << next() + 0.5 * (i % 2) << ',' << next() << ',' << (i % 2 ? "yes" : "no") << '\n';
  return text.str();
}

/* ---- ensembles --------------------------------------------------------------------------------------------------- */

TEST(Ensemble, HasMembersAsEachWouldBeAlone) {
  for (const std::string kind : {"binary", "classes", "regression"}) {
    Folder folder;
    folder.write("data.csv", make_data(kind, 60));
    folder.write("held.csv", make_data(kind, 30));
    const Arguments training = job + Arguments{"--validation", "held.csv", "--seed", "7", "--patience", "3"};
    const Result result = folder.run(training + Arguments{"--ensemble", "3"});
    ASSERT_EQ(result.code, 0) << result.err;
    const Network ensemble = load(folder);
    ASSERT_EQ(descent_network_members(ensemble.get()), 3);
    const std::vector<std::string> seeds = seeds_of(ensemble);
    ASSERT_EQ(seeds.size(), 3U);
    for (int64_t k = 0; k < 3; k++) {
      EXPECT_EQ(seeds[static_cast<size_t>(k)], std::to_string(descent_member_seed(7, k)));
      ASSERT_EQ(folder.run(training + Arguments{"--seed", seeds[static_cast<size_t>(k)], "--out", "one"}).code, 0);
      EXPECT_EQ(parameters_of(member_of(ensemble, k)), parameters_of(load(folder, "one"))) << kind << " " << k;
    }
    EXPECT_NE(parameters_of(member_of(ensemble, 0)), parameters_of(member_of(ensemble, 1)));
  }
}

TEST(Ensemble, OfTheSameSplitBeginsWithTheNetworkOfTheSameCommand) {
  Folder folder;
  folder.write("data.csv", make_noisy(120));
  ASSERT_EQ(folder.run(job + Arguments{"--out", "one"}).code, 0);
  const Result one = folder.run(job + Arguments{"--out", "plain", "--ensemble", "1"});
  ASSERT_EQ(one.code, 0) << one.err;
  EXPECT_EQ(folder.read("plain"), folder.read("one"));
  ASSERT_EQ(folder.run(job + Arguments{"--ensemble", "4"}).code, 0);
  const Network ensemble = load(folder);
  EXPECT_EQ(parameters_of(member_of(ensemble, 0)), parameters_of(load(folder, "one")));
  const std::string model = folder.read("model.safetensors");
  ASSERT_EQ(folder.run(job + Arguments{"--ensemble", "4", "--threads", "2"}).code, 0);
  for (int64_t k = 0; k < 4; k++)
    EXPECT_EQ(parameters_of(member_of(load(folder), k)), parameters_of(member_of(ensemble, k))) << k;
  ASSERT_EQ(folder.run(job + Arguments{"--ensemble", "4"}).code, 0);
  EXPECT_EQ(folder.read("model.safetensors"), model);
}

TEST(Ensemble, RecordsTheOptionsThatMakeItAndAMemberWhichItIs) {
  Folder folder;
  folder.write("data.csv", make_noisy(60));
  ASSERT_EQ(folder.run(job + Arguments{"--out", "plain"}).code, 0);
  ASSERT_EQ(folder.run(job + Arguments{"--ensemble", "3", "--ensemble-shuffle", "shared"}).code, 0);
  const Json plain = provenance_of(load(folder, "plain")), made = provenance_of(load(folder));
  const cJSON *options = cJSON_GetObjectItem(made.get(), "options");
  EXPECT_EQ(cJSON_GetNumberValue(cJSON_GetObjectItem(options, "ensemble")), 3);
  EXPECT_STREQ(cJSON_GetStringValue(cJSON_GetObjectItem(options, "ensemble-shuffle")), "shared");
  EXPECT_FALSE(cJSON_HasObjectItem(cJSON_GetObjectItem(plain.get(), "options"), "ensemble"));
  EXPECT_FALSE(cJSON_HasObjectItem(cJSON_GetObjectItem(plain.get(), "options"), "ensemble-shuffle"));

  const Result exported = folder.run({"export", "model.safetensors", "--member", "1", "--out", "one.safetensors"});
  ASSERT_EQ(exported.code, 0) << exported.err;
  const Json one = provenance_of(load(folder, "one.safetensors"));
  const std::string seed = seeds_of(load(folder))[1];
  EXPECT_EQ(cJSON_GetNumberValue(cJSON_GetObjectItem(one.get(), "member")), 1);
  EXPECT_STREQ(cJSON_GetStringValue(cJSON_GetObjectItem(one.get(), "seed")), seed.c_str());
  EXPECT_EQ(cJSON_GetNumberValue(cJSON_GetObjectItem(one.get(), "epochs")), 10);
  EXPECT_FALSE(cJSON_HasObjectItem(one.get(), "ensemble"));
  expect_contains(folder.run({"info", "one.safetensors"}).out, "\nmember        1 of an ensemble of 3, seed " + seed);
}

TEST(Ensemble, IsRefusedWhereOneNetworkIsMeasured) {
  Folder folder;
  folder.write("data.csv", make_noisy(60));
  ASSERT_EQ(folder.run(job + Arguments{"--ensemble", "2"}).code, 0);
  for (const Arguments &arguments : {Arguments{"bench", "model.safetensors"},
                                     {"bench", "--predict", "model.safetensors"},
                                     {"verify", "model.safetensors"}}) {
    const Result result = folder.run(arguments);
    EXPECT_EQ(result.code, 3) << arguments[0];
    expect_one_line(result.err);
    expect_contains(result.err,
                    "model.safetensors: an ensemble of 2 networks: write one of them as a model "
                    "(descent export --member) and use that");
  }
}

TEST(Ensemble, StartsAllMembersFromGivenWeights) {
  Folder folder;
  folder.write("data.csv", make_noisy(120));
  ASSERT_EQ(folder.run(job + Arguments{"--out", "one"}).code, 0);
  const Arguments untrained = {"--weights", "one", "--epochs", "0", "--ensemble", "2"};
  ASSERT_EQ(folder.run(job + untrained).code, 0);
  const Network ensemble = load(folder);
  for (int64_t k = 0; k < 2; k++) EXPECT_EQ(parameters_of(member_of(ensemble, k)), parameters_of(load(folder, "one")));
}

TEST(Ensemble, ShowsItsMeasuresBesideThoseOfItsMembers) {
  Folder folder;
  folder.write("data.csv", make_noisy(200));
  const Result result = folder.run(job + Arguments{"--ensemble", "3"});
  ASSERT_EQ(result.code, 0) << result.err;
  std::vector<std::vector<double>> members;
  for (int k = 0; k < 3; k++) members.push_back(row_of(result.out, "member " + std::to_string(k)));
  const std::vector<double> mean = row_of(result.out, "members' mean"), lowest = row_of(result.out, "lowest"),
                            highest = row_of(result.out, "highest"), ensemble = row_of(result.out, "ensemble");
  ASSERT_EQ(members[0].size(), 5U); /* rows, loss, accuracy, balanced accuracy, auc */
  ASSERT_EQ(mean.size(), 4U);
  for (size_t m = 0; m < 4; m++) {
    const double a = members[0][m + 1], b = members[1][m + 1], c = members[2][m + 1];
    EXPECT_NEAR(mean[m], (a + b + c) / 3, 1e-4); /* four decimals are shown */
    EXPECT_EQ(lowest[m], std::min({a, b, c}));
    EXPECT_EQ(highest[m], std::max({a, b, c}));
  }
  /* Log-loss is convex in the probability: that of the mean is at most the mean. */
  EXPECT_LE(ensemble[1], mean[0] + 1e-4);
  EXPECT_EQ(ensemble[1], row_of(result.out, "loss")[1]); /* of the validation rows */
  expect_contains(result.out, "\ntrained 3 networks, 10 epochs (");
  expect_contains(result.out, "ensemble of 3 networks saved to model.safetensors\n");
  /* What evaluate says of the model on the same rows: here all of a file. */
  folder.write("new.csv", make_noisy(80));
  const Result tested = folder.run(job + Arguments{"--ensemble", "3", "--test", "new.csv"});
  const Result evaluated = folder.run({"evaluate", "model.safetensors", "new.csv"});
  EXPECT_EQ(row_of(tested.out, "ensemble")[1], row_of(evaluated.out, "loss")[0]);
}

TEST(Ensemble, SaysWhatItNeedsBeforeItTrains) {
  Folder folder;
  folder.write("data.csv", make_data("binary", 60));
  const Result result = folder.run(quick + Arguments{"--ensemble", "12"});
  ASSERT_EQ(result.code, 0) << result.err;
  expect_contains(result.err, "ensemble    12 networks, 396 parameters, up to ");
  expect_contains(result.err, "B to train, rows shuffled for each\n");
  expect_contains(result.err, "  12 networks  ");
  EXPECT_TRUE(std::regex_search(result.err, std::regex("epoch  1/10  loss [0-9.]+\\+-[0-9.]+  val [0-9.]+\\+-")))
      << result.err;
}

TEST(Ensemble, SharesTheOrderOfRowsOnRequest) {
  Folder folder;
  folder.write("data.csv", make_noisy(120));
  const Arguments training = job + Arguments{"--ensemble", "2", "--seed", "3"};
  ASSERT_EQ(folder.run(training).code, 0);
  const Network own = load(folder);
  ASSERT_EQ(folder.run(training + Arguments{"--ensemble-shuffle", "shared"}).code, 0);
  const Network shared = load(folder);
  EXPECT_EQ(parameters_of(member_of(own, 0)), parameters_of(member_of(shared, 0)));
  EXPECT_NE(parameters_of(member_of(own, 1)), parameters_of(member_of(shared, 1)));
  const Result said = folder.run(quick + Arguments{"--ensemble", "2", "--ensemble-shuffle", "shared"});
  expect_contains(said.err, ", rows shuffled alike for all\n");
}

TEST(Ensemble, StopsEachMemberEarly) {
  Folder folder;
  folder.write("data.csv", make_noisy(120));
  const Result result = folder.run(job + Arguments{"--ensemble", "4", "--epochs", "400", "--patience", "2"});
  ASSERT_EQ(result.code, 0) << result.err;
  expect_contains(result.out, ", 4 stopped early\n");
  std::vector<double> epochs;
  const Json root = provenance_of(load(folder));
  const cJSON *member;
  cJSON_ArrayForEach(member, cJSON_GetObjectItem(cJSON_GetObjectItem(root.get(), "ensemble"), "members"))
      epochs.push_back(cJSON_GetNumberValue(cJSON_GetObjectItem(member, "epochs")));
  ASSERT_EQ(epochs.size(), 4U);
  EXPECT_GT(*std::max_element(epochs.begin(), epochs.end()), *std::min_element(epochs.begin(), epochs.end()));
}

TEST(Ensemble, OfWhichAllDivergeEndsAsOneNetworkDoes) {
  Folder folder;
  folder.write("data.csv", make_data("binary", 60));
  const Result result = folder.run(job + Arguments{"--lr", "1e30", "--ensemble", "3"});
  EXPECT_EQ(result.code, 5);
  expect_one_line(result.err);
  expect_contains(result.err, "training diverged at step ");
  EXPECT_EQ(result.out, "last good weights saved to model.safetensors\n");
  EXPECT_EQ(descent_network_members(load(folder).get()), 3);
}

/* Of eight members, more diverge the larger the learning rate. */
TEST(Ensemble, LeavesOutMembersThatDiverge) {
  Folder folder;
  std::ostringstream text;
  text << "a,b,answer\n";
  for (int i = 0; i < 60; i++)
    text << i * 37 % 60 / 60.0 << ',' << i * 23 % 60 / 60.0 << ',' << i * 37 % 60 - i * 23 % 60 / 3 << '\n';
  folder.write("data.csv", text.str());
  bool found = false;
  for (const char *lr : {"0.1", "0.15", "0.2", "0.25", "0.3", "0.35", "0.4", "0.45", "0.5", "0.6", "0.7", "0.8"}) {
    const Result result = folder.run({"train", "data.csv", "--target", "answer", "--ensemble", "8", "--optimizer",
                                      "sgd", "--lr", lr, "--epochs", "20", "--hidden", "16", "--quiet"});
    const size_t left_out = count(result.err, " is left out: training diverged at step ");
    if (left_out == 0 || left_out == 8) continue;
    found = true;
    EXPECT_EQ(result.code, 0) << result.err;
    expect_contains(result.err, "descent train: warning: member ");
    const Network ensemble = load(folder);
    EXPECT_EQ(descent_network_members(ensemble.get()), static_cast<int64_t>(8 - left_out));
    /* The seeds are those of the members that are left. */
    const std::vector<std::string> seeds = seeds_of(ensemble);
    ASSERT_EQ(seeds.size(), 8 - left_out);
    size_t i = 0;
    for (int64_t k = 0; k < 8; k++)
      if (result.err.find("member " + std::to_string(k) + " is left out") == std::string::npos) {
        EXPECT_EQ(seeds[i++], std::to_string(descent_member_seed(0, k)));
        row_of(result.out, "member " + std::to_string(k));
      }
  }
  EXPECT_TRUE(found);
}

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

/* ---- cross-validation -------------------------------------------------------------------------------------------- */

TEST(Folds, AreMeasuredByNetworksOfTheOtherRows) {
  for (const std::string kind : {"binary", "classes", "regression"}) {
    Folder folder;
    folder.write("data.csv", kind == "binary" ? make_noisy(103) : make_data(kind, 103));
    const Result result = folder.run(job + Arguments{"--folds", "5", "--seed", "4"});
    ASSERT_EQ(result.code, 0) << result.err;
    double rows = 0, sum = 0, squares = 0;
    for (int k = 0; k < 5; k++) {
      const std::vector<double> row = row_of(result.out, "fold " + std::to_string(k));
      rows += row[0];
      sum += row[1];
      squares += row[1] * row[1];
    }
    EXPECT_EQ(rows, 103);
    EXPECT_NEAR(row_of(result.out, "mean")[0], sum / 5, 1e-4);
    EXPECT_NEAR(row_of(result.out, "deviation")[0], std::sqrt((squares - sum * sum / 5) / 4), 2e-3);
    EXPECT_FALSE(folder.has("model.safetensors"));
    expect_contains(result.out, "no model was saved: the same command without --folds trains one on all rows\n");
    EXPECT_EQ(folder.run(job + Arguments{"--folds", "5", "--seed", "4"}).out.substr(0, 400), result.out.substr(0, 400));
  }
}

/* Values far from 0, of which float32 holds no decimals. */
std::string make_far(int rows) {
  std::ostringstream text;
  text.precision(12);
  text << "a,b,answer\n";
  for (int i = 0; i < rows; i++)
    text << i + 0.25 << ',' << i * 23 % 60 / 60.0 << ',' << 2e7 + i % 7 + i * 23 % 60 / 30.0 << '\n';
  return text.str();
}

struct FreeData {
  void operator()(descent_dataset *data) const { descent_dataset_free(data); }
};
using Data = std::unique_ptr<descent_dataset, FreeData>;

/* The network of a fold is what train makes of a file with the rows of the other folds. */
TEST(Folds, TrainAsOnAFileOfTheOtherRows) {
  for (const std::string &text : {make_noisy(90), make_data("classes", 90), make_far(90)}) {
    Folder folder;
    const bool far = text == make_far(90);
    folder.write("data.csv", text);
    const Arguments more = {"--seed", "4", "--validation", "0.25", "--patience", "3"};
    const Result result = folder.run(job + more + Arguments{"--folds", "3", "--out-of-fold", "out.csv"});
    ASSERT_EQ(result.code, 0) << result.err;
    const std::vector<std::string> predicted = lines(folder.read("out.csv"));
    ASSERT_EQ(predicted.size(), 91U);
    descent_dataset_options source = descent_dataset_options_default();
    source.target = "answer";
    descent_dataset *read = nullptr;
    ASSERT_EQ(descent_dataset_read((folder / "data.csv").c_str(), &source, &read), DESCENT_OK);
    const Data all(read);
    for (int64_t k = 0; k < 3; k++) {
      descent_dataset *views[2];
      ASSERT_EQ(descent_dataset_fold(all.get(), 3, k, 4, &views[0], &views[1]), DESCENT_OK);
      const Data kept(views[0]), held(views[1]);
      ASSERT_EQ(descent_dataset_save(kept.get(), (folder / "others.csv").c_str()), DESCENT_OK) << descent_last_error();
      ASSERT_EQ(descent_dataset_save(held.get(), (folder / "fold.csv").c_str()), DESCENT_OK) << descent_last_error();
      Arguments alone = job + more;
      alone[1] = "others.csv";
      const Result one = folder.run(alone + Arguments{"--test", "fold.csv"});
      ASSERT_EQ(one.code, 0) << one.err;
      EXPECT_EQ(row_of(result.out, "fold " + std::to_string(k))[1], row_of(one.out, "loss")[2]) << k;
      const std::vector<std::string> expected =
          lines(folder.run({"predict", "model.safetensors", "fold.csv", "--threads", "1"}).out);
      EXPECT_EQ(predicted[0], "fold," + expected[0]);
      int64_t row = 0;
      for (int64_t i = 0; i < descent_dataset_rows(held.get()); i++) {
        while (descent_dataset_input_value(all.get(), row, 0) != descent_dataset_input_value(held.get(), i, 0) ||
               descent_dataset_input_value(all.get(), row, 1) != descent_dataset_input_value(held.get(), i, 1))
          ASSERT_LT(++row, 90);
        const std::string &line = predicted[static_cast<size_t>(row + 1)], cells = line.substr(2),
                          &alone_cells = expected[static_cast<size_t>(i + 1)];
        EXPECT_EQ(line.substr(0, 2), std::to_string(k) + ",") << row;
        /* The file of the other rows may have another offset of its targets, with which the training rounds otherwise. A
         * prediction in float32, without an offset, would be wrong by up to 1. */
        if (far)
          EXPECT_NEAR(std::stod(cells), std::stod(alone_cells), 1e-4) << row;
        else
          EXPECT_EQ(cells, alone_cells) << row;
      }
    }
  }
}

/* One row makes every network diverge that is trained on it: all but that of its fold. */
TEST(Folds, LeaveRowsEmptyWhoseNetworkDiverged) {
  Folder folder;
  for (const bool classes : {true, false}) {
    std::ostringstream text;
    text << "a,b,answer\n";
    for (int i = 0; i < 60; i++) {
      text << (i == 31 ? 1e18 : i * 37 % 60 / 60.0) << ',' << i * 23 % 60 / 60.0 << ',';
      text << (!classes ? std::to_string(i * 37 % 60) : i % 2 ? "yes" : "no") << '\n';
    }
    folder.write("data.csv", text.str());
    const Result result = folder.run({"train", "data.csv", "--target", "answer", "--folds", "6", "--optimizer", "sgd",
                                      "--lr", "1", "--hidden", "16", "--quiet", "--out-of-fold", "out.csv",
                                      "--normalize", "none", "--validation", "0"});
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_EQ(count(result.err, " is not measured: training diverged at step "), 5U);
    EXPECT_EQ(count(result.out, "\nfold "), 1U);
    const std::vector<std::string> out = lines(folder.read("out.csv"));
    ASSERT_EQ(out.size(), 61U);
    const auto is_empty = [classes](const std::string &line) { return line.substr(2) == (classes ? ",," : "\"\""); };
    EXPECT_EQ(std::count_if(out.begin() + 1, out.end(), is_empty), 50);
    EXPECT_FALSE(is_empty(out[32]));
    for (const char *fold : {"0,", "1,", "2,", "3,", "4,", "5,"}) /* also of those without a prediction */
      EXPECT_EQ(std::count_if(out.begin(), out.end(), [fold](const std::string &l) { return l.rfind(fold, 0) == 0; }),
                10);
  }
}

TEST(Folds, SayHowManyRowsHaveNoLine) {
  Folder folder;
  folder.write("data.csv", make_noisy(60) + "0.1,0.2,\n0.3,0.4,\n");
  const Result result = folder.run(job + Arguments{"--folds", "3", "--out-of-fold", "out.csv"});
  EXPECT_EQ(result.code, 0);
  EXPECT_EQ(result.err, "descent train: note: out.csv has no lines for 2 rows of data.csv without a target\n");
  EXPECT_EQ(lines(folder.read("out.csv")).size(), 61U);
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

TEST(Members, ThatCannotFitAreRefusedBeforeTheFirstIsMade) {
  Folder folder;
  folder.write("data.csv", make_data("binary", 12000));
  const double all = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
  /* Weights of a square layer, of which 10,000 take a quarter of the memory: as networks in training with adam, which
   * are six times as large, they do not fit. */
  const int64_t w = static_cast<int64_t>(std::sqrt(all / 4 / 1e4 / 4));
  const std::string wide = std::to_string(w);
  for (const char *option : {"--ensemble", "--folds"}) {
    const Result result = folder.run(
        {"train", "data.csv", "--target", "answer", "--hidden", wide + "," + wide, "--device", "cpu", option, "10000"});
    EXPECT_EQ(result.code, 1);
    expect_one_line(result.err);
    expect_contains(result.err, "descent train: 10,000 networks need at least ");
    std::smatch found;
    std::regex_search(result.err, found, std::regex("train fewer networks, of which ([0-9,]+) fit, or narrower"));
    ASSERT_EQ(found.size(), 2U) << result.err;
    std::string fit = found[1];
    fit.erase(std::remove(fit.begin(), fit.end(), ','), fit.end());
    EXPECT_LE(std::stod(fit), all / (6 * 4 * static_cast<double>(w * w)));
  }
}

TEST(Folds, ThatAllDivergeEndAsOneNetworkDoes) {
  Folder folder;
  folder.write("data.csv", make_data("binary", 60));
  const Result result = folder.run(job + Arguments{"--lr", "1e30", "--folds", "3", "--out-of-fold", "out.csv"});
  EXPECT_EQ(result.code, 5);
  expect_one_line(result.err);
  expect_contains(result.err, "descent train: fold 0: training diverged at step ");
  EXPECT_EQ(result.out, "");
  EXPECT_FALSE(folder.has("out.csv"));
}

/* ---- refusals ---------------------------------------------------------------------------------------------------- */

TEST(Members, AreRefusedInOneLine) {
  Folder folder;
  folder.write("data.csv", make_data("binary", 12));
  const struct {
    Arguments arguments;
    int code;
    const char *says;
  } cases[] = {
      {{"--ensemble", "0"}, 2, "--ensemble '0': must be a whole number of at least 1"},
      {{"--ensemble", "1.5"}, 2, "--ensemble '1.5': must be a whole number"},
      {{"--ensemble", "10001"}, 2, "and at most 10000"},
      {{"--ensemble", "2", "--ensemble-shuffle", "all"}, 2, "--ensemble-shuffle 'all': must be own or shared"},
      {{"--ensemble-shuffle", "shared"}, 2, "--ensemble-shuffle 'shared': needs --ensemble"},
      {{"--ensemble", "2", "--micro-batches", "2"}, 2, "--ensemble: cannot be combined with --micro-batches"},
      {{"--ensemble", "2", "--ranks", "self"}, 2, "--ensemble: trains in one process on one device, without ranks"},
      {{"--ensemble", "2", "--device", "cuda:0-1"}, 2, "--ensemble: trains in one process on one device"},
      {{"--ensemble", "2", "--log", "/dev/null"}, 2, "--log '/dev/null': with --ensemble each network has a log"},
      {{"--folds", "1"}, 2, "--folds 1: must be 0, for none, or at least 2"},
      {{"--folds", "-2"}, 2, "--folds '-2': must be a whole number"},
      {{"--folds", "2", "--ensemble", "2"}, 2, "--folds measures and saves no model: omit --ensemble here"},
      {{"--folds", "2", "--out", "x"}, 2, "--folds measures and saves no model: omit --out here"},
      {{"--folds", "2", "--test", "data.csv"}, 2, "--folds measures and saves no model: omit --test here"},
      {{"--folds", "2", "--report", "r"}, 2, "--folds measures and saves no model: omit --report here"},
      {{"--folds", "13"}, 2, "--folds 13: data.csv has 12 rows: use fewer folds"},
      {{"--folds", "2", "--out-of-fold", "-"}, 2, "--out-of-fold '-': must name a file"},
      {{"--folds", "2", "--out-of-fold", "data.csv"}, 2, "--out-of-fold 'data.csv': is also an input file"},
      {{"--folds", "2", "--out-of-fold", "no/x"}, 1, "no/x: cannot write"},
      {{"--out-of-fold", "x"}, 2, "--out-of-fold 'x': needs --folds"},
  };
  for (const auto &c : cases) {
    const Result result = folder.run(quick + c.arguments);
    EXPECT_EQ(result.code, c.code) << testing::PrintToString(c.arguments) << result.err;
    expect_one_line(result.err);
    expect_contains(result.err, c.says);
    EXPECT_FALSE(folder.has("model.safetensors"));
  }
}

}  // namespace
