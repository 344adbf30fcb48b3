/* Gradients exchanged between GPUs by a stand-in for NCCL: their sums have the bits of the naive order, of host memory and
 * of one rank; what is done where ranks cannot be connected, and where one is lost. Threads stand for the ranks. */
#include <random>

#include "nccl_ranks.h"

namespace {

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
          if (ranks % 4 == 0 && strstr(how, "late")) continue; /* as late with 3, 5 and 7, which have a rest */
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

TEST_F(Nccl, TrainingsHaveTheBytesOfOneRank) {
  for (const int which : {0, 4}) {
    const Case &c = cases[which];
    SCOPED_TRACE(c.name);
    const Fitted one = fit(c, "cuda", nullptr, 8);
    for (const int ranks : {2, 4, 8}) {
      if (&c != &cases[0] && ranks != 4) continue;
      const std::vector<Fitted> all = fit_on(ranks, c, 8);
      expect_equal(one, all);
      for (const Fitted &fitted : all)
        EXPECT_TRUE(ends_with(fitted.placement, "gradients of " + std::to_string(ranks) +
                                                    " ranks through NCCL 2.27.3, in the step's graph"))
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
    nccl->groups = nccl->captured = nccl->graph_runs = 0;
    expect_equal(one, fit_on(2, cases[0], 2));
    /* Captured: two groups on two ranks, for finish and for finish_with_statistics, and those of connecting. Else two
     * for each of 12 steps. */
    EXPECT_EQ(nccl->captured, version < 20900 ? 0 : 8);
    EXPECT_EQ(nccl->groups, version < 20900 ? 4 * (1 + 12) : 8 + 4);
    EXPECT_EQ(nccl->graph_runs, version < 20900 ? 0 : 4 * 12);
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
  const std::vector<Fitted> ranks = fit_on(4, cases[0], 4, kLimit);
  expect_end(ranks, "connecting the ranks through NCCL failed: unhandled system error (NCCL_DEBUG=INFO shows more;");
  expect_end(ranks,
             "rank 2 (node1) has not answered for " + limit_text() + ": see whether it still runs, or allow more time");
  let_go();
}

TEST_F(Nccl, ALostRankIsNamed) {
  RankThreads all(3, kLimit);
  all.run([&](int rank, descent_communicator *communicator) {
    if (rank == 1) {
      EXPECT_EQ(run_ahead(rank, communicator, 3, 0), DESCENT_OK);
      return;
    }
    EXPECT_EQ(run_ahead(rank, communicator, 3), DESCENT_ERROR_DEVICE);
    EXPECT_EQ(descent_last_error(), "rank 1 (node0) has not answered for " + limit_text() +
                                        ": see whether it still runs, or allow more time");
  });
  EXPECT_EQ(nccl->aborted, 2);
  EXPECT_EQ(nccl->stuck, 0);
}

TEST_F(Nccl, TheLimitIsNotOneOfTheRanksOwnWork) {
  const auto longer = std::to_string(static_cast<int>(1500 * kLimit)); /* milliseconds of a micro-batch */
  emulation.configure(("devices=8,slow=" + longer).c_str());
  RankThreads all(2, kLimit);
  all.run([&](int rank, descent_communicator *communicator) {
    EXPECT_EQ(run_ahead(rank, communicator, 2, 1), DESCENT_OK) << descent_last_error();
  });
}

TEST_F(Nccl, AnExchangeThatOneRankCannotCaptureIsLaunchedPlainlyOnAll) {
  const Fitted one = fit(cases[0], "cuda", nullptr, 2);
  nccl->uncapturable = 2;
  const std::vector<Fitted> ranks = fit_on(2, cases[0], 2);
  expect_equal(one, ranks);
  EXPECT_EQ(nccl->captured, 4) << "tried by the other rank";
  EXPECT_EQ(nccl->graph_runs, 0);
  for (const Fitted &fitted : ranks)
    EXPECT_TRUE(ends_with(fitted.placement, "through NCCL 2.27.3, launched by the host")) << fitted.placement;
}

/* A capture that the exchange is not to blame for. */
TEST_F(Nccl, ACaptureThatFailsOnOneRankIsLaunchedPlainlyOnAll) {
  RankThreads all(2, kLimit);
  all.run([&](int rank, descent_communicator *communicator) {
    Training training(cases[0]);
    training.micro_batches = 2;
    training.options.ranks.communicator = communicator;
    ASSERT_EQ(training.open(device_of(rank).c_str()), DESCENT_OK) << descent_last_error();
    double none = 0, both[2];
    ASSERT_EQ(communicator_gather(communicator, &none, sizeof none, both), DESCENT_OK);
    if (rank == 0) emulation.configure("devices=8,capture=1");
    ASSERT_EQ(communicator_gather(communicator, &none, sizeof none, both), DESCENT_OK);
    EXPECT_EQ(program_connect(&training.program), DESCENT_OK) << descent_last_error();
    ASSERT_EQ(training.bind(), DESCENT_OK) << descent_last_error();
    const std::vector<plan_step> steps = training.steps(1), parts = training.cut(steps[0], rank, 1);
    const plan_step finish = finish_of(steps[0], 1);
    const struct plan *const plan = training.program.plan;
    EXPECT_EQ(program_run(&training.program, plan->micro_batch, parts.data(), 1), DESCENT_OK) << descent_last_error();
    EXPECT_EQ(program_run(&training.program, plan->finish, &finish, 1), DESCENT_OK) << descent_last_error();
    const std::string placement = training.program.backend->placement(training.program.compiled);
    EXPECT_TRUE(ends_with(placement, "launched by the host")) << placement;
  });
  EXPECT_EQ(nccl->graph_runs, 0);
  EXPECT_EQ(nccl->stuck, 0);
}

TEST_F(Nccl, ACommunicatorThatIsMadeByHalfIsNotUsed) {
  nccl->half_made = 2;
  const std::vector<Fitted> ranks = fit_on(2, cases[0], 2, kLimit);
  expect_end(ranks, "connecting the ranks through NCCL failed: unhandled system error (NCCL_DEBUG=INFO shows more;");
  EXPECT_EQ(nccl->aborted, 2);
}

TEST_F(Nccl, AThreadThatIsLeftWhileItConnectsUsesNothingThatOthersFree) {
  nccl->slow = 60;
  expect_end(fit_on(2, cases[0], 2, kLimit),
             "the connection between the ranks failed: NCCL has not connected them within " + limit_text() +
                 ", though all still run");
  let_go();
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
  nccl->parting = 60;
  const std::vector<Fitted> ranks = fit_on(2, cases[0], 2, kLimit);
  for (const Fitted &fitted : ranks) {
    EXPECT_EQ(fitted.status, DESCENT_OK) << fitted.error;
    EXPECT_LT(fitted.seconds, 30);
  }
  let_go();
}

}  // namespace
