/* Rows that several programs read: what is said about them to the system and to a device. */
#include <fstream>
#include <sstream>

#include "members.h"

namespace {

/* Whether the system expects reads of the mapped rows in random order. */
bool expects_random(const descent_dataset *dataset) {
  std::ostringstream begin;
  begin << std::hex << reinterpret_cast<uintptr_t>(dataset->storage->mapping) << "-";
  std::ifstream smaps("/proc/self/smaps");
  bool inside = false;
  for (std::string line; std::getline(smaps, line);) {
    if (line.find(begin.str()) == 0) inside = true;
    if (inside && line.find("VmFlags:") == 0) return line.find(" rr") != std::string::npos;
  }
  ADD_FAILURE() << "the mapping is not listed";
  return false;
}

Dataset map_rows(const Rows &rows, const std::string &path) {
  descent_dataset *dataset = nullptr;
  const descent_dataset_options options = descent_dataset_options_default();
  EXPECT_EQ(descent_dataset_save(rows.dataset().get(), path.c_str()), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(descent_dataset_read(path.c_str(), &options, &dataset), DESCENT_OK) << descent_last_error();
  EXPECT_TRUE(dataset && dataset->storage->mapping);
  return {dataset, descent_dataset_free};
}

/* What an epoch of member 1 shows while member 0, which has a step less, has ended its steps. */
struct Look {
  const descent_dataset *dataset;
  int64_t longest;
  bool random;
  static int on_step(void *user, const descent_step_info *info) {
    Look *look = static_cast<Look *>(user);
    if (info->step == look->longest) look->random = expects_random(look->dataset);
    return 0;
  }
};

TEST(SharedRows, AreExpectedInRandomOrderUntilTheLastMemberHasReadThem) {
  const Device device = open_device("cpu");
  const Scratch scratch;
  const Dataset mapped = map_rows(make_rows(64, 5, 1, 3, 1), scratch / "d.safetensors");
  Look look{mapped.get(), 8, false};
  descent_train_options options[2];
  std::vector<Network> networks;
  std::vector<descent_member> members(2, descent_member_default());
  for (size_t k = 0; k < 2; k++) {
    networks.push_back(make_network({5, 4, 3}, DESCENT_ACTIVATION_TANH, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY));
    options[k] = descent_train_options_default();
    options[k].epochs = 1;
    options[k].batch_size = k ? 8 : 32;
    if (k) options[k].callbacks.on_step = Look::on_step, options[k].callbacks.user = &look;
    members[k].network = networks[k].get(), members[k].training = mapped.get(), members[k].options = &options[k];
  }
  EXPECT_FALSE(expects_random(mapped.get()));
  ASSERT_EQ(descent_fit_members(device.get(), members.data(), 2, nullptr), DESCENT_OK) << descent_last_error();
  EXPECT_TRUE(look.random);
  EXPECT_FALSE(expects_random(mapped.get()));
}

/* So a device keeps one copy for all members of an ensemble, as for a plain network. */
int64_t binds, changing_binds;
descent_status note_bind(struct backend_program *program, int buffer, descent_dtype dtype, const void *data,
                         int64_t rows, bool constant) {
  binds += data != nullptr;
  changing_binds += data != nullptr && !constant;
  return backend_cpu.bind(program, buffer, dtype, data, rows, constant);
}

TEST(SharedRows, OfAnEnsembleAreBoundAsConstant) {
  const Device device = open_device("cpu");
  const Network a = make_network({5, 4, 3}, DESCENT_ACTIVATION_TANH, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, 1);
  const Network b = make_network({5, 4, 3}, DESCENT_ACTIVATION_TANH, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, 2);
  const descent_network *const both[] = {a.get(), b.get()};
  descent_network *joined = nullptr;
  ASSERT_EQ(descent_network_join(both, 2, &joined), DESCENT_OK) << descent_last_error();
  const Network ensemble{joined, descent_network_free};
  const Rows rows = make_rows(20, 5, 1, 3, 1);
  struct backend noting = backend_cpu;
  noting.bind = note_bind;
  device->backend = &noting;
  descent_metrics metrics{};
  binds = changing_binds = 0;
  EXPECT_EQ(descent_evaluate(joined, device.get(), rows.dataset().get(), 0, &metrics), DESCENT_OK)
      << descent_last_error();
  descent_metrics_clear(&metrics);
  EXPECT_GE(binds, 4); /* X and y of each */
  EXPECT_EQ(changing_binds, 0);
  device->backend = &backend_cpu;
}

}  // namespace
