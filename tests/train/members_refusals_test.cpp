/* What members do not take is refused in one line that names the member, before any network, result or folder changes. */
#include <dlfcn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <regex>

#include "members.h"

extern "C" {
#include "train/members_memory.h"
}

namespace {

const Rows classes = make_rows(90, 5, 1, 3, 1), held_out = make_rows(50, 5, 1, 3, 2);

Training plain(uint64_t seed) {
  Training t;
  t.rows = &classes;
  t.held_out = &held_out;
  t.weights = t.options.seed = seed;
  t.options.epochs = 2;
  t.options.batch_size = 16;
  return t;
}

class MembersRefusals : public testing::Test {
 protected:
  /* Changes one of four members; the call then fails with a text that begins so, and changes nothing. */
  void expect_refused(const std::function<void(Members *)> &change, descent_status status, const std::string &text) {
    SCOPED_TRACE(text);
    Members members({plain(1), plain(2), plain(3), plain(4)}, device_, scratch_.path());
    std::vector<std::vector<float>> before;
    for (size_t k = 0; k < 4; k++) before.push_back(parameters_of(members.network(k)));
    for (descent_member &m : members.members()) {
      m.status = DESCENT_ERROR_INTERNAL;
      m.result.epochs = 77;
    }
    change(&members);
    EXPECT_EQ(descent_fit_members(device_.get(), members.members().data(), 4, nullptr), status);
    EXPECT_EQ(scratch_.plain(descent_last_error()).find(text), 0u) << descent_last_error();
    for (size_t k = 0; k < 4; k++) {
      EXPECT_EQ(parameters_of(members.network(k)), before[k]);
      EXPECT_EQ(members.members()[k].status, DESCENT_ERROR_INTERNAL);
      EXPECT_EQ(members.members()[k].result.epochs, 77);
      EXPECT_EQ(members.network(k)->trainers, 0);
    }
  }

  /* Of member 2. */
  void expect_option_refused(const std::function<void(descent_train_options *)> &change, descent_status status,
                             const std::string &text) {
    descent_train_options options;
    expect_refused(
        [&](Members *m) {
          options = *m->members()[2].options;
          change(&options);
          m->members()[2].options = &options;
        },
        status, "member 2: " + text);
  }

