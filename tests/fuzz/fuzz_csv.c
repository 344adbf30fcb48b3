#include "fuzz.h"

/* Without a target, and with the last column as one. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  fuzz_dataset(data, size, "csv", NULL);
  fuzz_dataset(data, size, "csv", "-1");
  return 0;
}
