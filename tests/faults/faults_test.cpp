/* Every allocation of every command fails in turn, then every call that opens, reads, writes or closes, each once and
 * from then on: no crash, no hang, no leak (where the build has LeakSanitizer), one clear error with its exit code or
 * exactly the result of an undisturbed run, and never a partial file. Only a sample of them, unless the environment has
 * DESCENT_FULL. */
#include "faults.h"

#include <descent/descent.h>

#include <functional>
#include <regex>

#include "command.h"

extern "C" int descent_main(int argc, char **argv); /* the command's own, by another name */

namespace {

struct Command {
  const char *name;
  Arguments arguments;
  std::vector<std::string> outputs; /* the same bytes each time */
  std::vector<std::string> records; /* others */
  bool timed = false;               /* measures, which takes long, and prints the times */
};

const Arguments device = {"--device", "cpu", "--threads", "1"};
const Arguments train = Arguments{"train", "data.csv", "--target", "answer", "--hidden", "4", "--epochs", "2"} +
                        device + Arguments{"--seed", "1", "--quiet"};
const Arguments train_rich = Arguments{"train", "rich.csv", "--target", "answer", "--hidden", "4", "--epochs", "2"} +
                             device + Arguments{"--indicators", "--missing", "?,", "--weight-column", "w"};

/* The inputs of the commands, and how each is made from those before it; rich.csv and numbers.csv are written. */
const struct {
  const char *name;
  Arguments arguments;
} inputs[] = {
    {"model", train + Arguments{"--out", "model", "--log", "run.jsonl", "--checkpoint", "before"}},
    {"rich_model", train_rich + Arguments{"--out", "rich_model", "--quiet"}},
    {"data.safetensors", {"convert", "data.csv", "data.safetensors", "--target", "answer"}},
    {"rich.safetensors", {"convert", "rich.csv", "rich.safetensors", "--target", "answer", "--weight-column", "w"}},
    {"numbers.npy", {"convert", "numbers.csv", "numbers.npy", "--target", "y"}},
    {"numbers.npz", {"convert", "numbers.csv", "numbers.npz", "--target", "y"}},
    {"numbers.idx", {"convert", "numbers.csv", "numbers.idx", "--target", "y"}},
    {"numbers.svm", {"convert", "numbers.csv", "numbers.svm", "--target", "y"}},
    {"nameless_model", {"train", "numbers.svm", "--epochs", "1", "--out", "nameless_model", "--quiet"}},
    {"numbers.h5", {"convert", "numbers.csv", "numbers.h5", "--target", "y"}},
};

const Command commands[] = {
    {"train",
     train + Arguments{"--out", "m", "--log", "log", "--report", "r.html", "--tensorboard", "runs"},
     {"m"},
     {"log", "r.html", "runs"}},
    {"train_columns",
     train_rich + Arguments{"--out", "m", "--validation", "0.3", "--class-weight", "yes=5"},
     {"m"},
     {}},
    {"train_files",
     train + Arguments{"--out", "m", "--weights", "model", "--validation", "data.csv", "--test", "data.csv",
                       "--patience", "1"},
     {"m"},
     {}},
    {"train_mapped",
     Arguments{"train", "rich.safetensors", "--epochs", "1", "--hidden", "none", "--out", "m", "--quiet", "--missing",
               "?,", "--report", "r.html"} +
         device,
     {"m"},
     {"r.html"}},
    {"train_regression",
     Arguments{"train", "numbers.npy", "--target", "-1,-2", "--epochs", "1", "--hidden", "3", "--out", "m", "--device",
               "reference", "--optimizer", "sgd", "--momentum", "0.5"},
     {"m"},
     {}},
    {"train_targets",
     Arguments{"train", "numbers.idx", "--target-file", "numbers.npy", "--epochs", "1", "--hidden", "3", "--out", "m",
               "--quiet", "--normalize", "minmax"} +
         device,
     {"m"},
     {}},
    {"train_configured", train + Arguments{"--out", "m", "--config", "c.json"}, {"m"}, {}},
    {"resume",
     train + Arguments{"--out", "m", "--resume", "kept", "--log", "log", "--tensorboard", "runs"},
     {"m"},
     {"log", "kept", "runs"}},
    {"evaluate", Arguments{"evaluate", "model", "data.csv", "--json", "--plot", "roc.svg"} + device, {"roc.svg"}, {}},
    {"evaluate_columns",
     Arguments{"evaluate", "rich_model", "rich.csv", "--plot", "confusion.svg,calibration.svg", "--weight-column",
               "w"} +
         device,
     {"confusion.svg", "calibration.svg"},
     {}},
    {"evaluate_archive", Arguments{"evaluate", "nameless_model", "numbers.npz"} + device, {}, {}},
    {"predict", Arguments{"predict", "model", "data.csv", "--out", "p.csv"} + device, {"p.csv"}, {}},
    {"predict_columns", Arguments{"predict", "rich_model", "rich.csv", "--output", "classes"} + device, {}, {}},
    {"predict_mapped", Arguments{"predict", "rich_model", "rich.safetensors"} + device, {}, {}},
    {"export_onnx", {"export", "model", "--out", "e.onnx"}, {"e.onnx"}, {}},
    {"export_onnx_columns", {"export", "rich_model", "--out", "e.onnx"}, {"e.onnx"}, {}},
    {"export_c", {"export", "rich_model", "--out", "e.c"}, {"e.c"}, {}},
    {"export_npz", {"export", "rich_model", "--out", "e.npz"}, {"e.npz"}, {}},
    {"convert", {"convert", "data.csv", "d.safetensors", "--target", "answer"}, {"d.safetensors"}, {}},
    {"convert_columns",
     {"convert", "rich.csv", "d.safetensors", "--target", "answer", "--weight-column", "w", "--missing", "?,"},
     {"d.safetensors"},
     {}},
    {"convert_in_two_passes",
     {"convert", "rich.csv", "d.safetensors", "--target", "answer", "--two-passes"},
     {"d.safetensors"},
     {}},
    {"convert_to_text", {"convert", "rich.safetensors", "d.tsv"}, {"d.tsv"}, {}},
    {"convert_to_npy", {"convert", "numbers.csv", "d.npy", "--target", "y"}, {"d.npy"}, {}},
    {"convert_to_npz", {"convert", "rich.csv", "d.npz", "--target", "answer"}, {"d.npz"}, {}},
    {"convert_to_idx", {"convert", "numbers.csv", "d.idx", "--target", "y"}, {"d.idx"}, {}},
    {"convert_to_svm", {"convert", "data.csv", "d.svm", "--target", "answer"}, {"d.svm"}, {}},
#ifdef DESCENT_HDF5_BUILT
    {"convert_to_hdf5", {"convert", "rich.csv", "d.h5", "--target", "answer", "--weight-column", "w"}, {"d.h5"}, {}},
#endif
    {"convert_from_npy", {"convert", "numbers.npy", "d.csv"}, {"d.csv"}, {}},
    {"convert_from_npz", {"convert", "numbers.npz", "d.csv"}, {"d.csv"}, {}},
    {"convert_from_idx", {"convert", "numbers.idx", "d.csv"}, {"d.csv"}, {}},
    {"convert_from_svm", {"convert", "numbers.svm", "d.csv"}, {"d.csv"}, {}},
#ifdef DESCENT_HDF5_BUILT
    {"convert_from_hdf5", {"convert", "numbers.h5", "d.csv"}, {"d.csv"}, {}},
#endif
    {"info", {"info", "model", "--json"}, {}, {}},
    {"info_text", {"info", "rich_model"}, {}, {}},
    {"info_data", {"info", "rich.safetensors"}, {}, {}},
    {"info_data_json", {"info", "rich.safetensors", "--json"}, {}, {}},
    {"info_json_columns", {"info", "rich_model", "--json"}, {}, {}},
    {"evaluate_json_columns",
     Arguments{"evaluate", "nameless_model", "numbers.csv", "--target", "y", "--json"} + device,
     {},
     {}},
    {"plot", {"plot", "run.jsonl", "-o", "c.svg"}, {"c.svg"}, {}},
    {"plot_in_the_terminal", {"plot", "run.jsonl"}, {}, {}},
    {"sweep",
     Arguments{"sweep",    "data.csv", "--target", "answer",   "--hidden", "4;3,3",      "--lr",
               "0.03;0.1", "--epochs", "3",        "--search", "grid",     "--together", "2",
               "--out",    "m",        "--log",    "trials",   "--report", "r.html",     "--quiet"} +
         device,
     {"m"},
     {"trials", "r.html"}},
    {"verify", {"verify", "--inputs", "3", "--outputs", "1", "--hidden", "4", "--rows", "8", "--steps", "1"}, {}, {}},
    {"bench",
     Arguments{"bench", "--inputs", "3", "--outputs", "1", "--hidden", "4", "--batch-size", "8", "--seconds", "0.001",
               "--json"} +
         device,
     {},
     {},
     true},
    {"help", {"train", "--help"}, {}, {}},
};

/* A command in a folder with what it reads. */
class Faults : public testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(chdir((folder_ / ".").c_str()), 0); }
  void TearDown() override { ASSERT_EQ(chdir("/"), 0); }

  static bool mentions(const Arguments &arguments, const std::string &name) {
    for (const std::string &argument : arguments)
      if (argument.compare(0, argument.find(':'), name) == 0) return true;
    return false;
  }

  void make_inputs(const Arguments &arguments) const {
    folder_.write("data.csv", make_data("binary", 30));
    std::string rich = "a,\"b, quoted\",colour,w,answer\n", numbers = "u,v,y\n";
    for (int i = 0; i < 24; i++) {
      const std::string n = std::to_string(i);
      rich += n +
              (i % 5 == 3   ? ",,"
               : i % 5 == 4 ? ",?,"
                            : "," + n + ".5,") +
              (i % 3   ? "\"red, dark\""
               : i % 2 ? " green"
                       : "\"bl\"\"ue\"") +
              ",1," + (i % 7 > 3 ? "yes" : "no") + "\n";
      numbers += n + "," + std::to_string(i * i % 5) + "," + std::to_string(i * 5) + "\n";
    }
    folder_.write("rich.csv", rich);
    folder_.write("c.json", R"({"dropout": 0.1, "quiet": true, "ignore": ["height"]})");
    folder_.write("numbers.csv", numbers);
    for (const auto &input : inputs) {
      const std::string name = input.name;
      const bool needed = mentions(arguments, name) ||
                          (name == "model" && (mentions(arguments, "run.jsonl") || mentions(arguments, "kept"))) ||
                          (name == "numbers.svm" && mentions(arguments, "nameless_model"));
      if (!needed) continue;
      ASSERT_EQ(run(FAULT_ALLOCATION, 0, false, input.arguments), 0) << said();
    }
  }

  /* The printed text without durations. */
  std::string printed() const {
    return std::regex_replace(folder_.read(".out"), std::regex("in [0-9.]+ ?m?s"), "in a while");
  }
  std::string said() const { return folder_.read(".err"); }
  long counted() const { return std::stol(folder_.read(".count")); }

  /* The command in a child of this process whose k-th call of a kind fails; the exit code. `.count` gets how many there
   * were. */
  int run(fault_kind kind, long k, bool persistent, const Arguments &arguments) const {
    std::fflush(nullptr); /* or the child would print it again */
    const pid_t child = fork();
    if (child == 0) {
      alarm(120);
      std::vector<char *> argv{const_cast<char *>("descent")};
      for (const std::string &argument : arguments) argv.push_back(const_cast<char *>(argument.c_str()));
      argv.push_back(nullptr);
      if (!freopen(".out", "w", stdout) || !freopen(".err", "w", stderr)) _exit(99);
      cJSON_Hooks hooks{fault_malloc, free};
      cJSON_InitHooks(&hooks);
      fault_choose(kind, k, persistent);
      const int code = descent_main(static_cast<int>(argv.size()) - 1, argv.data());
      const long count = fault_count(kind);
      fault_suspend();
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
    if (mentions(command.arguments, "kept")) {
      std::filesystem::copy(folder_ / "before", folder_ / "kept");
      for (const auto &entry : std::filesystem::directory_iterator(folder_ / "kept"))
        if (entry.path().string().find("00000.safetensors") == std::string::npos) std::filesystem::remove(entry);
    }
  }

  /* Checks that the output and exit code of a failed run are those documented for this kind of failure. */
  void judge_refusal(fault_kind kind, int code) const {
    const bool thread = said().find("cannot start thread") != std::string::npos;
    const bool terse =
        said().find(": out of memory\n") != std::string::npos; /* not even enough memory for the message */
    if (kind == FAULT_CALL) {
      EXPECT_TRUE(code == 1 || code == 3 || code == 4) << code << ": " << said();
      EXPECT_NE(said().find('\n'), std::string::npos) << "exit code " << code << " without a word";
      return;
    }
    EXPECT_TRUE(code == 1 || (code == 4 && (thread || terse))) << code << ": " << said();
    EXPECT_TRUE(thread || said().find("memory") != std::string::npos || said().find("allocate") != std::string::npos)
        << said();
  }

  /* Of the tests of a suite that ran in this process. */
  struct Sums {
    long commands, calls, refused, harmless;
  };
  static inline Sums sums{};
  static void TearDownTestSuite() {
    if (sums.commands)
      std::printf("result: %ld failures of %ld calls of %ld command lines: %ld errors, %ld harmless\n",
                  sums.refused + sums.harmless, sums.calls, sums.commands, sums.refused, sums.harmless);
    sums = {};
  }

  void sweep(fault_kind kind, const Command &command) const {
    make_inputs(command.arguments);
    if (HasFatalFailure()) return;
    reset(command);
    ASSERT_EQ(run(kind, 0, false, command.arguments), 0) << said();
    const long calls = counted();
    ASSERT_GT(calls, 1);
    const std::string out = printed();
    std::vector<std::string> results;
    for (const std::string &name : command.outputs) results.push_back(folder_.read(name));
    const std::vector<std::string> files = folder_.list();
    const bool full = std::getenv("DESCENT_FULL");
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    const long some = command.timed ? 3 : 12; /* a process is slow to start there */
#else
    const long some = command.timed ? 10 : 60;
#endif
    long refused = 0, harmless = 0;
    for (const bool persistent : {false, true})
      for (long k = 1; k <= calls; k += full ? 1 : 1 + calls / some) {
        SCOPED_TRACE("call " + std::to_string(k) + " of " + std::to_string(calls) +
                     (persistent ? " and all that follow" : ""));
        reset(command);
        const int code = run(kind, k, persistent, command.arguments);
        (code ? refused : harmless)++;
        if (code) judge_refusal(kind, code);
        EXPECT_TRUE(code || command.timed || printed() == out) << printed();
        for (size_t i = 0; i < results.size(); i++) {
          const std::string content = folder_.read(command.outputs[i]);
          EXPECT_TRUE(content == results[i] || (code && (content == "old" || is_model(command.outputs[i]))))
              << command.outputs[i] << " is neither the old one nor the new; exit code " << code << ": " << said();
        }
        for (const std::string &name : folder_.list())
          EXPECT_TRUE(std::find(files.begin(), files.end(), name) != files.end()) << name << " is left behind";
        if (HasFailure()) return;
      }
    std::printf("%s: %ld calls, %ld failures were errors, %ld harmless\n", command.name, calls, refused, harmless);
    sums.commands++;
    sums.calls += calls;
    sums.refused += refused;
    sums.harmless += harmless;
    EXPECT_GT(refused, 0);
  }

  Folder folder_;
};

