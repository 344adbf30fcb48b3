/* Pictures: `descent plot` and evaluate --plot. */
#include "command.h"

namespace {

/* ---- plot ------------------------------------------------------------------------------------------------------- */

/* A run log of two layers, the same everywhere. */
std::string make_log(int epochs, double factor) {
  std::ostringstream text;
  double loss = 1;
  for (int e = 1; e <= epochs; e++, loss *= factor)
    text << "{\"epoch\":" << e << ",\"step\":" << 10 * e << ",\"train_loss\":" << loss
         << ",\"validation_loss\":" << 0.1 + loss << ",\"validation_accuracy\":" << 1 - loss / 2
         << ",\"learning_rate\":0.01,\"layers\":["
         << "{\"gradient_norm\":" << loss / 10 << "},{\"gradient_norm\":null}]}\n";
  return text.str();
}

std::string terminal(const Folder &folder, const char *locale, const Arguments &arguments) {
  setenv("LC_ALL", locale, 1);
  const Result result = folder.run(arguments);
  unsetenv("LC_ALL");
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.err, "");
  return result.out;
}

/* As the goldens of command_test: DESCENT_WRITE_GOLDEN=1 in the environment writes the file instead. */
void expect_golden(const std::string &name, const std::string &text) {
  const std::string path = DESCENT_SOURCE_DIR "/tests/golden/" + name;
  if (getenv("DESCENT_WRITE_GOLDEN")) write_file(path, text);
  EXPECT_EQ(text, read_file(path));
}

TEST(Plot, DrawsInTheTerminalWithWhatTheLocaleHas) {
  Folder folder;
  folder.write("fast.jsonl", make_log(30, 0.7));
  folder.write("slow.jsonl", make_log(20, 0.9));
  expect_golden("plot_unicode.txt", terminal(folder, "C.UTF-8", {"plot", "fast.jsonl"}));
  expect_golden("plot_two_unicode.txt", terminal(folder, "C.UTF-8", {"plot", "fast.jsonl", "slow.jsonl"}));
  const std::string ascii = terminal(folder, "C", {"plot", "fast.jsonl", "slow.jsonl", "--terminal"});
  expect_golden("plot_two_ascii.txt", ascii);
  for (char c : ascii) EXPECT_TRUE(c == '\n' || (c >= ' ' && c <= '~')) << int(c);
  for (const std::string &line : lines(ascii)) EXPECT_LE(line.size(), 80U) << line;
}

TEST(Plot, WritesBothAFileAndTheTerminalWhenAskedTo) {
  Folder folder;
  folder.write("run.jsonl", make_log(3, 0.5));
  EXPECT_EQ(terminal(folder, "C", {"plot", "run.jsonl", "-o", "run.svg"}), "");
  expect_contains(terminal(folder, "C", {"plot", "run.jsonl", "--out=run.SVG", "--terminal"}), "Loss");
  EXPECT_EQ(folder.read("run.svg"), folder.read("run.SVG"));
}

TEST(Plot, DrawsAnSvgWithEveryRunAndEscapesItsName) {
  Folder folder;
  const std::string hostile = "<script>alert('1')&\"\xf0\x9f\x94\xa5\xff\xe2\x80\xae.jsonl";
  folder.write("a.jsonl", make_log(30, 0.7));
  folder.write(hostile, make_log(10, 0.9));
  const Result result = folder.run({"plot", "a.jsonl", hostile, "-o", "out.svg"});
  EXPECT_EQ(result.code, 0) << result.err;
  const std::string svg = folder.read("out.svg");
  EXPECT_EQ(svg.find("<script"), std::string::npos);
  expect_contains(svg, "&lt;script&gt;alert(&#39;1&#39;)&amp;&quot;\xf0\x9f\x94\xa5\xef\xbf\xbd");
  EXPECT_EQ(svg.find('\xff'), std::string::npos);
  EXPECT_EQ(svg.find("\xe2\x80\xae"), std::string::npos) << "turns the direction of the text around";
  EXPECT_EQ(count(svg, "class=\"title\""), 5U); /* loss, accuracy, learning rate, two layers */
  EXPECT_EQ(count(svg, "<g"), count(svg, "</g>"));
  EXPECT_EQ(count(svg, "<path class=\"line dashed\" d=\"M"), 2U + 2U) << "two training losses and their samples";
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  EXPECT_EQ(svg.find("http://www.w3.org/2000/svg\""), svg.find("http")) << "nothing else from the network";
  EXPECT_EQ(count(svg, "http"), 1U);
}

TEST(Plot, LeavesOutALastLineThatIsStillBeingWritten) {
  Folder folder;
  const std::string log = make_log(3, 0.5);
  folder.write("whole.jsonl", log);
  const std::string whole = terminal(folder, "C", {"plot", "whole.jsonl"});
  for (size_t more = 1; more < log.size() / 3; more += 13) {
    folder.write("whole.jsonl", log + make_log(4, 0.5).substr(log.size(), more));
    EXPECT_EQ(terminal(folder, "C", {"plot", "whole.jsonl"}), whole) << more;
  }
}

