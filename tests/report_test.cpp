/* What report/ writes, byte by byte where others read it. */
#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

extern "C" {
#include "report/tfrecord.h"
}

namespace {

/* ---- TFRecord --------------------------------------------------------------------------------------------------- */

TEST(TfRecord, SumsAsTheStandardsExamplesDo) {
  std::string ascending(32, '\0'), descending(32, '\0');
  std::iota(ascending.begin(), ascending.end(), '\0');
  std::iota(descending.rbegin(), descending.rend(), '\0');
  const struct {
    std::string data;
    uint32_t crc;
  } cases[] = {
      /* RFC 3720, B.4 */
      {std::string(32, '\0'), 0x8a9136aa},
      {std::string(32, '\xff'), 0x62a8ab43},
      {ascending, 0x46dd794e},
      {descending, 0x113fdb5c},
      {"123456789", 0xe3069283}, /* the "check" of the Catalogue of parametrised CRC algorithms */
      {"", 0},
  };
  for (const auto &c : cases) EXPECT_EQ(tfrecord_crc32c(c.data.data(), c.data.size()), c.crc);
}

std::string record_of(const std::string &data) {
  char *bytes = nullptr;
  size_t size = 0;
  FILE *file = open_memstream(&bytes, &size);
  EXPECT_TRUE(tfrecord_write(file, data.data(), data.size()));
  fclose(file);
  std::string record(bytes, size);
  free(bytes);
  return record;
}

TEST(TfRecord, FramesAsTensorBoardDoes) { /* the bytes are those of its own RecordWriter */
  EXPECT_EQ(record_of("descent"), std::string("\x07\0\0\0\0\0\0\0"
                                              "\xbb\xd7\x9f\x11"
                                              "descent"
                                              "\x43\x36\x22\x42",
                                              23));
  EXPECT_EQ(record_of(""), std::string("\0\0\0\0\0\0\0\0"
                                       "\x29\x03\x98\x07"
                                       "\xd8\xea\x82\xa2",
                                       16));
}

TEST(TfRecord, SaysWhenTheDiskIsFull) {
  FILE *file = fopen("/dev/full", "w");
  ASSERT_NE(file, nullptr);
  setvbuf(file, nullptr, _IONBF, 0);
  EXPECT_FALSE(tfrecord_write(file, "x", 1));
  fclose(file);
}

}  // namespace
