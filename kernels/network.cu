// Several layers in one kernel: which variants take a launch.
//
// Variants are numbered over all files: first those of network_step (narrow networks, whose weights stay in shared
// memory), then those of network_chain.
#include "network.cuh"

#include <stdio.h>

int network_variants(const struct network_launch *l, char *reason, size_t size) {
  char step[96] = "", chain[96] = "";
  const int n = network_step_variants(l, step, sizeof step) + network_chain_variants(l, chain, sizeof chain);
  if (n == 0 && reason) snprintf(reason, size, "%s", chain[0] ? chain : step);
  return n;
}

int network_resident_variants(const struct network_launch *l) { return network_step_variants(l, NULL, 0); }

size_t network_partials(const struct network_launch *l) {
  const size_t step = network_step_partials(l), chain = network_chain_partials(l);
  return step > chain ? step : chain;
}

cudaError_t launch_network(const struct network_launch *l, cudaStream_t stream) {
  const int steps = network_step_variants(l, NULL, 0);
  if (l->variant < 0) return cudaErrorInvalidValue;
  if (l->variant < steps) return launch_network_step(l, l->variant, stream);
  return launch_network_chain(l, l->variant - steps, stream);
}