TEST(Plot, NamesTheLineOfABadRunLog) {
  const struct {
    const char *name;
    std::string text, says;
  } cases[] = {
      {"empty", "", "run.jsonl: holds no finished epoch"},
      {"only the beginning of an epoch", "{\"epoch\":1,\"tr", "run.jsonl: holds no finished epoch"},
      {"a table", "epoch,loss\n1,2\n", "run.jsonl:1: is not a JSON object"},
      {"a number", "17\n", "run.jsonl:1: is not a JSON object"},
      {"a torn line in the middle", make_log(2, 0.5) + "{\"epoch\":3,\"tr\n" + "{\"epoch\":4}\n",
       "run.jsonl:3: is not a JSON object"},
      {"another JSON", "{\"name\":\"x\"}\n", "run.jsonl:1: has no epoch"},
      {"an epoch that is none", "{\"epoch\":\"1\"}\n", "run.jsonl:1: has a value that must be a number but is not"},
      {"an epoch of 0", "{\"epoch\":0}\n", "run.jsonl:1: has no epoch"},
      {"two runs", make_log(2, 0.5) + "\n" + make_log(1, 0.5), "run.jsonl:4: does not have a later epoch"},
      {"layers that come and go", make_log(1, 0.5) + "{\"epoch\":2,\"layers\":[]}\n",
       "run.jsonl:2: has a different number of layers"},
      {"layers that are none", "{\"epoch\":1,\"layers\":{\"a\":1}}\n", "run.jsonl:1: has 'layers'"},
      {"a layer of texts", "{\"epoch\":1,\"layers\":[{\"gradient_norm\":\"x\"}]}\n", "run.jsonl:1: has a layer"},
      {"nothing to draw", "{\"epoch\":1}\n", "run.jsonl: holds nothing to draw"},
      {"deep", std::string(100000, '[') + "\n", "run.jsonl:1: is not a JSON object"},
      {"zeros", std::string(1000, '\0') + "\n", "run.jsonl:1: is not a JSON object"},
  };
  Folder folder;
  for (const auto &c : cases) {
    SCOPED_TRACE(c.name);
    folder.write("run.jsonl", c.text);
    const Result result = folder.run({"plot", "run.jsonl", "-o", "out.svg"});
    EXPECT_EQ(result.code, 3);
    expect_one_line(result.err);
    expect_contains(result.err, "descent plot: " + c.says);
    EXPECT_EQ(folder.list(), Arguments{"run.jsonl"});
  }
}

TEST(Plot, TakesAnyNumbersThatALogMayHold) {
  Folder folder;
  folder.write("run.jsonl",
               "{\"epoch\":1,\"train_loss\":1e308,\"learning_rate\":-1e308,\"layers\":[{\"gradient_norm\":0}]}\n"
               "{\"epoch\":2,\"train_loss\":1e999,\"learning_rate\":1e308,\"layers\":[{\"gradient_norm\":-1}]}\n"
               "{\"epoch\":999999999999,\"train_loss\":1e-320,\"learning_rate\":null,\"layers\":[{}]}\n");
  EXPECT_EQ(folder.run({"plot", "run.jsonl"}).code, 0);
  EXPECT_EQ(folder.run({"plot", "run.jsonl", "-o", "out.svg"}).code, 0);
  EXPECT_EQ(folder.read("out.svg").find("nan"), std::string::npos);
  EXPECT_EQ(folder.read("out.svg").find("inf"), std::string::npos);
}

TEST(Plot, RefusesWhatItCannotDo) {
  Folder folder;
  folder.write("run.svg", make_log(3, 0.5));
  const struct {
    Arguments arguments;
    int code;
    const char *says;
  } cases[] = {
      {{"plot"}, 2, "needs RUN..."},
      {{"plot", "run.svg", "-o"}, 2, "option '--out' needs a value"},
      {{"plot", "run.svg", "-o", "x.png"}, 2, "--out 'x.png': charts are SVG: the name must end in .svg"},
      {{"plot", "run.svg", "-o", "x.pdf"}, 2, "--out 'x.pdf': charts are SVG: the name must end in .svg"},
      {{"plot", "run.svg", "-o", ".svg"}, 2, "--out '.svg': charts are SVG"},
      {{"plot", "run.svg", "-o", "./run.svg"}, 2, "--out './run.svg': is also an input file"},
      {{"plot", "run.svg", "-o", "none/x.svg"}, 1, "none/x.svg: cannot write: No such file"},
      {{"plot", "none.jsonl"}, 3, "none.jsonl: cannot read: No such file"},
      {{"plot", "."}, 3, ".: cannot read: Is a directory"},
  };
  for (const auto &c : cases) {
    const Result result = folder.run(c.arguments);
    EXPECT_EQ(result.code, c.code) << c.says;
    expect_one_line(result.err);
    expect_contains(result.err, c.says);
  }
  EXPECT_EQ(folder.list(), Arguments{"run.svg"});
}

