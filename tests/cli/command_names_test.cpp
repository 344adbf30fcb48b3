/* Names from files that would command a terminal, turn text around or be computed by a spreadsheet: every output of
 * every command. */
#include "command.h"

namespace {

const char ESCAPE[] = "\x1b]0:x\x07", REVERSED[] = "\xe2\x80\xae",
           CONTROL[] =
               "\xc2\x9b"
               "31m";

/* A name of which every use can be told from the others. */
std::string hostile(const std::string &name) { return name + ESCAPE + REVERSED + CONTROL; }

/* What must not be printed, as bytes. */
void expect_harmless(const std::string &text, const std::string &what) {
  for (const std::string &bytes : {std::string("\x1b"), std::string("\x07"), std::string("\xc2\x9b"),
                                   std::string("\x7f"), std::string("\xff"), std::string(REVERSED)})
    EXPECT_EQ(text.find(bytes), std::string::npos) << what << ":\n" << text;
}

class Names : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string quote = "\"";
    std::string rows = hostile("number") + "," + hostile("colour") + "," + hostile("answer") + "\n", other = rows;
    for (int i = 0; i < 24; i++)
      rows +=
          std::to_string(i % 5) + "," + hostile(i % 3 ? "red" : "blue") + "," + hostile(i % 2 ? "yes" : "no") + "\n";
    folder.write(data, rows);
    folder.write(unseen, other + "1," + hostile("green") + "," + hostile("no") + "\n");
    folder.write("damaged.csv", rows + "1," + hostile("red") + "\n");
    folder.write("config.json", "{\"" + std::string("lr\\u001b\xe2\x80\xae") + "\": 1}");
    std::string values = hostile("x") + "," + hostile("y") + "\n";
    for (int i = 0; i < 30; i++) values += std::to_string(16777216.0 + i) + "," + std::to_string(i) + "\n";
    folder.write("values.csv", values);
  }

  const Folder folder;
  const std::string data = hostile("data") + ".csv", unseen = hostile("unseen") + ".csv", model = hostile("model"),
                    kept = hostile("kept"), binary = hostile("binary") + ".safetensors";
};

TEST_F(Names, FromFilesReachNoOutputUnescaped) {
  const Arguments small = {"--hidden", "2", "--epochs", "2", "--threads", "1", "--target", "-1"};
  const struct {
    Arguments arguments;
    int code;
  } cases[] = {
      {Arguments{"train", data, "--out", model, "--resume", kept, "--log", "run.jsonl", "--report", "page.html"} +
           small,
       0},
      {Arguments{"train", data, "--out", model, "--resume", kept} + small, 0},
      {Arguments{"train", "values.csv", "--out", hostile("line"), "--validation", "values.csv"} + small, 0},
      {Arguments{"train", data} + small + Arguments{"--target", hostile("nosuch")}, 3},
      {Arguments{"train", data, "--resume", kept, "--lr", "0.5"} + small, 2},
      {Arguments{"train", data, "--out", hostile("nosuch") + "/model"} + small, 1},
      {Arguments{"train", "damaged.csv"} + small, 3},
      {{"train", data, "--config", "config.json"}, 2},
      {Arguments{"sweep", data, "--out", hostile("best"), "--resume", hostile("trials"), "--report", "sweep.html",
                 "--lr", "0.1;0.01"} +
           small,
       0},
      {Arguments{"sweep", data, "--out", hostile("best"), "--resume", hostile("trials"), "--lr", "0.1;0.01"} + small,
       0},
      {Arguments{"sweep", data, "--out", hostile("best"), "--resume", hostile("trials"), "--lr", "0.1;0.02"} + small,
       2},
      {{"evaluate", model, data, "--plot", "roc.svg,confusion.svg"}, 0},
      {{"evaluate", model, data, "--json"}, 0},
      {{"evaluate", model, unseen}, 3},
      {{"predict", model, unseen, "--out", hostile("out"), "--unseen", "zeros"}, 0},
      {{"predict", model, "values.csv"}, 3},
      {{"info", model}, 0},
      {{"info", model, "--json"}, 0},
      {{"info", hostile("line")}, 0},
      {{"info", hostile("line"), "--json"}, 0},
      {{"info", hostile("nosuch\xff")}, 3},
      {{"convert", data, binary, "--target", "-1"}, 0},
      {{"convert", data, hostile("out") + ".npz", "--target", "-1"}, 0},
      {{"info", binary}, 0},
      {{"info", binary, "--json"}, 0},
      {{"export", model, "--out", "model.c"}, 0},
      {{"export", hostile("line"), "--out", "line.c"}, 0},
      {{"plot", "run.jsonl", "--out", "curves.svg"}, 0},
      {{"plot", "run.jsonl"}, 0},
      {{"plot", data}, 3},
      {{"verify", model}, 0},
      {{"bench", model, "--seconds", "0.01"}, 0},
      {{hostile("nosuch")}, 2},
  };
  for (const auto &c : cases) {
    const Result result = folder.run(c.arguments);
    const std::string what = c.arguments[0] + (c.arguments.size() > 1 ? " " + c.arguments[1] : "");
    EXPECT_EQ(result.code, c.code) << what << ": " << result.err;
    expect_harmless(result.out + result.err, what);
  }
  for (const char *name :
       {"page.html", "sweep.html", "run.jsonl", "roc.svg", "confusion.svg", "curves.svg", "model.c", "line.c"})
    expect_harmless(folder.read(name), name);
}

