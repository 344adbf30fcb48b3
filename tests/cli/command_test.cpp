/* The command from the user's side: what it prints, its exit codes, and its handling of bad input. */
#include "command.h"

#include <regex>

namespace {

/* ---- golden runs ------------------------------------------------------------------------------------------------ */

/* Text with everything that differs between machines and runs masked: durations, rates, the device, and every digit of
 * a number with a fraction. Other tests check the values; this one checks the words and the layout. */
std::string normalise(std::string text) {
  auto replace = [&text](const char *pattern, const char *by) {
    text = std::regex_replace(text, std::regex(pattern), by);
  };
  replace("[0-9.]+[kMGT]? rows/s", "RATE rows/s");
  replace("[0-9.]+m?s left", "TIME left");
  replace("in [0-9.]+m?s", "in TIME");
  replace("device      .*(\n            .*)?", "device      DEVICE");
  replace("[0-9,]+ bytes", "SIZE bytes");
  replace("best epoch [0-9]+", "best epoch N");
  replace("[0-9]\\.[0-9]{4}\\b", "#.####");
  replace("-?[0-9]+\\.[0-9]+(e-[0-9]+)?", "#");
  return text;
}

struct Golden {
  const char *name;
  const char *data; /* the kind of data to have trained on first; "": none */
  Arguments arguments;
};

const Golden goldens[] = {
    {"help", "", {"--help"}},
    {"help_train", "", {"train", "--help"}},
    {"help_sweep", "", {"sweep", "--help"}},
    {"help_evaluate", "", {"evaluate", "--help"}},
    {"help_predict", "", {"predict", "--help"}},
    {"help_export", "", {"export", "--help"}},
    {"help_convert", "", {"convert", "--help"}},
    {"help_plot", "", {"plot", "--help"}},
    {"help_info", "", {"info", "--help"}},
    {"help_verify", "", {"verify", "--help"}},
    {"help_bench", "", {"bench", "--help"}},
    {"help_devices", "", {"devices", "--help"}},
    {"train_binary", "binary", quick},
    {"train_classes", "classes", quick},
    {"train_regression", "regression", quick},
    {"evaluate_binary", "binary", {"evaluate", "model.safetensors", "data.csv"}},
    {"evaluate_json", "classes", {"evaluate", "model.safetensors", "data.csv", "--json"}},
    {"predict_classes", "classes", {"predict", "model.safetensors", "data.csv"}},
    {"info", "binary", {"info", "model.safetensors"}},
    {"info_json", "regression", {"info", "model.safetensors", "--json"}},
};

class GoldenRun : public ::testing::TestWithParam<Golden> {};

/* DESCENT_WRITE_GOLDEN=1 in the environment writes the files instead: review the difference before committing it. */
TEST_P(GoldenRun, PrintsWhatItDid) {
  const Golden &golden = GetParam();
  Folder folder;
  if (*golden.data) {
    folder.write("data.csv", make_data(golden.data, 60));
    ASSERT_EQ(folder.run(quick).code, 0);
  }
  Result result = folder.run(golden.arguments);
  EXPECT_EQ(result.code, 0) << result.err;
  std::string text = "stderr:\n" + result.err + "stdout:\n" + result.out;
  if (*golden.data) text = normalise(text);
  std::string path = std::string(DESCENT_SOURCE_DIR "/tests/golden/") + golden.name + ".txt";
  if (getenv("DESCENT_WRITE_GOLDEN")) write_file(path, text);
  EXPECT_EQ(text, read_file(path));
}
INSTANTIATE_TEST_SUITE_P(Command, GoldenRun, ::testing::ValuesIn(goldens),
                         [](const auto &one) { return std::string(one.param.name); });

/* ---- bad input --------------------------------------------------------------------------------------------------- */

struct Bad {
  const char *name;
  const char *data; /* what data.csv holds; NULL: good data */
  Arguments arguments;
  int code;
  std::vector<const char *> said; /* each is in the one line on stderr */
};

const Arguments train = {"train", "data.csv", "--target", "answer"};
const char *const old_model = "an older file";

/* "model" is a good model of the good data. */
const Bad bads[] = {
    {"MissingFile", nullptr, {"train", "none.csv", "--target", "answer"}, 3, {"none.csv", "No such file"}},
    {"DataIsAFolder", nullptr, {"train", ".", "--target", "answer"}, 3, {"."}},
    {"EmptyFile", "", train, 3, {"data.csv"}},
    {"HeaderOnly", "width,height,answer\n", train, 3, {"data.csv"}},
    {"RaggedRow", "width,height,answer\n1,2,yes\n3,4\n", train, 3, {"data.csv:3", "2"}},
    {"TextInANumericColumn", "width,height,answer\n1,2,yes\n3,tall,no\n", train, 3, {"data.csv:3", "height", "tall"}},
    {"InfiniteCell", "width,height,answer\n1,2,yes\n3,inf,no\n", train, 3, {"data.csv:3", "height", "inf"}},
    {"OneClassOnly", "width,height,answer\n1,2,yes\n3,4,yes\n5,6,yes\n", train, 3, {"data.csv", "answer"}},
    {"NoSuchTarget", nullptr, {"train", "data.csv", "--target", "colour"}, 3, {"data.csv", "colour"}},
    {"TargetOutOfRange", nullptr, {"train", "data.csv", "--target", "7"}, 3, {"data.csv", "7"}},
    {"TargetMissing", nullptr, {"train", "data.csv"}, 2, {"--target"}},
    {"BinaryTaskOnThreeClasses", "a,answer\n1,x\n2,y\n3,z\n", train + Arguments{"--task", "binary"}, 3, {"data.csv"}},
    {"RegressionOnText",
     "a,answer\n1,x\n2,y\n3,z\n",
     train + Arguments{"--task", "regression"},
     3,
     {"data.csv:2", "x"}},
    {"MissingValidationFile", nullptr, train + Arguments{"--validation", "none.csv"}, 3, {"none.csv"}},
    {"ValidationLacksAColumn", nullptr, train + Arguments{"--validation", "narrow.csv"}, 3, {"narrow.csv", "height"}},
    {"ValidationHasAnotherClass", nullptr, train + Arguments{"--validation", "maybe.csv"}, 3, {"maybe.csv:2", "maybe"}},
    {"MissingTestFile", nullptr, train + Arguments{"--test", "none.csv"}, 3, {"none.csv"}},
    {"AbsurdSize", nullptr, train + Arguments{"--hidden", "10000000,10000000"}, 1, {"GB"}},
    {"AbsurdWidth", nullptr, train + Arguments{"--hidden", "1000000000"}, 2, {"1000000000"}},
    {"WidthBeyondNumbers", nullptr, train + Arguments{"--hidden", "99999999999999999999"}, 2, {"99999999999999999999"}},
    {"UnknownOption", nullptr, train + Arguments{"--widht", "3"}, 2, {"--widht", "--help"}},
    {"UnknownShortOption", nullptr, train + Arguments{"-lr", "3"}, 2, {"-lr", "--help"}},
    {"AmbiguousOption", nullptr, train + Arguments{"--w", "3"}, 2, {"--w", "--help"}},
    {"OptionWithoutItsValue", nullptr, train + Arguments{"--lr"}, 2, {"--learning-rate", "--help"}},
    {"FlagWithAValue", nullptr, train + Arguments{"--quiet=3"}, 2, {"--quiet", "--help"}},
    {"OneArgumentTooMany", nullptr, train + Arguments{"more.csv"}, 2, {"more.csv", "--help"}},
    {"NoArgument", nullptr, {"evaluate"}, 2, {"MODEL DATA", "--help"}},
    {"UnknownCommand", nullptr, {"trian"}, 2, {"trian", "--help"}},
    {"NoCommand", nullptr, {}, 2, {"--help"}},
    {"OutputInAMissingFolder", nullptr, train + Arguments{"--out", "none/model"}, 1, {"none/model"}},
    {"OutputIsAFolder", nullptr, train + Arguments{"--out", "."}, 1, {"directory"}},
    {"OutputIsAPipe", nullptr, train + Arguments{"--out", "pipe"}, 1, {"pipe", "regular"}},
    {"OutputIsTheData", nullptr, train + Arguments{"--out", "data.csv"}, 2, {"data.csv"}},
    {"LogIsTheData", nullptr, train + Arguments{"--log", "./data.csv"}, 2, {"data.csv"}},
    {"LogIsTheModel", nullptr, train + Arguments{"--log", "./m", "--out", "m"}, 2, {"--log", "./m", "--out"}},
    {"LogInAMissingFolder", nullptr, train + Arguments{"--log", "none/log"}, 1, {"none/log"}},
    {"PredictionsInAMissingFolder",
     nullptr,
     {"predict", "model", "data.csv", "--out", "none/p.csv"},
     1,
     {"none/p.csv"}},
    {"ExportWithoutAPlace", nullptr, {"export", "model"}, 2, {"--out"}},
    {"ExportToAnUnknownEnding", nullptr, {"export", "model", "--out", "m.pb"}, 2, {"m.pb", "--format"}},
    {"ExportToAnUnknownFormat", nullptr, {"export", "model", "--out", "m", "--format", "pb"}, 2, {"'pb'", "onnx"}},
    {"ExportOntoTheModel", nullptr, {"export", "model", "--out", "./model", "--format", "c"}, 2, {"./model"}},
    {"ExportInAMissingFolder", nullptr, {"export", "model", "--out", "none/m.c"}, 1, {"none/m.c"}},
    {"ExportToAPipe", nullptr, {"export", "model", "--out", "pipe", "--format", "npz"}, 1, {"pipe", "regular"}},
    {"ExportOfNoModel", nullptr, {"export", "data.csv", "--out", "m.onnx"}, 3, {"data.csv"}},
    {"MissingConfig", nullptr, train + Arguments{"--config", "none.json"}, 3, {"none.json"}},
    {"BrokenConfig", nullptr, train + Arguments{"--config", "broken.json"}, 2, {"broken.json:2"}},
    {"UnknownConfigKey", nullptr, train + Arguments{"--config", "unknown.json"}, 2, {"unknown.json", "learning rate"}},
    {"ConfigValueOfNoKind", nullptr, train + Arguments{"--config", "null.json"}, 2, {"null.json", "lr"}},
    {"ConfigValueOutOfRange",
     nullptr,
     train + Arguments{"--config", "range.json"},
     2,
     {"range.json", "--learning-rate", "-1"}},
    {"MissingModel", nullptr, {"info", "none"}, 3, {"none", "No such file"}},
    {"EmptyModel", nullptr, {"info", "empty"}, 3, {"empty"}},
    {"TruncatedModel", nullptr, {"evaluate", "truncated", "data.csv"}, 3, {"truncated"}},
    {"AlteredModel", nullptr, {"predict", "altered", "data.csv"}, 3, {"altered: byte ", "nan"}},
    {"AlteredHeaderOfAModel", nullptr, {"info", "reshaped"}, 3, {"reshaped", "layers.0.weight"}},
    {"ModelIsNoModel", nullptr, {"info", "data.csv"}, 3, {"data.csv"}},
    {"PredictionLacksAColumn", nullptr, {"predict", "model", "narrow.csv"}, 3, {"narrow.csv", "height"}},
    {"EvaluationLacksTheTarget", nullptr, {"evaluate", "model", "blind.csv"}, 3, {"blind.csv", "answer"}},
    {"MoreClassesThanOutputs", nullptr, {"evaluate", "model", "maybe.csv"}, 3, {"maybe.csv:2", "maybe"}},
    {"NoSuchDevice", nullptr, train + Arguments{"--device", "abacus"}, 2, {"abacus"}},
    {"DeviceThatIsNotThere", nullptr, train + Arguments{"--device", "cuda:99"}, 4, {"cuda:99"}},
    {"PrecisionThatTheCpuLacks", nullptr, train + Arguments{"--device", "cpu", "--precision", "bf16"}, 4, {"bf16"}},
    {"ClassWeightsForRegression",
     "a,answer\n1,1.5\n2,2.5\n3,3.5\n",
     train + Arguments{"--class-weight", "balanced"},
     2,
     {"regression"}},
    {"ClassWeightOfNoClass", nullptr, train + Arguments{"--class-weights", "maybe=2"}, 2, {"--class-weights", "maybe"}},
    {"TooFewClassWeights", nullptr, train + Arguments{"--class-weight", "2"}, 2, {"--class-weight", "2"}},
    {"OutputActivationForClasses", nullptr, train + Arguments{"--output-activation", "relu"}, 2, {"relu"}},
};

class BadInput : public ::testing::TestWithParam<Bad> {
 protected:
  static void SetUpTestSuite() {
    Folder folder;
    folder.write("data.csv", make_data("binary", 60));
    ASSERT_EQ(folder.run(quick).code, 0);
    model = folder.read("model.safetensors");
  }
  static std::string model;
};
std::string BadInput::model;

TEST_P(BadInput, SaysWhatIsWrongAndTouchesNothing) {
  const Bad &bad = GetParam();
  Folder folder;
  folder.write("data.csv", bad.data ? bad.data : make_data("binary", 60));
  folder.write("narrow.csv", "width,answer\n1,yes\n2,no\n");
  folder.write("blind.csv", "width,height\n1,2\n2,3\n");
  folder.write("maybe.csv", "width,height,answer\n1,2,maybe\n2,3,no\n");
  folder.write("broken.json", "{\n\"lr\": }");
  folder.write("unknown.json", "{\"learning rate\": 1}");
  folder.write("null.json", "{\"lr\": null}");
  folder.write("range.json", "{\"lr\": -1}");
  folder.write("model", model);
  folder.write("empty", "");
  folder.write("truncated", model.substr(0, model.size() - 7));
  std::string altered = model;
  altered.replace(altered.size() - 4, 4, std::string("\0\0\xc0\x7f", 4)); /* a NaN */
  folder.write("altered", altered);
  std::string reshaped = model;
  reshaped.replace(reshaped.find("[8,2]"), 5, "[7,2]");
  folder.write("reshaped", reshaped);
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
  folder.write("model.safetensors", old_model);
  std::vector<std::string> before = folder.list();

  Result result = folder.run(bad.arguments);
  EXPECT_EQ(result.code, bad.code) << result.err;
  EXPECT_EQ(result.out, "");
  expect_one_line(result.err);
  for (const char *part : bad.said) expect_contains(result.err, part);
  EXPECT_EQ(folder.list(), before);
  EXPECT_EQ(folder.read("model.safetensors"), old_model);
  EXPECT_EQ(folder.read("data.csv"), bad.data ? bad.data : make_data("binary", 60));
}
INSTANTIATE_TEST_SUITE_P(Command, BadInput, ::testing::ValuesIn(bads),
                         [](const auto &one) { return std::string(one.param.name); });

TEST(Command, RefusesABadValueOfEveryOption) {
  struct {
    const char *option;
    std::vector<const char *> values;
  } const cases[] = {
      {"task", {"guess", ""}},
      {"validation", {"1", "-0.1", "2e9", "100%", "-5%"}},
      {"normalize", {"squash"}},
      {"delimiter", {"x", ",,", ""}},
      {"decimal", {"x", ",,", ""}},
      {"header", {"maybe", ""}},
      {"hidden", {"", "0", "-3", "64,", ",64", "64;32", "6.5", "1e3", "none,3"}},
      {"activation", {"step"}},
      {"init", {"zero"}},
      {"optimizer", {"newton"}},
      {"learning-rate", {"0", "-1", "nan", "inf", "0x1", "1e999", "fast", ""}},
      {"schedule",
       {"linear", "step", "step:0", "step:1.5", "step:3:0", "step:3:2", "exponential", "exponential:2", "cosine:-1",
        "cosine:1:2", "plateau:0", "plateau:3:x", "constant:1", "polynomial:0", "polynomial:-1", "polynomial:1:-1",
        "polynomial:1:0:0", "polynomial:x", ""}},
      {"warmup-steps", {"-1", "1.5"}},
      {"warmup-epochs", {"-1", "x", "nan"}},
      {"momentum", {"1", "-0.1"}},
      {"beta1", {"1", "-0.1"}},
      {"beta2", {"1", "x"}},
      {"rho", {"1", "x"}},
      {"epsilon", {"0", "x"}},
      {"weight-decay", {"-1", "x"}},
      {"l2", {"-1", "x"}},
      {"dropout", {"1", "-0.1", "half"}},
      {"clip-norm", {"-1", "x"}},
      {"label-smoothing", {"1", "-0.1"}},
      {"class-weights", {"", "1", "1,2,3", "1,0", "1,-2", "yes=", "yes=0", "1,yes=2", "even"}},
      {"batch-size", {"0", "-1", "every", "1.5", ""}},
      {"epochs", {"-1", "1e3", "99999999999999999999"}},
      {"micro-batches", {"-1", "1.5", "x"}},
      {"patience", {"-1", "x"}},
      {"min-delta", {"-1", "x"}},
      {"seed", {"-1", "x", "99999999999999999999"}},
      {"threads", {"-1", "257", "x"}},
      {"precision", {"fp8"}},
      {"fusion", {"yes", ""}},
      {"out", {""}},
      {"log", {""}},
  };
  Folder folder;
  folder.write("data.csv", make_data("binary", 60));
  for (const auto &[option, values] : cases)
    for (const char *value : values) {
      SCOPED_TRACE(std::string("--") + option + " '" + value + "'");
      Result result = folder.run(train + Arguments{std::string("--") + option, value});
      EXPECT_EQ(result.code, 2) << result.err;
      expect_one_line(result.err);
      expect_contains(result.err, std::string("--") + option);
      expect_contains(result.err, std::string("'") + value + "'");
      EXPECT_EQ(folder.list(), Arguments{"data.csv"});
    }
}

TEST(Command, HostileNamesReachTheTerminalWithoutControlCharacters) {
  Folder folder;
  folder.write("data.csv", "a\x1b[31m,answer\nx\x1b[2J,1\n2,0\n");
  Result result = folder.run(train + Arguments{"--header", "yes"});
  EXPECT_EQ(result.code, 3);
  expect_one_line(result.err);
  EXPECT_EQ(result.err.find('\x1b'), std::string::npos);
}

}  // namespace
