/* Checkpoints with right checksums and wrong content, from an attacker or a faulty version of this program. None is
 * resumed from, and each is named with its reason. */
#include <cstring>

#include "checkpoints.h"
extern "C" {
#include "core/safetensors.h"
}

namespace {

class HostileCheckpoint : public testing::Test {
 protected:
  void SetUp() override {
    job_.options.batch_size = 20;
    job_.options.epochs = 3;
    const Job::Outcome outcome = job_.run_keeping_all(scratch_ / "kept");
    ASSERT_EQ(outcome.status, DESCENT_OK) << outcome.error;
    const std::string bytes = read_file(scratch_ / ("kept/" + checkpoint_name(6)));
    uint64_t length;
    memcpy(&length, bytes.data(), sizeof length);
    header_ = bytes.substr(8, length);
    data_ = bytes.substr(8 + length);
  }

  /* The file with another header and its right checksum. */
  std::string seal(std::string header, const std::string &data) const {
    static const char key[] = "\"descent.header.xxh64\":\"";
    const size_t sum = header.find(key) + strlen(key);
    header.replace(sum, 16, 16, '0');
    const uint64_t length = header.size();
    std::string bytes(reinterpret_cast<const char *>(&length), 8);
    bytes += header;
    bytes.replace(8 + sum, 16, safetensors_sum_of(bytes.data(), bytes.size()).text);
    return bytes + data;
  }

  /* The error of resuming from this checkpoint alone. */
  std::string refusal(const std::string &bytes) const {
    const std::string folder = scratch_ / "one";
    std::filesystem::remove_all(folder);
    std::filesystem::create_directory(folder);
    write_file(folder + "/" + checkpoint_name(6), bytes);
    const Job::Outcome outcome = job_.resume(folder);
    const std::vector<Event> damaged = outcome.of(DESCENT_CHECKPOINT_DAMAGED);
    if (outcome.status == DESCENT_OK) return "taken";
    return scratch_.plain(damaged.empty() ? outcome.error : damaged[0].message);
  }