TEST(Plot, LeavesNoHalfAPictureOnAFullDisk) {
  Folder folder;
  folder.write("run.jsonl", make_log(300, 0.99));
  folder.write("run.svg", "an older one");
  SmallFiles small(4000);
  const Result result = folder.run({"plot", "run.jsonl", "-o", "run.svg"});
  EXPECT_EQ(result.code, 1);
  EXPECT_EQ(result.err, "descent plot: run.svg: cannot write: File too large\n");
  EXPECT_EQ(folder.read("run.svg"), "an older one");
  EXPECT_EQ(folder.list(), (Arguments{"run.jsonl", "run.svg"}));
}

/* ---- evaluate --plot -------------------------------------------------------------------------------------------- */

using EvaluatePlot = Trained;

TEST_F(EvaluatePlot, DrawsEveryKindThatTheTaskHas) {
  const struct {
    const char *task;
    std::string plot;
    Arguments files;
  } cases[] = {
      {"binary",
       "roc.svg,confusion.svg,calibration_of_data.svg",
       {"roc.svg", "confusion.svg", "calibration_of_data.svg"}},
      {"classes", "confusion:a.svg,calibration:b.SVG", {"a.svg", "b.SVG"}},
      {"regression", "residuals.svg,fit.svg", {"residuals.svg", "fit.svg"}},
  };
  for (const auto &c : cases) {
    train(c.task);
    const Result plain = folder.run({"evaluate", "model.safetensors", "data.csv"});
    const Result result = folder.run({"evaluate", "model.safetensors", "data.csv", "--plot", c.plot});
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_EQ(result.out, plain.out);
    for (const std::string &file : c.files) {
      const std::string svg = folder.read(file);
      EXPECT_EQ(count(svg, "class=\"title\""), 1U) << file;
      expect_contains(svg, "</svg>\n");
    }
  }
}

TEST_F(EvaluatePlot, NamesTheClassesAndSaysWhatTheTableSays) {
  train("binary");
  const Result result = folder.run({"evaluate", "model.safetensors", "data.csv", "--json", "--plot", "roc.svg"});
  char area[64];
  snprintf(area, sizeof area, "area under the curve %.4f<", number(parse(result.out), "auc"));
  expect_contains(folder.read("roc.svg"), area);
  ASSERT_EQ(folder.run({"evaluate", "model.safetensors", "data.csv", "--plot", "confusion.svg"}).code, 0);
  expect_contains(folder.read("confusion.svg"), ">yes</text>");
  EXPECT_EQ(count(folder.read("confusion.svg"), ">30</text>"), 2U);
}

TEST_F(EvaluatePlot, RefusesWhatItCannotDo) {
  train("binary");
  const std::string model = folder.read("model.safetensors");
  const struct {
    const char *plot;
    int code;
    const char *says;
  } cases[] = {
      {"", 2, "--plot '': must name a file"},
      {"roc", 2, "--plot 'roc': charts are SVG: the name must end in .svg"},
      {"roc.png", 2, "--plot 'roc.png': charts are SVG: the name must end in .svg"},
      {"curve.svg", 2, "--plot 'curve.svg': which chart?"},
      {"roc.svg,", 2, "--plot '': which chart?"},
      {"residuals.svg", 2, "--plot 'residuals.svg': 'residuals' applies to regression models only"},
      {"roc:none/x.svg", 1, "none/x.svg: cannot write"},
      {"roc:data.svg", 2, "--plot 'data.svg': is also an input file"},
      {"roc.svg,confusion:roc.svg", 2, "--plot 'roc.svg': is also the file of another chart"},
      {"roc1.svg,roc2.svg,roc3.svg,roc4.svg,roc5.svg,roc6.svg,roc7.svg,roc8.svg,roc9.svg", 2, "at most 8"},
  };
  std::filesystem::rename(folder / "data.csv", folder / "data.svg");
  const std::vector<std::string> before = folder.list();
  for (const auto &c : cases) {
    const Result result = folder.run({"evaluate", "model.safetensors", "data.svg", "--plot", c.plot});
    EXPECT_EQ(result.code, c.code) << c.plot;
    EXPECT_EQ(result.out, "");
    expect_one_line(result.err);
    expect_contains(result.err, c.says);
    EXPECT_EQ(folder.list(), before);
  }
}

TEST_F(EvaluatePlot, KeepsTheTableWhenThereIsNothingToDraw) {
  train("binary");
  folder.write("data.csv", "width,height,answer\n1,2,yes\n2,3,yes\n");
  const Result result = folder.run({"evaluate", "model.safetensors", "data.csv", "--plot", "roc.svg"});
  EXPECT_EQ(result.code, 1);
  expect_contains(result.out, "accuracy");
  EXPECT_EQ(result.err, "descent evaluate: roc.svg: not drawn: one of the two classes has no rows\n");
}

}  // namespace
