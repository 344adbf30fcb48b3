/* Gradients exchanged between GPUs by a stand-in for NCCL: their sums have the bits of the naive order, of host memory and
 * of one rank; what is done where ranks cannot be connected, and where one is lost. Threads stand for the ranks. */
#include <chrono>
#include <random>

#include "cuda/nccl_controls.h"
#include "emulated_module.h"
#include "rank_threads.h"

namespace {

using Seconds = std::chrono::duration<double>;

class Nccl : public EmulatedModule {
 protected:
  void SetUp() override {
    EmulatedModule::SetUp();
    void *library = dlopen(DESCENT_EMULATED_NCCL, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    ASSERT_NE(library, nullptr) << dlerror();
    nccl = static_cast<emulated_nccl *>(dlsym(library, "emulated_nccl"));
    ASSERT_NE(nccl, nullptr) << dlerror();
    settle = reinterpret_cast<void (*)()>(dlsym(library, "emulated_nccl_settle"));
    ASSERT_NE(settle, nullptr) << dlerror();
    *nccl = {};
    setenv("DESCENT_NCCL", DESCENT_EMULATED_NCCL, 1);
    emulation.configure("devices=8");
  }
  void TearDown() override {
    unsetenv("DESCENT_NCCL");
    if (nccl && settle) {
      settle();
      EXPECT_EQ(nccl->live, 0) << "communicators left behind";
      *nccl = {};
    }
    EmulatedModule::TearDown();
  }
  emulated_nccl *nccl = nullptr;
  void (*settle)() = nullptr;
};

std::string device_of(int rank) { return "cuda:" + std::to_string(rank); }

/* ---- sums ---- */

/* What the ranks have before the sum or after it. */
struct Values {
  std::vector<float> gradients;
  double loss = 0;
};

/* Numbers of many sizes, whose sum depends on the order. */
std::vector<Values> draw(int ranks, int64_t n) {
  std::mt19937 random(7);
  std::vector<Values> drawn(static_cast<size_t>(ranks));
  const auto one = [&] {
    return std::ldexp(static_cast<float>(random() % 20001) - 10000.0F, static_cast<int>(random() % 24) - 20);
  };
  for (Values &values : drawn) {
    for (int64_t i = 0; i < n; i++) values.gradients.push_back(one());
    values.gradients[0] = -0.0F;
    values.loss = static_cast<double>(one()) / 3;
  }
  return drawn;
}

/* The sum over parts [first, first + count): of two halves where count is a power of two, or else of the largest such
 * block and the rest. */
template <typename T>
T in_order(const std::vector<T> &parts, size_t first, size_t count) {
  if (count == 1) return parts[first];
  size_t block = 1;
  while (2 * block < count) block *= 2;
  return in_order(parts, first, block) + in_order(parts, first + block, count - block);
}

Values sum_of(const std::vector<Values> &ranks) {
  Values sum;
  for (size_t i = 0; i < ranks[0].gradients.size(); i++) {
    std::vector<float> parts;
    for (const Values &values : ranks) parts.push_back(values.gradients[i]);
    sum.gradients.push_back(in_order(parts, 0, parts.size()));
  }
  std::vector<double> losses;
  for (const Values &values : ranks) losses.push_back(values.loss);
  sum.loss = in_order(losses, 0, losses.size());
  return sum;
}

int buffer_of(const struct plan *plan, const std::string &name) {
  for (int b = 0; b < plan->n_buffers; b++)
    if (name == plan->buffers[b].name) return b;
  return PLAN_NONE;
}

/* One rank's part: writes its values, runs the sum alone, and reads the result. */
void add_up(int rank, descent_communicator *communicator, const Case &c, int ranks, Values *values) {
  Training training(c);
  training.micro_batches = ranks;
  training.options.ranks.communicator = communicator;
  ASSERT_EQ(training.open(device_of(rank).c_str()), DESCENT_OK) << descent_last_error();
  ASSERT_EQ(program_connect(&training.program), DESCENT_OK) << descent_last_error();
  struct program &program = training.program;
  const struct plan *const plan = program.plan;
  const int gradients = buffer_of(plan, "gradients");
  const auto n = static_cast<int64_t>(values->gradients.size());
  ASSERT_EQ(plan->buffers[gradients].cols, n);
  ASSERT_EQ(program_write(&program, gradients, 0, n, PLAN_F32, values->gradients.data()), DESCENT_OK);
  ASSERT_EQ(program_write(&program, program.at.scalars, SCALAR_LOSS, 1, PLAN_F64, &values->loss), DESCENT_OK);
  ASSERT_EQ(plan->ops[plan->finish.first].kind, OP_ALLREDUCE);
  const plan_step finish = finish_of(training.steps(1)[0], 1);
  ASSERT_EQ(program_run(&program, {plan->finish.first, 1}, &finish, 1), DESCENT_OK) << descent_last_error();
  ASSERT_EQ(program_read(&program, gradients, 0, n, PLAN_F32, values->gradients.data()), DESCENT_OK)
      << descent_last_error();
  ASSERT_EQ(program_read(&program, program.at.scalars, SCALAR_LOSS, 1, PLAN_F64, &values->loss), DESCENT_OK);
}

/* Floats of the flat buffers. */
int64_t flat_floats(const Case &c) {
  Training training(c);
  EXPECT_EQ(training.open(), DESCENT_OK) << descent_last_error();
  return training.program.plan->buffers[buffer_of(training.program.plan, "gradients")].cols;
}

const Case sums[] = {
    {"odd", {7, 24, 17, 5}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, 0, DESCENT_PRECISION_FP32},
    {"bf16", {5, 33, 3}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, 0, DESCENT_PRECISION_BF16},
    {"few", {1, 1}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_MEAN_SQUARED_ERROR, 0, DESCENT_PRECISION_FP32},
};

TEST_F(Nccl, SumsInTheOrderOfABinaryCounterToTheBit) {
  for (const Case &c : sums) {
    const int64_t n = flat_floats(c);
    for (const int ranks : {2, 3, 4, 5, 7, 8})
      for (const bool through_host : {false, true})
        for (const char *how : {"devices=8", "devices=8,late=1"}) {
          if (through_host && (ranks > 4 || strstr(how, "late"))) continue;
          SCOPED_TRACE(testing::Message() << c.name << ", " << ranks << " ranks, host " << through_host << ", " << how);
          emulation.configure(how);
          setenv("DESCENT_NCCL", through_host ? "off" : DESCENT_EMULATED_NCCL, 1);
          nccl->groups = 0;
          std::vector<Values> values = draw(ranks, n);
          const Values expected = sum_of(values);
          RankThreads all(ranks);
          all.run([&](int rank, descent_communicator *communicator) {
            add_up(rank, communicator, c, ranks, &values[static_cast<size_t>(rank)]);
          });
          EXPECT_EQ(nccl->groups > 0, !through_host);
          for (const Values &sum : values) {
            ASSERT_EQ(std::memcmp(&sum.loss, &expected.loss, sizeof sum.loss), 0) << sum.loss << " " << expected.loss;
            for (size_t i = 0; i < sum.gradients.size(); i++)
              ASSERT_EQ(std::memcmp(&sum.gradients[i], &expected.gradients[i], sizeof(float)), 0)
                  << i << ": " << sum.gradients[i] << ", but " << expected.gradients[i];
          }
          if (HasFailure()) return;
        }
  }
}

/* Every rank verifies its GPU; with several, the sums of NCCL. */
TEST_F(Nccl, IsVerifiedByTheRanks) {
  for (const int ranks : {2, 3}) {
    RankThreads all(ranks);
    nccl->groups = 0;
    all.run([&](int rank, descent_communicator *communicator) {
      const Network network = make_network({5, 7, 3}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, 7);
      const Device device = open_device(device_of(rank).c_str()), reference = open_device("reference");
      descent_train_options options = descent_train_options_default();
      options.batch_size = 16;
      options.ranks.communicator = communicator;
      options.ranks.micro_batches = 2 * ranks;
      int64_t compared = 0;
      bool passed = false;
      const auto count = [](void *user, const descent_verify_row *row) {
        if (std::string(row->operation) == "allreduce") *static_cast<int64_t *>(user) = row->values;
      };
      EXPECT_EQ(
          descent_verify(network.get(), device.get(), reference.get(), &options, 37, 2, count, &compared, &passed),
          DESCENT_OK)
          << descent_last_error();
      EXPECT_TRUE(passed);
      EXPECT_EQ(compared, ranks * 3 * (network->n_parameters + 1)); /* two steps, and one with statistics */
    });
    EXPECT_GT(nccl->groups, 0);
  }
}

/* ---- trainings ---- */

struct Fitted {
  descent_status status;
  std::string error, placement;
  std::vector<float> parameters;
  std::vector<double> losses;
  double seconds;
};

int record(void *user, const descent_epoch_info *info) {
  auto *const fitted = static_cast<Fitted *>(user);
  fitted->placement = info->placement;
  fitted->losses.push_back(info->train_loss);
  if (info->validation) fitted->losses.push_back(info->validation->loss);
  return 0;
}

/* 101 rows in batches of 32: the last one has 5, fewer than 8 micro-batches. */
Fitted fit(const Case &c, const std::string &device_name, descent_communicator *communicator, int64_t micro_batches) {
  const auto begin = std::chrono::steady_clock::now();
  const int64_t outputs = c.widths.back();
  const bool regression = c.loss == DESCENT_LOSS_MEAN_SQUARED_ERROR;
  Rows rows = make_rows(ROWS, c.widths[0], regression ? outputs : 1, regression ? 0 : outputs == 1 ? 2 : outputs, 3);
  for (int64_t r = 0; r < ROWS; r++) rows.weights.push_back(0.5F + static_cast<float>(r % 7));
  const Dataset data = rows.dataset();
  const Device device = open_device(device_name.c_str());
  const Network network = make_network(c.widths, c.hidden, c.loss);
  Fitted fitted{};
  descent_train_options options = descent_train_options_default();
  options.epochs = 3, options.batch_size = BATCH, options.dropout = c.dropout, options.precision = c.precision;
  options.autotune = false, options.ranks.micro_batches = micro_batches, options.ranks.communicator = communicator;
  options.optimizer.kind = DESCENT_OPTIMIZER_ADAM, options.optimizer.learning_rate = 0.01;
  options.callbacks.user = &fitted, options.callbacks.on_epoch = record;
  fitted.status = descent_fit(network.get(), device.get(), data.get(), data.get(), &options, nullptr);
  if (fitted.status != DESCENT_OK) fitted.error = descent_last_error();
  fitted.parameters = parameters_of(network);
  fitted.seconds = Seconds(std::chrono::steady_clock::now() - begin).count();
  return fitted;
}

/* `shared`: all ranks use the first GPU. */
std::vector<Fitted> fit_on(int ranks, const Case &c, int64_t micro_batches, double seconds = 60, bool shared = false) {
  std::vector<Fitted> fitted(static_cast<size_t>(ranks));
  RankThreads all(ranks, seconds);
  all.run([&](int rank, descent_communicator *communicator) {
    fitted[static_cast<size_t>(rank)] = fit(c, device_of(shared ? 0 : rank), communicator, micro_batches);
  });
  return fitted;
}

void expect_equal(const Fitted &one, const std::vector<Fitted> &ranks) {
  ASSERT_EQ(one.status, DESCENT_OK) << one.error;
  for (size_t r = 0; r < ranks.size(); r++) {
    SCOPED_TRACE(testing::Message() << "rank " << r);
    ASSERT_EQ(ranks[r].status, DESCENT_OK) << ranks[r].error;
    ASSERT_EQ(ranks[r].parameters.size(), one.parameters.size());
    EXPECT_EQ(std::memcmp(ranks[r].parameters.data(), one.parameters.data(), one.parameters.size() * sizeof(float)), 0);
    EXPECT_EQ(ranks[r].losses, one.losses);
  }
}

bool ends_with(const std::string &text, const std::string &end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

TEST_F(Nccl, TrainingsHaveTheBytesOfOneRank) {
  for (const Case &c : {cases[0], cases[4]}) {
    SCOPED_TRACE(c.name);
    const Fitted one = fit(c, "cuda", nullptr, 8);
    for (const int ranks : {2, 4, 8}) {
      const std::vector<Fitted> all = fit_on(ranks, c, 8);
      expect_equal(one, all);
      for (const Fitted &fitted : all)
        EXPECT_TRUE(ends_with(fitted.placement, "gradients of " + std::to_string(ranks) + " ranks through NCCL 2.27.3"))
            << fitted.placement;
    }
    EXPECT_GT(nccl->groups, 0);
    if (HasFailure()) return;
  }
}

TEST_F(Nccl, ThreeRanksHaveTheBytesOfThreeMicroBatches) {
  expect_equal(fit(cases[0], "cuda", nullptr, 3), fit_on(3, cases[0], 3));
}

TEST_F(Nccl, IsPartOfAGraphFromItsVersion29On) {
  const Fitted one = fit(cases[0], "cuda", nullptr, 2);
  for (const int version : {2708, 2804, 20906, 22703}) {
    SCOPED_TRACE(version);
    for (int &given : nccl->version) given = version;
    nccl->groups = nccl->captured = 0;
    expect_equal(one, fit_on(2, cases[0], 2));
    /* Captured: two groups on two ranks, for finish and for finish_with_statistics, and those of connecting. Else two
     * for each of 12 steps. */
    EXPECT_EQ(nccl->captured, version < 20900 ? 0 : 8);
    EXPECT_EQ(nccl->groups, version < 20900 ? 4 * (1 + 12) : 8 + 4);
  }
}

TEST_F(Nccl, HostMemoryIsUsedWhereRanksCannotBeConnected) {
  const Fitted one = fit(cases[0], "cuda", nullptr, 2);
  const struct {
    const char *what, *nccl;
    int version;
    bool shared;
    std::string reason;
  } obstacles[] = {
      {"off", "off", 0, false, "rank 0 (node0): DESCENT_NCCL is off"},
      {"missing", "/none/libnccl.so.2", 0, false,
       "rank 0 (node0): NCCL cannot be loaded: /none/libnccl.so.2: cannot open shared object file: No such file or "
       "directory"},
      {"no library", "/etc/passwd", 0, false, "rank 0 (node0): NCCL cannot be loaded: /etc/passwd: invalid ELF header"},
      {"no NCCL", DESCENT_EMULATED_MODULE, 0, false, "has no ncclGetVersion: NCCL 2.7 or newer is needed"},
      {"one GPU", DESCENT_EMULATED_NCCL, 0, true, "ranks 0 and 1 share a GPU"},
      {"old on a rank", DESCENT_EMULATED_NCCL, 2604, false, "is NCCL 2.6.4: 2.7 or newer is needed"},
      {"other on a rank", DESCENT_EMULATED_NCCL, 21805, false, "rank 1 (node0) has NCCL 2.18.5, rank 0 2.27.3"},
  };
  for (const auto &obstacle : obstacles) {
    SCOPED_TRACE(obstacle.what);
    *nccl = {};
    nccl->version[1] = obstacle.version;
    setenv("DESCENT_NCCL", obstacle.nccl, 1);
    const std::vector<Fitted> ranks = fit_on(2, cases[0], 2, 60, obstacle.shared);
    expect_equal(one, ranks);
    for (const Fitted &fitted : ranks) {
      EXPECT_NE(fitted.placement.find("gradients of 2 ranks through host memory: "), std::string::npos)
          << fitted.placement;
      EXPECT_TRUE(ends_with(fitted.placement, obstacle.reason)) << fitted.placement;
    }
    EXPECT_EQ(nccl->groups, 0);
    if (HasFailure()) return;
  }
}

/* ---- faults ---- */

/* Every rank ends soon after the time limit, one of them with this error, and keeps finite weights. */
void expect_end(const std::vector<Fitted> &ranks, const std::string &error) {
  bool found = false;
  for (const Fitted &fitted : ranks) {
    EXPECT_EQ(fitted.status, DESCENT_ERROR_DEVICE);
    EXPECT_LT(fitted.seconds, 30);
    for (const float w : fitted.parameters) ASSERT_TRUE(std::isfinite(w));
    found |= fitted.error.find(error) != std::string::npos;
  }
  EXPECT_TRUE(found) << ranks[0].error << "\n" << ranks[1].error;
}

const double kLimit = 2; /* seconds; ranks that run are not so far apart, on a slow machine either */

TEST_F(Nccl, ASilentRankEndsTheOthersInTime) {
  const struct {
    int version, after;
    const char *how;
  } faults[] = {{22703, 0, "devices=8"}, {22703, 3, "devices=8,late=1"}, {2804, 8, "devices=8"}};
  for (const auto &fault : faults) {
    SCOPED_TRACE(testing::Message() << fault.version << ", " << fault.how << ", after " << fault.after);
    *nccl = {};
    for (int &given : nccl->version) given = fault.version;
    emulation.configure(fault.how);
    nccl->silent = 2, nccl->after = fault.after;
    expect_end(fit_on(3, cases[0], 3, kLimit), "the connection between the ranks failed: ");
    EXPECT_GE(nccl->aborted, 1);
    EXPECT_EQ(nccl->stuck, 0) << "aborted while a graph holds an exchange";
    EXPECT_EQ(nccl->live, 0);
    if (HasFailure()) return;
  }
}

/* Runs steps without reading anything, so that the host runs ahead of the device until its queue is full. */
descent_status run_ahead(int rank, descent_communicator *communicator, int ranks, int64_t steps = 8) {
  Training training(cases[0]);
  training.micro_batches = ranks;
  training.options.ranks.communicator = communicator;
  EXPECT_EQ(training.open(device_of(rank).c_str()), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(program_connect(&training.program), DESCENT_OK) << descent_last_error();
  const struct plan *const plan = training.program.plan;
  descent_status status = DESCENT_OK;
  for (const plan_step &step : training.steps(steps)) {
    const std::vector<plan_step> part = training.cut(step, rank, 1);
    const plan_step finish = finish_of(step, 1);
    status = program_run(&training.program, plan->micro_batch, part.data(), 1);
    if (status == DESCENT_OK) status = program_run(&training.program, plan->finish, &finish, 1);
    if (status != DESCENT_OK) return status;
  }
  double loss = 0;
  return program_read(&training.program, training.program.at.scalars, SCALAR_LOSS, 1, PLAN_F64, &loss);
}

TEST_F(Nccl, AHostThatRunsAheadOfALostRankEndsInTimeToo) {
  for (const char *limit : {"1000", "0"}) { /* megabytes of data on the GPU: none of it, and rows are streamed */
    SCOPED_TRACE(limit);
    setenv("DESCENT_GPU_DATA_MB", limit, 1);
    *nccl = {};
    nccl->silent = 2, nccl->after = 4;
    RankThreads all(2, kLimit);
    all.run([&](int rank, descent_communicator *communicator) {
      EXPECT_EQ(run_ahead(rank, communicator, 2), DESCENT_ERROR_DEVICE);
    });
    EXPECT_EQ(nccl->aborted, 2);
    EXPECT_EQ(nccl->stuck, 0) << "aborted while a graph holds an exchange, or a launch of it is queued";
  }
  unsetenv("DESCENT_GPU_DATA_MB");
}

TEST_F(Nccl, AFailureThatItReportsEndsAllRanks) {
  nccl->fails = 2, nccl->after = 7;
  expect_end(fit_on(2, cases[0], 2, kLimit),
             "the exchange of gradients through NCCL failed: remote process exited or there was a network error "
             "(NCCL_DEBUG=INFO shows more; DESCENT_NCCL=off exchanges gradients through host memory)");
}

TEST_F(Nccl, ARankThatIsNotConnectedEndsTheOthersInTime) {
  nccl->absent = 3;
  nccl->patience = 6;
  const std::vector<Fitted> ranks = fit_on(4, cases[0], 4, kLimit);
  expect_end(ranks, "connecting the ranks through NCCL failed: unhandled system error (NCCL_DEBUG=INFO shows more;");
  expect_end(ranks, "rank 2 (node1) has not answered for 2 s: see whether it still runs, or allow more time");
  std::this_thread::sleep_for(Seconds(6)); /* the threads that were left end */
}

TEST_F(Nccl, ALostRankIsNamed) {
  RankThreads all(3, kLimit);
  all.run([&](int rank, descent_communicator *communicator) {
    if (rank == 1) {
      EXPECT_EQ(run_ahead(rank, communicator, 3, 0), DESCENT_OK);
      return;
    }
    EXPECT_EQ(run_ahead(rank, communicator, 3), DESCENT_ERROR_DEVICE);
    EXPECT_STREQ(descent_last_error(),
                 "rank 1 (node0) has not answered for 2 s: see whether it still runs, or allow more time");
  });
  EXPECT_EQ(nccl->aborted, 2);
  EXPECT_EQ(nccl->stuck, 0);
}

TEST_F(Nccl, TheLimitIsNotOneOfTheRanksOwnWork) {
  emulation.configure("devices=8,slow=3000"); /* milliseconds of a micro-batch: longer than the limit */
  RankThreads all(2, kLimit);
  all.run([&](int rank, descent_communicator *communicator) {
    EXPECT_EQ(run_ahead(rank, communicator, 2, 1), DESCENT_OK) << descent_last_error();
  });
}

TEST_F(Nccl, AnExchangeThatCannotBeCapturedIsLaunchedPlainly) {
  const Fitted one = fit(cases[0], "cuda", nullptr, 2);
  nccl->uncapturable = 2;
  expect_equal(one, fit_on(2, cases[0], 2));
  EXPECT_EQ(nccl->captured, 4) << "those of the other rank";
}

TEST_F(Nccl, ACommunicatorThatIsMadeByHalfIsNotUsed) {
  nccl->half_made = 2;
  const std::vector<Fitted> ranks = fit_on(2, cases[0], 2, kLimit);
  expect_end(ranks, "connecting the ranks through NCCL failed: unhandled system error (NCCL_DEBUG=INFO shows more;");
  EXPECT_EQ(nccl->aborted, 2);
}

TEST_F(Nccl, AThreadThatIsLeftWhileItConnectsUsesNothingThatOthersFree) {
  nccl->slow = 5;
  expect_end(fit_on(2, cases[0], 2, kLimit),
             "the connection between the ranks failed: NCCL has not connected them within 2 s, though all still run");
  std::this_thread::sleep_for(Seconds(5));
  settle();
  EXPECT_EQ(nccl->groups, 2) << "the thread has not ended behind its first exchange";
  EXPECT_EQ(nccl->aborted, 2);
}

TEST_F(Nccl, ACommunicatorIsAbortedWhereTheRanksHaveLostEachOther) {
  RankThreads all(2, kLimit);
  all.run([&](int rank, descent_communicator *communicator) {
    EXPECT_EQ(run_ahead(rank, communicator, 2, 1), DESCENT_OK) << descent_last_error();
    Training training(cases[0]);
    training.micro_batches = 2;
    training.options.ranks.communicator = communicator;
    ASSERT_EQ(training.open(device_of(rank).c_str()), DESCENT_OK) << descent_last_error();
    ASSERT_EQ(program_connect(&training.program), DESCENT_OK) << descent_last_error();
    communicator->broken = rank == 0;
  });
  EXPECT_EQ(nccl->destroyed, 3);
  EXPECT_EQ(nccl->aborted, 1);
  EXPECT_EQ(nccl->stuck, 0);
}

TEST_F(Nccl, ACommunicatorThatDoesNotEndIsLeft) {
  nccl->parting = 10;
  const std::vector<Fitted> ranks = fit_on(2, cases[0], 2, kLimit);
  for (const Fitted &fitted : ranks) {
    EXPECT_EQ(fitted.status, DESCENT_OK) << fitted.error;
    EXPECT_LT(fitted.seconds, 9);
  }
  std::this_thread::sleep_for(Seconds(10)); /* the threads that were left end */
}

}  // namespace
