/* What a launch asks for, and what of it CUDA refuses. */
#include <cuda_runtime.h>
#include <stdio.h>
#include <stdlib.h>

#include <map>

namespace {

/* Bytes of shared memory, and blocks of a cluster, that a kernel may have without a request; with one these are
 * EMULATED_SHARED and 16 (compute capability 9.0; CUDA C++ Programming Guide, "Thread Block Clusters"). */
const size_t SHARED_UNASKED = 48 << 10;
const unsigned CLUSTER_UNASKED = 8, CLUSTER_ON_REQUEST = 16;
std::map<const void *, size_t> shared_given; /* by kernel */
std::map<const void *, bool> cluster_given;

unsigned allowed_cluster(const void *kernel) {
  const auto given = cluster_given.find(kernel);
  return given != cluster_given.end() && given->second ? CLUSTER_ON_REQUEST : CLUSTER_UNASKED;
}

bool divides(dim3 n, dim3 grid) {
  return n.x >= 1 && n.y >= 1 && n.z >= 1 && grid.x % n.x == 0 && grid.y % n.y == 0 && grid.z % n.z == 0;
}

}  // namespace

cudaError_t emulate_request(const void *kernel, enum cudaFuncAttribute attribute, int value) {
  switch (attribute) {
    case cudaFuncAttributeMaxDynamicSharedMemorySize:
      if (value < 0 || (size_t)value + emulate_own_shared > EMULATED_SHARED) return cudaErrorInvalidValue;
      shared_given[kernel] = (size_t)value;
      return cudaSuccess;
    case cudaFuncAttributeNonPortableClusterSizeAllowed: cluster_given[kernel] = value != 0; return cudaSuccess;
  }
  return cudaErrorInvalidValue;
}

size_t emulate_own_shared;
size_t emulate_allowed_shared(const void *kernel) {
  const auto given = shared_given.find(kernel);
  return given == shared_given.end() ? SHARED_UNASKED - emulate_own_shared : given->second;
}

cudaError_t emulate_read_launch(const cudaLaunchConfig_t *config, const void *kernel, int major,
                                emulated_kernel *launched) {
  const dim3 blocks = config->gridDim, threads = config->blockDim;
  if (threads.x < 1 || threads.x > 1024 || threads.y != 1 || threads.z != 1) return cudaErrorInvalidConfiguration;
  if (blocks.x < 1 || blocks.y < 1 || blocks.z < 1) return cudaErrorInvalidConfiguration;
  if (blocks.x > INT32_MAX || blocks.y > UINT16_MAX || blocks.z > UINT16_MAX) return cudaErrorInvalidConfiguration;
  launched->blocks = blocks;
  launched->threads = threads.x;
  launched->shared = config->dynamicSmemBytes;
  launched->cluster = dim3(1);
  launched->is_cluster = launched->programmatic = false;
  for (unsigned i = 0; i < config->numAttrs; i++) {
    const cudaLaunchAttribute &each = config->attrs[i];
    switch (each.id) {
      case cudaLaunchAttributeProgrammaticStreamSerialization:
        launched->programmatic = each.val.programmaticStreamSerializationAllowed != 0;
        break;
      case cudaLaunchAttributeClusterDimension:
        launched->cluster = dim3(each.val.clusterDim.x, each.val.clusterDim.y, each.val.clusterDim.z);
        launched->is_cluster = true;
        break;
      default: return cudaErrorInvalidValue;
    }
  }
  if ((launched->programmatic || launched->is_cluster) && major < 9) return cudaErrorNotSupported;
  if (!divides(launched->cluster, blocks) || emulated_volume(launched->cluster) > allowed_cluster(kernel))
    return cudaErrorInvalidClusterSize;
  return launched->shared <= emulate_allowed_shared(kernel) ? cudaSuccess : cudaErrorInvalidValue;
}

/* A line has the kernel's address in the program, threads of a block, bytes of dynamic shared memory. */
extern "C" const char __executable_start __attribute__((weak, visibility("hidden")));
void emulate_list_launch(const cudaLaunchConfig_t *config, const void *kernel) {
  static FILE *const file = [] {
    const char *const path = getenv("DESCENT_EMULATE_LAUNCHES");
    return path ? fopen(path, "a") : nullptr;
  }();
  if (!file) return;
  fprintf(file, "%tx %u %zu\n", (const char *)kernel - &__executable_start, config->blockDim.x,
          config->dynamicSmemBytes);
}
