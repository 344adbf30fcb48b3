/* Several trainings side by side on one emulated GPU, whose kernels run in a random order between each other: each has
 * the bytes of running alone, and shares with the others nothing but rows that do not change. */
#include <regex>
#include <set>

#include "emulated_module.h"

namespace {

struct Member {
  Case c;
  descent_optimizer optimizer;
  descent_fusion fusion;
  int64_t batch;
  int64_t steps; /* of each of two runs */
  unsigned data; /* members with the same one have the same rows */
};

/* Of equal shape, as an ensemble has them. */
Member member_of(const Case &c) { return {c, DESCENT_OPTIMIZER_ADAM, DESCENT_FUSION_AUTO, BATCH, STEPS, 3}; }
std::vector<Member> members_of(const Case &c, int count) {
  return std::vector<Member>(static_cast<size_t>(count), member_of(c));
}

std::unique_ptr<Training> make(const Member &member, int k) {
  auto training = std::make_unique<Training>(member.c, ROWS, member.batch, member.data);
  training->options.optimizer.kind = member.optimizer;
  training->options.optimizer.momentum = 0.9;
  training->options.optimizer.weight_decay = 0.01;
  training->options.gpu.fusion = member.fusion;
  training->vary(k);
  return training;
}

std::string placement_of(const Training &training) {
  return training.program.backend->placement(training.program.compiled);
}

/* Trainings on one device. Members with the same data are bound to the rows of the first of them, unless each has a copy. */
class Together {
 public:
  explicit Together(const std::vector<Member> &members, bool copies = false, int varied = -1)
      : members_(members), copies_(copies), device_(open_device("cuda")) {
    for (size_t k = 0; k < members.size(); k++)
      trainings_.push_back(make(members[k], varied < 0 ? static_cast<int>(k) : varied));
  }
  ~Together() {
    for (auto &training : trainings_)
      if (training) training->close();
  }
  Together(const Together &) = delete;
  Together &operator=(const Together &) = delete;

  descent_status open() {
    descent_status status = DESCENT_OK;
    for (size_t k = 0; k < trainings_.size() && status == DESCENT_OK; k++) status = open(k);
    return status;
  }
  descent_status open(size_t k) {
    size_t first = k;
    for (size_t i = 0; i < k && !copies_ && first == k; i++)
      if (members_[i].data == members_[k].data && members_[i].c.widths == members_[k].c.widths && trainings_[i])
        first = i;
    return trainings_[k]->open_on(device_.get(), *trainings_[first]);
  }
  /* Two runs of each member. */
  descent_status run() {
    const descent_status status = run(0);
    return status == DESCENT_OK ? run(1) : status;
  }
  descent_status run(int part) {
    std::vector<program_job> jobs;
    std::vector<std::vector<plan_step>> steps;
    for (size_t k = 0; k < trainings_.size(); k++) {
      if (!trainings_[k]) continue;
      steps.push_back(trainings_[k]->steps(2 * members_[k].steps));
      jobs.push_back({&trainings_[k]->program, trainings_[k]->program.plan->train,
                      steps.back().data() + part * members_[k].steps, members_[k].steps});
    }
    return program_run_together(jobs.data(), static_cast<int64_t>(jobs.size()));
  }
  /* Frees it; its rows stay for the others that are bound to them. */
  void release(size_t k) {
    trainings_[k]->close();
    kept_.push_back(std::move(trainings_[k]));
  }
  Training &operator[](size_t k) { return *trainings_[k]; }
  const Device &device() const { return device_; }

 private:
  std::vector<Member> members_;
  bool copies_;
  Device device_;
  std::vector<std::unique_ptr<Training>> trainings_, kept_;
};

#ifdef __SANITIZE_ADDRESS__ /* a dozen times as slow: fp32 and bf16 */
const std::vector<Case> all_cases = {cases[0], cases[3]};
#else
const std::vector<Case> all_cases(std::begin(cases), std::end(cases));
#endif

class TogetherOnAGpu : public EmulatedModule {
 protected:
  Bytes alone(const Member &member, int k, int runs = 2) {
    const std::unique_ptr<Training> training = make(member, k);
    EXPECT_EQ(training->open(), DESCENT_OK) << descent_last_error();
    const std::vector<plan_step> steps = training->steps(2 * member.steps);
    for (int part = 0; part < runs; part++)
      EXPECT_EQ(program_run(&training->program, training->program.plan->train, steps.data() + part * member.steps,
                            member.steps),
                DESCENT_OK)
          << descent_last_error();
    kernels_.insert(placement_of(*training));
    return training->state();
  }

