/* One device used by many threads at once: each gets the bits that it would get alone. Objects may be freed in any order,
 * and a child of fork() cannot use inherited devices. */
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <thread>

#include "training.h"

namespace {

enum { ROWS = 700, BATCH = 400, STEPS = 6, PREDICTIONS = 4 };

struct Work {
  Work() : data(given.dataset()) {}
  static Network network(uint64_t seed) {
    return make_network({6, 40, 24, 3}, DESCENT_ACTIVATION_GELU, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, seed);
  }
  static descent_train_options options() {
    descent_train_options made = descent_train_options_default();
    made.dropout = 0.25;
    made.autotune = false;  // times of products under load choose others
    return made;
  }

  /* The parameters after some steps. */
  std::vector<float> train(descent_device *device, uint64_t seed) const {
    const Network trained = network(seed);
    const descent_train_options how = options();
    descent_trainer *made = nullptr;
    EXPECT_EQ(descent_trainer_create(trained.get(), device, &how, BATCH, &made), DESCENT_OK) << descent_last_error();
    const Trainer trainer(made, descent_trainer_free);
    for (int t = 0; t < STEPS; t++)
      EXPECT_EQ(descent_trainer_step(made, given.X.data() + t * 6, given.y.data() + t, nullptr, BATCH, nullptr),
                DESCENT_OK)
          << descent_last_error();
    EXPECT_EQ(descent_trainer_sync(made), DESCENT_OK) << descent_last_error();
    return parameters_of(trained);
  }

  std::vector<float> predict(descent_device *device, const Network &with) const {
    std::vector<float> P(ROWS * 3);
    EXPECT_EQ(descent_predict(with.get(), device, data.get(), P.data()), DESCENT_OK) << descent_last_error();
    return P;
  }

