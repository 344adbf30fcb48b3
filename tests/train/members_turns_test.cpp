/* Turns of members: how many steps of how many members a device gets at once, and how long on_pause may wait. The devices
 * of these tests compute nothing, or pretend that steps take time. */
#include <chrono>
#include <thread>

#include "members.h"

extern "C" {
#include "backend/cpu/cpu.h"
}

namespace {

/* One call of run_together. */
struct Turn {
  int64_t members, least_steps, most_steps, rows;
  std::chrono::duration<double> time;
};
std::vector<Turn> turns;
int64_t calls_between_polls, most_between_polls;
std::chrono::microseconds step_time;
std::chrono::duration<double, std::nano> parameter_time; /* in addition, for each parameter of a step */

/* Takes time for each step instead of computing it. */
descent_status pretend_to_run(struct backend_device *, const struct backend_job *jobs, int64_t count) {
  Turn turn{count, jobs[0].n_steps, 0, jobs[0].steps[0].rows, {}};
  int64_t steps = 0;
  for (int64_t i = 0; i < count; i++) {
    turn.least_steps = std::min(turn.least_steps, jobs[i].n_steps);
    turn.most_steps = std::max(turn.most_steps, jobs[i].n_steps);
    steps += jobs[i].n_steps;
    const struct plan *plan = jobs[i].program->plan;
    const int64_t parameters = plan->segments[plan->layers - 1].end;
    turn.time += static_cast<double>(jobs[i].n_steps * parameters) * parameter_time;
  }
  turn.time += steps * step_time;
  turns.push_back(turn);
  most_between_polls = std::max(most_between_polls, ++calls_between_polls);
  std::this_thread::sleep_for(turn.time);
  return DESCENT_OK;
}

descent_request poll(void *) {
  calls_between_polls = 0;
  return DESCENT_CONTINUE;
}

class MembersTurns : public testing::Test {
 protected:
  MembersTurns() {
    pretending_.run_together = pretend_to_run;
    device_->backend = &pretending_;
    turns.clear();
    calls_between_polls = most_between_polls = 0;
    parameter_time = {};
  }
  ~MembersTurns() override { device_->backend = &backend_cpu; }

  /* Some members, and their widths. */
  struct Members {
    int count;
    std::vector<int64_t> widths;
  };

  /* Trains `count` members of `widths` for one epoch. */
  void train(int count, const std::vector<int64_t> &widths, const Rows &rows, const Rows *held_out,
             descent_request (*on_pause)(void *)) {
    train({{count, widths}}, rows, held_out, on_pause);
  }
  void train(const std::vector<Members> &all, const Rows &rows, const Rows *held_out,
             descent_request (*on_pause)(void *)) {
    const Dataset data = rows.dataset();
    const std::unique_ptr<Dataset> validation = held_out ? std::make_unique<Dataset>(held_out->dataset()) : nullptr;
    descent_train_options options = descent_train_options_default();
    options.epochs = 1;
    options.batch_size = 1;
    options.callbacks.on_pause = on_pause;
    std::vector<Network> networks;
    for (const Members &some : all)
      for (int k = 0; k < some.count; k++)
        networks.push_back(make_network(some.widths, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY));
    members_.assign(networks.size(), descent_member_default());
    for (size_t k = 0; k < networks.size(); k++) {
      descent_member &m = members_[k];
      m.network = networks[k].get();
      m.training = data.get();
      m.validation = validation ? validation->get() : nullptr;
      m.options = &options;
    }
    ASSERT_EQ(descent_fit_members(device_.get(), members_.data(), static_cast<int64_t>(members_.size()), nullptr),
              DESCENT_OK)
        << descent_last_error();
  }

