/* Trainings on emulated GPUs whose ranks, threads of this process, are connected by a stand-in for NCCL, and what the tests
 * ask of them. */
#ifndef DESCENT_TESTS_NCCL_RANKS_H
#define DESCENT_TESTS_NCCL_RANKS_H

#include <chrono>

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
    settle = reinterpret_cast<long long (*)()>(dlsym(library, "emulated_nccl_settle"));
    ASSERT_NE(settle, nullptr) << dlerror();
    release = reinterpret_cast<void (*)()>(dlsym(library, "emulated_nccl_release"));
    ASSERT_NE(release, nullptr) << dlerror();
    *nccl = {};
    setenv("DESCENT_NCCL", DESCENT_EMULATED_NCCL, 1);
    emulation.configure("devices=8");
  }
  void TearDown() override {
    unsetenv("DESCENT_NCCL");
    if (nccl && settle) {
      EXPECT_EQ(settle(), 0) << "communicators left behind";
      *nccl = {};
    }
    EmulatedModule::TearDown();
  }
  /* Ends the waits of the stand-in, and waits for the threads that were left in its calls. */
  void let_go() {
    release();
    for (int i = 0; i < 30000 && (settle() != 0 || emulation.live() != 0); i++)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  emulated_nccl *nccl = nullptr;
  long long (*settle)() = nullptr;
  void (*release)() = nullptr;
};

inline std::string device_of(int rank) { return "cuda:" + std::to_string(rank); }

struct Fitted {
  descent_status status;
  std::string error, placement;
  std::vector<float> parameters;
  std::vector<double> losses;
  double seconds;
};

inline int record(void *user, const descent_epoch_info *info) {
  auto *const fitted = static_cast<Fitted *>(user);
  fitted->placement = info->placement;
  fitted->losses.push_back(info->train_loss);
  if (info->validation) fitted->losses.push_back(info->validation->loss);
  return 0;
}

/* 101 rows in batches of 32: the last one has 5, fewer than 8 micro-batches. */
inline Fitted fit(const Case &c, const std::string &device_name, descent_communicator *communicator,
                  int64_t micro_batches) {
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
inline std::vector<Fitted> fit_on(int ranks, const Case &c, int64_t micro_batches, double seconds = 60,
                                  bool shared = false) {
  std::vector<Fitted> fitted(static_cast<size_t>(ranks));
  RankThreads all(ranks, seconds);
  all.run([&](int rank, descent_communicator *communicator) {
    fitted[static_cast<size_t>(rank)] = fit(c, device_of(shared ? 0 : rank), communicator, micro_batches);
  });
  return fitted;
}

inline void expect_equal(const Fitted &one, const std::vector<Fitted> &ranks) {
  ASSERT_EQ(one.status, DESCENT_OK) << one.error;
  for (size_t r = 0; r < ranks.size(); r++) {
    SCOPED_TRACE(testing::Message() << "rank " << r);
    ASSERT_EQ(ranks[r].status, DESCENT_OK) << ranks[r].error;
    ASSERT_EQ(ranks[r].parameters.size(), one.parameters.size());
    EXPECT_EQ(std::memcmp(ranks[r].parameters.data(), one.parameters.data(), one.parameters.size() * sizeof(float)), 0);
    EXPECT_EQ(ranks[r].losses, one.losses);
  }
}

inline bool ends_with(const std::string &text, const std::string &end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

/* Every rank ends soon after the time limit, one of them with this error, and keeps finite weights. */
inline void expect_end(const std::vector<Fitted> &ranks, const std::string &error) {
  bool found = false;
  for (const Fitted &fitted : ranks) {
    EXPECT_EQ(fitted.status, DESCENT_ERROR_DEVICE);
    EXPECT_LT(fitted.seconds, 30);
    for (const float w : fitted.parameters) ASSERT_TRUE(std::isfinite(w));
    found |= fitted.error.find(error) != std::string::npos;
  }
  EXPECT_TRUE(found) << ranks[0].error << "\n" << ranks[1].error;
}

/* Seconds; ranks that run are not so far apart, on a slow machine either. */
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
const double kLimit = 3;
#else
const double kLimit = 1;
#endif

/* "a rank has not answered for 1 s" */
inline std::string limit_text() {
  char text[32];
  snprintf(text, sizeof text, "%g s", kLimit);
  return text;
}

/* Runs steps without reading anything, so that the host runs ahead of the device until its queue is full. */
inline descent_status run_ahead(int rank, descent_communicator *communicator, int ranks, int64_t steps = 8) {
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

}  // namespace

#endif