class Allocation : public Faults, public testing::WithParamInterface<Command> {};
class Call : public Faults, public testing::WithParamInterface<Command> {};

TEST_P(Allocation, ThatFailsIsAnErrorOrHarmless) { sweep(FAULT_ALLOCATION, GetParam()); }
TEST_P(Call, ThatFailsIsAnErrorOrHarmless) { sweep(FAULT_CALL, GetParam()); }

/* Twelve times as many steps in the same number of epochs: an allocation per step shows in the count. */
TEST_F(Faults, AStepAllocatesNothing) {
  make_inputs({});
  for (const char *name : {"cpu", "reference"}) {
    std::vector<long> counts;
    for (const char *batch : {"24", "2"}) {
      const Arguments steps = {"--device",  name, "--batch-size", batch, "--epochs",    "3",     "--dropout",   "0.1",
                               "--threads", "2",  "--out",        "m",   "--optimizer", "adamw", "--clip-norm", "1"};
      std::filesystem::remove(folder_ / "m"); /* to follow the path of a file that is there takes fewer calls */
      ASSERT_EQ(run(FAULT_ALLOCATION, 0, false, train + steps), 0) << said();
      counts.push_back(counted());
    }
    EXPECT_GT(counts[0], 20);
    EXPECT_EQ(counts[0], counts[1]) << name;
  }
}