  Rows given = make_rows(ROWS, 6, 1, 3, 5);
  Dataset data;
  Network shared = network(1);
};

struct Candidate {
  const char *device;
  int threads, rounds;
};
std::ostream &operator<<(std::ostream &out, const Candidate &c) { return out << c.device << " with " << c.threads; }

class SharedDevice : public testing::TestWithParam<Candidate> {};

TEST_P(SharedDevice, GivesEveryThreadTheBitsThatItWouldGetAlone) {
  const Work work;
  const Device alone = open_device(GetParam().device, 1), device = open_device(GetParam().device, GetParam().threads);
  const std::vector<float> predicted = work.predict(alone.get(), work.shared);
  const std::vector<float> trained[] = {work.train(alone.get(), 2), work.train(alone.get(), 3)};
  for (int round = 0; round < GetParam().rounds; round++) {
    std::vector<std::thread> threads;
    std::atomic<int> waiting{4};
    const auto at_once = [&](const std::function<void()> &call) {
      threads.emplace_back([&waiting, call] {
        for (--waiting; waiting > 0;) std::this_thread::yield();
        call();
      });
    };
    for (int i = 0; i < 2; i++) {
      at_once([&, i] { EXPECT_EQ(work.train(device.get(), static_cast<uint64_t>(2 + i)), trained[i]); });
      at_once([&] {
        for (int n = 0; n < PREDICTIONS; n++) EXPECT_EQ(work.predict(device.get(), work.shared), predicted);
      });
    }
    for (std::thread &thread : threads) thread.join();
  }
}

TEST_P(SharedDevice, LivesAsLongAsATrainerUsesIt) {
  const Work work;
  const descent_train_options options = Work::options();
  descent_network *network = Work::network(2).release();
  descent_device *device = open_device(GetParam().device, GetParam().threads).release();
  const std::vector<float> expected = work.train(device, 2);
  descent_trainer *made = nullptr;
  ASSERT_EQ(descent_trainer_create(network, device, &options, BATCH, &made), DESCENT_OK) << descent_last_error();
  const Trainer trainer(made, descent_trainer_free);
  descent_device_close(device);
  EXPECT_EQ(descent_trainer_create(network, device, &options, BATCH, &made), DESCENT_ERROR_ARGUMENT);
  EXPECT_STREQ(descent_last_error(), "device: not a device, or already freed");
  descent_network_free(network);
  EXPECT_EQ(descent_network_inputs(network), 0);
  for (int t = 0; t < STEPS; t++)
    ASSERT_EQ(descent_trainer_step(trainer.get(), work.given.X.data() + t * 6, work.given.y.data() + t, nullptr, BATCH,
                                   nullptr),
              DESCENT_OK)
        << descent_last_error();
  EXPECT_EQ(descent_trainer_sync(trainer.get()), DESCENT_OK) << descent_last_error();
  float b[3];
  EXPECT_EQ(descent_trainer_get_layer(trainer.get(), 3, nullptr, b), DESCENT_OK) << descent_last_error();
  const Network like = Work::network(1);
  const float *last = expected.data() + like->layers[2].at.b;
  EXPECT_EQ(std::vector<float>(b, b + 3), std::vector<float>(last, last + 3));
}

/* Runs `work` in a child of fork(), which returns 0 for success. */
int in_child(const std::function<int()> &work) {
  const pid_t child = fork();
  if (child == 0) _exit(work());
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

TEST_P(SharedDevice, IsRefusedInAChildOfForkWhereNetworksAndDatasetsWork) {
  const Work work;
  const descent_train_options options = Work::options();
  Device device = open_device(GetParam().device, GetParam().threads);
  const Network network = Work::network(2);
  descent_trainer *trainer = nullptr;
  ASSERT_EQ(descent_trainer_create(network.get(), device.get(), &options, BATCH, &trainer), DESCENT_OK);
  const Trainer freed_here(trainer, descent_trainer_free);
  const auto says_fork = [](descent_status status) {
    return status == DESCENT_ERROR_DEVICE && strstr(descent_last_error(), "before fork()") != nullptr;
  };
  EXPECT_EQ(in_child([&] {
              float P[ROWS * 3];
              descent_dataset *kept = nullptr, *held_out = nullptr;
              descent_trainer *other = nullptr;
              if (!says_fork(descent_predict(network.get(), device.get(), work.data.get(), P))) return 1;
              if (!says_fork(descent_trainer_create(network.get(), device.get(), &options, BATCH, &other))) return 2;
              if (!says_fork(
                      descent_trainer_step(trainer, work.given.X.data(), work.given.y.data(), nullptr, BATCH, nullptr)))
                return 3;
              if (!says_fork(descent_trainer_sync(trainer))) return 4;
              if (descent_dataset_split(work.data.get(), 0.5, 1, &kept, &held_out) != DESCENT_OK) return 5;
              descent_dataset_free(kept);
              descent_trainer_free(trainer);
              if (descent_network_initialise(network.get(), DESCENT_INIT_AUTO, 3) != DESCENT_OK) return 6;
              descent_device_close(device.get());
              return 0;
            }),
            0);
  EXPECT_EQ(work.predict(device.get(), network).size(), ROWS * 3U) << "the parent's device is unharmed";
}

INSTANTIATE_TEST_SUITE_P(Devices, SharedDevice,
                         testing::Values(Candidate{"cpu", 1, 1}, Candidate{"cpu", 3, 8}, Candidate{"reference", 1, 1},
                                         Candidate{"cuda", 1, 1}),
                         [](const auto &candidate) {
                           return std::string(candidate.param.device) + "_" + std::to_string(candidate.param.threads);
                         });

TEST(Device, OpenedInAChildOfForkWorksThere) {
  const Work work;
  const Device device = open_device("cpu", 2);
  const std::vector<float> expected = work.predict(device.get(), work.shared);
  EXPECT_EQ(in_child([&] {
              const Device own = open_device("cpu", 2);
              return own && work.predict(own.get(), work.shared) == expected ? 0 : 1;
            }),
            0);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* which reserve more addresses than the limit */
/* OpenBLAS would retry without end to allocate a buffer for the products of each thread. */
TEST(Device, IsSharedWhereAddressesAreLimited) {
  enum { THREADS = 6, WIDTH = 256, RUNS = 40 };
  const Network network =
      make_network({WIDTH, WIDTH, WIDTH, 3}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, 1);
  EXPECT_EQ(in_child([&] {
              alarm(60);
              long pages = 0;
              FILE *const file = fopen("/proc/self/statm", "r");
              if (!file || fscanf(file, "%ld", &pages) != 1) return 1;
              fclose(file);
              /* stacks of 8 MB, a buffer of 128 MB, and less than another one */
              const rlim_t bytes = static_cast<rlim_t>(pages) * static_cast<rlim_t>(getpagesize()) + (280 << 20);
              const struct rlimit limit = {bytes, bytes};
              if (setrlimit(RLIMIT_AS, &limit) != 0) return 2;
              const Device device = open_device("cpu", 1);
              if (!device) return 3;
              std::vector<descent_predictor *> predictors(THREADS);
              for (descent_predictor *&predictor : predictors)
                if (descent_predictor_create(network.get(), device.get(), WIDTH, &predictor) != DESCENT_OK) return 4;
              const std::vector<float> X(WIDTH * WIDTH, 0.5F);
              std::vector<std::thread> threads;
              std::atomic<int> failures{0};
              for (descent_predictor *predictor : predictors)
                threads.emplace_back([&, predictor] {
                  std::vector<float> P(WIDTH * 3);
                  for (int run = 0; run < RUNS; run++)
                    failures += descent_predictor_run(predictor, X.data(), WIDTH, P.data()) != DESCENT_OK;
                });
              for (std::thread &thread : threads) thread.join();
              for (descent_predictor *predictor : predictors) descent_predictor_free(predictor);
              return failures ? 5 : 0;
            }),
            0);
}
#endif

TEST(Network, IsNotChangedWhileATrainerLives) {
  const Work work;
  const Device device = open_device("cpu", 1);
  const Network network = Work::network(2);
  const descent_train_options options = Work::options();
  const std::vector<float> before = parameters_of(network);
  std::vector<float> W(6 * 40, 1);
  const auto set = [&] { return descent_network_set_layer(network.get(), 1, W.data(), nullptr); };
  const auto initialise = [&] { return descent_network_initialise(network.get(), DESCENT_INIT_AUTO, 9); };
  const auto fit = [&] {
    return descent_network_fit_preprocessing(network.get(), work.data.get(), DESCENT_NORMALIZE_STANDARD,
                                             DESCENT_IMPUTE_MEAN, false);
  };
  const auto load = [&] { return descent_network_load_weights(network.get(), "unread.safetensors"); };
  const auto train = [&] {
    return descent_fit(network.get(), device.get(), work.data.get(), nullptr, &options, nullptr);
  };
  descent_trainer *trainer = nullptr;
  ASSERT_EQ(descent_trainer_create(network.get(), device.get(), &options, BATCH, &trainer), DESCENT_OK);
  for (const std::function<descent_status()> &change :
       std::vector<std::function<descent_status()>>{set, initialise, fit, load, train}) {
    EXPECT_EQ(change(), DESCENT_ERROR_ARGUMENT);
    EXPECT_STREQ(descent_last_error(),
                 "network: in use by a trainer, which would overwrite the change: free the trainer first");
    EXPECT_EQ(parameters_of(network), before);
    EXPECT_FALSE(descent_network_imputes(network.get()));
  }
  EXPECT_EQ(descent_network_set_provenance(network.get(), "not a part of the training"), DESCENT_OK);
  descent_trainer_free(trainer);
  EXPECT_EQ(set(), DESCENT_OK);
  EXPECT_EQ(fit(), DESCENT_OK);
}

/* The number of threads of the BLAS is the program's own again once the last CPU device is closed. */
extern "C" {
__attribute__((weak)) void openblas_set_num_threads(int threads);
__attribute__((weak)) int openblas_get_num_threads(void);
}

TEST(Blas, HasItsThreadsBackWhenTheLastDeviceIsClosed) {
  if (!openblas_get_num_threads) GTEST_SKIP() << "the BLAS is not OpenBLAS, whose functions this test calls";
  openblas_set_num_threads(2);
  const int own = openblas_get_num_threads(); /* 1 where it was built so */
  Device first = open_device("cpu", 1), second = open_device("cpu", 2);
  EXPECT_EQ(openblas_get_num_threads(), 1);
  first.reset();
  EXPECT_EQ(openblas_get_num_threads(), 1);
  second.reset();
  EXPECT_EQ(openblas_get_num_threads(), own);
  descent_device *refused = nullptr;
  EXPECT_EQ(descent_device_open("cpu", 257, &refused), DESCENT_ERROR_ARGUMENT);
  EXPECT_EQ(openblas_get_num_threads(), own);
  first = open_device("cpu", 1);
  openblas_set_num_threads(3); /* the program's wish, against what the device asked for */
  const int wish = openblas_get_num_threads();
  first.reset();
  EXPECT_EQ(openblas_get_num_threads(), wish);
}

TEST(Blas, HasItsThreadsBackInAChildOfForkToo) {
  if (!openblas_get_num_threads) GTEST_SKIP() << "the BLAS is not OpenBLAS, whose functions this test calls";
  openblas_set_num_threads(2);
  const int own = openblas_get_num_threads();
  Device inherited = open_device("cpu", 1);
  EXPECT_EQ(in_child([&] {
              Device of_child = open_device("cpu", 1);
              if (openblas_get_num_threads() != 1) return 1;
              inherited.reset(); /* in either order */
              if (openblas_get_num_threads() != 1) return 2;
              of_child.reset();
              return openblas_get_num_threads() == own ? 0 : 3;
            }),
            0);
  EXPECT_EQ(openblas_get_num_threads(), 1);
  inherited.reset();
  EXPECT_EQ(openblas_get_num_threads(), own);
}

}  // namespace
