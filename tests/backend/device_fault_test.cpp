/* Every call to a device fails in turn, once and from then on, as when a GPU falls off its bus. The operation ends with
 * the device's error, frees its memory, and leaves the network with the weights of an epoch that it names; a training
 * with checkpoints resumes to the same result as without the failure. */
#include <cmath>
#include <functional>
#include <regex>
#include <set>

#include "checkpoints.h"

namespace {

/* ---- the device: the CPU's, where it does not fail ---- */

struct {
  int64_t calls, at; /* at 0: never */
  bool stays;
} fault;

bool happened() { return fault.at && fault.calls >= fault.at; }

template <typename Call>
descent_status fragile(Call call) {
  fault.calls++;
  if (happened() && (fault.stays || fault.calls == fault.at))
    return status_set(DESCENT_ERROR_DEVICE, "the device is gone");
  return call();
}

const backend &table() {
  static const backend made = [] {
    static const backend &cpu = backend_cpu;
    backend b = cpu;
    b.compile = [](backend_device *device, const plan *of, backend_program **p) {
      return fragile([&] { return cpu.compile(device, of, p); });
    };
    b.bind = [](backend_program *p, int buffer, descent_dtype dtype, const void *data, int64_t rows, bool constant) {
      return fragile([&] { return cpu.bind(p, buffer, dtype, data, rows, constant); });
    };
    b.run = [](backend_program *p, plan_range range, const plan_step *steps, int64_t n) {
      return fragile([&] { return cpu.run(p, range, steps, n); });
    };
    b.run_product = [](backend_program *p, int op, int64_t rows, int repeat) {
      return fragile([&] { return cpu.run_product(p, op, rows, repeat); });
    };
    b.read = [](backend_program *p, int buffer, int64_t offset, int64_t count, plan_type type, void *data) {
      memset(data, 0xff, static_cast<size_t>(count) * (type == PLAN_F64 ? 8 : 4)); /* half a copy */
      return fragile([&] { return cpu.read(p, buffer, offset, count, type, data); });
    };
    b.write = [](backend_program *p, int buffer, int64_t offset, int64_t count, plan_type type, const void *data) {
      return fragile([&] { return cpu.write(p, buffer, offset, count, type, data); });
    };
    b.synchronise = [](backend_program *) { return fragile([] { return DESCENT_OK; }); };
    b.measure = [](backend_device *, descent_precision, double *flops, double *bandwidth) {
      return fragile([&] {
        *flops = *bandwidth = 1e10; /* at once: the machine's speed does not matter here */
        return DESCENT_OK;
      });
    };
    return b;
  }();
  return made;
}

Device open_fragile() {
  Device device = open_device("cpu", 1);
  device->backend = &table();
  return device;
}

/* Runs `work` with each of its calls to the device failing in turn; `judge` gets the outcome. The first time nothing
 * fails. If the number of calls depends on time, only some fail, the later the further apart. */
void sweep(const std::function<descent_status()> &work, const std::function<void(descent_status)> &judge,
           double spread = 0) {
  fault = {};
  ASSERT_EQ(work(), DESCENT_OK) << descent_last_error();
  ASSERT_GT(fault.calls, 2);
  int failures = 0;
  for (const bool stays : {false, true})
    for (int64_t at = 1;; at += 1 + static_cast<int64_t>(spread * static_cast<double>(at))) {
      SCOPED_TRACE("call " + std::to_string(at) + (stays ? " and all that follow" : ""));
      fault = {0, at, stays};
      const descent_status status = work();
      if (!happened()) break;
      judge(status);
      failures++;
      if (testing::Test::HasFailure()) return;
    }
  fault = {};
  static int all = 0;
  std::printf("result: %d failures\n", all += failures); /* in this process so far */
}

/* Of trainings that run twice for each failure: every call, but under AddressSanitizer, where it takes half a minute. */
#ifdef __SANITIZE_ADDRESS__
const double FAR_APART = 0.1;
#else
const double FAR_APART = 0;
#endif

void expect_gone(descent_status status) {
  EXPECT_EQ(status, DESCENT_ERROR_DEVICE) << descent_last_error();
  EXPECT_EQ(std::string(descent_last_error()).find("the device is gone"), 0U) << descent_last_error();
}

/* ---- trainings ---- */

/* What the network may hold after a failure, and the error's words for it: the result of a training of so many
 * epochs. */
std::vector<std::vector<float>> after_each_epoch(const Job &job) {
  std::vector<std::vector<float>> states;
  for (int64_t epochs = 0; epochs <= job.options.epochs; epochs++) {
    Job shorter = job;
    shorter.options.epochs = epochs;
    shorter.options.early_stopping.restore_best = false;
    shorter.options.checkpoint.folder = shorter.options.checkpoint.resume = nullptr;
    shorter.through = nullptr;
    const Job::Outcome outcome = shorter.run();
    EXPECT_EQ(outcome.status, DESCENT_OK) << outcome.error;
    states.push_back(outcome.parameters);
  }
  return states;
}

void expect_named_weights(const Job::Outcome &outcome, const std::vector<std::vector<float>> &states) {
  std::smatch found;
  ASSERT_TRUE(
      std::regex_match(outcome.error, found,
                       std::regex("the device is gone(; the (?:initial weights|weights of epoch ([0-9]+)) are kept)?")))
      << outcome.error;
  const size_t epoch = found[2].matched ? std::stoul(found[2]) : 0;
  ASSERT_LT(epoch, states.size());
  EXPECT_EQ(outcome.parameters, states[epoch]) << outcome.error;
}

Job rich_job() {
  Job job = small_job();
  job.options.optimizer.kind = DESCENT_OPTIMIZER_ADAMW;
  job.options.optimizer.clip_norm = 1;
  job.options.balance_classes = true;
  job.options.optimizer.learning_rate = 0.3; /* so that the last epoch is not always the best */
  job.options.epochs = 5;
  job.through = &table();
  return job;
}

TEST(DeviceFault, ATrainingKeepsTheWeightsThatItNames) {
  Job rich = rich_job(), plain = small_job();
  plain.through = &table();
  plain.validate = false;
  plain.options.optimizer.kind = DESCENT_OPTIMIZER_SGD;
  plain.options.optimizer.momentum = 0.5;
  for (const Job &job : {rich, plain}) {
    const std::vector<std::vector<float>> states = after_each_epoch(job);
    Job::Outcome outcome;
    std::set<std::string> said;
    sweep(
        [&] {
          outcome = job.run();
          return outcome.status;
        },
        [&](descent_status status) {
          expect_gone(status);
          expect_named_weights(outcome, states);
          said.insert(outcome.error);
        });
    EXPECT_GT(said.size(), 2U) << "weights of different epochs";
  }
}

/* From its first step, and when it is itself resumed. */
TEST(DeviceFault, ATrainingResumesFromItsCheckpoints) {
  const Scratch scratch;
  const std::string folder = scratch / "c", before = scratch / "before";
  Job job = rich_job();
  const std::vector<std::vector<float>> states = after_each_epoch(job);
  const Job::Outcome whole = job.run();
  job.options.checkpoint.folder = before.c_str();
  job.options.checkpoint.epochs = 1;
  job.options.checkpoint.keep = 9;
  ASSERT_EQ(job.run().status, DESCENT_OK) << descent_last_error();
  for (const int64_t step : steps_in(before))
    if (step > 8) std::filesystem::remove(before + "/" + checkpoint_name(step)); /* two epochs */
  job.options.checkpoint.folder = job.options.checkpoint.resume = folder.c_str();
  Job healthy = job;
  healthy.through = nullptr;
  for (const bool resumed : {false, true}) {
    Job::Outcome outcome;
    sweep(
        [&] {
          std::filesystem::remove_all(folder);
          if (resumed) std::filesystem::copy(before, folder);
          outcome = job.run();
          return outcome.status;
        },
        [&](descent_status status) {
          expect_gone(status);
          expect_named_weights(outcome, states);
          expect_same_end(whole, healthy.run());
        });
  }
}

TEST(DeviceFault, ATrainingThatDivergesStillRollsBack) {
  const Scratch scratch;
  const std::string folder = scratch / "c";
  Job job = returning_job(folder);
  job.options.checkpoint.resume = folder.c_str();
  const Job::Outcome whole = job.run();
  ASSERT_EQ(whole.status, DESCENT_OK) << whole.error;
  const Job healthy = job;
  job.through = &table();
  Job::Outcome outcome;
  sweep(
      [&] {
        std::filesystem::remove_all(folder);
        outcome = job.run();
        return outcome.status;
      },
      [&](descent_status status) {
        expect_gone(status);
        expect_same_end(whole, healthy.run());
      },
      FAR_APART);
}

/* The error is the divergence, or the device's failure before it was found or while its cause was sought; either names
 * the weights that are kept. The network has its initial weights: this one diverges in its first epoch. */
TEST(DeviceFault, ATrainingThatDivergesIsReported) {
  Job job = exploding_job("");
  job.options.checkpoint.folder = nullptr;
  job.options.epochs = 0;
  const std::vector<float> initial = job.run().parameters;
  job.options.epochs = 3;
  const Job::Outcome healthy = job.run();
  ASSERT_EQ(healthy.status, DESCENT_ERROR_DIVERGED);
  const std::string cause = healthy.error.substr(0, healthy.error.rfind(';'));
  job.through = &table();
  Job::Outcome outcome;
  bool both = false;
  sweep(
      [&] {
        outcome = job.run();
        return outcome.status == DESCENT_ERROR_DIVERGED && !happened() ? DESCENT_OK : outcome.status;
      },
      [&](descent_status status) {
        if (status == DESCENT_ERROR_DIVERGED) {
          both = true;
          EXPECT_EQ(outcome.error, cause + "; the initial weights are kept");
        } else {
          expect_gone(status);
        }
        EXPECT_EQ(outcome.parameters, initial) << outcome.error;
      });
  EXPECT_TRUE(both);
}

/* Within an epoch, where the last checkpoint and the final weights are those of a step. */
TEST(DeviceFault, ATrainingThatIsStoppedKeepsTheWeightsThatItNames) {
  const Scratch scratch;
  const std::string folder = scratch / "c";
  for (const bool validate : {false, true})
    for (const int64_t step : {2, 6}) {
      Job job = small_job();
      job.validate = validate;
      job.options.early_stopping.restore_best = false;
      job.options.checkpoint.folder = folder.c_str();
      job.options.callbacks.user = const_cast<int64_t *>(&step);
      job.options.callbacks.on_step = [](void *user, const descent_step_info *info) {
        return static_cast<int>(info->step == *static_cast<int64_t *>(user));
      };
      const std::vector<float> stopped = job.run().parameters;
      Job whole_epochs = job;
      whole_epochs.options.callbacks.on_step = nullptr;
      whole_epochs.options.callbacks.user = nullptr;
      const std::vector<std::vector<float>> states = after_each_epoch(whole_epochs);
      job.through = &table();
      Job::Outcome outcome;
      bool of_step = false;
      sweep(
          [&] {
            std::filesystem::remove_all(folder);
            outcome = job.run();
            return outcome.status;
          },
          [&](descent_status status) {
            expect_gone(status);
            const std::string named = "the weights of step " + std::to_string(step) + " are kept";
            if (outcome.error == "the device is gone; " + named) {
              of_step = true;
              EXPECT_EQ(outcome.parameters, stopped);
            } else {
              expect_named_weights(outcome, states);
            }
          });
      EXPECT_TRUE(of_step);
      std::filesystem::remove_all(folder);
    }
}

TEST(DeviceFault, StepsByHand) {
  const Device device = open_fragile();
  const Rows rows = make_rows(20, 4, 1, 3, 1);
  const Network network = make_network({4, 6, 3}, DESCENT_ACTIVATION_TANH, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
  const std::vector<float> initial = parameters_of(network);
  descent_train_options options = descent_train_options_default();
  options.optimizer.clip_norm = 1;
  const std::vector<float> bad(rows.X.size(), NAN);
  const auto work = [&]() -> descent_status {
    memcpy(network->parameters, initial.data(), initial.size() * sizeof(float));
    descent_trainer *made = nullptr;
    descent_status status = descent_trainer_create(network.get(), device.get(), &options, 20, &made);
    const Trainer trainer(made, descent_trainer_free);
    std::vector<float> W(24), b(6);
    for (int step = 0; step < 3 && status == DESCENT_OK; step++) {
      status = descent_trainer_step(made, rows.X.data(), rows.y.data(), nullptr, 20, nullptr);
      if (status == DESCENT_OK) status = descent_trainer_step(made, bad.data(), rows.y.data(), nullptr, 20, nullptr);
      if (status == DESCENT_ERROR_DIVERGED) status = descent_trainer_get_layer(made, 1, W.data(), b.data());
    }
    return status == DESCENT_OK ? descent_trainer_sync(made) : status;
  };
  sweep(work, [&](descent_status status) {
    expect_gone(status);
    EXPECT_EQ(parameters_of(network), initial);
  });
}

/* ---- the rest ---- */

class DeviceFaultAfterwards : public testing::Test {
 protected:
  void gone(const std::function<descent_status()> &work, double spread = 0) { sweep(work, expect_gone, spread); }

  Device device_ = open_fragile();
  Network network_ = make_network({4, 6, 3}, DESCENT_ACTIVATION_TANH, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
  Rows data_ = make_rows(20, 4, 1, 3, 1);
  Dataset rows_ = data_.dataset();
  descent_train_options options_ = descent_train_options_default();
};

TEST_F(DeviceFaultAfterwards, Evaluation) {
  gone([&] {
    descent_metrics metrics{};
    const descent_status status = descent_evaluate(network_.get(), device_.get(), rows_.get(), 0, &metrics);
    descent_metrics_clear(&metrics);
    return status;
  });
}

TEST_F(DeviceFaultAfterwards, Prediction) {
  std::vector<float> outputs(60);
  gone([&] { return descent_predict(network_.get(), device_.get(), rows_.get(), outputs.data()); });
  gone([&] { return descent_predict_raw(network_.get(), device_.get(), rows_.get(), outputs.data()); });
}

TEST_F(DeviceFaultAfterwards, Bench) {
  descent_bench_result result;
  gone([&] { return descent_bench(network_.get(), device_.get(), &options_, 1e-3, nullptr, nullptr, &result); }, 0.1);
}

TEST_F(DeviceFaultAfterwards, VerifyingEitherOfTwo) {
  const Device other = open_device("reference");
  bool passed;
  gone([&] {
    return descent_verify(network_.get(), device_.get(), other.get(), &options_, 8, 2, nullptr, nullptr, &passed);
  });
  gone([&] {
    return descent_verify(network_.get(), other.get(), device_.get(), &options_, 8, 2, nullptr, nullptr, &passed);
  });
}

}  // namespace
