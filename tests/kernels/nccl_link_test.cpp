/* One rank that exchanges gradients with itself through a stand-in for NCCL: the way of several ranks, on one GPU. And what
 * is measured of exchanges: the link between the ranks, and the sum over them inside a step. */
#include "nccl_ranks.h"

namespace {

/* ---- one rank ---- */

class Self {
 public:
  explicit Self(double seconds = 60) {
    EXPECT_EQ(descent_communicator_open("self", seconds, &communicator_), DESCENT_OK) << descent_last_error();
  }
  ~Self() { descent_communicator_close(communicator_); }
  Self(const Self &) = delete;
  Self &operator=(const Self &) = delete;
  descent_communicator *get() const { return communicator_; }

 private:
  descent_communicator *communicator_ = nullptr;
};

TEST_F(Nccl, OneRankThatExchangesWithItselfHasTheBytesOfOneThatDoesNot) {
  for (const int which : {0, 4})
    for (const int micro_batches : {1, 2, 4}) {
      if (which != 0 && micro_batches != 4) continue;
      const Case &c = cases[which];
      const Fitted alone = fit(c, "cuda", nullptr, micro_batches);
      for (const int version : {2708, 22703}) {
        SCOPED_TRACE(testing::Message() << c.name << ", " << micro_batches << " micro-batches, NCCL " << version);
        nccl->version[0] = version;
        nccl->groups = nccl->captured = 0;
        const Self self;
        const Fitted fitted = fit(c, "cuda", self.get(), micro_batches);
        expect_equal(alone, {fitted});
        EXPECT_TRUE(ends_with(fitted.placement,
                              version == 2708
                                  ? "gradients of 1 rank, to itself, through NCCL 2.7.8, launched by the host"
                                  : "gradients of 1 rank, to itself, through NCCL 2.27.3, in the step's graph"))
            << fitted.placement;
        /* Two to connect; then two in each of two graphs, or two for each of 12 steps. */
        EXPECT_EQ(nccl->captured, version == 2708 ? 0 : 4);
        EXPECT_EQ(nccl->groups, version == 2708 ? 2 + 24 : 2 + 4);
        EXPECT_EQ(nccl->in_place, 0) << "nothing is sent to connect";
        if (HasFailure()) return;
      }
    }
}

TEST_F(Nccl, GradientsThatDoNotArriveAtTheRankItselfAreNoticed) {
  for (const int version : {2708, 22703}) {
    SCOPED_TRACE(version);
    nccl->version[0] = version;
    nccl->loses = 1;
    const Self self;
    const Fitted fitted = fit(cases[0], "cuda", self.get(), 2);
    EXPECT_EQ(fitted.status, DESCENT_ERROR_DIVERGED) << fitted.error;
  }
}

TEST_F(Nccl, OneRankUsesHostMemoryWhereThereIsNoNccl) {
  const Fitted alone = fit(cases[0], "cuda", nullptr, 2);
  setenv("DESCENT_NCCL", "off", 1);
  const Self self;
  const Fitted fitted = fit(cases[0], "cuda", self.get(), 2);
  expect_equal(alone, {fitted});
  EXPECT_NE(fitted.placement.find("gradients of 1 rank, to itself, through host memory: rank 0 ("), std::string::npos)
      << fitted.placement;
  EXPECT_TRUE(ends_with(fitted.placement, "): DESCENT_NCCL is off")) << fitted.placement;
  EXPECT_EQ(nccl->groups, 0);
}

TEST_F(Nccl, OneRankWhoseExchangeDoesNotEndEndsInTime) {
  nccl->silent = 1, nccl->after = 6;
  const Self self(kLimit);
  const Fitted fitted = fit(cases[0], "cuda", self.get(), 2);
  EXPECT_EQ(fitted.status, DESCENT_ERROR_DEVICE);
  EXPECT_EQ(fitted.error.find("the connection between the ranks failed: no gradients have arrived through NCCL for " +
                              limit_text() + ", though all ranks still run: allow more time (NCCL_DEBUG=INFO"),
            0U)
      << fitted.error;
  EXPECT_LT(fitted.seconds, 30);
  EXPECT_EQ(nccl->aborted, 1);
  EXPECT_EQ(nccl->stuck, 0);
}

/* ---- compiled plans of several ranks ---- */

/* Calls body(rank, communicator, training) on each rank, connected; one rank exchanges with itself. */
template <typename Body>
void connected(int ranks, double seconds, Body body) {
  const auto one = [&](int rank, descent_communicator *communicator) {
    Training training(cases[0]);
    training.micro_batches = ranks;
    training.options.ranks.communicator = communicator;
    ASSERT_EQ(training.open(device_of(rank).c_str()), DESCENT_OK) << descent_last_error();
    ASSERT_EQ(program_connect(&training.program), DESCENT_OK) << descent_last_error();
    body(rank, communicator, training);
  };
  if (ranks == 1)
    one(0, Self(seconds).get());
  else
    RankThreads(ranks, seconds).run(one);
}

TEST_F(Nccl, ACommunicatorOfOneRankIsAbortedWhileAGraphHoldsItsExchanges) {
  connected(1, kLimit, [&](int, descent_communicator *communicator, Training &training) {
    const struct plan *const plan = training.program.plan;
    const plan_step step = training.steps(1)[0], finish = finish_of(step, 1);
    const std::vector<plan_step> part = training.cut(step, 0, 1);
    ASSERT_EQ(program_run(&training.program, plan->micro_batch, part.data(), 1), DESCENT_OK);
    ASSERT_EQ(program_run(&training.program, plan->finish, &finish, 1), DESCENT_OK);
    communicator->broken = true;
  });
  EXPECT_EQ(nccl->aborted, 1);
  EXPECT_EQ(nccl->stuck, 0);
}

/* ---- the link ---- */

enum { SENT = 32 << 20, ROUNDS = 5 }; /* bytes that a rank sends in a round; behind the first round */

descent_status measure_link(const Training &training, double *bandwidth) {
  return training.program.backend->measure_link(training.program.compiled, bandwidth);
}

TEST_F(Nccl, TheLinkIsMeasuredBetweenAllRanksAtOnce) {
  for (const int ranks : {1, 3}) {
    SCOPED_TRACE(testing::Message() << ranks << " ranks");
    std::vector<double> bandwidths(static_cast<size_t>(ranks));
    std::vector<double> seconds(static_cast<size_t>(ranks));
    nccl->groups = 0;
    connected(ranks, 60, [&](int rank, descent_communicator *, Training &training) {
      const long long before = emulation.live();
      const auto begin = std::chrono::steady_clock::now();
      ASSERT_EQ(measure_link(training, &bandwidths[static_cast<size_t>(rank)]), DESCENT_OK) << descent_last_error();
      seconds[static_cast<size_t>(rank)] = Seconds(std::chrono::steady_clock::now() - begin).count();
      EXPECT_TRUE(ranks > 1 || emulation.live() == before) << "scratch is left behind";
    });
    for (const double bandwidth : bandwidths) {
      EXPECT_EQ(bandwidth, bandwidths[0]) << "the slowest rank counts on all";
      /* The rounds took less than the call; and a processor here copies less than 1 TB/s. */
      EXPECT_GT(bandwidth, 0.99 * ROUNDS * SENT / *std::max_element(seconds.begin(), seconds.end()));
      EXPECT_LT(bandwidth, 1e12);
    }
    EXPECT_EQ(nccl->groups, ranks * (2 + 4 + 1 + ROUNDS));
  }
}

TEST_F(Nccl, ThePathOfTheSumSaysWhatConnectsTheRanks) {
  for (const char *library : {DESCENT_EMULATED_NCCL, "off"}) {
    setenv("DESCENT_NCCL", library, 1);
    for (const int ranks : {1, 2})
      connected(ranks, 60, [&](int, descent_communicator *, Training &training) {
        const struct plan *const plan = training.program.plan;
        const auto path = [&](plan_range range, int op) {
          char text[BACKEND_PATH] = "?";
          training.program.backend->path(training.program.compiled, range, op, text);
          return std::string(text);
        };
        EXPECT_EQ(path(plan->finish, plan->finish.first), strcmp(library, "off") == 0 ? "host memory" : "nccl");
        EXPECT_EQ(path(plan->finish, plan->finish.first + 1), "");
      });
  }
}

TEST_F(Nccl, TheSlowestRankDecidesTheBandwidth) {
  std::vector<double> bandwidths(2);
  nccl->late = 2, nccl->lateness = 0.05;
  connected(2, 60, [&](int rank, descent_communicator *, Training &training) {
    ASSERT_EQ(measure_link(training, &bandwidths[static_cast<size_t>(rank)]), DESCENT_OK) << descent_last_error();
  });
  EXPECT_EQ(bandwidths[0], bandwidths[1]);
  EXPECT_LT(bandwidths[0], 1.01 * SENT / 0.05);
}

TEST_F(Nccl, NoLinkIsMeasuredThroughHostMemory) {
  setenv("DESCENT_NCCL", "off", 1);
  for (const int ranks : {1, 2})
    connected(ranks, 60, [&](int, descent_communicator *, Training &training) {
      double bandwidth = -1;
      EXPECT_EQ(measure_link(training, &bandwidth), DESCENT_OK) << descent_last_error();
      EXPECT_EQ(bandwidth, 0);
    });
}

TEST_F(Nccl, ARankThatIsLostWhileTheLinkIsMeasuredEndsTheOthersInTime) {
  nccl->silent = 2, nccl->after = 4; /* two exchanges connect the ranks */
  connected(3, kLimit, [&](int, descent_communicator *, Training &training) {
    const auto begin = std::chrono::steady_clock::now();
    double bandwidth = -1;
    EXPECT_EQ(measure_link(training, &bandwidth), DESCENT_ERROR_DEVICE);
    EXPECT_EQ(bandwidth, 0);
    EXPECT_LT(Seconds(std::chrono::steady_clock::now() - begin).count(), 30);
    EXPECT_EQ(measure_link(training, &bandwidth), DESCENT_ERROR_DEVICE) << "of a connection that has failed";
  });
  EXPECT_EQ(nccl->aborted, 3);
  EXPECT_EQ(nccl->stuck, 0);
}

TEST_F(Nccl, ARankThatLeavesBeforeTheLinkIsMeasuredIsNamed) {
  connected(2, kLimit, [&](int rank, descent_communicator *, Training &training) {
    double bandwidth = -1;
    if (rank == 1) return;
    EXPECT_EQ(measure_link(training, &bandwidth), DESCENT_ERROR_DEVICE);
    EXPECT_EQ(descent_last_error(), "rank 1 (node0) has not answered for " + limit_text() +
                                        ": see whether it still runs, or allow more time");
  });
}

TEST_F(Nccl, WithoutMemoryForItNoRankMeasuresTheLink) {
  int with_memory = 0;
  connected(2, 60, [&](int rank, descent_communicator *communicator, Training &training) {
    double bandwidth = -1, all[2];
    ASSERT_EQ(communicator_gather(communicator, &bandwidth, sizeof bandwidth, all), DESCENT_OK);
    if (rank == 0) emulation.configure("devices=8,allocation=1");
    ASSERT_EQ(communicator_gather(communicator, &bandwidth, sizeof bandwidth, all), DESCENT_OK);
    EXPECT_EQ(measure_link(training, &bandwidth), DESCENT_ERROR_MEMORY);
    EXPECT_EQ(bandwidth, 0);
    const bool has = strstr(descent_last_error(), "a rank has no GPU memory") != nullptr;
    EXPECT_TRUE(has || strstr(descent_last_error(), "cannot allocate 33.6 MB on the GPU for messages between ranks"))
        << descent_last_error();
    double mine = has;
    ASSERT_EQ(communicator_gather(communicator, &mine, sizeof mine, all), DESCENT_OK) << "the connection is as it was";
    if (rank == 0) with_memory = static_cast<int>(all[0] + all[1]);
  });
  EXPECT_EQ(with_memory, 1);
}

/* ---- the sum inside a step ---- */

struct Times {
  std::vector<double> operations, products;
};

descent_status time_finish(Training &training, int64_t steps, Times *times) {
  const plan_range range = training.program.plan->finish;
  times->operations.assign(static_cast<size_t>(range.count), -1);
  times->products.assign(static_cast<size_t>(range.count), -1);
  std::vector<plan_step> finishes;
  for (const plan_step &step : training.steps(steps)) finishes.push_back(finish_of(step, 1));
  return training.program.backend->time(training.program.compiled, range, finishes.data(), steps,
                                        times->operations.data(), times->products.data());
}

/* Gradients of one step, then its finish several times: timed, or just run. */
Bytes finished(Training &training, int rank, bool timed, Times *times) {
  enum { REPEATED = 3 };
  const struct plan *const plan = training.program.plan;
  const std::vector<plan_step> steps = training.steps(REPEATED);
  const std::vector<plan_step> part = training.cut(steps[0], rank, 1);
  EXPECT_EQ(program_run(&training.program, plan->micro_batch, part.data(), 1), DESCENT_OK) << descent_last_error();
  if (timed) {
    EXPECT_EQ(time_finish(training, REPEATED, times), DESCENT_OK) << descent_last_error();
    return training.state();
  }
  for (const plan_step &step : steps) {
    const plan_step finish = finish_of(step, 1);
    EXPECT_EQ(program_run(&training.program, plan->finish, &finish, 1), DESCENT_OK) << descent_last_error();
  }
  return training.state();
}

TEST_F(Nccl, TheSumOverRanksIsTimedInsideAStep) {
  const struct {
    const char *what, *nccl;
    int version, uncapturable;
  } ways[] = {{"captured", DESCENT_EMULATED_NCCL, 22703, 0},
              {"launched", DESCENT_EMULATED_NCCL, 2804, 0},
              {"cannot be captured on one rank", DESCENT_EMULATED_NCCL, 22703, 1},
              {"host memory", "off", 0, 0}};
  for (const auto &way : ways)
    for (const int ranks : {1, 2}) {
      SCOPED_TRACE(testing::Message() << way.what << ", " << ranks << " ranks");
      setenv("DESCENT_NCCL", way.nccl, 1);
      for (int &given : nccl->version) given = way.version;
      nccl->uncapturable = way.uncapturable;
      nccl->graph_runs = 0;
      Bytes states[2][2];
      for (const bool timed : {false, true})
        connected(ranks, 60, [&](int rank, descent_communicator *, Training &training) {
          Times times;
          states[timed][rank] = finished(training, rank, timed, &times);
          const struct plan *const plan = training.program.plan;
          ASSERT_EQ(plan->ops[plan->finish.first].kind, OP_ALLREDUCE);
          for (const double seconds : times.operations) EXPECT_GT(seconds, 0);
          for (const double seconds : times.products) EXPECT_EQ(seconds, 0);
        });
      EXPECT_EQ(nccl->graph_runs, strcmp(way.what, "captured") == 0 ? 2 * 2 * 3 * ranks : 0) << "of three steps, twice";
      for (int rank = 0; rank < ranks; rank++) expect_same(states[true][rank], states[false][rank]);
      if (HasFailure()) return;
    }
}

TEST_F(Nccl, TheTimeOfTheSumIncludesTheWaitForARank) {
  const double lateness = 0.05; /* of each of the two exchanges of a sum */
  for (const int version : {2804, 22703}) {
    SCOPED_TRACE(version);
    for (int &given : nccl->version) given = version;
    nccl->late = 2, nccl->lateness = lateness;
    connected(2, 60, [&](int rank, descent_communicator *, Training &training) {
      Times times;
      (void)finished(training, rank, true, &times);
      EXPECT_GT(times.operations[0], 1.8 * lateness);
      for (size_t i = 1; i < times.operations.size(); i++) EXPECT_LT(times.operations[i], lateness);
    });
  }
}

TEST_F(Nccl, ARankThatIsLostWhileStepsAreTimedEndsTheOthersInTime) {
  for (const int version : {2804, 22703}) {
    SCOPED_TRACE(version);
    *nccl = {};
    for (int &given : nccl->version) given = version;
    nccl->silent = 2, nccl->after = 5; /* two to connect; the second exchange of the second step */
    connected(2, kLimit, [&](int rank, descent_communicator *, Training &training) {
      const auto begin = std::chrono::steady_clock::now();
      const struct plan *const plan = training.program.plan;
      const std::vector<plan_step> part = training.cut(training.steps(1)[0], rank, 1);
      Times times;
      EXPECT_EQ(program_run(&training.program, plan->micro_batch, part.data(), 1), DESCENT_OK);
      EXPECT_EQ(time_finish(training, 4, &times), DESCENT_ERROR_DEVICE);
      EXPECT_EQ(time_finish(training, 4, &times), DESCENT_ERROR_DEVICE);
      EXPECT_STREQ(descent_last_error(), "the connection between the ranks failed earlier: start all ranks again");
      EXPECT_LT(Seconds(std::chrono::steady_clock::now() - begin).count(), 30);
    });
    EXPECT_EQ(nccl->aborted, 2);
    EXPECT_EQ(nccl->stuck, 0) << "aborted while a timed graph holds an exchange";
  }
}

TEST_F(Nccl, AConnectionIsAbortedAfterAStepWasTimed) {
  connected(2, kLimit, [&](int rank, descent_communicator *communicator, Training &training) {
    Times times;
    (void)finished(training, rank, true, &times);
    communicator->broken = true;
  });
  EXPECT_EQ(nccl->aborted, 2);
  EXPECT_EQ(nccl->stuck, 0);
}

}  // namespace
