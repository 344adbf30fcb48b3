/* Many networks in one command: members that are what each would be alone, ensembles of them, cross-validation. */
#include "command_members.h"

#include <algorithm>
#include <cmath>
#include <regex>

namespace {

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

/* 0 stands for each member's seed, and so cannot be the seed of all. */
TEST(Ensemble, SharesTheOrderOfAnotherSeedWhereItsSeedIs0) {
  Folder folder;
  folder.write("data.csv", make_noisy(120));
  const Arguments training = job + Arguments{"--ensemble", "2"}, shared = {"--ensemble-shuffle", "shared"};
  const Arguments of_1 = {"--shuffle-seed", std::to_string(descent_member_seed(0, 1))};
  ASSERT_EQ(folder.run(training + of_1).code, 0);
  const Network expected = load(folder);
  ASSERT_EQ(folder.run(training + shared).code, 0);
  EXPECT_EQ(members_of(load(folder)), members_of(expected));
  /* --shuffle-seed has precedence over --seed, as for one network. */
  ASSERT_EQ(folder.run(training + shared + of_1 + Arguments{"--seed", "5"}).code, 0);
  const Network given = load(folder);
  ASSERT_EQ(folder.run(training + of_1 + Arguments{"--seed", "5"}).code, 0);
  EXPECT_EQ(members_of(load(folder)), members_of(given));
  expect_contains(folder.run(quick + Arguments{"--ensemble", "2"} + of_1).err, ", rows shuffled alike for all\n");
}

TEST(Ensemble, ShowsItsSeedsInInfo) {
  Folder folder;
  folder.write("data.csv", make_noisy(60));
  const auto seed = [](int64_t k) { return std::to_string(descent_member_seed(7, k)); };
  const Arguments training = job + Arguments{"--seed", "7", "--epochs", "1"};
  ASSERT_EQ(folder.run(training + Arguments{"--ensemble", "2"}).code, 0);
  expect_contains(folder.run({"info", "model.safetensors"}).out, "\nseeds         7, " + seed(1) + "\n");
  ASSERT_EQ(folder.run(training + Arguments{"--ensemble", "6"}).code, 0);
  expect_contains(folder.run({"info", "model.safetensors"}).out,
                  "\nseeds         7, " + seed(1) + ", " + seed(2) + ", " + seed(3) + ", ... (6 in all)\n");
  ASSERT_EQ(folder.run(training).code, 0);
  EXPECT_EQ(folder.run({"info", "model.safetensors"}).out.find("\nseeds "), std::string::npos);
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
  expect_contains(result.err, "descent train: all 3 networks have diverged; member 0: training diverged at step ");
  expect_contains(result.err, "; the weights before that step are kept\n");
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
    EXPECT_EQ(result.err.find(" kept\n"), std::string::npos) << result.err;
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
    const std::string unsaved = "no model was saved: the same command without --folds trains one on all rows";
    expect_contains(result.out, unsaved + " but those that --validation 0.2 holds out\n");
    expect_contains(folder.run(job + Arguments{"--folds", "5", "--validation", "0"}).out, unsaved + "\n");
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
  expect_contains(result.err, "descent train: all 3 networks have diverged; fold 0: training diverged at step ");
  EXPECT_EQ(result.err.find("weights"), std::string::npos) << result.err; /* no model has them */
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