  Job job_;
  Scratch scratch_;
  std::string header_, data_;
};

TEST_F(HostileCheckpoint, WithRightChecksumsIsRefusedForWhatItSays) {
  ASSERT_EQ(refusal(seal(header_, data_)), "taken");
  const struct {
    const char *from, *to, *expected;
  } cases[] = {
      {R"(\"version\":1)", R"(\"version\":2)",
       "checkpoint: format version 2, but Descent " DESCENT_VERSION " reads up to 1; use a later version of it"},
      {R"(\"version\":1)", R"(\"version\":\"1\")", "checkpoint: format version missing or not a positive number"},
      {R"(\"version\":1,)", R"(\"version\":1,\"more\":1,)", "unknown member 'more'"},
      {R"(\"version\":1,)", R"(\"version\":1,\"version\":1,)", "duplicate member 'version'"},
      {R"(\"step\":6)", R"(\"step\":-6)", "checkpoint: invalid step"},
      {R"(\"step\":6)", R"(\"step\":6.5)", "checkpoint: invalid step"},
      {R"(\"step\":6)", R"(\"step\":7)", "checkpoint: inconsistent training state"},
      {R"(\"step\":6)", R"(\"step\":9007199254740992)", "checkpoint: inconsistent training state"},
      {R"(\"epoch\":2)", R"(\"epoch\":0)", "checkpoint: inconsistent training state"},
      {R"(\"epoch\":2)", R"(\"epoch\":9007199254740992)", "checkpoint: inconsistent training state"},
      {R"(\"epoch\":2)", R"(\"epoch\":\"2\")", "checkpoint: state 'epoch': missing or not a valid number"},
      {R"(\"epoch\":2,)", "", "checkpoint: state 'epoch': missing or not a valid number"},
      {R"(\"done\":2)", R"(\"done\":99)", "checkpoint: inconsistent training state"},
      {R"(\"rate_factor\":\"3ff0000000000000\")", R"(\"rate_factor\":\"0000000000000000\")",
       "checkpoint: inconsistent training state"},
      {R"(\"rate_factor\":\"3ff0000000000000\")", R"(\"rate_factor\":\"7ff8000000000000\")",
       "checkpoint: inconsistent training state"},
      {R"(\"rate_factor\":\"3ff0000000000000\")", R"(\"rate_factor\":\"4000000000000000\")",
       "checkpoint: inconsistent training state"},
      {R"(\"rate_factor\":\"3ff0000000000000\")", R"(\"rate_factor\":\"1\")",
       "checkpoint: state 'rate_factor': missing or not a valid number"},
      {R"(\"rate_factor\":\"3ff0000000000000\")", R"(\"rate_factor\":\"+ff0000000000000\")",
       "checkpoint: state 'rate_factor': missing or not a valid number"},
      {R"(\"rate_factor\":\"3ff0000000000000\")", R"(\"rate_factor\":1)",
       "checkpoint: state 'rate_factor': missing or not a valid number"},
      {R"(\"statistics\":[)", R"(\"statistics\":[\"0000000000000000\",)",
       "checkpoint: layer statistics do not match the network"},
      {R"(\"statistics\":[)", R"(\"statistics\":[1,)", "checkpoint: layer statistics do not match the network"},
      {R"(\"statistics\":[)", R"(\"statistics\":1,\"sums\":[)", "duplicate member 'sums'"},
      {R"(\"layers.1.weight\":\")", R"(\"another\":\")", "tensor 'layers.1.weight' was altered since it was saved"},
      {R"(\"layers.1.weight\":\")", R"(\"more\":\"\",\"layers.1.weight\":\")",
       "checkpoint: must have one checksum for each tensor"},
      {R"(\"configuration\":{)", R"(\"configuration\":{},\"state\":{)", "duplicate member 'state'"},
      {R"("descent.checkpoint":"{)", R"("descent.checkpoint":"x{)", "byte 0: invalid JSON"},
      {R"("descent.checkpoint":"{)", R"("descent.checkpoint":"[)", "invalid JSON"},
      {R"("descent.checkpoint":)", R"("another":)", "checkpoint: header missing or altered"},
  };
  for (const auto &c : cases) {
    std::string header = header_;
    const size_t at = header.find(c.from);
    ASSERT_NE(at, std::string::npos) << c.from << " is not in " << header;
    header.replace(at, strlen(c.from), c.to);
    const std::string said = refusal(seal(header, data_));
    EXPECT_NE(said.find(c.expected), std::string::npos) << c.from << " -> " << c.to << ": " << said;
    EXPECT_EQ(said.find("one/" + checkpoint_name(6)), 0u) << said;
  }
}

/* One of a later version is not damaged: it is neither passed over nor removed. */
TEST_F(HostileCheckpoint, FromTheFutureEndsTheResuming) {
  const std::string folder = scratch_ / "kept";
  std::string header = header_;
  header.replace(header.find(R"(\"version\":1)"), 13, R"(\"version\":7)");
  write_file(folder + "/" + checkpoint_name(12), seal(header, data_));
  Job job = job_;
  job.options.checkpoint.folder = folder.c_str();
  const std::vector<int64_t> before = steps_in(folder);
  const Job::Outcome outcome = job.resume(folder);
  EXPECT_EQ(outcome.status, DESCENT_ERROR_ARGUMENT);
  EXPECT_EQ(scratch_.plain(outcome.error), "kept/" + checkpoint_name(12) +
                                               ": checkpoint: format version 7, but Descent " DESCENT_VERSION
                                               " reads up to 1; use a later version of it");
  EXPECT_EQ(steps_in(folder), before);
}

/* Kernels, processors and GPUs round differently. */
TEST_F(HostileCheckpoint, OfOtherArithmeticIsTakenWithAWarning) {
  const std::string name = R"(\"arithmetic\":\")";
  const size_t begin = header_.find(name) + name.size(), end = header_.find(R"(\")", begin);
  const std::string own = header_.substr(begin, end - begin);
  ASSERT_NE(header_.find(name), std::string::npos);
  const std::string folder = scratch_ / "one", path = "one/" + checkpoint_name(6);
  std::filesystem::create_directory(folder);
  const auto said = [&](const std::string &header) {
    write_file(scratch_ / path, seal(header, data_));
    const Job::Outcome outcome = job_.resume(folder);
    EXPECT_EQ(outcome.status, DESCENT_OK) << outcome.error;
    return scratch_.plain(outcome.of(DESCENT_CHECKPOINT_RESUMED).at(0).message);
  };
  EXPECT_EQ(said(header_), "");
  std::string header = header_;
  EXPECT_EQ(said(header.replace(begin, end - begin, "avx9, ESSL\\\\u001b[2J")),
            path + ": the arithmetic was avx9, ESSL\\x1b[2J and is " + own +
                ": results will differ in their last bits from those of an uninterrupted training");
  header = header_; /* without one, as in version 0.1.0 */
  EXPECT_EQ(said(header.replace(header.find(name), name.size(), R"(\"another\":\")")), "");
}

/* As a model it needs its step, nothing more. */
TEST_F(HostileCheckpoint, IsAModelOfAStep) {
  const struct {
    const char *from, *to, *expected;
  } cases[] = {
      {"", "", nullptr},
      {R"(\"statistics\":[)", R"(\"statistics\":[1,)", nullptr},
      {R"(\"step\":6)", R"(\"step\":-6)", "checkpoint: missing step"},
      {R"("descent.checkpoint":"{)", R"("descent.checkpoint":"x{)", "invalid JSON"},
  };
  const std::string path = scratch_ / checkpoint_name(6);
  for (const auto &c : cases) {
    std::string header = header_;
    header.replace(header.find(c.from), strlen(c.from), c.to);
    write_file(path, seal(header, data_));
    descent_network *loaded = nullptr;
    EXPECT_EQ(descent_network_load(path.c_str(), &loaded), c.expected ? DESCENT_ERROR_MODEL : DESCENT_OK) << c.to;
    if (loaded) {
      EXPECT_EQ(descent_network_checkpoint_step(loaded), 6);
    } else {
      EXPECT_NE(std::string(descent_last_error()).find(c.expected), std::string::npos) << descent_last_error();
    }
    descent_network_free(loaded);
  }
}

}  // namespace
