/* Every allocation of every command fails in turn, once and from then on: no crash, no hang, no leak (where the build
 * has LeakSanitizer), one clear error with its exit code or the very result of an undisturbed run, and never half a
 * file. Some of the allocations only, unless the environment has DESCENT_FULL. */
#include "allocation.h"

#include <descent/descent.h>

#include <regex>

#include "command.h"

extern "C" int descent_main(int argc, char **argv); /* the command's own, by another name */

namespace {

struct Command {
  const char *name;
  Arguments arguments;
  std::vector<std::string> outputs; /* the same bytes each time */
  std::vector<std::string> records; /* others */
};

const Arguments train = {"train",    "data.csv", "--target",  "answer", "--hidden", "4", "--epochs", "2",
                         "--device", "cpu",      "--threads", "1",      "--seed",   "1", "--quiet"};

const Command commands[] = {
    {"train",
     train + Arguments{"--out", "m", "--log", "log", "--report", "r.html", "--tensorboard", "runs"},
     {"m"},
     {"log", "r.html", "runs"}},
    {"resume", train + Arguments{"--out", "m", "--resume", "kept", "--log", "log"}, {"m"}, {"log", "kept"}},
    {"evaluate",
     {"evaluate", "model", "data.csv", "--device", "cpu", "--threads", "1", "--json", "--plot", "roc.svg"},
     {"roc.svg"},
     {}},
    {"predict", {"predict", "model", "data.csv", "--device", "cpu", "--threads", "1", "--out", "p.csv"}, {"p.csv"}, {}},
    {"export_onnx", {"export", "model", "--out", "e.onnx"}, {"e.onnx"}, {}},
    {"export_c", {"export", "model", "--out", "e.c"}, {"e.c"}, {}},
    {"export_npz", {"export", "model", "--out", "e.npz"}, {"e.npz"}, {}},
    {"convert", {"convert", "data.csv", "d.safetensors", "--target", "answer"}, {"d.safetensors"}, {}},
    {"convert_npz", {"convert", "data.csv", "d.npz", "--target", "answer"}, {"d.npz"}, {}},
    {"info", {"info", "model", "--json"}, {}, {}},
    {"info_text", {"info", "model"}, {}, {}},
    {"info_data", {"info", "data.safetensors"}, {}, {}},
    {"plot", {"plot", "run.jsonl", "-o", "c.svg"}, {"c.svg"}, {}},
    {"verify", {"verify", "--inputs", "3", "--outputs", "1", "--hidden", "4", "--rows", "8", "--steps", "1"}, {}, {}},
};

class AllocationCount : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(chdir((folder_ / ".").c_str()), 0);
    folder_.write("data.csv", make_data("binary", 30));
    ASSERT_EQ(run(0, false, train + Arguments{"--out", "model", "--log", "run.jsonl", "--checkpoint", "before"}), 0)
        << said();
    ASSERT_EQ(run(0, false, {"convert", "data.csv", "data.safetensors", "--target", "answer"}), 0) << said();
  }
  void TearDown() override { ASSERT_EQ(chdir("/"), 0); }

  /* What was printed, but for what took how long. */
  std::string printed() const {
    return std::regex_replace(folder_.read(".out"), std::regex("\\) in [0-9.]+m?s"), ") in a while");
  }
  std::string said() const { return folder_.read(".err"); }

  /* The command in a child of this process whose k-th allocation fails; the exit code. `.count` gets how many there
   * were. */
  int run(long k, bool persistent, const Arguments &arguments) const {
    const pid_t child = fork();
    if (child == 0) {
      alarm(120);
      std::vector<char *> argv{const_cast<char *>("descent")};
      for (const std::string &argument : arguments) argv.push_back(const_cast<char *>(argument.c_str()));
      argv.push_back(nullptr);
      if (!freopen(".out", "w", stdout) || !freopen(".err", "w", stderr)) _exit(99);
      cJSON_Hooks hooks{allocation_malloc, free};
      cJSON_InitHooks(&hooks);
      allocation_fail(k, persistent);
      const int code = descent_main(static_cast<int>(argv.size()) - 1, argv.data());
      const long count = allocation_count();
      allocation_fail(0, false);
      write_file(".count", std::to_string(count));
      exit(code); /* with the leak check, where there is one */
    }
    int status = 0;
    waitpid(child, &status, 0);
    return exit_code(status);
  }

  /* A training that ends because it cannot be recorded saves what it has learned. */
  static bool is_model(const std::string &name) {
    descent_network *network = nullptr;
    const descent_status status = descent_network_load(name.c_str(), &network);
    descent_network_free(network);
    return status == DESCENT_OK;
  }

  void reset(const Command &command) const {
    for (const std::string &name : command.outputs) folder_.write(name, "old");
    for (const std::string &name : command.records) std::filesystem::remove_all(folder_ / name);
    if (command.name == std::string("resume")) {
      std::filesystem::copy(folder_ / "before", folder_ / "kept");
      for (const auto &entry : std::filesystem::directory_iterator(folder_ / "kept"))
        if (entry.path().string().find("00000.safetensors") == std::string::npos) std::filesystem::remove(entry);
    }
  }

  Folder folder_;
};

