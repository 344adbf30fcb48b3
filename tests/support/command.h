/* Shared by the tests of the command: runs the real command in a temporary folder. */
#ifndef DESCENT_TESTS_COMMAND_H
#define DESCENT_TESTS_COMMAND_H

#include <cjson/cJSON.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "scratch.h"

struct Result {
  int code; /* 128 + n when signal n killed it */
  std::string out, err;
};

inline int exit_code(int status) { return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status); }

/* The command runs in it, so that file names in messages are short. */
class Folder : public Scratch {
 public:
  void write(const std::string &name, const std::string &text) const { write_file(*this / name, text); }
  std::string read(const std::string &name) const { return read_file(*this / name); }
  bool has(const std::string &name) const { return std::filesystem::exists(*this / name); }
  std::vector<std::string> list() const {
    std::vector<std::string> names;
    for (const auto &entry : std::filesystem::directory_iterator(path())) names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
  }

  /* In the child: executes the command. */
  [[noreturn]] void execute(const std::vector<std::string> &arguments) const {
    std::vector<char *> argv{const_cast<char *>("descent")};
    for (const std::string &argument : arguments) argv.push_back(const_cast<char *>(argument.c_str()));
    argv.push_back(nullptr);
    if (chdir(path().c_str()) == 0) execv(DESCENT_COMMAND, argv.data());
    _exit(127);
  }

  /* Starts the command; its standard output goes to `out` ("" closes it), its standard error to .err. */
  pid_t start(const std::vector<std::string> &arguments, const std::string &out) const {
    pid_t child = fork();
    if (child != 0) return child;
    int flags = O_WRONLY | O_CREAT | O_TRUNC;
    int err = open((*this / ".err").c_str(), flags, 0600);
    dup2(err, STDERR_FILENO);
    if (out.empty()) {
      close(STDOUT_FILENO);
    } else {
      int descriptor = open(out.c_str(), flags, 0600);
      dup2(descriptor, STDOUT_FILENO);
    }
    execute(arguments);
  }

  Result run(const std::vector<std::string> &arguments) const { return run_to(arguments, *this / ".out"); }
  Result run_to(const std::vector<std::string> &arguments, const std::string &out) const {
    int status = 0;
    waitpid(start(arguments, out), &status, 0);
    Result result{exit_code(status), out == *this / ".out" ? read(".out") : "", read(".err")};
    std::filesystem::remove(*this / ".out");
    std::filesystem::remove(*this / ".err");
    return result;
  }
};

/* Runs the command on a terminal of that many columns, which is its standard input, output and error; `prepare` is
 * called in its process first. `out` is everything sent to the terminal. */
template <typename Prepare>
Result run_on_terminal(const Folder &folder, const std::vector<std::string> &arguments, unsigned short columns,
                       const Prepare &prepare) {
  winsize size{};
  size.ws_row = 24;
  size.ws_col = columns;
  int master = -1;
  const pid_t child = forkpty(&master, nullptr, nullptr, &size);
  if (child == 0) {
    setenv("TERM", "xterm", 1);
    prepare();
    folder.execute(arguments);
  }
  Result result{0, "", ""};
  if (child < 0) {
    ADD_FAILURE() << "no terminal can be opened: " << strerror(errno);
    return result;
  }
  char buffer[4096];
  for (ssize_t n; (n = read(master, buffer, sizeof buffer)) > 0;) result.out.append(buffer, static_cast<size_t>(n));
  close(master);
  int status = 0;
  waitpid(child, &status, 0);
  result.code = exit_code(status);
  return result;
}

/* Data that a small network learns without error in a few epochs, so that predictions do not depend on rounding: `rows`
 * rows of two columns in well-separated groups, with the group or, for "regression", a weighted sum as the target. The
 * other kinds: "binary" (no, yes), "classes" (low, middle, high). */
inline std::string make_data(const std::string &kind, int rows) {
  static const char *const binary[] = {"no", "yes"}, *const classes[] = {"low", "middle", "high"};
  const int groups = kind == "classes" ? 3 : 2;
  std::ostringstream text;
  unsigned state = 12345;
  auto next = [&state] { /* the constants of Numerical Recipes; 0 .. 7.75 */
                         state = state * 1664525U + 1013904223U;
                         return static_cast<int>(state >> 27) / 4.0;
  };
  text.precision(10); /* enough for every multiple of 1/64 below 10 */
  text << "width,height,answer\n";
  for (int i = 0; i < rows; i++) {
    const int group = i % groups;
    const double width = 20 * group + next(), height = 20 * group + next();
    text << width << ',' << height << ',';
    if (kind == "regression")
      text << (2 * width - height) / 16;
    else
      text << (kind == "classes" ? classes : binary)[group];
    text << '\n';
  }
  return text.str();
}

using Arguments = std::vector<std::string>;
using Json = std::unique_ptr<cJSON, decltype(&cJSON_Delete)>;

inline Arguments operator+(Arguments left, const Arguments &right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

inline Json parse(const std::string &text) { return Json(cJSON_Parse(text.c_str()), cJSON_Delete); }

inline double number(const Json &json, const char *key) {
  return cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(json.get(), key));
}

inline std::vector<std::string> lines(const std::string &text) {
  std::vector<std::string> result;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) result.push_back(line);
  return result;
}

inline void expect_one_line(const std::string &text) {
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
  EXPECT_TRUE(!text.empty() && text.back() == '\n') << text;
}

inline void expect_contains(const std::string &text, const std::string &part) {
  EXPECT_NE(text.find(part), std::string::npos) << "'" << part << "' is not in: " << text;
}

/* During its lifetime the command's files cannot grow beyond so many bytes: writing fails as on a full disk. */
class SmallFiles {
 public:
  explicit SmallFiles(rlim_t bytes) {
    getrlimit(RLIMIT_FSIZE, &old_);
    rlimit small = old_;
    small.rlim_cur = bytes;
    handler_ = signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
  }
  ~SmallFiles() {
    setrlimit(RLIMIT_FSIZE, &old_);
    signal(SIGXFSZ, handler_);
  }
  SmallFiles(const SmallFiles &) = delete;
  SmallFiles &operator=(const SmallFiles &) = delete;

 private:
  rlimit old_{};
  void (*handler_)(int);
};

/* How often each element occurs: enough to see that a chart is complete. */
inline size_t count(const std::string &text, const std::string &part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) n++;
  return n;
}

inline const Arguments quick = {"train", "data.csv", "--target", "answer",   "--hidden",
                                "8",     "--lr",     "0.03",     "--epochs", "10"};

/* What runs after the training in one folder: a binary model and its data. */
class Trained : public ::testing::Test {
 protected:
  void train(const std::string &kind, const Arguments &more = {}) {
    folder.write("data.csv", make_data(kind, 60));
    Result result = folder.run(quick + more);
    ASSERT_EQ(result.code, 0) << result.err;
  }
  Folder folder;
};

#endif
