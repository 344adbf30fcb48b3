// Narrow networks in one kernel: bf16 operands on tensor cores.
#include "network_step.cuh"

struct step_instances network_step_bf16(void) {
  static const struct step_instance all[] = {
      step_instance_of<step_tile<TENSOR_BF16, 64, 6, 8, 1, Bf16Warp<1, 4>, 1>>(true),  // 128 rows
  };
  return {all, sizeof all / sizeof *all};
}