  void expect_as_alone(const std::vector<Member> &members, const std::vector<const char *> &orders,
                       bool copies = false) {
    std::vector<Bytes> expected;
    emulation.configure("");
    for (size_t k = 0; k < members.size(); k++) expected.push_back(alone(members[k], static_cast<int>(k)));
    for (const char *how : orders) {
      SCOPED_TRACE(how);
      emulation.configure(how);
      Together together(members, copies);
      ASSERT_EQ(together.open(), DESCENT_OK) << descent_last_error();
      ASSERT_EQ(together.run(), DESCENT_OK) << descent_last_error();
      for (size_t k = 0; k < members.size(); k++) {
        SCOPED_TRACE(k);
        expect_same(together[k].state(), expected[k]);
        EXPECT_EQ(placement_of(together[k]).find("members: side by side") != std::string::npos, members.size() > 1)
            << placement_of(together[k]);
      }
      if (testing::Test::HasFailure()) return;
    }
    emulation.configure("");
  }
  std::set<std::string> kernels_; /* the placements of members alone */
};

TEST_F(TogetherOnAGpu, MembersOfEqualShapeHaveTheBytesOfRunningAlone) {
  for (const Case &c : all_cases)
    for (const int count : {1, 2, 3}) {
      SCOPED_TRACE(std::string(c.name) + ", " + std::to_string(count));
      const char *const orders[] = {"late=1", "seed=2", "seed=3,late=2"};
      expect_as_alone(members_of(c, count), {orders[count - 1]});
    }
}

TEST_F(TogetherOnAGpu, SeventeenMembersHaveTheBytesOfRunningAlone) {
  for (const Case &c : {cases[0], cases[3]}) {
    std::vector<Member> members = members_of(c, 17);
    for (Member &member : members) member.steps = 6;
    expect_as_alone(members, {"seed=5"});
  }
}

TEST_F(TogetherOnAGpu, MembersMayDifferInShapeOptimizerPrecisionBatchAndNumberOfSteps) {
  std::vector<Member> members;
  for (const Case &c : cases) members.push_back(member_of(c));
  members.push_back(member_of(cases[3]));
  const descent_optimizer optimizers[] = {DESCENT_OPTIMIZER_SGD,     DESCENT_OPTIMIZER_ADAMW, DESCENT_OPTIMIZER_LAMB,
                                          DESCENT_OPTIMIZER_RMSPROP, DESCENT_OPTIMIZER_LARS,  DESCENT_OPTIMIZER_ADAM};
  const int64_t steps[] = {23, 7, 40, 16, 1, 21};
  for (size_t k = 0; k < members.size(); k++) {
    members[k].optimizer = optimizers[k];
    members[k].steps = steps[k];
    members[k].batch = BATCH - 5 * static_cast<int64_t>(k % 3);
  }
  expect_as_alone(members, {"", "seed=4,late=1"});
}

TEST_F(TogetherOnAGpu, KernelsOfSeveralLayersRunSideBySide) {
  const std::set<std::string> all = {"fused step", "fused chain", "whole step"};
  std::set<std::string> paths;
  for (int seed = 1; seed <= SEEDS && paths != all; seed++) {
    const Drawn drawn(seed);
    for (const Case &c : {cases[0], cases[4]}) {
      SCOPED_TRACE(std::string(c.name) + ", DESCENT_CUDA_CHOOSE=" + std::to_string(seed));
      std::vector<Member> members = members_of(c, 3);
      members[0].fusion = members[1].fusion = DESCENT_FUSION_ON;
      members[2].fusion = DESCENT_FUSION_OFF;
      for (Member &member : members) member.steps = 3;
      expect_as_alone(members, {"seed=6"});
    }
    for (const std::string &placement : kernels_) {
      std::smatch found;
      if (std::regex_search(placement, found, std::regex("kernels: (\\w+ \\w+)"))) paths.insert(found[1]);
    }
  }
  EXPECT_EQ(paths, all);
}

/* Products of cuBLASLt, of which the emulation checks that no other uses their workspace, on one stream and on two. */
TEST_F(TogetherOnAGpu, ProductsSideBySideHaveSeparateWorkspaces) {
  enum { LARGE = 96 };
  for (const Case &c : {cases[1], cases[3]}) {
    std::vector<Member> members = members_of(c, 4);
    for (Member &member : members) member.fusion = DESCENT_FUSION_OFF, member.batch = LARGE, member.steps = 3;
    for (int seed = 1; seed <= 3; seed++) {
      SCOPED_TRACE(std::string(c.name) + ", DESCENT_CUDA_CHOOSE=" + std::to_string(seed));
      const Drawn drawn(seed);
      expect_as_alone(members, {"processors=132", "seed=2,processors=132"});
      EXPECT_GT(drawn.lines({"taken=plain"}) + drawn.lines({"taken=fused"}), 0);
    }
  }
  EXPECT_GT(emulation.products->places, 0);
}

/* Bytes of device memory that the members hold. */
size_t memory_of(const Emulation &emulation, const std::vector<Member> &members, bool copies) {
  size_t left = 0, total = 0;
  Together together(members, copies);
  EXPECT_EQ(together.open(), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(together.run(), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(emulation.memory(&left, &total), 0);
  return total - left;
}

TEST_F(TogetherOnAGpu, TheRowsOfAllAreOnTheDeviceOnce) {
  enum { OTHERS = 2 };
  for (const Case &c : {cases[0], cases[3]}) {
    SCOPED_TRACE(c.name);
    const std::vector<Member> members = members_of(c, 1 + OTHERS);
    const size_t spared = memory_of(emulation, members, true) - memory_of(emulation, members, false);
    const bool half = c.precision == DESCENT_PRECISION_BF16; /* whose rows are made from a piece in float32 */
    const size_t row = static_cast<size_t>(c.widths[0]) * (half ? 2 : 4) + 2 * sizeof(float);
    if (half)
      EXPECT_GT(spared, OTHERS * ROWS * row);
    else
      EXPECT_EQ(spared, OTHERS * ROWS * row);
  }
}

void write_shift(const Training &training, const std::vector<float> &shift) {
  struct program program = training.program;
  ASSERT_EQ(program_write(&program, program.at.shift, 0, static_cast<int64_t>(shift.size()), PLAN_F32, shift.data()),
            DESCENT_OK);
}

/* Members that normalise the same rows differently have a copy each, also where they come to differ after they have run,
 * and one again when they agree. */
TEST_F(TogetherOnAGpu, NormalisedRowsAreSharedWhereTheirConstantsAreEqual) {
  enum { COUNT = 3, RUNS = 3, LD = 8 };
  const Case &c = cases[3];
  const std::vector<Member> members = members_of(c, COUNT);
  const std::vector<float> common(static_cast<size_t>(c.widths[0]), 0.25F), other(common.size(), 0.5F);
  const std::vector<float> shifts[RUNS][COUNT] = {
      {common, other, common}, {common, other, std::vector<float>(common.size(), 0.75F)}, {common, common, common}};
  Together together(members);
  size_t left[RUNS], total = 0;
  ASSERT_EQ(together.open(), DESCENT_OK) << descent_last_error();
  for (int run = 0; run < RUNS; run++) {
    for (size_t k = 0; k < COUNT; k++) write_shift(together[k], shifts[run][k]);
    ASSERT_EQ(together.run(run % 2), DESCENT_OK) << descent_last_error();
    ASSERT_EQ(emulation.memory(&left[run], &total), 0);
  }
  for (size_t k = 0; k < COUNT; k++) {
    SCOPED_TRACE(k);
    const std::unique_ptr<Training> training = make(members[k], static_cast<int>(k));
    ASSERT_EQ(training->open(), DESCENT_OK) << descent_last_error();
    const std::vector<plan_step> steps = training->steps(2 * STEPS);
    for (int run = 0; run < RUNS; run++) {
      write_shift(*training, shifts[run][k]);
      ASSERT_EQ(program_run(&training->program, training->program.plan->train, steps.data() + run % 2 * STEPS, STEPS),
                DESCENT_OK);
    }
    expect_same(together[k].state(), training->state());
  }
  EXPECT_LT(left[1], left[0]) << "a third copy";
  EXPECT_EQ(left[2] - left[1], 2 * ROWS * LD * sizeof(uint16_t)) << "one copy of all";
}

/* Where a member comes to differ and there is no room for a second copy, its rows are streamed. */
TEST_F(TogetherOnAGpu, NormalisedRowsWithoutRoomAreStreamed) {
  const Case &c = cases[3];
  const std::vector<Member> members = members_of(c, 2);
  const std::vector<float> shift(static_cast<size_t>(c.widths[0]), 0.5F);
  Together together(members);
  size_t left, total;
  ASSERT_EQ(together.open(), DESCENT_OK) << descent_last_error();
  ASSERT_EQ(together.run(0), DESCENT_OK) << descent_last_error();
  ASSERT_EQ(emulation.memory(&left, &total), 0);
  const backend *table = together[0].program.backend;
  const int64_t held = table->memory(together[1].program.compiled);
  emulation.configure(("memory=" + std::to_string((total - left) * 16 / 15)).c_str());
  write_shift(together[1], shift);
  ASSERT_EQ(together.run(1), DESCENT_OK) << descent_last_error();
  expect_contains(placement_of(together[0]), "data in GPU memory");
  expect_contains(placement_of(together[1]), "data streamed");
  EXPECT_NE(table->memory(together[1].program.compiled), held) << "windows instead of rows";
  emulation.configure("");
  expect_same(together[0].state(), alone(members[0], 0));
  const std::unique_ptr<Training> training = make(members[1], 1);
  ASSERT_EQ(training->open(), DESCENT_OK) << descent_last_error();
  const std::vector<plan_step> steps = training->steps(2 * STEPS);
  for (int run = 0; run < 2; run++) {
    if (run == 1) write_shift(*training, shift);
    ASSERT_EQ(program_run(&training->program, training->program.plan->train, steps.data() + run * STEPS, STEPS),
              DESCENT_OK);
  }
  expect_same(together[1].state(), training->state());
}

TEST_F(TogetherOnAGpu, ABadStepStopsItsMemberOnly) {
  const std::vector<Member> members = members_of(cases[1], 3);
  std::vector<Bytes> expected;
  for (int k = 0; k < 3; k++) expected.push_back(alone(members[static_cast<size_t>(k)], k));
  Together together(members);
  together[1].learning_rate = 1e30;
  ASSERT_EQ(together.open(), DESCENT_OK) << descent_last_error();
  ASSERT_EQ(together.run(), DESCENT_OK) << descent_last_error();
  for (size_t k = 0; k < 3; k++) {
    const struct program &program = together[k].program;
    EXPECT_EQ(read(program, program.at.scalars)[SCALAR_BAD_STEP] > 0, k == 1);
    if (k != 1) expect_same(together[k].state(), expected[k]);
  }
}

TEST_F(TogetherOnAGpu, OneThatIsReleasedLeavesTheOthersTheirRows) {
  const std::vector<Member> members = members_of(cases[3], 4);
  std::vector<Bytes> expected;
  for (int k = 0; k < 4; k++) expected.push_back(alone(members[0], k));
  Together together(members);
  ASSERT_EQ(together.open(), DESCENT_OK) << descent_last_error();
  ASSERT_EQ(together.run(0), DESCENT_OK) << descent_last_error();
  together.release(0); /* which made the rows */
  together.release(2);
  const long long launches = emulation.launches();
  ASSERT_EQ(together.run(1), DESCENT_OK) << descent_last_error();
  EXPECT_GT(emulation.launches(), launches);
  for (const size_t k : {size_t{1}, size_t{3}}) expect_same(together[k].state(), expected[k]);
}

/* After two runs a graph is launched for sixteen steps of all, four, or one. */
TEST_F(TogetherOnAGpu, OneLaunchHasTheStepsOfAll) {
  std::vector<Member> members = members_of(cases[1], 5);
  for (Member &member : members) member.steps = 16 + 2 * 4 + 3;
  Together together(members);
  ASSERT_EQ(together.open(), DESCENT_OK) << descent_last_error();
  ASSERT_EQ(together.run(), DESCENT_OK) << descent_last_error();
  const long long before = emulation.launches();
  ASSERT_EQ(together.run(1), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(emulation.launches() - before, 1 + 2 + 3);
}

/* Runs of different lengths: the steps that all have are launched together, then those of the longer ones. */
TEST_F(TogetherOnAGpu, LongerRunsContinueTogether) {
  std::vector<Member> members = members_of(cases[1], 4);
  const int64_t steps[] = {4, 8, 12, 12};
  for (size_t k = 0; k < 4; k++) members[k].steps = steps[k];
  Together together(members);
  ASSERT_EQ(together.open(), DESCENT_OK) << descent_last_error();
  ASSERT_EQ(together.run(), DESCENT_OK) << descent_last_error();
  for (int run = 0; run < 3; run++) /* the longer ones together for the second time */
    ASSERT_EQ(together.run(1), DESCENT_OK) << descent_last_error();
  const long long before = emulation.launches();
  ASSERT_EQ(together.run(1), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(emulation.launches() - before, 3);
}

/* The queue holds 1024 steps. */
TEST_F(TogetherOnAGpu, RunsMayBeLongerThanTheQueue) {
  const Case tiny = {"", {2, 1}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_BINARY_CROSS_ENTROPY, 0, DESCENT_PRECISION_FP32};
  std::vector<Member> members = members_of(tiny, 2);
  for (size_t k = 0; k < 2; k++) members[k].batch = 4, members[k].steps = 1030 + static_cast<int64_t>(k);
  Together together(members);
  ASSERT_EQ(together.open(), DESCENT_OK) << descent_last_error();
  ASSERT_EQ(together.run(0), DESCENT_OK) << descent_last_error();
  for (size_t k = 0; k < 2; k++) expect_same(together[k].state(), alone(members[k], static_cast<int>(k), 1));
}

/* A graph is made for a set that comes again, and none where sets take turns of which more are than graphs are held. */
TEST_F(TogetherOnAGpu, AGraphIsMadeForASetThatComesAgain) {
  enum { COUNT = 5 };
  std::vector<Member> members = members_of(cases[0], COUNT);
  for (Member &member : members) member.steps = 1;
  for (const unsigned sets : {1U, 3U, 31U}) {
    SCOPED_TRACE(sets);
    Together together(members);
    ASSERT_EQ(together.open(), DESCENT_OK) << descent_last_error();
    std::vector<std::vector<plan_step>> steps;
    for (size_t k = 0; k < COUNT; k++) steps.push_back(together[k].steps(1));
    long long live[4] = {emulation.live()};
    for (int round = 1; round < 4; round++) {
      for (unsigned set = 31; set > 31 - sets; set--) {
        std::vector<program_job> jobs;
        for (size_t k = 0; k < COUNT; k++)
          if (set >> k & 1) jobs.push_back({&together[k].program, together[k].program.plan->train, steps[k].data(), 1});
        ASSERT_EQ(program_run_together(jobs.data(), static_cast<int64_t>(jobs.size())), DESCENT_OK);
      }
      live[round] = emulation.live();
    }
    EXPECT_EQ(live[1], live[0]);
    if (sets <= 16)
      EXPECT_GE(live[2] - live[1], sets) << "graphs, and workspaces";
    else
      EXPECT_EQ(live[2], live[1]);
    EXPECT_EQ(live[3], live[2]);
  }
}

/* More sets of programs than graphs are kept. */
TEST_F(TogetherOnAGpu, AnySetMayRunTogetherAtAnyTime) {
  enum { COUNT = 5, RUNS = 30 };
  std::vector<Member> members = members_of(cases[0], COUNT);
  for (Member &member : members) member.steps = 2 * RUNS;
  std::vector<std::vector<plan_step>> steps;
  Together together(members);
  ASSERT_EQ(together.open(), DESCENT_OK) << descent_last_error();
  std::vector<int64_t> done(COUNT, 0);
  for (int k = 0; k < COUNT; k++) steps.push_back(together[static_cast<size_t>(k)].steps(RUNS));
  const long long before = emulation.live();
  for (unsigned set = 1; set <= RUNS; set++) {
    std::vector<program_job> jobs;
    for (size_t k = 0; k < COUNT; k++) /* in the order of their numbers, and in the reverse order */
      if ((set * 7) % 31 >> k & 1)
        jobs.insert(set % 2 ? jobs.end() : jobs.begin(),
                    {&together[k].program, together[k].program.plan->train, steps[k].data() + done[k]++, 1});
    ASSERT_EQ(program_run_together(jobs.data(), static_cast<int64_t>(jobs.size())), DESCENT_OK) << descent_last_error();
  }
  EXPECT_LE(emulation.live() - before, 16 + COUNT) << "graphs, and the workspaces of each";
  for (size_t k = 0; k < COUNT; k++) {
    const std::unique_ptr<Training> training = make(members[k], static_cast<int>(k));
    ASSERT_EQ(training->open(), DESCENT_OK) << descent_last_error();
    const std::vector<plan_step> same = training->steps(RUNS);
    ASSERT_EQ(program_run(&training->program, training->program.plan->train, same.data(), done[k]), DESCENT_OK);
    EXPECT_GT(done[k], 10);
    expect_same(together[k].state(), training->state());
  }
}

TEST_F(TogetherOnAGpu, StreamedRowsGiveTheSameBytes) {
  for (const Case &c : {cases[0], cases[4]}) {
    const std::vector<Member> members = members_of(c, 3);
    std::vector<Bytes> expected;
    for (int k = 0; k < 3; k++) expected.push_back(alone(members[0], k));
    setenv("DESCENT_GPU_DATA_MB", "0", 1);
    for (const char *how : {"", "seed=2,late=1", "seed=4,late=2"}) {
      SCOPED_TRACE(std::string(c.name) + " " + how);
      emulation.configure(how);
      Together together(members);
      ASSERT_EQ(together.open(), DESCENT_OK) << descent_last_error();
      ASSERT_EQ(together.run(), DESCENT_OK) << descent_last_error();
      for (size_t k = 0; k < 3; k++) {
        expect_contains(placement_of(together[k]), "data streamed");
        expect_contains(placement_of(together[k]), "members: side by side");
        expect_same(together[k].state(), expected[k]);
      }
    }
    unsetenv("DESCENT_GPU_DATA_MB");
    emulation.configure("");
  }
}

/* Where no joint graph can be made, members run in turn, and say why. */
TEST_F(TogetherOnAGpu, RunInTurnWhereTheDriverOrMemoryRefuses) {
  const std::vector<Member> members = members_of(cases[3], 3);
  std::vector<Bytes> expected;
  for (int k = 0; k < 3; k++) expected.push_back(alone(members[0], k));
  const struct {
    const char *settings, *said;
  } refusals[] = {{"child=1", "members: in turn: the driver refuses a joint graph"},
                  {"memory=1", "members: in turn: no GPU memory for a joint graph"},
                  {"capture=1", "members: side by side"}, /* of sixteen steps; those of fewer are made */
                  {"", "members: side by side"}};
  for (const auto &refusal : refusals) {
    SCOPED_TRACE(refusal.settings);
    Together together(members);
    ASSERT_EQ(together.open(), DESCENT_OK) << descent_last_error();
    emulation.configure(refusal.settings);
    ASSERT_EQ(together.run(), DESCENT_OK) << descent_last_error();
    EXPECT_EQ(emulation.last_error(), 0) << "not cleared";
    emulation.configure("");
    for (size_t k = 0; k < 3; k++) {
      expect_contains(placement_of(together[k]), refusal.said);
      expect_same(together[k].state(), expected[k]);
    }
  }
}

/* Workspaces of products for half of them: none takes its workspace, and all run in turn. */
TEST_F(TogetherOnAGpu, MemoryForHalfOfTheWorkspacesIsNotTaken) {
  std::vector<Member> members = members_of(cases[1], 4);
  for (Member &member : members) member.fusion = DESCENT_FUSION_OFF, member.batch = 96, member.steps = 3;
  std::vector<Bytes> expected;
  size_t need = 0;
  int seed = 0;
  for (; need == 0 && seed < SEEDS; seed += need == 0) { /* until products are drawn that have one */
    const Drawn drawn(seed);
    Together together(members);
    size_t before, after, total;
    ASSERT_EQ(together.open(), DESCENT_OK) << descent_last_error();
    ASSERT_EQ(emulation.memory(&before, &total), 0);
    struct backend_room room;
    size_t later = 0;
    for (size_t k = 0; k < 4; k++) {
      const struct program &program = together[k].program;
      ASSERT_EQ(program.backend->room(program.compiled, &room), DESCENT_OK);
      later += static_cast<size_t>(room.later);
    }
    ASSERT_EQ(together.run(), DESCENT_OK) << descent_last_error();
    ASSERT_EQ(emulation.memory(&after, &total), 0);
    need = before - after;
    EXPECT_EQ(need, later);
    for (size_t k = 0; k < 4; k++) expected.push_back(together[k].state());
    if (need == 0) expected.clear();
  }
  ASSERT_GT(need, 0U);
  const Drawn drawn(seed);
  Together together(members);
  size_t left, after, total;
  ASSERT_EQ(together.open(), DESCENT_OK) << descent_last_error();
  ASSERT_EQ(emulation.memory(&left, &total), 0);
  emulation.configure(("memory=" + std::to_string((total - left + need / 2) * 16 / 15)).c_str());
  ASSERT_EQ(emulation.memory(&left, &total), 0);
  ASSERT_EQ(together.run(), DESCENT_OK) << descent_last_error();
  ASSERT_EQ(emulation.memory(&after, &total), 0);
  EXPECT_EQ(left, after);
  for (size_t k = 0; k < 4; k++) {
    expect_contains(placement_of(together[k]), "members: in turn: no GPU memory for a joint graph");
    expect_same(together[k].state(), expected[k]);
  }
}

/* The n-th call of a kind fails, in the set-up of the second of two members or in their runs. */
struct Fault {
  const char *kind;
  bool in_setup;
  descent_status failure;
};

TEST_F(TogetherOnAGpu, EveryAllocationAndLaunchMayFailAndLeavesNothingBehind) {
  std::vector<Member> members = members_of(cases[3], 2);
  for (Member &member : members) member.steps = 5;
  std::vector<Bytes> expected;
  for (int k = 0; k < 2; k++) expected.push_back(alone(members[0], k));
  int failures = 0;
  const auto try_with = [&](const Fault &fault, const std::string &settings) {
    Together together(members);
    descent_status status = together.open(0);
    EXPECT_EQ(status, DESCENT_OK) << descent_last_error();
    if (fault.in_setup) emulation.configure(settings.c_str());
    status = together.open(1);
    if (!fault.in_setup) emulation.configure(settings.c_str());
    if (status == DESCENT_OK) status = together.run();
    if (status == DESCENT_OK) status = together[0].program.backend->synchronise(together[0].program.compiled);
    const bool failed = emulation.failed() != 0;
    failures += status != DESCENT_OK;
    EXPECT_TRUE(status == DESCENT_OK || status == fault.failure) << descent_last_error();
    for (size_t k = 0; k < 2 && status == DESCENT_OK; k++) /* without memory for trials, other kernels are chosen */
      if (together[k].program.arithmetic == std::string(together[0].program.arithmetic))
        expect_same(together[k].state(), expected[k]);
    return failed;
  };
  for (const Fault &fault : {Fault{"allocation=", true, DESCENT_ERROR_MEMORY},
                             {"allocation=", false, DESCENT_ERROR_MEMORY},
                             {"launch=", false, DESCENT_ERROR_DEVICE},
                             {"fault=", false, DESCENT_ERROR_DEVICE}}) {
    failures = 0;
    bool more = true;
    for (int n = 1; more && !HasFailure(); n++) {
      const std::string settings = fault.kind + std::to_string(n);
      SCOPED_TRACE(settings);
      more = try_with(fault, settings);
      EXPECT_EQ(emulation.live(), 0);
      emulation.configure("");
    }
    EXPECT_EQ(failures > 0, fault.in_setup || std::string(fault.kind) != "allocation=")
        << fault.kind << ": a joint graph is not needed";
  }
}

TEST_F(TogetherOnAGpu, RowsOutOfRangeOfOneRunNone) {
  const std::vector<Member> members = members_of(cases[0], 2);
  Together together(members);
  ASSERT_EQ(together.open(), DESCENT_OK) << descent_last_error();
  const Bytes before = together[0].state();
  const std::vector<plan_step> steps = together[0].steps(1);
  plan_step large = steps[0];
  large.rows = BATCH + 1;
  const plan_range range = together[0].program.plan->train;
  const program_job jobs[] = {{&together[0].program, range, steps.data(), 1}, {&together[1].program, range, &large, 1}};
  EXPECT_EQ(program_run_together(jobs, 2), DESCENT_ERROR_ARGUMENT);
  expect_contains(descent_last_error(), "run: a step of 33 rows: must be 1 to 32");
  expect_same(together[0].state(), before);
}

}  // namespace
