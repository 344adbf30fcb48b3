// Several layers in one kernel: which variants take a launch.
//
// Variants are numbered over all files: first those of network_step (narrow networks, whose weights stay in shared
// memory), then those of network_cluster (few rows), then those of network_chain.
#include "network.cuh"

#include <stdio.h>

int network_variants(const struct network_launch *l, char *reason, size_t size) {
  char step[96] = "", cluster[96] = "", chain[96] = "";
  const int n = network_step_variants(l, step, sizeof step) + network_cluster_variants(l, cluster, sizeof cluster) +
                network_chain_variants(l, chain, sizeof chain);
  if (n == 0 && reason) snprintf(reason, size, "%s", chain[0] ? chain : step);
  return n;
}

void network_refuses_whole(const struct network_launch *l, char *reason, size_t size) {
  if (network_cluster_variants(l, reason, size) > 0 && size > 0) reason[0] = 0;
}

int network_resident_variants(const struct network_launch *l) { return network_step_variants(l, NULL, 0); }

bool network_takes_whole(const struct network_launch *l) {
  const int variant = l->variant - network_step_variants(l, NULL, 0);
  return l->kind == NETWORK_STEP && variant >= 0 && variant < network_cluster_variants(l, NULL, 0);
}

size_t network_partials(const struct network_launch *l) {
  const size_t each[] = {network_step_partials(l), network_cluster_partials(l), network_chain_partials(l)};
  size_t most = 0;
  for (size_t bytes : each) most = bytes > most ? bytes : most;
  return most;
}

cudaError_t launch_network(const struct network_launch *l, cudaStream_t stream) {
  int variant = l->variant;
  if (variant < 0 || (l->whole && !network_takes_whole(l))) return cudaErrorInvalidValue;
  const int steps = network_step_variants(l, NULL, 0);
  if (variant < steps) return launch_network_step(l, variant, stream);
  variant -= steps;
  const int clusters = network_cluster_variants(l, NULL, 0);
  if (variant < clusters) return launch_network_cluster(l, variant, stream);
  return launch_network_chain(l, variant - clusters, stream);
}
