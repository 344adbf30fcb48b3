/* The command on a terminal: colours, live lines, and nothing wider than the window. */
#include <sys/stat.h>

#include <chrono>
#include <regex>
#include <thread>

#include "command.h"

namespace {

/* Where none can be opened, as in a container without /dev/pts, its tests are skipped. */
class OnATerminal : public ::testing::Test {
 protected:
  void SetUp() override {
    int master = -1, slave = -1;
    if (openpty(&master, &slave, nullptr, nullptr, nullptr) != 0)
      GTEST_SKIP() << "no terminal can be opened: " << strerror(errno) << " (is /dev/pts mounted?)";
    close(master);
    close(slave);
  }
};

/* The columns of the widest line, without escape sequences. */
size_t widest(const std::string &text) {
  size_t most = 0, now = 0;
  for (size_t i = 0; i < text.size(); i++) {
    if (text[i] == '\033') {
      while (i + 1 < text.size() && !isalpha(static_cast<unsigned char>(text[i]))) i++;
    } else if (text[i] == '\n' || text[i] == '\r') {
      now = 0;
    } else if ((text[i] & 0xc0) != 0x80) {
      most = std::max(most, ++now);
    }
  }
  return most;
}

std::string log_of(int epochs, int layers, double first) {
  std::ostringstream text;
  for (int e = 1; e <= epochs; e++) {
    text << "{\"epoch\":" << e << ",\"train_loss\":" << first / e
         << ",\"validation_loss\":" << (e == 2 ? "null" : std::to_string(first / e))
         << ",\"learning_rate\":0.01,\"layers\":[";
    for (int l = 0; l < layers; l++) text << (l ? "," : "") << "{\"gradient_norm\":" << 1e-5 * first / (l + 1) << "}";
    text << "]}\n";
  }
  return text.str();
}

TEST_F(OnATerminal, PlotsAreColouredUnlessThatIsRefused) {
  const Folder folder;
  folder.write("a.jsonl", log_of(40, 2, 3e5));
  folder.write("b-\u00e4\u00f6\u00fc.jsonl", log_of(30, 12, 0.5));
  const struct {
    const char *locale, *terminal, *refused;
    bool coloured;
  } cases[] = {{"C.UTF-8", "xterm", nullptr, true},  {"C.UTF-8", "xterm", "", true},
               {"C.UTF-8", "xterm", "1", false},     {"C.UTF-8", "dumb", nullptr, false},
               {"C.UTF-8", nullptr, nullptr, false}, {"C", "xterm", nullptr, true}};
  for (const auto &c : cases)
    for (unsigned short columns : {0, 1, 24, 60, 200}) {
      const Result result = run_on_terminal(folder, {"plot", "a.jsonl", "b-\u00e4\u00f6\u00fc.jsonl"}, columns, [&] {
        setenv("LC_ALL", c.locale, 1);
        unsetenv("NO_COLOR");
        if (c.refused) setenv("NO_COLOR", c.refused, 1);
        c.terminal ? setenv("TERM", c.terminal, 1) : unsetenv("TERM");
      });
      EXPECT_EQ(result.code, 0) << result.out;
      EXPECT_EQ(result.out.find("\033[38;5;") != std::string::npos, c.coloured) << columns;
      if (columns >= 24) {
        EXPECT_LE(widest(result.out), columns) << result.out;
      }
      for (char byte : result.out) EXPECT_TRUE(c.locale[1] || !(byte & 0x80));
    }
}

TEST_F(OnATerminal, LongPredictionsIntoAFileSayHowFarTheyAre) {
  const Folder folder;
  folder.write("data.csv", make_data("binary", 60));
  ASSERT_EQ(folder.run(quick).code, 0);
  folder.write("many.csv", make_data("binary", 1 << 17));
  const Arguments predict = {"predict", "model.safetensors", "many.csv", "--out", "p.csv"};
  const Result shown = run_on_terminal(folder, predict, 80, [] {});
  EXPECT_EQ(shown.code, 0) << shown.out;
  expect_contains(shown.out, "\r");
  expect_contains(shown.out, "rows");
  const Result silent = folder.run(predict);
  EXPECT_EQ(silent.err, "");
}

TEST_F(OnATerminal, PredictionsShowNamesEscaped) {
  const Folder folder;
  std::string rows = "a,answer\n";
  for (int i = 0; i < 12; i++) rows += std::to_string(i) + (i % 2 ? ",yes\x1b[31m\n" : ",\"n\"\"o\xe2\x80\xae\"\n");
  folder.write("data.csv", rows);
  ASSERT_EQ(folder.run({"train", "data.csv", "--target", "answer", "--out", "m", "--epochs", "1"}).code, 0);
  const std::string shown = run_on_terminal(folder, {"predict", "m", "data.csv"}, 80, [] {}).out;
  EXPECT_EQ(shown.substr(0, shown.find('\r')), "prediction,\"probability_n\"\"o\\u202e\",probability_yes\\x1b[31m");
  EXPECT_EQ(shown.find('\x1b'), std::string::npos) << shown;
}

TEST_F(OnATerminal, LongEpochsShowProgress) {
  const Folder folder;
  folder.write("data.csv", make_data("binary", 2500));
  const Arguments train = {"train", "data.csv", "--target", "answer", "--hidden", "1000,1000", "--epochs", "2"};
  const struct {
    unsigned short columns;
    const char *line;
  } cases[] = {{90, "\\repoch 1/2 [^\\r]* loss [0-9.e-]+ [^\\r]* left\033\\[K"}, {24, "\\r1/2 loss [0-9.e-]+\033\\[K"}};
  for (const auto &c : cases) {
    const Result result = run_on_terminal(folder, train, c.columns, [] {});
    EXPECT_EQ(result.code, 0) << result.out;
    const std::regex line(c.line);
    int drawn = 0;
    for (std::sregex_iterator i(result.out.begin(), result.out.end(), line), end; i != end; ++i, drawn++)
      EXPECT_LE(widest(i->str()), c.columns);
    EXPECT_GT(drawn, 0) << result.out; /* at the first step; then every tenth of a second */
  }
}

TEST_F(OnATerminal, WarningsStandOnLinesOfTheirOwn) {
  const Folder folder;
  folder.write("data.csv", make_data("binary", 600));
  const Result result =
      run_on_terminal(folder,
                      {"train", "data.csv", "--target", "answer", "--hidden", "8,8,8,8,8,8,8,8", "--activation",
                       "sigmoid", "--init", "lecun_uniform", "--epochs", "300", "--batch-size", "4"},
                      60, [] {});
  EXPECT_EQ(result.code, 0) << result.out;
  const size_t at = result.out.find("warning: epoch ");
  ASSERT_NE(at, std::string::npos) << result.out;
  EXPECT_TRUE(result.out[at - 1] == '\n' || result.out.substr(at - 4, 4) == "\r\033[K") << result.out;
}

TEST_F(OnATerminal, LongTimesAreGivenInTheirUnits) {
  const Folder folder;
  folder.write("data.csv", make_data("binary", 60));
  ASSERT_EQ(folder.run(quick).code, 0);
  const Result result = run_on_terminal(
      folder, quick + Arguments{"--epochs", "1000000000", "--batch-size", "1", "--checkpoint", "kept"}, 100, [] {
        if (fork() == 0) { /* the parent becomes the command */
          sleep(2);
          kill(getppid(), SIGTERM);
          _exit(0);
        }
      });
  EXPECT_EQ(result.code, 128 + SIGTERM);
  expect_contains(result.out, "h left");
}

struct Window {
  unsigned short columns;
  const char *locale;
};
class Terminal : public OnATerminal, public ::testing::WithParamInterface<Window> {};

int columns(const std::string &text) {
  return static_cast<int>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

TEST_P(Terminal, ShowsOneLiveLineThatFitsTheWindow) {
  const Folder folder;
  folder.write("data.csv", make_data("binary", 60));
  const Result result = run_on_terminal(folder, quick + Arguments{"--epochs", "200", "--lr", "1e-4"},
                                        GetParam().columns, [] { setenv("LC_ALL", GetParam().locale, 1); });
  const std::string &text = result.out;
  EXPECT_EQ(result.code, 0);

  std::regex drawn("\r([^\r\n\x1b]*)\x1b\\[K");
  std::string last;
  for (auto match = std::sregex_iterator(text.begin(), text.end(), drawn); match != std::sregex_iterator(); ++match) {
    last = (*match)[1];
    EXPECT_LT(columns(last), GetParam().columns) << last;
  }
  expect_contains(last, "200/200");
  if (GetParam().columns >= 20) expect_contains(last, "loss");
  if (GetParam().columns >= 80) expect_contains(last, "rows/s");
  EXPECT_EQ(text.find("epoch 200/200  loss"), std::string::npos) << "a plain line on a terminal";
}
INSTANTIATE_TEST_SUITE_P(Command, Terminal,
                         ::testing::Values(Window{10, "C"}, Window{20, "C"}, Window{25, "C.UTF-8"}, Window{30, "C"},
                                           Window{40, "C.UTF-8"}, Window{80, "C.UTF-8"}, Window{200, "C.UTF-8"}),
                         [](const auto &one) { return "Columns" + std::to_string(one.param.columns); });

/* A file that takes longer than a second to read is named on a line, which is erased again. */
TEST_F(OnATerminal, ReadingThatTakesLongIsShown) {
  for (const bool quiet : {false, true}) {
    const Folder folder;
    ASSERT_EQ(mkfifo((folder / "slow.csv").c_str(), 0600), 0);
    std::thread writer([&] {
      std::string half;
      while (half.size() < 400000) half += "1,2,0\n3,4,1\n"; /* more than is read at once */
      std::ofstream pipe(folder / "slow.csv");
      pipe << "a,b,y\n" << half << std::flush;
      std::this_thread::sleep_for(std::chrono::milliseconds(1200));
      pipe << half;
    });
    std::vector<std::string> arguments = {"train", "slow.csv", "--target", "y", "--epochs", "0", "--device", "cpu"};
    if (quiet) arguments.push_back("--quiet");
    const Result result = run_on_terminal(folder, arguments, 50, [] {});
    writer.join();
    EXPECT_EQ(result.code, 0) << result.out;
    const size_t shown = result.out.find("\rreading slow.csv"), erased = result.out.find("\r\033[K");
    EXPECT_EQ(shown == std::string::npos, quiet) << result.out;
    if (quiet) continue;
    EXPECT_LT(shown, erased);
    EXPECT_LT(widest(result.out.substr(shown, erased - shown)), 50u);
  }
}

}  // namespace
