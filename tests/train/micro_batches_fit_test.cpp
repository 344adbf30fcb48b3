/* What surrounds steps in micro-batches: the explanation of one that is not finite, rollbacks, checkpoints, memory, and
 * what is refused. */
#include <gtest/gtest.h>

#include <filesystem>

#include "training.h"

extern "C" {
#include "core/communicator.h"
}

namespace {

bool says(const std::string &part) { return std::string(descent_last_error()).find(part) != std::string::npos; }

/* ---- steps that are not finite ---- */

/* A network whose first layer overflows where an input is 1e19. */
Network overflowing() {
  Network network = make_network({4, 6, 1}, DESCENT_ACTIVATION_IDENTITY, DESCENT_LOSS_BINARY_CROSS_ENTROPY);
  const parameter_segment at = network->layers[0].at;
  for (int64_t i = 0; i < 24; i++) network->parameters[at.W + i] *= 1e20F;
  for (int64_t i = 0; i < 6; i++) network->parameters[network->layers[1].at.W + i] *= 1e-20F;
  return network;
}

/* Micro-batches of 4 rows. The rows of one step come in their order. */
TEST(MicroBatchesFit, ADivergenceNamesTheRowAndLayer) {
  for (int64_t bad : {0, 5, 11, 15}) {
    Rows rows = make_rows(16, 4, 1, 2, 1);
    rows.X[static_cast<size_t>(bad) * 4 + 2] = 1e19F;
    const Dataset data = rows.dataset();
    const Network network = overflowing();
    const std::vector<float> before = parameters_of(network);
    descent_train_options options = descent_train_options_default();
    options.batch_size = 16;
    options.epochs = 1;
    options.ranks.micro_batches = 4;
    const Device device = open_device("cpu");
    EXPECT_EQ(descent_fit(network.get(), device.get(), data.get(), nullptr, &options, nullptr), DESCENT_ERROR_DIVERGED);
    EXPECT_TRUE(says("step 1 (epoch 1, row " + std::to_string(bad) + "): layer 1's activations are not finite"))
        << descent_last_error();
    EXPECT_EQ(parameters_of(network), before);
  }
}

/* Each micro-batch is finite, but not their sum: all rows of the step are named. */
TEST(MicroBatchesFit, ADivergenceOfTheSumNamesTheRowsOfTheStep) {
  Rows rows{4, 1, 1, 0, {1, 1, 1, 1}, {0, 0, 0, 0}, {}};
  const Dataset data = rows.dataset();
  const Network network = make_network({1, 1}, DESCENT_ACTIVATION_IDENTITY, DESCENT_LOSS_MEAN_SQUARED_ERROR);
  network->parameters[network->layers[0].at.W] = 3e38F; /* each row's part of dW is 1.5e38 */
  descent_train_options options = descent_train_options_default();
  options.batch_size = 4;
  options.epochs = 1;
  options.ranks.micro_batches = 4;
  const Device device = open_device("cpu");
  EXPECT_EQ(descent_fit(network.get(), device.get(), data.get(), nullptr, &options, nullptr), DESCENT_ERROR_DIVERGED);
  EXPECT_TRUE(says("step 1 (epoch 1, 4 rows: 0, 1, 2, 3): ")) << descent_last_error();
}

/* The rows of each step of an epoch. */
std::vector<std::vector<int64_t>> rows_of_steps(uint64_t seed, uint64_t epoch, int64_t rows, int64_t batch) {
  const permutation order = permutation_create(seed, RNG_SHUFFLE, epoch, static_cast<uint64_t>(rows));
  std::vector<std::vector<int64_t>> steps;
  for (int64_t i = 0; i < rows; i++) {
    if (i % batch == 0) steps.emplace_back();
    steps.back().push_back(static_cast<int64_t>(permutation_index(&order, static_cast<uint64_t>(i))));
  }
  return steps;
}

/* Z = W X + b of one input, with small steps in micro-batches of one row. */
struct OneInput {
  Network network = make_network({1, 1}, DESCENT_ACTIVATION_IDENTITY, DESCENT_LOSS_MEAN_SQUARED_ERROR);
  Device device = open_device("cpu");
  descent_train_options options = descent_train_options_default();
  OneInput() {
    options.optimizer.kind = DESCENT_OPTIMIZER_GD;
    options.optimizer.learning_rate = 1e-6;
    options.optimizer.clip_norm = 1e-3;
    options.batch_size = 2;
    options.epochs = 2;
    options.ranks.micro_batches = 2;
  }
};

/* The rows of two micro-batches overflow in one step of epoch 2. Rows of the validation lie behind them in the buffer. */
TEST(MicroBatchesFit, ADivergenceIsNotBlamedOnRowsOfTheValidation) {
  OneInput one;
  const auto together = [&](uint64_t epoch) {
    for (const std::vector<int64_t> &step : rows_of_steps(one.options.seed, epoch, 4, 2))
      if (step[0] + step[1] == 0 + 1) return true;
    return false;
  };
  while (together(1) || !together(2)) one.options.seed++;
  const Rows rows{4, 1, 1, 0, {1, 1, 1, 1}, {2.5e38F, 2.5e38F, 0, 0}, {}};
  const Rows far{50, 1, 1, 0, std::vector<float>(50, 1000), std::vector<float>(50, 0), {}};
  const Dataset data = rows.dataset(), validation = far.dataset();
  ASSERT_EQ(descent_fit(one.network.get(), one.device.get(), data.get(), validation.get(), &one.options, nullptr),
            DESCENT_ERROR_DIVERGED);
  EXPECT_TRUE(says("(epoch 2, 2 rows: ") && says("the gradient norm exceeds float32")) << descent_last_error();
  EXPECT_FALSE(says("inputs of up to")) << descent_last_error();
}

/* Step 4 has a sum that overflows. Step 5, 6 or 7, which can be of the same run, has an infinite J. */
TEST(MicroBatchesFit, ADivergenceIsDescribedByTheLossOfItsStep) {
  OneInput one;
  const auto step_of = [&](int64_t row) {
    const auto steps = rows_of_steps(one.options.seed, 1, 16, 2);
    for (size_t s = 0; s < steps.size(); s++)
      if (steps[s][0] == row || steps[s][1] == row) return s + 1;
    return size_t{0};
  };
  while (step_of(0) != 4 || step_of(1) != 4 || step_of(2) < 5 || step_of(2) > 7) one.options.seed++;
  one.network->parameters[one.network->layers[0].at.W] = 3e38F;
  Rows rows{16, 1, 1, 0, std::vector<float>(16, 0), std::vector<float>(16, 0), {}};
  rows.X[0] = rows.X[1] = 1; /* parts of 3e38 */
  rows.X[2] = 10;
  const Dataset data = rows.dataset();
  ASSERT_EQ(descent_fit(one.network.get(), one.device.get(), data.get(), nullptr, &one.options, nullptr),
            DESCENT_ERROR_DIVERGED);
  EXPECT_TRUE(says("step 4 (epoch 1, 2 rows: ") && says("the gradient norm exceeds float32")) << descent_last_error();
}

/* The bad row is far into the epoch, when many steps are run at once. */
TEST(MicroBatchesFit, StepsAfterABadOneChangeNothing) {
  Rows rows = make_rows(4000, 4, 1, 0, 3);
  rows.X[4 * 3002 + 1] = 1e3F, rows.y[3002] = 1e38F; /* whose product is beyond float32 */
  const Dataset data = rows.dataset();
  const Device device = open_device("cpu");
  descent_train_options options = descent_train_options_default();
  options.optimizer.kind = DESCENT_OPTIMIZER_GD;
  options.batch_size = 4;
  options.epochs = 1;
  options.ranks.micro_batches = 2;
  options.optimizer.learning_rate = 1e-3;
  const auto fresh = [] { return make_network({4, 1}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_MEAN_SQUARED_ERROR); };
  const Network network = fresh(), stopped = fresh();
  descent_fit_result result{};
  ASSERT_EQ(descent_fit(network.get(), device.get(), data.get(), nullptr, &options, &result), DESCENT_ERROR_DIVERGED);
  EXPECT_TRUE(says(", 2 rows: ") && says("3002") && says("layer 1's gradient is not finite") &&
              says("the weights before that step are kept"))
      << descent_last_error();
  ASSERT_GT(result.steps, 16); /* so several steps are run at once */
  int64_t last = result.steps;
  options.callbacks.user = &last;
  options.callbacks.on_step = [](void *user, const descent_step_info *info) {
    return info->step == *static_cast<int64_t *>(user) ? 1 : 0;
  };
  ASSERT_EQ(descent_fit(stopped.get(), device.get(), data.get(), nullptr, &options, nullptr), DESCENT_OK);
  EXPECT_EQ(parameters_of(network), parameters_of(stopped));
  EXPECT_NE(parameters_of(network), parameters_of(fresh()));
}

/* ---- checkpoints ---- */

class Checkpointed : public testing::Test {
 protected:
  std::string folder = std::filesystem::temp_directory_path() / ("micro_batches." + std::to_string(getpid()));
  Checkpointed() { std::filesystem::remove_all(folder); }
  ~Checkpointed() override { std::filesystem::remove_all(folder); }
};

/* Too high a rate makes the weights overflow; a rollback with a lower one ends as the same training in one call. */
TEST_F(Checkpointed, ARollbackTrainsOnWithALowerRate) {
  const Rows rows = make_rows(64, 4, 1, 0, 1);
  const Dataset data = rows.dataset();
  descent_train_options options = descent_train_options_default();
  options.optimizer.kind = DESCENT_OPTIMIZER_GD;
  options.optimizer.learning_rate = 1e12;
  options.epochs = 4;
  options.batch_size = 16;
  options.ranks.micro_batches = 4;
  options.checkpoint.folder = folder.c_str();
  options.checkpoint.rollbacks = 1;
  options.checkpoint.rollback_factor = 1e-14;
  const Network network = make_network({4, 8, 1}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_MEAN_SQUARED_ERROR);
  const Network low = make_network({4, 8, 1}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_MEAN_SQUARED_ERROR);
  const Device device = open_device("cpu");
  ASSERT_EQ(descent_fit(network.get(), device.get(), data.get(), nullptr, &options, nullptr), DESCENT_OK)
      << descent_last_error();
  options.checkpoint.folder = nullptr;
  options.checkpoint.rollbacks = 0;
  options.optimizer.learning_rate = 1e12 * 1e-14;
  ASSERT_EQ(descent_fit(low.get(), device.get(), data.get(), nullptr, &options, nullptr), DESCENT_OK);
  EXPECT_EQ(parameters_of(network), parameters_of(low));
}

TEST_F(Checkpointed, ResumingNeedsTheSameNumberUnlessItMayChange) {
  const Rows rows = make_rows(64, 4, 1, 2, 1);
  const Dataset data = rows.dataset();
  const Device device = open_device("cpu");
  const auto fit = [&](const Network &network, int64_t micro_batches, int64_t epochs, const char *may_change) {
    descent_train_options options = descent_train_options_default();
    options.epochs = epochs;
    options.batch_size = 16;
    options.ranks.micro_batches = micro_batches;
    options.checkpoint.folder = options.checkpoint.resume = folder.c_str();
    options.checkpoint.resume_with = may_change;
    return descent_fit(network.get(), device.get(), data.get(), nullptr, &options, nullptr);
  };
  const auto fresh = [] { return make_network({4, 8, 1}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_BINARY_CROSS_ENTROPY); };
  ASSERT_EQ(fit(fresh(), 4, 2, nullptr), DESCENT_OK) << descent_last_error();
  for (int64_t other : {0, 1, 2, 8}) {
    EXPECT_EQ(fit(fresh(), other, 4, "epochs"), DESCENT_ERROR_ARGUMENT);
    EXPECT_TRUE(says("micro_batches was 4 and is " + std::to_string(std::max<int64_t>(other, 1)) + ";"))
        << descent_last_error();
  }
  const Network resumed = fresh(), undisturbed = fresh();
  ASSERT_EQ(fit(resumed, 4, 4, "epochs"), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(fit(fresh(), 2, 6, "epochs,micro_batches"), DESCENT_OK) << descent_last_error();
  std::filesystem::remove_all(folder);
  ASSERT_EQ(fit(undisturbed, 4, 4, nullptr), DESCENT_OK);
  EXPECT_EQ(parameters_of(resumed), parameters_of(undisturbed));
}

/* ---- memory, refusals ---- */

/* Bytes that a training holds on the device. */
int64_t memory_of(int64_t batch, int64_t micro_batches) {
  int64_t bytes = 0;
  descent_train_options options = descent_train_options_default();
  options.batch_size = batch;
  options.epochs = 1;
  options.ranks.micro_batches = micro_batches;
  options.callbacks.user = &bytes;
  options.callbacks.on_epoch = [](void *user, const descent_epoch_info *info) {
    const program &p = info->trainer->program;
    *static_cast<int64_t *>(user) = p.backend->memory(p.compiled);
    return 0;
  };
  const Rows rows = make_rows(4096, 20, 1, 2, 1);
  const Dataset data = rows.dataset();
  const Network network = make_network({20, 64, 32, 1}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_BINARY_CROSS_ENTROPY);
  const Device device = open_device("cpu", 1);
  EXPECT_EQ(descent_fit(network.get(), device.get(), data.get(), nullptr, &options, nullptr), DESCENT_OK)
      << descent_last_error();
  return bytes;
}

TEST(MicroBatchesFit, AStepHoldsTheRowsOfOneAndASumForEachLevel) {
  const Network network = make_network({20, 64, 32, 1}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_BINARY_CROSS_ENTROPY);
  const int64_t part = memory_of(512, 1), cut = memory_of(4096, 8), whole = memory_of(4096, 1);
  const int64_t sums = 3 * network->n_parameters * static_cast<int64_t>(sizeof(float));
  EXPECT_GE(cut, part + sums);
  EXPECT_LE(cut, part + sums + 4096); /* marks of active units and sums of losses, each on its cache lines */
  EXPECT_LT(cut, whole / 4);
}

TEST(MicroBatchesFit, ThatCannotBeAreRefused) {
  const Rows rows = make_rows(20, 4, 1, 2, 1);
  const Dataset data = rows.dataset();
  const Device device = open_device("cpu");
  const struct {
    int64_t batch, micro_batches;
    bool loss;
    const char *says;
  } refused[] = {
      {8, 9, false, "micro_batches 9: must be at most batch_size 8"},
      {0, 21, false, "micro_batches 21: must be at most the 20 rows of a step"},
      {64, 21, false, "micro_batches 21: must be at most the 20 rows of a step"},
      {8, -1, false, "micro_batches -1: must be at least 1, or 0 for one of each rank"},
      {8, 2, true, "micro_batches 2: not available with a loss function of the program, which is given whole steps"},
  };
  for (const auto &c : refused) {
    const Network network = make_network({4, 1}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_BINARY_CROSS_ENTROPY);
    descent_train_options options = descent_train_options_default();
    options.batch_size = c.batch;
    options.ranks.micro_batches = c.micro_batches;
    if (c.loss)
      options.callbacks.loss = [](void *, const float *, const float *, const float *, int64_t, int64_t, float *) {
        return 0.0;
      };
    EXPECT_EQ(descent_fit(network.get(), device.get(), data.get(), nullptr, &options, nullptr), DESCENT_ERROR_ARGUMENT);
    EXPECT_STREQ(descent_last_error(), c.says);
  }
}

/* Its steps are cut though there is one micro-batch: what is asked for is the communicator. */
TEST(MicroBatchesFit, RefuseALossOfTheProgramWithACommunicatorToItself) {
  const Rows rows = make_rows(20, 4, 1, 2, 1);
  const Dataset data = rows.dataset();
  const Device device = open_device("cpu");
  const Network network = make_network({4, 1}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_BINARY_CROSS_ENTROPY);
  descent_train_options options = descent_train_options_default();
  options.callbacks.loss = [](void *, const float *, const float *, const float *, int64_t, int64_t, float *) {
    return 0.0;
  };
  ASSERT_EQ(descent_communicator_open("self", 1, &options.ranks.communicator), DESCENT_OK) << descent_last_error();
  for (const int64_t M : {0, 1, 2}) {
    options.ranks.micro_batches = M;
    EXPECT_EQ(descent_fit(network.get(), device.get(), data.get(), nullptr, &options, nullptr), DESCENT_ERROR_ARGUMENT);
    EXPECT_EQ(descent_last_error(), (M > 1 ? std::string("micro_batches 2") : "communicator") +
                                        ": not available with a loss function of the program, which is given whole "
                                        "steps");
  }
  descent_communicator_close(options.ranks.communicator);
}

TEST(MicroBatchesFit, StepsByHandAreWholeAndOnOneRank) {
  const Device device = open_device("cpu");
  const Network network = make_network({4, 1}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_BINARY_CROSS_ENTROPY);
  descent_train_options options = descent_train_options_default();
  descent_trainer *trainer = nullptr;
  descent_communicator *communicator = nullptr;
  ASSERT_EQ(descent_communicator_open("single", 1, &communicator), DESCENT_OK) << descent_last_error();
  const auto expect_refused = [&](const std::string &what) {
    EXPECT_EQ(descent_trainer_create(network.get(), device.get(), &options, 16, &trainer), DESCENT_ERROR_ARGUMENT);
    EXPECT_EQ(descent_last_error(), what + ": not available for steps by hand; use descent_fit");
  };
  options.batch_size = 16;
  options.ranks.micro_batches = 2;
  expect_refused("micro_batches 2");
  options.ranks.micro_batches = 1;
  options.ranks.communicator = communicator;
  expect_refused("communicator");
  descent_communicator_close(communicator);
  options.ranks.communicator = nullptr;
  EXPECT_EQ(descent_trainer_create(network.get(), device.get(), &options, 16, &trainer), DESCENT_OK);
  descent_trainer_free(trainer);
}

}  // namespace
