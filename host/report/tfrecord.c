/* Framing and checksums of event files. */
#include "report/tfrecord.h"

uint32_t tfrecord_crc32c(const void *data, size_t length) {
  const uint32_t polynomial = 0x82F63B78U; /* 0x1EDC6F41 reflected */
  const unsigned char *bytes = data;
  uint32_t crc = 0xFFFFFFFFU;
  for (size_t i = 0; i < length; i++) {
    crc ^= bytes[i];
    for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? polynomial : 0);
  }
  return ~crc;
}

uint32_t tfrecord_mask(uint32_t crc) { return (crc >> 15 | crc << 17) + 0xA282EAD8U; }

static void put(unsigned char *out, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; i++) out[i] = (unsigned char)(value >> 8 * i);
}

bool tfrecord_write(FILE *file, const void *data, size_t length) {
  unsigned char head[12], tail[4];
  put(head, length, 8);
  put(head + 8, tfrecord_mask(tfrecord_crc32c(head, 8)), 4);
  put(tail, tfrecord_mask(tfrecord_crc32c(data, length)), 4);
  return fwrite(head, sizeof head, 1, file) == 1 && fwrite(data, 1, length, file) == length &&
         fwrite(tail, sizeof tail, 1, file) == 1;
}