std::string in_memory(const descent_network *network) {
  size_t size = 0;
  EXPECT_EQ(descent_network_save_memory(network, nullptr, 0, &size), DESCENT_OK) << descent_last_error();
  std::string bytes(size, '\0');
  EXPECT_EQ(descent_network_save_memory(network, bytes.data(), size, &size), DESCENT_OK) << descent_last_error();
  return bytes;
}

/* Functions that no command calls. */
TEST_F(Faults, FunctionsOfNetworksWithoutFilesSurviveFailingAllocations) {
  make_inputs({"rich_model"});
  descent_network *network = nullptr, *made = nullptr, *ensemble = nullptr;
  ASSERT_EQ(descent_network_load("rich_model", &network), DESCENT_OK) << descent_last_error();
  const descent_network *const networks[] = {network, network, network};
  ASSERT_EQ(descent_network_join(networks, 3, &ensemble), DESCENT_OK) << descent_last_error();
  const std::string bytes = in_memory(network), joined = in_memory(ensemble);
  std::string copy = bytes;
  size_t size = 0;
  const char *target[] = {"another"}, *classes[] = {"n", "y"};
  descent_preprocessing p = descent_preprocessing_default();
  const std::vector<float> fill(static_cast<size_t>(descent_network_inputs(network)), 2.5F);
  p.fill = fill.data();
  const struct {
    const char *name;
    std::function<descent_status()> call;
  } functions[] = {
      {"clone", [&] { return descent_network_clone(network, &made); }},
      {"save_memory", [&] { return descent_network_save_memory(network, copy.data(), copy.size(), &size); }},
      {"load_memory", [&] { return descent_network_load_memory(bytes.data(), bytes.size(), &made); }},
      {"join", [&] { return descent_network_join(networks, 3, &made); }},
      {"member", [&] { return descent_network_member(ensemble, 2, &made); }},
      {"load_memory of an ensemble", [&] { return descent_network_load_memory(joined.data(), joined.size(), &made); }},
      {"onnx of an ensemble",
       [&] { return descent_network_export(ensemble, DESCENT_EXPORT_FORMAT_ONNX, "ensemble.onnx"); }},
      {"npz of an ensemble",
       [&] { return descent_network_export(ensemble, DESCENT_EXPORT_FORMAT_NPZ, "ensemble.npz"); }},
      {"set_names", [&] { return descent_network_set_names(network, nullptr, target, classes); }},
      {"set_preprocessing", [&] { return descent_network_set_preprocessing(network, &p); }},
  };
  cJSON_Hooks hooks{fault_malloc, free};
  cJSON_InitHooks(&hooks);
  for (const auto &function : functions) {
    const std::string before = in_memory(network);
    long failures = 0;
    for (descent_status status = DESCENT_ERROR_MEMORY; status != DESCENT_OK; failures++) {
      fault_choose(FAULT_ALLOCATION, failures + 1, false);
      status = function.call();
      fault_suspend();
      descent_network_free(made);
      made = nullptr;
      if (status == DESCENT_OK) break;
      ASSERT_EQ(status, DESCENT_ERROR_MEMORY) << function.name << " " << failures << ": " << descent_last_error();
      EXPECT_TRUE(in_memory(network) == before) << function.name << " " << failures;
    }
    EXPECT_GT(failures, 0) << function.name;
  }
  cJSON_InitHooks(nullptr);
  EXPECT_TRUE(copy == bytes);
  EXPECT_STREQ(descent_network_target_name(network, 0), "another");
  descent_network_free(network);
  descent_network_free(ensemble);
}

TEST_F(Faults, AFileSystemWithoutLocksIsReported) {
  make_inputs({});
  for (int error : {ENOLCK, ENOSYS, EOPNOTSUPP}) {
    std::filesystem::remove_all(folder_ / "kept");
    fault_flock(error);
    EXPECT_EQ(run(FAULT_CALL, 0, false, train + Arguments{"--out", "m", "--checkpoint", "kept"}), 0);
    fault_flock(0);
    EXPECT_EQ(lines(said()).front(),
              "descent train: warning: kept: this file system has no locks; make sure that no "
              "other training uses this folder");
  }
}

std::string name_of(const testing::TestParamInfo<Command> &each) { return each.param.name; }
INSTANTIATE_TEST_SUITE_P(Every, Allocation, testing::ValuesIn(commands), name_of);
INSTANTIATE_TEST_SUITE_P(Every, Call, testing::ValuesIn(commands), name_of);

}  // namespace
