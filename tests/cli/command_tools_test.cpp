/* The commands that report on machine, model or data, or convert them: devices, bench, verify, info, export, convert. */
#include <descent/descent.h>

#include "command.h"

namespace {

/* The command finds the emulated GPU during the lifetime of this object. */
class EmulatedGpus {
 public:
  explicit EmulatedGpus(const char *how) {
    setenv("DESCENT_BACKEND_PATH", std::filesystem::path(DESCENT_EMULATED_MODULE).parent_path().c_str(), 1);
    setenv("DESCENT_EMULATE", how, 1);
  }
  ~EmulatedGpus() {
    unsetenv("DESCENT_BACKEND_PATH");
    unsetenv("DESCENT_EMULATE");
  }
  EmulatedGpus(const EmulatedGpus &) = delete;
  EmulatedGpus &operator=(const EmulatedGpus &) = delete;
};

TEST(Devices, ListsWhatCanBeUsedAndWhyNot) {
  const Folder folder;
  const EmulatedGpus gpus("devices=2,busy=2");
  const Result text = folder.run({"devices"}), json = folder.run({"devices", "--json"});
  ASSERT_EQ(text.code, 0) << text.err;
  ASSERT_EQ(json.code, 0) << json.err;
  const std::vector<std::string> listed = lines(text.out);
  const Json object = parse(json.out);
  const cJSON *list = cJSON_GetObjectItem(object.get(), "devices");
  const char *const names[] = {"cpu", "reference", "cuda:0", "cuda:1"};
  ASSERT_EQ(listed.size(), 7U) << text.out;
  ASSERT_EQ(cJSON_GetArraySize(list), 4);
  for (int i = 0; i < 4; i++) {
    const cJSON *item = cJSON_GetArrayItem(list, i);
    EXPECT_STREQ(cJSON_GetStringValue(cJSON_GetObjectItem(item, "name")), names[i]);
    EXPECT_TRUE(cJSON_IsTrue(cJSON_GetObjectItem(item, "usable")));
    const size_t line = static_cast<size_t>(i < 3 ? i + 1 : 5); /* a GPU has two */
    expect_contains(listed[line], cJSON_GetStringValue(cJSON_GetObjectItem(item, "description")));
    if (i < 2) continue;
    for (const char *fact : {"uuid", "pci", "compute_capability", "driver"})
      expect_contains(listed[line + 1], cJSON_GetStringValue(cJSON_GetObjectItem(item, fact)));
    for (const char *fact : {"model", "cuda_driver", "cuda_runtime", "cublas"})
      expect_contains(listed[line], cJSON_GetStringValue(cJSON_GetObjectItem(item, fact)));
    EXPECT_EQ(cJSON_GetNumberValue(cJSON_GetObjectItem(item, "memory_free")), i < 3 ? 8589934592 : 4294967296);
    EXPECT_EQ(cJSON_GetNumberValue(cJSON_GetObjectItem(item, "memory_total")), 8589934592);
    expect_contains(listed[line + 1], i < 3 ? "8.6 of 8.6 GB free" : "4.3 of 8.6 GB free");
  }
}

TEST(Devices, PartsOfAGpuAreFoundByTheirNames) {
  const Folder folder;
  const EmulatedGpus gpus("mig=3");
  const Arguments on = {"bench", "--inputs", "2", "--outputs", "2", "--hidden", "2", "--seconds", "0.01", "--json"};
  expect_contains(folder.run({"devices"}).out, "MIG-e0ffeeee-");
  EXPECT_EQ(folder.run(on + Arguments{"--device", "cuda:MIG-e2ffeeee-eeee-eeee-eeee-eeeeeeeeeeee"}).code, 0);
  const Result unknown = folder.run(on + Arguments{"--device", "cuda:MIG-e3ffeeee-eeee-eeee-eeee-eeeeeeeeeeee"});
  EXPECT_EQ(unknown.code, 4);
  expect_contains(unknown.err, "no NVIDIA GPU (CUDA_VISIBLE_DEVICES is 'MIG-e3ff");
}

TEST(Devices, SaysWhyAGpuCannotBeUsed) {
  const Folder folder;
  const EmulatedGpus gpus("devices=0");
  const Result text = folder.run({"devices"}), json = folder.run({"devices", "--json"});
  EXPECT_EQ(text.code, 0);
  expect_contains(text.out, "cuda:0      no   ");
  const Json object = parse(json.out);
  const cJSON *item = cJSON_GetArrayItem(cJSON_GetObjectItem(object.get(), "devices"), 2);
  EXPECT_TRUE(cJSON_IsFalse(cJSON_GetObjectItem(item, "usable")));
  expect_contains(text.out, cJSON_GetStringValue(cJSON_GetObjectItem(item, "reason")));
}

const Arguments small_bench = {"bench",        "--inputs", "3",         "--outputs", "2",         "--hidden", "4",
                               "--batch-size", "8",        "--seconds", "0.01",      "--threads", "1"};

TEST(Bench, TimesEveryOperationAndTheStep) {
  const Folder folder;
  for (const char *device : {"cpu", "reference"}) {
    const Result text = folder.run(small_bench + Arguments{"--device", device});
    ASSERT_EQ(text.code, 0) << text.err;
    for (const char *part : {"operation ", "\ngather ", "\ndense_forward layer 1 ", "\nloss ", "\nupdate ", "\nstep ",
                             "8 rows per step, ", "measured peaks: ", "memory used: "})
      expect_contains(text.out, part);
  }
  const Result json = folder.run(small_bench + Arguments{"--device", "cpu", "--json"});
  ASSERT_EQ(json.code, 0) << json.err;
  const Json object = parse(json.out);
  EXPECT_EQ(number(object, "batch_size"), 8);
  EXPECT_GT(number(object, "step_seconds"), 0);
  EXPECT_GE(number(object, "step_seconds_max"), number(object, "step_seconds_min"));
  const cJSON *row, *rows = cJSON_GetObjectItem(object.get(), "operations");
  ASSERT_GE(cJSON_GetArraySize(rows), 10);
  cJSON_ArrayForEach(row, rows) {
    EXPECT_GT(cJSON_GetNumberValue(cJSON_GetObjectItem(row, "seconds")), 0);
    EXPECT_EQ(cJSON_GetNumberValue(cJSON_GetObjectItem(row, "link_bytes")), 0);
  }
  EXPECT_EQ(number(object, "ranks"), 1);
  EXPECT_EQ(number(object, "micro_batches"), 1);
  EXPECT_EQ(number(object, "link_bandwidth"), 0);
}

TEST(Bench, TimesAPredictionOfTheBatch) {
  const Folder folder;
  const Arguments predict = small_bench + Arguments{"--predict", "--device", "cpu"};
  const Result text = folder.run(predict);
  ASSERT_EQ(text.code, 0) << text.err;
  for (const char *part : {"\ngather ", "\ndense_forward layer 2 ", "\noutput ", "\nprediction ",
                           "8 rows per prediction, ", "; prediction from "})
    expect_contains(text.out, part);
  EXPECT_EQ(text.out.find("backward"), std::string::npos) << text.out;
  const Result json = folder.run(predict + Arguments{"--json"});
  ASSERT_EQ(json.code, 0) << json.err;
  const Json object = parse(json.out);
  const cJSON *rows = cJSON_GetObjectItem(object.get(), "operations");
  ASSERT_EQ(cJSON_GetArraySize(rows), 5);
  EXPECT_EQ(cJSON_GetNumberValue(cJSON_GetObjectItem(cJSON_GetArrayItem(rows, 4), "seconds")),
            number(object, "step_seconds"));
  EXPECT_DOUBLE_EQ(number(object, "rows_per_second"), 8 / number(object, "step_seconds"));
  EXPECT_EQ(folder.run(predict + Arguments{"--seed", "7", "--fusion", "off", "--dropout", "0"}).code, 0);
  const Result refused = folder.run(predict + Arguments{"--batch-size", "5000"});
  EXPECT_EQ(refused.code, 2);
  expect_contains(refused.err, "rows 5000: must be between 1 and 4096, the most that this device predicts at a time");
}

TEST(Bench, RefusesFusionWhereItCannotBeHad) {
  const Folder folder;
  for (const Arguments &command : {Arguments{"bench"}, {"verify"}, {"bench", "--predict"}}) {
    const Result refused = folder.run(command + Arguments{"--device", "cpu", "--fusion", "on"});
    EXPECT_EQ(refused.code, 4) << refused.err;
    expect_contains(refused.err,
                    "descent " + command[0] + ": fusion on: the device cpu computes layer by layer; use auto or off\n");
    const Result lacking = folder.run(command + Arguments{"--device", "cpu", "--precision", "bf16"});
    EXPECT_EQ(lacking.code, 4) << lacking.err;
    expect_contains(lacking.err,
                    "descent " + command[0] + ": precision bf16: the cpu computes in fp32 (use precision fp32)\n");
  }
  for (const char *fusion : {"auto", "off"}) {
    const Result taken = folder.run(small_bench + Arguments{"--device", "cpu", "--fusion", fusion});
    EXPECT_EQ(taken.code, 0) << taken.err;
  }
}

TEST_F(Trained, BenchTakesAModelsNetwork) {
  train("classes");
  const Result result = folder.run({"bench",
                                    "model.safetensors",
                                    "--seconds",
                                    "0.01",
                                    "--batch-size",
                                    "4",
                                    "--dropout",
                                    "0.5",
                                    "--optimizer",
                                    "sgd",
                                    "--momentum",
                                    "0.9",
                                    "--nesterov",
                                    "--l2",
                                    "0.1",
                                    "--weight-decay",
                                    "0.1",
                                    "--clip-norm",
                                    "1",
                                    "--json"});
  ASSERT_EQ(result.code, 0) << result.err;
  expect_contains(result.out, "dense_backward_weights layer 2");
}

TEST(Verify, ComparesAllCombinationsAndModels) {
  const Folder folder;
  const Result result =
      folder.run({"verify", "--all", "--rows", "6", "--steps", "1", "--inputs", "3", "--hidden", "2"});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(count(result.out, " pass\n"), 7U * 3 * 7) << result.out;
  EXPECT_EQ(result.out.find("activation  loss "), 0U) << result.out;
  EXPECT_EQ(count(result.out, "activation  loss "), 1U);
  EXPECT_EQ(count(result.out, "FAIL"), 0U);
}

TEST(Verify, PrintsNoHeaderWithoutACombination) {
  const Folder folder;
  for (const Arguments &wrong :
       {Arguments{"--device", "cpu", "--precision", "bf16"}, Arguments{"--micro-batches", "9", "--rows", "6"}}) {
    const Result result = folder.run(Arguments{"verify", "--all"} + wrong);
    EXPECT_NE(result.code, 0);
    EXPECT_EQ(result.out, "") << result.err;
  }
}

TEST_F(Trained, VerifyTakesAModelsNetwork) {
  train("regression");
  const Result result = folder.run({"verify", "model.safetensors", "--rows", "6", "--steps", "2", "--nesterov",
                                    "--optimizer", "sgd", "--momentum", "0.9"});
  EXPECT_EQ(result.code, 0) << result.err;
  expect_contains(result.out, "pass");
}

/* A table of every kind of column, with more classes and categories than are shown. */
std::string wide_table() {
  std::ostringstream text;
  for (int c = 0; c < 30; c++) text << "column" << c << ',';
  text << "kind,when,class\n";
  for (int i = 0; i < 150; i++) {
    for (int c = 0; c < 30; c++) text << (c == 3 && i % 10 == 0 ? "NA" : std::to_string(i * (c + 1) % 17)) << ',';
    text << "kind" << i % 25 << ",1,class" << i % 30 << '\n';
  }
  return text.str();
}

TEST(Info, ShowsLongListsInPart) {
  const Folder folder;
  folder.write("wide.csv", wide_table());
  const Result trained = folder.run(
      {"train", "wide.csv", "--target", "class", "--hidden", "2,2,2,2,2,2,2,2,2,2,2,2", "--epochs", "1", "--out", "m"});
  ASSERT_EQ(trained.code, 0) << trained.err;
  expect_contains(trained.out + trained.err, "constant");
  expect_contains(trained.out + trained.err, "...");
  const Result model = folder.run({"info", "m"}), json = folder.run({"info", "m", "--json"});
  ASSERT_EQ(model.code, 0) << model.err;
  expect_contains(model.out, ", ... (32 in all)");
  expect_contains(model.out, ", ... (30 in all)");
  expect_contains(model.out, ", ... (25)");
  const Json object = parse(json.out);
  EXPECT_EQ(cJSON_GetArraySize(cJSON_GetObjectItem(object.get(), "classes")), 30);
  EXPECT_EQ(cJSON_GetArraySize(cJSON_GetObjectItem(object.get(), "columns")), 32);
  ASSERT_EQ(folder.run({"convert", "wide.csv", "d.safetensors", "--target", "class"}).code, 0);
  const Result data = folder.run({"info", "d.safetensors"}),
               data_json = folder.run({"info", "d.safetensors", "--json"});
  ASSERT_EQ(data.code, 0) << data.err;
  expect_contains(data.out, ", ... (32 in all)");
  expect_contains(data.out, ", ... (30 in all)");
  EXPECT_EQ(number(parse(data_json.out), "rows"), 150);
  const Result predicted = folder.run({"predict", "m", "wide.csv", "--output", "raw", "--out", "p.csv"});
  EXPECT_EQ(predicted.code, 0) << predicted.err;
  expect_contains(predicted.err, "filled in");
}

TEST(Info, ShowsDataWithoutNamesOrTargets) {
  const Folder folder;
  folder.write("plain.csv", "1,2,3\n4,5,6\n");
  ASSERT_EQ(folder.run({"convert", "plain.csv", "d.safetensors"}).code, 0);
  const Result data = folder.run({"info", "d.safetensors"}), json = folder.run({"info", "d.safetensors", "--json"});
  expect_contains(data.out, "2 rows of 3 inputs");
  EXPECT_EQ(number(parse(json.out), "inputs"), 3);
  EXPECT_EQ(cJSON_GetObjectItem(parse(json.out).get(), "task"), nullptr);
  folder.write("targets.csv", "a,b,c\n1,2,3.5\n4,5,6\n");
  ASSERT_EQ(folder.run({"convert", "targets.csv", "e.safetensors", "--target", "b,c"}).code, 0);
  expect_contains(folder.run({"info", "e.safetensors"}).out, "target        b\ntarget        c\n");
}

/* Two models of the same data, a.safetensors and b.safetensors, and their ensemble e.safetensors. */
void make_ensemble(const Folder &folder, const char *target) {
  std::string text = "size,weight,kind,length\n";
  for (int i = 0; i < 40; i++)
    text += std::to_string(i % 7) + "," + std::to_string(i * 3 % 11) + "," + (i % 3 ? "odd" : "even") + "," +
            std::to_string(0.5 * i) + "\n";
  folder.write("data.csv", text);
  descent_network *networks[2] = {nullptr, nullptr}, *ensemble = nullptr;
  for (int k = 0; k < 2; k++) {
    const std::string name = k ? "b.safetensors" : "a.safetensors";
    const Result trained = folder.run({"train", "data.csv", "--target", target, "--hidden", "4", "--epochs", "2",
                                       "--validation", "0", "--quiet", "--seed", std::to_string(k), "--out", name});
    ASSERT_EQ(trained.code, 0) << trained.err;
    ASSERT_EQ(descent_network_load((folder / name).c_str(), &networks[k]), DESCENT_OK) << descent_last_error();
  }
  EXPECT_EQ(descent_network_join(networks, 2, &ensemble), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(descent_network_save(ensemble, (folder / "e.safetensors").c_str()), DESCENT_OK) << descent_last_error();
  for (descent_network *network : {networks[0], networks[1], ensemble}) descent_network_free(network);
}

TEST(Info, CountsTheMembersOfAnEnsemble) {
  for (const char *target : {"kind", "length"}) {
    const Folder folder;
    ASSERT_NO_FATAL_FAILURE(make_ensemble(folder, target));
    const Result text = folder.run({"info", "e.safetensors"}), one = folder.run({"info", "a.safetensors"});
    ASSERT_EQ(text.code, 0) << text.err;
    const Json object = parse(folder.run({"info", "e.safetensors", "--json"}).out),
               plain = parse(folder.run({"info", "a.safetensors", "--json"}).out);
    const double parameters = number(plain, "parameters");
    EXPECT_EQ(number(object, "members"), 2);
    EXPECT_EQ(number(object, "member_parameters"), parameters);
    EXPECT_EQ(number(object, "parameters"), 2 * parameters);
    EXPECT_EQ(cJSON_GetObjectItem(plain.get(), "members"), nullptr);
    EXPECT_EQ(cJSON_GetObjectItem(plain.get(), "member_parameters"), nullptr);
    expect_contains(text.out, std::string("ensemble      2 members, whose ") +
                                  (*target == 'k' ? "probabilities" : "values") + " are averaged\n");
    expect_contains(text.out, ", " + std::to_string(static_cast<int>(parameters)) + " of each member\n");
    expect_contains(text.out, "\ntrained on    data.csv\n");
    EXPECT_EQ(one.out.find("ensemble"), std::string::npos) << one.out;
  }
}

/* A member is the model that was joined, to the byte apart from its provenance, which is that of the first. */
TEST(Export, WritesAMemberOfAnEnsembleAsAModel) {
  const Folder folder;
  ASSERT_NO_FATAL_FAILURE(make_ensemble(folder, "kind"));
  const Result first = folder.run({"export", "e.safetensors", "--member", "0", "--out", "0.safetensors"});
  EXPECT_EQ(first.code, 0) << first.err;
  expect_contains(first.out, "wrote     0.safetensors: model file, ");
  EXPECT_EQ(folder.read("0.safetensors"), folder.read("a.safetensors"));
  ASSERT_EQ(folder.run({"export", "e.safetensors", "--member", "1", "--out", "1", "--format", "safetensors"}).code, 0);
  EXPECT_EQ(folder.run({"predict", "1", "data.csv"}).out, folder.run({"predict", "b.safetensors", "data.csv"}).out);
  ASSERT_EQ(folder.run({"export", "e.safetensors", "--member", "0", "--out", "0.c"}).code, 0);
  ASSERT_EQ(folder.run({"export", "a.safetensors", "--out", "a.c"}).code, 0);
  EXPECT_EQ(folder.read("0.c"), folder.read("a.c"));
  ASSERT_EQ(folder.run({"export", "e.safetensors", "--out", "copy.safetensors"}).code, 0);
  EXPECT_EQ(folder.read("copy.safetensors"), folder.read("e.safetensors"));
  const Result beyond = folder.run({"export", "e.safetensors", "--member", "2", "--out", "2.safetensors"});
  EXPECT_EQ(beyond.code, 2);
  EXPECT_EQ(beyond.err, "descent export: --member 2: e.safetensors has members 0 to 1\n");
  EXPECT_FALSE(folder.has("2.safetensors"));
  const Result weights = folder.run({"train", "data.csv", "--target", "kind", "--hidden", "4", "--epochs", "1",
                                     "--quiet", "--weights", "e.safetensors"});
  EXPECT_EQ(weights.code, 3);
  expect_contains(weights.err, "e.safetensors: an ensemble of 2 networks: write one of them as a model");
}

/* Conversion there and back keeps the numbers; what a format cannot hold is reported. */
TEST(Convert, SaysWhatAFormatDoesNotHold) {
  const Folder folder;
  std::string text = "colour,number,answer,weight\n";
  for (int i = 0; i < 20; i++)
    text += std::string(i % 3 ? "red" : "blue") + "," + std::to_string(i) + "," + (i % 2 ? "yes" : "no") + ",2\n";
  folder.write("a.csv", text);
  const struct {
    const char *to, *says;
  } cases[] = {
      {"a.npz", "1 column of categories became inputs of 0 and 1: 3 inputs in all"},
      {"a.npz", "classes are written as numbers: 0 is no, 1 is yes"},
      {"a.npz", "the format has no column names; they are stored in a separate array, which is not read back"},
      {"a.tsv", "wrote     a.tsv: 20 rows"},
      {"a.safetensors", "exact     every number is the same in float32"},
  };
  for (const auto &c : cases) {
    const Result result = folder.run({"convert", "a.csv", c.to, "--target", "answer", "--weight-column", "weight"});
    EXPECT_EQ(result.code, 0) << result.err;
    expect_contains(result.out, c.says);
  }
  for (const char *from : {"a.tsv", "a.safetensors"}) {
    ASSERT_EQ(folder.run({"convert", from, "back.csv"}).code, 0) << from;
    const std::string back = folder.read("back.csv");
    EXPECT_EQ(count(back, "\n"), 21U) << back;
    EXPECT_EQ(count(back, "red"), 13U) << back;
    EXPECT_EQ(count(back, "yes"), 10U) << back;
  }
  ASSERT_EQ(folder
                .run({"convert", "a.csv", "two.safetensors", "--target", "answer", "--weight-column", "weight",
                      "--two-passes"})
                .code,
            0);
  EXPECT_EQ(folder.read("two.safetensors"), folder.read("a.safetensors"));
}

TEST(Convert, LeavesRowsWithoutATargetOut) {
  const Folder folder;
  folder.write("a.csv", "x,y\n1,0\n2,\n3,1\n4,NA\n");
  for (const char *to : {"a.npz", "a.svm", "a.npy", "a.csv2.csv"}) {
    const Result result = folder.run({"convert", "a.csv", to, "--target", "y"});
    EXPECT_EQ(result.code, 0) << result.err;
    expect_contains(result.out, "2 rows without a target dropped");
  }
}

}  // namespace
