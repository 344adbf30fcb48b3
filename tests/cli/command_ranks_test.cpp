// The command as one of several processes of a launcher, as far as that shows without MPI. tests/mpi runs it with MPI.
#include <gtest/gtest.h>

#include <map>

#include "command.h"

namespace {

// Variables of the environment during its lifetime.
class Variables {
 public:
  explicit Variables(const std::map<std::string, std::string> &variables) : variables_(variables) {
    for (const auto &[name, value] : variables_) setenv(name.c_str(), value.c_str(), 1);
  }
  ~Variables() {
    for (const auto &[name, value] : variables_) unsetenv(name.c_str());
  }
  Variables(const Variables &) = delete;
  Variables &operator=(const Variables &) = delete;

 private:
  std::map<std::string, std::string> variables_;
};

class CommandRanks : public ::testing::Test {
 protected:
  void SetUp() override {
    folder.write("data.csv", make_data("binary", 60));
    setenv("DESCENT_BACKEND_PATH", folder.path().c_str(), 1); /* which has no module */
    unsetenv("DESCENT_LAUNCHED");
  }
  void TearDown() override { unsetenv("DESCENT_BACKEND_PATH"); }
  // A stand-in for mpirun, first in the PATH, that writes its arguments.
  void write_mpirun() const {
    folder.write("mpirun",
                 "#!/bin/sh\nprintf '%s\\n' \"$@\" >arguments\necho \"$DESCENT_LAUNCHED\" >>arguments\nexit 9\n");
    chmod((folder / "mpirun").c_str(), 0700);
  }
  Folder folder;
};

const Arguments cpu = {"--device", "cpu", "--quiet"};

// Other commands that connect the ranks, quick.
const Arguments on_cpu = {"--inputs", "3", "--hidden", "4", "--outputs", "2", "--device", "cpu"};
const Arguments checks[] = {Arguments{"verify", "--rows", "40"} + on_cpu,
                            Arguments{"bench", "--seconds", "0.01"} + on_cpu};

TEST_F(CommandRanks, ProcessesOfALauncherAreRefusedWithoutMpi) {
  const struct {
    std::map<std::string, std::string> variables;
    const char *launcher;
  } launchers[] = {{{{"OMPI_COMM_WORLD_SIZE", "3"}, {"OMPI_COMM_WORLD_RANK", "0"}}, "mpirun"},
                   {{{"PMI_SIZE", "3"}, {"PMI_RANK", "0"}}, "mpirun"},
                   {{{"SLURM_STEP_NUM_TASKS", "3"}, {"SLURM_PROCID", "0"}}, "srun"},
                   {{{"SLURM_NTASKS", "3"}, {"SLURM_PROCID", "0"}, {"PMIX_RANK", "0"}}, "srun"}};
  for (const auto &launcher : launchers) {
    const Variables variables(launcher.variables);
    for (const Arguments &command : {quick + cpu, checks[0], checks[1]}) {
      const Result result = folder.run(command);
      EXPECT_EQ(result.code, 4);
      EXPECT_EQ(result.err, "descent " + command[0] + ": no MPI: DESCENT_BACKEND_PATH " + folder.path() +
                                " has no libdescent_mpi.so (" + launcher.launcher +
                                " started 3 processes; --ranks off lets each of them work alone)\n");
      EXPECT_EQ(result.out, "");
    }
    EXPECT_FALSE(folder.has("model.safetensors"));
  }
}

// A launcher ends the other ranks once one has failed. A rank that still runs has another error, and reports it.
TEST_F(CommandRanks, AnotherProcessReportsIfItIsNotEnded) {
  const Variables variables({{"OMPI_COMM_WORLD_SIZE", "3"}, {"OMPI_COMM_WORLD_RANK", "2"}});
  Result result = folder.run(quick + cpu);
  EXPECT_EQ(result.code, 4);
  expect_one_line(result.err);
  expect_contains(result.err, "descent train: rank 2 (");
  expect_contains(result.err, "): no MPI: DESCENT_BACKEND_PATH ");
  EXPECT_EQ(result.out, "");
  result = folder.run(quick + Arguments{"--epochz", "3"});
  EXPECT_EQ(result.code, 2);
  expect_one_line(result.err);
  expect_contains(result.err, "unknown option '--epochz'");
}

TEST_F(CommandRanks, OnlyTheFirstProcessPrintsHelpAndWrongUsage) {
  const struct {
    Arguments arguments;
    int code;
  } cases[] = {{{}, 2},
               {{"trian"}, 2},
               {{"--help"}, 0},
               {{"--version"}, 0},
               {{"--nothing"}, 2},
               {{"info"}, 2},
               {{"train", "--help"}, 0},
               {{"devices", "--help"}, 0},
               {{"verify", "--help"}, 0},
               {{"bench", "-?"}, 0}};
  for (const auto &c : cases)
    for (const char *rank : {"0", "1"}) {
      const Variables variables({{"OMPI_COMM_WORLD_SIZE", "2"}, {"OMPI_COMM_WORLD_RANK", rank}});
      const Result result = folder.run(c.arguments);
      EXPECT_EQ(result.code, c.code) << ::testing::PrintToString(c.arguments);
      EXPECT_EQ((result.out + result.err).empty(), *rank == '1') << ::testing::PrintToString(c.arguments);
    }
}

TEST_F(CommandRanks, WrongOptionsAreReportedBeforeMissingMpi) {
  const Variables variables({{"OMPI_COMM_WORLD_SIZE", "3"}, {"OMPI_COMM_WORLD_RANK", "0"}});
  const Result result = folder.run(quick + Arguments{"--epochz", "3"});
  EXPECT_EQ(result.code, 2);
  expect_one_line(result.err);
  expect_contains(result.err, "unknown option '--epochz'");
}

TEST_F(CommandRanks, OneProcessAndABatchScriptTrainAsUsual) {
  const std::map<std::string, std::string> alone[] = {
      {{"OMPI_COMM_WORLD_SIZE", "1"}, {"OMPI_COMM_WORLD_RANK", "0"}},
      {{"SLURM_NTASKS", "8"}, {"SLURM_PROCID", "0"}},
      {{"SLURM_STEP_NUM_TASKS", "1"}, {"SLURM_PROCID", "0"}},
      {{"SLURM_STEP_NUM_TASKS", "1"}, {"SLURM_NTASKS", "4"}, {"SLURM_PROCID", "0"}, {"PMIX_RANK", "0"}},
      {{"OMPI_COMM_WORLD_SIZE", "4"}, {"OMPI_COMM_WORLD_RANK", "four"}}};
  for (const auto &environment : alone) {
    const Variables variables(environment);
    const Result result = folder.run(quick + cpu);
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_TRUE(folder.has("model.safetensors"));
  }
}

TEST_F(CommandRanks, RanksOffLetsEachProcessTrainAlone) {
  for (const char *rank : {"0", "2"}) {
    const Variables variables({{"OMPI_COMM_WORLD_SIZE", "3"}, {"OMPI_COMM_WORLD_RANK", rank}});
    Result result = folder.run(quick + cpu + Arguments{"--ranks", "off", "--out", rank});
    EXPECT_EQ(result.code, 0) << result.err;
    expect_contains(result.out, "model saved to");
    result = folder.run(quick + Arguments{"--ranks", "off", "--device", "gpu"});
    EXPECT_EQ(result.code, 2);
    expect_contains(result.err, "unknown device 'gpu'");
  }
  EXPECT_EQ(folder.read("0"), folder.read("2"));
}

TEST_F(CommandRanks, RanksOffLetsEachProcessCheckAlone) {
  for (const char *rank : {"0", "2"}) {
    const Variables variables({{"OMPI_COMM_WORLD_SIZE", "3"}, {"OMPI_COMM_WORLD_RANK", rank}});
    for (const Arguments &command : checks) {
      const Result result = folder.run(command + Arguments{"--ranks", "off"});
      EXPECT_EQ(result.code, 0) << result.err;
      expect_contains(result.out, "\nupdate ");
      EXPECT_EQ(result.out.find("\nallreduce "), std::string::npos) << result.out;
    }
    EXPECT_EQ(folder.run(checks[1] + Arguments{"--predict", "--ranks", "off"}).code, 0);
  }
}

// ---- one rank that exchanges gradients with itself ----

TEST_F(CommandRanks, SelfTrainsAsOneProcess) {
  ASSERT_EQ(folder.run(quick + cpu + Arguments{"--micro-batches", "2", "--out", "alone"}).code, 0);
  const Result result =
      folder.run(quick + Arguments{"--device", "cpu", "--micro-batches", "2", "--ranks", "self", "--out", "self"});
  ASSERT_EQ(result.code, 0) << result.err;
  expect_contains(result.err, "ranks       1, which exchanges gradients with itself, 2 micro-batches\n");
  EXPECT_EQ(folder.read("self"), folder.read("alone"));
}

TEST_F(CommandRanks, SelfChecksAndTimesAllreduce) {
  for (const Arguments &command : checks) {
    const Result whole = folder.run(command + Arguments{"--ranks", "self"});
    EXPECT_EQ(whole.code, 0) << whole.err;
    expect_contains(whole.err, "ranks: 1, which exchanges gradients with itself, 1 micro-batch\n");
    expect_contains(whole.out, "\nallreduce ");
    EXPECT_EQ(whole.out.find("\ncombine "), std::string::npos) << whole.out;
    const Result cut = folder.run(command + Arguments{"--ranks", "self", "--micro-batches", "4"});
    EXPECT_EQ(cut.code, 0) << cut.err;
    expect_contains(cut.out, "\ncombine ");
    expect_contains(cut.out, "\nallreduce ");
    const Result alone = folder.run(command + Arguments{"--micro-batches", "4"});
    EXPECT_EQ(alone.code, 0) << alone.err;
    expect_contains(alone.err, "micro-batches: 4\n");
    expect_contains(alone.out, "\ncombine ");
    EXPECT_EQ(alone.out.find("\nallreduce "), std::string::npos) << alone.out;
  }
}

TEST_F(CommandRanks, SelfIsOneProcess) {
  for (const Arguments &command : {quick, checks[0], checks[1]}) {
    const std::string name = "descent " + command[0];
    for (const char *rank : {"0", "1"}) {
      const Variables variables({{"PMI_SIZE", "2"}, {"PMI_RANK", rank}});
      const Result result = folder.run(command + Arguments{"--ranks", "self"});
      EXPECT_EQ(result.code, 2);
      expect_one_line(result.err);
      expect_contains(result.err, "--ranks self: runs as one process: start it without mpirun\n");
    }
    for (const std::string ranks : {"self", "off"}) {
      const Result gpus = folder.run(command + Arguments{"--ranks", ranks, "--device", "cuda:0-3"});
      EXPECT_EQ(gpus.code, 2);
      EXPECT_EQ(gpus.err,
                name + ": --ranks " + ranks + ": each process uses one device: choose one, not --device cuda:0-3\n");
    }
  }
}

// ---- refusals ----

TEST_F(CommandRanks, APredictionIsTimedInOneProcess) {
  const Arguments predict = checks[1] + Arguments{"--predict"};
  const struct {
    Arguments arguments;
    const char *says;
  } cases[] = {{{"--device", "cuda:0-3"}, "--predict: runs as one process: choose one GPU, not --device cuda:0-3"},
               {{"--ranks", "self"}, "--ranks self applies to training only: omit it with --predict"},
               {{"--micro-batches", "2"}, "--micro-batches applies to training only: omit it with --predict"}};
  for (const auto &c : cases) {
    const Result result = folder.run(predict + c.arguments);
    EXPECT_EQ(result.code, 2);
    EXPECT_EQ(result.err, "descent bench: " + std::string(c.says) + "\n");
  }
  const Variables variables({{"PMI_SIZE", "2"}, {"PMI_RANK", "0"}});
  const Result result = folder.run(predict);
  EXPECT_EQ(result.code, 2);
  EXPECT_EQ(result.err, "descent bench: --predict: runs as one process: start it without mpirun\n");
}

TEST_F(CommandRanks, MicroBatchesThatDoNotFitAreRefusedBeforeAnythingIsPrinted) {
  for (const Arguments &command : checks) {
    const Result more = folder.run(command + Arguments{"--batch-size", "8", "--micro-batches", "9"});
    EXPECT_EQ(more.code, 2);
    EXPECT_EQ(more.err, "descent " + command[0] + ": micro_batches 9: must be at most batch_size 8\n");
    const Result negative = folder.run(command + Arguments{"--micro-batches", "-1"});
    EXPECT_EQ(negative.code, 2);
    expect_one_line(negative.err);
    expect_contains(negative.err, "--micro-batches '-1': must be a whole number");
  }
}

TEST_F(CommandRanks, RefusesOtherValues) {
  for (const Arguments &command : {quick, checks[0], checks[1]}) {
    Result result = folder.run(command + Arguments{"--ranks", "4"});
    EXPECT_EQ(result.code, 2);
    EXPECT_EQ(result.err, "descent " + command[0] + ": --ranks '4': must be auto, off or self\n");
    for (const char *seconds : {"0", "-1", "x"}) {
      result = folder.run(command + Arguments{"--comm-timeout", seconds});
      EXPECT_EQ(result.code, 2);
      expect_contains(result.err, "--comm-timeout");
    }
  }
}

TEST_F(CommandRanks, OtherCommandsRunAsOneProcess) {
  ASSERT_EQ(folder.run(quick + cpu).code, 0);
  const Arguments commands[] = {{"evaluate", "model.safetensors", "data.csv"},
                                {"predict", "model.safetensors", "data.csv"},
                                {"convert", "data.csv", "data.npz"},
                                {"export", "model.safetensors"},
                                {"plot", "log.jsonl"},
                                {"sweep", "data.csv", "--lr", "0.1;0.2"},
                                {"info", "model.safetensors"},
                                {"devices"}};
  for (const char *rank : {"0", "1"}) {
    const Variables variables({{"PMI_SIZE", "2"}, {"PMI_RANK", rank}});
    for (const Arguments &command : commands) {
      const Result result = folder.run(command);
      EXPECT_EQ(result.code, 2);
      EXPECT_EQ(result.err,
                *rank == '0' ? "descent " + command[0] + ": runs as one process: start it without mpirun\n" : "");
      EXPECT_EQ(result.out, "");
    }
  }
}

// ---- GPUs of one machine ----

TEST_F(CommandRanks, ARangeOfGpusStartsARankForEach) {
  const std::string path = std::string(getenv("PATH"));
  const Variables variables({{"DESCENT_BACKEND_PATH", std::filesystem::path(DESCENT_EMULATED_MODULE).parent_path()},
                             {"DESCENT_EMULATE", "devices=4"}});
  write_mpirun();
  setenv("PATH", (folder.path() + ":" + path).c_str(), 1);
  for (const char *command : {"verify", "bench"}) {
    const Result started = folder.run({command, "--device", "cuda:0-1", "--micro-batches", "4"});
    EXPECT_EQ(started.code, 9) << started.err;
    EXPECT_EQ(folder.read("arguments"), "-n\n2\n" + std::filesystem::canonical(DESCENT_COMMAND).string() + "\n" +
                                            command + "\n--device\ncuda:0-1\n--micro-batches\n4\n1\n");
  }
  Result result = folder.run(quick + Arguments{"--device", "cuda:1-3", "--quiet"});
  EXPECT_EQ(result.code, 9) << result.err;
  const std::string command = std::filesystem::canonical(DESCENT_COMMAND);
  std::string expected = "-n\n3\n" + command + "\ntrain\n"; /* operands come last, as getopt orders them */
  for (size_t i = 2; i < quick.size(); i++) expected += quick[i] + "\n";
  expected += "--device\ncuda:1-3\n--quiet\ndata.csv\n1\n";
  EXPECT_EQ(folder.read("arguments"), expected);

  result = folder.run(quick + Arguments{"--device", "cuda:0-7"});
  EXPECT_EQ(result.code, 4);
  EXPECT_EQ(result.err, "descent train: --device cuda:0-7: this machine has 4 GPUs (see descent devices)\n");

  setenv("PATH", folder.path().c_str(), 1);
  std::filesystem::remove(folder / "mpirun");
  result = folder.run(quick + Arguments{"--device", "cuda:0-3"});
  EXPECT_EQ(result.code, 4);
  EXPECT_EQ(
      result.err,
      "descent train: --device cuda:0-3: mpirun is missing, which starts a rank for each GPU (install openmpi-bin)\n");
  setenv("PATH", path.c_str(), 1);

  const Variables launched(std::map<std::string, std::string>{{"DESCENT_LAUNCHED", "1"}});
  result = folder.run(quick + Arguments{"--device", "cuda:0-3"});
  EXPECT_EQ(result.code, 4);
  EXPECT_EQ(result.err,
            "descent train: --device cuda:0-3: mpirun started this process, but not as one of several ranks\n");
}

TEST_F(CommandRanks, OtherTextsAreNoRangeOfGpus) {
  for (const char *device : {"cuda:3-1", "cuda:2-2", "cuda:0-", "cuda:-1-2", "cuda: 0-2", "cuda:0-2x", "cuda:00-2"}) {
    const Result result = folder.run(quick + Arguments{"--device", device});
    EXPECT_EQ(result.code, 2) << device;
    expect_contains(result.err, "unknown device '" + std::string(device) + "'");
  }
}

TEST_F(CommandRanks, ARangeOfGpusNeedsGpus) {
  const Result result = folder.run(quick + Arguments{"--device", "cuda:0-1"});
  EXPECT_EQ(result.code, 4);
  expect_one_line(result.err);
  expect_contains(result.err, "no CUDA: DESCENT_BACKEND_PATH");
}

}  // namespace
