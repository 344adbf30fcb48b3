// Several layers in one kernel: what its files share.
#ifndef DESCENT_KERNELS_NETWORK_CUH
#define DESCENT_KERNELS_NETWORK_CUH

#include <stdarg.h>
#include <stdio.h>

#include "kernels.h"

// Where the reason of a refusal goes; text NULL: nowhere.
struct refusal {
  char *text;
  size_t size;
};
__attribute__((format(printf, 2, 3))) static inline bool refuse(const struct refusal *to, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  if (to->text) vsnprintf(to->text, to->size, format, arguments);
  va_end(arguments);
  return false;
}

// n columns, in rows of whole 16-byte units.
static inline bool is_whole_units(const struct device_matrix *m, int n) {
  return m->ld >= n && m->ld % (m->element == ELEMENT_BF16 ? 8 : 4) == 0 && (uintptr_t)m->data % 16 == 0;
}

// As the functions of kernels.h, over the variants of one family. launch: cudaErrorInvalidValue for a variant that does
// not take the launch.

// network_step.cu: up to 64 units a layer. NETWORK_FORWARD, NETWORK_STEP.
int network_step_variants(const struct network_launch *launch, char *reason, size_t size);
size_t network_step_partials(const struct network_launch *launch);
cudaError_t launch_network_step(const struct network_launch *launch, int variant, cudaStream_t stream);

// network_cluster.cu: few rows, by one cluster of blocks. NETWORK_STEP; all variants take a whole step.
int network_cluster_variants(const struct network_launch *launch, char *reason, size_t size);
size_t network_cluster_partials(const struct network_launch *launch);
cudaError_t launch_network_cluster(const struct network_launch *launch, int variant, cudaStream_t stream);

// network_chain.cu: up to 320 units a layer. NETWORK_FORWARD, NETWORK_CHAIN.
int network_chain_variants(const struct network_launch *launch, char *reason, size_t size);
size_t network_chain_partials(const struct network_launch *launch);
cudaError_t launch_network_chain(const struct network_launch *launch, int variant, cudaStream_t stream);

#endif