class Allocation : public AllocationCount, public testing::WithParamInterface<Command> {};

TEST_P(Allocation, ThatFailsIsAnErrorOrHarmless) {
  const Command &command = GetParam();
  reset(command);
  ASSERT_EQ(run(0, false, command.arguments), 0) << said();
  const long allocations = std::stol(folder_.read(".count"));
  ASSERT_GT(allocations, 20);
  const std::string out = printed();
  std::vector<std::string> results;
  for (const std::string &name : command.outputs) results.push_back(folder_.read(name));
  const std::vector<std::string> files = folder_.list();
  const bool full = std::getenv("DESCENT_FULL");
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  constexpr long kSome = 12; /* a process is slow to start there */
#else
  constexpr long kSome = 60;
#endif
  long refused = 0, harmless = 0;
  for (const bool persistent : {false, true})
    for (long k = 1; k <= allocations; k += full ? 1 : 1 + allocations / kSome) {
      SCOPED_TRACE("allocation " + std::to_string(k) + " of " + std::to_string(allocations) +
                   (persistent ? " and all that follow" : ""));
      reset(command);
      const int code = run(k, persistent, command.arguments);
      (code ? refused : harmless)++;
      if (code) {
        const bool thread = said().find("cannot start thread") != std::string::npos;
        const bool terse =
            said().find(": out of memory\n") != std::string::npos; /* even for the words there was none */
        EXPECT_TRUE(code == 1 || (code == 4 && (thread || terse))) << code << ": " << said();
        EXPECT_TRUE(thread || said().find("memory") != std::string::npos ||
                    said().find("allocate") != std::string::npos)
            << said();
      } else {
        EXPECT_EQ(printed(), out);
      }
      for (size_t i = 0; i < results.size(); i++) {
        const std::string content = folder_.read(command.outputs[i]);
        EXPECT_TRUE(content == results[i] || (code && (content == "old" || is_model(command.outputs[i]))))
            << command.outputs[i] << " is neither the old one nor the new; exit code " << code << ": " << said();
      }
      for (const std::string &name : folder_.list())
        EXPECT_TRUE(std::find(files.begin(), files.end(), name) != files.end()) << name << " is left behind";
      if (HasFailure()) return;
    }
  std::printf("%s: %ld allocations, %ld failures were errors, %ld harmless\n", command.name, allocations, refused,
              harmless);
  EXPECT_GT(refused, harmless);
}

/* Twelve times as many steps in as many epochs: what is allocated for a step shows in the number. */
TEST_F(AllocationCount, IsTheSameHoweverManyStepsATrainingHas) {
  for (const char *device : {"cpu", "reference"}) {
    std::vector<long> counts;
    for (const char *batch : {"24", "2"}) {
      const Arguments steps = {"--device",  device, "--batch-size", batch, "--epochs",    "3",     "--dropout",   "0.1",
                               "--threads", "2",    "--out",        "m",   "--optimizer", "adamw", "--clip-norm", "1"};
      ASSERT_EQ(run(0, false, train + steps), 0) << said();
      counts.push_back(std::stol(folder_.read(".count")));
    }
    EXPECT_GT(counts[0], 20);
    EXPECT_EQ(counts[0], counts[1]) << device;
  }
}

INSTANTIATE_TEST_SUITE_P(Every, Allocation, testing::ValuesIn(commands),
                         [](const auto &each) { return each.param.name; });

}  // namespace
