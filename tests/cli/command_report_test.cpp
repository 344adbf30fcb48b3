/* Output of a training for other viewers: event files and the report. */
#include <regex>

#include "command.h"

namespace {

/* ---- TensorBoard (what is in the file is read back by python/tensorboard_test.py) -------------------------------- */

TEST(TensorBoard, GetsAFileOfItsOwnForEachTraining) {
  Folder folder;
  folder.write("data.csv", make_data("binary", 60));
  const Arguments command = quick + Arguments{"--tensorboard", "runs/deep/one"};
  for (int i = 0; i < 2; i++) EXPECT_EQ(folder.run(command).code, 0);
  int files = 0;
  for (const auto &entry : std::filesystem::directory_iterator(folder / "runs/deep/one")) {
    expect_contains(entry.path().filename(), "events.out.tfevents.");
    EXPECT_GT(entry.file_size(), 1000U);
    files++;
  }
  EXPECT_EQ(files, 2);
}

TEST(TensorBoard, IsNotWrittenWhereAFileIs) {
  Folder folder;
  folder.write("data.csv", make_data("binary", 60));
  const Result result = folder.run(quick + Arguments{"--tensorboard", "data.csv/runs", "--quiet"});
  EXPECT_EQ(result.code, 1);
  EXPECT_EQ(result.err, "descent train: data.csv/runs: cannot write: Not a directory\n");
  EXPECT_FALSE(folder.has("model.safetensors"));
}

TEST(TensorBoard, EventsThatCannotBeWrittenAreCounted) {
  Folder folder;
  folder.write("data.csv", make_data("binary", 60));
  Result result;
  {
    SmallFiles small(20000);
    result = folder.run(quick + Arguments{"--tensorboard", "runs", "--epochs", "50", "--quiet"});
  }
  EXPECT_EQ(result.code, 1);
  EXPECT_EQ(lines(result.err).size(), 2u) << result.err;
  expect_contains(result.err, "descent train: runs/events.out.tfevents.");
  expect_contains(result.err, ": cannot write: File too large; the training continues, and each epoch tries again\n");
  EXPECT_TRUE(std::regex_search(result.err, std::regex("lacks [0-9]+ records, which could not be written: File too")));
  expect_contains(result.out, "trained 50 epochs");
}

/* ---- the report ------------------------------------------------------------------------------------------------- */

/* Every element is closed in its order; elements without content are named. */
void expect_well_formed(const std::string &html) {
  static const std::regex tag("<(/?)([a-zA-Z0-9]+)((?:[^\"'>]|\"[^\"]*\"|'[^']*')*)>");
  std::vector<std::string> open;
  std::string text = html.substr(html.find('\n')); /* after the doctype */
  const size_t style = text.find("<style>"), style_end = text.find("</style>");
  text.erase(style + 7, style_end - style - 7);
  for (auto it = std::sregex_iterator(text.begin(), text.end(), tag); it != std::sregex_iterator(); ++it) {
    const std::string name = (*it)[2], attributes = (*it)[3];
    if (name == "meta" || (!attributes.empty() && attributes.back() == '/')) continue;
    if ((*it)[1].length() == 0) {
      open.push_back(name);
    } else {
      ASSERT_FALSE(open.empty());
      ASSERT_EQ(open.back(), name) << it->prefix().str().substr(0, 200);
      open.pop_back();
    }
  }
  EXPECT_TRUE(open.empty()) << open.back();
  EXPECT_EQ(std::regex_replace(text, tag, "").find('<'), std::string::npos) << "an unescaped <";
}

void expect_part(const std::string &html, const char *part) { /* without printing the whole page */
  EXPECT_NE(html.find(part), std::string::npos) << part;
}

void expect_alone(const std::string &html) {
  for (const char *part :
       {"<script", "<link", "<img", "<iframe", "src=", "href=", "url(", "@import", "http:", "https:", "nan", "-inf"})
    EXPECT_EQ(html.find(part), std::string::npos) << part << ": " << html.substr(html.find(part), 100);
}

TEST(Report, HoldsEverythingAboutEachKindOfTraining) {
  const struct {
    const char *task;
    std::vector<const char *> parts;
  } cases[] = {
      {"binary",
       {">validation accuracy<", ">validation AUC<", ">ROC<", ">Calibration<", ">Confusion matrix<", ">yes<",
        "50.0 %"}},
      {"classes", {">validation accuracy<", ">Calibration<", ">Confusion matrix<", ">middle<"}},
      {"regression", {">validation RMSE<", ">Residuals: answer<", ">True vs. predicted: answer<"}},
  };
  for (const auto &c : cases) {
    SCOPED_TRACE(c.task);
    Folder folder;
    folder.write("data.csv", make_data(c.task, 60));
    const Result result = folder.run(quick + Arguments{"--report", "report.html", "--quiet"});
    EXPECT_EQ(result.code, 0) << result.err;
    const std::string html = folder.read("report.html");
    expect_well_formed(html);
    expect_alone(html);
    for (const char *part : c.parts) expect_part(html, part);
    for (const char *part : {">Loss<", ">Learning rate<", ">Gradient norm by layer<", ">Dead units by layer<",
                             "layer 2</th>", ">width</th>", ">data.csv<", "2-8-", ">0.03<", "prefers-color-scheme:dark",
                             "name=\"viewport\"", ">precision<", ">fp32<"})
      expect_part(html, part);
    expect_part(html, " rows per second");
  }
}

TEST(Report, ChangesNothingOfTheModel) {
  Folder folder;
  folder.write("data.csv", make_data("classes", 60));
  const Result plain = folder.run(quick + Arguments{"--quiet", "--out", "a"});
  const Result with =
      folder.run(quick + Arguments{"--quiet", "--out", "b", "--report", "r.html", "--tensorboard", "t"});
  ASSERT_EQ(plain.code + with.code, 0) << with.err;
  EXPECT_EQ(folder.read("a"), folder.read("b"));
}

TEST(Report, EscapesEveryNameThatItShows) {
  Folder folder;
  const std::string evil = "<script>alert('x')</script>";
  std::string text;
  for (const std::string &line : lines(make_data("binary", 60))) {
    std::string row = line;
    const size_t yes = row.find("yes");
    if (yes != std::string::npos) row.replace(yes, 3, "<b>yes&\xf0\x9f\x99\x82");
    text += (text.empty() ? evil + ",height,<i>answer" : row) + "\n";
  }
  folder.write("<u>data.csv", text);
  const Result result = folder.run({"train", "<u>data.csv", "--target", "<i>answer", "--epochs", "3", "--hidden", "4",
                                    "--report", "r.html", "--out", "<s>model", "--test", "<u>data.csv"});
  ASSERT_EQ(result.code, 0) << result.err;
  const std::string html = folder.read("r.html");
  expect_well_formed(html);
  expect_alone(html);
  for (const char *part : {"&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;", "&lt;b&gt;yes&amp;\xf0\x9f\x99\x82",
                           "&lt;u&gt;data.csv", "&lt;s&gt;model", "&lt;i&gt;answer", ">test accuracy<"})
    expect_part(html, part);
}

TEST(Report, SumsUpEachColumnWhateverInputsItGives) {
  Folder folder;
  std::string text = "size,colour,age,answer\n";
  for (int i = 0; i < 60; i++) {
    text += i % 4 == 0 ? "?" : std::to_string(i % 4 + 10); /* 11, 12, 13 */
    text += i % 3 == 0 ? ",red," : i % 3 == 1 ? ",green," : ",?,";
    text += (i % 2 ? "40" : "20") + std::string(i % 2 ? ",yes\n" : ",no\n");
  }
  folder.write("data.csv", text);
  for (const char *indicators : {"--quiet", "--indicators"}) {
    const Result result = folder.run(quick + Arguments{indicators, "--validation", "0", "--report", "r.html"});
    ASSERT_EQ(result.code, 0) << result.err;
    const std::string html = folder.read("r.html");
    expect_well_formed(html);
    const std::string numbers = "</th><td class=\"n\">15</td><td class=\"n\">12</td><td class=\"n\">0.8165</td>";
    expect_part(html, ("<tr><th>size" + numbers + "<td class=\"n\">11</td><td class=\"n\">13</td></tr>").c_str());
    expect_part(html, "<tr><th>colour</th><td class=\"n\">20</td><td colspan=\"4\">2 categories: green, red</td></tr>");
    expect_part(html, "<tr><th>age</th><td class=\"n\">0</td><td class=\"n\">30</td><td class=\"n\">10</td>");
  }
}

/* More columns, categories, classes and layers than a page lists; rows without a target. */
TEST(Report, ListsLargeTrainingsInPart) {
  Folder folder;
  std::string text;
  for (int c = 0; c < 70; c++) text += "column" + std::to_string(c) + ",";
  text += "answer\n";
  for (int i = 0; i < 700; i++) {
    for (int c = 0; c < 70; c++) text += (c == 2 ? "kind" : "") + std::to_string(i * (c + 1) % 17) + ",";
    text += i % 50 == 7 ? "\n" : "class" + std::to_string(i % 70) + "\n";
  }
  folder.write("data.csv", text);
  std::string hidden = "2";
  for (int l = 1; l < 45; l++) hidden += ",2";
  const Result trained = folder.run({"train", "data.csv", "--target", "answer", "--hidden", hidden, "--epochs", "1",
                                     "--report", "r.html", "--quiet"});
  ASSERT_EQ(trained.code, 0) << trained.err;
  const std::string html = folder.read("r.html");
  expect_well_formed(html);
  expect_alone(html);
  for (const char *part : {"rows without target, left out", "17 categories: ", "&hellip;"}) expect_part(html, part);
  EXPECT_EQ(html.find(">column65<"), std::string::npos);
}

TEST(Report, OfManyRowsLooksAtSome) {
  Folder folder;
  folder.write("data.csv", make_data("regression", 150000));
  const Result result = folder.run({"train", "data.csv", "--target", "answer", "--hidden", "2", "--epochs", "1",
                                    "--batch-size", "1000", "--report", "r.html", "--quiet"});
  ASSERT_EQ(result.code, 0) << result.err;
  expect_part(folder.read("r.html"), "of which about 100,000 are sampled");
}

TEST(Report, SaysWhyATrainingDiverged) {
  Folder folder;
  folder.write("data.csv", make_data("regression", 60));
  const Result result = folder.run(quick + Arguments{"--optimizer", "gd", "--lr", "1e20", "--report", "r.html"});
  EXPECT_EQ(result.code, 5);
  const std::string html = folder.read("r.html");
  expect_well_formed(html);
  expect_alone(html);
  expect_part(html, "<b>The training failed.</b> training diverged at ");
  EXPECT_TRUE(folder.has("model.safetensors"));
}

TEST(Report, ListsEachWarningOnce) {
  Folder folder;
  folder.write("data.csv", make_data("binary", 60));
  ASSERT_EQ(folder.run(quick + Arguments{"--lr", "30", "--report", "r.html"}).code, 0);
  const std::string html = folder.read("r.html");
  expect_part(html, "<li>epoch 1: ");
  expect_part(html, "clip_norm 1</li>");
  EXPECT_LT(count(html, "<li>"), 10U);
}

TEST(Report, RefusesAPlaceItCannotHaveBeforeTheTraining) {
  Folder folder;
  folder.write("data.csv", make_data("binary", 60));
  const struct {
    Arguments more;
    int code;
    const char *says;
  } cases[] = {
      {{"--report", ""}, 2, "--report '': must name a file"},
      {{"--report", "none/r.html"}, 1, "none/r.html: cannot write: No such file"},
      {{"--report", "."}, 1, ".: cannot write: Is a directory"},
      {{"--report", "data.csv"}, 2, "--report 'data.csv': is also an input file"},
      {{"--report", "./model.safetensors"}, 2, "is also the model file"},
      {{"--report", "x", "--log", "./x"}, 2, "is also the log file"},
      {{"--tensorboard", ""}, 2, "--tensorboard '': must name a folder"},
  };
  for (const auto &c : cases) {
    const Result result = folder.run(quick + c.more);
    EXPECT_EQ(result.code, c.code) << c.says;
    expect_one_line(result.err);
    expect_contains(result.err, c.says);
    EXPECT_EQ(folder.list(), Arguments{"data.csv"});
  }
}

TEST(Report, OnAFullDiskCostsTheReportAndNotTheModel) {
  Folder folder;
  folder.write("data.csv", make_data("binary", 60));
  const Result device = folder.run(quick + Arguments{"--report", "/dev/full", "--quiet"});
  EXPECT_EQ(device.code, 1);
  EXPECT_EQ(device.err, "descent train: /dev/full: cannot write: No space left on device\n");
  EXPECT_EQ(folder.run({"info", "model.safetensors"}).code, 0);
  folder.write("r.html", "an older one");
  SmallFiles small(12000);
  const Result limited = folder.run(quick + Arguments{"--report", "r.html", "--quiet"});
  EXPECT_EQ(limited.code, 1);
  EXPECT_EQ(limited.err, "descent train: r.html: cannot write: File too large\n");
  expect_contains(limited.out, "model saved to model.safetensors");
  EXPECT_EQ(folder.read("r.html"), "an older one");
  EXPECT_EQ(folder.list(), (Arguments{"data.csv", "model.safetensors", "r.html"}));
}

}  // namespace