  Device device_ = open_device("cpu");
  Scratch scratch_;
};

TEST_F(MembersRefusals, OfWhatDescentFitRefuses) {
  using Options = descent_train_options;
  const descent_status argument = DESCENT_ERROR_ARGUMENT;
  expect_option_refused([](Options *o) { o->dropout = 1; }, argument, "dropout 1: must be in [0, 1)");
  expect_option_refused([](Options *o) { o->optimizer.learning_rate = -1; }, argument, "learning_rate -1: must be");
  expect_option_refused([](Options *o) { o->size = 3; }, argument, "train options must start from");
  expect_option_refused([](Options *o) { o->checkpoint.keep_best = true; }, argument, "keep_best: needs a checkpoint");
  expect_option_refused([](Options *o) { o->precision = DESCENT_PRECISION_BF16; }, DESCENT_ERROR_UNSUPPORTED,
                        "precision bf16: the cpu computes in fp32");
  expect_refused([](Members *m) { m->members()[3].network = nullptr; }, argument, "member 3: network: is NULL");
  expect_refused([](Members *m) { m->members()[1].training = nullptr; }, argument, "member 1: training: is NULL");
  expect_refused([](Members *m) { m->members()[0].options = nullptr; }, argument,
                 "member 0: train options must start from");
  const Rows narrow = make_rows(20, 4, 1, 3, 1);
  const Dataset other = narrow.dataset();
  expect_refused([&](Members *m) { m->members()[1].training = other.get(); }, argument, "member 1: the training data");
  expect_refused([&](Members *m) { m->members()[3].validation = other.get(); }, argument,
                 "member 3: the validation data");
}

TEST_F(MembersRefusals, OfWhatMembersDoNotTake) {
  using Options = descent_train_options;
  descent_communicator *communicator = nullptr;
  ASSERT_EQ(descent_communicator_open("single", 1, &communicator), DESCENT_OK) << descent_last_error();
  expect_option_refused([&](Options *o) { o->ranks.communicator = communicator; }, DESCENT_ERROR_ARGUMENT,
                        "communicator: not available for members");
  descent_communicator_close(communicator);
  expect_option_refused([](Options *o) { o->ranks.micro_batches = 2; }, DESCENT_ERROR_ARGUMENT,
                        "micro_batches 2: not available for members");
}

TEST_F(MembersRefusals, OfTwoThatShareANetwork) {
  expect_refused([](Members *m) { m->members()[3].network = m->members()[1].network; }, DESCENT_ERROR_ARGUMENT,
                 "member 3: network: is that of member 1: each member needs another");
}

TEST_F(MembersRefusals, OfANetworkThatATrainerUses) {
  descent_trainer *trainer = nullptr;
  const Network used = make_network({5, 4, 3}, DESCENT_ACTIVATION_TANH, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
  const descent_train_options options = descent_train_options_default();
  ASSERT_EQ(descent_trainer_create(used.get(), device_.get(), &options, 4, &trainer), DESCENT_OK);
  expect_refused([&](Members *m) { m->members()[2].network = used.get(); }, DESCENT_ERROR_ARGUMENT, "member 2: ");
  descent_trainer_free(trainer);
}

/* Under another name too. */
TEST_F(MembersRefusals, OfTwoThatShareAFolder) {
  const std::string folder = scratch_ / "c", again = scratch_ / "./c", linked = scratch_ / "linked";
  std::filesystem::create_directory_symlink("c", linked);
  for (const std::string &other : {folder, again, linked}) {
    descent_train_options first, second;
    expect_refused(
        [&](Members *m) {
          first = second = *m->members()[0].options;
          first.checkpoint.folder = folder.c_str();
          second.checkpoint.folder = other.c_str();
          m->members()[0].options = &first;
          m->members()[3].options = &second;
        },
        DESCENT_ERROR_ARGUMENT, "member 3: checkpoint '");
    EXPECT_NE(std::string(descent_last_error()).find("is the folder of member 0: each member needs another"),
              std::string::npos);
    EXPECT_TRUE(steps_in(folder).empty());
  }
}

/* The folder of another training is found before the others begin theirs. */
TEST_F(MembersRefusals, OfAUsedFolderLeavesTheOthersWithoutCheckpoints) {
  Training used = plain(9);
  used.folder = "used";
  Members({used}, device_, scratch_.path()).train_together();
  const std::string fresh = scratch_ / "fresh", taken = scratch_ / "used";
  descent_train_options first, second;
  expect_refused(
      [&](Members *m) {
        first = second = *m->members()[0].options;
        first.checkpoint.folder = fresh.c_str();
        second.checkpoint.folder = taken.c_str();
        m->members()[0].options = &first;
        m->members()[3].options = &second;
      },
      DESCENT_ERROR_ARGUMENT, "member 3: checkpoint '");
  EXPECT_TRUE(steps_in(fresh).empty());
}

/* A member that resumes keeps its network's parameters when another is refused. */
TEST_F(MembersRefusals, OfAnotherLeaveTheNetworkOfOneThatResumes) {
  Training used = plain(9);
  used.folder = "c";
  Members({used}, device_, scratch_.path()).train_together();
  const std::string folder = scratch_ / "c";
  descent_train_options first, second;
  expect_refused(
      [&](Members *m) {
        first = second = *m->members()[0].options;
        first.seed = 9;
        first.checkpoint.resume = folder.c_str();
        second.checkpoint.folder = folder.c_str();
        m->members()[0].options = &first;
        m->members()[3].options = &second;
      },
      DESCENT_ERROR_ARGUMENT, "member 3: ");
}

TEST_F(MembersRefusals, OfADeviceThatAChildHasInherited) {
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const Network network = make_network({5, 4, 3}, DESCENT_ACTIVATION_TANH, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
    const Dataset data = classes.dataset();
    const descent_train_options options = descent_train_options_default();
    descent_member member = descent_member_default();
    member.network = network.get(), member.training = data.get(), member.options = &options;
    _exit(descent_fit_members(device_.get(), &member, 1, nullptr) == DESCENT_ERROR_DEVICE ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

/* ---- sizes ------------------------------------------------------------------------------------------------------- */

TEST_F(MembersRefusals, OfSizesThatDiffer) {
  expect_refused([](Members *m) { m->members()[1].size -= 8; }, DESCENT_ERROR_ARGUMENT,
                 "member 1: size " + std::to_string(sizeof(descent_member) - 8) + ": must be that of member 0, " +
                     std::to_string(sizeof(descent_member)));
  expect_refused([](Members *m) { m->members()[0].size = 5; }, DESCENT_ERROR_ARGUMENT,
                 "a member must start from descent_member_default()");
  expect_refused([](Members *m) { m->members()[2].unused[1] = 1; }, DESCENT_ERROR_ARGUMENT, "member 2: a member");
  descent_member none = descent_member_default();
  for (int64_t count : {INT64_C(0), INT64_C(-1), INT64_MIN}) {
    EXPECT_EQ(descent_fit_members(device_.get(), &none, count, nullptr), DESCENT_ERROR_ARGUMENT);
    EXPECT_EQ(std::string(descent_last_error()), "count " + std::to_string(count) + ": must be at least 1");
  }
  EXPECT_EQ(descent_fit_members(device_.get(), &none, INT64_MAX, nullptr), DESCENT_ERROR_MEMORY);
  descent_members_options options = descent_members_options_default();
  options.reserved[2] = 1;
  EXPECT_EQ(descent_fit_members(device_.get(), &none, 1, &options), DESCENT_ERROR_ARGUMENT);
}

/* Arrays of programs with an older or a newer header: nothing beyond their structs is written, and nothing is missing. */
TEST_F(MembersRefusals, KeepToTheSizeOfTheCallersStruct) {
  const size_t sizes[] = {offsetof(descent_member, status), offsetof(descent_member, status) + 8,
                          offsetof(descent_member, result), sizeof(descent_member), sizeof(descent_member) + 24};
  const std::vector<Seen> expected = Members({plain(1), plain(2)}, device_, scratch_ / "expected").train_together();
  for (size_t size : sizes) {
    SCOPED_TRACE(size);
    Members members({plain(1), plain(2)}, device_, scratch_ / std::to_string(size));
    std::vector<uint64_t> memory(2 * size / 8 + 1, 0);
    char *bytes = reinterpret_cast<char *>(memory.data());
    memory.back() = 0x1234567812345678;
    for (size_t k = 0; k < 2; k++) {
      members.members()[k].size = size;
      std::memcpy(bytes + k * size, &members.members()[k], std::min(size, sizeof(descent_member)));
    }
    ASSERT_EQ(descent_fit_members(device_.get(), reinterpret_cast<descent_member *>(bytes), 2, nullptr), DESCENT_OK)
        << descent_last_error();
    EXPECT_EQ(memory.back(), UINT64_C(0x1234567812345678));
    for (size_t k = 0; k < 2; k++) {
      descent_member got{};
      std::memcpy(&got, bytes + k * size, std::min(size, sizeof got));
      EXPECT_EQ(got.size, size);
      EXPECT_EQ(got.network, members.network(k).get());
      EXPECT_EQ(parameters_of(members.network(k)), expected[k].parameters);
      if (size >= sizeof got) {
        EXPECT_EQ(text_of(got.result), text_of(expected[k].result));
      }
      for (size_t i = sizeof got; i < size; i++) EXPECT_EQ(bytes[k * size + i], 0);
    }
  }
}

/* ---- memory ------------------------------------------------------------------------------------------------------ */

/* Trainings of which the first is compiled, as descent_fit_members has them when it compares. */
struct Compared {
  explicit Compared(const std::vector<std::vector<int64_t>> &widths) : fits(widths.size()) {
    for (size_t k = 0; k < widths.size(); k++) {
      networks.push_back(make_network(widths[k], DESCENT_ACTIVATION_RELU, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY));
      fits[k].network = networks[k].get();
      fits[k].device = device.get();
      fits[k].training = data.get();
      fits[k].options = descent_train_options_default();
      EXPECT_EQ(fit_check(&fits[k]), DESCENT_OK) << descent_last_error();
    }
    EXPECT_EQ(fit_compile(&fits[0]), DESCENT_OK) << descent_last_error();
  }
  ~Compared() {
    for (struct fit &f : fits) fit_end(&f, DESCENT_OK);
  }

  descent_status check(int64_t available) {
    write_file(root / "proc/meminfo", "MemAvailable: " + std::to_string(available >> 10) + " kB\n");
    return members_check_memory(root.path().c_str(), fits.data(), static_cast<int64_t>(fits.size()));
  }
  /* Of a training that is compiled. */
  int64_t bytes_of(size_t k) {
    const struct program *program = &fits[k].trainer->program;
    return program->backend->memory(program->compiled) + 4 * fits[k].network->n_parameters;
  }

  Device device = open_device("cpu", 1);
  Rows rows = make_rows(64, 5, 1, 3, 1);
  Dataset data = rows.dataset();
  std::vector<Network> networks;
  std::vector<struct fit> fits;
  Scratch root;
  bool made = std::filesystem::create_directory(root / "proc");
};

TEST(MembersMemory, IsComparedBeforeTheOthersAreCompiled) {
  Compared c(std::vector<std::vector<int64_t>>(64, {5, 200, 3}));
  const int64_t one = c.bytes_of(0);
  EXPECT_EQ(c.check(63 * one + (1 << 10)), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(c.check(INT64_C(1) << 40), DESCENT_OK);
  ASSERT_EQ(c.check(41 * one + one / 2), DESCENT_ERROR_MEMORY);
  char expected[200];
  std::snprintf(expected, sizeof expected, "64 members need %.3g GB of memory, %.3g GB are available: 42 would fit",
                64 * static_cast<double>(one) * 1e-9,
                static_cast<double>(((41 * one + one / 2) >> 10 << 10) + one) * 1e-9);
  EXPECT_EQ(std::string(descent_last_error()), expected);
  ASSERT_EQ(c.check(1 << 10), DESCENT_ERROR_MEMORY);
  EXPECT_NE(std::string(descent_last_error()).find(": 1 would fit"), std::string::npos) << descent_last_error();
}

/* fit_check has made them for all members; what k members need has the copies of these. */
TEST(MembersMemory, HasTheCopiesOfDatasetsInIt) {
  Compared c(std::vector<std::vector<int64_t>>(4, {5, 200, 3}));
  const int64_t one = c.bytes_of(0), copy = 100000 * 6 * 4;
  const Rows rows = make_rows(100000, 5, 1, 3, 1);
  for (struct fit &f : c.fits) f.aligned[0] = rows.dataset().release();
  EXPECT_EQ(c.check(3 * one + (1 << 10)), DESCENT_OK) << descent_last_error();
  const int64_t available = (5 * one / 2) >> 10 << 10;
  ASSERT_EQ(c.check(available), DESCENT_ERROR_MEMORY);
  char expected[200];
  std::snprintf(expected, sizeof expected, "4 members need %.3g GB of memory, %.3g GB are available: 3 would fit",
                4 * static_cast<double>(one + copy) * 1e-9, static_cast<double>(available + one + 4 * copy) * 1e-9);
  EXPECT_EQ(std::string(descent_last_error()), expected);
}

/* The estimate of a shape by that of another one is as good as a fifth of it. */
TEST(MembersMemory, OfOtherShapesIsEstimated) {
  Compared c({{5, 200, 3}, {5, 900, 900, 3}});
  EXPECT_EQ(fit_compile(&c.fits[1]), DESCENT_OK);
  const int64_t other = c.bytes_of(1);
  EXPECT_EQ(c.check(other * 6 / 5), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(c.check(other * 4 / 5), DESCENT_ERROR_MEMORY);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* which reserve more addresses than the limit */
/* Members are set up in a process with too little address space: whatever allocation fails, the call says how many
 * would fit, and no network has changed. */
TEST(MembersMemory, ThatEndsWhileTheyAreSetUpRefusesAll) {
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const Device device = open_device("cpu", 1);
    const Scratch scratch;
    std::vector<Training> all(40, plain(1));
    for (Training &t : all) t.widths = {5, 600, 500, 3};
    Members members(all, device, scratch.path());
    const std::vector<float> before = parameters_of(members.network(0));
    std::ifstream statm("/proc/self/statm");
    int64_t pages = 0;
    statm >> pages;
    struct rlimit limit;
    if (getrlimit(RLIMIT_AS, &limit) != 0) _exit(2);
    limit.rlim_cur = static_cast<rlim_t>(pages * 4096 + (INT64_C(60) << 20));
    if (setrlimit(RLIMIT_AS, &limit) != 0) _exit(3);
    const descent_status status = descent_fit_members(device.get(), members.members().data(), 40, nullptr);
    const std::string text = descent_last_error();
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_AS, &limit);
    const bool says = text.find("of 40 members would fit") != std::string::npos;
    if (status != DESCENT_ERROR_MEMORY || !says) std::fprintf(stderr, "%d: %s\n", status, text.c_str());
    for (size_t k = 0; k < 40; k++)
      if (parameters_of(members.network(k)) != before || members.network(k)->trainers) _exit(4);
    _exit(status == DESCENT_ERROR_MEMORY && says ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

#endif

/* The emulated GPU. */
struct Gpu {
  Gpu() {
    void *module = dlopen(DESCENT_EMULATED_MODULE, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    EXPECT_NE(module, nullptr) << dlerror();
    if (!module) return;
    configure = reinterpret_cast<void (*)(const char *)>(dlsym(module, "emulate_configure"));
    memory = reinterpret_cast<int (*)(size_t *, size_t *)>(dlsym(module, "cudaMemGetInfo"));
    use_cuda_module(DESCENT_EMULATED_MODULE);
    configure("");
  }
  ~Gpu() {
    if (configure) configure("");
  }
  size_t used() const {
    size_t left, total;
    EXPECT_EQ(memory(&left, &total), 0);
    return total - left;
  }
  void (*configure)(const char *) = nullptr;
  int (*memory)(size_t *free_bytes, size_t *total) = nullptr;
};

/* COUNT trainings on it, which fit together or are all refused. */
class MembersInGpuMemory : public testing::TestWithParam<bool> {
 protected:
  enum { COUNT = 6 };
  MembersInGpuMemory() : all_(COUNT, plain(1)) {
    for (size_t k = 0; k < COUNT; k++) {
      Training &t = all_[k];
      t.widths = {5, 2000 + (GetParam() ? 0 : static_cast<int64_t>(k)), 3};
      t.options.epochs = 1;
      t.options.autotune = false; /* whose trials take memory for a time */
      t.options.gpu.fusion = DESCENT_FUSION_OFF;
    }
  }
  /* Returns the text of a refusal, or "". */
  std::string train(size_t count) {
    const Device device = open_device("cuda");
    Members members({all_.begin(), all_.begin() + static_cast<ptrdiff_t>(count)}, device, scratch_.path());
    std::vector<std::vector<float>> before;
    for (size_t k = 0; k < count; k++) before.push_back(parameters_of(members.network(k)));
    descent_members_options options = descent_members_options_default();
    options.user = this;
    options.on_epoch = [](void *user, const descent_epoch_info *const *, bool *, int64_t) {
      auto *self = static_cast<MembersInGpuMemory *>(user);
      self->used_ = std::max(self->used_, self->gpu_.used());
    };
    descent_status status;
    used_ = 0;
    const std::vector<Seen> seen = members.train_together(&options, &status);
    const std::string text = status == DESCENT_OK ? "" : descent_last_error();
    EXPECT_TRUE(status == DESCENT_OK || status == DESCENT_ERROR_MEMORY) << text;
    for (size_t k = 0; k < count; k++) {
      if (status == DESCENT_OK) {
        EXPECT_EQ(seen[k].status, DESCENT_OK) << seen[k].error;
      }
      EXPECT_EQ(seen[k].parameters == before[k], status != DESCENT_OK);
    }
    return text;
  }
  void limit(size_t bytes) { gpu_.configure(("memory=" + std::to_string(bytes)).c_str()); }
  /* Of member `k`, before which so many fit. */
  static void expect_refused(const std::string &text, const std::string &k) {
    EXPECT_TRUE(std::regex_match(text, std::regex("member (" + k +
                                                  "): out of GPU memory \\([0-9.]+ MB needed, [0-9.]+ MB free\\): "
                                                  "\\1 of 6 members would fit")))
        << text;
  }

  const Gpu gpu_;
  const Scratch scratch_;
  std::vector<Training> all_;
  size_t used_ = 0; /* bytes, by the last that were trained */
};

/* As many as there is memory for, of which a sixteenth is a reserve. */
TEST_P(MembersInGpuMemory, IsAllThereBeforeAnyIsTrained) {
  size_t needs[COUNT + 1]; /* of so many members */
  for (size_t count = 2; count <= COUNT; count++) {
    EXPECT_EQ(train(count), "");
    needs[count] = used_ / 15 * 16;
  }
  needs[1] = needs[2] - (needs[3] - needs[2]);
  const size_t each = needs[COUNT] - needs[COUNT - 1];
  for (size_t fit = 1; fit <= COUNT; fit++)
    for (const double share : {0.05, 0.5, 0.95}) {
      SCOPED_TRACE(std::to_string(fit) + " fit, and " + std::to_string(share));
      limit(needs[fit] + static_cast<size_t>(share * static_cast<double>(each)));
      const std::string text = train(COUNT);
      if (fit == COUNT)
        EXPECT_EQ(text, "");
      else
        expect_refused(text, std::to_string(fit));
    }
}

/* Windows of streamed rows are a part of it. */
TEST_P(MembersInGpuMemory, HasTheWindowsBeforeAnyIsTrained) {
  EXPECT_EQ(train(COUNT), "");
  const size_t all = used_ / 15 * 16;
  setenv("DESCENT_GPU_DATA_MB", "0", 1);
  for (const double share : {0.938, 0.94, 0.945, 0.95, 0.98, 1.02}) {
    SCOPED_TRACE(share);
    limit(static_cast<size_t>(share * static_cast<double>(all)));
    const std::string text = train(COUNT);
    if (!text.empty()) expect_refused(text, "[1-5]");
  }
  unsetenv("DESCENT_GPU_DATA_MB");
}

INSTANTIATE_TEST_SUITE_P(All, MembersInGpuMemory, testing::Bool(),
                         [](const auto &made) { return made.param ? "Alike" : "OfDifferentShapes"; });

/* ---- ensembles --------------------------------------------------------------------------------------------------- */

TEST(Ensembles, AreNotTrained) {
  const Device device = open_device("cpu"), reference = open_device("reference");
  const Network a = make_network({5, 4, 3}, DESCENT_ACTIVATION_TANH, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, 1);
  const Network b = make_network({5, 4, 3}, DESCENT_ACTIVATION_TANH, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, 2);
  const descent_network *const both[] = {a.get(), b.get()};
  descent_network *joined = nullptr;
  ASSERT_EQ(descent_network_join(both, 2, &joined), DESCENT_OK) << descent_last_error();
  const Network ensemble{joined, descent_network_free};
  const Dataset data = classes.dataset();
  descent_train_options options = descent_train_options_default();
  descent_source source = descent_source_default();
  source.inputs = 5, source.targets = 1, source.classes = 3, source.task = DESCENT_TASK_CLASSES;
  source.next = [](void *, float *, float *, float *, int64_t) -> int64_t { return 0; };
  source.rewind = [](void *, int64_t, uint64_t, int64_t) -> int64_t { return 0; };
  descent_trainer *trainer = nullptr;
  descent_bench_result bench;
  bool passed;
  descent_member member = descent_member_default();
  member.network = joined, member.training = data.get(), member.options = &options;
  const auto expect = [](descent_status status, const std::string &before) {
    EXPECT_EQ(status, DESCENT_ERROR_UNSUPPORTED);
    EXPECT_EQ(std::string(descent_last_error()).find(before + "network: an ensemble of 2 networks: "), 0u)
        << descent_last_error();
  };
  expect(descent_fit(joined, device.get(), data.get(), nullptr, &options, nullptr), "");
  expect(descent_fit_source(joined, device.get(), &source, nullptr, &options, nullptr), "");
  expect(descent_trainer_create(joined, device.get(), &options, 4, &trainer), "");
  expect(descent_verify(joined, device.get(), reference.get(), &options, 4, 1, nullptr, nullptr, &passed), "");
  expect(descent_bench(joined, device.get(), &options, 0.01, nullptr, nullptr, &bench), "");
  expect(descent_fit_members(device.get(), &member, 1, nullptr), "member 0: ");
}

}  // namespace