TEST_F(Names, MeanTheSameInJson) {
  ASSERT_EQ(folder.run({"convert", data, binary, "--target", "-1"}).code, 0);
  const Json json = parse(folder.run({"info", binary, "--json"}).out);
  const cJSON *columns = cJSON_GetObjectItemCaseSensitive(json.get(), "columns");
  ASSERT_EQ(cJSON_GetArraySize(columns), 2);
  EXPECT_EQ(cJSON_GetStringValue(cJSON_GetArrayItem(columns, 0)), hostile("number"));
  EXPECT_EQ(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json.get(), "file")), binary);
}

TEST_F(Names, AreExactInFilesOfPredictions) {
  ASSERT_EQ(folder.run({"train", data, "--out", model, "--epochs", "1", "--target", "-1"}).code, 0);
  std::filesystem::copy_file(folder / model, folder / "\xff");
  expect_harmless(folder.run({"info", "\xff", "--json"}).out, "a path that is not UTF-8");
  const Result result = folder.run({"predict", model, data});
  EXPECT_EQ(result.out.substr(0, result.out.find('\n')),
            "prediction,probability_" + hostile("no") + ",probability_" + hostile("yes"));
}

TEST(Formulas, GetAnApostropheOnRequest) {
  Folder folder;
  std::string rows = "=a,@b,-3,+c\n"; /* the name -3 and the class -1 are numbers */
  for (int i = 0; i < 8; i++)
    rows += std::string(i % 2 ? "\"=HYPERLINK(\"\"x\"\")\"" : "-x") + ",-1.5,2," + (i % 4 < 2 ? "-1" : "+x") + "\n";
  folder.write("data.csv", rows);
  ASSERT_EQ(folder.run({"convert", "data.csv", "plain.csv", "--header", "yes", "--target", "-1"}).code, 0);
  ASSERT_EQ(
      folder.run({"convert", "data.csv", "guarded.csv", "--header", "yes", "--target", "-1", "--guard-formulas"}).code,
      0);
  const std::string plain = folder.read("plain.csv"), guarded = folder.read("guarded.csv");
  EXPECT_EQ(plain.substr(0, plain.find('\n')), "=a,@b,-3,+c");
  EXPECT_EQ(guarded.substr(0, guarded.find("-1.5")), "'=a,'@b,-3,'+c\n'-x,");
  EXPECT_NE(guarded.find("\n\"'=HYPERLINK(\"\"x\"\")\",-1.5,2,-1\n"), std::string::npos) << guarded;
  EXPECT_NE(guarded.find(",-1.5,2,'+x\n"), std::string::npos) << guarded;

  ASSERT_EQ(
      folder.run({"train", "data.csv", "--header", "yes", "--out", "model", "--epochs", "1", "--target", "-1"}).code,
      0);
  const Result asis = folder.run({"predict", "model", "data.csv", "--header", "yes"}),
               safe = folder.run({"predict", "model", "data.csv", "--header", "yes", "--guard-formulas"});
  EXPECT_EQ(safe.code, 0) << safe.err;
  EXPECT_EQ(safe.out.substr(0, safe.out.find('\n')), "prediction,probability_+x,probability_-1");
  EXPECT_EQ(asis.out.find('\''), std::string::npos) << asis.out;
  EXPECT_NE(safe.out.find("\n'+x,"), std::string::npos) << safe.out;
}

}  // namespace
