#include "fuzz.h"

/* A network that loads has its last member. */
static void take_member(const descent_network *network) {
  descent_network *member = NULL;
  if (descent_network_member(network, descent_network_members(network) - 1, &member) != DESCENT_OK &&
      !*descent_last_error())
    abort();
  descent_network_free(member);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct fuzz_file file = fuzz_file_create(data, size);
  descent_network *network = NULL;
  if (descent_network_load(file.path, &network) != DESCENT_OK && !*descent_last_error()) abort();
  descent_network_free(network);
  network = NULL;
  if (descent_network_load_memory(data, size, &network) != DESCENT_OK && !*descent_last_error()) abort();
  if (network) take_member(network);
  descent_network_free(network);
  fuzz_file_free(&file);
  return 0;
}
