/* Option structs of other versions of the header, and the versions themselves. */
#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <string>
#include <vector>

extern "C" {
#include "core/options.h"
}

namespace {

bool same(const void *a, const void *b, size_t size) { return std::memcmp(a, b, size) == 0; }

TEST(Options, InitWritesTheGivenSizeAndNoMore) {
  const descent_train_options whole = descent_train_options_default();
  EXPECT_EQ(whole.size, sizeof whole);
  for (size_t size = 0; size <= sizeof whole + 64; size += 8) {
    std::vector<unsigned char> bytes(sizeof whole + 128, 0xAB);
    descent_train_options_init(reinterpret_cast<descent_train_options *>(bytes.data()), size);
    size_t written = 0;
    if (size) std::memcpy(&written, bytes.data(), sizeof written);
    EXPECT_EQ(written, size);
    for (size_t i = sizeof size; i < size; i++)
      EXPECT_EQ(bytes[i], i < sizeof whole ? reinterpret_cast<const unsigned char *>(&whole)[i] : 0)
          << size << " " << i;
    for (size_t i = size; i < bytes.size(); i++) EXPECT_EQ(bytes[i], 0xAB) << size << " " << i;
  }
  descent_train_options_init(nullptr, sizeof whole);
}

TEST(Options, MissingMembersTakeTheirDefaults) {
  descent_train_options given = descent_train_options_default(), complete, whole = given;
  given.epochs = whole.epochs = 7;
  given.size = offsetof(descent_train_options, checkpoint);
  std::memset(&given.checkpoint, 0xFF, sizeof given - given.size);
  ASSERT_EQ(complete_train_options(&given, &complete), DESCENT_OK);
  EXPECT_TRUE(same(&complete, &whole, sizeof whole));
}

TEST(Options, ALargerSizeIsAcceptedWhereItsRestIsZero) {
  struct Newer {
    descent_network_options known;
    int64_t future;
  } newer = {descent_network_options_default(), 0};
  descent_network_options complete;
  newer.known.inputs = 3;
  newer.known.size = sizeof newer;
  ASSERT_EQ(complete_network_options(&newer.known, &complete), DESCENT_OK);
  EXPECT_EQ(complete.size, sizeof complete);
  EXPECT_EQ(complete.inputs, 3);
  newer.future = 1;
  EXPECT_EQ(complete_network_options(&newer.known, &complete), DESCENT_ERROR_ARGUMENT);
  EXPECT_NE(std::string(descent_last_error()).find("does not know"), std::string::npos) << descent_last_error();
}

TEST(Options, ReservedSpaceMustStayZero) {
  descent_train_options complete;
  for (const size_t at :
       {offsetof(descent_train_options, optimizer.reserved), offsetof(descent_train_options, schedule.reserved),
        offsetof(descent_train_options, early_stopping.reserved), offsetof(descent_train_options, checkpoint.reserved),
        offsetof(descent_train_options, callbacks.reserved), offsetof(descent_train_options, gpu.reserved),
        offsetof(descent_train_options, ranks.reserved)}) {
    descent_train_options given = descent_train_options_default();
    reinterpret_cast<unsigned char *>(&given)[at] = 1;
    EXPECT_EQ(complete_train_options(&given, &complete), DESCENT_ERROR_ARGUMENT) << at;
  }
}

TEST(Options, ASizeThatNoHeaderHasIsRefused) {
  descent_dataset_options complete;
  for (const size_t size : {size_t{0}, size_t{1}, size_t{8}, sizeof complete - 1, sizeof complete + 4, SIZE_MAX - 7}) {
    descent_dataset_options given = descent_dataset_options_default();
    given.size = size;
    EXPECT_EQ(complete_dataset_options(&given, &complete), DESCENT_ERROR_ARGUMENT) << size;
  }
  EXPECT_EQ(complete_dataset_options(nullptr, &complete), DESCENT_ERROR_ARGUMENT);
}

TEST(Version, NumberAndTextAgree) {
  const int number = descent_version_number();
  EXPECT_EQ(number, DESCENT_VERSION_NUMBER);
  const std::string text =
      std::to_string(number / 10000) + "." + std::to_string(number / 100 % 100) + "." + std::to_string(number % 100);
  EXPECT_EQ(text, DESCENT_VERSION);
  EXPECT_EQ(std::string(descent_version()).substr(0, text.size() + 1), text + " ");
}

TEST(Version, NamesWhatWasBuiltIn) {
  const std::string version = descent_version();
  for (const char *part : {"cpu", "cuda", "mpi"}) {
    const size_t at = version.find(std::string(part) + ": ");
    ASSERT_NE(at, std::string::npos) << version;
    EXPECT_NE(version.find("; ", at), std::string::npos) << version;
  }
  EXPECT_EQ(version.back(), ')') << version; /* not cut */
}

}  // namespace