  Device device_ = open_device("cpu", 2);
  struct backend pretending_ = backend_cpu;
  std::vector<descent_member> members_;
};

/* A turn of 16 steps of all would take 640 ms. */
TEST_F(MembersTurns, AreLongRunsOfFewMembersWhereStepsAreSlow) {
  step_time = std::chrono::microseconds(1000);
  train(40, {5, 4, 3}, make_rows(100, 5, 1, 3, 1), nullptr, poll);
  int64_t steps = 0, long_steps = 0;
  for (const Turn &t : turns) {
    EXPECT_GE(t.members, 2); /* one for each thread */
    steps += t.members * t.most_steps;
    if (t.most_steps >= 16) long_steps += t.members * t.most_steps;
  }
  EXPECT_GE(steps, 4000);
  EXPECT_GT(static_cast<double>(long_steps), 0.7 * static_cast<double>(steps)); /* the rest: beginnings and ends */
  EXPECT_EQ(most_between_polls, 1);
}

TEST_F(MembersTurns, HaveAllMembersWhereStepsAreFast) {
  step_time = std::chrono::microseconds(0);
  train(40, {5, 4, 3}, make_rows(3000, 5, 1, 3, 1), nullptr, poll);
  EXPECT_TRUE(
      std::any_of(turns.begin(), turns.end(), [](const Turn &t) { return t.members == 40 && t.least_steps == 256; }));
}

/* Large members wait while small ones run; their first turns are as short as those before. */
TEST_F(MembersTurns, AreAsShortForMembersOfAnotherSize) {
  step_time = std::chrono::microseconds(100);
  parameter_time = std::chrono::duration<double, std::nano>(6);
  train({{40, {5, 4, 3}}, {2, {5, 700, 700, 3}}}, make_rows(300, 5, 1, 3, 1), nullptr, poll);
  int64_t large = 0;
  for (const Turn &t : turns) {
    EXPECT_LT(t.time.count(), 0.15) << t.members << " members";
    large += t.time > t.members * t.most_steps * step_time * 2;
  }
  EXPECT_GT(large, 0);
}

/* Members that wait for their turn are stopped there. */
TEST_F(MembersTurns, StopThoseThatWait) {
  step_time = std::chrono::microseconds(2000);
  train(40, {5, 4, 3}, make_rows(1000, 5, 1, 3, 1), nullptr,
        [](void *) { return turns.size() < 5 ? DESCENT_CONTINUE : DESCENT_STOP; });
  EXPECT_EQ(turns.size(), 5u);
  int64_t waited = 0;
  for (const descent_member &m : members_) {
    EXPECT_EQ(m.result.stop, DESCENT_STOP_CALLBACK);
    EXPECT_EQ(m.result.epochs, 0);
    EXPECT_FALSE(m.result.steps == 0 && m.result.train_loss != 0);
    waited += m.result.steps == 0;
  }
  EXPECT_GT(waited, 0);
}

/* 2 * 163,203 flops and 1,000 on the host for each row, at most 1e9 of a thread. */
TEST_F(MembersTurns, EvaluateFewLargeBlocksBetweenPauses) {
  step_time = std::chrono::microseconds(0);
  static const Rows held_out = make_rows(5000, 5, 1, 3, 2);
  train(8, {5, 400, 400, 3}, make_rows(2, 5, 1, 3, 1), &held_out, poll);
  int64_t blocks = 0;
  for (const Turn &t : turns) {
    if (t.rows == 1) continue;
    blocks += t.members;
    EXPECT_LE(static_cast<double>(t.members * t.rows) * (2 * 163203 + 1000), 2e9);
    EXPECT_LT(t.members, 8);
  }
  EXPECT_GE(blocks, 8 * 2);
  EXPECT_LE(most_between_polls,
            3); /* the last steps, a block, and the next one, which is started before that is counted */
}

/* A stop behind a member's last validation row is one between epochs: the epoch counts. */
TEST_F(MembersTurns, CountAnEpochWhoseValidationWasWholeBeforeAStop) {
  step_time = std::chrono::microseconds(0);
  static const Rows held_out = make_rows(50, 5, 1, 3, 2);
  train(8, {5, 4, 3}, make_rows(1, 5, 1, 3, 1), &held_out,
        [](void *) { return turns.back().rows == 50 ? DESCENT_STOP : DESCENT_CONTINUE; });
  for (const descent_member &m : members_) EXPECT_EQ(m.result.epochs, 1);
}

}  // namespace
